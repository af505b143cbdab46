"""The record of one run: what it says and how it is kept.

`result.json` has schema 1 (`docs/design.md`, section 3). A Result is frozen and
crosses processes as plain data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NotRequired, Self, TypedDict

from ductaflow.common.decode import UnreadableError, convert, decode, read_own
from ductaflow.common.errors import DuctaflowError, Failure
from ductaflow.common.files import PathKind, state_of, write_atomic
from ductaflow.common.paths import RESULT, Kind
from ductaflow.common.text import without_commands
from ductaflow.comparison.difference import FileDifference, ValueDifference


class FlowFailed(DuctaflowError):
    """A run ended red. The whole record is in `result`."""

    def __init__(self, result: Result, *, hint: str = "") -> None:
        # a conductor that lets it pass shows it on the console
        message = without_commands(f"{result.flow}[{result.instance}] failed: {result.message}")
        super().__init__(message, hint=hint)
        self.result = result


SCHEMA = 1
MAX_WARNINGS = 100
MAX_WARNING_CHARS = 500
#: No message of a run, nor what is shown of an exception, is longer.
MAX_MESSAGE_CHARS = 2000
Cause = Literal["exception", "exit", "signal", "timeout", "interrupted", "lost", "input", "expectation"]
#: One number, or a word, of what a run found; null for what is not known.
Metric = bool | int | float | str | None


class Status(StrEnum):
    """What came of an instance. The first three are verdicts of a run, the others of a session.

    This is the one table of statuses; CONTRIBUTING.md says what else a new one touches. Members stand in
    the order in which counts are given.

    Attributes:
        severity: the higher, the worse; a build has the worst status of itself and its flows.
        place: in lists, what needs a person first.
        colour: in a terminal, by pytest's names; empty for none.
        mark: the sign where there are no colours.
        synonyms: other words for it, in results of a person's own conductor and in the search of the page.
    """

    severity: int
    place: int
    colour: str
    mark: str
    synonyms: tuple[str, ...]
    _run: Literal["good", "failed", "former", "none"]

    SUCCESS = (
        *("success", 1, 3, "green", "🟢", "good"),
        "green ok pass passed done succeeded successful completed",
    )
    WARNING = "warning", 2, 2, "yellow", "🟠", "good", "orange warnings warn"
    ERROR = "error", 5, 0, "red", "🔴", "failed", "red failed failure fail exception timeout"
    BLOCKED = "blocked", 4, 1, "purple", "⚪", "none", ""
    NOT_RUN = "not_run", 3, 5, "", "⚪", "none", "not-run notrun skipped pending planned waiting running"
    UNCHANGED = "unchanged", 0, 4, "cyan", "🔵", "former", "cached"

    def __new__(
        cls,
        value: str,
        severity: int = 0,
        place: int = 0,
        colour: str = "",
        mark: str = "",
        run: Literal["good", "failed", "former", "none"] = "none",
        synonyms: str = "",
    ) -> Self:
        # with defaults, since type checkers take `Status("error")` for a call of this
        self = str.__new__(cls, value)
        self._value_ = value
        self.severity, self.place, self.colour, self.mark, self._run = severity, place, colour, mark, run
        self.synonyms = tuple(synonyms.split())
        return self

    @property
    def word(self) -> str:
        """The status as people read it."""
        return self.value.replace("_", " ")

    @property
    def is_good(self) -> bool:
        """A run finished: others may read what it wrote."""
        return self._run == "good"

    @property
    def is_error(self) -> bool:
        """A run failed or could not start."""
        return self._run == "failed"

    @property
    def is_verdict(self) -> bool:
        """The verdict of a run of this session."""
        return self._run in ("good", "failed")

    @property
    def has_run(self) -> bool:
        """There is a run that it speaks of: of this session or, unchanged, of an earlier one."""
        return self._run != "none"

    @property
    def has_good_run(self) -> bool:
        """That run finished."""
        return self._run in ("good", "former")

    @property
    def needs_attention(self) -> bool:
        """A person has to look at the instance."""
        return self.place < Status.SUCCESS.place


#: The order of lists: what needs a person first.
BY_ATTENTION = tuple(sorted(Status, key=lambda status: status.place))


def status_named(word: str) -> Status | None:
    """The status that a word stands for, in any case; None for a word that stands for none."""
    return _STATUS_OF.get(word.strip().lower().replace(" ", "_"))


_STATUS_OF = {word: status for status in Status for word in (status.value, *status.synonyms)}


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of some statuses, success for none."""
    return max(statuses, key=lambda status: status.severity, default=Status.SUCCESS)


