"""What `_run.expect` may say, and the rule that it gives for a metric or a file."""

from __future__ import annotations

from typing import Any

import pytest

from ductaflow import ConfigError
from ductaflow.common.rules import Rule
from ductaflow.project.expect import Expectations, expectations

SAID: dict[str, Any] = {
    "rtol": 1e-4,
    "metrics": {"peak_*": {"rtol": 0.01}, "peak_mw": {"max": 800}, "*": {"atol": 2}, "rmse": {"min": 0}},
    "files": {"*.csv": {"rtol": 1e-3, "ignore": ["created"], "key": "hour"}, "a.csv": {"ignore": []}},
}


def test_the_rule_of_a_metric() -> None:
    """All rules that match count, in their order, that of the very name last; then what is said of all."""
    rules = Expectations(expectations(SAID, "x"))

    assert Rule(rtol=1e-4, atol=2) == rules.of_metric("n")
    assert Rule(rtol=0.01, atol=2, max=800) == rules.of_metric("peak_mw")
    assert Rule(rtol=0.01, atol=2) == rules.of_metric("peak_h")
    assert ["peak_mw", "rmse"] == [name for name, _ in rules.bounds]
    assert Rule() == Expectations({}).of_metric("n")


def test_the_rule_of_a_file() -> None:
    """Lists are replaced as a whole."""
    rules = Expectations(expectations(SAID, "x"))

    assert Rule(rtol=1e-3, ignore=("created",), key=("hour",)) == rules.of_file("sub/b.csv")
    assert Rule(rtol=1e-3, ignore=(), key=("hour",)) == rules.of_file("a.csv")
    assert Rule(rtol=1e-4) == rules.of_file("x.json")
    assert ("*.csv", "a.csv") == rules.files


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([], "x takes an object, not []"),
        ({"rtoll": 1}, 'x: unknown key "rtoll"\nDid you mean rtol?'),
        ({"max": 1}, 'x: unknown key "max"'),
        ({"rtol": -1}, "x.rtol takes a number that is not below 0, not -1"),
        ({"rtol": "1"}, 'x.rtol takes a number, not "1"'),
        ({"rtol": True}, "x.rtol takes a number, not true"),
        ({"atol": float("inf")}, "x.atol takes a number, not Infinity"),
        ({"atol": 10**400}, "x.atol takes a number, not 1000"),
        ({"metrics": {"a": {"min": -(10**400)}}}, "x.metrics.a.min takes a number, not -1000"),
        ({"metrics": {"a": {"min": 2, "max": 1}}}, "x.metrics.a: no number is both at least 2 and at most 1"),
        ({"metrics": ["rmse"]}, 'x.metrics takes an object, not ["rmse"]'),
        ({"metrics": {"rmse": 0.5}}, "x.metrics.rmse takes an object, not 0.5"),
        ({"metrics": {"rmse": {"maxx": 1}}}, 'x.metrics.rmse: unknown key "maxx"\nDid you mean max?'),
        ({"metrics": {"peak_*": {"key": "a"}}}, 'x.metrics["peak_*"]: unknown key "key"'),
        ({"files": {"a.csv": {"max": 1}}}, 'x.files["a.csv"]: unknown key "max"'),
        ({"files": {"a.csv": {"ignore": 1}}}, 'x.files["a.csv"].ignore takes a list of strings, not 1'),
    ],
)
def test_what_is_refused(said: object, message: str) -> None:
    """The message names the key, what it takes, and what may be meant."""
    with pytest.raises(ConfigError) as caught:
        expectations(said, "x")

    assert message in str(caught.value)


def test_rules_that_nothing_has() -> None:
    """A name that is mistyped is said, with what may be meant; globs and bounds may match nothing."""
    said = {
        "metrics": {"rmsee": {"rtol": 0.1}, "peak": {"max": 1}, "x_*": {"rtol": 1}, "n": {"atol": 1}},
        "files": {"hourly.cvs": {"rtol": 0.1}, "*.txt": {"rtol": 0.1}, "a.csv": {"rtol": 1}},
    }
    found = list(Expectations(expectations(said, "x")).without_match(["rmse", "n"], ["hourly.csv", "a.csv"]))

    assert [
        '_run.expect.metrics has a rule for "rmsee", which is not there. Did you mean rmse?',
        '_run.expect.files has a rule for "hourly.cvs", which is not there. Did you mean hourly.csv?',
    ] == found
