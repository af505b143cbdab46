"""Starts the supervisor of a run and waits for its result, in the process that asks for the run.

Nothing heavy is imported here and nothing of this process is passed on but its environment: not its working
directory, not its `__main__`, not its open files. Runs may overlap in threads.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ductaflow.common import errors, host
from ductaflow.common.errors import RunFolderError
from ductaflow.common.paths import CONTEXT
from ductaflow.execution import warm
from ductaflow.execution.echo import POLL_SECONDS, LogTail, Show
from ductaflow.store.result import Result, Status
from ductaflow.store.spec import RunSpec, is_below

#: How long a supervisor may take to end its run when it is asked to, in seconds, before it is ended itself.
STOP_SECONDS = 4.0


class StopFlag(Protocol):
    """Says whether a run is to stop: a `threading.Event`, or something that looks elsewhere."""

    def is_set(self) -> bool: ...


def launch(
    spec: RunSpec,
    *,
    show: Show | None = None,
    stop: StopFlag | None = None,
    await_page: bool = True,
) -> Result:
    """Run a spec in a process of its own and wait for the result.

    Args:
        show: called with what the run prints, while it runs.
        stop: a flag that stops the run when it is set.
        await_page: wait for the HTML of the notebook too. Otherwise the next run goes on beside it; at most
            as many pages as there are processors are behind, and `await_pages` waits for them.

    Raises:
        DuctaflowError: the run could not start (a RunFolderError: somebody else holds the folder).
        KeyboardInterrupt: it was raised while waiting; the run has been stopped, and the exception has its
            result as the attribute `result`.
    """
    await_pages(at_most=os.cpu_count() or 1)
    supervisor = _supervisor_of(spec)
    answers = Answers(supervisor)
    try:
        if isinstance(supervisor, _Forked) and not _started(answers, supervisor):
            # The server died before it had heard of the run: nothing has begun.
            supervisor.close()
            supervisor = _supervisor_of(spec)
            answers = Answers(supervisor)
        has_begun = _started(answers, supervisor)
        with LogTail(spec.log, show) if show and has_begun else contextlib.nullcontext():
            result = _result_of(spec, supervisor, answers, stop)
    except KeyboardInterrupt as exc:
        exc.result = _stop(spec, supervisor, answers)  # type: ignore[attr-defined]
        supervisor.close()
        raise
    except BaseException:
        supervisor.close()
        raise
    if await_page:
        answers.await_end()
        supervisor.close()
    else:
        _pages.put((supervisor, answers))
    return result


_pages: queue.SimpleQueue[tuple[SupervisorHandle, Answers]] = queue.SimpleQueue()


def await_pages(*, at_most: int = 0) -> None:
    """Wait until the HTML of runs that have ended is made, and see their supervisors end.

    Args:
        at_most: of so many the HTML may still be in the making.
    """
    while _pages.qsize() > at_most:
        try:
            supervisor, answers = _pages.get_nowait()
        except queue.Empty:
            # another thread waits for it
            return
        try:
            answers.await_end()
        finally:
            supervisor.close()


# --- the supervisor, seen from here ------------------------------------------------------------------------


class SupervisorHandle(Protocol):
    """The process that looks after a run, however it was started.

    Attributes:
        pid: of the supervisor, once it has said that the run has begun.
    """

    pid: int | None

    def ask(self, line: bytes) -> None:
        """Send a line; that it has gone already shows by its answers."""

    def lines(self) -> Iterator[bytes]:
        """What it answers, until its end."""

    def kill(self) -> None: ...

    def close(self) -> None:
        """Tell it that the session wants no more of it, and see it end."""

    def ending(self) -> str:
        """How it ended, where it did so without a word."""


class _Spawned:
    """A supervisor that is a fresh interpreter."""

    def __init__(self, spec: RunSpec) -> None:
        self.pid: int | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.execution.supervise"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=spec.environment(),
            # Out of reach of the terminal's Ctrl-C: it is told by the session, and has work to do then.
            start_new_session=True,
        )
        self.ask(spec.dump().encode() + b"\n")

    def ask(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def lines(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        with self._process.stdout:
            yield from self._process.stdout

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ending(self) -> str:
        return f"exit code {self._process.wait()}"


class _Forked:
    """A supervisor that the warm server has forked; the connection to it is all that is known of it."""

    def __init__(self, spec: RunSpec, connection: socket.socket) -> None:
        self._connection = connection
        self.pid: int | None = None
        request = {"spec": json.loads(spec.dump()), "environment": dict(os.environ)}
        self.ask(json.dumps(request).encode() + b"\n")

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
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def ending(self) -> str:
        return f"process {self.pid}"


def _supervisor_of(spec: RunSpec) -> SupervisorHandle:
    if spec.engine != "fresh" and spec.mode == "notebook" and warm.is_possible():
        connection = warm.connect(Path(spec.source), Path(spec.project_root))
        if connection is not None:
            return _Forked(spec, connection)
    return _Spawned(spec)


# --- its answers -------------------------------------------------------------------------------------------


class Answers:
    """What a supervisor answers, each as a dictionary, and None at its end."""

    def __init__(self, supervisor: SupervisorHandle) -> None:
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, args=(supervisor,), name="answers", daemon=True)
        self._thread.start()

    def _read(self, supervisor: SupervisorHandle) -> None:
        for line in supervisor.lines():
            self._queue.put(json.loads(line))
        self._queue.put(None)

    def get(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next one; raises queue.Empty when the time in seconds is over."""
        return self._queue.get(timeout=timeout)

    def put_back_end(self) -> None:
        self._queue.put(None)

    def await_end(self) -> None:
        """Wait until the supervisor has nothing more to say: it is gone."""
        self._thread.join()


