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
import heapq
import os
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ductaflow.config import RunOptions, masked, merge
from ductaflow.errors import ConfigError, DuctaflowError
from ductaflow.flow import is_notebook_execution
from ductaflow.forecast import Forecast, Planned
from ductaflow.graph import Graph
from ductaflow.instances import NAME_COLUMNS, Instance, Instances, make_instance
from ductaflow.launch import IndentedLines, show_on_console
from ductaflow.layout import RUNS_DIR, SOURCE_SUFFIXES, Kind, Project
from ductaflow.lineage import Comparison
from ductaflow.readiness import Readiness
from ductaflow.report import Entry, LiveReport
from ductaflow.result import Cause, Result, Status
from ductaflow.runner import (
    comparison_of,
    find_notebook,
    kind_of,
    run_instance,
    spec_of_instance,
    unchanged_lines,
)
from ductaflow.settings import comparison_in
from ductaflow.spec import current_run, tell
from ductaflow.table import NAME_COLUMN, Row, find_project, kind_of_flow, read_rows

if TYPE_CHECKING:
    from pandas import DataFrame
    from tqdm import tqdm

RESULT_COLUMNS = ("status", "cause", "message", "seconds", "warning_count", "folder")
#: The columns that a dry run adds.
FORECAST_COLUMNS = ("would", "reason", "expected_seconds")
#: How often the progress bar's clock is set, and on Windows how late a Ctrl-C is heard, in seconds.
_TICK = 0.5
#: Characters of a log that are held at once.
_PIECE = 1 << 16
NOT_YET = "has not run yet"
NOT_STARTED = "the session ended before its turn"


