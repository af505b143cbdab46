"""The only place that spells folder and file names.

<project>/config/{flows,builds}/...         stored instances
<project>/{flows,builds}/<flow>.py          sources
<project>/runs/<flow>/<instance>/           run folders
<project>/runs/.ductaflow/                  what is ours: running markers, previous outputs
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["flow", "build"]
#: What the folders of a project are called unless its settings say otherwise.
CONFIG_DIR, RUNS_DIR, EXPECTED_DIR = "config", "runs", "expected"
KIND_DIRS: dict[Kind, str] = {"build": "builds", "flow": "flows"}
SOURCE_SUFFIXES = (".py", ".ipynb", ".md")
BASE_CONFIG = "base.json"
DEFAULT_INSTANCE = "default"
RESULT = "result.json"
#: What a run says in numbers; it is the run's own file.
METRICS = "metrics.json"
REPORT_HTML = "conductor_status_report.html"
REPORT_JSON = "conductor_status_report.json"
CACHE_DIR = ".ductaflow"
#: Lies in a folder that is a bundle of a report, which may be replaced.
BUNDLE_MARK = ".ductaflow-bundle"
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
        return self.path / f"{self.flow}{_SAVED}"

    @property
    def log(self) -> Path:
        return self.path / f"{self.flow}{_LOG}"

    @property
    def cli_log(self) -> Path:
        """The log of a flow that ran as a script."""
        return self.path / f"{self.flow}{_CLI_LOG}"

    @property
    def result(self) -> Path:
        return self.path / RESULT

    @property
    def own_files(self) -> tuple[Path, ...]:
        return (self.notebook, self.html, self.config, self.log, self.cli_log, self.result)


def relative(path: str | os.PathLike[str], start: str | os.PathLike[str]) -> str:
    """A path as seen from a folder, with `/`; absolute where there is no such way (another drive)."""
    below, name = os.path.join(start, ""), os.fspath(path)
    if name.startswith(below) and os.pardir not in name:
        # `relpath` would make both absolute each time, and a session asks ten thousands of times
        return name[len(below) :].replace(os.sep, "/")
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:
        return Path(path).absolute().as_posix()


def is_of_kernel(path: str) -> bool:
    """Return whether a path is of a file system that holds no real files, and may be without end.

    `/dev/shm` holds some: it is a disk in memory, where people keep data.
    """
    return path.startswith(("/proc/", "/sys/", "/dev/")) and not path.startswith("/dev/shm/")


def below(folder: Path, base: Path) -> Path | None:
    """A folder as it is spelled from one that it lies in, perhaps by way of symlinks; None if it is not."""
    # by their texts first: each of thousands of run folders is asked about
    if os.fspath(folder).startswith(os.path.join(base, "")) or base in folder.parents:
        return folder
    real, target = Path(os.path.realpath(base)), Path(os.path.realpath(folder))
    return base / target.relative_to(real) if real in target.parents else None


RUN_KEY = "_run"
ROOT_KEY = "_project_root"
#: Environment variable that names the run which a process belongs to.
CONTEXT = "DUCTAFLOW_RUN"


# --- what is ours in a folder -----------------------------------------------------------------------------

_SAVED, _LOG, _CLI_LOG = "_config.json", "_execution_output.txt", "_cli_execution_output.txt"
#: The logs in a run folder, as a glob.
LOGS = f"*{_LOG}"
#: What people call the saved config of a run folder.
SAVED_CONFIG = f"<flow>{_SAVED}"


def ran_among(names: Iterable[str]) -> set[str]:
    """The flows that have run in a folder with these files: there is a saved config and a log of each.

    Flows may write files of such names themselves, so one of the two is not enough.
    """
    known = set(names)
    saved = (name.removesuffix(_SAVED) for name in known if name.endswith(_SAVED))
    return {flow for flow in saved if f"{flow}{_LOG}" in known or f"{flow}{_CLI_LOG}" in known}


def flows_in(folder: Path) -> list[str]:
    """The flows that have run in a folder; where there is no log, those that have a saved config."""
    names = os.listdir(folder) if folder.is_dir() else []
    saved = {name.removesuffix(_SAVED) for name in names if name.endswith(_SAVED)}
    return sorted(ran_among(names) or saved)


def flow_of(folder: Path) -> str | None:
    """The flow whose run folder a folder is; None if there is none, or several that nothing tells apart."""
    flows = flows_in(folder)
    named = [name for name in (folder.parent.name, folder.name) if name in flows]
    return next(iter(named or flows), None) if named or len(flows) == 1 else None


def names_of_ours(folder: str, names: Iterable[str]) -> set[str]:
    """Those of the names in a folder that ductaflow writes: by what else lies there, not by name alone."""
    known = set(names)
    own = {path.name for flow in ran_among(known) for path in RunFolder(Path(), flow).own_files}
    return known & (own | _reports_in(folder, known))


def _reports_in(folder: str, names: Collection[str]) -> set[str]:
    """The reports of a session lie in its runs folder, beside what is ours there."""
    reports = {REPORT_HTML, REPORT_JSON}.intersection(names)
    return reports if reports and os.path.isdir(os.path.join(folder, CACHE_DIR)) else set()


def is_ours(path: str) -> bool:
    """Whether ductaflow itself has written a file: see `names_of_ours`."""
    folder, name = os.path.split(path)
    if name == RESULT:
        try:
            return bool(ran_among(os.listdir(folder or ".")))
        except OSError:
            return False
    for ending in (_CLI_LOG, _LOG, _SAVED, ".ipynb", ".html"):
        if name.endswith(ending):
            flow = name.removesuffix(ending)
            others = (f"{flow}{other}" for other in (_SAVED, _LOG, _CLI_LOG))
            there = [
                other for other in others if other == name or os.path.exists(os.path.join(folder, other))
            ]
            if ran_among(there):
                return True
    return bool(_reports_in(folder, [name]))


def kind_of(source: Path) -> Kind:
    return "build" if source.parent.name == KIND_DIRS["build"] else "flow"
