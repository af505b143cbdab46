"""The table of the page, its grid and its plot, in a real browser."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from desk import Desk, a_page, needs_browser, with_rows
from support import a_result

from ductaflow.report import Entry

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = needs_browser

#: A metric with its difference, where there is room with how many per cent it is.
MOVED = "3.68 \u25b2 +0.41 (+12.5 %)"


def an_entry(flow: str, name: str, status: str, parameters: dict[str, Any], **fields: Any) -> Entry:
    result = a_result(status, flow=flow, instance=name, **fields)
    return Entry(result, f"n::{name}", parameters=parameters)


def a_forecast(region: str, horizon: int, status: str = "success", **fields: Any) -> Entry:
    given = {"region": region, "horizon": horizon, "note": "=1+1" if region == "EU" else "a|b", "same": 5}
    return an_entry("forecast", f"{region}_{horizon}", status, given, **fields)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six instances of a flow, two of another one, and a build with metrics of its own."""
    folder = tmp_path_factory.mktemp("table")
    entries = [
        a_forecast(
            "EU", 2030, metrics={"rmse": 3.68, "solver": "cbc"}, seconds=12.0, peak_memory=340_000_000
        ),
        a_forecast("EU", 2040, metrics={"rmse": 10.5, "solver": "highs"}, seconds=9.5),
        a_forecast("EU", 2050, metrics={"rmse": None, "solver": "highs"}, seconds=100.0),
        a_forecast("US", 2030, metrics={"rmse": -1, "solver": "cbc"}, seconds=0.5),
        a_forecast("US", 2040, "error", seconds=2.0, message="it broke"),
        a_forecast("US", 2050, metrics={"rmse": "n/a", "solver": "cbc"}, seconds=3.0),
        an_entry("prep", "a", "success", {"region": "EU"}),
        an_entry("prep", "b", "success", {"region": "US"}),
        an_entry("outlook", "all", "success", {"region": "EU"}, kind="build", metrics={"total": 7}),
    ]
    file = a_page(folder, entries, project="climate")
    with_rows(file, {"forecast/EU_2030": {"moved": {"rmse": 3.27}}})
    return file


def column(desk: Desk, title: str) -> list[str]:
    """The texts below a head of the table, from top to bottom."""
    heads = desk.page.locator(".cells thead th").all_inner_texts()
    place = heads.index(title) + 1
    return desk.page.locator(f".cells tbody tr > :nth-child({place})").all_inner_texts()


def head_of(desk: Desk, title: str) -> Locator:
    return desk.page.get_by_role("columnheader", name=title, exact=True)


def test_columns_are_what_differs_and_what_was_found(desk: Desk, page: Path) -> None:
    """Of one flow the parameters that differ among the rows, metrics and how they moved, what it took."""
    desk.open(page, "#view=table")
    assert [
        *("Status", "Instance", "region", "horizon", "note"),
        *("rmse", "solver", "Seconds", "Memory"),
    ] == desk.page.locator(".cells thead th").all_inner_texts()
    row = desk.page.locator('.cells tr[data-key="forecast/EU_2030"]').locator("td, th")
    assert [
        *("success", "EU_2030", "EU", "2030", "=1+1"),
        *(MOVED, "cbc", "12.0 s", "340 MB"),
    ] == row.all_inner_texts()
    assert "right" == row.nth(3).evaluate("cell => getComputedStyle(cell).textAlign")
    assert "3.68; 3.27 in the last good run, +12.5 %" == row.nth(5).get_attribute("title")
    desk.page.select_option("#table-flow", "outlook")
    assert ["Status", "Instance", "total"] == desk.page.locator(".cells thead th").all_inner_texts()
    desk.page.select_option("#table-flow", "*")
    assert ["forecast/US_2040", *["forecast/"] * 2] == [
        text if index == 0 else text[:9] for index, text in enumerate(column(desk, "Instance")[:3])
    ]
    assert "region" in desk.page.locator(".cells thead th").all_inner_texts()
    desk.search("flow:prep")
    assert ["a", "b"] == column(desk, "Instance")


