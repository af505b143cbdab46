"""Stored instances: finds them, names them, and says what is wrong with each.

    config/base.json                     under every config
    config/flows/fit.json                the base of `fit`; its instance `default` if it has no other
    config/flows/fit/scenario_A.json     the instance fit[scenario_A]
    config/flows/fit.csv                 one instance a row

What is wrong with an instance never raises here: it is the instance's `problem`, so that one bad file costs
its own instance only. `graph.collect` adds what only the graph can see.
"""

from __future__ import annotations

import csv
import functools
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ductaflow.config import (
    ROOT_KEY,
    RUN_KEY,
    RunOptions,
    did_you_mean,
    fill_placeholders,
    json_value,
    merge,
    parse_cell,
    read_config,
    read_text,
    row_config,
    split_run,
)
from ductaflow.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.layout import (
    BASE_CONFIG,
    CONFIG_DIR,
    DEFAULT_INSTANCE,
    KIND_DIRS,
    RUNS_DIR,
    SOURCE_SUFFIXES,
    Kind,
    Project,
    RunFolder,
)

#: The columns of a scenario table that may hold the name of the instance.
NAME_COLUMNS = ("instance", "instance_name")
MAX_NAME_BYTES = 80
_NO_OPTIONS = RunOptions()
_UNCHANGED: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Instance:
    """A flow or build together with a name and a config.

    Attributes:
        kind: whether it is a flow or a build.
        flow: name of the flow or build.
        name: name of the instance.
        project: the project that it is stored in.
        config: what the flow receives: merged, placeholders filled, without `_run`, with an absolute
            `_project_root`. Empty if the problem is that it cannot be made.
        options: what `_run` says.
        source: the notebook; None if there is none.
        file: the config file (or table) that it is stored in.
        problem: why it cannot be run; None if it can.
    """

    kind: Kind
    flow: str
    name: str
    project: Project
    config: dict[str, Any] = field(hash=False)
    options: RunOptions
    source: Path | None
    file: Path
    problem: DuctaflowError | None = None

    @property
    def id(self) -> str:
        """`fit/scenario_A`"""
        return f"{self.flow}/{self.name}"

    @property
    def title(self) -> str:
        """`fit[scenario_A]`"""
        return f"{self.flow}[{self.name}]"

    def skip_reason(self) -> str | None:
        """Why it is not run at all, as its `_run` says; None if it is."""
        if self.options.skip:
            return self.options.skip
        absent = [name for name in self.options.skip_without if not (self.project.root / name).exists()]
        return f"not there: {', '.join(absent)}" if absent else None

    @property
    def run_folder(self) -> RunFolder:
        """Its run folder. A name that would leave the runs tree gives a folder in it that never exists."""
        return _run_folder(self.project, self.flow, self.name)


