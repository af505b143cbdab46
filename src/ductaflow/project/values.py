"""Python values and table cells as JSON values; configs as text."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import PurePath

from ductaflow.common.errors import ConfigError
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.text import key_path, shorten
from ductaflow.project.strict_json import LONE_SURROGATE, MAX_DEPTH, MAX_DIGITS, json_kind, parse_json

# --- values from Python ------------------------------------------------------------------------------------


def json_value(value: object, *, where: str = "config") -> JsonValue:
    """Convert a Python value to a JSON value that shares nothing with it.

    Accepts `None`, booleans, numbers, strings, lists, tuples and mappings with string keys, up to 100 levels,
    and numpy's scalars, `Path` (with `/`), `datetime`, `date` and `Timestamp` (ISO 8601). Everything else is
    an error: nothing becomes a string silently.

    Args:
        where: its name in an error message; the key path is appended.

    Raises:
        ConfigError: it contains something that is not JSON, such as NaN, a set, an array or itself.

    >>> json_value({"when": date(2030, 1, 31), "files": (PurePath("a"), None)})
    {'when': '2030-01-31', 'files': ['a', None]}
    """
    return _json_value(value, where, 0)


def _json_value(value: object, where: str, depth: int) -> JsonValue:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        if not value.isascii() and LONE_SURROGATE.search(value):
            raise ConfigError(f"{where}: half of a surrogate pair is no character")
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int):
        return _checked_int(value, where)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (list, tuple, Mapping)):
        if depth >= MAX_DEPTH:
            raise ConfigError(
                f"{shorten(where)}: nested deeper than {MAX_DEPTH} levels, or it contains itself"
            )
        if isinstance(value, Mapping):
            return json_object(value, where=where, depth=depth)
        return [_json_value(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, float) or is_missing(value):
        raise ConfigError(
            f"{where}: {value} is not a JSON value",
            hint="Use None, or leave the key out, where there is no value.",
        )
    if isinstance(value, PurePath):
        return _json_value(value.as_posix(), where, depth)
    if isinstance(value, date):  # datetime and pandas' Timestamp are dates too
        return value.isoformat()
    return _numpy_value(value, where)


def json_object(
    config: Mapping[str, object], *, where: str = "config", depth: int = 0
) -> dict[str, JsonValue]:
    """Convert a mapping as `json_value` does."""
    return {
        _checked_key(key, where): _json_value(item, key_path(where, key), depth + 1)
        for key, item in config.items()
    }


def _checked_int(value: int, where: str) -> int:
    if value.bit_length() > MAX_DIGITS * 3:  # cheap, and no false alarm below 3,800 digits
        try:
            str(value)
        except ValueError as exc:
            raise ConfigError(f"{where}: a number of more than {MAX_DIGITS} digits") from exc
    return int(value)


def _checked_key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{where}: the key {key!r} is {json_kind(key)}", hint="Keys are strings in JSON.")
    return str(_json_value(key, f"{where}: a key", 0))


def _numpy_value(value: object, where: str) -> JsonValue:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        if isinstance(value, numpy.datetime64):
            moment = value.item()  # a plain integer where it is finer than microseconds
            if not isinstance(moment, date):
                moment = value.astype("datetime64[us]")
                moment = moment.item() if moment == value else None
            return moment.isoformat() if moment is not None else str(value)
        plain = value.item()
        if isinstance(plain, (bool, int, float)) and not isinstance(value, numpy.timedelta64):
            return _json_value(plain, where, 0)
    raise ConfigError(
        f"{where}: a value of type {type(value).__module__}.{type(value).__qualname__} is not JSON",
        hint=_REMEDIES.get(type(value).__name__, "Give a string, a number, a list or an object instead."),
    )


_REMEDIES = {
    "set": "Give sorted(...), a list.",
    "frozenset": "Give sorted(...), a list.",
    "ndarray": "Give its .tolist().",
    "Series": "Give its .tolist() or .to_dict().",
    "Decimal": "Give float(...) or str(...).",
    "bytes": "Give a string.",
}


def is_missing(value: object) -> bool:
    """Whether a Python value is NaN, NaT or pandas' NA. None is not missing: it is JSON's null."""
    if isinstance(value, float):
        return value != value
    pandas = sys.modules.get("pandas")
    if value is not None and (value is getattr(pandas, "NaT", None) or value is getattr(pandas, "NA", None)):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and bool(value != value)


def row_config(row: Mapping[str, object], *, where: str = "row") -> dict[str, JsonValue]:
    """Convert a row of a table (a dict, or a row of a DataFrame) to a config.

    NaN, NaT and NA mean "not given", so the bases decide. None is null, a value. A column name with dots sets
    a nested key: `database.host`, `_run.tags`.

    Raises:
        ConfigError: a value is not JSON, a name has an empty part, or two columns set the same key.

    >>> row_config({"site": "north", "database.host": "db", "horizon": float("nan")})
    {'site': 'north', 'database': {'host': 'db'}}
    """
    config: dict[str, JsonValue] = {}
    # Columns without dots go first, so that the order of columns decides nothing. A Series has keys() too.
    for name in sorted(row.keys(), key=lambda name: isinstance(name, str) and "." in name):
        value = row[name]
        if not is_missing(value):
            parts = _checked_key(name, where).split(".")
            _set_nested(config, parts, json_value(value, where=key_path(where, name)), where)
    return config


def _set_nested(config: dict[str, JsonValue], parts: list[str], value: JsonValue, where: str) -> None:
    name = ".".join(parts)
    if "" in parts:
        raise ConfigError(f"{where}: the column {name!r} has an empty part", hint="Write outer.inner.")
    target = config
    for part in parts[:-1]:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{where}: the column {name!r} sets a key inside {part!r}, which is no object")
        target = inner
    if parts[-1] in target:
        raise ConfigError(f"{where}: the key {name!r} is set twice", hint="Keep one of the columns.")
    target[parts[-1]] = value


_CELL_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-][0-9]+)?")
# "{region}/x.csv" in a cell is a string with a placeholder, not half an object
_CELL_JSON = re.compile(r"\[|\{\s*(?:[\"'}]|$|[^{}]*[:,])")


def parse_cell(text: str) -> JsonValue:
    """Read the value in a cell of a scenario table. (An empty cell means "not given": ask before.)

    `true` and `false` in any case; numbers as in JSON, with an exponent only if it is signed, so that `1e-05`
    is a number but the zone `12E5` and the code `007` are strings; `null`, `[..]`, `{..}` as JSON; anything
    else is a string. A cell that begins with `{key}` is a string with a placeholder.

    Raises:
        ConfigError: it begins like a list or an object but is not JSON, or it is a number too large to hold.

    >>> [parse_cell(text) for text in ("1e-05", "007", "TRUE", "[1, null]", "{a}/b")]
    [1e-05, '007', True, [1, None], '{a}/b']
    """
    cell = text.strip()
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if cell == "null":
        return None
    if _CELL_NUMBER.fullmatch(cell) or _CELL_JSON.match(cell):
        return parse_json(cell, where=f'the cell "{shorten(cell)}"')
    return text


# --- stored and shown --------------------------------------------------------------------------------------


def dump_config(config: Mapping[str, object]) -> str:
    """Format a config as the text of a file: indented JSON that `read_config` accepts."""
    return json.dumps(json_value(config), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
