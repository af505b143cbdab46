"""The pytest plugin: options and hooks; nothing else. Inert without `--ductaflow`.

options                -> items.SessionOptions, and the settings of each project
which files are items  -> projects.Projects, items.InstanceFile
one item               -> items.InstanceItem: setup, runtest
which worker, when     -> xdist_scheduler.GraphScheduling
which machine          -> shards.Sharding
new warnings           -> baseline.Baseline
results                -> artifact.Artifact, summary, github.GitHub
while it runs          -> progress.Live
--pdb, --trace         -> debugger
Ctrl-C, SIGTERM        -> signals
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_ductaflow.pytest_hooks import given_dist

if TYPE_CHECKING:
    import warnings

    from xdist.remote import Producer
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

    from ductaflow.project.settings import Settings
    from pytest_ductaflow.baseline import Baseline
    from pytest_ductaflow.items import SessionOptions, TestStatus
    from pytest_ductaflow.projects import Projects
    from pytest_ductaflow.shards import Sharding


LAST_FAILED = "cache/lastfailed"


#: Options without a value, and those with one: its name, and what it means.
_FLAGS = {
    "": "Collect and run the stored instances",
    "-changed": "Run what has changed since its last good run; the rest is `unchanged`",
    "-upstream": "Run also what the selected instances read from, at any distance",
    "-downstream": "Run also what reads from the selected instances, at any distance",
    "-durations-update": "Write to the file of durations what the good runs of this session took",
    "-baseline-update": "Write the warnings of this session to the baseline, and fail on none",
    "-baseline-strict": "Fail also if a warning of the baseline no longer occurs",
    "-no-html": "Make no HTML of the notebooks",
    "-no-report": "Write no status report",
}
_VALUES = {
    "-timeout": (
        "SECONDS",
        "Time limit of a run whose config gives none. Default: the setting timeout, else no limit.",
    ),
    "-engine": ("NAME", "What executes the cells. Default: the setting engine, else a warm process."),
    "-shard": (
        "I/N",
        "Run one of N shares of what is selected, such as 2/5, each with all that it reads from",
    ),
    "-durations": (
        "FILE",
        "Seconds of instances, by which shares are balanced. Default: the setting durations.",
    ),
    "-baseline": ("FILE", "Fail on warnings that this file does not have. Default: the setting baseline."),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ductaflow", "stored instances of flows and builds as tests (ductaflow)")
    for name, meaning in _FLAGS.items():
        group.addoption(f"--ductaflow{name}", action="store_true", help=meaning)
    for name, (value, meaning) in _VALUES.items():
        kind = float if value == "SECONDS" else str
        group.addoption(f"--ductaflow{name}", metavar=value, type=kind, help=meaning)


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("ductaflow"):
        return
    common = InstanceHooks(config)
    config.pluginmanager.register(common, "ductaflow-instances")
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        config.pluginmanager.register(ControllerHooks(config, common), "ductaflow-controller")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Help who pasted the node id of an instance without the flag: for pytest it is in no file."""
    if exitstatus == pytest.ExitCode.USAGE_ERROR and not config.getoption("ductaflow"):
        named = [kind for kind in ("/flows/", "/builds/") if any(kind in text for text in config.args)]
        if named and (stored := _stored_by(config)):
            terminalreporter.write_line(f"ductaflow: to run what is stored in {stored}/, add --ductaflow")


def _stored_by(config: pytest.Config) -> str | None:
    """The config folder that an argument lies in, by its name; None if none does."""
    from pytest_ductaflow.projects import Projects

    projects = Projects(config.rootpath, config.invocation_params.dir)
    with contextlib.suppress(pytest.UsageError):
        # what is wrong with the settings is said to those who ask for our part
        for path in _paths(config):
            if root := projects.root_of_config(path):
                return projects.settings_at(root).config_dir
    return None


def _paths(config: pytest.Config) -> list[Path]:
    """The paths that the command line names."""
    return [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]


def _options(config: pytest.Config) -> SessionOptions:
    import os
    import uuid

    from pytest_ductaflow.items import SessionOptions

    told = getattr(config, "workerinput", {})
    return SessionOptions(
        session_id=told.get("ductaflow_session_id") or uuid.uuid4().hex[:12],
        owner_pid=told.get("ductaflow_owner_pid") if told else os.getpid(),
        echo=config.getoption("capture") == "no" and not told,
        upstream=config.getoption("ductaflow_upstream"),
        downstream=config.getoption("ductaflow_downstream"),
        dist=told.get("ductaflow_dist"),
        only_changed=config.getoption("ductaflow_changed"),
        debug=not told and bool(config.getoption("usepdb", False) or config.getoption("trace", False)),
    )


