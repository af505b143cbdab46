"""What a project stores, as reports show it: the facts of an instance do not depend on what a session ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from ductaflow.common.paths import relative
from ductaflow.project.graph import Graph, collect_graph
from ductaflow.project.instances import Instance, Instances
from ductaflow.project.settings import Project
from ductaflow.report.twin import Entry


@dataclass(frozen=True)
class Stored:
    """The stored instances of a project, for reports.

    Attributes:
        instances: all of them.
        graph: who reads from whom.
        nodeid: gives the pytest node id of one; by default as pytest has it in the root of the project.
    """

    instances: Instances
    graph: Graph
    nodeid: Callable[[Instance], str] = field(
        default=lambda one: f"{relative(one.file, one.project.root)}::{one.title}"
    )

    @classmethod
    def of(cls, project: Project) -> Stored:
        """Look up what a project stores."""
        return cls(*collect_graph(project))

    def __contains__(self, id: object) -> bool:
        return id in self.instances.by_id

    @cached_property
    def _is_project(self) -> bool:
        # Without a config folder nothing can be stored, so nothing is an orphan.
        return self.instances.project.is_there

    def with_facts(self, entry: Entry) -> Entry:
        """Return an entry with what is stored of its instance; one of nothing stored is an orphan."""
        instance = self.instances.by_id.get(entry.result.id)
        if instance is None:
            return replace(entry, orphan=self._is_project)
        return replace(
            entry,
            nodeid=entry.nodeid or self.nodeid(instance),
            tags=instance.options.tags,
            is_stored=True,
            upstreams=self.graph.upstreams(instance.id),
            config=entry.config or instance.config,
        )
