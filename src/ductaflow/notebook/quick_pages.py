"""The pages that `export.html_of` makes, byte for byte, at a fifth of its cost where notebooks are alike.

Most of a page is the same for all instances of a flow: its head, its code, its text. Such a part is made
once. A comment takes its place while nbconvert's template and BeautifulSoup do their work, and is replaced
at the end. All that comes from the run itself goes the way that it goes in nbconvert. Where that leaves tags
open, so that a part is not where it should be, the page is nbconvert's.

What is used of nbconvert may be another one in its next version. So there is a test (`QuickPages.test`) in
each process that makes pages, and where anything is not as expected the pages are nbconvert's too.

`import nbconvert` takes a second: only a process that makes pages imports this module.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Hashable
from typing import Any, Literal

import nbconvert
import nbformat
from bs4 import BeautifulSoup, Comment, Tag
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.exporters import HTMLExporter
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters import ansi2html as without_ansi_untyped
from nbconvert.filters import clean_html as clean_untyped
from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
from nbformat import NotebookNode

from ductaflow.notebook.export import TEMPLATE, exporter_options, html_exporter, html_of, scripts_needed_by

#: Known parts are forgotten when they have more characters.
_MOST_CHARACTERS = 32_000_000
_MOST_HEADS = 32
_WITHOUT_HEAD = "{%- block header -%}{%- endblock header -%}"
_ALTERNATIVE = "No description has been provided for this image"
_FOCUSABLE = frozenset(("jp-Cell-inputWrapper", "jp-OutputArea-output"))
_Kind = Literal["code", "text", "output"]
#: The tags around a part, with their first class, the innermost first.
_Around = tuple[str, ...]
#: The beginning says what kind of part it is, the rest which one.
_Key = tuple[Any, ...]
#: Around a part by itself.
_OPENED: _Around = ("div", "main", "body.jp-Notebook", "html", "[document]")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class QuickPages:
    """Makes pages, and keeps what they have in common.

    Args:
        first: so many pages are made by nbconvert as it is in any case. The test takes as long as some pages,
            so it waits until there are some.

    Attributes:
        fault: why all pages are made by nbconvert as it is; empty as long as nothing is known of one.
    """

    def __init__(self, first: int = 4) -> None:
        self.fault = ""
        self._left = first
        self._exporter: _QuickExporter | None = None
        self._heads: dict[Hashable, str] = {}

    def prepare(self) -> None:
        """Have nbconvert load what it loads for its first page, which takes ten times as long as a page.

        The first run of a session is on its way meanwhile.
        """
        # What is wrong with nbconvert is said in the place of that page.
        with contextlib.suppress(Exception):
            html_of(plain_kinds(), "a page that nobody sees")

    @property
    def known(self) -> int:
        """The number of known parts."""
        return len(self._heads) + (len(self._exporter.parts) if self._exporter else 0)

    def html_of(self, notebook: NotebookNode, name: str) -> str:
        """Return what `export.html_of` returns."""
        self._left -= 1
        if self._left < 0 and self._exporter is None:
            self.test()
        if self._left < 0 and not self.fault:
            # What is wrong with a notebook, nbconvert says.
            with contextlib.suppress(Exception):
                return self._quick(notebook, name)
        return html_of(notebook, name)

    def test(self) -> None:
        """Find out about a `fault`: make a page of everything that a notebook can show, twice."""
        notebook, version = every_kind(), nbconvert.__version__
        page = html_of(notebook, "every kind")
        try:
            self._exporter = _QuickExporter(
                **exporter_options(TEMPLATE + _WITHOUT_HEAD), optimistic_validation=True
            )
            # Without anything odd, for what is around known parts.
            self._quick(plain_kinds(), "every kind")
            if not all(is_same(page, self._quick(notebook, "every kind")) for _ in range(2)):
                self.fault = f"nbconvert {version} makes other pages than ductaflow does"
        except Exception as exc:
            self.fault = f"nbconvert {version} cannot be used as ductaflow does: {type(exc).__name__}: {exc}"

    def _quick(self, notebook: NotebookNode, name: str) -> str:
        needs = scripts_needed_by(notebook)
        metadata = notebook.metadata
        key = name, str(metadata.get("title")), tuple(needs), "widgets" in metadata
        if key not in self._heads:
            if len(self._heads) >= _MOST_HEADS:
                self._heads = {}
            self._heads[key] = self._head(metadata, name, needs)
        return self._heads[key] + self._body(notebook, name, needs)

    def _body(self, notebook: NotebookNode, name: str, needs: list[str]) -> str:
        resources = {"metadata": {"name": name}, "needs": needs}
        assert self._exporter is not None
        body: str
        body, _ = self._exporter.from_notebook_node(notebook, resources=resources)
        return body

    def _head(self, metadata: NotebookNode, name: str, needs: list[str]) -> str:
        """Make the page of a notebook without cells, and leave out what is not its head."""
        kept = {
            key: metadata[key] if key == "title" else {} for key in ("title", "widgets") if key in metadata
        }
        empty = nbformat.v4.new_notebook(metadata=kept)  # type: ignore[no-untyped-call]
        resources = {"metadata": {"name": name}, "needs": needs}
        page: str
        page, _ = html_exporter().from_notebook_node(empty, resources=resources)
        body = self._body(empty, name, needs)
        if not page.endswith(body):
            raise _NotAlone
        return page.removesuffix(body)


class _NotAlone(Exception):
    """A known part cannot be put into a page afterwards."""


class _Known(str):
    """A comment in the place of a known part, and the white space around that part."""


class _QuickExporter(HTMLExporter):
    """nbconvert's exporter, for the body of a page."""

    # Its methods, and what it calls, have no types.
    register_filter: Callable[[str, Callable[..., object]], object]
    markdown2html: Callable[[Context, str], str]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        #: Nothing that a flow shows can be taken for it.
        self._mark = f"ductaflow {os.urandom(12).hex()} "
        self._places = re.compile(f"<!--{self._mark}([0-9]+)-->")
        #: Known parts with the white space before and behind them; None of what cannot stand alone.
        self.parts: dict[Hashable, tuple[str, str, str] | None] = {}
        self._characters = 0
        #: The parts of the page that is being made.
        self._used: list[tuple[_Kind, str]] = []
        #: What has to be around a part; known when a page without anything odd was made.
        self._around: dict[_Kind, _Around] = {}

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """As `HTMLExporter` does, whose method makes a second tree of a whole page."""
        assert resources is not None
        language: dict[str, str] = nb.metadata.get("language_info", {})
        self._lexer = language.get("pygments_lexer", language.get("name"))
        self._highlight = _highlighter(self._lexer, self)
        self.register_filter("highlight_code", self._code)
        self.register_filter("clean_html", lambda text: text if isinstance(text, _Known) else _clean(text))
        self.register_filter("markdown2html", self._text)
        self.register_filter("ansi2html", self._output)
        self.register_filter("filter_data_type", _widgets(nb.metadata, resources, self))
        self._used = []
        body, resources = TemplateExporter.from_notebook_node(self, nb, resources, **kw)
        soup = BeautifulSoup(f"<html>{body}", features="html.parser")
        kinds, around = [kind for kind, _ in self._used], _completed(soup, self._mark)
        self._around = self._around or dict(zip(kinds, around, strict=True))
        if around != [self._around[kind] for kind in kinds]:
            raise _NotAlone
        page = self._places.sub(lambda place: self._used[int(place[1])][1], str(soup))
        return page.removeprefix("<html>"), resources

    def _code(self, source: str, language: str | None = None, metadata: NotebookNode | None = None) -> str:
        def make() -> str:
            return _clean(self._highlight(source, language, metadata))

        magics = metadata.get("magics_language") if metadata else None
        key: _Key = "code", source, language, self._lexer, magics
        return self._known(key, make) or self._highlight(source, language, metadata)

    @pass_context
    def _text(self, context: Context, source: str) -> str:
        def make() -> str:
            return self.markdown2html(context, source)

        cell: NotebookNode = context.get("cell", {})
        # The template changes links to `files/`.
        if cell.get("cell_type") != "markdown" or cell.get("attachments") or "files/" in source:
            return make()
        return self._known(("text", source), make) or make()

    def _output(self, text: object) -> str:
        """Keep plain text out of the tree: html.parser stops at each entity, and there may be millions."""
        made = _without_ansi(text)
        if not made or "<" in made:
            return made
        # What is left escaped in text.
        return self._placed("output", made.replace("&#34;", '"').replace("&#39;", "'"))

    def _known(self, key: _Key, make: Callable[[], str]) -> _Known | None:
        """Return the comment for a part; None if that has to be in the page from the start."""
        if key not in self.parts:
            made = make()
            self._characters += len(made)
            if self._characters > _MOST_CHARACTERS:
                self.parts, self._characters = {}, len(made)
            self.parts[key] = self._alone(made)
        part = self.parts[key]
        if part is None:
            return None
        before, text, behind = part
        return _Known(f"{before}{self._placed(key[0], text)}{behind}")

    def _placed(self, kind: _Kind, text: str) -> str:
        """Return the comment for a part of this page."""
        self._used.append((kind, text))
        return f"<!--{self._mark}{len(self._used) - 1}-->"

    def _alone(self, text: str) -> tuple[str, str, str] | None:
        """Return a part as BeautifulSoup writes it; None if that depends on what is around it."""
        part = text.strip()
        if not (part.startswith("<") and part.endswith(">")):
            # Text would grow together with text beside it.
            return None
        opened = '<html><body class="jp-Notebook"><main><div>'
        soup = BeautifulSoup(f"{opened}{part}<!--{self._mark}0-->", features="html.parser")
        if _completed(soup, self._mark) != [_OPENED]:
            return None
        around = soup.div
        last = around.contents[-1] if around else None
        if not (around and isinstance(last, Comment)):
            return None
        last.extract()
        before, behind = text.split(part)[0], text[len(text.rstrip()) :]
        return before, around.decode_contents(), behind


