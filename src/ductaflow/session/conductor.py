"""Runs a table of scenarios: DataFrame -> instances -> runs, some at a time -> DataFrame of results.

Stored instances that are named one by one run by the same rules.

    rows of the table -> instances -> their graph
    for each whose upstreams are done: a thread that waits for a run of its own process
    each result -> live report, console -> the columns beside the parameters

Threads only wait: every run is a process that inherits nothing of this one, so a conductor may be a script
without a main guard, or a notebook.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.paths import below
from ductaflow.common.text import listed
from ductaflow.execution.page_orders import told_of_pages
from ductaflow.project.compose import merge
from ductaflow.project.csvs import NAME_COLUMNS
from ductaflow.project.graph import Graph, collect
from ductaflow.project.instances import Instance, Instances, find_instances, make_instance
from ductaflow.project.options import RunOptions
from ductaflow.project.orphans import lost_expectations
from ductaflow.project.settings import Project
from ductaflow.session import decide
from ductaflow.session.across import with_metrics
from ductaflow.session.console import Console, Display, Lines, SessionPage, show_line
from ductaflow.session.decide import Outcome, Readiness, Turn
from ductaflow.session.forecast import Beyond, beyond_lines, forecast
from ductaflow.session.rerun import run_again
from ductaflow.session.runner import run_instance
from ductaflow.session.scheduler import Executor, Threads
from ductaflow.session.tables import NAME_COLUMN, Row, Target, read_rows
from ductaflow.session.targets import as_variant, find_targets, with_saved
from ductaflow.store.folder import is_running
from ductaflow.store.result import Result, Status, readable_result, result_of_session, why_not_valid
from ductaflow.store.sessions import Session, session_of
from ductaflow.store.spec import current_run, tell
from ductaflow.store.verdict import UNWAITED

if TYPE_CHECKING:
    from distributed import Client
    from pandas import DataFrame


RESULT_COLUMNS = ("status", "cause", "message", "seconds", "warning_count", "folder")
#: The columns that a dry run adds, each with the field of a decision.
FORECAST_COLUMNS = {"would": "would", "reason": "message", "expected_seconds": "seconds"}


def conduct(
    scenarios: DataFrame,
    build: str | os.PathLike[str],
    *,
    jobs: int = 1,
    executor: Client | None = None,
    config: Mapping[str, JsonValue] | None = None,
    project_root: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    export_html: bool | None = None,
    progress: bool | None = None,
    report: bool | None = None,
    check: bool = False,
    only_changed: bool | None = None,
    dry_run: bool = False,
) -> DataFrame:
    """Run every row of a table as an instance of a build or flow, in `runs/<build>/<instance>/`.

    A row that fails, or cannot start, does not stop the others. A row whose config names the run folder of
    another row runs after that one, and is blocked if that one fails. A row that reads a stored instance
    needs a valid earlier run of it: without one the row is an error, or blocked if the instance is skipped;
    with an executor the instance runs first, and is in the report but not in the table. Called in a run, the
    rows are its flows: they run in `runs/` below its run folder, and it has the worst status of them.

    Args:
        scenarios: the table, such as `ductaflow.scenarios` makes. The column `instance` (or `instance_name`)
            gives the names; without it they are made from the values. NaN means "not given".
        build: name of a build or flow of the project, or the path of a notebook.
        jobs: how many rows run at a time; the longest path of rows starts first.
        executor: a `distributed.Client`; the rows run on the workers of its cluster, which share the
            project's folder. A worker runs as many at a time as it has threads.
        config: values for all rows; over the project's base configs, under each row.
        project_root: by default the project around the notebook, or around the working directory.
        timeout: seconds for a row that gives no `_run.timeout`; by default as the project's settings say.
        export_html: whether each run leaves its notebook as HTML; by default as the settings say.
        progress: True shows a progress bar on standard error; False shows nothing. By default one job shows
            each run's log live, and several show a bar where somebody can see it.
        report: whether to keep the status page in the project's runs folder up to date.
        check: raise if some rows are errors, after all have run.
        only_changed: do not run rows that have not changed, nor such flows of the builds that run. True by
            default; inside a run as that run does (`pytest --ductaflow-changed`).
        dry_run: run nothing and write nothing, but return what would run.

    Returns:
        A copy of the table, with the column `instance` and for each row `status`, `cause`, `message`,
        `seconds`, `warning_count`, `folder`, and the metrics of complete runs; all but the status of an
        `unchanged` row are those of its last run. A metric that is called like a column before it is
        `metrics.<name>`; `attrs["metrics"]` has the names of these columns. With `dry_run` it has the columns
        `would` (`run`, `may run`: if what it reads from changes, `unchanged`, `blocked`, `not_run`: skipped,
        `error`: cannot start), `reason` and `expected_seconds` instead. The result of an earlier call may be
        given again.

    Raises:
        ConfigError, InstanceError: the table or the build is not acceptable; nothing has run.
        DuctaflowError: with `check`, some rows are errors; their names are in the message. With `executor`,
            some workers do not see the project or have other versions, and nothing has run; or the
            scheduler is lost.
        KeyboardInterrupt: the running rows were stopped, and the report says what did not run.

    Example:
        >>> table = scenarios({"region": ["EU", "US"]})
        >>> results = conduct(table, "projection", jobs=2, progress=False)
        >>> results[["instance", "region", "status"]]
            instance region   status
        0  region-EU     EU  success
        1  region-US     US  success
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ConfigError(f"jobs is a number of at least 1, not {jobs!r}")
    outer = current_run()
    if only_changed is None and outer is None:
        only_changed = True
    target = Target.of(build, project_root)
    project = target.project.but(timeout=timeout, html=export_html, report=report, only_changed=only_changed)
    target = replace(target, project=project)
    table = _without_results(scenarios)
    rows = read_rows(table)
    asked = [_instance(row, target, config or {}) for row in rows]
    plan, readiness = _plan(asked, project, with_upstreams=executor is not None)
    if dry_run:
        planned = forecast(readiness, plan, only_changed=project.settings.only_changed)
        return _beside(table, rows, FORECAST_COLUMNS, planned)
    session = Session()
    where = _executor(executor, jobs, project, session.id)
    with_page = project.settings.report and not outer
    values = {f"{target.flow}/{row.name}": row.values for row in rows}
    page = SessionPage(project, session.id, readiness.graph, values) if with_page else None
    live = jobs == 1 and executor is None
    console = Console(target.flow, len(plan), live, progress)
    run = _run(session.id, jobs, executor, echo=console.echo)
    with session:
        results = _Session(session.id, plan, readiness, run, where, console, page).work()
    if check:
        _check(results, target.flow)
    beside = _beside(table, rows, {name: name for name in RESULT_COLUMNS}, results)
    return with_metrics(beside, results[len(results) - len(rows) :])


