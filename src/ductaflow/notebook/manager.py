"""Papermill's book-keeping of a running notebook, with a save for each cell instead of two, and cheaper ones.

Apart from `engine`, which papermill imports while it is imported itself.
"""

from __future__ import annotations

import json
from typing import Any

from papermill.engines import NotebookExecutionManager
from papermill.iorw import papermill_io


class FewerSaves(NotebookExecutionManager):  # type: ignore[misc]
    """Saves when a cell starts: that tells of the end of the one before it too, at the same moment.

    Each save is whole, but only papermill's own last one is validated and laid out as nbformat does: both
    cost more than the save itself (with an indent, Python's json does not use its C encoder).
    """

    def __init__(self, nb: Any, **options: Any) -> None:
        super().__init__(nb, **options)
        self._between_cells = False

    def save(self, **_: Any) -> None:
        if self._between_cells or not self.output_path:
            return
        papermill_io.write(json.dumps(self.nb, ensure_ascii=False), self.output_path)
        self.last_save_time = self.now()

    def notebook_start(self, **kwargs: Any) -> None:
        self._between_cells = True
        super().notebook_start(**kwargs)

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        self._between_cells = False
        super().cell_start(cell, cell_index, **kwargs)

    def cell_complete(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        self._between_cells = True
        super().cell_complete(cell, cell_index, **kwargs)

    def notebook_complete(self, **kwargs: Any) -> None:
        self._between_cells = False
        super().notebook_complete(**kwargs)
