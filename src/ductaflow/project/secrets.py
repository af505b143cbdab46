"""Values that look like passwords or tokens: found and masked."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ductaflow.common.json_tree import JsonValue, KeyPath, leaves, mapped, spelled

_SECRET = re.compile(
    r"password|passwd|passphrase|secret|token(?!i[sz])|credential|(?:api|access|private)[_\-\s]?key",
    re.IGNORECASE,
)


def masked(config: Mapping[str, object]) -> dict[str, JsonValue]:
    """Return a copy to show, in which the values of keys that look like passwords or tokens are `***`.

    `true`, `false` and `null` stay, since they hold no secret.

    >>> masked({"database": {"host": "db", "password": "x"}})
    {'database': {'host': 'db', 'password': '***'}}
    """
    return mapped(config, _shown, _is_secret)


def secrets_in(config: Mapping[str, object]) -> dict[str, object]:
    """The values of keys that look like passwords or tokens, at any depth, by their key path."""
    return {spelled(path): value for path, value in leaves(config, _is_secret) if _is_secret(path, value)}


def _is_secret(path: KeyPath, _value: object) -> bool:
    return bool(path) and isinstance(path[-1], str) and _SECRET.search(path[-1]) is not None


def _shown(path: KeyPath, value: object) -> object:
    # A container that comes here is too deep to be looked into, so it may hold anything.
    is_hidden = _is_secret(path, value) or isinstance(value, (Mapping, list, tuple))
    return "***" if is_hidden and value is not None and not isinstance(value, bool) else value
