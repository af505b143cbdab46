"""What a comparison found: plain data that results keep, and the lines that people read.

value_lines(differences, EXPECTED)    rmse  expected 0.312  found 0.347  +11.2 %  rtol 1e-06
file_lines(difference)                hourly.csv  131 of 35,040 cells, all in load_mw; worst:
                                        hour 4117  old 71.2  new 79.88  +12.2 %
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from ductaflow.common.rules import Rule
from ductaflow.common.text import cut, listed, number, shorten, visible

Scalar: TypeAlias = "bool | int | float | str | None"
#: How a file is read to be compared; `content` is by its bytes.
Format = Literal["json", "table", "array", "text", "picture", "content"]
#: So many of the values of a file that differ are kept, the worst ones.
KEPT = 10
_LONGEST, _SHOWN = 200, 60
#: Numbers that differences have as text.
_NUMBER = re.compile(r"null|NaN|-?inf|-?\d{16,}")


class Words(NamedTuple):
    """What the two sides are called."""

    old: str
    new: str


CHANGED, EXPECTED = Words("old", "new"), Words("expected", "found")


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """One metric, cell, line or value of JSON that differs.

    Attributes:
        name: of the metric; the key path; or the place: `hour 4117`, `[3, 2]`, `line 12`.
        kind: another value, only on one side, or beyond a bound.
        old, new: the values; text where JSON has no such number.
        change: the relative change, if both are numbers.
        limit: the tolerance, or the bound: `rtol 0.001`, `> max 800`.
        column: the column of a table, the name of an array.
    """

    name: str
    kind: Literal["other", "gone", "added", "bound"]
    old: Scalar = None
    new: Scalar = None
    change: float | None = None
    limit: str = ""
    column: str = ""


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """How many values differ in a column, or below a key path with `[*]`, and the worst change."""

    column: str
    differing: int
    change: float | None


@dataclass(frozen=True, slots=True)
class FileDifference:
    """How two versions of a file differ.

    Attributes:
        file: its name.
        format: how it was compared.
        fault: why it was not compared, or not as what its name says.
        unit: what is counted: cells, values, lines.
        notes: what is said of the whole: columns, rows and shapes that are others.
        columns: sums of the columns in which something differs.
        worst: the worst of the values that differ.
        only_added: nothing differs but that the new one has more columns or keys.
        is_settled: it would be the same another time. What was stopped, or lacks a library, may not be.
    """

    file: str
    format: Format
    fault: str = ""
    unit: str = ""
    compared: int = 0
    differing: int = 0
    notes: tuple[str, ...] = ()
    columns: tuple[ColumnDifference, ...] = ()
    worst: tuple[ValueDifference, ...] = ()
    only_added: bool = False
    is_settled: bool = True


def other_value(name: str, old: object, new: object, rule: Rule, *, column: str = "") -> ValueDifference:
    """Return the record of a value that is another one."""
    change = relative_change(old, new)
    is_exact = change is None or (isinstance(old, int) and isinstance(new, int) and not rule.is_named)
    rtol, _ = rule.tolerances
    named = [f"rtol {rtol:g}" if rtol else "", f"atol {rule.atol:g}" if rule.atol else ""]
    limit = "" if is_exact else ", ".join(filter(None, named))
    return ValueDifference(name, "other", plain(old), plain(new), change, limit, column)


def relative_change(old: object, new: object) -> float | None:
    """Return `(new - old) / |old|`; None where that is no finite number, or one of them is no number."""
    numbers = [
        value for value in (old, new) if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if len(numbers) < 2 or not old:
        return None
    try:
        change = float(numbers[1] - numbers[0]) / abs(float(numbers[0]))
    except OverflowError:
        # integers too large for a float
        return None
    return change if math.isfinite(change) else None


def plain(value: object) -> Scalar:
    """Return a value as every reader of JSON keeps it; what they do not keep is text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 53:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value).replace("nan", "NaN")
    text = (
        json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    )
    return cut(text, _LONGEST)


# --- as people read it -------------------------------------------------------------------------------------


def _line(text: str) -> str:
    """Spell a name, visible and on one line."""
    return visible(text).replace("\n", "\\n")


def spelled_value(value: Scalar, other: Scalar) -> str:
    """Spell a value; a number in six digits, or in as many as tell it from the other one."""
    if isinstance(value, str):
        quoted = visible(json.dumps(shorten(value, _SHOWN), ensure_ascii=False))
        return value if _NUMBER.fullmatch(value) else quoted
    return repr(value) if repr(value) != repr(other) and number(value) == number(other) else number(value)


def spelled_change(change: float | None) -> str:
    """Spell a relative change: `+11.2 %`; empty if there is none."""
    return f"{100 * change:+.3g} %" if change else ""


def value_lines(differences: Sequence[ValueDifference], words: Words = CHANGED) -> Iterator[str]:
    """Yield a line for each value that differs, with the names aligned."""
    names = [
        shorten(_line(", ".join(filter(None, (one.name, one.column)))), 2 * _SHOWN) for one in differences
    ]
    width = max(map(len, names), default=0)
    for name, one in zip(names, differences, strict=True):
        old = f"{words.old} {spelled_value(one.old, one.new)}"
        new = f"{words.new} {spelled_value(one.new, one.old)}"
        parts = {
            "other": (old, new, spelled_change(one.change), one.limit),
            "gone": (old, "gone"),
            "added": (new, "added"),
            "bound": (f"{new if one.new is not None else f'{words.new} nothing'} {one.limit}",),
        }[one.kind]
        yield "  ".join([f"{name:<{width}}", *filter(None, parts)])


def file_lines(one: FileDifference, words: Words = CHANGED, *, most: int = KEPT) -> Iterator[str]:
    """Yield what differs in a file: a line for the whole, and indented ones for at most so many parts."""
    parts = [one.fault] if one.fault else []
    names = [shorten(_line(column.column), _SHOWN) for column in one.columns]
    if one.differing:
        counts = (
            f"{name} {column.differing:,}{f' ({spelled_change(column.change)})' if column.change else ''}"
            for name, column in zip(names, one.columns, strict=True)
        )
        where = f", all in {names[0]}" if len(names) == 1 else f": {listed([*counts], 3)}" if names else ""
        parts.append(f"{one.differing:,} of {one.compared:,} {one.unit}{where}")
    elif not one.fault and not one.notes:
        parts.append("other content")
    shown = one.worst[:most]
    if shown and len(shown) < one.differing:
        parts.append("worst:")
    yield "  ".join(filter(None, [_line(one.file), "; ".join(parts)]))
    yield from (f"  {_line(note)}" for note in one.notes)
    # one column is named above
    shown = tuple(replace(cell, column="") for cell in shown) if len(names) == 1 else shown
    lines = _text_lines(shown) if one.format == "text" else value_lines(shown, words)
    yield from (f"  {line}" for line in lines)


def _text_lines(differences: Sequence[ValueDifference]) -> Iterator[str]:
    """Yield lines of text as diffs show them: `-` for the old ones, `+` for the new ones."""
    width = max((len(one.name) for one in differences), default=0)
    for one in differences:
        sides = [("-", one.old), ("+", one.new)]
        for place, (sign, text) in enumerate(side for side in sides if side[1] is not None):
            yield f"{'' if place else one.name:<{width}}  {sign} {visible(str(text))}"