class FileEntry(TypedDict):
    """A file as a result keeps it: `/` between the parts of its path; size in bytes.

    `mtime` (in ns) and `hash` are those of a good run only. There is no hash where size and time are what
    counts. `kind` stands for what is no regular file: a link, with the text of its `target`, an empty folder,
    a pipe, a socket.
    `begun` is the time of a file that the run wrote as well, when it opened it first; null if it was
    not there yet.
    """

    path: str
    size: int
    kind: NotRequired[PathKind]
    target: NotRequired[str]
    mtime: NotRequired[int]
    hash: NotRequired[str | None]
    begun: NotRequired[int | None]


class FolderEntry(TypedDict):
    """A listing of a folder as a result keeps it.

    `deep`: with all below it. `whole`: with the contents of its files, and not only their names. `files`:
    their single hashes, if they are few.
    """

    path: str
    deep: bool
    whole: bool
    count: int
    hash: str
    files: NotRequired[dict[str, str]]


class Secrets(TypedDict):
    """A salted hash of the secrets in a config, both in hex."""

    salt: str
    hash: str


class RunChoices(TypedDict, total=False):
    """What `_run` of a config says that changes what a run does, or what is made of it.

    A default is left out, so that a new key neither makes earlier results unreadable nor stale.
    """

    kernel: str
    allow_exit: bool
    needs: list[str]


class Lineage(TypedDict):
    """What else a good run depends on; see `record.py`."""

    format: NotRequired[int]
    source: str
    code: str | None
    secrets: Secrets | None
    options: RunChoices
    modules: dict[str, str]
    imports: NotRequired[list[str]]
    folders: list[FolderEntry]
    absent: list[str]
    written: list[str]
    made: list[FileEntry]
    saved: str
    changed: list[str]
    # lines of older versions lack it
    notes: NotRequired[list[str]]


class GitState(TypedDict):
    """The commit of a project, and whether files differ from it."""

    commit: str
    dirty: bool


class Environment(TypedDict, total=False):
    """Where a run ran, and with what; `packages` are versions by module.

    `threads` is the limit for those of BLAS and OpenMP: a number that its session or its config set, or the
    variables that the environment had; it is missing where there was none.
    """

    python: str
    platform: str
    packages: dict[str, str]
    git: GitState | None
    host: str
    threads: str


