"""The section at the end of a session: counts, causes, blocked and unchanged instances, the slowest runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from ductaflow.common.text import clean, duration, first_line, in_numbers
from ductaflow.store.causes import CauseKey, Failed, Said, cause_of, origin_of
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
        results: of each instance, by node id.
        xfailed: node ids of instances that were expected to fail.
        verbosity: pytest's; below 0 only counts and causes, above 0 every instance by its id.
    """
    red = {nodeid: result for nodeid, result in results.items() if result.status.is_error}
    expected = red.keys() & set(xfailed)
    counts = Counter("xfail" if nodeid in expected else result.status for nodeid, result in results.items())
    yield in_numbers(counts, (*Status, "xfail"))
    everything = verbosity > 0
    yield from _causes([red[nodeid] for nodeid in red if nodeid not in expected], everything=everything)
    for nodeid in sorted(expected):
        yield f"  error    {red[nodeid].id} (xfail): {first_line(red[nodeid].message)}"
    if verbosity < 0:
        return
    yield from _blocked(
        [result for result in results.values() if result.status is Status.BLOCKED], everything=everything
    )
    yield from _beyond(list(results.values()), everything=everything)
    yield from _slowest(list(results.values()))


def _causes(red: Sequence[Result], *, everything: bool) -> Iterator[str]:
    groups: dict[CauseKey, list[tuple[Result, Said]]] = {}
    for result in red:
        key, said = cause_of(_failed(result), result.instance)
        groups.setdefault(key, []).append((result, said))
    if len(red) > 1:
        yield f"{len(red)} errors, {len(groups)} cause{'s' if len(groups) > 1 else ''}:"
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    shown = ordered if everything else ordered[:MAX_CAUSES]
    for key, failures in shown:
        first, _ = failures[0]
        if len(failures) == 1:
            yield f"  error    {first.id}: {first_line(first.message)}"
            continue
        yield f"  error    {len(failures)} x {first_line(key.line([said for _, said in failures]))}"
        yield f"           {_named([result.id for result, _ in failures], everything=everything)}"
    if len(ordered) > len(shown):
        yield f"  and {len(ordered) - len(shown)} more causes"


def _failed(result: Result) -> Failed:
    run = origin_of(result)
    failed = Failed(run.instance, run.cause, clean(run.message))
    if failure := run.failure:
        failed = failed._replace(
            ename=failure.ename, evalue=clean(failure.evalue), file=failure.file, line=failure.line
        )
    return failed


def _blocked(blocked: Sequence[Result], *, everything: bool) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for result in blocked:
        groups.setdefault(_THROUGH.sub("", result.message), []).append(result.id)
    shown = list(groups.items()) if everything else list(groups.items())[:MAX_BLOCKED]
    for why, ids in shown:
        yield f"  blocked  {_named(ids, everything=everything)}: {first_line(why)}"
    if len(groups) > len(shown):
        yield f"  and {sum(map(len, groups.values())) - sum(len(ids) for _, ids in shown)} more blocked"


def _beyond(results: Sequence[Result], *, everything: bool) -> Iterator[str]:
    """Yield the unchanged instances below one that has changed and is not selected."""
    groups: dict[str, list[str]] = {}
    for result in results:
        if result.status is Status.UNCHANGED and result.message:
            groups.setdefault(result.message, []).append(result.id)
    for far, ids in groups.items():
        yield f"  unchanged  {_named(sorted(ids), everything=everything)}: {first_line(far)}"


def _named(ids: Sequence[str], *, everything: bool) -> str:
    if everything or len(ids) <= MAX_IDS:
        return ", ".join(ids)
    return f"{', '.join(ids[:MAX_IDS])} and {len(ids) - MAX_IDS} more"


def _slowest(results: Sequence[Result]) -> Iterator[str]:
    # An unchanged instance has the seconds of its last run.
    took = [result for result in results if result.seconds and result.status is not Status.UNCHANGED]
    ran = sorted(took, key=lambda result: -result.seconds)
    if len(ran) > 1:
        yield "slowest: " + ", ".join(f"{result.id} {duration(result.seconds)}" for result in ran[:SLOWEST])
