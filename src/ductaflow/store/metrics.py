"""What a run says in numbers: its metrics.

    metrics.json of a run folder            {"rmse": 0.31, "peak": {"mw": 812.4}}
    read_metrics(folder, ["metrics.json"])  Metrics({"rmse": 0.31, "peak.mw": 812.4})
    record_metrics(folder, {"bias": 0.1})   {"rmse": 0.31, "peak": {"mw": 812.4}, "bias": 0.1}

A run writes the file as it likes, or by `ductaflow.record`.
"""

from __future__ import annotations

import atexit
import functools
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import set_aside, state_of, write_atomic
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.paths import METRICS
from ductaflow.common.text import number, quoted, shorten, size
from ductaflow.project.strict_json import json_kind, read_text
from ductaflow.store.logs import is_warning_line
from ductaflow.store.result import Metric
from ductaflow.store.spec import current_run

MAX_METRICS = 1000
#: No file of 1,000 metrics comes near this size, in bytes.
_LARGEST = 4 << 20
#: A longer text is no metric, in characters.
_LONGEST = 1000
#: In seconds.
_INTERVAL = 1.0
#: So many of the summary's characters fit on a line of a log.
_LINE = 160


@dataclass(slots=True)
class Metrics:
    """What the metrics files of a run folder say.

    Attributes:
        values: by dotted name, in the order of the files.
        warnings: what is wrong with the files: each is a warning line of the run.
        notes: what is left out since it is no metric.
        is_whole: no file was unreadable.
    """

    values: dict[str, Metric] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_whole: bool = True

    @property
    def summary(self) -> str:
        """One line for a log; empty without metrics."""
        shown = []
        for name, value in self.values.items():
            shown.append(f"{name} {number(value)}")
            if sum(map(len, shown)) > _LINE:
                shown[-1] = f"and {len(self.values) - len(shown) + 1} more"
                break
        line = f"📈 {' · '.join(shown)}" if shown else ""
        # Names are the flow's: one such as `warning:` must not make a warning of the line.
        return f"📈 {len(self.values)} metrics" if is_warning_line(line) else line


def read_metrics(folder: Path, names: Iterable[str]) -> Metrics:
    """Read the metrics of a run folder.

    Args:
        folder: the run folder.
        names: the files, relative to the folder; what is not there says nothing.
    """
    found = Metrics()
    for name in names:
        try:
            os.lstat(folder / name)
            _add(found, name, _parsed(folder, name))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            found.is_whole = False
            found.warnings.append(f"{name} cannot be read: {exc.strerror}")
        except DuctaflowError as exc:
            found.is_whole = False
            found.warnings.append(str(exc).replace("\n", ". "))
    if len(found.values) > MAX_METRICS:
        found.warnings.append(
            f"{len(found.values):,} metrics: the first {MAX_METRICS:,} are kept. Write tables to another file"
        )
        found.values = dict([*found.values.items()][:MAX_METRICS])
    return found


class _Object(list[tuple[str, object]]):
    """A JSON object as it is written: its pairs, also those with one name."""


def _parsed(folder: Path, name: str) -> _Object:
    path = folder / name
    # Never through a link: what it points to may be another run's.
    if not path.is_file() or path.resolve() != folder.resolve() / name:
        raise DuctaflowError(f"{name} is not a regular file of the run folder", hint="Write the file itself.")
    if (bytes_there := path.stat().st_size) > _LARGEST:
        raise DuctaflowError(
            f"{name} has {size(bytes_there)}, and metrics are at most {MAX_METRICS:,} numbers",
            hint="Write tables to another file.",
        )
    try:
        text = read_text(path)
        value = json.loads(text, object_pairs_hook=_Object)
    except DuctaflowError as exc:
        raise DuctaflowError(exc.message.replace(str(path), name), hint=exc.hint) from exc
    except json.JSONDecodeError as exc:
        message = f"{name}:{exc.lineno}:{exc.colno}: not JSON: {exc.msg}"
        raise DuctaflowError(message, hint="No metric of it is kept.") from exc
    except (RecursionError, ValueError) as exc:
        why = "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise DuctaflowError(f"{name} cannot be read: {why}", hint="No metric of it is kept.") from exc
    if not isinstance(value, _Object):
        raise DuctaflowError(
            f"{name}:1:1: metrics are a JSON object, not {json_kind(value)}", hint='Write {"rmse": 0.31}.'
        )
    return value


def _add(found: Metrics, file: str, top: _Object) -> None:
    """Add what an object holds, with dotted names."""
    pending: list[tuple[str, Iterator[tuple[str, object]]]] = [("", iter(top))]
    while pending:
        prefix, pairs = pending[-1]
        for key, value in pairs:
            name = f"{prefix}{key}"
            if isinstance(value, _Object):
                pending.append((f"{name}.", iter(value)))
                break
            shown = f"{file}: {quoted(shorten(name, 80))}"
            if isinstance(value, list):
                found.notes.append(f"{shown} is a list, which is no metric")
            elif isinstance(value, float) and math.isinf(value):
                found.warnings.append(f"{shown} is infinite, and is not kept")
            elif isinstance(value, str) and len(value) > _LONGEST:
                found.notes.append(f"{shown} is a text of {len(value):,} characters, which is no metric")
            elif name in found.values:
                found.warnings.append(f"{shown} is given twice: the first is kept")
            else:
                found.values[name] = _plain(value)
        else:
            pending.pop()


