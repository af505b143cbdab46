"""What a run is seen to read and write, what of it counts, and what `changes` says of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TinyProject, wait_until

from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project, Settings
from ductaflow.session.request import spec_of_instance
from ductaflow.store import record
from ductaflow.store.changes import Change, changes, differences_of_environment
from ductaflow.store.record import config_hash, listing
from ductaflow.store.result import Result, Status
from ductaflow.store.spec import RunSpec

BEGIN = '# %%\nfrom pathlib import Path\nROOT = Path(config["_project_root"])\n'


def spec_of(project: TinyProject, id: str) -> RunSpec:
    return spec_of_instance(load_stored(Project.at(project.root), id))


def changed(project: TinyProject, id: str, **options: Any) -> list[str]:
    stored = load_stored(Project.at(project.root).but(**options), id)
    return [change.text for change in changes(spec_of_instance(stored))]


def flow(project: TinyProject, code: str, name: str = "fit", **config: Any) -> None:
    """A flow with an instance `A` that runs some code, with ROOT and Path."""
    project.flow(name, BEGIN + textwrap.dedent(code))
    project.config(f"flows/{name}/A.json", **config)


def put(project: TinyProject, name: str, text: str = "1") -> Path:
    path = project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def inputs(result: Result) -> list[str]:
    return [entry["path"] for entry in result.inputs]


# --- the record --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), st.recursive(st.integers() | st.text(), st.lists), max_size=4))
def test_hash_of_a_config_does_not_depend_on_the_order_of_keys(config: dict[str, Any]) -> None:
    """Nor on the project root; any other difference counts."""
    turned = dict(reversed([*config.items(), ("_project_root", "/p")]))
    other = {**config, "one more": [*config.values()]}
    here, there = "/where/it/is", "/where/it/was"
    assert config_hash(config, here) == config_hash(turned, there) != config_hash(other, here)
    assert len(config_hash(config, here)) == 64


def test_the_record_has_hashes_of_what_was_read_and_written(project: TinyProject) -> None:
    """Of contents, with sizes; paths below the project are relative."""
    put(project, "inputs/a.csv", "one")
    flow(
        project,
        'Path("sub").mkdir()\nPath("sub/out.csv").write_text((ROOT / config["a"]).read_text())',
        a="inputs/a.csv",
    )
    result = project.run("fit/A")
    expected = ("inputs/a.csv", 3, hashlib.sha256(b"one").hexdigest())
    assert [expected] == [(entry["path"], entry["size"], entry["hash"]) for entry in result.inputs]
    assert [("sub/out.csv", *expected[1:])] == [
        (entry["path"], entry["size"], entry["hash"]) for entry in result.outputs
    ]
    assert "flows/fit.py" == result.lineage["source"]


def test_a_red_run_has_no_record(project: TinyProject) -> None:
    """It runs again whatever has changed, and says that it was red."""
    flow(project, "raise ValueError('no')")
    assert Status.ERROR is project.run("fit/A", check=False).status
    assert ["its last run failed: flows/fit.py:7: ValueError: no"] == changed(project, "fit/A")


def test_what_never_ran_has_no_finished_run(project: TinyProject) -> None:
    """It is told in one sentence."""
    flow(project, "")
    (change,) = changes(spec_of(project, "fit/A"))
    assert Change("run", str(project.folder("fit", "A")), "it has no finished run") == change


def test_a_result_of_another_instance_is_none(project: TinyProject) -> None:
    """A run folder that was copied by hand under another name runs."""
    flow(project, "")
    project.config("flows/fit/B.json")
    project.run("fit/A")
    project.folder("fit", "A").rename(project.folder("fit", "B"))
    assert ["the result there is that of fit/A"] == changed(project, "fit/B")


def test_secrets_are_in_no_record(project: TinyProject) -> None:
    """Neither as they are nor as a hash that can be looked up; a change is told without them."""
    flow(project, "", token="geheim", nested=[{"api_key": "auch"}])
    project.run("fit/A")
    text = (project.folder("fit", "A") / "result.json").read_text(encoding="utf-8")
    for secret in ("geheim", "auch"):
        assert secret not in text
        assert hashlib.sha256(secret.encode()).hexdigest() not in text
    assert [] == changed(project, "fit/A")
    project.config("flows/fit/A.json", token="geheim", nested=[{"api_key": "anders"}])
    assert ["a secret in the config is another one"] == changed(project, "fit/A")


def test_the_config_is_told_field_by_field(project: TinyProject) -> None:
    """With the key path, the old value and the new one."""
    flow(project, "", horizon=2030, gone=1, deep={"a": [1, {"b": "x"}]}, long="x" * 100)
    project.run("fit/A")
    project.config("flows/fit/A.json", horizon=2040, deep={"a": [1, {"b": "y"}]}, new=None, long="y" * 100)
    assert {
        "config horizon: 2030 -> 2040",
        "config gone: gone, was 1",
        "config new: new, null",
        'config deep.a[1].b: "x" -> "y"',
        f'config long: "{"x" * 56}... -> "{"y" * 56}...',
    } == set(changed(project, "fit/A"))
    assert [] == changed(project, "fit/A", rerun_on=("code", "inputs"))


def test_only_what_counts_makes_a_run_stale(project: TinyProject) -> None:
    """`rerun_on` chooses; outputs that are not as they were always count."""
    put(project, "inputs/a.csv")
    flow(project, 'Path("out").write_text("1")', a="inputs/a.csv")
    project.run("fit/A")
    put(project, "inputs/a.csv", "2")
    project.flow("fit", BEGIN + 'Path("out").write_text("2")')
    assert ["the code of flows/fit.py is another one", "inputs/a.csv has other content"] == changed(
        project, "fit/A"
    )
    assert ["inputs/a.csv has other content"] == changed(project, "fit/A", rerun_on=("inputs",))
    (project.folder("fit", "A") / "out").unlink()
    assert ["runs/fit/A/out is gone"] == changed(project, "fit/A", rerun_on=())


def test_files_may_count_by_size_and_time(project: TinyProject) -> None:
    """What matches the setting `hash` is not read: new content with the old time is not seen."""
    path = put(project, "inputs/big/a.bin", "one")
    flow(project, "", a="inputs/big/a.bin")
    project.run("fit/A")
    before = path.stat()
    path.write_text("two", encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [] == changed(project, "fit/A", hash=("inputs/big/*",))
    assert ["inputs/big/a.bin has other content"] == changed(project, "fit/A", hash=("inputs/small/*",))
    os.utime(path)
    assert ["inputs/big/a.bin has another time of modification"] == changed(
        project, "fit/A", hash=("inputs/big/*",)
    )


# --- what is seen ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_flow_as_a_script_leaves_the_same_record(project: TinyProject) -> None:
    """`python flows/fit.py` counts as much as a session's run."""
    put(project, "inputs/a.csv")
    put(project, "helpers.py", "X = 1\n")
    code = 'import helpers\nPath("out").write_text((ROOT / "inputs/a.csv").read_text())\n'
    project.flow(
        "fit",
        "from ductaflow import is_notebook_execution, load_cli_config\n"
        "if not is_notebook_execution():\n    config = load_cli_config('config/flows/fit.json')\n"
        + BEGIN
        + code,
    )
    project.config("flows/fit/A.json")
    subprocess.run([sys.executable, "flows/fit.py", "--instance", "A"], cwd=project.root, check=True)
    assert [] == changed(project, "fit/A")
    put(project, "inputs/a.csv", "2")
    put(project, "helpers.py", "X = 2\n")
    assert ["the code of helpers.py is another one", "inputs/a.csv has other content"] == changed(
        project, "fit/A"
    )


