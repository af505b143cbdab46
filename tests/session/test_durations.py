"""How long instances are likely to take: by their own last run, their flow's, or all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.project.graph import collect
from ductaflow.project.instances import Instance
from ductaflow.project.settings import Project
from ductaflow.session.durations import UNKNOWN, expected_seconds
from ductaflow.store.result import Result, Status, write_result


def has_run(folder: Path, seconds: float, status: Status = Status.SUCCESS, message: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_result(Result(*folder.parts[-2:], "flow", status, message=message, seconds=seconds), folder)


@pytest.fixture
def instances(project: TinyProject) -> dict[str, Instance]:
    """fit/A, fit/B, fit/C and prep/A, of which nothing has run."""
    for flow, names in {"fit": "ABC", "prep": "A"}.items():
        project.flow(flow, "")
        for name in names:
            project.config(f"flows/{flow}/{name}.json")
    return collect(Project.at(project.root)).by_id


def seconds_of(instances: dict[str, Instance]) -> dict[str, float]:
    return dict(zip(instances, expected_seconds(list(instances.values())), strict=True))


def test_without_earlier_runs_all_take_the_same(instances: dict[str, Instance]) -> None:
    """Nothing is known of a first session."""
    assert {UNKNOWN} == set(seconds_of(instances).values())


def test_own_run_then_flow_then_all(project: TinyProject, instances: dict[str, Instance]) -> None:
    """Who has not run takes as long as the others of its flow; a flow that has not run, as all others."""
    has_run(project.folder("fit", "A"), 10.0)
    has_run(project.folder("fit", "B"), 30.5, Status.WARNING)

    assert {"fit/A": 10.0, "fit/B": 30.5, "fit/C": 20.25, "prep/A": 20.25} == seconds_of(instances)


def test_red_runs_and_half_files_say_nothing(project: TinyProject, instances: dict[str, Instance]) -> None:
    """A run that failed early does not make its instance a short one."""
    has_run(project.folder("fit", "A"), 0.1, Status.ERROR)
    has_run(project.folder("fit", "B"), 7.0)
    project.folder("prep", "A").mkdir(parents=True)
    (project.folder("prep", "A") / "result.json").write_bytes(b'{"seconds": \xff')

    assert {7.0} == set(seconds_of(instances).values())


def test_texts_of_flows_are_no_durations(project: TinyProject, instances: dict[str, Instance]) -> None:
    """Whatever a message looks like, the record's own keys count."""
    text = '\n "seconds": 99,\n "status": "error"\n'
    has_run(project.folder("fit", "A"), 3.0, message=text)
    stored = project.folder("fit", "A") / "result.json"

    assert text == json.loads(stored.read_text())["message"]
    assert 3.0 == seconds_of(instances)["fit/A"]


def test_ordinary_tests_take_a_second(instances: dict[str, Instance]) -> None:
    """What is no instance has a place in the list."""
    assert [UNKNOWN, UNKNOWN] == expected_seconds([None, instances["fit/A"]])
