"""What results cost: ours and its peers, in one go on the same numbers.

    python benchmarks/results.py --peers PEERS/bin/python      the tables of docs/performance.md: some minutes
    python benchmarks/results.py --quick                       all of it, too small to judge, in a minute

PEERS is an environment with `pip install mlflow dvc`, whose dependencies need not fit ours; by default they
are looked for in this one. A peer that is not there is reported as missing. Figures are the processor time,
user and system, of a whole command and all processes that it starts. Rivals take turns. Everything happens in
a temporary folder, which is removed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Bench, Flow, copy_run, instance_name, main, used_by, write_project

TABLE = "Table of all runs: the whole command, processor time"
FRAME = "results() of all runs: the whole process"
PACKAGES = ("pandas", "msgspec")
JUDGED = "Unchanged runs, 10 metrics each: `ductaflow run --changed`, processor time"
COMPARED = "Two CSV files, read and compared: processor time without imports"
ALIKE, OTHER = "alike but for the last digits", "one cell differs"
CHANGED = [sys.executable, "-m", "ductaflow", "run", "--changed"]
COLUMNS = 10
PLAN = {
    # of the table, and of the DataFrame
    "runs": (1000, 6),
    "many": (5000, 8),
    # unchanged ones, of which so many have really run
    "judged": (1000, 6),
    "real": (50, 2),
    # of each of the two files
    "cells": (1_000_000, 10_000),
    "repeats": (5, 1),
}
FLOW = Flow(
    "table",
    [
        "import json\nfrom pathlib import Path\n"
        'Path("metrics.json").write_text(json.dumps({f"m{k}": config["p0"] * k / 7 for k in range(10)}))'
    ],
)
VARIABLES = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
}


def parameters(number: int) -> dict[str, Any]:
    return {f"p{k}": number + k / 4 if k % 2 else number * k for k in range(COLUMNS)}


def metrics(number: int) -> dict[str, float]:
    return {f"m{k}": number * k / 7 for k in range(COLUMNS)}


# --- the same numbers for each -----------------------------------------------------------------------------


def write_ours(bench: Bench, folder: Path, count: int) -> None:
    """Two runs, and copies of them with other numbers: to run thousands would take an hour."""
    write_project(folder, FLOW, {instance_name(number): parameters(number) for number in range(2)})
    (folder / "ductaflow.toml").write_text("html = false\nreport = false\n")
    bench.run([sys.executable, "-m", "ductaflow", "run", FLOW.name], folder)
    write_project(folder, FLOW, {instance_name(number): parameters(number) for number in range(count)})
    runs = folder / "runs" / FLOW.name
    for number in range(count):
        run = runs / instance_name(number)
        if number > 1:
            copy_run(runs / instance_name(number % 2), run)
        for name, changed in (
            (f"{FLOW.name}_config.json", parameters(number)),
            ("metrics.json", metrics(number)),
            ("result.json", {"metrics": metrics(number)}),
        ):
            known = json.loads((run / name).read_text())
            (run / name).write_text(json.dumps({**known, **changed}, indent=1))


def write_mlflow(bench: Bench, folder: Path, count: int) -> None:
    """By its own functions: a file for each parameter and each metric."""
    numbers = [[instance_name(number), parameters(number), metrics(number)] for number in range(count)]
    (folder / "numbers.json").write_text(json.dumps(numbers))
    code = (
        "import json, mlflow\n"
        "mlflow.set_tracking_uri('file:./mlruns')\nmlflow.set_experiment('table')\n"
        "for name, parameters, metrics in json.load(open('numbers.json')):\n"
        "    with mlflow.start_run(run_name=name):\n"
        "        mlflow.log_params(parameters)\n        mlflow.log_metrics(metrics)\n"
    )
    bench.run([bench.plan.peers, "-c", code], folder, **VARIABLES)


def write_dvc(bench: Bench, folder: Path, count: int) -> None:
    """A metrics file for each run, named in `dvc.yaml`; it has no parameters of runs that are no commits."""
    bench.run([bench.plan.peers, "-m", "dvc", "init", "-q", "--no-scm"], folder, **VARIABLES)
    names = [f"runs/{instance_name(number)}/metrics.json" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(json.dumps(metrics(number)))
    (folder / "dvc.yaml").write_text("\n".join(["metrics:", *(f"- {name}" for name in names)]))


SEARCH = (
    "import mlflow\nmlflow.set_tracking_uri('file:./mlruns')\n"
    "print(mlflow.search_runs(experiment_names=['table'], max_results=50_000).to_csv(index=False))"
)
#: By name: what writes the numbers, and the arguments of the command that shows them, one run a line.
RIVALS: dict[str, tuple[Callable[[Bench, Path, int], None], list[str]]] = {
    "ours": (write_ours, ["-m", "ductaflow", "results", "--format", "csv"]),
    "mlflow": (write_mlflow, ["-c", SEARCH]),
    "dvc": (write_dvc, ["-m", "dvc", "metrics", "show"]),
}


# --- what is measured --------------------------------------------------------------------------------------


def measure_table(bench: Bench) -> None:
    """A table with parameters and metrics of all runs, on standard output."""

    def write(name: str) -> None:
        RIVALS[name][0](bench, bench.folder(name), bench.plan.runs)

    def show(name: str) -> None:
        folder = bench.workspace / "commands" / name
        python = sys.executable if name == "ours" else bench.plan.peers
        used, shown = used_by([python, *RIVALS[name][1]], folder, {**bench.environment, **VARIABLES})
        lines = sum(bool(line.strip()) for line in shown.splitlines())
        if lines != bench.plan.runs + 1:
            raise RuntimeError(f"{lines} lines instead of a head and {bench.plan.runs} runs")
        if repeat:
            bench.add(TABLE, name, "s", used.cpu)

    bench.turns(f"table: writes {bench.plan.runs:,} runs", write, bench.rivals)
    # the first go is not counted
    for repeat in range(bench.plan.repeats + 1):
        bench.turns(f"table: {repeat} of {bench.plan.repeats}", show, bench.rivals)


def measure_frame(bench: Bench) -> None:
    """A DataFrame of ours, in a process that does nothing else."""
    folder = bench.folder("many")
    write_ours(bench, folder, bench.plan.many)
    code = f"from ductaflow import results\nprint(len(results({FLOW.name!r})))"
    for repeat in range(bench.plan.repeats + 1):
        used, shown = used_by([sys.executable, "-c", code], folder, bench.environment)
        if int(shown) != bench.plan.many:
            raise RuntimeError(f"{shown.strip()} of {bench.plan.many} rows")
        if repeat:
            bench.add(FRAME, f"{bench.plan.many:,} runs", "processor time, s", used.cpu)
            bench.add(FRAME, f"{bench.plan.many:,} runs", "wall time, s", used.seconds)


def measure_judging(bench: Bench) -> None:
    """The same unchanged runs with and without expected metrics."""
    folders = {"nothing is expected": bench.folder("plain"), "metrics are expected": bench.folder("expected")}
    for folder in folders.values():
        write_project(folder, FLOW, {instance_name(number): {"p0": 3} for number in range(bench.plan.real)})
        (folder / "ductaflow.toml").write_text("html = false\nreport = false\n")
        bench.run([*CHANGED, "-j", "2"], folder)
        write_project(folder, FLOW, {instance_name(number): {"p0": 3} for number in range(bench.plan.judged)})
        runs = folder / "runs" / FLOW.name
        for number in range(bench.plan.real, bench.plan.judged):
            copy_run(runs / instance_name(number % bench.plan.real), runs / instance_name(number))
    for run in runs.iterdir():
        expected = folder / "expected" / FLOW.name / run.name
        expected.mkdir(parents=True)
        (expected / "metrics.json").write_bytes((run / "metrics.json").read_bytes())

    def run_again(name: str) -> None:
        used, shown = used_by(CHANGED, folders[name], bench.environment)
        if f"{bench.plan.judged} unchanged" not in shown:
            raise RuntimeError(f"not all are unchanged: {shown.strip()[-200:]}")
        if repeat:
            bench.add(JUDGED, name, "s", used.cpu)

    # in the first go, which is not counted, all are judged
    for repeat in range(bench.plan.repeats + 1):
        bench.turns(f"judging: {repeat} of {bench.plan.repeats}", run_again, folders)


TABLES = """
import sys
import numpy as np, pandas as pd
rows = int(sys.argv[1]) // 10
table = pd.DataFrame(np.random.default_rng(1).normal(size=(rows, 9)).round(6)).add_prefix("c")
table.insert(0, "hour", pd.date_range("2030-01-01", periods=rows, freq="min").strftime("%Y-%m-%d %H:%M"))
for name, factor in (("old", 1), ("alike", 1 + 1e-9), ("other", 1.1)):
    changed = table.copy()
    changed.loc[rows // 2, "c4"] *= factor
    changed.to_csv(f"{name}.csv", index=False)
"""
COMPARING = {
    "ours": """
from pathlib import Path
import ductaflow.comparison.frames
from ductaflow.common.rules import Rule
from ductaflow.comparison.compare import compare_files
def is_alike(old, new): return compare_files(Path(old), Path(new), Rule()) is None
""",
    "pandas": """
import pandas as pd
def is_alike(old, new):
    try:
        pd.testing.assert_frame_equal(pd.read_csv(old), pd.read_csv(new), rtol=1e-6, atol=1e-12)
    except AssertionError:
        return False
    return True
""",
}
TIMED = """
import sys, time
is_alike("old.csv", "old.csv")
start = time.process_time()
print(is_alike("old.csv", sys.argv[1]), time.process_time() - start)
"""


def measure_comparing(bench: Bench) -> None:
    """Two tables of the same numbers, and with one that is another, by ours and by pandas.testing."""
    folder = bench.folder("tables")
    bench.run([sys.executable, "-c", TABLES, str(bench.plan.cells)], folder)

    def compare(name: str) -> None:
        for file, case in (("alike.csv", ALIKE), ("other.csv", OTHER)):
            command = [sys.executable, "-c", COMPARING[name] + TIMED, file]
            _, shown = used_by(command, folder, bench.environment)
            is_alike, seconds = shown.split()
            if (is_alike == "True") != (case is ALIKE):
                raise RuntimeError(f"{name} says that {file} is alike: {is_alike}")
            bench.add(COMPARED, f"{name}, {case}", "s", float(seconds))

    for repeat in range(bench.plan.repeats):
        bench.turns(f"comparing: {repeat + 1} of {bench.plan.repeats}", compare, COMPARING)


PIECES = {
    "table": measure_table,
    "frame": measure_frame,
    "judging": measure_judging,
    "comparing": measure_comparing,
}


def conclude(bench: Bench) -> None:
    """Ratios, and the numbers to reach."""
    peers = [name for name in RIVALS if name != "ours" and bench.median(TABLE, name, "s") is not None]
    for name in peers:
        bench.add(TABLE, name, "/ ours", bench.ratio(TABLE, "s", name, "ours"))
    faster = min((bench.ratio(TABLE, "s", name, "ours") or 0.0 for name in peers), default=None)
    what = f"table of {bench.plan.runs:,} runs, 10 parameters and 10 metrics: the faster peer / ours"
    bench.target(what, faster, 3, 10)
    ratio = bench.ratio(JUDGED, "s", "metrics are expected", "nothing is expected")
    bench.target(f"{bench.plan.judged:,} unchanged runs judged / not judged", ratio, 1.2, 1.05)
    for case in (ALIKE, OTHER):
        ratio = bench.ratio(COMPARED, "s", f"ours, {case}", f"pandas, {case}")
        what = f"CSV files of {bench.plan.cells:,} cells, {case}: ours / pandas.testing after reading"
        bench.target(what, ratio, 1.3, 1.1)
    seconds = bench.median(FRAME, f"{bench.plan.many:,} runs", "processor time, s")
    bench.target(f"`results()` of {bench.plan.many:,} runs, the whole process", seconds, 3, 2, " s")


if __name__ == "__main__":
    main(
        __doc__,
        PLAN,
        PIECES,
        {name: "" if name == "ours" else name for name in RIVALS},
        conclude,
        PACKAGES,
        peers=True,
    )
