"""Some runs side by side on the page, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from desk import Desk, a_page, a_run_of, needs_browser, opened
from support import a_result

from ductaflow.report import Entry

pytestmark = needs_browser


def test_runs_are_chosen_and_compared(report: Desk) -> None:
    """By the key x, the box of a row, or Shift and a click; the address has them, also in the list."""
    page = report.page
    report.search("flow:fit")
    page.focus("#list")
    page.keyboard.press("x")
    assert "Choose one more" in page.inner_text(".compare-bar")
    report.row("fit/EU_2030").click(modifiers=["Shift"])
    assert ["true", "true"] == [
        report.row(key).get_attribute("aria-checked") for key in ("fit/US_2030", "fit/EU_2030")
    ]
    assert not report.panel.is_visible()
    page.wait_for_function("() => location.hash.includes('view=list&compare=fit/US_2030,fit/EU_2030')")
    page.get_by_role("button", name="Compare 2").click()
    page.wait_for_selector(".compare section")
    assert not page.locator(".compare-bar").is_visible()
    assert "#compare=fit/US_2030,fit/EU_2030&q=flow:fit" == page.evaluate(
        "() => new Promise(done => setTimeout(() => done(location.hash), 400))"
    )
    page.reload()
    page.wait_for_selector(".compare section")
    config = page.get_by_role("region", name="Config").locator("tbody tr").all_inner_texts()
    assert {"region\tUS\tEU", "degree\t3\t1"} <= set(config)
    assert not any(row.startswith("horizon") for row in config)
    logs = page.inner_text(".log-diff")
    assert "only in the first" in logs
    assert page.locator(".log-diff .gone").count() > 0
    assert "ductaflow diff fit/US_2030 fit/EU_2030" in page.inner_text(".compare")
    page.get_by_label("without a difference").check()
    assert "horizon\t2030\t2030" in page.get_by_role("region", name="Config").inner_text()


def test_comparing_closes_the_panel(report: Desk) -> None:
    """It needs the room."""
    opened(report, "fit/US_2050")
    for key in ("fit/US_2030", "fit/EU_2030"):
        report.row(key).locator(".pick").click()
    report.page.get_by_role("button", name="Compare 2").click()
    report.page.wait_for_selector(".compare section")
    assert not report.panel.is_visible()
    report.page.go_back()
    report.page.wait_for_selector("#panel-name")


@pytest.mark.parametrize("width", [1400, 390])
def test_facts_that_differ_are_marked(desk: Desk, tmp_path: Path, width: int) -> None:
    """Durations always differ, so they do not count; of commits a line tells. All columns are seen."""

    def of_commit(name: str, commit: str, seconds: float) -> Entry:
        result = a_run_of(tmp_path, name, {"x": 1}).result
        git = {"commit": commit * 40, "dirty": False}
        return Entry(replace(result, environment={"git": git}, seconds=seconds), f"n::{name}")

    desk.page.set_viewport_size({"width": width, "height": 844})
    file = a_page(tmp_path, [of_commit("a", "1", 1.0), of_commit("b", "2", 2.0), of_commit("c", "1", 3.0)])
    desk.open(file, "#compare=fit/a,fit/b")
    runs = desk.page.locator(".compare section").first
    runs.wait_for()
    assert ["Commit"] == runs.locator("tr.differs th").all_inner_texts()
    assert "different commits" in runs.inner_text()
    assert runs.locator(".scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
    desk.page.evaluate("location.hash = 'compare=fit/a,fit/c'")
    desk.page.wait_for_function("document.querySelector('.compare thead')?.textContent.includes('fit/c')")
    assert "commits" not in runs.inner_text()


def test_a_failure_is_compared_with_the_nearest_good_one(report: Desk) -> None:
    """That is the good instance of the flow with the most parameters alike, here the same horizon."""
    opened(report, "fit/US_2050")
    report.panel.get_by_role("button", name="Compare with the nearest good one").click()
    report.page.wait_for_selector(".compare section")
    heads = report.page.locator(".compare section").first.locator("thead button").all_inner_texts()
    assert ["fit/US_2070", "fit/US_2050"] == heads or ["fit/EU_2050", "fit/US_2050"] == heads
    report.page.get_by_role("tab", name="Instances").click()
    report.page.get_by_role("button", name="Clear").click()
    assert not report.page.get_by_role("tab", name="Compare").is_visible()


def test_metrics_have_their_differences(desk: Desk, tmp_path: Path) -> None:
    """New minus old against the first; a text has none, and what one has not is said. Four at most."""

    def with_metrics(name: str, **metrics: float | str) -> Entry:
        entry = a_run_of(tmp_path, name, {"x": 1})
        return replace(entry, result=replace(entry.result, metrics=metrics))

    entries = [
        with_metrics("a", rmse=0.4, zone="n", same=1),
        with_metrics("b", rmse=0.5, zone="s", same=1),
        with_metrics("c", zone="n", same=1),
        *(Entry(a_result("success", instance=name), f"n::{name}") for name in ("d", "e")),
    ]
    page = a_page(tmp_path, entries)
    desk.open(page, "#compare=fit/a,fit/b,fit/c")
    desk.page.wait_for_selector(".compare section")
    rows = desk.page.get_by_role("region", name="Metrics").locator("tbody tr").all_inner_texts()
    assert ["rmse\t0.4\t0.5 +0.1 (+25 %)\tnot given", "zone\tn\ts\tn"] == rows
    desk.page.get_by_role("button", name="Do not compare fit/b").click()
    desk.page.wait_for_function(
        "() => document.querySelector('.compare thead')?.textContent.includes('fit/b') === false"
    )
    desk.open(page, "#compare=fit/a,fit/b,fit/c,fit/d&view=list")
    desk.row("fit/e").click(modifiers=["Shift"])
    assert "false" == desk.row("fit/e").get_attribute("aria-checked")
    assert "At most 4 can be compared" == desk.page.text_content("#said")


def test_nothing_to_compare_says_how_to_choose(desk: Desk, tmp_path: Path) -> None:
    """An address may name what the report does not have."""
    desk.open(a_page(tmp_path, [a_run_of(tmp_path, "a", {"x": 1})]), "#view=compare&compare=fit/gone")
    assert "Choose two to four instances" in desk.page.inner_text("#view-compare")
