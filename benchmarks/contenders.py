"""Who is compared: how each runs a flow, once in a process that is started up, and as a whole command.

    python contenders.py drive <name> <workspace>                 a run for each line of standard input
    python contenders.py batch <name> <notebook> <folder> <count> the runs of one command, in a loop

The first is for the time of a run after start-up. The second is for those who have no command for many runs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workspace as ws
from workspace import FLOWS, Flow

#: Runs a flow in a folder that is there and empty. What it imports has been imported before.
RunIn = Callable[[Flow, Path, Path], None]
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
#: The plugin of the one costs the other nothing.
WITHOUT_OURS = ("-p", "no:ductaflow")
WITHOUT_NBMAKE = ("-p", "no:nbmake")


@dataclass(frozen=True, slots=True)
class Case:
    """A whole command: `count` runs of a flow with `workers` (0: serial), in a folder made for it."""

    flow: Flow
    count: int
    workers: int
    folder: Path

    @property
    def parallel(self) -> tuple[str, ...]:
        return ("-n", str(self.workers)) if self.workers else ()


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a flow.

    Attributes:
        prepare: imports what `RunIn` needs and gives it.
        command: of a case; None for those whose many runs are a loop.
        module: what has to be installed, None for nothing besides this project.
        engine: ours: the engine.
        has_workers: whether its command knows `-n`.
        runs_only: only single runs are of interest, no commands.
    """

    name: str
    about: str
    prepare: Callable[[], RunIn]
    command: Callable[[Case], list[str]] | None = None
    module: str | None = None
    package: str = ""
    engine: str | None = None
    has_workers: bool = False
    runs_only: bool = False

    @property
    def missing(self) -> str | None:
        """What to install before it can take part."""
        if self.module is None or importlib.util.find_spec(self.module) is not None:
            return None
        return f'missing: pip install {self.package}, or all peers with pip install -e ".[bench]"'

    def command_of(self, case: Case, notebook: Path) -> list[str]:
        if self.command is not None and (case.count == 1 or self.has_workers):
            return self.command(case)
        return [
            sys.executable,
            __file__,
            "batch",
            self.name,
            str(notebook),
            str(case.folder),
            str(case.count),
        ]


# --- a run in a process that is started up -----------------------------------------------------------------


def _executing(execute_notebook: Callable[..., Any]) -> RunIn:
    """Papermill's function, or one that is called as it is."""

    def run(flow: Flow, notebook: Path, folder: Path) -> None:
        execute_notebook(
            str(notebook),
            str(folder / notebook.name),
            parameters={"config": dict(flow.config)},
            cwd=str(folder),
            progress_bar=False,
        )

    return run


def papermill() -> RunIn:
    from papermill import execute_notebook

    return _executing(execute_notebook)


def nbmake() -> RunIn:
    import pytest

    def run(flow: Flow, notebook: Path, folder: Path) -> None:
        # It runs a notebook where it lies.
        (folder / notebook.name).write_bytes(notebook.read_bytes())
        code = pytest.main(
            [*PYTEST[3:], *WITHOUT_OURS, "--nbmake", f"--rootdir={folder}", str(folder / notebook.name)]
        )
        if code:
            raise RuntimeError(f"pytest --nbmake ended with {code}")

    return run


def ploomber() -> RunIn:
    from ploomber_engine import execute_notebook  # type: ignore[import-not-found]

    return _executing(execute_notebook)


