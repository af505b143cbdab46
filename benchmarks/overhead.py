"""What a run costs: ours and its peers, in one go on the same flows.

    python benchmarks/overhead.py                  the tables of docs/performance.md: about 40 minutes
    python benchmarks/overhead.py --quick          all of it, too small to judge, in some minutes
    python benchmarks/overhead.py --only runs --only warm --only floor

A peer that is not installed is reported as missing (`pip install -e ".[bench]"`). Rivals take turns, run by
run and command by command, so that what disturbs the machine disturbs all of them. Everything happens in a
temporary folder, which is removed. Nothing else should run meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, FLOWS, begin, check, run_once, write_notebooks
from harness import (
    EMPTY,
    HERE,
    LIGHT,
    OURS,
    PYTEST,
    Bench,
    Flow,
    end_of,
    instance_name,
    main,
    output,
    write_project,
)
from probes import UNIQUE

PACKAGES = ("papermill", "nbmake", "ploomber-engine", "ipykernel", "pytest", "pytest-xdist", "pandas")
RUN = "One run of the flow `{}`, after start-up"
COMMAND = "The whole command, flow `{}`: seconds"
OTHERS = "Parallel, memory, collection"
STAGES = "Where the milliseconds of a warm light run go"
MB = 1e6


#: How much is measured: usually, and with `--quick`.
PLAN = {
    # runs of each contender and flow after start-up
    "rounds": (24, 2),
    # runs of a whole command, and the most of ours
    "many": (24, 2),
    "most": (240, 4),
    # of whole commands, and of the start of pytest
    "repeats": (3, 1),
    "starts": (30, 2),
    # flows bound by CPU, and the tenths of a second that each takes
    "busy": (40, 4),
    "tenths": (10, 3),
    # stored instances and results
    "thousands": (10_000, 100),
}


# --- contests ----------------------------------------------------------------------------------------------


def measure_runs(bench: Bench) -> None:
    """Each flow by each contender, in turns, in processes that have run it once before."""
    for flow in FLOWS.values():
        write_project(bench.workspace / "project", flow, bench.plan.rounds + 1)
    write_notebooks(bench.workspace)
    # the processes get the variables of this one
    os.environ.clear()
    os.environ.update(bench.environment)
    with contextlib.ExitStack() as stack:
        pools = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), begin, (name, bench.workspace))
            )
            for name in bench.rivals
        }

        def run(name: str) -> None:
            try:
                seconds = pools[name].submit(run_once, name, flow_name, number).result()
            except Exception as exc:
                printed = (bench.workspace / f"{name}.txt").read_text()
                raise RuntimeError(end_of(f"{printed}\n{exc!r}")) from exc
            if number:
                bench.add(RUN.format(flow_name), CONTENDERS[name].about, "ms", 1e3 * seconds)

        for flow_name, number in itertools.product(FLOWS, range(bench.plan.rounds + 1)):
            bench.turns(f"runs: {flow_name}, round {number} of {bench.plan.rounds}", run, bench.rivals)


def measure_commands(bench: Bench) -> None:
    """Whole commands, from start to end, in turns."""
    write_notebooks(bench.workspace)
    many, most = bench.plan.many, bench.plan.most
    cases = [("light", 1, 0), ("light", many, 0), ("light", many, 2), ("light", most, 0), ("light", most, 2)]
    cases += [(flow, *case) for flow in ("empty", "figure") for case in ((1, 0), (many, 2))]

    def run(name: str) -> None:
        seconds = whole_command(bench, name, FLOWS[flow], count, workers)
        bench.add(COMMAND.format(flow), CONTENDERS[name].about, case_name(count, workers), seconds)

    for (flow, count, workers), _ in itertools.product(cases, range(bench.plan.repeats)):
        able = [
            name for name in bench.rivals if CONTENDERS[name].parallel or (not workers and name != "page")
        ]
        able = [name for name in able if name == "warm" or count < most]
        bench.turns(f"commands: {flow}, {count} runs, -n {workers}", run, able)


def case_name(count: int, workers: int) -> str:
    return f"{count} {'runs' if count > 1 else 'run'}{f', -n {workers}' if workers else ''}"


def whole_command(bench: Bench, name: str, flow: Flow, count: int, workers: int) -> float:
    """Seconds of a command that runs a flow `count` times, in a folder made for it."""
    contender, folder = CONTENDERS[name], bench.folder(name)
    notebook = bench.workspace / "notebooks" / f"{flow.name}.ipynb"
    if contender.engine:
        write_project(folder, flow, count)
    else:
        for number in range(count):
            place = folder / instance_name(number)
            place.mkdir()
            for file in (notebook, notebook.with_suffix(".py")):
                shutil.copy(file, place / f"{file.stem}_{number}{file.suffix}")
    if contender.command and (count == 1 or contender.parallel):
        command = [*contender.command(folder), *(["-n", str(workers)] if workers else [])]
    else:
        batch = (HERE / "contenders.py", name, notebook, folder, count)
        command = [sys.executable, *map(str, batch)]
    with_ploomber = {"PYTHONPATH": str(HERE)} if name == "ploomber" else {}
    seconds = bench.run(command, folder, **with_ploomber)
    check(flow.makes, folder, count)
    return seconds


# --- ours alone --------------------------------------------------------------------------------------------


def measure_parallel(bench: Bench) -> None:
    """Flows bound by CPU with one worker and with two."""
    work = 'import time\nwhile time.process_time() < config["seconds"]:\n    sum(range(1000))'
    busy = Flow("busy", [work], {"seconds": bench.plan.tenths / 10})
    project = write_project(bench.folder("busy"), busy, bench.plan.busy)
    for _, workers in itertools.product(range(bench.plan.repeats), (1, 2)):
        seconds = bench.run([*OURS, "-n", str(workers)], project)
        bench.add(OTHERS, f"flows bound by CPU, `-n {workers}`, s", "measured", seconds)


def measure_memory(bench: Bench) -> None:
    """Memory of the warm server, of light runs and of a session."""
    for what, values in probe(bench, "memory").items():
        bench.add(OTHERS, f"{what}, MB", "measured", *(value / MB for value in values))
    count = bench.plan.thousands
    # no run is warm, so no server is needed
    ours = [*OURS, "--ductaflow-engine", "fresh", "--ductaflow-no-html"]
    for what, folder, command in (
        ("instances", write_project(bench.folder("results"), LIGHT, count), ours),
        ("plain tests", plain_tests(bench.folder("plain"), count), PYTEST),
    ):
        for how, more in (("collected", ["--collect-only"]), ("with results", [])):
            peak = bench.workspace / "peak"
            bench.run([*command, "-p", "probes", *more], folder, BENCHMARK_PEAK=str(peak))
            row = f"peak memory of pytest, {count:,} {what}, {how}, MB"
            bench.add(OTHERS, row, "measured", int(peak.read_text()) / MB)


def measure_start(bench: Bench) -> None:
    """What the plugin adds to the start of a pytest that does not use it."""
    folder = plain_tests(bench.folder("start"), 1)
    for repeat in range(bench.plan.starts + 1):
        for what, plugin in (("with", ["-p", "pytest_ductaflow.plugin"]), ("without", [])):
            seconds = bench.run([*PYTEST, *plugin], folder)
            if repeat:
                bench.add(OTHERS, f"start of `pytest` {what} the plugin, ms", "measured", 1e3 * seconds)


def measure_collect(bench: Bench) -> None:
    """Collecting stored instances, as files and as rows of a table, and plain tests."""
    count = bench.plan.thousands
    stored = write_project(bench.folder("stored"), EMPTY, count)
    table = write_project(bench.folder("table"), EMPTY, 0)
    rows = "".join(f"{instance_name(number)},{number}\n" for number in range(count))
    (table / "config" / "flows" / "empty.csv").write_text(f"instance,value\n{rows}")
    plain = plain_tests(bench.folder("plain"), count)
    for _ in range(bench.plan.repeats):
        for what, folder, command in (
            (f"{count:,} stored instances", stored, OURS),
            (f"a table of {count:,} rows", table, OURS),
            (f"{count:,} parametrised plain tests", plain, PYTEST),
        ):
            seconds = bench.run([*command, "--collect-only"], folder)
            bench.add(OTHERS, f"`--collect-only`, {what}, s", "measured", seconds)


def measure_stages(bench: Bench) -> None:
    """Where the milliseconds of a warm run go."""
    for label, times in probe(bench, "stages").items():
        for column, values in zip(("begins at", "takes"), zip(*times, strict=True), strict=True):
            bench.add(STAGES, label, column, *values)


def plain_tests(folder: Path, count: int) -> Path:
    (folder / "pytest.ini").write_text("[pytest]\n")
    parametrize = f'@pytest.mark.parametrize("value", range({count}))'
    (folder / "test_plain.py").write_text(f"import pytest\n\n{parametrize}\ndef test_plain(value): pass\n")
    return folder


def probe(bench: Bench, what: str) -> Any:
    project = write_project(bench.folder(what), LIGHT, bench.plan.rounds + 1)
    command = [sys.executable, str(HERE / "probes.py"), what, str(bench.plan.rounds)]
    return json.loads(output(command, project, bench.environment))


def conclude(bench: Bench) -> None:
    """Ratios, and the numbers to reach."""
    many, thousands = bench.plan.many, bench.plan.thousands
    papermill, nbmake, warm, floor = (CONTENDERS[n].about for n in ("papermill", "nbmake", "warm", "floor"))
    for title, other in itertools.product(map(RUN.format, FLOWS), (warm, floor)):
        for row in bench.tables.get(title, {}):
            bench.add(title, row, f"/ {other.split(':')[0]}", bench.ratio(title, "ms", row, other))
    light, whole = RUN.format("light"), COMMAND.format("light")
    bench.target(
        "a light run after start-up, serial: papermill with a fresh kernel / ours warm",
        *(bench.ratio(light, "ms", papermill, warm), 30, 50),
    )
    bench.target(
        f"the whole command, {many} instances: nbmake `-n 2` / `pytest --ductaflow -n 2`",
        *(bench.ratio(whole, case_name(many, 2), nbmake, warm), 6, 10),
    )
    bench.target(
        "the whole command, one instance: `papermill` / `pytest --ductaflow`",
        *(bench.ratio(whole, case_name(1, 0), papermill, warm), 0.9, 1.2),
    )
    bench.target("a light run: ours warm / floor", bench.ratio(light, "ms", warm, floor), 4, 3)
    rows = [f"flows bound by CPU, `-n {workers}`, s" for workers in (1, 2)]
    what = "wall time of flows bound by CPU: `-n 1` / `-n 2`"
    bench.target(what, bench.ratio(OTHERS, "measured", *rows), 1.8, 1.95)
    unique = bench.median(OTHERS, f"{UNIQUE}, MB", "measured")
    bench.target("unique memory of a light run, supervisor and child", unique, 40, 25, " MB")
    rows = [
        f"peak memory of pytest, {thousands:,} instances, {how}, MB" for how in ("with results", "collected")
    ]
    growth = bench.difference(OTHERS, "measured", *rows)
    growth = growth and growth * 10_000 / thousands
    bench.target("the session's memory, 10,000 results more", growth, 60, 30, " MB")
    rows = [f"start of `pytest` {what} the plugin, ms" for what in ("with", "without")]
    what = "`pytest` without `--ductaflow`: what the plugin adds to its start"
    bench.target(what, bench.difference(OTHERS, "measured", *rows), 20, 5, " ms")
    kinds = [f"{thousands:,} stored instances", f"{thousands:,} parametrised plain tests"]
    rows = [f"`--collect-only`, {kind}, s" for kind in kinds]
    bench.target(f"`--collect-only`: {' / '.join(kinds)}", bench.ratio(OTHERS, "measured", *rows), 4, 2)


PIECES = {
    "runs": measure_runs,
    "commands": measure_commands,
    "parallel": measure_parallel,
    "memory": measure_memory,
    "start": measure_start,
    "collect": measure_collect,
    "stages": measure_stages,
}

if __name__ == "__main__":
    rivals = {name: contender.package for name, contender in CONTENDERS.items()}
    main(__doc__, PLAN, PIECES, rivals, conclude, PACKAGES)
