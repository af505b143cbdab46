"""Kills this process, or fails what it asks of the system, at its N-th event.

`PYTHONPATH` brings it into every interpreter of a session, before anything else; forks inherit it. The file
`plan.json` in the folder that the variable `FAULTS` names says what happens (`test_reliability.Fault`). It is
read anew at the start of a process, after a fork, and when a supervisor begins with another run, so that one
warm server can serve many plans. To the plan each run has a supervisor of its own.

An event is a call that touches files of the tree, locks, sockets or processes. What interpreters do to import
modules does not count, so that the events of a process are the same each time.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

FOLDER = os.environ.get("FAULTS", "")
#: The process that a test starts itself has it; those that it starts do not.
_STARTED_AS = os.environ.pop("FAULTS_ROLE", None)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: How many of the arguments are paths.
_PATHS = {
    "os.rename": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.listdir": 1,
    "os.scandir": 1,
}
_OTHERS = {"os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.bind", "fcntl.flock"}
_ERRORS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EMFILE", "EACCES", "EAGAIN")}
#: A process of a session by the module that it executes.
_MODULES = {
    "ductaflow.execution.server": "server",
    "ductaflow.execution.supervise": "supervisor",
    "ductaflow.execution.child": "child",
}
#: What a fork of a process is.
_FORKS = {"server": "branch", "branch": "supervisor", "supervisor": "child"}


class Faults:
    """The events of this process, and what happens at one of them."""

    def __init__(self) -> None:
        self.tree = os.path.dirname(FOLDER) + os.sep
        self.busy = False
        self.pid = os.getpid()
        self.role = _STARTED_AS or _role_of(sys.orig_argv)
        self.begin()

    def begin(self) -> None:
        """Read the plan; this process has had no event yet."""
        self.count = 0
        self.full = False
        self.number: int | None = None
        self.busy = True
        try:
            text = Path(FOLDER, "plan.json").read_text()
        except FileNotFoundError:
            text = "{}"
        finally:
            self.busy = False
        self.plan: dict[str, Any] = json.loads(text)

    def forked(self) -> None:
        self.pid = os.getpid()
        self.role = _FORKS.get(self.role, "")
        self.begin()

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """See an audit event of Python."""
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes | os.PathLike) and self.counts(path):
                self.event("write" if flags & _WRITES else "read", path)
        elif event in _PATHS:
            if any(self.counts(path) for path in args[: _PATHS[event]]):
                self.event(event, *args[: _PATHS[event]])
        elif event in _OTHERS:
            self.event(event)
        elif event == "ductaflow.run":
            self.begin()

    def counts(self, path: object) -> bool:
        """Whether a path lies in the tree of the test, and is no code that is imported."""
        if self.busy or not self.role or not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.path.abspath(os.fsdecode(path))
        return name.startswith(self.tree) and "__pycache__" not in name and not name.startswith(FOLDER)

    def event(self, kind: str, *args: object) -> None:
        """Count an event, and do what the plan has for it."""
        if self.busy or not self.role or self.role != self.plan.get("role"):
            return
        self.busy = True
        try:
            self.count += 1
            if self.count == 1:
                self.number = self.claim_number()
            if self.plan.get("count"):
                self.note(kind, *args)
                return
            if self.plan["process"] in (0, self.number) and self.count == self.plan["at"]:
                self.happen(kind, args)
            elif self.full and kind in ("write", "os.mkdir", "fsync", "data"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]) if args else None)
        finally:
            self.busy = False

    def happen(self, kind: str, args: tuple[object, ...]) -> None:
        Path(FOLDER, "happened").write_text(f"{self.role} {self.number} {self.count} {kind} {args}\n")
        if self.plan["what"] == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        self.full = self.plan["what"] == "ENOSPC"
        number = _ERRORS[self.plan["what"]]
        raise OSError(number, os.strerror(number), str(args[0]) if args else None)

    def claim_number(self) -> int:
        """Return the how many-th process of its role this one is."""
        for number in range(1, 1000):
            try:
                os.close(os.open(f"{FOLDER}/{self.role}.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                continue
            return number
        raise AssertionError("a thousand processes of one role")

    def note(self, kind: str, *args: object) -> None:
        line = json.dumps([self.count, kind, [str(arg) for arg in args]]) + "\n"
        with io.FileIO(f"{FOLDER}/{self.role}.{self.number}.events", "a") as file:
            file.write(line.encode())

    # --- what Python has no audit event for -------------------------------------------------------------

    def wrap(self) -> None:
        """Count the flushes to disk, and each write to a file of the tree."""
        fsync, write, opener = os.fsync, os.write, io.open

        def counted_fsync(fd: Any) -> None:
            self.event("fsync")
            fsync(fd)

        def counted_write(fd: int, data: Any) -> int:
            self.event("data", fd)
            return write(fd, data)

        def counted_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            opened = opener(file, mode, *args, **kwargs)
            if set(mode) & set("wax+") and self.counts(file):
                through = opened.write

                def counted(data: Any) -> Any:
                    self.event("data", file)
                    return through(data)

                opened.write = counted
            return opened

        os.fsync, os.write = counted_fsync, counted_write
        builtins.open = io.open = counted_open  # type: ignore[assignment]


def _role_of(command: list[str]) -> str:
    module = command[command.index("-m") + 1] if "-m" in command[:-1] else ""
    if "-c" in command and "exec(eval(sys.stdin.readline()))" in command[-1]:
        return "worker"
    return _MODULES.get(module, "")


if FOLDER:
    faults = Faults()
    if faults.role or _STARTED_AS is not None:
        faults.wrap()
        sys.addaudithook(faults.audit)
        os.register_at_fork(after_in_child=faults.forked)