class Instances:
    """The stored instances of a project, to look things up in.

    Args:
        project: where to look.
        instances: the instances, if they were found before (`graph.collect` does); else they are found now.

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
        """`fit/scenario_A` -> the instance; the first one where an id is given twice."""
        found: dict[str, Instance] = {}
        for instance in self.all:
            found.setdefault(instance.id, instance)
        return found

    def in_file(self, path: str | Path) -> tuple[Instance, ...]:
        """The instances that are stored in a file, in its order."""
        return self._by_file.get(os.path.abspath(path), ())

    def of_flow(self, flow: str) -> tuple[Instance, ...]:
        """The instances of a flow or build."""
        return self._by_flow.get(flow, ())

    @cached_property
    def _by_file(self) -> dict[str, tuple[Instance, ...]]:
        return _grouped((os.path.abspath(instance.file), instance) for instance in self.all)

    @cached_property
    def _by_flow(self) -> dict[str, tuple[Instance, ...]]:
        return _grouped((instance.flow, instance) for instance in self.all)


def _grouped(pairs: Iterable[tuple[str, Instance]]) -> dict[str, tuple[Instance, ...]]:
    groups: dict[str, list[Instance]] = {}
    for key, instance in pairs:
        groups.setdefault(key, []).append(instance)
    return {key: tuple(group) for key, group in groups.items()}


def find_instances(project: Project) -> tuple[Instance, ...]:
    """All stored instances of a project, each with its problem if it has one.

    The order is that of a walk through `config/` by name, as pytest makes it: builds before flows, flows by
    name; of one flow first the files in its folder by name, then the rows of its table as they stand.

    Nothing that a file holds raises. A table that has no row or cannot be read is one instance under the name
    of its file, and a row without a name is one called `line-<number>`. Rows of one table that have the same
    name are one instance, whose problem names their lines.

    Raises:
        OSError: `config/flows` or `config/builds` cannot be listed.
    """
    finder = _Finder(project)
    return tuple(instance for stored in finder.stored for instance in finder.instances(stored))


def load_stored(project: Project, id: str, *, over: Mapping[str, Any] = _UNCHANGED) -> Instance:
    """One stored instance by its id, `fit/scenario_A`, or its title, `fit[scenario_A]`.

    Only what bears on it is read. It may have a `problem`, but not one that only the graph can see.

    Args:
        project: where it is stored.
        id: its id or title.
        over: values, `_run` included, that are merged over its config before placeholders are filled.

    Raises:
        InstanceError: there is no such instance; the message says which one may be meant.
    """
    match = re.fullmatch(r"([^/\[\]]+)(?:/([^/\[\]]+)|\[([^/\[\]]+)\])", id)
    if match is None:
        raise InstanceError(f"{_shown(id)} is not the id of an instance", hint="Write flow/instance.")
    flow, name = match[1], match[2] or match[3]
    finder = _Finder(project)
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
    raise InstanceError(f"{flow} has no stored instance {_shown(name)}", hint=hint)


def make_instance(
    project: Project,
    kind: Kind,
    flow: str,
    name: str,
    config: Mapping[str, Any],
    *,
    source: Path | None = None,
) -> Instance:
    """An instance that is not stored, from values of Python, merged over the project's bases.

    Args:
        project: whose bases are taken.
        kind: whether `flow` is a flow or a build.
        flow: name of the flow or build.
        name: name of the instance.
        config: its own values, `_run` included.
        source: the notebook; by default the project's own.

    Raises:
        ConfigError: a base or the config is not acceptable.
        InstanceError: a name is not, or there is no source.
    """
    check_name(flow)
    check_name(name)
    _check_hides_nothing(kind, flow)
    finder = _Finder(project)
    if source is None and (problem := finder.flow_problem(kind, flow)):
        raise problem
    where = f"config of {flow}[{name}]"
    base = project.config_of(kind) / f"{flow}.json"
    layers = [
        finder.base,
        _Layer.read(str(base)) if base.is_file() else _NOTHING,
        _Layer(where, json_value(config, where=where)),
    ]
    values, options = _made(flow, name, finder.root, layers, merge(*(layer.config for layer in layers[:-1])))
    notebook = source or project.source(kind, flow)
    file = project.config_of(kind) / flow / f"{name}.json"
    return Instance(kind, flow, name, project, values, options, notebook, file)


# --- names -------------------------------------------------------------------------------------------------

_NAME = re.compile(r"[\w+](?:[\w.+-]*[\w+-])?")
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL"] + [f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"]
)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a flow or an instance, and so of a folder on every platform.

    Letters of any script, digits, `_`, `-`, `.` and `+`; no `-` or `.` at the beginning, no `.` at the end;
    no device of Windows (`CON`, `nul.2030`); at most 80 bytes as UTF-8; letters with accents in one piece
    (Unicode form NFC). That is what pytest's `-k` can select.

    Raises:
        InstanceError: says what is wrong with it and gives a name that would do.
    """
    fault = _name_fault(name)
    if fault:
        raise InstanceError(
            f"{_shown(name)} cannot be a name: {fault}", hint=f"{_usable_name(name)} would do."
        )


