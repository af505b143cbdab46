"""Files: replaced atomically, stamped, and told apart as hidden or a project's own."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from ductaflow.common.paths import TEMP_PREFIX


def write_atomic(path: Path, data: str | bytes | Iterable[str], *, sync: bool = True) -> None:
    """Replace a file whole or not at all, a power cut included.

    A string is written as UTF-8; a lone surrogate, which UTF-8 has not, becomes `\\udcxx` in words. What is
    too large to be held at once is given as an iterable of strings. Without `sync` a power cut may leave an
    empty file: for what is soon written again.
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


Stamp = tuple[int, int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


#: Folders of installed packages, which may lie inside a project.
_NOT_THE_PROJECTS = frozenset(("site-packages", "dist-packages", "node_modules"))


#: Hidden folders that programs keep for themselves: a cache that each run writes would make each run stale.
_OF_PROGRAMS = re.compile(
    r"\.(?:git|hg|svn|ductaflow|venv|env|tox|nox|eggs|conda|pixi|config|local|idea|vscode|ipython|jupyter"
    r"|matplotlib|ipynb_checkpoints|.*cache.*|coverage.*|[0-9.].*)"
)


def is_hidden(inside: str, *, of_programs: bool = False) -> bool:
    """Whether a path from the project root lies in a folder that is hidden or of installed packages.

    Args:
        of_programs: of hidden folders only those count that programs keep for themselves.
    """
    folders = inside.split(os.sep)
    hidden = [part for part in folders[:-1] if part.startswith(".")]
    if of_programs:
        hidden = [part for part in hidden if _OF_PROGRAMS.fullmatch(part)]
    # what coverage leaves beside the project is no file of a flow either
    return bool(hidden) or folders[-1].startswith(".coverage") or not _NOT_THE_PROJECTS.isdisjoint(folders)


def shown_names(folder: str) -> list[str]:
    """The names in a folder, without hidden ones, sorted.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted(name for name in os.listdir(folder) if name[0] != "." and name != "__pycache__")


def stamp_of_file(path: str) -> Stamp | None:
    """The stamp of a regular file, None of anything else."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return stamp_of(status) if stat.S_ISREG(status.st_mode) else None
