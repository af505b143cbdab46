"""Who reads from whom: the graph that the configs of a project define, its order and its cycles.

    config string, at any depth      "runs/data_prep/scenario_A/clean.csv"   an edge to data_prep/scenario_A
                                     "runs/data_prep/*/clean.csv"            an edge to each that matches
                                     "runs/data_prep"                        an edge to each of data_prep
    _run.needs                       ["data_prep/scenario_A"]                an edge

A path into the instance's own run folder is no edge. A path to an instance that is not stored is kept apart,
as `unstored`. Nothing else declares an edge.

Instances that one pattern names form a group, which is a node of its own between them and their readers.
"""

from __future__ import annotations

import fnmatch
import heapq
import os
import re
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count
from typing import NamedTuple

from ductaflow.common import garbage
from ductaflow.common.errors import InstanceError
from ductaflow.common.json_tree import spelled
from ductaflow.common.paths import RUN_KEY
from ductaflow.common.text import did_you_mean
from ductaflow.project.instances import Instance, Instances, find_instances
from ductaflow.project.mentions import strings_of
from ductaflow.project.names import name_fault
from ductaflow.project.orphans import Orphan, Orphans
from ductaflow.project.references import RunReference, is_pattern, runs_tree
from ductaflow.project.settings import Project

#: How many cycles to look for where cycles cross; finding all of them could take forever.
MAX_CYCLES = 20
#: Finding a similar name among thousands takes a tenth of a second, so only the first few are looked up.
_MAX_SUGGESTIONS = 10
_SHOWN_MEMBERS = 12
#: What a flow fills in itself: `part-{n}.csv`, `%d.csv`.
_TEMPLATE = re.compile(r"[*?\[{%]")
_SHOWN_NAMES = 10


class _Group(NamedTuple):
    """All instances that match two patterns, except one: a node between them and their readers.

    Without it 10,000 readers of `runs/data_prep/*` with 10,000 instances would be 100 million edges.
    """

    flow: str
    name: str
    but: str = ""


_Node = str | _Group


class Unstored(NamedTuple):
    """A reference to a run whose instance is not stored; `path` is the part of `text` that is no pattern."""

    text: str
    path: str
    flow: str
    name: str


class Wildcard(NamedTuple):
    """A pattern, such as `runs/data_prep/*`, that names several instances.

    Attributes:
        id: the pattern, and the instance that it leaves out, if any.
        members: ids of the matching instances.
        readers: ids of the instances that read it, each with the key path that names it.
    """

    id: str
    flow: str
    name: str
    members: tuple[str, ...]
    readers: dict[str, str]


def collect(project: Project) -> Instances:
    """Return the stored instances of a project with all problems, also those that only the graph shows."""
    return collect_graph(project)[0]


def collect_graph(project: Project) -> tuple[Instances, Graph]:
    """Return the same, and who reads from whom."""
    with garbage.paused():
        found = find_instances(project)
        graph = Graph(found)
        return Instances(project, graph.checked(found)), graph


def check(instances: Sequence[Instance], stored: Iterable[str] | None = None) -> tuple[Instance, ...]:
    """Return the instances with the problems and notes that only their graph shows.

    Args:
        instances: all of a project.
        stored: ids of those that are stored; by default all are.
    """
    return Graph(instances).checked(instances, stored)


def noted(instance: Instance, *, of_call: bool = False) -> Instance:
    """Return an instance with the notes on it, which depend on what else its project stores.

    Args:
        instance: a stored one, or one that a call has made.
        of_call: leave out what a config names by itself: who calls knows the runs of other calls, but not
            what a pattern finds.
    """
    if instance.notes is not None:
        return instance
    tree = runs_tree(instance.project)
    named = (reference for _, text in strings_of(instance.config) for _, reference in tree.references(text))
    if of_call and not any(is_pattern(reference.id) for reference in named):
        return instance
    stored = find_instances(instance.project) if tree.is_in(instance.config) else ()
    others = (other for other in stored if other.id != instance.id)
    graph, ids = Graph([instance, *others]), [one.id for one in stored]
    return graph.with_notes([instance], ids, of_call=of_call)[0]


