"""Stored instances as pytest items: collection, setup, run, and the report of each.

    config/flows/fit/scenario_A.json  ->  InstanceFile  ->  InstanceItem "fit[scenario_A]"
    config/flows/fit.csv              ->  InstanceFile  ->  one item a row

Collecting depends on configs and command line alone and writes nothing, so that all workers collect alike.
Nothing raises there: a problem of an instance is raised when its item is set up.
"""

from __future__ import annotations

import bdb
import functools
import json
import linecache
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ductaflow.common.decode import decode
from ductaflow.common.errors import DuctaflowError, FlowWarning, InstanceError
from ductaflow.common.files import kind_of
from ductaflow.common.text import clean
from ductaflow.project.instances import Instance, Instances
from ductaflow.session.decide import UNFINISHED, Decision, SharedSession, Would, refused
from ductaflow.store.changes import Change, look_back
from ductaflow.store.result import Cause, Result, Status, result_of_session
from pytest_ductaflow.baseline import Baseline, and_more, complaint, headline, kinds_of
from pytest_ductaflow.failure import FailureText, run_again
from pytest_ductaflow.projects import Projects
from pytest_ductaflow.pytest_hooks import nobody_else_collects, tell_allure

if TYPE_CHECKING:
    from ductaflow.execution.launch import StopWithReason
    from ductaflow.session.forecast import Beyond
    from ductaflow.session.runner import Explain


