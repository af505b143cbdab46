"""The page while a session runs, and after one that was killed, in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, needs_browser
from support import TinyProject, a_result, command, is_alive, page_data, processes_beside, wait_until

from ductaflow.common.paths import REPORT_HTML, REPORT_JSON
from ductaflow.report import Entry, LiveReport, render_html

pytestmark = needs_browser


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
