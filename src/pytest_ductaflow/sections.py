"""pytest's own sections at the end of a session: one failure of each cause, one warning of each kind.

    FAILURES                     the first failure of each cause; where many failed, in short
    warnings summary             the first of all runs that warn alike, and how many others do
    short test summary info      each failure, the others of a cause with the name of the first; where many
                                 failed, one of each cause

With `-v` nothing is left out. Reports themselves stay as they are: JUnit and other plugins have all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ductaflow.common.text import listed
from pytest_ductaflow.baseline import normalised
from pytest_ductaflow.failure import own_text, paint

#: More failed instances than these are many.
MANY = 10
_WARNING = ": FlowWarning: "
_NAMED = 3


class Sections:
    """Changes what pytest is about to show, step by step, and changes it back."""

    def __init__(self, reporter: pytest.TerminalReporter, causes: Iterable[Sequence[str]]) -> None:
        """Args: causes: node ids of the failed instances of each cause."""
        self._stats = reporter.stats
        self._full = {key: list(self._stats.get(key, ())) for key in ("failed", "error", "warnings")}
        self._words: list[tuple[Any, str]] = []
        self._is_whole = reporter.verbosity > 0
        self._groups = {nodeids[0]: nodeids[1:] for nodeids in causes}
        self._first = {nodeid: first for first, others in self._groups.items() for nodeid in others}
        self._is_many = len(self._groups) + len(self._first) > MANY

    def shorten_failures(self) -> None:
        """Before pytest shows failures and warnings: leave out those that are like an earlier one."""
        if self._is_whole:
            return
        for key in ("failed", "error"):
            for report in self._full[key]:
                if _is_ours(report) and (self._is_many or self._groups.get(report.nodeid)):
                    text = report.ductaflow_short if self._is_many else own_text(report)
                    more = len(self._groups.get(report.nodeid, ()))
                    paint(
                        report, "\n".join([text, *([f"{more} more failed for this cause"] if more else [])])
                    )
            self._show(key, [one for one in self._full[key] if not self._is_like_another(one)])
        self._show("warnings", _merged(self._full["warnings"]))
        self._shown_warnings = len(self._stats.get("warnings", ()))

    def shorten_summary(self) -> None:
        """Before pytest lists the failures in a line each."""
        if self._is_whole:
            return
        for key in ("failed", "error"):
            if not self._is_many:
                self._show(key, self._full[key])
            for report in self._full[key]:
                crash = getattr(report.longrepr, "reprcrash", None)
                if crash and self._is_like_another(report):
                    self._words.append((crash, crash.message))
                    crash.message = f"as {self._first[report.nodeid].rpartition('::')[2]}"

    def restore(self) -> None:
        """After all of them: everything is as it was, for the counts and for other plugins."""
        if self._is_whole:
            return
        for crash, message in self._words:
            crash.message = message
        # What came meanwhile has been added to what is shown.
        late = self._stats.get("warnings", [])[self._shown_warnings :]
        for key, reports in self._full.items():
            self._show(key, [*reports, *(late if key == "warnings" else ())])

    def _is_like_another(self, report: Any) -> bool:
        return _is_ours(report) and report.nodeid in self._first

    def _show(self, key: str, reports: list[Any]) -> None:
        if key in self._stats or reports:
            self._stats[key] = reports


def _is_ours(report: Any) -> bool:
    """Return whether the instance itself failed, and no fixture around it."""
    return hasattr(report, "ductaflow_short")


def _merged(reports: Sequence[Any]) -> list[Any]:
    """The warnings of runs that warn alike as one, which names the others."""
    groups: dict[str, list[Any]] = {}
    for number, report in enumerate(reports):
        _, found, text = report.message.partition(_WARNING)
        groups.setdefault(normalised(text) if found else str(number), []).append(report)
    return [_with_others(*group) for group in groups.values()]


def _with_others(first: Any, *others: Any) -> Any:
    if not others:
        return first
    names = [str(report.nodeid).rpartition("::")[2] for report in others]
    return replace(first, message=f"{first.message.rstrip()}\nand alike in {listed(names, _NAMED)}")
