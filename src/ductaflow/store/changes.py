"""What has changed since the last run, and so why it has to run again.

    changes(spec)    ()                                   the last run is as a new one would be
                     (Change("config", "horizon", "config horizon: 2030 -> 2040"),)

The record of the last run (`record.py`) is compared with what is there now. Nothing is executed, and a file
is read only if its size and times say that it may have changed.
"""

from __future__ import annotations

import functools
import glob
import json
import os
import platform
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from ductaflow.common.decode import UnreadableError, decode
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import Stamp, stamp_of_file
from ductaflow.common.json_tree import KeyPath, leaves, spelled
from ductaflow.common.paths import RESULT, ROOT_KEY, RunFolder
from ductaflow.common.text import shorten
from ductaflow.project.options import load_saved_config
from ductaflow.project.secrets import masked
from ductaflow.store.companions import companions
from ductaflow.store.folder import has_unfinished_run
from ductaflow.store.hashes import What
from ductaflow.store.named import existing, named_in
from ductaflow.store.record import (
    FORMAT,
    Site,
    config_hash,
    folder_files,
    hash_of_files,
    hash_of_secrets,
    hiding,
    options_of,
)
from ductaflow.store.result import (
    FileEntry,
    FolderEntry,
    Lineage,
    Result,
    fault_of_kind,
    read_result,
    readable_result,
    unread,
)
from ductaflow.store.sessions import Part, session_of
from ductaflow.store.spec import RunSpec

