"""Conducting: a table of scenarios becomes runs and a table of results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import TinyProject, end_by_two_ctrl_c, processes_of, report, table, wait_until

import ductaflow.session.conductor as conductor
from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.common.paths import RunFolder
from ductaflow.project.instances import Instance
from ductaflow.project.settings import Settings
from ductaflow.report.live import LiveReport
from ductaflow.report.twin import Entry
from ductaflow.session.conductor import conduct
from ductaflow.session.decide import NOT_STARTED
from ductaflow.session.scheduler import Threads
from ductaflow.store.folder import Claim, Owner
from ductaflow.store.result import Result, Status, read_result, write_result
from ductaflow.store.verdict import UNWAITED

pytestmark = pytest.mark.usefixtures("no_process_left")

FLOW = """
# %%
print("x is", config["x"])
assert config["x"] != 2, "two"
open("out.txt", "w").write(str(config["x"]))
"""


class Fake:
    """Runs that take no time: a script of statuses by name, the order of starts, the most at a time."""

    def __init__(self, **statuses: Status | BaseException) -> None:
        self.statuses = statuses
        self.started: list[str] = []
        self.configs: dict[str, dict[str, Any]] = {}
        self.options: dict[str, Any] = {}
        self.settings = Settings()
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, instance: Instance, *, stop: threading.Event, check: bool, **options: Any) -> Result:
        assert not check
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.started.append(instance.name)
            self.configs[instance.name] = instance.config
            self.options, self.settings = options, instance.project.settings
        status = self.statuses.get(instance.name, Status.SUCCESS)
        if isinstance(status, BaseException):
            raise status
        with self._lock:
            self._now -= 1
        message = "went wrong" if status is Status.ERROR else ""
        return Result(instance.flow, instance.name, instance.kind, status, message=message, run_id="r")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    runs = Fake()
    monkeypatch.setattr(conductor, "run_instance", runs)
    return runs


# --- real runs ---------------------------------------------------------------------------------------------


def test_a_table_becomes_runs_and_results(project: TinyProject, capfd: pytest.CaptureFixture[str]) -> None:
    """Two jobs: each row has its folder, config, status and reason; a red one stops nobody; one report."""
    project.flow("fit", FLOW)
    project.config("base.json", unit="ppm", x=0)
    rows = table("a", "b", "c", x=[1, 2, None])
    done = conduct(rows, "fit", jobs=2, project_root=project.root, config={"common": True}, export_html=False)

    assert ["success", "error", "success"] == list(done["status"])
    assert [None, "exception", None] == list(done["cause"])
    assert "flows/fit.py:6: AssertionError: two" == done["message"][1]
    assert [str(project.folder("fit", name)) for name in "abc"] == list(done["folder"])
    assert list(rows.columns) == list(done.columns)[:2]
    assert ["1", "0"] == [(project.folder("fit", name) / "out.txt").read_text() for name in "ac"]
    config = json.loads((project.folder("fit", "a") / "fit_config.json").read_bytes())
    assert {"unit": "ppm", "x": 1, "common": True} == {
        k: v for k, v in config.items() if k != "_project_root"
    }
    page = report(project)
    assert ["fit/a", "fit/b", "fit/c"] == [instance["id"] for instance in page["instances"]]
    assert (2, 1) == (page["summary"]["success"], page["summary"]["error"])
    assert page["finished"]
    assert {"x": 1} == page["instances"][0]["parameters"]
    out = capfd.readouterr()
    assert "x is" not in out.out, "several jobs show no prints"
    assert f"fit: 2 success, 1 error | Report: {project.root / 'runs'}" in out.out
    assert "" == out.err, "no bar where nobody sees it"


@pytest.mark.slow
def test_inside_a_build_the_rows_are_its_flows(project: TinyProject) -> None:
    """They run below the build's run folder; its log repeats their lines whole, its status is the worst."""
    project.flow("fit", FLOW)
    project.flow(
        "many",
        """
        # %%
        from ductaflow import conduct, scenarios

        done = conduct(scenarios({"x": [1, 2]}), "fit", jobs=2)
        print("statuses", *done["status"])
        """,
        kind="builds",
    )
    done = conduct(table("all"), "builds/many.py", project_root=project.root, progress=False)

    assert ["error"] == list(done["status"])
    folder = project.folder("many", "all")
    result = read_result(folder)
    assert result is not None
    assert {"runs/fit/x-1", "runs/fit/x-2"} == set(result.children)
    assert (folder / "runs" / "fit" / "x-1" / "out.txt").is_file()
    log = (folder / "many_execution_output.txt").read_text(encoding="utf-8")
    assert "\n  x is 1\n" in log
    assert "\n  AssertionError: two\n" in log
    assert "statuses success error\n" in log
    assert "Starting fit" not in log
    assert not list(folder.rglob("*status_report*"))
    flows = report(project)["instances"][0]["flows"]
    assert {"x-1": "success", "x-2": "error"} == {flow["instance"]: flow["status"] for flow in flows}


