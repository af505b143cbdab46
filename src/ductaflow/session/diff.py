"""What differs between two versions of a run: config, code, metrics, files. Changes are new minus old.

    demand/DE-2030                   its previous good run and what is there now
    demand/DE-2030@expected          what is expected of it, and what is there now
    demand/DE-2030 demand/DE-2040    two instances
    ../main/runs/demand/DE-2030 runs/demand/DE-2030    the run folders of two checkouts
    demand@previous                  all instances of a flow

What is compared is exact, unless the caller names a tolerance: a diff shows what is another one, and
`_run.expect` says what is wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from ductaflow.common.decode import UnreadableError, read_json
from ductaflow.common.errors import InstanceError
from ductaflow.common.files import snapshot
from ductaflow.common.paths import CACHE_DIR, METRICS, RunFolder, flow_of, is_ours
from ductaflow.common.rules import Rule
from ductaflow.common.text import did_you_mean, shown_path
from ductaflow.comparison.compare import compare_files, compare_lines
from ductaflow.comparison.difference import FileDifference, ValueDifference, other_value, plain
from ductaflow.comparison.scalars import compare_values
from ductaflow.project.instances import Instances
from ductaflow.project.options import load_saved_config
from ductaflow.project.secrets import secrets_in
from ductaflow.project.settings import Project
from ductaflow.session.targets import find_stored
from ductaflow.store.causes import root_of
from ductaflow.store.changes import config_fields
from ductaflow.store.expected import entries_expected
from ductaflow.store.folder import has_unfinished_run
from ductaflow.store.metrics import read_metrics
from ductaflow.store.previous import previous_folder
from ductaflow.store.result import Result, read_result

#: What a diff compares by, unless a tolerance is named.
EXACTLY = Rule(rtol=0.0, atol=0.0)
Role = Literal["run", "previous", "expected"]


@dataclass(frozen=True, slots=True)
class Version:
    """One of the two things that are compared.

    Attributes:
        shown: as a person names it.
        folder: where its files lie.
        flow: the flow that ran there.
        role: a run folder, the kept copy of the last good run, or the expected results.
        project: the one that it belongs to.
    """

    shown: str
    folder: Path
    flow: str
    role: Role
    project: Project

    def other(self, role: Role) -> Version:
        """Return what is kept of this run, or expected of it.

        Raises:
            InstanceError: its folder is in no tree of runs.
        """
        if role == "run":
            return self
        inside, tree = self.project.placed(self.folder)
        if tree != self.project.runs_dir:
            raise InstanceError(f"{self.shown} is no run folder of {self.project.root}", hint=_GIVE)
        folder = previous_folder(tree, inside)
        if role == "expected":
            folder = self.project.expected_dir / inside.relative_to(tree)
        return replace(self, shown=f"{self.shown}@{role}", folder=folder, role=role)


_GIVE = "Give ID, ID@previous, ID@expected, or a run folder; an ID is flow/instance or a flow."
_MISSING: dict[Role, tuple[str, str]] = {
    "run": ("has not run", "ductaflow run {}"),
    "previous": ("is not kept", "A run keeps what the last good one wrote, unless keep_previous is false."),
    "expected": ("is not stored", "What a run found becomes that by: ductaflow accept {}"),
}


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two versions of a run.

    Attributes:
        old, new: what they are called.
        notes: why something was not compared; then they are not alike.
        config: fields that differ; code: lines of code cells that do; metrics: those that differ.
        files: outputs that differ; gone, added: outputs that only one has.
        compared: how many fields, cells, metrics and files were.
        beside: how many metrics and files a run has besides the expected ones.
    """

    old: str
    new: str
    notes: tuple[str, ...] = ()
    config: tuple[ValueDifference, ...] = ()
    code: FileDifference | None = None
    metrics: tuple[ValueDifference, ...] = ()
    files: tuple[FileDifference, ...] = ()
    gone: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    compared: dict[str, int] = field(default_factory=dict)
    beside: int = 0

    @property
    def is_alike(self) -> bool:
        """Whether nothing differs, and everything was compared."""
        return not self.notes and not self.has_differences

    @property
    def has_differences(self) -> bool:
        """Whether something of what was compared differs."""
        return any((self.config, self.code, self.metrics, self.files, self.gone, self.added))


# --- what is meant -----------------------------------------------------------------------------------------


