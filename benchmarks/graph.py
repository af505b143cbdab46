"""What a graph costs: ours and its peers, in one go on the same graphs and files.

    python benchmarks/graph.py                  all of it: about 20 minutes on a quiet machine
    python benchmarks/graph.py --markdown       the tables of docs/performance.md
    python benchmarks/graph.py --quick          all of it, too small to judge, in a minute
    python benchmarks/graph.py --only makespan --only ours

A peer that is not installed is reported as missing (`pip install -e ".[bench]"`). Rivals take turns, command
by command, so that what disturbs the machine disturbs all of them. Everything happens in a temporary folder,
which is removed.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import workspace as ws
from commands import add_choices, empty_folder, measure_pieces, parser_of, print_figures, run, say
from figures import Figures, Table, Target, shown, spread, targets_table
from graphs import Graph, all_graphs
from rivals import CHANGED, COPY, OURS, RIVALS, Rival

#: How ours can be asked for what has changed: by name of its figures, the command.
AGAIN = {"ours, command": "`ductaflow run --changed`", "ours": "`pytest --ductaflow --ductaflow-changed`"}
PACKAGES = ("pytest", "pytest-xdist", "pytask", "pytask-parallel", "snakemake", "papermill")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        small, large: tasks of the regular graphs, and of the random one.
        seconds: that a task sleeps, on average.
        workers: numbers of them.
        files, size: of the second run; size in bytes.
        counts: of unchanged instances, the start-up first; the last two are compared.
        made: how many of the largest count come from real runs, see `measure_cost`.
        repeats: of second runs.
    """

    small: int = 40
    large: int = 200
    seconds: float = 1.0
    workers: Sequence[int] = (2, 4)
    files: int = 1000
    size: int = 10_000
    counts: Sequence[int] = (1, 100, 1000, 10_000)
    made: int = 100
    repeats: int = 3


QUICK = Plan(
    small=5, large=10, seconds=0.2, workers=(2,), files=5, size=100, counts=(1, 2, 4), made=2, repeats=1
)


@dataclass(frozen=True, slots=True)
class Bench:
    """One go: where, how much, who takes part, what came of it."""

    workspace: Path
    plan: Plan
    rivals: Sequence[Rival]
    figures: Figures

    @property
    def graphs(self) -> list[Graph]:
        return all_graphs(self.plan.small, self.plan.large, self.plan.seconds)

    def lose(self, rival: Rival, why: str) -> None:
        """Go on without a rival, and say why."""
        say(f"{rival.name}: {why}")
        self.figures.absent[rival.name] = why

    def here(self) -> Iterator[Rival]:
        """Who still takes part."""
        return (one for one in self.rivals if one.name not in self.figures.absent)

    def run(self, command: Sequence[str], folder: Path) -> float:
        # pytest would load the plugin of any package in the environment, hypothesis and anyio among them
        alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return run(command, folder, {**ws.environment(self.workspace), **alone})

    def folder(self, name: str) -> Path:
        return empty_folder(self.workspace, name)


# --- the makespan of a graph -------------------------------------------------------------------------------


def measure_makespan(bench: Bench) -> None:
    """Each graph, by each rival, from the moment the first task began to the moment the last one ended."""
    for graph in bench.graphs:
        for workers in bench.plan.workers:
            for rival in list(bench.here()):
                say(f"makespan: {graph.name}, {graph.count} tasks, -n {workers}, {rival.name}")
                folder = bench.folder(rival.name)
                rival.write_graph(folder, graph)
                (folder / "made").mkdir()
                try:
                    seconds = bench.run(rival.command(workers), folder)
                    makespan = makespan_of(graph, sorted(folder.glob(rival.made)))
                except (RuntimeError, subprocess.TimeoutExpired) as exc:
                    bench.lose(rival, f"failed: {exc}")
                    continue
                bench.figures.add(("whole", graph.name, workers, rival.name), seconds)
                bench.figures.add(
                    ("makespan", graph.name, workers, rival.name), makespan / graph.bound(workers)
                )


def makespan_of(graph: Graph, made: Sequence[Path]) -> float:
    """Seconds from the first begin to the last end, by what the tasks wrote; files in the order of tasks.

    Raises:
        RuntimeError: a task did not run, or before its upstream had ended.
    """
    if len(made) != graph.count:
        raise RuntimeError(f"{len(made)} of {graph.count} tasks ran")
    times = [tuple(map(float, file.read_text().split())) for file in made]
    for task, ups in enumerate(graph.upstreams):
        if any(times[up][1] > times[task][0] for up in ups):
            raise RuntimeError(f"task {task} began before its upstream ended")
    return max(end for _, end in times) - min(begin for begin, _ in times)


# --- the second run ----------------------------------------------------------------------------------------