def test_numbers_sort_as_numbers_and_what_is_missing_comes_last(desk: Desk, page: Path) -> None:
    """Numbers, the largest first, then texts, NaN, nothing; the other way the last two stay last."""
    desk.open(page, "#view=table")
    assert "none" == head_of(desk, "rmse").get_attribute("aria-sort")
    head_of(desk, "rmse").click()
    assert "descending" == head_of(desk, "rmse").get_attribute("aria-sort")
    assert ["10.5", MOVED, "-1", "n/a", "NaN", ""] == column(desk, "rmse")
    head_of(desk, "rmse").click()
    assert ["-1", MOVED, "10.5", "n/a", "NaN", ""] == column(desk, "rmse")
    head_of(desk, "region").click()
    assert "ascending" == head_of(desk, "region").get_attribute("aria-sort")
    head_of(desk, "rmse").click()
    desk.page.wait_for_function("() => location.hash === '#view=table&sort=-rmse'")
    desk.page.reload()
    desk.page.wait_for_selector(".cells tbody tr")
    assert "descending" == head_of(desk, "rmse").get_attribute("aria-sort")
    assert ["EU_2040", "EU_2030", "US_2030"] == column(desk, "Instance")[:3]


def test_presses_search_open_and_choose(desk: Desk, page: Path) -> None:
    """A parameter joins the search, all else opens, next goes by the table's order, the menu has all."""
    desk.open(page, "#view=table&sort=-seconds")
    desk.page.locator(".cells td").get_by_text("EU", exact=True).first.click()
    assert "region=EU" == desk.page.input_value("#search")
    assert ["EU_2050", "EU_2030", "EU_2040"] == column(desk, "Instance")
    desk.page.locator(".cells td").get_by_text("highs").first.click()
    desk.wait_for("forecast/EU_2050")
    assert "region=EU" == desk.page.input_value("#search")
    desk.page.click("#close")
    desk.page.locator(".cells .badge").first.click()
    desk.wait_for("forecast/EU_2050")
    desk.page.get_by_label("Next instance").click()
    desk.wait_for("forecast/EU_2030")
    assert "true" == desk.page.locator('.cells tr[data-key="forecast/EU_2030"]').get_attribute(
        "aria-selected"
    )
    desk.page.click("#close")
    desk.page.fill("#search", "")
    desk.page.get_by_text("Columns").click()
    desk.page.get_by_label("solver").uncheck()
    desk.page.get_by_label("same", exact=True).check()
    assert ["5"] * 6 == column(desk, "same")
    assert "solver" not in desk.page.locator(".cells thead th").all_inner_texts()
    desk.page.wait_for_function("() => location.hash === '#view=table&sort=-seconds&cols=-solver,same'")
    desk.page.keyboard.press("Escape")
    assert not desk.page.get_by_label("solver").is_visible()


def test_keys_do_everything_in_the_table(desk: Desk, page: Path) -> None:
    """One stop of Tab; arrows go from cell to cell, the head included; Enter sorts, opens and searches."""
    desk.open(page, "#view=table")
    keyboard = desk.page.keyboard
    desk.page.focus("#cells")
    assert "US_2040" == desk.page.inner_text("#active-cell")
    keyboard.press("ArrowUp")
    for _ in range(2):
        keyboard.press("ArrowRight")
    keyboard.press("Enter")
    assert "descending" == head_of(desk, "horizon").get_attribute("aria-sort")
    keyboard.press("Enter")
    keyboard.press("Control+End")
    assert ("active-cell", "EU_2050") == (
        desk.page.get_attribute("#cells", "aria-activedescendant"),
        column(desk, "Instance")[-2],
    )
    keyboard.press("Home")
    keyboard.press("Enter")
    desk.wait_for("forecast/US_2050")
    keyboard.press("ArrowUp")
    desk.wait_for("forecast/EU_2050")
    keyboard.press("Escape")
    desk.panel.wait_for(state="hidden")
    assert "cells" == desk.page.evaluate("document.activeElement.id")
    keyboard.press("ArrowRight")
    keyboard.press("ArrowRight")
    keyboard.press("Enter")
    assert "region=EU" == desk.page.input_value("#search")


