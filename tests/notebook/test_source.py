"""Sources become notebooks that know their lines, notebooks become pages."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import RunFolder
from ductaflow.notebook.export import (
    atomic_output,
    convert_notebook_to_html,
    html_of,
    make_page,
    remove_error_marks,
    settle_output,
)
from ductaflow.notebook.source import cell_line, cell_lines, code_cells, load_notebook, parameters_cell

FLOW = '''\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Title
# x = 1

# %%
import os

# %% tags=["parameters"]

config = {}


# %% A title
# %%time
y = 2
s = """
# %%
"""

# %% [markdown]
"""
x = 1
"""

# %%
x = 1

# %% language="bash"
# echo hi

# %%
# !ls
# %matplotlib inline
z = 1
'''


def write(folder: Path, text: str, name: str = "fit.py") -> Path:
    source = folder / name
    source.write_text(textwrap.dedent(text), encoding="utf-8")
    return source


def stored(notebook: object, path: Path) -> Path:
    nbformat.write(notebook, path)
    return path


def test_lines_of_cells(tmp_path: Path) -> None:
    """Each code cell knows its first line in the file, with headers, titles, tags, blank lines, magics and
    text that is also in a markdown cell above."""
    notebook = load_notebook(write(tmp_path, FLOW))
    found = [(cell.source.splitlines()[:2], cell_line(cell)) for cell in code_cells(notebook)]

    assert [
        (["import os"], 13),
        (["", "config = {}"], 16),
        (["%%time", "y = 2"], 21),
        (["x = 1"], 33),
        (["%%bash", "echo hi"], 35),
        (["!ls", "%matplotlib inline"], 39),
    ] == found


def test_where_it_came_from(tmp_path: Path) -> None:
    """The notebook names its source; nothing but the one key `ductaflow` is added."""
    source = write(tmp_path, "# %%\nx = 1\n")
    notebook = load_notebook(source)

    assert {"source": str(source)} == notebook.metadata.ductaflow
    assert {"ductaflow": {"line": 2}} == notebook.cells[0].metadata


def test_without_markers(tmp_path: Path) -> None:
    """A script without any `# %%` is one cell."""
    notebook = load_notebook(write(tmp_path, "import os\n\nx = 1\n\n\ndef f():\n    return x\n"))

    assert ["import os\n\nx = 1\n\n\ndef f():\n    return x"] == [cell.source for cell in notebook.cells]
    assert 1 == cell_line(notebook.cells[0])


def test_markdown_source(tmp_path: Path) -> None:
    """A Markdown flow has its fenced blocks as cells, with their lines."""
    text = '# T\n\n```python tags=["parameters"]\nconfig = {}\n```\n\ntext\n\n```python\n%time\nx = 1\n```\n'
    source = write(tmp_path, text, "fit.md")

    assert [4, 10] == cell_lines(source)
    assert "config = {}" == parameters_cell(load_notebook(source)).source


def test_ipynb_source(tmp_path: Path) -> None:
    """An `.ipynb` flow is read as it is; its cells have no lines."""
    cells = [nbformat.v4.new_code_cell("x = 1")]
    source = stored(nbformat.v4.new_notebook(cells=cells), tmp_path / "fit.ipynb")

    assert [None] == [cell_line(cell) for cell in code_cells(load_notebook(source))]
    assert "python3" == load_notebook(source).metadata.kernelspec.name


@pytest.mark.parametrize("char", ["\x0c", "\u2028", "\x85"])
def test_odd_line_ends(tmp_path: Path, char: str) -> None:
    """What only text tools take for the end of a line breaks no string literal and shifts no line."""
    notebook = load_notebook(write(tmp_path, f"# %%\nx = 'a{char}b'\n\n# %%\ny = 1\n"))

    assert [f"x = 'a{char}b'", "y = 1"] == [cell.source for cell in notebook.cells]
    assert [2, 5] == [cell_line(cell) for cell in notebook.cells]


def test_windows_file(tmp_path: Path) -> None:
    """A byte order mark and `\\r\\n` are read as if they were not there."""
    source = tmp_path / "fit.py"
    source.write_bytes(b"\xef\xbb\xbf# %%\r\nx = 1\r\n\r\n# %%\r\ny = 1\r\n")

    assert ["x = 1", "y = 1"] == [cell.source for cell in load_notebook(source).cells]
    assert [2, 5] == cell_lines(source)


def test_cells_that_execute(tmp_path: Path) -> None:
    """Blank cells and those tagged `skip-execution` are not among those that would execute."""
    source = write(tmp_path, '# %%\n\n# %% tags=["skip-execution"]\nx = 1\n\n# %%\ny = 1\n')

    assert ["y = 1"] == [cell.source for cell in code_cells(load_notebook(source))]


def test_two_parameters_cells(tmp_path: Path) -> None:
    """Two cells with the tag `parameters` are an error that names both lines."""
    tagged = '# %% tags=["parameters"]\nconfig = {}\n\n'
    notebook = load_notebook(write(tmp_path, tagged + tagged))

    with pytest.raises(DuctaflowError, match=r"fit\.py: 2 cells are tagged 'parameters' \(lines 2, 5\)"):
        parameters_cell(notebook)
    assert parameters_cell(load_notebook(write(tmp_path, "x = 1\n"))) is None


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("fit.py", b"# %%\nx = '\xff'\n", r"fit\.py:2: not UTF-8"),
        ("fit.ipynb", b'{"cells": [}', r"fit\.ipynb:1:12: not a notebook"),
        ("fit.ipynb", b"[]", r"fit\.ipynb: not a notebook"),
        (
            "fit.py",
            b"# ---\n# jupyter:\n#   kernelspec: {name: x}\n# ---\n",
            r"fit\.py: jupytext cannot read",
        ),
        ("fit.R", b"x <- 1\n", r"fit\.R: a flow is a file that ends in"),
    ],
)
def test_unreadable_sources(tmp_path: Path, name: str, raw: bytes, message: str) -> None:
    """What cannot be read as a flow is an error that names the file, and the place where it is known."""
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DuctaflowError, match=message):
        load_notebook(tmp_path / name)


def test_missing_source(tmp_path: Path) -> None:
    """A source that is not there is named."""
    with pytest.raises(DuctaflowError, match=r"gone\.py: No such file"):
        load_notebook(tmp_path / "gone.py")


# --- pages -------------------------------------------------------------------------------------------------


def executed(*outputs: object, source: str = "x", tags: tuple[str, ...] = ()) -> object:
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})
    return nbformat.v4.new_notebook(cells=[cell])


def test_page_of_a_notebook(tmp_path: Path) -> None:
    """The page has the name of the notebook as its title, and what a flow printed is text in it."""
    stream = nbformat.v4.new_output("stream", text="</script><script>alert(1)</script>")
    error = nbformat.v4.new_output(
        "error", ename="E", evalue="<b>", traceback=["<img src=x onerror=alert(2)>"]
    )
    convert_notebook_to_html(
        str(stored(executed(stream, error), tmp_path / "fit.ipynb")), tmp_path / "a.html"
    )
    page = (tmp_path / "a.html").read_text(encoding="utf-8")

    assert "<title>fit</title>" in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<img src=x" not in page


def shown(kind: str, text: str) -> object:
    return executed(nbformat.v4.new_output("display_data", {kind: text}), source="price = '$1' or '$2'")


def page_with(text: str, **metadata: object) -> object:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)], metadata=metadata)


@pytest.mark.parametrize(
    ("notebook", "scripts"),
    [
        (shown("text/html", "<b>1</b>"), []),
        (shown("image/png", "iVBORw0KGgo="), []),
        (shown("text/plain", "require('x') costs $1 or $2"), []),
        (shown("text/html", "<script>require(['plotly'], show)</script>"), ["require.js"]),
        (shown("application/javascript", "requirejs.config({})"), ["require.js"]),
        (shown("text/latex", "$$x$$"), ["mathjax"]),
        (shown("text/html", "<p>\\(x\\)</p>"), ["mathjax"]),
        (page_with("# A title"), []),
        (page_with("$x$ is large"), ["mathjax"]),
        (page_with("\\begin{align} x \\end{align}"), ["mathjax"]),
        (page_with("<script>require(['x'])</script> $x$"), ["mathjax", "require.js"]),
        (page_with("text", widgets={}), ["require.js"]),
    ],
)
def test_a_page_asks_others_for_what_it_needs(notebook: Any, scripts: list[str]) -> None:
    """A page without formulas, widgets and scripts that load modules opens without the network."""
    asked = re.findall(r'<script src="https?://[^"]*/(mathjax|require\.js)/', html_of(notebook, "x"))
    assert scripts == sorted(asked)


def test_tags_of_the_page(tmp_path: Path) -> None:
    """A cell tagged `remove-input` is shown without its source."""
    stream = nbformat.v4.new_output("stream", text="shown")
    convert_notebook_to_html(
        executed(stream, source="secret_source", tags=("remove-input",)), tmp_path / "a.html"
    )
    page = (tmp_path / "a.html").read_text(encoding="utf-8")

    assert "secret_source" not in page
    assert "shown" in page


def test_page_of_no_notebook(tmp_path: Path) -> None:
    """A notebook that cannot be read is named, and no page is left."""
    (tmp_path / "fit.ipynb").write_text("{", encoding="utf-8")
    with pytest.raises(DuctaflowError, match=r"fit\.ipynb:1:2: not a notebook"):
        convert_notebook_to_html(tmp_path / "fit.ipynb", tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


# --- papermill's output ------------------------------------------------------------------------------------


def test_atomic_output(tmp_path: Path) -> None:
    """Papermill's saves replace the notebook as a whole: a save that fails leaves the old one, and no
    temporary file; braces in the path are no placeholders."""
    from papermill.iorw import LocalHandler, papermill_io, write_ipynb
    from papermill.parameterize import parameterize_path

    folder = tmp_path / "{a}"
    folder.mkdir()
    path = folder / "fit.ipynb"
    plain = parameterize_path(atomic_output(path), {})
    assert not isinstance(papermill_io.get_handler(plain), LocalHandler)
    write_ipynb(executed(source="first"), plain)
    with pytest.raises(TypeError):
        papermill_io.write(42, plain)
    settle_output(path)

    assert str(path) == plain
    assert "first" == "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    assert [path] == list(folder.iterdir())
    assert isinstance(papermill_io.get_handler(plain), LocalHandler)


def test_remove_error_marks(tmp_path: Path) -> None:
    """Papermill's banner of an error can be taken out of a notebook again."""
    banner = nbformat.v4.new_markdown_cell("An Exception", metadata={"tags": ["papermill-error-cell-tag"]})
    notebook = executed(source="kept")
    notebook.cells.insert(0, banner)
    remove_error_marks(stored(notebook, tmp_path / "fit.ipynb"))

    cells = json.loads((tmp_path / "fit.ipynb").read_text(encoding="utf-8"))["cells"]
    assert ["kept"] == ["".join(cell["source"]) for cell in cells]


def test_a_page_that_cannot_be_made(tmp_path: Path) -> None:
    """The page says why, and leads to the notebook; what is no notebook at all has none."""
    folder = RunFolder(tmp_path, "a & b")
    make_page(folder)
    assert not folder.html.exists()

    folder.notebook.write_text("{}")
    make_page(folder)
    page = folder.html.read_text()
    assert "could not be made: DuctaflowError" in page
    assert '<a href="a%20%26%20b.ipynb">a &amp; b.ipynb</a>' in page
