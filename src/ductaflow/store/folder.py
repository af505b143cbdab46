"""The run folder during a run: who holds it, what was there before, what the run wrote.

    claim = Claim.take(folder, owner)    lock it, list what is there, move away what the last run wrote
    ... the run ...
    claim.outputs(children)              what is new
    claim.release()

Our own files are in `runs/.ductaflow/`, never in a run folder, where a flow that globs would read them:

    running/<hash>.lock    held by the supervisor of the run; the system frees it when the supervisor dies
    running/<hash>.json    the marker: who runs it, what was in the folder before; touched as a heartbeat
    previous/<path>/       what the last good run wrote, one generation (`previous.py`)
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ductaflow.common import host
from ductaflow.common.decode import RefusedError, UnreadableError, read_json
from ductaflow.common.errors import DuctaflowError, RunFolderError
from ductaflow.common.files import (
    PathState,
    Snapshot,
    set_aside,
    snapshot,
    state_of,
    sweep_temporary,
    unlock,
    write_atomic,
)
from ductaflow.common.paths import CACHE_DIR, CONTEXT, METRICS, TEMP_PREFIX, RunFolder, ran_among, relative
from ductaflow.notebook.export import end_announcement
from ductaflow.project.strict_json import LONE_SURROGATE
from ductaflow.store.previous import keep, nested_runs, previous_folder, refuse_links, remove
from ductaflow.store.result import FileEntry, Result, read_result, readable_result
from ductaflow.store.spec import is_below

if TYPE_CHECKING:
    from filelock import FileLock

T = TypeVar("T")
#: Gives another process a descriptor of a lock, whose folder is held as long as it is open anywhere, and the
#: file of the lock, which that process removes first. Returns whether it has them.
HandOver = Callable[[int, str], bool]


#: A run on another host counts as dead when its last heartbeat is older, in seconds.
LEASE_SECONDS = 60.0
#: Also how exactly we know until when a killed run may have written files.
HEARTBEAT_SECONDS = 1.0
#: How long a run folder may stay held after the run, in seconds, while its page is being made.
AFTERWARDS_SECONDS = 60.0
#: How long a process that is being killed may still hold a folder, in seconds.
_LET_GO_SECONDS = 2.0
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
    """The file beside the lock during a run.

    Attributes:
        before: what lies in the folder and stays.
        moving: id of the last run, whose files are moved away first. As long as its result lies in the folder
            they all do, and this run has not begun.
    """

    owner: Owner
    folder: Path
    before: Snapshot
    moving: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its result is there: the supervisor was killed after it had written it."""
        result = readable_result(self.folder)
        return result is not None and result.run_id == self.owner.run_id

    @classmethod
    def load(cls, path: Path, notes: list[str] | None = None) -> Marker | None:
        """Return the marker; None if there is none, or if it cannot be read, which `notes` gets."""
        try:
            return read_json(path, cls)
        except UnreadableError as exc:
            if notes is not None:
                notes.append(f"what is known of the last run here was lost: {exc.message}")
            return None


def _admin(runs_root: Path, folder: Path, suffix: str) -> Path:
    """Return the path of a run folder's lock or marker, or of what lies beside them."""
    return Path(_admin_path(os.fspath(runs_root), folder.relative_to(runs_root).as_posix(), suffix))


def _admin_path(runs_root: str, name: str, suffix: str) -> str:
    """Return the same as text, by what the run folder is called from the tree of runs."""
    hashed = hashlib.sha256(name.encode()).hexdigest()[:32]
    return os.path.join(runs_root, CACHE_DIR, "running", f"{hashed}{suffix}")


