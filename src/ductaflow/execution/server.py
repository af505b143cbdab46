"""The warm server: one process for a session. It has imported what flows import and forks for each run.

    session --connects, sends spec and environment--> server --forks--> supervisor --forks--> child
    session <------------------ the same connection ------------------- supervisor

The server only accepts and forks: it knows nothing about runs, and a run whose server is gone goes on under
its supervisor. It has a single thread when it forks. It imports only installed packages: the project root is
not on its `sys.path`. If a package starts a thread and is not known to survive a fork, the server restarts
itself without that package. It ends when the pipe from its session does.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import platform
import select
import shutil
import signal
import socket
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from ductaflow.common import host
from ductaflow.common.decode import decode, prepare
from ductaflow.execution import child, supervise
from ductaflow.execution.warm import NOTES, RunRequest, Wanted, command, why_not_warm
from ductaflow.notebook import shell
from ductaflow.notebook.export import make_page
from ductaflow.notebook.source import read_ahead
from ductaflow.store.folder import Marker
from ductaflow.store.result import Result, Versioned
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import RunEvent

#: What every run needs, imported first; what flows import comes later, as `Wanted`.
BASE = (
    "papermill",
    "jupytext",
    "ductaflow.notebook.manager",
    "ductaflow.script",
    "psutil",
    "filelock",
    # IPython imports these when a shell is made.
    "IPython.core.application",
    "IPython.core.completer",
    "IPython.core.completerlib",
    "IPython.core.crashhandler",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "pdb",
)
#: What packages import at their first use for something that most flows do.
WITH: dict[str, tuple[str, ...]] = {
    "pandas": (
        "pandas.io.formats.csvs",
        "pandas.io.formats.html",
        "pandas.io.formats.string",
        "pandas.io.parsers.readers",
    ),
    "matplotlib.pyplot": ("matplotlib.backends.backend_agg", "IPython.core.pylabtools"),
}
#: Their import changes the shell. That has to happen in the flow, by its import or its first figure.
ACTS_ON_SHELL = frozenset({"matplotlib_inline", "pylab"})
#: Packages whose threads survive a fork: OpenBLAS and Arrow stop them before it and start them after it.
THREADS_SURVIVE = frozenset({"numpy", "scipy", "pandas", "pyarrow", "sklearn", "statsmodels", "matplotlib"})
#: Set for a server that restarted itself: packages that it must not import.
EXCLUDED = "DUCTAFLOW_SERVER_EXCLUDES"


class Server:
    """Accepts connections on a listening socket and forks for each.

    Args:
        lifeline: the pipe from the session, with a line for each `Wanted`; the server ends with it.
        folder: the folder of the socket, removed at the end.
        wanted: what to prepare, for a server that restarted itself.
    """

    def __init__(self, listener: socket.socket, lifeline: int, folder: Path, wanted: Wanted) -> None:
        self._listener = listener
        self._lifeline = lifeline
        self._folder = folder
        self._excluded = set(filter(None, os.environ.get(EXCLUDED, "").split(",")))
        #: The variables with which it started, and those that packages set at import.
        self._environment = dict(os.environ)
        self._set_by_imports: dict[str, str] = {}
        self._wanted = wanted
        self._supervisors: set[int] = set()
        self._rest = b""

    def serve(self) -> None:
        """Run until the session ends."""
        host.adopt_orphans()
        wakeup, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            for name in BASE:
                importlib.import_module(name)
            shell.make_ready()
            prepare(RunRequest, RunSpec, Marker, RunEvent, Versioned, Result)
            self._make_ready(self._wanted)
            try:
                with warnings.catch_warnings():
                    # A flow must not inherit filters of packages that it does not import.
                    use_once()
            except Exception as exc:
                # The HTML of each run will fail in the same way and report it; runs go on without it.
                self._note(f"what is slow the first time could not be done once: {exc}")
            settle_memory()
            while self._wait(wakeup):
                pass
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, wakeup: int) -> bool:
        """Serve what comes next; return False when the session has ended."""
        ready, _, _ = select.select([self._lifeline, self._listener.fileno(), wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 4096)
            self._reap()
        if self._lifeline in ready:
            # Before connections: what a run needs was requested before it connected.
            return self._listen()
        if self._listener.fileno() in ready:
            self._accept((wakeup,))
        return True

    def _reap(self) -> None:
        """Collect supervisors that have ended, and kill what a killed one left behind."""
        while True:
            host.reap()
            children = host.child_pids()
            self._supervisors &= children
            orphans = children - self._supervisors
            if not orphans:
                return
            # The children of an orphan come here when it is gone.
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _listen(self) -> bool:
        chunk = os.read(self._lifeline, 1 << 16)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            wanted = Wanted.load(line)
            self._wanted = self._wanted.and_also(wanted)
            self._make_ready(wanted)
            settle_memory()
        return bool(chunk)

    def _make_ready(self, wanted: Wanted) -> None:
        self._preload(wanted.modules)
        for source in wanted.sources:
            read_ahead(Path(source))

    def _preload(self, modules: Iterable[str]) -> None:
        for name in [part for module in modules for part in (module, *WITH.get(module, ()))]:
            package = name.partition(".")[0]
            if package in self._excluded or name in sys.modules or package in ACTS_ON_SHELL:
                continue
            threads, packages, variables = _threads(), _packages(), dict(os.environ)
            # An import may fail in any way; it fails again in the flow, which reports it.
            with shell.as_in_a_cell() as shown, contextlib.suppress(Exception, SystemExit):
                importlib.import_module(name)
            # It may be the first to import numpy, whose threads are known.
            if _threads() > threads and not THREADS_SURVIVE & (_packages() - packages):
                self._start_anew(package, "starts threads")
            if shown.said:
                # Such as a warning, which belongs in the log of each flow that imports it.
                self._start_anew(package, "prints something")
            new = {name: value for name, value in os.environ.items() if variables.get(name) != value}
            self._set_by_imports.update(new)

    def _start_anew(self, package: str, why: str) -> NoReturn:
        """Replace this process by one without a package; flows import that themselves."""
        self._note(f"{package} {why} when it is imported, so it is not kept warm")
        for descriptor in (self._listener.fileno(), self._lifeline):
            os.set_inheritable(descriptor, True)
        os.execve(
            sys.executable,
            command(self._listener.fileno(), self._lifeline, self._folder, self._wanted),
            {**self._environment, EXCLUDED: ",".join(sorted({*self._excluded, package}))},
        )

    def _note(self, text: str) -> None:
        with (self._folder / NOTES).open("a", encoding="utf-8") as notes:
            notes.write(f"{text}\n")

    def _accept(self, others: Iterable[int]) -> None:
        connection, _ = self._listener.accept()
        pid = os.fork()
        if pid:
            self._supervisors.add(pid)
            connection.close()
            return
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._listener.close()
            for descriptor in (self._lifeline, *others):
                os.close(descriptor)
            look_after_one(connection, self._environment, self._set_by_imports)
            code = 0
        finally:
            os._exit(code)


def look_after_one(
    connection: socket.socket, started_with: Mapping[str, str], set_by_imports: Mapping[str, str]
) -> None:
    """Supervise the run that the connection asks for, in the forked process.

    A flow gets the variables that packages `set_by_imports` too.
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
            notes = [f"ran in a fresh interpreter: {why}"]
            supervise.supervise(spec, requests, answers, start, notes)
        else:
            fork = functools.partial(fork_child, environment={**set_by_imports, **environment})
            page = (lambda spec: make_page(spec.run_folder)) if spec.settings.html else None
            supervise.supervise(spec, requests, answers, fork, afterwards=page)


