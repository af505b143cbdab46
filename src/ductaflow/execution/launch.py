"""Starts the supervisor of a run and waits for its result, in the process that asks for the run.

Nothing heavy is imported here, and a run inherits only the environment of this process: not its working
directory, its `__main__` or its open files. Runs may overlap in threads.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NoReturn, Protocol, Required, TypedDict

from ductaflow.common import errors, host
from ductaflow.common.decode import UnreadableError, decode
from ductaflow.common.engines import engine_named
from ductaflow.common.errors import DuctaflowError, RunFolderError
from ductaflow.common.paths import CONTEXT, RunFolder
from ductaflow.common.text import first_line
from ductaflow.execution import page_orders, warm
from ductaflow.execution.coverage import MEASURE
from ductaflow.execution.echo import POLL_SECONDS, Show, shown_while_it_grows
from ductaflow.notebook.export import end_announcement
from ductaflow.store.result import Result, Status, readable_result
from ductaflow.store.sessions import Part, session_of
from ductaflow.store.spec import RunSpec, is_below

#: How long a supervisor may take to stop its run, in seconds, before it is killed.
STOP_SECONDS = 4.0
#: How long an answer that a supervisor has sent may take until it is read, in seconds.
_ON_ITS_WAY = 0.5


class StopFlag(Protocol):
    """Tells whether a run has to stop: a `threading.Event`, or anything like it."""

    def is_set(self) -> bool: ...


class StopWithReason(threading.Event):
    """A flag that says why, in the result of the run that it stops."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class RunInterrupted(KeyboardInterrupt):
    """A KeyboardInterrupt that stopped a run; `result` is what came of it."""

    def __init__(self, result: Result, *args: object) -> None:
        super().__init__(*args)
        self.result = result


class Answer(TypedDict, total=False):
    """One line from a supervisor: `started` with `pid`; `refused` with the error; `result`.

    From a server that cannot start one: `unable` with a `message`.
    """

    event: Required[Literal["started", "refused", "result", "unable"]]
    pid: int
    type: str
    message: str
    hint: str
    result: Result


def launch(
    spec: RunSpec,
    *,
    show: Show | None = None,
    stop: StopFlag | None = None,
    await_page: bool = True,
) -> Result:
    """Run a spec in its own process and wait for the result.

    Args:
        show: called with the output of the run while it runs.
        await_page: wait for the HTML of the notebook too. Otherwise the next run goes on beside it; at most
            as many pages as there are processors are behind, and the end of the session waits for them.

    Raises:
        DuctaflowError: the run could not start (a RunFolderError: somebody else holds the folder).
        RunInterrupted: a KeyboardInterrupt was raised while waiting; the run has been stopped.
    """
    is_watched = host.has_editor() and not engine_named(spec.engine).has_kernel
    spec = replace(spec, is_watched=is_watched)
    if spec.settings.html and spec.mode == "notebook":
        # Before `Pages`, which ends before it.
        spec = replace(spec, page_maker=page_orders.address_of_maker(spec.session_id))
    pages = session_of(spec.session_id).part(Pages)
    pages.wait(at_most=os.cpu_count() or 1)
    for supervisor in _supervisors_of(spec):
        answers = Answers(supervisor, functools.partial(_look_after_page, spec, supervisor))
        try:
            # Only now: what ends the wait from here on, such as a signal, is the reason in the result.
            supervisor.begin()
            has_begun = _has_begun(answers, supervisor, stop)
            if not (has_begun or isinstance(supervisor, _Spawned) or _is_set(stop)):
                # The server, or its branch, has ended before it got the request: nothing has begun.
                supervisor.close()
                continue
            with shown_while_it_grows(spec.log, show) if show and has_begun else contextlib.nullcontext():
                result = _result_of(spec, supervisor, answers, stop)
            break
        except KeyboardInterrupt as exc:
            result = _stop(spec, supervisor, answers)
            supervisor.close()
            raise RunInterrupted(result, *exc.args) from exc
        except DuctaflowError:
            supervisor.close()
            raise
        except BaseException as exc:
            # Something else ended the wait, such as a time limit that another plugin of pytest sets.
            _stop(spec, supervisor, answers, why=first_line(str(exc)))
            supervisor.close()
            raise
    if await_page:
        _await_page(supervisor, answers, spec.run_folder)
    else:
        pages.add(supervisor, answers, spec.run_folder)
    return result


def _look_after_page(spec: RunSpec, supervisor: Supervisor) -> None:
    """Order the page again if it was announced and the process that was to make it has ended."""
    if spec.page_maker and not supervisor.is_closed:
        with contextlib.suppress(OSError):
            page_orders.order_again(spec)