def measure_second(bench: Bench) -> None:
    """The whole command where all is unchanged, each time after one that was not counted."""
    folders: dict[str, Path] = {}
    for rival in list(bench.here()):
        say(f"second: first run of {bench.plan.files:,}, {rival.name}")
        folders[rival.name] = folder = bench.folder(f"second-{rival.name}")
        rival.write_copies(folder, bench.plan.files, bench.plan.size)
        (folder / "made").mkdir()
        try:
            seconds = bench.run(rival.command(2), folder)
            _see(bench.plan.files, len(list(folder.glob(rival.made))), "made")
        except (RuntimeError, subprocess.TimeoutExpired) as exc:
            bench.lose(rival, f"first run failed: {exc}")
            continue
        bench.figures.add(("first", rival.name), seconds)
    for repeat in range(bench.plan.repeats + 1):
        for rival in list(bench.here()):
            for name, command in rival.again.items():
                say(f"second: {name}, {repeat} of {bench.plan.repeats}")
                try:
                    seconds = _second(bench, rival, command, folders[rival.name])
                except (RuntimeError, subprocess.TimeoutExpired) as exc:
                    bench.lose(rival, f"second run failed: {exc}")
                    break
                if repeat:
                    bench.figures.add(("second", name), seconds)


def _second(bench: Bench, rival: Rival, command: Sequence[str], folder: Path) -> float:
    before = {file: file.stat().st_mtime_ns for file in folder.glob(rival.made)}
    seconds = bench.run(command, folder)
    again = sum(file.stat().st_mtime_ns != moment for file, moment in before.items())
    _see(0, again, "ran again")
    return seconds


def _see(expected: int, found: int, what: str) -> None:
    if found != expected:
        raise RuntimeError(f"{found} of {expected} {what}" if expected else f"{found} {what}")


# --- the cost of an unchanged instance ---------------------------------------------------------------------


def measure_cost(bench: Bench) -> None:
    """Ours alone: sessions of unchanged instances, from few to many.

    The first runs of thousands would take an hour. So some are made by real runs, and the others are copies
    of their run folders under other names; the session has to find all of them unchanged.
    """
    counts = bench.plan.counts
    for repeat in range(bench.plan.repeats + 1):
        for count in counts:
            project = bench.workspace / "commands" / f"cost-{count}"
            if not project.exists():
                say(f"cost: runs of {count:,}")
                write_unchanged(bench, project, count)
            say(f"cost: {count:,}, {repeat} of {bench.plan.repeats}")
            seconds = bench.run(CHANGED, project)
            _see(count, unchanged_in(project), "unchanged")
            if repeat:
                bench.figures.add(("cost", count), seconds)


def unchanged_in(project: Path) -> int:
    """How many instances the last session of a project found unchanged."""
    report = json.loads((project / "runs" / "conductor_status_report.json").read_text())
    return sum(entry["status"] == "unchanged" for entry in report["instances"])


def write_unchanged(bench: Bench, project: Path, count: int) -> None:
    """A project whose instances have all run, with the same config: none of them names itself in it."""
    real = min(count, bench.plan.made)
    ws.write_project(project, COPY, real)
    (project / "inputs").mkdir()
    (project / "inputs" / "one.txt").write_bytes(b"x" * bench.plan.size)
    bench.run([*OURS, "--ductaflow-no-html", "-n", "2"], project)
    ws.write_project(project, COPY, count)
    for number in range(real, count):
        names = ws.instance_name(number % real), ws.instance_name(number)
        _copy_run(project / "runs" / COPY.name, *names)


def _copy_run(runs: Path, source: str, target: str) -> None:
    (runs / target).mkdir()
    for file in (runs / source).iterdir():
        text = file.read_bytes().replace(source.encode(), target.encode())
        (runs / target / file.name).write_bytes(text)


PIECES: dict[str, Callable[[Bench], None]] = {
    "makespan": measure_makespan,
    "second": measure_second,
    "cost": measure_cost,
}


# --- tables ------------------------------------------------------------------------------------------------


def graph_targets(plan: Plan) -> list[Target]:
    """The numbers to reach; the counts are those of the plan."""

    def worst(f: Figures) -> float | None:
        found = [key for key in f.samples if key[0] == "makespan" and key[-1] == "ours"]
        return max((statistics.median(f.samples[key]) for key in found), default=None)

    fewer, more = plan.counts[-2:]
    return [
        Target(
            "makespan / lower bound after start-up, the worst of all graphs", 1.25, 1.10, worst, least=False
        ),
        *(
            Target(
                f"second run, {plan.files:,} unchanged, whole commands: {about} / {rival}",
                *(reach, aim),
                functools.partial(Figures.ratio, upper=("second", name), lower=("second", rival)),
                least=False,
            )
            for rival, reach, aim in (("snakemake", 1.0, 0.7), ("pytask", 0.5, 0.3))
            for name, about in AGAIN.items()
        ),
        Target(
            f"cost of an unchanged instance: {more:,} / {fewer:,}",
            1.2,
            1.0,
            lambda f: _quotient(cost_of(f, plan, more), cost_of(f, plan, fewer)),
            least=False,
        ),
    ]


