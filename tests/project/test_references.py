"""Which run a string names: one table of strings, asked of everybody who has to know."""

from __future__ import annotations

import ntpath
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import TinyProject

from ductaflow import unpack_config
from ductaflow.project.graph import Graph
from ductaflow.project.instances import Instance, Instances
from ductaflow.project.options import RunOptions
from ductaflow.project.references import RunReference, RunsTree, runs_tree
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.session.targets import variant
from ductaflow.store.record import undeclared
from ductaflow.store.spec import Reads

NFC, NFD = "caf\u00e9", "cafe\u0301"

#: A string ({root} is the project, {link} a symlink to it, {runs} one to its runs folder), the run that it
#: names (a name or pattern for flow and instance), and what it names inside that.
TABLE: list[tuple[str, str | None, str]] = [
    ("runs/prep/A/clean.csv", "prep/A", "clean.csv"),
    ("runs/prep/A", "prep/A", ""),
    ("runs/prep/A/", "prep/A", ""),
    ("runs/prep/A/.", "prep/A", ""),
    ("runs/prep/A/sub/deep/x.csv", "prep/A", "sub/deep/x.csv"),
    ("runs/prep/A/runs/fit/B/x.csv", "prep/A", "runs/fit/B/x.csv"),
    ("./runs/prep/A/x.csv", "prep/A", "x.csv"),
    ("././runs/prep/A/x.csv", "prep/A", "x.csv"),
    ("runs//prep/./A//x.csv", "prep/A", "x.csv"),
    ("inputs/../runs/prep/A/x.csv", "prep/A", "x.csv"),
    ("runs/fit/B/../../prep/A/x.csv", "prep/A", "x.csv"),
    ("runs/../runs/prep/A/x.csv", "prep/A", "x.csv"),
    ("../project/runs/prep/A/x.csv", "prep/A", "x.csv"),
    ("{root}/runs/prep/A/x.csv", "prep/A", "x.csv"),
    ("{root}//runs/prep/A/", "prep/A", ""),
    ("{root}/inputs/../runs/prep/A", "prep/A", ""),
    ("{link}/runs/prep/A/x.csv", "prep/A", "x.csv"),
    ("{runs}/prep/A/x.csv", "prep/A", "x.csv"),
    ("runs/prep/A/part-*.csv", "prep/A", "part-*.csv"),
    ("runs/prep/A/file[1].csv", "prep/A", "file[1].csv"),
    ("runs/prep/A/{year}.csv", "prep/A", "{year}.csv"),
    ("runs/prep/A/two words.csv", "prep/A", "two words.csv"),
    ("runs/prep/A/what?.csv#x", "prep/A", "what?.csv#x"),
    (f"runs/prep/A/{NFC}.csv", "prep/A", f"{NFC}.csv"),
    ("runs/prep", "prep/*", ""),
    ("runs/prep/", "prep/*", ""),
    ("runs/prep/*", "prep/*", ""),
    ("runs/prep/*/clean.csv", "prep/*", "clean.csv"),
    ("runs/prep/[A-B]/clean.csv", "prep/[A-B]", "clean.csv"),
    ("runs/prep/?/clean.csv", "prep/?", "clean.csv"),
    ("runs/p*/A/clean.csv", "p*/A", "clean.csv"),
    ("{root}/runs/p*/A/clean.csv", "p*/A", "clean.csv"),
    ("runs/prep/**/x.csv", "prep/*", "x.csv"),
    ("runs/**/x.csv", "*/*", "x.csv"),
    ("runs/*/*", "*/*", ""),
    ("runs/prep/{year}/x.csv", "prep/{year}", "x.csv"),
    (f"runs/prep/{NFD}/x.csv", f"prep/{NFD}", "x.csv"),
    ("runs/prep/a/x.csv", "prep/a", "x.csv"),
    ("runs/prep/A.csv", "prep/A.csv", ""),
    ("runs/.ductaflow/previous/prep/A", ".ductaflow/previous", "prep/A"),
    ("runs", None, ""),
    ("runs/", None, ""),
    ("runs/prep/..", None, ""),
    ("Runs/prep/A/x.csv", None, ""),
    ("runs_old/prep/A", None, ""),
    ("runs-prep/A", None, ""),
    ("inputs/runs/prep/A/x.csv", None, ""),
    ("runs/prep/A/../../../inputs/x.csv", None, ""),
    ("../runs/prep/A/x.csv", None, ""),
    ("{root}/../runs/prep/A", None, ""),
    ("/elsewhere/runs/prep/A", None, ""),
    ("/", None, ""),
    ("s3://bucket/runs/prep/A/x.csv", None, ""),
    ("~/runs/prep/A", None, ""),
    ("see runs/prep/A", None, ""),
    (" runs/prep/A", None, ""),
    ("runs\\prep\\A\\x.csv", None, ""),
    ("*/prep/A/x.csv", None, ""),
    ("prep/A", None, ""),
    ("runs/prep/A\0", None, ""),
    ("", None, ""),
]


