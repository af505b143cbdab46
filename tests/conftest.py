"""Fixtures of all tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import TinyProject, processes_of

from ductaflow.execution import warm
from ductaflow.store.sessions import session_of

pytest_plugins = "pytester"

#: By this variable each new interpreter measures its coverage (`patch` in `pyproject.toml`).
MEASURES = "COVERAGE_PROCESS_CONFIG"
#: Where `slow` tests go through lines that no other tests reach. The rest are hundreds of sessions more.
REACH = (
    *("execution", "notebook", "store"),
    *(f"session/test_{name}.py" for name in ("conductor", "dask", "order")),
    *(f"plugin/test_{name}.py" for name in ("baseline", "debugger", "github", "plugin", "session")),
    *(f"plugin/test_{name}.py" for name in ("session_end", "shards", "terminal")),
    *(f"plugin/test_{name}.py" for name in ("accepting", "unexpected")),
    *(f"features/test_{name}.py" for name in ("expectations", "lineage", "process_end", "runs")),
)


def is_repeated(item: pytest.Item) -> bool:
    """Whether coverage leaves out the processes of a test: a run takes five times as long when measured."""
    here = item.path.relative_to(Path(__file__).parent)
    return item.get_closest_marker("slow") is not None and not any(map(here.is_relative_to, REACH))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Campaigns are left out unless `-m` names them; what coverage measures comes first."""
    if "campaign" not in config.getoption("markexpr"):
        left_out = [item for item in items if item.get_closest_marker("campaign")]
        items[:] = [item for item in items if item.get_closest_marker("campaign") is None]
        config.hook.pytest_deselected(items=left_out)
    if MEASURES in os.environ:
        items.sort(key=is_repeated)


def pytest_configure() -> None:
    # A shell starts what runs in the background with Ctrl-C ignored, and whatever that starts ignores it too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if is_repeated(item) and os.environ.pop(MEASURES, None):
        # The warm server of this process measures too; the sessions of the tests share the next one.
        session_of().end()
        warm.start(when_needed=True)


@pytest.fixture(autouse=True, scope="session")
def _one_server() -> None:
    """Sessions of tests share the warm server of this process: to start one takes longer than they do."""
    warm.start(when_needed=True)


@pytest.fixture(autouse=True)
def _not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What sessions print is the same where our own tests run in GitHub Actions."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    return TinyProject(tmp_path / "project")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=False, capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("this user cannot mount a disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """Fails the test when a process of a run below its folder outlives it."""
    yield
    left = processes_of(str(tmp_path))
    described = [f"{process.pid}: {' '.join(process.cmdline())}" for process in left]
    for process in left:
        process.kill()
    assert [] == described
