"""The text of a failure in the terminal: where, why, the end of the log, and what to type next."""

from __future__ import annotations

import os
import re
import shlex
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from ductaflow.common.errors import ConfigError, Failure, SourceLine, source_lines
from ductaflow.common.paths import BASE_CONFIG, KIND_DIRS, RUN_KEY, RunFolder
from ductaflow.common.text import clean, cut, cut_lines, shown_path
from ductaflow.project.instances import Instance
from ductaflow.project.strict_json import read_config, read_text
from ductaflow.store.causes import origin_and_root
from ductaflow.store.logs import is_frame_line, is_warning_line, log_lines
from ductaflow.store.result import MAX_MESSAGE_CHARS, Result, readable_result
from ductaflow.store.spec import run_title
from pytest_ductaflow.projects import Projects

LOG_LINES, SHORT_LOG_LINES = 20, 3
MAX_LINE = 300
MAX_TRACEBACK_LINES = 80
#: So many runs of a build that differ are told.
_MAX_RUNS = 5
_FRAME = '  File "'
#: The place in the message of a run that was ended.
_LINE = re.compile(r"( in cell \d+ of \d+) \(line (\d+)\)")


class FailureText:
    """The text of a failure. Nothing is said twice.

    The traceback is without the message, and is left out where its only frame is the place; the end of the
    log is without both. What made a build fail is in one of its flows, its origin.
    """

    def __init__(self, result: Result, instance: Instance, projects: Projects) -> None:
        self._result, self._instance, self._projects = result, instance, projects
        self._origin, self._root = origin_and_root(result)

    @property
    def place(self) -> tuple[str, int, str]:
        """File, line and message, for the short summary."""
        return place_of(self._origin, self._instance, self._projects)

    def whole(self) -> str:
        """Return place, source, traceback, the end of the log, paths and commands."""
        if self._result.cause == "expectation":
            return self._unexpected()
        return self._joined("\n\n", self._parts())

    def short(self) -> str:
        """Return place, source and a few lines of the log, where many fail."""
        if self._result.cause == "expectation":
            return self._unexpected()
        return self._joined("\n", self._short_parts())

    def _parts(self) -> Iterator[Iterable[str]]:
        yield [self._head()]
        if failure := self._origin.failure:
            yield _source(failure)
            # The message of a run that was ended is not that of its traceback.
            yield _traceback(failure, is_said=self._origin.cause == "exception")
        yield self._end_of_log(LOG_LINES, "the log" if self._log == self._instance.run_folder.log else None)
        yield _ways_on(self._instance, self._projects)

    def _short_parts(self) -> Iterator[Iterable[str]]:
        yield [self._head()]
        if failure := self._origin.failure:
            yield _source(failure, around=1)
        yield self._end_of_log(SHORT_LOG_LINES)

    def _joined(self, between: str, parts: Iterable[Iterable[str]]) -> str:
        # Each part is clean, but joined they may begin a line with a command.
        return clean(between.join(filter(None, map("\n".join, parts))))

    def _head(self) -> str:
        path, line, message = _place(self._origin, self._instance, self._projects)
        where = f" ({self._root.where})" if self._root else ""
        return f"{path}:{line}: {message}{where}" if line else f"{path}: {message}{where}"

    @property
    def _log(self) -> Path:
        origin = self._origin
        own = self._instance.run_folder.log
        return RunFolder(origin.folder, origin.flow).log if self._root and origin.folder else own

    @cached_property
    def _tail(self) -> list[str]:
        return _log_tail(self._log, self._origin)

    def _end_of_log(self, most: int, name: str | None = None) -> list[str]:
        shown = name or shown_path(self._log, self._projects.invocation_dir)
        return [f"Last lines of {shown}:", *self._tail[-most:]] if self._tail else []

    def _unexpected(self) -> str:
        return clean("\n".join(_unexpected(self._result, self._instance, self._projects)))


