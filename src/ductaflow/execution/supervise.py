"""The supervisor of one run: a small process between the session and the child that runs the flow.

It holds the run folder, starts the child, stops it on request, at the time limit or with the session, leaves
no process behind, judges, and writes the result: whatever the flow does to its own process, there is one.

    session --spec, "stop", end of file--> supervisor --spec--> child
    session <--"started", result---------- supervisor <--events (a file)-- child
"""

from __future__ import annotations

import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

from ductaflow.common import host
from ductaflow.common.errors import DuctaflowError
from ductaflow.execution.page_orders import PAGE_GRACE, PAGE_NICENESS, PageOrder, place_order
from ductaflow.execution.recorded_run import RecordedRun
from ductaflow.notebook.export import announce_page, make_page
from ductaflow.store.folder import AFTERWARDS_SECONDS, HEARTBEAT_SECONDS, Claim
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import ChildEnd, Stop

if TYPE_CHECKING:
    import psutil


#: How long a child may take to end after SIGINT, in seconds. A build has to stop its flows within it.
GRACE = {"flow": 1.0, "build": 2.5}
#: How long the supervisors of a build's flows may take to write their results when the build is gone.
NESTED_GRACE = 2.0
#: How long the HTML may take once the time limit of a flow is over, in seconds.
EXPORT_SECONDS = 60.0
#: The exit code of the child and its peak memory; or why the run has to stop.
Event = tuple[int, int | None] | Literal["interrupted", "owner"]


@dataclass(frozen=True, slots=True)
class ForkedChild:
    """A child that is a fork of its supervisor."""

    pid: int

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def send_signal(self, sig: int, /) -> None:
        os.kill(self.pid, sig)


#: The process that executes the flow.
Child = subprocess.Popen[bytes] | ForkedChild
Start = Callable[[RunSpec], Child]


