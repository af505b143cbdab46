"""What a flow imports, read from its source: for the warm server, which imports it before the flow does."""

from __future__ import annotations

import atexit
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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_IMPORT = re.compile(r"\s*(?:import\s+(?P<names>[\w., ]+)|from\s+(?P<module>\w[\w.]*)\s+import\s)")


_SETS_ENVIRONMENT = re.compile(
    r"\s*(?:(?:os\.)?environ\s*(?:\[[^]]*\]\s*=[^=]|\.(?:setdefault|update)\()|(?:os\.)?putenv\("
    # a magic is a comment in a percent notebook
    r"|(?:#\s*)?%(?:set_)?env\s)"
)


_RUNS_FLOW = re.compile(r"""["'](?:[^"'\n]*/)?flows/(\w[\w.+-]*?)\.(?:py|md|ipynb)["']""")


#: Variables that libraries read when they are imported; a value that differs needs an interpreter of its own.
_READ_AT_IMPORT = (
    *("OMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "VECLIB_", "KMP_", "NUMEXPR_", "NUMBA_", "ARROW_"),
    *("POLARS_", "TORCH_", "CUDA_", "JAX_", "XLA_", "TF_", "PYTHONPATH", "PYTHONHASHSEED", "LD_"),
)


def third_party_imports(source: Path, project_root: Path) -> list[str]:
    """Modules of installed packages that a flow imports, of a build those of its flows too; in order.

    Modules of the project itself and of the standard library are left out, as is what is not installed.
    """
    found: dict[str, None] = {}
    for file in with_flows(source, project_root):
        for name in _imported(file):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "ductaflow" or _is_own(top, file, project_root):
                continue
            if _is_installed(top):
                found[name] = None
    return list(found)


def why_not_warm(source: Path, environment: Mapping[str, str], server: Mapping[str, str]) -> str | None:
    """Why a flow needs an interpreter of its own, None where a fork of a warm process does.

    Args:
        source: the flow.
        environment: the variables of the session that asks.
        server: the variables with which the warm process has imported its packages.
    """
    for name in sorted({*environment, *server}):
        if name.startswith(_READ_AT_IMPORT) and environment.get(name) != server.get(name):
            return f"{name} differs from what it was when packages were imported"
    lines = _lines(source)
    sets = next((n for n, line in enumerate(lines) if _SETS_ENVIRONMENT.match(line)), None)
    if sets is not None and any(_is_foreign(line) for line in lines[sets:]):
        return f"line {sets + 1} sets an environment variable before an import"
    return None


@functools.cache
def _is_installed(top: str) -> bool:
    return importlib.util.find_spec(top) is not None


def _lines(source: Path) -> list[str]:
    try:
        return source.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # that the flow cannot be read is told by its run
        return []


def with_flows(source: Path, project_root: Path) -> Iterator[Path]:
    """A notebook, and the flows that its text names."""
    yield source
    for name in dict.fromkeys(_RUNS_FLOW.findall("\n".join(_lines(source)))):
        flow = project_root / "flows" / f"{name}.py"
        if flow.is_file() and flow != source:
            yield flow


def _imported(source: Path) -> Iterator[str]:
    for line in _lines(source):
        match = _IMPORT.match(line)
        if match is None:
            continue
        if match["module"]:
            yield match["module"]
            continue
        for part in match["names"].split(","):
            name = part.split(" as ")[0].strip()
            if name:
                yield name


def _is_foreign(line: str) -> bool:
    match = _IMPORT.match(line)
    name = (match["module"] or match["names"]).strip() if match else ""
    top = re.split(r"\W", name)[0]
    return bool(top) and top not in sys.stdlib_module_names


def _is_own(top: str, source: Path, project_root: Path) -> bool:
    return any(
        (folder / top).is_dir() or (folder / f"{top}.py").is_file()
        for folder in (source.parent, project_root)
    )


#: Environment variable that names the folder of the session's server; `off` where there is to be none.
SERVER = "DUCTAFLOW_SERVER"


OFF = "off"


_SOCKET = "socket"


#: File in the server's folder for what it has to say.
NOTES = "notes"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a server shall have ready.

    Attributes:
        modules: to import, in this order; sources: flows to read, absolute paths.
    """

    modules: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Path, project_root: Path) -> Wanted:
        """What the runs of a flow or build need."""
        sources = tuple(map(str, with_flows(source, project_root)))
        return cls(tuple(third_party_imports(source, project_root)), sources)

    def without(self, other: Wanted) -> Wanted:
        """What is not in another one."""
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
        data = json.loads(text)
        return cls(tuple(data["modules"]), tuple(data["sources"]))


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
        self.asked = Wanted()
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

    def expect(self, wanted: Wanted) -> None:
        with self._starting:
            new = wanted.without(self.asked)
            self.asked = self.asked.and_also(new)
            # A pipe that nobody reads yet takes so much and no more.
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
            # it does so itself, if it was not killed
            shutil.rmtree(self.folder, ignore_errors=True)


def command(listener: int, lifeline: int, folder: Path, wanted: Wanted | None = None) -> list[str]:
    """The command line of a server; the two descriptors are inherited."""
    return [
        *(sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.execution.server"),
        *(str(listener), str(lifeline), str(folder), (wanted or Wanted()).dump()),
    ]


def is_possible() -> bool:
    """Whether runs of this process may be forks of a warm server: on Linux, unless it is switched off."""
    return sys.platform == "linux" and os.environ.get(SERVER) != OFF


def start(wanted: Wanted | None = None, *, when_needed: bool = False) -> None:
    """Start the session's server in the background, where there is none yet.

    Args:
        wanted: what it shall have ready besides what every run needs; only who started it can ask for more.
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
        if wanted and _own is not None and _own.lives:
            _own.expect(wanted)


def disown() -> None:
    """Forget a server that some other process has started, and that ends with that one."""
    with _lock:
        own = _own is not None and _own.pid == os.getpid() and str(_own.folder)
        if os.environ.get(SERVER, OFF) not in (OFF, own):
            del os.environ[SERVER]


def connect(source: Path, project_root: Path) -> socket.socket | None:
    """A connection to the session's server, which is started where there is none; None if there can be none.

    Args:
        source: the flow that shall run, absolute; project_root: the project that it belongs to.
    """
    if not is_possible():
        return None
    for _ in range(2):
        if _own is not None and _own.lives:
            with _lock:
                _own.expect(Wanted.of(source, project_root))
        connection = _connected()
        if connection is not None:
            return connection
        # There is none yet, or it has died: one is started in its place.
        start(Wanted.of(source, project_root))
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
