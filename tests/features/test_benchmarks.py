"""The benchmarks work: their cheapest parts are run for real, the rest by who wants to know the numbers."""

from __future__ import annotations

import argparse
import os
import py_compile
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

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
    done = benchmark("overhead.py", tmp_path, "--quick", "--only", "runs", "--only", "floor")
    assert 0 == done.returncode, done.stderr
    assert 3 == len(
        re.findall(r"^\| floor: fork and exec, no notebook \| [\d,.]+", done.stdout, re.MULTILINE)
    )
    assert "too little to judge" in done.stdout
    assert [] == list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_every_probe_finds_what_it_measures(tmp_path: Path) -> None:
    """The probes wrap functions by name: each stage of a run is there, and a session has a peak."""
    few = ("--quick", "--rounds", "1", "--thousands", "3", "--only", "memory", "--only", "stages")
    done = benchmark("overhead.py", tmp_path, *few)
    assert 0 == done.returncode, done.stderr
    assert "failed" not in done.stdout
    stages = re.findall(
        r'^    \("ductaflow.+ "(.+)"\),$', (BENCHMARKS / "probes.py").read_text(), re.MULTILINE
    )
    assert 16 == len(stages)
    rows = ["peak memory of pytest, 3 instances, with results, MB", "the warm server: resident, MB", *stages]
    assert [] == [row for row in rows if f"| {row} | " not in done.stdout]


def test_a_missing_peer_is_said_to_be_missing(tmp_path: Path) -> None:
    """The tables say what to install for a peer that is not installed."""
    only = ("--quick", "--only", "runs", "--only", "nbmake")
    done = benchmark("overhead.py", tmp_path, *only, first="sys.modules['nbmake'] = None")
    assert 0 == done.returncode, done.stderr
    assert re.search(r"^- nbmake: missing: pip install nbmake", done.stdout, re.MULTILINE)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """A typing error does not measure something else."""
    done = benchmark("overhead.py", tmp_path, "--only", "flor")
    assert 2 == done.returncode
    assert "flor" in done.stderr


def test_where_byte_code_is_kept_nothing_is_measured_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Figures of an environment that compiles its packages would be those of the usual state."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    done = benchmark("overhead.py", tmp_path, "--no-bytecode")
    assert 2 == done.returncode
    assert "PYTHONDONTWRITEBYTECODE is not set" in done.stderr


def test_an_environment_has_byte_code_if_one_package_is_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variable alone does not make it one that keeps none."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    from harness import environment, why_bytecode_is_there

    (tmp_path / "some_package.py").touch()
    assert "" == why_bytecode_is_there(["some-package", "not-installed"])
    py_compile.compile(str(tmp_path / "some_package.py"))
    assert "some-package is compiled" == why_bytecode_is_there(["some-package"])
    assert "1" == environment(tmp_path / "bare", keeps_bytecode=False)["PYTHONDONTWRITEBYTECODE"]
    assert "PYTHONDONTWRITEBYTECODE" not in environment(tmp_path / "usual")


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(1.5, "aim met"), (3.5, "reached"), (4.5, "**missed**"), (None, "not measured")]
)
def test_the_verdict_is_of_the_ratio_of_medians(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float | None, verdict: str
) -> None:
    """One outlier changes nothing; what was not measured has no verdict."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from harness import Bench

    bench = Bench(tmp_path, None)
    for sample in (1.0, 1.0, 50.0):
        bench.add("collect", "plain", "s", sample)
        bench.add("collect", "ours", "s", None if seconds is None else sample * seconds)
    bench.target("ours / plain", bench.ratio("collect", "s", "ours", "plain"), 4, 2)
    assert verdict == bench.targets[0][-1]


def test_graphs_are_run_and_nothing_is_left(tmp_path: Path) -> None:
    """Each graph gives a ratio and the seconds of the command; the temporary folder is gone."""
    done = benchmark("graph.py", tmp_path, "--quick", "--only", "makespan", "--only", "ours")
    assert 0 == done.returncode, done.stderr
    for name in ("chains", "fan-out", "fan-in", "diamonds", "layers"):
        assert re.search(rf"^\| {name}: .+, \d\.\d s \| \d+\.\d+ \| \d+\.\d+ \|", done.stdout, re.MULTILINE)
    assert "too little to judge" in done.stdout
    assert [] == list(tmp_path.iterdir())


def test_a_missing_peer_of_graphs_is_said_to_be_missing(tmp_path: Path) -> None:
    """The tables say what to install."""
    done = benchmark(
        *("graph.py", tmp_path, "--quick", "--only", "second", "--only", "pytask"),
        first="sys.modules['pytask'] = None",
    )
    assert 0 == done.returncode, done.stderr
    assert re.search(r"^- pytask: missing: pip install pytask pytask-parallel", done.stdout, re.MULTILINE)


def test_bounds_are_of_path_or_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest path where it is longer than a worker's share of the work."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from graph import Graph, graphs

    chains, fan_out, fan_in, diamonds, layers = graphs(20, 200, 1.0)
    assert 10.0 == chains.bound(2)
    assert 5.0 == chains.bound(40)
    assert 2.0 == fan_out.bound(40)
    assert 10.0 == fan_in.bound(2)
    assert 3.0 == diamonds.bound(40)
    assert 2.0 == Graph("short", "", [[], [0], [0]], [1.0, 1.0, 0.5]).bound(2)
    assert all(up < task for task, ups in enumerate(layers.upstreams) for up in ups)
    assert 200 == len(layers.upstreams) == len(layers.seconds)


def test_a_makespan_is_that_of_tasks_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the first begin to the last end; who ran a task too early, or not at all, has none."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import graph

    made = [tmp_path / name for name in "ab"]
    made[0].write_text("10.0 11.0")
    made[1].write_text("11.5 12.5")
    chain = graph.Graph("chain", "", [[], [0]], [1.0, 1.0])
    assert 2.5 == graph.makespan_of(chain, made)

    made[1].write_text("10.9 12.5")
    with pytest.raises(RuntimeError, match="task 1 began before its upstream ended"):
        graph.makespan_of(chain, made)
    with pytest.raises(RuntimeError, match="1 of 2 tasks ran"):
        graph.makespan_of(chain, made[:1])


def test_the_worst_graph_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One slow graph is not hidden by many fast ones, and peers do not count."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from graph import COST, EACH, MAKESPAN, conclude
    from harness import Bench

    bench = Bench(tmp_path, argparse.Namespace(files=1000, most=10_000))
    for name, who, ratio in (("chains", "ours", 1.05), ("layers", "ours", 1.2), ("layers", "pytask", 3.0)):
        bench.add(MAKESPAN, name, f"{who}: / bound", ratio)
    for count, seconds in (("1", 1.0), ("1,000", 2.998), ("10,000", 21.398)):
        bench.add(COST, f"{count} unchanged", "whole command s", seconds)
    conclude(bench)

    assert ["1.20", "reached"] == [bench.targets[0][1], bench.targets[0][-1]]
    assert ["not measured"] * 4 == [row[-1] for row in bench.targets[1:5]]
    assert 2.0 == pytest.approx(bench.median(COST, "1,000 unchanged", EACH))
    assert ["1.02", "reached"] == [bench.targets[5][1], bench.targets[5][-1]]


USED = """
import sys, time
from pathlib import Path
from ductaflow.common.host import adopt_orphans
from harness import used_by, used_until_now

