"""The run folder over the length of a run: who holds it, what was there before, what the run wrote.

    claim = Claim.take(folder, owner)    lock, note what is there, move away what the last run wrote
    ... the run ...
    claim.outputs(children)              what is new
    claim.release()

What is ours lies in `runs/.ductaflow/`, never in a run folder, since a flow that globs would read it there:

    running/<hash>.lock    held by the supervisor of the run, freed by the system when that one dies
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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ductaflow.common import host
from ductaflow.common.errors import DuctaflowError, RunFolderError
from ductaflow.common.files import write_atomic
from ductaflow.common.paths import CACHE_DIR, CONTEXT, TEMP_PREFIX, RunFolder
from ductaflow.store.result import read_result
from ductaflow.store.spec import is_below

if TYPE_CHECKING:
    from filelock import FileLock


#: A marker of another host whose heartbeat is older than this many seconds is taken for dead.
LEASE_SECONDS = 60.0


#: Also how exactly it is known until when a run that was killed may have written files.
HEARTBEAT_SECONDS = 1.0


#: How long a run folder may still be held when its run has ended, in seconds: its page is being made.
AFTERWARDS_SECONDS = 60.0


_LOCK_POLL = 0.02


FileMark = tuple[int, int, int]


"""What tells one state of a file from another without reading it: size, mtime in ns, inode."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a run folder. `pid` is the process that supervises the run; `started` is UTC in ISO 8601."""

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
class Unfinished:
    """A run that was started and never wrote a result: its folder and who ran it."""

    folder: Path
    owner: Owner


@dataclass(frozen=True, slots=True)
class Marker:
    """What is kept beside the lock while a run lasts."""

    owner: Owner
    folder: str
    before: Mapping[str, FileMark]

    def dump(self) -> str:
        return json.dumps({"owner": asdict(self.owner), "folder": self.folder, "before": self.before})

    @classmethod
    def load(cls, path: Path) -> Marker | None:
        """The marker, None where there is none or where a power cut left half of one."""
        try:
            data = json.loads(path.read_bytes())
            owner = Owner(**{f.name: data["owner"][f.name] for f in fields(Owner)})
            before = {name: (stamp[0], stamp[1], stamp[2]) for name, stamp in data["before"].items()}
            return cls(owner, data["folder"], before)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None