UNCHANGED = Status.UNCHANGED.value
#: Category, letter and word of a test, as `pytest_report_teststatus` gives them; None leaves them to pytest.
TestStatus = tuple[str, str, str | tuple[str, dict[str, bool]]] | None
#: Word of a run that is an error for its numbers alone.
DIFFERS = "differs"
#: Letter, word and colour of what pytest has no word for, each with the outcome that it goes with.
_OWN_WORDS = {
    UNCHANGED: ("passed", "u", "UNCHANGED", "cyan"),
    Status.WARNING.value: ("passed", "w", "WARNED", "yellow"),
    Status.BLOCKED.value: ("skipped", "b", "BLOCKED", "purple"),
    DIFFERS: ("failed", "D", "DIFFERS", "red"),
}


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session asks for besides the settings of its projects; alike on the controller and all workers.

    Attributes:
        session_id: random, one for the session.
        owner_pid: the controller; its end ends all runs. None on another machine.
        dist: the `--dist` that somebody gave, so that the order is not ours; None when it is.
        debug: run flows in this process, under the debugger of a person.
        accept: make the results of what runs the expected ones.
        workers: how many run at a time on this machine.
    """

    session_id: str
    owner_pid: int | None
    echo: bool = False
    upstream: bool = False
    downstream: bool = False
    dist: str | None = None
    only_changed: bool = False
    debug: bool = False
    accept: bool = False
    workers: int = 1


@dataclass
class FlowSession:
    """State that the items of this process share.

    Attributes:
        baseline: the warnings that are known, if new ones are to fail.
        selected: the names of the instances that this session runs, on any worker; by project and flow.
    """

    projects: Projects
    options: SessionOptions
    baseline: Baseline | None = None
    selected: dict[tuple[Path, str], set[str]] = field(default_factory=dict)
    _decisions: dict[Path, SharedSession] = field(default_factory=dict)
    _beyond: dict[Path, Beyond] = field(default_factory=dict)

    def select(self, items: Iterable[pytest.Item]) -> None:
        self.selected = {}
        for instance in (item.instance for item in items if isinstance(item, InstanceItem)):
            self.selected.setdefault(_flow_of(instance), set()).add(instance.name)

    def in_order(self, items: list[pytest.Item]) -> list[pytest.Item]:
        """Every upstream first, otherwise as collected; ordinary tests keep their places."""
        instances = [item.instance if isinstance(item, InstanceItem) else None for item in items]
        return [items[place] for place in self.projects.order(instances)]

    def related(
        self, session: pytest.Session, selected: Sequence[pytest.Item], collected: Sequence[pytest.Item]
    ) -> list[pytest.Item]:
        """The items that `--ductaflow-upstream` and `--ductaflow-downstream` add to the selection.

        Args:
            session: parent of files that the command line did not name.
            selected: the items that are left after all that deselects.
            collected: all items, also those that are deselected now.
        """
        options = self.options
        chosen = [item.instance for item in selected if isinstance(item, InstanceItem)]
        related = self.projects.related(chosen, upstream=options.upstream, downstream=options.downstream)
        known = {item.nodeid: item for item in collected if isinstance(item, InstanceItem)}
        files = {item.path: item.file for item in known.values()}
        added: list[pytest.Item] = []
        for instance in related:
            item = known.get(self.projects.nodeid(instance))
            if item is None:
                if instance.file not in files:
                    files[instance.file] = InstanceFile.of(session, instance.file, self)
                item = files[instance.file].item_late(instance)
            added.append(item)
        return added

    def run(self, item: InstanceItem, explain: Explain) -> Result:
        """Run the instance of an item, unless it is unchanged; `explain` is called with why it runs.

        It runs in a process of its own, or in this one under a debugger.
        """
        from ductaflow.session.runner import run_instance

        result = (self.options.debug and self._watched(item, explain)) or run_instance(
            item.ready,
            session_id=self.options.session_id,
            owner_pid=self.options.owner_pid,
            echo=self.options.echo,
            check=False,
            stop=item.stop,
            await_page=False,
            workers=self.options.workers,
            explain=explain,
        )
        if result.status.has_good_run:
            self._shared(item.instance).good.add(item.instance.id)
        return result

    def _watched(self, item: InstanceItem, explain: Explain) -> Result | None:
        """A run under the debugger; None if the flow is nothing that can run in this process."""
        from ductaflow.execution.inplace import code_to_watch
        from ductaflow.session.request import spec_of_instance
        from ductaflow.session.runner import unchanged
        from pytest_ductaflow.debugger import run_watched

        spec = spec_of_instance(item.ready, session=self.options.session_id)
        if (code := code_to_watch(spec)) is None:
            return None
        if self.options.only_changed and (
            last := unchanged(spec, look_back(spec), explain=explain, echo=False)
        ):
            return last
        is_expected_red = bool(item.instance.options.xfail)
        return run_watched(spec, code, item.config, is_expected_red=is_expected_red)

    def decide(self, instance: Instance) -> Decision:
        """What this session does with an instance whose turn has come."""
        return self._shared(instance).decide(instance)

    def note(self, decision: Decision) -> None:
        """Keep what this session decided when a run could not start."""
        self._shared(decision.instance).refused[decision.instance.id] = decision.blame

    def _shared(self, instance: Instance) -> SharedSession:
        root = instance.project.root
        if root not in self._decisions:
            self._decisions[root] = SharedSession(
                self.projects.at(root),
                self.options.session_id,
                self._runs_here,
                only_changed=self.options.only_changed,
            )
        return self._decisions[root]

    def beyond(self, instance: Instance) -> str:
        """Qualifier of an unchanged instance: what has changed above it and is not selected."""
        from ductaflow.session.forecast import Beyond

        root = instance.project.root
        if root not in self._beyond:
            self._beyond[root] = Beyond(self.projects.at(root), self._runs_here)
        return self._beyond[root].told(instance)

    def _runs_here(self, instance: Instance) -> bool:
        return instance.name in self.selected.get(_flow_of(instance), ()) and not instance.skip_reason()


def _flow_of(instance: Instance) -> tuple[Path, str]:
    return instance.project.root, instance.flow


#: Metrics that JUnit gets of an instance.
_MAX_METRICS = 20
#: Lines of a failure where many fail, if it has no shorter text.
_SHORT_LINES = 4


# --- the nodes ---------------------------------------------------------------------------------------------


class InstanceFile(pytest.File):
    """A stored config or a scenario table."""

    def __init__(self, *, flows: FlowSession, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flows = flows

    @classmethod
    def of(
        cls, parent: pytest.Collector, path: Path, flows: FlowSession, name: str | None = None
    ) -> InstanceFile:
        nodeid = flows.projects.relative(path)
        file: InstanceFile = cls.from_parent(parent, path=path, name=name, nodeid=nodeid, flows=flows)
        return file

    def collect(self) -> Iterator[InstanceItem]:
        return map(self.item, self.flows.projects.instances_in(self.path))

    def item(self, instance: Instance) -> InstanceItem:
        """The item of an instance that is stored in this file."""
        # Without an id pytest takes the brackets for parameters, and --lf selects everything.
        given = {"name": instance.title, "nodeid": f"{self.nodeid}::{instance.title}"}
        item: InstanceItem = InstanceItem.from_parent(self, instance=instance, flows=self.flows, **given)
        return item

    def item_late(self, instance: Instance) -> InstanceItem:
        """Create an item after collection and announce it to the other plugins."""
        item = self.item(instance)
        item.ihook.pytest_itemcollected(item=item)
        self.ihook.pytest_collectreport(report=pytest.CollectReport(self.nodeid, "passed", None, [item]))
        return item


class ClosedFolder(pytest.Directory):
    """A folder of runs or of sources: nothing in it is a test, whatever it is called."""

    def collect(self) -> Iterator[pytest.Item]:
        return iter(())


class InstanceFolder(pytest.Directory):
    """The folder of the stored instances of a flow, or of all flows or builds.

    Whatever is an instance is collected, also what pytest passes over, since it is no file: a link that leads
    nowhere, a pipe.

    Its files are the parents of their items, and are not collected one by one, which takes pytest as long as
    all else of collecting. A file that the command line names is, since pytest looks for items in it; and all
    are where pytest does something with each file: `--lf`, `--ff`, `--keep-duplicates`.

    Args:
        own: our plugin that collects files; see `nobody_else_collects`.
    """

    def __init__(self, *, flows: FlowSession, own: object, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.flows = flows
        self._own = own

    def __repr__(self) -> str:
        # `--collect-only` shows a folder as any other
        return f"<Dir {self.name}>"

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        options, ihook = self.config.option, self.ihook
        by_file = any(getattr(options, name, False) for name in ("lf", "failedfirst", "keepduplicates"))
        with os.scandir(self.path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        stored = self._stored() if not by_file and nobody_else_collects(self._own, self) else None
        for entry in entries:
            is_folder, is_file = kind_of(entry)
            instances = stored.in_file(entry.path) if stored and entry.name.endswith(".json") else ()
            if instances and not self.session.isinitpath(own := instances[0].file):
                yield from map(InstanceFile.of(self, own, self.flows, entry.name).item, instances)
                continue
            path = Path(entry.path)
            if not is_folder and not is_file and not self.flows.projects.instances_in(path):
                continue
            is_named = self.session.isinitpath(path, with_parents=is_folder)
            if not is_named and ihook.pytest_ignore_collect(collection_path=path, config=self.config):
                continue
            if is_folder:
                yield from filter(None, [ihook.pytest_collect_directory(path=path, parent=self)])
                continue
            if is_file:
                files = ihook.pytest_collect_file(file_path=path, parent=self)
            else:
                files = [InstanceFile.of(self, path, self.flows)]
            for file in files:
                if isinstance(file, InstanceFile) and not is_named and not by_file:
                    yield from file.collect()
                else:
                    yield file

    def _stored(self) -> Instances | None:
        """What its project stores; None if the folder is an instance, which says what is wrong with it."""
        projects = self.flows.projects
        root = projects.root_of_config(self.path)
        if root is None or projects.instances_in(self.path):
            return None
        return projects.at(root).instances


class RunFailed(pytest.fail.Exception):  # type: ignore[name-defined, misc]
    """A run failed its test: the one failure that `_run.xfail` expects."""


class RunFailedAndSeen(RunFailed, bdb.BdbQuit):
    """The same under `--pdb`, for which pytest must not open a prompt in our frames."""


class RefusedAndSeen(pytest.fail.Exception, bdb.BdbQuit):  # type: ignore[name-defined, misc]
    """An item that could not start, under `--pdb`: there is nothing to look at."""


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The result of an item, or why there is none.

    Attributes:
        message: of the result; the qualifier of an instance that is unchanged.
    """

    status: Status
    message: str = ""
    cause: Cause | None = None
    result: Result | None = None

    def dump(self) -> str:
        """Return it as ASCII, since texts of flows may hold what the channel between processes refuses."""
        result = self.result
        # The lineage stays in the run folder. The former status is not in a record on disk.
        record = result and {**result.to_dict(), "lineage": None, "former_status": result.former_status}
        own = {"status": self.status, "message": self.message, "cause": self.cause}
        return json.dumps({**own, "result": record})

    @classmethod
    def load(cls, text: str, folder: Path) -> ItemOutcome:
        """Read what `dump` gave; `folder` is the run folder of the instance."""
        outcome = decode(text, cls, where="a worker")
        return replace(outcome, result=outcome.result and replace(outcome.result, folder=folder))


