"""What a run says in numbers: the files, and `record`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject

from ductaflow import ConfigError, DuctaflowError, record
from ductaflow.common.paths import CONTEXT, RunFolder
from ductaflow.store import metrics
from ductaflow.store.folder import Claim, Owner
from ductaflow.store.metrics import MAX_METRICS, Metrics, Recorder, read_metrics, record_metrics
from ductaflow.store.spec import RunSpec

#: What a file holds: its metrics, its warnings, its notes.
FILES: dict[str, tuple[str | bytes, dict[str, object], str, str]] = {
    "flat": ('{"rmse": 0.31, "n": 5}', {"rmse": 0.31, "n": 5}, "", ""),
    "kinds": ('{"a": true, "b": "x", "c": null}', {"a": True, "b": "x", "c": None}, "", ""),
    "nested": ('{"a": {"b": {"c": 1}, "d": 2}, "e": 3}', {"a.b.c": 1, "a.d": 2, "e": 3}, "", ""),
    "an empty object": ("{}", {}, "", ""),
    "NaN": ('{"a": NaN}', {"a": None}, "", ""),
    "infinite": ('{"a": Infinity, "b": 1}', {"b": 1}, 'metrics.json: "a" is infinite, and is not kept', ""),
    "too large a number": ('{"a": -1e999}', {}, 'metrics.json: "a" is infinite, and is not kept', ""),
    "a large integer": ('{"a": 9007199254740993}', {"a": 9007199254740993}, "", ""),
    "a list": ('{"a": [1, 2], "b": 1}', {"b": 1}, "", 'metrics.json: "a" is a list, which is no metric'),
    "a list inside": ('{"a": {"b": []}}', {}, "", 'metrics.json: "a.b" is a list, which is no metric'),
    "a long text": ('{"a": "' + 1001 * "x" + '"}', {}, "", "is a text of 1,001 characters"),
    "twice": ('{"a": 1, "a": 2}', {"a": 1}, 'metrics.json: "a" is given twice: the first is kept', ""),
    "twice by dots": ('{"a.b": 1, "a": {"b": 2}}', {"a.b": 1}, '"a.b" is given twice', ""),
    "malformed": ('{"a": 1,\n "b": }', {}, "metrics.json:2:7: not JSON: Expecting value", ""),
    "cut off": ('{"a": 1, "b"', {}, "metrics.json:1:13: not JSON", ""),
    "empty": ("", {}, "metrics.json:1:1: not JSON", ""),
    "no object": ("[1]", {}, "metrics.json:1:1: metrics are a JSON object, not a list", ""),
    "a number alone": ("3", {}, "metrics.json:1:1: metrics are a JSON object, not a number", ""),
    "deep": (
        100_000 * '{"a":' + "1" + 100_000 * "}",
        {},
        "metrics.json cannot be read: nested too deeply",
        "",
    ),
    "too many digits": (
        '{"a": ' + 5000 * "1" + "}",
        {},
        "metrics.json cannot be read: Exceeds the limit",
        "",
    ),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), {}, "metrics.json:1:1: the file is UTF-16", ""),
    "Latin-1": ('{"ä": 1}'.encode("latin-1"), {}, "metrics.json:1:3: the file is not UTF-8: byte 0xe4", ""),
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}, "", ""),
    "large": (
        b'{"a": "' + (5 << 20) * b"x" + b'"}',
        {},
        "metrics.json has 5.2 MB, and metrics are at most",
        "",
    ),
    "many": (
        json.dumps({f"m{number}": number for number in range(1500)}),
        {f"m{number}": number for number in range(MAX_METRICS)},
        "1,500 metrics: the first 1,000 are kept",
        "",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_says(tmp_path: Path, name: str) -> None:
    """Numbers, texts and truth become metrics; whatever else a file holds is said, and costs no more."""
    content, values, warning, note = FILES[name]
    (tmp_path / "metrics.json").write_bytes(content.encode() if isinstance(content, str) else content)
    found = read_metrics(tmp_path, ["metrics.json"])

    assert list(values.items()) == list(found.values.items())
    assert [bool(warning), bool(note)] == [len(found.warnings) == 1, len(found.notes) == 1]
    assert warning in "".join(found.warnings)
    assert note in "".join(found.notes)
    assert found.is_whole is (not warning or bool(values) or "infinite" in warning)


@pytest.mark.parametrize("kind", ["link", "linked folder", "folder", "pipe"])
def test_what_is_no_file_of_the_run_folder(tmp_path: Path, kind: str) -> None:
    """A link may lead to the metrics of another run, and a pipe would wait for ever."""
    folder, name = tmp_path / "run", "metrics.json"
    folder.mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text('{"a": 1}')
    match kind:
        case "link":
            (folder / name).symlink_to(tmp_path / "other" / name)
        case "linked folder":
            (folder / "sub").symlink_to(tmp_path / "other")
            name = f"sub/{name}"
        case "folder":
            (folder / name).mkdir()
        case _:
            os.mkfifo(folder / name)
    found = read_metrics(folder, [name])

    expected = f"{name} is not a regular file of the run folder. Write the file itself."
    assert ({}, [expected], False) == (found.values, found.warnings, found.is_whole)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is not taken for one that is not there."""

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "lstat", refused)
    found = read_metrics(tmp_path, ["metrics.json"])
    assert (["metrics.json cannot be read: Permission denied"], False) == (found.warnings, found.is_whole)


