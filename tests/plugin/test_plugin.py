"""The plugin as a person meets it: what is collected, what a session says, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import (
    Session,
    TinyProject,
    command,
    files_below,
    is_alive,
    processes_beside,
    processes_of,
    run_pytest,
)

from ductaflow.common.paths import RunFolder
from ductaflow.store.folder import Claim, Owner
from ductaflow.store.result import Result, Status, write_result

#: A session must end within 5 s; the rest is for machines that are busy with other tests.
END_SECONDS = 5.0
SLACK = 10.0
PLAIN = 'print("hello from the flow")\n'


def collected(root: Path, *args: str) -> list[str]:
    """The node ids that a call collects."""
    session = run_pytest(root, "--collect-only", "-q", *args)
    return [line for line in session.out.splitlines() if "::" in line]


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


def test_config_is_collected_beside_testpaths(project: TinyProject) -> None:
    """Without paths on the command line, the project's own instances and what `testpaths` names."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    (project.root / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    (project.root / "tests").mkdir()
    (project.root / "tests/test_it.py").write_text("def test_it(): pass\n")

    assert collected(project.root) == ["tests/test_it.py::test_it", "config/flows/fit.json::fit[default]"]


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


def test_a_source_without_instance_says_what_its_config_would_be(project: TinyProject) -> None:
    """The argument is refused with the way out, before anything runs."""
    project.flow("fit", PLAIN)

    session = run_pytest(project.root, "flows/fit.py")

    assert session.code == pytest.ExitCode.USAGE_ERROR
    assert "flows/fit.py has no stored instance. Its config would be config/flows/fit.json." in session.out


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


@pytest.mark.parametrize("argument", ["config/flows/fit.json::fit[default]", "config/flows/fit.json"])
def test_an_instance_without_the_flag_says_what_is_missing(project: TinyProject, argument: str) -> None:
    """pytest's own words stay, one line is added."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")

    session = run_pytest(project.root, argument, flag="")

    assert session.code == pytest.ExitCode.USAGE_ERROR
    assert "ductaflow: to run what is stored in config/, add --ductaflow\n" in session.out
    assert "add --ductaflow" not in run_pytest(project.root, "other.py", flag="").out


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


def test_an_exception_of_a_hook_is_the_message_of_its_instance(project: TinyProject) -> None:
    """Its class and text, not the first line of pytest's long traceback."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text("def pytest_runtest_setup(item):\n    missing_name\n")
    session = run_pytest(project.root)
    assert "error    fit/a: NameError: name 'missing_name' is not defined\n" in session.out


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


