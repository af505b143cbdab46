"""Code that was written for the single-file ductaflow: its names of arguments, and what to write instead."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import TinyProject, run_pytest

import ductaflow
from ductaflow import (
    DuctaflowError,
    analyze_execution_logs,
    debug_flow,
    display_config_summary,
    generate_config_markdown,
    generate_status_report,
    run_notebook,
    run_step_flow,
    unpack_config,
)
from ductaflow.common.renamed import also_in_order, also_named
from ductaflow.store.result import Status

PAGE = (Path(__file__).parents[2] / "docs" / "from_original.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_runs_by_their_earlier_arguments(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the notebooks, the kernel's limit, and the names of paths."""
    project.flow("fit", '# %%\nprint("n is", config["n"])\n')
    monkeypatch.chdir(project.root)

    by_folder = run_notebook(
        "fit.py", "flows", config={"n": 1}, execution_dir="runs/fit/a", timeout=60, export_html=False
    )
    by_step = run_step_flow(notebook_path="flows/fit.py", step_name="fit", instance_name="b", config={"n": 2})

    assert [project.root / "runs/fit/a/fit.ipynb", project.root / "runs/fit/b/fit.ipynb"] == [
        by_folder,
        by_step,
    ]
    assert "success" == analyze_execution_logs(output_dir="runs/fit/a")
    page = generate_status_report([{"scenario": "a", "flow": "fit"}], model_root=Path("runs"))
    assert "fit/a" in page


def test_a_suffix_of_the_notebook_is_refused_with_what_to_write(project: TinyProject) -> None:
    """The names in a run folder are the same for all runs."""
    with pytest.raises(DuctaflowError, match=r"the executed notebook is <flow>\.ipynb") as raised:
        run_notebook("fit.py", config={}, execution_dir="runs/fit/a", output_suffix="_executed")

    assert "execution_dir" in raised.value.hint


