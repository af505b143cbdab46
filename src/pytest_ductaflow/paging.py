"""When the status page of a session is begun: at once, or when it is known that something runs.

A session that runs only what changed may have thousands of instances and nothing to do. To show each of them
first as planned and then as unchanged would take most of its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

from ductaflow.report import Entry, LiveReport

#: Seconds without news after which something must be running, which a person may want to see.
QUIET_SECONDS = 1.0


class Page:
    """The status page of one runs folder.

    Args:
        report: what keeps the page.
        held: begin it only with the first result of a run, when there has been no news for a second, or at
            the end.
    """

    def __init__(self, report: LiveReport, *, held: bool) -> None:
        self._report = report
        self._held = held
        self._entries: dict[str, Entry] = {}
        self._news = time.monotonic()
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()

    def expect(self, entries: Iterable[Entry]) -> None:
        """Show what is planned."""
        with self._lock:
            if not self._held:
                self._report.expect(entries)
                return
            self._entries = {entry.result.id: entry for entry in entries}
            self._watch()

    def update(self, entry: Entry) -> None:
        """Show what came of an instance."""
        with self._lock:
            self._news = time.monotonic()
            if self._held and not entry.result.run_id:
                self._entries[entry.result.id] = entry
                return
            self._begin()
            self._report.update(entry)

    def close(self) -> Path:
        """Write the final page and give its path.

        Raises:
            DuctaflowError: it cannot be written.
        """
        with self._lock:
            self._begin()
            return self._report.close()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            self._held = False
            self._report.expect(self._entries.values())
            self._entries.clear()

    def _watch(self) -> None:
        self._timer = threading.Timer(QUIET_SECONDS, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            if not self._held:
                return
            if time.monotonic() - self._news >= QUIET_SECONDS:
                self._begin()
            else:
                self._watch()
