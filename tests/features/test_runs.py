"""One run, in each of its ways: what it leaves, what it says, and that the ways agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import NO_HTML, TinyProject

from ductaflow.common.errors import ConfigError, InstanceError
from ductaflow.execution.page_orders import PAGES
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.debug import debug_flow
from ductaflow.session.request import find_notebook
from ductaflow.session.runner import run_instance, run_notebook, run_step_flow
from ductaflow.store.result import FlowFailed, Result, Status, read_result

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]

SCRIPT = """
# %%
from ductaflow import is_notebook_execution, load_cli_config, unpack_config
import helper
if not is_notebook_execution():
    config = load_cli_config("config/flows/fit.json", "Fit something")
# %%
settings = unpack_config(config, "fit", locals())
print("Warning: as it is")
open("out.csv", "w").write(f"{settings['x']},{helper.VALUE}")
# %%
if settings.get("fail"):
    raise ValueError(settings["fail"])
if settings.get("leave") is not None:
    import sys
    sys.exit(settings["leave"])
# %%
print("end")
"""


@pytest.fixture
def scripted(project: TinyProject) -> TinyProject:
    """A flow that runs in all three ways, with a module of the project's own at its root."""
    project.flow("fit", SCRIPT)
    (project.root / "helper.py").write_text("VALUE = 7\n")
    project.config("flows/fit.json", x=1)
    project.config("flows/fit/good.json", x=2)
    project.config("flows/fit/bad.json", fail="no weeks")
    project.config("flows/fit/left.json", leave=0)
    project.config("flows/fit/code.json", leave=4)
    return project


def comparable(folder: Path) -> dict[str, Any]:
    result = read_result(folder)
    assert result is not None
    return {
        "status": result.status,
        "cause": result.cause,
        "message": result.message,
        "cells": result.cells,
        "exit_code": result.exit_code,
        "line": result.failure and result.failure.line,
        "file": result.failure and result.failure.file,
        "outputs": [(output["path"], output["size"]) for output in result.outputs],
        "config_hash": result.config_hash,
        "config": json.loads((folder / "fit_config.json").read_text()),
        "data": (folder / "out.csv").read_text(),
    }


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("good", "warning", 0), ("bad", "error", 1), ("left", "warning", 0), ("code", "error", 4)],
)
def test_three_ways_agree(scripted: TinyProject, name: str, status: str, code: int) -> None:
    """As a notebook, as a script and through the library: the same files, config, status and exit code."""
    instance = load_stored(Project.at(scripted.root), f"fit/{name}")
    run_instance(instance, check=False, settings=NO_HTML)
    folder = scripted.folder("fit", name)
    stored = comparable(folder)
    assert status == stored["status"]

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = [sys.executable, str(scripted.root / "flows" / "fit.py"), "--instance", name]
    done = subprocess.run(script, cwd=scripted.root.parent, capture_output=True, env=environment, check=False)
    assert code == done.returncode, done.stderr.decode()
    assert stored == comparable(folder)
    log = (folder / "fit_cli_execution_output.txt").read_text(encoding="utf-8")
    assert log == done.stdout.decode()
    assert not (folder / "fit.ipynb").exists()

    other = scripted.root / "runs" / "other" / name
    try:
        run_notebook(
            scripted.root / "flows/fit.py", config=instance.config, execution_dir=other, export_html=False
        )
    except FlowFailed:
        assert "error" == status
    assert stored == comparable(other)


def test_what_a_run_leaves(project: TinyProject) -> None:
    """The executed notebook, its HTML, the exact config, the log and the result; nothing else of ours."""
    source = project.flow("fit", "# %%\nprint('hello')\n41 + 1\n")
    notebook = run_notebook(source, config={"x": 1}, execution_dir=project.folder("fit", "a"))
    folder = notebook.parent
    assert [
        "fit.html",
        "fit.ipynb",
        "fit_config.json",
        "fit_execution_output.txt",
        "result.json",
    ] == sorted(path.name for path in folder.iterdir())
    assert {"x": 1, "_project_root": project.root.as_posix()} == json.loads(
        (folder / "fit_config.json").read_text()
    )
    lines = (folder / "fit_execution_output.txt").read_text(encoding="utf-8").splitlines()
    assert ["🚀 Starting fit | Instance: a", "hello", "42"] == lines[:3]
    assert lines[3].startswith("✅ Completed fit | Instance: a | Time: ")
    cells = json.loads(notebook.read_text())["cells"]
    assert ["hello\n"] == [
        o["text"] if isinstance(o["text"], str) else "".join(o["text"])
        for o in cells[2]["outputs"]
        if o["output_type"] == "stream"
    ]
    result = read_result(folder)
    assert result is not None
    assert result.environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert result.peak_memory is not None
    assert result.peak_memory > 10_000_000


