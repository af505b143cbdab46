"""What a session would do, without doing it: what would run and why, what not, and for how long.

it is skipped by its config                    not_run
its config is wrong, or what it reads is not   error
there and nothing planned makes it
what it reads from cannot run                  blocked
something changed since its last run           run
what it reads from runs, or may run            may run: only if that writes something else than before
none of these                                  unchanged
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ductaflow.durations import expected_seconds
from ductaflow.errors import DuctaflowError
from ductaflow.instances import Instance
from ductaflow.lineage import Comparison
from ductaflow.readiness import Readiness
from ductaflow.runner import changes_of


class Would(StrEnum):
    """What would become of an instance."""

    RUN = "run"
    MAY_RUN = "may run"
    UNCHANGED = "unchanged"
    BLOCKED = "blocked"
    NOT_RUN = "not_run"
    ERROR = "error"

    @property
    def takes_time(self) -> bool:
        return self in (Would.RUN, Would.MAY_RUN)


@dataclass(frozen=True, slots=True)
class Planned:
    """What would become of one instance.

    Attributes:
        reason: why; empty where everything is run.
        seconds: how long its run is likely to take, by earlier runs; 0 where none would be made.
    """

    instance: Instance
    would: Would
    reason: str
    seconds: float = 0.0


class Forecast:
    """What a session over some instances would do.

    Args:
        readiness: of all instances that there are.
        comparison: what counts as a change; None for a session that runs everything.
    """

    def __init__(self, readiness: Readiness, comparison: Comparison | None) -> None:
        self._readiness = readiness
        self._comparison = comparison

    def of(self, instances: Sequence[Instance]) -> list[Planned]:
        """What would become of instances that one session runs, in the order given."""
        by_id = {instance.id: instance for instance in instances}
        found: dict[str, Planned] = {}
        for id in self._readiness.graph.order(list(by_id)):
            found[id] = self._planned(by_id[id], found, by_id)
        return _with_seconds([found[instance.id] for instance in instances])

    def _planned(
        self, instance: Instance, found: Mapping[str, Planned], here: Mapping[str, Instance]
    ) -> Planned:
        if reason := instance.skip_reason():
            return Planned(instance, Would.NOT_RUN, f"skipped: {reason}")
        if instance.problem:
            return Planned(instance, Would.ERROR, _with_remedy(instance.problem))
        above = [found[id] for id in self._readiness.graph.upstreams(instance.id) if id in found]
        for upstream in above:
            if upstream.would in (Would.ERROR, Would.BLOCKED):
                return Planned(instance, Would.BLOCKED, _through(upstream))
        if absent := self._readiness.skipped_upstream(instance):
            return Planned(instance, Would.BLOCKED, absent)
        if lack := self._readiness.lack(instance, lambda upstream: upstream.id in here):
            return Planned(instance, Would.ERROR, " ".join(filter(None, [*lack.sentences, lack.remedy])))
        if self._comparison is None:
            return Planned(instance, Would.RUN, "")
        return _compared(instance, self._comparison, above)


def _with_remedy(fault: DuctaflowError) -> str:
    return " ".join(filter(None, [fault.message, fault.hint]))


def _through(upstream: Planned) -> str:
    """Why nothing can be read from an upstream."""
    id = upstream.instance.id
    return f"{id} is blocked: {upstream.reason}" if upstream.would is Would.BLOCKED else upstream.reason


def _compared(instance: Instance, comparison: Comparison, above: Sequence[Planned]) -> Planned:
    try:
        found = changes_of(instance, comparison)
    except DuctaflowError as exc:
        return Planned(instance, Would.ERROR, _with_remedy(exc))
    if found:
        more = f" (and {len(found) - 1} more)" if found[1:] else ""
        return Planned(instance, Would.RUN, found[0].text + more)
    for upstream in above:
        if upstream.would.takes_time:
            return Planned(instance, Would.MAY_RUN, f"reads from {upstream.instance.id}")
    return Planned(instance, Would.UNCHANGED, "")


def _with_seconds(planned: Sequence[Planned]) -> list[Planned]:
    expected = expected_seconds([one.instance for one in planned])
    return [
        replace(one, seconds=seconds) if one.would.takes_time else one
        for one, seconds in zip(planned, expected, strict=True)
    ]


def seconds_with(jobs: int, planned: Sequence[Planned], readiness: Readiness) -> float:
    """How long some runs are likely to take, several at a time, each after what it reads from.

    Args:
        jobs: how many at a time.
        planned: what would run; what would not counts for nothing.
        readiness: of all instances that there are.
    """
    seconds = {one.instance.id: one.seconds for one in planned if one.would.takes_time}
    graph = readiness.graph
    order = graph.order(list(seconds))
    waits = {id: seconds.keys() & graph.upstreams(id) for id in order}
    readers: dict[str, list[str]] = {id: [] for id in order}
    for id, upstreams in waits.items():
        for upstream in upstreams:
            readers[upstream].append(id)
    # As sessions do it: of those that wait for nothing the first in order.
    places = {id: place for place, id in enumerate(order)}
    ready = [place for id, place in places.items() if not waits[id]]
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < jobs:
            id = order[heapq.heappop(ready)]
            heapq.heappush(running, (now + seconds[id], id))
        now, ended = heapq.heappop(running)
        for reader in readers[ended]:
            waits[reader].discard(ended)
            if not waits[reader]:
                heapq.heappush(ready, places[reader])
    return now
