"""The session's side of the warm server: what it has to import, who starts it, how a run connects to it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ductaflow.common.decode import decode
from ductaflow.store.sessions import Part, session_of
from ductaflow.store.spec import RunSpec

_IMPORT = re.compile(r"\s*(?:import\s+(?P<names>[\w., ]+)|from\s+(?P<module>\w[\w.]*)\s+import\s)")
_SETS_ENVIRONMENT = re.compile(
    r"\s*(?:(?:os\.)?environ\s*(?:\[[^]]*\]\s*=[^=]|\.(?:setdefault|update)\()|(?:os\.)?putenv\("
    # a magic is a comment in a percent notebook
    r"|(?:#\s*)?%(?:set_)?env\s)"
)
_RUNS_FLOW = re.compile(r"""["'](?:[^"'\n]*/)?flows/(\w[\w.+-]*?)\.(?:py|md|ipynb)["']""")
#: Variables that libraries read at import. A run with another value needs a new interpreter.
_READ_AT_IMPORT = (
    *("OMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "VECLIB_", "KMP_", "NUMEXPR_", "NUMBA_", "ARROW_"),
    *("POLARS_", "TORCH_", "CUDA_", "JAX_", "XLA_", "TF_", "PYTHONPATH", "PYTHONHASHSEED", "LD_"),
)


def third_party_imports(source: Path, project_root: Path) -> list[str]:
    """Return the installed modules that a flow imports, for a build also those of its flows; in order."""
    found: dict[str, None] = {}
    for file in with_flows(source, project_root):
        for name in _imported(_lines(file)):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "ductaflow" or _is_own(top, file, project_root):
                continue
            if _is_installed(top):
                found[name] = None
    return list(found)


def why_not_warm(source: Path, environment: Mapping[str, str], server: Mapping[str, str]) -> str | None:
    """Return why a flow needs a new interpreter; None if a fork of the warm process will do.

    `server` are the variables with which the warm process imported its packages.
    """
    for name in sorted({*environment, *server}):
        if name.startswith(_READ_AT_IMPORT) and environment.get(name) != server.get(name):
            return f"{name} differs from what it was when packages were imported"
    lines = _lines(source)
    sets = next((n for n, line in enumerate(lines) if _SETS_ENVIRONMENT.match(line)), None)
    tops = (name.partition(".")[0] for name in _imported(lines[sets:]))
    if sets is not None and any(top not in sys.stdlib_module_names for top in tops):
        return f"line {sets + 1} sets an environment variable before an import"
    return None


@functools.cache
def _is_installed(top: str) -> bool:
    return importlib.util.find_spec(top) is not None


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
    for match in filter(None, map(_IMPORT.match, lines)):
        names = [match["module"]] if match["module"] else match["names"].split(",")
        yield from filter(None, (name.split(" as ")[0].strip() for name in names))


def _is_own(top: str, source: Path, project_root: Path) -> bool:
    return any(
        (folder / top).is_dir() or (folder / f"{top}.py").is_file()
        for folder in (source.parent, project_root)
    )


#: Environment variable with the folder of the session's server; `off` to have none.
SERVER = "DUCTAFLOW_SERVER"
OFF = "off"
_SOCKET = "socket"
#: File in the server's folder for its notes.
NOTES = "notes"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a server has to prepare.

    Attributes:
        modules: to import, in this order.
        sources: flows to read, absolute paths.
    """

    modules: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Path, project_root: Path) -> Wanted:
        """Return what the runs of a flow or build need."""
        sources = tuple(map(str, with_flows(source, project_root)))
        return cls(tuple(third_party_imports(source, project_root)), sources)

    def without(self, other: Wanted) -> Wanted:
        """Return what another one does not have."""
        modules, sources = set(other.modules), set(other.sources)
        return Wanted(
            tuple(name for name in self.modules if name not in modules),
            tuple(source for source in self.sources if source not in sources),
        )

    def and_also(self, other: Wanted) -> Wanted:
        return Wanted(self.modules + other.modules, self.sources + other.sources)

    def dump(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | bytes) -> Wanted:
        return decode(text, cls, where="what a server shall have ready")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A session's request to a server: a run and its environment variables."""

    spec: RunSpec
    environment: dict[str, str]

    def dump(self) -> str:
        """Return one line of JSON."""
        return f'{{"spec": {self.spec.dump()}, "environment": {json.dumps(self.environment)}}}'


