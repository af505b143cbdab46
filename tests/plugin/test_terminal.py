"""What a session says in a terminal: the status line while it runs, and the section at its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
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
from pytest_ductaflow.summary import SessionResults, cause_lines, summary_lines

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
    """In the status line and in a failure; a colour is never all that says something. Links go with them."""
    variables["FORCE_HYPERLINK"] = "1"
    text = in_terminal(make_waiting(project), wait_for="running: fit[c_wait]", **variables)
    report = project.root / "runs" / "conductor_status_report.html"
    assert ("NO_COLOR" not in variables) == (
        f"{report}\x1b\\runs/conductor_status_report.html\x1b]8;;" in text
    )
    place = "flows/fit.py:12: ValueError: no rows for b_red in 12 files"
    if "NO_COLOR" in variables:
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


def test_what_waits_for_room_is_at_the_end_of_the_line() -> None:
    """With what it waits for, until it need not wait any more."""
    nodeids = [f"config/flows/fit/{n}.json::fit[{n}]" for n in range(3)]
    progress = Progress(nodeids, Estimate([()] * 3, [UNKNOWN] * 3, 2))
    progress.start(nodeids[0])
    lack = "6.0 GB of memory, of which 2.1 GB are free"
    progress.wait(dict.fromkeys(nodeids[1:], lack))
    assert f"0/3  running: fit[0]  fit[1] waits for {lack}; 1 more wait" == line(progress)
    progress.wait({})
    assert "0/3  running: fit[0]" == line(progress)


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


def section(
    results: list[Result],
    *,
    xfailed: tuple[str, ...] = (),
    verbosity: int = 0,
    width: int = 100,
    **shared: str,
) -> list[str]:
    session = SessionResults({result.id: result for result in results}, xfailed)
    causes = session.causes()
    return [
        *summary_lines(session, verbosity, width=width),
        *cause_lines(session, causes, verbosity, width=width, shared=shared),
    ]


MANY = [red(f"EU_{year}", f"no rows for EU_{year} in {year} files") for year in range(2030, 2037)]


def test_red_instances_are_grouped_by_cause() -> None:
    """The cause of most first; numbers and the instance's name do not tell causes apart."""
    counts, slowest, *lines = section(
        [red("alone", "other"), *MANY, other("good", Status.SUCCESS)], width=120
    )
    assert "1 success, 8 error" == counts
    assert [
        "8 errors, 2 causes:",
        "  error    7 x ValueError: no rows for … in … files -> flows/fit.py:41",
        "           fit/EU_2030, fit/EU_2031, fit/EU_2032, fit/EU_2033, fit/EU_2034 and 2 more",
        "  error    fit/alone: ValueError: other -> flows/fit.py:41",
    ] == lines
    assert slowest.startswith("slowest: fit/alone 2.00 s, fit/EU_2030 2.00 s, fit/EU_2031 2.00 s")
    assert 5 == slowest.count(" s, ") + 1


def test_a_cause_says_what_its_instances_share_and_block_in_the_width_of_the_terminal() -> None:
    """The names give way; what a failure of this session blocks is not told a second time."""
    waits = [
        other(f"late_{n}", Status.BLOCKED, f"fit/EU_{n} failed: no rows for EU_{n}") for n in (2030, 2031)
    ]
    lines = section([*MANY, *waits], width=80, **{MANY[0].id: "region=EU horizon=2040"})
    assert [
        "7 errors, 1 cause:",
        "  error    7 x ValueError: no rows for … in … files -> flows/fit.py:41",
        "           all with region=EU horizon=2040: fit/EU_2030, fit/EU_2031 and 5 more",
        "           blocks fit/late_2030, fit/late_2031",
    ] == lines[2:]
    assert 80 >= max(map(len, lines))


def test_what_is_only_not_as_expected_has_its_own_word() -> None:
    """It comes after what failed; a run that was ended is told by how, not by what stopped it."""
    differs = replace(other("tight", Status.ERROR, "2 of 9 metrics differ"), cause="expectation")
    slow = replace(red("slow", "", line=13), cause="timeout", message="did not finish within 2 s")
    assert [
        "2 errors, 2 causes:",
        "  error    fit/slow: did not finish within 2 s -> flows/fit.py:13",
        "  differs  fit/tight: 2 of 9 metrics differ",
    ] == section([differs, slow])[-3:]


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
    """It is named before them."""
    lines = section([red("known", "as ever"), red("new", "news")], xfailed=("fit/known",))
    assert [
        "  error    fit/known (xfail): flows/fit.py:41: ValueError: as ever",
        "  error    fit/new: ValueError: news -> flows/fit.py:41",
    ] == lines[2:]


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
        "2 errors, 1 cause:",
        "  error    2 x ValueError: 'EU' -> flows/fit.py:41",
        "           all/b1, all/b2",
    ] == section(builds)[-3:]


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
        "2 errors, 1 cause:\n  error    2 x ValueError: no rows for … in 12 files -> flows/fit.py:12\n" in out
    )
    assert f"report: {Path('runs/conductor_status_report.html')}" in out
    assert "= ductaflow =" not in project.pytest("-qq").out
    assert "= ductaflow =" not in project.pytest("test_plain.py").out


