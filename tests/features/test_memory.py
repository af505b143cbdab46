"""Runs that memory does not suffice for: what is said of them, and that no more is said than is known."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.common.machine import Machine, this_machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups and limits of Linux")

#: Takes memory until there is none.
GREEDY = """
    # %%
    import sys
    taken = []
    for number in range(4_000):
        taken.append(b"x" * 1_000_000)
"""


def ductaflow(project: TinyProject, shell: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a command from a shell that does something before, in a session of its own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DUCTAFLOW_")}
    first, *rest = map(str, args)
    return subprocess.run(
        ["sh", "-c", shell, first, sys.executable, "-m", "ductaflow", *rest],
        cwd=project.root,
        env=own,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group with 400 MB of memory for processes to join, where one can be made."""
    own = Machine()._memory_groups
    group = own[0] / f"ductaflow-test-{os.getpid()}" if own else Path("/nowhere/at/all")
    limits = ("memory.limit_in_bytes", "memory.max")
    try:
        group.mkdir()
        [limit] = [group / name for name in limits if (group / name).exists()]
        limit.write_text("400000000")
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip("no control group with a limit of memory can be made here")
    try:
        yield group
    finally:
        group.rmdir()


@pytest.mark.slow
def test_a_kernel_that_the_system_kills_for_memory(project: TinyProject, control_group: Path) -> None:
    """The process of the run lives on and says what it knows: the peak, the kernel's too, and the limit."""
    project.settings("html = false")
    project.flow("fit", GREEDY)
    project.config("flows/fit.json", _run={"engine": "kernel"})
    ductaflow(project, 'echo $$ > "$0/cgroup.procs" && exec "$@"', control_group, "run", "fit")

    result = project.result("fit", "default")
    assert ("signal", "SIGKILL") == (result.cause, result.signal)
    killed, told, memory = result.message.split("; ")
    assert "DeadKernelError: the kernel was killed by SIGKILL" in killed
    assert "the system killed a process for memory while it ran" == told
    assert memory.startswith("its peak was ")
    assert memory.endswith(" MB, its control group has 400 MB")
    assert 200_000_000 < (result.peak_memory or 0) < 500_000_000


@pytest.mark.slow
def test_a_run_that_the_system_kills_for_memory(project: TinyProject, control_group: Path) -> None:
    """It says so, with its peak and the limit of its control group; the session goes on."""
    project.settings("html = false")
    project.flow("fit", GREEDY)
    project.flow("after", "# %%\n1\n")
    project.config("flows/fit.json")
    project.config("flows/after.json")
    done = ductaflow(
        project, 'echo $$ > "$0/cgroup.procs" && exec "$@"', control_group, "run", "fit", "after"
    )

    assert 1 == done.returncode, done.stderr
    result = project.result("fit", "default")
    assert ("signal", "SIGKILL") == (result.cause, result.signal)
    assert (
        "killed by SIGKILL in cell 2 of 2 (line 5) (out of memory, as the system counts: " in result.message
    )
    assert result.message.endswith(" MB, its control group has 400 MB)")
    assert 200_000_000 < (result.peak_memory or 0) < 500_000_000
    assert "success" == project.result("after", "default").status


def test_a_run_that_somebody_kills(project: TinyProject) -> None:
    """Nothing is said of memory that nobody knows: its peak, and what there is."""
    result = project.run_code("# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")

    owner = this_machine().memory().owner
    assert "out of memory" not in result.message
    assert f" MB, {owner} has " in result.message
    assert "(its peak was " in result.message


def test_an_address_space_that_is_too_small(project: TinyProject) -> None:
    """A MemoryError says how much was taken, how much there is, and which limit the session gave it."""
    project.settings("html = false")
    project.flow("fit", "# %%\ntaken = bytearray(8_000_000_000)\n")
    project.config("flows/fit.json")
    ductaflow(project, 'ulimit -v 7000000; exec "$@"', "sh", "run", "fit")

    result = project.result("fit", "default")
    assert "exception" == result.cause
    assert ": MemoryError; its peak was " in result.message
    assert "the address space of a process is limited to 7.2 GB (ulimit -v)" in result.message