adopt_orphans()
works = "import time\\nwhile time.process_time() < 0.3: bytearray(10**7)"
leaves = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {works!r}], process_group=0)"
begin = used_until_now(int(sys.argv[1]))
used, _ = used_by([sys.executable, "-c", leaves], Path.cwd(), {})
print(used.cpu, used.faults, used.seconds, begin.cpu, begin.faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux")
def test_whatever_a_command_starts_is_counted(tmp_path: Path) -> None:
    """Processes that it leaves behind too; the clock stops when the command itself ends."""
    done = subprocess.run(
        [sys.executable, "-c", USED, str(os.getpid())],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    cpu, faults, seconds, cpu_of_tests, faults_of_tests = map(float, done.stdout.split())
    assert cpu >= 0.3
    assert faults > 2_000
    assert seconds > 0
    assert cpu_of_tests > 0.3
    assert faults_of_tests > 2_000


def test_what_became_dearer_is_said(tmp_path: Path) -> None:
    """Each of five commands has its stored ratio, today's, and a verdict; a wrong name is refused."""
    done = benchmark("guard.py", tmp_path, "--quick", "--rounds", "1", "--only", "start with")
    assert 0 == done.returncode, done.stderr
    row = r"^\| start with the plugin / pytest without it \| [\d.]+ \| [\d.]+ \| .*(as before|dearer|cheaper)"
    assert re.search(row, done.stdout, re.MULTILINE)
    assert "Stored on 20" in done.stdout
    assert [] == list(tmp_path.iterdir())

    done = benchmark("guard.py", tmp_path, "--only", "nothing")
    assert 2 == done.returncode
    assert "no command contains 'nothing'" in done.stderr


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(1.05, "as before"), (0.95, "as before"), (1.25, "**25% dearer**"), (0.5, "50% cheaper")],
)
def test_noise_is_no_news(monkeypatch: pytest.MonkeyPatch, ratio: float, said: str) -> None:
    """A tenth more or less is what the same command differs by."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from guard import verdicts

    assert [["a", "2", f"{2 * ratio:.3g}", said]] == verdicts({"a": 2 * ratio}, {"a": 2.0})
    assert "nothing is stored" in verdicts({"b": ratio}, {"a": 2.0})[0][-1]


def test_two_environments_are_compared(tmp_path: Path) -> None:
    """A row has the processor time of each environment and their ratio, and another one the page faults; the
    temporary folder is gone."""
    same = f"{Path(sys.executable).parent}/./python3"  # The same environment by another name.
    done = benchmark("cost.py", tmp_path, sys.executable, same, "--quick", "--rounds", "1", "--only", "run")
    assert 0 == done.returncode, done.stderr
    for head in ("`ductaflow run --changed`, 3 unchanged, s", "`ductaflow run --changed`, 3 unchanged"):
        row = rf"^\| {head} \|" + r" [\d.,]+ \|" * 4
        assert re.search(row, done.stdout, re.MULTILINE)
    assert [] == list(tmp_path.iterdir())


def test_results_are_measured_and_a_missing_peer_is_said(tmp_path: Path) -> None:
    """Ours gives a table and a DataFrame of all runs; what is not installed says how to get it."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    done = benchmark("results.py", workspace, "--quick", "--peers", str(python))
    assert 0 == done.returncode, done.stderr
    assert re.search(r"^\| ours \| [\d.]+ \|", done.stdout, re.MULTILINE)
    assert re.search(r"^\| 8 runs \| [\d.]+ \| [\d.]+ \|", done.stdout, re.MULTILINE)
    for peer in ("mlflow", "dvc"):
        assert f"- {peer}: missing: pip install {peer}\n" in done.stdout
    assert "too little to judge" in done.stdout
    assert [] == list(workspace.iterdir())
