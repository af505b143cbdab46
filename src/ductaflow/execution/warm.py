"""The session's side of the warm server: what it has to import, who starts it, how a run connects to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from ductaflow.common.decode import decode
from ductaflow.common.files import sweep_temporary, temporary_prefix
from ductaflow.execution.imports import first_imports, hidden_packages
from ductaflow.store.sessions import Part, session_of
from ductaflow.store.spec import RunSpec

_IMPORT = re.compile(r"\s*(?:import\s+(?P<names>[\w., ]+)|from\s+(?P<module>\w[\w.]*)\s+import\s)")
#: Anywhere in a line but in its comment; a magic is a comment in a percent notebook. What this does not see
#: ends the imports that are done ahead all the same: see `imports`.
_SETS_ENVIRONMENT = re.compile(
    r"[^#]*?(?:\benvironb?\s*(?:\[[^]]*\]\s*=[^=]|\|=|\.(?:setdefault|update|pop|clear)\()"
    r"|\bdel\s+(?:os\.)?environ\b|\b(?:putenv|unsetenv|load_dotenv|read_env)\()"
    r"|\s*(?:#\s*)?%(?:set_)?env\s"
)
_RUNS_FLOW = re.compile(r"""["'](?:[^"'\n]*/)?flows/(\w[\w.+-]*?)\.(?:py|md|ipynb)["']""")
#: Variables that the interpreter reads when it starts. A run with another value needs a new one.
_READ_AT_START = ("PYTHONPATH", "PYTHONHASHSEED", "LD_")
#: Variables that differ from run to run and that no package reads.
_OF_RUNS = ("DUCTAFLOW_", "PYTEST_", "COV_CORE_")
#: Bytes of one message between server and branch.
MESSAGE = 1 << 16
#: A request that is longer, in bytes, does not fit into the buffer of a socket.
_LONGEST_REQUEST = 100_000


def why_not_warm(source: Path, environment: Mapping[str, str], server: Mapping[str, str]) -> str | None:
    """Return why a flow needs a new interpreter; None if a fork of the warm process will do.

    `server` are the variables with which the warm process imported its packages.
    """
    for name in sorted({*environment, *server}):
        if name.startswith(_READ_AT_START) and environment.get(name) != server.get(name):
            return f"{name} differs from what it was when the warm server started"
    lines = _lines(source)
    sets = next((n for n, line in enumerate(lines) if _SETS_ENVIRONMENT.match(line)), None)
    tops = (name.partition(".")[0] for name in _imported(lines[sets:]))
    if sets is not None and any(top not in sys.stdlib_module_names for top in tops):
        return f"line {sets + 1} sets an environment variable before an import"
    return None


def _lines(source: Path) -> list[str]:
    try:
        return source.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # The run will report it.
        return []


def with_flows(source: Path, project_root: Path) -> Iterator[Path]:
    """Yield a notebook and the flows that its text names."""
    yield source
    for name in dict.fromkeys(_RUNS_FLOW.findall("\n".join(_lines(source)))):
        flow = project_root / "flows" / f"{name}.py"
        if flow.is_file() and flow != source:
            yield flow


def _imported(lines: Iterable[str]) -> Iterator[str]:
    """Yield the modules that lines of code import."""
    for match in filter(None, map(_IMPORT.match, (part for line in lines for part in line.split(";")))):
        names = [match["module"]] if match["module"] else match["names"].split(",")
        yield from filter(None, (name.split(" as ")[0].strip() for name in names))


#: Environment variable with the folder of the session's server; `off` to have none.
SERVER = "DUCTAFLOW_SERVER"
OFF = "off"
_SOCKET = "socket"
#: Where a socket may lie if the folder for temporary files does not do.
_SHORT_PLACES = ("/tmp", "/dev/shm", "/var/tmp")
#: Seconds that a server may take to end before it is killed.
END_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run wants to find done.

    Attributes:
        imports: import statements, in this order.
        sources: flows to read, absolute paths.
        hides: packages that modules of the project hide, for the flow and for packages that import them.
        variables: the environment that packages find when they are imported.
        timeout: how long the run may wait for it, in seconds; None for no limit.
    """

    imports: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None

    @classmethod
    def of(
        cls,
        source: Path,
        project_root: Path,
        *,
        environment: Mapping[str, str],
        preload: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Wanted:
        """What a flow or build does first, and then modules to `preload` in any case."""
        more = [f"import {module}" for module in preload]
        imports = dict.fromkeys([*first_imports(source, project_root), *more])
        hides = hidden_packages(source, project_root)
        return cls(tuple(imports), (str(source),), hides, variables_of(environment), timeout)

    def dump(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | bytes) -> Wanted:
        return decode(text, cls, where="what a server shall have ready")


def variables_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that an import may depend on."""
    return {name: value for name, value in environment.items() if not name.startswith(_OF_RUNS)}


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A session's request to a server: a run and its environment variables."""

    spec: RunSpec
    environment: dict[str, str]

    def dump(self) -> str:
        """Return one line of JSON."""
        return f'{{"spec": {self.spec.dump()}, "environment": {json.dumps(self.environment)}}}'


def refuse(connection: socket.socket, why: str) -> None:
    """Tell a session that its run has to start without the server."""
    with contextlib.suppress(OSError), connection:
        connection.sendall(json.dumps({"event": "unable", "message": why}).encode() + b"\n")


def _listening() -> tuple[Path, socket.socket]:
    """A folder with a socket that listens, in the first place where there can be one.

    The path of a socket is short (108 bytes), and a folder for temporary files may be anywhere.

    Raises:
        OSError: there is no such place; why not in the first one.
    """
    faults: list[OSError] = []
    for place in (tempfile.gettempdir(), *_SHORT_PLACES):
        # Folders of sessions that were killed before their servers could remove them, too.
        sweep_temporary(place)
        try:
            folder = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=place))
        except OSError as exc:
            faults.append(exc)
            continue
        try:
            listener = socket.socket(socket.AF_UNIX)
            with contextlib.ExitStack() as opened:
                opened.enter_context(listener)
                listener.bind(str(folder / _SOCKET))
                listener.listen(128)
                opened.pop_all()
            return folder, listener
        except OSError as exc:
            faults.append(exc)
            shutil.rmtree(folder, ignore_errors=True)
    raise faults[0]


