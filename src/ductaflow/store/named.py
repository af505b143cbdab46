"""What a config names: the files and folders that its strings lead to, and what `_run.needs` has written.

A file counts whatever it is called. A folder counts if the string looks like a path, by a `/` or by its key
(`data_dir`): a plain word (`"kind": "figures"`) that happens to be called like a folder is a word, unless the
run is seen to read that folder.
"""

from __future__ import annotations

import glob
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.json_tree import KeyPath
from ductaflow.common.paths import is_of_kernel
from ductaflow.project.mentions import PATH_KEYS, inside, items, strings_of
from ductaflow.project.references import is_pattern
from ductaflow.store.companions import companions
from ductaflow.store.result import read_result
from ductaflow.store.spec import RunSpec

#: Paths of one string, and files that one glob matches.
_MOST_ITEMS, _MOST_MATCHES = 1_000, 100_000
_Found = Iterator[tuple[str, os.stat_result]]


class Named(NamedTuple):
    """What a config names, by absolute path.

    Attributes:
        found: existing files and folders.
        words: folders that are called like a plain word in the config.
    """

    found: dict[str, os.stat_result]
    words: frozenset[str]


def named_in(spec: RunSpec) -> Named:
    """Return what the strings of a config name.

    A path is looked up from the project root, then from the run folder. The run folder itself, the runs
    folder, the project root and what lies above it are none. What those have written that `_run.needs` names
    is among them, and the files that belong to a named one.
    """
    found: dict[str, os.stat_result] = {}
    words: set[str] = set()
    own, root = spec.folder + os.sep, spec.project_root.rstrip(os.sep) + os.sep
    for key, text in strings_of(spec.config):
        is_word = not _looks_like_path(key, text)
        for path, status in _found_by(text, spec):
            below = path + os.sep
            is_ours = below.startswith(own) or root.startswith(below) or path == spec.runs_root
            if is_ours or is_of_kernel(below):
                continue
            if is_word and stat.S_ISDIR(status.st_mode):
                words.add(path)
                continue
            found[path] = status
            if stat.S_ISREG(status.st_mode):
                found.update(existing(companions(path)))
    for need in spec.options.needs:
        found.update(existing(outputs_of(os.path.join(spec.runs_root, *need.split("/")), spec.project_root)))
    return Named(found, frozenset(words - found.keys()))


def _looks_like_path(key: KeyPath, text: str) -> bool:
    if "/" in text or os.sep in text:
        return True
    names = [part for part in key if isinstance(part, str)]
    return bool(names) and f"_{names[-1].lower().removesuffix('s')}".endswith(PATH_KEYS)


def _found_by(text: str, spec: RunSpec) -> _Found:
    """Yield what a string of a config names: one path, several, or all that match a glob."""
    if "\0" in text or not text.strip("./\\ "):
        return
    for item in itertools.islice(items(text), _MOST_ITEMS):
        if found := _existing(item, spec):
            yield found
            if item == text:
                return
            continue
        is_glob = is_pattern(item) and os.sep in item
        if is_glob:
            yield from _matching(os.path.join(spec.project_root, item))
        for path in itertools.islice(inside(item), _MOST_ITEMS):
            if os.sep not in path and not os.path.splitext(path)[1]:
                continue
            found = _existing(path, spec)
            # What stands behind the name of a container may be called like a folder of the system: `/data`.
            if found and (stat.S_ISREG(found[1].st_mode) or not (is_glob or os.path.isabs(path))):
                yield found


def _existing(text: str, spec: RunSpec) -> tuple[str, os.stat_result] | None:
    """The file or folder at a path, or the file that the path leads into, such as an archive."""
    for base in (spec.project_root, spec.folder):
        path = os.path.normpath(os.path.join(base, text))
        while True:
            try:
                return path, os.stat(path)
            except NotADirectoryError:
                path = os.path.dirname(path)
            except (OSError, ValueError):
                break
    return None


def _matching(pattern: str) -> _Found:
    paths = glob.iglob(os.path.normpath(pattern), recursive=True)
    return existing(itertools.islice(paths, _MOST_MATCHES))


def existing(paths: Iterable[str]) -> _Found:
    """Yield the files of some paths that are still there, with their status."""
    for path in paths:
        with suppress(OSError):
            yield path, os.stat(path)


def outputs_of(folder: str, root: str) -> Iterator[str]:
    """Yield what the last run in a folder wrote, by its result, with the flows of a build; absolute paths."""
    try:
        result = read_result(Path(folder))
    except DuctaflowError:
        # It runs again before anything that needs it, or fails.
        return
    if result is None:
        return
    yield from (os.path.join(folder, output["path"]) for output in result.outputs)
    if result.lineage is not None:
        yield from (os.path.join(root, made["path"]) for made in result.lineage["made"])
    for child in result.children:
        yield from outputs_of(os.path.normpath(os.path.join(folder, child)), root)
