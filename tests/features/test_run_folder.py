"""The run folder over several sessions: every kind of entry, what stays, and who writes which file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import nbformat
import pytest
from support import TinyProject

from ductaflow.common.paths import RunFolder
from ductaflow.execution import warm
from ductaflow.execution.page_orders import PAGES
from ductaflow.notebook.export import announce_page, make_page
from ductaflow.store.result import Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX"),
]

#: What a flow may make in its folder, as its last cell; `root` is the project.
MAKES = {
    "link": 'os.symlink(root / "inputs/a.csv", "latest.csv")',
    "relative": 'os.symlink("data.csv", "latest.csv"); Path("data.csv").write_text("1")',
    "to_folder": 'os.symlink(root / "inputs", "staged")',
    "dangling": 'os.symlink("nowhere", "dangling")',
    "loop": 'os.symlink("loop", "loop")',
    "empty": 'os.mkdir("plots")',
    "nested_empty": 'os.makedirs("plots/2030/summer"); os.mkdir("plots/2031")',
    "link_inside": 'os.mkdir("sub"); os.symlink(root / "inputs/a.csv", "sub/l"); Path("sub/x").touch()',
    "scratch": 'os.mkdir("tmp"); Path("tmp/x").touch(); os.remove("tmp/x")',
    "pipe": 'os.mkfifo("pipe")',
    "a_socket": 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("sock")',
    "hard_link": 'os.link(root / "inputs/a.csv", "hard.csv")',
    "locked": (
        'os.makedirs("locked/in/side"); Path("locked/x").touch(0o444); '
        'os.chmod("locked/in", 0o555); os.chmod("locked", 0o555)'
    ),
    "odd_names": (
        "here = os.fsencode(os.getcwd()) + b'/'; "
        "[open(here + name, 'x').close() for name in (b'new\\nline', b'tab\\t', b'bad\\xff', b' ')]; "
        "os.symlink(b'x\\xfd', b'bad\\xfe'); os.mkdir(b'dir\\xff\\n')"
    ),
    "changes_kind": 'os.symlink(root / "inputs", "out") if (root / "again").exists() else os.mkdir("out")',
    "over_a_link": (
        'Path("out.csv").write_text("new") if (root / "again").exists() '
        'else os.symlink(root / "inputs/a.csv", "out.csv")'
    ),
}
FIRST = "# %%\nimport os\nfrom pathlib import Path\nroot = Path(config['_project_root'])\n"
AS_SCRIPT = """# %%
from ductaflow import is_notebook_execution, load_cli_config
if not is_notebook_execution():
    config = load_cli_config("config/flows/{flow}.json", "x")
