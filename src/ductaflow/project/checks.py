"""Checks of single values that people write: in `_run` of a config, in the settings of a project.

Each takes a value and where it stands, gives the value as the program has it, or raises a ConfigError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NoReturn, TypeVar

from ductaflow.common.engines import ENGINES
from ductaflow.common.errors import ConfigError
from ductaflow.common.paths import KIND_DIRS
from ductaflow.common.text import bytes_of, did_you_mean, key_path, shorten

Value = TypeVar("Value")


def checked(default: Value, check: Callable[[object, str], Value], **more: bool) -> Value:
    """A field of a dataclass that people give the value of; `more` is what else is to be known of it."""
    found: Value = field(default=default, metadata={"check": check, **more})
    return found


def checked_values(kind: type[Any], raw: Mapping[str, object], *, where: str, what: str) -> dict[str, Any]:
    """The values for the `checked` fields of a dataclass, each checked. Null stands for not given.

    Args:
        where: place of `raw`, for messages; empty for arguments of a call.
        what: the word for a field, for messages.

    Raises:
        ConfigError: a key is unknown, or a value is not what its field takes.
    """
    known = {one.name: one.metadata["check"] for one in fields(kind) if "check" in one.metadata}
    values = {}
    for key, value in raw.items():
        if key not in known:
            hint = did_you_mean(key, known) or f"Known {what}s: {', '.join(known)}."
            place = f"{where}: " if where else ""
            raise ConfigError(f"{place}unknown {what} {shown_json(key)}", hint=hint)
        if value is not None:
            values[key] = known[key](value, key_path(where, key) if where else key)
    return values


#: The word of the setting `preload` that means: no warm server.
NO_SERVER = "off"
RERUN_ON = ("config", "code", "inputs", "environment")
#: Seconds; a system call takes no more.
MAX_TIMEOUT = 1_000_000_000
MAX_PROCESSORS = 1_000_000
#: Markers that pytest acts upon; as a tag each of them would change what a run does.
_PYTEST_MARKERS = frozenset(
    ("skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings", "tryfirst", "trylast")
)
_TAG = re.compile(r"[\w.+-]+")


def shown_json(value: object) -> str:
    """A JSON value in an error message."""
    return shorten(json.dumps(value, ensure_ascii=False, default=str))


def refuse(where: str, takes: str, value: object, hint: str = "") -> NoReturn:
    raise ConfigError(f"{where} {takes}, not {shown_json(value)}", hint=hint)


def seconds(value: object, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_TIMEOUT:
        return float(value)
    refuse(where, f"takes a number of seconds above 0, at most {MAX_TIMEOUT}", value)


def _text(takes: str) -> Callable[[object, str], str]:
    def check(value: object, where: str) -> str:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            refuse(where, takes, value)
        return value

    return check


reason = _text("takes a string that says why")
kernel = _text("takes the name of a Jupyter kernel")
file = _text("takes the name of a file")


def paths(value: object, where: str) -> tuple[str, ...]:
    """A list of strings, or one of them."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) and item for item in items):
        refuse(where, "takes a list of strings", value)
    return tuple(dict.fromkeys(items))


def words(value: object, where: str) -> tuple[str, ...]:
    """A list of strings, or one of words."""
    return paths(value.split() if isinstance(value, str) else value, where)


def modules(value: object, where: str) -> tuple[str, ...]:
    """Words: names of modules to preload, or `off` alone."""
    found = words(value, where)
    if NO_SERVER in found and found != (NO_SERVER,):
        refuse(where, f"takes names of modules, or {NO_SERVER!r} alone", value)
    return found


def tags(value: object, where: str) -> tuple[str, ...]:
    found = words(value, where)
    for tag in found:
        if not _TAG.fullmatch(tag) or tag in ("and", "or", "not"):
            raise ConfigError(
                f"{where}: {shown_json(tag)} cannot be a tag",
                hint="A tag is a word of letters, digits, _ - . and +.",
            )
        if tag in _PYTEST_MARKERS:
            raise ConfigError(
                f"{where}: the tag {shown_json(tag)} is a marker of pytest that would change the run",
                hint='Use another word. To skip an instance, write "_run": {"skip": "why"}.',
            )
    return found


