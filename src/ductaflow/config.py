"""Configs: strict JSON, merge, placeholders, values from Python and tables, and what `_run` says.

read_config   a file                      -> a JSON object, or an error with file, line and column
json_value    a value from Python         -> a JSON value, or an error with its key path
parse_cell    a cell of a scenario table  -> a JSON value
merge, fill_placeholders, split_run       what makes one config out of a base and an instance
dump_config, config_hash, masked          how a config is stored, compared and shown
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import os
import re
import stat
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path, PurePath
from typing import Any

from ductaflow.errors import ConfigError

RUN_KEY = "_run"
ROOT_KEY = "_project_root"
#: A config that is nested deeper is a mistake (or contains itself); Python's own limit would be a crash.
MAX_DEPTH = 100
#: A string that placeholders have made longer than this is a mistake: they double each other.
MAX_FILLED = 1_000_000
#: More digits than this Python refuses to print or to read.
_MAX_DIGITS = 4300

# --- strict JSON -------------------------------------------------------------------------------------------


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a file that holds one JSON object, strictly.

    UTF-8, with or without a byte order mark. Duplicate keys, `NaN`, `Infinity`, numbers too large to hold,
    lone surrogates and more than 100 levels are refused, and so is everything that is not JSON.

    Raises:
        ConfigError: the file cannot be read or is not such an object; names file, line and column.
    """
    text = read_text(path)
    if not text.strip():
        raise ConfigError(f"{path}:1:1: the file is empty", hint="A config without keys is written {}.")
    value = parse_json(text, where=str(path))
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}:1:1: a config is a JSON object, this file holds {_kind_of(value)}",
            hint='Write the keys and values between braces: {"key": "value"}.',
        )
    return value


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        ConfigError: the file cannot be read or is not UTF-8.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(
                f"{path}: cannot be read: not a regular file", hint="Put the JSON or CSV itself there."
            )
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        raise ConfigError(f"{path}:1:1: the file is UTF-16 or UTF-32, not UTF-8", hint="Save it as UTF-8.")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        before = raw[: exc.start].decode("utf-8")
        raise ConfigError(
            f"{path}:{_place(before, len(before))}: the file is not UTF-8: byte 0x{raw[exc.start]:02x}",
            hint="Save it as UTF-8.",
        ) from exc


def parse_json(text: str, *, where: str) -> Any:
    """A strict JSON value; `where` (a file, or a cell of a table) begins the error message.

    Raises:
        ConfigError: names line and column.
    """
    try:
        value = _DECODER.decode(text)
    except (_RefusedError, RecursionError, ValueError) as exc:
        position, message, hint = _first_fault(text) or _syntax_fault(text, exc)
        raise ConfigError(f"{where}:{_place(text, position)}: {message}", hint=hint) from exc
    # Whatever can hide from the decoder needs one of these; most configs have neither.
    if _SURROGATE_ESCAPE.search(text) or text.count("{") + text.count("[") > MAX_DEPTH:
        fault = _first_fault(text)
        if fault:
            position, message, hint = fault
            raise ConfigError(f"{where}:{_place(text, position)}: {message}", hint=hint)
    return value


class _RefusedError(Exception):
    """JSON by Python's taste, but not by ours; `_first_fault` finds out where."""


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _RefusedError
    return value


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _RefusedError
    return value


def _refuse_constant(_text: str) -> None:
    raise _RefusedError


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_object, parse_float=_finite_float, parse_constant=_refuse_constant
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_Fault = tuple[int, str, str]


