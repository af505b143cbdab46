"""What differs between two versions of a run: instances, previous and expected results, checkouts, flows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import NO_HTML, TinyProject, a_result, stored_at

from ductaflow import Project, load_stored, run_instance
from ductaflow.common.paths import RunFolder
from ductaflow.store.previous import previous_folder

CODE = ["import json", "total = 1"]


def leave(folder: Path, *, code: list[str] = CODE, status: str = "success", **parts: Any) -> Path:
    """Leave what a run of `fit` leaves in a folder: its result, config, notebook, metrics and files."""
    metrics, files = parts.get("metrics", {"rmse": 0.312, "n": 3}), dict(parts.get("files", {}))
    folder.mkdir(parents=True, exist_ok=True)
    files["metrics.json"] = json.dumps(metrics)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text, encoding="utf-8")
    outputs = tuple({"path": name, "size": 1, "mtime": 1, "hash": None} for name in sorted(files))
    run_status = status if status != "error" else None
    result = a_result(
        status, instance=folder.name, outputs=outputs, message="it broke", run_status=run_status
    )
    stored_at(folder, result, **parts.get("config", {"horizon": 2030}))
    cells = [
        {"cell_type": "markdown", "source": ["# Fit"], "metadata": {}},
        {"cell_type": "code", "source": ["config = {}"], "metadata": {"tags": ["injected-parameters"]}},
        *(
            {"cell_type": "code", "source": line, "metadata": {"ductaflow": {"line": 8 + 3 * number}}}
            for number, line in enumerate(code)
        ),
    ]
    RunFolder(folder, "fit").notebook.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    """A project with two instances of `fit`, of which nothing has run."""
    project = TinyProject(tmp_path / "p")
    project.flow("fit", "")
    for name in ("a", "b"):
        project.config(f"flows/fit/{name}.json", horizon=2030)
    return project


def previous(project: TinyProject, name: str) -> Path:
    """Where the last good run of an instance is kept."""
    return previous_folder(project.root / "runs", project.folder("fit", name))


def lines(project: TinyProject, *args: object, code: int = 1) -> list[str]:
    """What `ductaflow diff` prints."""
    done = project.cli("diff", *args)
    assert code == done.exit_code, done.output
    return str(done.output).splitlines()


def test_two_runs_that_are_alike(project: TinyProject) -> None:
    """What was compared is said; the exit code is 0."""
    leave(project.folder("fit", "a"), files={"x.csv": "a\n1\n"})
    leave(project.folder("fit", "b"), files={"x.csv": "a\n1.0\n"})
    assert ["fit/a and fit/b are alike: 2 metrics, 1 file"] == lines(project, "fit/a", "fit[b]", code=0)


def test_everything_that_differs(project: TinyProject) -> None:
    """Config field by field, code by line, metrics by name, files by cell and line; and files of one side."""
    old = {"x.csv": "hour,mw\n7,1.0\n9,2.0\n", "old.txt": "", "s/note.md": "a\nb\n", "pickle": "1"}
    new = {"x.csv": "hour,mw\n7,1.0\n9,2.2\n", "new.txt": "", "s/note.md": "a\nc\n", "pickle": "2"}
    leave(previous(project, "a"), config={"horizon": 2030, "fit": {"rate": 1}, "token": "x"}, files=old)
    leave(
        project.folder("fit", "a"),
        config={"horizon": 2040, "fit": {"rate": 1.0}, "region": None, "token": "y"},
        code=["import json", "total = 2", "more = 1"],
        metrics={"rmse": 0.347, "peak": {"mw": 812.4}},
        files=new,
    )
    assert [
        "fit/a@previous -> fit/a",
        "config",
        "  horizon   old 2030  new 2040  +0.493 %",
        "  fit.rate  old 1  new 1.0",
        "  region    new null  added",
        '  token     old "***"  new "***"',
        "code  2 of 3 lines",
        "  line 11  - total = 1",
        "           + total = 2",
        "  line 14  + more = 1",
        "metrics  3 of 3 differ",
        "  rmse     old 0.312  new 0.347  +11.2 %",
        "  n        old 3  gone",
        "  peak.mw  new 812.4  added",
        "pickle  other content",
        "s/note.md  1 of 2 lines",
        "  line 2  - b",
        "          + c",
        "x.csv  1 of 4 cells, all in mw",
        "  hour 9  old 2  new 2.2  +10 %",
        "only in fit/a@previous: old.txt",
        "only in fit/a: new.txt",
        "compared: 3 metrics, 3 files",
    ] == lines(project, "fit/a")


def test_changes_are_new_minus_old(project: TinyProject) -> None:
    """The second one is the new one, whatever they are."""
    leave(previous(project, "a"), metrics={"x": 1})
    leave(project.folder("fit", "a"), metrics={"x": 2})
    assert "  x  old 1  new 2  +100 %" in lines(project, "fit/a")
    assert "  x  old 2  new 1  -50 %" in lines(project, "fit/a", "fit/a@previous")


def test_a_tolerance(project: TinyProject) -> None:
    """Without one the comparison is exact; what is within it does not differ."""
    leave(project.folder("fit", "a"), metrics={"x": 1.0}, files={"x.csv": "x\n1.0\n"})
    leave(project.folder("fit", "b"), metrics={"x": 1.0 + 1e-9}, files={"x.csv": "x\n1.000000001\n"})
    assert "  x  old 1.0  new 1.000000001  +1e-07 %" in lines(project, "fit/a", "fit/b")
    lines(project, "fit/a", "fit/b", "--rtol", "1e-6", code=0)
    lines(project, "fit/a", "fit/b", "--atol", "1e-6", code=0)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1%"])
def test_a_tolerance_that_is_none(project: TinyProject, value: str) -> None:
    """It is refused: nothing is within NaN, and everything within an infinite one."""
    done = project.cli("diff", "fit/a", "--rtol", value)
    assert (2, True) == (done.exit_code, "Invalid value for '--rtol'" in done.output)


def test_the_previous_run_of_a_real_one(project: TinyProject) -> None:
    """What the last good run wrote is all there: its config, code and metrics too; the page never counts."""
    code = """
    # %%
    from pathlib import Path
    from ductaflow import record
    record(peak_mw=config["horizon"] / 2)
    Path("x.csv").write_text(f"x\\n{config['horizon']}\\n")
    """
    project.flow("fit", code)
    run = lambda: run_instance(load_stored(Project.at(project.root, NO_HTML), "fit/a"))  # noqa: E731
    run()
    run()
    assert ["fit/a@previous and fit/a are alike: 1 metric, 1 file"] == lines(project, "fit/a", code=0)
    project.config("flows/fit/a.json", horizon=2040)
    project.flow("fit", code.replace("/ 2", "/ 4"))
    run()
    assert [
        "fit/a@previous -> fit/a",
        "config",
        "  horizon  old 2030  new 2040  +0.493 %",
        "code  1 of 5 lines",
        '  line 7  - record(peak_mw=config["horizon"] / 2)',
        '          + record(peak_mw=config["horizon"] / 4)',
        "metrics  1 of 1 differ",
        "  peak_mw  old 1015  new 510  -49.8 %",
        "x.csv  1 of 1 cells, all in x",
        "  row 1  old 2030  new 2040  +0.493 %",
        "compared: 1 metric, 1 file",
    ] == lines(project, "fit/a")


def test_expected_results(project: TinyProject) -> None:
    """Config and code are not expected; what a run has besides is counted only."""
    expected = project.root / "expected" / "fit" / "a"
    (expected / "sub").mkdir(parents=True)
    (expected / "metrics.json").write_text('{"rmse": 0.3}')
    (expected / "sub" / "a.json").write_text('{"x": 1}')
    folder = leave(project.folder("fit", "a"), files={"sub/a.json": '{"x": 1, "y": 2}', "more.txt": ""})
    assert [
        "fit/a@expected -> fit/a",
        "metrics  1 of 1 differ",
        "  rmse  old 0.3  new 0.312  +4 %",
        "compared: 1 metric, 1 file; not judged: 2 more",
    ] == lines(project, "fit/a@expected")
    (folder / "sub" / "a.json").write_text('{"x": 2}')
    assert "sub/a.json  1 of 2 values" in lines(project, "fit/a@expected", "fit/a")
    assert "  x  old 2  new 1  -50 %" in lines(project, "fit/a", "fit/a@expected")


def test_run_folders_of_two_checkouts(project: TinyProject, tmp_path: Path) -> None:
    """A folder may lie in another project; where the projects lie makes no difference."""
    for root in (project.root, tmp_path / "q"):
        leave(root / "runs" / "fit" / "a", config={"_project_root": str(root), "raw": f"{root}/raw.csv"})
    (tmp_path / "q" / "config" / "flows").mkdir(parents=True)
    other = tmp_path / "q" / "runs" / "fit" / "a"
    assert "are alike: 2 metrics" in lines(project, other, "fit/a", code=0)[0]
    shutil.move(other, previous_folder(tmp_path / "q" / "runs", other))
    leave(other, metrics={"rmse": 1.0, "n": 3})
    assert "  rmse  old 0.312  new 1  +221 %" in lines(project, other)


def test_a_folder_of_files(project: TinyProject, tmp_path: Path) -> None:
    """Any folder can be compared with a run: all files in it are."""
    leave(project.folder("fit", "a"), files={"x.csv": "x\n1\n"})
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x.csv").write_text("x\n2\n")
    found = lines(project, tmp_path / "kept", "fit/a")
    assert "x.csv  1 of 1 cells, all in x" in found
    assert "metrics  2 of 2 differ" in found


def test_all_runs_of_two_checkouts(project: TinyProject, tmp_path: Path) -> None:
    """Folders with run folders in them are compared by what the runs wrote, not by what we did."""
    for name, mw in (("p", 1), ("q", 2)):
        for instance in "ab":
            leave(
                tmp_path / name / "runs" / "fit" / instance,
                code=[f"x = {mw}"],
                files={"x.csv": f"mw\n{mw}\n"},
            )
        (tmp_path / name / "runs" / ".ductaflow").mkdir()
        (tmp_path / name / "runs" / ".ductaflow" / "kept").write_text(name)
    assert [
        "fit/a/x.csv  1 of 1 cells, all in mw",
        "  row 1  old 1  new 2  +100 %",
        "fit/b/x.csv  1 of 1 cells, all in mw",
        "  row 1  old 1  new 2  +100 %",
        "compared: 0 metrics, 4 files",
    ] == lines(project, tmp_path / "p" / "runs", tmp_path / "q" / "runs")[1:]


def test_a_run_that_is_not_stored_any_more(project: TinyProject) -> None:
    """An id names its run folder, stored or not; so does the folder, also of a flow inside a build."""
    leave(project.folder("fit", "gone"))
    leave(project.root / "runs" / "b" / "x" / "runs" / "fit")
    lines(project, "fit/gone", project.root / "runs" / "b" / "x" / "runs" / "fit", code=0)
    leave(
        previous_folder(project.root / "runs", project.root / "runs" / "b" / "x" / "runs" / "fit"), code=["x"]
    )
    assert "code  2 of 2 lines" in lines(project, project.root / "runs" / "b" / "x" / "runs" / "fit")


def test_metrics_files_with_more_than_metrics(project: TinyProject) -> None:
    """What is no metric is compared as JSON, so that no change is lost."""
    leave(project.folder("fit", "a"), metrics={"x": 1, "curve": [1, 2]})
    leave(project.folder("fit", "b"), metrics={"x": 1, "curve": [1, 3]})
    assert "  curve[1]  old 2  new 3  +50 %" in lines(project, "fit/a", "fit/b")


def test_links_and_folders(project: TinyProject) -> None:
    """Links are compared by where they lead; empty folders by being there."""
    for name, target in (("a", "x"), ("b", "y")):
        folder = leave(project.folder("fit", name), files={"x": "1", "y": "1"})
        (folder / "link").symlink_to(target)
        (folder / "dead").symlink_to("nowhere")
        (folder / "empty").mkdir()
        result = project.result("fit", name)
        extra = tuple(
            {"path": path, "size": 0, "mtime": 1, "hash": None, "kind": kind}
            for path, kind in (("link", "link"), ("dead", "link"), ("empty", "folder"))
        )
        stored_at(folder, a_result(instance=name, outputs=(*result.outputs, *extra)), horizon=2030)
    assert ["fit/a and fit/b are alike: 2 metrics, 5 files"] == lines(project, "fit/a", "fit/b", code=0)


# --- what cannot be compared -------------------------------------------------------------------------------


def test_a_run_that_failed_has_no_outputs_to_compare(project: TinyProject) -> None:
    """Its config and code are compared; what is not is said, and if nothing differs the exit code is 2."""
    leave(previous(project, "a"))
    folder = leave(project.folder("fit", "a"), status="error", config={"horizon": 2031})
    assert [
        "fit/a@previous -> fit/a",
        "  fit/a failed, so it has no outputs to compare: it broke",
        "config",
        "  horizon  old 2030  new 2031  +0.0493 %",
    ] == lines(project, "fit/a")
    stored_at(folder, a_result("error", instance="a", message="it broke"), horizon=2030)
    failed = "fit/a failed, so it has no outputs to compare: it broke"
    assert failed in " ".join(lines(project, "fit/a", code=2))
    project.config("flows/fit/b.json")
    leave(previous(project, "b"), metrics={"x": 1})
    leave(project.folder("fit", "b"), metrics={"x": 1})
    assert ["0 of 2 instances differ", failed] == lines(project, "fit", code=2)
    assert "0 of 2 differ" == lines(project, "fit", "--format", "markdown", code=2)[-1]
    red = a_result("error", instance="a", run_status="success", cause="expectation")
    stored_at(folder, red, horizon=2030)
    assert ["fit/a@previous and fit/a are alike: 2 metrics, 0 files"] == lines(project, "fit/a", code=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit/a"], "fit/a@previous is not kept: there is no "),
        (["fit/a@expected"], "fit/a@expected is not stored: there is no "),
        (["fit/b", "fit/a"], "fit/b has not run: there is no "),
        (["fit/b", "fit/empty"], "fit/b has not run: there is no "),
        (["fit/c"], 'fit has no stored instance "c"'),
        (["fit/a@last"], 'fit has no stored instance "a@last"'),
        (["fit/a@previus"], 'fit has no stored instance "a@previus"\nDid you mean previous?'),
        (["fti"], '"fti" is not the id of an instance\nDid you mean fit?'),
        (["@previous"], ""),
        (["fit", "fit/a"], "fit names 2 instances and fit/a 1: they do not pair by name"),
    ],
)
def test_what_is_not_there_is_an_error(project: TinyProject, arguments: list[str], message: str) -> None:
    """The exit code is 2, and the message says what is missing and what to do."""
    leave(project.folder("fit", "a"))
    project.folder("fit", "empty").mkdir()
    done = project.cli("diff", *arguments)
    assert 2 == done.exit_code, done.output
    assert f"Error: {message}" in done.output
    assert len(done.output.splitlines()) > 1


def test_a_broken_notebook_costs_nothing_else(project: TinyProject) -> None:
    """Then the hashes of the code are compared, if there are any."""
    for name in ("a", "b"):
        folder = leave(project.folder("fit", name))
        RunFolder(folder, "fit").notebook.write_text("{broken")
    assert "are alike" in lines(project, "fit/a", "fit/b", code=0)[0]


# --- many --------------------------------------------------------------------------------------------------


def test_what_moved_most_over_all_instances(project: TinyProject) -> None:
    """The largest relative change comes first, words last; what is left out is named."""
    project.config("flows/fit/c.json", horizon=2030)
    leave(previous(project, "a"), metrics={"x": 1.0, "zone": "n"}, files={"h.csv": "id,mw\nq,1\n"})
    leave(project.folder("fit", "a"), metrics={"x": 1.1, "zone": "s"}, files={"h.csv": "id,mw\nq,3\n"})
    leave(previous(project, "b"), metrics={"x": 2.0}, config={"horizon": 2031})
    leave(project.folder("fit", "b"), metrics={"x": 1.0})
    leave(project.folder("fit", "c"))
    found = lines(project, "fit@previous")
    assert [
        "2 of 2 instances differ",
        "  fit/a, h.csv id q mw  old 1  new 3  +200 %",
        "  fit/b, x              old 2  new 1  -50 %",
        "  fit/a, x              old 1  new 1.1  +10 %",
        '  fit/a, zone           old "n"  new "s"',
        "config in 1: fit/b",
    ] == found[:-1]
    assert found[-1].startswith("left out: fit/c@previous is not kept")
    assert found == lines(project, "fit")


def test_what_is_no_number_any_more_moved_most(project: TinyProject) -> None:
    """So did what was 0, came or went; all of them come before the smallest change that is one."""
    leave(previous(project, "a"), metrics={"x": 1.0, "nan": 2.0, "zero": 0, "went": 3, "word": "n"})
    leave(project.folder("fit", "a"), metrics={"x": 9.0, "nan": None, "zero": 4, "came": 5, "word": "s"})
    leave(previous(project, "b"))
    leave(project.folder("fit", "b"))
    found = [line.split()[1] for line in lines(project, "fit@previous")[1:]]
    assert ({"nan", "zero", "went", "came"}, ["x", "word"]) == ({*found[:4]}, found[4:6])


def test_files_without_cells_to_show(project: TinyProject) -> None:
    """Other content, and rows that came or went, are said by file; many lines are cut, and counted."""
    files = {"x.bin": "1", "h.csv": "id,mw\nq,1\nr,1\n"}
    leave(previous(project, "a"), files=files)
    leave(project.folder("fit", "a"), files={"x.bin": "2", "h.csv": "id,mw\nq,1\n"})
    leave(previous(project, "b"), files={f"{number}.bin": "1" for number in range(30)})
    leave(project.folder("fit", "b"), files={f"{number}.bin": "2" for number in range(30)})
    found = lines(project, "fit")
    assert [
        "2 of 2 instances differ",
        "fit/a: h.csv 1 row gone: id r",
        "fit/a: x.bin other content",
    ] == found[:3]
    assert "and 12 more such lines; --format json has all" == found[-1]
    assert 22 == len(found)


def test_only_left_out_is_no_success(project: TinyProject) -> None:
    """That nothing differs cannot be said then."""
    leave(previous(project, "a"))
    leave(project.folder("fit", "a"))
    assert "0 of 1 instances differ" == lines(project, "fit", code=2)[0]


def test_as_markdown(project: TinyProject) -> None:
    """A table for a comment."""
    leave(previous(project, "a"), metrics={"x|y": 1.0}, files={"h.csv": "id,mw\nq,1\n", "o": ""})
    leave(project.folder("fit", "a"), metrics={"x|y": 1.1}, files={"h.csv": "id,mw\nq,3\n"})
    assert [
        "|  | what | old | new | change |",
        "| --- | --- | ---: | ---: | ---: |",
        "| fit/a | x\\|y | 1 | 1.1 | +10 % |",
        "| fit/a | h.csv  1 of 2 cells, all in mw |  |  |  |",
        "| fit/a | id q, mw | 1 | 3 | +200 % |",
        "| fit/a | only in fit/a@previous: o |  |  |  |",
        "",
        "1 of 1 differ",
    ] == lines(project, "fit/a", "--format", "markdown")


def test_as_json(project: TinyProject) -> None:
    """All that is known, as data."""
    leave(previous(project, "a"), metrics={"x": 1.0})
    leave(project.folder("fit", "a"), metrics={"x": None})
    found = json.loads("\n".join(lines(project, "fit/a", "--format", "json")))
    (diff,) = found["diffs"]
    assert not diff["is_alike"]
    assert [("x", 1.0, None)] == [(one["name"], one["old"], one["new"]) for one in diff["metrics"]]
    assert [] == found["left_out"]
