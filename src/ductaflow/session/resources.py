"""What runs take of a machine, and what it has: processors, memory, and threads of numeric libraries.

An instance takes what `_run` of its config says, else one processor, and as much memory as its earlier runs
took at most, else those of its flow; where nothing tells, no memory, until the first of the flow has ended.
One that was killed for memory takes what the flow takes at most; where that is what a run
had when it was killed, half as much again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ductaflow.common.host import memory_below
from ductaflow.common.machine import this_machine
from ductaflow.common.text import bytes_of, listed, size
from ductaflow.execution.imports import names_threads
from ductaflow.project.instances import Instance
from ductaflow.project.options import RunOptions
from ductaflow.session.request import placed
from ductaflow.store.folder import supervisor_of
from ductaflow.store.result import Result
from ductaflow.store.spec import THREAD_VARIABLES, RunSpec, current_run
from ductaflow.store.verdict import was_killed_for_memory

#: Seconds for which it holds what memory there is, and what single runs have of it, which takes long to find.
_HOLDS, _HOLDS_OF_RUNS = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run takes, or what is free: processors, and memory in bytes."""

    cpus: float
    memory: int

    def __add__(self, other: Demand) -> Demand:
        return Demand(self.cpus + other.cpus, self.memory + other.memory)

    def __sub__(self, other: Demand) -> Demand:
        return Demand(self.cpus - other.cpus, self.memory - other.memory)

    def excess(self, total: Demand) -> str:
        """What of this is more than there is at all, in words; empty if there is enough."""
        found = []
        if self.memory > total.memory:
            found.append(f"{size(self.memory)} of memory, and there are {size(total.memory)}")
        if self.cpus > total.cpus:
            are = "is one" if total.cpus == 1 else f"are {total.cpus:g}"
            found.append(f"{self.cpus:g} processors, and there {are}")
        return "; ".join(found)

    def lack(self, free: Demand) -> str:
        """What of this is not free, in words; empty if there is room for it."""
        if self.memory > free.memory:
            return f"{size(self.memory)} of memory, of which {size(max(0, free.memory))} are free"
        # Shares of processors are fractions.
        if self.cpus > free.cpus + 1e-9:
            rest = max(0, int(free.cpus + 1e-9))
            are_free = f"{rest or 'none'} {'is' if rest < 2 else 'are'} free"
            return f"{self.cpus:g} processor{'s'[: self.cpus > 1]}, of which {are_free}"
        return ""


def waits_in_short(waits: Mapping[str, str]) -> str:
    """What waits for room, in a few words: the first one and how many more; empty if nothing does."""
    for first, lack in waits.items():
        return f"{first} waits for {lack}" + (f"; {len(waits) - 1} more wait" if len(waits) > 1 else "")
    return ""


class Room(Protocol):
    """What the items of a session take, by their places, and what there is."""

    def demand(self, item: int) -> Demand:
        """What an item takes."""

    def free(self, running: Mapping[int, Demand], wanted: Demand) -> Demand:
        """What is free for something that is wanted, beside what runs."""


