"""A run from the claim on its folder to its result, whoever executes it.

with RecordedRun(spec) as run:              the folder is held; config and log are written
    ...                                     run.spec is executed
    result = run.conclude(run.told(), end)  judged, and written
"""

from __future__ import annotations

import functools
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ductaflow.common.decode import UnreadableError, decode, read_own
from ductaflow.common.files import set_aside, state_of, write_atomic
from ductaflow.common.machine import address_space_limit, this_machine
from ductaflow.common.text import bytes_of, iso_moment, size
from ductaflow.project.mentions import strings_of
from ductaflow.project.references import RunsTree
from ductaflow.project.values import dump_config
from ductaflow.store.folder import Claim, Owner, refuse_folder
from ductaflow.store.hashes import StoppedError
from ductaflow.store.logs import closing_line, header_line, scan_log
from ductaflow.store.metrics import Metrics, read_metrics
from ductaflow.store.record import (
    Record,
    RecordMaker,
    Site,
    begin,
    config_hash,
    notes_of_folders,
    recurring,
    undeclared,
)
from ductaflow.store.result import (
    Cells,
    Environment,
    FileEntry,
    Result,
    Status,
    readable_result,
    recorded_result,
    write_result,
)
from ductaflow.store.spec import THREAD_VARIABLES, RunSpec
from ductaflow.store.verdict import (
    KILLED_FOR_MEMORY,
    ChildEnd,
    Ending,
    RunEvent,
    Told,
    judge,
    memory_of,
    note_of_set_aside,
    stopped_early,
)

_CHUNK = 1 << 20


