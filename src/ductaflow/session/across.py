"""The results of many runs side by side.

    results("demand")                  a row for each stored instance: status, seconds, parameters, metrics
    outputs("demand", "hourly.csv")    the rows of one file of every complete run
    with_metrics(table, results)       what `conduct` puts beside its columns

    instances, saved configs, results -> ResultTable: columns as lists -> DataFrame, or lines of a command

In a column None is what is missing, and JSON's null. pandas is imported when a frame is made.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ductaflow.common.errors import ConfigError
from ductaflow.common.files import stamp_of_file
from ductaflow.common.json_tree import as_typed, leaves
from ductaflow.common.paths import ROOT_KEY
from ductaflow.common.text import first_line, listed, show_on_console, visible
from ductaflow.project.instances import Instance, Instances
from ductaflow.project.options import load_saved_config
from ductaflow.project.orphans import Orphan, Orphans
from ductaflow.project.secrets import masked
from ductaflow.project.settings import Project
from ductaflow.project.strict_json import LONE_SURROGATE
from ductaflow.session.last_runs import NOT_JUDGED, LastRun, last_runs
from ductaflow.session.request import find_project
from ductaflow.session.tables import NAME_COLUMN, kind_of_flow
from ductaflow.session.targets import find_stored
from ductaflow.store.result import Metric, Result
from ductaflow.store.spec import Reads, current_run, tell_reads

if TYPE_CHECKING:
    from pandas import DataFrame, Series

#: The columns that every table of results has, before parameters and metrics.
OWN_COLUMNS = (NAME_COLUMN, "status", "seconds", "note")
CHANGED = "config changed since"
NOT_STORED = "not stored"
#: Names of instances that a line about what is left out has for each reason.
_NAMED = 3
#: Above it a float cannot hold every integer.
_EXACT_FLOAT = 2**53


# --- columns -----------------------------------------------------------------------------------------------


def column_names(names: Iterable[str], taken: Collection[str], prefix: str) -> dict[str, str]:
    """The columns of some values by their names: where a column is taken, `<prefix>.<name>`.

    >>> column_names(["rmse", "region"], {"region"}, "metrics")
    {'rmse': 'rmse', 'region': 'metrics.region'}
    """
    names = list(dict.fromkeys(names))
    used = {*taken, *names}
    columns = {}
    for name in names:
        column = name
        if name in taken:
            while column in used:
                column = f"{prefix}.{column}"
            used.add(column)
        columns[name] = column
    return columns


def columns_of(
    rows: Sequence[Mapping[str, object]], taken: Collection[str], prefix: str
) -> dict[str, list[Any]]:
    """The values of some rows as columns beside those that are taken, named by `column_names`."""
    names = column_names((name for row in rows for name in row), taken, prefix)
    return {column: [row.get(name) for row in rows] for name, column in names.items()}


def series(values: list[object]) -> Series[Any]:
    """A column of pandas as its users expect it; None is missing.

    Integers stay integers beside a gap (`Int64`), booleans booleans (`boolean`), strings are what pandas
    makes of them, integers and floats are floats. All else is objects: mixed types, lists, integers too large
    for 64 bits or, beside a float, for a float.
    """
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    has_gaps = None in values
    numbers = [abs(value) for value in values if isinstance(value, int)]
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if has_gaps else "bool")
    if kinds == {int} and max(numbers) < 2**63:
        return pd.Series(values, dtype="Int64" if has_gaps else "int64")
    if kinds == {float} or (kinds == {int, float} and max(numbers) <= _EXACT_FLOAT):
        return pd.Series(values, dtype="float64")
    # half a surrogate pair, from a file of a flow, is no text for pandas
    is_text = kinds == {str} and not any(LONE_SURROGATE.search(str(text)) for text in values)
    return pd.Series(values) if is_text else pd.Series(values, dtype=object)


def differ(values: Sequence[object]) -> bool:
    """Whether the values of a column are not all the same; true is not 1, and a gap is a value."""
    first = values[0] if values else None
    return any(value != first or isinstance(value, bool) != isinstance(first, bool) for value in values)


def metrics_of(result: Result | None) -> Mapping[str, Metric]:
    """The metrics of a complete run."""
    return result.metrics if result and result.is_complete else {}


def with_metrics(table: DataFrame, ran: Sequence[Result]) -> DataFrame:
    """A table with the metrics of its rows as columns behind its own; `attrs` has their names."""
    import pandas as pd

    found = columns_of([metrics_of(result) for result in ran], table.columns, "metrics")
    metrics = pd.DataFrame({name: series(values).array for name, values in found.items()}, index=table.index)
    joined = pd.concat([table, metrics], axis=1)
    joined.attrs = {**table.attrs, "metrics": list(found)}
    return joined


# --- results -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultTable:
    """The results of some runs.

    Attributes:
        columns: by name, in order, the values of the rows: `OWN_COLUMNS`, parameters, metrics.
        parameters, metrics: the names of their columns.
        flows: the flow of each row.
        left_out: by the name in its row, why a run has no metrics; and the run folders that have no row.
    """

    columns: dict[str, list[Any]]
    parameters: tuple[str, ...]
    metrics: tuple[str, ...]
    flows: tuple[str, ...]
    left_out: dict[str, str]

    @property
    def differing(self) -> list[str]:
        """The parameters that differ between the rows."""
        return [name for name in self.parameters if differ(self.columns[name])]

    def rows(self, places: Iterable[int]) -> ResultTable:
        """Some of the rows, in an order."""
        places = list(places)
        columns = {name: [values[place] for place in places] for name, values in self.columns.items()}
        return replace(self, columns=columns, flows=tuple(self.flows[place] for place in places))

    def only(self, names: Iterable[str]) -> ResultTable:
        """Some of the columns, in an order."""
        columns = {name: self.columns[name] for name in names}
        kinds = ([name for name in kind if name in columns] for kind in (self.parameters, self.metrics))
        parameters, metrics = map(tuple, kinds)
        return replace(self, columns=columns, parameters=parameters, metrics=metrics)

    def by_flow(self) -> Iterator[ResultTable]:
        """The rows of each flow, without the parameters and metrics of others."""
        flows = dict.fromkeys(self.flows)
        for flow in flows:
            part = self.rows(place for place, other in enumerate(self.flows) if other == flow)
            empty = {name for name, values in part.columns.items() if values.count(None) == len(part.flows)}
            of_others = empty.difference(OWN_COLUMNS) if len(flows) > 1 else ()
            yield part.only(name for name in part.columns if name not in of_others)

    def frame(self) -> DataFrame:
        """The table as pandas' users expect it: see `series`."""
        import pandas as pd

        frame = pd.DataFrame({name: series(values) for name, values in self.columns.items()})
        kinds = {"parameters": self.parameters, "metrics": self.metrics}
        frame.attrs = {**{kind: list(names) for kind, names in kinds.items()}, "left_out": self.left_out}
        return frame


