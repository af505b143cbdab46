"""What the engine `kernel` does inside a Python kernel that has ductaflow, before the first cell."""

from __future__ import annotations

import atexit
import sys
from pathlib import Path
from typing import Any

from IPython import get_ipython

from ductaflow.notebook.failures import is_shown_as_failure, text_of
from ductaflow.notebook.new_interpreters import NewInterpreters


def begin(source: str) -> None:
    """Make the kernel run a flow as every engine does.

    Args:
        source: the file of the flow; the main module gets it as `__file__`.
    """
    interpreters = NewInterpreters(Path(source), with_config=True)
    interpreters.__enter__()
    atexit.register(interpreters.__exit__)
    _answer_shown_errors(get_ipython())


def _with_text(first: BaseException, last: BaseException | None) -> BaseException:
    """Return the first error of a cell, or one in its place if the kernel could not say its text."""
    try:
        str(first)
    except Exception:
        return last or RuntimeError(text_of(first))
    return first


def _answer_shown_errors(shell: Any) -> None:
    """Make the first error that IPython shows, also of `%run` and `%%time`, the error of its cell."""
    shown: list[BaseException | None] = []
    show = shell.showtraceback

    def showtraceback(*args: object, **options: object) -> None:
        if is_shown_as_failure(sys._getframe(1)):
            shown.append(sys.exc_info()[1])
        show(*args, **options)

    def answer(result: Any) -> None:
        if shown and shown[0] is not None:
            result.error_in_exec = _with_text(shown[0], result.error_in_exec)
        shown.clear()

    shell.showtraceback = showtraceback
    shell.events.register("post_run_cell", answer)
