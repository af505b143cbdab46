"""From an instance, a call or a folder to the spec of a run."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ductaflow.common.errors import ConfigError, InstanceError
from ductaflow.common.paths import KIND_DIRS, SOURCE_SUFFIXES, Project, kind_of, runs_root
from ductaflow.project.instances import Instance
from ductaflow.project.options import split_run
from ductaflow.project.values import json_value
from ductaflow.store.spec import RunSpec, current_run

ENGINES = (None, "warm", "fresh", "kernel")


@functools.cache
def session_id() -> str:
    """The id of this process's session: that of the run it belongs to, else a random one."""
    run = current_run()
    return run.session_id if run else uuid.uuid4().hex[:12]


def checked_engine(name: str | None) -> str | None:
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
        engine=checked_engine(options.engine),
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
    root = Path(project_root).absolute() if project_root else root_around(source)
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
        engine=checked_engine(options.engine),
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


def root_around(source: Path) -> Path:
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
