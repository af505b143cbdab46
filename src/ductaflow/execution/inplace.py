"""A run in the very process that a person watches: under a debugger, a profiler, `python -i`.

`RunInPlace` is a script that was started so; its result is written when that process ends. `run_here` is one
run of a session that goes on afterwards. Both are best effort, and say so: a kill, and what subprocesses
print, is not seen by anybody.
"""

from __future__ import annotations

import ast
import atexit
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import Any, Protocol, TextIO

from ductaflow.common.files import is_hidden
from ductaflow.common.text import show_on_console, without_commands
from ductaflow.execution.audit import Watch
from ductaflow.execution.child import exit_code_of, stand_in_project
from ductaflow.execution.supervise import (
    ChildEnd,
    claim_folder,
    conclude,
    keep,
    what_was_told,
    write_beginning,
)
from ductaflow.notebook.failures import failure_of, line_in_source
from ductaflow.store.record import begin
from ductaflow.store.result import Result
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import Told

#: Modules that are none of a project's, also where they lie in one.
_NOT_FLOWS = ("__main__", "ductaflow", "pytest_ductaflow")


class _Tee(io.TextIOBase):
    """Writes to the console and to the log."""

    def __init__(self, console: Any, log: Any) -> None:
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


class RunInPlace:
    """A run in the process that the person watches; the result is written when that process ends.

    What the interpreter does not tell anybody is lost: a kill, and what subprocesses print.
    """

    def __init__(self, spec: RunSpec, reason: str) -> None:
        self.spec = spec
        self.told = Told(notes=[f"best effort: it ran in the process of {reason}"])
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()
        self.claim = claim_folder(spec, self.started)
        write_beginning(spec)
        self.begun = begin(spec)
        self.exit_code = 0
        self.exit = sys.exit
        self.hook = sys.excepthook

    def begin(self) -> dict[str, Any]:
        """Change to the run folder, keep what is printed from here on, and give the config."""
        from ductaflow.notebook.source import cell_lines

        self.spec = replace(self.spec, events=str(self.claim.events_file))
        Path(self.spec.events).write_bytes(b"")
        os.environ.update(self.spec.environment())
        self.frame = self._frame_of_script()
        self.cells = cell_lines(Path(self.spec.source))
        self.told.total = len(self.cells)
        self.log = self.spec.log.open("a", encoding="utf-8", errors="backslashreplace")
        sys.stdout, sys.stderr = _Tee(sys.stdout, self.log), _Tee(sys.stderr, self.log)
        sys.excepthook, sys.exit = self._excepthook, self._exit  # type: ignore[assignment]
        atexit.register(self._end)
        os.chdir(self.spec.folder)
        self.watch = Watch(self.spec)
        self.watch.start(is_new=False)
        print(f"runs in this process for {self.told.notes[0].rpartition(' of ')[2]}: {self.spec.folder}")
        return self.spec.config

    def _frame_of_script(self) -> FrameType | None:
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename != self.spec.source:
            frame = frame.f_back
        return frame

    def _excepthook(self, kind: type[BaseException], exc: BaseException, trace: Any) -> None:
        self.hook(kind, exc, trace)
        source = Path(self.spec.source)
        self.told.failure = failure_of(exc, source=source, project_root=self.spec.project_root)
        self.told.cell, self.told.line = self._cell_at(line_in_source(exc, source)), self.told.failure.line
        self.told.run, self.exit_code = max((self.told.cell or 1) - 1, 0), 1

    def _exit(self, code: Any = None) -> None:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename != self.spec.source:
            frame = frame.f_back
        number, text = exit_code_of(SystemExit(code))
        cell = self._cell_at(frame.f_lineno)
        self.told.exit, self.told.run, self.exit_code = (number, text, cell), cell - 1, number
        self.exit(code)

    def _cells_run(self) -> int:
        """Cells that ran to their end, by where the script's own frame stands; a debugger may end it."""
        line = self.frame.f_lineno if self.frame is not None else None
        last = ast.parse(Path(self.spec.source).read_text(encoding="utf-8-sig")).body[-1]
        if line is None or line >= last.lineno:
            return self.told.total
        self.told.cell, self.told.line = self._cell_at(line), line
        return self.told.cell - 1

    def _cell_at(self, line: int | None) -> int:
        return sum(start <= line for start in self.cells) if line else 0

    def _end(self) -> None:
        if self.told.failure is None and self.told.exit is None:
            self.told.run = self._cells_run()
        self.told.executed = self.told.finished = True
        self.watch.stop()
        told = what_was_told(self.spec)
        self.told.children, self.told.reads = told.children, told.reads
        sys.stdout.flush()
        self.log.close()
        end = ChildEnd(self.exit_code, None)
        result = conclude(self.spec, self.claim, self.told, end, self.started, self.clock, self.begun)
        unwritten = keep(self.spec, result)
        self.claim.release(finished=unwritten is None)


# --- one run of a session that goes on ---------------------------------------------------------------------


class Watcher(Protocol):
    """The debugger of a person who watches a run."""

    def execute(self, code: CodeType, namespace: dict[str, Any]) -> None:
        """Execute a flow; what it raises comes out."""

    def look(self, exc: BaseException, trace: TracebackType | None) -> None:
        """Show a failed flow while its variables are there; `trace` begins in the flow's own file."""