def _first_fault(text: str) -> _Fault | None:
    """The first thing in a JSON text that only we refuse: its position, what it is, and a remedy."""
    keys: list[dict[str, int]] = []
    string, start = "", 0
    for match in _TOKEN.finditer(text):
        token, position = match.group(), match.start()
        if token in "{[":
            keys.append({})
            if len(keys) > MAX_DEPTH:
                return position, f"nested deeper than {MAX_DEPTH} levels", "A config is meant to be flatter."
        elif token in "}]":
            if keys:
                keys.pop()
        elif token == ":":
            if keys and string in keys[-1]:
                first = _place(text, keys[-1][string])
                return start, f"duplicate key {json.dumps(string)} (first at {first})", "Keep one of the two."
            if keys:
                keys[-1][string] = start
        elif token[0] == '"':
            try:
                string, start = json.loads(token), position
            except ValueError:
                return None  # a syntax error, which the decoder names better
            if _LONE_SURROGATE.search(string):
                return position, "half of a surrogate pair is no character", "Write the character itself."
        elif token != ",":
            message = _number_fault(token)
            if message:
                return position, message, "Use null, or leave the key out, where there is no number."
    return None


def _number_fault(token: str) -> str | None:
    if token in ("NaN", "Infinity", "-Infinity"):
        return f"{token} is not JSON"
    digits = token.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        return f"a number of {len(digits)} digits" if len(digits) > _MAX_DIGITS else None
    try:
        return f"the number {token[:40]} is too large" if math.isinf(float(token)) else None
    except ValueError:
        return None


def _syntax_fault(text: str, exc: Exception) -> _Fault:
    if not isinstance(exc, json.JSONDecodeError):
        return 0, f"cannot be read as JSON: {exc}", ""
    rest = text[exc.pos :]
    if not rest.strip() or exc.msg.startswith("Unterminated string"):
        return exc.pos, "the text ends in the middle", "Was it written only in part? Write it again."
    if exc.msg == "Extra data":
        return exc.pos, "there is more text behind the end", "One file holds one JSON object."
    return exc.pos, exc.msg.removesuffix(" at"), _syntax_hint(text[: exc.pos].rstrip()[-1:], rest)


def _syntax_hint(before: str, rest: str) -> str:
    if rest[0] < " ":
        return "JSON writes a line break inside a string as \\n, a tab as \\t."
    if rest.startswith("'"):
        return "JSON writes strings in double quotes."
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments."
    if (before == "," and rest[0] in "}]") or rest.startswith(","):
        return "There is a comma too many."
    if rest.startswith(("True", "False", "None")):
        return "JSON writes true, false and null."
    return ""


def _place(text: str, position: int) -> str:
    """`line:column` of a position, both from 1."""
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
    line = bisect_right(line_starts, position)
    return f"{line}:{position - line_starts[line - 1] + 1}"


