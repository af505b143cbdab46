"""What a report keeps of instances from one session to the next: it is what it would make anew."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject, a_result, page_data, stored, stored_at

from ductaflow import Project
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON, RESULT
from ductaflow.report import Entry, LiveReport, Stored, kept_lines, live
from ductaflow.store.previous import previous_folder
from ductaflow.store.result import LogWarning, Result, Status, read_result

PIXEL = base64.b64encode(b"a picture" * 9).decode()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of instances whose texts are made, not copied. Files of this moment count as old."""
    found: list[str] = []
    make = live.instance_data

    def seen(entry: Entry, *more: Any) -> Any:
        found.append(entry.result.id)
        return make(entry, *more)

    monkeypatch.setattr(live, "instance_data", seen)
    monkeypatch.setattr(kept_lines, "RACY_NS", -(10**9))
    return found


def unchanged(runs: Path, name: str, **facts: Any) -> Entry:
    result = read_result(runs / "fit" / name)
    assert result
    result = replace(result, status=Status.UNCHANGED, former_status=result.status)
    return Entry(result, f"config/flows/fit/{name}.json::fit[{name}]", is_stored=True, **facts)


def session(project: TinyProject, *entries: Entry) -> None:
    root = project.root
    stores = Stored.of(Project.at(root))
    report = LiveReport(root / "runs", session_id="s", project_root=root, stored=lambda: stores)
    for entry in entries:
        report.update(entry)
    report.close("2030-01-02T03:06:10.000Z")


def written(project: TinyProject) -> Any:
    """What a person finds in twin and page, without what came of each instance in the sessions before."""
    runs = project.root / "runs"
    twin = json.loads((runs / REPORT_JSON).read_text())
    page = page_data((runs / REPORT_HTML).read_text())
    shown = [[{**row, "past": None, "at": None}, page.details(row["id"])] for row in page.rows]
    return [{**one, "past": None} for one in twin["instances"]], twin["causes"], shown


def is_as_made(project: TinyProject, *entries: Entry) -> bool:
    """Whether a session writes what one writes that has nothing to copy."""
    session(project, *entries)
    copied, kept = written(project), (project.root / "runs/.ductaflow/lines")
    aside = kept.rename(kept.with_name("aside"))
    session(project, *entries)
    aside.replace(kept)
    return bool(copied == written(project))


def a_run(runs: Path, name: str, **facts: Any) -> Result:
    lines = (LogWarning(2, "Warning: \u2028 ünusual"),) if "warning" in name else ()
    status = name.partition("_")[0] if "_" in name else "success"
    metrics = {"loss": 0.5, "worker": None, "word": "x"}
    fields = {"run_id": name, "session_id": "before", "warnings": lines, "metrics": metrics, **facts}
    log = "one\nWarning: \u2028 ünusual\n" + "a line\n" * 500
    return stored(runs, a_result(status, instance=name, **fields), log, n=name, password="secret", x=[1, 2])


@pytest.fixture
def filled(project: TinyProject) -> TinyProject:
    runs = project.root / "runs"
    project.flow("fit", "print(1)")
    for name in ("a", "b", "warning_c", "error_d", "error_e", "f"):
        a_run(
            runs,
            name,
            message="it broke" if "error" in name else "",
            cause="exit" if "error" in name else None,
        )
        project.config(f"flows/fit/{name}.json", n=name)
    before = previous_folder(runs, runs / "fit" / "f")
    stored_at(before, a_result(instance="f", run_id="f0", metrics={"loss": 0.25}), n="before")
    return project


def edits(project: TinyProject) -> dict[str, Callable[[], object]]:
    """What may happen to the run `a` or `f` between two sessions, and is seen in the report."""
    runs = project.root / "runs"
    folder = runs / "fit" / "a"
    before = previous_folder(runs, runs / "fit" / "f")
    picture = {"cells": [{"cell_type": "code", "outputs": [{"data": {"image/png": PIXEL}}]}]}
    return {
        "log": lambda: (folder / "fit_execution_output.txt").write_text("other\n"),
        "log is gone": lambda: (folder / "fit_execution_output.txt").unlink(),
        "saved config": lambda: next(folder.glob("*config*.json")).write_text('{"n": "edited"}'),
        "notebook with a picture": lambda: (folder / "fit.ipynb").write_text(json.dumps(picture)),
        "html": lambda: (folder / "fit.html").write_text("<html>"),
        "base config": lambda: project.config("base.json", added=random.random()),
        "base config of the flow": lambda: project.config("flows/fit.json", own=random.random()),
        "same size, same time": lambda: _edit_secretly(runs / "fit/b/fit_execution_output.txt"),
        "another run": lambda: a_run(runs, "a", metrics={"loss": 0.75}, run_id="another"),
        "judged": lambda: a_run(runs, "a", message="one value differs"),
        "last good run": lambda: stored_at(before, a_result(instance="f", metrics={"loss": 9.0}), n="other"),
        "no last good run": lambda: shutil.rmtree(before),
        "tags": lambda: project.config("flows/fit/a.json", n="a", _run={"tags": ["slow"]}),
        "upstream": lambda: project.config("flows/fit/a.json", n="a", read="runs/fit/b/x.csv"),
        "not stored any more": (project.root / "config/flows/fit/a.json").unlink,
    }


