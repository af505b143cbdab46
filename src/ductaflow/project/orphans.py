"""Orphans: run folders of nothing that is stored, and what configs read of them.

A folder `runs/<flow>/<instance>` in which something has run is an orphan if no instance of that id is stored:
the instance was renamed or removed, is a variant (`--as`), or a row of a conductor.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ductaflow.common.files import folders_in
from ductaflow.common.paths import RESULT, RunFolder, ran_among
from ductaflow.common.text import listed
from ductaflow.project.references import RunReference, RunsTree, is_pattern, runs_tree
from ductaflow.project.settings import Project

#: How many orphans that one pattern matches are named.
_NAMED = 5
#: What a flow fills in itself: `part-{n}.csv`, `%d.csv`.
TEMPLATE = re.compile(r"\{[^/]*\}|%[^/]*")


class Orphan(NamedTuple):
    """A run folder of nothing that is stored."""

    flow: str
    name: str
    folder: Path

    @property
    def id(self) -> str:
        return f"{self.flow}/{self.name}"

    @property
    def shown(self) -> str:
        return self.id

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(self.folder, self.flow)


class Orphans:
    """The orphans of a project, looked up flow by flow.

    Args:
        project: whose runs folder it is.
        stored: ids of the stored instances.
    """

    def __init__(self, project: Project, stored: Iterable[str]) -> None:
        self._tree: RunsTree = runs_tree(project)
        self._runs_dir = project.runs_dir
        self._stored = frozenset(map(self._tree.fold, stored))
        self.of_flow = functools.cache(self._of_flow)
        self.named_by = functools.cache(self._named_by)

    def __iter__(self) -> Iterator[Orphan]:
        for flow in self._flows:
            yield from self.of_flow(flow)

    @functools.cached_property
    def _flows(self) -> list[str]:
        return _folders(self._runs_dir)

    def _of_flow(self, flow: str) -> tuple[Orphan, ...]:
        parent = self._runs_dir / flow
        names = (name for name in _folders(parent) if self._tree.fold(f"{flow}/{name}") not in self._stored)
        return tuple(Orphan(flow, name, parent / name) for name in names if _has_run(parent / name))

    def _named_by(self, reference: RunReference, text: str) -> list[Orphan]:
        """Return the orphans in which a reference names something that is there.

        Args:
            reference: what a string of a config names.
            text: that string.
        """
        fold = self._tree.fold
        if is_pattern(reference.flow):
            flows = [flow for flow in self._flows if self._tree.names(reference, flow, reference.instance)]
        else:
            flows = [flow for flow in self._flows if fold(flow) == fold(reference.flow)]
        orphans = (one for flow in flows for one in self.of_flow(flow))
        rest = f"**/{reference.rest}" if "**" in text and reference.rest else reference.rest
        return [
            one for one in orphans if self._tree.names(reference, *one[:2]) and _is_there(one.folder, rest)
        ]

    def note(self, reader: str, reference: RunReference, text: str) -> str | None:
        """Return what to say of an instance whose config names orphans by a string; None if it names none.

        Args:
            reader: id of the instance, which itself may be a run of nothing stored.
            reference: what the string names.
            text: the string.
        """
        is_one = not is_pattern(reference.id)
        if is_one and self._tree.fold(reference.id) in self._stored:
            return None  # as most are: nothing to look up
        found = [orphan.id for orphan in self.named_by(reference, text) if orphan.id != reader]
        if not found:
            return None
        shown = "/".join(filter(None, (self._tree.name, reference.flow, reference.instance, reference.rest)))
        if not is_one:
            what = (
                f"and so {listed(found, _NAMED)}, which {'are' if found[1:] else 'is'} not stored (any more)"
            )
        else:
            what = f"whose instance {found[0]} is not stored (any more)"
        return f"{reader} reads {shown}, {what}: store it, or move it away with ductaflow clean"


def lost_expectations(project: Project, stored: Iterable[str]) -> str | None:
    """Return a warning about expected results of nothing that is stored, or at no place for them.

    None if there are none.

    Args:
        project: whose folder of expected results it is.
        stored: ids of the stored instances.
    """
    known = set(stored)
    root = project.expected_dir
    expected = {f"{flow}/{name}" for flow in _folders(root) for name in _folders(root / flow)}
    lost = sorted(expected - known)
    place = project.settings.expected_dir
    if not lost:
        found = [
            *_files(root),
            *(f"{flow}/{name}" for flow in _folders(root) for name in _files(root / flow)),
        ]
        files = sorted(file for file in found if Path(file).stem.upper() != "README")
        what = f"Warning: nothing judges {listed(files, _NAMED)} in {place}"
        return f"{what}: expected files lie in {place}/FLOW/INSTANCE" if files else None
    flow, _, name = lost[0].partition("/")
    import difflib

    free = [id.partition("/")[2] for id in sorted(known - expected) if id.startswith(f"{flow}/")]
    # With one that expects nothing there is no doubt; of several it is the one whose name is alike.
    near = free if len(free) == 1 else difflib.get_close_matches(name, free, n=1)
    folders = [f"{place}/{flow}/{one}" for one in (name, *(near or ["NAME"]))]
    what = f"results are expected of {listed(lost, _NAMED)}, which {'are' if lost[1:] else 'is'} not stored"
    mend = f"If it was renamed: git mv {shlex.join(folders)}; else remove the folder"
    return f"Warning: {what}, so nothing judges them. {mend}"


def _folders(parent: Path) -> list[str]:
    # Of what cannot be read, who reads what lies there gets the error.
    with suppress(OSError):
        return folders_in(parent)
    return []


def _files(parent: Path) -> list[str]:
    with suppress(OSError), os.scandir(parent) as entries:
        return sorted(entry.name for entry in entries if entry.name[0] != "." and os.path.isfile(entry.path))
    return []


def _has_run(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return RESULT in names or bool(ran_among(names))


def _is_there(folder: Path, rest: str) -> bool:
    """Return whether a path, pattern or template in a folder names something that is there."""
    pattern = os.path.join(glob.escape(str(folder)), TEMPLATE.sub("*", rest))
    return next(glob.iglob(pattern, recursive=True), None) is not None
