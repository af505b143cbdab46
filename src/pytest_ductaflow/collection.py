"""In every process of a session: what is collected, in which order, and the items.

The options of the command line become settings of the projects and one `SessionOptions`.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import uuid
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from ductaflow.common import garbage
from ductaflow.common.errors import ConfigError
from ductaflow.common.host import is_debugged
from ductaflow.common.text import shown_path
from ductaflow.execution.coverage import MEASURE
from ductaflow.execution.launch import await_pages
from ductaflow.project.settings import Settings
from ductaflow.session.request import signs_of
from pytest_ductaflow.baseline import Baseline
from pytest_ductaflow.items import (
    ClosedFolder,
    FlowSession,
    InstanceFile,
    InstanceFolder,
    InstanceItem,
    Pause,
    SessionOptions,
)
from pytest_ductaflow.projects import Projects, named_paths
from pytest_ductaflow.pytest_hooks import coverage_of, is_covered, not_as_a_test
from pytest_ductaflow.shards import Shard, Sharding, read_durations
from pytest_ductaflow.signals import Signals, stop_without

#: Python itself begins with some hundred frozen objects.
_OF_PYTHON = 1000


class TimeoutSettings(Protocol):
    """What pytest-timeout says of a test."""

    timeout: float


class InstanceHooks:
    """In every process of a session: collection, order, the items."""

    def __init__(self, config: pytest.Config) -> None:
        _refuse_old_keys(config)
        self.options = _options(config)
        self.projects = Projects(config.rootpath, config.invocation_params.dir, _overrides(config))
        #: The settings at the paths on the command line.
        self.asked = [self.projects.settings_at(path) for path in named_paths(config)]
        self.flows = FlowSession(self.projects, self.options, _baseline(config, self.asked))
        update = "--ductaflow-durations-update"
        needed_by = update if config.getoption("ductaflow_durations_update") else None
        self.durations = _file(self.asked, "durations", needed_by=needed_by)
        self.sharding = _sharding(config, self.projects, self.durations)
        self.signals = Signals()
        self._unlisted: set[Path] = set()
        #: Whether a worker met a project; the controller of workers collects nothing itself.
        self.met_one = False
        config.args = self._arguments(config)
        self._is_frozen = False
        # after all others have ended: see `pytest_collection_finish`
        config.add_cleanup(self._unfreeze)
        if not config.option.collectonly:
            self.signals.install()
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
        self.signals.restore()

    def _unfreeze(self) -> None:
        if self._is_frozen:
            gc.unfreeze()

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self.signals.rest()
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
        paths = named_paths(config)
        project = next(filter(None, map(self.projects.around, paths)), None)
        if not project:
            terminalreporter.write_line(
                f"ductaflow: no project in {', '.join(map(str, paths))}: a project is a folder with"
                f" {signs_of(paths[0])}"
            )
        elif project.root not in paths:
            folder = shown_path(project.config_dir, self.projects.invocation_dir)
            terminalreporter.write_line(
                "ductaflow: nothing is stored there; run what the project stores:"
                f" pytest --ductaflow {folder}"
            )

    # --- collection --------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, specname="pytest_collection")
    def pytest_collection_of_all(self) -> Generator[None, object, object]:
        with garbage.paused():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_ignore_collect(
        self, collection_path: Path, config: pytest.Config
    ) -> Generator[None, bool | None, bool | None]:
        ignored = yield
        if self.projects.is_results(collection_path) or self.projects.is_sources(collection_path):
            return True
        if ignored and self.projects.root_of_config(collection_path) and collection_path.is_dir():
            # A flow may be called `dist` or `venv`; only what a person left out is left out.
            return bool(config.getoption("ignore") or config.getoption("ignore_glob"))
        return ignored

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        if self.projects.is_results(path) or self.projects.is_sources(path):
            closed: pytest.Collector = ClosedFolder.from_parent(parent, path=path)
            return closed
        if self.projects.is_stored_in(path):
            folder: pytest.Collector = InstanceFolder.from_parent(
                parent, path=path, flows=self.flows, own=self
            )
            return folder
        return None

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        # A folder that pytest could list, and we could not, is an instance whose problem says so.
        for path in (file_path, file_path.parent):
            if path not in self._unlisted and self.projects.instances_in(path):
                self._unlisted |= {path} - {file_path}
                return InstanceFile.of(parent, path, self.flows)
        return None

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
        self.flows.select(session.items)
        if all(isinstance(item, InstanceItem) for item in session.items):
            # They stay until the end, and pytest has them searched for garbage ten times when it ends. Tests
            # of others may look for garbage themselves, and who calls pytest may have frozen something.
            self._is_frozen = gc.get_freeze_count() < _OF_PYTHON
            if self._is_frozen:
                gc.freeze()
        if hasattr(session.config, "workerinput") and self.options.dist is None:
            # after the worker has told what it collected: the pause is none of it
            pause: pytest.Item = Pause.from_parent(session, name="ductaflow-pause")
            session.items.append(pause)
            not_as_a_test(session.config, pause)

    # --- items -------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, specname="pytest_runtest_protocol")
    def pytest_runtest_protocol_measured(self, item: pytest.Item) -> Generator[None, object, object]:
        if not is_covered(item.config):
            return (yield)
        with pytest.MonkeyPatch.context() as patch:
            # The runs that a test starts are measured like its process.
            patch.setenv(MEASURE, coverage_of(item).dump())
            return (yield)

    # What pytest-timeout does itself costs more than the instance: it ends pytest, or breaks off our code.

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: TimeoutSettings) -> bool | None:
        if not isinstance(item, InstanceItem):
            return None
        # a person who looks has the time that it takes
        item.limit = None if self.options.debug else settings.timeout
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool | None:
        # nothing is set: there is a timer only while a run lasts
        return True if isinstance(item, InstanceItem) else None

    # The outermost: a plugin that runs a test again does so inside.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if isinstance(item, InstanceItem):
            item.complete(report)
        return report


# --- the command line ---------------------------------------------------------------------------------------


def _options(config: pytest.Config) -> SessionOptions:
    told = getattr(config, "workerinput", {})
    asks_for_pdb = bool(config.getoption("usepdb", False) or config.getoption("trace", False))
    return SessionOptions(
        session_id=told.get("ductaflow_session_id") or uuid.uuid4().hex[:12],
        owner_pid=told.get("ductaflow_owner_pid") if told else os.getpid(),
        echo=config.getoption("capture") == "no" and not told,
        upstream=config.getoption("ductaflow_upstream"),
        downstream=config.getoption("ductaflow_downstream"),
        dist=told.get("ductaflow_dist"),
        only_changed=config.getoption("ductaflow_changed"),
        debug=is_debugged() or (not told and asks_for_pdb),
        accept=_accept(config),
        # On other machines nobody knows who shares what.
        workers=told.get("workercount", 1) if told.get("ductaflow_owner_pid") else 1,
    )


def _accept(config: pytest.Config) -> bool:
    if config.getoption("ductaflow_accept") and os.environ.get("CI"):
        raise pytest.UsageError(
            "--ductaflow-accept changes what is expected, and CI is set: nobody would look at that there\n"
            "Accept where you can see and commit it: ductaflow accept ID --dry-run"
        )
    return bool(config.getoption("ductaflow_accept"))


def _overrides(config: pytest.Config) -> dict[str, object]:
    """The settings that the command line gives. An option that is named like a setting is its value."""
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
    """The settings of ductaflow are no keys of pytest any more."""
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
    """The one file that an option names, or the settings of what the command line names."""
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


def _take_back_deselected(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Correct the count in the terminal: what -k and others have left out runs after all."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    deselected = terminal.stats.get("deselected") if terminal else None
    if deselected and items:
        taken = set(items)
        deselected[:] = [item for item in deselected if item not in taken]
