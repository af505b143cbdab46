"""`pytest --ductaflow --pdb` and `--trace`: the debugger is in the flow's own frame, and the run is a run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from support import TinyProject

from ductaflow.execution.inplace import code_to_watch, run_here
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.store.result import read_result

FLOW = """
# %%
import helper
import json
import os, pathlib
from ductaflow import is_notebook_execution, load_cli_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/fit.json", "Fit")

# %%
doubled = config["x"] * 2
print("doubled is", doubled)
pathlib.Path("out.txt").write_text(str(doubled))

# %%
if config["x"] == 2:
    json.loads("no json")
if config["x"] == 3:
    breakpoint()
    print("went on")
if config["x"] == 4:
    raise SystemExit(3)
os.environ["LEFT_BY_FLOW"] = "1"
"""
#: The lines of `FLOW` in its file, which begins with the parameters cell. Since Python 3.13
#: `breakpoint()` stops in its own line, not in the next one.
AT_JSON, AT_BREAKPOINT, AT_EXIT = 20, 22 if sys.version_info >= (3, 13) else 23, 25


@dataclass(frozen=True)
class Session:
    code: int
    out: str


def debug(project: TinyProject, commands: str, *args: str) -> Session:
    """A session in which a person types some commands."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--ductaflow", *args],
        cwd=project.root,
        env={**environment, "PYTHONUTF8": "1", "COLUMNS": "160"},
        input=commands,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Session(done.returncode, done.stdout + done.stderr)


@pytest.fixture
def project(project: TinyProject) -> TinyProject:
    """A flow that fails, stops or exits as its config says, with a module of the project beside it."""
    project.flow("fit", FLOW)
    (project.root / "flows" / "helper.py").write_text("")
    return project


@pytest.mark.slow
def test_pdb_stops_in_the_flow_at_its_true_line(project: TinyProject) -> None:
    """With its variables; what it called is below it; and the run leaves config, log and result."""
    project.config("flows/fit/a.json", x=2)
    project.config("flows/fit/b.json", x=1)
    session = debug(project, "p 'own', doubled\ndown\np 'below', s\nc\n", "--pdb")
    folder = project.folder("fit", "a")
    result = read_result(folder)
    log = (folder / "fit_execution_output.txt").read_text()

    assert 1 == session.code
    assert "1 failed, 1 passed" in session.out
    assert "PDB JSONDecodeError: Expecting value" in session.out
    assert f"{project.root / 'flows' / 'fit.py'}({AT_JSON})<module>()" in session.out
    assert "('own', 4)" in session.out
    assert "('below', 'no json')" in session.out
    assert 1 == session.out.count("PDB ")
    assert f"flows/fit.py:{AT_JSON}: JSONDecodeError" in session.out
    assert result is not None
    assert ("error", AT_JSON) == (result.status, result.failure and result.failure.line)
    assert result.message.endswith("best effort: it ran in the process of a debugger")
    assert ["out.txt"] == [output["path"] for output in result.outputs]
    assert "doubled is 4\nTraceback" in log
    assert "(Pdb)" not in log
    assert "own" not in log


@pytest.mark.slow
def test_quit_ends_the_session(project: TinyProject) -> None:
    """As in pytest; the run that was looked at has its result, the others have not run."""
    project.config("flows/fit/a.json", x=4)
    project.config("flows/fit/b.json", x=1)
    session = debug(project, "q\n", "--pdb")
    result = read_result(project.folder("fit", "a"))

    assert f"fit.py({AT_EXIT})<module>()" in session.out
    assert "Quitting debugger" in session.out
    assert "1 error, 1 not_run" in session.out
    assert result is not None
    assert ("error", "exit", 3) == (result.status, result.cause, result.exit_code)


@pytest.mark.slow
def test_a_breakpoint_in_a_flow_stops_there(project: TinyProject) -> None:
    """What is printed behind it is still in the log."""
    project.config("flows/fit/a.json", x=3)
    session = debug(project, "p 'x', config['x']\nc\n", "--pdb")
    result = read_result(project.folder("fit", "a"))

    assert 0 == session.code, session.out
    assert f"fit.py({AT_BREAKPOINT})<module>()" in session.out
    assert "('x', 3)" in session.out
    assert result is not None
    assert "success" == result.status
    assert "went on\n" in (project.folder("fit", "a") / "fit_execution_output.txt").read_text()


@pytest.mark.slow
def test_a_run_under_the_debugger_is_a_run_like_any(project: TinyProject) -> None:
    """It knows what it read: what has not changed since is left alone, what has runs."""
    project.flow("fit", "# %%\nimport helper\nprint(open(config['data']).close())\n")
    data = project.root / "inputs" / "data.csv"
    data.parent.mkdir()
    data.write_text("1")
    project.config("flows/fit/a.json", data=str(data))
    first = debug(project, "", "--pdb")
    again = debug(project, "", "--pdb", "--ductaflow-changed")
    (project.root / "flows" / "helper.py").write_text("x = 1\n")
    edited = debug(project, "", "--ductaflow-changed", "-v")

    assert "1 passed" in first.out
    assert "1 unchanged" in again.out
    assert "helper.py" in edited.out
    assert "1 passed" in edited.out


