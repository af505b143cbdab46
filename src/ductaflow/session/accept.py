"""Accepting: the results of the last runs become those that are expected.

    accept(instance)                      expected/fit/a/metrics.json, or what is in that folder already
    accept(instance, ["hourly.csv"])      that file alone, whether it is there already or not
    accept(instance, dry_run=True)        writes nothing

Only complete runs whose files are as the run left them are accepted. Nothing is written through a link.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ductaflow.common.errors import DuctaflowError, InstanceError, of_system
from ductaflow.common.files import sweep_temporary, write_atomic
from ductaflow.common.json_tree import leaves
from ductaflow.common.paths import METRICS, RunFolder, relative
from ductaflow.common.rules import glob_matches
from ductaflow.common.text import did_you_mean, listed, number, shown_path, size, visible
from ductaflow.comparison.difference import FileDifference, ValueDifference
from ductaflow.comparison.kept_text import (
    Written,
    plain_value,
    read_written,
    spelled_json,
    updated,
    updated_table,
)
from ductaflow.comparison.scalars import compare_values
from ductaflow.project.instances import Instance, Instances
from ductaflow.project.strict_json import read_text
from ductaflow.session.request import spec_of_instance
from ductaflow.session.targets import find_stored
from ductaflow.store.changes import fault_of_file
from ductaflow.store.expected import Expected, is_shown, judged_again, parts_of
from ductaflow.store.folder import held
from ductaflow.store.metrics import read_metrics
from ductaflow.store.record import Site, config_hash
from ductaflow.store.result import FileEntry, Metric, Result, recorded_result, why_not_valid

#: A larger file, in bytes, is accepted only where that is asked for: expected files are committed.
LARGE = 1_000_000
#: So many values of a file are listed.
_WORST = 3
_JSON, _TABLES = (".json", ".geojson"), (".csv", ".tsv", ".tab")


@dataclass(slots=True)
class Accepted:
    """What came of accepting the results of one instance.

    Attributes:
        id: of the instance.
        result: of the run, as it is judged afterwards.
        values: metrics and values of files that become the expected ones, with the file; a nameless one is
            the file itself.
        writes: the expected files by their paths, with their new content; None for one that is removed.
        notes: what is not accepted, and why.
    """

    id: str
    result: Result
    values: list[tuple[str, ValueDifference]] = field(default_factory=list)
    writes: dict[Path, str | bytes | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def lines(self) -> Iterator[str]:
        """What was written, what was not, and what is still not as expected."""
        for path, content in self.writes.items():
            yield f"{self.id}: {'removed' if content is None else 'wrote'} {visible(shown_path(path))}"
        yield from (f"{self.id}: {note}" for note in self.notes)
        if self.result.cause == "expectation":
            yield f"{self.id}: still not as expected: {self.result.message}"


def named_instances(instances: Instances, arguments: Sequence[str]) -> tuple[list[Instance], Sequence[str]]:
    """Return the instances that come first in the arguments of a command, and the files behind them.

    Raises:
        InstanceError: the first one names no instance.
    """
    found: dict[str, Instance] = {}
    for place, argument in enumerate(arguments):
        try:
            found |= {one.id: one for one in find_stored(instances, argument)}
        except InstanceError:
            if not found:
                raise
            return [*found.values()], arguments[place:]
    return [*found.values()], ()


def accept(
    one: Instance,
    files: Collection[str] = (),
    *,
    remove: bool = False,
    large: bool = False,
    dry_run: bool = False,
) -> Accepted:
    """Make the results of the last run of an instance those expected, and judge the run again.

    Without `files` it takes what is in the expected folder already, and what `_run.expect.files` names; the
    first time the metrics. A build's flows belong to it.

    Args:
        one: a stored instance.
        files: names or globs of files in its run folder: only they are accepted, as a whole.
        remove: remove what is expected and the run has not written.
        large: accept files of more than 1 MB too.
        dry_run: write nothing.

    Raises:
        DuctaflowError: the last run is not complete, or somebody holds its folder; a file was changed since,
            or is none to accept; something is in the way, such as a link. Nothing was written, but where a
            disk is full: the message says at which file.
    """
    spec = spec_of_instance(one, with_git=False)
    folder, target, site = Path(spec.folder), Path(spec.expected), Site.of(spec)
    rules, again = one.options.expectations, f"Run it again: ductaflow run {one.id}"
    if not folder.is_dir():
        raise InstanceError(f"{one.id} has not run", hint=f"Run it: ductaflow run {one.id}")
    with nullcontext() if dry_run else held(folder, Path(spec.runs_root)):
        if fault := why_not_valid(folder):
            raise InstanceError(f"{one.id} is not accepted: {fault}", hint=again)
        accepted = Accepted(one.id, recorded_result(folder))
        parts = [
            _Part(run, expected, spec.settings.metrics, relative(expected.folder, target))
            for run, expected in parts_of(accepted.result, target, rules, site)
        ]
        _refuse(parts, again)
        named, is_first = _by_name(parts, files), not any(part.expected.files for part in parts)
        for part in parts:
            for name in part.wanted(named, is_first=is_first):
                is_whole = bool(files) or is_first
                if name == METRICS:
                    part.take_metrics(accepted, is_whole=is_whole, remove=remove)
                else:
                    part.take_file(name, accepted, is_whole=is_whole, remove=remove, large=large)
        if is_first and not named and not accepted.values and not accepted.notes:
            there = listed(sorted(part.prefix + name for part in parts for name in part.names), 3)
            accepted.notes.append(f"it has no metrics to accept; name files: {there or 'it wrote none'}")
        if accepted.result.config_hash != config_hash(spec.config, spec.project_root):
            accepted.notes.append(f"its config was edited since that run: ductaflow run {one.id}")
        if not dry_run:
            _write(accepted.writes, one.project.root)
            accepted.result = judged_again(accepted.result, target, rules, site)
    return accepted


def _refuse(parts: Sequence[_Part], again: str) -> None:
    """Refuse flows of a build that are not complete, and what is no file where files are expected."""
    for part in parts:
        if not part.run.is_complete:
            raise InstanceError(f"{part.run.id} is not accepted: {part.run.message}", hint=again)
        for name, fault in part.expected.faults.items():
            raise DuctaflowError(f"{name} {fault}", hint="Remove it: what is expected is a file of its own.")


def _by_name(parts: Sequence[_Part], files: Iterable[str]) -> list[str]:
    """Return the names and globs of files, checked; a metrics file of any name stands for `metrics.json`."""
    names = {part.prefix + name for part in parts for name in part.names}
    metrics = {part.prefix + name: part.prefix + METRICS for part in parts for name in part.metrics_files}
    own = {part.prefix + path.name for part in parts for path in RunFolder(Path(), part.run.flow).own_files}
    found = []
    for given in files:
        pattern = given if given in names else metrics.get(given, given)
        if pattern in own:
            raise DuctaflowError(f"{given} is a file of ductaflow", hint="Accept what the run itself wrote.")
        if not any(glob_matches(pattern, name) for name in names):
            there = f"There is {listed(sorted(names), 10) or 'none'}; ids come before files."
            hint = did_you_mean(given, names) or there
            raise DuctaflowError(f"{parts[0].run.id} has no file {given} to accept", hint=hint)
        found.append(pattern)
    return found


@dataclass
class _Part:
    """A run and what is expected of it; `inside` is where the folder of its build has its own, if any."""

    run: Result
    expected: Expected
    metrics_files: Collection[str]
    inside: str

    @property
    def prefix(self) -> str:
        return "" if self.inside == "." else f"{self.inside}/"

    @cached_property
    def outputs(self) -> dict[str, FileEntry]:
        return {output["path"]: output for output in self.run.outputs}

    @cached_property
    def names(self) -> set[str]:
        """What may be accepted: files of the run, and those expected; its metrics are `metrics.json`."""
        shown = set(filter(is_shown, self.outputs))
        metrics = {METRICS} if self.run.metrics else set()
        return (shown - {*self.metrics_files, METRICS}) | metrics | self.expected.files.keys()

    @cached_property
    def _differences(self) -> dict[str, FileDifference]:
        found = self.expected.judge(self.run).differences
        return {one.file.file: one.file for one in found if one.file}

    def wanted(self, files: Collection[str], *, is_first: bool) -> list[str]:
        """Return the names of what is accepted."""
        rules = self.expected.rules.files
        globs, prefix = (files, self.prefix) if files else (rules, "")
        found = {name for name in self.names if any(glob_matches(glob, prefix + name) for glob in globs)}
        if not files:
            found |= self.expected.files.keys() | ({METRICS} & self.names if is_first else set())
        return sorted(found)

    def _refuse_changed(self, name: str) -> None:
        assert self.run.folder is not None
        path = self.run.folder / name
        if fault := fault_of_file(self.expected.site, str(path), self.outputs[name]):
            raise DuctaflowError(f"{path} {fault} since the run wrote it", hint="Run the instance again.")

    def take_metrics(self, to: Accepted, *, is_whole: bool, remove: bool) -> None:
        """Accept the metrics: those that are expected already, or all."""
        path, found = self.expected.folder / METRICS, self.run.metrics
        for name in self.outputs.keys() & set(self.metrics_files):
            self._refuse_changed(name)
        old = _written_metrics(path) if METRICS in self.expected.files else {}
        new: dict[str, Written] = {**old}
        before = {name: _metric(value) for name, value in old.items()}
        differences = compare_values(before, found, self.expected.rules.of_metric)
        beyond = {one.name: one for one in differences if one.kind == "bound"}
        more = 0
        for one in differences:
            name, where = one.name, f"{self.prefix[:-1]}: " if self.prefix else ""
            if one.kind == "bound":
                why = f"{number(one.new)} {one.limit}, and a bound is not accepted"
                to.notes.append(f"{where}{name} stays: {why}: change it in the config, _run.expect")
            elif name in beyond:
                continue
            elif one.kind == "gone" and not remove:
                to.notes.append(
                    f"{where}{name} is expected, and the run does not have it; --remove removes it"
                )
            elif one.kind == "added" and not is_whole:
                more += 1
            else:
                new[name] = found.get(name)
                if one.kind == "gone":
                    del new[name]
                to.values.append((self.prefix + METRICS, one))
        if more:
            count = f"{more} more metric{'s are' if more > 1 else ' is'} not expected"
            to.notes.append(f"{count}; to expect all: ductaflow accept {to.id} {self.prefix}{METRICS}")
        if new != old:
            to.writes[path] = f"{spelled_json(new)}\n" if new else None

    def take_file(self, name: str, to: Accepted, *, is_whole: bool, remove: bool, large: bool) -> None:
        """Accept a file if it is not as expected, or was named."""
        assert self.run.folder is not None
        path, shown, is_there = self.expected.folder / name, self.prefix + name, name in self.expected.files
        output = self.outputs.get(name)
        if output is None:
            if remove:
                to.writes[path] = None
                to.values.append((shown, ValueDifference("", "gone", "the file")))
            else:
                to.notes.append(f"{shown} is expected, and the run did not write it; --remove removes it")
            return
        if kind := output.get("kind"):
            raise DuctaflowError(f"{self.run.folder / name} is a {kind}", hint="Only files are accepted.")
        self._refuse_changed(name)
        difference = self._differences.get(name) if is_there else None
        if is_there and not difference and not (is_whole and path.suffix in _JSON):
            return
        if output["size"] > LARGE and not large:
            raise DuctaflowError(
                f"{self.run.folder / name} has {size(output['size'])}, and expected files are committed",
                hint="Give --large to accept it all the same.",
            )
        content = self._content(name, is_there=is_there, is_whole=is_whole, remove=remove)
        if is_there and path.read_bytes() == content:
            return
        to.writes[path] = content
        whole = ValueDifference("", "other" if is_there else "added", None, size(len(content)))
        to.values += ((shown, one) for one in (_worst(difference) if difference else ()) or [whole])

    def _content(self, name: str, *, is_there: bool, is_whole: bool, remove: bool) -> bytes:
        """Return the new content of an expected file: the run's, with the old text where it may stay."""
        assert self.run.folder is not None
        new, rule = (self.run.folder / name).read_bytes(), self.expected.rules.of_file(name)
        old = self.expected.files[name].read_bytes() if is_there else b""
        suffix = Path(name).suffix.lower()
        # What is not as its name says is taken as it is.
        with suppress(ValueError, RecursionError):
            if suffix in _JSON:
                value = read_written(new.decode("utf-8-sig"))
                if is_there:
                    was = read_written(old.decode("utf-8-sig"))
                    value = updated(was, value, rule, with_added=is_whole, without_gone=remove)
                return f"{spelled_json(value)}\n".encode("utf-8", "backslashreplace")
            if suffix in _TABLES and is_there:
                return updated_table(name, old.decode(), new.decode(), rule).encode()
        return new


