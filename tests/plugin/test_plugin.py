"""What is collected: paths, node ids, markers, and what a person is told instead."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support import (
    PLAIN,
    TinyProject,
    collected,
    files_below,
    run_pytest,
)

# --- without the flag --------------------------------------------------------------------------------------


def test_without_the_flag_nothing_is_collected_or_imported(project: TinyProject) -> None:
    """The plugin is inert: not even the core is imported."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    (project.root / "test_it.py").write_text(
        "import sys\ndef test_it(): assert not [m for m in sys.modules if m.startswith('ductaflow')]\n"
    )

    session = run_pytest(project.root, flag="")

    assert session.code == 0
    assert "1 passed" in session.out


# --- what is collected -------------------------------------------------------------------------------------


def test_all_three_forms_of_storage_are_items(project: TinyProject) -> None:
    """A config file, a row of a table, the only config of a flow, and builds alike."""
    for name in ("fit", "prep", "alone"):
        project.flow(name, PLAIN)
    project.flow("all", PLAIN, kind="builds")
    project.config("flows/fit/scenario_A.json")
    project.config("flows/fit.json")
    project.config("flows/alone.json")
    project.config("builds/all/one.json")
    (project.root / "config/flows/prep.csv").write_text("instance,x\nscenario_B,1\nscenario_C,2\n")

    assert sorted(collected(project.root)) == [
        "config/builds/all/one.json::all[one]",
        "config/flows/alone.json::alone[default]",
        "config/flows/fit/scenario_A.json::fit[scenario_A]",
        "config/flows/prep.csv::prep[scenario_B]",
        "config/flows/prep.csv::prep[scenario_C]",
    ]


@pytest.mark.slow
def test_node_ids_can_be_pasted_back(project: TinyProject) -> None:
    """A row of a table and a config file are found by their node id alone."""
    project.flow("prep", PLAIN)
    (project.root / "config/flows/prep.csv").write_text("instance,x\nscenario_B,1\nscenario_C,2\n")
    project.config("flows/prep/scenario_A.json")

    for nodeid in collected(project.root):
        assert collected(project.root, nodeid) == [nodeid]


def test_collecting_writes_nothing(project: TinyProject) -> None:
    """`--collect-only` leaves the tree as it was."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    before = files_below(project.root)

    assert collected(project.root, "-p", "no:cacheprovider") == ["config/flows/fit.json::fit[default]"]

    assert files_below(project.root) == before


def test_projects_in_subfolders_are_found(tmp_path: Path) -> None:
    """Several projects in one repository; node ids are relative to pytest's rootdir."""
    for name in ("north", "south"):
        project = TinyProject(tmp_path / name)
        project.flow("fit", PLAIN)
        project.config("flows/fit.json")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    assert collected(tmp_path) == [
        "north/config/flows/fit.json::fit[default]",
        "south/config/flows/fit.json::fit[default]",
    ]


