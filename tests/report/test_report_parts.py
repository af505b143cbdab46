"""What a report is made of: logs, configs, figures, causes, history, merged shards."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support import a_result, page_data, stored

from ductaflow.common.errors import DuctaflowError, Failure
from ductaflow.common.paths import REPORT_JSON, RunFolder
from ductaflow.notebook.export import html_of
from ductaflow.report import Entry, LiveReport, build_report, merge_reports, render_html, write_report
from ductaflow.report.before import GoodRunsBefore
from ductaflow.report.cause_groups import find_causes
from ductaflow.report.configs import Configs, shown_value
from ductaflow.report.excerpts import LOG_END, MAX_PLACES, log_parts
from ductaflow.report.figures import MAX_GOOD, MAX_NOTEBOOK, FigureBudget, figures_of
from ductaflow.report.history import (
    MAX_RED,
    KeptNumbers,
    append_history,
    history_file,
    newly_red,
    read_history,
    session_line,
)
from ductaflow.report.page import BLOCK, Packer
from ductaflow.store.causes import MAX_TITLE, in_parts, pattern_of, title_of
from ductaflow.store.result import Result, Status

# --- logs --------------------------------------------------------------------------------------------------


def a_log(folder: Path, lines: list[str], end: str = "\n") -> Path:
    path = folder / "log.txt"
    path.write_bytes(end.join(lines).encode() + end.encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_warning_between_the_ends_is_shown_with_the_lines_around(tmp_path: Path, end: str) -> None:
    """Two lines before, two after, under the number that an editor shows."""
    lines = [f"line {number}" for number in range(1, 301)]

    parts = log_parts(a_log(tmp_path, lines, end), LOG_END, [100])

    assert [{"line": 98, "text": "\n".join(lines[97:102])}] == parts["log_middle"]
    assert parts["log_tail"].splitlines()[0] == lines[parts["log_tail_line"] - 1]


def test_close_warnings_share_a_place_and_many_are_cut(tmp_path: Path) -> None:
    """Places that touch are one; there are so many of them and no more."""
    lines = [f"line {number}" for number in range(1, 2001)]
    log = a_log(tmp_path, lines)

    together = log_parts(log, LOG_END, [100, 103, 105])["log_middle"]
    many = log_parts(log, LOG_END, range(20, 1900, 10))["log_middle"]

    assert [(98, 10)] == [(place["line"], place["text"].count("\n") + 1) for place in together]
    assert len(many) == MAX_PLACES


def test_warning_in_the_ends_is_not_shown_twice(tmp_path: Path) -> None:
    """Head and tail have it already, and places do not reach into them."""
    lines = [f"line {number}" for number in range(1, 301)]

    parts = log_parts(a_log(tmp_path, lines), LOG_END, [3, 9, 299])

    assert [{"line": 9, "text": "line 9\nline 10\nline 11"}] == parts["log_middle"]


def test_lines_of_a_huge_log_are_not_counted(tmp_path: Path) -> None:
    """The number of the tail's first line is unknown then, and no number is made up."""
    log = a_log(tmp_path, ["x" * 99] * 20_000)

    parts = log_parts(log, LOG_END, [50, 15_000])

    assert (parts["log_tail_line"], [place["line"] for place in parts["log_middle"]]) == (None, [48])


def test_short_log_is_whole(tmp_path: Path) -> None:
    """Without a head there is nothing between."""
    parts = log_parts(a_log(tmp_path, ["a", "b"]), LOG_END, [1])

    assert (parts["log_tail_line"], parts["log_tail"], parts["log_middle"]) == (1, "a\nb\n", [])


# --- configs -----------------------------------------------------------------------------------------------


def configs_of(root: Path, result: Result, *, is_stored: bool = True) -> dict[str, Any]:
    folder = RunFolder(root / "runs" / result.flow / result.instance, result.flow)
    before = GoodRunsBefore(root / "runs").of(result, folder, nested=False)
    return Configs(root / "config").of(result, folder, None, before, stored=is_stored)


