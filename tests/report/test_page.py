"""The page in a real browser: every feature by clicks and keys, on a report of real runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from desk import Desk, a_page, a_red, a_run_of, a_session, needs_browser, new_desk, opened
from support import DURATIONS, a_result

from ductaflow.common.paths import REPORT_HTML
from ductaflow.report import Entry
from ductaflow.store.result import Result, Status, write_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser


# --- list, chips, search -----------------------------------------------------------------------------------


def test_failures_come_first(report: Desk) -> None:
    """Red, blocked, orange, green, not run; each with its word."""
    words = [text.strip() for text in report.page.locator("[role=treeitem] .badge").all_inner_texts()]
    order = ["error", "blocked", "warning", "success", "not run"]
    assert order == list(dict.fromkeys(words))
    assert words == sorted(words, key=order.index)


def test_names_are_whole_where_there_is_room(report: Desk) -> None:
    """No name in the list is cut while its row is wide enough."""
    names = report.page.locator(".row .name")
    assert names.count() > 2
    assert [] == names.evaluate_all(
        "all => all.filter(n => n.scrollWidth > n.clientWidth).map(n => n.textContent)"
    )


def test_chips_filter_and_can_be_combined(report: Desk) -> None:
    """A chip shows its status alone; a second one adds to it; pressed again they let go."""
    report.page.click(".chip[data-status=blocked]")
    assert ["plot/US"] == report.names()
    report.page.click(".chip[data-status=warning]")
    assert ["plot/US", "prep/EU"] == report.names()
    assert "2 of 11 shown" == report.page.inner_text("#shown")
    for status in ("blocked", "warning"):
        report.page.click(f".chip[data-status={status}]")
    assert 11 == len(report.names())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("us_2030", {"fit/US_2030", "plot/US"}),
        ("status:warning", {"prep/EU"}),
        ("status:red,blocked", {"fit/US_2030", "fit/US_2050", "plot/EU", "plot/US"}),
        ("flow:plot", {"plot/EU", "plot/US", "plot/later"}),
        ("tag:slow", {"prep/EU", "prep/US"}),
        ("horizon=2050 region=EU", {"fit/EU_2050"}),
        ("singular status:red", {"fit/US_2030", "fit/US_2050"}),
        ('"rows is" -2050', {"fit/US_2030", "plot/US"}),
        ("cause:exception", {"fit/US_2030", "fit/US_2050", "plot/EU"}),
        ("is:new flow:f*", {"fit/US_2030", "fit/US_2050"}),
        ("inner/", {"outer/low"}),
        ("nothing at all", set()),
    ],
)
def test_search_terms(searched: Desk, words: str, found: set[str]) -> None:
    """Names, statuses, flows, tags, parameters, pieces of messages; all terms must fit."""
    assert found == set(searched.search(words))
    assert (not found) == searched.page.get_by_text("Nothing matches.").is_visible()


def test_empty_search_can_be_undone(report: Desk) -> None:
    """Escape and the button show everything again."""
    report.search("nothing at all")
    report.page.click("text=Show everything")
    assert 11 == len(report.names())
    report.search("status:red")
    report.page.press("#search", "Escape")
    assert 11 == len(report.names())


def test_address_is_a_link_to_what_is_seen(report: Desk, browser: Browser, runs: Path) -> None:
    """Filter and opened instance are in the fragment; who opens the link sees the same."""
    report.search("horizon=2030")
    report.page.click(".chip[data-status=error]")
    report.row("fit/US_2030").click()
    report.page.wait_for_function("() => location.hash.includes('id=') && location.hash.includes('q=')")
    fragment = report.page.evaluate("location.hash")

    other = new_desk(browser).open(runs / REPORT_HTML, fragment)

    other.page.wait_for_selector("#panel-name")
    assert "#status=error&q=horizon=2030&id=fit/US_2030" == fragment
    assert (["fit/US_2030"], "fit/US_2030") == (other.names(), other.page.inner_text("#panel-name"))
    assert [] == other.trouble
    other.page.context.close()


def test_back_closes_what_was_opened(report: Desk) -> None:
    """The browser's own way back works."""
    report.row("prep/EU").click()
    report.page.wait_for_selector("#panel-name")
    report.page.go_back()
    report.panel.wait_for(state="hidden")