@pytest.mark.slow
def test_one_job_shows_each_log_and_a_plain_script_is_enough(project: TinyProject) -> None:
    """A script without main guard, from another directory: it shows what the flow prints."""
    project.flow("fit", FLOW)
    script = project.root / "conductor.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from ductaflow import conduct, scenarios

            print("begin")
            flow = {str(project.root / "flows" / "fit.py")!r}
            done = conduct(scenarios({{"x": [1]}}), flow, export_html=False)
            print(done["status"][0])
            """
        )
    )
    run = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        encoding="utf-8",
        cwd=project.root.parent,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert ["begin", "🚀 Starting fit | Instance: x-1", "x is 1"] == lines[:3]
    assert "success" == lines[-1]
    assert "" == run.stderr


INTERRUPTED = """
from ductaflow import conduct, scenarios

rows = scenarios({{"x": [1, 2, 3, 4]}})
conduct(rows, "wait", jobs=2, project_root={root!r}, config={{"started": {started!r}}})
"""
WAITING = """
# %%
import os, signal, subprocess, sys, time
if config["x"] > 1:
    # it notes that it should end, and does not
    signal.signal(signal.SIGINT, lambda *_: open("asked", "w").close())
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    open(f"{config['started']}/{config['x']}", "w").close()
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="process groups of POSIX")
def test_ctrl_c_stops_what_runs_and_the_report_is_final(project: TinyProject, tmp_path: Path) -> None:
    """SIGINT to the group: the conductor ends within 5 s, nothing is left, each row says what came of it."""
    project.flow("wait", WAITING)
    started = tmp_path / "started"
    started.mkdir()
    script = project.root / "conductor.py"
    script.write_text(INTERRUPTED.format(root=str(project.root), started=str(started)))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(list(started.iterdir())) < 2 and process.poll() is None and time.monotonic() < deadline:
            threading.Event().wait(0.05)
        os.killpg(process.pid, signal.SIGINT)
        begin = time.monotonic()
        _, err = process.communicate(timeout=20)
        assert time.monotonic() - begin < 5
    finally:
        process.kill()
        process.wait()
    assert b"KeyboardInterrupt" in err
    assert -signal.SIGINT == process.returncode
    assert [] == processes_of(str(project.root))
    page = report(project)
    assert page["finished"]
    became = {i["instance"]: (i["status"], i["cause"] or i["message"]) for i in page["instances"]}
    assert {
        "x-1": ("success", ""),
        "x-2": ("error", "interrupted"),
        "x-3": ("error", "interrupted"),
        "x-4": ("not_run", NOT_STARTED),
    } == became


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_second_ctrl_c_calls_what_had_begun_interrupted(
    project: TinyProject, tmp_path: Path, jobs: int
) -> None:
    """It ends the wait for runs that are being stopped; only what had not begun has not run."""
    project.flow("wait", WAITING)
    project.config("flows/wait.json", started=str(tmp_path))
    for number in (2, 3, 4):
        project.config(f"flows/wait/x-{number}.json", x=number)
    with project.command("run", "-j", jobs, "wait") as process:
        wait_until(lambda: jobs == len(list(tmp_path.glob("[234]"))))
        end_by_two_ctrl_c(process, lambda: jobs == len(list(project.root.glob("runs/wait/*/asked"))))
    page = report(project)
    assert page["finished"]
    begun, waited = ("error", "interrupted", UNWAITED), ("not_run", None, NOT_STARTED)
    became = [(one["status"], one["cause"], one["message"]) for one in page["instances"]]
    assert [begun] * jobs + [waited] * (3 - jobs) == sorted(became)
    wait_until(lambda: not processes_of(str(project.root)))


