"""What a report reads from files where anyone can write costs that entry or that file, and is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import TinyProject

from ductaflow.cli.app import main
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import REPORT_JSON
from ductaflow.project.settings import Project
from ductaflow.report import Entry, LiveReport, build_report, merge_reports, render_html, write_report
from ductaflow.report.earlier import rebuild_report
from ductaflow.report.history import append_history, history_file, read_history
from ductaflow.store.result import Result, Status

#: What may stand where a value was: a field that is gone, of another type, or that no reader can hold.
GONE = object()
DEEP = "[" * 100_000 + "]" * 100_000


def text_of(record: dict[str, Any], field: str, value: object) -> str:
    """A record as JSON, with something else in one of its fields; a string is put in as it is."""
    if value is GONE:
        return json.dumps({key: each for key, each in record.items() if key != field})
    mark = "\u2603"
    return json.dumps({**record, field: mark}, ensure_ascii=False).replace(f'"{mark}"', str(value))


LINE: Any = {
    "schema": 1,
    "session_id": "s",
    "started": "2030-01-01T00:00:00Z",
    "finished": "2030-01-01T00:01:00Z",
    "seconds": 60.0,
    "summary": {"success": 1},
    "red": [],
    "red_left_out": 0,
    "carried": [],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", "1e999"),
        ("seconds", "Infinity"),
        ("seconds", "NaN"),
        ("seconds", '"long"'),
        ("seconds", "null"),
        ("seconds", DEEP),
        ("summary", "3"),
        ("summary", '{"success": "many"}'),
        ("summary", '{"success": 1e999}'),
        ("red", '"fit/a"'),
        ("red", "[1]"),
        ("carried", "{}"),
        ("red_left_out", '"2"'),
        ("session_id", "7"),
        ("session_id", '"\udcff"'),
        ("started", GONE),
        ("extra", "1e999"),
        ("extra", DEEP),
    ],
)
def test_a_damaged_line_of_the_history(tmp_path: Path, field: str, value: object) -> None:
    """The other sessions stay, the report is written, and its notes name file and line."""
    append_history(tmp_path, LINE)
    with history_file(tmp_path).open("ab") as file:
        file.write(text_of(LINE, field, value).encode("utf-8", "surrogateescape") + b"\n")
    append_history(tmp_path, {**LINE, "session_id": "t"})

    sessions, faults = read_history(tmp_path)
    assert ("s", "t") == (sessions[0]["session_id"], sessions[-1]["session_id"])
    assert all(fault.startswith(f"{history_file(tmp_path)}:2: ") for fault in faults)
    assert len(faults) == 3 - len(sessions)

    live = LiveReport(tmp_path, session_id="now")
    live.update(Entry(Result("fit", "a", "flow", Status.SUCCESS)))
    assert live.close().exists()
    assert faults == json.loads((tmp_path / REPORT_JSON).read_bytes())["notes"]


def test_a_history_that_is_no_file(tmp_path: Path) -> None:
    """A folder in its place is no history."""
    history_file(tmp_path).mkdir(parents=True)
    assert ([], []) == read_history(tmp_path)


# --- shards ------------------------------------------------------------------------------------------------


def twin(folder: Path, *names: str) -> Path:
    runs = folder / "runs"
    entries = [
        Entry(Result("fit", name, "flow", Status.SUCCESS, run_id="r", seconds=1.0), f"n::{name}")
        for name in names
    ]
    data = build_report(
        entries,
        session_id=folder.name,
        started="2030-01-01T00:00:00Z",
        finished="2030-01-01T01:00:00Z",
        runs_dir=runs,
    )
    write_report(data, runs)
    return runs / REPORT_JSON


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodeid", GONE),
        ("id", GONE),
        ("links", "3"),
        ("links", '{"log": 3}'),
        ("parameters", '"x"'),
        ("upstreams", '"fit/a"'),
        ("status", '"weird"'),
        ("seconds", '"1"'),
        ("flows", "[3]"),
        ("flows", '[{"id": "x"}]'),
        ("failure", '{"ename": 3}'),
        ("config", '{"a": {}}'),
        ("folder", "3"),
        ("warnings", '["x"]'),
        ("figures", '[{"data": 3}]'),
    ],
)
def test_a_damaged_instance_of_a_shard(tmp_path: Path, field: str, value: object) -> None:
    """It is left out, everything else is merged, and the report says that it is not whole."""
    good, bad = twin(tmp_path / "one", "a"), twin(tmp_path / "two", "b", "c")
    head, b, *rest = bad.read_text().splitlines()
    bad.write_text("\n".join([head, text_of(json.loads(b.rstrip(",")), field, value) + ",", *rest]))

    merged = merge_reports([good, bad], tmp_path / "merged")

    assert ["fit/a", "fit/c"] == [each["id"] for each in merged.twin["instances"]]
    (note,) = merged.twin["notes"]
    assert note.startswith(f"{bad}, instance 1: ")
    assert note.endswith("The instance is left out.")
    assert not merged.is_whole
    assert render_html(merged.twin)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{half",
        b"[]",
        b"\xff\xfe",
        b'{"schema": 9}',
        DEEP.encode(),
        b'{"instances": ' + DEEP.encode() + b"}",
    ],
)
def test_a_shard_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    """The others are merged, and its file is named; the exit code is 1. Alone it is an error."""
    good, bad = twin(tmp_path / "one", "a"), tmp_path / "bad.json"
    bad.write_bytes(content)

    merged = merge_reports([bad, good], tmp_path / "merged")
    assert (False, ["fit/a"]) == (merged.is_whole, [each["id"] for each in merged.twin["instances"]])
    assert str(bad) in merged.twin["notes"][0]

    with pytest.raises(DuctaflowError, match=r"bad\.json"):
        merge_reports([bad], tmp_path / "merged")

    said = CliRunner().invoke(
        main, ["report", "--merge", str(good), str(bad), "--output", str(tmp_path / "all")]
    )
    assert (1, True) == (said.exit_code, str(bad) in said.stderr)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("finished", "3"),
        ("project", "[]"),
        ("shard", '{"number": "1"}'),
        ("shard", "7"),
        ("history", "[3]"),
        ("notes", "[3]"),
        ("summary", "1e999"),
        ("started", GONE),
        ("instances", "3"),
    ],
)
def test_a_shard_with_a_damaged_head(tmp_path: Path, field: str, value: object) -> None:
    """It costs the shard."""
    good, bad = twin(tmp_path / "one", "a"), twin(tmp_path / "two", "b")
    bad.write_text(text_of(json.loads(bad.read_bytes()), field, value))

    merged = merge_reports([good, bad], tmp_path / "merged")
    assert (False, ["fit/a"]) == (merged.is_whole, [each["id"] for each in merged.twin["instances"]])
    assert merged.twin["notes"][0].startswith(f"{bad}: ")


# --- the twin of the session before -------------------------------------------------------------------------


@pytest.fixture
def left(project: TinyProject) -> TinyProject:
    """A twin with two instances that have no run."""
    project.flow("fit", "1")
    for name in "ab":
        project.config(f"flows/fit/{name}.json")
    runs = project.root / "runs"
    blocked = [
        Entry(Result("fit", name, "flow", Status.BLOCKED, message="why"), f"n::{name}") for name in "ab"
    ]
    write_report(build_report(blocked, session_id="s", started="2030", finished="2030", runs_dir=runs), runs)
    return project


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodeid", "3"),
        ("folder", "3"),
        ("tags", "3"),
        ("earlier", '"yes"'),
        ("parameters", "[]"),
        ("status", '"weird"'),
        ("seconds", "1e999"),
        ("extra", DEEP),
        ("upstreams", GONE),
    ],
)
def test_a_damaged_instance_of_the_twin_before(left: TinyProject, field: str, value: object) -> None:
    """The other one keeps its place on the page; the line of this one is named."""
    runs = left.root / "runs"
    head, a, *rest = (runs / REPORT_JSON).read_text().splitlines()
    (runs / REPORT_JSON).write_text(
        "\n".join([head, text_of(json.loads(a.rstrip(",")), field, value) + ",", *rest])
    )

    data = rebuild_report(Project.at(left.root))
    assert ["fit/b"] == [each["id"] for each in data["instances"]]
    (note,) = data["notes"]
    assert note.startswith(f"{runs / REPORT_JSON}:2: ")


@pytest.mark.parametrize("head", [b"\xff", b"{", b'{"alive": 3, "instances": [', DEEP.encode()])
def test_a_damaged_head_of_the_twin_before(left: TinyProject, head: bytes) -> None:
    """A new page is made all the same, and names the file."""
    runs = left.root / "runs"
    (runs / REPORT_JSON).write_bytes(head)

    data = rebuild_report(Project.at(left.root))
    assert [] == data["instances"]
    assert str(runs / REPORT_JSON) in data["notes"][0]
    write_report(data, runs)
    assert 0 == CliRunner().invoke(main, ["report", "--project", str(left.root)]).exit_code


# --- results -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("child", ["a\0b", "x" * 5000, "\ud800", "../../.."])
def test_a_flow_with_an_impossible_name(tmp_path: Path, child: str) -> None:
    """The build is shown, and its flow with what is wrong."""
    build = Result("all", "a", "build", Status.ERROR, folder=tmp_path, children=(child,), message="no")
    data = build_report([Entry(build)], session_id="s", started="", finished="", runs_dir=tmp_path)
    (instance,) = data["instances"]
    assert ["error"] == [flow["status"] for flow in instance["flows"]]
    assert render_html(data)
