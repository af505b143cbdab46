"""The one way in which tests make a tiny project, run it, and read what came of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import venv
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click.testing
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from ductaflow import FlowFailed, Project, load_stored, read_result, run_instance, run_notebook
from ductaflow.cli.app import main
from ductaflow.common.paths import REPORT_JSON, Kind, RunFolder
from ductaflow.project.settings import Settings
from ductaflow.store.folder import Claim, Owner
from ductaflow.store.result import Result, Status, write_result

#: For runs that need no page.
NO_HTML = Settings(html=False)

PARAMETERS = '# %% tags=["parameters"]\nconfig = {}\n\n'


class TinyProject:
    """A project in a folder of its own.

    `flow` and `config` add files to it; `pytest`, `cli`, `run` and `run_code` run it; `result` and `report`
    read what came of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "config" / "flows").mkdir(parents=True)
        (root / "flows").mkdir()

    def flow(self, name: str, code: str, *, kind: str = "flows") -> Path:
        """A flow whose first cell is the one tagged `parameters`; `code` begins at line 4 of the file."""
        source = self.root / kind / f"{name}.py"
        source.parent.mkdir(exist_ok=True)
        source.write_text(PARAMETERS + textwrap.dedent(code).lstrip("\n"), encoding="utf-8")
        return source

    def config(self, path: str, **values: Any) -> Path:
        """A file below `config/`."""
        file = self.root / "config" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
        return file

    def settings(self, text: str) -> Path:
        """The settings of the project, as lines of TOML."""
        file = self.root / "ductaflow.toml"
        file.write_text(text + "\n", encoding="utf-8")
        return file

    def folder(self, flow: str, instance: str) -> Path:
        return self.root / "runs" / flow / instance

    def pytest(self, *args: str, **options: Any) -> Session:
        """Run pytest in the project, in a process of its own; the options are those of `run_pytest`."""
        return run_pytest(self.root, *args, **options)

    def cli(self, *args: object) -> click.testing.Result:
        """Run a `ductaflow` command on the project, from whatever working directory."""
        return cli(*args, "--project", self.root)

    @contextlib.contextmanager
    def command(self, *args: object) -> Iterator[subprocess.Popen[bytes]]:
        """A command in a process, and a group, of its own; `stderr` is a pipe."""
        process = subprocess.Popen(
            [sys.executable, "-m", "ductaflow", *map(str, args)],
            cwd=self.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def output(self, *args: object) -> str:
        """Run a `ductaflow` command that has to succeed, and return what it prints."""
        done = self.cli(*args)
        assert 0 == done.exit_code, done.output
        return done.output

    def run(self, id: str, **options: Any) -> Result:
        """Run a stored instance through the library, without HTML."""
        project = Project.at(self.root).but(html=False)
        return run_instance(load_stored(project, id), **options)

    def run_code(self, code: str, *, flow: str = "fit", instance: str = "a", **options: Any) -> Result:
        """Run some cells as a flow through the library, without HTML; return the result, failed or not."""
        source, folder = self.flow(flow, code), self.folder(flow, instance)
        raised: Result | None = None
        try:
            run_notebook(source, **{"config": {}, "execution_dir": folder, "export_html": False, **options})
        except FlowFailed as failed:
            raised = failed.result
        result = self.result(flow, instance)
        assert raised in (None, result)
        assert (raised is not None) == (result.status is Status.ERROR)
        return result

    def result(self, flow: str, instance: str) -> Result:
        """Return the result of a run; there has to be one."""
        result = read_result(self.folder(flow, instance))
        assert result is not None
        return result


class TinyPython:
    """A virtual environment of its own that sees what the tests see; `packages` is its `site-packages`."""

    def __init__(self, root: Path) -> None:
        venv.create(root, symlinks=True)
        self.python = root / "bin" / "python"
        (self.packages,) = root.glob("lib/python*/site-packages")
        folders = [path for path in sys.path if Path(path).name == "site-packages"]
        (self.packages / "a_tests.pth").write_text(f"import site; list(map(site.addsitedir, {folders!r}))\n")

    def package(self, name: str, code: str) -> None:
        """Install a module; a name with dots lies in folders."""
        file = self.packages.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(code), encoding="utf-8")

    def run(self, folder: Path, *args: str, **environment: str) -> str:
        """Run the interpreter in a folder, outside of the session of the tests; return what it prints."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DUCTAFLOW_")}
        done = subprocess.run(
            [str(self.python), *args],
            cwd=folder,
            env={**inherited, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout


def table(*names: str, **columns: list[Any]) -> pd.DataFrame:
    """A table of scenarios with their names."""
    return pd.DataFrame({"instance": list(names), **columns})


def report(project: TinyProject) -> dict[str, Any]:
    """The twin of the status page."""
    data: dict[str, Any] = json.loads((project.root / "runs" / REPORT_JSON).read_bytes())
    return data


def a_result(
    status: str = "success", flow: str = "fit", instance: str = "a", kind: Kind = "flow", **fields: Any
) -> Result:
    """A result that no run has made."""
    return Result(flow, instance, kind, Status(status), **fields)


def stored(runs: Path, result: Result, log: str | bytes = "line\n", **config: Any) -> Result:
    """Put a result below a runs folder, with the files that a run leaves beside it."""
    return stored_at(runs / result.flow / result.instance, result, log, **config)


def stored_at(folder: Path, result: Result, log: str | bytes = "line\n", **config: Any) -> Result:
    """Put a result into a run folder, with the files that a run leaves beside it."""
    files = RunFolder(folder, result.flow)
    folder.mkdir(parents=True, exist_ok=True)
    files.log.write_bytes(log if isinstance(log, bytes) else log.encode())
    files.notebook.write_text("{}")
    if config:
        files.config.write_text(json.dumps(config))
    write_result(result, folder)
    return replace(result, folder=folder)


def cli(*args: object) -> click.testing.Result:
    """Run a `ductaflow` command in this process, from its working directory, whatever colours are forced."""
    plain = dict.fromkeys(("PY_COLORS", "FORCE_COLOR"))
    return CliRunner(env=plain).invoke(main, [str(argument) for argument in args])


# --- pytest in a process of its own ------------------------------------------------------------------------

PLAIN = 'print("hello from the flow")\n'
MAKE = """
    # %%
    import pathlib
    pathlib.Path(config["_project_root"], config["makes"]).touch()
