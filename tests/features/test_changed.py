"""Only what changed: sessions, conductors and builds that leave alone what is as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from support import NO_HTML, Session, TinyProject, command, files_below, run_pytest, wait_until

from ductaflow import run_notebook
from ductaflow.cli.app import main
from ductaflow.execution import warm
from ductaflow.project.graph import collect
from ductaflow.project.settings import Project
from ductaflow.report import Entry, LiveReport, build_report, live
from ductaflow.session.conductor import conduct
from ductaflow.session.decide import Decision, Readiness, Would
from ductaflow.session.forecast import Beyond, beyond_lines, seconds_with
from ductaflow.session.runner import run_instance
from ductaflow.store.result import Result, Status, read_result

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]

#: Capital letters only: an input in small letters of the same words gives the same bytes.
PREP = """
# %%
from pathlib import Path

root = Path(config["_project_root"])
Path("clean.txt").write_text((root / config["raw"]).read_text().upper())
"""
FIT = """
# %%
from pathlib import Path

root = Path(config["_project_root"])
print(len((root / config["clean"]).read_text()) * config.get("factor", 1))
"""
CHANGED = ("--ductaflow-changed",)


@pytest.fixture
def chain(project: TinyProject) -> TinyProject:
    """The instance `a` of two flows: fit reads what prep makes of an input."""
    project.flow("prep", PREP)
    project.flow("fit", FIT)
    project.config("flows/prep/a.json", raw="inputs/raw.txt")
    project.config("flows/fit/a.json", clean="runs/prep/a/clean.txt")
    (project.root / "inputs").mkdir()
    (project.root / "inputs" / "raw.txt").write_text("one two")
    return project


@pytest.fixture
def ran(chain: TinyProject) -> TinyProject:
    """The same, after a first session."""
    stored = collect(Project.at(chain.root)).by_id
    for id in ("prep/a", "fit/a"):
        run_instance(stored[id], settings=NO_HTML)
    return chain


def result_of(project: TinyProject, flow: str, instance: str = "a") -> Result:
    result = read_result(project.folder(flow, instance))
    assert result is not None
    return result


def entry(session: Session, id: str) -> dict[str, Any]:
    return next(entry for entry in session.report()["instances"] if entry["id"] == id)


def log_of(folder: Path, flow: str) -> str:
    return (folder / f"{flow}_execution_output.txt").read_text(encoding="utf-8")


# --- pytest ------------------------------------------------------------------------------------------------


def test_a_second_session_runs_nothing(chain: TinyProject) -> None:
    """The first one runs all. The second: letter u, "2 unchanged", exit code 0, passed in junit, and the
    report has the last run of each."""
    first = run_pytest(chain.root, *CHANGED)
    assert (0, {"prep/a": "success", "fit/a": "success"}) == (first.code, first.statuses())
    before = {flow: result_of(chain, flow) for flow in ("prep", "fit")}

    second = run_pytest(chain.root, *CHANGED, "-q", "--junitxml=junit.xml", "--lf", "-x", "--durations=3")

    assert 0 == second.code, second.out
    assert any(line.startswith("uu ") for line in second.out.splitlines())
    assert "2 unchanged in " in second.out
    assert {"prep/a": "unchanged", "fit/a": "unchanged"} == second.statuses()
    assert before == {flow: result_of(chain, flow) for flow in ("prep", "fit")}
    shown = entry(second, "fit/a")
    assert ("success", before["fit"].run_id) == (shown["former_status"], shown["run_id"])
    assert "Starting fit" in shown["log_tail"]
    # nothing of this session took any time
    assert "slowest: " not in run_pytest(chain.root, *CHANGED).out
    cases = list(ET.parse(chain.root / "junit.xml").iter("testcase"))
    assert [[], []] == [[child.tag for child in case if child.tag != "properties"] for case in cases]
    properties = {node.get("name"): node.get("value") for node in cases[0].iter("property")}
    assert ("unchanged", "success") == (properties["status"], properties["former_status"])


def test_a_second_session_of_workers_runs_nothing(ran: TinyProject) -> None:
    """The same under xdist, whichever worker looked at the upstream."""
    session = run_pytest(ran.root, *CHANGED, "-n", "2", "-v")
    assert 0 == session.code, session.out
    assert "2 unchanged in " in session.out
    assert 2 == session.out.count("UNCHANGED config/flows/")
    assert {"prep/a": "unchanged", "fit/a": "unchanged"} == session.statuses()


def test_the_same_bytes_upstream_run_nothing_downstream(ran: TinyProject) -> None:
    """The input is other, what prep makes of it is the same: fit does not run. -v says why prep does."""
    (ran.root / "inputs" / "raw.txt").write_text("One Two")
    session = run_pytest(ran.root, *CHANGED, "-v")
    assert 0 == session.code, session.out
    assert {"prep/a": "success", "fit/a": "unchanged"} == session.statuses()
    assert "prep[a] PASSED (" in session.out
    assert "inputs/raw.txt" in session.out
    assert "fit[a] UNCHANGED" in session.out
    assert "1 passed, 1 unchanged in " in session.out


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_what_reads_from_unchanged_ones_runs(ran: TinyProject, workers: tuple[str, ...]) -> None:
    """An upstream that is unchanged is as good as one that ran. All reasons are told with -vv."""
    ran.config("flows/fit/a.json", clean="runs/prep/a/clean.txt", factor=2)
    ran.flow("fit", FIT + "print('and more')\n")
    session = run_pytest(ran.root, *CHANGED, "-vv", *workers)
    assert 0 == session.code, session.out
    assert {"prep/a": "unchanged", "fit/a": "success"} == session.statuses()
    why = next(line for line in session.out.splitlines() if "PASSED (" in line)
    assert "factor" in why
    assert "flows/fit.py" in why


def test_what_was_red_or_stopped_runs_again(ran: TinyProject) -> None:
    """Red, interrupted: neither is ever unchanged; and what reads from it is blocked, though it is."""
    (ran.root / "inputs" / "raw.txt").unlink()
    for _ in range(2):
        session = run_pytest(ran.root, *CHANGED)
        assert 1 == session.code
        assert {"prep/a": "error", "fit/a": "blocked"} == session.statuses()
    (ran.root / "inputs" / "raw.txt").write_text("one two")
    session = run_pytest(ran.root, *CHANGED, "--lf")
    assert {"prep/a": "success", "fit/a": "unchanged"} == session.statuses()


def test_what_is_unchanged_can_be_blocked(ran: TinyProject) -> None:
    """fit needs an instance that is red now, and reads nothing of it: it is blocked, and so is its reader."""
    ran.flow("check", "# %%\nprint('x')\n")
    ran.flow("last", "# %%\nprint(config)\n")
    ran.config("flows/check/a.json")
    ran.config("flows/last/a.json", fit="runs/fit/a")
    ran.config("flows/fit/a.json", clean="runs/prep/a/clean.txt", _run={"needs": ["check/a"]})
    assert 0 == run_pytest(ran.root, *CHANGED).code
    ran.flow("check", "# %%\nraise ValueError('no')\n")
    ran.config("flows/last/a.json", fit="runs/fit/a", more=1)

    session = run_pytest(ran.root, *CHANGED)

    found = {"check/a": "error", "fit/a": "blocked", "last/a": "blocked", "prep/a": "unchanged"}
    assert found == session.statuses()


def test_an_interrupted_run_runs_again(project: TinyProject) -> None:
    """Ctrl-C in the second session, which waits; the third one runs it and nothing else."""
    go = str(project.root / "go")
    waits = f"while not os.path.exists({go!r}):\n    time.sleep(0.02)\n"
    project.flow("wait", f"# %%\nimport os, time\nopen('at', 'w').close()\n{waits}")
    project.flow("quick", "# %%\nprint('x')\n")
    project.config("flows/wait/a.json")
    project.config("flows/quick/a.json")
    process = subprocess.Popen(
        command("--ductaflow", *CHANGED), cwd=project.root, stdout=subprocess.PIPE, start_new_session=True
    )
    wait_until((project.folder("wait", "a") / "at").exists)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert "interrupted" == result_of(project, "wait").cause

    (project.root / "go").touch()
    session = run_pytest(project.root, *CHANGED)

    assert {"wait/a": "success", "quick/a": "unchanged"} == session.statuses()


def test_an_orange_one_keeps_its_warnings(project: TinyProject) -> None:
    """They are warnings of the session again, also where a filter makes them errors."""
    project.flow("fit", "# %%\nprint('Warning: there are gaps')\n")
    project.config("flows/fit/a.json")
    assert 0 == run_pytest(project.root, *CHANGED).code

    again = run_pytest(project.root, *CHANGED)
    assert 0 == again.code, again.out
    assert "1 warning, 1 unchanged in " in again.out
    assert "FlowWarning: Warning: there are gaps" in again.out
    shown = entry(again, "fit/a")
    assert ("unchanged", "warning", 1) == (shown["status"], shown["former_status"], len(shown["warnings"]))

    strict = run_pytest(project.root, *CHANGED, "-W", "error::ductaflow.FlowWarning")
    assert 1 == strict.code
    assert "1 failed in " in strict.out
    assert {"fit/a": "unchanged"} == strict.statuses()


def test_an_unexpected_green_is_told_by_the_run_alone(project: TinyProject) -> None:
    """With `_run.xfail` a green run is XPASS; what is unchanged has one verdict. A strict one stays red."""
    project.flow("fit", "# %%\nprint(1)\n")
    project.config("flows/fit.json", _run={"xfail": "known"})
    assert "1 xpassed" in run_pytest(project.root, *CHANGED).out

    session = run_pytest(project.root, *CHANGED, "-v")
    assert " UNCHANGED" in session.out
    assert "1 unchanged in" in session.out
    assert "xpassed" not in session.out.lower()
    assert {"fit/default": "unchanged"} == session.statuses()

    strict = run_pytest(project.root, *CHANGED, "-o", "xfail_strict=true")
    assert (1, True) == (strict.code, "[XPASS(strict)] known" in strict.out), strict.out


def test_what_counts_is_a_setting(ran: TinyProject) -> None:
    """`rerun_on` without code: another flow runs nothing; a word that is none is refused."""
    ran.flow("fit", FIT + "print('and more')\n")
    ran.settings('rerun_on = ["config", "inputs"]')
    assert {"prep/a": "unchanged", "fit/a": "unchanged"} == run_pytest(ran.root, *CHANGED).statuses()

    ran.settings('rerun_on = "config input"')
    session = run_pytest(ran.root, *CHANGED)
    assert 4 == session.code
    assert 'ductaflow.toml.rerun_on has "input"' in session.out
    assert "Did you mean inputs? It takes any of config, code, inputs, environment." in session.out


# --- builds ------------------------------------------------------------------------------------------------

BUILD = """
# %%
from ductaflow import run_notebook
from ductaflow.execution import warm