class RoomHere:
    """What there is on this machine, now.

    Args:
        instances: those of a session; None is an ordinary test.
        peaks: what their earlier runs took of the memory (`durations.likely`).
        cut: places of those that had their peak when they were killed for memory.
        workers: how many run at a time. Who asks for more of them than there are processors wants runs to
            share these: one whose config says nothing takes its share.
    """

    def __init__(
        self,
        instances: Sequence[Instance | None],
        peaks: Sequence[int | None],
        workers: int,
        cut: Set[int] = frozenset(),
    ) -> None:
        self.total = Demand(this_machine().processors(), _memory_for(instances))
        self._instances = instances
        self._share = min(1.0, self.total.cpus / workers)
        self._peaks = peaks
        self._cut = cut
        #: The most that a run of each flow has taken, and whether it was killed for memory then.
        self._of_flows: dict[str, tuple[int, bool]] = {}
        for item, peak in enumerate(peaks):
            self._learn(item, peak, is_cut=item in cut)
        self._looked = self._measured = float("-inf")
        self._available = 0
        self._taken: dict[int, int] = {}

    def demand(self, item: int) -> Demand:
        """What an item takes: nothing if it cannot run."""
        instance = self._instances[item]
        if instance is None:
            return Demand(self._share, 0)
        options = instance.options
        if instance.problem or options.skip:
            return Demand(0, 0)
        memory = (item not in self._cut and self._peaks[item]) or self._most_of(instance.flow)
        if options.memory:
            memory = bytes_of(options.memory) or 0
        return Demand(options.cpus or self._share, memory)

    def _most_of(self, flow: str) -> int:
        """What runs of a flow take at most, as far as is known."""
        peak, is_cut = self._of_flows.get(flow, (0, False))
        # Nobody knows what it would have taken. Half as much again gets there in a few runs.
        return peak + peak // 2 if is_cut else peak

    def learn(self, item: int, result: Result) -> None:
        """An item has ended: what it took tells what others of its flow take."""
        self._learn(item, result.peak_memory, is_cut=was_killed_for_memory(result.message))

    def _learn(self, item: int, peak: int | None, *, is_cut: bool) -> None:
        if (instance := self._instances[item]) and peak:
            known = self._of_flows.get(instance.flow, (0, False))
            self._of_flows[instance.flow] = max((peak, is_cut), known)

    def free(self, running: Mapping[int, Demand], wanted: Demand) -> Demand:
        """What is free for something that is wanted, beside what runs.

        A run has what it takes to itself, also what it has not taken yet. What it has already is missing in
        what is available now, which counts where that decides.
        """
        taken = sum(running.values(), Demand(0, 0))
        rest = self.total - taken
        now = self._available_now()
        free = min(rest.memory, now - taken.memory)
        if wanted.memory > free and wanted.memory <= min(rest.memory, now):
            has = self._taken_by(running)
            ahead = sum(max(0, one.memory - has.get(item, 0)) for item, one in running.items())
            free = min(rest.memory, now - ahead)
        return Demand(rest.cpus, free)

    def _available_now(self) -> int:
        if time.monotonic() - self._looked > _HOLDS:
            self._available, self._looked = this_machine().memory().available, time.monotonic()
        return self._available

    def _taken_by(self, running: Mapping[int, Demand]) -> Mapping[int, int]:
        """What runs have of the memory, by their items; for a moment one that is new has nothing."""
        if time.monotonic() - self._measured > _HOLDS_OF_RUNS:
            self._measured = time.monotonic()
            pids = {}
            for item in running:
                if (instance := self._instances[item]) and not instance.problem:
                    folder, tree = placed(instance.run_folder.path, instance.project)
                    if pid := supervisor_of(tree, folder):
                        pids[pid] = item
            self._taken = {pids[pid]: memory for pid, memory in memory_below(pids).items()}
        return self._taken

    def beyond(self, item: int) -> str:
        """What an item takes that is more than there is at all, in words; empty if there is enough."""
        return self.demand(item).excess(self.total)

    def simulated(self) -> Room:
        """The same items in the memory that is there now, whatever others take or give back later."""
        return _Simulated(self, min(self.total.memory, self._available_now()))

    def parts(self) -> list[float]:
        """Which part of what there is each item takes; at most all."""
        wanted = [self.demand(item) for item in range(len(self._instances))]
        memory = max(1, self.total.memory)
        return [min(1.0, max(one.cpus / self.total.cpus, one.memory / memory)) for one in wanted]


@dataclass(frozen=True, slots=True)
class _Simulated:
    """A room in which nobody else takes memory."""

    room: RoomHere
    memory: int

    def demand(self, item: int) -> Demand:
        return self.room.demand(item)

    def free(self, running: Mapping[int, Demand], wanted: Demand) -> Demand:
        return Demand(self.room.total.cpus, self.memory) - sum(running.values(), Demand(0, 0))


def declared(instances: Iterable[Instance | None]) -> str:
    """What projects and configs say of room, in words, where nobody counts it; empty if they say nothing."""
    runs = [one for one in instances if one and not one.problem and not one.options.skip]
    said = ["the setting memory"] if any(one.project.settings.memory for one in runs) else []
    if asking := [one.id for one in runs if one.options.cpus or one.options.memory]:
        said.append(f"_run.cpus or _run.memory of {listed(asking, 3)}")
    return " and ".join(said)


def _memory_for(instances: Sequence[Instance | None]) -> int:
    """How much memory the runs of a session may take together, by the machine and the projects."""
    memory = this_machine().memory()
    for limit in {one.project.settings.memory for one in instances if one}:
        memory = memory.within(bytes_of(limit or ""), "the project")
    return memory.total


def thread_limit(options: RunOptions, source: Path, project_root: Path, workers: int) -> int | None:
    """How many threads BLAS and OpenMP may have in a run; None to leave that to them.

    It is the processors over the workers, or as many as `_run.cpus` says. Who says something else is left
    alone: an environment that has one of the variables, and a flow that names one. In a build, its limit
    holds for its flows.

    Args:
        workers: how many runs share this machine.
    """
    outer = current_run()
    outer_limit = outer.threads if outer else None
    if options.cpus is None and (workers < 2 or outer_limit):
        return outer_limit
    if outer_limit is None and any(name in os.environ for name in THREAD_VARIABLES):
        return None
    if names_threads(source, project_root):
        return None
    there = this_machine().processors()
    return min(options.cpus, there) if options.cpus else max(1, there // workers)


def with_thread_limit(spec: RunSpec, workers: int) -> RunSpec:
    """A run whose threads are limited, if it shares this machine with so many others."""
    limit = thread_limit(spec.options, Path(spec.source), Path(spec.project_root), workers)
    return spec if limit == spec.threads else replace(spec, threads=limit)
