"""Timeline, graph and trend in a real browser."""

from __future__ import annotations

from pathlib import Path

from desk import Desk, a_page, a_red, a_session, needs_browser
from support import a_result

from ductaflow.report import Entry, build_report, render_html
from ductaflow.store.result import Result, Status, write_result

pytestmark = needs_browser


def tip_at(desk: Desk, lane: int, second: float) -> str:
    """Which run the timeline names at a place: lanes count from 0, all of them are on the screen."""
    box = desk.page.locator(".bars").bounding_box()
    span = desk.page.evaluate(
        """() => Number(/ to ([0-9.]+) s/.exec(document.querySelector(".bars").ariaLabel)[1])"""
    )
    desk.page.mouse.move(box["x"] + box["width"] * second / span, box["y"] + 24 * lane + 12)
    return desk.page.locator(".tip strong").inner_text()


def test_timeline_has_workers_and_the_longest_chain(report: Desk) -> None:
    """Who ran when, on which worker; builds with their flows; the tables open instances."""
    report.page.get_by_role("tab", name="Timeline").click()
    view = report.page.locator("#view-timeline")
    view.get_by_role("img", name="11 runs from 0 s to ").wait_for()  # two of them are flows of the build
    assert {"gw0", "gw1", ""} == set(view.locator(".lane-name").all_inner_texts())
    chain = view.locator("section").nth(1)
    assert "The longest chain" in chain.inner_text()
    assert chain.locator("tbody tr").count() >= 2
    chain.locator("button").first.click()
    report.page.wait_for_selector("#panel-name")
    assert "view=timeline" in report.page.evaluate("location.hash")


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
    view.get_by_role("img", name="5 runs from 0 s to 30 s.").wait_for()
    assert ["Node-2", "Node-10", "Node-10 (2)", "at a time 1"] == view.locator(".lane-name").all_inner_texts()
    assert ["fit/d", "fit/a", "fit/b"] == [
        tip_at(desk, lane, second) for lane, second in ((0, 12), (1, 12), (2, 12))
    ]
    assert "fit/c" == tip_at(desk, 1, 27)
    view.get_by_role("img", name="How many ran at a time: up to 3").wait_for()
    assert "5 runs in 30.0 s on 3 workers;" in view.locator("p").first.inner_text()
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


def a_flow_of(folder: Path, name: str, begin: int, seconds: float) -> str:
    """A flow that a build ran; returns its folder as the build names it."""
    ran = a_result("success", "dispatch", name, started=f"2030-01-01T00:00:{begin:02}Z", seconds=seconds)
    (folder / "runs" / name).mkdir(parents=True)
    write_result(ran, folder / "runs" / name)
    return f"runs/{name}"


def a_page_of_runs(folder: Path) -> Path:
    """Three runs on one worker, of which the second waits for the first, and a build with two flows."""
    flows = (a_flow_of(folder / "build", "eu", 31, 10), a_flow_of(folder / "build", "us", 41, 5))
    began = "2030-01-01T00:00:{:02}Z".format
    build = a_result(
        "success",
        "outlook",
        "all",
        "build",
        started=began(30),
        seconds=20,
        children=flows,
        folder=folder / "build",
    )
    runs = [
        Entry(a_result("success", instance="a", started=began(0), seconds=10), "n::a", worker="gw0"),
        Entry(
            a_result("error", instance="b", started=began(15), seconds=5, message="it broke"),
            "n::b",
            worker="gw0",
            upstreams=["fit/a"],
        ),
        Entry(a_result("success", instance="c", started=began(20), seconds=30), "n::c", worker="gw1"),
        Entry(build, "n::all", worker="gw0"),
    ]
    return a_page(folder, runs)


def test_timeline_is_zoomed_by_mouse_and_keys(desk: Desk, tmp_path: Path) -> None:
    """A drag shows that part of the time, keys go along; the address keeps it; a click opens a run."""
    page = a_page_of_runs(tmp_path)
    view = desk.open(page, "#view=timeline").page.locator("#view-timeline")
    view.get_by_role("img", name="6 runs from 0 s to 50 s.").wait_for()
    assert "fit/b" == tip_at(desk, 0, 17)
    assert "waited 5.00 s" in view.locator(".tip").inner_text()
    assert "outlook/all \u203a dispatch/eu" == tip_at(desk, 1, 35)
    mouse, box = desk.page.mouse, view.locator(".bars").bounding_box()
    mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 5)
    mouse.down()
    mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 5, steps=3)
    mouse.up()
    view.get_by_role("img", name="2 runs from 10").wait_for()  # b and c
    desk.page.focus(".lanes")
    desk.page.keyboard.press("0")
    view.get_by_role("img", name="6 runs from 0 s to 50 s.").wait_for()
    assert view.get_by_role("button", name="Everything").is_disabled()
    desk.page.keyboard.press("+")
    desk.page.keyboard.press("ArrowRight")
    view.get_by_role("img", name="5 runs from 17.5 s to 42.5 s.").wait_for()
    desk.page.wait_for_function("() => location.hash.includes('span=17.5-42.5')")
    desk.page.reload()
    view.get_by_role("img", name="5 runs from 17.5 s to 42.5 s.").wait_for()
    view.locator(".bars").click(position={"x": 20, "y": 12})
    desk.wait_for("fit/b")


