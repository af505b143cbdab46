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

from ductaflow.common.paths import RESULT
from ductaflow.project.instances import Instance
from ductaflow.session.request import placed
from ductaflow.store.previous import previous_folder
from ductaflow.store.result import status_named

#: Seconds for an instance without any earlier run to go by.
UNKNOWN = 1.0001
# As `result.write_result` indents the keys of the record itself. Quotes and line ends inside a text are
# escaped, so nothing that a flow printed looks like this.
_STATUS = re.compile(rb'^ "(?:run_)?status": "(\w+)"', re.MULTILINE)
_PEAK = re.compile(rb'^ "peak_memory": (\d{1,18}),?$', re.MULTILINE)
_SECONDS = re.compile(rb'^ "seconds": (\d+(?:\.\d+)?(?:e[+-]?\d+)?)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Likely:
    """What instances are likely to take, by their earlier runs.

    Attributes:
        seconds: of each; an ordinary test counts as a second.
        peaks: the most memory in bytes that the last run of each took, or the last good one; None if nothing
            tells.
    """

    seconds: list[float]
    peaks: list[int | None]


def likely(instances: Sequence[Instance | None]) -> Likely:
    """What each is likely to take; None is an ordinary test. Each result is read once."""
    known = [(None, None) if instance is None else _last(instance) for instance in instances]
    return Likely(filled_up(instances, [seconds for seconds, _ in known]), [peak for _, peak in known])


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


def _last(instance: Instance) -> tuple[float | None, int | None]:
    """Seconds of the last run, None if it failed, which tells nothing about a good one; and its peak."""
    if instance.problem:
        # It may have a name that no folder can have, and does not run.
        return None, None
    text = _text(instance.run_folder.result)
    if not text:
        return None, None
    peaks, is_good = _PEAK.findall(text), _is_good(text)
    if not is_good:
        # It may have failed before it took what a good run takes, which is kept.
        folder, tree = placed(instance.run_folder.path, instance.project)
        peaks += _PEAK.findall(_text(previous_folder(tree, folder) / RESULT))
    seconds = _SECONDS.search(text)
    return float(seconds[1]) if seconds and is_good else None, max(map(int, peaks), default=None)


def _is_good(text: bytes) -> bool:
    # The one of the run comes last.
    statuses = _STATUS.findall(text)
    known = status_named(statuses[-1].decode()) if statuses else None
    return known is not None and known.is_good


def _text(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        # There is no run, or its result cannot be read: whoever needs the result itself reports that.
        return b""