def test_config_is_flat_beside_its_base(tmp_path: Path) -> None:
    """Nested keys are paths, secrets are masked, what is ours is left out; both bases are merged."""
    (tmp_path / "config/flows").mkdir(parents=True)
    (tmp_path / "config/base.json").write_text('{"unit": "K", "db": {"password": "x", "port": 1}}')
    (tmp_path / "config/flows/fit.json").write_text('{"db": {"port": 2}, "_run": {"timeout": 3}}')
    result = stored(
        tmp_path / "runs", a_result(), unit="C", db={"password": "y", "port": 2}, _project_root="/p"
    )

    data = configs_of(tmp_path, result)

    assert data["config"] == {"unit": "C", "db.password": "***", "db.port": "2"}
    assert data["base_config"] == {"unit": "K", "db.password": "***", "db.port": "2"}
    assert (data["good_config"], data["config_left_out"]) == (None, 0)


def test_placeholder_that_follows_is_no_difference(tmp_path: Path) -> None:
    """A base's `{region}` is filled as the instance has it."""
    (tmp_path / "config/flows").mkdir(parents=True)
    (tmp_path / "config/flows/fit.json").write_text(
        '{"file": "runs/{region}/{instance}.csv", "region": "EU"}'
    )
    result = stored(tmp_path / "runs", a_result(), file="runs/US/a.csv", region="US")

    data = configs_of(tmp_path, result)

    assert data["base_config"] == {"file": "runs/US/a.csv", "region": "EU"}


def test_last_good_config_is_what_the_run_before_left(tmp_path: Path) -> None:
    """It is read from where the last good outputs are kept, with the time at which that run ended."""
    result = stored(tmp_path / "runs", a_result("error"), degree=3)
    stored(tmp_path / "runs/.ductaflow/previous", a_result(finished="2030-01-01T00:00:00Z"), degree=1)

    data = configs_of(tmp_path, result)

    assert (data["good_config"], data["good_finished"]) == ({"degree": "1"}, "2030-01-01T00:00:00Z")


