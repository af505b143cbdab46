"""Single values compared: metrics, and the values of JSON by key path. Imports neither pandas nor numpy.

The rule is that of `numpy.isclose`, with the expected value as its second argument.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeGuard, TypeVar

from ductaflow.common.json_tree import MAX_LEVELS, KeyPath, spelled, walk
from ductaflow.common.rules import Rule
from ductaflow.comparison.difference import (
    KEPT,
    ColumnDifference,
    FileDifference,
    Scalar,
    ValueDifference,
    other_value,
    plain,
    relative_change,
)

K = TypeVar("K")
#: Most values are one of these.
_PLAIN = frozenset((str, int, float, bool))
#: Beyond it a float does not tell one integer from the next.
EXACT = 1 << 53


def compare_values(
    old: Mapping[str, Scalar], new: Mapping[str, Scalar], rule_of: Callable[[str], Rule]
) -> list[ValueDifference]:
    """Return which metrics differ, in the order of the old ones, then those that only the new side has.

    Args:
        old: the metrics by name, or the expected ones.
        new: the others.
        rule_of: returns the rule for a name. Its bounds are for the new value.
    """
    found = [one.recorded(one.key, rule_of(one.key)) for one in _differences(old, new, rule_of)]
    return [*found, *filter(None, (beyond_bounds(name, new[name], rule_of(name)) for name in new))]


class _Found(NamedTuple, Generic[K]):
    """What differs, before it is put into a record: there may be millions."""

    key: K
    kind: Literal["other", "gone", "added"]
    old: object
    new: object

    def recorded(self, name: str, rule: Rule) -> ValueDifference:
        if self.kind == "other":
            return other_value(name, self.old, self.new, rule)
        return ValueDifference(name, self.kind, plain(self.old), plain(self.new))


def _differences(
    old: Mapping[K, object], new: Mapping[K, object], rule_of: Callable[[K], Rule]
) -> Iterator[_Found[K]]:
    for key, value in old.items():
        if key not in new:
            yield _Found(key, "gone", value, None)
        elif not is_same(value, new[key], rule_of(key)):
            yield _Found(key, "other", value, new[key])
    for key in new:
        if key not in old:
            yield _Found(key, "added", None, new[key])


def beyond_bounds(name: str, value: Scalar, rule: Rule) -> ValueDifference | None:
    """Return how a metric is beyond the bounds of its rule; None if it is within them.

    What is no number, NaN included, is within no bound.
    """
    limits = {"min": rule.min, "max": rule.max}
    for word, bound in limits.items():
        if bound is None:
            continue
        if not _is_number(value) or _is_missing(value):
            # there it is, unlike a metric that no run has said
            new = "NaN" if value is None else plain(value)
            return ValueDifference(name, "bound", None, new, limit=f"is no number, {word} {bound:g}")
        if value < bound if word == "min" else value > bound:
            sign = "<" if word == "min" else ">"
            return ValueDifference(name, "bound", None, plain(value), limit=f"{sign} {word} {bound:g}")
    return None


# --- one value ---------------------------------------------------------------------------------------------


def is_same(old: object, new: object, rule: Rule) -> bool:
    """Return whether two values are the same by a rule; lists and objects by all that they hold.

    >>> is_same(1, 1.0, Rule()), is_same(1, 2, Rule()), is_same(True, 1, Rule())
    (True, False, False)
    """
    if type(old) is type(new) in _PLAIN and old == new:
        return True
    # a cell of a table may be a scalar or an array of numpy
    old, new = (value.tolist() if hasattr(value, "tolist") else value for value in (old, new))
    if _is_missing(old) or _is_missing(new):
        return _is_missing(old) and _is_missing(new)
    if _is_number(old) and _is_number(new):
        return _is_close(old, new, rule)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(map(is_same, old, new, [rule] * len(old)))
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(is_same(old[key], new[key], rule) for key in old)
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _is_number(value: object) -> TypeGuard[int | float | Decimal]:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def _is_close(old: int | float | Decimal, new: int | float | Decimal, rule: Rule) -> bool:
    # integers may be too large for a float, and are always finite
    is_finite = all(isinstance(number, int) or math.isfinite(number) for number in (old, new))
    are_whole = isinstance(old, int) and isinstance(new, int)
    if old == new or not is_finite or (are_whole and not rule.is_named):
        return old == new
    rtol, atol = rule.tolerances
    if isinstance(old, float) and isinstance(new, float):
        return abs(new - old) <= atol + rtol * abs(old)
    a, b = Fraction(old), Fraction(new)
    return abs(b - a) <= Fraction(atol) + Fraction(rtol) * abs(a)


# --- JSON --------------------------------------------------------------------------------------------------


def read_values(path: Path, rule: Rule) -> dict[KeyPath, object]:
    """Read a file of JSON, or of one value a line (`.jsonl`), as values by key path. NaN is a number in it.

    Of an object it has that it is one, of a list besides its length.

    Raises:
        ValueError: it is none; a key is twice in an object; a number is too large; it is nested too deeply.
        RecursionError: it is nested far too deeply.
    """
    text = path.read_bytes().decode("utf-8-sig")
    lines = [text] if path.suffix.lower() not in (".jsonl", ".ndjson") else None
    values = [
        json.loads(line, object_pairs_hook=unique_object, parse_float=_in_range)
        for line in lines or text.split("\n")
        if lines or line.strip()
    ]
    found: dict[KeyPath, object] = {}
    for keys, value, is_open in walk(values[0] if lines else values):
        if rule.ignore and rule.ignores(spelled(keys), below=True):
            continue
        if not is_open and isinstance(value, list | dict):
            raise ValueError(f"it is nested deeper than {MAX_LEVELS} levels")
        match value:
            case dict():
                found[keys] = "an object"
            case list():
                found[keys] = f"a list of {len(value)}"
            case _:
                found[keys] = value
    return found


def unique_object(pairs: list[tuple[str, K]]) -> dict[str, K]:
    """Make an object of JSON of its keys and values.

    Raises:
        ValueError: a key is twice in it.
    """
    made: dict[str, K] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {json.dumps(key)} is twice in one object")
        made[key] = value
    return made


def _in_range(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


def compare_json(
    file: str, old: Mapping[KeyPath, object], new: Mapping[KeyPath, object], rule: Rule
) -> FileDifference | None:
    """Return how the values of two files of JSON differ; None if they do not."""
    found = list(_differences(old, new, lambda _: rule))
    if not found:
        return None
    changes = [relative_change(one.old, one.new) for one in found]
    sums: dict[KeyPath, tuple[int, float]] = {}
    for one, change in zip(found, changes, strict=True) if len(found) > KEPT else ():
        path = tuple("*" if isinstance(key, int) else key for key in one.key)
        count, largest = sums.get(path, (0, 0.0))
        sums[path] = count + 1, max(largest, change or 0.0, key=abs)
    # what has no relative change is the worst, then what comes first in the file
    worst = heapq.nsmallest(KEPT, range(len(found)), key=lambda at: -abs(changes[at] or math.inf))
    return FileDifference(
        file,
        "json",
        unit="values",
        compared=len(old.keys() | new.keys()),
        differing=len(found),
        columns=tuple(
            ColumnDifference(spelled(path).replace('["*"]', "[*]"), count, change or None)
            for path, (count, change) in sums.items()
        ),
        worst=tuple(found[at].recorded(spelled(found[at].key) or "the whole", rule) for at in worst),
        only_added=all(one.kind == "added" for one in found),
    )
