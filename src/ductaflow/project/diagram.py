"""The graph of stored instances as nodes and edges, and as text in the language of three programs.

    Diagram.of(instances, graph)    every stored instance and who reads from whom
    Diagram.of(..., ids)            some, what they read from and what reads from them
    .by_flow()                      the same, a node a flow
    to_mermaid, to_dot, to_json     as text; names are escaped as each of them asks for

A wildcard (`runs/data_prep/*`) that many instances read is a node of its own between its members and its
readers, so that 1,000 readers of 1,000 instances are 2,000 edges and not a million.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from ductaflow.common.paths import Kind
from ductaflow.project.graph import Graph, Wildcard
from ductaflow.project.instances import Instance
from ductaflow.project.orphans import Orphans

#: Mermaid's defaults; a page that shows a diagram may raise them, the diagram itself may not.
MERMAID_EDGES, MERMAID_CHARACTERS = 500, 50_000
#: Characters besides letters and digits that a label of Mermaid may contain as they are.
_MERMAID_PLAIN = frozenset("_-./+ *?[]()!,:")


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        id: `fit/scenario_A`, the pattern of a wildcard, or the name of a flow.
        instance: name of the instance, or a pattern; None if the node is a whole flow.
        kind: `flow`, `build`, `wildcard` for everything that a pattern names, or `orphan` for a run folder of
            nothing that is stored.
        instances: how many instances it stands for.
    """

    id: str
    flow: str
    instance: str | None
    kind: Kind | Literal["wildcard", "orphan"]
    instances: int = 1

    @property
    def label(self) -> str:
        if self.kind == "orphan":
            return f"{self.id} (not stored)"
        return self.id if self.instance is not None else f"{self.id} ({self.instances})"


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge between ids, in the direction of the data, and the key path that names the source, if any."""

    source: str
    target: str
    key: str | None


@dataclass(frozen=True, slots=True)
class Diagram:
    """Nodes, in the order of the stored instances, and edges, as plain data."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(
        cls,
        instances: Iterable[Instance],
        graph: Graph,
        ids: Iterable[str] | None = None,
        orphans: Orphans | None = None,
    ) -> Diagram:
        """Make the diagram of all stored instances, or of a part.

        Args:
            instances: all stored instances.
            graph: their graph.
            ids: some of them, shown with everything that they read from and that reads from them, at any
                distance. By default all are shown.
            orphans: of the project; those that are read are shown, and with all instances the others too.
        """
        known = {instance.id: instance for instance in instances}
        if ids is not None:
            given = list(ids)
            shown = {*given, *graph.above(given), *graph.below(given)}
            known = {id: instance for id, instance in known.items() if id in shown}
        nodes = [Node(id, instance.flow, instance.name, instance.kind) for id, instance in known.items()]
        edges: dict[tuple[str, str], str | None] = {}
        for upstream, reader, key in graph.links():
            if upstream in known and reader in known:
                edges[upstream, reader] = key
        for wildcard in graph.wildcards():
            nodes += _add_wildcard(edges, wildcard, known)
        if orphans:
            shown_orphans = dict.fromkeys(orphans if ids is None else ())
            for orphan, reader, key in graph.links_to(orphans):
                if reader in known:
                    edges.setdefault((orphan.id, reader), key)
                    shown_orphans[orphan] = None
            nodes += [Node(one.id, one.flow, one.name, "orphan") for one in shown_orphans]
        return cls(tuple(nodes), tuple(Edge(*pair, key) for pair, key in edges.items()))

    def by_flow(self) -> Diagram:
        """Return the diagram with one node for each flow and build."""
        nodes: dict[str, Node] = {}
        for node in self.nodes:
            if node.kind == "orphan":
                nodes[node.id] = node
            elif node.kind != "wildcard":
                count = nodes[node.flow].instances + 1 if node.flow in nodes else 1
                nodes[node.flow] = Node(node.flow, node.flow, None, node.kind, count)
        flow_of = {
            node.id: node.id if node.kind == "orphan" else node.flow
            for node in self.nodes
            if node.kind != "wildcard"
        }
        into: dict[str, dict[str, None]] = {}
        for edge in self.edges:
            if edge.target not in flow_of:
                into.setdefault(edge.target, {})[flow_of[edge.source]] = None
        edges: dict[tuple[str, str], str | None] = {}
        for edge in self.edges:
            if edge.target in flow_of:
                for source in [flow_of[edge.source]] if edge.source in flow_of else into[edge.source]:
                    edges.setdefault((source, flow_of[edge.target]), edge.key)
        return Diagram(tuple(nodes.values()), tuple(Edge(*pair, key) for pair, key in edges.items()))

    def to_dict(self) -> dict[str, list[dict[str, str | int | None]]]:
        """`{"nodes": [{id, flow, instance, kind, instances}], "edges": [{from, to, key}]}`"""
        return {
            "nodes": [asdict(node) for node in self.nodes],
            "edges": [{"from": edge.source, "to": edge.target, "key": edge.key} for edge in self.edges],
        }