def _await_page(supervisor: Supervisor, answers: Answers, folder: RunFolder) -> None:
    """Wait for the end of a supervisor, which makes the page."""
    try:
        answers.await_end()
    finally:
        supervisor.close()
    end_announcement(folder)


class Pages(Part):
    """Runs of a session that have ended while the HTML of their notebooks is still being made."""

    def __init__(self) -> None:
        self._left: queue.SimpleQueue[tuple[Supervisor, Answers, RunFolder]] = queue.SimpleQueue()

    def add(self, supervisor: Supervisor, answers: Answers, folder: RunFolder) -> None:
        self._left.put((supervisor, answers, folder))

    def wait(self, *, at_most: int = 0) -> None:
        """Wait until no more than so many are left, and see their supervisors end."""
        while self._left.qsize() > at_most:
            try:
                left = self._left.get_nowait()
            except queue.Empty:
                # Another thread waits for it.
                return
            _await_page(*left)

    def end(self, *, orderly: bool) -> None:
        """Wait for all; after an interruption only until their supervisors have given up."""
        while not orderly and not self._left.empty():
            self._left.get_nowait()[0].close()
        self.wait()


def await_pages() -> None:
    """Wait for the HTML of the ended runs that belong to the session of this process."""
    session_of().part(Pages).wait()


# --- the supervisor, seen from here ------------------------------------------------------------------------


class _Spawned:
    """A supervisor in a new interpreter.

    Attributes:
        pid: known once it reports that the run has begun.
        is_closed: whether the session does not wait for it any more.
    """

    def __init__(self, spec: RunSpec, notes: Sequence[str] = ()) -> None:
        self.pid: int | None = None
        self.is_closed = False
        self._spec = spec
        self._process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.execution.supervise", *notes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=spec.environment(),
            # The terminal's Ctrl-C does not reach it: the session asks it to stop.
            start_new_session=True,
        )

    def begin(self) -> None:
        """Ask for the run."""
        self.ask(self._spec.dump().encode() + b"\n")

    def ask(self, line: bytes) -> None:
        """Send a line. If the supervisor is gone, its answers show it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def lines(self) -> Iterator[bytes]:
        """Yield its answers until its end."""
        assert self._process.stdout is not None
        with self._process.stdout:
            yield from self._process.stdout

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Tell it that the session needs it no longer, and wait for its end."""
        assert self._process.stdin is not None
        self.is_closed = True
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ending(self) -> str:
        """Describe how it ended if it did not answer."""
        return f"exit code {self._process.wait()}"


class _Forked:
    """A supervisor that the warm server forked. We have only the connection to it.

    Attributes:
        unable: why the server cannot start one.
    """

    def __init__(self, spec: RunSpec, connection: socket.socket) -> None:
        self._connection = connection
        self._request = warm.RunRequest(spec, spec.variables(os.environ))
        self.pid: int | None = None
        self.is_closed = False
        self.unable = ""

    def begin(self) -> None:
        """Ask for the run."""
        self.ask(f"{self._request.dump()}\n".encode())

    def ask(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            self._connection.sendall(line)

    def lines(self) -> Iterator[bytes]:
        with contextlib.suppress(OSError), self._connection.makefile("rb") as answers:
            yield from answers

    def kill(self) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self.is_closed = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def ending(self) -> str:
        return f"process {self.pid}"


Supervisor = _Spawned | _Forked


def _supervisors_of(spec: RunSpec) -> Iterator[Supervisor]:
    """Start a supervisor, and the next one if it is gone before the run has begun.

    The last one needs no server.
    """
    why = ""
    can_be_warm = engine_named(spec.engine).needs_server and spec.mode == "notebook" and warm.is_possible()
    if can_be_warm and spec.is_watched:
        # In a fork it would stop at no breakpoint, and close descriptors of the flow.
        why = "a debugger is attached"
    elif can_be_warm:
        coverage = ("coverage",) if MEASURE in os.environ else ()
        wanted = warm.Wanted.of(
            Path(spec.source),
            Path(spec.project_root),
            preload=(*coverage, *spec.settings.preload),
            timeout=spec.timeout,
            environment=spec.variables(os.environ),
        )
        for _ in range(2):
            connection = warm.connect(wanted, spec.session_id)
            if isinstance(connection, str):
                why = connection
                break
            forked = _Forked(spec, connection)
            yield forked
            why = forked.unable or "the warm server does not answer"
    yield _Spawned(spec, [f"ran in a fresh interpreter: {why}"] if why else [])


# --- its answers -------------------------------------------------------------------------------------------


class Answers:
    """The answers of a supervisor, then None.

    Args:
        at_end: called then, in the thread that reads them.
    """

    def __init__(self, supervisor: Supervisor, at_end: Callable[[], None]) -> None:
        self._queue: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._read, args=(supervisor, at_end), name="answers", daemon=True
        )
        self._thread.start()

    def _read(self, supervisor: Supervisor, at_end: Callable[[], None]) -> None:
        # A supervisor that is killed while it writes leaves half a line.
        with contextlib.suppress(UnreadableError):
            for line in supervisor.lines():
                self._queue.put(decode(line, Answer, where="the answer of a supervisor"))
        self._queue.put(None)
        at_end()

    def get(self, timeout: float | None = None) -> Answer | None:
        """Return the next one; raise queue.Empty after the time in seconds."""
        answer = self._queue.get(timeout=timeout)
        if answer is None:
            # for who asks again
            self._queue.put(None)
        return answer

    def await_end(self) -> None:
        """Wait until nobody has the other end of the connection, and nothing is left to do."""
        self._thread.join()