@dataclass(frozen=True, slots=True)
class LogWarning:
    """One warning line: its line number in the log, from 1, and its text without ANSI codes."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Cells:
    """How many code cells ran to their end, of how many that the notebook has."""

    run: int
    total: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric or a file that is not as expected: one of the two is given."""

    metric: ValueDifference | None = None
    file: FileDifference | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of comparing the results of a run with those expected.

    Attributes:
        metrics, files: how many were judged.
        additional: how many other metrics there are; they are not judged.
        differences: one for each metric and file that is not as expected.
        key: stands for all that the judgement depends on.
        message: what it added to the message of the result, at its beginning.
    """

    metrics: int
    files: int
    additional: int = 0
    differences: tuple[Difference, ...] = ()
    key: str = ""
    message: str = ""

    @property
    def differing(self) -> int:
        """How many metrics and files are not as expected."""
        return sum(self._wrong().values())

    def _wrong(self) -> dict[str, int]:
        # A metric that is neither as expected nor within its bounds is one.
        metrics = {one.metric.name for one in self.differences if one.metric}
        return {"metric": len(metrics), "file": sum(one.file is not None for one in self.differences)}

    @property
    def beyond(self) -> list[str]:
        """The metrics that are beyond a bound. That stays, also where they are not as expected either."""
        return [one.metric.name for one in self.differences if one.metric and one.metric.kind == "bound"]

    @property
    def is_acceptable(self) -> bool:
        """Whether something differs that may be accepted; otherwise nothing may be expected but bounds."""
        held = self.beyond
        return any(not one.metric or one.metric.name not in held for one in self.differences)

    @property
    def summary(self) -> str:
        """What differs, of how much: `2 of 9 metrics, 1 of 1 files differ`; or how much was judged."""
        counts = {"metric": self.metrics, "file": self.files}
        wrong = self._wrong()
        if any(wrong.values()):
            parts = [f"{wrong[word]} of {counts[word]} {word}s" for word in counts if wrong[word]]
            return f"{', '.join(parts)} differ"
        parts = [f"{count} {word}{'s'[: count != 1]}" for word, count in counts.items() if count]
        more = f"; {self.additional} more metrics are not" if self.additional else ""
        return f"judged: {', '.join(parts) or 'nothing'}{more}"


@dataclass(frozen=True, slots=True)
class Result:
    """The record of one run. `folder` is where it was read from and is not stored; nor is
    `former_status`, which is the status of the run where that of the session is `unchanged`.

    Times are UTC in ISO 8601; `seconds` is monotonic; `peak_memory` is in bytes, with children; a
    build takes at least as much as each of its flows. Paths of
    `inputs` are relative to the project, those of `outputs` to the run folder. `lineage` is None for a run
    that ended in an error. `children` are run folders of a build's flows, relative to the run folder;
    `kept_folders` are folders in it that hold outputs and that the run has not made; `kept_files` are outputs
    that it wrote over what was there before.

    `run_status` is what running gave, and `status` that after judging its results. A run whose results are
    not as expected is complete: it keeps its record, and others may read what it wrote.
    """

    flow: str
    instance: str
    kind: Kind
    status: Status
    cause: Cause | None = None
    message: str = ""
    session_id: str = ""
    run_id: str = ""
    started: str | None = None
    finished: str | None = None
    seconds: float = 0.0
    warnings: tuple[LogWarning, ...] = ()
    warning_count: int = 0
    failure: Failure | None = None
    exit_code: int | None = None
    signal: str | None = None
    cells: Cells = Cells(0, 0)
    config_hash: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    inputs: tuple[FileEntry, ...] = ()
    outputs: tuple[FileEntry, ...] = ()
    lineage: Lineage | None = None
    children: tuple[str, ...] = ()
    kept_folders: tuple[str, ...] = ()
    kept_files: tuple[str, ...] = ()
    peak_memory: int | None = None
    environment: Environment = field(default_factory=Environment)
    folder: Path | None = None
    former_status: Status | None = None
    run_status: Status | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    judged: Judged | None = None

    @property
    def ran(self) -> Status:
        """What running gave, before its results were judged."""
        return self.run_status or self.former_status or self.status

    @property
    def is_complete(self) -> bool:
        """Its run finished, whatever its numbers are."""
        return self.ran.is_good

    @property
    def is_failed(self) -> bool:
        """Its run failed or could not start: there is nothing to read, whatever was expected."""
        return self.status.is_error and not self.is_complete

    @property
    def id(self) -> str:
        return f"{self.flow}/{self.instance}"

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values, `schema` first; they are the record's own, so not to be changed."""
        # Not `asdict` as a whole: it copies every value, which is slow for thousands of records.
        data = {name: getattr(self, name) for name in _STORED}
        data["warnings"] = tuple(asdict(warning) for warning in self.warnings)
        data["failure"] = self.failure and asdict(self.failure)
        data["cells"] = asdict(self.cells)
        data["judged"] = self.judged and asdict(self.judged)
        return {"schema": SCHEMA, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, object], *, folder: Path | None = None) -> Result:
        """Return the record that `to_dict` gave. Unknown keys of a newer minor version are ignored.

        Raises:
            UnreadableError: it is not a record of schema 1.
        """
        where = folder / RESULT if folder else RESULT
        _check_schema(convert(data, Versioned, where=where), where)
        return replace(convert(data, cls, where=where), folder=folder, former_status=None)