ChangeKind = Literal["run", "config", "code", "module", "input", "output", "environment"]
_SHOWN = 60
#: So many reasons are kept.
_REASONS = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One reason why an instance has to run.

    Attributes:
        kind: `run` (there is no valid finished run), `config`, `code` (the flow's own), `module` (one of the
            project that it imported), `input`, `output`, `environment` (versions of Python and packages).
        what: key path, file or package that it is about.
        text: one sentence without a full stop: `config horizon: 2030 -> 2040`,
            `inputs/raw.csv has other content`.
    """

    kind: ChangeKind
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Lookback:
    """A run compared with the last one in its folder.

    Attributes:
        changes: why it has to run: only that there is no valid run, or else config, code, modules, inputs,
            outputs, and versions, in this order; empty if a new run would be the same.
        last: the result of the last run; None if there is no valid one.
        reasons: the texts of the changes, each with in how many sessions in a row it was a reason to run.
    """

    changes: tuple[Change, ...]
    last: Result | None = None
    reasons: dict[str, int] = field(default_factory=dict)


def changes(spec: RunSpec) -> tuple[Change, ...]:
    """Return why a run has to be made; empty if it would be the same as the last one in its folder."""
    return look_back(spec).changes


def look_back(spec: RunSpec) -> Lookback:
    """Compare a run as it would be made now with the last one in its folder; its settings say what counts."""
    site, rerun_on = Site.of(spec), spec.settings.rerun_on
    last = _last_run(spec.folder, spec.runs_root)
    if isinstance(last, Change):
        return Lookback((last,))
    if (last.result.flow, last.result.instance) != (spec.flow, spec.instance):
        text = f"the result there is that of {last.result.id}"
        return Lookback((Change("run", spec.folder, text),))
    found: list[Change] = []
    if "config" in rerun_on:
        found += _of_config(spec, last.result.config_hash, last.lineage)
    named = named_in(spec).found if "inputs" in rerun_on else {}
    if "inputs" in rerun_on:
        found += _of_notes(spec, last.lineage)
    others = functools.cache(lambda: _written_by_others(spec))
    found += _of_run(site, last, rerun_on, named, spec.runs_root, others)
    if "environment" in rerun_on:
        found += _of_environment(last, session_of(spec.session_id).part(_Installed))
    before = last.result.reasons
    is_next = last.result.session_id != spec.session_id
    texts = [change.text for change in found[:_REASONS]]
    reasons = {text: before.get(text, 0) + is_next if before else 1 for text in texts}
    return Lookback(tuple(found), last.result, reasons)


def differences_of_environment(spec: RunSpec) -> tuple[Change, ...]:
    """Return how Python and packages differ between the last run of a folder and this process; slow once."""
    last = _last_run(spec.folder, spec.runs_root)
    installed = session_of(spec.session_id).part(_Installed)
    return () if isinstance(last, Change) else tuple(_of_environment(last, installed))


# --- the last run ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Last:
    """The last run in a folder, which was good, and its record."""

    folder: str
    result: Result
    lineage: Lineage


def _last_run(folder: str, runs_root: str) -> _Last | Change:
    """Return the last run in a folder, or why it is none that could be kept."""

    def none(text: str) -> Change:
        return Change("run", folder, text)

    path = Path(folder)
    try:
        result = read_result(path)
    except DuctaflowError as exc:
        return none(f"its result cannot be read: {exc.message}")
    if result is None:
        return none("it has no finished run")
    # as paths they are compared only where their texts differ: that is slow, and asked for each of thousands
    is_below = folder.startswith(os.path.join(runs_root, "")) or path.is_relative_to(runs_root)
    if is_below and has_unfinished_run(runs_root, folder):
        return none("a run of it goes on, or was killed")
    if not result.is_complete:
        return none(f"its last run failed: {result.message}")
    if result.lineage is None:
        return none("its last run left no record of what it read")
    if result.lineage.get("format") != FORMAT:
        return none(
            "its record is of another version of ductaflow, which took other notes of what a run reads"
        )
    return _Last(folder, result, result.lineage)


class _Left(NamedTuple):
    """A file that a run wrote outside of its folder, as the run left it.

    Attributes:
        content, mtime: hash and time, if they are known.
        begun: the time of the file when the run opened it to read and write; None if it was not there yet,
            `_UNREAD` if the run only wrote it.
    """

    content: str | None
    mtime: int | None
    begun: int | None


_UNREAD = -1
#: What other runs wrote outside of their folders, as records spell it.
_Others = Callable[[], Mapping[str, list[_Left]]]


def _of_run(
    site: Site,
    last: _Last,
    rerun_on: Container[str],
    named: Mapping[str, os.stat_result],
    runs_root: str,
    others: _Others,
) -> Iterator[Change]:
    """Yield changes of code, inputs and outputs of a run, and of the flows of a build."""
    if "code" in rerun_on:
        yield from _of_code(site, last.lineage)
    if "inputs" in rerun_on:
        yield from _of_inputs(site, last, others)
        yield from _new_inputs(site, last, named)
    yield from _of_outputs(site, last, others)
    for child in last.result.children:
        folder = os.path.normpath(os.path.join(last.folder, child))
        nested = _last_run(folder, runs_root)
        if isinstance(nested, Change):
            yield Change("run", site.relative(folder), f"flow {child}: {nested.text}")
        else:
            yield from _of_run(site, nested, rerun_on, {}, runs_root, others)


# --- config ------------------------------------------------------------------------------------------------


def _of_config(spec: RunSpec, known: str | None, lineage: Lineage) -> Iterator[Change]:
    secrets = lineage["secrets"]
    if secrets is None:
        same_secrets = hash_of_secrets(spec.config, "") is None
    else:
        same_secrets = hash_of_secrets(spec.config, secrets["salt"]) == secrets["hash"]
    if known != config_hash(spec.config, spec.project_root):
        yield from _config_fields(spec)
    elif not same_secrets:
        yield Change("config", "", "a secret in the config is another one")
    before, now = dict(lineage["options"]), dict(options_of(spec))
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            yield Change("config", f"_run.{name}", f"config _run.{name}: {_shown(old)} -> {_shown(new)}")


def _config_fields(spec: RunSpec) -> Iterator[Change]:
    """Compare the config field by field with the one that the last run saved."""
    try:
        before = load_saved_config(spec.run_folder.config, project_root=spec.project_root)
    except DuctaflowError as exc:
        yield Change("config", "", f"the config is another one; that of the last run: {exc.message}")
        return
    old, new = config_fields(before), config_fields(spec.config)
    paths = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    for path in paths:
        was, now = (shorten(fields.get(path, ""), _SHOWN) for fields in (old, new))
        if path not in new:
            text = f"config {path}: gone, was {was}"
        elif path not in old:
            text = f"config {path}: new, {now}"
        else:
            text = f"config {path}: {was} -> {now}"
        yield Change("config", path, text)
    if not paths:
        yield Change("config", "", "the config is another one than that of the last run")


def config_fields(config: Mapping[str, object]) -> dict[str, str]:
    """Return the values of a config that hold no others, as JSON, by key path; secrets are masked.

    A list of plain values is one value. Where the project lies is left out.
    """
    known = masked({key: value for key, value in config.items() if key != ROOT_KEY})
    found = leaves(known, _is_plain_list)
    return {spelled(path): json.dumps(value, ensure_ascii=False) for path, value in found}


def _is_plain_list(_path: KeyPath, value: object) -> bool:
    return isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value)


def _shown(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), _SHOWN)


def _of_notes(spec: RunSpec, lineage: Lineage) -> Iterator[Change]:
    """Yield what has become doubtful, or is not any more, about what it reads: its warnings are others."""
    before = lineage.get("notes", [])
    yield from (Change("input", note, note) for note in spec.notes if note not in before)
    yield from (Change("input", note, f"no longer: {note}") for note in before if note not in spec.notes)


# --- files -------------------------------------------------------------------------------------------------


def _of_code(site: Site, lineage: Lineage) -> Iterator[Change]:
    yield from _of_source(site, "code", lineage["source"], lineage["code"])
    for name, known in lineage["modules"].items():
        yield from _of_source(site, "module", name, known)
    source = site.absolute(lineage["source"])
    for name in lineage.get("imports", ()):
        for path in filter(os.path.lexists, hiding(name, source, site.root)):
            file = site.relative(path)
            yield Change("module", file, f"{file} is there now, and hides the module {name}")


def _of_source(site: Site, kind: Literal["code", "module"], name: str, known: str | None) -> Iterator[Change]:
    what: What = kind
    try:
        now = site.hashes.of(site.absolute(name), what)
    except FileNotFoundError:
        yield Change(kind, name, f"{name} is gone")
    except OSError as exc:
        yield Change(kind, name, f"{name} cannot be read: {exc.strerror or exc}")
    else:
        if known != now:
            yield Change(kind, name, f"the code of {name} is another one")


def _of_inputs(site: Site, last: _Last, others: _Others) -> Iterator[Change]:
    lineage = last.lineage
    for name in lineage["changed"]:
        if not _is_shared(lineage, name, others):
            yield Change("input", name, f"{name} was changed while the last run read it")
    for entry in last.result.inputs:
        name = entry["path"]
        fault = fault_of_file(site, site.absolute(name), entry)
        if not fault or name in lineage["changed"]:
            continue
        if name not in lineage["written"] or not _was_left_by(others, site, entry):
            yield Change("input", name, f"{name} {fault}")
    for name in lineage["absent"]:
        if os.path.lexists(site.absolute(name)):
            yield Change("input", name, f"{name} is there now, and was not when it was looked for")
    for folder in lineage["folders"]:
        yield from _of_folder(site, last, folder, others)


def _is_shared(lineage: Lineage, name: str, others: _Others) -> bool:
    """Return whether a run and others write a file, or into a folder that the run reads.

    What others write there is no input of it, or each of them would make all others run again.
    """
    own = lineage["written"]
    folders = (f"{folder['path']}/" for folder in lineage["folders"])
    around = (folder for folder in folders if name.startswith(folder))
    is_own = name in own or any(path.startswith(folder) for folder in around for path in own)
    return is_own and name in others()


def _was_left_by(others: _Others, site: Site, entry: FileEntry) -> bool:
    """Return whether a file that is not as a run left it is as others left it that write it too.

    What the run itself had put into it must still be there: the others have to have begun with it, and not
    with a file that was made anew.
    """
    left = [*others().get(entry["path"], ())]
    with suppress(OSError):
        now = site.hashes.of(site.absolute(entry["path"]))
        last = next((one for one in left if one.content == now), None)
        if last is None or "begun" not in entry:
            return last is not None
        while last.begun is not None and last.begun != entry.get("mtime"):
            left.remove(last)
            before = next((one for one in left if one.mtime == last.begun), None)
            if before is None:
                # Left by a run that has another record by now.
                return True
            last = before
        return last.begun is not None
    return False


def _written_by_others(spec: RunSpec) -> Mapping[str, list[_Left]]:
    """Return what other runs of the tree wrote outside of their folders, as they left it."""
    found: dict[str, list[_Left]] = {}
    kept = session_of(spec.session_id).part(_Written)
    for folder in glob.iglob(os.path.join(glob.escape(spec.runs_root), "*", "*", "")):
        if folder.rstrip(os.sep) != spec.folder:
            for name, left in kept.by_run(folder.rstrip(os.sep)):
                found.setdefault(name, []).append(left)
    return found


class _Written(Part):
    """What runs wrote outside of their folders, by their results; read again when a result is another one."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp | None, list[tuple[str, _Left]]]] = {}

    def by_run(self, folder: str) -> list[tuple[str, _Left]]:
        """Return what a run and its flows wrote, each as the run left it."""
        stamp = stamp_of_file(os.path.join(folder, RESULT))
        if folder not in self._known or self._known[folder][0] != stamp:
            self._known[folder] = stamp, list(_written_by(folder) if stamp else ())
        return self._known[folder][1]


