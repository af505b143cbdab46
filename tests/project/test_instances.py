"""Stored instances: where they are found, how they are named, and what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ductaflow.common.errors import ConfigError, InstanceError
from ductaflow.project.instances import Instance, Instances, find_instances, load_stored, make_instance
from ductaflow.project.names import check_name
from ductaflow.project.options import RunOptions
from ductaflow.project.settings import Project, Settings

quick = settings(max_examples=40, deadline=None)


def project(root: Path, files: dict[str, Any], sources: tuple[str, ...] = ("flows/fit.py",)) -> Project:
    """A project whose `config/` holds some files: text as it stands, anything else as JSON."""
    for source in sources:
        (root / source).parent.mkdir(parents=True, exist_ok=True)
        (root / source).write_text("")
    for name, content in files.items():
        path = root / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return Project.at(root)


def ids(found: tuple[Instance, ...]) -> list[str]:
    return [instance.id for instance in found]


def own(instance: Instance) -> dict[str, Any]:
    """The config without what is injected."""
    assert instance.problem is None
    return {key: value for key, value in instance.config.items() if key != "_project_root"}


def problems(found: tuple[Instance, ...]) -> dict[str, str]:
    return {instance.id: str(instance.problem or "") for instance in found}


# --- where they are ----------------------------------------------------------------------------------------


def test_one_file_one_instance(tmp_path: Path) -> None:
    """`config/flows/fit/scenario_A.json` is the instance fit[scenario_A], with all that a run needs."""
    here = project(tmp_path, {"flows/fit/scenario_A.json": {"a": 1, "_run": {"tags": ["slow"]}}})
    (found,) = find_instances(here)
    assert (found.id, found.title) == ("fit/scenario_A", "fit[scenario_A]")
    assert (found.kind, found.problem) == ("flow", None)
    assert found.config == {"a": 1, "_project_root": tmp_path.as_posix()}
    assert found.options == RunOptions(tags=("slow",))
    assert found.source == tmp_path / "flows/fit.py"
    assert found.file == tmp_path / "config/flows/fit/scenario_A.json"
    assert found.run_folder.path == tmp_path / "runs/fit/scenario_A"
    assert pickle.loads(pickle.dumps(found)) == found
    assert hash(found) == hash(pickle.loads(pickle.dumps(found)))


def test_bases_are_merged_below(tmp_path: Path) -> None:
    """The project's base, then the flow's, then the instance; placeholders are filled at the end."""
    here = project(
        tmp_path,
        {
            "base.json": {"a": 1, "db": {"host": "x", "port": 1}, "_run": {"timeout": 60, "tags": ["ci"]}},
            "flows/fit.json": {
                "a": 2,
                "in": "runs/prep/{instance}/{a}.csv",
                "_run": {"needs": ["p/{instance}"]},
            },
            "flows/fit/A.json": {"a": 3, "db": {"port": 2}, "_run": {"tags": "slow"}},
        },
    )
    (found,) = find_instances(here)
    assert own(found) == {"a": 3, "db": {"host": "x", "port": 2}, "in": "runs/prep/A/3.csv"}
    assert found.options == RunOptions(timeout=60.0, tags=("slow",), needs=("p/A",))


def test_a_lone_flow_config_is_the_default_instance(tmp_path: Path) -> None:
    """`config/flows/fit.json` is `fit[default]` as long as the flow has no other instance."""
    here = project(tmp_path, {"flows/fit.json": {"name": "{instance}"}})
    (found,) = find_instances(here)
    assert (found.id, found.file.name, own(found)) == ("fit/default", "fit.json", {"name": "default"})
    project(tmp_path, {"flows/fit/A.json": {}})
    assert ["fit/A"] == ids(find_instances(here))


def test_a_table_without_rows_is_a_fault(tmp_path: Path) -> None:
    """The flow's own config is not run in place of the rows that somebody meant to be there."""
    here = project(tmp_path, {"flows/fit.json": {}, "flows/fit.csv": "instance,a\n"})
    found = problems(find_instances(here))
    assert ["fit/fit.csv"] == list(found)
    assert "the table has no row" in found["fit/fit.csv"]


