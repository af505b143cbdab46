"""`ductaflow run`: folders again in place, variants under another name, several at a time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject, cli, wait_until

from ductaflow.common.errors import Failure
from ductaflow.store.folder import held
from ductaflow.store.result import Cells, LogWarning, Result, Status
from ductaflow.store.verdict import judge_again

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]

ASSIGN = """
# %%
from pathlib import Path
print(Path("../prep/x.csv").read_text() if Path("../prep/x.csv").exists() else "no prep")
if Path(config["_project_root"], "stop").exists():
    raise ValueError("stop")
if Path(config["_project_root"], "warn").exists():
    print("Warning: careful")
Path("trips.csv").write_text(str(config["factor"]))
"""
BUILD = """
# %%
from ductaflow import run_notebook
run_notebook("flows/prep.py", config={"n": config["n"]}, execution_dir="runs/prep")
# %%
try:
    run_notebook("flows/assign.py", config={"factor": config["n"]}, execution_dir="runs/assign")
except Exception as exc:
    if not config.get("caught"):
        raise
    print("went on")
# %%
print("the end")
"""


@pytest.fixture
def project(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """A flow with two instances, and a build of two flows with two instances; started in its root."""
    project.flow("fit", '# %%\nprint("x is", config["x"])\nopen("x.csv", "w").write(str(config["x"]))\n')
    project.flow("prep", '# %%\nopen("x.csv", "w").write(str(config["n"]))\n')
    project.flow("assign", ASSIGN)
    project.flow("projection", BUILD, kind="builds")
    project.config("flows/fit.json", x=1, title="{instance} of {x}", nested={"deep": 1})
    project.config("flows/fit/a.json", own="runs/fit/{instance}/note.txt")
    project.config("flows/fit/b.json", data="runs/fit/a/x.csv")
    project.config("builds/projection/s1.json", n=1, caught=True)
    project.config("builds/projection/s2.json", n=2)
    monkeypatch.chdir(project.root)
    return project


def result(project: TinyProject, folder: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((project.root / "runs" / folder / "result.json").read_bytes())
    return data


def saved(project: TinyProject, flow: str, name: str) -> dict[str, Any]:
    file = project.folder(flow, name) / f"{flow}_config.json"
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data


def flag(project: TinyProject, name: str, on: bool) -> None:
    file = project.root / name
    file.touch() if on else file.unlink(missing_ok=True)


# --- a folder of an instance -------------------------------------------------------------------------------


def test_a_run_folder_runs_with_its_saved_config(project: TinyProject) -> None:
    """What is stored has changed since, the folder has not; the id runs what is stored."""
    assert 0 == cli("run", "fit/a").exit_code
    project.config("flows/fit/a.json", x=5)
    assert "x is 1\n" in cli("run", "runs/fit/a").stdout
    assert "x is 5\n" in cli("run", "fit/a").stdout
    assert "x is 5\n" in cli("run", project.folder("fit", "a")).stdout


def test_a_moved_project_runs_its_folders(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """`_project_root` is computed anew, also in paths below it; the working directory need not be in it."""
    project.config("flows/fit/a.json", file="{project_root}/inputs/x.csv")
    assert 0 == cli("run", "fit/a").exit_code
    there = project.root.with_name("there")
    shutil.move(project.root, there)
    monkeypatch.chdir(there.parent)
    assert 0 == cli("run", "there/runs/fit/a").exit_code
    config = saved(TinyProjectAt(there), "fit", "a")
    assert [str(there), f"{there}/inputs/x.csv"] == [config["_project_root"], config["file"]]


class TinyProjectAt(TinyProject):
    """A project that is there already."""

    def __init__(self, root: Path) -> None:
        self.root = root


def test_folders_follow_the_graph(project: TinyProject) -> None:
    """b reads a, whatever the order on the command line and whether it is given as id or folder."""
    assert 0 == cli("run", "fit/a", "fit/b").exit_code
    for targets in (("runs/fit/b", "runs/fit/a"), ("runs/fit/b", "fit/a"), ("fit/b", "runs/fit/a")):
        done = cli("run", *targets)
        starts = [line[-1] for line in done.stdout.splitlines() if "Starting" in line]
        assert (0, ["a", "b"]) == (done.exit_code, starts)


def test_options_of_execution_are_saved_with_the_config(project: TinyProject) -> None:
    """A time limit and `allow_exit` hold when the folder runs again; the flow sees nothing of them."""
    project.flow("early", "# %%\nimport sys\nprint(sorted(config))\nsys.exit(0)\n# %%\nprint('never')\n")
    project.config("flows/early/x.json", _run={"allow_exit": True, "timeout": 50, "tags": ["slow"]})
    assert 0 == cli("run", "early/x").exit_code
    assert {"allow_exit": True, "timeout": 50} == saved(project, "early", "x")["_run"]
    project.config("flows/early/x.json")
    done = cli("run", "runs/early/x")
    assert "['_project_root']\n" in done.stdout
    assert ("success", 0) == (result(project, "early/x")["status"], done.exit_code)
    assert 0 == cli("run", "fit/a").exit_code
    assert "_run" not in saved(project, "fit", "a")


def test_the_same_one_twice(project: TinyProject) -> None:
    """A folder that is given twice runs once; by its id too it is not clear what is meant."""
    assert 0 == cli("run", "fit/a").exit_code
    done = cli("run", "runs/fit/a", "runs/fit/../fit/a/")
    assert 1 == done.stdout.count("Starting")
    done = cli("run", "fit/a", "runs/fit/a")
    assert (2, "") == (done.exit_code, done.stdout)
    assert "fit/a is given by its id and by its run folder" in done.stderr


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("runs/fit/nobody", "there is no folder runs/fit/nobody"),
        ("runs/odd", "holds no saved config"),
        ("runs/odd/x", "is a run of odd, and there is no flows/odd.py"),
        ("runs/two/x", "which flow ran there is unclear, found one, other"),
        ("..", "does not belong to the project"),
        ("fit/nobody", "fit has no stored instance"),
    ],
)
def test_what_cannot_be_run_again(project: TinyProject, target: str, text: str) -> None:
    """One clear error before anything runs."""
    for name in ("odd/x/odd", "two/x/one", "two/x/other"):
        file = project.root / "runs" / f"{name}_config.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    done = cli("run", "fit/a", target)
    assert (2, "") == (done.exit_code, done.stdout)
    assert text in done.stderr
    assert not project.folder("fit", "a").exists()


# --- a flow inside a build ---------------------------------------------------------------------------------


def test_a_flow_of_a_build_runs_again_and_the_build_follows(project: TinyProject) -> None:
    """Red, then green, then red again: each time the build has the worst of its log and its flows."""
    flag(project, "stop", True)
    assert 1 == cli("run", "projection/s1").exit_code
    build = "projection/s1"
    before = (project.root / "runs" / build / "projection_execution_output.txt").read_bytes()
    assert ("error", "flow assign/assign: flows/assign.py:") == (
        result(project, build)["status"],
        result(project, build)["message"][:36],
    )

    flag(project, "stop", False)
    done = cli("run", "runs/projection/s1/runs/assign")
    assert 0 == done.exit_code, done.output
    assert "  1\n" not in done.stdout
    assert "build projection/s1 is success now: flow assign/assign ran again by itself since\n" in done.stdout
    assert "1" == (project.root / "runs" / build / "runs/assign/trips.csv").read_text()
    assert ("success", None) == (result(project, build)["status"], result(project, build)["cause"])

    flag(project, "warn", True)
    assert 0 == cli("run", "runs/projection/s1/runs/assign").exit_code
    assert "warning" == result(project, build)["status"]
    assert (
        "flow assign/assign: 1 warning line; flow assign/assign ran again by itself since"
        == result(project, build)["message"]
    )

    flag(project, "stop", True)
    done = cli("run", "runs/projection/s1/runs/assign")
    assert (1, "1 of 1 failed: runs/projection/s1/runs/assign\n") == (done.exit_code, done.stderr)
    assert ("error", "exception") == (result(project, build)["status"], result(project, build)["cause"])
    assert before == (project.root / "runs" / build / "projection_execution_output.txt").read_bytes()


def test_a_flow_of_a_build_that_has_not_changed_is_left_alone(project: TinyProject) -> None:
    """With `--changed` a folder runs only where something changed; what ran again alike leaves its build
    unchanged too, and what did not makes it run."""
    assert 0 == cli("run", "projection/s1").exit_code
    flow, build = "runs/projection/s1/runs/prep", "projection/s1"
    before = result(project, f"{build}/runs/prep")["run_id"]

    assert "Unchanged: prep/prep" in cli("run", flow, "--changed").stdout
    assert before == result(project, f"{build}/runs/prep")["run_id"]
    assert 0 == cli("run", flow).exit_code
    assert before != result(project, f"{build}/runs/prep")["run_id"]
    assert "Unchanged: projection/s1" in cli("run", build, "--changed").stdout

    project.flow("prep", '# %%\nopen("x.csv", "w").write(str(config["n"] + 1))\n')
    assert "Unchanged" not in cli("run", flow, "--changed").stdout
    assert "2" == (project.root / flow / "x.csv").read_text()


def test_a_build_that_stopped_at_its_flow_stays_red(project: TinyProject) -> None:
    """Its later cells have not run; the message says that the flow has run since, once."""
    flag(project, "stop", True)
    assert 1 == cli("run", "projection/s2").exit_code
    old = result(project, "projection/s2")
    flag(project, "stop", False)
    for _ in range(2):
        assert 0 == cli("run", "runs/projection/s2/runs/assign").exit_code
    new = result(project, "projection/s2")
    assert "success" == result(project, "projection/s2/runs/assign")["status"]
    message = f"{old['message']}; flow assign/assign ran again by itself since"
    assert {**old, "message": message} == new


def test_flows_of_one_build_run_in_the_order_given(project: TinyProject) -> None:
    """One after another, also with -j: they may read each other; those of other builds run beside them."""
    assert 0 == cli("run", "projection/s1", "projection/s2", "-j", 2).exit_code
    folders = [f"runs/projection/{s}/runs/{flow}" for flow in ("prep", "assign") for s in ("s1", "s2")]
    done = cli("run", *folders, "-j", 2)
    assert 0 == done.exit_code, done.output
    lines = [line.split()[0] for line in done.stdout.splitlines() if " success in " in line]
    assert sorted(folders) == sorted(lines)
    for s in ("s1", "s2"):
        prep, assign = (result(project, f"projection/{s}/runs/{flow}") for flow in ("prep", "assign"))
        assert prep["finished"] <= assign["started"]


def test_after_a_red_flow_the_next_of_the_build_is_blocked(project: TinyProject) -> None:
    """It would read what is not there."""
    assert 0 == cli("run", "projection/s1").exit_code
    flag(project, "stop", True)
    done = cli("run", "runs/projection/s1/runs/assign", "runs/projection/s1/runs/prep")
    assert 1 == done.exit_code
    assert "runs/projection/s1/runs/prep blocked: " in done.stderr


def test_a_build_that_runs_keeps_its_flows(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs in a build that another session holds."""
    monkeypatch.setattr("ductaflow.store.folder.AFTERWARDS_SECONDS", 0.2)
    assert 0 == cli("run", "projection/s1").exit_code
    started = result(project, "projection/s1/runs/assign")["started"]
    with held(project.folder("projection", "s1"), project.root / "runs"):
        done = cli("run", "runs/projection/s1/runs/assign")
    assert 1 == done.exit_code
    assert "projection/s1 is held by" in done.stderr
    assert started == result(project, "projection/s1/runs/assign")["started"]
    assert 0 == cli("run", "runs/projection/s1/runs/assign").exit_code


