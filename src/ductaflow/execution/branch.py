"""A branch of the warm server: a fork that does the first imports of some flows, and forks their supervisors.

    server --a task, or the connection of a run--> branch --the connection--> supervisor --forks--> child
    server <--what came of it--------------------- branch <--is at rest------ supervisor

A supervisor is forked for the first run and looks after one run after the other: to fork a process that has
imported much, and to end one, takes as long as what it does for a run.

What an import leaves in the process reaches only flows that do the same import first. If it cannot be kept
(it starts threads, prints, hangs, ends the process), the server kills the branch and makes another one that
ends its imports before. The branch has a single thread when it forks, and dies with the server.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal

from ductaflow.common import host
from ductaflow.common.decode import decode
from ductaflow.execution import audit, child, supervise
from ductaflow.execution.import_state import ImportWatch
from ductaflow.execution.python_hooks import modules_since
from ductaflow.execution.warm import MESSAGE, RunRequest, refuse, why_not_warm
from ductaflow.notebook import shell
from ductaflow.notebook.source import read_ahead
from ductaflow.store.sessions import Session
from ductaflow.store.spec import RunSpec

#: What the server asks for: an import statement, a source to read, or a run with its notes.
TaskKind = Literal["import", "read", "run"]
#: What a branch answers: a task is done, or why it cannot be kept; the pid of a supervisor.
AnswerKind = Literal["done", "left out", "forked"]
#: What packages import at their first use for something that most flows do.
WITH: dict[str, tuple[str, ...]] = {
    "pandas": ("pandas.io.formats.csvs", "pandas.io.formats.html", "pandas.io.formats.string"),
    "matplotlib.pyplot": ("matplotlib.backends.backend_agg",),
    # By the first text in a DataFrame: a quarter of a light run.
    "pyarrow": ("pyarrow.pandas_compat",),
}
#: So many supervisors that have no run are kept for the next ones, each for so many runs: whatever grows in a
#: process does not grow for long.
MOST_AT_REST = 2 * (os.cpu_count() or 1)
_MOST_RUNS = 1000
#: Packages whose threads survive a fork: OpenBLAS and Arrow stop them before it and start them after it.
THREADS_SURVIVE = frozenset({"numpy", "scipy", "pandas", "pyarrow", "sklearn", "statsmodels", "matplotlib"})


class Branch:
    """Serves until the server closes the connection or ends.

    Args:
        control: the connection to the server.
        started_with: the variables with which the server started.
        variables: what imports find in the environment, if that differs from the server's.
        hides: packages that modules of the project hide.
    """

    def __init__(
        self,
        control: socket.socket,
        started_with: Mapping[str, str],
        variables: Mapping[str, str] | None,
        hides: frozenset[str],
    ) -> None:
        self._control = control
        self._hides = hides
        self._shelf = Shelf()
        self._supervisors: list[_Supervisor] = []
        if variables is not None:
            os.environ.clear()
            os.environ.update(variables)
            time.tzset()
            shell.make_ready()
        self._started_with = started_with
        self._set_by_imports: dict[str, str] = {}
        self._is_settled = False
        #: Where output of packages in C goes while they are imported.
        self._said = os.memfd_create("said")

    def serve(self) -> None:
        """Do what the server asks for; return when it asks no more and the supervisors have ended."""
        wakeup, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._own = (wakeup, wake, self._said)
        while True:
            controls = {one.control.fileno(): one for one in self._supervisors}
            ready, _, _ = select.select([self._control.fileno(), wakeup, *controls], [], [])
            if wakeup in ready:
                os.read(wakeup, 4096)
                host.reap()
            for descriptor in controls.keys() & ready:
                self._hear(controls[descriptor])
            if self._control.fileno() in ready and not self._obey():
                break
        self._let_go()
        while host.has_children():
            os.wait()

    def _obey(self) -> bool:
        """Do the next task; return False when there will be none."""
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE, 1)
        if not message:
            return False
        kind: TaskKind
        kind, text, notes = json.loads(message)
        if kind == "run":
            self._run(socket.socket(fileno=descriptors[0]), notes)
            return True
        # Those that there are do not have what comes now.
        self._let_go()
        self._is_settled = False
        why: str | None = None
        if kind == "import":
            why = self._import(text)
        else:
            read_ahead(Path(text))
        self._answer("done" if why is None else "left out", why)
        return True

    def _answer(self, kind: AnswerKind, value: object) -> None:
        self._control.send(_dump([kind, value]))

    # --- imports --------------------------------------------------------------------------------------------

    def _import(self, statement: str) -> str | None:
        """Execute an import as a cell would; return why it cannot be kept, "" if the flow will say it."""
        pid, threads, children = os.getpid(), _threads(), host.child_pids()
        state, variables = _state(), dict(os.environ)
        watch = ImportWatch(child.generators)
        with self._hearing() as said, shell.as_in_a_cell() as shown:
            try:
                with watch:
                    exec(compile(statement, "<ahead>", "exec"), {"__name__": "__main__"})
            except BaseException:
                # Whatever it raises, it raises again in the flow, which reports it.
                return ""
            finally:
                if os.getpid() != pid:
                    # The package has forked, and this is the other one.
                    os._exit(0)
        if shown.said or said():
            # Such as a warning, which belongs in the log of each flow that imports it.
            return "prints something when it is imported"
        # It may be the first to import numpy, whose threads are known.
        if _threads() > threads and not THREADS_SURVIVE & watch.packages:
            return "starts threads when it is imported"
        if host.child_pids() - children:
            return "starts a process when it is imported"
        if hidden := sorted(self._hides & watch.packages):
            return f"imports {hidden[0]}, which the project has too, when it is imported"
        for name, value in _state().items():
            if value != state[name]:
                return f"changes the {name} when it is imported"
        if why := next(watch.reasons(), None):
            return f"{why} when it is imported"
        child.generators += watch.generators
        child.kept_descriptors.update(watch.descriptors)
        self._set_by_imports |= {
            name: value for name, value in os.environ.items() if variables.get(name) != value
        }
        return None

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[Callable[[], bool]]:
        """Keep what is written to standard output and error by descriptor; gives whether there is some."""
        os.ftruncate(self._said, 0)
        outer = os.dup(1), os.dup(2)
        os.dup2(self._said, 1)
        os.dup2(self._said, 2)
        try:
            yield lambda: os.fstat(self._said).st_size > 0
        finally:
            for descriptor, target in zip(outer, (1, 2), strict=True):
                os.dup2(descriptor, target)
                os.close(descriptor)

    # --- runs -----------------------------------------------------------------------------------------------

    def _run(self, connection: socket.socket, notes: Sequence[str]) -> None:
        """Give a run to a supervisor that is at rest, or to a new one."""
        # A package may have set a default time limit for sockets.
        connection.setblocking(True)
        with connection:
            for supervisor in reversed(self._supervisors):
                # One that was killed meanwhile has ended its connection.
                with contextlib.suppress(OSError):
                    if supervisor.is_at_rest:
                        supervisor.is_at_rest = False
                        socket.send_fds(supervisor.control, [_dump(notes)], [connection.fileno()])
                        return
            self._fork(connection, notes)

    def _fork(self, connection: socket.socket, notes: Sequence[str]) -> None:
        if not self._is_settled:
            self._shelf.fill()
            settle_memory()
            self._is_settled = True
        ours: socket.socket | None = None
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pid = os.fork()
        except OSError as exc:
            if ours is not None:
                ours.close()
                theirs.close()
            refuse(connection, f"the warm server cannot fork: {exc.strerror or exc}")
            return
        if pid:
            theirs.close()
            self._supervisors.append(_Supervisor(pid, ours))
            self._answer("forked", pid)
            return
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for control in (self._control, ours, *(one.control for one in self._supervisors)):
                control.close()
            for descriptor in self._own:
                os.close(descriptor)
            serve_runs(theirs, connection, notes, self._started_with, self._set_by_imports)
            code = 0
        finally:
            os._exit(code)

    # --- supervisors ----------------------------------------------------------------------------------------

    def _hear(self, supervisor: _Supervisor) -> None:
        """A supervisor is ready for its next run, or has ended."""
        try:
            message = supervisor.control.recv(MESSAGE)
        except OSError:
            message = b""
        at_rest = sum(one.is_at_rest for one in self._supervisors)
        self._supervisors.remove(supervisor)
        if message and at_rest < MOST_AT_REST:
            supervisor.is_at_rest = True
            # The next run goes to the one that was at work last: its memory is its own by now.
            self._supervisors.append(supervisor)
        else:
            supervisor.control.close()

    def _let_go(self) -> None:
        """Let supervisors end: those at rest now, the others after their run."""
        for supervisor in self._supervisors:
            supervisor.control.close()
        self._supervisors = []


@dataclass(eq=False)
class _Supervisor:
    """A process that looks after one run after the other, as its branch sees it."""

    pid: int
    control: socket.socket
    is_at_rest: bool = False


class Shelf:
    """Modules that are imported ahead, and that no flow sees before something imports them.

    They are those of `WITH` alone, each of which was read: its import keeps nothing of the process, and reads
    nothing that a flow may have changed by then, such as options, variables, files, registries.
    """

    def __init__(self) -> None:
        #: By the module that somebody will import: that one and those that came with it.
        self._modules: dict[str, dict[str, ModuleType]] = {}
        self._spec: ModuleSpec | None = None

    def fill(self) -> None:
        """Import what goes with the packages that are there."""
        for name in [name for package, names in WITH.items() if package in sys.modules for name in names]:
            if name in sys.modules or name in self._modules:
                continue
            before = set(sys.modules)
            # Another version may not have it.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
            new = {one: module for one, module in sys.modules.items() if one not in before}
            for one, module in new.items():
                del sys.modules[one]
                parent, _, last = one.rpartition(".")
                if vars(sys.modules.get(parent) or Shelf).get(last) is module:
                    delattr(sys.modules[parent], last)
            if name in new:
                self._modules[name] = new
        if self._modules and self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find a module that is kept here, as a finder of `sys.meta_path`."""
        return ModuleSpec(name, self) if name in self._modules else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = self._modules[spec.name][spec.name]
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Let a module be seen with those that came with it; its code has run."""
        module.__spec__ = self._spec
        for name, one in self._modules.pop(module.__name__).items():
            # What came with it may have been imported by itself meanwhile.
            if sys.modules.setdefault(name, one) is not one or one is module:
                continue
            parent, _, last = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], last, one)
        if not self._modules:
            sys.meta_path.remove(self)


def serve_runs(
    control: socket.socket,
    connection: socket.socket,
    notes: Sequence[str],
    started_with: Mapping[str, str],
    set_by_imports: Mapping[str, str],
) -> None:
    """Supervise one run after the other, in the forked process, until the branch wants no more of them.

    It ends after a run that has left something in this process: the next flow is a fork of it.
    """
    last, niceness = next(reversed(sys.modules)), os.nice(0)
    for left in reversed(range(_MOST_RUNS)):
        with connection:
            look_after_one(connection, started_with, set_by_imports, notes)
        is_as_before = threading.active_count() == 1 and os.nice(0) == niceness and not host.has_children()
        if not left or not is_as_before or any(map(_is_foreign, modules_since(last))):
            return
        try:
            control.send(_dump([]))
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE, 1)
        except OSError:
            # The branch was killed.
            return
        if not message:
            return
        notes, connection = json.loads(message), socket.socket(fileno=descriptors[0])
        connection.setblocking(True)


def _is_foreign(module: str) -> bool:
    """Return whether a flow that does not import a module would wonder at it."""
    top = module.partition(".")[0]
    return top != "ductaflow" and top not in sys.stdlib_module_names


def look_after_one(
    connection: socket.socket,
    started_with: Mapping[str, str],
    set_by_imports: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Supervise the run that a connection asks for.

    A flow gets the variables that packages `set_by_imports` too, and its result the `notes`.
    """
    # For who watches this process; the campaign of faults does.
    sys.audit("ductaflow.run")
    requests = supervise.lines_of(connection.fileno())
    line = next(requests, None)
    if line is None:
        # The session is gone.
        return
    asked = decode(line, RunRequest, where="the request of a session")
    spec, environment = asked.spec, asked.environment
    # A build passes on to its flows what its own imports set.
    given = {name: value for name, value in environment.items() if set_by_imports.get(name) != value}
    why = why_not_warm(Path(spec.source), given, started_with)
    start: supervise.Start
    if why:
        start = functools.partial(supervise.spawn, environment=environment)
        notes = [f"ran in a fresh interpreter: {why}"]
    else:
        start = functools.partial(fork_child, environment={**set_by_imports, **environment})

    def hang_up() -> None:
        # Not altogether: who makes the page has the connection too.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RD)

    # What is kept for the session would be out of date in the next run.
    with connection.makefile("wb") as answers, Session(spec.session_id):
        supervise.supervise(spec, requests, answers, start, notes, hang_up)


def fork_child(spec: RunSpec, environment: Mapping[str, str]) -> supervise.ForkedChild:
    """Start the child as a fork of this process, which has a single Python thread."""
    supervisor = os.getpid()
    audit.look_ahead(spec.project_root)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        child.be_forked(spec, spec.environment(environment), supervisor)
    return supervise.ForkedChild(pid)


# --- the process -------------------------------------------------------------------------------------------


def settle_memory() -> None:
    """Hide what is loaded from the garbage collector, so that children keep sharing its memory pages."""
    child.packages.look()
    gc.collect()
    gc.freeze()


def _dump(message: object) -> bytes:
    return json.dumps(message).encode()


def _state() -> dict[str, object]:
    """What a run makes anew, though in plain Python an import could have changed it."""
    status = Path("/proc/self/status").read_text()
    return {
        "working directory": os.getcwd(),
        "handlers of signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "limits of the process": [resource.getrlimit(kind) for kind in _LIMITS],
        "umask": next((line for line in status.splitlines() if line.startswith("Umask")), ""),
    }


_LIMITS = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