def test_what_is_shown_is_exported(desk: Desk, page: Path) -> None:
    """CSV has values as they are, Markdown as they are read; no cell is a formula, markup or two cells."""
    desk.open(page, "#view=table&sort=instance&q=horizon=2030")
    desk.page.get_by_text("Copy", exact=True).click()
    with desk.page.expect_download() as waiting:
        desk.page.get_by_text("Download as CSV").click()
    assert "climate-forecast.csv" == waiting.value.suggested_filename
    with Path(waiting.value.path()).open(newline="") as file:
        table = list(csv.reader(file))
    names = ["status", "instance", "region", "note", "rmse", "moved.rmse", "solver"]
    names += ["seconds", "memory_bytes"]
    moved = str(3.68 - 3.27)
    assert [
        [name for name in names if name != "solver"],
        ["success", "forecast/EU_2030", "EU", "'=1+1", "3.68", moved, "12", "340000000"],
        ["success", "forecast/US_2030", "US", "a|b", "-1", "", "0.5", ""],
    ] == [[cell for cell, name in zip(line, names, strict=True) if name != "solver"] for line in table]
    for button, text in (
        ("As a Markdown table", "| success | forecast/US_2030 | US | a\\|b | -1 | cbc | 0.50 s |  |\n"),
        ("As CSV", "success,forecast/US_2030,US,a|b,-1,,cbc,0.5,\r\n"),
        ("Node ids", "n::EU_2030\nn::US_2030"),
        ("Ids", "forecast/EU_2030\nforecast/US_2030"),
    ):
        desk.page.get_by_text("Copy", exact=True).click()
        desk.page.get_by_role("button", name=button, exact=True).click()
        desk.page.locator(".menu .copy").get_by_text("Copied").wait_for()
        assert text.replace("\r", "") in desk.copied().replace("\r", "")
        desk.page.locator(".menu .copy").first.wait_for(state="hidden")
        assert "SUMMARY" == desk.page.evaluate("document.activeElement.tagName")


