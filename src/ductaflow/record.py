"""What a run read and wrote, as its result keeps it.

    begun = begin(spec)                          the stamps of the files that the config names
    ... the run ...
    undeclared(spec, told.reads, children)       what it read of other instances without saying so
    record = make_record(spec, begun, told.reads, outputs, children)

In `result.json` that is `inputs` and `outputs`, each a list of `{"path", "size", "mtime", "hash"}` (the time
in ns; no hash where size and time are what counts), and `lineage`:

    source, code      the flow's file and the hash of its code
    config, secrets   hash of the config without its secrets; a salted hash of those
    options           kernel and allow_exit, which change what a run does or is called
    modules           {path: hash} of the project's own modules that it imported
    folders           listings: {"path", "deep", "whole", "count", "hash", "files" if they are few}
    absent, written   files that it tried to open and that were not there; files that it wrote elsewhere
    changed           what was changed by others while it ran: it has to run again

Paths below the project are relative to it, with `/`; those of outputs are relative to the run folder.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ductaflow.config import ROOT_KEY, masked, secrets_in
from ductaflow.folder import has_unfinished_run
from ductaflow.hashes import Hashes, Stamp, hashes_of, stamp_of
from ductaflow.layout import REPORT_HTML, REPORT_JSON, RESULT, RunFolder
from ductaflow.result import Result
from ductaflow.spec import RunSpec
from ductaflow.verdict import Reads
from ductaflow.watch import is_hidden, stamp_of_file

#: So many files of a folder are listed; a listing of a whole disk would never end.
LISTED_MOST = 100_000
#: Of so many files a record keeps the single hashes, to name the one that has changed.
_NAMED_FILES = 200
_PATTERN = re.compile(r"[*?\[]")
_LONGEST = 4096
_LOG_ENDINGS = ("_cli_execution_output.txt", "_execution_output.txt")
_UNDECLARED_SHOWN = 10
#: Guessing a secret from its hash shall take long.
_ROUNDS = 2_000


@dataclass(frozen=True, slots=True)
class Site:
    """Where the files of a project are, and how they are compared.

    Attributes:
        root: the project root, absolute.
        hashes: the kept hashes of its tree of runs.
        by_stat: globs of files that count by size and time of modification.
    """

    root: str
    hashes: Hashes
    by_stat: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: RunSpec, by_stat: Sequence[str] = ()) -> Site:
        hashes = hashes_of(spec.runs_root, spec.project_root)
        return cls(spec.project_root, hashes, tuple(dict.fromkeys((*spec.by_stat, *by_stat))))

    def relative(self, path: str) -> str:
        """A path as records have it."""
        prefix = self.root.rstrip(os.sep) + os.sep
        return (path[len(prefix) :] if path.startswith(prefix) else path).replace(os.sep, "/")

    def absolute(self, name: str) -> str:
        """The path that a record means."""
        return os.path.join(self.root, name)

    def counts_by_stat(self, name: str) -> bool:
        """Whether a file counts by size and time, by its path as records have it."""
        return bool(self.by_stat) and _any_of(self.by_stat).match(name) is not None

    def entry(self, path: str, name: str | None = None) -> dict[str, Any]:
        """A file as records have it.

        Raises:
            OSError: it cannot be read, or is no regular file.
        """
        status = os.stat(path)
        inside = self.relative(path)
        found = None if self.counts_by_stat(inside) else self.hashes.of(path, status=status)
        return {
            "path": inside if name is None else name,
            "size": status.st_size,
            "mtime": status.st_mtime_ns,
            "hash": found,
        }


@functools.lru_cache(maxsize=16)
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(text) for text in globs))


# --- what a config names -----------------------------------------------------------------------------------


def named_in(spec: RunSpec) -> dict[str, os.stat_result]:
    """The existing files and folders that the strings of a config name, by their absolute paths.

    A path is looked up from the project root, then from the run folder. The run folder itself, the runs
    folder, the project root and what lies above it are none.
    """
    found: dict[str, os.stat_result] = {}
    own, root = spec.folder + os.sep, spec.project_root.rstrip(os.sep) + os.sep
    for text in strings_of(spec.config):
        for path, status in _found_by(text, spec):
            below = path + os.sep
            if not (below.startswith(own) or root.startswith(below) or path == spec.runs_root):
                found[path] = status
    return found


def _found_by(text: str, spec: RunSpec) -> Iterator[tuple[str, os.stat_result]]:
    """What a string of a config names: one path, or as many as match a glob."""
    if len(text) > _LONGEST or "\0" in text or not text.strip("./\\ "):
        return
    for base in (spec.project_root, spec.folder):
        path = os.path.normpath(os.path.join(base, text))
        with suppress(OSError, ValueError):
            yield path, os.stat(path)
            return
    if "/" in text and _PATTERN.search(text):
        for path in glob.iglob(os.path.normpath(os.path.join(spec.project_root, text))):
            with suppress(OSError):
                yield path, os.stat(path)


def strings_of(config: Mapping[str, Any]) -> Iterator[str]:
    """Every string of a config, at any depth, but `_project_root`."""
    pending: list[Any] = [value for key, value in config.items() if key != ROOT_KEY]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def config_fingerprint(spec: RunSpec) -> str:
    """The hash of a config. Its secrets, the order of keys and the place of the project do not matter."""
    config = {key: value for key, value in spec.config.items() if key != ROOT_KEY}
    text = json.dumps(masked(config), sort_keys=True, separators=(",", ":"))
    if len(spec.project_root) > 1:
        text = text.replace(json.dumps(Path(spec.project_root).as_posix())[1:-1], "<project>")
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def hash_of_secrets(config: Mapping[str, Any], salt: str) -> str | None:
    """A hash of the secrets of a config, which tells nobody what they are; None if there are none."""
    secrets = secrets_in(config)
    if not secrets:
        return None
    text = json.dumps(secrets, sort_keys=True).encode("ascii")
    return hashlib.pbkdf2_hmac("sha256", text, bytes.fromhex(salt), _ROUNDS).hex()


# --- folders -----------------------------------------------------------------------------------------------


def listing(folder: str, *, deep: bool, own: str) -> list[str]:
    """The names in a folder, sorted, at most 100,000; those of folders end in `/`.

    What is hidden is left out, and what ductaflow itself writes into run folders.

    Args:
        folder: the folder, absolute.
        deep: the files below it at any depth, and not only what lies in it.
        own: the folder of the run that reads it, which is left out.

    Raises:
        OSError: the folder cannot be read.
    """
    names: list[str] = []
    pending = [""]
    while pending and len(names) < LISTED_MOST:
        below: list[str] = []
        for prefix in pending:
            for name, is_folder in _entries(os.path.join(folder, prefix), must_be_there=not prefix):
                if is_folder and os.path.join(folder, prefix + name) == own:
                    continue
                if is_folder and deep:
                    below.append(f"{prefix}{name}/")
                else:
                    names.append(f"{prefix}{name}/" if is_folder else prefix + name)
        pending = sorted(below)
    return sorted(names[:LISTED_MOST])


def _entries(folder: str, *, must_be_there: bool) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            found = [
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not is_hidden(entry.name) and entry.name[0] != "." and entry.name != "__pycache__"
            ]
    except OSError:
        if must_be_there:
            raise
        return []
    found.sort()
    ours = _names_of_ours([name for name, _ in found])
    return [(name, is_folder) for name, is_folder in found if name not in ours]


def _names_of_ours(names: Iterable[str]) -> set[str]:
    """Those of the names in a folder that ductaflow writes there."""
    ours = {RESULT, REPORT_HTML, REPORT_JSON}
    for name in names:
        for ending in _LOG_ENDINGS:
            if name.endswith(ending):
                run = RunFolder(Path(), name.removesuffix(ending))
                ours.update(path.name for path in run.own_files)
    return ours


def is_ours(path: str) -> bool:
    """Whether ductaflow itself has written a file: log, result, notebook and config of a run, the report."""
    folder, name = os.path.split(path)
    if name in (RESULT, REPORT_HTML, REPORT_JSON) or name.endswith(_LOG_ENDINGS):
        return True
    for ending in ("_config.json", ".ipynb", ".html"):
        if name.endswith(ending):
            base = os.path.join(folder, name.removesuffix(ending))
            return any(os.path.exists(base + log) for log in _LOG_ENDINGS)
    return False


def folder_entry(site: Site, path: str, *, deep: bool, whole: bool, own: str) -> dict[str, Any]:
    """A folder as records have it.

    Args:
        deep: with all below it.
        whole: with the contents of its files, and not only their names.
        own: the folder of the run that reads it.

    Raises:
        OSError: the folder cannot be read.
    """
    names = listing(path, deep=deep, own=own)
    files = {name: _content(site, os.path.join(path, name)) if whole else "" for name in names}
    digest = hashlib.sha256(json.dumps(files).encode("ascii")).hexdigest()
    found = {"path": site.relative(path), "deep": deep, "whole": whole, "count": len(names), "hash": digest}
    return {**found, "files": files} if len(files) <= _NAMED_FILES else found


def _content(site: Site, path: str) -> str:
    try:
        entry = site.entry(path)
    except OSError:
        # A pipe, a broken symlink, a file of somebody else: that it is there is all that can be said of it.
        return "unreadable"
    return entry["hash"] or f"{entry['size']} {entry['mtime']}"


# --- begin and end -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beginning:
    """What lay there when the run began: stamps of the source and of named files, names in named folders."""

    source: Stamp | None
    files: dict[str, Stamp]
    folders: dict[str, list[str]]


def begin(spec: RunSpec) -> Beginning:
    """Note what the run may read, before it starts."""
    files, folders = {}, {}
    for path, status in named_in(spec).items():
        if stat.S_ISREG(status.st_mode):
            files[path] = stamp_of(status)
        elif stat.S_ISDIR(status.st_mode):
            folders[path] = _listed(path, spec)
    return Beginning(stamp_of_file(spec.source), files, folders)


def _listed(folder: str, spec: RunSpec) -> list[str]:
    try:
        return listing(folder, deep=True, own=spec.folder)
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Record:
    """What a result keeps of what a run read and wrote."""

    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    lineage: dict[str, Any]


def make_record(
    spec: RunSpec,
    begun: Beginning,
    reads: Reads,
    outputs: Iterable[Mapping[str, Any]],
    children: Iterable[str],
) -> Record:
    """The record of a run that has ended well.

    Args:
        begun: what lay there at its beginning.
        reads: what it was seen to read.
        outputs: what it wrote into its folder, as `{"path", ...}`.
        children: run folders of a build's flows, relative to its own.

    Raises:
        StoppedError: see `Hashes.stopped`.
    """
    maker = _Maker(spec, begun, reads, children)
    return maker.make([str(output["path"]) for output in outputs])


class _Maker:
    def __init__(self, spec: RunSpec, begun: Beginning, reads: Reads, children: Iterable[str]) -> None:
        self.spec, self.begun, self.reads = spec, begun, reads
        self.site = Site.of(spec)
        self.changed: list[str] = []
        self._own = spec.folder + os.sep
        paths = (os.path.normpath(os.path.join(spec.folder, child)) for child in children)
        self._children = tuple(path + os.sep for path in paths)

    def make(self, outputs: Sequence[str]) -> Record:
        folders = self._folders()
        inputs, absent = self._inputs()
        written = [path for path in self.reads.written if not path.startswith(self._own)]
        lineage = {
            **self._code(),
            **self._config(),
            "modules": self._modules(),
            "folders": folders,
            "absent": absent,
            "written": sorted(map(self.site.relative, written)),
            "changed": sorted(set(self.changed)),
        }
        folder = self.spec.folder
        written_here = [self._output(os.path.join(folder, name), name) for name in outputs]
        self.site.hashes.flush()
        return Record(tuple(inputs), tuple(written_here), lineage)

    def _output(self, path: str, name: str) -> dict[str, Any]:
        try:
            return self.site.entry(path, name)
        except OSError:
            # The flow has taken the right to read it away: then size and time are what is known of it.
            status = os.stat(path)
            return {"path": name, "size": status.st_size, "mtime": status.st_mtime_ns, "hash": None}

    def _code(self) -> dict[str, Any]:
        source = self.spec.source
        name = self.site.relative(source)
        if self.begun.source is None or stamp_of_file(source) != self.begun.source:
            self.changed.append(name)
            return {"source": name, "code": None}
        return {"source": name, "code": self.site.hashes.of(source, "code")}

    def _config(self) -> dict[str, Any]:
        salt = os.urandom(16).hex()
        secrets = hash_of_secrets(self.spec.config, salt)
        return {
            "config": config_fingerprint(self.spec),
            "secrets": {"salt": salt, "hash": secrets} if secrets else None,
            "options": options_of(self.spec),
        }

    def _modules(self) -> dict[str, str]:
        found = {}
        for path, stamp in sorted(self.reads.modules.items()):
            name = self.site.relative(path)
            now = stamp_of_file(path)
            if now is None or (stamp is not None and tuple(stamp) != now and path not in self.reads.written):
                self.changed.append(name)
            if now is not None:
                found[name] = self.site.hashes.of(path, "module")
        return found

    def _inputs(self) -> tuple[list[dict[str, Any]], list[str]]:
        """What was read, and what was looked for in vain."""
        seen: dict[str, Any] = {**self.reads.files, **self.begun.files}
        declared = [path for path in self.reads.declared if not os.path.isdir(path)]
        seen = {**{path: None for path in declared if not os.path.exists(path)}, **seen}
        modules, written = self.reads.modules, self.reads.written
        inputs, absent = [], []
        for path, stamp in sorted(seen.items()):
            if path in modules or self._is_own(path) or is_ours(path):
                continue
            now = stamp_of_file(path)
            if now is None and (stamp is None or path in written):
                absent.append(self.site.relative(path))
            elif now is None or (path not in written and (stamp is None or tuple(stamp) != now)):
                self.changed.append(self.site.relative(path))
            if now is not None:
                inputs += self._entry(path)
        return inputs, absent

    def _is_own(self, path: str) -> bool:
        """Whether a file is of the run itself; what a build's flows wrote is theirs."""
        return path.startswith(self._own) and not (self._children and path.startswith(self._children))

    def _entry(self, path: str) -> list[dict[str, Any]]:
        try:
            return [self.site.entry(path)]
        except OSError:
            # Gone since, or readable for the run alone.
            self.changed.append(self.site.relative(path))
            return []

    def _folders(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        declared = {path for path in self.reads.declared if os.path.isdir(path)}
        for path in sorted(declared | set(self.begun.folders) | self.reads.listed):
            if self._is_own(path + os.sep):
                continue
            deep = path in declared or path in self.begun.folders
            whole = path in declared or (deep and not self._is_opened_below(path))
            try:
                found[path] = folder_entry(self.site, path, deep=deep, whole=whole, own=self.spec.folder)
            except OSError:
                self.changed.append(self.site.relative(path))
        for path, names in self.begun.folders.items():
            added = set(_listed(path, self.spec)).symmetric_difference(names)
            if any(os.path.join(path, name) not in self.reads.written for name in added):
                self.changed.append(self.site.relative(path))
        return list(found.values())

    def _is_opened_below(self, folder: str) -> bool:
        """Whether Python opened a file of a folder: then what counts there is what it opened.

        Of a folder of which it opened none, a library may have read any in its own way.
        """
        return any(path.startswith(folder + os.sep) and not is_ours(path) for path in self.reads.files)


def options_of(spec: RunSpec) -> dict[str, Any]:
    """What `_run` says that changes what a run does, or what is made of it."""
    kernel = (spec.kernel or "") if spec.engine == "kernel" else None
    return {"kernel": kernel, "allow_exit": spec.allow_exit}


# --- undeclared --------------------------------------------------------------------------------------------


def undeclared(spec: RunSpec, reads: Reads, children: Sequence[Result]) -> list[str]:
    """Warning lines of reads from other instances that nothing in the config names.

    Order cannot be promised for them. A flow inside a build says nothing: its build does, whose place in the
    order it is.

    Args:
        reads: what the run was seen to read.
        children: results of a build's flows.
    """
    if _is_nested(spec):
        return []
    site = Site.of(spec)
    read = {*reads.files, *reads.declared}
    read.update(site.absolute(entry["path"]) for child in children for entry in child.inputs)
    named = _Named(spec)
    # What a build has run itself is there.
    folders = [spec.folder, *(os.path.normpath(child.folder) for child in children if child.folder)]
    own = {_place(folder, spec) for folder in folders}
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(read):
        place = _place(path, spec)
        if place is None or place in own or is_ours(path) or not os.path.isfile(path):
            continue
        if not named.has(place) and os.path.exists(os.path.join(spec.runs_root, *place, RESULT)):
            found.setdefault(place, []).append(site.relative(path))
    lines = [
        f"⚠ undeclared input: {paths[0]}{_and_more(len(paths) - 1)} is read, and no key of the config "
        "names it, so it may be read before it is made"
        for paths in found.values()
    ]
    return lines[:_UNDECLARED_SHOWN]


def _and_more(count: int) -> str:
    return f" (and {count} more there)" if count else ""


def _place(path: str, spec: RunSpec) -> tuple[str, str] | None:
    """Flow and instance of a path below the runs folder."""
    prefix = spec.runs_root + os.sep
    parts = path[len(prefix) :].split(os.sep) if path.startswith(prefix) else []
    return (parts[0], parts[1]) if len(parts) > 1 and not parts[0].startswith(".") else None


def _is_nested(spec: RunSpec) -> bool:
    """Whether a run is one of a build's, which goes on meanwhile."""
    runs_root, folder = Path(spec.runs_root), Path(spec.folder)
    if not folder.is_relative_to(runs_root):
        return False
    between = [
        parent for parent in folder.parents if parent != runs_root and parent.is_relative_to(runs_root)
    ]
    return any(has_unfinished_run(runs_root, parent) for parent in between)


class _Named:
    """The instances that a config refers to, or that `_run.needs` names."""

    def __init__(self, spec: RunSpec) -> None:
        needs = [(flow, name) for flow, _, name in (need.partition("/") for need in spec.needs)]
        self._patterns = list(needs)
        for text in strings_of(spec.config):
            path = os.path.normpath(os.path.join(spec.project_root, text)) if "\0" not in text else ""
            if path.startswith(spec.runs_root + os.sep):
                flow, _, rest = path[len(spec.runs_root) + 1 :].partition(os.sep)
                self._patterns.append((flow, rest.partition(os.sep)[0] or "*"))

    def has(self, place: tuple[str, str]) -> bool:
        return any(
            fnmatch.fnmatchcase(place[0], flow) and fnmatch.fnmatchcase(place[1], name)
            for flow, name in self._patterns
        )
