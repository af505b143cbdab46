"""How long instances are likely to take, by their last good runs.

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
from itertools import chain

from ductaflow.common.paths import RunFolder
from ductaflow.project.instances import Instance
from ductaflow.store.result import status_named

#: Seconds for an instance without any earlier run to go by.
UNKNOWN = 1.0001
# As `result.write_result` indents the keys of the record itself. Quotes and line ends inside a text are
# escaped, so nothing that a flow printed looks like this.
_STATUS = re.compile(rb'^ "(?:run_)?status": "(\w+)"', re.MULTILINE)
_SECONDS = re.compile(rb'^ "seconds": (\d+(?:\.\d+)?(?:e[+-]?\d+)?)', re.MULTILINE)


def expected_seconds(instances: Sequence[Instance | None]) -> list[float]:
    """How many seconds each is likely to take; None is an ordinary test, which counts as a second."""
    return filled_up(
        instances, [None if instance is None else _last_good(instance.run_folder) for instance in instances]
    )


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


def _last_good(folder: RunFolder) -> float | None:
    """Seconds of the last run; None if it failed, which tells nothing about a good one."""
    try:
        text = folder.result.read_bytes()
    except OSError:
        # There is no run, or its result cannot be read: whoever needs the result itself reports that.
        return None
    # The one of the run comes last.
    statuses, seconds = _STATUS.findall(text), _SECONDS.search(text)
    known = status_named(statuses[-1].decode()) if statuses else None
    if not known or not known.is_good or not seconds:
        return None
    return float(seconds[1])
