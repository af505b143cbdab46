"""The example project, copied elsewhere: what a new user sees first must hold."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import cli

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "example_project"

ORANGE = {
    "data_prep/scenario_A",
    "data_prep/scenario_B",
    "forecast/scenario_A",
    "projection/until-1993_degree-2_horizon-8",
    "projection/until-1995_degree-1_horizon-5",
}
GREEN = {
    "data_prep/scenario_C",
    "fit_trend/scenario_A",
    "fit_trend/scenario_B",
    "fit_trend/scenario_C",
    "forecast/scenario_B",
    "forecast/scenario_C",
    "projection/until-1993_degree-1_horizon-3",
    "seasonality/default",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example without any runs, as a user would take it."""
    copy = tmp_path / "a copy"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("runs", "__pycache__", ".pytest_cache"))
    return copy


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and take its output as text."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=300,
    )


def run_pytest(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "pytest", "--ductaflow", "-p", "no:cacheprovider", *options, cwd=project)


def statuses(runs: Path) -> dict[str, str]:
    """`flow/instance` -> status of every run directly below the runs folder."""
    return {name: record["status"] for name, record in records(runs).items()}


def records(runs: Path) -> dict[str, dict[str, Any]]:
    """`flow/instance` -> the record of every run directly below the runs folder."""
    return {
        result.parent.relative_to(runs).as_posix(): json.loads(result.read_bytes())
        for result in runs.glob("*/*/result.json")
    }


def _the_tables_of_the_readme(project: Path) -> None:
    """Those of `ductaflow results` are what the commands above them print."""
    text = (project / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\$ ductaflow (results .*)\n```\n\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert 2 == len(shown)
    for command, table in shown:
        done = cli(*shlex.split(command), "--project", project)
        assert table == done.stdout


def scores(runs: Path, instance: str) -> dict[str, float]:
    scored: dict[str, float] = json.loads((runs / "forecast" / instance / "scores.json").read_bytes())
    return scored


def test_every_instance_of_the_example_runs_and_the_honest_ones_are_orange(project: Path) -> None:
    """`pytest --ductaflow -n 2` on a copy: 8 green, 5 orange, no red; the report names each of them."""
    session = run_pytest(project, "-n", "2", "-q")
    runs = project / "runs"

    assert session.returncode == 0, session.stdout + session.stderr
    assert dict.fromkeys(GREEN, "success") | dict.fromkeys(ORANGE, "warning") == statuses(runs)
    report = json.loads((runs / "conductor_status_report.json").read_bytes())
    named = {instance["id"] for instance in report["instances"]}
    assert named == GREEN | ORANGE
    # The first to come of each kind is shown, whichever that is.
    assert "weeks have no measurement" in session.stdout
    [prepared] = [one for one in report["instances"] if one["id"] == "data_prep/scenario_A"]
    assert "59 of 2284 weeks have no measurement" in json.dumps(prepared["warnings"])
    judged = {name: result["judged"] for name, result in records(runs).items() if result["judged"]}
    assert 8 == len(judged)
    assert not any(one["differences"] for one in judged.values())
    _the_tables_of_the_readme(project)
    # The numbers that the example's README quotes.
    assert scores(runs, "scenario_A")["rmse"] == pytest.approx(3.68, abs=0.005)
    assert scores(runs, "scenario_B")["rmse"] == pytest.approx(0.64, abs=0.005)
    assert scores(runs, "scenario_C")["rmse"] == pytest.approx(0.53, abs=0.005)


def test_a_keyword_selects_one_chain_of_the_example(project: Path) -> None:
    """`-k scenario_A` collects the three flows of that scenario in reading order, and starts nothing."""
    session = run_pytest(project, "-k", "scenario_A", "--collect-only", "-q")

    assert [
        f"config/flows/{flow}/scenario_A.json::{flow}[scenario_A]"
        for flow in ("data_prep", "fit_trend", "forecast")
    ] == [line for line in session.stdout.splitlines() if "::" in line]
    assert not (project / "runs").exists()


def test_the_conductor_goes_on_after_a_failed_scenario(project: Path, tmp_path: Path) -> None:
    """conductor.py, from any working directory: a red row costs itself; the report names every row."""
    conductor_file = project / "conductor.py"
    text = conductor_file.read_text(encoding="utf-8")
    table = '{"until": [1993, 1995], "degree": [1, 2], "horizon": [5]}'
    assert text.count(table) == 1
    # Two rows are enough here, and a year and a half of data is too little to fit a yearly cycle.
    smaller = '{"until": [1986, 1993], "degree": [1], "horizon": [5]}'
    conductor_file.write_text(text.replace(table, smaller), encoding="utf-8")

    conductor = run(sys.executable, conductor_file, cwd=tmp_path)

    assert conductor.returncode == 1, conductor.stdout + conductor.stderr
    assert {
        "projection/until-1986_degree-1_horizon-5": "error",
        "projection/until-1993_degree-1_horizon-5": "success",
    } == statuses(project / "runs")
    report = (project / "runs" / "conductor_status_report.html").read_text(encoding="ascii")
    assert "until-1986_degree-1_horizon-5" in report
    assert "until-1993_degree-1_horizon-5" in report
    assert "a yearly cycle needs two years at least" in report


def test_the_pure_conductor_needs_scripts_only(project: Path, tmp_path: Path) -> None:
    """pure_conductor.py: six scripts leave data and verdicts, and no notebook."""
    conductor = run(sys.executable, project / "pure_conductor.py", cwd=tmp_path)

    assert conductor.returncode == 0, conductor.stdout + conductor.stderr
    names = {"pure_until-1993_degree-1", "pure_until-1995_degree-2"}
    found = statuses(project / "runs")
    expected = {f"{flow}/{name}" for flow in ("data_prep", "fit_trend", "forecast") for name in names}
    assert expected == set(found)
    assert "error" not in found.values()
    assert not list((project / "runs").rglob("*.ipynb"))
