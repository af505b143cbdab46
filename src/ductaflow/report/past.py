"""What came of each instance in the last sessions, and how a line of the history has it.

    packed_touched({"fit/a": Touched(Status.SUCCESS, 0.31)})     a text, some 8 characters an instance
    Past(sessions).of("fit/a")                                   ["s?.s", [0.29, None, None, 0.31]]

Each line has its session whole, so that a line that is torn costs its session alone.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ductaflow.common.decode import UnreadableError, decode
from ductaflow.report.schema import PastTwin, SessionLine
from ductaflow.store.result import Status

#: What a session has no result of, and what its line does not tell.
NO_RESULT, UNTOLD = ".", "?"
#: A line that unpacks to more bytes is none of ours: 1,000,000 instances take half of it.
_LARGEST = 64_000_000


class Touched(NamedTuple):
    """What a session made of an instance; `seconds` of a run of its own."""

    status: Status
    seconds: float | None = None


class _Flow(NamedTuple):
    """The instances of a flow that a session touched: names, letters of their statuses, seconds."""

    flow: str
    names: list[str]
    letters: str
    seconds: list[float | None]


def packed_touched(touched: Mapping[str, Touched]) -> str:
    """Pack what a session made of its instances, by their ids, for its line of the history."""
    flows: dict[str, _Flow] = {}
    for id, (status, seconds) in sorted(touched.items()):
        flow, _, name = id.partition("/")
        known = flows.get(flow, _Flow(flow, [], "", []))
        known.names.append(name)
        known.seconds.append(None if seconds is None else _rounded(seconds))
        flows[flow] = known._replace(letters=known.letters + letter_of(status))
    raw = json.dumps([*flows.values()], separators=(",", ":")).encode("ascii")
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def letter_of(status: Status) -> str:
    """Return the letter of a status: the first of its name."""
    return status.value[0]


def _rounded(seconds: float) -> float:
    """Round to what a person compares: a page has 400,000 of these."""
    return float(f"{seconds:.{2 if seconds < 10 else 3}g}")


def _unpacked(text: str) -> list[_Flow] | None:
    """Return what `packed_touched` packed; None if it is not that."""
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b64decode(text, validate=True), _LARGEST)
        flows = decode(raw, list[_Flow], where="touched")
    except (binascii.Error, zlib.error, UnreadableError):
        return None
    is_whole = all(
        len(one.names) == len(one.letters) == len(one.seconds) and one.letters.isascii() for one in flows
    )
    return flows if unpacker.eof and is_whole else None


class Past:
    """What came of each instance in some sessions.

    Args:
        sessions: the lines of the history, the oldest first; their `touched` is taken out of them.
    """

    def __init__(self, sessions: Sequence[SessionLine]) -> None:
        found = [_unpacked(session.pop("touched", "")) for session in sessions]
        #: What is known of an instance that no session has a result of.
        self._none = (
            bytearray("".join(UNTOLD if flows is None else NO_RESULT for flows in found), "ascii"),
            array("d", [math.nan]) * len(found),
        )
        self._of: dict[str, tuple[bytearray, array[float]]] = {}
        self._texts: dict[str, str] = {}
        for place, flows in enumerate(found):
            for one in flows or ():
                for name, letter, seconds in zip(one.names, one.letters, one.seconds, strict=True):
                    self._note(f"{one.flow}/{name}", place, letter, seconds)

    def _note(self, id: str, place: int, letter: str, seconds: float | None) -> None:
        letters, took = self._of.setdefault(id, (self._none[0][:], self._none[1][:]))
        letters[place] = ord(letter)
        took[place] = math.nan if seconds is None else seconds

    def followed_by(self, touched: Mapping[str, Touched], *, most: int) -> Past:
        """Return the past after one more session, of the last sessions, at `most` so many."""
        found = Past([])
        letters, seconds = bytearray(NO_RESULT, "ascii"), array("d", [math.nan])
        rest = slice(max(0, len(self._none[0]) + 1 - most), None)
        found._none = ((self._none[0] + letters)[rest], (self._none[1] + seconds)[rest])
        found._of = {
            id: ((known[0] + letters)[rest], (known[1] + seconds)[rest]) for id, known in self._of.items()
        }
        last = len(found._none[0]) - 1
        for id, (status, took) in touched.items():
            found._note(id, last, letter_of(status), None if took is None else _rounded(took))
        return found

    def of(self, id: str) -> PastTwin | None:
        """Return the letters and seconds of an instance; None if no session has a result of it."""
        known = self._of.get(id)
        if known is None:
            return None
        return [known[0].decode("ascii"), [None if math.isnan(one) else one for one in known[1]]]

    def text(self, id: str) -> str:
        """Return the same as JSON, kept for the next time; empty if there is none."""
        if id not in self._texts:
            found = self.of(id)
            self._texts[id] = json.dumps(found, separators=(",", ":")) if found else ""
        return self._texts[id]
