"""The excerpts of logs in a report, bounded so that the page stays small."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path

from ductaflow.common.errors import SourceLine
from ductaflow.common.files import regular_file
from ductaflow.common.text import strip_ansi
from ductaflow.report.schema import LogParts

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
        with regular_file(log) as file:
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
        with regular_file(log) as file:
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