@pytest.mark.slow
def test_a_flow_under_a_debugger_leaves_a_record(project: TinyProject) -> None:
    """Also of modules that it imported before it asked for its config."""
    put(project, "inputs/a.csv")
    put(project, "helpers.py", "X = 1\n")
    begin = "from ductaflow import load_cli_config, reads\nimport helpers\nconfig = load_cli_config('x')\n"
    read = '(ROOT / "inputs/a.csv").read_text()\n'
    (project.root / "flows/fit.py").write_text(begin + BEGIN + read, encoding="utf-8")
    project.config("flows/fit/A.json")
    command = [sys.executable, "-m", "pdb", "-c", "c", "-c", "q", "flows/fit.py", "--instance", "A"]
    done = subprocess.run(
        command, cwd=project.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert [] == changed(project, "fit/A"), done.stdout + done.stderr
    put(project, "inputs/a.csv", "2")
    put(project, "helpers.py", "X = 2\n")
    assert ["the code of helpers.py is another one", "inputs/a.csv has other content"] == changed(
        project, "fit/A"
    )


@pytest.mark.slow
def test_compiled_modules_are_known_by_their_source(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python opens `__pycache__/helpers.cpython-311.pyc`; also of one that is not kept in `sys.modules`."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    put(project, "helpers.py", "X = 1\n")
    flow(project, "import sys, helpers\ndel sys.modules['helpers']")
    for _ in range(2):
        result = project.run("fit/A", settings=Settings(html=False, engine="fresh"))
        assert (["helpers.py"], []) == (list(result.lineage["modules"]), inputs(result))
    put(project, "helpers.py", "X = 2  # two\n")
    assert ["the code of helpers.py is another one"] == changed(project, "fit/A")


@pytest.mark.slow
def test_a_python_kernel_tells_what_it_reads(project: TinyProject) -> None:
    """The flow runs in a process of Jupyter's then."""
    put(project, "inputs/a.csv")
    put(project, "helpers.py", "X = 1\n")
    flow(project, 'import helpers\n(ROOT / "inputs/a.csv").read_text()', _run={"engine": "kernel"})
    result = project.run("fit/A")
    assert (["helpers.py"], ["inputs/a.csv"]) == (list(result.lineage["modules"]), inputs(result))
    put(project, "inputs/a.csv", "2")
    put(project, "helpers.py", "X = 1  # one\n")
    assert ["inputs/a.csv has other content"] == changed(project, "fit/A")
    project.config("flows/fit/A.json")
    assert 'config _run.kernel: "" -> null' in changed(project, "fit/A")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_copies_of_the_process_are_seen(project: TinyProject) -> None:
    """What the workers of `multiprocessing` read counts too."""
    put(project, "inputs/a.csv")
    put(project, "inputs/b.csv")
    code = """
    import multiprocessing
    def read(name):
        return (ROOT / "inputs" / name).read_text()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(read, ["a.csv", "b.csv"]))
    """
    flow(project, code)
    assert ["inputs/a.csv", "inputs/b.csv"] == inputs(project.run("fit/A"))


def test_what_the_run_wrote_itself_is_no_input(project: TinyProject) -> None:
    """Nor what lies in its folder; a file elsewhere that it reads and then writes counts as it left it."""
    put(project, "ledger.txt", "0")
    code = """
    Path("own.txt").write_text("1")
    Path("own.txt").read_text()
    (ROOT / "made.txt").write_text("1")
    (ROOT / "made.txt").read_text()
    with (ROOT / "ledger.txt").open("r+") as file:
        file.write("1")
    (ROOT / "part.txt").write_text("1")
    (ROOT / "part.txt").rename(ROOT / "whole.txt")
    (ROOT / "whole.txt").read_text()
    """
    flow(project, code)
    result = project.run("fit/A")
    assert ["ledger.txt"] == inputs(result)
    assert ["ledger.txt", "made.txt", "part.txt", "whole.txt"] == result.lineage["written"]
    assert [] == changed(project, "fit/A")
    put(project, "ledger.txt", "2")
    assert ["ledger.txt has other content"] == changed(project, "fit/A")


def test_installed_and_hidden_things_are_no_inputs(project: TinyProject) -> None:
    """A virtual environment inside the project, `.git`, and what coverage leaves."""
    for name in (".venv/lib/x.py", "env/lib/site-packages/y.py", ".git/HEAD", ".coverage.1"):
        put(project, name)
    put(project, ".env")
    flow(
        project,
        """
    for name in (".venv/lib/x.py", "env/lib/site-packages/y.py", ".git/HEAD", ".coverage.1", ".env"):
        (ROOT / name).read_text()
    """,
    )
    assert [".env"] == inputs(project.run("fit/A"))


def test_a_database_is_an_input(project: TinyProject) -> None:
    """SQLite opens its files itself, and says so."""
    code = "import sqlite3\nsqlite3.connect(ROOT / 'inputs/x.db').execute('create table if not exists t (a)')"
    (project.root / "inputs").mkdir(parents=True)
    flow(project, code)
    project.run("fit/A")
    assert ["inputs/x.db"] == inputs(project.run("fit/A"))
    assert [] == changed(project, "fit/A")


def test_what_is_found_by_a_glob_in_the_config_is_an_input(project: TinyProject) -> None:
    """Whoever reads it, and new files that match too."""
    put(project, "inputs/a/x.csv")
    put(project, "inputs/b/x.csv")
    flow(project, "", files="inputs/*/x.csv")
    assert ["inputs/a/x.csv", "inputs/b/x.csv"] == inputs(project.run("fit/A"))
    put(project, "inputs/c/x.csv")
    assert ["inputs/c/x.csv is there now, and was not when the last run began"] == changed(project, "fit/A")


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder on the disk in memory that Linux has."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("there is no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("how", ["file", "folder", "link", "undeclared link"])
def test_data_on_the_disk_in_memory_are_inputs(project: TinyProject, in_memory: Path, how: str) -> None:
    """`/dev` has devices, and `/dev/shm` files like all others."""
    data = in_memory / "data" / "a.csv"
    data.parent.mkdir()
    data.write_text("1")
    (project.root / "inputs").symlink_to(data.parent)
    named = {"file": str(data), "folder": str(data.parent), "link": "inputs/a.csv"}
    code = f"Path({str(project.root / 'inputs' / 'a.csv')!r}).read_text()" if how not in named else ""
    flow(project, code, **({"data": named[how]} if how in named else {}))
    project.run("fit/A")
    assert [] == changed(project, "fit/A")
    data.write_text("2")
    assert 1 == len(changed(project, "fit/A"))


def test_strings_that_only_look_like_paths_name_nothing(project: TinyProject) -> None:
    """The root of the disk, the project, the runs folder and the own folder are no inputs."""
    flow(
        project,
        'Path("x").write_text("")',
        a="/",
        b=".",
        c="..",
        d="runs",
        e="runs/fit/A",
        f="x",
        g="",
        h="\n",
    )
    project.run("fit/A")
    result = project.run("fit/A")
    assert ([], []) == (inputs(result), result.lineage["folders"])
    assert [] == changed(project, "fit/A")


def test_a_folder_of_which_python_opened_one_file_counts_with_all(project: TinyProject) -> None:
    """What lies beside it, a library may have read in its own way."""
    put(project, "inputs/zones/a.csv")
    put(project, "inputs/zones/b.csv")
    flow(project, '(ROOT / config["zones"] / "a.csv").read_text()', zones="inputs/zones")
    project.run("fit/A")
    put(project, "inputs/zones/b.csv", "2")
    put(project, "inputs/zones/c.csv")
    assert ["inputs/zones/b.csv has other content", "inputs/zones/c.csv is new"] == changed(project, "fit/A")


def test_what_an_upstream_wrote_counts_and_not_what_we_write_there(project: TinyProject) -> None:
    """Where a config names the folder of another run, its log, notebook and result are not in it."""
    flow(project, 'Path("a.csv").write_text("1")', "prep")
    flow(project, "print(1)", prep="runs/prep/A")
    project.run("prep/A")
    project.run("fit/A")
    project.run("prep/A")
    assert [] == changed(project, "fit/A")
    put(project, "runs/prep/A/a.csv", "2")
    assert ["runs/prep/A/a.csv has other content"] == changed(project, "fit/A")


# --- what was changed while it ran -------------------------------------------------------------------------

EDIT = """
import subprocess, sys
def edit(name):
    # somebody else does it
    code = "import sys; from pathlib import Path; Path(sys.argv[1]).write_text('X = 9')"
    subprocess.run([sys.executable, "-Ic", code, str(ROOT / name)], check=True)
"""


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ('(ROOT / "inputs/a.csv").read_text()\nedit("inputs/a.csv")', "inputs/a.csv"),
        ('edit("inputs/a.csv")', "inputs/a.csv"),
        ('import helpers\nedit("helpers.py")', "helpers.py"),
        ('edit("flows/fit.py")', "flows/fit.py"),
        ('edit("inputs/zones/new.csv")', "inputs/zones/new.csv"),
    ],
)
def test_what_others_changed_meanwhile_runs_again(project: TinyProject, code: str, name: str) -> None:
    """Nobody can say what the run has seen of it."""
    put(project, "inputs/a.csv", "X = 1")
    put(project, "inputs/zones/a.csv")
    put(project, "helpers.py", "X = 1")
    flow(project, EDIT + code, a="inputs/a.csv", zones="inputs/zones")
    project.run("fit/A")
    assert f"{name} was changed while the last run read it" in changed(project, "fit/A")


