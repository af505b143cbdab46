"""`pytest --ductaflow --cov=flows` measures the flows, in whatever process they run."""

from __future__ import annotations

import ast
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject

from ductaflow.execution.coverage import ways_between

FLOW = """
    # %%
    def unused(a):
        return a

    def used(a):
        if a:
            a += 1
        return a

    # %%
    if config["high"]:
        level = 1
    print(level)

    # %%
    for n in range(2):
        used(n)

    # %%
    if not config["high"]:
        never = 1
    else:
        low = 1

    # %time once = 1
    # %% [markdown]
    # The end.

    # %%
    '''A text.'''
    if config["both"]:
        last = 1

    # %%
    done = True
    """


@pytest.fixture
def measured(project: TinyProject) -> TinyProject:
    """A flow with two instances that take one branch both, and one branch each."""
    project.flow("fit", FLOW)
    project.flow("left_out", "x = 1\n")
    project.config("flows/fit/one.json", high=True, both=True)
    project.config("flows/fit/two.json", high=True, both=False)
    project.config("flows/left_out/any.json")
    (project.root / "setup.cfg").write_text(
        "[coverage:run]\nomit = flows/left_out.py\n[coverage:json]\nshow_contexts = True\n"
    )
    return project


def measure(project: TinyProject, *args: str, without: tuple[str, ...] = ("PYTEST_", "COVERAGE_FILE")) -> str:
    """Run pytest with an environment that does not know the coverage of these tests; it has to pass."""
    session = project.pytest(*args, without=without)
    assert 0 == session.code, session.out
    return session.out


def line_of(text: str) -> int:
    """The line of the flow's file in which a text stands first."""
    # the cell with the parameters stands above
    return 3 + textwrap.dedent(FLOW).lstrip("\n").partition(text)[0].count("\n") + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [("-n0",), ("-n2",), ("-n0", "--ductaflow-engine=fresh")],
    ids=["serial", "workers", "fresh"],
)
def test_lines_and_branches(measured: TinyProject, options: tuple[str, ...]) -> None:
    """What no instance ran is missing, and nothing else: functions, branches that end a cell, magics."""
    out = measure(measured, "--cov=flows", "--cov-branch", "--cov-report=json", *options)
    report: dict[str, Any] = json.loads((measured.root / "coverage.json").read_text())
    [(name, found)] = report["files"].items()

    assert "3 passed" in out
    assert "flows/fit.py" == Path(name).as_posix()
    assert [line_of("return a"), line_of("never = 1")] == found["missing_lines"]
    first, second = line_of('if config["high"]'), line_of('if not config["high"]')
    assert [[first, line_of("print(level)")], [second, line_of("never = 1")]] == found["missing_branches"]
    assert {".coverage", "coverage.json"} == {path.name for path in measured.root.glob("*cov*")}


@pytest.mark.slow
def test_contexts(measured: TinyProject) -> None:
    """With `--cov-context=test` each line knows the instances that ran it."""
    measure(measured, "--cov=flows", "--cov-context=test", "--cov-report=json")
    report = json.loads((measured.root / "coverage.json").read_text())
    [found] = report["files"].values()

    one, two = (f"config/flows/fit/{name}.json::fit[{name}]|run" for name in ("one", "two"))
    assert [one] == found["contexts"][str(line_of("last = 1"))]
    assert [one, two] == sorted(found["contexts"][str(line_of("done = True"))])


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--cov=flows", "--no-cov")], ids=["without", "switched off"])
def test_nothing_is_measured(project: TinyProject, options: tuple[str, ...]) -> None:
    """Without `--cov` nothing measures a run."""
    # that of these tests themselves may have it imported by every interpreter
    code = "found = sys.modules.get('coverage')\nassert found is None or found.Coverage.current() is None\n"
    project.flow("fit", f"# %%\nimport sys\n{code}")
    project.config("flows/fit/one.json")

    # nor does the coverage of these tests themselves, nor their warm server, which is measured
    measure(project, *options, without=("PYTEST_", "COVERAGE_", "DUCTAFLOW_"))
    assert [] == list(project.root.glob(".coverage*"))


@pytest.mark.slow
def test_project_modules_and_builds(project: TinyProject) -> None:
    """What a flow imports of the project is measured too, and flows that a build runs are."""
    (project.root / "lib.py").write_text(
        "def double(a):\n    return 2 * a\n\n\ndef unused():\n    return 1\n"
    )
    project.flow("fit", "# %%\nimport lib\nlib.double(1)\n")
    project.flow(
        "all",
        """
        # %%
        from ductaflow import run_notebook
        run_notebook("flows/fit.py", config={}, execution_dir="runs/fit/one")
        """,
        kind="builds",
    )
    project.config("builds/all/one.json")

    measure(project, "--cov=lib", "--cov=flows", "--cov-report=json")
    files = json.loads((project.root / "coverage.json").read_text())["files"]

    assert {"lib.py": [6], "flows/fit.py": []} == {
        Path(name).as_posix(): file["missing_lines"] for name, file in files.items()
    }


@pytest.mark.slow
def test_the_log_is_free_of_it(measured: TinyProject) -> None:
    """Coverage says nothing in the log of a run, which would count as a warning of the flow; nor where it
    measures the warm server and all that comes of it, too."""
    (measured.root / "setup.cfg").write_text("[coverage:run]\npatch = subprocess\n")
    measure(measured, "--cov=no_such_package", "--cov-report=")

    log = (measured.folder("fit", "one") / "fit_execution_output.txt").read_text()
    assert "overage" not in log


def test_ways_between_statements() -> None:
    """The end of a statement leads to the next one that ran; not that of a function, nor to a magic."""
    source = "if a:\n    b = 1\n# %time c = 1\n@d\ndef e():\n    return 1\n'text'\nf = 1\n"
    statements = ast.parse(source).body
    arcs = [(-1, 1), (1, -1), (-1, 3), (3, -1), (-1, 4), (4, 5), (5, -1), (-5, 6), (6, -5), (-1, 8), (8, -1)]

    assert [(1, 4), (5, 8)] == list(ways_between(statements, arcs))
