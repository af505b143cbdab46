"""`ductaflow report --bundle`: links that work wherever it is unpacked, nothing from outside of the runs."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from support import cli

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import BUNDLE_MARK, REPORT_HTML, REPORT_JSON, RunFolder
from ductaflow.report import Entry, build_report, merge_reports, write_report
from ductaflow.report import bundle as bundles
from ductaflow.report.bundle import write_bundle
from ductaflow.report.schema import Twin
from ductaflow.store.result import FileEntry, LogWarning, Result, Status, write_result

WARNED = {"warnings": (LogWarning(1, "Warning: low"),), "warning_count": 1}


def folder_of(result: Result) -> Path:
    assert result.folder is not None
    return result.folder


def run(runs: Path, id: str, status: Status = Status.ERROR, *outputs: str, **fields: Any) -> Result:
    """A run folder with the files of ours, as a run left it."""
    flow, _, name = id.partition("/")
    folder = RunFolder(runs / flow / name, flow)
    folder.path.mkdir(parents=True)
    for path in (folder.log, folder.html, folder.notebook, folder.config):
        path.write_text(f"{path.name} of {id}\n")
    files = []
    for output in outputs:
        path = folder.path / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{output} of {id}\n")
        files.append(FileEntry(path=output, size=1))
    more = {"outputs": tuple(files), "run_id": "r", "session_id": "s", **fields}
    result = replace(Result(flow, name, "flow", status, folder=folder.path), **more)
    write_result(result, folder.path)
    return result


def twin_of(runs: Path, *results: Result, session_id: str = "s") -> Twin:
    entries = [Entry(one) for one in results]
    return build_report(
        entries, session_id=session_id, started="2026-01-01", finished="2026-01-02", runs_dir=runs
    )


def unpacked(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack a bundle and check it as a whole: every link of its twin leads to a file inside.

    Returns:
        Its instances by id.
    """
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        names = opened.namelist()
        opened.extractall(folder)
    assert len(names) == len({name.casefold() for name in names})
    for name in names:
        assert not {"", ".", ".."} & set(name.split("/")), name
        assert not set('<>:"\\|?*') & set(name), name
    data = json.loads((folder / REPORT_JSON).read_text())
    assert (folder / REPORT_HTML).read_text().startswith("<!DOCTYPE html>")
    linked = {REPORT_HTML, REPORT_JSON}

    def check(instance: dict[str, Any]) -> None:
        for href in [*instance["links"].values(), *instance["bundle"]["held"].values()]:
            assert (folder / unquote(href)).is_file(), href
            linked.add(unquote(href))
        for flow in instance["flows"]:
            check(flow)

    for instance in data["instances"]:
        check(instance)
    assert linked == set(names), "nothing that no link leads to"
    return {instance["id"]: instance for instance in data["instances"]}


def test_what_is_not_good_has_its_files(tmp_path: Path) -> None:
    """Notebook, page, log, config and outputs; of what is good nothing, and the page says so."""
    runs = tmp_path / "runs"
    twin = twin_of(
        runs,
        run(runs, "fit/red", Status.ERROR, "x.csv", "sub/y z.csv"),
        run(runs, "fit/orange", Status.WARNING, **WARNED),
        run(runs, "fit/green", Status.SUCCESS, "x.csv"),
    )
    made = write_bundle(twin, runs, tmp_path / "out.zip")
    shown = unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")
    assert {"log", "html", "notebook", "config"} == shown["fit/red"]["links"].keys()
    assert {"x.csv", "sub/y z.csv"} == shown["fit/red"]["bundle"]["held"].keys()
    assert {"log", "html", "notebook", "config"} == shown["fit/orange"]["links"].keys()
    assert {} == shown["fit/green"]["links"]
    assert "the run is good" == shown["fit/green"]["bundle"]["why"]
    text = (tmp_path / "elsewhere/fit/red/sub/y z.csv").read_text()
    assert text == "sub/y z.csv of fit/red\n"
    assert 10 == made.files
    assert made.line.startswith("It holds 10 files of what is not good")


