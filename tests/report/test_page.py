"""The page in a real browser: every feature by clicks and keys, on a report of real runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import (
    DURATIONS,
    TinyProject,
    a_result,
    command,
    is_alive,
    page_data,
    processes_beside,
    wait_until,
)

from ductaflow.common.errors import Failure
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON
from ductaflow.report import Entry, LiveReport, build_report, render_html
from ductaflow.report.history import newly_red
from ductaflow.report.twin import red_ids
from ductaflow.store.result import Cells, LogWarning, Result, Status, write_result

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(sys.platform == "win32", reason="the browser's path is that of Linux"),
]

# --- a report of real runs ---------------------------------------------------------------------------------

PREP = """
    # %%
    for number in range(30):
        print("row", number)
    if config["region"] == "EU":
        print("Warning: 3 gaps were filled")
    for number in range(100):
        print("more", number)
    if config["region"] == "EU":
        print("warning: station 7 has drifted")
    for number in range(70):
        print("late", number)
    open("clean.csv", "w").write("a,b")
"""
FIT = """
    # %%
    def solve(degree):
        if degree > 2:
            raise ValueError(f"matrix of {config['horizon']} rows is singular")
        return degree

    # %%
    solve(config["degree"])
    open("model.json", "w").write("{}")
"""
#: A figure without matplotlib: the smallest PNG.
PLOT = """
    # %%
    import base64
    from IPython.display import Image, display
    DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    display(Image(base64.b64decode(DOT)))
    # %%
    1 / config["divisor"]
"""
OUTER = """
    # %%
    from ductaflow import run_notebook
    run_notebook("builds/inner.py", config={"degree": config["degree"]}, execution_dir="runs/inner")
"""
INNER = """
    # %%
    from ductaflow import run_notebook
    run_notebook("flows/fit.py", config={"degree": config["degree"], "horizon": 5}, execution_dir="runs/fit")
"""


def store(project: TinyProject, degree: int) -> None:
    for region in ("EU", "US"):
        project.config(f"flows/prep/{region}.json", region=region, _run={"tags": ["slow"]})
        for horizon in (2030, 2050):
            own = {"degree": degree} if region == "US" else {}
            project.config(f"flows/fit/{region}_{horizon}.json", region=region, horizon=horizon, **own)
    project.config("flows/fit/US_2070.json", region="US", horizon=2070)
    project.config("flows/fit.json", clean="runs/prep/{region}/clean.csv", degree=1, api_token="s3cret")
    project.config("flows/plot/US.json", model="runs/fit/US_2030/model.json", divisor=1)
    project.config("flows/plot/EU.json", model="runs/fit/EU_2030/model.json", divisor=1 if degree < 3 else 0)
    project.config("flows/plot/later.json", divisor=1, _run={"skip": "waits for data"})
    project.config("builds/outer/low.json", degree=1, _run={"needs": ["fit/EU_2050"]})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a project whose second session is red where its first was green."""
    project = TinyProject(tmp_path_factory.mktemp("page") / "climate")
    (project.root / "pytest.ini").write_text("[pytest]\n")
    for name, code in (("prep", PREP), ("fit", FIT), ("plot", PLOT)):
        project.flow(name, code)
    project.flow("outer", OUTER, kind="builds")
    project.flow("inner", INNER, kind="builds")
    store(project, degree=1)
    assert 1 >= project.pytest("-q", timeout=300).code
    store(project, degree=3)
    assert 1 >= project.pytest("-q", "-n", "2", timeout=300).code
    return project.root / "runs"


# --- the browser -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Desk:
    """A browser page, and what it complained about."""

    page: Page
    trouble: list[str] = field(default_factory=list)

    def open(self, file: Path, address: str = "") -> Desk:
        self.page.goto(file.as_uri() + address)
        self.page.wait_for_selector("#app:not([hidden]), .empty")
        return self

    def names(self) -> list[str]:
        """The ids of the rows that are on the screen."""
        return [str(row.get_attribute("data-key")) for row in self.page.locator("[role=treeitem]").all()]

    def row(self, key: str) -> Locator:
        return self.page.locator(f'[role=treeitem][data-key="{key}"]')

    @property
    def panel(self) -> Locator:
        return self.page.locator("#panel")

    def wait_for(self, name: str) -> None:
        """Wait until an instance is opened."""
        self.page.wait_for_function(
            "name => document.querySelector('#panel-name')?.textContent === name", arg=name
        )

    def part(self, name: str) -> Locator:
        return self.page.locator(f'#panel [data-part="{name}"]')

    def search(self, words: str) -> list[str]:
        self.page.fill("#search", words)
        return self.names()

    def copied(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))


