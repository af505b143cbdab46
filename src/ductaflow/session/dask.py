"""Runs on a Dask cluster: each worker proves that it sees the same project, and takes turns.

A run is started as in any other session, by a process of its own below the worker's. Dask may start a run
again on another worker when one is lost; the run folder tells the second attempt what became of the first.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import pickle
import platform
import queue
import secrets
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ductaflow.common.errors import ConfigError, DuctaflowError
from ductaflow.common.paths import CACHE_DIR
from ductaflow.execution import page_orders, warm
from ductaflow.execution.launch import STOP_SECONDS, StopFlag
from ductaflow.project.instances import Instance
from ductaflow.project.vendored import DISTRIBUTION
from ductaflow.session.decide import NOT_STARTED, Outcome, Turn, Would, unrun
from ductaflow.session.durations import likely
from ductaflow.session.resources import RoomHere
from ductaflow.session.scheduler import TICK, longest_paths, places_before
from ductaflow.session.worker_room import WorkerRoom
from ductaflow.store.folder import is_running
from ductaflow.store.result import Result, Status, result_of_session
from ductaflow.store.spec import current_run

if TYPE_CHECKING:
    from dask.typing import Key
    from distributed import Client, Future, Scheduler, Worker


INSTALL = f'pip install "{DISTRIBUTION}[dask]"'
#: How often it is looked whether a run has ended, in seconds.
LOOK_SECONDS = 0.2
#: How long a worker sends no heartbeat until it is called silent, in seconds; Dask wants some each second.
SILENT_SECONDS = 30.0
#: How often a turn goes to another worker because the one that had it was not fit.
MAX_ATTEMPTS = 5
#: How many workers an error names.
_NAMED = 5
_SAME_VERSIONS = (
    "Start the scheduler and the workers with the conductor's versions of Python and of "
    f"{DISTRIBUTION}, best in the same environment."
)
#: Causes of a run that was ended from outside: they tell nothing about the flow, so the next attempt runs it.
_ENDED_FROM_OUTSIDE = ("lost", "interrupted")


class UnfitWorker(DuctaflowError):
    """A worker was given a turn and does not see what the session sees."""


# --- what a worker has to show -----------------------------------------------------------------------------


def shown_here(token: str) -> dict[str, object]:
    """Facts about this process and the session's token, as plain data that any version could give."""
    folder = os.path.dirname(os.path.dirname(token))
    run = current_run()
    try:
        content = Path(token).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        content = None
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "package": _package_version(),
        "interpreter": sys.executable,
        "token": content,
        "writable": os.access(folder, os.W_OK),
        "inside": run.title if run else None,
    }


@functools.cache
def _package_version() -> str | None:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        # it runs from a source tree
        return None


@dataclass(frozen=True, slots=True)
class Admission:
    """The conditions for a worker to run anything for a session.

    Attributes:
        session_id: the session.
        token: path of a file with random content in the session's runs folder.
        content: of that file.
        python, package: the versions of the conductor.
    """

    session_id: str
    token: str
    content: str
    python: str
    package: str | None

    @classmethod
    def of(cls, runs_dir: Path, session_id: str) -> Admission:
        """The conditions of a session of this process."""
        token = runs_dir / CACHE_DIR / f"session-{session_id}"
        return cls(session_id, str(token), secrets.token_hex(), platform.python_version(), _package_version())

    def issue(self) -> None:
        """Write the token.

        Raises:
            DuctaflowError: the runs folder cannot be written.
        """
        token = Path(self.token)
        try:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.write_text(self.content, encoding="utf-8")
        except OSError as exc:
            raise DuctaflowError(
                f"{token}: cannot be written: {exc.strerror or exc}",
                hint="Make the runs folder writable and see that the disk has room, then run again.",
            ) from exc

    def withdraw(self) -> None:
        """Remove the token; no worker is admitted any more."""
        Path(self.token).unlink(missing_ok=True)

    @property
    def runs_dir(self) -> str:
        return os.path.dirname(os.path.dirname(self.token))

    def fault_in(self, shown: Mapping[str, object]) -> str | None:
        """Why a worker may not run, by what `shown_here` gave there; None if it may."""
        host = f"on {shown['host']}"
        if fault := self.version_fault_in(shown):
            return fault
        if shown["inside"]:
            return f"{host} was started inside of the run {shown['inside']}"
        if shown["token"] != self.content:
            return f"{host} does not see the conductor's folder {self.runs_dir}"
        if not shown["writable"]:
            return f"{host} cannot write to {self.runs_dir}"
        return None

    def version_fault_in(self, shown: Mapping[str, object]) -> str | None:
        """The same by the versions alone."""
        host = f"on {shown['host']}"
        if shown["python"] != self.python:
            interpreter = shown["interpreter"]
            return f"{host} runs Python {shown['python']} ({interpreter}), the conductor {self.python}"
        if shown["package"] != self.package:
            package = shown["package"] or "not installed"
            return f"{host} has {DISTRIBUTION} {package}, the conductor {self.package or 'not installed'}"
        return None


