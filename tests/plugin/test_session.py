"""A whole session: counts, report, what it says, and how it goes together with pytest's options."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support import (
    AWAIT,
    PLAIN,
    Session,
    TinyProject,
    collected,
    run_pytest,
)

from ductaflow.common.paths import RunFolder
from ductaflow.store.folder import Claim, Owner

pytestmark = pytest.mark.slow


def make_mixed_project(root: Path) -> TinyProject:
    """A is green, B orange, C red; D reads from C and E from D; one ordinary test."""
    project = TinyProject(root)
    project.flow(
        "prep",
        """
        # %%
        print("preparing", config["name"])
        if config["name"] == "scenario_A":
            import json
            from pathlib import Path
            metrics = {"peak.mw": 1 / 3, "zone\x07": "<n>", "ok": True, "rmse": float("nan")}
            Path("metrics.json").write_text(json.dumps({**metrics, **dict.fromkeys("abcdefghijklmnopqr", 1)}))
        if config["name"] == "scenario_B":
            print("⚠ few rows")
        if config["name"] == "scenario_C":
            raise ValueError("negative price")
        """,
    )
    project.flow("fit", PLAIN)
    project.config("flows/prep.json", name="{instance}")
    for key in "ABC":
        project.config(f"flows/prep/scenario_{key}.json")
    project.config("flows/fit/D.json", data="runs/prep/scenario_C/x.csv")
    project.config("flows/fit/E.json", data="runs/fit/D/x.csv")
    (root / "test_ordinary.py").write_text("def test_ordinary(): pass\n")
    return project


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Session:
    project = make_mixed_project(tmp_path_factory.mktemp("parallel") / "project")
    return run_pytest(project.root, "-n", "2", "-rA", "--durations=3", "--junitxml=junit.xml")


MIXED = {
    "prep/scenario_A": "success",
    "prep/scenario_B": "warning",
    "prep/scenario_C": "error",
    "fit/D": "blocked",
    "fit/E": "blocked",
}


def test_a_parallel_session_counts_as_pytest_does(parallel: Session) -> None:
    """Green and orange pass, red fails, blocked is skipped; ordinary tests run along."""
    assert parallel.code == 1
    assert re.search(r"1 failed, 3 passed, 2 skipped, 1 warning", parallel.out)
    assert "2 workers [6 items]" in parallel.out


def test_one_report_has_every_instance(parallel: Session) -> None:
    """Written by the controller, final at the end."""
    report = parallel.report()

    assert report["finished"]
    assert parallel.statuses() == MIXED
    assert {entry["nodeid"] for entry in report["instances"]} >= {
        "config/flows/prep/scenario_A.json::prep[scenario_A]"
    }


def test_the_end_says_counts_causes_and_where_the_report_is(parallel: Session) -> None:
    """One section, whatever else pytest prints."""
    section = parallel.out.partition(" ductaflow =")[2]

    assert "1 success, 1 warning, 1 error, 2 blocked" in section
    assert "error    prep/scenario_C: ValueError: negative price -> flows/prep.py:14" in section
    assert f"report: {Path('runs/conductor_status_report.html')}" in section


def test_a_failure_says_where_why_and_what_to_do(parallel: Session) -> None:
    """Place and source first, the log, the paths, the commands; nothing is said twice."""
    text = parallel.out.partition("prep[scenario_C] _")[2].partition("====")[0]
    expected = [
        r"flows/prep.py:14: ValueError: negative price",
        r"^ +13  if config\[\"name\"\] == \"scenario_C\":",
        r"^> +14      raise ValueError\(\"negative price\"\)",
        r"^Last lines of the log:",
        r"^\| preparing scenario_C",
        r"^log: +runs/prep/scenario_C/prep_execution_output.txt",
        r"^notebook: +runs/prep/scenario_C/prep.ipynb",
        r"^config: +runs/prep/scenario_C/prep_config.json",
        r"^run again: pytest --ductaflow \"config/flows/prep/scenario_C.json::prep\[scenario_C\]\"",
        r"^debug: +python -m pdb flows/prep.py --config runs/prep/scenario_C/prep_config.json",
    ]

    at = 0
    for pattern in expected:
        found = re.compile(pattern, re.MULTILINE).search(text, at)
        assert found, f"{pattern} is not in, or not in this order:\n{text}"
        at = found.end()
    assert "pytest_ductaflow" not in text
    assert 1 == text.count("ValueError: negative price")
    assert "Traceback" not in text
    assert (
        "FAILED config/flows/prep/scenario_C.json::prep[scenario_C] - ValueError: negative price"
        in parallel.out
    )


def test_blocked_names_the_cause_at_any_distance(parallel: Session) -> None:
    """A skip whose reason is the red instance and the way to it."""
    assert (
        "fit/D blocked: prep/scenario_C failed: flows/prep.py:14: ValueError: negative price" in parallel.out
    )
    assert "fit/E blocked: fit/D is blocked: prep/scenario_C failed" in parallel.out


def test_a_warning_line_is_a_warning_at_its_place_in_the_log(parallel: Session) -> None:
    """As pytest shows warnings: file, line, category, text, once."""
    assert re.search(r"prep_execution_output.txt:3: FlowWarning: ⚠ few rows$", parallel.out, re.MULTILINE)


def test_junit_has_the_facts_of_a_run(parallel: Session) -> None:
    """Run folder, status, config hash and warnings as properties."""
    cases = {case.get("name"): case for case in ET.parse(parallel.root / "junit.xml").iter("testcase")}
    facts = {
        name: {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        for name, case in cases.items()
    }

    assert facts["prep[scenario_B]"].pop("config_hash")
    assert facts["prep[scenario_B]"] == {
        "run_folder": "runs/prep/scenario_B",
        "status": "warning",
        "warnings": "1",
        "warning": "3: ⚠ few rows",
    }
    metrics = {name: text for name, text in facts["prep[scenario_A]"].items() if "metric" in str(name)}
    assert (21, "22") == (len(metrics), metrics["metrics"])
    exact = {"metric.peak.mw": "0.3333333333333333", "metric.ok": "true", "metric.rmse": "null"}
    assert {**exact, r"metric.zone\x07": "<n>", "metric.a": "1"}.items() <= metrics.items()
    assert facts["fit[E]"] == {"run_folder": "runs/fit/E", "status": "blocked"}
    assert cases["prep[scenario_C]"].find("failure") is not None


def test_last_failed_brings_back_red_and_blocked(parallel: Session) -> None:
    """`--lf` selects what is red and what it blocked, nothing else."""
    names = [nodeid.partition("::")[2] for nodeid in collected(parallel.root, "--lf")]

    assert names == ["prep[scenario_C]", "fit[D]", "fit[E]"]


def test_a_serial_session_without_xdist_gives_the_same(tmp_path: Path, parallel: Session) -> None:
    """Node ids, outcomes and statuses do not depend on the number of workers."""

    def outcomes(session: Session) -> set[str]:
        return set(re.findall(r"^(?:PASSED|FAILED) \S+", session.out, re.MULTILINE))

    project = make_mixed_project(tmp_path / "project")
    serial = run_pytest(project.root, "-p", "no:xdist", "-rA")

    assert serial.code == parallel.code
    assert outcomes(serial) == outcomes(parallel)
    assert serial.statuses() == MIXED


def test_pytest_may_fail_what_is_orange_but_the_status_stays(project: TinyProject) -> None:
    """`-W error::ductaflow.FlowWarning` fails the test; what reads from it is not blocked."""
    project.flow("prep", 'print("⚠ few rows")')
    project.flow("fit", PLAIN)
    project.config("flows/prep.json")
    project.config("flows/fit.json", data="runs/prep/default/x.csv")

    session = run_pytest(project.root, "-W", "error::ductaflow.FlowWarning")

    assert "1 failed, 1 passed" in session.out
    assert "runs/prep/default/prep_execution_output.txt:2: FlowWarning: ⚠ few rows" in session.out
    assert "pytest_ductaflow/items.py" not in session.out
    assert session.statuses() == {"prep/default": "warning", "fit/default": "success"}


def test_an_expected_failure_stays_red_in_the_report(project: TinyProject) -> None:
    """`_run.xfail` is pytest's affair; the status is the run's."""
    project.flow("fit", "raise ValueError('as expected')")
    project.config("flows/fit.json", _run={"xfail": "known"})

    session = run_pytest(project.root, "-rx")

    assert session.code == 0
    assert "1 xfailed" in session.out
    assert session.statuses() == {"fit/default": "error"}


def test_an_expected_failure_is_a_run_that_is_red_and_nothing_else(project: TinyProject) -> None:
    """What keeps an instance from running is an error, whatever its `_run.xfail` says."""
    project.flow("fit", "raise ValueError('as expected')")
    project.flow("prep", PLAIN)
    known = {"xfail": "known"}
    project.config("flows/prep.json")
    project.config("flows/nowhere.json", _run=known)
    project.config("flows/fit/input.json", data="runs/prep/default/x.csv", _run=known)
    project.config("flows/fit/cycle.json", data="runs/fit/round/x.csv", _run=known)
    project.config("flows/fit/round.json", data="runs/fit/cycle/x.csv", _run=known)
    project.config("flows/fit/held.json", _run=known)
    project.config("flows/fit/red.json", _run=known)
    owner = Owner("fit", "held", "run", "their session", "host", os.getpid(), "now")
    folder = RunFolder(project.folder("fit", "held"), "fit")
    claim = Claim.take(folder, project.root / "runs", owner)
    try:
        session = run_pytest(project.root, "-rx", "flows/fit.py", "config/flows/nowhere.json")
    finally:
        claim.release(finished=True)

    assert "1 failed, 1 xfailed, 4 errors" in session.out
    assert "their session" in session.out
    assert re.search(r"XFAIL \S+fit\[red\] - known", session.out)
    section = session.out.partition(" ductaflow =")[2]
    assert "5 error, 1 xfail\n" in section
    assert "  error    fit/red (xfail): flows/fit.py:4: ValueError: as expected\n" in section
    assert "  error    fit/held: " in section


def test_the_first_failure_can_end_the_session(project: TinyProject) -> None:
    """With `-x` the rest is in the report as not_run."""
    project.flow("fit", "raise ValueError('first')")
    project.config("flows/fit/A.json")
    project.config("flows/fit/B.json")

    session = run_pytest(project.root, "-x")

    assert session.code == 1
    assert session.statuses() == {"fit/A": "error", "fit/B": "not_run"}


ENDED = """
    # %%
    import os, signal, sys, time
    if config["how"] == "timeout":
        time.sleep(600)
    if config["how"] == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if config["how"] == "exit":
        sys.exit(3)