def _has_begun(answers: Answers, supervisor: Supervisor, stop: StopFlag | None) -> bool:
    """Wait until a run has begun. Otherwise its supervisor is gone, or it has to stop."""
    while supervisor.pid is None:
        try:
            answer = answers.get(timeout=POLL_SECONDS if stop else None)
        except queue.Empty:
            if _is_set(stop):
                return False
            continue
        if answer is None:
            return False
        if answer["event"] == "refused":
            _refuse(answer)
        if answer["event"] == "unable" and isinstance(supervisor, _Forked):
            supervisor.unable = answer["message"]
            return False
        supervisor.pid = answer["pid"]
    return True


def _is_set(stop: StopFlag | None) -> bool:
    return stop is not None and stop.is_set()


def _refuse(answer: Answer) -> NoReturn:
    kind = getattr(errors, answer["type"], RunFolderError)
    raise kind(answer["message"], hint=answer["hint"])


def _result_of(spec: RunSpec, supervisor: Supervisor, answers: Answers, stop: StopFlag | None) -> Result:
    while stop is not None:
        if stop.is_set():
            why = stop.reason if isinstance(stop, StopWithReason) else ""
            return _stop(spec, supervisor, answers, why=why)
        with contextlib.suppress(queue.Empty):
            return _from_answer(spec, answers.get(timeout=POLL_SECONDS), supervisor)
    return _from_answer(spec, answers.get(), supervisor)


def _from_answer(spec: RunSpec, answer: Answer | None, supervisor: Supervisor) -> Result:
    if answer is not None and answer["event"] == "refused":
        _refuse(answer)
    if answer is not None:
        return replace(answer["result"], folder=Path(spec.folder))
    # The supervisor is gone: the processes that it left are found by their environment.
    ending = supervisor.ending()
    host.sweep(CONTEXT, functools.partial(is_below, Path(spec.folder)))
    if recorded := _recorded(spec):
        # It had judged the run already, and others read that verdict.
        return recorded
    message = f"the process that looked after the run was ended ({ending})"
    lost = Result(spec.flow, spec.instance, spec.kind, Status.ERROR, "lost", message, spec.session_id)
    return replace(lost, run_id=spec.run_id, folder=Path(spec.folder))


def _recorded(spec: RunSpec) -> Result | None:
    """Return the result that a run has written; None if it has not."""
    found = readable_result(Path(spec.folder))
    return found if found is not None and found.run_id == spec.run_id else None


def _stop(spec: RunSpec, supervisor: Supervisor, answers: Answers, *, why: str = "") -> Result:
    # Before all else: if the run begins in this moment, it has to have the reason before the connection ends.
    supervisor.ask(f"stop {why}\n".encode("utf-8", "backslashreplace"))
    if isinstance(supervisor, _Forked) and supervisor.pid is None:
        # That it has begun may be on its way.
        with contextlib.suppress(queue.Empty):
            answer = answers.get(timeout=_ON_ITS_WAY)
            if answer is not None and answer["event"] == "started":
                supervisor.pid = answer["pid"]
    if isinstance(supervisor, _Forked) and supervisor.pid is None:
        # It still waits for the server, and is not wanted when that is ready.
        supervisor.close()
        if recorded := _recorded(spec):
            # On a busy machine a run may be faster than what is told of it.
            return recorded
        message = why or "the session ended before the run began"
        return Result(spec.flow, spec.instance, spec.kind, Status.NOT_RUN, None, message)
    while True:
        try:
            answer = answers.get(timeout=STOP_SECONDS)
        except queue.Empty:
            supervisor.kill()
            return _from_answer(spec, None, supervisor)
        if answer is None or answer["event"] == "result":
            return _from_answer(spec, answer, supervisor)
