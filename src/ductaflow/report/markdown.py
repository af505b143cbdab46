"""The JSON twin -> a summary in Markdown, as GitHub and others show it for a step of CI.

    ### ductaflow: 10 red in 6 causes, 7 orange, 27 green

Below it what a person needs first: causes with their place in the source, what is not as expected, warnings,
metrics that moved, the graph. A summary that is too large is dropped whole, so this one is cut, and says so.
Text of flows stands in elements of HTML in which Markdown means nothing, and is escaped.
"""

from __future__ import annotations

import heapq
import html
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ductaflow.common.ci import SourceLinks
from ductaflow.common.decode import convert
from ductaflow.common.errors import source_lines
from ductaflow.common.paths import KIND_DIRS
from ductaflow.common.text import clean, cut, cut_lines, listed, number, shorten
from ductaflow.comparison.difference import relative_change, spelled_change
from ductaflow.project.diagram import Diagram, Edge, Look, Node, beyond_mermaid, to_mermaid
from ductaflow.report.cause_groups import way_of
from ductaflow.report.printed_at import Literal, PrintedAt
from ductaflow.report.schema import Cause, FailureTwin, Head, InstanceTwin
from ductaflow.store.causes import Said, in_parts, pattern_of, title_of
from ductaflow.store.expected import difference_lines, look_command
from ductaflow.store.result import Judged, Status

#: What GitHub takes for one step, in bytes of UTF-8.
MAX_BYTES = 1024 * 1024
#: How many causes are shown, ids of each, instances that are red for their numbers and lines of each.
MAX_CAUSES, MAX_IDS, MAX_UNEXPECTED, MAX_DIFFERENCES = 30, 20, 5, 12
#: Lines of warnings, other instances that need a person, metrics that moved, notes.
MAX_WARNINGS, MAX_OTHERS, MAX_MOVED, MAX_NOTES = 30, 20, 20, 10
MAX_TRACEBACK_LINES = 30
_MAX_TEXT, _MAX_LINE = 300, 200
#: More boxes than this are no picture.
_MAX_FLOWS = 80
#: Fill and border of a box, readable on light and on dark pages.
_STYLES = {
    "red": "fill:#ffd7d5,stroke:#cf222e,color:#24292f",
    "orange": "fill:#fff1c2,stroke:#bf8700,color:#24292f",
    "green": "fill:#dafbe1,stroke:#1a7f37,color:#24292f",
    "": "fill:#f6f8fa,stroke:#8c959f,color:#24292f",
}
#: The colours of statuses, in the order in which they are counted; others go by their own words.
_COLOURS = {Status.ERROR: "red", Status.WARNING: "orange", Status.SUCCESS: "green"}
#: Gives the address of a line of a source; None if there is none.
Link = Callable[[Path, int | None], str | None]


@dataclass
class _Caused:
    """A cause, the instances of this session that it has, and the first of them as they are."""

    cause: Cause
    ids: list[str] = field(default_factory=list)
    first: list[InstanceTwin] = field(default_factory=list)

    def add(self, instance: InstanceTwin) -> None:
        self.ids.append(instance["id"])
        is_judged = self.cause["cause"] == "expectation"
        if len(self.first) < (MAX_UNEXPECTED if is_judged else 1):
            self.first.append(instance)


@dataclass
class _Warned:
    """A line of warnings, whatever differs from instance to instance."""

    file: str = ""
    printed: Literal | None = None
    said: list[Said] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.printed.shown if self.printed else title_of(self.said)


@dataclass(order=True, frozen=True)
class _Moved:
    """A metric that is another one than in the last good run before."""

    size: float
    id: str = field(compare=False)
    name: str = field(compare=False)
    before: str = field(compare=False)
    now: str = field(compare=False)
    change: str = field(compare=False)