def _run_stored(
    project: Project,
    instances: Instances,
    ids: Sequence[str],
    jobs: int,
    executor: Client | None,
    *,
    with_upstreams: bool,
) -> list[Result]:
    """Run stored instances in the order of the graph; with one job on this machine their logs are live."""
    readiness = Readiness(instances)
    plan = [instances.by_id[id] for id in readiness.graph.order(ids)]
    if with_upstreams:
        plan = [*_upstreams_to_run(plan, readiness), *plan]
    session = Session()
    where = _executor(executor, jobs, project, session.id)
    page = _page(project, session.id, readiness.graph)
    live = jobs == 1 and executor is None
    run = _run(session.id, jobs, executor, echo=live)
    with session:
        return _Session(session.id, plan, readiness, run, where, Lines(live=live), page).work()


def _run(session_id: str, jobs: int, executor: Client | None, *, echo: bool) -> decide.Run:
    """How a session runs an instance, here or on a worker of a cluster."""
    return functools.partial(
        run_instance,
        session_id=session_id,
        echo=echo,
        check=False,
        # On a worker nobody would wait for it afterwards.
        await_page=executor is not None,
        workers=jobs,
    )


def _page(project: Project, session_id: str, graph: Graph) -> SessionPage | None:
    """Return the page of a command; None where the project wants none, and in a run."""
    if not project.settings.report or current_run():
        return None
    return SessionPage(project, session_id, graph, waits_for_run=project.settings.only_changed)


