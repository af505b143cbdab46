"""The supervisor of one run: a small process between the session and the child that runs the flow.

It holds the run folder, starts the child, ends it on request, in time, or with its session, leaves no process
behind, judges, and writes the result: whatever the flow does to its own process, somebody is left to say so.

    session --spec, "stop", end of file--> supervisor --spec--> child
    session <--"started", result---------- supervisor <--events (a file)-- child
"""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from ductaflow.common import host
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import write_atomic
from ductaflow.notebook.export import announce_page
from ductaflow.project.secrets import masked
from ductaflow.project.values import config_hash, dump_config
from ductaflow.store.folder import (
    AFTERWARDS_SECONDS,
    HEARTBEAT_SECONDS,
    Claim,
    Owner,
    clear_odd,
    refuse_folder,
)
from ductaflow.store.hashes import StoppedError, faults_of_hashes
from ductaflow.store.logs import closing_line, header_line, scan_log
from ductaflow.store.record import Beginning, Record, Site, begin, make_record, notes_of_folders, undeclared
from ductaflow.store.result import Result, Status, read_result, write_result
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import Ending, Stop, Told, judge, stopped_early

#: How long a child may take to end after SIGINT, in seconds. A build has to stop its flows within it.
GRACE = {"flow": 1.0, "build": 2.5}


#: How long the supervisors of a build's flows may take to write their results when the build is gone.
NESTED_GRACE = 2.0


#: How long the page may still take when the session is gone, in seconds.
PAGE_GRACE = 3.0


_CHUNK = 1 << 20


#: By how much the page stands back where processors are short: it still gets a third of what a run gets.
_PAGE_NICENESS = 5


#: How long the HTML may take once the time limit of a flow is over, in seconds.
EXPORT_SECONDS = 60.0


Event = tuple[Literal["exit", "stop", "owner"], Any]


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """Exit code or signal of the child, why it was stopped if it was, and its peak memory in bytes."""

    exit_code: int | None
    signal: str | None
    stop: Stop | None = None
    cut_off: bool = False
    peak_memory: int | None = None


