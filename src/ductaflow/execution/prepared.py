"""A notebook with its config in place, written without being executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ductaflow.common.files import write_atomic
from ductaflow.notebook.source import load_notebook, read_ipynb, read_source_text

if TYPE_CHECKING:
    from nbformat import NotebookNode


def write_prepared(
    source: Path, parameters: Mapping[str, object], notebook: Path, *, outputs_of: Path | None = None
) -> None:
    """Write a flow as a notebook with its parameters injected, as papermill would, without executing it.

    Args:
        source: the flow.
        parameters: injected behind the cell tagged `parameters`.
        notebook: the file to write.
        outputs_of: an executed notebook of the flow, whose outputs are taken over.
    """
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    node = load_notebook_node(load_notebook(source))
    prepared = parameterize_notebook(node, parameters, engine_name="ductaflow")
    if outputs_of is not None:
        _take_outputs(prepared, read_ipynb(outputs_of, read_source_text(outputs_of)))
    write_atomic(notebook, nbformat.writes(prepared) + "\n")  # type: ignore[no-untyped-call]


def _take_outputs(prepared: NotebookNode, executed: NotebookNode) -> None:
    """Give cells the outputs that they had, up to the first that failed or has been edited since."""
    pairs = zip(
        (cell for cell in prepared.cells if cell.cell_type == "code"),
        (cell for cell in executed.cells if cell.cell_type == "code"),
        strict=False,
    )
    for cell, before in pairs:
        if cell.source != before.source:
            return
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
        if any(output.output_type == "error" for output in before.outputs):
            return
