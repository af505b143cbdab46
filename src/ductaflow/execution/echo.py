"""Shows the log of a run on the console while it grows, indented inside a build."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ductaflow.common.text import begun_at_end, show_on_console
from ductaflow.store.logs import is_frame_line
from ductaflow.store.spec import RunSpec

#: How often we look at a log, and at a stop flag, in seconds.
POLL_SECONDS = 0.05
_CHUNK = 1 << 16
Show = Callable[[str], None]


class LogTail:
    """Shows what is added to a log, in its own thread."""

    def __init__(self, log: Path, show: Show) -> None:
        self._log = log
        self._show = show
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log-tail", daemon=True)

    def __enter__(self) -> LogTail:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        file: BinaryIO | None = None
        kept = ""
        with contextlib.ExitStack() as stack:
            while True:
                last = self._stop.is_set()
                if file is None and self._log.exists():
                    file = stack.enter_context(self._log.open("rb"))
                while file is not None and (chunk := file.read(_CHUNK)):
                    text = kept + chunk.decode("utf-8", "replace")
                    end = len(text) - begun_at_end(text)
                    kept = text[end:]
                    self._show(text[:end])
                if last:
                    if kept:
                        self._show(kept)
                    return
                self._stop.wait(POLL_SECONDS)


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
        if is_frame_line(line, self._spec):
            return ""
        return f"  {line}\n"

    def close(self) -> None:
        if self._rest:
            self._show(self._indent(self._rest))
