"""The run folder during a run: who holds it, what was there before, what the run wrote.

    claim = Claim.take(folder, owner)    lock it, list what is there, move away what the last run wrote
    ... the run ...
    claim.outputs(children)              what is new
    claim.release()

Our own files are in `runs/.ductaflow/`, never in a run folder, where a flow that globs would read them:

    running/<hash>.lock    held by the supervisor of the run; the system frees it when the supervisor dies
    running/<hash>.json    the marker: who runs it, what was in the folder before; touched as a heartbeat
    previous/<path>/       what the last good run wrote, one generation
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ductaflow.common import host
from ductaflow.common.decode import UnreadableError, read_json
from ductaflow.common.errors import RunFolderError
from ductaflow.common.files import Stamp, stamp_of, write_atomic
from ductaflow.common.paths import CACHE_DIR, CONTEXT, RESULT, TEMP_PREFIX, RunFolder, ran_among
from ductaflow.store.result import FileEntry, Result, readable_result
from ductaflow.store.spec import is_below

if TYPE_CHECKING:
    from filelock import FileLock


#: A run on another host counts as dead when its last heartbeat is older, in seconds.
LEASE_SECONDS = 60.0
#: Also how exactly we know until when a killed run may have written files.
HEARTBEAT_SECONDS = 1.0
#: How long a run folder may stay held after the run, in seconds, while its page is being made.
AFTERWARDS_SECONDS = 60.0
_LOCK_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Owner:
    """The holder of a run folder. `pid` is the supervisor of the run; `started` is UTC in ISO 8601."""

    flow: str
    instance: str
    run_id: str
    session_id: str
    host: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, session {self.session_id}, since {self.started}"


@dataclass(frozen=True, slots=True)
class Marker:
    """The file beside the lock during a run."""

    owner: Owner
    folder: Path
    before: dict[str, Stamp]

    @classmethod
    def load(cls, path: Path, notes: list[str] | None = None) -> Marker | None:
        """Return the marker; None if there is none, or if it cannot be read, which `notes` gets."""
        try:
            return read_json(path, cls)
        except UnreadableError as exc:
            if notes is not None:
                notes.append(f"what is known of the last run here was lost: {exc.message}")
            return None


def snapshot(folder: Path) -> dict[str, Stamp]:
    """Return all regular files below a folder, by relative path with `/`; symlinks are not followed."""
    found: dict[str, Stamp] = {}
    pending = [(str(folder), "")]
    while pending:
        path, prefix = pending.pop()
        with suppress(FileNotFoundError), os.scandir(path) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, name + "/"))
                elif entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        found[name] = stamp_of(entry.stat(follow_symlinks=False))
    return found


def _admin(runs_root: Path, folder: Path, suffix: str) -> Path:
    """Return the path of a run folder's lock or marker, or of what lies beside them."""
    name = hashlib.sha256(folder.relative_to(runs_root).as_posix().encode()).hexdigest()[:32]
    return runs_root / CACHE_DIR / "running" / f"{name}{suffix}"


def previous_folder(runs_root: Path, folder: Path) -> Path:
    """Return where the files of the last good run of a folder are kept."""
    return runs_root / CACHE_DIR / "previous" / folder.relative_to(runs_root)


