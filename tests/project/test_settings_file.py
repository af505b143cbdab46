"""Settings of a project: what a file may say, and what is said of a file that is wrong."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from ductaflow.common.errors import ConfigError
from ductaflow.project.settings import Project, Settings

#: Each setting with a value that is not its default, as TOML and as the program has it.
VALUES = {
    "config_dir": ('"./scen/"', "scen"),
    "runs_dir": ('"out/all runs"', "out/all runs"),
    "engine": ('"kernel"', "kernel"),
    "timeout": ("90", 90.0),
    "html": ("false", False),
    "report": ("false", False),
    "preload": ('"polars pyarrow"', ("polars", "pyarrow")),
    "keep_previous": ("false", False),
    "rerun_on": ('["config", "environment"]', ("config", "environment")),
    "hash": ('["a b/*", "c"]', ("a b/*", "c")),
    "metrics": ('["./out/summary.json"]', ("out/summary.json",)),
    "expected_dir": ('"golden"', "golden"),
    "durations": ('"ci/durations.json"', "ci/durations.json"),
    "baseline": ('"known.txt"', "known.txt"),
    "memory": ('"1.5 GiB"', "1.5 GiB"),
}
IN_FOLDER = {"durations", "baseline"}


def write(folder: Path, text: str, name: str = "ductaflow.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.at(folder)
    return str(caught.value)


def test_every_setting_is_tried_here() -> None:
    """A new one needs a line above."""
    assert {one.name for one in fields(Settings)} - {"only_changed"} == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_a_setting(tmp_path: Path, name: str) -> None:
    """It is read from either file, and checked where a call or an option gives it."""
    text, value = VALUES[name]
    expected = str(tmp_path / str(value)) if name in IN_FOLDER else value
    file = write(tmp_path, f"{name} = {text}")
    assert expected == getattr(Settings.at(tmp_path), name)
    file.unlink()
    write(tmp_path, f"[tool.ductaflow]\n{name} = {text}\n[tool.other]\nx = 1", "pyproject.toml")
    assert expected == getattr(Settings.at(tmp_path), name)
    assert value == getattr(Settings().but(**{name: value}), name)
    assert Settings() == Settings().but(**{name: None})


def test_folders_given_by_a_call_are_checked_and_followed(tmp_path: Path) -> None:
    """Nested folders are refused as in a file, and the folders of a project follow its settings."""
    with pytest.raises(ConfigError, match="of which none lies in another"):
        Settings().but(config_dir="x", runs_dir="x/y")
    project = Project.at(tmp_path).but(runs_dir="out")
    assert ("out", tmp_path / "out") == (project.settings.runs_dir, project.runs_dir)


def test_defaults(tmp_path: Path) -> None:
    """Without a file, and with one that says nothing."""
    assert Settings() == Settings.at(tmp_path)
    write(tmp_path, "[project]\nname = 'ductaflow'", "pyproject.toml")
    assert Settings() == Settings.at(tmp_path)
    write(tmp_path, "")
    assert Settings() == Settings.at(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{name} = {value}", rf"ductaflow\.toml\.{name} takes ")
        for name in VALUES
        for value in ("{a = 1}", "[1]", "2020-01-01")
    ],
)
def test_a_value_of_the_wrong_type(tmp_path: Path, text: str, said: str) -> None:
    """File and key are named, with what the key takes."""
    write(tmp_path, text)
    with pytest.raises(ConfigError, match=said):
        Settings.at(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timeout = 0", "takes a number of seconds above 0"),
        ("timeout = inf", "takes a number of seconds above 0"),
        ("timeout = nan", "takes a number of seconds above 0"),
        ("timeout = true", "takes a number of seconds above 0"),
        ('engine = "fesh"', "Did you mean fresh?"),
        ('preload = "off polars"', "takes names of modules, or 'off' alone"),
        ('html = "no"', 'takes true or false, not "no"'),
        ('hash = ""', "takes a list of strings"),
        ('rerun_on = "config inputz"', 'has "inputz"\nDid you mean inputs? It takes any of config, code, '),
        *(
            (f"{name} = {value!r}", "takes the name of a folder below the project")
            for name in ("config_dir", "runs_dir", "expected_dir")
            for value in ("", ".", "/tmp/x", "a/../b", "..", "C:/x", "a\\b")
        ),
        ('runs_dir = "Flows"', "which hold the sources"),
        ('config_dir = "builds/x"', "which hold the sources"),
        ('runs_dir = "config"', "of which none lies in another"),
        ('config_dir = "Runs"', "of which none lies in another"),
        ('config_dir = "a"\nruns_dir = "a/b"', "of which none lies in another"),
        ('config_dir = "a/b"\nruns_dir = "a"', "of which none lies in another"),
        ('baseline = ""', "takes the name of a file"),
        ("timout = 3", 'unknown setting "timout"\nDid you mean timeout?'),
        ("ductaflow_html = false", 'unknown setting "ductaflow_html"'),
        ('expected_dir = "runs/x"', "of which none lies in another"),
        ('metrics = ["../x.json"]', "takes names of files in a run folder"),
        ('metrics = ["/x.json"]', "takes names of files in a run folder"),
        ('metrics = ""', "takes a list of strings"),
        ("ram = 1", 'unknown setting "ram"'),
        ("only_changed = true", "pytest --ductaflow-changed"),
        ("[tool.ductaflow]\nhtml = false", "Write its keys without [tool.ductaflow]."),
        ("html = ", "is not TOML"),
        ("html = true\nhtml = false\n", "line 2"),
        ("x = " + "[" * 5000, "is not TOML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """The message has the file, the key and what to do."""
    write(tmp_path, text)
    message = refused(tmp_path)
    assert said in message
    assert str(tmp_path / "ductaflow.toml") in message


def test_a_table_of_the_wrong_type(tmp_path: Path) -> None:
    """In `pyproject.toml` only what is ours is looked at."""
    write(tmp_path, "[tool]\nductaflow = 3", "pyproject.toml")
    assert "tool.ductaflow is a number, not a table\nWrite [tool.ductaflow]." in refused(tmp_path)
    write(tmp_path, "tool = 'ductaflow'", "pyproject.toml")
    assert Settings() == Settings.at(tmp_path)
    write(tmp_path, "[tool.ductaflow]\nhtml = 1", "pyproject.toml")
    assert "pyproject.toml: tool.ductaflow.html takes true or false, not 1" in refused(tmp_path)


def test_both_files_in_one_folder(tmp_path: Path) -> None:
    """The message names them; it does not matter what they say."""
    own = write(tmp_path, "")
    shared = write(tmp_path, "[tool.ductaflow]", "pyproject.toml")
    message = refused(tmp_path)
    assert f"{own} and {shared} both have settings of ductaflow" in message
    shared.write_text("[tool.other]\nname = 'ductaflow'")
    assert Settings() == Settings.at(tmp_path)


def test_a_mark_at_the_beginning_and_other_encodings(tmp_path: Path) -> None:
    """A BOM is accepted; what is not UTF-8 is an error."""
    file = write(tmp_path, "\ufeffhtml = false")
    assert not Settings.at(tmp_path).html
    file.write_bytes(b"html = false # caf\xe9")
    assert "byte 18 is not UTF-8" in refused(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="whoever may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """It is an error: the settings are not guessed."""
    write(tmp_path, "html = false").chmod(0)
    assert "cannot be used" in refused(tmp_path)


def test_a_broken_file_of_others_is_not_read(tmp_path: Path) -> None:
    """A `pyproject.toml` that does not have our name is passed over, broken as it may be."""
    write(tmp_path, "html = false")
    write(tmp_path / "inner", "not = = toml", "pyproject.toml")
    assert not Settings.at(tmp_path / "inner").html


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    """At or above a folder; settings of two files are never mixed."""
    write(tmp_path, "html = false\ntimeout = 9\nbaseline = 'known.txt'")
    inner = tmp_path / "a" / "b"
    assert (False, 9) == (Settings.at(inner).html, Settings.at(inner).timeout)
    assert str(tmp_path / "known.txt") == Settings.at(inner).baseline
    write(tmp_path / "a", "[tool.ductaflow]\nreport = false", "pyproject.toml")
    assert Settings(report=False) == Settings.at(inner)


def test_a_change_of_the_file_is_seen(tmp_path: Path) -> None:
    """In a notebook that lives for days."""
    file = write(tmp_path, "timeout = 9")
    assert 9 == Settings.at(tmp_path).timeout
    file.write_text("timeout = 10")
    assert 10 == Settings.at(tmp_path).timeout
    file.unlink()
    assert Settings.at(tmp_path).timeout is None


def test_the_root_is_where_the_config_folder_is(tmp_path: Path) -> None:
    """By the name that the settings there give it, and nearer than the file that has them."""
    write(tmp_path, "config_dir = 'scen'")
    root = tmp_path / "models" / "one"
    (root / "scen" / "flows").mkdir(parents=True)
    (tmp_path / "config" / "flows").mkdir(parents=True)
    project = Project.around(root / "flows")
    assert (project and project.root, project and project.config_dir) == (root, root / "scen")
    assert Project.around(tmp_path / "models") is None


def test_the_tree_of_a_run(tmp_path: Path) -> None:
    """The runs folder of the project, by whatever way its folder is spelled; else the folder around it."""
    project = Project.at(tmp_path / "p", Settings(runs_dir="out"))
    (project.root / "out").mkdir(parents=True)
    (tmp_path / "link").symlink_to(project.root)
    folder = project.runs_dir / "all" / "b" / "runs" / "fit"
    assert (folder, project.runs_dir) == project.placed(folder)
    assert (folder, project.runs_dir) == project.placed(tmp_path / "link/out/all/b/runs/fit")
    for elsewhere in (project.root / "runs" / "fit" / "a", tmp_path / "runs" / "a", project.runs_dir):
        assert (elsewhere, elsewhere.parent) == project.placed(elsewhere)
