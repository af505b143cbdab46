"""The section at the end of a session: counts, causes, blocked and unchanged instances, the slowest runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ductaflow.common.text import duration, first_line, in_numbers, listed
from ductaflow.store.causes import Failed, cause_of, grouped, origin_of, root_of
from ductaflow.store.result import Result, Status

#: How many causes, and how many instances of each, are named; the report has all, and so has `-v`.
MAX_CAUSES, MAX_IDS = 30, 5
MAX_BLOCKED = 5
SLOWEST = 5
#: `fit/D is blocked: `, where the cause is further above.
_THROUGH = re.compile(r"^\S+ is blocked: ")


def summary_lines(results: Mapping[str, Result], xfailed: Collection[str], verbosity: int) -> Iterator[str]:
    """Yield what the terminal shows of the instances of one runs folder.

    Args:
        results: of each instance, by node id, like `xfailed`.
        verbosity: pytest's; below 0 only counts and causes, above 0 every instance by its id.
    """
    failed = {nodeid: result for nodeid, result in results.items() if result.status.is_error}
    expected = failed.keys() & set(xfailed)
    counts = Counter("xfail" if nodeid in expected else result.status for nodeid, result in results.items())
    yield in_numbers(counts, (*Status, "xfail"))
    most = _Most() if verbosity <= 0 else _Most(None, None, None)
    yield from _causes([failed[nodeid] for nodeid in failed if nodeid not in expected], most)
    for nodeid in sorted(expected):
        yield f"  error    {failed[nodeid].id} (xfail): {first_line(failed[nodeid].message)}"
    if verbosity < 0:
        return
    yield from _blocked(results.values(), most)
    yield from _beyond(results.values(), most)
    yield from _slowest(results.values())


class _Most(NamedTuple):
    """How much is named; None for everything."""

    causes: int | None = MAX_CAUSES
    ids: int | None = MAX_IDS
    blocked: int | None = MAX_BLOCKED


def _causes(failed: Sequence[Result], most: _Most) -> Iterator[str]:
    by_id = {result.id: result for result in failed}
    causes = ((result.id, Failed.of(origin_of(result)), result.instance) for result in failed)
    groups = grouped((id, *cause_of(failed, instance)) for id, failed, instance in causes if failed)
    if len(failed) > 1:
        yield f"{len(failed)} errors, {len(groups)} cause{'s' if len(groups) > 1 else ''}:"
    for group in groups[: most.causes]:
        first = by_id[group.names[0]]
        if len(group.names) == 1:
            # The message of a build is a chain of flows, whose end says what happened.
            root = root_of(first)
            text = root.line if root else first.message
            yield f"  error    {first.id}: {first_line(text)}"
            continue
        yield f"  error    {len(group.names)} x {first_line(group.line)}"
        yield f"           {listed(group.names, most.ids)}"
    if most.causes and len(groups) > most.causes:
        yield f"  and {len(groups) - most.causes} more causes"


def _blocked(results: Iterable[Result], most: _Most) -> Iterator[str]:
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


def _slowest(results: Iterable[Result]) -> Iterator[str]:
    # An unchanged instance has the seconds of its last run.
    took = [result for result in results if result.seconds and result.status is not Status.UNCHANGED]
    ran = sorted(took, key=lambda result: -result.seconds)
    if len(ran) > 1:
        yield "slowest: " + ", ".join(f"{result.id} {duration(result.seconds)}" for result in ran[:SLOWEST])
