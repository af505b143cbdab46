"""What paths and node ids mean: the projects of a session, their instances and who reads from whom.

config/flows/fit/scenario_A.json::fit[scenario_A]   a node id: the file that stores an instance, its title
flows/fit.py                                        on the command line: the instances of that flow
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import pytest

from ductaflow.common.paths import BASE_CONFIG, KIND_DIRS, SOURCE_SUFFIXES, Project, relative
from ductaflow.project.graph import collect
from ductaflow.project.instances import Instance
from ductaflow.session.decide import Readiness
from ductaflow.session.durations import expected_seconds

INSTANCE_SUFFIXES = (".json", ".csv")


class Projects:
    """The projects that a session meets. Each is read once.

    Args:
        rootdir: pytest's; node ids are relative to it.
        invocation_dir: where pytest was called; commands that we show work there.
        config_dir, runs_dir: names of the two folders below each project's root.

    Raises:
        pytest.UsageError: one of the two is not below the root.
    """

    def __init__(self, rootdir: Path, invocation_dir: Path, *, config_dir: str, runs_dir: str) -> None:
        for name in (config_dir, runs_dir):
            if not PurePath(name).parts or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
                raise pytest.UsageError(
                    f"{name!r} is no folder below a project: give it relative, without .."
                )
        self.rootdir = rootdir
        self.invocation_dir = invocation_dir
        self._config_parts = PurePath(config_dir).parts
        self._runs_parts = PurePath(runs_dir).parts
        self._loaded: dict[Path, Readiness] = {}
        self._titles: dict[Path, dict[str, Instance]] = {}
        self._by_nodeid: dict[str, Instance | None] = {}
        self._roots: dict[Path, Path | None] = {}

    def at(self, root: Path) -> Readiness:
        """The instances of a project, and who reads from whom."""
        if root not in self._loaded:
            project = Project.at(
                root, config_dir=str(PurePath(*self._config_parts)), runs_dir=str(PurePath(*self._runs_parts))
            )
            self._loaded[root] = Readiness(collect(project))
        return self._loaded[root]

    def of(self, instance: Instance) -> Readiness:
        """The instances of the project of one of them."""
        return self.at(instance.project.root)

    @property
    def met_one(self) -> bool:
        """Whether a project was met so far."""
        return bool(self._loaded)

    def around(self, path: Path) -> Path | None:
        """The root of the project that a path is or lies below; None if there is none."""
        signs = (*KIND_DIRS.values(), BASE_CONFIG)
        for folder in (path, *path.parents):
            if any((self.config_dir(folder) / sign).exists() for sign in signs):
                return folder
        return None

    def config_dir(self, root: Path) -> Path:
        return root.joinpath(*self._config_parts)

    def is_root(self, folder: Path) -> bool:
        return any((self.config_dir(folder) / kind).is_dir() for kind in KIND_DIRS.values())

    def root_of_config(self, path: Path) -> Path | None:
        """The project whose stored instances `path`, a file or folder below `config/flows`, belongs to."""
        # Asked several times for each of thousands of files: their folder is looked at once.
        folder = path.parent
        if folder not in self._roots:
            self._roots[folder] = next(filter(None, map(self._root_of_kind, (folder, *folder.parents))), None)
        return self._root_of_kind(path) or self._roots[folder]

    def _root_of_kind(self, folder: Path) -> Path | None:
        """The project whose `config/flows` or `config/builds` a folder is."""
        depth = len(self._config_parts)
        if folder.name in KIND_DIRS.values() and folder.parent.parts[-depth:] == self._config_parts:
            return folder.parents[depth]
        return None

    def is_runs(self, path: Path) -> bool:
        """Whether it is the runs folder of a project."""
        depth = len(self._runs_parts)
        return path.parts[-depth:] == self._runs_parts and self.is_root(path.parents[depth - 1])

    def is_sources(self, path: Path) -> bool:
        """Whether it is the `flows` or `builds` folder of a project."""
        return path.name in KIND_DIRS.values() and self.is_root(path.parent)

    def instances_in(self, file: Path) -> tuple[Instance, ...]:
        """The stored instances that a file gives; none if it is not a stored config."""
        root = self.root_of_config(file) if file.suffix in INSTANCE_SUFFIXES else None
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
        if self.is_sources(path) and path.is_dir() and not colons:
            return [str(self.config_dir(path.parent) / path.name)]
        if self._is_project_base(path) and not colons:
            return [str(path.parent)]
        is_source = self.is_sources(path.parent) and path.is_file() and path.suffix in SOURCE_SUFFIXES
        if not is_source and not self._is_flow_base(path):
            return [argument]
        root = path.parent.parent if is_source else path.parents[1 + len(self._config_parts)]
        found = [
            instance
            for instance in self.at(root).instances.of_flow(path.stem)
            if KIND_DIRS[instance.kind] == path.parent.name and item in ("", instance.title)
        ]
        if not found and is_source:
            stored = f"{PurePath(*self._config_parts).as_posix()}/{path.parent.name}/{path.stem}.json"
            raise pytest.UsageError(f"{argument} has no stored instance. Its config would be {stored}.")
        files = dict.fromkeys(instance.file for instance in found)
        return [f"{file}{colons}{item}" for file in files] or [argument]

    def _is_project_base(self, path: Path) -> bool:
        depth = len(self._config_parts)
        return (
            path.name == BASE_CONFIG and path.parent.parts[-depth:] == self._config_parts and path.is_file()
        )

    def _is_flow_base(self, path: Path) -> bool:
        """Whether it is the config that instances of a flow have in common, and none itself."""
        root = self.root_of_config(path) if path.suffix == ".json" and path.is_file() else None
        return bool(root and path.parents[1] == self.config_dir(root) and not self.instances_in(path))

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
        if nodeid not in self._by_nodeid:
            self._by_nodeid[nodeid] = self._instance(nodeid)
        return self._by_nodeid[nodeid]

    def _instance(self, nodeid: str) -> Instance | None:
        name, _, title = nodeid.partition("::")
        file = Path(os.path.normpath(self.rootdir / name))
        if file not in self._titles:
            self._titles[file] = {instance.title: instance for instance in self.instances_in(file)}
        return self._titles[file].get(title)

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
        index = {instance.run_folder.path: place for place, instance in enumerate(instances) if instance}
        return [self._places(instance, index) if instance else None for instance in instances]

    def seconds(self, nodeids: Sequence[str]) -> list[float]:
        """How many seconds each node id is likely to take, by earlier runs."""
        return expected_seconds([self.instance(nodeid) for nodeid in nodeids])

    def _places(self, instance: Instance, index: dict[Path, int]) -> list[int]:
        folders = (upstream.run_folder.path for upstream in self.upstreams(instance))
        return [index[folder] for folder in folders if folder in index]

    def order(self, instances: Sequence[Instance | None]) -> list[int]:
        """Places of instances such that every upstream comes first, otherwise as given.

        Args:
            instances: as collected; None for an ordinary test, which keeps its place.
        """
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