def _worst(difference: FileDifference) -> list[ValueDifference]:
    """Return the worst values of a file; the first one says how many there are, if these are not all."""
    worst = [*difference.worst[:_WORST]]
    if difference.differing > len(worst) > 0:
        worst[0] = replace(worst[0], name=f"{worst[0].name} (worst of {difference.differing:,})")
    return worst


def _written_metrics(path: Path) -> dict[str, Written]:
    """Read expected metrics by their dotted names, with numbers as they are written."""
    known = read_metrics(path.parent, [METRICS])
    if known.warnings:
        raise DuctaflowError(
            f"{path.parent}: {known.warnings[0]}", hint="Mend the file, or remove it and accept again."
        )
    written: dict[str, Any] = {
        ".".join(map(str, keys)): value for keys, value in leaves(read_written(read_text(path)))
    }
    return {name: written[name] for name in known.values}


def _metric(written: Written) -> Metric:
    value = plain_value(written)
    assert value is None or isinstance(value, bool | int | float | str)
    return value


def ignored_by_git(paths: Iterable[Path], root: Path) -> list[str]:
    """Return which of the files git ignores; none where there is no git."""
    command = ["git", "-C", str(root), "check-ignore", "--stdin", "-z"]
    given = b"\0".join(map(os.fsencode, paths))
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _write(writes: Mapping[Path, str | bytes | None], root: Path) -> None:
    """Write and remove expected files, each as a whole or not at all."""
    for path in writes:
        for part in (path, *path.parents[: len(path.relative_to(root).parts) - 1]):
            if part.is_symlink():
                raise DuctaflowError(
                    f"{part} is a link to {os.readlink(part)}, and nothing is written through links",
                    hint="Put a folder of its own there.",
                )
    for path, content in writes.items():
        try:
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                sweep_temporary(path.parent)
                write_atomic(path, content)
                continue
            path.unlink()
            with suppress(OSError):
                # as far up as nothing else is there
                os.removedirs(path.parent)
        except OSError as exc:
            hint = "Make room, or make it writable, and accept again: files written before are whole."
            raise of_system(exc, path, hint=hint) from exc
