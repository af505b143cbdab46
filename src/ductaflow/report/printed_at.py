"""The line of a flow's source that printed a line of its log, by the text that is fixed there.

    print(f"Warning: {count} gaps in {region}")     source, line 20
    Warning: 3 gaps in EU                           log -> 20, "Warning: … gaps in …"

What is not clear has no line: a text that two lines may have printed, or that has no literal in it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ductaflow.common.text import strip_ansi

#: Letters and digits that a literal has at least, besides the word that makes a line a warning.
_ENOUGH = 3
_MAX_SOURCE, _MAX_LITERAL = 2_000_000, 2_000
#: Where `%` and `format` put a value.
_PLACE = re.compile(r"%[-+ #0]*[\d*]*(?:\.\d+)?[a-zA-Z%]|\{[^{}]*\}")
_WARNING = re.compile("warning", re.IGNORECASE)


class Literal(NamedTuple):
    """One line of a text in the source.

    Attributes:
        line: where it is, from 1.
        shown: the text, `…` in place of values.
        parts: what is fixed in it.
        weight: how much that is.
    """

    line: int
    shown: str
    parts: tuple[str, ...]
    weight: int

    def is_in(self, text: str) -> bool:
        """Whether the parts stand in a text, one behind the other."""
        end = 0
        for part in self.parts:
            place = text.find(part, end)
            if place < 0:
                return False
            end = place + len(part)
        return True


class PrintedAt:
    """The literals of a source, to be found in its output.

    Args:
        source: a flow; of other than Python sources nothing is found.
    """

    def __init__(self, source: Path) -> None:
        self._literals = [*_literals(source)]

    def find(self, text: str) -> Literal | None:
        """Return what printed a line of the log; None if that is not clear."""
        shown = strip_ansi(text)
        found = [one for one in self._literals if one.is_in(shown)]
        most = max((one.weight for one in found), default=0)
        best = [one for one in found if one.weight == most]
        return best[0] if len({one.line for one in best}) == 1 else None


def _literals(source: Path) -> Iterator[Literal]:
    try:
        if source.suffix != ".py" or source.stat().st_size > _MAX_SOURCE:
            return
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        # A source that cannot be read or parsed has another error to show.
        return
    # Docstrings print nothing, and parts of an f-string are no texts by themselves.
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [_fixed(part) for part in node.values]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = [*_around(node.value[:_MAX_LITERAL])]
        else:
            continue
        yield from _of_lines(node.lineno, parts)


def _fixed(part: ast.expr) -> str | None:
    """Return the text of a part of an f-string; None for a value."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return part.value[:_MAX_LITERAL]
    return None


def _around(text: str) -> Iterator[str | None]:
    """Yield what is fixed in a text for `%` or `format`, None between."""
    for place, piece in enumerate(_PLACE.split(text)):
        if place:
            yield None
        yield piece


def _of_lines(number: int, parts: list[str | None]) -> Iterator[Literal]:
    """Yield a literal for each line that parts print."""
    lines: list[list[str | None]] = [[]]
    for part in parts:
        first, *others = ("",) if part is None else part.split("\n")
        lines[-1].append(None if part is None else first)
        lines += [[other] for other in others]
    for line in lines:
        fixed = [piece.strip() for piece in line if piece and piece.strip()]
        letters = "".join(fixed)
        if sum(map(str.isalnum, _WARNING.sub("", letters))) >= _ENOUGH:
            shown = "".join("…" if piece is None else piece for piece in line).strip()
            yield Literal(number, shown, tuple(fixed), sum(map(str.isalnum, letters)))