class Summary:
    """What a summary is made of. Add each instance of the twin, then take the text.

    Args:
        head: of the twin.
        root: the folder of the project, from which the twin names sources.
        link: to a line of a source.
        expected: ids of failures that the configs expect (`_run.xfail`).
    """

    def __init__(
        self,
        head: Head,
        root: Path,
        link: Link = lambda path, line: None,
        *,
        expected: Collection[str] = (),
    ) -> None:
        self._head, self._root, self._link = head, root, link
        self._expected = frozenset(expected)
        self._groups = [_Caused(cause) for cause in head["causes"]]
        self._group_of = {id: group for group in self._groups for id in group.cause["instances"]}
        self._counts: Counter[Status | str] = Counter()
        self._warned: dict[tuple[str, str], _Warned] = {}
        self._failing: list[tuple[str, str]] = []
        self._blocked: list[tuple[str, str]] = []
        self._moved: list[_Moved] = []
        self._moved_count = 0
        self._by_flow: dict[str, Counter[Status]] = {}
        self._builds: set[str] = set()
        self._edges: dict[tuple[str, str], None] = {}
        self._sources: dict[str, PrintedAt] = {}

    def add(self, instance: InstanceTwin) -> None:
        """Add an instance of the twin."""
        if not instance.get("orphan"):
            self._add_to_graph(instance)
        if instance["earlier"]:
            return
        id, status = instance["id"], Status(instance["status"])
        if id in self._expected and status.is_error:
            self._counts["xfail"] += 1
            return
        self._counts[status] += 1
        if status.is_error and id in self._group_of:
            self._group_of[id].add(instance)
        if fails := instance.get("fails"):
            self._failing.append((id, fails))
        elif status is Status.WARNING:
            self._add_warnings(instance)
        if status is Status.BLOCKED:
            self._blocked.append((id, instance["message"]))
        if status.is_verdict:
            self._add_moved(instance)

    def _add_warnings(self, instance: InstanceTwin) -> None:
        found = list(_warnings_of(instance))
        # A build may be orange for what its record does not name.
        for flow, text in found or [(instance["flow"], instance["message"])]:
            file, printed = self._printed(flow, text)
            said = in_parts(clean(text), [instance["instance"]])
            key = (file, printed.shown if printed else pattern_of(said))
            group = self._warned.setdefault(key, _Warned(file, printed))
            if not printed:
                group.said.append(said)
            if instance["id"] not in group.ids[-1:]:
                group.ids.append(instance["id"])

    def _add_moved(self, instance: InstanceTwin) -> None:
        before = instance.get("metrics_before", {})
        for name, now in instance.get("metrics", {}).items():
            if name not in before or before[name] == now:
                continue
            self._moved_count += 1
            change = relative_change(before[name], now)
            are_numbers = {type(before[name]), type(now)} <= {int, float}
            # From nothing is far; a word is not.
            size = abs(change) if change is not None else math.inf if are_numbers else 0.0
            one = _Moved(
                size, instance["id"], name, number(before[name]), number(now), spelled_change(change)
            )
            add = heapq.heappush if len(self._moved) < MAX_MOVED else heapq.heappushpop
            add(self._moved, one)

    def _add_to_graph(self, instance: InstanceTwin) -> None:
        flow = instance["flow"]
        self._by_flow.setdefault(flow, Counter())[Status(instance["status"])] += 1
        if instance["kind"] == "build":
            self._builds.add(flow)
        for upstream in instance["upstreams"]:
            self._edges[upstream.partition("/")[0], flow] = None

    # --- the text ------------------------------------------------------------------------------------------

    def text(self, max_bytes: int = MAX_BYTES, *, page: str = "") -> str:
        """Return the summary.

        Args:
            max_bytes: the most that it takes as UTF-8; empty if not even the headline fits.
            page: where the page is, as a person has to look for it.
        """
        head = f"### ductaflow: {self._headline()}\n\n"
        end = f"\nThe page: {_code(page)}\n" if page else ""
        left_out = "\n<p>What follows is left out: the summary of a step takes no more.</p>\n"
        room = max_bytes - sum(map(_size, (head, end, left_out)))
        if room < 0:
            return ""
        parts = [head]
        for block in self._blocks():
            room -= _size(block)
            if room < 0:
                parts.append(left_out)
                break
            parts.append(block)
        return "".join([*parts, end])

    def _headline(self) -> str:
        causes = sum(bool(group.ids) for group in self._groups)
        words = [
            f"{self._counts[status]} {_COLOURS.get(status, status.word)}"
            + (f" in {causes} cause{'s' * (causes > 1)}" if status is Status.ERROR and causes else "")
            for status in dict.fromkeys([*_COLOURS, *Status])
            if self._counts[status]
        ]
        if self._counts["xfail"]:
            words.append(f"{self._counts['xfail']} xfail")
        if self._failing:
            count = len(self._failing)
            words.append(f"{count} {'fails its test' if count == 1 else 'fail their tests'}")
        return ", ".join(words) or "nothing run"

    def _blocks(self) -> Iterator[str]:
        notes = [f"<li>{_text(note)}</li>" for note in self._head["notes"]]
        if notes:
            more = [f"<li>and {len(notes) - MAX_NOTES} more</li>"] if notes[MAX_NOTES:] else []
            yield f"<ul>{''.join([*notes[:MAX_NOTES], *more])}</ul>\n\n"
        groups = sorted((group for group in self._groups if group.ids), key=lambda group: -len(group.ids))
        for place, group in enumerate(groups[:MAX_CAUSES]):
            yield self._cause(group, is_first=place == 0)
        if groups[MAX_CAUSES:]:
            yield f"<p>and {len(groups) - MAX_CAUSES} more causes</p>\n\n"
        yield _table(
            "🔴 Good runs that fail their tests",
            ("instance", "why"),
            [(_code(id), _code(why)) for id, why in self._failing],
            MAX_OTHERS,
        )
        yield _table(
            "🟠 Warnings",
            ("instances", "line", "where", "of"),
            [*self._warnings()],
            MAX_WARNINGS,
        )
        yield _table(
            "⚪ Blocked",
            ("instance", "why"),
            [(_code(id), _code(why)) for id, why in self._blocked],
            MAX_OTHERS,
        )
        yield self._metrics()
        yield self._graph()

    def _cause(self, group: _Caused, *, is_first: bool) -> str:
        cause, ids, first = group.cause, group.ids, group.first[0]
        place, _, line = cause["place"].rpartition(":")
        at = f" at {self._place(place, int(line))}" if line.isdecimal() else ""
        shared = ", ".join(_code(f"{name}={value}") for name, value in cause["parameters"])
        having = f" — {'both' if len(ids) == 2 else 'all'} with {shared}" if shared and len(ids) > 1 else ""
        parts = [f"🔴 <b>{len(ids)} ×</b> {_code(cause['title'])}{at}{having}"]
        inside = [f"<p>{_listed(ids, MAX_IDS)}</p>"]
        if cause["blocks"]:
            inside.append(f"<p>{cause['blocks']} blocked by it</p>")
        if cause["cause"] == "expectation":
            inside += (_unexpected(one, named=len(ids) > 1) for one in group.first)
        elif failure := [first, *way_of(first)][-1]["failure"]:
            inside.append(_pre(_failure_lines(failure)))
        inside.append(_pre(_commands(first, cause)))
        opened = " open" if is_first else ""
        return f"<details{opened}><summary>{''.join(parts)}</summary>{''.join(inside)}</details>\n\n"

    def _place(self, file: str, line: int | None) -> str:
        name = _code(f"{file}:{line}" if line else file)
        url = self._link(self._root / file, line)
        return f'<a href="{html.escape(url)}">{name}</a>' if url else name

    def _warnings(self) -> Iterator[Sequence[str]]:
        groups = sorted(self._warned.values(), key=lambda group: -len(group.ids))
        for group in groups[:MAX_WARNINGS]:
            where = self._place(group.file, group.printed.line) if group.printed else ""
            yield str(len(group.ids)), _code(group.text), where, _listed(group.ids, 3)
        # The table counts those that it leaves out.
        yield from ((),) * len(groups[MAX_WARNINGS:])

    def _printed(self, flow: str, text: str) -> tuple[str, Literal | None]:
        """Return the source of a flow, and what printed a line of its log, if that is clear."""
        for folder in KIND_DIRS.values():
            file = f"{folder}/{flow}.py"
            if file not in self._sources:
                self._sources[file] = PrintedAt(self._root / file)
            if found := self._sources[file].find(text):
                return file, found
        return flow, None

    def _metrics(self) -> str:
        # The last digits of a change say nothing of its size.
        moved = sorted(self._moved, key=lambda one: (-round(one.size, 9), one.id, one.name))
        rows: list[Sequence[str]] = [
            (_code(one.id), _code(one.name), _code(one.before), _code(one.now), _code(one.change or "other"))
            for one in moved
        ]
        rows += [()] * (self._moved_count - len(rows))
        return _table(
            "Metrics that moved since the last good run",
            ("instance", "metric", "before", "now", "change"),
            rows,
            MAX_MOVED,
        )

    def _graph(self) -> str:
        edges = [edge for edge in self._edges if edge[0] in self._by_flow and edge[0] != edge[1]]
        if not edges:
            return ""
        nodes = [
            Node(flow, flow, None, "build" if flow in self._builds else "flow", counts.total())
            for flow, counts in self._by_flow.items()
        ]
        diagram = Diagram(tuple(nodes), tuple(Edge(*edge, None) for edge in edges))
        text = to_mermaid(diagram, {flow: _look(counts) for flow, counts in self._by_flow.items()})
        if len(nodes) > _MAX_FLOWS or beyond_mermaid(diagram, text):
            return "<p>The graph is too large to be drawn here: the page has it.</p>\n\n"
        return f"<details><summary>Graph</summary>\n\n```mermaid\n{text}\n```\n\n</details>\n\n"


