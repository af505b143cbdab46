"""From an instance, a call or a folder to the spec of a run."""

from __future__ import annotations

import functools
import os
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ductaflow.common.ci import checkout_of
from ductaflow.common.errors import ConfigError, InstanceError
from ductaflow.common.host import is_notebook_execution
from ductaflow.common.paths import (
    BASE_CONFIG,
    KIND_DIRS,
    ROOT_KEY,
    RunFolder,
    below,
    kind_of,
)
from ductaflow.project.graph import noted
from ductaflow.project.instances import Instance, load_stored
from ductaflow.project.options import RunOptions, split_run
from ductaflow.project.other_notebooks import no_flow
from ductaflow.project.settings import Project, Settings
from ductaflow.project.values import json_object
from ductaflow.store.result import GitState
from ductaflow.store.sessions import session_of
from ductaflow.store.spec import RunSpec, current_run


def spec_of_instance(
    instance: Instance,
    *,
    settings: Settings | None = None,
    session: str | None = None,
    owner_pid: int | None = None,
    with_git: bool = True,
) -> RunSpec:
    """The spec of a stored instance, by default with the settings of its project, in this process's session.

    Args:
        with_git: whether it is for a run, whose record has the commit. Who only looks at many does without:
            git takes two processes, once in a session, and each time without one.

    Raises:
        DuctaflowError: what is wrong with the instance.
    """
    if instance.problem:
        raise instance.problem
    if instance.source is None:
        raise InstanceError(
            f"{instance.id} has no source", hint=f"Write {KIND_DIRS[instance.kind]}/{instance.flow}.py."
        )
    project = instance.project
    folder, tree = placed(instance.run_folder.path, project)
    return RunSpec(
        kind=instance.kind,
        flow=instance.flow,
        instance=instance.name,
        source=str(instance.source),
        folder=str(folder),
        runs_root=str(tree),
        project_root=str(project.root),
        config=instance.config,
        notes=instance.notes or (),
        options=instance.options,
        settings=settings or project.settings,
        session_id=session or session_of().id,
        run_id=uuid.uuid4().hex,
        git=_git_of(project.root, session) if with_git else None,
        expected=_expected_of(instance, folder),
        owner_pid=owner_pid,
    )


def _expected_of(instance: Instance, folder: Path) -> str:
    """The folder of what is expected of a run; empty for what nobody stores."""
    project = instance.project
    expected = project.expected_dir
    if instance.is_stored:
        return os.path.join(expected, instance.flow, instance.name)
    run = current_run()
    if run and (inside := below(folder, Path(run.folder))):
        return str(Path(run.expected) / inside.relative_to(run.folder)) if run.expected else ""
    if instance.saved and (inside := below(folder, project.runs_dir)):
        parts = inside.relative_to(project.runs_dir).parts
        with suppress(InstanceError):
            load_stored(project, "/".join(parts[:2]))
            return str(expected.joinpath(*parts))
    return ""


def placed(folder: Path, project: Project) -> tuple[Path, Path]:
    """A run folder and the tree that it belongs to; inside a build, the tree of the build."""
    run = current_run()
    inside = below(folder, Path(run.folder)) if run else None
    return (inside, Path(run.runs_root)) if run and inside else project.placed(folder)


def spec_of_call(
    notebook_file: str | os.PathLike[str],
    config: Mapping[str, object],
    execution_dir: str | os.PathLike[str],
    project: Project | None = None,
) -> RunSpec:
    """The spec of a notebook, a config that is taken as it is, and a folder, whose name is the instance's.

    Without a project it is the one of the run, or the one around the notebook.
    """
    source = find_notebook(notebook_file, project)
    project = project or find_project(near=source.parent)
    folder = Path(os.path.abspath(execution_dir))
    given = json_object({key: value for key, value in config.items() if key != ROOT_KEY})
    values, options = split_run(given, where="config")
    called = Instance(
        kind_of(source),
        source.stem,
        folder.name,
        project,
        {**values, ROOT_KEY: project.root.as_posix()},
        RunOptions(**options.of_execution),
        source,
        file=RunFolder(folder, source.stem).config,
        saved=folder,
    )
    # In a build the paths of its flows may mean its own runs folder.
    return spec_of_instance(called if current_run() else noted(called, of_call=True))