# --- what runs, in which order -----------------------------------------------------------------------------


def test_rows_run_after_those_that_they_read(project: TinyProject, fake: Fake) -> None:
    """A config path to the run folder of another row is enough; results are in the order of the rows."""
    project.flow("fit", "")
    rows = table("c", "b", "a", source=["runs/fit/b/x.csv", "runs/fit/a/x.csv", None])
    done = conduct(rows, "fit", jobs=3, project_root=project.root)
    assert ["a", "b", "c"] == fake.started
    assert ["c", "b", "a"] == list(done["instance"])


def test_a_red_row_blocks_what_reads_from_it_and_only_that(project: TinyProject, fake: Fake) -> None:
    """At any distance, with the red one as the reason; one that needs it by `_run.needs` too."""
    project.flow("fit", "")
    fake.statuses = {"a": Status.ERROR}
    rows = table("a", "b", "c", "d", "e", source=[None, "runs/fit/a", "runs/fit/b", None, None])
    rows["_run.needs"] = [None, None, None, None, "fit/a"]
    rows = rows.astype({"_run.needs": object}).where(rows.notna(), float("nan"))
    done = conduct(rows, "fit", project_root=project.root)
    assert ["a", "d"] == fake.started
    assert ["error", "blocked", "blocked", "success", "blocked"] == list(done["status"])
    assert "fit/a failed: went wrong" == done["message"][1]
    assert "fit/b is blocked: fit/a failed: went wrong" == done["message"][2]


def test_rows_that_read_each_other_do_not_run(project: TinyProject, fake: Fake) -> None:
    """The members of a cycle are red with the cycle as the reason; what reads from them is blocked."""
    project.flow("fit", "")
    rows = table("a", "b", "c", "d", source=["runs/fit/b", "runs/fit/a", "runs/fit/a", "x"])
    done = conduct(rows, "fit", project_root=project.root)
    assert ["d"] == fake.started
    assert ["error", "error", "blocked", "success"] == list(done["status"])
    assert "fit/a is part of a cycle" in done["message"][0]


def test_a_stored_instance_that_is_no_row_must_have_run(project: TinyProject, fake: Fake) -> None:
    """It does not run here: its last run is valid, or the row is red before it starts, with the command."""
    project.flow("fit", FLOW)
    project.flow("prep", FLOW)
    project.config("flows/prep/x.json")
    project.config("flows/prep/y.json")
    rows = table("a", "b", "c", "d", data=["runs/prep/x/out.csv", "runs/fit/a/x", "runs/prep/*", "inputs/x"])

    first = conduct(rows, "fit", project_root=project.root)
    assert ["error", "blocked", "error", "success"] == list(first["status"])
    assert (
        "fit/a reads from prep/x, but it has no finished run. Run it first: ductaflow run prep/x"
        == first["message"][0]
    )
    assert first["message"][2].endswith("Run them first: ductaflow run prep/x prep/y")
    assert ["d"] == fake.started

    for name, status in (("x", Status.WARNING), ("y", Status.ERROR)):
        folder = project.folder("prep", name)
        folder.mkdir(parents=True)
        write_result(Result("prep", name, "flow", status, message="boom"), folder)
    second = conduct(rows, "fit", project_root=project.root)
    assert ["success", "success", "error", "success"] == list(second["status"])
    assert "fit/c reads from prep/y, but its last run failed: boom." in second["message"][2]


def test_a_row_of_a_builds_table_reads_what_is_stored(project: TinyProject, fake: Fake) -> None:
    """Builds alike, and by `_run.needs`; one that is not stored is named."""
    project.flow("all", "pass", kind="builds")
    project.flow("prep", FLOW)
    project.config("flows/prep/x.json")
    rows = table("a", "b", "c", data=["runs/prep/x/out.csv", "", ""])
    rows["_run.needs"] = [None, "prep/x", "prep/z"]

    done = conduct(rows, "all", project_root=project.root)
    assert ["error"] * 3 == list(done["status"])
    assert "Run it first: ductaflow run prep/x" in done["message"][0]
    assert "Run it first: ductaflow run prep/x" in done["message"][1]
    assert "all/c needs prep/z (_run.needs[0]), which is no stored instance" in done["message"][2]
    assert [] == fake.started


