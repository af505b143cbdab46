"""New values written so that old ones within tolerance keep their text: a diff shows what differs.

    old = read_written('{"rmse": 0.3100, "n": 4}')
    spelled_json(updated(old, {"rmse": 0.31000001, "n": 5}, Rule()))     {"rmse": 0.3100, "n": 5}

JSON is written one key a line and sorted, numbers as they were written.
"""

from __future__ import annotations

import json
import re
from itertools import starmap
from typing import TypeAlias

from ductaflow.common.json_tree import KeyPath, spelled
from ductaflow.common.rules import Rule
from ductaflow.comparison.scalars import is_same, unique_object


class WrittenNumber(str):
    """A number of JSON as it is written."""


#: JSON whose numbers may be written ones.
Written: TypeAlias = "bool | int | float | str | list[Written] | dict[str, Written] | None"
_CELL = re.compile(r"([+-]?\d+)|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_written(text: str) -> Written:
    """Read JSON with its numbers as they are written.

    Raises:
        ValueError: it is none, or a key is twice in an object.
        RecursionError: it is nested too deeply.
    """
    found: Written = json.loads(
        text,
        object_pairs_hook=unique_object,
        parse_int=WrittenNumber,
        parse_float=WrittenNumber,
        parse_constant=WrittenNumber,
    )
    return found


def plain_value(value: Written) -> object:
    """Return a written number as a number, everything else as it is."""
    return json.loads(value) if isinstance(value, WrittenNumber) else value


def updated(
    old: Written,
    new: Written,
    rule: Rule,
    *,
    with_added: bool = False,
    without_gone: bool = False,
    at: KeyPath = (),
) -> Written:
    """Return new values, with what is the same by a rule, or ignored, as the old ones have it.

    Args:
        old, new: the values.
        rule: when two of them are the same.
        with_added: take keys of objects that only the new ones have.
        without_gone: leave out those that only the old ones have.
        at: where they are in the whole.
    """
    if at and rule.ignore and rule.ignores(spelled(at), below=True):
        return old

    def below(key: str | int, one: Written, other: Written) -> Written:
        return updated(one, other, rule, with_added=with_added, without_gone=without_gone, at=(*at, key))

    if isinstance(old, dict) and isinstance(new, dict):
        kept = {key: value for key, value in old.items() if key in new or not without_gone}
        made = {key: below(key, value, new[key]) if key in new else value for key, value in kept.items()}
        return {**({key: value for key, value in new.items() if with_added}), **made}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return list(starmap(below, zip(range(len(old)), old, new, strict=True)))
    if isinstance(old, list | dict) or isinstance(new, list | dict):
        return new
    return old if is_same(plain_value(old), plain_value(new), rule) else new


def spelled_json(value: Written, indent: str = "\n") -> str:
    """Spell JSON, one key and one entry a line, sorted by keys."""
    below = f"{indent} "
    if isinstance(value, dict) and value:
        lines = (
            f"{json.dumps(key, ensure_ascii=False)}: {spelled_json(value[key], below)}"
            for key in sorted(value)
        )
        return f"{{{below}{f',{below}'.join(lines)}{indent}}}"
    if isinstance(value, list) and value:
        return f"[{below}{f',{below}'.join(spelled_json(one, below) for one in value)}{indent}]"
    return value if isinstance(value, WrittenNumber) else json.dumps(value, ensure_ascii=False)


def separator_of(name: str, head: str) -> str:
    """Return what is between the cells of a CSV or TSV, by its name and its first line.

    >>> separator_of("a.csv", 'hour;"load, MW"'), separator_of("a.tsv.gz", "hour,min")
    (';', '\\t')
    """
    is_tsv = re.search(r"\.(tsv|tab)\b", name.lower())
    return "\t" if is_tsv else max(",;\t|", key=re.sub(r'"[^"]*"', "", head).count)


def updated_table(name: str, old: str, new: str, rule: Rule) -> str:
    """Return the text of a new CSV or TSV, with cells that are the same by a rule as the old one has them.

    Rows are taken by position: a cell keeps its old text only where that is the same as the new value there.
    """
    before, after = old.split("\n"), new.split("\n")
    # Cells in quotes may have separators and lines in them.
    if before[0] != after[0] or '"' in old + new or "\r" in old + new:
        return new
    separator = separator_of(name, after[0])
    columns = after[0].split(separator)
    for at, (old_line, new_line) in enumerate(zip(before, after, strict=False)):
        rows = [line.split(separator) for line in (old_line, new_line)]
        if old_line != new_line and {len(columns)} == {*map(len, rows)}:
            after[at] = separator.join(
                one
                if rule.ignores(name) or (name not in rule.key and _is_same_cell(one, other, rule))
                else other
                for name, one, other in zip(columns, *rows, strict=True)
            )
    return "\n".join(after)


def _is_same_cell(old: str, new: str, rule: Rule) -> bool:
    a, b = _CELL.fullmatch(old), _CELL.fullmatch(new)
    if not a or not b:
        return old == new
    before, after = (int(cell[0]) if cell[1] else float(cell[0]) for cell in (a, b))
    return is_same(before, after, rule)