def new_desk(browser: Browser, **options: Any) -> Desk:
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
    context.set_default_timeout(8_000)
    desk = Desk(context.new_page())
    desk.page.on("dialog", lambda dialog: (desk.trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
    desk.page.on("pageerror", lambda error: desk.trouble.append(f"error {error}"))
    desk.page.on(
        "console",
        lambda said: desk.trouble.append(said.text) if said.type in ("error", "warning") else None,
    )
    desk.page.on(
        "request",
        lambda asked: (
            desk.trouble.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
        ),
    )
    return desk


@pytest.fixture
def desk(browser: Browser) -> Iterator[Desk]:
    """A desktop's page; the test fails for anything that the browser complained about."""
    desk = new_desk(browser, permissions=["clipboard-read", "clipboard-write"])
    yield desk
    desk.page.context.close()
    assert [] == desk.trouble


@pytest.fixture
def report(desk: Desk, runs: Path) -> Desk:
    return desk.open(runs / REPORT_HTML)


# --- reports of results that were never run -----------------------------------------------------------------


def a_page(folder: Path, entries: Sequence[Entry], **head: Any) -> Path:
    """The page of some results; `head`: what its head says otherwise."""
    data = {**build_report(entries, session_id="s", started="", finished="x", runs_dir=folder), **head}
    data["new"] = newly_red(red_ids(data["instances"]), "s", data["history"])
    page = folder / "page.html"
    page.write_text(render_html(data))
    return page


def a_red(name: str, *, earlier: bool = False, message: str = "it broke") -> Entry:
    """A failure; one of an earlier session has no node id."""
    return Entry(
        a_result("error", instance=name, message=message), None if earlier else f"n::{name}", earlier=earlier
    )


def a_run_of(runs: Path, name: str, config: dict[str, Any], status: str = "success") -> Entry:
    """A run with a config."""
    folder = runs / "fit" / name
    folder.mkdir(parents=True)
    (folder / "fit_config.json").write_text(json.dumps(config))
    message = "it broke" if status == "error" else ""
    return Entry(a_result(status, instance=name, message=message, folder=folder), f"n::{name}")


def a_session(name: str, summary: dict[str, int], seconds: float = 1.0) -> dict[str, Any]:
    """A session of the history in which nothing that is asked for was red."""
    when = "2030-01-01T00:00:00Z"
    return {
        "session_id": name,
        "started": when,
        "finished": when,
        "seconds": seconds,
        "summary": summary,
        **{"red": [], "red_left_out": 0, "carried": []},
    }


# --- list, chips, search -----------------------------------------------------------------------------------


def test_failures_come_first(report: Desk) -> None:
    """Red, blocked, orange, green, not run; each with its word."""
    words = [text.strip() for text in report.page.locator("[role=treeitem] .badge").all_inner_texts()]
    order = ["error", "blocked", "warning", "success", "not run"]
    assert order == list(dict.fromkeys(words))
    assert words == sorted(words, key=order.index)


def test_names_are_whole_where_there_is_room(report: Desk) -> None:
    """No flow's name in the list is cut while its row is wide enough."""
    names = report.page.locator(".row .name .flow")
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
def test_search_terms(report: Desk, words: str, found: set[str]) -> None:
    """Names, statuses, flows, tags, parameters, pieces of messages; all terms must fit."""
    assert found == set(report.search(words))
    assert (not found) == report.page.get_by_text("Nothing matches.").is_visible()


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
        ("-is:foo", "-is:foo; known are is: new, earlier."),
        ("cause:7", "cause:7; known are cause: exception, exit,"),
        ("cause:7", "1 to 2."),
        ("foo:bar", "foo:bar; known are status: flow: tag:"),
        ("constructor:x", "constructor:x; known are status:"),
        ("status:red cause:2 kind:build is:new worker:gw9", ""),
        ("fit.py:7: ValueError:", ""),
        ('"status:bogus"', ""),
    ],
)
def test_unknown_terms_are_named(report: Desk, words: str, said: str) -> None:
    """A term that nobody knows does not only find nothing; what is a piece of a message is none."""
    report.search(words)
    shown = report.page.locator("#unknown[role=status]").inner_text()
    assert (bool(said), said) == (shown.startswith("Unknown term "), said if said in shown else shown)


