"""The one decoder of JSON that ductaflow wrote: typed, and safe whatever the file holds by now.

    decode(data, Marker, where=path)     the value, or an UnreadableError that names the file and the fault
    read_json(path, Marker)              the same of a file; None if there is none
    read_lines(path, HistoryLine)        the lines that are good, and what is wrong with the others

A type is a dataclass, a TypedDict, a NamedTuple, an enum, or a container of those. Unknown keys are ignored:
a newer minor version may have added them. What people write (configs) is `project.strict_json`'s.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import sys
import threading
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from ductaflow.common.errors import DuctaflowError, of_system
from ductaflow.common.files import SpecialFileError, read_regular, regular_file

if TYPE_CHECKING:
    from msgspec.json import Decoder

    from ductaflow.common.plain_decode import PlainDecoder

T = TypeVar("T")
#: None of our files comes near this size, in bytes; a larger one is not read into memory.
LARGEST = 1 << 30


class UnreadableError(DuctaflowError):
    """A file that ductaflow wrote no longer holds what it should."""


class RefusedError(UnreadableError):
    """The system does not let us read a file now; what it holds may be good."""


def decode(data: bytes | str, kind: type[T], *, where: str | os.PathLike[str], hint: str = "") -> T:
    """Decode JSON as a type.

    Args:
        data: the JSON text.
        kind: the type of the value.
        where: what it was read from, for the message.
        hint: what to do if it is not readable.

    Raises:
        UnreadableError: it is no JSON, or not of that type.
    """
    try:
        # mypy does not count a type variable's type as hashable
        decoded: T = _decoder(kind).decode(data)  # type: ignore[arg-type]
        return decoded
    except (ValueError, RecursionError) as exc:
        if not _has_surrogate(data):
            raise _unreadable(exc, where, hint) from exc
    # File names that are not UTF-8 have lone surrogates, which msgspec does not read.
    from ductaflow.common.plain_decode import parse

    try:
        value = parse(data)
    except (ValueError, RecursionError) as exc:
        raise _unreadable(exc, where, hint) from exc
    return convert(value, kind, where=where, hint=hint)


def convert(value: object, kind: type[T], *, where: str | os.PathLike[str], hint: str = "") -> T:
    """Turn JSON values that are already in memory into a type.

    Raises:
        UnreadableError: they are not of that type.
    """
    try:
        decoder = _decoder(kind)  # type: ignore[arg-type]
        if msgspec := _msgspec():
            found: T = msgspec.convert(value, kind, dec_hook=_from_json)
        else:
            found = cast("PlainDecoder", decoder).convert(value)
        return found
    except (ValueError, RecursionError) as exc:
        raise _unreadable(exc, where, hint) from exc


def encoded(value: object) -> bytes | None:
    """Return a value of ours as JSON, for a key: faster than `json`, and never read back.

    It is None where a text is not UTF-8, and without msgspec.
    """
    if (msgspec := _msgspec()) is None:
        return None
    try:
        with _making:
            data: bytes = msgspec.json.encode(value, enc_hook=os.fspath)
    except ValueError:
        return None
    return data


def read_json(path: Path, kind: type[T], *, hint: str = "") -> T | None:
    """Read a file that ductaflow wrote; None if there is none.

    Raises:
        UnreadableError: it cannot be read, or does not hold a value of that type.
    """
    data = read_own(path, hint=hint)
    return None if data is None else decode(data, kind, where=path, hint=hint)


def read_lines(path: Path, kind: type[T], *, last: int = 0) -> tuple[list[T], list[str]]:
    """Read a file of JSON lines.

    Args:
        path: the file.
        kind: the type of the values.
        last: read only so many lines, at the end of the file; 0 for all.

    Returns:
        The values of the lines that can be read, and for each other one what is wrong with it, with file and
        number of the line. A file that cannot be read is one fault; one that is not there has no lines.
    """
    values, faults = [], []
    try:
        for place, line in last_lines(path, last):
            try:
                values.append(decode(line, kind, where=path))
            except UnreadableError as exc:
                # Lines are not counted where all are good: a file may have become long.
                number = 1 + (read_own(path) or b"")[:place].count(b"\n")
                faults.append(exc.message.replace(str(path), f"{path}:{number}", 1))
    except UnreadableError as exc:
        faults.append(exc.message)
    return values, faults


def last_lines(path: Path, last: int = 0, *, most: int = LARGEST) -> list[tuple[int, bytes]]:
    """Read the last lines of a file, without empty ones.

    Args:
        path: the file; one that is not there has none.
        last: so many lines; 0 for all.
        most: read no more than so many bytes, from the end.

    Returns:
        Where each line begins in the file, and the line.

    Raises:
        UnreadableError: as of `read_own`.
    """
    size = min(1 << 20, most) if last else LARGEST
    while True:
        with _opened(path) as file:
            end = file.seek(0, os.SEEK_END) if file else 0
            begin = file.seek(max(0, end - size)) if file else 0
            data = file.read() if file else b""
        lines = []
        for line in data.split(b"\n"):
            lines.append((begin, line))
            begin += len(line) + 1
        # The first one may be half a line.
        lines = [pair for pair in (lines if size >= end else lines[1:]) if pair[1].strip()]
        if size >= min(end, most) or len(lines) >= last:
            return lines[-last:]
        size = min(4 * size, most)


def read_own(path: Path, *, hint: str = "") -> bytes | None:
    """The content of a file that ductaflow wrote; None if there is none.

    Raises:
        UnreadableError: it is no regular file, or absurdly large; a RefusedError: the system refuses it.
    """
    try:
        return read_regular(path, most=LARGEST)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as exc:
        raise _refused(exc, path, hint) from exc


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    """Open a regular file, None if there is none; what goes wrong while it is read is told too."""
    try:
        with regular_file(path) as file:
            yield file
    except FileNotFoundError:
        yield None
    except (ValueError, OSError) as exc:
        raise _refused(exc, path) from exc


def _refused(exc: ValueError | OSError, path: Path, hint: str = "") -> UnreadableError:
    """What is wrong with a file that cannot be read."""
    if isinstance(exc, ValueError):
        # a NUL in it, say, since the name comes from another file
        return UnreadableError(f"{str(path)!r} is no name of a file", hint=hint)
    if isinstance(exc, SpecialFileError):
        return UnreadableError(f"{path}: is no regular file", hint=hint)
    if exc.errno == errno.EFBIG:
        return UnreadableError(f"{path}: is too large to be ours: {exc.strerror}", hint=hint)
    found = of_system(exc, path, hint=hint)
    return RefusedError(found.message, hint=found.hint)


def indented(text: str) -> str | None:
    """Indent JSON by one space a level; None without msgspec.

    Raises:
        ValueError: it is no JSON.
    """
    msgspec = _msgspec()
    found: str | None = msgspec.json.format(text, indent=1) if msgspec else None
    return found


def prepare(*kinds: type) -> None:
    """Make the decoders of some types, in a process that is forked for what decodes them."""
    for kind in kinds:
        _decoder(kind)


# msgspec keeps what it learns of a type on the type: two threads that make that at once crash the process.
_making = threading.RLock()


# making one takes longer than to read most files
@functools.cache
def _decoder(kind: object) -> Decoder[Any] | PlainDecoder:
    with _making:
        if msgspec := _msgspec():
            decoder: Decoder[Any] = msgspec.json.Decoder(kind, dec_hook=_from_json)
            return decoder
    from ductaflow.common.plain_decode import PlainDecoder

    return PlainDecoder(kind, _from_json)


@functools.cache
def _msgspec() -> ModuleType | None:
    """Import msgspec on first use, without typing_extensions; None if it is not installed.

    msgspec prefers that to `typing`, which has all it wants since Python 3.11, and it takes longer to import
    than msgspec itself.
    """
    with _making:
        sys.modules.setdefault("typing_extensions", typing)
        try:
            import msgspec
        except ModuleNotFoundError as exc:
            if exc.name != "msgspec":
                raise
            return None
        finally:
            if sys.modules.get("typing_extensions") is typing:
                del sys.modules["typing_extensions"]
    return msgspec


def _from_json(kind: type, value: object) -> object:
    """What JSON has no type for, and `object`, which is any value."""
    if kind is object:
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _has_surrogate(data: bytes | str) -> bool:
    return (b"\\ud" in data or b"\\uD" in data) if isinstance(data, bytes) else "\\u" in data


def _unreadable(exc: Exception, where: str | os.PathLike[str], hint: str) -> UnreadableError:
    match exc:
        case RecursionError():
            text = "nested too deeply"
        case UnicodeDecodeError():
            text = f"not UTF-8: {exc.reason}"
        case json.JSONDecodeError():
            text = f"no valid JSON: {exc.msg[:1].lower()}{exc.msg[1:]} (byte {exc.pos})"
        case _:
            text = re.sub(r" - at `\$\.?(.+)`$", r" at \1", str(exc)).removesuffix(" - at `$`")
            text = text.replace("`", "").replace("JSON is malformed", "no valid JSON")
    return UnreadableError(f"{os.fspath(where)}: {text[:1].lower()}{text[1:]}", hint=hint)