def run_targets(
    project: Project,
    targets: Sequence[str],
    *,
    jobs: int,
    only_changed: bool,
    with_upstreams: bool = False,
    assignments: Sequence[str] = (),
    name: str | None = None,
    dask: str | None = None,
) -> dict[str, Result]:
    """Run what a command names, by default all that is stored: instances first, then flows inside builds.

    Args:
        with_upstreams: first run what they read from, at any distance, that has no valid run.
        assignments, name: the values and the name of a variant (`--set`, `--as`).
        dask: address or file of the scheduler of a Dask cluster, whose workers run them; `jobs` is 1 then.

    Returns:
        The result of each, by its id or its folder.

    Raises:
        DuctaflowError: a target is nothing that can run, or the variant is not acceptable; nothing has run.
        KeyboardInterrupt: what was running has been stopped.
    """
    project = project.but(only_changed=only_changed)
    instances = collect(project)
    found = find_targets(instances, targets or instances.by_id)
    if assignments or name is not None:
        found = [as_variant(instances, found, assignments, name)]
    stored, loose, instances = with_saved(instances, found)
    results: list[Result] = []
    with _client(dask, loose) as client:
        if stored:
            results = _run_stored(project, instances, stored, jobs, client, with_upstreams=with_upstreams)
    by_name = {result.id: result for result in results}
    if loose:

        def show(run: Instance, result: Result) -> None:
            show_line(run.shown, result, live=jobs == 1)

        ran = run_again(loose, project, jobs=jobs, show=show)
        by_name |= {run.shown: result for run, result in zip(loose, ran, strict=True)}
        _show_builds(project, loose)
    return by_name


def _client(dask: str | None, loose: Sequence[Instance]) -> AbstractContextManager[Client | None]:
    """A client of the cluster that is asked for, if any, as long as it is needed."""
    if dask is None:
        return nullcontext()
    if loose:
        raise InstanceError(
            f"{loose[0].shown} is a flow inside a build, which runs where its build ran: not with --dask",
            hint="Run it without --dask, or its build as a whole with it.",
        )
    # Only on use: the package that it needs is an extra.
    from ductaflow.session.dask_client import connected

    return connected(dask)


def _show_builds(project: Project, ran: Sequence[Instance]) -> None:
    """Bring the page up to date with the builds whose flows have run by themselves."""
    page = _page(project, session_of().id, Graph(()))
    runs = (below(run.run_folder.path, project.runs_dir) for run in ran)
    tops = {
        project.runs_dir.joinpath(*run.relative_to(project.runs_dir).parts[:2]): None for run in runs if run
    }
    results = [result for folder in tops if (result := readable_result(folder))]
    if not page or not results:
        return
    for result in results:
        page.show(result)
    lines = Lines(live=True)
    lines.has_news = True
    lines.close(page.close(), ())


def _without_results(table: DataFrame) -> DataFrame:
    """The table without the columns that an earlier call has added.

    Raises:
        ConfigError: some of them may be metrics, and nothing says which.
    """
    columns = list(getattr(table, "columns", ()))
    if all(name in columns for name in FORECAST_COLUMNS):
        table = table.drop(columns=list(FORECAST_COLUMNS))
    if all(name in columns for name in RESULT_COLUMNS):
        behind = columns[max(map(columns.index, RESULT_COLUMNS)) + 1 :]
        if behind and "metrics" not in table.attrs:
            raise ConfigError(
                f"the table has results of an earlier call, and {listed(behind, 5)} may be metrics of it",
                hint="Drop the columns that are no parameters: a table that was merged or saved has no attrs "
                "that tell them.",
            )
        # without those columns a table may have metrics as parameters, on purpose
        metrics = [name for name in table.attrs.get("metrics", ()) if name in columns]
        table = table.drop(columns=[*RESULT_COLUMNS, *metrics])
    added = [column for column in RESULT_COLUMNS if column in getattr(table, "columns", ())]
    if added:
        raise ConfigError(
            f"the table has the column {added[0]!r}, which the results need", hint="Rename it, or drop it."
        )
    return table


