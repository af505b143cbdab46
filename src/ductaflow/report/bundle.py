"""A report with the files that it links to, in an archive or a folder that works wherever it is put.

    conductor_status_report.html    the page, whose links lead to what is beside it
    conductor_status_report.json
    fit/scenario_A/fit.html         of what is not good: notebook, page, log, config, outputs

The page says of every other link that its file is not here, and why. Nothing comes from outside of the runs
folders: names in a twin are anybody's, and so is what a link on disk points to. The same runs make the same
bytes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import open_regular, temporary_prefix
from ductaflow.common.paths import BUNDLE_MARK, REPORT_HTML, REPORT_JSON
from ductaflow.common.text import in_numbers, size
from ductaflow.report.live import twin_chunks
from ductaflow.report.page import Packer, Rows, page_chunks, row_of
from ductaflow.report.schema import BundledTwin, InstanceTwin, Twin
from ductaflow.store.result import Status

#: The largest output, and the largest file of ours, that a bundle takes; and all of them together, in bytes.
MAX_OUTPUT, MAX_FILE, MAX_ALL = 5_000_000, 50_000_000, 1_000_000_000
#: Why a file is not there, as the page says it.
IS_GOOD = "the run is good"
TOO_LARGE = "too large"
NO_ROOM = "no room left"
OUTSIDE = "outside of the runs folder"
GONE = "not there any more"
NO_FILE = "no file"
#: What some systems do not take in the name of a file, or read as another folder.
_UNSAFE = re.compile(r'[<>:"\\|?*\x00-\x1f\x7f\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
#: The first moment that an archive can tell.
_MOMENT = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        files: how many files it holds besides the report, and `size` their bytes.
        left_out: how many it does not hold, by why.
    """

    path: Path
    files: int
    size: int
    left_out: Counter[str]

    @property
    def line(self) -> str:
        """What it holds, and what not."""
        return _told(self.files, self.size, self.left_out)


class _Found(NamedTuple):
    """A file to take, and its name in the bundle."""

    path: str
    name: str


