"""A flow as a script.

    python flows/fit.py [--config FILE | --instance NAME] [--output-dir DIR] [--no-execute]

The process that the person started only reads the command line; the flow itself runs in a child of the same
kind as every run, so that its verdict survives a kill. Under a debugger, a profiler or coverage the flow goes
on in the process that was started, since that is the one which the person looks at.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ductaflow.common.errors import ConfigError, DuctaflowError
from ductaflow.common.host import callers, is_debugged
from ductaflow.common.paths import DEFAULT_INSTANCE, KIND_DIRS, RunFolder, below, kind_of
from ductaflow.common.renamed import also_named
from ductaflow.common.text import without_commands
from ductaflow.project.graph import noted
from ductaflow.project.instances import load_stored, make_instance
from ductaflow.project.options import load_saved_config
from ductaflow.project.settings import Project
from ductaflow.session.debug import prepare
from ductaflow.session.request import find_project, placed, spec_of_call, spec_of_instance
from ductaflow.session.runner import launch_shown
from ductaflow.store.result import Result
from ductaflow.store.spec import RunSpec, current_run

_SIGNALLED = 128


@also_named(default_config_path="default_path")
def load_cli_config(default_path: str | os.PathLike[str], description: str = "") -> dict[str, Any]:
    """The config of a flow that is run as a script; the rest of the script then runs in a process of its own.

    Args:
        default_path: config file when the command line gives none; relative to the working directory or to
            the project root. A file below `config/` is an instance and gets its bases.
        description: shown by `--help`.

    Returns:
        The config. Outside of a debugger this returns only in the child that runs the flow: the process that
        was started waits for it, and exits with its exit code.

    Raises:
        SystemExit: after the run, after `--no-execute`, or with code 2 for a bad command line or config.

    Example:
        # %% tags=["parameters"]
        config = {}

        # %%
        from ductaflow import is_notebook_execution, load_cli_config

        if not is_notebook_execution():
            config = load_cli_config("config/flows/trend.json", "Fit a trend")
        print(config["x"])
    """
    run = current_run()
    source = Path(getattr(sys.modules["__main__"], "__file__", None) or sys.argv[0]).absolute()
    # a process of the run that executes the flow again, since it was started as a new interpreter
    is_again = sys.modules["__main__"].__name__ == "__mp_main__"
    if run is not None and Path(run.source) == source and (run.mode == "script" or is_again):
        return load_saved_config(run.run_folder.config, project_root=Path(run.project_root))
    arguments = _parse(description)
    try:
        spec = _spec(source, arguments, Path(default_path))
        if arguments.no_execute:
            prepare(spec)
            sys.exit(0)
        if reason := _stays_here():
            from ductaflow.execution.inplace import RunInPlace

            return RunInPlace(spec, reason).begin()
        result = launch_shown(spec)
    except DuctaflowError as exc:
        print(without_commands(f"{source.name}: error: {exc}"), file=sys.stderr)
        sys.exit(2)
    sys.exit(_exit_code(result))


def _parse(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description or None)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--config", metavar="FILE", type=Path, help="an instance below config/, or any config")
    which.add_argument("--instance", metavar="NAME", help="name of a stored instance of this flow")
    parser.add_argument(
        "--output-dir", metavar="DIR", type=Path, help="run folder, by default runs/<flow>/<name>"
    )
    parser.add_argument("--no-execute", action="store_true", help="prepare the run folder for debugging only")
    return parser.parse_args()


def _spec(source: Path, arguments: argparse.Namespace, default_path: Path) -> RunSpec:
    around = Project.around(source.parent)
    project = find_project(around.root) if around else find_project(near=source.parent)
    if arguments.instance:
        spec = spec_of_instance(noted(load_stored(project, f"{source.stem}/{arguments.instance}")))
    else:
        spec = _spec_of_file(project, source, _find(arguments.config or default_path, project.root))
    spec = replace(spec, mode="script", source=str(source))
    if arguments.output_dir:
        folder, tree = placed(Path(os.path.abspath(arguments.output_dir)), project)
        spec = replace(spec, folder=str(folder), instance=folder.name, runs_root=str(tree))
    return spec


def _spec_of_file(project: Project, source: Path, path: Path) -> RunSpec:
    """A config below `config/` is a stored instance; any other is taken as it is."""
    stored = below(path, project.config_dir)
    if stored is None:
        config = load_saved_config(path, project_root=project.root)
        saved = path == RunFolder(path.parent, source.stem).config
        name = path.parent.name if saved else path.stem
        folder = path.parent if saved else project.run_folder(source.stem, name).path
        return spec_of_call(source, config, folder, project)
    parts = stored.relative_to(project.config_dir).with_suffix("").parts
    if path.suffix != ".json" or len(parts) not in (2, 3) or parts[1] != source.stem:
        where = f"{project.settings.config_dir}/{KIND_DIRS[kind_of(source)]}"
        raise ConfigError(
            f"{path} is not an instance of {source.stem}",
            hint=f"Instances are {where}/{source.stem}.json and "
            f"{source.stem}/<name>.json there; a row of a table is given by --instance NAME.",
        )
    if len(parts) == 2:
        # the base alone, also of a flow that has other instances
        base = make_instance(project, kind_of(source), source.stem, DEFAULT_INSTANCE, {}, source=source)
        return spec_of_instance(noted(base))
    return spec_of_instance(noted(load_stored(project, f"{source.stem}/{parts[2]}")))


def _find(path: Path, root: Path) -> Path:
    bases = dict.fromkeys([Path.cwd(), root])
    for base in bases:
        candidate = Path(os.path.abspath(base / path))
        if candidate.is_file():
            return candidate
    looked = " and ".join(str(base) for base in bases)
    raise ConfigError(f"no config file {path}", hint=f"Looked in {looked}; give one with --config FILE.")


def _exit_code(result: Result) -> int:
    if result.signal:
        return _SIGNALLED + getattr(signal, result.signal, 0)
    return result.exit_code or int(result.status.is_error)


# --- in the process that was started -----------------------------------------------------------------------


def _stays_here() -> str | None:
    """Why the flow has to run in this very process, None where it has not."""
    tracer = sys.gettrace()
    if is_debugged():
        return "a debugger"
    if sys.flags.inspect or sys.flags.interactive:
        return "python -i"
    monitoring = getattr(sys, "monitoring", None)
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring is not None else []
    watched = tracer is not None or sys.getprofile() is not None or any(tools) or callers() & _PROFILERS
    # Coverage that follows into children measures the run there.
    follows = any(name in os.environ for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"))
    return "a profiler or coverage" if watched and not follows else None


#: Modules that run a script for a profiler.
_PROFILERS = {"cProfile", "profile", "trace", "coverage", "kernprof", "pyinstrument", "scalene", "viztracer"}
