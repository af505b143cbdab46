"""What the benchmarks share: flows and projects, commands and their time, one command line, tables."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shutil
import site
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from ductaflow.common.host import adopt_orphans

HERE = Path(__file__).parent
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
OURS = (*PYTEST, "-p", "xdist.plugin", "-p", "pytest_ductaflow.plugin", "--ductaflow")
CHANGED = (*OURS, "--ductaflow-changed")

# --- flows and projects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flow:
    """A notebook that every rival runs.

    Attributes:
        cells: its code cells, after the one tagged `parameters`, which gives `config`.
        makes: a file that it leaves where it runs, which proves that it ran.
    """

    name: str
    cells: Sequence[str]
    config: Mapping[str, Any] = field(default_factory=dict)
    makes: str = ""

    @property
    def text(self) -> str:
        return "\n# %%\n".join([f'# %% tags=["parameters"]\nconfig = {self.config!r}', *self.cells])


LIGHT = Flow(
    "light",
    (
        "import pandas as pd",
        'frame = pd.DataFrame({"a": range(config["rows"]), "b": range(config["rows"])})',
        'print(frame["a"].sum())',
        'frame.groupby("b").sum().head()',
        'frame.to_csv("out.csv")',
    ),
    {"rows": 100},
    "out.csv",
)
EMPTY = Flow("empty", ["pass"])
COPY = Flow(
    "duplicate",
    [
        "from pathlib import Path\n"
        'Path("made.txt").write_bytes(Path(config["_project_root"], config["reads"]).read_bytes())'
    ],
    {"reads": "inputs/one.txt"},
)


def instance_name(number: int) -> str:
    return f"n{number:05}"


def write_project(root: Path, flow: Flow, configs: int | Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a project with a flow, or one more, and its instances: by name, or so many alike."""
    instances = root / "config" / "flows" / flow.name
    instances.mkdir(parents=True, exist_ok=True)
    (root / "flows").mkdir(exist_ok=True)
    # its own settings, so that those of a folder above do not count
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "flows" / f"{flow.name}.py").write_text(flow.text)
    if isinstance(configs, int):
        configs = {instance_name(number): flow.config for number in range(configs)}
    for name, config in configs.items():
        (instances / f"{name}.json").write_text(json.dumps(config))
    return root


def write_plain_tests(folder: Path, count: int) -> Path:
    """Write so many files of pytest, with a test each that passes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    for number in range(count):
        (folder / f"test_{instance_name(number)}.py").write_text("def test_it(): pass\n")
    return folder


def write_parametrised_tests(folder: Path, count: int) -> Path:
    """Write a file of pytest with so many tests that pass."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    parametrize = f'@pytest.mark.parametrize("value", range({count}))'
    (folder / "test_plain.py").write_text(f"import pytest\n\n{parametrize}\ndef test_plain(value): pass\n")
    return folder


def copy_run(source: Path, target: Path, **names: str) -> None:
    """Copy a run folder, with other names in all its files: runs of thousands would take an hour."""
    target.mkdir()
    for file in source.iterdir():
        content = file.read_bytes()
        for old, new in {source.name: target.name, **names}.items():
            content = content.replace(old.encode(), new.encode())
        (target / file.name).write_bytes(content)


def write_unchanged(project: Path, count: int, run: Callable[[Path], object]) -> None:
    """Write a project whose instances have all run: a hundred by `run`, the others are copies of them."""
    write_project(project, COPY, min(count, 100))
    (project / "inputs").mkdir()
    (project / "inputs" / "one.txt").write_text("x" * 10_000)
    run(project)
    write_project(project, COPY, count)
    runs = project / "runs" / COPY.name
    for number in range(100, count):
        copy_run(runs / instance_name(number % 100), runs / instance_name(number))


# --- a benchmark in progress -------------------------------------------------------------------------------