for name in ("first", "second", "third"):
    run_notebook(f"flows/{name}.py", config={}, execution_dir=f"runs/{name}", export_html=False)
"""


@pytest.fixture
def build(project: TinyProject) -> TinyProject:
    """A build of three flows, of which the second is orange and the third red, after its first run."""
    project.flow("first", "# %%\nprint('x')\n")
    project.flow("second", "# %%\nprint('Warning: it is late')\n")
    project.flow("third", "# %%\nraise ValueError('three')\n")
    project.flow("all", BUILD, kind="builds")
    project.config("builds/all/a.json")
    stored = collect(Project.at(project.root)).by_id
    run_instance(stored["all/a"], check=False)
    return project


def runs_of(project: TinyProject) -> list[str]:
    """The ids of the last runs of the build's flows."""
    folder = project.folder("all", "a") / "runs"
    found = [read_result(folder / name) for name in ("first", "second", "third")]
    return [result.run_id for result in found if result]


def test_a_build_resumes(build: TinyProject) -> None:
    """The third flow is mended: the first two do not run again; the build's log says so and keeps what they
    warned of, and the build is still made of all three."""
    before = runs_of(build)
    build.flow("third", "# %%\nprint('mended')\n")

    session = run_pytest(build.root, *CHANGED)

    assert {"all/a": "warning"} == session.statuses(), session.out
    assert [True, True, False] == [one == other for one, other in zip(before, runs_of(build), strict=True)]
    log = log_of(build.folder("all", "a"), "all")
    assert "Unchanged: first/first\nUnchanged: second/second\n  Warning: it is late\n" in log
    result = result_of(build, "all")
    assert ("runs/first", "runs/second", "runs/third") == result.children
    assert ["Warning: it is late"] == [warning.text for warning in result.warnings]
    flows = entry(session, "all/a")["flows"]
    assert ["success", "warning", "success"] == [flow["status"] for flow in flows]

    assert {"all/a": "unchanged"} == run_pytest(build.root, *CHANGED).statuses()


