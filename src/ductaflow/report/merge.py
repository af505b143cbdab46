"""Twins of several sessions -> one twin: the shards of a CI run, each on a machine of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ductaflow.errors import DuctaflowError
from ductaflow.report.causes import find_causes
from ductaflow.report.data import SCHEMA, relative, report_head
from ductaflow.report.history import read_history
from ductaflow.result import SEVERITY, Status

_HINT = "Give the conductor_status_report.json of each shard, as a session of this version wrote it."


def merge_reports(files: Sequence[Path], runs_dir: Path) -> dict[str, Any]:
    """One report of several sessions.

    An instance that several of them have is shown once: as it ran rather than as an earlier result, then by
    the worst status, then by the latest run. A session that did not end is named in `notes`.

    Args:
        files: the JSON twins.
        runs_dir: where the merged report is to lie; links are made to lead from there to the files as they
            lie beside the twins.

    Returns:
        The twin, for `write_report` and `render_html`.

    Raises:
        DuctaflowError: a file is not readable as a twin; it is named.
    """
    twins = [_read(file) for file in files]
    chosen: dict[str, dict[str, Any]] = {}
    for number, (file, twin) in enumerate(zip(files, twins, strict=True), start=1):
        for instance in twin["instances"]:
            moved = _moved(instance, relative(file.parent, runs_dir))
            if not moved["earlier"]:
                moved["worker"] = f"{number}:{moved['worker'] or 'main'}"
            other = chosen.get(moved["id"])
            if other is None or _rank(moved) > _rank(other):
                chosen[moved["id"]] = moved
    instances = list(chosen.values())
    finished = [twin["finished"] for twin in twins if twin["finished"]]
    head = report_head(
        ((instance["status"], instance["earlier"]) for instance in instances),
        session_id=" + ".join(dict.fromkeys(twin["session_id"] for twin in twins)),
        started=min(twin["started"] for twin in twins),
        finished=max(finished, default=""),
        project_root=None,
    )
    head |= {
        "project": next((twin["project"] for twin in twins if twin["project"]), None),
        "notes": [
            f"The session of {file} did not end: what it had not run yet is shown as not run."
            for file, twin in zip(files, twins, strict=True)
            if not twin["finished"]
        ],
        "causes": find_causes(instances),
        "history": read_history(runs_dir),
    }
    return {**head, "instances": instances}


def _rank(instance: Mapping[str, Any]) -> tuple[bool, int, str]:
    ran = instance["status"] not in (Status.NOT_RUN, Status.BLOCKED)
    severity = SEVERITY.index(Status(instance["status"]))
    return not instance["earlier"], severity if ran else -1, instance["finished"] or ""


def _moved(instance: Mapping[str, Any], way: str) -> dict[str, Any]:
    """An instance whose folder and links begin elsewhere; `way` leads to where they began."""
    if way == ".":
        return dict(instance)
    folder = instance["folder"]
    return {
        **instance,
        "folder": f"{way}/{folder}" if folder and not Path(folder).is_absolute() else folder,
        "links": {
            name: href if href.startswith("file:") else f"{quote(way)}/{href}"
            for name, href in instance["links"].items()
        },
        "flows": [_moved(flow, way) for flow in instance["flows"]],
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        twin = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        raise DuctaflowError(f"{file} cannot be read as the JSON of a report: {exc}", hint=_HINT) from exc
    if not isinstance(twin, dict) or twin.get("schema") != SCHEMA or not _is_whole(twin):
        raise DuctaflowError(f"{file} is not the JSON of a report of schema {SCHEMA}", hint=_HINT)
    return twin


#: What a merge itself looks at; a twin of an older version lacks some of it.
_FIELDS = ("id", "status", "earlier", "worker", "finished", "folder", "links", "flows", "upstreams", "config")


def _is_whole(twin: Mapping[str, Any]) -> bool:
    head = all(key in twin for key in ("session_id", "started", "finished", "project"))
    return head and all(key in instance for instance in twin.get("instances", ()) for key in _FIELDS)
