"""Results -> the JSON twin (`schema`). Knows nothing of HTML; reads run folders and never runs or judges."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import quote

from ductaflow.common.paths import RESULT, RunFolder, relative
from ductaflow.common.text import cut_middle, iso_moment
from ductaflow.project.settings import Project
from ductaflow.report.before import NO_RUN, GoodRunsBefore
from ductaflow.report.cause_groups import find_causes
from ductaflow.report.configs import Configs
from ductaflow.report.excerpts import GOOD_LOG_END, LOG_END, log_parts
from ductaflow.report.figures import NO_FIGURES, FigureBudget, figures_of
from ductaflow.report.history import newly_red, read_history
from ductaflow.report.origin import add_origin
from ductaflow.report.past import Past
from ductaflow.report.schema import SCHEMA, Head, InstanceTwin, JudgedTwin, Origin, ResultTwin, Twin
from ductaflow.report.since_good import since_good
from ductaflow.store.result import Judged, Metric, Result, Status, readable_result, recorded_result

MAX_TEXT = 20_000
MAX_LINE = 2_000
#: Builds inside builds deeper than this are shown without their flows.
MAX_DEPTH = 20
#: Files that an instance lists as read or written, metrics, what is not as expected, and upstreams.
MAX_FILES = 100
MAX_METRICS = 100
MAX_DIFFERENCES = 40
MAX_UPSTREAMS = 100
#: Message of an instance that waits for its turn.
NOT_YET = "has not run yet"


@dataclass(frozen=True)
class Entry:
    """One instance of a report.

    Attributes:
        result: what came of it; `result.folder` is the run folder. An instance that did not run in this
            session is a Result with status blocked or not_run and a message; or with status unchanged, and
            the rest is read from its folder.
        nodeid: its pytest node id, if it has one.
        earlier: this session did not touch it; the result is from an earlier one.
        parameters: the values of a conductor besides status and message.
        tags: of its `_run`.
        upstreams: ids of the instances that it reads from.
        worker: the worker that ran it, if the session has several.
        is_stored: it is known to be stored, so that its id is enough to run it.
        config: what is stored, for an instance that did not run.
        orphan: no instance of that id is stored.
        fails: why its test fails although its run is good.
    """

    result: Result
    nodeid: str | None = None
    earlier: bool = False
    parameters: Mapping[str, object] | None = None
    tags: Sequence[str] = ()
    upstreams: Sequence[str] = ()
    worker: str | None = None
    is_stored: bool = False
    config: Mapping[str, object] | None = None
    orphan: bool = False
    fails: str = ""


class Counted(NamedTuple):
    """What the counts of a report depend on in an instance."""

    status: Status
    earlier: bool
    orphan: bool
    fails: bool

    @classmethod
    def of(cls, instance: InstanceTwin) -> Counted:
        """Return what counts of an instance of the twin."""
        facts = bool(instance.get("orphan")), bool(instance.get("fails"))
        return cls(Status(instance["status"]), instance["earlier"], *facts)


class Sources:
    """Where a report finds configs and figures, and how much room there is for them.

    Args:
        runs_dir: the folder in which the page lies; folders and links are relative to it.
        project_root: where sources and stored instances are, if it is known.
    """

    def __init__(self, runs_dir: Path, project_root: Path | None) -> None:
        self.runs_dir = runs_dir
        self.project = Project.at(project_root) if project_root else None
        self.configs = Configs(self.project.config_dir if self.project else None)
        self.before = GoodRunsBefore(runs_dir)
        self.figures = FigureBudget()


def build_report(
    entries: Iterable[Entry],
    *,
    session_id: str,
    started: str,
    finished: str | None,
    runs_dir: Path,
    project_root: Path | None = None,
    origin: Origin | None = None,
) -> Twin:
    """Build the whole report as JSON values, instances in the order given.

    Args:
        entries: the instances, also those of earlier sessions (`iter_earlier`).
        session_id: of the session that makes the report.
        started, finished: UTC in ISO 8601; `finished` is None while the session runs.
        runs_dir: the folder in which the page lies; folders and links are relative to it.
        project_root: gives the page its name, and the configs their bases.
        origin: where the session comes from.
    """
    sources = Sources(runs_dir, project_root)
    instances = [instance_data(entry, sources) for entry in entries]
    head = report_head(
        Counter(map(Counted.of, instances)),
        session_id=session_id,
        started=started,
        finished=finished,
        project_root=project_root,
    )
    if origin:
        add_origin(head, origin)
    fill_history(head, runs_dir, instances)
    return {**head, "instances": instances}


def fill_history(head: Head, runs_dir: Path, instances: Sequence[InstanceTwin]) -> None:
    """Fill in causes, history, what came of each instance in it, and which errors are new."""
    head["history"], faults = read_history(runs_dir)
    past = Past(head["history"])
    for instance in instances:
        # Those of a twin that is merged are of the sessions there.
        instance.pop("past", None)
        if known := past.of(instance["id"]):
            instance["past"] = known
    head["notes"] += faults
    head["new"] = newly_red(red_ids(instances), head["session_id"], head["history"])
    head["causes"] = find_causes(instances)


def report_head(
    counted: Counter[Counted],
    *,
    session_id: str,
    started: str,
    finished: str | None,
    project_root: Path | None,
) -> Head:
    """Return the report without its instances; `counted` has how many there are of each kind.

    The caller fills in `alive`, `shard`, `new`, `causes` and `history`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for one, count in counted.items():
        scope = "session" if not one.earlier else "orphan" if one.orphan else "earlier"
        counts[one.status, scope] += count
        counts["", "failing"] += count if one.fails else 0
    return {
        "schema": SCHEMA,
        "session_id": session_id,
        "started": started,
        "finished": finished,
        "project": project_root.absolute().name if project_root else None,
        "alive": None,
        "shard": None,
        "notes": [],
        "summary": {status.value: counts[status.value, "session"] for status in Status},
        "earlier_summary": {status.value: counts[status.value, "earlier"] for status in Status},
        "orphan_summary": {status.value: counts[status.value, "orphan"] for status in Status},
        "failing": counts["", "failing"],
        "new": [],
        "causes": [],
        "history": [],
    }


