"""Single values compared: metrics, and the values of JSON by key path."""

from __future__ import annotations

import math
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from ductaflow.common.rules import Rule
from ductaflow.comparison.compare import compare_files
from ductaflow.comparison.difference import FileDifference, ValueDifference
from ductaflow.comparison.scalars import beyond_bounds, compare_values, is_same

NAN, INF, BIG = math.nan, math.inf, 1 << 53
EXACT = Rule(rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("old", "new", "rule", "expected"),
    [
        (1, 1.0, Rule(), True),
        (1.0, 1.0 + 1e-7, Rule(), True),
        (1.0, 1.0 + 1e-5, Rule(), False),
        (1.0, 1.0 + 1e-7, EXACT, False),
        (0.0, 1e-13, Rule(), True),
        (0.0, 1e-11, Rule(), False),
        (0.0, -0.0, EXACT, True),
        (1000, 1001, Rule(), False),
        (1000, 1001, Rule(rtol=0.01), True),
        (1_000_000, 1_000_000.5, Rule(), True),
        (BIG, BIG + 1, Rule(), False),
        (BIG, BIG + 1, Rule(rtol=0.0, atol=0.5), False),
        (BIG, BIG + 1, Rule(rtol=0.0, atol=1.0), True),
        (float(BIG), BIG + 1, EXACT, False),
        (10**400, 10**400 + 1, Rule(), False),
        (10**400, 10**400 + 1, Rule(rtol=0.1), True),
        (10**400, 1.5, Rule(rtol=0.1), False),
        (NAN, NAN, Rule(), True),
        (NAN, None, Rule(), True),
        (None, 0, Rule(), False),
        (NAN, 0.0, Rule(rtol=INF), False),
        (INF, INF, Rule(), True),
        (INF, -INF, Rule(), False),
        (INF, 1e308, Rule(), False),
        (1e308, INF, Rule(), False),
        (1e308, -1e308, Rule(), False),
        (True, 1, Rule(rtol=0.5), False),
        (True, True, Rule(), True),
        (0, False, Rule(), False),
        ("1", 1, Rule(), False),
        ("a", "a", Rule(), True),
        ("a", "A", Rule(rtol=1.0), False),
        ("", None, Rule(), False),
        (Decimal("0.1"), 0.1, Rule(), True),
        (Decimal("NaN"), NAN, Rule(), True),
        ([1, 2.0], [1, 2.0 + 1e-9], Rule(), True),
        ([1], [1, 2], Rule(), False),
        ({"a": 1}, {"a": 1.0}, Rule(), True),
        ({"a": 1}, {"b": 1}, Rule(), False),
        ([], {}, Rule(), False),
        (np.float64(0.5), 0.5, Rule(), True),
        (np.bool_(True), 1, Rule(), False),
    ],
)
def test_two_values(old: object, new: object, rule: Rule, expected: bool) -> None:
    """numpy.isclose with the expected value second; integers, booleans and strings as they are."""
    assert expected is is_same(old, new, rule)


@pytest.mark.parametrize("expected", [0.0, 1.0, -3.5, 1e-300, 1e300, INF, -INF, NAN])
@pytest.mark.parametrize("factor", [1.0, 1 + 5e-7, 1 - 9.9e-7, 1 + 2e-6, -1.0, 1e-20])
def test_floats_are_as_close_as_numpy_says(expected: float, factor: float) -> None:
    """There is no rule of our own."""
    found = expected * factor
    known = bool(np.isclose(found, expected, *Rule().tolerances, equal_nan=True))
    assert known is is_same(expected, found, Rule())


