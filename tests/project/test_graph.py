"""The graph that configs say: its edges, its order, its cycles and what it cannot find."""

from __future__ import annotations

import json
import ntpath
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ductaflow.common.errors import ConfigError, InstanceError
from ductaflow.project.graph import MAX_CYCLES, Graph, check, collect
from ductaflow.project.instances import Instance
from ductaflow.project.options import RunOptions
from ductaflow.project.references import RunsTree
from ductaflow.project.settings import Project, Settings

quick = settings(max_examples=80, deadline=None)
HERE = Project.at(Path("/project"))


def instance(
    id: str, config: Any = None, *, needs: tuple[str, ...] = (), project: Project = HERE
) -> Instance:
    """An instance whose config is an object, or holds a string or list under the key `in`."""
    flow, _, name = id.partition("/")
    values = config if isinstance(config, dict) else {"in": config}
    values = {**values, "_project_root": str(project.root)}
    return Instance("flow", flow, name, project, values, RunOptions(needs=needs), None, Path("a.json"))


def graph(**configs: Any) -> Graph:
    """A graph of instances `flow/name`, written `flow__name=config`."""
    return Graph([instance(key.replace("__", "/"), config) for key, config in configs.items()])


def reads(text: str, *, reader: str = "fit/A", project: Project = HERE) -> tuple[str, ...]:
    """What a config string makes fit/A read, among some others."""
    others = [instance(id, project=project) for id in ("prep/A", "prep/B", "prep2/A", "fit/B", "a+b/x.y-z")]
    return Graph([instance(reader, text, project=project), *others]).upstreams(reader)


# --- edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/prep/A/clean.csv", ("prep/A",)),
        ("runs/prep/A", ("prep/A",)),
        ("runs/prep/A/", ("prep/A",)),
        ("runs/prep/A/sub/deep/x.csv", ("prep/A",)),
        ("runs/prep/A/runs/fit/B/x.csv", ("prep/A",)),
        ("./runs/prep/A/x.csv", ("prep/A",)),
        ("runs//prep/./A/x.csv", ("prep/A",)),
        ("inputs/../runs/prep/A/x.csv", ("prep/A",)),
        ("/project/runs/prep/A/x.csv", ("prep/A",)),
        ("runs/a+b/x.y-z/1.csv", ("a+b/x.y-z",)),
        ("runs/prep", ("prep/A", "prep/B")),
        ("runs/prep/", ("prep/A", "prep/B")),
        ("runs/prep/*", ("prep/A", "prep/B")),
        ("runs/prep/*/clean.csv", ("prep/A", "prep/B")),
        ("runs/prep/[B-Z]/clean.csv", ("prep/B",)),
        ("runs/prep*/A/clean.csv", ("prep/A", "prep2/A")),
        ("runs/pre?/A", ("prep/A",)),
        ("runs/prep/**/x.csv", ("prep/A", "prep/B")),
        ("runs/*/A/x.csv", ("prep/A", "prep2/A")),
        ("runs/**/x.csv", ("prep/A", "prep/B", "prep2/A", "fit/B", "a+b/x.y-z")),
        ("runs/prep/A/part-*.csv", ("prep/A",)),
        ("runs/prep/A/file[1].csv", ("prep/A",)),
        ("runs/fit", ("fit/B",)),
        ("runs/fit/*/x.csv", ("fit/B",)),
        ("runs/fit/A/x.csv", ()),
        ("runs/fit/A", ()),
        ("runs/prep/C/x.csv", ()),
        ("runs/prep/A.csv", ()),
        ("runs/none/A/x.csv", ()),
        ("runs/none", ()),
        ("runs", ()),
        ("runs/", ()),
        ("runs_old/prep/A", ()),
        ("runs-prep/A", ()),
        ("inputs/runs/prep/A/x.csv", ()),
        ("runs/prep/A/../../../inputs/x.csv", ()),
        ("/elsewhere/runs/prep/A", ()),
        ("see runs/prep/A", ()),
        ("prep/A", ()),
        ("", ()),
    ],
)
def test_a_string_that_is_a_path_below_runs(text: str, expected: tuple[str, ...]) -> None:
    """Compared part by part; a flow's folder or a pattern reads all that match; the own folder is none."""
    assert expected == reads(text)


def test_only_windows_takes_backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """There a path may be written either way, in any case; elsewhere a backslash is a letter."""
    assert () == reads("runs\\prep\\A\\x.csv")
    windows = RunsTree("C:\\Work", "C:\\Work\\Runs", system=ntpath)
    monkeypatch.setattr("ductaflow.project.graph.runs_tree", lambda _project: windows)
    assert ("prep/A",) == reads(".\\runs\\prep\\A\\x.csv")
    assert ("prep/A",) == reads("c:/work/RUNS/Prep/a/x.csv")
    assert ("prep/A", "prep2/A") == reads("Runs\\PREP*\\a\\x.csv")
    assert () == reads("runs/FIT/a")


