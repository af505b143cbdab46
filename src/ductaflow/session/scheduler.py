"""Who is next: one queue of ready items, used on threads, on xdist workers and on several machines."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from ductaflow.session.decide import Outcome, Turn
from ductaflow.session.durations import UNKNOWN, likely
from ductaflow.session.resources import Demand, Room, RoomHere

#: Seconds between two looks of a waiting session; on Windows Ctrl-C takes effect after as long.
TICK = 0.5


class Executor(Protocol):
    """Takes the turns of a session."""

    def outcomes(self, turns: Sequence[Turn]) -> Iterator[Mapping[str, Outcome]]:
        """Take all turns, each after those before it; give what came of some, by id, as they end.

        From time to time it gives nothing, so that the caller can show progress. Turns must not wait for each
        other in a circle.

        Raises:
            Exception: a turn raised it.
            DuctaflowError: the executor is lost.
        """

    def stop(self) -> Mapping[str, Outcome]:
        """Stop what runs, start nothing more, and give what came of it, as far as it is told; by id."""

    @property
    def waits(self) -> Mapping[str, str]:
        """What could start and waits for room, by id, each with what it waits for."""


class Threads:
    """Takes turns in threads of this process, which only wait for processes.

    Args:
        jobs: how many at a time, called `w0`, `w1` and so on.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="conduct")
        self._stop = threading.Event()
        self._running: dict[Future[Outcome], str] = {}
        #: What could start and waits for room, by id, each with what it waits for.
        self.waits: Mapping[str, str] = MappingProxyType({})

    def outcomes(self, turns: Sequence[Turn]) -> Iterator[Mapping[str, Outcome]]:
        seconds, room = [0.0] * len(turns), None
        if self._jobs > 1:
            # One at a time takes as long in any order: what was given first is first, with all the room.
            instances = [turn.instance for turn in turns]
            found = likely(instances)
            seconds, room = found.seconds, RoomHere(instances, found.peaks, self._jobs, found.cut)
        policy = Policy[str](ReadyQueue(places_before(turns), seconds), room)
        for number in range(min(self._jobs, len(turns))):
            policy.add_worker(f"w{number}")
        taken: dict[Future[Outcome], tuple[str, int]] = {}
        ended: dict[str, Outcome] = {}
        while not policy.finished:
            for worker, [place] in policy.assign():
                turn = turns[place]
                future = self._pool.submit(turn.take, [ended[id] for id in turn.after], self._stop, worker)
                self._running[future] = turn.instance.id
                taken[future] = worker, place
            self.waits = {turns[place].instance.id: why for place, why in policy.waits.items()}
            done = wait(self._running, timeout=TICK, return_when=FIRST_COMPLETED).done
            now = {self._running[future]: future.result() for future in done}
            yield now
            # Only what the caller has seen is forgotten here: it may be interrupted before.
            for future in done:
                del self._running[future]
                worker, place = taken.pop(future)
                policy.complete(worker, place)
                if room:
                    room.learn(place, future.result().result)
            ended |= now

    def stop(self) -> Mapping[str, Outcome]:
        self._stop.set()
        self._pool.shutdown()
        return {id: future.result() for future, id in self._running.items() if not future.exception()}


def places_before(turns: Sequence[Turn]) -> list[list[int]]:
    """For each turn the places of those before it."""
    places = {turn.instance.id: place for place, turn in enumerate(turns)}
    return [[places[id] for id in turn.after] for turn in turns]


#: For each item, by its index, the items that have to finish before it starts.
Upstreams = Sequence[Collection[int]]
Worker = TypeVar("Worker", bound=Hashable)
#: Consecutive ordinary tests of one file go to a worker together, so that its fixtures are made once; each
#: worker gets about this many portions of a large file, so that none is left with a long one at the end.
PORTIONS_PER_WORKER = 2
#: So many items are looked at for one that there is room for.
LOOKAHEAD = 100