#: Runs as they would come, without running anything: the terminal is what is looked at.
PLAYED = """
from ductaflow.common.errors import Failure
from ductaflow.store.result import LogWarning, Result, Status
from pytest_ductaflow.items import FlowSession

WAYS = {
    "key": ("KeyError", "'ke'", 16),
    "call": ("ValueError", "demand of {} is negative", 12),
    "text": ("JSONDecodeError", "Expecting value: line 1 column 1 (char 0)", 20),
}

def run(self, item, explain):
    one, folder = item.instance, item.instance.run_folder
    folder.path.mkdir(parents=True, exist_ok=True)
    way = one.name.partition("_")[0]
    title = f"fit | Instance: {one.name}"
    lines = [f"\N{ROCKET} Starting {title}", f"reading {one.name}"]
    if way == "warn":
        folder.log.write_text("\\n".join(lines))
        said = "Warning: 3 gaps in the record", f"Warning: {one.name} has no unit"
        told = {"warnings": tuple(map(LogWarning, (3, 4), said)), "warning_count": 2}
        return Result("fit", one.name, "flow", Status.WARNING, folder=folder.path, **told)
    ename, said, line = WAYS[way]
    said = said.format(one.name)
    places = [18, line] if way == "call" else [line]
    frames = [f'  File "/p/flows/fit.py", line {at}, in <module>' for at in places]
    text = "\\n".join(["Traceback (most recent call last):", *frames, f"{ename}: {said}"])
    folder.log.write_text("\\n".join([*lines, text, f"\N{CROSS MARK} Failed {title} | Error: {said}", ""]))
    source = tuple({"line": at, "text": f"line {at}"} for at in range(line - 2, line + 3))
    failure = Failure("flows/fit.py", line, 3, ename, said, text, source)
    message = f"flows/fit.py:{line}: {ename}: {said}"
    return Result(
        "fit", one.name, "flow", Status.ERROR, "exception", message, failure=failure, seconds=1.0,
        folder=folder.path,
    )

FlowSession.run = run
"""


def play(root: Path, *args: str, **counts: int) -> str:
    """What a session of so many failures of each way says at 80 columns."""
    project = TinyProject(root)
    project.flow("fit", "")
    rows = [f"{way}_{n}" for way, count in counts.items() for n in range(count)]
    (root / "config" / "flows" / "fit.csv").write_text("\n".join(["instance", *rows, ""]))
    (root / "conftest.py").write_text(PLAYED, encoding="utf-8")
    return project.pytest("-p", "no:xdist", *args, env={"COLUMNS": "80"}).out


def rows_of(out: str, columns: int = 80) -> int:
    """Rows that a text takes in a terminal of so many columns."""
    return sum(max(1, -(-len(line) // columns)) for line in out.rstrip("\n").split("\n"))


def test_sixty_failures_of_three_causes_take_at_most_sixty_lines(tmp_path: Path) -> None:
    """One failure of each cause, in short, and the causes last; JUnit has the whole text of all."""
    out = play(tmp_path, "--junitxml=junit.xml", key=20, call=20, text=20)
    assert 60 >= rows_of(out), out
    assert 3 == len(re.findall(r"^_+ fit\[", out, re.MULTILINE))
    assert 3 == out.count("19 more failed for this cause") == out.count("\nFAILED ")
    assert "= 60 failed in " in out
    end = out.partition("= ductaflow =")[2]
    assert "60 errors, 3 causes:\n  error    20 x KeyError: 'ke' -> flows/fit.py:16\n" in end
    failures = [case.find("failure") for case in ET.parse(tmp_path / "junit.xml").iter("testcase")]
    assert 60 == sum("run again: pytest" in str(one.text) for one in failures if one is not None)


def test_ten_failures_of_one_cause_are_one_block_and_a_line_each(tmp_path: Path) -> None:
    """The message is said once in it, and the log is without it. Runs that warn alike are named together."""
    out = play(tmp_path, call=10, warn=2)
    block = out.partition("= FAILURES =")[2].partition("= warnings summary =")[0]
    assert 1 == block.count("ValueError: demand of call_0 is negative")
    assert 1 == len(re.findall(r"^_+ fit\[", block, re.MULTILINE))
    assert "line 18, in <module>\n" in block
    assert "\n\nLast lines of the log:\n| reading call_0\n\nlog: " in block
    assert "\n9 more failed for this cause\n" in block
    lines = re.findall(r"^FAILED .*$", out, re.MULTILINE)
    assert (10, 9) == (len(lines), sum(line.endswith(" - as fit[call_0]") for line in lines))
    assert re.search(r"fit.csv F{10}ww ", out)
    warned = (
        "FlowWarning: Warning: 3 gaps in the record (and 1 more line, 2 kinds)\n  and alike in fit[warn_1]\n"
    )
    assert warned in out
    assert "10 failed, 2 passed, 2 warnings in" in out


def test_verbose_leaves_nothing_out(tmp_path: Path) -> None:
    """Each failure, each warning line, and words for what pytest has none for."""
    out = play(tmp_path, "-v", call=2, warn=2)
    assert 2 == len(re.findall(r"^_+ fit\[", out, re.MULTILINE)) == out.count("] WARNED")
    assert 2 == out.count("has no unit") == out.count("Warning: 3 gaps in the record\n")
    assert "more" not in out.partition("= FAILURES =")[2].partition("= ductaflow =")[0]


def test_the_one_command_at_the_end_is_one_that_helps(tmp_path: Path) -> None:
    """What lacks an input first runs what it waits for; a fault of a config is told by a short path."""
    project = TinyProject(tmp_path)
    project.flow("prep", "")
    project.flow("fit", "")
    for name in "ab":
        project.config(f"flows/prep/{name}.json")
        project.config(f"flows/fit/{name}.json", data="runs/prep/{instance}/x.csv")
    lacking = project.pytest("-k", "fit").out
    assert (
        '\nrun again: pytest --ductaflow --ductaflow-upstream "config/flows/fit/a.json::fit[a]"\n' in lacking
    )
    (tmp_path / "config" / "base.json").write_text("{")
    end = project.pytest("-k", "fit").out.partition("= ductaflow =")[2]
    assert f"  error    2 x {Path('config/base.json')}:1:2: " in end
