"""What a row and its details say beside the run: what it found, what it found before, how it was judged."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

from support import a_result, stored

from ductaflow.comparison.difference import FileDifference, ValueDifference
from ductaflow.report import Entry, build_report
from ductaflow.report.history import append_history
from ductaflow.report.page import Packer, row_of
from ductaflow.report.schema import InstanceTwin
from ductaflow.store.result import Difference, Judged, Result

BEFORE = {"rmse": 0.25, "rows": 9, "method": "ols", "gone": 1, "same": 5}
NOW = {"rmse": 0.31, "rows": 10, "method": "ridge", "ok": True, "same": 5, "bias": None}


def twin_of(runs: Path, entry: Entry) -> InstanceTwin:
    data = build_report([entry], session_id="s", started="", finished="x", runs_dir=runs)
    return data["instances"][0]


def row(instance: InstanceTwin, *keys: str) -> dict[str, Any]:
    """What a row says, with the names of what it has by shapes."""
    packer = Packer()
    found = json.loads(row_of(instance, packer).text)
    shapes = list(packer.shapes)
    for key in ("parameters", "metrics", "moved"):
        if key in found:
            number, *values = found[key]
            found[key] = dict(zip(shapes[number], values, strict=True))
    return {key: found.get(key) for key in keys}


def with_numbers(runs: Path, session: str, numbers: dict[str, dict[str, float]]) -> None:
    line: Any = {"session_id": session, "finished": "f"}
    append_history(runs, line, numbers)


def a_run(runs: Path, **fields: Any) -> Result:
    return stored(runs, a_result(session_id="now", run_id="r", metrics=NOW, **fields))


def test_row_has_what_the_run_found_and_the_numbers_before(tmp_path: Path) -> None:
    """Numbers that are the same, texts and new metrics did not move; the details have what was otherwise."""
    result = a_run(tmp_path, peak_memory=2**30)
    stored(tmp_path / ".ductaflow/previous", a_result(metrics=BEFORE))

    data = twin_of(tmp_path, Entry(result))

    assert {"metrics": NOW, "moved": {"rmse": 0.25, "rows": 9}, "memory": 2**30} == row(
        data, "metrics", "moved", "memory"
    )
    assert {"rmse": 0.25, "rows": 9, "method": "ols", "gone": 1} == data["metrics_before"]


def test_numbers_before_come_from_the_file_of_numbers_where_the_run_is_not_kept(tmp_path: Path) -> None:
    """The last session before that of the run counts; a torn line costs what it said."""
    with_numbers(tmp_path, "older", {"fit/a": {"rmse": 0.1}})
    with_numbers(tmp_path, "before", {"fit/a": {"rmse": 0.2}})
    with_numbers(tmp_path, "other", {"fit/b": {"rmse": 0.5}})
    with_numbers(tmp_path, "now", {"fit/a": {"rmse": 0.31}})
    result = a_run(tmp_path)

    assert {"moved": {"rmse": 0.2}} == row(twin_of(tmp_path, Entry(result)), "moved")

    file = tmp_path / ".ductaflow/metrics.jsonl"
    file.write_text(file.read_text().replace('"before"', '"before'))
    assert {"moved": {"rmse": 0.1}} == row(twin_of(tmp_path, Entry(result)), "moved")


def test_digits_are_on_the_page_once(tmp_path: Path) -> None:
    """What the row has whole is not in the details; a text that is cut there is, with all others."""
    stored(tmp_path / ".ductaflow/previous", a_result(metrics=BEFORE))
    packed = []
    for more in ({}, {"note": "x" * 61}):
        result = stored(tmp_path, a_result(run_id="r", metrics={**NOW, **more}))
        packer = Packer()
        row_of(twin_of(tmp_path, Entry(result)), packer)
        (block,) = (zlib.decompress(base64.b64decode(one), -zlib.MAX_WBITS) for one in packer.blocks())
        packed += json.loads(block)

    assert {"method": "ols", "gone": 1} == packed[0]["metrics_before"]
    assert "metrics" not in packed[0]
    assert {**NOW, "note": "x" * 61} == packed[1]["metrics"]
    assert {"rmse", "rows", "method", "gone"} == packed[1]["metrics_before"].keys()


def test_a_run_without_metrics_says_nothing_of_those_before(tmp_path: Path) -> None:
    """A failure has found nothing that could have moved."""
    result = stored(tmp_path, a_result("error", run_id="r"))
    stored(tmp_path / ".ductaflow/previous", a_result(metrics=BEFORE))

    data = twin_of(tmp_path, Entry(result))

    assert ({}, {"metrics": None, "moved": None}) == (data["metrics_before"], row(data, "metrics", "moved"))


def test_row_says_how_much_was_judged_and_how_much_differs(tmp_path: Path) -> None:
    """A metric that is otherwise and beyond its bound is one; the details have all, up to 40."""
    metric = ValueDifference("rmse", "other", 0.25, 0.31, 0.24, "rtol 1e-06")
    bound = ValueDifference("rmse", "bound", None, 0.31, limit="> max 0.3")
    files = [FileDifference(f"{number}.csv", "table", fault="x") for number in range(60)]
    differences = (Difference(metric), Difference(bound), *(Difference(file=file) for file in files))
    judged = Judged(9, 70, 3, differences, "key", "2 of 9 ...")
    result = a_run(tmp_path, status="error", cause="expectation", judged=judged)

    data = twin_of(tmp_path, Entry(result))

    assert {"judged": [9, 70, 61], "cause": "expectation"} == row(data, "judged", "cause")
    details = data["judged"]
    assert details
    assert (3, "1 of 9 metrics, 60 of 70 files differ") == (details["additional"], details["summary"])
    assert (40, 22) == (len(details["differences"]), details["differences_left_out"])
    assert {"name": "rmse", "old": 0.25, "new": 0.31}.items() <= dict(
        details["differences"][0]["metric"] or {}
    ).items()


def test_planned_rows_have_their_parameters_already(tmp_path: Path) -> None:
    """A search finds what has not run yet, and the table has its place; its details come with its run."""
    entry = Entry(a_result("not_run", message="has not run yet"), "n", config={"region": "EU"})

    assert {"parameters": {"region": "EU"}, "at": None} == row(twin_of(tmp_path, entry), "parameters", "at")
