"""What of this machine its processes may use: processors and memory, by affinity, control groups, the system.

A container, a batch job or a service is a control group: what it may use is less than what the machine has.
Linux knows two versions of them, and a limit may stand at any level above a process.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

#: What the version 1 of control groups has where there is no limit, and what is near to it, in bytes.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes.

    Attributes:
        total: what there is at all, by the machine and the limits of the control groups.
        available: what of it can be had now, without swapping.
        owner: whose `total` it is, as a message says it.
    """

    total: int
    available: int
    owner: str = "the machine"

    def within(self, limit: int | None, owner: str) -> Memory:
        """Return what a limit of bytes, which is its owner's, leaves of this; None for no limit."""
        if limit is None or limit >= self.total:
            return self
        return Memory(limit, min(self.available, limit), owner)


@dataclass(frozen=True, slots=True)
class _Names:
    """The files of a control group for memory, in one of the versions."""

    limits: tuple[str, ...]
    used: str
    reclaimable: tuple[str, ...]
    events: str


_VERSIONS = {
    1: _Names(
        ("memory.limit_in_bytes",),
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
        "memory.oom_control",
    ),
    2: _Names(
        ("memory.max", "memory.high"),
        "memory.current",
        ("active_file", "inactive_file", "slab_reclaimable"),
        "memory.events",
    ),
}


class Machine:
    """The machine of this process.

    Args:
        root: the folder that holds `proc` and `sys`; tests give another one.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._version, self._memory_groups = next(
            ((number, found) for number in (2, 1) if (found := _groups(root, "memory", number))), (2, ())
        )
        self._processor_groups = {number: _groups(root, "cpu", number) for number in (1, 2)}

    def processors(self) -> int:
        """How many processors these processes may use at a time: at least one, and only whole ones."""
        allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return max(1, math.floor(min([allowed, *self._quotas()])))

    def _quotas(self) -> Iterator[float]:
        for group in self._processor_groups[2]:
            quota, _, period = (_text(group / "cpu.max") or "max").partition(" ")
            if quota.isdecimal() and period.isdecimal() and int(period):
                yield int(quota) / int(period)
        for group in self._processor_groups[1]:
            used, every = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
            if used and every:
                yield used / every

    def memory(self) -> Memory:
        """The memory that there is, and that can be had now."""
        found = self._of_system()
        names = _VERSIONS[self._version]
        for group in self._memory_groups:
            limits = [_number(group / name) for name in names.limits]
            limit = min((one for one in limits if one is not None and one < _NO_LIMIT), default=None)
            used = _number(group / names.used)
            if limit is None or used is None:
                continue
            kept = _table(group / "memory.stat")
            free = limit - used + sum(kept.get(name, 0) for name in names.reclaimable)
            found = found.within(limit, "its control group")
            found = replace(found, available=max(0, min(found.available, free)))
        return found

    def _of_system(self) -> Memory:
        if sys.platform == "linux":
            known = _table(self._root / "proc/meminfo")
            if "MemTotal" in known and "MemAvailable" in known:
                return Memory(known["MemTotal"] * 1024, known["MemAvailable"] * 1024)
        import psutil

        memory = psutil.virtual_memory()
        return Memory(memory.total, memory.available)

    def memory_kills(self) -> int | None:
        """How many processes the system has killed for memory so far; None if it does not tell.

        Those of the control group of this process where there is one, else those of the machine.
        """
        for group in self._memory_groups[:1]:
            if (count := _table(group / _VERSIONS[self._version].events).get("oom_kill")) is not None:
                return count
        return _table(self._root / "proc/vmstat").get("oom_kill")


@functools.cache
def this_machine() -> Machine:
    """The machine of this process; its control groups are looked up once."""
    return Machine()


def address_space_limit() -> int | None:
    """How many bytes a process may address (`ulimit -v`); None if there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _groups(root: Path, controller: str, version: int) -> tuple[Path, ...]:
    """The folders of the control group of this process and of those above it, that one first.

    Empty where this version of control groups does not look after the controller.
    """
    lines = (_text(root / "proc/self/cgroup") or "").splitlines()
    places = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    wanted = "" if version == 2 else controller
    own = next((place for _, kinds, place in places if wanted in kinds.split(",")), None)
    mounts = (_text(root / "proc/self/mountinfo") or "").splitlines()
    for line in mounts if own is not None else ():
        before, _, behind = line.partition(" - ")
        kind, _, options = behind.split(" ", 2)
        is_it = kind == "cgroup2" if version == 2 else kind == "cgroup" and controller in options.split(",")
        if not is_it or own is None:
            continue
        top, mount = before.split(" ")[3:5]
        folder = root / mount.lstrip("/")
        # In a container only its own part may be seen, whatever the path is called outside.
        inside = os.path.relpath(own, top) if own.startswith(top) else "."
        inner = folder if inside.startswith("..") else folder / inside
        if not inner.is_dir():
            inner = folder
        found = [inner, *(above for above in inner.parents if above.is_relative_to(folder))]
        sign = "memory.stat" if controller == "memory" else "cpu.max" if version == 2 else "cpu.cfs_quota_us"
        return tuple(one for one in found if (one / sign).exists())
    return ()


def _text(file: Path) -> str | None:
    with suppress(OSError):
        return file.read_text().strip()
    return None


def _number(file: Path) -> int | None:
    """The number in a file; None if there is none in it, such as `max` and `-1`."""
    text = _text(file) or ""
    return int(text) if text.isdecimal() else None


def _table(file: Path) -> dict[str, int]:
    """Names and numbers, such as `MemTotal:  24689532 kB` or `oom_kill 0`."""
    pairs = (line.replace(":", " ", 1).split() for line in (_text(file) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}
