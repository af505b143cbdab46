"""Files: read as a whole, atomic writes, stamps, what lies in a folder, and which paths count as hidden."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import stat
import time
import zlib
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from ductaflow.common.paths import TEMP_PREFIX

#: A temporary file whose maker is on another host counts as left behind when it is older, in seconds.
_LEFT_BEHIND = 86_400.0
# O_NONBLOCK: opening a pipe in the place of a file would wait for a writer.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class SpecialFileError(OSError):
    """A pipe, a socket or a device lies in the place of a file."""


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> tuple[int, int]:
    """Open a regular file for reading; return its descriptor and its size in bytes.

    Args:
        path: the file.
        follow: also where the path is a link.

    Raises:
        SpecialFileError, IsADirectoryError: it is none; OSError: the system refuses it; ValueError: it is no
            name of a file.
    """
    handle = os.open(path, _READ if follow else _READ | getattr(os, "O_NOFOLLOW", 0))
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(status.st_mode):
            raise SpecialFileError(errno.EINVAL, "not a regular file", os.fspath(path))
    except BaseException:
        os.close(handle)
        raise
    return handle, status.st_size


def regular_file(path: str | os.PathLike[str], *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading, as `open_regular` does: what a flow or a person may have replaced."""
    return os.fdopen(open_regular(path, follow=follow)[0], "rb")


def read_regular(path: str | os.PathLike[str], *, most: int | None = None) -> bytes:
    """Return the content of a regular file, with as few calls as possible: a session reads thousands.

    Args:
        path: the file.
        most: refuse a larger one, in bytes, with EFBIG.

    Raises:
        OSError, ValueError: as of `open_regular`.
    """
    handle, size = open_regular(path)
    try:
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes", os.fspath(path))
        parts = []
        while part := os.read(handle, size + 1):
            parts.append(part)
    finally:
        os.close(handle)
    return b"".join(parts)


def write_atomic(path: Path, data: str | bytes | Iterable[str], *, sync: bool = True) -> None:
    """Replace a file as a whole or not at all, even in a power cut.

    Args:
        path: the file.
        data: a string is written as UTF-8, with lone surrogates as `\\udcxx`; an iterable of strings is for
            content that does not fit into memory.
        sync: flush to the disk. Without it a power cut may leave an empty file.
    """
    parts: Iterable[str | bytes] = (data,) if isinstance(data, str | bytes) else data
    # not by `tempfile`, whose files are for their owner alone whatever the umask says
    name = os.path.join(path.parent, f"{temporary_prefix()}{os.urandom(8).hex()}")
    try:
        with open(name, "xb") as file:
            for part in parts:
                file.write(part.encode("utf-8", "backslashreplace") if isinstance(part, str) else part)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def temporary_prefix() -> str:
    """Return how the names of temporary files and folders of this process begin: with who makes them."""
    return f"{TEMP_PREFIX}{_here()}-{os.getpid()}-"


def sweep_temporary(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files and folders of ours in a folder whose makers were killed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMP_PREFIX):
                # What is somebody else's stays.
                with suppress(OSError):
                    if not _is_left_behind(entry):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)


def _is_left_behind(entry: os.DirEntry[str]) -> bool:
    where, _, rest = entry.name.removeprefix(TEMP_PREFIX).partition("-")
    pid = rest.partition("-")[0]
    if where == _here() and pid.isdigit():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _LEFT_BEHIND


def _here() -> str:
    """Return a name for what gives out process ids: this host, or a container on it."""
    try:
        name = f"{os.uname().nodename} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, AttributeError):
        name = os.environ.get("COMPUTERNAME", "")
    return f"{zlib.crc32(name.encode('utf-8', 'backslashreplace')):08x}"


def set_aside(path: Path, *, copy: bool = False) -> Path:
    """Rename, or copy, what lies in the place of a file of ours; return its new path, beside the old one."""
    numbers = itertools.chain([""], itertools.count(2))
    names = (path.with_name(f"{path.stem}.flow{number}{path.suffix}") for number in numbers)
    aside = next(name for name in names if not os.path.lexists(name))
    if copy:
        shutil.copyfile(path, aside)
    else:
        os.rename(path, aside)
    return aside


# --- stamps and entries ------------------------------------------------------------------------------------


class Stamp(NamedTuple):
    """What tells one state of a file from another without reading it; times in ns."""

    size: int
    mtime: int
    ctime: int
    inode: int

    def is_rewritten(self, before: Stamp | None) -> bool:
        """Whether the content may differ; a new name or new rights of a file change its `ctime` alone."""
        return before is None or self._replace(ctime=before.ctime) != before


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