def _name_fault(name: str) -> str:
    """What is wrong with a name; an empty string if nothing is."""
    if not _NAME.fullmatch(name):
        if not name:
            return "it is empty"
        odd = "".join(dict.fromkeys(re.findall(r"[^\w.+-]", name)))
        if odd:
            return f"letters, digits, _ - . + are allowed, not {_shown(odd)}"
        return "it begins with - or ." if name[0] in "-." else "it ends with a dot"
    if len(name) > MAX_NAME_BYTES // 4 and len(name.encode()) > MAX_NAME_BYTES:
        return f"it has {len(name.encode())} bytes, {MAX_NAME_BYTES} are allowed"
    if name.partition(".")[0].upper() in _DEVICES:
        return "it is a device on Windows"
    if not name.isascii() and not unicodedata.is_normalized("NFC", name):
        return "it is not in the Unicode form NFC"
    return ""


def _usable_name(name: str) -> str:
    """A name near a given one that would do."""
    name = re.sub(r"[^\w.+-]+", "\0", unicodedata.normalize("NFC", name))
    name = name.lstrip("-.\0").rstrip("\0").replace("\0", "_")
    name = name.encode()[: MAX_NAME_BYTES - 1].decode(errors="ignore").rstrip(".")
    stem, dot, rest = name.partition(".")
    if stem.upper() in _DEVICES:
        name = f"{stem}_{dot}{rest}"
    return name or "instance"


@functools.lru_cache(maxsize=1 << 15)
def _run_folder(project: Project, flow: str, name: str) -> RunFolder:
    # A session asks for it many times for each instance, and paths are slow to make.
    return project.run_folder(_folder_name(flow), _folder_name(name))


def _folder_name(name: str) -> str:
    # "%" is in no valid name, so this folder is nobody's.
    return "%" + re.sub(r"[^\w+-]", "%", name)[:16] if _name_fault(name) else name


def spelling(name: str) -> str:
    """What two names have in common that are one name to some file system: case and Unicode form aside."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _shown(text: str) -> str:
    """A text from outside in an error message: quoted, no control characters, not too long."""
    text = ascii(text)[1:-1] if not text.isprintable() else text
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def _printable(name: str) -> str:
    """A file name with bytes that are no UTF-8 cannot travel between processes as it is."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


# --- what is stored where ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stored:
    """Where the instances of one flow are: its folder, its own config and its table, each if there is one."""

    kind: Kind
    flow: str
    folder: str | None = None
    base: str | None = None
    table: str | None = None


@dataclass(slots=True)
class _Layer:
    """One config of several that are merged, and where it stands; or why it cannot be read."""

    where: str
    config: dict[str, Any]
    problem: DuctaflowError | None = None

    @classmethod
    def read(cls, path: str) -> _Layer:
        try:
            return cls(path, read_config(path))
        except ConfigError as exc:
            return cls(path, {}, _fresh(exc))


_NOTHING = _Layer("", {})


@dataclass(slots=True)
class _Draft:
    """An instance to be: its name, its file, where it stands (a table's line included) and its own config.

    `layer` is None for a file that is still to be read.
    """

    name: str
    file: str
    place: str
    layer: _Layer | None = None
    problem: DuctaflowError | None = None