"""


def make(project: TinyProject, name: str, code: str, **config: object) -> None:
    """A flow that runs in every way, with one instance."""
    (project.root / "inputs").mkdir(exist_ok=True)
    (project.root / "inputs" / "a.csv").write_text("original")
    project.flow(name, AS_SCRIPT.format(flow=name) + FIRST + code + "\n")
    project.config(f"flows/{name}.json", **config)


def names_in(folder: Path) -> set[str]:
    """What a flow made in its folder, links by their own names, folders only if they are empty."""
    found = set()
    for place, folders, files in os.walk(folder):
        links = {name for name in folders if os.path.islink(os.path.join(place, name))}
        found |= {os.path.relpath(os.path.join(place, name), folder) for name in [*files, *links]}
        if not folders and not files:
            found.add(os.path.relpath(place, folder))
    flow = folder.parent.name
    return {name for name in found if not name.startswith((f"{flow}.", f"{flow}_", "result.json"))}


Names = Collection[str]


def by_library(project: TinyProject, flows: Names) -> None:
    for name in flows:
        result = project.run(f"{name}/default")
        assert Status.SUCCESS == result.status, result.message


def by_command(project: TinyProject, flows: Names) -> None:
    project.output("run", *flows)


def by_pytest(project: TinyProject, flows: Names) -> None:
    session = project.pytest("-q")
    assert 0 == session.code, session.out


def by_conduct(project: TinyProject, flows: Names) -> None:
    script = project.root / "go.py"
    script.write_text(
        "import pandas as pd\nfrom ductaflow import conduct\n"
        f"for flow in {list(flows)}:\n"
        '    table = pd.DataFrame({"instance": ["default"]})\n'
        "    done = conduct(table, flow, only_changed=False, progress=False)\n"
        '    assert ["success"] == list(done["status"]), done["message"][0]\n'
    )
    subprocess.run([sys.executable, script], cwd=project.root, check=True, capture_output=True)


def by_script(project: TinyProject, flows: Names) -> None:
    for name in flows:
        source = project.root / "flows" / f"{name}.py"
        command = [sys.executable, source, "--output-dir", f"runs/{name}/default"]
        done = subprocess.run(command, cwd=project.root, check=False, capture_output=True, text=True)
        assert 0 == done.returncode, done.stdout + done.stderr


Way = Callable[[TinyProject, Names], None]
#: Besides the library with the warm engine, which does it all in one server.
WAYS: list[tuple[Way, str]] = [
    *((way, "warm") for way in (by_command, by_pytest, by_conduct, by_script)),
    (by_library, "fresh"),
]
#: How a claim treats an entry does not depend on who makes it: each way makes some, in one flow.
SOME = {
    "some": "\n".join(MAKES[entry] for entry in ("link", "nested_empty", "pipe", "locked", "over_a_link"))
}


@pytest.mark.parametrize(
    ("way", "engine", "flows"),
    [
        pytest.param(by_library, "warm", MAKES, id="all"),
        *(pytest.param(way, engine, SOME, id=f"{way.__name__}-{engine}") for way, engine in WAYS),
        *(
            pytest.param(*one, MAKES, id=f"{one[0].__name__}-{one[1]}-all", marks=pytest.mark.campaign)
            for one in WAYS
        ),
    ],
)
def test_a_flow_works_again_whatever_it_made(
    project: TinyProject, way: Way, engine: str, flows: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of entry is an output, and the next run moves it away, never through a link."""
    if engine == "fresh":
        monkeypatch.setenv(warm.SERVER, warm.OFF)
    for name, code in flows.items():
        make(project, name, code)
    for _ in range(2):
        way(project, flows)
        for name in flows:
            outputs = {output["path"] for output in project.result(name, "default").outputs}
            assert names_in(project.folder(name, "default")) == outputs != set(), name
        (project.root / "again").touch()
    assert "original" == (project.root / "inputs" / "a.csv").read_text()
    assert ["a.csv"] == os.listdir(project.root / "inputs")
    *_, last = flows
    assert "new" == (project.folder(last, "default") / "out.csv").read_text()
    kept = project.root / "runs/.ductaflow/previous" / last / "default/out.csv"
    assert str(project.root / "inputs/a.csv") == os.readlink(kept)


@pytest.mark.parametrize("ending", ["error", "killed"])
def test_a_link_of_a_run_that_failed_is_not_written_through(project: TinyProject, ending: str) -> None:
    """An input is safe from what any earlier run left, not only from what a good one left."""
    end = {"error": "1 / 0", "killed": "os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)"}[ending]
    make(project, "f", f'os.symlink(root / "inputs/a.csv", "out.csv"); {end}')
    assert 1 == project.cli("run", "f").exit_code
    make(project, "f", 'Path("out.csv").write_text("new")')
    project.output("run", "f")
    assert "original" == (project.root / "inputs" / "a.csv").read_text()
    assert "new" == (project.folder("f", "default") / "out.csv").read_text()


def test_a_link_of_an_earlier_run_is_not_taken_for_a_new_one(project: TinyProject) -> None:
    """What reads from a run that did not make its link this time fails."""
    make(project, "prep", 'if config["do"]: os.symlink(root / "inputs/a.csv", "clean.csv")', do=True)
    make(project, "report", 'Path("out").write_text((root / config["clean"]).read_text())')
    project.config("flows/report.json", clean="runs/prep/default/clean.csv")
    project.output("run", "prep", "report")
    project.config("flows/prep.json", do=False)
    assert 1 == project.cli("run", "prep", "report").exit_code
    assert Status.SUCCESS == project.result("prep", "default").status
    assert "FileNotFoundError" in project.result("report", "default").message


