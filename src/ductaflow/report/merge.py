"""Twins of several sessions -> one twin: the shards of a CI run, each on a machine of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import relative
from ductaflow.report.cause_groups import find_causes
from ductaflow.report.history import newly_red, read_history
from ductaflow.report.twin import SCHEMA, red_ids, report_head
from ductaflow.store.result import Status

_HINT = "Give the conductor_status_report.json of each shard, as a session of this version wrote it."


class Merged(NamedTuple):
    """One report of several sessions.

    Attributes:
        twin: for `write_report` and `render_html`.
        is_whole: whether no shard is missing and every session ended.
    """

    twin: dict[str, Any]
    is_whole: bool


class _Part(NamedTuple):
    """A session that is merged: its twin, and whose share of what it is, if it is a shard of one."""

    file: Path
    twin: dict[str, Any]
    of: int = 0
    selection: str | None = None
    number: int = 0

    @property
    def name(self) -> str:
        return f"Shard {self.number}/{self.of}" if self.of else f"The session {self.twin['session_id']}"

    @property
    def identity(self) -> tuple[object, ...]:
        return (self.of, self.selection, self.number) if self.of else (self.twin["session_id"] or self.file,)

    @property
    def has_ended(self) -> bool:
        return bool(self.twin["finished"]) and not self.twin.get("alive")


def merge_reports(files: Sequence[Path], runs_dir: Path) -> Merged:
    """One report of several sessions.

    An instance that several of them have is shown once: as it ran rather than as an earlier result, then by
    the worst status, then by the latest run. `notes` name a shard that is missing, one that is given twice
    (the latest counts), and a session that did not end, and have the notes of the twins.

    Args:
        files: the JSON twins.
        runs_dir: where the merged report is to lie; links are made to lead from there to the files as they
            lie beside the twins.

    Raises:
        DuctaflowError: a file is not readable as a twin, or is of another project; it is named.
    """
    given = _parts(files)
    _check_project(given)
    parts = _once(given)
    chosen: dict[str, dict[str, Any]] = {}
    for number, part in enumerate(parts, start=1):
        for instance in part.twin["instances"]:
            moved = _moved(instance, relative(part.file.parent, runs_dir))
            if not moved["earlier"]:
                moved["worker"] = f"{number}:{moved['worker'] or 'main'}"
            other = chosen.get(moved["id"])
            if other is None or _rank(moved) > _rank(other):
                chosen[moved["id"]] = moved
    instances = list(chosen.values())
    head = report_head(
        ((instance["status"], instance["earlier"]) for instance in instances),
        session_id=" + ".join(dict.fromkeys(part.twin["session_id"] for part in parts)),
        started=min(part.twin["started"] for part in parts),
        finished=max((part.twin["finished"] for part in parts if part.twin["finished"]), default=""),
        project_root=None,
    )
    history = read_history(runs_dir)
    missing = list(_missing(parts))
    head |= {
        "project": next((part.twin["project"] for part in parts if part.twin["project"]), None),
        "notes": [*missing, *_twice(given, parts), *_said(parts)],
        "new": newly_red(red_ids(instances), head["session_id"], history),
        "causes": find_causes(instances),
        "history": history,
    }
    return Merged({**head, "instances": instances}, not missing and all(part.has_ended for part in parts))


# --- which shards there are --------------------------------------------------------------------------------


def _parts(files: Sequence[Path]) -> list[_Part]:
    twins = [_read(file) for file in files]
    shards = [twin.get("shard") for twin in twins]
    # A session that was killed may not know of what selection it is: of that which another one knows.
    known = {shard["of"]: shard["selection"] for shard in shards if shard and shard["selection"]}
    return [
        _Part(file, twin, shard["of"], shard["selection"] or known.get(shard["of"]), shard["number"])
        if shard
        else _Part(file, twin)
        for file, twin, shard in zip(files, twins, shards, strict=True)
    ]


def _check_project(parts: Sequence[_Part]) -> None:
    """Refuse what is of another project. A selection is of one project, whatever its folder is called."""
    first = next((part for part in parts if part.twin["project"]), None)
    for part in parts:
        project = part.twin["project"]
        if first is None or not project or project == first.twin["project"]:
            continue
        if part.selection is None or (part.of, part.selection) != (first.of, first.selection):
            raise DuctaflowError(
                f"{part.file} is of the project {project}, {first.file} of {first.twin['project']}",
                hint="Merge the reports of each project by themselves.",
            )


def _once(parts: Sequence[_Part]) -> list[_Part]:
    """Each shard and each session once, the latest; in the order given."""
    latest: dict[tuple[object, ...], _Part] = {}
    for part in parts:
        other = latest.get(part.identity)
        if other is None or part.twin["started"] > other.twin["started"]:
            latest[part.identity] = part
    return [part for part in parts if latest[part.identity] is part]


def _twice(given: Sequence[_Part], parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        others = [other for other in given if other is not part and other.identity == part.identity]
        if others:
            left_out = ", ".join(str(other.file) for other in others)
            yield f"{part.name} is given more than once: {part.file} counts, not {left_out}."


def _missing(parts: Sequence[_Part]) -> Iterator[str]:
    """What to say of shards of which there is no twin."""
    wholes: dict[tuple[int, str | None], list[_Part]] = {}
    for part in parts:
        if part.of:
            wholes.setdefault((part.of, part.selection), []).append(part)
    for (of, _), given in wholes.items():
        expected = next(
            (part.twin["shard"]["not_empty"] for part in given if part.twin["shard"]["not_empty"]),
            range(1, of + 1),
        )
        for number in expected:
            if all(part.number != number for part in given):
                beside = ", ".join(str(part.file) for part in given)
                yield f"Shard {number}/{of} is missing, and so are its instances. It belongs to {beside}."


def _said(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if not part.twin["finished"]:
            yield f"The session of {part.file} did not end: what it had not run yet is shown as not run."
        for note in part.twin.get("notes", ()):
            yield f"{part.file}: {note}"


# --- their instances ---------------------------------------------------------------------------------------


def _rank(instance: Mapping[str, Any]) -> tuple[bool, int, str]:
    status = Status(instance["status"])
    return not instance["earlier"], status.severity if status.has_run else -1, instance["finished"] or ""


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


_SHARD = ("number", "of", "not_empty", "selection")


def _is_whole(twin: Mapping[str, Any]) -> bool:
    head = all(key in twin for key in ("session_id", "started", "finished", "project"))
    shard = twin.get("shard") or dict.fromkeys(_SHARD)
    whole = head and isinstance(shard, dict) and all(key in shard for key in _SHARD)
    return whole and all(key in instance for instance in twin.get("instances", ()) for key in _FIELDS)