def missing(packages: str, python: str | None = None) -> str:
    """What to install before a rival that needs some packages can take part; nothing if it can.

    Args:
        python: the interpreter that runs it, if that is another one.
    """
    names = [package.replace("-", "_") for package in packages.split()]
    if python is None:
        are_there = all(importlib.util.find_spec(name) for name in names)
    else:
        code = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
        are_there = not subprocess.run([python, "-c", code, *names], check=False).returncode
    if are_there:
        return ""
    both = "" if python else ', or all peers with pip install -e ".[bench]"'
    return f"missing: pip install {packages}{both}"


def environment(workspace: Path, *, keeps_bytecode: bool = True) -> dict[str, str]:
    """The variables of every process that is measured: those of a new user, pytest without plugins.

    papermill imports all installed engines when it is imported. With ploomber-engine beside it that takes
    three times as long, which is neither papermill's fault nor ours. An empty module, first in the path,
    hides its engines from all who do not use them.
    """
    shadow, home = workspace / "shadow", workspace / "home"
    (shadow / "ploomber_engine").mkdir(parents=True)
    (shadow / "ploomber_engine" / "__init__.py").touch()
    engines = "DebugEngine = DebugLaterEngine = ProfilingEngine = None\n"
    (shadow / "ploomber_engine" / "engine.py").write_text(engines)
    home.mkdir()
    dropped = ("PYTEST_", "DUCTAFLOW_", "COV_", "COVERAGE_", "XDG_", "JUPYTER_", "IPYTHON", "MPL")
    if keeps_bytecode:
        # without compiled modules ours, in a checkout, would be compiled at each start
        dropped = (*dropped, "PYTHONDONTWRITEBYTECODE")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(dropped)},
        "HOME": str(home),
        "PYTHONUSERBASE": site.getuserbase(),
        "PYTHONPATH": os.pathsep.join([str(shadow), str(HERE), os.environ.get("PYTHONPATH", "")]),
        # pytest with workers leaves a folder there
        "PYTEST_DEBUG_TEMPROOT": str(home),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONUTF8": "1",
        "COLUMNS": "120",
        # it would report each run over the network
        "PLOOMBER_STATS_ENABLED": "false",
    }


