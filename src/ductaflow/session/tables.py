"""Tables of scenarios: made from dimensions, read row by row, stored as instances.

scenarios({"region": [..]})   dimensions -> DataFrame, a name for each row
read_rows(table)              DataFrame  -> rows: a name and values that are a config
store_instances(table, flow)  DataFrame  -> config/flows/<flow>/<instance>.json
"""

from __future__ import annotations

import itertools
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.common.files import write_atomic
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.paths import KIND_DIRS, SOURCE_SUFFIXES, Kind, kind_of
from ductaflow.common.text import did_you_mean, key_path, shorten
from ductaflow.project.csvs import NAME_COLUMNS
from ductaflow.project.instances import Instances, make_instance
from ductaflow.project.names import check_name, spelling
from ductaflow.project.secrets import masked
from ductaflow.project.settings import Project
from ductaflow.project.values import dump_config, is_missing, json_value, row_config
from ductaflow.session.request import find_notebook, find_project
from ductaflow.store.spec import current_run

if TYPE_CHECKING:
    from pandas import DataFrame, Series


@dataclass(frozen=True, slots=True)
class Target:
    """The flow or build that each row runs. `source` is None for one of the project's own."""

    project: Project
    kind: Kind
    flow: str
    source: Path | None

    @classmethod
    def of(cls, build: str | os.PathLike[str], project_root: str | os.PathLike[str] | None) -> Target:
        path = Path(build)
        if isinstance(build, str) and path.name == build and path.suffix not in SOURCE_SUFFIXES:
            project = find_project(project_root)
            return cls(_nested(project), kind_of_flow(project, build), build, None)
        given = None if project_root is None else find_project(project_root)
        source = find_notebook(path, given)
        project = given or find_project(near=source.parent)
        kind = kind_of(source)
        own = project.source(kind, source.stem) == source
        return cls(_nested(project), kind, source.stem, None if own else source)


def _nested(project: Project) -> Project:
    """In a run, the project with the run's own runs folder."""
    run = current_run()
    return replace(project, runs_dir=Path(run.folder) / project.settings.runs_dir) if run else project


NAME_COLUMN = NAME_COLUMNS[0]
#: Above it floats are too coarse to have been integers.
_EXACT_FLOAT = 2.0**53


# --- dimensions -> table -----------------------------------------------------------------------------------


def scenarios(dimensions: Mapping[str, Sequence[object]], name: str | None = None) -> DataFrame:
    """Every combination of some dimensions as a table, one scenario a row.

    Args:
        dimensions: column -> its values; the first column changes slowest. `database.host` is a nested key.
        name: template of the names, such as `"{region}_{horizon:04d}"`. Without one a name is
            `region-EU_horizon-2030`. What cannot be in a name becomes `-`.

    Returns:
        A DataFrame with the column `instance`, the name of each row, before the dimensions. Its values are
        those given: integers stay integers beside a null.

    Raises:
        ConfigError: a dimension is not a list of JSON values or empty, the template names another, a row
            cannot have the name that it gives, or two rows get the same.

    Example:
        >>> scenarios({"region": ["EU", "US"], "horizon": [2030, 2050]})
                         instance region  horizon
        0  region-EU_horizon-2030     EU     2030
        1  region-EU_horizon-2050     EU     2050
        2  region-US_horizon-2030     US     2030
        3  region-US_horizon-2050     US     2050
    """
    import pandas as pd

    if not isinstance(dimensions, Mapping) or not dimensions:
        raise ConfigError(
            "scenarios takes at least one dimension",
            hint='For example {"region": ["EU", "US"], "year": [2030]}.',
        )
    values = {column: _values(column, given) for column, given in dimensions.items()}
    records = [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]
    names = [_name_of(record, name) for record in records]
    remedy = (
        "Put a dimension that tells them apart into the template." if name else "Name rows by a template."
    )
    _check_names(names, records, remedy=remedy)
    _check_distinct(names, records, remedy=remedy)
    columns = {column: _column([record[column] for record in records]) for column in values}
    return pd.DataFrame({NAME_COLUMN: names, **columns})


def _values(column: str, values: object) -> list[object]:
    """The values of a dimension."""
    where = f"dimension {column!r}"
    if not isinstance(column, str):
        raise ConfigError(f"{where}: the name of a dimension is a string")
    if column in NAME_COLUMNS:
        raise ConfigError(f"{where}: this column holds the names", hint='Give a template: name="{region}".')
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(values, Iterable):
        hint = f"Write [{values!r}]." if not isinstance(values, set | frozenset) else "Write sorted(...)."
        raise ConfigError(f"{where}: {shorten(repr(values), 100)} is not a list of values", hint=hint)
    listed = list(values)
    if not listed:
        raise ConfigError(f"{where} has no values", hint="Give at least one, or leave the dimension out.")
    for index, value in enumerate(listed):
        if not is_missing(value):
            json_value(value, where=key_path("dimensions", column) + f"[{index}]")
    return listed


