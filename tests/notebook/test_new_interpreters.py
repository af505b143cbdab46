"""Pools of a flow whose processes are new interpreters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from multiprocessing import process, reduction, spawn

import pytest
from support import TinyProject

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(sys.platform == "win32", reason="start methods of POSIX"),
]

FLOW = """
# %%
from ductaflow import is_notebook_execution, load_cli_config
if not is_notebook_execution():
    config = load_cli_config("config/flows/fit.json")
import json, multiprocessing
from concurrent.futures import ProcessPoolExecutor
ctx = multiprocessing.get_context(config["method"])
# %%
def add(x):
    return x + config["add"]
class Point:
    def __init__(self, x):
        self.x = x
def moved(point):
    return Point(point.x + 1)
# %%
if __name__ == "__main__":
    with ctx.Pool(2) as pool:
        out = [pool.map(add, [1, 2]), [one.x for one in pool.map(moved, [Point(1)])]]
    with ProcessPoolExecutor(1, mp_context=ctx) as pool:
        out.append(list(pool.map(add, [3])))
    one = ctx.Process(target=add, args=(1,))
    one.start()
    one.join()
    json.dump([*out, one.exitcode], open("out.json", "w"))
"""
RESULT = [[101, 102], [2], [103], 0]


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("engine", ["warm", "fresh", "kernel", "script"])
def test_a_guarded_flow(project: TinyProject, engine: str, method: str) -> None:
    """Functions and classes of the flow work in its pools, in every way of running, with its config."""
    source = project.flow("fit", FLOW)
    run = {} if engine == "script" else {"_run": {"engine": engine}}
    project.config("flows/fit/a.json", method=method, add=100, **run)
    if engine == "script":
        done = subprocess.run(
            [sys.executable, source, "--instance", "a"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
    else:
        assert "success" == str(project.run("fit/a").status)

    assert RESULT == json.loads((project.folder("fit", "a") / "out.json").read_text())


UNGUARDED = {
    "map": "with ctx.Pool(2) as pool:\n    pool.map(add, [1, 2])",
    "async": "with ctx.Pool(2) as pool:\n    pool.apply_async(add, (1,)).get()",
    "argument": "with ctx.Pool(1) as pool:\n    pool.map(repr, [Point(1)])",
    "process": "ctx.Process(target=add, args=(1,)).start()",
    "executor": "with ProcessPoolExecutor(2, mp_context=ctx) as pool:\n    list(pool.map(add, [1]))",
    "function": "def start():\n    with ctx.Pool(2) as pool:\n        return pool.map(add, [1])\nstart()",
    "other condition": "if __name__ != 'x':\n    with ctx.Pool(2) as pool:\n        pool.map(add, [1])",
    "behind the guard": "if __name__ == '__main__':\n    pass\nelse:\n    pass\nctx.Pool(1).map(add, [1])",
}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("name", UNGUARDED)
def test_an_unguarded_flow_fails_at_once(project: TinyProject, name: str, method: str) -> None:
    """The error says what to do; no process waits for ever, and none starts others."""
    head = FLOW.split("# %%\nif __name__")[0]
    result = project.run_code(
        f"{head}# %%\n{UNGUARDED[name]}\n", config={"method": method, "add": 1}, timeout=60
    )

    assert ("error", "exception") == (str(result.status), result.cause)
    assert "PicklingError" in result.message
    assert "is defined in the flow" in result.message
    assert "Put it into a module of the project, guard the call" in result.message


def test_an_unguarded_script_fails_at_once(project: TinyProject) -> None:
    """As plain Python too, where a pool would start processes for ever."""
    source = project.flow("fit", FLOW.replace('if __name__ == "__main__":', "if True:"))
    project.config("flows/fit/a.json", method="spawn", add=100)
    done = subprocess.run(
        [sys.executable, source, "--instance", "a"], capture_output=True, text=True, timeout=60, check=False
    )

    assert 1 == done.returncode
    assert "is defined in the flow" in done.stdout + done.stderr


def test_functions_of_modules_need_no_guard(project: TinyProject) -> None:
    """A pool of spawned processes works in an unguarded cell, with functions of the project's modules."""
    (project.root / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    code = """
    # %%
    import multiprocessing, helper
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(helper.double, [1, 2]))
    open("top", "a").write("once")
    """
    assert "success" == str(project.run_code(code, timeout=60).status)
    assert "once" == (project.folder("fit", "a") / "top").read_text()


@pytest.mark.parametrize("engine", ["warm", "fresh", "kernel"])
def test_the_file_of_a_flow(project: TinyProject, engine: str) -> None:
    """`__file__` is the flow, classes have a source, and a file beside the flow is found by it."""
    (project.root / "flows" / "beside.txt").write_text("text")
    result = project.run_code(
        """
        # %%
        import inspect
        from pathlib import Path
        class Point:
            x = 1
        # %%
        assert inspect.getsource(Point) == "class Point:\\n    x = 1\\n", inspect.getsource(Point)
        assert Path(__file__).name == "fit.py" and Path(__file__).is_absolute()
        assert Path(__file__).with_name("beside.txt").read_text() == "text"
        """,
        engine=engine,
    )

    assert "success" == str(result.status), result.message


def test_nothing_is_left(project: TinyProject) -> None:
    """The file that tells the processes of the flow is removed."""
    result = project.run_code(
        """
        # %%
        import multiprocessing, os
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.map(abs, [1])
        open("name", "w").write(os.environ["DUCTAFLOW_SPAWNED_FLOW"])
        """
    )

    assert "success" == str(result.status)
    assert not os.path.exists((project.folder("fit", "a") / "name").read_text())


def test_hooks() -> None:
    """Python has the private parts that this depends on."""
    assert callable(spawn.get_preparation_data)
    assert hasattr(process, "_children")
    assert "reducer_override" not in vars(reduction.ForkingPickler)
    assert "_inheriting" in spawn._check_not_importing_main.__code__.co_consts