def test_several_files_are_one_set(tmp_path: Path) -> None:
    """Metrics of all files count; a name in two of them is a warning."""
    (tmp_path / "metrics.json").write_text('{"a": 1}')
    (tmp_path / "summary.json").write_text('{"a": 2, "b": 3}')
    found = read_metrics(tmp_path, ["metrics.json", "summary.json", "gone.json"])

    assert {"a": 1, "b": 3} == found.values
    assert ['summary.json: "a" is given twice: the first is kept'] == found.warnings


def test_the_line_of_a_log() -> None:
    """It shows the first metrics, never as a warning, and says how many more there are."""
    assert "📈 rmse 0.312 · peak_mw 812.4" == Metrics({"rmse": 0.3120000001, "peak_mw": 812.4}).summary
    assert "" == Metrics().summary
    assert "📈 1 metrics" == Metrics({"warning: x": 1}).summary
    many = Metrics({f"metric_{number}": number for number in range(100)}).summary
    assert many.startswith("📈 metric_0 0 · metric_1 1 ")
    assert many.endswith(" more")
    assert len(many) < 250


# --- recording ---------------------------------------------------------------------------------------------


def test_recording_keeps_what_is_there(tmp_path: Path) -> None:
    """A new name is added, a known one has its new value where it stands, nested or not."""
    (tmp_path / "metrics.json").write_text('{"a": 1, "peak": {"mw": 2, "h": 3}, "x.y": 4}')
    record_metrics(tmp_path, {"b": 5, "peak.mw": 6, "peak.new": 7, "x.y": 8})

    expected = {"a": 1, "peak": {"mw": 6, "h": 3}, "x.y": 8, "b": 5, "peak.new": 7}
    assert expected == json.loads((tmp_path / "metrics.json").read_text())


@pytest.mark.parametrize("content", ['{"a": ', "[1]", ""])
def test_recording_over_something_else(tmp_path: Path, content: str) -> None:
    """What is no JSON object stays as it is, and the flow is told."""
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(DuctaflowError, match=r"metrics\.json is "):
        record_metrics(tmp_path, {"b": 5})

    assert content == (tmp_path / "metrics.json").read_text()