def _quotient(upper: float | None, lower: float | None) -> float | None:
    # what is less than the noise of a start-up is no cost
    return None if upper is None or lower is None or lower <= 0 else upper / lower


def cost_of(figures: Figures, plan: Plan, count: int) -> float | None:
    """Seconds for each unchanged instance of a session, beyond those of a session with the least of them."""
    least = plan.counts[0]
    more = figures.difference(("cost", count), ("cost", least))
    return None if more is None or count == least else more / (count - least)


def graph_tables(figures: Figures, plan: Plan, *, judged: bool) -> list[Table]:
    """All tables of what was measured; those without a number are left out."""
    made = [
        targets_table(figures, graph_targets(plan), judged=judged),
        _makespan_table(figures, plan),
        _second_table(figures, plan),
        _cost_table(figures, plan),
    ]
    return [table for table in made if table is not None]


def _cell(samples: Sequence[float] | None, digits: int) -> str:
    if not samples:
        return ""
    median = f"{statistics.median(samples):,.{digits}f}"
    return median if len(samples) == 1 else f"{median} ({spread(samples, 1, digits)})"


def _makespan_table(figures: Figures, plan: Plan) -> Table | None:
    if not any(key[0] == "makespan" for key in figures.samples):
        return None
    rows = []
    for graph in all_graphs(plan.small, plan.large, plan.seconds):
        for workers in plan.workers:
            cells = []
            for name in RIVALS:
                ratio = figures.samples.get(("makespan", graph.name, workers, name))
                whole = figures.samples.get(("whole", graph.name, workers, name))
                cells += [_cell(ratio, 2), _cell(whole, 1)]
            about = f"{graph.name}: {graph.about}, {graph.count} tasks, `-n {workers}`"
            rows.append([about, f"{graph.bound(workers):.1f}", *cells])
    heads = [head for name in RIVALS for head in (f"{name}: / bound", "whole command s")]
    return Table("Makespan / lower bound", ["graph", "bound s", *heads], rows)


def _second_table(figures: Figures, plan: Plan) -> Table | None:
    rows = []
    for name, rival in RIVALS.items():
        for again in rival.again:
            second = figures.samples.get(("second", again))
            cell = _cell(second, 2) or figures.absent.get(name, "")
            ratios = [figures.ratio(("second", ours), ("second", again)) for ours in AGAIN]
            first = _cell(figures.samples.get(("first", name)), 1)
            rows.append(
                [AGAIN.get(again, rival.about), cell, *(shown(r) if r else "-" for r in ratios), first]
            )
    title = f"{plan.files:,} files of {plan.size:,} bytes, all unchanged: the whole command, seconds"
    heads = ["", "second run", *(f"{about} / this" for about in AGAIN.values()), "first run, 2 workers"]
    return Table(title, heads, rows) if any(row[1] for row in rows) else None


def _cost_table(figures: Figures, plan: Plan) -> Table | None:
    rows = []
    for count in plan.counts:
        cost = cost_of(figures, plan, count)
        if samples := figures.samples.get(("cost", count)):
            rows.append([f"{count:,}", _cell(samples, 2), "" if cost is None else f"{1e3 * cost:.2f}"])
    heads = ["unchanged instances", "whole command s", f"ms for each beyond {plan.counts[0]}"]
    return Table("Sessions in which nothing changed", heads, rows) if rows else None


# --- the program -------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    rivals = [RIVALS[name] for name in options.only if name in RIVALS] or list(RIVALS.values())
    pieces = [name for name in options.only if name in PIECES] or list(PIECES)
    with tempfile.TemporaryDirectory(prefix="graph-", ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder), plan, pieces, rivals)
    tables = graph_tables(figures, plan, judged=not options.quick)
    print_figures(figures, tables, PACKAGES, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    add_choices(parser, list(PIECES), "rival", list(RIVALS))
    return parser


def measure(workspace: Path, plan: Plan, pieces: Sequence[str], rivals: Sequence[Rival]) -> Figures:
    """Measure some pieces; what fails costs its own numbers only and is noted."""
    bench = Bench(workspace, plan, rivals, Figures())
    (workspace / "home").mkdir()
    ws.write_shadow(workspace)
    for rival in rivals:
        if rival.missing:
            bench.lose(rival, rival.missing)
    return measure_pieces(bench, bench.figures, {name: PIECES[name] for name in pieces})


if __name__ == "__main__":
    sys.exit(main())