def _kind_of(value: object) -> str:
    """What a value is called in an error message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


# --- merge and placeholders --------------------------------------------------------------------------------


def merge(*configs: Mapping[str, Any]) -> dict[str, Any]:
    """Merge configs, the later over the earlier.

    Deep for objects; lists and scalars replace; null is a value. The arguments stay as they are, and the
    result shares no object or list with them.
    """
    merged: dict[str, Any] = {}
    for config in configs:
        for key, value in config.items():
            below = merged.get(key)
            if isinstance(value, Mapping):
                merged[key] = merge(below, value) if isinstance(below, Mapping) else merge(value)
            else:
                merged[key] = _copied(value)
    return merged


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return merge(value) if isinstance(value, Mapping) else value


def fill_placeholders(
    config: Mapping[str, Any], *, instance: str, flow: str, project_root: str
) -> dict[str, Any]:
    """A copy of a config with `{key}` in its strings replaced.

    `key` is a top-level key of the same config with a scalar value, or `instance`, `flow`, `project_root`.
    The config's own key goes first; only in its own value does `{instance}` mean the name of the instance. A
    scalar that is no string is inserted as JSON shows it (`true`, `null`, `2030`). What is inserted is not
    searched again, but placeholders in the value of another key are filled before it is inserted. Keys are
    not filled. Every other brace stays, also one around the name of an object or a list: a flow may format
    such a string later.

    Raises:
        ConfigError: placeholders go round in a circle (the keys are named), or make a string of over a
            million characters.
    """
    filler = _Filler(config, {"instance": instance, "flow": flow, "project_root": project_root})
    return {key: filler.fill(value, (key,)) for key, value in config.items()}


class _Filler:
    """Fills the strings of one config, each top-level string once."""

    def __init__(self, config: Mapping[str, Any], given: Mapping[str, str]) -> None:
        self._config = config
        self._given = given
        self._filled: dict[str, str] = {}

    def fill(self, value: Any, chain: tuple[str, ...]) -> Any:
        """`chain` is the keys whose values are being filled, the outermost first."""
        if isinstance(value, str):
            return self._text(value, chain) if "{" in value else value
        if isinstance(value, dict):
            return {key: self.fill(item, ()) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, ()) for item in value]
        return value

    def _text(self, text: str, chain: tuple[str, ...]) -> str:
        length = len(text)

        def replacement(match: re.Match[str]) -> str:
            nonlocal length
            inserted = self._value(match.group(1), chain)
            if inserted is None:
                return match.group()
            length += len(inserted)
            if length > MAX_FILLED:
                keys = " -> ".join(chain) or "a nested string"
                raise ConfigError(
                    f"the placeholders of {keys} make more than {MAX_FILLED} characters",
                    hint="Shorten the values that they insert.",
                )
            return inserted

        return _PLACEHOLDER.sub(replacement, text)

    def _value(self, key: str, chain: tuple[str, ...]) -> str | None:
        """The text to insert for a key; None if it names nothing that can be inserted."""
        own = key in self._config and not (chain[-1:] == (key,) and key in self._given)
        if not own:
            return self._given.get(key)
        value = self._config[key]
        if isinstance(value, (dict, list)):
            return None
        if not isinstance(value, str):
            return json.dumps(value)
        if key not in self._filled:
            if key in chain:
                circle = " -> ".join((*chain[chain.index(key) :], key))
                raise ConfigError(
                    f"placeholders refer to each other: {circle}",
                    hint="Give one of these keys a plain value.",
                )
            if len(chain) > MAX_DEPTH:
                raise ConfigError(
                    f"more than {MAX_DEPTH} keys whose placeholders need the next: {chain[0]} ..."
                )
            self._filled[key] = self._text(value, (*chain, key))
        return self._filled[key]


_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

# --- values from Python ------------------------------------------------------------------------------------


def json_value(value: object, *, where: str = "config") -> Any:
    """A value from Python as a JSON value that shares nothing with it.

    `None`, booleans, numbers, strings, lists, tuples and mappings with string keys, up to 100 levels;
    besides numpy's scalars, `Path` (with `/`), `datetime`, `date` and `Timestamp` (ISO 8601). Nothing becomes
    a string silently: whatever else it is, is an error.

    Args:
        value: the value.
        where: what it is called in an error message; the key path is appended.

    Raises:
        ConfigError: it holds something that is not JSON, such as NaN, a set, an array or itself.
    """
    return _json_value(value, where, 0)


def _json_value(value: Any, where: str, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        if not value.isascii() and _LONE_SURROGATE.search(value):
            raise ConfigError(f"{where}: half of a surrogate pair is no character")
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int):
        return _checked_int(value, where)
    if isinstance(value, float):
        return _checked_float(value, where)
    if isinstance(value, (list, tuple, Mapping)):
        if depth >= MAX_DEPTH:
            raise ConfigError(
                f"{_shortened(where)}: nested deeper than {MAX_DEPTH} levels, or it contains itself"
            )
        if isinstance(value, Mapping):
            return {
                _checked_key(key, where): _json_value(item, key_path(where, key), depth + 1)
                for key, item in value.items()
            }
        return [_json_value(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if is_missing(value):
        raise _missing_error(value, where)
    if isinstance(value, PurePath):
        return _json_value(value.as_posix(), where, depth)
    if isinstance(value, date):  # datetime and pandas' Timestamp are dates too
        return value.isoformat()
    return _numpy_value(value, where)


def _checked_int(value: int, where: str) -> int:
    if value.bit_length() > _MAX_DIGITS * 3:  # cheap, and no false alarm below 3,800 digits
        try:
            str(value)
        except ValueError as exc:
            raise ConfigError(f"{where}: a number of more than {_MAX_DIGITS} digits") from exc
    return int(value)


def _checked_float(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise _missing_error(value, where)
    return float(value)


def _checked_key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{where}: the key {key!r} is {_kind_of(key)}", hint="Keys are strings in JSON.")
    return str(_json_value(key, f"{where}: a key", 0))


def _missing_error(value: object, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: {value} is not a JSON value",
        hint="Use None, or leave the key out, where there is no value.",
    )


def _numpy_value(value: Any, where: str) -> Any:
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
    """Whether a value from Python is NaN, NaT or pandas' NA. None is not: it is JSON's null."""
    if isinstance(value, float):
        return value != value
    pandas = sys.modules.get("pandas")
    if value is not None and (value is getattr(pandas, "NaT", None) or value is getattr(pandas, "NA", None)):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and bool(value != value)


def key_path(where: str, key: object) -> str:
    """The key path of a key below another one: `config.database.host`, `config["odd key"]`."""
    text = str(key)
    return f"{where}.{text}" if text.replace("-", "_").isidentifier() else f"{where}[{json.dumps(text)}]"


def row_config(row: Mapping[str, Any], *, where: str = "row") -> dict[str, Any]:
    """The config that a row of a table (a dict, or a row of a DataFrame) gives.

    NaN, NaT and NA mean "not given", so the bases decide. None is null, a value. A column name with dots sets
    a nested key: `database.host`, `_run.tags`.

    Raises:
        ConfigError: a value is not JSON, a name has an empty part, or two columns set the same key.
    """
    config: dict[str, Any] = {}
    # Columns without dots go first, so that the order of columns decides nothing. A Series has keys() too.
    for name in sorted(row.keys(), key=lambda name: isinstance(name, str) and "." in name):
        value = row[name]
        if not is_missing(value):
            parts = _checked_key(name, where).split(".")
            _set_nested(config, parts, json_value(value, where=key_path(where, name)), where)
    return config


def _set_nested(config: dict[str, Any], parts: list[str], value: Any, where: str) -> None:
    name = ".".join(parts)
    if "" in parts:
        raise ConfigError(f"{where}: the column {name!r} has an empty part", hint="Write outer.inner.")
    target = config
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise ConfigError(f"{where}: the column {name!r} sets a key inside {part!r}, which is no object")
    if parts[-1] in target:
        raise ConfigError(f"{where}: the key {name!r} is set twice", hint="Keep one of the columns.")
    target[parts[-1]] = value


_CELL_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-][0-9]+)?")
# "{region}/x.csv" in a cell is a string with a placeholder, not half an object
_CELL_JSON = re.compile(r"\[|\{\s*(?:[\"'}]|$|[^{}]*[:,])")


def parse_cell(text: str) -> Any:
    """The value of a cell of a scenario table (which means "not given" when it is empty: ask before).

    `true` and `false` in any case; numbers as in JSON, with an exponent only if it is signed, so that `1e-05`
    is a number but the zone `12E5` and the code `007` are strings; `null`, `[..]`, `{..}` as JSON; anything
    else is the string as it stands. A cell that begins with `{key}` is a string with a placeholder.

    Raises:
        ConfigError: it begins like a list or an object but is not JSON, or it is a number too large to hold.
    """
    cell = text.strip()
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    if cell == "null":
        return None
    if _CELL_NUMBER.fullmatch(cell) or _CELL_JSON.match(cell):
        return parse_json(cell, where=f'the cell "{_shortened(cell)}"')
    return text


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


# --- what `_run` says --------------------------------------------------------------------------------------

ENGINES = ("warm", "fresh", "kernel")
#: Seconds; a system call takes no more.
MAX_TIMEOUT = 1_000_000_000
#: Markers that pytest acts upon; as a tag each of them would change what a run does.
_PYTEST_MARKERS = frozenset(
    ("skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings", "tryfirst", "trylast")
)
_TAG = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `_run` of a config says about how to run the instance.

    Attributes:
        timeout: seconds after which the run is stopped; None for no limit.
        tags: words to select by (`-m`).
        skip: why the instance is not run.
        skip_without: files, relative to the project, without which it is not run.
        xfail: why it is expected to fail.
        needs: ids of instances that come before it, besides those that its config refers to.
        engine: `warm`, `fresh` or `kernel`; None for the session's.
        kernel: name of the Jupyter kernel, if not the one of the notebook's metadata.
        allow_exit: whether `sys.exit(0)` before the last cell is green.
    """

    timeout: float | None = None
    tags: tuple[str, ...] = ()
    skip: str | None = None
    skip_without: tuple[str, ...] = ()
    xfail: str | None = None
    needs: tuple[str, ...] = ()
    engine: str | None = None
    kernel: str | None = None
    allow_exit: bool = False

    @classmethod
    def parse(cls, raw: object, *, where: str) -> RunOptions:
        """Check the value of `_run`. An option that is null is not given, so an instance can undo its base.

        `tags` and `needs` are lists or a string of words, `skip_without` is a list or one path.

        Args:
            raw: the value.
            where: what it is called in an error message.

        Raises:
            ConfigError: it is no object, an option is unknown, or a value is not what the option takes.
        """
        if not isinstance(raw, dict):
            raise ConfigError(
                f"{where} is {_kind_of(raw)}, not an object", hint='Write, for example, {"timeout": 600}.'
            )
        known = [f.name for f in fields(cls)]
        values: dict[str, Any] = {}
        for key, value in raw.items():
            if key not in known:
                hint = did_you_mean(key, known) or f"Known options: {', '.join(known)}."
                raise ConfigError(f"{where}: unknown option {_shown(key)}", hint=hint)
            if value is not None:
                values[key] = _OPTION_CHECKS[key](value, key_path(where, key))
        return cls(**values)

    @property
    def of_execution(self) -> dict[str, Any]:
        """Those that are given and say how a run is executed; with its config, enough to run it again."""
        names = ("timeout", "engine", "kernel", "allow_exit")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, False)}


