"""The report of a conductor: Results and dicts of its own -> entries -> the page.

A dict may have any keys. The keys below have a meaning, the first that is given counts; every other one is
shown as a parameter of the scenario.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.paths import LOGS, RESULT
from ductaflow.common.renamed import also_named
from ductaflow.common.text import strip_ansi
from ductaflow.project.secrets import masked
from ductaflow.project.settings import Project
from ductaflow.report.earlier import iter_earlier
from ductaflow.report.origin import origin_here
from ductaflow.report.page import render_html
from ductaflow.report.stored import Stored
from ductaflow.report.twin import Entry, build_report, json_value, utc_now
from ductaflow.store.logs import LogScan, log_lines, scan_log
from ductaflow.store.result import SCHEMA, Result, Status, read_result, status_named, worst

_NAME = ("scenario", "instance", "instance_name", "name", "id")
_FLOW = ("build", "flow")
_FOLDER = ("folder", "execution_dir", "run_folder")
_MESSAGE = ("error", "message")
#: Durations and how many seconds their unit has.
_DURATION = {"seconds": 1.0, "duration_seconds": 1.0, "duration": 1.0, "duration_minutes": 60.0}
_TIMES = ("started", "finished")
#: Logs of a folder without result that are looked at: how many, and down to which depth
#: (`<build's run folder>/runs/<flow instance>/<log>` is the third).
_MAXLOGS = 50
_LOG_DEPTH = 4


@also_named(model_root="runs_root")
def generate_status_report(results: Iterable[Result | Mapping[str, object]], runs_root: Path) -> str:
    """Make the status page of a conductor, to be written to `runs_root/conductor_status_report.html`.

    A result is a `Result` or a dict of the conductor's own. These keys of a dict have a meaning, all are
    optional: `scenario` (or `instance`, `name`), `build` (or `flow`), `status`, `error` (or `message`),
    `duration_minutes` (or `seconds`), `folder` (or `execution_dir`), `started`, `finished`; all others are
    shown as parameters, values of keys that look like passwords masked.

    The run folder of a dict is the one it names, or `<runs_root>/<build>/<scenario>`, or the only
    `<runs_root>/*/<scenario>`. What lies there is shown too, and the worse of the dict's status and the
    recorded one counts, so the page shows a failure that a conductor overlooks. An unknown word for a status
    counts as an error and is shown as given. Without a status the folder decides, by its result or its
    logs; without a folder the scenario counts as not run.

    Other instances below `runs_root` are shown with their last result, as earlier ones.

    Args:
        results: one for each scenario, in any state.
        runs_root: the folder of all runs, usually `Path("runs")`; links are relative to it.

    Returns:
        One HTML page in ASCII, so it can be written with any encoding.

    Example:
        >>> runs = Path("runs")
        >>> results = [{"scenario": "scenario_A", "build": "fit", "status": "success"}]
        >>> page = generate_status_report(results, runs)
        >>> (runs / "conductor_status_report.html").write_text(page) == len(page)
        True
    """
    runs_root = Path(runs_root)
    entries = [_entry(result, runs_root) for result in results]
    touched = {entry.result.id for entry in entries}
    entries += iter_earlier(runs_root, skip=touched)
    project = Project.around(runs_root) or Project.at(runs_root.absolute().parent)
    if project.is_there:
        entries = [*map(Stored.of(project).with_facts, entries)]
    now = utc_now()
    mine = [entry.result for entry in entries if not entry.earlier]
    data = build_report(
        entries,
        session_id=next((result.session_id for result in mine if result.session_id), os.urandom(16).hex()),
        started=min((result.started for result in mine if result.started), default=now),
        finished=now,
        runs_dir=runs_root,
        project_root=project.root,
        origin=origin_here(project.root),
    )
    return render_html(data)


def _entry(result: Result | Mapping[str, object], runs_root: Path) -> Entry:
    if isinstance(result, Result):
        if result.folder is None and os.path.isdir(folder := runs_root / result.flow / result.instance):
            result = replace(result, folder=folder)
        return Entry(result)
    if result.get("schema") == SCHEMA:
        try:
            return _entry(Result.from_dict(result), runs_root)
        except DuctaflowError:
            pass  # a conductor's dict that has a key `schema` of its own
    return _from_dict(result, runs_root)


def _from_dict(given: Mapping[str, object], runs_root: Path) -> Entry:
    """Make an entry of a conductor's own dict."""
    name, flow = _text(given, _NAME), _text(given, _FLOW)
    if not flow and name.count("/") == 1:
        flow, name = name.split("/")
    folder = _folder(given, flow, name, runs_root)
    if folder is not None:
        name = name or folder.name
        flow = flow or (folder.parent.name if folder.parent.absolute() != runs_root.absolute() else "")
    word, message = given.get("status"), _text(given, _MESSAGE)
    recorded = _recorded(folder, flow, name, trusted=not _is_none(word))
    status, odd = _status(word, message, recorded)
    base = recorded or Result(flow, name or "(no name)", "flow", status, folder=folder)
    return Entry(
        replace(
            base,
            status=status,
            message=message or odd or base.message,
            seconds=_seconds(given, base.seconds),
            started=_text(given, _TIMES[:1]) or base.started,
            finished=_text(given, _TIMES[1:]) or base.finished,
        ),
        parameters=_parameters(given),
    )


