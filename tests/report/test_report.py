"""The report: results -> JSON twin -> page, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support import a_result, full_disk, page_data, stored, stored_at

from ductaflow.common.errors import DuctaflowError, Failure
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON, RunFolder
from ductaflow.common.text import cut_middle
from ductaflow.report import (
    Entry,
    build_report,
    render_html,
    write_report,
)
from ductaflow.report.earlier import iter_earlier
from ductaflow.store.result import Cells, LogWarning, Result, Status

STARTED, FINISHED = "2030-01-02T03:04:05.000Z", "2030-01-02T03:06:10.000Z"
MARKUP = "<script>alert(1)</script>\"'>]]>{{ 7*7 }}{% x %}<!-- &lt;"
EVIL = MARKUP + "\u2028\x00\x1b[31mred\x1b[0m\ud800\u202e\ufffe\r"


posix = pytest.mark.skipif(os.name == "nt", reason="needs names, pipes or links that Windows has not")


class Page(HTMLParser):
    """What a browser would make of a page: elements, visible text, and what is wrong with the nesting."""

    VOID = frozenset({"meta", "input", "link", "br", "use", "rect", "circle", "path"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.code: list[str] = []
        self.data: list[str] = []
        self.comments: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        inside, attrs = self.elements[-1] if self.elements else ("", {})
        runs = bool(self.open) and self.open[-1] in ("script", "style")
        if runs and inside == self.open[-1] and "type" in attrs:
            self.data.append(data)
        else:
            (self.code if runs else self.texts).append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and all(attrs.get(key) == value for key, value in wanted.items())
        ]


def report(runs: Path, *entries: Entry, finished: str | None = FINISHED) -> dict[str, Any]:
    return build_report(entries, session_id="s1", started=STARTED, finished=finished, runs_dir=runs)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


# --- data --------------------------------------------------------------------------------------------------


def test_twin_has_every_field_of_the_result_and_its_own(runs: Path) -> None:
    """An instance of the twin is its result and what the page needs to know beside it."""
    result = stored(runs, a_result(config_hash="c0ffee", cells=Cells(7, 7)))

    data = report(runs, Entry(result, "config/flows/fit/a.json::fit[a]"))

    instance = data["instances"][0]
    assert result == Result.from_dict(instance, folder=result.folder)
    assert tuple(instance[key] for key in ("id", "nodeid", "folder", "earlier")) == (
        "fit/a",
        "config/flows/fit/a.json::fit[a]",
        "fit/a",
        False,
    )
    assert instance["rerun"] == "pytest --ductaflow 'config/flows/fit/a.json::fit[a]'"
    assert instance["links"] == {"notebook": "fit/a/fit.ipynb", "log": "fit/a/fit_execution_output.txt"}
    assert (instance["log_tail"], instance["log_head"]) == ("line\n", "")
    assert instance["flows"] == []


def test_summary_counts_this_session_and_earlier_ones_apart(runs: Path) -> None:
    """Every status is counted, also with 0; what the session did not touch is counted for itself."""
    entries = [Entry(a_result("error")), Entry(a_result("success"), earlier=True)]

    data = report(runs, *entries)

    assert {status.value: int(status == "error") for status in Status} == data["summary"]
    assert {status.value: int(status == "success") for status in Status} == data["earlier_summary"]


def test_earlier_entries_are_the_untouched_runs_on_disk(runs: Path) -> None:
    """Flows inside builds, hidden folders and folders without result are no instances."""
    stored(runs, a_result(instance="touched"))
    build = stored(runs, a_result("warning", "plan", "b"))
    stored_at(runs / "plan/b/runs/fit/x", a_result())
    stored_at(runs / ".ductaflow/previous/fit", a_result())
    (runs / "fit/empty").mkdir()

    assert [Entry(build, earlier=True)] == list(iter_earlier(runs, skip={"fit/touched"}))
    assert list(iter_earlier(runs / "nowhere", skip=set())) == []


@pytest.mark.parametrize(
    "content",
    [b"{half", b"\xff\xfe", b"[]", b'{"schema": 9}', b"[" * 100_000, b'{"schema": 1, "status": []}'],
)
def test_unreadable_earlier_result_is_shown_as_error(runs: Path, content: bytes) -> None:
    """A broken `result.json` is an instance of its own with the reason, under the name of its folder."""
    (runs / "fit/a").mkdir(parents=True)
    (runs / "fit/a/result.json").write_bytes(content)

    (entry,) = iter_earlier(runs, skip=set())

    assert (entry.result.id, entry.result.status, entry.earlier) == ("fit/a", Status.ERROR, True)
    assert "result.json" in entry.result.message or "recursion" in entry.result.message
    assert "fit/a" in Page(render_html(report(runs, entry))).text


@pytest.mark.parametrize(
    "field",
    [
        {"message": 5},
        {"seconds": "long"},
        {"children": "abc", "inputs": [3]},
        {"environment": []},
        {"warnings": [{"line": 1, "text": None}]},
        {
            "failure": {
                "file": 1,
                "line": "x",
                "cell": 0,
                "ename": [],
                "evalue": "",
                "traceback": "",
                "source": [],
            }
        },
    ],
)
def test_result_with_a_field_of_the_wrong_type_costs_only_itself(runs: Path, field: dict[str, Any]) -> None:
    """Anyone can write into a run folder; the report of the others still comes out."""
    (runs / "fit/a").mkdir(parents=True)
    (runs / "fit/a/result.json").write_text(json.dumps({**a_result().to_dict(), **field}))
    good = stored(runs, a_result(instance="good"))

    entries = list(iter_earlier(runs, skip={"fit/good"}))
    page = render_html(report(runs, Entry(good), *entries))

    assert re.search(r"fit/a/result\.json: expected .*, got ", entries[0].result.message)
    assert {"fit/a", "fit/good"} == {row["id"] for row in page_data(page).rows}


def test_copied_folder_goes_by_its_own_name(runs: Path) -> None:
    """A copy of a run folder does not stand for the instance that it was copied from."""
    stored_at(runs / "fit/copy", a_result(instance="a"))

    assert [entry.result.id for entry in iter_earlier(runs, skip=set())] == ["fit/copy"]


def test_flows_of_a_build_are_read_at_any_depth(runs: Path) -> None:
    """A build has its flows, these may be builds; each is run again by the command of the outermost."""
    outer = runs / "outer/a"
    stored_at(outer / "runs/inner/a/runs/fit/a", a_result("warning"))
    stored_build(outer / "runs/inner/a", "inner", ("runs/fit/a",))
    result = stored_build(outer, "outer", ("runs/inner/a",))

    instance = report(runs, Entry(result))["instances"][0]

    inner = instance["flows"][0]
    assert (inner["id"], inner["folder"]) == ("inner/a", "outer/a/runs/inner/a")
    assert ("warning", instance["rerun"]) == (inner["flows"][0]["status"], inner["flows"][0]["rerun"])


def stored_build(folder: Path, flow: str, children: tuple[str, ...]) -> Result:
    return stored_at(folder, a_result(flow=flow, instance=folder.name, kind="build", children=children))


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("runs/fit/gone", "is missing"),
        ("runs/fit/broken", "cannot be read"),
        (".", "is a flow of itself"),
        pytest.param("loop/x", "is a flow of itself", marks=posix),
        ("no\0name", "cannot be read"),
        ("n" * 300, "cannot be read"),
    ],
)
def test_flow_that_cannot_be_read_is_shown_and_says_why(runs: Path, child: str, reason: str) -> None:
    """A missing, broken or endless flow of a build is an error row of that build, never left out."""
    build = stored_build(runs / "outer/a", "outer", (child,))
    (runs / "outer/a/runs/fit/broken").mkdir(parents=True)
    (runs / "outer/a/runs/fit/broken/result.json").write_text("{")
    if child.startswith("loop"):
        (runs / "outer/a/loop").symlink_to(runs / "outer")
        build = stored_build(runs / "outer/a", "outer", ("loop/a",))

    (flow,) = report(runs, Entry(build))["instances"][0]["flows"]

    assert (flow["status"], reason in flow["message"]) == ("error", True)


def test_what_did_not_run_shows_no_older_files(runs: Path) -> None:
    """A blocked instance must not offer yesterday's log as today's."""
    result = stored(runs, a_result("blocked", message="fit/b is red"))

    instance = report(runs, Entry(result))["instances"][0]

    assert (instance["links"], instance["log_tail"]) == ({}, "")


@posix
def test_links_are_percent_encoded_and_relative(runs: Path) -> None:
    """A name with `#`, `%`, a space or a colon still leads to its file, also outside of the runs."""
    result = stored_at(runs.parent / "a #%?:", a_result())

    instance = report(runs, Entry(result))["instances"][0]

    assert instance["links"]["notebook"] == "../a%20%23%25%3F%3A/fit.ipynb"
    assert instance["folder"] == "../a #%?:"


@pytest.mark.parametrize(
    ("nodeid", "command"),
    [
        ("c/fit/a.json::fit[a]", "pytest --ductaflow 'c/fit/a.json::fit[a]'"),
        ("it's $HOME", "pytest --ductaflow 'it'\"'\"'s $HOME'"),
        (None, "pytest --ductaflow -k 'a b'"),
    ],
)
def test_command_that_runs_it_again_is_quoted(runs: Path, nodeid: str | None, command: str) -> None:
    """The command can be pasted into a POSIX shell as it is."""
    assert command == report(runs, Entry(a_result(instance="a b"), nodeid))["instances"][0]["rerun"]


# --- logs and other long texts -----------------------------------------------------------------------------


def test_log_of_one_line_of_50_mb_is_cut(runs: Path) -> None:
    """Neither the twin nor the page grows with the log."""
    result = stored(runs, a_result("error", cause="exit"))
    with RunFolder(result.folder or runs, "fit").log.open("wb") as log:
        log.truncate(50_000_000)
        log.seek(0, os.SEEK_END)
        log.write("\N{SNOWMAN}".encode() * 3000)

    data = report(runs, Entry(result))

    instance = data["instances"][0]
    assert instance["log_tail"].strip("\N{SNOWMAN}") == ""
    assert (instance["log_size"], len(instance["log_tail"]) < 3000) == (50_009_000, True)
    assert len(json.dumps(data)) < 40_000
    assert len(render_html(data)) < len(render_html(report(runs))) + 20_000


def test_end_of_a_long_log_and_its_beginning(runs: Path) -> None:
    """The last 60 lines of a red run are shown, and where they do not reach back, its first lines."""
    lines = [f"line {number}" for number in range(1000)]
    result = stored(runs, a_result("error"), "\r\n".join(lines))

    instance = report(runs, Entry(result))["instances"][0]

    assert lines[-60:] == instance["log_tail"].split("\n")
    assert lines[:8] == instance["log_head"].splitlines()


def test_log_with_any_bytes_is_text(runs: Path) -> None:
    """Invalid UTF-8 is replaced and terminal codes are gone; controls are spelled out on the page."""
    result = stored(runs, a_result("error"), b"\xff\x00\x1b[31mred\x1b[0m \xe2\x98")

    data = report(runs, Entry(result))

    assert data["instances"][0]["log_tail"] == "\ufffd\0red "
    assert page_data(render_html(data)).details("fit/a")["log_tail"] == "\ufffd\u2400red "


@posix
def test_log_that_is_a_pipe_is_not_waited_for(runs: Path) -> None:
    """A flow may leave anything under the name of its log."""
    result = stored(runs, a_result("error"))
    log = RunFolder(result.folder or runs, "fit").log
    log.unlink()
    os.mkfifo(log)

    assert report(runs, Entry(result))["instances"][0]["log_tail"] == ""


def test_long_texts_are_cut_in_the_middle_and_say_so(runs: Path) -> None:
    """A message of 5 MB becomes one of 2 kB."""
    result = a_result("error", message="a" * 5_000_000 + "the end")

    message = report(runs, Entry(result))["instances"][0]["message"]

    assert message.endswith("the end")
    assert "4,998,007 characters left out" in message
    assert len(message) < 2_100
    assert cut_middle("short", 5) == "short"


def test_numbers_that_json_has_not_become_null_or_words(runs: Path) -> None:
    """The twin can be read by any JSON reader."""
    result = a_result(seconds=math.nan, peak_memory=10**5000)

    data = report(runs, Entry(result, parameters={"inf": math.inf, "set": {1}, "path": Path("x")}))

    instance = json.loads(json.dumps(data, allow_nan=False))["instances"][0]
    assert (instance["seconds"], instance["peak_memory"]) == (None, "an integer of 16610 bits")
    assert instance["parameters"] == {"inf": None, "set": [1], "path": "x"}
    assert "fit/a" in render_html(data)


# --- page --------------------------------------------------------------------------------------------------


def a_red(text: str) -> Result:
    """A red result that has the text in every field that can hold one."""
    failure = Failure(text, 41, 3, text, text, text, ({"line": 41, "text": text},))
    return Result(
        flow=text,
        instance=text,
        kind="build",
        status=Status.ERROR,
        cause="exception",
        message=text,
        session_id=text,
        run_id=text,
        started=text,
        finished=text,
        warnings=(LogWarning(1, text),),
        warning_count=101,
        failure=failure,
        exit_code=1,
        signal=text,
        cells=Cells(2, 7),
        config_hash=text,
        inputs=({"path": text, "size": 1},),
        outputs=({"path": text, "size": text},),
        environment={"python": text, "host": text, text: text},
    )


def test_hostile_text_in_every_field_is_text(runs: Path) -> None:
    """Markup, template code, quotes and controls of a flow are shown, never obeyed."""
    folder = runs / "evil"
    result = replace(a_red(EVIL), folder=folder, children=("<img src=x onerror=alert(2)>",))
    folder.mkdir(parents=True)
    data = build_report(
        [Entry(result, EVIL, parameters={EVIL: EVIL}), Entry(replace(result, status=Status.BLOCKED), EVIL)],
        session_id=EVIL,
        started=EVIL,
        finished=EVIL,
        runs_dir=runs,
        project_root=runs / EVIL.replace("/", "").replace("\0", ""),
    )

    html = render_html(data)

    plain = Page(render_html(build_report([], session_id="", started="", finished="", runs_dir=runs)))
    page = Page(html)
    assert html.isascii()
    assert not set(html) & set(map(chr, (*range(9), *range(11, 32))))
    assert plain.code == page.code
    assert len(page.data) == len(plain.data) + 1
    assert not [text for text in page.data if set(text) & set("<>&")]
    assert [] == page.comments == page.all("img")
    assert not [
        name for _, attrs in page.elements for name in attrs if name.startswith("on") or name == "style"
    ]
    shown = MARKUP + "\\u2028\u2400red\\ud800\\u202e\\ufffe\u240d"
    found = page_data(html)
    assert shown in page.text
    assert (shown, shown) == (found.head["session_id"], found.rows[0]["nodeid"])
    assert shown == found.details(f"{shown}/{shown}")["failure"]["traceback"]
    assert all(href and not href.startswith("javascript") for a in page.all("a") if (href := a["href"]))


def test_page_needs_nothing_from_outside_and_allows_nothing(runs: Path) -> None:
    """The policy admits the page's own script and style by their hash; no address is in the page."""
    html = render_html(report(runs, Entry(a_result())))

    page = Page(html)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    style, script = page.code
    content = str(policy["content"])
    assert content.startswith("default-src 'none'")
    for code in (style, script):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in content
    assert "unsafe" not in content
    assert "//" not in html.replace(script, "").replace(style, "")
    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"\w+://[^\"' ]+", script + style))
    icons = [str(link["href"]).partition(",")[0] for link in page.all("link")]
    assert ["data:image/svg+xml"] == icons
    assert not [attrs for name, attrs in page.elements if attrs.get("src")]