def conduct(
    scenarios: DataFrame,
    build: str | os.PathLike[str],
    *,
    jobs: int = 1,
    config: Mapping[str, Any] | None = None,
    project_root: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    export_html: bool = True,
    progress: bool | None = None,
    report: bool = True,
    check: bool = False,
    only_changed: bool | None = None,
    dry_run: bool = False,
) -> DataFrame:
    """Run every row of a table as an instance of a build or flow, in `runs/<build>/<instance>/`.

    A row that fails, or cannot start, costs itself only. A row whose config names the run folder of another
    one of the table runs after that, and is blocked if that is red. Called in a run, the rows are its flows:
    they run in `runs/` below its run folder, and it has the worst status of them.

    Args:
        scenarios: the table, such as `ductaflow.scenarios` makes. The column `instance` (or `instance_name`)
            has the names; without it they are made of the values. NaN means "not given".
        build: name of a build or flow of the project, or the path of a notebook.
        jobs: how many rows run at a time.
        config: what the rows have in common; over the project's base configs, under each row.
        project_root: by default the project around the notebook, or around the working directory.
        timeout: seconds for a row that gives no `_run.timeout`; None for no limit.
        export_html: whether each run leaves its notebook as HTML.
        progress: True shows a progress bar on standard error; False shows nothing. By default one job shows
            each run's log live, and several show a bar where somebody can see it.
        report: whether to keep the status page in the project's runs folder up to date.
        check: raise when all have run and some are red.
        only_changed: whether rows that have not changed, and such flows of the builds that run, are left as
            they are. By default they are; in a run as that run was asked (`pytest --ductaflow-changed`).
        dry_run: run nothing and write nothing, but tell what would run.

    Returns:
        A copy of the table, with the column `instance` and for each row `status`, `cause`, `message`,
        `seconds`, `warning_count` and `folder`; all but the status of an `unchanged` row are those of its
        last run. With `dry_run` it has the columns `would` (`run`, `may run`: if what it reads from changes,
        `unchanged`, `blocked`, `not_run`: skipped, `error`: cannot start), `reason` and `expected_seconds`
        instead. The result of an earlier call may be given again.

    Raises:
        ConfigError, InstanceError: the table as such or the build is not acceptable; nothing has run.
        DuctaflowError: with `check`, some rows are red; their names are in the message.
        KeyboardInterrupt: what was running has been stopped, and the report says what did not run.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ConfigError(f"jobs is a number of at least 1, not {jobs!r}")
    target = _Target.of(build, project_root)
    table = _without_results(scenarios)
    rows = read_rows(table)
    plan = _plan(rows, target, config or {})
    outer = current_run()
    if only_changed is None:
        only_changed = outer is None or outer.only_changed
    comparison = comparison_of(outer) if outer else comparison_in(target.project.root)
    readiness = Readiness(Instances(target.project, plan))
    if dry_run:
        return _forecast(table, rows, Forecast(readiness, comparison if only_changed else None).of(plan))
    session_id = outer.session_id if outer else uuid.uuid4().hex[:12]
    page = _Page(target.project, session_id, rows) if report and not outer else None
    console = _Console(target.flow, len(plan), jobs, progress)
    run = functools.partial(
        _run_one,
        session_id=session_id,
        timeout=timeout,
        export_html=export_html,
        echo=console.echo,
        only_changed=only_changed,
        comparison=comparison,
    )
    results = _Session(plan, readiness, run, jobs, page, console).work()
    if check:
        _check(results, target.flow)
    return _beside(table, rows, results)


def run_stored(instances: Instances, ids: Sequence[str], *, only_changed: bool = False) -> list[Result]:
    """Run stored instances one after another, upstreams first, their logs live.

    One whose upstream is red, or is skipped without a valid earlier run, is blocked. One that reads what is
    not there, neither from these runs nor from earlier ones, is red.

    Args:
        instances: all of the project.
        ids: of those to run.
        only_changed: leave as it is what has not changed since its last run.

    Returns:
        What came of each, in the order of the graph.

    Raises:
        KeyboardInterrupt: what was running has been stopped.
    """
    readiness = Readiness(instances)
    plan = [instances.by_id[id] for id in readiness.graph.order(ids)]
    here = {instance.id for instance in plan}
    session_id = uuid.uuid4().hex[:12]
    comparison = comparison_in(instances.project.root)

    def run(instance: Instance, stop: threading.Event) -> Result:
        lack = readiness.lack(instance, lambda upstream: upstream.id in here)
        if lack is None:
            return _run_one(
                instance,
                stop,
                session_id=session_id,
                timeout=None,
                export_html=True,
                echo=True,
                only_changed=only_changed,
                comparison=comparison,
            )
        first = " ".join(upstream.id for upstream in lack.run_first)
        remedy = f" Run it first: ductaflow run {first}" if first else ""
        return _unrun(instance, Status.ERROR, " ".join(lack.sentences) + remedy, "input")

    return _Session(plan, readiness, run, 1, None, _Refusals()).work()


# --- the table and its runs --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    """What is run for each row. `source` is None for the project's own flow or build of that name."""

    project: Project
    kind: Kind
    flow: str
    source: Path | None

    @classmethod
    def of(cls, build: str | os.PathLike[str], project_root: str | os.PathLike[str] | None) -> _Target:
        path = Path(build)
        if isinstance(build, str) and path.name == build and path.suffix not in SOURCE_SUFFIXES:
            project = find_project(project_root)
            return cls(_nested(project), kind_of_flow(project, build), build, None)
        source = find_notebook(path, project_root)
        project = find_project(project_root, near=source.parent)
        kind = kind_of(source)
        own = project.source(kind, source.stem) == source
        return cls(_nested(project), kind, source.stem, None if own else source)


def _nested(project: Project) -> Project:
    """In a run, the project with the run's own runs folder."""
    run = current_run()
    return replace(project, runs_dir=Path(run.folder) / RUNS_DIR) if run else project


def _without_results(table: DataFrame) -> DataFrame:
    """The table without the columns that an earlier call has added."""
    for names in (RESULT_COLUMNS, FORECAST_COLUMNS):
        if all(name in getattr(table, "columns", ()) for name in names):
            table = table.drop(columns=list(names))
    added = [column for column in RESULT_COLUMNS if column in getattr(table, "columns", ())]
    if added:
        raise ConfigError(
            f"the table has the column {added[0]!r}, which the results need", hint="Rename it, or drop it."
        )
    return table


def _plan(rows: Sequence[Row], target: _Target, common: Mapping[str, Any]) -> list[Instance]:
    """The instance of each row; one that cannot be run says why."""
    instances = [_instance(row, target, common) for row in rows]
    cycles = Graph(instances).cycle_problems()
    return [
        replace(instance, problem=cycles[instance.id])
        if instance.id in cycles and not instance.problem
        else instance
        for instance in instances
    ]