def test_order_is_that_of_a_walk(tmp_path: Path) -> None:
    """Builds before flows, flows by name; files by name before rows as they stand."""
    here = project(
        tmp_path,
        {
            "flows/prep.json": {},
            "flows/fit/b.json": {},
            "flows/fit/a.json": {},
            "flows/fit.csv": "instance\nz\ny\n",
            "builds/projection/s1.json": {},
        },
        ("flows/fit.py", "flows/prep.py", "builds/projection.py"),
    )
    expected = ["projection/s1", "fit/a", "fit/b", "fit/z", "fit/y", "prep/default"]
    assert expected == ids(find_instances(here))
    assert ["build", "flow"] == list(dict.fromkeys(instance.kind for instance in find_instances(here)))


@pytest.mark.parametrize("suffix", [".py", ".ipynb", ".md"])
def test_sources(tmp_path: Path, suffix: str) -> None:
    """A flow may be a percent script, a notebook or markdown."""
    (found,) = find_instances(project(tmp_path, {"flows/fit.json": {}}, (f"flows/fit{suffix}",)))
    assert (found.source, found.problem) == (tmp_path / f"flows/fit{suffix}", None)


def test_what_is_no_instance(tmp_path: Path) -> None:
    """Hidden files, other suffixes and files elsewhere are left alone; there may be no config at all."""
    files = {
        "flows/.hidden.json": "{",
        "flows/fit/.a.json": "{",
        "flows/fit/notes.txt": "",
        "flows/README.md": "",
    }
    assert () == find_instances(project(tmp_path, files))
    assert () == find_instances(Project.at(tmp_path / "empty"))


def test_other_folders(tmp_path: Path) -> None:
    """The names of the folders for configs and runs are the project's."""
    project(tmp_path, {"flows/fit/A.json": {}})
    (tmp_path / "config").rename(tmp_path / "cases")
    (found,) = find_instances(Project.at(tmp_path, Settings(config_dir="cases", runs_dir="out/runs")))
    assert found.run_folder.path == tmp_path / "out/runs/fit/A"


def test_collection(tmp_path: Path) -> None:
    """Instances are looked up by id, file and flow."""
    here = project(
        tmp_path, {"flows/fit/A.json": {}, "flows/fit.csv": "instance\nB\nC\n", "flows/fit.json": {}}
    )
    found = Instances(here)
    assert ["fit/A", "fit/B", "fit/C"] == list(found.by_id) == ids(tuple(found)) == ids(found.of_flow("fit"))
    assert ["fit/B", "fit/C"] == ids(found.in_file(tmp_path / "config/flows/../flows/fit.csv"))
    assert () == found.in_file(tmp_path / "config/flows/fit.json") == found.of_flow("other")
    assert 3 == len(found)
    assert 1 == len(Instances(here, found.all[:1]))


# --- scenario tables ---------------------------------------------------------------------------------------


def rows(root: Path, table: str | bytes) -> tuple[Instance, ...]:
    return find_instances(project(root, {"flows/fit.csv": table}))


def test_a_row_is_an_instance(tmp_path: Path) -> None:
    """Cells have types, empty ones leave the decision to the bases, dots set nested keys, tags are words."""
    here = project(
        tmp_path,
        {
            "flows/fit.json": {"horizon": 1, "database": {"host": "x", "port": 1}},
            "flows/fit.csv": (
                "instance,region,horizon,ratio,zone,code,flag,none,years,database.port,_run.tags,_run.timeout\n"
                'A,EU,2030,1e-05,12E5,007,TRUE,null,"[1, 2]",5,ci slow,60\n'
                "B,,,,,,,,,,2030,\n"
            ),
        },
    )
    first, second = find_instances(here)
    assert own(first) == {
        "horizon": 2030,
        "database": {"host": "x", "port": 5},
        "region": "EU",
        "ratio": 1e-05,
        "zone": "12E5",
        "code": "007",
        "flag": True,
        "none": None,
        "years": [1, 2],
    }
    assert first.options == RunOptions(timeout=60.0, tags=("ci", "slow"))
    assert own(second) == {"horizon": 1, "database": {"host": "x", "port": 1}}
    assert second.options == RunOptions(tags=("2030",))