def test_every_status_has_sign_and_word(runs: Path) -> None:
    """Colour never stands alone: each count has its sign and its word, in the order of the page."""
    entries = [Entry(a_result(status.value, instance=status.value)) for status in Status]

    page = Page(render_html(report(runs, *entries)))

    shown = [str(attrs["data-status"]) for attrs in page.all("button")]
    assert shown == ["error", "blocked", "warning", "success", "unchanged", "not_run"]
    assert all(page.all("use", href=f"#sign-{status}") for status in shown)
    assert "1 error, 1 blocked, 1 warning, 1 success, 1 unchanged, 1 not run" in page.text


def test_row_has_what_is_seen_and_searched_and_the_rest_is_packed(runs: Path) -> None:
    """A row is small; what somebody has to open is in the details, once."""
    failure = Failure(
        "flows/fit.py", 41, 3, "ValueError", "too hot", "Traceback: ...", ({"line": 41, "text": "f()"},)
    )
    result = stored(
        runs, a_result("error", cause="exception", message="too hot", failure=failure), "last words\n"
    )
    (runs / "fit/a/fit_config.json").write_text(
        '{"horizon": 2030, "db": {"host": "x"}, "_project_root": "/p"}'
    )

    page = page_data(
        render_html(
            report(runs, Entry(result, "n::fit[a]", tags=["slow"], upstreams=["prep/a"], worker="gw1"))
        )
    )

    row = page.row("fit/a")
    assert (row["message"], row["tags"], row["upstreams"], row["worker"]) == (
        "too hot",
        ["slow"],
        ["prep/a"],
        "gw1",
    )
    assert row["parameters"] == {"horizon": "2030", "db.host": "x"}
    details = page.details("fit/a")
    assert (details["log_tail"], details["failure"]["traceback"]) == ("last words\n", "Traceback: ...")
    assert details["debug"] == "ductaflow debug fit/a"
    assert not {"log_tail", "failure"} & row.keys()


