"""Texts packed into a page: many in one compressed block, each found again by block and place.

A page of 10,000 instances has their rows as plain JSON and everything else about them packed, so that it is
small on disk and a browser unpacks only what somebody opens. A block that is full never changes again, so a
page that is written many times while a session runs compresses each text once.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator

#: Characters of texts, in ASCII, that make a block full.
BLOCK = 96 * 1024


class Packer:
    """Packs JSON texts into blocks: JSON arrays, deflated without header, in base64.

    Attributes:
        shapes: the names of parameters that rows have, each set once; see `shape`.
    """

    def __init__(self) -> None:
        self.shapes: dict[tuple[str, ...], int] = {}
        self._full: list[bytes] = []
        self._open: list[str] = []
        self._size = 0

    def add(self, text: str) -> tuple[int, int]:
        """Take in a JSON text in ASCII; gives the number of its block and its place in that block's array."""
        place = len(self._full), len(self._open)
        self._open.append(text)
        self._size += len(text)
        if self._size >= BLOCK:
            self._full.append(_packed(self._open))
            self._open, self._size = [], 0
        return place

    def shape(self, names: tuple[str, ...]) -> int:
        """The number of a set of names. Thousands of rows have the same, and only say which."""
        return self.shapes.setdefault(names, len(self.shapes))

    def blocks(self) -> Iterator[str]:
        """All blocks, the one that is not full yet last."""
        for block in self._full:
            yield block.decode("ascii")
        if self._open:
            yield _packed(self._open).decode("ascii")


def _packed(texts: list[str]) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    raw = packer.compress(f"[{','.join(texts)}]".encode("ascii")) + packer.flush()
    return base64.b64encode(raw)