def test_link_to_what_is_not_there_says_so(report: Desk) -> None:
    """An id that the report does not have is named, until something is opened."""
    report.page.evaluate("location.hash = '#id=nosuch/x'")
    said = report.page.locator("#missing[role=status]")
    said.get_by_text("nosuch/x is not in this report.").wait_for()
    report.page.reload()
    assert "nosuch/x is not in this report." == said.inner_text()
    opened(report, "prep/EU")
    assert "" == said.inner_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "status:bogus",
            "status:bogus; known are status: error, blocked, warning, success, unchanged, not_run.",
        ),
        ("status:red,bogus", "status:red,bogus; known are status: error,"),
        (
            "-is:foo",
            "-is:foo; known are is: new, fixed, flaky, slower, session, earlier, stored, orphan, failing,",
        ),
        ("cause:7", "cause:7; known are cause: exception, exit,"),
        ("cause:7", "1 to 2."),
        ("foo:bar", "foo:bar; known are status: flow: tag:"),
        ("constructor:x", "constructor:x; known are status:"),
        ("status:red cause:2 kind:build is:new worker:gw9", ""),
        ("fit.py:7: ValueError:", ""),
        ('"status:bogus"', ""),
    ],
)
def test_unknown_terms_are_named(searched: Desk, words: str, said: str) -> None:
    """A term that nobody knows does not only find nothing; what is a piece of a message is none."""
    searched.search(words)
    shown = searched.page.locator("#unknown[role=status]").inner_text()
    assert (bool(said), said) == (shown.startswith("Unknown term "), said if said in shown else shown)


def test_examples_of_the_search_find_something(report: Desk) -> None:
    """What the help offers is taken from this report; it lies over the page, and closes by itself."""
    page = report.page
    place = report.row("fit/US_2030").bounding_box()
    page.click(".help summary")
    assert place == report.row("fit/US_2030").bounding_box()
    terms = page.locator(".help dt button").all_inner_texts()
    fields = {term.split(":")[0] for term in terms}
    assert {"status", "flow", "id", "kind", "tag", "cause", "is"} <= fields
    page.keyboard.press("Escape")
    assert not page.locator(".help dl").is_visible()
    page.click(".help summary")
    page.click("h1")
    assert not page.locator(".help dl").is_visible()
    for term in terms:
        page.click(".help summary")
        page.locator(".help dt").get_by_text(term, exact=True).click()
        assert not page.locator(".help dl").is_visible()
        assert (term, True) == (page.input_value("#search"), bool(report.names()))


# --- builds ------------------------------------------------------------------------------------------------


def test_builds_expand_at_any_depth(report: Desk) -> None:
    """The arrow of a build shows its flows, that of a flow which is a build its own."""
    report.row("outer/low").locator(".twisty").click()
    report.row("outer/low > inner/inner").locator(".twisty").click()
    deepest = report.row("outer/low > inner/inner > fit/fit")
    assert "3" == deepest.get_attribute("aria-level")
    deepest.click()
    report.page.wait_for_selector("#panel-name")
    assert "Copy run its build again" in report.panel.inner_text()
    assert "ductaflow run outer/low" == report.page.inner_text("#panel .command code")
    report.page.reload()
    report.page.wait_for_selector("#panel-name")
    assert "outer/low \u203a inner \u203a fit" == report.page.inner_text("#panel-name")
    assert deepest.is_visible()


def test_keyboard_does_everything_in_the_list(report: Desk) -> None:
    """Arrows move and expand, Enter opens, Escape closes and gives the focus back, / goes to the search."""
    page = report.page
    page.focus("#list")
    names = report.names()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert names[3] == page.get_attribute(".row[data-active]", "data-key")
    page.keyboard.press("Enter")
    report.wait_for(names[3])
    page.keyboard.press("ArrowUp")
    report.wait_for(names[2])
    page.keyboard.press("Escape")
    report.panel.wait_for(state="hidden")
    assert "list" == page.evaluate("document.activeElement.id")
    report.row("outer/low").locator(".twisty").click()
    page.keyboard.press("ArrowRight")
    assert "outer/low > inner/inner" == page.get_attribute(".row[data-active]", "data-key")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert "false" == report.row("outer/low").get_attribute("aria-expanded")
    page.keyboard.press("/")
    assert "search" == page.evaluate("document.activeElement.id")


# --- one instance ------------------------------------------------------------------------------------------