def test_flows_of_a_build_are_in_its_row_and_its_details(runs: Path) -> None:
    """A flow without a result is there all the same."""
    build = stored_build(runs / "plan/a", "plan", ("runs/fit/a", "runs/fit/gone"))
    stored_at(runs / "plan/a/runs/fit/a", a_result("warning"))

    page = page_data(render_html(report(runs, Entry(build))))

    flows = page.row("plan/a")["flows"]
    assert [(flow["id"], flow["status"]) for flow in flows] == [("fit/a", "warning"), ("fit/gone", "error")]
    assert page.details("plan/a")["flows"][0]["log_tail"] == "line\n"


def test_without_scripts_the_page_names_what_needs_a_person(runs: Path) -> None:
    """A browser that runs no scripts gets a table of red, blocked and orange instances."""
    entries = [
        Entry(a_result(status, instance=status, message=f"it is {status}")) for status in ("success", "error")
    ]

    text = Page(render_html(report(runs, *entries))).text

    assert "fit/error it is error" in text
    assert "it is success" not in text


def test_only_a_running_page_refreshes_itself(runs: Path) -> None:
    """While the session runs there is a banner with the progress; the final page stands still."""
    entries = [Entry(a_result()), Entry(a_result("not_run", instance="b"))]

    running = Page(render_html(report(runs, *entries, finished=None)))
    final = Page(render_html(report(runs, *entries)))

    assert running.all("meta", **{"http-equiv": "refresh"})
    assert running.all("body", **{"data-refresh": "5"})
    assert not final.all("meta", **{"http-equiv": "refresh"})
    assert not final.all("body", **{"data-refresh": "5"})


