"""Lineage through whole sessions: several instances and what they share, saved files, versions, edges."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="flows of these tests call libc"),
]


def put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


# --- several instances -------------------------------------------------------------------------------------

SHARED_DATABASE = """
# %%
import sqlite3
connection = sqlite3.connect(config["_project_root"] + "/shared.db")
connection.execute("create table if not exists t(name primary key, x)")
connection.execute("insert or replace into t values(?, ?)", (config["name"], config["x"]))
connection.commit()
connection.close()
"""
SHARED_FOLDER = """
# %%
from pathlib import Path
export = Path(config["_project_root"], config["export_dir"])
export.mkdir(exist_ok=True)
(export / f"{config['name']}.csv").write_text(str(config["x"]))
"""
SHARED_FILE = """
# %%
from pathlib import Path
Path(config["_project_root"], "last.txt").write_text(config["name"])
"""


def instances(project: TinyProject, code: str, names: str = "abc", **base: Any) -> None:
    project.settings("html = false")
    project.flow("fit", code)
    project.config("flows/fit.json", **base)
    for name in names:
        project.config(f"flows/fit/{name}.json", name=name, x=1)


def ran(project: TinyProject, *args: str) -> set[str]:
    """Run what changed, and return the ids of what ran; all has to be well."""
    done = project.pytest("-q", "-p", "no:cacheprovider", "--ductaflow-changed", *args)
    statuses = done.statuses()
    assert {"success", "unchanged"} >= set(statuses.values()), done.out
    return {id for id, status in statuses.items() if status != "unchanged"}


@pytest.mark.parametrize(
    ("code", "removed", "must"),
    [
        (SHARED_DATABASE, "shared.db", "abc"),
        (SHARED_FOLDER, "export/b.csv", "b"),
        (SHARED_FILE, "last.txt", "a"),
    ],
)
def test_instances_that_write_one_file_or_folder_do_not_make_each_other_run(
    project: TinyProject, code: str, removed: str, must: str
) -> None:
    """Not without an edit, and after a value of one changed only that one."""
    instances(project, code, export_dir="export")
    assert {"fit/a", "fit/b", "fit/c"} == ran(project)
    assert (set(), set()) == (ran(project), ran(project))
    project.config("flows/fit/b.json", name="b", x=2)
    assert ({"fit/b"}, set(), set()) == (ran(project), ran(project), ran(project))
    (project.root / removed).unlink()
    assert ({f"fit/{name}" for name in must}, set()) == (ran(project), ran(project))


def test_instances_that_write_into_one_folder_at_once(project: TinyProject) -> None:
    """Workers that run side by side see each other's files come, and that is no change."""
    instances(project, SHARED_FOLDER, "abcdef", export_dir="export")
    assert 6 == len(ran(project, "-n", "2"))
    assert (set(), set()) == (ran(project, "-n", "2"), ran(project, "-n", "2"))


def test_a_reader_of_a_folder_runs_when_what_others_export_into_it_changes(project: TinyProject) -> None:
    """Only for those that write into it themselves is it an output."""
    instances(project, SHARED_FOLDER, export_dir="export")
    project.flow("report", "print(1)")
    project.config("flows/report.json", folder="export", _run={"needs": ["fit/a", "fit/b", "fit/c"]})
    ran(project)
    assert set() == ran(project)
    project.config("flows/fit/b.json", name="b", x=2)
    assert {"fit/b", "report/default"} == ran(project)


def test_the_same_reason_in_three_sessions_is_told(project: TinyProject) -> None:
    """With what to do: nobody looks at a run that is made in vain again and again."""
    code = """
        # %%
        import ctypes, os
        libc = ctypes.CDLL(None)
        path = os.fsencode(config["_project_root"] + "/export/x.bin")
        handle = libc.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        libc.write(handle, os.urandom(9), 9)
        libc.close(handle)
    """
    (project.root / "export").mkdir()
    instances(project, code, "a", export_dir="export")
    for _ in range(3):
        assert {"fit/a"} == ran(project)
        assert "sessions in a row" not in project.result("fit", "a").message
    assert {"fit/a"} == ran(project)
    message = project.result("fit", "a").message
    assert (
        "it ran in 3 sessions in a row because export/x.bin was changed while the last run read it" in message
    )
    assert "let the flow write elsewhere" in message
    assert "3 sessions in a row" in project.output("why", "fit/a")


# --- saved files of upstreams ------------------------------------------------------------------------------


