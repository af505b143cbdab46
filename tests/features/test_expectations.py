"""Expected results in whole sessions: what is red for its numbers, and what that changes and does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow import conduct, read_result
from ductaflow.store.result import Status

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]

FIT = """
# %%
from pathlib import Path
from ductaflow import record
record(rmse=config.get("rmse", 0.3), n=5)
rows = (f"{hour},{hour * config.get('scale', 1)}\\n" for hour in range(9))
Path("hourly.csv").write_text("".join(["hour,load\\n", *rows]))
"""
READ = """
# %%
from pathlib import Path
print((Path(config["_project_root"]) / config["data"]).read_text()[:9])
"""
BUILD = """
# %%
from ductaflow import record, run_notebook
run_notebook("flows/fit.py", config={"rmse": 0.3}, execution_dir="runs/fit/inner")
record(total=1)
"""


def expect(project: TinyProject, id: str, name: str = "metrics.json", text: str = '{"rmse": 0.3}') -> Path:
    file = project.root / "expected" / id / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.fixture
def fits(project: TinyProject) -> TinyProject:
    """Three instances of a flow, of which one is not as expected, and one that reads from that."""
    project.flow("fit", FIT)
    project.flow("use", READ)
    for name, values in {"good": {}, "other": {"rmse": 0.4, "scale": 2}, "free": {}}.items():
        project.config(f"flows/fit/{name}.json", **values)
    project.config("flows/use.json", data="runs/fit/other/hourly.csv")
    for name in ("good", "other"):
        expect(project, f"fit/{name}")
    expect(project, "fit/other", "hourly.csv", "hour,load\n" + "".join(f"{h},{h}\n" for h in range(9)))
    return project


def test_a_session_and_those_after_it(fits: TinyProject) -> None:
    """What differs fails its test, blocks nothing, and does not run again; it is judged again when what is
    expected changes, without running."""
    session = fits.pytest("--ductaflow", "-n", "2", "--ductaflow-changed")

    assert 1 == session.code
    statuses = {"fit/free": "success", "fit/good": "success", "fit/other": "error", "use/default": "success"}
    assert statuses == session.statuses()
    assert "fit/other: 1 of 1 metrics, 1 of 1 files differ (the run ended well" in session.out
    assert "  rmse  expected 0.3  found 0.4  +33.3 %  rtol 1e-06" in session.out
    assert "hourly.csv  8 of 18 cells, all in load" in session.out
    assert "  accept: ductaflow accept fit/other" in session.out
    result = fits.result("fit", "other")
    assert (Status.ERROR, Status.SUCCESS, "expectation") == (result.status, result.run_status, result.cause)
    reader = fits.result("use", "default")
    assert "it reads fit/other, whose results are not as expected" == reader.message
    log = (fits.folder("fit", "other") / "fit_execution_output.txt").read_text(encoding="utf-8")
    assert "❌ not as expected: 1 of 1 metrics, 1 of 1 files differ" in log

    # Nothing runs, and what was red stays so.
    again = fits.pytest("--ductaflow", "--ductaflow-changed")
    assert (1, "error") == (again.code, again.statuses()["fit/other"])
    assert "1 failed, 3 unchanged" in again.out
    assert result.run_id == fits.result("fit", "other").run_id

    # Somebody accepts one part by hand and allows the other.
    expect(fits, "fit/other", text='{"rmse": 0.4}')
    fits.config("flows/fit/other.json", rmse=0.4, scale=2, _run={"expect": {"files": {"*.csv": {"rtol": 2}}}})
    third = fits.pytest("--ductaflow", "--ductaflow-changed")
    assert (0, "unchanged") == (third.code, third.statuses()["fit/other"])
    mended = fits.result("fit", "other")
    assert (Status.SUCCESS, None, "") == (mended.status, mended.cause, mended.message)
    assert result.run_id == mended.run_id
    assert mended.judged
    assert "judged: 1 metric, 1 file; 1 more metrics are not" == mended.judged.summary


def test_what_pytest_makes_of_it(fits: TinyProject) -> None:
    """An expected failure may be one of numbers; expected results of nothing stored are said."""
    fits.config("flows/fit/other.json", rmse=0.4, scale=2, _run={"xfail": "the model is wrong"})
    expect(fits, "fit/gone")
    session = fits.pytest("--ductaflow", "-W", "error::ductaflow.FlowWarning", "-k", "other or good")

    assert 0 == session.code, session.out
    assert "1 passed, 2 deselected, 1 xfailed" in session.out
    assert "Warning: results are expected of fit/gone, which is not stored" in session.out
    assert "git mv expected/fit/gone expected/fit/free" in session.out


def test_a_bound_needs_no_file_and_is_red_in_every_way_of_running(project: TinyProject) -> None:
    """Bounds hold by `run` and through the library."""
    project.flow("fit", FIT)
    project.config("flows/fit/a.json", _run={"expect": {"metrics": {"rmse": {"max": 0.2}}}})

    done = project.cli("run", "fit/a")
    assert 1 == done.exit_code
    assert "  rmse  found 0.3 > max 0.2" in done.output
    assert Status.ERROR is project.run("fit/a").status
    missing = project.config("flows/fit/a.json", _run={"expect": {"metrics": {"mae": {"max": 0.2}}}})
    assert "1 of 1 metrics differ" == project.run("fit/a").message
    missing.write_text(json.dumps({"_run": {"expect": {"files": {"hourly.cvs": {"rtol": 0.2}}}}}))
    mistyped = project.run("fit/a")
    assert (Status.WARNING, "1 warning line") == (mistyped.status, mistyped.message)
    assert "Did you mean hourly.csv?" in mistyped.warnings[0].text
    missing.write_text(json.dumps({"_run": {"expect": {"metrics": {"mae": {"maxx": 0.2}}}}}))
    assert "Did you mean max?" in project.cli("run", "fit/a").output


def test_a_build_is_as_good_as_its_flows(project: TinyProject) -> None:
    """A flow inside a stored build is judged too; the build goes on, and ends red; both are judged again."""
    project.flow("fit", FIT)
    project.flow("plan", BUILD, kind="builds")
    project.config("builds/plan.json")
    nested = expect(project, "plan/default/runs/fit/inner", text='{"rmse": 0.2}')
    expect(project, "plan/default", text='{"total": 1}')
    result = project.run("plan/default", check=False)

    assert (Status.ERROR, Status.SUCCESS, "expectation") == (result.status, result.run_status, result.cause)
    assert "flow fit/inner: 1 of 1 metrics differ" == result.message
    assert {"total": 1} == result.metrics
    nested.write_text('{"rmse": 0.3}')
    assert "1 unchanged" in project.output("run", "--changed")
    assert Status.SUCCESS is project.result("plan", "default").status
    inner = read_result(project.folder("plan", "default") / "runs" / "fit" / "inner")
    assert inner
    assert (Status.SUCCESS, "judged: 1 metric; 1 more metrics are not") == (
        inner.status,
        inner.judged and inner.judged.summary,
    )


def test_only_what_is_stored_is_judged(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a variant, nor a row of a conductor, nor a run by its path: names alone expect nothing."""
    project.flow("fit", FIT)
    project.config("flows/fit/a.json")
    for name in ("a", "b", "row"):
        expect(project, f"fit/{name}", text='{"rmse": 0.1}')
    assert Status.SUCCESS is project.run_code(FIT, instance="b").status
    assert 0 == project.cli("run", "fit/a", "--set", "_run.timeout=60", "--as", "b").exit_code
    monkeypatch.chdir(project.root)
    import pandas as pd

    done = conduct(pd.DataFrame({"instance": ["row"], "rmse": [0.5]}), "fit", progress=False)
    assert ["success"] == list(done["status"])
    assert Status.ERROR is project.run("fit/a").status
