"""What a flow calls about its config."""

from __future__ import annotations

import glob
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.common.errors import ConfigError, InstanceError
from ductaflow.common.host import is_notebook_execution
from ductaflow.flow import display_config_summary, load_instance, unpack_config
from ductaflow.session.runner import run_notebook


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "inputs").mkdir()
    return tmp_path


def test_unpacked_keys_and_paths(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paths of the project are absolute, those by key are plain, everything else stays as it is."""
    config = {
        "_project_root": str(root),
        "raw": "inputs/raw.csv",
        "clean": "runs/prep/a/clean.csv",
        "ratio": "a/b",
        "out_dir": "figures",
        "up_file": "../prep/x.csv",
        "deep": {"list": ["inputs/a.csv", 1], "host": "h"},
        "n": 5,
        "nothing": None,
    }
    before = json.dumps(config)
    variables = unpack_config(config, "fit")
    assert root / "inputs/raw.csv" == variables["raw"]
    assert root / "runs/prep/a/clean.csv" == variables["clean"]
    assert "a/b" == variables["ratio"]
    assert Path("figures") == variables["out_dir"]
    assert Path("../prep/x.csv") == variables["up_file"]
    assert [root / "inputs/a.csv", 1] == variables["list"]
    assert ("h", 5, None) == (variables["host"], variables["n"], variables["nothing"])
    assert {"list", "host"} == set(variables["deep"])
    assert before == json.dumps(config)
    shown = capsys.readouterr().out
    assert "fit: 11 variables from 9 keys" in shown
    assert 'host = "h" (flattened)' in shown


def test_patterns_stay_strings(tmp_path: Path) -> None:
    """They are absolute as other paths are, and `glob.glob` takes them, wherever the project lies."""
    root = tmp_path / "project [2]"
    (root / "inputs").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "b[1].csv"):
        (root / "inputs" / name).touch()
    config = {
        "_project_root": str(root),
        "all": "inputs/[ab].csv",
        "deep": "./inputs/**/*.csv",
        "one": "inputs/b[1].csv",
        "own_file": "parts/*.csv",
    }
    variables = unpack_config(config, "fit")
    assert [str(root / "inputs" / name) for name in ("a.csv", "b.csv")] == sorted(glob.glob(variables["all"]))
    assert 3 == len(glob.glob(variables["deep"], recursive=True))
    assert root / "inputs/b[1].csv" == variables["one"]
    assert "parts/*.csv" == variables["own_file"]


def test_keys_that_clash_are_not_flattened(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two nested keys of one name, or one like a top-level key, keep their place and are named."""
    config = {"a": {"host": 1, "port": 2}, "b": {"host": 3}, "port": 4}
    variables = unpack_config(config, "fit")
    assert "host" not in variables
    assert 4 == variables["port"]
    assert {"host": 1, "port": 2} == variables["a"]
    assert "not flattened, since the names clash: a.host, b.host, a.port" in capsys.readouterr().out


def test_variables_are_set_in_the_namespace(root: Path) -> None:
    """`locals()` of a notebook gets the variables, again too; a module of the flow is not replaced."""
    namespace: dict[str, object] = {"json": json, "x": 0}
    unpack_config({"x": 1}, "fit", namespace)
    unpack_config({"x": 2}, "fit", namespace)
    assert 2 == namespace["x"]
    with pytest.raises(ConfigError, match="'json' would replace the module 'json'"):
        unpack_config({"json": 1}, "fit", namespace)


def test_secrets_are_not_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values of keys that look like passwords are masked in every summary."""
    config = {"database": {"password": "hunter2", "host": "h"}}
    unpack_config(config, "fit")
    display_config_summary(config, "fit")
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert "database.host" in shown


def test_this_is_no_notebook() -> None:
    """A plain Python process is no notebook."""
    assert not is_notebook_execution()


def test_a_summary_in_a_notebook_is_a_table(project: TinyProject) -> None:
    """In a notebook the config is a Markdown table in which nothing is markup, in the log it is text."""
    source = project.flow(
        "fit", "# %%\nfrom ductaflow import display_config_summary\ndisplay_config_summary(config, 'fit')\n"
    )
    run_notebook(
        source,
        config={"x": "<b>|*"},
        execution_dir=project.folder("fit", "a"),
        export_html=False,
    )
    text = (project.folder("fit", "a") / "fit.ipynb").read_text()
    assert "&lt;b&gt;&#124;&#42;" in text
    log = (project.folder("fit", "a") / "fit_execution_output.txt").read_text(encoding="utf-8")
    assert '"<b>|*"' in log


INTERACTIVE = """
import json, os
from ductaflow import load_instance
config = load_instance({target!r})
print("CONFIG", json.dumps(config))
print("CWD", os.getcwd())
"""


@pytest.mark.parametrize("target", ["fit/a", "runs/fit/a", "runs/fit/a/fit_config.json"])
def test_interactive_work(project: TinyProject, target: str) -> None:
    """An instance, a run folder or a saved config: the config, and the run folder as working directory."""
    source = project.flow("fit", "# %%\n1\n")
    project.config("flows/fit/a.json", x=1, password="hunter2")
    if target != "fit/a":
        folder = project.folder("fit", "a")
        config = {"x": 1, "password": "hunter2"}
        run_notebook(source, config=config, execution_dir=folder, export_html=False)
    code = INTERACTIVE.format(target=target)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.root / "flows", capture_output=True, text=True, check=True
    )
    lines = dict(
        line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("CONFIG", "CWD"))
    )
    assert str(project.folder("fit", "a")) == lines["CWD"]
    assert {"x": 1, "password": "hunter2", "_project_root": project.root.as_posix()} == json.loads(
        lines["CONFIG"]
    )
    assert "hunter2" not in done.stdout.split("CONFIG")[0]


def test_interactive_work_on_what_is_not_there(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder without a config, an unknown instance, no project: each says what is needed."""
    project.flow("fit", "# %%\n1\n")
    project.config("flows/fit/scenario.json", x=1)
    monkeypatch.chdir(project.root)
    with pytest.raises(InstanceError, match="scenario"):
        load_instance("fit/scenari")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstanceError, match=r"one saved config .* is needed there, found none"):
        load_instance(tmp_path / "empty")
    monkeypatch.chdir("/")
    with pytest.raises(InstanceError, match="lies in no project"):
        load_instance("fit/scenario")