class Claim:
    """A run folder that this process holds. Use `Claim.take`."""

    def __init__(self, folder: RunFolder, marker: Path, lock: FileLock, before: Snapshot) -> None:
        self.folder = folder
        self.before = before
        self._folders_before = _folders_in(before)
        self.edited: tuple[str, ...] = ()
        self._kept_before: tuple[str, ...] = ()
        self.notes: list[str] = []
        self._marker = marker
        self._lock = lock
        self._is_handed_over = False

    @classmethod
    def take(cls, folder: RunFolder, runs_root: Path, owner: Owner, *, keep_previous: bool = True) -> Claim:
        """Lock a run folder and move away what its last run wrote, nothing else.

        Raises:
            RunFolderError: another run holds it; it lies outside the tree; it cannot be written.
        """
        try:
            _make_inside(folder.path, runs_root)
            refuse_links(runs_root, folder.path)
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
        marker = _admin(runs_root, folder.path, ".json")
        _sweep(folder, runs_root)
        end_announcement(folder)
        _clear_odd(folder)
        notes: list[str] = []
        stale = _as_left(lambda: read_json(marker, Marker), notes)
        last = _as_left(lambda: read_result(folder.path), [])
        if stale is None and last is None:
            notes += _keep_what_was_there(folder)
        now = snapshot(folder.path)
        if stale is not None:
            # Its supervisor was killed and may have left processes behind.
            host.sweep(CONTEXT, functools.partial(is_below, folder.path))
            if last is not None and (stale.has_ended or last.run_id == stale.moving):
                # It had ended, or had not begun yet.
                stale = None
            else:
                now = _older(now, _last_sign_of_life(marker))
        mine, good = _written_by_last_run(folder, now, stale, last)
        kept = last.kept_files if last and not stale else ()
        stay = _folders_in(stale.before) if stale else last.kept_folders if last else ()
        before = {name: entry for name, entry in snapshot(folder.path).items() if name not in mine}
        for name in stay:
            with suppress(FileNotFoundError):
                before[name] = state_of(os.path.join(folder.path, name))
        good = good and keep_previous
        begun = Marker(owner, folder.path, before, last.run_id if last and good else None)
        # The marker comes first: after a kill in what follows, the next claim still knows the rest of `mine`.
        write_atomic(marker, json.dumps(asdict(begun), default=os.fspath))
        claim = cls(folder, marker, lock, before)
        claim.notes = notes
        try:
            claim.edited = _edited(folder, now, _taken_up_by_hand(marker), last)
            claim._kept_before = kept
            if good:
                keep(folder.path, mine, previous_folder(runs_root, folder.path), shared=now.keys() & kept)
            remove(folder.path, mine, but=stay)
        except BaseException:
            if last is not None and stale is None and folder.result.exists():
                # All lies in the folder as before, so this run has not been.
                marker.unlink(missing_ok=True)
            raise
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
        """Return what the run wrote: new or other entries, not ours nor of its flows (`children`)."""
        own = {path.name for path in self.folder.own_files}
        theirs = tuple(f"{child}/" for child in children)
        found = []
        for name, entry in sorted(snapshot(self.folder.path).items()):
            if name in own or name.startswith(theirs) or name in self._folders_before:
                continue
            if name in self.before and not entry.is_other_than(self.before[name]):
                continue
            if self._is_set_aside(name, entry):
                continue
            if name.rpartition("/")[2].startswith(TEMP_PREFIX):
                (self.folder.path / name).unlink(missing_ok=True)
                continue
            output = FileEntry(path=name, size=entry.size)
            if entry.kind != "file":
                output["kind"] = entry.kind
            if entry.kind == "link":
                output["target"] = entry.target
            found.append(output)
        return found

    def _is_set_aside(self, name: str, entry: PathState) -> bool:
        """Return whether this is what lay in the place of the metrics, moved out of the way by `record`."""
        there = self.before.get(METRICS)
        return there is not None and name != METRICS and not entry.is_other_than(there)

    def kept_files(self, outputs: Iterable[FileEntry]) -> tuple[str, ...]:
        """Return the outputs that the run wrote over what was there before: the next run leaves them there.

        They may hold what a person wrote. A file from work by hand is the run's once rewritten, and so are
        metrics: what lay in their place has another name.
        """
        run_owned = {METRICS, *self.edited} - {*self._kept_before}
        names = {output["path"] for output in outputs}
        return tuple(sorted(names & self.before.keys() - run_owned))

    def kept_folders(self, outputs: Iterable[FileEntry]) -> tuple[str, ...]:
        """Return the folders with outputs that were there before the run: a person's, which stay."""
        parents = {parent.as_posix() for output in outputs for parent in Path(output["path"]).parents}
        return tuple(sorted(parents & self._folders_before))

    def withdraw(self) -> None:
        """Remove what was written for a run that could not begin; nothing says that it was lost."""
        remove(self.folder.path, [path.name for path in self.folder.own_files])
        self.finish()

    def make_room(self) -> None:
        """Remove what is not needed any more once a run has ended, on a disk that is full."""
        self.events_file.unlink(missing_ok=True)
        self._marker.with_suffix(".spec").unlink(missing_ok=True)

    def finish(self) -> None:
        """Remove the marker, once there is a result; the folder stays held, and its next run waits."""
        with suppress(OSError):
            self.make_room()
            self._marker.unlink(missing_ok=True)

    def hand_over(self, to: HandOver) -> bool:
        """Let another process hold the folder; return whether it does. Then this process does not."""
        self._is_handed_over = _hand_over(self._lock, to)
        return self._is_handed_over

    def release(self, *, finished: bool) -> None:
        """Release the folder; unless it is `finished`, with a result, the marker stays."""
        if self._is_handed_over:
            self._lock.release()
            return
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
        RunFolderError: it holds one of them, or its path is none that can be written down.
    """
    name = os.fspath(folder)
    if not name.isascii() and LONE_SURROGATE.search(name):
        shown = os.fsencode(name).decode("utf-8", "replace")
        locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "C")
        if "\ufffd" in shown:
            raise RunFolderError(f"{shown}: this path is not UTF-8", hint="Rename the folder.")
        raise RunFolderError(
            f"{shown}: Python does not read this path as UTF-8, since the locale is {locale}",
            hint="Set PYTHONUTF8=1 or LC_ALL=C.UTF-8.",
        )
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


def _sweep(folder: RunFolder, runs_root: Path) -> None:
    """Remove the temporary files of processes that were killed: in a folder that is held here, all."""
    for path in folder.path.glob(f"{TEMP_PREFIX}*"):
        with suppress(IsADirectoryError):
            path.unlink(missing_ok=True)
    for place in (runs_root, runs_root / CACHE_DIR, runs_root / CACHE_DIR / "running"):
        sweep_temporary(place)


def _folders_in(entries: Snapshot) -> set[str]:
    """Return all folders that some entries of a folder stand for, at any depth."""
    parents = {parent.as_posix() for name in entries for parent in Path(name).parents}
    return (parents | {name for name, entry in entries.items() if entry.kind == "folder"}) - {"."}


def _clear_odd(folder: RunFolder) -> None:
    """Remove links, pipes and folders in the places of our files: we would write through them or fail."""
    for path in folder.own_files:
        if path.is_dir() and not path.is_symlink():
            if os.listdir(path):
                set_aside(path)
            else:
                path.rmdir()
        elif os.path.lexists(path) and not (path.is_file() and not path.is_symlink()):
            path.unlink()


def _keep_what_was_there(folder: RunFolder) -> Iterator[str]:
    """Set aside files with names of ours in a folder in which nothing has run; yield a note for each.

    A saved config, and a notebook beside one, are of a run that is prepared.
    """
    if ran_among(os.listdir(folder.path)):
        return
    prepared = (folder.config, folder.notebook) if folder.config.exists() else ()
    for path in folder.own_files:
        if path.exists() and path not in prepared:
            yield f"{path.name} was there before anything had run: it is kept as {set_aside(path).name}"


def _last_sign_of_life(marker: Path) -> float:
    """Return when a killed run was last seen alive, by the clock of the file system."""
    times = [path.stat().st_mtime for path in (marker, marker.with_suffix(".events")) if path.exists()]
    return max(times, default=0.0)


def _older(now: Snapshot, moment: float) -> Snapshot:
    """Return the files that a killed run may have written; younger ones are a person's."""
    limit = int((moment + 2 * HEARTBEAT_SECONDS) * 1e9)
    return {name: stamp for name, stamp in now.items() if stamp.mtime <= limit}


