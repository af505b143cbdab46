"""The text of a notebook is the one that nbformat writes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from traitlets.log import get_logger

from ductaflow.notebook import notebook_text, shell
from ductaflow.notebook.notebook_text import text_of

BUNDLE = {
    "text/plain": "a\nb",
    "text/html": "<b>\u2028ä</b>\n",
    "image/svg+xml": "<svg>\n</svg>",
    "image/png": "aGFs\nbG8=",
    "application/json": {"b": [], "a": {}, "c": [1, 2.50, 1e22, -0.0, None, True, 10**30, "\x00\x7f\\/😀"]},
    "application/javascript": "1\n2",
}


def holding(**cell: object) -> NotebookNode:
    """A notebook with a cell that nothing has checked."""
    notebook = new_notebook()
    notebook.cells.append(NotebookNode(cell))
    return notebook


NOTEBOOKS: dict[str, Callable[[], NotebookNode]] = {
    "no cells": lambda: new_notebook(),
    "cells": lambda: new_notebook(
        metadata={
            "signature": "x",
            "orig_nbformat": 3,
            "z": {"z": 1, "a": [[]]},
            "kernelspec": {"name": "a", "display_name": "A"},
        },
        cells=[
            new_markdown_cell(
                "# a\nb\n", attachments={"p.png": {"image/png": "YQ==\n", "text/plain": "a\nb"}}
            ),
            new_raw_cell(""),
            new_code_cell("", metadata={"trusted": True, "tags": []}),
            new_code_cell(
                "x = 1\r\ny",
                execution_count=3,
                outputs=[
                    new_output("stream", text="a\nb"),
                    new_output("execute_result", data=BUNDLE, metadata={"a": {"b": 1}}, execution_count=3),
                    new_output("display_data", data={"text/plain": ""}),
                    new_output("error", ename="E", evalue="\n", traceback=["\x1b[0m", "b\nc"]),
                ],
            ),
        ],
    ),
    "of lines": lambda: NotebookNode(new_notebook(cells=[new_code_cell(source=["a\n", "b"])])),
    "NaN": lambda: new_notebook(metadata={"a": [1, float("nan"), float("inf")]}),
    "half a character": lambda: new_notebook(cells=[new_markdown_cell("\ud83d")]),
    "bytes": lambda: new_notebook(metadata={"a": b"abc"}),
    "no notebook": lambda: holding(cell_type="code"),
    "unknown type": lambda: holding(cell_type="odd", metadata={}, source="a"),
    "format 3": lambda: nbformat.convert(new_notebook(cells=[new_code_cell("a\nb")]), 3),
}


def written(write: Callable[[NotebookNode], str], notebook: NotebookNode) -> tuple[str, list[str]]:
    """The text, or the exception, and what is logged."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    get_logger().addHandler(handler)
    try:
        return write(notebook), logged
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}", logged
    finally:
        get_logger().removeHandler(handler)


@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId", "ignore::FutureWarning")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_text(name: str) -> None:
    """Text and log are those of nbformat, whatever a notebook holds; the notebook stays as it is."""
    notebook = NOTEBOOKS[name]()
    expected = written(nbformat.writes, notebook)
    # nbformat gives ids to cells that have none
    before = repr(notebook)

    assert expected == written(text_of, notebook)
    assert expected[0] == written(lambda one: text_of(one, is_checked=False), notebook)[0]
    assert before == repr(notebook)


def test_usual_notebooks_are_not_left_to_nbformat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid notebook is written by our own code."""
    monkeypatch.setattr(notebook_text.nbformat, "writes", lambda _: pytest.fail("nbformat wrote it"))

    assert "ä" in text_of(NOTEBOOKS["cells"]())


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("stream", {"name": "stderr", "text": "a"}),
        ("error", {"ename": "E", "evalue": "", "traceback": ["a"]}),
        ("display_data", {"data": BUNDLE, "metadata": {}}),
        ("display_data", {"data": {"text/plain": "a", "image/png": "b"}, "metadata": {"a": {"b": 1}}}),
        ("execute_result", {"data": {"text/plain": "a"}, "metadata": {}, "execution_count": 1}),
        ("execute_result", {"data": {"text/plain": 5}, "metadata": {}, "execution_count": 1}),
        ("display_data", {"data": {"text/plain": "a"}, "metadata": []}),
        ("display_data", {"data": {}, "metadata": {}}),
        ("stream", {"name": "stdout", "text": 5}),
        ("error", {"ename": "E", "evalue": "", "traceback": [1]}),
    ],
)
def test_outputs(kind: str, content: dict[str, object]) -> None:
    """An output is made, or refused, as nbformat does it."""

    def made(make: Callable[..., NotebookNode]) -> str:
        try:
            output = make(kind, **content)
        except nbformat.ValidationError as exc:
            return exc.message
        assert all(isinstance(value, NotebookNode) for value in output.values() if isinstance(value, dict))
        return repr(sorted(output.items()))

    assert made(nbformat.v4.new_output) == made(shell._output)
