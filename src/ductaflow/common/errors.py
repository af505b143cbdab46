"""Everything that ductaflow itself reports as wrong: one root class, a cause and a next step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict


class DuctaflowError(Exception):
    """Root of all errors that ductaflow raises.

    Args:
        message: what is wrong and where (file, line and column, or key path).
        hint: what to do next; shown on a line of its own.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def bare(self) -> DuctaflowError:
        """The same error without a traceback, which would keep everything alive that was read."""
        return type(self)(self.message, hint=self.hint)


def of_system(exc: OSError, file: str | os.PathLike[str], *, hint: str) -> DuctaflowError:
    """What the system says of a file that cannot be used; of one that is not there, of the folder around it.

    Args:
        exc: that of the system.
        file: what was to be used.
        hint: what to do next, where nothing has to be moved away.
    """
    path = Path(os.path.abspath(file))
    place = next(one for one in (path, *path.parents) if os.path.lexists(one))
    if isinstance(exc, NotADirectoryError):
        return DuctaflowError(f"{place} is a file, where a folder is meant to be", hint="Move it away.")
    return DuctaflowError(f"{place}: cannot be used: {exc.strerror or exc}", hint=hint)


class ConfigError(DuctaflowError):
    """A config, a scenario table or a value given from Python is not acceptable."""


class InstanceError(DuctaflowError):
    """An instance cannot be run: bad name, no source, given twice, part of a cycle."""


class RunFolderError(DuctaflowError):
    """A run folder cannot be used: locked by another run, outside the tree, or not writable."""


class FlowWarning(UserWarning):
    """One warning line in the log of a run, as pytest shows it."""


class SourceLine(TypedDict):
    """A line of a flow's source, with its number from 1."""

    line: int
    text: str


def source_lines(source: Iterable[SourceLine], here: int | None) -> Iterator[str]:
    """Yield lines of a source as people read them, with a mark at the line `here`."""
    for entry in source:
        yield f"{'>' if entry['line'] == here else ' '} {entry['line']:>5}  {entry['text']}".rstrip()


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and how a run failed.

    Attributes:
        file: the flow's file that was executing, relative to the project where it lies in it.
        line: line in that file, from 1.
        cell: number of the code cell, from 1.
        ename: class of the exception; evalue: its text; traceback: the flow's own, without ANSI codes.
        source: the lines around `line`.
    """

    file: str | None
    line: int | None
    cell: int | None
    ename: str
    evalue: str
    traceback: str
    source: tuple[SourceLine, ...] = ()