def _plan(
    rows: Sequence[Instance], project: Project, *, with_upstreams: bool
) -> tuple[Sequence[Instance], Readiness]:
    """What runs for some rows, on request after their upstreams without a valid run; and the graph."""
    if current_run():
        # In a build the rows are its flows, in a runs folder of their own: stored instances are elsewhere.
        alone = Readiness(Instances(project, rows))
        checked = alone.graph.with_problems(rows, needs=False)
        return [replace(row, notes=()) for row in checked], alone
    here = {row.id for row in rows}
    stored = find_instances(project) if _may_read_others(rows, project) else ()
    readiness = Readiness(Instances(project, [*rows, *(other for other in stored if other.id not in here)]))
    first = _upstreams_to_run(rows, readiness) if with_upstreams else []
    graph = readiness.graph
    return graph.with_notes(graph.with_problems([*first, *rows])), readiness


def _upstreams_to_run(rows: Sequence[Instance], readiness: Readiness) -> list[Instance]:
    """The stored instances that rows read, at any distance, and that have no valid run; upstreams first."""
    rows_by_id = {row.id: row for row in rows}
    needed: dict[str, Instance] = {}
    readers = list(rows)
    while readers:
        for upstream in readiness.upstreams(readers.pop()):
            known = upstream.id in rows_by_id or upstream.id in needed
            if not known and why_not_valid(upstream.run_folder.path):
                needed[upstream.id] = upstream
                readers.append(upstream)
    return [needed[id] for id in readiness.graph.order(needed)]


def _may_read_others(rows: Sequence[Instance], project: Project) -> bool:
    """Whether the rows may read stored instances, which may be thousands of files to look through."""
    sign = f"{project.runs_dir.name}{os.sep}"
    return any(
        row.options.needs or sign in str(row.config) or f"{project.runs_dir.name}/" in str(row.config)
        for row in rows
    )


def _executor(client: Client | None, jobs: int, project: Project, session_id: str) -> Executor:
    """Where the runs of a session happen."""
    if client is None:
        return Threads(jobs)
    if jobs != 1:
        raise ConfigError(
            "jobs is for runs on this machine, and an executor is given",
            hint="Leave jobs out: a worker runs as many at a time as it has threads (--nthreads).",
        )
    if current_run():
        raise ConfigError(
            "an executor cannot be used inside of a run",
            hint="Give the executor to the conductor: conduct(table, build, executor=client).",
        )
    # Only on use: the package that it needs is an extra.
    from ductaflow.session.dask import Cluster

    cluster = Cluster(client, project.runs_dir, session_id)
    cluster.check()
    return cluster


def _instance(row: Row, target: Target, common: Mapping[str, JsonValue]) -> Instance:
    project, kind, flow = target.project, target.kind, target.flow
    try:
        own = merge(common, row.config())
        return make_instance(project, kind, flow, row.name, own, source=target.source)
    except DuctaflowError as exc:
        file = project.config_of(kind) / f"{flow}.json"
        return Instance(kind, flow, row.name, project, {}, RunOptions(), target.source, file, exc)


def _beside(
    table: DataFrame, rows: Sequence[Row], columns: Mapping[str, str], found: Sequence[object]
) -> DataFrame:
    """The table with columns, each a field of what was found of the rows, which is at the end of all."""
    import pandas as pd

    out = table.copy()
    if not any(column in out for column in NAME_COLUMNS):
        out.insert(0, NAME_COLUMN, [row.name for row in rows])
    for name, field in columns.items():
        cells = [getattr(one, field) for one in found[len(found) - len(rows) :]]
        cells = [str(cell) if isinstance(cell, Enum | Path) else cell for cell in cells]
        # As objects, so that "none" stays None.
        dtype = object if name in ("cause", "folder") else None
        out[name] = pd.Series(cells, index=out.index, dtype=dtype)
    return out


def _check(results: Sequence[Result], flow: str) -> None:
    red = [result for result in results if result.status.is_error]
    if red:
        named = listed([result.instance if result.flow == flow else result.id for result in red], 10)
        raise DuctaflowError(
            f"{len(red)} of {len(results)} runs of {flow} failed: {named}",
            hint=f"The first: {red[0].message}",
        )


