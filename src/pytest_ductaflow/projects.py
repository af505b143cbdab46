"""What paths and node ids mean: the projects of a session, their instances and who reads from whom.

config/flows/fit/scenario_A.json::fit[scenario_A]   a node id: the file that stores an instance, its title
flows/fit.py                                        on the command line: the instances of that flow
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from ductaflow.common.errors import ConfigError
from ductaflow.common.paths import BASE_CONFIG, KIND_DIRS, SOURCE_SUFFIXES, relative
from ductaflow.project.graph import collect_graph
from ductaflow.project.instances import Instance
from ductaflow.project.settings import Project, Settings
from ductaflow.session.decide import Readiness
from ductaflow.session.durations import Likely, likely
from ductaflow.session.resources import RoomHere


def named_paths(config: pytest.Config) -> list[Path]:
    """Return the paths that the command line names."""
    return [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]


class Projects:
    """The projects that a session meets. Each is read once.

    Args:
        rootdir: pytest's; node ids are relative to it.
        invocation_dir: where pytest was called; commands that we show work there.
        overrides: settings that the command line gives, for all projects.
    """

    def __init__(
        self, rootdir: Path, invocation_dir: Path, overrides: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        self.rootdir = rootdir
        self.invocation_dir = invocation_dir
        self._overrides = overrides
        self._around: dict[Path, Project | None] = {}
        self._loaded: dict[Path, Readiness] = {}
        self._stored: dict[str, Instance] = {}
        self._looked_into: set[str] = set()
        self._roots: dict[str, Path | None] = {}
        self._without_results: set[str] = set()
        self._known: tuple[Sequence[str], Likely] | None = None

    def around(self, path: Path) -> Project | None:
        """The project that a folder is or lies in, with the settings of this session.

        Raises:
            pytest.UsageError: something is wrong with its settings.
        """
        if path not in self._around:
            try:
                project = Project.at(path).but(**self._overrides)
            except ConfigError as exc:
                raise pytest.UsageError(str(exc)) from None
            above = path.parent
            is_last = project.is_there or above == path
            self._around[path] = (project if project.is_there else None) if is_last else self.around(above)
        return self._around[path]

    def settings_at(self, path: Path) -> Settings:
        """The settings of the project around a path; where there is none, those that one there would have.

        Raises:
            pytest.UsageError: something is wrong with them.
        """
        if project := self.around(path):
            return project.settings
        return Settings.at(path).but(**self._overrides)

    def at(self, root: Path) -> Readiness:
        """The instances of a project, and who reads from whom."""
        if root not in self._loaded:
            self._loaded[root] = Readiness(*collect_graph(self.around(root) or Project.at(root)))
        return self._loaded[root]

    def of(self, instance: Instance) -> Readiness:
        """The instances of the project of one of them."""
        return self.at(instance.project.root)

    @property
    def met_one(self) -> bool:
        """Whether a project was met so far."""
        return bool(self._loaded)

    def root_of_config(self, path: Path) -> Path | None:
        """The project whose stored instances `path`, a file or folder below `config/flows`, belongs to."""
        # Asked several times for each of thousands of files: their folder is looked at once, by its name:
        # a new path is slow to make and to look up.
        name = os.path.dirname(path)
        if name not in self._roots:
            folder = path.parent
            project = self.around(folder)
            stored = [project.config_of(kind) for kind in KIND_DIRS] if project else []
            is_inside = any(kind == folder or kind in folder.parents for kind in stored)
            self._roots[name] = project.root if project and is_inside else None
        if root := self._roots[name]:
            return root
        folder = path.parent
        project = self.around(folder) if path.name in KIND_DIRS.values() else None
        return project.root if project and folder == project.config_dir else None

    def is_results(self, path: Path) -> bool:
        """Whether it is the folder of the runs of a project, or of its expected results."""
        name = os.path.dirname(path)
        if name in self._without_results:
            return False
        folder = path.parent
        project = self.around(folder)
        results = (project.runs_dir, project.expected_dir) if project else ()
        if all(one.parent != folder for one in results):
            self._without_results.add(name)
        return path in results

    def is_sources(self, path: Path) -> bool:
        """Whether it is the `flows` or `builds` folder of a project."""
        if path.name not in KIND_DIRS.values():
            return False
        project = self.around(path.parent)
        return project is not None and path.parent == project.root

    def is_stored_in(self, path: Path) -> bool:
        """Whether it is a folder in which a project stores instances: of all flows, all builds, or one."""
        for folder in (path, path.parent):
            project = self.around(folder) if folder.name in KIND_DIRS.values() else None
            if project is not None and folder.parent == project.config_dir:
                return True
        return False

    def instances_in(self, file: Path) -> tuple[Instance, ...]:
        """The stored instances that a file gives, or a folder that could not be listed."""
        root = self.root_of_config(file)
        return self.at(root).instances.in_file(file) if root else ()

    def targets(self, argument: str) -> list[str]:
        """What a path on the command line stands for.

        The source or the base config of a flow stands for the files of its instances, the base config of a
        project for all that it stores.

        Raises:
            pytest.UsageError: it is the source of no stored instance.
        """
        name, colons, item = argument.partition("::")
        path = Path(os.path.abspath(self.invocation_dir / name))
        project = self.around(path)
        if project is None:
            return [argument]
        if self.is_sources(path) and path.is_dir() and not colons:
            return [str(project.config_dir / path.name)]
        if path == project.config_dir / BASE_CONFIG and path.is_file() and not colons:
            return [str(path.parent)]
        is_source = self.is_sources(path.parent) and path.is_file() and path.suffix in SOURCE_SUFFIXES
        if not is_source and not self._is_flow_base(path, project):
            return [argument]
        found = [
            instance
            for instance in self.at(project.root).instances.of_flow(path.stem)
            if KIND_DIRS[instance.kind] == path.parent.name and item in ("", instance.title)
        ]
        if not found and is_source:
            stored = f"{project.settings.config_dir}/{path.parent.name}/{path.stem}.json"
            raise pytest.UsageError(f"{argument} has no stored instance. Its config would be {stored}.")
        files = dict.fromkeys(instance.file for instance in found)
        return [f"{file}{colons}{item}" for file in files] or [argument]

    def _is_flow_base(self, path: Path, project: Project) -> bool:
        """Whether it is the config that instances of a flow have in common, and none itself."""
        is_base = path.suffix == ".json" and path.parent.parent == project.config_dir and path.is_file()
        return is_base and path.parent.name in KIND_DIRS.values() and not self.instances_in(path)

    def nodeid(self, instance: Instance) -> str:
        return f"{self.relative(instance.file)}::{instance.title}"

    def key(self, instance: Instance) -> str:
        """An instance in the files that a project commits: its id, after the project's folder if any."""
        folder = self.relative(instance.project.root)
        return instance.id if folder == "." else f"{folder}/{instance.id}"

    def is_gone(self, key: str) -> bool:
        """Whether a key is that of an instance that its project does not store any more.

        Of a project that this session has not met nothing is known.
        """
        project = key.rpartition("/")[0].rpartition("/")[0] or "."
        for root, readiness in self._loaded.items():
            if self.relative(root) == project:
                return "/".join(key.split("/")[-2:]) not in readiness.instances.by_id
        return False

    def relative(self, path: Path) -> str:
        """As node ids spell it: from the rootdir, with `/`."""
        return relative(path, self.rootdir)

    def instance(self, nodeid: str) -> Instance | None:
        """The instance of a node id; None for an ordinary test."""
        if nodeid not in self._stored:
            name = nodeid.partition("::")[0]
            if name not in self._looked_into:
                stored = self.instances_in(Path(os.path.normpath(self.rootdir / name)))
                if len(stored) != 1:
                    # a file of one is known by the id of that
                    self._looked_into.add(name)
                for instance in stored:
                    found = f"{name}::{instance.title}"
                    # the text that everybody has, of thousands
                    self._stored[nodeid if found == nodeid else found] = instance
        return self._stored.get(nodeid)

    def folder_of(self, nodeid: str) -> str | None:
        """The folder of all stored configs of a flow, from the rootdir, of a node id in it; else None."""
        instance = self.instance(nodeid)
        if instance is None or instance.file.parent.name != instance.flow:
            return None
        return self.relative(instance.file.parent)

    def upstreams(self, instance: Instance) -> list[Instance]:
        """The stored instances that an instance reads from."""
        return self.of(instance).upstreams(instance)

    def related(self, instances: Iterable[Instance], *, upstream: bool, downstream: bool) -> list[Instance]:
        """What some instances read from, or what reads from them, at any distance; those given left out.

        With both it is also what the latter read from, so that nothing lacks.
        """
        if not (upstream or downstream):
            return []
        given: dict[Path, set[str]] = {}
        for instance in instances:
            given.setdefault(instance.project.root, set()).add(instance.id)
        found: list[Instance] = []
        for root, ids in given.items():
            graph = self.at(root).graph
            wanted = ids.union(graph.below(ids) if downstream else ())
            wanted.update(graph.above(wanted) if upstream else ())
            added = wanted - ids
            found += [other for other in self.at(root).instances.all if other.id in added]
        return found

    def edges(self, nodeids: Sequence[str]) -> list[list[int] | None]:
        """For each node id the indices of those that it waits for; None for ordinary tests."""
        instances = [self.instance(nodeid) for nodeid in nodeids]
        index = {_spot(instance): place for place, instance in enumerate(instances) if instance}
        ups = [self.upstreams(instance) if instance else None for instance in instances]
        return [
            None if found is None else [index[spot] for up in found if (spot := _spot(up)) in index]
            for found in ups
        ]

    def seconds(self, nodeids: Sequence[str]) -> list[float]:
        """How many seconds each node id is likely to take, by earlier runs."""
        return self._likely(nodeids).seconds

    def room(self, nodeids: Sequence[str], workers: int) -> RoomHere:
        """What node ids take of this machine, and what it has, with so many at a time."""
        instances = [self.instance(nodeid) for nodeid in nodeids]
        known = self._likely(nodeids)
        return RoomHere(instances, known.peaks, workers, known.cut)

    def _likely(self, nodeids: Sequence[str]) -> Likely:
        """What node ids are likely to take. It is asked for the same ones when all have been collected."""
        if self._known is None or self._known[0] != nodeids:
            self._known = nodeids, likely([self.instance(nodeid) for nodeid in nodeids])
        return self._known[1]

    def order(self, instances: Sequence[Instance | None]) -> list[int]:
        """Places of instances such that every upstream comes first; None is a test, which keeps its place."""
        order = list(range(len(instances)))
        taken: dict[Path, dict[str, list[int]]] = {}
        for place, instance in enumerate(instances):
            if instance:
                taken.setdefault(instance.project.root, {}).setdefault(instance.id, []).append(place)
        for root, by_id in taken.items():
            slots = sorted(place for places in by_id.values() for place in places)
            sequence = [place for key in self.at(root).graph.order(by_id) for place in by_id[key]]
            for slot, place in zip(slots, sequence, strict=True):
                order[slot] = place
        return order


def _spot(instance: Instance) -> tuple[Path, str, str]:
    # shares its parts with the instance: a path for each of thousands takes longer, and more memory
    return instance.project.root, instance.flow, instance.name
