"""From how a run ended to its status, its cause and a one-line message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Required, TypedDict

from ductaflow.common.errors import Failure
from ductaflow.common.machine import Memory
from ductaflow.common.text import cut, size
from ductaflow.store.result import MAX_MESSAGE_CHARS, Cause, Judged, Result, Status
from ductaflow.store.spec import Reads

Stop = Literal["timeout", "interrupted", "owner"]


class RunEvent(TypedDict, total=False):
    """One line of a run's report to its supervisor; which keys there are depends on `event`."""

    event: Required[str]
    total: int
    cell: int
    line: int | None
    failure: Failure
    cause: Cause
    signal: str | None
    code: int
    text: str
    id: str
    message: str
    folder: str
    name: str
    aside: str
    packages: dict[str, str]
    reads: Reads


@dataclass(slots=True)
class Told:
    """What the child reported before it ended, collected from its events.

    Attributes:
        cell, line: the code cell that started last, and its line in the source.
        run, total: code cells that ran to their end, and all.
        executed: the flow ended, in whatever way; what comes after it is ours.
        finished: the child came to its own end, with nothing left to do.
        failure: an exception of the flow, with `cause` exception, interrupted, signal or lost.
        exit: code and text of a `SystemExit`, and the cell that raised it.
        children: run folders of the flows that a build ran.
        refused: flows that a build could not even start, and why.
        reads: what it was seen to read.
        set_aside: files of the flow that had names of ours, and their new names.
        wrote_log: the flow opened the log by its name, to write into it.
        folder_removed: the run folder was not there at the end.
        notes: added to the message of the result.
    """

    cell: int | None = None
    line: int | None = None
    run: int = 0
    total: int = 0
    executed: bool = False
    finished: bool = False
    failure: Failure | None = None
    cause: Cause = "exception"
    signal: str | None = None
    exit: tuple[int, str, int] | None = None
    children: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)
    reads: Reads = field(default_factory=Reads)
    set_aside: dict[str, str] = field(default_factory=dict)
    wrote_log: bool = False
    folder_removed: bool = False
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[RunEvent]) -> Told:
        told = cls()
        for event in events:
            told._add(event)
        return told

    def _add(self, event: RunEvent) -> None:
        match event:
            case {"event": "cells", "total": total}:
                self.total = total
            case {"event": "cell_started", "cell": cell, "line": line}:
                self.cell, self.line = cell, line
            case {"event": "cell_finished"}:
                self.run += 1
            case {"event": "failed", "failure": failure, "cause": cause, "signal": signal}:
                self.failure, self.cause, self.signal = failure, cause, signal
            case {"event": "exited", "code": code, "text": text, "cell": cell, "line": line}:
                self.exit, self.line = (code, text, cell), line or self.line
                # A clean exit ends the last cell properly.
                self.run += code == 0 and cell == self.total
            case {"event": "refused", "id": id, "message": message}:
                self.refused.append(f"flow {id}: {message}")
            case {"event": "child", "folder": folder}:
                if folder not in self.children:
                    self.children.append(folder)
            case {"event": "executed"}:
                self.executed = True
            case {"event": "finished", "packages": packages}:
                self.finished, self.packages = True, packages
            case {"event": "read", "reads": reads}:
                self.reads.add(reads)
            case {"event": "set_aside", "name": name, "aside": aside}:
                self.set_aside[name] = aside
            case {"event": "wrote_log"}:
                self.wrote_log = True
            case {"event": "note", "text": text}:
                self.notes.append(text)
            case _:
                raise ValueError(f"unknown event of a run: {event}")

    @property
    def place(self) -> str:
        """` in cell 3 of 7 (line 41)`, as far as known."""
        if self.cell is None:
            return " before the first cell"
        where = f" in cell {self.cell} of {self.total}"
        return f"{where} (line {self.line})" if self.line else where


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How the child ended, as the supervisor saw it.

    Attributes:
        stop: why it was asked to stop before the flow had ended, whatever the flow did then.
        cut_off: it was ended after the flow, in our own work.
        peak_memory: in bytes.
    """

    exit_code: int | None
    signal: str | None = None
    stop: Stop | None = None
    cut_off: bool = False
    peak_memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending(ChildEnd):
    """The end of a child, and what else the verdict depends on.

    Attributes:
        memory_kills: how many processes the system has killed for memory while it ran, in its control group;
            None if the system does not tell.
        memory: what there is; None where it does not matter.
    """

    told: Told
    timeout: float | None = None
    memory_kills: int | None = None
    memory: Memory | None = None
    allow_exit: bool = False
    warning_count: int = 0
    children: Sequence[Result] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    cause: Cause | None
    message: str


def judge(end: Ending) -> Verdict:
    """Return the verdict: an error for anything that kept the run from its end, then a warning."""
    return _red(end) or _orange(end) or Verdict(Status.SUCCESS, None, "")


def judge_again(build: Result, flows: Sequence[Result], ran: Result, *, allow_exit: bool) -> Result:
    """Return the result of a build after one of its flows ran again by itself.

    The build's own part stays: an exception from its cells, even from a flow that it did not catch; cells
    that did not run; a flow that could not start; the warnings of its log. Its flows count as they are now.

    Args:
        build: its result so far.
        flows: what its flows are now.
        ran: the one that ran again; the message says so, since the cells of the build did not.
        allow_exit: `_run.allow_exit` of the build.
    """
    judged, build = build.judged, unjudged(build)
    notes = [*_RAN_AGAIN.findall(build.message), f"flow {ran.id} ran again by itself since"]
    message = _RAN_AGAIN.sub("", build.message)
    status, cause = build.status, build.cause
    if status.is_good or _is_red_by_flows(build, message):
        early = status.is_good or any(w.text.startswith(f"⚠ {_EARLY}") for w in build.warnings)
        told = Told(run=build.cells.run, total=build.cells.total, executed=True, finished=True)
        if early or allow_exit:
            told.exit = (0, "", build.cells.run)
        verdict = judge(
            Ending(
                told=told,
                exit_code=0,
                allow_exit=allow_exit or not message.startswith(_EARLY),
                warning_count=build.warning_count,
                children=flows,
            )
        )
        if (status, cause) != (verdict.status, verdict.cause) or not message.startswith(verdict.message):
            message = verdict.message
        status, cause = verdict.status, verdict.cause
    message = "; ".join(filter(None, [message, *dict.fromkeys(notes)]))
    again = replace(build, status=status, run_status=status, cause=cause, message=message)
    return as_judged(again, judged, flows)


def as_judged(result: Result, judged: Judged | None, flows: Sequence[Result]) -> Result:
    """Return the result of a run after its results were compared with those expected.

    Only a complete run is judged: one that failed stays as it is.

    Args:
        result: what running gave, or what an earlier judgement made of it.
        judged: what came of the comparison; None if nothing is expected.
        flows: those of a build, which is as good as they are.
    """
    run = unjudged(result)
    if not run.is_complete:
        return run
    if judged:
        # One that said that a flow differs, and nothing else, says nothing now.
        judged = replace(judged, message="") if judged.metrics or judged.files else None
    wrong = (f"flow {flow.id}: {flow.message}" for flow in flows if flow.status.is_error)
    message = judged.summary if judged and judged.differences else next(wrong, "")
    if not message:
        return replace(run, judged=judged)
    return replace(
        run,
        status=Status.ERROR,
        run_status=run.ran,
        cause="expectation",
        message="; ".join(filter(None, [message, run.message])),
        judged=replace(judged or Judged(0, 0), message=message),
    )


def unjudged(result: Result) -> Result:
    """Return what running gave: the result without what judging has added."""
    added = result.judged.message if result.judged else ""
    if not added:
        return replace(result, judged=None)
    message = result.message.removeprefix(added).removeprefix("; ")
    return replace(result, status=result.ran, cause=None, message=message, judged=None)


_RAN_AGAIN = re.compile(r"(?:^|; )(flow \S+ ran again by itself since)(?=; |$)")


def _is_red_by_flows(build: Result, message: str) -> bool:
    """Return whether a build failed only because of its flows. A flow that could not start gives `input`."""
    ended_badly = build.failure or build.signal or build.exit_code
    return message.startswith("flow ") and build.cause != "input" and not ended_badly


def _red(end: Ending) -> Verdict | None:
    told = end.told
    if end.stop:
        return _stopped(end)
    if end.signal and not end.cut_off:
        return _error("signal", f"killed by {end.signal}{told.place}{_why_killed(end)}")
    if told.folder_removed:
        return _error("exception", "the run folder was removed while it ran")
    if told.failure:
        return _error(told.cause, _failure_line(told.failure))
    if told.exit and told.exit[0] != 0:
        code, text, _ = told.exit
        return _error("exit", f"sys.exit({text or code}){told.place}")
    if not told.executed or (end.exit_code and not told.exit):
        return _error(
            "exit",
            f"the process ended with exit code {end.exit_code}{told.place}, before the run was finished",
        )
    if told.refused:
        return _error("input", told.refused[0])
    red = [child for child in end.children if child.is_failed]
    if red:
        return _error(red[0].cause or "lost", f"flow {red[0].id}: {red[0].message}")
    if told.run < told.total and not told.exit:
        return _error("lost", f"only {told.run} of {told.total} code cells ran")
    return _error("exception", note) if (note := note_of_set_aside(told)) else None


def note_of_set_aside(told: Told) -> str:
    """Say which files of the flow had names of ours, and where they are; empty for none."""
    return "; ".join(
        f"the flow wrote {name}, which is the name of a file of ductaflow: its own is kept as {aside}"
        for name, aside in told.set_aside.items()
    )


#: What a run is told that nobody waits for any more.
UNWAITED = "the session ended before this run did"


def _stopped(end: Ending) -> Verdict:
    failure = end.told.failure
    # If there is one, the interrupt was raised in this very line.
    place = replace(end.told, line=failure.line).place if failure and failure.line else end.told.place
    if end.stop == "timeout":
        return _error("timeout", f"did not finish within {end.timeout:g} s, stopped{place}")
    if end.stop == "owner":
        return _error("interrupted", f"{UNWAITED}, stopped{place}")
    return _error("interrupted", f"interrupted{place}")


_EARLY = "stopped early at cell"


def stopped_early(told: Told) -> str | None:
    """Return a note if a flow left by `sys.exit(0)` before its last cell, else None."""
    if told.exit and told.exit[0] == 0 and told.exit[2] < told.total:
        return f"{_EARLY} {told.exit[2]} of {told.total}"
    return None


def _orange(end: Ending) -> Verdict | None:
    early = stopped_early(end.told)
    if early and not end.allow_exit:
        return Verdict(Status.WARNING, None, early)
    if end.warning_count:
        return Verdict(
            Status.WARNING, None, f"{end.warning_count} warning line{'s'[: end.warning_count > 1]}"
        )
    for child in end.children:
        if child.ran is Status.WARNING:
            return Verdict(Status.WARNING, None, f"flow {child.id}: {child.message}")
    return None


#: What a message says of a run while which the system has counted a kill for memory: its own, or another one.
OUT_OF_MEMORY, KILLED_FOR_MEMORY = "out of memory, as the system counts", "for memory while it ran"


def was_killed_for_memory(message: str) -> bool:
    """Return whether the message of a result says that memory did not suffice: its peak is no whole one."""
    return OUT_OF_MEMORY in message or KILLED_FOR_MEMORY in message


def _why_killed(end: Ending) -> str:
    """Say what is known of why a signal came: the system kills for memory, people for any reason."""
    if end.signal == "SIGSEGV":
        return " (a crash in compiled code)"
    if end.signal != "SIGKILL":
        return ""
    known = {None: "the system does this when memory runs out", 0: ""}
    why = known.get(end.memory_kills, OUT_OF_MEMORY)
    text = ": ".join(filter(None, [why, memory_of(end.peak_memory, end.memory)]))
    return f" ({text})" if text else ""


def memory_of(peak: int | None, memory: Memory | None) -> str:
    """Say how much memory a run took and how much there is, as far as known."""
    parts = [f"its peak was {size(peak)}"] if peak else []
    parts += [f"{memory.owner} has {size(memory.total)}"] if memory else []
    return ", ".join(parts)


def _failure_line(failure: Failure) -> str:
    place = f"{failure.file}:{failure.line}: " if failure.file and failure.line else ""
    text = failure.evalue.strip().splitlines()
    return f"{place}{failure.ename}{f': {text[0]}' if text else ''}"


def _error(cause: Cause, message: str) -> Verdict:
    return Verdict(Status.ERROR, cause, cut(message, MAX_MESSAGE_CHARS))