def _column(values: list[object]) -> Series[Any]:
    """A column that keeps its values: pandas would turn 2030 beside None into a float, and None into NaN."""
    import pandas as pd

    alike = len({type(value) for value in values}) == 1 and values[0] is not None
    return pd.Series(values) if alike else pd.Series(values, dtype=object)


# --- names -------------------------------------------------------------------------------------------------

_PLACE = re.compile(r"\{([^{}]+)\}")
_MIDNIGHT = re.compile(r"T00:00:00(\.0+)?$")


def _name_of(record: Mapping[str, object], template: str | None) -> str:
    if template is None:
        return "_".join(f"{_allowed(column)}-{_text(value)}" for column, value in record.items())

    def filled(match: re.Match[str]) -> str:
        column, _, form = match[1].rpartition(":")
        if match[1] in record:
            return _text(record[match[1]])
        if column in record:
            try:
                return _allowed(format(record[column], form))
            except (ValueError, TypeError) as exc:
                raise ConfigError(
                    f"the name {template!r}: {match[0]} does not fit {record[column]!r}: {exc}"
                ) from exc
        hint = did_you_mean(match[1], record) or f"Dimensions: {', '.join(record)}."
        raise ConfigError(f"the name {template!r}: there is no dimension {match[1]!r}", hint=hint)

    return _PLACE.sub(filled, template)


def _text(value: object) -> str:
    """A value as part of a name."""
    value = str(value) if is_missing(value) else json_value(value)
    if isinstance(value, str):
        return _allowed(_MIDNIGHT.sub("", value)).strip("-.")
    if isinstance(value, list):
        return "+".join(_text(item) for item in value)
    if isinstance(value, dict):
        return "+".join(f"{_allowed(key)}-{_text(item)}" for key, item in value.items())
    return json.dumps(value)