def test_examples_of_the_search_find_something(report: Desk) -> None:
    """What the help offers is taken from this report."""
    page = report.page
    page.click(".help summary")
    terms = page.locator(".help dt button").all_inner_texts()
    for term in terms:
        page.locator(".help dt").get_by_text(term, exact=True).click()
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
    assert "Run its build again" in report.panel.inner_text()
    assert "outer[low]" in report.page.inner_text(".command code")
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


def opened(report: Desk, id: str) -> Desk:
    report.page.evaluate("id => { location.hash = '#id=' + id; }", id)
    report.wait_for(id)
    return report


def test_failure_says_why_and_where(report: Desk) -> None:
    """The cause in one line, the lines around the place, the flow's own traceback."""
    opened(report, "fit/US_2030")
    text = report.panel.inner_text()
    assert "Exception at flows/fit.py:7: ValueError: matrix of 2030 rows is singular" in text
    here = report.panel.locator(".source .here").inner_text()
    assert "raise ValueError" in here
    assert "in solve" in report.part("traceback").inner_text()
    assert "New: not red in the last session that had a result of it." in text
    report.page.click("text=The same cause in 1 other")
    assert {"fit/US_2030", "fit/US_2050"} == set(report.names())


def test_commands_are_copied(report: Desk) -> None:
    """Run again, debug, node id: for one, and for all that failed."""
    opened(report, "fit/US_2030")
    nodeid = "config/flows/fit/US_2030.json::fit[US_2030]"
    for label, text in (
        ("Run again", f"pytest --ductaflow '{nodeid}'"),
        ("Debug", "ductaflow debug fit/US_2030"),
        ("Node id", nodeid),
    ):
        report.panel.get_by_role("button", name=f"Copy: {label}").click()
        report.page.wait_for_function(
            "() => document.querySelector('#said').textContent.startsWith('Copied')"
        )
        assert text == report.copied()
    report.page.click(".copies >> text=Debug")
    report.page.wait_for_function("() => document.querySelector('#said').textContent.includes('4 commands')")
    failed = ["fit/US_2030", "fit/US_2050", "plot/EU", "plot/US"]
    assert sorted(f"ductaflow debug {id}" for id in failed) == sorted(report.copied().split("\n"))
    report.search("flow:fit")
    report.page.click(".copies >> text=Run again")
    report.page.wait_for_function("() => document.querySelector('#said').textContent.includes('2 commands')")
    assert 1 == report.copied().count("pytest --ductaflow")
    assert 2 == report.copied().count("::fit[US_")


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
    assert "fit/US_2030 is red" in report.panel.inner_text()


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
    assert "Red in the last session too." in desk.panel.inner_text()
    opened(desk, "all/b")
    assert "New:" in desk.panel.inner_text()
    desk.part("flows").locator("li button").first.click()
    desk.panel.get_by_text("Flow of").wait_for()
    assert "New:" not in desk.panel.inner_text()


# --- causes, timeline, graph, trend ------------------------------------------------------------------------


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
    assert desk.row("fit/i0").bounding_box()["y"] < 600
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
    desk.page.click("text=Show only the first 4")
    assert 4 == causes.count()


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
        "alternatives": [[["horizon", "2050"], ['["my key"]', "1"]]],
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


def test_timeline_has_workers_and_the_longest_chain(report: Desk) -> None:
    """Who ran when, on which worker; a bar opens its instance, and so does the table."""
    report.page.get_by_role("tab", name="Timeline").click()
    view = report.page.locator("#view-timeline")
    assert {"gw0", "gw1"} == set(view.locator(".lane-name").all_inner_texts())
    assert 9 == view.locator(".bar-run").count()
    chain = view.locator("section").first
    assert "The longest chain" in chain.inner_text()
    assert view.locator(".bar-run.critical").count() == chain.locator("tbody tr").count() >= 2
    chain.locator("button").first.click()
    report.page.wait_for_selector("#panel-name")
    assert "view=timeline" in report.page.evaluate("location.hash")


def test_durations_are_those_of_the_terminal(desk: Desk, tmp_path: Path) -> None:
    """The script makes them itself: a page of 10,000 rows has the number alone."""
    results = [
        a_result("success", instance=f"i{place}", seconds=seconds)
        for place, (seconds, _) in enumerate(DURATIONS)
    ]
    desk.open(a_page(tmp_path, [Entry(result) for result in results]))
    shown = {result.id: desk.row(result.id).locator(".time").inner_text() for result in results}
    assert {result.id: text for result, (_, text) in zip(results, DURATIONS, strict=True)} == shown


