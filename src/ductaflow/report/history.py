"""The sessions of a runs folder, one line each, only added to.

runs/.ductaflow/history.jsonl    what came of them
runs/.ductaflow/metrics.jsonl    the numbers that their runs found
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ductaflow.common.decode import UnreadableError, decode, last_lines, read_lines
from ductaflow.common.paths import CACHE_DIR
from ductaflow.report.schema import Head, NumbersLine, SessionLine
from ductaflow.store.metrics import numbers_in
from ductaflow.store.result import Result, Status

HISTORY = "history.jsonl"
NUMBERS = "metrics.jsonl"
#: Sessions that a report shows, failed ids that a line keeps, and numbers that it keeps of an instance.
MAX_SESSIONS, MAX_RED, MAX_NUMBERS = 40, 250, 40
#: Bytes of the file of numbers that a report reads, at its end: 10 numbers of 10,000 instances take 3 MB.
MAX_NUMBERS_READ = 16_000_000


def history_file(runs_dir: Path) -> Path:
    """Return the file that keeps the sessions of a runs folder."""
    return runs_dir / CACHE_DIR / HISTORY


def read_history(runs_dir: Path) -> tuple[list[SessionLine], list[str]]:
    """Read the last sessions, the oldest first.

    Returns:
        The sessions, and the fault of each line that is not one, such as half a line after a power cut.
    """
    path = history_file(runs_dir)
    if not path.is_file() or not os.access(path, os.R_OK):
        return [], []
    sessions, faults = read_lines(path, SessionLine, last=MAX_SESSIONS)
    for session in sessions:
        session.setdefault("red_left_out", 0)
        session.setdefault("carried", [])
    return sessions, [f"{fault}. The session is left out; remove the line." for fault in faults]


def session_line(
    head: Head, seconds: float, touched: Mapping[str, Status], before: Sequence[SessionLine]
) -> SessionLine:
    """Return the line of a session.

    Args:
        head: of its twin.
        seconds: how long it took.
        touched: the status of each instance that it meant to run, by id.
        before: the sessions before it, the oldest first.
    """
    red_before, left_out = (before[-1]["red"], before[-1]["red_left_out"]) if before else ([], 0)
    carried = {id for id in red_before if id not in touched or not touched[id].has_run}
    red = sorted(carried.union(id for id, status in touched.items() if status.is_error))
    # Those left out may be among the instances that have a result now and were not named.
    news = sum(status.has_run for status in touched.values()) - (len(red_before) - len(carried))
    still_left_out = max(0, left_out - news)
    return {
        "schema": 1,
        "session_id": head["session_id"],
        "started": head["started"],
        "finished": head["finished"] or "",
        "seconds": round(seconds, 3),
        "summary": head["summary"],
        "red": red[:MAX_RED],
        "red_left_out": len(red[MAX_RED:]) + still_left_out,
        "carried": [id for id in red[:MAX_RED] if id in carried],
        "commit": head.get("commit"),
    }


def newly_red(red: Iterable[str], session_id: str, history: Sequence[SessionLine]) -> list[str]:
    """Instances that failed in this session but not in the last one with a result of them.

    Empty without an earlier session. Instances that the line before had no room for do not count as new.

    Args:
        red: ids of the failed instances of the session.
        session_id: of the session, which may be in the history already.
        history: from `read_history`.
    """
    before = next((line for line in reversed(history) if line["session_id"] != session_id), None)
    if before is None:
        return []
    known = set(before["red"])
    # The ids are sorted: one behind the last may be among those left out.
    end = before["red"][-1:] if before["red_left_out"] else None
    return [id for id in red if id not in known and (end is None or [id] < end)]


def numbers_of(result: Result) -> dict[str, float]:
    """Return the first metrics of a run that are numbers."""
    return dict([*numbers_in(result.metrics).items()][:MAX_NUMBERS])


class FoundNumbers(NamedTuple):
    """The numbers that an instance had in a session, which ended at `finished`."""

    session_id: str
    finished: str
    numbers: Mapping[str, float]


class KeptNumbers:
    """The numbers that runs of earlier sessions found, read once. Lines that cannot be read say nothing.

    Args:
        runs_dir: the runs folder.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._path = runs_dir / CACHE_DIR / NUMBERS

    def before(self, id: str, session_id: str) -> FoundNumbers | None:
        """Return the last numbers of an instance that another session found; None if none are known."""
        return next((found for found in self._by_id.get(id, ()) if found.session_id != session_id), None)

    @cached_property
    def _by_id(self) -> dict[str, list[FoundNumbers]]:
        """For each instance the numbers of the last two sessions that have some, the latest first."""
        found: dict[str, list[FoundNumbers]] = {}
        lines: list[tuple[int, bytes]] = []
        with suppress(UnreadableError):
            lines = last_lines(self._path, MAX_SESSIONS, most=MAX_NUMBERS_READ)
        for _, raw in reversed(lines):
            with suppress(UnreadableError):
                line = decode(raw, NumbersLine, where=self._path)
                for id, numbers in line["numbers"].items():
                    known = found.setdefault(id, [])
                    if len(known) < 2 and (not known or known[0].session_id != line["session_id"]):
                        known.append(FoundNumbers(line["session_id"], line["finished"], numbers))
        return found


def append_history(
    runs_dir: Path, line: SessionLine, numbers: Mapping[str, Mapping[str, float]] = MappingProxyType({})
) -> None:
    """Add a session and the numbers of its runs, each in one write: sessions that end together do not mix.

    Raises:
        OSError: it cannot be written.
    """
    _append(history_file(runs_dir), line)
    if numbers:
        found = {"session_id": line["session_id"], "finished": line["finished"], "numbers": numbers}
        _append(runs_dir / CACHE_DIR / NUMBERS, found)


def _append(path: Path, line: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        # A line that a power cut left without an end must not swallow this one.
        start = b"" if _ends_well(path) else b"\n"
        file.write(start + json.dumps(line, allow_nan=False).encode("ascii") + b"\n")


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) in (b"", b"\n")
