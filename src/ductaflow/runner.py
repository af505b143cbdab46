"""Runs one instance: from Python, from a build, from pytest; and prepares one for debugging."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ductaflow.flow  # noqa: F401  (puts the project root on `sys.path` of a script)
from ductaflow.config import dump_config, json_value, load_saved_config, split_run
from ductaflow.errors import ConfigError, DuctaflowError, FlowFailed, InstanceError
from ductaflow.folder import note_hand_work
from ductaflow.instances import Instance, load_stored
from ductaflow.launch import IndentedLines, StopFlag, launch, show_on_console
from ductaflow.layout import KIND_DIRS, SOURCE_SUFFIXES, Kind, Project, RunFolder, runs_root
from ductaflow.lineage import DEFAULT, Change, Comparison, changes, look_back
from ductaflow.result import Result, Status, write_atomic
from ductaflow.spec import RunSpec, current_run, tell

ENGINES = (None, "warm", "fresh", "kernel")

#: Called with why an instance runs, before it does.
Explain = Callable[[tuple[Change, ...]], None]


@functools.cache
def session_id() -> str:
    """The id of this process's session: that of the run it belongs to, else a random one."""
    run = current_run()
    return run.session_id if run else uuid.uuid4().hex[:12]


def run_instance(
    instance: Instance | str,
    *,
    session_id: str | None = None,
    owner_pid: int | None = None,
    timeout: float | None = None,
    engine: str | None = None,
    export_html: bool = True,
    keep_previous: bool = True,
    echo: bool = False,
    check: bool = True,
    stop: StopFlag | None = None,
    await_page: bool = True,
    only_changed: bool = False,
    comparison: Comparison = DEFAULT,
    explain: Explain | None = None,
) -> Result:
    """Run a stored instance into its run folder.

    Args:
        instance: what to run; or its id, such as `"fit/scenario_A"`, in the project around the working
            directory.
        session_id: the session that it belongs to, by default this process's.
        owner_pid: a process whose end ends the run, besides this one.
        timeout: seconds for an instance that gives no `_run.timeout` itself; None for no limit.
        engine: engine for an instance that gives no `_run.engine` itself.
        export_html: whether to make the HTML of the notebook.
        keep_previous: whether to keep what the last good run wrote.
        echo: show the log on the console while the flow runs.
        check: raise where the run ended red.
        stop: a flag that stops the run when it is set.
        await_page: wait for the HTML too; otherwise `ductaflow.launch.await_pages` has to be called.
        only_changed: do not run what has not changed since its last run; nor, of a build, such flows.
        comparison: what counts as a change.
        explain: with `only_changed`, called with why the instance runs, before it does.

    Returns:
        The record of the run; of what has not changed that of its last run, with status `unchanged`.

    Raises:
        FlowFailed: with `check`, the run ended red; its result is in the exception.
        DuctaflowError: the run could not start: what is wrong with the instance, or who holds the folder.
    """
    if isinstance(instance, str):
        instance = load_stored(project_here(), instance)
    spec = spec_of_instance(instance, session_id)
    spec = replace(
        spec,
        engine=spec.engine or _engine(engine),
        timeout=spec.timeout or timeout,
        export_html=export_html,
        keep_previous=keep_previous,
        owner_pid=owner_pid,
        **how_it_compares(only_changed, comparison),
    )
    if only_changed and (last := unchanged(spec, comparison, explain=explain, echo=echo)):
        return last
    return _checked(launch_shown(spec, echo=echo, stop=stop, await_page=await_page), check)


