"""The report after every kind of session: it says what is, whichever part of the project has run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from desk import CHROMIUM, Desk, new_desk
from support import TinyProject, page_data, report

from ductaflow import conduct
from ductaflow.common.paths import REPORT_HTML
from ductaflow.store.causes import Failed, Root, cause_of, grouped, way_to_root

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PREP = """
# %%
from pathlib import Path
if config["rate"] == "abc":
    raise TypeError("no number: abc")
Path("clean.csv").write_text(str(config["rate"]))
"""
READ = """
# %%
print("reads", config["data"])
"""


@pytest.fixture
def chain(project: TinyProject) -> TinyProject:
    """`read/a` reads `prep/a`, and so on; `prep/b` is red as long as its rate is no number."""
    project.settings("html = false")
    project.flow("prep", PREP)
    project.flow("read", READ)
    for name, rate in (("a", 1), ("b", "abc"), ("c", 3)):
        project.config(f"flows/prep/{name}.json", rate=rate, region=name.upper(), _run={"tags": ["slow"]})
        project.config(f"flows/read/{name}.json", data=f"runs/prep/{name}/clean.csv", region=name.upper())
    return project


def instances(project: TinyProject) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in report(project)["instances"]}


def row(project: TinyProject, id: str) -> dict[str, Any]:
    data = page_data((project.root / "runs" / REPORT_HTML).read_text())
    return next(one for one in data.rows if one["id"] == id)


FACTS = ("nodeid", "tags", "upstreams", "debug")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["pytest", "run", "conduct", "report"])
def test_the_facts_of_what_is_stored_do_not_depend_on_what_ran(chain: TinyProject, part: str) -> None:
    """After a session of a part the rest keeps node id, tags, upstreams and commands."""
    chain.pytest()
    before = instances(chain)
    if part == "pytest":
        chain.pytest("config/flows/prep/c.json")
    elif part == "run":
        chain.output("run", "prep/c")
    elif part == "conduct":
        conduct(
            pd.DataFrame({"instance": ["row"], "rate": [5]}), "prep", project_root=chain.root, progress=False
        )
    else:
        chain.output("report")
    after = instances(chain)
    assert ["prep/a"] == after["read/a"]["upstreams"]
    assert ["slow"] == after["prep/a"]["tags"]
    for id, one in before.items():
        assert {key: one[key] for key in FACTS} == {key: after[id][key] for key in FACTS}, id
    assert "ductaflow run read/a" == after["read/a"]["rerun"]


@pytest.mark.slow
def test_a_blocked_one_has_its_stored_config(chain: TinyProject) -> None:
    """What is blocked, skipped, or could not start is found by its parameters."""
    chain.config("flows/prep/c.json", rate=3, region="C", _run={"skip": "later"})
    chain.config("flows/read/d.json", data="runs/prep/nowhere/clean.csv", region="D")
    statuses = {id: one["status"] for id, one in (chain.pytest(), instances(chain))[1].items()}
    assert ("blocked", "not_run", "error") == tuple(statuses[id] for id in ("read/b", "prep/c", "read/d"))
    for id, region in (("read/b", "B"), ("prep/c", "C"), ("read/d", "D")):
        assert region == instances(chain)[id]["config"]["region"]
        assert region == row(chain, id)["parameters"]["region"]


@pytest.mark.slow
def test_run_again_of_a_blocked_one_works(chain: TinyProject) -> None:
    """The command runs what blocks it first, with what is stored now."""
    chain.pytest()
    command = instances(chain)["read/b"]["rerun"]
    assert "ductaflow run --upstream read/b" == command
    chain.config("flows/prep/b.json", rate=2)
    out = chain.output(*command.split()[1:])
    assert {"success"} == {instances(chain)[id]["status"] for id in ("prep/b", "read/b")}, out


@pytest.mark.slow
def test_run_again_uses_the_stored_config(chain: TinyProject) -> None:
    """After a session of another part too; the saved config is for what is not stored."""
    chain.pytest()
    chain.pytest("config/flows/prep/c.json")
    chain.config("flows/prep/b.json", rate=2)
    command = instances(chain)["prep/b"]["rerun"]
    chain.output(*command.split()[1:])
    assert "success" == instances(chain)["prep/b"]["status"]
    chain.output("run", "prep/a", "--set", "rate=7", "--as", "whatif")
    assert instances(chain)["prep/whatif"]["rerun"].startswith(
        "python flows/prep.py --config runs/prep/whatif"
    )


@pytest.mark.slow
def test_an_instance_that_could_not_start_does_not_show_an_older_run(chain: TinyProject) -> None:
    """The log in its folder is that of a run of before, which is not why it failed."""
    chain.pytest("-k", "prep or read")
    chain.config("flows/read/a.json", data="runs/prep/nowhere/clean.csv")
    chain.pytest("config/flows/read/a.json")
    one = instances(chain)["read/a"]
    assert ("error", "input", "", {}) == (one["status"], one["cause"], one["log_tail"], one["links"])


@pytest.mark.slow
def test_ductaflow_run_refreshes_the_page(chain: TinyProject) -> None:
    """It has the new status, says where it is, and is a session of the trend."""
    chain.pytest()
    chain.config("flows/prep/b.json", rate=2)
    out = chain.output("run", "prep/b")
    assert "Report: " in out
    assert REPORT_HTML in out
    assert "success" == instances(chain)["prep/b"]["status"]
    assert 2 == len(report(chain)["history"])
    assert {"success": 1} == {key: count for key, count in report(chain)["summary"].items() if count}


@pytest.mark.slow
def test_a_flow_of_a_build_that_runs_by_itself_refreshes_the_page(project: TinyProject) -> None:
    """What its build is now is on the page too."""
    project.settings("html = false")
    project.flow("prep", "# %%\nimport os\nassert os.path.exists(config['_project_root'] + '/ok')\n")
    project.flow(
        "study",
        "from ductaflow import run_step_flow\nrun_step_flow('flows/prep.py', 'prep', 'x', {})",
        kind="builds",
    )
    project.config("builds/study/one.json")
    project.pytest()
    assert "error" == instances(project)["study/one"]["status"]
    (project.root / "ok").touch()
    project.output("run", project.folder("study", "one") / "runs" / "prep" / "x")
    message = project.result("study", "one").message
    assert "flow prep/x ran again by itself since" in message
    assert message == instances(project)["study/one"]["message"]
    assert "success" == instances(project)["study/one"]["flows"][0]["status"]


@pytest.mark.slow
def test_where_no_page_is_wanted_a_command_makes_none(chain: TinyProject) -> None:
    """The setting of the project counts for every command."""
    chain.settings("html = false\nreport = false")
    chain.output("run", "prep/a")
    assert not (chain.root / "runs" / REPORT_HTML).exists()


@pytest.mark.slow
def test_this_session_and_all_known_are_counted_apart(chain: TinyProject) -> None:
    """What is not stored any more is in neither count of the project."""
    chain.pytest()
    (chain.root / "config" / "flows" / "prep" / "a.json").unlink()
    (chain.root / "config" / "flows" / "read" / "a.json").unlink()
    chain.pytest("config/flows/prep/c.json")
    data = report(chain)
    counts = {
        name: {status: count for status, count in data[name].items() if count}
        for name in ("summary", "earlier_summary", "orphan_summary")
    }
    assert {
        "summary": {"success": 1},
        "earlier_summary": {"success": 1, "error": 1, "blocked": 1},
        "orphan_summary": {"success": 2},
    } == counts
    assert {"prep/a", "read/a"} == {id for id, one in instances(chain).items() if one["orphan"]}
    chain.output("report")
    assert counts["orphan_summary"] == {k: v for k, v in report(chain)["orphan_summary"].items() if v}


@pytest.mark.slow
def test_a_new_warning_that_fails_its_test_is_on_the_page(chain: TinyProject) -> None:
    """The run is a warning, its test has failed: row, panel and totals say so."""
    chain.flow("noisy", 'print("Warning: known")\nprint("Warning: something new")\n')
    chain.config("flows/noisy.json")
    (chain.root / "known.txt").write_text("noisy/default: Warning: known\n")
    session = chain.pytest("-k", "noisy", "--ductaflow-baseline", "known.txt")
    assert 1 == session.code
    one = instances(chain)["noisy/default"]
    assert "new warning: Warning: something new" == one["fails"]
    assert 1 == report(chain)["failing"]
    assert "fails its test: new warning: Warning: something new" == row(chain, "noisy/default")["message"]
    assert "1 warning, 1 fails its test" in (chain.root / "runs" / REPORT_HTML).read_text()


# --- causes ------------------------------------------------------------------------------------------------


def failure(flow: str, instance: str, message: str = "demand of North is negative") -> Failed:
    return Failed(instance, "exception", "", "ValueError", message, "flows/demand.py", 20, flow)


@pytest.mark.parametrize(
    ("stored", "in_build"),
    [("US_2050", "demand"), ("North_2050", "North"), ("North", "demand"), ("x", "y")],
)
def test_failures_that_read_alike_are_one_cause(stored: str, in_build: str) -> None:
    """A stored instance, and a build whose flow fails in the same place with the same words."""
    first = ("demand/x", *cause_of(failure("demand", stored), stored))
    second = ("study/y", *cause_of(failure("demand", in_build), "national"))
    assert [("demand/x", "study/y")] == [group.names for group in grouped([first, second])]


def test_the_name_of_a_flow_does_not_differ_from_run_to_run() -> None:
    """So it is not left out of a message, as the name of the instance is."""
    key = cause_of(failure("demand", "demand"), "national")[0]
    assert key == cause_of(failure("demand", "US_2050"), "US_2050")[0]
    assert "ValueError: demand of North is negative" == key.pattern


def test_other_words_are_other_causes() -> None:
    """Two places, or two messages, are not one."""
    found = [
        ("a", *cause_of(failure("demand", "a"), "a")),
        ("b", *cause_of(failure("demand", "b", "late"), "b")),
    ]
    assert 2 == len(grouped(found))


def a_failed(name: str, cause: str, message: str = "", flows: Sequence[Any] = ()) -> Any:
    return Failed(name, cause, message, flow=name), flows


GOOD = (None, ())


@pytest.mark.parametrize(
    ("cause", "message", "flows", "way"),
    [
        ("exception", "", [], []),
        ("exception", "", [GOOD, a_failed("b", "exit")], ["b"]),
        ("exception", "a[a] failed: b[b] failed", [a_failed("b", "exit"), a_failed("a", "exit")], ["a"]),
        ("exit", "flow b/b: x", [a_failed("a", "exit"), a_failed("b", "exit")], ["b"]),
        ("exception", "", [a_failed("a", "expectation"), a_failed("b", "exit")], ["b"]),
        ("exception", "", [a_failed("a", "exception", "", [a_failed("b", "lost")])], ["a", "b"]),
        ("timeout", "did not finish", [a_failed("a", "interrupted")], []),
        ("timeout", "flow a/a: did not finish", [a_failed("a", "timeout")], ["a"]),
        ("expectation", "1 of 2 metrics differ", [a_failed("a", "expectation")], []),
        ("expectation", "flow a/a: 1 of 2 metrics differ", [a_failed("a", "expectation")], ["a"]),
    ],
)
def test_a_build_leads_to_the_flow_that_made_it_fail(
    cause: str, message: str, flows: Sequence[Any], way: Sequence[str]
) -> None:
    """The one that it names, else the first that failed; what ended it from outside is its own."""
    found = way_to_root(
        a_failed("build", cause, message, flows), lambda one: one[0], lambda one: iter(one[1])
    )
    assert way == [one[0].instance for one in found]


def test_the_root_of_a_build_is_said_in_one_line() -> None:
    """Place, exception and the way there; a flow that is called like its instance is named once."""
    inner = Failed("EU_2040", "exception", "", "FlowFailed", "x", "builds/regional.py", 12, "regional")
    deepest = Failed("dispatch", "exception", "", "KeyError", "'price'", "flows/dispatch.py", 26, "dispatch")
    root = Root.of([inner, deepest])
    assert root
    assert "flows/dispatch.py:26: KeyError: 'price' (in regional/EU_2040 \u203a dispatch)" == root.line


@pytest.mark.slow
def test_a_build_is_told_by_what_happened_in_its_flow(project: TinyProject) -> None:
    """One cause in the terminal and on the page, for the flow by itself and for its build."""
    project.settings("html = false")
    project.flow("demand", 'raise ValueError("demand of North is negative")\n')
    project.flow(
        "study",
        "from ductaflow import run_step_flow\nrun_step_flow('flows/demand.py', 'demand', 'demand', {})",
        kind="builds",
    )
    project.config("flows/demand/US_2050.json")
    project.config("builds/study/national.json")
    session = project.pytest()
    assert "2 errors, 1 cause" in session.out
    assert 1 == len(report(project)["causes"])
    alone = project.pytest("-k", "study")
    line = "flows/demand.py:4: ValueError: demand of North is negative (in demand)"
    told = "study/national: ValueError: demand of North is negative (in demand) -> flows/demand.py:4"
    assert f"error    {told}\n" in alone.out
    # the failure itself begins with it too, and has its source
    assert f"\n{line}\n" in alone.out
    assert '>     4  raise ValueError("demand of North is negative")' in alone.out


# --- why it ran --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_old_error_is_never_the_reason_of_a_new_one(project: TinyProject) -> None:
    """With -v, what is in brackets is why it ran; the short summary has room for what happened."""
    project.settings("html = false")
    project.flow("flip", 'raise KeyError("OLD-CAUSE")\n')
    project.config("flows/flip.json")
    project.pytest()
    project.flow("flip", 'raise ValueError("NEW-CAUSE")\n')
    for flags in (["-v"], ["-vv"], ["-v", "-n", "1"]):
        session = project.pytest("--ductaflow-changed", *flags)
        assert "FAILED (ran since: its last run failed)" in session.out
        summary = session.out.partition("short test summary info")[2]
        assert "NEW-CAUSE" in summary
        assert "ran since" not in summary
        assert "OLD-CAUSE" not in session.out
        project.flow("flip", 'raise KeyError("OLD-CAUSE")\n')
        project.pytest()
        project.flow("flip", 'raise ValueError("NEW-CAUSE")\n')


# --- in a browser ------------------------------------------------------------------------------------------


@pytest.fixture
def desk() -> Iterator[Desk]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=CHROMIUM)
        desk = new_desk(browser, permissions=["clipboard-read", "clipboard-write"])
        yield desk
        assert [] == desk.trouble
        browser.close()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
def test_the_page_after_a_session_of_a_part(chain: TinyProject, desk: Desk) -> None:
    """Two groups of counts, labels and search terms for what is not stored, the graph whole."""
    chain.pytest()
    (chain.root / "config" / "flows" / "read" / "c.json").unlink()
    chain.pytest("config/flows/prep/c.json")
    page = desk.open(chain.root / "runs" / REPORT_HTML).page
    groups = [words(text) for text in page.locator(".chips").all_inner_texts()]
    assert ["This session 1 1 success", "All known 5 1 error 1 blocked 3 success 1 not stored"] == groups
    assert ["read/c"] == desk.search("is:orphan")
    assert "not stored" in words(desk.row("read/c").inner_text())
    assert ["prep/c"] == desk.search("is:session")
    assert "read/c" not in desk.search("is:stored")
    assert ["read/b", "prep/b"] == sorted(desk.search("region=B"), reverse=True)
    assert ["read/b"] == desk.search("region=B status:blocked")
    desk.search("")
    page.click(".chip[data-scope=session][data-status=success]")
    assert ["prep/c"] == desk.names()
    page.click(".chip[data-scope=known][data-status=success]")
    assert {"prep/a", "prep/c", "read/a"} == set(desk.names())
    page.click(".chip[data-scope=known][data-status=success]")
    page.get_by_role("tab", name="Graph").click()
    boxes = page.locator(".box").all_inner_texts()
    assert {"prep/a", "prep/b", "prep/c", "read/a", "read/b"} >= {words(text).split(" ")[0] for text in boxes}
    left_out = words(" ".join(page.locator(".left-out").all_inner_texts()))
    assert "1 run folder of nothing that is stored is not shown: read/c." in left_out
    assert "read/a" not in left_out


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium")
def test_a_failure_of_the_ratchet_is_seen(chain: TinyProject, desk: Desk) -> None:
    """In the totals, in the row, in the opened instance; and its command is of what is stored."""
    chain.flow("noisy", 'print("Warning: known")\nprint("Warning: something new")\n')
    chain.config("flows/noisy.json")
    (chain.root / "known.txt").write_text("noisy/default: Warning: known\n")
    chain.pytest("--ductaflow-baseline", "known.txt")
    page = desk.open(chain.root / "runs" / REPORT_HTML).page
    assert "1 fails its test" in words(page.locator(".chips").first.inner_text())
    assert "fails its test" in words(desk.row("noisy/default").inner_text())
    page.click(".chip[data-query='is:failing']")
    assert ["noisy/default"] == desk.names()
    desk.row("noisy/default").click()
    desk.wait_for("noisy/default")
    text = words(desk.panel.inner_text())
    assert "Fails its test: new warning: Warning: something new" in text
    desk.panel.get_by_role("button", name="Copy run again").click()
    assert "ductaflow run noisy/default" == desk.copied()
    desk.search("")
    page.get_by_role("button", name="Run again").first.click()
    assert desk.copied().startswith("ductaflow run --upstream")