def test_debugging_begins_anew_by_force(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs wrote there is moved away, a person's file stays, and the config of the last run is taken."""
    project.flow("fit", "pass\n")
    monkeypatch.chdir(project.root)
    debug_flow("flows/fit.py", "runs/fit/a", {"n": 1})
    run_notebook("flows/fit.py", config={"n": 1}, execution_dir="runs/fit/a", export_html=False)
    (project.root / "runs/fit/a/notes.txt").write_text("mine")

    debug_flow(flow_path="flows/fit.py", execution_dir="runs/fit/a", force=True)

    moved = Path(re.search(r"moved away: (.+)", capsys.readouterr().out).group(1))
    assert (moved / "result.json").is_file()
    folder = project.root / "runs/fit/a"
    assert ["fit.ipynb", "fit_config.json", "notes.txt"] == sorted(path.name for path in folder.iterdir())
    assert 1 == json.loads((folder / "fit_config.json").read_text())["n"]


def test_configs_are_shown_and_unpacked_by_their_earlier_names(capsys: pytest.CaptureFixture[str]) -> None:
    """`flow_name` and `caller_locals`; a name need not be given."""
    variables: dict[str, object] = {}
    unpack_config({"x": 1}, flow_name="fit", caller_locals=variables)
    display_config_summary({"x": 1}, flow_name="trend")
    display_config_summary({"y": 2})

    assert {"x": 1} == variables
    assert {"fit: 1 variables from 1 keys", "trend:", "config:"} <= {*capsys.readouterr().out.splitlines()}
    text = generate_config_markdown({"x": 1, "a": {"b": "c|d"}, "api_key": "secret"}, flow_name="fit")
    assert ["**fit**", "", "| parameter | value |", "|---|---|"] == text.splitlines()[:4]
    assert ["| `x` | 1 |", '| `a.b` | "c&#124;d" |'] == text.splitlines()[4:6]
    assert "secret" not in text


def test_what_is_gone_says_what_to_write_instead() -> None:
    """In the error of the import."""
    for name in ("setup_execution_logging", "setup_conductor_logging"):
        with pytest.raises(ImportError, match=f"there is no {name} any more: what a flow prints is its log"):
            getattr(ductaflow, name)


@pytest.mark.slow
def test_loggers_write_to_the_log_as_it_says(project: TinyProject) -> None:
    """The line that the error names makes `logger.info` a line of the log, and a warning a warning."""
    with pytest.raises(ImportError) as raised:
        _ = ductaflow.setup_execution_logging
    lines = re.findall(r'(logging\.basicConfig\(.*?"\)|logger = .*?\))', str(raised.value))
    assert 2 == len(lines)

    result = project.run_code(
        "\n".join(["# %%", "import logging", *lines, "logger.info('one')", "logger.warning('Warning: two')"])
    )

    assert (Status.WARNING, ["Warning: two"]) == (result.status, [line.text for line in result.warnings])
    assert "one\n" in (project.folder("fit", "a") / "fit_execution_output.txt").read_text()


ROWS = re.findall(r"^\| `(.+?)` \| (the same|refused)(.*) \|$", PAGE, re.MULTILINE)


@pytest.mark.slow
def test_the_table_of_the_page(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is the same runs; what is refused says so in the words of the page; what is to be written runs."""
    assert len(ROWS) == PAGE.count("\n| `")
    project.flow("fit", '# %%\nprint("n is", config["n"])\n')
    monkeypatch.chdir(project.root)
    names = {name: getattr(ductaflow, name) for name in ductaflow.__all__} | {"Path": Path}

    for code, verdict, rest in ROWS:
        if verdict == "the same":
            exec(code, {**names})
            continue
        message, *instead = re.findall(r"`(.+?)`(?=[.]| \||$)", rest)
        with pytest.raises(Exception, match=re.escape(message)):
            exec(code, {**names})
        for one in instead:
            if "(" in one:
                exec(one, {**names})

    described = {name for name, _ in re.findall(r"(\w+)(\(| any more)", PAGE)}
    assert set(ORIGINAL) <= described
    assert not (project.root / "runs/fit/b/result.json").exists()


#: What it exported.
ORIGINAL = (
    *("analyze_execution_logs", "convert_notebook_to_html", "debug_flow", "display_config_summary"),
    *("generate_config_markdown", "generate_status_report", "is_notebook_execution", "load_cli_config"),
    *("run_notebook", "run_step_flow", "setup_conductor_logging", "setup_execution_logging", "unpack_config"),
)


def test_an_argument_has_one_place() -> None:
    """By its place or by its name, and not by both; there are no more places than there were."""

    @also_in_order("one", "two")
    def function(one: int, *, two: int = 0, three: int = 0) -> tuple[int, int, int]:
        return one, two, three

    assert [(1, 2, 3), (1, 2, 0)] == [function(1, 2, three=3), function(1, two=2)]  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"function\(\) got two by its place and by its name"):
        function(1, 2, two=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes 1 positional argument but 2"):
        function(1, 2, 3)  # type: ignore[call-arg]


def test_an_argument_is_given_once() -> None:
    """Not by both of its names."""

    @also_named(old="new")
    def function(new: int = 0) -> int:
        return new

    assert (3, 4, 5) == (function(3), function(new=4), function(old=5))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"function\(\) got old and new, which are the same"):
        function(old=1, new=2)  # type: ignore[call-arg]


# --- its example, as small as it may be --------------------------------------------------------------------

HEAD = """\
# %% tags=["parameters"]
config = {}

# %%
from ductaflow import is_notebook_execution, load_cli_config, unpack_config, display_config_summary
if not is_notebook_execution():
    config = load_cli_config('config/{kind}/{name}.json', 'The {name}')
vars().update(unpack_config(config, "The {name}", locals()))
display_config_summary(config, "The {name}")
"""
MAKE = """
# %%
import random
import pandas as pd

# %%
rows = [{"step": step, "value": random.random(), "mode": mode} for step in range(steps)]
pd.DataFrame(rows).to_csv("_make_rows.csv", index=False)
print(f"✅ {len(rows)} rows")
"""
USE = """
# %%
import json
from pathlib import Path
import pandas as pd

# %%
made = Path("../make_instance")
if made.exists():
    rows = pd.read_csv(made / "_make_rows.csv")
    found = {"rows": len(rows), "mode": rows["mode"].iloc[0]}
else:
    print("⚠️ nothing was made before this flow")
    found = {}
with open("_use_found.json", "w") as file:
    json.dump({"found": found, "project": str(config["_project_root"])}, file)
"""
BUILD = """
# %%
from datetime import datetime
from pathlib import Path
from ductaflow import run_notebook

project_root = Path(config.get("_project_root", "."))
run_folder = Path(f"runs/_both_{scenario}_{year}")

# %%
for name, instance in (("_make", "make_instance"), ("_use", "_use_instance")):
    try:
        begun = datetime.now()
        run_notebook(
            notebook_file=project_root / "flows" / f"{name}.py",
            config=config,
            execution_dir=run_folder / "runs" / instance,
            project_root=project_root,
            export_html=False,
        )
        print(f"✅ {name} | {(datetime.now() - begun).total_seconds():.1f}s")
    except Exception as exc:
        print(f"❌ {name} | {exc}")
        raise
"""
CONDUCTOR = """\
# %%
import json
from datetime import datetime
from pathlib import Path

from ductaflow import run_notebook, analyze_execution_logs, generate_status_report

# %%
model_root = Path("./runs/conductor_runs")
base = {"model_root": str(model_root), "scenario": "demo", "year": 2024, "steps": 3}
results = []
for mode in ("standard", "enhanced"):
    name = f"Scenario_{mode.title()}"
    config = {**base, "mode": mode, "run_folder": f"runs/{name}"}
    output_dir = model_root / "Model_Runs" / name
    output_dir.mkdir(parents=True, exist_ok=True)
    with open(output_dir / "config.json", "w") as file:
        json.dump(config, file, indent=2, default=str)
    try:
        begun = datetime.now()
        run_notebook(
            notebook_file="builds/_both.py",
            config=config,
            execution_dir=output_dir,
            project_root=Path.cwd(),
            export_html=mode == "standard",
        )
        minutes = (datetime.now() - begun).total_seconds() / 60
        results.append({"scenario": name, "status": "success", "duration_minutes": minutes, "mode": mode})
    except Exception as exc:
        results.append({"scenario": name, "status": "failed", "error": str(exc), "mode": mode})
    Path("runs/conductor_status_report.html").write_text(
        generate_status_report(results, model_root), encoding="utf-8"
    )
print(json.dumps([(result["status"], analyze_execution_logs(model_root / "Model_Runs" / result["scenario"]))
                  for result in results]))
"""


@pytest.mark.slow
def test_its_example_runs_unchanged(tmp_path: Path) -> None:
    """Flows with a leading underscore, a build, a conductor that writes the page; and all as tests."""
    root = tmp_path / "example"
    texts = {
        "flows/_make.py": HEAD.replace("{kind}", "flows").replace("{name}", "_make") + MAKE,
        "flows/_use.py": HEAD.replace("{kind}", "flows").replace("{name}", "_use") + USE,
        "builds/_both.py": HEAD.replace("{kind}", "builds").replace("{name}", "_both") + BUILD,
        "config/flows/_make.json": '{"description": "makes rows", "mode": "standard", "steps": 5}',
        "config/flows/_use.json": '{"description": "uses rows"}',
        "config/builds/_both.json": '{"scenario": "demo", "year": 2024, "mode": "standard", "steps": 5}',
        "conductor.py": CONDUCTOR,
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-X", "utf8", "conductor.py"], cwd=root, capture_output=True, encoding="utf-8"
    )
    assert 0 == done.returncode, done.stderr
    assert [["success", "success"]] * 2 == json.loads(done.stdout.splitlines()[-1])
    for mode in ("standard", "enhanced"):
        folder = root / "runs/conductor_runs/Model_Runs" / f"Scenario_{mode.title()}"
        inner = folder / "runs/_both_demo_2024/runs"
        found = json.loads((inner / "_use_instance/_use_found.json").read_text())
        assert {"found": {"rows": 3, "mode": mode}, "project": str(root)} == found
        assert mode == json.loads((folder / "config.json").read_text())["mode"]
        assert (folder / "_both.html").is_file() is (mode == "standard")
        assert (inner / "make_instance/_make_execution_output.txt").is_file()
    page = (root / "runs/conductor_status_report.html").read_text()
    assert "Scenario_Enhanced" in page
    session = run_pytest(root, "--ductaflow-no-html", "-k", "_use")
    assert "warning" == session.statuses()["_use/default"]
    assert "2 deselected" in session.out
