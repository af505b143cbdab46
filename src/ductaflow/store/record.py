"""What a run read and wrote, as its result keeps it.

    begun = begin(spec)                          the stamps of the files that the config names
    ... the run ...
    undeclared(spec, told.reads, children)       what it read of other instances without saying so
    record = RecordMaker(spec, begun, told.reads, children, stopped).make(outputs)

In `result.json` that is `inputs` and `outputs`, each a list of `{"path", "size", "mtime", "hash"}` (the time
in ns; no hash where size and time are what counts), and `lineage`:

    format            of the record: one of another version says nothing of what a run would do now
    source, code      the flow's file and the hash of its code
    secrets           a salted hash of the secrets in the config
    options           kernel and allow_exit, which change what a run does or is called; needs
    saved             hash of the saved config beside the result
    modules           {path: hash} of the project's own modules that it imported
    imports           names of the others that its code imports: a new file of the project may hide one
    folders           listings: {"path", "deep", "whole", "count", "hash", "files" if there are few}
    absent, written   files that it tried to open but were not there; files that it wrote elsewhere
    made              written files that are new, in the form of `outputs`
    changed           what others changed while it ran: it has to run again

Paths below the project are relative to it, with `/`; those of outputs are relative to the run folder.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ductaflow.common.engines import engine_named
from ductaflow.common.files import Stamp, is_hidden, shown_names, stamp_of, stamp_of_file
from ductaflow.common.paths import RESULT, ROOT_KEY, is_of_kernel, is_ours, names_of_ours
from ductaflow.project.mentions import strings_of
from ductaflow.project.references import RunReference, RunsTree
from ductaflow.project.secrets import masked, secrets_in
from ductaflow.store.companions import companions
from ductaflow.store.fingerprint import imported_names
from ductaflow.store.folder import has_unfinished_run
from ductaflow.store.hashes import Hashes, HashStores
from ductaflow.store.named import named_in
from ductaflow.store.result import (
    FileEntry,
    FolderEntry,
    Lineage,
    Result,
    RunChoices,
    Secrets,
)
from ductaflow.store.sessions import session_of
from ductaflow.store.spec import Reads, RunSpec

#: The most files of a folder that are listed: a listing of a whole disk would never end. Outside of the
#: project, where a config may name anything, the first limit is lower, and above the second one size and time
#: count instead of content.
LISTED_MOST = 100_000
LISTED_OUTSIDE, HASHED_OUTSIDE = 20_000, 1_000
#: What does not count as content of a folder: version control, our own files, leftovers of editors.
_NOT_MEANT = re.compile(
    r"\.git|\.hg|\.svn|\.ductaflow.*|\.ipynb_checkpoints|\.DS_Store|\._.*|\.~lock\..*|\..*\.sw[a-p]|\.nfs.*|__pycache__"
)
#: After so many sessions in a row the same reason is told.
_RECURS = 3
#: Raised when hashes of code or what a record holds have another meaning: then everything runs once.
FORMAT = 2
#: Up to so many files a record keeps single hashes, to name the file that changed.
_NAMED_FILES = 200
_UNDECLARED_SHOWN = 10
#: Makes it slow to guess a secret from its hash.
_ROUNDS = 2_000


@dataclass(frozen=True, slots=True)
class Site:
    """Where the files of a project are, and how they are compared.

    Attributes:
        root: the project root, absolute.
        hashes: the kept hashes of its tree of runs.
        by_stat: globs of files that count by size and time of modification.
        stopped: asked while files are read; True ends that with StoppedError.
    """

    root: str
    hashes: Hashes
    by_stat: tuple[str, ...] = ()
    stopped: Callable[[], bool] = lambda: False

    @classmethod
    def of(cls, spec: RunSpec) -> Site:
        hashes = session_of(spec.session_id).part(HashStores).of(spec.runs_root, spec.project_root)
        return cls(spec.project_root, hashes, spec.settings.hash)

    def relative(self, path: str) -> str:
        """Return a path in the form of records; the project itself is a dot."""
        if path == self.root:
            return "."
        return path.removeprefix(self.root.rstrip(os.sep) + os.sep).replace(os.sep, "/")

    def absolute(self, name: str) -> str:
        """Return the path that a record means."""
        return self.root if name == "." else os.path.join(self.root, name)

    def counts_by_stat(self, name: str) -> bool:
        """Return whether a file counts by size and time; its path is in the form of records."""
        return bool(self.by_stat) and _any_of(self.by_stat).match(name) is not None

    def entry(self, path: str, name: str | None = None) -> FileEntry:
        """Return a file in the form of records.

        Raises:
            OSError: it cannot be read, or is no regular file.
        """
        status = os.stat(path)
        inside = self.relative(path)
        is_hashed = not self.counts_by_stat(inside)
        found = self.hashes.of(path, status=status, stopped=self.stopped) if is_hashed else None
        return FileEntry(path=name or inside, size=status.st_size, mtime=status.st_mtime_ns, hash=found)


@functools.lru_cache(maxsize=16)
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(text) for text in globs))


# --- the config --------------------------------------------------------------------------------------------


def config_hash(config: Mapping[str, object], root: str) -> str:
    """Return the hash of a config without its secrets, the order of keys and the place of the project."""
    known = {key: value for key, value in config.items() if key != ROOT_KEY}
    text = json.dumps(masked(known), sort_keys=True, separators=(",", ":"))
    if len(root) > 1:
        text = text.replace(_in_json(root), "<project>")
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@functools.lru_cache(maxsize=16)
def _in_json(root: str) -> str:
    return json.dumps(Path(root).as_posix())[1:-1]


def hash_of_secrets(config: Mapping[str, object], salt: str) -> str | None:
    """Return a salted hash of the secrets of a config; None if there are none."""
    secrets = secrets_in(config)
    if not secrets:
        return None
    text = json.dumps(secrets, sort_keys=True).encode("ascii")
    return hashlib.pbkdf2_hmac("sha256", text, bytes.fromhex(salt), _ROUNDS).hex()


# --- folders -----------------------------------------------------------------------------------------------


def listing(folder: str, *, deep: bool, own: str, most: int | None = None) -> list[str]:
    """Return the names in a folder, sorted, at most `most`; names of folders end in `/`.

    Files that ductaflow writes into run folders are left out. Only a deep listing has hidden files, installed
    packages and what is behind symlinks.

    Args:
        deep: list the files at any depth.
        own: the folder of the run that reads it, which is left out.
        most: the most files, and the most folders; by default 100,000.
    """
    names: list[str] = []
    looked, most = 0, most or LISTED_MOST
    # Each with the folders above it, so that we do not follow symlinks in circles.
    pending = [("", frozenset([os.path.realpath(folder)]))]
    while pending and max(len(names), looked) < most:
        below = []
        for prefix, above in pending[: most - looked]:
            looked += 1
            for name, is_folder in _entries(os.path.join(folder, prefix), deep=deep, is_top=not prefix):
                path = os.path.join(folder, prefix + name)
                if is_folder and path == own:
                    continue
                if is_folder and deep and (real := os.path.realpath(path)) not in above:
                    below.append((f"{prefix}{name}/", above | {real}))
                else:
                    names.append(f"{prefix}{name}/" if is_folder else prefix + name)
            if len(names) >= most:
                break
        pending = sorted(below, key=lambda item: item[0])
    return sorted(names[:most])


def _entries(folder: str, *, deep: bool, is_top: bool) -> list[tuple[str, bool]]:
    """Return the names in a folder, and whether each is a folder to look into."""
    try:
        with os.scandir(folder) as entries:
            found = [
                (entry.name, _is_folder(entry, deep=deep)) for entry in entries if _is_meant(entry.name, deep)
            ]
    except OSError:
        if is_top:
            raise
        return []
    found.sort()
    ours = names_of_ours(folder, (name for name, _ in found))
    return [(name, is_folder) for name, is_folder in found if name not in ours]


def _is_folder(entry: os.DirEntry[str], *, deep: bool) -> bool:
    if not (deep and entry.is_symlink()):
        return entry.is_dir(follow_symlinks=False)
    return entry.is_dir() and not is_of_kernel(os.path.realpath(entry.path) + os.sep)


def _is_meant(name: str, deep: bool) -> bool:
    if deep:
        return _NOT_MEANT.fullmatch(name) is None
    return not is_hidden(name) and name[0] != "." and name != "__pycache__"


def stamps_below(folder: str, *, own: str, root: str) -> dict[str, Stamp | None]:
    """Return the files below a folder with their stamps, without the run folder `own`; none on an error."""
    try:
        names = listing(folder, deep=True, own=own, most=_most(folder, root))
    except OSError:
        return {}
    return {name: stamp_of_file(os.path.join(folder, name)) for name in names}


def _most(folder: str, root: str) -> int:
    return LISTED_MOST if (folder + os.sep).startswith(root.rstrip(os.sep) + os.sep) else LISTED_OUTSIDE


def folder_files(site: Site, path: str, *, deep: bool, whole: bool, own: str) -> dict[str, str]:
    """Return the files of a folder, each with its content.

    Args:
        deep: with all below it.
        whole: with the contents of its files, and not only their names.
        own: the folder of the run that reads it.
    """
    most = _most(path, site.root)
    names = listing(path, deep=deep, own=own, most=most)
    by_stat = most < LISTED_MOST and len(names) > HASHED_OUTSIDE
    return {
        name: _content(site, os.path.join(path, name), by_stat=by_stat) if whole else "" for name in names
    }


def hash_of_files(files: Mapping[str, str]) -> str:
    """Return the hash of what `folder_files` found."""
    return hashlib.sha256(json.dumps(files).encode("ascii")).hexdigest()


def folder_entry(site: Site, path: str, *, deep: bool, whole: bool, own: str) -> FolderEntry:
    """Return a folder in the form of records; the arguments are those of `folder_files`."""
    files = folder_files(site, path, deep=deep, whole=whole, own=own)
    digest = hash_of_files(files)
    found = FolderEntry(path=site.relative(path), deep=deep, whole=whole, count=len(files), hash=digest)
    if len(files) <= _NAMED_FILES:
        found["files"] = files
    else:
        site.hashes.keep_files(digest, files)
    return found


def notes_of_folders(record: Record) -> list[str]:
    """Return notes on folders with more files than count."""
    return [
        f"{entry['path']} has more files than the {entry['count']:,} that count as inputs: "
        "name the part of it that is read"
        for entry in (record.lineage["folders"] if record.lineage else ())
        if entry["count"] >= (LISTED_OUTSIDE if os.path.isabs(entry["path"]) else LISTED_MOST)
    ]


def _content(site: Site, path: str, *, by_stat: bool) -> str:
    try:
        if by_stat:
            stamp = stamp_of_file(path)
            return f"{stamp[0]} {stamp[1]}" if stamp else "unreadable"
        entry = site.entry(path)
    except OSError:
        # A pipe, a broken symlink, a file without permission: we know only that it is there.
        return "unreadable"
    return entry["hash"] or f"{entry['size']} {entry['mtime']}"


# --- begin and end -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beginning:
    """What was there when the run began: stamps of the source, named files, and files in named folders.

    `words` are folders that are called like a word in the config.
    """

    source: Stamp | None
    files: dict[str, Stamp]
    folders: dict[str, dict[str, Stamp | None]]
    words: frozenset[str] = frozenset()


def begin(spec: RunSpec) -> Beginning:
    """Note what the run may read, before it starts."""
    files, folders = {}, {}
    named = named_in(spec)
    for path, status in named.found.items():
        if stat.S_ISREG(status.st_mode):
            files[path] = stamp_of(status)
        elif stat.S_ISDIR(status.st_mode):
            folders[path] = stamps_below(path, own=spec.folder, root=spec.project_root)
    return Beginning(stamp_of_file(spec.source), files, folders, named.words)


@dataclass(frozen=True, slots=True)
class Record:
    """What a result keeps of what a run read and wrote."""

    inputs: tuple[FileEntry, ...]
    outputs: tuple[FileEntry, ...]
    lineage: Lineage | None = None


class RecordMaker:
    """Makes the record of a run that ended well.

    Args:
        begun: what was there at its beginning.
        reads: what it was seen to read.
        children: run folders of a build's flows, relative to its own.
        stopped: asked while files are read; True ends that with StoppedError.
    """

    def __init__(
        self,
        spec: RunSpec,
        begun: Beginning,
        reads: Reads,
        children: Iterable[str],
        stopped: Callable[[], bool],
    ) -> None:
        self.spec, self.begun, self.reads = spec, begun, reads
        self.site = replace(Site.of(spec), stopped=stopped)
        self.changed: list[str] = []
        self._own = spec.folder + os.sep
        paths = (os.path.normpath(os.path.join(spec.folder, child)) for child in children)
        self._children = tuple(path + os.sep for path in paths)

    def make(self, outputs: Iterable[FileEntry]) -> Record:
        """Return the record; `outputs` is what the run wrote into its folder."""
        folders = self._folders()
        inputs, absent = self._inputs()
        written = [path for path in self.reads.written if not path.startswith(self._own)]
        lineage = Lineage(
            format=FORMAT,
            source=self.site.relative(self.spec.source),
            code=self._code(),
            secrets=self._secrets(),
            options=options_of(self.spec),
            modules=self._modules(),
            imports=self._imports(),
            folders=folders,
            absent=absent,
            written=sorted(map(self.site.relative, written)),
            made=self._made(),
            saved=self._saved(),
            changed=sorted(set(self.changed)),
            notes=list(self.spec.notes),
        )
        written_here = tuple(
            output
            if "kind" in output
            else self._output(self.spec.folder + os.sep + output["path"], output["path"])
            for output in outputs
        )
        self.site.hashes.flush()
        return Record(tuple(inputs), written_here, lineage)

    def _saved(self) -> str:
        try:
            return self.site.hashes.of(str(self.spec.run_folder.config))
        except OSError:
            # The flow removed it under a debugger, where nobody restores it.
            return ""

    def _made(self) -> list[FileEntry]:
        """Return the new files outside of the run folder: they are outputs too."""
        made = (path for path in sorted(self.reads.made) if not path.startswith(self._own))
        return [
            self._output(path, self.site.relative(path))
            for path in made
            if stamp_of_file(path) is not None and not is_ours(path)
        ]

    def _output(self, path: str, name: str) -> FileEntry:
        try:
            return self.site.entry(path, name)
        except OSError:
            # The flow removed the permission to read it: only size and time are known.
            status = os.stat(path)
            return FileEntry(path=name, size=status.st_size, mtime=status.st_mtime_ns, hash=None)

    def _code(self) -> str | None:
        source = self.spec.source
        if self.begun.source is None or stamp_of_file(source) != self.begun.source:
            self.changed.append(self.site.relative(source))
            return None
        return self.site.hashes.of(source, "code")

    def _secrets(self) -> Secrets | None:
        salt = os.urandom(16).hex()
        found = hash_of_secrets(self.spec.config, salt)
        return Secrets(salt=salt, hash=found) if found else None

    def _modules(self) -> dict[str, str]:
        found = {}
        for path, stamp in sorted(self.reads.modules.items()):
            name = self.site.relative(path)
            now = stamp_of_file(path)
            is_other = now is None or (stamp is not None and stamp != now)
            if is_other and path not in self.reads.written:
                self.changed.append(name)
            if now is not None:
                found[name] = self.site.hashes.of(path, "module")
        return found

    def _imports(self) -> list[str]:
        """Return the modules that the code imports by name and that no file of the project hides."""
        names: set[str] = set()
        for path in (self.spec.source, *self.reads.modules):
            with suppress(OSError):
                names |= imported_names(Path(path).read_bytes())
        source, root = self.spec.source, self.spec.project_root
        return sorted(
            name
            for name in names.difference(sys.builtin_module_names)
            if not any(map(os.path.lexists, hiding(name, source, root)))
        )

    def _inputs(self) -> tuple[list[FileEntry], list[str]]:
        """Return what was read, and what was looked for but not there."""
        inputs: list[FileEntry] = []
        absent: list[str] = []
        for path, stamp in sorted(self._seen().items()):
            if path in self.reads.modules or self._is_own(path):
                continue
            now, name = stamp_of_file(path), self.site.relative(path)
            is_written = path in self.reads.written
            if now is not None:
                inputs += self._entry(path)
                if is_written and inputs and inputs[-1]["path"] == name:
                    inputs[-1]["begun"] = stamp and stamp.mtime
            elif stamp is None:
                if not (os.path.lexists(path) and self._is_by_run(path)):
                    absent.append(name)
            elif is_written:
                # The run removed what it read: another run would not find it.
                inputs.append(FileEntry(path=name, size=stamp.size, mtime=stamp.mtime, hash=None))
            # A link or other rights, which a run may give its inputs, leave the content.
            if (now is None or now.is_rewritten(stamp)) and now != stamp and not is_written:
                self.changed.append(name)
        return inputs, absent

    def _seen(self) -> dict[str, Stamp | None]:
        """Return what was read, named or declared, and what belongs to that, with the first stamps."""
        missing = (path for path in self.reads.declared if not os.path.exists(path))
        seen = {**dict.fromkeys(missing), **self._given(), **self.reads.files, **self.begun.files}
        others = {other for path, stamp in seen.items() if stamp for other in companions(path)}
        return {**{other: stamp_of_file(other) for other in others}, **seen}

    def _given(self) -> dict[str, Stamp]:
        """Return what other programs were given and have left as it was; the rest is what they wrote."""
        now = {path: stamp_of_file(path) for path in self.reads.given}
        given = self.reads.given.items()
        return {path: stamp for path, stamp in given if (n := now[path]) and not n.is_rewritten(stamp)}

    def _is_own(self, path: str) -> bool:
        """Return whether a file belongs to the run itself; files of a build's flows are theirs."""
        return path.startswith(self._own) and not (self._children and path.startswith(self._children))

    def _entry(self, path: str) -> list[FileEntry]:
        try:
            return [self.site.entry(path)]
        except OSError:
            # Gone since, or readable only for the run.
            self.changed.append(self.site.relative(path))
            return []

    def _is_by_run(self, path: str) -> bool:
        """Return whether the run itself wrote, made or moved a file, or a folder around it."""
        if path.startswith(self._own):
            return True
        return any(str(part) in self.reads.written for part in (Path(path), *Path(path).parents))

    def _folders(self) -> list[FolderEntry]:
        found: dict[str, FolderEntry] = {}
        declared = {path for path in self.reads.declared if os.path.isdir(path)}
        begun = {**self.reads.folders, **self.begun.folders}
        whole = {*declared, *begun, *filter(self._is_read, self.begun.words)}
        for path in sorted(whole | set(self.reads.listed)):
            if self._is_own(path + os.sep):
                continue
            deep = path in whole
            try:
                found[path] = folder_entry(self.site, path, deep=deep, whole=deep, own=self.spec.folder)
            except OSError:
                if not self._is_by_run(path):
                    self.changed.append(self.site.relative(path))
        for path, stamps in begun.items():
            self._compare(path, stamps, stamps_below(path, own=self.spec.folder, root=self.spec.project_root))
        for path in found.keys() & self.reads.listed.keys():
            names = self.reads.listed[path]
            self._compare(path, dict.fromkeys(names), dict.fromkeys(shown_names(path)))
        return list(found.values())

    def _is_read(self, folder: str) -> bool:
        """Return whether the run was seen to list a folder, or to read something in it."""
        below = folder + os.sep
        read = (path for path, stamp in self.reads.files.items() if stamp)
        return any((path + os.sep).startswith(below) for path in (*read, *self.reads.listed))

    def _compare(
        self, folder: str, before: Mapping[str, Stamp | None], after: Mapping[str, Stamp | None]
    ) -> None:
        """Mark as changed what something other than this run modified in a folder."""
        ours = names_of_ours(folder, {*before, *after})
        for name in sorted({*before, *after} - ours):
            is_same = name in before and name in after and before[name] == after[name]
            if not is_same and not self._is_by_run(os.path.join(folder, name)):
                self.changed.append(self.site.relative(os.path.join(folder, name)))
            if len(self.changed) > _NAMED_FILES:
                return