class _Finder:
    """Finds the instances of one project; lists each folder and reads each base once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.root = _root(project)
        self.stored = [stored for kind in sorted(KIND_DIRS) for stored in _stored(project, kind)]
        base = os.path.join(project.config_dir, BASE_CONFIG)
        self.base = _Layer.read(base) if os.path.lexists(base) else _NOTHING

    def instances(
        self, stored: _Stored, *, only: str | None = None, over: Mapping[str, Any] = _UNCHANGED
    ) -> Iterator[Instance]:
        """The instances of one flow.

        Args:
            only: just those whose name is that one to some file system.
            over: merged over the config of each, before its placeholders are filled.
        """
        kind, flow, project = stored.kind, stored.flow, self.project
        base = _Layer.read(stored.base) if stored.base else _NOTHING
        common = merge(self.base.config, base.config)
        flow_problem = self.flow_problem(kind, flow)
        source = project.source(kind, flow) if not _name_fault(flow) else None
        wanted = None if only is None else spelling(only)
        for draft in _without_clashes(flow, _drafts(stored), self.root):
            if wanted is not None and spelling(draft.name) != wanted:
                continue
            config: dict[str, Any] = {}
            options = _NO_OPTIONS
            problem = draft.problem or flow_problem
            try:
                check_name(draft.name)
                own = draft.layer or _Layer.read(draft.file)
                below = common
                if over:
                    below, own = merge(common, own.config), _Layer(own.where, dict(over), own.problem)
                config, options = _made(flow, draft.name, self.root, [self.base, base, own], below)
            except DuctaflowError as exc:
                problem = problem or exc
            # Each instance has an exception of its own: one that is raised again and again grows a traceback.
            problem = _fresh(problem) if problem else None
            yield Instance(
                kind, flow, draft.name, project, config, options, source, Path(draft.file), problem
            )

    def flow_problem(self, kind: Kind, flow: str) -> DuctaflowError | None:
        """What is wrong with a flow itself, and so with each of its instances."""
        try:
            check_name(flow)
            _check_hides_nothing(kind, flow)
            self._check_source(kind, flow)
            self._check_alone(kind, flow)
        except InstanceError as exc:
            return exc
        return None

    def _check_source(self, kind: Kind, flow: str) -> None:
        if self.project.source(kind, flow) is not None:
            return
        known = [name for name, where in self._sources if where == kind]
        hint = did_you_mean(flow, known) or "Write it, or rename the config like its source."
        if any(name == flow for name, _ in self._sources):
            other = KIND_DIRS["build" if kind == "flow" else "flow"]
            hint = f"There is one in {other}/, whose configs belong to {CONFIG_DIR}/{other}/."
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
            raise InstanceError(
                f"the {kind} {flow} and {' and '.join(others)} would share a folder in {RUNS_DIR}/",
                hint="Rename all but one: flows and builds share one namespace, and case does not count.",
            )

    @cached_property
    def _sources(self) -> set[tuple[str, Kind]]:
        """Name and kind of every source."""
        return {
            (_printable(stem), kind)
            for kind in KIND_DIRS
            for stem, suffix, _ in _files(str(self.project.source_dir(kind)))
            if suffix in SOURCE_SUFFIXES
        }


def check_flow_name(kind: Kind, flow: str) -> None:
    """Refuse what cannot be the name of a new flow or build: see `check_name`, or it would hide a module.

    Of the stored ones only those are refused that hide a module of Python's own.

    Raises:
        InstanceError: says why, and gives a name that would do.
    """
    if not flow:
        raise InstanceError(
            f"a {kind} cannot be called nothing", hint=f"Give a name: ductaflow new {kind} NAME"
        )
    check_name(flow)
    if _hides_module(flow) or _is_installed(flow):
        raise _hiding(kind, flow, hint=f"Give another name, for example {flow}_{kind}.")


def _check_hides_nothing(kind: Kind, flow: str) -> None:
    if _hides_module(flow):
        rename = f"Rename {KIND_DIRS[kind]}/{flow}.py and its configs, for example to {flow}_{kind}."
        raise _hiding(kind, flow, hint=rename)


def _hides_module(flow: str) -> bool:
    return flow in sys.stdlib_module_names or flow == "ductaflow"


def _is_installed(name: str) -> bool:
    """Whether it is a top-level module that some installed distribution brings."""
    from importlib.metadata import packages_distributions

    return name in packages_distributions()


def _hiding(kind: Kind, flow: str, *, hint: str) -> InstanceError:
    return InstanceError(
        f"a {kind} cannot be called {flow}: as a script it would hide the module of that name", hint=hint
    )


def _made(
    flow: str, name: str, root: str, layers: Sequence[_Layer], common: Mapping[str, Any]
) -> tuple[dict[str, Any], RunOptions]:
    """The config and the options of an instance; `common` is all layers but the last, merged."""
    for layer in layers:
        if layer.problem:
            raise layer.problem
    own = layers[-1]
    try:
        filled = fill_placeholders(merge(common, own.config), instance=name, flow=flow, project_root=root)
    except ConfigError as exc:
        raise ConfigError(f"{own.where}: {exc.message}", hint=exc.hint) from exc
    try:
        config, options = split_run(filled, where=own.where)
    except ConfigError:
        # The fault may be a base's, and then its own file is the one to name.
        for layer in reversed(layers):
            split_run(layer.config, where=layer.where)
        raise
    config[ROOT_KEY] = root
    return config, options


def _fresh(problem: DuctaflowError) -> DuctaflowError:
    """The same error without a traceback, which would keep everything alive that was read."""
    return type(problem)(problem.message, hint=problem.hint)


def _root(project: Project) -> str:
    return Path(os.path.abspath(project.root)).as_posix()


def _files(folder: str) -> list[tuple[str, str, os.DirEntry[str]]]:
    """The entries of a folder by name, as stem, suffix in lower case, and entry; hidden ones are left out."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    parts = [(*os.path.splitext(entry.name), entry) for entry in entries if entry.name[0] != "."]
    return [(stem, suffix.lower(), entry) for stem, suffix, entry in parts]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # a loop of symlinks: reading it will say so
        return False


