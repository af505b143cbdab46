"""`ductaflow ...`: lists, runs and prepares stored instances, and makes the report again.

Each command imports what it needs when it is called, so that the others do not wait for it.
"""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ductaflow.cli.completion import (
    SHELLS,
    complete_ids,
    complete_targets,
    complete_versions,
    completes_words,
    script_for,
)
from ductaflow.common.errors import DuctaflowError, of_system

if TYPE_CHECKING:
    from ductaflow.common.paths import Kind
    from ductaflow.project.instances import Instance, Instances
    from ductaflow.project.settings import Project
    from ductaflow.report.schema import Twin


#: Exit codes besides 0: a run failed, or a merged report is incomplete; the command cannot do what it is
#: asked; Ctrl-C.
FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130
NOTHING_STORED = "nothing is stored"
#: Failed instances that `run` names at its end.
MAX_NAMED = 10


class _Commands(click.Group):
    """The one place where errors become a message and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DuctaflowError as exc:
            _say(f"Error: {exc}", stream=sys.stderr)
            ctx.exit(UNUSABLE)
        except OSError as exc:
            if exc.filename is None:
                raise
            # a file or folder that is not as it has to be: whoever calls can see to it
            fault = of_system(exc, exc.filename, hint="See that you may read and write there.")
            _say(f"Error: {fault}", stream=sys.stderr)
            ctx.exit(UNUSABLE)
        except KeyboardInterrupt:
            _say("Interrupted.", stream=sys.stderr)
            ctx.exit(INTERRUPTED)


def _say(*lines: str, stream: TextIO | None = None) -> None:
    """Print lines, whatever characters they have and the console can show, in colours where it has some."""
    from ductaflow.common.terminal import Line, wants_colours
    from ductaflow.common.text import show_on_console, visible

    stream = stream or sys.stdout
    is_coloured = wants_colours(stream)
    for line in lines:
        text = line.painted(visible) if is_coloured and isinstance(line, Line) else visible(line)
        show_on_console(f"{text}\n", stream)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-ductaflow", prog_name="ductaflow")
def main() -> None:
    """Plain .py notebooks, run for many scenarios."""


def _last_statuses() -> Sequence[str]:
    from ductaflow.cli.statuses import LAST_STATUSES

    return LAST_STATUSES


def _would_statuses() -> Sequence[str]:
    from ductaflow.cli.statuses import WOULD_STATUSES

    return [status.replace(" ", "_") for status in WOULD_STATUSES]


_status_option = click.option(
    "--status",
    "statuses",
    metavar="STATUS,...",
    shell_complete=completes_words(_last_statuses),
    help="Only those whose last run has such a status: error, warning, lost, never, ...; red is error.",
)
_json_option = click.option("--json", "is_json", is_flag=True, help="Give records as JSON, for programs.")


def _language(language: str, is_json: bool, default: str) -> str:
    """Return the format to write; `--json` is short for `--format json`."""
    if is_json and language not in (default, "json"):
        raise click.UsageError(f"--json is --format json, and --format {language} is given too.")
    return "json" if is_json else language


_project_option = click.option(
    "--project",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of the project, which holds config/; by default the one around the working directory.",
)


def _project(folder: Path | None, targets: Sequence[str] = ()) -> Project:
    """The project given or around the working directory, else that around the first folder to run."""
    from ductaflow.project.settings import Project
    from ductaflow.session.request import no_project, signs_of

    if folder is None:
        places = [Path.cwd(), *(path for path in map(Path, targets) if path.is_dir())]
        if found := next(filter(None, map(Project.around, places)), None):
            return found
        raise no_project(Path.cwd())
    project = Project.at(folder)
    if not project.is_there:
        raise DuctaflowError(
            f"{folder} is not a project: it has no {signs_of(project.root)}",
            hint=f"Give the folder that holds {project.settings.config_dir}/.",
        )
    return project


@main.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
def init_command(folder: str) -> None:
    """Make a small working project in DIR: a flow, a build, two scenarios, a CI file.

    A README.md, .gitignore and requirements.txt that are there stay as they are.
    """
    import shlex

    from ductaflow.cli.scaffold import init_project
    from ductaflow.cli.vendor import bring_along, pytest_command

    if not folder:
        raise DuctaflowError("the name of the folder is empty", hint="For this one: ductaflow init .")
    made = init_project(Path(folder))
    _say(*map(str, [*made.written, *bring_along(Path(folder))]))
    for path, advice in made.kept.items():
        _say(f"{path} is there already and stays as it is{advice}")
    where = f"cd {'-- ' if folder.startswith('-') else ''}{shlex.quote(folder)} && "
    _say(f"Now: {'' if Path(folder).absolute() == Path.cwd() else where}{pytest_command()} --ductaflow")


@main.command("new")
@click.argument("kind", type=click.Choice(["flow", "build"]))
@click.argument("name", metavar="NAME")
@_project_option
def new_command(kind: Kind, name: str, folder: Path | None) -> None:
    """Write a new flow or build NAME with its config; it succeeds as it is."""
    from ductaflow.cli.scaffold import new_source

    _say(*map(str, new_source(_project(folder), kind, name)))


@main.command("list")
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_ids)
@_status_option
@_json_option
@_project_option
def list_command(ids: Sequence[str], statuses: str | None, is_json: bool, folder: Path | None) -> None:
    """List the stored instances, or some, one a line: id, tags, what is wrong with it; such come first."""
    from ductaflow.cli.records import as_text, of_instance
    from ductaflow.cli.statuses import LAST_STATUSES, statuses_asked
    from ductaflow.common.terminal import Line
    from ductaflow.project.graph import collect
    from ductaflow.session.last_runs import last_runs

    asked = statuses_asked(statuses, LAST_STATUSES)
    instances = collect(_project(folder))
    shown = [instances.by_id[id] for id in _ids(instances, ids)] if ids else [*instances]
    if statuses is not None:
        lasts = last_runs(instances.project, shown)
        shown = [one for one, last in zip(shown, lasts, strict=True) if last.status in asked]
    shown.sort(key=lambda one: one.problem is None)
    if is_json:
        _say(as_text([of_instance(one) for one in shown]))
        return
    for instance in shown:
        tags = f"  [{' '.join(instance.options.tags)}]" if instance.options.tags else ""
        problem = f"!! {' '.join(instance.problem.message.split())}" if instance.problem else ""
        before = f"{instance.id}{tags}{'  ' if problem else ''}"
        _say(Line(problem, "red", before=before))


@main.command("run")
@click.argument("targets", nargs=-1, metavar="[ID|FOLDER]...", shell_complete=complete_targets)
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="How many at a time; by default 1."
)
@click.option(
    "--changed",
    is_flag=True,
    help="Leave as it is what has not changed since its last run. Without an ID: of all stored instances.",
)
@click.option(
    "--upstream",
    is_flag=True,
    help="First run what they read from, at any distance, that has no valid run.",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Another value; needs --as. Repeatable."
)
@click.option("--as", "name", metavar="NAME", help="Run the one that is given under another name.")
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Run on the workers of a Dask cluster: tcp://host:8786 of its scheduler, or the scheduler's file.",
)
@_project_option
def run_command(
    targets: Sequence[str],
    jobs: int | None,
    changed: bool,
    upstream: bool,
    assignments: Sequence[str],
    name: str | None,
    dask: str | None,
    folder: Path | None,
) -> None:
    """Run stored instances, or run folders again, upstreams first.

    An ID is flow/instance or flow[instance], or a flow for all its instances. A FOLDER is a run folder, also
    of a flow inside a build, whose status follows; it runs again in place, with its saved config. What reads
    from a failed run is blocked, what its config skips does not run. The exit code is 1 if any fails.

    `ductaflow run --changed` brings all stored instances up to date.

    With --dask the same happens on machines that share the folder of the project. A worker runs as many at a
    time as it has threads.
    """
    from ductaflow.common.text import in_numbers, listed
    from ductaflow.session.conductor import run_targets
    from ductaflow.store.result import Status

    if not targets and (not changed or assignments or name is not None):
        raise click.UsageError(
            "Missing argument 'ID|FOLDER...'. With --changed alone all that has changed runs."
        )
    if dask is not None and jobs is not None:
        raise click.UsageError(
            "-j is for this machine; with --dask a worker runs as many at a time as it has threads."
        )
    project = _project(folder, targets)
    with _warnings_shown():
        results = run_targets(
            project,
            targets,
            jobs=jobs or 1,
            only_changed=changed,
            with_upstreams=upstream,
            assignments=assignments,
            name=name,
            dask=dask,
        )
    if not targets:
        counts = Counter(result.status for result in results.values())
        _say(in_numbers(counts, Status) or NOTHING_STORED)
    blocked = [shown for shown, result in results.items() if result.status is Status.BLOCKED]
    if blocked:
        again = f"ductaflow run {'--changed' if blocked[5:] else ' '.join(['--upstream', *blocked])}"
        _say(f"{len(blocked)} blocked; when what they wait for is mended: {again}", stream=sys.stderr)
    failed = [shown for shown, result in results.items() if result.status.is_error]
    if failed:
        rest = "; all: ductaflow status --status error" if failed[MAX_NAMED:] else ""
        named = listed(failed, MAX_NAMED)
        _say(f"{len(failed)} of {len(results)} failed: {named}{rest}", stream=sys.stderr)
        click.get_current_context().exit(FAILED)


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """Show what a session warns of, such as a worker that may not run, as lines for people."""

    def show(message: Warning | str, *place: object, **more: object) -> None:
        _say(f"Warning: {message}", stream=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _ids(instances: Instances, given: Sequence[str]) -> list[str]:
    """The ids of stored instances, without names of all. An id, a title and a flow may name the same one."""
    from ductaflow.session.targets import find_stored

    if not given:
        return list(instances.by_id)
    return list(dict.fromkeys(one.id for target in given for one in find_stored(instances, target)))


@main.command("graph")
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_ids)
@click.option(
    "--format",
    "language",
    type=click.Choice(["mermaid", "dot", "json"]),
    default="mermaid",
    show_default=True,
    help="Mermaid, as Markdown pages show it; Graphviz; or nodes and edges as JSON.",
)
@click.option("--flows", is_flag=True, help="One node for each flow, whatever number of instances it has.")
@_json_option
@_project_option
def graph_command(ids: Sequence[str], language: str, flows: bool, is_json: bool, folder: Path | None) -> None:
    """Draw who reads from whom: all stored instances, or some with all above and below them.

    Orphans, run folders of nothing that is stored, have a shape and arrows of their own.
    """
    from ductaflow.project.diagram import FORMATS, Diagram, beyond_mermaid
    from ductaflow.project.graph import Graph, collect
    from ductaflow.project.orphans import Orphans

    language = _language(language, is_json, "mermaid")
    instances = collect(_project(folder))
    named = _ids(instances, ids) if ids else None
    orphans = Orphans(instances.project, instances.by_id)
    diagram = Diagram.of(instances, Graph(instances.all), named, orphans)
    if flows:
        diagram = diagram.by_flow()
    text = FORMATS[language](diagram)
    _say(text)
    if language == "mermaid" and (why := beyond_mermaid(diagram, text)):
        ways = [] if flows else ["--flows for a node a flow", "the ids of some instances"]
        remedy = " or ".join([*ways, "--format dot for Graphviz, which has no limit"])
        _say(f"Note: {why} unless its page raises the limit. Give {remedy}.", stream=sys.stderr)


@main.command("why")
@click.argument("target", metavar="ID|FOLDER", shell_complete=complete_targets)
@_json_option
@_project_option
def why_command(target: str, is_json: bool, folder: Path | None) -> None:
    """Show what has changed since the last run of one, field by field and file by file.

    A FOLDER is a run folder, also of a flow inside a build; it would run again with its saved config. Other
    versions of Python and packages are shown too; they make nothing run unless the project says so.
    """
    from ductaflow.cli.records import as_text, of_changes
    from ductaflow.project.graph import collect
    from ductaflow.session.decide import Readiness, Would
    from ductaflow.session.forecast import forecast
    from ductaflow.session.request import spec_of_instance
    from ductaflow.session.targets import find_targets, with_saved
    from ductaflow.store.changes import differences_of_environment, look_back
    from ductaflow.store.record import recurring

    project = _project(folder, [target])
    instances = collect(project)
    ids, loose, instances = with_saved(instances, [_only(target, find_targets(instances, [target]))])
    one = loose[0] if loose else instances.by_id[ids[0]]
    shown, spec = one.shown if loose else one.id, spec_of_instance(one)
    back = look_back(spec)
    # Without this session, which has not begun.
    note = recurring({text: count - 1 for text, count in back.reasons.items()})
    before = []
    if ids:
        readiness = Readiness(instances)
        above = forecast(readiness, readiness.with_upstreams(one), only_changed=True)[:-1]
        before = [upstream for upstream in above if upstream.would is Would.RUN]
    by_version = "environment" in project.settings.rerun_on
    versions = () if by_version else differences_of_environment(spec)
    if is_json:
        notes = [*([note] if note else []), *([] if back.changes else spec.notes)]
        _say(as_text(of_changes(shown, back.changes, notes, before, versions)))
        return
    _say(f"{shown} has to run:" if back.changes else f"{shown} is unchanged.")
    _say(*(f"  {' '.join(change.text.split())}" for change in back.changes))
    if note:
        _say(f"Besides, {note}.")
    if not back.changes:
        _say(*(f"  {note}" for note in spec.notes))
    _say(*(f"Before it would run {upstream.instance.id}: {upstream.message}" for upstream in before))
    if versions:
        _say("Other versions than in its last run, which alone make nothing run:")
        _say(*(f"  {change.text}" for change in versions))


@main.command("plan")
@click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=complete_ids)
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="How many would run at a time.")
@click.option(
    "--status",
    "statuses",
    metavar="STATUS,...",
    shell_complete=completes_words(_would_statuses),
    help="Only such: error, blocked, run (and may_run), not_run, unchanged.",
)
@_json_option
@_project_option
def plan_command(
    ids: Sequence[str], jobs: int, statuses: str | None, is_json: bool, folder: Path | None
) -> None:
    """List what would run with `--changed` and why, what is unchanged or blocked, and for how long.

    By default of all stored instances. What cannot run comes first, then what runs, in its order. One that
    reads from what would run may run: it does not if that writes the same as before. Run folders of nothing
    that is stored come last.
    """
    from ductaflow.cli.records import as_text, of_plan
    from ductaflow.cli.statuses import WOULD_STATUSES, colour_of, rank_of, statuses_asked
    from ductaflow.common.terminal import Line
    from ductaflow.common.text import duration, in_numbers, size
    from ductaflow.project.graph import collect
    from ductaflow.session.decide import Would
    from ductaflow.session.forecast import Plan
    from ductaflow.session.pairs import pair_lines

    asked = statuses_asked(statuses, WOULD_STATUSES)
    instances = collect(_project(folder))
    plan = Plan.of(instances, _ids(instances, ids), jobs)
    shown = sorted(
        (one for one in plan.decisions if one.would in asked),
        key=lambda one: rank_of(one.would, WOULD_STATUSES),
    )
    if is_json:
        _say(as_text(of_plan(plan, shown, jobs)))
        return
    width = max((len(one.instance.id) for one in shown), default=0)
    for one in shown:
        is_timed = one.would.takes_time and plan.is_known
        takes = [f"about {duration(one.seconds, rough=True)}"] if is_timed else []
        takes += [size(one.memory)] if one.memory else []
        parts = [f"  {one.instance.id:<{width}}", " ".join(one.message.split()), ", ".join(takes)]
        _say(Line(f"{one.would:<10}", colour_of(one.would), "  ".join(filter(None, parts)).rstrip()))
    _say(in_numbers(Counter(one.would for one in plan.decisions), Would) or NOTHING_STORED)
    if plan.is_known:
        at_least, at_most = (duration(seconds, rough=True) for seconds in plan.span)
        span = at_least if at_least == at_most else f"{at_least} to {at_most}"
        _say(f"By earlier runs it takes about {span}, {jobs} at a time.")
    elif any(one.would.takes_time for one in plan.decisions):
        _say("No earlier run shows how long it takes.")
    if plan.waits:
        first, lack = next(iter(plan.waits.items()))
        more = f"; {len(plan.waits) - 1} more would wait too" if plan.waits.keys() - {first} else ""
        _say(f"{first} would wait for {lack}{more}.")
    _say(*(f"{id} takes {excess}: nothing runs beside it." for id, excess in plan.alone.items()))
    _say(*pair_lines(instances.project, {one.instance.flow for one in plan.decisions}))
    if not ids and statuses is None:
        _say_orphans(instances)


def _say_orphans(instances: Instances) -> None:
    """Name the run folders of nothing that is stored, apart from what is."""
    from ductaflow.cli.look import orphan_lines

    _say(*orphan_lines(instances))


@main.command("status")
@click.argument("targets", nargs=-1, metavar="[ID|FOLDER]...", shell_complete=complete_targets)
@_status_option
@_json_option
@_project_option
def status_command(targets: Sequence[str], statuses: str | None, is_json: bool, folder: Path | None) -> None:
    """Show the last run of each, the worst first: status, when, seconds, message.

    A FOLDER is a run folder, also of a flow inside a build. Without an argument, run folders of nothing that
    is stored come last; they do not count. The exit code is 1 if any that is shown failed.
    """
    from ductaflow.cli.look import status_lines, worst_first
    from ductaflow.cli.records import as_text, of_last_run
    from ductaflow.cli.statuses import LAST_STATUSES, statuses_asked
    from ductaflow.session.last_runs import last_runs

    asked = statuses_asked(statuses, LAST_STATUSES)
    instances, seen = _see(targets, folder)
    faults: list[str] = []
    found = worst_first(row for row in last_runs(instances.project, seen, faults) if row.status in asked)
    if is_json:
        _say(as_text([of_last_run(row) for row in found]))
        _say(*faults, stream=sys.stderr)
    else:
        _say(*status_lines(found), *faults)
        if not targets and statuses is None:
            _say_orphans(instances)
    if any(row.is_error for row in found):
        click.get_current_context().exit(FAILED)


@main.command("results")
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_ids)
@click.option("--sort", metavar="COLUMN,...", help="Sort by columns; -rmse is downwards.")
@click.option("--columns", metavar="COLUMN,...", help="Show these columns; a * stands for any text.")
@click.option("--all", "everything", is_flag=True, help="Show all columns, however wide that is.")
@click.option("--where", metavar="EXPR", help="Only rows for which it is true: 'fit.alpha > 3 and ok'.")
@click.option(
    "--format",
    "language",
    type=click.Choice(["table", "csv", "json", "markdown"]),
    default="table",
    show_default=True,
    help="CSV and JSON have all columns and all digits.",
)
@click.option("--conducted", is_flag=True, help="With run folders of nothing stored: rows of conductors.")
@_status_option
@_json_option
@_project_option
def results_command(
    ids: Sequence[str],
    sort: str | None,
    columns: str | None,
    everything: bool,
    where: str | None,
    language: str,
    conducted: bool,
    statuses: str | None,
    is_json: bool,
    folder: Path | None,
) -> None:
    """Show the results of instances side by side, the worst first: status, parameters that differ, metrics.

    By default of all stored instances; an ID may be a flow, for all its instances. Parameters are those that
    ran, and only complete runs have metrics; a line on standard error says which do not. EXPR is one of
    pandas' DataFrame.query; columns with dots need no quotes.
    """
    import shutil

    from ductaflow.cli.results import ResultDisplay, as_csv, as_json
    from ductaflow.cli.statuses import LAST_STATUSES, rank_of, statuses_asked
    from ductaflow.session.across import find_runs, in_words, look_at, table_of
    from ductaflow.session.queries import matching, named, ordered
    from ductaflow.session.tables import NAME_COLUMN

    language = _language(language, is_json, "table")
    asked_statuses = statuses_asked(statuses, LAST_STATUSES)
    project = _project(folder)
    seen, others = find_runs(project, ids, conducted=conducted)
    faults: list[str] = []
    table = table_of(look_at(project, seen, faults), others)
    without = in_words(table.left_out)
    ranks = [rank_of(status, LAST_STATUSES) for status in table.columns["status"]]
    # Programs, and pages that are compared, get them in their own order.
    places = sorted(range(len(ranks)), key=ranks.__getitem__) if language == "table" else range(len(ranks))
    table = table.rows(place for place in places if table.columns["status"][place] in asked_statuses)
    if where is not None:
        table = matching(table, where)
    keys = _words(sort)
    table = ordered(table, keys)
    asked = named(table, [NAME_COLUMN, *_words(columns)]) if columns else []
    if language in ("csv", "json"):
        _say((as_csv if language == "csv" else as_json)(table.only(asked or table.columns)))
    else:
        width = None if everything or asked else shutil.get_terminal_size().columns
        display = ResultDisplay(asked, everything, keys, width)
        _say(*(display.markdown(table) if language == "markdown" else display.lines(table)))
    is_part = where is not None or statuses is not None
    rows = f"{len(table.flows)} of {len(seen)} rows" if is_part else ""
    notes = [rows, "" if seen else NOTHING_STORED, f"left out: {without}" if without else "", *faults]
    _say(*filter(None, notes), stream=sys.stderr)


def _tolerance(_context: click.Context, _option: click.Parameter, value: float) -> float:
    # `FloatRange` lets NaN pass
    if not 0 <= value < math.inf:
        raise click.BadParameter(f"{value} is no number from 0 on.")
    return value


@main.command("diff")
@click.argument("old", metavar="A", shell_complete=complete_versions)
@click.argument("new", metavar="[B]", required=False, shell_complete=complete_versions)
@click.option("--rtol", callback=_tolerance, default=0.0, help="Relative tolerance of numbers.")
@click.option("--atol", callback=_tolerance, default=0.0, help="Absolute tolerance of numbers.")
@click.option(
    "--format",
    "language",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="Text for people, a table for a comment, or all as data.",
)
@_json_option
@_project_option
def diff_command(
    old: str,
    new: str | None,
    rtol: float,
    atol: float,
    language: str,
    is_json: bool,
    folder: Path | None,
) -> None:
    """Show what differs between A and B, new minus old: config, code cells, metrics, files.

    Each is an ID (flow/instance), a run folder, also of another checkout, ID@previous (what its last good run
    wrote) or ID@expected. With A alone: its previous run and what is there now. A flow stands for all its
    instances, and what moved most is shown. The comparison is exact unless a tolerance is given. The exit
    code is 0 if they are alike, 1 if they differ, 2 if that cannot be said.
    """
    from ductaflow.cli.diff_lines import as_json, diff_lines, markdown, moved_lines
    from ductaflow.common.rules import Rule
    from ductaflow.project.graph import collect
    from ductaflow.session.diff import Diff, diff_of, find_versions

    language = _language(language, is_json, "text")
    pairs = find_versions(collect(_project(folder, [old, *([new] if new else [])])), old, new)
    diffs: list[Diff] = []
    left_out: list[str] = []
    for before, now in pairs:
        try:
            diffs.append(diff_of(before, now, Rule(rtol=rtol, atol=atol)))
        except DuctaflowError as exc:
            if len(pairs) == 1:
                raise
            left_out.append(exc.message)
    if language == "json":
        _say(as_json(diffs, left_out))
    elif language == "markdown":
        _say(*markdown(diffs, left_out))
    else:
        _say(*(diff_lines(diffs[0]) if len(pairs) == 1 else moved_lines(diffs, left_out)))
    if any(diff.has_differences for diff in diffs):
        click.get_current_context().exit(FAILED)
    if left_out or not all(diff.is_alike for diff in diffs):
        click.get_current_context().exit(UNUSABLE)


def _words(text: str | None) -> list[str]:
    """The names in an option, between commas."""
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


@main.command("accept")
@click.argument("arguments", nargs=-1, required=True, metavar="ID... [FILE]...", shell_complete=complete_ids)
@click.option("--dry-run", is_flag=True, help="Show as Markdown what would be accepted, and write nothing.")
@click.option("--remove", is_flag=True, help="Remove what is expected and the run does not have.")
@click.option("--large", is_flag=True, help="Accept files of more than 1 MB too.")
@_json_option
@_project_option
def accept_command(
    arguments: Sequence[str], dry_run: bool, remove: bool, large: bool, is_json: bool, folder: Path | None
) -> None:
    """Make the results of the last runs those that are expected, and judge them again.

    They are written to expected/<flow>/<instance>/, to be committed: the first time the metrics, then what is
    there already. A FILE in the run folders, or a glob, is accepted alone and as a whole: name what is new
    once. A bound is not accepted: it is changed in the config.
    """
    from ductaflow.cli.diff_lines import acceptance_lines
    from ductaflow.cli.records import as_text, of_accepted
    from ductaflow.project.graph import collect
    from ductaflow.session.accept import accept, ignored_by_git, named_instances

    project = _project(folder)
    seen, files = named_instances(collect(project), arguments)
    done, faults = [], []
    for one in seen:
        try:
            done.append(accept(one, files, remove=remove, large=large, dry_run=dry_run))
        except DuctaflowError as exc:
            faults.append(exc)
    if is_json:
        _say(as_text([of_accepted(one) for one in done]))
    else:
        _say(*acceptance_lines(done, dry_run=dry_run, are_all=not faults))
    if ignored := ignored_by_git([path for one in done for path in one.writes], project.root):
        why = (
            f"git ignores {ignored[0]}, so nobody else would get it: write /runs/ into .gitignore, not runs/"
        )
        _say(f"Warning: {why}", stream=sys.stderr)
    _say(*(f"Error: {fault}" for fault in faults), stream=sys.stderr)
    if faults:
        click.get_current_context().exit(UNUSABLE)


@main.command("logs")
@click.argument("targets", nargs=-1, metavar="[ID|FOLDER]...", shell_complete=complete_targets)
@click.option("--warnings", is_flag=True, help="Only warning lines, each with its place.")
@click.option("--errors", is_flag=True, help="Only why runs failed: message and traceback.")
@click.option("--grep", "pattern", metavar="REGEX", help="Only lines that it finds something in.")
@_project_option
def logs_command(
    targets: Sequence[str], warnings: bool, errors: bool, pattern: str | None, folder: Path | None
) -> None:
    """Print the logs of the last runs, or what is looked for in them."""
    from ductaflow.cli.look import log_texts

    _, seen = _see(targets, folder)
    for line in log_texts(seen, warnings=warnings, errors=errors, pattern=pattern):
        _say(line)


@main.command("show")
@click.argument("target", metavar="ID|FOLDER", shell_complete=complete_targets)
@_json_option
@_project_option
def show_command(target: str, is_json: bool, folder: Path | None) -> None:
    """Show one: verdict, cause, config, inputs, outputs, warnings, paths, and what to type next."""
    from ductaflow.cli.look import changed_keys, show_lines
    from ductaflow.cli.records import as_text, of_run
    from ductaflow.session.last_runs import last_runs

    instances, seen = _see([target], folder)
    one = _only(target, seen)
    if is_json:
        row = last_runs(instances.project, [one])[0]
        _say(as_text(of_run(one, row, changed_keys(one))))
        return
    _say(*show_lines(instances.project, one))


def _only(target: str, found: Sequence[Instance]) -> Instance:
    """Return the one that an argument names; a flow may have several, which is an error."""
    if len(found) > 1:
        raise DuctaflowError(
            f"{target} has {len(found)} instances, and this command takes one",
            hint=f"Give one of them: ductaflow list {target}",
        )
    return found[0]


def _see(targets: Sequence[str], folder: Path | None) -> tuple[Instances, Sequence[Instance]]:
    """Return all stored instances, and what a command looks at: what it names, else all."""
    from ductaflow.project.graph import collect
    from ductaflow.session.targets import find_targets

    instances = collect(_project(folder, targets))
    return instances, find_targets(instances, targets) if targets else instances.all


@main.command("debug")
@click.argument("target", metavar="ID|FOLDER", shell_complete=complete_targets)
@click.option("--notebook", is_flag=True, help="Open the notebook in Jupyter, if that is installed.")
@_project_option
def debug_command(target: str, notebook: bool, folder: Path | None) -> None:
    """Prepare a run folder for a debugger, without running it.

    It gets the config and the notebook: an ID the stored config, a run FOLDER the config that it ran with.
    The cells of the notebook keep what they showed in the last run, up to the one that failed. The
    launch configuration for VS Code runs the .py itself, so that breakpoints bind. It is written to
    .vscode/launch.json if the project has none, and printed otherwise.
    """
    from ductaflow.cli.look import changed_keys, offer_launch, open_notebook
    from ductaflow.session.debug import prepare
    from ductaflow.session.request import spec_of_instance

    instances, seen = _see([target], folder)
    project, one = instances.project, _only(target, seen)
    changed = changed_keys(one)
    setup = prepare(spec_of_instance(one), with_outputs=True)
    if changed:
        _say(f"  changed since the last run: {', '.join(changed)}")
    if setup.launch["program"].endswith(".py"):
        _say(*offer_launch(project, setup.launch))
    if notebook:
        open_notebook(setup.notebook)


@main.command("clean")
@click.option("--dry-run", is_flag=True, help="List what would be taken away, and do nothing.")
@click.option("--orphans", is_flag=True, help="Move run folders of nothing stored away. The default.")
@click.option(
    "--previous", is_flag=True, help="Delete kept outputs of earlier runs, and what was moved away before."
)
@click.option("--older-than", "age", metavar="AGE", help="Only what was written to longer ago: 30d, 12h, 2w.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json_option
@_project_option
def clean_command(
    dry_run: bool,
    orphans: bool,
    previous: bool,
    age: str | None,
    yes: bool,
    is_json: bool,
    folder: Path | None,
) -> None:
    """List run folders of nothing that is stored, with their sizes, and move them away.

    Such an orphan is left of an instance that was renamed or removed, of a variant (`run --as`), or of a row
    of a conductor. It goes to runs/.ductaflow/removed/. Files of a person stay where they are, and so does a
    folder in which something runs. It asks before it does anything.
    """
    from ductaflow.cli.look import age_of, leftover_lines
    from ductaflow.cli.records import as_text, of_leftover
    from ductaflow.common.text import shown_path
    from ductaflow.project.graph import collect
    from ductaflow.session.leftovers import find_leftovers, take_away

    if is_json and not dry_run:
        raise click.UsageError("--json is a list for programs, which nobody is asked about: add --dry-run.")
    project = _project(folder)
    found = find_leftovers(
        collect(project), orphans=orphans or not previous, previous=previous, older_than=age_of(age)
    )
    _say(*([as_text([of_leftover(one) for one in found])] if is_json else leftover_lines(found)))
    if dry_run or all(one.kept for one in found):
        return
    if not yes:
        if not sys.stdin.isatty():
            raise DuctaflowError(
                "clean asks before it takes anything away, and nobody can answer here",
                hint="Give --yes, or --dry-run to see the list alone.",
            )
        if not click.confirm("Take that away?"):
            return
    target, left = take_away(project, found)
    if target.exists():
        _say(f"Orphans are in {shown_path(target)} now; ductaflow clean --previous deletes them.")
    _say(*(f"stays: {reason}" for reason in left), stream=sys.stderr)
    if len(left) > sum(bool(one.kept) for one in found):
        click.get_current_context().exit(FAILED)


@main.command("report")
@click.argument("paths", nargs=-1, metavar="[RUNS | FILE...]", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--merge", is_flag=True, help="Join the JSON reports FILE..., such as those of the shards of a CI run."
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --merge: the folder to write to, instead of the project's runs/.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="FILE.zip|DIR",
    help="Write the page and the files that it links to of what is not good, to be sent or kept by CI.",
)
@click.option(
    "--summary",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.md",
    help="Add a summary in Markdown to a file, such as $GITHUB_STEP_SUMMARY.",
)
@_project_option
def report_command(
    paths: Sequence[Path],
    merge: bool,
    output: Path | None,
    bundle: Path | None,
    summary: Path | None,
    folder: Path | None,
) -> None:
    """Make the status page and its JSON twin again from what lies in runs/, or in the folder RUNS.

    --bundle and --summary take the report that is there, if its session has ended; it knows more than the run
    folders, such as which tests failed. With --merge the exit code is 1 if a shard is missing or a session
    did not end; the page says which.
    """
    from dataclasses import replace

    from ductaflow.project.settings import Project
    from ductaflow.report import merge_reports
    from ductaflow.report.earlier import rebuild_report

    if merge:
        if not paths:
            raise DuctaflowError("--merge needs files", hint="ductaflow report --merge a.json b.json")
        target = output or _project(folder).runs_dir
        merged = merge_reports(paths, target)
        _write_page(merged.twin, target)
        _write_extras(merged.twin, target, bundle, summary, _root(folder), roots=[p.parent for p in paths])
        if not merged.is_whole:
            click.get_current_context().exit(FAILED)
        return
    if output or len(paths) > 1:
        raise DuctaflowError("--output and more than one path go with --merge", hint="Add --merge.")
    if not paths:
        project = _project(folder)
    elif (runs_dir := paths[0].absolute()).is_dir():
        # without a project around it the folder above it is one
        project = replace(Project.around(runs_dir) or Project.at(runs_dir.parent), runs_dir=runs_dir)
    else:
        raise DuctaflowError(f"{paths[0]} is not a folder", hint="Give a runs folder, or --merge and files.")
    twin = _whole_report(project.runs_dir) if bundle or summary else None
    if twin is None:
        twin = rebuild_report(project)
        if (bundle or summary) and not twin["instances"]:
            # An empty share of a session over several machines leaves nothing to keep, and is no error.
            _say(f"{project.runs_dir}: nothing has run", stream=sys.stderr)
            return
        _write_page(twin, project.runs_dir)
    _write_extras(twin, project.runs_dir, bundle, summary, project.root)


def _root(folder: Path | None) -> Path:
    """The folder of the project; the working directory if there is none around it."""
    from ductaflow.project.settings import Project

    around = Project.around(Path.cwd())
    return folder or (around.root if around else Path.cwd())


def _whole_report(runs_dir: Path) -> Twin | None:
    """Read the report of a session that has ended; None if there is none."""
    from ductaflow.common.paths import REPORT_JSON
    from ductaflow.report.merge import read_twin

    if not (runs_dir / REPORT_JSON).is_file():
        return None
    twin, faults = read_twin(runs_dir / REPORT_JSON)
    twin["notes"] += faults
    return twin if twin["finished"] and not twin["alive"] else None


def _write_extras(
    twin: Twin,
    runs_dir: Path,
    bundle: Path | None,
    summary: Path | None,
    root: Path,
    *,
    roots: Sequence[Path] = (),
) -> None:
    """Write what is asked for besides the page."""
    if bundle:
        from ductaflow.report.bundle import write_bundle

        made = write_bundle(twin, runs_dir, bundle, roots=roots)
        _say(str(made.path), made.line)
    if summary:
        from ductaflow.report.markdown import append_summary

        append_summary(summary, twin, twin["instances"], root)
        _say(str(summary))


@main.command("vendor")
@click.argument("path", default=".", metavar="[PATH]", type=click.Path(path_type=Path))
def vendor_command(path: Path) -> None:
    """Write ductaflow.py: library, commands and plugin in one file, where nothing may be installed."""
    from ductaflow.cli.vendor import CONFTEST_LINES, vendor

    made = vendor(path)
    _say(str(made))
    _say(f"Now: python {made.name} --help")
    _say(f"For pytest these lines in {made.with_name('conftest.py')}:", CONFTEST_LINES)


@main.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script that completes commands, options and ids in a shell.

    \b
    bash   eval "$(ductaflow completion bash)"     in ~/.bashrc
    zsh    eval "$(ductaflow completion zsh)"      in ~/.zshrc, behind compinit
    fish   ductaflow completion fish > ~/.config/fish/completions/ductaflow.fish
    """
    # as it is, and not as text of a flow
    click.echo(script_for(shell, main))


def _write_page(twin: Twin, runs_dir: Path) -> None:
    """Write a report, say where it is, and what it says of itself as a whole."""
    from ductaflow.report import write_report

    _say(str(write_report(twin, runs_dir)))
    _say(*twin["notes"], stream=sys.stderr)


if __name__ == "__main__":
    main(prog_name="ductaflow")
