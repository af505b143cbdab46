"""Writes the report, whole or not at all: at the end of a session and, sparingly, while it runs."""

from __future__ import annotations

import functools
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ductaflow.common.decode import decode
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import Stamp, stamp_of_file, write_atomic
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON
from ductaflow.report import history
from ductaflow.report.cause_groups import Causes
from ductaflow.report.earlier import all_earlier
from ductaflow.report.kept_lines import KeptLines, Texts, texts_of
from ductaflow.report.origin import add_origin, origin_here
from ductaflow.report.packed_lines import LinesNow, PackedLines
from ductaflow.report.page import (
    Packer,
    RowParts,
    Rows,
    first_rows,
    page_chunks,
    parts_of_row,
    prepare,
    render_html,
)
from ductaflow.report.past import Past, packed_touched
from ductaflow.report.schema import Alive, AtWork, Head, InstanceTwin, Origin, SessionLine, ShardTwin, Twin
from ductaflow.report.stored import Stored
from ductaflow.report.twin import Counted, Entry, Sources, instance_data, report_head, utc_now
from ductaflow.store.result import Status

#: The next write waits this many times what the last one took of the processor: half a percent. A slow disk
#: does not count, since it costs the session nothing but the time of one thread.
RESTS = 200
#: The most seconds between two writes while something happens, on however slow a disk.
LONGEST_REST = 15.0
#: Instances at work that a page names.
MAX_RUNNING = 20
#: Seconds after which a page is written again though nothing happened: a sign that the session lives.
HEARTBEAT = 30.0
#: Seconds after the last sign of progress after which the first page is written, even if perhaps nothing has
#: to run: what is at work then takes long.
PATIENCE = 2.0


def write_report(data: Twin, runs_dir: Path) -> Path:
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
    return _write(runs_dir, twin_chunks(data, instances), [render_html(data)])


def twin_chunks(head: Head, instances: Iterable[str]) -> Iterator[str]:
    """The JSON twin in ASCII, one instance a line."""
    frame = json.dumps({**head, "instances": []}, allow_nan=False)
    yield frame.removesuffix("]}")
    separator = "\n"
    for instance in instances:
        yield separator + instance
        separator = ",\n"
    yield "\n]}\n"


def _write(runs_dir: Path, twin: Iterable[str] | None, page: Iterable[str]) -> Path:
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        if twin is not None:
            write_atomic(runs_dir / REPORT_JSON, twin)
        write_atomic(runs_dir / REPORT_HTML, page)
    except OSError as exc:
        raise DuctaflowError(
            f"{runs_dir / REPORT_HTML}: the report cannot be written: {exc.strerror or exc}",
            hint="Make room or allow writing there and run again; an older report is as it was.",
        ) from exc
    return runs_dir / REPORT_HTML


class _Kept(NamedTuple):
    """What the head of the report depends on in an instance; the packed lines have the rest."""

    status: Status
    seconds: float | None
    counted: Counted


class _History(NamedTuple):
    """The sessions before, what is wrong with lines that cannot be read, and what came of each instance.

    `stamp` is that of the file from before it was read.
    """

    stamp: Stamp | None
    sessions: list[SessionLine]
    faults: list[str]
    past: Past


class Working(NamedTuple):
    """What is at work in a session, and how many seconds it may still take; None if nothing is known."""

    running: Sequence[AtWork]
    left: float | None = None


class _Page(NamedTuple):
    """What is written, as it was at one moment: results that come in meanwhile do not change it."""

    head: Head
    past: Past
    statuses: Mapping[str, Status]
    twins: LinesNow
    rows: LinesNow
    packer: Packer


