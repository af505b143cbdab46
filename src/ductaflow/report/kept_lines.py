"""What a report writes of an instance, kept from one session to the next.

    runs/.ductaflow/lines      parts of a hundred instances: a line of their keys, then their texts, packed

What a report has of a run depends on its result, on what the session says of it, and on some files. As long
as none of these is another one, the texts are copied instead of made, which takes a tenth of the time: most
instances of a large project are not touched by a session. A file counts by size, times and inode, as hashes
do (`store/hashes.py`); texts are not kept if one of their files was written less than two seconds before they
were made, nor those of a build, whose flows have files of their own. The code that makes texts counts too.

Sessions append to the file without a lock. Nothing depends on it: what is not there, or is damaged, is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypedDict

from ductaflow.common.decode import UnreadableError, decode, encoded
from ductaflow.common.files import stamp_of_file, write_atomic
from ductaflow.common.paths import BASE_CONFIG, CACHE_DIR, KIND_DIRS, RunFolder
from ductaflow.report.page import RowParts
from ductaflow.report.schema import InstanceTwin
from ductaflow.report.twin import Entry, Sources
from ductaflow.store.hashes import RACY_NS
from ductaflow.store.previous import previous_root
from ductaflow.store.result import Result, Status

#: Instances of a part: they are unpacked together.
PART = 100
#: Parts that are held unpacked: results of several workers come nearly in order.
_HELD = 4
#: Longer texts, which have large pictures, are not kept; a part is not much longer than the other one.
_LONGEST, _LONG_PART = 250_000, 1_000_000
#: A file with more than this many texts for each that a session needs is written anew.
_TIMES = 3


class Texts(NamedTuple):
    """What a report writes of an instance, without what came of it before.

    Attributes:
        twin: the line of the JSON twin, with `_SOMEBODY` as its worker, which is another one each time.
        row: the row of the page without its place in it, as JSON.
        details: those of the page; empty if there are none.
        pictures: the characters of its figures, and whether they are those of a good run, as JSON.
    """

    twin: str
    row: str
    details: str
    pictures: str

    def twin_of(self, entry: Entry) -> str:
        """Return the line of the twin."""
        return self.twin.replace(_SOMEBODY, _worker(entry.worker), 1)


def _worker(name: str | None) -> str:
    # with the key behind it: a metric may be called like this one
    return f'"worker": {json.dumps(name)}, "rerun": '


_SOMEBODY = _worker("\0\0")


def texts_of(data: InstanceTwin, twin: str, parts: RowParts) -> Texts | None:
    """Return what is written of an instance, to be kept; None where its worker cannot be told from the rest.

    Args:
        data: of the twin; twin: as JSON; parts: the row and the details of the page.
    """
    worker = _worker(data["worker"])
    if twin.count(worker) != 1 or _SOMEBODY in twin:
        return None
    is_good = not Status(data["former_status"] or data["status"]).needs_attention
    pictures = json.dumps([sum(len(one["data"]) for one in data["figures"]), is_good])
    row = json.dumps(parts.row, allow_nan=False)
    return Texts(twin.replace(worker, _SOMEBODY), row, parts.details, pictures)


class _Part(TypedDict):
    """The head of a part of the file: the keys of its texts, and its length."""

    keys: list[str]
    size: int


class KeptLines:
    """The texts of earlier sessions of one tree of runs.

    Args:
        sources: of the report that is made.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._path = sources.runs_dir / CACHE_DIR / "lines"
        self._runs = os.fspath(sources.runs_dir.absolute())
        self._previous = os.fspath(previous_root(Path(self._runs)))
        self._bases: dict[tuple[str, str], bytes | None] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._file: BinaryIO | None = None
        self._places: dict[bytes, int] | None = None
        self._parts: list[tuple[int, int]] = []
        self._held: dict[int, list[str]] = {}
        self._is_damaged = False
        self._used: dict[bytes, None] = {}
        self._new = _Packing()

    # --- keys --------------------------------------------------------------------------------------------

    def key(self, entry: Entry) -> bytes | None:
        """Return what the texts of an instance depend on, as a hash; None if they are not kept."""
        result = entry.result
        was_run = result.status is Status.UNCHANGED and result.former_status is not None
        is_known = entry.is_stored or entry.nodeid is not None
        if result.folder is None or not result.run_id or result.children or not is_known:
            return None
        if not (was_run or entry.earlier) or entry.parameters or entry.fails:
            return None
        if not (result.former_status or result.status).has_run or not self._of_session:
            return None
        seen = self._seen(result, os.fspath(result.folder))
        base = self._base(result)
        if seen is None or base is None:
            return None
        facts = (
            *(entry.nodeid, entry.earlier, entry.tags, entry.upstreams, entry.is_stored, entry.orphan),
            result,
        )
        if (told := encoded(facts)) is None:
            return None
        digest = hashlib.blake2b(b"\n".join((self._of_session, base, seen, told)), digest_size=16)
        return digest.digest()

    @cached_property
    def _of_session(self) -> bytes:
        """What all texts of a session depend on: where the project lies, and the code that makes them.

        It is empty where our code is in an archive, of which nobody knows when it is another one.
        """
        project = self._sources.project
        places = [self._runs, str(project and project.root), str(project and project.config_dir)]
        code = [
            (os.path.relpath(os.path.join(folder, name), _PACKAGE), *_sign(os.path.join(folder, name)))
            for folder, _, names in sorted(os.walk(_PACKAGE))
            for name in sorted(names)
            if name.endswith(".py")
        ]
        if not code:
            return b""
        return hashlib.sha256(repr([places, code]).encode("utf-8", "backslashreplace")).digest()

    def _seen(self, result: Result, folder: str) -> bytes | None:
        """The files of a run and of the last good one before it; None if they may be about to change."""
        below = self._runs + os.sep
        if not folder.startswith(below):
            return None
        if result.flow not in self._names:
            own = RunFolder(Path(), result.flow).own_files
            self._names[result.flow] = tuple(path.name for path in own)
        before = os.path.join(self._previous, folder[len(below) :])
        names = self._names[result.flow]
        paths = [f"{folder}{os.sep}{name}" for name in names]
        is_kept = os.path.isdir(before)
        if is_kept:
            paths += (f"{before}{os.sep}{name}" for name in names)
        found = _stamps(paths)
        if found is None or is_kept or not result.metrics:
            return found
        # what it found is known by the file of numbers alone
        numbers = self._sources.before.of(result, RunFolder(Path(folder), result.flow), nested=False)
        known = encoded(dict(numbers.metrics))
        return None if known is None else found + known

    def _base(self, result: Result) -> bytes | None:
        """The base configs of a flow."""
        kind, project = KIND_DIRS[result.kind], self._sources.project
        if (kind, result.flow) not in self._bases:
            stored = os.fspath(project.config_dir) if project else ""
            files = (os.path.join(stored, BASE_CONFIG), os.path.join(stored, kind, f"{result.flow}.json"))
            self._bases[kind, result.flow] = _stamps(files) if project else b""
        return self._bases[kind, result.flow]

    # --- texts -------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> Texts | None:
        """Return the texts of an earlier session."""
        place = self._known.get(key)
        if place is None:
            return None
        number, line = divmod(place, PART)
        try:
            part = self._held.get(number) or self._unpack(number)
            texts = Texts(*part[line * _LINES : (line + 1) * _LINES])
        except (OSError, ValueError, TypeError, zlib.error):
            self._is_damaged = True
            return None
        self._used[key] = None
        return texts

    def keep(self, key: bytes, texts: Texts | None) -> None:
        """Keep the texts of an instance that have just been made."""
        if texts and sum(map(len, texts)) <= _LONGEST:
            self._new.add(key, texts)

    @property
    def _known(self) -> dict[bytes, int]:
        """Where the texts of each key are: the number of the part, times `PART`, and the place in it."""
        if self._places is None:
            self._places = {}
            for keys in self._heads():
                first = (len(self._parts) - 1) * PART
                self._places |= {key: first + place for place, key in enumerate(keys[:PART])}
        return self._places

    def _heads(self) -> Iterator[list[bytes]]:
        """Yield the keys of each part of the file."""
        try:
            self._file = self._path.open("rb")
            size = os.fstat(self._file.fileno()).st_size
            while line := self._file.readline():
                head = decode(line, _Part, where=self._path)
                begin = self._file.tell()
                if head["size"] < 0 or begin + head["size"] > size:
                    raise ValueError("half a part")
                self._parts.append((begin, head["size"]))
                self._file.seek(begin + head["size"])
                yield [bytes.fromhex(key) for key in head["keys"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, UnreadableError):
            # All behind it is lost, and what sessions append would be.
            self._is_damaged = True

    def _unpack(self, number: int) -> list[str]:
        assert self._file is not None
        begin, size = self._parts[number]
        self._file.seek(begin)
        lines = zlib.decompress(self._file.read(size)).decode("ascii").split("\n")
        while len(self._held) >= _HELD:
            del self._held[next(iter(self._held))]
        self._held[number] = lines
        return lines

    def close(self) -> None:
        """Write what is new. Where that is not possible, the next session makes it again."""
        needed = len(self._used) + self._new.count
        with suppress(OSError):
            if self._is_damaged or len(self._known) > _TIMES * needed + 10 * PART:
                for key in [*self._used]:
                    if texts := self.get(key):
                        self._new.add(key, texts)
                write_atomic(self._path, self._new.packed(), sync=False)
            elif needed > len(self._used):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab", buffering=0) as file:
                    file.write(self._new.packed())
        self._new = _Packing()
        if self._file:
            self._file.close()


class _Packing:
    """Texts on their way into the file; `count` is how many they are."""

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[bytes] = []
        self._open: dict[bytes, Texts] = {}
        self._length = 0

    def add(self, key: bytes, texts: Texts) -> None:
        self.count += 1
        self._open[key] = texts
        self._length += sum(map(len, texts))
        if len(self._open) >= PART or self._length > _LONG_PART:
            self._parts.append(self._packed())
            self._open, self._length = {}, 0

    def packed(self) -> bytes:
        """Return all parts, as they stand in the file."""
        return b"".join([*self._parts, self._packed() if self._open else b""])

    def _packed(self) -> bytes:
        lines = (line for texts in self._open.values() for line in texts)
        data = zlib.compress("\n".join(lines).encode("ascii"), 1)
        head = {"keys": [key.hex() for key in self._open], "size": len(data)}
        return json.dumps(head).encode("ascii") + b"\n" + data


_LINES = len(Texts._fields)
_PACKAGE = os.path.dirname(os.path.dirname(__file__))


def _sign(path: str) -> tuple[int, int]:
    stamp = stamp_of_file(path)
    return (stamp.size, stamp.mtime) if stamp else (0, 0)


def _stamps(paths: Iterable[str]) -> bytes | None:
    """Return what tells the states of some files; None if one has just been written."""
    stamps = [stamp_of_file(path) for path in paths]
    youngest = time.time_ns() - RACY_NS
    if any(stamp and max(stamp.mtime, stamp.ctime) > youngest for stamp in stamps):
        return None
    return repr(stamps).encode("ascii")