NATIVE = (
    "import subprocess, sys\ndef native(code): subprocess.run([sys.executable, '-Ic', code], check=True)\n"
)


@pytest.mark.parametrize(
    ("read", "others"),
    [
        ("import os; os.listdir(ROOT / 'inputs/zones')", "open({!r} + '/new.csv', 'w')"),
        ("list((ROOT / 'inputs').glob('zones/*.csv'))", "open({!r} + '/new.csv', 'w')"),
        ("from ductaflow import reads; reads(ROOT / 'inputs/zones')", "open({!r} + '/a.csv', 'w')"),
        ("config['named']", "open({!r} + '/b.csv', 'w')"),
    ],
)
def test_a_folder_that_others_change_while_it_is_read(project: TinyProject, read: str, others: str) -> None:
    """A listing, and the files of a folder, count as they were when they were read first."""
    put(project, "inputs/zones/a.csv")
    put(project, "inputs/named/b.csv")
    folder = str(project.root / ("inputs/named" if "named" in read else "inputs/zones"))
    config = {"named": "inputs/named"} if "named" in read else {}
    flow(project, f"{NATIVE}{read}\nnative({others.format(folder)!r})", **config)
    project.run("fit/A")
    place = os.path.relpath(folder, project.root) + others.partition("'")[2].partition("'")[0]
    assert [f"{place} was changed while the last run read it"] == changed(project, "fit/A")