def red_ids(instances: Iterable[InstanceTwin]) -> list[str]:
    """Return the ids of the instances that failed in this session."""
    return [each["id"] for each in instances if Status(each["status"]).is_error and not each["earlier"]]


def read_run(folder: Path) -> Result:
    """Read the result of a run folder. A missing or unreadable one gives a result with status error."""
    missing = f"{folder / RESULT} is missing: the run was removed or did not finish"
    return recorded_result(folder, otherwise=missing)


# --- one instance ------------------------------------------------------------------------------------------


def instance_data(entry: Entry, sources: Sources) -> InstanceTwin:
    """One instance of the JSON twin: its result, what its run folder holds, and the flows of a build."""
    result = entry.result
    rerun = _rerun(entry, sources.project)
    # Only builds need the real path, which costs a look at each folder above.
    above = frozenset([_true(result.folder)]) if result.folder and result.children else frozenset[Path]()
    return _instance(entry, sources, rerun, above)


def _instance(
    entry: Entry, sources: Sources, rerun: str, above: frozenset[Path], *, nested: bool = False
) -> InstanceTwin:
    former, runs_dir = _former(entry.result), sources.runs_dir
    result = replace(former, status=entry.result.status) if former else entry.result
    folder = None if result.folder is None else RunFolder(result.folder, result.flow)
    # The folder of an instance that did not run has what an earlier session left.
    could_start = bool(result.run_id) or result.cause != "input"
    ran = folder if result.status.has_run and could_start else None
    log = _log_of(ran) if ran else None
    is_good = not (former or result).status.needs_attention
    before = sources.before.of(result, ran, nested=nested) if ran else NO_RUN
    configs = sources.configs.of(result, ran, entry.config, before, stored=not nested)
    metrics = dict([*result.metrics.items()][:MAX_METRICS])
    lists = {
        **_first(result, "inputs"),
        **_first(result, "outputs"),
        "metrics": metrics,
        "metrics_left_out": len(result.metrics) - len(metrics),
        "metrics_before": _otherwise(result.metrics, before.metrics),
        "judged": _judged(result.judged),
    }
    fields = {**result.to_dict(), **lists}
    # The lineage is as long as the files that were read are many; `ductaflow why` reads it.
    del fields["lineage"]
    record = cast(ResultTwin, json_value(fields))
    fields = {
        **record,
        "status": result.status,
        "id": result.id if result.flow else result.instance,
        "nodeid": entry.nodeid,
        "earlier": entry.earlier,
        "former_status": former.status if former else None,
        "folder": None if folder is None else relative(folder.path, runs_dir),
        "parameters": cast(dict[str, object], json_value(entry.parameters or {})),
        "tags": list(entry.tags),
        "upstreams": list(entry.upstreams[:MAX_UPSTREAMS]),
        "worker": entry.worker,
        "rerun": rerun,
        "debug": f"ductaflow debug {shlex.quote(result.id)}" if entry.nodeid else None,
        "orphan": entry.orphan,
        "fails": entry.fails,
        "links": _links(ran, log, runs_dir) if ran else {},
        **log_parts(log, GOOD_LOG_END if is_good else LOG_END, (warning.line for warning in result.warnings)),
        **configs,
        "target": relative(folder.path, sources.project.root)
        if nested and folder and sources.project
        else "",
        "since_good": since_good(
            _with_lineage(result) if before.result else result,
            before,
            configs["config"],
            configs["good_config"],
        ),
        **(figures_of(ran.notebook, sources.figures, is_good=is_good) if ran else NO_FIGURES),
        "flows": [],
    }
    data = cast(InstanceTwin, fields)
    if ran:
        data["flows"] = [_flow(ran.path / child, entry, sources, rerun, above) for child in result.children]
    return data


