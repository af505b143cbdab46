"""What a session says in a terminal: the status line while it runs, and the section at its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject

from ductaflow.common.errors import Failure
from ductaflow.session.durations import UNKNOWN
from ductaflow.session.scheduler import Estimate
from ductaflow.store.result import Result, Status, write_result
from pytest_ductaflow.progress import Progress
from pytest_ductaflow.summary import summary_lines

#: A flow that runs until the file `go` lies in the project, or fails as its config says.
FLOW = """
# %%
import pathlib, time

for _ in range(600):
    if config["x"] != "wait" or pathlib.Path(config["_project_root"], "go").exists():
        break
    time.sleep(0.05)
if config["x"] == "red":
    raise ValueError(f"no rows for {config['name']} in 12 files")
"""


# --- the status line, in a real terminal -------------------------------------------------------------------


def make_waiting(project: TinyProject) -> TinyProject:
    project.flow("fit", FLOW)
    project.config("flows/fit.json", name="{instance}")
    project.config("flows/fit/a_green.json", x="")
    project.config("flows/fit/b_red.json", x="red")
    project.config("flows/fit/c_wait.json", x="wait")
    project.config("flows/fit/d_last.json", x="")
    return project


def in_terminal(project: TinyProject, *args: str, wait_for: str, **variables: str) -> str:
    """All that a session writes to a terminal; `go` is there once it has written some text.

    Without that text the session waits in vain for half a minute, and the test sees what there is instead.
    """
    pty = pytest.importorskip("pty", reason="pseudo terminals are a matter of POSIX systems")
    hidden = ("PYTEST_", "CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COV_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    environment |= {"TERM": "xterm", "COLUMNS": "100", "PYTHONUTF8": "1", **variables}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--ductaflow", *args]
    session = subprocess.Popen(
        command, cwd=project.root, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    while chunk := read(ours):
        text += chunk
        if wait_for.encode() in text:
            (project.root / "go").touch()
    os.close(ours)
    session.wait()
    return text.decode()


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        # on Linux the end of a terminal is an error
        return b""


def screen(text: str, columns: int = 100) -> list[str]:
    """What a person sees at the end: a terminal that knows the few sequences which are used."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[\d*(?:;\d+)*[A-Za-z]|[^\x1b]", text):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif piece.endswith("A") and len(piece) > 1:
            row -= int(piece[2:-1] or 1)
        elif piece.endswith("C") and len(piece) > 1:
            column = min(columns, column + int(piece[2:-1] or 1))
        elif piece == "\x1b[K":
            rows[row] = rows[row][:column]
        elif len(piece) == 1:
            rows[row] = f"{rows[row][:column]:<{column}}{piece}{rows[row][column + 1 :]}"
            column += 1
    return [line.rstrip() for line in rows]


@pytest.mark.slow
def test_the_line_says_what_runs_and_is_gone_afterwards(project: TinyProject) -> None:
    """Done of total, counts, names in flight; what pytest wrote is as if there had been no line."""
    text = in_terminal(make_waiting(project), wait_for="running: fit[c_wait]")
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    seen = screen(text)

    assert re.search(r"2/4  1 success, 1 error  about \d+ s left  running: fit\[c_wait\]", plain)
    assert not any("running:" in line for line in seen)
    begin = next(number for number, line in enumerate(seen) if line.startswith("collected 4 items"))
    expected = f"config/flows/fit {'.F..':<{92 - len('config/flows/fit')}}[100%]"
    assert ["", expected, ""] == seen[begin + 1 : begin + 4]


@pytest.mark.slow
def test_the_line_stands_below_the_names_of_workers(project: TinyProject) -> None:
    """With xdist and -v it is the controller that draws; each result has its line."""
    text = in_terminal(make_waiting(project), "-n", "2", "-v", wait_for="3/4\x1b")
    seen = screen(text)

    assert re.search(r"3/4\x1b\[0m  .*2 success.*1 error.*running: fit\[c_wait\]", text)
    assert not any("running:" in line for line in seen)
    results = [line for line in seen if re.match(r"\[gw\d\] \[ *\d+%\] (PASSED|FAILED) config", line)]
    assert 4 == len(results)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "variables"),
    [
        ([], {"CI": "true"}),
        ([], {"TERM": "dumb"}),
        (["-q"], {}),
        (["-s"], {}),
        (["-p", "no:terminal"], {}),
    ],
    ids=["ci", "dumb", "quiet", "no-capture", "no-reporter"],
)
def test_where_nobody_wants_it_there_is_no_line(
    project: TinyProject, args: list[str], variables: dict[str, str]
) -> None:
    """Nothing moves the cursor."""
    project.flow("fit", FLOW)
    project.config("flows/fit/a.json", x="")
    text = in_terminal(project, *args, wait_for="never", **variables)
    assert "\x1b[A" not in text
    assert "running:" not in text


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}], ids=["colours", "no-colours"])
def test_colours_are_only_where_they_are_wanted(project: TinyProject, variables: dict[str, str]) -> None:
    """In the status line and in a failure; a colour is never all that says something."""
    text = in_terminal(make_waiting(project), wait_for="running: fit[c_wait]", **variables)
    place = "flows/fit.py:12: ValueError: no rows for b_red in 12 files"
    if variables:
        assert "2/4  1 success, 1 error" in text
        assert not re.search(r"\x1b\[[\d;]*m", text)
        assert f"\n{place}\r\n" in text
    else:
        assert re.search(rf"\n(\x1b\[\d+m)+{place}\x1b\[0m\r\n", text)
        assert re.search(r"\n(\x1b\[\d+m)+> +12      raise ValueError", text)


