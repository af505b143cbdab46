"""A run from the claim on its folder to its result, without a process that executes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import TinyProject

from ductaflow.common.machine import Memory
from ductaflow.execution.recorded_run import RecordedRun
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.store.folder import has_unfinished_run
from ductaflow.store.result import Status, read_result
from ductaflow.store.spec import RunSpec, tell
from ductaflow.store.verdict import ChildEnd


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """A run of a flow with one code cell."""
    project = TinyProject(tmp_path / "project")
    project.flow("f", "print(1)")
    project.config("flows/f/a.json", x=1)
    return spec_of_instance(load_stored(Project.at(project.root), "f/a"))


def is_unfinished(spec: RunSpec) -> bool:
    return has_unfinished_run(Path(spec.runs_root), Path(spec.folder))


def test_a_run_is_held_until_it_is_concluded(spec: RunSpec) -> None:
    """Its marker is there meanwhile; then its result is, and the folder is free."""
    with RecordedRun(spec) as run:
        assert is_unfinished(spec)
        tell(run.spec, event="cells", total=1)
        tell(run.spec, event="cell_finished", cell=1)
        tell(run.spec, event="executed")
        tell(run.spec, event="finished", packages={})
        result = run.conclude(run.told(), ChildEnd(0))
        assert not is_unfinished(spec)
    assert (Status.SUCCESS, result) == (result.status, read_result(Path(spec.folder)))
    with RecordedRun(spec):
        pass


def test_a_run_without_a_result_leaves_its_marker(spec: RunSpec) -> None:
    """Whatever ended it, the next run knows; the folder is free."""
    with pytest.raises(ZeroDivisionError), RecordedRun(spec):
        _ = 1 / 0
    assert is_unfinished(spec)
    with RecordedRun(spec):
        pass


@pytest.mark.parametrize("instead", [None, os.mkdir, os.mkfifo])
def test_files_of_ours_that_the_flow_removed_come_back(
    spec: RunSpec, instead: Callable[[Path], None] | None
) -> None:
    """Log and config are restored, whoever executes the run, and whatever stands in their place."""
    with RecordedRun(spec) as run:
        with spec.log.open("a") as log:
            log.write("Warning: kept\n")
        for file in (spec.log, spec.run_folder.config):
            file.unlink()
            if instead:
                instead(file)
        result = run.conclude(run.told(), ChildEnd(0))
    assert ["Warning: kept"] == [warning.text for warning in result.warnings if "kept" in warning.text]
    assert "Warning: kept" in spec.log.read_text()
    assert spec.run_folder.config.is_file()


@pytest.mark.parametrize(
    ("kills", "told"), [(0, None), (None, None), (1, "killed a process"), (2, "killed 2 processes")]
)
def test_a_process_that_was_killed_for_memory_beside_the_run(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch, kills: int | None, told: str | None
) -> None:
    """A run that failed meanwhile says so, with its peak and what there is."""
    machine = SimpleNamespace(
        memory_kills=lambda: kills, memory=lambda: Memory(8 * 10**9, 0), processors=lambda: 4
    )
    with RecordedRun(spec) as run:
        monkeypatch.setattr("ductaflow.execution.recorded_run.this_machine", lambda: machine)
        run._memory_kills = 0
        result = run.conclude(run.told(), ChildEnd(1, peak_memory=3 * 10**9))
    memory = "its peak was 3.0 GB, the machine has 8.0 GB"
    expected = f"; the system {told} for memory while it ran; {memory}" if told else ""
    assert result.message.endswith(f", before the run was finished{expected}")


def test_a_run_that_cannot_begin_gives_its_folder_free(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk is full."""

    def full(_: RunSpec) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ductaflow.execution.recorded_run.begin", full)
        with pytest.raises(OSError, match="No space left"):
            RecordedRun(spec)
    with RecordedRun(spec):
        pass


@pytest.mark.parametrize(
    "content", [b"[\n", b'{"event": 3}\n', b'{"event": "?"}\n', b"[" * 100_000 + b"\n", None]
)
def test_events_that_cannot_be_read_are_named(spec: RunSpec, content: bytes | None) -> None:
    """A flow may have overwritten or removed them; then the run failed, and its result says so."""
    with RecordedRun(spec) as run:
        if content is None:
            Path(run.spec.events).unlink()
        else:
            Path(run.spec.events).write_bytes(content)
        result = run.conclude(run.told(), ChildEnd(0))
    assert Status.ERROR == result.status
    assert "what the run told of itself was removed or overwritten" in result.message


def test_a_marker_that_cannot_be_read_is_named_in_the_result(spec: RunSpec) -> None:
    """The next run claims the folder, and says what is lost."""
    with pytest.raises(ZeroDivisionError), RecordedRun(spec):
        _ = 1 / 0
    (marker,) = (Path(spec.runs_root) / ".ductaflow" / "running").glob("*.json")
    marker.write_bytes(b'{"folder": null}')
    with RecordedRun(spec) as run:
        result = run.conclude(run.told(), ChildEnd(0))
    assert f"what is known of the last run here was lost: {marker}: " in result.message


def test_a_result_that_cannot_be_written_is_an_error(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the marker stays: there is no result of this run."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ductaflow.execution.recorded_run.write_result", full)
    with RecordedRun(replace(spec, mode="script")) as run:
        result = run.conclude(run.told(), ChildEnd(0))
    assert Status.ERROR == result.status
    assert result.message.endswith(f"could not be written to {spec.folder}: No space left on device")
    assert is_unfinished(spec)


INTERRUPTED = """
import os, signal, threading, time
from pathlib import Path
from ductaflow import run_instance
from ductaflow.execution.launch import RunInterrupted

def interrupt():
    while not Path("runs/f/a/started").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    run_instance("f/a")
except KeyboardInterrupt as exc:
    print(isinstance(exc, RunInterrupted), exc.result.status, exc.result.cause)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to itself")
@pytest.mark.slow
def test_an_interrupted_run_has_a_result(tmp_path: Path) -> None:
    """The KeyboardInterrupt that comes out of a run holds what came of it."""
    project = TinyProject(tmp_path / "project")
    project.flow("f", "import time\nopen('started', 'w').close()\ntime.sleep(60)")
    project.config("flows/f/a.json", x=1)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        cwd=project.root,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "True error interrupted\n" == done.stdout, done.stderr