class Claim:
    """A run folder that this process holds. Use `Claim.take`."""

    def __init__(self, folder: RunFolder, marker: Path, lock: FileLock, before: Mapping[str, Stamp]) -> None:
        self.folder = folder
        self.before = before
        self.edited: tuple[str, ...] = ()
        self.notes: list[str] = []
        self._marker = marker
        self._lock = lock

    @classmethod
    def take(cls, folder: RunFolder, runs_root: Path, owner: Owner, *, keep_previous: bool = True) -> Claim:
        """Lock a run folder and move away what its last run wrote, nothing else.

        Raises:
            RunFolderError: another run holds it; it lies outside the tree; it cannot be written.
        """
        try:
            _make_inside(folder.path, runs_root)
            lock = _lock(runs_root, folder.path)
            try:
                return cls._prepare(folder, runs_root, owner, lock, keep_previous)
            except BaseException:
                lock.release()
                raise
        except OSError as exc:
            raise RunFolderError(
                f"{exc.filename or folder.path}: cannot be written: {exc.strerror or exc}",
                hint="Make the runs folder writable and see that the disk has room, then run again.",
            ) from exc

    @classmethod
    def _prepare(
        cls, folder: RunFolder, runs_root: Path, owner: Owner, lock: FileLock, keep_previous: bool
    ) -> Claim:
        clear_odd(folder)
        marker = _admin(runs_root, folder.path, ".json")
        now = snapshot(folder.path)
        notes: list[str] = []
        stale = Marker.load(marker, notes)
        if stale is not None:
            # Its supervisor was killed and may have left processes behind.
            host.sweep(CONTEXT, functools.partial(is_below, folder.path))
            now = _older(now, _last_sign_of_life(marker))
        last = readable_result(folder.path)
        mine, good = _written_by_last_run(folder, now, stale, last)
        before = {name: stamp for name, stamp in snapshot(folder.path).items() if name not in mine}
        # The marker comes first: after a kill in what follows, the next claim still knows the rest of `mine`.
        write_atomic(marker, json.dumps(asdict(Marker(owner, folder.path, before)), default=os.fspath))
        claim = cls(folder, marker, lock, before)
        claim.notes = notes
        claim.edited = _edited(folder, now, _taken_up_by_hand(marker), last)
        if good and keep_previous:
            _move(folder, mine, previous_folder(runs_root, folder.path))
        else:
            _remove(folder.path, mine)
        return claim

    @property
    def events_file(self) -> Path:
        """The file for the events of the child; it is beside the marker and goes with it."""
        return self._marker.with_suffix(".events")

    def heartbeat(self) -> None:
        """Show other hosts on a shared file system that the run is alive."""
        with suppress(OSError):
            os.utime(self._marker)

    def outputs(self, children: Iterable[str]) -> list[FileEntry]:
        """Return what the run wrote: new regular files, not ours nor of its flows (`children`)."""
        own = {path.name for path in self.folder.own_files}
        theirs = tuple(f"{child}/" for child in children)
        found = []
        for name, stamp in sorted(snapshot(self.folder.path).items()):
            if name in own or (theirs and name.startswith(theirs)):
                continue
            if name in self.before and not (name in self.edited and stamp.is_rewritten(self.before[name])):
                # A person's own file stays theirs; a file from work by hand is the run's once rewritten.
                continue
            if name.rpartition("/")[2].startswith(TEMP_PREFIX):
                (self.folder.path / name).unlink(missing_ok=True)
                continue
            found.append(FileEntry(path=name, size=stamp.size))
        return found

    def finish(self) -> None:
        """Remove the marker, once there is a result; the folder stays held, and its next run waits."""
        with suppress(OSError):
            self.events_file.unlink(missing_ok=True)
            self._marker.unlink(missing_ok=True)

    def release(self, *, finished: bool) -> None:
        """Release the folder; unless it is `finished`, with a result, the marker stays."""
        if finished:
            self.finish()
            _remove_lock(self._lock)
        self._lock.release()


@contextmanager
def held(folder: Path, runs_root: Path) -> Iterator[None]:
    """Keep others from running in a run folder, without a run and without touching its files.

    Raises:
        RunFolderError: a run holds it.
    """
    lock = _lock(runs_root, folder)
    try:
        yield
    finally:
        _remove_lock(lock)
        lock.release()


def _make_inside(folder: Path, runs_root: Path) -> None:
    """Make the run folder; refuse it if a symlink leads out of the tree."""
    target = folder.resolve()
    if not target.is_relative_to(runs_root.resolve()):
        raise RunFolderError(
            f"{folder} leads out of {runs_root}: a symlink on the way points to {target}",
            hint="Remove the symlink, or link the whole runs folder instead.",
        )
    folder.mkdir(parents=True, exist_ok=True)


def refuse_folder(folder: Path, source: Path, project_root: Path) -> None:
    """Refuse a run folder that holds a project, a notebook or a repository: the next run would clear it.

    Raises:
        RunFolderError: it holds one of them.
    """
    for inside, what in (
        (project_root, "the project"),
        (source, "the notebook"),
        (folder / ".git", "a repository"),
    ):
        if inside.is_relative_to(folder) and inside.exists():
            raise RunFolderError(
                f"{folder} cannot be a run folder: {what} lies in it ({inside})",
                hint="Give a folder of its own, such as runs/<flow>/<instance>.",
            )


def clear_odd(folder: RunFolder) -> None:
    """Remove links, pipes and folders in the places of our files: we would write through them or fail."""
    for path in folder.own_files:
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)


def _last_sign_of_life(marker: Path) -> float:
    """Return when a killed run was last seen alive, by the clock of the file system."""
    times = [path.stat().st_mtime for path in (marker, marker.with_suffix(".events")) if path.exists()]
    return max(times, default=0.0)


def _older(now: Mapping[str, Stamp], moment: float) -> dict[str, Stamp]:
    """Return the files that a killed run may have written; younger ones are a person's."""
    limit = int((moment + 2 * HEARTBEAT_SECONDS) * 1e9)
    return {name: stamp for name, stamp in now.items() if stamp.mtime <= limit}


def has_unfinished_run(runs_root: Path, folder: Path) -> bool:
    """Return whether a run of a folder is going on or was killed, so that its result is an older run's."""
    return _admin(runs_root, folder, ".json").exists()


def is_running(runs_root: Path, folder: Path, session_id: str) -> bool:
    """Return whether a run of a session is going on in a folder, on this host or another one."""
    path = _admin(runs_root, folder, ".json")
    marker = Marker.load(path)
    if marker is None or marker.owner.session_id != session_id:
        return False
    return _is_held(path) if marker.owner.host == socket.gethostname() else _is_beating(path)