"""


def test_the_headline_is_what_ended_the_run(project: TinyProject) -> None:
    """Time limit, signal, exit: place and cause, in the text, in the short summary and in junit."""
    project.flow("prep", ENDED)
    for how in ("exit", "signal", "timeout"):
        project.config(f"flows/prep/{how}.json", how=how, _run={"timeout": 4})

    session = run_pytest(project.root, "-n", "2", "--junitxml=junit.xml")

    said = {
        "exit": (11, "exit: sys.exit(3) in cell 2 of 2"),
        "signal": (5, "signal: killed by SIGKILL in cell 2 of 2"),
        "timeout": (7, "timeout: did not finish within 4 s, stopped in cell 2 of 2"),
    }
    cases = {case.get("name"): case for case in ET.parse(session.root / "junit.xml").iter("testcase")}
    for how, (line, text) in said.items():
        assert f"\nflows/prep.py:{line}: {text}" in session.out
        assert f"FAILED config/flows/prep/{how}.json::prep[{how}] - {text}" in session.out
        failure = cases[f"prep[{how}]"].find("failure")
        assert failure is not None
        assert str(failure.get("message")).startswith(text)
    assert "KeyboardInterrupt" in session.out
    assert ": KeyboardInterrupt" not in session.out


def test_a_build_is_as_orange_as_its_flows(project: TinyProject) -> None:
    """There is a warning of pytest, whether or not the build's log repeats the flow's line."""
    project.flow("fit", 'print("⚠ few rows")')
    project.flow(
        "loud",
        """
        from ductaflow import run_notebook
        run_notebook("flows/fit.py", config={}, execution_dir="runs/fit")
        """,
        kind="builds",
    )
    project.flow(
        "quiet",
        """
        from ductaflow import run_instance
        run_instance("fit/default", echo=False)
        """,
        kind="builds",
    )
    for path in ("flows/fit.json", "builds/loud.json", "builds/quiet.json"):
        project.config(path)

    session = run_pytest(project.root, "builds")

    assert re.search(r"loud_execution_output.txt:\d+: FlowWarning: ⚠ few rows\n", session.out)
    assert re.search(
        r"quiet_execution_output.txt:1: FlowWarning: flow fit/default: 1 warning line\n", session.out
    )
    assert session.statuses() == {"loud/default": "warning", "quiet/default": "warning"}


def test_options_reach_the_run(project: TinyProject) -> None:
    """Time limit, no HTML, no report, and the log on the console with `-s`."""
    project.flow("quick", PLAIN)
    project.flow("slow", 'import time\nprint("waiting")\ntime.sleep(600)')
    project.config("flows/quick.json")
    project.config("flows/slow.json", _run={"timeout": 1})

    session = run_pytest(
        project.root, "-s", "--ductaflow-no-html", "--ductaflow-no-report", "--ductaflow-timeout=60"
    )

    assert "1 failed, 1 passed" in session.out
    assert "hello from the flow" in session.out.partition("FAILURES")[0]
    assert (project.folder("quick", "default") / "quick.ipynb").exists()
    assert not (project.folder("quick", "default") / "quick.html").exists()
    assert not (project.root / "runs/conductor_status_report.html").exists()
    assert json.loads((project.folder("slow", "default") / "result.json").read_text())["cause"] == "timeout"


def test_texts_of_flows_cannot_break_the_session(project: TinyProject) -> None:
    """Escape codes, lone surrogates and control characters are shown in words, also across processes."""
    project.flow(
        "fit", r'print("⚠ \x1b[31mred\x07")' "\n" r'raise ValueError("half \udcff \x1b]0;title\x07 <b>")'
    )
    project.config("flows/fit.json")

    session = run_pytest(project.root, "-n", "1", "--junitxml=junit.xml")

    assert session.code == 1
    assert session.statuses() == {"fit/default": "error"}
    assert r"ValueError: half \udcff" in session.out
    assert "\x1b" not in session.out.partition("FAILURES")[2]
    ET.parse(project.root / "junit.xml")


def test_ordinary_tests_of_a_file_share_its_fixtures(project: TinyProject) -> None:
    """Between instances, neighbours of one file go to a worker together."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json", _run={"skip": "only scheduled"})
    (project.root / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.fixture(scope='module')\n"
        "def costly():\n"
        "    with open('made.txt', 'a') as file: file.write('x')\n"
        "@pytest.mark.parametrize('number', range(12))\n"
        "def test_it(costly, number): pass\n"
    )

    session = run_pytest(project.root, "-n", "2")

    assert "12 passed, 1 skipped" in session.out
    assert len((project.root / "made.txt").read_text()) <= 4