def find_notebook(notebook_file: str | os.PathLike[str], project: Project | None = None) -> Path:
    """The notebook that a call names: from the working directory, then from the roots of projects.

    Those are the project given, the one of the run, and the one around the working directory.

    Raises:
        InstanceError: it is in none of them, or it is not a notebook.
    """
    name = Path(notebook_file)
    run = current_run()
    around = Project.around(Path.cwd())
    roots = [Path.cwd()]
    roots += [one.root for one in (project, run and find_project(), around) if one]
    looked = dict.fromkeys(Path(os.path.abspath(root / name)) for root in roots)
    path = next(filter(Path.is_file, looked), None)
    if path is None:
        raise InstanceError(f"no notebook {name}", hint=f"Looked for: {', '.join(map(str, looked))}.")
    if problem := no_flow(path, str(path)):
        raise InstanceError(f"{path} {problem.what}", hint=problem.remedy)
    return path


def find_project(project_root: str | os.PathLike[str] | None = None, *, near: Path | None = None) -> Project:
    """The project that is meant: the one given, the one of the running flow, or the one around a folder.

    The folder is by default the working directory; without a project around it, it is one itself. In a run
    the settings are those of the run.
    """
    run = current_run()
    if project_root is None and run is None:
        folder = near or Path.cwd()
        in_sources = folder.name in KIND_DIRS.values()
        return Project.around(folder) or Project.at(folder.parent if in_sources else folder)
    root = Path(project_root or (run.project_root if run else ""))
    is_own = run is not None and os.path.realpath(root) == os.path.realpath(run.project_root)
    return Project.at(root, run.settings if run and is_own else None)


def project_here() -> Project:
    """The project around the working directory, else around the script that runs.

    Raises:
        InstanceError: there is none.
    """
    for folder in filter(None, (Path.cwd(), _folder_of_main())):
        if project := Project.around(folder):
            return find_project(project.root)
    raise no_project(Path.cwd())


def _folder_of_main() -> Path | None:
    """The folder of the script that this process runs; None if it runs none."""
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(main_file).absolute().parent if main_file else None


def use_project_of_main() -> None:
    """Put the project root on `sys.path` where this process is a flow that runs without us.

    In a script, Python itself has put the folder of the flow there; a notebook by hand has its own folder.
    """
    if current_run() is not None:
        return
    by_hand = is_notebook_execution()
    folder = Path.cwd() if by_hand else _folder_of_main()
    if folder is None or not (by_hand or folder.name in KIND_DIRS.values()):
        return
    project = None
    with suppress(ConfigError):
        # What is wrong with the settings is an error as soon as something runs.
        project = Project.around(folder)
    if project is not None and str(project.root) not in sys.path:
        sys.path.insert(1, str(project.root))


def no_project(folder: Path, *, what: str = "") -> InstanceError:
    """Why nothing can be looked up from a folder; `what` is said before."""
    return InstanceError(
        f"{what}{folder} lies in no project: no {signs_of(folder)} in it or above it",
        hint="Change to a folder of a project, or give its folder (--project, project_root).",
    )


def signs_of(folder: Path) -> str:
    """What makes a folder a project, by the settings there."""
    stored = Settings.at(folder.absolute()).config_dir
    kinds = ", ".join(f"{stored}/{name}" for name in sorted(KIND_DIRS.values(), reverse=True))
    return f"{kinds} or {stored}/{BASE_CONFIG}"


def _git_of(root: Path, session: str | None) -> GitState | None:
    run = current_run()
    if run and run.git is not None:
        return run.git
    return _git_state(root, session) if session else _git_state.__wrapped__(root)


@functools.lru_cache(maxsize=16)
def _git_state(root: Path, session: str = "") -> GitState | None:
    """The commit of a project, and whether it has uncommitted changes; None without git. Once a session."""
    found = checkout_of(root)
    return GitState(commit=found.commit, dirty=found.dirty) if found else None
