"""`ductaflow vendor`: the whole product in one file, where neither it nor what few have is installed."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ductaflow.cli import one_file
from ductaflow.cli.vendor import CONFTEST_LINE, is_one_file, one_file_text, vendor
from ductaflow.common.errors import DuctaflowError
from ductaflow.store.result import Status, read_result

pytestmark = pytest.mark.slow

#: What these environments do not have: ours, and the packages that ours can do without.
MISSING = (
    *("pytest_ductaflow", "_editable_impl_pytest_ductaflow", "__editable__", "ductaflow"),
    *("filelock", "msgspec", "xdist", "pytest_xdist"),
)
FLOW = """\
# %% tags=["parameters"]
config = {}

# %%
import json
import sys

from ductaflow import is_notebook_execution, load_cli_config, record, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/fit.json", "Fit")

# %%
settings = unpack_config(config, "fit")
assert "msgspec" not in sys.modules
record(twice=2 * settings["n"])
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has neither the package, nor filelock, msgspec and xdist."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("[Ll]ib/**/site-packages")
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not entry.name.startswith(MISSING) and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    return next(folder.glob("bin/python"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/flows").mkdir(parents=True)
    (tmp_path / "project/config/flows").mkdir(parents=True)
    (tmp_path / "project/flows/fit.py").write_text(FLOW)
    (tmp_path / "project/config/flows/fit.csv").write_text("instance,n\na,1\nb,2\n")
    vendor(tmp_path / "project")
    return tmp_path / "project"


def run(python: Path, project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a project with a cache of its own."""
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(project.parent), "XDG_CACHE_HOME": str(project.parent / "cache"), **variables}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def test_commands_tests_and_scripts_work_beside_it(python: Path, project: Path) -> None:
    """The file is all that a project needs, and all that it gets."""
    (project / "conftest.py").write_text(f"{CONFTEST_LINE}\n")
    (project / "conductor.py").write_text(
        "from ductaflow import run_notebook\n"
        'print(run_notebook("flows/fit.py", config={"n": 4}, execution_dir="runs/fit/by_hand"))\n'
    )

    ended = run(python, project, "ductaflow.py", "run", "fit/a")
    assert 0 == ended.returncode, ended.stderr
    ended = run(python, project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ductaflow")
    assert 0 == ended.returncode, ended.stdout
    assert "2 passed" in ended.stdout
    for arguments in (["conductor.py"], ["-m", "flows.fit", "--instance", "b"]):
        ended = run(python, project, *arguments)
        assert 0 == ended.returncode, ended.stderr

    assert [Status.SUCCESS] * 3 == [
        read_result(path).status for path in sorted((project / "runs/fit").iterdir())
    ]
    assert ["conductor.py", "config", "conftest.py", "ductaflow.py", "flows", "runs"] == sorted(
        os.listdir(project)
    )
    [whole] = (project.parent / "cache/ductaflow/one_file").iterdir()
    assert one_file.BUNDLED in os.listdir(whole)


def test_many_processes_unpack_it_at_once_and_repair_it(python: Path, project: Path) -> None:
    """Each of them finds a whole copy, also after a part of it has been cleaned away."""
    place = project.parent / "cache/ductaflow/one_file"
    for _ in range(2):
        with ThreadPoolExecutor(6) as threads:
            ended = [*threads.map(lambda _: run(python, project, "ductaflow.py", "--version"), range(6))]

        assert [(0, "")] * 6 == [(one.returncode, one.stderr) for one in ended]
        [whole] = place.iterdir()
        (whole / "ductaflow/common/errors.py").unlink()
        shutil.rmtree(whole / "ductaflow/report")


def test_where_the_cache_cannot_be_written_a_temporary_folder_is_used(python: Path, project: Path) -> None:
    """A folder in which others may write is no place for code. Where there is no place, that is said."""
    (project.parent / "cache").write_text("a file is in its place")
    temporary = project.parent / "temporary"
    temporary.mkdir()

    ended = run(python, project, "ductaflow.py", "--version", TMPDIR=str(temporary))
    assert (0, "") == (ended.returncode, ended.stderr)
    [own] = temporary.iterdir()
    shutil.rmtree(own)
    own.mkdir()
    own.chmod(0o777)
    ended = run(python, project, "ductaflow.py", "--version", TMPDIR=str(temporary))

    assert 1 == ended.returncode
    assert "cannot unpack itself anywhere" in ended.stderr
    assert f"{own}: others may write there" in ended.stderr
    assert "Set XDG_CACHE_HOME or TMPDIR" in ended.stderr


def test_another_version_is_an_error_that_names_both(python: Path, project: Path) -> None:
    """Installed, or brought by the process that started this one."""
    other = project.parent / "other"
    (other / "pytest_ductaflow-9.9.dist-info").mkdir(parents=True)
    about = "Metadata-Version: 2.1\nName: pytest-ductaflow\nVersion: 9.9\n"
    (other / "pytest_ductaflow-9.9.dist-info/METADATA").write_text(about)

    installed = run(python, project, "ductaflow.py", "--version", PYTHONPATH=str(other))
    brought = run(python, project, "-c", "import ductaflow", **{one_file.VARIABLE: str(other)})

    assert 1 == installed.returncode
    assert f"is ductaflow {vendored_version()}, and pytest-ductaflow 9.9 is installed" in installed.stderr
    assert 1 == brought.returncode
    assert f"whose code is in {other}" in brought.stderr


def test_what_it_needs_and_does_not_bring_is_named(python: Path, project: Path) -> None:
    """Instead of an error of some import."""
    ended = run(python, project, "-S", "ductaflow.py", "--version", PYTHONPATH=str(project.parent))

    assert 1 == ended.returncode
    assert "platformdirs" in ended.stderr


def test_the_same_code_gives_the_same_file(project: Path) -> None:
    """So that a release can be made again and compared."""
    assert one_file_text() == (project / "ductaflow.py").read_text() == one_file_text()


def test_it_replaces_nothing_but_its_own(tmp_path: Path) -> None:
    """A file of a person stays, and a name that nobody can import is refused."""
    (tmp_path / "ductaflow.py").write_text("print('mine')\n")
    assert not is_one_file(tmp_path / "ductaflow.py")
    with pytest.raises(DuctaflowError, match="did not write it"):
        vendor(tmp_path)
    with pytest.raises(DuctaflowError, match="no name that `import ductaflow` finds"):
        vendor(tmp_path / "other.py")
    (tmp_path / "ductaflow.py").unlink()

    assert is_one_file(vendor(tmp_path))
    assert is_one_file(vendor(tmp_path / "ductaflow.py"))


def vendored_version() -> str:
    from importlib.metadata import version

    return version(one_file.DISTRIBUTION)