@pytest.mark.slow
@pytest.mark.parametrize("args", [[], ["-n", "1"]], ids=["serial", "xdist"])
def test_colours_are_not_in_the_junit_file(project: TinyProject, args: list[str]) -> None:
    """Even where they are forced on the terminal."""
    make_waiting(project)
    (project.root / "go").touch()
    out = project.pytest("--color=yes", "--junitxml=junit.xml", *args).out
    place = "flows/fit.py:12: ValueError"
    assert re.search(rf"\x1b\[\d+m{place}", out)
    told = (project.root / "junit.xml").read_text(encoding="utf-8")
    assert place in told
    assert "#x1B" not in told


# --- what it says ------------------------------------------------------------------------------------------


def report(nodeid: str, *, seconds: float = 0.0, outcome: Any = "passed") -> pytest.TestReport:
    return pytest.TestReport(nodeid, ("f", None, "d"), {}, outcome, None, "call", duration=seconds)


def line(progress: Progress, room: int = 99) -> str:
    return "".join(text for text, _ in progress.parts(room))


def test_counts_and_names() -> None:
    """Each item counts once, whatever its phases; many names are cut to some."""
    nodeids = [f"config/flows/fit/{n}.json::fit[{n}]" for n in range(8)]
    progress = Progress(nodeids, Estimate([()] * 8, [UNKNOWN] * 8, 2))
    assert "0/8" == line(progress)
    for nodeid in nodeids[:6]:
        progress.start(nodeid)
    progress.report(report(nodeids[0]), Status.WARNING)
    progress.report(report(nodeids[0]), Status.WARNING)
    progress.finish(nodeids[0])
    progress.report(report("test_x.py::test_x", outcome="failed"), None)
    assert "1/8  1 warning, 1 error  running: fit[1], fit[2], fit[3], fit[4] and 1 more" == line(progress)
    # its letter is on the screen, though pytest has still to tear it down
    progress.report(report(nodeids[1]), Status.SUCCESS)
    assert line(progress).startswith("2/8  1 success, 1 warning, 1 error  running: fit[2], ")


def test_below_100_columns_the_line_is_short() -> None:
    """As many names as there is room for, and how many more run; a name is cut before that number is."""
    nodeids = [f"config/flows/dispatch/{n}.json::dispatch[US_{n}]" for n in range(2040, 2047)]
    progress = Progress(nodeids, Estimate([()] * 7, [30.0] * 7, 7))
    for nodeid in nodeids:
        progress.start(nodeid)
    statuses = (Status.UNCHANGED, Status.SUCCESS, Status.WARNING, Status.ERROR, Status.BLOCKED)
    for nodeid, status in zip(nodeids, statuses, strict=False):
        progress.report(report(nodeid), status)
    short = "5/7  1 ok 1 warn 1 err 1 blk 1 same  ~30 s"
    assert f"{short}  dispatch[US_2045], dispatch[US_2046]" == line(progress, 98)
    assert f"{short}  dispatch[US_2045] +1" == line(progress, 79)
    assert f"{short}  dispatch… +1" == line(progress, 56)
    assert "5/7  1 success, 1 warning" == line(progress, 99)[:25]


def test_the_estimate_follows_earlier_runs_and_the_pace_of_this_one() -> None:
    """Two workers share the work, a chain takes as long as all its links, a slow machine is slow."""
    wide = Estimate([()] * 4, [10.0] * 4, 2)
    assert 20.0 == wide.left([])
    assert 17.0 == wide.left([(0, 3.0), (1, 3.0)])
    wide.finish(0, 20.0)
    assert 30.0 == wide.left([])
    chain = Estimate([(), (0,), (1,)], [10.0] * 3, 2)
    assert 30.0 == chain.left([])
    assert 26.0 == chain.left([(0, 4.0)])
    apart = Estimate([(), ()], [1.0, 60.0], 2)
    assert 60.0 == apart.left([(0, 50.0), (1, 0.0)])


def test_without_earlier_runs_the_estimate_waits_for_the_first() -> None:
    """A second for each would be a guess."""
    unknown = Estimate([()] * 3, [UNKNOWN] * 3, 1)
    assert unknown.left([]) is None
    unknown.finish(0, 0.0)
    assert unknown.left([]) is None
    unknown.finish(1, 30.0)
    assert 30.0 == unknown.left([])


# --- the section at the end --------------------------------------------------------------------------------


