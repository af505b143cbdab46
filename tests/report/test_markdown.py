"""The summary in Markdown: what it says first, that nothing in it is markup, and where it is cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import cast

import pytest

from ductaflow.common.errors import Failure, SourceLine
from ductaflow.comparison.difference import ValueDifference
from ductaflow.report import Entry, build_report
from ductaflow.report.markdown import MAX_CAUSES, Summary
from ductaflow.report.printed_at import PrintedAt
from ductaflow.report.schema import InstanceTwin
from ductaflow.store.result import Difference, Judged, LogWarning, Result, Status

HOSTILE = "</code></pre></summary></details>\n\n# <img src=x> | `a` [b](c) **d** @me #1 ::error::e\u202e"


def result(id: str, status: Status = Status.SUCCESS, message: str = "", **fields: object) -> Result:
    flow, _, name = id.partition("/")
    given = Result(flow, name, "flow", status, message=message, run_id="r", session_id="s")
    return replace(given, **fields)  # type: ignore[arg-type]


def failed(id: str, name: str = "KeyError", text: str = "'AFRICA'", **fields: object) -> Result:
    line: SourceLine = {"line": 20, "text": "table[name]"}
    failure = Failure("flows/demand.py", 20, 1, name, text, f"Traceback\n\n{name}: {text}", (line,))
    return result(id, Status.ERROR, text, cause="exception", failure=failure, **fields)


def warned(id: str, *texts: str) -> Result:
    lines = tuple(LogWarning(number, text) for number, text in enumerate(texts, start=1))
    message = f"{len(texts)} warning lines"
    return result(id, Status.WARNING, message, warnings=lines, warning_count=len(lines))


def summary(
    entries: Iterable[Entry | Result], root: Path, most: int = 1 << 20, expected: Iterable[str] = ()
) -> str:
    """The summary of a session with these results; a place links to `link:<file>:<line>`."""
    given = [Entry(one) if isinstance(one, Result) else one for one in entries]
    twin = build_report(given, session_id="s", started="", finished="", runs_dir=root / "runs")

    def link(path: Path, line: int | None) -> str:
        return f"link:{path.relative_to(root).as_posix()}:{line}"

    made = Summary(twin, root, link, expected=frozenset(expected))
    for instance in twin["instances"]:
        made.add(instance)
    return made.text(most)


class _Elements(HTMLParser):
    """The elements of a block of HTML, and whether each is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_headline_counts_what_is_red_first(tmp_path: Path) -> None:
    """Causes, not only failures; what other sessions left does not count."""
    entries = [
        Entry(result("demand/a")),
        Entry(failed("demand/b")),
        Entry(failed("demand/c")),
        Entry(warned("fit/a", "Warning: low")),
        Entry(result("fit/b", Status.BLOCKED, "waits")),
        Entry(failed("demand/old", session_id="earlier"), earlier=True),
    ]
    head = summary(entries, tmp_path).splitlines()[0]
    assert head == "### ductaflow: 2 red in 1 cause, 1 orange, 1 green, 1 blocked"
    assert summary([], tmp_path).splitlines()[0] == "### ductaflow: nothing run"


def test_a_cause_has_place_instances_shared_parameters_traceback_and_command(tmp_path: Path) -> None:
    """Failures of one cause are one block; its place leads to the line of the source."""
    entries = [
        Entry(failed(f"demand/{region}_{year}"), parameters={"region": region, "year": year})
        if region == "AFRICA"
        else Entry(result(f"demand/{region}_{year}"), parameters={"region": region, "year": year})
        for region in ("EU", "AFRICA")
        for year in range(3)
    ]
    (block,) = [line for line in summary(entries, tmp_path).splitlines() if "🔴" in line]
    assert "<b>3 ×</b> <code>KeyError: 'AFRICA'</code>" in block
    assert '<a href="link:flows/demand.py:20"><code>flows/demand.py:20</code></a>' in block
    assert "all with <code>region=AFRICA</code>" in block
    assert "<code>demand/AFRICA_0</code>, <code>demand/AFRICA_1</code>" in block
    assert "&gt;    20  table[name]&#10;&#10;Traceback&#10;&#10;KeyError: 'AFRICA'</pre>" in block
    assert "pytest --ductaflow -k AFRICA_0" in block


