"""Red instances grouped by cause: "37 red, 2 causes", and the parameters that the instances of each share.

Two failures have the same cause if they have the same exception, place and message; numbers, addresses, paths
and the instance's own name in the message do not count. A build that is red by one of its flows has that
flow's cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from ductaflow.causes import CauseKey, cause_key

#: Parameters that are looked at in pairs and triples, and how many one answer has at most.
MAX_CANDIDATES, MAX_SHARED = 24, 3

_GOOD = ("success", "warning", "unchanged")


class _Facts(NamedTuple):
    """What counts of an instance: its flow, whether it is good, its cause if it is red, its parameters."""

    flow: str
    good: bool
    cause: CauseKey | None
    pairs: tuple[int, ...]
    upstreams: tuple[str, ...]
    blocked: bool


class Causes:
    """The causes of a session; instances are added as they come, each again when it is known better."""

    def __init__(self) -> None:
        self._facts: dict[str, _Facts] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def add(self, instance: Mapping[str, Any]) -> None:
        """Take in an instance of the twin."""
        status, red = instance["status"], instance["status"] == "error"
        counts = red or status in _GOOD
        self._facts[instance["id"]] = _Facts(
            instance["flow"],
            status in _GOOD,
            cause_key(instance) if red else None,
            tuple(self._pairs(instance)) if counts else (),
            tuple(instance["upstreams"]) if status in ("error", "blocked") else (),
            status == "blocked",
        )

    def _pairs(self, instance: Mapping[str, Any]) -> Iterator[int]:
        """Numbers that stand for the parameters. A value that has the instance's name in it tells nothing."""
        for name, value in sorted(parameters_of(instance).items()):
            if instance["instance"] not in value:
                yield self._numbers.setdefault((name, value), len(self._numbers))

    def find(self) -> list[dict[str, Any]]:
        """The causes for the twin, the one of most instances first.

        Returns:
            `{"cause", "place", "title", "instances": [ids], "parameters": [[name, value]], "blocks": n}`
            each: `parameters` is the smallest set that all these instances have and no good instance of the
            same flows, empty if there is none; `blocks` is how many instances wait for these.
        """
        groups: dict[CauseKey, list[str]] = {}
        for id, facts in self._facts.items():
            if facts.cause:
                groups.setdefault(facts.cause, []).append(id)
        if not groups:
            return []
        names = {number: pair for pair, number in self._numbers.items()}
        blocked = self._blocked_by()
        return [
            {
                "cause": key.kind,
                "place": key.place,
                "title": key.title,
                "instances": ids,
                "parameters": [list(names[number]) for number in self._told_apart(ids)],
                "blocks": len(set().union(*(blocked.get(id, ()) for id in ids))),
            }
            for key, ids in sorted(groups.items(), key=lambda group: -len(group[1]))
        ]

    def _blocked_by(self) -> dict[str, set[str]]:
        """For each red id, the blocked ones that wait for it, at any distance."""
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

    def _told_apart(self, ids: Sequence[str]) -> tuple[int, ...]:
        """The smallest set of parameters that some red instances share and no good one has."""
        red = [self._facts[id] for id in ids]
        flows = {facts.flow for facts in red}
        good = [facts.pairs for facts in self._facts.values() if facts.good and facts.flow in flows]
        shared = set(red[0].pairs).intersection(*(facts.pairs for facts in red))
        if not good or not shared:
            return ()
        # One bit for each good instance; a set of parameters tells apart if no bit is common to all of them.
        having = dict.fromkeys(shared, 0)
        for place, pairs in enumerate(good):
            for number in shared.intersection(pairs):
                having[number] |= 1 << place
        # A path mostly follows from a shorter parameter, which tells more.
        paths = {number for (_, value), number in self._numbers.items() if "/" in value or "\\" in value}
        ordered = sorted(shared, key=lambda number: (number in paths, having[number].bit_count(), number))
        everyone = (1 << len(good)) - 1
        candidates = [number for number in ordered if having[number] != everyone][:MAX_CANDIDATES]
        for size in range(1, MAX_SHARED + 1):
            for chosen in combinations(candidates, size):
                left = everyone
                for number in chosen:
                    left &= having[number]
                if not left:
                    return chosen
        return ()


def find_causes(instances: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The causes of the instances of a twin; see `Causes.find`."""
    causes = Causes()
    for instance in instances:
        causes.add(instance)
    return causes.find()


def parameters_of(instance: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of an instance of the twin: its config, and what a conductor says of it."""
    said = {
        name: str(value)
        for name, value in instance["parameters"].items()
        if not isinstance(value, dict | list)
    }
    return {**said, **(instance["config"] or {})}
