"""The papermill engine that runs a notebook's cells in this process, under their true names.

    papermill --engine ductaflow in.ipynb out.ipynb

Without a host, the output of the cells goes to the notebook, as with a kernel. A host first opens a
`capture.Capture` with a log, and passes an `Observer` to follow the run.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TextIO

from ductaflow.common.errors import DuctaflowError, Failure
from ductaflow.notebook import capture as capturing
from ductaflow.notebook.failures import exit_code_of, failure_of, line_in_source, plain_traceback
from ductaflow.notebook.source import (
    INJECTED,
    KERNELSPEC,
    cell_line,
    code_cells,
    is_executed,
    is_python,
    kernel_language,
    source_of,
    stands_at,
    tags,
    told_language,
)

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from papermill.engines import NotebookExecutionManager

    from ductaflow.notebook.shell import FlowShell, Outputs, Place


INJECTED_NAME = "<injected parameters>"
#: Options that papermill passes to an engine and that belong to its manager.
MANAGED = ("output_path", "progress_bar", "log_output", "autosave_cell_every")


class Observer(Protocol):
    """Receives events while a notebook runs.

    `number` counts the cells that would execute, from 1; the injected parameters are not counted and have 0.
    """

    def cell_started(self, number: int, total: int, line: int | None) -> None:
        """A cell starts; `line` is its first line in the flow's file, if known."""

    def cell_finished(self, number: int) -> None:
        """A cell ran to its end."""

    def failed(
        self,
        number: int,
        exc: BaseException,
        failure: Failure,
        *,
        cause: Literal["exception", "exit", "signal"] = "exception",
        signal: str | None = None,
        code: int = 1,
    ) -> None:
        """A cell raised, or its kernel died by an exit with a code or by a `signal`; no later cell runs."""

    def exited(self, number: int, code: int, text: str, line: int | None) -> None:
        """A cell called `sys.exit`; no later cell runs. `text` is its argument, unless that is a number."""


class DuctaflowEngine:
    """Executes notebooks on an IPython shell in this process.

    It has the interface of `papermill.engines.Engine` without being a subclass: papermill imports all engines
    during its own import, so a subclass would make a circular import.
    """

    @classmethod
    def execute_notebook(cls, nb: NotebookNode, kernel_name: str, **options: Any) -> NotebookNode:
        """Execute a notebook; see `papermill.engines.Engine.execute_notebook`."""
        from ductaflow.notebook.manager import FewerSaves

        about = nb.metadata.get("papermill", {})
        if not isinstance(about.get("input_path", ""), str | None):
            # a notebook instead of a path: papermill would store all of it in its own copy
            source = source_of(nb)
            about["input_path"] = str(source) if source else None
        manager = FewerSaves(nb, **{name: options.pop(name) for name in MANAGED if name in options})
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=manager.log_output, **options)
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        executed: NotebookNode = manager.nb
        return executed

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:
        """Return the name of the kernel that the notebook is written for.

        Raises:
            DuctaflowError: it is not a Python kernel.
        """
        spec = nb.metadata.get("kernelspec", {})
        kernel: str = name or spec.get("name") or KERNELSPEC["name"]
        language = kernel_language(nb, kernel)
        if not is_python(language):
            raise DuctaflowError(
                f"the kernel {kernel!r} is for {language}, and the engine 'ductaflow' runs Python only",
                hint='Set `"engine": "kernel"` in `_run` of the config, '
                "or leave out `--engine ductaflow` with papermill.",
            )
        return kernel

    @classmethod
    def nb_language(cls, nb: NotebookNode, language: str | None = None) -> str:
        """Return the language of the notebook; Python if it names none."""
        return language or told_language(nb) or "python"

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        observer: Observer | None = None,
        project_root: str | Path | None = None,
        log_output: bool = False,
        stdout_file: TextIO | None = None,
        stderr_file: TextIO | None = None,
        **_: object,
    ) -> None:
        """Run the cells of papermill's notebook up to its end or the first failure.

        Args:
            nb_man: papermill's `NotebookExecutionManager`.
            kernel_name: not used; there is no kernel.
            observer: receives the events of the run.
            project_root: paths in a `Failure` are relative to it.
            log_output, stdout_file, stderr_file: as in papermill; written at the end of each cell.
        """
        from ductaflow.notebook.new_interpreters import NewInterpreters
        from ductaflow.notebook.shell import Outputs, flow_shell

        echo = _Echo(log_output, stdout_file, stderr_file)
        host = capturing.current()
        capture = host or capturing.Capture()
        with contextlib.nullcontext() if host else contextlib.closing(capture):
            if host is None:
                capture.open()
            outputs = Outputs(capture)
            sources = [cell.source for cell in nb_man.nb.cells if is_executed(cell)]
            with contextlib.ExitStack() as stack:
                shell = stack.enter_context(flow_shell(outputs, log_text_of, sources))
                if source := source_of(nb_man.nb):
                    injected = any(INJECTED in tags(cell) for cell in nb_man.nb.cells)
                    stack.enter_context(NewInterpreters(source, with_config=injected))
                run = _Run(nb_man, shell, outputs, capture, observer, project_root, echo)
                run.all_cells()