class RecordedRun:
    """A run whose folder this process holds. Leaving the context gives the folder free.

    Attributes:
        spec: what to run, with the file for what it tells.
        claim: the hold on its folder.

    Raises:
        DuctaflowError, OSError: the run cannot start. A fault after the claim, such as a full disk, leaves
            the marker: the next run knows from it whose files are there.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._memory_kills = this_machine().memory_kills()
        self._is_written = False
        self._metrics = Metrics()
        self._log: BinaryIO | None = None
        self.claim = _claim(spec, self._started)
        self.spec = replace(spec, events=str(self.claim.events_file))
        try:
            write_atomic(spec.run_folder.config, dump_config(spec.saved_config))
            spec.log.write_bytes(_header(spec))
            self._log = spec.log.open("rb")
            self._begun = begin(spec)
            Path(self.spec.events).write_bytes(b"")
        except BaseException:
            with suppress(OSError):
                self.claim.withdraw()
            self.release()
            raise

    def __enter__(self) -> RecordedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the folder free; without a result the marker stays and says that the run was lost."""
        if self._log:
            self._log.close()
        self.claim.release(finished=self._is_written)

    def told(self) -> Told:
        """Return what the run has told so far, or only a note if the file is unreadable."""
        try:
            return Told.of(_read_events(Path(self.spec.events)))
        except (OSError, ValueError, UnreadableError) as exc:
            note = f"what the run told of itself was removed or overwritten ({type(exc).__name__})"
            return Told(notes=[note])

    def conclude(
        self, told: Told, end: ChildEnd, *, idle: float = 0.0, stopped: Callable[[], bool] = lambda: False
    ) -> Result:
        """Judge the run and write its closing line and its result; the folder stays held.

        The result that is returned says so if it could not be written.

        Args:
            idle: seconds that do not count.
            stopped: asked while large files are read; True ends that.
        """
        result: Result | None = None
        try:
            self._restore(told)
            result = self._result(told, end, idle, stopped)
            for line in self._lines_of_judging(result):
                append_line(self.spec.log, line)
            error = result.message if result.is_failed else None
            if summary := self._metrics.summary:
                append_line(self.spec.log, summary)
            append_line(self.spec.log, closing_line(self.spec, seconds=result.seconds, error=error))
            write_result(result, self.spec.run_folder.path)
        except OSError as exc:
            result = self._write_less(result, told, exc)
        else:
            self._is_written = True
        if self._is_written:
            self.claim.finish()
        return result

    def _lines_of_judging(self, result: Result) -> Iterator[str]:
        """Yield what the log says of what was expected."""
        if result.judged is None:
            return
        from ductaflow.store.expected import difference_lines, note_of_threads

        if not result.judged.message:
            yield f"⚖ {result.judged.summary}"
            return
        yield f"❌ not as expected: {result.judged.message}"
        yield from (f"  {line}" for line in difference_lines(result.judged))
        if result.judged.differences and (note := note_of_threads(result)):
            yield f"  {note}"

    def _write_less(self, result: Result | None, told: Told, exc: OSError) -> Result:
        """Write a short result, if there is room for that, in the place of one that could not be written."""
        spec = self.spec
        result = result or Result(spec.flow, spec.instance, spec.kind, Status.ERROR)
        fault = f"the result could not be written to {spec.folder}: {exc.strerror or exc}"
        less = Result(
            spec.flow,
            spec.instance,
            spec.kind,
            Status.ERROR,
            result.cause or "lost",
            "; ".join(filter(None, [result.message, fault])),
            spec.session_id,
            spec.run_id,
            iso_moment(self._started),
            iso_moment(datetime.now(UTC)),
            result.seconds,
            cells=Cells(told.run, told.total),
            children=tuple(told.children),
            folder=Path(spec.folder),
        )
        with suppress(OSError):
            # What it wrote is listed all the same: the next run has to know whose files these are.
            outputs = result.outputs or tuple(self.claim.outputs(told.children))
            less = replace(less, outputs=outputs, kept_files=self.claim.kept_files(outputs))
            self.claim.make_room()
            write_result(less, spec.run_folder.path)
            self._is_written = True
        return less

    def _restore(self, told: Told) -> None:
        """Restore our files: set aside what the flow put into their places, and write what it removed."""
        spec, files = self.spec, self.spec.run_folder
        assert self._log is not None
        told.folder_removed = not files.path.is_dir()
        files.path.mkdir(parents=True, exist_ok=True)
        config = dump_config(spec.saved_config)
        for path in files.own_files:
            if os.path.lexists(path) and not self._is_ours(path, told, config):
                if not _holds_nothing(path, spec.log):
                    told.set_aside[path.name] = set_aside(path).name
                elif path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()
        if told.wrote_log and spec.log.exists():
            told.set_aside[spec.log.name] = set_aside(spec.log, copy=True).name
        if not spec.log.exists():
            chunks = iter(functools.partial(self._log.read, _CHUNK), b"")
            write_atomic(spec.log, (chunk.decode("utf-8", "replace") for chunk in chunks))
        if not files.config.exists():
            write_atomic(files.config, config)

    def _is_ours(self, path: Path, told: Told, config: str) -> bool:
        """Return whether what lies in the place of a file of ours is that file."""
        files = self.spec.run_folder
        if path == files.notebook:
            # The child looks after it.
            return self.spec.mode == "notebook"
        if path == files.html:
            return self.spec.mode == "notebook" and told.executed
        if path.is_symlink() or not path.is_file():
            return False
        if path == files.config:
            return path.read_bytes() == config.encode("utf-8", "backslashreplace")
        assert self._log is not None
        return path == self.spec.log and os.path.samestat(os.stat(path), os.fstat(self._log.fileno()))

    def _result(self, told: Told, end: ChildEnd, idle: float, stopped: Callable[[], bool]) -> Result:
        spec = self.spec
        told.notes += self.claim.notes
        if self.claim.edited:
            names = ", ".join(self.claim.edited)
            told.notes.append(f"files were changed by hand since the last run: {names}")
        if told.executed and not told.finished:
            told.notes.append("the HTML of the notebook was not finished")
        children = [recorded_result(spec.run_folder.path / child) for child in told.children]
        outputs = self.claim.outputs(told.children)
        ending = Ending(
            **asdict(end),
            told=told,
            timeout=spec.timeout,
            memory_kills=self._kills_since(),
            memory=this_machine().memory() if end.signal else None,
            allow_exit=spec.options.allow_exit,
            children=children,
        )
        ours = [*_lines_of_ours(spec, told, children)]
        if judge(ending).status.is_good:
            # What another run was about to say says nothing.
            self._metrics = self._read_metrics(told, outputs)
            ours += (f"⚠ {text}" for text in self._warnings_of_results(outputs))
        for line in ours:
            append_line(spec.log, line)
        log = scan_log(spec.log)
        verdict = judge(replace(ending, warning_count=log.warning_count))
        if (note := note_of_set_aside(told)) and note != verdict.message:
            told.notes.append(note)
        told.notes += [*filter(None, [recurring(spec.reasons)]), *_beyond(spec)]
        if not verdict.status.is_good:
            told.notes += _notes_of_memory(ending)
        record = self._record(told, outputs, stopped, is_good=verdict.status.is_good)
        result = Result(
            flow=spec.flow,
            instance=spec.instance,
            kind=spec.kind,
            status=verdict.status,
            run_status=verdict.status,
            cause=verdict.cause,
            message="; ".join(filter(None, [verdict.message, *told.notes])),
            session_id=spec.session_id,
            run_id=spec.run_id,
            started=iso_moment(self._started),
            finished=iso_moment(datetime.now(UTC)),
            seconds=round(time.monotonic() - self._clock - idle, 3),
            warnings=log.warnings,
            warning_count=log.warning_count,
            failure=told.failure,
            exit_code=end.exit_code,
            signal=end.signal or told.signal,
            cells=Cells(told.run, told.total),
            reasons=dict(spec.reasons),
            config_hash=config_hash(spec.config, spec.project_root),
            inputs=record.inputs,
            outputs=record.outputs,
            metrics=self._metrics.values,
            lineage=record.lineage,
            children=tuple(told.children),
            kept_folders=self.claim.kept_folders(record.outputs),
            kept_files=self.claim.kept_files(record.outputs),
            # The flows of a build are no children of its process where a server has forked them.
            peak_memory=max(
                filter(None, [end.peak_memory, *(flow.peak_memory for flow in children)]), default=None
            ),
            environment=_environment(spec, told),
            folder=Path(spec.folder),
        )
        return self._judged(result, children, stopped)

    def _kills_since(self) -> int | None:
        """Return how many processes the system has killed for memory since the begin; None if unknown."""
        before, now = self._memory_kills, this_machine().memory_kills()
        return None if before is None or now is None else max(0, now - before)

    def _judged(self, result: Result, flows: Sequence[Result], stopped: Callable[[], bool]) -> Result:
        """Return the result after judging what the run found."""
        spec = self.spec
        is_expected = spec.options.expect or os.path.isdir(spec.expected) or any(one.judged for one in flows)
        if not spec.expected or not is_expected:
            return result
        # Only here: most runs have nothing to compare.
        from ductaflow.store.expected import judge_run

        return judge_run(result, spec, flows, stopped)

    def _read_metrics(self, told: Told, outputs: Sequence[FileEntry]) -> Metrics:
        """Read the metrics that the run wrote; what lay there before is not its own."""
        written = {output["path"] for output in outputs}
        names = self.spec.settings.metrics
        for name in names:
            if name not in written and (self.spec.run_folder.path / name).exists():
                told.notes.append(f"{name} was there before the run, so its metrics are not those of the run")
        return read_metrics(self.spec.run_folder.path, [name for name in names if name in written])

    def _warnings_of_results(self, outputs: Sequence[FileEntry]) -> Iterator[str]:
        """Yield what is wrong with the metrics, and rules of what is expected that are for nothing."""
        yield from self._metrics.warnings
        if self.spec.expected and self.spec.options.expect:
            from ductaflow.store.expected import rules_without_match

            yield from rules_without_match(self.spec, self._metrics.values, outputs)

    def _record(
        self, told: Told, outputs: list[FileEntry], stopped: Callable[[], bool], *, is_good: bool
    ) -> Record:
        """Return what the run read and wrote."""
        spec, site = self.spec, Site.of(self.spec)
        if is_good:
            try:
                record = RecordMaker(spec, self._begun, told.reads, told.children, stopped).make(outputs)
            except StoppedError:
                told.notes.append("what it read was not recorded, since its session ended: it will run again")
            else:
                told.notes += [*filter(None, [site.hashes.fault]), *notes_of_folders(record)]
                told.notes += _notes_of_judging(spec, site, record)
                return record
        # After an error it always runs again.
        files = sorted(self._begun.files.items())
        return Record(
            tuple(FileEntry(path=site.relative(path), size=stamp.size) for path, stamp in files),
            tuple(outputs),
        )