#: Held while a server is started and its folder put into the environment.
_LOCK = threading.Lock()


class ServerProcess:
    """A server that this process starts, and its lifeline.

    Args:
        when_needed: start the process with the first connection, so that a session in which nothing has to
            run does without it.
    """

    def __init__(self, *, when_needed: bool = False) -> None:
        self.pid = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix="ductaflow-"))
        self.asked = Wanted()
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)
        self._starting = threading.Lock()
        self._ended = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / _SOCKET))
        self._listener.listen(128)
        self._end, self._lifeline = os.pipe()
        # Its end means that no connection will come any more.
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
        """Return whether it will be started with the first connection."""
        return self.lives and self.process is None

    def expect(self, wanted: Wanted) -> None:
        with self._starting:
            new = wanted.without(self.asked)
            self.asked = self.asked.and_also(new)
            # A pipe that nobody reads yet would fill up.
            if self.process is not None:
                self._ask(new)

    def _ask(self, wanted: Wanted) -> None:
        if wanted.modules or wanted.sources:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lifeline, wanted.dump().encode() + b"\n")

    def end(self) -> None:
        if self.pid == os.getpid():
            with self._starting:
                self._ended = True
                os.close(self._open)
                os.close(self._lifeline)
            if self.process is not None:
                self.process.wait()
            # It does so itself, if it was not killed.
            shutil.rmtree(self.folder, ignore_errors=True)


class OwnServer(Part):
    """The server that this process started for a session, if any."""

    def __init__(self) -> None:
        self.process: ServerProcess | None = None

    def expect(self, wanted: Wanted) -> None:
        """Have the server prepare what is wanted, if it lives. The caller holds `_LOCK`."""
        if self.process is not None and self.process.lives:
            self.process.expect(wanted)

    def start(self, wanted: Wanted | None, *, when_needed: bool) -> None:
        with _LOCK:
            # Try to connect: a server that was killed a moment ago still has a process.
            if not (self.process is not None and self.process.waits) and not _is_there():
                if self.process is not None:
                    self.process.end()
                self.process = ServerProcess(when_needed=when_needed)
                os.environ[SERVER] = str(self.process.folder)
            if wanted:
                self.expect(wanted)

    def end(self, *, orderly: bool) -> None:
        """End the server and remove it from the environment."""
        with _LOCK:
            if self.process is not None:
                if os.environ.get(SERVER) == str(self.process.folder):
                    del os.environ[SERVER]
                self.process.end()


def command(listener: int, lifeline: int, folder: Path, wanted: Wanted | None = None) -> list[str]:
    """Return the command line of a server; it inherits the two descriptors."""
    return [
        *(sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.execution.server"),
        *(str(listener), str(lifeline), str(folder), (wanted or Wanted()).dump()),
    ]


def is_possible() -> bool:
    """Return whether runs may be forks of a warm server: on Linux, unless it is switched off."""
    return sys.platform == "linux" and os.environ.get(SERVER) != OFF


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
        session_of(session).part(OwnServer).start(wanted, when_needed=when_needed)


def disown() -> None:
    """Forget a server that another process started and that ends with that process."""
    with _LOCK:
        own = own_server()
        if os.environ.get(SERVER, OFF) not in (OFF, own and own.pid == os.getpid() and str(own.folder)):
            del os.environ[SERVER]


def connect(
    source: Path, project_root: Path, session: str | None = None, *, preload: tuple[str, ...] = ()
) -> socket.socket | None:
    """Connect to the server of a flow's session and start it if there is none; None if there can be none.

    `preload` are modules that the server imports besides those that flows import.
    """
    if not is_possible():
        return None

    def wanted() -> Wanted:
        return Wanted(preload).and_also(Wanted.of(source, project_root))

    own = session_of(session).part(OwnServer)
    for _ in range(2):
        if own.process is not None:
            with _LOCK:
                own.expect(wanted())
        connection = _connected()
        if connection is not None:
            return connection
        # There is none yet, or it has died.
        own.start(wanted(), when_needed=False)
    return _connected()


def notes() -> list[str]:
    """Return the notes of the server of this process, such as packages that it does not keep warm."""
    own = own_server()
    if own is None:
        return []
    try:
        return (own.folder / NOTES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _is_there() -> bool:
    with _connected() or contextlib.nullcontext() as connection:
        return connection is not None


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