def test_runs_are_never_collected(project: TinyProject) -> None:
    """What a flow wrote is no test, whatever it is called, even if it is asked for."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json")
    written = project.folder("fit", "default") / "test_it.py"
    written.parent.mkdir(parents=True)
    written.write_text("def test_it(): pass\n")

    assert collected(project.root) == ["config/flows/fit.json::fit[default]"]
    assert collected(project.root, "runs/fit/default/test_it.py") == []


def test_a_flow_may_be_called_like_a_folder_that_pytest_passes_over(project: TinyProject) -> None:
    """`dist` and `build` are in `norecursedirs`; `--ignore` still counts."""
    project.flow("dist", PLAIN)
    project.config("flows/dist/A.json")

    assert collected(project.root) == ["config/flows/dist/A.json::dist[A]"]
    assert collected(project.root, "--ignore=config/flows/dist") == []


def test_folders_can_have_other_names(project: TinyProject) -> None:
    """Ini keys name the folders of configs and runs."""
    project.flow("fit", "raise ValueError")
    project.config("flows/fit.json", _run={"skip": "not now"})
    (project.root / "config").rename(project.root / "settings")
    (project.root / "pytest.ini").write_text(
        "[pytest]\nductaflow_config_dir = settings\nductaflow_runs_dir = out/runs\n"
    )

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


def test_tags_are_markers_and_names_are_keywords(project: TinyProject) -> None:
    """`-m` and `-k` select, also under `--strict-markers`."""
    project.flow("fit", PLAIN)
    project.config("flows/fit/scenario_A.json", _run={"tags": ["slow", "eu"]})
    project.config("flows/fit/scenario_B.json")
    slow, other = (f"config/flows/fit/scenario_{key}.json::fit[scenario_{key}]" for key in "AB")

    assert collected(project.root, "--strict-markers", "-m", "slow and eu") == [slow]
    assert collected(project.root, "--strict-markers", "-m", "not slow") == [other]
    assert collected(project.root, "-k", "scenario_A") == [slow]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--ductaflow-timeout", "-1"], "the timeout is -1.0; it must be a positive number of seconds"),
        (["-o", "ductaflow_timeout=soon"], "ductaflow_timeout is 'soon'; it must be a number of seconds"),
        (["-o", "ductaflow_runs_dir=/tmp"], "'/tmp' is no folder below a project"),
        (["-o", "ductaflow_engine=fast"], "ductaflow_engine is 'fast'; it can be warm, fresh or kernel"),
    ],
)
def test_a_wrong_setting_is_a_usage_error(project: TinyProject, args: list[str], text: str) -> None:
    """Before anything is collected."""
    session = run_pytest(project.root, *args)

    assert session.code == pytest.ExitCode.USAGE_ERROR
    assert text in session.out


# --- what is not run ---------------------------------------------------------------------------------------


def test_what_is_wrong_with_an_instance_fails_it_in_setup_and_nothing_else(project: TinyProject) -> None:
    """A broken config, a flow without source and a cycle cost their own items only."""
    project.flow("fit", "raise ValueError")
    project.config("flows/fit/good.json", _run={"skip": "only collected"})
    project.config("flows/nowhere/A.json")
    project.config("flows/fit/x.json", data="runs/fit/y/a")
    project.config("flows/fit/y.json", data="runs/fit/x/a")
    (project.root / "config/flows/fit/broken.json").write_text('{"a": 1,}')

    session = run_pytest(project.root)

    assert session.code == 1
    assert "1 skipped, 4 errors" in session.out
    assert "ERROR at setup of fit[broken]" in session.out
    assert re.search(r"ERROR config/flows/fit/broken.json::fit\[broken\] - .*broken.json", session.out)
    assert "ERROR at setup of nowhere[A]" in session.out
    assert "fit/x is part of a cycle: fit/x -> fit/y -> fit/x" in session.out
    assert "src/pytest_ductaflow" not in session.out
    assert session.statuses() == {
        "fit/broken": "error",
        "fit/good": "not_run",
        "fit/x": "error",
        "fit/y": "error",
        "nowhere/A": "error",
    }


def test_skips_say_why(project: TinyProject) -> None:
    """`_run.skip`, and `_run.skip_without` files that are not there; the report calls both not_run."""
    project.flow("fit", "raise ValueError")
    project.config("flows/fit/A.json", _run={"skip": "not this year"})
    project.config("flows/fit/B.json", _run={"skip_without": ["inputs/big.parquet", "flows/fit.py"]})

    session = run_pytest(project.root, "-rs")

    assert session.code == 0
    assert "config/flows/fit/A.json:1: fit/A: not this year" in session.out
    assert "config/flows/fit/B.json:1: fit/B: not there: inputs/big.parquet" in session.out
    messages = {entry["id"]: entry["message"] for entry in session.report()["instances"]}
    assert messages == {"fit/A": "skipped: not this year", "fit/B": "skipped: not there: inputs/big.parquet"}


def test_an_upstream_without_valid_run_fails_the_item_and_names_the_command(project: TinyProject) -> None:
    """What was not selected must have run before; the failure says how to make it."""
    project.flow("prep", 'open("clean.csv", "w").write("1")')
    project.flow("fit", PLAIN)
    project.config("flows/prep.json")
    project.config("flows/fit.json", data="runs/prep/default/clean.csv")

    session = run_pytest(project.root, "flows/fit.py")
    assert "fit/default reads from prep/default, but it has no finished run." in session.out
    assert 'pytest --ductaflow "config/flows/prep.json::prep[default]"' in session.out
    assert session.statuses() == {"fit/default": "error"}

    assert run_pytest(project.root, "config/flows/prep.json::prep[default]").code == 0
    assert run_pytest(project.root, "flows/fit.py").code == 0

    (project.folder("prep", "default") / "clean.csv").write_text("changed")
    session = run_pytest(project.root, "flows/fit.py")
    assert "but its output clean.csv was changed since." in session.out


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_reads_from_a_skipped_instance_is_blocked(
    project: TinyProject, workers: tuple[str, ...]
) -> None:
    """With the reason of the skip, at any distance, and not red; with a valid earlier run it runs."""
    for name in ("prep", "fit", "end"):
        project.flow(name, 'open("x.csv", "w").write("1")')
    prep = project.config("flows/prep/nine.json", _run={"skip_without": ["inputs/secret.csv"]})
    project.config("flows/end.json", data="runs/fit/one/x.csv")
    (project.root / "config/flows/fit.csv").write_text("instance,data\none,runs/prep/nine/x.csv\n")

    session = run_pytest(project.root, "-rs", *workers)

    assert session.code == 0
    reason = "prep/nine is skipped: not there: inputs/secret.csv"
    assert f"config/flows/fit.csv:1: fit/one blocked: {reason}\n" in session.out
    assert f"end/default blocked: fit/one is blocked: {reason}\n" in session.out
    assert session.statuses() == {"prep/nine": "not_run", "fit/one": "blocked", "end/default": "blocked"}
    assert "fit/one blocked" in run_pytest(project.root, "-rs", "flows/fit.py", *workers).out

    told = prep.read_text()
    prep.write_text("{}")
    assert run_pytest(project.root, "flows/prep.py").code == 0
    prep.write_text(told)
    session = run_pytest(project.root, *workers)
    assert "2 passed, 1 skipped" in session.out


def test_a_path_to_a_run_that_is_not_stored_has_to_be_there(project: TinyProject) -> None:
    """Neither the instance nor the flow is known: the item fails before it starts and says what is."""
    project.flow("prep", PLAIN)
    project.flow("fit", PLAIN)
    project.flow("end", PLAIN)
    for name in ("one", "two"):
        project.config(f"flows/prep/{name}.json", _run={"skip": "not needed"})
    project.config("flows/fit/far.json", data="runs/prep/nowhere/clean.csv")
    project.config("flows/fit/near.json", data="runs/prep/twoo/clean.csv")
    project.config("flows/fit/flow.json", data="runs/perp/one/clean.csv")
    project.config("flows/fit/made.json", data="runs/by_hand/one/clean.csv")
    project.config("flows/end.json", data="runs/fit/far/x.csv")
    made = project.folder("by_hand", "one") / "clean.csv"
    made.parent.mkdir(parents=True)
    made.touch()

    session = run_pytest(project.root, "-rs")

    for line in (
        "fit/far reads runs/prep/nowhere/clean.csv, which is not there;"
        " prep has no stored instance nowhere. There is one, two.",
        "fit/near reads runs/prep/twoo/clean.csv, which is not there;"
        " prep has no stored instance twoo. Did you mean two?",
        "fit/flow reads runs/perp/one/clean.csv, which is not there;"
        " perp has no stored instance at all. Did you mean prep?",
    ):
        assert f"\n{line}\n" in session.out
    assert "end/default blocked: fit/far cannot run: fit/far reads runs/prep/nowhere/clean.csv" in session.out
    assert "1 passed, 3 skipped, 3 errors" in session.out
    causes = {entry["id"]: entry["cause"] for entry in session.report()["instances"]}
    assert causes["fit/far"] == causes["fit/near"] == causes["fit/flow"] == "input"


def test_a_run_that_is_not_stored_any_more_has_to_be_valid(project: TinyProject) -> None:
    """It may be read as long as its outputs are as it wrote them."""
    project.flow("prep", 'open("clean.csv", "w").write("1")')
    project.flow("fit", PLAIN)
    project.config("flows/prep/new.json")
    old = project.config("flows/prep/old.json")
    project.config("flows/fit.json", data="runs/prep/old/clean.csv")
    assert run_pytest(project.root).code == 0
    old.unlink()

    assert run_pytest(project.root, "flows/fit.py").code == 0

    (project.folder("prep", "old") / "clean.csv").write_text("changed")
    session = run_pytest(project.root, "flows/fit.py")
    assert (
        "fit/default reads runs/prep/old/clean.csv, but its output clean.csv was changed since;"
        " prep has no stored instance old. There is new." in session.out
    )


# --- a whole session ---------------------------------------------------------------------------------------


def make_mixed_project(root: Path) -> TinyProject:
    """A is green, B orange, C red; D reads from C and E from D; one ordinary test."""
    project = TinyProject(root)
    project.flow(
        "prep",
        """
        # %%
        print("preparing", config["name"])
        if config["name"] == "scenario_B":
            print("⚠ few rows")
        if config["name"] == "scenario_C":
            raise ValueError("negative price")
        """,
    )
    project.flow("fit", PLAIN)
    project.config("flows/prep.json", name="{instance}")
    for key in "ABC":
        project.config(f"flows/prep/scenario_{key}.json")
    project.config("flows/fit/D.json", data="runs/prep/scenario_C/x.csv")
    project.config("flows/fit/E.json", data="runs/fit/D/x.csv")
    (root / "test_ordinary.py").write_text("def test_ordinary(): pass\n")
    return project


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Session:
    project = make_mixed_project(tmp_path_factory.mktemp("parallel") / "project")
    return run_pytest(project.root, "-n", "2", "-rA", "--durations=3", "--junitxml=junit.xml")


MIXED = {
    "prep/scenario_A": "success",
    "prep/scenario_B": "warning",
    "prep/scenario_C": "error",
    "fit/D": "blocked",
    "fit/E": "blocked",
}


def test_a_parallel_session_counts_as_pytest_does(parallel: Session) -> None:
    """Green and orange pass, red fails, blocked is skipped; ordinary tests run along."""
    assert parallel.code == 1
    assert re.search(r"1 failed, 3 passed, 2 skipped, 1 warning", parallel.out)
    assert "2 workers [6 items]" in parallel.out


def test_one_report_has_every_instance(parallel: Session) -> None:
    """Written by the controller, final at the end."""
    report = parallel.report()

    assert report["finished"]
    assert parallel.statuses() == MIXED
    assert {entry["nodeid"] for entry in report["instances"]} >= {
        "config/flows/prep/scenario_A.json::prep[scenario_A]"
    }


def test_the_end_says_counts_causes_and_where_the_report_is(parallel: Session) -> None:
    """One section, whatever else pytest prints."""
    section = parallel.out.partition(" ductaflow =")[2]

    assert "1 success, 1 warning, 1 error, 2 blocked" in section
    assert "error    prep/scenario_C: flows/prep.py:9: ValueError: negative price" in section
    assert f"report: {Path('runs/conductor_status_report.html')}" in section


def test_a_failure_says_where_why_and_what_to_do(parallel: Session) -> None:
    """Place and source first, the flow's own traceback, the log, the paths, the commands."""
    text = parallel.out.partition("prep[scenario_C] _")[2].partition("====")[0]
    expected = [
        r"flows/prep.py:9: ValueError: negative price",
        r"^ +8  if config\[\"name\"\] == \"scenario_C\":",
        r"^> +9      raise ValueError\(\"negative price\"\)",
        r"^Traceback \(most recent call last\):",
        r"^ValueError: negative price",
        r"^Last lines of the log:",
        r"^\| preparing scenario_C",
        r"^log: +runs/prep/scenario_C/prep_execution_output.txt",
        r"^notebook: +runs/prep/scenario_C/prep.ipynb",
        r"^config: +runs/prep/scenario_C/prep_config.json",
        r"^run again: pytest --ductaflow \"config/flows/prep/scenario_C.json::prep\[scenario_C\]\"",
        r"^debug: +python -m pdb flows/prep.py --config runs/prep/scenario_C/prep_config.json",
    ]

    at = 0
    for pattern in expected:
        found = re.compile(pattern, re.MULTILINE).search(text, at)
        assert found, f"{pattern} is not in, or not in this order:\n{text}"
        at = found.end()
    assert "pytest_ductaflow" not in text
    assert (
        "FAILED config/flows/prep/scenario_C.json::prep[scenario_C] - ValueError: negative price"
        in parallel.out
    )