def test_flow_of_a_build_has_no_base(tmp_path: Path) -> None:
    """Its build gives it its whole config."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/base.json").write_text('{"unit": "K"}')
    result = stored(tmp_path / "runs", a_result(), unit="C")

    assert configs_of(tmp_path, result, is_stored=False)["base_config"] is None


@pytest.mark.parametrize("content", [b"{half", b"[]", b"\xff", b'{"a": ' + b"[" * 100_000])
def test_unreadable_config_is_none(tmp_path: Path, content: bytes) -> None:
    """The page shows what it can of the run."""
    result = stored(tmp_path / "runs", a_result())
    RunFolder(result.folder or tmp_path, "fit").config.write_bytes(content)

    assert configs_of(tmp_path, result)["config"] is None


def test_many_keys_are_counted(tmp_path: Path) -> None:
    """A config of thousands of keys does not fill the page."""
    result = stored(tmp_path / "runs", a_result(), **{f"key{number}": number for number in range(500)})

    data = configs_of(tmp_path, result)

    assert (len(data["config"]), data["config_left_out"]) == (120, 380)


@pytest.mark.parametrize(
    ("value", "text"),
    [("EU", "EU"), ("8", '"8"'), (8, "8"), (0.5, "0.5"), (True, "true"), ("true", '"true"'), (None, "null"),
     ("", '""'), ([1, "a"], '[1, "a"]'),
     ("x" * 400, "x" * 300 + " ... (100 characters left out)"), ("2030-01-01", "2030-01-01")],
)  # fmt: skip
def test_values_are_told_apart(value: Any, text: str) -> None:
    """A string that reads like a number is quoted; other strings are as they are."""
    assert text == shown_value(value)


# --- figures -----------------------------------------------------------------------------------------------


def a_notebook(folder: Path, *images: Any, kind: str = "image/png") -> Path:
    outputs = [
        {"output_type": "display_data", "data": {kind: image, "text/plain": "<Figure>"}} for image in images
    ]
    parameters = {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "outputs": []}
    path = folder / "fit.ipynb"
    cells = [{"cell_type": "markdown"}, parameters, {"cell_type": "code", "metadata": {}, "outputs": outputs}]
    path.write_text(json.dumps({"cells": cells}))
    return path


PNG = base64.b64encode(b"\x89PNG" + b"0" * 50).decode()


def test_figures_are_numbered_as_cells_are(tmp_path: Path) -> None:
    """Lines of base64 are joined; the cell with the injected parameters does not count."""
    notebook = a_notebook(tmp_path, [PNG[:20] + "\n", PNG[20:]])

    found = figures_of(notebook, FigureBudget(), is_good=True)

    assert [{"cell": 1, "type": "image/png", "data": PNG, "text": ""}] == found["figures"]
    assert (0, []) == (found["figures_left_out"], found["interactive"])


@pytest.mark.parametrize("image", ["javascript:alert(1)", '"><script>', 7, None, {"a": 1}])
def test_what_is_no_base64_is_no_figure(tmp_path: Path, image: Any) -> None:
    """A flow can put anything into its notebook."""
    assert [] == figures_of(a_notebook(tmp_path, image), FigureBudget(), is_good=True)["figures"]


@pytest.mark.parametrize(
    "content", [b"", b"{half image/png", b'{"cells": 3, "a": "image/png"}', b"\xffimage/png"]
)
def test_broken_notebook_has_no_figures(tmp_path: Path, content: bytes) -> None:
    """A killed run leaves half a notebook; one that never began leaves none."""
    path = tmp_path / "fit.ipynb"
    path.write_bytes(content)

    assert [] == figures_of(path, FigureBudget(), is_good=True)["figures"]
    assert [] == figures_of(tmp_path / "none.ipynb", FigureBudget(), is_good=True)["figures"]


PLOTLY = "application/vnd.plotly.v1+json"
ALTAIR_HTML = "<div id=altair-viz></div><script>vegaEmbed('#altair-viz', {})</script>"


@pytest.mark.parametrize(
    ("bundle", "library"),
    [
        ({PLOTLY: {"data": []}, "text/html": "<b>x</b>"}, "Plotly"),
        ({"application/vnd.vegalite.v5+json": {}}, "Vega-Altair"),
        ({"text/html": ALTAIR_HTML}, "Vega-Altair"),
        ({"application/vnd.bokehjs_exec.v0+json": "", "application/javascript": ""}, "Bokeh"),
        ({"text/html": "<p>how to call vegaEmbed</p>"}, ""),
        ({"application/vnd.bokehjs_load.v0+json": ""}, ""),
    ],
)
def test_interactive_figures_are_named_with_their_place(
    tmp_path: Path, bundle: dict[str, Any], library: str
) -> None:
    """By MIME type, or by what the HTML calls; a library that is only loaded shows nothing."""
    cell = {"cell_type": "code", "id": "b1", "outputs": [{"output_type": "display_data", "data": bundle}]}
    path = tmp_path / "fit.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown"}, cell]}))

    found = figures_of(path, FigureBudget(), is_good=True)["interactive"]

    expected = {"cell": 1, "library": library, "anchor": "cell-id=b1", "picture": False}
    assert ([expected] if library else []) == found


def test_an_interactive_figure_is_shown_as_a_picture_where_it_has_one(tmp_path: Path) -> None:
    """Also as SVG; of a cell that is not in the page of the notebook no place is named."""
    svg = {"image/svg+xml": ["<svg>", "</svg>"], PLOTLY: {}}
    cell = {"cell_type": "code", "id": "b1", "metadata": {"tags": ["remove-cell"]}}
    path = tmp_path / "fit.ipynb"
    path.write_text(json.dumps({"cells": [cell | {"outputs": [{"output_type": "x", "data": svg}]}]}))

    found = figures_of(path, FigureBudget(), is_good=True)

    (figure,), (interactive,) = found["figures"], found["interactive"]
    assert ("image/svg+xml", b"<svg></svg>") == (figure["type"], base64.b64decode(figure["data"]))
    assert ("", True) == (interactive["anchor"], interactive["picture"])


def test_a_notebook_that_is_not_searched_is_said(tmp_path: Path) -> None:
    """Figures are never left out in silence."""
    path = tmp_path / "fit.ipynb"
    path.write_bytes(b" " * (MAX_NOTEBOOK + 1))
    assert figures_of(path, FigureBudget(), is_good=True)["notebook_too_large"]


def test_the_place_of_a_cell_is_in_the_page_of_its_notebook(tmp_path: Path) -> None:
    """The page of a notebook has the id that links lead to."""
    cell = nbformat.v4.new_code_cell("1", id="b1-x")
    page = html_of(nbformat.v4.new_notebook(cells=[cell]), "fit")
    assert 'id="cell-id=b1-x"' in page


def test_green_runs_leave_room_for_red_ones(tmp_path: Path) -> None:
    """What is not in the report is counted."""
    budget = FigureBudget()
    assert budget.take(MAX_GOOD, is_good=True)
    notebook = a_notebook(tmp_path, PNG)

    green, red = (figures_of(notebook, budget, is_good=is_good) for is_good in (True, False))

    assert (len(green["figures"]), green["figures_left_out"], len(red["figures"])) == (0, 1, 1)


# --- causes ------------------------------------------------------------------------------------------------


def instance(name: str, status: str, message: str = "", **parameters: str) -> dict[str, Any]:
    """As much of an instance of the twin as causes look at."""
    failure = (
        {"ename": "ValueError", "evalue": message, "file": "flows/fit.py", "line": 7} if message else None
    )
    return {
        "id": f"fit/{name}", "flow": "fit", "instance": name, "status": status, "message": message,
        "cause": "exception" if failure else None, "failure": failure, "flows": [], "upstreams": [],
        "config": parameters, "parameters": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("row 17 of 2.5e-3", "row … of …"),
        ("<Thing at 0x7f00>", "<Thing at …>"),
        ("no file /tmp/x/clean.csv here", "no file … here"),
        ("scenario_A is odd", "… is odd"),
        ("first\nsecond", "first"),
        ("", ""),
    ],
)
def test_message_without_what_differs(message: str, text: str) -> None:
    """Numbers, addresses, paths and the instance's name do not make two causes of one."""
    assert text == pattern_of(in_parts(message, ["scenario_A"]))


