"""Pages that are made of known parts: the same, character by character, as nbconvert's."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from ductaflow.notebook import quick_pages
from ductaflow.notebook.export import html_of
from ductaflow.notebook.quick_pages import QuickPages, every_kind, is_same
from ductaflow.notebook.source import load_notebook

EXAMPLE = Path(__file__).parents[2] / "example_project"


@pytest.fixture(scope="module")
def pages() -> QuickPages:
    """One that has made other pages before, as in a session."""
    pages = QuickPages(first=0)
    pages.test()
    return pages


def code(source: str, *shown: dict[str, object]) -> NotebookNode:
    """A code cell that shows something."""
    cell: NotebookNode = nbformat.v4.new_code_cell(source)
    cell.outputs = [nbformat.v4.new_output("display_data", data=data) for data in shown]
    return cell


def notebook_of(*cells: NotebookNode, **metadata: object) -> NotebookNode:
    """A notebook of some cells, which may be there several times."""
    copies = [nbformat.from_dict({**cell, "id": f"cell-{number}"}) for number, cell in enumerate(cells)]
    notebook: NotebookNode = nbformat.v4.new_notebook(cells=copies, metadata=metadata)
    return notebook


def test_nothing_is_wrong_with_the_nbconvert_that_is_installed(pages: QuickPages) -> None:
    """Otherwise all pages are made in the slow way: look at what the new nbconvert does."""
    assert "" == pages.fault


@pytest.mark.parametrize("flow", sorted(EXAMPLE.glob("*/*.py")), ids=lambda path: path.stem)
def test_the_pages_of_the_example(pages: QuickPages, flow: Path) -> None:
    """With and without what they show, and again from known parts."""
    notebook = load_notebook(flow)
    shown = next(cell.outputs for cell in every_kind().cells if len(cell.get("outputs", ())) > 5)
    for _ in range(2):
        assert is_same(html_of(notebook, "flow"), pages.html_of(notebook, "flow"))
        for number, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = shown[number : number + 2], number


#: What breaks a page where it stands alone: open and stray tags, and what ends only with its own end.
ODD = [
    "<div>",
    "</div>",
    "</div></div></div></div></div></div>",
    "</main>",
    "</body></html>",
    "<pre>",
    "<textarea> x",
    "<script>let a = '</div>';",
    "<style>b {",
    "<!-- never ends",
    "<!-- ends --> <!---->",
    "<![CDATA[ x ]]> <?php ?> <!DOCTYPE x>",
    "<template><td>",
    "<table><tr><td>",
    "<p>a<p>b<li>c",
    "<a href='x' HREF=y alt>&lt;&amp;&nbsp;&bogus;&#0;&#x110000; & < ",
    "<img><IMG SRC=a><img alt>",
    "<div class='jp-OutputArea-output jp-Cell-inputWrapper'>x</div>",
    "<svg><foreignObject><div>",
    "<b <i>x</b",
    "plain",
    "",
]


@pytest.mark.parametrize("odd", ODD)
def test_odd_markup_changes_no_other_part(pages: QuickPages, odd: str) -> None:
    """In an output, in text and in a raw cell, with known cells around it."""
    around = [code("a = 1\n\n\nb = '<x>'"), nbformat.v4.new_markdown_cell("# *Text*\n\n```\nx\n```")]
    for cell in (
        code(odd, {"text/html": odd}, {"text/plain": odd}),
        nbformat.v4.new_markdown_cell(odd),
        nbformat.v4.new_raw_cell(odd),
    ):
        notebook = notebook_of(*around, cell, *around)
        assert is_same(html_of(notebook, "odd"), pages.html_of(notebook, "odd"))


def random_notebooks(seed: int, count: int) -> Iterator[NotebookNode]:
    """Notebooks of random cells, of which some come again and again."""
    draw = random.Random(seed)
    kinds = every_kind()
    known = [*kinds.cells, *(nbformat.v4.new_markdown_cell(odd) for odd in ODD)]
    for _ in range(count):
        cells = []
        for cell in draw.choices(known, k=draw.randint(1, 6)):
            new = nbformat.from_dict(cell)
            if draw.random() < 0.3:
                text = "".join(draw.choices([*ODD, "x = 1\n", "é", "\r", "\x00", " ", "$a$", "files/x"], k=3))
                new.source = text
            cells.append(new)
        metadata = {key: kinds.metadata[key] for key in kinds.metadata if draw.random() < 0.6}
        yield notebook_of(*cells, **metadata)


@pytest.mark.parametrize("seed", range(2))
def test_random_notebooks(pages: QuickPages, seed: int) -> None:
    """What earlier notebooks left in the process changes no page."""
    for notebook in random_notebooks(seed, 10):
        assert is_same(html_of(notebook, "any"), pages.html_of(notebook, "any"))


def test_known_parts_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of 10,000 flows does not keep all of their cells."""
    monkeypatch.setattr(quick_pages, "_MOST_CHARACTERS", 5_000)
    pages = QuickPages(first=2)
    for number in range(50):
        assert f"{number} * 2" in pages.html_of(notebook_of(code(f"# {number} * 2\n" * 20)), "any")
    assert 0 < pages.known < 10


def test_another_nbconvert(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are nbconvert's as they are, and it is said why."""
    monkeypatch.setattr(quick_pages, "_ALTERNATIVE", "An image")
    pages = QuickPages(first=0)
    notebook = notebook_of(code("x", {"text/html": "<img src=x>"}))
    assert is_same(html_of(notebook, "any"), pages.html_of(notebook, "any"))
    assert "makes other pages than ductaflow does" in pages.fault
    monkeypatch.setattr(quick_pages, "WidgetsDataTypeFilter", None)
    pages = QuickPages(first=0)
    assert is_same(html_of(notebook, "any"), pages.html_of(notebook, "any"))
    assert "cannot be used as ductaflow does: TypeError" in pages.fault


def test_what_the_first_page_needs_is_loaded_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for its first order uses the time; what goes wrong is said of a real page."""
    code = (
        "import sys\n"
        "from ductaflow.notebook.quick_pages import QuickPages, every_kind, html_of\n"
        "QuickPages().prepare()\n"
        "before = {*sys.modules}\n"
        "html_of(every_kind(), 'first')\n"
        "print([name for name in {*sys.modules} - before if not name.startswith('encodings.')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == shown.stdout

    monkeypatch.setattr(quick_pages, "html_of", lambda *_: 1 // 0)
    pages = QuickPages()
    pages.prepare()
    with pytest.raises(ZeroDivisionError):
        pages.html_of(every_kind(), "first")