class LiveReport:
    """The report of a session, kept up to date while it runs.

    It writes at most once in `min_interval` seconds and spends about 0.5 % of a processor on it; a result is
    on the page after 15 s at the latest, and the first error at once. The twin of thousands of instances is
    written less often than their page. A thread writes, so that a slow disk does not hold up the session. It
    also writes now and then when nothing happens: a page that was not written for long says that its session
    was killed. A write that fails while the session runs does not disturb it; the next one tries again, and
    `close` raises.

    Instances that the session does not touch are shown as earlier ones: with their last result, otherwise as
    the page showed them before. `close` adds the session to the history of the runs folder.

    Args:
        runs_dir: where the report is written; the run folders lie below it.
        session_id: of this session.
        project_root: gives the page its name, and the configs their bases.
        min_interval: seconds from the end of one write to the next.
        stored: gives what the project stores, and is called once; without it, no instance has a node id, and
            every one that the last page showed counts.
        shard, at_work: give the `shard` of the twin, and what is at work; asked with every write.
        waits_for_run: begin the page with the first result of a run, or when nothing has come for 2 s, or
            after 15 s. If thousands of instances are planned and nothing has to run, showing each as planned
            and then as unchanged would take most of the session.
    """

    #: Seconds of a clock that only goes forward, and of the processor in this thread; tests set their own.
    clock = staticmethod(time.monotonic)
    work = staticmethod(time.thread_time)
    #: Seconds for which a session waits at most until a page is written; none is lost that takes longer.
    held_up = 0.1

    def __init__(
        self,
        runs_dir: Path,
        *,
        session_id: str,
        project_root: Path | None = None,
        min_interval: float = 1.0,
        stored: Callable[[], Stored] | None = None,
        shard: Callable[[], ShardTwin | None] = lambda: None,
        at_work: Callable[[], Working | None] = lambda: None,
        waits_for_run: bool = False,
    ) -> None:
        self._runs_dir = runs_dir
        self._session_id = session_id
        self._project_root = project_root
        self._min_interval = min_interval
        self._started = utc_now()
        self._sources = Sources(runs_dir, project_root)
        self._former = KeptLines(self._sources)
        self._packer = Packer()
        self._causes = Causes()
        self._history: _History | None = None
        #: So a write reads no log and makes no row twice; the packer has the details.
        self._twins, self._rows = PackedLines(self._past_of_lines), PackedLines(self._past_of_lines)
        self._kept: dict[str, _Kept] = {}
        self._numbers: dict[str, dict[str, float]] = {}
        #: What is planned, until the first write makes ready what has no news.
        self._planned: dict[str, Entry] = {}
        self._earlier: dict[str, _Kept] | None = None
        self._faults: list[str] = []
        self._find_stored = stored
        self._shard, self._at_work = shard, at_work
        self._waits_for_run = waits_for_run
        self._begin = self.clock()
        self._next_write = self._begin + (PATIENCE if waits_for_run else 0.0)
        self._armed_for = self._next_write
        self._rest = min_interval
        #: The twin is several times as long as the page: of thousands of instances it is written less often.
        self._next_twin = self._begin
        self._timer: threading.Timer | None = None
        self._is_due = False
        self._is_first = True
        self._has_error = False
        self._is_noted = False
        self._is_writing = self._is_urgent = False
        self._closed = False
        #: Of what is kept here; and of the files, which is taken first.
        self._lock, self._turn = threading.RLock(), threading.Lock()

    def expect(self, entries: Iterable[Entry]) -> None:
        """Show planned instances, with status not_run, and write the page."""
        with self._lock:
            # An id keeps its place: a result appears where its instance was planned.
            planned = {entry.result.id: entry for entry in entries}
            self._planned |= {id: entry for id, entry in planned.items() if id not in self._kept}
            self._kept = {
                id: self._kept.get(id) or _kept_of(entry) for id, entry in planned.items()
            } | self._kept
            for lines in (self._twins, self._rows):
                lines.plan(planned)
            writer = self._write_or_wait()
        self._let_write(writer)

    def update(self, entry: Entry) -> None:
        """Show the result of an instance, in place of what the page shows now."""
        with self._lock:
            self._planned.pop(entry.result.id, None)
            self._keep(entry)
            if entry.result.session_id == self._session_id and (numbers := history.numbers_of(entry.result)):
                self._numbers[entry.result.id] = numbers
            if self._waits_for_run and entry.result.status is not Status.UNCHANGED:
                self._waits_for_run = False
                self._next_write = min(self._next_write, self.clock())
            elif self._waits_for_run and self._is_first:
                # As long as one comes after the other, nothing takes long.
                self._next_write = min(self.clock() + PATIENCE, self._begin + LONGEST_REST)
            if entry.result.status.is_error and not self._has_error:
                # Somebody may wait for just this.
                self._has_error = self._is_urgent = True
                self._next_write = min(self._next_write, self.clock())
            writer = self._write_or_wait()
        self._let_write(writer)

    def _let_write(self, writer: threading.Timer | None) -> None:
        # Most disks are done by then; a slow one holds nobody up.
        if writer:
            writer.join(self.held_up)

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
            self._stop_timer()
        with self._turn, self._lock:
            self._make_ready()
            known = self._history
            if (
                known
                and not self._is_noted
                and known.stamp != stamp_of_file(history.history_file(self._runs_dir))
            ):
                # Another session has ended meanwhile.
                self._history = None
            finished = finished or utc_now()
            head = self._head(finished)
            statuses = {id: one.status for id, one in self._kept.items()}
            line = history.session_line(head, self.clock() - self._begin, statuses, head["history"])
            head["history"] = [*head["history"], line][-history.MAX_SESSIONS :]
            past = self._read_history().past.followed_by(self._kept, most=history.MAX_SESSIONS)
            path = self._write(self._page(head, past))
            if self._kept and not self._is_noted:
                kept_in = history.history_file(self._runs_dir)
                try:
                    kept: SessionLine = {**line, "touched": packed_touched(self._kept)}
                    history.append_history(self._runs_dir, kept, self._numbers)
                except OSError as exc:
                    raise DuctaflowError(
                        f"{kept_in}: the session cannot be noted: {exc.strerror or exc}",
                        hint="Allow writing there; the report itself was written.",
                    ) from exc
                self._is_noted = True
            self._former.close()
            return path

    def shared_parameters(self) -> dict[str, str]:
        """Return what the failed instances of a cause share and no good one has, by their ids."""
        with self._lock:
            return {
                id: " ".join(f"{name}={value}" for name, value in cause["parameters"])
                for cause in self._causes.find()
                for id in cause["instances"]
                if cause["parameters"]
            }

    def _write_or_wait(self) -> threading.Timer | None:
        """See that the page is written when that is due; return what writes it if that is now."""
        if self._closed:
            return None
        if self._is_writing:
            self._is_due = True
            return None
        wait = self._next_write - self.clock()
        if wait <= 0 or not self._is_due:
            self._armed_for = self._next_write
        if wait <= 0:
            self._is_writing = True
            return self._start_timer(0)
        if not self._is_due:
            self._is_due = True
            self._start_timer(wait)
        return None

    def _start_timer(self, seconds: float) -> threading.Timer:
        self._stop_timer()
        self._timer = threading.Timer(seconds, self._write_now)
        self._timer.daemon = True
        self._timer.start()
        return self._timer

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write_now(self) -> None:
        # One at a time; results come in meanwhile.
        with self._turn:
            with self._lock:
                if self._closed:
                    return
                if self._is_first and self._next_write > self._armed_for:
                    # Moved since: there was progress.
                    self._armed_for = self._next_write
                    self._start_timer(max(0.0, self._next_write - self.clock()))
                    return
                self._is_due = self._is_urgent = False
                self._is_writing = True
            try:
                spent = self._write_one()
            finally:
                with self._lock:
                    self._is_writing = False
            with self._lock:
                # The first write also reads what earlier sessions left, once.
                spent = 0.0 if self._is_first else spent
                self._is_first = False
                most = max(self._min_interval, LONGEST_REST)
                self._rest = min(max(self._min_interval, RESTS * spent), most)
                self._next_write = self.clock() + (0.0 if self._is_urgent else self._rest)
                if not self._closed:
                    waits = max(0.0, self._next_write - self.clock())
                    self._start_timer(waits if self._is_due else max(HEARTBEAT, self._rest))

    def _write_one(self) -> float:
        """Write what is known now; return the seconds of the processor that it took."""
        # The length of this write decides when the next one is due, and that is not loaded again.
        prepare()
        begin = self.work()
        # `close` writes again, and raises if that is still not possible.
        with suppress(DuctaflowError):
            with self._lock:
                self._make_ready()
                for lines in (self._twins, self._rows):
                    lines.settle()
                page = self._page(self._head(None), self._read_history().past)
            with_twin = self.clock() >= self._next_twin
            self._write(page, with_twin=with_twin)
            spent = self.work() - begin
            if with_twin and not self._is_first and RESTS * spent > LONGEST_REST:
                self._next_twin = self.clock() + RESTS * spent
        return self.work() - begin

    def _make_ready(self) -> None:
        """Make ready what is planned and, once a session, what is known of all other instances."""
        for id, entry in self._planned.items():
            twin, row, _ = self._lines_of(entry)
            self._twins.show(id, twin)
            self._rows.show(id, row)
        self._planned.clear()
        if self._earlier is None:
            found = all_earlier(self._runs_dir, self._faults, skip=self._kept.keys(), stored=self._stored)
            self._earlier = {}
            twins, rows = dict[str, str](), dict[str, str]()
            for entry in found:
                id = entry.result.id
                twins[id], rows[id], self._earlier[id] = self._lines_of(entry)
            self._twins.begin_with(twins)
            self._rows.begin_with(rows)

    @functools.cached_property
    def _stored(self) -> Stored | None:
        return self._find_stored() if self._find_stored else None

    @functools.cached_property
    def _origin(self) -> Origin:
        return origin_here(self._project_root)

    def _head(self, finished: str | None) -> Head:
        head = report_head(
            Counter(one.counted for one in self._all().values()),
            session_id=self._session_id,
            started=self._started,
            finished=finished,
            project_root=self._project_root,
        )
        add_origin(head, self._origin)
        _, head["history"], faults, _ = self._read_history()
        head["notes"] = [*self._faults, *faults]
        head["shard"] = self._shard()
        failed = [id for id, kept in self._kept.items() if kept.status.is_error]
        head["new"] = history.newly_red(failed, self._session_id, head["history"])
        head["causes"] = self._causes.find()
        if finished is None:
            # A write that takes longer than the last one, on a busy machine, is no sign of death.
            within = 3 * max(HEARTBEAT, self._rest)
            alive: Alive = {
                "written": utc_now(),
                "next": round(self._rest, 1),
                "within": round(within),
                "pid": os.getpid(),
                "host": socket.gethostname(),
            }
            if working := self._at_work():
                alive["running"] = working.running[:MAX_RUNNING]
                alive["running_left_out"] = len(working.running[MAX_RUNNING:])
                alive["left"] = working.left
            head["alive"] = alive
        return head

    def _read_history(self) -> _History:
        """Read the sessions before, once."""
        if self._history is None:
            stamp = stamp_of_file(history.history_file(self._runs_dir))
            sessions, faults = history.read_history(self._runs_dir)
            self._history = _History(stamp, sessions, faults, Past(sessions))
        return self._history

    def _past_of_lines(self) -> Past:
        """Return the past that lines are joined with; none as long as they may be written once only."""
        return _NO_PAST if self._waits_for_run and self._is_first else self._read_history().past

    def _all(self) -> dict[str, _Kept]:
        return {**(self._earlier or {}), **self._kept}

    def _page(self, head: Head, past: Past) -> _Page:
        statuses = {id: one.status for id, one in self._all().items()}
        return _Page(head, past, statuses, self._twins.now(), self._rows.now(), self._packer.copy())

    def _write(self, page: _Page, *, with_twin: bool = True) -> Path:
        head, past, statuses, twins, rows, packer = page
        first = first_rows(statuses.items())
        texts = rows.of(first, past)
        shown = Rows(len(statuses), [texts[id] for id in first], rows.joined(past))
        twin = twin_chunks(head, twins.joined(past)) if with_twin else None
        return _write(self._runs_dir, twin, page_chunks(head, shown, packer))

    def _keep(self, entry: Entry) -> None:
        twin, row, kept = self._lines_of(entry)
        id = entry.result.id
        self._kept[id] = kept
        self._twins.put(id, twin)
        self._rows.put(id, row)

    def _lines_of(self, entry: Entry) -> tuple[str, str, _Kept]:
        if self._stored:
            entry = self._stored.with_facts(entry)
        key = self._former.key(entry)
        if key and (texts := self._former.get(key)) and (lines := self._copied(texts, entry)):
            return lines
        refused = self._sources.figures.refused
        data = instance_data(entry, self._sources)
        self._causes.add(data)
        twin, parts = json.dumps(data, allow_nan=False), parts_of_row(data)
        if key and self._sources.figures.refused == refused:
            self._former.keep(key, texts_of(data, twin, parts))
        return twin, parts.text(self._packer), _kept_of(entry)

    def _copied(self, texts: Texts, entry: Entry) -> tuple[str, str, _Kept] | None:
        """Return the lines of an instance that an earlier session made; None if its figures have no room."""
        characters, is_good = json.loads(texts.pictures)
        if characters and not self._sources.figures.take(characters, is_good=is_good):
            return None
        self._causes.add(decode(texts.twin, InstanceTwin, where=REPORT_JSON))
        parts = RowParts({**json.loads(texts.row), "worker": entry.worker}, texts.details)
        return texts.twin_of(entry), parts.text(self._packer), _kept_of(entry)


_NO_PAST = Past([])
#: Thousands of instances are of a few kinds.
_counted = functools.cache(Counted)


def _kept_of(entry: Entry) -> _Kept:
    result = entry.result
    seconds = result.seconds if result.status.is_verdict and result.run_id else None
    counted = _counted(result.status, entry.earlier, entry.orphan, bool(entry.fails))
    return _Kept(result.status, seconds, counted)