def test_a_good_run_whose_test_fails_has_its_files(tmp_path: Path) -> None:
    """Somebody has to look at it."""
    runs = tmp_path / "runs"
    twin = twin_of(runs, run(runs, "fit/a", Status.SUCCESS))
    twin["instances"][0]["fails"] = "1 new warning"
    write_bundle(twin, runs, tmp_path / "out.zip")
    assert 4 == len(unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")["fit/a"]["links"])


def test_flows_of_a_build(tmp_path: Path) -> None:
    """A failed build brings the flow that failed, not those that are good."""
    runs = tmp_path / "runs"
    build = run(runs, "outer/one", children=("runs/bad", "runs/well"))
    run(runs / "outer/one", "runs/bad", Status.ERROR)
    run(runs / "outer/one", "runs/well", Status.SUCCESS)
    write_bundle(twin_of(runs, build), runs, tmp_path / "out.zip")
    bad, well = unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")["outer/one"]["flows"]
    assert "outer/one/runs/bad/runs.html" == bad["links"]["html"]
    assert {} == well["links"]


def test_the_same_runs_make_the_same_bytes(tmp_path: Path) -> None:
    """Whenever and wherever it is made, so that CI keeps no copy twice."""
    runs = tmp_path / "runs"
    twin = twin_of(runs, run(runs, "fit/a"), run(runs, "fit/b", Status.WARNING, **WARNED))
    write_bundle(twin, runs, tmp_path / "one.zip")
    os.utime(runs / "fit/a/fit.html", (1, 1))
    write_bundle(twin, runs, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_what_is_left_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files, files that are gone, and what does not fit any more; errors come before warnings."""
    monkeypatch.setattr(bundles, "MAX_OUTPUT", 100)
    monkeypatch.setattr(bundles, "MAX_ALL", 400)
    runs = tmp_path / "runs"
    orange = run(runs, "fit/orange", Status.WARNING, **WARNED)
    red = run(runs, "fit/red", Status.ERROR, "large.csv", "gone.csv", "pipe", "sub")
    (folder_of(red) / "large.csv").write_bytes(bytes(101))
    (folder_of(red) / "gone.csv").unlink()
    (folder_of(red) / "sub").unlink()
    (folder_of(red) / "sub").mkdir()
    (folder_of(orange) / "fit.html").write_bytes(bytes(300))
    twin = twin_of(runs, orange, red)
    made = write_bundle(twin, runs, tmp_path / "out.zip")
    shown = unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")
    assert {
        "large.csv": "too large: over 100 B",
        "gone.csv": "not there any more",
        "sub": "no file",
    } == shown["fit/red"]["bundle"]["outputs"]
    assert {"html": "no room left: over 400 B"} == shown["fit/orange"]["bundle"]["links"]
    assert "1 too large: over 100 B" in made.line
    notes = json.loads((tmp_path / "elsewhere" / REPORT_JSON).read_text())["notes"]
    assert [f"This page is from a bundle. {made.line}"] == notes


@pytest.mark.skipif(sys.platform == "win32", reason="links and such names")
def test_nothing_comes_from_outside_of_the_runs_folder(tmp_path: Path) -> None:
    """Neither by a link on disk, at any depth, nor by a path in a twin that somebody wrote."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s3cret")
    runs = tmp_path / "runs"
    red = run(runs, "fit/red", Status.ERROR, "a", "b")
    folder = red.folder
    assert folder is not None
    (folder / "a").unlink()
    (folder / "a").symlink_to(secret / "key")
    (folder / "linked").symlink_to(secret)
    (folder / "b").unlink()
    (folder / "b").symlink_to(folder / "fit.html")
    (runs / "fit" / "other").symlink_to(secret)
    twin = twin_of(runs, red)
    (shown,) = twin["instances"]
    shown["outputs"] += [{"path": path, "size": 1} for path in ("linked/key", "../../../secret/key", "x\0y")]
    shown["links"]["log"] = "../secret/key"
    shown["links"]["config"] = (secret / "key").as_uri()
    write_bundle(twin, runs, tmp_path / "out.zip")
    found = unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")["fit/red"]
    outside = "outside of the runs folder"
    assert {"log": outside, "config": outside} == found["bundle"]["links"]
    assert ["b"] == list(found["bundle"]["held"]), "a link inside of the runs is the file"
    reasons = found["bundle"]["outputs"]
    assert "not there any more" == reasons.pop("x\0y")
    assert {outside} == set(reasons.values())
    everything = b"".join(path.read_bytes() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file())
    assert b"s3cret" not in everything


@pytest.mark.skipif(sys.platform == "win32", reason="such names")
def test_names_that_other_systems_do_not_take(tmp_path: Path) -> None:
    """They are replaced, also where two would be one; the page finds each by its own name."""
    runs = tmp_path / "runs"
    names = ["a:b", "a*b", "Data.csv", "data.csv", "..\\x", "con.txt", "dot.", "#1 %2F?", "\u00e9", "e\u0301"]
    red = run(runs, "fit/red", Status.ERROR, *names)
    write_bundle(twin_of(runs, red), runs, tmp_path / "out.zip")
    found = unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")["fit/red"]
    for name in names:
        href = unquote(found["bundle"]["held"][name])
        assert f"{name} of fit/red\n" == (tmp_path / "elsewhere" / href).read_text()


def test_merged_shards(tmp_path: Path) -> None:
    """Shards whose bundles were unpacked are merged, and make one bundle again with all that they held."""
    files = []
    for number in (1, 2):
        runs = tmp_path / "machine" / "runs"
        red = run(runs, f"fit/red{number}", Status.ERROR, "x.csv", "gone.csv")
        (runs / f"fit/red{number}/gone.csv").unlink()
        write_bundle(twin_of(runs, red, session_id=f"s{number}"), runs, tmp_path / "shard.zip")
        unpacked(tmp_path / "shard.zip", tmp_path / "shards" / str(number))
        files.append(tmp_path / "shards" / str(number) / REPORT_JSON)
    merged = merge_reports(files, tmp_path / "runs")
    roots = [file.parent for file in files]
    write_bundle(merged.twin, tmp_path / "runs", tmp_path / "out.zip", roots=roots)
    shown = unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")
    for number in (1, 2):
        one = shown[f"fit/red{number}"]
        assert f"shards/{number}/fit/red{number}/fit.html" == one["links"]["html"]
        assert f"shards/{number}/fit/red{number}/x.csv" == one["bundle"]["held"]["x.csv"]
        assert {"gone.csv": "not there any more"} == one["bundle"]["outputs"]


def test_a_bundle_may_be_a_folder(tmp_path: Path) -> None:
    """As services show it in the browser; a bundle is replaced, and a folder of somebody else stays."""
    runs = tmp_path / "runs"
    red = run(runs, "fit/a", Status.ERROR, "x.csv")
    write_bundle(twin_of(runs, red), runs, tmp_path / "out.zip")
    write_bundle(twin_of(runs, red, run(runs, "fit/b")), runs, tmp_path / "out")
    assert (tmp_path / "out/fit/b/fit.html").is_file()
    write_bundle(twin_of(runs, red), runs, tmp_path / "out")
    unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")
    files = {
        path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert files.keys() - {Path(BUNDLE_MARK)} == {
        path.relative_to(tmp_path / "elsewhere")
        for path in (tmp_path / "elsewhere").rglob("*")
        if path.is_file()
    }
    assert {"out", "out.zip", "elsewhere", "runs"} == {path.name for path in tmp_path.iterdir()}
    with pytest.raises(DuctaflowError, match="is there and no bundle"):
        write_bundle(twin_of(runs, red), runs, runs)
    assert (runs / "fit/a/fit.html").is_file()


def test_nothing_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a share without an instance: there is nothing to keep, which is no error."""
    (tmp_path / "config" / "flows").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = cli("report", "--bundle", "out.zip")
    assert 0 == done.exit_code, done.output
    assert "nothing has run" in done.output
    assert not (tmp_path / "out.zip").exists()


@pytest.mark.parametrize("name", ["out.zip", "out"])
def test_a_bundle_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A full disk leaves the old one and nothing half."""
    runs = tmp_path / "runs"
    twin = twin_of(runs, run(runs, "fit/a"))
    target = tmp_path / name
    write_bundle(twin, runs, target)
    old = {path: path.stat().st_mtime_ns for path in [target, *target.rglob("*")]}

    def full(*_: object) -> Iterator[str]:
        yield "<!DOCTYPE html>"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "page_chunks", full)
    with pytest.raises(OSError, match="No space"):
        write_bundle(twin, runs, target)
    assert old == {path: path.stat().st_mtime_ns for path in [target, *target.rglob("*")]}
    assert {name, "runs"} == {path.name for path in tmp_path.iterdir()}


def test_the_command_takes_the_report_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows what run folders do not; a summary is added to what a file has."""
    runs = tmp_path / "runs"
    twin = twin_of(runs, run(runs, "fit/a"))
    twin["instances"][0]["worker"] = "gw7"
    write_report(twin, runs)
    (tmp_path / "s.md").write_text("before\n")
    monkeypatch.chdir(tmp_path)
    done = cli("report", "runs", "--bundle", "out.zip", "--summary", "s.md")
    assert 0 == done.exit_code, done.output
    assert "out.zip\nIt holds 4 files of what is not good" in done.output
    assert "gw7" == unpacked(tmp_path / "out.zip", tmp_path / "elsewhere")["fit/a"]["worker"]
    assert (
        (tmp_path / "s.md").read_text(encoding="utf-8").startswith("before\n### ductaflow: 1 red in 1 cause")
    )