def append_summary(
    file: Path,
    head: Head,
    instances: Iterable[InstanceTwin],
    root: Path,
    *,
    expected: Collection[str] = (),
    page: str = "",
) -> None:
    """Add a summary to a file, which takes no more than GitHub does.

    Args:
        file: such as that of a step; need not exist.
        head, instances: the twin.
        root: the folder of the project.
        expected, page: see `Summary`.

    Raises:
        OSError: it cannot be written; a DuctaflowError: an instance cannot be read.
    """
    there = file.stat().st_size if file.exists() else 0
    summary = Summary(head, root, SourceLinks(root).url, expected=expected)
    for instance in instances:
        summary.add(instance)
    with file.open("ab") as end:
        end.write(summary.text(MAX_BYTES - there, page=page).encode("utf-8", "backslashreplace"))


def _look(counts: Counter[Status]) -> Look:
    """Return the counts of a flow, and the colour of the worst."""
    order = (Status.ERROR, Status.WARNING, Status.SUCCESS, Status.UNCHANGED, Status.BLOCKED, Status.NOT_RUN)
    there = [status for status in order if counts[status]]
    words = (f"{counts[status]} {_COLOURS.get(status, status.word)}" for status in there)
    colour = _COLOURS.get(there[0], "")
    return Look(", ".join(words), _STYLES["green" if there[0] is Status.UNCHANGED else colour])