def has_unfinished_run(runs_root: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Return whether a run of a folder is going on or was killed, so that its result is an older run's."""
    path = _admin_path(os.fspath(runs_root), relative(folder, runs_root), ".json")
    if not os.path.exists(path):
        return False
    marker = Marker.load(Path(path))
    return marker is None or not marker.has_ended


def is_running(runs_root: Path, folder: Path, session_id: str) -> bool:
    """Return whether a run of a session is going on in a folder, on this host or another one."""
    path = _admin(runs_root, folder, ".json")
    marker = Marker.load(path)
    if marker is None or marker.owner.session_id != session_id:
        return False
    return _is_held(path) if marker.owner.host == socket.gethostname() else _is_beating(path)


def supervisor_of(runs_root: Path, folder: Path) -> int | None:
    """Return the process that looks after a run of a folder on this host; None if there is none."""
    marker = Marker.load(_admin(runs_root, folder, ".json"))
    return marker.owner.pid if marker and marker.owner.host == socket.gethostname() else None


def _lock(runs_root: Path, folder: Path, *, within: float | None = None) -> FileLock:
    from filelock import FileLock, Timeout

    marker = _admin(runs_root, folder, ".json")
    marker.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(marker.with_suffix(".lock"))
    begun = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout as exc:
            held = Marker.load(marker)
            # Without a marker the run has ended and its page is being made, or it just begins. A process that
            # was killed gives its connections back before its lock, so whoever hears of it is faster.
            limit = (AFTERWARDS_SECONDS if within is None else within) if held is None else _LET_GO_SECONDS
            if (held and not _is_ending(held.owner)) or time.monotonic() > begun + limit:
                raise _held(folder, held.owner if held else None) from exc
            time.sleep(_LOCK_POLL)
    known = Marker.load(marker)
    if known and known.owner.host != socket.gethostname() and _is_beating(marker):
        # On some shared file systems a lock is seen on one host only; the heartbeat is seen everywhere.
        lock.release()
        raise _held(folder, known.owner)
    return lock


def _is_ending(owner: Owner) -> bool:
    return owner.host == socket.gethostname() and host.is_ending(owner.pid)


def hand_over_again(folder: Path, runs_root: Path, run_id: str, to: HandOver) -> bool:
    """Let another process hold a folder in which nothing has run since a run has ended.

    Returns:
        Whether it does.
    """
    try:
        lock = _lock(runs_root, folder, within=_LET_GO_SECONDS)
    except RunFolderError:
        return False
    handed_over = False
    try:
        result = readable_result(folder)
        handed_over = result is not None and result.run_id == run_id and _hand_over(lock, to)
    finally:
        if not handed_over:
            _remove_lock(lock)
        lock.release()
    return handed_over


def _hand_over(lock: FileLock, to: HandOver) -> bool:
    held = _descriptor_of(lock.lock_file)
    if held is None or not to(held, lock.lock_file):
        return False
    # In its place something that can be unlocked and closed: to unlock the lock itself would take it from the
    # other process too.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, held, inheritable=False)
    os.close(nothing)
    return True


def _descriptor_of(lock_file: str) -> int | None:
    """Return the descriptor by which this process holds a lock; None if it is held in another way (Linux)."""
    import fcntl

    for name in os.listdir("/proc/self/fd"):
        # One of them was the listing.
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{name}") == lock_file:
                with open(lock_file, "rb") as other:
                    try:
                        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        return int(name)
    return None


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
    folder: RunFolder, now: Snapshot, stale: Marker | None, last: Result | None
) -> tuple[set[str], bool]:
    """Return the names of the files that the last run wrote, and whether that run was good."""
    own = {path.name for path in folder.own_files}
    if stale is not None:
        # The last run never ended: everything that was not there before it is its own.
        nested = nested_runs(now)
        new = {n for n in now if n not in stale.before and not n.startswith(nested)}
        return (new | own) & now.keys(), False
    if last is None:
        return own & now.keys(), False
    written = own | {output["path"] for output in last.outputs}.difference(last.kept_files)
    return written & now.keys(), last.is_complete


