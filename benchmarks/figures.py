"""What was measured, and what is said of it: the numbers to reach, the tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from contenders import CONTENDERS
from workspace import FLOWS

#: ("run", flow, contender), ("command", flow, count, workers, contender), and what the pieces name.
Key = tuple[Any, ...]
MB = 1e6


@dataclass(slots=True)
class Figures:
    """All samples, in seconds or bytes.

    Attributes:
        absent: why a contender has no samples, or no more.
        notes: what else has to be said under the tables.
        stages: of a warm run, as `probes.stages` has them.
    """

    samples: dict[Key, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stages: dict[str, Any] = field(default_factory=dict)

    def add(self, key: Key, value: float) -> None:
        self.samples.setdefault(key, []).append(value)

    def median(self, *key: Any) -> float | None:
        found = self.samples.get(key)
        return statistics.median(found) if found else None

    def ratio(self, upper: Key, lower: Key) -> float | None:
        a, b = self.median(*upper), self.median(*lower)
        return None if a is None or not b else a / b

    def difference(self, more: Key, less: Key) -> float | None:
        a, b = self.median(*more), self.median(*less)
        return None if a is None or b is None else a - b


# --- the numbers to reach ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A number to reach: a ratio, or a size in a unit.

    Attributes:
        least: whether the number is the least that counts; otherwise it has to stay under it.
    """

    what: str
    reach: float
    aim: float
    value: Callable[[Figures], float | None]
    unit: str = ""
    least: bool = True

    def verdict(self, value: float | None) -> str:
        if value is None:
            return "not measured"
        if self._holds(value, self.aim):
            return "aim met"
        return "reached" if self._holds(value, self.reach) else "**missed**"

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.least else value < bound

    def bound(self, value: float) -> str:
        return f"{'' if self.least else 'under '}{value:g}{self.unit}"


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


#: The count of runs in a whole command, of results and of instances; `--quick` has smaller ones.
MANY = 24
THOUSANDS = 10_000


def targets(many: int, thousands: int) -> list[Target]:
    """The numbers to reach; the counts are those of the plan."""

    def runs(upper: str, lower: str) -> Callable[[Figures], float | None]:
        return lambda f: f.ratio(("run", "light", upper), ("run", "light", lower))

    def commands(count: int, workers: int, upper: str, lower: str) -> Callable[[Figures], float | None]:
        case = ("command", "light", count, workers)
        return lambda f: f.ratio((*case, upper), (*case, lower))

    def memory_of_results(f: Figures) -> float | None:
        growth = f.difference(("peak", "ours", "run"), ("peak", "ours", "collect"))
        return _scaled(growth, THOUSANDS / thousands / MB)

    return [
        Target(
            "a light run after start-up, serial: papermill with a fresh kernel / ours warm",
            reach=30,
            aim=50,
            value=runs("papermill", "warm"),
        ),
        Target(
            f"the whole command, {many} instances: nbmake `-n 2` / `pytest --ductaflow -n 2`",
            reach=6,
            aim=10,
            value=commands(many, 2, "nbmake", "warm"),
        ),
        Target(
            "the whole command, one instance: `papermill` / `pytest --ductaflow`",
            reach=0.9,
            aim=1.2,
            value=commands(1, 0, "papermill", "warm"),
        ),
        Target("a light run: ours warm / floor", reach=4, aim=3, value=runs("warm", "floor"), least=False),
        Target(
            "wall time of flows bound by CPU: `-n 1` / `-n 2`",
            reach=1.8,
            aim=1.95,
            value=lambda f: f.ratio(("parallel", 1), ("parallel", 2)),
        ),
        Target(
            "unique memory of a light run, supervisor and child",
            reach=40,
            aim=25,
            value=lambda f: _scaled(f.median("memory", "run"), 1 / MB),
            unit=" MB",
            least=False,
        ),
        Target(
            "the session's memory, 10,000 results more",
            reach=60,
            aim=30,
            value=memory_of_results,
            unit=" MB",
            least=False,
        ),
        Target(
            "`pytest` without `--ductaflow`: what the plugin adds to its start",
            reach=20,
            aim=5,
            value=lambda f: _scaled(f.difference(("start", "with"), ("start", "without")), 1e3),
            unit=" ms",
            least=False,
        ),
        Target(
            f"`--collect-only`: {thousands:,} stored instances / {thousands:,} parametrised plain tests",
            reach=4,
            aim=2,
            value=lambda f: f.ratio(("collect", "ours"), ("collect", "plain")),
            least=False,
        ),
    ]


# --- tables ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    below: str = ""

    def text(self, markdown: bool) -> str:
        """In Markdown, or in columns for a terminal."""
        title = f"### {self.title}" if markdown else self.title.upper()
        lines = [title, "", *(_markdown if markdown else _columns)([self.head, *self.rows])]
        return "\n".join([*lines, *(["", self.below] if self.below else []), ""])


def _markdown(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in padded]


def overhead_tables(figures: Figures, many: int, thousands: int, *, judged: bool = True) -> list[Table]:
    """All tables of what was measured; those without a number are left out.

    Args:
        many, thousands: the counts of the plan.
        judged: whether it was enough to say what is reached.
    """
    made = [
        targets_table(figures, targets(many, thousands), judged=judged),
        *(_runs_table(figures, flow) for flow in FLOWS),
        *(_commands_table(figures, flow) for flow in FLOWS),
        _others_table(figures, thousands),
        _stages_table(figures),
    ]
    return [table for table in made if table is not None]