def _text(given: Mapping[str, object], keys: Iterable[str]) -> str:
    """Return the first of some keys that has a value, as text. A DataFrame has NaN for no value."""
    values = (given.get(key) for key in keys)
    return next((str(value) for value in values if not _is_none(value)), "")


def _is_none(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _seconds(given: Mapping[str, object], otherwise: float) -> float:
    for key, unit in _DURATION.items():
        value = json_value(given.get(key))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value) * unit
    return otherwise


def _status(word: object, message: str, recorded: Result | None) -> tuple[Status, str]:
    """Return the status of a dict, and a message for an unknown word."""
    if _is_none(word):
        if message:
            return Status.ERROR, ""
        return (recorded.status, "") if recorded else (Status.NOT_RUN, "no status was given")
    status = status_named(str(word))
    if status is None:
        return Status.ERROR, f"status {word!s} is not known; it counts as an error"
    if recorded and status.is_good:
        return worst([status, recorded.status]), ""
    return status, ""


def _parameters(given: Mapping[str, object]) -> dict[str, JsonValue]:
    known = {*_NAME, *_FLOW, *_FOLDER, *_MESSAGE, *_DURATION, *_TIMES, "status"}
    rest = {key: value for key, value in given.items() if key not in known and not _is_none(value)}
    return masked({key: json_value(value) for key, value in rest.items()})


# --- what lies on disk -------------------------------------------------------------------------------------


def _folder(given: Mapping[str, object], flow: str, name: str, runs_root: Path) -> Path | None:
    """Return the run folder of a dict, if it is known."""
    named = _text(given, _FOLDER)
    places = [Path(named), runs_root / named, runs_root.parent / named] if named else []
    is_name = bool(name) and not set(name) & set("/\\") and name not in (".", "..")
    if is_name and flow:
        places.append(runs_root / flow / name)
    found = next((place for place in places if os.path.isdir(place)), None)
    if found or flow or not is_name:
        return found
    # Of an unknown flow: the only folder of that name.
    candidates = [path for flows in runs_root.glob("[!.]*") if os.path.isdir(path := flows / name)]
    if os.path.isdir(runs_root / name) and any((runs_root / name).glob(LOGS)):
        candidates.append(runs_root / name)
    return candidates[0] if len(candidates) == 1 else None


def _recorded(folder: Path | None, flow: str, name: str, *, trusted: bool) -> Result | None:
    """Return the result in a run folder, otherwise one made of its logs; None if there is neither.

    `trusted`: the conductor says how the run ended, so a log without closing line is no proof of a failure.
    """
    if folder is None:
        return None
    try:
        result = read_result(folder)
    except DuctaflowError as exc:
        message = f"{folder / RESULT}: {exc}"
        return Result(flow, name, "flow", Status.ERROR, "lost", message, folder=folder)
    return result or _from_logs(folder, flow, name, trusted=trusted)


def _from_logs(folder: Path, flow: str, name: str, *, trusted: bool) -> Result | None:
    # Not `rglob`: a conductor may name its project or its home as the folder.
    found = itertools.chain.from_iterable(folder.glob("*/" * depth + LOGS) for depth in range(_LOG_DEPTH))
    logs = list(itertools.islice((path for path in found if os.path.isfile(path)), _MAXLOGS))
    if not logs:
        return None
    marks = [_marks(path) for path in logs]
    scans = [scan_log(path) for path in logs]
    count = sum(scan.warning_count for scan in scans)
    failed = next((failed for failed, _ in marks if failed), "")
    if not failed and not trusted and not all(ended for _, ended in marks):
        failed = f"there is no {RESULT}, and a log has no closing line"
    # Line numbers belong to one log; of several logs, only the count is known.
    scan = scans[0] if len(scans) == 1 else LogScan((), count)
    return Result(
        flow=flow,
        instance=name,
        kind="flow",
        status=Status.ERROR if failed else Status.WARNING if count else Status.SUCCESS,
        message=failed,
        warnings=scan.warnings,
        warning_count=count,
        folder=folder,
    )


def _marks(log: Path) -> tuple[str, bool]:
    """Return the first line of a log that reports a failure, and whether a line reports a completed run."""
    failed, ended = "", False
    for line in map(strip_ansi, log_lines(log)):
        ended = ended or "\u2705" in line[:15]
        if "\u274c" in line[:15]:
            failed = failed or line.strip()
    return failed, ended
