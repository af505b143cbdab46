"""Twelve popular plugins together, the real ones: they change no verdict, and each has its own say.

They are in a virtual environment of their own: in that of the tests they would take part in every session.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from filelock import FileLock
from support import Session, TinyProject, TinyPython

pytestmark = pytest.mark.slow

PLUGINS = (
    "allure-pytest",
    "pytest-asyncio",
    "pytest-github-actions-annotate-failures",
    "pytest-html",
    "pytest-instafail",
    "pytest-json-report",
    "pytest-order",
    "pytest-randomly",
    "pytest-reportlog",
    "pytest-rerunfailures",
    "pytest-sugar",
    "pytest-timeout",
)
ARGUMENTS = (
    *("--reruns", "1", "--timeout", "300", "--instafail", "--ductaflow-no-html"),
    *("--html=page.html", "--json-report", "--json-report-file=report.json", "--report-log=log.jsonl"),
    *("--alluredir=allure", "--junitxml=junit.xml"),
)
EXAMPLE = Path(__file__).parents[2] / "example_project"
PREP = """
# %%
if config["n"] == 2:
    print("Warning: n is two")
if config["n"] == 3:
    raise ValueError("n is 3")
with open("clean.json", "w") as file:
    file.write("{}")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> TinyPython:
    """An interpreter with the plugins, as pip resolves them beside what the tests have; one for all."""
    parent = tmp_path_factory.getbasetemp()
    root = (parent.parent if "PYTEST_XDIST_WORKER" in os.environ else parent) / "plugins"
    done = root / "installed"
    with FileLock(f"{root}.lock"):
        made = TinyPython(root)
        if not done.exists():
            # what the base interpreter has serves a virtual environment without pip too
            for interpreter in (sys.executable, getattr(sys, "_base_executable", sys.executable)):
                told = subprocess.run(
                    [interpreter, "-m", "pip", "--python", str(made.python), "install", "-q", *PLUGINS],
                    env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                    capture_output=True,
                    text=True,
                )
                if told.returncode == 0:
                    done.touch()
                    break
            else:
                pytest.skip(f"the plugins could not be installed: {told.stderr[-300:]}")
    return made


def session(python: TinyPython, root: Path, *args: str) -> Session:
    """A session with all plugins, as in a step of GitHub Actions."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_"))
    }
    done = subprocess.run(
        [str(python.python), "-m", "pytest", "--ductaflow", *ARGUMENTS, *args],
        cwd=root,
        env={**inherited, "PYTHONUTF8": "1", "GITHUB_ACTIONS": "true", "PY_COLORS": "0"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    return Session(root, done.returncode, done.stdout + done.stderr)


def results_of_allure(root: Path) -> Iterator[dict[str, Any]]:
    """The last result of each test, by the id that tells tests from repetitions."""
    results = [json.loads(path.read_text()) for path in (root / "allure").glob("*-result.json")]
    last = {one["historyId"]: one for one in sorted(results, key=lambda one: one["stop"])}
    yield from last.values()


def test_all_verdicts_of_a_small_project(python: TinyPython, project: TinyProject) -> None:
    """Green, orange, red, blocked, skipped; then unchanged. A red row of a table is between two good ones."""
    project.flow("prep", PREP)
    project.flow(
        "fit",
        "# %%\nfrom ductaflow import unpack_config\nopen(unpack_config(config)['clean_file']).close()\n",
    )
    project.flow("odd", "")
    (project.root / "config/flows/prep.csv").write_text("instance,n\ngreen,1\nred,3\norange,2\n")
    (project.root / "config/flows/odd.csv").write_text("instance,_run.skip\ngreen,\nred,not today\n")
    project.config("flows/fit.json", clean_file="runs/prep/{instance}/clean.json")
    for name in ("green", "red", "orange"):
        project.config(f"flows/fit/{name}.json")
    first = session(python, project.root, "-n", "2")
    verdicts = {
        "prep/green": "success",
        "prep/red": "error",
        "prep/orange": "warning",
        "fit/green": "success",
        "fit/red": "blocked",
        "fit/orange": "success",
        "odd/green": "success",
        "odd/red": "not_run",
    }
    assert (1, verdicts) == (first.code, first.statuses()), first.out
    assert "INTERNALERROR" not in first.out

    summary = json.loads((project.root / "report.json").read_text())["summary"]
    assert (5, 1, 2) == (summary["passed"], summary["failed"], summary["skipped"])
    suite = ElementTree.parse(project.root / "junit.xml").getroot()[0]
    assert ("8", "1", "2") == (suite.get("tests"), suite.get("failures"), suite.get("skipped"))
    seen = Counter((one["name"].partition("[")[0], one["status"]) for one in results_of_allure(project.root))
    assert {
        ("prep", "passed"): 2,
        ("prep", "failed"): 1,
        ("fit", "passed"): 2,
        ("fit", "skipped"): 1,
        ("odd", "passed"): 1,
        ("odd", "skipped"): 1,
    } == seen
    logged = [json.loads(line) for line in (project.root / "log.jsonl").read_text().splitlines()]
    assert 1 == sum(one.get("outcome") == "failed" for one in logged if one["$report_type"] == "TestReport")
    assert "prep[red]" in (project.root / "page.html").read_text()
    errors = [line for line in first.out.splitlines() if line.startswith("::error")]
    assert [True] == ["file=flows/prep.py,line=8" in line for line in errors], first.out

    again = session(python, project.root, "--ductaflow-changed")
    good = {id for id, status in verdicts.items() if status in ("success", "warning")}
    expected = {id: "unchanged" if id in good else status for id, status in verdicts.items()}
    assert (1, expected) == (again.code, again.statuses()), again.out
    summary = json.loads((project.root / "report.json").read_text())["summary"]
    assert (5, 1, 2) == (
        summary.get("passed", 0) + summary.get("unchanged", 0),
        summary["failed"],
        summary["skipped"],
    )


def test_the_verdicts_of_the_example(python: TinyPython, tmp_path: Path) -> None:
    """As without any plugin: 8 success, 5 warning."""
    root = shutil.copytree(
        EXAMPLE, tmp_path / "example", ignore=shutil.ignore_patterns("runs", "__pycache__")
    )
    done = session(python, root)
    assert 0 == done.code, done.out
    assert {"success": 8, "warning": 5} == Counter(done.statuses().values())
    assert "INTERNALERROR" not in done.out
    assert {"passed": 13} == Counter(one["status"] for one in results_of_allure(root))
