"""From how a run ended to its status, cause and message."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from ductaflow.common.errors import Failure
from ductaflow.common.machine import Memory
from ductaflow.store.result import Result, Status
from ductaflow.store.verdict import Ending, Told, judge

FAILURE = Failure("flows/fit.py", 41, 3, "ValueError", "no weeks\nat all", "Traceback ...")


def told(**values: Any) -> Told:
    return Told(**{"cell": 7, "line": 60, "run": 7, "total": 7, "executed": True, "finished": True, **values})


def ending(told: Told, **values: Any) -> Ending:
    return Ending(**{"told": told, "exit_code": 0, "signal": None, **values})


def stopped_in_cell_3(**values: Any) -> Told:
    return told(cell=3, line=41, run=2, executed=False, finished=False, **values)


def flow(status: Status, **values: Any) -> Result:
    return Result(flow="assign", instance="s37", kind="flow", status=status, **values)


CASES = {
    "green": (ending(told()), ("success", None, "")),
    "warning lines": (ending(told(), warning_count=2), ("warning", None, "2 warning lines")),
    "one warning line": (ending(told(), warning_count=1), ("warning", None, "1 warning line")),
    "exception": (
        ending(stopped_in_cell_3(failure=FAILURE), exit_code=1),
        ("error", "exception", "flows/fit.py:41: ValueError: no weeks"),
    ),
    "sigkill": (
        ending(stopped_in_cell_3(), exit_code=None, signal="SIGKILL"),
        (
            "error",
            "signal",
            "killed by SIGKILL in cell 3 of 7 (line 41) (the system does this when memory runs out)",
        ),
    ),
    "sigkill, and the system counts what it kills for memory": (
        ending(
            stopped_in_cell_3(),
            exit_code=None,
            signal="SIGKILL",
            peak_memory=7_900_000_000,
            memory_kills=1,
            memory=Memory(8_000_000_000, 0, "its control group"),
        ),
        (
            "error",
            "signal",
            "killed by SIGKILL in cell 3 of 7 (line 41) (out of memory, as the system counts:"
            " its peak was 7.9 GB, its control group has 8.0 GB)",
        ),
    ),
    "sigkill, and the system has killed nothing for memory": (
        ending(
            stopped_in_cell_3(),
            exit_code=None,
            signal="SIGKILL",
            peak_memory=98_000_000,
            memory_kills=0,
            memory=Memory(8_000_000_000, 0),
        ),
        (
            "error",
            "signal",
            "killed by SIGKILL in cell 3 of 7 (line 41) (its peak was 98 MB, the machine has 8.0 GB)",
        ),
    ),
    "os._exit(0)": (
        ending(stopped_in_cell_3(), exit_code=0),
        (
            "error",
            "exit",
            "the process ended with exit code 0 in cell 3 of 7 (line 41), before the run was finished",
        ),
    ),
    "ended before the first cell": (
        ending(Told(), exit_code=3),
        (
            "error",
            "exit",
            "the process ended with exit code 3 before the first cell, before the run was finished",
        ),
    ),
    "sys.exit(3)": (
        ending(told(cell=3, line=41, run=2, exit=(3, "3", 3)), exit_code=3),
        ("error", "exit", "sys.exit(3) in cell 3 of 7 (line 41)"),
    ),
    "sys.exit(0) in the middle": (
        ending(told(cell=3, run=2, exit=(0, "", 3))),
        ("warning", None, "stopped early at cell 3 of 7"),
    ),
    "sys.exit(0) in the middle, allowed": (
        ending(told(cell=3, run=2, exit=(0, "", 3)), allow_exit=True),
        ("success", None, ""),
    ),
    "sys.exit(0) in the last cell": (ending(told(run=7, exit=(0, "", 7))), ("success", None, "")),
    "timeout": (
        ending(stopped_in_cell_3(), exit_code=None, signal="SIGKILL", stop="timeout", timeout=1.5),
        ("error", "timeout", "did not finish within 1.5 s, stopped in cell 3 of 7 (line 41)"),
    ),
    "timeout whose interrupt the flow swallowed": (
        ending(told(), stop="timeout", timeout=1.5),
        ("error", "timeout", "did not finish within 1.5 s, stopped in cell 7 of 7 (line 60)"),
    ),
    "interrupted while its HTML was made": (
        ending(told(finished=False), exit_code=None, signal="SIGKILL", cut_off=True),
        ("success", None, ""),
    ),
    "interrupted, whatever the flow made of it": (
        ending(stopped_in_cell_3(failure=FAILURE), exit_code=1, stop="interrupted"),
        ("error", "interrupted", "interrupted in cell 3 of 7 (line 41)"),
    ),
    "the session is gone": (
        ending(stopped_in_cell_3(), exit_code=None, signal="SIGKILL", stop="owner"),
        ("error", "interrupted", "the session ended before this run did, stopped in cell 3 of 7 (line 41)"),
    ),
    "finished, but cells are missing": (
        ending(told(run=6)),
        ("error", "lost", "only 6 of 7 code cells ran"),
    ),
    "all cells ran, and then the process crashed": (
        ending(told(), exit_code=None, signal="SIGSEGV"),
        ("error", "signal", "killed by SIGSEGV in cell 7 of 7 (line 60) (a crash in compiled code)"),
    ),
    "a build with a red flow": (
        ending(told(), children=[flow(Status.ERROR, cause="timeout", message="too slow")]),
        ("error", "timeout", "flow assign/s37: too slow"),
    ),
    "a build with an orange flow": (
        ending(told(), children=[flow(Status.SUCCESS), flow(Status.WARNING, message="3 warning lines")]),
        ("warning", None, "flow assign/s37: 3 warning lines"),
    ),
}


@pytest.mark.parametrize(("end", "expected"), CASES.values(), ids=CASES)
def test_verdict(end: Ending, expected: tuple[str, str | None, str]) -> None:
    """Each way to end has its status, its cause and a line that names the place."""
    verdict = judge(end)
    assert expected == (verdict.status, verdict.cause, verdict.message)


def test_events_are_folded() -> None:
    """What the child told, in order, is what is known of it; a flow run twice counts once."""
    events: list[dict[str, Any]] = [
        {"event": "cells", "total": 2},
        {"event": "cell_started", "cell": 1, "line": 5},
        {"event": "child", "folder": "runs/a"},
        {"event": "child", "folder": "runs/a"},
        {"event": "cell_finished", "cell": 1},
        {"event": "note", "text": "so it is"},
    ]
    told = Told.of(events)
    assert (1, 5, 1, 2) == (told.cell, told.line, told.run, told.total)
    assert ["runs/a"] == told.children
    assert ["so it is"] == told.notes
    assert not told.finished


def test_unknown_event_is_refused() -> None:
    """A record that nobody knows is a fault, not something to pass over."""
    with pytest.raises(ValueError, match="unknown event"):
        Told.of([{"event": "?"}])


def test_judging_changes_nothing() -> None:
    """It is a pure function: what it is given says the same afterwards."""
    end = ending(stopped_in_cell_3(failure=FAILURE), exit_code=1, stop="interrupted")
    before = deepcopy(end)
    assert judge(end) == judge(end)
    assert before == end
