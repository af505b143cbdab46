"""Which files are ours, and whose run folder a folder is: by what lies there, not by name alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ductaflow.common.paths import (
    CACHE_DIR,
    REPORT_HTML,
    REPORT_JSON,
    RunFolder,
    flow_of,
    is_ours,
    names_of_ours,
)

OWN = ["fit.ipynb", "fit.html", "fit_config.json", "fit_execution_output.txt", "result.json"]


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def ours(folder: Path) -> set[str]:
    """The names that are ours, asked for all at once and one by one."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    found = names_of_ours(str(folder), names)
    assert found == {name for name in names if is_ours(str(folder / name))}
    return found


@pytest.mark.parametrize(
    "others",
    [
        ["x.csv", "metrics.json"],
        ["x_config.json"],
        ["x_execution_output.txt", "x.html", "x.ipynb"],
        ["fit_report.html", "fit2.ipynb", "my_result.json"],
        [REPORT_HTML, REPORT_JSON],
    ],
)
def test_what_a_flow_writes_is_never_ours(tmp_path: Path, others: list[str]) -> None:
    """In a run folder only the files of its own run are ours, whatever the flow calls its own files."""
    assert set(OWN) == ours(put(tmp_path / "runs" / "fit" / "A", *OWN, *others))


@pytest.mark.parametrize(
    "names",
    [
        ["result.json"],
        ["result.json", "x.csv", "other_config.json"],
        ["fit_execution_output.txt"],
        ["fit_execution_output.txt", "result.json"],
        ["fit_config.json", "fit.html", "fit.ipynb", "result.json"],
        [REPORT_JSON, REPORT_HTML],
    ],
)
def test_a_file_of_the_project_is_not_ours_by_its_name(tmp_path: Path, names: list[str]) -> None:
    """`inputs/result.json` or a log that somebody put aside is a file of the project."""
    assert set() == ours(put(tmp_path / "inputs", *names))


def test_a_run_as_a_script_and_the_report(tmp_path: Path) -> None:
    """The log of a script does too; the report lies in the runs folder, where our own folder is."""
    names = ["fit_config.json", "fit_cli_execution_output.txt", "result.json"]
    assert set(names) == ours(put(tmp_path / "a", *names))
    runs = put(tmp_path / "runs", REPORT_HTML, REPORT_JSON, "notes.html")
    (runs / CACHE_DIR).mkdir()
    assert {REPORT_HTML, REPORT_JSON} == ours(runs)


def test_several_flows_in_one_folder(tmp_path: Path) -> None:
    """A folder that two flows ran in has the files of both."""
    two = [name.replace("fit", "prep") for name in OWN]
    assert {*OWN, *two} == ours(put(tmp_path, *OWN, *two))


@pytest.mark.parametrize(
    ("folder", "names", "flow"),
    [
        ("runs/fit/A", OWN, "fit"),
        ("runs/fit/A", [*OWN, "x_config.json"], "fit"),
        ("elsewhere", [*OWN, "x_config.json"], "fit"),
        ("runs/fit/A", ["fit_config.json", "x_config.json"], "fit"),
        ("builds/runs/fit", ["fit_config.json", "x_config.json"], "fit"),
        ("elsewhere", ["fit_config.json"], "fit"),
        ("elsewhere", ["fit_config.json", "x_config.json"], None),
        ("elsewhere", ["result.json"], None),
        ("runs/fit/A", [], None),
    ],
)
def test_whose_run_folder_it_is(tmp_path: Path, folder: str, names: list[str], flow: str | None) -> None:
    """The flow with a saved config and a log; else the one whose name the folders have, or the only one."""
    assert flow == flow_of(put(tmp_path / folder, *names))


def test_a_folder_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    """Asking about what does not exist is no error."""
    assert flow_of(tmp_path / "none") is None
    assert not is_ours(str(tmp_path / "none" / "result.json"))
    assert not is_ours(str(RunFolder(tmp_path / "none", "fit").html))
