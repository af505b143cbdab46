"""Papermill's book-keeping of a running notebook, with one cheap save for each cell instead of two.

It is separate from `engine`, which `import papermill` imports.
"""

from __future__ import annotations

import json
from datetime import datetime

from nbformat import NotebookNode
from papermill.engines import NotebookExecutionManager
from papermill.iorw import papermill_io


class FewerSaves(NotebookExecutionManager):  # type: ignore[misc]
    """Saves only when a cell starts, which records the end of the previous cell too.

    Each save is complete, but only papermill's last one validates and indents like nbformat. Both cost more
    than the save itself (Python's json has no C encoder with an indent).
    """

    def __init__(self, nb: NotebookNode, **options: object) -> None:
        super().__init__(nb, **options)
        self._between_cells = False

    def save(self, **_: object) -> None:
        if self._between_cells or not self.output_path:
            return
        papermill_io.write(json.dumps(self.nb, ensure_ascii=False), self.output_path)
        self.last_save_time = self.now()

    def notebook_start(self, **kwargs: object) -> None:
        self._between_cells = True
        super().notebook_start(**kwargs)

    def cell_start(self, cell: NotebookNode, cell_index: int | None = None, **kwargs: object) -> None:
        self._between_cells = False
        super().cell_start(cell, cell_index, **kwargs)

    def cell_complete(self, cell: NotebookNode, cell_index: int | None = None, **kwargs: object) -> None:
        self._between_cells = True
        about = cell.metadata.papermill
        begin = about["start_time"]
        # Papermill would parse this time by trying all forms that there are.
        about["start_time"] = None
        try:
            super().cell_complete(cell, cell_index, **kwargs)
        finally:
            about["start_time"] = begin
        if begin:
            took = datetime.fromisoformat(about["end_time"]) - datetime.fromisoformat(begin)
            about["duration"] = took.total_seconds()

    def notebook_complete(self, **kwargs: object) -> None:
        self._between_cells = False
        super().notebook_complete(**kwargs)
