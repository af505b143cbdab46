"""What a session does with an instance, why, and what to type. Every way of running asks here.

its config skips it                                          not_run
its config is wrong, or it is part of a cycle                error
an upstream that this session runs failed or did not run     blocked
an upstream is skipped and has no valid earlier run          blocked
another upstream has no valid earlier run                    error
it reads a path below runs/ of nothing that is stored, and
nothing is there, or a run that is not valid                 error
nothing has changed since its last run, if that counts       unchanged
anything else                                                run

The first line that fits counts. pytest asks while it sets up an item, `conduct` and `ductaflow run` when the
turn of an instance comes, and `ductaflow plan` asks about all of them in advance.

    Needs(instance, upstreams)             what an instance reads from other runs, as plain data
    decide(reads, blame) -> Decision       run, unchanged, ...: with the reason and the remedy
    Turn(reads, after, known, run)         what is decided when its turn comes; it crosses to other machines
    Outcome(result, blame, worker)         the result of a turn, and why its readers are blocked
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from ductaflow.common.errors import DuctaflowError, RunFolderError
from ductaflow.execution.launch import StopFlag
from ductaflow.project.graph import Graph, Unstored
from ductaflow.project.instances import Instance, Instances
from ductaflow.session.request import spec_of_instance
from ductaflow.store.changes import changes
from ductaflow.store.result import Cause, Result, Status, result_of_session, why_not_valid

#: The message of an instance whose turn did not come.
NOT_STARTED = "the session ended before its turn"
#: What is wrong with an upstream whose run left no result: its worker died, or its turn has not come.
UNFINISHED = "did not finish in this session"


class Would(StrEnum):
    """What a session does with an instance."""

    RUN = "run"
    MAY_RUN = "may run"
    UNCHANGED = "unchanged"
    BLOCKED = "blocked"
    NOT_RUN = "not_run"
    ERROR = "error"

    @property
    def takes_time(self) -> bool:
        return self in (Would.RUN, Would.MAY_RUN)


@dataclass(frozen=True, slots=True)
class Blame:
    """Why the readers of an instance are blocked.

    Attributes:
        id: the instance; origin: the instance where the fault arose, at any distance above.
        fault: what is wrong with the origin; remedy: what to do about it.
    """

    id: str
    origin: str
    fault: str
    remedy: str = ""

    @classmethod
    def of(cls, result: Result) -> Blame | None:
        """Why the readers of an instance that ran are blocked; None if they are not."""
        if not result.is_failed:
            return None
        return cls(result.id, result.id, f"failed: {result.message}" if result.message else "failed")

    @property
    def reason(self) -> str:
        """The reason in the words of a reader."""
        through = f"{self.id} is blocked: " if self.id != self.origin else ""
        return f"{through}{self.origin} {self.fault}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a session does with one instance.

    Attributes:
        reasons: sentences that say why; none where everything runs.
        remedy: what to type or to change; empty where nothing helps.
        blame: why its readers are blocked; None if they are not.
        run_first: upstreams without a valid run, where running them is the remedy.
        cause: of the result, where it is an error.
        seconds: how long the run is likely to take; only `forecast` says.
        memory: how many bytes it is likely to take at most, 0 if nothing tells; only `forecast` says.
    """

    instance: Instance
    would: Would
    reasons: tuple[str, ...] = ()
    remedy: str = ""
    blame: Blame | None = None
    run_first: tuple[Instance, ...] = ()
    cause: Cause | None = None
    seconds: float = 0.0
    memory: int = 0

    @property
    def message(self) -> str:
        """Reason and remedy in one text."""
        reason = " ".join(self.reasons)
        end = "" if reason.endswith((".", "?")) else "."
        return f"{reason}{end} {self.remedy}" if self.remedy else reason

    @property
    def outcome(self) -> Outcome:
        """What comes of an instance that does not run. Raises ValueError for one that does."""
        return Outcome(unrun(self.instance, Status(self.would.value), self.message, self.cause), self.blame)


@dataclass(frozen=True, slots=True)
class Needs:
    """What an instance reads from other runs.

    Attributes:
        upstreams: in the order of the graph; one that the session runs by its id, any other as it is stored.
        unstored: paths that belong to nothing stored, each with what is stored instead.
    """

    instance: Instance
    upstreams: tuple[str | Instance, ...] = field(default=(), hash=False)
    unstored: tuple[tuple[Unstored, str], ...] = ()

    @property
    def here(self) -> Iterator[str]:
        """Ids of the upstreams that the session runs."""
        return (upstream for upstream in self.upstreams if isinstance(upstream, str))


