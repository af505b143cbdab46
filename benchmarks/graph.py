"""What a graph costs: ours and its peers, in one go on the same graphs and files.

    python benchmarks/graph.py                  the tables of docs/performance.md: about 20 minutes
    python benchmarks/graph.py --quick          all of it, too small to judge, in a minute
    python benchmarks/graph.py --only makespan --only ours

A peer that is not installed is reported as missing (`pip install -e ".[bench]"`). Rivals take turns, command
by command, so that what disturbs the machine disturbs all of them. Everything happens in a temporary folder,
which is removed.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import (
    CHANGED,
    COPY,
    OURS,
    PYTEST,
    Bench,
    Flow,
    Used,
    instance_name,
    main,
    write_plain_tests,
    write_project,
    write_unchanged,
)

#: How ours can be asked for what has changed.
AGAIN = ("`ductaflow run --changed`", "`pytest --ductaflow --ductaflow-changed`")
MAKESPAN = "Makespan / lower bound"
SECOND = "All files unchanged: the whole command"
PLAIN = "`pytest`, as many plain tests that pass, a file each"
EACH = "ms for each beyond the first"
COST = "Sessions in which nothing changed"
PACKAGES = ("pytest", "pytest-xdist", "pytask", "pytask-parallel", "snakemake", "papermill")


#: How much is measured: usually, and with `--quick`.
PLAN = {
    # tasks of the regular graphs, and of the random one, and the tenths of a second that each sleeps
    "small": (40, 5),
    "large": (200, 10),
    "tenths": (10, 2),
    # of the second run: files, and bytes of each
    "files": (1000, 5),
    "size": (10_000, 100),
    # the most unchanged instances
    "most": (10_000, 4),
    "repeats": (3, 1),
}
#: Workers of a graph.
WORKERS = (2, 4)

# --- graphs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks by number, upstreams first.

    Attributes:
        upstreams: what each task reads.
        seconds: how long each sleeps.
    """

    name: str
    about: str
    upstreams: Sequence[Sequence[int]]
    seconds: Sequence[float]

    def bound(self, workers: int) -> float:
        """Seconds that no order can beat: the longest path, or the work divided by the workers."""
        paths: list[float] = []
        for ups, seconds in zip(self.upstreams, self.seconds, strict=True):
            paths.append(seconds + max((paths[up] for up in ups), default=0.0))
        return max(*paths, sum(self.seconds) / workers)


