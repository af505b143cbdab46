"""Hashes of files, kept so that a file is read again only when it may have changed.

    runs/.ductaflow/hashes/3f     lines: file, size and times and inode, hash; appended, never locked
    runs/.ductaflow/folders/..    what large folders held, by the hash of that

A kept hash is valid while size, times and inode stay the same. A file that changed less than two seconds
before it was read is not kept: an edit in the same tick of the file system's clock would go unnoticed (git
calls such entries racy). Each line has a checksum, so that half a line (a full disk, two hosts that append at
once) is skipped. If anything is wrong with the store, the files are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ductaflow.common.decode import UnreadableError, decode
from ductaflow.common.files import open_regular, stamp_of, write_atomic
from ductaflow.common.paths import CACHE_DIR
from ductaflow.store.fingerprint import code_hash, module_hash
from ductaflow.store.sessions import Part

What = Literal["content", "code", "module"]
#: Kept in the store, where a hash of another kind of the same file is another entry.
_LETTERS: dict[What, str] = {"content": "f", "code": "c", "module": "m"}
#: No file system has a coarser clock.
RACY_NS = 2_000_000_000
_BUCKETS = 256
#: New hashes are written when there are so many of them, or after so many seconds.
_HELD, _HELD_SECONDS = 1000, 1.0
#: A bucket larger than this, in bytes, is rewritten when half of it is superseded.
_LARGE = 1 << 16
_CHUNK = 1 << 20
#: So many large folders are kept as they were.
_LISTINGS = 50


class StoppedError(Exception):
    """Reading a file was stopped because nobody waits for it any more."""


class Hashes:
    """The kept hashes of one tree of runs. Threads may share it.

    Args:
        folder: where they are kept.
        root: files below it are kept by relative path, so that they are found after the project moved.
        now: the time in ns, for tests.
    """

    def __init__(self, folder: Path, root: str, now: Callable[[], int] = time.time_ns) -> None:
        self.folder = folder
        #: Why hashes cannot be kept or read back; None if they can.
        self.fault: str | None = None
        self._prefix = root.rstrip(os.sep) + os.sep
        self._now = now
        self._lock = threading.Lock()
        self._buckets: dict[int, dict[bytes, bytes]] = {}
        self._new: dict[int, dict[bytes, bytes]] = {}
        self._count = 0
        self._held_since = 0.0

    def of(
        self,
        path: str,
        what: What = "content",
        *,
        status: os.stat_result | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> str:
        """Return the hash of a regular file, in hex, or of the code that it holds.

        Args:
            status: of the file, where it is known already.
            stopped: asked now and then while the file is read; True ends that.

        Raises:
            OSError: it cannot be read, or is no regular file.
            StoppedError: `stopped` returned True.
        """
        status = status or os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "no regular file", path)
        stamp = b"%d %d %d %d" % stamp_of(status)
        key = self._key(path, what)
        known = self._lookup(key)
        if known is not None and known[0] == stamp:
            return known[1].decode()
        begun = self._now()
        found = hash_file(path, what, stopped)
        if max(status.st_mtime_ns, status.st_ctime_ns) < begun - RACY_NS:
            # A change since `status` would have a time that is not older than `begun`.
            self._keep(key, stamp, found.encode())
        return found

    def keep_files(self, digest: str, files: Mapping[str, str]) -> None:
        """Keep what a large folder held, so that later a file of it can be named that is another one."""
        path = self._listings / digest
        try:
            if path.exists():
                os.utime(path)
                return
            self.folder.parent.mkdir(exist_ok=True)
            self._listings.mkdir(exist_ok=True)
            write_atomic(path, zlib.compress(json.dumps(files).encode(), 1), sync=False)
            kept = sorted(self._listings.iterdir(), key=lambda file: file.stat().st_mtime_ns)
            for old in kept[:-_LISTINGS]:
                old.unlink(missing_ok=True)
        except FileNotFoundError:
            # The tree was removed.
            return
        except OSError as exc:
            self.fault = f"{self._listings}: what folders hold cannot be kept: {exc.strerror or exc}"

    def kept_files(self, digest: str) -> dict[str, str] | None:
        """Return what a large folder held; None if it is not known any more."""
        path = self._listings / digest
        try:
            return decode(zlib.decompress(path.read_bytes()), dict[str, str], where=path)
        except (OSError, zlib.error, UnreadableError):
            return None

    @property
    def _listings(self) -> Path:
        return self.folder.with_name("folders")

    def flush(self) -> None:
        """Write what is new."""
        with self._lock:
            self._write()

    # --- the store ---

    def _key(self, path: str, what: What) -> bytes:
        inside = path.startswith(self._prefix)
        name = path[len(self._prefix) :] if inside else path
        return (_LETTERS[what] + json.dumps(name)).encode()

    def _lookup(self, key: bytes) -> tuple[bytes, bytes] | None:
        with self._lock:
            number = zlib.crc32(key) % _BUCKETS
            bucket = self._buckets.get(number)
            if bucket is None:
                bucket = self._buckets[number] = self._read(number)
            rest = bucket.get(key)
        if rest is None:
            return None
        stamp, _, tail = rest.partition(b"\t")
        found, _, check = tail.partition(b"\t")
        return (stamp, found) if check == _checksum(key, stamp, found) else None

    def _keep(self, key: bytes, stamp: bytes, found: bytes) -> None:
        with self._lock:
            number = zlib.crc32(key) % _BUCKETS
            rest = b"\t".join((stamp, found, _checksum(key, stamp, found)))
            self._buckets.setdefault(number, {})[key] = rest
            self._new.setdefault(number, {})[key] = rest
            self._count += 1
            if self._count == 1:
                self._held_since = time.monotonic()
            elif self._count >= _HELD or time.monotonic() - self._held_since > _HELD_SECONDS:
                self._write()

    def _read(self, number: int) -> dict[bytes, bytes]:
        path = self._path(number)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as exc:
            self.fault = f"{path}: kept hashes cannot be read: {exc.strerror or exc}"
            return {}
        lines = raw.split(b"\n")
        bucket = {}
        for line in lines:
            key, _, rest = line.partition(b"\t")
            bucket[key] = rest
        if len(raw) > _LARGE and len(bucket) < len(lines) / 2:
            # What another process appends meanwhile is lost, and hashed again.
            with suppress(OSError, UnicodeDecodeError):
                text = b"".join(b"%s\t%s\n" % item for item in bucket.items() if item[0]).decode()
                write_atomic(path, text, sync=False)
        return bucket

    def _write(self) -> None:
        new, self._new, self._count = self._new, {}, 0
        try:
            if new:
                # Without its parents: the hashes do not bring back a tree that was removed.
                self.folder.parent.mkdir(exist_ok=True)
                self.folder.mkdir(exist_ok=True)
            for number, lines in new.items():
                # The leading line end confines half a line of another process to that line.
                data = b"\n" + b"".join(b"%s\t%s\n" % item for item in lines.items())
                handle = os.open(self._path(number), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                try:
                    os.write(handle, data)
                finally:
                    os.close(handle)
        except FileNotFoundError:
            return
        except OSError as exc:
            self.fault = f"{self.folder}: hashes cannot be kept: {exc.strerror or exc}"

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:02x}"


def _checksum(*parts: bytes) -> bytes:
    return b"%08x" % zlib.crc32(b"\t".join(parts))


def hash_file(path: str, what: What = "content", stopped: Callable[[], bool] = lambda: False) -> str:
    """Read a file and return its hash: see `Hashes.of`."""
    handle, _ = open_regular(path)
    with os.fdopen(handle, "rb", buffering=0) as file:
        if what == "code":
            return code_hash(file.read(), os.path.splitext(path)[1])
        if what == "module" and path.endswith(".py"):
            return module_hash(file.read())
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if stopped():
                raise StoppedError(path)
    return digest.hexdigest()


class HashStores(Part):
    """The kept hashes of the trees of runs that a session uses: one object for each tree."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str], Hashes] = {}
        self._lock = threading.Lock()

    def of(self, runs_root: str, project_root: str) -> Hashes:
        """Return the kept hashes of a tree of runs."""
        with self._lock:
            key = runs_root, project_root
            if key not in self._stores:
                self._stores[key] = Hashes(Path(runs_root) / CACHE_DIR / "hashes", project_root)
            return self._stores[key]

    def end(self, *, orderly: bool) -> None:
        """Write what is new."""
        for store in self._stores.values():
            store.flush()