def hiding(name: str, source: str, root: str) -> list[str]:
    """Return the files that Python would import instead of a module that is not the project's."""
    places = [os.path.join(folder, name) for folder in (os.path.dirname(source), root)]
    return [file for place in places for file in (f"{place}.py", os.path.join(place, "__init__.py"))]


def recurring(reasons: Mapping[str, int]) -> str | None:
    """Return a note on a reason for which an instance ran in three sessions in a row, if there is one."""
    text, count = max(reasons.items(), key=lambda item: item[1], default=("", 0))
    if count < _RECURS:
        return None
    return (
        f"it ran in {count} sessions in a row because {text}: if nobody changes that in between, a run does. "
        "Name a narrower path in the config, or let the flow write elsewhere"
    )


def options_of(spec: RunSpec) -> RunChoices:
    """Return what `_run` says that changes what a run does, or what is made of it."""
    options = spec.options
    kernel = (options.kernel or "") if engine_named(spec.engine).has_kernel else None
    chosen = RunChoices()
    if kernel is not None:
        chosen["kernel"] = kernel
    if options.allow_exit:
        chosen["allow_exit"] = True
    if options.needs:
        chosen["needs"] = sorted(options.needs)
    return chosen


# --- undeclared --------------------------------------------------------------------------------------------


