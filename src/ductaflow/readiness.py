"""May an instance start? What it reads from other runs has to be there.

an upstream that the same session runs        the session waits for it; a red one blocks
an upstream that is skipped                   its last run is valid, or the reader is blocked
any other upstream                            its last run is valid, or the reader cannot start
a path below runs/ of nothing that is stored  it exists, and a run that lies there is valid
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ductaflow.errors import DuctaflowError
from ductaflow.graph import Graph, Unstored
from ductaflow.instances import Instance, Instances
from ductaflow.result import read_result


@dataclass(frozen=True, slots=True)
class Lack:
    """What an instance reads and cannot have.

    Attributes:
        sentences: one for each thing that it lacks.
        run_first: the instances that would make them.
    """

    sentences: tuple[str, ...]
    run_first: tuple[Instance, ...]

    @property
    def remedy(self) -> str:
        """The command that makes what is missing; empty where no command does."""
        ids = " ".join(instance.id for instance in self.run_first)
        return f"Run it first: ductaflow run {ids}" if ids else ""


class Readiness:
    """Who of some instances reads from whom, and whether that is there.

    Args:
        instances: all that are stored, or the rows of a table.
    """

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.graph = Graph(instances.all)

    def upstreams(self, instance: Instance) -> list[Instance]:
        """The instances that an instance reads from directly."""
        return [self.instances.by_id[id] for id in self.graph.upstreams(instance.id)]

    def with_upstreams(self, instance: Instance) -> list[Instance]:
        """An instance, last, and before it all that it reads from at any distance, in order."""
        ids = [*self.graph.above([instance.id]), instance.id]
        return [self.instances.by_id[id] for id in self.graph.order(ids)]

    def skipped_upstream(self, instance: Instance) -> str | None:
        """The first upstream that is skipped and has no valid earlier run, with the reason."""
        for upstream in self.upstreams(instance):
            reason = upstream.skip_reason()
            if reason and why_not_valid(upstream.run_folder.path):
                return f"{upstream.id} is skipped: {reason}"
        return None

    def lack(self, instance: Instance, runs_here: Callable[[Instance], bool]) -> Lack | None:
        """What an instance lacks to start; None if it lacks nothing.

        Args:
            instance: the one whose turn has come.
            runs_here: whether the session runs an upstream itself, and so answers for it.
        """
        faults = [
            (upstream, why)
            for upstream in self.upstreams(instance)
            if not runs_here(upstream) and (why := why_not_valid(upstream.run_folder.path))
        ]
        sentences = [f"{instance.id} reads from {upstream.id}, but {why}." for upstream, why in faults]
        sentences += self._unstored(instance)
        return Lack(tuple(sentences), tuple(upstream for upstream, _ in faults)) if sentences else None

    def _unstored(self, instance: Instance) -> Iterator[str]:
        for reference in self.graph.unstored(instance.id):
            fault = _fault_of(instance, reference)
            if fault:
                known = self.graph.about(reference)
                yield f"{instance.id} reads {reference.text}, {fault}; {known}"


def _fault_of(instance: Instance, reference: Unstored) -> str | None:
    """What is wrong with what a reference to nothing stored names; None if it may be read."""
    if not (instance.project.root / reference.path).exists():
        return "which is not there"
    folder = instance.project.run_folder(reference.flow, reference.name)
    if folder.result.exists() or folder.log.exists():
        why = why_not_valid(folder.path)
        return f"but {why}" if why else None
    # Somebody has put it there by hand.
    return None


def why_not_valid(folder: Path) -> str | None:
    """Why the last run in a run folder cannot be read from; None if it can."""
    try:
        result = read_result(folder)
    except DuctaflowError as exc:
        return exc.message
    if result is None:
        return "it has no finished run"
    if not result.status.is_good:
        return f"its last run is red: {result.message}"
    for output in result.outputs:
        path = folder / output["path"]
        if not path.is_file():
            return f"its output {output['path']} is gone"
        if path.stat().st_size != output["size"]:
            return f"its output {output['path']} was changed since"
    return None
