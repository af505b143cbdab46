"""The lines of a report that is written again and again, and how they are kept."""

from __future__ import annotations

import json
import random
import sys

import pytest

from ductaflow.report import packed_lines
from ductaflow.report.packed_lines import BLOCK, PackedLines
from ductaflow.report.past import Past, Touched
from ductaflow.store.result import Status

NONE = Past([])


def line_of(id: str, what: str) -> str:
    return json.dumps({"id": id, "what": what})


def read(lines: PackedLines, past: Past = NONE) -> list[list[str]]:
    """Id and text of each line, as a reader of the file finds them."""
    found = json.loads(f"[{','.join(lines.now().joined(past))}]")
    return [[one["id"], one["what"], *one.get("past", [])[:1]] for one in found]


@pytest.mark.parametrize("loose", [0, 500, packed_lines.LOOSE])
def test_lines_keep_their_places_whatever_comes_when(loose: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order of results, a page has the last line of each, where it was planned."""
    monkeypatch.setattr(packed_lines, "LOOSE", loose)
    chance = random.Random(0)
    for _ in range(8):
        lines = PackedLines(lambda: NONE)
        ids = [f"fit/{number}" for number in range(chance.randrange(1, 3 * BLOCK))]
        lines.plan(ids)
        for id in ids:
            lines.show(id, line_of(id, "planned"))
        expected = dict.fromkeys(ids, "planned")
        for step in range(4 * len(ids)):
            id = chance.choice([*ids, "late/1", "late/2"])
            expected[id] = f"result {step}"
            lines.put(id, line_of(id, expected[id]))
            if step % 70 == 0:
                lines.settle()
            if step % 50 == 0:
                assert [[*item] for item in expected.items()] == read(lines)
        assert [[*item] for item in expected.items()] == read(lines)


def test_what_other_sessions_left_comes_first_and_keeps_its_place() -> None:
    lines = PackedLines(lambda: NONE)
    lines.put("fit/own", line_of("fit/own", "result"))
    lines.begin_with(
        {"fit/former": line_of("fit/former", "before"), "fit/other": line_of("fit/other", "before")}
    )
    lines.put("fit/former", line_of("fit/former", "now"))
    assert [["fit/former", "now"], ["fit/other", "before"], ["fit/own", "result"]] == read(lines)
    assert {"fit/other": line_of("fit/other", "before")} == lines.now().of(["fit/other"], NONE)


def test_a_page_is_as_it_was_when_it_was_asked_for() -> None:
    """A thread writes it while results come in."""
    lines = PackedLines(lambda: NONE)
    ids = [f"fit/{number}" for number in range(BLOCK)]
    for id in ids:
        lines.put(id, line_of(id, "first"))
    now = lines.now()
    lines.put(ids[3], line_of(ids[3], "second"))
    assert "second" not in "".join(now.joined(NONE))
    assert "second" in "".join(lines.now().joined(NONE))


def test_each_page_has_what_was_known_of_the_past_then() -> None:
    """The last page of a session knows of the session itself; a parameter called past is none of that."""
    before = NONE.followed_by({"fit/1": Touched(Status.SUCCESS, 1.0)}, most=40)
    after = before.followed_by(
        {"fit/1": Touched(Status.ERROR, 2.0), "fit/2": Touched(Status.ERROR, 1.0)}, most=40
    )
    lines = PackedLines(lambda: before)
    for number in range(BLOCK):
        lines.put(f"fit/{number}", line_of(f"fit/{number}", ',"past":["x"]}'))
    own = [[f"fit/{number}", ',"past":["x"]}'] for number in range(BLOCK)]
    assert [own[0], [*own[1], "s"], *own[2:]] == read(lines, before)
    lines.settle()
    assert [own[0], [*own[1], "s"], *own[2:]] == read(lines, before)
    assert [own[0], [*own[1], "se"], [*own[2], ".e"], *own[3:]] == read(lines, after)
    assert [own[0], [*own[1], "s"], *own[2:]] == read(lines, before)


@pytest.mark.parametrize(("loose", "single"), [(packed_lines.LOOSE, 0), (0, 3 * BLOCK)])
def test_a_block_is_packed_when_its_last_result_comes(
    loose: int, single: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a session whose results come in the order of the page packs each line once, whatever is written.

    Where thousands wait for those beside them, each is packed by itself as well.
    """
    monkeypatch.setattr(packed_lines, "LOOSE", loose)
    packed: list[int] = []
    own = packed_lines._packed
    monkeypatch.setattr(
        packed_lines,
        "_packed",
        lambda text: (packed.append(text.count("\n")), own(text))[1],
    )
    lines = PackedLines(lambda: NONE)
    ids = [f"fit/{number}" for number in range(3 * BLOCK)]
    lines.plan(ids)
    for id in ids:
        lines.put(id, line_of(id, "result"))
        read(lines)
    assert [0] * single == [count for count in packed if count == 0]
    assert [BLOCK - 1] * 3 == [count for count in packed if count]
    emptied = {sys.getsizeof(block.awaited) for block in lines._blocks}
    assert {sys.getsizeof(set())} == emptied, "what waited for results has no room kept for it"
