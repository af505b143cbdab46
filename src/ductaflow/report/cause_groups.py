"""Failures grouped by cause: "37 errors, 2 causes", and the parameters that the instances of each share.

Two failures have the same cause if they have the same exception, place and message; numbers, addresses, paths
and the instance's own name in the message do not count. The title has those that are the same in all of them.
A build that failed by one of its flows has the cause of that flow, and its parameters besides its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations
from operator import and_
from typing import NamedTuple

from ductaflow.report.schema import Cause, InstanceTwin
from ductaflow.store.causes import CauseKey, Failed, Group, Root, Said, cause_of, grouped, way_to_root
from ductaflow.store.result import Status

#: Parameters that are looked at in pairs and triples, and how many one answer has at most.
MAX_CANDIDATES, MAX_SHARED = 24, 3
#: Answers of one size that are named.
MAX_SETS = 3
#: Failed instances of a cause, and good ones of their flows, that it takes to name parameters: one instance
#: alone differs from others by almost everything.
ENOUGH = 2


class _Facts(NamedTuple):
    """The facts of an instance that causes depend on; `cause` and `said` are of one that failed."""

    flow: str
    good: bool
    cause: CauseKey | None
    said: Said
    pairs: tuple[int, ...]
    upstreams: tuple[str, ...]
    blocked: bool


class Causes:
    """The causes of a session. Add each instance as it comes, and again when more is known of it."""

    def __init__(self) -> None:
        self._facts: dict[str, _Facts] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def add(self, instance: InstanceTwin) -> None:
        """Add an instance of the twin."""
        status = Status(instance["status"])
        way = way_of(instance)
        failed = _facts_of([instance, *way][-1])
        cause, said = cause_of(failed, instance["instance"]) if failed else (None, ())
        is_blocked = status is Status.BLOCKED
        self._facts[instance["id"]] = _Facts(
            instance["flow"],
            status.has_good_run,
            cause,
            said,
            # The flow that made a build fail has the parameter that tells why.
            tuple(pair for one in [instance, *way[-1:]] for pair in self._pairs(one))
            if status.has_run
            else (),
            tuple(instance["upstreams"]) if status.is_error or is_blocked else (),
            is_blocked,
        )

    def _pairs(self, instance: InstanceTwin) -> Iterator[int]:
        """Numbers that stand for the parameters, without values that contain the instance's name."""
        for name, value in sorted(parameters_of(instance).items()):
            if instance["instance"] not in value:
                yield self._numbers.setdefault((name, value), len(self._numbers))

    def find(self) -> list[Cause]:
        """Return the causes for the twin, the one with the most instances first."""
        failed = [(id, facts.cause, facts.said) for id, facts in self._facts.items() if facts.cause]
        if not failed:
            return []
        blocked = self._blocked_by()
        return [
            self._cause(group, blocks=len(set().union(*(blocked.get(id, ()) for id in group.names))))
            for group in grouped(failed)
        ]

    def _cause(self, group: Group, *, blocks: int) -> Cause:
        found = self._distinctive(group.names)
        first, *others = found or [[]]
        return {
            "cause": group.key.kind,
            "place": group.key.place,
            "title": group.title,
            "instances": list(group.names),
            "parameters": first,
            "alternatives": others[: MAX_SETS - 1],
            "alternatives_left_out": max(0, len(found) - MAX_SETS),
            "blocks": blocks,
        }

    def _blocked_by(self) -> dict[str, set[str]]:
        """For each failed instance the blocked ones that wait for it, at any distance."""
        found: dict[str, set[str]] = {}
        for id, facts in self._facts.items():
            stack = list(facts.upstreams) if facts.blocked else []
            seen = set(stack)
            while stack:
                upstream = self._facts.get(above := stack.pop())
                if upstream and upstream.cause:
                    found.setdefault(above, set()).add(id)
                if upstream and upstream.blocked:
                    stack += (next_id for next_id in upstream.upstreams if next_id not in seen)
                    seen.update(upstream.upstreams)
        return found

    def _distinctive(self, ids: Sequence[str]) -> list[list[list[str]]]:
        """Return all smallest sets of parameters that some failed instances share and no good one has."""
        failed = [self._facts[id] for id in ids]
        flows = {facts.flow for facts in failed}
        good = [facts.pairs for facts in self._facts.values() if facts.good and facts.flow in flows]
        shared = set(failed[0].pairs).intersection(*(facts.pairs for facts in failed))
        if len(failed) < ENOUGH or len(good) < ENOUGH:
            return []
        # One bit for each good instance; a set of parameters tells apart if no bit is common to all of them.
        having = dict.fromkeys(shared, 0)
        for place, pairs in enumerate(good):
            for number in shared.intersection(pairs):
                having[number] |= 1 << place
        names = {number: pair for pair, number in self._numbers.items() if number in shared}
        # A path mostly follows from a shorter parameter, which says more.
        paths = {number for number, (_, value) in names.items() if "/" in value or "\\" in value}
        everyone = (1 << len(good)) - 1
        candidates = sorted(
            (number for number in shared if having[number] != everyone),
            key=lambda number: (number in paths, having[number].bit_count(), names[number]),
        )[:MAX_CANDIDATES]
        found = _smallest(candidates, having)
        without_paths = [chosen for chosen in found if paths.isdisjoint(chosen)]
        return [[list(names[number]) for number in chosen] for chosen in without_paths or found]


def _smallest(candidates: Sequence[int], having: Mapping[int, int]) -> list[tuple[int, ...]]:
    """Return the smallest sets of candidates without a bit that all of a set have in `having`."""
    for size in range(1, MAX_SHARED + 1):
        sets = combinations(candidates, size)
        if found := [chosen for chosen in sets if not reduce(and_, map(having.__getitem__, chosen))]:
            return found
    return []


def way_of(instance: InstanceTwin) -> list[InstanceTwin]:
    """Return the flows from a build down to the one that made it fail; none for another failure."""
    return way_to_root(instance, _facts_of, lambda one: one["flows"])


def _facts_of(instance: InstanceTwin) -> Failed | None:
    if not Status(instance["status"]).is_error:
        return None
    failure = instance["failure"]
    return Failed(
        instance["instance"],
        instance["cause"],
        instance["message"],
        failure["ename"] if failure else "",
        failure["evalue"] if failure else "",
        failure["file"] if failure else None,
        failure["line"] if failure else None,
        instance["flow"],
    )


def root_of_instance(instance: InstanceTwin) -> Root | None:
    """Return where the failure of a build began; None if it is the instance's own."""
    return Root.of([failed for one in way_of(instance) if (failed := _facts_of(one))])


def find_causes(instances: Iterable[InstanceTwin]) -> list[Cause]:
    """Return the causes of the instances of a twin; see `Causes.find`."""
    causes = Causes()
    for instance in instances:
        causes.add(instance)
    return causes.find()


def parameters_of(instance: InstanceTwin) -> dict[str, str]:
    """Return the parameters of an instance of the twin: its config, and those of its conductor."""
    said = {
        name: str(value)
        for name, value in instance["parameters"].items()
        if not isinstance(value, dict | list)
    }
    return {**said, **(instance["config"] or {})}