@pytest.mark.parametrize(
    "table",
    [
        "instance;a;b\nx;1;u,v\n",
        'instance_name,a,b\nx,1,"u,v"\n',
        b'\xef\xbb\xbfinstance,a,b\r\nx,1,"u,v"\r\n',
        '\na,instance,b\n\n1,x,"u,v"\n\n,,\n',
        'instance, a, b\nx, 1, "u,v"',
        'instance,a,b,\nx,1,"u,v",\n',
    ],
    ids=["semicolon", "instance_name", "byte order mark", "blank lines", "spaces", "trailing commas"],
)
def test_ways_to_write_a_table(tmp_path: Path, table: str | bytes) -> None:
    """Comma or semicolon, as spreadsheets and people write it."""
    (found,) = rows(tmp_path, table)
    assert (found.id, own(found)) == ("fit/x", {"a": 1, "b": "u,v"})


def test_a_cell_may_hold_lines(tmp_path: Path) -> None:
    """Line ends inside quotes belong to the cell, and lines are still counted right."""
    good, bad = rows(tmp_path, 'instance,a\nx,"1\n2"\ny,[1\n')
    assert own(good) == {"a": "1\n2"}
    assert "fit.csv:4: column a: " in str(bad.problem)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", {"fit/fit.csv": "there is no column instance, only an empty file"}),
        ("a,b\n1,2\n", {"fit/fit.csv": "fit.csv:1: there is no column instance, only a, b"}),
        ("Instance,b\n1,2\n", {"fit/fit.csv": "Did you name it Instance?"}),
        ("instance,instance_name\n1,2\n", {"fit/fit.csv": "two columns name the instance"}),
        ("instance,instance\n1,2\n", {"fit/fit.csv": "two columns name the instance"}),
        (b"instance\n\xe9\n", {"fit/fit.csv": "fit.csv:2:1: the file is not UTF-8"}),
        ("instance\nA\n".encode("utf-16"), {"fit/fit.csv": "UTF-16"}),
        ('instance,a\nA,1\nB,"2\n', {"fit/A": "", "fit/fit.csv": "fit.csv:3: unexpected end of data"}),
        ("instance,a\nA,1,2\nB,3\n", {"fit/A": "fit.csv:2: 3 cells, but 2 columns", "fit/B": ""}),
        ("instance,a,b\nA,1\nB,3,4\n", {"fit/A": "fit.csv:2: 2 cells, but 3 columns", "fit/B": ""}),
        ("instance,a,a\nA,1,2\n", {"fit/A": "two columns are called a"}),
        (",instance\n0,A\n", {"fit/A": "index=False"}),
        ("instance,a\n,1\nB,2\n", {"fit/line-2": "fit.csv:2: the row has no name", "fit/B": ""}),
        ("instance,a\nA,[1\nB,2\n", {"fit/A": "fit.csv:2: column a: the cell", "fit/B": ""}),
        ("instance,a,a.b\nA,1,2\n", {"fit/A": "which is no object"}),
        ("instance,_run.timeuot\nA,1\n", {"fit/A": 'fit.csv:2: _run: unknown option "timeuot"'}),
        ("instance,a\n\n", {"fit/fit.csv": "fit.csv: the table has no row"}),
        ("instance\na b\nc\n", {"fit/a b": "a_b would do", "fit/c": ""}),
        ("instance\n../x\n", {"fit/../x": "x would do"}),
        (
            "instance\nA\nB\nA\n",
            {"fit/A": 'config/flows/fit.csv:2, "A" in config/flows/fit.csv:4', "fit/B": ""},
        ),
    ],
)
def test_a_broken_table_costs_its_own_rows(
    tmp_path: Path, table: str | bytes, expected: dict[str, str]
) -> None:
    """Each row that cannot run says why and where; a table that cannot be read is one instance."""
    found = problems(rows(tmp_path, table))
    assert list(expected) == list(found)
    for id, words in expected.items():
        assert words in found[id]
        assert bool(words) == bool(found[id])


@quick
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
            lambda text: text.strip() == text and text[0] not in "[{0123456789-tTfFn"
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(",;"),
)
def test_strings_survive_a_table(strings: list[str], delimiter: str) -> None:
    """What Python's csv module writes is read back, whatever quotes and delimiters it needs."""
    table = io.StringIO()
    writer = csv.writer(table, delimiter=delimiter)
    writer.writerow(["instance", *(f"c{index}" for index in range(len(strings)))])
    writer.writerow(["A", *strings])
    with tempfile.TemporaryDirectory() as folder:
        (found,) = rows(Path(folder), table.getvalue().encode())
    if "{" not in "".join(strings):
        assert strings == list(own(found).values())


