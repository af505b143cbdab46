"""What `ductaflow diff` says, of one pair everything, of many what moved most; and `ductaflow accept`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

from ductaflow.common.text import clean, first_line, listed, markdown_row
from ductaflow.comparison.difference import (
    ValueDifference,
    file_lines,
    spelled_change,
    spelled_value,
    value_lines,
)
from ductaflow.session.accept import Accepted
from ductaflow.session.diff import Diff

#: So many values are shown of many instances, and so many cells of each file of a pair in Markdown.
_MOVED, _CELLS = 20, 3
_NAMED = 10


def as_json(diffs: Sequence[Diff], left_out: Sequence[str]) -> str:
    """All that differs, as data."""
    found = {"diffs": [{"is_alike": one.is_alike, **asdict(one)} for one in diffs], "left_out": [*left_out]}
    return json.dumps(found, indent=2, ensure_ascii=False)


def diff_lines(diff: Diff) -> Iterator[str]:
    """What differs between two versions, part by part."""
    if diff.is_alike:
        yield f"{diff.old} and {diff.new} are alike: {_compared(diff)}"
        return
    yield f"{diff.old} -> {diff.new}"
    yield from (f"  {first_line(note, None)}" for note in diff.notes)
    if diff.config:
        yield "config"
        yield from _indented(value_lines(diff.config))
    if diff.code:
        yield from file_lines(diff.code)
    if diff.metrics:
        yield f"metrics  {len(diff.metrics)} of {diff.compared['metrics']} differ"
        yield from _indented(value_lines(diff.metrics))
    for one in diff.files:
        yield from file_lines(one)
    for word, names in ((diff.old, diff.gone), (diff.new, diff.added)):
        if names:
            yield f"only in {word}: {clean(listed(names, _NAMED))}"
    if not diff.notes:
        yield f"compared: {_compared(diff)}"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _compared(diff: Diff) -> str:
    parts = [f"{count} {word if count != 1 else word[:-1]}" for word, count in diff.compared.items()]
    beside = f"; not judged: {diff.beside} more" if diff.beside else ""
    return f"{', '.join(parts)}{beside}"


def _results(diff: Diff) -> Iterator[ValueDifference]:
    """The metrics that differ, and the worst cell of each file, with the instance as their name."""
    yield from (replace(one, name=diff.new, column=one.name) for one in diff.metrics)
    for one in diff.files:
        for cell in one.worst[:1]:
            place = " ".join(filter(None, (one.file, cell.name, cell.column)))
            yield replace(cell, name=diff.new, column=place)


def moved_lines(diffs: Sequence[Diff], left_out: Sequence[str]) -> Iterator[str]:
    """What moved most over many instances, the largest relative change first."""
    others = [diff for diff in diffs if diff.has_differences]
    yield f"{len(others)} of {len(diffs)} instances differ"
    found = [one for diff in others for one in _results(diff)]
    found.sort(key=_moved, reverse=True)
    yield from _indented(value_lines(found[:_MOVED]))
    if found[_MOVED:]:
        yield f"  and {len(found) - _MOVED} more; of one instance all: ductaflow diff {others[0].new}"
    for word, parts in (
        ("config", [diff.new for diff in others if diff.config]),
        ("code", [diff.new for diff in others if diff.code]),
        ("files on one side only", [diff.new for diff in others if diff.gone or diff.added]),
    ):
        if parts:
            yield f"{word} in {len(parts)}: {listed(parts, _NAMED)}"
    whole = ((diff.new, one) for diff in others for one in diff.files if not one.worst)
    texts = [
        *(f"{name}: {' '.join(' '.join(file_lines(one)).split())}" for name, one in whole),
        *(first_line(note, None) for diff in diffs for note in diff.notes),
        *(f"left out: {first_line(text, None)}" for text in left_out),
    ]
    yield from texts[:_MOVED]
    if texts[_MOVED:]:
        yield f"and {len(texts) - _MOVED} more such lines; --format json has all"


def markdown(diffs: Sequence[Diff], left_out: Sequence[str]) -> Iterator[str]:
    """A table with all of them, for a comment or a page."""
    rows = [("", "what", "old", "new", "change"), ("---", "---", "---:", "---:", "---:")]
    for diff in diffs:
        for one in (*diff.config, *(diff.code.worst if diff.code else ()), *diff.metrics):
            rows.append((diff.new, *_cells(one)))
        for file in diff.files:
            rows.append((diff.new, next(file_lines(file)), "", "", ""))
            rows += [(diff.new, *_cells(cell)) for cell in file.worst[:_CELLS]]
        rows += [(diff.new, f"only in {diff.old}: {name}", "", "", "") for name in diff.gone]
        rows += [(diff.new, f"only in {diff.new}: {name}", "", "", "") for name in diff.added]
    if rows[2:]:
        yield from map(markdown_row, rows)
        yield ""
    yield from (
        f"- {first_line(text, None)}" for text in (*(n for diff in diffs for n in diff.notes), *left_out)
    )
    yield f"{sum(diff.has_differences for diff in diffs)} of {len(diffs)} differ"


def acceptance_lines(done: Sequence[Accepted], *, dry_run: bool, are_all: bool = True) -> Iterator[str]:
    """What was accepted; in a dry run as a table of Markdown, the largest relative change first.

    Unless these `are_all`, because others were refused, it is not said that there is nothing to accept.
    """
    values = [(one.id, file, value) for one in done for file, value in one.values]
    if dry_run and values:
        yield markdown_row(("", "file", "what", "expected", "found", "change"))
        yield "|---|---|---|---:|---:|---:|"
        for id, file, value in sorted(values, key=lambda row: _moved(row[2]), reverse=True):
            yield markdown_row((id, file, *_cells(value)))
    for one in done:
        yield from (f"{one.id}: {clean(note)}" for note in one.notes) if dry_run else one.lines
    if are_all and not any(one.writes for one in done):
        yield "Nothing to accept."


def _moved(one: ValueDifference) -> float:
    """How far a value moved: from 0, and to or from no number, infinitely far; a word does not move."""
    if one.change is not None:
        return abs(one.change)
    return math.inf if any(type(value) in (int, float) for value in (one.old, one.new)) else 0.0


def _cells(one: ValueDifference) -> tuple[str, str, str, str]:
    old, new = (spelled_value(one.old, one.new), spelled_value(one.new, one.old))
    name = ", ".join(filter(None, (one.name, one.column)))
    return (
        name,
        "" if one.kind == "added" else old,
        "" if one.kind == "gone" else new,
        spelled_change(one.change),
    )