def log_text_of(exc: BaseException) -> str:
    """Return the text of an exception for the log: the flow's own traceback, or the argument of an exit."""
    if isinstance(exc, SystemExit):
        return "" if not exc.code else f"SystemExit: {exc.code}\n"
    return plain_traceback(exc)


# --- one run -----------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """Runs the cells of one notebook in order."""

    nb_man: NotebookExecutionManager
    shell: FlowShell
    outputs: Outputs
    capture: capturing.Capture
    observer: Observer | None
    project_root: str | Path | None
    echo: _Echo

    def __post_init__(self) -> None:
        self.source = source_of(self.nb_man.nb)
        self.lines = self._read_source()
        self.total = len(code_cells(self.nb_man.nb))

    def all_cells(self) -> None:
        number = 0
        for index, cell in enumerate(self.nb_man.nb.cells):
            counted = is_executed(cell) and INJECTED not in tags(cell)
            number += counted
            if not self._cell(cell, index, number if counted else 0):
                break
        self.nb_man.nb.metadata["language_info"] = _language_info()

    def _cell(self, cell: NotebookNode, index: int, number: int) -> bool:
        """Run a cell and report it to papermill. Returns whether the next cell may run."""
        finished = False
        try:
            self.nb_man.cell_start(cell, index)
            finished = not is_executed(cell) or self._execute(cell, number)
        finally:
            if not finished:
                self.nb_man.cell_exception(cell, cell_index=index)
            self.nb_man.cell_complete(cell, cell_index=index)
        return finished

    def _execute(self, cell: NotebookNode, number: int) -> bool:
        place = self._place_of(cell)
        if number and self.observer:
            self.observer.cell_started(number, self.total, place.line if place and self.lines else None)

        def save() -> None:
            if self._is_autosave_due():
                cell.outputs = self.outputs.collect()
                self.nb_man.autosave_cell()

        with self.capture.redirected():
            self.capture.begin()
            self.outputs.on_output = save
            cell.execution_count = self.shell.execution_count
            try:
                error = self.shell.run_flow_cell(cell.source, place)
            finally:
                self.outputs.on_output = lambda: None
                cell.outputs = self.outputs.collect()
        self.echo.cell(cell)
        if error is not None and "raises-exception" not in tags(cell):
            self._tell(number, error)
            return False
        if number and self.observer:
            self.observer.cell_finished(number)
        return True

    def _is_autosave_due(self) -> bool:
        """Decide as papermill does, before the outputs are collected for a save."""
        every = self.nb_man.autosave_cell_every
        if not every or threading.current_thread() is not threading.main_thread():
            return False
        waited: float = (self.nb_man.now() - self.nb_man.last_save_time).total_seconds()
        return bool(waited >= every)

    def _tell(self, number: int, error: BaseException) -> None:
        if self.observer is None:
            return
        if isinstance(error, SystemExit):
            code, text = exit_code_of(error)
            line = line_in_source(error, self.source) if self.source else None
            self.observer.exited(number, code, text, line)
            return
        failure = failure_of(error, source=self.source, project_root=self.project_root, cell=number or None)
        self.observer.failed(number, error, failure)

    def _place_of(self, cell: NotebookNode) -> Place | None:
        from ductaflow.notebook.shell import Place, know_source

        if INJECTED in tags(cell):
            know_source(INJECTED_NAME, cell.source)
            return Place(INJECTED_NAME, 1, cell.source)
        line = cell_line(cell)
        # an executed notebook may run again after its flow was edited: no line is better than a wrong one
        if self.source is None or line is None or not stands_at(cell.source, self.lines, line):
            return None
        return Place(str(self.source), line, cell.source)

    def _read_source(self) -> list[str]:
        from ductaflow.notebook.shell import know_source

        if self.source is None or self.source.suffix == ".ipynb":
            return []
        try:
            text = self.source.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            return []
        know_source(str(self.source), text)
        return text.split("\n")


@dataclass(frozen=True, slots=True)
class _Echo:
    """Papermill's options that repeat what a cell shows."""

    log_output: bool
    stdout_file: TextIO | None
    stderr_file: TextIO | None
    log: ClassVar = logging.getLogger("papermill")

    def cell(self, cell: NotebookNode) -> None:
        if self.log_output or self.stdout_file or self.stderr_file:
            from papermill.clientwrap import PapermillNotebookClient

            for output in cell.outputs:
                # its rule, which looks at nothing but the fields of this class
                PapermillNotebookClient.log_output_message(self, output)


# --- notebooks ---------------------------------------------------------------------------------------------


def _language_info() -> dict[str, object]:
    """Return the metadata that a kernel of this interpreter would write."""
    return {
        "codemirror_mode": {"name": "ipython", "version": sys.version_info[0]},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": sys.version.split()[0],
    }
