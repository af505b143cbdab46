"""Which run a string of a config names: the one answer for the graph, records, variants and flows.

    tree = RunsTree("/project", "/project/runs")
    tree.named_by("runs/prep/A/clean.csv")     RunReference("prep", "A", "clean.csv")
    tree.named_by("./runs/prep/*/x.csv")       RunReference("prep", "*", "x.csv")
    tree.named_by("runs/prep")                 RunReference("prep", "*", "")
    tree.named_by("inputs/runs.csv")           None
    tree.references("a.csv, zip://runs/prep/A/x.zip!y.csv")    the same of each path in a string

A string is a path from the project root, or an absolute one. It is compared part by part, after `.`, `..` and
doubled slashes are resolved, and it may lead there through symlinks, whatever they are called. On Windows a
backslash is a slash; there and on macOS neither case nor Unicode form counts, as in their file systems.
A template that a flow fills in itself (`runs/prep/{year}/x.csv`) is a name that nothing has.
"""

from __future__ import annotations

import fnmatch
import functools
import ntpath
import os
import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import NamedTuple

from ductaflow.project.mentions import inside, items, strings_of
from ductaflow.project.names import spelling
from ductaflow.project.settings import Project

_PATTERN = re.compile(r"[*?\[]")
#: Systems have no longer paths.
_LONGEST = 4096


def is_pattern(text: str) -> bool:
    """Whether a text has `*`, `?` or `[`, and so may name several files."""
    return _PATTERN.search(text) is not None


class RunReference(NamedTuple):
    """What a path below the runs folder names.

    Attributes:
        flow: name of the flow or build, or a pattern.
        instance: name of the instance, or a pattern; `*` where the path ends with the flow.
        rest: the path inside the run folder, `/` between parts; empty for the run folder itself.
    """

    flow: str
    instance: str
    rest: str = ""

    @property
    def id(self) -> str:
        return f"{self.flow}/{self.instance}"


class RunsTree:
    """The runs folder of a project, and what paths name in it.

    Args:
        root: the project root, absolute.
        runs_dir: the folder of all runs, absolute.
        system: `os.path`, or the path module of another system.

    Attributes:
        name: the runs folder as seen from the project root.
        fold: turns names that are one name to the file system into one text.
    """

    def __init__(
        self, root: str | os.PathLike[str], runs_dir: str | os.PathLike[str], *, system: ModuleType = os.path
    ) -> None:
        self._system = system
        self._root = os.fspath(root)
        folder = system.normpath(system.join(self._root, os.fspath(runs_dir)))
        is_other_drive = system.splitdrive(folder)[0] != system.splitdrive(self._root)[0]
        relative = folder if is_other_drive else system.relpath(folder, self._root)
        self._folder, self.name = (path.replace(system.sep, "/") for path in (folder, relative))
        self.fold = spelling if system is ntpath or sys.platform == "darwin" else str
        real_root = system.realpath(self._root)
        places = (folder, system.realpath(folder), system.join(real_root, relative))
        self._places = tuple(dict.fromkeys(tuple(map(self.fold, self._parts(place))) for place in places))
        self._last_parts = {place[-1] for place in self._places if place}
        self._begin = f"{self.name}/"
        self._links: dict[str, str | None] = {}

    def _parts(self, path: str) -> list[str]:
        path = self._system.normpath(path).replace(self._system.sep, "/")
        return [part for part in path.split("/") if part]

    def below(self, text: str) -> str | None:
        """The part of a path below the runs folder, empty for itself; None if it does not lead there."""
        if "\0" in text or len(text) > _LONGEST:
            return None
        if self.fold is str and text.startswith(self._begin) and "//" not in text and "/." not in text:
            return text[len(self._begin) :].removesuffix("/")  # as most are written: nothing to resolve
        folded = self.fold(text)
        if any(part in folded for part in self._last_parts):
            found = self._inside(self._system.join(self._root, text))
            if found is not None:
                return found
        # By way of links; a session asks of many files of one folder.
        path = text.replace(self._system.sep, "/")
        folder, _, name = path.rpartition("/")
        if name in (".", ".."):
            folder, name = path, ""
        if folder and folder not in self._links:
            self._links[folder] = self._inside(self._system.realpath(self._system.join(self._root, folder)))
        inside = self._links.get(folder)
        return None if inside is None else "/".join(filter(None, (inside, name)))

    def _inside(self, path: str) -> str | None:
        """The part of an absolute path below the runs folder, as it is written."""
        parts = self._parts(path)
        folded = [self.fold(part) for part in parts]
        for place in self._places:
            if tuple(folded[: len(place)]) == place:
                return "/".join(parts[len(place) :])
        return None

    def named_by(self, text: str) -> RunReference | None:
        """The run, or the pattern of runs, that a string names; None if it names none."""
        below = self.below(text)
        if not below:
            return None
        flow, _, rest = below.partition("/")
        if flow == "**":
            return RunReference("*", "*", rest)
        instance, _, rest = rest.partition("/")
        return RunReference(flow, "*" if instance in ("", "**") else instance, rest)

    def references(self, text: str) -> list[tuple[str, RunReference]]:
        """The runs that a string names, each with its path; also those in a list or in a URI."""
        whole, *parts = items(text)
        # The name of a file may have a comma in it.
        is_list = sum("/" in part for part in parts) > 1
        found: dict[RunReference, str] = {}
        for item in parts if is_list else [whole]:
            named = self.named_by(item)
            if named:
                found.setdefault(named, item)
            # A pattern has signs that end a path elsewhere.
            for path in () if named and is_pattern(named.id) else inside(item):
                reference = self.named_by(path)
                if reference and not (named and reference.id == named.id):
                    found.setdefault(reference, path)
        return [(path, reference) for reference, path in found.items()]

    def names(self, reference: RunReference, flow: str, instance: str) -> bool:
        """Whether a reference names an instance, by itself or by a pattern."""
        pairs = ((flow, reference.flow), (instance, reference.instance))
        return all(fnmatch.fnmatchcase(self.fold(name), self.fold(pattern)) for name, pattern in pairs)

    def is_in(self, config: Mapping[str, object]) -> bool:
        """Whether a string anywhere in a config may lead below the runs folder."""
        folded = self.fold(str(config))
        return any(part in folded for part in self._last_parts) or any(
            self.references(text) for _, text in strings_of(config)
        )

    def run_of(self, path: str) -> tuple[str, str] | None:
        """Flow and instance in whose run folder a file lies; None if it lies in none."""
        flow, _, rest = (self.below(path) or "").partition("/")
        instance = rest.partition("/")[0]
        return (flow, instance) if instance and not flow.startswith(".") else None

    def renamed(self, text: str, id: str, name: str) -> str:
        """Return a path into the run folder of `id` with another instance `name`; other text as it is."""
        reference = self.named_by(text)
        if reference is None or self.fold(reference.id) != self.fold(id):
            return text
        place = self._folder if self._system.isabs(text) else self.name
        end = "/" if text.endswith(("/", self._system.sep)) else ""
        return "/".join(filter(None, (place, reference.flow, name, reference.rest))) + end


@functools.lru_cache(maxsize=8)
def runs_tree(project: Project) -> RunsTree:
    """The runs folder of a project."""
    return RunsTree(os.path.abspath(project.root), os.path.abspath(project.runs_dir))