def graphs(small: int, large: int, seconds: float) -> list[Graph]:
    """One of each shape; in the large one each task reads up to three of the layer above."""
    drawn, width = random.Random(11), -(-large // 10)
    layers: list[Sequence[int]] = [[] for _ in range(width)]
    for task in range(width, large):
        above = range((task // width - 1) * width, task // width * width)
        layers.append(sorted(drawn.sample(above, min(width, drawn.randint(1, 3)))))
    sleeps = [round(seconds * drawn.uniform(0.5, 1.5), 3) for _ in layers]
    steps: Sequence[Sequence[int]] = ((), (-1,), (-2,), (-2, -1))
    shapes: Sequence[tuple[str, str, Sequence[Sequence[int]]]] = (
        ("chains", "chains of 5", [[task - 1] if task % 5 else [] for task in range(small)]),
        ("fan-out", "one that all others read", [[], *[[0]] * (small - 1)]),
        ("fan-in", "one that reads all others", [*[()] * (small - 1), range(small - 1)]),
        (
            "diamonds",
            "1 - 2 - 1, again and again",
            [[t + step for step in steps[t % 4]] for t in range(small)],
        ),
    )
    regular = [Graph(name, about, upstreams, [seconds] * small) for name, about, upstreams in shapes]
    return [*regular, Graph("layers", "random, 10 layers", layers[:large], sleeps[:large])]


def cases(plan: Namespace) -> Iterator[tuple[Graph, int]]:
    """Each graph with each number of workers, or with `--quick` with the first."""
    workers = WORKERS[:1] if plan.quick else WORKERS
    yield from itertools.product(graphs(plan.small, plan.large, plan.tenths / 10), workers)


# --- rivals ------------------------------------------------------------------------------------------------
# A task of a graph reads what its upstreams wrote, sleeps, and writes when it began and ended. A task of the
# second sort copies one file. Each rival does it in its own most usual way.


@dataclass(frozen=True, slots=True)
class Rival:
    """One who runs graphs.

    Attributes:
        texts: the files that tell how: of a graph whose tasks are in graph.json, of copies of inputs/.
        made: glob of the files that the tasks write, below the folder.
        command: runs everything, with a number of workers.
        again: the same, where all is unchanged; by the name under which it is measured.
        packages: what has to be installed.
    """

    file: str
    texts: tuple[str, str]
    made: str
    command: Callable[[int], list[str]]
    again: Mapping[str, Sequence[str]]
    packages: str = ""


NAP = Flow(
    "nap",
    (
        "import time\n"
        "from pathlib import Path\n"
        "begin = time.time()\n"
        'for name in config["reads"]:\n'
        '    Path(config["_project_root"], name).read_text()\n'
        'time.sleep(config["seconds"])\n'
        'Path("made.txt").write_text(f"{begin} {time.time()}")',
    ),
    {"reads": [], "seconds": 0.0},
)
PYTASK_GRAPH = """\
import json
import time
from pathlib import Path

import pytask

HERE = Path(__file__).parent
for name, task in json.loads((HERE / "graph.json").read_text()).items():

    @pytask.task(id=name)
    def task_nap(
        seconds=task["seconds"],
        reads=[HERE / "made" / f"{name}.txt" for name in task["reads"]],
        produces=HERE / "made" / f"{name}.txt",
    ):
        begin = time.time()
        for path in reads:
            path.read_text()
        time.sleep(seconds)
        produces.write_text(f"{begin} {time.time()}")
"""
PYTASK_COPIES = """\
from pathlib import Path

import pytask

HERE = Path(__file__).parent
for path in sorted((HERE / "inputs").iterdir()):

    @pytask.task(id=path.stem)
    def task_copy(reads=path, produces=HERE / "made" / path.name):
        produces.write_bytes(reads.read_bytes())
"""
SNAKE_GRAPH = """\
import json

TASKS = json.load(open("graph.json"))


rule all:
    input: expand("made/{name}.txt", name=TASKS)


rule nap:
    input: lambda found: [f"made/{name}.txt" for name in TASKS[found.name]["reads"]]
    output: "made/{name}.txt"
    params: seconds=lambda found: TASKS[found.name]["seconds"]
    shell: "begin=$(date +%s.%N); cat /dev/null {input} > /dev/null; sleep {params.seconds};"
        " echo $begin $(date +%s.%N) > {output}"
"""
SNAKE_COPIES = """\
rule all:
    input: expand("made/{name}.txt", name=glob_wildcards("inputs/{name}.txt").name)


rule copy:
    input: "inputs/{name}.txt"
    output: "made/{name}.txt"
    shell: "cp {input} {output}"
"""


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def snakemake(workers: int) -> list[str]:
    # the other scheduler solves an integer programme for the same end
    return python("snakemake", "--cores", str(workers), "--scheduler", "greedy", "--quiet", "all")


RIVALS = {
    "ours": Rival(
        "",
        ("", ""),
        "runs/*/*/made.txt",
        lambda workers: [*OURS, "-n", str(workers)],
        dict(zip(AGAIN, (python("ductaflow", "run", "--changed"), CHANGED), strict=True)),
    ),
    "pytask": Rival(
        "task_all.py",
        (PYTASK_GRAPH, PYTASK_COPIES),
        "made/*.txt",
        lambda workers: python("pytask", "build", "-n", str(workers), "--parallel-backend", "processes"),
        {"pytask": python("pytask", "build")},
        "pytask pytask-parallel",
    ),
    "snakemake": Rival(
        "Snakefile",
        (SNAKE_GRAPH, SNAKE_COPIES),
        "made/*.txt",
        snakemake,
        {"snakemake": snakemake(2)},
        "snakemake",
    ),
}


def write_graph(rival: Rival, folder: Path, graph: Graph) -> None:
    names = [instance_name(task) for task in range(len(graph.upstreams))]
    tasks = {
        name: {"seconds": seconds, "reads": [names[up] for up in ups]}
        for name, ups, seconds in zip(names, graph.upstreams, graph.seconds, strict=True)
    }
    (folder / "made").mkdir()
    if rival.file:
        (folder / "graph.json").write_text(json.dumps(tasks))
        (folder / rival.file).write_text(rival.texts[0])
        return
    for task in tasks.values():
        task["reads"] = [f"runs/nap/{name}/made.txt" for name in task["reads"]]
    write_project(folder, NAP, tasks)


def write_copies(rival: Rival, folder: Path, count: int, size: int) -> None:
    (folder / "made").mkdir()
    (folder / "inputs").mkdir()
    names = [instance_name(number) for number in range(count)]
    for name in names:
        (folder / "inputs" / f"{name}.txt").write_text((f"{name}\n" * size)[:size])
    if rival.file:
        (folder / rival.file).write_text(rival.texts[1])
    else:
        reads = {name: {"reads": str(folder / "inputs" / f"{name}.txt")} for name in names}
        write_project(folder, COPY, reads)


# --- what is measured --------------------------------------------------------------------------------------


def measure_makespan(bench: Bench) -> None:
    """Each graph, by each rival, from the moment the first task began to the moment the last one ended."""

    def run(name: str) -> None:
        rival, folder = RIVALS[name], bench.folder(name)
        write_graph(rival, folder, graph)
        used = bench.run(rival.command(workers), folder)
        makespan = makespan_of(graph, sorted(folder.glob(rival.made)))
        bound = graph.bound(workers)
        row = f"{graph.name}: {graph.about}, {len(graph.upstreams)} tasks, `-n {workers}`, {bound:.1f} s"
        bench.add(MAKESPAN, row, f"{name}: / bound", makespan / bound)
        bench.add(MAKESPAN, row, f"{name}: whole command s", used.seconds)
        bench.add(MAKESPAN, row, f"{name}: CPU s", used.cpu)

    for graph, workers in cases(bench.plan):
        bench.turns(f"makespan: {graph.name}, -n {workers}", run, bench.rivals)


def makespan_of(graph: Graph, made: Sequence[Path]) -> float:
    """Seconds from the first begin to the last end, by what the tasks wrote; files in the order of tasks.

    Raises:
        RuntimeError: a task did not run, or before its upstream had ended.
    """
    see(len(graph.upstreams), len(made), "tasks ran")
    times = [tuple(map(float, file.read_text().split())) for file in made]
    for task, ups in enumerate(graph.upstreams):
        if any(times[up][1] > times[task][0] for up in ups):
            raise RuntimeError(f"task {task} began before its upstream ended")
    return max(end for _, end in times) - min(begin for begin, _ in times)


def see(expected: int, found: int, what: str) -> None:
    if found != expected:
        raise RuntimeError(f"{found} of {expected} {what}")


def measure_second(bench: Bench) -> None:
    """The whole command where all is unchanged, each time after one that was not counted."""

    def first(name: str) -> None:
        rival, folder = RIVALS[name], bench.folder(f"second-{name}")
        write_copies(rival, folder, bench.plan.files, bench.plan.size)
        used = bench.run(rival.command(2), folder)
        see(bench.plan.files, len(list(folder.glob(rival.made))), "tasks ran")
        for again in rival.again:
            bench.add(SECOND, again, "first run, 2 workers, s", used.seconds)

    def second(name: str) -> None:
        rival, folder = RIVALS[name], bench.workspace / "commands" / f"second-{name}"
        for again, command in rival.again.items():
            before = {file: file.stat().st_mtime_ns for file in folder.glob(rival.made)}
            used = bench.run(command, folder)
            unchanged = sum(file.stat().st_mtime_ns == moment for file, moment in before.items())
            see(bench.plan.files, unchanged, "tasks were left alone")
            note(again, used)

    def run_plain(name: str) -> None:
        note(PLAIN, bench.run(PYTEST, bench.workspace / "commands" / name))

    def note(row: str, used: Used) -> None:
        if repeat:
            bench.add(SECOND, row, "second run, s", used.seconds)
            bench.add(SECOND, row, "CPU, s", used.cpu)
            bench.add(SECOND, row, "page faults", used.faults)

    write_plain_tests(bench.folder("second-plain"), bench.plan.files)
    bench.turns(f"second: first run of {bench.plan.files:,}", first, bench.rivals)
    for repeat in range(bench.plan.repeats + 1):
        bench.turns(f"second: {repeat} of {bench.plan.repeats}", second, bench.rivals)
        bench.turns(f"second: {repeat} of {bench.plan.repeats}", run_plain, ["second-plain"])


def measure_cost(bench: Bench) -> None:
    """Ours alone: sessions of unchanged instances, from few to many."""
    for repeat, count in itertools.product(range(bench.plan.repeats + 1), counts(bench.plan.most)):
        project = bench.workspace / "commands" / f"cost-{count}"
        if not repeat:
            write_unchanged(
                project, count, lambda it: bench.run([*OURS, "--ductaflow-no-html", "-n", "2"], it)
            )
        used = bench.run(CHANGED, project)
        see(count, unchanged_in(project), "are unchanged")
        if repeat:
            bench.add(COST, f"{count:,} unchanged", "whole command s", used.seconds)
            bench.add(COST, f"{count:,} unchanged", "CPU s", used.cpu)


def counts(most: int) -> list[int]:
    """One, which is the start-up, and the numbers whose cost is compared."""
    return [1, *sorted({max(2, most // 100), max(3, most // 10), most})]


def unchanged_in(project: Path) -> int:
    """How many instances the last session of a project found unchanged."""
    report = json.loads((project / "runs" / "conductor_status_report.json").read_text())
    return sum(entry["status"] == "unchanged" for entry in report["instances"])


PIECES = {"makespan": measure_makespan, "second": measure_second, "cost": measure_cost}


def conclude(bench: Bench) -> None:
    """Ratios, and the numbers to reach."""
    makespans = bench.tables.get(MAKESPAN, {})
    worst = [bench.median(MAKESPAN, row, "ours: / bound") or 0.0 for row in makespans]
    what = "makespan / lower bound after start-up, the worst of all graphs"
    bench.target(what, max(worst, default=None), 1.25, 1.1)
    for row, ours in itertools.product(bench.tables.get(SECOND, {}), AGAIN):
        bench.add(SECOND, row, f"{ours} / this", bench.ratio(SECOND, "second run, s", ours, row))
    for rival, reach, aim in (("snakemake", 1.0, 0.7), ("pytask", 0.5, 0.3)):
        for ours in AGAIN:
            what = f"second run, {bench.plan.files:,} unchanged, whole commands: {ours} / {rival}"
            bench.target(what, bench.ratio(SECOND, "second run, s", ours, rival), reach, aim)
    rows = {count: f"{count:,} unchanged" for count in counts(bench.plan.most)}
    for count in (count for count in rows if count > 1):
        more = bench.difference(COST, "whole command s", rows[count], rows[1])
        bench.add(COST, rows[count], EACH, more and 1e3 * more / (count - 1))
    fewer, most = list(rows)[-2:]
    ratio = bench.ratio(COST, EACH, rows[most], rows[fewer])
    # what is less than the noise of a start-up is no cost
    ratio = ratio if ratio and ratio > 0 else None
    bench.target(f"cost of an unchanged instance: {most:,} / {fewer:,}", ratio, 1.2, 1.0)
    what = f"{bench.plan.files:,} unchanged under pytest / as many plain tests that pass, a file each: CPU"
    bench.target(what, bench.ratio(SECOND, "CPU, s", AGAIN[1], PLAIN), 1.2, 1.0)


if __name__ == "__main__":
    packages = {name: rival.packages for name, rival in RIVALS.items()}
    main(__doc__, PLAN, PIECES, packages, conclude, PACKAGES)
