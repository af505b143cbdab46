"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import TinyProject, processes_of

pytest_plugins = "pytester"


@pytest.fixture(autouse=True)
def _not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What sessions print is the same where our own tests run in GitHub Actions."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    return TinyProject(tmp_path / "project")


@pytest.fixture
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """Fails the test when a process of a run below its folder outlives it."""
    yield
    left = processes_of(str(tmp_path))
    described = [f"{process.pid}: {' '.join(process.cmdline())}" for process in left]
    for process in left:
        process.kill()
    assert [] == described