def _unexpected(result: Result, instance: Instance, projects: Projects) -> Iterator[str]:
    from ductaflow.store.expected import unexpected_lines

    for number, one in enumerate([*_runs_that_differ(result)] or [result]):
        shown = instance.id
        if one is not result and one.folder:
            shown = shown_path(Path(os.path.normpath(one.folder)), projects.invocation_dir)
        if number == _MAX_RUNS:
            yield f"more flows differ, such as {shown}"
            return
        name = shown if number else instance.id
        bounds = ""
        if one.judged and any(each.metric and each.metric.kind == "bound" for each in one.judged.differences):
            # A build gives its flows their configs.
            where = shown_path(file_with_bounds(instance), projects.invocation_dir)
            where = where if one is result else f"the config that {instance.id} gives it"
            bounds = f"{where}, _run.expect"
        yield from unexpected_lines(one, instance.id, shown, name=name, bounds=bounds)


def file_with_bounds(instance: Instance) -> Path:
    """Return the file that says `_run.expect`: that of the instance, or one that lies under it."""
    folder, kind = instance.project.config_dir, KIND_DIRS[instance.kind]
    for path in (instance.file, folder / kind / f"{instance.flow}.json", folder / BASE_CONFIG):
        # One that is not there, or was damaged since, is not it.
        with suppress(ConfigError):
            if path.suffix != ".json":
                if re.search(r"\b_run(\.expect|[^.\w]|$)", read_text(path).partition("\n")[0]):
                    return path
            elif isinstance(options := read_config(path).get(RUN_KEY), dict) and options.get("expect"):
                return path
    return instance.file


def _runs_that_differ(result: Result) -> Iterator[Result]:
    """Yield the run itself if its own results differ, and the flows of a build whose results do."""
    if result.judged and result.judged.differences:
        yield result
    for child in result.children:
        inner = readable_result(result.folder / child) if result.folder else None
        if inner and inner.cause == "expectation":
            yield from _runs_that_differ(inner)


def own_text(report: pytest.TestReport) -> str:
    """Return the text of a failure without the name of its worker, which pytest writes by itself."""
    text = report.longreprtext
    return text.partition("\n")[2] if hasattr(report, "node") else text


def paint(report: pytest.TestReport, text: str | None = None) -> None:
    """Colour the text of a failure where the terminal has colours, or another text in its place."""
    longrepr: Any = report.longrepr
    plain = getattr(longrepr, "toterminal", None)
    if plain is None:
        return

    def toterminal(writer: Any) -> None:
        if text is None and not writer.hasmarkup:
            plain(writer)
            return
        lines = (own_text(report) if text is None else text).split("\n")
        for number, line in enumerate(lines):
            writer.line(line, **_markup(line, is_first=number == 0))

    longrepr.toterminal = toterminal


def _markup(line: str, *, is_first: bool) -> dict[str, bool]:
    if is_first or line.startswith("> "):
        return {"bold": True, "red": True}
    if line.startswith("| ") and is_warning_line(line[2:]):
        return {"yellow": True}
    return {"bold": True} if line.startswith(("run again:", "debug:")) else {}


def place_of(result: Result, instance: Instance, projects: Projects) -> tuple[str, int, str]:
    """Return file, line and message of a failure, for the short summary and for annotations."""
    path, line, message = _place(result, instance, projects)
    return path, line or 1, clean(message)


def _place(result: Result, instance: Instance, projects: Projects) -> tuple[str, int | None, str]:
    """Return file, line if it is known, and what happened, which a run's message has in one text."""
    failure = result.failure
    message = clean(result.message)
    if failure and failure.file and result.cause == "exception":
        return _path_of(failure, instance, projects), failure.line, _what(failure) or message
    source = shown_path(instance.source or instance.file, projects.invocation_dir)
    if result.cause in (None, "exception", "input", "expectation"):
        return source, None, message
    # A run that was ended from outside has no exception, or only the one that stopped the flow.
    if failure and failure.file:
        message = message.removeprefix(f"{clean(failure.file)}:{failure.line}: ")
        message = _LINE.sub(r"\1", message, count=1)
        return _path_of(failure, instance, projects), failure.line, f"{result.cause}: {message}"
    found = _LINE.search(message)
    if found is None or message.startswith("flow "):
        # no place, or in a flow of this build
        return source, None, f"{result.cause}: {message}"
    message = f"{message[: found.end(1)]}{message[found.end() :]}"
    return source, int(found[2]), f"{result.cause}: {message}"