"""
AWAIT = """
    # %%
    import pathlib, time
    awaited = pathlib.Path(config["_project_root"], config["awaits"])
    deadline = time.monotonic() + 30
    while not awaited.exists():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
"""

#: A flow that prints what it reads, and writes a file.
READ = """
# %%
from pathlib import Path
root = Path(config["_project_root"])
for key, value in config.items():
    if key.startswith("data"):
        print((root / value).read_text())
Path("x.csv").write_text(config["_project_root"])
"""


@dataclass(frozen=True)
class Session:
    """One call of pytest in a process of its own, as it ended."""

    root: Path
    code: int
    out: str

    def report(self, runs: str = "runs") -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.root / runs / "conductor_status_report.json").read_text())
        return data

    def statuses(self, runs: str = "runs") -> dict[str, str]:
        return {entry["id"]: entry["status"] for entry in self.report(runs)["instances"]}

    @property
    def ran(self) -> list[str]:
        """Titles of instances in the order in which they ran, or were collected."""
        return re.findall(r"^config/\S+?::(\S+)", self.out, re.MULTILINE)


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", *args]


def run_pytest(
    root: Path,
    *args: str,
    flag: str = "--ductaflow",
    env: dict[str, str] | None = None,
    without: tuple[str, ...] = ("PYTEST_",),
    timeout: float = 120,
) -> Session:
    """Run pytest in a folder, in a process of its own.

    Args:
        root: the working directory.
        args: arguments of pytest.
        flag: what turns the plugin on; "" leaves it off.
        env: variables added to the environment.
        without: beginnings of the names of variables that are not inherited.
        timeout: seconds.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(without)}
    done = subprocess.run(
        command(*filter(None, [flag]), *args),
        cwd=root,
        env={**inherited, "PYTHONUTF8": "1", "COLUMNS": "200", **(env or {})},
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    return Session(root, done.returncode, done.stdout + done.stderr)


def collected(root: Path, *args: str) -> list[str]:
    """The node ids that a call of pytest collects."""
    session = run_pytest(root, "--collect-only", "-q", *args)
    return [line for line in session.out.splitlines() if "::" in line]


def files_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if "__pycache__" not in path.parts}


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be written to disk from now on."""

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)


@contextlib.contextmanager
def held_elsewhere(folder: Path, runs_root: Path) -> Iterator[None]:
    """Hold a run folder as a run of another session does; nobody waits for its end."""
    owner = Owner(folder.parent.name, folder.name, "run", "another session", socket.gethostname(), 1, "2026")
    claim = Claim.take(RunFolder(folder, folder.parent.name), runs_root, owner)
    try:
        yield
    finally:
        claim.release(finished=True)


@contextlib.contextmanager
def local_cluster() -> Iterator[Any]:
    """A client of a Dask cluster in this process, which leaves no variables behind: a nanny sets some.

    Any free port serves its HTTP pages: without an address Dask takes 8787, and warns where it is in use.
    """
    distributed = pytest.importorskip("distributed")
    before = set(os.environ)
    try:
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client
    finally:
        for name in os.environ.keys() - before:
            del os.environ[name]


# --- processes ---------------------------------------------------------------------------------------------


def processes_of(text: str) -> list[psutil.Process]:
    """Processes that belong to a run in a folder whose path contains a text.

    By the description in their environment; a fork of a warm process has none that others see, but its
    working directory.
    """
    found = []
    for process in psutil.process_iter():
        try:
            named = text in process.environ().get("DUCTAFLOW_RUN", "") or text in process.cwd()
            if named and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still does something: a zombie waits for whoever adopted it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(true: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait for an event that other processes make; fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def end_by_two_ctrl_c(process: subprocess.Popen[bytes], is_stopping: Callable[[], object]) -> None:
    """Press Ctrl-C, and once more while the command stops its runs; the second time it ends at once."""
    process.send_signal(signal.SIGINT)
    wait_until(is_stopping)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert b"Interrupted." == err.splitlines()[-1]
    assert 130 == process.returncode


def page_makers(session: psutil.Process) -> list[psutil.Process]:
    """The page makers of a session that are there."""
    found = []
    for process in session.children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "ductaflow.execution.page_maker" in process.cmdline():
                found.append(process)
    return found


def processes_beside(pid: int, folder: Path) -> list[psutil.Process]:
    """The processes of runs below a folder but one, their session; there have to be some."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found.extend(process for process in processes_of(str(folder)) if process.pid != pid)
        return bool(found)

    wait_until(look)
    return found


