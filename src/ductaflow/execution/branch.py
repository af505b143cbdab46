"""A branch of the warm server: a fork that does the first imports of some flows, and forks for each run.

    server --a task, or the connection of a run--> branch --forks--> supervisor --forks--> child
    server <--what came of it--------------------- branch

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
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal

from ductaflow.common import host
from ductaflow.common.decode import decode
from ductaflow.execution import child, supervise
from ductaflow.execution.import_state import ImportWatch
from ductaflow.execution.warm import MESSAGE, RunRequest, refuse, why_not_warm
from ductaflow.notebook import shell
from ductaflow.notebook.source import read_ahead
from ductaflow.store.spec import RunSpec

#: What the server asks for: an import statement, a source to read, or a run with its notes.
TaskKind = Literal["import", "read", "run"]
#: What a branch answers: a task is done, or why it cannot be kept; the pid of a supervisor.
AnswerKind = Literal["done", "left out", "forked"]
#: What packages import at their first use for something that most flows do.
WITH: dict[str, tuple[str, ...]] = {
    "pandas": ("pandas.io.formats.csvs", "pandas.io.formats.html", "pandas.io.formats.string"),
    "matplotlib.pyplot": ("matplotlib.backends.backend_agg",),
}
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
        self._supervisors: set[int] = set()
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
        while True:
            ready, _, _ = select.select([self._control.fileno(), wakeup], [], [])
            if wakeup in ready:
                os.read(wakeup, 4096)
                host.reap()
                self._supervisors &= host.child_pids()
            if self._control.fileno() in ready and not self._obey((wakeup, wake)):
                break
        while host.has_children():
            os.wait()

    def _obey(self, wakeups: Sequence[int]) -> bool:
        """Do the next task; return False when there will be none."""
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE, 1)
        if not message:
            return False
        kind: TaskKind
        kind, text, notes = json.loads(message)
        if kind == "run":
            self._fork(socket.socket(fileno=descriptors[0]), wakeups, notes)
            return True
        self._is_settled = False
        why: str | None = None
        if kind == "import":
            why = self._import(text)
        else:
            read_ahead(Path(text))
        self._answer("done" if why is None else "left out", why)
        return True

    def _answer(self, kind: AnswerKind, value: object) -> None:
        self._control.send(json.dumps([kind, value]).encode())

    # --- imports --------------------------------------------------------------------------------------------

    def _import(self, statement: str) -> str | None:
        """Execute an import as a cell would; return why it cannot be kept, "" if the flow will say it."""
        pid, threads = os.getpid(), _threads()
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
        if host.child_pids() - self._supervisors:
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

    def _fork(self, connection: socket.socket, wakeups: Sequence[int], notes: Sequence[str]) -> None:
        # A package may have set a default time limit for sockets.
        connection.setblocking(True)
        if not self._is_settled:
            self._shelf.fill()
            settle_memory()
            self._is_settled = True
        try:
            pid = os.fork()
        except OSError as exc:
            refuse(connection, f"the warm server cannot fork: {exc.strerror or exc}")
            return
        if pid:
            self._supervisors.add(pid)
            self._answer("forked", pid)
            connection.close()
            return
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            for descriptor in (*wakeups, self._said):
                os.close(descriptor)
            look_after_one(connection, self._started_with, self._set_by_imports, notes)
            code = 0
        finally:
            os._exit(code)


class Shelf:
    """Modules that are imported ahead, and that no flow sees before something imports them."""

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
            sys.modules[name] = one
            parent, _, last = name.rpartition(".")
            if one is not module and parent in sys.modules:
                setattr(sys.modules[parent], last, one)
        if not self._modules:
            sys.meta_path.remove(self)


def look_after_one(
    connection: socket.socket,
    started_with: Mapping[str, str],
    set_by_imports: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Supervise the run that the connection asks for, in the forked process.

    A flow gets the variables that packages `set_by_imports` too, and its result the `notes`.
    """
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
    with connection.makefile("wb") as answers:
        if why:
            start = functools.partial(supervise.spawn, environment=environment)
            supervise.supervise(spec, requests, answers, start, [f"ran in a fresh interpreter: {why}"])
        else:
            fork = functools.partial(fork_child, environment={**set_by_imports, **environment})
            supervise.supervise(spec, requests, answers, fork, notes)


def fork_child(spec: RunSpec, environment: Mapping[str, str]) -> supervise.ForkedChild:
    """Start the child as a fork of this process, which has a single Python thread."""
    supervisor = os.getpid()
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