def test_stepwise_goes_on_where_it_stopped(project: TinyProject) -> None:
    """`--sw` leaves out what came before the last failure, in the order of the graph."""
    project.flow("a_reads", "raise ValueError")
    project.flow("z_read", PLAIN)
    project.config("flows/a_reads.json", data="runs/z_read/default/x")
    project.config("flows/z_read.json")

    assert "1 failed, 1 passed" in run_pytest(project.root, "--sw").out
    again = run_pytest(project.root, "--sw").out

    assert "1 failed, 1 deselected" in again


def test_a_distribution_that_somebody_chose_is_kept(project: TinyProject) -> None:
    """With a note of what it means for the graph."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json", _run={"skip": "only scheduled"})

    session = run_pytest(project.root, "-n", "1", "--dist", "loadfile", "-v")

    assert session.code == 0
    assert "ductaflow: --dist=loadfile is kept" in session.out
    assert "scheduling tests via LoadFileScheduling" in session.out


#: A flow that makes a file in the project, and one that waits for a file there before it goes on.
@pytest.mark.usefixtures("no_process_left")
def test_a_chosen_distribution_fails_what_it_starts_too_early(project: TinyProject) -> None:
    """Neither run on old data nor skipped as if nothing were wrong."""
    project.flow("prep", AWAIT)
    project.flow("fit", PLAIN)
    project.flow("show", PLAIN)
    project.config("flows/prep.json", awaits="fit-has-failed")
    project.config("flows/fit.json", data="runs/prep/default/x.csv", _run={"needs": ["prep/default"]})
    project.config("flows/show.json", _run={"needs": ["fit/default"]})
    # the reader's turn comes while its upstream still runs on the other worker
    (project.root / "conftest.py").write_text(
        "import pathlib\n"
        "def pytest_runtest_logreport(report):\n"
        "    if 'fit' in report.nodeid and report.failed:\n"
        "        pathlib.Path(__file__).with_name('fit-has-failed').touch()\n"
    )

    session = run_pytest(project.root, "-n", "2", "--dist", "load")

    assert session.code == 1
    assert {"prep/default": "success", "fit/default": "error", "show/default": "error"} == session.statuses()
    assert "fit/default needs prep/default, which has not finished in this session." in session.out
    assert 'pytest --ductaflow "config/flows/fit.json::fit[default]"' in session.out
    assert not project.folder("fit", "default").exists()


@pytest.mark.parametrize("with_tests", [False, True], ids=["instances", "tests too"])
def test_the_collector_of_garbage_is_as_before_when_tests_run(
    project: TinyProject, *, with_tests: bool
) -> None:
    """It rests while instances are collected. Those it leaves out later, unless there are tests of others."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    (project.root / "conftest.py").write_text(
        "import gc, pathlib\n"
        "def note(config, when):\n"
        "    with config.rootpath.joinpath('notes').open('a') as file:\n"
        "        print(when, gc.isenabled(), gc.get_freeze_count() > 10_000, file=file)\n"
        "def pytest_collect_file(file_path, parent):\n"
        "    if file_path.suffix == '.json':\n"
        "        note(parent.config, 'collects')\n"
        "def pytest_runtest_setup(item): note(item.config, 'runs')\n"
        "def pytest_configure(config): config.add_cleanup(lambda: note(config, 'ends'))\n"
    )
    if with_tests:
        (project.root / "test_plain.py").write_text("def test_plain(): pass\n")

    session = project.pytest("-p", "no:xdist")

    assert session.code == 0
    noted = dict.fromkeys((project.root / "notes").read_text().splitlines())
    assert ["collects False False", f"runs True {not with_tests}", "ends True False"] == [*noted]


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_the_reports_of_an_instance_have_alike_is_there_once(
    workers: tuple[str, ...], tmp_path: Path
) -> None:
    """pytest keeps three of each test until the end. What one of them alone says stays with it."""
    project = TinyProject(tmp_path / "project")
    project.flow("fit", PLAIN)
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text(
        """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    if report.when == "teardown":
        report.user_properties.append(("late", "yes"))
    return report

def pytest_terminal_summary(terminalreporter):
    reports = [one for some in terminalreporter.stats.values() for one in some if hasattr(one, "when")]
    for name in ("keywords", "location", "user_properties"):
        terminalreporter.write_line(f"{name}: {len({id(getattr(one, name)) for one in reports})}")
    late = [one.when for one in reports if ("late", "yes") in one.user_properties]
    terminalreporter.write_line(f"late: {late}")
"""
    )

    session = run_pytest(project.root, *workers)

    assert session.code == 0, session.out
    told = [
        line
        for line in session.out.splitlines()
        if re.match(r"(keywords|location|user_prop\w+|late): ", line)
    ]
    assert ["keywords: 1", "location: 1", "user_properties: 3", "late: ['teardown']"] == told


def test_what_the_caller_of_pytest_has_frozen_stays_so(project: TinyProject) -> None:
    """A server that forks, for one, may run tests in its process."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    code = (
        "import gc, pytest\n"
        "gc.freeze()\n"
        "before = gc.get_freeze_count()\n"
        "code = pytest.main(['--ductaflow', '-p', 'no:xdist', '-q'])\n"
        "print('left', code, gc.get_freeze_count() > before // 2, gc.isenabled())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=True
    )
    assert "left 0 True True" == done.stdout.splitlines()[-1]
