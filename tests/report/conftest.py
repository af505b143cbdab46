"""A project with a red second session, and the browser that shows its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from desk import CHROMIUM, Desk, new_desk
from support import TinyProject

from ductaflow.common.paths import REPORT_HTML
from ductaflow.report import LiveReport

if TYPE_CHECKING:
    from playwright.sync_api import Browser
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


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live report has written when a call returns, also where the machine is busy."""
    monkeypatch.setattr(LiveReport, "held_up", 60.0)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of a project whose second session is red where its first was green."""
    project = TinyProject(tmp_path_factory.mktemp("page") / "climate")
    (project.root / "pytest.ini").write_text("[pytest]\n")
    for name, code in (("prep", PREP), ("fit", FIT), ("plot", PLOT)):
        project.flow(name, code)
    project.flow("outer", OUTER, kind="builds")
    project.flow("inner", INNER, kind="builds")
    store(project, degree=1)
    assert project.pytest("-q", timeout=300).code in (0, 1)
    store(project, degree=3)
    assert project.pytest("-q", "-n", "2", timeout=300).code in (0, 1)
    return project.root / "runs"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


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


@pytest.fixture(scope="module")
def _one_desk(browser: Browser, runs: Path) -> Iterator[Desk]:
    desk = new_desk(browser).open(runs / REPORT_HTML)
    yield desk
    desk.page.context.close()


@pytest.fixture
def searched(_one_desk: Desk) -> Iterator[Desk]:
    """The report for tests that only search: a new desk for each would take longer than they do."""
    yield _one_desk
    assert [] == _one_desk.trouble