#: What a name in a folder stands for. A link is one by itself, whatever is behind it.
PathKind = Literal["file", "link", "folder", "pipe", "socket", "device"]
_KINDS: dict[int, PathKind] = {
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


class PathState(NamedTuple):
    """One entry of a folder; `target` is the text of a link. Only files and links have a size."""

    size: int
    mtime: int
    ctime: int
    inode: int
    kind: PathKind = "file"
    target: str = ""

    def is_other_than(self, before: PathState | None) -> bool:
        """Whether the content may differ; the times of a folder, a pipe or a socket say nothing."""
        if before is None or (self.kind, self.target) != (before.kind, before.target):
            return True
        of_content = self.kind == "file" and (self.mtime, self.inode) != (before.mtime, before.inode)
        return of_content or self.size != before.size


def state_of(path: str) -> PathState:
    """Return what a path stands for itself, not what is behind a link.

    Raises:
        OSError: there is nothing, or it cannot be looked at.
    """
    status = os.lstat(path)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "device")
    size = status.st_size if kind in ("file", "link") else 0
    target = os.readlink(path) if kind == "link" else ""
    return PathState(size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, kind, target)


#: What lies in a folder, by relative path with `/`.
Snapshot = dict[str, PathState]


def snapshot(folder: Path) -> Snapshot:
    """Return all that lies below a folder, at any depth, by relative path with `/`, never through a link.

    A folder is an entry only if it is empty; another one is known by what lies in it.
    """
    found: Snapshot = {}
    pending = [(str(folder), "")]
    with ExitStack() as until:
        while pending:
            path, prefix = pending.pop()
            # What goes away while we look is not there.
            with suppress(FileNotFoundError):
                unlock(path, os.R_OK | os.X_OK, until)
                names = os.listdir(path)
                if not names and prefix:
                    found[prefix[:-1]] = state_of(path)
                for name in names:
                    with suppress(FileNotFoundError):
                        entry = state_of(os.path.join(path, name))
                        if entry.kind == "folder":
                            pending.append((os.path.join(path, name), f"{prefix}{name}/"))
                        else:
                            found[prefix + name] = entry
    return found


def unlock(folder: str, access: int, until: ExitStack) -> None:
    """Get access to a folder that its owner has locked, as a run may; its mode is the same afterwards."""
    mode = stat.S_IMODE(os.lstat(folder).st_mode)
    if not os.access(folder, access):
        # What is somebody else's stays locked, and the error comes where it is used.
        with suppress(OSError):
            os.chmod(folder, mode | stat.S_IRWXU)
            until.callback(_set_mode, folder, mode)


def _set_mode(folder: str, mode: int) -> None:
    with suppress(OSError):
        os.chmod(folder, mode)


#: Folders of installed packages, which may lie inside a project.
_NOT_THE_PROJECTS = frozenset(("site-packages", "dist-packages", "node_modules"))
#: Hidden folders of programs. A cache that every run writes would make every run stale.
_OF_PROGRAMS = re.compile(
    r"\.(?:git|hg|svn|ductaflow|venv|tox|nox|eggs|conda|pixi|idea|vscode|ipython|jupyter"
    r"|matplotlib|ipynb_checkpoints|.*cache.*|coverage.*|[0-9.].*)"
)


def is_hidden(inside: str, *, of_programs: bool = False) -> bool:
    """Return whether a path relative to the project root is in a hidden folder or in installed packages.

    Args:
        inside: the path.
        of_programs: count only the hidden folders of programs (`.git`, `.venv`, caches).
    """
    folders = inside.split(os.sep)
    hidden = [part for part in folders[:-1] if part.startswith(".")]
    if of_programs:
        hidden = [part for part in hidden if _OF_PROGRAMS.fullmatch(part)]
    # Data files of coverage are no files of a flow.
    return bool(hidden) or folders[-1].startswith(".coverage") or not _NOT_THE_PROJECTS.isdisjoint(folders)


def shown_names(folder: str) -> list[str]:
    """Return the names in a folder, sorted, without hidden ones.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted(name for name in os.listdir(folder) if name[0] != "." and name != "__pycache__")


def folders_in(folder: str | os.PathLike[str]) -> list[str]:
    """Return the names of the folders in a folder, in order: links to some included, hidden ones not.

    Raises:
        OSError: it cannot be listed; one that is not there has none.
    """
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name[0] != "." and kind_of(entry)[0])


def kind_of(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Return whether an entry is a folder, and whether it is a file; a link in a circle is neither."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:
        return False, False


def stamp_of_file(path: str | os.PathLike[str]) -> Stamp | None:
    """Return the stamp of a regular file, None for anything else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return stamp_of(status) if stat.S_ISREG(status.st_mode) else None