def test_a_file_below_runs_that_nothing_stored_makes_must_be_there(project: TinyProject, fake: Fake) -> None:
    """As in every other way of running."""
    project.flow("fit", FLOW)
    rows = table("a", data=["runs/other/x/out.csv"])
    assert "which is not there" in conduct(rows, "fit", project_root=project.root)["message"][0]
    file = project.folder("other", "x") / "out.csv"
    file.parent.mkdir(parents=True)
    file.touch()
    assert ["success"] == list(conduct(rows, "fit", project_root=project.root)["status"])


def test_what_is_stored_is_not_read_without_need(
    project: TinyProject, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of stored configs cost nothing where no row names a run."""
    monkeypatch.setattr(conductor, "find_instances", None)
    project.flow("fit", FLOW)
    assert ["success"] == list(conduct(table("a", x=[1]), "fit", project_root=project.root)["status"])


#: Stands for a client where the runs are threads of this process.
CLIENT: Any = object()


@pytest.fixture
def on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an executor is given runs in threads; the cluster has tests of its own."""
    monkeypatch.setattr(conductor, "_executor", lambda *_: Threads(1))


def test_with_an_executor_stored_instances_that_rows_read_run_before_them(
    project: TinyProject, fake: Fake, on_threads: None
) -> None:
    """At any distance, unless their last run is valid; they are in the report and not in the table."""
    project.flow("fit", "")
    project.flow("prep", "")
    for name, reads in {"a": "runs/prep/b/x.csv", "b": None, "c": None, "unused": None}.items():
        project.config(f"flows/prep/{name}.json", reads=reads)
    folder = project.folder("prep", "c")
    folder.mkdir(parents=True)
    write_result(Result("prep", "c", "flow", Status.SUCCESS), folder)
    rows = table("x", "y", source=["runs/prep/a/x.csv", "runs/prep/c/x.csv"])
    done = conduct(rows, "fit", project_root=project.root, executor=CLIENT)
    assert ["b", "a", "x", "y"] == fake.started
    assert ["x", "y"] == list(done["instance"])
    assert {"fit/x", "fit/y", "prep/a", "prep/b"} == {
        i["id"] for i in report(project)["instances"] if not i["earlier"]
    }


def test_a_red_stored_upstream_blocks_its_row(project: TinyProject, fake: Fake, on_threads: None) -> None:
    """`check` names it; one that cannot run blocks as well, and a cycle through rows is found."""
    project.flow("fit", "")
    project.flow("prep", "")
    project.config("flows/prep/a.json")
    project.config("flows/prep/bad.json", _run={"timout": 3})
    project.config("flows/prep/round.json", reads="runs/fit/z")
    fake.statuses = {"a": Status.ERROR}
    rows = table("x", "y", "z", source=["runs/prep/a", "runs/prep/bad", "runs/prep/round"])
    done = conduct(rows, "fit", project_root=project.root, executor=CLIENT)
    assert ["blocked", "blocked", "error"] == list(done["status"])
    assert "prep/a failed: went wrong" == done["message"][0]
    assert "timout" in done["message"][1]
    assert "is part of a cycle" in done["message"][2]
    assert ["a"] == fake.started
    with pytest.raises(DuctaflowError, match=r"runs of fit failed: .*prep/a"):
        conduct(rows, "fit", project_root=project.root, executor=CLIENT, check=True)


def test_jobs_is_the_most_that_run_at_a_time(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs are reached and never passed."""
    project.flow("fit", "")
    together = threading.Barrier(3, timeout=30)

    class Slow(Fake):
        def __call__(self, instance: Instance, **options: Any) -> Result:
            together.wait()
            return super().__call__(instance, **options)

    fake = Slow()
    monkeypatch.setattr(conductor, "run_instance", fake)
    done = conduct(table(*"abcdef"), "fit", jobs=3, project_root=project.root)
    assert {"success"} == set(done["status"])
    assert fake.most <= 3


def test_options_reach_the_runs(project: TinyProject, fake: Fake) -> None:
    """Timeout, HTML and live log are passed on, with one session for all."""
    project.flow("fit", "")
    conduct(table("a"), "fit", project_root=project.root, timeout=3, export_html=False)
    session_id = fake.options.pop("session_id")
    assert {"echo": True, "await_page": False, "workers": 1} == fake.options
    assert Settings(timeout=3, html=False, only_changed=True) == fake.settings
    assert session_id == report(project)["session_id"]
    project.settings("keep_previous = false\ntimeout = 4")
    conduct(table("a"), "fit", project_root=project.root)
    assert Settings(timeout=4, keep_previous=False, only_changed=True) == fake.settings


def test_the_page_knows_tags_edges_and_who_ran_what(project: TinyProject, fake: Fake) -> None:
    """Edges lead to rows and to what is stored; what did not run has no worker, an earlier result nothing."""
    project.flow("fit", "")
    project.flow("prep", "")
    project.config("flows/prep/x.json")
    folder = project.folder("prep", "x")
    folder.mkdir(parents=True)
    write_result(Result("prep", "x", "flow", Status.SUCCESS), folder)
    fake.statuses = {"red": Status.ERROR, "same": Status.UNCHANGED}
    source = ["runs/prep/x/a.csv", "runs/fit/a/b.csv", None, "runs/fit/red", None, None]
    rows = table("a", "b", "red", "blocked", "same", "a/b", source=source)
    rows["_run.tags"] = ["slow", "slow ci", None, None, None, None]
    rows["_run.needs"] = [None, "prep/x", None, None, None, None]
    conduct(rows, "fit", project_root=project.root)

    known = {i["id"]: (i["tags"], i["upstreams"], i["worker"]) for i in report(project)["instances"]}
    assert {
        "fit/a": (["slow"], ["prep/x"], "w0"),
        "fit/b": (["slow", "ci"], ["fit/a", "prep/x"], "w0"),
        "fit/red": ([], [], "w0"),
        "fit/blocked": ([], ["fit/red"], None),
        "fit/same": ([], [], None),
        "fit/a/b": ([], [], None),
        "prep/x": ([], [], None),
    } == known


def test_planned_rows_have_their_edges_before_they_run(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens the page in the first second sees the graph and the tags; nobody runs anything yet."""
    project.flow("fit", "")
    seen: list[dict[str, Any]] = []

    def look(instance: Instance, **options: Any) -> Result:
        seen.append(report(project)["instances"])
        return Result(instance.flow, instance.name, instance.kind, Status.SUCCESS, run_id="r")

    monkeypatch.setattr(conductor, "run_instance", look)
    rows = table("a", "b", source=[None, "runs/fit/a/x.csv"])
    rows["_run.tags"] = [None, "slow"]
    conduct(rows, "fit", project_root=project.root)
    assert [("a", [], [], None), ("b", ["slow"], ["fit/a"], None)] == [
        (one["instance"], one["tags"], one["upstreams"], one["worker"]) for one in seen[0]
    ]


def test_each_job_has_a_worker_of_its_own(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs at the same time have different ones; one that is free is taken again, the first before others."""
    project.flow("fit", "")
    together = threading.Barrier(2, timeout=30)

    class Paired(Fake):
        def __call__(self, instance: Instance, **options: Any) -> Result:
            if instance.name in ("a", "b"):
                together.wait()
            return super().__call__(instance, **options)

    monkeypatch.setattr(conductor, "run_instance", Paired())
    rows = table("a", "b", "c", "d", source=[None, None, "runs/fit/[ab]", "runs/fit/c"])
    conduct(rows, "fit", jobs=2, project_root=project.root)
    assert ["w0", "w1", "w0", "w0"] == [one["worker"] for one in report(project)["instances"]]


# --- what goes wrong costs its row only --------------------------------------------------------------------


def test_a_row_that_cannot_start_is_an_error_row(
    project: TinyProject, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad name, value or option, and a run that is refused: red with the reason, the others run."""
    project.flow("fit", "")
    fake.statuses = {"held": DuctaflowError("in use", hint="Wait."), "full": OSError(28, "No space left")}
    rows = table("a/b", "set", "option", "held", "full", "good", x=[1, {2}, 1, 1, 1, 1])
    rows["_run.timout"] = [None, None, 3, None, None, None]
    done = conduct(rows, "fit", project_root=project.root)
    assert ["error"] * 5 + ["success"] == list(done["status"])
    assert ["input", "input", "input", "input", "lost", None] == list(done["cause"])
    assert '"a/b" cannot be a name' in done["message"][0]
    assert "row 1 (set).x: a value of type builtins.set is not JSON" in done["message"][1]
    assert 'unknown option "timout". Did you mean timeout?' in done["message"][2]
    assert "in use. Wait." == done["message"][3]
    assert "No space left" in done["message"][4]
    assert done["folder"][0] is None
    assert (1, 5) == (report(project)["summary"]["success"], report(project)["summary"]["error"])
    assert "fit[held] error: in use. Wait.\n" in capsys.readouterr().out


def test_a_folder_that_another_session_holds_is_an_error_row(project: TinyProject) -> None:
    """The row says who holds it."""
    project.flow("fit", FLOW)
    folder = RunFolder(project.folder("fit", "a"), "fit")
    owner = Owner("fit", "a", "run", "their session", "host", os.getpid(), "now")
    claim = Claim.take(folder, project.root / "runs", owner)
    try:
        done = conduct(table("a", x=[1]), "fit", project_root=project.root, progress=False)
    finally:
        claim.release(finished=True)
    assert ["error"] == list(done["status"])
    assert "their session" in done["message"][0]


def test_a_row_can_say_that_it_is_not_run(project: TinyProject, fake: Fake) -> None:
    """`_run.skip` and `_run.skip_without`; its reader is blocked unless it has a valid earlier run."""
    project.flow("fit", "")
    none = float("nan")
    rows = table("a", "b", "c", "d", source=[none, none, "runs/fit/a", "runs/fit/c"])
    rows["_run.skip"] = ["later", none, none, none]
    rows["_run.skip_without"] = [none, "inputs/big.csv", none, none]
    done = conduct(rows, "fit", project_root=project.root)
    assert ["not_run", "not_run", "blocked", "blocked"] == list(done["status"])
    assert "skipped: later" == done["message"][0]
    assert "skipped: not there: inputs/big.csv" == done["message"][1]
    assert "fit/a is skipped: later" == done["message"][2]
    assert "fit/c is blocked: fit/a is skipped: later" == done["message"][3]
    assert [] == fake.started

    folder = project.folder("fit", "a")
    folder.mkdir(parents=True)
    write_result(Result("fit", "a", "flow", Status.SUCCESS), folder)
    assert ["not_run", "not_run", "success", "success"] == list(
        conduct(rows, "fit", project_root=project.root)["status"]
    )


def test_a_page_that_cannot_be_written_costs_no_result(project: TinyProject, fake: Fake) -> None:
    """A warning says so, and the results are given."""
    project.flow("fit", "")
    (project.root / "runs").write_text("a file in the way")
    with pytest.warns(RuntimeWarning, match="the report cannot be written"):
        done = conduct(table("a"), "fit", project_root=project.root)
    assert ["success"] == list(done["status"])


def test_an_error_of_ours_ends_the_session_in_order(project: TinyProject, fake: Fake) -> None:
    """What is raised in a thread is raised to the caller, and the report says what did not run."""
    project.flow("fit", "")
    fake.statuses = {"b": ZeroDivisionError("a bug")}
    with pytest.raises(ZeroDivisionError):
        conduct(table("a", "b", "c"), "fit", project_root=project.root)
    assert ["a", "b"] == fake.started
    page = report(project)
    assert page["finished"]
    assert ["success", "not_run", "not_run"] == [instance["status"] for instance in page["instances"]]


def test_check_raises_when_all_have_run(project: TinyProject, fake: Fake) -> None:
    """The error names the red rows."""
    project.flow("fit", "")
    fake.statuses = {"a": Status.ERROR, "c": Status.WARNING}
    with pytest.raises(DuctaflowError, match="1 of 3 runs of fit failed: a") as error:
        conduct(table("a", "b", "c"), "fit", project_root=project.root, check=True)
    assert ["a", "b", "c"] == fake.started
    assert "The first: went wrong" == error.value.hint


# --- tables and targets ------------------------------------------------------------------------------------


def test_the_red_rows_of_a_result_run_again(project: TinyProject, fake: Fake) -> None:
    """What an earlier call added is replaced, the index stays, and no row at all is fine."""
    project.flow("fit", "")
    fake.statuses = {"b": Status.ERROR}
    done = conduct(table("a", "b", x=[1, 2]), "fit", project_root=project.root)
    fake.statuses = {}
    again = conduct(done[done["status"] == "error"], "fit", project_root=project.root)
    assert [1] == list(again.index)
    assert ["success"] == list(again["status"])
    assert list(done.columns) == list(again.columns)
    assert 2 == fake.configs["b"]["x"]
    nothing = conduct(again[again["status"] == "error"], "fit", project_root=project.root)
    assert (0, list(done.columns)) == (len(nothing), list(nothing.columns))


def test_rows_without_names_get_some(project: TinyProject, fake: Fake) -> None:
    """The column `instance` comes first in the results."""
    project.flow("fit", "")
    done = conduct(pd.DataFrame({"x": [1]}), "fit", project_root=project.root)
    assert "x-1" == done.loc[0, "instance"]
    assert "instance" == done.columns[0]


def test_a_notebook_outside_of_a_project_can_be_conducted(tmp_path: Path, fake: Fake) -> None:
    """Its folder is the project then."""
    source = tmp_path / "study.py"
    source.write_text('# %% tags=["parameters"]\nconfig = {}\n')
    done = conduct(table("a"), source, report=False)
    assert str(tmp_path / "runs" / "study" / "a") == done["folder"][0] or done["folder"][0] is None
    assert ["a"] == fake.started
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"jobs": 0}, ConfigError, "jobs is a number of at least 1, not 0"),
        ({"build": "fitt"}, InstanceError, "has no flow or build fitt"),
        ({"scenarios": table("a", "a")}, ConfigError, "rows 0 and 1 are both called a"),
        ({"build": "flows/fitt.py"}, InstanceError, "no notebook flows/fitt.py"),
        ({"scenarios": [{"x": 1}]}, ConfigError, "a DataFrame, not list"),
        ({"scenarios": table("a", "A")}, ConfigError, "both called a and A"),
        ({"scenarios": table("a", status=[1])}, ConfigError, "the column 'status', which the results need"),
    ],
)
def test_what_cannot_be_conducted_is_refused_before_anything_runs(
    project: TinyProject, fake: Fake, arguments: dict[str, Any], error: type[DuctaflowError], message: str
) -> None:
    """The table as such, the build and the number of jobs are errors at once."""
    project.flow("fit", "")
    given = {"scenarios": table("a"), "build": "fit", "project_root": project.root, **arguments}
    with pytest.raises(error) as raised:
        conduct(**given)
    assert message in raised.value.message
    assert [] == fake.started
    assert not (project.root / "runs").exists()