@dataclass(slots=True)
class Bench:
    """One go of a benchmark.

    Attributes:
        plan: how much is measured.
        rivals: the names of those who take part.
        tables: the samples, by title, row and column.
        targets: the numbers to reach, with verdicts.
        notes: by rival or piece, why it has no samples, or no more.
    """

    workspace: Path
    plan: Any
    quick: bool = False
    rivals: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    tables: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    targets: list[list[str]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keeps_bytecode = not getattr(self.plan, "no_bytecode", False)
        self.environment = environment(self.workspace, keeps_bytecode=keeps_bytecode)

    def folder(self, name: str) -> Path:
        """An empty folder."""
        folder = self.workspace / "commands" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def run(self, command: Sequence[str], folder: Path, **more: str) -> Used:
        """What a command takes."""
        return used_by(command, folder, {**self.environment, **more})[0]

    def turns(self, what: str, work: Callable[[str], object], names: Iterable[str]) -> None:
        """Give each name its turn; one that fails takes no part any more."""
        for name in names:
            if name not in self.notes:
                print(f"{what}: {name}", file=sys.stderr, flush=True)
                try:
                    work(name)
                except (RuntimeError, subprocess.TimeoutExpired) as exc:
                    self.notes[name] = f"failed: {exc}"

    def add(self, title: str, row: str, column: str, *values: float | None) -> None:
        """Add samples to a cell of a table."""
        found = [value for value in values if value is not None]
        if found:
            self.tables.setdefault(title, {}).setdefault(row, {}).setdefault(column, []).extend(found)

    def median(self, title: str, row: str, column: str) -> float | None:
        samples = self.tables.get(title, {}).get(row, {}).get(column)
        return statistics.median(samples) if samples else None

    def ratio(self, title: str, column: str, upper: str, lower: str) -> float | None:
        """How many times the median of a row is that of another one."""
        a, b = self.median(title, upper, column), self.median(title, lower, column)
        return None if a is None or not b else a / b

    def difference(self, title: str, column: str, more: str, less: str) -> float | None:
        a, b = self.median(title, more, column), self.median(title, less, column)
        return None if a is None or b is None else a - b

    def target(self, what: str, value: float | None, reach: float, aim: float, unit: str = "") -> None:
        """Judge a number to reach; more is better where the aim is above it."""
        verdict = "not measured" if value is None else "too little to judge" if self.quick else "**missed**"
        for bound, text in ((reach, "reached"), (aim, "aim met")):
            if value is not None and not self.quick and (value >= bound if aim > reach else value < bound):
                verdict = text
        bounds = [f"{'' if aim > reach else 'under '}{bound:g}{unit}" for bound in (reach, aim)]
        self.targets.append([what, "-" if value is None else shown([value]) + unit, *bounds, verdict])

    def text(self) -> str:
        """All tables in Markdown: the median, in brackets the least and the most."""
        heads = ["what", "measured", "reach", "aim", "verdict"]
        texts = [table("Numbers to reach", heads, self.targets)] if self.targets else []
        for title, rows in self.tables.items():
            columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
            lines = [[row, *(shown(cells.get(one, [])) for one in columns)] for row, cells in rows.items()]
            texts.append(table(title, ["", *columns], lines))
        return "\n".join([*texts, *(f"- {name}: {why}" for name, why in self.notes.items())])


def output(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> str:
    """What a command prints.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    done = subprocess.run(command, cwd=folder, env=variables, timeout=3600, check=False, **pipes)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {end_of(done.stdout + done.stderr)}")
    return str(done.stdout)


@dataclass(frozen=True, slots=True)
class Used:
    """What something took.

    Attributes:
        seconds: by the clock.
        cpu: processor time in seconds, user and system, of all processes.
        faults: page faults of all processes.
    """

    seconds: float
    cpu: float
    faults: float

    def each_beyond(self, less: Used, count: int) -> Used:
        """What each of so many more took."""
        return Used(
            (self.seconds - less.seconds) / count,
            (self.cpu - less.cpu) / count,
            (self.faults - less.faults) / count,
        )


def used_by(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> tuple[Used, str]:
    """What a command and all processes that it starts take; and what the command prints.

    Those that it leaves behind count if this process adopts orphans. The clock stops when the command ends.
    """
    import resource

    others = {child.pid for child in psutil.Process().children()}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    shown = output(command, folder, variables)
    seconds = time.perf_counter() - begin
    while left := {child.pid for child in psutil.Process().children()} - others:
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu, faults = (
        sum(getattr(after, name) - getattr(before, name) for name in names)
        for names in (("ru_utime", "ru_stime"), ("ru_minflt", "ru_majflt"))
    )
    return Used(seconds, cpu, faults), shown


def used_until_now(pid: int) -> Used:
    """What a living process and all that it started have taken until now (Linux).

    Whoever has ended counts for its parent, which has waited for it.
    """
    root = psutil.Process(pid)
    cpu = faults = 0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # the second field, the name, may hold spaces
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            # minflt cminflt majflt cmajflt utime stime cutime cstime
            faults += sum(map(int, fields[7:11]))
            cpu += sum(map(int, fields[11:15]))
    return Used(time.time() - root.create_time(), cpu / os.sysconf("SC_CLK_TCK"), faults)


def end_of(text: str) -> str:
    """The last lines of an output, as one line that fits into a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-300:].replace("|", "/")


# --- tables ------------------------------------------------------------------------------------------------


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"### {title}", "", *lines, ""])


def shown(samples: Sequence[float]) -> str:
    """The median with three digits, in brackets the least and the most; nothing without a sample."""
    if not samples:
        return ""
    median = statistics.median(samples)
    digits = max(0, 2 - int(math.log10(max(abs(median), 1))))
    texts = [f"{value:,.{digits}f}" for value in (median, min(samples), max(samples))]
    return texts[0] if len(samples) == 1 else "{} ({} - {})".format(*texts)


# --- the program -------------------------------------------------------------------------------------------