def run_notebook(
    notebook_file: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    execution_dir: str | os.PathLike[str],
    project_root: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
    export_html: bool = True,
    kernel_name: str | None = None,
    engine: str | None = None,
    no_execute: bool = False,
    only_changed: bool | None = None,
) -> Path:
    """Run a notebook with a config in a folder; what it prints is shown, and kept in the folder's log.

    Inside a build, the flow's run is part of the build's: its lines are repeated in the build's log. A flow
    that is not run, since it has not changed, is one line there, and its warnings.

    Args:
        notebook_file: looked up from the working directory, then from the project root.
        config: JSON values, or Python values that become such (numpy scalars, paths, dates).
        execution_dir: the run folder; relative to the working directory.
        project_root: by default the project around the notebook, inside a run that of the run.
        timeout: seconds; None for no limit.
        export_html: whether to make the HTML of the notebook.
        kernel_name: Jupyter kernel, by default the one that the notebook names; implies the engine `kernel`.
        engine: `fresh` (an interpreter of its own) or `kernel` (a Jupyter kernel).
        no_execute: prepare the folder only: the notebook with the config injected, and the config.
        only_changed: do not run it if the folder has a good run of the same config, code and inputs. By
            default so inside a build that runs under `--ductaflow-changed` or `conduct(only_changed=True)`.

    Returns:
        The executed notebook, absolute; its parent is the run folder.

    Raises:
        FlowFailed: the run ended red; its result is in the exception.
        DuctaflowError: it could not start: config, notebook or folder; the message says which.
    """
    try:
        spec = spec_of_call(notebook_file, config, execution_dir, project_root)
    except DuctaflowError as exc:
        if build := current_run():
            # whatever the build makes of it, one of its flows did not run
            tell(build, event="refused", id=os.fspath(notebook_file), message=exc.message)
        raise
    engine = engine or ("kernel" if kernel_name else spec.engine)
    given = {"timeout": timeout, "kernel": kernel_name, "engine": engine}
    spec = replace(
        spec,
        timeout=timeout or spec.timeout,
        export_html=export_html,
        kernel=kernel_name or spec.kernel,
        engine=_engine(engine),
        options={**spec.options, **{name: value for name, value in given.items() if value}},
    )
    if no_execute:
        prepare(spec)
        return spec.run_folder.notebook
    build = current_run()
    comparison = comparison_of(build) if build else DEFAULT
    if only_changed is None:
        only_changed = build is not None and build.only_changed
    spec = replace(spec, **how_it_compares(only_changed, comparison))
    if only_changed and unchanged(spec, comparison):
        return spec.run_folder.notebook
    _checked(launch_shown(spec), check=True)
    return spec.run_folder.notebook


def run_step_flow(
    notebook_file: str | os.PathLike[str],
    step_name: str,
    instance_name: str,
    config: Mapping[str, Any],
    suffix: str = "",
) -> Path:
    """Run a notebook into `runs/<step>/<instance><suffix>/`, below the working directory.

    Args:
        notebook_file, config: as for `run_notebook`.
        step_name: first folder below `runs/`, usually the name of the flow.
        instance_name: second folder.
        suffix: added to the instance's name, for variants such as `_high`.

    Returns:
        The executed notebook, absolute.

    Raises:
        FlowFailed, DuctaflowError: as `run_notebook`.
    """
    folder = Path("runs") / step_name / f"{instance_name}{suffix}"
    return run_notebook(notebook_file, config=config, execution_dir=folder)


def changes_of(instance: Instance, comparison: Comparison = DEFAULT) -> tuple[Change, ...]:
    """Why a stored instance has to run; empty if its last run is what a new one would be.

    Raises:
        DuctaflowError: what is wrong with the instance.
    """
    return changes(spec_of_instance(instance), comparison)


def comparison_of(run: RunSpec) -> Comparison:
    """What counts as a change for the flows of a run."""
    return Comparison(frozenset(run.rerun_on), tuple(run.by_stat))


def how_it_compares(only_changed: bool, comparison: Comparison) -> dict[str, Any]:
    """What the flows of a build have to know of it."""
    rerun_on = tuple(sorted(comparison.rerun_on))
    return {"only_changed": only_changed, "rerun_on": rerun_on, "by_stat": comparison.by_stat}


def unchanged(
    spec: RunSpec, comparison: Comparison, *, explain: Explain | None = None, echo: bool = True
) -> Result | None:
    """The last result of a run that need not be made, with status `unchanged`; None if it has to be made.

    A build hears of its flow, and repeats its warnings: it keeps them as long as the flow does.

    Args:
        explain: called with why it has to be made.
        echo: say so on the console.
    """
    back = look_back(spec, comparison)
    last = back.last
    if back.changes or last is None:
        if explain:
            explain(back.changes)
        return None
    if build := current_run():
        _tell_of_child(build, spec)
    if echo:
        show_on_console(unchanged_lines(last))
    return replace(
        last,
        # A run folder may have been copied from that of another instance.
        flow=spec.flow,
        instance=spec.instance,
        status=Status.UNCHANGED,
        former_status=last.status,
    )


def unchanged_lines(last: Result) -> str:
    """What a console says of a run that is not made; in the log of a build it is what is left of it."""
    lines = [f"Unchanged: {last.id}", *(f"  {warning.text}" for warning in last.warnings)]
    return "".join(f"{line}\n" for line in lines)