# --- what is wrong with them -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"flows/fit/A.json": '{"a": 1, "a": 2}', "flows/fit/B.json": {}},
            {"fit/A": "A.json:1:10: duplicate key", "fit/B": ""},
        ),
        ({"flows/fit/A.json": ""}, {"fit/A": "A.json:1:1: the file is empty"}),
        ({"flows/fit.json": "[1]"}, {"fit/default": "fit.json:1:1: a config is a JSON object"}),
        (
            {"flows/fit.json": '{"a":', "flows/fit/A.json": {}, "flows/fit/B.json": {}},
            {"fit/A": "fit.json:1:6: ", "fit/B": "fit.json:1:6: "},
        ),
        ({"base.json": "{", "flows/fit/A.json": {}}, {"fit/A": "base.json:1:2: "}),
        (
            {"flows/fit.json": {"_run": {"x": 1}}, "flows/fit/A.json": {}},
            {"fit/A": "config/flows/fit.json: _run: unknown option"},
        ),
        ({"flows/fit/A.json": {"_run": {"timeout": "x"}}}, {"fit/A": "A.json: _run.timeout takes"}),
        (
            {"flows/fit/A.json": {"a": "{b}", "b": "{a}"}},
            {"fit/A": "A.json: placeholders refer to each other"},
        ),
        ({"flows/fti/A.json": {}}, {"fti/A": "Did you mean fit?"}),
        ({"builds/fit/A.json": {}}, {"fit/A": "whose configs belong to config/flows/"}),
        ({"flows/fit/a b.json": {}}, {"fit/a b": "a_b would do"}),
        ({"flows/fit/CON.json": {}}, {"fit/CON": "it is a device on Windows"}),
        ({"flows/my fit/A.json": {}}, {"my fit/A": "my_fit would do"}),
    ],
)
def test_a_problem_belongs_to_its_instance(
    tmp_path: Path, files: dict[str, Any], expected: dict[str, str]
) -> None:
    """Nothing raises: each instance that cannot run is there under its usual id and says why."""
    found = problems(find_instances(project(tmp_path, files)))
    assert list(expected) == list(found)
    for id, words in expected.items():
        assert words in found[id]
        assert bool(words) == bool(found[id])


def test_each_instance_has_its_own_exception(tmp_path: Path) -> None:
    """One that is shared would grow its traceback with every instance that raises it."""
    found = find_instances(project(tmp_path, {"base.json": "{", "flows/fit.csv": "instance\nA\nB\n"}))
    first, second = (instance.problem for instance in found)
    assert first is not second
    assert isinstance(first, ConfigError)
    assert first.__traceback__ is None


@pytest.mark.parametrize("flow", ["calendar", "json", "ductaflow"])
def test_a_flow_that_hides_a_module(tmp_path: Path, flow: str) -> None:
    """As a script it would come first on `sys.path`."""
    (found,) = find_instances(project(tmp_path, {f"flows/{flow}.json": {}}, (f"flows/{flow}.py",)))
    assert "would hide the module" in str(found.problem)
    assert f"{flow}_flow" in str(found.problem)


@pytest.mark.parametrize(
    ("files", "sources", "expected"),
    [
        (
            {"flows/fit/A.json": {}, "builds/fit/B.json": {}},
            ("flows/fit.py", "builds/fit.py"),
            {"fit/B": "the flow fit would share", "fit/A": "the build fit would share"},
        ),
        ({"flows/fit/A.json": {}}, ("flows/fit.py", "builds/Fit.py"), {"fit/A": "the build Fit would share"}),
    ],
)
def test_flows_and_builds_share_one_namespace(
    tmp_path: Path, files: dict[str, Any], sources: tuple[str, ...], expected: dict[str, str]
) -> None:
    """Both run below `runs/`, so a flow and a build of one name, in any case, would share a folder."""
    found = problems(find_instances(project(tmp_path, files, sources)))
    assert list(expected) == list(found)
    for id, words in expected.items():
        assert words in found[id]


NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("files", "places"),
    [
        ({"flows/fit/A.json": {}, "flows/fit.csv": "instance\nA\n"}, ["fit/A.json", "fit.csv:2"]),
        ({"flows/fit/A.json": {}, "flows/fit/a.json": "{"}, ["fit/A.json", "fit/a.json"]),
        ({"flows/fit.csv": "instance\nA\na\n"}, ["fit.csv:2", "fit.csv:3"]),
        ({f"flows/fit/{NFC}.json": {}, f"flows/fit/{NFD}.json": {}}, [f"fit/{NFC}.json", f"fit/{NFD}.json"]),
        ({"flows/fit/STRASSE.json": {}, "flows/fit/straße.json": {}}, ["STRASSE.json", "straße.json"]),
    ],
)
def test_a_name_given_twice(tmp_path: Path, files: dict[str, Any], places: list[str]) -> None:
    """All that share a name, as some file system sees it, have that problem and name each other."""
    here = project(tmp_path, files)
    if len(files) > 1 and len(list((tmp_path / "config/flows/fit").iterdir())) < len(files) - (
        "flows/fit.csv" in files
    ):
        pytest.skip("this file system takes the two for one")
    found = find_instances(here)
    assert 2 == len(found)
    for instance in found:
        assert isinstance(instance.problem, InstanceError)
        assert all(place in str(instance.problem) for place in places)


def test_many_of_one_name(tmp_path: Path) -> None:
    """Rows of one table with the very same name are one item, and the message stays short."""
    (found,) = rows(tmp_path, "instance\n" + "A\n" * 3000)
    assert "3000 times" in str(found.problem)
    assert len(str(found.problem)) < 500


@pytest.mark.skipif(os.name == "nt", reason="file names there are text")
def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    """It is shown in ASCII, so that it can travel between processes, and refused."""
    here = project(tmp_path, {"flows/fit/A.json": {}})
    try:
        os.rename(
            tmp_path / "config/flows/fit/A.json", os.fsencode(tmp_path) + b"/config/flows/fit/\xff.json"
        )
    except OSError:
        pytest.skip("this file system refuses such a name")
    (found,) = find_instances(here)
    found.id.encode("utf-8")
    assert isinstance(found.problem, InstanceError)


def test_a_dangling_link(tmp_path: Path) -> None:
    """It is an instance that cannot be read, not one that is silently left out."""
    here = project(tmp_path, {"flows/fit/A.json": {}})
    (tmp_path / "config/flows/fit/B.json").symlink_to("nowhere.json")
    assert "cannot be read" in problems(find_instances(here))["fit/B"]


@pytest.mark.parametrize("name", ["..", "../../x", "/etc", "a/b", "x" * 300, "", "CON", "a\nb"])
def test_no_name_leaves_the_runs_folder(tmp_path: Path, name: str) -> None:
    """The run folder of a name that is refused is a folder in the tree that nobody has."""
    here = Project.at(tmp_path)
    folder = Instance("flow", "fit", name, here, {}, RunOptions(), None, tmp_path).run_folder.path
    assert folder.parent == here.runs_dir / "fit"
    assert folder.name.startswith("%")
    assert not folder.exists()


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["scenario_A", "a", "2030", "region-EU_horizon-2030", "v1.5", "+x", "größe", "日本", "наука", "a" * 80],
)
def test_names(name: str) -> None:
    """Letters of any script, digits, `_`, `-`, `.`, `+`, at most 80 bytes."""
    check_name(name)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("", "instance"),
        (".", "instance"),
        ("..", "instance"),
        ("../x", "x"),
        ("a/b", "a_b"),
        ("a\\b", "a_b"),
        ("/etc/x", "etc_x"),
        ("a b", "a_b"),
        ("a\n", "a"),
        ("a\0b", "a_b"),
        ("a[1]", "a_1"),
        (".hidden", "hidden"),
        ("-k", "k"),
        ("x.", "x"),
        ("😀", "instance"),
        ("CON", "CON_"),
        ("nul.2030", "nul_.2030"),
        ("com1", "com1_"),
        (NFD, NFC),
        ("\udcff", "instance"),
        ("x" * 300, "x" * 79),
        ("é" * 41, "é" * 39),
    ],
)
def test_names_that_are_refused(name: str, better: str) -> None:
    """Anything else is refused with a name that would do, and that one does."""
    with pytest.raises(InstanceError, match="cannot be a name") as caught:
        check_name(name)
    str(caught.value).encode()
    assert caught.value.hint == f"{better} would do."
    check_name(better)


