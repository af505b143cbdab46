"""What a change costs: processor time and page faults of the same commands in several environments, in turns.

    python benchmarks/cost.py OLD/bin/python NEW/bin/python      about a minute for each round
    python benchmarks/cost.py python --quick                     shows that it works

The figures are user and system time of all processes of a command, so a busy machine disturbs them less than
it disturbs the clock; page faults it does not disturb at all. The ratio compares the last environment with
the first one.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import (
    CHANGED,
    EMPTY,
    LIGHT,
    OURS,
    Bench,
    Used,
    heading,
    parser_of,
    used_by,
    write_project,
    write_unchanged,
)

from ductaflow.common.host import adopt_orphans

#: The number of runs, of unchanged instances, of instances that are collected.
Counts = tuple[int, int, int]


class Environment:
    """The commands of an environment, with projects of its own, as stored runs are those of one version."""

    def __init__(self, python: str, folder: Path, counts: Counts) -> None:
        self.python, self.folder, self.counts = python, folder, counts
        self.variables = Bench(folder, None).environment
        write_project(folder / "one", LIGHT, 1)
        write_project(folder / "many", LIGHT, counts[0] + 1)
        write_project(folder / "stored", EMPTY, counts[2])
        write_unchanged(folder / "unchanged", counts[1], lambda _: self.used("unchanged", *OURS[1:]))

    def used(self, project: str, *arguments: str) -> Used:
        """What a command and all processes that it started took."""
        return used_by([self.python, *arguments], self.folder / project, self.variables)[0]

    def light(self, *options: str) -> Used:
        """What one more run in a session takes."""
        more, less = (self.used(project, *OURS[1:], *options) for project in ("many", "one"))
        return more.each_beyond(less, self.counts[0])


#: What is measured, and how many of its units are a second.
Measure = tuple[Callable[[Environment], Used], float]


def rows(counts: Counts) -> dict[str, Measure]:
    """What is measured, by its name with the unit of its processor time."""
    _, unchanged, stored = (f"{count:,}" for count in counts)
    return {
        "a light warm run, ms": (lambda env: env.light("--ductaflow-no-html"), 1e3),
        "a light warm run with HTML, ms": (lambda env: env.light(), 1e3),
        f"`pytest --ductaflow --ductaflow-changed`, {unchanged} unchanged, s": (
            lambda env: env.used("unchanged", *CHANGED[1:]),
            1.0,
        ),
        f"`ductaflow run --changed`, {unchanged} unchanged, s": (
            lambda env: env.used("unchanged", "-m", "ductaflow", "run", "--changed"),
            1.0,
        ),
        f"`--collect-only`, {stored} stored instances, s": (
            lambda env: env.used("stored", *OURS[1:], "--collect-only"),
            1.0,
        ),
    }


def main() -> None:
    parser = parser_of(__doc__, rounds=5, rows="rows")
    parser.add_argument("python", nargs="+", help="of an environment; the first one is the reference")
    options = parser.parse_args()
    counts = (2, 3, 4) if options.quick else (20, 1000, 10_000)
    first, last = options.python[0], options.python[-1]
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder, "bench"), None, options.quick)
        environments = {
            python: Environment(os.path.abspath(python), Path(folder, str(number)), counts)
            for number, python in enumerate(options.python)
        }
        measures = {row: measure for row, measure in rows(counts).items() if options.only in row}
        for number, (row, (measure, units)) in itertools.product(range(options.rounds), measures.items()):
            for python in list(environments)[:: -1 if number % 2 else 1]:
                used = measure(environments[python])
                bench.add("Processor time", row, python, units * used.cpu)
                bench.add("Page faults", row.rpartition(",")[0], python, used.faults)
    for title, rows_of in bench.tables.items():
        for row, cells in rows_of.items():
            for name, typical in (("ratio of medians", statistics.median), ("of minima", min)):
                bench.add(title, row, name, typical(cells[last]) / typical(cells[first]))
    print(heading(options.quick), bench.text(), sep="\n")


if __name__ == "__main__":
    main()
