"""The record of one run: what it says, how it is kept, and how a log is judged.

`result.json` is schema 1 of the design (5.4). A Result is frozen and crosses processes as plain data.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from ductaflow.errors import DuctaflowError, of_system
from ductaflow.layout import RESULT, TEMP_PREFIX, Kind

SCHEMA = 1
MAX_WARNINGS = 100
MAX_WARNING_CHARS = 500
#: No message of a run, nor what is shown of an exception, is longer.
MAX_MESSAGE_CHARS = 2000

_Kind = TypeVar("_Kind")
Cause = Literal["exception", "exit", "signal", "timeout", "interrupted", "lost", "input"]


class Status(StrEnum):
    """What came of an instance. The first three are verdicts of a run, the others of a session."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"
    BLOCKED = "blocked"
    NOT_RUN = "not_run"
    UNCHANGED = "unchanged"

    @property
    def is_good(self) -> bool:
        """Green or orange: what the run wrote may be read by others."""
        return self in (Status.SUCCESS, Status.WARNING)


#: From best to worst; a build has the worst status of itself and its flows.
SEVERITY = (Status.UNCHANGED, Status.SUCCESS, Status.WARNING, Status.NOT_RUN, Status.BLOCKED, Status.ERROR)


def worst(statuses: Sequence[Status]) -> Status:
    """The worst of some statuses, success for none."""
    return max(statuses, key=SEVERITY.index, default=Status.SUCCESS)


@dataclass(frozen=True, slots=True)
class LogWarning:
    """One warning line: its line number in the log, from 1, and its text without ANSI codes."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and how a run failed.

    Attributes:
        file: the flow's file that was executing, relative to the project where it lies in it.
        line: line in that file, from 1.
        cell: number of the code cell, from 1.
        ename: class of the exception; evalue: its text; traceback: the flow's own, without ANSI codes.
        source: the lines around `line`, each as `{"line": 41, "text": "..."}`.
    """

    file: str | None
    line: int | None
    cell: int | None
    ename: str
    evalue: str
    traceback: str
    source: tuple[dict[str, Any], ...] = ()


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


def write_atomic(path: Path, data: str | bytes | Iterable[str], *, sync: bool = True) -> None:
    """Replace a file whole or not at all, a power cut included.

    A string is written as UTF-8; a lone surrogate, which UTF-8 has not, becomes `\\udcxx` in words. What is
    too large to be held at once is given as an iterable of strings. Without `sync` a power cut may leave an
    empty file: for what is soon written again.
    """
    parts: Iterable[str | bytes] = (data,) if isinstance(data, str | bytes) else data
    # not by `tempfile`, whose files are for their owner alone whatever the umask says
    name = os.path.join(path.parent, f"{TEMP_PREFIX}{os.urandom(8).hex()}")
    try:
        with open(name, "xb") as file:
            for part in parts:
                file.write(part.encode("utf-8", "backslashreplace") if isinstance(part, str) else part)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


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


# --- the scan of a log -------------------------------------------------------------------------------------

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_WARNING = re.compile(r"\u26a0|warning:", re.IGNORECASE)
#: Ranges of what cannot be seen: controls but tab and newline, invisible marks that turn text around, lone
#: surrogates.
UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff"
)
_UNSEEN = re.compile(f"[{UNSEEN}]")
_WARNING_REACH = 15
_LINE_END = re.compile(r"\r\n|\n|\r")
_CHUNK = 1 << 20
#: No line is held longer than this; what is behind it in the same line cannot make a warning.
_LINE_KEPT = 4096


@dataclass(frozen=True, slots=True)
class LogScan:
    """What a log says: its warning lines (the first 100) and how many there are."""

    warnings: tuple[LogWarning, ...]
    warning_count: int


def strip_ansi(text: str) -> str:
    """Text without terminal escape sequences."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def plain(text: str) -> str:
    """Text of a flow as a terminal can take it.

    Escape sequences are gone. What cannot be seen is written in words, `\\x00` or `\\u202e`: control
    characters but tab and newline, marks that turn the writing around, lone surrogates.
    """
    if text.isascii() and text.isprintable():
        # most is, and logs are long
        return text
    return _UNSEEN.sub(in_words, strip_ansi(text).replace("\r\n", "\n"))


def in_words(found: re.Match[str]) -> str:
    """A character by its code, as Python's escapes spell it."""
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def in_numbers(counts: Counter[_Kind], order: Iterable[_Kind]) -> str:
    """What there is of each kind, in an order: `2 error, 5 success`; empty if there is nothing."""
    return ", ".join(f"{counts[kind]} {kind}" for kind in order if counts[kind])


def cut(text: str, most: int, *, whole: str = "") -> str:
    """A text of at most `most` characters, with how many are left out, and where the whole is."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    return f"{text[:most]} ... ({left_out:,} characters left out{f'; {whole}' if whole else ''})"


def is_warning_line(line: str) -> bool:
    """Whether a line of a log is a warning: the sign or `warning:` within its first 15 characters."""
    return _WARNING.search(strip_ansi(line)[:_WARNING_REACH]) is not None


def log_lines(path: Path) -> Iterator[str]:
    """The lines of a log as text, each cut after 4096 characters; memory stays bounded.

    `\\n`, `\\r\\n` and `\\r` end a line; invalid UTF-8 is shown as U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    kept = ""
    with path.open("rb") as file:
        while True:
            raw = file.read(_CHUNK)
            text = decoder.decode(raw, final=not raw)
            if raw and text.endswith("\r"):
                # it may be the first half of "\r\n"
                text += decoder.decode(file.read(1))
            *ended, rest = _LINE_END.split(text)
            for line in ended:
                yield (kept + line[:_LINE_KEPT])[:_LINE_KEPT]
                kept = ""
            kept = (kept + rest[:_LINE_KEPT])[:_LINE_KEPT]
            if not raw:
                if kept:
                    yield kept
                return


def scan_log(path: Path) -> LogScan:
    """Find the warning lines of a log of any size."""
    warnings: list[LogWarning] = []
    count = 0
    for number, line in enumerate(log_lines(path), start=1):
        if is_warning_line(line):
            count += 1
            if count <= MAX_WARNINGS:
                warnings.append(LogWarning(number, strip_ansi(line).strip()[:MAX_WARNING_CHARS]))
    return LogScan(tuple(warnings), count)


def analyze_execution_logs(folder: str | os.PathLike[str]) -> Literal["success", "warning", "error"]:
    """The status of the last run in a folder.

    It is what the run's own result says. A log without a result is a run that never came to its end: error.

    Args:
        folder: a run folder.

    Raises:
        DuctaflowError: nothing has run there, or its result is not readable.
    """
    path = Path(folder)
    result = read_result(path)
    if result is not None:
        return (
            "error"
            if result.status is Status.ERROR
            else "warning"
            if result.status is Status.WARNING
            else "success"
        )
    if any(path.glob("*_execution_output.txt")):
        return "error"
    raise DuctaflowError(
        f"{path}: nothing has run there", hint="Give the folder of one run: runs/<flow>/<instance>."
    )
