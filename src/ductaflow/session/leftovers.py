"""What `ductaflow clean` takes away: orphans, and what is kept of earlier runs.

    orphan      runs/prep/b                          moved to runs/.ductaflow/removed/<when>/prep/b
    previous    runs/.ductaflow/previous/fit/a       deleted: the last good outputs of an instance
    removed     runs/.ductaflow/removed/<when>       deleted: what was moved away before

Only what runs wrote is touched. What a person put into a run folder stays there, a run folder that is held
stays as it is, and no link is followed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from ductaflow.common.errors import DuctaflowError, RunFolderError, of_system
from ductaflow.common.paths import CACHE_DIR, RunFolder, flow_of
from ductaflow.project.instances import Instances
from ductaflow.project.orphans import Orphans
from ductaflow.project.settings import Project
from ductaflow.store.folder import held, move_away, written_in
from ductaflow.store.previous import previous_root

_HINT = "Nothing else was touched. See that you may write there, then call it again."


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing to take away.

    Attributes:
        kind: what it is; an `orphan` is moved, anything else deleted.
        name: its id, or when it was moved away.
        path: the folder.
        size: bytes of what would be taken away.
        used: when a file of it was written last, in seconds since the epoch.
        kept: why it stays where it is; empty if it does not.
    """

    kind: Literal["orphan", "previous", "removed"]
    name: str
    path: Path
    size: int
    used: float
    kept: str = ""


def find_leftovers(
    instances: Instances, *, orphans: bool, previous: bool, older_than: float = 0.0
) -> list[Leftover]:
    """Find what can be taken away.

    Args:
        instances: all that are stored.
        orphans: look for run folders of nothing stored.
        previous: look for kept outputs of earlier runs, and for what was moved away before.
        older_than: leave out what was written to in so many last seconds.
    """
    project = instances.project
    found: list[Leftover] = []
    if orphans:
        found += _orphans(project, instances)
    if previous:
        found += _kept_outputs(project)
    limit = datetime.now(UTC).timestamp() - older_than
    return [one for one in found if one.used <= limit]


def take_away(project: Project, found: list[Leftover]) -> tuple[Path, list[str]]:
    """Move orphans away, and delete the rest.

    Returns:
        Where orphans are now, and what could not be taken away, each with the reason.

    Raises:
        DuctaflowError: something cannot be moved or deleted; what was done before stays done.
    """
    target = _removed_now(project.runs_dir)
    left: list[str] = []
    for one in found:
        if one.kept:
            left.append(f"{one.path}: {one.kept}")
            continue
        try:
            with ExitStack() as stack:
                if one.kind != "removed":
                    stack.enter_context(held(project.runs_dir / one.name, project.runs_dir))
                if one.kind == "orphan":
                    _move(one.path, project.runs_dir, target / one.name)
                else:
                    shutil.rmtree(one.path)
        except RunFolderError as exc:
            left.append(exc.message)
        except OSError as exc:
            raise of_system(exc, exc.filename or one.path, hint=_HINT) from exc
    return target, left


def move_run_away(folder: Path, runs_dir: Path) -> Path:
    """Move what runs wrote into one folder away, as orphans are.

    Returns:
        Where it is now.

    Raises:
        RunFolderError: a run holds the folder; a DuctaflowError: something cannot be moved.
    """
    target = _removed_now(runs_dir) / folder.relative_to(runs_dir)
    try:
        with held(folder, runs_dir):
            _move(folder, runs_dir, target)
    except OSError as exc:
        raise of_system(exc, exc.filename or folder, hint=_HINT) from exc
    return target


def _removed_now(runs_dir: Path) -> Path:
    return runs_dir / CACHE_DIR / "removed" / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")


def _move(top: Path, runs_dir: Path, target: Path) -> None:
    for folder in [*_nested(top), top]:
        flow = flow_of(folder) or top.parent.name
        move_away(RunFolder(folder, flow), runs_dir, target / folder.relative_to(top))
        for parent in folder.relative_to(top).parents[:-1]:
            with suppress(OSError):
                # Others may lie there, or a person's files.
                (top / parent).rmdir()


def _nested(folder: Path) -> Iterator[Path]:
    """Yield the run folders of a build's flows, the innermost first."""
    for parent, _, _ in os.walk(folder, topdown=False):
        if parent != str(folder) and flow_of(Path(parent)):
            yield Path(parent)


def _orphans(project: Project, instances: Instances) -> Iterator[Leftover]:
    for orphan in Orphans(project, instances.by_id):
        place = os.path.realpath(project.runs_dir) + f"{os.sep}{orphan.flow}{os.sep}{orphan.name}"
        if os.path.realpath(orphan.folder) != place:
            yield Leftover("orphan", orphan.id, orphan.folder, 0, 0.0, "is a link, or lies behind one")
            continue
        paths = [
            folder / name
            for folder in [*_nested(orphan.folder), orphan.folder]
            for name in written_in(RunFolder(folder, flow_of(folder) or orphan.flow), project.runs_dir)
        ]
        yield Leftover("orphan", orphan.id, orphan.folder, *_size_and_time(paths))


def _kept_outputs(project: Project) -> Iterator[Leftover]:
    root = previous_root(project.runs_dir)
    for flow in _subfolders(root):
        for folder in _subfolders(flow):
            yield Leftover(
                "previous", f"{flow.name}/{folder.name}", folder, *_size_and_time(_files_below(folder))
            )
    for folder in _subfolders(project.runs_dir / CACHE_DIR / "removed"):
        # what was moved keeps its times: the folder tells when that was
        yield Leftover(
            "removed", folder.name, folder, _size_and_time(_files_below(folder))[0], folder.stat().st_mtime
        )


def _files_below(folder: Path) -> Iterator[Path]:
    return (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)


def _subfolders(parent: Path) -> list[Path]:
    """Return the folders in a folder, in order; links to some are refused."""
    if parent.is_symlink():
        raise DuctaflowError(
            f"{parent} is a link", hint="ductaflow follows none to delete: remove it yourself."
        )
    if not parent.is_dir():
        return []
    with os.scandir(parent) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def _size_and_time(paths: Iterator[Path] | list[Path]) -> tuple[int, float]:
    status = [path.lstat() for path in paths]
    return sum(one.st_size for one in status), max((one.st_mtime for one in status), default=0.0)