def _overrides(config: pytest.Config) -> dict[str, object]:
    """The settings that the command line gives. An option that is named like a setting is its value.

    Raises:
        pytest.UsageError: one is not acceptable.
    """
    from ductaflow.common.errors import ConfigError
    from ductaflow.project.settings import Settings

    options = vars(config.option)
    given = {one.name: options.get(f"ductaflow_{one.name}") for one in dataclasses.fields(Settings)}
    for name in ("html", "report"):
        given[name] = False if options[f"ductaflow_no_{name}"] else None
    given["only_changed"] = config.getoption("ductaflow_changed")
    for name in ("durations", "baseline"):
        if given[name]:
            given[name] = str(config.invocation_params.dir / str(given[name]))
    try:
        Settings().but(**given)
    except ConfigError as exc:
        raise pytest.UsageError(f"--ductaflow-{exc}") from None
    return given


def _refuse_old_keys(config: pytest.Config) -> None:
    """The settings of ductaflow are no keys of pytest any more.

    Raises:
        pytest.UsageError: there are some left.
    """
    # pytest has no public way to ask for keys that nobody has registered.
    kept = getattr(config, "_inicfg", None)
    given = [text.partition("=")[0] for text in config.getoption("override_ini") or ()]
    keys = dict.fromkeys([*(config.inicfg if kept is None else kept), *given])
    if old := [key for key in keys if key.startswith("ductaflow_")]:
        lines = "".join(f"    {key.removeprefix('ductaflow_')} = ...\n" for key in old)
        raise pytest.UsageError(
            f"{config.inipath or '-o'}: {', '.join(old)}: pytest's ini file has no settings of ductaflow\n"
            f"Write them into pyproject.toml, or into ductaflow.toml without the first line:\n\n"
            f"    [tool.ductaflow]\n{lines}"
        )


def _file(asked: Iterable[Settings], name: str, *, needed_by: str | None) -> Path | None:
    """A file that an option names, or the settings of what the command line names.

    Raises:
        pytest.UsageError: there is none, and an option that was given needs it; or projects name different
            ones.
    """
    found = {value for settings in asked if (value := getattr(settings, name))}
    if len(found) > 1:
        raise pytest.UsageError(
            f"the projects name several files as {name}: {', '.join(sorted(found))}\n"
            f"Give the one for this session: --ductaflow-{name} FILE"
        )
    if not found and needed_by:
        raise pytest.UsageError(
            f"{needed_by} needs a file: add --ductaflow-{name} FILE, or the setting {name}"
        )
    return Path(found.pop()) if found else None


def _baseline(config: pytest.Config, asked: Iterable[Settings]) -> Baseline | None:
    import os

    from ductaflow.common.errors import ConfigError
    from pytest_ductaflow.baseline import Baseline

    update = config.getoption("ductaflow_baseline_update")
    strict = config.getoption("ductaflow_baseline_strict")
    needed_by = "--ductaflow-baseline-update" if update else "--ductaflow-baseline-strict" if strict else None
    path = _file(asked, "baseline", needed_by=needed_by)
    if path is None:
        return None
    shown = Path(os.path.relpath(path, config.invocation_params.dir)).as_posix()
    try:
        return Baseline.open(path, shown, update=update, strict=strict)
    except ConfigError as exc:
        raise pytest.UsageError(str(exc)) from None


def _sharding(config: pytest.Config, projects: Projects, path: Path | None) -> Sharding:
    from ductaflow.common.errors import ConfigError
    from pytest_ductaflow.shards import Shard, Sharding, read_durations

    update = "--ductaflow-durations-update"
    is_there = path is not None and path.exists()
    if path and not is_there and not config.getoption("ductaflow_durations_update"):
        raise pytest.UsageError(f"there is no file of durations {path}\nMake it: add {update}.")
    text = config.getoption("ductaflow_shard")
    try:
        seconds = read_durations(path) if path and is_there else {}
    except ConfigError as exc:
        anew = f"Mend it, or remove it and make it anew: add {update}."
        raise pytest.UsageError(f"{exc.message}\n{exc.hint or anew}") from None
    return Sharding(projects, Shard.parse(text) if text else None, seconds)


def _durations(config: pytest.Config, asked: Iterable[Settings]) -> Path | None:
    needed_by = "--ductaflow-durations-update" if config.getoption("ductaflow_durations_update") else None
    return _file(asked, "durations", needed_by=needed_by)


def _is_covered(config: pytest.Config) -> bool:
    """Whether pytest-cov measures."""
    return bool(config.pluginmanager.hasplugin("_cov") and not config.getoption("no_cov"))