def test_recording_over_an_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies there since before the run is set aside, once: no metric of it is one of this run."""
    folder, runs = tmp_path / "runs/fit/a", tmp_path / "runs"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"a": 1')
    owner = Owner("fit", "a", "r", "s", os.uname().nodename, os.getpid(), "2026-01-01T00:00:00Z")
    claim = Claim.take(RunFolder(folder, "fit"), runs, owner)
    spec = RunSpec(
        kind="flow",
        flow="fit",
        instance="a",
        source="fit.py",
        folder=str(folder),
        runs_root=str(runs),
        project_root=str(tmp_path),
        session_id="s",
        run_id="r",
        events=str(claim.events_file),
    )
    monkeypatch.setenv(CONTEXT, spec.environment()[CONTEXT])
    record_metrics(folder, {"b": 2})
    record_metrics(folder, {"c": 3})

    assert {"b": 2, "c": 3} == json.loads((folder / "metrics.json").read_text())
    assert '{"a": 1' == (folder / "metrics.flow.json").read_text()
    outputs = claim.outputs([])
    assert ["metrics.json"] == [output["path"] for output in outputs]
    assert () == claim.kept_files(outputs)
    claim.release(finished=True)


def test_two_folders_of_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits to be written stays with its run, also if it cannot be written."""
    recorder = Recorder()
    for name in ("x", "y", "broken"):
        (tmp_path / name).mkdir()
        for metric in "abc":
            recorder.add(tmp_path / name, {metric: name})
    (tmp_path / "broken" / "metrics.json").write_text("[")
    recorder.end_run()
    assert "Warning: metrics could not be written: " in capsys.readouterr().out
    recorder.add(tmp_path / "x", {"d": "x"})
    for name, letters in (("x", "abcd"), ("y", "abc")):
        assert dict.fromkeys(letters, name) == json.loads((tmp_path / name / "metrics.json").read_text())


