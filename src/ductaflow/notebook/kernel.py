"""The engine `kernel`: the notebook runs in the Jupyter kernel that it names, for R, Julia, widgets.

It is papermill's own engine, and it also reports what a verdict needs: the running cell, how each cell ended,
and how a kernel died. Importing this module registers the engine with papermill.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import TYPE_CHECKING

from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from ductaflow.common.errors import Failure
from ductaflow.common.text import strip_ansi
from ductaflow.notebook.engine import Observer
from ductaflow.notebook.failures import lines_around, shown_path
from ductaflow.notebook.source import cell_line, code_cells, source_of

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from papermill.engines import NotebookExecutionManager

ENGINE = "ductaflow-kernel"
#: Makes a Python kernel import the project's modules as every run does, and, if it has ductaflow, report what
#: it opens and imports. Leaves no names behind.
_BEGIN = """
__import__("sys").path[:] = {first!r} + [p for p in __import__("sys").path if p not in ("", *{first!r})]
try:
    __import__("ductaflow.execution.audit").execution.audit.watch_this_process()
except ImportError:
    pass
"""
#: Options that papermill passes to an engine and its client does not take.
_OF_PAPERMILL = ("input_path", "log_to_stdout", "log_output", "start_timeout", "stdout_file", "stderr_file")
#: A place in the traceback of a Python kernel.
_PLACE = re.compile(r"Cell In\[(\d+)\], line (\d+)")


class ObservedClient(PapermillNotebookClient):  # type: ignore[misc]
    """Papermill's client that reports each cell to an observer, and completes only cells that ended well."""

    def __init__(
        self, manager: NotebookExecutionManager, observer: Observer, project_root: str, **options: object
    ) -> None:
        super().__init__(manager, **options)
        self._observer = observer
        self._project_root = project_root

    def papermill_execute_cells(self) -> None:
        if "python" in str(self.km.kernel_spec.language).lower():
            first = [os.path.dirname(source_of(self.nb) or ""), self._project_root]
            # No need to wait: a kernel does one thing after the other.
            self.kc.execute(_BEGIN.format(first=first), silent=True, store_history=False)
        counted = {id(cell) for cell in code_cells(self.nb)}
        number = 0
        for index, cell in enumerate(self.nb.cells):
            number += id(cell) in counted
            self.nb_man.cell_start(cell, index)
            if id(cell) in counted:
                self._observer.cell_started(number, len(counted), cell_line(cell))
            try:
                self.execute_cell(cell, index)
            except CellExecutionError as exc:
                self.nb_man.cell_exception(cell, cell_index=index, exception=exc)
                self._tell(exc, cell, max(number, 1))
                return
            except DeadKernelError as exc:
                self.nb_man.cell_exception(cell, cell_index=index, exception=exc)
                self._tell_death(exc, max(number, 1))
                raise
            self.nb_man.cell_complete(cell, cell_index=index)
            if _exited(cell):
                self._observer.exited(number, 0, "", None)
                return
            if id(cell) in counted:
                self._observer.cell_finished(number)

    def _tell(self, exc: CellExecutionError, cell: NotebookNode, number: int) -> None:
        if exc.ename == "SystemExit":
            text = str(exc.evalue)
            code = int(text) if text.lstrip("-").isdigit() else int(text not in ("", "None"))
            self._observer.exited(number, code, text, self._line(strip_ansi(exc.traceback)))
            return
        failure = self._failure(exc.ename, str(exc.evalue), strip_ansi(exc.traceback), number)
        print(failure.traceback, file=sys.stderr)
        self._observer.failed(number, exc, failure)

    def _tell_death(self, exc: DeadKernelError, number: int) -> None:
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        name = signal.Signals(-code).name if code is not None and code < 0 else None
        ended = f"the kernel was killed by {name}" if name else f"the kernel ended with exit code {code}"
        failure = self._failure(type(exc).__name__, ended, str(exc), number)
        print(ended, file=sys.stderr)
        self._observer.failed(number, exc, failure, cause="signal" if name else "exit", signal=name)

    def _failure(self, ename: str, evalue: str, traceback: str, number: int) -> Failure:
        source, line = source_of(self.nb), self._line(traceback)
        return Failure(
            file=shown_path(source, self._project_root) if source else None,
            line=line,
            cell=number,
            ename=ename,
            evalue=evalue,
            traceback=traceback,
            source=lines_around(str(source), line) if source and line else (),
        )

    def _line(self, traceback: str) -> int | None:
        """Translate the cell and line in a Python kernel's traceback to a line of the flow's file."""
        places = _PLACE.findall(traceback)
        if not places:
            return None
        count, line = map(int, places[-1])
        starts = [cell_line(cell) for cell in self.nb.cells if cell.get("execution_count") == count]
        return starts[0] + line - 1 if starts and starts[0] else None


def _exited(cell: NotebookNode) -> bool:
    return any(
        output.output_type == "error" and output.ename == "SystemExit" for output in cell.get("outputs", ())
    )


class KernelEngine(NBClientEngine):  # type: ignore[misc]
    """Papermill's nbclient engine with an observer. The kernel's prints go to the log as they come."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        observer: Observer,
        project_root: str = "",
        **options: object,
    ) -> None:
        # With it ipykernel assumes pytest's capture, and does not read what subprocesses print.
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        ObservedClient(
            nb_man,
            observer,
            project_root,
            kernel_name=kernel_name,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            timeout=None,
            **{name: value for name, value in options.items() if name not in _OF_PAPERMILL},
        ).execute()


papermill_engines.register(ENGINE, KernelEngine)