def test_the_runs_folder_is_the_projects(tmp_path: Path) -> None:
    """Another name for the runs folder, and a root that is a link."""
    other = Project.at(tmp_path, Settings(runs_dir="out/all runs"))
    assert ("prep/A",) == reads("out/all runs/prep/A/x.csv", project=other)
    assert () == reads("runs/prep/A/x.csv", project=other)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    linked = Project.at(tmp_path / "link")
    assert ("prep/A",) == reads(f"{tmp_path}/link/runs/prep/A/x", project=linked)
    assert ("prep/A",) == reads(f"{tmp_path.resolve()}/real/runs/prep/A/x", project=linked)


def test_references_at_any_depth_and_their_key_paths() -> None:
    """`ref` tells which key makes an edge; the first one where there are several."""
    config = {
        "inputs": {"files": ["x", {"clean file": "runs/prep/A/x.csv"}]},
        "again": "runs/prep/A/y.csv",
        "all": "runs/raw/*",
    }
    found = Graph(
        [instance("fit/A", config, needs=("raw/Z", "prep/B")), *map(instance, ("prep/A", "prep/B", "raw/Z"))]
    )
    assert ("prep/A", "prep/B", "raw/Z") == found.upstreams("fit/A")
    assert 'inputs.files[1]["clean file"]' == found.ref("fit/A", "prep/A")
    assert "_run.needs[1]" == found.ref("fit/A", "prep/B")
    assert "_run.needs[0]" == found.ref("fit/A", "raw/Z")
    with pytest.raises(KeyError):
        found.ref("prep/A", "fit/A")


def test_the_project_root_is_no_reference() -> None:
    """A project that lies below another one's runs folder reads nothing by lying there."""
    inner = Project(Path("/project/runs/prep/A"), Path("/x"), Path("/project/runs"))
    assert () == reads("x", project=inner)


def test_what_reads_from_an_instance() -> None:
    """By name or by pattern, at any distance."""
    found = graph(
        prep__A=None, prep__B=None, fit__A="runs/prep/A/x", fit__B="runs/prep/*/x", end__A="runs/fit/B"
    )
    assert ("fit/A", "fit/B", "end/A") == found.below(["prep/A"])
    assert ("fit/B", "end/A") == found.below(["prep/B"])
    assert ("end/A",) == found.below(["fit/B"])
    assert () == found.below(["end/A"]) == found.below(["none/A"]) == found.upstreams("none/A")


def test_no_instances() -> None:
    """An empty project has an empty graph."""
    found = Graph([])
    assert ([], ["x/y"]) == (found.cycles(), found.order(["x/y"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/prep/nowhere/clean.csv", ("prep", "nowhere", "runs/prep/nowhere/clean.csv")),
        ("/project/runs/prep/nowhere", ("prep", "nowhere", "/project/runs/prep/nowhere")),
        ("runs/perp/A/x.csv", ("perp", "A", "runs/perp/A/x.csv")),
        ("runs/prep/nowhere/sub/*.csv", ("prep", "nowhere", "runs/prep/nowhere/sub/")),
        ("runs/prep/nowhere/part-{n}.csv", ("prep", "nowhere", "runs/prep/nowhere/")),
        ("runs/prep/A/x.csv", None),
        ("runs/fit/A/x.csv", None),
        ("runs/prep/{year}/x.csv", None),
        ("runs/prep/no*/x.csv", None),
        ("runs/perp", None),
        ("runs/.ductaflow/previous/x", None),
        ("inputs/prep/nowhere", None),
    ],
)
def test_a_reference_to_a_run_that_is_not_stored(text: str, expected: tuple[str, str, str] | None) -> None:
    """It is no edge but kept apart, without what is a pattern, a template or the own folder."""
    found = graph(fit__A=text, prep__A=None)
    flows = [(one.flow, one.name, one.path) for one in found.unstored("fit/A")]
    assert ([expected] if expected else []) == flows
    assert () == found.unstored("prep/A")


def test_a_build_may_name_the_runs_of_its_flows() -> None:
    """Below its own run folder they are called alike."""
    from dataclasses import replace

    build = replace(instance("all/A", "runs/prep/nowhere/x.csv"), kind="build")
    assert () == Graph([build, instance("prep/A")]).unstored("all/A")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/prep/twoo/x", "prep has no stored instance twoo. Did you mean two?"),
        ("runs/prep/nowhere/x", "prep has no stored instance nowhere. There is one, two."),
        ("runs/perp/one/x", "perp has no stored instance at all. Did you mean prep?"),
        ("runs/zzz/one/x", "zzz has no stored instance at all. There is fit, prep."),
    ],
)
def test_what_is_stored_instead(text: str, expected: str) -> None:
    """The nearest name, or those that there are."""
    found = graph(fit__A=text, prep__two=None, prep__one=None)
    (reference,) = found.unstored("fit/A")
    assert expected == found.about(reference)


