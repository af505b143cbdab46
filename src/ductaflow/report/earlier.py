"""What earlier sessions left: results on disk, and in the last twin the instances without a run.

The twin has one instance a line (`live`), so that one of 10,000 instances is read without holding it.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from ductaflow.common.decode import UnreadableError, decode
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import folders_in
from ductaflow.common.paths import REPORT_JSON, RESULT
from ductaflow.project.settings import Project
from ductaflow.report.schema import Alive, Head, InstanceTwin, Origin, Twin
from ductaflow.report.stored import Stored
from ductaflow.report.twin import NOT_YET, Entry, build_report, read_run
from ductaflow.store.folder import unfinished
from ductaflow.store.result import Result, Status


def iter_earlier(runs_dir: Path, *, skip: Container[str]) -> Iterator[Entry]:
    """Yield the results on disk of instances that this session did not touch.

    Only `runs_dir/<flow>/<instance>/result.json` counts: no flows inside builds, no hidden folders.

    Args:
        runs_dir: the folder of all runs; need not exist.
        skip: ids (`<flow>/<instance>`) of instances that the session touched.

    Raises:
        DuctaflowError: `runs_dir` cannot be read.
    """
    try:
        flows = folders_in(runs_dir)
    except OSError as exc:
        raise DuctaflowError(f"{runs_dir} cannot be read: {exc.strerror or exc}") from exc
    for flow in flows:
        try:
            names = folders_in(runs_dir / flow)
        except OSError as exc:
            yield Entry(Result(flow, "*", "flow", Status.ERROR, "lost", str(exc)), earlier=True)
            continue
        for name in names:
            if f"{flow}/{name}" not in skip and os.path.lexists((folder := runs_dir / flow / name) / RESULT):
                # The folder is the identity: a copied folder is not the instance that its result names.
                yield Entry(replace(read_run(folder), flow=flow, instance=name), earlier=True)


def former_head(runs_dir: Path, faults: list[str]) -> Head | None:
    """Read the last twin without its instances; None, and a fault, if it cannot be read."""
    line = next(_lines(runs_dir), b"")
    try:
        return decode(line + b"]}", Head, where=runs_dir / REPORT_JSON) if line else None
    except UnreadableError as exc:
        faults.append(f"{exc.message}. What it alone knew of instances is lost.")
        return None


def former_instances(runs_dir: Path) -> Iterator[InstanceTwin]:
    """Yield the instances of the last twin, one after the other.

    Raises:
        UnreadableError: it is damaged.
    """
    lines = _lines(runs_dir)
    next(lines, None)
    for number, line in enumerate(lines, start=2):
        if line not in (b"", b"]}"):
            yield decode(line, InstanceTwin, where=f"{runs_dir / REPORT_JSON}:{number}")


def former_entries(runs_dir: Path, faults: list[str], *, stored: Stored | None = None) -> Iterator[Entry]:
    """Yield the instances of the last twin that have no run: blocked, not run, or failed before they started.

    Args:
        runs_dir: the folder of all runs.
        faults: gets what is wrong with an instance that cannot be read.
        stored: what is stored, if known; an instance that is no longer stored is left out.
    """
    lines = _lines(runs_dir)
    next(lines, None)
    for number, line in enumerate(lines, start=2):
        # Most instances have run; their lines are not parsed.
        if b'"run_id": "", ' not in line:
            continue
        try:
            entry = _entry(line, runs_dir, f"{runs_dir / REPORT_JSON}:{number}")
        except DuctaflowError as exc:
            faults.append(f"{exc.message}. The instance is left out, unless it has a run.")
            continue
        if entry and (entry.nodeid is None or stored is None or entry.result.id in stored):
            yield entry


def all_earlier(
    runs_dir: Path, faults: list[str], *, skip: Container[str], stored: Stored | None = None
) -> Iterator[Entry]:
    """Yield the instances that a session does not touch: with their last result, else as in the last twin.

    Args:
        runs_dir: the folder of all runs; need not exist.
        skip: ids of instances that the session touches.
        faults, stored: see `former_entries`.

    Raises:
        DuctaflowError: `runs_dir` cannot be read.
    """
    on_disk = set()
    for entry in iter_earlier(runs_dir, skip=skip):
        on_disk.add(entry.result.id)
        yield entry
    for entry in former_entries(runs_dir, faults, stored=stored):
        if entry.result.id not in skip and entry.result.id not in on_disk:
            yield replace(entry, earlier=True)


def _lines(runs_dir: Path) -> Iterator[bytes]:
    try:
        with (runs_dir / REPORT_JSON).open("rb") as file:
            for line in file:
                yield line.rstrip(b",\n")
    except OSError:
        return  # none yet, or not readable


class _Row(TypedDict):
    """The keys of a line of the twin that an entry needs besides the result."""

    nodeid: str | None
    earlier: bool
    folder: str | None
    parameters: dict[str, object]
    tags: list[str]
    upstreams: list[str]


def _entry(line: bytes, runs_dir: Path, where: str) -> Entry | None:
    row = decode(line, _Row, where=where)
    folder = None if row["folder"] is None else runs_dir / row["folder"]
    result = replace(decode(line, Result, where=where), folder=folder, former_status=None)
    if result.run_id or result.status is Status.UNCHANGED:
        return None
    return Entry(
        result,
        row["nodeid"],
        earlier=row["earlier"],
        parameters=row["parameters"],
        tags=row["tags"],
        upstreams=row["upstreams"],
    )


def rebuild_report(project: Project) -> Twin:
    """Build the twin of everything known of a project's runs, for `write_report`.

    Raises:
        DuctaflowError: the runs folder cannot be read.
    """
    faults: list[str] = []
    former = former_head(project.runs_dir, faults)
    alive = former and former["alive"]
    stored = Stored.of(project)
    entries = list(_entries(project, stored, faults, since=former["started"] if former and alive else ""))
    if not alive:
        entries = _of_last_session(entries, former)
    ran = [entry.result for entry in entries if entry.result.finished and not entry.earlier]
    last = max(ran, key=lambda result: str(result.finished), default=None)
    session_id = last.session_id if last else ""
    started = min((str(result.started) for result in ran), default="")
    finished = str(last.finished) if last else ""
    if former and alive:
        session_id, started = former["session_id"], former["started"]
        finished = max([alive["written"], *(str(result.finished) for result in ran)])
    data = build_report(
        entries,
        session_id=session_id,
        started=started,
        finished=finished,
        runs_dir=project.runs_dir,
        project_root=project.root,
        origin=_origin(former, last, session_id),
    )
    data["shard"] = former and former["shard"]
    data["notes"] += faults
    if former and alive:
        own = (entry.result for entry in entries if not entry.earlier)
        done = {result.id for result in own if result.message != NOT_YET}
        _leave_behind(data, former, alive, project, done=done)
    return data


def _origin(former: Head | None, last: Result | None, session_id: str) -> Origin:
    """Return where a session comes from: as its page said, else as far as its last run knows."""
    if former and former["session_id"] == session_id:
        return former
    environment = last.environment if last else {}
    git = environment.get("git")
    return {
        "commit": git["commit"] if git else None,
        "dirty": git["dirty"] if git else None,
        "host": environment.get("host"),
    }


def _entries(project: Project, stored: Stored, faults: list[str], *, since: str) -> Iterator[Entry]:
    """Yield every known instance. Earlier are runs that ended before `since`."""
    seen = set()
    for entry in _on_disk(project, since, faults):
        seen.add(entry.result.id)
        yield stored.with_facts(entry)
    for entry in former_entries(project.runs_dir, faults, stored=stored):
        if entry.result.id not in seen:
            yield stored.with_facts(entry)


def _of_last_session(entries: Sequence[Entry], former: Head | None) -> list[Entry]:
    """Mark as earlier what the session of the last run did not touch; of what has no run, the page knows."""
    ran = [entry.result for entry in entries if entry.result.finished]
    last = max(ran, key=lambda result: str(result.finished), default=None)
    session = last.session_id if last else ""
    told = former is not None and former["session_id"] == session

    def is_earlier(entry: Entry) -> bool:
        return entry.result.session_id != session if entry.result.finished else entry.earlier or not told

    return [replace(entry, earlier=is_earlier(entry)) for entry in entries]


def _on_disk(project: Project, since: str, faults: list[str]) -> Iterator[Entry]:
    """Yield the last run of each instance, unfinished ones included."""
    lost = set()
    for left in unfinished(project.runs_dir, faults):
        if left.folder.parent.parent == project.runs_dir:
            flow, name = left.folder.parent.name, left.folder.name
            message = f"never came to its end; {left.owner}"
            result = Result(flow, name, "flow", Status.ERROR, "lost", message, folder=left.folder)
            lost.add(result.id)
            yield Entry(result, earlier=left.owner.started < since)
    for entry in iter_earlier(project.runs_dir, skip=lost):
        yield replace(entry, earlier=(entry.result.finished or "") < since)


def _leave_behind(data: Twin, former: Head, alive: Alive, project: Project, *, done: set[str]) -> None:
    """Note what a session that did not end left undone; `alive` keeps it for the next report."""
    undone = alive.get("undone")
    if undone is None:
        of_its_own = (entry for entry in former_entries(project.runs_dir, []) if not entry.earlier)
        undone = [entry.result.id for entry in of_its_own if entry.result.message == NOT_YET]
    planned = alive.get("planned", sum(former["summary"].values()))
    undone = [id for id in undone if id not in done]
    data["alive"] = {**alive, "planned": planned, "undone": undone}
    data["notes"].append(
        f"The session of {former['started']} has not ended: {len(undone)} of the {planned} instances"
        " that it meant to run have no result of it."
    )
