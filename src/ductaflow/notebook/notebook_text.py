"""The text of a notebook as nbformat writes it, in a fraction of the time.

nbformat copies the whole notebook and encodes it in Python, since the C encoder of `json` knows no indent:
for a small notebook that takes longer than its cells. Here the C encoder writes it, and msgspec indents it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.v4.nbjson import BytesEncoder

from ductaflow.common.decode import indented

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: What nbformat leaves out of a file: of the notebook, and of a cell.
_TRANSIENT = {"notebook": ("orig_nbformat", "orig_nbformat_minor", "signature"), "cell": ("trusted",)}
#: Types besides text whose values it splits into lines.
_OF_LINES = ("application/javascript", "image/svg+xml")


def text_of(notebook: NotebookNode, *, is_checked: bool = True) -> str:
    """Return what `nbformat.writes` returns.

    Args:
        notebook: of any format.
        is_checked: log what is wrong with it, as `nbformat.writes` does.
    """
    if notebook.get("nbformat") == 4:
        try:
            if is_checked:
                nbformat.validate(notebook)
            plain = json.dumps(_on_disk(notebook), cls=BytesEncoder, sort_keys=True, ensure_ascii=False)
            if quick := indented(plain):
                return quick
        except (nbformat.ValidationError, AttributeError, ValueError):
            # What is no notebook, NaN, which is no JSON, and half characters: all that is written too.
            pass
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text


def _on_disk(notebook: NotebookNode) -> dict[str, Any]:
    cells = [_cell_on_disk(cell) for cell in notebook.cells]
    return {**notebook, "metadata": _without(notebook.metadata, "notebook"), "cells": cells}


def _cell_on_disk(cell: NotebookNode) -> dict[str, Any]:
    found = {**cell, "metadata": _without(cell.metadata, "cell"), "source": _lines(cell.source)}
    if "attachments" in cell:
        found["attachments"] = {name: _bundle(bundle) for name, bundle in cell.attachments.items()}
    if cell.cell_type == "code":
        found["outputs"] = [_output_on_disk(output) for output in cell.outputs]
    return found


def _output_on_disk(output: NotebookNode) -> dict[str, Any]:
    if output.output_type == "stream":
        return {**output, "text": _lines(output.text)}
    return {**output, "data": _bundle(output.data)} if "data" in output else output


def _bundle(bundle: Mapping[str, Any]) -> dict[str, Any]:
    return {
        kind: _lines(value) if kind.startswith("text/") or kind in _OF_LINES else value
        for kind, value in bundle.items()
    }


def _without(metadata: Mapping[str, Any], what: str) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name not in _TRANSIENT[what]}


def _lines(text: object) -> object:
    return text.splitlines(True) if isinstance(text, str) else text