def note_hand_work(folder: Path, runs_root: Path) -> None:
    """Note the state of a run folder before a person works in it, so that the next run knows what changed."""
    note = _admin(runs_root, folder, ".hand")
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(note, json.dumps(snapshot(folder)))


def _taken_up_by_hand(marker: Path) -> Snapshot | None:
    """Return the state of the folder when a person began to work in it, and remove the note."""
    note = marker.with_suffix(".hand")
    found = _as_left(lambda: read_json(note, Snapshot), [])
    note.unlink(missing_ok=True)
    return found


def _as_left(read: Callable[[], T | None], notes: list[str]) -> T | None:
    """Return what a file of the last run says; None if there is none, or it is damaged, which `notes` gets.

    A file that cannot be read now may be good, so nothing is moved or removed on a guess.
    """
    try:
        return read()
    except RefusedError as exc:
        raise RunFolderError(exc.message, hint=exc.hint or "Nothing was changed; run again then.") from exc
    except DuctaflowError as exc:
        notes.append(f"what is known of the last run here was lost: {exc.message}")
        return None


def _edited(
    folder: RunFolder,
    now: Snapshot,
    by_hand: Snapshot | None,
    last: Result | None,
) -> tuple[str, ...]:
    """Return the files that changed since the last run, or in interactive work since it began."""
    own = {path.name for path in folder.own_files}
    edited: set[str] = set()
    if by_hand is not None:
        edited = {n for n, entry in now.items() if entry.is_other_than(by_hand.get(n)) and n not in own}
    for output in last.outputs if last else ():
        name = output["path"]
        if name in now and (now[name].size, now[name].target) != (output["size"], output.get("target", "")):
            edited.add(name)
    return tuple(sorted(edited))