def _take_back_deselected(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Correct the count in the terminal: what -k and others have left out runs after all."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    deselected = terminal.stats.get("deselected") if terminal else None
    if deselected and items:
        taken = set(items)
        deselected[:] = [item for item in deselected if item not in taken]


class InstanceHooks:
    """In every process of a session: collection, order, the items."""

    def __init__(self, config: pytest.Config) -> None:
        from pytest_ductaflow.items import FlowSession
        from pytest_ductaflow.projects import Projects
        from pytest_ductaflow.signals import Signals, stop_without

        _refuse_old_keys(config)
        self.options = _options(config)
        self.projects = Projects(config.rootpath, config.invocation_params.dir, _overrides(config))
        #: The settings at the paths on the command line.
        self.asked = [self.projects.settings_at(path) for path in _paths(config)]
        self.flows = FlowSession(self.projects, self.options, _baseline(config, self.asked))
        self.durations = _durations(config, self.asked)
        self.sharding = _sharding(config, self.projects, self.durations)
        self._signals = Signals()
        #: Whether a worker met a project; the controller of workers collects nothing itself.
        self.met_one = False
        config.args = self._arguments(config)
        if not config.option.collectonly:
            self._signals.install()
        if hasattr(config, "workerinput") and self.options.owner_pid:
            stop_without(self.options.owner_pid)

    def _arguments(self, config: pytest.Config) -> list[str]:
        arguments = [target for argument in config.args for target in self.projects.targets(argument)]
        from_testpaths = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        project = self.projects.around(config.rootpath) if from_testpaths else None
        if project and project.root == config.rootpath:
            stored = str(project.config_dir)
            arguments += [stored] if stored not in arguments else []
        return arguments

    def pytest_unconfigure(self) -> None:
        self._signals.restore()

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        from ductaflow.execution.launch import await_pages

        if exitstatus != pytest.ExitCode.INTERRUPTED:
            await_pages()
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["ductaflow_met_one"] = self.projects.met_one
            output["ductaflow_emptied"] = self.sharding.emptied
            output["ductaflow_shares"] = self.sharding.told

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
    ) -> None:
        if exitstatus != pytest.ExitCode.NO_TESTS_COLLECTED or self.met_one or self.projects.met_one:
            return
        paths = _paths(config)
        project = next(filter(None, map(self.projects.around, paths)), None)
        if not project:
            from ductaflow.session.request import signs_of

            terminalreporter.write_line(
                f"ductaflow: no project in {', '.join(map(str, paths))}: a project is a folder with"
                f" {signs_of(paths[0])}"
            )
        elif project.root not in paths:
            from ductaflow.common.text import shown_path

            folder = shown_path(project.config_dir, self.projects.invocation_dir)
            terminalreporter.write_line(
                "ductaflow: nothing is stored there; run what the project stores:"
                f" pytest --ductaflow {folder}"
            )

    # --- collection --------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_ignore_collect(
        self, collection_path: Path, config: pytest.Config
    ) -> Generator[None, bool | None, bool | None]:
        ignored = yield
        if self.projects.is_runs(collection_path) or self.projects.is_sources(collection_path):
            return True
        if ignored and self.projects.root_of_config(collection_path) and collection_path.is_dir():
            # A flow may be called `dist` or `venv`; only what a person left out is left out.
            return bool(config.getoption("ignore") or config.getoption("ignore_glob"))
        return ignored

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        from pytest_ductaflow.items import ClosedFolder

        if self.projects.is_runs(path) or self.projects.is_sources(path):
            closed: pytest.Collector = ClosedFolder.from_parent(parent, path=path)
            return closed
        return None

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        from pytest_ductaflow.items import InstanceFile

        if not self.projects.instances_in(file_path):
            return None
        return InstanceFile.of(parent, file_path, self.flows)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        # First for --sw, which leaves out what came before the last failure; again for --ff, which moves
        # items in a wrapper of its own: this one is registered later and so is around it.
        collected = list(items)
        items[:] = self.flows.in_order(items)
        outcome = yield
        added = self.flows.related(session, items, collected)
        _take_back_deselected(session.config, added)
        items[:], elsewhere = self.sharding.take(self.flows.in_order([*items, *added]))
        if elsewhere:
            session.config.hook.pytest_deselected(items=elsewhere)
        return outcome

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        from pytest_ductaflow.items import Pause

        self.flows.select(session.items)
        if hasattr(session.config, "workerinput") and self.options.dist is None:
            # after the worker has told what it collected: the pause is none of it
            pause: pytest.Item = Pause.from_parent(session, name="ductaflow-pause")
            session.items.append(pause)

    # --- items -------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, specname="pytest_runtest_protocol")
    def pytest_runtest_protocol_measured(self, item: pytest.Item) -> Generator[None, object, object]:
        if not _is_covered(item.config):
            return (yield)
        from pytest_ductaflow.runtime import measured

        with measured(item):
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        from pytest_ductaflow.items import Pause

        return True if isinstance(item, Pause) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        from pytest_ductaflow.items import InstanceItem

        report = yield
        if isinstance(item, InstanceItem):
            item.complete(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_report_to_serializable(
        self,
    ) -> Generator[None, dict[str, object] | None, dict[str, object] | None]:
        from pytest_ductaflow.items import ItemOutcome

        data = yield
        if data and isinstance(outcome := data.get("ductaflow"), ItemOutcome):
            data["ductaflow"] = outcome.dump()
        return data


class ControllerHooks:
    """In the process that a person started: the report, the scheduler, the end of the session."""

    def __init__(self, config: pytest.Config, common: InstanceHooks) -> None:
        from pytest_ductaflow import github
        from pytest_ductaflow.artifact import Artifact
        from pytest_ductaflow.progress import Live
        from pytest_ductaflow.runtime import Warming
        from pytest_ductaflow.signals import Workers

        self._config = config
        self._common = common
        self._projects = common.projects
        self._options = common.options
        self._workers = Workers()
        warm = [settings for settings in common.asked if settings.engine_for(None).needs_server]
        preload = [name for settings in warm for name in settings.preload]
        preload += ["coverage"] if _is_covered(config) else []
        self._warming = Warming(
            common.projects,
            dict.fromkeys(preload),
            is_wanted=bool(warm),
            when_needed=common.options.only_changed,
        )
        self._worker_count = 0
        self._artifact = Artifact(
            common.projects,
            common.options.session_id,
            only_changed=common.options.only_changed,
            sharding=common.sharding,
        )
        self._live = Live(config, common.projects)
        self._github = github.for_this_session(common.projects)
        self._baseline = common.flows.baseline
        self._said: list[str] = []

    # --- serial ------------------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        nodeids = [item.nodeid for item in session.items]
        self._warming.expect(nodeids)
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
        if is_local:
            channel = node.gateway.remote_exec("import os; channel.send(os.getpid())")
            self._workers.add(node.gateway.id, channel.receive())
            # A gateway executes one thing at a time, and xdist's own is next.
            channel.waitclose()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Scheduling | None:
        from pytest_ductaflow.xdist_scheduler import GraphScheduling

        if given_dist(self._config):
            return None
        projects = self._projects
        return GraphScheduling(config, log, projects.edges, projects.seconds, self._worker_count)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: Sequence[str]) -> None:
        self._warming.expect(ids)
        self._artifact.expect(ids)
        self._live.expect(ids, self._worker_count)

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

    def pytest_report_header(self) -> str | None:
        dist = given_dist(self._config)
        if dist is None or not self._config.getoption("tx", None):
            return None
        return (
            f"ductaflow: --dist={dist} is kept; it does not know the graph,"
            " and an instance that it starts before its upstreams have finished fails"
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> TestStatus:
        from pytest_ductaflow.items import teststatus

        return teststatus(report)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._artifact.start(nodeid)
        self._live.start(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._artifact.update(report)
        self._live.report(report, self._artifact.status_of(report.nodeid))
        if self._github:
            self._github.update(report)
        if self._baseline and (kinds := report.__dict__.pop("ductaflow_kinds", None)):
            self._baseline.see(report.nodeid, kinds, self._projects)

    def pytest_enter_pdb(self) -> None:
        self._live.abandon()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._live.finish(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        from pytest_ductaflow.items import without_source

        without_source(warning_message)

    def pytest_keyboard_interrupt(self) -> None:
        self._workers.stop()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
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
        from pytest_ductaflow.shards import write_durations

        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and self._common.sharding.emptied:
            session.exitstatus = pytest.ExitCode.OK
        path = self._common.durations
        failed = False
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

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self._artifact.summary(terminalreporter)
        if line := self._common.sharding.line():
            terminalreporter.write_line(line)
        for line in [*self._said, *(self._baseline.lines(self._projects) if self._baseline else [])]:
            terminalreporter.write_line(line)
        if self._github:
            outcomes = self._artifact.outcomes()
            if trouble := self._github.write_summary(outcomes, self._artifact.pages()):
                terminalreporter.write_line(trouble)
            for line in self._github.lines(outcomes):
                terminalreporter.write_line(line)
