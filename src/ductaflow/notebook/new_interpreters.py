"""Processes that a flow starts as new interpreters: `spawn`, and `forkserver`, the default from Python 3.14.

Such a process runs the file of the program again, as `__mp_main__`, to have the functions that it defines.
Here it runs the flow only when it is asked for one of them (`spawned_main`): most pools are of libraries that
bring their own, such as a Dask cluster, and need no guard.

    if __name__ == "__main__":              the flow can run again there: its functions work in the pool
        Pool(2).map(function, data)
    Pool(2).map(function, data)             it would start a pool in each process: an error at once

It depends on private parts of `multiprocessing`, which no other module touches and which
`tests/notebook/test_new_interpreters.py` names. Since Python 3.4: `spawn.get_preparation_data`, which the
processes look up in their module, `process._children`, and `process.current_process()._inheriting`, for which
a new process is refused. Since 3.8: `reducer_override`.
"""

from __future__ import annotations
import __future__

import ast
import functools
import json
import linecache
import operator
import os
import pickle
import re
import sys
import tempfile
from itertools import pairwise
from multiprocessing import context, process, reduction, spawn
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ductaflow.common.paths import TEMP_PREFIX
from ductaflow.notebook.source import cell_line, code_cells, load_notebook, parameters_cell

#: Names the file for the processes of this run: the flow, and the config that was put into it.
_FLOW = "DUCTAFLOW_SPAWNED_FLOW"
_FUTURE = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
_MARKER = re.compile(r"# %%(?:\s|$)")
_TAGGED = re.compile(r"""# %%.*\btags"?\s*[:=]\s*\[[^]]*["']parameters["']""")
_SPAWNED_MAIN = str(Path(__file__).with_name("spawned_main.py"))
_WAY_OUT = (
    'Put it into a module of the project, guard the call with `if __name__ == "__main__":`, '
    'or use multiprocessing.get_context("fork").'
)


