"""Conducting on a Dask cluster: real schedulers and workers on this machine, some of them lost in mid-run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from support import TinyProject, cli, end_by_two_ctrl_c, processes_of, report, table, wait_until

from ductaflow.common.errors import ConfigError, DuctaflowError
from ductaflow.common.paths import CACHE_DIR, CONTEXT, REPORT_JSON, RunFolder
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session import dask as dask_module
from ductaflow.session import dask_client
from ductaflow.session.conductor import conduct
from ductaflow.session.dask import UnfitWorker
from ductaflow.session.decide import NOT_STARTED, Outcome
from ductaflow.store.folder import Claim, Owner, is_running
from ductaflow.store.result import Result, Status, read_result, write_result
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import UNWAITED

distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.dask,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

#: Writes where it ran; fails on request.
FLOW = """
# %%
import os
assert config.get("x") != 2, "two"
open("server.txt", "w").write(os.environ["DUCTAFLOW_SERVER"])
read = [open(f"{config['_project_root']}/{path}").read() for path in config.get("read") or ()]
open("out.txt", "w").write(str(config["x"]) + "".join(read))
"""
#: Notes that it has started, and stays if it is told to for this start.
STAYS = """
# %%
import os, signal, time
from pathlib import Path
started = Path(config["started"])
start = f"{config['name']}-{sum(p.name.startswith(config['name']) for p in started.iterdir())}"
(started / start).touch()
if start in config["stays"]:
    # as a flow in C code does: it takes a second to end; and notes that it should
    signal.signal(signal.SIGINT, lambda *_: Path("asked").touch())
    time.sleep(60)
"""


class Dask:
    """A scheduler and workers, as somebody would start them by hand."""

    def __init__(self, folder: Path, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.clients: list[Any] = []
        self.file = folder / "scheduler.json"
        self.scheduler = self._start(
            *("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
            *("--scheduler-file", str(self.file)),
            environment=environment,
        )
        wait_until(self.file.exists)

    def _start(self, command: str, *arguments: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command}-{len(self.processes)}.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", command, *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def worker(
        self, name: str, *options: str, nthreads: int = 1, nanny: bool = False, **environment: str
    ) -> None:
        """Start a worker on one port, and wait until the scheduler knows it."""
        self._start(
            *("worker", "--scheduler-file", str(self.file), "--host", "127.0.0.1", "--no-dashboard"),
            *("--name", name, "--nthreads", str(nthreads), "--nanny" if nanny else "--no-nanny"),
            *("--local-directory", str(self.folder), *options),
            environment=environment,
        )

    def await_workers(self, count: int) -> None:
        self.client().wait_for_workers(count, timeout=30)

    def client(self) -> Any:
        if not self.clients:
            self.clients.append(distributed.Client(scheduler_file=str(self.file), timeout=20))
        return self.clients[0]

    def addresses(self) -> dict[str, str]:
        """Of the workers by their names."""
        workers = self.client().scheduler_info()["workers"]
        return {dask["name"]: address for address, dask in workers.items()}

    def pids(self) -> dict[str, int]:
        """Of the processes of the workers, without their nannies, by their names."""
        pids = self.client().run(os.getpid)
        return {name: pids[address] for name, address in self.addresses().items() if address in pids}

    def close(self) -> None:
        for client in self.clients:
            client.close()
        # The workers first: one that loses its scheduler while it ends may hang.
        for processes in (self.processes[1:], self.processes[:1]):
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A cluster of two workers, one of them under a nanny, that outlives a test."""
    cluster = Dask(tmp_path_factory.mktemp("dask"))
    try:
        cluster.worker("alone", nthreads=2)
        cluster.worker("nannied", nanny=True)
        cluster.await_workers(2)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Dask]]:
    """Makes clusters that a test may damage."""
    with contextlib.ExitStack() as stack:

        def make(**environment: str) -> Dask:
            cluster = Dask(tmp_path_factory.mktemp("lab"), **environment)
            stack.callback(cluster.close)
            return cluster

        yield make


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """Where flows note that they have started."""
    folder = tmp_path / "started"
    folder.mkdir()
    return folder


