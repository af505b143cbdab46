"""Logs: their header and closing line, their warning lines, and the status that they show."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import regular_file
from ductaflow.common.paths import LOGS
from ductaflow.common.renamed import also_named
from ductaflow.common.text import strip_ansi
from ductaflow.store.result import MAX_WARNING_CHARS, MAX_WARNINGS, LogWarning, Status, read_result
from ductaflow.store.spec import RunSpec

_WARNING = re.compile(r"\u26a0|warning:", re.IGNORECASE)
_WARNING_REACH = 15
_LINE_END = re.compile(r"\r\n|\n|\r")
_CHUNK = 1 << 20
#: No line is held longer than this; what is behind it in the same line cannot make a warning.
_LINE_KEPT = 4096


@dataclass(frozen=True, slots=True)
class LogScan:
    """The warning lines of a log, the first 100, and how many there are."""

    warnings: tuple[LogWarning, ...]
    warning_count: int


def is_warning_line(line: str) -> bool:
    """Return whether a line of a log is a warning: `⚠` or `warning:` within its first 15 characters."""
    return _WARNING.search(strip_ansi(line)[:_WARNING_REACH]) is not None


def log_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a log, each cut after 4096 characters; memory stays bounded.

    `\\n`, `\\r\\n` and `\\r` end a line; invalid UTF-8 is shown as U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    kept = ""
    with regular_file(path) as file:
        while True:
            raw = file.read(_CHUNK)
            text = decoder.decode(raw, final=not raw)
            if raw and text.endswith("\r"):
                # it may be the first half of "\r\n"
                text += decoder.decode(file.read(1))
            *ended, rest = _LINE_END.split(text)
            for line in ended:
                yield (kept + line[:_LINE_KEPT])[:_LINE_KEPT]
                kept = ""
            kept = (kept + rest[:_LINE_KEPT])[:_LINE_KEPT]
            if not raw:
                if kept:
                    yield kept
                return


def scan_log(path: Path) -> LogScan:
    """Find the warning lines of a log of any size."""
    warnings: list[LogWarning] = []
    count = 0
    for number, line in enumerate(log_lines(path), start=1):
        if is_warning_line(line):
            count += 1
            if count <= MAX_WARNINGS:
                warnings.append(LogWarning(number, strip_ansi(line).strip()[:MAX_WARNING_CHARS]))
    return LogScan(tuple(warnings), count)


@also_named(output_dir="folder")
def analyze_execution_logs(folder: str | os.PathLike[str]) -> Literal["success", "warning", "error"]:
    """Return the status of the last run in a folder, as its result says.

    A log without a result is a run that did not finish: an error.

    Args:
        folder: a run folder.

    Raises:
        DuctaflowError: nothing has run there, or its result is not readable.

    Example:
        >>> analyze_execution_logs("runs/fit/scenario_A")
        'success'
    """
    path = Path(folder)
    result = read_result(path)
    if result is None and not any(path.glob(LOGS)):
        raise DuctaflowError(
            f"{path}: nothing has run there", hint="Give the folder of one run: runs/<flow>/<instance>."
        )
    if result is None or not result.status.is_good:
        return "error"
    return "warning" if result.status is Status.WARNING else "success"


def header_line(spec: RunSpec) -> str:
    return f"🚀 Starting {spec.title}"


def closing_line(spec: RunSpec, *, seconds: float, error: str | None) -> str:
    if error is None:
        return f"✅ Completed {spec.title} | Time: {seconds:.1f}s"
    return f"❌ Failed {spec.title} | Error: {error}"


def is_frame_line(line: str, title: str) -> bool:
    """Return whether a line of a log is the header or the closing line of a run, by the run's title."""
    text = line.rstrip("\r\n")
    ends = f"✅ Completed {title} | Time: ", f"❌ Failed {title} | Error: "
    return text == f"🚀 Starting {title}" or text.startswith(ends)