class Child(Protocol):
    """The process that executes the flow, however it was started."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...

    def send_signal(self, sig: int, /) -> None: ...


Start = Callable[[RunSpec], Child]


class Supervisor:
    """One run, from the claim on its folder to its result.

    Args:
        spec: what to run.
        requests: lines from the session; their end is the end of the session.
        answers: where the session reads.
        start: starts the child.
        notes: what the result shall say of how the run was started.
        afterwards: what is done when the run has been answered for and nobody waits: it makes the page.
    """

    def __init__(
        self,
        spec: RunSpec,
        requests: Iterator[bytes],
        answers: BinaryIO,
        start: Start,
        notes: Sequence[str] = (),
        afterwards: Callable[[RunSpec], None] | None = None,
    ) -> None:
        self.spec = spec
        self._requests = requests
        self._answers = answers
        self._start = start
        self._notes = notes
        self._afterwards = afterwards
        # A SimpleQueue may be filled from a signal handler.
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def run(self) -> None:
        """Run and answer with the result.

        Raises:
            DuctaflowError: the run could not start; the folder is as it was.
        """
        started = datetime.now(UTC)
        clock = time.monotonic()
        claim = self._claim(started)
        finished = False
        try:
            write_beginning(self.spec)
            begun = begin(self.spec)
            Path(self.spec.events).write_bytes(b"")
            with self.spec.log.open("rb") as log:
                self._answer(event="started", pid=os.getpid())
                end = self._execute(claim)
                restore(self.spec, log)
            told = what_was_told(self.spec)
            told.notes += self._notes
            self._watch_while_hashing(claim)
            result = conclude(self.spec, claim, told, end, started, clock, begun)
            unwritten = keep(self.spec, result)
            finished = unwritten is None
            if finished:
                claim.finish()
            with_page = self._afterwards is not None and end.stop in (None, "timeout")
            if with_page and self.spec.run_folder.notebook.exists():
                announce_page(self.spec.run_folder)
            self._answer(event="result", result=(unwritten or result).to_dict())
            if with_page:
                self._make_page()
        finally:
            claim.release(finished=finished)

    def _make_page(self) -> None:
        """While the folder is still held: its next run waits, and finds a page of nobody but itself."""
        assert self._afterwards is not None
        # What somebody waits for goes first: runs that end together would hold up those that follow.
        os.nice(_PAGE_NICENESS)
        threading.Thread(target=self._leave_in_time, name="leave", daemon=True).start()
        self._afterwards(self.spec)

    def _leave_in_time(self) -> None:
        """End this process when the page takes too long, or soon after its session."""
        limit = time.monotonic() + AFTERWARDS_SECONDS
        while time.monotonic() < limit:
            kind, _ = self._next([limit])
            if kind is not None:
                limit = min(limit, time.monotonic() + PAGE_GRACE)
        os._exit(1)

    def _claim(self, started: datetime) -> Claim:
        spec = self.spec
        claim = claim_folder(spec, started)
        self.spec = replace(spec, events=str(claim.events_file))
        return claim

    def _watch_while_hashing(self, claim: Claim) -> None:
        """Have the reading of large files end with the session, and the claim stay alive meanwhile."""
        last = time.monotonic()

        def is_over() -> bool:
            nonlocal last
            if time.monotonic() - last > HEARTBEAT_SECONDS:
                last = time.monotonic()
                claim.heartbeat()
            return not self._inbox.empty()

        Site.of(self.spec).hashes.stopped = is_over

    # --- the child ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Turn the session's requests, its end and signals into events."""

        def read() -> None:
            for line in self._requests:
                if line.strip() == b"stop":
                    self._inbox.put(("stop", None))
            self._inbox.put(("owner", None))

        threading.Thread(target=read, name="requests", daemon=True).start()
        if self.spec.owner_pid:
            host.when_gone(self.spec.owner_pid, lambda: self._inbox.put(("owner", None)))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._inbox.put(("stop", None)))

    def _execute(self, claim: Claim) -> ChildEnd:
        # Before there are threads: the child may be a fork of this process.
        child = self._start(self.spec)
        threading.Thread(target=self._wait, args=(child,), name="wait", daemon=True).start()
        try:
            self._listen()
            end = self._attend(child, claim)
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            end_descendants()
        return end

    def _wait(self, child: Child) -> None:
        code, peak = wait_for(child)
        self._inbox.put(("exit", (code, peak)))

    def _attend(self, child: Child, claim: Claim) -> ChildEnd:
        """Wait for the child's end; ask it to stop, and after a grace make it."""
        limit = time.monotonic() + self.spec.timeout if self.spec.timeout else None
        grace_ends: float | None = None
        stop: Stop | None = None
        cut_off = exporting = False
        sampled = 0
        while True:
            kind, value = self._next([grace_ends, None if stop else limit])
            now = time.monotonic()
            if kind == "exit":
                code, peak = value
                return _child_end(code, stop, cut_off, max(peak or 0, sampled) or None)
            reason = _STOPS.get(kind) or ("timeout" if limit and now >= limit else None)
            if reason and not stop and not cut_off:
                if not self._is_executed():
                    stop = reason
                elif reason == "timeout" and not exporting:
                    # The limit is the flow's; what is left is the HTML, which has a time of its own.
                    exporting, limit = True, now + EXPORT_SECONDS
                    continue
                else:
                    cut_off = True
                grace_ends = now + GRACE[self.spec.kind]
                _interrupt(child)
            elif grace_ends and now >= grace_ends:
                grace_ends = None
                child.kill()
            if kind is None:
                claim.heartbeat()
                sampled = max(sampled, host.memory_of_tree())

    def _next(self, moments: Sequence[float | None]) -> tuple[str | None, Any]:
        """The next event; None when one of the moments has come, or the time for a heartbeat."""
        beat = time.monotonic() + HEARTBEAT_SECONDS
        until = min([beat, *(moment for moment in moments if moment is not None)])
        try:
            return self._inbox.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None, None

    def _is_executed(self) -> bool:
        return what_was_told(self.spec).executed

    # --- the end -----------------------------------------------------------------------------------------

    def _answer(self, **message: Any) -> None:
        # A session that is gone needs no answer; the result is in the run folder.
        with suppress(OSError):
            self._answers.write(json.dumps(message).encode() + b"\n")
            self._answers.flush()


