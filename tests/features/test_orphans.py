"""Run folders of nothing that is stored: whoever reads one is a warning that names it, however it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from support import TinyProject

from ductaflow import conduct, find_instances, run_instance, run_notebook
from ductaflow.project.settings import Project
from ductaflow.store.result import Status

pytestmark = pytest.mark.slow

PREP = """
# %%
from pathlib import Path
Path("clean.csv").write_text(str(config["v"]))
"""
#: Joins what a pattern, or a path, in its config names.
AGG = """
# %%
import glob, os
from pathlib import Path
root = config["_project_root"]
found = glob.glob(os.path.join(root, config["files"]))
Path("sum.txt").write_text(",".join(sorted(Path(path).read_text() for path in found)))
"""
NAMED = "agg/default reads runs/prep/b/clean.csv, whose instance prep/b is not stored (any more)"


@pytest.fixture
def chain(project: TinyProject) -> TinyProject:
    """`agg` has read `prep/b`, which then was removed from the project."""
    project.settings("html = false")
    project.flow("prep", PREP)
    project.flow("agg", AGG)
    project.config("flows/prep/a.json", v=1)
    project.config("flows/prep/b.json", v=2)
    return project


def read_then_removed(project: TinyProject, files: str) -> None:
    """Run all; then `prep/b` is stored no more."""
    project.config("flows/agg.json", files=files)
    project.output("run", "prep", "agg")
    assert Status.SUCCESS is project.result("agg", "default").status
    (project.root / "config" / "flows" / "prep" / "b.json").unlink()


def warned(project: TinyProject, text: str) -> None:
    """The last run of `agg` is a warning that says so, in its log and its result."""
    result = project.result("agg", "default")
    assert Status.WARNING is result.status
    assert [True] == [text in warning.text for warning in result.warnings], result.warnings


def test_a_reader_of_an_orphan_is_a_warning_in_pytest(chain: TinyProject) -> None:
    """A path to what is stored no more: the run is orange and names it; after that it stays so, unchanged."""
    read_then_removed(chain, "runs/prep/b/clean.csv")
    session = chain.pytest("-k", "agg", "--ductaflow-changed")
    assert 0 == session.code, session.out
    assert NAMED in session.out
    warned(chain, NAMED)
    again = chain.pytest("-k", "agg", "--ductaflow-changed", "-v")
    assert "UNCHANGED" in again.out
    assert 1 < again.out.count(NAMED), again.out


def test_a_reader_of_an_orphan_is_a_warning_on_the_command_line(chain: TinyProject) -> None:
    """`plan` says it before, `run --changed` runs the reader once, and `plan` goes on saying it."""
    read_then_removed(chain, "runs/prep/b/clean.csv")
    assert f"run         agg/default  {NAMED}" in chain.output("plan", "agg")
    chain.output("run", "--changed", "agg")
    warned(chain, NAMED)
    first = chain.result("agg", "default").run_id
    assert NAMED in chain.output("run", "--changed", "agg", "-j", "2")
    assert first == chain.result("agg", "default").run_id
    assert f"unchanged   agg/default  {NAMED}" in chain.output("plan", "agg")


def test_a_reader_of_an_orphan_is_a_warning_in_a_script_and_from_python(chain: TinyProject) -> None:
    """A full run, a run by id, a run of what `find_instances` gives, and the flow as a script."""
    script = "from ductaflow import is_notebook_execution, load_cli_config\nif not is_notebook_execution():\n"
    chain.flow("agg", f"{script}    config = load_cli_config('config/flows/agg.json', 'Sum')\n{AGG}")
    read_then_removed(chain, "runs/prep/b/clean.csv")
    project = Project.at(chain.root)
    for run in (
        lambda: chain.output("run", "agg"),
        lambda: chain.run("agg/default"),
        lambda: [run_instance(one) for one in find_instances(project) if one.flow == "agg"],
        lambda: subprocess.run(
            [sys.executable, "flows/agg.py", "--instance", "default"], cwd=chain.root, check=True
        ),
    ):
        (chain.folder("agg", "default") / "result.json").unlink(missing_ok=True)
        run()
        warned(chain, NAMED)


SCRIPT = f"""
from ductaflow import is_notebook_execution, load_cli_config
if not is_notebook_execution():
    config = load_cli_config("none.json", "Sum")
{AGG}"""


@pytest.mark.parametrize("way", ["python", "script"])
def test_a_call_is_warned_of_what_its_pattern_finds(chain: TinyProject, way: str) -> None:
    """Who calls knows the runs of other calls by name, but not what else a pattern finds."""
    chain.flow("agg", SCRIPT)
    read_then_removed(chain, "runs/prep/a/clean.csv")
    found = "agg/called reads runs/prep/*/clean.csv, and so prep/b, which is not stored (any more)"
    for files, expected in (("runs/prep/b/clean.csv", []), ("runs/prep/*/clean.csv", [found])):
        file = chain.root / "called.json"
        file.write_text(json.dumps({"files": files}))
        if way == "python":
            folder = chain.folder("agg", "called")
            run_notebook(chain.root / "flows/agg.py", config={"files": files}, execution_dir=folder)
        else:
            command = [sys.executable, "flows/agg.py", "--config", str(file)]
            subprocess.run(command, cwd=chain.root, check=True)
        warnings = [warning.text for warning in chain.result("agg", "called").warnings]
        assert expected == [text[text.index("agg/") :].partition(":")[0] for text in warnings]


@pytest.mark.parametrize(
    "files",
    [
        "runs/prep/*/clean.csv",
        "runs/prep/[ab]/*.csv",
        "runs/*/*/clean.csv",
        "{project_root}/runs/prep/*/clean.csv",
    ],
)
def test_a_pattern_that_matches_an_orphan_is_a_warning(chain: TinyProject, files: str) -> None:
    """The edges of a pattern are stored instances; what else it matches is named."""
    read_then_removed(chain, files)
    graph = json.loads(chain.output("graph", "--format", "json"))
    assert ["prep/a"] == [edge["from"] for edge in graph["edges"] if not edge["from"].endswith("prep/b")]
    chain.output("run", "--changed", "agg")
    warned(chain, "and so prep/b, which is not stored (any more)")


def test_a_renamed_instance_counts_once(chain: TinyProject) -> None:
    """The new name is stored, the old folder is an orphan that a pattern still finds."""
    chain.config("flows/agg.json", files="runs/prep/*/clean.csv")
    chain.output("run", "prep", "agg")
    (chain.root / "config" / "flows" / "prep" / "a.json").rename(
        chain.root / "config" / "flows" / "prep" / "c.json"
    )
    chain.output("run", "--changed")
    warned(chain, "prep/a")


def test_a_pattern_that_finds_nothing_in_an_orphan_is_no_warning(chain: TinyProject) -> None:
    """An orphan without such a file is not read."""
    chain.config("flows/agg.json", files="runs/prep/*/other.csv")
    chain.output("run", "prep")
    (chain.root / "config" / "flows" / "prep" / "b.json").unlink()
    chain.output("run", "agg")
    assert Status.SUCCESS is chain.result("agg", "default").status


def test_a_variant_and_a_row_of_a_conductor_are_orphans(chain: TinyProject) -> None:
    """`--as whatif` and `conduct` leave run folders of nothing stored, which a pattern finds."""
    chain.config("flows/agg.json", files="runs/prep/*/clean.csv")
    chain.output("run", "prep", "agg")
    chain.output("run", "prep/a", "--set", "v=9", "--as", "whatif")
    conduct(pd.DataFrame({"instance": ["row"], "v": [5]}), "prep", project_root=chain.root, progress=False)
    chain.output("run", "--changed")
    warned(chain, "and so prep/row, prep/whatif, which are not stored (any more)")


def test_a_folder_without_a_run_is_no_orphan(chain: TinyProject) -> None:
    """What a person has put below runs/ by hand is an input like any other."""
    by_hand = chain.folder("prep", "mine")
    by_hand.mkdir(parents=True)
    (by_hand / "clean.csv").write_text("7")
    chain.config("flows/agg.json", files="runs/prep/mine/clean.csv")
    chain.output("run", "agg")
    assert Status.SUCCESS is chain.result("agg", "default").status


def test_what_is_stored_again_is_no_orphan(chain: TinyProject) -> None:
    """The reader runs once more, and the warning is gone."""
    read_then_removed(chain, "runs/prep/b/clean.csv")
    chain.output("run", "--changed", "agg")
    warned(chain, NAMED)
    chain.config("flows/prep/b.json", v=2)
    chain.output("run", "--changed")
    assert Status.SUCCESS is chain.result("agg", "default").status


def test_a_conductor_row_that_reads_an_orphan_is_a_warning(chain: TinyProject) -> None:
    """A row of this very table is no orphan, one of an earlier table is."""
    options = {"project_root": chain.root, "progress": False}
    conduct(pd.DataFrame({"instance": ["x", "y"], "v": [1, 2]}), "prep", **options)
    files = [f"runs/prep/{name}/clean.csv" for name in "xy"]
    done = conduct(pd.DataFrame({"instance": ["of_x", "of_y"], "files": files}), "agg", **options)
    assert ["warning", "warning"] == list(done["status"])
    assert "whose instance prep/x is not stored (any more)" in chain.result("agg", "of_x").warnings[0].text
    rows = pd.DataFrame({"instance": ["p", "q"], "files": ["none", "runs/agg/p/sum.txt"]})
    assert ["success", "success"] == list(conduct(rows, "agg", **options)["status"])


def test_the_runs_folder_may_have_another_name(chain: TinyProject) -> None:
    """Orphans are a fact of the project's runs folder, wherever it is."""
    chain.settings('html = false\nruns_dir = "out/all runs"')
    chain.config("flows/agg.json", files="out/all runs/prep/b/clean.csv")
    chain.output("run", "prep", "agg")
    (chain.root / "config" / "flows" / "prep" / "b.json").unlink()
    assert "agg/default reads out/all runs/prep/b/clean.csv, whose instance prep/b" in chain.output("plan")


