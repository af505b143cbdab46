"""What makes two failures the same: exception, place, and the message without what differs from run to run.

Works on records as `Result.to_dict` and the report's twin give them; a build that is red by one of its flows
has that flow's cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

MAX_TITLE = 300


_VARYING = re.compile(
    r"(0x[0-9a-fA-F]+"
    r"|(?:[A-Za-z]:)?(?:[\w.+~-]*[/\\])+[\w.+~-]*"  # a path
    r"|[-+]?\d[\d_]*(?:[.,]\d+)*(?:[eE][-+]?\d+)?)"
)


#: A message in parts: in turn what stays and what differs from run to run; first and last is what stays.
Said = tuple[str, ...]


class CauseKey(NamedTuple):
    """Equal for failures of one cause.

    Attributes:
        kind: `cause` of the result.
        exception: its class; empty if there is none.
        place: `flows/fit.py:41`, as far as it is known.
        pattern: exception and message, `…` in place of numbers, paths, addresses and the instance's name.
    """

    kind: str
    exception: str
    place: str
    pattern: str

    def line(self, said: Sequence[Said]) -> str:
        """Place and title, in one line, of failures that say `said`."""
        title = title_of(said)
        return f"{self.place}: {title}" if self.place else title


def cause_of(record: Mapping[str, Any]) -> tuple[CauseKey, Said]:
    """The cause of a red record, and what it says itself, for `title_of`.

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
        said = in_parts(text, names)
        return CauseKey(red["cause"] or "exception", failure["ename"], place, pattern_of(said)), said
    said = in_parts(red["message"], names)
    return CauseKey(red["cause"] or "error", "", "", pattern_of(said)), said


def _reddest(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record itself, or that of the flow in it, at any depth, that made it red."""
    for flow in record["flows"]:
        if flow["status"] == "error":
            return _reddest(flow)
    return record


def in_parts(message: str, names: Sequence[str] = ()) -> Said:
    """The first line of a message, cut, in parts; `names` are those of the instance."""
    line = next((line for line in message.splitlines() if line.strip()), "")[: 4 * MAX_TITLE]
    parts = [" ".join(line.replace("\0", " ").split())]
    for name in names:
        if len(name) > 2:
            parts = _split(parts, partial(_at_name, name))
    parts = _split(parts, _VARYING.split)
    # A path with the name in it is one part that differs, not three.
    joined = parts[:1]
    for varying, fixed in zip(parts[1::2], parts[2::2], strict=True):
        if len(joined) > 1 and not joined[-1]:
            joined[-2:] = [joined[-2] + varying, fixed]
        else:
            joined += [varying, fixed]
    return tuple(joined)


def _at_name(name: str, part: str) -> list[str]:
    return part.replace(name, f"\0{name}\0").split("\0")


def _split(parts: Sequence[str], split: Callable[[str], list[str]]) -> list[str]:
    """Parts in which what stays is split further; `split` gives what stays and what differs in turn."""
    return [piece for place, part in enumerate(parts) for piece in ([part] if place % 2 else split(part))]


def pattern_of(said: Said) -> str:
    """What stays of a message, with `…` for what differs from run to run."""
    return "…".join(said[::2])[:MAX_TITLE]


def title_of(said: Sequence[Said]) -> str:
    """What failures of one pattern say alike: of one alone its message, of several `…` where they differ."""
    # What stays differs at most behind the end of a pattern, which is behind that of a title.
    title = "".join(
        "…" if place % 2 and len(set(column)) > 1 else column[0]
        for place, column in enumerate(zip(*said, strict=False))
    )
    return title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}…"