def spawn(spec: RunSpec, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start the child as a fresh interpreter.

    Args:
        environment: the variables of the session, by default those of this process.
    """
    with spec.log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.execution.child", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=spec.folder,
            env=spec.environment(environment),
            # A process group of its own: a flow that signals its group reaches itself only.
            process_group=0 if sys.platform != "win32" else None,
        )
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write(spec.dump().encode())
        child.stdin.close()
    return child


def wait_for(child: Child) -> tuple[int, int | None]:
    """Exit code of a child (negative for a signal) when it has ended, and its peak memory in bytes."""
    if sys.platform == "win32":
        assert isinstance(child, subprocess.Popen)
        return child.wait(), None
    _, status, usage = os.wait4(child.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if isinstance(child, subprocess.Popen):
        # its own way to hear of the end is taken
        child.returncode = code
    return code, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def claim_folder(spec: RunSpec, started: datetime) -> Claim:
    """Hold the run folder in the name of this process."""
    owner = Owner(
        spec.flow,
        spec.instance,
        spec.run_id,
        spec.session_id,
        socket.gethostname(),
        os.getpid(),
        _iso(started),
    )
    refuse_folder(Path(spec.folder), Path(spec.source), Path(spec.project_root))
    return Claim.take(spec.run_folder, Path(spec.runs_root), owner, keep_previous=spec.keep_previous)


def write_beginning(spec: RunSpec) -> None:
    """Write what a run folder has from the start: the config, and the log with its header."""
    write_atomic(spec.run_folder.config, dump_config(spec.saved_config))
    spec.log.write_bytes(_header(spec))


def _header(spec: RunSpec) -> bytes:
    return (header_line(spec) + "\n").encode("utf-8", "backslashreplace")


def restore(spec: RunSpec, log: BinaryIO) -> None:
    """Put back what a flow removed or replaced of ours: the log, which is still open here, and the config."""
    spec.run_folder.path.mkdir(parents=True, exist_ok=True)
    clear_odd(spec.run_folder)
    try:
        is_there = os.path.samestat(os.stat(spec.log), os.fstat(log.fileno()))
    except FileNotFoundError:
        is_there = False
    if not is_there:
        write_atomic(
            spec.log, (chunk.decode("utf-8", "replace") for chunk in iter(lambda: log.read(_CHUNK), b""))
        )
    if not spec.run_folder.config.exists():
        write_atomic(spec.run_folder.config, dump_config(spec.saved_config))


def what_was_told(spec: RunSpec) -> Told:
    """What the child told; of what cannot be understood any more, that it is so."""
    try:
        return Told.of(read_events(Path(spec.events)))
    except (OSError, ValueError, LookupError, TypeError) as exc:
        told = Told()
        told.notes.append(f"what the run told of itself was removed or overwritten ({type(exc).__name__})")
        return told


def _lines_of_ours(spec: RunSpec, told: Told, children: Sequence[Result]) -> Iterator[str]:
    """Warning lines that we add to a log: they are in pytest and on the page like those of the flow."""
    with spec.log.open("rb") as log:
        header = _header(spec)
        if log.read(len(header)) != header:
            yield "⚠ the log was cut off by something that opened it anew, such as `> /dev/stdout`"
    if (early := stopped_early(told)) and not spec.allow_exit:
        yield f"⚠ {early}"
    yield from undeclared(spec, told.reads, children)


def conclude(
    spec: RunSpec,
    claim: Claim,
    told: Told,
    end: ChildEnd,
    started: datetime,
    clock: float,
    begun: Beginning,
) -> Result:
    """The result of a run that has ended.

    Args:
        started, clock: when it began, by the calendar and by the monotonic clock.
        begun: what lay there then.
    """
    if claim.edited:
        told.notes.append(f"files were changed by hand since the last run: {', '.join(claim.edited)}")
    if told.executed and not told.finished:
        told.notes.append("the HTML of the notebook was not finished")
    children = [result_of_flow(spec.run_folder.path / child) for child in told.children]
    for line in list(_lines_of_ours(spec, told, children)):
        append_line(spec.log, line)
    log = scan_log(spec.log)
    verdict = judge(
        Ending(
            told=told,
            exit_code=end.exit_code,
            signal=end.signal,
            stop=end.stop,
            cut_off=end.cut_off,
            timeout=spec.timeout,
            allow_exit=spec.allow_exit,
            warning_count=log.warning_count,
            children=children,
        )
    )
    record = _record(spec, claim, told, begun, is_good=verdict.status.is_good)
    return Result(
        flow=spec.flow,
        instance=spec.instance,
        kind=spec.kind,
        status=verdict.status,
        cause=verdict.cause,
        message="; ".join(filter(None, [verdict.message, *told.notes])),
        session_id=spec.session_id,
        run_id=spec.run_id,
        started=_iso(started),
        finished=_iso(datetime.now(UTC)),
        seconds=round(time.monotonic() - clock, 3),
        warnings=log.warnings,
        warning_count=log.warning_count,
        failure=told.failure,
        exit_code=end.exit_code,
        signal=end.signal or told.signal,
        cells=told.cells,
        config_hash=config_hash(masked(spec.config)),
        inputs=record.inputs,
        outputs=record.outputs,
        lineage=record.lineage,
        children=tuple(told.children),
        peak_memory=end.peak_memory,
        environment=_environment(spec, told),
    )


def _record(spec: RunSpec, claim: Claim, told: Told, begun: Beginning, *, is_good: bool) -> Record:
    """What the run read and wrote. A red one always runs again, so of it only names and sizes are kept."""
    outputs = claim.outputs(told.children)
    if is_good:
        try:
            record = make_record(spec, begun, told.reads, outputs, told.children)
        except StoppedError:
            told.notes.append("what it read was not recorded, since its session ended: it will run again")
        else:
            told.notes += [*faults_of_hashes(), *notes_of_folders(record)]
            return record
    site = Site.of(spec)
    inputs = ({"path": site.relative(path), "size": stamp[0]} for path, stamp in sorted(begun.files.items()))
    return Record(tuple(inputs), tuple(outputs), {})


def keep(spec: RunSpec, result: Result) -> Result | None:
    """Write the closing line and the result; where that fails, give the result that says so."""
    error = result.message if result.status.is_error else None
    try:
        append_line(spec.log, closing_line(spec, seconds=result.seconds, error=error))
        write_result(result, spec.run_folder.path)
    except OSError as exc:
        message = f"{result.message}; " if result.message else ""
        return replace(
            result,
            status=Status.ERROR,
            cause=result.cause or "lost",
            message=f"{message}the result could not be written to {spec.folder}: {exc.strerror or exc}",
        )
    return None


_STOPS: dict[str | None, Stop] = {"stop": "interrupted", "owner": "owner"}


def _child_end(code: int, stop: Stop | None, cut_off: bool, peak: int | None) -> ChildEnd:
    if code >= 0 or sys.platform == "win32":
        return ChildEnd(code, None, stop, cut_off, peak)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return ChildEnd(None, name, stop, cut_off, peak)


def _interrupt(child: Child) -> None:
    """Ask the child to stop as Ctrl-C would, so that the notebook shows where it was."""
    if sys.platform == "win32":
        child.kill()
    else:
        child.send_signal(signal.SIGINT)


def end_descendants() -> None:
    """End all that the run left; supervisors of a build's flows first may write what became of them."""
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


def _supervised(left: Sequence[Any]) -> set[int]:
    """Pids of other supervisors among some processes, and of what those look after."""
    import psutil

    spared: set[int] = set()
    for process in left:
        with suppress(psutil.Error):
            if "ductaflow.execution.supervise" in process.cmdline():
                spared.add(process.pid)
                spared.update(child.pid for child in process.children(recursive=True))
    return spared


def read_events(path: Path) -> list[dict[str, Any]]:
    """What was told so far, in order."""
    events = []
    for line in path.read_bytes().splitlines(keepends=True):
        # Only a kill in the midst of a write leaves a line without end; that event did not happen.
        if line.endswith(b"\n"):
            events.append(json.loads(line))
    return events


def result_of_flow(folder: Path) -> Result:
    """The result of a build's flow; one that wrote none is lost."""
    try:
        result = read_result(folder)
    except DuctaflowError as exc:
        result, message = None, str(exc)
    else:
        message = "the run did not write a result"
    return result or Result(
        flow=folder.name,
        instance=folder.name,
        kind="flow",
        status=Status.ERROR,
        cause="lost",
        message=message,
        folder=folder,
    )


def _environment(spec: RunSpec, told: Told) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": told.packages,
        "git": spec.git,
        "host": socket.gethostname(),
    }