def test_a_build_runs_everything_unless_it_is_asked_to_resume(build: TinyProject) -> None:
    """A plain session is a full one."""
    before = runs_of(build)
    build.flow("third", "# %%\nprint('mended')\n")
    assert {"all/a": "warning"} == run_pytest(build.root).statuses()
    assert not set(before) & set(runs_of(build))


def test_one_flow_can_be_resumed_by_itself(project: TinyProject, capfd: pytest.CaptureFixture[str]) -> None:
    """`run_notebook(only_changed=True)` works anywhere; by default it runs."""
    source = project.flow("fit", "# %%\nprint('x')\n")
    arguments: dict[str, Any] = {"config": {"x": 1}, "execution_dir": project.folder("fit", "a")}
    first = run_notebook(source, **arguments, export_html=False)
    run = result_of(project, "fit").run_id
    assert first == run_notebook(source, **arguments, export_html=False, only_changed=True)
    assert run == result_of(project, "fit").run_id
    assert "Unchanged: fit/a\n" in capfd.readouterr().out
    run_notebook(source, **arguments, export_html=False)
    assert run != result_of(project, "fit").run_id


# --- conduct -----------------------------------------------------------------------------------------------


def conducted(project: TinyProject, rows: pd.DataFrame, **options: Any) -> pd.DataFrame:
    return conduct(rows, "fit", project_root=project.root, export_html=False, **options)