def test_the_console_shows_the_run_live(project: TinyProject, capsys: pytest.CaptureFixture[str]) -> None:
    """What the log has, the console has shown."""
    source = project.flow(
        "fit", "# %%\nimport subprocess\nprint('one', flush=True)\nsubprocess.run(['echo', 'two'])\n"
    )
    run_notebook(source, config={}, execution_dir=project.folder("fit", "a"), export_html=False)
    log = (project.folder("fit", "a") / "fit_execution_output.txt").read_text(encoding="utf-8")
    assert log == capsys.readouterr().out
    assert "one\ntwo\n" in log


def test_a_console_that_cannot_show_it(project: TinyProject) -> None:
    """A console of an old code page shows what it can, and the run is green."""
    source = project.flow("fit", "# %%\nprint('snowman \\u2603')\n")
    folder = project.folder("fit", "a")
    call = f"run_notebook({str(source)!r}, config={{}}, execution_dir={str(folder)!r}, export_html=False)"
    code = f"from ductaflow import run_notebook\n{call}\n"
    env = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=True)
    assert b"snowman ?" in done.stdout
    assert b"" == done.stderr


BUILD = """
# %%
from ductaflow import FlowFailed, run_notebook
run_notebook("flows/prep.py", config={"n": config["n"]}, execution_dir="runs/prep", export_html=False)
# %%
try:
    clean = {"clean": "../prep/clean.csv"}
    run_notebook("flows/use.py", config=clean, execution_dir="runs/use", export_html=False)
except FlowFailed as failed:
    print("use failed:", failed.result.cause)
"""


@pytest.fixture
def built(project: TinyProject) -> TinyProject:
    project.flow("chain", BUILD, kind="builds")
    project.flow("prep", "# %%\nprint('  Warning: prep')\nopen('clean.csv', 'w').write(str(config['n']))\n")
    project.flow("use", "# %%\nn = int(open(config['clean']).read())\nassert n > 0, 'none left'\n")
    return project


def run_build(project: TinyProject, n: int) -> Result:
    folder = project.folder("chain", "s1")
    try:
        run_notebook("builds/chain.py", config={"n": n}, execution_dir=folder, project_root=project.root)
    except FlowFailed as failed:
        return failed.result
    result = read_result(folder)
    assert result is not None
    return result


def test_a_build_runs_flows_below_its_own_folder(built: TinyProject) -> None:
    """Its flows read each other by `../`, their lines are in its log, and it is as bad as they are."""
    result = run_build(built, 3)
    assert ("build", Status.WARNING, ("runs/prep", "runs/use")) == (
        result.kind,
        result.status,
        result.children,
    )
    assert result.folder is not None
    log = (result.folder / "chain_execution_output.txt").read_text(encoding="utf-8").splitlines()
    assert "    Warning: prep" in log
    assert 2 == sum(line.startswith(("🚀", "✅")) for line in log)
    inner = read_result(result.folder / "runs" / "use")
    assert inner is not None
    assert Status.SUCCESS is inner.status
    assert result.session_id == inner.session_id
    assert ["prep/clean.csv"] == [
        Path(entry["path"]).relative_to("runs/chain/s1/runs").as_posix() for entry in inner.inputs
    ]
    assert () == result.outputs


def test_a_build_that_catches_a_red_flow_is_red(built: TinyProject) -> None:
    """A build is red when one of its flows is, also where it went on; the message names the flow."""
    result = run_build(built, 0)
    assert ("error", "exception") == (result.status, result.cause)
    assert "flow use/use: flows/use.py:6: AssertionError: none left" == result.message
    assert result.cells.run == result.cells.total


