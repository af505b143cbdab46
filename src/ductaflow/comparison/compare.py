"""Two versions of a file compared, by what its name says that it is.

compare_files(Path("old/hourly.csv"), Path("new/hourly.csv"), Rule(rtol=1e-3))
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.rules import Rule
from ductaflow.common.text import first_line, shown_path, size
from ductaflow.comparison.difference import KEPT, FileDifference, Format, ValueDifference, plain

T = TypeVar("T")
_SUFFIXES: dict[Format, str] = {
    "json": ".json .geojson .ipynb .jsonl .ndjson",
    "table": ".csv .tsv .tab .parquet .pq .feather .arrow",
    "array": ".npy .npz",
    "text": ".txt .md .rst .log .yaml .yml .toml .ini .cfg .tex .html .htm .xml .svg .py .r .sql .dat .out",
    "picture": ".png .jpg .jpeg .gif .bmp .tif .tiff .webp",
}
_FORMATS = {suffix: format for format, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
#: A larger file, in bytes, is compared by content only: read, it takes many times its size.
LARGEST: dict[Format, int] = {
    "json": 10_000_000,
    "table": 1_000_000_000,
    "array": 1_000_000_000,
    "text": 50_000_000,
    "picture": 100_000_000,
}
#: What reads a format that pandas and numpy do not read by themselves.
_READERS: dict[Format, str] = {"table": "pyarrow", "picture": "pillow"}
#: More lines than these between the first and the last that differ are compared one by one.
_MATCHED = 1000
_CHUNK = 1 << 20


def format_of(name: str, rule: Rule) -> Format:
    """Return how a file is compared. Pictures are compared by their pixels only where a tolerance is named.

    >>> format_of("hourly.csv.gz", Rule()), format_of("map.png", Rule()), format_of("map.png", Rule(atol=2))
    ('table', 'content', 'picture')
    """
    bare = re.sub(r"(?<=[ct]sv)\.(gz|bz2|xz)$", "", name.lower())
    found = _FORMATS.get(Path(bare).suffix, "content")
    return "content" if found == "picture" and not rule.is_named else found


def compare_files(old: Path, new: Path, rule: Rule) -> FileDifference | None:
    """Return how two files differ; None if they do not.

    Files of the same bytes are not read any further. What cannot be read as what its name says differs, with
    the reason as its `fault`.

    Args:
        old: the file before, or the expected one.
        new: the other one, which gives its name to the difference.
        rule: the tolerances, and what is left out.
    """
    format = format_of(new.name, rule)
    try:
        if faults := list(filter(None, map(_fault_of_kind, (old, new)))):
            return FileDifference(new.name, "content", fault="; ".join(faults))
        if _have_same_bytes(old, new):
            return None
        largest, found = LARGEST.get(format), max(path.stat().st_size for path in (old, new))
        if largest and found > largest:
            fault = f"other content; {size(found)} are not compared any closer, {size(largest)} would be"
            return FileDifference(new.name, "content", fault=fault)
        return _compare(format, old, new, rule)
    except OSError as exc:
        fault = f"{shown_path(Path(exc.filename or new))}: {exc.strerror or exc}"
        return FileDifference(new.name, "content", fault=fault, is_settled=False)
    except _UnlikeItsName as exc:
        found_lines = None
        if format in ("json", "table") and found <= LARGEST["text"]:
            with suppress(_UnlikeItsName):
                found_lines = compare_lines(new.name, _read(read_lines_of, old), _read(read_lines_of, new))
        unlike = found_lines or FileDifference(new.name, "content")
        # what the machine lacked, it may have the next time
        is_settled = not isinstance(exc.__cause__, ImportError | OSError | MemoryError)
        return replace(unlike, fault=str(exc), is_settled=is_settled)


def _compare(format: Format, old: Path, new: Path, rule: Rule) -> FileDifference | None:
    """Compare two files of a format; only what is needed for it is imported."""
    match format:
        case "content":
            return FileDifference(new.name, format)
        case "text":
            return compare_lines(new.name, _read(read_lines_of, old), _read(read_lines_of, new))
        case "json":
            from ductaflow.comparison.scalars import compare_json, read_values

            before, now = (_read(lambda path: read_values(path, rule), path) for path in (old, new))
            return compare_json(new.name, before, now, rule)
        case "table":
            from ductaflow.comparison.frames import compare_tables, read_table

            a, b = _read(read_table, old), _read(read_table, new)
            return _read(lambda path: compare_tables(path.name, a, b, rule), new)
        case _:
            from ductaflow.comparison.cells import compare_arrays, read_arrays, read_pixels

            reader = read_pixels if format == "picture" else read_arrays
            x, y = _read(reader, old), _read(reader, new)
            return _read(lambda path: compare_arrays(path.name, x, y, rule, format), new)


class _UnlikeItsName(Exception):
    """Why a file is not compared as what its name says."""


def _read(reader: Callable[[Path], T], path: Path) -> T:
    """Read a file whose content may be anything.

    Raises:
        _UnlikeItsName: it cannot be read.
    """
    where = shown_path(path)
    try:
        return reader(path)
    except ImportError as exc:
        name = _READERS.get(format_of(path.name, Rule(atol=1.0)), exc.name)
        raise _UnlikeItsName(f"other content; to compare it any closer: pip install {name}") from exc
    except DuctaflowError as exc:
        raise _UnlikeItsName(exc.message) from exc
    except RecursionError as exc:
        raise _UnlikeItsName(f"{where}: nested too deeply") from exc
    except UnicodeDecodeError as exc:
        # pandas says where in a cell
        is_all = len(exc.object) == path.stat().st_size
        place = f" at byte {exc.start:,}" if is_all else ""
        raise _UnlikeItsName(f"{where}: not UTF-8: {exc.reason}{place}") from exc
    except Exception as exc:
        # pandas, pyarrow, numpy and Pillow have classes of their own for what is wrong with a file
        text = first_line(str(exc)) or type(exc).__name__
        raise _UnlikeItsName(f"{where}: cannot be read as {path.suffix[1:]}: {text}") from exc


def _fault_of_kind(path: Path) -> str:
    """Return why a path is no file to read; empty if it is one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"{shown_path(path)} {'leads nowhere' if path.is_symlink() else 'is not there'}"
    if stat.S_ISDIR(mode):
        return f"{shown_path(path)} is a folder"
    # opening a pipe would wait for a writer
    return "" if stat.S_ISREG(mode) else f"{shown_path(path)} is no regular file"