def test_a_build_that_has_no_result_yet_keeps_its_flows(project: TinyProject) -> None:
    """Its run goes on in another process."""
    assert 0 == cli("run", "projection/s1").exit_code
    project.flow("projection", 'open("here", "w")\nimport time\ntime.sleep(600)\n', kind="builds")
    command = "import sys; from ductaflow.cli.app import main; main(['run', 'projection/s1'])"
    process = subprocess.Popen([sys.executable, "-c", command])
    try:
        wait_until((project.folder("projection", "s1") / "here").exists)
        done = cli("run", "runs/projection/s1/runs/assign")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    assert 1 == done.exit_code
    assert "projection/s1 is held by process" in done.stderr


def test_a_linked_runs_folder_is_known_by_both_names(project: TinyProject) -> None:
    """Results may lie where there is room."""
    there = project.root.with_name("scratch")
    there.mkdir()
    (project.root / "runs").symlink_to(there)
    assert 0 == cli("run", "fit/a").exit_code
    assert "x is 1\n" in cli("run", there / "fit/a").stdout


def test_builds_in_builds_follow_up_to_the_top(project: TinyProject) -> None:
    """The inner build is judged first, then the one around it."""
    outer = """
# %%
from ductaflow import run_notebook
try:
    run_notebook("builds/projection.py", config={"n": 3, "caught": True}, execution_dir="runs/inner")
except Exception:
    print("went on")
"""
    project.flow("outer", outer, kind="builds")
    project.config("builds/outer/o.json")
    flag(project, "stop", True)
    assert 1 == cli("run", "outer/o").exit_code
    assert "error" == result(project, "outer/o")["status"]
    flag(project, "stop", False)
    done = cli("run", "runs/outer/o/runs/inner/runs/assign")
    assert 0 == done.exit_code, done.output
    folders = ("outer/o", "outer/o/runs/inner", "outer/o/runs/inner/runs/assign")
    assert ["success"] * 3 == [result(project, folder)["status"] for folder in folders]


