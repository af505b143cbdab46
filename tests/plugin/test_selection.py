"""Selection along the graph: `--ductaflow-upstream`, `--ductaflow-downstream`, and what was not selected."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import READ, TinyProject, run_pytest

pytestmark = pytest.mark.usefixtures("no_process_left")


def collected(root: Path, *args: str) -> list[str]:
    return run_pytest(root, "--collect-only", "-q", *args).ran


@pytest.fixture
def diamond(project: TinyProject) -> TinyProject:
    """raw <- low, high (a table) <- sum; sum[b] reads low of its own only; `alone` reads nothing."""
    for flow in ("alone", "raw", "side", "sum"):
        project.flow(flow, READ)
    project.config("flows/alone/one.json")
    project.config("flows/raw/all.json")
    (project.root / "config/flows/side.csv").write_text(
        "instance,data\nhigh,runs/raw/all/x.csv\nlow,runs/raw/all/x.csv\n"
    )
    project.config("flows/sum/a.json", data="runs/side/low/x.csv", data2="runs/side/high/x.csv")
    project.config("flows/sum/b.json", data="runs/side/low/x.csv")
    return project


NODE = "config/flows/side.csv::side[low]"
SELECTIONS = [
    ((NODE,), ["side[low]"]),
    ((NODE, "--ductaflow-upstream"), ["raw[all]", "side[low]"]),
    ((NODE, "--ductaflow-downstream"), ["side[low]", "sum[a]", "sum[b]"]),
    # with both, sum[a] shall not lack side[high]
    (
        (NODE, "--ductaflow-upstream", "--ductaflow-downstream"),
        ["raw[all]", "side[high]", "side[low]", "sum[a]", "sum[b]"],
    ),
    (("-k", "sum and b", "--ductaflow-upstream"), ["raw[all]", "side[low]", "sum[b]"]),
    (("-k", "raw", "--ductaflow-downstream"), ["raw[all]", "side[high]", "side[low]", "sum[a]", "sum[b]"]),
    (("flows/sum.py", "-k", "b", "--ductaflow-upstream"), ["raw[all]", "side[low]", "sum[b]"]),
    (("-k", "alone", "--ductaflow-upstream", "--ductaflow-downstream"), ["alone[one]"]),
    (("-k", "nothing", "--ductaflow-upstream"), []),
]


@pytest.mark.slow
@pytest.mark.parametrize(("args", "titles"), SELECTIONS)
def test_the_selection_takes_in_its_neighbours(
    diamond: TinyProject, args: tuple[str, ...], titles: list[str]
) -> None:
    """After node ids, paths and `-k`; at any distance; upstreams come first, each once."""
    found = collected(diamond.root, *args)
    assert titles == sorted(found)
    place = {title: number for number, title in enumerate(found)}
    reads = {"side[low]": "raw[all]", "side[high]": "raw[all]", "sum[a]": "side[low]", "sum[b]": "side[low]"}
    assert [] == [t for t in found if reads.get(t) in place and place[reads[t]] > place[t]]


def test_tags_select_before_the_neighbours_come_in(diamond: TinyProject) -> None:
    """`-m` chooses by the tags of `_run`; an upstream needs none."""
    diamond.config("flows/sum/b.json", data="runs/side/low/x.csv", _run={"tags": ["quick"]})
    assert ["raw[all]", "side[low]", "sum[b]"] == sorted(
        collected(diamond.root, "-m", "quick", "--ductaflow-upstream")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("-k", "sum and b"), "1/6 tests collected (5 deselected)"),
        (("-k", "sum and b", "--ductaflow-upstream"), "3/6 tests collected (3 deselected)"),
        (("config/flows/sum/b.json", "--ductaflow-upstream"), "3 tests collected"),
        (("config/flows/sum", "-k", "b", "--ductaflow-upstream"), "3/4 tests collected (1 deselected)"),
        (("config/flows/raw", "--ductaflow-downstream"), "5 tests collected"),
    ],
)
def test_the_counts_are_those_of_what_runs(diamond: TinyProject, args: tuple[str, ...], line: str) -> None:
    """What comes in again is not counted as deselected, what comes in anew is counted as collected."""
    assert f"{line} in" in run_pytest(diamond.root, "--collect-only", "-q", *args).out


@pytest.mark.slow
def test_workers_collect_alike_and_keep_the_order(diamond: TinyProject) -> None:
    """Under xdist the upstreams run, first, and nothing else does."""
    session = run_pytest(diamond.root, "-n", "2", "-k", "sum", "--ductaflow-upstream")
    assert (0, True) == (session.code, "5 passed" in session.out), session.out
    ran = {
        path.parent.name: json.loads(path.read_bytes())["started"]
        for path in diamond.root.glob("runs/*/*/result.json")
    }
    assert {"all", "low", "high", "a", "b"} == set(ran)
    assert ran["all"] < min(ran["low"], ran["high"])
    assert ran["a"] > max(ran["low"], ran["high"])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_last_failed_takes_in_its_neighbours(diamond: TinyProject, workers: tuple[str, ...]) -> None:
    """`--lf` does not even collect what was green; what the red one reads from runs again with it."""
    diamond.flow("sum", "# %%\nassert config.get('data2') is None, 'two'\n")
    first = run_pytest(diamond.root)
    assert "1 failed, 5 passed" in first.out, first.out
    again = run_pytest(diamond.root, "--lf", "--ductaflow-upstream", *workers)
    assert "1 failed, 3 passed" in again.out, again.out


@pytest.mark.slow
def test_ordinary_tests_stay(diamond: TinyProject) -> None:
    """A selected test is neither dropped nor moved by what instances bring in."""
    (diamond.root / "test_it.py").write_text("def test_it(): pass\n")
    session = run_pytest(diamond.root, "-v", "test_it.py", NODE, "--ductaflow-upstream")
    assert "3 passed" in session.out
    assert session.out.index("test_it.py::test_it PASSED") < session.out.index("raw[all]")


@pytest.mark.slow
def test_one_that_was_not_selected_must_have_run(diamond: TinyProject) -> None:
    """Otherwise the failure names the command and the option; that command makes it right."""
    first = run_pytest(diamond.root, NODE)
    assert "side/low reads from raw/all, but it has no finished run." in first.out
    assert "Run it first, or add --ductaflow-upstream:" in first.out
    target = re.search(r'pytest --ductaflow "(.+?)"', first.out)
    assert target is not None
    assert 0 == run_pytest(diamond.root, target[1]).code
    assert 0 == run_pytest(diamond.root, NODE).code


@pytest.mark.slow
def test_without_the_flag_the_options_do_nothing(diamond: TinyProject) -> None:
    """Ordinary sessions know them and are left alone."""
    (diamond.root / "test_it.py").write_text("def test_it(): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--ductaflow-upstream", "--ductaflow-downstream"],
        cwd=diamond.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, True) == (done.returncode, "1 passed" in done.stdout)
