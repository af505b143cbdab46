"""The JSON twin -> one HTML page.

A page of 10,000 instances has their rows as plain JSON and everything else packed: many texts in one
compressed block, each found by block and place. So it is small on disk, and a browser unpacks only what is
opened. A full block never changes: a page that is written many times in a session compresses each text once.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import shlex
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast
from urllib.parse import quote

from ductaflow.common.text import duration, moment, shorten, visible
from ductaflow.report.cause_groups import parameters_of, root_of_instance
from ductaflow.report.origin import shown_commit
from ductaflow.report.schema import Head, InstanceTwin, Origin, Twin
from ductaflow.report.twin import NOT_YET
from ductaflow.store.causes import Root
from ductaflow.store.metrics import numbers_in
from ductaflow.store.result import BY_ATTENTION, Metric, Status

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup


#: Characters of texts, in ASCII, that make a block full.
BLOCK = 96 * 1024


class Packer:
    """Packs JSON texts into blocks: JSON arrays, deflated without header, in base64.

    Attributes:
        shapes: the names of parameters that rows have, each set once; see `shape`.
    """

    def __init__(self) -> None:
        self.shapes: dict[tuple[str, ...], int] = {}
        self._full: list[bytes] = []
        self._open: list[str] = []
        self._size = 0

    def add(self, text: str) -> tuple[int, int]:
        """Add a JSON text in ASCII; return the number of its block and its place in that block."""
        place = len(self._full), len(self._open)
        self._open.append(text)
        self._size += len(text)
        if self._size >= BLOCK:
            self._full.append(_packed(self._open))
            self._open, self._size = [], 0
        return place

    def shape(self, names: tuple[str, ...]) -> int:
        """Return the number of a set of names, which thousands of rows share."""
        return self.shapes.setdefault(names, len(self.shapes))

    def shaped(self, values: Mapping[str, object]) -> list[object] | None:
        """Return values behind the number of their names; None if there are none."""
        return [self.shape(tuple(values)), *values.values()] if values else None

    def copy(self) -> Packer:
        """Return what is packed now; what is added to one of the two is not in the other."""
        other = Packer()
        other.shapes, other._size = {**self.shapes}, self._size
        other._full, other._open = [*self._full], [*self._open]
        return other

    def blocks(self) -> Iterator[str]:
        """Yield all blocks, the one that is not full last."""
        for block in self._full:
            yield block.decode("ascii")
        if self._open:
            yield _packed(self._open).decode("ascii")


def _packed(texts: list[str]) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    raw = packer.compress(f"[{','.join(texts)}]".encode("ascii")) + packer.flush()
    return base64.b64encode(raw)


#: Seconds after which the page of a running session loads itself again.
REFRESH_SECONDS = 5
#: Of one row: characters of its message and of a value, and number of parameters and of metrics.
MAX_MESSAGE, MAX_VALUE, MAX_VALUES = 200, 60, 40
#: Rows that a browser without scripts is shown.
MAX_PLAIN_ROWS = 100
STYLES = ("base.css", "list.css", "detail.css", "compare.css", "table.css", "views.css")
SCRIPTS = (
    "model.js",
    "values.js",
    "terms.js",
    "dom.js",
    "past.js",
    "address.js",
    "compare.js",
    "list.js",
    "log.js",
    "figures.js",
    "expected.js",
    "issue.js",
    "detail.js",
    "columns.js",
    "export.js",
    "sheet.js",
    "grid.js",
    "plot.js",
    "table.js",
    "timeline.js",
    "graph.js",
    "trend.js",
    "causes.js",
    "search.js",
    "suggest.js",
    "panel.js",
    "running.js",
    "keys.js",
    "main.js",
)


@dataclass(frozen=True, slots=True)
class PageRow:
    """One instance of a page: what its row shows and the search finds, as JSON in ASCII."""

    status: str
    text: str


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a page.

    Attributes:
        count: how many they are.
        first: what a browser without scripts is shown, see `first_rows`.
        joined: all, some at a time, with commas between them.
    """

    count: int
    first: Sequence[str]
    joined: Iterable[str]

    @classmethod
    def of(cls, rows: Sequence[PageRow]) -> Rows:
        """Return the rows of a page that is made in one go."""
        first = first_rows((row, row.status) for row in rows)
        return cls(len(rows), [row.text for row in first], (row.text for row in rows))


Row = TypeVar("Row")


