"""From an instance, a call or a folder to the spec of a run."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ductaflow.common.errors import InstanceError
from ductaflow.common.paths import KIND_DIRS, SOURCE_SUFFIXES, Project, kind_of, runs_root
from ductaflow.project.instances import Instance
from ductaflow.project.options import split_run
from ductaflow.project.values import json_value
from ductaflow.store.result import GitState
from ductaflow.store.sessions import Part, session_of
from ductaflow.store.spec import RunSpec, current_run

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
        engine=options.engine,
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
        engine=options.engine,
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
    run = current_run()
    if run and run.git is not None:
        git: GitState | None = run.git
    elif session is None:
        git = _git_state(root)
    else:
        git = session_of(session).part(_GitStates).of(root, session)
    return {"session_id": session or session_of().id, "run_id": uuid.uuid4().hex, "git": git}


class _GitStates(Part):
    """The state of projects under git: asked once a session. A worker of a cluster lives through many."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, str], GitState | None] = {}

    def of(self, root: Path, session: str) -> GitState | None:
        if (root, session) not in self._known:
            self._known[root, session] = _git_state(root)
        return self._known[root, session]


def _git_state(root: Path) -> GitState | None:
    """Return the commit of a project, and whether it has uncommitted changes; None without git."""

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
    return GitState(commit=commit, dirty=bool(changes))