class Readiness:
    """Which of some instances, all that are stored or the rows of a table, read from which."""

    def __init__(self, instances: Instances, graph: Graph | None = None) -> None:
        self.instances = instances
        self.graph = Graph(instances.all) if graph is None else graph

    def upstreams(self, instance: Instance) -> list[Instance]:
        """The instances that an instance reads from directly."""
        return [self.instances.by_id[id] for id in self.graph.upstreams(instance.id)]

    def with_upstreams(self, instance: Instance) -> list[Instance]:
        """An instance, last, and before it all that it reads from at any distance, in order."""
        ids = [*self.graph.above([instance.id]), instance.id]
        return [self.instances.by_id[id] for id in self.graph.order(ids)]

    def reads(self, instance: Instance, runs_here: Callable[[Instance], bool]) -> Needs:
        """What an instance reads from other runs; `runs_here` says whether the session runs an upstream."""
        upstreams = tuple(
            upstream.id if runs_here(upstream) else upstream for upstream in self.upstreams(instance)
        )
        unstored = tuple(
            # Names that are alike take long to find among thousands.
            (reference, self.graph.about(reference) if _fault_of(instance, reference) else "")
            for reference in self.graph.unstored(instance.id)
        )
        return Needs(instance, upstreams, unstored)


def decide(reads: Needs, blame: Callable[[str], Blame | None], *, only_changed: bool = False) -> Decision:
    """Decide what a session does with an instance.

    Args:
        reads: the instance and what it reads.
        blame: gives for the id of an upstream that the session runs why its readers are blocked.
        only_changed: whether to tell `unchanged` from `run`, instead of leaving that to the run.
    """
    instance = reads.instance
    if reason := instance.skip_reason():
        return Decision(instance, Would.NOT_RUN, (f"skipped: {reason}",), blame=_of_skipped(instance, reason))
    if instance.problem:
        return refused(instance, instance.problem)
    sentences: list[str] = []
    run_first: list[Instance] = []
    missing: list[str] = []
    blocked: Decision | None = None
    may_lack = instance.options.allow_missing
    for upstream in reads.upstreams:
        id, found = (upstream, blame(upstream)) if isinstance(upstream, str) else (upstream.id, None)
        if isinstance(upstream, Instance):
            if reason := upstream.skip_reason():
                found = _of_skipped(upstream, reason)
            elif why := why_not_valid(upstream.run_folder.path):
                sentences.append(f"{instance.id} reads from {id}, but {why}.")
                run_first.append(upstream)
                missing.append(id)
        if found:
            own = replace(found, id=instance.id)
            blocked = blocked or Decision(instance, Would.BLOCKED, (found.reason,), found.remedy, own)
            missing.append(id)
            if not may_lack:
                return blocked
    for reference, instead in reads.unstored:
        if fault := _fault_of(instance, reference):
            sentences.append(f"{instance.id} reads {reference.text}, {fault}; {instead}".rstrip("; "))
            missing.append(reference.text)
    if may_lack and len(missing) < len(reads.upstreams) + len(reads.unstored):
        notes = [f"{one} has no valid run, and {instance.id} runs without it" for one in missing]
        instance = replace(instance, notes=(*(instance.notes or ()), *notes))
    elif blocked:
        return blocked
    elif sentences:
        ids = " ".join(one.id for one in run_first)
        remedy = f"Run {'them' if run_first[1:] else 'it'} first: ductaflow run {ids}" if ids else ""
        return _error(instance, tuple(sentences), remedy, "input", run_first=tuple(run_first))
    return compared(instance) if only_changed else Decision(instance, Would.RUN)


def _fault_of(instance: Instance, reference: Unstored) -> str | None:
    """Why a path that belongs to nothing stored cannot be read; None if it can."""
    if not (instance.project.root / reference.path).exists():
        return "which is not there"
    folder = instance.project.run_folder(reference.flow, reference.name)
    # Without result and log somebody has put it there by hand.
    why = why_not_valid(folder.path) if folder.result.exists() or folder.log.exists() else None
    return why and f"but {why}"


def _of_skipped(instance: Instance, reason: str) -> Blame | None:
    """Why the readers of a skipped instance are blocked; None if its last run is valid."""
    if why_not_valid(instance.run_folder.path) is None:
        return None
    return Blame(instance.id, instance.id, f"is skipped: {reason}")


def compared(instance: Instance) -> Decision:
    """The decision about an instance by what has changed since its last run."""
    try:
        found = changes(spec_of_instance(instance, with_git=False))
    except DuctaflowError as exc:
        return refused(instance, exc)
    if not found:
        return Decision(instance, Would.UNCHANGED, instance.notes or ())
    more = f" (and {len(found) - 1} more)" if found[1:] else ""
    return Decision(instance, Would.RUN, (found[0].text + more,))


def refused(instance: Instance, problem: DuctaflowError | OSError) -> Decision:
    """The decision about an instance that cannot start: its config is wrong, or its folder is held."""
    if isinstance(problem, OSError):
        return _error(instance, (f"the run could not be started: {problem}",), "", "lost")
    # Who else holds a folder is nothing that the instance reads.
    cause: Cause | None = None if isinstance(problem, RunFolderError) else "input"
    return _error(instance, (problem.message,), problem.hint, cause)


def _error(
    instance: Instance,
    sentences: tuple[str, ...],
    remedy: str,
    cause: Cause | None,
    run_first: tuple[Instance, ...] = (),
) -> Decision:
    blame = Blame(instance.id, instance.id, f"cannot run: {sentences[0]}", remedy)
    return Decision(instance, Would.ERROR, sentences, remedy, blame, run_first, cause)


