"""What is no file in the place of one: a pipe holds nobody up, and a lost link is not passed over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.common.paths import RunFolder

#: Asks about runs in every way, in a process that can be ended.
LOOK = """
from support import cli
for command in ("plan", "why fit/a", "status", "results", "logs fit/a", "report"):
    done = cli(*command.split())
    print(command, done.exit_code, repr(done.exception))
"""


@pytest.mark.parametrize("what", ["result", "config", "log", "notebook", "html"])
def test_a_pipe_in_the_place_of_a_file_of_a_run_holds_nobody_up(project: TinyProject, what: str) -> None:
    """Nothing waits for somebody to write to it."""
    project.flow("fit", "")
    project.config("flows/fit/a.json")
    project.run("fit/a")
    path = getattr(RunFolder(project.folder("fit", "a"), "fit"), what)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    support = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": support},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told = [line.rpartition(" ")[2] for line in done.stdout.splitlines()]
    assert 6 == len(told)
    assert {"None", "SystemExit(1)", "SystemExit(2)"} >= {*told}, done.stdout


def test_a_pipe_in_the_place_of_a_base_config_holds_nobody_up(project: TinyProject) -> None:
    """Each instance says what is wrong with it, and the page is there."""
    project.flow("fit", "")
    project.config("flows/fit/a.json")
    os.mkfifo(project.root / "config/flows/fit.json")
    session = project.pytest()
    assert {"fit/a": "error"} == session.statuses()
    assert "config/flows/fit.json: cannot be read: not a regular file" in session.out


def test_an_instance_that_is_no_file_is_collected(project: TinyProject) -> None:
    """pytest passes over links that lead nowhere, and pipes; whoever stored them has to hear of them."""
    project.flow("fit", "")
    project.flow("show", "")
    project.flow("plot", "")
    project.config("flows/fit/good.json")
    stored = project.root / "config/flows"
    (stored / "fit/lost.json").symlink_to("gone.json")
    (stored / "fit/circle.json").symlink_to("circle.json")
    (stored / "plot").symlink_to("gone")
    os.mkfifo(stored / "fit/pipe.json")
    (stored / "fit/notes.txt").symlink_to("gone.txt")
    os.mkfifo(stored / "fit.csv")
    (stored / "show.csv").symlink_to("gone.csv")

    for options in ((), ("--lf",), ("-n", "1")):
        session = project.pytest(*options)
        assert 1 == session.code, session.out
        failed = {"fit/circle": "error", "fit/fit.csv": "error", "fit/lost": "error", "fit/pipe": "error"}
        failed |= {"plot/plot": "error", "show/show.csv": "error"}
        assert {"fit/good": "success", **failed} == session.statuses(), session.out
    assert "config/flows/fit/lost.json: cannot be read: No such file or directory" in session.out
    assert "config/flows/plot: cannot be listed: it is a link that leads nowhere" in session.out
    assert "config/flows/fit/pipe.json: cannot be read: not a regular file" in session.out
    left_out = [f"--ignore={stored / name}" for name in ("fit/lost.json", "fit/circle.json", "fit/pipe.json")]
    left_out += [f"--ignore={stored / name}" for name in ("plot", "fit.csv", "show.csv")]
    assert 0 == project.pytest(*left_out).code


def test_a_lost_link_beside_an_init_file_is_collected(project: TinyProject) -> None:
    """For pytest the folder is a package, whose collector passes over it too."""
    project.flow("fit", "")
    folder = project.config("flows/fit/good.json").parent
    (folder / "__init__.py").touch()
    (folder / "lost.json").symlink_to("gone.json")
    session = project.pytest()
    assert {"fit/good": "success", "fit/lost": "error"} == session.statuses()