def test_a_projects_own_modules_import_and_its_outputs_shadow_nothing(project: TinyProject) -> None:
    """The flow's folder and the root are on sys.path; an output that is called like a module is not found."""
    (project.root / "at_root.py").write_text("A = 1\n")
    (project.root / "flows" / "beside.py").write_text("B = 2\n")
    source = project.flow(
        "fit",
        "# %%\nopen('colorsys.py', 'w').write('broken = 1')\n"
        "# %%\nimport at_root, beside, colorsys\ncolorsys.rgb_to_hls\n",
    )
    run_notebook(source, config={}, execution_dir=project.folder("fit", "a"), export_html=False)


def test_a_kernel_runs_what_asks_for_one(project: TinyProject) -> None:
    """The engine `kernel` has the same verdicts, with the line in the file."""
    source = project.flow("fit", "# %%\nprint('Warning: in a kernel')\n# %%\nif config['x']:\n    1 / 0\n")
    folder = project.folder("fit", "a")
    run_notebook(source, config={"x": 0}, execution_dir=folder, engine="kernel", export_html=False)
    good = read_result(folder)
    assert good is not None
    assert (Status.WARNING, 3) == (good.status, good.cells.run)
    with pytest.raises(FlowFailed, match=r"flows/fit.py:8: ZeroDivisionError") as failed:
        run_notebook(source, config={"x": 1}, execution_dir=folder, engine="kernel", export_html=False)
    assert (2, 3) == (failed.value.result.cells.run, failed.value.result.cells.total)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_kernel_that_is_killed(project: TinyProject) -> None:
    """A kernel that died is red with its signal, though papermill calls every cell completed."""
    source = project.flow("fit", "# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n# %%\n1\n")
    with pytest.raises(FlowFailed) as failed:
        run_notebook(source, config={}, execution_dir=project.folder("fit", "a"), engine="kernel")
    result = failed.value.result
    assert ("signal", "SIGKILL") == (result.cause, result.signal)
    assert "the kernel was killed by SIGKILL" in result.message


def test_python_values_become_json(project: TinyProject) -> None:
    """Numpy scalars, paths and dates in a config from Python reach the flow as JSON values."""
    import datetime

    import numpy as np

    source = project.flow(
        "fit",
        "# %%\nassert config['n'] == 5 and type(config['n']) is int\n"
        "assert config['p'] == \"a/it's.csv\"\nassert config['d'] == '2026-01-02'\n",
    )
    config = {"n": np.int64(5), "p": Path("a/it's.csv"), "d": datetime.date(2026, 1, 2)}
    run_notebook(source, config=config, execution_dir=project.folder("fit", "a"), export_html=False)
    with pytest.raises(ConfigError, match=r"config\.s"):
        run_notebook(source, config={"s": {1, 2}}, execution_dir=project.folder("fit", "b"))
    with pytest.raises(ConfigError, match=r"config\.x"):
        run_notebook(source, config={"x": float("nan")}, execution_dir=project.folder("fit", "b"))
    assert not project.folder("fit", "b").exists()