def test_what_we_write_of_an_upstream_counts_by_its_content(project: TinyProject) -> None:
    """Whoever names or reads the saved config, log, notebook or result of another run depends on it."""
    project.settings("html = false")
    project.flow("prep", '# %%\nopen("x.txt", "w").write("same")\nprint(config["x"])')
    project.config("flows/prep/a.json", x=1)
    readers = set()
    for name in ("prep_config.json", "prep_execution_output.txt", "prep.ipynb", "result.json"):
        flow = f"collect_{name.partition('.')[0]}"
        code = f'# %%\ntext = open(config["_project_root"] + "/runs/prep/a/{name}").read()\n'
        for way, reads in (("named", name), ("read", "x.txt")):
            project.flow(flow, code)
            project.config(f"flows/{flow}/{way}.json", data=f"runs/prep/a/{reads}")
            readers.add(f"{flow}/{way}")
    assert {"prep/a", *readers} == ran(project)
    assert (set(), set()) == (ran(project), ran(project))
    project.config("flows/prep/a.json", x=2)
    assert {"prep/a", *readers} == ran(project)
    assert (set(), set()) == (ran(project), ran(project))


# --- versions of packages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "package", "must"),
    [
        ("import yaml", "yaml", True),
        ("import pandas", "numpy", True),
        ("import yaml", "numpy", False),
        ("import yaml", "papermill", False),
        ("x = 1", "bleach", False),
        (
            "import sys\nsys.path.insert(0, config['_project_root'])\nimport adapters.yaml\nimport yaml",
            "yaml",
            True,
        ),
    ],
)
def test_versions_count_of_what_the_flow_imports(
    project: TinyProject, code: str, package: str, must: bool
) -> None:
    """With what that requires, and whatever modules of the project are called; not what ductaflow needs."""
    project.settings('html = false\nrerun_on = ["config", "code", "inputs", "environment"]')
    put(project.root / "adapters/yaml.py", "")
    put(project.root / "adapters/__init__.py", "")
    project.flow("fit", f"# %%\n{code}\n")
    project.config("flows/fit.json")
    ran(project)
    assert set() == ran(project)
    path = project.folder("fit", "default") / "result.json"
    result = json.loads(path.read_bytes())
    result["environment"]["packages"][package] = "0.0.1"
    path.write_text(json.dumps(result))
    assert ({"fit/default"} if must else set()) == ran(project)


# --- why ---------------------------------------------------------------------------------------------------


def test_why_names_the_file_of_a_large_folder(project: TinyProject) -> None:
    """Of thousands, the one that is another one."""
    for number in range(1000):
        put(project.root / f"inputs/m/{number}.txt", "1")
    project.settings("html = false")
    project.flow("fit", "x = 1")
    project.config("flows/fit.json", data="inputs/m")
    ran(project)
    put(project.root / "inputs/m/517.txt", "2")
    put(project.root / "inputs/m/new.txt", "2")
    text = project.output("why", "fit/default")
    assert "inputs/m/517.txt has other content" in text
    assert "inputs/m/new.txt is new" in text


def test_a_record_of_an_older_version_makes_an_instance_run_once(project: TinyProject) -> None:
    """And says so."""
    instances(project, "x = 1", "a")
    ran(project)
    path = project.folder("fit", "a") / "result.json"
    result = json.loads(path.read_bytes())
    del result["lineage"]["format"], result["lineage"]["imports"]
    path.write_text(json.dumps(result))
    assert "its record is of another version of ductaflow" in project.output("why", "fit/a")
    assert ({"fit/a"}, set()) == (ran(project), ran(project))


# --- edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"weights": {"runs/prep/a/x.txt": 1}},
        {"f": "runs/prep/a/x.txt::/table"},
        {"f": "file:runs/prep/a/x.txt?mode=ro"},
        {"f": "file://{project_root}/runs/prep/a/x.txt"},
        {"f": "zip://member::runs/prep/a/x.txt"},
        {"f": "inputs/a.csv, runs/prep/a/x.txt"},
        {"f": "inputs/a.csv;runs/prep/a/x.txt"},
        {"f": "inputs/a.csv:runs/prep/a/x.txt"},
        {"f": "$EDITS_RUNS/prep/a/x.txt"},
        {"f": "${EDITS_RUNS}/prep/a"},
        {"f": "{project_root}/../scratch/prep/a/x.txt"},
        {"f": "out/prep/a/x.txt"},
        {"f": "inputs/of_prep/x.txt"},
    ],
)
def test_an_edge_however_the_run_is_named(project: TinyProject, config: dict[str, Any]) -> None:
    """The upstream comes first, and blocks when it is red: by keys, URIs, lists, variables and links."""
    scratch = project.root.parent / "scratch"
    scratch.mkdir()
    (project.root / "runs").symlink_to(scratch)
    (project.root / "out").symlink_to("runs")
    (project.root / "inputs").mkdir()
    (project.root / "inputs/of_prep").symlink_to("../runs/prep/a")
    project.settings("html = false")
    project.flow("prep", 'raise SystemExit("no")')
    project.config("flows/prep/a.json")
    project.flow("a_reader", "x = 1")
    project.config("flows/a_reader.json", **config)
    done = project.pytest("-q", env={"EDITS_RUNS": str(project.root / "runs")})
    assert {"prep/a": "error", "a_reader/default": "blocked"} == done.statuses(), done.out
