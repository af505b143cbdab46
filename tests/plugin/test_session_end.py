"""How a session ends: dead workers, failures, interruptions, kills."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from support import (
    AWAIT,
    MAKE,
    PLAIN,
    Session,
    TinyProject,
    command,
    is_alive,
    processes_beside,
    processes_of,
    run_pytest,
)

from ductaflow.store.result import Result, Status, write_result

pytestmark = pytest.mark.slow

#: A session must end within 5 s; the rest is for machines that are busy with other tests.
END_SECONDS = 5.0
SLACK = 10.0


@pytest.mark.usefixtures("no_process_left")
def test_a_dead_worker_costs_its_one_item(project: TinyProject) -> None:
    """The instance is lost and what reads from it blocked; the rest runs on a new worker."""
    project.flow(
        "deadly",
        """
        # %%
        import signal, psutil
        for worker in psutil.process_iter(["cmdline", "cwd"]):
            # by its command line, which is execnet's, and its folder
            line, folder = worker.info["cmdline"] or [], worker.info["cwd"]
            if line[2:3] == ["-c"] and folder == config["_project_root"]:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
        """,
    )
    project.flow("fit", PLAIN)
    project.config("flows/deadly.json")
    project.config("flows/fit/A.json")
    project.config("flows/fit/B.json", data="runs/deadly/default/x.csv")

    session = run_pytest(project.root, "-n", "1", "-rs")

    assert session.code == 1
    assert "worker 'gw0' crashed while running 'config/flows/deadly.json::deadly[default]'" in session.out
    assert session.statuses() == {"deadly/default": "error", "fit/A": "success", "fit/B": "blocked"}
    lost = next(entry for entry in session.report()["instances"] if entry["id"] == "deadly/default")
    assert lost["cause"] == "lost"


@pytest.mark.usefixtures("no_process_left")
def test_a_dead_worker_beside_a_graph(project: TinyProject) -> None:
    """An ordinary test that kills its worker is told once; every instance runs, in order."""
    project.flow("fit", PLAIN)
    for number in range(4):
        project.config(f"flows/fit/{number}.json", _run={"needs": [f"fit/{number - 1}"] if number else []})
        project.config(f"flows/fit/free{number}.json")
    (project.root / "test_deadly.py").write_text(
        "import os, signal\ndef test_deadly():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def test_other():\n    pass\n"
    )

    session = run_pytest(project.root, "-n", "2", ".")

    assert session.code == 1
    assert "crashed while running 'test_deadly.py::test_deadly'" in session.out
    assert "1 failed, 9 passed" in session.out
    assert {"success"} == set(session.statuses().values())


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(("option", "red"), [("-x", 1), ("--maxfail=2", 2)])
def test_after_enough_failures_workers_start_nothing_more(
    project: TinyProject, option: str, red: int
) -> None:
    """A run that is under way comes to its end; no other was waiting behind it."""
    project.flow("bad", AWAIT + '    raise ValueError("bad")\n')
    project.flow("hold", MAKE + AWAIT)
    project.flow("rest", PLAIN)
    (project.root / "begin").touch()
    for number in range(red):
        project.config(f"flows/bad/{number}.json", awaits="begin" if number < red - 1 else "hold-runs")
    project.config("flows/hold.json", makes="hold-runs", awaits="enough")
    for number in range(3):
        project.config(f"flows/rest/{number}.json")
    (project.root / "conftest.py").write_text(
        "import os, pathlib\nseen = []\n"
        "def pytest_runtest_logreport(report):\n"
        "    if report.failed and 'PYTEST_XDIST_WORKER' not in os.environ:\n"
        "        seen.append(report)\n"
        f"        if len(seen) == {red}:\n"
        "            pathlib.Path(__file__).with_name('enough').touch()\n"
    )

    session = run_pytest(project.root, "-n", "2", option)

    assert session.code != 0
    assert {
        **{f"bad/{number}": "error" for number in range(red)},
        "hold/default": "success",
        **{f"rest/{number}": "not_run" for number in range(3)},
    } == session.statuses()


def test_what_took_longest_begins_first_under_workers(project: TinyProject) -> None:
    """As earlier runs tell; a serial session keeps the order in which it collects."""
    project.flow("fit", PLAIN)
    for name in "ABC":
        project.config(f"flows/fit/{name}.json")

    def began(*args: str) -> list[str]:
        for name, seconds in {"A": 20.0, "B": 10.0, "C": 30.0}.items():
            folder = project.folder("fit", name)
            folder.mkdir(parents=True, exist_ok=True)
            write_result(Result("fit", name, "flow", Status.SUCCESS, seconds=seconds), folder)
        assert 0 == run_pytest(project.root, *args).code
        results = [json.loads((project.folder("fit", name) / "result.json").read_text()) for name in "ABC"]
        return [result["instance"] for result in sorted(results, key=lambda result: result["started"])]

    assert ["C", "A", "B"] == began("-n", "1")
    assert ["A", "B", "C"] == began()


@dataclass
class Running:
    """A session that waits in its flows, and how it is ended."""

    project: TinyProject
    process: subprocess.Popen[str]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            # not a wait for an effect of time: looking again costs the processor
            time.sleep(0.02)

    def end(self) -> tuple[Session, float]:
        began = time.monotonic()
        out, _ = self.process.communicate(timeout=END_SECONDS + SLACK)
        return Session(self.project.root, self.process.returncode, out), time.monotonic() - began


WAITING = """
    # %%
    import subprocess, sys, time, pathlib
    if config["quick"]:
        sys.stdout.write("done")
    else:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        subprocess.Popen(command, start_new_session=True)
        pathlib.Path("waiting").touch()
        time.sleep(600)
