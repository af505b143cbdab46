"""Whether ours has become dearer: CPU of five commands, compared with plain pytest and papermill.

    python benchmarks/guard.py              compares with what is stored: about two minutes
    python benchmarks/guard.py --update     stores today's ratios, with the date and the machine
    python benchmarks/guard.py --quick      shows that it works

A ratio is the processor time of a command of ours, user and system of all its processes, by that of a command
of pytest or papermill that does about as much; commands take turns. On another machine than the stored one
ratios are alike, not the same. It informs and forbids nothing: the exit code is 0, unless something could not
be measured.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from contenders import write_notebooks
from harness import (
    CHANGED,
    EMPTY,
    HERE,
    LIGHT,
    OURS,
    PYTEST,
    Bench,
    heading,
    parser_of,
    table,
    write_parametrised_tests,
    write_plain_tests,
    write_project,
    write_unchanged,
)

from ductaflow.common.host import adopt_orphans

STORED = HERE / "guard.json"
#: By how much a ratio may differ before somebody should look: what the same command differs by.
NOISE = 0.1
#: How much is in a command: runs, unchanged instances, collected ones.
Counts = tuple[int, int, int]
USUAL: Counts = (24, 500, 3000)
QUICK: Counts = (2, 3, 4)


@dataclass(frozen=True, slots=True)
class Case:
    """A command of ours, and the one that it is compared with; each in a folder that is written before."""

    ours: Sequence[str]
    folder: str
    other: Sequence[str]
    other_folder: str


def cases(runs: int, unchanged: int, stored: int) -> dict[str, Case]:
    """The five commands, by what they do."""
    papermill = (sys.executable, "-m", "papermill", "light.ipynb", "executed.ipynb")
    return {
        f"{runs} light runs / papermill, one": Case(OURS, "light", papermill, "notebooks"),
        f"{runs} light runs without HTML / papermill, one": Case(
            [*OURS, "--ductaflow-no-html"], "light", papermill, "notebooks"
        ),
        f"{unchanged} unchanged / pytest, {unchanged} plain tests": Case(
            CHANGED, "unchanged", PYTEST, "plain"
        ),
        f"{stored:,} collected / pytest, {stored:,} parametrised tests": Case(
            [*OURS, "--collect-only"], "stored", [*PYTEST, "--collect-only"], "parametrised"
        ),
        "start with the plugin / pytest without it": Case(
            [*PYTEST, "-p", "pytest_ductaflow.plugin"], "start", PYTEST, "start"
        ),
    }


def folders(bench: Bench, counts: Counts) -> dict[str, Callable[[Path], object]]:
    """Who writes the folders of the commands."""
    runs, unchanged, stored = counts
    return {
        "light": lambda folder: write_project(folder, LIGHT, runs),
        "notebooks": lambda folder: write_notebooks(folder.parent),
        "unchanged": lambda folder: write_unchanged(folder, unchanged, lambda it: bench.run(OURS, it)),
        "plain": lambda folder: write_plain_tests(folder, unchanged),
        "stored": lambda folder: write_project(folder, EMPTY, stored),
        "parametrised": lambda folder: write_parametrised_tests(folder, stored),
        "start": lambda folder: write_plain_tests(folder, 1),
    }


def measured(bench: Bench, chosen: Mapping[str, Case], counts: Counts, rounds: int) -> dict[str, float]:
    """The ratio of each case: of the medians of some rounds, after one that does not count.

    Raises:
        RuntimeError: a command failed; with the end of its output.
    """
    write = folders(bench, counts)
    for name in {name for case in chosen.values() for name in (case.folder, case.other_folder)}:
        write[name](bench.workspace / name)
    spent: dict[str, tuple[list[float], list[float]]] = {row: ([], []) for row in chosen}
    for number, (row, case) in itertools.product(range(rounds + 1), chosen.items()):
        print(f"{number} of {rounds}: {row}", file=sys.stderr, flush=True)
        pairs = ((case.ours, case.folder), (case.other, case.other_folder))
        for side in (0, 1) if number % 2 else (1, 0):
            command, folder = pairs[side]
            cpu = bench.run(command, bench.workspace / folder).cpu
            if number:
                spent[row][side].append(cpu)
    return {row: statistics.median(ours) / statistics.median(other) for row, (ours, other) in spent.items()}


def verdicts(found: Mapping[str, float], stored: Mapping[str, float]) -> list[list[str]]:
    """A row for each case: what is stored, what was found, and what to make of it."""
    rows = []
    for row, ratio in found.items():
        before = stored.get(row)
        if before is None:
            rows.append([row, "-", f"{ratio:.3g}", "nothing is stored: --update"])
            continue
        change = ratio / before - 1
        said = "as before"
        if abs(change) > NOISE:
            said = f"**{change:.0%} dearer**" if change > 0 else f"{-change:.0%} cheaper"
        rows.append([row, f"{before:.3g}", f"{ratio:.3g}", said])
    return rows


def main() -> None:
    parser = parser_of(__doc__, rounds=3, rows="commands")
    parser.add_argument("--update", action="store_true", help="store today's ratios instead of comparing")
    options = parser.parse_args()
    counts = QUICK if options.quick else USUAL
    chosen = {row: case for row, case in cases(*counts).items() if options.only in row}
    if not chosen:
        parser.error(f"no command contains {options.only!r}: {'; '.join(cases(*counts))}")
    if options.update and (options.quick or options.only):
        parser.error("--update stores all five ratios, of usual size")
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        try:
            found = measured(Bench(Path(folder), None), chosen, counts, options.rounds)
        except RuntimeError as exc:
            sys.exit(f"could not measure: {exc}")
    if options.update:
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
        text = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{machine}, Python {platform.python_version()}",
            "ratios": {row: round(ratio, 4) for row, ratio in found.items()},
        }
        STORED.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    head = ["CPU of ours / of the other", "stored", "now", ""]
    print(
        heading(options.quick),
        f"Stored on {stored['date']}: {stored['machine']}.\n",
        table("Five commands", head, verdicts(found, stored["ratios"])),
        sep="\n",
    )


if __name__ == "__main__":
    main()