# --- order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_ids", "expected"),
    [
        (["prep/A", "fit/A", "end/A"], ["prep/A", "fit/A", "end/A"]),
        (["end/A", "fit/A", "prep/A"], ["prep/A", "fit/A", "end/A"]),
        (["other/B", "fit/A", "other/A", "prep/A"], ["other/B", "other/A", "prep/A", "fit/A"]),
        (["other/B", "other/A"], ["other/B", "other/A"]),
        (["end/A", "prep/A"], ["prep/A", "end/A"]),
        (["end/A", "unknown/X"], ["end/A", "unknown/X"]),
        (["prep/A", "prep/A"], ["prep/A"]),
        ([], []),
    ],
)
def test_order(given_ids: list[str], expected: list[str]) -> None:
    """Upstreams first, also around an instance that is not selected; otherwise as given."""
    found = graph(
        prep__A=None, fit__A="runs/prep/A/x", end__A="runs/fit/A/x", other__A=None, other__B="runs/prep2/x"
    )
    assert expected == found.order(given_ids)


NAMES = [f"{flow}/{name}" for flow in "abc" for name in "xyz"]
TARGETS = [f"runs/{id}/1.csv" for id in NAMES] + [
    "runs/a/*",
    "runs/b",
    "runs/*/x",
    "runs/c/[xy]/1",
    "runs/**",
]
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(TARGETS), max_size=3))


@quick
@given(GRAPHS, st.permutations(NAMES))
def test_order_and_cycles_of_any_graph(configs: dict[str, list[str]], given_ids: list[str]) -> None:
    """Every id once; upstreams first unless there is a cycle; the members of cycles are found exactly."""
    instances = [instance(id, config) for id, config in configs.items()]
    found = Graph(instances)
    selected = [id for id in given_ids if id in configs]
    above = {id: _reachable(found, id) for id in configs}
    cyclic = {id for id in configs if id in above[id]}

    ordered = found.order(selected)
    assert sorted(selected) == sorted(ordered)
    for position, id in enumerate(ordered):
        late = set(ordered[position + 1 :])
        # a cycle has to be opened somewhere, and only there an upstream comes later
        assert id in cyclic or not late.intersection(found.upstreams(id))
        assert above[id] & cyclic or not late & above[id]
    if not any(above.values()):
        assert selected == ordered

    assert cyclic == {one.id for one in check(instances) if one.problem}
    for cycle in found.cycles():
        assert len(set(cycle)) == len(cycle) > 1
        for id, upstream in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            assert upstream in found.upstreams(id)
            assert id in found.below([upstream])
            assert found.ref(id, upstream).startswith("in[")
    assert cyclic == {id for cycle in found.cycles() for id in cycle}


@quick
@given(GRAPHS, st.sets(st.sampled_from(NAMES)))
def test_all_above_and_below(configs: dict[str, list[str]], names: set[str]) -> None:
    """At any distance, as collected, and without those that are given; in cycles too."""
    found = Graph([instance(id, config) for id, config in configs.items()])
    given_ids = names & configs.keys()
    above = {id: _reachable(found, id) for id in configs}
    expected = set().union(*(above[id] for id in given_ids)) - given_ids
    assert [id for id in configs if id in expected] == list(found.above(given_ids))
    expected = {id for id in configs if above[id] & given_ids} - given_ids
    assert [id for id in configs if id in expected] == list(found.below(given_ids))


def _reachable(found: Graph, id: str) -> set[str]:
    seen: set[str] = set()
    stack = list(found.upstreams(id))
    while stack:
        one = stack.pop()
        if one not in seen:
            seen.add(one)
            stack.extend(found.upstreams(one))
    return seen


# --- cycles and unknown names ------------------------------------------------------------------------------


