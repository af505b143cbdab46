"""On the controller: collects the outcomes of instances, keeps the report, writes the summary.

There is one report for each runs folder, whatever the number of workers.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import read_regular
from ductaflow.common.terminal import Line, link_to, shows_links
from ductaflow.common.text import first_line, shown_path
from ductaflow.project.instances import Instance
from ductaflow.project.orphans import lost_expectations
from ductaflow.project.settings import Project
from ductaflow.report import NOT_YET, Entry, LiveReport, Stored, Working, build_report
from ductaflow.report.earlier import former_head, former_instances
from ductaflow.report.schema import AtWork
from ductaflow.report.twin import utc_now
from ductaflow.session.decide import NOT_STARTED, unrun
from ductaflow.store.causes import Group
from ductaflow.store.expected import look_command
from ductaflow.store.folder import unfinished
from ductaflow.store.result import (
    Cells,
    Environment,
    Metric,
    Result,
    Status,
    readable_result,
    result_of_session,
)
from pytest_ductaflow import items
from pytest_ductaflow.failure import paint, run_again
from pytest_ductaflow.github import InstanceOutcome, SessionTwin
from pytest_ductaflow.projects import Projects
from pytest_ductaflow.shards import Sharding
from pytest_ductaflow.summary import SessionResults, cause_lines, summary_lines

#: How many unfinished runs of earlier sessions the terminal names.
MAX_NAMED = 30
#: Of all results that are kept; who needs them reads them again.
_NO_ENVIRONMENT: Final[Environment] = {}
_NO_REASONS: Final[dict[str, int]] = {}
_NO_METRICS: Final[dict[str, Metric]] = {}
_NO_CELLS: Final = Cells(0, 0)
_ENDED_EARLY = re.compile(rb'"(interrupted|lost)"')


@dataclass
class _Tree:
    """One runs folder: the project, expected instances and results by node id."""

    project: Project
    report: LiveReport | None
    expected: dict[str, Instance] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    xfailed: set[str] = field(default_factory=set)
    started: dict[str, str] = field(default_factory=dict)
    workers: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    page: Path | None = None
    trouble: str = ""

    @property
    def session(self) -> SessionResults:
        return SessionResults(self.results, self.xfailed, self.failing)

    def result(self, nodeid: str) -> Result:
        """Return the result of an instance, with its folder."""
        result = self.results[nodeid]
        if result.folder or not result.status.has_run:
            return result
        return replace(result, folder=self.expected[nodeid].run_folder.path)

    @functools.cached_property
    def causes(self) -> list[Group]:
        """The causes of failures; asked when all results are there."""
        return self.session.causes()


class Artifact:
    """The results of a session, and its reports."""

    def __init__(self, projects: Projects, options: items.SessionOptions, sharding: Sharding) -> None:
        self._projects = projects
        self._session_id = options.session_id
        self._only_changed = options.only_changed
        self._sharding = sharding
        self._trees: dict[Path, _Tree] = {}
        #: Gives the seconds that the session may still take; None if nothing is known.
        self.left: Callable[[], float | None] = lambda: None
        self._tree_of: dict[str, _Tree] = {}

    # --- while it runs -----------------------------------------------------------------------------------

    def expect(self, nodeids: Iterable[str]) -> None:
        """Take note of what will run, in order. Every worker repeats it; the first time counts."""
        if self._trees:
            return
        for nodeid in nodeids:
            instance = self._projects.instance(nodeid)
            if instance:
                tree = self._tree(instance)
                tree.expected[nodeid] = instance
                self._tree_of[nodeid] = tree
        for tree in self._trees.values():
            if tree.report:
                tree.report.expect(
                    self._entry(tree, nodeid, unrun(instance, Status.NOT_RUN, NOT_YET))
                    for nodeid, instance in tree.expected.items()
                )

    def start(self, nodeid: str) -> None:
        """Take note that an item began."""
        if tree := self._tree_of.get(nodeid):
            tree.started[nodeid] = utc_now()

    def update(self, report: pytest.TestReport) -> None:
        """Take in a report of pytest; reports of instances carry their outcomes."""
        tree = self._tree_of.get(report.nodeid)
        if tree is None:
            return
        instance = tree.expected[report.nodeid]
        if report.skipped and hasattr(report, "wasxfail"):
            tree.xfailed.add(report.nodeid)
        if report.failed:
            paint(report)
        text = getattr(report, "ductaflow", None)
        if text:
            # the terminal keeps every report until the end
            del report.ductaflow
            if worker := getattr(report, "worker_id", None):
                tree.workers[report.nodeid] = worker
            told = items.ItemOutcome.load(text, instance.run_folder.path)
            result = told.result or unrun(instance, told.status, told.message, told.cause)
            message = told.message
            if report.failed and not result.status.is_error:
                # the status stays; readers of the report have to know
                tree.failing[report.nodeid] = reason = _reason(report)
                result = replace(result, message=_with_reason(result.message, reason))
                message = _with_reason(message, reason)
            self._keep(tree, report.nodeid, result, message)
        elif report.nodeid not in tree.results and not report.passed:
            # a mark of a conftest, a fixture, another plugin: the instance did not run
            status = Status.NOT_RUN if report.skipped else Status.ERROR
            message = first_line(_reason(report)) or report.outcome
            self._keep(tree, report.nodeid, unrun(instance, status, message))

    def lost(self, nodeid: str, worker: str) -> None:
        """Take note that the worker of an item died while the item ran."""
        if tree := self._tree_of.get(nodeid):
            message = f"worker {worker} died while it ran"
            self._keep(tree, nodeid, unrun(tree.expected[nodeid], Status.ERROR, message, "lost"))

    def status_of(self, nodeid: str) -> Status | None:
        """Return the status of an instance; None if it has none yet, or is no instance."""
        result = self.result_of(nodeid)
        return result.status if result else None

    def result_of(self, nodeid: str) -> Result | None:
        """Return what came of an instance; None if that is not known."""
        tree = self._tree_of.get(nodeid)
        return tree.results.get(nodeid) if tree else None

    def blocked(self) -> list[str]:
        """Return the node ids of the blocked instances."""
        results = [item for tree in self._trees.values() for item in tree.results.items()]
        return [nodeid for nodeid, result in results if result.status is Status.BLOCKED]

    # --- at the end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Account for instances without a report, and write the final pages."""
        for tree in self._trees.values():
            for nodeid, instance in tree.expected.items():
                if nodeid not in tree.results:
                    self._keep(tree, nodeid, self._left_over(instance, nodeid in tree.started))
            if tree.report:
                try:
                    tree.page = tree.report.close()
                except DuctaflowError as exc:
                    tree.trouble = str(exc)

    def outcomes(self) -> list[InstanceOutcome]:
        """Return the outcome of each instance, in the order in which they were expected."""
        return [
            InstanceOutcome(nodeid, instance, tree.result(nodeid), nodeid in tree.xfailed)
            for tree in self._trees.values()
            for nodeid, instance in tree.expected.items()
            if nodeid in tree.results
        ]

    def twins(self) -> Iterator[SessionTwin]:
        """Yield the twin of each project, from its file where one was written."""
        for tree in self._trees.values():
            project, faults = tree.project, list[str]()
            expected = frozenset(tree.results[nodeid].id for nodeid in tree.xfailed & tree.results.keys())
            head = former_head(project.runs_dir, faults) if tree.page else None
            if head:
                instances = former_instances(project.runs_dir)
            else:
                entries = (self._entry(tree, id, _whole(tree.result(id))) for id in tree.results)
                twin = build_report(
                    map(self._stored(project).with_facts, entries),
                    session_id=self._session_id,
                    started="",
                    finished="",
                    runs_dir=project.runs_dir,
                    project_root=project.root,
                )
                head, instances = twin, iter(twin["instances"])
            yield SessionTwin(head, instances, project.root, tree.page, expected)

    def causes(self) -> list[Sequence[str]]:
        """Return the node ids of failed tests, by their causes."""
        return [group.names for tree in self._trees.values() for group in tree.causes]

    def summary(self, terminal: pytest.TerminalReporter) -> None:
        """Write the section at the end of the session; not with `-qq`, nor without an instance."""
        if not self._trees or terminal.verbosity < -1:
            return
        terminal.write_sep("=", "ductaflow")
        for tree in self._trees.values():
            if len(self._trees) > 1:
                terminal.write_line(f"{shown_path(tree.project.root, self._projects.invocation_dir)}:")
            for line in self._lines(tree, terminal):
                if terminal.hasmarkup and isinstance(line, Line):
                    line = line.painted(str)
                terminal.write_line(line)

    def _tree(self, instance: Instance) -> _Tree:
        project = instance.project
        if project.runs_dir not in self._trees:
            report = None
            if project.settings.report:
                report = LiveReport(
                    project.runs_dir,
                    session_id=self._session_id,
                    project_root=project.root,
                    stored=lambda: self._stored(project),
                    shard=lambda: self._sharding.of_project(project.root),
                    at_work=lambda: self._at_work(project),
                    waits_for_run=self._only_changed,
                )
            self._trees[project.runs_dir] = _Tree(project, report)
        return self._trees[project.runs_dir]

    def _at_work(self, project: Project) -> Working:
        """Return what runs and how long that may take. A thread of the report asks."""
        tree = self._trees[project.runs_dir]
        running = [
            AtWork(id=tree.expected[nodeid].id, since=since)
            for nodeid, since in [*tree.started.items()]
            if nodeid not in tree.results
        ]
        return Working(running, self.left())

    def _stored(self, project: Project) -> Stored:
        readiness = self._projects.at(project.root)
        return Stored(readiness.instances, readiness.graph, self._projects.nodeid)

    def _unfinished(self, tree: _Tree) -> Iterator[str]:
        """Yield runs that earlier sessions did not finish and this one did not repeat, with a remedy."""
        faults: list[str] = []
        left = {
            run.folder: f"started {run.owner.started}"
            for run in unfinished(tree.project.runs_dir, faults)
            if run.owner.session_id != self._session_id
        }
        yield from faults
        for nodeid, instance in tree.expected.items():
            known = tree.results.get(nodeid)
            # what ran has a result of this session, and what is unchanged a good one
            result = None if known and known.run_id else _ended_early(instance)
            if result and result.session_id != self._session_id:
                left[instance.run_folder.path] = first_line(result.message)
        instances = self._projects.at(tree.project.root).instances.all if left else ()
        stored = {instance.run_folder.path: instance for instance in instances}
        for folder, why in left.items():
            where = shown_path(folder, self._projects.invocation_dir)
            own = stored.get(folder)
            again = run_again(self._projects, [own]) if own else f"ductaflow run {where}"
            yield f"unfinished in an earlier session: {where} ({why}); run it again: {again}"

    def _keep(self, tree: _Tree, nodeid: str, result: Result, message: str | None = None) -> None:
        """Show and keep the result of an instance, with the message for the terminal."""
        # The report has the rest; the texts of thousands of results would add up here.
        failure = result.failure and replace(result.failure, traceback="", source=())
        is_error = result.status.is_error
        instance = tree.expected[nodeid]
        tree.results[nodeid] = replace(
            result,
            flow=instance.flow,
            instance=instance.name,
            failure=failure,
            message=result.message if message is None else message,
            session_id=sys.intern(result.session_id),
            started=result.started if is_error else None,
            finished=result.finished if is_error else None,
            config_hash=result.config_hash if is_error else None,
            folder=result.folder if is_error else None,
            cells=result.cells if is_error else _NO_CELLS,
            metrics=result.metrics if is_error else _NO_METRICS,
            warnings=(),
            inputs=(),
            outputs=(),
            lineage=None,
            environment=_NO_ENVIRONMENT,
            reasons=_NO_REASONS,
        )
        tree.started.pop(nodeid, None)
        if tree.report:
            # Last: the page names what has no result as at work.
            tree.report.update(self._entry(tree, nodeid, result))

    def _entry(self, tree: _Tree, nodeid: str, result: Result) -> Entry:
        """Return what the report shows of an instance."""
        return Entry(result, nodeid, worker=tree.workers.get(nodeid), fails=tree.failing.get(nodeid, ""))

    def _left_over(self, instance: Instance, started: bool) -> Result:
        """Return the result of an item without a report: interrupted, or never started."""
        if result := result_of_session(instance.run_folder.path, self._session_id):
            return result
        if started:
            return unrun(instance, Status.ERROR, "the session ended while it ran", "interrupted")
        return unrun(instance, Status.NOT_RUN, NOT_STARTED)

    def _lines(self, tree: _Tree, terminal: pytest.TerminalReporter) -> Iterator[str]:
        verbosity, session = terminal.verbosity, tree.session
        width = terminal.config.get_terminal_writer().fullwidth
        yield from summary_lines(session, verbosity, width=width)
        left = list(self._unfinished(tree))
        yield from left[:MAX_NAMED]
        if len(left) > MAX_NAMED:
            yield f"and {len(left) - MAX_NAMED} more unfinished"
        stored = self._projects.at(tree.project.root).instances
        yield from filter(None, [lost_expectations(tree.project, stored.by_id)])
        if tree.trouble:
            yield tree.trouble
        # What failed is what a person reads, so that is last.
        shared = tree.report.shared_parameters() if tree.report else {}
        root = str(tree.project.root)
        yield from cause_lines(session, tree.causes, verbosity, width=width, shared=shared, root=root)
        if sum(len(group.names) for group in tree.causes) > 1:
            # of a single one its own text has it
            yield self._next_command(tree, tree.causes[0])
        if tree.page:
            shown = shown_path(tree.page, self._projects.invocation_dir)
            is_link = terminal.isatty and terminal.hasmarkup and shows_links()
            yield f"report: {link_to(tree.page, shown) if is_link else shown}"

    def _next_command(self, tree: _Tree, cause: Group) -> str:
        """Return the one command that matters most: for the first instance of the first cause."""
        instance = tree.expected[cause.names[0]]
        if cause.key.kind == "expectation":
            judged = tree.results[cause.names[0]].judged
            # Of bounds, and of a flow inside a build, it shows what there is.
            is_other = judged is not None and judged.is_acceptable
            return f"look: {look_command(instance.id) if is_other else f'ductaflow show {instance.id}'}"
        command = run_again(self._projects, [instance])
        if cause.key.kind == "input":
            # alone it would lack the same again
            command = command.replace("--ductaflow", "--ductaflow --ductaflow-upstream", 1)
        return f"run again: {command}"


def _whole(result: Result) -> Result:
    """Return a result with its texts, from its folder, as far as it is there still."""
    found = readable_result(result.folder) if result.folder else None
    if found is None or found.run_id != result.run_id:
        return result
    return replace(found, status=result.status, former_status=result.former_status, message=result.message)


def _reason(report: pytest.TestReport) -> str:
    """Return why a test failed or was skipped: class and text of the exception, not its traceback."""
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    text = longrepr[2] if isinstance(longrepr, tuple) else crash.message if crash else report.longreprtext
    return str(text).removeprefix("Failed: ")


def _with_reason(message: str, reason: str) -> str:
    """Return the message of a result, and why its test fails all the same, unless it says so itself."""
    return message if message == reason else "; ".join(filter(None, [message, f"fails its test: {reason}"]))


def _ended_early(instance: Instance) -> Result | None:
    """Return the last result of an instance, if its session ended before its run."""
    try:
        # Search for the word first: parsing thousands of results would hold up the session.
        if not _ENDED_EARLY.search(read_regular(instance.run_folder.result)):
            return None
    except OSError:
        # None, or not readable: the next run replaces it.
        return None
    result = readable_result(instance.run_folder.path)
    return result if result and result.cause in ("interrupted", "lost") else None