def _allowed(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", text))


def _check_names(names: Sequence[str], records: Sequence[Mapping[str, object]], *, remedy: str) -> None:
    for index, (name, record) in enumerate(zip(names, records, strict=True)):
        try:
            check_name(name)
        except InstanceError as exc:
            raise ConfigError(f"row {_row(index, record)}: {exc.message}", hint=remedy) from exc


def _check_distinct(names: Sequence[str], records: Sequence[Mapping[str, object]], *, remedy: str) -> None:
    """Refuse two rows with one name, also if only case or Unicode form differ: both mean one folder."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        other = first.setdefault(spelling(name), index)
        if other != index:
            called = name if names[other] == name else f"{names[other]} and {name}, one name to some systems"
            both = f"{_row(other, records[other])} and {_row(index, records[index])}"
            raise ConfigError(f"rows {both} are both called {called}", hint=remedy)


def _row(index: int, record: Mapping[str, object]) -> str:
    """A row in words: its place, and its values if it has some."""
    values = ", ".join(f"{column}={value}" for column, value in masked(dict(record)).items())
    return f"{index} ({shorten(values, 100)})" if values else str(index)


# --- table -> rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario: its place in the table, from 0, its name, and the values that are given."""

    index: int
    name: str
    values: dict[str, object]

    def config(self) -> dict[str, JsonValue]:
        """The values as a config, dotted names nested.

        Raises:
            ConfigError: one of them is not JSON, or two set the same key.
        """
        return row_config(self.values, where=f"row {self.index} ({shorten(self.name, 100)})")


def read_rows(table: DataFrame) -> list[Row]:
    """The rows of a table. NaN is "not given"; whole floats in a column with gaps were integers.

    The name of a row is its cell in the column `instance` or `instance_name`; without such a column it is
    made of all values, as `scenarios` does.

    Raises:
        ConfigError: it is not a DataFrame, a column or a row has no name, or two have the same.
    """
    columns = _columns(table)
    named = [column for column in NAME_COLUMNS if column in columns]
    if len(named) > 1:
        raise ConfigError(f"the table has the columns {' and '.join(named)}", hint="Keep one of them.")
    cells = columns.pop(named[0]) if named else None
    records = [
        {column: values[index] for column, values in columns.items() if not is_missing(values[index])}
        for index in range(len(table))
    ]
    remedy = f"Give each row a name of its own in the column {NAME_COLUMN}."
    if cells is None:
        names = [_name_of(record, None) for record in records]
        _check_names(names, records, remedy=remedy)
    else:
        names = [_name_in_cell(cell, index, named[0]) for index, cell in enumerate(cells)]
    _check_distinct(names, records, remedy=remedy)
    return [Row(index, name, record) for index, (name, record) in enumerate(zip(names, records, strict=True))]


def _columns(table: DataFrame) -> dict[str, list[object]]:
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        raise ConfigError(
            f"a table of scenarios is a DataFrame, not {type(table).__name__}",
            hint="scenarios({...}) makes one of dimensions, pandas.DataFrame([...]) one of dicts.",
        )
    for column in table.columns:
        if not isinstance(column, str):
            raise ConfigError(f"the column {column!r} is not named by a string", hint="Rename it.")
    if not table.columns.is_unique:
        twice = sorted(set(table.columns[table.columns.duplicated()]))
        raise ConfigError(f"the table has two columns {twice[0]!r}", hint="Keep one of them.")
    return {column: _whole(table[column]) for column in table.columns}


def _whole(column: Series[Any]) -> list[object]:
    """The values of a column, with integers restored that pandas made floats beside a missing value."""
    if column.dtype.kind != "f":
        return column.tolist()
    values: list[float] = column.tolist()
    given = [value for value in values if not is_missing(value)]
    has_gaps = len(given) < len(values)
    if not has_gaps or not all(value.is_integer() and abs(value) < _EXACT_FLOAT for value in given):
        return [*values]
    return [value if is_missing(value) else int(value) for value in values]


def _name_in_cell(cell: object, index: int, column: str) -> str:
    value = cell if is_missing(cell) else json_value(cell, where=f"row {index}: {column}")
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise ConfigError(f"row {index}: {column} is {value}, not a name", hint="A name is a string.")


# --- rows -> stored instances ------------------------------------------------------------------------------


def store_instances(
    df: DataFrame, flow: str, *, project_root: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Store each row of a table as an instance: `config/flows/<flow>/<instance>.json`.

    Args:
        df: a row an instance. Its name is in the column `instance` or `instance_name`; NaN means "not given";
            `database.host` is a nested key. Whole floats in a column with gaps are integers.
        flow: name of the flow or build. A build's rows go to `config/builds/`.
        project_root: by default the project that the working directory lies in.

    Returns:
        The files, in the order of the rows. One that was there is replaced; others stay.

    Raises:
        ConfigError, InstanceError: something is wrong with the table or a row, or an instance of that name is
            stored elsewhere. Nothing was written.
        DuctaflowError: a file cannot be written.

    Example:
        >>> table = scenarios({"x": [1, 2]}, name="x_{x}")
        >>> [file.name for file in store_instances(table, "fit")]
        ['x_1.json', 'x_2.json']
    """
    project = find_project(project_root)
    kind = kind_of_flow(project, flow)
    taken = _stored_elsewhere(project, kind, flow)
    texts: dict[Path, str] = {}
    for row in read_rows(df):
        config = row.config()
        # Refuse now what a session would refuse later: name, options, placeholders.
        file = make_instance(project, kind, flow, row.name, config).file
        other = taken.get(spelling(row.name), file)
        if other != file:
            raise InstanceError(
                f"row {row.index}: {flow}[{row.name}] is stored in {other} already",
                hint="Take it out there, or give the row another name.",
            )
        texts[file] = dump_config(config)
    for file, text in texts.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, text)
        except OSError as exc:
            raise DuctaflowError(f"{file}: cannot be written: {exc.strerror or exc}") from exc
    return list(texts)


def _stored_elsewhere(project: Project, kind: Kind, flow: str) -> dict[str, Path]:
    """The names that a flow's instances have, and where; one in the flow's base gives way to any other."""
    base = project.config_of(kind) / f"{flow}.json"
    stored = Instances(project).of_flow(flow)
    return {spelling(instance.name): instance.file for instance in stored if instance.file != base}


def kind_of_flow(project: Project, flow: str) -> Kind:
    """Whether a name belongs to a flow or to a build of a project.

    Raises:
        InstanceError: it is neither.
    """
    check_name(flow)
    for kind in KIND_DIRS:
        if project.source(kind, flow) is not None:
            return kind
    known = {
        path.stem
        for folder in KIND_DIRS.values()
        for suffix in SOURCE_SUFFIXES
        for path in (project.root / folder).glob(f"*{suffix}")
    }
    raise InstanceError(
        f"{project.root} has no flow or build {flow}",
        hint=did_you_mean(flow, known)
        or f"Pass project_root=..., or write flows/{flow}.py or builds/{flow}.py.",
    )
