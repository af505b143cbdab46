"""`ductaflow status`, `logs`, `show` and `debug`: what they say of runs that are on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import TinyProject, a_result, cli, stored

from ductaflow.cli.app import main
from ductaflow.store.result import FileEntry, Status, read_result, write_result
from ductaflow.store.result import Result as Outcome

FLOW = """
# %%
print("x is", config["x"])
print("Warning: few rows")

# %%
open("out.csv", "w").write("1,2")
assert config["x"] != 2, "two"

# %%
print("the end")
"""
PLACE = "flows/fit.py:10: AssertionError: two"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """An orange run, a red one, a build that is red by its flow, and an instance that never ran."""
    project = TinyProject(tmp_path_factory.mktemp("looking") / "project")
    project.flow("fit", FLOW)
    project.flow(
        "all",
        "from ductaflow import run_notebook\n"
        "run_notebook('flows/fit.py', config={'x': 2}, execution_dir='runs/fit')",
        kind="builds",
    )
    project.config("flows/fit/good.json", x=1, api_key="hidden")
    project.config("flows/fit/red.json", x=2)
    project.config("builds/all/b.json")
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from ductaflow.cli.app import main; main()",
            "run",
            "fit/good",
            "fit/red",
            "all/b",
        ],
        cwd=project.root,
        capture_output=True,
        check=False,
    )
    project.config("flows/fit/never.json", x=3)
    return project


@pytest.fixture
def project(ran: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    monkeypatch.chdir(ran.root)
    return ran


def words(line: str) -> list[str]:
    return line.split()


def test_status_tells_the_last_run_of_each(project: TinyProject) -> None:
    """One line each with its message, the worst first, the counts at the end; red makes the exit code 1."""
    done = cli("status")
    *lines, counts = done.output.splitlines()

    assert 1 == done.exit_code
    assert [["error", "all/b"], ["error", "fit/red"], ["warning", "fit/good"], ["never", "fit/never"]] == [
        words(line)[:2] for line in lines
    ]
    assert lines[0].endswith(f"{PLACE} (in fit)")
    assert lines[1].endswith(PLACE)
    assert "s" == words(lines[2])[5]
    assert "2 error, 1 warning, 1 never" == counts


def test_status_of_some(project: TinyProject) -> None:
    """By id, title or run folder, also that of a flow inside a build; without a red one the code is 0."""
    done = cli("status", "fit[good]", "fit/never")
    assert (0, 3) == (done.exit_code, len(done.output.splitlines()))
    done = cli("status", "runs/all/b/runs/fit")
    assert 1 == done.exit_code
    assert ["error", "runs/all/b/runs/fit"] == words(done.output)[:2]


def test_status_of_a_flow(project: TinyProject) -> None:
    """Its name stands for all its stored instances; what takes one instance says how to find it."""
    assert ["fit/red", "fit/good", "fit/never"] == [
        words(line)[1] for line in cli("status", "fit").output.splitlines()[:-1]
    ]
    assert ["fit/good", "fit/never", "fit/red"] == cli("list", "fit", "fit/red").output.splitlines()
    assert 3 == cli("plan", "fit").output.count("  fit/")
    assert "all/b" not in cli("graph", "fit").output
    assert cli("show", "all/b").output == cli("show", "all").output
    many = cli("show", "fit")
    assert (2, True) == (many.exit_code, "fit has 3 instances" in many.output)


@pytest.mark.parametrize(
    ("asked", "ids", "code"),
    [
        ("error", ["all/b", "fit/red"], 1),
        ("red", ["all/b", "fit/red"], 1),
        ("warning,never", ["fit/good", "fit/never"], 0),
        ("orange, not_run", ["fit/good", "fit/never"], 0),
        ("lost", [], 0),
    ],
)
def test_some_statuses_may_be_asked_for(project: TinyProject, asked: str, ids: list[str], code: int) -> None:
    """By their names or by what stands for them; alike in all that show last runs."""
    records = cli("status", "--status", asked, "--json")
    assert (ids, code) == ([one["id"] for one in json.loads(records.output)], records.exit_code)
    assert ids == cli("list", "--status", asked).output.split()
    shown = cli("results", "--status", asked, "--json").output.rpartition("]")[0] + "]"
    assert ids == [one["instance"] for one in json.loads(shown)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "--status", "eror"), "Did you mean error?"),
        (("list", "--status", "blocked"), "See also: ductaflow plan --status blocked"),
        (("plan", "--status", "lost"), "See also: ductaflow status --status lost"),
        (("results", "--status", ","), "--status names no status"),
        (("clean", "--json"), "add --dry-run"),
        (("graph", "--json", "--format", "dot"), "--json is --format json, and --format dot is given too."),
    ],
)
def test_what_cannot_be_asked_for_is_said(
    project: TinyProject, arguments: tuple[str, ...], said: str
) -> None:
    """With what to ask for instead, and exit code 2."""
    done = cli(*arguments)
    assert (2, True) == (done.exit_code, said in done.output), done.output


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("status", "fit/red"), "id status finished started seconds cause message warnings is_error"),
        (("list", "fit/red"), "id flow instance kind tags file source run_folder problem"),
        (("plan", "fit/red"), "instances jobs seconds waits alone"),
        (("why", "fit/red"), "id is_unchanged changes notes runs_before other_versions"),
        (("graph", "fit/red"), "nodes edges"),
        (("diff", "fit/good", "fit/good"), "diffs left_out"),
        (("accept", "--dry-run", "fit/good"), "id values files notes"),
    ],
)
def test_each_table_has_records_for_programs(
    project: TinyProject, arguments: tuple[str, ...], keys: str
) -> None:
    """Programs rely on these keys; more may come."""
    found = json.loads(cli(*arguments, "--json").output)
    assert keys.split() == list(found[0] if isinstance(found, list) else found)


def test_show_has_all_of_a_run_as_a_record(project: TinyProject) -> None:
    """With the config as it is stored, secrets masked."""
    one = json.loads(cli("show", "fit/good", "--json").output)
    assert ("warning", {"x": 1, "api_key": "***"}, []) == (one["status"], one["config"], one["changed_since"])
    assert ["out.csv"] == [output["path"] for output in one["result"]["outputs"]]
    assert "hidden" not in json.dumps(one)


@pytest.mark.parametrize("arguments", [("status", "--json"), ("list", "--json"), ("plan", "--json")])
def test_records_of_a_broken_project_are_an_error(fresh: TinyProject, arguments: tuple[str, ...]) -> None:
    """Said on standard error; nothing on standard output could be taken for records."""
    (fresh.root / "pyproject.toml").write_text("[tool.ductaflow]\ntimeuot = 3\n")
    done = cli(*arguments)
    assert (2, "") == (done.exit_code, done.stdout)
    assert "timeuot" in done.stderr


@pytest.mark.parametrize(
    ("variables", "is_red"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"PY_COLORS": "1", "NO_COLOR": "1"}, True),
        ({"PY_COLORS": "0", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_are_where_they_are_wanted(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_red: bool
) -> None:
    """The word of a status has its colour; all else is plain, and so is what JSON gives."""
    for name in ("FORCE_COLOR", "NO_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    runner = CliRunner(env=dict(variables))
    for command, word in (("status", "error     "), ("plan", "run       "), ("results", "error  ")):
        text = runner.invoke(main, [command, "fit"]).output
        assert is_red == (f"m{word}\x1b[0m" in text), text
        assert text.count("\x1b[0m") == (3 if is_red and command == "plan" else 2 * is_red), text
    assert "\x1b" not in runner.invoke(main, ["status", "--json"]).output


@pytest.mark.parametrize("text", [None, "[1]", "{", '{"schema": 1}'])
def test_status_where_one_result_cannot_be_read(fresh: TinyProject, text: str | None) -> None:
    """That row says what is wrong and what to do, and counts as red; the others have theirs."""
    file = fresh.folder("fit", "red") / "result.json"
    file.mkdir(parents=True) if text is None else (file.parent.mkdir(parents=True), file.write_text(text))
    done = cli("status")
    (row,) = [line for line in done.output.splitlines() if line.startswith("unreadable")]
    assert 1 == done.exit_code
    assert f"{file}: " in row
    assert "Remove it, or run the instance again" in row
    assert "attribute" not in row
    assert any(line.startswith("never") for line in done.output.splitlines())
    one = cli("show", "fit/red")
    assert (2, True) == (one.exit_code, one.output.startswith(f"Error: {file}: ")), one.output


@pytest.mark.parametrize(
    "arguments", [("status",), ("show", "fit/red"), ("debug", "fit/red"), ("logs", "--errors")]
)
def test_runs_that_is_a_file(fresh: TinyProject, arguments: tuple[str, ...]) -> None:
    """Commands name the file and the remedy."""
    (fresh.root / "runs").write_text("")
    done = cli(*arguments)
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit)
    assert f"{fresh.root / 'runs'} is a file, where a folder is meant to be" in done.output
    assert "Move it away" in done.output


def test_logs_of_which_one_cannot_be_read(fresh: TinyProject) -> None:
    """The others are printed; what cannot be read is named at the end, with exit code 2."""
    log = fresh.folder("fit", "good") / "fit_execution_output.txt"
    log.mkdir(parents=True)
    other = fresh.folder("fit", "red") / "fit_execution_output.txt"
    other.parent.mkdir(parents=True)
    other.write_text("read me\n")
    done = cli("logs")
    assert (2, True) == (done.exit_code, "read me" in done.output)
    assert f"Error: {log}: cannot be used: Is a directory" in done.output


def test_what_a_terminal_would_obey_is_spelled_out(fresh: TinyProject) -> None:
    """Control characters and marks that turn the writing around, in all that commands print of a flow."""
    folder = fresh.folder("fit", "red")
    folder.mkdir(parents=True)
    odd = "a\0b\x08c\u202ed\x1b[31me\tf"
    write_result(Outcome("fit", "red", "flow", Status.ERROR, "exception", odd), folder)
    (folder / "fit_execution_output.txt").write_text(f"{odd}\n")
    for arguments in (["status"], ["show", "fit/red"], ["logs", "fit/red"], ["logs", "--errors"]):
        assert "a\\x00b\\x08c\\u202ede\tf" in cli(*arguments).output, arguments


def test_status_of_a_run_that_goes_on_and_of_one_that_was_killed(project: TinyProject) -> None:
    """Both have a marker; only the first has somebody who holds the folder."""
    code = (
        "import os, sys; from pathlib import Path; from ductaflow.store.folder import Claim, Owner\n"
        "from ductaflow.common.paths import RunFolder\n"
        "now = '2026-01-02T03:04:05.000Z'\n"
        "owner = Owner('fit', 'never', 'r', 's', __import__('socket').gethostname(), os.getpid(), now)\n"
        "folder = RunFolder(Path('runs/fit/never').absolute(), 'fit')\n"
        "claim = Claim.take(folder, Path('runs').absolute(), owner)\n"
        "print('held', flush=True); sys.stdin.read(); os._exit(1)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=project.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout
    assert holder.stdin
    with holder:
        assert b"held" in holder.stdout.readline()
        running = cli("status", "fit/never")
        holder.stdin.close()
    lost = cli("status", "fit/never")
    for left in (project.root / "runs" / ".ductaflow" / "running").glob("*"):
        left.unlink()

    assert (0, "running") == (running.exit_code, words(running.output)[0])
    assert (1, "lost") == (lost.exit_code, words(lost.output)[0])
    assert "never came to its end" in lost.output


def test_logs_are_printed_as_they_are(project: TinyProject) -> None:
    """One without a heading, several with one each."""
    log = (project.folder("fit", "good") / "fit_execution_output.txt").read_text()
    assert log == cli("logs", "fit/good").output
    several = cli("logs", "fit/good", "fit/red").output
    assert f"==> fit/good <==\n{log}\n==> fit/red <==\n" in several


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--warnings", "fit/good"], ["runs/fit/good/fit_execution_output.txt:3: Warning: few rows"]),
        (["--grep", "x is [12]", "fit/good"], ["runs/fit/good/fit_execution_output.txt:2: x is 1"]),
        (["--warnings", "--grep", "x is"], []),
        (["--errors", "fit/good"], []),
        (["--errors", "--grep", "no such text"], []),
    ],
)
def test_logs_with_what_is_looked_for(
    project: TinyProject, arguments: list[str], expected: list[str]
) -> None:
    """Lines of logs have their place, which can be clicked."""
    assert [expected, 0] == [cli("logs", *arguments).output.splitlines(), cli("logs", *arguments).exit_code]


def test_logs_with_errors_tell_why_runs_are_red(project: TinyProject) -> None:
    """The message, and the flow's own traceback."""
    lines = cli("logs", "--errors", "fit/red", "fit/good").output.splitlines()
    assert f"==> fit/red: {PLACE}" == lines[0]
    assert "AssertionError: two" == lines[-1]
    assert any("flows/fit.py" in line and "line 10" in line for line in lines)


