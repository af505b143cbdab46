"""`ductaflow init` and `ductaflow new`: what they make works at once, and they replace nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from support import TinyProject, run_pytest

from ductaflow.cli.app import main
from ductaflow.cli.scaffold import init_project, new_source
from ductaflow.cli.vendor import pytest_command
from ductaflow.common.errors import DuctaflowError, InstanceError
from ductaflow.project.instances import find_instances
from ductaflow.project.settings import Project
from ductaflow.project.vendored import DISTRIBUTION

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.mark.slow
def test_the_first_session_of_a_new_project_is_green(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a new flow and a new build added to it, and with warnings as errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts"), prepend=os.pathsep)
    made = CliRunner().invoke(main, ["init", "study"])
    assert (0, "Now: cd study && pytest --ductaflow") == (made.exit_code, made.output.splitlines()[-1])
    root = tmp_path / "study"
    monkeypatch.chdir(root)
    for kind, name in (("flow", "prep"), ("build", "all-of-it")):
        added = CliRunner().invoke(main, ["new", kind, name])
        folder = f"{kind}s"
        assert [str(root / folder / f"{name}.py"), str(root / "config" / folder / f"{name}.json")] == sorted(
            added.output.splitlines(), key=lambda line: line.endswith(".json")
        )
    config = root / "config" / "builds" / "all-of-it.json"
    config.write_text(json.dumps({"flows": {"prep": {"x": 1}}}))
    session = run_pytest(root, "-v", "-W", "error::ductaflow.FlowWarning")
    assert (0, True) == (session.code, "5 passed" in session.out), session.out
    titles = {"growth[default]", "prep[default]", "projection[low]", "projection[high]", "all-of-it[default]"}
    assert titles == set(session.ran)
    assert (root / "runs/all-of-it/default/runs/prep/result.json").is_file()
    ignored = (root / ".gitignore").read_text().splitlines()
    assert {"/runs/", "__pycache__/"} <= set(ignored)
    assert {".github", ".gitignore", "README.md", "builds", "config", "flows", "requirements.txt"} == {
        path.name for path in root.iterdir()
    } - {"runs", ".pytest_cache", "__pycache__"}


@pytest.mark.slow
def test_what_init_says_works_word_for_word(tmp_path: Path) -> None:
    """Where the environment is not on the path of the shell, its Python is named."""
    shell = {**os.environ, "PATH": os.defpath}
    made = subprocess.run(
        [sys.executable, "-m", "ductaflow", "init", "a study"],
        cwd=tmp_path,
        env=shell,
        capture_output=True,
        text=True,
        check=True,
    )
    line = made.stdout.splitlines()[-1].removeprefix("Now: ")

    done = subprocess.run(
        f"{line} --co -q", shell=True, cwd=tmp_path, env=shell, capture_output=True, text=True
    )

    assert f"cd 'a study' && {sys.executable} -m pytest --ductaflow" == line
    assert (0, True) == (done.returncode, "3 tests collected" in done.stdout), done.stdout + done.stderr


def test_the_next_command_after_uvx(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts what is not there any more with the same package: of the index, or a given wheel."""
    given = metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}"
    source = json.loads(given).get("url", DISTRIBUTION)
    monkeypatch.setenv("UV", "/usr/bin/uv")
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts"), prepend=os.pathsep)

    assert f"{sys.executable} -m pytest" == pytest_command()
    monkeypatch.setattr(sys, "prefix", "/home/me/.cache/uv/archive-v0/WlmWZBbSuE9QzqWV")
    assert f"uvx --with {source} pytest" == pytest_command()


def test_the_ci_file_of_a_new_project(tmp_path: Path) -> None:
    """It installs what the project names, runs its scenarios, and keeps the report whatever comes of them."""
    init_project(tmp_path)
    workflow = yaml.safe_load((tmp_path / ".github/workflows/scenarios.yml").read_text())
    *_, install, run, pack, keep = workflow["jobs"]["scenarios"]["steps"]
    assert "pip install -r requirements.txt" == install["run"]
    assert "pytest-ductaflow\n" == (tmp_path / "requirements.txt").read_text()
    assert run["run"].startswith("pytest --ductaflow")
    assert ("always()", "ductaflow report --bundle report") == (pack["if"], pack["run"])
    assert ("always()", True) == (keep["if"], "report/" in keep["with"]["path"])