def build_result(**values: Any) -> Result:
    return Result("b", "x", "build", **{"status": Status.SUCCESS, "cells": Cells(3, 3), **values})


GREEN = Result("f", "f", "flow", Status.SUCCESS)
ORANGE = Result("f", "f", "flow", Status.WARNING, message="1 warning line")
RED = Result("f", "f", "flow", Status.ERROR, "exit", "sys.exit(3) in cell 1 of 1")
BY_FLOW = {"status": Status.ERROR, "cause": "exception", "message": "flow f/f: boom"}
AGAIN = "flow f/f ran again by itself since"
FAILURE = Failure("b.py", 3, 1, "ValueError", "x", "")
EARLY = (LogWarning(4, "⚠ stopped early at cell 2 of 3"),)
JUDGED = [
    (build_result(), GREEN, "success", AGAIN),
    (build_result(), ORANGE, "warning", f"flow f/f: 1 warning line; {AGAIN}"),
    (build_result(), RED, "error", f"flow f/f: sys.exit(3) in cell 1 of 1; {AGAIN}"),
    (build_result(**BY_FLOW), GREEN, "success", AGAIN),
    (build_result(**BY_FLOW, warning_count=2), GREEN, "warning", f"2 warning lines; {AGAIN}"),
    # what it was itself
    (build_result(**BY_FLOW, failure=FAILURE), GREEN, "error", f"flow f/f: boom; {AGAIN}"),
    (build_result(**{**BY_FLOW, "cause": "input"}), GREEN, "error", f"flow f/f: boom; {AGAIN}"),
    (build_result(**BY_FLOW, exit_code=1), GREEN, "error", f"flow f/f: boom; {AGAIN}"),
    (build_result(**BY_FLOW, cells=Cells(2, 3)), GREEN, "error", f"only 2 of 3 code cells ran; {AGAIN}"),
    (
        build_result(status=Status.ERROR, cause="timeout", message="did not finish"),
        GREEN,
        "error",
        f"did not finish; {AGAIN}",
    ),
    # it left early by itself
    (
        build_result(**BY_FLOW, cells=Cells(2, 3), warnings=EARLY, warning_count=1),
        GREEN,
        "warning",
        f"1 warning line; {AGAIN}",
    ),
    (
        build_result(
            status=Status.WARNING,
            message="stopped early at cell 2 of 3",
            cells=Cells(2, 3),
            warnings=EARLY,
            warning_count=1,
        ),
        GREEN,
        "warning",
        f"stopped early at cell 2 of 3; {AGAIN}",
    ),
    (build_result(cells=Cells(2, 3)), GREEN, "success", AGAIN),
    # notes stay, each once
    (build_result(message=f"flow g/g ran again by itself since; {AGAIN}"), GREEN, "success", None),
]