def test_an_expected_failure_is_no_cause(tmp_path: Path) -> None:
    """It is counted by its own name."""
    text = summary([failed("demand/a"), failed("demand/b")], tmp_path, expected=["demand/a"])
    assert text.splitlines()[0] == "### ductaflow: 1 red in 1 cause, 1 xfail"
    assert "demand/a" not in text


def test_a_good_run_whose_test_fails_is_told(tmp_path: Path) -> None:
    """Its status stays what it is, and why it fails is in a table."""
    text = summary([Entry(warned("fit/a", "Warning: low"), fails="1 new warning")], tmp_path)
    assert text.splitlines()[0] == "### ductaflow: 1 orange, 1 fails its test"
    assert "<code>1 new warning</code>" in text


def test_warnings_are_grouped_by_the_line_that_printed_them(tmp_path: Path) -> None:
    """Where that is not clear, by their text without what differs; the most frequent first."""
    source = tmp_path / "flows" / "fit.py"
    source.parent.mkdir()
    source.write_text('# %%\nprint(f"Warning: {n} gaps in {region}")\n')
    runs = [warned(f"fit/i{n}", f"Warning: {n} gaps in {'EU US'[n:]}", f"⚠ {n} m") for n in range(3)]
    rows = summary(runs, tmp_path).split("<tr>")[2:]
    place = '<a href="link:flows/fit.py:2"><code>flows/fit.py:2</code></a>'
    assert f"<td>3</td><td><code>Warning: … gaps in …</code></td><td>{place}</td>" in rows[0]
    assert "<td>3</td><td><code>⚠ … m</code></td><td></td>" in rows[1]
    assert len(rows) == 2


def test_what_is_red_for_its_numbers_has_expected_and_found(tmp_path: Path) -> None:
    """And the commands that look and accept, in place of a traceback."""
    moved = ValueDifference("rmse", "other", 0.3, 0.36, 0.2, "rtol 0.001")
    judged = Judged(3, 0, differences=(Difference(moved),), message="1 of 3 metrics differ")
    given = result("fit/a", Status.ERROR, judged.message, cause="expectation", judged=judged)
    (block,) = [line for line in summary([given], tmp_path).splitlines() if "🔴" in line]
    assert "<pre>rmse  expected 0.3  found 0.36  +20 %  rtol 0.001</pre>" in block
    assert "ductaflow diff fit/a@expected fit/a&#10;ductaflow accept fit/a" in block
    bound = ValueDifference("rmse", "bound", None, 0.36, None, "> max 0.3")
    judged = replace(judged, differences=(Difference(bound),))
    text = summary([replace(given, judged=judged)], tmp_path)
    assert "<pre>rmse  found 0.36 &gt; max 0.3</pre>" in text
    assert "ductaflow accept" not in text, "a bound is not accepted"


def test_metrics_that_moved_come_largest_change_first(tmp_path: Path) -> None:
    """By relative change; from nothing is far, and a word has no change."""
    twin = build_report(
        [Entry(result(f"fit/{name}", metrics={"m": now})) for name, now in _MOVED],
        session_id="s",
        started="",
        finished="",
        runs_dir=tmp_path / "runs",
    )
    made = Summary(twin, tmp_path)
    for instance, before in zip(twin["instances"], (1.0, 2.0, 0, "good", 4.0), strict=True):
        made.add(cast(InstanceTwin, {**instance, "metrics_before": {"m": before}}))
    table = made.text().partition("Metrics that moved since the last good run: 4")[2]
    assert ["from", "down", "up", "word"] == [
        name for name in sorted(dict(_MOVED), key=table.find) if f"fit/{name}<" in table
    ]
    assert "<code>2</code></td><td><code>1</code></td><td><code>-50 %</code>" in table


_MOVED = [("up", 1.1), ("down", 1.0), ("from", 1.0), ("word", "bad"), ("same", 4.0)]


def test_the_graph_is_by_flow_with_statuses(tmp_path: Path) -> None:
    """One box a flow, with its counts, in the colour of the worst."""
    entries = [
        Entry(failed("demand/a")),
        Entry(result("demand/b")),
        Entry(result("fit/a"), upstreams=["demand/a", "demand/b"]),
    ]
    text = summary(entries, tmp_path)
    assert 'n0["demand (2)<br/>1 red, 1 green"]' in text
    assert "n0 --> n1" in text
    assert "```mermaid" not in summary(entries[:2], tmp_path), "nothing reads from anything"