def _tell_of_child(build: RunSpec, spec: RunSpec) -> None:
    tell(build, event="child", folder=Path(os.path.relpath(spec.folder, build.folder)).as_posix())


def launch_shown(
    spec: RunSpec, *, echo: bool = True, stop: StopFlag | None = None, await_page: bool = True
) -> Result:
    """Launch with the log on the console; a build hears of its flows, and repeats their lines."""
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
    if check and result.status is Status.ERROR:
        folder = RunFolder(result.folder, result.flow) if result.folder else None
        raise FlowFailed(result, hint=f"log: {folder.log}\nnotebook: {folder.notebook}" if folder else "")
    return result


def _engine(name: str | None) -> str | None:
    """The engine of a spec: None stands for `warm`, which is `fresh` where there can be no warm server."""
    if name not in ENGINES:
        raise ConfigError(f"unknown engine {name!r}", hint="Use one of: warm, fresh, kernel.")
    return None if name == "warm" else name


# --- from a call to a spec ---------------------------------------------------------------------------------


def spec_of_instance(instance: Instance, session: str | None = None) -> RunSpec:
    """The spec of a stored instance.

    Args:
        instance: what to run.
        session: id of the session that it belongs to, by default this process's.

    Raises:
        DuctaflowError: what is wrong with the instance.
    """
    if instance.problem:
        raise instance.problem
    if instance.source is None:
        raise InstanceError(
            f"{instance.id} has no source", hint=f"Write {KIND_DIRS[instance.kind]}/{instance.flow}.py."
        )
    options = instance.options
    return RunSpec(
        kind=instance.kind,
        flow=instance.flow,
        instance=instance.name,
        source=str(instance.source),
        folder=str(instance.run_folder.path),
        runs_root=_tree_of(instance),
        project_root=str(instance.project.root),
        config=instance.config,
        engine=_engine(options.engine),
        kernel=options.kernel,
        timeout=options.timeout,
        allow_exit=options.allow_exit,
        options=options.of_execution,
        needs=options.needs,
        **_identity(instance.project.root, session),
    )


def _tree_of(instance: Instance) -> str:
    """The tree that the run folder of an instance belongs to; inside a build, that of the build."""
    run = current_run()
    if run and instance.run_folder.path.is_relative_to(run.runs_root):
        return run.runs_root
    return str(instance.project.runs_dir)


def spec_of_call(
    notebook_file: str | os.PathLike[str],
    config: Mapping[str, Any],
    execution_dir: str | os.PathLike[str],
    project_root: str | os.PathLike[str] | None = None,
) -> RunSpec:
    """The spec of a notebook, a config that is taken as it is, and a folder, whose name is the instance's."""
    source = find_notebook(notebook_file, project_root)
    root = Path(project_root).absolute() if project_root else _root_around(source)
    folder = Path(os.path.abspath(execution_dir))
    values, options = split_run(
        json_value({key: value for key, value in config.items() if key != "_project_root"}), where="config"
    )
    return RunSpec(
        kind=kind_of(source),
        flow=source.stem,
        instance=folder.name,
        source=str(source),
        folder=str(folder),
        runs_root=str(runs_root(folder, root)),
        project_root=str(root),
        config={**values, "_project_root": root.as_posix()},
        timeout=options.timeout,
        engine=_engine(options.engine),
        kernel=options.kernel,
        allow_exit=options.allow_exit,
        options=options.of_execution,
        **_identity(root),
    )


def find_notebook(
    notebook_file: str | os.PathLike[str], project_root: str | os.PathLike[str] | None = None
) -> Path:
    """The notebook that a call names: from the working directory, then from the project root.

    Raises:
        InstanceError: it is in none of them, or it is no notebook.
    """
    name = Path(notebook_file)
    run = current_run()
    around = Project.around(Path.cwd())
    roots = [Path.cwd(), *(Path(root) for root in (project_root, run.project_root if run else None) if root)]
    if around:
        roots.append(around.root)
    looked = dict.fromkeys(Path(os.path.abspath(root / name)) for root in roots)
    for path in looked:
        if path.is_file():
            if path.suffix not in SOURCE_SUFFIXES:
                raise InstanceError(
                    f"{path} is no notebook", hint=f"A notebook ends in {', '.join(SOURCE_SUFFIXES)}."
                )
            return path
    raise InstanceError(
        f"no notebook {name}", hint="Looked for: " + ", ".join(str(path) for path in looked) + "."
    )


