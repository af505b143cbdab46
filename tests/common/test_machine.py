"""What of a machine its processes may use: by files of the system that look like those of real hosts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ductaflow.common.machine import Machine, Memory, this_machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")

MEMINFO = "MemTotal:       16000000 kB\nMemFree:          500000 kB\nMemAvailable:   12000000 kB\n"
KB = 1024


def machine(root: Path, files: dict[str, str], *, cgroup: str, mounts: str) -> Machine:
    """A machine whose system has some files below `/sys/fs/cgroup`."""
    every = {
        "proc/meminfo": MEMINFO,
        "proc/vmstat": "nr_free_pages 5\noom_kill 3\n",
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": mounts,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in every.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Machine(root)


TWO = "30 24 0:26 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
ONE = (
    "33 25 0:28 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 25 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
)


def test_a_container_of_version_2(tmp_path: Path) -> None:
    """The tightest limit on the way up counts, files that the system can drop are free, kills are its own."""
    found = machine(
        tmp_path,
        {
            "memory.stat": "",
            "a/memory.max": "max\n",
            "a/memory.high": "3000000000\n",
            "a/memory.current": "2500000000\n",
            "a/memory.stat": "anon 5\nactive_file 100\ninactive_file 200\nslab_reclaimable 50\n",
            "a/cpu.max": "150000 100000\n",
            "a/job/memory.max": "4000000000\n",
            "a/job/memory.high": "max\n",
            "a/job/memory.current": "1000\n",
            "a/job/memory.stat": "active_file 0\n",
            "a/job/memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 7\noom_group_kill 0\n",
            "a/job/cpu.max": "max 100000\n",
        },
        cgroup="0::/a/job\n",
        mounts=TWO.format(top="/"),
    )

    assert Memory(3_000_000_000, 500_000_350, "its control group") == found.memory()
    assert 7 == found.memory_kills()
    assert 1 == found.processors()


@pytest.mark.parametrize(
    ("cgroup", "top"),
    [
        pytest.param(
            "9:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n", "/docker/x", id="its own part is mounted"
        ),
        pytest.param("9:memory:/y\n4:cpu,cpuacct:/y\n", "/z", id="its path means something outside"),
        pytest.param("9:memory:/gone\n4:cpu,cpuacct:/gone\n", "/", id="its folder is not there"),
    ],
)
def test_a_container_of_version_1(tmp_path: Path, cgroup: str, top: str) -> None:
    """What a container sees of its control group is at the top of what is mounted there."""
    found = machine(
        tmp_path,
        {
            "memory/memory.limit_in_bytes": "2000000000\n",
            "memory/memory.usage_in_bytes": "1900000000\n",
            "memory/memory.stat": "cache 1\ntotal_active_file 1000\ntotal_inactive_file 2000\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        cgroup=cgroup,
        mounts=ONE.format(top=top),
    )

    assert Memory(2_000_000_000, 100_003_000, "its control group") == found.memory()
    assert 1 == found.memory_kills()
    assert 1 == found.processors()


@pytest.mark.parametrize(
    ("files", "cgroup", "mounts"),
    [
        pytest.param({}, "", "", id="no control groups"),
        pytest.param({}, "0::/\n", TWO.format(top="/"), id="the top of version 2"),
        pytest.param(
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "1900000000\n",
                "memory/memory.stat": "",
                "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            "9:memory:/\n4:cpu,cpuacct:/\n0::/\n",
            ONE.format(top="/") + TWO.format(top="/"),
            id="version 1 without limits",
        ),
        pytest.param(
            {"a/memory.stat": "x", "a/memory.max": "-5", "a/memory.current": "?", "a/cpu.max": "fast"},
            "0::/a\nnonsense\n",
            TWO.format(top="/"),
            id="files that say something else",
        ),
    ],
)
def test_without_limits(tmp_path: Path, files: dict[str, str], cgroup: str, mounts: str) -> None:
    """What the machine has, and the kills that it counts."""
    found = machine(tmp_path, files, cgroup=cgroup, mounts=mounts)

    assert Memory(16_000_000 * KB, 12_000_000 * KB) == found.memory()
    assert 3 == found.memory_kills()
    assert len(os.sched_getaffinity(0)) == found.processors()


def test_this_machine() -> None:
    """The real one has at least a processor, and no more memory available than there is."""
    found = this_machine().memory()
    assert 1 <= this_machine().processors() <= (os.cpu_count() or 1)
    assert 0 < found.available <= found.total
    assert (this_machine().memory_kills() or 0) >= 0
