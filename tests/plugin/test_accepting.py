"""`pytest --ductaflow-accept`: the results of what ran become the expected ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import TinyProject

pytestmark = pytest.mark.slow

FIT = """
# %%
from ductaflow import record
if config["x"] > 8:
    print("Warning: large")
record(x=config["x"], half=config["x"] / 3)
assert config["x"] != 7
"""
PLAN = """
# %%
from ductaflow import record, run_notebook
run_notebook("flows/fit.py", config={"x": config["x"]}, execution_dir="runs/fit")
record(total=config["x"])
"""


def expected(project: TinyProject, path: str) -> object:
    file = project.root / "expected" / path / "metrics.json"
    return json.loads(file.read_text()) if file.exists() else None


def test_accepting(project: TinyProject) -> None:
    """What differs or is new, with flows of builds, under xdist and `-W error`; nothing red or xfail."""
    project.flow("fit", FIT)
    project.flow("plan", PLAN, kind="builds")
    for name, x in {"a": 1, "b": 2, "red": 7, "warns": 9}.items():
        project.config(f"flows/fit/{name}.json", x=x)
    project.config("flows/fit/wrong.json", x=3, _run={"xfail": "known"})
    project.config("builds/plan/x.json", x=5)
    for path, text in {"fit/a": '{"x": 100, "half": 0.33333333}', "fit/wrong": '{"x": 100}'}.items():
        file = project.root / "expected" / path / "metrics.json"
        file.parent.mkdir(parents=True)
        file.write_text(text)

    session = project.pytest("-n", "2", "-W", "error", "--ductaflow-accept", env={"CI": ""})
    assert 1 == session.code
    assert {
        "fit/a": "success",
        "fit/b": "success",
        "fit/red": "error",
        "fit/warns": "warning",
        "fit/wrong": "error",
        "plan/x": "success",
    } == session.statuses()
    assert (
        '{\n "half": 0.33333333,\n "x": 1\n}\n' == (project.root / "expected/fit/a/metrics.json").read_text()
    )
    assert {"x": 100} == expected(project, "fit/wrong")
    assert None is expected(project, "fit/red")
    assert {"total": 5} == expected(project, "plan/x")
    assert {"x": 5, "half": 5 / 3} == expected(project, "plan/x/runs/fit")
    section = session.out.partition("= ductaflow =")[2]
    for name in ("fit/a", "fit/b", "fit/warns", "plan/x", "plan/x/runs/fit"):
        line = f"{'/'.join(name.split('/')[:2])}: wrote expected/{name}/metrics.json"
        assert 1 == section.count(f"{line}\n"), section

    _nothing_is_left_to_accept(project)
    _unchanged_instances_are_judged_and_accepted(project)


def _nothing_is_left_to_accept(project: TinyProject) -> None:
    session = project.pytest("--ductaflow-accept", "-k", "not red and not warns", env={"CI": ""})
    assert 0 == session.code, session.out
    assert "wrote" not in session.out


def _unchanged_instances_are_judged_and_accepted(project: TinyProject) -> None:
    """A part of the instances, which need not run: they pass, and the exit code says that it changed some."""
    for name in ("a", "b"):
        (project.root / f"expected/fit/{name}/metrics.json").write_text('{"x": 50}')
    options = ("--ductaflow-changed", "-k", "fit and b")
    assert "error" == project.pytest(*options).statuses()["fit/b"]
    session = project.pytest(*options, "--ductaflow-accept", env={"CI": ""})
    assert (1, "unchanged") == (session.code, session.statuses()["fit/b"])
    assert "1 unchanged" in session.out
    assert {"x": 2} == expected(project, "fit/b")
    assert {"x": 50} == expected(project, "fit/a")
    assert "success" == project.result("fit", "b").status


def test_in_ci(project: TinyProject) -> None:
    """Where `CI` is set it is a usage error: nothing runs, and nothing is accepted."""
    project.flow("fit", FIT)
    project.config("flows/fit/a.json", x=1)
    session = project.pytest("--ductaflow-accept", env={"CI": "true"})
    assert (4, True) == (session.code, "--ductaflow-accept changes what is expected" in session.out)
    assert not Path(project.root, "expected").exists()
