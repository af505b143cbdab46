"""The output for GitHub Actions: annotations beside the code, and a summary of the step.

    ::error file=flows/fit.py,line=41,title=fit/scenario_A and 36 more::ValueError: ...

Both come from the controller at the end, from the results that it has. GitHub shows ten annotations of a
level for a step and drops a summary of more than a megabyte whole, so both are cut here, worst first.
"""

from __future__ import annotations

import html
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from ductaflow.common.text import are_watched, clean, in_numbers, listed, shorten
from ductaflow.project.instances import Instance
from ductaflow.store.causes import origin_of
from ductaflow.store.result import Result, Status, readable_result
from ductaflow.store.spec import current_run
from pytest_ductaflow.failure import place_of, run_again
from pytest_ductaflow.projects import Projects

MAX_ANNOTATIONS = 10
#: GitHub drops a summary of more than 1 MiB.
MAX_SUMMARY_BYTES = 900_000
#: So many results of flows inside builds are read to find where a build went wrong.
MAX_LOOKS = 500
_MAX_MESSAGE = 2_000
_MAX_CELL = 300
_NAMED = 3
Level = Literal["error", "warning", "notice"]


@dataclass(frozen=True, slots=True)
class InstanceOutcome:
    """The outcome of one instance, as the controller knows it at the end.

    Attributes:
        result: without its warning lines; those that are shown are read again.
        expected: it failed as its config expects (`_run.xfail`).
    """

    nodeid: str
    instance: Instance
    result: Result
    expected: bool = False


@dataclass
class Annotation:
    """One remark beside the code; instances with the same message at the same line share it."""

    level: Level
    #: Absolute; None for a remark without a place.
    path: Path | None
    #: From 1; None for the file as a whole.
    line: int | None
    message: str
    instances: list[Instance] = field(default_factory=list)


def for_this_session(projects: Projects) -> GitHub | None:
    """Return None outside of GitHub Actions, and in a flow that starts pytest: its output is a log."""
    return GitHub(projects) if are_watched() and current_run() is None else None


