"""Runs one instance: from Python, from a build, from pytest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ductaflow.common.engines import KERNEL
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import RunFolder
from ductaflow.common.renamed import also_in_order, also_named
from ductaflow.common.text import show_on_console
from ductaflow.execution.echo import IndentedLines
from ductaflow.execution.launch import StopFlag, launch
from ductaflow.project.checks import checked_values
from ductaflow.project.graph import noted
from ductaflow.project.instances import Instance, load_stored
from ductaflow.project.options import RunOptions
from ductaflow.project.settings import Settings
from ductaflow.session import request
from ductaflow.session.debug import prepare
from ductaflow.session.resources import with_thread_limit
from ductaflow.store.changes import Change, Lookback, look_back
from ductaflow.store.expected import difference_lines, judge_unchanged
from ductaflow.store.result import FlowFailed, Result, Status
from ductaflow.store.spec import RunSpec, current_run, tell

#: Asks for `no_execute` in a config that the single-file ductaflow wrote.
_NO_EXECUTE = "_no_execute"
#: Called with why an instance runs, before it does.
Explain = Callable[[tuple[Change, ...]], None]


def run_instance(
    instance: Instance | str,
    *,
    settings: Settings | None = None,
    session_id: str | None = None,
    owner_pid: int | None = None,
    echo: bool = False,
    check: bool = True,
    stop: StopFlag | None = None,
    await_page: bool = True,
    workers: int = 1,
    explain: Explain | None = None,
) -> Result:
    """Run a stored instance into its run folder.

    Args:
        instance: what to run; or its id, such as `"fit/scenario_A"`, in the project around the working
            directory.
        settings: how to run it where its `_run` says nothing; by default as the project says. With
            `only_changed` it does not run if nothing has changed since its last run.
        session_id: the session that it belongs to, by default this process's.
        owner_pid: a process whose end ends the run, besides this one.
        echo: show the log on the console while the flow runs.
        check: raise if the run fails.
        stop: a flag that stops the run when it is set.
        await_page: wait for the HTML too; otherwise `launch.await_pages` has to be called.
        workers: how many runs share this machine; each gets its part of the processors for the threads of
            BLAS and OpenMP.
        explain: with `only_changed`, called with why the instance runs, before it does.

    Returns:
        The record of the run. For an instance that has not changed, the one of its last run, with status
        `unchanged`.

    Raises:
        FlowFailed: with `check`, the run failed; its result is in the exception.
        DuctaflowError: the run could not start: what is wrong with the instance, or who holds the folder.

    Example:
        >>> result = run_instance("fit/scenario_A")
        >>> result.status.value
        'success'
    """
    if isinstance(instance, str):
        instance = load_stored(request.project_here(), instance)
    spec = request.spec_of_instance(
        noted(instance), settings=settings, session=session_id, owner_pid=owner_pid
    )
    result = run_spec(spec, echo=echo, stop=stop, await_page=await_page, workers=workers, explain=explain)
    return _checked(result, check)


@also_in_order(
    *("notebook_file", "notebooks_dir", "config", "output_suffix", "kernel_name", "timeout", "export_html"),
    *("execution_dir", "project_root", "no_execute"),
)
def run_notebook(
    notebook_file: str | os.PathLike[str],
    notebooks_dir: str | os.PathLike[str] | None = None,
    *,
    config: Mapping[str, object],
    execution_dir: str | os.PathLike[str],
    project_root: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    export_html: bool | None = None,
    kernel_name: str | None = None,
    engine: str | None = None,
    no_execute: bool = False,
    only_changed: bool | None = None,
    output_suffix: str = "",
) -> Path:
    """Run a notebook with a config in a folder; what it prints is shown, and kept in the folder's log.

    Inside a build, the flow's run is part of the build's: its lines are repeated in the build's log. A flow
    that is not run, since it has not changed, is one line there, and its warnings.

    Args:
        notebook_file: looked up from the working directory, then from the project root.
        notebooks_dir: the folder in which `notebook_file` is looked up instead.
        config: JSON values, or Python values that become such (numpy scalars, paths, dates).
        execution_dir: the run folder; relative to the working directory.
        project_root: by default the project around the notebook, inside a run the run's.
        timeout: seconds; by default as the config says, then as the settings of the project do.
        export_html: whether to make the HTML of the notebook; by default as the settings say.
        kernel_name: Jupyter kernel, by default the one that the notebook names; implies the engine `kernel`.
        engine: `warm`, `fresh` (an interpreter of its own) or `kernel` (a Jupyter kernel); by default as the
            config says, then as the settings do.
        no_execute: prepare the folder only: the notebook with the config injected, and the config.
        only_changed: do not run it if the folder has a good run of the same config, code and inputs. By
            default so inside a build that runs under `--ductaflow-changed` or `conduct(only_changed=True)`.
        output_suffix: must be empty: the executed notebook is always `<flow>.ipynb` in its run folder.

    Returns:
        The executed notebook, absolute; its parent is the run folder.

    Raises:
        FlowFailed: the run failed; its result is in the exception.
        DuctaflowError: it could not start: config, notebook or folder; the message says which.

    Example:
        >>> notebook = run_notebook("flows/fit.py", config={"x": 3}, execution_dir="runs/fit/high")
        🚀 Starting fit | Instance: high
        x is 3
        ✅ Completed fit | Instance: high | Time: ...
        >>> notebook.name
        'fit.ipynb'
    """
    if output_suffix:
        raise DuctaflowError(
            f"output_suffix={output_suffix!r}: the executed notebook is <flow>.ipynb in its run folder",
            hint="Leave it out, and put what differs into execution_dir: runs/fit/scenario_A_executed.",
        )
    if notebooks_dir is not None:
        notebook_file = Path(notebooks_dir, notebook_file)
    if _NO_EXECUTE in config:
        no_execute = no_execute or bool(config[_NO_EXECUTE])
        config = {key: value for key, value in config.items() if key != _NO_EXECUTE}
    try:
        project = None if project_root is None else request.find_project(project_root)
        spec = request.spec_of_call(notebook_file, config, execution_dir, project)
    except DuctaflowError as exc:
        if build := current_run():
            # whatever the build makes of it, one of its flows did not run
            tell(build, event="refused", id=os.fspath(notebook_file), message=exc.message)
        raise
    engine = engine or (KERNEL.name if kernel_name else None)
    given = {"timeout": timeout, "kernel": kernel_name, "engine": engine}
    spec = replace(
        spec,
        options=replace(spec.options, **checked_values(RunOptions, given, where="", what="option")),
        settings=spec.settings.but(html=export_html, only_changed=only_changed),
    )
    if no_execute:
        prepare(spec)
        return spec.run_folder.notebook
    _checked(run_spec(spec), check=True)
    return spec.run_folder.notebook


@also_named(notebook_path="notebook_file")
def run_step_flow(
    notebook_file: str | os.PathLike[str],
    step_name: str,
    instance_name: str,
    config: Mapping[str, object],
    suffix: str = "",
) -> Path:
    """Run a notebook into `runs/<step>/<instance><suffix>/`, below the working directory.

    `runs` stands for the name that the project gives its runs folder.

    Args:
        notebook_file: as for `run_notebook`.
        config: as for `run_notebook`.
        step_name: first folder below it, usually the name of the flow.
        instance_name: second folder.
        suffix: added to the instance's name, for variants such as `_high`.

    Returns:
        The executed notebook, absolute.

    Raises:
        FlowFailed, DuctaflowError: as `run_notebook`.

    Example:
        >>> notebook = run_step_flow("flows/fit.py", "fit", "scenario_A", {"x": 3}, suffix="_high")
        🚀 Starting fit | Instance: scenario_A_high
        x is 3
        ✅ Completed fit | Instance: scenario_A_high | Time: ...
        >>> notebook.parent.name
        'scenario_A_high'
    """
    folder = Path(request.find_project().settings.runs_dir) / step_name / f"{instance_name}{suffix}"
    return run_notebook(notebook_file, config=config, execution_dir=folder)


def run_spec(
    spec: RunSpec,
    *,
    echo: bool = True,
    stop: StopFlag | None = None,
    await_page: bool = True,
    workers: int = 1,
    explain: Explain | None = None,
) -> Result:
    """Make a run, unless only what has changed runs and nothing has. Arguments as of `run_instance`."""
    if spec.settings.only_changed:
        back = look_back(spec)
        if last := unchanged(spec, back, explain=explain, echo=echo):
            return last
        spec = replace(spec, reasons=back.reasons)
    return launch_shown(spec, echo=echo, stop=stop, await_page=await_page, workers=workers)


def unchanged(
    spec: RunSpec, back: Lookback, *, explain: Explain | None = None, echo: bool = True
) -> Result | None:
    """The last result of a run that need not be made, with status `unchanged`; None if it has to be made.

    If its results are not as expected, it stays an error.

    A build hears of its flow, and repeats its warnings: it keeps them as long as the flow does.
    """
    last = back.last
    if back.changes or last is None:
        if explain:
            explain(back.changes)
        return None
    last = judge_unchanged(last, spec)
    if build := current_run():
        _tell_of_child(build, spec)
    if echo:
        show_on_console(unchanged_lines(last))
    return replace(
        last,
        # The run folder may be a copy of another instance's.
        flow=spec.flow,
        instance=spec.instance,
        # That it is not as expected is no reason to run again, and no less true.
        status=last.status if last.status.is_error else Status.UNCHANGED,
        former_status=last.status,
    )


def unchanged_lines(last: Result) -> str:
    """What a console says of a run that is not made; in the log of a build it is what is left of it."""
    lines = [f"Unchanged: {last.id}", *(f"  {warning.text}" for warning in last.warnings)]
    if last.status.is_error:
        lines.append(f"❌ not as expected: {last.message}")
        lines += [f"  {line}" for line in difference_lines(last.judged)] if last.judged else []
    return "".join(f"{line}\n" for line in lines)


def _tell_of_child(build: RunSpec, spec: RunSpec) -> None:
    tell(build, event="child", folder=Path(os.path.relpath(spec.folder, build.folder)).as_posix())


def launch_shown(
    spec: RunSpec,
    *,
    echo: bool = True,
    stop: StopFlag | None = None,
    await_page: bool = True,
    workers: int = 1,
) -> Result:
    """Launch with the log on the console; a build hears of its flows, and repeats their lines."""
    spec = with_thread_limit(spec, workers)
    build = current_run()
    if build is None:
        return launch(spec, show=show_on_console if echo else None, stop=stop, await_page=await_page)
    show = IndentedLines(spec) if echo else None
    _tell_of_child(build, spec)
    try:
        return launch(spec, show=show, stop=stop, await_page=await_page)
    except DuctaflowError as exc:
        tell(build, event="refused", id=f"{spec.flow}/{spec.instance}", message=exc.message)
        raise
    finally:
        if show:
            show.close()


def _checked(result: Result, check: bool) -> Result:
    if check and result.is_failed:
        folder = RunFolder(result.folder, result.flow) if result.folder else None
        raise FlowFailed(result, hint=f"log: {folder.log}\nnotebook: {folder.notebook}" if folder else "")
    return result


request.use_project_of_main()