def undeclared(spec: RunSpec, reads: Reads, children: Sequence[Result]) -> list[str]:
    """Return warning lines for reads from other instances that nothing in the config names.

    Nothing orders such runs. For a flow inside a build its build warns, which has a place in the order.

    Args:
        reads: what the run was seen to read.
        children: results of a build's flows.
    """
    if _is_nested(spec):
        return []
    site = Site.of(spec)
    read = {*reads.files, *reads.declared}
    read.update(site.absolute(entry["path"]) for child in children for entry in child.inputs)
    tree = RunsTree(spec.project_root, spec.runs_root)
    needs = (need.partition("/") for need in spec.options.needs)
    named = [RunReference(flow, instance) for flow, _, instance in needs]
    for _, text in strings_of(spec.config):
        named += (reference for _, reference in tree.references(text))
    # What a build ran itself is there.
    folders = [spec.folder, *(os.path.normpath(child.folder) for child in children if child.folder)]
    own = {tree.run_of(folder) for folder in folders}
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(read):
        place = tree.run_of(path)
        if place is None or place in own or is_ours(path) or not os.path.isfile(path):
            continue
        is_named = any(tree.names(reference, *place) for reference in named)
        if not is_named and os.path.exists(os.path.join(spec.runs_root, *place, RESULT)):
            found.setdefault(place, []).append(site.relative(path))
    lines = []
    for first, *more in found.values():
        others = f" (and {len(more)} more there)" if more else ""
        lines.append(
            f"⚠ undeclared input: {first}{others} is read, and no key of the config names it, so it may be "
            "read before it is made"
        )
    return lines[:_UNDECLARED_SHOWN]


def _is_nested(spec: RunSpec) -> bool:
    """Return whether a run belongs to a build that is going on."""
    runs_root = Path(spec.runs_root)
    above = [folder for folder in Path(spec.folder).parents if runs_root in folder.parents]
    return any(has_unfinished_run(runs_root, folder) for folder in above)
