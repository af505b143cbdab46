"""Sessions whose runs do not all fit on the machine at a time: real processes, and a budget of a project."""

from __future__ import annotations

import signal
import subprocess

import pytest
from support import TinyProject, command, run_pytest, table, wait_until

from ductaflow import conduct

pytestmark = pytest.mark.usefixtures("no_process_left")

#: Fails if another one of its kind runs.
ALONE = """
    # %%
    import os, time
    from pathlib import Path
    busy = Path(config["_project_root"], "busy")
    os.close(os.open(busy, os.O_CREAT | os.O_EXCL))
    time.sleep(0.2)
    busy.unlink()
"""
BIG = {"memory": "600 MB"}


@pytest.fixture
def crowd(project: TinyProject) -> TinyProject:
    """Three big runs, of which two do not fit at a time, one that reads from one, and small ones."""
    project.settings('memory = "1 GB"\nhtml = false')
    project.flow("big", ALONE)
    for name in "abc":
        project.config(f"flows/big/{name}.json", _run=BIG)
    project.config("flows/big/after.json", _run={**BIG, "needs": ["big/a"]})
    project.flow("small", "# %%\nimport time; time.sleep(0.05)\n")
    for name in "abcd":
        project.config(f"flows/small/{name}.json", _run={"memory": "1 MB"})
    return project


def test_a_session_of_pytest_starts_what_has_room(crowd: TinyProject) -> None:
    """No two big ones run at a time; one that asks for more than there is runs alone and says so. A worker
    that dies keeps nothing waiting."""
    crowd.config("flows/big/whole.json", _run={"memory": "64 TB", "cpus": 999})
    (crowd.root / "test_deadly.py").write_text(
        "import os, signal\ndef test_deadly():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    session = run_pytest(crowd.root, "-n", "3", "config", "test_deadly.py")

    assert " waited for room on this machine: big[" in session.out
    assert {"success"} == set(session.statuses().values()), session.out
    assert 9 == len(session.statuses())
    assert "crashed while running 'test_deadly.py::test_deadly'" in session.out
    result = crowd.result("big", "whole")
    assert "_run.cpus is 999, and there are" in result.message
    assert "_run.memory is 64 TB, and the project has 1.0 GB" in result.message


@pytest.mark.parametrize(("workers", "expected"), [("2", 1), ("1", 0)])
def test_a_chosen_distribution_says_that_nothing_waits(
    project: TinyProject, workers: str, expected: int
) -> None:
    """Once, at the end, where something asks for room and runs are beside each other."""
    project.settings('memory = "1 GB"\nhtml = false')
    project.flow("fit", "")
    for name in "ab":
        project.config(f"flows/fit/{name}.json", _run=BIG)

    session = run_pytest(project.root, "-n", workers, "--dist", "load", "-q")

    line = (
        "ductaflow: with --dist=load no run waits for room: the setting memory"
        " and _run.cpus or _run.memory of fit/a, fit/b did not count for that"
    )
    assert expected == session.out.count(line), session.out
    assert expected == session.out.count("waits for room")


def test_commands_say_what_waits(crowd: TinyProject) -> None:
    """`run -j` says for what; `plan` beforehand, with what each takes."""
    plan = crowd.output("plan", "-j", "2")
    assert "600 MB" in next(line for line in plan.splitlines() if "big/b" in line)
    assert "would wait for 600 MB of memory, of which 400 MB are free; " in plan

    done = crowd.cli("run", "big", "-j", "2")

    assert 0 == done.exit_code, done.output
    assert "waits for 600 MB of memory, of which 400 MB are free" in done.output


def test_rows_of_a_table_that_do_not_fit(crowd: TinyProject) -> None:
    """`conduct` starts what has room, too."""
    done = conduct(
        table(*"xyz"), "big", config={"_run": BIG}, project_root=crowd.root, jobs=3, progress=False
    )
    assert ["success"] * 3 == [*done["status"]]


@pytest.mark.parametrize("workers", ["2"])
def test_ctrl_c_while_something_waits(crowd: TinyProject, workers: str) -> None:
    """It ends at once: what runs is interrupted, and what waits has not run."""
    crowd.flow("big", '# %%\nimport time\nopen("begun", "w").close()\ntime.sleep(600)\n')
    process = subprocess.Popen(
        command("--ductaflow", "-p", "no:cacheprovider", "-n", workers, "-k", "big"),
        cwd=crowd.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: [*crowd.root.glob("runs/big/*/begun")], seconds=60)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)

    statuses = [crowd.folder("big", name) / "result.json" for name in ("a", "b", "c", "after")]
    assert 1 == len([file for file in statuses if file.exists()]), out
    assert 2 == process.returncode
