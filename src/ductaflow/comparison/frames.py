"""Tables compared: CSV, TSV, Parquet, Feather. Rows are found by a key where there is one, else by position.

They are read as pandas reads them, but for two things: only empty cells and NaN of a CSV are missing, so that
a word like `NA`, which may be a country, is not lost; and large integers beside missing cells are kept.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.rules import Rule
from ductaflow.common.text import listed, shorten, shown_path
from ductaflow.comparison.cells import Column, Mask, Rows, Tally, differing
from ductaflow.comparison.difference import FileDifference
from ductaflow.comparison.kept_text import separator_of
from ductaflow.comparison.scalars import EXACT

_UNPACK: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
#: What programs call a missing number that do not leave its cell empty.
_NO_NUMBER = frozenset(("NA", "N/A", "#N/A", "n/a", "NULL", "null", "None", "<NA>", "-nan", "-NaN"))
#: What a key has that pandas keeps as objects; lists would be no key.
_NAMES = ("string", "integer", "date", "time", "bytes", "datetime", "empty")
_PEEK = 1 << 16
#: A key that nobody named has as many columns at most.
_KEY_COLUMNS = 4
#: So many of the columns and rows are named that only one side has.
_NAMED = 5


# --- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `texts` reads a CSV again, with its cells as text."""

    path: Path
    frame: pd.DataFrame
    texts: Callable[[], pd.DataFrame] | None = None

    def column(self, name: str) -> Column:
        """Return the cells of a column."""
        series: pd.Series[Any] = self.frame[name]
        dtype, missing = series.dtype, series.isna().to_numpy()
        if isinstance(dtype, pd.DatetimeTZDtype):
            return Column(series.dt.tz_convert(None).to_numpy(), missing)
        if isinstance(dtype, np.dtype):
            values = series.to_numpy()
            if self.texts and dtype.kind == "f" and missing.any() and (np.abs(values) >= EXACT).any():
                # perhaps integers, of which a float does not tell one from the next
                return self.column_of_texts(name)
            return Column(values, missing)
        kind = getattr(dtype, "numpy_dtype", None)
        if isinstance(kind, np.dtype) and kind.kind in "iufb":
            return Column(series.to_numpy(dtype=kind, na_value=0), missing)
        return Column(series.to_numpy(dtype=object), missing)

    def has_numbers(self, name: str) -> bool:
        """Return whether a column has nothing but numbers as text, and words for a missing one."""
        known = self.frame[name].dropna()
        return set(known[pd.to_numeric(known, errors="coerce").isna()].unique()) <= _NO_NUMBER

    def column_of_texts(self, name: str) -> Column:
        """Return the cells of a column of a CSV, read as text: numbers of Python, and words."""
        texts = self.texts()[name] if self.texts else self.frame[name]
        values = np.empty(len(texts), object)
        values[:] = [_number(text) if isinstance(text, str) else None for text in texts]
        return Column(values, texts.isna().to_numpy())


def _number(text: str) -> int | float | str:
    # What Python takes beyond that, `1_0` and digits of other scripts, nobody writes as a number.
    if "_" in text or not text.isascii():
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        ImportError: nothing that reads this format is installed.
        ValueError: it is no such table; pandas and pyarrow raise errors of other classes too.
    """
    with warnings.catch_warnings():
        # what a reader has to say of a file does not decide
        warnings.simplefilter("ignore")
        match path.suffix.lower():
            case ".parquet" | ".pq":
                return Table(path, _flat(pd.read_parquet(path, dtype_backend="numpy_nullable")))
            case ".feather" | ".arrow":
                return Table(path, _flat(pd.read_feather(path, dtype_backend="numpy_nullable")))
        options = _csv_options(path)
        texts = functools.cache(lambda: _flat(pd.read_csv(path, **options, dtype=str)))
        return Table(path, _flat(pd.read_csv(path, **options)), texts)


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index is a column like the others, and whose columns have names of their own."""
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    frame.columns = pd.Index([str(name) for name in frame.columns])
    if not frame.columns.is_unique:
        raise ValueError(f"two of its columns are called {frame.columns[frame.columns.duplicated()][0]}")
    return frame