def _stored(project: Project, kind: Kind) -> list[_Stored]:
    """What `config/flows` or `config/builds` holds, by the name of the flow."""
    found: dict[str, _Stored] = {}
    for stem, suffix, entry in _files(str(project.config_of(kind))):
        is_folder = _is_dir(entry)
        if is_folder or suffix in (".json", ".csv"):
            flow = _printable(entry.name if is_folder else stem)
            stored = found.setdefault(flow, _Stored(kind, flow))
            part = "folder" if is_folder else "base" if suffix == ".json" else "table"
            setattr(stored, part, entry.path)
    return [found[flow] for flow in sorted(found)]


def _drafts(stored: _Stored) -> list[_Draft]:
    drafts: list[_Draft] = []
    try:
        for stem, suffix, entry in _files(stored.folder) if stored.folder else ():
            if suffix == ".json" and not _is_dir(entry):
                drafts.append(_Draft(_printable(stem), entry.path, entry.path))
    except OSError as exc:
        folder = str(stored.folder)
        drafts.append(_broken(folder, ConfigError(f"{folder}: cannot be listed: {exc.strerror or exc}")))
    if stored.table:
        drafts += _table_drafts(stored.table)
    if not drafts and stored.base:
        drafts.append(_Draft(DEFAULT_INSTANCE, stored.base, stored.base, _Layer(stored.base, {})))
    return drafts


def _broken(path: str, problem: DuctaflowError) -> _Draft:
    """Stands for the instances of a file that cannot be read."""
    return _Draft(_printable(os.path.basename(path)), path, path, _Layer(path, {}, problem))


def _without_clashes(flow: str, drafts: list[_Draft], root: str) -> list[_Draft]:
    """Give each of those that share a name, as some file system sees it, a problem that names the others.

    Rows of one table with the very same name become one: they would have one and the same node id.
    """
    groups: dict[str, list[_Draft]] = {}
    for draft in drafts:
        groups.setdefault(spelling(draft.name), []).append(draft)
    if len(groups) == len(drafts):
        return drafts
    dropped: set[int] = set()
    for group in groups.values():
        if len(group) > 1:
            places = [
                f"{_shown(draft.name)} in {_below(root, draft.place)}" for draft in group[:_SHOWN_CLASHES]
            ]
            places += [f"{len(group) - _SHOWN_CLASHES} more"] if len(group) > _SHOWN_CLASHES else []
            seen: set[tuple[str, str]] = set()
            for draft in group:
                dropped |= {id(draft)} if (draft.name, draft.file) in seen else set()
                seen.add((draft.name, draft.file))
                draft.problem = InstanceError(
                    f"{flow} has the same instance {len(group)} times: {', '.join(places)}", hint=_RENAME
                )
    return [draft for draft in drafts if id(draft) not in dropped]


_SHOWN_CLASHES = 5
_RENAME = "Rename all but one; names that differ only by case or Unicode form are one to some file systems."


def _below(root: str, place: str) -> str:
    """A place relative to the project, with `/`."""
    return place.replace(os.sep, "/").removeprefix(f"{root}/")