class ReadyQueue:
    """The items that may start: those whose upstreams are finished. The longest path comes first.

    What keeps a session waiting begins early. Every way of running takes its items from here, so that they
    all run in the same order and `ductaflow plan` estimates what they do.

    Args:
        upstreams: what each item waits for. A cycle does not stall: its members are let go as given.
        seconds: how long each item is likely to take, in any unit; among equals the first given is first.
        portions: groups of items that start together, and count as one that takes as long as all of them;
            none may wait for anything, and nothing for them.
    """

    def __init__(
        self, upstreams: Upstreams, seconds: Sequence[float], portions: Iterable[Sequence[int]] = ()
    ) -> None:
        self._waits_for = [set(ups) - {item} for item, ups in enumerate(upstreams)]
        self._downstreams = _downstreams(self._waits_for)
        self._paths = longest_paths(upstreams, seconds)
        self._seconds = seconds
        self._unfinished = set(range(len(upstreams)))
        self._untaken = set(self._unfinished)
        self._ready: list[tuple[float, int, list[int]]] = []

        grouped: set[int] = set()
        for portion in portions:
            grouped.update(portion)
            self._push(list(portion))
        for item, waits in enumerate(self._waits_for):
            if not waits and item not in grouped:
                self._push([item])

    @property
    def finished(self) -> bool:
        """Whether every item is finished."""
        return not self._unfinished

    def seconds(self, items: Iterable[int]) -> float:
        """How long some items are likely to take, one after another."""
        return sum(self._seconds[item] for item in items)

    def take(
        self, may_start: Callable[[list[int], list[int]], bool] = lambda items, ahead: True
    ) -> list[int]:
        """Take what starts next: an item or a portion; empty if nothing may start now.

        Args:
            may_start: whether there is room for some items; `ahead` comes first, and has to wait for room:
                empty for what comes first itself.
        """
        if not self._ready and self._untaken and len(self._untaken) == len(self._unfinished):
            # Nothing is at work, so all that is left waits for a cycle.
            item = _member_of_cycle(min(self._untaken), lambda one: self._waits_for[one] & self._untaken)
            self._waits_for[item].clear()
            self._push([item])
        waiting: list[tuple[float, int, list[int]]] = []
        found: list[int] = []
        while self._ready and not found and len(waiting) < LOOKAHEAD:
            entry = heapq.heappop(self._ready)
            if may_start(entry[2], waiting[0][2] if waiting else []):
                found = entry[2]
            else:
                waiting.append(entry)
        for entry in waiting:
            heapq.heappush(self._ready, entry)
        self._untaken.difference_update(found)
        return found

    def finish(self, item: int) -> None:
        """An item that was taken has ended, whatever came of it."""
        self._unfinished.discard(item)
        for downstream in self._downstreams[item]:
            waits = self._waits_for[downstream]
            if item in waits:
                waits.remove(item)
                if not waits and downstream in self._untaken:
                    self._push([downstream])

    def put_back(self, items: Sequence[int]) -> None:
        """Items that were taken, or even finished, have to start once more."""
        if items:
            self._unfinished.update(items)
            self._untaken.update(items)
            self._push(list(items))

    def _push(self, items: list[int]) -> None:
        heapq.heappush(self._ready, (-sum(self._paths[item] for item in items), items[0], items))


@dataclass(frozen=True, slots=True)
class _AtWork:
    """What a worker is at: one item or a portion, and when that is likely to end."""

    item: int
    demand: Demand
    end: float


