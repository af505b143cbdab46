"""The executed notebook on disk, and its HTML page."""

from __future__ import annotations

import functools
import html
import logging
import os
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import PathState, regular_file, set_aside, state_of, write_atomic
from ductaflow.common.paths import RunFolder
from ductaflow.common.renamed import also_named
from ductaflow.notebook.source import read_ipynb, read_source_text

if TYPE_CHECKING:
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode

#: The template of nbconvert that our pages extend.
_TEMPLATE = "lab"
#: Makes a page of a notebook and its name.
ToHtml = Callable[["NotebookNode", str], str]


@also_named(notebook_path="notebook", html_path="html")
def convert_notebook_to_html(
    notebook: str | Path | NotebookNode, html: str | Path, template: str = "lab"
) -> None:
    """Write a notebook as one HTML page, whole or not at all.

    The tags `remove-input`, `remove-output` and `remove-cell` hide that part of a cell.

    Args:
        notebook: an `.ipynb` file or a notebook in memory.
        html: the file to write.
        template: of nbconvert, such as `classic`, `basic` or `reveal`.

    Raises:
        DuctaflowError: the notebook cannot be read, or there is no such template.

    Example:
        >>> convert_notebook_to_html("runs/fit/scenario_A/fit.ipynb", "fit.html")
    """
    page = Path(html)
    if isinstance(notebook, str | Path):
        file = Path(notebook)
        name, node = file.stem, read_ipynb(file, read_source_text(file))
    else:
        name, node = page.stem, notebook
    write_atomic(page, html_of(node, name) if template == _TEMPLATE else _by_template(node, name, template))


def _by_template(notebook: NotebookNode, name: str, template: str) -> str:
    """Return a page as nbconvert makes it by another template than ours."""
    from jinja2 import TemplateNotFound
    from nbconvert import HTMLExporter

    options = exporter_options("")
    del options["raw_template"]
    try:
        exporter = HTMLExporter(template_name=template, **options)  # type: ignore[no-untyped-call]
        _ = exporter.template
    except (ValueError, TemplateNotFound) as exc:
        raise DuctaflowError(
            f"nbconvert has no template {template!r} for HTML", hint="Give lab, classic, basic or reveal."
        ) from exc
    page: str
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    return page


def make_page(folder: RunFolder, to_html: ToHtml | None = None) -> None:
    """Write the HTML of a run, or a page that explains why there is none. Hides nbconvert's warnings.

    Args:
        to_html: makes it of a notebook and its name; by default nbconvert as it is.
    """
    if not folder.notebook.exists():
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notebook = read_ipynb(folder.notebook, read_source_text(folder.notebook))
            write_atomic(folder.html, (to_html or html_of)(notebook, folder.notebook.stem))
    except Exception as exc:
        _write_page_instead(folder, f"The HTML could not be made: {type(exc).__name__}: {exc}")


def announce_page(folder: RunFolder, *, within: float) -> float:
    """Write a placeholder for a page that is still being made, so that links to it work at once.

    Args:
        folder: of the run.
        within: seconds after which the page is there or will never be.

    Returns:
        When that is, in seconds since 1970.
    """
    until = datetime.now(UTC) + timedelta(seconds=within)
    why = (
        f"The HTML is being made. Load this page again. If it is not here by {until:%Y-%m-%d %H:%M:%S} UTC, "
        "it will not be: the process that made it was ended."
    )
    _write_page_instead(folder, why, _ANNOUNCED)
    return until.timestamp()


def end_announcement(
    folder: RunFolder,
    why: str = "The HTML was not finished: the process that made it was ended. The run itself had ended.",
) -> None:
    """Say why there will be no page, if one was announced and nobody is making it any more."""
    if is_announced(folder):
        # Where it cannot be written, what is there says itself until when the page was to be there.
        with suppress(OSError):
            _write_page_instead(folder, why)


def is_announced(folder: RunFolder) -> bool:
    """Return whether there is a placeholder for a page."""
    try:
        with regular_file(folder.html) as page:
            return page.read(len(_ANNOUNCED)) == _ANNOUNCED.encode()
    except OSError:
        return False


_BEGIN = '<!doctype html><meta charset="utf-8">'
_ANNOUNCED = f'{_BEGIN}<meta name="ductaflow" content="announced">'


def _write_page_instead(folder: RunFolder, why: str, begin: str = _BEGIN) -> None:
    name = html.escape(folder.notebook.name)
    text = f"{begin}<title>{name}</title><p>{html.escape(why)}</p>"
    link = f'<a href="{quote(folder.notebook.name)}">{name}</a>'
    page = f"{text}<p>Notebook: {link}</p>\n"
    try:
        write_atomic(folder.html, page, sync=False)
    except OSError:
        # On a full disk there still is the room that the placeholder takes.
        with folder.html.open("r+b") as file:
            file.write(page.encode("utf-8", "backslashreplace"))
            file.truncate()


