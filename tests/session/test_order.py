"""One order: every way of running starts the longest path first, by the times of earlier runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import TinyProject, local_cluster, run_pytest, table

from ductaflow.project.graph import collect
from ductaflow.project.settings import Project
from ductaflow.session.conductor import conduct, run_targets
from ductaflow.session.forecast import Plan
from ductaflow.store.result import Result, Status, write_result

#: Notes that it has started. `a` waits until another one has, and `d` until `a` has said which.
FLOW = """
# %%
import time
from pathlib import Path
started = Path(config["_project_root"]) / "started"
def names():
    return sorted(path.name for path in started.iterdir())
(started / config["name"]).touch()
while config["name"] == "a" and not {"b", "c"} & set(names()):
    time.sleep(0.02)
while config["name"] == "d" and "said" not in names():
    time.sleep(0.02)
if config["name"] == "a":
    print("started:", *names())
    (started / "said").touch()
"""

#: How long each took earlier, in the order in which they are collected.
SECONDS = {"a": 4.0, "b": 3.0, "c": 1.0, "d": 9.0}

READS = {"d": "runs/fit/c/x.csv"}


def by_pytest(root: Path) -> None:
    run_pytest(root, "-q", "-n", "2")


def by_conduct(root: Path) -> None:
    rows = table(*SECONDS, name=list(SECONDS), data=[READS.get(name, "") for name in SECONDS])
    conduct(rows, "fit", jobs=2, project_root=root, progress=False)


def by_run(root: Path) -> None:
    run_targets(Project.at(root), [], jobs=2, only_changed=False)


def by_dask(root: Path) -> None:
    rows = table(*SECONDS, name=list(SECONDS), data=[READS.get(name, "") for name in SECONDS])
    with local_cluster() as client:
        conduct(rows, "fit", executor=client, project_root=root, progress=False)


@pytest.fixture
def timed(project: TinyProject) -> TinyProject:
    """Four instances with earlier runs: `c` is the shortest one, and the longest of all waits for it."""
    project.flow("fit", FLOW)
    (project.root / "started").mkdir()
    for name, seconds in SECONDS.items():
        project.config(f"flows/fit/{name}.json", name=name, data=READS.get(name, ""))
        folder = project.folder("fit", name)
        folder.mkdir(parents=True)
        write_result(Result("fit", name, "flow", Status.SUCCESS, seconds=seconds), folder)
    return project


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", [by_pytest, by_conduct, by_run, pytest.param(by_dask, marks=pytest.mark.dask)]
)
def test_the_longest_path_starts_first(timed: TinyProject, way: Callable[[Path], None]) -> None:
    """Two at a time, `a` and `c` start before `b`, although `b` comes earlier and `c` is the shortest."""
    way(timed.root)

    log = (timed.folder("fit", "a") / "fit_execution_output.txt").read_text()
    [said] = [line for line in log.splitlines() if line.startswith("started:")]
    assert "c" in said.split()
    assert "b" not in said.split()


def test_a_plan_estimates_for_that_order(timed: TinyProject) -> None:
    """Two at a time: `c` and `d` take ten seconds, `a` and `b` seven beside them."""
    for name in SECONDS:
        timed.config(f"flows/fit/{name}.json", name=name, data=READS.get(name, ""), new=1)
    plan = Plan.of(collect(Project.at(timed.root)), [f"fit/{name}" for name in SECONDS], 2)

    assert 10.0 == plan.span[1]
