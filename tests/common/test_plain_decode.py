"""The decoder in plain Python takes and returns what msgspec does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pytest

from ductaflow.common.decode import _from_json
from ductaflow.common.plain_decode import PlainDecoder
from ductaflow.report.schema import InstanceTwin
from ductaflow.store.folder import Marker
from ductaflow.store.result import Result


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Pair(NamedTuple):
    name: str
    count: int = 0


class Row(TypedDict):
    id: str
    note: NotRequired[str | None]
    below: list[Row]


class Loose(TypedDict, total=False):
    any: object
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    colour: Colour
    folder: Path | None = None
    seconds: float = 0.0
    mode: Literal["fast", "slow"] = "fast"
    value: bool | int | float | str | None = None
    both: tuple[int, str] = (0, "")
    pairs: list[Pair] = field(default_factory=list)
    row: Row | None = None
    loose: Loose = field(default_factory=Loose)
    table: dict[str, dict[str, float]] = field(default_factory=dict)
    words: frozenset[str] = frozenset()
    after: Sample | None = None


GOOD: dict[str, Any] = {
    "name": "a",
    "colour": "red",
    "folder": "/runs",
    "seconds": 3,
    "mode": "slow",
    "value": 1.5,
    "both": [1, "b"],
    "pairs": [["x", 2], ["y"]],
    "row": {"id": "r", "note": None, "below": [{"id": "s", "below": []}], "unknown": 1},
    "loose": {"any": {"thing": [1]}, "sizes": [1, 2, 3]},
    "table": {"t": {"u": 0.5, "v": 1}},
    "words": ["one"],
    "after": {"name": "b", "colour": "blue"},
}
RESULT: dict[str, Any] = {
    "flow": "fit",
    "instance": "a",
    "kind": "flow",
    "status": "error",
    "cause": "exception",
    "metrics": {"rmse": 0.5, "n": 3, "solver": "cbc"},
    "children": ["prep/a"],
    "judged": {"metrics": 1, "files": 1, "differences": [{"metric": None, "file": None}]},
}
TWIN = {"id": "fit/a", "flow": "fit", "instance": "a", "kind": "flow", "status": "error", "warnings": []}
MARKER = {"pid": 3, "host": "h", "started": "2026-01-01"}
OTHERS: tuple[Any, ...] = (None, True, 3, 2.0, -2.5, "", "word", [], [1], [[1, 2], 3], {}, {"a": 1})


@pytest.mark.parametrize(
    ("kind", "good"), [(Sample, GOOD), (Result, RESULT), (InstanceTwin, TWIN), (Marker, MARKER)]
)
def test_any_change_of_a_value_has_the_same_outcome(kind: type, good: dict[str, Any]) -> None:
    """Whatever stands in whatever place: the same value, or a fault of the same place."""
    decoder = PlainDecoder(kind, _from_json)
    checked = 0
    for value in changed(good):
        expected = outcome(lambda value: msgspec.convert(value, kind, dec_hook=_from_json), value)
        assert expected == outcome(decoder.convert, value), value
        # Of two faults in a text msgspec names the first, which may be inside of a tuple of the wrong length.
        text = json.dumps(value)
        kind_of, said = outcome(msgspec.json.Decoder(kind, dec_hook=_from_json).decode, text)
        assert (kind_of, said if kind_of == "value" else expected[1]) == outcome(decoder.decode, text), text
        checked += 1
    assert checked > 20


def changed(good: dict[str, Any]) -> Iterator[Any]:
    """Yield a value, and the value with one piece of it replaced or taken out."""
    yield good
    for way in places(good):
        for other in OTHERS:
            yield put(good, way, lambda holder, key, other=other: holder.__setitem__(key, other))
        yield put(good, way, lambda holder, key: holder.__delitem__(key))


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    for key, below in pairs:
        yield (*way, key)
        yield from places(below, (*way, key))


def put(value: Any, way: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    made = copy.deepcopy(value)
    holder = made
    for key in way[:-1]:
        holder = holder[key]
    change(holder, way[-1])
    return made


def outcome(function: Callable[[Any], Any], value: Any) -> tuple[str, object]:
    try:
        return "value", repr(function(value))
    except ValueError as exc:
        return "fault", str(exc).partition(" - at ")[2]
