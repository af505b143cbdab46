"""`ductaflow vendor`: the whole product in one file, where neither it nor what few have is installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import site
import subprocess
import sys
import textwrap
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
from support import run_pytest

from ductaflow.cli import one_file
from ductaflow.cli.scaffold import init_project
from ductaflow.cli.vendor import CONFTEST_LINES, one_file_text, vendor
from ductaflow.common.errors import DuctaflowError
from ductaflow.project.vendored import DISTRIBUTION, version_of

pytestmark = pytest.mark.slow

VERSION = metadata.version(DISTRIBUTION)
PAGE = (Path(__file__).parents[2] / "docs/one_file.md").read_text(encoding="utf-8")
#: What these environments do not have: ours, and the packages that ours can do without.
MISSING = (
    *("pytest_ductaflow", "_editable_impl_pytest_ductaflow", "__editable__", "ductaflow"),
    *("filelock", "msgspec", "xdist", "pytest_xdist"),
)
FLOW = """\
# %% tags=["parameters"]
config = {}

# %%
from ductaflow import is_notebook_execution, load_cli_config, record, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/fit.json", "Fit")

# %% [markdown]
# # Fit

# %%
settings = unpack_config(config, "fit")
record(twice=2 * settings["n"])
"""


def linked(source: Path, target: Path) -> None:
    """Put what an environment has into another one. A linked folder would count as a source tree."""
    if not source.is_dir():
        target.symlink_to(source)
        return
    target.mkdir()
    for entry in source.iterdir():
        (target / entry.name).symlink_to(entry)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has neither the package, nor filelock, msgspec and xdist."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("[Ll]ib/**/site-packages")
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not entry.name.startswith(MISSING) and not (packages / entry.name).exists():
            linked(entry, packages / entry.name)
    # templates of nbconvert
    (folder / "share").symlink_to(Path(sys.prefix, "share"))
    return next(folder.glob("bin/python"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/flows").mkdir(parents=True)
    (tmp_path / "project/config/flows").mkdir(parents=True)
    (tmp_path / "project/flows/fit.py").write_text(FLOW)
    (tmp_path / "project/config/flows/fit.csv").write_text("instance,n\na,1\nb,2\n")
    (tmp_path / "project/ductaflow.toml").write_text("html = false\n")
    vendor(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that several tests share: Python compiles what lies there once."""
    return tmp_path_factory.mktemp("cache")