def silent_workers(seconds: float, dask_scheduler: Scheduler) -> dict[Key, str]:
    """On the scheduler: what it has given to workers that have been silent for so long, each with its worker.

    Its clock alone counts, which need not be that of the conductor.
    """
    from distributed.metrics import time as now

    return {
        task.key: worker.address if worker.name == worker.address else f"{worker.name} ({worker.address})"
        for worker in dask_scheduler.workers.values()
        if now() - worker.last_seen > seconds
        for task in worker.processing
    }


# --- a turn ------------------------------------------------------------------------------------------------


#: A process is one worker.
_room = WorkerRoom()


def take(turn: Turn, admission: Admission, peak: int, *upstreams: Outcome) -> Outcome:
    """Take a turn, as a task of Dask; `peak` is the memory that it is likely to take, in bytes.

    Raises:
        UnfitWorker: this worker is not admitted; nothing has run.
    """
    from distributed import get_worker

    worker = get_worker()
    if fault := admission.fault_in(shown_here(admission.token)):
        raise UnfitWorker(f"{worker.address} {fault}")
    warm.disown()
    page_orders.disown()
    stop = TaskFlag(worker, worker.get_current_task())
    earlier = result_of_earlier_attempt(turn.instance, admission.session_id, stop)
    if earlier:
        return Outcome.of(earlier)
    decision = turn.decide(upstreams)
    if decision.would is not Would.RUN:
        return decision.outcome
    with _room.taken(turn.instance, peak, worker.state.nthreads, stop):
        if stop.is_set():
            return Outcome(unrun(turn.instance, Status.NOT_RUN, NOT_STARTED))
        return turn.follow(decision, stop, str(worker.name))


class TaskFlag:
    """Set when nobody wants a running task any more.

    That is when it was cancelled, when its session or the scheduler is lost, and when the worker ends. Dask
    does not end a running task in any of these cases, but its worker knows of them.
    """

    def __init__(self, worker: Worker, key: Key) -> None:
        self._worker = worker
        self._key = key

    def is_set(self) -> bool:
        task = self._worker.state.tasks.get(self._key)
        return (
            task is None
            or task.state in ("cancelled", "resumed")
            or self._worker.status.name in ("closing", "closed", "failed")
        )


def result_of_earlier_attempt(instance: Instance, session_id: str, stop: StopFlag) -> Result | None:
    """The result of an earlier attempt of this session, on a worker that was lost; None if there is none.

    Waits until that attempt has ended, or `stop` is set. One that ended with its worker does not count.
    """
    folder, runs_dir = instance.run_folder.path, instance.project.runs_dir
    while is_running(runs_dir, folder, session_id) and not stop.is_set():
        time.sleep(LOOK_SECONDS)
    result = result_of_session(folder, session_id)
    return None if result is None or result.cause in _ENDED_FROM_OUTSIDE else result