def _started(answers: Answers, supervisor: SupervisorHandle) -> bool:
    """Whether the run has begun; otherwise the supervisor is gone without a word."""
    if supervisor.pid is not None:
        return True
    answer = answers.get()
    if answer is None:
        answers.put_back_end()
        return False
    if answer["event"] == "refused":
        _refuse(answer)
    supervisor.pid = answer["pid"]
    return True


def _refuse(answer: dict[str, Any]) -> NoReturn:
    kind = getattr(errors, answer["type"], RunFolderError)
    raise kind(answer["message"], hint=answer["hint"])


def _result_of(
    spec: RunSpec, supervisor: SupervisorHandle, answers: Answers, stop: StopFlag | None
) -> Result:
    while stop is not None:
        if stop.is_set():
            return _stop(spec, supervisor, answers)
        with contextlib.suppress(queue.Empty):
            return _from_answer(spec, answers.get(timeout=POLL_SECONDS), supervisor)
    return _from_answer(spec, answers.get(), supervisor)


def _from_answer(spec: RunSpec, answer: dict[str, Any] | None, supervisor: SupervisorHandle) -> Result:
    if answer is not None and answer["event"] == "refused":
        _refuse(answer)
    if answer is not None:
        return Result.from_dict(answer["result"], folder=Path(spec.folder))
    # The supervisor is gone without a word: what it left is found by the environment.
    ending = supervisor.ending()
    host.sweep(CONTEXT, functools.partial(is_below, Path(spec.folder)))
    return Result(
        flow=spec.flow,
        instance=spec.instance,
        kind=spec.kind,
        status=Status.ERROR,
        cause="lost",
        message=f"the process that looked after the run was ended ({ending})",
        session_id=spec.session_id,
        run_id=spec.run_id,
        folder=Path(spec.folder),
    )


def _stop(spec: RunSpec, supervisor: SupervisorHandle, answers: Answers) -> Result:
    supervisor.ask(b"stop\n")
    while True:
        try:
            answer = answers.get(timeout=STOP_SECONDS)
        except queue.Empty:
            supervisor.kill()
            return _from_answer(spec, None, supervisor)
        if answer is None or answer["event"] == "result":
            return _from_answer(spec, answer, supervisor)
