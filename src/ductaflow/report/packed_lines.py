"""The lines of a page or a twin, one an instance: kept small, and joined as far as nothing is new.

A page of thousands of instances is written again and again while a session runs, and most of it is as it was.
So lines are packed in blocks, in the order of the page, together with what came of their instances before.
A block in which some still wait for their results keeps the new lines beside it, until all are there.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ductaflow.report.past import Past

#: Lines of a block. More of them are packed better, and take longer when one of them changes.
BLOCK = 100
#: Characters of lines that are not packed yet: results mostly come in the order of the page, and are packed
#: with those beside them before there are so many.
LOOSE = 2_000_000
_KEY = ',"past":'
#: As `Past.text` has it, behind all other keys of an instance. A key of its own has a space before it, or
#: stands in a row, which has no other one that is called so.
_TOLD = re.compile(_KEY + r"""\["[^"]*",\[[^"\]]*\]\]}""")


def with_past(text: str, past: str) -> str:
    """Add to an instance in JSON what came of it before, also in JSON; empty if nothing is known."""
    return f"{text[:-1]}{_KEY}{past}}}" if past else text


@dataclass(slots=True)
class _Block:
    """Some lines that follow one another.

    Attributes:
        ids: of the instances, each a line.
        joined: the lines of the first `count` of them, packed, with what `past` told when they were joined.
        news: lines that are not joined, by id, without a past and perhaps packed; of these ids the joined
            ones are outdated.
        awaited: ids that wait for a result.
    """

    ids: list[str] = field(default_factory=list)
    joined: bytes = b""
    count: int = 0
    past: Past | None = None
    news: dict[str, str | bytes] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)

    def lines(self, past: Past) -> list[str]:
        """Return the lines with a past; an instance that has no line yet is left out."""
        joined = _unpacked(self.joined).split("\n") if self.count else []
        if not self.news and self.past is past:
            return joined
        found = dict(zip(self.ids, joined, strict=False))
        if self.past is not past:
            found = {id: with_past(self._bare(line), past.text(id)) for id, line in found.items()}
        for id, line in self.news.items():
            found[id] = with_past(line if isinstance(line, str) else _unpacked(line), past.text(id))
        return [found[id] for id in self.ids if id in found]

    def text(self, past: Past) -> str:
        """Return the lines with commas between them."""
        if not self.news and self.past is past:
            return _unpacked(self.joined).replace("\n", ",\n")
        return ",\n".join(self.lines(past))

    def _bare(self, line: str) -> str:
        place = line.rfind(_KEY) if self.past and self.past.is_known else -1
        return line[:place] + "}" if place >= 0 and _TOLD.fullmatch(line, place) else line

    @property
    def is_full(self) -> bool:
        """Whether each instance has a line."""
        return {*self.ids[: self.count], *self.news}.issuperset(self.ids)

    def join(self, past: Past) -> None:
        """Join all lines; each instance has one."""
        lines = self.lines(past)
        self.joined, self.count, self.past = _packed("\n".join(lines)), len(lines), past
        self.news.clear()
        if not self.awaited:
            # an emptied set keeps the room for all that were in it
            self.awaited.clear()

    def copy(self) -> _Block:
        return _Block([*self.ids], self.joined, self.count, self.past, {**self.news})


class LinesNow:
    """Lines as they were at one moment."""

    def __init__(self, blocks: list[_Block]) -> None:
        self._blocks = blocks

    def joined(self, past: Past) -> Iterator[str]:
        """Yield them with a past, some at a time, with commas between them."""
        return filter(None, (block.text(past) for block in self._blocks))

    def of(self, ids: Iterable[str], past: Past) -> dict[str, str]:
        """Return the lines of some instances with a past, by id."""
        wanted, found = set(ids), dict[str, str]()
        for block in self._blocks:
            if here := wanted.intersection(block.ids):
                lines = dict(zip(block.ids, block.lines(past), strict=False))
                found |= {id: lines[id] for id in here}
        return found


class PackedLines:
    """The lines of some instances, in the order in which these were named first.

    Args:
        past: gives what came of the instances before; asked when lines are joined.
    """

    def __init__(self, past: Callable[[], Past]) -> None:
        self._past = past
        self._blocks: list[_Block] = []
        self._of: dict[str, _Block] = {}
        self._loose = 0

    def begin_with(self, lines: Mapping[str, str]) -> None:
        """Keep the lines of other instances, by id, before all that are here."""
        own, self._blocks = self._blocks, []
        for id, line in lines.items():
            self.put(id, line)
        if self._blocks:
            self._join(self._blocks[-1])
        self._blocks += own

    def plan(self, ids: Iterable[str]) -> None:
        """Name instances whose results are awaited: they stand where they are named first."""
        for id in ids:
            if id not in self._of:
                self._append(id).awaited.add(id)

    def show(self, id: str, line: str) -> None:
        """Keep the line of an instance whose result is awaited."""
        block = self._of[id]
        # not packed: the block is about to be joined, as all of its lines come one after the other
        self._hold(block, id, line)
        if block.is_full:
            self._join(block)

    def put(self, id: str, line: str) -> None:
        """Keep the line of an instance that has its result, in place of the one before."""
        block = self._of.get(id) or self._append(id)
        self._hold(block, id, line if self._loose + len(line) <= LOOSE else _packed(line))
        block.awaited.discard(id)
        if len(block.ids) >= BLOCK and not block.awaited:
            self._join(block)

    def _hold(self, block: _Block, id: str, line: str | bytes) -> None:
        self._loose += _loose(line) - _loose(block.news.get(id, b""))
        block.news[id] = line

    def settle(self) -> None:
        """Join the lines of what has a result with the past that is known now, for many writes of them."""
        past = self._past()
        for block in self._blocks:
            if block.past is not past and not block.news and block.count == len(block.ids):
                self._join(block)

    def _join(self, block: _Block) -> None:
        self._loose -= sum(map(_loose, block.news.values()))
        block.join(self._past())

    def _append(self, id: str) -> _Block:
        if not self._blocks or len(self._blocks[-1].ids) >= BLOCK:
            self._blocks.append(_Block())
        block = self._of[id] = self._blocks[-1]
        block.ids.append(id)
        return block

    def now(self) -> LinesNow:
        """Return the lines of this moment; what is put here later is not in them."""
        return LinesNow([block.copy() for block in self._blocks])


def _loose(line: str | bytes) -> int:
    return len(line) if isinstance(line, str) else 0


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode("ascii"), 1)


def _unpacked(packed: bytes) -> str:
    return zlib.decompress(packed).decode("ascii")