def first_rows(statuses: Iterable[tuple[Row, str]]) -> list[Row]:
    """Return the rows that a browser without scripts is shown: what needs a person, the worst first."""
    found: dict[str, list[Row]] = {status: [] for status in BY_ATTENTION if status.needs_attention}
    for row, status in statuses:
        if status in found:
            found[status].append(row)
    return [row for rows in found.values() for row in rows][:MAX_PLAIN_ROWS]


def render_html(data: Twin) -> str:
    """Render the page of a report.

    Args:
        data: the JSON twin, from `build_report` or read back from its file.

    Returns:
        One HTML document in ASCII that needs no other file and no network.
    """
    packer = Packer()
    rows = [row_of(instance, packer) for instance in data["instances"]]
    return "".join(page_chunks(data, Rows.of(rows), packer))


class RowParts(NamedTuple):
    """The row of an instance before it has its place in a page, and its details.

    Attributes:
        row: as JSON values; sets of values that rows share the names of are by name.
        details: as JSON; empty if there are none.
    """

    row: dict[str, object]
    details: str

    def text(self, packer: Packer) -> str:
        """Return the row as JSON in ASCII, and pack the details."""
        row = {**self.row}
        for name in _SHAPED:
            row[name] = packer.shaped(cast(Mapping[str, object], row[name])) if row.get(name) else None
        row["at"] = packer.add(self.details) if self.details else None
        # the last one: see `packed_lines.with_past`
        row["past"] = row.pop("past", None)
        return _json(_without_empty(row))


def row_of(instance: InstanceTwin, packer: Packer) -> PageRow:
    """Return the row of an instance of the twin, and pack its details."""
    return PageRow(instance["status"], parts_of_row(instance).text(packer))


def parts_of_row(instance: InstanceTwin) -> RowParts:
    """Return the row of an instance of the twin, and its details."""
    shown = cast(InstanceTwin, _all_visible(instance))
    first = list(parameters_of(shown).items())[:MAX_VALUES]
    # Thousands of planned or blocked instances have no more than their row; details cannot be taken back.
    is_known = bool(shown["links"] or shown["config"]) and shown["message"] != NOT_YET
    has_details = Status(shown["status"]).has_run or is_known
    is_plain = shown["rerun"] == f"ductaflow run {shlex.quote(shown['id'])}"
    row = _brief(shown)
    row |= {
        **_only(shown, _OF_INSTANCE),
        "orphan": shown.get("orphan"),
        "fails": shown.get("fails"),
        "rerun": None if shown["nodeid"] and is_plain else shown["rerun"],
        "parameters": {name: value[:MAX_VALUE] for name, value in first},
        **_results(shown),
        "past": shown.get("past"),
    }
    return RowParts(row, _json(_not_in_row(_details(shown))) if has_details else "")


def page_chunks(head: Head, rows: Rows, packer: Packer) -> Iterator[str]:
    """Yield the page in pieces, in ASCII.

    Args:
        head: the twin; its instances are not used.
        rows: of the instances in the twin's order; packer: holds their details.
    """
    shown = {
        **{key: value for key, value in head.items() if key != "instances"},
        "shapes": list(packer.shapes),
        "statuses": _STATUSES,
    }
    data = iter([[_json(_all_visible(shown))], _list_of(rows.joined)])
    # styles and scripts are most of it, and the same in each write: nothing copies them
    for piece in _template("page.html").generate(**_frame(head, rows)):
        if piece == _HERE:
            yield from next(data)
        elif piece.isascii():
            yield piece
        else:
            yield piece.encode("ascii", "xmlcharrefreplace").decode("ascii")
    # Behind the script: the rows are on the screen before the rest has been read.
    for number, block in enumerate(packer.blocks()):
        yield f'<script type="text/plain" id="pack-{number}">{block}</script>\n'
    yield "</body>\n</html>\n"


#: The table of statuses, as the script reads it.
_STATUSES = [
    {
        "name": status.value,
        "word": status.word,
        "is_good": status.has_good_run,
        "is_error": status.is_error,
        "needs_look": status.needs_attention,
        "has_run": status.has_run,
        "synonyms": status.synonyms,
    }
    for status in BY_ATTENTION
]
#: A piece of the template where data goes, which is not held in one piece. Text has no NUL: see `visible`.
_HERE = "\0"


def _list_of(texts: Iterable[str]) -> Iterator[str]:
    separator = "["
    for text in texts:
        yield separator + text
        separator = ",\n"
    yield "[]" if separator == "[" else "]"


