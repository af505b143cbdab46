"""A look at what a session would do: what it asks, and how often."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from support import TinyProject

from ductaflow.project.graph import collect
from ductaflow.project.settings import Project
from ductaflow.session.conductor import conduct
from ductaflow.session.forecast import Plan
from ductaflow.session.request import spec_of_instance


def planned(project: Project) -> object:
    instances = collect(project)
    return Plan.of(instances, instances.by_id, 2)


def dry(project: Project) -> object:
    table = pd.DataFrame({"instance": ["a", "b", "c"]})
    return conduct(table, "fit", project_root=project.root, dry_run=True)


@pytest.fixture
def calls_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many processes of git have been started, by a program of that name that says nothing else."""
    notes, fake = tmp_path / "calls", tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> "{notes}"\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(fake.parent), os.environ["PATH"]]))
    return lambda: len(notes.read_text().splitlines()) if notes.exists() else 0


@pytest.mark.parametrize("look", [planned, dry])
def test_a_look_starts_no_git(
    project: TinyProject, calls_of_git: Callable[[], int], look: Callable[[Project], object]
) -> None:
    """The commit belongs to the record of a run. Of each instance it would take two processes."""
    project.flow("fit", "")
    for name in "abc":
        project.config(f"flows/fit/{name}.json")
    there = Project.at(project.root)

    look(there)
    assert 0 == calls_of_git()

    spec_of_instance(collect(there).by_id["fit/a"])
    assert 0 < calls_of_git()
