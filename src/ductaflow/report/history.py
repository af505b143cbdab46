"""The sessions of a runs folder, one line each: `runs/.ductaflow/history.jsonl`, only ever added to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ductaflow.layout import CACHE_DIR

HISTORY = "history.jsonl"
#: Sessions that a report shows, bytes of the file's end that are read for them, red ids that a line keeps.
MAX_SESSIONS, MAX_READ, MAX_RED = 40, 512 * 1024, 100


def history_file(runs_dir: Path) -> Path:
    """Where the sessions of a runs folder are kept."""
    return runs_dir / CACHE_DIR / HISTORY


def read_history(runs_dir: Path) -> list[dict[str, Any]]:
    """The last sessions, the oldest first. Half a line, as a power cut leaves it, is none."""
    try:
        with history_file(runs_dir).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_READ))
            raw = file.read(MAX_READ)
    except OSError:
        return []  # there is none yet, or none for us
    lines = raw.split(b"\n")[1 if size > MAX_READ else 0 :]
    return [record for line in lines if (record := _record(line))][-MAX_SESSIONS:]


def session_line(head: Mapping[str, Any], seconds: float, red: Iterable[str]) -> dict[str, Any]:
    """The line of a session.

    Args:
        head: of its twin; seconds: how long it took.
        red: the ids of its red instances.
    """
    names = sorted(red)
    return {
        "schema": 1,
        "session_id": head["session_id"],
        "started": head["started"],
        "finished": head["finished"],
        "seconds": round(seconds, 3),
        "summary": head["summary"],
        "red": names[:MAX_RED],
        "red_left_out": max(0, len(names) - MAX_RED),
    }


def append_history(runs_dir: Path, line: Mapping[str, Any]) -> None:
    """Add a session, in one write so that two sessions that end together do not mix.

    Raises:
        OSError: it cannot be written.
    """
    path = history_file(runs_dir)
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


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("summary"), dict):
        return None
    texts = all(isinstance(record.get(key), str) for key in ("session_id", "started", "finished"))
    counts = all(isinstance(count, int) for count in record["summary"].values())
    red = record.get("red")
    names = isinstance(red, list) and all(isinstance(id, str) for id in red)
    return record if texts and counts and names and isinstance(record.get("seconds"), int | float) else None