def _warnings_of(instance: InstanceTwin) -> Iterator[tuple[str, str]]:
    """Yield flow and text of each kind of warning of an instance and of its flows."""
    for warning in instance["warnings"]:
        yield instance["flow"], warning["text"]
    for flow in instance["flows"]:
        yield from _warnings_of(flow)


def _failure_lines(failure: FailureTwin) -> Iterator[str]:
    """Yield the source where a run failed, and its traceback."""
    yield from source_lines(failure["source"], failure["line"])
    lines = failure["traceback"].strip().splitlines()
    if lines:
        yield ""
    yield from cut_lines(lines, MAX_TRACEBACK_LINES)


def _unexpected(instance: InstanceTwin, *, named: bool) -> str:
    """Return what is not as expected in a run, or in the flows of a build; `named`: with its id."""
    parts = []
    for one in _judged_in(instance):
        lines = [*difference_lines(_judgement_of(one))]
        if (left_out := len(lines) - MAX_DIFFERENCES) > 0:
            lines = [*lines[:MAX_DIFFERENCES], f"and {left_out} more lines"]
        name = f"<p>{_code(one['id'])}</p>" if named or one is not instance else ""
        parts.append(f"{name}{_pre(lines)}")
    return "".join(parts)


def _judged_in(instance: InstanceTwin) -> Iterator[InstanceTwin]:
    judged = instance.get("judged")
    if judged and judged["differences"]:
        yield instance
    for flow in instance["flows"]:
        yield from _judged_in(flow)


def _judgement_of(instance: InstanceTwin) -> Judged:
    return convert(instance.get("judged"), Judged, where=instance["id"])


def _commands(instance: InstanceTwin, cause: Cause) -> Iterator[str]:
    if cause["cause"] == "expectation":
        other = next((one for one in _judged_in(instance) if _judgement_of(one).is_acceptable), None)
        if other:
            yield look_command(other.get("target") or other["id"])
            yield f"ductaflow accept {instance['id']}"
    yield instance["rerun"]
    if instance["debug"] and cause["cause"] == "exception":
        yield instance["debug"]


# --- HTML in Markdown --------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """Return text of anybody as one line of an element."""
    return html.escape(shorten(" ".join(clean(text).split()), _MAX_TEXT), quote=False)


def _code(text: str) -> str:
    """Return text of a flow: in such an element there are no links, mentions or pictures either."""
    return f"<code>{_text(text)}</code>"


def _pre(lines: Iterable[str]) -> str:
    """Return lines as they are. None is empty for Markdown, which would go on behind it."""
    shown = (html.escape(cut(clean(line).rstrip(), _MAX_LINE), quote=False) for line in lines)
    return f"<pre>{'&#10;'.join(line.replace(chr(10), ' ') for line in shown)}</pre>"


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> str:
    """Return a table that is folded, with as many rows; empty without any."""
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows[:most])
    more = f"<p>and {len(rows) - most} more</p>" if len(rows) > most else ""
    table = f"<table><tr>{head}</tr>{body}</table>{more}"
    return f"<details><summary>{title}: {len(rows)}</summary>{table}</details>\n\n"


def _listed(ids: Sequence[str], most: int) -> str:
    """Return the first ids, and how many more there are."""
    return listed([_code(id) for id in ids[:most]] + [""] * len(ids[most:]), most)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))