def _edit_secretly(file: Path) -> None:
    status = file.stat()
    text = file.read_text()
    file.write_text(text[::-1])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_report_copies_what_it_would_make(filled: TinyProject, made: list[str]) -> None:
    """Whatever is edited between two sessions: what is copied is what a report without copies has."""
    names = ("a", "b", "warning_c", "f")

    def now(**facts: Any) -> list[Entry]:
        return [unchanged(filled.root / "runs", name, **facts) for name in names]

    session(filled, *now())
    assert {"fit/a", "fit/b", "fit/warning_c", "fit/error_d", "fit/error_e", "fit/f"} == set(made)
    made.clear()
    session(filled, *now())
    assert [] == made
    for what, edit in edits(filled).items():
        edit()
        made.clear()
        session(filled, *now())
        assert 0 < len(made), what
        assert is_as_made(filled, *now()), what


def test_a_worker_is_that_of_this_session(filled: TinyProject, made: list[str]) -> None:
    """Which worker meets an instance is chance: its texts are copied nevertheless."""
    runs = filled.root / "runs"
    session(filled, unchanged(runs, "a", worker="gw0"))
    made.clear()
    session(filled, unchanged(runs, "a", worker="gw11"))
    assert [] == made
    twin, _, rows = written(filled)
    assert ["gw11"] == [one["worker"] for one in twin if one["id"] == "fit/a"]
    assert ["gw11"] == [row["worker"] for row, _ in rows if row["id"] == "fit/a"]


def test_files_that_were_just_written_are_looked_at_again(
    filled: TinyProject, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second edit in the same tick of the clock would not be seen."""
    monkeypatch.setattr(kept_lines, "RACY_NS", 10**15)
    for _ in range(2):
        made.clear()
        session(filled, unchanged(filled.root / "runs", "a"))
        assert "fit/a" in made


def test_other_code_makes_its_own(
    filled: TinyProject, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade nothing is copied that another version has made."""
    session(filled, unchanged(filled.root / "runs", "a"))
    made.clear()
    monkeypatch.setattr(kept_lines, "_PACKAGE", str(filled.root))
    (filled.root / "other.py").touch()
    session(filled, unchanged(filled.root / "runs", "a"))
    assert "fit/a" in made
    # in an archive it cannot be told from that of another version
    monkeypatch.setattr(kept_lines, "_PACKAGE", str(filled.root / "archive.pyz" / "ductaflow"))
    for _ in range(2):
        made.clear()
        session(filled, unchanged(filled.root / "runs", "a"))
        assert "fit/a" in made


@pytest.mark.parametrize("length", [0, 1, 40, 10_000])
def test_a_damaged_file_is_written_anew(filled: TinyProject, made: list[str], length: int) -> None:
    """Half of it after a full disk, other bytes, foreign keys: the report is as it should be."""
    entries = [unchanged(filled.root / "runs", name) for name in ("a", "b", "f")]
    session(filled, *entries)
    kept = filled.root / "runs/.ductaflow/lines"
    good = kept.read_bytes()
    chance = random.Random(length)
    for damaged in (
        good[:length],
        good[: -1 - length],
        good + good[: 20 + length],
        bytes(chance.choice((byte, byte, 0, 255)) for byte in good),
        good.replace(b'"size": ', b'"size": -'),
        good.replace(b'"keys": ', b'"keys": 7, "x": '),
    ):
        kept.write_bytes(damaged)
        assert is_as_made(filled, *entries)
        made.clear()
        session(filled, *entries)
        assert [] == made


def test_where_nothing_can_be_kept_everything_is_made(filled: TinyProject, made: list[str]) -> None:
    kept = filled.root / "runs/.ductaflow/lines"
    kept.mkdir(parents=True)
    for _ in range(2):
        made.clear()
        session(filled, unchanged(filled.root / "runs", "a"))
        assert "fit/a" in made
        assert RESULT in os.listdir(filled.root / "runs/fit/a")


def test_the_file_does_not_grow_without_end(
    filled: TinyProject, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no session needs any more is left out when there is much of it."""
    monkeypatch.setattr(kept_lines, "PART", 2)
    runs = filled.root / "runs"
    for number in range(16):
        filled.config("base.json", added=number)
        session(filled, *(unchanged(runs, name) for name in ("a", "b", "f")))
    lines = (runs / ".ductaflow/lines").read_bytes()
    assert lines.count(b'"keys"') < 30
    made.clear()
    session(filled, *(unchanged(runs, name) for name in ("a", "b", "f")))
    assert [] == made