@pytest.fixture
def there(tmp_path: Path) -> TinyProject:
    """A project with runs of prep/A and prep/B on disk, and symlinks to it and to its runs folder."""
    project = TinyProject(tmp_path / "project")
    for name in ("prep", "fit"):
        project.flow(name, "# %%\n")
    for id in ("prep/A", "prep/B", "fit/A"):
        project.config(f"flows/{id}.json")
        folder = project.root / "runs" / id
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
        (folder / "other.csv").write_text("1")
    (tmp_path / "link").symlink_to(project.root, target_is_directory=True)
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "runs").symlink_to(project.root / "runs", target_is_directory=True)
    return project


def written(text: str, project: TinyProject) -> str:
    """A string of the table with its places filled in."""
    above = project.root.parent
    places = {"{root}": project.root, "{link}": above / "link", "{runs}": above / "share" / "runs"}
    for place, path in places.items():
        text = text.replace(place, str(path))
    return text


def instance(project: Project, id: str, text: str | None = None) -> Instance:
    flow, _, name = id.partition("/")
    config = {"_project_root": str(project.root), **({} if text is None else {"x": text})}
    source = project.root / "flows" / f"{flow}.py"
    return Instance("flow", flow, name, project, config, RunOptions(), source, Path("a.json"))


def matching(expected: str | None, ids: list[str]) -> set[str]:
    tree = RunsTree("/", "/runs")
    reference = RunReference(*(expected or "/").split("/"))
    return {id for id in ids if tree.names(reference, *id.split("/"))}


@pytest.mark.parametrize(("text", "expected", "rest"), TABLE)
def test_what_a_string_names(there: TinyProject, text: str, expected: str | None, rest: str) -> None:
    """The run, perhaps as a pattern, and the path inside it."""
    reference = runs_tree(Project.at(there.root)).named_by(written(text, there))
    assert (expected, rest) == ((reference.id, reference.rest) if reference else (None, ""))


@pytest.mark.parametrize(("text", "expected", "rest"), TABLE)
def test_the_graph_follows(there: TinyProject, text: str, expected: str | None, rest: str) -> None:
    """A reference is an edge to each stored instance that it names."""
    project = Project.at(there.root)
    reader, others = instance(project, "fit/A", written(text, there)), ["prep/A", "prep/B"]
    graph = Graph([reader, *(instance(project, id) for id in others)])
    assert matching(expected, others) == set(graph.upstreams("fit/A"))


@pytest.mark.parametrize(("text", "expected", "rest"), [row for row in TABLE if "\0" not in row[0]])
def test_records_follow(there: TinyProject, text: str, expected: str | None, rest: str) -> None:
    """What a run reads from an instance is declared if the config names that instance."""
    spec = spec_of_instance(instance(Project.at(there.root), "fit/A", written(text, there)))
    others = ["prep/A", "prep/B"]
    read = {str(there.root / "runs" / id / "other.csv"): None for id in others}
    warned = " ".join(undeclared(spec, replace(Reads(), files=read), []))
    assert matching(expected, others) == {id for id in others if id not in warned}


@pytest.mark.parametrize(("text", "expected", "rest"), [row for row in TABLE if "\0" not in row[0]])
def test_variants_follow(there: TinyProject, text: str, expected: str | None, rest: str) -> None:
    """A variant has a path of its own where the original names its own run folder; nothing else changes."""
    there.config("flows/prep/A.json", x=written(text, there))
    project = Project.at(there.root)
    instances = Instances(project)
    original = instances.by_id["prep/A"]
    given = str(original.config["x"])
    found = str(variant(instances, original, {}, "new").config["x"])
    tree = runs_tree(project)
    reference = tree.named_by(given)
    if reference and reference.id == "prep/A":
        assert RunReference("prep", "new", reference.rest) == tree.named_by(found)
        assert given.endswith("/") == found.endswith("/")
        assert os.path.isabs(given) == os.path.isabs(found)
    else:
        assert given == found