@pytest.mark.parametrize("most", [1 << 20, 6_000])
def test_nothing_in_it_is_markup(tmp_path: Path, most: int) -> None:
    """Each block is one line of balanced elements, whatever flows print and are called; cut ones too."""
    entries = [
        Entry(failed("demand/a", "Error", HOSTILE), parameters={HOSTILE: HOSTILE}),
        Entry(failed("demand/b", "Error", HOSTILE), parameters={HOSTILE: HOSTILE}),
        Entry(result("demand/c"), parameters={"x": 1}),
        Entry(result("demand/d"), parameters={"x": 1}),
        Entry(warned("demand/e", f"Warning: {HOSTILE}"), fails=HOSTILE),
        Entry(warned(f"fit/{HOSTILE}", f"Warning: {HOSTILE}")),
        Entry(result("fit/b", Status.BLOCKED, HOSTILE)),
    ]
    _, *blocks = [line for line in summary(entries, tmp_path, most).splitlines() if line]
    found = _Elements()
    for block in blocks:
        assert block.startswith("<")
        found.feed(block)
        assert [] == found.open
    assert found.names <= {"details", "summary", "b", "code", "p", "pre", "table", "tr", "th", "td", "a"}
    assert "</code></pre>" in found.text
    assert "\u202e" not in found.text


def test_what_does_not_fit_is_left_out_with_a_word(tmp_path: Path) -> None:
    """GitHub drops a summary that is too large whole, so this one ends before."""
    runs = [failed(f"demand/{kind}{n}", f"E{kind}", "x" * 200) for kind in "abcdef" for n in range(20)]
    text = summary(runs, tmp_path, 8_000)
    assert 5_000 < len(text.encode()) <= 8_000
    assert "left out" in text
    assert text.startswith("### ductaflow: 120 red in 6 causes")
    assert "" == summary(runs, tmp_path, 20)


def test_thousands_of_failures_stay_small(tmp_path: Path) -> None:
    """Causes and their instances are named up to a number, and how many more there are."""
    runs = [failed(f"demand/i{n}", f"E{n % 40}", "x" * 200) for n in range(2_000)]
    text = summary(runs, tmp_path)
    assert len(text.encode()) < 200_000
    assert MAX_CAUSES == text.count("🔴")
    assert "and 10 more causes" in text
    assert "and 30 more" in text


# --- where a line was printed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Warning: low", 2),
        ("Warning: 3 gaps in EU", 3),
        ("WARNING:root:3 values of EU are negative", 4),
        ("\x1b[33mWarning: 7 is odd\x1b[0m", 5),
        ("Warning: and more", 6),
        ("Warning: twice", None),
        ("⚠ 1", None),
        ("Warning: nothing like it", None),
        ("Warning: of the docstring", None),
    ],
)
def test_the_line_that_printed_a_warning(tmp_path: Path, text: str, line: int | None) -> None:
    """By what is fixed in the text of the source; none where two lines may have printed it."""
    source = tmp_path / "fit.py"
    source.write_text(
        '"""Warning: of the docstring"""; x = 1\n'
        'print("Warning: low")\n'
        'print(f"Warning: {x} gaps in {x}")\n'
        'logging.warning("%d values of %s are negative", 3, "EU")\n'
        'print("Warning: {} is odd".format(x))\n'
        'print("""\nWarning: many lines\nWarning: and more\n""")\n'
        'print("Warning: twice")\n'
        'print("Warning: twice")\n'
        'limits = {"low": 1}\n'
        'print("⚠ " + str(x))\n',
        encoding="utf-8",
    )
    found = PrintedAt(source).find(text)
    assert line == (found.line if found else None)


@pytest.mark.parametrize("name", ["gone.py", "broken.py", "fit.md"])
def test_a_source_that_is_no_python_has_no_lines(tmp_path: Path, name: str) -> None:
    """Nor one that is not there, or cannot be parsed; the warning is told without a place."""
    (tmp_path / "broken.py").write_text("print('Warning: low'\n")
    (tmp_path / "fit.md").write_text("print('Warning: low')\n")
    assert PrintedAt(tmp_path / name).find("Warning: low") is None
