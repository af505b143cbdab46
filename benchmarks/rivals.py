"""Who is compared on graphs: how each is told the same tasks, and its commands.

A task of a graph reads what its upstreams wrote, sleeps, and writes when it began and ended. A task of the
second sort copies one file. Each rival does it in its own most usual way: ours is a flow, pytask's a
function, snakemake's a shell command.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contenders import PYTEST
from graphs import Graph
from workspace import Flow, instance_name, write_project


@dataclass(frozen=True, slots=True)
class Rival:
    """One who runs graphs.

    Attributes:
        write_graph: a project with the tasks of a graph, in an empty folder.
        write_copies: a project with tasks that copy a file each: `count` files of `size` bytes.
        made: glob of the files that the tasks write, below the folder.
        command: runs everything, with a number of workers.
        again: the same, where all is unchanged; by the name under which it is measured.
        modules: what has to be installed.
    """

    name: str
    about: str
    write_graph: Callable[[Path, Graph], None]
    write_copies: Callable[[Path, int, int], None]
    made: str
    command: Callable[[int], list[str]]
    again: Mapping[str, Sequence[str]]
    modules: Sequence[str] = ()
    packages: str = ""

    @property
    def missing(self) -> str | None:
        """What to install before it can take part."""
        if all(importlib.util.find_spec(module) for module in self.modules):
            return None
        return f'missing: pip install {self.packages}, or all peers with pip install -e ".[bench]"'


# --- ours --------------------------------------------------------------------------------------------------

NAP = Flow(
    "nap",
    "1 cell: read what the upstreams wrote, sleep, write a line",
    (
        "import time\n"
        "from pathlib import Path\n"
        "begin = time.time()\n"
        'for path in config["reads"]:\n'
        '    Path(config["_project_root"], path).read_text()\n'
        'time.sleep(config["seconds"])\n'
        'Path("made.txt").write_text(f"{begin} {time.time()}")',
    ),
    {"reads": [], "seconds": 0.0},
    "made.txt",
)
COPY = Flow(
    "duplicate",
    "1 cell: copy a file",
    (
        "from pathlib import Path\n"
        'Path("made.txt").write_bytes(Path(config["_project_root"], config["reads"]).read_bytes())',
    ),
    {"reads": "inputs/one.txt"},
    "made.txt",
)


def our_graph(folder: Path, graph: Graph) -> None:
    write_project(folder, NAP, 0)
    for task, ups in enumerate(graph.upstreams):
        reads = [f"runs/nap/{instance_name(up)}/made.txt" for up in ups]
        config = {"reads": reads, "seconds": graph.seconds[task]}
        stored = folder / "config" / "flows" / NAP.name / f"{instance_name(task)}.json"
        stored.write_text(json.dumps(config), encoding="utf-8")


def our_copies(folder: Path, count: int, size: int) -> None:
    write_project(folder, COPY, 0)
    for name in _inputs(folder, count, size):
        stored = folder / "config" / "flows" / COPY.name / f"{name}.json"
        stored.write_text(json.dumps({"reads": f"inputs/{name}.txt"}), encoding="utf-8")


def _inputs(folder: Path, count: int, size: int) -> list[str]:
    """Files of a size, each with its own content."""
    names = [instance_name(number) for number in range(count)]
    (folder / "inputs").mkdir()
    for name in names:
        line = f"{name}\n"
        text = (line * (size // len(line) + 1))[:size]
        (folder / "inputs" / f"{name}.txt").write_text(text, encoding="utf-8")
    return names


# --- pytask ------------------------------------------------------------------------------------------------

_PYTASK_GRAPH = """\
import json
import time
from pathlib import Path

import pytask

HERE = Path(__file__).parent
for task in json.loads((HERE / "graph.json").read_text()):

    @pytask.task(id=task["name"])
    def task_nap(
        seconds=task["seconds"],
        reads=[HERE / "made" / f"{name}.txt" for name in task["reads"]],
        produces=HERE / "made" / f"{task['name']}.txt",
    ):
        begin = time.time()
        for path in reads:
            path.read_text()
        time.sleep(seconds)
        produces.write_text(f"{begin} {time.time()}")