def test_timeline_has_as_many_lanes_as_a_worker_ran_at_a_time(desk: Desk, tmp_path: Path) -> None:
    """A worker may run several at a time; no bar hides another, and a name is found however it is written."""

    def entry(name: str, worker: str | None, begin: int, seconds: float, status: str = "success") -> Entry:
        ran = a_result(status, instance=name, started=f"2030-01-01T00:00:{begin:02}Z", seconds=seconds)
        return Entry(ran, f"n::{name}", worker=worker)

    entries = [
        entry("a", "Node-10", 0, 20),
        entry("b", "Node-10", 10, 20),
        entry("c", "Node-10", 25, 5),
        entry("d", "Node-2", 0, 30),
        entry("e", None, 5, 5),
    ]
    page = tmp_path / "lanes.html"
    page.write_text(
        render_html(build_report(entries, session_id="s", started="", finished="x", runs_dir=tmp_path))
    )
    desk.open(page, "#view=timeline")
    view = desk.page.locator("#view-timeline")
    lanes = [
        (lane.locator(".lane-name").inner_text(), lane.locator(".bar-run").count())
        for lane in view.locator(".lane").all()
    ]
    assert [("Node-2", 1), ("Node-10", 2), ("Node-10 (2)", 1), ("at a time 1", 1)] == lanes
    assert "5 runs in 30.0 s on 3 workers, 4 at a time" in view.locator("p").first.inner_text()
    desk.page.click("#tab-list")
    assert {"fit/a", "fit/b", "fit/c"} == set(desk.search("worker:Node-10"))


def test_timeline_leaves_out_what_is_unchanged(desk: Desk, tmp_path: Path) -> None:
    """Its times are those of its last run, perhaps days before this session."""
    entries = [
        Entry(a_result("success", instance="new", started="2030-01-05T00:00:00Z", seconds=30), worker="w0"),
        Entry(a_result("unchanged", instance="old", started="2030-01-01T00:00:00Z", seconds=30)),
    ]
    page = tmp_path / "unchanged.html"
    page.write_text(
        render_html(build_report(entries, session_id="s", started="", finished="x", runs_dir=tmp_path))
    )
    desk.open(page, "#view=timeline")
    view = desk.page.locator("#view-timeline")
    assert ["w0"] == view.locator(".lane-name").all_inner_texts()
    assert "1 run in 30.0 s on 1 worker;" in view.locator("p").first.inner_text()


def test_timeline_has_round_marks(desk: Desk, tmp_path: Path) -> None:
    """As many as there is room for; no column for workers that nobody knows; all runs are listed."""
    began = "2030-01-01T00:00:00Z"
    entries = [
        Entry(
            a_result("success", instance=f"i{number}", started=began, seconds=0.1 * number + 0.07),
            f"n::{number}",
        )
        for number in range(25)
    ]
    desk.open(a_page(tmp_path, entries), "#view=timeline")
    view = desk.page.locator("#view-timeline")
    marks = view.locator(".axis span").all_inner_texts()
    assert ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"] == marks
    assert ["Instance", "Status", "Took", "Started"] == view.locator("thead th").all_inner_texts()
    assert 20 == view.locator("tbody tr").count()
    view.get_by_role("button", name="Show all 25 runs").press("Enter")
    assert 25 == view.locator("tbody tr").count()
    assert "fit/i4" == desk.page.evaluate("document.activeElement.textContent")


def test_graph_takes_the_room_that_there_is(desk: Desk, tmp_path: Path) -> None:
    """No text of a box is cut, on a desktop or a phone; what has no place in it is named."""

    def entry(flow: str, status: str, *upstreams: str) -> Entry:
        made = Result(flow, status, "flow", Status(status), message="it broke" if status == "error" else "")
        return Entry(made, f"n::{flow}[{status}]", upstreams=upstreams)

    statuses = ("error", "blocked", "warning", "success", "unchanged", "not_run")
    entries = [
        *(entry("preparation_of_the_data", status) for status in statuses),
        *(entry("fit", status, f"preparation_of_the_data/{status}") for status in statuses),
        *(entry("assess", status, f"fit/{status}") for status in statuses),
        entry("alone", "success"),
    ]
    page = a_page(tmp_path, entries)
    for width in (1400, 390):
        desk.page.set_viewport_size({"width": width, "height": 900})
        desk.open(page, "#view=graph")
        desk.page.reload()
        view = desk.page.locator("#view-graph")
        view.get_by_role("button", name="Flows").click()
        assert 3 == view.locator(".box").count()
        assert "1 error, 1 blocked, 1 warning, 1 success, 1 unchanged, 1 not run" in view.inner_text()
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
        assert [] == view.locator(".box, .box *:not(.unseen)").evaluate_all(cut)
        assert "1 flow is not shown" in view.locator(".left-out").inner_text()
        assert view.locator(".left-out").inner_text().endswith(": alone.")
        view.locator("path.edge").nth(1).wait_for(state="attached")
        boxes = [box.bounding_box() for box in view.locator(".box").all()]
        if width == 1400:
            assert boxes[-1]["x"] + boxes[-1]["width"] > 1250
        else:
            assert boxes[0]["width"] <= 160
    view.get_by_role("button", name="Instances").click()
    assert "1 instance is not shown" in view.inner_text()