@dataclass
class _Session:
    """The runs of one call: `readiness` is of all instances that there are, `plan` those to run."""

    id: str
    plan: Sequence[Instance]
    readiness: Readiness
    run: decide.Run
    executor: Executor
    console: Display
    page: SessionPage | None = None

    def __post_init__(self) -> None:
        self._instances = {instance.id: instance for instance in self.plan}
        self._beyond = Beyond(self.readiness, self._runs)
        self._hints: dict[str, str] = {}
        self._results: dict[str, Result] = {}

    def _runs(self, instance: Instance) -> bool:
        return instance.id in self._instances

    def work(self) -> list[Result]:
        """Run all, and give the results in the order of the plan.

        Raises:
            KeyboardInterrupt: after the runs were stopped, and page and console closed.
        """
        ended: Mapping[str, Outcome] = {}
        try:
            if self.page:
                self.page.expect(self.plan)
            for outcomes in self.executor.outcomes(self._turns()):
                for outcome in outcomes.values():
                    self._settle(outcome)
                self.console.tick(self.executor.waits)
        finally:
            # Something still runs only if an exception was raised: stop it, and start nothing more.
            try:
                ended = self.executor.stop()
            finally:
                self._close(ended)
        return [self._results[id] for id in self._instances]

    def _turns(self) -> list[Turn]:
        """The turns of the instances that can run; the others get their result now."""
        settled: dict[str, Outcome] = {}
        turns = []
        for instance in self.plan:
            reads = self.readiness.reads(instance, self._runs)
            if instance.problem:
                # Members of a cycle would wait for each other.
                settled[instance.id] = decide.decide(reads, lambda id: None).outcome
                self._settle(settled[instance.id])
            else:
                turns.append(reads)
        return [
            Turn(
                reads,
                after=tuple(id for id in reads.here if id not in settled),
                known=tuple(settled[id] for id in reads.here if id in settled),
                run=self.run,
            )
            for reads in turns
        ]

    def _settle(self, outcome: Outcome) -> None:
        result = outcome.result
        instance = self._instances[result.id]
        build = current_run()
        if build and result.status.is_error and not result.run_id:
            # it has no run folder by which the build would know it
            tell(build, event="refused", id=result.id, message=result.message)
        if self.page:
            self.page.update(instance, outcome)
        # Only now it is settled: what Ctrl-C breaks off before is settled again at the end.
        self._results[result.id] = result
        if result.status is Status.UNCHANGED:
            doubts = [f"but {note}" for note in instance.notes or ()]
            self._hints[result.id] = "; ".join(filter(None, [self._beyond.told(instance), *doubts]))
        self.console.show(instance, result)

    def _close(self, ended: Mapping[str, Outcome]) -> None:
        for id, outcome in ended.items():
            if id not in self._results:
                self._settle(outcome)
        for instance in self.plan:
            if instance.id not in self._results:
                self._settle(self._left_behind(instance))
        hints = {id: self._hints.get(id, "") for id in self._instances}
        lines = [*beyond_lines(hints), *filter(None, [self._lost(), told_of_pages()])]
        self.console.close(self.page.close() if self.page else None, lines)

    def _left_behind(self, instance: Instance) -> Outcome:
        """What came of an instance by its run folder, where nobody waits for it any more.

        So it is after a second Ctrl-C, which ends the wait for the runs that the first one stops.
        """
        # First whether it runs: in between it can end, and leaves a result.
        folder = None if instance.problem else instance.run_folder.path
        is_going_on = folder and is_running(instance.project.runs_dir, folder, self.id)
        if folder and (result := result_of_session(folder, self.id)):
            return Outcome.of(result)
        if is_going_on:
            return Outcome.of(decide.unrun(instance, Status.ERROR, UNWAITED, "interrupted"))
        return Outcome(decide.unrun(instance, Status.NOT_RUN, decide.NOT_STARTED))

    def _lost(self) -> str | None:
        """What is expected of nothing that is stored; None in a run, whose session says it."""
        project = self.plan[0].project if self.plan else None
        if project is None or current_run() or not project.expected_dir.is_dir():
            return None
        return lost_expectations(project, [one.id for one in find_instances(project)])