def _plain(value: object) -> Metric:
    """A value of JSON that is no list and no object; NaN is null."""
    assert value is None or isinstance(value, bool | int | float | str)
    return None if isinstance(value, float) and math.isnan(value) else value


def numbers_in(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Return those metrics that are numbers."""
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


# --- recording ---------------------------------------------------------------------------------------------


def record_metrics(folder: Path, values: Mapping[str, JsonValue]) -> None:
    """Add metrics to `metrics.json` of a folder, or change them there; all others stay.

    Several processes of a run may do so at the same time. What lies there since before the run is none of it,
    and is set aside.

    Raises:
        DuctaflowError: what is there is no JSON object.
        OSError: it cannot be written.
    """
    with _held(folder):
        _set_aside_others(folder)
        known = _known(folder / METRICS)
        for name, value in values.items():
            _put(known, name, value)
        write_atomic(folder / METRICS, json.dumps(known, indent=1) + "\n", sync=False)


def _set_aside_others(folder: Path) -> None:
    """Set aside a `metrics.json` that is not of this run: its values would count as those of the run."""
    run = current_run() if os.path.lexists(folder / METRICS) else None
    if run is None or not run.events or Path(run.folder) != folder:
        return
    # Only here: most runs find nothing there.
    from ductaflow.store.folder import Marker

    marker = Marker.load(Path(run.events).with_suffix(".json"))
    there = marker and marker.before.get(METRICS)
    if there and not state_of(os.fspath(folder / METRICS)).is_other_than(there):
        aside = set_aside(folder / METRICS)
        print(f"record: {METRICS} was there before the run: it is kept as {aside.name}", flush=True)


def _known(path: Path) -> dict[str, JsonValue]:
    if not path.exists():
        return {}
    remedy = "record keeps what is there: write the file as JSON, or let record alone write it."
    try:
        known = json.loads(read_text(path))
    except (ValueError, RecursionError) as exc:
        raise DuctaflowError(f"{path} is not JSON: {exc}", hint=remedy) from exc
    if not isinstance(known, dict):
        raise DuctaflowError(f"{path} is {json_kind(known)}, not a JSON object", hint=remedy)
    return known


def _put(known: dict[str, JsonValue], name: str, value: JsonValue) -> None:
    """Set a metric where its dotted name is: `peak.mw` may be in an object `peak`."""
    place, rest = known, name
    while rest not in place:
        first, dot, below = rest.partition(".")
        inner = place.get(first)
        if not dot or not isinstance(inner, dict):
            known[name] = value
            return
        place, rest = inner, below
    place[rest] = value


class Recorder:
    """Keeps what a process of a run records; writes at most once a second, and at the end of the process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._pending: dict[str, JsonValue] = {}
        self._folder: Path | None = None
        self._due, self._interval = 0.0, _INTERVAL
        # A handler of a signal may record while this thread writes: that waits for the next time.
        self._lock, self._is_writing = threading.RLock(), False

    def add(self, folder: Path, values: Mapping[str, JsonValue]) -> None:
        """Record metrics in a run folder; see `record_metrics` for what it raises."""
        processes = sys.modules.get("multiprocessing.process")
        if os.getpid() != self._pid or (processes and processes.parent_process()):
            # Such a process may end without its exit handlers.
            record_metrics(folder, values)
            return
        with self._lock:
            if self._folder is None:
                atexit.register(self._end)
            if self._folder != folder:
                # Under a debugger one process makes several runs.
                self._write()
                self._folder, self._due = folder, 0.0
            self._pending.update(values)
            if time.monotonic() >= self._due:
                self._write()

    def _write(self) -> None:
        if self._is_writing or not self._pending or not self._folder:
            return
        values, self._pending, self._is_writing = self._pending, {}, True
        try:
            record_metrics(self._folder, values)
            self._due = time.monotonic() + self._interval
        except BaseException:
            self._pending = {**values, **self._pending}
            raise
        finally:
            self._is_writing = False

    def _end(self) -> None:
        if os.getpid() != self._pid:
            return
        # What other exit handlers record is written at once.
        self._due = self._interval = 0.0
        self.end_run()

    def end_run(self) -> None:
        """Write what is left at the end of a run; a line says if it cannot be written."""
        try:
            with self._lock:
                self._write()
        except (DuctaflowError, OSError) as exc:
            self._pending = {}
            print(f"Warning: metrics could not be written: {exc}".replace("\n", ". "), flush=True)


@functools.cache
def recorder() -> Recorder:
    """The one of this process, or of the one that it is a fork of."""
    return Recorder()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that record in it."""
    if sys.platform == "win32":
        # Nothing there can hold a folder; a file for that would be one more output.
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
