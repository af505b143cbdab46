"""The status page in a browser, as tests look at it, and pages of results that no run has made."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import a_result

from ductaflow.report import Entry, build_report, render_html
from ductaflow.report.history import newly_red
from ductaflow.report.twin import red_ids

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(sys.platform == "win32", reason="the browser's path is that of Linux"),
]


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


def a_page(folder: Path, entries: Sequence[Entry], **head: Any) -> Path:
    """The page of some results; `head`: what its head says otherwise."""
    data = {**build_report(entries, session_id="s", started="", finished="x", runs_dir=folder), **head}
    data["new"] = newly_red(red_ids(data["instances"]), "s", data["history"])
    page = folder / "page.html"
    page.write_text(render_html(data))
    return page


def with_rows(page: Path, more: Mapping[str, Mapping[str, Any]]) -> None:
    """Put values into rows of a page; parameters, metrics and what moved by their names, as in a twin."""
    text = page.read_text()
    head, rows = (
        json.loads(found)
        for found in re.findall(r'type="application/json" id=.*?>(.*?)</script>', text, re.S)
    )
    for row in rows:
        for key, value in more.get(row["id"], {}).items():
            if isinstance(value, Mapping):
                head["shapes"].append(list(value))
                value = [len(head["shapes"]) - 1, *value.values()]
            row[key] = value
    for id, data in (("head", head), ("rows", rows)):
        start = text.index(f'id="{id}">') + len(f'id="{id}">')
        text = (
            text[:start] + json.dumps(data).replace("<", "\\u003c") + text[text.index("</script>", start) :]
        )
    page.write_text(text)


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


def with_past(page: Path, past: Mapping[str, tuple[str, Sequence[float | None]]]) -> Path:
    """Give rows of a page a past: letters and seconds, one for each session of its history."""
    text = page.read_text()
    begin = text.index('id="rows">') + len('id="rows">')
    end = text.index("</script>", begin)
    rows = json.loads(text[begin:end])
    for row in rows:
        if row["id"] in past:
            row["past"] = past[row["id"]]
    page.write_text(text[:begin] + json.dumps(rows) + text[end:])
    return page


def opened(report: Desk, id: str) -> Desk:
    report.page.evaluate("id => { location.hash = '#id=' + id; }", id)
    report.wait_for(id)
    return report
