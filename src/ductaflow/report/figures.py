"""The figures of runs in a report: pictures that it holds, and where the interactive ones are."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

from ductaflow.common.decode import UnreadableError, decode
from ductaflow.common.files import read_regular
from ductaflow.report.schema import Figure, FigureParts, Interactive

#: A notebook longer than this, in bytes, is not searched.
MAX_NOTEBOOK = 8_000_000
#: Figures of one run, and characters (base64) of one figure.
MAX_FIGURES, MAX_FIGURE = 4, 400_000
#: Characters of all figures of a report, and of those of successful runs.
MAX_ALL, MAX_GOOD = 6_000_000, 4_000_000
#: Interactive figures of one run that are named one by one.
MAX_INTERACTIVE = 20
#: The figures of an instance that did not run.
NO_FIGURES: FigureParts = {
    "figures": [],
    "figures_left_out": 0,
    "interactive": [],
    "interactive_left_out": 0,
    "notebook_too_large": False,
}
_PICTURES = ("image/png", "image/jpeg")
_SVG = "image/svg+xml"
#: Beginnings of MIME types that a library draws in a browser, and words of HTML that does so by itself.
_LIBRARIES = {
    "application/vnd.plotly.": "Plotly",
    "application/vnd.vegalite.": "Vega-Altair",
    "application/vnd.vega.": "Vega",
    "application/vnd.bokehjs_exec.": "Bokeh",
    "application/vnd.holoviews_exec.": "HoloViews",
    "application/vnd.jupyter.widget-view+": "Jupyter widget",
}
_WORDS = {
    "Plotly.newPlot(": "Plotly",
    "vegaEmbed": "Vega-Altair",
    "Bokeh.embed": "Bokeh",
    "L.map(": "Leaflet",
}
#: What a notebook with a figure has somewhere: most have none, and parsing is what costs.
_SIGNS = tuple(word.encode() for word in (*_PICTURES, _SVG, *_LIBRARIES, *_WORDS))
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class FigureBudget:
    """The room for figures in a report. The last third is for runs that are no success.

    Attributes:
        refused: how many figures there was no room for.
    """

    def __init__(self) -> None:
        self._taken = self.refused = 0

    def take(self, characters: int, *, is_good: bool) -> bool:
        """Reserve room for a figure of so many characters; False if there is none."""
        fits = self._taken + characters <= (MAX_GOOD if is_good else MAX_ALL)
        self._taken += characters if fits else 0
        self.refused += not fits
        return fits


def figures_of(notebook: Path, budget: FigureBudget, *, is_good: bool) -> FigureParts:
    """Return the figures of an executed notebook for the twin."""
    pictures: list[Figure] = []
    interactive: list[Interactive] = []
    left_out = more = 0
    cells, is_too_large = _cells(notebook)
    for number, cell, bundle in _bundles(cells):
        is_shown = False
        if picture := _picture(bundle):
            kind, data = picture
            is_shown = len(pictures) < MAX_FIGURES and len(data) <= MAX_FIGURE
            is_shown = is_shown and budget.take(len(data), is_good=is_good)
            if is_shown:
                pictures.append({"cell": number, "type": kind, "data": data, "text": _words_beside(bundle)})
            else:
                left_out += 1
        if library := _library(bundle):
            if len(interactive) < MAX_INTERACTIVE:
                where = _anchor(cell)
                interactive.append({"cell": number, "library": library, "anchor": where, "picture": is_shown})
            else:
                more += 1
    return {
        "figures": pictures,
        "figures_left_out": left_out,
        "interactive": interactive,
        "interactive_left_out": more,
        "notebook_too_large": is_too_large,
    }


class _Output(TypedDict):
    data: NotRequired[dict[str, object]]


class _Metadata(TypedDict):
    tags: NotRequired[list[str]]


class _Cell(TypedDict):
    cell_type: str
    id: NotRequired[str]
    metadata: NotRequired[_Metadata]
    outputs: NotRequired[list[_Output]]


class _Notebook(TypedDict):
    """What figures depend on in a notebook."""

    cells: list[_Cell]


def _cells(notebook: Path) -> tuple[list[_Cell], bool]:
    """Return the cells of a notebook that may have figures, and whether it is too large to be searched."""
    try:
        if notebook.stat().st_size > MAX_NOTEBOOK:
            return [], True
        raw = read_regular(notebook)
        if not any(sign in raw for sign in _SIGNS):
            return [], False
        return decode(raw, _Notebook, where=notebook)["cells"], False
    except (OSError, ValueError, UnreadableError):
        return [], False  # a half or foreign notebook: the page links to it, and shows what it can of the run


def _bundles(cells: list[_Cell]) -> Iterator[tuple[int, _Cell, Mapping[str, object]]]:
    """Yield what each code cell has shown, by MIME type, with the number of the cell."""
    number = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            # The cell that papermill adds does not count, here as in a result.
            number += "injected-parameters" not in _tags(cell)
            for output in cell.get("outputs", ()):
                yield number, cell, output.get("data", {})


def _tags(cell: _Cell) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _picture(bundle: Mapping[str, object]) -> tuple[str, str] | None:
    """Return MIME type and base64 of the picture in an output; None if there is none."""
    for kind in _PICTURES:
        data = "".join(_text(bundle.get(kind)).split())
        if _BASE64.fullmatch(data):
            return kind, data
    if svg := _text(bundle.get(_SVG)):
        return _SVG, base64.b64encode(svg.encode("utf-8", "replace")).decode("ascii")
    return None


def _words_beside(bundle: Mapping[str, object]) -> str:
    text = " ".join(_text(bundle.get("text/plain")).split())[:200]
    return "" if text.startswith("<") else text


def _library(bundle: Mapping[str, object]) -> str:
    """Return the library that draws an output in a browser; empty if none does."""
    kinds = (name for kind in bundle for begin, name in _LIBRARIES.items() if kind.startswith(begin))
    if name := next(kinds, ""):
        return name
    html = _text(bundle.get("text/html"))
    return next((name for word, name in _WORDS.items() if word in html), "") if "<script" in html else ""


def _anchor(cell: _Cell) -> str:
    """Return the id that nbconvert gives a cell in its page; empty if the cell or its output is not there."""
    is_hidden = not {"remove-cell", "remove-output"}.isdisjoint(_tags(cell))
    return f"cell-id={cell['id']}" if cell.get("id") and not is_hidden else ""


def _text(value: object) -> str:
    """Join a text of a notebook, which may be a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else ""
