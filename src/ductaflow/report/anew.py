"""`ductaflow report`: the page made anew from what lies on disk and what the page said before.

The last run of each instance counts. Where the last session did not end, it stays the session of the page:
what is older is earlier, and a note says how much of what it meant to run has no result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ductaflow.folder import unfinished
from ductaflow.graph import Graph, collect
from ductaflow.layout import Project, relative
from ductaflow.report.data import NOT_YET, Entry, build_report, iter_earlier
from ductaflow.report.former import former_entries, former_head
from ductaflow.result import Result, Status


def report_anew(project: Project) -> dict[str, Any]:
    """The twin of all that is known of a project's runs, for `write_report`.

    Raises:
        DuctaflowError: the runs folder cannot be read.
    """
    former = former_head(project.runs_dir)
    alive = former.get("alive")
    entries = list(_entries(project, since=former["started"] if alive else ""))
    ran = [entry.result for entry in entries if entry.result.finished and not entry.earlier]
    last = max(ran, key=lambda result: str(result.finished), default=None)
    head: dict[str, Any] = {
        "session_id": last.session_id if last else "",
        "started": min((str(result.started) for result in ran), default=""),
        "finished": str(last.finished) if last else "",
    }
    if alive:
        head = {key: former[key] for key in ("session_id", "started")}
        head["finished"] = max([alive["written"], *(str(result.finished) for result in ran)])
    data = build_report(entries, **head, runs_dir=project.runs_dir, project_root=project.root)
    data["shard"] = former.get("shard")
    if alive:
        data |= _left_behind(former, project, done={entry.result.id for entry in entries if _is_done(entry)})
    return data


def _entries(project: Project, *, since: str) -> Iterator[Entry]:
    """What is known of each instance. What ended before `since` is earlier; without it, what has no run."""
    stored = collect(project)
    graph = Graph(stored.all)
    seen = set()
    for entry in _on_disk(project, since):
        seen.add(entry.result.id)
        instance = stored.by_id.get(entry.result.id)
        if instance:
            entry = replace(
                entry,
                nodeid=f"{relative(instance.file, project.root)}::{instance.title}",
                tags=instance.options.tags,
                upstreams=graph.upstreams(instance.id),
            )
        yield entry
    for entry in former_entries(project.runs_dir, stored=stored.by_id):
        if entry.result.id not in seen:
            yield replace(entry, earlier=entry.earlier or not since)


def _on_disk(project: Project, since: str) -> Iterator[Entry]:
    """The last run of each instance, also one that never came to its end."""
    lost = set()
    for left in unfinished(project.runs_dir):
        if left.folder.parent.parent == project.runs_dir:
            flow, name = left.folder.parent.name, left.folder.name
            message = f"never came to its end; {left.owner}"
            result = Result(flow, name, "flow", Status.ERROR, "lost", message, folder=left.folder)
            lost.add(result.id)
            yield Entry(result, earlier=left.owner.started < since)
    for entry in iter_earlier(project.runs_dir, skip=lost):
        yield replace(entry, earlier=(entry.result.finished or "") < since)


def _is_done(entry: Entry) -> bool:
    return not entry.earlier and entry.result.message != NOT_YET


def _left_behind(former: Mapping[str, Any], project: Project, *, done: set[str]) -> dict[str, Any]:
    """What the twin says of a session that did not end; kept in `alive`, to be said again the next time."""
    alive = former["alive"]
    undone = alive.get("undone")
    if undone is None:
        of_its_own = (entry for entry in former_entries(project.runs_dir) if not entry.earlier)
        undone = [entry.result.id for entry in of_its_own if entry.result.message == NOT_YET]
    planned = alive.get("planned", sum(former["summary"].values()))
    undone = [id for id in undone if id not in done]
    return {
        "alive": {**alive, "planned": planned, "undone": undone},
        "notes": [
            f"The session of {former['started']} has not ended: {len(undone)} of the {planned} instances"
            " that it meant to run have no result of it."
        ],
    }