class Cluster:
    """Takes turns on the workers of a cluster.

    Args:
        client: connected to the cluster's scheduler.
        runs_dir: the runs folder of the session's project.
        session_id: of the session.

    Raises:
        ConfigError: it is not a client, or not connected.
    """

    def __init__(self, client: Client, runs_dir: Path, session_id: str) -> None:
        self._client = _accepted(client)
        self._address = self._client.scheduler.address if self._client.scheduler else "of the client"
        self._runs_dir = runs_dir
        self._session_id = session_id
        self._admission = Admission.of(runs_dir, session_id)
        self._turns: dict[str, Turn] = {}
        #: Seconds of the longest path that begins with each: what keeps the session waiting begins early.
        self._priorities: dict[str, float] = {}
        #: Memory in bytes that each is likely to take, by its config and by earlier runs; 0 if nobody knows.
        self._peaks: dict[str, int] = {}
        self._pending: dict[str, Future[Outcome]] = {}
        self._ended: dict[str, Outcome] = {}
        self._attempts: dict[str, int] = {}
        #: For turns that a worker gave back the workers that they are for now.
        self._restricted: dict[str, frozenset[str]] = {}
        self._told: set[str] = set()
        self._erred: dict[str, BaseException] = {}
        self._inbox: queue.SimpleQueue[tuple[str, Future[Outcome]]] = queue.SimpleQueue()
        self._has_had_workers = False
        #: What a silent worker has, with what that waits for, as of the last look; and when the next one is.
        self._with_silent: dict[str, str] = {}
        self._next_look = time.monotonic() + SILENT_SECONDS
        #: What waits for a worker that is silent; or all, where the cluster has lost the last one.
        self.waits: Mapping[str, str] = MappingProxyType({})

    def check(self) -> None:
        """See that each worker that there is may run for this session, and that the scheduler can read turns.

        Raises:
            DuctaflowError: some may not; it names them, and why. Nothing was sent.
        """
        self._admission.issue()
        try:
            self._check_scheduler()
            faults, fit = self._faults()
            if faults:
                raise _unfit(faults, len(faults) + len(fit))
            self._has_had_workers = bool(fit)
            if not fit:
                text = "the Dask cluster has no workers yet; the runs wait for them"
                warnings.warn(text, RuntimeWarning, stacklevel=4)
        except BaseException:
            self._admission.withdraw()
            raise

    def outcomes(self, turns: Sequence[Turn]) -> Iterator[Mapping[str, Outcome]]:
        by_id = {turn.instance.id: turn for turn in turns}
        upstreams_first = TopologicalSorter({id: turn.after for id, turn in by_id.items()}).static_order()
        self._turns = {id: by_id[id] for id in upstreams_first}
        instances = [turn.instance for turn in self._turns.values()]
        found = likely(instances)
        paths = longest_paths(places_before(list(self._turns.values())), found.seconds)
        self._priorities = dict(zip(self._turns, paths, strict=True))
        room = RoomHere(instances, found.peaks, 1, found.cut)
        self._peaks = {one.id: room.demand(place).memory for place, one in enumerate(instances)}
        self._submit(list(self._turns))
        while self._pending:
            arrived = self._arrived()
            now = self._outcomes_of(arrived)
            self._see_what_waits(bool(arrived))
            yield now
            # Only what the caller has seen is forgotten here: it may be interrupted before.
            for id in now:
                del self._pending[id]
            if self._pending and self._client.status != "running":
                raise self._lost()
            self._see_to_restricted()

    def stop(self) -> Mapping[str, Outcome]:
        pending = dict(self._pending)
        try:
            if pending and self._client.status == "running":
                # A scheduler that is lost at this very moment has nothing to cancel any more.
                with contextlib.suppress(OSError, CancelledError):
                    self._client.cancel(list(pending.values()))
            self._await_ends(pending)
            return {id: self._ended[id] for id in pending if id in self._ended}
        finally:
            self._admission.withdraw()

    # --- which workers may ----------------------------------------------------------------------------------

    def _check_scheduler(self) -> None:
        """The scheduler reads the graph, so it needs our package, but not the folder."""
        try:
            shown = self._client.run_on_scheduler(shown_here, self._admission.token)
            fault = self._admission.version_fault_in(shown)
        except (ImportError, AttributeError) as exc:
            fault = _no_answer(exc)
        if fault:
            raise DuctaflowError(f"the Dask scheduler {self._address} {fault}", hint=_SAME_VERSIONS)

    def _faults(self) -> tuple[dict[str, str], frozenset[str]]:
        """Of the workers that there are: what is wrong with some, by address; and the others."""
        answers = self._client.run(shown_here, self._admission.token, on_error="return")
        faults = {}
        for address, shown in answers.items():
            if isinstance(shown, BaseException):
                fault: str | None = _no_answer(shown)
            else:
                fault = self._admission.fault_in(shown)
            if fault:
                faults[address] = fault
        return faults, frozenset(answers.keys() - faults.keys())

    # --- turns go out, outcomes come in ---------------------------------------------------------------------

    def _submit(self, ids: Iterable[str], only: frozenset[str] = frozenset()) -> None:
        """Send turns as one graph, upstreams first; without `only` to any worker."""
        from dask.base import annotate

        keys: dict[str, tuple[str, str]] = {}
        graph: dict[tuple[str, str], tuple[object, ...]] = {}
        for id in ids:
            turn, instance = self._turns[id], self._turns[id].instance
            attempt = self._attempts[id] = self._attempts.get(id, 0) + 1
            # Dask's dashboard names a task by what is before the first "-": the flow.
            keys[id] = (f"{instance.flow}-{self._session_id}-{attempt}", instance.name)
            ended = [self._ended[up] for up in turn.after if up in self._ended]
            awaited = [keys.get(up) or self._pending[up] for up in turn.after if up not in self._ended]
            turn = replace(turn, known=(*turn.known, *ended))
            # As bytes: a worker that cannot read a task, since it lacks our package, would leave the cluster.
            turn_there = pickle.dumps(functools.partial(take, turn, self._admission, self._peaks[id]))
            graph[keys[id]] = (operator.call, (pickle.loads, turn_there), *awaited)
        if not graph:
            return
        priorities = {keys[id]: self._priorities[id] for id in keys}
        with annotate(priority=priorities.get):
            futures = self._client.get(graph, list(graph), sync=False, workers=sorted(only) or None)
        for id, future in zip(keys, futures, strict=True):
            self._pending[id] = future
            self._listen_to(id, future)

    def _listen_to(self, id: str, future: Future[Outcome]) -> None:
        future.add_done_callback(lambda future: self._inbox.put((id, future)))

    def _arrived(self) -> dict[str, Future[Outcome]]:
        """The futures that are done; waits for one, but no longer than a moment."""
        arrived = {}
        with contextlib.suppress(queue.Empty):
            id, future = self._inbox.get(timeout=TICK)
            while True:
                if self._pending.get(id) is future:
                    arrived[id] = future
                id, future = self._inbox.get_nowait()
        return arrived

    def _outcomes_of(self, arrived: Mapping[str, Future[Outcome]]) -> dict[str, Outcome]:
        finished = {}
        for id, future in arrived.items():
            if future.status == "finished":
                finished[id] = future
            elif future.status == "error":
                self._erred[id] = future.exception()
            elif future.status == "cancelled":
                raise self._lost()
            else:
                # The worker that had it was lost in between; Dask makes it again.
                self._listen_to(id, future)
        try:
            now = dict(zip(finished, self._client.gather(list(finished.values())), strict=True))
        except (CancelledError, OSError) as exc:
            raise self._lost() from exc
        self._ended |= now
        return now | self._fallen()

    def _fallen(self) -> dict[str, Outcome]:
        """Outcomes of turns that could not be taken to their end; some of those go out once more."""
        from distributed import KilledWorker

        now: dict[str, Outcome] = {}
        given_back: dict[str, BaseException] = {}
        for id in [id for id in self._turns if id in self._erred] if self._erred else ():
            turn = self._turns[id]
            if any(upstream not in self._ended for upstream in turn.after):
                # It failed with an upstream, which comes first.
                continue
            exc = self._erred.pop(id)
            decision = turn.decide([self._ended[upstream] for upstream in turn.after])
            outcome = None if decision.would is Would.RUN else decision.outcome
            # Dask also counts a lost worker for turns that only waited there.
            has_begun = self._is_running(id) or self._left_behind(id) is not None
            if outcome is None and isinstance(exc, KilledWorker) and has_begun:
                outcome = _lost_with(turn, f"{exc.allowed_failures + 1} workers were lost while they ran it")
            elif outcome is None and self._attempts[id] >= MAX_ATTEMPTS:
                outcome = _lost_with(turn, f"{MAX_ATTEMPTS} workers gave it back; the last: {exc}")
            if outcome is None:
                given_back[id] = exc
            else:
                now[id] = self._ended[id] = outcome
        if given_back:
            self._send_again(given_back)
        return now

    def _see_what_waits(self, has_news: bool) -> None:
        """Note what waits for a silent worker; everything, if the last worker is gone."""
        self.waits = MappingProxyType({})
        if self._client.status != "running":
            return
        # A scheduler that is lost at this very moment is seen by the status.
        with contextlib.suppress(OSError):
            if has_news or self._client.nthreads():
                self._has_had_workers = True
                self.waits = self._waits_for_silent()
            elif self._has_had_workers:
                self.waits = dict.fromkeys(self._pending, "a Dask worker, of which there is none any more")

    def _waits_for_silent(self) -> Mapping[str, str]:
        """What waits for silent workers; they are looked for now and then."""
        if time.monotonic() >= self._next_look:
            silent = self._client.run_on_scheduler(silent_workers, SILENT_SECONDS)
            self._with_silent = {
                id: f"the Dask worker {silent[future.key]}, silent for more than {SILENT_SECONDS:g} s"
                for id, future in self._pending.items()
                if future.key in silent
            }
            self._next_look = time.monotonic() + SILENT_SECONDS / 3
        return {id: why for id, why in self._with_silent.items() if id in self._pending}

    def _send_again(self, given_back: Mapping[str, BaseException]) -> None:
        """Give turns to workers that may have them, and with them the turns that wait for those."""
        from distributed import KilledWorker

        faults, fit = self._faults()
        for exc in given_back.values():
            if not faults and not isinstance(exc, UnfitWorker | KilledWorker):
                raise exc
        if faults and not fit:
            raise _unfit(faults, len(faults))
        for address in sorted(faults.keys() - self._told):
            text = f"the Dask worker {address} {faults[address]}; it runs nothing for this session"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        self._told.update(faults)
        again: dict[str, None] = {}
        for id, turn in self._turns.items():
            if id in given_back or any(upstream in again for upstream in turn.after):
                again[id] = None
                self._erred.pop(id, None)
        # Where there is no worker at all for now, whichever comes may have them.
        self._submit(again, fit)
        self._restricted.update(dict.fromkeys(again, fit) if fit else {})

    def _see_to_restricted(self) -> None:
        """Find other workers for turns whose workers are all gone."""
        self._restricted = {id: only for id, only in self._restricted.items() if id in self._pending}
        if not self._restricted:
            return
        there = self._client.nthreads().keys()
        stuck = [id for id, only in self._restricted.items() if not only & there]
        if stuck:
            for id in stuck:
                del self._restricted[id]
            self._send_again({id: UnfitWorker("its workers are gone") for id in stuck})

    # --- the end --------------------------------------------------------------------------------------------

    def _lost(self) -> DuctaflowError:
        return DuctaflowError(
            f"the Dask scheduler {self._address} is lost, or has dropped what it was asked for",
            hint="The workers end what they were running; what was done before is in the report and in "
            f"{self._runs_dir}. Start the cluster again, and conduct the same table.",
        )

    def _await_ends(self, ids: Iterable[str]) -> None:
        """Wait until the workers have ended what they ran of some instances, but not for ever."""
        deadline = time.monotonic() + STOP_SECONDS
        running = [id for id in ids if self._is_running(id)]
        while running and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            running = [id for id in running if self._is_running(id)]

    def _is_running(self, id: str) -> bool:
        return is_running(self._runs_dir, self._turns[id].instance.run_folder.path, self._session_id)

    def _left_behind(self, id: str) -> Outcome | None:
        """The outcome of a run by its folder, where Dask has lost track of it."""
        result = result_of_session(self._turns[id].instance.run_folder.path, self._session_id)
        return Outcome.of(result) if result else None