"""


@pytest.fixture
def start(project: TinyProject, no_process_left: None) -> Iterator[Callable[..., Running]]:
    """Starts a session with one instance that ends at once and six that wait."""
    project.flow("wait", WAITING)
    project.config("flows/wait/a_quick.json", quick=True)
    for name in "bcdefg":
        project.config(f"flows/wait/{name}.json", quick=False)
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, waiting: int) -> Running:
        process = subprocess.Popen(
            command("--ductaflow", "-p", "no:cacheprovider", *args),
            cwd=project.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        running = Running(project, process)
        runs = project.root / "runs/wait"
        running.wait_for(
            lambda: (runs / "a_quick/result.json").exists() and len(list(runs.glob("*/waiting"))) >= waiting
        )
        return running

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("to", ["group", "controller"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 4])
def test_an_interrupted_session_ends_in_order(
    start: Callable[..., Running], workers: int, number: signal.Signals, to: str
) -> None:
    """Results so far are kept, the rest is interrupted or not_run, no process is left."""
    running = start(*(["-n", str(workers)] if workers else []), waiting=max(1, workers - 1))

    if to == "group":
        os.killpg(running.process.pid, number)
    else:
        running.process.send_signal(number)
    session, seconds = running.end()

    assert session.code == pytest.ExitCode.INTERRUPTED
    assert seconds < END_SECONDS + SLACK
    assert processes_of(str(running.project.root)) == []
    report = session.report()
    assert report["finished"]
    ends = {entry["id"]: (entry["status"], entry["cause"]) for entry in report["instances"]}
    assert ends.pop("wait/a_quick") == ("success", None)
    assert set(ends.values()) == {("error", "interrupted"), ("not_run", None)}
    assert "report: " in session.out


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_session_leaves_nothing_and_the_next_one_says_so(
    start: Callable[..., Running], workers: int
) -> None:
    """SIGKILL of pytest: runs and workers end by themselves; a session that runs them again is silent.

    One that expects them and does not come to them names what was unfinished, with the command for it.
    """
    running = start(*(["-n", str(workers)] if workers else []), waiting=1)
    tree = processes_beside(running.process.pid, running.project.root)

    running.process.kill()

    deadline = time.monotonic() + END_SECONDS + SLACK
    while alive := [process for process in tree if is_alive(process)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)
    running.process.communicate()
    project = running.project
    project.flow("wait", "raise ValueError")
    session = run_pytest(project.root, "-x")
    assert session.code == 1
    left = re.search(
        r"unfinished in an earlier session: runs/wait/([bc]) .*; run it again: (.*)", session.out
    )
    assert left, session.out
    assert left[2] == f'pytest --ductaflow "config/flows/wait/{left[1]}.json::wait[{left[1]}]"'
    project.flow("wait", PLAIN)
    session = run_pytest(project.root, "config/flows/wait/b.json", "config/flows/wait/c.json")
    assert session.code == 0
    assert "unfinished" not in session.out
    statuses = session.statuses()
    assert (statuses["wait/b"], statuses["wait/c"]) == ("success", "success")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("args", [(), ("-n", "2")], ids=["serial", "parallel"])
def test_ctrl_c_when_all_has_run_changes_nothing(project: TinyProject, args: tuple[str, ...]) -> None:
    """The session ends by itself, with its summary and its page."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text(
        "import os, pytest, signal\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_sessionfinish(session):\n"
        "    if not hasattr(session.config, 'workerinput'):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
    )
    session = run_pytest(project.root, *args)
    assert (0, True) == (session.code, "1 passed" in session.out), session.out
    assert session.report()["finished"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("args", [(), ("-n", "2")], ids=["serial", "parallel"])
def test_ctrl_c_while_a_result_is_taken_in(project: TinyProject, args: tuple[str, ...]) -> None:
    """The session ends, and this result is on its page and in its summary."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/a.json")
    project.config("flows/fit/b.json", _run={"needs": ["fit/a"]})
    (project.root / "conftest.py").write_text(
        "import os, signal\n"
        "from ductaflow.report.live import LiveReport\n"
        "made = LiveReport._lines_of\n"
        "def lines_of(report, entry):\n"
        "    if entry.result.run_id and entry.result.instance == 'a':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return made(report, entry)\n"
        "LiveReport._lines_of = lines_of\n"
    )
    session = run_pytest(project.root, *args)
    assert (2, True) == (session.code, "1 passed" in session.out), session.out
    assert "success" == session.statuses()["fit/a"]
    assert session.report()["finished"]