def test_failure_says_why_and_where(report: Desk) -> None:
    """The cause in one line, the lines around the place, the flow's own traceback."""
    opened(report, "fit/US_2030")
    text = report.panel.inner_text()
    assert "Exception at flows/fit.py:7: ValueError: matrix of 2030 rows is singular" in text
    here = report.panel.locator(".source .here").inner_text()
    assert "raise ValueError" in here
    assert "in solve" in report.part("traceback").inner_text()
    assert "New: no error in the last session that had a result of it." in text
    report.page.click("text=The same cause in 1 other")
    assert {"fit/US_2030", "fit/US_2050"} == set(report.names())


def test_commands_are_copied(report: Desk) -> None:
    """Run again, debug, node id: for one, and for all that failed."""
    opened(report, "fit/US_2030")
    nodeid = "config/flows/fit/US_2030.json::fit[US_2030]"
    assert not report.panel.get_by_text(nodeid).is_visible()
    report.panel.get_by_role("button", name="All commands").click()
    for name, text in (
        ("Copy run again", "ductaflow run fit/US_2030"),
        ("Copy debug", "ductaflow debug fit/US_2030"),
        ("Copy: Node id", nodeid),
    ):
        report.panel.get_by_role("button", name=name).click()
        report.page.wait_for_function(
            "() => document.querySelector('#said').textContent.startsWith('Copied')"
        )
        assert text == report.copied()
    report.page.click(".copies >> text=Node ids")
    report.page.wait_for_function("() => document.querySelector('#said').textContent.includes('4 node ids')")
    failed = ["fit/US_2030", "fit/US_2050", "plot/EU", "plot/US"]
    assert sorted(f"config/flows/{id}.json::{id.replace('/', '[')}]" for id in failed) == sorted(
        report.copied().split("\n")
    )
    assert 0 == report.page.locator(".copies >> text=Debug").count()  # a debugger takes one at a time
    report.search("flow:fit")
    report.page.click(".copies >> text=Run again")
    report.page.wait_for_function("() => document.querySelector('#said').textContent.includes('2 commands')")
    assert 1 == report.copied().count("ductaflow run")
    assert 2 == report.copied().count("fit/US_")


def test_warnings_are_shown_in_their_context(report: Desk) -> None:
    """Head, tail, and what is around each warning line between them; buttons jump from one to the next."""
    opened(report, "prep/EU")
    log = report.part("log")
    assert "Warning 1 of 2" in log.inner_text()
    current = log.locator(".line.current")
    assert "Warning: 3 gaps were filled" in current.inner_text()
    assert "row 29" in log.inner_text()
    log.get_by_role("button", name="Next warning").click()
    assert "warning: station 7 has drifted" in current.inner_text()
    assert ("row 0" in log.inner_text(), "late 69" in log.inner_text()) == (True, True)
    assert "row 15" not in log.inner_text()
    assert "lines not shown here" in log.inner_text()


def test_log_lines_have_their_true_numbers(report: Desk, runs: Path) -> None:
    """What the page says of a line is what an editor says."""
    opened(report, "prep/EU")
    lines = (runs / "prep/EU/prep_execution_output.txt").read_text().split("\n")
    shown = (
        report.part("log")
        .locator(".line")
        .evaluate_all(
            "lines => lines.map(line => [Number(line.dataset.line), line.childNodes[1].textContent])"
        )
    )
    assert len(shown) > 60
    assert [] == [(number, text) for number, text in shown if lines[number - 1] != text]


def test_config_is_beside_its_base_and_the_last_good_run(report: Desk) -> None:
    """What differs is marked in words and signs; secrets are masked."""
    opened(report, "fit/US_2030")
    config = report.part("config")
    rows = {
        cells[0]: cells[1:]
        for cells in config.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
    }
    mark = " \u2260 differs from Base"
    assert ["3", "1", "1"] == rows[f"degree{mark} and Last good run"]
    assert ["2030", "not given", "2030"] == rows[f"horizon{mark}"]
    assert ["***", "***", "***"] == rows["api_token"]
    assert 2 == len({"clean", "api_token"} & rows.keys())  # a placeholder that follows makes no difference
    config.get_by_label("Only what differs").check()
    assert "api_token" not in config.inner_text()


