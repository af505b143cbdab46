"""Starting: a small working project, a new flow, a new build. What is written lies in `templates/` as files.

templates/project/...              `ductaflow init`; `dot-` at the beginning of a name becomes `.`
templates/new/new_flow.py, .json   `ductaflow new flow NAME`; `new_flow` becomes the name, in the text too
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ductaflow.common.errors import DuctaflowError, InstanceError
from ductaflow.common.files import write_atomic
from ductaflow.common.paths import KIND_DIRS, Kind
from ductaflow.project.names import check_flow_name, spelling
from ductaflow.project.settings import Project

_DOT = "dot-"
#: What a folder may have already, and how a project wants it.
_KEPT = {
    "README.md": "",
    ".gitignore": ": /runs/ and junit.xml belong into it",
    "requirements.txt": ": pytest-ductaflow belongs into it",
}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Made:
    """What became of the files of a new project.

    Attributes:
        written: those that were written.
        kept: those that were there and stay as they are, each with what it should hold.
    """

    written: list[Path]
    kept: dict[Path, str]


def init_project(folder: Path) -> Made:
    """Make a small project that works: a flow, a build, two scenarios, a CI file. Files that exist stay.

    Raises:
        DuctaflowError: there is a project already, or a file that would be replaced; nothing is written.
    """
    if Project.at(folder).is_there:
        raise DuctaflowError(
            f"{folder} holds a project already",
            hint="Add to it: ductaflow new flow NAME, ductaflow new build NAME.",
        )
    files = {}
    for parts, text in _texts("project"):
        names = (part.replace(_DOT, ".", 1) if part.startswith(_DOT) else part for part in parts)
        files[folder.joinpath(*names)] = text
    kept = {path: advice for name, advice in _KEPT.items() if os.path.lexists(path := folder / name)}
    return Made(_write({path: text for path, text in files.items() if path not in kept}), kept)


def new_source(project: Project, kind: Kind, name: str) -> list[Path]:
    """Write the notebook and the config of a new flow or build, which succeeds as it is.

    Raises:
        InstanceError: the name is not allowed, or taken.
        DuctaflowError: there is a file that would be replaced; nothing is written.
    """
    check_flow_name(kind, name)
    _check_is_free(project, name)
    placeholder = f"new_{kind}"
    targets = {
        ".py": project.source_dir(kind) / f"{name}.py",
        ".json": project.config_of(kind) / f"{name}.json",
    }
    files = {
        targets[os.path.splitext(parts[-1])[1]]: text.replace(placeholder, name)
        for parts, text in _texts("new")
        if parts[-1].startswith(f"{placeholder}.")
    }
    return _write(files)


def _check_is_free(project: Project, name: str) -> None:
    """Flows and builds share one namespace, in which case does not count."""
    stored = project.settings.config_dir
    for kind, folder in KIND_DIRS.items():
        for path in sorted(project.source_dir(kind).glob("*")):
            if path.is_file() and spelling(path.stem) == spelling(name):
                raise InstanceError(
                    f"there is {folder}/{path.name} already, and flows and builds share one namespace",
                    hint=f"Give another name, or write its configs into {stored}/{folder}/.",
                )


def _texts(name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The files of a template by the parts of their paths, in a fixed order."""
    folder = Path(__file__).parent / "templates" / name
    for path in sorted(folder.rglob("*")):
        # an installer compiles what ends in .py
        if path.is_file() and path.parent.name != "__pycache__":
            yield path.relative_to(folder).parts, path.read_text(encoding="utf-8")


def _write(files: Mapping[Path, str]) -> list[Path]:
    there = [path for path in files if os.path.lexists(path)]
    if there:
        shown = ", ".join(map(str, there[:_SHOWN])) + (" ..." if len(there) > _SHOWN else "")
        raise DuctaflowError(f"there is already {shown}", hint="Nothing was written. Move it away first.")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text)
    except OSError as exc:
        raise DuctaflowError(
            f"cannot write {exc.filename or path}: {exc.strerror or exc}", hint="Give a folder of your own."
        ) from exc
    return list(files)