class InstanceItem(pytest.Item):
    """One stored instance as a test."""

    def __init__(self, *, instance: Instance, flows: FlowSession, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.instance = instance
        # with what is said of it as its turn has come
        self.ready = instance
        self.flows = flows
        # All here: one that gets an attribute later no longer shares the names of all with thousands.
        self.outcome: ItemOutcome | None = None
        self.place: tuple[str, int, str] | None = None
        self.why: tuple[str, ...] = ()
        self.beyond = ""
        self.short = ""
        self.kinds: list[str] | None = None
        self.accepted: tuple[Sequence[str], bool] | None = None
        #: Seconds that pytest-timeout gives a run, and what stops it then.
        self.limit: float | None = None
        self.stop: StopWithReason | None = None
        for tag in instance.options.tags:
            self._add_tag(tag)
        if instance.options.xfail:
            self.add_marker(pytest.mark.xfail(reason=clean(instance.options.xfail), raises=RunFailed))

    @property
    def file(self) -> InstanceFile:
        assert isinstance(self.parent, InstanceFile)
        return self.parent

    def _add_tag(self, tag: str) -> None:
        line = f"{tag}: tag of stored instances"
        if line not in self.config.getini("markers"):
            self.config.addinivalue_line("markers", line)
        self.add_marker(tag)

    def reportinfo(self) -> tuple[Path, int, str]:
        # A line, since editors show nothing at a place without one.
        return self.path, self.instance.line - 1, self.name

    @cached_property
    def location(self) -> tuple[str, int, str]:
        """The same with the file as a node id has it; pytest works out the way to each file anew."""
        _, line, name = self.reportinfo()
        file = self.file.nodeid
        return file if os.sep == "/" else file.replace("/", os.sep), line, name

    def _initrequest(self) -> None:
        """Do nothing: pytest-retry calls it before it runs a test again, for the fixtures of functions."""

    def setup(self) -> None:
        """Fail, skip or let run."""
        instance = self.instance
        tell_allure(self.config, instance.name)
        self._property("run_folder", self.flows.projects.relative(instance.run_folder.path))
        decision = self.flows.decide(instance)
        if decision.would is Would.RUN:
            self.ready = decision.instance
            return
        blame = decision.blame if decision.would is Would.BLOCKED else None
        if blame and blame.fault == UNFINISHED and self.flows.options.dist:
            decision = self._too_early(blame.origin)
        self._stop(decision)
        if decision.would is Would.NOT_RUN:
            pytest.skip(clean(f"{instance.id}: {instance.skip_reason()}"))
        if decision.would is not Would.ERROR:
            pytest.skip(clean(f"{instance.id} {decision.would}: {decision.message}"))
        self._fail(self._text_of(decision))

    def _text_of(self, decision: Decision) -> str:
        remedy = decision.remedy
        if decision.run_first:
            command = run_again(self.flows.projects, decision.run_first)
            remedy = f"Run it first, or add --ductaflow-upstream:\n    {command}"
        return "\n".join(filter(None, [*decision.reasons, remedy]))

    def _too_early(self, awaited: str) -> Decision:
        """Its turn came too early. Waiting could take forever: the upstream may be next on this worker."""
        remedy = (
            f"--dist={self.flows.options.dist} does not keep the order of the graph. Leave it out, or run"
            f" what is left in a session of its own:\n    {run_again(self.flows.projects, [self.instance])}"
        )
        line = f"{self.instance.id} needs {awaited}, which has not finished in this session."
        return refused(self.instance, InstanceError(line, hint=remedy))

    def runtest(self) -> None:
        self.judge(self.run())

    def run(self) -> Result:
        """Run the instance and keep what came of it."""
        try:
            with self._limited():
                result = self.flows.run(self, self._explain)
        except pytest.fail.Exception:
            # A plugin ended it, such as pytest-timeout: the reason is in the result.
            left = result_of_session(self.instance.run_folder.path, self.flows.options.session_id)
            if left is None:
                raise
            if not left.status.is_error:
                # It ended well meanwhile; the test fails all the same.
                self._keep(ItemOutcome(left.status, left.message, left.cause, left))
                raise
            result = left
        except (DuctaflowError, OSError) as exc:
            decision = refused(self.instance, exc)
            self.flows.note(decision)
            self._stop(decision)
            self._fail(self._text_of(decision))
        if result.status is Status.NOT_RUN:
            self._keep(ItemOutcome(result.status, result.message, result.cause, result))
            self._fail(result.message)
        if self.flows.options.accept and result.is_complete:
            result = self._accept(result)
        self._property("config_hash", result.config_hash or "")
        self._property("warnings", str(result.warning_count))
        for warning in result.warnings:
            self._property("warning", f"{warning.line}: {warning.text}")
        self._add_metrics(result)
        if result.status is Status.UNCHANGED:
            self._property("former_status", str(result.former_status))
            self.beyond = "; ".join(
                filter(None, [*(self.ready.notes or ()), self.flows.beyond(self.instance)])
            )
        message = self.beyond if result.status is Status.UNCHANGED else result.message
        self._keep(ItemOutcome(result.status, message, result.cause, result))
        return result

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Stop the run when the time of pytest-timeout is over; each attempt has all of it."""
        if self.limit is None:
            yield
            return
        from ductaflow.execution.launch import StopWithReason

        # in its words
        self.stop = StopWithReason(f"Timeout (>{self.limit}s) from pytest-timeout.")
        timer = threading.Timer(self.limit, self.stop.set)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _add_metrics(self, result: Result) -> None:
        """Let JUnit have the first metrics, and the number of all if those are not all."""
        metrics = result.metrics
        for name, value in list(metrics.items())[:_MAX_METRICS]:
            self._property(clean(f"metric.{name}"), value if isinstance(value, str) else json.dumps(value))
        if len(metrics) > _MAX_METRICS:
            self._property("metrics", str(len(metrics)))

    def _accept(self, result: Result) -> Result:
        """Make the results of a complete run the expected ones, and return it as it is judged then."""
        from ductaflow.session.accept import accept

        if self.get_closest_marker("xfail"):
            return result
        try:
            accepted = accept(self.instance)
        except (DuctaflowError, OSError) as exc:
            self.accepted = [clean(f"accepting {self.instance.id}: {exc}")], True
            return result
        self.accepted = [clean(line) for line in accepted.lines], bool(accepted.writes)
        judged = replace(accepted.result, flow=result.flow, instance=result.instance)
        if result.former_status is None:
            return judged
        status = judged.status if judged.status.is_error else Status.UNCHANGED
        return replace(judged, status=status, former_status=judged.status)

    def _explain(self, why: tuple[Change, ...]) -> None:
        # The error of the last run is no news of this one.
        texts = (
            re.sub(r"(?s)\bfailed: .*", "failed", change.text) if change.kind == "run" else change.text
            for change in why
        )
        self.why = tuple(clean(" ".join(text.split())) for text in texts)
        self._property("why", "; ".join(self.why))

    def judge(self, result: Result) -> None:
        """Warn and fail as pytest does. That never changes the status of the run."""
        raised = list(self._warn(result))
        if result.status.is_error:
            told = FailureText(result, self.instance, self.flows.projects)
            self.place = told.place
            raise self._failed(told.whole(), told.short())
        if raised:
            log = self.flows.projects.relative(self.instance.run_folder.log)
            self.place = (log, raised[0][0], f"FlowWarning: {raised[0][1]}")
            lines = [f"{log}:{line}: FlowWarning: {text}" for line, text in raised]
            text = "\n".join([*lines, "", "The filters of this session make warnings errors."])
            raise self._failed(text)
        if self.flows.baseline:
            self._compare(result, self.flows.baseline)

    def _compare(self, result: Result, baseline: Baseline) -> None:
        """Fail if a good run has warnings that the baseline does not know."""
        kinds = kinds_of(result, self.instance.run_folder.log)
        self.kinds = list(kinds)
        new = baseline.new(self.flows.projects.key(self.instance), kinds)
        if new:
            log = self.flows.projects.relative(self.instance.run_folder.log)
            told = [replace(warning, text=clean(warning.text)) for warning in new]
            self.place = (log, told[0].line, headline(told))
            accept = run_again(self.flows.projects, [self.instance])
            raise self._failed(complaint(told, log=log, baseline=baseline, accept=accept))

    def _failed(self, text: str, short: str = "") -> RunFailed:
        self.short = short or _shortened(text)
        kind = RunFailedAndSeen if self.flows.options.debug else RunFailed
        return kind(text, pytrace=False)  # type: ignore[call-arg]

    def _warn(self, result: Result) -> Iterator[tuple[int, str]]:
        """Issue the warnings of a run, and yield those that the session's filters turn into errors.

        The filters see every line. Of what they let through one warning is shown, and with -v all.
        """
        lines = [(warning.line, clean(warning.text)) for warning in result.warnings]
        if Status.WARNING in (result.status, result.former_status) and not lines:
            # A build may be orange for a flow whose lines it does not repeat.
            lines = [(1, clean(result.message))]
        if not lines:
            return
        log = str(self.instance.run_folder.log)
        with warnings.catch_warnings(record=True) as passed:
            for line, text in lines:
                try:
                    warnings.warn_explicit(FlowWarning(text), None, log, line)
                except FlowWarning:
                    yield line, text
        told = [(one.lineno, str(one.message)) for one in passed]
        if told and self.config.get_verbosity() < 1:
            left_out = result.warning_count - len(result.warnings)
            told = [(told[0][0], told[0][1] + and_more([text for _, text in told], left_out))]
        for line, text in told:
            warnings.showwarning(FlowWarning(text), FlowWarning, log, line)

    def _stop(self, decision: Decision) -> None:
        self._keep(ItemOutcome(Status(decision.would.value), decision.message, decision.cause))

    def _keep(self, outcome: ItemOutcome) -> None:
        self.outcome = outcome
        self._property("status", outcome.status.value)

    def _property(self, name: str, value: str) -> None:
        self.user_properties.append(_property(name, value))

    def _fail(self, text: str) -> None:
        text = clean(text)
        self.place = (self.flows.projects.relative(self.path), self.instance.line, text.partition("\n")[0])
        self.short = _shortened(text)
        kind = RefusedAndSeen if self.flows.options.debug else pytest.fail.Exception
        # the text says it all: pytest would show what it was made of once more
        raise kind(text, pytrace=False) from None  # type: ignore[call-arg]

    def complete(self, report: pytest.TestReport) -> None:
        """Add to a report what the controller needs, and the place that a person looks for."""
        if self.outcome:
            _tell(report, ductaflow_word=self._word(self.outcome), ductaflow_why=self._why(self.outcome))
        is_unchanged = self.outcome is not None and self.outcome.status is Status.UNCHANGED
        if report.when == "call" and is_unchanged and report.passed and hasattr(report, "wasxfail"):
            # XPASS is news of a run, and there was none; a strict one stays the failure that it was
            del report.wasxfail
        if report.failed and self.short:
            _tell(report, ductaflow_short=self.short)
            self.short = ""
        if self.outcome:
            # As text: plugins send, keep and copy reports in ways of their own.
            _tell(report, ductaflow=self.outcome.dump())
            # told once; the items of a session live as long as it does
            self.outcome = None
        if self.accepted:
            _tell(report, ductaflow_accepted=self.accepted)
            self.accepted = None
        if self.kinds is not None:
            _tell(report, ductaflow_kinds=json.dumps(self.kinds))
            self.kinds = None
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            report.longrepr = (str(self.path), self.instance.line, report.longrepr[2])
        crash = getattr(report.longrepr, "reprcrash", None)
        if self.place and crash:
            crash.path, crash.lineno, crash.message = self.place

    def _word(self, outcome: ItemOutcome) -> str:
        """What the terminal calls it, where pytest has no word for it; see `_OWN_WORDS`."""
        return DIFFERS if outcome.cause == "expectation" else outcome.status.value

    def _why(self, outcome: ItemOutcome) -> str:
        """With -v, why it ran, or as far as what it is unchanged."""
        verbosity = self.config.get_verbosity()
        if verbosity < 1 or outcome.status is Status.UNCHANGED:
            return self.beyond if verbosity > 0 else ""
        told = self.why if verbosity > 1 else self.why[:1]
        more = len(self.why) - len(told)
        return f"ran since: {'; '.join(told)}" + (f", and {more} more" if more else "") if told else ""


@functools.lru_cache(maxsize=64)
def _property(name: str, value: str) -> tuple[str, str]:
    # most of them are those of thousands
    return name, clean(value)


def _tell(report: pytest.TestReport, **facts: object) -> None:
    """Add facts to a report, as pytest itself does with what it does not know (`TestReport(**extra)`)."""
    report.__dict__.update(facts)


def _shortened(text: str) -> str:
    """The first lines of the text of a failure."""
    return "\n".join(text.split("\n")[:_SHORT_LINES])


def teststatus(report: pytest.TestReport, *, is_over: bool) -> TestStatus:
    """Category, letter and word of an item for which pytest has none, or which has why it ran; else None.

    Args:
        report: of the item.
        is_over: all have run: what failed is listed once more, and has to have room for how.
    """
    word, why = getattr(report, "ductaflow_word", ""), getattr(report, "ductaflow_why", "")
    if not word or hasattr(report, "wasxfail") or (is_over and word != UNCHANGED):
        return None
    outcome, letter, shown, colour = _OWN_WORDS.get(word, ("", "", "", ""))
    why = f" ({why})" if why else ""
    if report.outcome == outcome:
        # what is unchanged is counted by itself, all others as pytest does
        return UNCHANGED if word == UNCHANGED else outcome, letter, (f"{shown}{why}", {colour: True})
    if not why or report.when != "call" or word == UNCHANGED:
        return None
    return report.outcome, "." if report.passed else "F", f"{report.outcome.upper()}{why}"


class Pause(pytest.Item):
    """Does nothing; the scheduler puts it behind an item (see `xdist_scheduler`). It leaves no report."""

    def runtest(self) -> None:
        raise NotImplementedError("a pause is not run")


def without_source(message: warnings.WarningMessage) -> None:
    """Keep pytest from quoting a warning's line: it is the text itself, and a log may be of any size."""
    if issubclass(message.category, FlowWarning):
        # An entry that has no lines and no time is not read and never dropped.
        linecache.cache[message.filename] = (0, None, [], message.filename)
