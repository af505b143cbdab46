"""Values that look like passwords or tokens: found and masked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ductaflow.common.text import key_path

_SECRET = re.compile(
    r"password|passwd|passphrase|secret|token(?!i[sz])|credential|(?:api|access|private)[_\-\s]?key",
    re.IGNORECASE,
)


def masked(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy to show: the values of keys that look like passwords or tokens, at any depth, are `***`.

    `true`, `false` and `null` stay, since they hold no secret.
    """
    return {
        key: "***"
        if _SECRET.search(key) and value is not None and not isinstance(value, bool)
        else _masked_value(value)
        for key, value in config.items()
    }


def _masked_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked(value)
    return [_masked_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def secrets_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of keys that look like passwords or tokens, at any depth, by their key path."""
    found: dict[str, Any] = {}
    pending: list[tuple[str, Any]] = [("", config)]
    while pending:
        where, value = pending.pop()
        if isinstance(value, Mapping):
            for key, item in value.items():
                if _SECRET.search(key):
                    found[key_path(where, key)] = item
                else:
                    pending.append((key_path(where, key), item))
        elif isinstance(value, (list, tuple)):
            pending += [(f"{where}[{index}]", item) for index, item in enumerate(value)]
    return found
