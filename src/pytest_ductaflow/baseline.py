"""The warning ratchet: with `--ductaflow-baseline FILE` known warning lines are fine and new ones fail.

    fit/scenario_A: Warning: <n> gaps in the record        one line of the file

An instance with a warning line that the file does not have fails; its status stays `warning`. Lines are
compared without what differs from run to run: numbers, hexadecimal numbers, dates and times, folders. How
often a line comes does not count. The file is sorted text, one entry a line, so that a diff is what changed
and a merge of two branches is the lines of both.

Each process compares its own items; the controller has all of them, names what no longer occurs, and writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ductaflow.common.errors import ConfigError
from ductaflow.common.files import write_atomic
from ductaflow.common.text import cut, strip_ansi
from ductaflow.project.strict_json import read_text
from ductaflow.store.causes import ADDRESS, DATE, FOLDER, IDENTIFIER, NUMBER, TIME
from ductaflow.store.logs import is_warning_line, log_lines
from ductaflow.store.result import MAX_MESSAGE_CHARS, LogWarning, Result, Status
from pytest_ductaflow.projects import Projects

UPDATE = "--ductaflow-baseline-update"
#: Different lines of one instance that are kept; all others are one entry.
MAX_KINDS = 200
TOO_MANY = f"... more than {MAX_KINDS} different warning lines"
_HEAD = f"# Warning lines that are known. Written by pytest --ductaflow with {UPDATE}.\n"
_MAX_CHARS = 500
_KEY = re.compile(r"(?:.*/)?[\w.+-]+/[\w.+-]+")
_MAX_TOLD = 20
# The order counts: what is replaced first is not seen by the later ones.
_RULES = (
    (DATE, "<date>"),
    (TIME, "<time>"),
    # a folder differs between machines; the name of the file says what it is
    (FOLDER, "<path>/"),
    (r"(?<=<path>/)tmp\w+", "<name>"),
    (f"{ADDRESS}|{IDENTIFIER}", "<hex>"),
    (NUMBER, "<n>"),
    # an array of whatever length
    (r"<n>(?:[\s,;]+<n>)+", "<n>, ..."),
)


def normalised(text: str) -> str:
    """Return a warning line without what differs from run to run, cut after 500 characters."""
    text = " ".join(strip_ansi(text).split())
    for pattern, name in _RULES:
        text = re.sub(pattern, name, text)
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text).encode("utf-8", "replace").decode("utf-8")
    return text[:_MAX_CHARS].rstrip()


def kinds_of(result: Result, log: Path) -> dict[str, LogWarning]:
    """Return the different warning lines of a good run, normalised, each with the first of its kind."""
    found: dict[str, LogWarning] = {}
    for warning in _warnings(result, log):
        kind = normalised(warning.text)
        if kind not in found and len(found) >= MAX_KINDS:
            return {**found, TOO_MANY: warning}
        found.setdefault(kind, warning)
    return found


def and_more(texts: Sequence[str], left_out: int) -> str:
    """Return what one warning says of the other warning lines of its run; nothing where it is the only one.

    >>> and_more(["Warning: 3 gaps", "Warning: 4 gaps", "Warning: no unit"], 0)
    ' (and 2 more lines, 2 kinds)'

    Args:
        texts: the lines that are known, of which the first is shown.
        left_out: how many more there are.
    """
    more = len(texts) - 1 + left_out
    if not more:
        return ""
    kinds = len({normalised(text) for text in texts})
    counted = f", {'at least ' if left_out else ''}{kinds} kinds" if kinds > 1 else ""
    return f" (and {more:,} more line{'s'[: more > 1]}{counted})"


def _warnings(result: Result, log: Path) -> Iterable[LogWarning]:
    if not result.warning_count:
        # stopped early, or a build whose flow has a warning that its log does not repeat
        is_orange = Status.WARNING in (result.status, result.former_status)
        return [LogWarning(1, result.message)] if is_orange else []
    if result.warning_count <= len(result.warnings):
        return result.warnings
    return (
        LogWarning(number, strip_ansi(line).strip())
        for number, line in enumerate(log_lines(log), start=1)
        if is_warning_line(line)
    )


# --- the file ----------------------------------------------------------------------------------------------


def read_baseline(path: Path) -> dict[str, set[str]]:
    """Read the known warning lines of instances, by their keys.

    Raises:
        ConfigError: the file cannot be read, or a line is no entry; file, line and remedy are named.
    """
    known: dict[str, set[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key, colon, text = line.partition(": ")
        if not colon or not _KEY.fullmatch(key) or not text.strip():
            raise ConfigError(
                f"{path}:{number}: not an entry such as `fit/scenario_A: Warning: <n> gaps`",
                hint=f"Fix the line, or remove the file and make a new one with {UPDATE}.",
            )
        known.setdefault(key, set()).add(text.strip())
    return known


def write_baseline(path: Path, known: Mapping[str, Iterable[str]]) -> None:
    """Replace the file, sorted."""
    entries = sorted(f"{key}: {kind}\n" for key, kinds in known.items() for kind in kinds)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join([_HEAD, *entries]))


# --- in a session ------------------------------------------------------------------------------------------


@dataclass
class Baseline:
    """The known warnings, and those that this process has seen.

    Attributes:
        path: the file; shown: its name for people.
        update: write it at the end; then no warning is new.
        strict: entries that no longer occur fail the session.
        seen: on the controller, the warnings of each instance that ran, by its key.
    """

    path: Path
    shown: str
    known: dict[str, set[str]]
    update: bool = False
    strict: bool = False
    seen: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, shown: str, *, update: bool, strict: bool) -> Baseline:
        """Read the file, which may be missing if it will be written.

        Raises:
            ConfigError: it is missing or cannot be read.
        """
        if not update and not path.exists():
            raise ConfigError(f"there is no baseline {shown}", hint=f"Make it: add {UPDATE}.")
        return cls(path, shown, read_baseline(path) if path.exists() else {}, update, strict)

    def new(self, key: str, kinds: Mapping[str, LogWarning]) -> list[LogWarning]:
        """Return the warnings of an instance that are not known."""
        if self.update:
            return []
        return [warning for kind, warning in kinds.items() if kind not in self.known.get(key, ())]

    def see(self, nodeid: str, told: str, projects: Projects) -> None:
        """Take note of the warnings of a run that finished; they are JSON."""
        if instance := projects.instance(nodeid):
            self.seen[projects.key(instance)] = set(json.loads(told))

    def stale(self, projects: Projects) -> list[str]:
        """Return entries that no longer occur: of instances that ran here, or are no longer stored."""
        return sorted(
            f"{key}: {kind}"
            for key, kinds in self.known.items()
            if key in self.seen or projects.is_gone(key)
            for kind in kinds - self.seen.get(key, set())
        )

    def close(self, projects: Projects) -> bool:
        """Write the file at the end of the session, if asked to.

        Returns:
            Whether the session fails because an entry no longer occurs.
        """
        if self.update:
            kept = {key: kinds for key, kinds in self.known.items() if not projects.is_gone(key)}
            write_baseline(self.path, {**kept, **self.seen})
            return False
        return self.strict and bool(self.stale(projects))

    def lines(self, projects: Projects) -> list[str]:
        """Return the lines at the end of the session."""
        stale = self.stale(projects)
        if self.update:
            added = sum(len(kinds - self.known.get(key, set())) for key, kinds in self.seen.items())
            return [f"{self.shown}: {added} warning lines added, {len(stale)} removed"]
        if not stale:
            return []
        count = "1 entry" if len(stale) == 1 else f"{len(stale)} entries"
        lines = [f"no longer seen: {count} of {self.shown}"]
        lines += [f"  {entry}" for entry in stale[:_MAX_TOLD]]
        if len(stale) > _MAX_TOLD:
            lines.append(f"  and {len(stale) - _MAX_TOLD} more")
        return [*lines, f"{UPDATE} takes them out"]


def headline(new: Sequence[LogWarning]) -> str:
    """Describe the new warnings of an instance in one line: how many, and which."""
    texts = cut("; ".join(warning.text for warning in new), MAX_MESSAGE_CHARS)
    return f"new warning: {texts}" if len(new) == 1 else f"{len(new)} new warnings: {texts}"


def complaint(new: Iterable[LogWarning], *, log: str, baseline: Baseline, accept: str) -> str:
    """Return the text of the failure of an instance with new warnings; `accept` runs the instance."""
    lines = [f"{log}:{warning.line}: new warning: {warning.text}" for warning in new]
    lines += ["", f"Not in {baseline.shown}. Fix the cause, or accept the new warnings:"]
    lines += [f"    {accept} --ductaflow-baseline {baseline.shown} {UPDATE}"]
    return "\n".join(lines)
