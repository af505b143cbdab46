"""What is asked of one run, as plain data: it crosses from the session to the supervisor and to the child.

The child and every process below it find the run that they belong to in the environment (`CONTEXT`), without
the config: that is in the run folder. What the child has to tell goes, a line of JSON each, into a file that
the supervisor reads when the child has ended, however it ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ductaflow.common.files import Stamp
from ductaflow.common.paths import CONTEXT, RUN_KEY, Kind, RunFolder, runs_root
from ductaflow.store.result import GitState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run. All paths are absolute.

    Attributes:
        source: the notebook; folder: the run folder; runs_root: the tree that it belongs to.
        mode: `notebook` (papermill executes the cells) or `script` (plain Python).
        engine: `fresh` or `kernel`; kernel: name of the kernel, by default the notebook's own.
        timeout: seconds, None for no limit.
        options: what `_run` of the config, or the caller, said of how to execute it; saved with the config.
        only_changed: whether the flows of this run, if it is a build, are run only where something changed;
            rerun_on: what counts as a change then.
        owner_pid: a process whose end ends the run too, besides the one that launched it.
        echo_indent: how the lines of this run are indented when another run shows them.
        git: commit and dirty flag of the project, as the session found them.
        needs: ids of instances that `_run.needs` puts before this one.
        by_stat: globs of files that are recorded with size and time of modification instead of their content.
        events: the file for what the child has to tell; set by the supervisor.
    """

    kind: Kind
    flow: str
    instance: str
    source: str
    folder: str
    runs_root: str
    project_root: str
    session_id: str
    run_id: str
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    mode: Literal["notebook", "script"] = "notebook"
    engine: str | None = None
    kernel: str | None = None
    timeout: float | None = None
    allow_exit: bool = False
    export_html: bool = True
    keep_previous: bool = True
    only_changed: bool = False
    rerun_on: tuple[str, ...] = ("config", "code", "inputs")
    owner_pid: int | None = None
    git: GitState | None = None
    needs: tuple[str, ...] = ()
    by_stat: tuple[str, ...] = ()
    events: str = ""

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(Path(self.folder), self.flow)

    @property
    def log(self) -> Path:
        return self.run_folder.log if self.mode == "notebook" else self.run_folder.cli_log

    @property
    def title(self) -> str:
        return f"{self.flow} | Instance: {self.instance}"

    @property
    def saved_config(self) -> dict[str, Any]:
        """What is kept in the run folder: enough to run it again."""
        return {**self.config, RUN_KEY: self.options} if self.options else self.config

    def into(self, folder: Path) -> RunSpec:
        """The same run in another folder, whose name is the instance's then."""
        return replace(
            self,
            folder=str(folder),
            instance=folder.name,
            runs_root=str(runs_root(folder, Path(self.project_root))),
        )

    def dump(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | bytes) -> RunSpec:
        data = json.loads(text)
        return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the child: UTF-8 everywhere, and which run it is.

        Args:
            base: what else is in it, by default the environment of this process.
        """
        data = asdict(self)
        del data["config"]
        return {**(os.environ if base is None else base), "PYTHONUTF8": "1", CONTEXT: json.dumps(data)}


def current_run() -> RunSpec | None:
    """The run that this process belongs to, without its config; None outside of runs."""
    text = os.environ.get(CONTEXT)
    return RunSpec.load(text) if text else None


def is_below(folder: Path, described: str) -> bool:
    """Whether what `CONTEXT` holds in some process is a run in a folder, or of a flow of the build in it."""
    try:
        return Path(json.loads(described)["folder"]).is_relative_to(folder)
    except (ValueError, KeyError, TypeError):
        # some other program's variable
        return False


def tell(spec: RunSpec, **event: object) -> None:
    """Add an event to what the supervisor of a run will read. One write, so that lines never mix."""
    line = json.dumps(event, ensure_ascii=True) + "\n"
    handle = os.open(spec.events, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def tell_reads(
    spec: RunSpec,
    *,
    files: Mapping[str, Stamp | None] | None = None,
    written: Iterable[str] = (),
    made: Iterable[str] = (),
    listed: Mapping[str, list[str]] | None = None,
    modules: Mapping[str, Stamp | None] | None = None,
    declared: Iterable[str] = (),
    folders: Mapping[str, Mapping[str, Stamp | None]] | None = None,
) -> None:
    """Tell the supervisor of a run what was read, as `verdict.Reads` has it.

    Where it cannot be told any more, the supervisor knows.
    """
    reads = {
        "files": files or {},
        "written": sorted(written),
        "made": sorted(made),
        "listed": listed or {},
        "modules": modules or {},
        "declared": list(declared),
        "folders": folders or {},
    }
    with suppress(FileNotFoundError):
        tell(spec, event="read", reads=reads)