def _accepted(client: object) -> Client:
    """The client, if turns can be given to it."""
    try:
        from distributed import Client
    except ImportError as exc:
        raise ConfigError("an executor needs the package distributed", hint=f"Install it: {INSTALL}") from exc
    if not isinstance(client, Client):
        raise ConfigError(
            f"executor is a dask.distributed.Client, not {type(client).__name__}",
            hint='Pass Client("tcp://address-of-the-scheduler:8786"), or Client(cluster).',
        )
    if client.asynchronous:
        raise ConfigError("the client is asynchronous", hint="Make it without asynchronous=True.")
    if client.status != "running":
        raise ConfigError(f"the client is {client.status}", hint="Connect a new Client to the scheduler.")
    return client


def _no_answer(exc: BaseException) -> str:
    """What is wrong with a process that cannot say what it sees; Dask may give the text of an error alone."""
    if f"No module named '{__name__.partition('.')[0]}" in str(exc):
        return f"has no {DISTRIBUTION}"
    return f"cannot answer: {type(exc).__name__}: {exc}"


def _unfit(faults: Mapping[str, str], of: int) -> DuctaflowError:
    named = [f"{address} {fault}" for address, fault in sorted(faults.items())]
    more = [f"and {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    return DuctaflowError(
        f"{len(named)} of {of} Dask workers cannot run this: {'; '.join([*named[:_NAMED], *more])}",
        hint=f"Mount the project at the same path on every machine. {_SAME_VERSIONS}",
    )


def _lost_with(turn: Turn, message: str) -> Outcome:
    return Outcome.of(unrun(turn.instance, Status.ERROR, message, "lost"))
