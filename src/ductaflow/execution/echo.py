"""Shows the log of a run on the console while it grows, indented inside a build."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ductaflow.common.files import regular_file
from ductaflow.common.text import begun_at_end, show_on_console
from ductaflow.store.logs import is_frame_line
from ductaflow.store.spec import RunSpec

#: How often we look at a log, and at a stop flag, in seconds.
POLL_SECONDS = 0.05
_CHUNK = 1 << 16
Show = Callable[[str], None]


@contextlib.contextmanager
def shown_while_it_grows(log: Path, show: Show) -> Iterator[None]:
    """Show what is added to a log, in a thread."""
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(log, show, over), name="log-tail", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _follow(log: Path, show: Show, over: threading.Event) -> None:
    file: BinaryIO | None = None
    kept, is_over = "", False
    with contextlib.ExitStack() as stack:
        while not is_over:
            is_over = over.wait(POLL_SECONDS)
            if file is None and (opened := _opened(log)):
                file = stack.enter_context(opened)
            while file is not None and (chunk := file.read(_CHUNK)):
                text = kept + chunk.decode("utf-8", "replace")
                end = len(text) - begun_at_end(text)
                kept = text[end:]
                show(text[:end])
    if kept:
        show(kept)


def _opened(log: Path) -> BinaryIO | None:
    """Open a log; None while it is not there, or a flow has put something else in its place."""
    try:
        return regular_file(log, follow=False)
    except OSError:
        return None


class IndentedLines:
    """Shows a flow's log inside the log of its build: indented, without header and closing line."""

    def __init__(self, spec: RunSpec, show: Show = show_on_console) -> None:
        self._spec = spec
        self._show = show
        self._rest = ""

    def __call__(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        shown = [self._indent(line) for line in lines]
        if len(self._rest) > _CHUNK:
            # A very long line is passed on in pieces.
            shown.append(self._rest)
            self._rest = ""
        if text := "".join(shown):
            self._show(text)

    def _indent(self, line: str) -> str:
        if is_frame_line(line, self._spec.title):
            return ""
        return f"  {line}\n"

    def close(self) -> None:
        if self._rest:
            self._show(self._indent(self._rest))
