"""An instance's turn in a session: it runs, or it cannot, once all that it reads from has had its turn.

    Turn(instance, after, known, run)     what is decided when its turn comes, as plain data
    Outcome(result, blame, worker)        what came of it, why its readers are blocked, who ran it
    Executor                              who takes the turns: threads of this process, or a cluster

A turn is the same wherever it is taken, so that an executor only says where and when.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from ductaflow.errors import DuctaflowError
from ductaflow.instances import Instance
from ductaflow.launch import StopFlag
from ductaflow.readiness import why_not_valid
from ductaflow.result import Cause, Result, Status

#: How often a session looks up from waiting, and on Windows how late a Ctrl-C is heard, in seconds.
TICK = 0.5

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
        if result.status is Status.ERROR:
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


class Executor(Protocol):
    """Takes the turns of a session."""

    def outcomes(self, turns: Sequence[Turn]) -> Iterator[Mapping[str, Outcome]]:
        """Take all turns, each after those before it; give what came of some, by id, as they end.

        From time to time it gives nothing, so that the caller can show that time passes. Turns do not wait
        for each other in a circle.

        Raises:
            Exception: what a turn has raised.
            DuctaflowError: the executor is lost.
        """

    def stop(self) -> Mapping[str, Outcome]:
        """Stop what runs, start nothing more, and give what came of it; by id."""


class Threads:
    """Takes turns in threads of this process, which only wait for processes.

    Args:
        jobs: how many at a time, called `w0`, `w1` and so on. Among those that may start the first comes
            first.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="conduct")
        self._stop = threading.Event()
        self._running: dict[Future[Outcome], str] = {}

    def outcomes(self, turns: Sequence[Turn]) -> Iterator[Mapping[str, Outcome]]:
        by_id = {turn.instance.id: turn for turn in turns}
        places = {id: place for place, id in enumerate(by_id)}
        waits = {id: set(turn.after) for id, turn in by_id.items()}
        readers: dict[str, list[str]] = {}
        for id, turn in by_id.items():
            for upstream in turn.after:
                readers.setdefault(upstream, []).append(id)
        #: A heap of those that wait for nothing, by their place.
        ready = [(place, id) for id, place in places.items() if not waits[id]]
        #: Numbers of the workers that have nothing to do; a heap too.
        free = list(range(min(self._jobs, len(turns))))
        workers: dict[Future[Outcome], int] = {}
        ended: dict[str, Outcome] = {}
        while ready or self._running:
            while ready and free:
                turn = by_id[heapq.heappop(ready)[1]]
                worker = heapq.heappop(free)
                upstreams = [ended[id] for id in turn.after]
                future = self._pool.submit(turn.take, upstreams, self._stop, f"w{worker}")
                self._running[future] = turn.instance.id
                workers[future] = worker
            done = wait(self._running, timeout=TICK, return_when=FIRST_COMPLETED).done
            now = {self._running[future]: future.result() for future in done}
            yield now
            # Only what the caller has seen is forgotten here: it may be interrupted before.
            for future in done:
                del self._running[future]
                heapq.heappush(free, workers.pop(future))
            ended |= now
            for id in now:
                for reader in readers.get(id, ()):
                    waits[reader].discard(id)
                    if not waits[reader]:
                        heapq.heappush(ready, (places[reader], reader))

    def stop(self) -> Mapping[str, Outcome]:
        self._stop.set()
        self._pool.shutdown()
        return {id: future.result() for future, id in self._running.items() if not future.exception()}
