"""What the commands that look at runs say: `ductaflow status`, `logs`, `show`, and what `debug` prepares.

They read what lies in run folders and run nothing. Each gives lines of text.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ductaflow.cli.statuses import LAST_STATUSES, colour_of, rank_of
from ductaflow.common.errors import DuctaflowError, SourceLine, of_system, source_lines
from ductaflow.common.paths import ROOT_KEY, RunFolder
from ductaflow.common.terminal import Line
from ductaflow.common.text import (
    clean,
    duration,
    first_line,
    in_numbers,
    number,
    shown_path,
    size,
    strip_ansi,
)
from ductaflow.project.instances import Instance, Instances
from ductaflow.project.options import load_saved_config
from ductaflow.project.orphans import Orphans
from ductaflow.project.secrets import masked
from ductaflow.project.settings import Project
from ductaflow.report.history import KeptNumbers
from ductaflow.session.debug import in_workspace
from ductaflow.session.last_runs import NOT_JUDGED, LastRun, last_runs
from ductaflow.session.leftovers import Leftover
from ductaflow.store.causes import origin_of, root_of
from ductaflow.store.expected import difference_lines
from ductaflow.store.logs import is_warning_line, log_lines
from ductaflow.store.metrics import read_metrics
from ductaflow.store.result import FileEntry, Result, read_result

#: Warnings and files that `show` names; the result has all.
MAX_SHOWN = 20
LAUNCH_FILE = Path(".vscode", "launch.json")


def _log_of(files: RunFolder) -> Path | None:
    """The log of the last run, as a notebook or as a script; None if there is none."""
    logs = [path for path in (files.log, files.cli_log) if path.exists()]
    return max(logs, key=lambda path: path.stat().st_mtime_ns, default=None)


# --- status ------------------------------------------------------------------------------------------------


def orphan_lines(instances: Instances) -> Iterator[str]:
    """Lines about the run folders of nothing that is stored, apart from what is; none without any."""
    if orphans := list(Orphans(instances.project, instances.by_id)):
        yield ""
        yield "Not stored and not counted above; ductaflow clean moves such run folders away:"
        shown = last_runs(instances.project, orphans[:MAX_SHOWN])
        yield from _lines_of_rows(shown, "orphan      ")
        yield from _first([], len(orphans))


def worst_first(found: Iterable[LastRun]) -> list[LastRun]:
    """The last runs, those that need a person first; otherwise as they were."""
    return sorted(found, key=lambda row: rank_of(row.status, LAST_STATUSES))


def status_lines(found: Sequence[LastRun]) -> Iterator[str]:
    """One line each: status, name, when, seconds, message; then the counts."""
    yield from _lines_of_rows(found)
    counts = Counter(row.status for row in found)
    yield in_numbers(counts, LAST_STATUSES) or "no instance"


def _lines_of_rows(found: Sequence[LastRun], before: str = "") -> Iterator[Line]:
    width = max((len(row.name) for row in found), default=0)
    for row in found:
        seconds = duration(row.seconds) if row.seconds else ""
        root = root_of(row.result) if row.result and row.is_error else None
        said, when = root.line if root else first_line(row.message, None), _local(row.moment)
        rest = f"  {row.name:<{width}}  {when:<16}  {seconds:>11}  {said}".rstrip()
        yield Line(f"{row.status:<10}", colour_of(row.status), rest, before)


def _local(moment: str | None) -> str:
    """A moment of a record, UTC there, as the clock of this place shows it."""
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")


# --- logs --------------------------------------------------------------------------------------------------


def log_texts(
    seen: Sequence[Instance], *, warnings: bool = False, errors: bool = False, pattern: str | None = None
) -> Iterator[str]:
    """The logs, or what is asked for of them, line by line.

    Args:
        seen: whose; with several, each log is under a heading.
        warnings: only warning lines, as `path:line: text`.
        errors: only why runs failed: message and traceback. With `warnings`, both.
        pattern: only lines that this regular expression finds something in.

    Raises:
        DuctaflowError: the expression is wrong; or, after all that can be read, what cannot.
    """
    try:
        wanted = re.compile(pattern) if pattern is not None else None
    except re.error as exc:
        raise DuctaflowError(
            f"--grep {pattern} is not a regular expression: {exc}",
            hint="Put \\ before signs such as ( [ * + ?",
        ) from exc
    whole = not (warnings or errors or wanted)
    unreadable = []
    for place, one in enumerate(seen):
        if whole and len(seen) > 1:
            yield ("\n" if place else "") + f"==> {one.shown} <=="
        try:
            if (whole or warnings or not errors) and (log := _log_of(one.run_folder)):
                yield from _lines_of(log, whole=whole, only_warnings=warnings, wanted=wanted)
            if errors:
                yield from _error_of(one, wanted)
        except OSError as exc:
            fault = of_system(exc, exc.filename, hint="Run the instance again.")
            unreadable.append(f"{fault.message}. {fault.hint}")
        except DuctaflowError as exc:
            unreadable.append(f"{exc.message}. {exc.hint}")
    if unreadable:
        raise DuctaflowError("\n".join(dict.fromkeys(unreadable)))


def _lines_of(
    log: Path, *, whole: bool, only_warnings: bool, wanted: re.Pattern[str] | None
) -> Iterator[str]:
    where = shown_path(log)
    for at, line in enumerate(log_lines(log), start=1):
        text = strip_ansi(line)
        if whole:
            yield text
        elif (not only_warnings or is_warning_line(line)) and (wanted is None or wanted.search(text)):
            yield f"{where}:{at}: {text}"


def _error_of(one: Instance, wanted: re.Pattern[str] | None) -> Iterator[str]:
    result = read_result(one.run_folder.path)
    if result is None or not result.status.is_error:
        return
    failure = origin_of(result).failure
    lines = strip_ansi(failure.traceback if failure else "").splitlines()
    if wanted:
        lines = [line for line in lines if wanted.search(line)]
        if not lines and not wanted.search(result.message):
            return
    yield f"==> {one.shown}: {_why(result)}"
    yield from lines


# --- clean -------------------------------------------------------------------------------------------------

_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def age_of(text: str | None) -> float:
    """Read an age such as `30d`, in seconds; 0 for None.

    Raises:
        DuctaflowError: it is none.
    """
    if text is None:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([mhdw])", text.strip())
    if not found:
        raise DuctaflowError(
            f"--older-than {text} is no age", hint="Write 30d, 12h, 90m or 2w: days, hours, minutes, weeks."
        )
    return float(found[1]) * _SECONDS[found[2]]


def leftover_lines(found: Sequence[Leftover]) -> Iterator[str]:
    """One line each: kind, name, size, when it was written to, folder; then how many, and how much."""
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        used = datetime.fromtimestamp(one.used).strftime("%Y-%m-%d %H:%M") if one.used else ""
        kept = f"  stays: {one.kept}" if one.kept else ""
        place = f"{shown_path(one.path)}{kept}"
        yield f"{one.kind:<8}  {one.name:<{width}}  {size(one.size):>7}  {used:<16}  {place}"
    counts = Counter(one.kind for one in found)
    total = size(sum(one.size for one in found))
    numbers = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    yield f"{numbers}, {total}" if found else "Nothing to take away."


# --- show --------------------------------------------------------------------------------------------------


def show_lines(project: Project, one: Instance) -> Iterator[str]:
    """All that is known of one: verdict, cause, config, inputs, outputs, warnings, paths, commands."""
    result = read_result(one.run_folder.path)
    row = last_runs(project, [one])[0]
    verdict = (row.status, _local(row.moment), duration(row.seconds) if row.seconds else "")
    yield f"{one.shown}: {'  '.join(filter(None, verdict))}"
    if result:
        yield from _cause(result)
        if not row.is_judged:
            yield f"  {NOT_JUDGED}: ductaflow run --changed {one.shown}"
        yield from _judgement(result)
        yield from _metrics(project, result)
    yield from _config(one)
    if result:
        yield from _files("inputs", result.inputs)
        yield from _files("outputs", result.outputs)
        yield from _section("flows", (_flow(one.run_folder.path / child) for child in result.children))
        lines = [f"{warning.line}: {warning.text}" for warning in result.warnings]
        yield from _section("warnings", _first(lines, result.warning_count))
    yield from _section("paths", _paths(one))
    yield from _section("commands", _commands(one))


def _why(result: Result) -> str:
    """Why a run is what it is, in a line; of a build by the flow that made it fail."""
    root = root_of(result) if result.status.is_error else None
    return root.line if root else first_line(result.message, None)


def _cause(result: Result) -> Iterator[str]:
    if why := _why(result):
        yield f"  {why}"
    failure = origin_of(result).failure
    if failure and failure.source:
        yield ""
        shown = (SourceLine(line=entry["line"], text=strip_ansi(entry["text"])) for entry in failure.source)
        yield from (f"  {line}" for line in source_lines(shown, failure.line))


def _judgement(result: Result) -> Iterator[str]:
    """How much was judged, or what is not as expected."""
    judged = result.judged
    if judged and not judged.differences and judged.metrics + judged.files:
        yield f"  {judged.summary}"
    yield from _section("not as expected", difference_lines(judged) if judged else ())


def _metrics(project: Project, result: Result) -> Iterator[str]:
    """The metrics of a run, and what is left out of its files since it is no metric."""
    last = KeptNumbers(project.runs_dir).before(result.id, result.session_id)
    before = last.numbers if last else {}
    width = max((len(clean(name)) for name in result.metrics), default=0)
    lines = []
    for name, value in result.metrics.items():
        is_other = last and name in before and before[name] != value
        was = f"  was {number(before[name])} on {_local(last.finished)}" if last and is_other else ""
        lines.append(f"{clean(name):<{width}}  {first_line(number(value))}{was}")
    files = {output["path"] for output in result.outputs}.intersection(project.settings.metrics)
    notes = read_metrics(result.folder, sorted(files)).notes if result.folder else []
    yield from _section("metrics", [*_first(lines, len(lines)), *map(clean, notes)])


def _config(one: Instance) -> Iterator[str]:
    if one.problem:
        yield from _section("config", str(one.problem).splitlines())
        return
    config = {key: value for key, value in one.config.items() if key != ROOT_KEY}
    text = json.dumps(masked(config), indent=2, ensure_ascii=False)
    stored = f" ({shown_path(one.file)})" if not one.saved else ""
    yield from _section(f"config{stored}", text.splitlines())
    if changed := changed_keys(one):
        yield f"  changed since the last run: {', '.join(changed)}"


def changed_keys(one: Instance) -> list[str]:
    """Top-level keys whose values are not those that the last run had."""
    if one.saved or not one.run_folder.config.is_file():
        return []
    saved = load_saved_config(one.run_folder.config, project_root=one.project.root)
    now, missing = one.config, object()
    keys = dict.fromkeys([*now, *saved])
    return [key for key in keys if key != ROOT_KEY and now.get(key, missing) != saved.get(key, missing)]


def _first(lines: Sequence[str], count: int) -> Iterator[str]:
    """The first lines of `count` in all, and how many more there are."""
    yield from lines[:MAX_SHOWN]
    if count > MAX_SHOWN:
        yield f"and {count - MAX_SHOWN} more"


def _files(title: str, files: Sequence[FileEntry]) -> Iterator[str]:
    lines = [f"{file['size']:>12,}  {file['path']}" for file in files]
    yield from _section(f"{title} (bytes, path)", _first(lines, len(lines)))


def _flow(folder: Path) -> str:
    try:
        result = read_result(folder)
    except DuctaflowError as exc:
        return f"unreadable  {shown_path(folder)}  {exc.message}"
    if result is None:
        return f"lost        {shown_path(folder)}"
    return f"{result.status:<10}  {shown_path(folder)}  {first_line(result.message, None)}".rstrip()


def _paths(one: Instance) -> Iterator[str]:
    files = one.run_folder
    named = {
        "source": one.source,
        "run folder": files.path,
        "log": _log_of(files),
        "notebook": files.notebook,
        "page": files.html,
        "saved config": files.config,
        "result": files.result,
    }
    return (f"{name:<14}{shown_path(path)}" for name, path in named.items() if path and path.exists())


def _commands(one: Instance) -> Iterator[str]:
    yield f"{'run again':<14}ductaflow run {one.shown}"
    if not one.saved:
        node = f'"{shown_path(one.file)}::{one.title}"'
        yield f"{'as a test':<14}pytest --ductaflow {node}"
        yield f"{'stop in it':<14}pytest --ductaflow --pdb {node}"
    yield f"{'debug':<14}ductaflow debug {one.shown}"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Indented lines under a title; without lines nothing."""
    lines = list(lines)
    if lines:
        yield ""
        yield title
        yield from (f"  {line}".rstrip() for line in lines)