def test_figures_inputs_and_outputs(report: Desk) -> None:
    """The notebook's figure is in the page, with a text for who does not see it; files are listed."""
    opened(report, "plot/EU")
    picture = report.part("figures").locator("img")
    assert "Figure of cell 2" == str(picture.get_attribute("alt"))[:16]
    assert 1 == picture.evaluate("image => image.naturalWidth")
    report.part("files").locator("summary").click()
    assert "runs/fit/EU_2030/model.json" in report.part("files").inner_text()
    opened(report, "fit/EU_2030")
    assert "fit/EU_2030/model.json" == report.part("files").get_by_text("model.json").get_attribute("href")


def test_metrics_are_shown(desk: Desk, tmp_path: Path) -> None:
    """With all digits, null as NaN, markup as text; how many more the result has is said."""
    metrics = {"rmse": 1 / 3, "gap": None, "<b>zone</b>": "<i>n</i>", **{f"m{n}": n for n in range(100)}}
    entry = a_run_of(tmp_path, "a", {"x": 1})
    page = a_page(tmp_path, [replace(entry, result=replace(entry.result, metrics=metrics))])
    desk.open(page, "#id=fit/a")
    desk.wait_for("fit/a")
    text = desk.part("metrics").inner_text()
    for said in ("rmse\t0.3333333333333333", "gap\tNaN", "<b>zone</b>\t<i>n</i>", "3 more metrics", "103"):
        assert said in text


def test_links_lead_to_files_that_are_there(report: Desk, runs: Path) -> None:
    """Log, notebook, HTML and config."""
    opened(report, "fit/US_2030")
    links = [str(link.get_attribute("href")) for link in report.panel.locator(".links a").all()]
    assert 4 == len(links)
    assert all((runs / link).is_file() for link in links)


def test_way_through_the_graph(report: Desk) -> None:
    """From a red one to what it reads and to what waits for it."""
    opened(report, "fit/US_2030")
    around = report.part("relatives")
    assert "prep/US" in around.inner_text()
    around.get_by_text("plot/US").click()
    report.wait_for("plot/US")
    assert "fit/US_2030 failed: " in report.panel.inner_text()


def test_parts_stay_folded(report: Desk) -> None:
    """What a person closes stays closed in the next instance, and over a refresh."""
    opened(report, "fit/US_2030")
    report.part("traceback").locator("summary").click()
    report.page.get_by_role("button", name="Next instance").click()
    report.wait_for("fit/US_2050")
    assert report.part("traceback").get_attribute("open") is None
    report.page.wait_for_function("() => history.state?.folded?.length === 1")
    report.page.reload()
    report.page.wait_for_selector("#panel-name")
    assert report.part("traceback").get_attribute("open") is None
    assert report.part("log").get_attribute("open") is not None


def test_long_headline_is_cut(desk: Desk, tmp_path: Path) -> None:
    """Five lines of a message leave room for what follows; a button shows the rest, on paper all is there."""
    page = a_page(tmp_path, [a_red("long", message="z" * 2000), a_red("short")])
    desk.open(page, "#id=fit/long")
    desk.wait_for("fit/long")
    headline = desk.panel.locator(".cause")
    more = desk.panel.get_by_role("button", name="more")
    more.wait_for()
    assert headline.bounding_box()["height"] < 140
    more.click()
    assert headline.bounding_box()["height"] > 300
    assert "true" == desk.panel.get_by_role("button", name="less").get_attribute("aria-expanded")
    opened(desk, "fit/short")
    assert not more.is_visible()


def test_what_has_no_node_id_offers_none(desk: Desk, tmp_path: Path) -> None:
    """Only results of earlier sessions are red: they can be run again; `null` is no word for a page."""
    desk.open(a_page(tmp_path, [a_red("a", earlier=True), a_red("b", earlier=True)]))
    copies = desk.page.locator(".copies")
    assert ["Copy for all 2 that failed:", "Run again"] == copies.inner_text().split("\n")
    assert "null" not in desk.page.inner_text("body")


def test_node_ids_are_those_that_there_are(desk: Desk, tmp_path: Path) -> None:
    """Beside one that has no node id the others are offered, and counted."""
    desk.open(a_page(tmp_path, [a_red("a"), a_red("b"), a_red("c", earlier=True)]))
    desk.page.click(".copies >> text=Node ids of 2")
    desk.page.wait_for_function("() => document.querySelector('#said').textContent.includes('2 node ids')")
    assert "n::a\nn::b" == desk.copied()
    desk.search("fit/a")
    assert desk.page.inner_text(".copies").startswith("Copy for this failure:")


