"""The session's side of the warm server: starts it once, finds it from any process of the session.

The server is known by the folder of its socket in the environment (`SERVER`), so that workers, builds inside
runs and threads share one. When it has died, the next run that needs it starts another one in its place.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

#: Environment variable that names the folder of the session's server; `off` where there is to be none.
SERVER = "DUCTAFLOW_SERVER"
OFF = "off"
_SOCKET = "socket"
#: File in the server's folder for what it has to say.
NOTES = "notes"

_lock = threading.Lock()
_own: _Server | None = None


class _Server:
    """A server that this process starts, and its lifeline.

    Args:
        when_needed: start the process with the first connection: a session in which nothing has to run goes
            without it.
    """

    def __init__(self, *, when_needed: bool = False) -> None:
        self.pid = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="ductaflow-"))
        self.asked: dict[str, None] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)
        self._starting = threading.Lock()
        self._ended = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / _SOCKET))
        self._listener.listen(128)
        self._end, self._lifeline = os.pipe()
        # its end says that no connection will come any more
        self._over, self._open = os.pipe()
        if when_needed:
            threading.Thread(target=self._wait, name="warm-server", daemon=True).start()
        else:
            self._start()

    def _wait(self) -> None:
        select.select([self._listener.fileno(), self._over], [], [])
        self._start()

    def _start(self) -> None:
        with self._starting, self._listener:
            try:
                if not self._ended:
                    self.process = subprocess.Popen(
                        command(self._listener.fileno(), self._end, self.folder),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        pass_fds=(self._listener.fileno(), self._end),
                        cwd="/",
                        env=self._environment,
                        start_new_session=True,
                    )
                    self._ask(self.asked)
            finally:
                os.close(self._end)
                os.close(self._over)

    @property
    def lives(self) -> bool:
        return self.pid == os.getpid() and (self.process is None or self.process.poll() is None)

    @property
    def waits(self) -> bool:
        """Whether it will be started with the first connection."""
        return self.lives and self.process is None

    def preload(self, modules: Iterable[str]) -> None:
        with self._starting:
            wanted = [name for name in modules if name not in self.asked]
            self.asked.update(dict.fromkeys(wanted))
            # A pipe that nobody reads yet takes so much and no more.
            if self.process is not None:
                self._ask(wanted)

    def _ask(self, modules: Iterable[str]) -> None:
        if modules:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lifeline, f"preload {' '.join(modules)}\n".encode())

    def end(self) -> None:
        if self.pid == os.getpid():
            with self._starting:
                self._ended = True
                os.close(self._open)
                os.close(self._lifeline)
            if self.process is not None:
                self.process.wait()
            # it does so itself, if it was not killed
            shutil.rmtree(self.folder, ignore_errors=True)


def command(listener: int, lifeline: int, folder: Path, asked: Iterable[str] = ()) -> list[str]:
    """The command line of a server; the two descriptors are inherited."""
    return [
        *(sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.server"),
        *(str(listener), str(lifeline), str(folder), *asked),
    ]


def is_possible() -> bool:
    """Whether runs of this process may be forks of a warm server: on Linux, unless it is switched off."""
    return sys.platform == "linux" and os.environ.get(SERVER) != OFF


def start(modules: Iterable[str] = (), *, when_needed: bool = False) -> None:
    """Start the session's server in the background, where there is none yet.

    Args:
        modules: what it imports besides what every run needs; only who started the server can ask for more.
        when_needed: have it start with the first run that connects to it.
    """
    global _own
    if not is_possible():
        return
    with _lock:
        # Asked by connecting: one that was killed a moment ago still has a process.
        if not (_own is not None and _own.waits) and not _is_there():
            _own = _Server(when_needed=when_needed)
            os.environ[SERVER] = str(_own.folder)
            atexit.register(_own.end)
        if _own is not None and _own.lives:
            _own.preload(modules)


def connect(modules: Iterable[str]) -> socket.socket | None:
    """A connection to the session's server, which is started where there is none; None if there can be none.

    Args:
        modules: what the flow imports.
    """
    if not is_possible():
        return None
    for _ in range(2):
        if _own is not None and _own.lives:
            with _lock:
                _own.preload(modules)
        connection = _connected()
        if connection is not None:
            return connection
        # There is none yet, or it has died: one is started in its place.
        start(modules)
    return _connected()


def notes() -> list[str]:
    """What the server of this process has to say, such as a package that it does not keep warm."""
    if _own is None:
        return []
    try:
        return (_own.folder / NOTES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _is_there() -> bool:
    connection = _connected()
    if connection is None:
        return False
    connection.close()
    return True


def _connected() -> socket.socket | None:
    folder = os.environ.get(SERVER)
    if not folder or not is_possible():
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(Path(folder) / _SOCKET))
    except OSError:
        connection.close()
        return None
    return connection