# --- scenario tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a scenario table, each with the line where it begins.

    `fault` is what stopped the reading before the end.
    """

    path: str
    columns: tuple[str, ...]
    name_column: int
    rows: tuple[tuple[int, list[str]], ...]
    fault: ConfigError | None

    @property
    def header_fault(self) -> ConfigError | None:
        """What is wrong with the columns as such, and so with each row."""
        for index, column in enumerate(self.columns):
            if column in self.columns[:index]:
                return ConfigError(f"{self.path}: two columns are called {column}", hint="Keep one of them.")
            if not column and any(row[index : index + 1] not in ([], [""]) for _, row in self.rows):
                return ConfigError(
                    f"{self.path}: column {index + 1} has no name",
                    hint="Name it. If pandas wrote the table: to_csv(..., index=False).",
                )
        return None


def _table_drafts(path: str) -> list[_Draft]:
    """The instances of a scenario table, a row each, besides one for what cannot be read."""
    try:
        table = _read_table(path)
    except ConfigError as exc:
        return [_broken(path, exc)]
    header_fault = table.header_fault
    drafts = [_row_draft(table, line, cells, header_fault) for line, cells in table.rows]
    if table.fault:
        return [*drafts, _broken(path, table.fault)]
    hint = "Add a row for each instance, or remove the table."
    return drafts or [_broken(path, ConfigError(f"{path}: the table has no row", hint=hint))]


def _read_table(path: str) -> _Table:
    text = read_text(path)
    first: list[str] = []
    for delimiter in ",;":
        rows, fault = _read_rows(path, text, delimiter)
        columns = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
        naming = [index for index, column in enumerate(columns) if column in NAME_COLUMNS]
        if len(naming) == 1:
            return _Table(path, columns, naming[0], tuple(rows[1:]), fault)
        if len(naming) > 1:
            raise ConfigError(f"{path}: two columns name the instance", hint="Keep one of them.")
        first = first if len(first) > len(columns) else list(columns)
    near = did_you_mean(NAME_COLUMNS[0], first)
    raise ConfigError(
        f"{path}:1: there is no column {NAME_COLUMNS[0]}, only {', '.join(first[:10]) or 'an empty file'}",
        hint=near.replace("mean", "name it") if near else "It holds the name of each instance.",
    )


def _read_rows(
    path: str, text: str, delimiter: str
) -> tuple[list[tuple[int, list[str]]], ConfigError | None]:
    """The rows that are not blank, each with its line, as far as they can be read."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    rows: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return rows, None
        except csv.Error as exc:
            return rows, ConfigError(
                f"{path}:{line}: {exc}", hint='A quote inside a quoted cell is written twice: "a ""b"" c".'
            )
        if any(cells):
            rows.append((line, cells))


def _row_draft(table: _Table, line: int, cells: list[str], header_fault: ConfigError | None) -> _Draft:
    place = f"{table.path}:{line}"
    name = cells[table.name_column].strip() if table.name_column < len(cells) else ""
    draft = _Draft(name or f"line-{line}", table.path, place)
    try:
        if header_fault:
            raise header_fault
        if len(cells) != len(table.columns):
            raise ConfigError(
                f"{place}: {len(cells)} cells, but {len(table.columns)} columns",
                hint="A cell that holds the delimiter stands in double quotes.",
            )
        if not name:
            raise ConfigError(
                f"{place}: the row has no name", hint=f"Fill {table.columns[table.name_column]}."
            )
        draft.layer = _Layer(place, _row_values(table, cells, place))
    except ConfigError as exc:
        draft.layer = _Layer(place, {}, _fresh(exc))
    return draft


def _row_values(table: _Table, cells: list[str], place: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for index, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
        if cell == "" or index == table.name_column:
            continue
        # Words stay words: the tags "2030" are no number.
        if column == f"{RUN_KEY}.tags" and not cell.lstrip().startswith("["):
            values[column] = cell
            continue
        try:
            values[column] = parse_cell(cell)
        except ConfigError as exc:
            raise ConfigError(f"{place}: column {column}: {exc.message}", hint=exc.hint) from exc
    return row_config(values, where=place)
