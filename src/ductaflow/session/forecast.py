"""What a session would do, without doing it: what would run and why, what not, and for how long.

it is skipped by its config                    not_run
its config is wrong, or what it reads is not   error
there and nothing planned makes it
what it reads from cannot run                  blocked
something changed since its last run           run
what it reads from runs, or may run            may run: only if that writes something else than before
none of these                                  unchanged

What is unchanged is so as far as the session goes: `Beyond` tells what has changed above it and is left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ductaflow.common.errors import DuctaflowError
from ductaflow.project.instances import Instance
from ductaflow.project.settings import Comparison
from ductaflow.session.decide import Readiness
from ductaflow.session.durations import expected_seconds
from ductaflow.session.runner import changes_of

#: How many instances are named beside a hint that they share.
_NAMED = 5


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


class Beyond:
    """What has changed above instances and does not run in their session, so that they are unchanged.

    Args:
        readiness: of all instances that there are.
        comparison: what counts as a change.
        runs_here: whether the session runs an instance.
    """

    def __init__(
        self, readiness: Readiness, comparison: Comparison, runs_here: Callable[[Instance], bool]
    ) -> None:
        self._readiness = readiness
        self._comparison = comparison
        self._runs_here = runs_here
        self._changed: dict[str, bool] = {}

    def told(self, instance: Instance) -> str:
        """How far an unchanged instance is so, to be read behind that word; empty if it is so altogether."""
        first, *others = self._above(instance) or [""]
        if not first:
            return ""
        if others:
            return (
                f"as far as it goes: {first} and {len(others)} more, which it reads, have changed and are not"
                " selected"
            )
        return f"as far as it goes: {first}, which it reads, has changed and is not selected"

    def _above(self, instance: Instance) -> list[str]:
        """The nearest changed upstreams on each way up that no instance of the session is on.

        What is skipped runs in no session: nobody has left it out here.
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
            try:
                self._changed[upstream.id] = bool(changes_of(upstream, self._comparison))
            except DuctaflowError:
                # Its last run was good, so whatever is wrong with it has come since.
                self._changed[upstream.id] = True
        return self._changed[upstream.id]


def beyond_lines(told: Mapping[str, str]) -> Iterator[str]:
    """What a session says of unchanged instances below something that has changed; one line for a cause.

    Args:
        told: what `Beyond` tells, by the id of the instance; the empty ones are left out.
    """
    groups: dict[str, list[str]] = {}
    for id, text in told.items():
        if text:
            groups.setdefault(text, []).append(id)
    for text, ids in groups.items():
        more = f" and {len(ids) - _NAMED} more" if ids[_NAMED:] else ""
        yield f"{', '.join(ids[:_NAMED])}{more}: unchanged {text}"


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
        beyond = self._comparison and Beyond(
            self._readiness, self._comparison, lambda upstream: upstream.id in by_id
        )
        found: dict[str, Planned] = {}
        for id in self._readiness.graph.order(list(by_id)):
            found[id] = self._planned(by_id[id], found, by_id)
            if beyond and found[id].would is Would.UNCHANGED:
                found[id] = replace(found[id], reason=beyond.told(by_id[id]))
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
