"""Forecast a session without running it: the decision about each instance, and how long it all takes.

An instance that reads from one that runs may run: it does if that one writes something else than before.
`unchanged` is qualified by what has changed further above and is not selected (`Beyond`), and where the last
run will be judged again, since something else is expected of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ductaflow.common.text import listed
from ductaflow.project.instances import Instance, Instances
from ductaflow.session.decide import Decision, Readiness, Would, compared, decide
from ductaflow.session.durations import UNKNOWN, likely
from ductaflow.session.last_runs import WILL_BE_JUDGED, is_judged
from ductaflow.session.resources import RoomHere
from ductaflow.session.scheduler import Policy, ReadyQueue
from ductaflow.store.result import readable_result

#: How many instances are named beside a hint that they share.
_NAMED = 5


class Beyond:
    """Changes above unchanged instances, in upstreams that their session does not run."""

    def __init__(self, readiness: Readiness, runs_here: Callable[[Instance], bool]) -> None:
        self._readiness = readiness
        self._runs_here = runs_here
        self._changed: dict[str, bool] = {}

    def told(self, instance: Instance) -> str:
        """Qualifier shown after "unchanged" when an unselected upstream has changed; empty otherwise."""
        above = self._above(instance)
        if not above:
            return ""
        verb, other = ("have", "are") if above[1:] else ("has", "is")
        return (
            f"as far as it goes: {listed(above, 1)}, which it reads, {verb} changed and {other} not selected"
        )

    def _above(self, instance: Instance) -> list[str]:
        """The nearest changed upstreams on each path upwards that the session runs nothing of.

        A skipped upstream runs in no session, so nobody left it out here.
        """
        found: list[str] = []
        seen = {instance.id}
        ways = [instance]
        while ways:
            for upstream in self._readiness.upstreams(ways.pop()):
                if upstream.id in seen or upstream.skip_reason() or self._runs_here(upstream):
                    continue
                seen.add(upstream.id)
                if self._has_changed(upstream):
                    found.append(upstream.id)
                else:
                    ways.append(upstream)
        return found

    def _has_changed(self, upstream: Instance) -> bool:
        if upstream.id not in self._changed:
            # One that cannot run now has changed too: its last run was good, so its problem is newer.
            self._changed[upstream.id] = compared(upstream).would is not Would.UNCHANGED
        return self._changed[upstream.id]


def beyond_lines(qualifiers: Mapping[str, str]) -> Iterator[str]:
    """Lines about unchanged instances below something that has changed, one for each qualifier."""
    groups: dict[str, list[str]] = {}
    for id, text in qualifiers.items():
        if text:
            groups.setdefault(text, []).append(id)
    for text, ids in groups.items():
        yield f"{listed(ids, _NAMED)}: unchanged {text}"


def forecast(readiness: Readiness, instances: Sequence[Instance], *, only_changed: bool) -> list[Decision]:
    """Forecast the decisions about instances that one session runs, in the order given."""
    here = {instance.id: instance for instance in instances}
    beyond = Beyond(readiness, lambda upstream: upstream.id in here)
    found: dict[str, Decision] = {}
    for id in readiness.graph.order(list(here)):
        reads = readiness.reads(here[id], lambda upstream: upstream.id in here)
        # An upstream that is not decided yet is in a cycle with this one.
        above = {id: found[id] for id in reads.here if id in found}
        blames = {id: decision.blame for id, decision in above.items()}
        decision = decide(reads, blames.get, only_changed=only_changed)
        if decision.would is Would.UNCHANGED:
            running = next((id for id, upstream in above.items() if upstream.would.takes_time), None)
            if running:
                decision = replace(decision, would=Would.MAY_RUN, reasons=(f"reads from {running}",))
            elif told := "; ".join(filter(None, [_judging(here[id]), beyond.told(here[id])])):
                decision = replace(decision, reasons=(*decision.reasons, told))
        found[id] = decision
    if not any(one.would.takes_time for one in found.values()):
        return [found[one.id] for one in instances]
    known = likely(instances)
    room = RoomHere(instances, known.peaks, 1, known.cut)
    return [
        replace(found[one.id], seconds=seconds, memory=room.demand(place).memory)
        if found[one.id].would.takes_time
        else found[one.id]
        for place, (one, seconds) in enumerate(zip(instances, known.seconds, strict=True))
    ]


def _judging(instance: Instance) -> str:
    """What comes of an unchanged instance besides: whether it is as expected now shows when it is judged."""
    last = readable_result(instance.run_folder.path)
    return "" if last is None or is_judged(instance, last) else WILL_BE_JUDGED


@dataclass(frozen=True, slots=True)
class Plan:
    """What `ductaflow run --changed` would do.

    Attributes:
        decisions: in the order of the graph.
        is_known: whether earlier runs tell how long some of it takes.
        span: seconds from beginning to end, at least and at most: what may run perhaps does not.
        waits: what would have to wait for room, by id, each with what it would wait for first.
        alone: what takes more than there is at all, by id, each with what it lacks.
    """

    decisions: tuple[Decision, ...]
    is_known: bool
    span: tuple[float, float]
    waits: Mapping[str, str]
    alone: Mapping[str, str]

    @classmethod
    def of(cls, instances: Instances, ids: Iterable[str], jobs: int) -> Plan:
        """Plan runs of some of the stored instances of a project, `jobs` at a time."""
        readiness = Readiness(instances)
        order = [instances.by_id[id] for id in readiness.graph.order(ids)]
        decisions = forecast(readiness, order, only_changed=True)
        surely = [one for one in decisions if one.would is Would.RUN]
        least = seconds_with(jobs, surely, readiness)
        most, waits = _simulated(jobs, decisions, readiness)
        running = [one for one in decisions if one.would.takes_time]
        room = _room(running, jobs)
        alone = {one.instance.id: lack for place, one in enumerate(running) if (lack := room.beyond(place))}
        return cls(
            tuple(decisions),
            any(one.would.takes_time and one.seconds != UNKNOWN for one in decisions),
            (least, most),
            waits,
            alone,
        )


def _room(decisions: Sequence[Decision], jobs: int) -> RoomHere:
    return RoomHere([one.instance for one in decisions], [one.memory for one in decisions], jobs)


def seconds_with(jobs: int, decisions: Sequence[Decision], readiness: Readiness) -> float:
    """How long what runs is likely to take, `jobs` at a time, each after what it reads from."""
    return _simulated(jobs, decisions, readiness)[0]


def _simulated(
    jobs: int, decisions: Sequence[Decision], readiness: Readiness
) -> tuple[float, dict[str, str]]:
    """How long what runs is likely to take, `jobs` at a time, each after what it reads from and with room.

    And what would wait for room, with what it would wait for first.
    """
    would_run = {one.instance.id: one for one in decisions if one.would.takes_time}
    places = {id: place for place, id in enumerate(readiness.graph.order(would_run))}
    ids = list(places)
    upstreams = [[places[up] for up in readiness.graph.upstreams(id) if up in places] for id in ids]
    seconds = [would_run[id].seconds for id in ids]
    room = _room([would_run[id] for id in ids], jobs) if jobs > 1 else None
    now = 0.0
    policy = Policy[int](ReadyQueue(upstreams, seconds), room and room.simulated(), lambda: now)
    for number in range(jobs):
        policy.add_worker(number)
    running: list[tuple[float, int, int]] = []
    waits: dict[str, str] = {}
    while not policy.finished:
        for worker, [place] in policy.assign():
            heapq.heappush(running, (now + seconds[place], worker, place))
        for place, lack in policy.waits.items():
            waits.setdefault(ids[place], lack)
        now, worker, ended = heapq.heappop(running)
        policy.complete(worker, ended)
    return now, waits