def test_earlier_result_is_not_new(desk: Desk, tmp_path: Path) -> None:
    """What this session did not run cannot have become red in it."""
    entries = [a_red("fresh"), a_red("old", earlier=True)]
    desk.open(a_page(tmp_path, entries, history=[a_session("before", {"success": 2})]))
    assert desk.row("fit/fresh").locator(".tag.new").is_visible()
    assert ["earlier result"] == desk.row("fit/old").locator(".tag").all_inner_texts()
    assert ["fit/fresh"] == desk.search("is:new")
    opened(desk, "fit/old")
    assert "New:" not in desk.panel.inner_text()


def test_new_is_what_was_not_red_when_it_ran_last(desk: Desk, tmp_path: Path) -> None:
    """A session that left an instance out changes nothing; flows of a build are in no history."""
    part = {**a_session("part", {"success": 2}), "red": ["fit/known"], "carried": ["fit/known"]}
    history = [{**a_session("full", {"error": 1}), "red": ["fit/known"]}, part]
    inner = tmp_path / "inner"
    inner.mkdir()
    write_result(a_red("inner").result, inner)
    build = Result("all", "b", "build", Status.ERROR, "exception", folder=tmp_path, children=("inner",))
    entries = [a_red("fresh"), a_red("known"), Entry(build)]
    desk.open(a_page(tmp_path, entries, history=history))
    assert {"fit/fresh", "all/b"} == set(desk.search("is:new"))
    opened(desk, "fit/known")
    assert "An error in the last session too." in desk.panel.inner_text()
    opened(desk, "all/b")
    assert "New:" in desk.panel.inner_text()
    desk.part("flows").locator("li button").first.click()
    desk.panel.get_by_text("Flow of").wait_for()
    assert "New:" not in desk.panel.inner_text()


# --- causes, views -----------------------------------------------------------------------------------------


def test_causes_are_grouped_with_what_their_instances_share(report: Desk) -> None:
    """Numbers do not make two causes of one; the smallest set of parameters that no green one has."""
    causes = report.page.locator(".causes")
    assert "3 errors, 2 causes" in causes.inner_text()
    first = causes.locator("li").first
    assert "ValueError: matrix of \u2026 rows is singular" in first.inner_text()
    assert ["degree=3"] == first.locator(".shared code").all_inner_texts()
    assert "blocks 1" in first.inner_text()
    first.locator(".cause-row").click()
    assert {"fit/US_2030", "fit/US_2050"} == set(report.names())
    assert "cause:1" == report.page.input_value("#search")


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"my key": 2}, "my key=2"),
        ({"emoji\U0001f600": 2}, "emoji\U0001f600=2"),
        ({"outer": {"my host": "a b"}}, "outer.my host=a b"),
        ({"a=b": 2}, "a=b=2"),
        ({'say "hi"': 'c"d'}, 'say "hi"=c"d'),
        ({"-x": 2}, "-x=2"),
        ({"status:red": 2}, "status:red=2"),
        ({"a.b": 2}, '["a.b"]=2'),
        ({"\u202e": 2}, "\\u202e=2"),
        ({"long": "word " * 40}, "long=" + "word " * 40),
        ({**{f"key{number}": 1 for number in range(60)}, "last": 2}, "last=2"),
    ],
)
def test_parameter_of_a_cause_finds_its_instances(
    desk: Desk, tmp_path: Path, config: dict[str, Any], shown: str
) -> None:
    """Whatever a key is called: it is shown as it was typed, and pressing it shows who has it."""
    others = dict.fromkeys(config, 1)
    entries = [a_run_of(tmp_path, f"red{number}", config, "error") for number in (1, 2)]
    entries += [a_run_of(tmp_path, f"good{number}", others) for number in (1, 2)]
    desk.open(a_page(tmp_path, entries))
    button = desk.page.locator(".shared button")
    assert shown.strip() == str(button.text_content()).strip()
    button.click()
    assert ["fit/red1", "fit/red2"] == desk.names()
    opened(desk, "fit/red1")
    key = shown.partition("=")[0] if "a=b" not in config else "a=b"
    assert key in desk.part("config").inner_text()


