"""`--pdb` and `--trace`: the flow runs in this process, and the debugger stops in the flow's own frame.

pytest itself would stop where the plugin raises the failure. So the plugin's own debugger watches the run,
and the failure tells pytest that the person has already seen it.
"""

from __future__ import annotations

import bdb
import os
import pdb
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import CodeType, FrameType, TracebackType
from typing import TextIO, cast

import pytest

from ductaflow.common.text import first_line
from ductaflow.execution.inplace import run_here
from ductaflow.store.result import Result
from ductaflow.store.spec import RunSpec
from pytest_ductaflow.pytest_hooks import without_capture


def run_watched(spec: RunSpec, code: CodeType, config: pytest.Config, *, is_expected_red: bool) -> Result:
    """Run a flow in this process, with its output on the terminal, and stop where it fails.

    Args:
        code: the flow, from `ductaflow.execution.inplace.code_to_watch`.
        is_expected_red: `_run.xfail` expects a failure, so do not stop at it.

    Raises:
        pytest.exit.Exception: the person left the debugger with `quit`; the result is still written.
        DuctaflowError: the run could not start.
    """
    with without_capture(config):
        return run_here(spec, code, _Debugging(config, spec.source, is_expected_red=is_expected_red))


class _Debugging:
    """Watches one run (`ductaflow.execution.inplace.Watcher`)."""

    def __init__(self, config: pytest.Config, source: str, *, is_expected_red: bool) -> None:
        self._config = config
        self._source = source
        self._console = sys.stdout
        self._stops_at_once = bool(config.getoption("trace"))
        self._stops_at_failure = bool(config.getoption("usepdb")) and not is_expected_red

    def execute(self, code: CodeType, namespace: dict[str, object]) -> None:
        """Execute a flow; its `breakpoint()` and `pdb.set_trace()` stop in the flow."""
        with self._hooks():
            if not self._stops_at_once:
                exec(code, namespace)
                return
            debugger = self._debugger("runs the flow")
            debugger.reset()
            sys.settrace(debugger.trace_dispatch)
            try:
                exec(code, namespace)
            finally:
                sys.settrace(None)

    def look(self, exc: BaseException, trace: TracebackType | None) -> None:
        """Stop in the frame where the flow failed; leave the session if the person quits."""
        if isinstance(exc, bdb.BdbQuit):
            pytest.exit("Quitting debugger")
        if not self._stops_at_failure or trace is None:
            return
        debugger = self._debugger(f"{type(exc).__name__}: {first_line(str(exc)) or 'no message'}")
        debugger.reset()
        debugger.interaction(None, trace)
        self._config.hook.pytest_leave_pdb(config=self._config, pdb=debugger)
        if debugger.quitting:
            pytest.exit("Quitting debugger")

    def _debugger(self, header: str) -> pdb.Pdb:
        writer = self._config.get_terminal_writer()
        writer.line()
        writer.sep(">", f"PDB {header}")
        made = _stopping_at(self._source, _class_of(self._config), self._console)
        with redirect_stdout(self._console):
            debugger = made()
        self._config.hook.pytest_enter_pdb(config=self._config, pdb=debugger)
        return debugger

    def _set_trace(self, *, header: str | None = None, **_: object) -> None:
        frame: FrameType = sys._getframe(1)
        self._debugger(header or "set_trace").set_trace(frame)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Handle the flow's own breakpoints: pytest's handler would take the streams away from the run."""
        before = sys.breakpointhook, pdb.set_trace
        # a debugger that is attached has a hook of its own
        if "PYTHONBREAKPOINT" not in os.environ and sys.breakpointhook is sys.__breakpointhook__:
            sys.breakpointhook = self._set_trace
        pdb.set_trace = self._set_trace
        try:
            yield
        finally:
            sys.breakpointhook, pdb.set_trace = before


def _class_of(config: pytest.Config) -> type[pdb.Pdb]:
    """Return the debugger that `--pdbcls` names, or Python's own."""
    given = config.getoption("usepdb_cls")
    if not given:
        return pdb.Pdb
    try:
        return cast("type[pdb.Pdb]", pkgutil.resolve_name(":".join(given)))
    except (ImportError, AttributeError) as exc:
        raise pytest.UsageError(f"--pdbcls: could not import {':'.join(given)}: {exc}") from exc


def _stopping_at(source: str, base: type[pdb.Pdb], console: TextIO) -> type[pdb.Pdb]:
    """Return a debugger that opens a failure at the flow's frame; `down` leads to the code it called."""

    class AtFlow(base):  # type: ignore[misc, valid-type]
        def interaction(self, *args: object, **kwargs: object) -> None:
            # A person's commands do not belong in the log.
            with redirect_stdout(console):
                super().interaction(*args, **kwargs)

        def get_stack(
            self, f: FrameType | None, t: TracebackType | None
        ) -> tuple[list[tuple[FrameType, int]], int]:
            stack, index = super().get_stack(f, t)
            places = [n for n, (frame, _) in enumerate(stack) if frame.f_code.co_filename == source]
            return stack, places[-1] if t is not None and places else index

    return AtFlow
