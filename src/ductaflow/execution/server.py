"""The warm server: one process for a session, which has what every run needs.

It forks a branch for each set of imports.

    session --connects, says what to have ready--> server --the connection--> branch --forks--> supervisor
    session <------------------ the same connection ------------------------------------------- supervisor

The server knows nothing about runs and executes nothing of flows: it only accepts, forks and watches. So no
import of a flow can hang or end it. It limits how long a branch may take, kills one that does not go on, and
remembers for the session which packages cannot be kept warm. A run whose server or branch is gone goes on
under its supervisor. It ends when the pipe from its session does, and its branches end with it.

What takes long to import is imported by functions: the session may end meanwhile, and somebody has to look.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import platform
import select
import selectors
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ductaflow.common import host
from ductaflow.common.decode import UnreadableError, prepare
from ductaflow.common.machine import this_machine
from ductaflow.execution.warm import MESSAGE, RunRequest, Wanted, inherited, refuse, variables_of
from ductaflow.notebook.papermill_hooks import load_papermill
from ductaflow.store.folder import Marker
from ductaflow.store.result import Result, Versioned
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import RunEvent

if TYPE_CHECKING:
    from ductaflow.execution.branch import AnswerKind, TaskKind

#: What every run needs.
BASE = (
    "jupytext",
    "ductaflow.notebook.manager",
    "ductaflow.script",
    "psutil",
    "filelock",
    # IPython imports these when a shell is made, or a figure shown.
    "IPython.core.application",
    "IPython.core.completer",
    "IPython.core.completerlib",
    "IPython.core.crashhandler",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.core.pylabtools",
    "pdb",
)
#: Seconds that one import may take before it is left to the flows that reach it; one that computes may take
#: three times as long.
STALL = 20.0
#: Seconds that a run with a shorter time limit waits for its imports; they do not count for that.
PATIENCE = 10.0
#: How many branches are kept, and how long one that nobody uses, in seconds.
MOST_BRANCHES = max(4, 2 * (os.cpu_count() or 1))
IDLE = 300.0
#: Below this share of memory that is available only the branches in use are kept.
SCARCE = 0.15
#: Seconds that the end may take to find what an import has left.
_END = 1.0
#: How often a run is given to a branch that ends before it takes it.
_ATTEMPTS = 3


@dataclass(eq=False)
class _Run:
    """A connection that waits for its branch.

    Attributes:
        limit: when it has waited long enough.
        notes: for its result.
    """

    connection: socket.socket
    wanted: Wanted
    limit: float
    notes: list[str] = field(default_factory=list)
    attempts: int = 0

    @property
    def is_wanted(self) -> bool:
        """Whether the session still waits for it."""
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        return not poll.poll(0)


#: What makes two runs share a branch: their imports, the environment of these, and what their project hides.
_Key = tuple[tuple[str, ...], frozenset[tuple[str, str]], frozenset[str]]


@dataclass(eq=False)
class _Branch:
    """A branch as the server sees it.

    Attributes:
        tasks: what it still has to do, the first one under way since `since`; None if it is at rest.
        limit: when it is looked whether that goes on; `worked` is its processor time at the last look.
        supervisors: pids of those that it forked.
    """

    key: _Key
    pid: int
    control: socket.socket
    tasks: deque[tuple[TaskKind, str]]
    since: float | None = None
    limit: float = 0.0
    worked: float = 0.0
    used: float = field(default_factory=time.monotonic)
    sources: set[str] = field(default_factory=set)
    waiting: list[_Run] = field(default_factory=list)
    supervisors: set[int] = field(default_factory=set)
    is_dead: bool = False


class Server:
    """Accepts connections on a listening socket and gives each to a branch.

    Args:
        lifeline: the pipe from the session, with a line for each `Wanted`; the server ends with it.
        folder: the folder of the socket, removed at the end.
    """

    def __init__(self, listener: socket.socket, lifeline: int, folder: Path) -> None:
        self._listener = listener
        self._lifeline = lifeline
        self._folder = folder
        self._environment = dict(os.environ)
        self._selector = selectors.DefaultSelector()
        self._branches: dict[_Key, _Branch] = {}
        #: Branches that take nothing any more, by pid.
        self._retired: dict[int, _Branch] = {}
        #: Supervisors whose branch is gone.
        self._supervisors: set[int] = set()
        #: Top level packages, and sources, that are not kept warm, and why.
        self._left_out: dict[str, str] = {}
        self._rest = b""
        self._is_over = False

    def serve(self) -> None:
        """Run until the session ends."""
        try:
            host.adopt_orphans()
            with _ending_with(self._lifeline, self._folder):
                self._set_up()
            wakeup, wake = os.pipe()
            os.set_blocking(wake, False)
            signal.set_wakeup_fd(wake)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            self._own = (wakeup, wake)
            self._when(self._lifeline, self._listen)
            self._when(self._listener, self._accept)
            self._when(wakeup, self._reap)
            while not self._is_over:
                for key, _ in self._selector.select(self._seconds_left()):
                    # An earlier one of these may have ended it.
                    if self._selector.get_map().get(key.fd) is key:
                        key.data()
                self._look_at_times()
            self._end()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _set_up(self) -> None:
        # A package that keeps the working directory of its import is known by it.
        os.chdir(self._folder)
        load_papermill()
        from ductaflow.execution import branch
        from ductaflow.notebook import shell

        for name in BASE:
            importlib.import_module(name)
        shell.make_ready()
        prepare(RunRequest, RunSpec, Marker, RunEvent, Versioned, Result)
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            # Each run would fail in the same way and report it.
            use_once()
        branch.settle_memory()

    def _when(self, what: socket.socket | int, then: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)

    # --- what the session says ------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Begin with what will be wanted; the end of the pipe is the end of the session."""
        chunk = os.read(self._lifeline, 1 << 16)
        self._is_over = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            wanted = Wanted.load(line)
            imports, _ = self._kept(wanted)
            with contextlib.suppress(OSError):
                self._go_on(self._prepared(imports, wanted))

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(True)
        self._when(connection, functools.partial(self._read, connection))

    def _read(self, connection: socket.socket) -> None:
        """Read the first line of a connection, and nothing behind it: that is for the supervisor."""
        try:
            ahead = connection.recv(MESSAGE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            line, end, _ = ahead.partition(b"\n")
            if not end and ahead and len(ahead) < MESSAGE:
                # The rest is on its way.
                return
            self._selector.unregister(connection)
            wanted = Wanted.load(line)
            connection.recv(len(line) + 1)
        except (OSError, UnreadableError):
            # Somebody who only looked whether there is a server.
            connection.close()
            return
        patience = max(wanted.timeout, PATIENCE) if wanted.timeout else float("inf")
        self._place(_Run(connection, wanted, time.monotonic() + patience))

    # --- branches -------------------------------------------------------------------------------------------

    def _place(self, run: _Run) -> None:
        """Give a run to the branch of its imports."""
        imports, notes = self._kept(run.wanted)
        run.notes = [*run.notes, *(note for note in notes if note not in run.notes)]
        try:
            if run.attempts >= _ATTEMPTS:
                raise OSError("its processes end at once")
            branch = self._prepared(imports, run.wanted)
        except OSError as exc:
            refuse(run.connection, f"the warm server cannot fork: {exc.strerror or exc}")
            return
        branch.waiting.append(run)
        self._go_on(branch)

    def _kept(self, wanted: Wanted) -> tuple[tuple[str, ...], list[str]]:
        """The imports up to the first that is left out, and a note on that one."""
        for place, statement in enumerate(wanted.imports):
            why = self._left_out.get(_package(statement))
            if why is not None:
                note = f"{_package(statement)} is not kept warm: it {why}"
                return wanted.imports[:place], [note] if why else []
        return wanted.imports, []

    def _prepared(self, imports: tuple[str, ...], wanted: Wanted) -> _Branch:
        """The branch for some imports, with what it still has to do."""
        key = imports, frozenset(wanted.variables.items()), frozenset(wanted.hides)
        branch = self._branches.get(key) or self._forked(key)
        for source in wanted.sources:
            if source not in branch.sources and source not in self._left_out:
                branch.sources.add(source)
                branch.tasks.append(("read", source))
        return branch

    def _forked(self, key: _Key) -> _Branch:
        self._retire_some()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            self._become_branch(theirs, server, dict(key[1]), key[2])
        theirs.close()
        branch = _Branch(key, pid, ours, deque(("import", statement) for statement in key[0]))
        self._branches[key] = branch
        self._when(ours, functools.partial(self._hear, branch))
        return branch

    def _become_branch(
        self, control: socket.socket, server: int, variables: dict[str, str], hides: frozenset[str]
    ) -> NoReturn:
        code = 1
        try:
            host.die_with_parent(server)
            signal.set_wakeup_fd(-1)
            # Whoever waits for the end of a connection waits for all copies of it.
            os.closerange(3, control.fileno())
            os.closerange(control.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            own = None if variables == variables_of(self._environment) else variables
            from ductaflow.execution.branch import Branch

            Branch(control, self._environment, own, hides).serve()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _go_on(self, branch: _Branch) -> None:
        """Give a branch its next task, or the runs that wait for it."""
        if branch.since is not None:
            return
        try:
            if branch.tasks:
                kind, text = branch.tasks[0]
                branch.control.send(json.dumps([kind, text, []]).encode())
                branch.since = time.monotonic()
                branch.limit = branch.since + STALL
                branch.worked = _processor_time(branch.pid)
                return
            while branch.waiting:
                self._hand_over(branch, branch.waiting[0])
                branch.waiting.pop(0)
        except OSError:
            # It has ended, or will be found to have. What it did not take is placed again then.
            return

    def _hand_over(self, branch: _Branch, run: _Run) -> None:
        if run.is_wanted:
            message = json.dumps(["run", "", run.notes]).encode()
            socket.send_fds(branch.control, [message], [run.connection.fileno()])
        branch.used = time.monotonic()
        run.connection.close()

    def _hear(self, branch: _Branch) -> None:
        """Take an answer of a branch."""
        try:
            answer = branch.control.recv(MESSAGE, socket.MSG_DONTWAIT)
        except OSError:
            answer = b""
        if not answer:
            # Its end comes by a signal too, with the reason.
            self._selector.unregister(branch.control)
            return
        kind: AnswerKind
        kind, value = json.loads(answer)
        if kind == "forked":
            branch.supervisors.add(value)
        elif kind == "left out":
            self._leave_out(branch, value)
        else:
            branch.tasks.popleft()
            branch.since = None
            self._go_on(branch)

    def _leave_out(self, branch: _Branch, why: str) -> None:
        """End a branch whose task cannot be kept; its runs go to one that ends before."""
        kind, text = branch.tasks[0]
        self._left_out[_package(text) if kind == "import" else text] = why
        self._drop(branch)
        self._place_again(branch)

    def _place_again(self, branch: _Branch) -> None:
        waiting, branch.waiting = branch.waiting, []
        for run in waiting:
            self._place(run)

    def _drop(self, branch: _Branch) -> None:
        """Kill a branch; the supervisors that it forked go on."""
        del self._branches[branch.key]
        self._retired[branch.pid] = branch
        if not branch.is_dead:
            os.kill(branch.pid, signal.SIGKILL)

    def _retire_some(self) -> None:
        """Let branches at rest end, the longest unused first, where there are too many for the machine."""
        most = MOST_BRANCHES if _memory_available() > SCARCE else 1
        idle = time.monotonic() - IDLE
        at_rest = [one for one in self._branches.values() if one.since is None and not one.waiting]
        for branch in sorted(at_rest, key=lambda one: one.used):
            if len(self._branches) >= most or branch.used < idle:
                del self._branches[branch.key]
                self._retired[branch.pid] = branch
                # It ends when its supervisors have.
                branch.control.shutdown(socket.SHUT_WR)

    # --- time and death -------------------------------------------------------------------------------------

    def _seconds_left(self) -> float | None:
        """Seconds until the next moment at which something takes too long."""
        moments = [one.limit for one in self._branches.values() if one.since is not None]
        moments += [run.limit for one in self._branches.values() for run in one.waiting]
        soonest = min(moments, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _look_at_times(self) -> None:
        now = time.monotonic()
        for branch in list(self._branches.values()):
            late = [run for run in branch.waiting if run.limit <= now]
            branch.waiting = [run for run in branch.waiting if run not in late]
            kind, text = branch.tasks[0] if branch.tasks else ("read", "")
            for run in late:
                what = _package(text) if kind == "import" else "the flow"
                run.notes.append(f"{what} is not kept warm: it was not imported before the run had to begin")
                run.wanted = replace(run.wanted, imports=(), sources=())
                run.limit = float("inf")
                self._place(run)
            if branch.since is not None and now >= branch.limit:
                self._look_whether_it_works(branch)

    def _look_whether_it_works(self, branch: _Branch) -> None:
        """Give a branch more time that has used its processor for half of the time."""
        assert branch.since is not None
        worked, branch.worked = _processor_time(branch.pid) - branch.worked, _processor_time(branch.pid)
        if worked < STALL / 2 or branch.limit >= branch.since + 3 * STALL:
            self._leave_out(branch, f"was not imported within {branch.limit - branch.since:.0f} s")
        else:
            branch.limit += STALL

    def _reap(self) -> None:
        """Collect what has ended, and kill what a killed supervisor or an import left behind."""
        os.read(self._own[0], 4096)
        # Before it is known who has ended: the supervisors of a branch that ends now are not among them yet.
        children = host.child_pids()
        while host.has_children():
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            branch = next((one for one in self._branches.values() if one.pid == pid), None)
            branch = branch or self._retired.get(pid)
            if branch:
                self._bury(branch, status)
        self._supervisors &= children
        alive = {branch.pid for branch in self._branches.values()} | self._retired.keys()
        for pid in children - self._supervisors - alive:
            # The children of an orphan come here when it is gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _bury(self, branch: _Branch, status: int) -> None:
        """A branch has ended: take over its supervisors, and place its runs again."""
        branch.is_dead = True
        # What it said before its end counts.
        while self._hears(branch):
            self._hear(branch)
        branch.control.close()
        self._supervisors |= branch.supervisors
        if self._retired.pop(branch.pid, None):
            return
        if branch.since is not None:
            code = os.waitstatus_to_exitcode(status)
            how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            self._leave_out(branch, f"ends the process {how} when it is imported")
            del self._retired[branch.pid]
            return
        del self._branches[branch.key]
        for run in branch.waiting:
            run.attempts += 1
        self._place_again(branch)

    def _hears(self, branch: _Branch) -> bool:
        return branch.control.fileno() in self._selector.get_map()

    def _end(self) -> None:
        """Kill the branches, and what their imports have started."""
        for branch in [*self._branches.values(), *self._retired.values()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(branch.pid, signal.SIGKILL)
            self._supervisors |= branch.supervisors
        limit = time.monotonic() + _END
        while time.monotonic() < limit:
            host.reap()
            left = host.child_pids() - self._supervisors
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def _package(statement: str) -> str:
    """The top level package that an import statement names."""
    return statement.split()[1].partition(".")[0]


def _processor_time(pid: int) -> float:
    """Seconds that a process has used of its processors; 0 of one that is gone."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _memory_available() -> float:
    """The share of memory that is available."""
    import psutil

    memory = psutil.virtual_memory()
    return float(memory.available / memory.total)


@contextlib.contextmanager
def _ending_with(lifeline: int, folder: Path) -> Iterator[None]:
    """End this process with its session, and its folder too, while a block looks at nothing."""
    over, done = os.pipe()

    def watch() -> None:
        poll = select.poll()
        # Only its end: what is written to it comes later.
        poll.register(lifeline, 0)
        poll.register(over, 0)
        if any(descriptor == lifeline for descriptor, _ in poll.poll()):
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)

    thread = threading.Thread(target=watch, name="lifeline")
    thread.start()
    try:
        yield
    finally:
        os.close(done)
        thread.join()
        os.close(over)


def use_once() -> None:
    """Do once what is slow the first time: validate a notebook, look up the platform, make a lock."""
    import nbformat
    from filelock import FileLock
    from papermill.iorw import papermill_io

    from ductaflow.notebook.notebook_text import text_of

    cells = [nbformat.v4.new_code_cell("1"), nbformat.v4.new_markdown_cell("# 1")]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    text_of(notebook)
    # `fnmatch` makes its patterns into regular expressions.
    papermill_io.get_handler("one.ipynb", [".ipynb", ".json"])
    # Starts a process that looks up the name of the processor.
    platform.platform()
    this_machine()
    # filelock inspects the signature of its class; this one locks nothing.
    FileLock(os.devnull)


def main(arguments: list[str]) -> None:
    """Serve, with what `warm.command` has on the command line."""
    Server(*inherited(arguments)).serve()
    # The session waits for this process, and an orderly end of the interpreter takes as long as some runs.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
