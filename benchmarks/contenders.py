"""Who runs a flow: each in a process that is started up, and as a whole command.

    python contenders.py <name> <notebook> <folder> <count>     the runs of a whole command, in a loop

The loop is for those who have no command for many runs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import EMPTY, LIGHT, OURS, PYTEST, Flow, instance_name

FIGURE = Flow(
    "figure",
    (
        "import matplotlib.pyplot as plt",
        'figure, axes = plt.subplots()\naxes.plot(range(config["points"]))\nfigure.savefig("out.png")',
        "plt.show()",
    ),
    {"points": 100},
    "out.png",
)
FLOWS = {flow.name: flow for flow in (LIGHT, EMPTY, FIGURE)}
#: Runs a notebook in an empty folder. What it imports has been imported before.
RunIn = Callable[[Flow, Path, Path], object]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a flow.

    Attributes:
        prepare: imports what `RunIn` needs and gives it.
        command: for the notebooks in a folder; without one, many runs are a loop.
        package: what has to be installed besides this project.
        engine: ours: the engine.
        html: ours: whether it makes a page.
        parallel: whether the command knows many notebooks and `-n`.
    """

    about: str
    prepare: Callable[[], RunIn]
    command: Callable[[Path], list[str]] | None = None
    package: str = ""
    engine: str = ""
    html: bool = True
    parallel: bool = False


def executing(module: str) -> RunIn:
    """The function `execute_notebook` of a module."""
    execute = importlib.import_module(module).execute_notebook
    return lambda flow, notebook, folder: execute(
        *(str(notebook), str(folder / notebook.name)),
        parameters={"config": flow.config},
        cwd=str(folder),
        progress_bar=False,
    )


def executed(*program: str) -> Callable[[Path], list[str]]:
    """A command that executes the notebook in a folder."""

    def command(folder: Path) -> list[str]:
        notebook = next(folder.rglob("*.ipynb"))
        paths = map(str, (notebook, notebook.with_name("executed.ipynb"), "--cwd", notebook.parent))
        return [sys.executable, *program, *paths]

    return command


def nbmake() -> RunIn:
    import pytest

    def run(flow: Flow, notebook: Path, folder: Path) -> None:
        # nbmake runs a notebook where it lies
        shutil.copy(notebook, folder)
        if code := pytest.main(nbmake_command(folder)[3:]):
            raise RuntimeError(f"pytest --nbmake ended with {code}")

    return run


def nbmake_command(folder: Path) -> list[str]:
    plugins = ("-p", "xdist.plugin", "-p", "nbmake.pytest_plugin")
    return [*PYTEST, *plugins, "--nbmake", f"--rootdir={folder}", str(folder)]


def script(flow: Flow, notebook: Path, folder: Path) -> None:
    subprocess.run([sys.executable, notebook.with_suffix(".py")], cwd=folder, check=True)


def floor() -> RunIn:
    """The least that isolation can cost: fork a process that has imported everything, execute, wait."""
    for name in ("pandas", "matplotlib.pyplot", "matplotlib.backends.backend_agg"):
        importlib.import_module(name)
    compiled = {
        flow.name: [compile(text, flow.name, "exec") for text in flow.text.split("# %%\n")]
        for flow in FLOWS.values()
    }
    gc.collect()
    gc.freeze()

    def run(flow: Flow, notebook: Path, folder: Path) -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.chdir(folder)
                names: dict[str, Any] = {"__name__": "__main__"}
                for cell in compiled[flow.name]:
                    exec(cell, names)
                sys.stdout.flush()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        if status:
            raise RuntimeError(f"the fork ended with {status}")

    return run


def ours(engine: str, *, await_page: bool = False, html: bool = True) -> RunIn:
    """A session goes on as soon as it has the result; the HTML may come after."""
    from ductaflow import run_instance
    from ductaflow.project.settings import Settings
    from ductaflow.store.sessions import session_of

    # with its session, which asks git once and not for each run
    return lambda flow, notebook, folder: run_instance(
        f"{flow.name}/{folder.name}",
        settings=Settings(engine=engine, html=html),
        await_page=await_page,
        session_id=session_of().id,
    )


