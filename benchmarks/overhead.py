"""What a run costs: ours and its peers, in one go on the same flows.

    python benchmarks/overhead.py                  all of it: about 40 minutes on a quiet machine
    python benchmarks/overhead.py --markdown       the tables of docs/performance.md
    python benchmarks/overhead.py --quick          all of it, too small to judge, in some minutes
    python benchmarks/overhead.py --only warm --only floor --only runs

A peer that is not installed is reported as missing (`pip install -e ".[bench]"`). Rivals take turns, run by
run and command by command, so that what disturbs the machine disturbs all of them. Everything happens in a
temporary folder, which is removed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import probes
import workspace as ws
from commands import add_choices, empty_folder, end_of, measure_pieces, parser_of, print_figures, run, say
from contenders import CONTENDERS, PYTEST, WITHOUT_NBMAKE, WITHOUT_OURS, Case, Contender
from figures import MANY, THOUSANDS, Figures, overhead_tables
from workspace import FLOWS, Flow

PACKAGES = ("papermill", "nbmake", "ploomber-engine", "ipykernel", "pytest", "pytest-xdist", "pandas")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: runs of each contender and flow after start-up.
        many: runs of a whole command; most: of ours.
        repeats: of whole commands; starts: of the start of pytest.
        busy: number and seconds of the flows bound by CPU.
        thousands: stored instances and results.
    """

    rounds: int = 24
    many: int = MANY
    most: int = 240
    repeats: int = 3
    starts: int = 30
    busy: tuple[int, float] = (40, 1.0)
    thousands: int = THOUSANDS


QUICK = Plan(rounds=2, many=2, most=4, repeats=1, starts=2, busy=(4, 0.3), thousands=100)


@dataclass(frozen=True, slots=True)
class Bench:
    """One go: where, how much, who takes part, what came of it."""

    workspace: Path
    plan: Plan
    contenders: Sequence[Contender]
    figures: Figures

    def environment(self, contender: Contender | None = None) -> dict[str, str]:
        return ws.environment(
            self.workspace, with_ploomber=contender is not None and contender.name == "ploomber"
        )

    def lose(self, contender: Contender, why: str) -> None:
        """Go on without a contender, and say why."""
        say(f"{contender.name}: {why}")
        self.figures.absent[contender.name] = why

    def here(self) -> Iterator[Contender]:
        """Who still takes part."""
        return (one for one in self.contenders if one.name not in self.figures.absent)

    def seconds(
        self, command: Sequence[str], folder: Path, contender: Contender | None = None, **more: str
    ) -> float:
        """Wall time of a command.

        Raises:
            RuntimeError: it failed.
        """
        return run(command, folder, {**self.environment(contender), **more})

    def folder(self, name: str) -> Path:
        return empty_folder(self.workspace, name)


# --- runs after start-up -----------------------------------------------------------------------------------