def begun(runs_root: Path, faults: list[str] | None = None) -> Iterator[tuple[Marker, bool]]:
    """Yield the markers of runs without a result, and whether the supervisor is gone.

    Args:
        runs_root: the folder of all runs.
        faults: gets what is wrong with a marker that cannot be read.
    """
    for path in sorted((runs_root / CACHE_DIR / "running").glob("*.json")):
        marker = Marker.load(path, faults)
        if marker is None or marker.has_ended:
            continue
        is_lost = False
        # On another host the lock may not be seen; in a tree that cannot be written no run is going on.
        if marker.owner.host == socket.gethostname():
            with suppress(OSError):
                is_lost = not _is_held(path)
        # Its run may have ended in the meantime.
        if path.exists():
            yield marker, is_lost


def unfinished(runs_root: Path, faults: list[str] | None = None) -> list[Marker]:
    """Return the markers of runs whose supervisor is gone without a result; `faults` gets unreadable ones."""
    return [marker for marker, is_lost in begun(runs_root, faults) if is_lost]


def _is_held(marker: Path) -> bool:
    """Return whether a process on this host holds the lock beside a marker."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(marker.with_suffix(".lock"), timeout=0):
            return False
    except Timeout:
        return True


# --- a run folder that is cleared without a run ------------------------------------------------------------


def written_in(folder: RunFolder, runs_root: Path) -> set[str]:
    """Return the names of what the last run of a folder wrote; what a person put there is not among them."""
    marker = _admin(runs_root, folder.path, ".json")
    now, stale = snapshot(folder.path), Marker.load(marker)
    if stale is not None and stale.has_ended:
        stale = None
    if stale is not None:
        now = _older(now, _last_sign_of_life(marker))
    return _written_by_last_run(folder, now, stale, readable_result(folder.path))[0]


def move_away(folder: RunFolder, runs_root: Path, target: Path) -> None:
    """Move what the last run wrote somewhere else, as if nothing had run there. The folder has to be held."""
    names, last = written_in(folder, runs_root), readable_result(folder.path)
    own = {path.name for path in folder.own_files}
    with ExitStack() as until:
        # Ours come last: if this is killed, they still tell what of the rest is the run's.
        for name in sorted(names, key=lambda name: (name in own, name)):
            source, destination = folder.path / name, target / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            unlock(str(source.parent), os.W_OK | os.X_OK, until)
            if state_of(str(source)).kind == "folder":
                destination.mkdir()
            else:
                shutil.move(source, destination)
    remove(folder.path, names, but=last.kept_folders if last else ())
    with suppress(OSError):
        # A person's files may lie there.
        folder.path.rmdir()
    for suffix in (".json", ".events", ".hand", ".spec"):
        _admin(runs_root, folder.path, suffix).unlink(missing_ok=True)
