"""The only place that spells folder and file names.

<project>/config/{flows,builds}/...         stored instances
<project>/{flows,builds}/<flow>.py          sources
<project>/runs/<flow>/<instance>/           run folders
<project>/runs/.ductaflow/                  what is ours: running markers, previous outputs
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["flow", "build"]


CONFIG_DIR = "config"


RUNS_DIR = "runs"


KIND_DIRS: dict[Kind, str] = {"build": "builds", "flow": "flows"}


SOURCE_SUFFIXES = (".py", ".ipynb", ".md")


BASE_CONFIG = "base.json"


DEFAULT_INSTANCE = "default"


RESULT = "result.json"


REPORT_HTML = "conductor_status_report.html"


REPORT_JSON = "conductor_status_report.json"


CACHE_DIR = ".ductaflow"


#: Temporary files of ours start like this, so that a later run knows them as ours.
TEMP_PREFIX = ".ductaflow-tmp-"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run and the names of the files that ductaflow writes into it."""

    path: Path
    flow: str

    @property
    def notebook(self) -> Path:
        return self.path / f"{self.flow}.ipynb"

    @property
    def html(self) -> Path:
        return self.path / f"{self.flow}.html"

    @property
    def config(self) -> Path:
        return self.path / f"{self.flow}_config.json"

    @property
    def log(self) -> Path:
        return self.path / f"{self.flow}_execution_output.txt"

    @property
    def cli_log(self) -> Path:
        """The log of a flow that ran as a script."""
        return self.path / f"{self.flow}_cli_execution_output.txt"

    @property
    def result(self) -> Path:
        return self.path / RESULT

    @property
    def own_files(self) -> tuple[Path, ...]:
        return (self.notebook, self.html, self.config, self.log, self.cli_log, self.result)


@dataclass(frozen=True, slots=True)
class Project:
    """A folder that holds `config/`, and where its parts are.

    Attributes:
        root: absolute path of the project.
        config_dir: folder of the stored instances, usually `root / "config"`.
        runs_dir: folder of all runs, usually `root / "runs"`.
    """

    root: Path
    config_dir: Path
    runs_dir: Path

    @classmethod
    def at(cls, root: Path, *, config_dir: str = CONFIG_DIR, runs_dir: str = RUNS_DIR) -> Project:
        root = root.absolute()
        return cls(root, root / config_dir, root / runs_dir)

    @classmethod
    def around(cls, start: Path) -> Project | None:
        """The project that `start` lies in: the nearest folder upwards that holds `config/`."""
        start = start.absolute()
        for folder in (start, *start.parents):
            if is_project_root(folder):
                return cls.at(folder)
        return None

    def source_dir(self, kind: Kind) -> Path:
        return self.root / KIND_DIRS[kind]

    def config_of(self, kind: Kind) -> Path:
        return self.config_dir / KIND_DIRS[kind]

    def source(self, kind: Kind, flow: str) -> Path | None:
        """The notebook of a flow, or None if there is none under `flows/` or `builds/`."""
        for suffix in SOURCE_SUFFIXES:
            candidate = self.source_dir(kind) / f"{flow}{suffix}"
            if candidate.is_file():
                return candidate
        return None

    def run_folder(self, flow: str, instance: str) -> RunFolder:
        return RunFolder(self.runs_dir / flow / instance, flow)


def is_project_root(folder: Path) -> bool:
    """Whether a folder holds stored instances: `config/flows`, `config/builds` or `config/base.json`."""
    config = folder / CONFIG_DIR
    return any((config / name).exists() for name in ("flows", "builds", BASE_CONFIG))


def relative(path: Path, start: Path) -> str:
    """A path as seen from a folder, with `/`; absolute where there is no such way (another drive)."""
    below, name = os.path.join(start, ""), os.fspath(path)
    if name.startswith(below) and os.pardir not in name:
        # `relpath` would make both absolute each time, and a session asks ten thousands of times
        return name[len(below) :].replace(os.sep, "/")
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def runs_root(folder: Path, project_root: Path | None) -> Path:
    """The tree that a run folder belongs to: where markers and previous outputs of it are kept.

    It is the outermost `runs` folder above the run folder (inside the project, if it lies there), so that
    a flow inside a build shares the tree with its build. A folder outside any `runs` is kept beside itself.
    """
    folder = folder.absolute()
    inside = project_root is not None and folder.is_relative_to(project_root)
    outermost = None
    for parent in folder.parents:
        if inside and parent == project_root:
            break
        if parent.name == RUNS_DIR:
            outermost = parent
    return outermost or folder.parent


RUN_KEY = "_run"


ROOT_KEY = "_project_root"


#: Environment variable that names the run which a process belongs to.
CONTEXT = "DUCTAFLOW_RUN"


_LOG_ENDINGS = ("_cli_execution_output.txt", "_execution_output.txt")


def names_of_ours(names: Iterable[str]) -> set[str]:
    """Those of the names in a folder that ductaflow writes there."""
    ours = {RESULT, REPORT_HTML, REPORT_JSON}
    for name in names:
        for ending in _LOG_ENDINGS:
            if name.endswith(ending):
                run = RunFolder(Path(), name.removesuffix(ending))
                ours.update(path.name for path in run.own_files)
    return ours


def is_ours(path: str) -> bool:
    """Whether ductaflow itself has written a file: log, result, notebook and config of a run, the report."""
    folder, name = os.path.split(path)
    if name in (RESULT, REPORT_HTML, REPORT_JSON) or name.endswith(_LOG_ENDINGS):
        return True
    for ending in ("_config.json", ".ipynb", ".html"):
        if name.endswith(ending):
            base = os.path.join(folder, name.removesuffix(ending))
            return any(os.path.exists(base + log) for log in _LOG_ENDINGS)
    return False


def kind_of(source: Path) -> Kind:
    return "build" if source.parent.name == KIND_DIRS["build"] else "flow"