def test_logs_with_a_bad_expression(project: TinyProject) -> None:
    """Said in a sentence, with exit code 2."""
    done = cli("logs", "--grep", "(")
    assert 2 == done.exit_code
    assert done.output.startswith("Error: --grep ( is not a regular expression")


def test_show_tells_all_that_is_known(project: TinyProject) -> None:
    """Verdict and cause first; a secret is masked."""
    red = cli("show", "fit/red").output
    assert red.startswith("fit/red: error  ")
    for text in (
        f"  {PLACE}\n",
        '  >    10  assert config["x"] != 2, "two"',
        'config (config/flows/fit/red.json)\n  {\n    "x": 2\n  }',
        "             3  out.csv",
        "warnings\n  3: Warning: few rows",
        f"  log           {Path('runs/fit/red/fit_execution_output.txt')}",
        "  run again     ductaflow run fit/red",
        '  stop in it    pytest --ductaflow --pdb "config/flows/fit/red.json::fit[red]"',
    ):
        assert text in red
    good = cli("show", "fit/good").output
    assert '"api_key": "***"' in good
    assert "hidden" not in good
    assert "never\n" == cli("show", "fit/never").output.partition("fit/never: ")[2][:6]


def test_show_has_metrics_and_what_is_none(tmp_path: Path) -> None:
    """As people read them, the first twenty; what its files hold besides is named."""
    metrics = {"rmse": 0.31249999, "peak.mw": None, "\x1b[31mzone": "n\ns", **{f"m{n}": n for n in range(20)}}
    folder = tmp_path / "runs" / "fit" / "a"
    outputs = (FileEntry(path="metrics.json", size=2),)
    stored(tmp_path / "runs", a_result("success", metrics=metrics, outputs=outputs))
    (folder / "metrics.json").write_text('{"hours": [1, 2]}')
    TinyProject(tmp_path).config("flows/fit/a.json")
    line = {
        "session_id": "s0",
        "finished": "2026-11-01T12:00:00Z",
        "numbers": {"fit/a": {"m0": 4, "rmse": 0.31249999}},
    }
    (tmp_path / "runs" / ".ductaflow").mkdir()
    (tmp_path / "runs" / ".ductaflow" / "metrics.jsonl").write_text(json.dumps(line))
    shown = cli("show", "fit/a", "--project", tmp_path).output
    lines = shown.partition("\nmetrics\n")[2].partition("\n\n")[0].split("\n")
    assert ["  rmse     0.3125", "  peak.mw  NaN", "  zone     n"] == lines[:3]
    assert lines[3].startswith("  m0       0  was 4 on 2026-11-01 ")
    assert ["  and 3 more", '  metrics.json: "hours" is a list, which is no metric'] == lines[-2:]