def test_conduct_runs_only_what_changed(project: TinyProject, capfd: pytest.CaptureFixture[str]) -> None:
    """By default; the rest is `unchanged` with seconds and warnings of its last run. False runs all."""
    project.flow("fit", "# %%\nprint('Warning:', config['x'])\n")
    rows = pd.DataFrame({"instance": ["a", "b"], "x": [1, 2]})
    first = conducted(project, rows, progress=False)
    assert ["warning", "warning"] == list(first["status"])

    second = conducted(project, rows.assign(x=[1, 3]), jobs=2)

    assert ["unchanged", "warning"] == list(second["status"])
    assert (first["seconds"][0], 1) == (second["seconds"][0], second["warning_count"][0])
    assert "fit: 1 warning, 1 unchanged" in capfd.readouterr().out
    third = conducted(project, second, check=True)
    assert ["unchanged", "unchanged"] == list(third["status"])
    assert "Unchanged: fit/b\n  Warning: 3\n" in capfd.readouterr().out
    assert ["warning", "warning"] == list(conducted(project, rows, only_changed=False)["status"])


def test_a_dry_run_tells_and_does_nothing(project: TinyProject) -> None:
    """What would run, why and how long; no file is made or changed; the table may be given to conduct."""
    project.flow("fit", "# %%\nprint(config)\n")
    rows = pd.DataFrame({"instance": ["a", "b"], "x": [1, 2]})
    planned = conducted(project, rows, dry_run=True)
    assert ["run", "run"] == list(planned["would"])
    assert not (project.root / "runs").exists()

    done = conducted(project, planned)
    before = files_below(project.root), result_of(project, "fit").run_id
    again = conducted(project, done.assign(x=[5, 2]), dry_run=True)
    assert ["run", "unchanged"] == list(again["would"])
    assert "x" in again["reason"][0]
    assert (True, 0.0) == (again["expected_seconds"][0] > 0, again["expected_seconds"][1])
    assert before == (files_below(project.root), result_of(project, "fit").run_id)
    assert ["run", "run"] == list(conducted(project, rows, dry_run=True, only_changed=False)["would"])


