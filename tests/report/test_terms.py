"""The search of the page with numbers, sizes and times."""

from __future__ import annotations

from pathlib import Path

from desk import Desk, a_page, needs_browser, with_rows
from support import a_result

from ductaflow.report import Entry

pytestmark = needs_browser

FOUND = {
    "seconds>60": "b c",
    "seconds>2min": "c",
    "seconds<=90s": "a b",
    "memory>2GB": "c",
    "memory<=500MB": "a",
    "warnings>0": "b",
    "started>11:30": "c d",
    "started<2030-01-01T11:30": "a b",
    "started=11:05..11:45": "b c",
    "rmse<1": "a",
    "rmse>=0.5": "a b",
    "rmse=0.5..1.5": "a b",
    "rmse=..1": "a",
    "rmse=1.5": "b",
    "-rmse<1": "b c d",
    "horizon>2030": "b c",
    "horizon=2040.0": "b",
    "host=db*": "a",
    "port=5432..5432": "a",
    "rmse=nan": "c",
    "moved.rmse>0": "b",
    "is:moved": "b",
    '"a<b"': "d",
}
SAID = {
    "rmse<1": "rmse<1: 1 instance with no number as rmse (NaN) is not compared.",
    "rmse<abc": "rmse<abc: abc is no number.",
    "rmse=1..x": "rmse=1..x: x is no number.",
    "rmse<": "rmse<: this has no number.",
    "seconds>soon": "soon is nothing that seconds are compared with; write 60, 2min or 1h.",
    "region>3": "region>3: region has no numbers here, but US, EU.",
    "nosuch>3": "Unknown term nosuch>3; known are seconds, memory, warnings, started, region, horizon,",
    "path=../x": "",
    "a<b": "",
    "horizon>2030": "",
}


def test_numbers_sizes_and_times_are_compared(desk: Desk, tmp_path: Path) -> None:
    """Below, above and between, by name; what is no number is said, not left out silently."""
    entries = [
        Entry(a_result("success", instance="a", seconds=10.0, started="2030-01-01T11:00:00Z")),
        Entry(
            a_result("warning", instance="b", seconds=90.0, warning_count=2, started="2030-01-01T11:10:00Z")
        ),
        Entry(a_result("success", instance="c", seconds=200.0, started="2030-01-01T11:40:00Z")),
        Entry(a_result("error", instance="d", message="a<b", started="2030-01-02T09:00:00Z")),
    ]
    page = a_page(tmp_path, entries, started="2030-01-01T10:59:00Z", finished="2030-01-02T09:01:00Z")
    with_rows(
        page,
        {
            "fit/a": {
                "parameters": {
                    "region": "EU",
                    "horizon": "2030",
                    "database.host": "db1",
                    "database.port": "5432",
                },
                "metrics": {"rmse": 0.5},
                "memory": 400_000_000,
            },
            "fit/b": {
                "parameters": {"region": "US", "horizon": "2040"},
                "metrics": {"rmse": 1.5},
                "moved": {"rmse": 1.25},
                "memory": 2_000_000_000,
            },
            "fit/c": {
                "parameters": {"region": "US", "horizon": "2050", "path": "../x"},
                "metrics": {"rmse": None},
                "memory": 2_500_000_000,
            },
        },
    )
    desk.open(page)
    for words, names in FOUND.items():
        assert sorted(f"fit/{name}" for name in names.split()) == sorted(desk.search(words)), words
    for words, said in SAID.items():
        desk.search(words)
        shown = desk.page.inner_text("#unknown")
        assert (bool(said), said) == (bool(shown), said if said in shown else shown), words
