"""The warm server: what its forks share and what they do not, and what becomes of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support import TinyProject, page_makers, wait_until

from ductaflow.execution import warm
from ductaflow.execution.branch import MOST_AT_REST
from ductaflow.execution.launch import await_pages
from ductaflow.execution.warm import why_not_warm
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.runner import run_instance, run_notebook
from ductaflow.store.result import Result, Status, read_result

pytestmark = [
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform"),
]


def forked(project: TinyProject, code: str, instance: str = "a") -> Result:
    return project.run_code(code, instance=instance, engine="warm")


def log_of(project: TinyProject, name: str = "fit", instance: str = "a") -> str:
    return (project.folder(name, instance) / f"{name}_execution_output.txt").read_text(encoding="utf-8")


def printed(project: TinyProject, name: str = "fit", instance: str = "a") -> str:
    """What the flow printed, without header and closing line."""
    return "\n".join(log_of(project, name, instance).splitlines()[1:-1])


DISTURBS = """
# %%
import os, random, signal, sys, warnings, locale, logging
import numpy as np
import pandas as pd
os.environ["DISTURBED"] = "yes"
os.environ["TZ"] = "Asia/Tokyo"
sys.path.insert(0, "/nowhere")
random.seed(1)
np.random.seed(1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pd.DataFrame.to_csv = lambda *a, **k: "broken"
pd.set_option("display.max_rows", 3)
logging.basicConfig(level=logging.DEBUG)
warnings.simplefilter("error")
os.chdir("/")
"""
LOOKS = """
# %%
import os, random, signal, sys, warnings, logging
import numpy as np
import pandas as pd
print(os.environ.get("DISTURBED"), os.environ.get("TZ"), "/nowhere" in sys.path)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
print(pd.DataFrame({"a": [1]}).to_csv(index=False).split())
print(pd.get_option("display.max_rows"), logging.getLogger().handlers, os.path.basename(os.getcwd()))
"""


@pytest.mark.slow
def test_the_next_run_sees_nothing_of_the_last_one(project: TinyProject) -> None:
    """Environment, paths, generators, handlers, options and patches end with the run that made them."""
    forked(project, DISTURBS)
    forked(project, LOOKS, instance="b")
    timezone = os.environ.get("TZ")
    expected = f"""
    None {timezone} False
    True
    ['a', '1']
    60 [] b
    """
    assert textwrap.dedent(expected).strip() == printed(project, instance="b").strip()


@pytest.mark.slow
def test_random_numbers_differ_between_runs(project: TinyProject) -> None:
    """Two forks of one process draw different numbers, from each generator that a package holds, and have
    different keys for the processes that they start."""
    code = """
    # %%
    import multiprocessing, random
    import numpy as np
    print(random.random(), np.random.rand(), np.random.default_rng().random())
    print(multiprocessing.current_process().authkey.hex())
    """
    for instance in ("a", "b"):
        forked(project, code, instance=instance)
    first, second = (printed(project, instance=instance).split() for instance in ("a", "b"))
    assert set() == set(first) & set(second)


def test_an_edited_module_of_the_project_is_seen(project: TinyProject) -> None:
    """The server never imports the project's own modules: each run has them as they are, also where they are
    edited within the second and to the same size."""
    code = "# %%\nimport helper\nprint(helper.VALUE)\n"
    for value in (1, 2):
        (project.root / "helper.py").write_text(f"VALUE = {value}\n")
        os.utime(project.root / "helper.py", (1_000_000_000, 1_000_000_000))
        forked(project, code)
        assert str(value) == printed(project)


@pytest.mark.slow
def test_a_flow_that_sets_what_is_read_at_import(project: TinyProject) -> None:
    """A variable set before an import reaches it: such a flow runs fresh, and its result says so."""
    code = "# %%\nimport os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport numpy as np\n"
    result = forked(project, code)
    assert Status.SUCCESS is result.status
    assert (
        "ran in a fresh interpreter: line 6 sets an environment variable before an import" == result.message
    )


@pytest.mark.slow
def test_a_variable_that_differs(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a session sets after its server has started reaches a run and its imports; where the interpreter
    itself reads it, the run is fresh."""
    forked(project, "# %%\n1\n")
    monkeypatch.setenv("SOME_SETTING", "new")
    forked(project, "# %%\nimport os\nprint(os.environ['SOME_SETTING'])\n")
    assert "new" == printed(project)
    monkeypatch.setenv("MPLCONFIGDIR", str(project.root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = "# %%\nimport matplotlib, os\nprint(matplotlib.get_configdir(), os.environ['OMP_NUM_THREADS'])\n"
    result = forked(project, code)
    assert (f"{project.root} 1", "") == (printed(project), result.message)
    monkeypatch.setenv("LD_SOMETHING", "1")
    result = forked(project, "# %%\nimport os\nprint(os.environ['LD_SOMETHING'])\n")
    assert "ran in a fresh interpreter: LD_SOMETHING differs" in result.message


SESSION = """
import os, signal, sys, threading
from ductaflow.execution import warm
from ductaflow.store.result import FlowFailed
from ductaflow.session.runner import run_notebook
def run(name, instance):
    try:
        folder = f"runs/{name}/{instance}"
        run_notebook(f"flows/{name}.py", config={}, execution_dir=folder, export_html=False)
    except FlowFailed as failed:
        print("FAILED", failed.result.message)
"""


def session(project: TinyProject, code: str, **environment: str) -> subprocess.Popen[str]:
    """A session of its own, that starts a server of its own."""
    inherited = {name: value for name, value in os.environ.items() if name != warm.SERVER}
    return subprocess.Popen(
        [sys.executable, "-c", SESSION + code],
        cwd=project.root,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_server(project: TinyProject) -> None:
    """A run in flight goes on under its supervisor, and the rest runs on a new server."""
    project.flow("fit", "# %%\nimport os, signal\nprint('one')\n")
    source = "# %%\nimport os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.02)\n"
    project.flow("slow", source)
    code = """
run("fit", "a")
first = warm.own_server().process.pid
thread = threading.Thread(target=run, args=("slow", "a"))
thread.start()
while not os.path.exists("runs/slow/a/slow.ipynb"):
    pass
os.kill(first, signal.SIGKILL)
run("fit", "b")
print("NEW", warm.own_server().process.pid != first)
open("runs/slow/a/go", "w")
thread.join()
"""
    output, _ = session(project, code).communicate(timeout=60)
    assert "NEW True" in output
    assert "FAILED" not in output
    for name, instance in (("fit", "a"), ("fit", "b"), ("slow", "a")):
        result = read_result(project.folder(name, instance))
        assert result is not None
        assert Status.SUCCESS is result.status


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_its_session(project: TinyProject, number: signal.Signals) -> None:
    """Whatever ends a session, its server and the folder of its socket go with it."""
    project.flow("fit", "# %%\n1\n")
    code = """
run("fit", "a")
print("SERVER", warm.own_server().process.pid, warm.own_server().folder, flush=True)
signal.pause()
"""
    process = session(project, code)
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("SERVER"))
    _, pid, folder = line.split()
    server = psutil.Process(int(pid))
    process.send_signal(number)
    process.communicate()
    server.wait(timeout=5)
    assert not Path(folder).exists()


def test_a_server_whose_session_ends_while_it_starts(tmp_path: Path) -> None:
    """It ends at once, and leaves no folder."""
    folder = tmp_path / "ductaflow-x"
    folder.mkdir()
    end, lifeline = os.pipe()
    os.close(lifeline)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        descriptors = (listener.fileno(), end)
        command = warm.command(*descriptors, folder, warm.OwnServer.module)
        server = subprocess.Popen(command, pass_fds=descriptors)
        assert 0 == server.wait(timeout=60)
    os.close(end)
    assert not folder.exists()


@pytest.mark.slow
def test_many_runs_leave_nothing(project: TinyProject) -> None:
    """Many runs, eight in flight: no zombie and no descriptor is left in session or server, and no more
    supervisors than are kept for the next runs."""
    source = project.flow("fit", "# %%\nprint('x')\n")
    count = 100
    run_notebook(source, config={}, execution_dir=project.folder("fit", "first"), export_html=False)
    own = warm.own_server()
    assert own is not None
    server, this = psutil.Process(own.process.pid), psutil.Process()
    before = server.num_fds(), this.num_fds()

    def one(number: int) -> str:
        folder = project.folder("fit", f"n{number}")
        run_notebook(source, config={}, execution_dir=folder, export_html=False)
        result = read_result(folder)
        return str(result and result.status)

    with ThreadPoolExecutor(8) as pool:
        statuses = set(pool.map(one, range(count)))
    assert {"success"} == statuses

    def supervisors() -> list[list[psutil.Process]]:
        """Those of each branch."""
        return [branch.children() for branch in server.children()]

    run_notebook(source, config={}, execution_dir=project.folder("fit", "last"), export_html=False)
    # each asks for its next run, or ends, a moment after its answer
    wait_until(lambda: all(len(processes) <= MOST_AT_REST for processes in supervisors()))
    processes = [process for processes in supervisors() for process in processes]
    wait_until(lambda: {1} == {process.num_threads() for process in processes})
    assert [] == [child for process in processes for child in process.children()]
    # it may be reading what became of the last one at this very moment
    wait_until(lambda: server.num_fds() <= before[0])
    wait_until(lambda: this.num_fds() <= before[1])
    assert 1 == server.num_threads()


@pytest.mark.slow
def test_builds_and_threads_share_the_server(project: TinyProject) -> None:
    """A build's flows are forks of the session's one server."""
    project.flow("inner", "# %%\nimport os\nprint(os.environ['DUCTAFLOW_SERVER'])\n")
    source = project.flow(
        "outer",
        "# %%\nfrom ductaflow import run_notebook\n"
        "run_notebook('flows/inner.py', config={}, execution_dir='runs/inner', export_html=False)\n",
        kind="builds",
    )
    run_notebook(source, config={}, execution_dir=project.folder("outer", "a"), export_html=False)
    own = warm.own_server()
    assert own is not None
    assert str(own.folder) in (project.folder("outer", "a") / "outer_execution_output.txt").read_text()


@pytest.mark.parametrize(
    ("line", "fresh"),
    [
        ("os.environ['A'] = '1'", True),
        ("os.environ.setdefault('A', '1')", True),
        ("x = 1; os.environ['A'] = '1'", True),
        ("os.environ |= {'A': '1'}", True),
        ("from os import environ; environ['A'] = '1'", True),
        ("if 'A' not in os.environ: os.environ['A'] = '1'", True),
        ("os.putenv('A', '1')", True),
        ("del os.environ['A']", True),
        ("load_dotenv()", True),
        ("dotenv.load_dotenv('.env')", True),
        ("%set_env A 1", True),
        ("%env A=1", True),
        ("# %env A=1", True),
        ("print(os.environ['A'] == '1')", False),
        ("# os.environ['A'] = '1'", False),
    ],
)
def test_what_runs_fresh(project: TinyProject, line: str, fresh: bool) -> None:
    """Only what sets a variable before a third-party import needs an interpreter of its own."""
    before = project.flow("a", f"# %%\nimport os\n{line}\nimport numpy\n")
    after = project.flow("b", f"# %%\nimport os\nimport numpy\n{line}\n")
    assert fresh == (why_not_warm(before, {}, {}) is not None)
    assert why_not_warm(after, {}, {}) is None


SETS = [
    "import os; os.environ['TRY_ME'] = '1'",
    "import os\nos.environ |= {'TRY_ME': '1'}",
    "from os import environ as e\ne['TRY_ME'] = '1'",
    "import os\nvariables = os.environ\nvariables.update(TRY_ME='1')",
    "import setenv",
    "from package.inner import X",
    "# %set_env TRY_ME 1",
]


@pytest.mark.slow
def test_a_package_finds_the_variables_that_come_first(
    project: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a flow sets them, and in modules of the project that it imports first."""
    (tmp_path / "readsenv.py").write_text("import os\nFOUND = os.environ.get('TRY_ME')\n")
    (project.root / "package").mkdir()
    (project.root / "package" / "__init__.py").touch()
    (project.root / "package" / "inner.py").write_text("from .other import X\n")
    for file in ("setenv.py", "package/other.py"):
        (project.root / file).write_text("import os\nX = 1\nos.environ['TRY_ME'] = '1'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finds = "import readsenv\nassert readsenv.FOUND == '1', readsenv.FOUND\n"
    flows = {f"fit{number}": f"# %%\n{first}\n{finds}" for number, first in enumerate(SETS)}
    flows["other"] = "# %%\nimport readsenv\nassert readsenv.FOUND is None, readsenv.FOUND\n"
    for flow, code in flows.items():
        project.flow(flow, code)
        project.config(f"flows/{flow}/a.json")
    session = project.pytest("--ductaflow-no-html")

    assert 0 == session.code, session.out
    assert {f"{flow}/a": "success" for flow in flows} == session.statuses()


@pytest.mark.slow
def test_a_package_that_starts_threads_is_left_out(project: TinyProject, tmp_path: Path) -> None:
    """A server that has a second thread starts anew without what made it; the flow imports that itself."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "threads_at_import.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\nVALUE = 1\n"
    )
    (packages / "fails_at_import.py").write_text("raise RuntimeError('no licence')\n")
    project.flow("fit", "# %%\nimport threads_at_import\nprint(threads_at_import.VALUE)\n")
    project.flow("bad", "# %%\nimport fails_at_import\n")
    code = """
run("fit", "a")
run("bad", "a")
import psutil
server = psutil.Process(warm.own_server().process.pid)
print("THREADS", {one.num_threads() for one in (server, *server.children())})
"""
    path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    output, _ = session(project, code, PYTHONPATH=path).communicate(timeout=60)
    assert "THREADS {1}" in output
    assert "FAILED flows/bad.py:5: RuntimeError: no licence" in output
    result = read_result(project.folder("fit", "a"))
    assert result is not None
    assert Status.SUCCESS is result.status
    assert "threads_at_import is not kept warm: it starts threads when it is imported" == result.message


@pytest.mark.slow
def test_packages_that_act_when_they_are_imported(project: TinyProject, tmp_path: Path) -> None:
    """What a package says when it is imported is in the log of each flow that imports it, so such a package
    is left out; what it sets in the environment is there as well, also for the flows of a build, which are
    as warm. It finds the streams of the flow."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "warns.py").write_text("import warnings\nwarnings.warn('old', FutureWarning, stacklevel=2)\n")
    (packages / "displays.py").write_text("from IPython.display import display\ndisplay('shown')\n")
    (packages / "sets.py").write_text(
        "import os, sys\nos.environ['KMP_X'] = 'set'\nout = sys.stdout\nshell = get_ipython()\n"
    )
    code = "# %%\nimport warns\n\n# %%\nimport displays\n\n# %%\nimport os, sys, sets\n"
    code += "print(os.environ['KMP_X'], sets.out is sys.stdout, sets.shell is get_ipython())\n"
    project.flow("fit", code)
    inner = "run_notebook('flows/fit.py', config={}, execution_dir='runs/inner', export_html=False)"
    project.flow("outer", f"# %%\nimport sets\nfrom ductaflow import run_notebook\n{inner}\n")
    session_code = """
run("fit", "a")
run("fit", "b")
run("outer", "a")
"""
    path = os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])
    session(project, session_code, PYTHONPATH=path).communicate(timeout=60)
    for instance in ("a", "b"):
        warning, source, *rest = printed(project, instance=instance).splitlines()
        assert warning.endswith("flows/fit.py:5: FutureWarning: old")
        assert ["import warns", "'shown'", "set True True"] == [source.strip(), *rest]
        result = read_result(project.folder("fit", instance))
        assert result is not None
        assert "warns is not kept warm: it prints something when it is imported" == result.message
    nested = read_result(project.folder("outer", "a") / "runs" / "inner")
    assert nested is not None
    assert "interpreter" not in nested.message


@pytest.mark.slow
def test_without_a_server_everything_stays_the_same(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there can be no server the same child starts as a fresh interpreter."""
    monkeypatch.setenv(warm.SERVER, warm.OFF)
    assert (
        Status.SUCCESS is forked(project, "# %%\nimport os\nprint(os.environ['DUCTAFLOW_SERVER'])\n").status
    )
    assert warm.OFF == printed(project)


def test_threads_are_joined_and_exit_handlers_run(project: TinyProject) -> None:
    """A fork ends as an interpreter does: its threads are joined, its exit handlers run."""
    code = """
    # %%
    import atexit, threading, time
    atexit.register(lambda: open("at_exit", "w"))
    def late():
        time.sleep(0.5)
        open("joined", "w")
    threading.Thread(target=late).start()
    """
    assert Status.SUCCESS is forked(project, code).status
    assert (project.folder("fit", "a") / "at_exit").exists()
    assert (project.folder("fit", "a") / "joined").exists()


def test_a_page_stands_back_behind_runs(project: TinyProject) -> None:
    """The HTML is made with less priority than what somebody waits for, which is the flow's own."""
    code = "# %%\nimport os\nopen('flow_nice', 'w').write(str(os.nice(0)))\n"
    assert Status.SUCCESS is project.run_code(code, engine="warm", export_html=True).status
    assert str(os.nice(0)) == (project.folder("fit", "a") / "flow_nice").read_text()
    workers = [worker for maker in page_makers(psutil.Process()) for worker in maker.children()]
    assert {min(19, os.nice(0) + 5)} == {worker.nice() for worker in workers}


def test_pages_are_made_when_nobody_waits(project: TinyProject) -> None:
    """The result is there before the page, links to which lead somewhere at once; the next run of the same
    folder waits for it, and so does who asks. A flow that was killed has its page too."""
    project.flow("fit", "# %%\nprint('shown' * 2)\n")
    project.flow("dies", "# %%\nprint('before')\n\n# %%\nimport os\nos.kill(os.getpid(), 9)\n")
    for flow in ("fit", "dies"):
        project.config(f"flows/{flow}/a.json")
    stored = Project.at(project.root)
    for flow in ("fit", "fit", "dies"):
        run_instance(load_stored(stored, f"{flow}/a"), check=False, await_page=False)
        assert (project.folder(flow, "a") / f"{flow}.html").exists()

    await_pages()
    assert "shownshown" in (project.folder("fit", "a") / "fit.html").read_text()
    assert "before" in (project.folder("dies", "a") / "dies.html").read_text()
    assert [] == list((project.root / "runs/.ductaflow/running").iterdir())
