"""What is asked of one run, as plain data: it crosses from the session to the supervisor and to the child.

The child and every process below it find the run that they belong to in the environment (`CONTEXT`), without
the config: that is in the run folder. What is too long for a variable is in a file that it names. What the
child has to tell goes, a line of JSON each, into a file that the supervisor reads when the child has ended,
however it ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ductaflow.common.decode import UnreadableError, decode, read_json
from ductaflow.common.files import Stamp, write_atomic
from ductaflow.common.paths import CONTEXT, RUN_KEY, Kind, RunFolder
from ductaflow.project.options import RunOptions
from ductaflow.project.settings import Settings
from ductaflow.store.result import GitState

#: A longer description of a run is in a file, in characters: the system limits variables of the environment.
_LARGEST_VARIABLE = 8192
#: What limits the threads of BLAS, OpenMP and libraries that are built on them, when they are loaded.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run. All paths are absolute.

    Attributes:
        source: the notebook; folder: the run folder; runs_root: the tree that it belongs to.
        mode: `notebook` (papermill executes the cells) or `script` (plain Python).
        notes: what is doubtful about what it reads; each is a warning in its log.
        options: what `_run` of the config, or the caller, asks for; what concerns the execution is saved with
            the config.
        settings: those of the project and its session; the flows of a build run by them too.
        owner_pid: a process whose end ends the run too, besides the one that launched it.
        reasons: why it is made, where only what has changed is; see `Lookback`.
        git: commit and dirty flag of the project, as the session found them.
        expected: the folder of the expected results; empty where nothing is judged.
        page_maker: where the session has its pages made; empty where each run makes its own.
        threads: how many BLAS and OpenMP may have in it; None if the session sets no limit.
        is_watched: an editor's debugger may hold it at a breakpoint, so that it has no time limit.
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
    config: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    options: RunOptions = field(default_factory=RunOptions)
    settings: Settings = field(default_factory=Settings)
    mode: Literal["notebook", "script"] = "notebook"
    owner_pid: int | None = None
    git: GitState | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    expected: str = ""
    page_maker: str = ""
    threads: int | None = None
    is_watched: bool = False
    events: str = ""

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(Path(self.folder), self.flow)

    @property
    def engine(self) -> str:
        """`warm`, `fresh` or `kernel`."""
        return self.settings.engine_for(self.options.engine).name

    @property
    def timeout(self) -> float | None:
        """Seconds; None for no limit."""
        return None if self.is_watched else self.options.timeout or self.settings.timeout

    @property
    def log(self) -> Path:
        return self.run_folder.log if self.mode == "notebook" else self.run_folder.cli_log

    @property
    def title(self) -> str:
        return run_title(self.flow, self.instance)

    @property
    def saved_config(self) -> Mapping[str, object]:
        """What is kept in the run folder: enough to run it again."""
        options = self.options.of_execution
        return {**self.config, RUN_KEY: options} if options else self.config

    def dump(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str | bytes) -> RunSpec:
        """Return the run that `dump` or `environment` described, or raise UnreadableError."""
        return decode(text, cls, where="the description of a run")

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the child: UTF-8, which run it is, and `base`, else that of this process."""
        data = asdict(self)
        del data["config"], data["reasons"]
        text = json.dumps(data)
        if len(text) > _LARGEST_VARIABLE:
            file = described_in(self.events)
            if file:
                write_atomic(file, text, sync=False)
            text = json.dumps(
                {"folder": self.folder, "events": self.events, "described": os.fspath(file or "")}
            )
        return {**self.variables(os.environ if base is None else base), "PYTHONUTF8": "1", CONTEXT: text}

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base`, with the limits of threads: what packages find when they are imported."""
        return with_threads(base, self.threads)


def with_threads(environment: Mapping[str, str], threads: int | None) -> dict[str, str]:
    """An environment in which threads are limited; the same if there is no limit."""
    return {**environment, **dict.fromkeys(THREAD_VARIABLES if threads else (), str(threads))}


def run_title(flow: str, instance: str) -> str:
    """What the first and the last line of a log call a run."""
    return f"{flow} | Instance: {instance}"


def described_in(events: str) -> Path | None:
    """Return the file for what is too long for a variable; None before the run has its file of events."""
    return Path(events).with_suffix(".spec") if events else None


@dataclass(frozen=True, slots=True)
class _Described:
    """What `CONTEXT` holds at least, whatever version of ductaflow wrote it.

    Attributes:
        described: the file that holds the rest; empty if nobody needs it; None if it is all here.
    """

    folder: Path
    described: str | None = None


def current_run() -> RunSpec | None:
    """The run that this process belongs to, without its config; None outside of runs."""
    text = os.environ.get(CONTEXT)
    if not text:
        return None
    file = decode(text, _Described, where=CONTEXT).described
    if file is None:
        return RunSpec.load(text)
    # A run that has ended has none any more.
    return read_json(Path(file), RunSpec) if file else None


def is_below(folder: Path, described: str) -> bool:
    """Whether what `CONTEXT` holds in some process is a run in a folder, or of a flow of the build in it."""
    try:
        return decode(described, _Described, where=CONTEXT).folder.is_relative_to(folder)
    except UnreadableError:
        # some other program's variable
        return False


@dataclass
class Reads:
    """What a run was seen to read, by absolute paths.

    Attributes:
        files: files opened for reading before the run wrote them, with their stamp at that moment; None for a
            file that was not there.
        written: files that the run wrote, moved or removed outside of its folder.
        made: written files that are new: neither read before nor appended to.
        listed: folders whose listing was read, with the names in them at that moment.
        modules: Python modules of the project, with their stamp at import, if known.
        declared: paths given to `reads`.
        given: files that other programs were given as arguments, with their stamp at that moment.
        folders: declared folders, with the files below them and their stamps at that moment.
    """

    files: dict[str, Stamp | None] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    listed: dict[str, list[str]] = field(default_factory=dict)
    modules: dict[str, Stamp | None] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    given: dict[str, Stamp] = field(default_factory=dict)
    folders: dict[str, dict[str, Stamp | None]] = field(default_factory=dict)

    def add(self, other: Reads) -> None:
        """Add what one process reported; what was seen first stays."""
        self.files = {**other.files, **self.files}
        self.written |= other.written
        self.made |= other.made
        self.listed = {**other.listed, **self.listed}
        self.modules = {**other.modules, **self.modules}
        self.declared |= other.declared
        self.given = {**other.given, **self.given}
        self.folders = {**other.folders, **self.folders}


def tell(spec: RunSpec, **event: object) -> None:
    """Add an event to what the supervisor of a run will read. One write, so that lines never mix."""
    line = json.dumps(event, ensure_ascii=True, default=sorted) + "\n"
    handle = os.open(spec.events, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def tell_reads(spec: RunSpec, reads: Reads) -> None:
    """Tell the supervisor of a run what was read; where it cannot be told any more, the supervisor knows."""
    with suppress(FileNotFoundError):
        tell(spec, event="read", reads=vars(reads))
