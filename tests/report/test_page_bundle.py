"""The page of a bundle in a browser: its links lead to files, or say why not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from desk import Desk, needs_browser, opened

from ductaflow.common.paths import REPORT_HTML, REPORT_JSON
from ductaflow.report.bundle import write_bundle
from ductaflow.report.merge import read_twin
from ductaflow.store.result import Status

pytestmark = needs_browser


def test_the_page_of_a_bundle(desk: Desk, runs: Path, tmp_path: Path) -> None:
    """Every link of it leads to a file that is there; what is not there has a reason and no link."""
    twin, faults = read_twin(runs / REPORT_JSON)
    assert [] == faults
    write_bundle(twin, runs, tmp_path / "out")
    red = next(one for one in twin["instances"] if one["links"] and Status(one["status"]).is_error)
    green = next(one for one in twin["instances"] if one["links"] and one["status"] == "success")
    for instance in (red, green):
        page = opened(desk.open(tmp_path / "out" / REPORT_HTML), instance["id"])
        hrefs = page.panel.locator("a[href]").evaluate_all("all => all.map((one) => one.href)")
        for href in hrefs:
            assert Path(unquote(urlsplit(href).path)).is_file(), href
        found = page.panel.locator(".links").inner_text()
        if instance is red:
            assert hrefs
            assert "not in this bundle" not in found
        else:
            assert "Log, HTML, Notebook, Config not in this bundle: the run is good" in found