def _have_same_bytes(old: Path, new: Path) -> bool:
    # not by `filecmp`, which remembers files by their size and time
    with old.open("rb") as a, new.open("rb") as b:
        if os.fstat(a.fileno()).st_size != os.fstat(b.fileno()).st_size:
            return False
        while (chunk := a.read(_CHUNK)) == b.read(_CHUNK):
            if not chunk:
                return True
        return False


# --- text --------------------------------------------------------------------------------------------------


def read_lines_of(path: Path) -> list[str]:
    """Read the lines of a text file. How they end, and whether the last one does, makes no difference.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    lines = re.split(r"\r\n|\n|\r", path.read_bytes().decode("utf-8-sig"))
    return lines if lines[-1] else lines[:-1]


def compare_lines(file: str, old: list[str], new: list[str]) -> FileDifference | None:
    """Return how two texts differ; None if all lines are the same."""
    worst: list[ValueDifference] = []
    count = 0
    for count, (x, y) in enumerate(_lines_that_differ(old, new), start=1):
        if count > KEPT:
            continue
        if x is not None and y is not None:
            worst.append(ValueDifference(f"line {y + 1}", "other", plain(old[x]), plain(new[y])))
        elif x is not None:
            worst.append(ValueDifference(f"line {x + 1}", "gone", plain(old[x])))
        elif y is not None:
            worst.append(ValueDifference(f"line {y + 1}", "added", None, plain(new[y])))
    compared = max(len(old), len(new))
    found = FileDifference(file, "text", unit="lines", compared=compared, differing=count, worst=tuple(worst))
    return found if count else None


def _lines_that_differ(old: list[str], new: list[str]) -> Iterator[tuple[int | None, int | None]]:
    """Yield the positions of lines that differ; None for one that the other side does not have."""
    short = min(len(old), len(new))
    first = next((at for at in range(short) if old[at] != new[at]), short)
    last = next((at for at in range(short - first) if old[-1 - at] != new[-1 - at]), short - first)
    a, b = range(first, len(old) - last), range(first, len(new) - last)
    blocks = [(a, b)]
    if max(len(a), len(b)) <= _MATCHED:
        codes = difflib.SequenceMatcher(None, old[a.start : a.stop], new[b.start : b.stop]).get_opcodes()
        blocks = [(a[i:j], b[k:m]) for tag, i, j, k, m in codes if tag != "equal"]
    for pair in blocks:
        for x, y in itertools.zip_longest(*pair):
            if x is None or y is None or old[x] != new[y]:
                yield x, y
