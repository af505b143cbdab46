"""The dict of the JSON twin -> one HTML page. Knows the twin only: no Result, no file but its own assets.

Everything that came from a flow is text. Two rules keep it so: every value that a template prints passes
through `visible` and is escaped by Jinja2, and no value is ever printed into a script, a style or an
attribute that a browser runs; links are made by `data`, percent-encoded and relative. Besides, the policy in
the head of the page lets only its own script and style run, by their hash.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ductaflow.result import strip_ansi

if TYPE_CHECKING:
    import jinja2

#: Seconds after which the page of a running session loads itself again.
REFRESH_SECONDS = 5
#: Rows above which a browser is told to lay out only those that are seen.
LONG_PAGE = 500


@dataclass(frozen=True)
class Look:
    """How a status is shown: its word and the title of its section."""

    status: str
    word: str
    title: str


#: In the order of the page: what needs a person first.
LOOKS = (
    Look("error", "error", "Error"),
    Look("blocked", "blocked", "Blocked by a red upstream"),
    Look("warning", "warning", "Warning"),
    Look("success", "success", "Success"),
    Look("unchanged", "unchanged", "Unchanged, not run again"),
    Look("not_run", "not run", "Not run"),
)
_LOOK_OF = {look.status: look for look in LOOKS}
_CAUSES = {
    "exception": "Exception",
    "exit": "Exit",
    "signal": "Killed by a signal",
    "timeout": "Timeout",
    "interrupted": "Interrupted",
    "lost": "Lost",
    "input": "Missing input",
}


@dataclass(frozen=True)
class Row:
    """One instance of a page, made when it is its turn: its HTML need not be held with all others."""

    status: str
    earlier: bool
    html: Callable[[], str]


def render_html(data: Mapping[str, Any]) -> str:
    """The page of a report.

    Args:
        data: the JSON twin, from `build_report` or read back from its file.

    Returns:
        One HTML document in ASCII that needs no other file and no network.
    """
    rows = [
        Row(instance["status"], instance["earlier"], functools.partial(render_row, instance))
        for instance in data["instances"]
    ]
    return "".join(page_chunks(data, rows))


def render_row(instance: Mapping[str, Any]) -> str:
    """The row of one instance, its flows included, in ASCII."""
    return _ascii(_template("row.html").render(view=_view(instance), nested=False))


def page_chunks(head: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """The page piece by piece, in ASCII.

    Args:
        head: the twin; its instances are not looked at.
        rows: the instances, in the twin's order. The page has failures first, then what this session
            touched before earlier results, and keeps the order otherwise.
    """
    from markupsafe import Markup

    def section(look: Look) -> dict[str, Any]:
        mine = sorted((row for row in rows if row.status == look.status), key=lambda row: row.earlier)
        return {"look": look, "count": len(mine), "rows": (Markup(row.html()) for row in mine)}

    sections = [section(look) for look in LOOKS]
    yield from map(_ascii, _template("page.html").generate(**_frame(head, rows), sections=sections))


def _frame(head: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """What the page shows around its rows."""
    summary, earlier = head["summary"], head["earlier_summary"]
    total = len(rows)
    counts = [
        {"look": look, "count": summary[look.status] + earlier[look.status], "earlier": earlier[look.status]}
        for look in LOOKS
    ]
    shares, at = [], 0.0
    for count in counts:
        width = 100 * count["count"] / total if total else 0.0
        shares.append({"look": count["look"], "x": f"{at:.3f}", "width": f"{width:.3f}"})
        at += width
    css, js = _asset("page.css"), _asset("page.js")
    return {
        "head": head,
        "total": total,
        "is_long": total > LONG_PAGE,
        "running": head["finished"] is None,
        "done": sum(summary.values()) - summary["not_run"],
        "planned": sum(summary.values()),
        "earlier": sum(earlier.values()),
        "verdict": _verdict(head),
        "counts": counts,
        "shares": shares,
        "took": _span(head["started"], head["finished"]),
        "refresh": REFRESH_SECONDS,
        "css": css,
        "js": js,
        "policy": (
            "default-src 'none'; base-uri 'none'; form-action 'none'; "
            f"style-src '{_hash(css)}'; script-src '{_hash(js)}'"
        ),
    }


def _verdict(head: Mapping[str, Any]) -> str:
    """The session in a few words: the title of the page and of its tab."""
    counts = head["summary"]
    shown = [f"{counts[look.status]} {look.word}" for look in LOOKS if counts[look.status]]
    return ", ".join(shown) or "nothing run"


# --- an instance as the template prints it -----------------------------------------------------------------


def _view(instance: Mapping[str, Any]) -> dict[str, Any]:
    """One instance and its flows: what the template prints, in words of the page."""
    failure = instance["failure"]
    warnings = instance["warnings"]
    return {
        "it": instance,
        "look": _LOOK_OF[instance["status"]],
        "summary_text": _summary_text(instance),
        "seconds": _duration(instance["seconds"]),
        "cause": _CAUSES.get(instance["cause"] or "", instance["cause"]),
        "place": _place(failure) if failure else "",
        "source": [
            {
                "line": line.get("line"),
                "text": line.get("text", ""),
                "here": line.get("line") == failure["line"],
            }
            for line in (failure["source"] if failure else ())
        ],
        "more_warnings": instance["warning_count"] - len(warnings),
        "log_size": _size(instance["log_size"]),
        "facts": [(name, value) for name, value in _facts(instance) if value],
        "files": [(name, instance["links"][key]) for key, name in _LINKS if key in instance["links"]],
        "outputs": [(file.get("path", ""), _size(file.get("size"))) for file in instance["outputs"]],
        "flows": [_view(flow) for flow in instance["flows"]],
    }


_LINKS = (("log", "Log"), ("html", "Notebook as HTML"), ("notebook", "Notebook"), ("config", "Config"))


def _summary_text(instance: Mapping[str, Any]) -> str:
    """The one line of a closed row."""
    if instance["message"]:
        return str(instance["message"])
    if instance["warnings"]:
        return str(instance["warnings"][0]["text"])
    return ""


def _place(failure: Mapping[str, Any]) -> str:
    line = f":{failure['line']}" if failure["line"] else ""
    return f"{failure['file']}{line}" if failure["file"] else ""


def _facts(instance: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and value of what is shown in the small table of an instance."""
    cells, environment, failure = instance["cells"], instance["environment"], instance["failure"]
    yield "Node id", instance["nodeid"]
    yield "Run folder", instance["folder"]
    yield "Started", _moment(instance["started"])
    yield "Duration", _duration(instance["seconds"])
    if cells["total"]:
        failed = f", stopped in cell {failure['cell']}" if failure and failure["cell"] else ""
        yield "Cells", f"{cells['run']} of {cells['total']} ran{failed}"
    yield "Exit code", None if instance["exit_code"] is None else str(instance["exit_code"])
    yield "Signal", instance["signal"]
    yield "Peak memory", _size(instance["peak_memory"])
    yield "Config hash", instance["config_hash"]
    yield "Python", environment.get("python")
    yield "Host", environment.get("host")
    yield from instance["parameters"].items()


