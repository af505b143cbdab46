"""One file of every complete run as one table.

outputs("demand", "hourly.csv")

runs and what they recorded as their outputs -> a frame for each -> one frame, beside names and parameters
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.common.text import did_you_mean, first_line, listed
from ductaflow.session.across import Ran, ResultTable, column_names, declare, in_words, of_flow, say, series
from ductaflow.session.tables import NAME_COLUMN
from ductaflow.store.result import FileEntry, fault_of_output

if TYPE_CHECKING:
    from pandas import DataFrame

_READERS: dict[str, tuple[str, dict[str, object]]] = {
    ".csv": ("read_csv", {}),
    ".tsv": ("read_csv", {}),
    ".parquet": ("read_parquet", {}),
    ".feather": ("read_feather", {}),
    # as written: texts of digits stay texts, and numbers are exact
    ".json": ("read_json", {"dtype": False, "convert_axes": False, "precise_float": True}),
}
#: Outputs that are named where the one that is asked for is not there.
_NAMED = 5
#: Options of `pandas.read_csv` that say how a file is written, or that its first line is none of the table.
_OF_DIALECTS = {"sep", "delimiter", "dialect", "skiprows", "comment", "header"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")


def outputs(
    flow: str,
    file: str | os.PathLike[str],
    *,
    reader: Callable[..., DataFrame] | None = None,
    conducted: bool = False,
    project_root: str | os.PathLike[str] | None = None,
    **options: object,
) -> DataFrame:
    """One file of every complete run of a flow or build as one table.

    Read is what the record of a run lists as its output and is still as it was. A line on standard error says
    which runs are left out, and why.

    Args:
        flow: name of a flow or build of the project.
        file: its path in the run folder: CSV, also with semicolons and decimal commas, TSV, Parquet, Feather
            or JSON; the first and the last one may be compressed (`.gz`).
        reader: a function that makes a DataFrame of a path, for other files.
        conducted: as of `results`.
        project_root: as of `results`.
        options: go to the reader, such as `parse_dates=["hour"]` for `pandas.read_csv`.

    Returns:
        A DataFrame with the column `instance`, the parameters that differ between the runs, and the columns
        of the file, among them its index if that is more than a count. A column of the file that is called
        `instance` is `file.instance`; a parameter that is called like a column of the file is
        `config.<name>`. Integers and booleans stay what they are where some files lack the column.
        `attrs["left_out"]` has, by name, why a run is left out.

    Raises:
        InstanceError: there is no such flow, or no complete run has such an output.
        ConfigError: nothing is known to read such a file, or the settings are not acceptable.
        DuctaflowError: none of the files can be read; the reason of the first.

    Example:
        >>> import pandas
        >>> outputs("fit", "x.txt", reader=pandas.read_csv, names=["found"])
             instance  found
        0  scenario_A      1
    """
    name = PurePath(file).as_posix()
    read = _reader(name, reader, options)
    found, table = of_flow(flow, conducted, project_root)
    left_out = dict(table.left_out)
    complete = [place for place, ran in enumerate(found) if ran.complete]
    if not complete:
        hint = f"Run it: ductaflow run {flow}" if found else "conducted=True takes what is not stored."
        raise InstanceError(f"no run of {flow} is complete: {in_words(left_out) or 'none'}", hint=hint)
    declare(found[place].one.run_folder.path / name for place in complete)
    frames: dict[int, DataFrame] = {}
    faults: list[DuctaflowError] = []
    for place in complete:
        try:
            frames[place] = _frame(found[place], name, read)
            why = "" if len(frames[place]) else f"{name} has no rows"
        except DuctaflowError as fault:
            faults.append(fault)
            why = fault.message
        if why:
            left_out[table.columns[NAME_COLUMN][place]] = why
    if not frames:
        raise DuctaflowError(
            f"no complete run of {flow} has {name} to read; the first of {len(faults)}: {faults[0].message}",
            hint=faults[0].hint,
        ) from faults[0]
    if left_out:
        say(f"outputs of {flow}: {name} of {len(frames)} runs; left out {in_words(left_out)}")
    joined = _beside(table.rows(frames), list(frames.values()))
    joined.attrs = {"left_out": left_out}
    return joined


def _reader(
    name: str, reader: Callable[..., DataFrame] | None, options: Mapping[str, object]
) -> Callable[[Path], object]:
    """What makes a DataFrame of a file of some name."""
    if reader is not None:
        return functools.partial(reader, **options)
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    known = _READERS.get(suffixes[-1] if suffixes else "")
    if known is None:
        raise ConfigError(
            f"nothing is known to read {name}: it ends in none of {', '.join(_READERS)}",
            hint="Give a function that makes a DataFrame of a path: reader=pandas.read_excel",
        )
    import pandas as pd

    if known[0] == "read_csv":
        return functools.partial(_csv, options=options)
    function, usual = getattr(pd, known[0]), dict(known[1])
    if getattr(inspect.signature(function).parameters.get("convert_dates"), "default", None) is True:
        # dates only when asked, as newer versions of pandas have it
        usual["convert_dates"] = False
    return functools.partial(function, **{**usual, **options})


def _csv(path: Path, options: Mapping[str, Any]) -> object:
    """Read a CSV, also with semicolons and decimal commas; unless options say how, or where it begins."""
    import pandas as pd

    from ductaflow.comparison.frames import dialect_of

    usual = {}
    if ".tsv" in [suffix.lower() for suffix in path.suffixes[-2:]]:
        usual = {} if "delimiter" in options else {"sep": "\t"}
    elif not options.keys() & _OF_DIALECTS and path.suffix.lower() not in (".zip", ".zst"):
        usual = dict(zip(("sep", "decimal"), dialect_of(path), strict=False))
    return pd.read_csv(path, **{**usual, **options})


def _frame(ran: Ran, name: str, read: Callable[[Path], object]) -> DataFrame:
    """Read an output of a complete run; what tells its rows apart becomes columns.

    Raises:
        DuctaflowError: the run has no such output, it is not as it was, or it cannot be read.
    """
    import pandas as pd

    folder = ran.one.run_folder.path
    recorded = {output["path"]: output for output in (ran.complete.outputs if ran.complete else ())}
    if name not in recorded:
        wrote = f"{ran.one.id} wrote {listed(list(recorded), _NAMED) or 'nothing'}."
        raise InstanceError(f"no {name}", hint=did_you_mean(name, recorded) or wrote)
    if fault := _fault(folder, recorded[name]):
        raise InstanceError(f"{name} {fault}", hint=f"Run it again: ductaflow run {ran.one.id}")
    try:
        frame = read(folder / name)
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"the reader gives {type(frame).__name__}, not a DataFrame")
        count = pd.RangeIndex(len(frame))
        is_count = frame.index.equals(count) or frame.index.equals(count.astype(str))
        frame = frame.reset_index(drop=is_count and frame.index.name is None)
        if frame.columns.nlevels > 1 or not frame.columns.is_unique:
            raise ValueError("its columns have several levels, or two have one name")
    except ImportError as exc:
        raise DuctaflowError(f"{name} needs a package: {exc}", hint="pip install pyarrow") from exc
    except Exception as exc:  # whatever pandas, or the reader of a person, finds wrong with the file
        said = first_line(f"{type(exc).__name__}: {exc}")
        raise DuctaflowError(f"{name} cannot be read: {said}", hint="See the file, or give options.") from exc
    return frame


def _fault(folder: Path, output: FileEntry) -> str | None:
    """What is wrong with an output that is to be read; None if it is as the run left it."""
    if (fault := fault_of_output(folder, output)) or output.get("kind") == "link":
        return fault
    if "kind" in output:
        return f"is a {output['kind']}"
    real = os.path.join(os.path.realpath(folder), *output["path"].split("/"))
    return None if os.path.realpath(real) == real else "is behind a link, which the run has not made"


def _beside(runs: ResultTable, frames: list[DataFrame]) -> DataFrame:
    """The rows of all files, each beside the name of its run and the parameters that differ."""
    import pandas as pd

    lengths = [len(frame) for frame in frames]
    rows = _joined(frames)
    rows.columns = pd.Index(column_names(rows.columns, {NAME_COLUMN}, "file").values())
    parameters = column_names(runs.differing, {NAME_COLUMN, *rows.columns}, "config")
    names = {NAME_COLUMN: NAME_COLUMN, **parameters}
    left = {column: series(runs.columns[name]).repeat(lengths) for name, column in names.items()}
    return pd.concat([pd.DataFrame(left).reset_index(drop=True), rows], axis=1)


def _joined(frames: list[DataFrame]) -> DataFrame:
    """Some frames, one below the other, with the types that pandas' own `concat` would lose."""
    import pandas as pd

    columns = list(dict.fromkeys(column for frame in frames for column in frame.columns))
    # a file without rows says nothing of types
    frames = [frame for frame in frames if len(frame)] or frames
    for column in columns:
        _keep_type(frames, column)
    return pd.concat(frames, ignore_index=True).reindex(columns=columns)


def _keep_type(frames: list[DataFrame], column: Any) -> None:
    """Let integers stay integers, and booleans booleans, where frames lack a column or its values."""
    having = [place for place, frame in enumerate(frames) if column in frame.columns]
    if len(having) == len(frames) and len({frames[place][column].dtype for place in having}) == 1:
        return
    filled = [place for place in having if not frames[place][column].isna().all()]
    kinds = {frames[place][column].dtype.kind for place in filled}
    nullable = _NULLABLE.get(kinds.pop()) if len(kinds) == 1 and len(filled) < len(frames) else None
    for place in having if filled else ():
        if place not in filled:
            frames[place] = frames[place].drop(columns=column)
        elif nullable:
            frames[place] = frames[place].copy(deep=False)
            frames[place][column] = frames[place][column].astype(nullable)


_NULLABLE: dict[str, Any] = {"i": "Int64", "u": "UInt64", "b": "boolean"}