def test_a_cycle_is_explained() -> None:
    """Each member says the way round and the keys that make it; the others have no problem."""
    members = [
        instance("a/x", {"p": {"q": "runs/b/y/1.csv"}}),
        instance("b/y", needs=("c/z",)),
        instance("c/z", ["runs/a/x"]),
    ]
    around = [instance("d/w", "runs/a/x"), instance("e/v")]
    checked = check([*members, *around])
    text = (
        "a/x -> b/y -> c/z -> a/x\n"
        "  a/x reads b/y: p.q\n  b/y reads c/z: _run.needs[0]\n  c/z reads a/x: in[0]\n"
    )
    for one in checked[:3]:
        assert isinstance(one.problem, InstanceError)
        assert f"{one.id} is part of a cycle: {text}" in str(one.problem)
    assert [None, None] == [one.problem for one in checked[3:]]
    assert around == list(checked[3:])


def test_two_that_read_the_whole_flow() -> None:
    """One may read all others of its flow; a second one makes a cycle with it."""
    one = graph(fit__A="runs/fit", fit__B=None, fit__C=None)
    assert ([], ("fit/B", "fit/C")) == (one.cycles(), one.upstreams("fit/A"))
    assert ["fit/B", "fit/A"] == one.order(["fit/A", "fit/B"])
    two = graph(fit__A="runs/fit", fit__B="runs/fit/*", fit__C=None)
    assert [("fit/A", "fit/B")] == two.cycles()


def test_a_problem_that_is_there_stays() -> None:
    """The first reason is the one that is told."""
    from dataclasses import replace

    broken = replace(instance("a/x", "runs/b/y"), problem=ConfigError("broken"))
    first, second = check([broken, instance("b/y", "runs/a/x")])
    assert broken.problem is first.problem
    assert "part of a cycle" in str(second.problem)


@pytest.mark.parametrize(
    ("need", "words"),
    [
        ("prep/scenaro_A", "Did you mean prep/scenario_A?"),
        ("perp/scenario_A", "Did you mean prep/scenario_A?"),
        ("zzz/qqq", "Store it, or remove it"),
    ],
)
def test_needs_that_are_unknown(need: str, words: str) -> None:
    """They are a problem with a suggestion, unlike a path to something that is not stored any more."""
    first, second = check(
        [instance("fit/A", "runs/prep/old/x.csv", needs=(need,)), instance("prep/scenario_A")]
    )
    assert f"fit/A needs {need} (_run.needs[0]), which is no stored instance" in str(first.problem)
    assert words in str(first.problem)
    assert second.problem is None
    assert ["fit/A"] == list(Graph([first, second]).unknown_problems())


def test_needs_of_a_base_that_name_the_instance_itself() -> None:
    """ "All need fit/A" in a base is no cycle of fit/A with itself."""
    assert all(one.problem is None for one in check([instance(f"fit/{n}", needs=("fit/A",)) for n in "AB"]))


def test_collect(tmp_path: Path) -> None:
    """What is stored, with the problems of files and of the graph."""
    for name, config in {"A": {"in": "runs/fit/B/x"}, "B": {"in": "runs/fit/A/x"}, "C": {}}.items():
        path = tmp_path / f"config/flows/fit/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config))
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/fit.py").write_text("")
    (tmp_path / "config/flows/fit/D.json").write_text("{")
    found = collect(Project.at(tmp_path))
    assert ["fit/A", "fit/B", "fit/C", "fit/D"] == list(found.by_id)
    assert "part of a cycle" in str(found.by_id["fit/A"].problem)
    assert found.by_id["fit/C"].problem is None
    assert "D.json:1:2" in str(found.by_id["fit/D"].problem)


# --- size --------------------------------------------------------------------------------------------------

MANY = 5_000


@pytest.mark.parametrize(
    ("config_of", "cyclic"),
    [
        (lambda index: f"runs/fit/s{index + 1}/x", 0),
        (lambda index: f"runs/fit/s{(index + 1) % MANY}/x", MANY),
        (lambda index: "runs/fit/*/x" if index == 0 else None, 0),
        (lambda index: "runs/fit", MANY),
        (lambda index: f"runs/fit/s[{index % 10}]/x" if index >= 10 else None, 0),
        (lambda index: "runs/fit/s0" if index else "runs/fit", MANY),
    ],
    ids=["chain", "ring", "summary", "everything", "patterns", "star"],
)
def test_thousands_of_instances(config_of: Any, cyclic: int) -> None:
    """Cost grows with the number of instances, not with its square; messages stay short."""
    started = time.perf_counter()
    instances = [instance(f"fit/s{index}", config_of(index)) for index in range(MANY)]
    found = Graph(instances)
    assert MANY == len(found.order([one.id for one in instances]))
    texts = [str(one.problem) for one in check(instances) if one.problem]
    assert cyclic == len(texts)
    assert max(map(len, texts), default=0) < 2000
    assert len(found.cycles()) <= MAX_CYCLES
    assert time.perf_counter() - started < 10
