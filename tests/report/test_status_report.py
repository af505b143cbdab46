"""The report of a conductor: dicts of its own, results, and what lies on disk."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import a_result, page_data, stored

from ductaflow.report import (
    generate_status_report,
)

posix = pytest.mark.skipif(os.name == "nt", reason="needs names, pipes or links that Windows has not")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def rows(html: str) -> dict[str, str]:
    """Status of each instance of a page by its id."""
    return {row["id"]: row["status"] for row in page_data(html).rows}


def test_conductor_report_shows_its_own_dicts(runs: Path) -> None:
    """Known keys mean what they say, all others are parameters; missing ones are fine."""
    html = generate_status_report(
        [
            {
                "scenario": "s1",
                "status": "success",
                "duration_minutes": 2.0,
                "region": "EU",
                "empty": math.nan,
            },
            {"scenario": "s2", "status": "failed", "error": "<boom>"},
            {"scenario": "s3", "status": "WARNING"},
            {},
        ],
        runs,
    )

    page = page_data(html)
    assert html.isascii()
    assert rows(html) == {"s1": "success", "s2": "error", "s3": "warning", "(no name)": "not_run"}
    assert (page.row("s1")["seconds"], page.row("s1")["parameters"]) == (120.0, {"region": "EU"})
    assert [page.row(id)["message"] for id in ("s2", "(no name)")] == ["<boom>", "no status was given"]
    assert page.head["finished"]


def test_conductor_word_that_nobody_knows_counts_as_error(runs: Path) -> None:
    """It is shown as given; a report never makes green of what it does not understand."""
    html = generate_status_report([{"scenario": "s", "status": "meh"}], runs)

    assert rows(html) == {"s": "error"}
    assert page_data(html).row("s")["message"] == "status meh is not known; it counts as an error"


def test_conductor_report_masks_secrets(runs: Path) -> None:
    """Values of keys that look like passwords are not shown, at any depth."""
    given = {
        "scenario": "s",
        "db": {"db_password": "hunter2"},
        "list": [{"api_key": "hunter2"}],
        "Token": "hunter2",
    }

    assert "hunter2" not in generate_status_report([given], runs)


@pytest.mark.parametrize(
    "given",
    [{"scenario": "s"}, {"scenario": "s", "build": "plan"}, {"scenario": "plan/s"}, {"folder": "plan/s"}],
)
def test_conductor_dict_finds_its_run_folder(runs: Path, given: dict[str, Any]) -> None:
    """What the run folder holds is shown with it, and the instance is not shown twice."""
    stored(runs, a_result("success", "plan", "s"), "from the log\n")

    html = generate_status_report([given], runs)

    assert rows(html) == {"plan/s": "success"}
    assert page_data(html).details("plan/s")["log_tail"] == "from the log\n"


def test_worse_of_conductor_and_record_counts(runs: Path) -> None:
    """A conductor that says success of a red run gets no green page; what it calls failed is failed."""
    stored(runs, a_result("error", "plan", "s1", message="really red"))
    stored(runs, a_result("success", "plan", "s2"))

    html = generate_status_report(
        [{"scenario": "s1", "status": "success"}, {"scenario": "s2", "status": "error"}], runs
    )

    assert rows(html) == {"plan/s1": "error", "plan/s2": "error"}
    assert "really red" in html


@pytest.mark.parametrize(
    ("log", "word", "status"),
    [
        ("\u2705 Completed fit | Instance: s | Time: 1s\n", None, "success"),
        ("\u26a0 thin data\n\u2705 Completed fit\n", None, "warning"),
        ("\u274c Failed fit | Instance: s | Error: x\n", None, "error"),
        ("half a", None, "error"),
        ("of another tool", "success", "success"),
        ("warning: thin", "success", "warning"),
        ("\u274c Failed fit", "success", "error"),
    ],
)
def test_folder_without_result_is_judged_by_its_logs(
    runs: Path, log: str, word: str | None, status: str
) -> None:
    """A conductor without notebooks leaves logs only; one that did not come to its end is no success."""
    (runs / "plan/s/fit").mkdir(parents=True)
    (runs / "plan/s/fit/fit_execution_output.txt").write_text(log, encoding="utf-8")

    html = generate_status_report([{"scenario": "s", "status": word}], runs)

    assert {"plan/s": status} == rows(html)


def test_conductor_report_takes_results_and_keeps_the_untouched(runs: Path) -> None:
    """Results and the dicts of results are taken as they are; other instances on disk are earlier ones."""
    first = replace(stored(runs, a_result("warning", instance="first")), folder=None)
    stored(runs, a_result(instance="old"))

    html = generate_status_report([first, a_result("error", instance="second").to_dict()], runs)

    assert rows(html) == {"fit/first": "warning", "fit/second": "error", "fit/old": "success"}
    page = page_data(html)
    assert [row["id"] for row in page.rows if row.get("earlier")] == ["fit/old"]
    assert page.details("fit/first")["links"]["notebook"] == "fit/first/fit.ipynb"


def test_conductor_names_lead_nowhere_else(runs: Path) -> None:
    """A scenario called like a path is shown as that and is not looked up."""
    stored(runs, a_result(instance="x"))

    html = generate_status_report([{"scenario": "../../etc", "build": "b"}, {"scenario": "n" * 300}], runs)

    assert rows(html) == {"b/../../etc": "not_run", "n" * 300: "not_run", "fit/x": "success"}
