"""Columns of cells compared, all at once by numpy; arrays of `.npy` and `.npz`, pixels of pictures."""

from __future__ import annotations

import functools
import heapq
import operator
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ductaflow.common.rules import Rule
from ductaflow.common.text import listed, size, visible
from ductaflow.comparison.difference import (
    KEPT,
    ColumnDifference,
    FileDifference,
    Format,
    ValueDifference,
    other_value,
    relative_change,
)
from ductaflow.comparison.scalars import EXACT, is_same

Values = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
#: Kinds of numpy's numbers: signed, unsigned, real, complex.
_NUMBERS, _WHOLE = frozenset("iufc"), frozenset("iu")
#: Of these, what is equal for Python is the same.
_PLAIN = frozenset((str, int, float, bytes, type(None)))
#: What is below this part of the largest value of a column is noise when the worst cell is looked for.
_NOISE = 1e-6
#: A `.npz` that unpacks to more bytes is not read.
_LARGEST = 2_000_000_000


class Column(NamedTuple):
    """The cells of a column, and which of them hold nothing, NaN included."""

    values: Values
    missing: Mask

    def take(self, rows: Rows) -> Column:
        """Return some of the cells."""
        return Column(self.values[rows], self.missing[rows])

    @property
    def is_whole(self) -> bool:
        """Whether it has whole numbers only, whatever their type."""
        known = self.values[~self.missing]
        return known.dtype.kind in "iuf" and bool((np.isfinite(known) & (known == np.floor(known))).all())

    def cell(self, row: int) -> object:
        """Return the value of a cell as one of Python's; moments and durations as text."""
        if self.missing[row]:
            return None
        value = self.values[row]
        match self.values.dtype.kind:
            case "M":
                return re.sub(r"\.0+$", "", str(value))
            case "m":
                return str(value.astype("m8[us]").item())
        return getattr(value, "tolist", lambda: value)()


def differing(old: Column, new: Column, rule: Rule) -> Mask:
    """Return which cells differ by a rule."""
    a, b = old.values, new.values
    kinds = {a.dtype.kind, b.dtype.kind}
    if kinds in ({"b"}, {"m"}, {"M"}):
        found: Mask = np.asarray(a != b)
    elif kinds <= _NUMBERS and not (kinds & _WHOLE and _need_integers(old, new, rule)):
        found = np.asarray(a != b)
        if found.any() and not (kinds <= _WHOLE and not rule.is_named):
            at = np.flatnonzero(found)
            wide = np.result_type(a.dtype, b.dtype, np.float64)
            with np.errstate(all="ignore"):
                close = np.isclose(b[at].astype(wide), a[at].astype(wide), *rule.tolerances)
            found[at[close]] = False
    else:
        found = _objects_differ(a, b, old.missing | new.missing, rule)
    found &= ~(old.missing & new.missing)
    found |= old.missing != new.missing
    return found


def _need_integers(old: Column, new: Column, rule: Rule) -> bool:
    """Return whether floats would be needed for integers that they do not tell apart."""
    if old.values.dtype == new.values.dtype and not rule.is_named:
        return False
    known = (column.values[~column.missing] for column in (old, new))
    return any(
        one.dtype.kind in "iu" and len(one) > 0 and (one.max() >= EXACT or one.min() <= -EXACT)
        for one in known
    )


def _objects_differ(a: Values, b: Values, missing: Mask, rule: Rule) -> Mask:
    old, new = (values.astype(object).tolist() for values in (a, b))
    found = ~missing
    if {*map(type, old), *map(type, new)} <= _PLAIN:
        found &= np.fromiter(map(operator.ne, old, new), bool, len(old))
    at = np.flatnonzero(found)
    found[at] = [not is_same(old[row], new[row], rule) for row in at.tolist()]
    return found


