"""The graph as nodes and edges, and as text for Mermaid, Graphviz and JSON."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from support import TinyProject, cli
from test_graph import GRAPHS
from test_graph import instance as graph_instance

from ductaflow.common.paths import Kind
from ductaflow.project.diagram import Diagram, Edge, Node, to_dot, to_json, to_mermaid
from ductaflow.project.graph import Graph
from ductaflow.project.instances import Instance
from ductaflow.project.options import RunOptions
from ductaflow.project.settings import Project

EXAMPLE = Path(__file__).resolve().parents[2] / "example_project"
PROJECT = Project.at(Path("/project"))
HOSTILE = [
    'a"b',
    "end",
    "a]b",
    "<script>&amp;",
    "#quot;",
    "back\\slash\\N",
    "`x`",
    "two\nlines",
    "zürich",
    "東京",
]


def instance(id: str, *reads: str, kind: Kind = "flow") -> Instance:
    flow, _, name = id.partition("/")
    config = {f"file{number}": f"runs/{read}" for number, read in enumerate(reads)}
    return Instance(kind, flow, name, PROJECT, config, RunOptions(), Path("f.py"), Path("f.json"))


def diagram(*instances: Instance, ids: list[str] | None = None) -> Diagram:
    return Diagram.of(instances, Graph(instances), ids)


def pairs(found: Diagram) -> list[tuple[str, str]]:
    return [(edge.source, edge.target) for edge in found.edges]


CHAIN = (
    instance("a/x"),
    instance("b/x", "a/x/out.csv", kind="build"),
    instance("c/x", "b/x/out.csv", "a/x"),
    instance("d/lonely"),
)


def test_nodes_and_edges_of_all() -> None:
    """Every instance is there, also one that nobody reads; an edge goes with the data and names its key."""
    found = diagram(*CHAIN)
    assert [Node("a/x", "a", "x", "flow"), Node("b/x", "b", "x", "build")] == list(found.nodes[:2])
    assert ["a/x", "b/x", "c/x", "d/lonely"] == [node.id for node in found.nodes]
    assert (
        Edge("a/x", "b/x", "file0"),
        Edge("b/x", "c/x", "file0"),
        Edge("a/x", "c/x", "file1"),
    ) == found.edges


def test_some_with_all_above_and_below() -> None:
    """At any distance; what is beside them is left out."""
    chain = (*CHAIN, instance("c/y", "a/x/out.csv"))
    assert ["a/x", "b/x", "c/x"] == [node.id for node in diagram(*chain, ids=["b/x"]).nodes]
    assert ["d/lonely"] == [node.id for node in diagram(*chain, ids=["d/lonely"]).nodes]
    assert ["a/x", "b/x", "c/x", "c/y"] == [node.id for node in diagram(*chain, ids=["a/x"]).nodes]


def test_a_wildcard_of_one_reader_is_spelled_out() -> None:
    """A node of its own would only be one more."""
    found = diagram(instance("a/x"), instance("a/y"), instance("b/sum", "a/*/out.csv"))
    assert [("a/x", "b/sum"), ("a/y", "b/sum")] == pairs(found)
    assert ["file0", "file0"] == [edge.key for edge in found.edges]


def test_many_readers_of_many_instances_stay_few_edges() -> None:
    """300 instances that read a wildcard of 300 are 600 edges, through a node that says what it is."""
    sources = [instance(f"a/{number}") for number in range(300)]
    readers = [instance(f"b/{number}", "a/*/out.csv") for number in range(300)]
    found = diagram(*sources, *readers)
    assert (601, 600) == (len(found.nodes), len(found.edges))
    assert Node("runs/a/*", "a", "*", "wildcard", 300) == found.nodes[-1]
    assert ("a/7", "runs/a/*") in pairs(found)
    assert ("runs/a/*", "b/7") in pairs(found)
    assert [("a", "b")] == pairs(found.by_flow())
    assert ["a (300)", "b (300)"] == [node.label for node in found.by_flow().nodes]


def test_a_reader_inside_its_own_wildcard() -> None:
    """`runs/a/*` read by a/sum is all of the others, and no loop."""
    found = diagram(instance("a/x"), instance("a/y"), instance("a/sum", "a/*"))
    assert [("a/x", "a/sum"), ("a/y", "a/sum")] == pairs(found)


@settings(max_examples=80, deadline=None)
@given(GRAPHS)
def test_the_edges_are_those_of_the_graph(configs: dict[str, list[str]]) -> None:
    """Through wildcards too, and no more of them than that takes; by flow alike."""
    instances = [graph_instance(id, config) for id, config in configs.items()]
    graph = Graph(instances)
    found = Diagram.of(instances, graph)
    expected = {(upstream, id) for id in configs for upstream in graph.upstreams(id)}
    members: dict[str, list[str]] = {}
    for edge in found.edges:
        members.setdefault(edge.target, []).append(edge.source)
    spelled = {
        (source, edge.target)
        for edge in found.edges
        for source in ([edge.source] if edge.source in configs else members[edge.source])
        if edge.target in configs and source != edge.target
    }
    assert expected == spelled
    flows = {(up.partition("/")[0], id.partition("/")[0]) for up, id in expected}
    assert flows <= set(pairs(found.by_flow()))


def test_flows_that_read_each_other() -> None:
    """One year reads the year before: the flow has a loop, its instances have none."""
    found = diagram(instance("year/2030"), instance("year/2031", "year/2030/x")).by_flow()
    assert [("year", "year")] == pairs(found)
    assert (Node("year", "year", None, "flow", 2),) == found.nodes


def labels_of_mermaid(text: str) -> list[str]:
    """The labels as Mermaid decodes them: `#34;` is a character by its number."""
    found = re.findall(r'^  n\d+(?:\["|\[\["|\{\{")(.*?)(?:"\]\]|"\]|"\}\})$', text, re.MULTILINE)
    return [re.sub(r"#(\d+);", lambda match: chr(int(match[1])), label) for label in found]


def labels_of_dot(text: str) -> list[str]:
    """The labels as Graphviz reads them: a quoted string, then escapes of labels and entities."""
    found = re.findall(r'^  n\d+ \[label="((?:[^"\\]|\\.)*)"[^"]*\];$', text, re.MULTILINE)
    return [html.unescape(re.sub(r"\\(.)", r"\1", label)) for label in found]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_one_label(name: str) -> None:
    """Quotes, words of the language, markup, entities, backslashes, line ends, any script."""
    found = diagram(instance(f"a/{name}"), instance(f"a{name}/y", kind="build"))
    shown = [f"a/{name}".replace("\n", "\\n"), f"a{name}/y".replace("\n", "\\n")]
    mermaid, dot = to_mermaid(found), to_dot(found)
    assert shown == labels_of_mermaid(mermaid)
    assert 3 == len(mermaid.splitlines())
    assert not set('"<>&`\\') & set("".join(re.findall(r'"(.*)"', mermaid)))
    assert shown == labels_of_dot(dot)
    assert 6 == len(dot.splitlines())
    assert [f"a/{name}", f"a{name}/y"] == [node["id"] for node in json.loads(to_json(found))["nodes"]]
    assert to_json(found).isascii()


def test_a_wildcard_has_a_shape_of_its_own() -> None:
    """So has a build."""
    sources = [instance(f"a/{number}", kind="build") for number in range(3)]
    readers = [instance(f"b/{number}", "a/[0-9]/out.csv") for number in range(3)]
    found = diagram(*sources, *readers)
    lines = to_mermaid(found).splitlines()
    assert ['  n0[["a/0"]]', '  n3["b/0"]', '  n6{{"runs/a/[0-9]"}}'] == [lines[1], lines[4], lines[7]]
    assert '  n0 [label="a/0", peripheries=2];' in to_dot(found)
    assert '  n6 [label="runs/a/[0-9]", shape=hexagon];' in to_dot(found)


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def stored(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """Two chains of two, the working directory in the project."""
    for flow in ("prep", "fit"):
        project.flow(flow, "pass")
        for name in ("north", "south"):
            config = {"data": f"runs/prep/{name}/x.csv"} if flow == "fit" else {}
            project.config(f"flows/{flow}/{name}.json", **config)
    monkeypatch.chdir(project.root)
    return project


def test_the_command_draws_all_or_some(stored: TinyProject) -> None:
    """Mermaid by default; ids and titles choose; nothing is written."""
    done = cli("graph")
    assert (0, "") == (done.exit_code, done.stderr)
    assert done.stdout == (
        'flowchart LR\n  n0["fit/north"]\n  n1["fit/south"]\n  n2["prep/north"]\n  n3["prep/south"]\n'
        "  n2 --> n0\n  n3 --> n1\n"
    )
    assert ["fit/south", "prep/south"] == labels_of_mermaid(cli("graph", "fit[south]").stdout)
    assert {
        "nodes": [
            {"id": "fit", "flow": "fit", "instance": None, "kind": "flow", "instances": 2},
            {"id": "prep", "flow": "prep", "instance": None, "kind": "flow", "instances": 2},
        ],
        "edges": [{"from": "prep", "to": "fit", "key": "data"}],
    } == json.loads(cli("graph", "--flows", "--format", "json").stdout)
    assert not (stored.root / "runs").exists()


def test_a_cycle_and_a_broken_config_are_drawn(stored: TinyProject) -> None:
    """Whoever looks for the cycle wants to see it."""
    stored.config("flows/prep/north.json", data="runs/fit/north/x.csv")
    (stored.root / "config/flows/prep/half.json").write_text("{")
    found = json.loads(cli("graph", "--format", "json").stdout)
    edges = {(edge["from"], edge["to"]) for edge in found["edges"]}
    assert {("prep/north", "fit/north"), ("fit/north", "prep/north")} <= edges
    assert "prep/half" in [node["id"] for node in found["nodes"]]


def test_an_unknown_id_is_an_error(stored: TinyProject) -> None:
    """With what may be meant."""
    done = cli("graph", "fit/nroth")
    assert (2, "") == (done.exit_code, done.stdout)
    assert "Did you mean north?" in done.stderr


def test_more_than_mermaid_draws_is_said(stored: TinyProject) -> None:
    """On standard error, with the ways out; the text itself stays whole."""
    rows = "\n".join(f"r{number},runs/prep/north/x.csv" for number in range(501))
    (stored.root / "config/flows/fit.csv").write_text(f"instance,data\n{rows}\n")
    done = cli("graph")
    assert 0 == done.exit_code
    assert 503 == done.stdout.count("-->")
    assert (
        "Note: the diagram has 503 edges, and Mermaid draws 500 at most unless its page raises the limit."
        " Give --flows for a node a flow or the ids of some instances or --format dot for Graphviz,"
        " which has no limit.\n" == done.stderr
    )
    for way in (("--flows",), ("fit/r7",), ("--format", "dot")):
        assert (0, "") == (cli("graph", *way).exit_code, cli("graph", *way).stderr)


def test_more_text_than_mermaid_reads_is_said(stored: TinyProject) -> None:
    """Nodes alone may be too many."""
    rows = "\n".join(f"{'long' * 15}{number}" for number in range(700))
    (stored.root / "config/flows/fit.csv").write_text(f"instance\n{rows}\n")
    assert re.search(r"has \d+ characters, and Mermaid reads 50000 at most", cli("graph").stderr)


def test_the_example_shows_its_graph() -> None:
    """The picture in its README is what the command prints: three levels and no loop."""
    done = subprocess.run(
        [sys.executable, "-c", "from ductaflow.cli.app import main; main()", "graph"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        check=True,
    )
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert [done.stdout] == re.findall(r"```mermaid\n(.*?)```", readme, re.DOTALL)
    assert "data_prep/scenario_A" in done.stdout