@pytest.mark.parametrize(("text", "expected", "rest"), TABLE)
def test_flows_follow(there: TinyProject, text: str, expected: str | None, rest: str) -> None:
    """`unpack_config` makes whatever names a run absolute: a path, or a pattern that stays a string."""
    text = written(text, there)
    found = unpack_config({"_project_root": str(there.root), "x": text}, "test")["x"]
    if expected:
        assert os.path.isabs(found)
        assert RunReference(*expected.split("/"), rest) == runs_tree(Project.at(there.root)).named_by(
            str(found)
        )
    elif "runs/" not in text or text.startswith(("s3:", "~", "/", "*", " ", "see")):
        assert text == found


WINDOWS = RunsTree("C:\\Work\\proj", "C:\\Work\\proj\\Runs", system=ntpath)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs\\prep\\A\\x.csv", "prep/A"),
        ("Runs/prep/A/x.csv", "prep/A"),
        (".\\runs/prep\\A", "prep/A"),
        ("c:\\work\\PROJ\\runs\\prep\\A", "prep/A"),
        ("C:/Work/proj/runs/prep/A/x.csv", "prep/A"),
        ("inputs\\..\\runs\\prep\\*\\x.csv", "prep/*"),
        ("runs\\prep\\", "prep/*"),
        ("D:\\Work\\proj\\runs\\prep\\A", None),
        ("\\\\host\\proj\\runs\\prep\\A", None),
        ("runs_old\\prep\\A", None),
    ],
)
def test_paths_of_windows(text: str, expected: str | None) -> None:
    """Either slash, any case, drives."""
    reference = WINDOWS.named_by(text)
    assert expected == (reference.id if reference else None)


def test_names_on_windows() -> None:
    """Case and Unicode form do not count, in names and in patterns; paths keep how they are written."""
    assert WINDOWS.names(RunReference("PREP", NFD.upper()), "prep", NFC)
    assert WINDOWS.names(RunReference("P*", "[A-B]"), "prep", "b")
    assert "Runs/PREP/new/X.csv" == WINDOWS.renamed("runs\\PREP\\a\\X.csv", "prep/A", "new")
    assert "C:/Work/proj/Runs/prep/new/" == WINDOWS.renamed(
        "c:\\work\\proj\\runs\\prep\\A\\", "prep/A", "new"
    )


@pytest.mark.parametrize("runs", ["out", "out/all runs", "../elsewhere/runs", "/scratch/runs"])
def test_the_runs_folder_has_any_name_and_place(tmp_path: Path, runs: str) -> None:
    """The configured folder is what counts: below the project, beside it, or elsewhere."""
    tree = RunsTree(tmp_path, os.path.join(tmp_path, runs))
    assert RunReference("prep", "A", "x.csv") == tree.named_by(f"{runs}/prep/A/x.csv")
    assert RunReference("prep", "A", "x.csv") == tree.named_by(f"{tree.name}/prep/A/x.csv")
    assert f"{tree.name}/prep/B/x.csv" == tree.renamed(f"{tree.name}/prep/A/x.csv", "prep/A", "B")
    assert tree.named_by("runs/prep/A/x.csv") is None


PARTS = st.sampled_from(["runs", "prep", "A", "..", ".", "", "*", "**", "[", "{x}", "project", NFC, "a\\b"])
TREE = RunsTree("/project", "/project/runs")


@given(st.lists(PARTS, max_size=8), st.booleans())
def test_any_path_has_one_answer(parts: list[str], is_absolute: bool) -> None:
    """No path raises; what is named lies below the runs folder; all spellings of a path are alike."""
    text = ("/project/" if is_absolute else "") + "/".join(parts)
    reference = TREE.named_by(text)
    full = os.path.normpath(os.path.join("/project", text))
    assert (reference is not None) == full.startswith("/project/runs/")
    for other in (full, f"./{text}" if not is_absolute else text, f"{text}/", os.path.normpath(text)):
        if not text.startswith("/") or is_absolute:
            assert reference == TREE.named_by(other)
    if reference and "*" not in reference.id:
        assert RunReference(reference.flow, "new", reference.rest) == TREE.named_by(
            TREE.renamed(text, reference.id, "new")
        )
        assert text == TREE.renamed(text, "other/A", "new")