@dataclass(frozen=True, slots=True)
class Versioned:
    """What every schema of `result.json` has."""

    schema: int


def _check_schema(found: Versioned, where: Path | str) -> None:
    if found.schema != SCHEMA:
        raise UnreadableError(
            f"{where}: not a result of schema {SCHEMA}: schema is {found.schema}", hint=_ANEW
        )


_STORED = tuple(f.name for f in fields(Result) if f.name not in ("folder", "former_status"))


def write_result(result: Result, folder: Path) -> None:
    """Write `result.json` of a run folder, atomically."""
    write_atomic(folder / RESULT, json.dumps(result.to_dict(), ensure_ascii=True, indent=1) + "\n")


def read_result(folder: Path) -> Result | None:
    """Read the result of a run folder; None if the last run wrote none.

    Raises:
        UnreadableError: there is one, but it is not readable as one.

    Example:
        >>> result = read_result(Path("runs/fit/scenario_A"))
        >>> result.status.value, [output["path"] for output in result.outputs]
        ('success', ['x.txt'])
    """
    path = folder / RESULT
    data = read_own(path, hint=_ANEW)
    if data is None:
        return None
    if not data.startswith(_BEGIN):
        _check_schema(decode(data, Versioned, where=path, hint=_ANEW), path)
    return replace(decode(data, Result, where=path, hint=_ANEW), folder=folder, former_status=None)


#: How `write_result` begins: such a file is of this schema.
_BEGIN = f'{{\n "schema": {SCHEMA},\n'.encode()


_ANEW = "Remove it, or run the instance again: that writes a new one."


def readable_result(folder: Path) -> Result | None:
    """Read the result of a run folder; None if none can be read. For callers that do without."""
    try:
        return read_result(folder)
    except DuctaflowError:
        return None


def recorded_result(folder: Path, *, otherwise: str = "the run did not write a result") -> Result:
    """The result of a run folder; if it is missing (`otherwise`) or unreadable, one that says so."""
    try:
        result, message = read_result(folder), otherwise
    except DuctaflowError as exc:
        result, message = None, f"cannot be read: {exc}"
    return result or Result(
        folder.parent.name, folder.name, "flow", Status.ERROR, "lost", message, folder=folder
    )


def result_of_session(folder: Path, session_id: str) -> Result | None:
    """The result in a run folder, if a session has written it."""
    # One that cannot be read is of another session: a run of this one would have replaced it.
    result = readable_result(folder)
    return result if result is not None and result.session_id == session_id else None


def why_not_valid(folder: Path) -> str | None:
    """Why the last run in a run folder cannot be read from; None if it can."""
    try:
        result = read_result(folder)
    except DuctaflowError as exc:
        return exc.message
    if result is None:
        return "it has no finished run"
    if not result.is_complete:
        return f"its last run failed: {result.message}"
    for output in result.outputs:
        if fault := fault_of_output(folder, output):
            return f"its output {output['path']} {fault}"
    return None


def fault_of_output(folder: Path, output: FileEntry) -> str | None:
    """Return what is wrong with an output of a run folder; None if it is as recorded."""
    path = folder / output["path"]
    if "kind" in output:
        return fault_of_kind(os.fspath(path), output)
    if not path.is_file():
        return "is gone"
    return "was changed since" if path.stat().st_size != output["size"] else None


def fault_of_kind(path: str, output: FileEntry) -> str | None:
    """Return what is wrong with an output that was no regular file; None if it is as recorded."""
    try:
        now = state_of(path)
    except OSError as exc:
        return unread(exc)
    if now.kind != output.get("kind"):
        return f"is a {now.kind} now, and was a {output.get('kind')}"
    if now.target != output.get("target", ""):
        return f"points to {now.target}, and not to {output.get('target')} any more"
    return None


def unread(exc: OSError) -> str:
    """Return why a file or folder cannot be looked at."""
    gone = isinstance(exc, FileNotFoundError | NotADirectoryError)
    return "is gone" if gone else f"cannot be read: {exc.strerror or exc}"
