"""What makes two failures the same: exception, place, and the message without what differs from run to run.

A build that failed by one of its flows has the cause of that flow, its root: `way_to_root` finds it for all
who say why a build failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ductaflow.common.text import clean, first_line
from ductaflow.store.result import Result, readable_result

MAX_TITLE = 300
#: Builds inside builds deeper than this are not looked into.
MAX_DEPTH = 20
#: Causes that are a build's own unless it names a flow: it was ended with its flows, or its results differ.
_ITS_OWN = frozenset(["timeout", "interrupted", "signal", "expectation"])
#: Causes of runs that were ended from outside.
_ENDED = frozenset(["timeout", "interrupted", "signal", "lost"])
#: The line in the message of such a run, which its place has too.
_LINE = re.compile(r" \(line \d+\)")
Run = TypeVar("Run")


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

    @classmethod
    def of(cls, result: Result) -> Failed | None:
        """Return the facts of a result; None if it is no error."""
        if not result.status.is_error:
            return None
        failure = result.failure
        return cls(
            result.instance,
            result.cause,
            clean(result.message),
            failure.ename if failure else "",
            clean(failure.evalue) if failure else "",
            failure.file if failure else None,
            failure.line if failure else None,
            result.flow,
        )

    @property
    def place(self) -> str:
        """`flows/fit.py:41`, as far as known."""
        return (f"{self.file}:{self.line}" if self.line else self.file) if self.file else ""

    @property
    def text(self) -> str:
        """Exception and message in one line, or what else the run said."""
        if not self.ename or self.was_ended:
            return first_line(self.message, None)
        return first_line(f"{self.ename}: {self.evalue}" if self.evalue.strip() else self.ename, None)

    @property
    def was_ended(self) -> bool:
        """Whether it was ended from outside: an exception is then only what stopped the flow."""
        return self.cause in _ENDED

    @property
    def _is_own(self) -> bool:
        """Whether it failed by itself, whatever came of its flows."""
        return self.cause in _ITS_OWN and not self.message.startswith("flow ")

    def _place_of(self, flow: Failed) -> int:
        """Return how far behind its words name a flow; what they do not name comes last."""
        words = f"{self.evalue}\n{self.message}"
        found = [
            words.find(name)
            for name in (f"{flow.flow}[{flow.instance}] failed", f"flow {flow.flow}/{flow.instance}:")
        ]
        return min((place for place in found if place >= 0), default=len(words))


def way_to_root(
    run: Run,
    facts_of: Callable[[Run], Failed | None],
    flows_of: Callable[[Run], Iterable[Run]],
) -> list[Run]:
    """Return the flows from below a build down to the one that made it fail; empty if that is the run itself.

    At each step that is the failed flow that the build names first, or else its first failed one. One whose
    results are not as expected comes after those that failed. A build that was ended from outside, or whose
    own results are not as expected, is its own root.

    Args:
        run: a build, or anything else.
        facts_of: gives the facts of a run; None if it is no error.
        flows_of: gives the flows of a build.
    """
    way: list[Run] = []
    said = facts_of(run)
    while said and not said._is_own and len(way) < MAX_DEPTH:
        best: tuple[tuple[bool, int], Run, Failed] | None = None
        for flow in flows_of(run):
            if facts := facts_of(flow):
                rank = facts.cause == "expectation", said._place_of(facts)
                if best is None or rank < best[0]:
                    best = rank, flow, facts
                if rank == (False, 0):
                    break
        if best is None:
            break
        _, run, said = best
        way.append(run)
    return way


class Root(NamedTuple):
    """Where the failure of a build began.

    Attributes:
        way: ids of the flows from below the build down to it.
        place, text: of its failure; see `Failed`.
    """

    way: tuple[str, ...]
    place: str
    text: str

    @classmethod
    def of(cls, way: Sequence[Failed]) -> Root | None:
        """Return the root at the end of a way; None if there is none."""
        if not way:
            return None
        return cls(tuple(f"{one.flow}/{one.instance}" for one in way), way[-1].place, way[-1].text)

    @property
    def line(self) -> str:
        """All in one line: `flows/dispatch.py:26: KeyError: 'price' (in EU/low › dispatch)`."""
        said = f"{self.place}: {self.text}" if self.place else self.text
        return f"{said} ({self.where})"

    @property
    def where(self) -> str:
        """The way in words: `in regional/EU_2040 › dispatch`."""
        names = (id if flow != name else flow for id in self.way for flow, _, name in [id.partition("/")])
        return f"in {' › '.join(names)}"


def cause_of(failed: Failed, instance: str) -> tuple[CauseKey, Said]:
    """Return the cause of a failure, and its message for `title_of`.

    Args:
        failed: the run that failed first: a flow of a build, if it is one that made the build fail.
        instance: the name of the instance, which is the build's.
    """
    # A name that is the flow's own does not differ from run to run.
    names = sorted({instance, failed.instance} - {failed.flow}, key=len, reverse=True)
    if failed.ename and not failed.was_ended:
        said = in_parts(f"{failed.ename}: {failed.evalue}" if failed.evalue else failed.ename, names)
        return CauseKey(failed.cause or "exception", failed.ename, failed.place, pattern_of(said)), said
    place = failed.place if failed.was_ended else ""
    said = in_parts(_LINE.sub("", failed.message, count=1) if place else failed.message, names)
    return CauseKey(failed.cause or "error", "", place, pattern_of(said)), said


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


def flows_on_disk(result: Result) -> Iterator[Result]:
    """Yield the flows of a build from their run folders.

    A result that cannot be read does not count: the build's own message names it.
    """
    for child in result.children:
        if result.folder and (inner := readable_result(result.folder / child)):
            yield inner


def origin_and_root(result: Result) -> tuple[Result, Root | None]:
    """Return the flow inside a build that made it fail, at any depth, and the way there; else the result."""
    way = way_to_root(result, Failed.of, flows_on_disk)
    return [result, *way][-1], Root.of([failed for one in way if (failed := Failed.of(one))])


def origin_of(result: Result) -> Result:
    """Return the flow inside a build that made it fail, at any depth, or the result itself."""
    return origin_and_root(result)[0]


def root_of(result: Result) -> Root | None:
    """Return where the failure of a build began; None if it is the run's own."""
    return origin_and_root(result)[1]


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