@pytest.mark.slow
def test_config_is_collected_beside_testpaths(project: TinyProject) -> None:
    """Without paths on the command line, the project's own instances and what `testpaths` names."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    (project.root / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    (project.root / "tests").mkdir()
    (project.root / "tests/test_it.py").write_text("def test_it(): pass\n")

    assert collected(project.root) == ["tests/test_it.py::test_it", "config/flows/fit.json::fit[default]"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "test_fit"])
def test_a_source_stands_for_its_instances_and_is_never_imported(project: TinyProject, name: str) -> None:
    """`flows/fit.py` means the instances of that flow, also where its name makes it a test."""
    project.flow(name, "raise SystemExit('imported')")
    project.flow("other", PLAIN)
    project.config(f"flows/{name}/A.json")
    project.config(f"flows/{name}/B.json")
    project.config("flows/other.json")
    (project.root / "pytest.ini").write_text("[pytest]\npython_files = *.py\n")
    expected = [f"config/flows/{name}/{key}.json::{name}[{key}]" for key in "AB"]

    assert collected(project.root, f"flows/{name}.py") == expected
    assert collected(project.root, f"flows/{name}.py::{name}[B]") == expected[1:]
    assert sorted(collected(project.root, "flows")) == sorted(
        [*expected, "config/flows/other.json::other[default]"]
    )
    assert sorted(collected(project.root)) == sorted(collected(project.root, "flows"))


@pytest.mark.slow
def test_a_source_without_instance_says_what_its_config_would_be(project: TinyProject) -> None:
    """The argument is refused with the way out, before anything runs."""
    project.flow("fit", PLAIN)

    session = run_pytest(project.root, "flows/fit.py")

    assert session.code == pytest.ExitCode.USAGE_ERROR
    assert "flows/fit.py has no stored instance. Its config would be config/flows/fit.json." in session.out


@pytest.mark.slow
def test_a_base_config_stands_for_what_it_is_the_base_of(project: TinyProject) -> None:
    """That of a flow for its instances, that of the project for all."""
    for name in ("fit", "alone"):
        project.flow(name, PLAIN)
    for path in ("base.json", "flows/fit.json", "flows/fit/A.json", "flows/alone.json"):
        project.config(path)
    (project.root / "config/flows/fit.csv").write_text("instance\nB\n")
    fit = ["config/flows/fit.csv::fit[B]", "config/flows/fit/A.json::fit[A]"]

    assert sorted(collected(project.root, "config/flows/fit.json")) == fit
    assert collected(project.root, "config/flows/fit.json::fit[A]") == fit[1:]
    assert sorted(collected(project.root, "config/base.json")) == [
        "config/flows/alone.json::alone[default]",
        *fit,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["config/flows/fit.json::fit[default]", "config/flows/fit.json"])
def test_an_instance_without_the_flag_says_what_is_missing(project: TinyProject, argument: str) -> None:
    """pytest's own words stay, one line is added."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")

    session = run_pytest(project.root, argument, flag="")

    assert session.code == pytest.ExitCode.USAGE_ERROR
    assert "ductaflow: to run what is stored in config/, add --ductaflow\n" in session.out
    assert "add --ductaflow" not in run_pytest(project.root, "other.py", flag="").out


@pytest.mark.slow
@pytest.mark.parametrize("args", [(), ("-n", "1"), ("--collect-only",)])
def test_where_there_is_no_project_it_says_so(tmp_path: Path, args: tuple[str, ...]) -> None:
    """One line of the terminal; the exit code is that of pytest."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    project = TinyProject(tmp_path / "sub")
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    (tmp_path / "other").mkdir()
    signs = "config/flows, config/builds or config/base.json"
    line = f"ductaflow: no project in {{}}: a project is a folder with {signs}\n"

    nothing = run_pytest(tmp_path, "other", *args)
    assert nothing.code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert line.format(tmp_path / "other") in nothing.out

    nothing_selected = run_pytest(tmp_path, "-k", "nothing", *args)
    assert nothing_selected.code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no project" not in nothing_selected.out


@pytest.mark.slow
def test_a_folder_beside_what_is_stored_says_where_that_is(project: TinyProject) -> None:
    """In a folder of a project that stores nothing, the command that runs what the project stores."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    (project.root / "notes/old").mkdir(parents=True)
    session = run_pytest(project.root / "notes/old")
    assert session.code == pytest.ExitCode.NO_TESTS_COLLECTED
    told = re.search(r"^ductaflow: nothing is stored there.*: pytest --ductaflow (.*)$", session.out, re.M)
    assert told, session.out
    assert run_pytest(project.root / "notes/old", told[1]).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("args", [(), ("-n", "1")])
def test_an_upstream_with_a_result_that_cannot_be_read(project: TinyProject, args: tuple[str, ...]) -> None:
    """What reads from it cannot start; file, reason and the command that mends it are said."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/a.json")
    project.flow("assess", PLAIN)
    project.config("flows/assess/a.json", _run={"needs": ["fit/a"]})
    (project.folder("fit", "a") / "result.json").mkdir(parents=True)

    session = run_pytest(project.root, "-k", "assess", *args)

    assert session.code == 1
    assert "Traceback" not in session.out
    assert "result.py" not in session.out
    (entry,) = [entry for entry in session.report()["instances"] if entry["id"] == "assess/a"]
    assert entry["message"].startswith("assess/a reads from fit/a, but ")
    assert "fit/a/result.json: cannot be used: Is a directory" in entry["message"]
    assert 'pytest --ductaflow "config/flows/fit/a.json::fit[a]"' in session.out
    assert run_pytest(project.root, *args).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("args", [(), ("-n", "1")])
def test_runs_that_is_a_file(project: TinyProject, args: tuple[str, ...]) -> None:
    """Each instance fails with the place and the remedy, not with a traceback of ours."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/a.json")
    (project.root / "runs").write_text("")
    session = run_pytest(project.root, *args)
    assert session.code == 1
    assert "Traceback" not in session.out
    assert "NotADirectoryError" not in session.out
    assert "During handling" not in session.out
    assert re.search(r"error +fit/a: .*runs.*", session.out), session.out