@pytest.mark.slow
def test_a_build_stops_where_its_flow_failed(project: TinyProject) -> None:
    """In the build's own frame; the flow is a process of its own, whose lines are in the build's log."""
    project.flow(
        "all",
        "# %%\nfrom ductaflow import run_notebook\n"
        "run_notebook('flows/fit.py', config={'x': 2}, execution_dir='runs/fit')",
        kind="builds",
    )
    project.config("builds/all.json")
    session = debug(project, "p 'in', config['_project_root']\nc\n", "--pdb")
    result = read_result(project.folder("all", "default"))

    assert f"{project.root / 'builds' / 'all.py'}(6)<module>()" in session.out
    assert f"('in', '{project.root.as_posix()}')" in session.out
    assert result is not None
    assert ("runs/fit",) == result.children
    assert "  doubled is 4\n" in (project.folder("all", "default") / "all_execution_output.txt").read_text()


@pytest.mark.slow
def test_trace_stops_at_the_first_line(project: TinyProject) -> None:
    """Without --pdb a failure later is an ordinary one."""
    project.config("flows/fit/a.json", x=2)
    session = debug(project, "p 'begins', __file__\nc\n", "--trace")

    assert f"('begins', '{project.root / 'flows' / 'fit.py'}')" in session.out
    assert f"{project.root / 'flows' / 'fit.py'}(2)<module>()" in session.out
    assert 1 == session.out.count("PDB ")
    assert "1 failed" in session.out


@pytest.mark.slow
def test_nothing_to_look_at_opens_no_prompt(project: TinyProject) -> None:
    """What cannot start, an expected failure, and a flow that is no plain Python."""
    (project.root / "config" / "flows" / "fit").mkdir()
    (project.root / "config" / "flows" / "fit" / "half.json").write_text('{"x": ')
    project.config("flows/fit/known.json", x=2, _run={"xfail": "known"})
    project.flow("syntax", "1 +")
    project.config("flows/syntax.json")
    session = debug(project, "", "--pdb")

    assert "1 failed, 1 xfailed, 1 error" in session.out
    assert "PDB" not in session.out
    assert "(Pdb)" not in session.out
    assert "SyntaxError" in session.out


# --- in the process ----------------------------------------------------------------------------------------


class Recorder:
    """A watcher that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def execute(self, code: object, namespace: dict[str, object]) -> None:
        exec(code, namespace)  # type: ignore[call-overload]

    def look(self, exc: BaseException, trace: object) -> None:
        assert trace is not None
        self.seen.append((type(exc).__name__, trace.tb_lineno))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("x", "seen"), [(1, []), (2, [("JSONDecodeError", AT_JSON)])])
def test_a_run_here_leaves_the_process_as_it_was(
    project: TinyProject, x: int, seen: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directory, environment, path, streams and the project's own modules, which the flow imports anew."""
    (project.root / "flows" / "helper.py").write_text("imported = print('imported anew')\n")
    project.config("flows/fit/a.json", x=x)
    spec = spec_of_instance(load_stored(Project.at(project.root), "fit/a"))
    code = code_to_watch(spec)
    assert code is not None
    known = ModuleType("helper")
    known.__file__ = str(project.root / "flows" / "helper.py")
    monkeypatch.setitem(sys.modules, "helper", known)
    before = (os.getcwd(), dict(os.environ), sys.path[:], sys.argv, sys.stdout, sys.modules["__main__"])
    recorder = Recorder()
    result = run_here(spec, code, recorder)
    after = (os.getcwd(), dict(os.environ), sys.path[:], sys.argv, sys.stdout, sys.modules["__main__"])

    assert before == after
    assert known is sys.modules["helper"]
    assert not hasattr(known, "imported")
    assert seen == recorder.seen
    assert "imported anew\n" in (project.folder("fit", "a") / "fit_execution_output.txt").read_text()
    assert ["error" if seen else "success", spec.session_id] == [result.status, result.session_id]
    assert not list((project.root / "runs" / ".ductaflow" / "running").glob("*"))


def test_runs_here_record_each_into_its_own_folder(project: TinyProject) -> None:
    """What the first one said last is written at its end, and by no other run of the process."""
    project.flow("fit", "# %%\nfrom ductaflow import record\nfor name in 'abc': record(name, config['x'])\n")
    for name, x in (("a", 1), ("b", 2)):
        project.config(f"flows/fit/{name}.json", x=x)
        spec = spec_of_instance(load_stored(Project.at(project.root), f"fit/{name}"))
        code = code_to_watch(spec)
        assert code is not None
        assert dict.fromkeys("abc", x) == run_here(spec, code, Recorder()).metrics


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        ("plain", '"""Text."""\nfrom __future__ import annotations\n# %%\nprint(config["x"])\n'),
        ("tagged", '# %% tags=["parameters"]\nconfig = {"x": 0}\n# %%\nprint(config["x"])\n'),
    ],
)
def test_the_config_is_where_papermill_puts_it(
    project: TinyProject, flow: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind the parameters cell, else before all cells."""
    (project.root / "flows" / f"{flow}.py").write_text(expected)
    project.config(f"flows/{flow}.json", x=5)
    spec = spec_of_instance(load_stored(Project.at(project.root), f"{flow}/default"))
    code = code_to_watch(spec)
    assert code is not None
    assert "success" == run_here(spec, code, Recorder()).status
    assert "5\n" == capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["magic", "notebook", "kernel"])
def test_what_is_no_plain_python_runs_as_ever(project: TinyProject, kind: str) -> None:
    """There is nothing that a debugger of this process could stop in."""
    options = {"_run": {"engine": "kernel"}} if kind == "kernel" else {}
    name = f"{kind}.ipynb" if kind == "notebook" else f"{kind}.py"
    (project.root / "flows" / name).write_text("%matplotlib inline\n" if kind == "magic" else "x = 1\n")
    project.config(f"flows/{kind}.json", **options)
    spec = spec_of_instance(load_stored(Project.at(project.root), f"{kind}/default"))
    assert code_to_watch(spec) is None
    assert not Path(spec.folder).exists()
