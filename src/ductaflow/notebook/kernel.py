"""The engine `kernel`: the notebook runs in the Jupyter kernel that it names, for R, Julia, widgets.

It is papermill's own engine, and it also reports what a verdict needs: the running cell, how each cell ended,
and how a kernel died. Importing this module registers the engine with papermill.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any, Literal

from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from ductaflow.common.errors import Failure
from ductaflow.common.text import strip_ansi
from ductaflow.notebook.engine import Observer
from ductaflow.notebook.failures import exit_code_of, lines_around, shown_path
from ductaflow.notebook.shell import PLOTLY_RENDERER
from ductaflow.notebook.source import cell_line, code_cells, source_of

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from papermill.engines import NotebookExecutionManager

ENGINE = "ductaflow-kernel"
#: Makes a Python kernel import the project's modules as every run does, know the flow's file, end at `exit()`
#: as a script does and, if it has ductaflow, report what it opens and imports. Leaves no names behind.
_BEGIN_PYTHON = """
__import__("sys").path[:] = {first!r} + [p for p in __import__("sys").path if p not in ("", *{first!r})]
__import__("IPython.core.autocall").core.autocall.ZMQExitAutocall.__call__ = (
    lambda self, code=None: (_ for _ in ()).throw(SystemExit(code))
)
__import__("warnings").filterwarnings("ignore", message="To exit: use", category=UserWarning)
try:
    __import__("ductaflow.notebook.kernel_side").notebook.kernel_side.begin({source!r})
    __import__("ductaflow.execution.audit").execution.audit.watch_this_process()
except ImportError:
    pass
"""
#: Makes `quit` of an R kernel end the cell at once and say the status: IRkernel's own does neither.
_BEGIN_R = """
local({{
  quit <- function(save = "default", status = 0, runLast = TRUE)
    stop(structure(class = c("SystemExit", "error", "condition"),
                   list(message = paste0("SystemExit: ", as.integer(status)), call = NULL)))
  executor <- environment(base::quit)
  if (exists(".self", envir = executor, inherits = FALSE)) assign("quit", quit, envir = executor)
  else attach(list(quit = quit, q = quit), name = "ductaflow", warn.conflicts = FALSE)
}})
"""
#: What a kernel executes before the first cell, by its language.
_BEGIN = {"python": _BEGIN_PYTHON, "r": _BEGIN_R}
#: How the exit of an R kernel looks in its error.
_R_EXIT = re.compile(r"SystemExit: (-?\d+)\s*\Z")
#: Options that papermill passes to an engine and its client does not take.
_OF_PAPERMILL = ("input_path", "log_to_stdout", "log_output", "start_timeout", "stdout_file", "stderr_file")
#: A place in the traceback of a Python kernel.
_PLACE = re.compile(r"Cell In\[(\d+)\], line (\d+)")


class _EndedError(Exception):
    """The kernel is gone, or about to go, since the flow wanted it; there is nothing more to ask it."""


class ObservedClient(PapermillNotebookClient):  # type: ignore[misc]
    """Papermill's client that reports each cell to an observer, and completes only cells that ended well."""

    def __init__(
        self, manager: NotebookExecutionManager, observer: Observer, project_root: str, **options: object
    ) -> None:
        super().__init__(manager, **options)
        self._observer = observer
        self._project_root = project_root
        self._payload: list[dict[str, object]] = []
        self.on_cell_executed = self._keep_payload

    def _keep_payload(self, execute_reply: dict[str, Any] | None, **_: object) -> None:
        self._payload = (execute_reply or {}).get("content", {}).get("payload") or []

    @property
    def _language(self) -> str:
        return str(self.km.kernel_spec.language).lower()

    def papermill_execute_cells(self) -> None:
        if self._language in _BEGIN:
            source = str(source_of(self.nb) or "")
            begin = _BEGIN[self._language].format(
                first=[os.path.dirname(source), self._project_root], source=source
            )
            # No need to wait: a kernel does one thing after the other.
            self.kc.execute(begin, silent=True, store_history=False)
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
            for asked in self._payload:
                if asked.get("source") == "ask_exit":
                    # the argument of IPython's `exit`; other kernels send False
                    code, text = exit_code_of(SystemExit(asked.get("keepkernel")))
                    self._tell_exit(max(number, 1), code, text, None)
                    raise _EndedError
            if id(cell) in counted:
                self._observer.cell_finished(number)

    def _tell(self, exc: CellExecutionError, cell: NotebookNode, number: int) -> None:
        if exc.ename == "SystemExit":
            text = str(exc.evalue)
            code = {"": 0, "None": 0, "False": 0, "True": 1}.get(text)
            is_number = text.removeprefix("-").isdigit()
            if code is not None or is_number:
                self._tell_exit(number, int(text) if code is None else code, "", self._line(exc.traceback))
            else:
                self._tell_exit(number, 1, text, self._line(exc.traceback))
            return
        if self._language == "r" and (found := _R_EXIT.search(str(exc.evalue))):
            self._tell_exit(number, int(found[1]), "", None)
            return
        failure = self._failure(exc.ename, str(exc.evalue), strip_ansi(exc.traceback), number)
        print(failure.traceback, file=sys.stderr)
        self._observer.failed(number, exc, failure)

    def _tell_exit(self, number: int, code: int, text: str, line: int | None) -> None:
        if code:
            print(f"SystemExit: {text or code}", file=sys.stderr)
        self._observer.exited(number, code, text, line)

    def _tell_death(self, exc: DeadKernelError, number: int) -> None:
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        if code is not None and code >= 0 and self._language != "python":
            # `exit(3)` in Julia, say: in Python only `os._exit` ends a kernel like this, and it is no exit
            self._tell_exit(number, code, "", None)
            raise _EndedError from exc
        name = signal.Signals(-code).name if code is not None and code < 0 else None
        ended = f"the kernel was killed by {name}" if name else f"the kernel ended with exit code {code}"
        failure = self._failure(type(exc).__name__, ended, str(exc), number)
        print(ended, file=sys.stderr)
        cause: Literal["signal", "exit"] = "signal" if name else "exit"
        self._observer.failed(number, exc, failure, cause=cause, signal=name, code=code or 1)

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
        places = _PLACE.findall(strip_ansi(traceback))
        if not places:
            return None
        count, line = map(int, places[-1])
        starts = [cell_line(cell) for cell in self.nb.cells if cell.get("execution_count") == count]
        return starts[0] + line - 1 if starts and starts[0] else None


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
        os.environ.setdefault("PLOTLY_RENDERER", PLOTLY_RENDERER)
        # With it ipykernel assumes pytest's capture, and does not read what subprocesses print.
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        client = ObservedClient(
            nb_man,
            observer,
            project_root,
            kernel_name=kernel_name,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            timeout=None,
            **{name: value for name, value in options.items() if name not in _OF_PAPERMILL},
        )
        with contextlib.suppress(_EndedError):
            client.execute()


papermill_engines.register(ENGINE, KernelEngine)
