"""What JUnit XML says of an instance: a class for its flow, and the file that a person looks for.

    <testcase classname="flows.data_prep" name="data_prep[scenario_A]" file="flows/data_prep.py" line="19">

Services group tests by class. pytest calls it by the file in which the config is stored, so that each
instance would be a class, or a package, of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ductaflow.common.ci import ci_run
from ductaflow.common.paths import KIND_DIRS
from ductaflow.project.instances import Instance
from pytest_ductaflow.projects import Projects
from pytest_ductaflow.pytest_hooks import junit_of, tell_junit


class JUnit:
    """Classes and files of the tests of a session."""

    def __init__(self, config: pytest.Config, projects: Projects) -> None:
        self._xml, self._projects = junit_of(config), projects
        run = ci_run()
        self._is_gitlab = run is not None and run.service == "GitLab"
        # services name files from the root of the repository
        self._root = os.path.realpath((run and run.workspace) or projects.rootdir)

    def update(self, report: pytest.TestReport) -> None:
        """Take in a report of pytest, before or after its own plugin does."""
        if self._xml is None or report.when == "teardown":
            return
        instance = self._projects.instance(report.nodeid)
        if instance is None:
            return
        path, line = instance.source or instance.file, None
        crash = getattr(report.longrepr, "reprcrash", None)
        if report.failed and crash is not None:
            path, line = self._projects.invocation_dir / crash.path, crash.lineno
        tell_junit(self._xml, report, self._class(instance), self._shown(path, line), line)

    def _class(self, instance: Instance) -> str:
        folder = Path(self._projects.relative(instance.project.root))
        return ".".join([*folder.parts, KIND_DIRS[instance.kind], instance.flow])

    def _shown(self, path: Path, line: int | None) -> str:
        """Return a file from the root of the repository; GitLab makes a link of it, with the line."""
        real = os.path.realpath(path)
        inside = real.startswith(os.path.join(self._root, ""))
        shown = Path(os.path.relpath(real, self._root) if inside else path).as_posix()
        return f"{shown}#L{line}" if line and inside and self._is_gitlab else shown
