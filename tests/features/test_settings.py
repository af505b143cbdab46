"""Every command and every way of running sees the settings of the project, from wherever it is reached."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import TinyProject, held_elsewhere, run_pytest

from ductaflow.cli.app import main
from ductaflow.common.paths import RunFolder
from ductaflow.project.graph import collect
from ductaflow.project.settings import Project, Settings

RENAMED = 'config_dir = "scen"\nruns_dir = "out/r"\nhtml = false\nengine = "fresh"\ntimeout = 100'

FIT = """
# %%
from ductaflow import is_notebook_execution, load_cli_config
if not is_notebook_execution():
    config = load_cli_config("scen/flows/fit/a.json")

# %%
open("x.txt", "w").write(str(config["x"]))
"""

BUILD = """
# %%
from ductaflow import run_step_flow

# %%
run_step_flow("flows/fit.py", "fit", "inner", {"x": 2})
"""


@pytest.fixture
def renamed(project: TinyProject) -> Path:
    """A project whose two folders have other names, with a link to it beside it."""
    project.flow("fit", FIT)
    project.flow("all", BUILD, kind="builds")
    project.config("flows/fit/a.json", x=1)
    project.config("builds/all/b.json")
    project.settings(RENAMED)
    (project.root / "config").rename(project.root / "scen")
    (project.root.parent / "link").symlink_to(project.root)
    return project.root


def from_root(root: Path) -> tuple[Path, Path]:
    return root, root


def from_subfolder(root: Path) -> tuple[Path, Path]:
    return root / "flows", root


def through_symlink(root: Path) -> tuple[Path, Path]:
    return root.parent, root.parent / "link"


PLACES = (from_root, from_subfolder, through_symlink)
Place = Callable[[Path], tuple[Path, Path]]


def python(cwd: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def code(text: str) -> Callable[[Path, Path], object]:
    """A way that is some lines of Python, with `root` as the project is reached."""
    return lambda cwd, root: python(
        cwd, "-c", f"from pathlib import Path\nroot = Path({str(root)!r})\n{text}"
    )


def command(*arguments: str) -> Callable[[Path, Path], object]:
    """A way that is a command, told where the project is if it is not around the working directory."""

    def call(cwd: Path, root: Path) -> None:
        inside = [] if cwd.is_relative_to(root) else ["--project", str(root)]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(cwd)
            done = CliRunner().invoke(main, [*arguments, *inside])
        assert 0 == done.exit_code, done.output

    return call


def in_pytest(*arguments: str) -> Callable[[Path, Path], object]:
    def call(cwd: Path, root: Path) -> None:
        path = [] if cwd.is_relative_to(root) else [str(root / "scen")]
        session = run_pytest(cwd, "-k", "fit", *path, *arguments)
        assert (0, True) == (session.code, "1 passed" in session.out), session.out

    return call


#: A call of each; it leaves a run in out/r/fit/a.
RUNS: dict[str, Callable[[Path, Path], object]] = {
    "pytest": in_pytest(),
    "pytest -n": in_pytest("-n", "2"),
    "run": command("run", "fit/a"),
    "script --instance": lambda cwd, root: python(cwd, root / "flows/fit.py", "--instance", "a"),
    "script --config": lambda cwd, root: python(
        cwd, root / "flows/fit.py", "--config", root / "scen/flows/fit/a.json"
    ),
    "script --output-dir": lambda cwd, root: python(
        cwd,
        root / "flows/fit.py",
        "--config",
        root / "scen/flows/fit/a.json",
        "--output-dir",
        root / "out/r/fit/a",
    ),
    "run_notebook": code(
        "from ductaflow import run_notebook\n"
        "run_notebook(root / 'flows/fit.py', config={'x': 1}, execution_dir=root / 'out/r/fit/a')"
    ),
    "conduct": code(
        "import pandas\nfrom ductaflow import conduct\n"
        "conduct(pandas.DataFrame({'instance': ['a'], 'x': [1]}), 'fit', project_root=root)"
    ),
}


def check_tree(root: Path) -> None:
    """There is one tree of runs, and the settings were followed."""
    assert not (root / "runs").exists()
    assert not (root / "config").exists()
    assert [root / "out/r/.ductaflow"] == [
        path for path in root.parent.rglob(".ductaflow") if root in path.parents
    ]
    assert [] == [page for page in root.rglob("*.html") if page.name != "conductor_status_report.html"]


def ways() -> Iterator[object]:
    """Each way from the root of the project; from elsewhere one of each process that looks for it."""
    looks = ("pytest", "run", "script --instance", "run_notebook")
    for way, place in itertools.product(RUNS, PLACES):
        is_one = place is from_root or way in looks
        marks = () if is_one else pytest.mark.campaign
        yield pytest.param(way, place, marks=marks, id=f"{way}-{place.__name__}")


@pytest.mark.slow
@pytest.mark.parametrize(("way", "place"), list(ways()))
def test_every_way_of_running(renamed: Path, way: str, place: Place) -> None:
    """It finds what is stored, runs into the runs folder of the project, and follows its settings."""
    RUNS[way](*place(renamed))
    assert "1" == (renamed / "out/r/fit/a/x.txt").read_text()
    check_tree(renamed)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_command(renamed: Path, place: Place) -> None:
    """Each finds what is stored and what has run, a flow inside a build by its folder too."""
    where = place(renamed)
    command("run", "all/b", "fit/a", "-j", "2")(*where)
    inner = str(renamed / "out/r/all/b/out/r/fit/inner")
    assert "2" == Path(inner, "x.txt").read_text()
    for arguments in (
        *(["list"], ["status"], ["plan"], ["logs"], ["graph"], ["report"], ["clean", "--dry-run"]),
        *(["why", "fit/a"], ["show", "fit/a"], ["debug", "fit/a"], ["new", "flow", "other"]),
        *(["status", inner], ["why", inner], ["show", inner], ["run", inner], ["run", "--changed"]),
    ):
        command(*arguments)(*where)
    assert (renamed / "scen/flows/other.json").is_file()
    check_tree(renamed)


def test_interactive_work_is_noted_in_the_tree(renamed: Path) -> None:
    """`load_instance` finds the instance and leaves its note where the next run looks for it."""
    code("from ductaflow import load_instance\nassert 1 == load_instance('fit/a')['x']")(renamed, renamed)
    assert 1 == len(list((renamed / "out/r/.ductaflow/running").glob("*.hand")))
    check_tree(renamed)


@pytest.mark.slow
def test_a_run_folder_belongs_to_one_session(renamed: Path) -> None:
    """While a session holds it, no other way of running gets in, and each says who holds it."""
    folder = renamed / "out/r/fit/a"
    saved = renamed / "saved.json"
    command("run", "fit/a")(renamed, renamed)
    saved.write_bytes((folder / "fit_config.json").read_bytes())
    ways = {
        "run FOLDER": [*CLI, "run", str(folder)],
        "run ID": [*CLI, "run", "fit/a"],
        "script": ["flows/fit.py", "--config", str(saved), "--output-dir", str(folder)],
        "run_notebook": ["-c", NOTEBOOK],
        "run_instance": ["-c", "from ductaflow import run_instance\nrun_instance('fit/a')"],
        "pytest": ["-m", "pytest", "--ductaflow", "-k", "fit"],
    }
    with held_elsewhere(folder, renamed / "out/r"):
        for file in (RunFolder(folder, "fit").config, RunFolder(folder, "fit").log):
            file.write_bytes(saved.read_bytes())
        for way, arguments in ways.items():
            done = subprocess.run(
                [sys.executable, *arguments], cwd=renamed, capture_output=True, text=True, check=False
            )
            assert 0 != done.returncode, way
            assert "another session" in done.stdout + done.stderr, (way, done.stdout, done.stderr)
    check_tree(renamed)


CLI = ["-m", "ductaflow"]
NOTEBOOK = "import ductaflow as d; d.run_notebook('flows/fit.py', config={}, execution_dir='out/r/fit/a')"


@pytest.mark.slow
def test_flows_of_a_build_follow_the_settings(project: TinyProject) -> None:
    """Engine, time limit and pages of a flow inside a build are those of the session."""
    show = "import json, os\nprint(json.loads(os.environ['DUCTAFLOW_RUN'])['settings'])\n"
    project.flow("fit", show)
    project.flow("all", BUILD + show, kind="builds")
    project.config("builds/all/b.json")
    project.settings('keep_previous = false\nrerun_on = "config"\nhash = "big/**"')
    session = run_pytest(
        project.root, "--ductaflow-timeout", "77", "--ductaflow-no-html", "--ductaflow-engine", "fresh"
    )
    assert 0 == session.code, session.out
    expected = Settings(
        engine="fresh", timeout=77, html=False, keep_previous=False, rerun_on=("config",), hash=("big/**",)
    )
    for log in (project.folder("all", "b") / "runs/fit/inner/fit_execution_output.txt",):
        said = log.read_text()
        for name in ("engine", "timeout", "html", "keep_previous"):
            assert repr(getattr(expected, name)) in said
        assert "'rerun_on': ['config']" in said
    assert [] == list(project.root.rglob("fit.html"))


def test_settings_travel_with_an_instance(renamed: Path) -> None:
    """A worker on another machine gets them with what it runs."""
    (instance, *_) = collect(Project.at(renamed).but(timeout=5)).all
    assert instance.project == pickle.loads(pickle.dumps(instance)).project
    assert (5, "out/r") == (instance.project.settings.timeout, instance.project.settings.runs_dir)


@pytest.mark.slow
def test_projects_of_one_repository(project: TinyProject, tmp_path: Path) -> None:
    """Each has the settings of the nearest file above it; the files that a session writes must be one."""
    top = tmp_path / "repository"
    for name, runs in (("one", "runs1"), ("two", "runs2")):
        (top / name / "scen/flows").mkdir(parents=True)
        (top / name / "flows").mkdir()
        (top / name / "flows/fit.py").write_text("print(1)\n")
        (top / name / "scen/flows/fit.json").write_text("{}")
        (top / name / "ductaflow.toml").write_text(f'config_dir = "scen"\nruns_dir = "{runs}"\n')
    (top / "pytest.ini").write_text("[pytest]\n")
    session = run_pytest(top, "one", "two")
    assert (0, True) == (session.code, "2 passed" in session.out), session.out
    assert (top / "one/runs1/fit/default/result.json").is_file()
    assert (top / "two/runs2/fit/default/result.json").is_file()
    for name in ("one", "two"):
        with (top / name / "ductaflow.toml").open("a") as file:
            file.write('baseline = "known.txt"\n')
    session = run_pytest(top, "one", "two", "--ductaflow-baseline-update")
    assert (4, True) == (
        session.code,
        "Give the one for this session: --ductaflow-baseline FILE" in session.out,
    )


def test_a_session_with_wrong_settings_does_not_begin(project: TinyProject) -> None:
    """pytest and the commands say what is wrong in the file; nothing has run."""
    project.flow("fit", "print(1)")
    project.config("flows/fit.json")
    project.settings("timout = 3")
    session = run_pytest(project.root)
    done = CliRunner().invoke(main, ["run", "fit", "--project", str(project.root)])
    assert (4, 2) == (session.code, done.exit_code)
    for said in (session.out, done.output):
        assert f'{project.root / "ductaflow.toml"}: unknown setting "timout"\nDid you mean timeout?' in said
    assert not (project.root / "runs").exists()


def test_without_the_flag_nothing_is_read(project: TinyProject) -> None:
    """Ordinary sessions of pytest do not care for settings."""
    (project.root / "test_it.py").write_text("def test_it(): pass\n")
    project.settings("timout = 3")
    session = run_pytest(project.root, "test_it.py", flag="")
    assert (0, True) == (session.code, "1 passed" in session.out), session.out
