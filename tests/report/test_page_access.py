"""The page for everyone: thousands of rows, hostile texts, keyboards, phones, printers, in a real browser."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from desk import Desk, needs_browser, new_desk, opened
from support import a_result

from ductaflow.common.errors import Failure
from ductaflow.common.paths import REPORT_HTML
from ductaflow.report import Entry, LiveReport, build_report, render_html
from ductaflow.store.result import Cells, LogWarning, Result, Status

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser


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
    # The browser's own search would find only those: its key leads to ours, and from there to the browser's.
    desk.page.evaluate(
        "window.addEventListener('keydown', event => { window.ours = event.defaultPrevented; })"
    )
    desk.page.keyboard.press("Control+f")
    assert (True, "search") == (desk.page.evaluate("ours"), desk.page.evaluate("document.activeElement.id"))
    assert "This searches all 3,000 instances" in desk.page.inner_text(".hint")
    assert ["fit/i2999"] == desk.search("i2999")
    desk.page.keyboard.press("Control+f")
    assert not desk.page.evaluate("ours")


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
    for view in ("Table", "Timeline", "Graph", "Trend", "Instances"):
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
    rules = {
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
        # what passes takes a third of the time, if it is described too
        "resultTypes": ["violations"],
    }
    desk = new_desk(browser, color_scheme=scheme, viewport={"width": width, "height": 800})
    for address in (
        "",
        "#q=none",
        "#q=status:bogus",
        "#order=cause&q=cause:1",
        "#id=fit/US_2030",
        "#id=prep/EU",
        "#view=table&flow=fit",
        "#view=table&flow=fit&grid=",
        "#view=table&flow=fit&plot=",
        "#view=timeline",
        "#view=timeline&lanes=runs",
        "#view=graph",
        "#view=trend",
        "#compare=fit/EU_2030,fit/US_2030",
    ):
        desk.page.goto("about:blank")
        desk.open(runs / REPORT_HTML, address)
        if "#id=" in address:
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
    for address in (
        "",
        "#id=fit/US_2030",
        "#id=prep/EU",
        "#view=table",
        "#view=table&grid=",
        "#view=table&plot=",
        "#view=timeline",
        "#view=timeline&lanes=runs",
        "#view=graph",
        "#view=trend",
        "#compare=fit/EU_2030,fit/US_2030",
    ):
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
    for line in ("page", "processor time", "first paint", "a key in the search, list: median"):
        assert f"| {line}" in done.stdout
