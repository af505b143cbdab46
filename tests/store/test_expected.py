"""Results compared with those expected: what is judged, how much, and when a judgement holds."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ductaflow.common.errors import DuctaflowError, RunFolderError
from ductaflow.common.rules import Rule
from ductaflow.comparison import apart
from ductaflow.comparison.difference import FileDifference
from ductaflow.project.expect import Expectations
from ductaflow.project.options import RunOptions
from ductaflow.store import expected
from ductaflow.store.expected import (
    Expected,
    difference_lines,
    is_judged,
    judge_unchanged,
    judged_again,
    unexpected_lines,
)
from ductaflow.store.hashes import Hashes
from ductaflow.store.record import Site
from ductaflow.store.result import FileEntry, Judged, Metric, Result, Status, recorded_result, write_result
from ductaflow.store.verdict import as_judged, unjudged


class Desk:
    """A run folder and a folder of expected files."""

    def __init__(self, root: Path) -> None:
        self.run, self.expected = root / "runs" / "fit" / "a", root / "expected" / "fit" / "a"
        for folder in (self.run, self.expected):
            folder.mkdir(parents=True)
        self.site = Site(str(root), Hashes(root / "runs" / ".ductaflow" / "hashes", str(root)))

    def result(self, metrics: dict[str, Metric] | None = None, **files: str) -> Result:
        """The result of a complete run that wrote some files; `_` stands for the dot in their names."""
        outputs: list[FileEntry] = []
        for key, text in files.items():
            name = key.replace("_", ".")
            (self.run / name).write_text(text)
            outputs.append(self.site.entry(str(self.run / name), name))
        return Result(
            "fit",
            "a",
            "flow",
            Status.SUCCESS,
            run_status=Status.SUCCESS,
            metrics=metrics or {},
            outputs=tuple(outputs),
            folder=self.run,
        )

    def expect(self, **files: str) -> None:
        for key, text in files.items():
            (self.expected / key.replace("_", ".")).write_text(text)

    def judged(self, result: Result, **rules: Any) -> Judged | None:
        found = Expected.of(self.expected, Expectations(rules), self.site)
        return found.judge(result) if found else None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


#: Expected metrics, those found, rules; then the summary and the lines.
METRICS: dict[str, tuple[str, dict[str, Metric], dict[str, Any], str, list[str]]] = {
    "alike": ('{"rmse": 0.3, "n": 5}', {"rmse": 0.3000000001, "n": 5}, {}, "judged: 2 metrics", []),
    "beyond the tolerance": (
        '{"rmse": 0.312}',
        {"rmse": 0.347},
        {},
        "1 of 1 metrics differ",
        ["rmse  expected 0.312  found 0.347  +11.2 %  rtol 1e-06"],
    ),
    "within a named one": ('{"rmse": 0.312}', {"rmse": 0.347}, {"rtol": 0.2}, "judged: 1 metric", []),
    "an integer is exact": (
        '{"n": 1000000}',
        {"n": 1000001},
        {},
        "1 of 1 metrics differ",
        ["n  expected 1000000  found 1000001  +0.0001 %"],
    ),
    "unless it is named": (
        '{"n": 1000000}',
        {"n": 1000001},
        {"metrics": {"n": {"rtol": 0.1}}},
        "judged: 1 metric",
        [],
    ),
    "NaN equals NaN": ('{"a": NaN, "b": null}', {"a": None, "b": None}, {}, "judged: 2 metrics", []),
    "gone": ('{"a": 1, "b": 2}', {"a": 1}, {}, "1 of 2 metrics differ", ["b  expected 2  gone"]),
    "more than expected": (
        '{"a": 1}',
        {"a": 1, "b": 2, "c": 3},
        {},
        "judged: 1 metric; 2 more metrics are not",
        [],
    ),
    "a bound": (
        "",
        {"peak_mw": 812.4, "n": 1},
        {"metrics": {"peak_*": {"max": 800}}},
        "1 of 1 metrics differ",
        ["peak_mw  found 812.4 > max 800"],
    ),
    "neither as expected nor within bounds": (
        '{"peak_mw": 790}',
        {"peak_mw": 812},
        {"metrics": {"peak_*": {"max": 800}}},
        "1 of 1 metrics differ",
        ["peak_mw  expected 790  found 812", "peak_mw  found 812 > max 800"],
    ),
    "within bounds": ("", {"a": 1}, {"metrics": {"a": {"min": 1, "max": 1}}}, "judged: 1 metric", []),
    "nothing under a bound": (
        '{"a": 1}',
        {"a": 1},
        {"metrics": {"peak_*": {"min": 1, "max": 800}}},
        "1 of 2 metrics differ",
        ["peak_*  found nothing for min 1 and max 800"],
    ),
    "a bound on what is gone": (
        '{"peak_mw": 1}',
        {},
        {"metrics": {"peak_*": {"max": 5}}},
        "1 of 1 metrics differ",
        ["peak_mw  expected 1  gone"],
    ),
    "an expected file that is none": (
        '{"a" 1}',
        {"a": 1},
        {},
        "1 of 1 files differ",
        ["metrics.json  expected/fit/a: metrics.json:1:6: not JSON: Expecting ':' delimiter."],
    ),
    "what is no metric cannot be judged": (
        json.dumps({"a": 1, "curve": [1, 3], "note": "y" * 1001}),
        {"a": 1},
        {},
        "2 of 2 files differ",
        [
            'metrics.json  expected/fit/a: metrics.json: "curve" is a list, which is no metric',
            'metrics.json  expected/fit/a: metrics.json: "note" is a text of 1,001 characters',
        ],
    ),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics(desk: Desk, name: str) -> None:
    """Those expected are judged by their keys, bounds without them, and all others are counted."""
    text, found, rules, summary, lines = METRICS[name]
    if text:
        desk.expect(metrics_json=text)
    judged = desk.judged(desk.result(found), **rules)

    assert judged
    assert summary == judged.summary
    told = list(difference_lines(judged))
    assert len(lines) == len(told)
    for line, begin in zip(told, lines, strict=True):
        assert line.startswith(begin)


def test_nothing_is_expected(desk: Desk) -> None:
    """Neither an empty folder nor rules without bounds, nor hidden files, make a judgement."""
    (desk.expected / ".gitkeep").touch()
    assert desk.judged(desk.result({"a": 1}), rtol=0.1, metrics={"a": {"rtol": 1}}) is None


def test_files(desk: Desk) -> None:
    """Each is compared with the one of its name, as what it is; one of the same bytes is not read."""
    desk.expect(a_json='{"x": [1, 2]}', b_txt="one\ntwo\n", c_bin="x", d_json='{"x": 1}', e_txt="gone")
    result = desk.result(
        a_json='{"x": [1, 3]}', b_txt="one\n2\n", c_bin="x", d_json='{"x": 1.0, "y": 2}', f_txt=""
    )
    judged = desk.judged(result)

    assert judged
    assert (5, "3 of 5 files differ") == (judged.files, judged.summary)
    assert [
        "a.json  1 of 4 values",
        "  x[1]  expected 2  found 3  +50 %",
        "e.txt  the run has not written it",
        "b.txt  1 of 2 lines",
        "  line 2  - two",
        "          + 2",
    ] == list(difference_lines(judged))


def test_what_is_no_file(desk: Desk) -> None:
    """Links and pipes, expected or written, are said and never followed or waited for."""
    desk.expect(a_txt="1", b_txt="2")
    os.mkfifo(desk.expected / "pipe")
    (desk.expected / "link.json").symlink_to(desk.expected / "a.txt")
    (desk.run / "b.txt").symlink_to(desk.expected / "b.txt")
    result = desk.result(a_txt="1")
    link = FileEntry(path="b.txt", size=0, kind="link", target="x")
    judged = desk.judged(Result(**{**_fields(result), "outputs": (*result.outputs, link)}))

    assert judged
    assert [
        "link.json  is a link in expected/fit/a, not a file",
        "pipe  is a pipe in expected/fit/a, not a file",
        "b.txt  is a link, not a file",
    ] == list(difference_lines(judged))
    assert "3 of 4 files differ" == judged.summary


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}


@pytest.mark.slow
def test_a_table_that_ends_the_process(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads it is ended, by a signal or the limit: the file differs, and says why."""
    desk.expect(a_csv="x\n1\n", b_csv="x\n1\n")
    result = desk.result(a_csv="x\n2\n", b_csv="x\n3\n")
    judged = desk.judged(result)
    assert judged
    assert "2 of 2 files differ" == judged.summary

    monkeypatch.setattr(apart, "_LIMIT", 0.0)
    judged = desk.judged(result)
    assert judged
    assert [f"{name}.csv  not compared: it took longer than 0 s" for name in "ab"] == list(
        difference_lines(judged)
    )


