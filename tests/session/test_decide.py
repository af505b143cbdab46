"""One decision: every way of running gives the same answer for the same instance.

One project has all cases. Each way runs one session over a copy of it, also where `pytest -n` spreads these
tests over workers; each case is asked of each session.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from filelock import FileLock
from support import TinyProject, held_elsewhere, local_cluster, run_pytest

from ductaflow.project.graph import collect
from ductaflow.project.settings import Project
from ductaflow.session.conductor import conduct, run_targets
from ductaflow.session.forecast import Plan

FLOW = """
# %%
assert config.get("fails") != "yes", "boom"
open("x.csv", "w").write(str(config.get("version")))
"""

BOOM = "flows/fit.py:5: AssertionError: boom"


@dataclass(frozen=True)
class Case:
    """What comes of an instance.

    Attributes:
        config: of the instance.
        status: in a session with `--changed`.
        message: how it begins, with the remedy; of a run that was good, none.
        plan, plan_message: of `ductaflow plan`, where it differs.
        dask, dask_message: with an executor, which runs stored upstreams that have no valid run first.
        contains: a part of the message.
    """

    config: dict[str, Any]
    status: str = "success"
    message: str = ""
    plan: str = ""
    plan_message: str = ""
    dask: str = ""
    dask_message: str = ""
    contains: str = ""


def reads(name: str, **more: Any) -> dict[str, Any]:
    return {"data": f"runs/fit/{name}/x.csv", **more}


#: What is stored and not selected. All but `new` and `left-out` have run before, some of them badly.
OUTSIDE: dict[str, dict[str, Any]] = {
    "old": {},
    "edited": {},
    "failing": {"fails": "yes"},
    "new": {},
    "changed": {"version": 1},
    "left-out": {"_run": {"skip": "no licence"}},
}

LACKS_NEW = "fit/reads-new reads from fit/new, but it has no finished run"
LACKS_FAILING = f"fit/reads-failing reads from fit/failing, but its last run failed: {BOOM}"
LACKS_EDITED = "fit/reads-edited reads from fit/edited, but its output x.csv was changed since"
NOWHERE = (
    "fit/reads-nothing reads runs/other/one/x.csv, which is not there;"
    " other has no stored instance at all. There is fit, gone."
)
OF_BY_HAND = "fit/reads-unstored-red reads runs/other/red/x.csv, but its last run failed: boom; other has no"
CYCLE = "fit/cycle-a is part of a cycle: fit/cycle-a -> fit/cycle-b -> fit/cycle-a"

CASES: dict[str, Case] = {
    "runs": Case({}),
    # skipped
    "skip": Case({"_run": {"skip": "no licence"}}, "not_run", "skipped: no licence"),
    "skip-ran": Case({"_run": {"skip": "too dear"}}, "not_run", "skipped: too dear"),
    "skip-red": Case({"_run": {"skip": "too old"}}, "not_run", "skipped: too old"),
    "skip-without": Case(
        {"_run": {"skip_without": ["inputs/none.csv"]}}, "not_run", "skipped: not there: inputs/none.csv"
    ),
    "reads-skip": Case(reads("skip"), "blocked", "fit/skip is skipped: no licence"),
    "reads-skip-ran": Case(reads("skip-ran")),
    "reads-skip-red": Case(reads("skip-red"), "blocked", "fit/skip-red is skipped: too old"),
    "reads-skip-without": Case(
        reads("skip-without"), "blocked", "fit/skip-without is skipped: not there: inputs/none.csv"
    ),
    "reads-left-out": Case(reads("left-out"), "blocked", "fit/left-out is skipped: no licence"),
    "reads-reads-skip": Case(
        reads("reads-skip"), "blocked", "fit/reads-skip is blocked: fit/skip is skipped: no licence"
    ),
    # errors of this session
    "red": Case({"fails": "yes"}, "error", BOOM, plan="run"),
    "xfail": Case({"fails": "yes", "_run": {"xfail": "known"}}, "error", BOOM, plan="run"),
    "reads-red": Case(reads("red"), "blocked", f"fit/red failed: {BOOM}", plan="run"),
    "reads-xfail": Case(reads("xfail"), "blocked", f"fit/xfail failed: {BOOM}", plan="run"),
    "reads-reads-red": Case(
        reads("reads-red"), "blocked", f"fit/reads-red is blocked: fit/red failed: {BOOM}", plan="run"
    ),
    "far-from-red": Case(
        reads("reads-reads-red"),
        "blocked",
        f"fit/reads-reads-red is blocked: fit/red failed: {BOOM}",
        plan="run",
    ),
    "reads-red-and-runs": Case(
        reads("red", other="runs/fit/runs/x.csv"), "blocked", f"fit/red failed: {BOOM}", plan="run"
    ),
    # upstreams of earlier sessions
    "reads-old": Case(reads("old")),
    "reads-new": Case(
        reads("new"), "error", f"{LACKS_NEW}. Run it first: ductaflow run fit/new", dask="success"
    ),
    "reads-failing": Case(
        reads("failing"),
        "error",
        f"{LACKS_FAILING}. Run it first: ductaflow run fit/failing",
        dask="blocked",
        dask_message=f"fit/failing failed: {BOOM}",
    ),
    "reads-edited": Case(
        reads("edited"), "error", f"{LACKS_EDITED}. Run it first: ductaflow run fit/edited", dask="success"
    ),
    "reads-reads-new": Case(
        reads("reads-new"),
        "blocked",
        f"fit/reads-new cannot run: {LACKS_NEW}. Run it first: ductaflow run fit/new",
        dask="success",
    ),
    # paths of nothing stored
    "reads-nothing": Case({"data": "runs/other/one/x.csv"}, "error", NOWHERE),
    "reads-unstored-red": Case({"data": "runs/other/red/x.csv"}, "error", OF_BY_HAND),
    "reads-unstored-good": Case({"data": "runs/other/good/x.csv"}, "warning"),
    "reads-by-hand": Case({"data": "runs/other/hand/x.csv"}),
    "reads-reads-nothing": Case(
        reads("reads-nothing"), "blocked", f"fit/reads-nothing cannot run: {NOWHERE}"
    ),
    # configs
    # Where it is wrong is a file or a row.
    "bad": Case({"_run": {"timeout": -1}}, "error", contains="_run.timeout takes a number of seconds"),
    "reads-bad": Case(reads("bad"), "blocked", "fit/bad cannot run: "),
    "cycle-a": Case(reads("cycle-b"), "error", CYCLE),
    "cycle-b": Case(reads("cycle-a"), "error", "fit/cycle-b is part of a cycle"),
    "reads-cycle": Case(
        reads("cycle-a"), "blocked", "fit/cycle-a cannot run: fit/cycle-a is part of a cycle"
    ),
    "needs-nothing": Case(
        {"_run": {"needs": ["fit/nobody"]}}, "error", "fit/needs-nothing needs fit/nobody (_run.needs[0])"
    ),
    # held by another session
    "held": Case({}, "error", "{root}/runs/fit/held is held by ", plan="run"),
    "reads-held": Case(
        reads("held"), "blocked", "fit/held cannot run: {root}/runs/fit/held is held by ", plan="run"
    ),
    # unchanged
    "same": Case({}, "unchanged"),
    "reads-same": Case(reads("same"), "unchanged"),
    "reads-changed": Case(reads("changed"), "unchanged"),
    "newer": Case({"version": 1}),
    "reads-newer": Case(reads("newer"), plan="may run"),
    "mended": Case({}),
    "reads-mended": Case(reads("mended"), "unchanged", plan="run"),
}

#: What has a run before the session begins; those that fail then do not matter.
RAN_BEFORE = (
    *("old", "edited", "failing", "changed", "skip-ran", "skip-red", "same", "reads-same", "reads-changed"),
    *("newer", "reads-newer", "mended", "reads-mended"),
)


def make_project(root: Path) -> None:
    """The project with all cases, and what earlier sessions and people have left in it."""
    project = TinyProject(root)
    # Pages take longer than the runs and decide nothing.
    project.settings("html = false")
    project.flow("fit", FLOW)
    for name, config in OUTSIDE.items():
        run = {**config.get("_run", {}), "tags": ["outside"]}
        project.config(f"flows/fit/{name}.json", **{**config, "_run": run})
    for name, case in CASES.items():
        project.config(f"flows/fit/{name}.json", **({} if name in ("skip-ran", "newer") else case.config))
    project.config("flows/fit/skip-red.json", fails="yes")
    project.config("flows/gone/a.json")
    ids = [f"fit/{name}" for name in RAN_BEFORE]
    run_targets(Project.at(project.root), ids, jobs=2, only_changed=False)
    for name in ("skip-ran", "skip-red"):
        project.config(f"flows/fit/{name}.json", **CASES[name].config)
    project.config("flows/fit/changed.json", version=2, _run={"tags": ["outside"]})
    project.config("flows/fit/newer.json", version=2)
    for name in ("edited", "mended"):
        (project.folder("fit", name) / "x.csv").write_text("by hand")
    for name, status in {"red": "error", "good": "success"}.items():
        folder = project.folder("other", name)
        shutil.copytree(project.folder("fit", "old"), folder)
        told = json.loads((folder / "result.json").read_text())
        told |= {"status": status, "run_status": status, "message": "boom", "flow": "other", "instance": name}
        (folder / "result.json").write_text(json.dumps(told))
    (by_hand := project.folder("other", "hand")).mkdir()
    (by_hand / "x.csv").write_text("1")


Answers = dict[str, tuple[str, str]]


def by_pytest(root: Path, *arguments: str) -> Answers:
    session = run_pytest(root, "--ductaflow-changed", "-q", "-m", "not outside", *arguments)
    return {
        entry["instance"]: (entry["status"], entry["message"])
        for entry in session.report()["instances"]
        if entry["flow"] == "fit"
    }


def by_run(root: Path) -> Answers:
    results = run_targets(Project.at(root), [f"fit/{name}" for name in CASES], jobs=2, only_changed=True)
    return {result.instance: (result.status, result.message) for result in results.values()}


def by_plan(root: Path) -> Answers:
    plan = Plan.of(collect(Project.at(root)), [f"fit/{name}" for name in CASES], 2)
    return {one.instance.name: (one.would, one.message) for one in plan.decisions}


def by_again(root: Path) -> Answers:
    """Readers by their run folders, where they have a run or at least a saved config."""
    for name, case in CASES.items():
        folder = root / "runs" / "fit" / name
        if not (folder / "fit_config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            config = {key: value for key, value in case.config.items() if key != "_run"}
            saved = {**config, "_project_root": str(root)}
            (folder / "fit_config.json").write_text(json.dumps(saved))
    # A folder has no other `_run` than how to execute, and the config that ran.
    by_id = {"newer", *(name for name, case in CASES.items() if "_run" in case.config)}
    targets = [f"fit/{name}" if name in by_id else f"runs/fit/{name}" for name in CASES]
    with contextlib.chdir(root):
        results = run_targets(Project.at(root), targets, jobs=2, only_changed=True)
    return {result.instance: (result.status, result.message) for result in results.values()}


def rows() -> pd.DataFrame:
    """The cases as rows of a table: the same names and configs."""
    return pd.DataFrame(
        [
            {
                "instance": name,
                **{key: value for key, value in case.config.items() if key != "_run"},
                **{f"_run.{key}": value for key, value in case.config.get("_run", {}).items()},
            }
            for name, case in CASES.items()
        ]
    )


def by_conduct(root: Path, **more: Any) -> Answers:
    done = conduct(rows(), "fit", project_root=root, only_changed=True, progress=False, **more)
    return {row.instance: (row.status, row.message) for row in done.itertuples()}


def by_dask(root: Path) -> Answers:
    with local_cluster() as client:
        return by_conduct(root, executor=client)


WAYS: dict[str, Callable[[Path], Answers]] = {
    "pytest": by_pytest,
    "pytest -n": lambda root: by_pytest(root, "-n", "2"),
    "conduct": functools.partial(by_conduct, jobs=2),
    "run": by_run,
    "plan": by_plan,
    "again": by_again,
    "dask": by_dask,
}


#: `plan` runs nothing; the project for it takes a second or two.
MARKS = {way: pytest.mark.slow for way in WAYS if way != "plan"} | {"dask": pytest.mark.dask}


@dataclass(frozen=True)
class Asked:
    """What a way of running answered, and where."""

    way: str
    root: Path
    answers: Answers


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that the workers of a session share; in it the project is made once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "decide"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "made.lock"):
        if not (folder / "made").exists():
            make_project(folder / "begun")
            (folder / "begun").rename(folder / "made")
    return folder


@pytest.fixture(scope="module", params=[pytest.param(way, marks=MARKS.get(way, ())) for way in WAYS])
def asked(shared: Path, request: pytest.FixtureRequest) -> Asked:
    way: str = request.param
    root = shared / way / "project"
    answers = shared / way / "answers.json"
    with FileLock(shared / f"{way}.lock"):
        if not answers.exists():
            shutil.copytree(shared / "made", root)
            with held_elsewhere(root / "runs" / "fit" / "held", root / "runs"):
                answers.write_text(json.dumps(WAYS[way](root)))
    return Asked(way, root, json.loads(answers.read_text()))


@pytest.mark.parametrize("name", CASES)
def test_every_way_gives_the_same_answer(asked: Asked, name: str) -> None:
    """Run, unchanged, skipped, blocked or refused, why, and what to type: for pytest, `conduct`, `run`,
    `plan`, a run folder again, and Dask."""
    case = CASES[name]
    status, message = case.status, case.message
    if asked.way == "plan":
        if case.plan:
            status, message = case.plan, case.plan_message
        elif status in ("success", "warning"):
            status = "run"
    if asked.way == "dask" and case.dask:
        status, message = case.dask, case.dask_message
    if asked.way == "pytest -n" and name == "reads-held":
        # A run that did not start leaves nothing by which another worker could know why.
        message = "fit/held "
    message = message.format(root=asked.root)
    found, found_message = asked.answers[name]

    assert (status, message) == (str(found), found_message[: len(message)])
    assert case.contains in found_message
    if "Run it first" in message:
        assert message == found_message