def test_a_handler_that_records_while_its_thread_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal may come at any moment: nothing waits for itself, and nothing is lost."""
    recorder = Recorder()

    def interrupted(folder: Path, values: dict[str, Any]) -> None:
        recorder.add(folder, {"late": 2})
        record_metrics(folder, values)

    monkeypatch.setattr(metrics, "record_metrics", interrupted)
    recorder.add(tmp_path, {"a": 1})
    recorder.end_run()
    assert {"a": 1, "late": 2} == json.loads((tmp_path / "metrics.json").read_text())


def test_outside_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written, and a line says so."""
    record("a", 1)
    record(b=2, c={"d": 3})

    lines = capsys.readouterr().out.splitlines()
    assert [f"record: {names}: this is no run, so nothing is written" for names in ("a", "b, c.d")] == lines


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "record: a is a list, which is no metric"),
        ((1, 2), "record: a is a list, which is no metric"),
        ({"b": [1]}, "record: a.b is a list"),
        ({1: 2}, "names of metrics are strings"),
        ({3}, "record: a: a value of type builtins.set is not JSON"),
        (1 + 2j, "record: a: a value of type builtins.complex is not JSON"),
        (b"x", "record: a: a value of type builtins.bytes is not JSON"),
    ],
)
def test_what_is_no_metric(value: object, message: str) -> None:
    """It is an error where it is recorded."""
    with pytest.raises(ConfigError, match=message):
        record("a", value)


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        (("a",), {}, "record: 'a' has no value"),
        (("a",), {"b": 1}, "record: 'a' has no value"),
        (({"a": 1}, 2), {}, "record: a value without its name"),
        ((None, 2), {}, "record: a value without its name"),
        (("a", 1), {"a": 2}, "record: a is given twice"),
        (({"a": {"b": 1}, "a.b": 2},), {}, "is given twice"),
        (({"a": {"b": 1}},), {"a": {"b": 1}}, "record: a.b is given twice"),
        ((3, 1), {}, "names of metrics are strings"),
    ],
)
def test_names_and_values_go_together(
    positional: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    """A forgotten value is no null, and of two values for a name neither is dropped."""
    with pytest.raises(ConfigError, match=message):
        record(*positional, **named)


FLOW = """
# %%
import multiprocessing, os, subprocess, sys
import concurrent.futures
import numpy as np
from ductaflow import record
record("peak_mw", 812.4)
with concurrent.futures.ThreadPoolExecutor(8) as threads:
    list(threads.map(lambda number: record(f"t{number}", number), range(200)))
record(rmse=np.float32(0.25), ok=np.bool_(True), hours=np.int64(8760), gap=np.nan, whole=np.array(3))
record({"fit": {"a": 1, "b": {"c": 2}}})
record(fit={"d": 3}, empty={})

# %%
def work(number):
    record(f"p{number}", number)

with multiprocessing.get_context("fork").Pool(3) as pool:
    pool.map(work, range(8))
if os.fork() == 0:
    record(forked=1)
    os._exit(0)
os.wait()
subprocess.run([sys.executable, "-c", "import ductaflow; ductaflow.record(started=1)"], check=True)

# %%
import atexit
os.chdir("/")
atexit.register(record, "late", 1)
record(peak_mw=813)
"""
RECORDED = {
    **{"peak_mw": 813, "rmse": 0.25, "ok": True, "hours": 8760, "gap": None, "whole": 3, "fit.a": 1},
    **{
        "fit.b.c": 2,
        "fit.d": 3,
        "forked": 1,
        "started": 1,
        "late": 1,
        **{f"p{number}": number for number in range(8)},
    },
    **{f"t{number}": number for number in range(200)},
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["warm", "kernel"])
def test_a_flow_records(project: TinyProject, engine: str) -> None:
    """Values of numpy, nested ones, those of its processes and exit handlers count."""
    result = project.run_code(FLOW, engine=engine, timeout=100)

    assert ("success", "success") == (str(result.status), str(result.run_status))
    assert sorted(RECORDED.items()) == sorted(result.metrics.items())
    log = project.folder("fit", "a") / "fit_execution_output.txt"
    lines = log.read_text(encoding="utf-8").splitlines()
    assert lines[-2].startswith("📈 peak_mw 813 · ")
    assert lines[-1].startswith("✅ Completed fit")


@pytest.mark.slow
def test_files_of_a_flow(project: TinyProject) -> None:
    """A flow may write the file itself, under a name of the settings; what it cannot say is a warning."""
    project.settings('metrics = ["metrics.json", "out/summary.json"]')
    code = """
# %%
import json, os
os.mkdir("out")
json.dump({"b": 2}, open("out/summary.json", "w"))
open("metrics.json", "w").write('{"a": 1,}')
"""
    result = project.run_code(code)

    assert ("warning", {"b": 2}) == (str(result.status), result.metrics)
    assert "⚠ metrics.json:1:9: not JSON" in result.warnings[0].text
    failed = project.run_code(f"{code}\nraise ValueError('late')")
    assert ("error", {}, 0) == (str(failed.status), failed.metrics, failed.warning_count)


@pytest.mark.slow
def test_metrics_of_somebody_else(project: TinyProject) -> None:
    """A file that lay there before the run says nothing of the run."""
    folder = project.folder("fit", "a")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text('{"a": 1}')
    result = project.run_code("# %%\nx = 1\n")

    assert {} == result.metrics
    assert "metrics.json was there before the run" in result.message


WRITES = {
    "record": "from ductaflow import record\nrecord(v=1.5)",
    "its own file": 'open("metrics.json", "w").write(\'{"v": 1.5}\')',
    "another name": 'open("numbers.json", "w").write(\'{"v": 1.5}\')',
}


@pytest.mark.slow
@pytest.mark.parametrize("left", [None, "", '{"schema": '])
@pytest.mark.parametrize("writes", WRITES)
def test_metrics_after_a_lost_result(project: TinyProject, writes: str, left: str | None) -> None:
    """What a run has written anew is its own, whoever's file lay there; what it leaves alone is not."""
    project.settings('metrics = ["metrics.json", "numbers.json"]')
    code = f"# %%\n{WRITES[writes]}\nopen('x.csv', 'w').write('x')\n"
    engine = "kernel" if left == "" else "warm"
    project.run_code(code, engine=engine, timeout=100)
    for _ in range(2):
        result = project.folder("fit", "a") / "result.json"
        result.unlink()
        if left is not None:
            result.write_text(left)
        again = project.run_code(code, engine=engine, timeout=100)
        assert ("success", {"v": 1.5}) == (str(again.status), again.metrics)
        assert "x.csv" in [output["path"] for output in again.outputs]
        assert "was there before" not in again.message
    result.unlink()
    idle = project.run_code("# %%\nx = 1\n")
    assert ({}, ()) == (idle.metrics, idle.outputs)
    assert ".json was there before the run" in idle.message