def snapshot(folder: Path) -> dict[str, FileMark]:
    """All regular files below a folder, by their path from it with `/`; symlinks are not followed."""
    found: dict[str, FileMark] = {}
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
                        stat = entry.stat(follow_symlinks=False)
                        found[name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found


def _admin(runs_root: Path, folder: Path) -> Path:
    """Path of a run folder's lock and marker, without suffix."""
    below = folder.relative_to(runs_root).as_posix()
    return runs_root / CACHE_DIR / "running" / hashlib.sha256(below.encode()).hexdigest()[:32]


def previous_folder(runs_root: Path, folder: Path) -> Path:
    """Where the last good run's files of a run folder are kept."""
    return runs_root / CACHE_DIR / "previous" / folder.relative_to(runs_root)


class Claim:
    """A run folder that this process holds. Use `Claim.take`."""

    def __init__(
        self, folder: RunFolder, marker: Path, lock: FileLock, before: Mapping[str, FileMark]
    ) -> None:
        self.folder = folder
        self.before = before
        self.edited: tuple[str, ...] = ()
        self._marker = marker
        self._lock = lock

    @classmethod
    def take(cls, folder: RunFolder, runs_root: Path, owner: Owner, *, keep_previous: bool = True) -> Claim:
        """Lock a run folder and move away what its last run wrote, and nothing else.

        Raises:
            RunFolderError: another run holds it; it lies outside the tree; it cannot be written.
        """
        try:
            _make_inside(folder.path, runs_root)
            base = _admin(runs_root, folder.path)
            base.parent.mkdir(parents=True, exist_ok=True)
            marker = base.with_suffix(".json")
            lock = _lock(base.with_suffix(".lock"), marker, folder.path)
        except OSError as exc:
            raise _unusable(folder.path, exc) from exc
        try:
            return cls._prepare(folder, runs_root, owner, marker, lock, keep_previous)
        except OSError as exc:
            lock.release()
            raise _unusable(folder.path, exc) from exc
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _prepare(
        cls,
        folder: RunFolder,
        runs_root: Path,
        owner: Owner,
        marker: Path,
        lock: FileLock,
        keep_previous: bool,
    ) -> Claim:
        clear_odd(folder)
        now = snapshot(folder.path)
        stale = Marker.load(marker)
        if stale is not None:
            # Its supervisor was killed, and may have left what it would have ended.
            host.sweep(CONTEXT, functools.partial(is_below, folder.path))
            now = _older(now, _last_sign_of_life(marker))
        mine, good = _written_by_last_run(folder, now, stale)
        before = {name: stamp for name, stamp in snapshot(folder.path).items() if name not in mine}
        # The marker is written first: after a kill in what follows, the rest of `mine` is known as ours.
        write_atomic(marker, Marker(owner, str(folder.path), before).dump())
        claim = cls(folder, marker, lock, before)
        claim.edited = _edited(folder, now, _taken_up_by_hand(marker))
        if good and keep_previous:
            _move(folder, mine, previous_folder(runs_root, folder.path))
        else:
            _remove(folder.path, mine)
        return claim

    @property
    def events_file(self) -> Path:
        """Where the child tells how far it is; beside the marker, gone with it."""
        return self._marker.with_suffix(".events")

    def heartbeat(self) -> None:
        """Say that the run is alive, for other hosts on a shared file system."""
        with suppress(OSError):
            os.utime(self._marker)

    def outputs(self, children: Iterable[str]) -> list[dict[str, Any]]:
        """What the run wrote: regular files that were not there before, ours and its flows' left out.

        Args:
            children: run folders of a build's flows, relative to this one; what lies there is theirs.
        """
        own = {path.name for path in self.folder.own_files}
        theirs = tuple(f"{child}/" for child in children)
        found = []
        for name, stamp in sorted(snapshot(self.folder.path).items()):
            if name in own or (theirs and name.startswith(theirs)):
                continue
            if name in self.before and not (name in self.edited and stamp != self.before[name]):
                # A person's own file stays theirs; one that cells wrote by hand is the run's once rewritten.
                continue
            if name.rpartition("/")[2].startswith(TEMP_PREFIX):
                (self.folder.path / name).unlink(missing_ok=True)
                continue
            found.append({"path": name, "size": stamp[0]})
        return found

    def finish(self) -> None:
        """The result is written: take the marker away, which tells the next session of a run without one.

        The folder is still held, for what is done afterwards; whoever wants it next waits.
        """
        with suppress(OSError):
            self.events_file.unlink(missing_ok=True)
            self._marker.unlink(missing_ok=True)

    def release(self, *, finished: bool) -> None:
        """Give the folder free.

        Args:
            finished: the result is written. Otherwise the marker stays.
        """
        if finished:
            self.finish()
            with suppress(OSError):
                # While the lock is held nobody else can have it; one who waits sees that the file is gone.
                Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


@contextmanager
def held(folder: Path, runs_root: Path) -> Iterator[None]:
    """Keep others from running in a run folder, without a run and without touching what lies there.

    Raises:
        RunFolderError: a run holds it.
    """
    base = _admin(runs_root, folder)
    base.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(base.with_suffix(".lock"), base.with_suffix(".json"), folder)
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _make_inside(folder: Path, runs_root: Path) -> None:
    """Make the run folder, and refuse one that a symlink leads out of the tree."""
    target = folder.resolve()
    if not target.is_relative_to(runs_root.resolve()):
        raise RunFolderError(
            f"{folder} leads out of {runs_root}: a symlink on the way points to {target}",
            hint="Remove the symlink, or link the whole runs folder instead.",
        )
    folder.mkdir(parents=True, exist_ok=True)


def refuse_folder(folder: Path, source: Path, project_root: Path) -> None:
    """Refuse a run folder that holds what is no run's: what a run writes there is cleared by the next one.

    Raises:
        RunFolderError: the project, its sources or a repository lie in it.
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
    """Remove what is no file and stands where ours belong: it would be written through, or block us."""
    for path in folder.own_files:
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)


def _last_sign_of_life(marker: Path) -> float:
    """When a run that was killed was seen alive last, as a time of the file system."""
    times = [path.stat().st_mtime for path in (marker, marker.with_suffix(".events")) if path.exists()]
    return max(times, default=0.0)


def _older(now: Mapping[str, FileMark], moment: float) -> dict[str, FileMark]:
    """The files that a killed run may have written; what is younger is a person's."""
    limit = int((moment + 2 * HEARTBEAT_SECONDS) * 1e9)
    return {name: stamp for name, stamp in now.items() if stamp[1] <= limit}


def has_unfinished_run(runs_root: Path, folder: Path) -> bool:
    """Whether a run of a folder goes on, or was killed and left no result: the one there is another one's."""
    return _admin(runs_root, folder).with_suffix(".json").exists()


def is_running(runs_root: Path, folder: Path, session_id: str) -> bool:
    """Whether a run of some session goes on in a folder, on this host or on another one."""
    from filelock import FileLock, Timeout

    base = _admin(runs_root, folder)
    marker = Marker.load(base.with_suffix(".json"))
    if marker is None or marker.owner.session_id != session_id:
        return False
    if marker.owner.host != socket.gethostname():
        return _is_beating(base.with_suffix(".json"))
    lock = FileLock(base.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def _lock(path: Path, marker: Path, folder: Path) -> FileLock:
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    limit = time.monotonic() + AFTERWARDS_SECONDS
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout as exc:
            held = Marker.load(marker)
            if held or time.monotonic() > limit:
                raise _held(folder, held.owner if held else None) from exc
            # Without a marker the run has ended, and its page is being made; or it just begins.
            time.sleep(_LOCK_POLL)
    known = Marker.load(marker)
    if known and known.owner.host != socket.gethostname() and _is_beating(marker):
        # Some shared file systems keep a lock to one host; the heartbeat crosses hosts.
        lock.release()
        raise _held(folder, known.owner)
    return lock


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


def _unusable(folder: Path, exc: OSError) -> RunFolderError:
    return RunFolderError(
        f"{exc.filename or folder}: cannot be written: {exc.strerror or exc}",
        hint="Make the runs folder writable and see that the disk has room, then run again.",
    )


def _written_by_last_run(
    folder: RunFolder, now: Mapping[str, FileMark], stale: Marker | None
) -> tuple[set[str], bool]:
    """Names of the files that the last run wrote, and whether that run was green or orange."""
    own = {path.name for path in folder.own_files}
    if stale is not None:
        # The last run never came to its end: whatever was not there before it is its own.
        nested = tuple(_nested_runs(now))
        new = {n for n in now if n not in stale.before and not (nested and n.startswith(nested))}
        return (new | own) & now.keys(), False
    try:
        last = read_result(folder.path)
    except DuctaflowError:
        last = None
    if last is None:
        return own & now.keys(), False
    written = own | {str(output["path"]) for output in last.outputs}
    return written & now.keys(), last.status.is_good


def _nested_runs(now: Mapping[str, FileMark]) -> Iterator[str]:
    """Run folders of flows inside a build: they are cleared by their own next run."""
    for name in now:
        head, _, tail = name.rpartition("/")
        if head and tail == "result.json":
            yield head + "/"


def note_hand_work(folder: Path, runs_root: Path) -> None:
    """Note the state of a run folder before a person works in it, for the next run to tell what changed."""
    note = _admin(runs_root, folder).with_suffix(".hand")
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(note, json.dumps(snapshot(folder)))


def _taken_up_by_hand(marker: Path) -> dict[str, FileMark] | None:
    """The state of the folder when a person began to work in it, None if nobody did; the note is used up."""
    note = marker.with_suffix(".hand")
    try:
        stamps = json.loads(note.read_bytes())
        note.unlink()
    except FileNotFoundError:
        return None
    return {name: (stamp[0], stamp[1], stamp[2]) for name, stamp in stamps.items()}


def _edited(
    folder: RunFolder, now: Mapping[str, FileMark], by_hand: Mapping[str, FileMark] | None
) -> tuple[str, ...]:
    """Files that were changed since the last run, or by interactive work since it began."""
    own = {path.name for path in folder.own_files}
    edited: set[str] = set()
    if by_hand is not None:
        edited = {name for name, stamp in now.items() if by_hand.get(name) != stamp and name not in own}
    try:
        last = read_result(folder.path)
    except DuctaflowError:
        last = None
    for output in last.outputs if last else ():
        name = str(output["path"])
        if name in now and now[name][0] != output["size"]:
            edited.add(name)
    return tuple(sorted(edited))


def _move(folder: RunFolder, names: Iterable[str], target: Path) -> None:
    kept = RunFolder(target, folder.flow)
    older, _ = _written_by_last_run(kept, snapshot(target), None)
    _remove(target, older)
    for name in sorted(names):
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        # A flow may have made its output read-only; moving needs the folder's permission only.
        shutil.move(folder.path / name, destination)
    _prune(folder.path, names)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    _prune(folder, names)


def _prune(folder: Path, names: Iterable[str]) -> None:
    """Remove the sub-folders that held nothing else."""
    parents = {parent for name in names for parent in Path(name).parents if parent != Path()}
    for parent in sorted(parents, key=lambda p: len(p.parts), reverse=True):
        with suppress(OSError):
            (folder / parent).rmdir()


def unfinished(runs_root: Path) -> list[Unfinished]:
    """Runs of the tree that were started and whose supervisor is gone without a result."""
    from filelock import FileLock, Timeout

    found = []
    for path in sorted((runs_root / CACHE_DIR / "running").glob("*.json")):
        marker = Marker.load(path)
        if marker is None or marker.owner.host != socket.gethostname():
            continue
        lock = FileLock(path.with_suffix(".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        except OSError:
            # A tree that cannot be written has no runs of ours going on in it.
            continue
        if path.exists():
            found.append(Unfinished(Path(marker.folder), marker.owner))
        lock.release()
    return found