class ServerProcess:
    """A server that this process starts, and its lifeline.

    Args:
        module: what it executes.
        when_needed: start the process with the first connection, so that a session in which nothing has to
            run does without it.
        end_seconds: how long it may take to end before it is killed.

    Raises:
        OSError: there can be none.
    """

    def __init__(
        self,
        module: str,
        *,
        when_needed: bool = False,
        end_seconds: float = END_SECONDS,
    ) -> None:
        self._module, self._end_seconds = module, end_seconds
        self.pid = os.getpid()
        self.asked: list[Wanted] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)
        self._starting = threading.Lock()
        self._ended = False
        self.folder, self._listener = _listening()
        self._end, self._lifeline = os.pipe()
        # Its end means that no connection will come any more.
        self._over, self._open = os.pipe()
        if when_needed:
            threading.Thread(target=self._wait, name="warm-server", daemon=True).start()
            return
        try:
            self._start()
        except OSError:
            self.end()
            raise

    def _wait(self) -> None:
        select.select([self._listener.fileno(), self._over], [], [])
        # Without it who connects is turned away, and starts the run without a server.
        with contextlib.suppress(OSError):
            self._start()

    def _start(self) -> None:
        with self._starting, self._listener:
            try:
                if not self._ended:
                    self.process = subprocess.Popen(
                        command(self._listener.fileno(), self._end, self.folder, self._module),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        pass_fds=(self._listener.fileno(), self._end),
                        cwd="/",
                        env=self._environment,
                        start_new_session=True,
                    )
                    for wanted in self.asked:
                        self._ask(wanted)
            finally:
                os.close(self._end)
                os.close(self._over)

    @property
    def lives(self) -> bool:
        return self.pid == os.getpid() and (self.process is None or self.process.poll() is None)

    @property
    def waits(self) -> bool:
        """Return whether it will be started with the first connection."""
        return self.lives and self.process is None

    def expect(self, wanted: Wanted) -> None:
        with self._starting:
            self.asked.append(wanted)
            # A pipe that nobody reads yet would fill up.
            if self.process is not None:
                self._ask(wanted)

    def _ask(self, wanted: Wanted) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline, wanted.dump().encode() + b"\n")

    def end(self) -> None:
        if self.pid == os.getpid():
            with self._starting:
                self._ended = True
                os.close(self._open)
                os.close(self._lifeline)
            if self.process is not None:
                try:
                    self.process.wait(timeout=self._end_seconds)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            # It does so itself, if it was not killed.
            shutil.rmtree(self.folder, ignore_errors=True)


