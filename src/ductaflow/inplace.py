"""A run in the very process that a person watches: under a debugger, a profiler, `python -i`.

The result is written when that process ends. It is best effort, and says so: a kill, and what subprocesses
print, is not seen by anybody.
"""

from __future__ import annotations

import ast
import atexit
import io
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from ductaflow.actions import without_commands
from ductaflow.child import exit_code_of
from ductaflow.engine import failure_of, line_in_source
from ductaflow.launch import show_on_console
from ductaflow.record import begin
from ductaflow.spec import RunSpec
from ductaflow.supervise import ChildEnd, claim_folder, conclude, keep, what_was_told, write_beginning
from ductaflow.verdict import Told
from ductaflow.watch import Watch


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
        from ductaflow.notebook import cell_lines

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
