"""What came of each instance in the last sessions: in the file, and in the rows of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import a_result, page_data

from ductaflow.common.paths import REPORT_HTML, REPORT_JSON
from ductaflow.report import Entry, LiveReport, build_report, merge_reports, render_html, write_report
from ductaflow.report.history import MAX_SESSIONS, history_file
from ductaflow.report.past import Past, Touched, letter_of, packed_touched
from ductaflow.store.result import Status


def session(runs: Path, id: str, **instances: tuple[str, float]) -> None:
    """A session that ran some instances: status and seconds of each."""
    live = LiveReport(runs, session_id=id)
    for name, (status, seconds) in instances.items():
        live.update(Entry(a_result(status, instance=name, seconds=seconds, run_id=f"{id}{name}")))
    live.close()


def pasts(page: str) -> dict[str, Any]:
    return {row["id"]: row.get("past") for row in page_data(page).rows}


def test_rows_say_what_came_of_them_in_each_session(tmp_path: Path) -> None:
    """Letters and seconds, the oldest session first, on the page of the last one and on one made anew."""
    session(tmp_path, "s1", a=("success", 0.12345), b=("error", 1.5))
    session(tmp_path, "s2", b=("warning", 2.0))
    session(tmp_path, "s3", a=("unchanged", 9.0), c=("blocked", 0.0))

    expected = {
        "fit/a": ["s.u", [0.12, None, None]],
        "fit/b": ["ew.", [1.5, 2.0, None]],
        "fit/c": ["..b", [None, None, None]],
    }
    shown = pasts((tmp_path / REPORT_HTML).read_text())
    assert {id: expected[id] for id in shown} == shown
    assert {"fit/a", "fit/c"} <= shown.keys()
    twin = json.loads((tmp_path / REPORT_JSON).read_text())
    assert shown == {one["id"]: one.get("past") for one in twin["instances"]}
    assert [False] * 3 == ["touched" in line for line in twin["history"]]
    anew = [Entry(a_result(instance=name)) for name in "abcd"]
    data = build_report(anew, session_id="x", started="", finished="x", runs_dir=tmp_path)
    assert {**expected, "fit/d": None} == pasts(render_html(data))


def test_a_running_session_shows_the_past_before_it(tmp_path: Path) -> None:
    """The letters are those of the sessions that the page lists."""
    session(tmp_path, "s1", a=("success", 1.0))
    live = LiveReport(tmp_path, session_id="s2", min_interval=0.0)
    live.update(Entry(a_result("error", instance="a", run_id="r")))

    assert {"fit/a": ["s", [1.0]]} == pasts((tmp_path / REPORT_HTML).read_text())
    live.close()
    assert {"fit/a": ["se", [1.0, 0.0]]} == pasts((tmp_path / REPORT_HTML).read_text())


def test_the_past_is_as_long_as_the_history(tmp_path: Path) -> None:
    """What is older than the sessions that the page lists is forgotten."""
    for number in range(MAX_SESSIONS + 2):
        session(tmp_path, f"s{number}", a=("error" if number < 3 else "success", 1.0))

    page = (tmp_path / REPORT_HTML).read_text()
    assert [["e" + "s" * (MAX_SESSIONS - 1), [1.0] * MAX_SESSIONS]] == [*pasts(page).values()]
    assert MAX_SESSIONS == len(page_data(page).head["history"])


@pytest.mark.parametrize("damaged", ['"touched": "x"', '"touched": "eJwDAAAAAAE="', '"untouched": ""'])
def test_a_line_that_does_not_tell_costs_its_session(tmp_path: Path, damaged: str) -> None:
    """As those of older versions: there is a letter for that, and the others are as they were."""
    for number in range(3):
        session(tmp_path, f"s{number}", a=("success", 1.0))
    file = history_file(tmp_path)
    lines = file.read_text().splitlines(keepends=True)
    start = lines[1].index('"touched"')
    lines[1] = lines[1][:start] + damaged + "}\n"
    file.write_text("".join(lines))

    data = build_report([Entry(a_result())], session_id="x", started="", finished="x", runs_dir=tmp_path)

    assert ([], ["s?s", [1.0, None, 1.0]]) == (data["notes"], data["instances"][0]["past"])


def test_a_merged_report_has_the_past_of_its_own_folder(tmp_path: Path) -> None:
    """Letters of the sessions of another machine would stand under the wrong ones."""
    for name in ("machine", "all"):
        session(tmp_path / name, name, a=("error" if name == "all" else "success", 1.0))

    data = merge_reports([tmp_path / "machine" / REPORT_JSON], tmp_path / "all").twin

    assert ["e", [1.0]] == data["instances"][0]["past"]
    write_report(data, tmp_path / "all")


def test_thousands_of_instances_stay_small() -> None:
    """10,000 instances of 40 sessions take under 4 MB of the file, and a line of 7 characters each."""
    names = [f"flow_{number % 4}/scenario_{number:05}" for number in range(10_000)]
    touched = {
        id: Touched([*Status][len(id + id[-2:]) % 3], index * 0.37 % 97) for index, id in enumerate(names)
    }

    text = packed_touched(touched)

    assert len(text) < 100_000
    past = Past([{"touched": text}])  # type: ignore[typeddict-item]
    assert [letter_of(touched[names[7]].status), [2.6]] == past.of(names[7])


def test_each_status_has_its_letter() -> None:
    """The page finds the status by the letter."""
    assert len(Status) == len({letter_of(status) for status in Status} - {".", "?"})