def test_show_names_the_flows_of_a_build_and_what_changed_since(project: TinyProject) -> None:
    """A flow of a build by its folder; a config that was edited by its keys."""
    assert f"flows\n  error       {Path('runs/all/b/runs/fit')}  {PLACE}" in cli("show", "all/b").output
    project.config("flows/fit/good.json", x=7, api_key="hidden", more=1)
    try:
        assert "  changed since the last run: x, more" in cli("show", "fit/good").output
    finally:
        project.config("flows/fit/good.json", x=1, api_key="hidden")
    flow = cli("show", "runs/all/b/runs/fit").output
    assert '"x": 2' in flow
    assert "run again     ductaflow run runs/all/b/runs/fit" in flow


# --- debug -------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """A project of which nothing has run."""
    project = TinyProject(tmp_path / "project")
    project.flow("fit", FLOW)
    project.config("flows/fit/good.json", x=1)
    project.config("flows/fit/red.json", x=2)
    monkeypatch.chdir(project.root)
    return project


def test_debug_prepares_the_folder_and_writes_a_launch_configuration(fresh: TinyProject) -> None:
    """The notebook and the config are there, nothing has run; an existing launch.json stays as it is.

    Its paths are those of the workspace, so that it can be committed.
    """
    first = cli("debug", "fit/good")
    folder, file = fresh.folder("fit", "good"), fresh.root / ".vscode" / "launch.json"
    (launch,) = json.loads(file.read_text())["configurations"]
    text = file.read_text()
    again = cli("debug", "fit/good")
    other = cli("debug", "fit/red")

    assert 0 == first.exit_code
    assert ["fit.ipynb", "fit_config.json"] == sorted(path.name for path in folder.iterdir())
    assert ("${workspaceFolder}/flows/fit.py", "${workspaceFolder}") == (launch["program"], launch["cwd"])
    assert ["${workspaceFolder}/runs/fit/good/fit_config.json", "${workspaceFolder}/runs/fit/good"] == launch[
        "args"
    ][1::2]
    assert str(fresh.root) not in text
    assert f"{Path('.vscode/launch.json')} is written" in first.output
    assert f'{Path(".vscode/launch.json")} has "fit[good]"' in again.output
    assert "fit[red]" == json.loads(other.output[other.output.index("\n{") :])["name"]
    assert text == file.read_text()


def cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_prepared_notebook_keeps_outputs_up_to_the_failing_cell(
    fresh: TinyProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also when it is prepared twice; what has been edited since has none. --notebook opens it in Jupyter."""
    assert 1 == cli("run", "fit/red").exit_code
    notebook = fresh.folder("fit", "red") / "fit.ipynb"
    cli("debug", "fit/red")
    opener = tmp_path / "bin" / "jupyter-lab"
    opener.parent.mkdir()
    opener.write_text('#!/bin/sh\necho "$1" > "$(dirname "$0")/opened"\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{opener.parent}{os.pathsep}{os.environ['PATH']}")
    done = cli("debug", "fit/red", "--notebook")
    kinds = [[output["output_type"] for output in cell["outputs"]] for cell in cells(notebook)]
    (fresh.root / "flows" / "fit.py").write_text(
        (fresh.root / "flows" / "fit.py").read_text().replace("x is", "x was")
    )
    cli("debug", "fit/red")

    assert 0 == done.exit_code, done.output
    assert f"{notebook}\n" == (opener.parent / "opened").read_text()
    assert [] == kinds[0] == kinds[1]
    assert "stream" == kinds[2][0]
    assert "error" == kinds[3][-1]
    assert [] == kinds[4]
    assert not any(cell["outputs"] for cell in cells(notebook))


def test_debug_without_jupyter_says_so(fresh: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook is prepared, the way on is named."""
    monkeypatch.setenv("PATH", "")
    done = cli("debug", "fit/red", "--notebook")
    assert 2 == done.exit_code
    assert "pip install jupyterlab" in done.output
    assert (fresh.folder("fit", "red") / "fit.ipynb").exists()


def test_debug_of_a_run_folder_takes_the_config_that_it_ran_with(project: TinyProject) -> None:
    """Also of a flow inside a build, which has no stored config."""
    done = cli("debug", "runs/all/b/runs/fit")
    folder = project.root / "runs/all/b/runs/fit"
    assert 0 == done.exit_code, done.output
    assert 2 == json.loads((folder / "fit_config.json").read_text())["x"]
    assert any(
        "'x': 2" in text or '"x": 2' in text
        for text in ("".join(c["source"]) for c in cells(folder / "fit.ipynb"))
    )
    result = read_result(folder)
    assert result is not None
    assert "error" == result.status