class Graph:
    """The graph of all stored instances of one project, also of those that have a problem."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._tree = runs_tree(instances[0].project) if instances else None
        self._fold = self._tree.fold if self._tree else str
        self._positions: dict[str, int] = {}
        names: dict[str, set[str]] = {}
        for instance in instances:
            self._positions.setdefault(instance.id, len(self._positions))
            names.setdefault(instance.flow, set()).add(instance.name)
        self._names = {flow: sorted(found) for flow, found in names.items()}
        self._folded = {self._fold(id): id for id in self._positions}
        self._members: dict[_Group, tuple[str, ...]] = {}
        self._own_readers: dict[tuple[str, str], str] = {}
        # what each instance reads, and the key path in its config that names it
        self._reads: dict[str, dict[_Node, str]] = {id: {} for id in self._positions}
        self._unknown: dict[str, dict[str, str]] = {}
        self._unstored: dict[str, list[Unstored]] = {}
        # every string of a config that names runs, for what is said of orphans
        self._named: dict[str, list[tuple[str, RunReference, str]]] = {}
        for instance in instances:
            self._add_references(instance)
            self._add_needs(instance)

    # --- edges ---

    def _add_references(self, instance: Instance) -> None:
        assert self._tree is not None
        edges = self._reads[instance.id]
        for path, text in strings_of(instance.config):
            for item, reference in self._tree.references(text):
                self._named.setdefault(instance.id, []).append((item, reference, spelled(path)))
                if node := self._node(instance.id, reference):
                    edges.setdefault(node, spelled(path))
                elif _is_run(reference) and not self._is_own(instance, reference):
                    unstored = Unstored(text, _literal(item), reference.flow, reference.instance)
                    self._unstored.setdefault(instance.id, []).append(unstored)

    def _add_needs(self, instance: Instance) -> None:
        for index, need in enumerate(instance.options.needs):
            path = f"{RUN_KEY}.needs[{index}]"
            if need not in self._positions:
                self._unknown.setdefault(instance.id, {})[need] = path
            elif need != instance.id:
                self._reads[instance.id].setdefault(need, path)

    def _is_own(self, reader: Instance, reference: RunReference) -> bool:
        """Whether the reader may make that run: its own, or in a build the run of one of its flows."""
        return reader.kind == "build" or self._fold(reader.id) == self._fold(reference.id)

    def _node(self, reader: str, reference: RunReference) -> _Node | None:
        """The node that a reference names; None if it names nothing stored."""
        flow, name = self._fold(reference.flow), self._fold(reference.instance)
        if not is_pattern(flow + name):
            id = self._folded.get(f"{flow}/{name}")
            return id if id != reader else None
        group = _Group(flow, name)
        members = self._matching(group)
        # Leave out the reader itself. Only the first such reader needs this: a second one in the same group
        # is in a cycle with the first anyway.
        if self._is_in(reader, group) and self._own_readers.setdefault((flow, name), reader) == reader:
            group = _Group(flow, name, but=reader)
            members = self._members.setdefault(group, tuple(id for id in members if id != reader))
        return group if members else None

    def _matching(self, group: _Group) -> tuple[str, ...]:
        if group not in self._members:
            is_one = group.flow in self._names
            flows = [group.flow] if is_one else self._matches(sorted(self._names), group.flow)
            self._members[group] = self._stored(
                f"{flow}/{name}" for flow in flows for name in self._matches(self._names[flow], group.name)
            )
        return self._members[group]

    def _matches(self, names: Sequence[str], pattern: str) -> list[str]:
        """Return the sorted names that match a pattern."""
        if self._fold is str:
            # only those that begin as it does: there may be thousands of names and of patterns
            prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
            names = names[bisect_left(names, prefix) : bisect_left(names, prefix + chr(sys.maxunicode))]
        return [name for name in names if fnmatch.fnmatchcase(self._fold(name), pattern)]

    def _is_in(self, id: str, group: _Group) -> bool:
        flow, _, name = self._fold(id).partition("/")
        is_match = fnmatch.fnmatchcase(flow, group.flow) and fnmatch.fnmatchcase(name, group.name)
        return is_match and id != group.but

    def _read_by_node(self, node: _Node) -> Collection[_Node]:
        return self._reads.get(node, ()) if isinstance(node, str) else self._members[node]

    @property
    def _nodes(self) -> list[_Node]:
        return [*self._reads, *self._members]

    @cached_property
    def _readers(self) -> dict[_Node, list[_Node]]:
        readers: dict[_Node, list[_Node]] = {}
        for node in self._nodes:
            for read in self._read_by_node(node):
                readers.setdefault(read, []).append(node)
        return readers

    # --- questions ---

    def upstreams(self, id: str) -> tuple[str, ...]:
        """Return the ids that an instance reads from directly, in the order of collection."""
        found: set[_Node] = set()
        for node in self._read_by_node(id):
            found.update([node] if isinstance(node, str) else self._read_by_node(node))
        return self._stored(found - {id})

    def above(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the ids that some instances read from at any distance, without the given ones."""
        return self._reached(ids, self._read_by_node)

    def below(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the ids that read from some instances at any distance, without the given ones."""
        return self._reached(ids, lambda node: self._readers.get(node, ()))

    def _reached(
        self, ids: Iterable[str], neighbours: Callable[[_Node], Collection[_Node]]
    ) -> tuple[str, ...]:
        given = set(ids)
        seen: set[_Node] = set(given)
        stack: list[_Node] = list(given)
        while stack:
            new = [node for node in neighbours(stack.pop()) if node not in seen]
            seen.update(new)
            stack += new
        return self._stored(seen - given)

    def _stored(self, nodes: Iterable[_Node]) -> tuple[str, ...]:
        """The instances among some nodes, in the order of collection."""
        return tuple(
            sorted((node for node in nodes if isinstance(node, str)), key=self._positions.__getitem__)
        )

    def ref(self, id: str, upstream: str) -> str:
        """Return the key path in the config of an instance that names an upstream; KeyError if none does."""
        reads = self._reads[id]
        if upstream in reads:
            return reads[upstream]
        for node, path in reads.items():
            if isinstance(node, _Group) and self._is_in(upstream, node):
                return path
        raise KeyError(upstream)

    def links(self) -> Iterator[tuple[str, str, str]]:
        """Yield each upstream that a config names by its own name, its reader, and the key path."""
        for id, reads in self._reads.items():
            yield from ((node, id, path) for node, path in reads.items() if isinstance(node, str))

    def links_to(self, orphans: Orphans) -> Iterator[tuple[Orphan, str, str]]:
        """Yield each orphan that a config names, also by a pattern, its reader, and the key path."""
        for id, named in self._named.items():
            for text, reference, path in named:
                found = orphans.named_by(reference, text)
                yield from ((orphan, id, path) for orphan in found if orphan.id != id)

    def wildcards(self) -> Iterator[Wildcard]:
        """Yield the references that name several instances at once, each pattern once."""
        for group, members in self._members.items():
            ids = [reader for reader in self._readers.get(group, ()) if isinstance(reader, str)]
            if ids:
                readers = {id: self._reads[id][group] for id in ids}
                runs = self._tree.name if self._tree else ""
                text = f"{runs}/{group.flow}/{group.name}" + (f" without {group.but}" if group.but else "")
                yield Wildcard(text, group.flow, group.name, members, readers)

    def unstored(self, id: str) -> tuple[Unstored, ...]:
        """Return the references of an instance to runs whose instances are not stored."""
        return tuple(self._unstored.get(id, ()))

    def about(self, reference: Unstored) -> str:
        """Say what is stored instead: `prep has no stored instance nowhere. There is one, two.`"""
        flow, name = reference.flow, reference.name
        if flow in self._names:
            near = did_you_mean(name, self._names[flow]) or f"There is {_listed(self._names[flow])}."
            return f"{flow} has no stored instance {name}. {near}"
        near = did_you_mean(flow, self._names) or f"There is {_listed(sorted(self._names))}."
        return f"{flow} has no stored instance at all. {near}"

    def order(self, ids: Iterable[str]) -> list[str]:
        """Return ids, each once, so that every upstream comes first; otherwise in the given order.

        Upstreams at any distance count, even if those between are not among the ids. The members of a cycle
        keep the given order. An id that is not stored has no upstream.
        """
        if not self._readers:
            # As in most projects: nobody reads from anybody.
            return [*dict.fromkeys(ids)]
        given: dict[_Node, int] = {id: position for position, id in enumerate(dict.fromkeys(ids))}
        waiting = self._with_all_upstreams(given)
        cyclic = iter(sorted(self._cyclic & waiting.keys(), key=lambda id: given.get(id, -1)))
        tie = count()  # so that no two nodes are compared, a string with a tuple
        ready = [(given.get(node, -1), next(tie), node) for node, reads in waiting.items() if not reads]
        heapq.heapify(ready)
        ordered: list[str] = []
        while waiting:
            # If nothing is ready, the rest waits for a cycle: open it at its first member.
            node = heapq.heappop(ready)[2] if ready else next(cyclic)
            if waiting.pop(node, None) is None:
                continue
            if isinstance(node, str) and node in given:
                ordered.append(node)
            for reader in self._readers.get(node, ()):
                if reader in waiting:
                    waiting[reader] -= 1
                    if not waiting[reader]:
                        heapq.heappush(ready, (given.get(reader, -1), next(tie), reader))
        return ordered

    def _with_all_upstreams(self, ids: Iterable[_Node]) -> dict[_Node, int]:
        """Nodes and everything they read, at any distance, each with the number of nodes that it reads."""
        found: dict[_Node, int] = {}
        stack: list[_Node] = list(ids)
        while stack:
            node = stack.pop()
            if node not in found:
                reads = self._read_by_node(node)
                found[node] = len(reads)
                stack.extend(reads)
        return found

    # --- cycles ---

    def cycles(self) -> list[tuple[str, ...]]:
        """Return the cycles. Each id in a cycle reads from the next one, and the last from the first.

        Where cycles cross, enough of them are returned to show each member once, at most 20.
        """
        return [cycle for knot in self._knots for cycle in self._cycles_of(knot)]

    def explain(self, cycle: Sequence[str]) -> str:
        """Describe a cycle: `a/x -> b/y -> a/x`, then a line for each config key in it; a long one is cut."""
        left_out = len(cycle) - _SHOWN_MEMBERS
        pairs = list(zip(cycle, (*cycle[1:], cycle[0]), strict=True))[:_SHOWN_MEMBERS]
        lines = [f"  {id} reads {upstream}: {self.ref(id, upstream)}" for id, upstream in pairs]
        more = [f"({left_out} more)"] if left_out > 0 else []
        return "\n".join([" -> ".join((*cycle[:_SHOWN_MEMBERS], *more, cycle[0])), *lines])

    def checked(
        self, instances: Sequence[Instance], stored: Iterable[str] | None = None
    ) -> tuple[Instance, ...]:
        """Return the instances of this graph with their problems and notes; `stored` as of `check`."""
        return self.with_notes(self.with_problems(instances), stored)

    def with_problems(self, instances: Iterable[Instance], *, needs: bool = True) -> tuple[Instance, ...]:
        """Return the instances, each with its problem if it has one: its own, a cycle, an unknown `needs`."""
        problems = {**self.cycle_problems(), **(self.unknown_problems() if needs else {})}
        return tuple(
            replace(instance, problem=instance.problem or problems[instance.id])
            if instance.id in problems
            else instance
            for instance in instances
        )

    def with_notes(
        self, instances: Sequence[Instance], stored: Iterable[str] | None = None, *, of_call: bool = False
    ) -> tuple[Instance, ...]:
        """Return instances, with a note on each whose config names an orphan.

        Args:
            instances: some of the graph.
            stored: ids of all that are stored; by default those of the graph are.
            of_call: only where a pattern finds it.
        """
        if not instances:
            return ()
        orphans = Orphans(instances[0].project, self._positions if stored is None else stored)
        return tuple(
            replace(instance, notes=tuple(dict.fromkeys(self._notes(instance, orphans, of_call))))
            for instance in instances
        )

    def _notes(self, instance: Instance, orphans: Orphans, of_call: bool) -> Iterator[str]:
        for text, reference, _ in self._named.get(instance.id, ()):
            if of_call and not is_pattern(reference.id):
                continue
            note = orphans.note(instance.id, reference, text)
            if note and not self._is_of_build(instance, reference):
                yield note

    def _is_of_build(self, reader: Instance, reference: RunReference) -> bool:
        """Whether a path means a flow that the reader, a build, has run itself."""
        assert self._tree is not None
        own = reader.run_folder.path / self._tree.name / reference.flow / reference.instance
        return reader.kind == "build" and own.is_dir()

    def cycle_problems(self) -> dict[str, InstanceError]:
        """Return the problem of each instance that is part of a cycle."""
        problems: dict[str, InstanceError] = {}
        for knot in self._knots:
            cycles = self._cycles_of(knot)
            texts: dict[str, str] = {}
            for cycle in reversed(cycles):
                texts.update(dict.fromkeys(cycle, self.explain(cycle)))
            for id in knot:
                text = texts.get(id) or f"it crosses {self.explain(cycles[0])}"
                problems[id] = InstanceError(
                    f"{id} is part of a cycle: {text}", hint="Remove one of these references."
                )
        return problems

    def unknown_problems(self) -> dict[str, InstanceError]:
        """Return the problem of each instance whose `_run.needs` names one that is not stored."""
        suggestions: dict[str, str] = {}
        problems: dict[str, InstanceError] = {}
        for id, needs in self._unknown.items():
            need, path = next(iter(needs.items()))
            if need not in suggestions:
                suggestions[need] = self._suggestion(need) if len(suggestions) < _MAX_SUGGESTIONS else ""
            problems[id] = InstanceError(
                f"{id} needs {need} ({path}), which is no stored instance",
                hint=suggestions[need] or "Store it, or remove it from _run.needs.",
            )
        return problems

    def _suggestion(self, need: str) -> str:
        flow = need.partition("/")[0]
        return did_you_mean(need, (f"{flow}/{name}" for name in self._names.get(flow, ()))) or did_you_mean(
            need, self._positions
        )

    @cached_property
    def _cyclic(self) -> set[_Node]:
        return {id for knot in self._knots for id in knot}

    @cached_property
    def _knots(self) -> list[tuple[str, ...]]:
        """The sets of instances that read from each other, directly or not, in the order of collection."""
        if not self._readers:
            return []
        # Kosaraju's two walks, without recursion, since a chain may be 10,000 long: along what is read, to
        # order the nodes as they are left; then back along readers, from the node that was left last.
        left: dict[_Node, None] = {}
        entered: set[_Node] = set()
        walk = [(node, False) for node in self._nodes]
        while walk:
            node, is_left = walk.pop()
            if is_left:
                left[node] = None
            elif node not in entered:
                entered.add(node)
                walk += [(node, True), *((read, False) for read in self._read_by_node(node))]
        knots = []
        while left:
            knot = [left.popitem()[0]]
            for node in knot:
                found = [reader for reader in self._readers.get(node, ()) if reader in left]
                knot += found
                for reader in found:
                    del left[reader]
            # A group may contain its reader, which alone is no cycle: it takes two instances.
            if len(ids := self._stored(knot)) > 1:
                knots.append(ids)
        return sorted(knots, key=lambda knot: self._positions[knot[0]])

    def _cycles_of(self, knot: Sequence[str]) -> list[tuple[str, ...]]:
        cycles: list[tuple[str, ...]] = []
        shown: set[str] = set()
        for id in knot:
            if id not in shown and len(cycles) < MAX_CYCLES:
                cycles.append(self._shortest_cycle(id))
                shown.update(cycles[-1])
        return cycles

    def _shortest_cycle(self, start: str) -> tuple[str, ...]:
        """A shortest cycle through an instance of a knot."""
        came_from: dict[_Node, _Node] = {}
        queue: deque[_Node] = deque([start])
        while queue:
            node = queue.popleft()
            if isinstance(node, str):
                closed = start in self._reads[node]
            else:
                # A group that the start itself reads may contain it, but does not lead back to it.
                closed = came_from[node] != start and self._is_in(start, node)
            if closed:
                return _walked(node, came_from)
            for read in self._read_by_node(node):
                if read not in came_from and read != start:
                    came_from[read] = node
                    queue.append(read)
        raise AssertionError(f"{start} is in no cycle")


def _walked(last: _Node, came_from: dict[_Node, _Node]) -> tuple[str, ...]:
    """The instances on the way to a node, the start first."""
    way = [last]
    while way[-1] in came_from:
        way.append(came_from[way[-1]])
    return tuple(node for node in reversed(way) if isinstance(node, str))


# --- references --------------------------------------------------------------------------------------------


def _is_run(reference: RunReference) -> bool:
    """Whether both could be names; a flow may keep a template, such as `runs/prep/{year}/x.csv`."""
    return not (name_fault(reference.flow) or name_fault(reference.instance))


def _literal(text: str) -> str:
    """A path up to the first part that is a pattern or a template."""
    found = _TEMPLATE.search(text)
    if not found:
        return text
    return text[: max(text.rfind(sign, 0, found.start()) for sign in ("/", os.sep)) + 1]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (" ..." if names[_SHOWN_NAMES:] else "")
