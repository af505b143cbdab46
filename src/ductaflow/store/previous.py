"""What the last good run wrote, kept for one generation: `runs/.ductaflow/previous/<path below runs>/`.

    keep(folder, names, kept)     a whole copy, made of hard links, beside what is there
    remove(folder, names)         then the folder is cleared

`result.json` is the last file that a copy gets, and the first that a folder loses. So at each moment, a kill
or a full disk included, there is a whole version where there is a result: in the run folder until the copy is
whole, and in the copy from then on. Whoever finds both does the same again.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from ductaflow.common.errors import RunFolderError
from ductaflow.common.files import PathState, snapshot, state_of, unlock
from ductaflow.common.paths import CACHE_DIR, RESULT, ran_among

#: What a file system answers that has no hard links, or not of this file.
_NO_HARD_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP)


def previous_folder(runs_root: Path, folder: Path) -> Path:
    """Return where the files of the last good run of a folder are kept."""
    return previous_root(runs_root) / folder.relative_to(runs_root)


def previous_root(runs_root: Path) -> Path:
    """Return the folder in which the files of last good runs are kept."""
    return runs_root / CACHE_DIR / "previous"


def refuse_links(runs_root: Path, folder: Path) -> None:
    """Refuse to keep files where a symlink leads elsewhere.

    Raises:
        RunFolderError: a part of the path below `.ductaflow`, or `.ductaflow` itself, is a symlink out of
            the tree.
    """
    kept, cache = previous_folder(runs_root, folder), runs_root / CACHE_DIR
    parts = [kept, *(parent for parent in kept.parents if parent.is_relative_to(cache) and parent != cache)]
    link = next((part for part in parts if part.is_symlink()), None)
    if link is None and not cache.resolve().is_relative_to(runs_root.resolve()):
        link = cache
    if link is not None:
        raise RunFolderError(
            f"{link} is a symlink to {os.readlink(link)}: what the last run wrote would leave {runs_root}",
            hint="Remove the symlink; ductaflow makes the folder again.",
        )


def nested_runs(names: Iterable[str]) -> tuple[str, ...]:
    """Return the run folders among the names in a folder, each with a `/`; their own next runs clear them."""
    inside: dict[str, list[str]] = {}
    for head, _, name in (path.rpartition("/") for path in names):
        inside.setdefault(head, []).append(name)
    # A flow may write a `result.json` of its own, which makes its folder no run folder.
    return tuple(
        f"{head}/" for head, names in inside.items() if head and RESULT in names and ran_among(names)
    )


def keep(folder: Path, names: Collection[str], kept: Path, *, shared: Collection[str] = ()) -> None:
    """Replace what is kept of a run folder by these entries of it; the folder stays as it is.

    Pipes, sockets and devices are nothing to keep.

    Args:
        folder: the run folder.
        names: its entries that go away afterwards.
        kept: where they are kept.
        shared: entries to keep that do not go away: a run may write over them, so they get no hard link.

    Raises:
        OSError: the disk is full, or a file cannot be read.
    """
    older = snapshot(kept)
    nested = nested_runs(older)
    remove(kept, [name for name in older if not name.startswith(nested)])
    with ExitStack() as until:
        for name in sorted({*names, *shared}, key=lambda name: (name == RESULT, name)):
            source, target = os.path.join(folder, name), os.path.join(kept, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            unlock(os.path.dirname(source), os.X_OK, until)
            _keep_one(state_of(source), source, target, is_shared=name in shared)


def _keep_one(entry: PathState, source: str, target: str, *, is_shared: bool) -> None:
    match entry.kind:
        case "folder":
            os.mkdir(target)
        case "link":
            os.symlink(entry.target, target)
        case "file" if is_shared:
            shutil.copy2(source, target)
        case "file":
            try:
                os.link(source, target)
            except OSError as exc:
                if exc.errno not in _NO_HARD_LINKS:
                    raise
                shutil.copy2(source, target)


def remove(folder: Path, names: Collection[str], *, but: Collection[str] = ()) -> None:
    """Remove entries of a folder, and the folders that held nothing else, `but` some.

    Raises:
        OSError: one cannot be removed.
    """
    with ExitStack() as until:
        for name in sorted(names, key=lambda name: (name != RESULT, name)):
            path = os.path.join(folder, name)
            with suppress(FileNotFoundError):
                unlock(os.path.dirname(path), os.W_OK | os.X_OK, until)
                if state_of(path).kind != "folder":
                    os.unlink(path)
                elif name not in but:
                    with suppress(OSError):
                        # Something has come into it since.
                        os.rmdir(path)
        parents = {parent for name in names for parent in Path(name).parents if parent != Path()}
        for parent in sorted(parents, key=lambda parent: len(parent.parts), reverse=True):
            if parent.as_posix() not in but:
                with suppress(OSError):
                    unlock(os.path.dirname(folder / parent), os.W_OK | os.X_OK, until)
                    os.rmdir(folder / parent)