class Supervisor:
    """One run, from the claim on its folder to its result.

    Args:
        requests: lines from the session; their end is the end of the session.
        notes: added to the message of the result, on how the run was started.
        hang_up: ends `requests`, in a process that goes on when the run has ended (Linux).
    """

    def __init__(
        self,
        spec: RunSpec,
        requests: Iterator[bytes],
        answers: BinaryIO,
        start: Start,
        notes: Sequence[str] = (),
        hang_up: Callable[[], None] | None = None,
    ) -> None:
        self.spec = spec
        self._requests = requests
        self._answers = answers
        self._start = start
        self._notes = notes
        self._is_page_left = False
        #: What ends what this run has begun in its process: threads, handlers of signals.
        self._ends = ExitStack()
        self._hang_up = hang_up
        # Signal handlers may put into a SimpleQueue.
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def run(self) -> None:
        """Run and answer with the result. If it cannot start, `RecordedRun` raises."""
        with self._ends, RecordedRun(self.spec) as run:
            self._run = run
            self.spec = run.spec
            answer(self._answers, event="started", pid=os.getpid())
            end = self._execute(run.claim)
            told = run.told()
            told.notes += self._notes
            result = run.conclude(told, end, stopped=self._is_over(run.claim))
            is_page_left = self._is_page_left and end.stop in (None, "timeout")
            if is_page_left and self.spec.run_folder.notebook.exists():
                until = announce_page(self.spec.run_folder, within=AFTERWARDS_SECONDS)
                answer(self._answers, event="result", result=result.to_dict())
                order = functools.partial(self._order_page, until)
                if not (self.spec.page_maker and run.claim.hand_over(order)):
                    self._make_page()
            else:
                answer(self._answers, event="result", result=result.to_dict())

    def _order_page(self, until: float, held: int, lock: str) -> bool:
        """Give the page, the folder and the connection to the session to the page maker."""
        order = PageOrder(self.spec.folder, self.spec.flow, lock, until)
        return place_order(order, self.spec.page_maker, [held, self._answers.fileno()])

    def _make_page(self) -> None:
        """Make the page while the folder is still held, so that its next run waits for it."""
        # Runs that somebody waits for go first.
        os.nice(PAGE_NICENESS)
        # nbconvert looks into the working directory, which here is the server's, and may be gone.
        os.chdir("/")
        threading.Thread(target=self._leave_in_time, name="leave", daemon=True).start()
        make_page(self.spec.run_folder)

    def _leave_in_time(self) -> None:
        """End this process when the page takes too long, or soon after its session."""
        limit = time.monotonic() + AFTERWARDS_SECONDS
        while time.monotonic() < limit:
            if self._next([limit]) is not None:
                limit = min(limit, time.monotonic() + PAGE_GRACE)
        os._exit(1)

    def _is_over(self, claim: Claim) -> Callable[[], bool]:
        """Return a check that ends the reading of large files with the session and keeps the claim alive."""
        last = time.monotonic()

        def is_over() -> bool:
            nonlocal last
            if time.monotonic() - last > HEARTBEAT_SECONDS:
                last = time.monotonic()
                claim.heartbeat()
            return not self._inbox.empty()

        return is_over

    # --- the child ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Turn the session's requests, its end and signals into events."""

        def read() -> None:
            for line in self._requests:
                word, _, why = line.decode().strip().partition(" ")
                if word == "stop":
                    self._notes = [*self._notes, *filter(None, [why])]
                    self._inbox.put("interrupted")
            self._inbox.put("owner")

        self._start_thread("requests", read, self._hang_up)
        if self.spec.owner_pid:
            end = host.when_gone(self.spec.owner_pid, lambda: self._inbox.put("owner"))
            if self._hang_up:
                self._ends.callback(end)
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, lambda *_: self._inbox.put("interrupted"))
            self._ends.callback(signal.signal, number, before or signal.SIG_DFL)

    def _start_thread(self, name: str, work: Callable[[], None], end: Callable[[], None] | None) -> None:
        """Start a thread, which is waited for after its `end` in a process that goes on."""
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        if self._hang_up:
            self._ends.callback(thread.join)
        if end:
            self._ends.callback(end)

    def _execute(self, claim: Claim) -> ChildEnd:
        # Before any thread starts: the child may be a fork of this process.
        child = self._start(self.spec)
        # A new interpreter makes the page itself where nobody else does.
        makes_itself = not (self.spec.page_maker or isinstance(child, ForkedChild))
        is_notebook = self.spec.mode == "notebook"
        self._is_page_left = is_notebook and self.spec.settings.html and not makes_itself
        self._start_thread("wait", lambda: self._inbox.put(wait_for(child)), None)
        try:
            self._listen()
            end = self._attend(child, claim)
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            end_descendants()
        return end

    def _attend(self, child: Child, claim: Claim) -> ChildEnd:
        """Wait for the end of the child; if it has to stop, ask it to, and kill it after a grace period."""
        limit = time.monotonic() + self.spec.timeout if self.spec.timeout else None
        grace_ends: float | None = None
        stop: Stop | None = None
        cut_off = exporting = False
        sampled = 0
        while True:
            event = self._next([grace_ends, None if stop else limit])
            now = time.monotonic()
            if isinstance(event, tuple):
                code, peak = event
                return _child_end(code, stop, cut_off, max(peak or 0, sampled) or None)
            reason: Stop | None = event or ("timeout" if limit and now >= limit else None)
            if reason and not stop and not cut_off:
                if not self._run.told().executed:
                    stop = reason
                elif reason == "timeout" and not exporting:
                    # The limit is for the flow; the HTML that is left has its own.
                    exporting, limit = True, now + EXPORT_SECONDS
                    continue
                else:
                    cut_off = True
                grace_ends = now + GRACE[self.spec.kind]
                _interrupt(child)
            elif grace_ends and now >= grace_ends:
                grace_ends = None
                child.kill()
            if event is None:
                claim.heartbeat()
                sampled = max(sampled, host.memory_of_tree())

    def _next(self, moments: Sequence[float | None]) -> Event | None:
        """Return the next event; None at one of the moments, or when a heartbeat is due."""
        beat = time.monotonic() + HEARTBEAT_SECONDS
        until = min([beat, *(moment for moment in moments if moment is not None)])
        try:
            return self._inbox.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None


