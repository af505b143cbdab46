"""Kills and errors at every event of every process of a session: what design promises holds afterwards.

A hook in each process (`hook/sitecustomize.py`) kills it with SIGKILL, or lets a call fail, at its N-th
event: a file opened, written, flushed, renamed or removed, a folder made or listed, a lock, a fork, a
connection. A run without a fault counts the events of each role; then N goes from the first to the last.

Before each fault there is a good run (`OLD`); the run with the fault makes `NEW` outputs; after it comes
another run, good (`NEXT`) or failing by turns.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from support import is_alive

from ductaflow.common.paths import REPORT_JSON, TEMP_PREFIX
from ductaflow.store.folder import unfinished
from ductaflow.store.result import read_result

HOOK = Path(__file__).parent / "hook"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the warm server, and /proc")

OLD, NEW, NEXT, FAILS = "1", "22", "333", "4444"
#: Seconds within which everything has to be gone that a session started; more on a machine that is busy.
GONE_SECONDS = float(os.environ.get("FAULTS_GONE", "5"))

FLOW = f"""# %% tags=["parameters"]
config = {{}}

# %%
import os
from pathlib import Path

Path("data.csv").write_text("n\\n" + str(config["n"]))
os.makedirs("plots/empty")
Path("plots/figure.svg").write_text(str(config["n"]) * 1000)
os.symlink("data.csv", "latest")

# %%
assert config["n"] != {FAILS}
print("Warning: a line to keep")
"""
BUILD = """# %% tags=["parameters"]
config = {}

# %%
from pathlib import Path
from ductaflow import run_step_flow

Path("build.txt").write_text(str(config["n"]))
run_step_flow("flows/prep.py", "prep", "inner", {"n": config["n"]})
"""
#: Runs instances in one long session, each that a line of its input names.
RUNS = """
import json, sys
from ductaflow.common.errors import DuctaflowError
from ductaflow.session.runner import run_instance
for line in sys.stdin:
    try:
        result = run_instance(line.strip(), check=False, session_id="driver")
        answer = result.status.value, f"{result.cause} {result.message}"
    except (DuctaflowError, OSError) as exc:
        answer = "refused", f"{type(exc).__name__}: {exc}"
    print("@" + json.dumps(answer), flush=True)