def _instance(row: Row, target: _Target, common: Mapping[str, Any]) -> Instance:
    project, kind, flow = target.project, target.kind, target.flow
    try:
        own = merge(common, row.config())
        return make_instance(project, kind, flow, row.name, own, source=target.source)
    except DuctaflowError as exc:
        file = project.config_of(kind) / f"{flow}.json"
        return Instance(kind, flow, row.name, project, {}, RunOptions(), target.source, file, exc)


def _beside(table: DataFrame, rows: Sequence[Row], results: Sequence[Result]) -> DataFrame:
    import pandas as pd

    out = _named(table, rows)
    columns: dict[str, list[Any]] = {
        "status": [result.status.value for result in results],
        "cause": [result.cause for result in results],
        "message": [result.message for result in results],
        "seconds": [result.seconds for result in results],
        "warning_count": [result.warning_count for result in results],
        "folder": [str(result.folder) if result.folder else None for result in results],
    }
    for name in RESULT_COLUMNS:
        # As objects, so that "none" stays None.
        dtype = object if name in ("cause", "folder") else None
        out[name] = pd.Series(columns[name], index=out.index, dtype=dtype)
    return out


def _forecast(table: DataFrame, rows: Sequence[Row], planned: Sequence[Planned]) -> DataFrame:
    out = _named(table, rows)
    out["would"] = [one.would.value for one in planned]
    out["reason"] = [one.reason for one in planned]
    out["expected_seconds"] = [one.seconds for one in planned]
    return out


def _named(table: DataFrame, rows: Sequence[Row]) -> DataFrame:
    out = table.copy()
    if not any(column in out for column in NAME_COLUMNS):
        out.insert(0, NAME_COLUMN, [row.name for row in rows])
    return out


def _check(results: Sequence[Result], flow: str) -> None:
    red = [result for result in results if result.status is Status.ERROR]
    if red:
        named = ", ".join(result.instance for result in red[:10]) + (", ..." if red[10:] else "")
        raise DuctaflowError(
            f"{len(red)} of {len(results)} runs of {flow} are red: {named}",
            hint=f"The first: {red[0].message}",
        )


# --- the runs of one call ----------------------------------------------------------------------------------


class _Shows(Protocol):
    """What a person sees of a session."""

    def show(self, instance: Instance, result: Result) -> None: ...

    def tick(self) -> None: ...

    def close(self, page: Path | None) -> None: ...