@dataclass(frozen=True, slots=True)
class Ran:
    """The last run of one, the parameters that it ran with, and what is to be noted about that."""

    one: Instance | Orphan
    last: LastRun
    parameters: dict[str, object]
    note: str

    @property
    def complete(self) -> Result | None:
        """The result, if the run is complete."""
        return self.last.result if self.last.result and self.last.result.is_complete else None


def look_at(
    project: Project, seen: Sequence[Instance | Orphan], faults: list[str] | None = None
) -> list[Ran]:
    """The last runs of some, with the configs that ran; `faults` as of `last_runs`."""
    lasts = last_runs(project, seen, faults)
    found = [_ran(project, one, last) for one, last in zip(seen, lasts, strict=True)]
    names = project.settings.metrics
    declare(
        path for one in seen for path in (one.run_folder.config, *map(one.run_folder.path.joinpath, names))
    )
    return found


def _ran(project: Project, one: Instance | Orphan, last: LastRun) -> Ran:
    notes = []
    config: Mapping[str, object] = {}
    saved = one.run_folder.config
    if saved.is_file():
        try:
            config = load_saved_config(saved, project_root=project.root)
        except ConfigError as exc:
            notes.append(f"the saved config cannot be read: {exc.message}")
        if isinstance(one, Instance) and not one.problem and config and _differ(config, one.config):
            notes.append(CHANGED)
    elif last.status == "never" and isinstance(one, Instance):
        config = one.config
    elif last.status != "running":
        notes.append("the saved config is gone")
    if isinstance(one, Orphan):
        notes.append(NOT_STORED)
    elif one.problem:
        notes.append(first_line(one.problem.message))
    if not last.is_judged:
        notes.append(NOT_JUDGED)
    return Ran(one, last, _parameters(config), "; ".join(notes))