@pytest.mark.slow
def test_an_exception_of_a_hook_is_the_message_of_its_instance(project: TinyProject) -> None:
    """Its class and text, not the first line of pytest's long traceback."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text("def pytest_runtest_setup(item):\n    missing_name\n")
    session = run_pytest(project.root)
    assert "error    fit/a: NameError: name 'missing_name' is not defined\n" in session.out


@pytest.mark.slow
@pytest.mark.parametrize("text", ["'x' * 1_000_000", "'x\\n' * 500_000"])
def test_a_message_without_end_is_cut(project: TinyProject, text: str) -> None:
    """In the terminal, in JUnit and in what the result says; how much is left out, and where the whole is."""
    project.flow("fit", f"raise ValueError({text})")
    project.config("flows/fit/a.json")
    project.flow("assess", PLAIN)
    project.config("flows/assess/a.json", _run={"needs": ["fit/a"]})
    session = run_pytest(project.root, "--junitxml=junit.xml", "-rs")
    assert len(session.out) < 40_000
    assert len((project.root / "junit.xml").read_text()) < 40_000
    cut = r"ValueError: x[x\n\s]* \.\.\. \(99\d,\d+ characters left out; the log has them all"
    assert re.search(cut, session.out)
    assert len(project.folder("fit", "a").joinpath("fit_execution_output.txt").read_bytes()) > 1_000_000


@pytest.mark.slow
def test_results_are_never_collected(project: TinyProject) -> None:
    """What a flow wrote is no test, whatever it is called and asked for, nor is what it is to write."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    for folder in (project.folder("fit", "default"), project.root / "expected" / "fit" / "default"):
        folder.mkdir(parents=True)
        (folder / "test_it.py").write_text("def test_it(): pass\n")
        (folder / "conftest.py").write_text("raise ValueError\n")

    assert collected(project.root) == ["config/flows/fit.json::fit[default]"]
    assert collected(project.root, "runs/fit/default/test_it.py") == []


@pytest.mark.slow
def test_a_flow_may_be_called_like_a_folder_that_pytest_passes_over(project: TinyProject) -> None:
    """`dist` and `build` are in `norecursedirs`; `--ignore` still counts."""
    project.flow("dist", PLAIN)
    project.config("flows/dist/A.json")

    assert collected(project.root) == ["config/flows/dist/A.json::dist[A]"]
    assert collected(project.root, "--ignore=config/flows/dist") == []


def test_files_of_a_flow_are_collected_however_they_are_named(project: TinyProject) -> None:
    """A folder makes the items of its files without collecting each file; that changes nothing of the rest:
    what names a file, what leaves one out, folders beside the files, and collectors of others."""
    project.flow("fit", "pass")
    for name in "abc":
        project.config(f"flows/fit/{name}.json")
    folder = project.root / "config/flows/fit"
    (folder / "test_own.py").write_text("def test_own(): pass\n")
    (folder / "deep").mkdir()
    (folder / "deep/test_deep.py").write_text("def test_deep(): pass\n")
    (folder / "conftest.py").write_text(
        "import pytest\n\n"
        "collect_ignore = ['c.json']\n\n"
        "class Own(pytest.File):\n"
        "    def collect(self):\n"
        "        yield Check.from_parent(self, name='check')\n\n"
        "class Check(pytest.Item):\n"
        "    def runtest(self): pass\n\n"
        "def pytest_collect_file(file_path, parent):\n"
        "    if file_path.name == 'b.json':\n"
        "        return Own.from_parent(parent, path=file_path)\n"
    )
    place = "config/flows/fit"
    a, b, own = f"{place}/a.json::fit[a]", f"{place}/b.json::fit[b]", f"{place}/b.json::check"
    tests = [f"{place}/deep/test_deep.py::test_deep", f"{place}/test_own.py::test_own"]
    assert {a, b, own, *tests} == {*collected(project.root)}
    assert {a, *tests} == {*collected(project.root, f"--ignore={place}/b.json")}
    assert {b, own, *tests} == {*collected(project.root, "--ignore-glob=*/a.json")}
    assert [a] == collected(project.root, a)
    assert [a] == collected(project.root, f"{place}/a.json", a)
    assert {a, b, own, *tests} == {*collected(project.root, place, a)}
    shown = run_pytest(project.root, "--collect-only", a).out
    assert [f"<Dir {name}>" for name in ("config", "flows", "fit")] + ["<InstanceFile a.json>"] == re.findall(
        r"^ +(<(?:Dir (?!project)|InstanceFile).*>)$", shown, re.MULTILINE
    )


