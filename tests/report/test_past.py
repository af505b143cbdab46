"""The history of each instance on the page: words, dots, and what changed from session to session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from desk import Desk, a_page, a_session, needs_browser, with_past
from support import a_result

from ductaflow.report import Entry

pytestmark = needs_browser

#: By instance: letters and seconds of the six sessions before, what came of it now, and what it is.
PASTS: dict[str, tuple[str, Sequence[float | None], str, float, set[str]]] = {
    "mended": ("ssssse", [2] * 6, "success", 2, {"fixed"}),
    "mended_while_blocked": ("ssse?b", [2, 2, 2, 2, None, None], "warning", 2, {"fixed"}),
    "accepted": ("ssssse", [2] * 6, "unchanged", 2, {"fixed"}),
    "long_good": ("ssesss", [2] * 6, "success", 2, set()),
    "broke_once": ("ssseee", [2] * 6, "error", 2, set()),
    "by_turns": ("sesess", [2] * 6, "success", 2, {"flaky"}),
    "by_turns_with_gaps": ("ss?ebs", [2, 2, None, 2, None, 2], "error", 2, {"flaky"}),
    "slow": ("sswwee", [2, 3, 2, 2, 90, 90], "error", 4.5, {"slower"}),
    "not_twice_as_slow": ("ssssss", [2] * 6, "success", 3.9, set()),
    "of_two_runs": ("sseeee", [2] * 6, "error", 9, set()),
    "quick": ("ssssss", [0.2] * 6, "success", 1.1, set()),
    "not_run": ("ssssss", [2] * 6, "unchanged", 90, set()),
    "without_a_past": ("", [], "error", 90, set()),
}


def a_page_with_pasts(folder: Path) -> Path:
    history = [
        {**a_session(f"h{number}", {"success": 5}), "commit": f"{number}abcdef0123"} for number in range(6)
    ]
    entries = [
        Entry(a_result(status, instance=name, seconds=seconds), f"n::{name}")
        for name, (_, _, status, seconds, _) in PASTS.items()
    ]
    page = a_page(folder, entries, history=[*history, {**a_session("s", {}), "commit": "f00d"}])
    given = {
        f"fit/{name}": (letters + "n", [*seconds, None])
        for name, (letters, seconds, *_) in PASTS.items()
        if letters
    }
    return with_past(page, given)


def test_search_finds_what_changed(desk: Desk, tmp_path: Path) -> None:
    """`is:fixed`, `is:flaky` and `is:slower`, by the rules in docs/report.md, and as tags of the rows."""
    desk.open(a_page_with_pasts(tmp_path))
    for word in ("fixed", "flaky", "slower"):
        wanted = {f"fit/{name}" for name, (*_, found) in PASTS.items() if word in found}
        assert wanted == set(desk.search(f"is:{word}"))
        assert all(word in desk.row(id).locator(".tags").inner_text() for id in wanted)


def test_dots_say_in_words_what_they_show(desk: Desk, tmp_path: Path) -> None:
    """The last ten in the row; all in the panel, with seconds, and as a table too."""
    desk.open(a_page_with_pasts(tmp_path))
    row = desk.row("fit/mended_while_blocked")
    dots = row.get_by_role(
        "img", name="Last 6 sessions, the newest at the right: 3 success, error, blocked, warning", exact=True
    )
    assert 4 == dots.locator("path").count()  # a shape and colour for each status
    assert 0 == desk.row("fit/without_a_past").locator(".dots").count()
    desk.row("fit/slow").click()
    part = desk.part("past")
    part.wait_for()
    assert "It took 2.3 times as long as usual. Its good runs before took 2.00 s" in part.inner_text()
    part.get_by_role("img", name="Oldest first: 2 success, 2 warning, 3 error", exact=True).wait_for()
    titles = part.locator(".past g title").all_text_contents()
    assert "2030-01-01 00:00:00 UTC, 0abcdef01, success, 2.00 s" == titles[0]
    part.get_by_text("As a table").click()
    lines = part.locator("tbody tr").all_inner_texts()
    assert 7 == len(lines)
    assert ["2030-01-01 00:00:00 UTC", "f00d", "error", "4.50 s"] == lines[0].replace("\n", "").split("\t")


def test_dots_are_those_of_real_sessions(report: Desk) -> None:
    """Two sessions of a project: what both made of an instance."""
    report.row("fit/US_2030").get_by_role(
        "img", name="Last 2 sessions, the newest at the right: success, error", exact=True
    ).wait_for()
    report.row("plot/US").get_by_role(
        "img", name="Last 2 sessions, the newest at the right: success, blocked", exact=True
    ).wait_for()


def test_trend_leads_to_what_changed(desk: Desk, tmp_path: Path) -> None:
    """What is new and what is fixed opens its instance; a session of a part has the rest as it was known."""
    history = [
        {**a_session("h0", {"success": 2, "error": 1}), "red": ["fit/c"], "commit": "c0ffee0123456"},
        {**a_session("h1", {"success": 1}), "red": ["fit/c", "gone"], "carried": ["fit/c"]},
        a_session("s", {"success": 3}),
    ]
    entries = [Entry(a_result("success", instance=name), f"n::{name}") for name in "abc"]
    page = a_page(tmp_path, entries, history=history)
    with_past(
        page, {"fit/a": ("sss", [1, 1, 1]), "fit/b": ("s.s", [1, None, 1]), "fit/c": ("e.s", [1, None, 1])}
    )
    desk.open(page, "#view=trend")
    view = desk.page.locator("#view-trend")
    columns = view.locator(".columns").first.locator(".column")
    hatched = [
        column.locator(".piece.untouched").evaluate_all("all => all.map(one => one.title)")
        for column in columns.all()
    ]
    assert [[], ["1 error, not touched", "1 success, not touched"], []] == hatched
    assert ["c0ffee012"] == columns.locator(".commit").all_inner_texts()
    now, part, _ = view.locator("tbody tr").all()
    assert ["gone"] == part.locator("td").nth(-2).locator("li").all_inner_texts()
    assert 0 == part.get_by_role("button").count()  # not on this page any more
    assert ["fit/c", "gone"] == now.locator("td").last.locator("li").all_inner_texts()
    now.get_by_role("button", name="fit/c").click()
    desk.wait_for("fit/c")