def _notes_of_memory(end: Ending) -> Iterator[str]:
    """Yield what is known of the memory of a run that failed, where that may be why."""
    has_none_left = bool(end.told.failure and end.told.failure.ename.endswith("MemoryError"))
    # The kernel of a flow, or a process of a pool. Of the run itself the verdict says it.
    is_other_killed = bool(end.memory_kills and end.signal != "SIGKILL")
    if is_other_killed:
        what = "a process" if end.memory_kills == 1 else f"{end.memory_kills} processes"
        yield f"the system killed {what} {KILLED_FOR_MEMORY}"
    if has_none_left or is_other_killed:
        yield memory_of(end.peak_memory, this_machine().memory())
    if has_none_left and (limit := address_space_limit()):
        yield f"the address space of a process is limited to {size(limit)} (ulimit -v)"


def _beyond(spec: RunSpec) -> Iterator[str]:
    """Yield what a run asks for that is more than there is; it runs all the same, and nothing beside it."""
    options, limit = spec.options, bytes_of(spec.settings.memory or "")
    if options.cpus and options.cpus > (there := this_machine().processors()):
        yield f"_run.cpus is {options.cpus}, and there {'are' if there > 1 else 'is'} {there}"
    if options.memory and (wanted := bytes_of(options.memory)):
        memory = this_machine().memory().within(limit, "the project")
        if wanted > memory.total:
            yield f"_run.memory is {options.memory}, and {memory.owner} has {size(memory.total)}"