def test_the_remedy_for_a_missing_flow_or_build_names_both_places(project: TinyProject) -> None:
    """What is conducted may be either."""
    with pytest.raises(InstanceError, match="has no flow or build projection") as error:
        conduct(table("a"), "projection", project_root=project.root)
    assert "Pass project_root=..., or write flows/projection.py or builds/projection.py." == error.value.hint


def test_a_bar_is_shown_when_asked_for(
    project: TinyProject, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts the rows and what is not green, and the logs stay quiet."""
    project.flow("fit", "")
    fake.statuses = {"a": Status.ERROR}
    conduct(table("a", "b"), "fit", project_root=project.root, progress=True)
    out = capsys.readouterr()
    assert "2/2" in out.err
    assert "1 error" in out.err
    assert fake.options["echo"] is False
    conduct(table("a"), "fit", project_root=project.root, progress=False)
    assert ("", "") == capsys.readouterr()


def test_ctrl_c_while_a_result_is_taken_in(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """This result is on the page, as the run has ended."""
    made, raised = LiveReport._lines_of, list[str]()

    def lines_of(live: LiveReport, entry: Entry) -> object:
        if entry.result.id == "fit/a" and entry.result.run_id and not raised:
            raised.append(entry.result.id)
            raise KeyboardInterrupt
        return made(live, entry)

    monkeypatch.setattr(LiveReport, "_lines_of", lines_of)
    project.flow("fit", "")
    for name in "ab":
        project.config(f"flows/fit/{name}.json")
    assert "Interrupted." in project.cli("run", "fit").output
    statuses = {entry["id"]: entry["status"] for entry in report(project)["instances"]}
    assert {"fit/a": "success", "fit/b": "not_run"} == statuses