@pytest.mark.parametrize(
    ("statuses", "finished", "colour"),
    [
        (["success", "error", "warning"], "x", "#b9222a"),
        (["success", "blocked"], "x", "#733a9f"),
        (["success", "warning"], None, "#a35c00"),
        (["success"], "x", "#17693a"),
        (["unchanged"], "x", "#17693a"),
        (["success"], None, "#555e6d"),
        (["not_run"], "x", "#555e6d"),
    ],
)
def test_icon_has_the_colour_of_the_worst(
    runs: Path, statuses: list[str], finished: str | None, colour: str
) -> None:
    """A tab among many says what came of its session; one that still runs is green for nobody."""
    entries = [Entry(a_result(status, instance=status)) for status in statuses]
    ((icon,),) = [Page(render_html(report(runs, *entries, finished=finished))).all("link", rel="icon")]
    assert quote(f'fill="{colour}"', safe="") in icon["href"]


def test_empty_report_says_what_to_do(runs: Path) -> None:
    """A page without instances is a page."""
    assert "pytest --ductaflow runs those" in Page(render_html(report(runs))).text


def test_page_is_made_of_the_twin_alone(runs: Path) -> None:
    """What was read back from the JSON file gives the same page."""
    data = report(
        runs, Entry(stored(runs, a_result("error", failure=Failure(None, None, None, "E", "", ""))))
    )

    assert render_html(data) == render_html(json.loads(json.dumps(data)))