@pytest.mark.parametrize(("build", "flow", "status", "message"), JUDGED)
def test_how_a_build_is_judged_again(build: Result, flow: Result, status: str, message: str | None) -> None:
    """Its own faults stay, its flows are taken as they are now."""
    new = judge_again(build, [flow], flow, allow_exit=False)
    assert (status, message or build.message) == (new.status, new.message)
    assert new == judge_again(new, [flow], flow, allow_exit=False)


# --- another name ------------------------------------------------------------------------------------------


def test_a_variant_of_a_stored_instance(project: TinyProject) -> None:
    """Placeholders are filled with the new values; it reads what the original reads; own paths move."""
    assert 0 == cli("run", "fit/a").exit_code
    done = cli("run", "fit/b", "--set", "x=2", "--set", "nested.deep=[1, 2]", "--as", "high")
    assert 0 == done.exit_code, done.output
    config = saved(project, "fit", "high")
    assert {"x": 2, "title": "b of 2", "nested": {"deep": [1, 2]}, "data": "runs/fit/a/x.csv"} == {
        key: config[key] for key in ("x", "title", "nested", "data")
    }
    assert ("high", "success") == tuple(result(project, "fit/high")[key] for key in ("instance", "status"))
    assert not project.folder("fit", "b").exists()
    assert not (project.root / "config/flows/fit/high.json").exists()
    assert "x is 2\n" in cli("run", "runs/fit/high").stdout

    assert 0 == cli("run", "fit/a", "--as", "copy").exit_code
    assert "runs/fit/copy/note.txt" == saved(project, "fit", "copy")["own"]


