"""Threads of numeric libraries: limited where runs share a machine, and what that changes and does not."""

from __future__ import annotations

from typing import Any

import pytest
from support import TinyProject, table

from ductaflow import conduct
from ductaflow.common.machine import Machine
from ductaflow.project.options import RunOptions
from ductaflow.session import resources
from ductaflow.session.resources import thread_limit
from ductaflow.store.result import Status
from ductaflow.store.spec import THREAD_VARIABLES

PRINT = """
# %%
import os
taken = b"x" * 10**6 * config.get("mb", 0)
print(sorted({value for name, value in os.environ.items() if name.endswith("_THREADS")}))
"""


class FourProcessors(Machine):
    def processors(self) -> int:
        return 4


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four processors, and an environment that says nothing of threads."""
    monkeypatch.setattr(resources, "this_machine", FourProcessors)
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("workers", "cpus", "limit"),
    [(1, None, None), (2, None, 2), (3, None, 1), (9, None, 1), (1, 3, 3), (2, 1, 1), (4, 99, 4)],
)
def test_the_limit(project: TinyProject, workers: int, cpus: int | None, limit: int | None) -> None:
    """Processors over workers, or what the config says; one run at a time has all that there is."""
    source = project.flow("fit", PRINT)
    assert limit == thread_limit(RunOptions(cpus=cpus), source, project.root, workers)


@pytest.mark.parametrize(
    ("code", "helper"),
    [
        ('# %%\nimport os\nos.environ["OMP_NUM_THREADS"] = "3"\nimport numpy\n', ""),
        ("# %%\nimport numpy\n# MKL_NUM_THREADS is set by who calls\n", ""),
        ("# %%\nimport helper\n", 'import os\nos.environ.setdefault("OPENBLAS_NUM_THREADS", "2")\n'),
    ],
)
def test_a_flow_that_says_otherwise(project: TinyProject, code: str, helper: str) -> None:
    """One that names a variable, itself or in a module of the project, is left alone."""
    source = project.flow("fit", code)
    (project.root / "flows" / "helper.py").write_text(helper)
    assert thread_limit(RunOptions(), source, project.root, 2) is None


def test_an_environment_that_says_otherwise(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the variables is enough, and the record has it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    project.flow("fit", PRINT)
    project.config("flows/fit.json")

    result = project.run("fit/default", workers=4)

    assert "OMP_NUM_THREADS=3" == result.environment["threads"]
    assert "['3']" in project.folder("fit", "default").joinpath("fit_execution_output.txt").read_text()


def test_runs_that_share_a_machine(project: TinyProject) -> None:
    """They find the limit when their imports are done, also in the flows of a build; the record has it, and
    a build takes the memory of its flows."""
    project.flow("fit", PRINT)
    project.flow(
        "all",
        """
        # %%
        from ductaflow import run_notebook
        run_notebook("flows/fit.py", config={"mb": 200}, execution_dir="runs/fit/inner")
        """,
        kind="builds",
    )

    conduct(table("a"), "all", project_root=project.root, jobs=2, export_html=False, progress=False)

    result = project.result("all", "a")
    assert Status.SUCCESS is result.status
    assert "2" == result.environment["threads"]
    assert (result.peak_memory or 0) > 200_000_000
    assert "['2']" in project.folder("all", "a").joinpath("all_execution_output.txt").read_text()


def test_the_limit_makes_no_run_stale(project: TinyProject) -> None:
    """The same instance alone, or beside others, is unchanged; `_run.cpus` and `memory` change nothing."""
    project.settings('rerun_on = ["config", "code", "inputs", "environment"]')
    project.flow("fit", PRINT)
    project.config("flows/fit.json")
    shared = project.run("fit/default", workers=2)
    project.config("flows/fit.json", _run={"cpus": 3, "memory": "4 GB"})

    [again] = [line for line in project.output("plan").splitlines() if "fit/default" in line]

    assert ("2", "unchanged") == (shared.environment["threads"], again.split()[0])
    assert "3" == project.run("fit/default").environment["threads"]


def test_a_result_that_differs_names_the_limit(project: TinyProject) -> None:
    """Last digits depend on how a sum is divided: whoever finds a difference reads it beside that."""
    project.flow("fit", "# %%\nfrom ductaflow import record\nrecord(total=1.5)\n")
    project.config("flows/fit.json", _run={"expect": {"metrics": {"total": {"max": 1}}}})

    def said(**options: Any) -> str:
        result = project.run("fit/default", check=False, **options)
        assert ("error", "expectation") == (result.status, result.cause)
        return project.folder("fit", "default").joinpath("fit_execution_output.txt").read_text()

    note = "threads of BLAS and OpenMP were limited (2)"
    assert note in said(workers=2)
    assert note not in said(workers=1)
