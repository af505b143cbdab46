"""The sessions of a runs folder, one line each: `runs/.ductaflow/history.jsonl`, only ever added to.

    {"schema": 1, "session_id", "started", "finished", "seconds", "summary": {status: count},
     "red": [ids], "red_left_out": n, "carried": [ids]}

`red` is what is red as far as is known after the session: its own red instances, and those that were red
before and have no result of this one. The latter are named in `carried` too. So the last line alone tells
whether something that is red was so before, whatever that session ran.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ductaflow.common.paths import CACHE_DIR
from ductaflow.store.result import Status

HISTORY = "history.jsonl"


#: Sessions that a report shows, bytes of the file's end that are read for them, red ids that a line keeps.
MAX_SESSIONS, MAX_READ, MAX_RED = 40, 1024 * 1024, 250


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


def session_line(
    head: Mapping[str, Any],
    seconds: float,
    touched: Mapping[str, Status],
    before: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The line of a session.

    Args:
        head: of its twin; seconds: how long it took.
        touched: the status of each instance that it was to run, by id.
        before: the sessions before it, the oldest first.
    """
    last: Mapping[str, Any] = before[-1] if before else {"red": [], "red_left_out": 0}
    judged = {id for id, status in touched.items() if status.has_run}
    carried = set(last["red"]) - judged
    red = sorted(carried.union(id for id, status in touched.items() if status.is_error))
    # Who was left out may be among those that have a result now and were not named.
    still_left_out = max(0, last["red_left_out"] - len(judged.difference(last["red"])))
    return {
        "schema": 1,
        "session_id": head["session_id"],
        "started": head["started"],
        "finished": head["finished"],
        "seconds": round(seconds, 3),
        "summary": head["summary"],
        "red": red[:MAX_RED],
        "red_left_out": len(red[MAX_RED:]) + still_left_out,
        "carried": [id for id in red[:MAX_RED] if id in carried],
    }


def newly_red(red: Iterable[str], session_id: str, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of a session's red instances that were not red in the last session that had a result of them.

    None is, where there was no session before. Of what the line before had no room for nothing is claimed.

    Args:
        red: the red ids of the session.
        session_id: of the session, which may be in the history already.
        history: from `read_history`.
    """
    before = next((line for line in reversed(history) if line["session_id"] != session_id), None)
    if before is None:
        return []
    known = set(before["red"])
    # The names are sorted: one that comes after the last may be among those left out.
    end = before["red"][-1:] if before["red_left_out"] else None
    return [id for id in red if id not in known and (end is None or [id] < end)]


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
    # Lines of older versions lack these.
    record.setdefault("red_left_out", 0)
    record.setdefault("carried", [])
    texts = all(isinstance(record.get(key), str) for key in ("session_id", "started", "finished"))
    counts = [*record["summary"].values(), record["red_left_out"]]
    fits = all(isinstance(count, int) for count in counts) and _are_ids(record.get("red"))
    fits = fits and _are_ids(record["carried"]) and isinstance(record.get("seconds"), int | float)
    return record if texts and fits else None


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(id, str) for id in value)