def _frame(head: Head, rows: Rows) -> dict[str, object]:
    """Return the values of the template."""
    summary, earlier = head["summary"], head["earlier_summary"]
    orphans = sum(head.get("orphan_summary", {}).values())
    known = {status.value: summary[status] + earlier[status] for status in Status}
    groups = [("session", "This session", summary)]
    if any(earlier.values()):
        groups.append(("known", "All known", known))
    css, js = _styles(), _scripts()
    return {
        "head": head,
        "here": _ours(_HERE),
        "total": rows.count,
        "running": head["finished"] is None,
        "earlier": sum(earlier.values()),
        "verdict": _verdict(head),
        "icon": _icon(head),
        "failing": head.get("failing", 0),
        "orphans": orphans,
        "groups": [
            {
                "scope": scope,
                "label": label,
                "total": sum(counts.values()),
                "counts": [(status, counts[status]) for status in BY_ATTENTION if counts[status]],
            }
            for scope, label, counts in groups
        ],
        "plain_rows": [json.loads(text) for text in rows.first],
        "origin": {key: head.get(key) for key in Origin.__annotations__},
        "commit": shown_commit(head.get("commit"), dirty=head.get("dirty")),
        # A twin may come from anywhere.
        "ci_run": run if (run := head.get("ci_run") or "").startswith(("https://", "http://")) else "",
        "took": _span(head["started"], head["finished"]),
        "refresh": REFRESH_SECONDS,
        "css": css,
        "js": js,
        "policy": (
            "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
            f"style-src '{_hash(css)}'; script-src '{_hash(js)}'"
        ),
    }


#: The icon of the page in a tab: a colour and a sign for what the session came to.
_ICONS = {
    Status.ERROR: ("#b9222a", "M10 10l12 12M22 10L10 22"),
    Status.BLOCKED: ("#733a9f", "M9 16h14"),
    Status.WARNING: ("#a35c00", "M16 8v10M16 23v.1"),
    Status.SUCCESS: ("#17693a", "M9 16.5l5 5 9-10"),
}
_NO_VERDICT = ("#555e6d", "M10 16h.1M16 16h.1M22 16h.1")


def _icon(head: Head) -> str:
    """Return the icon as a data URL. It has the colour and the sign of the worst status."""
    counts = head["summary"]
    worst = next((status for status in _ICONS if counts[status]), None)
    if head.get("failing"):
        worst = Status.ERROR
    elif worst is None and counts[Status.UNCHANGED]:
        worst = Status.SUCCESS
    elif worst is Status.SUCCESS and head["finished"] is None:
        worst = None
    colour, sign = _ICONS[worst] if worst else _NO_VERDICT
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<rect width="32" height="32" rx="8" fill="{colour}"/>'
        f'<path d="{sign}" fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round"/></svg>'
    )
    return f"data:image/svg+xml,{quote(svg, safe='')}"


def _verdict(head: Head) -> str:
    """Describe the session in a few words, for the title of the page."""
    counts = head["summary"]
    failing = head.get("failing", 0)
    shown = [f"{counts[status]} {status.word}" for status in BY_ATTENTION if counts[status]]
    if failing:
        shown.append(f"{failing} {'fails its test' if failing == 1 else 'fail their tests'}")
    return ", ".join(shown) or "nothing run"


# --- an instance as the script reads it --------------------------------------------------------------------


#: What a row has as it stands in the twin: of an instance or a flow of a build, and of an instance alone.
_OF_BOTH = ("id", "flow", "status", "kind", "cause", "seconds", "started")
_OF_INSTANCE = ("earlier", "nodeid", "tags", "upstreams", "worker")
_IN_ROW = frozenset(("schema", "flows", "past", *_OF_BOTH, *_OF_INSTANCE))


def _only(instance: Mapping[str, object], keys: Iterable[str]) -> dict[str, object]:
    return {key: instance[key] for key in keys}


def _brief(instance: InstanceTwin) -> dict[str, object]:
    """Return what a row shows of an instance or of a flow of a build."""
    root = root_of_instance(instance)
    return {
        **_only(instance, _OF_BOTH),
        "message": _message(instance, root),
        "root": root and {"way": root.way, "place": root.place, "text": shorten(root.text, MAX_MESSAGE)},
        "warnings": instance["warning_count"],
        "flows": [_without_empty(_brief(flow)) for flow in instance["flows"]],
    }


#: What `Packer.shaped` makes shorter.
_SHAPED = ("parameters", "metrics", "moved")


