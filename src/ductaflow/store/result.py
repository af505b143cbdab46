"""The record of one run: what it says, how it is kept, and how a log is judged.

`result.json` is schema 1 of the design (5.4). A Result is frozen and crosses processes as plain data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from ductaflow.common.errors import DuctaflowError, Failure, of_system
from ductaflow.common.files import write_atomic
from ductaflow.common.paths import RESULT, Kind
from ductaflow.common.text import without_commands


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


Cause = Literal["exception", "exit", "signal", "timeout", "interrupted", "lost", "input"]


class Status(StrEnum):
    """What came of an instance. The first three are verdicts of a run, the others of a session.

    This is the one table of statuses. A new one is a line here, and its colours and sign on the page
    (`base.css`, `page.html`). Members stand in the order in which counts are given.

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
class Result:
    """The record of one run (design 5.4). `folder` is where it was read from and is not stored; nor is
    `former_status`, which is the status of the run where that of the session is `unchanged`.

    Times are UTC in ISO 8601; `seconds` is monotonic; `peak_memory` is in bytes, with children.
    `inputs` and `outputs` are `{"path": str, "size": int, "mtime": int, "hash": str}`, of a red run path and
    size only: inputs relative to the project, outputs to the run folder, `/` between parts. `lineage` is what
    else a run depends on (`record.py`), empty for a red one. `children` are run folders of a build's flows,
    relative to the run folder.
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
    inputs: tuple[dict[str, Any], ...] = ()
    outputs: tuple[dict[str, Any], ...] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    peak_memory: int | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    former_status: Status | None = None

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
        return {"schema": SCHEMA, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: Path | None = None) -> Result:
        """The record that `to_dict` gave. Unknown keys of a newer minor version are passed over.

        Raises:
            ValueError: it is not a record of schema 1.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"not a result: it holds a JSON {_KINDS.get(type(data), 'value')}, no object")
        if data.get("schema") != SCHEMA:
            raise ValueError(f"not a result of schema {SCHEMA}: schema is {data.get('schema')!r}")
        values = {key: value for key, value in data.items() if key in _STORED}
        failure = values.get("failure")
        try:
            values["status"] = Status(values["status"])
            values["warnings"] = tuple(LogWarning(**warning) for warning in values.get("warnings", ()))
            values["cells"] = Cells(**values.get("cells", {"run": 0, "total": 0}))
            values["failure"] = failure and Failure(**{**failure, "source": tuple(failure["source"])})
            for name in ("inputs", "outputs", "children"):
                values[name] = tuple(values.get(name, ()))
            return cls(**values, folder=folder)
        except (KeyError, TypeError) as exc:
            raise ValueError(f"not a complete result: {exc}") from exc


_KINDS = {list: "list", str: "string", int: "number", float: "number"}


_STORED = tuple(f.name for f in fields(Result) if f.name not in ("folder", "former_status"))


def write_result(result: Result, folder: Path) -> None:
    """Write `result.json` of a run folder, atomically."""
    write_atomic(folder / RESULT, json.dumps(result.to_dict(), ensure_ascii=True, indent=1) + "\n")


def read_result(folder: Path) -> Result | None:
    """The result of a run folder; None if the last run wrote none.

    Raises:
        DuctaflowError: there is one, but it is not readable as one.
    """
    path = folder / RESULT
    try:
        return Result.from_dict(json.loads(path.read_bytes()), folder=folder)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise of_system(exc, path, hint=_ANEW) from exc
    except (ValueError, AttributeError, RecursionError) as exc:
        raise DuctaflowError(f"{path}: {exc}", hint=_ANEW) from exc


_ANEW = "Remove it, or run the instance again: it is written anew."


def why_not_valid(folder: Path) -> str | None:
    """Why the last run in a run folder cannot be read from; None if it can."""
    try:
        result = read_result(folder)
    except DuctaflowError as exc:
        return exc.message
    if result is None:
        return "it has no finished run"
    if not result.status.is_good:
        return f"its last run is red: {result.message}"
    for output in result.outputs:
        path = folder / output["path"]
        if not path.is_file():
            return f"its output {output['path']} is gone"
        if path.stat().st_size != output["size"]:
            return f"its output {output['path']} was changed since"
    return None