def test_graph_by_instance_and_by_flow(report: Desk) -> None:
    """Boxes with their status in words; a flow lists its instances."""
    report.page.get_by_role("tab", name="Graph").click()
    view = report.page.locator("#view-graph")
    assert 10 == view.locator(".box").count()
    assert 8 == view.locator("path.edge").count()
    view.get_by_role("button", name="Flows").click()
    assert 4 == view.locator(".box").count()
    assert "2 error, 3 success" in view.inner_text()
    assert "1 error, 1 blocked, 1 not run" in view.inner_text()  # also what stands alone: it is listed too
    view.locator(".box").get_by_text("plot", exact=True).click()
    assert {"plot/EU", "plot/US", "plot/later"} == set(report.names())


def test_trend_has_both_sessions(report: Desk) -> None:
    """One line of the history for each; what became red is named."""
    report.page.get_by_role("tab", name="Trend").click()
    table = report.page.locator("#view-trend table")
    assert 2 == table.locator("tbody tr").count()
    assert "fit/US_2030, fit/US_2050, plot/EU" in table.locator("tbody tr").first.inner_text()


def test_trend_has_a_scale(desk: Desk, tmp_path: Path) -> None:
    """Numbers and dates beside the columns, which take the width that there is."""
    history = [a_session(f"s{number}", {"success": 30, "error": number}, 3.0) for number in range(40)]
    desk.open(a_page(tmp_path, [a_red("a")], history=history), "#view=trend")
    assert ["80\n40\n0", "4 s\n2 s\n0 s"] == desk.page.locator(".scale").all_inner_texts()
    columns = desk.page.locator(".columns").first
    assert columns.locator(".date").count() > 2
    right = "one => one.getBoundingClientRect().right"
    assert abs(columns.evaluate(right) - columns.locator(".column").last.evaluate(right)) < 2
    charts = desk.page.locator(".plot").evaluate_all("all => all.map(one => one.getBoundingClientRect())")
    assert charts[1]["right"] - charts[0]["left"] > 1300


def test_tabs_by_keyboard(report: Desk) -> None:
    """Arrows move between the views, as tabs do everywhere."""
    report.page.focus("#tab-list")
    report.page.keyboard.press("ArrowRight")
    report.page.keyboard.press("ArrowRight")
    assert "tab-graph" == report.page.evaluate("document.activeElement.id")
    assert report.page.locator("#view-graph").is_visible()
    assert not report.page.locator("#view-list").is_visible()


# --- while a session runs ----------------------------------------------------------------------------------