@pytest.mark.parametrize(
    ("messages", "title"),
    [
        (["5 cells, but 7 columns"], "5 cells, but 7 columns"),
        (["5 cells, but 7 columns", "5 cells, but 8 columns"], "5 cells, but … columns"),
        (["no file runs/fit/one/a.csv", "no file runs/fit/two/a.csv"], "no file …"),
        (["one is odd", "two is odd"], "… is odd"),
        (["row 1 " + "x" * 1000 + "a", "row 1 " + "x" * 1000 + "b"], "row 1 " + "x" * (MAX_TITLE - 7) + "…"),
        (["", ""], ""),
    ],
)
def test_title_of_a_cause_keeps_what_its_messages_have_in_common(messages: list[str], title: str) -> None:
    """That of one instance is its message; of several, only what differs in them is left out."""
    said = [in_parts(message, [name]) for message, name in zip(messages, ["one", "two"], strict=False)]

    assert title == title_of(said)
    assert 1 == len({pattern_of(parts) for parts in said})


def test_title_and_message_of_a_huge_exception_are_short(tmp_path: Path) -> None:
    """1 MB, of one line or of many, makes neither the twin nor the page large."""
    for number, text in enumerate(["x" * 1_000_000, "many words of it\n" * 60_000]):
        failure = Failure("flows/fit.py", 7, 1, "ValueError", text, text)
        red = a_result("error", instance=f"i{number}", message=text, failure=failure, cause="exception")
        data = build_report(
            [Entry(red)], session_id="s", started="", finished="", runs_dir=tmp_path / str(number)
        )
        (cause,) = data["causes"]
        assert len(cause["title"]) <= MAX_TITLE
        assert len(data["instances"][0]["message"]) < 21_000
        assert len(page_data(render_html(data)).rows[0]["message"]) <= 200


