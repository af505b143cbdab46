"""The section at the end of a session: counts, slowest runs, what is blocked; last the causes of failures."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ductaflow.common.terminal import Line
from ductaflow.common.text import duration, first_line, in_numbers, listed, shorten
from ductaflow.store.causes import Failed, Group, cause_of, grouped, origin_of, root_of
from ductaflow.store.result import Result, Status

#: How many causes, and how many instances of each, are named; the report has all, and so has `-v`.
MAX_CAUSES, MAX_IDS = 30, 5
MAX_BLOCKED = 5
SLOWEST = 5
#: `fit/D is blocked: `, where the cause is further above.
_THROUGH = re.compile(r"^\S+ is blocked: ")
#: The instance that failed, in the message of one that is blocked.
_FAILED = re.compile(r"(\S+) failed\b")
_INDENT = " " * 11
#: So many characters of a title are shown in any case, however narrow the terminal is.
_LEAST = 60


@dataclass(frozen=True)
class SessionResults:
    """What came of the instances of one runs folder.

    Attributes:
        results: of each instance, by node id, as all else here.
        xfailed: those whose failure was expected.
        failing: why the tests of good runs fail.
    """

    results: Mapping[str, Result]
    xfailed: Collection[str] = ()
    failing: Mapping[str, str] = field(default_factory=dict)

    def causes(self) -> list[Group]:
        """Return the causes of failed tests, whose names are node ids, the one with the most first.

        Among those with as many, what failed comes before what is only not as expected.
        """
        failed = [(nodeid, self.results[nodeid]) for nodeid in self.results if nodeid not in self.xfailed]
        found = [(nodeid, Failed.of(origin_of(result)), result) for nodeid, result in failed]
        groups = grouped((nodeid, *cause_of(fact, result.instance)) for nodeid, fact, result in found if fact)
        groups.sort(key=lambda group: (-len(group.names), group.key.kind == "expectation"))
        told = (
            (nodeid, Failed(self.results[nodeid].instance, "test", why))
            for nodeid, why in self.failing.items()
        )
        return [*groups, *grouped((nodeid, *cause_of(fact, fact.instance)) for nodeid, fact in told)]

    @cached_property
    def blocked_by(self) -> dict[str, list[str]]:
        """The ids of blocked instances, by the id of the instance that failed above them in this session."""
        failed = {result.id for result in self.results.values() if result.status.is_error}
        found: dict[str, list[str]] = {}
        for result in self.results.values():
            if result.status is Status.BLOCKED:
                above = _FAILED.match(_THROUGH.sub("", result.message))
                if above and above[1] in failed:
                    found.setdefault(above[1], []).append(result.id)
        return found


class _Most(NamedTuple):
    """How much is named; None for everything."""

    causes: int | None = MAX_CAUSES
    ids: int | None = MAX_IDS
    blocked: int | None = MAX_BLOCKED


def summary_lines(session: SessionResults, verbosity: int, *, width: int) -> Iterator[str]:
    """Yield counts, what is blocked, and what took longest.

    Args:
        session: what came of it.
        verbosity: pytest's; below 0 only counts, above 0 every instance by its id.
        width: columns of the terminal.
    """
    results = session.results
    expected = [
        nodeid for nodeid in sorted(session.xfailed) if nodeid in results and results[nodeid].status.is_error
    ]
    counts = Counter("xfail" if nodeid in expected else result.status for nodeid, result in results.items())
    yield in_numbers(counts, (*Status, "xfail"))
    if verbosity >= 0:
        yield from _slowest(results.values(), width)
    for nodeid in expected:
        yield f"  error    {results[nodeid].id} (xfail): {first_line(results[nodeid].message)}"
    if verbosity >= 0:
        most = _Most() if verbosity == 0 else _Most(None, None, None)
        yield from _blocked(session, most)
        yield from _beyond(results.values(), most)


def cause_lines(
    session: SessionResults,
    causes: Sequence[Group],
    verbosity: int,
    *,
    width: int,
    shared: Mapping[str, str] | None = None,
    root: str = "",
) -> Iterator[str]:
    """Yield the causes, each with its place, and with the instances and the parameters that they share.

    Args:
        session: what came of it.
        causes: as `SessionResults.causes` gives them.
        verbosity: pytest's; above 0 every instance by its id.
        width: columns of the terminal.
        shared: parameters that the failed instances of a cause have and no good one, by their ids.
        root: the folder of the project, which paths are told without.
    """
    results = session.results
    most = _Most() if verbosity <= 0 else _Most(None, None, None)
    errors = sum(results[nodeid].status.is_error for group in causes for nodeid in group.names)
    if errors > 1:
        count = sum(group.key.kind != "test" for group in causes)
        yield f"{errors} errors, {count} cause{'s' if count > 1 else ''}:"
    for group in causes[: most.causes]:
        ids = [results[nodeid].id for nodeid in group.names]
        first = results[group.names[0]]
        # A name that is known from the line is not said again below it.
        title = first_line(group.title.replace(f"{root}{os.sep}", "") if root else group.title)
        head = f"{len(ids)} x " if ids[1:] else "" if title.startswith(f"{ids[0]} ") else f"{ids[0]}: "
        began = root_of(first) if not ids[1:] else None
        end = f"{f' ({began.where})' if began else ''}{f' -> {group.key.place}' if group.key.place else ''}"
        room = max(_LEAST, width - len(_INDENT) - len(head) - len(end))
        yield Line(f"{_word(group):<9}", "red", f"{head}{shorten(title, room)}{end}", before="  ")
        alike = (shared or {}).get(first.id, "") if ids[1:] else ""
        names = [f"all with {alike}"] if alike else []
        waiting = [id for own in ids for id in session.blocked_by.get(own, ())]
        if ids[1:]:
            names.append(_fitting(ids, width - len(_INDENT) - sum(len(name) + 2 for name in names), most.ids))
        if names:
            yield f"{_INDENT}{': '.join(names)}"
        if waiting:
            yield f"{_INDENT}blocks {_fitting(waiting, width - len(_INDENT) - 7, most.ids)}"
    if most.causes and len(causes) > most.causes:
        yield f"  and {len(causes) - most.causes} more causes"


def _word(group: Group) -> str:
    return {"expectation": "differs", "test": "fails"}.get(group.key.kind, "error")


def _fitting(names: Sequence[str], room: int, most: int | None) -> str:
    """As many names as there is room for in a line, one in any case; all for None."""
    if most is None:
        return ", ".join(names)
    count = next((n for n in range(min(most, len(names)), 1, -1) if len(listed(names, n)) <= room), 1)
    return listed(names, count)


def _blocked(session: SessionResults, most: _Most) -> Iterator[str]:
    """Yield what is blocked by what is no failure of this session; the causes name the rest."""
    named = {id for ids in session.blocked_by.values() for id in ids}
    results = (result for result in session.results.values() if result.id not in named)
    groups = _ids_by_message(results, Status.BLOCKED)
    for why, ids in groups[: most.blocked]:
        yield f"  blocked  {listed(ids, most.ids)}: {first_line(why)}"
    if most.blocked and groups[most.blocked :]:
        yield f"  and {sum(len(ids) for _, ids in groups[most.blocked :])} more blocked"


def _beyond(results: Iterable[Result], most: _Most) -> Iterator[str]:
    """Yield the unchanged instances below one that has changed and is not selected."""
    for far, ids in _ids_by_message(results, Status.UNCHANGED):
        if far:
            yield f"  unchanged  {listed(sorted(ids), most.ids)}: {first_line(far)}"


def _ids_by_message(results: Iterable[Result], status: Status) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for result in results:
        if result.status is status:
            groups.setdefault(_THROUGH.sub("", result.message), []).append(result.id)
    return list(groups.items())


def _slowest(results: Iterable[Result], width: int) -> Iterator[str]:
    # An unchanged instance has the seconds of its last run.
    took = [result for result in results if result.seconds and result.status is not Status.UNCHANGED]
    ran = [f"{one.id} {duration(one.seconds)}" for one in sorted(took, key=lambda result: -result.seconds)]
    if len(ran) > 1:
        lines = (f"slowest: {', '.join(ran[:count])}" for count in range(min(SLOWEST, len(ran)), 1, -1))
        yield next((line for line in lines if len(line) <= width), f"slowest: {ran[0]}")