def test_blocked_names_the_cause_at_any_distance(parallel: Session) -> None:
    """A skip whose reason is the red instance and the way to it."""
    assert (
        "fit/D blocked: prep/scenario_C is red: flows/prep.py:9: ValueError: negative price" in parallel.out
    )
    assert "fit/E blocked: fit/D is blocked: prep/scenario_C is red" in parallel.out


def test_a_warning_line_is_a_warning_at_its_place_in_the_log(parallel: Session) -> None:
    """As pytest shows warnings: file, line, category, text, once."""
    assert re.search(r"prep_execution_output.txt:3: FlowWarning: ⚠ few rows$", parallel.out, re.MULTILINE)


def test_junit_has_the_facts_of_a_run(parallel: Session) -> None:
    """Run folder, status, config hash and warnings as properties."""
    cases = {case.get("name"): case for case in ET.parse(parallel.root / "junit.xml").iter("testcase")}
    facts = {
        name: {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        for name, case in cases.items()
    }

    assert facts["prep[scenario_B]"].pop("config_hash")
    assert facts["prep[scenario_B]"] == {
        "run_folder": "runs/prep/scenario_B",
        "status": "warning",
        "warnings": "1",
        "warning": "3: ⚠ few rows",
    }
    assert facts["fit[E]"] == {"run_folder": "runs/fit/E", "status": "blocked"}
    assert cases["prep[scenario_C]"].find("failure") is not None


def test_last_failed_brings_back_red_and_blocked(parallel: Session) -> None:
    """`--lf` selects what is red and what it blocked, nothing else."""
    names = [nodeid.partition("::")[2] for nodeid in collected(parallel.root, "--lf")]

    assert names == ["prep[scenario_C]", "fit[D]", "fit[E]"]


def test_a_serial_session_without_xdist_gives_the_same(tmp_path: Path, parallel: Session) -> None:
    """Node ids, outcomes and statuses do not depend on the number of workers."""

    def outcomes(session: Session) -> set[str]:
        return set(re.findall(r"^(?:PASSED|FAILED) \S+", session.out, re.MULTILINE))

    project = make_mixed_project(tmp_path / "project")
    serial = run_pytest(project.root, "-p", "no:xdist", "-rA")

    assert serial.code == parallel.code
    assert outcomes(serial) == outcomes(parallel)
    assert serial.statuses() == MIXED


def test_pytest_may_fail_what_is_orange_but_the_status_stays(project: TinyProject) -> None:
    """`-W error::ductaflow.FlowWarning` fails the test; what reads from it is not blocked."""
    project.flow("prep", 'print("⚠ few rows")')
    project.flow("fit", PLAIN)
    project.config("flows/prep.json")
    project.config("flows/fit.json", data="runs/prep/default/x.csv")

    session = run_pytest(project.root, "-W", "error::ductaflow.FlowWarning")

    assert "1 failed, 1 passed" in session.out
    assert "runs/prep/default/prep_execution_output.txt:2: FlowWarning: ⚠ few rows" in session.out
    assert "pytest_ductaflow/items.py" not in session.out
    assert session.statuses() == {"prep/default": "warning", "fit/default": "success"}


def test_an_expected_failure_stays_red_in_the_report(project: TinyProject) -> None:
    """`_run.xfail` is pytest's affair; the status is the run's."""
    project.flow("fit", "raise ValueError('as expected')")
    project.config("flows/fit.json", _run={"xfail": "known"})

    session = run_pytest(project.root, "-rx")

    assert session.code == 0
    assert "1 xfailed" in session.out
    assert session.statuses() == {"fit/default": "error"}


def test_an_expected_failure_is_a_run_that_is_red_and_nothing_else(project: TinyProject) -> None:
    """What keeps an instance from running is an error, whatever its `_run.xfail` says."""
    project.flow("fit", "raise ValueError('as expected')")
    project.flow("prep", PLAIN)
    known = {"xfail": "known"}
    project.config("flows/prep.json")
    project.config("flows/nowhere.json", _run=known)
    project.config("flows/fit/input.json", data="runs/prep/default/x.csv", _run=known)
    project.config("flows/fit/cycle.json", data="runs/fit/round/x.csv", _run=known)
    project.config("flows/fit/round.json", data="runs/fit/cycle/x.csv", _run=known)
    project.config("flows/fit/held.json", _run=known)
    project.config("flows/fit/red.json", _run=known)
    owner = Owner("fit", "held", "run", "their session", "host", os.getpid(), "now")
    folder = RunFolder(project.folder("fit", "held"), "fit")
    claim = Claim.take(folder, project.root / "runs", owner)
    try:
        session = run_pytest(project.root, "-rx", "flows/fit.py", "config/flows/nowhere.json")
    finally:
        claim.release(finished=True)

    assert "1 failed, 1 xfailed, 4 errors" in session.out
    assert "their session" in session.out
    assert re.search(r"XFAIL \S+fit\[red\] - known", session.out)
    section = session.out.partition(" ductaflow =")[2]
    assert "5 error, 1 xfail\n" in section
    assert "  error    fit/red (xfail): flows/fit.py:4: ValueError: as expected\n" in section
    assert "  error    fit/held: " in section


def test_the_first_failure_can_end_the_session(project: TinyProject) -> None:
    """With `-x` the rest is in the report as not_run."""
    project.flow("fit", "raise ValueError('first')")
    project.config("flows/fit/A.json")
    project.config("flows/fit/B.json")

    session = run_pytest(project.root, "-x")

    assert session.code == 1
    assert session.statuses() == {"fit/A": "error", "fit/B": "not_run"}


ENDED = """
    # %%
    import os, signal, sys, time
    if config["how"] == "timeout":
        time.sleep(600)
    if config["how"] == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if config["how"] == "exit":
        sys.exit(3)
"""


def test_the_headline_is_what_ended_the_run(project: TinyProject) -> None:
    """Time limit, signal, exit: place and cause, in the text, in the short summary and in junit."""
    project.flow("prep", ENDED)
    for how in ("exit", "signal", "timeout"):
        project.config(f"flows/prep/{how}.json", how=how, _run={"timeout": 4})

    session = run_pytest(project.root, "-n", "2", "--junitxml=junit.xml")

    said = {
        "exit": (11, "exit: sys.exit(3) in cell 2 of 2"),
        "signal": (5, "signal: killed by SIGKILL in cell 2 of 2"),
        "timeout": (7, "timeout: did not finish within 4 s, stopped in cell 2 of 2"),
    }
    cases = {case.get("name"): case for case in ET.parse(session.root / "junit.xml").iter("testcase")}
    for how, (line, text) in said.items():
        assert f"\nflows/prep.py:{line}: {text}" in session.out
        assert f"FAILED config/flows/prep/{how}.json::prep[{how}] - {text}" in session.out
        failure = cases[f"prep[{how}]"].find("failure")
        assert failure is not None
        assert str(failure.get("message")).startswith(text)
    assert "KeyboardInterrupt" in session.out
    assert ": KeyboardInterrupt" not in session.out


def test_a_build_is_as_orange_as_its_flows(project: TinyProject) -> None:
    """There is a warning of pytest, whether or not the build's log repeats the flow's line."""
    project.flow("fit", 'print("⚠ few rows")')
    project.flow(
        "loud",
        """
        from ductaflow import run_notebook
        run_notebook("flows/fit.py", config={}, execution_dir="runs/fit")
        """,
        kind="builds",
    )
    project.flow(
        "quiet",
        """
        from ductaflow import run_instance
        run_instance("fit/default", echo=False)
        """,
        kind="builds",
    )
    for path in ("flows/fit.json", "builds/loud.json", "builds/quiet.json"):
        project.config(path)

    session = run_pytest(project.root, "builds")

    assert re.search(r"loud_execution_output.txt:\d+: FlowWarning: ⚠ few rows\n", session.out)
    assert re.search(
        r"quiet_execution_output.txt:1: FlowWarning: flow fit/default: 1 warning line\n", session.out
    )
    assert session.statuses() == {"loud/default": "warning", "quiet/default": "warning"}


def test_options_reach_the_run(project: TinyProject) -> None:
    """Time limit, no HTML, no report, and the log on the console with `-s`."""
    project.flow("quick", PLAIN)
    project.flow("slow", 'import time\nprint("waiting")\ntime.sleep(600)')
    project.config("flows/quick.json")
    project.config("flows/slow.json", _run={"timeout": 1})

    session = run_pytest(
        project.root, "-s", "--ductaflow-no-html", "--ductaflow-no-report", "--ductaflow-timeout=60"
    )

    assert "1 failed, 1 passed" in session.out
    assert "hello from the flow" in session.out.partition("FAILURES")[0]
    assert (project.folder("quick", "default") / "quick.ipynb").exists()
    assert not (project.folder("quick", "default") / "quick.html").exists()
    assert not (project.root / "runs/conductor_status_report.html").exists()
    assert json.loads((project.folder("slow", "default") / "result.json").read_text())["cause"] == "timeout"


def test_texts_of_flows_cannot_break_the_session(project: TinyProject) -> None:
    """Escape codes, lone surrogates and control characters are shown in words, also across processes."""
    project.flow(
        "fit", r'print("⚠ \x1b[31mred\x07")' "\n" r'raise ValueError("half \udcff \x1b]0;title\x07 <b>")'
    )
    project.config("flows/fit.json")

    session = run_pytest(project.root, "-n", "1", "--junitxml=junit.xml")

    assert session.code == 1
    assert session.statuses() == {"fit/default": "error"}
    assert r"ValueError: half \udcff" in session.out
    assert "\x1b" not in session.out.partition("FAILURES")[2]
    ET.parse(project.root / "junit.xml")


def test_ordinary_tests_of_a_file_share_its_fixtures(project: TinyProject) -> None:
    """Between instances, neighbours of one file go to a worker together."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json", _run={"skip": "only scheduled"})
    (project.root / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.fixture(scope='module')\n"
        "def costly():\n"
        "    with open('made.txt', 'a') as file: file.write('x')\n"
        "@pytest.mark.parametrize('number', range(12))\n"
        "def test_it(costly, number): pass\n"
    )

    session = run_pytest(project.root, "-n", "2")

    assert "12 passed, 1 skipped" in session.out
    assert len((project.root / "made.txt").read_text()) <= 4


def test_stepwise_goes_on_where_it_stopped(project: TinyProject) -> None:
    """`--sw` leaves out what came before the last failure, in the order of the graph."""
    project.flow("a_reads", "raise ValueError")
    project.flow("z_read", PLAIN)
    project.config("flows/a_reads.json", data="runs/z_read/default/x")
    project.config("flows/z_read.json")

    assert "1 failed, 1 passed" in run_pytest(project.root, "--sw").out
    again = run_pytest(project.root, "--sw").out

    assert "1 failed, 1 deselected" in again


def test_a_distribution_that_somebody_chose_is_kept(project: TinyProject) -> None:
    """With a note of what it means for the graph."""
    project.flow("fit", PLAIN)
    project.config("flows/fit.json", _run={"skip": "only scheduled"})

    session = run_pytest(project.root, "-n", "1", "--dist", "loadfile", "-v")

    assert session.code == 0
    assert "ductaflow: --dist=loadfile is kept" in session.out
    assert "scheduling tests via LoadFileScheduling" in session.out


#: A flow that makes a file in the project, and one that waits for a file there before it goes on.
MAKE = """
    # %%
    import pathlib
    pathlib.Path(config["_project_root"], config["makes"]).touch()
"""
AWAIT = """
    # %%
    import pathlib, time
    awaited = pathlib.Path(config["_project_root"], config["awaits"])
    deadline = time.monotonic() + 30
    while not awaited.exists():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
"""


@pytest.mark.usefixtures("no_process_left")
def test_a_chosen_distribution_fails_what_it_starts_too_early(project: TinyProject) -> None:
    """Neither run on old data nor skipped as if nothing were wrong."""
    project.flow("prep", AWAIT)
    project.flow("fit", PLAIN)
    project.flow("show", PLAIN)
    project.config("flows/prep.json", awaits="fit-has-failed")
    project.config("flows/fit.json", data="runs/prep/default/x.csv", _run={"needs": ["prep/default"]})
    project.config("flows/show.json", _run={"needs": ["fit/default"]})
    # the reader's turn comes while its upstream still runs on the other worker
    (project.root / "conftest.py").write_text(
        "import pathlib\n"
        "def pytest_runtest_logreport(report):\n"
        "    if 'fit' in report.nodeid and report.failed:\n"
        "        pathlib.Path(__file__).with_name('fit-has-failed').touch()\n"
    )

    session = run_pytest(project.root, "-n", "2", "--dist", "load")

    assert session.code == 1
    assert {"prep/default": "success", "fit/default": "error", "show/default": "error"} == session.statuses()
    assert "fit/default needs prep/default, which has not finished in this session." in session.out
    assert 'pytest --ductaflow "config/flows/fit.json::fit[default]"' in session.out
    assert not project.folder("fit", "default").exists()


# --- how a session ends ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_process_left")
def test_a_dead_worker_costs_its_one_item(project: TinyProject) -> None:
    """The instance is lost and what reads from it blocked; the rest runs on a new worker."""
    project.flow(
        "deadly",
        """
        # %%
        import signal, psutil
        for worker in psutil.process_iter(["cmdline", "cwd"]):
            # by its command line, which is execnet's, and its folder
            line, folder = worker.info["cmdline"] or [], worker.info["cwd"]
            if line[2:3] == ["-c"] and folder == config["_project_root"]:
                worker.send_signal(signal.SIGKILL)
                worker.wait()
        """,
    )
    project.flow("fit", PLAIN)
    project.config("flows/deadly.json")
    project.config("flows/fit/A.json")
    project.config("flows/fit/B.json", data="runs/deadly/default/x.csv")

    session = run_pytest(project.root, "-n", "1", "-rs")

    assert session.code == 1
    assert "worker 'gw0' crashed while running 'config/flows/deadly.json::deadly[default]'" in session.out
    assert session.statuses() == {"deadly/default": "error", "fit/A": "success", "fit/B": "blocked"}
    lost = next(entry for entry in session.report()["instances"] if entry["id"] == "deadly/default")
    assert lost["cause"] == "lost"


@pytest.mark.usefixtures("no_process_left")
def test_a_dead_worker_beside_a_graph(project: TinyProject) -> None:
    """An ordinary test that kills its worker is told once; every instance runs, in order."""
    project.flow("fit", PLAIN)
    for number in range(4):
        project.config(f"flows/fit/{number}.json", _run={"needs": [f"fit/{number - 1}"] if number else []})
        project.config(f"flows/fit/free{number}.json")
    (project.root / "test_deadly.py").write_text(
        "import os, signal\ndef test_deadly():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def test_other():\n    pass\n"
    )

    session = run_pytest(project.root, "-n", "2", ".")

    assert session.code == 1
    assert "crashed while running 'test_deadly.py::test_deadly'" in session.out
    assert "1 failed, 9 passed" in session.out
    assert {"success"} == set(session.statuses().values())


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(("option", "red"), [("-x", 1), ("--maxfail=2", 2)])
def test_after_enough_failures_workers_start_nothing_more(
    project: TinyProject, option: str, red: int
) -> None:
    """A run that is under way comes to its end; no other was waiting behind it."""
    project.flow("bad", AWAIT + '    raise ValueError("bad")\n')
    project.flow("hold", MAKE + AWAIT)
    project.flow("rest", PLAIN)
    (project.root / "begin").touch()
    for number in range(red):
        project.config(f"flows/bad/{number}.json", awaits="begin" if number < red - 1 else "hold-runs")
    project.config("flows/hold.json", makes="hold-runs", awaits="enough")
    for number in range(3):
        project.config(f"flows/rest/{number}.json")
    (project.root / "conftest.py").write_text(
        "import os, pathlib\nseen = []\n"
        "def pytest_runtest_logreport(report):\n"
        "    if report.failed and 'PYTEST_XDIST_WORKER' not in os.environ:\n"
        "        seen.append(report)\n"
        f"        if len(seen) == {red}:\n"
        "            pathlib.Path(__file__).with_name('enough').touch()\n"
    )

    session = run_pytest(project.root, "-n", "2", option)

    assert session.code != 0
    assert {
        **{f"bad/{number}": "error" for number in range(red)},
        "hold/default": "success",
        **{f"rest/{number}": "not_run" for number in range(3)},
    } == session.statuses()


def test_what_took_longest_begins_first_under_workers(project: TinyProject) -> None:
    """As earlier runs tell; a serial session keeps the order in which it collects."""
    project.flow("fit", PLAIN)
    for name in "ABC":
        project.config(f"flows/fit/{name}.json")

    def began(*args: str) -> list[str]:
        for name, seconds in {"A": 20.0, "B": 10.0, "C": 30.0}.items():
            folder = project.folder("fit", name)
            folder.mkdir(parents=True, exist_ok=True)
            write_result(Result("fit", name, "flow", Status.SUCCESS, seconds=seconds), folder)
        assert 0 == run_pytest(project.root, *args).code
        results = [json.loads((project.folder("fit", name) / "result.json").read_text()) for name in "ABC"]
        return [result["instance"] for result in sorted(results, key=lambda result: result["started"])]

    assert ["C", "A", "B"] == began("-n", "1")
    assert ["A", "B", "C"] == began()


@dataclass
class Running:
    """A session that waits in its flows, and how it is ended."""

    project: TinyProject
    process: subprocess.Popen[str]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            # not a wait for an effect of time: looking again costs the processor
            time.sleep(0.02)

    def end(self) -> tuple[Session, float]:
        began = time.monotonic()
        out, _ = self.process.communicate(timeout=END_SECONDS + SLACK)
        return Session(self.project.root, self.process.returncode, out), time.monotonic() - began


WAITING = """
    # %%
    import subprocess, sys, time, pathlib
    if config["quick"]:
        sys.stdout.write("done")
    else:
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        subprocess.Popen(command, start_new_session=True)
        pathlib.Path("waiting").touch()
        time.sleep(600)
"""


@pytest.fixture
def start(project: TinyProject, no_process_left: None) -> Iterator[Callable[..., Running]]:
    """Starts a session with one instance that ends at once and six that wait."""
    project.flow("wait", WAITING)
    project.config("flows/wait/a_quick.json", quick=True)
    for name in "bcdefg":
        project.config(f"flows/wait/{name}.json", quick=False)
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, waiting: int) -> Running:
        process = subprocess.Popen(
            command("--ductaflow", "-p", "no:cacheprovider", *args),
            cwd=project.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        running = Running(project, process)
        runs = project.root / "runs/wait"
        running.wait_for(
            lambda: (runs / "a_quick/result.json").exists() and len(list(runs.glob("*/waiting"))) >= waiting
        )
        return running

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("to", ["group", "controller"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 4])
def test_an_interrupted_session_ends_in_order(
    start: Callable[..., Running], workers: int, number: signal.Signals, to: str
) -> None:
    """Results so far are kept, the rest is interrupted or not_run, no process is left."""
    running = start(*(["-n", str(workers)] if workers else []), waiting=max(1, workers - 1))

    if to == "group":
        os.killpg(running.process.pid, number)
    else:
        running.process.send_signal(number)
    session, seconds = running.end()

    assert session.code == pytest.ExitCode.INTERRUPTED
    assert seconds < END_SECONDS + SLACK
    assert processes_of(str(running.project.root)) == []
    report = session.report()
    assert report["finished"]
    ends = {entry["id"]: (entry["status"], entry["cause"]) for entry in report["instances"]}
    assert ends.pop("wait/a_quick") == ("success", None)
    assert set(ends.values()) == {("error", "interrupted"), ("not_run", None)}
    assert "report: " in session.out


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_session_leaves_nothing_and_the_next_one_says_so(
    start: Callable[..., Running], workers: int
) -> None:
    """SIGKILL of pytest: runs and workers end by themselves; a session that runs them again is silent.

    One that expects them and does not come to them names what was unfinished, with the command for it.
    """
    running = start(*(["-n", str(workers)] if workers else []), waiting=1)
    tree = processes_beside(running.process.pid, running.project.root)

    running.process.kill()

    deadline = time.monotonic() + END_SECONDS + SLACK
    while alive := [process for process in tree if is_alive(process)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)
    running.process.communicate()
    project = running.project
    project.flow("wait", "raise ValueError")
    session = run_pytest(project.root, "-x")
    assert session.code == 1
    left = re.search(
        r"unfinished in an earlier session: runs/wait/([bc]) .*; run it again: (.*)", session.out
    )
    assert left, session.out
    assert left[2] == f'pytest --ductaflow "config/flows/wait/{left[1]}.json::wait[{left[1]}]"'
    project.flow("wait", PLAIN)
    session = run_pytest(project.root, "config/flows/wait/b.json", "config/flows/wait/c.json")
    assert session.code == 0
    assert "unfinished" not in session.out
    statuses = session.statuses()
    assert (statuses["wait/b"], statuses["wait/c"]) == ("success", "success")
