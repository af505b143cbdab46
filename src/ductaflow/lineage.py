"""What a run read and wrote, and whether any of it has changed since.

The record is part of `result.json`: what was read and written with hashes of the contents, the code of the
flow and of the project's modules that it imported. `changes` holds it against what is there now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ductaflow.errors import DuctaflowError
from ductaflow.spec import RunSpec

ChangeKind = Literal["run", "config", "code", "module", "input", "output", "environment"]


@dataclass(frozen=True, slots=True)
class Change:
    """One reason why an instance has to run.

    Attributes:
        kind: `run` (there is no valid finished run), `config`, `code` (the flow's own), `module` (one of the
            project that it imported), `input`, `output`, `environment` (versions of Python and packages).
        what: key path, file or package that it is about.
        text: one sentence without a full stop: `config horizon: 2030 -> 2040`,
            `inputs/raw.csv has other content`.
    """

    kind: ChangeKind
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What counts as a change.

    Attributes:
        rerun_on: of `config`, `code`, `inputs`, `environment` those that make a run stale. That there is no
            valid run, or that its outputs are not as it left them, always does.
        by_stat: globs of paths relative to the project (absolute ones for what lies elsewhere); the files
            that match are compared by size and time of modification instead of by content.
    """

    rerun_on: frozenset[str] = frozenset(("config", "code", "inputs"))
    by_stat: tuple[str, ...] = ()


DEFAULT = Comparison()


def changes(spec: RunSpec, comparison: Comparison = DEFAULT) -> tuple[Change, ...]:
    """Why a run has to be made; empty if the last one in its folder is still what a new one would be.

    Args:
        spec: the run as it would be made now.
        comparison: what counts.

    Returns:
        The changes: that there is no valid run alone, else config, code, modules, inputs, outputs in this
        order.

    Raises:
        DuctaflowError: the source of the flow cannot be read.
    """
    raise DuctaflowError(f"{spec.folder}: {comparison}")


def differences_of_environment(spec: RunSpec) -> tuple[Change, ...]:
    """What differs in Python and packages between the last run of a folder and this process.

    Slow (it looks up installed packages) the first time in a process.
    """
    raise DuctaflowError(spec.folder)
