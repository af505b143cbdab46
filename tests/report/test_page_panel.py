"""The panel of one instance in a real browser: what a person asks of it first comes first."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

from desk import Desk, a_page, a_run_of, needs_browser, opened
from support import a_result

from ductaflow.common.errors import Failure, SourceLine
from ductaflow.comparison.difference import FileDifference, ValueDifference
from ductaflow.report import Entry
from ductaflow.store.result import Difference, Judged, Result, write_result

pytestmark = needs_browser

TRACEBACK = """Traceback (most recent call last):
  File "/home/me/flows/dispatch.py", line 26, in <module>
    data["price"]
  File "/venv/lib/python3.11/site-packages/pandas/core/frame.py", line 1, in get
    return self.loc
  File "pandas/_libs/index.pyx", line 172, in pandas._libs.index.IndexEngine.get_loc
  File "/home/me/flows/own.py", line 2, in last
    raise KeyError("price")
KeyError: 'price'
"""


def a_red_build(runs: Path) -> Entry:
    """A build that failed by a flow of a build in it."""
    source = tuple(SourceLine(line=number, text=f"line {number}") for number in (25, 26, 27))
    failure = Failure("flows/dispatch.py", 26, 3, "KeyError", "'price'", TRACEBACK, source)
    flow = a_result("error", flow="dispatch", instance="dispatch", cause="exception", failure=failure)
    chain = Failure("builds/regional.py", 12, 1, "FlowFailed", "dispatch[dispatch] failed: x", "trace", ())
    middle = replace(flow, flow="regional", instance="EU", kind="build", failure=chain, children=("runs/d",))
    top = replace(middle, flow="national", children=("runs/r",), folder=runs / "national/EU")
    for result, path in ((top, "."), (middle, "runs/r"), (flow, "runs/r/runs/d")):
        folder = runs / "national/EU" / path
        folder.mkdir(parents=True, exist_ok=True)
        write_result(result, folder)
    return Entry(top, "n::national")


def test_a_red_build_shows_what_failed_in_it(desk: Desk, tmp_path: Path) -> None:
    """Cause, source and traceback of the flow, the way to it as links, the chain folded; as Markdown too."""
    desk.open(a_page(tmp_path, [a_red_build(tmp_path)]))
    assert "flows/dispatch.py:26: KeyError: 'price' (in regional/EU \u203a dispatch)" == desk.page.inner_text(
        ".row .message"
    )
    opened(desk, "national/EU")
    panel = desk.panel
    assert "Exception at flows/dispatch.py:26: KeyError: 'price'" == panel.locator(".cause").inner_text()
    assert "line 26" in panel.locator(".source .here").first.inner_text()
    trace = desk.part("traceback").inner_text()
    assert ("2 frames in pandas" in trace, "IndexEngine" in trace, "own.py" in trace) == (True, False, True)
    assert desk.part("way").get_attribute("open") is None

    panel.get_by_role("button", name="Copy as issue").click()
    desk.page.wait_for_function("() => document.querySelector('#said').textContent.startsWith('Copied')")
    issue = desk.copied()
    assert issue.startswith("### national/EU: KeyError: 'price'\n\n- Place: `flows/dispatch.py:26, cell 3`")
    assert "```python\n  25  line 25\n> 26  line 26\n  27  line 27\n```" in issue
    assert "raise KeyError" in issue
    assert "- Run again: `pytest --ductaflow n::national`" in issue

    panel.locator(".breadcrumb").get_by_text("dispatch").click()
    desk.wait_for("national/EU \u203a regional/EU \u203a dispatch")
    assert "Copy run its build again" in panel.inner_text()


def judged(folder: Path, name: str, *differences: Difference) -> Entry:
    """A run that was judged."""
    entry = a_run_of(folder, name, {"region": name})
    result = entry.result
    if differences:
        result = replace(
            result, status=result.status.ERROR, cause="expectation", message="2 of 3 metrics differ"
        )
    return replace(entry, result=replace(result, judged=Judged(3, 1, 2, differences)))


def test_what_is_not_as_expected_is_shown_with_what_was_allowed(desk: Desk, tmp_path: Path) -> None:
    """Expected, found, difference, tolerance or bound; how much was judged; commands that look and accept."""
    other = ValueDifference("rmse", "other", 0.3, 0.36, 0.2, "rtol 0.001")
    bound = ValueDifference("cost", "bound", None, 900, None, "> max 800")
    cell = ValueDifference("hour 7", "other", 10, 12, 0.2, "exact", "load")
    file = FileDifference("hourly.csv", "table", unit="cells", compared=100, differing=1, worst=(cell,))
    red = judged(tmp_path, "EU", *(Difference(metric=one) for one in (other, bound)), Difference(file=file))
    failed = Entry(a_result("error", instance="x"), "n::x")
    desk.open(a_page(tmp_path, [red, judged(tmp_path, "US"), failed]))
    assert ["fit/EU"] == desk.search("is:unexpected")
    assert ["fit/EU", "fit/US"] == desk.search("is:judged")
    opened(desk, "fit/EU")
    assert "Not as expected: 2 of 3 metrics differ" in desk.panel.inner_text()
    rows = desk.part("expected").locator("tbody tr").all_inner_texts()
    assert [
        "rmse\t0.3\t0.36\t+0.06 (+20 %)\trtol 0.001",
        "cost\tat most 800\t900\t\tbound",
        "hour 7, load\t10\t12\t+2 (+20 %)\texact",
    ] == rows
    text = desk.part("expected").inner_text()
    assert "1 of 100 cells differ" in text
    assert "Judged: 3 metrics, 1 file; 2 other metrics are not." in text
    assert "A bound is not accepted (cost)" in text
    regions = desk.part("expected").get_by_role("region")
    names = ["Metrics that are not as expected", "What differs in hourly.csv"]
    assert names == [region.get_attribute("aria-label") for region in regions.all()]
    commands = desk.part("expected").locator(".command code").all_inner_texts()
    assert ["ductaflow diff fit/EU@expected fit/EU", "ductaflow accept fit/EU"] == commands
    opened(desk, "fit/US")
    assert "judged: 3 metrics, 1 file" in desk.part("expected").inner_text()


def with_notebook(entry: Entry, *outputs: dict[str, object]) -> Entry:
    """A run whose notebook has one code cell with outputs."""
    result: Result = entry.result
    assert result.folder
    shown = [{"output_type": "display_data", "data": data} for data in outputs]
    cell = {"cell_type": "code", "id": "c1", "metadata": {}, "outputs": shown}
    (result.folder / "fit.ipynb").write_text(json.dumps({"cells": [cell]}))
    (result.folder / "fit.html").write_text('<div id="cell-id=c1">cell</div>')
    return entry


def test_figures_open_in_full_size_and_interactive_ones_are_links(desk: Desk, tmp_path: Path) -> None:
    """Arrows lead to the same cell of the next instance; no interactive figure is left out in silence."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>'
    plotly = {"application/vnd.plotly.v1+json": {}, "text/html": "<b>x</b>"}
    names = ("a", "b", "c")
    outputs = {"a": [{"image/svg+xml": svg}, plotly], "b": [], "c": [{"image/svg+xml": svg}]}
    entries = [with_notebook(a_run_of(tmp_path, name, {"x": name}), *outputs[name]) for name in names]
    desk.open(a_page(tmp_path, entries), "#id=fit/a")
    desk.wait_for("fit/a")
    link = desk.part("figures").locator(".interactive a")
    assert ("Cell 1: interactive figure of Plotly", "fit/a/fit.html#cell-id=c1") == (
        link.inner_text(),
        link.get_attribute("href"),
    )
    data = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    assert data == desk.part("figures").locator("img").get_attribute("src")
    desk.part("figures").get_by_role("button").click()
    assert "fit/a, cell 1" == desk.page.inner_text("#figure-name")
    desk.page.keyboard.press("ArrowRight")
    desk.page.wait_for_function(
        "() => document.querySelector('#figure-name').textContent.startsWith('fit/c')"
    )
    desk.page.keyboard.press("Escape")
    assert not desk.page.locator("#figure").is_visible()
    desk.page.wait_for_function("() => document.activeElement.className === 'figure'")
    link.click()
    assert desk.page.url.endswith("fit/a/fit.html#cell-id=c1")


def test_warnings_are_grouped_and_lead_into_the_log(report: Desk) -> None:
    """Lines that differ in numbers alone are one kind."""
    opened(report, "prep/EU")
    assert "2 lines, 2 kinds" in report.part("warnings").inner_text()
    report.part("warnings").get_by_text("warning: station 7 has drifted").click()
    assert "station 7" in report.part("log").locator(".line.current").inner_text()


def test_parameters_that_differ_in_the_flow_are_a_click_away(report: Desk) -> None:
    """Those that all instances have alike are in the config; what changed since the last good run is said."""
    opened(report, "fit/US_2030")
    assert {"region=US", "horizon=2030", "degree=3", "clean=runs/prep/US/clean.csv"} == set(
        report.panel.locator(".strip button").all_inner_texts()
    )
    since = report.part("since").inner_text()
    assert "config degree: 1 -> 3" in since
    assert "Not known here: the code" in since
    # the log does not say it a second time
    log = report.part("log").inner_text()
    assert ("The traceback above" in log, "in solve" in log) == (True, False)
    report.panel.locator(".strip").get_by_text("horizon=2030").click()
    assert {"fit/EU_2030", "fit/US_2030"} == set(report.names())