def test_init_replaces_nothing(tmp_path: Path) -> None:
    """One file in the way, and none is written; other files do not hinder."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/growth.py").write_text("mine")
    with pytest.raises(DuctaflowError, match=r"there is already .*growth\.py") as caught:
        init_project(tmp_path)
    assert "Nothing was written" in caught.value.hint
    assert {"notes.txt", "flows"} == {path.name for path in tmp_path.iterdir()}
    (tmp_path / "flows/growth.py").unlink()
    init_project(tmp_path)
    assert "mine" == (tmp_path / "notes.txt").read_text()
    with pytest.raises(DuctaflowError, match="holds a project already"):
        init_project(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DuctaflowError, match="cannot write"):
        init_project(tmp_path / "file" / "below")


def test_init_in_a_repository_that_exists(tmp_path: Path) -> None:
    """What every repository has stays as it is, each with a line that says so; the rest is written."""
    names = ["README.md", ".gitignore", "requirements.txt"]
    for name in names:
        (tmp_path / name).write_text("mine")
    lines = CliRunner().invoke(main, ["init", str(tmp_path)]).output.splitlines()
    for name in names:
        assert "mine" == (tmp_path / name).read_text()
        assert 1 == sum(line.startswith(f"{tmp_path / name} is there already") for line in lines)
    assert (tmp_path / "flows/growth.py").is_file()


@pytest.mark.skipif(os.name == "nt", reason="what a POSIX shell makes of a line")
@pytest.mark.parametrize("name", ["with space", "-dash", "it's"])
def test_the_line_that_init_gives_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the folder is called, `cd` of a shell goes there."""
    monkeypatch.chdir(tmp_path)
    last = CliRunner().invoke(main, ["init", "--", name]).output.splitlines()[-1]
    command = last.removeprefix("Now: ").partition(" && ")[0]
    done = subprocess.run(["sh", "-c", f"{command} && pwd"], capture_output=True, text=True, check=True)
    assert str(tmp_path / name) == done.stdout.strip(), shlex.split(command)


def test_init_of_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty name, such as that of a variable that is not set, is not the working directory."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["init", ""])
    assert (2, []) == (done.exit_code, list(tmp_path.iterdir()))
    assert "ductaflow init ." in done.output


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a b", "cannot be a name"),
        ("../x", "cannot be a name"),
        ("", "cannot be called nothing"),
        ("json", "it would hide the module of that name"),
        ("pandas", "it would hide the module of that name"),
        ("ductaflow", "it would hide the module"),
        ("Fit", r"there is flows/fit\.py already"),
        ("fit", r"there is flows/fit\.py already"),
        ("taken", r"there is already .*taken\.json"),
    ],
)
@pytest.mark.parametrize("kind", ["flow", "build"])
def test_names_that_are_refused(project: TinyProject, kind: str, name: str, fault: str) -> None:
    """By the rules for instances, and flows and builds share one namespace; nothing is written."""
    project.flow("fit", "# %%\n")
    project.config("flows/taken.json")
    project.config("builds/taken.json")
    before = sorted(project.root.rglob("*"))
    with pytest.raises(DuctaflowError, match=fault) as caught:
        new_source(Project.at(project.root), "flow" if kind == "flow" else "build", name)
    assert caught.value.hint
    # nothing is there that could be renamed, and no name stands for none
    assert not re.search("Rename|instance would do", caught.value.hint)
    assert isinstance(caught.value, InstanceError) or name == "taken"
    assert before == sorted(project.root.rglob("*"))


def test_a_new_flow_is_stored_under_its_name(project: TinyProject) -> None:
    """Its name is all that differs from the template, and its one instance has no problem."""
    source, config = new_source(Project.at(project.root), "flow", "fit_2.b")
    assert (project.root / "flows" / "fit_2.b.py", project.root / "config/flows/fit_2.b.json") == (
        (source, config) if source.suffix == ".py" else (config, source)
    )
    text = (project.root / "flows" / "fit_2.b.py").read_text()
    assert (0, True) == (text.count("new_flow"), "config/flows/fit_2.b.json" in text)
    (instance,) = find_instances(Project.at(project.root))
    assert ("fit_2.b/default", None) == (instance.id, instance.problem)