def test_timeline_run_by_run_follows_the_search(desk: Desk, tmp_path: Path) -> None:
    """A row for each run and each flow of a build; a table says where the time goes."""
    view = desk.open(a_page_of_runs(tmp_path), "#view=timeline&lanes=runs").page.locator("#view-timeline")
    names = view.locator(".lane-name")
    names.nth(5).wait_for()
    assert [
        "fit/a",
        "fit/b",
        "fit/c",
        "outlook/all",
        "dispatch/eu",
        "dispatch/us",
    ] == names.all_text_contents()
    by_flow = view.locator("section").first.locator("tbody tr")
    shown = [line.replace("\n", "").split("\t") for line in by_flow.all_inner_texts()]
    assert [
        ["fit", "3", "45.0 s", "10.0 s", "30.0 s", "fit/c"],
        ["outlookbuild", "1", "20.0 s", "20.0 s", "20.0 s", "outlook/all"],
        ["dispatch", "2", "15.0 s", "7.50 s", "10.0 s", "outlook/all \u203a dispatch/eu"],
    ] == shown
    view.get_by_role("button", name="Flows of builds").first.click()
    names.nth(4).wait_for(state="detached")
    view.get_by_role("button", name="Flows of outlook/all").press("Enter")
    names.nth(5).wait_for()
    assert "Flows of outlook/all" == desk.page.evaluate("document.activeElement.ariaLabel")
    desk.page.fill("#search", "status:error")
    view.get_by_role("heading", name="1 of 4 runs shown, the slowest first").wait_for()
    assert ["fit/b"] == names.all_text_contents()
    names.get_by_role("button").click()
    desk.wait_for("fit/b")


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
    runs = view.locator("section").last
    assert ["Instance", "Status", "Took", "Started"] == runs.locator("thead th").all_inner_texts()
    assert 20 == runs.locator("tbody tr").count()
    view.get_by_role("button", name="Show all 25 runs").press("Enter")
    assert 25 == runs.locator("tbody tr").count()
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
        assert 3 == view.locator(".graph .box").count()
        assert "1 error, 1 blocked, 1 warning, 1 success, 1 unchanged, 1 not run" in view.inner_text()
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"
        assert [] == view.locator(".box, .box *:not(.unseen)").evaluate_all(cut)
        assert ["alone"] == view.locator(".graph-alone .box-name").all_inner_texts()
        view.locator("path.edge").nth(1).wait_for(state="attached")
        boxes = [box.bounding_box() for box in view.locator(".graph .box").all()]
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
    view.get_by_role("button", name="Flows", exact=True).click()
    assert 4 == view.locator(".box").count()
    assert (
        "runs inner"
        in view.locator(".box").get_by_text("outer").locator("xpath=ancestor::button").inner_text()
    )
    assert "2 error, 3 success" in view.inner_text()
    assert "1 error, 1 blocked, 1 not run" in view.inner_text()  # also what stands alone: it is listed too
    view.locator(".box").get_by_text("plot", exact=True).click()
    assert "flow:plot" == report.page.input_value("#search")
    assert "true" == view.locator('[data-box="plot"]').get_attribute("aria-pressed")
    assert "none of 5 shown" in view.locator('[data-box="fit"]').inner_text()
    view.get_by_role("button", name="List the 3 instances").click()
    assert {"plot/EU", "plot/US", "plot/later"} == set(report.names())


def test_graph_shows_what_is_around_what_is_found(desk: Desk, tmp_path: Path) -> None:
    """Of thousands of instances too; shares of statuses tell one error among many."""

    def chain(number: int) -> list[Entry]:
        status = "error" if number == 7 else "success"
        return [
            Entry(a_result("success", "prep", f"i{number}"), f"n::prep{number}"),
            Entry(
                a_result(status, "fit", f"i{number}", message="odd"),
                f"n::fit{number}",
                upstreams=[f"prep/i{number}"],
            ),
            Entry(
                a_result("success", "plot", f"i{number}"), f"n::plot{number}", upstreams=[f"fit/i{number}"]
            ),
        ]

    page = a_page(tmp_path, [entry for number in range(1000) for entry in chain(number)])
    view = desk.open(page, "#view=graph").page.locator("#view-graph")
    fit = view.locator('[data-box="fit"]')
    assert "1 error, 999 success" in fit.inner_text()
    assert ["1", "999"] == fit.locator(".shares span").evaluate_all(
        "all => all.map(one => one.style.flexGrow)"
    )
    view.get_by_role("button", name="Instances").click()
    assert 150 == view.locator(".box").count()
    assert "2,850 instances have no room here" in view.inner_text()
    desk.page.fill("#search", "fit/i7 status:error")
    assert ["prep/i7", "fit/i7", "plot/i7"] == view.locator(".box-name").all_inner_texts()
    assert ["prep/i7", "plot/i7"] == view.locator(".box.faint .box-name").all_inner_texts()
    view.get_by_text("plot/i7").click()
    desk.wait_for("plot/i7")


def test_trend_has_both_sessions(report: Desk) -> None:
    """One line of the history for each; what became red is named."""
    report.page.get_by_role("tab", name="Trend").click()
    table = report.page.locator("#view-trend table")
    assert 2 == table.locator("tbody tr").count()
    new = table.locator("tbody tr").first.locator("td").nth(-2)
    assert ["fit/US_2030", "fit/US_2050", "plot/EU"] == new.get_by_role("button").all_inner_texts()


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