def _lock(runs_root: Path, folder: Path) -> FileLock:
    from filelock import FileLock, Timeout

    marker = _admin(runs_root, folder, ".json")
    marker.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(marker.with_suffix(".lock"))
    limit = time.monotonic() + AFTERWARDS_SECONDS
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout as exc:
            held = Marker.load(marker)
            if held or time.monotonic() > limit:
                raise _held(folder, held.owner if held else None) from exc
            # Without a marker the run has ended and its page is being made, or it just begins.
            time.sleep(_LOCK_POLL)
    known = Marker.load(marker)
    if known and known.owner.host != socket.gethostname() and _is_beating(marker):
        # On some shared file systems a lock is seen on one host only; the heartbeat is seen everywhere.
        lock.release()
        raise _held(folder, known.owner)
    return lock


def _remove_lock(lock: FileLock) -> None:
    """Remove the file of a lock that is held here; whoever waits for it sees that the file is gone."""
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)


def _is_beating(marker: Path) -> bool:
    try:
        return time.time() - marker.stat().st_mtime < LEASE_SECONDS
    except FileNotFoundError:
        return False


def _held(folder: Path, owner: Owner | None) -> RunFolderError:
    who = str(owner) if owner else "another process"
    return RunFolderError(
        f"{folder} is held by {who}",
        hint="Wait until that run has ended, or end that process; other runs of the tree are free.",
    )


def _written_by_last_run(
    folder: RunFolder, now: Mapping[str, Stamp], stale: Marker | None, last: Result | None
) -> tuple[set[str], bool]:
    """Return the names of the files that the last run wrote, and whether that run was good."""
    own = {path.name for path in folder.own_files}
    if stale is not None:
        # The last run never ended: everything that was not there before it is its own.
        nested = tuple(_nested_runs(now))
        new = {n for n in now if n not in stale.before and not (nested and n.startswith(nested))}
        return (new | own) & now.keys(), False
    if last is None:
        return own & now.keys(), False
    written = own | {output["path"] for output in last.outputs}
    return written & now.keys(), last.status.is_good


def _nested_runs(now: Mapping[str, Stamp]) -> Iterator[str]:
    """Yield run folders of flows inside a build; their own next runs clear them."""
    inside: dict[str, list[str]] = {}
    for head, _, name in (path.rpartition("/") for path in now):
        inside.setdefault(head, []).append(name)
    # A flow may write a `result.json` of its own, which makes its folder no run folder.
    yield from (f"{head}/" for head, names in inside.items() if head and RESULT in names and ran_among(names))


def note_hand_work(folder: Path, runs_root: Path) -> None:
    """Note the state of a run folder before a person works in it, so that the next run knows what changed."""
    note = _admin(runs_root, folder, ".hand")
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(note, json.dumps(snapshot(folder)))


def _taken_up_by_hand(marker: Path) -> dict[str, Stamp] | None:
    """Return the state of the folder when a person began to work in it, and remove the note."""
    note = marker.with_suffix(".hand")
    try:
        return read_json(note, dict[str, Stamp])
    except UnreadableError:
        return None
    finally:
        note.unlink(missing_ok=True)


def _edited(
    folder: RunFolder, now: Mapping[str, Stamp], by_hand: Mapping[str, Stamp] | None, last: Result | None
) -> tuple[str, ...]:
    """Return the files that changed since the last run, or in interactive work since it began."""
    own = {path.name for path in folder.own_files}
    edited: set[str] = set()
    if by_hand is not None:
        edited = {n for n, stamp in now.items() if stamp.is_rewritten(by_hand.get(n)) and n not in own}
    for output in last.outputs if last else ():
        name = output["path"]
        if name in now and now[name].size != output["size"]:
            edited.add(name)
    return tuple(sorted(edited))


def _move(folder: RunFolder, names: Iterable[str], target: Path) -> None:
    kept = RunFolder(target, folder.flow)
    older, _ = _written_by_last_run(kept, snapshot(target), None, readable_result(target))
    _remove(target, older)
    for name in sorted(names):
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        # Also works for read-only files: moving needs only the permission of the folder.
        shutil.move(folder.path / name, destination)
    _prune(folder.path, names)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    _prune(folder, names)


def _prune(folder: Path, names: Iterable[str]) -> None:
    """Remove the subfolders that held nothing else."""
    parents = {parent for name in names for parent in Path(name).parents if parent != Path()}
    for parent in sorted(parents, key=lambda p: len(p.parts), reverse=True):
        with suppress(OSError):
            (folder / parent).rmdir()


def unfinished(runs_root: Path, faults: list[str] | None = None) -> list[Marker]:
    """Return the markers of runs whose supervisor is gone without a result; `faults` gets unreadable ones."""
    found = []
    for path in sorted((runs_root / CACHE_DIR / "running").glob("*.json")):
        marker = Marker.load(path, faults)
        # On another host the lock may not be seen.
        if marker is None or marker.owner.host != socket.gethostname():
            continue
        with suppress(OSError):
            # In a tree that cannot be written no run of ours is going on.
            if not _is_held(path) and path.exists():
                found.append(marker)
    return found


def _is_held(marker: Path) -> bool:
    """Return whether a process on this host holds the lock beside a marker."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(marker.with_suffix(".lock"), timeout=0):
            return False
    except Timeout:
        return True
