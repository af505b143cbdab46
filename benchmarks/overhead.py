"""What a run costs: ours and its peers, in one go on the same flows.

    python benchmarks/overhead.py                  the tables of docs/performance.md: about an hour
    python benchmarks/overhead.py --quick          all of it, too small to judge, in some minutes
    python benchmarks/overhead.py --only runs --only warm --only floor

A peer that is not installed is reported as missing (`pip install -e ".[bench]"`). Rivals take turns, run by
run and command by command, so that what disturbs the machine disturbs all of them. CPU is user and system
time of all processes. Everything happens in a temporary folder, which is removed. Nothing else should run
meanwhile.
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
    Used,
    end_of,
    instance_name,
    main,
    output,
    used_until_now,
    write_parametrised_tests,
    write_plain_tests,
    write_project,
)
from probes import UNIQUE

PACKAGES = ("papermill", "nbmake", "ploomber-engine", "ipykernel", "pytest", "pytest-xdist", "pandas")
RUN = "One run of the flow `{}`, after start-up"
COMMAND = "The whole command, flow `{}`: seconds"
COMMAND_CPU = "The whole command, flow `{}`: seconds of CPU"
COMMAND_FAULTS = "The whole command, flow `{}`: thousands of page faults"
OTHERS = "Parallel, memory, collection"
START = "what the plugin adds to the start of `pytest`, CPU of a pair, ms"
ITS_OWN = "of which not what pytest does for any plugin, CPU of a pair, ms"
BLAS = "numeric flows (BLAS), {}: their CPU, s"
STAGES = "Where the milliseconds of a warm light run go"
MB = 1e6


CPU = "CPU ms"

#: How much is measured: usually, and with `--quick`.
PLAN = {
    # runs of each contender and flow after start-up
    "rounds": (24, 2),
    # runs of a whole command, and the most of ours
    "many": (24, 2),
    "most": (240, 4),
    # of whole commands with rivals, of those of ours alone, and of pairs of starts of pytest
    "wholes": (3, 1),
    "repeats": (3, 1),
    "starts": (100, 2),
    # flows bound by CPU, and the tenths of a second that each takes
    "busy": (40, 4),
    "tenths": (10, 3),
    # numeric flows, and the rows of their matrices
    "numeric": (16, 2),
    "matrix": (2000, 200),
    # stored instances and results
    "thousands": (10_000, 100),
}


# --- contests ----------------------------------------------------------------------------------------------


def measure_runs(bench: Bench) -> None:
    """Each flow by each contender, in turns, in processes that have run it once before."""
    flows = [LIGHT.name] if bench.plan.no_bytecode else [*FLOWS]
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
        since: dict[str, Used] = {}

        def run(name: str) -> None:
            # ours has begun when its page maker has: it tests itself with the fifth page
            goes = 6 if CONTENDERS[name].engine and not number else 1
            try:
                for _ in range(goes):
                    seconds = pools[name].submit(run_once, name, flow_name, number).result()
            except Exception as exc:
                printed = (bench.workspace / f"{name}.txt").read_text()
                raise RuntimeError(end_of(f"{printed}\n{exc!r}")) from exc
            table, row = RUN.format(flow_name), CONTENDERS[name].about
            if number:
                bench.add(table, row, "ms", 1e3 * seconds)
            if number in (0, bench.plan.rounds) and sys.platform == "linux":
                now = used_until_now(pools[name].submit(os.getpid).result())
                if number:
                    each = now.each_beyond(since[name], number)
                    bench.add(table, row, CPU, 1e3 * each.cpu)
                    bench.add(table, row, "page faults", each.faults)
                since[name] = now

        for flow_name, number in itertools.product(flows, range(bench.plan.rounds + 1)):
            bench.turns(f"runs: {flow_name}, round {number} of {bench.plan.rounds}", run, bench.rivals)


def measure_commands(bench: Bench) -> None:
    """Whole commands, from start to end, in turns."""
    write_notebooks(bench.workspace)
    many, most = bench.plan.many, bench.plan.most
    cases = [("light", 1, 0), ("light", many, 0), ("light", many, 2), ("light", most, 0), ("light", most, 2)]
    cases += [(flow, *case) for flow in ("empty", "figure") for case in ((1, 0), (many, 2))]

    def run(name: str) -> None:
        used = whole_command(bench, name, FLOWS[flow], count, workers)
        row, case = CONTENDERS[name].about, case_name(count, workers)
        bench.add(COMMAND.format(flow), row, case, used.seconds)
        bench.add(COMMAND_CPU.format(flow), row, case, used.cpu)
        bench.add(COMMAND_FAULTS.format(flow), row, case, used.faults / 1e3)

    for (flow, count, workers), repeat in itertools.product(cases, range(bench.plan.wholes)):
        able = [
            name for name in bench.rivals if CONTENDERS[name].parallel or (not workers and name != "page")
        ]
        # the peer of the largest case takes minutes: once
        largest = {"warm", "no-html"} | ({"nbmake"} if workers and not repeat else set())
        able = [name for name in able if name in largest or count < most]
        bench.turns(f"commands: {flow}, {count} runs, -n {workers}", run, able)


def case_name(count: int, workers: int) -> str:
    return f"{count} {'runs' if count > 1 else 'run'}{f', -n {workers}' if workers else ''}"


def whole_command(bench: Bench, name: str, flow: Flow, count: int, workers: int) -> Used:
    """What a command takes that runs a flow `count` times, in a folder made for it."""
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
    used = bench.run(command, folder, **with_ploomber)
    check(flow.makes, folder, count)
    return used


# --- ours alone --------------------------------------------------------------------------------------------


def measure_parallel(bench: Bench) -> None:
    """Flows bound by CPU with one worker and with two."""
    work = 'import time\nwhile time.process_time() < config["seconds"]:\n    sum(range(1000))'
    busy = Flow("busy", [work], {"seconds": bench.plan.tenths / 10})
    project = write_project(bench.folder("busy"), busy, bench.plan.busy)
    for _, workers in itertools.product(range(bench.plan.repeats), (1, 2)):
        used = bench.run([*OURS, "-n", str(workers)], project)
        bench.add(OTHERS, f"flows bound by CPU, `-n {workers}`, s", "measured", used.seconds)


def measure_blas(bench: Bench) -> None:
    """Flows that multiply matrices, two at a time and one after the other; each notes its own CPU."""
    work = (
        "import time\n"
        "import numpy\n"
        "matrix = numpy.random.default_rng(1).random((config['rows'], config['rows']))\n"
        "before = time.process_time()\n"
        "for _ in range(4):\n"
        "    matrix = matrix @ matrix\n"
        "    matrix /= numpy.linalg.norm(matrix)\n"
        "open('cpu.txt', 'w').write(str(time.process_time() - before))"
    )
    flow = Flow("numeric", [work], {"rows": bench.plan.matrix}, "cpu.txt")
    project = write_project(bench.folder("numeric"), flow, bench.plan.numeric)
    for repeat, (how, workers) in itertools.product(
        range(bench.plan.repeats + 1), (("one after the other", []), ("`-n 2`", ["-n", "2"]))
    ):
        bench.run([*OURS, "--ductaflow-no-html", *workers], project)
        check(flow.makes, project / "runs" / flow.name, bench.plan.numeric)
        if repeat:
            cpu = sum(float(file.read_text()) for file in project.glob("runs/numeric/*/cpu.txt"))
            bench.add(OTHERS, BLAS.format(how), "measured", cpu)


def measure_memory(bench: Bench) -> None:
    """Memory of the warm server, of light runs and of a session."""
    for what, values in probe(bench, "memory").items():
        bench.add(OTHERS, f"{what}, MB", "measured", *(value / MB for value in values))
    count = bench.plan.thousands
    # no run is warm, so no server is needed
    ours = [*OURS, "--ductaflow-engine", "fresh", "--ductaflow-no-html"]
    for what, folder, command in (
        ("instances", write_project(bench.folder("results"), LIGHT, count), ours),
        ("plain tests", write_parametrised_tests(bench.folder("plain"), count), PYTEST),
    ):
        for how, more in (("collected", ["--collect-only"]), ("with results", [])):
            peak = bench.workspace / "peak"
            bench.run([*command, "-p", "probes", *more], folder, BENCHMARK_PEAK=str(peak))
            row = f"peak memory of pytest, {count:,} {what}, {how}, MB"
            bench.add(OTHERS, row, "measured", int(peak.read_text()) / MB)


def measure_start(bench: Bench) -> None:
    """What the plugin adds to the start of a pytest that does not use it.

    For the first `-p NAME` pytest reads the metadata of all packages that are installed, whatever the plugin
    does: so a plugin that does nothing has its turns too.
    """
    folder = write_plain_tests(bench.folder("start"), 1)
    (folder / "plugin_of_nothing.py").touch()
    ways = (
        ("with the plugin", ["-p", "pytest_ductaflow.plugin"]),
        ("without a plugin", []),
        ("with one that does nothing", ["-p", "plugin_of_nothing"]),
    )
    for repeat in range(bench.plan.starts + 1):
        # who comes first takes turns too
        first = repeat % len(ways)
        turn = {
            what: 1e3 * bench.run([*PYTEST, *plugin], folder).cpu
            for what, plugin in (*ways[first:], *ways[:first])
        }
        if repeat:
            ours, none, nothing = (turn[what] for what, _ in ways)
            for what, cpu in turn.items():
                bench.add(OTHERS, f"start of `pytest` {what}, CPU ms", "measured", cpu)
            bench.add(OTHERS, START, "measured", ours - none)
            bench.add(OTHERS, ITS_OWN, "measured", ours - nothing)


def measure_collect(bench: Bench) -> None:
    """Collecting stored instances, as files and as rows of a table, and plain tests."""
    count = bench.plan.thousands
    stored = write_project(bench.folder("stored"), EMPTY, count)
    table = write_project(bench.folder("table"), EMPTY, 0)
    rows = "".join(f"{instance_name(number)},{number}\n" for number in range(count))
    (table / "config" / "flows" / "empty.csv").write_text(f"instance,value\n{rows}")
    plain = write_parametrised_tests(bench.folder("plain"), count)
    for _ in range(bench.plan.repeats):
        for what, folder, command in (
            (f"{count:,} stored instances", stored, OURS),
            (f"a table of {count:,} rows", table, OURS),
            (f"{count:,} parametrised plain tests", plain, PYTEST),
        ):
            used = bench.run([*command, "--collect-only"], folder)
            bench.add(OTHERS, f"`--collect-only`, {what}, CPU s", "measured", used.cpu)


def measure_stages(bench: Bench) -> None:
    """Where the milliseconds of a warm run go."""
    for label, times in probe(bench, "stages").items():
        for column, values in zip(("begins at", "takes"), zip(*times, strict=True), strict=True):
            bench.add(STAGES, label, column, *values)


def probe(bench: Bench, what: str) -> Any:
    project = write_project(bench.folder(what), LIGHT, bench.plan.rounds + 1)
    command = [sys.executable, str(HERE / "probes.py"), what, str(bench.plan.rounds)]
    return json.loads(output(command, project, bench.environment))


def conclude(bench: Bench) -> None:
    """Ratios, and the numbers to reach."""
    many, most, thousands = bench.plan.many, bench.plan.most, bench.plan.thousands
    papermill, nbmake, warm, bare, floor = (
        CONTENDERS[name].about for name in ("papermill", "nbmake", "warm", "no-html", "floor")
    )
    for title, other in itertools.product(map(RUN.format, FLOWS), (warm, bare, floor)):
        for row in bench.tables.get(title, {}):
            short = other.removeprefix("ours, ").split(":")[0]
            bench.add(title, row, f"CPU / {short}", bench.ratio(title, CPU, row, other))
    light, whole = RUN.format("light"), COMMAND.format("light")
    for what, upper, lower, reach, aim in (
        ("with HTML: papermill with a fresh kernel / ours", papermill, warm, 30, 50),
        ("without HTML: papermill with a fresh kernel / ours", papermill, bare, 40, 60),
        ("without HTML: ours / floor", bare, floor, 3, 2),
    ):
        bench.target(f"CPU of a light run {what}", bench.ratio(light, CPU, upper, lower), reach, aim)
    bench.target(
        f"the whole command, {most} light runs, by the clock: nbmake `-n 2` / `pytest --ductaflow -n 2`",
        *(bench.ratio(whole, case_name(most, 2), nbmake, warm), 10, 20),
    )
    bench.target(
        f"the whole command, {many} light runs, by the clock: nbmake `-n 2` / `pytest --ductaflow -n 2`",
        *(bench.ratio(whole, case_name(many, 2), nbmake, warm), 6, 10),
    )
    bench.target(
        "the whole command, one light run, by the clock: `papermill` / `pytest --ductaflow`",
        *(bench.ratio(whole, case_name(1, 0), papermill, warm), 0.9, 1.2),
    )
    rows = [f"flows bound by CPU, `-n {workers}`, s" for workers in (1, 2)]
    what = "flows bound by CPU, by the clock: `-n 1` / `-n 2`"
    bench.target(what, bench.ratio(OTHERS, "measured", *rows), 1.8, 1.95)
    rows = [BLAS.format(how) for how in ("`-n 2`", "one after the other")]
    what = "CPU of numeric flows (BLAS): `-n 2` / one after the other"
    bench.target(what, bench.ratio(OTHERS, "measured", *rows), 1.02, 1.0)
    unique = bench.median(OTHERS, f"{UNIQUE}, MB", "measured")
    bench.target("unique memory of a light run, supervisor and child", unique, 40, 25, " MB")
    growth = [
        bench.difference(
            OTHERS,
            "measured",
            *(
                f"peak memory of pytest, {thousands:,} {what}, {how}, MB"
                for how in ("with results", "collected")
            ),
        )
        for what in ("instances", "plain tests")
    ]
    beyond = None if None in growth else 10_000 / thousands * (growth[0] - growth[1])
    bench.target("memory of a session's 10,000 results, beyond plain pytest's", beyond, 25, 10, " MB")
    added = bench.median(OTHERS, START, "measured")
    bench.target(f"{START.removesuffix(', ms')}", added, 5, 2, " ms")
    kinds = [f"{thousands:,} stored instances", f"{thousands:,} parametrised plain tests"]
    rows = [f"`--collect-only`, {kind}, CPU s" for kind in kinds]
    bench.target(
        f"CPU of `--collect-only`: {' / '.join(kinds)}", bench.ratio(OTHERS, "measured", *rows), 2, 1.5
    )


PIECES = {
    "runs": measure_runs,
    "commands": measure_commands,
    "parallel": measure_parallel,
    "blas": measure_blas,
    "memory": measure_memory,
    "start": measure_start,
    "collect": measure_collect,
    "stages": measure_stages,
}

if __name__ == "__main__":
    rivals = {name: contender.package for name, contender in CONTENDERS.items()}
    main(__doc__, PLAN, PIECES, rivals, conclude, PACKAGES, no_bytecode="runs")