def test_what_moved_is_one_press_away(desk: Desk, tmp_path: Path) -> None:
    """A line shows what moved of all flows; heads sort by how much; names are told apart; paths come last."""
    names = [f"m{number}" for number in range(16)]
    entries = [
        *(
            an_entry(
                "fit",
                f"f{number}",
                "success",
                {"file": f"in/{number}.csv", "size": number % 2, "kind": "ab"[number // 2]},
                metrics={"size": 100.0 + number, "share": 0.5},
            )
            for number in range(4)
        ),
        an_entry("sum", "all", "success", {"size": 7}, metrics={"total": 4, **dict.fromkeys(names, 1)}),
    ]
    file = a_page(tmp_path, entries)
    moved = {"fit/f1": {"size": 100.0}, "fit/f2": {"size": 152.0}, "sum/all": {"total": 2}}
    with_rows(file, {id: {"moved": before} for id, before in moved.items()})
    desk.open(file, "#view=list")
    desk.page.get_by_text("3 instances moved since their last good run").first.click()
    desk.page.wait_for_function("() => location.hash === '#q=is:moved&flow=*'")
    assert ["fit/f1", "fit/f2", "sum/all"] == column(desk, "Instance")
    heads = desk.page.locator(".cells thead th").all_inner_texts()
    assert ["size", "metrics.size", "share", "total", *names[:13]] == heads[2:]
    assert "3 more metrics are under Columns." in desk.page.inner_text("#cells-keys")
    assert ["", "", "4 \u25b2 +2"] == column(desk, "total")
    desk.page.fill("#search", "metrics.size>0")
    assert ["fit (4)", "sum (0)", "all flows"] == desk.page.locator("#table-flow option").all_inner_texts()
    assert "file" == desk.page.locator(".cells thead th").all_inner_texts()[-1]
    desk.page.locator('.cells [data-column="metrics.size"] .by-change').click()
    desk.page.wait_for_function("() => location.hash.includes('sort=-moved.size')")
    assert ["f2", "f1"] == column(desk, "Instance")[:2]
    # numbers stand in line, those without a difference too
    ends = desk.page.evaluate(
        """() => [...document.querySelectorAll('.cells tbody tr > :nth-child(5)')].map((cell) => {
            const range = document.createRange();
            range.selectNodeContents(cell.firstChild);
            return Math.round(range.getBoundingClientRect().right);
        })"""
    )
    assert ends == [ends[0]] * 4
    desk.page.get_by_role("button", name="Grid", exact=True).click()
    assert ["size", "kind"] == [desk.page.input_value(f"#choice-{side}") for side in ("across", "down")]


def test_grid_crosses_two_parameters(desk: Desk, page: Path) -> None:
    """A cell has sign and value of its instance; of several it says how many, and a press finds them."""
    desk.open(page, "#view=table")
    desk.page.get_by_role("button", name="Grid", exact=True).click()
    cells = desk.page.locator(".crossed tbody td")
    assert ["3.68", "-1", "10.5", "error", "success", "success"] == [
        text.split(",")[0].strip() for text in cells.all_inner_texts()
    ]
    assert "\u2193" in desk.page.inner_text(".crossed thead td")
    cells.first.locator("button").focus()
    desk.page.keyboard.press("ArrowDown")
    desk.page.keyboard.press("ArrowRight")
    desk.page.keyboard.press("Enter")
    desk.wait_for("forecast/US_2040")
    desk.page.click("#close")
    desk.page.get_by_label("Down").select_option("note")
    desk.page.wait_for_function("() => location.hash.includes('grid=region,note,rmse')")
    assert "3.68 to 10.5\n3 instances, 1 without" in cells.first.inner_text()
    cells.first.click()
    assert "region=EU note==1+1" == desk.page.input_value("#search")


def test_plot_has_any_columns_and_says_what_it_shows(desk: Desk, page: Path) -> None:
    """Keys go from point to point, a press opens one; what has no number, or none for log, is counted."""
    desk.open(page, "#view=table&plot=horizon,seconds,region")
    said = desk.page.locator("#plot-said")
    assert "6 points. horizon from 2030 (forecast/US_2030) to 2050" in said.inner_text()
    assert "Seconds from 0.50 s (forecast/US_2030) to 1 min 40 s (forecast/EU_2050)." in said.inner_text()
    assert ["region", "EU 3", "US 3"] == [
        " ".join(text.split()) for text in desk.page.locator(".plot-legend li").all_inner_texts()
    ]
    desk.page.focus("#plot")
    desk.page.keyboard.press("End")
    assert "forecast/EU_2050, success" in desk.page.inner_text(".plot-tip")
    desk.page.keyboard.press("Enter")
    desk.wait_for("forecast/EU_2050")
    desk.page.keyboard.press("Escape")
    desk.panel.wait_for(state="hidden")
    desk.page.keyboard.press("Home")
    # the box with its texts stands above the point, which is the lowest one
    tip = desk.page.locator(".plot-tip").bounding_box()
    assert tip is not None
    desk.page.mouse.click(tip["x"] - 12, tip["y"] + tip["height"] + 10)
    desk.wait_for("forecast/US_2030")
    desk.page.click("#close")
    desk.page.get_by_label("y", exact=True).select_option("rmse")
    desk.page.get_by_label("log y").check()
    desk.page.wait_for_function("() => location.hash.includes('plot=horizon,rmse,region,logy')")
    assert "2 points." in said.inner_text()
    assert "4 instances are left out: no horizon or rmse that is a number above 0." in said.inner_text()


def test_rows_are_real_up_to_1500(desk: Desk, tmp_path: Path) -> None:
    """The browser's search finds all of them; of more, those on the screen exist; the end is a key away."""
    for count, real in ((1500, True), (1501, False)):
        entries = [
            an_entry("fit", f"i{number}", "success", {"n": number}, metrics={"m": number})
            for number in range(count)
        ]
        desk.open(a_page(tmp_path, entries), "")
        assert "table" == desk.page.evaluate("document.querySelector('[aria-selected=true]').id.slice(4)")
        if real:
            desk.page.wait_for_function("() => document.querySelectorAll('.cells tbody tr').length === 1500")
            assert desk.page.evaluate("find('i1499')")
        else:
            assert 100 > desk.page.locator(".cells tbody tr").count()
            desk.page.focus("#cells")
            desk.page.keyboard.press("Control+End")
            desk.page.wait_for_function("() => document.getElementById('active-cell')?.innerText === '1500'")
        assert str(count + 1) == desk.page.get_attribute("#cells", "aria-rowcount")
