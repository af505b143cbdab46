"""docs/ci.md: its files are valid, and their commands run in a project made by `ductaflow init`."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from ductaflow.cli.app import report_command
from ductaflow.cli.scaffold import init_project

pytestmark = pytest.mark.slow

TEXT = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
FILES: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
]
PLAIN, SHARDED, GITLAB = FILES
needs_merge = pytest.mark.skipif(
    "merge" not in {parameter.name for parameter in report_command.params},
    reason="`ductaflow report` has no --merge here",
)


def steps(workflow: dict[str, Any], job: str) -> list[str]:
    """The commands of a job, but the one that installs."""
    commands = [step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step]
    assert "pip install -r requirements.txt" == commands[0]
    return commands[1:]


def run(command: str, root: Path, **variables: str) -> None:
    """As a step of CI does it, by bash; two workers are enough here."""
    command = command.replace("-n auto", "-n 2")
    tools = {"pytest": "-m pytest", "ductaflow": "-c 'from ductaflow.cli.app import main; main()'"}
    name, _, rest = command.partition(" ")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' {tools[name]} {rest}"],
        cwd=root,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    init_project(tmp_path / "study")
    return tmp_path / "study"


def test_the_first_file_is_that_of_a_new_project() -> None:
    """Who reads the page and who calls `ductaflow init` have the same."""
    file = resources.files("ductaflow.cli.scaffold") / "templates/project/dot-github/workflows/scenarios.yml"
    assert file.read_text(encoding="utf-8") in TEXT


def test_the_plain_workflow(root: Path) -> None:
    """Its commands are green and leave what it keeps."""
    for command in steps(PLAIN, "scenarios"):
        run(command, root, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(root / "summary.md"))
    kept = PLAIN["jobs"]["scenarios"]["steps"][-1]["with"]["path"].split()
    assert [] == [pattern for pattern in kept if not glob.glob(pattern, root_dir=root, recursive=True)]
    assert "### ductaflow: 3 green" in (root / "summary.md").read_text(encoding="utf-8")


@needs_merge
def test_the_sharded_workflow(root: Path) -> None:
    """The shards run what there is, and the merged report has it all."""
    command, pack = steps(SHARDED, "scenarios")
    for shard in SHARDED["jobs"]["scenarios"]["strategy"]["matrix"]["shard"]:
        run(command.replace("${{ matrix.shard }}", str(shard)), root)
        run(pack, root)
        (root / "shards").mkdir(exist_ok=True)
        (root / "report").rename(root / "shards" / f"shard-{shard}")
        shutil.rmtree(root / "runs")
    (merge,) = steps(SHARDED, "report")
    run(merge, root, GITHUB_STEP_SUMMARY="summary.md")
    page = (root / "report/conductor_status_report.json").read_text(encoding="utf-8")
    assert "### ductaflow: 3 green" in (root / "summary.md").read_text(encoding="utf-8")
    assert [] == [name for name in ("growth", "low", "high") if name not in page]


def test_the_file_of_gitlab(root: Path) -> None:
    """Its job runs by the variables that GitLab gives; each job has a stage that there is."""
    assert {"scenarios", "report"} == {GITLAB[job]["stage"] for job in ("scenarios", "report")}
    assert GITLAB["stages"] == ["scenarios", "report"]
    (pack,) = GITLAB["scenarios"]["after_script"]
    assert pack.endswith("ductaflow report --bundle shards/$CI_NODE_INDEX")
    install, command = GITLAB["scenarios"]["script"]
    assert "pip install -r requirements.txt" == install
    run(command, root, CI_NODE_INDEX="2", CI_NODE_TOTAL=str(GITLAB["scenarios"]["parallel"]))
    assert (root / "junit.xml").is_file()


def test_the_options_of_the_page_exist() -> None:
    """Every option of ours that the page names is one of pytest's `--help`."""
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], capture_output=True, text=True, check=True
    )
    pattern = r"--ductaflow[a-z-]*"
    assert set(re.findall(pattern, TEXT)) <= set(re.findall(pattern, shown.stdout))
