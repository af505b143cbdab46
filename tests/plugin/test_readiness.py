"""What is not run, and why: what is wrong with an instance, skips, upstreams."""

from __future__ import annotations

import re

import pytest
from support import (
    PLAIN,
    TinyProject,
    run_pytest,
)

pytestmark = pytest.mark.slow


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
    assert f"config/flows/fit.csv:2: fit/one blocked: {reason}\n" in session.out
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


def test_a_folder_of_instances_that_cannot_be_listed_is_an_error(project: TinyProject) -> None:
    """Too many open files for a moment: what the folder stores is not left out in silence."""
    project.flow("fit", "")
    project.flow("prep", "")
    project.config("flows/fit/a.json")
    project.config("flows/fit/b.json")
    project.config("flows/prep/a.json")
    (project.root / "conftest.py").write_text(
        "import os, sys\n"
        "scandir = os.scandir\n"
        "def refuse(path='.'):\n"
        "    caller = sys._getframe(1).f_code.co_filename\n"
        "    if str(path).endswith('config/flows/fit') and caller.endswith('instances.py'):\n"
        "        raise OSError(24, 'Too many open files', str(path))\n"
        "    return scandir(path)\n"
        "os.scandir = refuse\n"
    )
    session = project.pytest("-rA")
    assert {"fit/fit": "error", "prep/a": "success"} == session.statuses()
    assert "config/flows/fit: cannot be listed: Too many open files" in session.out
    assert (1, 1) == (session.code, session.out.count("ERROR config/flows/fit::fit[fit] - "))
