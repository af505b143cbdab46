"""Values that look like passwords or tokens: found and masked.

By the words of their keys, and in strings where a URL or a connection string has them.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence

from ductaflow.common.json_tree import JsonValue, KeyPath, leaves, mapped, spelled

#: Anywhere in a key.
_SECRET = re.compile(
    r"password|passwd|passphrase|passcode|pwd|secret|token(?!i[sz])|credential|oauth|authoriz?s?ation|bearer"
    r"|(?:api|access|account|private|signing|encryption|ssh)[_\-\s]?key",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
#: As a word of a key, unless it has one of the others: `my-pass` and `dbAuth` are secrets; a filter
#: `low_pass` and an `auth_type` are none, nor are `passengers`, `bypass` and `author`.
_SECRET_WORDS = {
    "pass": {"low", "high", "band", "all", "first", "second", "last", "single", "multi", "two", "by"}
    | {"filter", "rate", "count", "number", "through", "fail"},
    "auth": {"method", "mode", "type", "scheme", "provider", "backend", "enabled", "required", "url", "uri"}
    | {"host", "server", "timeout", "user", "name"},
    "pw": set(),
    "creds": set(),
}
#: `://user:password@host` and `://:password@host`; `https://token@host`.
_IN_URL = re.compile(
    r"(?<=://)([^\s/?#:@]*:)(?!\d+/)[^\s?#]*(?=@)|(?<=https://)[^\s/?#:@]+(?=@)", re.IGNORECASE
)
#: `?token=...` in a URL, `Pwd=...;` in a connection string.
_GIVEN = re.compile(
    r"\b((?:[\w-]*(?:password|passwd|pwd|secret|token|signature)|api_?key|access_?key|account_?key|sig)=)"
    r"[^\s&;'\"]+",
    re.IGNORECASE,
)


def masked(config: Mapping[str, object]) -> dict[str, JsonValue]:
    """Return a copy to show, in which values that look like passwords or tokens are `***`.

    `true`, `false` and `null` stay, since they hold no secret.

    >>> masked({"database": {"host": "db", "password": "x"}, "url": "postgres://me:x@db/runs"})
    {'database': {'host': 'db', 'password': '***'}, 'url': 'postgres://me:***@db/runs'}
    """
    return mapped(config, _shown, _is_secret)


def secrets_in(config: Mapping[str, object]) -> dict[str, object]:
    """The values with passwords or tokens, at any depth, by their key path."""
    return {
        spelled(path): value
        for path, value in leaves(config, _is_secret)
        if _is_secret(path, value) or (isinstance(value, str) and _without_secrets(value) != value)
    }


def _is_secret(path: KeyPath, value: object) -> bool:
    key = path[-1] if path else None
    # `max_tokens` is a number of them.
    is_count = isinstance(value, int | float) and isinstance(key, str) and key.lower().endswith("tokens")
    return isinstance(key, str) and _names_secret(key) and not is_count


@functools.lru_cache(maxsize=4096)
def _names_secret(key: str) -> bool:
    if _SECRET.search(key):
        return True
    words = {word.lower() for word in _WORDS.findall(key)}
    return any(word in words and words.isdisjoint(others) for word, others in _SECRET_WORDS.items())


def _without_secrets(text: str) -> str:
    if "://" in text:
        text = _IN_URL.sub(lambda found: f"{found[1] or ''}***", text)
    return _GIVEN.sub(r"\1***", text) if "=" in text else text


def _shown(path: KeyPath, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    # A container that comes here is too deep to be looked into, so it may hold anything.
    if _is_secret(path, value) or isinstance(value, (Mapping, list, tuple)):
        return "***"
    return _without_secrets(value) if isinstance(value, str) else value


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line to show; what looks like a password or token is `***`.

    >>> masked_arguments(["load", "--db-password=x", "--token", "y", "postgres://me:x@db/runs"])
    ['load', '--db-password=***', '--token', '***', 'postgres://me:***@db/runs']
    """
    shown: list[str] = []
    is_next = False
    for word in arguments:
        name, equals, _ = word.partition("=")
        is_named = name.startswith("-") and _names_secret(name)
        if is_next and not word.startswith("-"):
            shown.append("***")
        else:
            shown.append(f"{name}=***" if is_named and equals else _without_secrets_in_json(word))
        is_next = is_named and not equals
    return shown


def _without_secrets_in_json(word: str) -> str:
    try:
        value = json.loads(word) if word.startswith("{") else None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and (config := masked(value)) != value:
        return json.dumps(config, ensure_ascii=False)
    return _without_secrets(word)