def heading(quick: bool, packages: Sequence[str] = ()) -> str:
    """When, on what, with which versions: names of packages, or texts that have a version already."""
    versions = [f"Python {platform.python_version()}"]
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(name if " " in name else f"{name} {importlib.metadata.version(name)}")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    text = f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {', '.join(versions)}.\n"
    return f"{text}\nMade with `--quick`: it works; too little to judge.\n" if quick else text


def why_bytecode_is_there(packages: Sequence[str]) -> str:
    """Why byte code of installed packages is, or soon will be, where Python looks for it; nothing if not."""
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return "PYTHONDONTWRITEBYTECODE is not set"
    for name in packages:
        spec = importlib.util.find_spec(name.replace("-", "_"))
        if spec and spec.origin and os.path.exists(importlib.util.cache_from_source(spec.origin)):
            return f"{name} is compiled"
    return ""


def versions_in(python: str, packages: Sequence[str]) -> list[str]:
    """Name and version of those of some packages that another interpreter has."""
    code = (
        "import importlib.metadata as m, sys\n"
        "known = {d.name: d.version for d in m.distributions()}\n"
        "print(*(f'{name} {known[name]}' for name in sys.argv[1:] if name in known), sep='\\n')"
    )
    return output([python, "-c", code, *packages], Path.cwd(), os.environ).strip().splitlines()


def parser_of(document: str | None, *, rounds: int = 0, rows: str = "") -> argparse.ArgumentParser:
    """A command line with `--quick`; the module's text says what it is for.

    Args:
        rounds: how many there are usually; then `--rounds` changes it, and `--only` chooses `rows`.
    """
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=document, formatter_class=plain)
    parser.add_argument("--quick", action="store_true", help="so little that it shows only that it works")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"instead of {rounds}")
        parser.add_argument("--only", default="", metavar="TEXT", help=f"{rows} that contain a text")
    return parser


def main(
    document: str | None,
    plan: Mapping[str, tuple[int, int]],
    pieces: Mapping[str, Callable[[Bench], None]],
    rivals: Mapping[str, str],
    conclude: Callable[[Bench], None],
    packages: Sequence[str],
    *,
    peers: bool = False,
    no_bytecode: str = "",
) -> None:
    """The program of a benchmark that consists of pieces and has rivals.

    Args:
        plan: how much is measured, usually and with `--quick`; every number is an option.
        rivals: by name, the packages that each needs.
        conclude: adds ratios and targets to what was measured.
        packages: whose versions are printed.
        peers: whether `--peers` names the interpreter that has the packages of rivals.
        no_bytecode: the piece that `--no-bytecode` measures.
    """
    parser = parser_of(document)
    if no_bytecode:
        about = f"measure only {no_bytecode}, where nothing installed is compiled and nothing is kept"
        parser.add_argument("--no-bytecode", action="store_true", help=about)
    if peers:
        about = "interpreter that has the peers; by default this one"
        parser.add_argument("--peers", default=sys.executable, metavar="PYTHON", help=about)
    about = f"a piece ({', '.join(pieces)}) or a rival ({', '.join(rivals)}); may be repeated"
    choices = [*pieces, *rivals]
    parser.add_argument("--only", action="append", default=[], choices=choices, metavar="NAME", help=about)
    for name, (usual, _) in plan.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"instead of {usual:,}")
    options = parser.parse_args()
    is_bare = getattr(options, "no_bytecode", False)
    if is_bare and (why := why_bytecode_is_there(packages)):
        parser.error(f"this environment has byte code: {why}; docs/performance.md says how to make another")
    for name, numbers in plan.items():
        setattr(options, name, getattr(options, name) or numbers[options.quick])
    chosen = [name for name in options.only if name in rivals] or list(rivals)
    python = getattr(options, "peers", None)
    # what a command leaves behind counts too
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), options, options.quick, chosen)
        bench.notes = {name: why for name in chosen if (why := missing(rivals[name], python))}
        own = [no_bytecode] if is_bare else [name for name in options.only if name in pieces] or pieces
        bench.turns("begins", lambda name: pieces[name](bench), own)
    conclude(bench)
    others = versions_in(python, list(filter(None, rivals.values()))) if python else []
    print(heading(options.quick, [*packages, *others]), bench.text(), sep="\n")