def _duration(seconds: float | None) -> str:
    """A duration for people: `0.13 s`, `12.3 s`, `2 min 05 s`, `3 h 07 min`."""
    if not seconds:
        return ""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _span(started: str | None, finished: str | None) -> str:
    try:
        passed = datetime.fromisoformat(finished or "") - datetime.fromisoformat(started or "")
    except (ValueError, TypeError):  # not both known, or not both in UTC
        return ""
    return _duration(passed.total_seconds())


def _moment(iso: str | None) -> str:
    """A moment for people, in UTC as it was recorded."""
    match = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)", iso or "")
    return f"{match[1]} {match[2]} UTC" if match else iso or ""


def _size(size: object) -> str:
    if not isinstance(size, int | float) or not size:
        return ""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


# --- text that is only text --------------------------------------------------------------------------------

#: Controls but tab and newline, lone surrogates, invisible marks that turn text around, noncharacters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)


def visible(text: str) -> str:
    """Text as a page can show it: no terminal codes, and what cannot be seen is spelled out.

    Control characters become their pictures (NUL is U+2400), other characters without a picture of their own,
    such as lone surrogates and marks that reverse the writing, their escape, `\\u202e`.
    """
    return _UNSEEN.sub(_spelled, strip_ansi(text).replace("\r\n", "\n"))


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _printed(value: Any) -> Any:
    """What a template prints for a value; Jinja2 escapes it afterwards."""
    if hasattr(value, "__html__"):
        return value
    return "" if value is None else visible(str(value))


def _ascii(html: str) -> str:
    return html.encode("ascii", "xmlcharrefreplace").decode("ascii")


# --- the page's own files ----------------------------------------------------------------------------------


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
    environment.filters["moment"] = _moment
    return environment.get_template(name)


def _asset_text(name: str) -> str:
    from importlib import resources  # drags in zipfile and more, which a session without report does not need

    return (resources.files("ductaflow.report") / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def _asset(name: str) -> Any:
    """A style or script of the page, as markup: its text is ours, and it is ASCII."""
    from markupsafe import Markup

    return Markup(_asset_text(name))


def _hash(code: str) -> str:
    digest = hashlib.sha256(code.encode("ascii")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
