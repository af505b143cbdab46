"""The benchmarks work: their cheapest parts are run for real, the rest by who wants to know the numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str, folder: Path, *arguments: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """A benchmark in a process of its own, with a folder for temporary files; `first` is run before it."""
    program = str(BENCHMARKS / name)
    code = f"import runpy, sys\n{first}\nsys.argv[0] = {program!r}\nsys.path[0] = {str(BENCHMARKS)!r}\n"
    return subprocess.run(
        [sys.executable, "-c", f"{code}runpy.run_path({program!r}, run_name='__main__')", *arguments],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the floor is a fork")
def test_the_floor_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    """One contender in one piece gives Markdown with its numbers, and the temporary folder is gone."""
    done = benchmark("overhead.py", tmp_path, "--quick", "--markdown", "--only", "runs", "--only", "floor")
    assert 0 == done.returncode, done.stderr
    assert 3 == len(
        re.findall(r"^\| floor: fork and exec, no notebook \| [\d,]+ \|", done.stdout, re.MULTILINE)
    )
    assert "too little to judge" in done.stdout
    assert [] == list(tmp_path.iterdir())


def test_a_missing_peer_is_said_to_be_missing(tmp_path: Path) -> None:
    """A peer that is not installed has its row, which says what to install."""
    done = benchmark(
        "overhead.py",
        tmp_path,
        "--quick",
        "--only",
        "runs",
        "--only",
        "nbmake",
        first="sys.modules['nbmake'] = None",
    )
    assert 0 == done.returncode, done.stderr
    assert re.search(r"^pytest --nbmake +missing: pip install nbmake", done.stdout, re.MULTILINE)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """A typing error does not measure something else."""
    done = benchmark("overhead.py", tmp_path, "--only", "flor")
    assert 2 == done.returncode
    assert "flor" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(1.5, "aim met"), (3.5, "reached"), (4.5, "**missed**"), (None, "not measured")]
)
def test_the_verdict_is_of_the_ratio_of_medians(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, verdict: str
) -> None:
    """One outlier changes nothing; what was not measured has no verdict."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from figures import Figures, overhead_tables

    figures = Figures()
    for sample in (1.0, 1.0, 50.0):
        figures.add(("collect", "plain"), sample)
        if seconds:
            figures.add(("collect", "ours"), sample * seconds)
    rows = overhead_tables(figures, 24, 10_000)[0].rows
    assert verdict == next(row[-1] for row in rows if row[0].startswith("`--collect-only`"))


def test_graphs_are_run_and_nothing_is_left(tmp_path: Path) -> None:
    """Each graph gives a ratio and the seconds of the command; the temporary folder is gone."""
    done = benchmark("graph.py", tmp_path, "--quick", "--markdown", "--only", "makespan", "--only", "ours")
    assert 0 == done.returncode, done.stderr
    for name in ("chains", "fan-out", "fan-in", "diamonds", "layers"):
        assert re.search(rf"^\| {name}: .+ \| \d\.\d \| \d+\.\d\d \| \d+\.\d \|", done.stdout, re.MULTILINE)
    assert "too little to judge" in done.stdout
    assert [] == list(tmp_path.iterdir())


def test_a_missing_peer_of_graphs_is_said_to_be_missing(tmp_path: Path) -> None:
    """Its row says what to install."""
    done = benchmark(
        *("graph.py", tmp_path, "--quick", "--only", "second", "--only", "pytask"),
        first="sys.modules['pytask'] = None",
    )
    assert 0 == done.returncode, done.stderr
    assert re.search(
        r"^pytask, pytask-parallel +missing: pip install pytask pytask-parallel", done.stdout, re.MULTILINE
    )


def test_bounds_are_of_path_or_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest path where it is longer than a worker's share of the work."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import graphs

    assert 10.0 == graphs.chains(10, 2.0).bound(2)
    assert 5.0 == graphs.chains(10, 1.0).bound(40)
    assert 2.0 == graphs.fan_out(5, 1.0).bound(4)
    assert 2.5 == graphs.fan_in(5, 1.0).bound(2)
    assert 3.0 == graphs.diamonds(4, 1.0).bound(2)
    layers = graphs.layers(200, 1.0)
    assert all(up < task for task, ups in enumerate(layers.upstreams) for up in ups)
    assert 200 == layers.count == len(layers.seconds)


def test_a_makespan_is_that_of_tasks_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the first begin to the last end; who ran a task too early, or not at all, has none."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import graph
    import graphs

    made = [tmp_path / name for name in "ab"]
    made[0].write_text("10.0 11.0")
    made[1].write_text("11.5 12.5")
    chain = graphs.Graph("chain", "", [[], [0]], [1.0, 1.0])
    assert 2.5 == graph.makespan_of(chain, made)

    made[1].write_text("10.9 12.5")
    with pytest.raises(RuntimeError, match="task 1 began before its upstream ended"):
        graph.makespan_of(chain, made)
    with pytest.raises(RuntimeError, match="1 of 2 tasks ran"):
        graph.makespan_of(chain, made[:1])


def test_the_worst_graph_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow graph is not hidden by many fast ones, and peers do not count."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from figures import Figures
    from graph import Plan, cost_of, graph_tables

    figures = Figures()
    for name, who, ratio in (("chains", "ours", 1.05), ("layers", "ours", 1.2), ("layers", "pytask", 3.0)):
        figures.add(("makespan", name, 2, who), ratio)
    for count, seconds in ((1, 1.0), (1000, 2.998), (10_000, 20.998)):
        figures.add(("cost", count), seconds)
    rows = graph_tables(figures, Plan(), judged=True)[0].rows

    assert ["1.20", "reached"] == [rows[0][1], rows[0][-1]]
    assert ["not measured"] * 4 == [row[-1] for row in rows[1:5]]
    assert 2e-3 == pytest.approx(cost_of(figures, Plan(), 1000))
    assert ["1.00", "reached"] == [rows[5][1], rows[5][-1]]
