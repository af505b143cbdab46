"""What makes two failures the same: exception, place, and the message without what differs from run to run.

Works on records as `Result.to_dict` and the report's twin give them; a build that is red by one of its flows
has that flow's cause.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MAX_TITLE = 300

_VARYING = re.compile(
    r"0x[0-9a-fA-F]+"
    r"|(?:[A-Za-z]:)?(?:[\w.+~-]*[/\\])+[\w.+~-]*"  # a path
    r"|[-+]?\d[\d_]*(?:[.,]\d+)*(?:[eE][-+]?\d+)?"
)


class CauseKey(NamedTuple):
    """Equal for failures of one cause.

    Attributes:
        kind: `cause` of the result.
        exception: its class; empty if there is none.
        place: `flows/fit.py:41`, as far as it is known.
        title: exception and message, `…` in place of numbers, paths, addresses and the instance's name.
    """

    kind: str
    exception: str
    place: str
    title: str

    @property
    def line(self) -> str:
        """Place and title in one line."""
        return f"{self.place}: {self.title}" if self.place else self.title


def cause_key(record: Mapping[str, Any]) -> CauseKey:
    """The cause of a red record.

    Args:
        record: with `instance`, `status`, `cause`, `message`, `failure`, and `flows`: the records of a
            build's flows.
    """
    red = _reddest(record)
    failure = red["failure"]
    names = sorted({record["instance"], red["instance"]}, key=len, reverse=True)
    if failure and failure["ename"]:
        line = f":{failure['line']}" if failure["line"] else ""
        place = f"{failure['file']}{line}" if failure["file"] else ""
        text = f"{failure['ename']}: {failure['evalue']}" if failure["evalue"] else failure["ename"]
        return CauseKey(red["cause"] or "exception", failure["ename"], place, normalised(text, names))
    return CauseKey(red["cause"] or "error", "", "", normalised(red["message"], names))


def _reddest(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record itself, or that of the flow in it, at any depth, that made it red."""
    for flow in record["flows"]:
        if flow["status"] == "error":
            return _reddest(flow)
    return record


def normalised(message: str, names: Sequence[str] = ()) -> str:
    """The first line of a message, with `…` for what differs from run to run."""
    line = next((line for line in message.splitlines() if line.strip()), "")[: 4 * MAX_TITLE]
    for name in names:
        if len(name) > 2:
            line = line.replace(name, "…")
    return " ".join(_VARYING.sub("…", line).split())[:MAX_TITLE]