def test_refresh_keeps_filter_scroll_and_what_is_open(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of a running session loads itself again, and a person who reads it does not notice."""
    monkeypatch.setattr("ductaflow.report.live.RESTS", 0)
    live = LiveReport(tmp_path, session_id="s1", project_root=tmp_path, min_interval=0.0)
    live.expect(Entry(a_result("not_run", instance=f"i{number}"), f"n::i{number}") for number in range(200))
    live.update(
        Entry(a_result("error", instance="i7", message="it broke", started="2030-01-01T00:00:00Z"), "n::i7")
    )
    desk.page.clock.install()
    desk.open(tmp_path / REPORT_HTML)
    assert "1 of 200 done" in desk.page.inner_text(".banner")
    desk.search("fit/i")
    desk.row("fit/i7").click()
    desk.page.wait_for_selector("#panel-name")
    desk.page.evaluate("scrollTo(0, 2000)")
    desk.page.clock.run_for(2000)
    live.update(Entry(a_result("success", instance="i8"), "n::i8"))

    with desk.page.expect_navigation():
        desk.page.clock.run_for(31_000)

    desk.page.wait_for_selector("#panel-name")
    desk.page.clock.run_for(200)
    assert "2 of 200 done" in desk.page.inner_text(".banner")
    assert ("fit/i", "fit/i7") == (desk.page.input_value("#search"), desk.page.inner_text("#panel-name"))
    assert 2000 == desk.page.evaluate("scrollY")
    live.close()


def test_refresh_can_be_paused_and_waits_for_who_types(desk: Desk, tmp_path: Path) -> None:
    """No page reloads under the fingers of a person, and none that a person has paused."""
    live = LiveReport(tmp_path, session_id="s1", min_interval=0.0)
    live.expect([Entry(a_result("not_run", instance="a"))])
    desk.page.clock.install()
    desk.open(tmp_path / REPORT_HTML)
    desk.page.evaluate("window.same = true")
    desk.page.click("text=Pause the refresh")
    desk.page.clock.run_for(120_000)
    assert desk.page.evaluate("window.same")
    desk.page.click("text=Refresh again")
    with desk.page.expect_navigation():
        desk.page.clock.run_for(5_000)
    live.close()


def test_page_of_a_killed_session_says_so(desk: Desk, tmp_path: Path) -> None:
    """A page that should have been written again, and was not, was left behind."""
    live = LiveReport(tmp_path, session_id="s1", min_interval=0.0)
    live.expect([Entry(a_result("not_run", instance="a"))])
    data = json.loads((tmp_path / REPORT_JSON).read_text())
    data["alive"]["written"] = "2020-01-01T00:00:00Z"
    page = tmp_path / "left.html"
    page.write_text(render_html(data))

    desk.open(page)

    banner = desk.page.inner_text(".banner")
    assert "This session did not end properly." in banner
    assert "Did not end: 1 not run" == desk.page.title()
    assert f"process {os.getpid()}" in banner
    assert "ductaflow report" in banner
    live.close()


WAITS = """
    # %%
    import pathlib, subprocess, sys, time
    if config["waits"]:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        subprocess.Popen(command, start_new_session=True)
        pathlib.Path("waiting").touch()
        time.sleep(600)
"""


@dataclass
class Running:
    """A session whose first instance is done on its page, whose second waits, whose third has not begun."""

    project: TinyProject
    process: subprocess.Popen[bytes]

    @property
    def page(self) -> Path:
        return self.project.root / "runs" / REPORT_HTML

    def head(self) -> dict[str, Any]:
        """What its page says of it as a whole."""
        return page_data(self.page.read_text()).head

    def is_seen(self) -> bool:
        assert self.process.poll() is None, "the session ended"
        waits = (self.project.folder("wait", "b") / "waiting").exists()
        return waits and self.page.exists() and bool(self.head()["summary"]["success"])

    def kill(self) -> None:
        """SIGKILL of the session alone; all that it and its flow started ends by itself."""
        tree = processes_beside(self.process.pid, self.project.root)
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not any(map(is_alive, tree)))


@pytest.fixture
def running(project: TinyProject, no_process_left: None) -> Iterator[Running]:
    """A real session of pytest in mid-run."""
    (project.root / "pytest.ini").write_text("[pytest]\n")
    project.flow("wait", WAITS)
    for name in "abc":
        project.config(f"flows/wait/{name}.json", waits=name != "a")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    with subprocess.Popen(
        command("--ductaflow", "-p", "no:cacheprovider"),
        cwd=project.root,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            session = Running(project, process)
            wait_until(session.is_seen, seconds=60)
            yield session
        finally:
            process.kill()


def test_who_watches_a_session_that_is_killed_is_told(desk: Desk, running: Running) -> None:
    """SIGKILL in mid-run: the page that stays behind says so; `ductaflow report` tells how its runs ended,
    and how many instances have no result."""
    now = datetime.now()
    desk.page.clock.install(time=now)
    # The page's time stands still but for what the test moves, so that nothing loads it again in between.
    desk.page.clock.pause_at(now + timedelta(seconds=10))
    desk.open(running.page)
    assert "Running: 1 of 3 done" in desk.page.inner_text(".banner")
    assert desk.page.title().startswith("Running: ")
    alive = running.head()["alive"]

    running.kill()
    with desk.page.expect_navigation():
        desk.page.clock.fast_forward(1000 * (alive["within"] + 60))

    banner = desk.page.inner_text(".banner")
    assert "This session did not end properly." in banner
    assert f"process {running.process.pid} on " in banner
    assert "1 of 3 were done." in banner
    assert desk.page.title().startswith("Did not end: ")
    assert "not run" in desk.row("wait/b").inner_text()

    again = [sys.executable, "-m", "ductaflow", "report"]
    subprocess.run(again, cwd=running.project.root, check=True, stdout=subprocess.DEVNULL)
    desk.page.reload()
    desk.page.wait_for_selector("#app:not([hidden])")
    assert "1 of the 3 instances that it meant to run" in desk.page.inner_text(".banner")
    data = json.loads((running.page.parent / REPORT_JSON).read_text())
    assert data["finished"]
    assert ["wait/c"] == data["alive"]["undone"]
    ends = {one["id"]: (one["status"], one["cause"]) for one in data["instances"]}
    assert {
        "wait/a": ("success", None),
        "wait/b": ("error", "interrupted"),
        "wait/c": ("not_run", None),
    } == ends
    message = "the session ended before this run did, stopped in cell 2 of 2 (line 10)"
    assert message in desk.row("wait/b").inner_text()


# --- many instances ----------------------------------------------------------------------------------------


def test_thousands_of_rows_are_drawn_as_they_are_seen(desk: Desk, tmp_path: Path) -> None:
    """The page holds as many rows as fit the screen; the end of the list is one key away."""
    entries = [Entry(a_result("success", instance=f"i{number}"), f"n::i{number}") for number in range(3000)]
    page = tmp_path / "many.html"
    page.write_text(
        render_html(build_report(entries, session_id="s", started="", finished="x", runs_dir=tmp_path))
    )
    desk.open(page)
    assert len(desk.names()) < 60
    desk.page.focus("#list")
    desk.page.keyboard.press("End")
    assert desk.row("fit/i2999").is_visible()
    assert len(desk.names()) < 60
    assert "3000" == desk.row("fit/i2999").get_attribute("aria-setsize")
    assert ["fit/i2999"] == desk.search("i2999")


# --- for everyone ------------------------------------------------------------------------------------------

MARKUP = "<script>alert(1)</script>\"'>]]>{{ 7*7 }}<img src=x onerror=alert(2)>&lt;!--"


def a_hostile(text: str, status: str, folder: Path) -> Entry:
    """An instance that has the text in every field that can hold one."""
    failure = Failure(text, 41, 3, text, text, text, ({"line": 41, "text": text},))
    result = Result(
        flow="x" + text,
        instance=text + status,
        kind="build",
        status=Status(status),
        cause="exception",
        message=text,
        session_id=text,
        run_id=text,
        started="2030-01-01T00:00:00Z",
        finished=text,
        seconds=3.0,
        warnings=(LogWarning(1, text),),
        warning_count=101,
        failure=failure,
        exit_code=1,
        signal=text,
        cells=Cells(2, 7),
        config_hash=text,
        inputs=({"path": text, "size": 1},),
        outputs=({"path": text, "size": 5},),
        children=(text.replace("/", ""),),
        environment={"python": text, "host": text, "packages": {text: text}, "git": {"commit": text}},
        folder=folder,
    )
    return Entry(result, text + status, parameters={text: text}, tags=[text], upstreams=[text], worker=text)


def test_hostile_texts_are_texts(desk: Desk, tmp_path: Path) -> None:
    """Markup in every field is shown as it is, in every view; nothing of it runs."""
    text = MARKUP + "\u2028\u202e\x00"
    entries = [a_hostile(text, status.value, tmp_path) for status in Status]
    data = build_report(entries, session_id=text, started=text, finished=text, runs_dir=tmp_path)
    data |= {"project": text, "notes": [text]}
    page = tmp_path / "evil.html"
    page.write_text(render_html(data))
    desk.open(page)
    assert "<script>alert(1)</script>" in desk.page.inner_text("h1")
    for view in ("Timeline", "Graph", "Trend", "Instances"):
        desk.page.get_by_role("tab", name=view).click()
    for key in desk.names():
        desk.page.evaluate("key => { location.hash = '#id=' + encodeURIComponent(key); }", key)
        desk.page.wait_for_selector("#panel-name")
        desk.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert "<img src=x onerror=alert(2)>" in desk.panel.inner_text()
    desk.page.click(".causes .cause-row")
    desk.page.fill("#search", text)
    assert 0 == desk.page.locator("main img").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_no_violation_of_accessibility(browser: Browser, runs: Path, scheme: str, width: int) -> None:
    """axe-core finds nothing against WCAG 2.2 AA, in light and dark, on a desktop and a phone."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason='pip install -e ".[test]"'
    ).Axe()
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    desk = new_desk(browser, color_scheme=scheme, viewport={"width": width, "height": 800})
    for address in (
        "",
        "#q=none",
        "#q=status:bogus",
        "#id=fit/US_2030",
        "#id=prep/EU",
        "#view=timeline",
        "#view=graph",
        "#view=trend",
    ):
        desk.page.goto("about:blank")
        desk.open(runs / REPORT_HTML, address)
        if "id=" in address:
            desk.page.wait_for_selector("#panel-name")
        else:
            desk.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        found = axe.run(desk.page, options=rules).response["violations"]
        assert [] == [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in found], (
            address
        )
    desk.page.context.close()
    assert [] == desk.trouble