def test_run_step_flow_names_its_folder(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runs/<step>/<instance><suffix>` below the working directory."""
    project.flow("fit", "# %%\n1\n")
    monkeypatch.chdir(project.root)
    notebook = run_step_flow("flows/fit.py", "fit", "a", {}, suffix="_high")
    assert project.root / "runs" / "fit" / "a_high" / "fit.ipynb" == notebook


def test_a_notebook_is_looked_up_from_the_project(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the working directory, then from the project root; a miss names the places."""
    source = project.flow("fit", "# %%\n1\n")
    monkeypatch.chdir(project.root / "config")
    assert source == find_notebook("flows/fit.py")
    with pytest.raises(InstanceError, match=r"no notebook flows/fitt\.py"):
        find_notebook("flows/fitt.py")
    (project.root / "x.csv").touch()
    with pytest.raises(InstanceError, match="is not a notebook"):
        find_notebook("x.csv")


def test_debug_flow_prepares_without_running(
    project: TinyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    """The notebook has the config injected, the saved config is there, and the launch entry runs the .py."""
    source = project.flow("fit", "# %%\nopen('ran', 'w')\n")
    folder = project.folder("fit", "a")
    setup = debug_flow(source, folder, {"x": 5})
    assert ["fit.ipynb", "fit_config.json"] == sorted(path.name for path in folder.iterdir())
    assert "'x': 5" in setup.notebook.read_text() or '"x": 5' in setup.notebook.read_text()
    assert str(source) == setup.launch["program"]
    assert ["--config", str(setup.config), "--output-dir", str(folder)] == setup.launch["args"]
    assert '"type": "debugpy"' in capsys.readouterr().out
    again = debug_flow(source, folder)
    assert 5 == json.loads(again.config.read_text())["x"]
    with pytest.raises(ConfigError, match="no config is given"):
        debug_flow(source, project.folder("fit", "never"))


def test_the_launch_entry_stops_at_a_breakpoint(scripted: TinyProject) -> None:
    """What debug_flow gives runs the flow in the debugged process, so that breakpoints bind."""
    setup = debug_flow(
        scripted.root / "flows/fit.py", scripted.folder("fit", "dbg"), {"x": 1, "fail": "here"}
    )
    commands = f"b {setup.launch['program']}:15\nc\np 'stopped', settings['x']\nq\n"
    done = subprocess.run(
        [sys.executable, "-m", "pdb", setup.launch["program"], *setup.launch["args"]],
        input=commands,
        capture_output=True,
        text=True,
        cwd=setup.launch["cwd"],
        check=False,
    )
    assert "('stopped', 1)" in done.stdout, done.stdout + done.stderr


def test_a_run_under_a_debugger_says_that_it_is_best_effort(scripted: TinyProject) -> None:
    """The result of a run in the watched process has its verdict and the reservation."""
    for name, expected in {"good": "warning", "bad": "error", "code": "error", "left": "warning"}.items():
        subprocess.run(
            [sys.executable, "-m", "pdb", "-c", "c", "-c", "q", "flows/fit.py", "--instance", name],
            cwd=scripted.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        result = read_result(scripted.folder("fit", name))
        assert result is not None, name
        assert expected == result.status, name
        assert "best effort: it ran in the process of a debugger" in result.message


def test_no_execute(scripted: TinyProject) -> None:
    """`--no-execute` and `no_execute=True` prepare the folder and run nothing."""
    script = [sys.executable, "flows/fit.py", "--instance", "good", "--no-execute"]
    subprocess.run(script, cwd=scripted.root, check=True, capture_output=True)
    folder = scripted.folder("fit", "good")
    assert ["fit.ipynb", "fit_config.json"] == sorted(path.name for path in folder.iterdir())
    run_notebook(scripted.root / "flows/fit.py", config={"x": 1}, execution_dir=folder, no_execute=True)
    assert not (folder / "result.json").exists()


def test_bad_command_lines(scripted: TinyProject) -> None:
    """A script with a wrong instance or config says what there is, with exit code 2 and no traceback."""
    for arguments, said in [
        (["--instance", "goood"], "good"),
        (["--config", "nowhere.json"], "no config file nowhere.json"),
        (["--config", "config/flows/fit.csv"], "no config file"),
    ]:
        done = subprocess.run(
            [sys.executable, "flows/fit.py", *arguments],
            cwd=scripted.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert 2 == done.returncode
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_saved_config_runs_again_elsewhere(scripted: TinyProject, tmp_path: Path) -> None:
    """A config that was saved in one place is taken as it is in another, with that project's root."""
    run_instance(load_stored(Project.at(scripted.root), "fit/good"), settings=NO_HTML)
    moved = tmp_path / "moved"
    scripted.root.rename(moved)
    saved = moved / "runs" / "fit" / "good" / "fit_config.json"
    subprocess.run(
        [sys.executable, "flows/fit.py", "--config", str(saved), "--output-dir", "runs/fit/again"],
        cwd=moved,
        check=True,
        capture_output=True,
    )
    config = json.loads((moved / "runs/fit/again/fit_config.json").read_text())
    assert {"x": 2, "_project_root": moved.as_posix()} == config


def test_a_symlink_out_of_the_tree(project: TinyProject, tmp_path: Path) -> None:
    """A run folder that a symlink leads elsewhere is refused before anything is written there."""
    from ductaflow.common.errors import RunFolderError

    outside = tmp_path / "outside"
    outside.mkdir()
    (project.root / "runs").mkdir()
    (project.root / "runs" / "fit").symlink_to(outside)
    source = project.flow("fit", "# %%\n1\n")
    with pytest.raises(RunFolderError, match="leads out of"):
        run_notebook(source, config={}, execution_dir=project.folder("fit", "a"))
    assert [] == list(outside.iterdir())


def test_a_notebook_that_cannot_be_read(project: TinyProject) -> None:
    """A broken source is red with the reason, not a traceback of ours."""
    source = project.root / "flows" / "fit.ipynb"
    source.write_text("{ half")
    with pytest.raises(FlowFailed, match="not a notebook"):
        run_notebook(source, config={}, execution_dir=project.folder("fit", "a"))


def test_the_time_limit_is_the_flows_own(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that ended in time is green though the HTML that its process makes takes longer than that."""
    monkeypatch.setenv(PAGES, "off")
    code = """
    # %%
    import time
    import ductaflow.notebook.export
    export = ductaflow.notebook.export.convert_notebook_to_html
    def slow(*paths):
        time.sleep(5)
        export(*paths)
    ductaflow.notebook.export.convert_notebook_to_html = slow
    """
    folder = project.folder("fit", "a")
    run_notebook(project.flow("fit", code), config={}, execution_dir=folder, timeout=4, engine="fresh")
    result = read_result(folder)
    assert result is not None
    assert (Status.SUCCESS, "") == (result.status, result.message)
    assert (folder / "fit.html").exists()


@pytest.mark.parametrize(
    ("first", "warning"),
    [
        ("# %%\nconfig = {}\n", 'the cell in line 2 replaces the config: it lacks `tags=["parameters"]`'),
        (
            '# %% tags=["parameters"]\nparams = {}\n',
            "the cell tagged `parameters` (line 2) does not assign `config`",
        ),
        ("# %%\nprint('no parameters at all')\n", None),
    ],
)
def test_a_config_that_does_not_reach_the_flow(project: TinyProject, first: str, warning: str | None) -> None:
    """A flow that would run with its defaults instead of its config is orange and says why."""
    source = project.root / "flows" / "fit.py"
    source.write_text(f"{first}\n# %%\nprint('the flow')\n")
    run_notebook(source, config={"x": 1}, execution_dir=project.folder("fit", "a"), export_html=False)
    result = read_result(project.folder("fit", "a"))
    assert result is not None
    assert ([f"Warning: {warning}"] if warning else []) == [line.text for line in result.warnings]


def test_an_early_exit_is_a_warning_line(scripted: TinyProject) -> None:
    """What makes the run orange stands in its log, where pytest and the page find it."""
    result = run_instance(load_stored(Project.at(scripted.root), "fit/left"), settings=NO_HTML)
    assert "stopped early at cell 4 of 5" == result.message
    assert "⚠ stopped early at cell 4 of 5" in [warning.text for warning in result.warnings]


def test_an_instance_by_its_id(scripted: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run_instance` takes the id of a stored instance of the project around the working directory."""
    monkeypatch.chdir(scripted.root / "flows")
    assert "good" == run_instance("fit/good", settings=NO_HTML).instance
    with pytest.raises(FlowFailed, match="no weeks"):
        run_instance("fit/bad", settings=NO_HTML)
    monkeypatch.chdir("/")
    with pytest.raises(InstanceError, match="lies in no project"):
        run_instance("fit/good")


def test_a_console_that_is_closed(scripted: TinyProject) -> None:
    """`python flows/fit.py | head -1` runs to its end without a word of ours."""
    script = f"{sys.executable} flows/fit.py --instance good | head -1"
    done = subprocess.run(["sh", "-c", script], cwd=scripted.root, capture_output=True, text=True, check=True)
    assert "🚀 Starting fit | Instance: good\n" == done.stdout
    assert "" == done.stderr
    result = read_result(scripted.folder("fit", "good"))
    assert result is not None
    assert Status.WARNING is result.status


@pytest.mark.parametrize("name", ["load_cli_config", "run_notebook", "is_notebook_execution"])
def test_a_script_finds_the_modules_of_its_project(project: TinyProject, name: str) -> None:
    """Whatever a flow imports of ours puts the project root on the path of a script."""
    (project.root / "helpers.py").write_text("VALUE = 7\n")
    source = project.root / "flows" / "fit.py"
    source.write_text(f"from ductaflow import {name}\nimport helpers\nprint(helpers.VALUE)\n")
    done = subprocess.run([sys.executable, str(source)], cwd=project.root, stdout=subprocess.PIPE, check=True)
    assert b"7\n" == done.stdout
