"""The command `ductaflow`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import Result
from support import TinyProject, cli

import ductaflow.session.conductor
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON

FLOW = """
# %%
print("x is", config["x"])
assert config["x"] != 2, "two"
"""


@pytest.fixture
def project(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """A flow with a green and a red instance; the working directory is below its root."""
    project.flow("fit", FLOW)
    project.config("flows/fit/good.json", x=1, _run={"tags": ["quick", "ci"]})
    project.config("flows/fit/red.json", x=2)
    monkeypatch.chdir(project.root / "flows")
    return project


def test_the_version_is_that_of_the_distribution() -> None:
    """`--version` needs nothing heavy."""
    code = (
        "import sys; from ductaflow.cli.app import main\n"
        "try: main(['--version'])\n"
        "except SystemExit:\n"
        "    print(sorted({'pandas', 'papermill', 'ductaflow.session.runner'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [f"ductaflow, version {version('pytest-ductaflow')}", "[]"] == done.stdout.splitlines()


@pytest.mark.parametrize("module", ["ductaflow", "ductaflow.cli.app"])
def test_the_command_of_an_interpreter(project: TinyProject, module: str) -> None:
    """`python -m` runs it too, where the script is not on the path or belongs to another environment."""
    done = subprocess.run([sys.executable, "-m", module, "list"], capture_output=True, text=True, check=True)
    assert ["fit/good  [quick ci]", "fit/red"] == done.stdout.splitlines()


def test_list_shows_ids_tags_and_problems(project: TinyProject) -> None:
    """One instance a line; one that cannot be run comes first."""
    (project.root / "config" / "flows" / "fit" / "half.json").write_text('{"x": ')
    done = cli("list")
    lines = done.output.splitlines()
    assert (0, 3) == (done.exit_code, len(lines))
    assert lines[0].startswith("fit/half  !! ")
    assert "half.json:1:" in lines[0]
    assert ["fit/good  [quick ci]", "fit/red"] == lines[1:]


@pytest.mark.slow
def test_run_shows_logs_and_fails_if_one_is_red(project: TinyProject) -> None:
    """All are run, by id or by title, in the order given where none reads another; the exit code is 1."""
    done = cli("run", "fit[red]", "fit/good", "fit/red")
    assert 1 == done.exit_code
    starts = [line for line in done.stdout.splitlines() if "Starting" in line]
    assert ["🚀 Starting fit | Instance: red", "🚀 Starting fit | Instance: good"] == starts
    assert "x is 1\n" in done.stdout
    assert "1 of 2 failed: fit/red\n" == done.stderr
    made = cli("report")
    assert f"{project.root / 'runs' / REPORT_HTML}\n" == made.output
    page = json.loads((project.root / "runs" / REPORT_JSON).read_bytes())
    assert {"fit/good": "success", "fit/red": "error"} == {i["id"]: i["status"] for i in page["instances"]}
    assert (1, 1) == (page["summary"]["success"], page["summary"]["error"])
    assert page["finished"]


@pytest.mark.slow
def test_run_goes_on_after_one_that_cannot_start(project: TinyProject) -> None:
    """It is named with what is wrong, and counts as red."""
    (project.root / "config" / "flows" / "fit" / "half.json").write_text('{"x": ')
    done = cli("run", "fit/half", "fit/good")
    assert 1 == done.exit_code
    assert "Error: fit[half]: " in done.stderr
    assert "x is 1\n" in done.stdout


@pytest.fixture
def chain(project: TinyProject) -> TinyProject:
    """Who reads: end/z <- mid/y <- fit/red and fit/good; a skipped one and its reader."""
    for name in ("mid", "end"):
        project.flow(name, "print('a run of it')")
    project.config("flows/mid/y.json", data="runs/fit/red/x.csv", other="runs/fit/good/x.csv")
    project.config("flows/end/z.json", data="runs/mid/y/x.csv")
    project.config("flows/end/ok.json", data="runs/fit/good/x")
    project.config("flows/fit/later.json", x=1, _run={"skip_without": ["inputs/secret.csv"]})
    project.config("flows/mid/late.json", data="runs/fit/later/x.csv")
    return project


def starts(done: Result) -> list[str]:
    return [line.rpartition(" ")[2] for line in done.stdout.splitlines() if "Starting" in line]


@pytest.mark.slow
def test_run_follows_the_graph_and_blocks(chain: TinyProject) -> None:
    """Upstreams first; what reads from a red one is blocked, at any distance, and only that."""
    done = cli("run", "end/z", "end/ok", "mid/y", "fit/red", "fit/good")
    assert 1 == done.exit_code
    assert ["good", "ok", "red"] == sorted(starts(done))
    assert starts(done).index("good") < starts(done).index("ok")
    assert "mid[y] blocked: fit/red failed: flows/fit.py:6: AssertionError: two\n" in done.stderr
    assert "end[z] blocked: mid/y is blocked: fit/red failed: " in done.stderr
    assert done.stderr.endswith("1 of 5 failed: fit/red\n")


def test_run_respects_a_skip(chain: TinyProject) -> None:
    """It is not run, its reader is blocked with the reason, and nothing of that is red."""
    done = cli("run", "mid/late", "fit/later")
    assert (0, []) == (done.exit_code, starts(done))
    assert "fit[later] not_run: skipped: not there: inputs/secret.csv\n" in done.stderr
    assert "mid[late] blocked: fit/later is skipped: not there: inputs/secret.csv\n" in done.stderr


@pytest.mark.slow
def test_run_of_one_whose_upstream_never_ran(chain: TinyProject) -> None:
    """It is red before it starts, with the command that makes what it lacks; after that it runs."""
    done = cli("run", "end/ok")
    assert (1, []) == (done.exit_code, starts(done))
    assert (
        "Error: end[ok]: end/ok reads from fit/good, but it has no finished run."
        " Run it first: ductaflow run fit/good\n" in done.stderr
    )
    assert 0 == cli("run", "fit/good").exit_code
    assert 0 == cli("run", "end/ok").exit_code


def test_run_of_one_that_reads_a_run_that_is_not_stored(chain: TinyProject) -> None:
    """The mistake in the config is named before anything runs."""
    chain.config("flows/end/typo.json", data="runs/fit/godo/x.csv")
    done = cli("run", "end/typo")
    assert (1, []) == (done.exit_code, starts(done))
    assert (
        "Error: end[typo]: end/typo reads runs/fit/godo/x.csv, which is not there;"
        " fit has no stored instance godo. Did you mean good?\n" in done.stderr
    )


def test_ctrl_c_ends_the_command(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130, as of a program that is ended by SIGINT, and one word."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ductaflow.session.conductor, "run_instance", interrupted)
    done = cli("run", "fit/good", "fit/red")
    assert (130, "Interrupted.\n") == (done.exit_code, done.output)


def test_run_of_an_unknown_id_runs_nothing(project: TinyProject) -> None:
    """Exit code 2, the message says what may be meant, and there is no traceback."""
    done = cli("run", "fit/good", "fit/godo")
    assert 2 == done.exit_code
    assert 'Error: fit has no stored instance "godo"\nDid you mean good?\n' == done.output
    assert not (project.root / "runs").exists()


def test_the_report_names_a_run_that_never_ended(project: TinyProject) -> None:
    """A marker without a run is one that was killed."""
    code = (
        "import os, sys; from pathlib import Path; from ductaflow.store.folder import Claim, Owner\n"
        "from ductaflow.common.paths import RunFolder\n"
        "owner = Owner('fit', 'good', 'r', 's', __import__('socket').gethostname(), os.getpid(), 'noon')\n"
        "Claim.take(RunFolder(Path('runs/fit/good').absolute(), 'fit'), Path('runs').absolute(), owner)\n"
        "os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project.root, check=False)
    assert 0 == cli("report", "--project", project.root).exit_code
    (instance,) = json.loads((project.root / "runs" / REPORT_JSON).read_bytes())["instances"]
    assert ("fit/good", "error", "lost") == (instance["id"], instance["status"], instance["cause"])
    assert "session s" in instance["message"]


@pytest.mark.parametrize("arguments", [(), ("--project", ".")])
def test_without_a_project_there_is_one_clear_error(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Exit code 2 and what to do."""
    monkeypatch.chdir(project.root.parent)
    done = cli("list", *arguments)
    assert 2 == done.exit_code
    assert done.output.startswith("Error: ")
    assert "config/flows" in done.output