def _written_by(folder: str) -> Iterator[tuple[str, _Left]]:
    result = readable_result(Path(folder))
    if result is None:
        return
    if result.lineage is not None:
        made = result.lineage["made"]
        entries = {entry["path"]: entry for entry in (*result.inputs, *made)}
        for name in {*result.lineage["written"], *(entry["path"] for entry in made)}:
            entry = entries.get(name)
            if entry is None:
                yield name, _Left(None, None, _UNREAD)
            else:
                yield name, _Left(entry.get("hash"), entry.get("mtime"), entry.get("begun", _UNREAD))
    for child in result.children:
        yield from _written_by(os.path.normpath(os.path.join(folder, child)))


def _new_inputs(site: Site, last: _Last, named: Mapping[str, os.stat_result]) -> Iterator[Change]:
    """Yield what the config names and what was not there yet."""
    lineage = last.lineage
    known = {entry["path"] for entry in (*last.result.inputs, *lineage["folders"])}
    known.update(lineage["written"], lineage["absent"], lineage["changed"], lineage["modules"])
    known.add(lineage["source"])
    others = (other for entry in last.result.inputs for other in companions(site.absolute(entry["path"])))
    for path, status in {**dict(existing(others)), **named}.items():
        name = site.relative(path)
        if any(other.startswith(f"{name}/") for other in lineage["written"]):
            # A folder that the run made, or others at the same time.
            continue
        if name not in known and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            yield Change("input", name, f"{name} is there now, and was not when the last run began")


