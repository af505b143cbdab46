"""Twins of several sessions -> one twin: the shards of a CI run, each on a machine of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ductaflow.common.decode import UnreadableError, convert, read_json
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import REPORT_JSON, relative
from ductaflow.report.origin import add_origin, origin_of_all
from ductaflow.report.schema import SCHEMA, Head, InstanceTwin, Twin
from ductaflow.report.twin import Counted, fill_history, report_head

_HINT = f"Give the {REPORT_JSON} of each shard, as a session of this version wrote it."


class Merged(NamedTuple):
    """One report of several sessions.

    Attributes:
        twin: for `write_report` and `render_html`.
        is_whole: whether no shard is missing and every session ended.
    """

    twin: Twin
    is_whole: bool


class _Part(NamedTuple):
    """A session to merge: its twin and, for a shard, which one of which selection."""

    file: Path
    twin: Twin
    of: int = 0
    selection: str | None = None
    number: int = 0

    @property
    def name(self) -> str:
        return f"Shard {self.number}/{self.of}" if self.of else f"The session {self.twin['session_id']}"

    @property
    def identity(self) -> tuple[object, ...]:
        return (self.of, self.selection, self.number) if self.of else (self.twin["session_id"] or self.file,)


def merge_reports(files: Sequence[Path], runs_dir: Path) -> Merged:
    """Merge the reports of several sessions.

    An instance that several of them have is shown once: a run of the session before an earlier result, then
    the worst status, then the latest run. `notes` name a shard that is missing, one that is given twice
    (the latest counts), a session that did not end, and what cannot be read of a twin, and have the notes of
    the twins.

    Args:
        files: the JSON twins.
        runs_dir: the folder of the merged report; links lead from there to the files beside the twins.

    Raises:
        DuctaflowError: no file can be read as a twin, or one is of another project; it is named.
    """
    twins, faults = _read_all(files)
    given = _parts(twins)
    _check_project(given)
    parts = _once(given)
    chosen: dict[str, InstanceTwin] = {}
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
        Counter(map(Counted.of, instances)),
        session_id=" + ".join(dict.fromkeys(part.twin["session_id"] for part in parts)),
        started=min(part.twin["started"] for part in parts),
        finished=max((part.twin["finished"] for part in parts if part.twin["finished"]), default=""),
        project_root=None,
    )
    missing = [*faults, *_missing(parts)]
    head["project"] = next((part.twin["project"] for part in parts if part.twin["project"]), None)
    add_origin(head, origin_of_all([part.twin for part in parts]))
    head["notes"] = [*missing, *_twice(given, parts), *_of_other_commits(parts), *_said(parts)]
    fill_history(head, runs_dir, instances)
    have_ended = all(part.twin["finished"] and not part.twin.get("alive") for part in parts)
    return Merged({**head, "instances": instances}, not missing and have_ended)


# --- which shards there are --------------------------------------------------------------------------------


def _parts(twins: Sequence[tuple[Path, Twin]]) -> list[_Part]:
    shards = [twin["shard"] for _, twin in twins]
    # A session that was killed may not know its selection; another shard of as many does.
    known = {shard["of"]: shard["selection"] for shard in shards if shard and shard["selection"]}
    return [
        _Part(file, twin, shard["of"], shard["selection"] or known.get(shard["of"]), shard["number"])
        if shard
        else _Part(file, twin)
        for (file, twin), shard in zip(twins, shards, strict=True)
    ]


def _check_project(parts: Sequence[_Part]) -> None:
    """Refuse another project. One selection is one project, whatever its folder is called."""
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
    """Keep each shard and each session once, the latest; in the order given."""
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


def _of_other_commits(parts: Sequence[_Part]) -> Iterator[str]:
    commits = [(part, commit) for part in parts if (commit := part.twin.get("commit"))]
    if len({commit for _, commit in commits}) > 1:
        listing = ", ".join(f"{part.file} of {commit[:10]}" for part, commit in commits)
        yield f"These are sessions of different commits: {listing}."


def _missing(parts: Sequence[_Part]) -> Iterator[str]:
    """Yield a note for each shard without a twin."""
    wholes: dict[tuple[int, str | None], list[_Part]] = {}
    for part in parts:
        if part.of:
            wholes.setdefault((part.of, part.selection), []).append(part)
    for (of, _), given in wholes.items():
        shards = [shard for part in given if (shard := part.twin["shard"])]
        expected = next((shard["not_empty"] for shard in shards if shard["not_empty"]), range(1, of + 1))
        for number in expected:
            if all(part.number != number for part in given):
                beside = ", ".join(str(part.file) for part in given)
                yield f"Shard {number}/{of} is missing, and so are its instances. It belongs to {beside}."


def _said(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if not part.twin["finished"]:
            yield f"The session of {part.file} did not end: what it had not run yet is shown as not run."
        for note in part.twin["notes"]:
            yield f"{part.file}: {note}"


# --- their instances ---------------------------------------------------------------------------------------


def _rank(instance: InstanceTwin) -> tuple[bool, int, str]:
    status = instance["status"]
    return not instance["earlier"], status.severity if status.has_run else -1, instance["finished"] or ""


def _moved(instance: InstanceTwin, way: str) -> InstanceTwin:
    """Move the folder and links of an instance; `way` leads to where they began."""
    if way == ".":
        return {**instance}
    folder = instance["folder"]
    moved: InstanceTwin = {**instance}
    if bundle := instance.get("bundle"):
        held = {path: f"{quote(way)}/{href}" for path, href in bundle["held"].items()}
        moved["bundle"] = {**bundle, "held": held}
    return {
        **moved,
        "folder": f"{way}/{folder}" if folder and not Path(folder).is_absolute() else folder,
        "links": {
            name: href if href.startswith("file:") else f"{quote(way)}/{href}"
            for name, href in instance["links"].items()
        },
        "flows": [_moved(flow, way) for flow in instance["flows"]],
    }


class _File(Head):
    """A twin whose instances are not checked yet."""

    instances: list[object]


def _read_all(files: Sequence[Path]) -> tuple[list[tuple[Path, Twin]], list[str]]:
    """Read what can be read of the twins, and what is wrong with the rest of them."""
    twins, faults, lost = [], [], []
    for file in files:
        try:
            twin, unread = read_twin(file)
        except DuctaflowError as exc:
            lost.append(exc)
            faults.append(f"{exc.message}. Its instances are missing.")
        else:
            twins.append((file, twin))
            faults += unread
    if lost and not twins:
        raise lost[0]
    return twins, faults


def read_twin(file: Path) -> tuple[Twin, list[str]]:
    """Read a twin, and what is wrong with instances that are left out.

    Raises:
        DuctaflowError: it is not there, or not the twin of a report.
    """
    found = read_json(file, _File, hint=_HINT)
    if found is None:
        raise DuctaflowError(f"{file}: there is no such file", hint=_HINT)
    if found["schema"] != SCHEMA:
        raise DuctaflowError(f"{file} is not the JSON of a report of schema {SCHEMA}", hint=_HINT)
    instances, faults = [], []
    for number, each in enumerate(found["instances"], start=1):
        try:
            instances.append(convert(each, InstanceTwin, where=f"{file}, instance {number}"))
        except UnreadableError as exc:
            faults.append(f"{exc.message}. The instance is left out.")
    return {**found, "instances": instances}, faults
