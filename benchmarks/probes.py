"""What is measured inside of processes, each in one of its own. Every program prints a line of JSON.

    python probes.py memory <runs>                  memory of the warm server, and of light runs
    python probes.py stages <runs> <file>           where the milliseconds of a warm run go
    pytest -p probes                                a session whose runs are given, and that tells its peak

The first two have a project as their working directory.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from workspace import instance_name

if TYPE_CHECKING:
    from ductaflow import Result

#: Set for `pytest -p probes`: the file for the peak.
PEAK = "OVERHEAD_PEAK"
#: Set for the server of `stages`: the file for the moments.
MOMENTS = "OVERHEAD_MOMENTS"

# --- memory of the server and of runs ----------------------------------------------------------------------


def server_process() -> psutil.Process:
    children = psutil.Process().children()
    return next(child for child in children if "ductaflow.execution.server" in child.cmdline())


class Sampler:
    """Looks all the time at the memory that the processes below another one have for themselves (USS)."""

    def __init__(self, server: psutil.Process) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        #: The largest sum of the processes of one moment, in bytes.
        self.peak = 0
        self.looks = 0

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.002):
            with contextlib.suppress(psutil.Error):
                self._sum()

    def _sum(self) -> None:
        total = 0
        for process in self._server.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().uss
        if total:
            self.looks += 1
            self.peak = max(self.peak, total)


def memory(runs: int) -> dict[str, Any]:
    """Bytes: the server's resident and unique memory, the peak of each light run's unique memory."""
    from ductaflow import run_instance

    run_instance(f"light/{instance_name(0)}", engine="warm")
    server = server_process()
    peaks = []
    for number in range(1, runs + 1):
        with Sampler(server) as sampler:
            # with the page, which takes memory too
            run_instance(f"light/{instance_name(number)}", engine="warm")
        if sampler.looks:
            peaks.append(sampler.peak)
    info = server.memory_full_info()
    return {"runs": peaks, "server_rss": info.rss, "server_uss": info.uss}


# --- where the time goes -----------------------------------------------------------------------------------

#: What is timed in the processes of a warm run: module, function or method, what it does.
STAGES = (
    ("ductaflow.execution.warm", "why_not_warm", "supervisor: may it be warm"),
    ("ductaflow.execution.supervise", "claim_folder", "supervisor: lock, marker, previous outputs away"),
    ("ductaflow.execution.supervise", "write_beginning", "supervisor: config and log"),
    ("ductaflow.execution.server", "fork_child", "supervisor: fork of the child"),
    ("ductaflow.execution.child", "_be_anew", "child: descriptors, environment, seeds"),
    ("ductaflow.execution.child", "warn_of_lost_config", "child: is the config injected where it is read"),
    ("ductaflow.notebook.source", "load_notebook", "child: of which reading the .py (each time)"),
    ("ductaflow.execution.child", "run_notebook_cells", "child: papermill executes the notebook"),
    ("ductaflow.notebook.engine", "_Run.all_cells", "child: of which the cells"),
    ("ductaflow.notebook.shell", "FlowShell.run_flow_cell", "child: of which IPython runs them"),
    ("ductaflow.notebook.manager", "FewerSaves.save", "child: of which writing the notebook (each time)"),
    ("ductaflow.execution.child", "loaded_packages", "child: versions of packages"),
    ("ductaflow.execution.supervise", "end_descendants", "supervisor: nothing is left running"),
    ("ductaflow.execution.supervise", "conclude", "supervisor: log scanned, judged"),
    ("ductaflow.execution.supervise", "keep", "supervisor: closing line, result.json"),
    ("ductaflow.notebook.export", "make_page", "supervisor: the HTML, when nobody waits any more"),
)


def timed(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            tell(label, begin, time.perf_counter())

    return wrapper


def tell(label: str, begin: float, end: float) -> None:
    # Opened each time: a child closes all descriptors when it begins.
    handle = os.open(os.environ[MOMENTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, json.dumps([label, begin, end]).encode() + b"\n")
    os.close(handle)


def wrap_stages() -> list[str]:
    """Time the stages; returns those that are not there any more."""
    gone = []
    for module_name, path, label in STAGES:
        place: Any = importlib.import_module(module_name)
        *owners, name = path.split(".")
        try:
            for owner in owners:
                place = getattr(place, owner)
            setattr(place, name, timed(label, getattr(place, name)))
        except AttributeError:
            gone.append(f"{module_name}.{path}")
    return gone


def timed_server(arguments: list[str]) -> None:
    """The warm server, with its stages timed."""
    from ductaflow.execution import server

    wrap_stages()
    server.main(arguments)


def stages(runs: int, file: Path) -> dict[str, Any]:
    """Median milliseconds of each stage of a warm light run, when it begins, and what it took as a whole."""
    from ductaflow import run_instance
    from ductaflow.execution import warm
    from ductaflow.execution.launch import await_pages

    os.environ[MOMENTS] = str(file)
    plain = warm.command

    def command(*args: Any) -> list[str]:
        words = plain(*args)
        place = words.index("-m")
        return [*words[:place], __file__, "server", *words[place + 2 :]]

    warm.command = command  # type: ignore[assignment]
    run_instance(f"light/{instance_name(0)}", engine="warm")
    whole, taken, begun = [], dict[str, list[float]](), dict[str, list[float]]()
    for number in range(1, runs + 1):
        file.write_bytes(b"")
        begin = time.perf_counter()
        run_instance(f"light/{instance_name(number)}", engine="warm", await_page=False)
        whole.append(time.perf_counter() - begin)
        await_pages()
        sums: dict[str, float] = {}
        first: dict[str, float] = {}
        for label, since, until in map(json.loads, file.read_text().splitlines()):
            sums[label] = sums.get(label, 0.0) + until - since
            first[label] = min(first.get(label, since), since)
        for label in sums:
            taken.setdefault(label, []).append(1e3 * sums[label])
            begun.setdefault(label, []).append(1e3 * (first[label] - begin))
    return {
        "whole": 1e3 * statistics.median(whole),
        "stages": sorted(
            ([label, statistics.median(begun[label]), statistics.median(taken[label])] for label in taken),
            key=lambda stage: stage[1],
        ),
        "gone": wrap_stages(),
    }


# --- a session of pytest whose runs are given --------------------------------------------------------------


def pytest_configure() -> None:
    """Have every run end at once, with what a run leaves: the session is what is measured."""
    import ductaflow.session.runner

    ductaflow.session.runner.run_instance = given_run  # type: ignore[assignment]


def pytest_unconfigure() -> None:
    Path(os.environ[PEAK]).write_text(json.dumps(peak_memory()), encoding="utf-8")


def peak_memory() -> int:
    """The most memory that this process ever had resident, in bytes."""
    # Not `ru_maxrss`: it begins with what the process had that forked this one.
    with open("/proc/self/status", encoding="ascii") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def given_run(instance: Any, *, session_id: str, **_: Any) -> Result:
    from ductaflow.store.result import Cells, Result, Status

    folder = instance.run_folder
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.log.write_text(
        f"🚀 Starting {instance.id}\nsome line\n✅ Completed {instance.id}\n", encoding="utf-8"
    )
    return Result(
        flow=instance.flow,
        instance=instance.name,
        kind=instance.kind,
        status=Status.SUCCESS,
        session_id=session_id,
        run_id=instance.name,
        started="2024-01-01T00:00:00.000Z",
        finished="2024-01-01T00:00:01.000Z",
        seconds=1.0,
        exit_code=0,
        cells=Cells(5, 5),
        config_hash="a" * 64,
        outputs=tuple({"path": f"{name}.csv", "size": 1000} for name in ("a", "b", "c")),
        peak_memory=100_000_000,
        environment={
            "python": "3.12.0",
            "platform": "Linux",
            "packages": {f"package{number}": "1.2.3" for number in range(40)},
            "git": {"commit": "a" * 40, "dirty": False},
            "host": "host",
        },
        folder=folder.path,
    )


# --- the programs ------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    program, *rest = arguments
    if program == "server":
        timed_server(rest)
        return
    with alone() as answers:
        found = memory(int(rest[0])) if program == "memory" else stages(int(rest[0]), Path(rest[1]))
        print(json.dumps(found), file=answers, flush=True)


@contextlib.contextmanager
def alone() -> Iterator[Any]:
    """Standard output for the answer only."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        yield answers


if __name__ == "__main__":
    main(sys.argv[1:])