def red(name: str, evalue: str, *, line: int = 41, flow: str = "fit") -> Result:
    failure = Failure(f"flows/{flow}.py", line, 3, "ValueError", evalue, "")
    message = f"flows/{flow}.py:{line}: ValueError: {evalue}"
    return Result(flow, name, "flow", Status.ERROR, "exception", message, failure=failure, seconds=2.0)


def other(name: str, status: Status, message: str = "", seconds: float = 0.0) -> Result:
    return Result("fit", name, "flow", status, None, message, seconds=seconds)


def section(results: list[Result], *, xfailed: tuple[str, ...] = (), verbosity: int = 0) -> list[str]:
    return list(summary_lines({result.id: result for result in results}, xfailed, verbosity))


MANY = [red(f"EU_{year}", f"no rows for EU_{year} in {year} files") for year in range(2030, 2037)]


def test_red_instances_are_grouped_by_cause() -> None:
    """The cause of most first; numbers and the instance's name do not tell causes apart."""
    lines = section([red("alone", "other"), *MANY, other("good", Status.SUCCESS)])
    assert [
        "1 success, 8 error",
        "8 errors, 2 causes:",
        "  error    7 x flows/fit.py:41: ValueError: no rows for … in … files",
        "           fit/EU_2030, fit/EU_2031, fit/EU_2032, fit/EU_2033, fit/EU_2034 and 2 more",
        "  error    fit/alone: flows/fit.py:41: ValueError: other",
    ] == lines[:-1]
    assert lines[-1].startswith("slowest: fit/alone 2.00 s, fit/EU_2030 2.00 s, fit/EU_2031 2.00 s, ")
    assert 5 == lines[-1].count(" s")


def test_blocked_instances_are_grouped_by_what_is_red_above_them() -> None:
    """At any distance."""
    lines = section(
        [
            other("b", Status.BLOCKED, "fit/a failed: no rows"),
            other("c", Status.BLOCKED, "fit/b is blocked: fit/a failed: no rows"),
            other("d", Status.BLOCKED, "fit/c is blocked: fit/a failed: no rows"),
            other("z", Status.BLOCKED, "fit/y is skipped: no licence"),
        ]
    )
    assert [
        "4 blocked",
        "  blocked  fit/b, fit/c, fit/d: fit/a failed: no rows",
        "  blocked  fit/z: fit/y is skipped: no licence",
    ] == lines


def test_quiet_says_less_and_verbose_all() -> None:
    """-q: counts and causes; -v: every instance by its id."""
    results = [*MANY, other("b", Status.BLOCKED, "fit/a failed")]
    quiet, verbose = section(results, verbosity=-1), section(results, verbosity=1)
    assert not any("blocked " in text or "slowest" in text for text in quiet[1:])
    assert any(text.startswith("  error    7 x ") for text in quiet)
    assert "fit/EU_2035, fit/EU_2036" in "\n".join(verbose)


def test_what_was_expected_to_be_red_is_no_cause() -> None:
    """It is named behind the others."""
    lines = section([red("known", "as ever"), red("new", "news")], xfailed=("fit/known",))
    assert [
        "1 error, 1 xfail",
        "  error    fit/new: flows/fit.py:41: ValueError: news",
        "  error    fit/known (xfail): flows/fit.py:41: ValueError: as ever",
    ] == lines[:3]


def test_a_build_has_the_cause_of_its_flow(tmp_path: Path) -> None:
    """So a flow that fails alike in many builds is one cause; a flow that went well has none."""
    inner, fine = tmp_path / "inner" / "fit", tmp_path / "fine"
    for folder in (inner, fine):
        folder.mkdir(parents=True)
    failed = red("s1", "'EU'")
    write_result(failed, inner)
    write_result(other("s1", Status.SUCCESS), fine)
    write_result(replace(failed, flow="inner", children=("fit",)), inner.parent)
    builds = [
        replace(failed, instance=name, flow="all", folder=tmp_path, children=("gone", "fine", "inner"))
        for name in ("b1", "b2")
    ]
    assert [
        "2 error",
        "2 errors, 1 cause:",
        "  error    2 x flows/fit.py:41: ValueError: 'EU'",
        "           all/b1, all/b2",
    ] == section(builds)[:4]


# --- with pytest -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_section_in_a_session(project: TinyProject) -> None:
    """Once, with the path of the report; none with -qq, nor where no instance was collected."""
    project.flow("fit", FLOW)
    project.config("flows/fit.json", name="{instance}")
    project.config("flows/fit/one_red.json", x="red")
    project.config("flows/fit/two_red.json", x="red")
    (project.root / "test_plain.py").write_text("def test_plain(): pass\n")

    out = project.pytest("-q").out
    assert (
        "2 errors, 1 cause:\n  error    2 x flows/fit.py:12: ValueError: no rows for … in 12 files\n" in out
    )
    assert f"report: {Path('runs/conductor_status_report.html')}" in out
    assert "= ductaflow =" not in project.pytest("-qq").out
    assert "= ductaflow =" not in project.pytest("test_plain.py").out