def _completed(soup: BeautifulSoup, mark: str) -> list[_Around]:
    """Add what nbconvert adds to a page; return what is around the comments with a mark."""
    found = []
    for node in soup.descendants:
        if isinstance(node, Comment):
            if node.startswith(mark):
                found.append(tuple(_named(parent) for parent in node.parents))
        elif isinstance(node, Tag):
            if node.name == "img":
                node.attrs.setdefault("alt", _ALTERNATIVE)
            elif (
                node.name == "div"
                and not _FOCUSABLE.isdisjoint(node.attrs.get("class", ()))
                and any("jp-Notebook" in parent.attrs.get("class", ()) for parent in node.parents)
            ):
                node.attrs["tabindex"] = "0"
            elif node.name == "template":
                # What selects for nbconvert takes its content for another document.
                raise _NotAlone
    return found


def _named(tag: Tag) -> str:
    return ".".join([tag.name, *list(tag.attrs.get("class", ()))[:1]])


# --- the test -----------------------------------------------------------------------------------------------


def is_same(page: str, other: str) -> bool:
    """Return whether two pages are the same; each has random names of its own."""
    return _UUID.sub("", page) == _UUID.sub("", other)


def plain_kinds() -> NotebookNode:
    """Return a notebook with one part of each kind that is known."""
    v4: Any = nbformat.v4
    cell = v4.new_code_cell("x = 1", outputs=[v4.new_output("stream", text="x")])
    notebook: NotebookNode = v4.new_notebook(cells=[cell, v4.new_markdown_cell("*x*")])
    return notebook