def append_line(path: Path, line: str) -> None:
    """Add a line of ours to a log, on a line of its own."""
    with path.open("rb+") as log:
        log.seek(0, os.SEEK_END)
        if log.tell() > 0:
            log.seek(-1, os.SEEK_END)
            if log.read(1) not in (b"\n", b"\r"):
                log.write(b"\n")
        log.write((line.replace("\n", " ").replace("\r", " ") + "\n").encode("utf-8", "backslashreplace"))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lines_of(descriptor: int) -> Iterator[bytes]:
    """Lines from a pipe until its end.

    Not through a buffered file: the interpreter cannot end while a thread waits in one.
    """
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
    afterwards: Callable[[RunSpec], None] | None = None,
) -> bool:
    """Run a spec; what keeps it from starting is the answer then. Returns whether it ran."""
    host.adopt_orphans()
    try:
        Supervisor(spec, requests, answers, start, notes, afterwards).run()
    except (DuctaflowError, OSError) as exc:
        hint = exc.hint if isinstance(exc, DuctaflowError) else ""
        message = exc.message if isinstance(exc, DuctaflowError) else f"{spec.folder}: {exc}"
        answer = {"event": "refused", "type": type(exc).__name__, "message": message, "hint": hint}
        with suppress(OSError):
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
        return False
    return True


def main() -> int:
    """Read a spec from standard input, run it, answer on standard output."""
    requests = lines_of(sys.stdin.fileno())
    return 0 if supervise(RunSpec.load(next(requests)), requests, sys.stdout.buffer) else 1


if __name__ == "__main__":
    sys.exit(main())