def _results(instance: InstanceTwin) -> dict[str, object]:
    """Return what a row shows of what a run found.

    `moved` are the numbers before of those metrics that are other numbers now; `judged` is how many metrics
    and files were compared with what is expected, and how many differ.
    """
    first = [*instance.get("metrics", {}).items()][:MAX_VALUES]
    metrics = {name: value[:MAX_VALUE] if isinstance(value, str) else value for name, value in first}
    numbers, before = numbers_in(metrics), numbers_in(instance.get("metrics_before", {}))
    judged = instance.get("judged")
    return {
        "metrics": metrics,
        "moved": {name: before[name] for name in numbers if name in before},
        "judged": [judged[key] for key in ("metrics", "files", "differing")] if judged else None,
        "memory": instance["peak_memory"],
    }


def _not_in_row(details: dict[str, object]) -> dict[str, object]:
    """Return the details without what the row has: digits of numbers are most of a packed page.

    The script puts them together again. A row has all metrics, or the details have them.
    """
    metrics = cast(dict[str, Metric], details.get("metrics", {}))
    if len(metrics) > MAX_VALUES or any(
        len(text) > MAX_VALUE for text in metrics.values() if isinstance(text, str)
    ):
        return details
    before = cast(dict[str, Metric], details.get("metrics_before", {}))
    moved = numbers_in(metrics).keys() & numbers_in(before).keys()
    others = {name: value for name, value in before.items() if name not in moved}
    return _without_empty({**details, "metrics": None, "metrics_before": others})


def _message(instance: InstanceTwin, root: Root | None) -> str:
    """Return the line of a row: the first warning says more than the number of warnings, and the root of a
    failed build more than the chain of its flows."""
    warnings = instance["warnings"]
    text = instance["message"]
    if fails := instance.get("fails"):
        text = f"fails its test: {fails}"
    elif warnings and (Status(instance["status"]).has_good_run or not text):
        text = warnings[0]["text"]
    elif root:
        text = root.line
    return shorten(" ".join(text.split()), MAX_MESSAGE)


def _without_empty(row: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if value not in (None, "", 0, [], {}, False)}


def _details(instance: InstanceTwin) -> dict[str, object]:
    """Return everything of an instance that is not in its row."""
    details = {key: value for key, value in instance.items() if key not in _IN_ROW}
    details["flows"] = [{**_details(flow), "rerun": flow["rerun"]} for flow in instance["flows"]]
    return _without_empty(details)


def _json(value: object) -> str:
    """JSON in ASCII that may stand in any element of a page."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


#: What JSON writes of characters that may not be seen: they are not printable, or escaped.
_ESCAPED = re.compile(r"\\[bfru]")


def _all_visible(value: object) -> object:
    """Return JSON values with all text in them made visible; the same ones if it is already."""
    # Most is, and the look at all in one text takes a tenth of the walk through thousands of values.
    text = json.dumps(value, ensure_ascii=False)
    return value if text.isprintable() and not _ESCAPED.search(text) else _each_visible(value)


def _each_visible(value: object) -> object:
    if isinstance(value, str):
        return visible(value, pictures=True)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {visible(key, pictures=True): _each_visible(item) for key, item in value.items()}
    return [_each_visible(item) for item in value] if isinstance(value, list | tuple) else value


def _span(started: str | None, finished: str | None) -> str:
    try:
        passed = datetime.fromisoformat(finished or "") - datetime.fromisoformat(started or "")
    except (ValueError, TypeError):  # not both known, or not both in UTC
        return ""
    return duration(passed.total_seconds()) if passed else ""


def _printed(value: object) -> object:
    """Print a value in a template; Jinja2 escapes it afterwards."""
    if hasattr(value, "__html__"):
        return value
    return "" if value is None else visible(str(value), pictures=True)


# --- the page's own files ----------------------------------------------------------------------------------


def prepare() -> None:
    """Load what every page needs, so that the first one takes no longer than others."""
    _template("page.html")
    _styles()
    _scripts()


@functools.cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        finalize=_printed,
        loader=jinja2.FunctionLoader(_asset_text),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["moment"] = moment
    return environment.get_template(name)


def _asset_text(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def _styles() -> Markup:
    return _ours("".join(map(_asset_text, STYLES)))


@functools.cache
def _scripts() -> Markup:
    """Join the files of the script in one function, so that they share names with nothing else."""
    return _ours("\n".join(['"use strict";', "(() => {", *map(_asset_text, SCRIPTS), "})();"]))


def _ours(text: str) -> Markup:
    """Mark a style or script of the page as markup: its text is our own, and ASCII."""
    from markupsafe import Markup

    return Markup(text)


@functools.cache
def _hash(code: str) -> str:
    digest = hashlib.sha256(code.encode("ascii")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