class _Session:
    """The runs of one call: which may start, and what came of each.

    Args:
        plan: what to run. Among those that may start the first comes first.
        readiness: of all instances that there are.
        run: runs one until its end, or until the event that it is given is set.
        jobs: how many run at a time.
        page, console: what is told of each result.
    """

    def __init__(
        self,
        plan: Sequence[Instance],
        readiness: Readiness,
        run: Callable[[Instance, threading.Event], Result],
        jobs: int,
        page: _Page | None,
        console: _Shows,
    ) -> None:
        self._plan = {instance.id: instance for instance in plan}
        self._run = run
        self._jobs = jobs
        self._page = page
        self._console = console
        self._stop = threading.Event()
        self._results: dict[str, Result] = {}
        self._readiness = readiness
        self._graph = readiness.graph
        self._places = {id: place for place, id in enumerate(self._plan)}
        self._waits = {id: self._places.keys() & self._graph.upstreams(id) for id in self._plan}
        #: A heap of those that wait for nothing, by their place in the plan.
        self._ready = [(place, id) for id, place in self._places.items() if not self._waits[id]]
        #: For each red or blocked one the instance that is the cause, and what it says.
        self._blame: dict[str, str] = {}

    def work(self) -> list[Result]:
        """Run all, and give the results in the order of the plan.

        Raises:
            KeyboardInterrupt: after what was running has been stopped, and the page and the console closed.
        """
        running: dict[Future[Result], str] = {}
        pool = ThreadPoolExecutor(self._jobs, thread_name_prefix="conduct")
        try:
            if self._page:
                self._page.expect([_unrun(i, Status.NOT_RUN, NOT_YET) for i in self._plan.values()])
            for instance in self._plan.values():
                if instance.problem:
                    refused = _unrun(instance, Status.ERROR, _said(instance.problem), "input")
                    self._settle(_skipped(instance) or refused)
            while self._start(pool, running):
                for future in wait(running, timeout=_TICK, return_when=FIRST_COMPLETED).done:
                    self._settle(future.result())
                    del running[future]
                self._console.tick()
        finally:
            # Something runs here only if something was raised: it is stopped, and the rest does not begin.
            self._stop.set()
            try:
                pool.shutdown()
            finally:
                self._close(running)
        return [self._results[id] for id in self._plan]

    def _start(self, pool: ThreadPoolExecutor, running: dict[Future[Result], str]) -> bool:
        """Start what may start; tell whether anything runs."""
        while self._ready and len(running) < self._jobs:
            instance = self._plan[heapq.heappop(self._ready)[1]]
            if instance.id in self._results:
                continue
            if unrun := self._why_not(instance):
                self._settle(unrun)
            else:
                running[pool.submit(self._run, instance, self._stop)] = instance.id
        return bool(running)

    def _why_not(self, instance: Instance) -> Result | None:
        """Why an instance whose turn has come does not run."""
        if skipped := _skipped(instance):
            return skipped
        for upstream in self._graph.upstreams(instance.id):
            if upstream in self._blame:
                cause = self._blame[instance.id] = self._blame[upstream]
                through = (
                    f"{upstream} is blocked: " if self._results[upstream].status is Status.BLOCKED else ""
                )
                return _unrun(instance, Status.BLOCKED, through + cause)
        if absent := self._readiness.skipped_upstream(instance):
            self._blame[instance.id] = absent
            return _unrun(instance, Status.BLOCKED, absent)
        return None

    def _settle(self, result: Result) -> None:
        build = current_run()
        if build and result.status is Status.ERROR and not result.run_id:
            # it has no run folder by which the build would know it
            tell(build, event="refused", id=result.id, message=result.message)
        self._results[result.id] = result
        if result.status is Status.ERROR:
            self._blame[result.id] = f"{result.id} is red: {result.message}"
        for reader in self._graph.downstreams(result.id):
            if result.id in self._waits.get(reader, ()):
                self._waits[reader].discard(result.id)
                if not self._waits[reader]:
                    heapq.heappush(self._ready, (self._places[reader], reader))
        self._console.show(self._plan[result.id], result)
        if self._page:
            self._page.update(result)

    def _close(self, running: Mapping[Future[Result], str]) -> None:
        for future, id in running.items():
            if id not in self._results and not future.exception():
                self._settle(future.result())
        for instance in self._plan.values():
            if instance.id not in self._results:
                self._settle(_unrun(instance, Status.NOT_RUN, NOT_STARTED))
        self._console.close(self._page.close() if self._page else None)


def _run_one(
    instance: Instance,
    stop: threading.Event,
    *,
    session_id: str,
    timeout: float | None,
    export_html: bool,
    echo: bool,
    only_changed: bool,
    comparison: Comparison,
) -> Result:
    """Run an instance; what could not start is a result too."""
    try:
        return run_instance(
            instance,
            session_id=session_id,
            timeout=timeout,
            export_html=export_html,
            echo=echo,
            check=False,
            stop=stop,
            only_changed=only_changed,
            comparison=comparison,
        )
    except DuctaflowError as exc:
        return _unrun(instance, Status.ERROR, _said(exc), "input")
    except OSError as exc:
        return _unrun(instance, Status.ERROR, f"the run could not be started: {exc}", "lost")


def _skipped(instance: Instance) -> Result | None:
    """The record of an instance that its config skips."""
    reason = instance.skip_reason()
    return _unrun(instance, Status.NOT_RUN, f"skipped: {reason}") if reason else None


def _unrun(instance: Instance, status: Status, message: str, cause: Cause | None = None) -> Result:
    """The record of an instance that has no run in this session."""
    # Where a name cannot be one there is no folder either.
    folder = None if instance.problem else instance.run_folder.path
    return Result(instance.flow, instance.name, instance.kind, status, cause, message, folder=folder)


def _said(exc: DuctaflowError) -> str:
    return f"{exc.message.rstrip('.')}. {exc.hint}" if exc.hint else exc.message