@pytest.mark.parametrize(
    ("code", "edit", "why"),
    [
        ("link", "rm runs/f/default/latest.csv", "latest.csv is gone"),
        ("link", "ln -sfn /etc/hostname runs/f/default/latest.csv", "latest.csv points to /etc/hostname"),
        ("link", "rm runs/f/default/latest.csv; cp inputs/a.csv runs/f/default/latest.csv", "is a file now"),
        ("dangling", "rm runs/f/default/dangling", "dangling is gone"),
        ("empty", "rmdir runs/f/default/plots", "plots is gone"),
        ("empty", "rmdir runs/f/default/plots; touch runs/f/default/plots", "plots is a file now"),
        ("nested_empty", "rmdir runs/f/default/plots/2031", "plots/2031 is gone"),
        ("pipe", "rm runs/f/default/pipe", "pipe is gone"),
        ("to_folder", "touch inputs/more.csv", "inputs/more.csv is new"),
        ("link", "echo other > inputs/a.csv", "inputs/a.csv has other content"),
        ("empty", "touch runs/f/default/plots/note", None),
        ("empty", "chmod 700 runs/f/default/plots", None),
    ],
)
def test_an_output_of_any_kind_that_is_gone_or_another_one_is_noticed(
    project: TinyProject, code: str, edit: str, why: str | None
) -> None:
    """`why` names it and `run --changed` makes it again; who links to a file may read it through the link."""
    make(project, "f", MAKES[code])
    project.output("run", "f")
    before = names_in(project.folder("f", "default"))
    subprocess.run(edit, shell=True, cwd=project.root, check=True)
    said = project.output("why", "f/default")
    if why is None:
        assert "f/default is unchanged" in said
    else:
        assert why in said
        assert "1 success" in project.output("run", "--changed")
        assert before == names_in(project.folder("f", "default"))
    assert "f/default is unchanged" in project.output("why", "f/default")


def test_what_reads_through_a_link_runs_again_when_its_target_changes(project: TinyProject) -> None:
    """The link is an output of one; what lies behind it is an input of both."""
    make(project, "prep", MAKES["link"])
    make(project, "report", 'Path("out").write_text((root / config["clean"]).read_text())')
    project.config("flows/report.json", clean="runs/prep/default/latest.csv")
    project.output("run", "prep", "report")
    (project.root / "inputs" / "a.csv").write_text("other")
    assert "2 success" in project.output("run", "--changed")
    assert "other" == (project.folder("report", "default") / "out").read_text()


def test_a_persons_own_entries_stay(project: TinyProject) -> None:
    """Links, folders and pipes that a person made are no outputs, also where a run writes beside them."""
    make(project, "f", 'Path("plots/a.png").touch(); Path("plots/new").mkdir(); Path("x").touch()')
    folder = project.folder("f", "default")
    (folder / "plots").mkdir(parents=True)
    (folder / "mine").mkdir()
    os.symlink("../../../inputs", folder / "link")
    os.mkfifo(folder / "pipe")
    for _ in range(3):
        project.output("run", "f")
        outputs = [output["path"] for output in project.result("f", "default").outputs]
        assert ["plots/a.png", "plots/new", "x"] == outputs
    project.flow("f", "1\n")
    project.output("run", "f")
    assert {"plots", "mine", "link", "pipe"} == names_in(folder)
    assert [] == list(project.result("f", "default").outputs)


def test_a_build_keeps_to_its_own_entries(project: TinyProject) -> None:
    """Links and empty folders of a build's flow are the flow's, and both work again."""
    make(project, "f", MAKES["link"] + '; os.mkdir("plots")')
    build = FIRST + (
        "from ductaflow import run_notebook\n"
        'run_notebook("flows/f.py", config={}, execution_dir="runs/f/x")\n'
        'os.mkdir("empty"); os.symlink("runs/f/x/latest.csv", "latest.csv")\n'
    )
    project.flow("b", build, kind="builds")
    project.config("builds/b.json")
    for _ in range(3):
        project.output("run", "b")
        result = project.result("b", "default")
        assert ["empty", "latest.csv"] == [output["path"] for output in result.outputs]
    nested = json.loads((result.folder / "runs/f/x/result.json").read_text()) if result.folder else {}
    assert ["latest.csv", "plots"] == [output["path"] for output in nested["outputs"]]
    kept = project.root / "runs/.ductaflow/previous/b/default"
    assert {"empty", "latest.csv", "runs/f/x/latest.csv", "runs/f/x/plots"} <= names_in(kept)


# --- two writers of one name -------------------------------------------------------------------------------

