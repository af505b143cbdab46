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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol, TextIO

from ductaflow import errors, processes, warm
from ductaflow.actions import begun_at_end, without_commands
from ductaflow.errors import RunFolderError
from ductaflow.result import Result, Status
from ductaflow.spec import CONTEXT, RunSpec, is_below, is_frame_line

#: How long a supervisor may take to end its run when it is asked to, in seconds, before it is ended itself.
STOP_SECONDS = 4.0
#: How often a log is looked at for the console, and a stop event for its flag, in seconds.
POLL_SECONDS = 0.05
_CHUNK = 1 << 16

Show = Callable[[str], None]


class StopFlag(Protocol):
    """Says whether a run is to stop: a `threading.Event`, or something that looks elsewhere."""

    def is_set(self) -> bool: ...


class LogTail:
    """Shows what is added to a log, while it is added, in a thread of its own."""

    def __init__(self, log: Path, show: Show) -> None:
        self._log = log
        self._show = show
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-tail", daemon=True)

    def __enter__(self) -> LogTail:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        file: BinaryIO | None = None
        kept = ""
        with contextlib.ExitStack() as stack:
            while True:
                last = self._stop.is_set()
                if file is None and self._log.exists():
                    file = stack.enter_context(self._log.open("rb"))
                while file is not None and (chunk := file.read(_CHUNK)):
                    text = kept + chunk.decode("utf-8", "replace")
                    end = len(text) - begun_at_end(text)
                    kept = text[end:]
                    self._show(text[:end])
                if last:
                    if kept:
                        self._show(kept)
                    return
                self._stop.wait(POLL_SECONDS)


def show_on_console(text: str, stream: TextIO | None = None) -> None:
    """Write to standard output, or to another stream, whatever characters it can show.

    In a run that is its log, which has everything as it is; elsewhere a runner of CI may read it.
    """
    stream = stream or sys.stdout
    if CONTEXT not in os.environ:
        text = without_commands(text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        # Whoever read the console (`| head`) has seen enough; the log has it all, and the run goes on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class IndentedLines:
    """Shows a flow's log inside the log of its build: indented, without header and closing line."""

    def __init__(self, spec: RunSpec, show: Show = show_on_console) -> None:
        self._spec = spec
        self._show = show
        self._rest = ""

    def __call__(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        shown = [self._indent(line) for line in lines]
        if len(self._rest) > _CHUNK:
            # A line without end is passed on in pieces rather than kept.
            shown.append(self._rest)
            self._rest = ""
        if text := "".join(shown):
            self._show(text)

    def _indent(self, line: str) -> str:
        if is_frame_line(line, self._spec.flow, self._spec.instance):
            return ""
        return f"  {line}\n"

    def close(self) -> None:
        if self._rest:
            self._show(self._indent(self._rest))


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


_pages: queue.SimpleQueue[tuple[Supervisor, Answers]] = queue.SimpleQueue()


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


class Supervisor(Protocol):
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
            [sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.supervise"],
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


def _supervisor_of(spec: RunSpec) -> Supervisor:
    if spec.engine != "fresh" and spec.mode == "notebook" and warm.is_possible():
        connection = warm.connect(Path(spec.source), Path(spec.project_root))
        if connection is not None:
            return _Forked(spec, connection)
    return _Spawned(spec)


# --- its answers -------------------------------------------------------------------------------------------


class Answers:
    """What a supervisor answers, each as a dictionary, and None at its end."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, args=(supervisor,), name="answers", daemon=True)
        self._thread.start()

    def _read(self, supervisor: Supervisor) -> None:
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


def _started(answers: Answers, supervisor: Supervisor) -> bool:
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


def _result_of(spec: RunSpec, supervisor: Supervisor, answers: Answers, stop: StopFlag | None) -> Result:
    while stop is not None:
        if stop.is_set():
            return _stop(spec, supervisor, answers)
        with contextlib.suppress(queue.Empty):
            return _from_answer(spec, answers.get(timeout=POLL_SECONDS), supervisor)
    return _from_answer(spec, answers.get(), supervisor)


def _from_answer(spec: RunSpec, answer: dict[str, Any] | None, supervisor: Supervisor) -> Result:
    if answer is not None and answer["event"] == "refused":
        _refuse(answer)
    if answer is not None:
        return Result.from_dict(answer["result"], folder=Path(spec.folder))
    # The supervisor is gone without a word: what it left is found by the environment.
    ending = supervisor.ending()
    processes.sweep(CONTEXT, functools.partial(is_below, Path(spec.folder)))
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


def _stop(spec: RunSpec, supervisor: Supervisor, answers: Answers) -> Result:
    supervisor.ask(b"stop\n")
    while True:
        try:
            answer = answers.get(timeout=STOP_SECONDS)
        except queue.Empty:
            supervisor.kill()
            return _from_answer(spec, None, supervisor)
        if answer is None or answer["event"] == "result":
            return _from_answer(spec, answer, supervisor)
