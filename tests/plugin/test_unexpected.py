"""The text of a failed test whose run ended well, and whose results are not as expected."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support import TinyProject

from ductaflow.comparison.difference import ValueDifference
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.store.result import Difference, Judged, Result, Status, write_result
from ductaflow.store.verdict import as_judged
from pytest_ductaflow.failure import FailureText, file_with_bounds


def ran(folder: Path, *flows: Result, found: float | None = None) -> Result:
    """A run that ended well, with a metric that is another one if it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Result(
        folder.parent.name,
        folder.name,
        "build" if flows else "flow",
        Status.SUCCESS,
        run_status=Status.SUCCESS,
        children=tuple(str(flow.folder.relative_to(folder)) for flow in flows if flow.folder),
        seconds=1.0,
        folder=folder,
    )
    metric = Difference(metric=ValueDifference("a", "other", 1, found))
    result = as_judged(run, Judged(1, 0, 0, (metric,)) if found else None, flows)
    write_result(result, folder)
    return result


def text_of(result: Result, root: Path) -> list[str]:
    instance: Any = SimpleNamespace(id="plan/x", file=root / "config" / "builds" / "plan.json")
    projects: Any = SimpleNamespace(invocation_dir=root)
    return FailureText(result, instance, projects).whole().splitlines()


def test_a_build_and_its_flows_differ(tmp_path: Path) -> None:
    """Each run that differs is told, at any depth, up to five."""
    build = tmp_path / "runs" / "plan" / "x"
    leaf = ran(build / "runs" / "inner" / "runs" / "leaf", found=2)
    good = ran(build / "runs" / "good")
    inner = ran(build / "runs" / "inner", leaf)

    nested = "runs/plan/x/runs/inner/runs/leaf"
    lines = [
        f"{nested}: 1 of 1 metrics differ (the run ended well, 1.00 s)",
        "  a  expected 1  found 2",
        f"  look:   ductaflow diff {nested}@expected {nested}",
        "  accept: ductaflow accept plan/x",
    ]
    assert [
        "plan/x: 1 of 1 metrics differ (the run ended well, 1.00 s)",
        "  a  expected 1  found 3",
        "  look:   ductaflow diff plan/x@expected plan/x",
        "  accept: ductaflow accept plan/x",
        *lines,
    ] == text_of(ran(build, good, inner, found=3), tmp_path)
    assert [lines[0].replace(nested, "plan/x"), *lines[1:]] == text_of(ran(build, good, inner), tmp_path)
    many = [ran(build / "runs" / f"r{number}", found=2) for number in range(9)]
    told = text_of(ran(build, *many), tmp_path)
    assert (21, "more flows differ, such as runs/plan/x/runs/r5") == (len(told), told[-1])


def test_which_file_has_the_bounds(project: TinyProject) -> None:
    """That of the instance or its table, or the base that lies under it, where they say so."""
    rule = {"expect": {"metrics": {"a": {"max": 1}}}}
    project.flow("fit", "config = {}")
    base = project.config("flows/fit.json", _run=rule)
    own = project.config("flows/fit/b.json", _run={"tags": ["slow"]})
    table = project.root / "config" / "flows" / "fit.csv"

    def found(name: str) -> Path:
        return file_with_bounds(load_stored(Project.at(project.root), f"fit/{name}"))

    for head, where in (
        ("instance,x,_run.tags", base),
        ("instance,x,_run.expect.rtol", table),
        ("instance;_run;x", table),
        ("instance,x_run,y", base),
    ):
        table.write_text(f"{head}\na,1,\n" if "," in head else f"{head}\na;;1\n")
        assert where == found("a")
    assert base == found("b")
    project.config("flows/fit/b.json", _run=rule)
    assert own == found("b")
    base.unlink()
    table.unlink()
    common = project.config("base.json", _run=rule)
    project.config("flows/fit/b.json")
    assert common == found("b")
