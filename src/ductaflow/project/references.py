"""Which run a string of a config names: the one answer for the graph, records, variants and flows.

    tree = RunsTree("/project", "/project/runs")
    tree.named_by("runs/prep/A/clean.csv")     RunReference("prep", "A", "clean.csv")
    tree.named_by("./runs/prep/*/x.csv")       RunReference("prep", "*", "x.csv")
    tree.named_by("runs/prep")                 RunReference("prep", "*", "")
    tree.named_by("inputs/runs.csv")           None

A string is a path from the project root, or an absolute one. It is compared part by part, after `.`, `..` and
doubled slashes are resolved. An absolute path may lead there through symlinks, if a folder on it has that
name. On Windows a backslash is a slash; there and on macOS neither case nor Unicode form counts, as in their
file systems. A template that a flow fills in itself (`runs/prep/{year}/x.csv`) is a name that nothing has.
"""

from __future__ import annotations

import fnmatch
import functools
import ntpath
import os
import re
import sys
from types import ModuleType
from typing import NamedTuple

from ductaflow.project.names import spelling
from ductaflow.project.settings import Project

_PATTERN = re.compile(r"[*?\[]")


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
        self._folder_name = self.fold(system.basename(folder))
        self._real = system.realpath(folder)
        real_root = system.realpath(self._root)
        places = (folder, self._real, system.join(real_root, relative))
        self._places = tuple(dict.fromkeys(tuple(map(self.fold, self._parts(place))) for place in places))
        self._begin = f"{self.name}/"
        self._links: dict[str, bool] = {}

    def _parts(self, path: str) -> list[str]:
        path = self._system.normpath(path).replace(self._system.sep, "/")
        return [part for part in path.split("/") if part]

    def below(self, text: str) -> str | None:
        """The part of a path below the runs folder, empty for itself; None if it does not lead there."""
        if self._folder_name not in self.fold(text) or "\0" in text:
            return None
        if self.fold is str and text.startswith(self._begin) and "//" not in text and "/." not in text:
            return text[len(self._begin) :].removesuffix("/")  # as most are written: nothing to resolve
        parts = self._parts(self._system.join(self._root, text))
        folded = [self.fold(part) for part in parts]
        for place in self._places:
            if tuple(folded[: len(place)]) == place:
                return "/".join(parts[len(place) :])
        if self._system.isabs(text):
            for end, part in enumerate(folded, start=1):
                if part == self._folder_name and self._is_link_to_it("/".join(parts[:end])):
                    return "/".join(parts[end:])
        return None

    def _is_link_to_it(self, path: str) -> bool:
        if path not in self._links:
            folder = path if self._system is ntpath else f"/{path}"
            self._links[path] = self._system.realpath(folder) == self._real
        return self._links[path]

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

    def names(self, reference: RunReference, flow: str, instance: str) -> bool:
        """Whether a reference names an instance, by itself or by a pattern."""
        pairs = ((flow, reference.flow), (instance, reference.instance))
        return all(fnmatch.fnmatchcase(self.fold(name), self.fold(pattern)) for name, pattern in pairs)

    def is_in(self, config: object) -> bool:
        """Whether a string anywhere in a config may lead below the runs folder."""
        return self._folder_name in self.fold(str(config))

    def run_of(self, path: str) -> tuple[str, str] | None:
        """Flow and instance in whose run folder a file lies; None if it lies in none."""
        flow, _, rest = (self.below(path) or "").partition("/")
        instance = rest.partition("/")[0]
        return (flow, instance) if instance and not flow.startswith(".") else None

    def renamed(self, text: str, id: str, name: str) -> str:
        """A path into the run folder of `id` as one into that of `name`; any other text as it is."""
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