def test_a_comparison_ends_with_who_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a notebook leaves no process behind."""
    started: list[subprocess.Popen[str]] = []

    class Watched(subprocess.Popen[str]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    def interrupted() -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Watched)
    with pytest.raises(KeyboardInterrupt):
        apart.compare_apart([(tmp_path / "a.csv", tmp_path / "b.csv", Rule())], interrupted)
    assert [True] == [process.returncode is not None for process in started]


def test_what_was_not_compared_is_judged_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judgement that was cut short, or lacked a library, holds for nothing, not even for no expectation."""
    desk.expect(a_csv="x\n1\n")
    result = desk.result(a_csv="x\n1.0\n")
    cut = FileDifference("a.csv", "content", "not compared: the session ended", is_settled=False)
    for found, holds in ([cut], False), ([replace(cut, is_settled=True)], True):
        monkeypatch.setattr(expected, "compare_apart", lambda pairs, stopped, found=found: found)
        judged = as_judged(result, desk.judged(result), [])
        assert "1 of 1 files differ" == judged.message
        assert holds == is_judged(judged, desk.expected, Expectations({}), desk.site)
        assert not is_judged(judged, desk.expected / "none", Expectations({}), desk.site)


def test_what_changes_while_it_is_judged(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judgement is one of what was read: it does not hold for what lies there since."""
    desk.expect(a_csv="x\n1\n")
    result = desk.result(a_csv="x\n1.0\n")

    def compared(*_: object) -> list[None]:
        desk.expect(a_csv="x\n2\n")
        return [None]

    monkeypatch.setattr(expected, "compare_apart", compared)
    judged = as_judged(result, desk.judged(result), [])
    assert Status.SUCCESS == judged.status
    assert not is_judged(judged, desk.expected, Expectations({}), desk.site)


@pytest.mark.slow
def test_paths_of_faults(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of the project, from whatever folder it was judged."""
    desk.expect(a_json="{", b_csv="k\n1\n1\n")
    result = desk.result(a_json="[", b_csv="k\n1\n")
    for folder in (tmp_path, desk.run, Path("/")):
        monkeypatch.chdir(folder)
        judged = desk.judged(result, files={"*.csv": {"key": ["k"]}})
        assert judged
        faults = [one.file.fault for one in judged.differences if one.file]
        assert faults[0].startswith("expected/fit/a/a.json: cannot be read as json")
        assert faults[1].endswith("k 1 is twice in expected/fit/a/b.csv")


def test_when_a_judgement_holds(desk: Desk) -> None:
    """It depends on outputs, expected files and rules, and on nothing else."""
    desk.expect(metrics_json='{"a": 1}', b_txt="x")
    result = desk.result({"a": 2}, b_txt="x")
    judged = as_judged(result, desk.judged(result), [])

    def holds(**rules: Any) -> bool:
        return is_judged(judged, desk.expected, Expectations(rules), desk.site)

    assert (Status.ERROR, "expectation") == (judged.status, judged.cause)
    assert (Status.SUCCESS, True, False) == (judged.run_status, judged.is_complete, judged.is_failed)
    assert holds()
    assert not holds(rtol=0.1)
    desk.expect(b_txt="y")
    assert not holds()
    desk.expect(b_txt="x")
    assert holds()
    for path in desk.expected.iterdir():
        path.unlink()
    assert not holds()
    assert result == unjudged(judged)


def test_a_disk_that_is_full(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be judged again says so: no run was to start."""
    desk.expect(metrics_json='{"a": 1}')
    spec: Any = SimpleNamespace(folder=desk.run, runs_root=desk.run.parent.parent, expected=desk.expected)
    spec.options = RunOptions()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(expected, "held", full)
    monkeypatch.setattr(Site, "of", lambda _: desk.site)
    with pytest.raises(RunFolderError, match="results cannot be judged again: No space left on device"):
        judge_unchanged(desk.result({"a": 1}), spec)


def test_a_flow_of_a_build_whose_config_is_broken(desk: Desk) -> None:
    """Who asks about many gets an answer for all; judging the build says what is broken."""
    flow = desk.result({"a": 1})
    write_result(flow, desk.run)
    (desk.run / "fit_config.json").write_text("{}")
    build = replace(flow, flow="plan", children=("a",), folder=desk.run.parent)
    asked: Any = (build, desk.expected / "none", Expectations({}), desk.site)
    assert is_judged(*asked)
    (desk.run / "fit_config.json").write_text("{")
    assert not is_judged(*asked)
    with pytest.raises(DuctaflowError, match=r"fit_config\.json"):
        judged_again(*asked)


def test_a_result_of_an_earlier_version(desk: Desk) -> None:
    """Its metrics are those of its file, and what its numbers make of it does not undo that it ran well."""
    desk.expect(metrics_json='{"a": 1}')
    result = replace(desk.result(metrics_json='{"a": 1}'), run_status=None)
    found = judged_again(result, desk.expected, Expectations({}), desk.site)
    assert (Status.SUCCESS, {"a": 1}) == (found.status, found.metrics)

    desk.expect(metrics_json='{"a": 2}')
    found = judged_again(result, desk.expected, Expectations({}), desk.site)
    assert (Status.ERROR, Status.SUCCESS, True) == (found.status, found.run_status, found.is_complete)
    assert found == recorded_result(desk.run)
    assert Status.SUCCESS is as_judged(replace(result, run_status=None), found.judged, []).run_status


def test_judging_a_build() -> None:
    """It is as good as its flows: one that differs makes it red, though it ran well, and is named."""
    flow = Result(
        "fit", "a", "flow", Status.ERROR, run_status=Status.WARNING, message="1 of 2 metrics differ"
    )
    build = Result("plan", "x", "build", Status.WARNING, run_status=Status.WARNING, message="2 warning lines")
    judged = as_judged(build, Judged(3, 0), [flow])

    assert ("error", "expectation") == (str(judged.status), judged.cause)
    assert "flow fit/a: 1 of 2 metrics differ; 2 warning lines" == judged.message
    assert build == unjudged(judged)
    good = Result("fit", "a", "flow", Status.WARNING, run_status=Status.WARNING)
    assert replace(build, judged=Judged(3, 0)) == as_judged(judged, judged.judged, [good])
    own = as_judged(build, None, [flow])
    assert (own.message, None) == (judged.message, as_judged(own, own.judged, [good]).judged)
    failed = Result("plan", "x", "build", Status.ERROR, "exit", "boom", run_status=Status.ERROR)
    assert failed == as_judged(failed, Judged(3, 0), [flow])


def test_the_text_of_a_failure(desk: Desk) -> None:
    """It is short: what differs, since when, and the commands that look and accept."""
    desk.expect(metrics_json=json.dumps({"rmse": 0.312}))
    result = desk.result({"rmse": 0.347, "peak_mw": 812.4})
    judged = as_judged(result, desk.judged(result, metrics={"peak_mw": {"max": 800}}), [])
    told = Result(
        **{**_fields(judged), "seconds": 12.4, "reasons": {"the code of flows/fit.py is another one": 1}}
    )

    assert [
        "fit/a: 2 of 2 metrics differ (the run ended well, 12.4 s)",
        "  rmse     expected 0.312  found 0.347  +11.2 %  rtol 1e-06",
        "  peak_mw  found 812.4 > max 800  (fit.json, _run.expect)",
        "  since the last good run: the code of flows/fit.py is another one",
        "  look:   ductaflow diff fit/a@expected fit/a",
        "  accept: ductaflow accept fit/a   (not peak_mw: a bound)",
    ] == list(unexpected_lines(told, "fit/a", "fit/a", bounds="fit.json, _run.expect"))

    desk.expect(metrics_json=json.dumps({"peak_mw": 700}))
    beyond = as_judged(result, desk.judged(result, metrics={"peak_mw": {"max": 800}}), [])
    assert (
        "  a bound is not accepted: change it in fit.json, _run.expect"
        == list(unexpected_lines(beyond, "fit/a", "fit/a", bounds="fit.json, _run.expect"))[-1]
    )