def answer(answers: BinaryIO, **message: object) -> None:
    """Answer the session. If it is gone, the result is still in the run folder."""
    with suppress(OSError):
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()


def spawn(spec: RunSpec, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the child as a new interpreter, by default with the variables of this process."""
    with spec.log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.execution.child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=spec.folder,
            env=spec.environment(environment),
            # Its own process group: a flow that signals its group reaches only itself.
            process_group=0 if sys.platform != "win32" else None,
        )
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write(spec.dump().encode())
        child.stdin.close()
    return child


def wait_for(child: Child) -> tuple[int, int | None]:
    """Wait for a child; return its exit code (negative for a signal) and its peak memory in bytes."""
    if sys.platform == "win32":
        assert isinstance(child, subprocess.Popen)
        return child.wait(), None
    _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if isinstance(child, subprocess.Popen):
        # Popen cannot find it out any more.
        child.returncode = code
    return code, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _child_end(code: int, stop: Stop | None, cut_off: bool, peak: int | None) -> ChildEnd:
    if code >= 0 or sys.platform == "win32":
        return ChildEnd(code, None, stop, cut_off, peak)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return ChildEnd(None, name, stop, cut_off, peak)


def _interrupt(child: Child) -> None:
    """Interrupt the child as Ctrl-C would, so that the notebook shows where it was."""
    if sys.platform == "win32":
        child.kill()
    else:
        child.send_signal(signal.SIGINT)


def end_descendants() -> None:
    """End all processes that the run left; supervisors of a build's flows may write their results first."""
    deadline = time.monotonic() + NESTED_GRACE
    while host.has_children():
        left = host.descendants()
        if not left:
            host.reap()
            if not host.has_children():
                return
            continue
        spared = _supervised(left) if time.monotonic() < deadline else set()
        host.kill(process for process in left if process.pid not in spared)
        host.reap()
        if spared:
            time.sleep(0.02)


def _supervised(left: Sequence[psutil.Process]) -> set[int]:
    """Return the pids of supervisors among some processes, and of their children."""
    import psutil

    spared: set[int] = set()
    for process in left:
        with suppress(psutil.Error):
            if "ductaflow.execution.supervise" in process.cmdline():
                spared.add(process.pid)
                spared.update(child.pid for child in process.children(recursive=True))
    return spared


def lines_of(descriptor: int) -> Iterator[bytes]:
    """Yield lines from a pipe until its end."""
    # Not through a buffered file: the interpreter cannot end while a thread waits in one.
    rest = b""
    while chunk := os.read(descriptor, 1 << 16):
        *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
        yield from lines


def supervise(
    spec: RunSpec,
    requests: Iterator[bytes],
    answers: BinaryIO,
    start: Start = spawn,
    notes: Sequence[str] = (),
    hang_up: Callable[[], None] | None = None,
) -> bool:
    """Run a spec. If it cannot start, the answer says why. Returns whether it ran."""
    host.adopt_orphans()
    try:
        Supervisor(spec, requests, answers, start, notes, hang_up).run()
    except (DuctaflowError, OSError) as exc:
        hint = exc.hint if isinstance(exc, DuctaflowError) else ""
        message = exc.message if isinstance(exc, DuctaflowError) else f"{spec.folder}: {exc}"
        answer(answers, event="refused", type=type(exc).__name__, message=message, hint=hint)
        return False
    return True


def main() -> int:
    """Read a spec from standard input, run it, answer on standard output; the arguments are notes."""
    requests, notes = lines_of(sys.stdin.fileno()), sys.argv[1:]
    spec = RunSpec.load(next(requests))
    return 0 if supervise(spec, requests, sys.stdout.buffer, notes=notes) else 1


if __name__ == "__main__":
    sys.exit(main())