def test_phone_shows_one_thing_at_a_time(browser: Browser, runs: Path) -> None:
    """No sideways scrolling; an opened instance fills the screen, and closing it leads back."""
    desk = new_desk(browser, viewport={"width": 390, "height": 844}, has_touch=True)
    desk.open(runs / REPORT_HTML)
    for address in ("", "#id=fit/US_2030", "#id=prep/EU", "#view=timeline", "#view=graph", "#view=trend"):
        desk.page.evaluate("address => { location.hash = address; }", address)
        desk.page.wait_for_timeout(50)
        assert desk.page.evaluate("document.documentElement.scrollWidth") <= 390, address
    desk.open(runs / REPORT_HTML)
    desk.row("fit/US_2050").tap()
    desk.page.wait_for_selector("#panel-name")
    assert not desk.page.locator("#list").is_visible()
    assert "panel-name" == desk.page.evaluate("document.activeElement.id")
    desk.page.tap("#close")
    assert desk.page.locator("#list").is_visible()
    assert [] == desk.trouble
    desk.page.context.close()


@pytest.mark.parametrize("width", [1400, 794])
def test_print_has_all_rows_and_the_closed_parts(report: Desk, width: int) -> None:
    """On paper the counts are words, there is nothing to press, and nothing is folded: builds neither."""
    opened(report, "fit/US_2030")
    report.page.set_viewport_size({"width": width, "height": 1000})
    report.page.emulate_media(media="print")
    report.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert "3 error" in " ".join(report.page.inner_text(".chips").split())
    assert "0px" == report.page.locator(".chip").first.evaluate("chip => getComputedStyle(chip).borderWidth")
    assert not report.page.locator("#search").is_visible()
    assert "model.json" not in report.part("files").inner_text()
    assert "clean.csv" in report.part("files").inner_text()
    assert 13 == len(report.names())
    assert report.row("outer/low > inner/inner > fit/fit").is_visible()
    report.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert 11 == len(report.names())
    assert report.part("files").get_attribute("open") is None