def code_to_watch(spec: RunSpec) -> CodeType | None:
    """A flow as one piece of code under its true name and lines, with the config behind its parameters cell.

    None if it is no plain Python: another kind of notebook, another kernel, magics that are not commented, or
    a syntax error, about which the ordinary run says more.
    """
    from ductaflow.notebook.source import cell_line, load_notebook, parameters_cell

    if not spec.source.endswith(".py") or spec.engine == "kernel" or spec.kernel:
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


def _insert_config(tree: ast.Module, config: dict[str, Any], after: int) -> None:
    """Assign the config behind a line, and behind what has to be first in a file."""
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
    A time limit does not count, since a person looks. What the run changed in this process (directory,
    environment, path, streams, the project's own modules) is put back.

    Args:
        spec: what to run.
        code: from `code_to_watch`.
        watcher: executes it, and is called when it fails.

    Raises:
        DuctaflowError: the run could not start: somebody holds the folder.
    """
    return _RunHere(spec, watcher).run(code)


class _RunHere:
    def __init__(self, spec: RunSpec, watcher: Watcher) -> None:
        from ductaflow.notebook.source import cell_lines

        self.spec = spec
        self.watcher = watcher
        self.cells = cell_lines(Path(spec.source))
        self.told = Told(notes=["best effort: it ran in the process of a debugger"], total=len(self.cells))
        self.exit_code = 0
        self.looked = 0.0  # seconds that the person took

    def run(self, code: CodeType) -> Result:
        started, clock = datetime.now(UTC), time.monotonic()
        claim = claim_folder(self.spec, started)
        finished = False
        try:
            write_beginning(self.spec)
            begun = begin(self.spec)
            self.spec = replace(self.spec, events=str(claim.events_file))
            Path(self.spec.events).write_bytes(b"")
            try:
                with self.spec.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
                    self._execute(code, log)
            finally:
                # also when the person leaves the session from the debugger
                self.told.executed = self.told.finished = True
                told = what_was_told(self.spec)
                self.told.children, self.told.reads = told.children, told.reads
                end = ChildEnd(self.exit_code, None)
                result = conclude(self.spec, claim, self.told, end, started, clock + self.looked, begun)
                unwritten = keep(self.spec, result)
                finished = unwritten is None
        finally:
            claim.release(finished=finished)
        return replace(unwritten or result, folder=Path(self.spec.folder))

    def _execute(self, code: CodeType, log: TextIO) -> None:
        with _standing_in(self.spec, log) as namespace:
            try:
                self.watcher.execute(code, namespace)
                self.told.run = self.told.total
            except BaseException as exc:
                trace = self._trace_in_flow(exc)
                if self._note(exc.with_traceback(trace)):
                    self._look(exc, trace)

    def _look(self, exc: BaseException, trace: TracebackType | None) -> None:
        begun = time.monotonic()
        try:
            self.watcher.look(exc, trace)
        finally:
            self.looked = time.monotonic() - begun

    def _trace_in_flow(self, exc: BaseException) -> TracebackType | None:
        """The traceback without the frames of whoever executes the flow."""
        trace = exc.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != self.spec.source:
            trace = trace.tb_next
        return trace

    def _note(self, exc: BaseException) -> bool:
        """Keep how the flow ended; whether it failed."""
        source = Path(self.spec.source)
        line = line_in_source(exc, source)
        cell = sum(start <= line for start in self.cells) if line else 0
        self.told.cell, self.told.line, self.told.run = cell, line, max(cell - 1, 0)
        if isinstance(exc, SystemExit):
            code, text = exit_code_of(exc)
            self.told.exit, self.exit_code = (code, text, cell), code
            self.told.run += code == 0 and cell == self.told.total
            return code != 0
        failure = failure_of(exc, source=source, project_root=self.spec.project_root)
        self.told.failure, self.exit_code = failure, 1
        if isinstance(exc, KeyboardInterrupt):
            self.told.cause = "interrupted"
        print(failure.traceback, file=sys.stderr, end="")
        return True


@contextmanager
def _standing_in(spec: RunSpec, log: TextIO) -> Iterator[dict[str, Any]]:
    """Be the process of a flow for a while; gives the namespace that it runs in."""
    main = ModuleType("__main__")
    main.__file__ = spec.source
    vars(main)["display"] = _display
    folder, environment, path, argv = os.getcwd(), dict(os.environ), sys.path[:], sys.argv
    streams, former_main = (sys.stdout, sys.stderr), sys.modules["__main__"]
    # The flow imports the project's own modules anew, as in a process of its own.
    hidden = _taken_out(spec)
    # As a script has it: `load_cli_config` gives the config of the run, and reads no command line.
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
    """Take the project's own modules out of those that are loaded, and give them."""
    root = spec.project_root.rstrip(os.sep) + os.sep
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.startswith(root) or name.partition(".")[0] in _NOT_FLOWS:
            continue
        # an environment may lie inside of the project
        if not is_hidden(file.removeprefix(root)) and not file.startswith(sys.prefix + os.sep):
            found[name] = sys.modules.pop(name)
    return found


def _display(*objects: Any) -> None:
    """What every notebook has; shows text here."""
    from IPython.display import display

    display(*objects)  # type: ignore[no-untyped-call]
