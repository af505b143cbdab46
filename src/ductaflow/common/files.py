"""Files: atomic writes, stamps, and which paths count as hidden."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ductaflow.common.paths import TEMP_PREFIX


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
    name = os.path.join(path.parent, f"{TEMP_PREFIX}{os.urandom(8).hex()}")
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


#: Folders of installed packages, which may lie inside a project.
_NOT_THE_PROJECTS = frozenset(("site-packages", "dist-packages", "node_modules"))
#: Hidden folders of programs. A cache that every run writes would make every run stale.
_OF_PROGRAMS = re.compile(
    r"\.(?:git|hg|svn|ductaflow|venv|env|tox|nox|eggs|conda|pixi|config|local|idea|vscode|ipython|jupyter"
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


def stamp_of_file(path: str) -> Stamp | None:
    """Return the stamp of a regular file, None for anything else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return stamp_of(status) if stat.S_ISREG(status.st_mode) else None