# --- the page ----------------------------------------------------------------------------------------------

_DATA = re.compile(r'<script type="([^"]+)" id="([^"]+)">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True)
class PageData:
    """What a page shows: its head and its rows, and everything else about an instance by `details`."""

    head: dict[str, Any]
    rows: list[dict[str, Any]]
    blocks: dict[str, list[dict[str, Any]]]

    def row(self, id: str) -> dict[str, Any]:
        return next(row for row in self.rows if row["id"] == id)

    def details(self, id: str) -> dict[str, Any]:
        block, place = self.row(id)["at"]
        return self.blocks[f"pack-{block}"][place]


def page_data(html: str) -> PageData:
    texts = {name: text for _, name, text in _DATA.findall(html)}
    blocks = {
        name: json.loads(zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS))
        for name, text in texts.items()
        if name.startswith("pack-")
    }
    head, rows = json.loads(texts["head"]), json.loads(texts["rows"])
    for row in rows:
        if "parameters" in row:
            shape, *values = row["parameters"]
            row["parameters"] = dict(zip(head["shapes"][shape], values, strict=True))
    return PageData(head, rows, blocks)


#: Durations, and how people read them. The page's script says the same.
DURATIONS = [
    (0.001, "0.00 s"),
    (0.125, "0.13 s"),
    (0.13, "0.13 s"),
    (9.994, "9.99 s"),
    (9.999, "10.0 s"),
    (10.25, "10.3 s"),
    (59.94, "59.9 s"),
    (59.96, "1 min 00 s"),
    (60.4, "1 min 00 s"),
    (90.5, "1 min 31 s"),
    (125, "2 min 05 s"),
    (3599.4, "59 min 59 s"),
    (3599.6, "1 h 00 min"),
    (11220, "3 h 07 min"),
    (360000, "100 h 00 min"),
]