# --- what is shown of them ---------------------------------------------------------------------------------


class _Page:
    """The status page of one call, with the values of the rows."""

    def __init__(self, project: Project, session_id: str, rows: Sequence[Row]) -> None:
        self._live = LiveReport(project.runs_dir, session_id=session_id, project_root=project.root)
        self._parameters = {row.name: masked(row.values) for row in rows}

    def expect(self, results: Sequence[Result]) -> None:
        self._live.expect([self._entry(result) for result in results])

    def update(self, result: Result) -> None:
        self._live.update(self._entry(result))

    def close(self) -> Path | None:
        try:
            return self._live.close()
        except DuctaflowError as exc:
            # The results of hours are not to be lost for a page that can be made again.
            warnings.warn(str(exc), RuntimeWarning, stacklevel=2)
            return None

    def _entry(self, result: Result) -> Entry:
        return Entry(result, parameters=self._parameters[result.instance])


class _Console:
    """What a person sees of one call: logs, or a progress bar, and one line at the end. Never both.

    Inside a run it is the lines of the flows that are seen, as its log has to repeat them.

    Attributes:
        echo: whether each run shows its log while it runs.
    """

    def __init__(self, flow: str, total: int, jobs: int, progress: bool | None) -> None:
        nested = current_run() is not None
        self.echo = jobs == 1 and (nested or progress is None)
        self._repeats = nested and jobs > 1
        self._nested = nested
        self._closes = not nested and progress is not False
        self._flow = flow
        self._counts: Counter[Status] = Counter()
        self._bar: tqdm[NoReturn] | None = None
        if not nested and (progress or (progress is None and jobs > 1 and _is_watched())):
            from tqdm import tqdm

            # `miniters` keeps tqdm from starting a thread of its own.
            self._bar = tqdm(
                total=total, desc=flow, unit="run", miniters=1, dynamic_ncols=True, file=sys.stderr
            )
        self._ticked = time.monotonic()

    def show(self, instance: Instance, result: Result) -> None:
        self._counts[result.status] += 1
        ran = bool(result.run_id)
        if self._repeats and result.status is Status.UNCHANGED:
            show_on_console(unchanged_lines(result))
        elif self._repeats and ran:
            _repeat(instance)
        elif not ran and result.message != NOT_STARTED and (self.echo or self._repeats):
            # In a build's log it is a warning: it has not all that it asked for.
            sign = "⚠️ " if self._nested else ""
            show_on_console(f"{sign}{result.flow}[{result.instance}] {result.status}: {result.message}\n")
        if self._bar is not None and result.message != NOT_STARTED:
            bad = [
                f"{count} {status}" for status, count in self._counts.items() if status is not Status.SUCCESS
            ]
            self._bar.set_postfix_str(", ".join(bad), refresh=False)
            self._bar.update()

    def tick(self) -> None:
        """Set the clock of the bar, once a second."""
        if self._bar is not None and time.monotonic() - self._ticked >= 1:
            self._ticked = time.monotonic()
            self._bar.refresh()

    def close(self, page: Path | None) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._closes:
            counts = ", ".join(
                f"{self._counts[status]} {status}" for status in Status if self._counts[status]
            )
            where = f" | Report: {page}" if page else ""
            show_on_console(f"{self._flow}: {counts or 'nothing to run'}{where}\n")


class _Refusals:
    """What a person sees of runs whose logs are live: besides those, why one did not run."""

    def show(self, instance: Instance, result: Result) -> None:
        if not result.run_id and result.message != NOT_STARTED:
            refused = result.status is Status.ERROR
            begin = f"Error: {instance.title}" if refused else f"{instance.title} {result.status}"
            show_on_console(f"{begin}: {result.message}\n", sys.stderr)

    def tick(self) -> None:
        pass

    def close(self, page: Path | None) -> None:
        pass


def _is_watched() -> bool:
    return sys.stderr.isatty() or is_notebook_execution()


def _repeat(instance: Instance) -> None:
    """The log of a flow that has run, in one piece, as the log of its build has it."""
    lines = IndentedLines(spec_of_instance(instance))
    with instance.run_folder.log.open(encoding="utf-8", errors="replace", newline="") as log:
        while text := log.read(_PIECE):
            lines(text)
    lines.close()