def test_spaces_can_be_searched_by_hand(desk: Desk, tmp_path: Path) -> None:
    """Quotes keep the words of a key together, wherever they begin; two quotes are one that is meant."""
    entries = [a_run_of(tmp_path, name, {"my key": value}) for name, value in (("a", 1), ("b", 'x "y"'))]
    desk.open(a_page(tmp_path, entries))
    for words, found in (
        ('"my key=1"', ["fit/a"]),
        ('"my key"=1', ["fit/a"]),
        ('-"my key=1"', ["fit/b"]),
        ('"my key=x ""y"""', ["fit/b"]),
        ('"my key=', []),
    ):
        assert (words, found) == (words, desk.search(words))


def test_causes_leave_room_for_the_list(desk: Desk, tmp_path: Path) -> None:
    """Four of many causes, a button for all of them; what was opened stays so, and paper has them all."""
    letters = "abcdefghijklmnopqrs"
    entries = [a_red(f"i{number}", message=f"trouble {letter}") for number, letter in enumerate(letters)]
    desk.open(a_page(tmp_path, entries))
    causes = desk.page.locator(".causes li")
    toggle = desk.page.get_by_role("button", name="Show all 19 causes")
    assert (4, "false") == (causes.count(), toggle.get_attribute("aria-expanded"))
    assert desk.row("fit/i0").bounding_box()["y"] < 330
    desk.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert 19 == causes.count()
    desk.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert 4 == causes.count()
    toggle.press("Enter")
    assert 19 == causes.count()
    assert "true" == desk.page.locator(".causes .all").get_attribute("aria-expanded")
    desk.page.wait_for_function("() => history.state?.folded?.length === 1")
    desk.page.reload()
    assert 19 == causes.count()
    causes.last.locator("button").click()
    assert ["fit/i18"] == desk.names()
    assert (1, "true") == (causes.count(), causes.locator(".cause-row").get_attribute("aria-pressed"))
    desk.page.click("text=19 errors, 19 causes")
    assert 19 == causes.count()
    desk.page.click("text=Show only the first 4")
    assert 5 == causes.count()  # the pressed one too
    causes.last.locator("button").click()
    assert (4, 19) == (causes.count(), len(desk.names()))


def test_place_and_parameters_stand_beside_the_title(desk: Desk, tmp_path: Path) -> None:
    """Where there is room a cause is one line, with the other sets of parameters that would do too."""
    cause = {
        **{
            "cause": "error",
            "place": "flows/fit.py:7",
            "title": "it broke",
            "instances": ["fit/red"],
            "blocks": 2,
        },
        "parameters": [["degree", "4"]],
        "alternatives": [[["horizon", "2050"], ["my key", "1"]]],
        "alternatives_left_out": 3,
    }
    desk.open(a_page(tmp_path, [a_red("red")], causes=[cause]))
    item = desk.page.locator(".causes li")
    middle = "one => { const {top, bottom} = one.getBoundingClientRect(); return (top + bottom) / 2; }"
    tops = [
        item.locator(part).evaluate(middle)
        for part in (".cause-title", ".cause-place", ".shared code >> nth=0")
    ]
    assert max(tops) - min(tops) < 5
    words = [*item.locator(".shared > *").all_inner_texts()]
    assert [
        "all with",
        "degree=4",
        "or",
        "horizon=2050\nmy key=1",
        "or 3 other sets",
        "which no good one has together",
    ] == words
    item.get_by_text("horizon=2050").click()
    assert "cause:1" == desk.page.input_value("#search")  # which are not parameters of these


def test_durations_are_those_of_the_terminal(desk: Desk, tmp_path: Path) -> None:
    """The script makes them itself: a page of 10,000 rows has the number alone."""
    results = [
        a_result("success", instance=f"i{place}", seconds=seconds)
        for place, (seconds, _) in enumerate(DURATIONS)
    ]
    desk.open(a_page(tmp_path, [Entry(result) for result in results]))
    shown = {result.id: desk.row(result.id).locator(".time").inner_text() for result in results}
    assert {result.id: text for result, (_, text) in zip(results, DURATIONS, strict=True)} == shown


def test_tabs_by_keyboard(report: Desk) -> None:
    """Arrows move between the views, as tabs do everywhere."""
    report.page.focus("#tab-list")
    for _ in range(3):
        report.page.keyboard.press("ArrowRight")
    assert "tab-graph" == report.page.evaluate("document.activeElement.id")
    assert report.page.locator("#view-graph").is_visible()
    assert not report.page.locator("#view-list").is_visible()
