"""Runs a flow of a build again by itself, in place, and updates the status of the build.

    a run folder that belongs to no instance -> the builds around it, held as long as it runs
    -> the flow runs in its folder, with its saved config
    -> each build, the inner first: judged again by its own run and by its flows as they are now

The log of the build stays as it was, and so do the warnings in it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import RunFolder
from ductaflow.common.text import show_on_console
from ductaflow.project.instances import Instance
from ductaflow.project.options import saved_options
from ductaflow.project.settings import Project
from ductaflow.session.decide import NOT_STARTED, refused, unrun
from ductaflow.session.request import spec_of_instance
from ductaflow.session.runner import run_spec
from ductaflow.session.scheduler import TICK
from ductaflow.store import result as stored
from ductaflow.store.folder import has_unfinished_run, held
from ductaflow.store.result import Result, Status
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import judge_again

Show = Callable[[Instance, Result], None]


def run_again(runs: Sequence[Instance], project: Project, *, jobs: int, show: Show) -> list[Result]:
    """Run some folders of a project again in place, and show each result; with one job their logs are live.

    Flows of one build run one after another, in the order given: they may read from each other. When one
    fails, those after it are blocked. Different builds run at the same time.

    Returns:
        A result for each, in the order given.

    Raises:
        KeyboardInterrupt: the running flows were stopped, and their builds judged.
    """
    chains: dict[Path, list[Instance]] = {}
    for run in runs:
        chains.setdefault([run.run_folder.path, *builds_around(run.run_folder.path, project)][-1], []).append(
            run
        )
    stop = threading.Event()
    results: dict[Path, Result] = {}

    def work(chain: Sequence[Instance]) -> None:
        launched = functools.partial(run_spec, echo=jobs == 1, stop=stop, workers=jobs)
        for run, result in _results_of(chain, project, launched, stop):
            results[run.run_folder.path] = result
            show(run, result)

    with ThreadPoolExecutor(jobs, thread_name_prefix="again") as pool:
        try:
            waiting: set[Future[None]] = {pool.submit(work, chain) for chain in chains.values()}
            while waiting:
                done, waiting = wait(waiting, timeout=TICK)
                for future in done:
                    future.result()
        finally:
            stop.set()
    return [results[run.run_folder.path] for run in runs]


def builds_around(folder: Path, project: Project) -> list[Path]:
    """The run folders of the builds that a flow's run belongs to, the inner first.

    A build that is running, or was killed, has no result that names its flows: any run around counts then.
    """
    found = []
    inner = folder
    for parent in folder.parents:
        if parent == project.root:
            break
        build = stored.readable_result(parent)
        is_child = build is not None and inner.relative_to(parent).as_posix() in build.children
        if is_child or has_unfinished_run(project.placed(parent)[1], parent):
            found.append(parent)
            inner = parent
    return found


def _results_of(
    chain: Sequence[Instance], project: Project, launched: Callable[[RunSpec], Result], stop: threading.Event
) -> Iterator[tuple[Instance, Result]]:
    """Run the flows of one build, one after another, and hold the builds around them meanwhile."""
    builds = dict.fromkeys(build for run in chain for build in builds_around(run.run_folder.path, project))
    blame = ""
    with ExitStack() as stack:
        try:
            for build in builds:
                stack.enter_context(held(build, project.placed(build)[1]))
        except DuctaflowError as exc:
            yield from ((run, unrun(run, Status.ERROR, str(exc), "input")) for run in chain)
            return
        for run in chain:
            if stop.is_set():
                yield run, unrun(run, Status.NOT_RUN, NOT_STARTED)
            elif blame:
                yield run, unrun(run, Status.BLOCKED, blame)
            else:
                result = _run(run, project, launched)
                if result.is_failed:
                    blame = f"{run.run_folder.path} failed: {result.message}"
                yield run, result


def _run(run: Instance, project: Project, launched: Callable[[RunSpec], Result]) -> Result:
    """Run one, and judge the builds around it again; if it cannot start, that is its result."""
    builds = builds_around(run.run_folder.path, project)
    try:
        result = launched(spec_of_instance(run))
    except (DuctaflowError, OSError) as exc:
        return refused(run, exc).outcome.result
    if result.status is not Status.UNCHANGED:
        for build in builds:
            _judge(build, result)
    return result


def _judge(build: Path, ran: Result) -> None:
    """Judge a build again after one of its flows has run by itself."""
    last = stored.readable_result(build)
    if last is None:
        # it was killed, or somebody has removed its result: there is nothing to update
        return
    options = saved_options(RunFolder(build, last.flow).config)
    children = [stored.recorded_result(build / child) for child in last.children]
    result = judge_again(last, children, ran, allow_exit=options.allow_exit)
    stored.write_result(result, build)
    show_on_console(f"build {result.id} is {result.status} now: {result.message}\n")
