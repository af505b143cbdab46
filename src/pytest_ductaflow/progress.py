"""The status line of a session in a terminal: progress, running items, time left.

    12/300  9 success, 1 warning, 2 error  about 4 min left  running: fit[EU_2030], fit[EU_2040] and 2 more
    12/300  9 ok 1 warn 2 err  ~4 min  fit[EU_2030] +3                       in less than 100 columns
    12/300  9 success  running: fit[EU_2030]  fit[US] waits for 3.0 GB of memory, of which 2.1 GB are free

It stands below what pytest writes. A thread draws it, since pytest itself waits for runs. Every write of
pytest passes through `StatusLine`, which first takes the line away: so pytest's own output stays as it is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from ductaflow.common.text import clean, duration, listed
from ductaflow.session.resources import RoomHere, waits_in_short
from ductaflow.session.scheduler import Estimate
from ductaflow.store.result import Status
from pytest_ductaflow.projects import Projects

#: Seconds between two looks at what has changed, and after which the line is drawn anew in any case.
TICK, REFRESH = 0.2, 1.0
MAX_RUNNING = 4
#: A narrower terminal gets the short form.
WIDE = 100
SHORT_WORDS = {
    Status.SUCCESS: "ok",
    Status.WARNING: "warn",
    Status.ERROR: "err",
    Status.BLOCKED: "blk",
    Status.NOT_RUN: "skip",
    Status.UNCHANGED: "same",
}
#: Text and markup.
Piece = tuple[str, dict[str, bool]]


class Progress:
    """The content of the line: counts, estimate, running names. Hooks write it, the drawing thread reads."""

    def __init__(self, nodeids: Sequence[str], estimate: Estimate) -> None:
        self._places = {nodeid: place for place, nodeid in enumerate(nodeids)}
        self._estimate = estimate
        self._lock = threading.Lock()
        self._done: set[str] = set()
        self._counted: dict[str, Status] = {}
        self._running: dict[str, float] = {}
        self._durations: dict[str, float] = {}
        self._waits = ""

    def wait(self, waits: Mapping[str, str]) -> None:
        """Something waits for room, by node ids, or nothing does."""
        short = waits_in_short({nodeid.rpartition("::")[2]: lack for nodeid, lack in waits.items()})
        with self._lock:
            self._waits = clean(short)

    def start(self, nodeid: str) -> None:
        """An item began."""
        with self._lock:
            self._running[nodeid] = time.monotonic()

    def report(self, report: pytest.TestReport, status: Status | None) -> None:
        """A phase of an item has ended; `status` is None for an ordinary test, or while it is not known."""
        status = status or _like(report)
        with self._lock:
            self._durations[report.nodeid] = self._durations.get(report.nodeid, 0.0) + report.duration
            if status:
                self._counted.setdefault(report.nodeid, status)

    def finish(self, nodeid: str) -> None:
        """An item has ended."""
        with self._lock:
            self._running.pop(nodeid, None)
            seconds = self._durations.pop(nodeid, 0.0)
            if nodeid in self._places and nodeid not in self._done:
                self._done.add(nodeid)
                status = self._counted.get(nodeid)
                ran = status is not None and status.is_verdict
                self._estimate.finish(self._places[nodeid], seconds if ran else 0.0)

    def left(self) -> float | None:
        """Return the seconds to the end; None if nothing is known."""
        with self._lock:
            return self._left(self._at_work())

    def _at_work(self) -> dict[str, float]:
        # An item with a status is done, although pytest still has to tear it down.
        return {id: since for id, since in self._running.items() if id not in self._counted}

    def _left(self, running: Mapping[str, float]) -> float | None:
        now = time.monotonic()
        return self._estimate.left([(self._places[nodeid], now - since) for nodeid, since in running.items()])

    def parts(self, room: int = WIDE) -> list[Piece]:
        """The line in pieces, each with its markup; names as far as there is room for them."""
        with self._lock:
            running = self._at_work()
            done = self._done | (self._counted.keys() & self._places.keys())
            counts = Counter(self._counted.values())
            left = self._left(running)
            total = f"{len(done)}/{len(self._places)}"
            waits = self._waits
        # The last column of a terminal stays empty.
        is_short = room < WIDE - 1
        pieces: list[Piece] = [(total, {"bold": True})]
        for status in (status for status in Status if counts[status]):
            pieces.append(("  " if len(pieces) == 1 else " " if is_short else ", ", {}))
            word = SHORT_WORDS[status] if is_short else status.word
            pieces.append((f"{counts[status]} {word}", {status.colour: True} if status.colour else {}))
        if left is not None:
            spelled = duration(left, rough=True)
            pieces.append((f"  ~{spelled}" if is_short else f"  about {spelled} left", {}))
        if running:
            names = [clean(nodeid.rpartition("::")[2]) for nodeid in running]
            left_over = room - sum(_width(text) for text, _ in pieces)
            pieces.append(
                (_some(names, left_over) if is_short else f"  running: {listed(names, MAX_RUNNING)}", {})
            )
        if waits:
            pieces.append((f"  {waits}", {}))
        return pieces


def _some(names: Sequence[str], room: int) -> str:
    """As many names as there is room for, and how many more there are; the first one in any case."""
    more = ""
    for count in range(min(len(names), MAX_RUNNING), 0, -1):
        more = f" +{len(names) - count}" if names[count:] else ""
        text = f"  {', '.join(names[:count])}{more}"
        if _width(text) <= room:
            return text
    # The number stays, which would be what is cut at the end of the line.
    return f"  {names[0][: max(1, room - len(more) - 3)]}…{more}"


def _like(report: pytest.TestReport) -> Status | None:
    """The status that an ordinary test counts as; None while it is not known."""
    if report.failed:
        return Status.ERROR
    if report.skipped:
        return Status.NOT_RUN
    return Status.SUCCESS if report.when == "call" else None


# --- the terminal ------------------------------------------------------------------------------------------


def is_watched(config: pytest.Config) -> bool:
    """Whether a person watches a terminal that can show the line."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # a reporter of another plugin has its own ways to show how far it is
    if type(reporter) is not pytest.TerminalReporter or reporter.verbosity < 0:
        return False
    debugs = config.getoption("usepdb", False) or config.getoption("trace", False)
    if config.getoption("capture") == "no" or debugs:
        return False
    if os.environ.get("CI") or os.environ.get("BUILD_NUMBER") or os.environ.get("TERM") in (None, "", "dumb"):
        return False
    # pytest's colours on Windows go through a translator that does not know these sequences
    return sys.platform != "win32" and bool(reporter.isatty)


