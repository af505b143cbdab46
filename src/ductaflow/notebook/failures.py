"""Where and how a cell failed: the exception, the flow's own traceback, and the source lines around it."""

from __future__ import annotations

import linecache
import sys
import traceback
from pathlib import Path
from types import FrameType

from ductaflow.common.errors import Failure, SourceLine
from ductaflow.common.text import strip_ansi

#: Source lines shown above and below the failing one.
CONTEXT_LINES = 2
_INTERNAL_PACKAGES = ("IPython", "ipykernel", "papermill", "ductaflow")


def failure_of(
    exc: BaseException,
    *,
    source: Path | None = None,
    project_root: str | Path | None = None,
    cell: int | None = None,
) -> Failure:
    """Describe where and how a flow failed.

    Args:
        exc: the exception that it raised.
        source: the flow's file.
        project_root: `Failure.file` is relative to it if the file lies inside.
        cell: number of the code cell, from 1.
    """
    described = plain_traceback(exc)
    line = line_in_source(exc, source) if source else None
    return Failure(
        file=shown_path(source, project_root) if source else None,
        line=line,
        cell=cell,
        ename=type(exc).__name__,
        evalue=strip_ansi(text_of(exc)),
        traceback=described,
        source=lines_around(str(source), line) if line else (),
    )


def line_in_source(exc: BaseException, source: Path) -> int | None:
    """Return the line of a flow's file that was executing, or that has the syntax error."""
    name = str(source)
    if isinstance(exc, SyntaxError) and exc.filename == name:
        return exc.lineno
    frames = traceback.walk_tb(exc.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == name]
    return lines[-1] if lines else None


def plain_traceback(exc: BaseException) -> str:
    """Return the traceback without the frames that run the flow, and without colours."""
    described = traceback.TracebackException.from_exception(exc)
    _drop_internal_frames(described)
    return strip_ansi("".join(described.format()))


def _drop_internal_frames(described: traceback.TracebackException) -> None:
    modules = (sys.modules.get(name) for name in _INTERNAL_PACKAGES)
    files = (getattr(module, "__file__", None) for module in modules)
    internal = ("<frozen runpy>", *(file.removesuffix("__init__.py") for file in files if file))
    todo, seen = [described], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.stack[:] = [frame for frame in one.stack if not frame.filename.startswith(internal)]
        todo += [next_one for next_one in (one.__cause__, one.__context__) if next_one is not None]
        todo += one.exceptions or []


def is_shown_as_failure(caller: FrameType) -> bool:
    """Whether who shows the exception that is handled is IPython itself, as for a cell or `%run`.

    What a flow or a library shows by itself is no failure, nor is what `%tb` shows once more.
    """
    by_ipython = str(caller.f_globals.get("__name__")).startswith("IPython.")
    return by_ipython and caller.f_code.co_name != "tb"


def text_of(exc: BaseException) -> str:
    """Return the text of an exception, whatever its own `__str__` does."""
    try:
        return str(exc)
    except BaseException as broken:
        # a SystemExit from it would end the run as if the flow had called `sys.exit`
        return f"<{type(exc).__name__} whose text raises {type(broken).__name__}>"


def shown_path(source: Path, project_root: str | Path | None) -> str:
    """Return a file's path as people know it: relative to the project if it lies inside."""
    if project_root is not None and source.is_relative_to(project_root):
        return source.relative_to(project_root).as_posix()
    return str(source)


def lines_around(filename: str, line: int) -> tuple[SourceLine, ...]:
    """Return the lines of a file around one line, as a `Failure` holds them."""
    lines = linecache.getlines(filename)
    numbers = range(max(1, line - CONTEXT_LINES), min(len(lines), line + CONTEXT_LINES) + 1)
    return tuple(SourceLine(line=number, text=lines[number - 1].rstrip("\n")) for number in numbers)


def exit_code_of(exc: SystemExit) -> tuple[int, str]:
    """Return exit code and text of a SystemExit, as the interpreter understands it; a number has no text."""
    if exc.code is None:
        return 0, ""
    if isinstance(exc.code, int):
        return int(exc.code), ""
    return 1, str(exc.code)
