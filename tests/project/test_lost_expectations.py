"""What is expected of nothing that is stored."""

from __future__ import annotations

import pytest
from support import TinyProject

from ductaflow.project.orphans import lost_expectations
from ductaflow.project.settings import Project


@pytest.mark.parametrize(
    ("file", "warning"),
    [
        ("fit/a/metrics.json", None),
        ("fit/a/sub/x.csv", None),
        ("README.md", None),
        ("fit/readme.txt", None),
        (".gitattributes", None),
        (
            "metrics.json",
            "nothing judges metrics.json in expected: expected files lie in expected/FLOW/INSTANCE",
        ),
        ("fit/metrics.json", "nothing judges fit/metrics.json in expected"),
        ("fit/old/metrics.json", "results are expected of fit/old, which is not stored"),
        ("other/a/metrics.json", "results are expected of other/a, which is not stored"),
    ],
)
def test_what_nothing_judges(project: TinyProject, file: str, warning: str | None) -> None:
    """A folder without an instance, or a file at no place for it, is a warning."""
    path = project.root / "expected" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    found = lost_expectations(Project.at(project.root), ["fit/a"])
    assert (found or "").startswith(f"Warning: {warning}" if warning else "")
    assert bool(found) == bool(warning)