def find_versions(instances: Instances, old: str, new: str | None = None) -> list[tuple[Version, Version]]:
    """Return the pairs that the arguments of a command name, one for each instance.

    Raises:
        InstanceError: one names nothing, or they do not name the same number of instances.
    """
    role, runs = _named(instances, old)
    if new is None:
        if role == "run":
            role = "previous"
        return [(run.other(role), run) for run in runs]
    new_role, new_runs = _named(instances, new)
    if len(runs) == len(new_runs) == 1:
        return [(runs[0].other(role), new_runs[0].other(new_role))]
    by_name = {run.folder.name: run for run in new_runs}
    pairs = [(run, by_name[run.folder.name]) for run in runs if run.folder.name in by_name]
    if not pairs or len(pairs) < max(len(runs), len(new_runs)):
        raise InstanceError(
            f"{old} names {len(runs)} instances and {new} {len(new_runs)}: they do not pair by name",
            hint="Give two of them, or a flow and its @previous or @expected.",
        )
    return [(a.other(role), b.other(new_role)) for a, b in pairs]


def _named(instances: Instances, argument: str) -> tuple[Role, list[Version]]:
    target, at, suffix = argument.rpartition("@")
    role: Role = "previous" if suffix == "previous" else "expected" if suffix == "expected" else "run"
    try:
        return role, list(_runs(instances, argument if role == "run" else target))
    except InstanceError as exc:
        # No name has an `@`.
        if at and role == "run" and (meant := did_you_mean(suffix, ("previous", "expected"))):
            raise InstanceError(exc.message, hint=f"{meant} {_GIVE}") from exc
        raise


def _runs(instances: Instances, target: str) -> Iterator[Version]:
    """Yield the run folders that an id, a flow or a folder names; also of what is not stored any more."""
    project = instances.project
    try:
        for one in find_stored(instances, target):
            yield Version(one.id, one.run_folder.path, one.flow, "run", project)
    except InstanceError as exc:
        for base in (Path.cwd(), project.root, project.runs_dir):
            folder = Path(os.path.abspath(base / target))
            if target and folder.is_dir():
                flow = flow_of(folder) or ""
                around = Project.around(folder) or project
                yield Version(shown_path(folder), around.placed(folder)[0], flow, "run", around)
                return
        raise InstanceError(exc.message, hint=f"{exc.hint} {_GIVE}".strip()) from exc


# --- what differs ------------------------------------------------------------------------------------------


def diff_of(old: Version, new: Version, rule: Rule) -> Diff:
    """Compare two versions.

    Raises:
        DuctaflowError: one of them is not there, or its result, config or notebook is unreadable.
    """
    a, b = _Content.of(old), _Content.of(new)
    notes = tuple(filter(None, (a.fault, b.fault)))
    is_judged = "expected" in (old.role, new.role)
    diff = Diff(old.shown, new.shown, notes)
    if not is_judged:
        diff = replace(diff, config=tuple(_of_config(a, b)), code=_of_code(a, b))
    return diff if notes else _of_outputs(diff, a, b, rule)


@dataclass(frozen=True, slots=True)
class _Content:
    """What there is of a version. `fault` says why it has no outputs to compare."""

    version: Version
    result: Result | None
    fault: str
    files: dict[str, str]

    @classmethod
    def of(cls, version: Version) -> _Content:
        folder = version.folder
        text, hint = _MISSING[version.role]
        hint = hint.format(version.shown.removesuffix(f"@{version.role}"))
        if not folder.is_dir():
            raise InstanceError(f"{version.shown} {text}: there is no {folder}", hint=hint)
        if version.role == "expected":
            entries = entries_expected(folder)
            return cls(version, None, "", {name: entry.kind for name, entry in entries.items()})
        result = read_result(folder)
        inside, tree = version.project.placed(folder)
        if version.role == "run" and has_unfinished_run(tree, inside):
            return cls(
                version, result, f"{version.shown} runs, or was killed: it has no outputs to compare", {}
            )
        if result is None and version.flow:
            raise InstanceError(f"{version.shown} has no finished run", hint=hint)
        if result is None:
            # any folder, perhaps with run folders in it
            found = snapshot(folder).items()
            files: dict[str, str] = {
                name: entry.kind for name, entry in found if not _is_of_ours(folder, name)
            }
            return cls(version, None, "", files)
        if not result.is_complete:
            root = root_of(result)
            said = root.line if root else result.message
            fault = f"{version.shown} failed, so it has no outputs to compare: {said}"
            return cls(version, result, fault, {})
        return cls(version, result, "", {one["path"]: one.get("kind", "file") for one in result.outputs})

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(self.version.folder, self.version.flow)


def _is_of_ours(folder: Path, name: str) -> bool:
    return name.startswith(f"{CACHE_DIR}/") or is_ours(str(folder / name))


