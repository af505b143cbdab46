"""The recipes of the page on clusters: Slurm with commands in its place, Kubernetes by what it is given."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support import TinyProject, is_alive, processes_of, report, wait_until

from ductaflow.cli.app import main

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")

#: As Slurm's commands do, with a job that is a session of processes on this machine.
SLURM = {
    "sbatch": """
        id=$$
        cp "${@: -1}" "$SLURM/$id.sh"
        setsid bash "$SLURM/$id.sh" > "$SLURM/$id.out" 2>&1 < /dev/null &
        echo $! > "$SLURM/$id.pid"
        echo "Submitted batch job $id"
    """,
    "squeue": 'for job in "$SLURM"/*.pid; do basename "$job" .pid; done',
    "scancel": """
        for id; do
            kill -TERM -- "-$(cat "$SLURM/$id.pid")" && mv "$SLURM/$id.pid" "$SLURM/$id.over"
        done
    """,
}


def recipe(title: str) -> str:
    """The file of that name on the page."""
    (text,) = re.findall(rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    return str(text)


@pytest.fixture
def slurm(project: TinyProject, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the recipe for Slurm in the project; no job may be left."""
    pytest.importorskip("dask_jobqueue")
    jobs, commands = tmp_path / "jobs", tmp_path / "bin"
    jobs.mkdir()
    commands.mkdir()
    for name, text in SLURM.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)
    text = recipe("slurm.py")
    for meant, here in (("jobs=10", "jobs=1"), ("cores=8", "cores=2"), ("64GB", "1GB")):
        assert meant in text
        text = text.replace(meant, here)
    (project.root / "slurm.py").write_text(text)
    paths = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "slurm.py"],
                cwd=project.root,
                env={**os.environ, "PATH": paths, "SLURM": str(jobs)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    uncancelled = list(jobs.glob("*.pid"))
    sessions = {process.pid for process in started}
    sessions |= {int(file.read_text()) for file in [*jobs.glob("*.over"), *uncancelled]}
    left = [one for one in psutil.process_iter() if os.getsid(one.pid) in sessions and is_alive(one)]
    for process in left:
        process.kill()
    assert ([], []) == (uncancelled, left)


@pytest.mark.slow
@pytest.mark.dask
def test_the_recipe_for_slurm(project: TinyProject, slurm: Callable[[], subprocess.Popen[str]]) -> None:
    """Its job starts a worker, and the runs go there; Ctrl-C stops what runs, and cancels the job.

    The report is final then, and the exit code is that of Ctrl-C.
    """
    project.flow("fit", "# %%\nimport os\nopen('job.txt', 'w').write(os.environ['SLURM'])\n")
    project.flow("stay", "# %%\nimport time\nopen('started', 'w')\ntime.sleep(60)\n")
    project.config("flows/fit/a.json")
    project.config("flows/stay/a.json", read="runs/fit/a/job.txt")
    process = slurm()
    wait_until((project.folder("stay", "a") / "started").exists, seconds=90)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (130, "Interrupted.") == (process.returncode, out.splitlines()[-1])
    assert "fit[a] success in" in out
    rows = {one["id"]: (one["status"], one["cause"], one["worker"]) for one in report(project)["instances"]}
    assert ("success", None, "SLURMCluster-0") == rows["fit/a"]
    assert ("error", "interrupted") == rows["stay/a"][:2]
    assert report(project)["finished"]
    wait_until(lambda: not processes_of(str(project.root)))


def test_the_file_for_kubernetes() -> None:
    """Its selectors find their pods, all see the project at one path, the commands take their arguments."""
    distributed = pytest.importorskip("distributed.cli.dask_worker")
    scheduler_main = pytest.importorskip("distributed.cli.dask_scheduler").main
    service, *others = yaml.safe_load(recipe("dask.yaml"))["items"]
    scheduler, worker, _ = others
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in (scheduler, worker)]
    assert labels == [one["spec"]["selector"]["matchLabels"] for one in (scheduler, worker)]
    assert labels[0] == service["spec"]["selector"]
    pods: list[Any] = [one["spec"]["template"]["spec"] for one in others]
    runs, waits, asks = [pod["containers"][0] for pod in pods]
    (port,) = runs["ports"]
    assert port["containerPort"] == service["spec"]["ports"][0]["port"]
    address = f"tcp://{service['metadata']['name']}:{port['containerPort']}"
    assert waits["volumeMounts"] == asks["volumeMounts"]
    assert pods[1]["volumes"] == pods[2]["volumes"]
    assert asks["workingDir"] == asks["volumeMounts"][0]["mountPath"]

    assert ["dask", "scheduler"] == runs["args"]
    assert scheduler_main.make_context("scheduler", runs["args"][2:])
    assert ["dask", "worker"] == waits["args"][:2]
    given = distributed.main.make_context("worker", waits["args"][2:])
    assert (address, 2, False) == (given.params["scheduler"], given.params["nthreads"], given.params["nanny"])
    assert ["ductaflow", "run"] == asks["args"][:2]
    asked = main.commands["run"].make_context("run", asks["args"][2:]).params
    assert (address, True) == (asked["dask"], asked["changed"])