class StatusLine:
    """Draws the progress below pytest's output in a terminal that `is_watched`, and keeps out of its way."""

    def __init__(self, config: pytest.Config, progress: Progress) -> None:
        self._writer = config.get_terminal_writer()
        self._progress = progress
        self._lock = threading.RLock()
        self._changed = threading.Event()
        self._ended = False
        self._column: int | None = None  # where pytest's cursor is while the line is drawn
        # Kept from the last write: while pytest writes, its writer counts ahead.
        self._written = self._writer.width_of_current_line
        self._encoding = sys.stdout.encoding
        # While a test runs, standard output is pytest's capture.
        self._terminal = os.dup(sys.stdout.fileno())
        self._write_through = self._writer.write
        self._writer.write = self._write  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._draw_on, name="status line", daemon=True)
        self._thread.start()

    def change(self) -> None:
        """The progress has changed."""
        self._changed.set()

    def close(self, *, erase: bool = True) -> None:
        """Stop drawing, and erase the line if the cursor is still where it was left."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if erase:
                self._erase()
            self._writer.write = self._write_through  # type: ignore[method-assign]
        self._changed.set()
        self._thread.join()
        os.close(self._terminal)

    def _write(self, msg: str, *, flush: bool = False, **markup: bool) -> None:
        """Write for pytest, without the line in the way."""
        with self._lock:
            self._erase()
            self._write_through(msg, flush=True, **markup)
            self._written = self._writer.width_of_current_line
        self._changed.set()

    def _draw_on(self) -> None:
        while not self._ended:
            self._changed.wait(REFRESH)
            self._changed.clear()
            with self._lock:
                if not self._ended:
                    self._draw()
            # Not after every letter that pytest writes.
            time.sleep(TICK)

    def _draw(self) -> None:
        width = self._written
        if width < 0:
            return  # control characters: nobody knows where the cursor is
        self._erase()
        columns = max(20, self._writer.fullwidth)
        column = width % columns if width % columns or not width else columns
        down, up = ("\r\n", f"\x1b[A\r\x1b[{column}C") if column else ("", "\r")
        self._put(f"{down}\x1b[K{self._text(columns - 1)}{up}")
        self._column = column

    def _text(self, room: int) -> str:
        text = ""
        for piece, markup in self._progress.parts(room):
            if _width(piece) > room:
                while piece and _width(piece) >= room:
                    piece = piece[:-1]
                return text + self._writer.markup(f"{piece}…", **markup)
            room -= _width(piece)
            text += self._writer.markup(piece, **markup)
        return text

    def _erase(self) -> None:
        if self._column is not None:
            column, self._column = self._column, None
            self._put(f"\r\n\x1b[K\x1b[A\r\x1b[{column}C" if column else "\r\x1b[K")

    def _put(self, text: str) -> None:
        data = text.encode(self._encoding or "ascii", "replace")
        while data:
            data = data[os.write(self._terminal, data) :]


def _width(text: str) -> int:
    """Upper bound of the columns of a text: a line that wraps would overwrite the output of pytest."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