WRITES = {
    "result": ("result.json", 'Path("result.json").write_text("mine")', "result.flow.json"),
    "result by another name": (
        "result.json",
        'Path("x").write_text("mine"); os.replace("x", "result.json")',
        "result.flow.json",
    ),
    "result by a program": (
        "result.json",
        'import subprocess; subprocess.run("echo -n mine > result.json", shell=True)',
        "result.flow.json",
    ),
    "result as a link": (
        "result.json",
        'Path("x").write_text("mine"); os.symlink("x", "result.json")',
        "result.flow.json",
    ),
    "notebook": ("f.ipynb", 'Path("f.ipynb").write_text("mine")', "f.flow.ipynb"),
    "notebook by a program": (
        "f.ipynb",
        'import subprocess; subprocess.run("echo -n mine > f.ipynb", shell=True)',
        "f.flow.ipynb",
    ),
    "config": ("f_config.json", 'Path("f_config.json").write_text("mine")', "f_config.flow.json"),
    "page": ("f.html", 'Path("f.html").write_text("mine")', "f.flow.html"),
    "replaced log": (
        "f_execution_output.txt",
        'Path("x").write_text("mine"); os.replace("x", "f_execution_output.txt")',
        "f_execution_output.flow.txt",
    ),
    "other log": (
        "f_cli_execution_output.txt",
        'Path("f_cli_execution_output.txt").write_text("mine")',
        "f_cli_execution_output.flow.txt",
    ),
}


@pytest.mark.parametrize(
    ("engine", "what"), [*(("warm", what) for what in WRITES), ("fresh", "notebook"), ("fresh", "page")]
)
def test_a_file_of_the_flow_with_a_name_of_ours_is_kept_aside(
    project: TinyProject, what: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in an error that names both files; the next run of a mended flow is good."""
    if engine == "fresh":
        monkeypatch.setenv(warm.SERVER, warm.OFF)
    name, code, aside = WRITES[what]
    make(project, "f", f'{code}\n# %%\nPath("data.csv").touch()')
    done = project.cli("run", "f")
    assert 1 == done.exit_code
    folder = project.folder("f", "default")
    result = project.result("f", "default")
    assert (Status.ERROR, "exception") == (result.status, result.cause)
    assert f"the flow wrote {name}," in result.message
    assert f"kept as {aside}" in result.message
    assert "mine" == (folder / aside).read_text()
    assert {aside, "data.csv"} <= {output["path"] for output in result.outputs}
    json.loads((folder / "f.ipynb").read_text())
    json.loads((folder / "f_config.json").read_text())
    assert "Starting f" in (folder / "f_execution_output.txt").read_text()
    assert "mine" != (folder / "f.html").read_text()
    make(project, "f", 'Path("data.csv").touch()')
    project.output("run", "f")
    assert {"data.csv"} == names_in(folder)


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_flow_that_writes_into_its_log_by_name_gets_an_error(project: TinyProject, mode: str) -> None:
    """Its text is in a copy, as far as the log has it."""
    make(project, "f", f'with open("f_execution_output.txt", "{mode}") as f: f.write("mine")')
    assert 1 == project.cli("run", "f").exit_code
    assert "the flow wrote f_execution_output.txt" in project.result("f", "default").message
    assert "mine" in (project.folder("f", "default") / "f_execution_output.flow.txt").read_text()


def test_what_a_script_wrote_under_names_of_ours_is_kept_aside_too(project: TinyProject) -> None:
    """A script has no notebook and no page, so those are the flow's."""
    names = ("f.ipynb", "f.html", "result.json", "f_execution_output.txt")
    code = f'for name in {names}: Path(name).write_text("mine")'
    make(project, "f", code)
    command = [sys.executable, "flows/f.py", "--output-dir", "runs/f/default"]
    done = subprocess.run(command, cwd=project.root, check=False, capture_output=True, text=True)
    assert 1 == done.returncode
    folder = project.folder("f", "default")
    for name in ("f.flow.ipynb", "f.flow.html", "result.flow.json", "f_execution_output.flow.txt"):
        assert "mine" == (folder / name).read_text()


def test_a_failure_of_the_flow_comes_first(project: TinyProject) -> None:
    """What was kept aside is said besides; a second file gets a name of its own."""
    code = 'Path("result.json").write_text("one"); Path("result.flow.json").write_text("two"); 1 / 0'
    make(project, "f", code)
    assert 1 == project.cli("run", "f").exit_code
    message = project.result("f", "default").message
    assert "ZeroDivisionError" in message.split(";")[0]
    assert "kept as result.flow2.json" in message
    folder = project.folder("f", "default")
    assert ["one", "two"] == [(folder / f"result.flow{n}.json").read_text() for n in ("2", "")]


# --- the folder itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "warned"),
    [
        ("runs/f/{instance}/state.txt", True),
        ("./runs//f/default", True),
        ("{project_root}/runs/f/default/state.txt", True),
        ("runs/f/default2/state.txt", False),
        ("runs/f/default*/state.txt", False),
        ("inputs/a.csv", False),
    ],
)
def test_a_config_that_names_its_own_run_folder_gets_a_warning(
    project: TinyProject, value: str, warned: bool
) -> None:
    """What lay there was moved away before the run, so that the flow finds nothing."""
    make(project, "f", "1")
    project.config("flows/f/default.json", nested={"state": [value]})
    project.config("flows/f/default2.json")
    project.output("run", "f/default2", "f/default")
    result = project.result("f", "default")
    assert warned == (result.status is Status.WARNING)
    assert warned == any("which is emptied before it runs" in line.text for line in result.warnings)