def fork_child(spec: RunSpec, environment: Mapping[str, str]) -> supervise.ForkedChild:
    """Start the child as a fork of this process, which has a single Python thread."""
    supervisor = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        child.be_forked(spec, spec.environment(environment), supervisor)
    return supervise.ForkedChild(pid)


def use_once() -> None:
    """Do once what is slow the first time: export a notebook, look up the platform, make a lock."""
    import nbformat
    from filelock import FileLock

    from ductaflow.notebook.export import html_of

    cells = [nbformat.v4.new_code_cell("1"), nbformat.v4.new_markdown_cell("# 1")]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    html_of(notebook, "once")
    # Starts a process that looks up the name of the processor.
    platform.platform()
    # filelock inspects the signature of its class; this one locks nothing.
    FileLock(os.devnull)


def settle_memory() -> None:
    """Hide what is loaded from the garbage collector, so that children keep sharing its memory pages."""
    child.packages.look()
    gc.collect()
    gc.freeze()


def _packages() -> set[str]:
    return {name.partition(".")[0] for name in list(sys.modules)}


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def main(arguments: list[str]) -> None:
    """Serve, with what `command` has on the command line."""
    listener, lifeline, folder, wanted = arguments
    listening = socket.socket(fileno=int(listener))
    Server(listening, int(lifeline), Path(folder), Wanted.load(wanted)).serve()
    # The session waits for this process, and an orderly end of the interpreter takes as long as some runs.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
