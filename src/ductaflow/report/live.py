"""Writing the report: whole or not at all, at the end of a session and, sparingly, while it runs."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ductaflow.errors import DuctaflowError
from ductaflow.layout import REPORT_HTML, REPORT_JSON
from ductaflow.report.data import Entry, instance_data, iter_earlier, report_head, utc_now
from ductaflow.report.page import Row, page_chunks, render_html, render_row
from ductaflow.result import Status, write_atomic

#: The next write is not before this many times the length of the last one: 2 % of the time at most.
RESTS = 50


def write_report(data: Mapping[str, Any], runs_dir: Path) -> Path:
    """Write a report and its JSON twin into `runs_dir`, each replaced whole or not at all.

    Args:
        data: what `build_report` gave.
        runs_dir: where to; made if it is not there.

    Returns:
        The path of the page.

    Raises:
        DuctaflowError: it cannot be written; an older report is still there.
    """
    instances = (json.dumps(instance, allow_nan=False) for instance in data["instances"])
    return _write(runs_dir, _twin_chunks(data, instances), [render_html(data)])


def _twin_chunks(head: Mapping[str, Any], instances: Iterable[str]) -> Iterator[str]:
    """The JSON twin in ASCII, one instance a line."""
    frame = json.dumps({**head, "instances": []}, allow_nan=False)
    yield frame.removesuffix("]}")
    separator = "\n"
    for instance in instances:
        yield separator + instance
        separator = ",\n"
    yield "\n]}\n"


def _write(runs_dir: Path, twin: Iterable[str], page: Iterable[str]) -> Path:
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        write_atomic(runs_dir / REPORT_JSON, twin)
        write_atomic(runs_dir / REPORT_HTML, page)
    except OSError as exc:
        raise DuctaflowError(
            f"{runs_dir / REPORT_HTML}: the report cannot be written: {exc.strerror or exc}",
            hint="Make room or allow writing there and run again; an older report is as it was.",
        ) from exc
    return runs_dir / REPORT_HTML


@dataclass(frozen=True, slots=True)
class _Kept:
    """An instance as it stands in the files, compressed: about 1.5 kB for a green one.

    So a write reads no log and makes no row again, and thousands of results cost the session little memory.
    """

    status: Status
    earlier: bool
    twin: bytes
    row: bytes


class LiveReport:
    """The report of a session, kept up to date while it runs.

    A write takes place at most once in `min_interval` seconds and never takes more than about 2 % of the
    time; what comes in between is written when its time has come, at the latest by `close`. A write that
    fails while the session runs does not disturb it: the next one tries again, and that of `close` raises.

    Instances on disk that the session does not touch are shown as earlier ones.

    Args:
        runs_dir: where the report is written; the run folders lie below it.
        session_id: of this session.
        project_root: gives the page its name.
        min_interval: seconds from the end of one write to the next.
    """

    #: Seconds of a clock that only goes forward; tests set their own.
    clock = staticmethod(time.monotonic)

    def __init__(
        self,
        runs_dir: Path,
        *,
        session_id: str,
        project_root: Path | None = None,
        min_interval: float = 1.0,
    ) -> None:
        self._runs_dir = runs_dir
        self._session_id = session_id
        self._project_root = project_root
        self._min_interval = min_interval
        self._started = utc_now()
        # An id keeps its place: a planned instance is where it was planned when its result comes.
        self._kept: dict[str, _Kept] = {}
        self._earlier: dict[str, _Kept] | None = None
        self._next_write = self.clock()
        self._timer: threading.Timer | None = None
        self._closed = False
        self._lock = threading.RLock()

    def expect(self, entries: Iterable[Entry]) -> None:
        """Show what is planned, with status not_run, and write the page."""
        with self._lock:
            for entry in entries:
                self._kept[entry.result.id] = self._keep(entry)
            self._write_or_wait()

    def update(self, entry: Entry) -> None:
        """Show what came of an instance, in place of what the page says of it now."""
        with self._lock:
            self._kept[entry.result.id] = self._keep(entry)
            self._write_or_wait()

    def close(self, finished: str | None = None) -> Path:
        """Write the final page.

        Args:
            finished: when the session ended, UTC in ISO 8601; now, if not given.

        Returns:
            The path of the page.

        Raises:
            DuctaflowError: it cannot be written.
        """
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._find_earlier()
            return self._write(finished or utc_now())

    def _write_or_wait(self) -> None:
        """Write if a write is due, otherwise see to it that it is written when it is."""
        if self._closed:
            return
        wait = self._next_write - self.clock()
        if wait <= 0:
            self._write_now()
        elif self._timer is None:
            self._timer = threading.Timer(wait, self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
            if not self._closed:
                self._write_now()

    def _write_now(self) -> None:
        # A failure is not lost: `close` writes again and raises if it is still not possible.
        with suppress(DuctaflowError):
            self._find_earlier()
            begin = self.clock()
            try:
                self._write(None)
            finally:
                end = self.clock()
                self._next_write = end + max(self._min_interval, RESTS * (end - begin))

    def _find_earlier(self) -> None:
        """Read, once a session, what is on disk of instances that are not planned."""
        if self._earlier is None:
            found = iter_earlier(self._runs_dir, skip=set(self._kept))
            self._earlier = {entry.result.id: self._keep(entry) for entry in found}

    def _write(self, finished: str | None) -> Path:
        kept = list({**(self._earlier or {}), **self._kept}.values())
        head = report_head(
            ((entry.status.value, entry.earlier) for entry in kept),
            session_id=self._session_id,
            started=self._started,
            finished=finished,
            project_root=self._project_root,
        )
        rows = [Row(entry.status.value, entry.earlier, partial(_text, entry.row)) for entry in kept]
        twins = (_text(entry.twin) for entry in kept)
        return _write(self._runs_dir, _twin_chunks(head, twins), page_chunks(head, rows))

    def _keep(self, entry: Entry) -> _Kept:
        data = instance_data(entry, self._runs_dir)
        twin = json.dumps(data, allow_nan=False).encode("ascii")
        row = render_row(data).encode("ascii")
        return _Kept(entry.result.status, entry.earlier, zlib.compress(twin, 1), zlib.compress(row, 1))


def _text(packed: bytes) -> str:
    return zlib.decompress(packed).decode("ascii")
