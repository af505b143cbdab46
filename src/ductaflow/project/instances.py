"""Stored instances: finds them, names them, and says what is wrong with each.

    config/base.json                     under every config
    config/flows/fit.json                the base of `fit`; its instance `default` if it has no other
    config/flows/fit/scenario_A.json     the instance fit[scenario_A]
    config/flows/fit.csv                 one instance a row

A fault of an instance never raises here. It becomes the `problem` of that instance, so that one bad file
costs its own instance only. `graph.collect` adds the problems that only the graph shows.
"""

from __future__ import annotations

import errno
import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.paths import BASE_CONFIG, DEFAULT_INSTANCE, KIND_DIRS, SOURCE_SUFFIXES, Kind, RunFolder
from ductaflow.common.text import did_you_mean, quoted
from ductaflow.project.csvs import table_drafts
from ductaflow.project.layers import NO_LAYER, Bases, Draft, Layer, StoredFlow, broken_draft
from ductaflow.project.names import (
    check_hides_nothing,
    check_name,
    name_fault,
    run_folder_of,
    spelled_name,
    spelling,
)
from ductaflow.project.options import RunOptions
from ductaflow.project.other_notebooks import no_flow
from ductaflow.project.settings import Project
from ductaflow.project.values import json_object

_UNCHANGED: Mapping[str, JsonValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Instance:
    """A flow or build together with a name and a config.

    Attributes:
        kind: whether it is a flow or a build.
        flow: name of the flow or build.
        name: name of the instance.
        project: the project that it is stored in.
        config: what the flow receives: merged, placeholders filled, without `_run`, with an absolute
            `_project_root`. Empty if there is a problem with the config.
        options: the options in `_run`.
        source: the notebook, or None.
        file: the config file (or table) that it is stored in.
        line: where it begins in that file, the first line being 1.
        problem: why it cannot be run; None if it can.
        is_stored: whether it is one of the project's, and neither a row of a table nor a variant.
        saved: the run folder, where the config is the saved one of that folder and not a stored one.
        notes: what is doubtful about what it reads; each is a warning in the log of its run. None if nobody
            has looked (`graph.noted` does).
        id: `fit/scenario_A`; one text for all who keep it.
    """

    kind: Kind
    flow: str
    name: str
    project: Project
    config: dict[str, JsonValue] = field(hash=False)
    options: RunOptions
    source: Path | None
    file: Path
    problem: DuctaflowError | None = None
    saved: Path | None = None
    notes: tuple[str, ...] | None = field(default=None, compare=False)
    is_stored: bool = False
    line: int = 1
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{self.flow}/{self.name}")

    @property
    def title(self) -> str:
        """`fit[scenario_A]`"""
        return f"{self.flow}[{self.name}]"

    @property
    def shown(self) -> str:
        """As a person names it on the command line: its id, or the folder from the project."""
        return self.saved.relative_to(self.project.root).as_posix() if self.saved else self.id

    def skip_reason(self) -> str | None:
        """Why its `_run` says to skip it; None if it does not."""
        if self.options.skip:
            return self.options.skip
        absent = [name for name in self.options.skip_without if not (self.project.root / name).exists()]
        return f"not there: {', '.join(absent)}" if absent else None

    @property
    def run_folder(self) -> RunFolder:
        """Its run folder. For a name that leads out of the runs folder, a folder inside that never exists."""
        if self.saved:
            return RunFolder(self.saved, self.flow)
        return run_folder_of(self.project, self.flow, self.name)


class Instances:
    """The stored instances of a project, with lookups.

    Args:
        instances: those of `graph.collect`; by default they are looked up.

    Attributes:
        all: the instances in the order of `find_instances`.
    """

    def __init__(self, project: Project, instances: Iterable[Instance] | None = None) -> None:
        self.project = project
        self.all: tuple[Instance, ...] = find_instances(project) if instances is None else tuple(instances)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    @cached_property
    def by_id(self) -> dict[str, Instance]:
        """Instances by id, `fit/scenario_A`; the first one if an id occurs twice."""
        found: dict[str, Instance] = {}
        for instance in self.all:
            found.setdefault(instance.id, instance)
        return found

    def in_file(self, path: str | Path) -> tuple[Instance, ...]:
        """Return the instances that a file stores, in its order."""
        # as it is first: a session asks for thousands of files, and their paths are absolute
        found = self._by_file.get(os.fspath(path)) or self._by_file.get(os.path.abspath(path))
        return tuple(found or ())

    @cached_property
    def _by_file(self) -> dict[str, list[Instance]]:
        groups = defaultdict(list)
        for instance in self.all:
            groups[os.path.abspath(instance.file)].append(instance)
        return groups

    def of_flow(self, flow: str) -> tuple[Instance, ...]:
        """Return the instances of a flow or build."""
        return tuple(instance for instance in self.all if instance.flow == flow)


def find_instances(project: Project) -> tuple[Instance, ...]:
    """Find all stored instances of a project, each with its problem if it has one.

    The order is the one in which pytest walks through `config/`: builds before flows, flows by name; for each
    flow first the files in its folder by name, then the rows of its table.

    No content of a file raises. A table that has no row or cannot be read is one instance with the name of
    the file, and a row without a name is an instance called `line-<number>`. Rows of one table with the same
    name are one instance, whose problem names their lines.

    Raises:
        OSError: `config/flows` or `config/builds` cannot be listed.

    Example:
        >>> project = Project.around(Path.cwd())
        >>> [instance.id for instance in find_instances(project)]
        ['fit/scenario_A', 'fit/scenario_B']
    """
    finder = _Finder(project)
    return tuple(instance for stored in finder.stored for instance in finder.instances(stored))


def stored_ids(project: Project) -> list[str]:
    """List the ids of all stored instances by the names of files and rows, without reading a config.

    What is wrong with an instance does not show, and one that is stored twice is there once.

    Raises:
        OSError: `config/flows` or `config/builds` cannot be listed.
    """
    entries = (stored for kind in sorted(KIND_DIRS) for stored in _stored(project, kind))
    return [*dict.fromkeys(f"{entry.flow}/{draft.name}" for entry in entries for draft in _drafts(entry))]


def load_stored(project: Project, id: str, *, over: Mapping[str, JsonValue] = _UNCHANGED) -> Instance:
    """Load one stored instance by its id, `fit/scenario_A`, or its title, `fit[scenario_A]`.

    Only its own files are read. It may have a `problem`, but not one that only the graph shows.

    Args:
        project: where it is stored.
        id: its id or title.
        over: values, `_run` included, that are merged over its config before placeholders are filled.

    Raises:
        InstanceError: there is no such instance; the message suggests a similar one.

    Example:
        >>> instance = load_stored(Project.around(Path.cwd()), "fit[scenario_A]")
        >>> instance.id, instance.config["x"]
        ('fit/scenario_A', 1)
    """
    match = re.fullmatch(r"([^/\[\]]+)(?:/([^/\[\]]+)|\[([^/\[\]]+)\])", id)
    finder = _Finder(project)
    if match is None:
        near = did_you_mean(id, sorted({entry.flow for entry in finder.stored}))
        hint = f"{near} Write flow/instance.".lstrip()
        raise InstanceError(f"{quoted(id)} is not the id of an instance", hint=hint)
    flow, name = match[1], match[2] or match[3]
    stored = [entry for entry in finder.stored if entry.flow == flow]
    if not stored:
        flows = sorted({entry.flow for entry in finder.stored})
        hint = did_you_mean(flow, flows) or f"Flows that have some: {', '.join(flows) or 'none'}."
        raise InstanceError(f"{id}: {flow} has no stored instance in {project.config_dir}", hint=hint)
    for entry in stored:
        for instance in finder.instances(entry, only=name, over=over):
            if instance.name == name:
                return instance
    names = [instance.name for entry in stored for instance in finder.instances(entry)]
    hint = did_you_mean(name, names) or f"There is {', '.join(names[:10])}{' ...' if names[10:] else ''}."
    raise InstanceError(f"{flow} has no stored instance {quoted(name)}", hint=hint)


def make_instance(
    project: Project,
    kind: Kind,
    flow: str,
    name: str,
    config: Mapping[str, object],
    *,
    source: Path | None = None,
) -> Instance:
    """Make an instance that is not stored, from Python values merged over the project's bases.

    Args:
        config: its own values, `_run` included.
        source: the notebook; by default the project's own.

    Raises:
        ConfigError: a base or the config is not acceptable.
        InstanceError: a name is not, or there is no source.
    """
    check_name(flow)
    check_name(name)
    check_hides_nothing(kind, flow)
    finder = _Finder(project)
    if source is None and (problem := finder.flow_problem(kind, flow)):
        raise problem
    where = f"config of {flow}[{name}]"
    base = project.config_of(kind) / f"{flow}.json"
    bases = Bases(finder.root, finder.base, Layer.read(str(base)) if base.is_file() else NO_LAYER)
    values, options = bases.config_of(flow, name, Layer(where, json_object(config, where=where)), _UNCHANGED)
    notebook = source or project.source(kind, flow)
    file = project.config_of(kind) / flow / f"{name}.json"
    return Instance(kind, flow, name, project, values, options, notebook, file)


class _Finder:
    """Finds the instances of one project; lists each folder and reads each base once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.root = Path(os.path.abspath(project.root)).as_posix()
        self.stored = [stored for kind in sorted(KIND_DIRS) for stored in _stored(project, kind)]
        base = os.path.join(project.config_dir, BASE_CONFIG)
        self.base = Layer.read(base) if os.path.lexists(base) else NO_LAYER

    def instances(
        self, stored: StoredFlow, *, only: str | None = None, over: Mapping[str, JsonValue] = _UNCHANGED
    ) -> Iterator[Instance]:
        """Yield the instances of a flow; with `only`, those whose names some file system takes for it."""
        kind, flow, project = stored.kind, stored.flow, self.project
        bases = Bases(self.root, self.base, Layer.read(stored.base) if stored.base else NO_LAYER)
        flow_problem = self.flow_problem(kind, flow)
        source = project.source(kind, flow) if not name_fault(flow) else None
        wanted = None if only is None else spelling(only)
        for draft in _without_clashes(flow, _drafts(stored), self.root):
            if wanted is not None and spelling(draft.name) != wanted:
                continue
            config: dict[str, JsonValue] = {}
            options = RunOptions()
            problem = draft.problem or flow_problem
            try:
                check_name(draft.name)
                own = draft.layer or Layer.read(draft.file)
                config, options = bases.config_of(flow, draft.name, own, over)
            except DuctaflowError as exc:
                problem = problem or exc
            # Each instance has an exception of its own: one that is raised again and again grows a traceback.
            problem = problem.bare() if problem else None
            yield Instance(
                *(kind, flow, draft.name, project, config, options, source, Path(draft.file), problem),
                is_stored=True,
                line=draft.line or 1,
            )

    def flow_problem(self, kind: Kind, flow: str) -> DuctaflowError | None:
        """The problem of a flow itself, and so of each of its instances."""
        try:
            check_name(flow)
            check_hides_nothing(kind, flow)
            self._check_source(kind, flow)
            self._check_alone(kind, flow)
        except InstanceError as exc:
            return exc
        return None

    def _check_source(self, kind: Kind, flow: str) -> None:
        if source := self.project.source(kind, flow):
            if problem := no_flow(source, shown := f"{KIND_DIRS[kind]}/{source.name}"):
                raise InstanceError(f"{shown} {problem.what}", hint=problem.remedy)
            return
        known = [name for name, where in self._sources if where == kind]
        hint = did_you_mean(flow, known) or "Write it, or rename the config like its source."
        for file in sorted(self.project.source_dir(kind).glob(f"{glob.escape(flow)}.*")):
            shown = f"{KIND_DIRS[kind]}/{file.name}"
            if file.name == f"{flow}.myst.md" and file.is_file():
                raise InstanceError(
                    f"{shown} has a name of two endings", hint=f"Rename it to {KIND_DIRS[kind]}/{flow}.md."
                )
            if file.stem == flow and file.is_file() and (problem := no_flow(file, shown)):
                if problem.is_known:
                    raise InstanceError(f"{shown} {problem.what}", hint=problem.remedy)
                hint = f"{shown} {problem.what}. {problem.remedy}"
        if any(name == flow for name, _ in self._sources):
            other = KIND_DIRS["build" if kind == "flow" else "flow"]
            stored = self.project.settings.config_dir
            hint = f"There is one in {other}/, whose configs belong to {stored}/{other}/."
        raise InstanceError(f"there is no {KIND_DIRS[kind]}/{flow}.py (nor .ipynb, .md)", hint=hint)

    def _check_alone(self, kind: Kind, flow: str) -> None:
        names = {*self._sources, *((stored.flow, stored.kind) for stored in self.stored)}
        same = spelling(flow)
        others = [
            f"the {other_kind} {name}"
            for name, other_kind in sorted(names)
            if spelling(name) == same and (name, other_kind) != (flow, kind)
        ]
        if others:
            runs = self.project.settings.runs_dir
            raise InstanceError(
                f"the {kind} {flow} and {' and '.join(others)} would share a folder in {runs}/",
                hint="Rename all but one: flows and builds share one namespace, and case does not count.",
            )

    @cached_property
    def _sources(self) -> set[tuple[str, Kind]]:
        """Name and kind of every source."""
        return {
            (spelled_name(stem), kind)
            for kind in KIND_DIRS
            for stem, suffix, _ in _files(str(self.project.source_dir(kind)))
            if suffix in SOURCE_SUFFIXES
        }


def _files(folder: str) -> list[tuple[str, str, os.DirEntry[str]]]:
    """List a folder by name, as stem, suffix in lower case, and entry, without hidden entries."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    parts = [(*os.path.splitext(entry.name), entry) for entry in entries if entry.name[0] != "."]
    return [(stem, suffix.lower(), entry) for stem, suffix, entry in parts]


def _stored(project: Project, kind: Kind) -> list[StoredFlow]:
    """What `config/flows` or `config/builds` holds, by the name of the flow."""
    found: dict[str, StoredFlow] = {}
    for stem, suffix, entry in _files(str(project.config_of(kind))):
        is_folder = os.path.isdir(entry.path) or _is_lost(entry, project, kind)
        if is_folder or suffix in (".json", ".csv"):
            flow = spelled_name(entry.name if is_folder else stem)
            stored = found.setdefault(flow, StoredFlow(kind, flow))
            if is_folder:
                stored.folder = entry.path
            elif suffix == ".json":
                stored.base = entry.path
            else:
                stored.table = entry.path
    return [found[flow] for flow in sorted(found)]


def _is_lost(entry: os.DirEntry[str], project: Project, kind: Kind) -> bool:
    """Whether an entry is a link to the folder of a flow that is not there."""
    is_link = entry.is_symlink() and not os.path.exists(entry.path)
    return is_link and not name_fault(entry.name) and project.source(kind, entry.name) is not None


def _drafts(stored: StoredFlow) -> list[Draft]:
    drafts: list[Draft] = []
    try:
        if stored.folder and not os.path.isdir(stored.folder):
            raise FileNotFoundError(errno.ENOENT, "it is a link that leads nowhere")
        for stem, suffix, entry in _files(stored.folder) if stored.folder else ():
            if suffix == ".json" and not os.path.isdir(entry.path):
                drafts.append(Draft(spelled_name(stem), entry.path))
    except OSError as exc:
        folder = str(stored.folder)
        drafts.append(broken_draft(folder, ConfigError(f"{folder}: cannot be listed: {exc.strerror or exc}")))
    if stored.table:
        drafts += table_drafts(stored.table)
    if not drafts and stored.base:
        drafts.append(Draft(DEFAULT_INSTANCE, stored.base, layer=Layer(stored.base, {})))
    return drafts


def _without_clashes(flow: str, drafts: list[Draft], root: str) -> list[Draft]:
    """Give each instance that shares its name with another, to some file system, a problem that says so.

    Rows of one table with exactly the same name become one instance, since they would share a node id.
    """
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        groups.setdefault(spelling(draft.name), []).append(draft)
    if len(groups) == len(drafts):
        return drafts
    for group in groups.values():
        if len(group) > 1:
            places = [
                f"{quoted(draft.name)} in {_below(root, draft.place)}" for draft in group[:_SHOWN_CLASHES]
            ]
            places += [f"{len(group) - _SHOWN_CLASHES} more"] if len(group) > _SHOWN_CLASHES else []
            for draft in group:
                draft.problem = InstanceError(
                    f"{flow} has the same instance {len(group)} times: {', '.join(places)}", hint=_RENAME
                )
    unique: dict[tuple[str, str], Draft] = {}
    for draft in drafts:
        unique.setdefault((draft.name, draft.file), draft)
    return [*unique.values()]


_SHOWN_CLASHES = 5
_RENAME = "Rename all but one; names that differ only by case or Unicode form are one to some file systems."


def _below(root: str, place: str) -> str:
    """A place relative to the project, with `/`."""
    return place.replace(os.sep, "/").removeprefix(f"{root}/")
