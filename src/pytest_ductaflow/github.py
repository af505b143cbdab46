"""The output for GitHub Actions: annotations beside the code, and a summary of the step.

    ::error file=flows/fit.py,line=41,title=fit/scenario_A and 36 more::ValueError: ...

Both come from the controller at the end. GitHub shows ten annotations of a level for a step, so those that
concern most instances come first. `ductaflow.report.markdown` has the text of the summary.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.text import are_watched, clean, listed, shorten
from ductaflow.project.instances import Instance
from ductaflow.report.printed_at import PrintedAt
from ductaflow.report.schema import Head, InstanceTwin
from ductaflow.store.causes import origin_of
from ductaflow.store.result import Result, Status, readable_result
from ductaflow.store.spec import current_run
from pytest_ductaflow.failure import place_of, run_again
from pytest_ductaflow.projects import Projects

#: What GitHub shows of a level for one step.
MAX_ANNOTATIONS = 10
#: So many results are read to find where a build went wrong, and which lines are warnings.
MAX_LOOKS = 500
_MAX_MESSAGE = 2_000
_NAMED, _ALIKE = 3, 10
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


@dataclass(frozen=True, slots=True)
class SessionTwin:
    """The twin of one project of the session, instance by instance.

    Attributes:
        expected: ids of failures that their configs expect (`_run.xfail`).
    """

    head: Head
    instances: Iterable[InstanceTwin]
    root: Path
    page: Path | None
    expected: frozenset[str]


@dataclass
class Annotation:
    """One remark beside the code; instances with the same message at the same line share it.

    Attributes:
        path: absolute; None for a remark without a place.
        line: from 1; None for the file as a whole.
        messages: those that are told, each once.
    """

    level: Level
    path: Path | None
    line: int | None
    messages: dict[str, None]
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
        self._sources: dict[Path | None, PrintedAt] = {}
        # good runs whose test fails: new warnings, -W error
        self._failed: dict[str, str] = {}

    def update(self, report: pytest.TestReport) -> None:
        """Take note of a report of pytest."""
        crash = getattr(report.longrepr, "reprcrash", None)
        if report.failed and crash is not None:
            self._failed[report.nodeid] = crash.message

    def lines(self, outcomes: Iterable[InstanceOutcome]) -> Iterator[str]:
        """Yield the workflow commands: ten of each level, and how many are left out."""
        found = sorted(self._annotations(outcomes), key=lambda one: -len(one.instances))
        left_out = []
        for level in ("error", "warning"):
            of_level = [one for one in found if one.level == level]
            yield from map(self._command, of_level[:MAX_ANNOTATIONS])
            if more := len(of_level[MAX_ANNOTATIONS:]):
                left_out.append(f"{more} more {level}{'s' * (more > 1)}")
        if left_out:
            message = f"and {' and '.join(left_out)}: see the summary of the step and the report"
            yield self._command(Annotation("notice", None, None, {message: None}))

    def write_summary(self, twins: Iterable[SessionTwin]) -> str:
        """Add to the summary of the step.

        Args:
            twins: of the projects of the session.

        Returns:
            What went wrong; empty if nothing did.
        """
        if self._summary is None:
            return ""
        # Outside of CI nobody needs it.
        from ductaflow.report.markdown import append_summary

        try:
            for one in twins:
                page = self._shown(one.page) if one.page else ".."
                append_summary(
                    self._summary,
                    one.head,
                    one.instances,
                    one.root,
                    expected=one.expected,
                    page=page if page != ".." else "",
                )
        except (OSError, DuctaflowError) as exc:
            return f"no summary of the step: {exc}"
        return ""

    def _annotations(self, outcomes: Iterable[InstanceOutcome]) -> list[Annotation]:
        found: dict[tuple[object, ...], Annotation] = {}
        looks = MAX_LOOKS
        for outcome in outcomes:
            result, instance = outcome.result, outcome.instance
            if result.status.is_error and not outcome.expected:
                looks -= len(result.children)
                remarks = [self._red(result, instance, look=looks > 0)]
            elif outcome.nodeid in self._failed and not result.status.is_error:
                remarks = [self._failing(self._failed[outcome.nodeid], result, instance)]
            elif result.status is Status.WARNING:
                looks -= 1 + len(result.children)
                remarks = [*self._orange(result, instance, look=looks > 0)]
            else:
                continue
            for one in remarks:
                # Whatever instances print at a line, it is the line.
                kind = "" if one.level == "warning" else next(iter(one.messages)).partition(":")[0]
                known = found.setdefault((one.level, one.path, one.line, kind), one)
                known.messages |= one.messages
                if instance not in known.instances[-1:]:
                    known.instances.append(instance)
        return list(found.values())

    def _failing(self, message: str, result: Result, instance: Instance) -> Annotation:
        """Return the remark on a good run whose test fails, mostly for a warning."""
        found = self._printed(instance.source).find(message) if result.warning_count == 1 else None
        return Annotation("error", instance.source, found.line if found else None, {message: None})

    def _orange(self, result: Result, instance: Instance, *, look: bool) -> Iterator[Annotation]:
        """Yield a remark for each line that printed warnings, and one for warnings whose line is unknown."""
        rest: list[str] = []
        at: dict[tuple[Path | None, int], dict[str, None]] = {}
        for source, text in _warnings_of(result, instance) if look else ():
            if found := self._printed(source).find(text):
                at.setdefault((source, found.line), {})[clean(text)] = None
            else:
                rest.append(clean(text))
        for (source, line), texts in at.items():
            yield Annotation("warning", source, line, texts)
        if rest or not at:
            yield Annotation(
                "warning", instance.source, None, {"\n".join([clean(result.message), *rest]): None}
            )

    def _printed(self, source: Path | None) -> PrintedAt:
        if source not in self._sources:
            self._sources[source] = PrintedAt(source or Path())
        return self._sources[source]

    def _red(self, result: Result, instance: Instance, *, look: bool) -> Annotation:
        deepest = origin_of(result) if look else result
        path, line, message = place_of(deepest, instance, self._projects)
        return Annotation("error", self._projects.invocation_dir / path, line, {message: None})

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
        # Those of an error differ in what differs from instance to instance.
        texts = [*one.messages][: _ALIKE if one.level == "warning" else 1]
        yield shorten("\n".join(texts), _MAX_MESSAGE)
        if one.level == "warning" and one.messages.keys() - texts:
            yield f"and {len(one.messages) - len(texts)} more like it"
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


def _warnings_of(result: Result, instance: Instance) -> Iterator[tuple[Path | None, str]]:
    """Yield source and text of the warnings of a run, and of the flows of a build."""
    # Without a result, the number of lines is known all the same.
    pending = [(instance.run_folder.path, instance.source)]
    for folder, source in pending:
        found = readable_result(folder)
        for warning in found.warnings if found else ():
            yield source, warning.text
        for child in found.children if found else ():
            inner = folder / child
            flow = readable_result(inner)
            if flow and flow.status is Status.WARNING:
                pending.append((inner, instance.project.source_dir(flow.kind) / f"{flow.flow}.py"))