def test_conduct_in_a_build_does_as_the_session_does(project: TinyProject) -> None:
    """All rows run in a plain session; with `--ductaflow-changed` only those that changed, several at a
    time, and the build's log has a line and the warnings of the others."""
    project.flow("fit", "# %%\nprint('Warning:', config['x'])\n")
    project.flow(
        "all",
        """
        # %%
        import pandas as pd
        from ductaflow import conduct

        rows = pd.DataFrame({"instance": ["a", "b"], "x": [1, config["x"]]})
        done = conduct(rows, "fit", jobs=2, export_html=False)
        print(list(done["status"]))
        """,
        kind="builds",
    )
    project.config("builds/all/a.json", x=2)
    run_pytest(project.root)
    project.config("builds/all/a.json", x=3)

    assert {"all/a": "warning"} == run_pytest(project.root, *CHANGED).statuses()
    log = log_of(project.folder("all", "a"), "all")
    assert "['unchanged', 'warning']" in log
    assert "Unchanged: fit/a\n  Warning: 1\n" in log

    project.config("builds/all/a.json", x=4)
    run_pytest(project.root)
    assert "['warning', 'warning']" in log_of(project.folder("all", "a"), "all")


# --- the command line --------------------------------------------------------------------------------------


def test_why_names_what_changed(ran: TinyProject) -> None:
    """Field by field and file by file, and what would run before."""
    assert "fit/a is unchanged.\n" == ran.output("why", "fit/a")
    ran.config("flows/fit/a.json", clean="runs/prep/a/clean.txt", factor=2)
    (ran.root / "inputs" / "raw.txt").write_text("three")
    told = ran.output("why", "fit[a]")
    assert told.startswith("fit/a has to run:\n  ")
    assert "factor" in told
    assert "Before it would run prep/a: " in told
    assert "inputs/raw.txt" in ran.output("why", "prep/a")


def test_why_takes_run_folders(ran: TinyProject) -> None:
    """What ran under another name is no stored instance: its folder and its saved config tell."""
    ran.output("run", "fit/a", "--set", "clean=inputs/raw.txt", "--as", "raw")
    folder = ran.folder("fit", "raw")
    assert "fit/raw is unchanged.\n" == ran.output("why", folder)
    (ran.root / "inputs" / "raw.txt").write_text("three")
    assert "fit/raw has to run:\n  inputs/raw.txt has other content\n" == ran.output("why", folder)


def test_why_takes_a_flow_of_a_build(build: TinyProject) -> None:
    """As `ductaflow run FOLDER` does."""
    folder = build.folder("all", "a") / "runs" / "first"
    assert "runs/all/a/runs/first is unchanged.\n" == build.output("why", folder)
    build.flow("first", "# %%\nprint('y')\n")
    told = build.output("why", folder)
    assert told.startswith("runs/all/a/runs/first has to run:\n  "), told
    assert "flows/first.py" in told


def test_why_tells_versions_once(ran: TinyProject) -> None:
    """Where the project has them count, they are reasons like any other, and nothing makes nothing run."""
    file = ran.folder("fit", "a") / "result.json"
    data = json.loads(file.read_text())
    data["environment"]["python"] = "3.1.4"
    file.write_text(json.dumps(data))
    first, *_ = told = ran.output("why", "fit/a").splitlines()
    assert "fit/a is unchanged." == first
    assert "Other versions than in its last run, which alone make nothing run:" in told

    ran.settings('rerun_on = "config code inputs environment"')
    first, *told = ran.output("why", "fit/a").splitlines()
    assert "fit/a has to run:" == first
    assert 1 == sum("Python: 3.1.4" in line for line in told)
    assert not any("nothing run" in line for line in told)


def test_plan_without_an_earlier_run(ran: TinyProject) -> None:
    """It does not say how long that takes: a second for each would be a guess."""
    shutil.rmtree(ran.root / "runs")
    *planned, last = ran.output("plan").splitlines()
    assert "No earlier run shows how long it takes." == last
    assert not any("about" in line for line in planned)