def _differ(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two configs differ as JSON, in which 1, 1.0 and true are not the same."""
    if one != other or str(one) == str(other):
        return one != other
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def _parameters(config: Mapping[str, object]) -> dict[str, object]:
    """The values of a config by their key paths, nested objects looked into; secrets masked."""
    found: dict[str, object] = {}
    for key, value in masked(config).items():
        if isinstance(value, dict) and value:
            found |= {as_typed((key, *path)): leaf for path, leaf in leaves(value, _is_value)}
        elif key != ROOT_KEY:
            # most are, and a walk takes longer
            found[as_typed((key,))] = value
    return found


def _is_value(_path: object, value: object) -> bool:
    return isinstance(value, list)


def declare(paths: Iterable[Path]) -> None:
    """In a run, say that it reads some files, which may be missing."""
    if run := current_run():
        stamps = {os.path.abspath(path): stamp_of_file(str(path)) for path in paths}
        tell_reads(run, Reads({path: stamp for path, stamp in stamps.items() if stamp}, declared=set(stamps)))


def table_of(found: Sequence[Ran], left_out: Iterable[Orphan] = ()) -> ResultTable:
    """The results of some runs as a table, named by their names if they are of one flow, else by their ids.

    Args:
        found: of `look_at`.
        left_out: run folders that have no row.
    """
    others = list(left_out)
    one_flow = len({one.flow for one in (*(ran.one for ran in found), *others)}) < 2
    names = [ran.one.name if one_flow else ran.one.id for ran in found]
    own: dict[str, list[Any]] = {
        NAME_COLUMN: names,
        "status": [ran.last.status for ran in found],
        "seconds": [ran.last.seconds for ran in found],
        "note": [ran.note for ran in found],
    }
    parameters = columns_of([ran.parameters for ran in found], own, "config")
    metrics = columns_of([metrics_of(ran.last.result) for ran in found], {**own, **parameters}, "metrics")
    why = {name: _why(ran.last) for name, ran in zip(names, found, strict=True) if not ran.complete}
    why |= {one.name if one_flow else one.id: NOT_STORED for one in others}
    flows = tuple(ran.one.flow for ran in found)
    return ResultTable({**own, **parameters, **metrics}, tuple(parameters), tuple(metrics), flows, why)


def _why(last: LastRun) -> str:
    return ": ".join(filter(None, [last.status, first_line(last.message)]))


def in_words(left_out: Mapping[str, str]) -> str:
    """What is left out, by reason: `2 error (a, b), 1 never (c)`; empty for nothing."""
    groups: dict[str, list[str]] = {}
    for name, why in left_out.items():
        groups.setdefault(why.partition(":")[0], []).append(name)
    return ", ".join(f"{len(names)} {why} ({listed(names, _NAMED)})" for why, names in groups.items())


def find_runs(
    project: Project, targets: Collection[str], *, conducted: bool
) -> tuple[list[Instance | Orphan], list[Orphan]]:
    """What flows and ids of instances stand for, all that there is without any; and what is left out.

    Args:
        conducted: with the run folders of nothing stored that the flows have; else those are left out.

    Raises:
        InstanceError: there is no such flow or instance.
    """
    instances = Instances(project)
    orphans = Orphans(project, instances.by_id)
    stored = {one.id: one for one in (() if targets else instances)}
    loose = {one.id: one for one in (() if targets else orphans)}
    for target in targets:
        if "/" in target or "[" in target:
            found = find_stored(instances, target)
        else:
            found = instances.of_flow(target)
            loose |= {one.id: one for one in orphans.of_flow(target)}
            if not found and target not in {one.flow for one in loose.values()}:
                # it says what there is
                kind_of_flow(project, target)
        stored |= {one.id: one for one in found}
    return [*stored.values(), *(loose.values() if conducted else ())], [] if conducted else [*loose.values()]


def of_flow(
    flow: str, conducted: bool, project_root: str | os.PathLike[str] | None
) -> tuple[list[Ran], ResultTable]:
    """The last runs of a flow, and their table."""
    project = find_project(project_root)
    seen, others = find_runs(project, [flow], conducted=conducted)
    faults: list[str] = []
    found = look_at(project, seen, faults)
    for fault in faults:
        say(fault)
    return found, table_of(found, others)


def say(text: str) -> None:
    show_on_console(f"{visible(text)}\n", sys.stderr)


def results(
    flow: str, *, conducted: bool = False, project_root: str | os.PathLike[str] | None = None
) -> DataFrame:
    """The results of a flow or build as a table: a row for each stored instance, whatever came of it.

    A line on standard error says which runs are left out, and why.

    Args:
        flow: name of a flow or build of the project.
        conducted: with rows for the run folders of nothing stored: rows of a conductor, variants (`--as`).
        project_root: by default the project that the working directory lies in.

    Returns:
        A DataFrame with the columns

        - `instance`; `status`, which is that of the last run, `running`, `lost`, `never`, `unreadable`;
          `seconds`;
        - `note`, empty where there is nothing to say: `config changed since`, if the stored config is not the
          one that ran; `not judged since its expectation changed`; `not stored`;
        - the parameters that ran, nested keys with dots, passwords masked. One that is called like a column
          before it is `config.<name>`. For an instance that has never run they are those stored;
        - the metrics of complete runs, status `success` or `warning`, or an error that is only one of
          expectations. One that is called like a column before it is `metrics.<name>`.

        Integers stay integers where a value is missing (`Int64`), booleans booleans (`boolean`), dates are
        strings (`pandas.to_datetime` makes dates). `attrs` has the names of `parameters` and `metrics`, and
        `left_out`: why a run has no metrics, or no row, by its name.

    Raises:
        InstanceError: there is no such flow.
        ConfigError: the settings of the project are not acceptable.

    Example:
        >>> table = results("fit")
        >>> table[["instance", "status", "x"]]
             instance   status  x
        0  scenario_A  success  1
        1  scenario_B    never  2
    """
    _, table = of_flow(flow, conducted, project_root)
    if table.left_out:
        say(f"results of {flow}: left out {in_words(table.left_out)}")
    return table.frame()