def scenarios(*rows: tuple[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Instances of one flow: what is wrong with each, if anything is, and its parameters."""
    return [
        instance(f"i{number}", "error" if message else "success", message, **parameters)
        for number, (message, parameters) in enumerate(rows)
    ]


def test_smallest_set_of_parameters_that_no_good_one_has() -> None:
    """One parameter if one will do, else two; nothing if good ones have all of them too."""
    parts = scenarios(
        ("", {"region": "EU", "degree": "1"}),
        ("", {"region": "EU", "degree": "2"}),
        ("", {"region": "US", "degree": "1"}),
        ("boom 1", {"region": "US", "degree": "2"}),
        ("boom 2", {"region": "US", "degree": "2"}),
    )
    assert [["degree", "2"], ["region", "US"]] == sorted(find_causes(parts)[0]["parameters"])

    parts[2] = instance("i2", "error", "boom 3", region="US", degree="1")
    (cause,) = find_causes(parts)
    assert [["region", "US"]] == cause["parameters"]
    assert ([], 0) == (cause["alternatives"], cause["alternatives_left_out"])

    parts.append(instance("i9", "success", region="US", degree="2"))
    assert [] == find_causes(parts)[0]["parameters"]


@pytest.mark.parametrize("order", [1, -1])
def test_sets_that_tell_apart_equally_are_all_named(order: int) -> None:
    """None is preferred by the order of the instances; one with a path counts where there is no other."""
    bad = {"degree": "4", "horizon": "2050", "file": "runs/prep/x"}
    good = {"degree": "1", "horizon": "2030", "file": "runs/prep/y"}
    parts = scenarios(("boom", bad), ("boom", bad), ("", good), ("", good))

    (cause,) = find_causes(parts[::order])

    assert ([["degree", "4"]], [[["horizon", "2050"]]]) == (cause["parameters"], cause["alternatives"])

    many = {f"p{number}": "bad" for number in range(5)}
    (cause,) = find_causes(scenarios(("boom", many), ("boom", many), ("", good), ("", good)))
    assert (2, 2) == (len(cause["alternatives"]), cause["alternatives_left_out"])


@pytest.mark.parametrize(("red", "good"), [(1, 5), (5, 1), (2, 0)])
def test_parameters_of_too_few_instances_say_nothing(red: int, good: int) -> None:
    """One instance differs from others by almost everything."""
    rows = [("boom", {"degree": "4"})] * red + [("", {"degree": "1"})] * good

    (cause,) = find_causes([*scenarios(*rows), instance("x", "success", degree="1") | {"flow": "other"}])

    assert ([], []) == (cause["parameters"], cause["alternatives"])


def test_red_build_has_the_parameters_of_its_flow() -> None:
    """Its own config names no region, the flow's does: what the others share is not lost for it."""
    parts = scenarios(("boom", {"region": "US"}), ("boom", {"region": "US"}), ("", {"region": "EU"}))
    flow = instance("inner", "error", "boom", region="US")
    build = instance("world", "error", "FlowFailed", regions="EU+US") | {"flows": [flow], "id": "plan/world"}
    west = instance("west", "success", regions="EU") | {"id": "plan/west"}

    (cause,) = find_causes([*parts, build, west])

    assert [["region", "US"]] == cause["parameters"]
    assert 3 == len(cause["instances"])


def test_red_build_has_the_cause_of_its_flow() -> None:
    """At any depth; so it is grouped with what fails alike."""
    flow = instance("inner", "error", "boom 3")
    build = instance("b", "error", "FlowFailed") | {"flows": [instance("x", "success"), flow], "id": "plan/b"}

    (cause,) = find_causes([build, instance("i", "error", "boom 4")])

    assert (cause["title"], cause["instances"]) == ("ValueError: boom …", ["plan/b", "fit/i"])


def test_cause_counts_what_it_blocks() -> None:
    """Also what waits for something that waits."""
    red = instance("red", "error", "boom")
    near = instance("near", "blocked") | {"upstreams": ["fit/red"]}
    far = instance("far", "blocked") | {"upstreams": ["fit/near", "fit/gone"]}

    assert 2 == find_causes([red, near, far])[0]["blocks"]


# --- history -----------------------------------------------------------------------------------------------


def test_session_is_one_line_of_the_history(tmp_path: Path) -> None:
    """Only ever added to; the page of the session has its own line too."""
    runs = tmp_path / "runs"
    for number in (1, 2):
        live = LiveReport(runs, session_id=f"s{number}")
        live.update(Entry(a_result("error" if number == 2 else "success")))
        live.close()
        live.close()

    lines = [json.loads(line) for line in history_file(runs).read_text().splitlines()]
    twin = json.loads((runs / "conductor_status_report.json").read_text())
    assert [("s1", []), ("s2", ["fit/a"])] == [(line["session_id"], line["red"]) for line in lines]
    assert ["s1", "s2"] == [line["session_id"] for line in twin["history"]]
    assert (lines[1]["summary"]["error"], lines[1]["summary"]["success"]) == (1, 0)


def session(runs: Path, name: str, **statuses: str) -> dict[str, Any]:
    """A session that had these results; what its twin says of it as a whole."""
    live = LiveReport(runs, session_id=name)
    for instance_name, status in statuses.items():
        live.update(Entry(a_result(status, instance=instance_name)))
    live.close()
    twin: dict[str, Any] = json.loads((runs / "conductor_status_report.json").read_text())
    return twin


def test_new_is_what_was_not_red_in_the_last_session_that_had_a_result_of_it(tmp_path: Path) -> None:
    """A session that did not select it, skipped it or had it blocked says nothing of it."""
    assert [] == session(tmp_path, "s1", a="error", b="error", c="success")["new"]
    partial = session(tmp_path, "s2", a="blocked", c="error")
    assert ["fit/c"] == partial["new"]
    assert (["fit/a", "fit/b", "fit/c"], ["fit/a", "fit/b"]) == (
        partial["history"][-1]["red"],
        partial["history"][-1]["carried"],
    )
    assert ["fit/d"] == session(tmp_path, "s3", a="error", b="success", c="error", d="error")["new"]
    assert ["fit/b"] == session(tmp_path, "s4", b="error")["new"]


def test_an_earlier_result_is_never_new(tmp_path: Path) -> None:
    """It is red on the page of a session that did not run it."""
    session(tmp_path, "s1", a="success")
    stored(tmp_path, a_result("error", instance="old"))

    data = session(tmp_path, "s2", a="error")

    assert ["fit/a"] == data["new"]
    assert ["fit/old"] == [each["id"] for each in data["instances"] if each["earlier"]]


def test_of_red_ids_that_a_line_has_no_room_for_nothing_is_claimed() -> None:
    """A line stays a few kB long, and what it left out is not taken for green."""
    head = {"session_id": "s", "started": "", "finished": "", "summary": {}}
    ids = [f"fit/{number:04}" for number in range(MAX_RED + 50)]
    line = session_line(head, 1.0, dict.fromkeys(ids, Status.ERROR), [])

    assert (MAX_RED, 50) == (len(line["red"]), line["red_left_out"])
    assert [] == newly_red(ids, "t", [line])
    assert ["fit/0000a"] == newly_red(["fit/0000a"], "t", [line])


def test_session_that_touched_nothing_is_no_line(tmp_path: Path) -> None:
    """Looking is no session."""
    LiveReport(tmp_path, session_id="s1").close()

    assert not history_file(tmp_path).exists()


def test_numbers_of_earlier_sessions(tmp_path: Path) -> None:
    """A session keeps what its own runs found, 40 numbers of an instance; the last one counts."""
    many = {"word": "x", "yes": True, "gap": None, **{f"m{n}": n for n in range(50)}}
    for session, value in (("s1", 1.5), ("s2", 2), ("s3", 3)):
        live = LiveReport(tmp_path, session_id=session)
        result = a_result(session_id=session, run_id=session, metrics={"rmse": value, **many})
        live.update(Entry(result))
        live.update(Entry(replace(result, instance="earlier", session_id="s0")))
        live.close()

    kept = KeptNumbers(tmp_path)
    found = kept.before("fit/a", "s3")
    assert found
    assert ("s2", {"rmse": 2, **{f"m{n}": n for n in range(39)}}) == (found.session_id, found.numbers)
    assert kept.before("fit/a", "s4") != found
    assert kept.before("fit/earlier", "s3") is None
    (tmp_path / ".ductaflow" / "metrics.jsonl").write_text('{"session_id": 1}\n[')
    assert KeptNumbers(tmp_path).before("fit/a", "s3") is None
    (tmp_path / ".ductaflow" / "metrics.jsonl").unlink()
    (tmp_path / ".ductaflow" / "metrics.jsonl").mkdir()
    assert KeptNumbers(tmp_path).before("fit/a", "s3") is None


def test_half_a_line_costs_only_itself(tmp_path: Path) -> None:
    """After a power cut the next session's line stands on its own."""
    line = {"session_id": "s", "started": "a", "finished": "b", "seconds": 1, "summary": {}, "red": []}
    append_history(tmp_path, line)
    with history_file(tmp_path).open("ab") as file:
        file.write(b'{"session_id": "ha')
    append_history(tmp_path, line | {"session_id": "t"})
    append_history(tmp_path, {"summary": {"error": "many"}})

    sessions, faults = read_history(tmp_path)
    assert ["s", "t"] == [record["session_id"] for record in sessions]
    assert [f"{history_file(tmp_path)}:2: ", f"{history_file(tmp_path)}:4: "] == [
        fault[: len(str(history_file(tmp_path))) + 4] for fault in faults
    ]


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="needs a folder that this user may not write"
)
def test_history_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    """The report is there all the same."""
    (tmp_path / ".ductaflow").mkdir(mode=0o500)
    live = LiveReport(tmp_path, session_id="s1")
    live.update(Entry(a_result()))

    with pytest.raises(DuctaflowError, match=r"history.jsonl: the session cannot be noted"):
        live.close()
    assert (tmp_path / "conductor_status_report.html").exists()


# --- packing -----------------------------------------------------------------------------------------------


def test_full_blocks_do_not_change() -> None:
    """A page that is written again packs each text once."""
    packer = Packer()
    texts = [json.dumps("x" * (BLOCK // 3) + str(number)) for number in range(7)]
    places = [packer.add(text) for text in texts[:4]]
    first = list(packer.blocks())
    places += [packer.add(text) for text in texts[4:]]

    assert first[0] == next(iter(packer.blocks()))
    assert [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)] == places


# --- merged shards -----------------------------------------------------------------------------------------


def a_shard(folder: Path, *entries: Entry, finished: str | None = "2030-01-01T01:00:00Z") -> Path:
    runs = folder / "runs"
    on_disk = [replace(entry, result=stored(runs, entry.result, x=1)) for entry in entries]
    data = build_report(
        on_disk,
        session_id=folder.name,
        started="2030-01-01T00:00:00Z",
        finished=finished,
        runs_dir=runs,
        project_root=folder.parent / "climate",
    )
    write_report(data, runs)
    return runs / "conductor_status_report.json"


def test_shards_become_one_report(tmp_path: Path) -> None:
    """Every instance once: as it ran, then the worst; links lead to the shards' files."""
    one = a_shard(
        tmp_path / "one",
        Entry(a_result(instance="both"), worker="gw0"),
        Entry(a_result("error", instance="old"), earlier=True),
    )
    two = a_shard(
        tmp_path / "two",
        Entry(a_result("error", instance="both")),
        Entry(a_result(instance="old")),
        finished=None,
    )

    data, _ = merge_reports([one, two], tmp_path / "merged")

    found = {each["id"]: each for each in data["instances"]}
    assert {"fit/both": "error", "fit/old": "success"} == {id: each["status"] for id, each in found.items()}
    assert (data["summary"]["error"], data["summary"]["success"]) == (1, 1)
    assert found["fit/both"]["links"]["config"] == "../two/runs/fit/both/fit_config.json"
    assert (tmp_path / "merged" / found["fit/old"]["folder"]).resolve().is_dir()
    assert found["fit/both"]["worker"] == "2:main"
    assert (data["project"], data["finished"]) == ("climate", "2030-01-01T01:00:00Z")
    assert [f"The session of {two} did not end: what it had not run yet is shown as not run."] == data[
        "notes"
    ]
    assert render_html(data)


def shard(folder: Path, number: int, *, of: int = 3, selection: str | None = "x", **head: Any) -> Path:
    """The twin of a shard that ran one instance, named by its number."""
    file = a_shard(folder, Entry(a_result(instance=f"i{number}")))
    not_empty = head.pop("not_empty", None)
    data = json.loads(file.read_text()) | {
        "shard": {"number": number, "of": of, "not_empty": not_empty, "selection": selection},
        **head,
    }
    file.write_text(json.dumps(data))
    return file


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """The report of the others is there all the same, and says that it is not whole."""
    files = [shard(tmp_path / name, number) for number, name in ((1, "a"), (3, "c"))]

    merged = merge_reports(files, tmp_path / "merged")

    assert not merged.is_whole
    assert ["fit/i1", "fit/i3"] == [each["id"] for each in merged.twin["instances"]]
    assert [
        f"Shard 2/3 is missing, and so are its instances. It belongs to {files[0]}, {files[1]}."
    ] == merged.twin["notes"]
    assert merge_reports([*files, shard(tmp_path / "b", 2)], tmp_path / "merged").is_whole


def test_a_shard_without_instances_is_not_missed(tmp_path: Path) -> None:
    """It writes no report; the others know that it has nothing to run."""
    files = [shard(tmp_path / name, number, not_empty=[1, 2]) for number, name in ((1, "a"), (2, "b"))]

    merged = merge_reports(files, tmp_path / "merged")

    assert (True, []) == (merged.is_whole, merged.twin["notes"])


def test_shards_of_two_selections_are_not_one_whole(tmp_path: Path) -> None:
    """1/2 of one and 2/2 of another: each lacks a shard. One that was killed may not know its selection."""
    one, two = shard(tmp_path / "a", 1, of=2), shard(tmp_path / "b", 2, of=2, selection="y")
    assert [f"Shard 2/2 is missing, and so are its instances. It belongs to {one}.",
            f"Shard 1/2 is missing, and so are its instances. It belongs to {two}."] == merge_reports(
        [one, two], tmp_path
    ).twin["notes"]  # fmt: skip

    killed = shard(tmp_path / "c", 2, of=2, selection=None, finished=None)
    merged = merge_reports([one, killed], tmp_path)
    assert (False, 1) == (merged.is_whole, len(merged.twin["notes"]))
    assert "did not end" in merged.twin["notes"][0]


def test_a_shard_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    """The same file, or that of a second attempt: the latest counts."""
    first = shard(tmp_path / "a", 1, of=1)
    again = shard(tmp_path / "again", 1, of=1, started="2030-01-02T00:00:00Z")

    merged = merge_reports([first, first, again], tmp_path)

    assert ("again", True) == (merged.twin["session_id"], merged.is_whole)
    assert [f"Shard 1/1 is given more than once: {again} counts, not {first}, {first}."] == merged.twin[
        "notes"
    ]


def test_reports_of_two_projects_are_not_merged(tmp_path: Path) -> None:
    """It is an error with both names; a checkout that is called otherwise is no other project."""
    one, two = shard(tmp_path / "a", 1, of=2), shard(tmp_path / "b", 2, of=2, project="other")
    assert merge_reports([one, two], tmp_path).is_whole

    other = shard(tmp_path / "c", 2, of=2, project="other", selection="y")
    with pytest.raises(DuctaflowError, match=r"is of the project other, .* of climate"):
        merge_reports([one, other], tmp_path)


@pytest.mark.parametrize("content", ["{half", "[]", '{"schema": 9}', '{"schema": 1, "instances": [{}]}'])
def test_file_that_is_no_report_is_named(tmp_path: Path, content: str) -> None:
    """A wrong artifact is one error with the file's name."""
    file = tmp_path / "shard.json"
    file.write_text(content)

    with pytest.raises(DuctaflowError, match=r"shard\.json"):
        merge_reports([file], tmp_path)


# --- metrics -----------------------------------------------------------------------------------------------


def test_the_twin_has_the_first_metrics(tmp_path: Path) -> None:
    """A hundred of them, and how many more there are; a merged twin keeps them."""
    metrics = {"rmse": 0.25, "zone": None, **{f"m{number}": number for number in range(118)}}
    result = stored(tmp_path, a_result("success", metrics=metrics, run_status=Status.SUCCESS))
    twin = build_report([Entry(result)], session_id="s", started="", finished="2030", runs_dir=tmp_path)
    write_report(twin, tmp_path)
    merged = merge_reports([tmp_path / REPORT_JSON], tmp_path / "merged").twin
    for (instance,) in (twin["instances"], merged["instances"]):
        assert (100, 20) == (len(instance["metrics"]), instance["metrics_left_out"])
        assert (0.25, None) == (instance["metrics"]["rmse"], instance["metrics"]["zone"])
        assert "success" == instance["run_status"]
    assert 0.25 == page_data(render_html(twin)).details("fit/a")["metrics"]["rmse"]