def _environment(spec: RunSpec, told: Told) -> Environment:
    found = Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=told.packages,
        git=spec.git,
        host=socket.gethostname(),
    )
    given = (f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ)
    if threads := str(spec.threads or "") or ", ".join(given):
        found["threads"] = threads
    return found


def _notes_of_judging(spec: RunSpec, site: Site, record: Record) -> Iterator[str]:
    """Yield the runs that this one has read and whose results are not as expected."""
    tree = RunsTree(spec.project_root, spec.runs_root)
    places = dict.fromkeys(tree.run_of(site.absolute(entry["path"])) for entry in record.inputs)
    for place in filter(None, places):
        read = readable_result(Path(spec.runs_root, *place))
        if read and read.status.is_error and read.is_complete:
            yield f"it reads {read.id}, whose results are not as expected"


def _holds_nothing(path: Path, log: Path) -> bool:
    """Return whether nothing is lost with what a flow put into the place of a file of ours.

    Whoever redirects the log by a link has what it wrote elsewhere.
    """
    kind = state_of(os.fspath(path)).kind
    if kind == "folder":
        return not os.listdir(path)
    return kind != "file" if path == log else kind not in ("file", "link")


def _claim(spec: RunSpec, started: datetime) -> Claim:
    """Hold the run folder in the name of this process."""
    owner = Owner(
        spec.flow,
        spec.instance,
        spec.run_id,
        spec.session_id,
        socket.gethostname(),
        os.getpid(),
        iso_moment(started),
    )
    refuse_folder(Path(spec.folder), Path(spec.source), Path(spec.project_root))
    return Claim.take(spec.run_folder, Path(spec.runs_root), owner, keep_previous=spec.settings.keep_previous)


def _header(spec: RunSpec) -> bytes:
    return (header_line(spec) + "\n").encode("utf-8", "backslashreplace")


def _lines_of_ours(spec: RunSpec, told: Told, children: Sequence[Result]) -> Iterator[str]:
    """Warning lines that we add to a log: they are in pytest and on the page like those of the flow."""
    with spec.log.open("rb") as log:
        header = _header(spec)
        if log.read(len(header)) != header:
            yield "⚠ the log was cut off by something that opened it anew, such as `> /dev/stdout`"
    if (early := stopped_early(told)) and not spec.options.allow_exit:
        yield f"⚠ {early}"
    yield from (f"⚠ {note}" for note in spec.notes)
    yield from undeclared(spec, told.reads, children)
    for _, text in strings_of(spec.config):
        path = os.path.join(os.path.normpath(os.path.join(spec.project_root, text)), "")
        if path.startswith(spec.folder + os.sep):
            yield f"⚠ the config names {text}, in the run's own folder, which is emptied before it runs"


def _read_events(path: Path) -> Iterator[RunEvent]:
    """Read what was told so far, in order, unless somebody has removed or overwritten it."""
    data = read_own(path)
    if data is None:
        raise FileNotFoundError(path)
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        # Only a kill in the midst of a write leaves a line without end; that event did not happen.
        if line.endswith(b"\n"):
            yield decode(line, RunEvent, where=f"{path}:{number}")


def append_line(path: Path, line: str) -> None:
    """Add a line of ours to a log, on a line of its own."""
    with path.open("rb+") as log:
        log.seek(0, os.SEEK_END)
        if log.tell() > 0:
            log.seek(-1, os.SEEK_END)
            if log.read(1) not in (b"\n", b"\r"):
                log.write(b"\n")
        log.write((line.replace("\n", " ").replace("\r", " ") + "\n").encode("utf-8", "backslashreplace"))