def test_a_config_that_names_its_own_run_folder_is_a_warning(chain: TinyProject) -> None:
    """The folder is emptied before the run, so a state that is kept there is lost."""
    chain.config("flows/agg.json", files="runs/agg/{instance}/sum.txt")
    chain.output("run", "agg")
    warned(
        chain,
        "the config names runs/agg/default/sum.txt, in the run's own folder, which is emptied before it runs",
    )


# --- _run.allow_missing ------------------------------------------------------------------------------------


@pytest.fixture
def compared(chain: TinyProject) -> TinyProject:
    """Three scenarios, of which one fails, and a flow that compares them."""
    chain.flow("prep", PREP + '\nassert config["v"] != 3, "bad"\n')
    chain.config("flows/prep/c.json", v=3)
    chain.config("flows/agg.json", files="runs/prep/*/clean.csv", _run={"allow_missing": True})
    return chain


LACKS = "prep/c has no valid run, and agg/default runs without it"


@pytest.mark.parametrize("how", ["pytest", "workers", "run", "jobs"])
def test_one_error_of_many_does_not_cost_the_comparison(compared: TinyProject, how: str) -> None:
    """With `allow_missing` a comparing flow runs with what is there, and names what is not."""
    if how in ("pytest", "workers"):
        session = compared.pytest(*(["-n", "2"] if how == "workers" else []))
        assert 1 == session.code, session.out
        assert {"prep/a": "success", "prep/c": "error", "agg/default": "warning"}.items() <= (
            session.statuses().items()
        )
    else:
        assert 1 == compared.cli("run", "prep", "agg", *(["-j", "3"] if how == "jobs" else [])).exit_code
    warned(compared, LACKS)
    assert "1,2" in (compared.folder("agg", "default") / "sum.txt").read_text()