def test_a_variant_of_a_run_folder(project: TinyProject) -> None:
    """Over its saved config, of whatever is stored by now."""
    assert 0 == cli("run", "fit/a").exit_code
    project.config("flows/fit/a.json", x=7)
    assert 0 == cli("run", "runs/fit/a", "--set", "nested.deep=3", "--as", "deeper").exit_code
    config = saved(project, "fit", "deeper")
    assert (1, 3, "runs/fit/deeper/note.txt") == (config["x"], config["nested"]["deep"], config["own"])


def test_options_of_run_can_be_set(project: TinyProject) -> None:
    """`_run.timeout` goes by the name that it has in a table."""
    assert 0 == cli("run", "fit/a", "--set", "_run.timeout=70", "--as", "short").exit_code
    assert {"timeout": 70} == saved(project, "fit", "short")["_run"]
    done = cli("run", "runs/fit/short", "--set", "_run.allow_exit=true", "--as", "shorter")
    assert 0 == done.exit_code
    assert {"timeout": 70, "allow_exit": True} == saved(project, "fit", "shorter")["_run"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fit/a", "--set", "x=2"), "--set needs --as NAME"),
        (("fit/a", "fit/b", "--as", "new"), "--as new takes one instance, not 2"),
        (("fit/a", "--as", "b"), "fit/b is stored already, in"),
        (("fit/a", "--as", "B"), "fit/b is stored already, in"),
        (("fit/a", "--as", "a/b"), '"a/b" cannot be a name'),
        (("fit/a", "--as", ""), "it is empty"),
        (("fit/a", "--set", "y=2", "--as", "new"), "fit/a has no key y\nIt has x, title, nested, own."),
        (("fit/a", "--set", "titel=2", "--as", "new"), "fit/a has no key titel\nDid you mean title?"),
        (
            ("fit/a", "--set", "nested.dep=2", "--as", "new"),
            "nested of fit/a has no key dep\nDid you mean deep?",
        ),
        (("fit/a", "--set", "x.y=2", "--as", "new"), "--set x.y: x of fit/a is not an object"),
        (("fit/a", "--set", "x", "--as", "new"), "--set x is not an assignment\nWrite --set key=value."),
        (("fit/a", "--set", "x=1", "--set", "x=2", "--as", "new"), "--set gives x twice"),
        (("fit/a", "--set", "x=[1", "--as", "new"), "--set x: "),
        (("fit/a", "--set", "_project_root=/", "--as", "new"), "has no key _project_root"),
        (("fit/a", "--set", "_run.timeot=1", "--as", "new"), "Did you mean timeout?"),
        (("fit/a", "-j", "0"), "0 is not in the range"),
    ],
)
def test_what_makes_no_variant(project: TinyProject, arguments: tuple[str, ...], text: str) -> None:
    """An error with its remedy; nothing runs."""
    done = cli("run", *arguments)
    assert 2 == done.exit_code
    assert text in done.stderr
    assert not (project.root / "runs").exists()