class Policy(Generic[Worker]):
    """Which worker holds which items of a queue; each free one gets what comes first and has room.

    What comes first and has no room waits for it. Others may start before it if they are likely to have
    ended until then, or to leave it room: so nothing is idle without need, and nothing waits for ever. What
    asks for more than there is at all runs alone.

    Args:
        room: what items take, and what there is; None where nothing is limited.
        clock: seconds, from any moment.
    """

    def __init__(
        self, queue: ReadyQueue, room: Room | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._queue = queue
        self._room = room
        self._clock = clock
        self._held: dict[Worker, list[int]] = {}
        self._at_work: dict[Worker, _AtWork] = {}
        #: Items that could start and wait for room, each with what it waits for, as of the last assignment.
        self.waits: dict[int, str] = {}

    @property
    def finished(self) -> bool:
        """Whether every item ran or was lost with its worker."""
        return self._queue.finished

    def add_worker(self, worker: Worker) -> None:
        self._held[worker] = []

    def remove_worker(self, worker: Worker) -> int | None:
        """Take out a worker that died or ended, and give the item that was running there.

        That item counts as finished, what was sent behind it will be sent again.
        """
        held = self._held.pop(worker)
        self._at_work.pop(worker, None)
        if not held:
            return None
        running, *rest = held
        self._queue.put_back(rest)
        self._queue.finish(running)
        return running

    def complete(self, worker: Worker, item: int) -> None:
        """An item of a worker is done, whatever came of it."""
        held = self._held[worker]
        held.remove(item)
        if not held:
            self._at_work.pop(worker, None)
        self._queue.finish(item)

    def run_again(self, item: int) -> None:
        """An item that counted as finished has to run once more."""
        self._queue.put_back([item])

    def assign(self, is_ending: Callable[[Worker], bool] = lambda _: False) -> list[tuple[Worker, list[int]]]:
        """What to send to the workers that are free now, except those that take nothing any more."""
        sent: list[tuple[Worker, list[int]]] = []
        self.waits = {}
        for worker, held in self._held.items():
            if held or is_ending(worker):
                continue
            items = self._queue.take(self._has_room) if self._room else self._queue.take()
            if not items:
                break
            held.extend(items)
            sent.append((worker, items))
            if self._room:
                end = self._clock() + self._queue.seconds(items)
                self._at_work[worker] = _AtWork(items[0], self._room.demand(items[0]), end)
        return sent

    def _has_room(self, items: list[int], ahead: list[int]) -> bool:
        """Whether some items may start now, beside what is at work and before what waits ahead of them."""
        assert self._room is not None
        if not self._at_work:
            return True
        wanted = self._room.demand(items[0])
        free = self._room.free({one.item: one.demand for one in self._at_work.values()}, wanted)
        if lack := wanted.lack(free):
            self.waits[items[0]] = lack
            return False
        return not ahead or self._delays_not(items, wanted, free, self._room.demand(ahead[0]))

    def _delays_not(self, items: list[int], wanted: Demand, free: Demand, ahead: Demand) -> bool:
        """Whether items can start before something that waits for room, without making it wait longer."""
        moment = now = self._clock()
        for one in sorted(self._at_work.values(), key=lambda one: one.end):
            if not ahead.lack(free):
                break
            moment, free = max(now, one.end), free + one.demand
        return now + self._queue.seconds(items) <= moment or not wanted.lack(free - ahead)


def longest_paths(upstreams: Upstreams, weights: Sequence[float]) -> list[float]:
    """For each item, the weight of the heaviest path of items that starts with it and goes downstream.

    The path ends where it would close a cycle.
    """
    paths = list(weights)
    downstreams = _downstreams(upstreams)
    left = set(range(len(upstreams)))
    done = [item for item in left if not downstreams[item]]
    while left:
        # All that is left lies in a cycle or above one.
        item = done.pop() if done else _member_of_cycle(min(left), lambda one: downstreams[one])
        left.discard(item)
        for upstream in upstreams[item]:
            if upstream in left:
                paths[upstream] = max(paths[upstream], weights[upstream] + paths[item])
                downstreams[upstream].discard(item)
                if not downstreams[upstream]:
                    done.append(upstream)
    return paths


def _downstreams(upstreams: Upstreams) -> list[set[int]]:
    downstreams: list[set[int]] = [set() for _ in upstreams]
    for item, ups in enumerate(upstreams):
        for upstream in ups:
            downstreams[upstream].add(item)
    return downstreams


def _member_of_cycle(start: int, following: Callable[[int], Collection[int]]) -> int:
    """An item of a cycle that the items following each other from a first one run into."""
    seen: set[int] = set()
    while start not in seen:
        seen.add(start)
        start = min(following(start))
    return start


def portions_of(ids: Sequence[str], ordinary: Collection[int], workers: int) -> list[list[int]]:
    """Consecutive ordinary tests of the same file, in portions of a size that all workers get some of."""
    size = -(-len(ordinary) // (PORTIONS_PER_WORKER * max(1, workers)))
    portions: list[list[int]] = []
    last_file = None
    for item in sorted(ordinary):
        file = ids[item].partition("::")[0]
        if portions and file == last_file and portions[-1][-1] == item - 1 and len(portions[-1]) < size:
            portions[-1].append(item)
        else:
            portions.append([item])
        last_file = file
    return portions


# --- the shares --------------------------------------------------------------------------------------------

#: How much longer than the ideal a machine may take, if that saves running something twice.
SLACK = 1.1
#: What takes less than this part of the ideal may run on several machines where that balances better.
LIGHT = 0.05


def shares(
    upstreams: Upstreams,
    weights: Sequence[float],
    count: int,
    *,
    together: Iterable[Collection[int]] = (),
) -> list[set[int]]:
    """Divide items among machines: each on at least one, with all that it reads from.

    The heaviest first, each to the machine that has least to do then. A heavy upstream is not run twice
    while the machine that has it can take more without being the last by far.

    Args:
        upstreams: for each item, the items that it reads from.
        weights: how long each takes, in any unit.
        count: of the machines.
        together: groups of items, read by none and reading none, that stay on one machine.
    """
    units = _units(upstreams, together)
    costs = [sum(weights[item] for item in unit) for unit in units]
    ideal = max(sum(weights) / count, max(costs, default=0.0))
    found: list[set[int]] = [set() for _ in range(count)]
    loads = [0.0] * count
    taken: set[int] = set()
    for number in sorted(range(len(units)), key=lambda number: (-costs[number], min(units[number]))):
        missing = [units[number] - share for share in found]
        after = [
            load + sum(weights[item] for item in lacks) for load, lacks in zip(loads, missing, strict=True)
        ]
        twice = [sum(weights[item] for item in lacks & taken) for lacks in missing]
        heavy = [seconds if seconds > LIGHT * ideal else 0.0 for seconds in twice]
        fits = [place for place in range(count) if after[place] <= SLACK * ideal]
        if fits:
            best = min(fits, key=lambda place: (heavy[place], after[place]))
        else:
            best = min(range(count), key=lambda place: (after[place], heavy[place]))
        found[best] |= units[number]
        loads[best] = after[best]
        taken |= units[number]
    return found


def _units(upstreams: Upstreams, together: Iterable[Collection[int]]) -> list[set[int]]:
    """What is given to a machine in one piece: a leaf with all above it, or a group."""
    units = [set(group) for group in together]
    covered = set().union(*units)
    read = {upstream for item, ups in enumerate(upstreams) for upstream in ups if upstream != item}
    leaves = [item for item in range(len(upstreams)) if item not in read]
    # members of a cycle are read, and what reads them may not be among the items
    for item in (*leaves, *range(len(upstreams))):
        if item not in covered:
            unit, left = {item}, [item]
            while left:
                new = set(upstreams[left.pop()]) - unit
                unit |= new
                left.extend(new)
            covered |= unit
            units.append(unit)
    return units


class Estimate:
    """How long a session may still take, by what its items took earlier and by its own pace.

    Args:
        parts: which part of what there is each item takes; by default as much as all workers.
    """

    def __init__(
        self, upstreams: Upstreams, seconds: Sequence[float], workers: int, parts: Sequence[float] = ()
    ) -> None:
        self._seconds = seconds
        self._paths = longest_paths(upstreams, seconds)
        self._parts = parts or [1 / max(1, workers)] * len(seconds)
        self._open = set(range(len(seconds)))
        self._known = any(value != UNKNOWN for value in seconds)
        self._expected = self._measured = 0.0

    def finish(self, item: int, seconds: float) -> None:
        """An item has ended; `seconds` is what it took, 0 if it did not run."""
        if item in self._open:
            self._open.remove(item)
            if seconds:
                self._expected += self._seconds[item]
                self._measured += seconds

    def left(self, running: Sequence[tuple[int, float]]) -> float | None:
        """Seconds to the end, by the items at work and how long each has been; None if nothing is known."""
        if not self._known and not self._expected:
            return None
        # With many results the pace of this session says more than earlier ones.
        pace = self._measured / self._expected if self._expected else 1.0
        work = sum(self._seconds[item] * self._parts[item] for item in self._open) * pace
        ways = {item: self._paths[item] * pace for item in self._open}
        for item, elapsed in running:
            done = min(elapsed, self._seconds[item] * pace)
            work -= done * self._parts[item]
            ways[item] = ways.get(item, 0.0) - done
        return max(work, *ways.values(), 0.0)
