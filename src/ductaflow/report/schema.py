"""The shape of the JSON twin and of a line of the history, as types for the decoder and for mypy.

Long texts are cut in the middle, and say so. `common.decode` reads these from files, where anyone can write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

from ductaflow.common.errors import SourceLine
from ductaflow.common.paths import Kind
from ductaflow.comparison.difference import Format, Scalar
from ductaflow.store.result import FileEntry, Metric, Status

SCHEMA = 1
#: Number of instances by status; every status is there, also with 0.
Counts = dict[str, int]
#: What came of an instance in the sessions of the history, the oldest first: a letter for each (of its
#: status, `.` for no result, `?` where the line does not tell), and the seconds of a run.
PastTwin = list[str | list[float | None]]
#: A config: key paths and values as text.
Flat = dict[str, str]


class LogParts(TypedDict):
    """What the twin has of a log.

    `log_head` is empty where `log_tail` is the whole log. `log_tail_line` is the number of its first line,
    None if that was not counted. `log_middle` are the places between the ends; `log_size` is in bytes.
    """

    log_head: str
    log_tail: str
    log_tail_line: int | None
    log_middle: list[SourceLine]
    log_size: int


class ConfigParts(TypedDict):
    """The configs of a run; None where there is none.

    `base_config` is the base under an instance, `good_config` the config of the last good run before,
    which ended at `good_finished`. `config_left_out` is the number of keys that are not shown.
    """

    config: Flat | None
    config_left_out: int
    base_config: Flat | None
    good_config: Flat | None
    good_finished: str | None


class SinceGood(TypedDict):
    """What has changed since the last good run, which ended at `finished`; what its record does not say."""

    finished: str | None
    changes: list[str]
    unknown: list[str]


class Figure(TypedDict):
    """A figure in base64: the number of its code cell, its MIME type, what the notebook has beside it."""

    cell: int
    type: str
    data: str
    text: str


class Interactive(TypedDict):
    """An interactive figure: the number of its code cell, the library that draws it, and where it is.

    `anchor` is that of its cell in the page of the notebook, empty if it is not there; `picture`: one of
    `figures` shows it.
    """

    cell: int
    library: str
    anchor: str
    picture: bool


class FigureParts(TypedDict):
    """Figures of a run, and how many more it has. A notebook that is too large is not searched."""

    figures: list[Figure]
    figures_left_out: int
    # twins of older versions lack these
    interactive: NotRequired[list[Interactive]]
    interactive_left_out: NotRequired[int]
    notebook_too_large: NotRequired[bool]


class FailureTwin(TypedDict):
    """Where and how a run failed; see `Failure`."""

    file: str | None
    line: int | None
    cell: int | None
    ename: str
    evalue: str
    traceback: str
    source: list[SourceLine]


class CellsTwin(TypedDict):
    """How many code cells ran, of how many."""

    run: int
    total: int


class ValueTwin(TypedDict):
    """A metric or a value in a file that is not as expected; see `ValueDifference`."""

    name: str
    kind: Literal["other", "gone", "added", "bound"]
    old: Scalar
    new: Scalar
    change: float | None
    limit: str
    column: str


class ColumnTwin(TypedDict):
    """How many values differ in a column; see `ColumnDifference`."""

    column: str
    differing: int
    change: float | None


class FileTwin(TypedDict):
    """A file that is not as expected; see `FileDifference`."""

    file: str
    format: Format
    fault: str
    unit: str
    compared: int
    differing: int
    notes: list[str]
    columns: list[ColumnTwin]
    worst: list[ValueTwin]
    only_added: bool
    is_settled: bool


class DifferenceTwin(TypedDict):
    """A metric or a file that is not as expected: one of the two is given."""

    metric: ValueTwin | None
    file: FileTwin | None


class JudgedTwin(TypedDict):
    """What came of comparing the results of a run with those expected; see `Judged`.

    `metrics` and `files` are how many were judged, `differing` how many of those are not as expected,
    `additional` how many other metrics there are. `differences` are the first of them. `is_acceptable`:
    something differs that may be accepted.
    """

    metrics: int
    files: int
    additional: int
    differing: int
    summary: str
    message: str
    differences: list[DifferenceTwin]
    differences_left_out: int
    is_acceptable: bool


class ResultTwin(TypedDict):
    """Every field of `result.json` but `lineage`.

    `metrics_before` are the metrics of the last good run before that this run has otherwise, or not at all.
    `reasons` are why it ran, each with in how many sessions in a row it was one.
    """

    schema: int
    flow: str
    instance: str
    kind: Kind
    status: Status
    cause: str | None
    message: str
    session_id: str
    run_id: str
    started: str | None
    finished: str | None
    seconds: float | None
    warnings: list[SourceLine]
    warning_count: int
    failure: FailureTwin | None
    exit_code: int | None
    signal: str | None
    cells: CellsTwin
    config_hash: str | None
    inputs: list[FileEntry]
    inputs_left_out: int
    outputs: list[FileEntry]
    outputs_left_out: int
    children: list[str]
    peak_memory: int | None
    environment: dict[str, object]
    # twins of older versions lack these
    run_status: NotRequired[Status | None]
    metrics: NotRequired[dict[str, Metric]]
    metrics_left_out: NotRequired[int]
    metrics_before: NotRequired[dict[str, Metric]]
    judged: NotRequired[JudgedTwin | None]
    reasons: NotRequired[dict[str, int]]


class BundledTwin(TypedDict):
    """Which of the files of an instance a bundle has beside the page.

    `why` it has none at all; else why it lacks some, by the name of the link and by the path of the output.
    `held` are links to outputs, by path. The `links` of the instance are those that work.
    """

    why: str
    links: dict[str, str]
    outputs: dict[str, str]
    held: dict[str, str]


class InstanceTwin(ResultTwin, LogParts, ConfigParts, FigureParts):
    """One instance.

    An instance that is `unchanged` has everything else from its last run, and as `former_status` the status
    of that run. `earlier`: this session did not touch it. `orphan`: no instance of that id is stored. `fails`
    is why its test fails although its run is good, such as a warning that the baseline does not know.
    `folder` and `links` are relative to the page. `target` is how a command names a flow of a build: by its
    run folder, as seen from the project.
    """

    id: str
    nodeid: str | None
    earlier: bool
    former_status: Status | None
    folder: str | None
    parameters: dict[str, object]
    tags: list[str]
    upstreams: list[str]
    worker: str | None
    rerun: str
    debug: str | None
    links: dict[str, str]
    flows: list[InstanceTwin]
    # twins of older versions lack these
    since_good: NotRequired[SinceGood | None]
    target: NotRequired[str]
    orphan: NotRequired[bool]
    fails: NotRequired[str]
    # only a twin in a bundle has it
    bundle: NotRequired[BundledTwin]
    past: NotRequired[PastTwin]


class Cause(TypedDict):
    """Failures of one cause.

    `parameters` is a smallest set that all these instances have and no good instance of the same flows,
    empty if there is none or if too few instances would speak for it; `alternatives` are other sets of that
    size that are as good; `blocks` is the number of instances that wait for these.
    """

    cause: str
    place: str
    title: str
    instances: list[str]
    parameters: list[list[str]]
    alternatives: list[list[list[str]]]
    alternatives_left_out: int
    blocks: int


class SessionLine(TypedDict):
    """A line of the history.

    `red` are the instances that have an error as far as is known after the session: its own, and those that
    had one before and have no result of this session. The latter are named in `carried` too. So the last
    line alone tells whether an error is new, whatever that session ran.
    `touched` is what it made of each instance; see `past`.
    """

    schema: NotRequired[int]
    session_id: str
    started: str
    finished: str
    seconds: float
    summary: Counts
    red: list[str]
    # lines of older versions lack these
    red_left_out: NotRequired[int]
    carried: NotRequired[list[str]]
    commit: NotRequired[str | None]
    # only in the file
    touched: NotRequired[str]


class NumbersLine(TypedDict):
    """The numbers that the runs of a session found, by instance and metric."""

    session_id: str
    finished: str
    numbers: dict[str, dict[str, float]]


class AtWork(TypedDict):
    """An instance that runs, and since when, as UTC in ISO 8601."""

    id: str
    since: str


class Alive(TypedDict):
    """The last sign of life of a session that has not ended, or was killed.

    The report is not written before `next` seconds have passed, and again `within` some more if the session
    lives. `running` is what was at work then, in the order in which it began, and `left` how many seconds the
    session may still take; both only as far as they are known. `planned` and `undone` are what `ductaflow
    report` found of one that was killed.
    """

    written: str
    next: float
    within: int
    pid: int
    host: str
    running: NotRequired[Sequence[AtWork]]
    running_left_out: NotRequired[int]
    left: NotRequired[float | None]
    planned: NotRequired[int]
    undone: NotRequired[list[str]]


class ShardTwin(TypedDict):
    """Which share of how many a session took.

    `not_empty` are the shares with instances of this project, `selection` is the same in all shards of one
    selection alone; both are None until they are known.
    """

    number: int
    of: int
    not_empty: list[int] | None
    selection: str | None


class Origin(TypedDict, total=False):
    """Where a session comes from; None for what is not known.

    `commit` is that of the project, and `dirty` whether files differed from it when the session began;
    `command` has its secrets masked; `ci_run` is the address of the run of CI. Twins of older versions have
    none of these.
    """

    commit: str | None
    dirty: bool | None
    branch: str | None
    command: str | None
    host: str | None
    ci_run: str | None


class Head(Origin):
    """The twin without its instances.

    `summary` counts what this session touched. Instances that are only shown with the result of an earlier
    session are counted apart: those that are stored in `earlier_summary`, the others in `orphan_summary`; the
    three together count each instance once. Flows of a build are not counted: their build is. `failing` is
    the number of instances whose test fails although their run is good. `finished` is None as long as the
    session runs. `notes` are sentences about the report as a whole. `new` are the errors that the last
    session with a result of them had not.
    """

    schema: int
    session_id: str
    started: str
    finished: str | None
    project: str | None
    alive: Alive | None
    shard: ShardTwin | None
    notes: list[str]
    summary: Counts
    earlier_summary: Counts
    orphan_summary: NotRequired[Counts]
    failing: NotRequired[int]
    new: list[str]
    causes: list[Cause]
    history: list[SessionLine]


class Twin(Head):
    """The whole report."""

    instances: list[InstanceTwin]