def test_plan_tells_what_would_run(ran: TinyProject) -> None:
    """What would run and why, what may run, what is unchanged or cannot; and for how long."""
    assert "unchanged   prep/a\nunchanged   fit/a\n2 unchanged\n" == ran.output("plan")
    (ran.root / "inputs" / "raw.txt").write_text("three")
    ran.config("flows/fit/late.json", clean="runs/prep/none/clean.txt")
    ran.config("flows/fit/later.json", clean="runs/fit/late/x.txt")
    ran.config("flows/fit/never.json", _run={"skip": "too dear"})
    lines = ran.output("plan", "-j", 2).splitlines()
    words = {line[12:].split()[0]: line[:10].strip() for line in lines[:-2]}
    assert {
        "prep/a": "run",
        "fit/a": "may run",
        "fit/late": "error",
        "fit/later": "blocked",
        "fit/never": "not_run",
    } == words
    assert "1 run, 1 may run, 1 blocked, 1 not_run, 1 error" == lines[-2]
    assert re.match(r"By earlier runs it takes about \d+ s(?: to \d+ s)?, 2 at a time\.", lines[-1])


def test_plan_gives_the_remedy(ran: TinyProject) -> None:
    """What cannot start for what it reads says by which command it could, as `run` does."""
    (ran.folder("prep", "a") / "clean.txt").unlink()
    lack = "fit/a reads from prep/a, but its output clean.txt is gone."
    told = f"error       fit/a  {lack} Run it first: ductaflow run prep/a\n1 error\n"
    assert told == ran.output("plan", "fit/a")


def test_run_changed(ran: TinyProject) -> None:
    """`ductaflow run --changed` leaves alone what is as it was."""
    run = result_of(ran, "fit").run_id
    assert "Unchanged: prep/a\nUnchanged: fit/a\n" == ran.output("run", "--changed", "fit/a", "prep/a")
    assert run == result_of(ran, "fit").run_id
    ran.output("run", "fit/a")
    assert run != result_of(ran, "fit").run_id


def test_run_changed_without_an_id_is_for_all(ran: TinyProject) -> None:
    """All that is stored and has changed runs, upstreams first, and the counts are told; a full run of all is
    pytest's."""
    assert "Unchanged: prep/a\nUnchanged: fit/a\n2 unchanged\n" == ran.output("run", "--changed")
    (ran.root / "inputs" / "raw.txt").write_text("three")
    assert ran.output("run", "--changed").endswith("\n2 success\n")
    for arguments in ([], ["-j", "2"], ["--changed", "--set", "x=1", "--as", "b"]):
        done = CliRunner().invoke(main, ["run", *arguments, "--project", str(ran.root)])
        assert 2 == done.exit_code
        assert "Missing argument 'ID|FOLDER...'" in done.output


def test_run_leaves_what_the_project_says(ran: TinyProject, build: TinyProject) -> None:
    """HTML and previous outputs are left or not as with pytest, by an id and by a run folder."""
    settings = build.settings("html = false\nkeep_previous = false")
    flow = build.folder("all", "a") / "runs" / "first"
    pages = [ran.folder("fit", "a") / "fit.html", flow / "first.html"]
    for page in pages:
        page.unlink(missing_ok=True)

    ran.output("run", "prep/a", "fit/a")
    build.output("run", flow)

    assert [False, False] == [page.exists() for page in pages]
    assert [] == [path for path in build.root.rglob("previous/*/*") if ".ductaflow" in path.parts]

    settings.unlink()
    ran.output("run", "fit/a")
    assert pages[0].is_file()
    assert (build.root / "runs" / ".ductaflow" / "previous" / "fit" / "a").is_dir()


FAR = "as far as it goes: prep/a, which it reads, has changed and is not selected"


def test_what_is_left_out_and_has_changed_is_told(ran: TinyProject) -> None:
    """A reader by itself is unchanged, and every way to say so adds what has changed above it."""
    for name in ("b", "c"):
        ran.config(f"flows/fit/{name}.json", clean="runs/prep/a/clean.txt")
    ran.output("run", "fit/b", "fit/c")
    everything = ("fit/a", "fit/b", "fit/c", "prep/a")
    assert FAR not in ran.output("plan", "fit/a") + ran.output("run", "--changed", "fit/a")
    (ran.root / "inputs" / "raw.txt").write_text("three")

    assert f"unchanged   fit/a  {FAR}\n1 unchanged\n" == ran.output("plan", "fit/a")
    told = ran.output("run", "--changed", "fit/a", "fit/b", "-j", "2")
    assert f"fit/a, fit/b: unchanged {FAR}\n" in told
    fit = run_pytest(ran.root, *CHANGED, "config/flows/fit", "-n", "2")
    assert f"  unchanged  fit/a, fit/b, fit/c: {FAR}\n" in fit.out
    one = run_pytest(ran.root, *CHANGED, "config/flows/fit/a.json", "-v")
    assert f" UNCHANGED ({FAR})" in one.out
    assert FAR not in ran.output("plan", *everything)