class NewInterpreters:
    """The rule for the new interpreters of one flow.

    Args:
        source: the file of the flow.
        with_config: whether the config was put in behind the parameters cell.
    """

    def __init__(self, source: Path, *, with_config: bool) -> None:
        self._source = str(source)
        self._with_config = with_config
        self._file: Path | None = None
        self._is_guarded = True
        self._prepare = spawn.get_preparation_data

    def __enter__(self) -> NewInterpreters:
        """Give the main module the file of the flow, and look after the processes that it starts."""
        main = sys.modules["__main__"]
        if not hasattr(main, "__file__"):
            main.__file__ = self._source
        spawn.get_preparation_data = self._preparation
        pickler: Any = reduction.ForkingPickler
        pickler.reducer_override = lambda _, value: self._refuse_or_leave(value)
        return self

    def __exit__(self, *_: object) -> None:
        """Look after nothing any more, and remove the file for the processes."""
        spawn.get_preparation_data = self._prepare
        pickler: Any = reduction.ForkingPickler
        del pickler.reducer_override
        if sys.modules.get("__mp_main__") is sys.modules["__main__"]:
            # it would keep the flow's variables alive
            del sys.modules["__mp_main__"]
        if self._file is not None:
            self._file.unlink(missing_ok=True)
            os.environ.pop(_FLOW, None)

    def _preparation(self, name: str) -> dict[str, Any]:
        """Return what a new process is told; called in the cell, or in a thread of a pool, that starts it."""
        told: dict[str, Any] = self._prepare(name)
        if told.get("init_main_from_path") == os.path.normpath(self._source):
            told["init_main_from_path"] = _SPAWNED_MAIN
            # the module of what comes back
            sys.modules["__mp_main__"] = sys.modules["__main__"]
            guarded = _is_guarded()
            self._is_guarded = self._is_guarded if guarded is None else guarded
            if self._file is None:
                self._write_file()
        return told

    def _write_file(self) -> None:
        about: dict[str, object] = {"source": self._source}
        config = getattr(sys.modules["__main__"], "config", None)
        if self._with_config and isinstance(config, dict):
            about["config"] = config
        handle, name = tempfile.mkstemp(prefix=TEMP_PREFIX, suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(about, file, default=str)
        self._file = Path(name)
        os.environ[_FLOW] = name

    def _refuse_or_leave(self, value: object) -> Any:
        """Refuse what only the flow has, on its way to a process that cannot get it."""
        is_of_flow = isinstance(value, FunctionType | type) and value.__module__ == "__main__"
        if is_of_flow and not self._is_guarded and _goes_to_new_interpreter():
            raise pickle.PicklingError(
                f"{getattr(value, '__qualname__', value)!r} is defined in the flow, and a new process "
                f"(spawn, forkserver) would have to run the flow again to have it. {_WAY_OUT}"
            )
        return NotImplemented


def _goes_to_new_interpreter() -> bool:
    """Whether what is pickled now is for a process that is, or will be, a new interpreter."""
    if context.get_spawning_popen() is not None:
        return True
    living: set[Any] = set(getattr(process, "_children", ()))
    return bool(living) and all(getattr(child, "_start_method", "fork") != "fork" for child in living)


def _is_guarded() -> bool | None:
    """Whether the line of the flow that is executed is behind the guard; None in a thread of a library."""
    names = vars(sys.modules["__main__"])
    frame, code, line = sys._getframe(), None, 0
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name.startswith(("<module>", "<cell line")):
            code, line = frame.f_code, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return None if code is None else _is_behind_guard(code, line)


def _is_behind_guard(code: CodeType, line: int) -> bool:
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        # it has magics: no plain interpreter can run it
        return False
    guards = (node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_guard(node.test))
    return any(node.body[0].lineno <= line <= (node.body[-1].end_lineno or line) for node in guards)


def _is_guard(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_is_guard(value) for value in test.values)
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return False
    sides = {ast.unparse(test.left), ast.unparse(test.comparators[0])}
    return sides == {"__name__", "'__main__'"}


# --- in the new process ------------------------------------------------------------------------------------


def run_flow_again(main: ModuleType) -> None:
    """Run the flow in the main module of a new interpreter, with its config."""
    about = json.loads(Path(os.environ[_FLOW]).read_text(encoding="utf-8"))
    source, names = about["source"], vars(main)
    names.update(__file__=source, __name__="__mp_main__")
    # whoever starts a process now would do so in each of them
    own: Any = process.current_process()
    was_inheriting = getattr(own, "_inheriting", False)
    own._inheriting = True
    try:
        flags = 0
        for number, piece in enumerate(_around_config(Path(source))):
            if number == 1 and "config" in about:
                names["config"] = about["config"]
            code = compile(piece, source, "exec", flags, dont_inherit=True)
            flags = code.co_flags & _FUTURE
            exec(code, names)
    finally:
        own._inheriting = was_inheriting


def _around_config(source: Path) -> tuple[str, str]:
    """Return a flow as plain Python, before and behind the place of its config, in its lines."""
    if source.suffix == ".py":
        # without the notebook libraries, which take a second to import
        lines = source.read_text(encoding="utf-8-sig").splitlines()
        cells = [place for place, line in enumerate(lines) if _MARKER.match(line)] + [len(lines)]
        tagged = [end for begin, end in pairwise(cells) if _TAGGED.match(lines[begin])]
        end = tagged[0] if tagged else 0
        return "\n".join(lines[:end]), "\n" * end + "\n".join(lines[end:])
    notebook = load_notebook(source)
    found = parameters_cell(notebook)
    halves: tuple[list[str], list[str]] = ([], [])
    is_before = found is not None
    for cell in code_cells(notebook):
        lines = halves[0 if is_before else 1]
        lines += [""] * ((cell_line(cell) or 1) - 1 - len(lines))
        lines += cell.source.split("\n")
        is_before = is_before and cell is not found
    return "\n".join(halves[0]), "\n".join(halves[1])