def test_a_console_that_shows_ascii_only_is_enough(project: TinyProject) -> None:
    """Characters that it has not become question marks."""
    project.config("flows/fit/zürich.json", x=1)
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", "from ductaflow.cli.app import main; main()", "list"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "fit/z?rich\n" in done.stdout


@pytest.mark.slow
def test_report_of_another_runs_folder(project: TinyProject, tmp_path: Path) -> None:
    """The folder that is given is read and written; instances that are stored have their node id."""
    project.flow("fit", "# %%\nprint(1)\n")
    project.config("flows/fit/a.json", _run={"tags": ["slow"]})
    assert 0 == cli("run", "fit/a", "--project", project.root).exit_code
    moved = project.root / "kept"
    (project.root / "runs").rename(moved)

    made = cli("report", moved)

    assert str(moved / "conductor_status_report.html") in made.output
    (instance,) = json.loads((moved / "conductor_status_report.json").read_text())["instances"]
    assert ("config/flows/fit/a.json::fit[a]", ["slow"]) == (instance["nodeid"], instance["tags"])
    assert "ductaflow debug fit/a" == instance["debug"]


@pytest.mark.slow
def test_reports_of_shards_are_merged(project: TinyProject, tmp_path: Path) -> None:
    """Two twins make one page, in the folder that is given."""
    project.flow("fit", "# %%\nprint(1)\n")
    shards = []
    for name in "ab":
        project.config(f"flows/fit/{name}.json")
        assert 0 == cli("run", f"fit/{name}", "--project", project.root).exit_code
        assert 0 == cli("report", "--project", project.root).exit_code
        shards.append((project.root / "runs").rename(tmp_path / name) / "conductor_status_report.json")

    made = cli("report", "--merge", *shards, "--output", tmp_path / "all")

    assert 0 == made.exit_code, made.output
    twin = json.loads((tmp_path / "all/conductor_status_report.json").read_text())
    assert ["fit/a", "fit/b"] == [instance["id"] for instance in twin["instances"]]
    assert (tmp_path / "all" / twin["instances"][1]["links"]["log"]).resolve().is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--merge"], "--merge needs files"),
        (["--output", "x"], "go with --merge"),
        (["pyproject.toml"], "is not a folder"),
    ],
)
def test_report_says_how_it_is_called(arguments: list[str], said: str) -> None:
    """What does not go together is an error, not a guess."""
    made = cli("report", *arguments)

    assert 2 == made.exit_code
    assert said in made.output
