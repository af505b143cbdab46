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
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from support import is_alive

from ductaflow.common.paths import TEMP_PREFIX
from ductaflow.store.folder import unfinished
from ductaflow.store.result import read_result

HOOK = Path(__file__).parent / "hook"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the warm server, and /proc")

OLD, NEW, NEXT, FAILS = "1", "22", "333", "4444"
#: Seconds within which everything has to be gone that a session started.
GONE_SECONDS = 5.0

FLOW = f"""# %% tags=["parameters"]
config = {{}}

# %%
import os
from pathlib import Path

Path("data.csv").write_text("n\\n" + str(config["n"]))
os.makedirs("plots", exist_ok=True)
Path("plots/figure.svg").write_text(str(config["n"]) * 1000)

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
DRIVER = """
import json, sys
from ductaflow.common.errors import DuctaflowError
from ductaflow.session.runner import run_instance
for line in sys.stdin:
    try:
        result = run_instance(line.strip(), check=False, session_id="driver")
        answer = {"status": result.status.value, "cause": result.cause, "message": result.message}
    except (DuctaflowError, OSError) as exc:
        answer = {"status": "refused", "cause": None, "message": f"{type(exc).__name__}: {exc}"}
    print("@" + json.dumps(answer), flush=True)
"""


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
    faults: list[str] = field(default_factory=list)

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
            "PYTHONPATH": str(HOOK),
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
            assert read_result(folder) is not None
        except (OSError, AssertionError):
            return None
        return n

    def is_good(self, folder: Path) -> bool:
        result = read_result(folder)
        return result is not None and result.status.is_good


#: What the flow and the build write, besides our own files.
NAMES = {"prep/a": ("data.csv",), "all/a": ("build.txt",)}


class Driver:
    """A session that lives for many faults: it runs one instance after another."""

    def __init__(self, place: Place, engine: str) -> None:
        server = {"DUCTAFLOW_SERVER": "off"} if engine == "fresh" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            cwd=place.project,
            env=place.environment(**server),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, instance: str) -> dict[str, Any]:
        stdin, stdout = self._pipes()
        stdin.write(instance + "\n")
        stdin.flush()
        for line in stdout:
            if line.startswith("@"):
                answer: dict[str, Any] = json.loads(line[1:])
                return answer
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
def place(tmp_path: Path) -> Place:
    return Place.made(tmp_path)


def wait_for_none(left: Callable[[], Sequence[object]], seconds: float = GONE_SECONDS) -> Sequence[object]:
    """Wait until nothing is left; return what still is after so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := left()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@dataclass
class Campaign:
    """Faults in the runs of one instance in one session."""

    place: Place
    instance: str
    engine: str = "warm"
    tried: int = 0
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.driver = Driver(self.place, self.engine)
        self.run(OLD)
        self.outside = self.state_outside()
        self.session = {process.pid for process in self.place.processes()}
        shutil.copytree(self.place.runs, self.place.root / "before", symlinks=True)

    def run(self, n: str) -> dict[str, Any]:
        self.place.write_configs(n)
        return self.driver.run(self.instance)

    def count(self, role: str, process: int = 1) -> list[str]:
        """Return the kinds of the events that a process of a role has in a run."""
        self.restore()
        self.place.plan(count=role)
        self.run(NEW)
        return [kind for _, kind, _ in self.place.events(role, process)]

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

    def check(self, fault: Fault) -> None:
        """Let a fault happen, run once more, and note each promise that was not kept."""
        self.tried += 1
        self.restore()
        self.place.plan(fault)
        answer = self.run(NEW)
        happened = self.place.happened
        wrong = list(self.after_fault(answer))
        following = NEXT if fault.at % 2 else FAILS
        was_new = self.is_complete(self.folder, NEW)
        self.place.plan()
        answer = self.run(following)
        wrong += self.after_next(answer, following, NEW if was_new else OLD)
        if wrong:
            self.broken += [f"{fault} ({happened}): {line}" for line in wrong]

    @property
    def folder(self) -> Path:
        return self.place.runs / self.instance

    @property
    def previous(self) -> Path:
        return self.place.runs / ".ductaflow/previous" / self.instance

    def is_complete(self, folder: Path, n: str) -> bool:
        is_version = self.place.version_in(folder, NAMES[self.instance]) == n
        return is_version and self.place.is_good(folder)

    def after_fault(self, answer: dict[str, Any]) -> Iterator[str]:
        if answer["status"] in ("success", "warning") and not self.is_complete(self.folder, NEW):
            yield f"false green: {answer}"
        yield from self.whole_files()
        if left := wait_for_none(self.others):
            yield f"processes left: {left}"

    def after_next(self, answer: dict[str, Any], n: str, good: str) -> Iterator[str]:
        expected = "error" if n == FAILS else "warning"
        if answer["status"] != expected or (n == FAILS and answer["cause"] != "exception"):
            yield f"the next run is not right: {answer}"
        if n != FAILS and not self.is_complete(self.folder, n):
            yield "the outputs of the next run are not whole"
        if not self.is_complete(self.previous, good):
            yield f"the last good version ({good}) is nowhere whole"
        yield from self.whole_files()
        if left := wait_for_none(self.others):
            yield f"processes left: {left}"
        admin = self.place.runs / ".ductaflow/running"
        if left := wait_for_none(lambda: list(admin.glob("*"))):
            yield f"left in running: {[path.name for path in admin.glob('*')]}"
        if temporary := [str(path) for path in self.place.root.rglob(f"{TEMP_PREFIX}*")]:
            yield f"temporary files left: {temporary}"
        if markers := unfinished(self.place.runs):
            yield f"unfinished: {markers}"
        if self.state_outside() != self.outside:
            yield "something outside of the runs has changed"

    def others(self) -> list[psutil.Process]:
        return [process for process in self.place.processes() if process.pid not in self.session]

    def whole_files(self) -> Iterator[str]:
        for path in self.place.runs.rglob("*.json"):
            if path.is_file() and not path.name.startswith(TEMP_PREFIX):
                try:
                    json.loads(path.read_bytes())
                except ValueError:
                    yield f"{path} is torn"


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
    campaign = Campaign(place, instance, engine)
    try:
        kinds = campaign.count(role, process or 1)
        assert len(kinds) > 10, "the events are not seen"
        for at, kind in enumerate(kinds, start=1):
            happens = what if what == "SIGKILL" else error_for(kind, at)
            campaign.check(Fault(role, at, happens, process))
    finally:
        campaign.driver.end()
    kept = campaign.tried - len({line.partition(" (")[0] for line in campaign.broken})
    print(f"{instance}, {engine}, {what} in {role} {process}: tried {campaign.tried}, as promised {kept}")
    assert not campaign.broken, "\n".join(campaign.broken)
