"""Scenario tables: a CSV file whose rows are instances."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from ductaflow.common.errors import ConfigError
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.paths import RUN_KEY
from ductaflow.common.text import did_you_mean
from ductaflow.project.layers import Draft, Layer, broken_draft
from ductaflow.project.strict_json import read_text
from ductaflow.project.values import parse_cell, row_config

#: The columns of a scenario table that may hold the name of the instance.
NAME_COLUMNS = ("instance", "instance_name")


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a scenario table, each with its line, up to the `fault` that ended the reading early."""

    path: str
    columns: tuple[str, ...]
    name_column: int
    rows: tuple[tuple[int, list[str]], ...]
    fault: ConfigError | None

    @property
    def header_fault(self) -> ConfigError | None:
        """The fault of the columns themselves, and so of each row."""
        for index, column in enumerate(self.columns):
            if column in self.columns[:index]:
                return ConfigError(f"{self.path}: two columns are called {column}", hint="Keep one of them.")
            if not column and any(row[index : index + 1] not in ([], [""]) for _, row in self.rows):
                return ConfigError(
                    f"{self.path}: column {index + 1} has no name",
                    hint="Name it. If pandas wrote the table: to_csv(..., index=False).",
                )
        return None


def table_drafts(path: str) -> list[Draft]:
    """Return the instances of a scenario table: one for each row, and one for a part that cannot be read."""
    try:
        table = _read_table(path)
    except ConfigError as exc:
        return [broken_draft(path, exc)]
    header_fault = table.header_fault
    drafts = [_row_draft(table, line, cells, header_fault) for line, cells in table.rows]
    if table.fault:
        return [*drafts, broken_draft(path, table.fault)]
    hint = "Add a row for each instance, or remove the table."
    return drafts or [broken_draft(path, ConfigError(f"{path}: the table has no row", hint=hint))]


def _read_table(path: str) -> _Table:
    text = read_text(path)
    first: list[str] = []
    for delimiter in ",;":
        rows, fault = _read_rows(path, text, delimiter)
        columns = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
        naming = [index for index, column in enumerate(columns) if column in NAME_COLUMNS]
        if len(naming) == 1:
            return _Table(path, columns, naming[0], tuple(rows[1:]), fault)
        if len(naming) > 1:
            raise ConfigError(f"{path}: two columns name the instance", hint="Keep one of them.")
        first = first if len(first) > len(columns) else list(columns)
    near = did_you_mean(NAME_COLUMNS[0], first)
    raise ConfigError(
        f"{path}:1: there is no column {NAME_COLUMNS[0]}, only {', '.join(first[:10]) or 'an empty file'}",
        hint=near.replace("mean", "name it") if near else "It holds the name of each instance.",
    )


def _read_rows(
    path: str, text: str, delimiter: str
) -> tuple[list[tuple[int, list[str]]], ConfigError | None]:
    """Read the rows that are not blank, each with its line, up to the first fault."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    rows: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return rows, None
        except csv.Error as exc:
            return rows, ConfigError(
                f"{path}:{line}: {exc}", hint='A quote inside a quoted cell is written twice: "a ""b"" c".'
            )
        if any(cells):
            rows.append((line, cells))


def _row_draft(table: _Table, line: int, cells: list[str], header_fault: ConfigError | None) -> Draft:
    name = cells[table.name_column].strip() if table.name_column < len(cells) else ""
    draft = Draft(name or f"line-{line}", table.path, line)
    place = draft.place
    try:
        if header_fault:
            raise header_fault
        if len(cells) != len(table.columns):
            raise ConfigError(
                f"{place}: {len(cells)} cells, but {len(table.columns)} columns",
                hint="A cell that holds the delimiter stands in double quotes.",
            )
        if not name:
            raise ConfigError(
                f"{place}: the row has no name", hint=f"Fill {table.columns[table.name_column]}."
            )
        draft.layer = Layer(place, _row_values(table, cells, place))
    except ConfigError as exc:
        draft.layer = Layer(place, {}, exc.bare())
    return draft


def _row_values(table: _Table, cells: list[str], place: str) -> dict[str, JsonValue]:
    values: dict[str, object] = {}
    for index, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
        if cell == "" or index == table.name_column:
            continue
        # Words stay words: the tags "2030" are no number.
        if column == f"{RUN_KEY}.tags" and not cell.lstrip().startswith("["):
            values[column] = cell
            continue
        try:
            values[column] = parse_cell(cell)
        except ConfigError as exc:
            raise ConfigError(f"{place}: column {column}: {exc.message}", hint=exc.hint) from exc
    return row_config(values, where=place)