class OwnProcess(Part):
    """A process that this one started for a session, if any. Others find its folder in the environment.

    Attributes:
        variable: the environment variable with its folder.
        module, end_seconds: see `ServerProcess`.
        lock: held while one of its kind is started or ended, and its folder put into the environment.
        fault: why there can be none, where the system refuses one.
    """

    variable: ClassVar[str]
    module: ClassVar[str]
    end_seconds: ClassVar[float] = END_SECONDS
    lock: ClassVar[threading.Lock]

    def __init__(self) -> None:
        self.process: ServerProcess | None = None
        self.fault = ""

    def start(self, *, when_needed: bool, rouse: bool = False) -> None:
        """Start it unless there is one; `rouse`: one that waits for its first connection begins now."""
        with self.lock:
            waits = self.process is not None and self.process.waits
            # Try to connect: one that was killed a moment ago still has a process.
            if (waits and not rouse) or self._is_there():
                return
            if self.process is not None:
                self.process.end()
                self.process = None
            try:
                self.process = ServerProcess(
                    self.module, when_needed=when_needed, end_seconds=self.end_seconds
                )
            except OSError as exc:
                self.fault = str(exc)
            else:
                os.environ[self.variable] = str(self.process.folder)

    def _is_there(self) -> bool:
        with connected(os.environ.get(self.variable)) or contextlib.nullcontext() as connection:
            return connection is not None

    def disown(self) -> None:
        """Forget one that another process started and that ends with that process."""
        own = self.process
        with self.lock:
            mine = str(own.folder) if own and own.pid == os.getpid() else OFF
            if os.environ.get(self.variable, OFF) not in (OFF, mine):
                del os.environ[self.variable]

    def end(self, *, orderly: bool) -> None:
        """End it and remove it from the environment."""
        with self.lock:
            if self.process is not None:
                if os.environ.get(self.variable) == str(self.process.folder):
                    del os.environ[self.variable]
                self.process.end()


class OwnServer(OwnProcess):
    """The warm server of a session."""

    variable = SERVER
    module = "ductaflow.execution.server"
    lock = threading.Lock()

    def expect(self, wanted: Wanted) -> None:
        """Have it prepare something for a run."""
        with self.lock:
            if self.process is not None and self.process.lives:
                self.process.expect(wanted)


def command(listener: int, lifeline: int, folder: Path, module: str) -> list[str]:
    """Return the command line of a server; it inherits the two descriptors."""
    python = [sys.executable, "-X", "utf8", "-P", "-m", module]
    return [*python, str(listener), str(lifeline), str(folder)]


def inherited(arguments: Sequence[str]) -> tuple[socket.socket, int, Path]:
    """Return what a server has from its `command`: the socket that listens, the lifeline, the folder."""
    listener, lifeline, folder = arguments
    listening = socket.socket(fileno=int(listener))
    listening.setblocking(True)
    return listening, int(lifeline), Path(folder)


def is_possible(variable: str = SERVER) -> bool:
    """Return whether there may be a process of a kind: on Linux, unless it is switched off."""
    return sys.platform == "linux" and os.environ.get(variable) != OFF


def own_server(session: str | None = None) -> ServerProcess | None:
    """Return the server that this process started for a session; None if it started none."""
    return session_of(session).part(OwnServer).process


def start(wanted: Wanted | None = None, *, when_needed: bool = False, session: str | None = None) -> None:
    """Start the session's server in the background, unless there is one.

    Args:
        wanted: what to prepare besides what every run needs; only who started the server can ask.
        when_needed: start it with the first run that connects to it.
    """
    if is_possible():
        own = session_of(session).part(OwnServer)
        own.start(when_needed=when_needed)
        if wanted:
            own.expect(wanted)


def disown() -> None:
    """Forget a server that another process started and that ends with that process."""
    session_of().part(OwnServer).disown()


def connect(wanted: Wanted, session: str | None = None) -> socket.socket | str:
    """Say to the server of a session what a run wants; it is started if there is none.

    Returns:
        The connection; or why there can be none.
    """
    line = f"{wanted.dump()}\n".encode()
    if len(line) > _LONGEST_REQUEST:
        return "its environment is too large for the warm server"
    own = session_of(session).part(OwnServer)
    for _ in range(3):
        connection = connected(os.environ.get(SERVER)) if is_possible() else None
        if connection is not None:
            # If it is gone by now, its answers show it.
            with contextlib.suppress(OSError):
                connection.sendall(line)
            return connection
        # There is none yet, or it has died.
        own.start(when_needed=False)
    return f"the warm server {f'cannot start: {own.fault}' if own.fault else 'does not answer'}"


def connected(folder: str | None) -> socket.socket | None:
    """Return a connection to the socket in a folder; None if nobody is there."""
    if not folder:
        return None
    try:
        connection = socket.socket(socket.AF_UNIX)
    except OSError:
        return None
    # Somebody may have set a default time limit for sockets.
    connection.setblocking(True)
    try:
        connection.connect(str(Path(folder) / _SOCKET))
    except OSError:
        connection.close()
        return None
    return connection
