"""The supervisors of warm runs: each looks after one run after the other, and nothing passes between them."""

from __future__ import annotations

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import TinyProject, wait_until

from ductaflow.common import host
from ductaflow.execution import warm
from ductaflow.execution.branch import MOST_AT_REST
from ductaflow.session.runner import run_notebook
from ductaflow.store.result import FlowFailed, Result, Status

pytestmark = [
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform"),
]
#: Says in a file who looks after the run.
TELLS = "# %%\nimport os, pathlib\n_ = pathlib.Path('supervisor').write_text(str(os.getppid()))\n"


@pytest.fixture(autouse=True)
def _own_branch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs with another environment have a branch of their own, and supervisors that nobody else has."""
    monkeypatch.setenv("OF_THIS_TEST", str(tmp_path))


def run(project: TinyProject, code: str = "", instance: str = "a", **options: Any) -> Result:
    """Run a flow; its result is in its folder, unless it is lost."""
    source, folder = project.flow("fit", TELLS + code), project.folder("fit", instance)
    options = {"config": {}, "execution_dir": folder, "export_html": False, "engine": "warm", **options}
    try:
        run_notebook(source, **options)
    except FlowFailed as failed:
        return failed.result
    return project.result("fit", instance)


def supervisor(project: TinyProject, instance: str = "a") -> psutil.Process:
    return psutil.Process(int((project.folder("fit", instance) / "supervisor").read_text()))


def at_rest(process: psutil.Process) -> bool:
    """Whether a supervisor waits for a message, as it does for its next run; its branch has heard of that."""
    return process.num_threads() == 1 and "skb_wait" in Path(f"/proc/{process.pid}/wchan").read_text()


def test_one_serves_many_runs(project: TinyProject) -> None:
    """Good runs, failed ones and those that are cut off have the same supervisor, which keeps nothing of
    them: no thread, no descriptor, no child, no handler of a signal."""
    run(project)
    first = supervisor(project)
    wait_until(lambda: at_rest(first))
    before = first.num_fds(), host_signals(first)
    for code, options, expected in (
        ("1 / 0", {}, Status.ERROR),
        ("os.kill(os.getpid(), 9)", {}, Status.ERROR),
        ("import time\ntime.sleep(60)", {"timeout": 0.5}, Status.ERROR),
        ("import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True)", {}, Status.SUCCESS),
        ("print('Warning: w')", {}, Status.WARNING),
    ):
        assert expected is run(project, code, **options).status
        assert first == supervisor(project)
        wait_until(lambda: at_rest(first))

    assert before == (first.num_fds(), host_signals(first))
    assert [] == first.children()


def host_signals(process: psutil.Process) -> list[str]:
    """The signals that a process ignores and handles."""
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return [line for line in status if line.startswith(("SigIgn", "SigCgt"))]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_is_killed_at_rest(project: TinyProject, number: signal.Signals) -> None:
    """The next run has another one."""
    run(project)
    first = supervisor(project)
    wait_until(lambda: at_rest(first))
    first.send_signal(number)

    assert Status.SUCCESS is run(project).status
    assert first != supervisor(project)


def test_one_that_is_killed_with_its_run(project: TinyProject) -> None:
    """The run is lost, and the next one has another supervisor."""
    lost = run(project, "os.kill(os.getppid(), 9)\nimport time\ntime.sleep(60)")
    first = int((project.folder("fit", "a") / "supervisor").read_text())

    assert (Status.ERROR, "lost") == (lost.status, lost.cause)
    assert Status.SUCCESS is run(project).status
    assert first != supervisor(project).pid


def test_a_flow_sees_nothing_of_earlier_runs(project: TinyProject) -> None:
    """Modules, threads, descriptors and children of the process are those of a first run."""
    code = """
# %%
import sys, threading, json
state = {
    "modules": sorted(name for name in sys.modules if not name.startswith("ductaflow")),
    "threads": [thread.name for thread in threading.enumerate()],
    "descriptors": len(os.listdir("/proc/self/fd")),
    "tasks": len(os.listdir("/proc/self/task")),
    "name": threading.Thread().name,
    "next": threading.Thread().name,
    "finders": list(map(repr, sys.path_hooks)),
}
_ = pathlib.Path("state.json").write_text(json.dumps(state, indent=1))
"""
    found = []
    for instance in ("a", "b", "c"):
        run(project, code, instance)
        wait_until(lambda name=instance: at_rest(supervisor(project, name)))  # type: ignore[misc]
        found.append((project.folder("fit", instance) / "state.json").read_text())

    assert supervisor(project, "a") == supervisor(project, "c")
    assert found[0] == found[1] == found[2]


def test_what_is_read_ahead_later(project: TinyProject) -> None:
    """A flow that comes later is read by its branch, and its run has a supervisor that knows it."""
    run(project)
    first = supervisor(project)
    wait_until(lambda: at_rest(first))
    project.run_code(TELLS, flow="other", engine="warm")
    second = (project.folder("other", "a") / "supervisor").read_text()

    assert str(first.pid) != second
    first.wait(5)


def test_runs_at_once(project: TinyProject) -> None:
    """Each run in flight has its own; no more are kept than there is use for."""
    source = project.flow("fit", TELLS + "while not os.path.exists('../go'):\n    pass\n")
    names = [f"n{number}" for number in range(MOST_AT_REST + 2)]

    def one(name: str) -> None:
        run_notebook(source, config={}, execution_dir=project.folder("fit", name), export_html=False)

    with ThreadPoolExecutor(len(names)) as pool:
        runs = [pool.submit(one, name) for name in names]
        wait_until(lambda: all((project.folder("fit", name) / "supervisor").exists() for name in names))
        processes = {name: supervisor(project, name) for name in names}
        (project.root / "runs" / "fit" / "go").touch()
        for future in runs:
            future.result()

    assert len(names) == len(set(processes.values()))
    wait_until(lambda: sum(map(psutil.Process.is_running, processes.values())) == MOST_AT_REST)


def test_kills_at_any_moment(project: TinyProject) -> None:
    """Whoever of them is killed, at work or at rest: each run has a result, and the next one is good."""
    run(project)
    branch = supervisor(project).parent()
    over, moments = threading.Event(), random.Random(1)

    def kill() -> None:
        while not over.wait(moments.uniform(0, 0.6)):
            for process in branch.children()[-1:]:
                process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        results = [run(project, instance=f"n{number}") for number in range(6)]
    finally:
        over.set()
        killer.join()

    assert {Status.SUCCESS, Status.ERROR} >= {result.status for result in results}
    assert {None, "lost"} >= {result.cause for result in results}
    assert Status.SUCCESS is run(project).status


def test_the_end_of_a_watch() -> None:
    """Whoever watches for the end of a process can end that: nothing is left of it, and nothing is called."""
    before, called = len(os.listdir("/proc/self/fd")), threading.Event()
    host.when_gone(os.getpid(), called.set)()

    assert before == len(os.listdir("/proc/self/fd"))
    assert not called.is_set()

    process = psutil.Popen(["sleep", "60"])
    end = host.when_gone(process.pid, called.set)
    process.kill()
    assert called.wait(10)
    process.wait()
    end()
    assert before == len(os.listdir("/proc/self/fd"))
    # of a process that is gone
    called.clear()
    host.when_gone(process.pid, called.set)
    assert called.wait(10)