@dataclass(slots=True)
class Tally:
    """Counts the cells that differ, column by column, and keeps the worst."""

    rule: Rule
    compared: int = 0
    differing: int = 0
    _columns: list[tuple[float, ColumnDifference]] = field(default_factory=list)
    _worst: list[tuple[float, int, ValueDifference]] = field(default_factory=list)

    def add(self, name: str, old: Column, new: Column, found: Mask, place: Callable[[int], str]) -> None:
        """Take in a column with what of it differs; `place` spells where a cell is."""
        self.compared += len(found)
        at = np.flatnonzero(found)
        if not len(at):
            return
        self.differing += len(at)
        ranks = _ranks(old, new, at)
        worst = np.argsort(-ranks, kind="stable")[:KEPT].tolist()
        cells = [
            other_value(place(row), old.cell(row), new.cell(row), self.rule, column=name)
            for row in at[worst].tolist()
        ]
        self._columns.append((float(ranks[worst[0]]), ColumnDifference(name, len(at), cells[0].change)))
        ranked = (
            (float(ranks[one]), -len(self._columns), cell) for one, cell in zip(worst, cells, strict=True)
        )
        self._worst = heapq.nlargest(KEPT, [*self._worst, *ranked], key=operator.itemgetter(0, 1))

    def difference(
        self, file: str, format: Format, unit: str, notes: list[str], only_added: bool
    ) -> FileDifference:
        """Return the difference of the whole."""
        columns = sorted(self._columns, key=lambda one: -one[0])
        return FileDifference(
            file,
            format,
            unit=unit,
            compared=self.compared,
            differing=self.differing,
            notes=tuple(map(visible, notes)),
            columns=tuple(column for _, column in columns if column.column),
            worst=tuple(cell for *_, cell in self._worst),
            only_added=only_added and not self.differing,
        )


def _ranks(old: Column, new: Column, at: Rows) -> npt.NDArray[np.float64]:
    """Return how bad differing cells are: by relative difference; no number against one is the worst."""
    a, b = old.values[at], new.values[at]
    if not {a.dtype.kind, b.dtype.kind} <= _NUMBERS:
        changes = (relative_change(old.cell(row), new.cell(row)) for row in at.tolist())
        return np.array([np.inf if change is None else abs(change) for change in changes])
    wide = np.result_type(a.dtype, b.dtype, np.float64)
    with np.errstate(all="ignore"):
        sizes = np.abs(old.values.astype(wide))
        largest = np.max(sizes, where=np.isfinite(sizes), initial=0.0)
        ranks = np.abs(b.astype(wide) - a.astype(wide)) / np.maximum(sizes[at], largest * _NOISE)
    return np.where(np.isnan(ranks) | old.missing[at] | new.missing[at], np.inf, ranks).astype(np.float64)


# --- arrays ------------------------------------------------------------------------------------------------


def read_arrays(path: Path) -> dict[str, Values]:
    """Read the arrays of a `.npz` by name; the one array of a `.npy` has an empty name. Pickles are refused.

    Raises:
        ValueError: it is none, needs pickle, or is too large; numpy raises errors of other classes too.
    """
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _LARGEST:
            raise ValueError(f"it unpacks to {size(unpacked)}, more than {size(_LARGEST)}")
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return {"": found}
    with found:
        return {name: found[name] for name in found.files}


def read_pixels(path: Path) -> dict[str, Values]:
    """Read the pixels of a picture, of each of its frames; what has more than eight bits keeps them."""
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
        frames = [
            np.asarray(frame if frame.mode[0] in "IF" else frame.convert("RGBA"))
            for frame in ImageSequence.Iterator(picture)
        ]
    return {"" if len(frames) == 1 else f"frame {number}": pixels for number, pixels in enumerate(frames, 1)}


def compare_arrays(
    file: str, old: Mapping[str, Values], new: Mapping[str, Values], rule: Rule, format: Format = "array"
) -> FileDifference | None:
    """Return how two sets of arrays differ, or the frames of two pictures; None if they do not."""
    before, now = ({name: 0 for name in some if not rule.ignores(name)} for some in (old, new))
    sides = {"gone": before.keys() - now.keys(), "added": now.keys() - before.keys()}
    notes = [f"arrays {word}: {listed(sorted(names), None)}" for word, names in sides.items() if names]
    tally = Tally(rule)
    is_other = bool(sides["gone"])
    for name in (name for name in before if name in now):
        a, b = old[name], new[name]
        if a.shape != b.shape:
            is_other = True
            notes.append(f"shape{f' of {name}' if name else ''} {a.shape} -> {b.shape}")
            continue
        x, y = (Column(one.reshape(-1), _missing(one.reshape(-1))) for one in (a, b))
        tally.add(name, x, y, differing(x, y, rule), functools.partial(_place, a.shape))
    if not notes and not tally.differing:
        return None
    unit = "cells" if format == "array" else "channels of pixels"
    return tally.difference(file, format, unit, notes, only_added=not is_other)


def _place(shape: tuple[int, ...], at: int) -> str:
    """Spell the place of a cell by its position in the flattened array."""
    return str([*map(int, np.unravel_index(at, shape))])


def _missing(values: Values) -> Mask:
    kind = values.dtype.kind
    return (
        np.isnan(values)
        if kind in "fc"
        else np.isnat(values)
        if kind in "mM"
        else np.zeros(len(values), bool)
    )