def contender_of_ours(engine: str, *, html: bool = True) -> Contender:
    command = [*OURS, "--ductaflow-engine", engine, *([] if html else ["--ductaflow-no-html"])]
    return Contender(
        f"ours, {engine}{'' if html else ', without HTML'}",
        lambda: ours(engine, html=html),
        lambda _: [*command],
        engine=engine,
        html=html,
        parallel=True,
    )


CONTENDERS = {
    "papermill": Contender(
        "papermill, a fresh kernel a run", lambda: executing("papermill"), executed("-m", "papermill")
    ),
    "nbmake": Contender("pytest --nbmake", nbmake, nbmake_command, "nbmake", parallel=True),
    "ploomber": Contender(
        "ploomber-engine, no isolation",
        lambda: executing("ploomber_engine"),
        executed("-c", "from ploomber_engine.cli import cli; cli()"),
        "ploomber-engine",
    ),
    "script": Contender(
        "bare script: python flow.py",
        lambda: script,
        lambda folder: [sys.executable, str(next(folder.rglob("*.py")))],
    ),
    **{engine: contender_of_ours(engine) for engine in ("kernel", "fresh", "warm")},
    "no-html": contender_of_ours("warm", html=False),
    "page": Contender(
        "ours, warm, until the HTML is made", lambda: ours("warm", await_page=True), engine="warm"
    ),
    "floor": Contender("floor: fork and exec, no notebook", floor),
}

# --- the processes -----------------------------------------------------------------------------------------

_run_in: RunIn


def write_notebooks(workspace: Path) -> None:
    """Each flow as an `.ipynb` file for the kernel `python3`, and as a script beside it."""
    import jupytext
    import nbformat

    (workspace / "notebooks").mkdir(exist_ok=True)
    for flow in FLOWS.values():
        notebook = jupytext.reads(flow.text, fmt="py:percent")
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, workspace / "notebooks" / f"{flow.name}.ipynb")
        (workspace / "notebooks" / f"{flow.name}.py").write_text(flow.text)


def begin(name: str, workspace: Path) -> None:
    """Start up a process of a contender, in a project; what it prints is of interest only if it fails."""
    global _run_in
    with (workspace / f"{name}.txt").open("wb") as errors:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    if name != "ploomber":
        sys.path.insert(0, str(workspace / "shadow"))
    os.chdir(workspace / "project")
    _run_in = CONTENDERS[name].prepare()


def run_once(name: str, flow_name: str, number: int) -> float:
    """Seconds of a run in the process that `begin` started up."""
    flow, contender, project = FLOWS[flow_name], CONTENDERS[name], Path.cwd()
    runs = project / "runs" if contender.engine else project.parent / "runs" / name
    folder = runs / flow.name / instance_name(number)
    # another engine's run of the same instance
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    if not contender.engine:
        folder.mkdir(parents=True)
    begin = time.perf_counter()
    _run_in(flow, project.parent / "notebooks" / f"{flow.name}.ipynb", folder)
    seconds = time.perf_counter() - begin
    if contender.engine:
        from ductaflow.execution.launch import await_pages

        # outside of the time, but before a rival's turn
        await_pages()
        check(f"{flow.name}.html" if contender.html else "", folder)
    check(flow.makes, folder)
    return seconds


def check(name: str, folder: Path, count: int = 1) -> None:
    """See that runs below a folder left a file, if they make one.

    Raises:
        RuntimeError: some did not.
    """
    if name and count != (made := len(list(folder.rglob(name)))):
        raise RuntimeError(f"{made} of {count} runs left {name} in {folder}")


if __name__ == "__main__":
    name, given, target, count = sys.argv[1:]
    run_in, notebook = CONTENDERS[name].prepare(), Path(given)
    for number in range(int(count)):
        run_in(FLOWS[notebook.stem], notebook, Path(target, instance_name(number)))