def script() -> RunIn:
    def run(flow: Flow, notebook: Path, folder: Path) -> None:
        file = notebook.with_suffix(".py")
        subprocess.run([sys.executable, str(file)], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    return run


def floor() -> RunIn:
    """The least that isolation can cost: fork a process that has imported everything, execute, wait."""
    for name in ("pandas", "matplotlib.pyplot", "matplotlib.backends.backend_agg"):
        importlib.import_module(name)

    compiled = {
        flow.name: [compile(cell, flow.name, "exec") for cell in (flow.parameters, *flow.cells)]
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


def ours(engine: str, *, await_page: bool = False) -> Callable[[], RunIn]:
    """A session goes on as soon as it has the result; the HTML may come after."""

    def prepare() -> RunIn:
        from ductaflow import run_instance

        def run(flow: Flow, notebook: Path, folder: Path) -> None:
            run_instance(f"{flow.name}/{folder.name}", engine=engine, await_page=await_page)

        return run

    return prepare


# --- whole commands ----------------------------------------------------------------------------------------


def papermill_command(case: Case) -> list[str]:
    notebook = next(case.folder.rglob("*.ipynb"))
    out = notebook.with_name("executed.ipynb")
    return [sys.executable, "-m", "papermill", str(notebook), str(out), "--cwd", str(notebook.parent)]


def nbmake_command(case: Case) -> list[str]:
    return [*PYTEST, *WITHOUT_OURS, "--nbmake", *case.parallel, f"--rootdir={case.folder}", str(case.folder)]


def ploomber_command(case: Case) -> list[str]:
    notebook = next(case.folder.rglob("*.ipynb"))
    program = "from ploomber_engine.cli import cli; cli()"
    out = notebook.with_name("executed.ipynb")
    return [sys.executable, "-c", program, str(notebook), str(out), "--cwd", str(notebook.parent)]


def script_command(case: Case) -> list[str]:
    return [sys.executable, str(next(case.folder.rglob("*.py")))]


def ours_command(engine: str) -> Callable[[Case], list[str]]:
    def command(case: Case) -> list[str]:
        return [*PYTEST, *WITHOUT_NBMAKE, "--ductaflow", "--ductaflow-engine", engine, *case.parallel]

    return command


_TABLE = (
    Contender(
        "papermill", "papermill, a fresh kernel a run", papermill, papermill_command, "papermill", "papermill"
    ),
    Contender("nbmake", "pytest --nbmake", nbmake, nbmake_command, "nbmake", "nbmake", has_workers=True),
    Contender(
        "ploomber",
        "ploomber-engine, no isolation",
        ploomber,
        ploomber_command,
        "ploomber_engine",
        "ploomber-engine",
    ),
    Contender("script", "bare script: python flow.py", script, script_command),
    *(
        Contender(
            engine,
            f"ours, {engine}",
            ours(engine),
            ours_command(engine),
            engine=engine,
            has_workers=True,
        )
        for engine in ("kernel", "fresh", "warm")
    ),
    Contender(
        "page",
        "ours, warm, until the HTML is made",
        ours("warm", await_page=True),
        engine="warm",
        runs_only=True,
    ),
    Contender("floor", "floor: fork and exec, no notebook", floor),
)
CONTENDERS = {contender.name: contender for contender in _TABLE}


# --- the programs ------------------------------------------------------------------------------------------


def drive(contender: Contender, workspace: Path) -> None:
    """Answer each line `{"flow": .., "number": ..}` of standard input by the seconds of that run."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        # What the runs print is no answer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.chdir(workspace / "project")
        run_in = contender.prepare()
        for line in sys.stdin:
            asked = json.loads(line)
            flow = FLOWS[asked["flow"]]
            notebook = workspace / "notebooks" / f"{flow.name}.ipynb"
            name = ws.instance_name(asked["number"])
            folder = workspace / "runs" / contender.name / flow.name / name
            if contender.engine:
                folder = workspace / "project" / "runs" / flow.name / name
                # the other engines' run of the same instance
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(folder)
            else:
                folder.mkdir(parents=True)
            begin = time.perf_counter()
            run_in(flow, notebook, folder)
            seconds = time.perf_counter() - begin
            if contender.engine:
                from ductaflow.execution.launch import await_pages

                # outside of the time, but before a rival's turn
                await_pages()
            ws.check(flow, folder)
            if contender.engine and not (folder / f"{flow.name}.html").exists():
                raise RuntimeError(f"no HTML in {folder}")
            answers.write(json.dumps({"seconds": seconds}) + "\n")


def batch(contender: Contender, notebook: Path, folder: Path, count: int) -> None:
    """Run a notebook `count` times."""
    run_in = contender.prepare()
    for number in range(count):
        place = folder / ws.instance_name(number)
        place.mkdir(exist_ok=True)
        run_in(FLOWS[notebook.stem], notebook, place)


def main(arguments: list[str]) -> None:
    program, name, *rest = arguments
    if program == "drive":
        drive(CONTENDERS[name], Path(rest[0]))
    else:
        notebook, folder, count = rest
        batch(CONTENDERS[name], Path(notebook), Path(folder), int(count))


if __name__ == "__main__":
    main(sys.argv[1:])