def run(
    python: Path, project: Path, *arguments: str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in a project, or in another folder, with a cache of its own."""
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": str(project.parent), "XDG_CACHE_HOME": str(project.parent / "cache"), **variables}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder or project, env=environment, capture_output=True, text=True)


def unpacked(project: Path) -> list[str]:
    """What lies in the cache where the file unpacks itself."""
    return sorted(os.listdir(project.parent / "cache/ductaflow/one_file"))


def of_version(project: Path, version: str) -> None:
    """Make the file in a project one of another version."""
    path = project / "ductaflow.py"
    text, count = re.subn(r'^VERSION = ".*"$', f'VERSION = "{version}"', path.read_text(), flags=re.MULTILINE)
    assert 1 == count
    path.write_text(text)


def test_the_page_about_it(python: Path, tmp_path: Path, cache: Path) -> None:
    """Its commands do what it shows, in a project that has the file, its two lines, and gets nothing else.

    The command of pytest is that of the next test.
    """
    study = tmp_path / "study"
    init_project(study)
    before = {path.name for path in study.iterdir()}
    vendor(study)
    (lines,) = re.findall(r'^```python title="conftest.py"\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE)
    assert f"{CONFTEST_LINES}\n" == lines
    (study / "conftest.py").write_text(lines)

    sessions = re.findall(r"^\$ python (.*)\n((?:(?!\$|```).*\n)*)", PAGE, re.MULTILINE)
    assert 4 == len(sessions)
    pages: list[str] = []
    for arguments, expected in sessions[:-1]:
        ended = run(python, study, *shlex.split(arguments), XDG_CACHE_HOME=str(cache))
        assert 0 == ended.returncode, ended.stdout + ended.stderr
        assert re.fullmatch(expected.replace("...", "(?s:.)*"), ended.stdout)
        pages += [path.read_text() for path in study.glob("runs/growth/default/*.html")]
    assert ["<title>growth</title>"] == re.findall("<title>.*</title>", "".join(pages))
    ended = run(python, study, "-m", "ductaflow", "plan", "growth", XDG_CACHE_HOME=str(cache))
    assert "1 unchanged" in ended.stdout, ended.stderr

    assert {*before, "conftest.py", "ductaflow.py", "runs"} == {path.name for path in study.iterdir()} - {
        "__pycache__",
        ".pytest_cache",
    }
    [whole] = (cache / "ductaflow/one_file").iterdir()
    assert one_file.BUNDLED in os.listdir(whole)


def test_the_example_runs_with_it(python: Path, tmp_path: Path, cache: Path) -> None:
    """A module of the project, figures, kept results: one scenario from the raw data to the forecast."""
    example = Path(__file__).parents[2] / "example_project"
    project = shutil.copytree(example, tmp_path / "example", ignore=shutil.ignore_patterns("runs"))
    vendor(project)
    (project / "conftest.py").write_text(f"{CONFTEST_LINES}\n")

    ended = run(
        *(python, project, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--ductaflow"),
        *("--ductaflow-no-html", "-k", "scenario_A"),
        XDG_CACHE_HOME=str(cache),
    )

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert re.search("3 passed|1 passed, 2 warn|2 passed, 1 warn", ended.stdout), ended.stdout
    assert (project / "runs/forecast/scenario_A/result.json").is_file()


def test_workers_of_xdist_have_the_plugin(python: Path, project: Path, tmp_path: Path, cache: Path) -> None:
    """Also from above the project, where its `conftest.py` is not that of the folder one works in."""
    (project / "conftest.py").write_text(f"{CONFTEST_LINES}\n")
    (tmp_path / "xdist").mkdir()
    packages = Path(site.getsitepackages()[0])
    for entry in (*packages.glob("xdist"), *packages.glob("pytest_xdist*"), *packages.glob("execnet*")):
        linked(entry, tmp_path / "xdist" / entry.name)

    ended = run(
        *(python, project, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--ductaflow", "-n", "2"),
        project.name,
        folder=tmp_path,
        PYTHONPATH=str(tmp_path / "xdist"),
        XDG_CACHE_HOME=str(cache),
    )

    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout
    assert "[gw1]" in ended.stdout


def test_a_project_that_it_makes_has_it_too(python: Path, project: Path, cache: Path) -> None:
    """And what `init` says then works word for word."""
    made = run(python, project, "ductaflow.py", "init", "../new", XDG_CACHE_HOME=str(cache))
    assert 0 == made.returncode, made.stderr
    line = made.stdout.splitlines()[-1].removeprefix("Now: ")

    shell = {"PATH": os.defpath, "HOME": str(project.parent), "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(
        f"{line} --co -q", shell=True, cwd=project, env=shell, capture_output=True, text=True
    )

    assert f"cd ../new && {python} -m pytest --ductaflow" == line
    assert (0, True) == (done.returncode, "3 tests collected" in done.stdout), done.stdout + done.stderr
    assert (project / "ductaflow.py").read_bytes() == (project.parent / "new/ductaflow.py").read_bytes()


def test_all_processes_have_one_copy(python: Path, project: Path) -> None:
    """Forked ones, new interpreters, and other programs in other folders."""
    (project / "where.py").write_text(
        "def where(_):\n    import ductaflow.flow\n    return ductaflow.flow.__file__\n"
    )
    (project / "conductor.py").write_text(
        """\
import multiprocessing
import subprocess
import sys

from ductaflow import run_notebook
from where import where

if __name__ == "__main__":
    found = [where(0)]
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found += pool.map(where, range(2))
    code = "import ductaflow.flow; print(ductaflow.flow.__file__)"
    found += subprocess.check_output([sys.executable, "-c", code], cwd="/", text=True).split()
    print(len(found), *{*found})
"""
    )

    ended = run(python, project, "conductor.py")

    assert [
        "8",
        str(project.parent / "cache/ductaflow/one_file" / unpacked(project)[0] / "ductaflow/flow.py"),
    ] == (ended.stdout.split()), ended.stderr


def test_many_processes_unpack_it_at_once_and_repair_it(python: Path, project: Path) -> None:
    """Each finds a whole copy, also after a part was cleaned away, or a power cut left zeros in its place."""
    place = project.parent / "cache/ductaflow/one_file"
    for _ in range(2):
        with ThreadPoolExecutor(6) as threads:
            ended = [*threads.map(lambda _: run(python, project, "ductaflow.py", "--version"), range(6))]

        assert [(0, "")] * 6 == [(one.returncode, one.stderr) for one in ended]
        [whole] = place.iterdir()
        (whole / "ductaflow/common/errors.py").unlink()
        shutil.rmtree(whole / "ductaflow/report")
        app = whole / "ductaflow/cli/app.py"
        app.write_bytes(bytes(app.stat().st_size))


def test_what_a_killed_unpacking_left_is_swept_in_time(python: Path, project: Path) -> None:
    """The next process does not wait for it, and a later one takes it away."""
    (project.parent / "killer").mkdir()
    (project.parent / "killer/sitecustomize.py").write_text(
        """\
import os, signal, sys
def watch(event, arguments):
    if event == "open" and ".making-" in str(arguments[0]) and str(arguments[0]).endswith("flow.py"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
"""
    )
    killed = run(python, project, "ductaflow.py", "--version", PYTHONPATH=str(project.parent / "killer"))
    assert -signal.SIGKILL == killed.returncode
    [left] = unpacked(project)
    assert left.startswith(".making-")

    assert 0 == run(python, project, "ductaflow.py", "--version").returncode
    assert left in unpacked(project)
    place = project.parent / "cache/ductaflow/one_file"
    os.utime(place / left, (0, 0))
    [whole] = (path for path in place.iterdir() if path.name != left)
    shutil.rmtree(whole / "ductaflow")
    assert 0 == run(python, project, "ductaflow.py", "--version").returncode

    assert [whole.name] == unpacked(project)


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


def test_a_full_disk_is_named_and_nothing_is_left_there(
    python: Path, project: Path, small_disk: Path
) -> None:
    """Both places are on it."""
    (small_disk / "filler").write_bytes(bytes(2 << 20))

    ended = run(
        python,
        project,
        "ductaflow.py",
        "--version",
        XDG_CACHE_HOME=str(small_disk / "cache"),
        TMPDIR=str(small_disk),
    )

    assert 1 == ended.returncode
    assert 2 == ended.stderr.count("No space left on device")
    assert f"{small_disk}/cache/ductaflow/one_file: " in ended.stderr
    assert [] == [path for path in small_disk.rglob("*") if path.is_file() and path.name != "filler"]
    assert [] == [*small_disk.rglob(".making-*")]


def test_a_project_that_cannot_be_written_can_be_read(python: Path, project: Path, small_disk: Path) -> None:
    """The file is used from there, and a run says where it cannot write."""
    shutil.copytree(project, small_disk / "project")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    read = run(python, project, "ductaflow.py", "list", folder=small_disk / "project")
    written = run(python, project, "ductaflow.py", "run", "fit/a", folder=small_disk / "project")

    assert (0, ["fit/a", "fit/b"]) == (read.returncode, re.findall("fit/.", read.stdout)), read.stderr
    assert 0 != written.returncode
    assert "Read-only file system" in written.stderr
    assert "Traceback" not in written.stderr


def test_its_name_and_its_place_do_not_matter_to_an_import(python: Path, project: Path) -> None:
    """Another name, a folder of a package, a ZIP file on the path: each time it is the one package."""
    (project / "tools").mkdir()
    (project / "tools/__init__.py").touch()
    shutil.copy(project / "ductaflow.py", project / "tools/ductaflow.py")
    (project / "ductaflow.py").rename(project / "df.py")
    with zipfile.ZipFile(project / "all.zip", "w") as archive:
        archive.write(project / "df.py", "ductaflow.py")
    code = "; print(run_notebook.__module__, sys.modules['ductaflow'].__name__)"

    for module, path in (("df", ""), ("tools.ductaflow", ""), ("ductaflow", "all.zip")):
        ended = run(
            python, project, "-c", f"import sys; from {module} import run_notebook{code}", PYTHONPATH=path
        )
        assert "ductaflow.session.runner ductaflow\n" == ended.stdout, ended.stderr
    assert 0 == run(python, project, "df.py", "list").returncode
    assert 1 == len(unpacked(project))


def test_another_version_is_an_error_that_names_both(python: Path, project: Path) -> None:
    """Installed, or brought by the process that started this one."""
    other = project.parent / "other"
    (other / "pytest_ductaflow-9.9.dist-info").mkdir(parents=True)
    about = "Metadata-Version: 2.1\nName: pytest-ductaflow\nVersion: 9.9\n"
    (other / "pytest_ductaflow-9.9.dist-info/METADATA").write_text(about)

    installed = run(python, project, "ductaflow.py", "--version", PYTHONPATH=str(other))
    brought = run(python, project, "-c", "import ductaflow", **{one_file.VARIABLE: str(other)})

    assert 1 == installed.returncode
    assert f"is ductaflow {VERSION}, and pytest-ductaflow 9.9 is installed" in installed.stderr
    assert 1 == brought.returncode
    assert f"whose code is in {other}" in brought.stderr


def test_an_installed_package_refuses_a_file_of_another_version(project: Path) -> None:
    """The plugin, the commands and the functions; a new file is the remedy."""
    of_version(project, "9.9")
    (project / "conftest.py").write_text(f"{CONFTEST_LINES}\n")
    expected = f"{project / 'ductaflow.py'} is ductaflow 9.9, and pytest-ductaflow {VERSION} is "

    as_module = run_pytest(project)
    from_flows = run_pytest(project / "flows", f"--rootdir={project / 'flows'}", str(project / "config"))
    for session in (as_module, from_flows):
        assert (4, True) == (session.code, expected in session.out), session.out
        assert "Traceback" not in session.out
    command = str(Path(sys.executable).with_name("ductaflow"))
    code = "import ductaflow; ductaflow.run_instance('fit/a')"
    for refused in ([command, "list"], [sys.executable, "-c", code]):
        ended = subprocess.run(refused, cwd=project / "flows", capture_output=True, text=True)
        assert (True, True) == (ended.returncode != 0, expected in ended.stderr), ended.stderr
        assert f"ductaflow vendor {project}" in ended.stderr
    vendor(project)
    assert 0 == subprocess.run([command, "list"], cwd=project / "flows", capture_output=True).returncode


def test_of_the_same_version_the_installed_package_is_used(project: Path) -> None:
    """Nothing is unpacked, the plugin is there once, and scripts beside the file have it too."""
    (project / "conftest.py").write_text(f"{CONFTEST_LINES}\n")
    place = "import ductaflow.flow; print(ductaflow.flow.__file__)"

    variables = {"XDG_CACHE_HOME": str(project.parent / "cache")}
    without = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    sessions = [run_pytest(project, "--co", "-q", env=variables | some) for some in ({}, without)]
    script = run(Path(sys.executable), project, "-c", place)

    for session in sessions:
        assert (0, True) == (session.code, "2 tests collected" in session.out), session.out
        assert "arning" not in session.out
    assert f"{Path(one_file.__file__).parents[1] / 'flow.py'}\n" == script.stdout, script.stderr
    assert not (project.parent / "cache/ductaflow/one_file").exists()


def test_what_it_needs_and_does_not_have_is_one_line(python: Path, project: Path) -> None:
    """Packages that are not there and packages that are too old, with the command that installs them."""
    old = project.parent / "old"
    (old / "papermill-1.0.dist-info").mkdir(parents=True)
    (old / "papermill-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: papermill\nVersion: 1.0\n"
    )

    without = run(python, project, "-S", "ductaflow.py", "--version")
    too_old = run(python, project, "ductaflow.py", "--version", PYTHONPATH=str(old))
    imported = run(python, project, "-S", "-c", "import ductaflow")

    assert (1, 1) == (without.returncode, without.stderr.count("\n"))
    assert "papermill>=2.6 (not installed), " in without.stderr
    assert f'Install: {python} -m pip install "beautifulsoup4>=' in without.stderr
    assert f"ductaflow: {project}/ductaflow.py needs papermill>=2.6 (there is 1.0). " in too_old.stderr
    assert too_old.stderr.endswith('-m pip install "papermill>=2.6"\n')
    assert "OneFileError: " in imported.stderr.splitlines()[-1]


def test_a_damaged_file_says_so(python: Path, project: Path) -> None:
    """A character that is lost or another one. Other ends of lines, as git may make them, are no damage."""
    path = project / "ductaflow.py"
    whole = path.read_text()
    place = whole.index('ARCHIVE = """') + 50_000
    damaged = (whole[:place] + whole[place + 1 :], whole[:place] + "AAAA" + whole[place + 4 :])

    path.write_bytes(whole.replace("\n", "\r\n").encode())
    assert 0 == run(python, project, "ductaflow.py", "--version").returncode
    shutil.rmtree(project.parent / "cache")
    for text in damaged:
        path.write_text(text)
        ended = run(python, project, "ductaflow.py", "--version")
        assert (
            1,
            f"ductaflow: {path} is damaged: it does not hold what was put into it. Get the file anew.\n",
        ) == (
            ended.returncode,
            ended.stderr,
        )


@pytest.mark.parametrize("version", ["3.8", "3.10"])
def test_a_python_that_is_too_old_is_named(version: str, project: Path) -> None:
    """It reads the file well enough to say so."""
    found = [
        *Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    ]
    if not found:
        pytest.skip(f"there is no Python {version}")

    ended = run(found[0], project, "ductaflow.py", "--version")

    assert 1 == ended.returncode
    assert f"needs Python 3.11 or newer, and {found[0]} is {version}\n" in ended.stderr


def test_the_same_code_gives_the_same_file(python: Path, project: Path, tmp_path: Path) -> None:
    """Made again: later, from another folder, by another user's habits, by the file itself."""
    expected = (project / "ductaflow.py").read_bytes()
    shutil.copytree(
        Path(one_file.__file__).parents[2], tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in (tmp_path / "src").rglob("*"):
        path.chmod(0o700)
        os.utime(path, (10**9, 10**9))
    (tmp_path / "again").mkdir()
    (tmp_path / "itself").mkdir()
    variables = {"SOURCE_DATE_EPOCH": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-m", "ductaflow", "vendor", tmp_path / "again"],
        env=os.environ | variables | {"PYTHONPATH": str(tmp_path / "src")},
        umask=0o077,
        check=True,
        capture_output=True,
    )
    run(python, project, "ductaflow.py", "vendor", str(tmp_path / "itself"))

    assert expected == one_file_text().encode()
    assert expected == (tmp_path / "again/ductaflow.py").read_bytes()
    assert expected == (tmp_path / "itself/ductaflow.py").read_bytes()


def test_the_file_says_what_it_needs() -> None:
    """Its Python is that of the package, its two lines are those of the command."""
    text = Path(one_file.__file__).read_text()
    indented = textwrap.indent(CONFTEST_LINES, " " * 8)
    required = metadata.metadata(one_file.DISTRIBUTION)["Requires-Python"]

    assert f">={'.'.join(map(str, one_file.PYTHON))}" == required
    assert indented in text
    assert one_file.DISTRIBUTION == DISTRIBUTION


def test_it_replaces_nothing_but_its_own(tmp_path: Path) -> None:
    """A file of a person stays, and a name that nobody can import is refused."""
    (tmp_path / "ductaflow.py").write_text("print('mine')\n")
    assert version_of(tmp_path / "ductaflow.py") is None
    with pytest.raises(DuctaflowError, match="did not write it"):
        vendor(tmp_path)
    with pytest.raises(DuctaflowError, match="no name that `import ductaflow` finds"):
        vendor(tmp_path / "other.py")
    (tmp_path / "ductaflow.py").unlink()

    assert VERSION == version_of(vendor(tmp_path))
    assert VERSION == version_of(vendor(tmp_path / "ductaflow.py"))
