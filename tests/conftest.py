"""Shared by all tests: a tiny project, and the check that no process of a run is left."""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from ductaflow.common.paths import REPORT_JSON

pytest_plugins = "pytester"

PARAMETERS = '# %% tags=["parameters"]\nconfig = {}\n\n'


class TinyProject:
    """A project in a folder of its own; `flow` and `instance` add to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "config" / "flows").mkdir(parents=True)
        (root / "flows").mkdir()

    def flow(self, name: str, code: str, *, kind: str = "flows") -> Path:
        """A flow whose first cell is the one tagged `parameters`; `code` begins at line 4 of the file."""
        source = self.root / kind / f"{name}.py"
        source.parent.mkdir(exist_ok=True)
        source.write_text(PARAMETERS + textwrap.dedent(code).lstrip("\n"), encoding="utf-8")
        return source

    def config(self, path: str, **values: Any) -> Path:
        """A file below `config/`."""
        file = self.root / "config" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
        return file

    def folder(self, flow: str, instance: str) -> Path:
        return self.root / "runs" / flow / instance


def table(*names: str, **columns: list[Any]) -> pd.DataFrame:
    """A table of scenarios with their names."""
    return pd.DataFrame({"instance": list(names), **columns})


def report(project: TinyProject) -> dict[str, Any]:
    """The twin of the status page."""
    data: dict[str, Any] = json.loads((project.root / "runs" / REPORT_JSON).read_bytes())
    return data


@pytest.fixture(autouse=True)
def _not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What sessions print is the same where our own tests run in GitHub Actions."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    return TinyProject(tmp_path / "project")


def processes_of(text: str) -> list[psutil.Process]:
    """Processes that belong to a run in a folder whose path contains a text.

    By the description in their environment; a fork of a warm process has none that others see, but its
    working directory.
    """
    found = []
    for process in psutil.process_iter():
        try:
            named = text in process.environ().get("DUCTAFLOW_RUN", "") or text in process.cwd()
            if named and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """Fails the test when a process of a run below its folder outlives it."""
    yield
    left = processes_of(str(tmp_path))
    described = [f"{process.pid}: {' '.join(process.cmdline())}" for process in left]
    for process in left:
        process.kill()
    assert [] == described


def wait_until(true: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait for an event that other processes make; fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def processes_beside(pid: int, folder: Path) -> list[psutil.Process]:
    """The processes of runs below a folder but one, their session; there have to be some."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found.extend(process for process in processes_of(str(folder)) if process.pid != pid)
        return bool(found)

    wait_until(look)
    return found