def test_a_folder_that_the_run_itself_changes_is_as_it_left_it(project: TinyProject) -> None:
    """Files that it adds to a folder, or a folder that it makes and removes, make nothing stale."""
    put(project, "inputs/a.csv")
    code = """
    import os, shutil
    os.listdir(ROOT / "inputs")
    (ROOT / "inputs/made.csv").write_text("1")
    (ROOT / "scratch").mkdir()
    os.listdir(ROOT / "scratch")
    shutil.rmtree(ROOT / "scratch")
    """
    flow(project, code, inputs="inputs")
    project.run("fit/A")
    assert [] == changed(project, "fit/A")


def test_an_input_that_the_run_removes_is_missed(project: TinyProject) -> None:
    """Another run would not find it: it is stale, also when it was read before by name alone."""
    path = put(project, "inputs/a.csv")
    flow(project, 'path = ROOT / config["a"]\npath.read_text()\npath.unlink()', a="inputs/a.csv")
    project.run("fit/A")
    assert ["inputs/a.csv is gone"] == changed(project, "fit/A")
    assert not path.exists()


def test_a_folder_that_was_looked_for_in_vain(project: TinyProject) -> None:
    """It is unchanged until the folder is there; that a run makes it itself is no change."""
    code = """
    import os
    for name in ("absent", "cache"):
        try:
            os.listdir(ROOT / name)
        except FileNotFoundError:
            pass
    os.makedirs(ROOT / "cache", exist_ok=True)
    """
    flow(project, code)
    project.run("fit/A")
    assert [] == changed(project, "fit/A")
    (project.root / "absent").mkdir()
    assert ["absent is there now, and was not when it was looked for"] == changed(project, "fit/A")