def dialect_of(path: Path) -> tuple[str, str, str]:
    """Return what is between the cells of a CSV, the decimal sign, and the first line."""
    with _UNPACK.get(path.suffix.lower(), open)(path, "rb") as file:
        text = file.read(_PEEK).decode("utf-8", "replace").lstrip("\ufeff\r\n")
    head = text.partition("\n")[0]
    sep = separator_of(path.name, head)
    decimal = "," if sep == ";" and re.search(r"(^|;)-?\d+,\d+(;|\r?$)", text, re.MULTILINE) else "."
    return sep, decimal, head


def _csv_options(path: Path) -> dict[str, Any]:
    """Return how to read a CSV: as its dialect is, and whether it has a header."""
    sep, decimal, head = dialect_of(path)
    cells = [_number(cell.strip().replace(decimal, ".")) for cell in head.split(sep)]
    # a header of numbers is one of whole numbers: years, positions
    has_header = any(isinstance(cell, str) for cell in cells) or all(isinstance(cell, int) for cell in cells)
    return {
        "sep": sep,
        "decimal": decimal,
        "header": "infer" if has_header else None,
        "keep_default_na": False,
        "na_values": ["", "nan", "NaN"],
        "low_memory": False,
    }


# --- rows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which rows of two tables belong together.

    Attributes:
        old, new: positions of the rows that both have, in the order of the new table.
        gone, added: positions of the others.
        key: the columns by which they were found; none for their position.
    """

    old: Rows
    new: Rows
    gone: Rows
    added: Rows
    key: tuple[str, ...] = ()

    @property
    def are_moved(self) -> bool:
        """Whether rows that both have are in another order."""
        return bool((np.diff(self.old) < 0).any())

    @property
    def are_all(self) -> bool:
        """Whether all rows have stayed where they were."""
        return not len(self.gone) and not len(self.added) and not self.are_moved


class Compared(NamedTuple):
    """A column of both tables, as far as their rows are paired, and which of its cells differ."""

    name: str
    old: Column
    new: Column
    found: Mask


class _Comparison:
    """Two tables, and a rule."""

    def __init__(self, old: Table, new: Table, rule: Rule) -> None:
        self.old, self.new, self.rule = old, new, rule
        self.frames = old.frame, new.frame
        #: Columns that are the same where they are.
        self.same: frozenset[str] = frozenset()
        before, now = ({name: 0 for name in one.columns if not rule.ignores(name)} for one in self.frames)
        self.common = [name for name in before if name in now]
        self.gone = [name for name in before if name not in now]
        self.added = [name for name in now if name not in before]

    def compared(self, pairs: Pairs) -> list[Compared]:
        """Compare the cells of paired rows."""
        rows = None if pairs.are_all else (pairs.old, pairs.new)
        return [self._compared(name, rows) for name in self.common]

    def _compared(self, name: str, rows: tuple[Rows, Rows] | None) -> Compared:
        tables = self.old, self.new
        if rows is None and self._are_equal_texts(name):
            nothing = Column(np.empty(0, object), np.empty(0, bool))
            return Compared(name, nothing, nothing, np.zeros(len(self.old.frame), bool))
        old, new = self._taken([table.column(name) for table in tables], rows)
        found = differing(old, new, self.rule)
        if all(table.texts for table in tables) and self._are_unlike_their_texts(name, old, new, found):
            old, new = self._taken([table.column_of_texts(name) for table in tables], rows)
            found = differing(old, new, self.rule)
        return Compared(name, old, new, found)

    def _are_unlike_their_texts(self, name: str, old: Column, new: Column, found: Mask) -> bool:
        """Return whether pandas read a column of a CSV as another kind because of some of its cells.

        Numbers are text beside a word, perhaps on one side only; integers are floats beside a gap.
        """
        kinds = {old.values.dtype.kind, new.values.dtype.kind}
        if "O" in kinds:
            is_mixed = len(kinds) == 2 or all(table.has_numbers(name) for table in (self.old, self.new))
            return is_mixed and bool(found.any())
        has_gaps = any(one.missing.any() and one.is_whole for one in (old, new))
        differ = (old.values != new.values) & ~(old.missing & new.missing)
        return has_gaps and not self.rule.is_named and bool(differ.any())

    def _are_equal_texts(self, name: str) -> bool:
        """Return whether pandas says so: it has no need of an object for each."""
        old, new = (frame[name] for frame in self.frames)
        return isinstance(old.dtype, pd.StringDtype) and old.equals(new)

    @staticmethod
    def _taken(columns: list[Column], rows: tuple[Rows, Rows] | None) -> tuple[Column, Column]:
        old, new = columns
        return (old.take(rows[0]), new.take(rows[1])) if rows else (old, new)

    def by_position(self) -> Pairs:
        """Pair rows by position. Rows that came or went in one place do not move the others."""
        before, now = map(len, self.frames)
        short = first = min(before, now)
        if before != now:
            same = self._same(np.arange(short), np.arange(short))
            last = self._same(np.arange(before)[::-1][:short], np.arange(now)[::-1][:short])
            # unless all the others are the same, rows are compared one by one
            first = same if same + last >= short else short
        old_end, new_end = before - short + first, now - short + first
        return Pairs(
            np.r_[:first, old_end:before],
            np.r_[:first, new_end:now],
            np.arange(first, old_end),
            np.arange(first, new_end),
        )

    def _same(self, old: Rows, new: Rows) -> int:
        """Return how many of these pairs of rows, from the first on, do not differ."""
        found = np.zeros(len(old), bool)
        for name in self.common:
            if not self._is_counter(name):
                found |= self._compared(name, (old, new)).found
        return int(found.argmax()) if found.any() else len(found)

    def by_key(self, positions: Pairs) -> Pairs | None:
        """Pair rows by key; None if there is none.

        Raises:
            DuctaflowError: the key that is named is none.
        """
        if not (key := self._named_key() or self._obvious_key()):
            return None
        if self.same.issuperset(key):
            return replace(positions, key=tuple(key))
        before, now = (_index(frame, key) for frame in self.frames)
        at = before.get_indexer(now)
        both = at >= 0
        if not self.rule.key and 2 * both.sum() < min(len(before), len(now)):
            # no names, but values that happen to be unique
            return None
        gone = np.ones(len(before), bool)
        gone[at[both]] = False
        return Pairs(at[both], np.flatnonzero(both), np.flatnonzero(gone), np.flatnonzero(~both), tuple(key))

    def _named_key(self) -> list[str]:
        key = list(self.rule.key)
        for table in (self.old, self.new) if key else ():
            where = shown_path(table.path)
            if lacking := [name for name in key if name not in table.frame.columns]:
                raise DuctaflowError(f"{where} has no column {lacking[0]}, which is to be its key")
            if (repeated := table.frame.duplicated(key)).any():
                place = _place(table.frame, int(repeated.to_numpy().argmax()), key)
                raise DuctaflowError(f"the key is not unique: {place} is twice in {where}")
        return key

    def _obvious_key(self) -> list[str]:
        """Return the first columns that name each row of both tables: no floats, nothing missing."""
        names = [name for name in self.common if self._may_be_key(name)]
        if any(map(self._is_counter, self.common)):
            # Rows are numbered, so other integers are more likely what was found.
            names = [name for name in names if not pd.api.types.is_integer_dtype(self.old.frame[name])]
        for count in range(1, min(len(names), _KEY_COLUMNS) + 1):
            key = names[:count]
            if self._is_key(key):
                for name in names[: count - 1]:
                    rest = [other for other in key if other != name]
                    key = rest if self._is_key(rest) else key
                return key
        return []

    def _is_key(self, names: list[str]) -> bool:
        frames = self.frames[:1] if self.same.issuperset(names) else self.frames
        return not any(frame.duplicated(names).any() for frame in frames)

    def _may_be_key(self, name: str) -> bool:
        for one in (frame[name] for frame in self.frames):
            is_named = one.dtype != object or pd.api.types.infer_dtype(one) in _NAMES
            if getattr(one.dtype, "kind", "O") in "fcb" or not is_named or one.isna().any():
                return False
        return not self._is_counter(name)

    def _is_counter(self, name: str) -> bool:
        """Return whether a column only has the numbers of the rows, from 0 or 1."""
        for one in (frame[name] for frame in self.frames):
            if not len(one) or getattr(one.dtype, "kind", "O") not in "iu" or one.isna().any():
                return False
            start = one.iloc[0]
            if start not in (0, 1) or not (one.to_numpy() == np.arange(start, start + len(one))).all():
                return False
        return True

    def numbered(self, pairs: Pairs) -> tuple[str, ...]:
        """Return the column that numbers the rows where they have kept their places: people know `hour 0`."""
        if not np.array_equal(pairs.old, pairs.new):
            return ()
        named = (name for name in self.common if not name.startswith("Unnamed:") and self._is_counter(name))
        return tuple([name for name in named if self.frames[0][name][0] == self.frames[1][name][0]][:1])

    def are_shuffled(self) -> bool:
        """Return whether the new table has exactly the rows of the old one, in another order."""
        if [*self.frames[0][self.common].dtypes] != [*self.frames[1][self.common].dtypes]:
            return False
        try:
            old, new = (
                pd.util.hash_pandas_object(one[self.common], index=False).to_numpy() for one in self.frames
            )
        except TypeError:
            # lists in cells
            return False
        return np.array_equal(np.sort(old), np.sort(new)) and not np.array_equal(old, new)


def _index(frame: pd.DataFrame, key: list[str]) -> pd.Index[Any]:
    return pd.Index(frame[key[0]]) if len(key) == 1 else pd.MultiIndex.from_frame(frame[key])


def _place(frame: pd.DataFrame, row: int, key: Sequence[str]) -> str:
    """Spell the place of a row: by its key, or its number from 1."""
    return ", ".join(f"{name} {shorten(str(frame[name].iloc[row]))}" for name in key) or f"row {row + 1}"


def compare_tables(file: str, old: Table, new: Table, rule: Rule) -> FileDifference | None:
    """Return how two tables differ; None if they do not.

    Columns may be in any order, and rows too where the rule names their key.

    Raises:
        DuctaflowError: the key that the rule names is none.
    """
    both = _Comparison(old, new, rule)
    pairs, moved = both.by_position(), ""
    columns = both.compared(pairs)
    if pairs.are_all:
        both.same = frozenset(one.name for one in columns if not one.found.any())
    if not pairs.are_all or len(both.same) < len(columns):
        keyed = both.by_key(pairs)
        rows = np.logical_or.reduce([one.found for one in columns])
        if keyed and keyed.are_all and pairs.are_all:
            pairs = keyed
        elif keyed and (rule.key or not pairs.are_all or len(keyed.gone) < rows.sum()):
            pairs, columns = keyed, both.compared(keyed)
            moved = f"by {', '.join(pairs.key)}" if pairs.are_moved and not rule.key else ""
        elif pairs.are_all and both.are_shuffled():
            columns, moved = [], "all are there"
    names = pairs.key or both.numbered(pairs)
    tally = Tally(rule)
    for name, a, b, found in columns:
        tally.add(name, a, b, found, lambda at: _place(new.frame, int(pairs.new[at]), names))
    notes = [
        f"columns {word}: {listed([shorten(name, 60) for name in names], _NAMED)}"
        for word, names in (("gone", both.gone), ("added", both.added))
        if names
    ]
    of_columns = len(notes)
    for word, frame, rows in (("gone", old.frame, pairs.gone), ("added", new.frame, pairs.added)):
        if len(rows):
            places = [_place(frame, int(row), names) for row in rows[:_NAMED]]
            named = listed([*places, *[""] * (len(rows) - len(places))], _NAMED)
            notes.append(f"{len(rows):,} row{'s' if len(rows) > 1 else ''} {word}: {named}")
    if moved:
        notes.append(f"rows in another order ({moved})")
    if not notes and not tally.differing:
        return None
    only_added = len(notes) == of_columns and not both.gone
    return tally.difference(file, "table", "cells", notes, only_added)