def _path_of(failure: Failure, instance: Instance, projects: Projects) -> str:
    return shown_path(instance.project.root / str(failure.file), projects.invocation_dir)


def run_again(projects: Projects, instances: Iterable[Instance]) -> str:
    """Return the command that runs instances again from where pytest was called."""
    targets = [
        f"{shown_path(instance.file, projects.invocation_dir)}::{instance.title}" for instance in instances
    ]
    return " ".join(["pytest --ductaflow", *(f'"{target}"' for target in targets)])


def _what(failure: Failure) -> str:
    value = cut(clean(failure.evalue).strip(), MAX_MESSAGE_CHARS, whole="the log has them all")
    return f"{failure.ename}: {value}" if value else failure.ename


def _source(failure: Failure, *, around: int | None = None) -> Iterator[str]:
    shown = (
        SourceLine(line=entry["line"], text=cut(clean(entry["text"]), MAX_LINE))
        for entry in failure.source
        if around is None or abs(entry["line"] - (failure.line or 0)) <= around
    )
    return source_lines(shown, failure.line)


def _traceback(failure: Failure, *, is_said: bool) -> Iterator[str]:
    lines = [*_beyond_place(failure)] if is_said else clean(failure.traceback).splitlines()
    lines = [*cut_lines(lines, MAX_TRACEBACK_LINES, whole="the log has them all")]
    return (cut(line, MAX_LINE) for line in lines)


def _beyond_place(failure: Failure) -> Iterator[str]:
    """What a traceback says besides the place and the message: more frames, other exceptions, notes."""
    lines = clean(failure.traceback).splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith(_FRAME)]
    said = clean(f"{failure.ename}: {failure.evalue}" if failure.evalue else failure.ename).splitlines()
    end = (
        next((n for n in range(frames[-1] + 1, len(lines)) if not lines[n].startswith(" ")), 0)
        if frames
        else 0
    )
    if not end or not lines[end].endswith(said[0]):
        # not in the form that is known, such as a group of exceptions
        yield from lines
        return
    notes = lines[end + len(said) :]
    is_place = (
        len(frames) == 1 and f", line {failure.line}" in lines[frames[0]] and lines[0].startswith("Traceback")
    )
    if not is_place or not failure.source or notes:
        yield from lines[:end]
        yield from notes


def _log_tail(log: Path, run: Result) -> list[str]:
    """The last lines of a log, without its first and last, which frame it, and without the traceback."""
    said = clean(run.failure.traceback if run.failure else "").splitlines()
    try:
        last = deque(log_lines(log), maxlen=LOG_LINES + len(said) + 2)
    except FileNotFoundError:
        return []
    except OSError as exc:
        # the outcome is known without it
        return [f"{log}: cannot be read: {exc.strerror or exc}"]
    title = run_title(run.flow, run.instance)
    lines = [clean(line).rstrip() for line in last if not is_frame_line(line, title)]
    if said and lines[-len(said) :] == [line.rstrip() for line in said]:
        del lines[-len(said) :]
    return [f"| {cut(line, MAX_LINE)}".rstrip() for line in lines[-LOG_LINES:]]


def _ways_on(instance: Instance, projects: Projects) -> Iterator[str]:
    folder = instance.run_folder
    for name, path in (("log", folder.log), ("notebook", folder.notebook), ("config", folder.config)):
        if path.exists():
            yield f"{name + ':':<11}{shown_path(path, projects.invocation_dir)}"
    yield f"{'run again:':<11}{run_again(projects, [instance])}"
    source = instance.source
    if source and source.suffix == ".py":
        paths = (source, folder.config, folder.path)
        flow, config, runs_in = (shown_path(path, projects.invocation_dir) for path in paths)
        command = ["python", "-m", "pdb", flow, "--config", config, "--output-dir", runs_in]
        yield f"{'debug:':<11}{shlex.join(command)}"
    elif source:
        yield f"{'debug:':<11}open {shown_path(folder.notebook, projects.invocation_dir)} in Jupyter"