def _of_outputs(site: Site, last: _Last, others: _Others) -> Iterator[Change]:
    for entry in last.result.outputs:
        path = os.path.join(last.folder, entry["path"])
        if fault := fault_of_file(site, path, entry):
            name = site.relative(path)
            yield Change("output", name, f"{name} {fault}")
    for entry in last.lineage["made"]:
        name = entry["path"]
        fault = fault_of_file(site, site.absolute(name), entry)
        if fault and not _was_left_by(others, site, entry):
            yield Change("output", name, f"{name}, which it wrote, {fault}")
    # The saved config, which `load_instance` and `run FOLDER` trust.
    path = str(RunFolder(Path(last.folder), last.result.flow).config)
    name = site.relative(path)
    try:
        if site.hashes.of(path) != last.lineage["saved"]:
            yield Change("output", name, f"{name} has other content")
    except OSError as exc:
        yield Change("output", name, f"{name} {unread(exc)}")


def fault_of_file(site: Site, path: str, entry: FileEntry) -> str | None:
    """Return what is wrong with an input or output; None if it is as recorded.

    Args:
        site: gives hashes of files.
        path: where it is.
        entry: its record.
    """
    if "kind" in entry:
        return fault_of_kind(path, entry)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return "is no regular file any more"
        if status.st_size != entry["size"]:
            return "has other content"
        known = entry.get("hash")
        if known is None or (site.by_stat and site.counts_by_stat(site.relative(path))):
            return None if status.st_mtime_ns == entry.get("mtime") else "has another time of modification"
        return None if site.hashes.of(path, status=status) == known else "has other content"
    except OSError as exc:
        return unread(exc)