def test_a_comparison_without_any_input_is_blocked(compared: TinyProject) -> None:
    """If nothing that it reads has a valid run, nothing is left to compare."""
    for name in "ab":
        (compared.root / "config" / "flows" / "prep" / f"{name}.json").unlink()
    session = compared.pytest()
    assert "blocked" == session.statuses()["agg/default"]


def test_what_was_missing_and_is_there_makes_the_comparison_run(compared: TinyProject) -> None:
    """Nothing changes as long as the same is missing; the comparison runs as soon as it is there."""
    compared.cli("run", "--changed")
    first = compared.result("agg", "default").run_id
    compared.cli("run", "--changed")
    assert first == compared.result("agg", "default").run_id
    assert "unchanged   agg/default" in compared.cli("run", "--changed", "agg").output + compared.output(
        "plan", "agg"
    )
    compared.config("flows/prep/c.json", v=4)
    compared.output("run", "--changed")
    assert Status.SUCCESS is compared.result("agg", "default").status
    assert "1,2,4" == (compared.folder("agg", "default") / "sum.txt").read_text()


def test_an_upstream_that_was_not_selected_and_has_no_run_may_be_missing(compared: TinyProject) -> None:
    """The same rule where the upstreams are not part of the session, and in conduct."""
    compared.cli("run", "prep")
    assert 0 == compared.pytest("-k", "agg").code
    warned(compared, LACKS)


def test_allow_missing_is_a_flag(project: TinyProject) -> None:
    """Anything else is an error that names file and option."""
    project.flow("prep", PREP)
    project.config("flows/prep.json", v=1, _run={"allow_missing": "yes"})
    assert "allow_missing" in project.output("list")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_nobody_may_read_stops_nothing(chain: TinyProject) -> None:
    """What is stored is collected and runs."""
    closed = chain.folder("prep", "closed")
    closed.mkdir(parents=True)
    closed.chmod(0)
    chain.config("flows/agg.json", files="runs/prep/*/clean.csv")
    chain.output("run", "prep", "agg")
    assert Status.SUCCESS is chain.result("agg", "default").status


def test_a_link_that_leads_to_itself_stops_nothing(chain: TinyProject) -> None:
    """It is no run folder."""
    loop = chain.folder("prep", "loop")
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    chain.config("flows/agg.json", files="runs/prep/*/clean.csv")
    chain.output("run", "prep", "agg")
    assert Status.SUCCESS is chain.result("agg", "default").status