def test_motion_can_be_switched_off(browser: Browser, tmp_path: Path) -> None:
    """`prefers-reduced-motion` stops what pulses."""
    live = LiveReport(tmp_path, session_id="s1")
    live.expect([Entry(a_result("not_run", instance="a"))])
    for wish, animation in (("no-preference", "pulse"), ("reduce", "none")):
        desk = new_desk(browser, reduced_motion=wish).open(tmp_path / REPORT_HTML)
        assert animation == desk.page.evaluate(
            "getComputedStyle(document.querySelector('.pulse')).animationName"
        )
        desk.page.context.close()
    live.close()


def test_empty_report_says_what_to_do(desk: Desk, tmp_path: Path) -> None:
    """A page without instances is a page."""
    page = tmp_path / "empty.html"
    page.write_text(render_html(build_report([], session_id="", started="", finished="", runs_dir=tmp_path)))
    desk.open(page)
    assert "pytest --ductaflow runs those" in desk.page.inner_text("main")


@pytest.mark.slow
def test_the_benchmark_works() -> None:
    """It measures size, share of the session, paint and keys, says it is too little, and leaves nothing."""
    program = Path(__file__).parents[2] / "benchmarks" / "report.py"
    # The browser's sockets need a short path, which a test's own folder has not under xdist.
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        done = subprocess.run(
            [sys.executable, str(program), "--quick"],
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        assert not list(Path(folder).glob("report-*"))
    assert "too little to judge" in done.stdout
    for line in ("page", "processor time", "first paint", "a key in the search, median"):
        assert f"| {line}" in done.stdout