def test_import_needs_no_jinja() -> None:
    """The process that asks for a run pays for the template engine only when it writes a page."""
    code = "import sys, ductaflow.report; print({'jinja2', 'markupsafe', 'pandas'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


# --- writing -----------------------------------------------------------------------------------------------


def test_page_and_twin_are_written_in_ascii(runs: Path) -> None:
    """Both files lie in the runs folder, which is made if need be; nothing else is left there."""
    data = report(runs, Entry(a_red("\u26a0 \ud800 \u4e2d")), Entry(a_result()))

    path = write_report(data, runs)

    assert runs / REPORT_HTML == path
    assert {REPORT_HTML, REPORT_JSON} == {file.name for file in runs.iterdir()}
    assert path.read_bytes().isascii()
    assert (runs / REPORT_JSON).read_bytes().isascii()
    assert data == json.loads((runs / REPORT_JSON).read_text())
    assert render_html(data) == path.read_text()


def test_report_that_cannot_be_written_is_one_error_and_keeps_the_old_one(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a read-only folder is named with the path; the old page stays readable."""
    write_report(report(runs, Entry(a_result())), runs)
    before = (runs / REPORT_HTML).read_bytes()
    full_disk(monkeypatch)

    with pytest.raises(DuctaflowError, match=rf"{REPORT_HTML}: the report cannot be written: No space left"):
        write_report(report(runs, Entry(a_result("error"))), runs)

    assert before == (runs / REPORT_HTML).read_bytes()
    assert {REPORT_HTML, REPORT_JSON} == {file.name for file in runs.iterdir()}


def test_runs_folder_that_is_a_file_is_one_error(runs: Path) -> None:
    """Nothing is written over what is not ours."""
    runs.write_text("mine")

    with pytest.raises(DuctaflowError, match=REPORT_HTML):
        write_report(report(runs), runs)