def test_metrics_that_differ() -> None:
    """In the order of the old ones; then additional ones, then bounds, which need no old value."""
    rules = {"mw": Rule(max=800.0), "rmse": Rule(rtol=0.01)}
    found = compare_values(
        {"gone": 1, "rmse": 0.312, "n": 3, "same": "x"},
        {"n": 4, "rmse": 0.347, "same": "x", "mw": 812.4},
        lambda name: rules.get(name, Rule()),
    )
    assert [
        ValueDifference("gone", "gone", 1),
        ValueDifference("rmse", "other", 0.312, 0.347, pytest.approx(0.11218, rel=1e-4), "rtol 0.01"),
        ValueDifference("n", "other", 3, 4, pytest.approx(1 / 3)),
        ValueDifference("mw", "added", None, 812.4),
        ValueDifference("mw", "bound", None, 812.4, limit="> max 800"),
    ] == found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, None),
        (1, None),
        (0, None),
        (1.0001, "> max 1"),
        (-1, "< min 0"),
        (INF, "> max 1"),
        (10**400, "> max 1"),
        (NAN, "is no number, min 0"),
        (None, "is no number, min 0"),
        ("0.5", "is no number, min 0"),
        (True, "is no number, min 0"),
    ],
)
def test_bounds_are_inclusive(value: float, expected: str | None) -> None:
    """What is no number is within no bound."""
    found = beyond_bounds("x", value, Rule(min=0.0, max=1.0))
    assert expected == (found and found.limit)


def test_values_that_json_does_not_keep_are_text() -> None:
    """Results are strict JSON, and some readers round large integers."""
    found = compare_values({"a": INF, "b": BIG, "c": "x" * 300}, {"a": NAN, "b": BIG + 1}, lambda _: Rule())
    assert [("inf", "NaN"), (str(BIG), str(BIG + 1))] == [(one.old, one.new) for one in found[:2]]
    assert str(found[2].old).endswith("(100 characters left out)")


def test_metrics_are_compared_without_pandas() -> None:
    """The process that judges a run compares its metrics and its JSON itself, and stays light."""
    code = (
        "import sys, ductaflow.comparison.compare, ductaflow.comparison.scalars; "
        "print({'pandas', 'numpy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()" == done.stdout.strip()


# --- JSON --------------------------------------------------------------------------------------------------


def compared(folder: Path, old: str, new: str, rule: Rule, name: str = "a.json") -> FileDifference | None:
    """Compare two texts as files."""
    for side, text in (("old", old), ("new", new)):
        (folder / side).mkdir(exist_ok=True)
        (folder / side / name).write_bytes(text.encode())
    return compare_files(folder / "old" / name, folder / "new" / name, rule)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('{"a": 1, "b": 2}', '{"b":2.0,"a":1}', Rule()),
        ("[1.0]", "[1.0000001]", Rule()),
        ("[NaN, Infinity, -Infinity]", "[NaN,Infinity,-Infinity]", Rule()),
        ('{"a": 1, "meta": {"created": 1}}', '{"a": 1, "meta": {"created": 2}}', Rule(ignore=("*.created",))),
        ('{"rows": [{"at": 1}]}', '{"rows": [{"at": 2}]}', Rule(ignore=("rows[*].at",))),
        ('{"a": 1, "meta": [1]}', '{"a": 1}', Rule(ignore=("meta",))),
        ("1", "1.0", Rule()),
        ("{}", " {}", Rule()),
        ('"\\u00e9"', '"é"', Rule()),
        ("\ufeff[1]", "[1]", Rule()),
    ],
)
def test_json_of_the_same_values(tmp_path: Path, old: str, new: str, rule: Rule) -> None:
    """How it is written, and the order of keys, makes no difference."""
    assert compared(tmp_path, old, new, rule) is None


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('{"a": {"b": [1, 2]}}', '{"a": {"b": [1, 3]}}', ["a.b[1] other"]),
        ('{"a": 1}', '{"a": null}', ["a other"]),
        ('{"a": {}}', '{"a": []}', ["a other"]),
        ('{"a": {}}', "{}", ["a gone"]),
        ('{"a": true}', '{"a": 1}', ["a other"]),
        ('{"my key": 1}', '{"my key": 2}', ['["my key"] other']),
        ('{"a": {"b": 1}}', '{"a": "an object"}', ["a.b gone"]),
        ("[1, 2]", "[1, 2, 3]", ["the whole other", "[2] added"]),
        ('[{"a": 1}]', '[{"a": 1}, {"a": 2}]', ["the whole other", "[1] added", "[1].a added"]),
        ("[]", "[null]", ["the whole other", "[0] added"]),
        ('{"a": []}', '{"a": null}', ["a other"]),
        ("1", "2", ["the whole other"]),
        ("9007199254740993", "9007199254740992", ["the whole other"]),
        ("[1e308]", "[Infinity]", ["[0] other"]),
    ],
)
def test_json_that_differs(tmp_path: Path, old: str, new: str, names: list[str]) -> None:
    """What differs is named by its key path; a longer list is more than additional keys."""
    found = compared(tmp_path, old, new, Rule())
    assert found is not None
    assert sorted(names) == sorted(f"{one.name} {one.kind}" for one in found.worst)
    assert len(names) == found.differing
    assert not found.only_added