def _of_folder(site: Site, last: _Last, entry: FolderEntry, others: _Others) -> Iterator[Change]:
    name = entry["path"]
    try:
        after = folder_files(
            site, site.absolute(name), deep=entry["deep"], whole=entry["whole"], own=last.folder
        )
    except OSError as exc:
        yield Change("input", name, f"{name} {unread(exc)}")
        return
    if hash_of_files(after) == entry["hash"]:
        return
    before = entry.get("files") or site.hashes.kept_files(entry["hash"])
    if before is None:
        text = f"the files in {name} are others: {len(after)}, were {entry['count']}"
        yield Change("input", name, text)
        return
    for file in sorted({*before, *after}):
        path = f"{name}/{file}" if name != "." else file
        if before.get(file) != after.get(file) and not _is_shared(last.lineage, path, others):
            how = "is new" if file not in before else "is gone" if file not in after else "has other content"
            yield Change("input", f"{name}/{file}", f"{name}/{file} {how}")


# --- environment -------------------------------------------------------------------------------------------


def _of_environment(last: _Last, installed: _Installed) -> Iterator[Change]:
    environment = last.result.environment
    before = environment.get("python")
    if before and before != platform.python_version():
        yield Change("environment", "python", f"Python: {before} -> {platform.python_version()}")
    packages = environment.get("packages", {})
    counted = installed.needed_by(last.lineage.get("imports", ()))
    names = tuple(sorted(name for name in packages if name in counted))
    now = installed.versions_of({name: packages[name] for name in names})
    for name in names:
        if now[name] != packages[name]:
            text = f"package {name}: {packages[name]} -> {now[name] or 'not installed'}"
            yield Change("environment", name, text)


class _Installed(Part):
    """Versions of what is installed, looked up once a session."""

    def __init__(self) -> None:
        self._distributions: Mapping[str, list[str]] = {}
        self._by_module: dict[str, set[str]] | None = None
        self._imported: dict[tuple[str, ...], dict[str, str]] = {}

    def needed_by(self, modules: Iterable[str]) -> set[str]:
        """Return modules with those of the distributions that theirs require."""
        from importlib.metadata import PackageNotFoundError, packages_distributions, requires

        self._distributions = self._distributions or packages_distributions()
        of_distribution: dict[str, set[str]] = {}
        for module, distributions in self._distributions.items():
            for distribution in distributions:
                of_distribution.setdefault(_normal(distribution), set()).add(module)
        found, pending = set(modules), list(modules)
        while pending:
            for distribution in self._distributions.get(pending.pop(), ()):
                try:
                    required = [_REQUIRED.match(text) for text in requires(distribution) or ()]
                except PackageNotFoundError:
                    continue
                for match in required:
                    new = of_distribution.get(_normal(match[1]), set()) - found if match else set()
                    found |= new
                    pending += new
        return found

    def versions_of(self, known: Mapping[str, str]) -> dict[str, str | None]:
        """Return the versions of modules now, None where there is none; `known` is what they had."""
        if self._by_module is None:
            self._by_module = _distributions()
        asked = tuple(name for name in known if known[name] not in self._by_module.get(name, ()))
        if asked and asked not in self._imported:
            self._imported[asked] = _imported_versions(asked)
        found = self._imported.get(asked, {})
        return {name: found.get(name) if name in asked else known[name] for name in known}


#: A distribution that another one requires without an extra.
_REQUIRED = re.compile(r"([\w.-]+)(?!.*\bextra\b)")


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _distributions() -> dict[str, set[str]]:
    """Return the versions of the installed distributions by the modules that they bring."""
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    found: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            try:
                found.setdefault(module, set()).add(version(distribution))
            except PackageNotFoundError:
                continue
    return found


_ASK = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = getattr(importlib.import_module(name), "__version__", None)
    except Exception:
        found[name] = None
print("\\n" + json.dumps({k: v for k, v in found.items() if isinstance(v, str)}))
"""


def _imported_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Import modules in another process, and return the versions that they have of their own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ASK, *names],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    try:
        return decode(done.stdout.splitlines()[-1], dict[str, str], where="versions of packages")
    except (UnreadableError, IndexError):
        # One of them ended the process: an unknown version counts as not installed.
        return {}
