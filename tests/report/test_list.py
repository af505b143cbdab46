"""The list of the page, its header, its search box and its keys, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from desk import Desk, a_page, a_red, needs_browser
from support import a_result

from ductaflow.report import Entry

pytestmark = needs_browser

IS_WHOLE = "start => [start, ...start.children].every(one => one.scrollWidth <= one.clientWidth)"


def active(desk: Desk) -> str | None:
    """The row that the arrows start from."""
    return desk.page.get_attribute(".row[data-active]", "data-key")


def focus(desk: Desk) -> str:
    return str(desk.page.evaluate("document.activeElement.id || document.activeElement.textContent"))


# --- the list ----------------------------------------------------------------------------------------------


def test_browser_finds_every_row(desk: Desk, tmp_path: Path) -> None:
    """Up to 1,500 rows exist, whole names among them; the height of the page is right from the start."""
    entries = [Entry(a_result("success", instance=f"i{number}")) for number in range(400)]
    desk.open(a_page(tmp_path, entries))
    assert 400 * 36 == desk.page.locator("#list").bounding_box()["height"]
    desk.page.wait_for_function("document.querySelectorAll('.row').length === 400")
    assert [True, True] == desk.page.evaluate("[window.find('fit/i7'), window.find('fit/i399')]")


def test_the_word_of_a_status_has_room(desk: Desk, tmp_path: Path) -> None:
    """The longest of them ends before the name of the instance begins."""
    desk.open(a_page(tmp_path, [Entry(a_result("unchanged", instance="old"))]))
    end, begin = desk.page.evaluate("""() => {
        const box = selector => document.querySelector(selector).getBoundingClientRect();
        const range = document.createRange();
        range.selectNodeContents(document.querySelector(".row .badge"));
        return [range.getBoundingClientRect().right, box(".row .name").left];
    }""")
    assert end < begin


def test_rows_are_compact_or_high_and_stay_so(report: Desk) -> None:
    """The message stands beside the name, or below it; a browser remembers it for all pages."""
    page = report.page
    message = report.row("fit/US_2030").locator(".message")
    name = report.row("fit/US_2030").locator(".name")
    assert 36 == report.row("fit/US_2030").bounding_box()["height"]
    assert name.bounding_box()["x"] + name.bounding_box()["width"] < message.bounding_box()["x"]
    page.get_by_role("button", name="Comfortable").click()
    page.reload()
    assert name.bounding_box()["y"] + name.bounding_box()["height"] <= message.bounding_box()["y"] + 1
    page.get_by_role("button", name="Compact").click()
    assert 36 == report.row("fit/US_2030").bounding_box()["height"]


@pytest.mark.parametrize(("width", "address"), [(390, ""), (1400, "#id=fit/africa_2030_very_long_case_wind")])
def test_names_show_both_ends(desk: Desk, tmp_path: Path, width: int, address: str) -> None:
    """On a phone and beside the panel the name has the room; messages that have none are not there."""
    names = ("africa_gas", "africa_2030_very_long_case_gas", "africa_2030_very_long_case_wind")
    file = a_page(tmp_path, [a_red(name) for name in names])
    desk.page.set_viewport_size({"width": width, "height": 844})
    desk.open(file, address)
    for wish in ("Compact", "Comfortable"):
        if desk.page.locator("#list").get_attribute("data-density") != wish.lower():
            desk.page.get_by_role("button", name=wish).click()
        for name in names:
            row = desk.row(f"fit/{name}")
            if row.locator(".end").count():
                end, whole = row.locator(".end").bounding_box(), row.locator(".name").bounding_box()
                assert end["x"] + end["width"] <= whole["x"] + whole["width"]
            else:
                assert row.locator(".start").evaluate(IS_WHOLE)
            assert (wish == "Comfortable") == row.locator(".message").is_visible()
            box = row.locator(".pick").bounding_box()
            assert box["width"] >= 24
            assert box["height"] >= 24


def test_messages_begin_at_one_column(desk: Desk, tmp_path: Path) -> None:
    """Whatever the lengths of the names are."""
    desk.open(a_page(tmp_path, [a_red(name) for name in ("a", "a_case", "a_long_case_of_2030_in_the_north")]))
    boxes = [one.bounding_box() for one in desk.page.locator(".row .message").all()]
    assert 1 == len({box["x"] for box in boxes if box})


def test_tabs_of_a_phone_scroll_to_that_of_the_view(desk: Desk, tmp_path: Path) -> None:
    """Where there are more of them the edge fades."""
    desk.page.set_viewport_size({"width": 390, "height": 844})
    desk.open(a_page(tmp_path, [a_red("a")]), "#view=trend")
    tab = desk.page.get_by_role("tab", name="Trend").bounding_box()
    assert tab
    assert tab["x"] + tab["width"] <= 390
    assert [True, False] == desk.page.locator(".tabs").evaluate(
        "tabs => ['data-before', 'data-behind'].map(name => tabs.hasAttribute(name))"
    )


def test_slash_leads_to_the_search_from_a_select(report: Desk) -> None:
    """Letters choose in it; no choice begins with that."""
    report.page.focus("#sort")
    report.page.keyboard.press("/")
    assert "search" == report.page.evaluate("document.activeElement.id")


def test_list_can_be_sorted(report: Desk) -> None:
    """By name, cause and the like, or the other way round; by cause with groups; Back undoes it."""
    page = report.page
    names = report.names()
    page.select_option("#sort", "name")
    assert sorted(names, key=str.casefold) == report.names()
    page.click("[aria-label='The other way round']")
    assert sorted(names, key=str.casefold, reverse=True) == report.names()
    assert "#order=-name" == page.evaluate("location.hash")
    page.select_option("#sort", "cause")
    groups = [text.split(" ")[0] + text[-4:] for text in page.locator(".group").all_inner_texts()]
    assert ["ValueError: (2)", "ZeroDivisionError: (1)", "blocked (1)"] == groups[:3]
    assert {"fit/US_2030", "fit/US_2050"} == set(report.names()[:2])
    page.go_back()
    assert sorted(names, key=str.casefold, reverse=True) == report.names()
    page.select_option("#sort", "seconds")
    assert "outer/low" == report.names()[0]  # a build takes longest
    assert {"plot/US", "plot/later"} == set(report.names()[-2:])  # what did not run has no seconds


def test_red_for_its_numbers_looks_different(desk: Desk, tmp_path: Path) -> None:
    """A run that ended and is not as expected has a sign and a word of its own: row, chip, causes, panel."""
    differs = replace(a_result("error", instance="b", message="rmse is 3"), cause="expectation")
    desk.open(a_page(tmp_path, [a_red("a"), Entry(differs, "n::b")]))
    signs = desk.page.locator(".row .badge use").evaluate_all(
        "all => all.map(one => one.getAttribute('href'))"
    )
    assert {"#sign-error", "#sign-differs"} == set(signs)
    assert ["differs"] == desk.row("fit/b").locator(".badge").all_inner_texts()
    assert ["differs"] == desk.page.locator(".causes .tag").all_inner_texts()
    desk.page.get_by_role("button", name="1 differs", exact=True).click()
    assert ["fit/b"] == desk.names()
    desk.row("fit/b").click()
    desk.wait_for("fit/b")
    assert "differs" == desk.panel.locator(".badge").inner_text()


# --- where one is ------------------------------------------------------------------------------------------


def test_header_stays_and_is_one_line(desk: Desk, tmp_path: Path) -> None:
    """Title, counts and bar, also when the list is scrolled; times are told as here too."""
    entries = [Entry(a_result("success", instance=f"i{number}")) for number in range(100)]
    began = "2030-01-01T00:00:00Z"
    desk.open(a_page(tmp_path, entries, started=began))
    header = desk.page.locator("header.top")
    desk.page.evaluate("scrollTo(0, 1500)")
    assert (0, 56) == (header.bounding_box()["y"], header.bounding_box()["height"])
    time = desk.page.locator(f"time[datetime='{began}']")
    assert "2030" in str(time.get_attribute("title"))
    assert "UTC" in time.inner_text()


def test_link_leads_the_list_to_its_instance(report: Desk) -> None:
    """Who opens a link goes on from there with the arrows; the panel says the how manieth it is."""
    report.page.evaluate("location.hash = '#id=fit/US_2030'")
    report.wait_for("fit/US_2030")
    names = report.names()
    at = names.index("fit/US_2030")
    assert f"{at + 1} of 3 errors" in report.panel.locator(".panel-bar").inner_text()
    report.page.focus("#list")
    assert "fit/US_2030" == active(report)
    report.page.keyboard.press("ArrowDown")
    report.wait_for(names[at + 1])


def test_back_goes_through_filters_and_views(report: Desk) -> None:
    """A chip, a view, a search that is typed, a term that goes: one step each; walking is none."""
    page = report.page
    page.click(".chip[data-status=error]")
    page.click("#tab-timeline")
    page.click("#tab-list")
    page.focus("#search")
    page.keyboard.type("2030")
    page.click("[aria-label='Remove 2030']")
    page.locator(".row").first.click()
    page.wait_for_selector("#panel-name")
    page.keyboard.press("j")
    page.keyboard.press("j")
    seen = []
    for _ in range(6):
        page.go_back()
        seen.append(page.evaluate("location.hash"))
    error = "#status=error"
    assert [error, error + "&q=2030", error, "#view=timeline&status=error", error, ""] == seen
    assert 11 == len(report.names())


def test_skip_link_keeps_what_is_shown(report: Desk) -> None:
    """It leads into whatever view there is, and leaves the address alone."""
    page = report.page
    page.click("#tab-trend")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.getElementById('view-trend').contains(document.activeElement)")
    assert "#view=trend" == page.evaluate("location.hash")


# --- search box --------------------------------------------------------------------------------------------


def suggests(desk: Desk, *expected: str) -> None:
    """Wait for suggestions, each with its count: they come a moment after the key."""
    from playwright.sync_api import expect

    expect(desk.page.locator("#suggestions:not([hidden]) [role=option]")).to_have_text(list(expected))


def test_search_suggests_what_may_follow(report: Desk) -> None:
    """Keys, then values with how many have them, by arrows and Enter; a combobox to screen readers."""
    page = report.page
    page.focus("#search")
    page.keyboard.type("reg")
    suggests(report, "region=")
    page.keyboard.press("ArrowDown")
    assert "suggestion-0" == page.get_attribute("#search", "aria-activedescendant")
    page.keyboard.press("Enter")
    suggests(report, "region=US4", "region=EU3")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert ("region=EU ", 3) == (page.input_value("#search"), len(report.names()))
    assert "false" == page.get_attribute("#search", "aria-expanded")
    page.keyboard.type("-status:")
    suggests(report, "-status:success2", "-status:warning1")  # of those with region=EU
    page.keyboard.press("Escape")
    assert "false" == page.get_attribute("#search", "aria-expanded")
    assert "region=EU -status:" == page.input_value("#search")
    page.fill("#search", "2050")
    suggests(report, "horizon=20502")


def test_terms_are_chips(report: Desk) -> None:
    """Each term of the search can be taken away; the focus goes to the next one, then to the box."""
    page = report.page
    report.search('region=US "rows is" -2050')
    terms = page.locator(".term code")
    assert ["region=US", '"rows is"', "-2050"] == terms.all_inner_texts()
    page.get_by_role("button", name="Remove -2050").press("Enter")
    assert 'region=US "rows is"' == page.input_value("#search")
    assert 'Remove "rows is"' == page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert ("", "search", 0) == (page.input_value("#search"), focus(report), terms.count())
    assert 11 == len(report.names())


def test_causes_are_one_line_while_something_is_searched(report: Desk) -> None:
    """Only the cause that was pressed is there, marked; pressed again it lets go, and all come back."""
    page = report.page
    items = page.locator(".causes li")
    page.locator(".cause-row").last.click()
    assert ["true"] == [row.get_attribute("aria-pressed") for row in page.locator(".cause-row").all()]
    assert ["plot/EU"] == report.names()
    items.locator(".cause-row").click()
    assert (2, 11) == (items.count(), len(report.names()))
    report.search("status:red")
    assert 0 == items.count()
    page.click(".causes .fold")
    assert 2 == items.count()


@pytest.mark.parametrize(("earlier", "said"), [((True, False), "1 from"), ((True, True), "all from")])
def test_causes_say_what_is_of_earlier_sessions(
    desk: Desk, tmp_path: Path, earlier: tuple[bool, bool], said: str
) -> None:
    """A good session of a part is not blamed for what failed before it."""
    entries = [a_red(f"i{place}", earlier=early) for place, early in enumerate(earlier)]
    desk.open(a_page(tmp_path, entries))
    assert f"{said} earlier sessions" == desk.page.locator(".causes-head .note").inner_text()


# --- keys --------------------------------------------------------------------------------------------------


def test_keys_work_outside_fields(report: Desk) -> None:
    """j and k move, n and p go from cause to cause, g and a letter to a view, / to the search."""
    page = report.page
    names = report.names()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert (names[0], "list") == (active(report), focus(report))
    first = "plot/EU" if names[0].startswith("fit/") else "fit/US_2030"
    page.keyboard.press("n")
    report.wait_for(first if names[0] != first else names[0])
    page.keyboard.press("p")
    report.wait_for(names[0])
    page.keyboard.press("Escape")
    report.panel.wait_for(state="hidden")
    page.keyboard.press("g")
    page.keyboard.press("g")
    assert ("tab-graph", True) == (focus(report), page.locator("#view-graph").is_visible())
    page.keyboard.press("g")
    page.keyboard.press("l")
    page.keyboard.press("/")
    page.keyboard.type("jn")
    assert ("search", "jn") == (focus(report), page.input_value("#search"))


def test_keys_are_told_and_can_be_switched_off(report: Desk) -> None:
    """WCAG 2.1.4: a sheet has all keys and a switch that the browser remembers; Ctrl and arrows stay."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason='pip install -e ".[test]"'
    ).Axe()
    page = report.page
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    assert "first instance of the next cause" in sheet.inner_text()
    assert [] == axe.run(page).response["violations"]
    page.click("text=Switch these keys off")
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".row")
    for key in "j?/":
        page.keyboard.press(key)
    assert (None, False) == (page.evaluate("document.querySelector('.row[data-active]')"), sheet.is_visible())
    page.get_by_role("button", name="Keys").click()
    page.click("text=Switch these keys on")
    page.keyboard.press("Escape")
    sheet.wait_for(state="hidden")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert "search" == focus(report)