def test_additional_keys_of_json_are_told_apart(tmp_path: Path) -> None:
    """Judging counts them, and does not mind them."""
    found = compared(tmp_path, '{"a": 1}', '{"a": 1, "b": {"c": [1]}}', Rule())
    assert found is not None
    assert found.only_added
    assert ["b", "b.c", "b.c[0]"] == [one.name for one in found.worst]


def test_an_object_that_was_empty(tmp_path: Path) -> None:
    """What comes into it is additional."""
    found = compared(tmp_path, '{"a": {}}', '{"a": {"b": 1}}', Rule())
    assert found is not None
    assert found.only_added


def test_many_values_of_json_are_summed_up(tmp_path: Path) -> None:
    """Positions in lists count as one column."""
    old = "[" + ",".join(f'{{"mw": {n}, "id": {n}}}' for n in range(1, 100)) + "]"
    new = "[" + ",".join(f'{{"mw": {n + (n > 50)}, "id": {n}}}' for n in range(1, 100)) + "]"
    found = compared(tmp_path, old, new, Rule())
    assert found is not None
    assert [("[*].mw", 49)] == [(one.column, one.differing) for one in found.columns]
    assert "[50].mw" == found.worst[0].name
    assert (49, 298, 10) == (found.differing, found.compared, len(found.worst))


def test_json_of_one_value_a_line(tmp_path: Path) -> None:
    """`.jsonl` is read line by line."""
    assert compared(tmp_path, '{"a":1}\n', '{"a": 1.0}\n\n', Rule(), "a.jsonl") is None
    found = compared(tmp_path, '{"a":1}\n{"a":2}\n', '{"a":1}\n{"a":3}\n', Rule(), "a.jsonl")
    assert found is not None
    assert "[1].a" == found.worst[0].name


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1', "cannot be read as json: Expecting"),
        ("", "cannot be read as json: Expecting value"),
        ('{"a": 1, "a": 2}', 'the key "a" is twice in one object'),
        ("[1e999]", "the number 1e999 is out of range"),
        ("[" * 300 + "]" * 300, "nested deeper than 200 levels"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "Exceeds the limit"),
    ],
    ids=["cut", "empty", "twice", "large", "deep", "abyss", "digits"],
)
def test_what_is_no_json_differs_with_the_reason(tmp_path: Path, text: str, fault: str) -> None:
    """The fault names the file; the texts are compared by line."""
    found = compared(tmp_path, '{"a": 1}', text, Rule())
    assert found is not None
    assert str(Path("new", "a.json")) in found.fault
    assert fault in found.fault
    assert "text" == found.format
    assert found.differing


def test_json_that_is_not_utf8(tmp_path: Path) -> None:
    """It is compared by content, and the place of the first such byte is named."""
    (tmp_path / "a.json").write_bytes(b'{"a": "\xe9"}')
    (tmp_path / "b.json").write_bytes(b'{"a": "e"}')
    found = compare_files(tmp_path / "b.json", tmp_path / "a.json", Rule())
    assert found is not None
    assert "content" == found.format
    assert "a.json: not UTF-8: invalid continuation byte at byte 7" in found.fault
