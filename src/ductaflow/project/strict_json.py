"""Strict JSON: every fault is an error with file, line, column and a remedy."""

from __future__ import annotations

import codecs
import json
import math
import re
from bisect import bisect_right
from pathlib import Path

from ductaflow.common.errors import ConfigError
from ductaflow.common.files import SpecialFileError, read_regular
from ductaflow.common.json_tree import JsonValue

#: A deeper config is a mistake (or contains itself); at Python's own limit it would be a crash.
MAX_DEPTH = 100
#: Python refuses to print or to read more digits.
MAX_DIGITS = 4300


def read_config(path: str | Path) -> dict[str, JsonValue]:
    """Read a file that holds one JSON object, strictly.

    The file is UTF-8, with or without a byte order mark. Refused are duplicate keys, `NaN`, `Infinity`,
    numbers too large to hold, lone surrogates, more than 100 levels, and everything else that is not JSON.

    Raises:
        ConfigError: the file cannot be read or is not such an object; names file, line and column.
    """
    text = read_text(path)
    if not text.strip():
        raise ConfigError(f"{path}:1:1: the file is empty", hint="A config without keys is written {}.")
    value = parse_json(text, where=str(path))
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}:1:1: a config is a JSON object, this file holds {json_kind(value)}",
            hint='Write the keys and values between braces: {"key": "value"}.',
        )
    return value


def read_text(path: str | Path) -> str:
    """Read a UTF-8 file, without a byte order mark."""
    try:
        raw = read_regular(path)
    except (SpecialFileError, IsADirectoryError) as exc:
        raise ConfigError(
            f"{path}: cannot be read: not a regular file", hint="Put the JSON or CSV itself there."
        ) from exc
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


def parse_json(text: str, *, where: str) -> JsonValue:
    """Parse a strict JSON value; `where` (a file, or a cell of a table) begins the error message.

    Raises:
        ConfigError: names line and column.
    """
    try:
        value: JsonValue = _DECODER.decode(text)
    except (_RefusedError, RecursionError, ValueError) as exc:
        position, message, hint = _first_fault(text) or _syntax_fault(text, exc)
        raise ConfigError(f"{where}:{_place(text, position)}: {message}", hint=hint) from exc
    # The decoder misses only faults that need one of these; most configs have neither.
    if _SURROGATE_ESCAPE.search(text) or text.count("{") + text.count("[") > MAX_DEPTH:
        fault = _first_fault(text)
        if fault:
            position, message, hint = fault
            raise ConfigError(f"{where}:{_place(text, position)}: {message}", hint=hint)
    return value


class _RefusedError(Exception):
    """JSON that Python accepts and we refuse; `_first_fault` finds the place."""


def _unique_object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
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
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_Fault = tuple[int, str, str]


def _first_fault(text: str) -> _Fault | None:
    """Find the first fault that only we refuse: its position, what it is, and a remedy."""
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
            if LONE_SURROGATE.search(string):
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
        return f"a number of {len(digits)} digits" if len(digits) > MAX_DIGITS else None
    try:
        return f"the number {token[:40]} is too large" if math.isinf(float(token)) else None
    except ValueError:
        return None


def _syntax_fault(text: str, exc: Exception) -> _Fault:
    if not isinstance(exc, json.JSONDecodeError):
        return 0, f"cannot be read as JSON: {exc}", ""
    position = exc.pos
    if exc.msg.startswith("Illegal trailing comma"):
        # Python 3.13 gives the place of the comma, older ones the place of what follows it.
        position = len(text) - len(text[position + 1 :].lstrip())
    rest = text[position:]
    if not rest.strip() or exc.msg.startswith("Unterminated string"):
        return position, "the text ends in the middle", "Was it written only in part? Write it again."
    if exc.msg == "Extra data":
        return position, "there is more text behind the end", "One file holds one JSON object."
    return position, exc.msg.removesuffix(" at"), _syntax_hint(text[:position].rstrip()[-1:], rest)


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


def json_kind(value: object) -> str:
    """Name the kind of a value in an error message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