def write_bundle(twin: Twin, runs_dir: Path, target: Path, *, roots: Iterable[Path] = ()) -> Bundle:
    """Write a report with the files of what is not good, replaced whole or not at all.

    Args:
        twin: its links are relative to `runs_dir`.
        runs_dir: the folder of the report.
        target: the archive, by its suffix `.zip`, or the folder; an older bundle is replaced.
        roots: other folders from which files may come, such as those of merged shards.

    Raises:
        DuctaflowError: there is a folder that is no bundle.
        OSError: it cannot be written; an older one is as it was.
    """
    temporary = target.parent / f"{temporary_prefix()}{os.urandom(8).hex()}"
    if target.suffix == ".zip":
        try:
            with zipfile.ZipFile(temporary, "x", zipfile.ZIP_DEFLATED) as archive:
                made = _Contents(partial(_open_in_archive, archive), runs_dir, [runs_dir, *roots])
                made.fill(twin)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    else:
        if (
            target.exists()
            and not (target / BUNDLE_MARK).is_file()
            and (target.is_file() or any(target.iterdir()))
        ):
            raise DuctaflowError(
                f"{target} is there and no bundle, so it stays as it is",
                hint="Give another folder, or FILE.zip for one file.",
            )
        try:
            temporary.mkdir()
            made = _Contents(partial(_open_in_folder, temporary), runs_dir, [runs_dir, *roots])
            made.fill(twin)
            (temporary / BUNDLE_MARK).touch()
            former = temporary.with_name(f"{temporary.name}-former")
            if target.exists():
                os.rename(target, former)
            os.rename(temporary, target)
            shutil.rmtree(former, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return Bundle(target, made.files, made.size, made.left_out)


def _open_in_archive(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(name, _MOMENT)
    info.compress_type = zipfile.ZIP_DEFLATED
    # By default it is what the system is that makes it.
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return archive.open(info, "w", force_zip64=True)


def _open_in_folder(folder: Path, name: str) -> IO[bytes]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


def _told(files: int, total: int, left_out: Counter[str]) -> str:
    held = f"It holds {files} file{'s' * (files != 1)} of what is not good, {size(total)}"
    others = {why: count for why, count in left_out.items() if why != IS_GOOD}
    return f"{held}; not {in_numbers(Counter(others), sorted(others))}." if others else f"{held}."


def needs_files(instance: InstanceTwin) -> bool:
    """Whether a person may want the files of an instance or a flow: it is not good, or its test fails."""
    status = instance["former_status"] or instance["status"]
    return Status(status).needs_attention or bool(instance.get("fails"))


class _Contents:
    """A bundle that is being filled; `create` opens a new file in it."""

    def __init__(self, create: Callable[[str], IO[bytes]], runs_dir: Path, roots: Sequence[Path]) -> None:
        self._create, self._runs_dir = create, runs_dir
        self._roots = [os.path.join(os.path.realpath(root), "") for root in roots]
        # Names in the bundle, as systems that take two spellings for one see them, and whose they are.
        self._names = {_folded(name): "" for name in (REPORT_HTML, REPORT_JSON, BUNDLE_MARK)}
        self._held: dict[str, str] = {}
        self.files = self.size = 0
        self.left_out: Counter[str] = Counter()

    def fill(self, twin: Twin) -> None:
        """Take in the files, then the report that knows which there are."""
        # If there is no room for all, there is for what failed.
        order = sorted(twin["instances"], key=lambda one: Status(one["status"]).place)
        done = {id(one): self._instance(one) for one in order}
        instances = [done[id(one)] for one in twin["instances"]]
        note = f"This page is from a bundle. {_told(self.files, self.size, self.left_out)}"
        head: Twin = {**twin, "notes": [*twin["notes"], note], "instances": []}
        texts = (json.dumps(one, allow_nan=False) for one in instances)
        self._write(REPORT_JSON, twin_chunks(head, texts))
        packer = Packer()
        rows = [row_of(one, packer) for one in instances]
        self._write(REPORT_HTML, page_chunks(head, Rows.of(rows), packer))

    def _instance(self, instance: InstanceTwin) -> InstanceTwin:
        """Take in the files of an instance, and return it with the links that work then."""
        flows = [self._instance(flow) for flow in instance["flows"]]
        if not needs_files(instance):
            self.left_out[IS_GOOD] += len(instance["links"])
            nothing: BundledTwin = {"why": IS_GOOD, "links": {}, "outputs": {}, "held": {}}
            return {**instance, "flows": flows, "links": {}, "bundle": nothing}
        # A shard that was a bundle has told what it lacks.
        former = instance.get("bundle")
        missing, outputs = (dict(former["links"]), dict(former["outputs"])) if former else ({}, {})
        links, held = dict[str, str](), dict[str, str]()
        for name, href in instance["links"].items():
            path = None if href.startswith("file:") else _path_of(href)
            links[name], missing[name] = self._take(path, MAX_FILE)
        folder = instance["folder"]
        for output in instance["outputs"]:
            inside = output["path"]
            if inside in outputs:
                continue
            path = None if folder is None or os.path.isabs(folder) else f"{folder}/{inside}"
            if former and inside in former["held"]:
                path = _path_of(former["held"][inside])
            held[inside], outputs[inside] = self._take(path, MAX_OUTPUT)
        bundle: BundledTwin = {
            "why": "",
            "links": _without_empty(missing),
            "outputs": _without_empty(outputs),
            "held": _without_empty(held),
        }
        return {**instance, "flows": flows, "links": _without_empty(links), "bundle": bundle}

    def _take(self, path: str | None, most: int) -> tuple[str, str]:
        """Take in a file by its path from the page; return a link to it, or why it is not there."""
        found = OUTSIDE if path is None else self._find(path, most)
        if isinstance(found, _Found):
            if found.path in self._held or self._copy(found):
                return quote(found.name), ""
            found = GONE
        self.left_out[found] += 1
        return "", found

    def _find(self, path: str, most: int) -> _Found | str:
        try:
            real = os.path.realpath(self._runs_dir / path)
            state = os.stat(real)
        except (OSError, ValueError):
            return GONE
        if not any(real.startswith(root) for root in self._roots):
            return OUTSIDE
        if not stat.S_ISREG(state.st_mode):
            return NO_FILE
        if state.st_size > most:
            return f"{TOO_LARGE}: over {size(most)}"
        if real in self._held:
            return _Found(real, self._held[real])
        if self.size + state.st_size > MAX_ALL:
            return f"{NO_ROOM}: over {size(MAX_ALL)}"
        return _Found(real, self._name(path, real))

    def _name(self, path: str, real: str) -> str:
        """Return the name of a file in the bundle: its path, without what other systems do not take."""
        parts = [_safe(part) for part in path.split("/") if part not in ("", ".", "..")]
        *folders, last = parts or ["_"]
        stem, dot, suffix = last.partition(".")
        number = 1
        while True:
            name = "/".join([*folders, f"{stem}{f'~{number}' if number > 1 else ''}{dot}{suffix}"])
            if self._names.setdefault(_folded(name), real) == real:
                return name
            number += 1

    def _copy(self, found: _Found) -> bool:
        """Copy a file into the bundle; False if it cannot be read any more."""
        try:
            # Nor through a link that has come into its place since.
            descriptor, length = open_regular(found.path, follow=False)
        except OSError:
            return False
        with open(descriptor, "rb") as source:
            # A log may grow while it is read.
            left = length
            with self._create(found.name) as kept:
                while left and (piece := source.read(min(left, 1 << 20))):
                    kept.write(piece)
                    left -= len(piece)
        self._held[found.path] = found.name
        self.files += 1
        self.size += length - left
        return True

    def _write(self, name: str, texts: Iterable[str]) -> None:
        with self._create(name) as kept:
            for text in texts:
                kept.write(text.encode("ascii"))


def _path_of(href: str) -> str:
    return os.fsdecode(unquote_to_bytes(href))


def _safe(part: str) -> str:
    shown = _UNSAFE.sub("_", unicodedata.normalize("NFC", part)).rstrip(" .") or "_"
    return f"_{shown}" if _DEVICES.fullmatch(shown) else shown


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _without_empty(texts: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text}
