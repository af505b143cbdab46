"""What makes two failures the same: exception, place, and the message without what differs from run to run.

A build that failed by one of its flows has the cause of that flow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ductaflow.store.result import Result, readable_result

MAX_TITLE = 300


# --- what differs from run to run, as patterns -------------------------------------------------------------

NUMBER = r"[-+]?\d+(?:[.,_:]\d+)*\.?(?:[eE][-+]?\d+)?"
ADDRESS = r"\b0x[0-9a-fA-F]+\b"
#: Identifiers: a UUID, the beginning of a hash.
IDENTIFIER = (
    r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b"
)
DATE = (
    r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?)?\b"
    r"|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b"
)
TIME = r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b"
#: The folder of a file; the name of the file is left.
FOLDER = r"(?<![\w.~])(?:[A-Za-z]:|\.{1,2}|~)?(?:[\\/][^\s\\/:*?\"'<>|,;()]+)+[\\/](?=[^\s\\/])"
PATH = r"(?:[A-Za-z]:)?(?:[\w.+~-]*[/\\])+[\w.+~-]*"
_VARYING = "|".join((DATE, TIME, ADDRESS, PATH, IDENTIFIER, NUMBER))
#: A message in parts that are fixed and that differ from run to run, in turn; the first and last are fixed.
Said = tuple[str, ...]


class CauseKey(NamedTuple):
    """Equal for failures of one cause.

    Attributes:
        kind: `cause` of the result.
        exception: its class; empty without one.
        place: `flows/fit.py:41`, as far as known.
        pattern: exception and message, `…` in place of numbers, paths, addresses and the instance's name.
    """

    kind: str
    exception: str
    place: str
    pattern: str


class Failed(NamedTuple):
    """The facts of a failed run that its cause depends on."""

    instance: str
    cause: str | None
    message: str
    ename: str = ""
    evalue: str = ""
    file: str | None = None
    line: int | None = None
    flow: str = ""


def cause_of(failed: Failed, instance: str) -> tuple[CauseKey, Said]:
    """Return the cause of a failure, and its message for `title_of`.

    Args:
        failed: the run that failed first: a flow of a build, if it is one that made the build fail.
        instance: the name of the instance, which is the build's.
    """
    # A name that is the flow's own does not differ from run to run.
    names = sorted({instance, failed.instance} - {failed.flow}, key=len, reverse=True)
    if failed.ename:
        line = f":{failed.line}" if failed.line else ""
        place = f"{failed.file}{line}" if failed.file else ""
        said = in_parts(f"{failed.ename}: {failed.evalue}" if failed.evalue else failed.ename, names)
        return CauseKey(failed.cause or "exception", failed.ename, place, pattern_of(said)), said
    said = in_parts(failed.message, names)
    return CauseKey(failed.cause or "error", "", "", pattern_of(said)), said


class Group(NamedTuple):
    """Failures of one cause: what they are called, where and how they failed, and the title of it all."""

    names: tuple[str, ...]
    key: CauseKey
    title: str

    @property
    def line(self) -> str:
        """Place and title in one line."""
        return f"{self.key.place}: {self.title}" if self.key.place else self.title


def grouped(failures: Iterable[tuple[str, CauseKey, Said]]) -> list[Group]:
    """Group failures, each given with a name of its own, by their causes; the largest group first.

    Those that read alike are of one cause, whatever differs in what they are called.
    """
    by_key: dict[CauseKey, list[tuple[str, Said]]] = {}
    for name, key, said in failures:
        by_key.setdefault(key, []).append((name, said))
    groups: dict[tuple[str, ...], Group] = {}
    for key, found in by_key.items():
        title = title_of([said for _, said in found])
        alike = (*key[:3], title)
        names = groups[alike].names if alike in groups else ()
        groups[alike] = Group((*names, *(name for name, _ in found)), key, title)
    return sorted(groups.values(), key=lambda group: -len(group.names))


def origin_of(result: Result) -> Result:
    """Return the flow inside a build that failed first, at any depth, or the result itself.

    It is read from the run folders of the flows. A result that cannot be read does not count: the build's own
    message names it.
    """
    for child in result.children:
        inner = readable_result(result.folder / child) if result.folder else None
        if inner and inner.status.is_error:
            return origin_of(inner)
    return result


def in_parts(message: str, names: Sequence[str] = ()) -> Said:
    """Split the first line of a message into parts; `names` are names of the instance."""
    line = next((line for line in message.splitlines() if line.strip()), "")[: 4 * MAX_TITLE]
    known = (re.escape(name) for name in names if len(name) > 2)
    parts = re.split(f"({'|'.join((*known, _VARYING))})", " ".join(line.split()))
    # What stands side by side is one part that differs.
    joined = parts[:1]
    for varying, fixed in zip(parts[1::2], parts[2::2], strict=True):
        if len(joined) > 1 and not joined[-1]:
            joined[-2:] = [joined[-2] + varying, fixed]
        else:
            joined += [varying, fixed]
    return tuple(joined)


def pattern_of(said: Said) -> str:
    """Return a message with `…` for what differs from run to run."""
    return "…".join(said[::2])[:MAX_TITLE]


def title_of(said: Sequence[Said]) -> str:
    """Return what failures of one pattern have in common, with `…` where they differ."""
    # Fixed parts differ at most behind the end of a pattern, which lies behind the end of a title.
    title = "".join(
        "…" if place % 2 and len(set(column)) > 1 else column[0]
        for place, column in enumerate(zip(*said, strict=False))
    )
    return title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1]}…"