def html_of(notebook: NotebookNode, name: str) -> str:
    """Return a notebook as one HTML page with a title.

    The page asks other hosts for a script only where something in it needs one: formulas, widgets, and
    outputs that load modules.
    """
    resources = {"metadata": {"name": name}, "needs": scripts_needed_by(notebook)}
    page: str
    page, _ = html_exporter().from_notebook_node(notebook, resources=resources)
    return page


#: nbconvert's page, without the scripts from other hosts that nothing in it needs.
TEMPLATE = """{%- extends 'index.html.j2' -%}
{%- block html_head_js_requirejs -%}
{%- if 'require' in resources.needs -%}{{ super() }}{%- endif -%}
{%- endblock html_head_js_requirejs -%}
{%- block html_head_js_mathjax -%}
{%- if 'mathjax' in resources.needs -%}{{ super() }}{%- endif -%}
{%- endblock html_head_js_mathjax -%}
"""
_SHOWN_TYPES = ("text/html", "text/markdown", "text/latex", "text/x-latex", "application/javascript")
#: How formulas begin, for MathJax as nbconvert sets it up.
_FORMULA = re.compile(r"\$|\\\(|\\\[|\\begin\{")


def scripts_needed_by(notebook: NotebookNode) -> list[str]:
    """Return which scripts from other hosts a page needs: `require`, `mathjax`."""
    shown: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            shown.append(cell.source)
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            shown += ("".join(data[kind]) for kind in _SHOWN_TYPES if kind in data)
    needs = {
        "require": "widgets" in notebook.metadata or any("require" in text for text in shown),
        "mathjax": any(map(_FORMULA.search, shown)),
    }
    return [script for script, is_needed in needs.items() if is_needed]


# --- the notebook that papermill writes --------------------------------------------------------------------


class _AtomicHandler:
    """Papermill's access to one output notebook; each write replaces the whole file or nothing.

    What somebody else has put into its place since the last write is set aside; `aside` has the new names.
    """

    def __init__(self) -> None:
        self.aside: list[str] = []
        self._last: PathState | None = None

    def read(self, path: str) -> str:
        return Path(path).read_text(encoding="utf-8")

    def listdir(self, path: str) -> list[str]:
        return [str(entry) for entry in Path(path).iterdir()]

    def write(self, buf: str, path: str) -> None:
        self.look(path)
        # papermill saves at each cell: an fsync for each would cost more than most cells
        write_atomic(Path(path), buf, sync=False)
        self._last = state_of(path)

    def look(self, path: str) -> None:
        """Set aside what is there and was not written here."""
        if os.path.lexists(path) and state_of(path).is_other_than(self._last):
            self.aside.append(set_aside(Path(path)).name)

    def pretty_path(self, path: str) -> str:
        return path


def atomic_output(path: Path) -> str:
    """Make each of papermill's saves of an output notebook replace the whole file or nothing.

    Args:
        path: the notebook that papermill will write.

    Returns:
        The path to pass to papermill as `output_path`. The notebook's metadata gets the plain path.
    """
    from papermill.iorw import papermill_io

    plain = str(path.absolute())
    papermill_io.register(plain, _OPEN.setdefault(plain, _AtomicHandler()))
    # papermill runs `str.format` over paths
    return plain.replace("{", "{{").replace("}", "}}")


#: The output notebooks that papermill is writing.
_OPEN: dict[str, _AtomicHandler] = {}


def settle_output(path: Path) -> list[str]:
    """End `atomic_output`: flush the last save to the disk, and let papermill write as usual again.

    Returns:
        Names of the files that others had put into its place meanwhile; they lie beside it.
    """
    from papermill.iorw import LocalHandler, papermill_io

    plain = str(path.absolute())
    papermill_io.register(plain, LocalHandler())
    handler = _OPEN.pop(plain)
    if path.exists():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    return handler.aside


def remove_error_marks(path: Path) -> None:
    """Remove papermill's error banner from an executed notebook: papermill also adds it for an error in a
    cell tagged `raises-exception`, which is not a failure."""
    import nbformat
    from papermill.execute import remove_error_markers

    notebook = remove_error_markers(read_ipynb(path, read_source_text(path)))
    write_atomic(path, nbformat.writes(notebook))  # type: ignore[no-untyped-call]


@functools.cache
def html_exporter() -> HTMLExporter:
    """Return nbconvert's exporter of this process. It compiles its templates once."""
    from nbconvert import HTMLExporter

    return HTMLExporter(**exporter_options(TEMPLATE))  # type: ignore[no-untyped-call]


def exporter_options(template: str) -> dict[str, Any]:
    """Return how nbconvert makes our pages."""
    from traitlets.config import Config

    config: Any = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = {"remove-input"}
    config.TagRemovePreprocessor.remove_all_outputs_tags = {"remove-output"}
    config.TagRemovePreprocessor.remove_cell_tags = {"remove-cell"}
    # its hints, such as on an image without alternative text, do not belong in the log of the run
    log = logging.getLogger("ductaflow.nbconvert")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return {"config": config, "log": log, "raw_template": template}