def _former(result: Result) -> Result | None:
    """Return the last run of an unchanged instance from its folder; None for all others."""
    if result.status is not Status.UNCHANGED or result.folder is None:
        return None
    if result.former_status:
        return replace(result, status=result.former_status)
    former = read_run(result.folder)
    # There may be none: a person's own conductor may call anything unchanged.
    return replace(former, flow=result.flow, instance=result.instance) if former.finished else None


def _with_lineage(result: Result) -> Result:
    """Return a run with its lineage, which sessions leave in the run folder."""
    if result.lineage is not None or not result.is_complete or result.folder is None:
        return result
    recorded = readable_result(result.folder)
    is_it = recorded is not None and recorded.run_id == result.run_id
    return replace(result, lineage=recorded.lineage) if recorded and is_it else result


def _first(result: Result, name: str) -> dict[str, object]:
    """Return the files that a run read or wrote, as many as are listed, and the number of others."""
    files = getattr(result, name)
    return {name: files[:MAX_FILES], f"{name}_left_out": max(0, len(files) - MAX_FILES)}


def _otherwise(metrics: Mapping[str, Metric], before: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the metrics before that a run has otherwise, or not at all; none of a run without metrics."""
    if not metrics:
        return {}
    gone = object()
    other = [(name, value) for name, value in before.items() if metrics.get(name, gone) != value]
    return dict(other[:MAX_METRICS])


def _judged(judged: Judged | None) -> JudgedTwin | None:
    if judged is None:
        return None
    shown = asdict(replace(judged, differences=judged.differences[:MAX_DIFFERENCES]))
    # Whether it still holds is for those who judge.
    del shown["key"]
    left_out = max(0, len(judged.differences) - MAX_DIFFERENCES)
    facts = {
        "summary": judged.summary,
        "differing": judged.differing,
        "differences_left_out": left_out,
        "is_acceptable": judged.is_acceptable,
    }
    return cast(JudgedTwin, {**shown, **facts})


def _flow(folder: Path, build: Entry, sources: Sources, rerun: str, above: frozenset[Path]) -> InstanceTwin:
    """Return a flow of a build. It runs again with its build, by the same command."""
    true_folder = _true(folder)
    if true_folder in above or len(above) > MAX_DEPTH:
        problem = "is a flow of itself" if true_folder in above else f"lies deeper than {MAX_DEPTH} builds"
        message = f"{folder} {problem}, so it is not shown"
        result = Result(folder.parent.name, folder.name, "flow", Status.ERROR, "lost", message)
    else:
        result = read_run(folder)
    entry = Entry(result, earlier=build.earlier, orphan=build.orphan)
    return _instance(entry, sources, rerun, above | {true_folder}, nested=True)


def _true(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, ValueError, RuntimeError):  # a loop of links, or no name for a file at all
        return folder.absolute()


def _rerun(entry: Entry, project: Project | None) -> str:
    result = entry.result
    if entry.is_stored:
        # What blocks it, or is missing, has to run before it.
        lacks = result.status is Status.BLOCKED or (result.cause == "input" and not result.run_id)
        return f"ductaflow run {'--upstream ' if lacks and entry.upstreams else ''}{shlex.quote(result.id)}"
    if entry.nodeid:
        return f"pytest --ductaflow {shlex.quote(entry.nodeid)}"
    script = _as_script(result, project) if project else None
    return script or f"pytest --ductaflow -k {shlex.quote(result.instance)}"


def _as_script(result: Result, project: Project) -> str | None:
    """Return the command that runs a saved config again in its folder, for runs that are not stored."""
    if result.folder is None:
        return None
    source = project.source_dir(result.kind) / f"{result.flow}.py"
    config = RunFolder(result.folder, result.flow).config
    if not (os.path.isfile(source) and os.path.isfile(config)):
        return None
    program, saved, folder = (relative(path, project.root) for path in (source, config, result.folder))
    return shlex.join(["python", program, "--config", saved, "--output-dir", folder])


def _log_of(folder: RunFolder) -> Path | None:
    # A flow may have put anything under these names; opening a pipe would wait without end.
    return next((path for path in (folder.log, folder.cli_log) if os.path.isfile(path)), None)


def _links(folder: RunFolder, log: Path | None, runs_dir: Path) -> dict[str, str]:
    files = {"notebook": folder.notebook, "html": folder.html, "log": log, "config": folder.config}
    found = {name: path.name for name, path in files.items() if path and os.path.isfile(path)}
    if not found:
        return {}  # the name of a folder that is none may be no name of a file
    place = relative(folder.path, runs_dir)
    way = f"file:///{_quoted(place.lstrip('/'))}" if Path(place).is_absolute() else _quoted(place)
    return {name: f"{way}/{_quoted(own)}" for name, own in found.items()}


def _quoted(path: str) -> str:
    """Percent-encode a part of a link; undecodable bytes of a name are kept."""
    return quote(os.fsencode(path))


# --- texts, bounded ----------------------------------------------------------------------------------------


def json_value(value: object, *, depth: int = 0) -> object:
    """Turn any value into a JSON value that every reader accepts: finite, bounded, keys as text."""
    if type(value) is str and len(value) <= MAX_LINE:
        return value  # most are, and there are many
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        limit = MAX_TEXT if "\n" in value else MAX_LINE
        return cut_middle(str(value), limit)
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            return {
                cut_middle(str(key), 200): json_value(item, depth=depth + 1) for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [json_value(item, depth=depth + 1) for item in value]
    if getattr(value, "shape", None) == () and type(value).__module__ == "numpy":
        scalar = getattr(value, "item", str)()
        if isinstance(scalar, bool | int | float | str):
            return json_value(scalar)
    return cut_middle(str(value), MAX_LINE)


def utc_now() -> str:
    """Return the current time as results have it."""
    return iso_moment(datetime.now(UTC))