def _of_config(old: _Content, new: _Content) -> Iterator[ValueDifference]:
    """Yield the fields of the saved configs that differ; a secret that does shows nothing of itself."""
    if not (old.run_folder.config.is_file() and new.run_folder.config.is_file()):
        return
    root = new.version.project.root
    a, b = (load_saved_config(one.run_folder.config, project_root=root) for one in (old, new))
    before, now = config_fields(a), config_fields(b)
    for name in {**before, **now}:
        x, y = (json.loads(fields[name]) if name in fields else None for fields in (before, now))
        if name not in now:
            yield ValueDifference(name, "gone", plain(_or_null(x)))
        elif name not in before:
            yield ValueDifference(name, "added", None, plain(_or_null(y)))
        elif before[name] != now[name]:
            yield other_value(name, _or_null(x), _or_null(y), EXACTLY)
    hidden, seen = secrets_in(a), secrets_in(b)
    for name in hidden.keys() & seen.keys():
        if hidden[name] != seen[name] and before.get(name) == now.get(name):
            yield ValueDifference(name, "other", "***", "***")


def _or_null(value: object) -> object:
    """Return a value of a config; `null` is one there, while a metric without a value is NaN."""
    return "null" if value is None else value


class _NotebookCell(TypedDict):
    cell_type: str
    source: str | list[str]
    metadata: dict[str, Any]


class _ExecutedNotebook(TypedDict, total=False):
    cells: list[_NotebookCell]


def _of_code(old: _Content, new: _Content) -> FileDifference | None:
    """Compare the code cells that ran, by the lines in the executed notebooks."""
    before, now = _code_of(old), _code_of(new)
    if before is None or now is None:
        hashes = [one.result.lineage["code"] for one in (old, new) if one.result and one.result.lineage]
        is_other = len(hashes) == 2 and hashes[0] != hashes[1]
        return FileDifference("code", "content") if is_other else None
    found = compare_lines("code", list(before.values()), list(now.values()))
    if found is None:
        return None
    places = {"gone": list(before), "added": list(now), "other": list(now)}
    worst = [replace(one, name=places[one.kind][int(one.name.split()[1]) - 1]) for one in found.worst]
    return replace(found, worst=tuple(worst))


def _code_of(content: _Content) -> dict[str, str] | None:
    """Return the lines of the code cells by their place; None if there is no notebook that can be read."""
    try:
        notebook = read_json(content.run_folder.notebook, _ExecutedNotebook) or {}
    except UnreadableError:
        # its page and its outputs are what they are, and its hash tells too
        return None
    if not notebook.get("cells"):
        return None
    found: dict[str, str] = {}
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", ()):
            source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
            first = cell["metadata"].get("ductaflow", {}).get("line")
            for at, line in enumerate(source.split("\n")):
                found[f"line {first + at}" if first else f"cell {number}, line {at + 1}"] = line
    return found


def _of_outputs(diff: Diff, old: _Content, new: _Content, rule: Rule) -> Diff:
    # a run may have more than is expected
    side = "added" if old.version.role == "expected" else "gone" if new.version.role == "expected" else ""
    names = (METRICS,) if side else new.version.project.settings.metrics
    a, b = (read_metrics(one.version.folder, names) for one in (old, new))
    metrics = compare_values(a.values, b.values, lambda _: rule)
    # what a metrics file has besides metrics is compared as JSON
    are_metrics = () if a.notes or b.notes or a.warnings or b.warnings else names
    # those of a build's flows are theirs
    flows = tuple(f"{name}/" for one in (old, new) if one.result for name in one.result.children)
    before, now = (
        {
            name: kind
            for name, kind in one.files.items()
            if name not in are_metrics and not name.startswith(flows)
        }
        for one in (old, new)
    )
    gone, added = sorted(before.keys() - now.keys()), sorted(now.keys() - before.keys())
    both = sorted(before.keys() & now.keys())
    beside = [one.name for one in metrics if one.kind == side]
    files = []
    for name in both:
        x, y = (one.version.folder / name for one in (old, new))
        # links, folders and pipes are what they are, whatever lies behind them
        is_same = before[name] == now[name] != "file" and (
            before[name] != "link" or os.readlink(x) == os.readlink(y)
        )
        found = None if is_same else compare_files(x, y, rule)
        if found and not (side == "added" and found.only_added):
            files.append(replace(found, file=name))
    return replace(
        diff,
        metrics=tuple(one for one in metrics if one.kind != side),
        files=tuple(files),
        gone=tuple(gone) if side != "gone" else (),
        added=tuple(added) if side != "added" else (),
        compared={"metrics": len({**a.values, **b.values}) - len(beside), "files": len(both)},
        beside=len(beside) + len({"added": added, "gone": gone}.get(side, ())),
    )