def every_kind() -> NotebookNode:
    """Return a notebook with everything that a notebook can show, and with open and stray tags."""
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
    widget = "application/vnd.jupyter.widget-view+json"
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><circle r="3"/></svg>'
    shown: list[dict[str, object]] = [
        {"text/html": "<table><tr><td>1 &lt; 2<img src='x'></table><p>open <b>bold", "text/plain": "x"},
        {"text/html": '<div class="jp-OutputArea-output"><pre>  a\n\n  b </pre></div> é &nbsp; \u2028'},
        {"text/markdown": "| a | b |\n|---|---|\n| $x$ | `y` |", "text/plain": "x"},
        {"text/latex": r"$\alpha < \beta$"},
        {"image/svg+xml": svg},
        {"image/png": png, "text/plain": "<Figure>"},
        {"image/jpeg": png},
        {"application/json": {"a": [1, "<b>"]}, "text/plain": "{'a': <b>}"},
        {"application/javascript": "if (1 < 2 && '</div>') { alert(1) }"},
        {widget: {"model_id": "known", "version_major": 2}, "text/plain": "known()"},
        {widget: {"model_id": "unknown", "version_major": 2}, "text/plain": "unknown()"},
        {
            "application/vnd.plotly.v1+json": {"data": []},
            "text/html": "<div>plot</div><script>1 < 2;</script>",
        },
        {"text/vnd.mermaid": "graph TD; a-->b", "text/plain": "x"},
        {"text/plain": "\x1b[31mred\x1b[0m <b>&amp;</b> 'quoted' \U0001f600\x07"},
    ]
    v4: Any = nbformat.v4
    outputs = [v4.new_output("display_data", data=data) for data in shown]
    outputs[5].metadata = {"image/png": {"width": 5, "needs_background": "light"}}
    outputs += [
        v4.new_output("execute_result", data={"text/plain": "3"}, execution_count=3),
        v4.new_output("stream", name="stdout", text="\x1b[1;38;5;200mbold\x1b[0m a\rb\x08 <tag>\n\n"),
        v4.new_output("stream", name="stderr", text="Warning: <x> & y\n"),
        v4.new_output("error", ename="ValueError", evalue="<v>", traceback=["\x1b[0;31mV\x1b[0m: <v>", "at"]),
    ]
    code, text = v4.new_code_cell, v4.new_markdown_cell
    tagged = [code(tag, metadata={"tags": [tag]}) for tag in ("remove-input", "remove-output", "remove-cell")]
    for cell in tagged:
        cell.outputs = [v4.new_output("stream", text="of a tagged cell\n")]
    cells = [
        text("# Title <b>x</b>\n\n- $a < b$\n\n```python\nx = 1\n```\n\n[^1]: note\n\n<div>in\n\ntext</div>"),
        text("plain & text"),
        text('<details open>\n\n**open** <img src="files/a.png">'),
        text("![a](attachment:a.png)", attachments={"a.png": {"image/png": png}}),
        v4.new_raw_cell("raw <b>html</b><script>x</script>", metadata={"raw_mimetype": "text/html"}),
        v4.new_raw_cell("raw text"),
        code("import pandas as pd\n\n\nx = '<b>' if 1 < 2 else \"&\"  # é", execution_count=1),
        code("%%html\n<b>x</b>", metadata={"magics_language": "html"}),
        code(""),
        *tagged,
        code("show()", execution_count=3, outputs=outputs),
        code("again = 1", execution_count=None),
    ]
    state = {"known": {"model_name": "X", "model_module": "m", "model_module_version": "1", "state": {}}}
    metadata = {
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
        "title": "Every <kind>",
        "widgets": {
            "application/vnd.jupyter.widget-state+json": {
                "state": state,
                "version_major": 2,
                "version_minor": 0,
            }
        },
    }
    notebook: NotebookNode = v4.new_notebook(cells=cells, metadata=metadata)
    return notebook


# --- what has no types ------------------------------------------------------------------------------------

_clean: Callable[[str], str] = clean_untyped
_without_ansi: Callable[[object], str] = without_ansi_untyped


def _highlighter(lexer: str | None, parent: HTMLExporter) -> Callable[..., str]:
    made: Callable[..., str] = Highlight2HTML(pygments_lexer=lexer, parent=parent)  # type: ignore[no-untyped-call]
    return made


def _widgets(
    metadata: NotebookNode, resources: dict[str, Any], parent: HTMLExporter
) -> Callable[..., list[str]]:
    name = resources["metadata"]["name"]
    made: Callable[..., list[str]] = WidgetsDataTypeFilter(  # type: ignore[no-untyped-call]
        notebook_metadata={name: metadata}, parent=parent, resources=resources
    )
    return made