@pytest.mark.slow
def test_folders_can_have_other_names(project: TinyProject) -> None:
    """Settings name the folders of configs and runs."""
    project.flow("fit", "raise ValueError")
    project.config("flows/fit.json", _run={"skip": "not now"})
    (project.root / "config").rename(project.root / "settings")
    project.settings('config_dir = "settings"\nruns_dir = "out/runs"')

    session = run_pytest(project.root, "-v")

    assert "settings/flows/fit.json::fit[default] SKIPPED" in session.out
    assert session.statuses("out/runs") == {"fit/default": "not_run"}


def test_upstreams_come_first_and_ordinary_tests_keep_their_places(project: TinyProject) -> None:
    """The order is as collected, but for what reads from what."""
    project.flow("a_late", PLAIN)
    project.flow("z_early", PLAIN)
    project.config("flows/a_late.json", data="runs/z_early/default/x.csv")
    project.config("flows/z_early.json")
    for name in ("test_a", "test_z"):
        (project.root / f"{name}.py").write_text("def test_it(): pass\n")

    assert collected(project.root, "test_a.py", "config", "test_z.py") == [
        "test_a.py::test_it",
        "config/flows/z_early.json::z_early[default]",
        "config/flows/a_late.json::a_late[default]",
        "test_z.py::test_it",
    ]


@pytest.mark.slow
def test_failed_first_does_not_break_the_order(project: TinyProject) -> None:
    """With `--ff` a red instance still comes after what it reads from."""
    for name in ("a_first", "b_reads", "c_reads"):
        project.flow(name, PLAIN)
    project.config("flows/a_first.json")
    project.config("flows/b_reads.json", data="runs/a_first/default/x")
    project.config("flows/c_reads.json", data="runs/a_first/default/x")
    cache = project.root / ".pytest_cache/v/cache/lastfailed"
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({"config/flows/c_reads.json::c_reads[default]": True}))

    ids = [nodeid.partition("::")[2] for nodeid in collected(project.root, "--ff")]

    assert ids == ["a_first[default]", "c_reads[default]", "b_reads[default]"]


@pytest.mark.slow
def test_tags_are_markers_and_names_are_keywords(project: TinyProject) -> None:
    """`-m` and `-k` select, also under `--strict-markers`."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/scenario_A.json", _run={"tags": ["slow", "eu"]})
    project.config("flows/fit/scenario_B.json")
    slow, other = (f"config/flows/fit/scenario_{key}.json::fit[scenario_{key}]" for key in "AB")

    assert collected(project.root, "--strict-markers", "-m", "slow and eu") == [slow]
    assert collected(project.root, "--strict-markers", "-m", "not slow") == [other]
    assert collected(project.root, "-k", "scenario_A") == [slow]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--ductaflow-timeout", "-1"], "--ductaflow-timeout takes a number of seconds above 0"),
        (["--ductaflow-engine", "fast"], "--ductaflow-engine takes one of warm, fresh, kernel"),
        (["-o", "ductaflow_timeout=9"], "[tool.ductaflow]\n    timeout = ..."),
    ],
)
def test_a_wrong_setting_is_a_usage_error(project: TinyProject, args: list[str], text: str) -> None:
    """Before anything is collected."""
    session = run_pytest(project.root, *args)

    assert session.code == pytest.ExitCode.USAGE_ERROR
    assert text in session.out
