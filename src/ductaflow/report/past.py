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
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

from ductaflow.common.decode import UnreadableError, decode
from ductaflow.report.schema import PastTwin, SessionLine
from ductaflow.store.result import Status

#: What a session has no result of, and what its line does not tell.
NO_RESULT, UNTOLD = ".", "?"
#: A line that unpacks to more bytes is none of ours: 1,000,000 instances take half of it.
_LARGEST = 64_000_000
#: Values that are made to JSON together.
_PIECE = 1_000
#: One for all: ten thousands of texts are made.
_compact = json.JSONEncoder(separators=(",", ":")).encode


class Touch(Protocol):
    """What a session made of an instance; `seconds` of a run of its own."""

    @property
    def status(self) -> Status: ...

    @property
    def seconds(self) -> float | None: ...


class Touched(NamedTuple):
    """A `Touch` and nothing else."""

    status: Status
    seconds: float | None = None


class _Flow(NamedTuple):
    """The instances of a flow that a session touched: names, letters of their statuses, seconds."""

    flow: str
    names: list[str]
    letters: str
    seconds: list[float | None]


def packed_touched(touched: Mapping[str, Touch]) -> str:
    """Pack what a session made of its instances, by their ids, for its line of the history."""
    packer = zlib.compressobj(9)
    packed = [packer.compress(piece.encode("ascii")) for piece in _flows(touched)]
    return base64.b64encode(b"".join([*packed, packer.flush()])).decode("ascii")


def _flows(touched: Mapping[str, Touch]) -> Iterator[str]:
    """Yield the list of `_Flow` as JSON in pieces: in one go it has an object for each text and number."""
    separator = "["
    for flow, group in groupby(sorted(touched), lambda id: id.partition("/")[0]):
        ids = list(group)
        letters = "".join(letter_of(touched[id].status) for id in ids)
        seconds = [touched[id].seconds for id in ids]
        yield f"{separator}[{_compact(flow)},"
        yield from _list_of([id[len(flow) + 1 :] for id in ids])
        yield f",{_compact(letters)},"
        yield from _list_of([None if one is None else _rounded(one) for one in seconds])
        yield "]"
        separator = ","
    yield "]" if touched else "[]"


def _list_of(values: Sequence[object]) -> Iterator[str]:
    yield "["
    for start in range(0, len(values), _PIECE):
        yield f"{',' if start else ''}{_compact(values[start : start + _PIECE])[1:-1]}"
    yield "]"


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


class _Column:
    """What came of all instances in one session: a letter and seconds for each, by its place.

    Args:
        none: the letter of an instance that it has no result of.
    """

    def __init__(self, none: str) -> None:
        self._none = none
        self._letters = bytearray()
        self._seconds = array("d")

    def note(self, place: int, letter: str, seconds: float | None) -> None:
        if (missing := place + 1 - len(self._letters)) > 0:
            self._letters += self._none.encode("ascii") * missing
            self._seconds.extend([math.nan] * missing)
        self._letters[place] = ord(letter)
        self._seconds[place] = math.nan if seconds is None else seconds

    def at(self, place: int) -> tuple[int, float | None]:
        """Return the letter, as a number, and the seconds of an instance."""
        if place >= len(self._letters):
            return ord(self._none), None
        seconds = self._seconds[place]
        return self._letters[place], None if seconds != seconds else seconds


class Past:
    """What came of each instance in some sessions.

    Args:
        sessions: the lines of the history, the oldest first; their `touched` is taken out of them.
    """

    # By sessions: a few numbers for each of thousands of instances would be an object each.

    def __init__(self, sessions: Sequence[SessionLine]) -> None:
        self._places: dict[str, int] = {}
        self._columns: list[_Column] = []
        for session in sessions:
            flows = _unpacked(session.pop("touched", ""))
            self._columns.append(_Column(UNTOLD if flows is None else NO_RESULT))
            for one in flows or ():
                for name, letter, seconds in zip(one.names, one.letters, one.seconds, strict=True):
                    self._note(f"{one.flow}/{name}", letter, seconds)

    @property
    def is_known(self) -> bool:
        """Whether there is a session that may have a result of some instance."""
        return bool(self._places)

    def _note(self, id: str, letter: str, seconds: float | None) -> None:
        """Take note of what the last session made of an instance."""
        place = self._places.setdefault(id, len(self._places))
        self._columns[-1].note(place, letter, seconds)

    def followed_by(self, touched: Mapping[str, Touch], *, most: int) -> Past:
        """Return the past after one more session, of the last sessions, at `most` so many."""
        found = Past([])
        found._places = {**self._places}
        found._columns = [*self._columns, _Column(NO_RESULT)][-most:]
        for id, one in touched.items():
            took = None if one.seconds is None else _rounded(one.seconds)
            found._note(id, letter_of(one.status), took)
        return found

    def of(self, id: str) -> PastTwin | None:
        """Return the letters and seconds of an instance; None if no session has a result of it."""
        place = self._places.get(id)
        if place is None:
            return None
        letters, seconds = zip(*[column.at(place) for column in self._columns], strict=True)
        return [bytes(letters).decode("ascii"), [*seconds]]

    def text(self, id: str) -> str:
        """Return the same as JSON; empty if there is none."""
        found = self.of(id)
        return _compact(found) if found else ""
