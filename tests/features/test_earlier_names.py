"""Code that was written for the single-file ductaflow: its names of arguments, and what to write instead."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import TinyProject

import ductaflow
from ductaflow import (
    DuctaflowError,
    analyze_execution_logs,
    debug_flow,
    display_config_summary,
    generate_config_markdown,
    generate_status_report,
    run_notebook,
    run_step_flow,
    unpack_config,
)
from ductaflow.common.renamed import also_named


@pytest.mark.slow
def test_runs_by_their_earlier_arguments(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the notebooks, the kernel's limit, and the names of paths."""
    project.flow("fit", '# %%\nprint("n is", config["n"])\n')
    monkeypatch.chdir(project.root)

    by_folder = run_notebook(
        "fit.py", "flows", config={"n": 1}, execution_dir="runs/fit/a", timeout=60, export_html=False
    )
    by_step = run_step_flow(notebook_path="flows/fit.py", step_name="fit", instance_name="b", config={"n": 2})

    assert [project.root / "runs/fit/a/fit.ipynb", project.root / "runs/fit/b/fit.ipynb"] == [
        by_folder,
        by_step,
    ]
    assert "success" == analyze_execution_logs(output_dir="runs/fit/a")
    page = generate_status_report([{"scenario": "a", "flow": "fit"}], model_root=Path("runs"))
    assert "fit/a" in page


def test_a_suffix_of_the_notebook_is_refused_with_what_to_write(project: TinyProject) -> None:
    """The names in a run folder are the same for all runs."""
    with pytest.raises(DuctaflowError, match=r"the executed notebook is <flow>\.ipynb") as raised:
        run_notebook("fit.py", config={}, execution_dir="runs/fit/a", output_suffix="_executed")

    assert "execution_dir" in raised.value.hint


def test_debugging_begins_anew_by_force(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs wrote there is moved away, a person's file stays, and the config of the last run is taken."""
    project.flow("fit", "pass\n")
    monkeypatch.chdir(project.root)
    debug_flow("flows/fit.py", "runs/fit/a", {"n": 1})
    run_notebook("flows/fit.py", config={"n": 1}, execution_dir="runs/fit/a", export_html=False)
    (project.root / "runs/fit/a/notes.txt").write_text("mine")

    debug_flow(flow_path="flows/fit.py", execution_dir="runs/fit/a", force=True)

    moved = Path(re.search(r"moved away: (.+)", capsys.readouterr().out).group(1))
    assert (moved / "result.json").is_file()
    folder = project.root / "runs/fit/a"
    assert ["fit.ipynb", "fit_config.json", "notes.txt"] == sorted(path.name for path in folder.iterdir())
    assert 1 == json.loads((folder / "fit_config.json").read_text())["n"]


def test_configs_are_shown_and_unpacked_by_their_earlier_names(capsys: pytest.CaptureFixture[str]) -> None:
    """`flow_name` and `caller_locals`; a name need not be given."""
    variables: dict[str, object] = {}
    unpack_config({"x": 1}, flow_name="fit", caller_locals=variables)
    display_config_summary({"x": 1}, flow_name="trend")
    display_config_summary({"y": 2})

    assert {"x": 1} == variables
    assert {"fit: 1 variables from 1 keys", "trend:", "config:"} <= {*capsys.readouterr().out.splitlines()}
    text = generate_config_markdown({"x": 1, "a": {"b": "c|d"}, "api_key": "secret"}, flow_name="fit")
    assert ["**fit**", "", "| parameter | value |", "|---|---|"] == text.splitlines()[:4]
    assert ["| `x` | 1 |", '| `a.b` | "c&#124;d" |'] == text.splitlines()[4:6]
    assert "secret" not in text


def test_what_is_gone_says_what_to_write_instead() -> None:
    """In the error of the import."""
    for name in ("setup_execution_logging", "setup_conductor_logging"):
        with pytest.raises(ImportError, match=f"there is no {name} any more: what a flow prints is its log"):
            getattr(ductaflow, name)


def test_an_argument_is_given_once() -> None:
    """Not by both of its names."""

    @also_named(old="new")
    def function(new: int = 0) -> int:
        return new

    assert (3, 4, 5) == (function(3), function(new=4), function(old=5))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"function\(\) got old and new, which are the same"):
        function(old=1, new=2)  # type: ignore[call-arg]
