"""How long instances are likely to take, by their last good runs, and how much memory they took.

    the instance has a good run    what that took
    else its flow has some         the median of those
    else any instance has one      the median of all
    else                           a second

Light enough for 10,000 instances at the start of a session: a result is searched for two lines, not parsed.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ductaflow.common.files import read_regular
from ductaflow.common.paths import RESULT
from ductaflow.project.instances import Instance
from ductaflow.session.request import placed
from ductaflow.store.previous import previous_folder
from ductaflow.store.result import status_named
from ductaflow.store.verdict import was_killed_for_memory

#: Seconds for an instance without any earlier run to go by.
UNKNOWN = 1.0001
# As `result.write_result` indents the keys of the record itself. Quotes and line ends inside a text are
# escaped, so nothing that a flow printed looks like this.
_STATUS = re.compile(rb'^ "(?:run_)?status": "(\w+)"', re.MULTILINE)
_PEAK = re.compile(rb'^ "peak_memory": (\d{1,18}),?$', re.MULTILINE)
_MESSAGE = re.compile(rb'^ "message": "(.*)",?$', re.MULTILINE)
_SECONDS = re.compile(rb'^ "seconds": (\d+(?:\.\d+)?(?:e[+-]?\d+)?)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Likely:
    """What instances are likely to take, by their earlier runs.

    Attributes:
        seconds: of each; an ordinary test counts as a second.
        peaks: the most memory in bytes that the last run of each took, or the last good one; None if nothing
            tells.
        cut: places of those whose peak is what they had when they were killed for memory.
    """

    seconds: list[float]
    peaks: list[int | None]
    cut: frozenset[int] = frozenset()


def likely(instances: Sequence[Instance | None]) -> Likely:
    """What each is likely to take; None is an ordinary test. Each result is read once."""
    known = [_NOTHING if instance is None else _last(instance) for instance in instances]
    return Likely(
        filled_up(instances, [one.seconds for one in known]),
        [one.peak for one in known],
        frozenset(place for place, one in enumerate(known) if one.is_cut),
    )


def expected_seconds(instances: Sequence[Instance | None]) -> list[float]:
    """How many seconds each is likely to take; None is an ordinary test, which counts as a second."""
    return likely(instances).seconds


def filled_up(instances: Sequence[Instance | None], known: Sequence[float | None]) -> list[float]:
    """Fill in the seconds that are not known, None, with a median of those that are."""
    by_flow: dict[str, list[float]] = {}
    for instance, seconds in zip(instances, known, strict=True):
        if instance and seconds is not None:
            by_flow.setdefault(instance.flow, []).append(seconds)
    of_flow = {flow: statistics.median(found) for flow, found in by_flow.items()}
    of_all = statistics.median(chain.from_iterable(by_flow.values())) if by_flow else UNKNOWN
    return [
        UNKNOWN if instance is None else of_flow.get(instance.flow, of_all) if seconds is None else seconds
        for instance, seconds in zip(instances, known, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Last:
    """What the last run tells.

    Attributes:
        seconds: None if it failed, which tells nothing about a good one.
        peak: of its memory, or of the last good run if that took more.
        is_cut: whether the peak is what it had when it was killed for memory.
    """

    seconds: float | None = None
    peak: int | None = None
    is_cut: bool = False


_NOTHING = _Last()


def _last(instance: Instance) -> _Last:
    if instance.problem:
        # It may have a name that no folder can have, and does not run.
        return _NOTHING
    text = _text(instance.run_folder.result)
    if not text:
        return _NOTHING
    peak = _peak(text)
    if _is_good(text):
        seconds = _SECONDS.search(text)
        return _Last(float(seconds[1]) if seconds else None, peak)
    # It may have failed before it took what a good run takes, which is kept.
    folder, tree = placed(instance.run_folder.path, instance.project)
    before = _peak(_text(previous_folder(tree, folder) / RESULT))
    if before and before > (peak or 0):
        return _Last(peak=before)
    messages = _MESSAGE.findall(text)
    is_cut = bool(peak and messages) and was_killed_for_memory(messages[-1].decode("utf-8", "replace"))
    return _Last(peak=peak, is_cut=is_cut)


def _peak(text: bytes) -> int | None:
    return max(map(int, _PEAK.findall(text)), default=None)


def _is_good(text: bytes) -> bool:
    # The one of the run comes last.
    statuses = _STATUS.findall(text)
    known = status_named(statuses[-1].decode()) if statuses else None
    return known is not None and known.is_good


def _text(file: Path) -> bytes:
    try:
        return read_regular(file)
    except OSError:
        # There is no run, or its result cannot be read: whoever needs the result itself reports that.
        return b""
