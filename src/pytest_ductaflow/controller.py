"""In the process that a person started: the report, the scheduler, the end of the session."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from ductaflow.common.host import is_debugged
from ductaflow.common.text import clean
from ductaflow.execution.page_orders import told_of_pages
from ductaflow.session.pairs import pair_lines
from ductaflow.session.resources import RoomHere, declared
from pytest_ductaflow import github
from pytest_ductaflow.artifact import Artifact
from pytest_ductaflow.collection import InstanceHooks
from pytest_ductaflow.items import TestStatus, teststatus, without_source
from pytest_ductaflow.junit import JUnit
from pytest_ductaflow.progress import Live
from pytest_ductaflow.projects import named_paths
from pytest_ductaflow.pytest_hooks import OtherAnnotations, given_dist, is_covered, with_folders
from pytest_ductaflow.runtime import Warming
from pytest_ductaflow.sections import Sections
from pytest_ductaflow.shards import write_durations
from pytest_ductaflow.signals import Workers
from pytest_ductaflow.xdist_scheduler import GraphScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

LAST_FAILED = "cache/lastfailed"
#: Parts of a report that are mostly the same in the next one of its item.
_OFTEN_ALIKE = ("location", "keywords", "user_properties", "sections")


class ControllerHooks:
    """In the process that a person started: the report, the scheduler, the end of the session."""

    def __init__(self, config: pytest.Config, common: InstanceHooks) -> None:
        self._config = config
        self._common = common
        self._is_over = False
        self._projects = common.projects
        self._options = common.options
        self._workers = Workers()
        self._warming = Warming(
            common.projects,
            ("coverage",) if is_covered(config) else (),
            is_wanted=any(settings.engine_for(None).needs_server for settings in common.asked),
            # Perhaps nothing has to run, or all in this process.
            when_needed=common.options.only_changed or common.options.debug,
            with_pages=any(settings.html for settings in common.asked),
        )
        self._worker_count = 0
        self._is_local = True
        self._found_room: RoomHere | None = None
        self._scheduling: GraphScheduling | None = None
        self._artifact = Artifact(common.projects, common.options, common.sharding)
        self._live = Live(config, common.projects)
        self._artifact.left = self._live.left
        self._github = github.for_this_session(common.projects)
        self._baseline = common.flows.baseline
        self._said: list[str] = []
        self._waited: dict[str, str] = {}
        self._uncounted: str | None = None
        self._expects_other = False
        self._reports: dict[str, pytest.TestReport] = {}

    def pytest_sessionstart(self) -> None:
        # Every plugin is there now.
        self._junit = JUnit(self._config, self._projects)
        if self._github:
            OtherAnnotations(self._config, lambda nodeid: self._projects.instance(nodeid) is not None)

    # --- serial ------------------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        nodeids = [item.nodeid for item in session.items]
        if reporter := self._config.pluginmanager.get_plugin("terminalreporter"):
            with_folders(reporter, self._projects.folder_of)
        self._warming.expect(nodeids, workers=1)
        self._artifact.expect(nodeids)
        self._live.expect(nodeids, workers=1)

    # --- workers -----------------------------------------------------------------------------------------

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[object]) -> None:
        self._worker_count = len(specs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        node.workerinput["ductaflow_session_id"] = self._options.session_id
        node.workerinput["ductaflow_dist"] = given_dist(self._config)
        spec = node.gateway.spec
        is_local = spec.popen and not spec.via
        node.workerinput["ductaflow_owner_pid"] = self._options.owner_pid if is_local else None
        self._is_local = self._is_local and bool(is_local)
        if is_local:
            channel = node.gateway.remote_exec("import os; channel.send(os.getpid())")
            self._workers.add(node.gateway.id, channel.receive())
            # A gateway executes one thing at a time, and xdist's own is next.
            channel.waitclose()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Scheduling | None:
        if given_dist(self._config):
            return None
        projects = self._projects
        self._scheduling = GraphScheduling(
            config,
            log,
            projects.edges,
            projects.seconds,
            self._worker_count,
            # Nobody knows what there is on other machines.
            self._room if self._is_local else None,
            self._see_waits,
        )
        return self._scheduling

    def _see_waits(self, waits: Mapping[str, str]) -> None:
        """Show what waits for room, and remember it for those who read the end of a session only."""
        self._live.wait(waits)
        for nodeid, lack in waits.items():
            self._waited.setdefault(nodeid, lack)

    def _room(self, nodeids: Sequence[str]) -> RoomHere:
        """What there is, and what items take of it. All workers collect alike, so that is found once."""
        self._found_room = self._found_room or self._projects.room(nodeids, self._worker_count)
        return self._found_room

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: Sequence[str]) -> None:
        if self._uncounted is None and self._worker_count > 1 and given_dist(self._config):
            self._uncounted = declared(map(self._projects.instance, ids))
        self._warming.expect(ids, self._worker_count)
        self._artifact.expect(ids)
        self._live.expect(ids, self._worker_count, self._room if self._is_local else None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController, error: object | None) -> None:
        self._workers.remove(node.gateway.id)
        # A worker that died left none.
        output = getattr(node, "workeroutput", {})
        sharding = self._common.sharding
        self._common.met_one |= output.get("ductaflow_met_one", False)
        sharding.emptied |= output.get("ductaflow_emptied", False)
        sharding.told = output.get("ductaflow_shares") or sharding.told

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        self._artifact.lost(crashitem, report.node.gateway.id)
        self._live.finish(crashitem)

    # --- both --------------------------------------------------------------------------------------------

    def pytest_report_header(self) -> list[str]:
        said = []
        if is_debugged():
            said.append("a debugger is attached; flows run in this process, or in fresh ones beside it")
        dist = given_dist(self._config)
        if dist is not None and self._config.getoption("tx", None):
            said.append(
                f"--dist={dist} is kept; it does not know the graph,"
                " and an instance that it starts before its upstreams have finished fails"
            )
        for project in dict.fromkeys(map(self._projects.around, named_paths(self._config))):
            said += pair_lines(project) if project else ()
        return [f"ductaflow: {clean(line)}" for line in said]

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> TestStatus:
        return teststatus(report, is_over=self._is_over)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._artifact.start(nodeid)
        self._live.start(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._artifact.update(report)
        self._live.report(report, self._artifact.status_of(report.nodeid))
        if self._scheduling and (result := self._artifact.result_of(report.nodeid)):
            self._scheduling.learn(report.nodeid, result)
        if accepted := report.__dict__.pop("ductaflow_accepted", None):
            lines, is_other = accepted
            self._said += lines
            self._expects_other |= is_other
        self._junit.update(report)
        if self._github:
            self._github.update(report)
        if self._baseline and (kinds := report.__dict__.pop("ductaflow_kinds", None)):
            self._baseline.see(report.nodeid, kinds, self._projects)

    @pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_runtest_logreport")
    def pytest_runtest_logreport_whole(self) -> Generator[None, object, object]:
        """Ctrl-C waits: a report that somebody has taken in by half would be missing on the page."""
        with self._common.signals.held():
            return (yield)

    @pytest.hookimpl(trylast=True, specname="pytest_runtest_logreport")
    def pytest_runtest_logreport_last(self, report: pytest.TestReport) -> None:
        """When all plugins have seen it: what the reports of an item have alike, they have once."""
        if self._projects.instance(report.nodeid) is None:
            return
        # the terminal keeps the three reports of each item until the end
        if before := self._reports.pop(report.nodeid, None):
            for name in _OFTEN_ALIKE:
                if (known := getattr(before, name)) == getattr(report, name):
                    setattr(report, name, known)
        if report.when != "teardown":
            self._reports[report.nodeid] = report

    def pytest_enter_pdb(self) -> None:
        self._live.abandon()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._live.finish(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        without_source(warning_message)

    def pytest_keyboard_interrupt(self) -> None:
        self._workers.stop()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        self._is_over = True
        self._live.close()
        # Those that are still at work are not waited for, whatever ended the session.
        self._workers.stop()
        return (yield)

    @pytest.hookimpl(trylast=True, specname="pytest_sessionfinish")
    def pytest_sessionfinish_last(self, session: pytest.Session) -> None:
        self._workers.ended()
        self._artifact.close()
        self._remember_blocked(session.config)
        self._keep_files(session)

    def _keep_files(self, session: pytest.Session) -> None:
        """Write what the project commits, as far as that is asked for, and let it decide on the exit code."""
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._common.sharding.emptied:
            session.exitstatus = pytest.ExitCode.OK
        path = self._common.durations
        failed = self._expects_other
        try:
            if path and session.config.getoption("ductaflow_durations_update"):
                count = write_durations(path, self._artifact.outcomes(), self._projects)
                self._said.append(f"durations of {count} instances: {path}")
            if self._baseline:
                failed = self._baseline.close(self._projects)
        except OSError as exc:
            self._said.append(f"ductaflow could not write what it was asked to: {exc}")
            failed = True
        if failed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _remember_blocked(self, config: pytest.Config) -> None:
        """pytest forgets a red test that is skipped now; `--lf` shall bring back what is blocked too."""
        blocked = self._artifact.blocked()
        cache = getattr(config, "cache", None)
        if blocked and cache is not None:
            cache.set(LAST_FAILED, {**cache.get(LAST_FAILED, {}), **dict.fromkeys(blocked, True)})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, object, object]:
        """pytest's own sections first, shortened; ours is the last."""
        self._sections = Sections(terminalreporter, self._artifact.causes())
        self._sections.shorten_failures()
        try:
            return (yield)
        finally:
            self._sections.restore()
            self._write_section(terminalreporter)

    @pytest.hookimpl(trylast=True, specname="pytest_terminal_summary")
    def pytest_terminal_summary_between(self) -> None:
        """After pytest has shown the failures, before it lists them."""
        self._sections.shorten_summary()

    def _write_section(self, terminalreporter: pytest.TerminalReporter) -> None:
        self._artifact.summary(terminalreporter)
        if line := self._common.sharding.line():
            terminalreporter.write_line(line)
        if line := told_of_pages():
            terminalreporter.write_line(line)
        for nodeid, lack in [*self._waited.items()][:1]:
            count = len(self._waited)
            terminalreporter.write_line(
                f"{count} waited for room on this machine: {clean(nodeid.rpartition('::')[2])} for {lack}"
            )
        if self._uncounted:
            dist, what = given_dist(self._config), clean(self._uncounted)
            terminalreporter.write_line(
                f"ductaflow: with --dist={dist} no run waits for room: {what} did not count for that"
            )
        for line in [*self._said, *(self._baseline.lines(self._projects) if self._baseline else [])]:
            terminalreporter.write_line(line)
        if self._github:
            if trouble := self._github.write_summary(self._artifact.twins()):
                terminalreporter.write_line(trouble)
            for line in self._github.lines(self._artifact.outcomes()):
                terminalreporter.write_line(line)
