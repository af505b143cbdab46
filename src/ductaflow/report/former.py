"""The report of the session before, as its twin tells it: what has no run on disk, and whether it ended.

The twin has one instance a line (`live`), so that one of 10,000 instances is read without holding it.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ductaflow.layout import REPORT_JSON
from ductaflow.report.data import Entry, iter_earlier, misfit
from ductaflow.result import Result, Status


def former_head(runs_dir: Path) -> dict[str, Any]:
    """The former twin without its instances; empty if there is none that can be read."""
    head = _parsed(next(_lines(runs_dir), b"") + b"]}")
    texts = all(isinstance(head.get(key), str) for key in ("session_id", "started"))
    alive = head.get("alive") or {"written": ""}
    fits = texts and isinstance(alive, dict) and isinstance(alive.get("written"), str)
    return head if fits else {}


def former_entries(runs_dir: Path, *, stored: Container[str] | None = None) -> Iterator[Entry]:
    """The instances of the former twin that have no run of their own, with what it says of them.

    That is what was blocked, did not have its turn, or failed before it could start.

    Args:
        runs_dir: the folder of all runs.
        stored: ids of the stored instances, as far as they are known: what was stored when the former twin
            was written, and is not any more, is left out.
    """
    lines = _lines(runs_dir)
    next(lines, None)
    for line in lines:
        # What has run is most of it, and is not parsed.
        entry = _entry(_parsed(line), runs_dir) if b'"run_id": "", ' in line else None
        if entry and (entry.nodeid is None or stored is None or entry.result.id in stored):
            yield entry


def all_earlier(
    runs_dir: Path, *, skip: Container[str], stored: Container[str] | None = None
) -> Iterator[Entry]:
    """What is known of instances that a session does not touch: their last result or, where there is none,
    what the former twin says of them.

    Args:
        runs_dir: the folder of all runs; need not exist.
        skip: ids that the session does touch.
        stored: see `former_entries`.

    Raises:
        DuctaflowError: `runs_dir` cannot be read.
    """
    on_disk = set()
    for entry in iter_earlier(runs_dir, skip=skip):
        on_disk.add(entry.result.id)
        yield entry
    for entry in former_entries(runs_dir, stored=stored):
        if entry.result.id not in skip and entry.result.id not in on_disk:
            yield replace(entry, earlier=True)


def _lines(runs_dir: Path) -> Iterator[bytes]:
    try:
        with (runs_dir / REPORT_JSON).open("rb") as file:
            for line in file:
                yield line.rstrip(b",\n")
    except OSError:
        return  # there is none yet, or none for us


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _entry(row: Mapping[str, Any], runs_dir: Path) -> Entry | None:
    try:
        folder = row["folder"]
        result = Result.from_dict(row, folder=None if folder is None else runs_dir / folder)
        entry = Entry(
            result,
            row["nodeid"],
            earlier=bool(row["earlier"]),
            parameters=dict(row["parameters"]),
            tags=[str(tag) for tag in row["tags"]],
            upstreams=[str(id) for id in row["upstreams"]],
        )
    except (ValueError, KeyError, TypeError):
        return None  # not a line of ours
    is_run = bool(result.run_id) or result.status is Status.UNCHANGED
    return None if is_run or misfit(result) else entry