"""
#: Starts sessions as forks, and answers with their exit codes; what they print goes to a file.
SESSIONS = """
import json, os, sys, runpy
import pytest, xdist.plugin, pytest_ductaflow.controller, ductaflow.cli.app, pandas, sitecustomize
from ductaflow.cli.app import main
from ductaflow.session.conductor import conduct
FLAGS = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--ductaflow"]
for line in sys.stdin:
    program, *arguments = json.loads(line)
    pid = os.fork()
    if not pid:
        os.setsid()
        output = os.open(os.path.join("..", "tmp.out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sitecustomize.faults.role = "session"
        sitecustomize.faults.begin()
        if program == "pytest":
            sys.exit(pytest.main([*FLAGS, *arguments]))
        if program == "conduct":
            row = pandas.DataFrame({"instance": ["a"], "n": [int(arguments[0])]})
            tables = [conduct(row, name, jobs=2, progress=False) for name in ("prep", "all")]
            sys.exit(int(any("error" in set(table.status) for table in tables)))
        main(["run", "prep/a", "all/a"])
    print("@" + json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""
#: A campaign may take each so many-th event, from one on: `FAULTS_EVERY=10 FAULTS_OFFSET=3`.
EVERY = int(os.environ.get("FAULTS_EVERY", "1"))
OFFSET = int(os.environ.get("FAULTS_OFFSET", "0"))
GOOD = ("success", "warning")
#: What only a process of a role works on.
MARKS = {"supervisor": ".lock'", "child": ".ipynb'"}
#: What flow and build write, besides our own files.
NAMES = {"prep": ("data.csv",), "all": ("build.txt",)}


@dataclass(frozen=True)
class Fault:
    """What happens: in the `process`-th process of a role, at its `at`-th event.

    Attributes:
        process: 0 for each, also for one that is started in place of the first.
        what: `SIGKILL`, or the name of an error; after ENOSPC all that writes fails in that process.
    """

    role: str
    at: int
    what: str
    process: int = 1

    def __str__(self) -> str:
        return f"{self.what} in {self.role} {self.process} at event {self.at}"


@dataclass
class Place:
    """A project for faults, with the runs that went before."""

    root: Path

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def runs(self) -> Path:
        return self.project / "runs"

    @classmethod
    def made(cls, root: Path) -> Place:
        place = cls(root)
        for folder in ("project/flows", "project/builds", "project/config/flows/prep", "tmp", "faults"):
            (root / folder).mkdir(parents=True)
        (place.project / "config/builds/all").mkdir(parents=True)
        (place.project / "ductaflow.toml").write_text("html = false\n")
        (place.project / "flows/prep.py").write_text(FLOW)
        (place.project / "builds/all.py").write_text(BUILD)
        place.write_configs(OLD)
        return place

    def write_configs(self, n: str) -> None:
        for file in ("flows/prep/a.json", "builds/all/a.json"):
            (self.project / "config" / file).write_text(f'{{"n": {n}}}')

    def environment(self, **more: str) -> dict[str, str]:
        left_out = ("PYTEST_", "DUCTAFLOW", "COV_", "FAULTS")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONUTF8": "1",
            "FAULTS": str(self.root / "faults"),
            "TMPDIR": str(self.root / "tmp"),
            **more,
        }

    def plan(self, fault: Fault | None = None, *, count: str = "") -> None:
        """Say what will happen, or whose events are counted; nothing without either."""
        shutil.rmtree(self.root / "faults")
        (self.root / "faults").mkdir()
        plan: dict[str, object] = {}
        if fault:
            plan = {"role": fault.role, "process": fault.process, "at": fault.at, "what": fault.what}
        elif count:
            plan = {"role": count, "count": True}
        (self.root / "faults/plan.json").write_text(json.dumps(plan))

    def events(self, role: str, process: int = 1) -> list[list[Any]]:
        file = self.root / f"faults/{role}.{process}.events"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def happened(self) -> str:
        file = self.root / "faults/happened"
        return file.read_text().strip() if file.exists() else ""

    # --- what is asserted -------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """What this place has started, and its forks, but zombies."""
        mark = f"FAULTS={self.root / 'faults'}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(psutil.Process(int(entry.name)))
            except (OSError, psutil.Error):
                continue
        return [process for process in found if is_alive(process)]

    def version_in(self, folder: Path, names: Sequence[str]) -> str | None:
        """Return the `n` of which a folder has all files whole; None if something lacks."""
        try:
            n = (folder / names[0]).read_text().removeprefix("n\n")
            if names[0] == "data.csv":
                assert str(n) * 1000 == (folder / "plots/figure.svg").read_text()
                assert "data.csv" == os.readlink(folder / "latest")
                assert (folder / "plots/empty").is_dir()
            assert read_result(folder) is not None
        except (OSError, AssertionError):
            return None
        return n


class Driver:
    """A process that runs instances, or starts whole sessions as forks of it, one after another."""

    def __init__(self, place: Place, code: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=place.project,
            env=place.environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def ask(self, line: str) -> Any:
        """Send a line, and return the answer to it."""
        stdin, stdout = self._pipes()
        stdin.write(line + "\n")
        stdin.flush()
        for answer in stdout:
            if answer.startswith("@"):
                return json.loads(answer[1:])
        raise AssertionError(f"the session has ended with {self._process.wait()}")

    def end(self) -> None:
        for pipe in self._pipes():
            pipe.close()
        self._process.wait(timeout=30)

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout


@pytest.fixture
def place() -> Iterator[Place]:
    # The socket of a server needs a short path, which a test's own folder has not.
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        yield Place.made(Path(folder))


def wait_for_none(left: Callable[[], Sequence[object]], seconds: float = GONE_SECONDS) -> Sequence[object]:
    """Wait until nothing is left; return what still is after so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


class Campaign:
    """Faults in runs of some instances, one after another; each run is the next one of the same instances.

    `run` gives the statuses of the instances by their ids, as far as somebody was told of them.
    """

    def __init__(self, place: Place, *instances: str) -> None:
        self.place = place
        self.instances = instances
        self.tried = 0
        self.broken: list[str] = []
        self.said = ""
        self.run(OLD)
        self.outside = self.state_outside()
        self.staying = {process.pid for process in place.processes()}
        shutil.copytree(place.runs, place.root / "before", symlinks=True)

    def run(self, n: str) -> dict[str, str]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def count(self, role: str, process: int = 1) -> list[str]:
        """Return the kinds of the events that a process of a role has in a run."""
        self.restore()
        self.place.plan(count=role)
        self.run(NEW)
        events = self.place.events(role, process)
        # The hook tells forks apart by their descent alone.
        assert MARKS.get(role, "") in str(events), f"this is no {role}"
        return [kind for _, kind, _ in events]

    def restore(self) -> None:
        shutil.rmtree(self.place.runs)
        shutil.copytree(self.place.root / "before", self.place.runs, symlinks=True)

    def state_outside(self) -> dict[str, bytes]:
        project = self.place.project
        inside = (project / "runs", project / "config")
        return {
            str(path): path.read_bytes()
            for path in project.rglob("*")
            if path.is_file() and not any(path.is_relative_to(folder) for folder in inside)
        }

    def check_all(self, role: str, process: int, what: str, every: int = EVERY) -> None:
        """Let faults happen at the events of a process, of which `every` says how many are passed by.

        Of a process that has few, such as a branch of the server, more are tried.
        """
        kinds = self.count(role, process or 1)
        assert len(kinds) > 3, "the events are not seen"
        every = min(every, max(len(kinds) // 6, 1))
        for at in range(1 + OFFSET % every, len(kinds) + 1, every):
            happens = what if what == "SIGKILL" else error_for(kinds[at - 1], at)
            self.check(Fault(role, at, happens, process))

    def judge(self) -> None:
        """Fail with each promise that was not kept."""
        kept = self.tried - len({line.partition(" (")[0] for line in self.broken})
        print(f"tried {self.tried}, as promised {kept}")
        assert not self.broken, "\n".join(self.broken)

    def check(self, fault: Fault) -> None:
        """Let a fault happen, run once more, and note each promise that was not kept."""
        self.tried += 1
        self.restore()
        self.place.plan(fault)
        statuses = self.run(NEW)
        happened = self.place.happened
        wrong = list(self.after_fault(statuses))
        following = NEXT if fault.at % 2 else FAILS
        good = {id: NEW if self.is_complete(self.folder(id), NEW) else OLD for id in self.instances}
        self.place.plan()
        wrong += self.after_next(self.run(following), following, good)
        for line in wrong:
            self.broken.append(f"{fault} ({happened}): {line}".replace(str(self.place.root), ""))
            print(self.broken[-1])

    def folder(self, instance: str) -> Path:
        return self.place.runs / instance

    def is_complete(self, folder: Path, n: str) -> bool:
        """Whether a folder has all that a good run of a version leaves."""
        is_version = self.place.version_in(folder, NAMES[folder.parent.name]) == n
        result = read_result(folder) if is_version else None
        return result is not None and result.status.is_good

    def after_fault(self, statuses: dict[str, str]) -> Iterator[str]:
        for id in self.instances:
            if statuses.get(id) in GOOD and not self.is_complete(self.folder(id), NEW):
                yield f"{id}: false green"
        yield from self.after_any()

    def after_next(self, statuses: dict[str, str], n: str, good: dict[str, str]) -> Iterator[str]:
        for id in self.instances:
            if statuses.get(id) != ("error" if n == FAILS else "warning"):
                yield f"{id}: the next run is not right: {statuses.get(id)}\n{self.said}"
            if n != FAILS and not self.is_complete(self.folder(id), n):
                yield f"{id}: the outputs of the next run are not whole"
            if not self.is_complete(self.place.runs / ".ductaflow/previous" / id, good[id]):
                yield f"{id}: the last good version ({good[id]}) is nowhere whole"
        yield from self.after_any()
        admin = self.place.runs / ".ductaflow/running"
        if wait_for_none(lambda: list(admin.glob("*"))):
            yield f"left in running: {[path.name for path in admin.glob('*')]}"
        if temporary := [str(path) for path in self.place.project.rglob(f"{TEMP_PREFIX}*")]:
            yield f"temporary files left: {temporary}"
        if markers := unfinished(self.place.runs):
            yield f"unfinished: {markers}"
        if self.state_outside() != self.outside:
            yield "something outside of the runs has changed"

    def after_any(self) -> Iterator[str]:
        """Yield what is never right: torn files, processes that are left."""
        for path in self.place.runs.rglob("*.json"):
            if path.is_file() and not path.name.startswith(TEMP_PREFIX):
                try:
                    json.loads(path.read_bytes())
                except ValueError:
                    yield f"{path} is torn"
        if left := wait_for_none(self.others):
            yield f"processes left: {left}"

    def others(self) -> list[psutil.Process]:
        """What was not there before, but supervisors that wait for the next run in place of killed ones."""
        others = [process for process in self.place.processes() if process.pid not in self.staying]
        return [process for process in others if not self.is_at_rest(process)]

    def is_at_rest(self, process: psutil.Process) -> bool:
        try:
            is_of_server = process.ppid() in self.staying
            return is_of_server and process.num_threads() == 1 and not process.children()
        except psutil.NoSuchProcess:
            return True


class Runs(Campaign):
    """Faults in the runs of one instance in a session that lives for all of them."""

    def __init__(self, place: Place, instance: str, engine: str) -> None:
        server = {"DUCTAFLOW_SERVER": "off"} if engine == "fresh" else {}
        self.driver = Driver(place, RUNS, **server)
        super().__init__(place, instance)

    def run(self, n: str) -> dict[str, str]:
        self.place.write_configs(n)
        status, self.said = self.driver.ask(self.instances[0])
        return {self.instances[0]: status}

    def close(self) -> None:
        self.driver.end()


class Sessions(Campaign):
    """Faults in whole sessions, each a fork of one process that has imported what they need."""

    def __init__(self, place: Place, *arguments: str) -> None:
        self.arguments = arguments
        self.driver = Driver(place, SESSIONS, FAULTS_ROLE="")
        self.code = 0
        super().__init__(place, "prep/a", "all/a")

    def restore(self) -> None:
        super().restore()
        # What an earlier fault left is no news of this one.
        shutil.rmtree(self.place.root / "tmp")
        (self.place.root / "tmp").mkdir()

    def run(self, n: str) -> dict[str, str]:
        self.place.write_configs(n)
        twin = self.place.runs / REPORT_JSON
        before = twin.stat().st_mtime_ns if twin.exists() else 0
        more = [n] if self.arguments[0] == "conduct" else []
        self.code = self.driver.ask(json.dumps([*self.arguments, *more]))
        self.said = (self.place.root / "tmp.out").read_text(errors="replace")
        if self.arguments[0] != "pytest" and self.code in (0, 1):
            results = {id: read_result(self.folder(id)) for id in self.instances}
            return {id: result.status.value for id, result in results.items() if result}
        if not twin.exists() or twin.stat().st_mtime_ns == before:
            return {}
        entries = json.loads(twin.read_bytes())["instances"]
        return {entry["id"]: entry["status"] for entry in entries if not entry["earlier"]}

    def after_fault(self, statuses: dict[str, str]) -> Iterator[str]:
        yield from super().after_fault(statuses if self.arguments[0] == "pytest" else {})
        if self.code == 0 and not all(self.is_complete(self.folder(id), NEW) for id in self.instances):
            yield f"exit code 0, and not all is there\n{self.said}"
        # A worker that dies before it answers at all is too early for pytest-xdist.
        if "INTERNALERROR" in self.said and "in setup_nodes" not in self.said:
            yield self.said

    def after_next(self, statuses: dict[str, str], n: str, good: dict[str, str]) -> Iterator[str]:
        yield from super().after_next(statuses, n, good)
        if self.code != (1 if n == FAILS else 0):
            yield f"exit code {self.code}\n{self.said}"
        if left := list((self.place.root / "tmp").glob("*ductaflow*")):
            yield f"left in the folder for temporary files: {left}"

    def close(self) -> None:
        self.driver.end()


def error_for(kind: str, number: int) -> str:
    """Return an error that a call of this kind may give, another one for each number."""
    possible = {
        "os.fork": ("EAGAIN",),
        "subprocess.Popen": ("EAGAIN", "EMFILE"),
        "socket.connect": ("EMFILE", "EACCES"),
        "read": ("EIO", "EMFILE", "EACCES"),
        "os.listdir": ("EIO", "EMFILE", "EACCES"),
        "os.scandir": ("EIO", "EMFILE", "EACCES"),
        "data": ("ENOSPC", "EIO"),
        "fsync": ("ENOSPC", "EIO"),
    }.get(kind, ("ENOSPC", "EIO", "EACCES"))
    return possible[number % len(possible)]


@pytest.mark.parametrize("what", ["SIGKILL", "error"])
def test_some_faults_of_a_run(place: Place, what: str) -> None:
    """A short selection of the campaign of runs."""
    with closing(Runs(place, "prep/a", "warm")) as campaign:
        campaign.check_all("supervisor", 0, what, every=10)
        campaign.check_all("child", 1, what, every=15)
        campaign.judge()


@pytest.mark.parametrize(("what", "event"), [("SIGKILL", "socket.connect"), ("ENOSPC", "fsync")])
def test_some_faults_of_a_session(place: Place, what: str, event: str) -> None:
    """A short selection of the campaign of sessions: the last event of a kind."""
    with closing(Sessions(place, "pytest")) as campaign:
        kinds = campaign.count("session")
        campaign.check(Fault("session", len(kinds) - kinds[::-1].index(event), what))
        campaign.judge()


@pytest.mark.campaign
@pytest.mark.parametrize("what", ["SIGKILL", "error"])
@pytest.mark.parametrize(
    ("instance", "engine", "role", "process"),
    [
        ("prep/a", "warm", "supervisor", 0),
        ("prep/a", "warm", "child", 1),
        ("prep/a", "fresh", "supervisor", 0),
        ("prep/a", "fresh", "child", 1),
        ("all/a", "warm", "supervisor", 1),
        ("all/a", "warm", "supervisor", 2),
        ("all/a", "warm", "child", 1),
        ("all/a", "warm", "child", 2),
    ],
)
def test_a_fault_at_each_event_of_a_run(
    place: Place, instance: str, engine: str, role: str, process: int, what: str
) -> None:
    """Whatever happens to a process of a run, and when: no false success, nothing lost, nothing left."""
    with closing(Runs(place, instance, engine)) as campaign:
        campaign.check_all(role, process, what)
        campaign.judge()


@pytest.mark.campaign
@pytest.mark.parametrize("what", ["SIGKILL", "error"])
@pytest.mark.parametrize(
    ("command", "role", "process"),
    [
        ("pytest", "session", 1),
        ("pytest", "server", 1),
        ("pytest", "branch", 1),
        ("pytest -n 2", "session", 1),
        ("pytest -n 2", "worker", 1),
        ("ductaflow", "session", 1),
        ("conduct", "session", 1),
    ],
)
def test_a_fault_at_each_event_of_a_session(
    place: Place, command: str, role: str, process: int, what: str
) -> None:
    """Whatever happens to a session, its workers and its server: the next session is right."""
    with closing(Sessions(place, *command.split())) as campaign:
        campaign.check_all(role, process, what)
        campaign.judge()