# --- debug -------------------------------------------------------------------------------------------------


def offer_launch(project: Project, launch: Mapping[str, object]) -> Iterator[str]:
    """Write a launch configuration for VS Code where the project has none; else say what to add.

    A file that is there is a person's, with comments perhaps, and stays as it is.
    """
    file = project.root / LAUNCH_FILE
    launch = in_workspace(launch, project.root)
    name = json.dumps(launch["name"], ensure_ascii=False)
    try:
        file.parent.mkdir(exist_ok=True)
        with file.open("x", encoding="utf-8") as new:
            json.dump({"version": "0.2.0", "configurations": [launch]}, new, indent=2, ensure_ascii=False)
            new.write("\n")
        yield f"  VS Code   {shown_path(file)} is written: choose {name} under Run and Debug"
    except FileExistsError:
        if name in file.read_text(encoding="utf-8", errors="replace"):
            yield f"  VS Code   {shown_path(file)} has {name}: choose it under Run and Debug"
            return
        yield f'  VS Code   add this to "configurations" in {shown_path(file)}:'
        yield json.dumps(launch, indent=2, ensure_ascii=False)


def open_notebook(notebook: Path) -> None:
    """Open a notebook in Jupyter, and wait until the person leaves it.

    Raises:
        DuctaflowError: there is no Jupyter.
    """
    for name in ("jupyter-lab", "jupyter-notebook"):
        if command := shutil.which(name):
            subprocess.run([command, str(notebook)], check=False)
            return
    raise DuctaflowError(
        f"no Jupyter is installed to open {shown_path(notebook)}",
        hint="pip install jupyterlab, or open it in VS Code.",
    )
