"""A run in the process that a person watches: under a debugger, a profiler, `python -i`.

`RunInPlace` is for a script; its result is written when the process ends. `run_here` is one run of a session
that goes on afterwards. Both are best effort and say so: nobody sees a kill, or what subprocesses print.
"""

from __future__ import annotations

import ast
import atexit
import io
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import Any, Protocol, TextIO

from ductaflow.common.engines import engine_named
from ductaflow.common.errors import Failure
from ductaflow.common.files import is_hidden
from ductaflow.common.text import show_on_console, without_commands
from ductaflow.execution.audit import Watch
from ductaflow.execution.child import stand_in_project
from ductaflow.execution.recorded_run import RecordedRun
from ductaflow.notebook.failures import exit_code_of, failure_of, line_in_source
from ductaflow.store.metrics import recorder
from ductaflow.store.result import Result
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import ChildEnd, Told

#: Modules that do not belong to a project even if they lie in one.
_NOT_FLOWS = ("__main__", "ductaflow", "pytest_ductaflow")


class _Tee(io.TextIOBase):
    """Writes to the console and to the log."""

    def __init__(self, console: TextIO, log: TextIO) -> None:
        self._console = console
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        show_on_console(without_commands(text), self._console)
        return len(text)

    def flush(self) -> None:
        self._console.flush()

    def isatty(self) -> bool:
        return bool(self._console.isatty())

    def fileno(self) -> int:
        return int(self._console.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


class _InPlace:
    """A run in this process: how far it got, and the result."""

    def __init__(self, spec: RunSpec, reason: str) -> None:
        from ductaflow.notebook.source import cell_lines

        self._cells = cell_lines(Path(spec.source))
        note = f"best effort: it ran in the process of {reason}"
        self._told = Told(notes=[note], total=len(self._cells))
        self._exit_code = 0
        self.run = RecordedRun(spec)
        self.spec = self.run.spec

    def open_log(self) -> TextIO:
        return self.spec.log.open("a", encoding="utf-8", errors="backslashreplace")

    def _cell_at(self, line: int | None) -> int:
        return sum(start <= line for start in self._cells) if line else 0

    def _fail(self, exc: BaseException) -> Failure:
        """Note an exception of the flow."""
        source = Path(self.spec.source)
        failure = failure_of(exc, source=source, project_root=self.spec.project_root)
        line = line_in_source(exc, source)
        told = self._told
        told.failure, told.cell, told.line, self._exit_code = failure, self._cell_at(line), failure.line, 1
        told.run = max((told.cell or 1) - 1, 0)
        return failure

    def _exited(self, exc: SystemExit, line: int | None) -> None:
        """Note a `sys.exit` of the flow."""
        told = self._told
        self._exit_code, text = exit_code_of(exc)
        told.line, told.cell = line, self._cell_at(line)
        told.exit = self._exit_code, text, told.cell
        told.run = max(told.cell - 1, 0)

    def conclude(self, idle: float = 0.0) -> Result:
        self._told.executed = self._told.finished = True
        seen = self.run.told()
        self._told.children, self._told.reads = seen.children, seen.reads
        return self.run.conclude(self._told, ChildEnd(self._exit_code), idle=idle)


class RunInPlace(_InPlace):
    """A script in the process that a person watches; the result is written when that process ends."""

    def __init__(self, spec: RunSpec, reason: str) -> None:
        super().__init__(spec, reason)
        self._reason = reason
        self._exit = sys.exit
        self._hook = sys.excepthook

    def begin(self) -> dict[str, Any]:
        """Change to the run folder, keep what is printed from here on, and return the config."""
        os.environ.update(self.spec.environment())
        self._frame = self._frame_of_script(sys._getframe(1))
        self._log = self.open_log()
        sys.stdout, sys.stderr = _Tee(sys.stdout, self._log), _Tee(sys.stderr, self._log)
        sys.excepthook, sys.exit = self._excepthook, self._leave  # type: ignore[assignment]
        atexit.register(self._end)
        os.chdir(self.spec.folder)
        self._watch = Watch(self.spec)
        self._watch.start(is_new=False)
        print(f"runs in this process for {self._reason}: {self.spec.folder}")
        return dict(self.spec.config)

    def _frame_of_script(self, frame: FrameType | None) -> FrameType | None:
        while frame is not None and frame.f_code.co_filename != self.spec.source:
            frame = frame.f_back
        return frame

    def _excepthook(self, kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
        self._hook(kind, exc, trace)
        self._fail(exc)

    def _leave(self, code: str | int | None = None) -> None:
        frame = self._frame_of_script(sys._getframe(1))
        self._exited(SystemExit(code), frame.f_lineno if frame is not None else None)
        self._exit(code)

    def _cells_run(self) -> int:
        """Return the cells that ran to their end, by the line of the script's own frame.

        A debugger may end it anywhere.
        """
        line = self._frame.f_lineno if self._frame is not None else None
        last = ast.parse(Path(self.spec.source).read_text(encoding="utf-8-sig")).body[-1]
        if line is None or line >= last.lineno:
            return self._told.total
        self._told.cell, self._told.line = self._cell_at(line), line
        return self._told.cell - 1

    def _end(self) -> None:
        with self.run:
            if self._told.failure is None and self._told.exit is None:
                self._told.run = self._cells_run()
            self._watch.stop()
            sys.stdout.flush()
            self._log.close()
            self.conclude()


# --- one run of a session that goes on ---------------------------------------------------------------------


class Watcher(Protocol):
    """The debugger of a person who watches a run."""

    def execute(self, code: CodeType, namespace: dict[str, object]) -> None:
        """Execute a flow; what it raises comes out."""

    def look(self, exc: BaseException, trace: TracebackType | None) -> None:
        """Show a failed flow while its variables are there; `trace` begins in the flow's own file."""


def code_to_watch(spec: RunSpec) -> CodeType | None:
    """Compile a flow under its true name and lines, with the config after its parameters cell.

    None if it is not plain Python: another kind of notebook, another kernel, magics that are not commented,
    or a syntax error, for which an ordinary run has a better message.
    """
    from ductaflow.notebook.source import cell_line, load_notebook, parameters_cell

    if not spec.source.endswith(".py") or engine_named(spec.engine).has_kernel or spec.options.kernel:
        return None
    notebook = load_notebook(Path(spec.source))
    tagged = parameters_cell(notebook)
    after = (cell_line(tagged) or 1) + tagged.source.count("\n") if tagged is not None else 0
    try:
        tree = ast.parse(Path(spec.source).read_bytes(), spec.source)
        _insert_config(tree, spec.config, after)
        return compile(tree, spec.source, "exec", dont_inherit=True)
    except SyntaxError:
        return None


def _insert_config(tree: ast.Module, config: Mapping[str, object], after: int) -> None:
    """Assign the config after a line, and after what has to be first in a file."""
    (assignment,) = ast.parse(f"config = {config!r}").body
    for node in ast.walk(assignment):
        if isinstance(node, ast.expr | ast.stmt):
            node.lineno = node.end_lineno = max(after, 1)
            node.col_offset = node.end_col_offset = 0
    place = 0
    for number, node in enumerate(tree.body, start=1):
        is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if node.lineno <= after or is_future:
            place = number
    tree.body.insert(place, assignment)


def run_here(spec: RunSpec, code: CodeType, watcher: Watcher) -> Result:
    """Run a flow in this process, watched, into its run folder.

    It is plain Python, as in a script: the folder gets the config, the log and the result, but no notebook.
    There is no time limit, since a person looks. What the run changed in this process (directory,
    environment, path, streams, modules of the project) is restored.

    Raises:
        DuctaflowError: the run could not start: somebody holds the folder.
    """
    here = _RunHere(spec, watcher)
    with here.run:
        try:
            with here.open_log() as log:
                here.execute(code, log)
        finally:
            # Also if the person leaves the session from the debugger.
            result = here.conclude(here.looked)
    return result


class _RunHere(_InPlace):
    def __init__(self, spec: RunSpec, watcher: Watcher) -> None:
        super().__init__(spec, "a debugger")
        self._watcher = watcher
        self.looked = 0.0  # seconds that the person took

    def execute(self, code: CodeType, log: TextIO) -> None:
        with _standing_in(self.spec, log) as namespace:
            try:
                self._watcher.execute(code, namespace)
                self._told.run = self._told.total
            except BaseException as exc:
                trace = self._trace_in_flow(exc)
                if self._note(exc.with_traceback(trace)):
                    self._look(exc, trace)
            finally:
                recorder().end_run()

    def _look(self, exc: BaseException, trace: TracebackType | None) -> None:
        begun = time.monotonic()
        try:
            self._watcher.look(exc, trace)
        finally:
            self.looked = time.monotonic() - begun

    def _trace_in_flow(self, exc: BaseException) -> TracebackType | None:
        """Return the traceback without the frames of whoever executes the flow."""
        trace = exc.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != self.spec.source:
            trace = trace.tb_next
        return trace

    def _note(self, exc: BaseException) -> bool:
        """Note how the flow ended. Returns whether it failed."""
        told = self._told
        if isinstance(exc, SystemExit):
            self._exited(exc, line_in_source(exc, Path(self.spec.source)))
            told.run += self._exit_code == 0 and told.cell == told.total
            return self._exit_code != 0
        failure = self._fail(exc)
        if isinstance(exc, KeyboardInterrupt):
            told.cause = "interrupted"
        print(failure.traceback, file=sys.stderr, end="")
        return True


@contextmanager
def _standing_in(spec: RunSpec, log: TextIO) -> Iterator[dict[str, object]]:
    """Turn this process into the one of a flow for a while; gives the namespace that it runs in."""
    from IPython.display import display

    main = ModuleType("__main__")
    main.__file__ = spec.source
    vars(main)["display"] = display
    folder, environment, path, argv = os.getcwd(), dict(os.environ), sys.path[:], sys.argv
    streams, former_main = (sys.stdout, sys.stderr), sys.modules["__main__"]
    # The flow imports the modules of the project again, as in its own process.
    hidden = _taken_out(spec)
    # As for a script: `load_cli_config` returns the config of the run and reads no command line.
    os.environ.update(replace(spec, mode="script").environment())
    os.chdir(spec.folder)
    stand_in_project(spec)
    sys.modules["__main__"] = main
    sys.stdout, sys.stderr = _Tee(sys.stdout, log), _Tee(sys.stderr, log)
    watch = Watch(spec)
    watch.start()
    try:
        yield vars(main)
    finally:
        watch.stop()
        sys.stdout, sys.stderr = streams
        sys.modules["__main__"] = former_main
        sys.path[:], sys.argv = path, argv
        os.chdir(folder)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        _taken_out(spec)
        sys.modules.update(hidden)


def _taken_out(spec: RunSpec) -> dict[str, ModuleType]:
    """Remove the modules of the project from the loaded ones and return them."""
    root = spec.project_root.rstrip(os.sep) + os.sep
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.startswith(root) or name.partition(".")[0] in _NOT_FLOWS:
            continue
        # A virtual environment may lie inside the project.
        if not is_hidden(file.removeprefix(root)) and not file.startswith(sys.prefix + os.sep):
            found[name] = sys.modules.pop(name)
    return found