@pytest.mark.parametrize("how", ["shutil.rmtree(os.getcwd())", 'os.system("rm -rf $PWD")'])
@pytest.mark.parametrize("engine", ["warm", "fresh"])
def test_a_flow_that_removes_its_own_run_folder(
    project: TinyProject, how: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what happened, whatever failed after it; the next run is as good as ever."""
    if engine == "fresh":
        monkeypatch.setenv(warm.SERVER, warm.OFF)
    make(project, "f", f"import shutil; {how}\n# %%\n1")
    assert 1 == project.cli("run", "f").exit_code
    assert "the run folder was removed while it ran" == project.result("f", "default").message
    make(project, "f", "1")
    project.output("run", "f")


def test_a_variable_of_the_environment_stays_small_whatever_a_config_needs(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of needs do not keep a flow from starting processes, which know their run all the same."""
    code = (
        "import json, subprocess, sys\n"
        'small = len(os.environ["DUCTAFLOW_RUN"]) < 10_000\n'
        'subprocess.run(["true"], check=True)\n'
        'ask = "from ductaflow.store.spec import current_run; print(current_run().options.needs[-1])"\n'
        'said = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)\n'
        'Path("said.txt").write_text(f"{small} {said.stdout.strip()}")'
    )
    needs = [f"a_flow_with_a_long_name/instance_{number:05}" for number in range(4000)]
    make(project, "f", code, _run={"needs": needs, "skip": None})
    project.flow("a_flow_with_a_long_name", "1")
    for is_fresh in (False, True):
        if is_fresh:
            monkeypatch.setenv(warm.SERVER, warm.OFF)
        result = project.run("f/default")
        assert Status.SUCCESS == result.status, result.message
        said = (project.folder("f", "default") / "said.txt").read_text()
        assert f"True {needs[-1]}" == said
    assert [] == list((project.root / "runs/.ductaflow/running").glob("*.spec"))


# --- a supervisor that is killed late ----------------------------------------------------------------------

#: Kills the process that does something with a file; once, as the file `armed` says.
KILLER = """
import os, signal, sys

def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("f.html"):
        is_meant = WHEN == "page" and os.stat(arguments[0]).st_size > 5_000
    elif event == "os.rename" and str(arguments[1]).endswith(("result.json", "f_config.json")):
        is_meant = os.path.basename(str(arguments[1])) == WHEN
    else:
        is_meant = event == "os.remove" and str(arguments[0]).endswith(".events") and WHEN == "events"
    if is_meant and os.path.exists(ARMED):
        os.unlink(ARMED)
        os.kill(os.getpid(), signal.SIGKILL)

WHEN, ARMED = os.environ.get("KILL_AT", ""), os.environ.get("ARMED", "")
if WHEN:
    sys.addaudithook(hook)
"""


@pytest.mark.parametrize("when", ["events", "page", "result.json", "f_config.json"])
def test_a_run_whose_supervisor_is_killed_has_one_verdict(
    project: TinyProject, tmp_path: Path, when: str
) -> None:
    """The session, `result.json`, `status` and the report agree; no file is left. A page is made again."""
    make(project, "f", 'Path("out.csv").touch()')
    project.output("run", "f")
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(KILLER)
    armed = tmp_path / "armed"
    armed.touch()
    added = {"PYTHONPATH": str(tmp_path / "hook"), "KILL_AT": when, "ARMED": str(armed)}
    added |= {warm.SERVER: "", PAGES: ""}
    done = project.pytest("-q", env=added)
    assert not armed.exists()
    folder, kept = project.folder("f", "default"), project.root / "runs/.ductaflow/previous/f/default"
    is_good = when != "result.json"
    assert is_good == (0 == done.code), done.out
    assert [("success" if is_good else "error")] == list(done.statuses().values())
    assert is_good == ("success" in project.cli("status", "f").output)
    assert is_good == (folder / "result.json").exists()
    if when == "page":
        assert "jp-Notebook" in (folder / "f.html").read_text()
        assert [] == list(folder.glob(".ductaflow-tmp-*"))
    project.output("run", "f")
    assert (kept / "out.csv").exists()
    assert [] == [path.name for path in project.root.rglob(".ductaflow-tmp-*")]
    assert [] == [path.name for path in (project.root / "runs/.ductaflow/running").iterdir()]


def test_a_page_that_nobody_makes_any_more_says_by_when_it_was_to_be_there(
    project: TinyProject, tmp_path: Path
) -> None:
    """Also where the session was killed with its supervisor; the next run says that it was not finished."""
    make(project, "f", "1")
    project.output("run", "f")
    files = RunFolder(project.folder("f", "default"), "f")
    announce_page(files, within=60)
    assert re.search(
        r"is not here by \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, it will not be", files.html.read_text()
    )
    project.output("run", "f")
    kept = project.root / "runs/.ductaflow/previous/f/default/f.html"
    assert "The HTML was not finished" in kept.read_text()
    assert "The HTML was not finished" not in files.html.read_text()


@pytest.mark.parametrize("engine", ["warm", "off"])
def test_a_path_that_the_locale_cannot_read(project: TinyProject, tmp_path: Path, engine: str) -> None:
    """The message has the path and the locale, and what to set."""
    make(project, "f", "1")
    root = project.root.rename(tmp_path / "prøj é")
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env |= {"PYTHONIOENCODING": "utf-8:surrogateescape"}
    env |= {warm.SERVER: warm.OFF} if engine == "off" else {}
    command = [sys.executable, "-m", "ductaflow", "run", "f"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert 1 == done.returncode
    assert f"{root}/runs/f/default: Python does not read this path as UTF-8, since the locale is C" in said
    assert "PYTHONUTF8=1" in said


def test_a_page_on_a_full_disk(small_disk: Path) -> None:
    """The place of the placeholder has room for why there is no page."""
    files = RunFolder(small_disk / "f", "f")
    files.path.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), files.notebook)
    announce_page(files, within=60)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    make_page(files)
    assert "The HTML could not be made: OSError: [Errno 28] No space left on device" in files.html.read_text()
    assert "The HTML is being made" not in files.html.read_text()
    assert ["f.html", "f.ipynb"] == sorted(os.listdir(files.path))


def test_a_full_disk(small_disk: Path) -> None:
    """The message has a path, the session and `status` agree, and the last good version is whole."""
    project = TinyProject(small_disk / "p")
    make(project, "f", 'Path("out.csv").write_text("good")')
    project.output("run", "f")
    kept = project.root / "runs/.ductaflow/previous/f/default"
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    done = project.cli("run", "f")
    assert 1 == done.exit_code
    assert f"{project.folder('f', 'default')}: cannot be written: No space left on device" in done.output
    assert "success" in project.output("status", "f")
    assert "good" == (project.folder("f", "default") / "out.csv").read_text()

    filler.unlink()
    make(project, "f", 'Path("big").write_bytes(bytes(10_000_000))')
    done = project.cli("run", "f")
    assert 1 == done.exit_code
    assert "No space left on device" in done.output
    status = project.cli("status", "f").output
    assert "error" in status
    assert "lost" not in status
    assert "could not be written to" in status
    assert "good" == (kept / "out.csv").read_text()
    os.truncate(project.folder("f", "default") / "big", 0)
    make(project, "f", "1")
    project.output("run", "f")
    assert set() == names_in(project.folder("f", "default"))
    assert "good" == (kept / "out.csv").read_text()
