"""What `ductaflow results` says: a table of results for people, or for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from ductaflow.cli.statuses import colour_of
from ductaflow.common.terminal import Line
from ductaflow.common.text import clean, duration, listed, markdown_row, number, shorten
from ductaflow.session.across import OWN_COLUMNS, ResultTable
from ductaflow.session.tables import NAME_COLUMN

#: A text in a cell has at most so many characters; names of instances are whole.
_MAX_CELL = 32
_MAX_NAMED = 6


def as_csv(table: ResultTable) -> str:
    """Numbers to the last digit, `true` and `false`, lists as JSON; what is missing is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    for row in zip(*table.columns.values(), strict=True):
        writer.writerow(
            "" if cell is None else cell if isinstance(cell, str) else json.dumps(cell) for cell in row
        )
    return file.getvalue().removesuffix("\n")


def as_json(table: ResultTable) -> str:
    """A list of records, one a line, with null for what is missing."""
    rows = zip(*table.columns.values(), strict=True)
    lines = (json.dumps(dict(zip(table.columns, row, strict=True)), ensure_ascii=False) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]"


@dataclass(frozen=True, slots=True)
class ResultDisplay:
    """Which columns people see.

    Attributes:
        columns: those asked for; without any, the parameters that differ and the metrics.
        everything: with all parameters.
        keys: what the rows are sorted by, which is shown first of all.
        width: characters in a line; None for as many as it takes.
    """

    columns: Sequence[str] = ()
    everything: bool = False
    keys: Sequence[str] = ()
    width: int | None = None

    def lines(self, table: ResultTable) -> Iterator[str]:
        """A table for each flow; what does not fit is named below it."""
        for place, part in enumerate(table.by_flow()):
            if place:
                yield ""
            texts = {name: _cells(part, name) for name in self._names(part)}
            widths = {name: max(map(len, cells)) for name, cells in texts.items()}
            shown = self._fitting(part, widths)
            for row in zip(*(_aligned(part, name, texts[name], widths[name]) for name in shown), strict=True):
                yield _line(row, shown.index("status") if "status" in shown else None)
            if hidden := [name for name in texts if name not in shown]:
                word = "columns" if hidden[1:] else "column"
                yield f"{len(hidden)} more {word} ({listed(hidden, _MAX_NAMED)}): --columns a,b or --all"

    def markdown(self, table: ResultTable) -> Iterator[str]:
        """A table of Markdown for each flow."""
        for place, part in enumerate(table.by_flow()):
            if place:
                yield ""
            names = self._names(part)
            head, *rows = zip(*(_cells(part, name) for name in names), strict=True)
            rule = ["---:" if _is_numeric(part, name) else "---" for name in names]
            for row in (head, rule, *rows):
                yield markdown_row(row)

    def _names(self, table: ResultTable) -> Sequence[str]:
        own = [name for name in OWN_COLUMNS if name != "note"]
        notes = ["note"] if any(table.columns["note"]) else []
        parameters = table.parameters if self.everything else table.differing
        return self.columns or [*own, *parameters, *table.metrics, *notes]

    def _fitting(self, table: ResultTable, widths: dict[str, int]) -> list[str]:
        """The columns that fit into a line: own ones and keys, then metrics and parameters by turns."""
        if self.width is None:
            return list(widths)
        left, chosen = self.width + 2, set()
        first = {*OWN_COLUMNS, *self.keys, *(key.removeprefix("-") for key in self.keys)}
        turns = chain.from_iterable(zip_longest(table.metrics, table.parameters))
        for name in (*(name for name in widths if name in first), *turns):
            if name in widths and name not in chosen and (name in first or widths[name] + 2 <= left):
                left -= widths[name] + 2
                chosen.add(name)
        return [name for name in widths if name in chosen]


def _cells(table: ResultTable, name: str) -> list[str]:
    """The head of a column and its values, as people read them."""
    values = table.columns[name]
    if name == "seconds":
        return [name, *("-" if value is None else duration(value) for value in values)]
    if name == NAME_COLUMN:
        return [name, *map(str, values)]
    return [clean(name), *map(_text, values)]


def _line(cells: Sequence[str], status: int | None) -> Line:
    """A row, in which the status has its colour."""
    if status is None:
        return Line("  ".join(cells).rstrip())
    parts = ["".join(f"{cell}  " for cell in cells[:status]), cells[status]]
    rest = "".join(f"  {cell}" for cell in cells[status + 1 :]).rstrip()
    return Line(parts[1] if rest else parts[1].rstrip(), colour_of(parts[1].strip()), rest, parts[0])


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float):
        return number(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shorten(" ".join(clean(text).split()), _MAX_CELL)


def _aligned(table: ResultTable, name: str, cells: list[str], width: int) -> Iterator[str]:
    right = _is_numeric(table, name)
    return (cell.rjust(width) if right else cell.ljust(width) for cell in cells)


def _is_numeric(table: ResultTable, name: str) -> bool:
    given = [value for value in table.columns[name] if value is not None]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