def test_a_module_out_of_an_archive(project: TinyProject) -> None:
    """The archive is what counts."""
    archive = project.root / "lib.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped.py", "x = 1")
    flow(project, 'import sys\nsys.path.insert(0, str(ROOT / "lib.zip"))\nimport zipped')
    result = project.run("fit/A")
    assert (["lib.zip"], []) == (inputs(result), changed(project, "fit/A"))
    archive.write_bytes(archive.read_bytes() + b" ")
    assert ["lib.zip has other content"] == changed(project, "fit/A")


def test_what_sits_in_the_journal_of_a_database(project: TinyProject) -> None:
    """A change that is not in the database itself yet is one; an empty journal is none."""
    put(project, "inputs/d.db")
    flow(project, 'config["db"]', db="inputs/d.db")
    project.run("fit/A")
    put(project, "inputs/d.db-wal", "")
    assert [] == changed(project, "fit/A")
    put(project, "inputs/d.db-wal", "1")
    assert ["inputs/d.db-wal is there now, and was not when the last run began"] == changed(project, "fit/A")
    result = project.run("fit/A")
    assert (["inputs/d.db", "inputs/d.db-wal"], []) == (inputs(result), changed(project, "fit/A"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file system of Linux")
def test_folders_without_end(project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel shows as files is none; a large folder elsewhere counts by size and time."""
    monkeypatch.setattr(record, "HASHED_OUTSIDE", 1)
    large = tmp_path / "large"
    large.mkdir()
    for name in ("a", "b"):
        (large / name).write_text("1")
    (large / "round").symlink_to("/proc/self")
    flow(project, "1", proc="/proc/self", cpu="/proc/cpuinfo", large=str(large))
    spec = spec_of(project, "fit/A")
    assert {str(large)} == set(record.named_in(spec).found)
    entry = record.folder_entry(record.Site.of(spec), str(large), deep=True, whole=True, own="")
    folders = record.Record((), (), {"folders": [entry]})
    assert [] == record.notes_of_folders(folders)
    monkeypatch.setattr(record, "LISTED_OUTSIDE", 3)
    assert [f"{large} has more files than the 3 that count as inputs: name the part of it that is read"] == (
        record.notes_of_folders(folders)
    )
    assert ["1", "1", "unreadable"] == [text.partition(" ")[0] for text in entry["files"].values()]


def test_needed_outputs_are_inputs(project: TinyProject) -> None:
    """What a build's flows wrote, and what was written elsewhere, too."""
    project.flow("step", '# %%\nopen("o", "w").write("1")')
    project.flow(
        "all",
        "# %%\nfrom ductaflow import run_notebook\n"
        'run_notebook("flows/step.py", config={}, execution_dir="runs/step", export_html=False)\n'
        'open(config["_project_root"] + "/table", "w").write("1")',
        kind="builds",
    )
    project.config("builds/all/x.json")
    flow(project, "1", _run={"needs": ["all/x"]})
    project.run("all/x")
    assert ["runs/all/x/runs/step/o", "table"] == inputs(project.run("fit/A"))
    put(project, "runs/all/x/note.txt")
    assert [] == changed(project, "fit/A")
    put(project, "runs/all/x/runs/step/o", "2")
    assert ["runs/all/x/runs/step/o has other content"] == changed(project, "fit/A")


# --- undeclared inputs -------------------------------------------------------------------------------------

READ_OTHER = 'print((ROOT / "runs/prep/A/a.csv").read_text())'


def warnings_of(result: Result) -> list[str]:
    return [warning.text for warning in result.warnings]


def test_a_read_from_another_run_that_nothing_names_is_a_warning(project: TinyProject) -> None:
    """The run is orange, since nobody can promise the order; it is an input all the same."""
    flow(project, 'Path("a.csv").write_text("1")', "prep")
    flow(project, READ_OTHER)
    project.run("prep/A")
    result = project.run("fit/A")
    expected = (
        "⚠ undeclared input: runs/prep/A/a.csv is read, and no key of the config names it, "
        "so it may be read before it is made"
    )
    assert (Status.WARNING, [expected]) == (result.status, warnings_of(result))
    put(project, "runs/prep/A/a.csv", "2")
    assert ["runs/prep/A/a.csv has other content"] == changed(project, "fit/A")


@pytest.mark.parametrize(
    "name",
    ["runs/prep/A/a.csv", "runs/prep/A", "runs/prep", "runs/*/A/*.csv", "{project_root}/runs/prep/A/b.csv"],
)
def test_a_read_that_the_config_names_is_none(project: TinyProject, name: str) -> None:
    """Any string that makes an edge of the graph promises the order."""
    flow(project, 'Path("a.csv").write_text("1")', "prep")
    flow(project, READ_OTHER, prep=name)
    project.run("prep/A")
    assert [] == warnings_of(project.run("fit/A"))


def test_a_read_that_needs_names_is_none(project: TinyProject) -> None:
    """`_run.needs` promises the order too."""
    flow(project, 'Path("a.csv").write_text("1")', "prep")
    flow(project, READ_OTHER, _run={"needs": ["prep/A"]})
    project.run("prep/A")
    assert [] == warnings_of(project.run("fit/A"))


def test_a_build_answers_for_its_flows(project: TinyProject) -> None:
    """They read from each other as they like; of another instance the build has to say so."""
    flow(project, 'Path("a.csv").write_text("1")', "prep")
    project.flow("one", 'from pathlib import Path\nPath("one.csv").write_text("1")')
    project.flow(
        "two",
        "# %%\nfrom pathlib import Path\nPath('../one/one.csv').read_text()\nPath(config['x']).read_text()",
    )
    project.flow(
        "all",
        f"""
    # %%
    from ductaflow import run_notebook
    run_notebook("flows/one.py", config={{}}, execution_dir="runs/one", export_html=False)
    x = {str(project.root / "runs/prep/A/a.csv")!r}
    run_notebook("flows/two.py", config={{"x": x}}, execution_dir="runs/two", export_html=False)
    """,
        kind="builds",
    )
    project.config("builds/all/s.json")
    project.run("prep/A")
    result = project.run("all/s")
    assert ["runs/one", "runs/two"] == list(result.children)
    (warning,) = warnings_of(result)
    assert "undeclared input: runs/prep/A/a.csv" in warning
    nested = json.loads((project.folder("all", "s") / "runs/two/result.json").read_bytes())
    assert ("success", ["runs/all/s/runs/one/one.csv", "runs/prep/A/a.csv"]) == (
        nested["status"],
        [entry["path"] for entry in nested["inputs"]],
    )
    assert [] == changed(project, "all/s")
    put(project, "runs/prep/A/a.csv", "2")
    assert ["runs/prep/A/a.csv has other content"] == changed(project, "all/s")


def test_what_a_build_has_run_itself_it_may_read(project: TinyProject) -> None:
    """Also a stored instance, which has its folder elsewhere; it is stale when that one is."""
    flow(project, 'Path("a.csv").write_text("1")', "prep")
    code = 'from ductaflow import run_instance\nrun_instance("prep/A")\n'
    project.flow("all", BEGIN + code + READ_OTHER, kind="builds")
    project.config("builds/all/s.json")
    result = project.run("all/s")
    assert (["../../prep/A"], []) == (list(result.children), warnings_of(result))
    assert [] == changed(project, "all/s")
    flow(project, 'Path("a.csv").write_text("2")', "prep")
    assert ["the code of flows/prep.py is another one"] == changed(project, "all/s")


# --- environment -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_versions_are_told_and_count_only_where_asked(project: TinyProject) -> None:
    """Of Python and of packages; a package that is as it was is not told."""
    flow(project, "import pandas, yaml\ntry:\n    import gone_package\nexcept ImportError:\n    pass")
    project.run("fit/A")
    assert () == differences_of_environment(spec_of(project, "fit/A"))
    path = project.folder("fit", "A") / "result.json"
    data = json.loads(path.read_bytes())
    assert "pandas" in data["environment"]["packages"]
    data["environment"]["python"] = "3.0.0"
    data["environment"]["packages"].update(pandas="0.1", gone_package="2")
    path.write_text(json.dumps(data), encoding="utf-8")
    told = differences_of_environment(spec_of(project, "fit/A"))
    assert ["python", "gone_package", "pandas"] == [change.what for change in told]
    assert "package gone_package: 2 -> not installed" == told[1].text
    assert [] == changed(project, "fit/A")
    assert [change.text for change in told] == changed(project, "fit/A", rerun_on=("environment",))


# --- faults ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_the_place_of_an_input(project: TinyProject) -> None:
    """Neither the run nor the comparison waits for it."""
    path = put(project, "inputs/a.csv")
    flow(project, "", a="inputs/a.csv")
    project.run("fit/A")
    path.unlink()
    os.mkfifo(path)
    assert ["inputs/a.csv is no regular file any more"] == changed(project, "fit/A")
    assert [] == inputs(project.run("fit/A"))
    assert [] == changed(project, "fit/A")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_input_that_cannot_be_read_any_more(project: TinyProject) -> None:
    """It is told, and the run decides what that means."""
    path = put(project, "inputs/a.csv")
    flow(project, "", a="inputs/a.csv")
    project.run("fit/A")
    path.chmod(0)
    os.utime(path)
    assert ["inputs/a.csv cannot be read: Permission denied"] == changed(project, "fit/A")


def test_a_hook_that_fails_fails_nothing(project: TinyProject) -> None:
    """Strange arguments of `open`, and folders that are gone."""
    code = """
    import os
    for name in (b"bytes", 10**6, "\\0", "a" * 5000, ROOT / "nowhere" / "x"):
        try:
            open(name)
        except (OSError, ValueError):
            pass
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    try:
        open("x")
    except OSError:
        pass
    """
    flow(project, code)
    assert Status.SUCCESS is project.run("fit/A").status
    assert [] == changed(project, "fit/A")


def test_a_listing_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a whole disk only the beginning counts, always the same one."""
    for number in range(30):
        (tmp_path / f"{number % 3}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 3}" / f"{number:02d}.csv").write_text("", encoding="utf-8")
    everything = listing(str(tmp_path), deep=True, own="")
    assert 30 == len(everything)
    monkeypatch.setattr(record, "LISTED_MOST", 10)
    assert everything[:10] == listing(str(tmp_path), deep=True, own="")
    assert ["0/", "1/", "2/"] == listing(str(tmp_path), deep=False, own="")
    assert everything[10:20] == [f"1/{name}" for name in listing(str(tmp_path / "1"), deep=True, own="")]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_session_that_ends_does_not_wait_for_large_files(project: TinyProject) -> None:
    """The run is good, but nothing says of what, so it runs again."""
    path = put(project, "inputs/large.bin")
    os.truncate(path, 1 << 40)
    flow(project, 'Path("done").write_text("")', a="inputs/large.bin")
    stop = threading.Event()
    done = project.folder("fit", "A") / "done"
    results: list[Result] = []
    session = threading.Thread(target=lambda: results.append(project.run("fit/A", stop=stop)))
    session.start()
    wait_until(done.exists)
    # Behind the last cell there is nothing but the end of the run, and the file of a terabyte.
    wait_until(lambda: reads_file(path))
    stop.set()
    session.join()
    (result,) = results
    assert Status.SUCCESS is result.status
    assert "what it read was not recorded" in result.message
    assert ["its last run left no record of what it read"] == changed(project, "fit/A")


def reads_file(path: Path) -> bool:
    """Whether some process has a file open."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(path) in [file.path for file in process.open_files()]:
                return True
    return False