def targets_table(figures: Figures, chosen: Iterable[Target], *, judged: bool) -> Table:
    """The numbers to reach, what was measured, and the verdicts, if it was enough to judge."""
    rows = []
    for target in chosen:
        value = target.value(figures)
        cell = "-" if value is None else f"{shown(value)}{target.unit}"
        verdict = target.verdict(value) if judged or value is None else "too little to judge"
        rows.append([target.what, cell, target.bound(target.reach), target.bound(target.aim), verdict])
    return Table("Numbers to reach", ["what", "measured", "reach", "aim", "verdict"], rows)


def shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(samples: Sequence[float], factor: float, digits: int) -> str:
    """The least and the most of some samples."""
    both = [f"{value * factor:,.{digits}f}" for value in (min(samples), max(samples))]
    return f"{both[0]} - {both[1]}"


def _runs_table(figures: Figures, flow: str) -> Table | None:
    rows = []
    count = 0
    for name, contender in CONTENDERS.items():
        samples = figures.samples.get(("run", flow, name))
        if samples:
            count = max(count, len(samples))
            median = statistics.median(samples)
            ratios = [
                f"{ratio:.{2 if ratio < 10 else 1}f}" if ratio else "-"
                for ratio in (
                    figures.ratio(("run", flow, name), ("run", flow, "warm")),
                    figures.ratio(("run", flow, name), ("run", flow, "floor")),
                )
            ]
            rows.append([contender.about, f"{1e3 * median:,.0f}", spread(samples, 1e3, 0), *ratios])
        elif name in figures.absent:
            rows.append([contender.about, figures.absent[name], "", "", ""])
    if not count:
        return None if not rows else Table(f"One run of the flow `{flow}`", ["", "", "", "", ""], rows)
    return Table(
        f"One run of the flow `{flow}`, after start-up, {count} rounds",
        ["", "median ms", "min - max", "/ ours warm", "/ floor"],
        rows,
        f"`{flow}`: {FLOWS[flow].about}.",
    )


def _commands_table(figures: Figures, flow: str) -> Table | None:
    cases = sorted({key[2:4] for key in figures.samples if key[:2] == ("command", flow)})
    if not cases:
        return None
    rows = []
    for name, contender in CONTENDERS.items():
        cells = [_command_cell(figures, ("command", flow, *case, name)) for case in cases]
        if any(cells):
            rows.append([contender.about, *cells])
        elif name in figures.absent:
            rows.append([contender.about, figures.absent[name], *[""] * (len(cases) - 1)])
    heads = [f"{count} {'run' if count == 1 else 'runs'}{f', -n {n}' if n else ''}" for count, n in cases]
    return Table(
        f"The whole command, flow `{flow}`: seconds",
        ["", *heads],
        rows,
        "Median, in brackets the least and the most.",
    )


def _command_cell(figures: Figures, key: Key) -> str:
    samples = figures.samples.get(key)
    return f"{statistics.median(samples):.1f} ({spread(samples, 1, 1)})" if samples else ""


def _others_table(figures: Figures, thousands: int) -> Table | None:
    lines: list[tuple[str, Key, float, int, str]] = [
        ("flows bound by CPU, `-n 1`", ("parallel", 1), 1, 1, "s"),
        ("flows bound by CPU, `-n 2`", ("parallel", 2), 1, 1, "s"),
        ("a light run: most unique memory of its processes at a moment", ("memory", "run"), 1 / MB, 1, "MB"),
        ("the warm server: resident", ("memory", "server_rss"), 1 / MB, 0, "MB"),
        ("the warm server: unique, with no run alive", ("memory", "server_uss"), 1 / MB, 0, "MB"),
        *(
            (f"peak memory of pytest, {thousands:,} {what}, {how}", ("peak", who, key), 1 / MB, 0, "MB")
            for who, what in (("ours", "instances"), ("plain", "plain tests"))
            for key, how in (("collect", "collected"), ("run", "with results"))
        ),
        ("start of `pytest` with the plugin, without its flag", ("start", "with"), 1e3, 0, "ms"),
        ("start of `pytest` without the plugin", ("start", "without"), 1e3, 0, "ms"),
        (f"`--collect-only`, {thousands:,} stored instances", ("collect", "ours"), 1, 1, "s"),
        (f"`--collect-only`, a table of {thousands:,} rows", ("collect", "table"), 1, 1, "s"),
        (f"`--collect-only`, {thousands:,} parametrised plain tests", ("collect", "plain"), 1, 1, "s"),
    ]
    rows = []
    for what, key, factor, digits, unit in lines:
        if samples := figures.samples.get(key):
            median = f"{statistics.median(samples) * factor:,.{digits}f} {unit}"
            rows.append([what, median, spread(samples, factor, digits), str(len(samples))])
    return Table("Parallel, memory, collection", ["", "median", "min - max", "times"], rows) if rows else None


def _stages_table(figures: Figures) -> Table | None:
    if not figures.stages:
        return None
    rows = [[label, f"{at:.1f}", f"{took:.1f}"] for label, at, took in figures.stages["stages"]]
    rows.append(["session: from asking to the result", "0.0", f"{figures.stages['whole']:.1f}"])
    return Table("Where the milliseconds of a warm light run go", ["", "begins at", "takes"], rows)