class Driver:
    """A process of a contender that is started up and runs what it is asked to."""

    def __init__(self, contender: Contender, bench: Bench) -> None:
        self._errors = bench.workspace / f"{contender.name}.txt"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    str(ws.HERE / "contenders.py"),
                    "drive",
                    contender.name,
                    str(bench.workspace),
                ],
                env=bench.environment(contender),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def run(self, flow: str, number: int) -> float:
        """Seconds of a run.

        Raises:
            RuntimeError: it failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"flow": flow, "number": number}) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"failed: {end_of(self._errors.read_text(errors='replace'))}")
        seconds: float = json.loads(answer)["seconds"]
        return seconds

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def measure_runs(bench: Bench) -> None:
    """Each flow by each contender, in turns, in processes that have run it once before."""
    with contextlib.ExitStack() as stack:
        drivers: dict[str, Driver] = {}
        for contender in bench.here():
            drivers[contender.name] = driver = Driver(contender, bench)
            stack.callback(driver.close)
        for flow in FLOWS:
            for number in range(bench.plan.rounds + 1):
                say(f"runs: {flow}, round {number} of {bench.plan.rounds}")
                for contender in list(bench.here()):
                    try:
                        seconds = drivers[contender.name].run(flow, number)
                    except RuntimeError as exc:
                        bench.lose(contender, str(exc))
                        continue
                    if number:
                        bench.figures.add(("run", flow, contender.name), seconds)


# --- whole commands ----------------------------------------------------------------------------------------


def measure_commands(bench: Bench) -> None:
    """Whole commands, from start to end, in turns."""
    many, most = bench.plan.many, bench.plan.most
    for flow in FLOWS.values():
        cases = [(1, 0), (many, 0), (many, 2)] if flow.name == "light" else [(1, 0), (many, 2)]
        for count, workers in cases:
            rivals = [contender for contender in bench.here() if not contender.runs_only]
            _in_turns(bench, flow, count, workers, rivals)
    largest = [contender for contender in bench.here() if contender.name == "warm"]
    for workers in (0, 2):
        _in_turns(bench, FLOWS["light"], most, workers, largest)


def _in_turns(bench: Bench, flow: Flow, count: int, workers: int, rivals: Sequence[Contender]) -> None:
    able = [contender for contender in rivals if contender.has_workers or not workers]
    for repeat in range(bench.plan.repeats):
        for contender in able:
            if contender.name in bench.figures.absent:
                continue
            say(f"commands: {flow.name}, {count} runs, -n {workers}, {contender.name}, {repeat + 1}")
            try:
                seconds = _command(bench, contender, flow, count, workers)
            except (RuntimeError, subprocess.TimeoutExpired) as exc:
                bench.lose(contender, f"failed: {exc}")
                continue
            bench.figures.add(("command", flow.name, count, workers, contender.name), seconds)


def _command(bench: Bench, contender: Contender, flow: Flow, count: int, workers: int) -> float:
    folder = bench.folder(contender.name)
    notebook = bench.workspace / "notebooks" / f"{flow.name}.ipynb"
    if contender.engine:
        ws.write_project(folder, flow, count)
    else:
        ws.copies_of(notebook, folder, count)
    case = Case(flow, count, workers, folder)
    seconds = bench.seconds(contender.command_of(case, notebook), folder, contender)
    ws.check(flow, folder, count)
    return seconds


# --- ours alone --------------------------------------------------------------------------------------------

OURS = (*PYTEST, *WITHOUT_NBMAKE, "--ductaflow")
PLAIN = (*PYTEST, *WITHOUT_NBMAKE, *WITHOUT_OURS)


def measure_parallel(bench: Bench) -> None:
    """Flows bound by CPU with one worker and with two."""
    count, seconds = bench.plan.busy
    project = ws.write_project(bench.folder("busy"), ws.busy(seconds), count)
    if (os.cpu_count() or 1) < 2:
        bench.figures.notes.append("There is one CPU only: two workers cannot be faster than one.")
    for repeat in range(bench.plan.repeats):
        for workers in (1, 2):
            say(f"parallel: {count} runs of {seconds:g} s, -n {workers}, {repeat + 1}")
            taken = bench.seconds([*OURS, "-n", str(workers)], project)
            bench.figures.add(("parallel", workers), taken)


def measure_memory(bench: Bench) -> None:
    """Memory of the warm server, of light runs and of the session."""
    if sys.platform != "linux":
        bench.figures.notes.append("Memory is measured on Linux only.")
        return
    say("memory: of light runs")
    runs = bench.plan.rounds
    project = ws.write_project(bench.folder("memory"), FLOWS["light"], runs + 1)
    found = _probe(bench, project, "memory", str(runs))
    for peak in found["runs"]:
        bench.figures.add(("memory", "run"), peak)
    for name in ("server_rss", "server_uss"):
        bench.figures.add(("memory", name), found[name])
    _measure_sessions(bench)


def _measure_sessions(bench: Bench) -> None:
    peak = bench.workspace / "peak"
    count = bench.plan.thousands
    commands = {
        "ours": (ws.write_project(bench.folder("results"), ws.EMPTY, count), (*OURS, *FRESH)),
        "plain": (_plain_tests(bench.folder("plain"), count), PLAIN),
    }
    for who, (folder, command) in commands.items():
        for how, more in (("collect", ["--collect-only"]), ("run", [])):
            say(f"memory: session of {count:,}, {who}, {how}")
            bench.seconds([*command, "-p", "probes", *more], folder, None, **{probes.PEAK: str(peak)})
            bench.figures.add(("peak", who, how), json.loads(peak.read_text()))


#: Nothing runs there, so no server is needed.
FRESH = ("--ductaflow-engine", "fresh")


def measure_start(bench: Bench) -> None:
    """What the plugin adds to the start of a pytest that does not use it.

    Without the other plugins that happen to be installed: their start would hide the difference.
    """
    folder = _plain_tests(bench.folder("start"), 1)
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for repeat in range(bench.plan.starts + 1):
        if repeat % 10 == 0:
            say(f"start: {repeat} of {bench.plan.starts}")
        for name, plugin in (("with", ("-p", "pytest_ductaflow.plugin")), ("without", ())):
            seconds = bench.seconds([*PYTEST, *plugin], folder, None, **alone)
            if repeat:
                bench.figures.add(("start", name), seconds)


def measure_collect(bench: Bench) -> None:
    """Collecting stored instances, as files and as rows of a table, and plain tests."""
    count = bench.plan.thousands
    table = ws.write_project(bench.folder("table"), ws.EMPTY, 0)
    rows = "".join(f"{ws.instance_name(number)},{number}\n" for number in range(count))
    (table / "config" / "flows" / "empty.csv").write_text(f"instance,value\n{rows}", encoding="utf-8")
    folders = {
        "ours": (ws.write_project(bench.folder("stored"), ws.EMPTY, count), OURS),
        "table": (table, OURS),
        "plain": (_plain_tests(bench.folder("plain"), count), PLAIN),
    }
    for repeat in range(bench.plan.repeats):
        for name, (folder, command) in folders.items():
            say(f"collect: {count:,}, {name}, {repeat + 1}")
            bench.figures.add(("collect", name), bench.seconds([*command, "--collect-only"], folder))


def _plain_tests(folder: Path, count: int) -> Path:
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_plain.py").write_text(
        "import pytest\n\n\n"
        f'@pytest.mark.parametrize("value", range({count}))\n'
        "def test_plain(value):\n    pass\n",
        encoding="utf-8",
    )
    return folder


def measure_stages(bench: Bench) -> None:
    """Where the milliseconds of a warm run go."""
    say("stages")
    runs = bench.plan.rounds
    project = ws.write_project(bench.folder("stages"), FLOWS["light"], runs + 1)
    bench.figures.stages = _probe(bench, project, "stages", str(runs), str(bench.workspace / "moments"))
    if gone := bench.figures.stages["gone"]:
        bench.figures.notes.append(f"Stages that are not there any more: {', '.join(gone)}.")


def _probe(bench: Bench, project: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ws.HERE / "probes.py"), *arguments],
        cwd=project,
        env=bench.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(end_of(done.stderr))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


PIECES: dict[str, Callable[[Bench], None]] = {
    "runs": measure_runs,
    "commands": measure_commands,
    "parallel": measure_parallel,
    "memory": measure_memory,
    "start": measure_start,
    "collect": measure_collect,
    "stages": measure_stages,
}
#: Those in which contenders meet; the others are of ours alone.
CONTESTS = ("runs", "commands")


# --- the program -------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    pieces, contenders = chosen(options.only)
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, repeats=options.repeats or plan.repeats)
    with tempfile.TemporaryDirectory(prefix="overhead-", ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder), plan, pieces, contenders)
    tables = overhead_tables(figures, plan.many, plan.thousands, judged=not options.quick)
    print_figures(figures, tables, PACKAGES, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    for name, what in (("rounds", "single runs of each flow"), ("repeats", "times each whole command")):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"how many {what}")
    add_choices(parser, list(PIECES), "contender", list(CONTENDERS))
    return parser


def chosen(only: Sequence[str]) -> tuple[list[str], list[Contender]]:
    """Pieces and contenders for what `--only` says; contenders alone mean the pieces in which they meet."""
    contenders = [CONTENDERS[name] for name in only if name in CONTENDERS]
    pieces = [name for name in only if name in PIECES]
    if not pieces:
        pieces = list(CONTESTS) if contenders else list(PIECES)
    return pieces, contenders or list(CONTENDERS.values())


def measure(workspace: Path, plan: Plan, pieces: Sequence[str], contenders: Sequence[Contender]) -> Figures:
    """Measure some pieces; what fails costs its own numbers only and is noted."""
    bench = Bench(workspace, plan, contenders, Figures())
    ws.prepare(workspace, plan.rounds)
    for contender in contenders:
        if contender.missing:
            bench.lose(contender, contender.missing)
    return measure_pieces(bench, bench.figures, {name: PIECES[name] for name in pieces})


if __name__ == "__main__":
    sys.exit(main())
