"""The last good run before the one that a report shows: where it is kept, and what it found.

Its folder and result are kept below `runs/.ductaflow/previous/`. Where they are not, as on a machine of a CI
that has only the small files of `runs/.ductaflow/`, the file of numbers (`history`) says what it found.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ductaflow.common.paths import RunFolder
from ductaflow.report.history import KeptNumbers
from ductaflow.store.previous import previous_folder
from ductaflow.store.result import Metric, Result, readable_result


class Before(NamedTuple):
    """The last good run before a run.

    Attributes:
        folder: where its files are kept; None if they are not.
        result: its record, if that is kept and can be read.
        metrics: what it found, as far as it is known.
    """

    folder: RunFolder | None = None
    result: Result | None = None
    metrics: Mapping[str, Metric] = MappingProxyType({})


#: Of a run before which there is no good one.
NO_RUN = Before()


class GoodRunsBefore:
    """Looks up the last good runs before; reads the file of numbers once, and only if it is needed.

    Args:
        runs_dir: the tree of the runs.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._numbers = KeptNumbers(runs_dir)

    def of(self, result: Result, folder: RunFolder, *, nested: bool) -> Before:
        """Return the last good run before a run.

        Args:
            result: of the run; folder: its run folder.
            nested: it is a flow of a build, which the file of numbers does not have.
        """
        kept = self._kept(result, folder)
        last = readable_result(kept.path) if kept else None
        if last is not None:
            return Before(kept, last, last.metrics)
        if nested or not result.metrics:
            return Before(kept)
        found = self._numbers.before(result.id, result.session_id)
        return Before(kept, None, found.numbers) if found else Before(kept)

    def _kept(self, result: Result, folder: RunFolder) -> RunFolder | None:
        try:
            path = previous_folder(self._runs_dir.absolute(), folder.path.absolute())
        except ValueError:
            return None  # the run folder lies elsewhere
        return RunFolder(path, result.flow) if os.path.isdir(path) else None
