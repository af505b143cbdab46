"""The report over several sessions: what one did not touch, what one that was killed left, shards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject, a_result, cli, report, run_pytest

from ductaflow.common.paths import REPORT_JSON
from ductaflow.project.settings import Project
from ductaflow.report import NOT_YET, Entry, LiveReport, write_report
from ductaflow.report.earlier import rebuild_report
from ductaflow.store.result import Result, write_result

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]

FLOW = """
# %%
assert config["good"], "not good"
open("x.csv", "w").write("1")
"""


@pytest.fixture
def project(project: TinyProject) -> TinyProject:
    """`growth` is green; `raw` is red, so `fit` is blocked; `sum` has a config that cannot be read."""
    (project.root / "pytest.ini").write_text("[pytest]\n")
    for flow in ("growth", "raw", "fit", "sum"):
        project.flow(flow, FLOW)
    project.config("flows/growth/a.json", good=True)
    project.config("flows/raw/a.json", good=False)
    project.config("flows/fit/a.json", good=True, data="runs/raw/a/x.csv")
    project.config("flows/sum/a.json").write_text("{half")
    return project


def shown(project: TinyProject) -> dict[str, tuple[str, bool]]:
    """Status of each instance of the page, and whether it is an earlier one."""
    return {each["id"]: (each["status"], each["earlier"]) for each in report(project)["instances"]}


def test_edited_code_is_a_change_since_the_good_run_before(project: TinyProject) -> None:
    """A session hands results on without the record of their code; the page has what it says all the same."""
    run_pytest(project.root, "-k", "growth")
    project.flow("growth", FLOW + "\nmore = 1\n")
    run_pytest(project.root, "-k", "growth")

    (since,) = [each["since_good"] for each in report(project)["instances"] if each["id"] == "growth/a"]
    assert since is not None
    assert ["code of the flow"] == since["changes"]
    assert [] == since["unknown"]


# --- what a session does not touch -------------------------------------------------------------------------


def test_what_has_no_run_keeps_its_place_on_the_page(project: TinyProject) -> None:
    """Blocked and broken instances have nothing on disk, and are there after a session of others, twice."""
    run_pytest(project.root)
    full = {id: (status, True) for id, (status, _) in shown(project).items()}
    assert ("blocked", "error") == (full["fit/a"][0], full["sum/a"][0])
    why = {each["id"]: each["message"] for each in report(project)["instances"]}

    for _ in range(2):
        run_pytest(project.root, "-k", "growth")
        assert {**full, "growth/a": ("success", False)} == shown(project)
    assert why == {each["id"]: each["message"] for each in report(project)["instances"]}
    assert 1 == report(project)["earlier_summary"]["blocked"]

    assert 0 == cli("report", "--project", project.root).exit_code
    assert {**full, "growth/a": ("success", False)} == shown(project)


def test_what_is_not_stored_any_more_leaves_the_page(project: TinyProject) -> None:
    """An instance without a run is known by its config alone."""
    run_pytest(project.root)
    (project.root / "config/flows/fit/a.json").unlink()

    run_pytest(project.root, "-k", "growth")
    assert "fit/a" not in shown(project)

    (project.root / "config/flows/sum/a.json").unlink()
    cli("report", "--project", project.root)
    assert {"growth/a", "raw/a"} == shown(project).keys()


def test_a_twin_that_cannot_be_read_is_none(project: TinyProject) -> None:
    """Anyone can write into the runs folder; the page has what is on disk."""
    run_pytest(project.root)
    twin = project.root / "runs" / REPORT_JSON
    lines = twin.read_text().splitlines()
    twin.write_text("\n".join([lines[0], '{"run_id": "", "folder": 3},', '{"half": "run_id": "", ', "]}"]))
    assert 0 == cli("report", "--project", project.root).exit_code
    assert {"growth/a", "raw/a"} == shown(project).keys()

    twin.write_bytes(b"\xff")
    assert 0 == cli("report", "--project", project.root).exit_code
    assert {"growth/a", "raw/a"} == shown(project).keys()


def test_new_after_a_session_of_others(project: TinyProject) -> None:
    """What was red in the last full session is not new because a smaller one came between."""
    run_pytest(project.root)
    run_pytest(project.root, "-k", "growth")
    project.config("flows/growth/a.json", good=False)
    run_pytest(project.root)

    assert ["growth/a"] == report(project)["new"]
    assert ["raw/a", "sum/a"] == report(project)["history"][1]["carried"]


# --- a session that was killed -----------------------------------------------------------------------------


def grown(name: str, status: str = "success", **fields: Any) -> Result:
    return a_result(status, "growth", name, **{"run_id": "r", **fields})


@pytest.fixture
def killed(project: TinyProject) -> TinyProject:
    """A session that ran `a` of four and was killed; `b` has an older result, `d` was blocked."""
    runs = project.root / "runs"
    for name in "bcd":
        project.config(f"flows/growth/{name}.json", good=True)
    old = grown("b", started="2020-01-01T00:00:00Z", finished="2020-01-01T01:00:00Z", session_id="old")
    (runs / "growth/b").mkdir(parents=True)
    write_result(old, runs / "growth/b")
    live = LiveReport(runs, session_id="new", project_root=project.root, min_interval=0.0)
    live.expect(Entry(grown(name, "not_run", message=NOT_YET, run_id=""), f"n::{name}") for name in "abc")
    blocked = grown("d", "blocked", message="a is red", run_id="")
    live.update(Entry(blocked, "n::d"))
    live._write_now()
    live._stop_timer()
    twin = json.loads((runs / REPORT_JSON).read_text())
    assert twin["finished"] is None
    done = grown("a", started=twin["started"], finished="2999-01-01T00:00:00Z", session_id="new")
    (runs / "growth/a").mkdir(parents=True)
    write_result(done, runs / "growth/a")
    return project


def test_the_page_after_a_kill_is_that_of_the_killed_session(killed: TinyProject) -> None:
    """What is older is earlier, a note says how many have no result; also when it is asked for again."""
    started = report(killed)["started"]
    for _ in range(2):
        said = cli("report", "--project", killed.root)
        data = report(killed)
        assert {
            "growth/a": ("success", False),
            "growth/b": ("success", True),
            "growth/c": ("not_run", False),
            "growth/d": ("blocked", False),
        } == shown(killed)
        (note,) = data["notes"]
        assert (
            f"The session of {started} has not ended: 2 of the 4 instances that it meant to run have"
            " no result of it." == note
        )
        assert note in said.stderr
        assert ("new", started, "2999-01-01T00:00:00Z") == (
            data["session_id"],
            data["started"],
            data["finished"],
        )
        assert (1, 1) == (data["earlier_summary"]["success"], data["summary"]["not_run"])


def test_what_is_run_after_the_kill_counts(killed: TinyProject) -> None:
    """The note goes down to what is still missing; the next session has none of it."""
    runs = killed.root / "runs"
    late = grown("b", started="2998-01-01T00:00:00Z", finished="2998-01-01T01:00:00Z", session_id="x")
    write_result(late, runs / "growth/b")

    write_report(rebuild_report(Project.at(killed.root)), runs)

    assert ("success", False) == shown(killed)["growth/b"]
    assert ": 1 of the 4 instances" in report(killed)["notes"][0]
    run_pytest(killed.root, "-k", "growth")
    assert ([], None) == (report(killed)["notes"], report(killed)["alive"])


# --- shards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_shards_know_of_each_other(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """The twin has its number and its selection, so that a missing one is told by the exit code."""
    project = TinyProject(tmp_path / "study")
    (project.root / "pytest.ini").write_text("[pytest]\n")
    project.flow("fit", FLOW)
    for name in "ab":
        project.config(f"flows/fit/{name}.json", good=True)
    twins = []
    for number in (1, 2, 3):
        session = run_pytest(project.root, f"--ductaflow-shard={number}/3", *workers)
        assert 0 == session.code, session.out
        if number < 3:
            target = tmp_path / f"{number}.json"
            shutil.move(project.root / "runs" / REPORT_JSON, target)
            twins.append(target)
    assert not (project.root / "runs" / REPORT_JSON).exists()
    first, second = (json.loads(twin.read_text())["shard"] for twin in twins)
    assert {**first, "number": 2} == second
    assert (3, [1, 2]) == (first["of"], first["not_empty"])

    whole = cli("report", "--merge", *twins, "--output", tmp_path / "all")
    assert (0, "") == (whole.exit_code, whole.stderr)

    lacking = cli("report", "--merge", twins[1], "--output", tmp_path / "some")
    assert 1 == lacking.exit_code
    assert "Shard 1/3 is missing" in lacking.stderr
    instances = json.loads((tmp_path / "some" / REPORT_JSON).read_text())["instances"]
    assert ["success"] == [each["status"] for each in instances if not each["earlier"]]


def test_a_session_that_is_no_shard_says_so(project: TinyProject) -> None:
    """Nothing is missed then."""
    run_pytest(project.root)
    assert report(project)["shard"] is None
    assert (
        0 == cli("report", "--merge", project.root / "runs" / REPORT_JSON, "--output", project.root).exit_code
    )