def test_conduct_tells_what_has_changed_and_is_no_row(
    ran: TinyProject, capfd: pytest.CaptureFixture[str]
) -> None:
    """The rows are unchanged; a stored instance that they read is not, and does not run with them."""
    rows = pd.DataFrame({"instance": ["x"], "clean": ["runs/prep/a/clean.txt"]})
    conducted(ran, rows)
    (ran.root / "inputs" / "raw.txt").write_text("three")
    capfd.readouterr()

    assert ["unchanged"] == list(conducted(ran, rows)["status"])
    assert f"fit/x: unchanged {FAR}\n" in capfd.readouterr().out
    assert [FAR] == list(conducted(ran, rows, dry_run=True)["reason"])


def test_a_change_is_seen_through_what_is_unchanged(ran: TinyProject) -> None:
    """At any distance; what runs in the session ends the way, what is skipped runs in none."""
    ran.config("flows/fit/far.json", clean="runs/fit/a/clean.txt")
    ran.config("flows/prep/a.json", raw="inputs/other.txt")
    readiness = Readiness(collect(Project.at(ran.root)))
    far = readiness.instances.by_id["fit/far"]

    def told(*here: str) -> str:
        return Beyond(readiness, lambda instance: instance.id in here).told(far)

    assert ["", FAR, ""] == [told("fit/a"), told(), told("fit/a", "prep/a")]
    ran.config("flows/prep/a.json", raw="inputs/other.txt", _run={"skip": "too dear"})
    readiness = Readiness(collect(Project.at(ran.root)))
    assert "" == told()
    assert [f"p/a, p/b, p/c, p/d, p/e and 1 more: unchanged {FAR}", "q/a: unchanged so"] == list(
        beyond_lines({**{f"p/{name}": FAR for name in "abcdef"}, "q/a": "so", "r/a": ""})
    )


def test_the_time_that_a_plan_takes(chain: TinyProject) -> None:
    """One at a time it is the sum; several at a time, what reads from others waits for them."""
    chain.config("flows/prep/b.json", raw="inputs/raw.txt")
    readiness = Readiness(collect(Project.at(chain.root)))
    by_id = readiness.instances.by_id
    took = {"prep/a": 3.0, "prep/b": 5.0, "fit/a": 4.0}
    planned = [Decision(by_id[id], Would.RUN, seconds=seconds) for id, seconds in took.items()]
    assert [12.0, 7.0, 7.0] == [seconds_with(jobs, planned, readiness) for jobs in (1, 2, 9)]
    done = [Decision(by_id["prep/a"], Would.UNCHANGED), *planned[1:]]
    assert 5.0 == seconds_with(2, done, readiness)
    assert 0.0 == seconds_with(2, [], readiness)


def test_the_twin_of_a_persons_own_conductor_may_say_unchanged(tmp_path: Path) -> None:
    """Without a record of a run there is nothing to show of it, and nothing breaks."""
    folder = tmp_path / "runs" / "fit" / "a"
    folder.mkdir(parents=True)
    of_mine = Entry(Result("fit", "a", "flow", Status.UNCHANGED, folder=folder))
    data = build_report([of_mine], session_id="s", started="", finished=None, runs_dir=tmp_path / "runs")
    assert [("unchanged", None)] == [(i["status"], i["former_status"]) for i in data["instances"]]
    assert json.dumps(data)


# --- what is not started and not written -------------------------------------------------------------------


def entry_of(name: str, status: Status, run_id: str = "") -> Entry:
    return Entry(Result("fit", name, "flow", status, run_id=run_id))


def report_of(runs: Path, monkeypatch: pytest.MonkeyPatch, *, waits: bool = True) -> LiveReport:
    """A report that expects the instances a and b, under a clock that stands."""
    monkeypatch.setattr(LiveReport, "clock", staticmethod(lambda: 0.0))
    monkeypatch.setattr(LiveReport, "held_up", 60.0)
    report = LiveReport(runs, session_id="s", waits_for_run=waits)
    report.expect([entry_of(name, Status.NOT_RUN) for name in "ab"])
    return report


