"""The figures that a run made, as its notebook holds them; so many that a report stays a file to open."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: A notebook longer than this, in bytes, is not searched.
MAX_NOTEBOOK = 8_000_000
#: Figures of one run, and characters (base64) of one figure.
MAX_FIGURES, MAX_FIGURE = 4, 400_000
#: Characters of all figures of a report, and how many of them green runs may take.
MAX_ALL, MAX_GREEN = 6_000_000, 4_000_000

#: What an instance has that did not run.
NO_FIGURES: dict[str, Any] = {"figures": [], "figures_left_out": 0}

_TYPES = ("image/png", "image/jpeg")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class FigureBudget:
    """How much room a report has for figures. Runs that are not green have the last third for themselves."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, characters: int, *, green: bool) -> bool:
        """Whether a figure of some characters may be in the report; if so, its room is taken."""
        fits = self._taken + characters <= (MAX_GREEN if green else MAX_ALL)
        self._taken += characters if fits else 0
        return fits


def figures_of(notebook: Path, budget: FigureBudget, *, green: bool) -> dict[str, Any]:
    """The figures of an executed notebook for the twin.

    Returns:
        `figures`, each as `{"cell": number of the code cell, "type": MIME type, "data": base64, "text": what
        the notebook has beside it}`, and `figures_left_out`, how many more it has.
    """
    found: list[dict[str, Any]] = []
    left_out = 0
    for figure in _images(notebook):
        size = len(figure["data"])
        if len(found) < MAX_FIGURES and size <= MAX_FIGURE and budget.take(size, green=green):
            found.append(figure)
        else:
            left_out += 1
    return {"figures": found, "figures_left_out": left_out}


def _images(notebook: Path) -> Iterator[dict[str, Any]]:
    try:
        if notebook.stat().st_size > MAX_NOTEBOOK:
            return
        raw = notebook.read_bytes()
        # Looking for the word first: most notebooks have no figure, and parsing is what costs.
        cells = json.loads(raw)["cells"] if any(kind.encode() in raw for kind in _TYPES) else []
        number = 0
        for cell in cells:
            if cell.get("cell_type") == "code":
                # The cell that papermill puts in does not count, here as in a result.
                number += "injected-parameters" not in cell.get("metadata", {}).get("tags", ())
                for output in cell.get("outputs", ()):
                    yield from _of_output(output, number)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # a half or foreign notebook: the page links to it, and shows what it can of the run


def _of_output(output: dict[str, Any], cell: int) -> Iterator[dict[str, Any]]:
    bundle = output.get("data", {})
    for kind in _TYPES:
        if isinstance(bundle.get(kind), str | list):
            data = "".join("".join(bundle[kind]).split())
            if _BASE64.fullmatch(data):
                yield {"cell": cell, "type": kind, "data": data, "text": _text(bundle.get("text/plain", ""))}
            return


def _text(value: Any) -> str:
    text = " ".join("".join(value).split())[:200]
    return "" if text.startswith("<") else text