class Live:
    """The status line of a session: none where nobody looks, or where no instance runs."""

    def __init__(self, config: pytest.Config, projects: Projects) -> None:
        self._config = config
        self._projects = projects
        self._progress: Progress | None = None
        self._line: StatusLine | None = None

    def expect(
        self, nodeids: Sequence[str], workers: int, room: Callable[[Sequence[str]], RoomHere] | None = None
    ) -> None:
        """Set what will run, on how many workers, in which room. Every worker calls it; one call counts."""
        if self._progress or not nodeids or not is_watched(self._config):
            return
        edges = self._projects.edges(nodeids)
        if any(upstreams is not None for upstreams in edges):
            seconds = self._projects.seconds(nodeids)
            parts = room(nodeids).parts() if room else ()
            parts = [max(part, 1 / workers) for part in parts]
            estimate = Estimate([upstreams or () for upstreams in edges], seconds, workers, parts)
            self._progress = Progress(nodeids, estimate)

    def start(self, nodeid: str) -> None:
        """An item began; with the first one the line appears."""
        if self._progress:
            self._progress.start(nodeid)
            self._line = self._line or StatusLine(self._config, self._progress)
            self._line.change()

    def wait(self, waits: Mapping[str, str]) -> None:
        """See `Progress.wait`."""
        if self._progress:
            self._progress.wait(waits)

    def left(self) -> float | None:
        """Return the seconds that the session may still take; None if nothing is known."""
        return self._progress.left() if self._progress else None

    def report(self, report: pytest.TestReport, status: Status | None) -> None:
        """See `Progress.report`."""
        if self._progress:
            self._progress.report(report, status)

    def finish(self, nodeid: str) -> None:
        """An item has ended."""
        if self._progress:
            self._progress.finish(nodeid)

    def close(self) -> None:
        """Erase the line at the end of the session."""
        if self._line:
            self._line.close()

    def abandon(self) -> None:
        """A debugger has the terminal, and has written over the line."""
        if self._line:
            self._line.close(erase=False)