def _seconds(value: object, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_TIMEOUT:
        return float(value)
    raise _option_error(where, f"takes a number of seconds above 0, at most {MAX_TIMEOUT}", value)


def _reason(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _option_error(where, "takes a string that says why", value)
    return value


def _paths(value: object, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) and item for item in items):
        raise _option_error(where, "takes a list of strings", value)
    return tuple(dict.fromkeys(items))


def _words(value: object, where: str) -> tuple[str, ...]:
    return _paths(value.split() if isinstance(value, str) else value, where)


def _tags(value: object, where: str) -> tuple[str, ...]:
    tags = _words(value, where)
    for tag in tags:
        if not _TAG.fullmatch(tag) or tag in ("and", "or", "not"):
            raise ConfigError(
                f"{where}: {_shown(tag)} cannot be a tag",
                hint="A tag is a word of letters, digits, _ - . and +.",
            )
        if tag in _PYTEST_MARKERS:
            raise ConfigError(
                f"{where}: the tag {_shown(tag)} is a marker of pytest that would change the run",
                hint='Use another word. To skip an instance, write "_run": {"skip": "why"}.',
            )
    return tags


def _needs(value: object, where: str) -> tuple[str, ...]:
    needs = _words(value, where)
    for need in needs:
        if need.count("/") != 1 or need.startswith("/") or need.endswith("/"):
            raise ConfigError(
                f"{where}: {_shown(need)} is not the id of an instance", hint="Write flow/instance."
            )
    return needs


def _engine(value: object, where: str) -> str:
    if value not in ENGINES:
        suggestion = did_you_mean(value, ENGINES) if isinstance(value, str) else ""
        raise _option_error(where, f"takes one of {', '.join(ENGINES)}", value, suggestion)
    return str(value)


def _kernel(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _option_error(where, "takes the name of a Jupyter kernel", value)
    return value


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _option_error(where, "takes true or false", value)
    return value


def _option_error(where: str, takes: str, value: object, hint: str = "") -> ConfigError:
    return ConfigError(f"{where} {takes}, not {_shown(value)}", hint=hint)


_OPTION_CHECKS: dict[str, Callable[[object, str], Any]] = {
    "timeout": _seconds,
    "tags": _tags,
    "skip": _reason,
    "skip_without": _paths,
    "xfail": _reason,
    "needs": _needs,
    "engine": _engine,
    "kernel": _kernel,
    "allow_exit": _flag,
}
_NO_OPTIONS = RunOptions()


def split_run(config: Mapping[str, Any], *, where: str) -> tuple[dict[str, Any], RunOptions]:
    """Take what is ours out of a config: the flow's part, and the options that `_run` gives.

    `_project_root` is dropped: it is computed anew for every run. Every other top-level key that begins with
    `_run`, in any case, is refused, since `_runs` or `_run.tags` would otherwise be passed over.

    Args:
        config: a merged config, its placeholders filled.
        where: what it is called in an error message, usually its file.

    Raises:
        ConfigError: see `RunOptions.parse`.
    """
    rest: dict[str, Any] = {}
    options = _NO_OPTIONS
    for key, value in config.items():
        if key == RUN_KEY:
            if value is not None:
                options = RunOptions.parse(value, where=f"{where}: {RUN_KEY}")
        elif key[:4].lower() == RUN_KEY:
            hint = 'Write "_run": {"tags": ["slow"]}.' if "." in key else "Did you mean _run?"
            raise ConfigError(f"{where}: the key {_shown(key)} is reserved", hint=hint)
        elif key != ROOT_KEY:
            rest[key] = value
    return rest, options


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean x?` for the nearest known word, an empty string if none is near."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]}?" if near else ""


def _shown(value: object) -> str:
    """A JSON value in an error message."""
    return _shortened(json.dumps(value, ensure_ascii=False, default=repr))


# --- stored and shown --------------------------------------------------------------------------------------


def dump_config(config: Mapping[str, Any]) -> str:
    """A config as the text of a file: indented JSON that `read_config` accepts, with a newline at its end.

    Raises:
        ConfigError: it holds something that is not JSON.
    """
    return json.dumps(json_value(config), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a config, in hex. The order of keys and `_project_root` do not matter.

    Raises:
        ConfigError: it holds something that is not JSON.
    """
    value = {key: item for key, item in json_value(config).items() if key != ROOT_KEY}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


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


def load_saved_config(path: str | Path, *, project_root: str | Path) -> dict[str, Any]:
    """The config that a run left (`<flow>_config.json`), to be used again, perhaps on another machine.

    `_project_root` becomes the given one, and so does the beginning of every string that is a path below the
    old one. `_run` is checked and dropped.

    Raises:
        ConfigError: see `read_config` and `split_run`.
    """
    saved = read_config(path)
    config, _ = split_run(saved, where=str(path))
    root = Path(os.path.abspath(project_root)).as_posix()
    old = saved.get(ROOT_KEY)
    if isinstance(old, str) and len(old) > 1 and old != root:
        config = {key: moved(value, old.rstrip("/"), root) for key, value in config.items()}
    return {**config, ROOT_KEY: root}


def moved(value: Any, old: str, new: str) -> Any:
    """A JSON value in which every string that is a path, or lies below it, is so with another one."""
    if isinstance(value, str):
        return new + value[len(old) :] if value == old or value.startswith(f"{old}/") else value
    if isinstance(value, dict):
        return {key: moved(item, old, new) for key, item in value.items()}
    return [moved(item, old, new) for item in value] if isinstance(value, list) else value
