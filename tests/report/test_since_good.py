"""What the page says has changed since the last good run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import a_result

from ductaflow.report.before import NO_RUN, Before
from ductaflow.report.since_good import MAX_NAMED, since_good
from ductaflow.store.result import Result

GIT = {"commit": "0123456789abcdef", "dirty": False}


def changes(now: dict[str, Any], then: dict[str, Any], status: str = "success") -> list[str]:
    """What is said of a run with some fields after a good one with others."""
    good = Before(None, replace(a_result("success"), **then))
    found = since_good(replace(a_result(status), **now), good, {}, {})
    assert found
    return found["changes"]


def a_lineage(code: str = "a", **modules: str) -> dict[str, Any]:
    return {"lineage": {"code": code, "modules": modules}}


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        ({}, {}, []),
        ({"metrics": {"rmse": 0.4}}, {"metrics": {"rmse": 0.32}}, ["metric rmse: 0.32 -> 0.4 (+25 %)"]),
        ({"metrics": {"a": 1}}, {"metrics": {"b": 1}}, ["metric a: is new", "metric b: is gone"]),
        ({"metrics": {}}, {"metrics": {"b": 1}}, []),
        (
            {"environment": {"python": "3.12.1", "packages": {"pandas": "3.0", "numpy": "2"}}},
            {"environment": {"python": "3.11.4", "packages": {"pandas": "2.2"}}},
            ["python 3.11.4 -> 3.12.1", "package pandas: 2.2 -> 3.0"],
        ),
        (
            {"environment": {"git": GIT | {"dirty": True}}},
            {"environment": {"git": GIT}},
            ["commit 0123456789 -> 0123456789 with changes"],
        ),
        (
            {"environment": {"git": GIT | {"dirty": True}}},
            {"environment": {"git": GIT | {"dirty": True}}},
            ["commit 0123456789 with changes as before, but both runs had changes that are not committed"],
        ),
        (
            {"inputs": ({"path": "a.csv", "size": 12}, {"path": "c.csv", "size": 1})},
            {"inputs": ({"path": "a.csv", "size": 14}, {"path": "b.csv", "size": 1})},
            ["input a.csv: 14 B -> 12 B", "input c.csv: was not read", "input b.csv: is not read any more"],
        ),
        (
            {"inputs": ({"path": "a.csv", "size": 12, "hash": "x"},)},
            {"inputs": ({"path": "a.csv", "size": 12, "hash": "y"},)},
            ["input a.csv: other content"],
        ),
        (a_lineage("a", m="1"), a_lineage("b", m="2"), ["code of the flow", "code of m"]),
        ({"seconds": 9.0}, {"seconds": 3.0}, ["it took 9.00 s, before 3.00 s"]),
    ],
)
def test_what_both_records_have_is_compared(
    now: dict[str, Any], then: dict[str, Any], said: list[str]
) -> None:
    """Metrics, commit, versions, files by size and hash, code, duration; nothing is read."""
    assert said == changes(now, then)


def test_a_failed_run_does_not_miss_what_it_did_not_reach() -> None:
    """It may have failed before it read a file; that its code is not recorded is said."""
    then = {"inputs": ({"path": "b.csv", "size": 1},), **a_lineage()}
    assert [] == changes({}, then, "error")
    found = since_good(a_result("error"), Before(None, a_result("success")), {}, {})
    assert found
    assert any("code" in one for one in found["unknown"])


def test_many_changes_of_a_kind_are_counted() -> None:
    """The first ones are named."""
    good = Before(None, a_result("success"))
    now = {f"key{number}": "1" for number in range(MAX_NAMED + 3)}
    found = since_good(a_result("success"), good, now, {"key0": "0"})
    assert found
    assert (MAX_NAMED + 1, "and 3 more of config") == (len(found["changes"]), found["changes"][-1])
    assert "config key0: 0 -> 1" == found["changes"][0]


def test_without_a_good_run_before_nothing_is_said() -> None:
    """None was good, or its record is not kept."""
    result: Result = a_result("error")
    assert since_good(result, NO_RUN, {}, {}) is None