@pytest.mark.slow
@quick
@given(st.text(max_size=100))
def test_every_name_has_one_that_would_do(name: str) -> None:
    """Whatever the name, the suggestion is acceptable."""
    try:
        check_name(name)
    except InstanceError as exc:
        check_name(exc.hint.removesuffix(" would do."))


# --- one of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["fit/B", "fit[B]"])
def test_load_stored(tmp_path: Path, id: str) -> None:
    """One instance by id or title, the same as among all."""
    here = project(
        tmp_path, {"base.json": {"a": 1}, "flows/fit/A.json": "{", "flows/fit.csv": "instance,b\nB,2\n"}
    )
    assert find_instances(here)[1] == load_stored(here, id)
    assert {"a": 1, "b": 2} == own(load_stored(here, id))
    assert "A.json:1:2" in str(load_stored(here, "fit/A").problem)


def test_load_stored_sees_names_that_clash(tmp_path: Path) -> None:
    """Although it reads only what bears on the name."""
    here = project(tmp_path, {"flows/fit/A.json": {}, "flows/fit.csv": "instance\na\nB\n"})
    assert "2 times" in str(load_stored(here, "fit/A").problem)


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("fit/scenario_a", "Did you mean scenario_A?"),
        ("fit/zzz", "There is scenario_A, B."),
        ("fti/scenario_A", "Did you mean fit?"),
        ("zzz/A", "Flows that have some: fit."),
        ("fit", "Write flow/instance"),
        ("fit/a/b", "Write flow/instance"),
        ("../fit/A", "Write flow/instance"),
        ("", "Write flow/instance"),
    ],
)
def test_load_stored_that_is_unknown(tmp_path: Path, id: str, words: str) -> None:
    """The message says which one may be meant."""
    here = project(tmp_path, {"flows/fit/scenario_A.json": {}, "flows/fit.csv": "instance\nB\n"})
    with pytest.raises(InstanceError) as caught:
        load_stored(here, id)
    assert words in str(caught.value)


def test_make_instance(tmp_path: Path) -> None:
    """An instance from Python is merged over the same bases, and need not be stored."""
    here = project(tmp_path, {"base.json": {"a": 1}, "flows/fit.json": {"b": "{instance}"}})
    made = make_instance(here, "flow", "fit", "new", {"c": (1, 2), "_run": {"tags": "x"}})
    assert {"a": 1, "b": "new", "c": [1, 2]} == own(made)
    assert (made.id, made.options.tags) == ("fit/new", ("x",))
    assert made.source == tmp_path / "flows/fit.py"
    other = make_instance(here, "flow", "elsewhere", "new", {}, source=tmp_path / "elsewhere.py")
    assert (own(other), other.source) == ({"a": 1}, tmp_path / "elsewhere.py")


@pytest.mark.parametrize(
    ("flow", "name", "config", "words"),
    [
        ("fit", "a b", {}, "a_b would do"),
        ("none", "A", {}, "there is no flows/none.py"),
        ("calendar", "A", {}, "would hide the module"),
        ("fit", "A", {"x": {1}}, "config of fit[A].x: a value of type builtins.set"),
        ("fit", "A", {"x": "{x}"}, "config of fit[A]: placeholders refer"),
        ("fit", "A", {"_run": 1}, "config of fit[A]: _run is a number"),
    ],
)
def test_make_instance_that_is_refused(
    tmp_path: Path, flow: str, name: str, config: dict[str, Any], words: str
) -> None:
    """From Python it raises at once."""
    with pytest.raises((ConfigError, InstanceError)) as caught:
        make_instance(project(tmp_path, {}), "flow", flow, name, config)
    assert words in str(caught.value)


def test_a_broken_base_refuses_an_instance_from_python(tmp_path: Path) -> None:
    """The base is named."""
    with pytest.raises(ConfigError, match=r"fit\.json:1:2"):
        make_instance(project(tmp_path, {"flows/fit.json": "{"}), "flow", "fit", "A", {})


def test_thousands_of_instances_are_found_quickly(tmp_path: Path) -> None:
    """The cost per instance does not grow; a generous limit that only a quadratic way would miss."""
    table = "instance,a\n" + "".join(f"s{index},{index}\n" for index in range(10_000))
    started = time.perf_counter()
    assert 10_000 == len(rows(tmp_path, table))
    assert time.perf_counter() - started < 10
