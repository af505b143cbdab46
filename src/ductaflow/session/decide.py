"""May an instance run? What it reads from other runs has to be there.

an upstream that the same session runs        the session waits for it; a red one blocks
an upstream that is skipped                   its last run is valid, or the reader is blocked
any other upstream                            its last run is valid, or the reader cannot start
a path below runs/ of nothing that is stored  it exists, and a run that lies there is valid

    Turn(instance, after, known, run)     what is decided when its turn comes, as plain data
    Outcome(result, blame, worker)        what came of it, why its readers are blocked, who ran it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ductaflow.common.errors import DuctaflowError
from ductaflow.execution.launch import StopFlag
from ductaflow.project.graph import Graph, Unstored
from ductaflow.project.instances import Instance, Instances
from ductaflow.store.result import Cause, Result, Status, why_not_valid


@dataclass(frozen=True, slots=True)
class Lack:
    """What an instance reads and cannot have.

    Attributes:
        sentences: one for each thing that it lacks.
        run_first: the instances that would make them.
    """

    sentences: tuple[str, ...]
    run_first: tuple[Instance, ...]

    @property
    def remedy(self) -> str:
        """The command that makes what is missing; empty where no command does."""
        ids = " ".join(instance.id for instance in self.run_first)
        return f"Run it first: ductaflow run {ids}" if ids else ""


class Readiness:
    """Who of some instances reads from whom, and whether that is there.

    Args:
        instances: all that are stored, or the rows of a table.
    """

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.graph = Graph(instances.all)

    def upstreams(self, instance: Instance) -> list[Instance]:
        """The instances that an instance reads from directly."""
        return [self.instances.by_id[id] for id in self.graph.upstreams(instance.id)]

    def with_upstreams(self, instance: Instance) -> list[Instance]:
        """An instance, last, and before it all that it reads from at any distance, in order."""
        ids = [*self.graph.above([instance.id]), instance.id]
        return [self.instances.by_id[id] for id in self.graph.order(ids)]

    def skipped_upstream(self, instance: Instance) -> str | None:
        """The first upstream that is skipped and has no valid earlier run, with the reason."""
        for upstream in self.upstreams(instance):
            reason = upstream.skip_reason()
            if reason and why_not_valid(upstream.run_folder.path):
                return f"{upstream.id} is skipped: {reason}"
        return None

    def lack(self, instance: Instance, runs_here: Callable[[Instance], bool]) -> Lack | None:
        """What an instance lacks to start; None if it lacks nothing.

        Args:
            instance: the one whose turn has come.
            runs_here: whether the session runs an upstream itself, and so answers for it.
        """
        faults = [
            (upstream, why)
            for upstream in self.upstreams(instance)
            if not runs_here(upstream) and (why := why_not_valid(upstream.run_folder.path))
        ]
        sentences = [f"{instance.id} reads from {upstream.id}, but {why}." for upstream, why in faults]
        sentences += self._unstored(instance)
        return Lack(tuple(sentences), tuple(upstream for upstream, _ in faults)) if sentences else None

    def _unstored(self, instance: Instance) -> Iterator[str]:
        for reference in self.graph.unstored(instance.id):
            fault = _fault_of(instance, reference)
            if fault:
                known = self.graph.about(reference)
                yield f"{instance.id} reads {reference.text}, {fault}; {known}"


def _fault_of(instance: Instance, reference: Unstored) -> str | None:
    """What is wrong with what a reference to nothing stored names; None if it may be read."""
    if not (instance.project.root / reference.path).exists():
        return "which is not there"
    folder = instance.project.run_folder(reference.flow, reference.name)
    if folder.result.exists() or folder.log.exists():
        why = why_not_valid(folder.path)
        return f"but {why}" if why else None
    # Somebody has put it there by hand.
    return None


Run = Callable[[Instance, StopFlag], Result]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an instance.

    Attributes:
        result: its record.
        blame: why what reads from it is blocked; None if it is not.
        worker: who of the executor ran it; None if it did not run in this session, or nobody knows.
    """

    result: Result
    blame: str | None = None
    worker: str | None = None

    @classmethod
    def of(cls, result: Result) -> Outcome:
        """The outcome of a run, or of one that was refused or blocked."""
        if result.status.is_error:
            return cls(result, f"{result.id} is red: {result.message}")
        return cls(result, result.message if result.status is Status.BLOCKED else None)


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of one instance. It crosses to other machines if `run` does.

    Attributes:
        instance: whose it is.
        after: ids of the turns that come before it.
        known: outcomes of other upstreams, that are known already.
        run: runs the instance until its end, or until the flag is set; what cannot start is a result too.
    """

    instance: Instance
    after: tuple[str, ...]
    known: tuple[Outcome, ...] = field(hash=False)
    run: Run

    def take(self, upstreams: Sequence[Outcome], stop: StopFlag, worker: str) -> Outcome:
        """Run the instance, if it may.

        Args:
            upstreams: what came of the turns before it.
            stop: ends the run when it is set.
            worker: who takes it.
        """
        if unrun := self.unrun(upstreams):
            return unrun
        outcome = Outcome.of(self.run(self.instance, stop))
        ran = outcome.result.run_id and outcome.result.status is not Status.UNCHANGED
        return replace(outcome, worker=worker) if ran else outcome

    def unrun(self, upstreams: Sequence[Outcome]) -> Outcome | None:
        """Why the instance does not run; None if it does."""
        if skipped := _skipped(self.instance):
            return skipped
        for upstream in (*self.known, *upstreams):
            if upstream.blame:
                blocked = upstream.result.status is Status.BLOCKED
                through = f"{upstream.result.id} is blocked: " if blocked else ""
                return Outcome(
                    unrun_record(self.instance, Status.BLOCKED, through + upstream.blame), upstream.blame
                )
        return None


def refused(instance: Instance, problem: DuctaflowError) -> Outcome:
    """What comes of an instance that cannot be run; one that is skipped is skipped all the same."""
    return _skipped(instance) or Outcome.of(unrun_record(instance, Status.ERROR, said(problem), "input"))


def _skipped(instance: Instance) -> Outcome | None:
    """The outcome of an instance that its config skips: its readers may have a valid earlier run."""
    reason = instance.skip_reason()
    if not reason:
        return None
    invalid = why_not_valid(instance.run_folder.path)
    record = unrun_record(instance, Status.NOT_RUN, f"skipped: {reason}")
    return Outcome(record, f"{instance.id} is skipped: {reason}" if invalid else None)


def unrun_record(instance: Instance, status: Status, message: str, cause: Cause | None = None) -> Result:
    """The record of an instance that has no run in this session."""
    # Where a name cannot be one there is no folder either.
    folder = None if instance.problem else instance.run_folder.path
    return Result(instance.flow, instance.name, instance.kind, status, cause, message, folder=folder)


def said(exc: DuctaflowError) -> str:
    """An error and its remedy in one line."""
    return f"{exc.message.rstrip('.')}. {exc.hint}" if exc.hint else exc.message


NOT_STARTED = "the session ended before its turn"