def shown_in(runs: Path) -> list[str] | None:
    """Status of the instances on the page, in their order; None without a page."""
    twin = runs / "conductor_status_report.json"
    return [i["status"] for i in json.loads(twin.read_text())["instances"]] if twin.exists() else None


def test_a_report_waits_for_something_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unchanged is shown once, as such: with the first result of a run, or at the end."""
    report = report_of(tmp_path, monkeypatch)
    report.update(entry_of("b", Status.UNCHANGED))
    assert shown_in(tmp_path) is None
    report.update(entry_of("a", Status.SUCCESS, run_id="r"))
    assert ["success", "unchanged"] == shown_in(tmp_path)
    report.close()

    last = tmp_path / "last"
    report = report_of(last, monkeypatch)
    report.update(entry_of("a", Status.UNCHANGED))
    assert shown_in(last) is None
    report.close()
    assert ["unchanged", "not_run"] == shown_in(last)

    first = tmp_path / "first"
    report_of(first, monkeypatch, waits=False).close()
    assert ["not_run", "not_run"] == shown_in(first)


def test_a_report_does_not_wait_for_a_long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while something runs that takes its time: the page is there before its result."""
    written = threading.Event()
    write = live.write_atomic

    def tell(path: Path, data: Any) -> None:
        write(path, data)
        if path.suffix == ".html":
            written.set()

    monkeypatch.setattr(live, "PATIENCE", 0.01)
    monkeypatch.setattr(live, "write_atomic", tell)
    report = report_of(tmp_path, monkeypatch)
    assert written.wait(20)
    assert ["not_run", "not_run"] == shown_in(tmp_path)
    report.close()


def test_a_report_is_not_written_while_unchanged_instances_follow_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each moves the first write, to 2 s after it, and at most to 15 s after the beginning."""
    now, armed = [0.0], list[tuple[float, Callable[[], None]]]()

    class Timer(threading.Timer):
        def start(self) -> None:
            armed.append((self.interval, self.function))

    monkeypatch.setattr(threading, "Timer", Timer)
    monkeypatch.setattr(LiveReport, "clock", staticmethod(lambda: now[0]))
    report = LiveReport(tmp_path, session_id="s", waits_for_run=True)
    report.expect([entry_of(name, Status.NOT_RUN) for name in "abcde"])
    for moment, name in ((1.5, "a"), (3.0, "b"), (14.0, "c")):
        now[0] = moment
        report.update(entry_of(name, Status.UNCHANGED))
        armed[-1][1]()
        assert shown_in(tmp_path) is None
    assert [2.0, 2.0, 2.0, 1.0] == [seconds for seconds, _ in armed]
    now[0] = 15.0
    armed[-1][1]()
    assert ["unchanged", "unchanged", "unchanged", "not_run", "not_run"] == shown_in(tmp_path)
    report.close()


@pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform")
def test_the_warm_server_starts_when_it_is_needed(project: TinyProject) -> None:
    """A session in which nothing runs has none and leaves no folder; the first run starts it, with what was
    asked for before."""
    source = project.flow("fit", "# %%\nprint('x')\n")
    code = f"""
import tempfile
from pathlib import Path
from ductaflow import run_notebook
from ductaflow.execution import warm
warm.start(when_needed=True)
own = warm.own_server()
print("WAITS", own.waits, own.process, own.folder)
if {{runs}}:
    warm.start(warm.Wanted(("import psutil",)))
    run_notebook({str(source)!r}, config={{{{}}}}, execution_dir="runs/fit/a", export_html=False)
    print("LIVES", own.waits, own.lives, own is warm.own_server(), own.process is not None)
"""
    inherited = {name: value for name, value in os.environ.items() if name != warm.SERVER}
    for runs in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", code.format(runs=runs)],
            cwd=project.root,
            env=inherited,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        waits = next(line for line in done.stdout.splitlines() if line.startswith("WAITS")).split()
        assert ["True", "None"] == waits[1:3]
        assert not Path(waits[3]).exists()
        assert runs == ("LIVES False True True True" in done.stdout), done.stderr