"""
_PYTASK_COPIES = """\
from pathlib import Path

import pytask

HERE = Path(__file__).parent
for path in sorted((HERE / "inputs").iterdir()):

    @pytask.task(id=path.stem)
    def task_copy(reads=path, produces=HERE / "made" / path.name):
        produces.write_bytes(reads.read_bytes())
"""


def pytask_graph(folder: Path, graph: Graph) -> None:
    _write_json(folder, graph)
    (folder / "task_nap.py").write_text(_PYTASK_GRAPH, encoding="utf-8")


def pytask_copies(folder: Path, count: int, size: int) -> None:
    _inputs(folder, count, size)
    (folder / "task_copy.py").write_text(_PYTASK_COPIES, encoding="utf-8")


def _write_json(folder: Path, graph: Graph) -> None:
    tasks = [
        {"name": instance_name(task), "seconds": graph.seconds[task], "reads": [*map(instance_name, ups)]}
        for task, ups in enumerate(graph.upstreams)
    ]
    (folder / "graph.json").write_text(json.dumps(tasks), encoding="utf-8")


def _pytask(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytask", "build", *arguments]


# --- snakemake ---------------------------------------------------------------------------------------------

_SNAKE_GRAPH = """\
import json

TASKS = {task["name"]: task for task in json.load(open("graph.json"))}


rule all:
    input: expand("made/{name}.txt", name=TASKS)


rule nap:
    input: lambda found: [f"made/{name}.txt" for name in TASKS[found.name]["reads"]]
    output: "made/{name}.txt"
    params: seconds=lambda found: TASKS[found.name]["seconds"]
    shell: "begin=$(date +%s.%N); cat /dev/null {input} > /dev/null; sleep {params.seconds};"
        " echo $begin $(date +%s.%N) > {output}"
"""
_SNAKE_COPIES = """\
rule all:
    input: expand("made/{name}.txt", name=glob_wildcards("inputs/{name}.txt").name)


rule copy:
    input: "inputs/{name}.txt"
    output: "made/{name}.txt"
    shell: "cp {input} {output}"
"""


def snake_graph(folder: Path, graph: Graph) -> None:
    _write_json(folder, graph)
    (folder / "Snakefile").write_text(_SNAKE_GRAPH, encoding="utf-8")


def snake_copies(folder: Path, count: int, size: int) -> None:
    _inputs(folder, count, size)
    (folder / "Snakefile").write_text(_SNAKE_COPIES, encoding="utf-8")


def _snakemake(workers: int) -> list[str]:
    # The other scheduler solves an integer programme for the same end.
    return [
        *(sys.executable, "-m", "snakemake", "--cores", str(workers)),
        *("--scheduler", "greedy", "--quiet", "all"),
    ]


#: The plugins that a project of ours needs; see `graph.Bench.run` for those that happen to be installed.
OURS = (*PYTEST, "-p", "xdist.plugin", "-p", "pytest_ductaflow.plugin", "--ductaflow")
CHANGED = (*OURS, "--ductaflow-changed")

_TABLE = (
    Rival(
        "ours",
        "ours, `pytest --ductaflow`",
        our_graph,
        our_copies,
        "runs/*/*/made.txt",
        lambda workers: [*OURS, "-n", str(workers)],
        {"ours, command": (sys.executable, "-m", "ductaflow", "run", "--changed"), "ours": CHANGED},
    ),
    Rival(
        "pytask",
        "pytask, pytask-parallel",
        pytask_graph,
        pytask_copies,
        "made/*.txt",
        lambda workers: _pytask("-n", str(workers), "--parallel-backend", "processes"),
        {"pytask": _pytask()},
        ("pytask", "pytask_parallel"),
        "pytask pytask-parallel",
    ),
    Rival(
        "snakemake",
        "snakemake",
        snake_graph,
        snake_copies,
        "made/*.txt",
        _snakemake,
        {"snakemake": _snakemake(2)},
        ("snakemake",),
        "snakemake",
    ),
)
RIVALS = {rival.name: rival for rival in _TABLE}
