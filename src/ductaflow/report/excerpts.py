"""The excerpts of logs and the figures of runs in a report, bounded so that the page stays small."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NotRequired, TypedDict

from ductaflow.common.decode import UnreadableError, decode
from ductaflow.common.errors import SourceLine
from ductaflow.common.text import strip_ansi
from ductaflow.report.schema import Figure, FigureParts, LogParts

#: A notebook longer than this, in bytes, is not searched.
MAX_NOTEBOOK = 8_000_000
#: Figures of one run, and characters (base64) of one figure.
MAX_FIGURES, MAX_FIGURE = 4, 400_000
#: Characters of all figures of a report, and of those of successful runs.
MAX_ALL, MAX_GOOD = 6_000_000, 4_000_000
#: The figures of an instance that did not run.
NO_FIGURES: FigureParts = {"figures": [], "figures_left_out": 0}
_TYPES = ("image/png", "image/jpeg")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class FigureBudget:
    """The room for figures in a report. The last third is for runs that are no success."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, characters: int, *, is_good: bool) -> bool:
        """Reserve room for a figure of so many characters; False if there is none."""
        fits = self._taken + characters <= (MAX_GOOD if is_good else MAX_ALL)
        self._taken += characters if fits else 0
        return fits


def figures_of(notebook: Path, budget: FigureBudget, *, is_good: bool) -> FigureParts:
    """Return the figures of an executed notebook for the twin."""
    found: list[Figure] = []
    left_out = 0
    for figure in _images(notebook):
        size = len(figure["data"])
        if len(found) < MAX_FIGURES and size <= MAX_FIGURE and budget.take(size, is_good=is_good):
            found.append(figure)
        else:
            left_out += 1
    return {"figures": found, "figures_left_out": left_out}


class _Output(TypedDict):
    data: NotRequired[dict[str, object]]


class _Metadata(TypedDict):
    tags: NotRequired[list[str]]


class _Cell(TypedDict):
    cell_type: str
    metadata: NotRequired[_Metadata]
    outputs: NotRequired[list[_Output]]


class _Notebook(TypedDict):
    """What figures depend on in a notebook."""

    cells: list[_Cell]


def _images(notebook: Path) -> Iterator[Figure]:
    try:
        raw = notebook.read_bytes() if notebook.stat().st_size <= MAX_NOTEBOOK else b""
        # Looking for the word first: most notebooks have no figure, and parsing is what costs.
        if not any(kind.encode() in raw for kind in _TYPES):
            return
        cells = decode(raw, _Notebook, where=notebook)["cells"]
    except (OSError, ValueError, UnreadableError):
        return  # a half or foreign notebook: the page links to it, and shows what it can of the run
    number = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            # The cell that papermill adds does not count, here as in a result.
            number += "injected-parameters" not in cell.get("metadata", {}).get("tags", ())
            for output in cell.get("outputs", ()):
                bundle = output.get("data", {})
                kind = next((kind for kind in _TYPES if kind in bundle), "")
                data = "".join(_text(bundle.get(kind)).split())
                if _BASE64.fullmatch(data):
                    text = " ".join(_text(bundle.get("text/plain")).split())[:200]
                    shown = "" if text.startswith("<") else text
                    yield {"cell": number, "type": kind, "data": data, "text": shown}


def _text(value: object) -> str:
    """Join a text of a notebook, which may be a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


#: The end of a log that is shown: lines and bytes, of a success and of any other run.
GOOD_LOG_END = (20, 2 * 1024)
LOG_END = (60, 8 * 1024)
#: Its beginning, if the end does not reach back to it.
LOG_START = (8, 1024)
#: Warning lines further from the beginning than this are shown without the lines around them.
MAX_SCAN = 512 * 1024
#: Lines shown before and after a warning line; how many such places; characters of each line.
AROUND, MAX_PLACES, MAX_PLACE_LINE = 2, 20, 300


def log_parts(log: Path | None, limits: tuple[int, int], warning_lines: Iterable[int]) -> LogParts:
    """Return the parts of a log for the twin.

    Args:
        log: the file, if there is one.
        limits: lines and bytes of its end.
        warning_lines: the numbers, from 1, of the lines that are warnings.
    """
    parts = _ends(log, limits)
    parts["log_tail_line"] = None if parts["log_head"] else 1
    if log is None or not parts["log_head"]:
        return parts
    try:
        with log.open("rb") as file:
            text = _decode(file.read(MAX_SCAN))
    except OSError:
        return parts  # it was there a moment ago; its ends are shown
    lines = text.split("\n")
    first, last = parts["log_head"].count("\n") + 1, len(lines)
    if parts["log_size"] <= MAX_SCAN and text.endswith(parts["log_tail"]):
        last = parts["log_tail_line"] = text.count("\n", 0, len(text) - len(parts["log_tail"])) + 1
    wanted = [line for line in warning_lines if first <= line < last]
    parts["log_middle"] = list(_around(wanted, lines, first, last))
    return parts


def _around(wanted: Sequence[int], lines: Sequence[str], first: int, last: int) -> Iterator[SourceLine]:
    """Yield the lines around some, between `first` and `last`; those that touch are one excerpt."""
    places = (
        range(max(first, at - AROUND), min(last, at + AROUND + 1)) for at in sorted(wanted)[:MAX_PLACES]
    )
    shown = sorted(set(chain.from_iterable(places)))
    for _, run in groupby(enumerate(shown), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        text = "\n".join(lines[number - 1][:MAX_PLACE_LINE] for number in numbers)
        yield {"line": numbers[0], "text": text}


def _ends(log: Path | None, limits: tuple[int, int]) -> LogParts:
    if log is None:
        return _parts("", "", 0)
    (end_lines, end_bytes), (start_lines, start_bytes) = limits, LOG_START
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - end_bytes))
            raw = file.read(end_bytes)
            file.seek(0)
            start = file.read(min(start_bytes, max(0, size - end_bytes)))
    except OSError as exc:
        return _parts("", f"(the log cannot be read: {exc})", 0)
    lines = _decode(raw, cut=size > end_bytes).splitlines(keepends=True)
    if size > end_bytes and len(lines) > 1:
        del lines[0]  # most likely half a line
    if not start and len(lines) <= end_lines + start_lines:
        end_lines = len(lines)
    hidden, tail = lines[:-end_lines], lines[-end_lines:]
    head = _decode(start).splitlines(keepends=True) if start else hidden
    return _parts("".join(head[:start_lines]), "".join(tail), size)


def _parts(head: str, tail: str, size: int) -> LogParts:
    return {"log_head": head, "log_tail": tail, "log_tail_line": None, "log_middle": [], "log_size": size}


def _decode(raw: bytes, *, cut: bool = False) -> str:
    if cut:  # the rest of a character whose first byte was cut off
        raw = raw[next((i for i, byte in enumerate(raw[:4]) if byte & 0xC0 != 0x80), 0) :]
    # The incremental decoder waits for the rest of a character that is cut off at the end.
    text = strip_ansi(codecs.getincrementaldecoder("utf-8")("replace").decode(raw))
    return text.replace("\r\n", "\n").replace("\r", "\n")