def _add_wildcard(
    edges: dict[tuple[str, str], str | None], wildcard: Wildcard, known: Collection[str]
) -> list[Node]:
    """Add the edges of a wildcard, and return its node if it saves edges."""
    members = [id for id in wildcard.members if id in known]
    readers = {id: key for id, key in wildcard.readers.items() if id in known}
    if len(members) * len(readers) <= len(members) + len(readers):
        for member in members:
            for reader, key in readers.items():
                if member != reader:
                    edges.setdefault((member, reader), key)
        return []
    edges.update(dict.fromkeys(((member, wildcard.id) for member in members), None))
    edges.update({(wildcard.id, reader): key for reader, key in readers.items()})
    return [Node(wildcard.id, wildcard.flow, wildcard.name, "wildcard", len(members))]


# --- as text -----------------------------------------------------------------------------------------------


def to_json(diagram: Diagram) -> str:
    """The plain data as JSON; ASCII, so that no console and no file can spoil a name."""
    return json.dumps(diagram.to_dict(), indent=1)


class Look(NamedTuple):
    """What else a node shows: a line below its label, and a style in the language of Mermaid."""

    text: str
    style: str


def to_mermaid(diagram: Diagram, looks: Mapping[str, Look] = MappingProxyType({})) -> str:
    """A flowchart of Mermaid, from left to right.

    Builds have a double frame, wildcards are hexagons, orphans are round, with dashed arrows.

    Args:
        diagram: the graph.
        looks: of nodes, by id.
    """
    shapes = {"flow": '["{}"]', "build": '[["{}"]]', "wildcard": '{{{{"{}"}}}}', "orphan": '(["{}"])'}
    lines = _lines(
        diagram,
        lambda node: shapes[node.kind].format(
            "<br/>".join(
                map(_mermaid_label, [node.label, looks[node.id].text] if node.id in looks else [node.label])
            )
        ),
        "{} --> {}",
        "{} -.-> {}",
    )
    styles = [
        f"  style n{number} {looks[node.id].style}"
        for number, node in enumerate(diagram.nodes)
        if node.id in looks
    ]
    return "\n".join(["flowchart LR", *lines, *styles])


def to_dot(diagram: Diagram) -> str:
    """A directed graph in the language of Graphviz, from left to right."""
    shapes = {
        "flow": "",
        "build": ", peripheries=2",
        "wildcard": ", shape=hexagon",
        "orphan": ", style=dashed",
    }
    lines = _lines(
        diagram,
        lambda node: f' [label="{_dot_label(node.label)}"{shapes[node.kind]}];',
        "{} -> {};",
        "{} -> {} [style=dashed];",
    )
    return "\n".join(["digraph instances {", "  rankdir=LR;", "  node [shape=box];", *lines, "}"])


def _lines(diagram: Diagram, looks: Callable[[Node], str], arrow: str, dashed: str) -> Iterator[str]:
    # An id may be a word of the language (`end`) or hold what it has a meaning for; a number does not.
    names = {node.id: f"n{number}" for number, node in enumerate(diagram.nodes)}
    yield from (f"  {names[node.id]}{looks(node)}" for node in diagram.nodes)
    orphans = {node.id for node in diagram.nodes if node.kind == "orphan"}
    for edge in diagram.edges:
        shown = dashed if edge.source in orphans else arrow
        yield f"  {shown.format(names[edge.source], names[edge.target])}"


FORMATS: dict[str, Callable[[Diagram], str]] = {"mermaid": to_mermaid, "dot": to_dot, "json": to_json}


def beyond_mermaid(diagram: Diagram, text: str) -> str | None:
    """Why Mermaid will not draw a diagram as it is commonly set up; None if it will."""
    if len(diagram.edges) > MERMAID_EDGES:
        return f"the diagram has {len(diagram.edges)} edges, and Mermaid draws {MERMAID_EDGES} at most"
    if len(text) > MERMAID_CHARACTERS:
        return f"the diagram has {len(text)} characters, and Mermaid reads {MERMAID_CHARACTERS} at most"
    return None


def _printable(text: str) -> str:
    """A text on one line: what cannot be printed is written in words."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def _mermaid_label(text: str) -> str:
    return "".join(
        sign if sign.isalnum() or sign in _MERMAID_PLAIN else f"#{ord(sign)};" for sign in _printable(text)
    )


def _dot_label(text: str) -> str:
    # Graphviz reads a backslash as the begin of an escape and an ampersand as that of an entity.
    return _printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