def ids(value: object, where: str) -> tuple[str, ...]:
    found = words(value, where)
    for one in found:
        if one.count("/") != 1 or one.startswith("/") or one.endswith("/"):
            raise ConfigError(
                f"{where}: {shown_json(one)} is not the id of an instance", hint="Write flow/instance."
            )
    return found


def engine(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in ENGINES:
        suggestion = did_you_mean(value, ENGINES) if isinstance(value, str) else ""
        refuse(where, f"takes one of {', '.join(ENGINES)}", value, suggestion)
    return value


def flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        refuse(where, "takes true or false", value)
    return value


def processors(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PROCESSORS:
        refuse(where, "takes a whole number of processors, at least 1", value, "Such as 2.")
    return value


def memory(value: object, where: str) -> str:
    """An amount of memory with its unit, as it is written."""
    found = bytes_of(value) if isinstance(value, str) else None
    if not found:
        is_given = isinstance(value, int | str) and not isinstance(value, bool)
        meant = _meant(str(value).strip()) if is_given else []
        example = " or ".join(f'"{one}"' for one in meant if bytes_of(one)) or '"4 GB" or "500 MB"'
        hint = f"Write {example}; units are kB, MB, GB, TB and, by 1,024, KiB, MiB, GiB, TiB."
        refuse(where, "takes an amount of memory with its unit", value, hint)
    return str(value)


#: Amounts as Kubernetes (`Gi`), Slurm and Java (`G`) or people (`gigabytes`) write them.
_FOREIGN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?\s*)(?:bytes?|(?P<letter>[kmgt])"
    r"(?:(?P<binary>i|[ie]bi(?:bytes?)?)|(?P<decimal>(?:ilo|ega|iga|era)(?:bytes?)?))?)?",
    re.IGNORECASE | re.ASCII,
)
#: From here on a number without a unit can only mean bytes.
_SURELY_BYTES = 10**8


def _meant(text: str) -> list[str]:
    """How an amount is written that has no unit, or one of others: in both ways where it may mean either."""
    found = _FOREIGN.fullmatch(text)
    if not found:
        return []
    number, letter = found["number"], found["letter"]
    if not letter:
        bare = number.strip()
        return [f"{bare} MB", f"{bare} GB"] if bare == text and float(bare) < _SURELY_BYTES else [f"{bare} B"]
    decimal = f"{number}{letter.lower() if letter in 'kK' else letter.upper()}B"
    binary = f"{number}{letter.upper()}iB"
    if found["binary"] or found["decimal"]:
        return [binary if found["binary"] else decimal]
    return [decimal, binary]


def changes(value: object, where: str) -> tuple[str, ...]:
    """What counts as a change: words of `RERUN_ON`."""
    found = words(value, where)
    for word in found:
        if word not in RERUN_ON:
            hint = f"{did_you_mean(word, RERUN_ON)} It takes any of {', '.join(RERUN_ON)}.".lstrip()
            raise ConfigError(f"{where} has {shown_json(word)}", hint=hint)
    return found


def names_inside(value: object, where: str) -> tuple[str, ...]:
    """Files by their paths in a run folder, with `/`."""
    found = paths(value, where)
    for name in found:
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in name or "\0" in name:
            refuse(where, "takes names of files in a run folder", name, "Such as metrics.json.")
    return tuple(PurePosixPath(name).as_posix() for name in found)


def folder(value: object, where: str) -> str:
    """A folder below the project, with `/`."""
    hint = "Give a folder below the project, such as out/runs, without .. in it."
    if not isinstance(value, str):
        refuse(where, "takes the name of a folder", value, hint)
    parts = PurePosixPath(value).parts
    outside = ".." in parts or PurePosixPath(value).is_absolute() or PureWindowsPath(value).drive
    if not parts or outside or "\\" in value or "\0" in value:
        refuse(where, "takes the name of a folder below the project", value, hint)
    if parts[0].casefold() in KIND_DIRS.values():
        refuse(where, "takes a folder other than flows and builds, which hold the sources", value)
    return PurePosixPath(value).as_posix()
