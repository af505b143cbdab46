"""What is measured inside of processes, each in one of its own.

    python probes.py memory <runs>      memory of the warm server, and of light runs
    python probes.py stages <runs>      where the milliseconds of a warm run go
    pytest -p probes                    a session whose runs cost nothing, and which tells its peak memory

The first two have a project as their working directory and print a line of JSON.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from harness import instance_name

#: The file for the moments of the stages, for the processes below the server too.
MOMENTS = "BENCHMARK_MOMENTS"

# --- memory of the server and of runs ----------------------------------------------------------------------


UNIQUE = "a light run: most unique memory of its processes at a moment"


def memory(runs: int) -> dict[str, list[int]]:
    """Bytes: the peak of each light run's unique memory (USS), and what the server and its branch have.

    A run is a supervisor and a child; the branch that they are forks of is there once for all runs of a flow.
    """
    from ductaflow import run_instance
    from ductaflow.project.settings import Settings

    run_instance(f"light/{instance_name(0)}", settings=Settings(engine="warm"))
    children = psutil.Process().children()
    server = next(child for child in children if "ductaflow.execution.server" in child.cmdline())
    peaks = []
    for number in range(1, runs + 1):
        ended, looks = threading.Event(), list[int]()
        thread = threading.Thread(target=look, args=(server, ended, looks))
        thread.start()
        # with the page, which takes memory too
        run_instance(f"light/{instance_name(number)}", settings=Settings(engine="warm"))
        ended.set()
        thread.join()
        peaks += [max(looks)] if looks else []
    info = server.memory_full_info()
    own = "the warm server: unique, with no run alive"
    branches = sum(branch.memory_full_info().uss for branch in server.children())
    of_branch = "its branch, for all runs of a flow: unique"
    return {UNIQUE: peaks, "the warm server: resident": [info.rss], own: [info.uss], of_branch: [branches]}


def look(server: psutil.Process, ended: threading.Event, looks: list[int]) -> None:
    """Add up, all the time, the memory that the processes below the branches have for themselves."""
    while not ended.wait(0.002):
        total = 0
        with contextlib.suppress(psutil.Error):
            for branch in server.children():
                for process in branch.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        total += process.memory_full_info().uss
        if total:
            looks.append(total)


# --- where the time goes -----------------------------------------------------------------------------------

PAGE_MAKER = "ductaflow.execution.page_maker"
#: What is timed in the processes of a warm run: module, function or method, what it does.
STAGES = (
    ("ductaflow.execution.branch", "why_not_warm", "supervisor: may it be warm"),
    ("ductaflow.execution.recorded_run", "RecordedRun.__init__", "supervisor: folder, config and log"),
    ("ductaflow.execution.recorded_run", "_claim", "supervisor: of which lock, marker, previous outputs"),
    ("ductaflow.execution.branch", "fork_child", "supervisor: fork of the child"),
    ("ductaflow.execution.child", "_be_anew", "child: descriptors, environment, seeds"),
    ("ductaflow.execution.child", "warn_of_lost_config", "child: is the config injected where it is read"),
    ("ductaflow.execution.child", "load_notebook", "child: of which reading the .py (each time)"),
    ("ductaflow.execution.child", "run_notebook_cells", "child: papermill executes the notebook"),
    ("ductaflow.notebook.engine", "_Run.all_cells", "child: of which the cells"),
    ("ductaflow.notebook.shell", "FlowShell.run_flow_cell", "child: of which IPython runs them"),
    ("ductaflow.notebook.manager", "FewerSaves.save", "child: of which writing the notebook (each time)"),
    ("ductaflow.execution.child", "loaded_packages", "child: versions of packages"),
    ("ductaflow.execution.supervise", "end_descendants", "supervisor: nothing is left running"),
    ("ductaflow.execution.recorded_run", "RecordedRun.conclude", "supervisor: judged, result.json written"),
    ("ductaflow.execution.recorded_run", "RecordedRun._result", "supervisor: of which log scanned, judged"),
    ("ductaflow.execution.page_maker", "make_page", "page maker: the HTML, when nobody waits any more"),
)


def wrap_stages(*, of_page_maker: bool) -> None:
    """Time the stages of the page maker, or all others.

    Raises:
        AttributeError: one is not there any more.
    """
    for module, path, label in STAGES:
        if (module == PAGE_MAKER) != of_page_maker:
            continue
        *owners, name = path.split(".")
        place = functools.reduce(getattr, owners, importlib.import_module(module))
        setattr(place, name, timed(label, getattr(place, name)))


def timed(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            # opened each time: a child closes all descriptors when it begins
            handle = os.open(os.environ[MOMENTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, json.dumps([label, begin, time.perf_counter()]).encode() + b"\n")
            os.close(handle)

    return wrapper


def stages(runs: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds until each stage of a warm light run begins, and of it, for each run; stages in order."""
    from ductaflow import run_instance
    from ductaflow.execution import warm
    from ductaflow.execution.launch import await_pages
    from ductaflow.project.settings import Settings

    file = Path("moments.txt").absolute()
    os.environ[MOMENTS] = str(file)
    plain = warm.command

    def command(*args: Any) -> list[str]:
        words = plain(*args)
        place = words.index("-m")
        return [*words[:place], __file__, *words[place + 1 :]]

    warm.command = command  # type: ignore[assignment]
    run_instance(f"light/{instance_name(0)}", settings=Settings(engine="warm"))
    found = defaultdict[str, list[tuple[float, float]]](list)
    for number in range(1, runs + 1):
        file.write_bytes(b"")
        begin = time.perf_counter()
        run_instance(f"light/{instance_name(number)}", settings=Settings(engine="warm"), await_page=False)
        end = time.perf_counter()
        await_pages()
        lines = sorted(map(json.loads, file.read_text().splitlines()), key=lambda line: line[1])
        lines.append(("session: from asking to the result", begin, end))
        # a stage that comes again adds to its first time
        moments: dict[str, tuple[float, float]] = {}
        for label, since, until in lines:
            first, before = moments.get(label, (since - begin, 0.0))
            moments[label] = first, before + until - since
        for label, (first, took) in moments.items():
            found[label].append((1e3 * first, 1e3 * took))
    return found


# --- a session of pytest whose runs are given --------------------------------------------------------------


def pytest_configure() -> None:
    """Have every run but the first end at once, with what the first one left: the session is measured."""
    from ductaflow.session import runner

    run, given = runner.run_instance, []

    def run_instance(instance: Any, **options: Any) -> Any:
        if not given:
            result = run(instance, **options)
            given.append((result, instance.run_folder.log.read_text()))
            return result
        result, log = given[0]
        folder = instance.run_folder
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.log.write_text(log)
        return replace(result, instance=instance.name, run_id=instance.name, folder=folder.path)

    runner.run_instance = run_instance


def pytest_unconfigure() -> None:
    """Write the most memory that this process ever had resident, in bytes."""
    # not `ru_maxrss`: it begins with what the process had that forked this one
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    Path(os.environ["BENCHMARK_PEAK"]).write_text(json.dumps(peak), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1].startswith("ductaflow."):
        wrap_stages(of_page_maker=sys.argv[1] == PAGE_MAKER)
        importlib.import_module(sys.argv[1]).main(sys.argv[2:])
    else:
        with os.fdopen(os.dup(1), "w") as answers:
            # what the runs print is no answer
            os.dup2(2, 1)
            found = (memory if sys.argv[1] == "memory" else stages)(int(sys.argv[2]))
            print(json.dumps(found), file=answers, flush=True)