class GitHub:
    """Annotations and summary of a session."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        # annotations name files from there
        self._workspace = Path(os.environ.get("GITHUB_WORKSPACE") or projects.rootdir)
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        self._summary = Path(summary) if summary else None
        # good runs whose test fails: new warnings, -W error
        self._failed: dict[str, str] = {}

    def update(self, report: pytest.TestReport) -> None:
        """Take note of a report of pytest."""
        crash = getattr(report.longrepr, "reprcrash", None)
        if report.failed and crash is not None:
            self._failed[report.nodeid] = crash.message

    def lines(self, outcomes: Iterable[InstanceOutcome]) -> Iterator[str]:
        """Yield the workflow commands: ten annotations, errors first, and how many are left out."""
        found = self._annotations(outcomes)
        found.sort(key=lambda one: one.level != "error")
        for one in found[:MAX_ANNOTATIONS]:
            yield self._command(one)
        left = len(found) - MAX_ANNOTATIONS
        if left > 0:
            yield self._command(Annotation("notice", None, None, f"and {left} more: see the report"))

    def write_summary(self, outcomes: Sequence[InstanceOutcome], pages: Iterable[Path]) -> str:
        """Add to the summary of the step.

        Returns:
            What went wrong; empty if nothing did.
        """
        if self._summary is None or not outcomes:
            return ""
        try:
            there = self._summary.stat().st_size if self._summary.exists() else 0
            shown = [self._shown(page) for page in pages]
            text = summary_text(outcomes, shown, MAX_SUMMARY_BYTES - there, failed=self._failed)
            with self._summary.open("ab") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
        except OSError as exc:
            return f"no summary of the step: {exc}"
        return ""

    def _annotations(self, outcomes: Iterable[InstanceOutcome]) -> list[Annotation]:
        found: dict[tuple[object, ...], Annotation] = {}
        looks = MAX_LOOKS
        for outcome in outcomes:
            result, instance = outcome.result, outcome.instance
            if result.status.is_error and not outcome.expected:
                looks -= len(result.children)
                one = self._red(result, instance, look=looks > 0)
            elif outcome.nodeid in self._failed and not result.status.is_error:
                one = Annotation("error", instance.source, None, self._failed[outcome.nodeid])
            elif result.status is Status.WARNING:
                one = Annotation("warning", instance.source, None, result.message)
            else:
                continue
            kind = one.message.partition(":")[0]
            found.setdefault((one.level, one.path, one.line, kind), one).instances.append(instance)
        return list(found.values())

    def _red(self, result: Result, instance: Instance, *, look: bool) -> Annotation:
        deepest = origin_of(result) if look else result
        path, line, message = place_of(deepest, instance, self._projects)
        return Annotation("error", self._projects.invocation_dir / path, line, message)

    def _command(self, one: Annotation) -> str:
        properties = {}
        place = self._shown(one.path) if one.path else ".."
        if not place.startswith(".."):
            properties = {"file": place, "line": str(one.line or 1)}
        properties["title"] = listed([instance.id for instance in one.instances], _NAMED) or "ductaflow"
        given = ",".join(f"{name}={escape_property(value)}" for name, value in properties.items())
        text = "\n".join(self._text(one))
        return f"::{one.level} {given}::{escape_data(text)}"

    def _text(self, one: Annotation) -> Iterator[str]:
        message = one.message
        if one.level == "warning":
            message = "\n".join([message, *_warning_lines(one.instances[0])])
        yield shorten(message, _MAX_MESSAGE)
        if one.instances:
            yield f"Run again: {run_again(self._projects, one.instances[:1])}"

    def _shown(self, path: Path) -> str:
        """Return a path from the root of the repository; `..` if it lies outside."""
        for found, root in ((path, self._workspace), (path.resolve(), self._workspace.resolve())):
            relative = Path(os.path.abspath(found))
            if relative.is_relative_to(os.path.abspath(root)):
                return relative.relative_to(os.path.abspath(root)).as_posix()
        return ".."


def escape_data(text: str) -> str:
    """Escape the message of a workflow command, so that it is one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape the value of a property of a workflow command."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def _warning_lines(instance: Instance) -> list[str]:
    # Without a result, the number of lines is known all the same.
    result = readable_result(instance.run_folder.path)
    return [clean(warning.text) for warning in result.warnings] if result else []


# --- the summary -------------------------------------------------------------------------------------------


def summary_text(
    outcomes: Sequence[InstanceOutcome], pages: Sequence[str], max_bytes: int, *, failed: Collection[str] = ()
) -> str:
    """Return the summary of a step in Markdown: counts, then a table of instances that need attention.

    Args:
        outcomes: of the session.
        pages: the reports, from the root of the repository.
        max_bytes: the most that it takes as UTF-8; empty if not even the counts fit.
        failed: node ids of failed tests of good runs; they come behind the errors.
    """
    counts = Counter("xfail" if one.expected else one.result.status for one in outcomes)
    head = f"### ductaflow: {in_numbers(counts, (*Status, 'xfail'))}\n\n"
    end = "".join(f"\nThe report: `{page}`\n" for page in pages if page != "..")
    bad = [
        one
        for one in outcomes
        if (one.result.status.needs_attention or one.nodeid in failed) and not one.expected
    ]
    bad.sort(
        key=lambda one: (not one.result.status.is_error, one.nodeid not in failed, one.result.status.place)
    )
    rows = ["| | instance | what |\n|---|---|---|\n"] if bad else []
    room = max_bytes - _size(head) - _size(end) - 200
    if room < 0:
        return ""
    for number, one in enumerate(bad):
        result = one.result
        marked = Status.ERROR if one.nodeid in failed else result.status
        row = f"| {marked.mark} {result.status} | {_cell(result.id)} | {_cell(clean(result.message))} |\n"
        room -= _size(row)
        if room < 0:
            rows.append(f"\nand {len(bad) - number} more\n")
            break
        rows.append(row)
    return "".join([head, *rows, end])


def _cell(text: str) -> str:
    """Escape text for a cell of a table: one line without markup, links or mentions."""
    line = shorten(" ".join(text.split()), _MAX_CELL)
    return re.sub(r"[^\w\s,;&-]|_", lambda found: f"&#{ord(found[0])};", html.escape(line, quote=False))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))