class SharedSession:
    """Decides for a session of several processes, which know of each other by results on disk alone.

    Args:
        runs_here: whether the session runs an instance, in whatever process.
        only_changed: whether the session leaves alone what has not changed.
    """

    def __init__(
        self,
        readiness: Readiness,
        session_id: str,
        runs_here: Callable[[Instance], bool],
        *,
        only_changed: bool,
    ) -> None:
        self._readiness = readiness
        self._session_id = session_id
        self._runs_here = runs_here
        self._only_changed = only_changed
        #: Ids of what may be read. The session runs it once, so it stays so.
        self.good: set[str] = set()
        #: Why readers of what this process could not start are blocked; that leaves no result.
        self.refused: dict[str, Blame | None] = {}

    def decide(self, instance: Instance) -> Decision:
        """Decide about an instance whose turn has come; whether it is unchanged is left to its run."""
        known: dict[str, Blame | None] = {}
        # Without recursion: a chain may be 10,000 long.
        open_steps = [self._step(instance)]
        while True:
            reads, left = open_steps[-1]
            if id := self._undecided(left, known, needs_all=reads.instance.options.allow_missing):
                open_steps.append(self._step(self._readiness.instances.by_id[id]))
                continue
            open_steps.pop()
            decision = decide(reads, known.get, only_changed=self._only_changed and bool(open_steps))
            if not open_steps:
                return decision
            id = reads.instance.id
            known[id] = decision.blame
            if decision.would is Would.RUN:
                known[id] = Blame(id, id, UNFINISHED)
            elif not decision.blame:
                self.good.add(id)
            reader = open_steps[-1][0].instance
            if known[id] and not reader.options.allow_missing:
                # The first one that blocks a reader is enough.
                open_steps[-1] = (open_steps[-1][0], iter(()))

    def _step(self, instance: Instance) -> tuple[Needs, Iterator[str]]:
        reads = self._readiness.reads(instance, self._runs_here)
        return reads, iter(()) if instance.problem else reads.here

    def _undecided(
        self, ids: Iterator[str], known: dict[str, Blame | None], *, needs_all: bool
    ) -> str | None:
        """The next of some upstreams that has left no result; None if no other one matters."""
        for id in ids:
            if id in self.good:
                continue
            if id not in known:
                folder = self._readiness.instances.by_id[id].run_folder.path
                result = result_of_session(folder, self._session_id)
                if result is None and id not in self.refused:
                    return id
                known[id] = Blame.of(result) if result else self.refused[id]
            if known[id]:
                if needs_all:
                    continue
                return None
            self.good.add(id)
        return None


# --- turns -------------------------------------------------------------------------------------------------


class Run(Protocol):
    """Runs an instance until its end, or until the flag is set."""

    def __call__(self, instance: Instance, /, *, stop: StopFlag) -> Result: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an instance.

    Attributes:
        result: its record.
        blame: why its readers are blocked; None if they are not.
        worker: which worker ran it; None if it did not run in this session, or nobody knows.
    """

    result: Result
    blame: Blame | None = None
    worker: str | None = None

    @classmethod
    def of(cls, result: Result, worker: str | None = None) -> Outcome:
        """The outcome of a run."""
        return cls(result, Blame.of(result), worker)


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of one instance. It crosses to other machines if `run` does.

    Attributes:
        reads: the instance and what it reads.
        after: ids of the turns that come before it.
        known: outcomes of other upstreams of the session, which are known already.
        run: runs the instance.
    """

    reads: Needs
    after: tuple[str, ...]
    known: tuple[Outcome, ...] = field(hash=False)
    run: Run

    @property
    def instance(self) -> Instance:
        return self.reads.instance

    def take(self, upstreams: Sequence[Outcome], stop: StopFlag, worker: str) -> Outcome:
        """Run the instance, if it may after what came of the turns before it; `stop` ends the run."""
        return self.follow(self.decide(upstreams), stop, worker)

    def follow(self, decision: Decision, stop: StopFlag, worker: str) -> Outcome:
        """Do what has been decided about the instance."""
        if decision.would is not Would.RUN:
            return decision.outcome
        try:
            result = self.run(decision.instance, stop=stop)
        except (DuctaflowError, OSError) as exc:
            return refused(self.instance, exc).outcome
        return Outcome.of(result, None if result.status is Status.UNCHANGED else worker)

    def decide(self, upstreams: Sequence[Outcome]) -> Decision:
        """Decide about the instance, after what came of the turns before it."""
        blames = {outcome.result.id: outcome.blame for outcome in (*self.known, *upstreams)}
        return decide(self.reads, lambda id: blames.get(id, Blame(id, id, UNFINISHED)))


def unrun(instance: Instance, status: Status, message: str, cause: Cause | None = None) -> Result:
    """The record of an instance that has no run in this session."""
    # Where a name cannot be one there is no folder either.
    folder = None if instance.problem else instance.run_folder.path
    return Result(instance.flow, instance.name, instance.kind, status, cause, message, folder=folder)