def project_here() -> Project:
    """The project around the working directory, else around the script that runs.

    Raises:
        InstanceError: there is none.
    """
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    for start in (Path.cwd(), Path(main_file).absolute().parent if main_file else None):
        project = Project.around(start) if start else None
        if project is not None:
            return project
    raise InstanceError(
        f"{Path.cwd()} lies in no project",
        hint="Change to a folder that holds config/flows, config/builds or config/base.json.",
    )


def kind_of(source: Path) -> Kind:
    return "build" if source.parent.name == KIND_DIRS["build"] else "flow"


def _root_around(source: Path) -> Path:
    run = current_run()
    if run:
        return Path(run.project_root)
    project = Project.around(source.parent)
    if project:
        return project.root
    return source.parent.parent if source.parent.name in KIND_DIRS.values() else source.parent


def _identity(root: Path, session: str | None = None) -> dict[str, Any]:
    session = session or session_id()
    return {"session_id": session, "run_id": uuid.uuid4().hex, "git": _git_state(root, session)}


@functools.lru_cache(maxsize=64)
def _git_state(root: Path, session: str) -> dict[str, Any] | None:
    """Commit of the project and whether it has uncommitted changes; None without git.

    Once a session; a worker of a cluster lives through many of them.
    """
    run = current_run()
    if run and run.git is not None:
        return dict(run.git)

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


# --- debugging ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DebugSetup:
    """What an IDE needs to step through a run.

    Attributes:
        folder: the prepared run folder; notebook: with the config injected; config: the saved config.
        launch: a configuration for VS Code's `launch.json`, running the source itself: breakpoints bind.
    """

    folder: Path
    notebook: Path
    config: Path
    launch: dict[str, Any]


def debug_flow(
    flow: str | os.PathLike[str],
    execution_dir: str | os.PathLike[str],
    config: Mapping[str, Any] | None = None,
) -> DebugSetup:
    """Prepare a run folder for debugging, without running, and print what an IDE needs.

    Args:
        flow: the notebook, as for `run_notebook`.
        execution_dir: the run folder; what the last run wrote there stays.
        config: by default the config that the last run left in the folder.

    Returns:
        Paths of the prepared files, and a launch configuration for VS Code.

    Raises:
        ConfigError: no config is given and the folder has none.
        InstanceError: there is no such notebook.
    """
    if config is None:
        source = find_notebook(flow)
        saved = RunFolder(Path(os.path.abspath(execution_dir)), source.stem).config
        if not saved.is_file():
            raise ConfigError(f"no config is given, and there is no {saved}", hint="Pass config={...}.")
        config = load_saved_config(saved, project_root=_root_around(source))
    spec = spec_of_call(flow, config, execution_dir)
    setup = prepare(spec)
    print(json.dumps(setup.launch, indent=2))
    return setup


def prepare(spec: RunSpec, *, with_outputs: bool = False) -> DebugSetup:
    """Write the config and the notebook with the config injected; nothing is executed.

    With `with_outputs` the cells keep what they showed in the last run, up to the one that failed.
    """
    from ductaflow.notebook import write_prepared

    files = spec.run_folder
    files.path.mkdir(parents=True, exist_ok=True)
    note_hand_work(files.path, Path(spec.runs_root))
    write_atomic(files.config, dump_config(spec.saved_config))
    executed = files.notebook if with_outputs and files.notebook.is_file() else None
    write_prepared(Path(spec.source), {"config": spec.config}, files.notebook, outputs_of=executed)
    print(f"prepared, not executed: {files.path}")
    print(f"  notebook  {files.notebook}")
    print(f"  config    {files.config}")
    return DebugSetup(files.path, files.notebook, files.config, launch_configuration(spec))


def launch_configuration(spec: RunSpec) -> dict[str, Any]:
    """One entry of VS Code's `launch.json` that runs the source as a script, under the debugger."""
    return {
        "name": f"{spec.flow}[{spec.instance}]",
        "type": "debugpy",
        "request": "launch",
        "program": spec.source,
        "args": ["--config", str(spec.run_folder.config), "--output-dir", spec.folder],
        "cwd": spec.project_root,
        "console": "integratedTerminal",
        "justMyCode": True,
    }