def test_a_table_and_what_it_reads_is_one_graph(
    project: TinyProject, dask: Dask, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rows in the order of the graph, a stored upstream too; a red one blocks its readers and only those."""
    project.flow("fit", FLOW)
    project.config("flows/fit/base.json", x=5)
    project.config("flows/fit/other.json", x=6)
    reads = [["runs/fit/b/out.txt"], ["runs/fit/base/out.txt"], None, ["runs/fit/red/out.txt"], None]
    rows = table("c", "b", "red", "blocked", "skipped", x=[1, 3, 2, 4, 7], read=reads)
    rows["_run.skip"] = [None, None, None, None, "later"]
    done = conduct(rows, "fit", project_root=project.root, executor=dask.client(), export_html=False)

    assert ["success", "success", "error", "blocked", "not_run"] == list(done["status"])
    assert "flows/fit.py:6: AssertionError: two" == done["message"][2]
    assert "fit/red failed: flows/fit.py:6: AssertionError: two" == done["message"][3]
    assert "135" == (project.folder("fit", "c") / "out.txt").read_text()
    assert ["c", "b", "red", "blocked", "skipped"] == list(done["instance"])
    assert not project.folder("fit", "blocked").exists()
    assert not project.folder("fit", "other").exists()
    page = report(project)
    assert {
        "base": "success",
        "c": "success",
        "b": "success",
        "red": "error",
        "blocked": "blocked",
        "skipped": "not_run",
    } == {instance["instance"]: instance["status"] for instance in page["instances"]}
    workers = {instance["instance"]: instance["worker"] for instance in page["instances"]}
    assert {workers.pop("blocked"), workers.pop("skipped")} == {None}
    assert {"alone", "nannied"} >= set(workers.values())
    edges = {instance["instance"]: instance["upstreams"] for instance in page["instances"]}
    assert (["fit/b"], ["fit/base"], []) == (edges["c"], edges["b"], edges["base"])
    assert page["finished"]
    assert "fit: 3 success, 1 error, 1 blocked, 1 not_run | Report: " in capfd.readouterr().out
    assert [] == list((project.root / "runs" / CACHE_DIR).glob("session-*"))


def test_each_worker_has_a_warm_server_of_its_own(project: TinyProject, lab: Callable[..., Dask]) -> None:
    """Started with its first run, one for each worker process, nanny or not; it ends with its worker."""
    cluster = lab()
    cluster.worker("alone", DUCTAFLOW_SERVER="/that/of/somebody/else")
    cluster.worker("nannied", nanny=True)
    cluster.await_workers(2)
    workers = cluster.pids()
    project.flow("fit", FLOW.replace("assert", "import time; time.sleep(0.5)\nassert"))
    conduct(
        table(*"abcd", x=[1, 3, 4, 5]),
        "fit",
        project_root=project.root,
        executor=cluster.client(),
        check=True,
    )
    servers = {(project.folder("fit", name) / "server.txt").read_text() for name in "abcd"}
    assert 2 == len(servers)
    assert all(Path(server).is_dir() for server in servers)
    mine = [
        child
        for pid in workers.values()
        for child in psutil.Process(pid).children(recursive=True)
        if "ductaflow.execution.server" in child.cmdline()
    ]
    # Their branches are forks, with the same command line.
    assert 2 == len([child for child in mine if child.ppid() not in {one.pid for one in mine}])
    cluster.close()
    psutil.wait_procs(mine, timeout=5)
    assert [] == [process for process in mine if process.is_running()]
    assert [] == [server for server in servers if Path(server).exists()]


# --- what is lost ------------------------------------------------------------------------------------------


def in_thread(act: Callable[[], None]) -> threading.Thread:
    """Does something to a cluster while the test conducts on it."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def busy_worker(cluster: Dask) -> int:
    """Pid of the worker that has something to do."""
    busy = {address for address, keys in cluster.client().processing().items() if keys}
    return next(pid for name, pid in cluster.pids().items() if cluster.addresses()[name] in busy)


def test_the_runs_of_a_lost_worker_are_taken_by_another(
    project: TinyProject, started: Path, lab: Callable[..., Dask]
) -> None:
    """SIGKILL in mid-run: its run ends, starts again on another worker, and counts once; its reader waits."""
    cluster = lab()
    cluster.worker("one")
    cluster.worker("two")
    cluster.await_workers(2)
    project.flow("stay", STAYS)
    rows = table("a", "b", name=["a", "b"], read=[None, "runs/stay/a"])
    first: list[psutil.Process] = []

    def kill() -> None:
        wait_until((started / "a-0").exists)
        first.extend(processes_of(str(project.root)))
        os.kill(busy_worker(cluster), signal.SIGKILL)

    killer = in_thread(kill)
    done = conduct(
        rows,
        "stay",
        project_root=project.root,
        executor=cluster.client(),
        config={"started": str(started), "stays": ["a-0"]},
    )
    killer.join()
    assert ["success"] * 2 == list(done["status"])
    assert ["a-0", "a-1", "b-0"] == sorted(path.name for path in started.iterdir())
    assert first
    assert [] == [process for process in first if process.is_running()]
    page = report(project)
    assert (2, 2) == (len(page["instances"]), page["summary"]["success"])
    assert [] == list((project.root / "runs" / CACHE_DIR / "running").glob("*.json"))


def test_a_run_that_loses_all_its_workers_costs_itself_only(
    project: TinyProject, started: Path, lab: Callable[..., Dask]
) -> None:
    """Dask gives it up: the row is red, its readers are blocked; the nanny's next worker runs the rest."""
    cluster = lab(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    cluster.worker("nannied", nanny=True)
    cluster.await_workers(1)
    project.flow("stay", STAYS)
    names = ["a", "b", "c", "d", "e"]
    rows = table(*names, name=names, read=[None, "runs/stay/a", "runs/stay/b", "runs/stay/e", None])

    def kill() -> None:
        wait_until((started / "a-0").exists)
        os.kill(cluster.pids()["nannied"], signal.SIGKILL)

    killer = in_thread(kill)
    done = conduct(
        rows,
        "stay",
        project_root=project.root,
        executor=cluster.client(),
        config={"started": str(started), "stays": ["a-0"]},
    )
    killer.join()
    assert ["error", "blocked", "blocked", "success", "success"] == list(done["status"])
    assert "lost" == done["cause"][0]
    assert "1 workers were lost while they ran it" == done["message"][0]
    assert "stay/a failed: 1 workers were lost while they ran it" == done["message"][1]


def test_a_lost_scheduler_is_one_error(project: TinyProject, started: Path, lab: Callable[..., Dask]) -> None:
    """SIGKILL: the session ends at once and in order, and what was running is ended by the workers."""
    cluster = lab()
    cluster.worker("one")
    cluster.await_workers(1)
    project.flow("stay", STAYS)

    def kill() -> None:
        wait_until((started / "a-0").exists)
        cluster.scheduler.kill()

    killer = in_thread(kill)
    begin = time.monotonic()
    with pytest.raises(DuctaflowError, match=r"the Dask scheduler tcp://127.0.0.1:\d+ is lost") as error:
        conduct(
            table("a", "b", name=["a", "b"], read=[None, "runs/stay/a"]),
            "stay",
            project_root=project.root,
            executor=cluster.client(),
            config={"started": str(started), "stays": ["a-0"]},
        )
    killer.join()
    assert time.monotonic() - begin < 30
    assert "conduct the same table" in error.value.hint
    wait_until(lambda: not processes_of(str(project.root)))
    page = report(project)
    assert page["finished"]
    assert [("a", "error", "interrupted"), ("b", "not_run", None)] == [
        (instance["instance"], instance["status"], instance["cause"]) for instance in page["instances"]
    ]


CONDUCTOR = """
from distributed import Client
from ductaflow import conduct, scenarios

client = Client(scheduler_file={file!r})
rows = scenarios({{"name": ["a", "b"]}})
rows["read"] = [None, "runs/stay/name-a"]
config = {{"started": {started!r}, "stays": ["a-0"]}}
conduct(rows, "stay", project_root={root!r}, executor=client, config=config)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_runs_end_with_their_session(
    project: TinyProject, started: Path, dask: Dask, sent: signal.Signals
) -> None:
    """Ctrl-C stops what runs on the workers, and the report is final; those of a killed conductor end too."""
    project.flow("stay", STAYS)
    script = project.root / "conductor.py"
    script.write_text(CONDUCTOR.format(file=str(dask.file), root=str(project.root), started=str(started)))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until((started / "a-0").exists)
        os.killpg(process.pid, sent)
        begin = time.monotonic()
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - begin < 5
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not processes_of(str(project.root)), seconds=5)
    # The supervisor is no process of the run's folder.
    wait_until(lambda: read_result(project.folder("stay", "name-a")), seconds=5)
    result = read_result(project.folder("stay", "name-a"))
    assert result is not None
    assert "interrupted" == result.cause
    assert not (started / "b-0").exists()
    if sent is signal.SIGINT:
        assert b"KeyboardInterrupt" in err
        assert -signal.SIGINT == process.returncode
        page = report(project)
        assert page["finished"]
        assert [("name-a", "error", "interrupted"), ("name-b", "not_run", NOT_STARTED)] == [
            (i["instance"], i["status"], i["cause"] or i["message"]) for i in page["instances"]
        ]
        assert [] == list((project.root / "runs" / CACHE_DIR).glob("session-*"))


# --- from the command line ---------------------------------------------------------------------------------


def test_a_command_runs_stored_instances_on_a_cluster(project: TinyProject, dask: Dask) -> None:
    """As it does here: verdicts, blocked readers, the page, the exit code; --changed leaves alone what is."""
    project.flow("fit", FLOW)
    project.config("flows/fit/a.json", x=1)
    project.config("flows/fit/b.json", x=3, read=["runs/fit/a/out.txt"])
    project.config("flows/fit/red.json", x=2)
    project.config("flows/fit/blocked.json", x=4, read=["runs/fit/red/out.txt"])
    project.config("flows/fit/lacks.json", x=4, read=["runs/fit/b/out.txt"])
    lacks = project.cli("run", "--dask", dask.file, "fit/lacks")
    assert (1, "Error: fit[lacks]: fit/lacks reads from fit/b, but") == (lacks.exit_code, lacks.stderr[:50])

    done = project.cli("run", "--changed", "--dask", dask.file)
    assert 1 == done.exit_code
    lines = done.stdout.splitlines()
    assert "fit[a] success in" in done.stdout
    assert "fit[blocked] blocked: fit/red failed: flows/fit.py:6: AssertionError: two" in done.stderr
    assert "1 of 5 failed: fit/red" in done.stderr
    assert "3 success, 1 error, 1 blocked" == lines[-1]
    assert lines[-2].endswith("conductor_status_report.html")
    page = {one["id"]: one for one in report(project)["instances"]}
    assert {"alone", "nannied"} >= {page[id]["worker"] for id in ("fit/a", "fit/b", "fit/red", "fit/lacks")}
    assert "31" == (project.folder("fit", "b") / "out.txt").read_text()

    address = dask.client().scheduler.address
    again = project.cli("run", "--changed", "--dask", address, "fit/b", "fit/lacks")
    assert (0, "") == (again.exit_code, again.stderr)
    assert 2 == again.stdout.count(" unchanged in "), again.stdout
    assert [] == list((project.root / "runs" / CACHE_DIR).glob("session-*"))


def test_a_variant_and_upstreams_run_on_a_cluster(project: TinyProject, dask: Dask) -> None:
    """`--upstream`, `--set` and `--as` mean what they mean here; a flow inside a build runs here alone."""
    project.flow("fit", FLOW)
    project.config("flows/fit/a.json", x=1)
    project.config("flows/fit/b.json", x=3, read=["runs/fit/a/out.txt"])
    done = project.cli("run", "--upstream", "--dask", dask.file, "fit/b", "--set", "x=5", "--as", "high")
    assert 0 == done.exit_code, done.output
    assert "51" == (project.folder("fit", "high") / "out.txt").read_text()

    project.flow("all", "run = 1", kind="builds")
    inside = project.root / "runs" / "all" / "x" / "runs" / "fit"
    inside.mkdir(parents=True)
    (inside / "fit_config.json").write_text('{"x": 1}')
    refused = project.cli("run", "--dask", dask.file, inside)
    assert 2 == refused.exit_code
    assert "Error: runs/all/x/runs/fit is a flow inside a build" in refused.stderr
    assert "or its build as a whole" in refused.stderr


def test_ctrl_c_stops_what_a_command_runs_on_a_cluster(
    project: TinyProject, started: Path, dask: Dask
) -> None:
    """The runs on the workers end, the page is final, the exit code is that of Ctrl-C."""
    project.flow("stay", STAYS)
    project.config("flows/stay.json", started=str(started), stays=["a-0"])
    project.config("flows/stay/a.json", name="a")
    project.config("flows/stay/b.json", name="b", read="runs/stay/a/x")
    with project.command("run", "--dask", dask.file, "stay") as process:
        wait_until((started / "a-0").exists)
        os.killpg(process.pid, signal.SIGINT)
        begin = time.monotonic()
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - begin < 10
    assert b"Interrupted." == err.splitlines()[-1]
    assert 130 == process.returncode
    page = report(project)
    assert page["finished"]
    assert [("a", "error", "interrupted"), ("b", "not_run", NOT_STARTED)] == [
        (one["instance"], one["status"], one["cause"] or one["message"]) for one in page["instances"]
    ]
    assert not (started / "b-0").exists()
    assert [] == processes_of(str(project.root))


def test_a_second_ctrl_c_calls_what_had_begun_interrupted(
    project: TinyProject, started: Path, dask: Dask
) -> None:
    """It ends the wait for a run that is being stopped; only what had not begun has not run."""
    project.flow("stay", STAYS)
    project.config("flows/stay.json", started=str(started), stays=["a-0"])
    project.config("flows/stay/a.json", name="a")
    project.config("flows/stay/b.json", name="b", read="runs/stay/a/x")
    with project.command("run", "--dask", dask.file, "stay") as process:
        wait_until((started / "a-0").exists)
        end_by_two_ctrl_c(process, (project.folder("stay", "a") / "asked").exists)
    page = report(project)
    assert page["finished"]
    assert [("a", "error", "interrupted", UNWAITED), ("b", "not_run", None, NOT_STARTED)] == [
        (one["instance"], one["status"], one["cause"], one["message"]) for one in page["instances"]
    ]
    wait_until(lambda: not processes_of(str(project.root)))


def test_a_lost_scheduler_is_one_error_of_a_command(
    project: TinyProject, started: Path, lab: Callable[..., Dask]
) -> None:
    """Nothing stands before it: neither a traceback of Dask's own client nor what that logs."""
    cluster = lab()
    cluster.worker("one")
    cluster.await_workers(1)
    project.flow("stay", STAYS)
    project.config("flows/stay/a.json", name="a", started=str(started), stays=["a-0"])
    with project.command("run", "--dask", cluster.file, "stay") as process:
        wait_until((started / "a-0").exists)
        cluster.scheduler.kill()
        _, err = process.communicate(timeout=30)
    assert 2 == process.returncode
    error, remedy = err.decode().splitlines()
    assert error.startswith("Error: the Dask scheduler tcp://127.0.0.1:")
    assert remedy.startswith("The workers end what they were running; ")
    wait_until(lambda: not processes_of(str(project.root)))


#: Notes where it runs, and stays until it may go.
TILL_GO = """
# %%
import os, time
from pathlib import Path
started = Path(config["started"])
(started / f"at-{config['name']}").write_text(os.environ["WHERE"])
while not (started / f"go-{config['name']}").exists():
    time.sleep(0.05)
"""
#: The command, with less patience.
IMPATIENT = """
from ductaflow.cli.app import main
from ductaflow.session import dask

dask.SILENT_SECONDS = 3.0
main()
"""


def test_a_silent_worker_is_named(project: TinyProject, started: Path, lab: Callable[..., Dask]) -> None:
    """A worker is stopped, and Dask waits for minutes: one line says what waits for it, and no more."""
    cluster = lab()
    for name in ("one", "two"):
        cluster.worker(name, WHERE=name)
    cluster.await_workers(2)
    pids, addresses = cluster.pids(), cluster.addresses()
    project.flow("wait", TILL_GO)
    project.config("flows/wait.json", started=str(started))
    project.config("flows/wait/a.json", name="a")
    project.config("flows/wait/b.json", name="b")
    project.config("flows/wait/c.json", name="c", read="runs/wait/b")
    told = started / "stderr.txt"
    with told.open("wb") as stderr:
        command = [sys.executable, "-c", IMPATIENT, "run", "--dask", str(cluster.file), "wait"]
        process = subprocess.Popen(command, cwd=project.root, stderr=stderr)
    try:
        wait_until(lambda: all((started / f"at-{name}").is_file() for name in "ab"))
        worker = (started / "at-a").read_text()
        os.kill(pids[worker], signal.SIGSTOP)
        try:
            wait_until(lambda: "\n" in told.read_text(), seconds=20)
            # What the other worker ends meanwhile is no reason to say it again.
            (started / "go-b").touch()
            (started / "go-c").touch()
            wait_until(lambda: read_result(project.folder("wait", "c")))
        finally:
            os.kill(pids[worker], signal.SIGCONT)
        (started / "go-a").touch()
        assert 0 == process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    place = f"the Dask worker {worker} ({addresses[worker]}), silent for more than 3 s"
    assert f"wait/a waits for {place}\n" == told.read_text()


@pytest.mark.slow
def test_the_example_runs_on_a_cluster_that_loses_a_worker(
    tmp_path: Path, lab: Callable[..., Dask], capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL of the worker that has a build: right verdicts, nothing is left; then all is unchanged."""
    root = tmp_path / "example"
    shutil.copytree(ROOT / "example_project", root, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    cluster = lab()
    cluster.worker("one")
    cluster.worker("two")
    cluster.await_workers(2)
    build = "projection/until-1995_degree-1_horizon-5"

    def kill() -> None:
        wait_until((root / "runs" / build / "runs").exists, seconds=60)
        flows = processes_of(str(root / "runs" / build))
        above = {parent.pid for flow in flows for parent in flow.parents()}
        (worker,) = [pid for pid in cluster.pids().values() if pid in above]
        os.kill(worker, signal.SIGKILL)

    killer = in_thread(kill)
    command = ("run", "--changed", "--dask", cluster.file, "--project", root)
    asked = (build, "data_prep")
    done = cli(*command, *asked)
    killer.join()
    assert 0 == done.exit_code, done.output
    assert 1 == len(cluster.pids())
    page = json.loads((root / "runs" / REPORT_JSON).read_bytes())
    assert {
        **dict.fromkeys((build, "data_prep/scenario_A", "data_prep/scenario_B"), "warning"),
        "data_prep/scenario_C": "success",
    } == {one["id"]: one["status"] for one in page["instances"]}
    assert page["finished"]
    assert [] == list((root / "runs" / CACHE_DIR).glob("session-*"))
    assert [] == list((root / "runs" / CACHE_DIR / "running").glob("*.json"))
    again = cli(*command, *asked)
    assert (0, 4) == (again.exit_code, again.stdout.count(" unchanged in ")), again.output


# --- workers that may not ----------------------------------------------------------------------------------


def other_version(folder: Path) -> dict[str, str]:
    """Variables with which a worker has another version of our package."""
    about = folder / "pytest_ductaflow-0.0.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-ductaflow\nVersion: 0.0.9\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


#: Started with a worker that is to see another folder than the conductor, or another Python.
PRELOADED = {
    "folder": "import ductaflow.session.dask as w\n"
    "w.shown_here = lambda token, old=w.shown_here: {**old(token), 'token': None}",
    "python": "import platform; platform.python_version = lambda: '3.9.0'",
}


def test_workers_that_do_not_see_the_same_are_named_before_anything_is_sent(
    project: TinyProject, tmp_path: Path, dask: Dask, lab: Callable[..., Dask]
) -> None:
    """Another folder, another Python, another version of ours: each with its address and what is wrong."""
    cluster = lab()
    cluster.worker("good")
    cluster.worker("version", **other_version(tmp_path / "site"))
    for name, code in PRELOADED.items():
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        cluster.worker(name, "--preload", str(file))
    cluster.await_workers(4)
    address = cluster.addresses()
    project.flow("fit", FLOW)
    with pytest.raises(DuctaflowError) as error:
        conduct(table("a"), "fit", project_root=project.root, executor=cluster.client())
    message = error.value.message
    assert message.startswith("3 of 4 Dask workers cannot run this: ")
    host = f"on {os.uname().nodename}"
    runs = project.root / "runs"
    assert f"{address['folder']} {host} does not see the conductor's folder {runs}" in message
    assert f"{address['python']} {host} runs Python 3.9.0 ({sys.executable}), the conductor" in message
    assert f"{address['version']} {host} has pytest-ductaflow 0.0.9, the conductor" in message
    assert address["good"] not in message
    assert "Mount the project at the same path on every machine" in error.value.hint
    assert not (runs / "fit").exists()
    assert [] == list((runs / CACHE_DIR).glob("session-*"))


def test_a_worker_that_joins_later_shows_the_same(
    project: TinyProject, tmp_path: Path, started: Path, lab: Callable[..., Dask]
) -> None:
    """One that cannot runs nothing, a warning names it, and the rows go to the others."""
    cluster = lab()
    cluster.worker("good")
    cluster.await_workers(1)
    project.flow("stay", STAYS.replace("time.sleep(60)", "\n    ".join(WAITS)))
    names = [f"r{number}" for number in range(4)]
    rows = table("a", *names, "last", name=["a", *names, "last"], read=[None] * 5 + ["runs/stay/r0"])

    def join() -> None:
        wait_until(lambda: any(started.iterdir()))
        cluster.worker("late", **other_version(tmp_path / "site"))

    joiner = in_thread(join)
    with pytest.warns(RuntimeWarning) as warned:
        done = conduct(
            rows,
            "stay",
            project_root=project.root,
            executor=cluster.client(),
            timeout=60,
            config={
                "started": str(started),
                # Whichever comes first keeps the good worker until the late one has had its try.
                "stays": [f"{name}-0" for name in ("a", *names)],
                "asked": str(cluster.folder / "worker-2.txt"),
            },
        )
    joiner.join()
    assert ["success"] * 6 == list(done["status"])
    late = cluster.addresses()["late"]
    texts = [str(warning.message) for warning in warned]
    assert [text for text in texts if late in text and "0.0.9" in text]
    assert 1 == len(texts)
    assert 6 == len(list(started.iterdir())), "each has run once"


#: Lines of a flow that end when the worker whose log is `asked` has failed a task.
WAITS = (
    'log = Path(config["asked"])',
    'while not log.exists() or "UnfitWorker" not in log.read_text():',
    "    time.sleep(0.05)",
)


# --- what the conductor makes of what Dask says, without Dask ----------------------------------------------


class FakeFuture:
    def __init__(self) -> None:
        self.status = "pending"
        self.value: Any = None
        self.callbacks: list[Callable[[FakeFuture], None]] = []

    def add_done_callback(self, callback: Callable[[FakeFuture], None]) -> None:
        self.callbacks.append(callback)

    def exception(self) -> Any:
        return self.value

    def end(self, status: str, value: Any) -> None:
        self.status, self.value = status, value
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback(self)


class FakeClient:
    """A client of some workers, each fit or not; one of its answers is given each time a row is sent.

    Attributes:
        workers: their addresses, and what is wrong with them.
        sent: what has been sent, and where to, in order.
    """

    def __init__(self, workers: dict[str, str | None], **answers: list[Any]) -> None:
        self.workers = workers
        self.answers = answers
        self.status = "running"
        self.scheduler = None
        self.sent: list[tuple[str, tuple[str, ...]]] = []
        self.cancelled: list[Any] = []

    def run(self, function: Any, token: str, *, on_error: str) -> dict[str, Any]:
        return {
            address: {**dask_module.shown_here(token), **({"python": fault} if fault else {})}
            for address, fault in self.workers.items()
        }

    def run_on_scheduler(self, function: Any, argument: Any) -> dict[str, Any]:
        return dask_module.shown_here(argument) if function is dask_module.shown_here else {}

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.workers, 1)

    def get(self, graph: dict[Any, Any], keys: list[Any], *, sync: bool, workers: Any) -> list[FakeFuture]:
        futures = []
        for key in keys:
            self.sent.append((key[1], tuple(workers or ())))
            futures.append(FakeFuture())
            if answers := self.answers.get(key[1]):
                threading.Timer(0.01, futures[-1].end, answers.pop(0)).start()
        return futures

    def gather(self, futures: list[FakeFuture]) -> list[Any]:
        return [future.value for future in futures]

    def cancel(self, futures: list[Any]) -> None:
        self.cancelled += futures


def good(name: str) -> tuple[str, Outcome]:
    return "finished", Outcome(Result("fit", name, "flow", Status.SUCCESS, run_id="r"))


UNFIT = ("error", UnfitWorker("tcp://x is not fit"))
FakeSession = Callable[[FakeClient, pd.DataFrame], pd.DataFrame]


@pytest.fixture
def conduct_fake(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """Conducts `fit` with a fake client."""
    project.flow("fit", FLOW)
    monkeypatch.setattr(dask_module, "_accepted", lambda client: client)

    def run(client: FakeClient, rows: pd.DataFrame) -> pd.DataFrame:
        return conduct(rows, "fit", project_root=project.root, executor=client)

    return run


def test_turns_that_were_given_back_go_to_fit_workers_with_their_readers(conduct_fake: FakeSession) -> None:
    """The readers are sent again too; what else is on its way stays."""
    client = FakeClient({"one": None})

    def get(graph: Any, keys: list[Any], **options: Any) -> list[FakeFuture]:
        client.workers["two"] = "3.9.0"
        if client.sent:
            client.answers["b"] = [good("b")]
        return FakeClient.get(client, graph, keys, **options)

    client.get = get  # type: ignore[method-assign]
    client.answers = {"a": [UNFIT, good("a")], "c": [good("c")]}
    with pytest.warns(RuntimeWarning, match=r"the Dask worker two on .* runs Python 3.9.0"):
        done = conduct_fake(client, table("a", "b", "c", read=[None, "runs/fit/a", None]))
    assert ["success"] * 3 == list(done["status"])
    sent = {name: [where for other, where in client.sent if other == name] for name in "abc"}
    assert {"a": [(), ("one",)], "b": [(), ("one",)], "c": [()]} == sent


def test_turns_whose_workers_are_gone_go_to_others(conduct_fake: FakeSession) -> None:
    """A worker that has joined in between gets what only a lost one was allowed to have."""
    client = FakeClient({"one": None}, a=[UNFIT])

    def get(graph: Any, keys: list[Any], **options: Any) -> list[FakeFuture]:
        if len(client.sent) == 1:
            # given to `one` alone, which does not live to have it
            client.workers = {"two": None}
        if len(client.sent) == 2:
            client.answers["a"] = [good("a")]
        return FakeClient.get(client, graph, keys, **options)

    client.get = get  # type: ignore[method-assign]
    done = conduct_fake(client, table("a"))
    assert ["success"] == list(done["status"])
    assert [("a", ()), ("a", ("one",)), ("a", ("two",))] == client.sent


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_a_command_says_what_waits_where_no_worker_is_left(
    project: TinyProject, conduct_fake: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the time of all their jobs is over; and what a session warns of is a line for people."""
    client = FakeClient({"one": None}, a=[UNFIT])
    monkeypatch.setattr(dask_client, "connected", lambda address: contextlib.nullcontext(client))
    project.config("flows/fit/a.json")
    project.config("flows/fit/b.json", read=["runs/fit/a"])

    def get(graph: Any, keys: list[Any], **options: Any) -> list[FakeFuture]:
        if client.sent:
            client.workers = {}
            futures = FakeClient.get(client, graph, keys, **options)
            for future, key in zip(futures, keys, strict=True):
                threading.Timer(1.5, future.end, good(key[1])).start()
            return futures
        client.workers["late"] = "3.9.0"
        return FakeClient.get(client, graph, keys, **options)

    client.get = get  # type: ignore[method-assign]
    done = project.cli("run", "--dask", "tcp://login-node:8786", "fit")
    assert 0 == done.exit_code, done.output
    warned, waits = done.stderr.splitlines()
    assert warned.startswith("Warning: the Dask worker late on ")
    assert "fit/a waits for a Dask worker, of which there is none any more; 1 more wait" == waits


def test_a_worker_without_the_package_is_named(conduct_fake: FakeSession) -> None:
    """Dask gives the text of its error alone."""
    client = FakeClient({"one": None, "two": None})

    def run(function: Any, token: str, *, on_error: str) -> dict[str, Any]:
        answers = FakeClient.run(client, function, token, on_error=on_error)
        return {**answers, "two": Exception("ModuleNotFoundError(\"No module named 'ductaflow'\")")}

    client.run = run  # type: ignore[method-assign]
    with pytest.raises(DuctaflowError) as error:
        conduct_fake(client, table("a"))
    assert "1 of 2 Dask workers cannot run this: two has no pytest-ductaflow" == error.value.message


def test_a_worker_without_the_package_can_read_what_it_is_sent(conduct_fake: FakeSession) -> None:
    """One that cannot would leave the cluster without a word; so it is the task that fails there."""
    client = FakeClient({"one": None}, a=[good("a")])
    sent: dict[Any, Any] = {}

    def get(graph: dict[Any, Any], keys: list[Any], **options: Any) -> list[FakeFuture]:
        sent.update(graph)
        return FakeClient.get(client, graph, keys, **options)

    client.get = get  # type: ignore[method-assign]
    conduct_fake(client, table("a"))
    code = "import sys; sys.modules['ductaflow'] = None; import pickle; print(pickle.load(sys.stdin.buffer))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(sent), capture_output=True, check=True
    )
    assert b"operator" in done.stdout or b"built-in function call" in done.stdout


def test_a_turn_that_nobody_takes_is_red(conduct_fake: FakeSession) -> None:
    """After some attempts, so that a session ends."""
    done = conduct_fake(FakeClient({"one": None}, a=[UNFIT] * 9), table("a"))
    assert [("error", "lost")] == list(zip(done["status"], done["cause"], strict=True))
    assert "5 workers gave it back; the last: tcp://x is not fit" == done["message"][0]


def test_no_fit_worker_is_an_error(conduct_fake: FakeSession) -> None:
    """The session ends with the reason, and what was sent is cancelled."""
    client = FakeClient({}, a=[UNFIT])

    def get(graph: Any, keys: list[Any], **options: Any) -> list[FakeFuture]:
        client.workers = {"late": "3.9.0"}
        return FakeClient.get(client, graph, keys, **options)

    client.get = get  # type: ignore[method-assign]
    with (
        pytest.warns(RuntimeWarning, match="no workers yet"),
        pytest.raises(DuctaflowError, match=r"1 of 1 Dask workers cannot run this: late on .* Python 3.9.0"),
    ):
        conduct_fake(client, table("a"))
    assert 1 == len(client.cancelled)


def test_an_error_of_ours_on_a_worker_is_raised(conduct_fake: FakeSession) -> None:
    """It is no row's fault."""
    with pytest.raises(ZeroDivisionError):
        conduct_fake(FakeClient({"one": None}, a=[("error", ZeroDivisionError("a bug"))]), table("a"))


def test_a_result_that_was_lost_with_its_worker_is_waited_for_again(conduct_fake: FakeSession) -> None:
    """Dask makes it anew; until then the row is not done."""
    client = FakeClient({"one": None}, a=[("lost", None)])

    def again() -> None:
        wait_until(lambda: futures and futures[0].status == "lost" and futures[0].callbacks)
        futures[0].end(*good("a"))

    futures: list[FakeFuture] = []

    def get(graph: Any, keys: list[Any], **options: Any) -> list[FakeFuture]:
        futures.extend(FakeClient.get(client, graph, keys, **options))
        return futures

    client.get = get  # type: ignore[method-assign]
    helper = in_thread(again)
    assert ["success"] == list(conduct_fake(client, table("a"))["status"])
    helper.join()


def test_a_lost_worker_costs_nothing_that_only_waited_there(conduct_fake: FakeSession) -> None:
    """Dask counts it to all that the worker was given; what has not begun goes out again, anywhere."""
    killed = ("error", distributed.KilledWorker(("fit-s", "a"), None, 3))
    client = FakeClient({"one": None}, a=[killed, good("a")])
    assert ["success"] == list(conduct_fake(client, table("a"))["status"])
    assert ["a", "a"] == [name for name, _ in client.sent]


def test_what_an_earlier_attempt_has_left(project: TinyProject) -> None:
    """A result of the same session that tells of the flow counts, one that was ended from outside not."""
    project.flow("fit", FLOW)
    project.config("flows/fit/a.json")
    instance = load_stored(Project.at(project.root), "fit/a")
    folder = project.folder("fit", "a")
    folder.mkdir(parents=True)

    def earlier(**values: Any) -> Result | None:
        write_result(
            Result("fit", "a", "flow", **{"status": Status.ERROR, "session_id": "s", **values}), folder
        )
        return dask_module.result_of_earlier_attempt(instance, "s", threading.Event())

    assert dask_module.result_of_earlier_attempt(instance, "s", threading.Event()) is None
    assert earlier(status=Status.SUCCESS) is not None
    assert earlier(cause="exception") is not None
    assert earlier(cause="interrupted") is None
    assert earlier(cause="lost") is None
    assert earlier(status=Status.SUCCESS, session_id="other") is None


def test_a_second_attempt_waits_for_the_first(project: TinyProject) -> None:
    """As long as a run of the same session holds the folder, wherever that is."""
    folder, runs = RunFolder(project.folder("fit", "a"), "fit"), project.root / "runs"
    for host in (socket.gethostname(), "another-host"):
        owner = Owner("fit", "a", "run", "s", host, os.getpid(), "now")
        claim = Claim.take(folder, runs, owner)
        assert is_running(runs, folder.path, "s")
        assert not is_running(runs, folder.path, "other")
        claim.release(finished=True)
        assert not is_running(runs, folder.path, "s")


# --- what cannot be conducted ------------------------------------------------------------------------------


def test_what_is_no_executor_is_refused(
    project: TinyProject, dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs, with a remedy."""
    project.flow("fit", FLOW)

    def refused(executor: Any, **options: Any) -> str:
        with pytest.raises(ConfigError) as error:
            conduct(table("a"), "fit", project_root=project.root, executor=executor, **options)
        assert error.value.hint
        return error.value.message

    assert "executor is a dask.distributed.Client, not str" == refused("tcp://127.0.0.1:8786")
    assert "jobs is for runs on this machine, and an executor is given" == refused(dask.client(), jobs=2)
    with distributed.Client(scheduler_file=str(dask.file)) as client:
        pass
    assert "the client is closed" == refused(client)
    folder, root = str(project.folder("f", "i")), str(project.root)
    places = {"source": "", "folder": folder, "runs_root": folder, "project_root": root}
    spec = RunSpec(kind="flow", flow="f", instance="i", session_id="s", run_id="r", **places)
    with monkeypatch.context() as inside:
        inside.setenv(CONTEXT, spec.dump())
        assert "an executor cannot be used inside of a run" == refused(dask.client())
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "an executor needs the package distributed" == refused(dask.client())
    assert not (project.root / "runs").exists()