def test_a_flow_of_a_build_has_no_variant(project: TinyProject) -> None:
    """It would be in no build's log."""
    assert 0 == cli("run", "projection/s1").exit_code
    done = cli("run", "runs/projection/s1/runs/assign", "--as", "other")
    assert 2 == done.exit_code
    assert "is not an instance's own run folder" in done.stderr


# --- several at a time -------------------------------------------------------------------------------------


def test_several_at_a_time(project: TinyProject) -> None:
    """Both are there at once, in the order of the graph; a line each in place of the logs."""
    meet = """
# %%
from pathlib import Path
import time
Path(config["_project_root"], config["me"]).touch()
while not Path(config["_project_root"], config["other"]).exists():
    time.sleep(0.01)
"""
    project.flow("meet", meet)
    project.config("flows/meet.json", _run={"timeout": 60})
    project.config("flows/meet/a.json", me="a", other="b")
    project.config("flows/meet/b.json", me="b", other="a")
    project.config("flows/fit/last.json", data="runs/meet/a/x", _run={"needs": ["meet/b"]})
    done = cli("run", "fit/last", "meet/a", "meet/b", "-j", 2)
    assert 0 == done.exit_code, done.output
    lines = [line.split()[:3] for line in done.stdout.splitlines()]
    assert [["fit[last]", "success", "in"]] == lines[2:-1]
    assert "Report:" == lines[-1][0]
    assert ["meet[a]", "meet[b]"] == sorted(line[0] for line in lines[:2])


def test_ctrl_c_stops_a_flow_of_a_build_and_its_build_is_red(project: TinyProject) -> None:
    """Exit code 130, the flow is interrupted, and the build is judged before the command ends."""
    assert 0 == cli("run", "projection/s1").exit_code
    wait = '# %%\nopen("here", "w")\nimport time\ntime.sleep(600)\n'
    project.flow("assign", wait)
    command = "import sys; from ductaflow.cli.app import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "run", "runs/projection/s1/runs/assign"],
        env={**os.environ, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until((project.root / "runs/projection/s1/runs/assign/here").exists)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (130, "Interrupted.\n") == (process.returncode, err)
    assert "interrupted" == result(project, "projection/s1/runs/assign")["cause"]
    build = result(project, "projection/s1")
    assert ("error", "interrupted") == (build["status"], build["cause"])
