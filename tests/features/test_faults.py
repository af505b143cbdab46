"""Faults, injected for real: what flow, process and system do to a run, and what is said of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support import TinyProject, processes_of, wait_until

from ductaflow.common.errors import DuctaflowError, RunFolderError
from ductaflow.execution import warm
from ductaflow.session.runner import run_notebook
from ductaflow.store.logs import analyze_execution_logs
from ductaflow.store.result import FlowFailed, Status, read_result


@pytest.fixture(autouse=True, params=["fresh", "warm"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every fault with a child that is a fresh interpreter, and with one that is a fork of a warm server."""
    if request.param == "fresh":
        monkeypatch.setenv(warm.SERVER, warm.OFF)
    elif not warm.is_possible():
        pytest.skip("no warm server on this platform")
    return str(request.param)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups of POSIX"),
]


ENDINGS = {
    "sigkill": (
        "# %%\nprint('first')\n# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        ("error", "signal", None, "SIGKILL"),
        "killed by SIGKILL in cell 3 of 3 (line 7)",
    ),
    "segfault": (
        "# %%\nimport ctypes\nctypes.string_at(0)\n",
        ("error", "signal", None, "SIGSEGV"),
        "killed by SIGSEGV in cell 2 of 2 (line 5)",
    ),
    "os._exit(0)": (
        "# %%\nimport os\nos._exit(0)\n# %%\n1\n",
        ("error", "exit", 0, None),
        "the process ended with exit code 0 in cell 2 of 3 (line 5), before the run was finished",
    ),
    "sys.exit(0)": (
        "# %%\nimport sys\nsys.exit(0)\n# %%\n1\n",
        ("warning", None, 0, None),
        "stopped early at cell 2 of 3",
    ),
    "sys.exit(3)": (
        "# %%\nimport sys\nsys.exit(3)\n# %%\n1\n",
        ("error", "exit", 3, None),
        "sys.exit(3) in cell 2 of 3 (line 6)",
    ),
    "exception": (
        "# %%\n1\n\n# %%\nraise ValueError('no weeks')\n",
        ("error", "exception", 1, None),
        "flows/fit.py:8: ValueError: no weeks",
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_how_a_flow_ends(project: TinyProject, ending: str) -> None:
    """Each way in which a flow's process ends has its status, its cause and the cell in the message."""
    code, expected, message = ENDINGS[ending]
    result = project.run_code(code)
    assert expected == (result.status, result.cause, result.exit_code, result.signal)
    assert result.message.startswith(message)
    log = (project.folder("fit", "a") / "fit_execution_output.txt").read_text(encoding="utf-8")
    closing = "✅ Completed" if result.status is Status.WARNING else "❌ Failed"
    assert log.splitlines()[0] == "🚀 Starting fit | Instance: a"
    assert log.splitlines()[-1].startswith(f"{closing} fit | Instance: a | ")


def test_endless_loop_that_ignores_sigint(project: TinyProject) -> None:
    """A timeout ends what does not want to end, soon, and names the cell."""
    began = time.monotonic()
    result = project.run_code(
        """
        # %%
        import signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # %%
        while True:
            pass
        """,
        timeout=4,
    )
    assert ("error", "timeout") == (result.status, result.cause)
    assert result.message == "did not finish within 4 s, stopped in cell 3 of 3 (line 8)"
    assert time.monotonic() - began < 10


def test_timeout_shows_where_it_was(project: TinyProject) -> None:
    """A flow that can be interrupted says in which line it was when the time was up."""
    result = project.run_code("# %%\nimport time\ntime.sleep(600)\n", timeout=4)
    assert "timeout" == result.cause
    assert result.failure is not None
    assert ("KeyboardInterrupt", 6) == (result.failure.ename, result.failure.line)


GRANDCHILDREN = {
    "plain": "subprocess.Popen(['sleep', '600'])",
    "setsid": "subprocess.Popen(['sleep', '600'], start_new_session=True)",
    "daemonised": "subprocess.Popen(['sh', '-c', 'setsid sh -c \"sleep 600 & sleep 600\" & exit'])",
    "without environment": "subprocess.Popen(['setsid', 'env', '-i', 'sleep', '604'])",
}


@pytest.mark.parametrize("kind", GRANDCHILDREN)
def test_grandchildren_are_gone_after_the_run(project: TinyProject, kind: str) -> None:
    """Whatever a flow leaves running ends with its run, and the verdict is the flow's own."""
    result = project.run_code(f"# %%\nimport subprocess\n{GRANDCHILDREN[kind]}\nprint('left one')\n")
    assert Status.SUCCESS is result.status
    assert [] == processes_of(str(project.root))
    assert [] == [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "604"]]


def test_yesterdays_green_folder_and_todays_crash(project: TinyProject) -> None:
    """A folder that was green is red after a crash, and its old outputs are not taken for new ones."""
    assert Status.SUCCESS is project.run_code("# %%\nopen('out.csv', 'w').write('1')\n").status
    result = project.run_code("# %%\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    folder = project.folder("fit", "a")
    assert Status.ERROR is result.status
    assert "error" == analyze_execution_logs(folder)
    assert not (folder / "out.csv").exists()
    assert (project.root / "runs/.ductaflow/previous/fit/a/out.csv").exists()


STORM = """
# %%
import os, sys
os.write(1, b'\\xff\\xfe invalid \\x00 NUL\\n')
print('\\ud800 lone', '\\x1b[31mred\\x1b[0m', '<script>', '\\u2028')
sys.stdout.write('x' * 50_000_000 + '\\n')
# %%
chunk = 'y' * 99 + '\\n'
for _ in range(200):
    sys.stdout.write(chunk * 10_000)
# %%
print('Warning: after the storm')
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process as /proc has it")
def test_output_of_any_size_and_content(project: TinyProject) -> None:
    """250 MB of prints with every kind of byte: the run is judged, and this process does not grow."""
    before = psutil.Process().memory_info().rss
    source = project.flow("fit", STORM)
    folder = project.folder("fit", "a")
    env = {**os.environ, "PYTHONPATH": ""}
    # in a process of its own, so that the console has somewhere to go
    code = f"""
from ductaflow.session.runner import run_notebook
run_notebook({str(source)!r}, config={{}}, execution_dir={str(folder)!r}, export_html=True)
[peak] = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]
print('peak', peak.split()[1])
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, check=True)
    peak = int(done.stdout.rsplit(b"peak ", 1)[1])
    result = read_result(folder)
    assert result is not None
    assert ("warning", 1) == (result.status, result.warning_count)
    assert "Warning: after the storm" == result.warnings[0].text
    assert 250_000_000 < (folder / "fit_execution_output.txt").stat().st_size
    assert (folder / "fit.ipynb").stat().st_size < 20_000_000
    assert peak < 150_000, "kilobytes of the process that asked for the run"
    assert psutil.Process().memory_info().rss - before < 300_000_000


def test_two_sessions_on_one_folder(project: TinyProject) -> None:
    """The second session is told who holds the folder, and the first run is not disturbed."""
    source = project.flow(
        "fit", "# %%\nimport pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(.05)\n"
    )
    folder = project.folder("fit", "a")
    code = session_code(source, folder)
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        wait_until(lambda: (folder / "fit.ipynb").exists())
        with pytest.raises(RunFolderError, match="is held by process"):
            run_notebook(source, config={}, execution_dir=folder)
        (folder / "go").touch()
        assert 0 == first.wait(20)
    finally:
        first.kill()
        first.communicate()
    assert "success" == analyze_execution_logs(folder)


def test_sigkill_of_the_session(project: TinyProject) -> None:
    """When the session is killed its run ends too, and the result says whose end it was."""
    source = project.flow("fit", "# %%\nimport subprocess\nsubprocess.run(['sleep', '600'])\n")
    folder = project.folder("fit", "a")
    code = session_code(source, folder)
    session = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    wait_until(lambda: is_asleep(project))
    session.kill()
    session.wait()
    wait_until(lambda: (folder / "result.json").exists(), seconds=5)
    wait_until(lambda: not processes_of(str(project.root)), seconds=5)
    result = read_result(folder)
    assert result is not None
    assert ("error", "interrupted") == (result.status, result.cause)
    assert result.message.startswith("the session ended before this run did, stopped in cell 2 of 2")


def test_sigkill_of_the_supervisor(project: TinyProject) -> None:
    """When the process that looks after a run is killed, the run is lost, and nothing of it stays."""
    source = project.flow(
        "fit", "# %%\nimport subprocess\nsubprocess.run(['sleep', '600'], start_new_session=True)\n"
    )
    folder = project.folder("fit", "a")
    code = f"""
from ductaflow.execution import warm
from ductaflow.common.errors import DuctaflowError
from ductaflow.store.result import FlowFailed
from ductaflow.session.runner import run_notebook
try:
    run_notebook({str(source)!r}, config={{}}, execution_dir={str(folder)!r}, export_html=False)
except FlowFailed as failed:
    print('RESULT', failed.result.status, failed.result.cause, failed.result.message)
"""
    session = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: is_asleep(project))
    for process in supervisors_of(project):
        process.kill()
    output, _ = session.communicate(timeout=15)
    assert "RESULT error lost the process that looked after the run was ended (" in output
    assert [] == processes_of(str(project.root))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_supervisor_that_is_asked_to_end(project: TinyProject, number: signal.Signals) -> None:
    """A signal to the supervisor alone stops its run in order."""
    source = project.flow("fit", "# %%\nimport subprocess\nsubprocess.run(['sleep', '600'])\n")
    folder = project.folder("fit", "a")
    code = session_code(source, folder)
    session = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: is_asleep(project))
    for process in supervisors_of(project):
        process.send_signal(number)
    assert 1 == session.wait(10)
    result = read_result(folder)
    assert result is not None
    assert "interrupted" == result.cause


def test_full_disk(project: TinyProject, tmp_path: Path) -> None:
    """On a full disk the run is red with the system's reason, and earlier results stay readable."""
    small = tmp_path / "project" / "runs"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        good = project.flow("good", "# %%\n1\n")
        run_notebook(good, config={}, execution_dir=small / "good" / "a", export_html=False)
        source = project.flow("fit", "# %%\nopen('big', 'wb').write(b'x' * 2_000_000)\n")
        with pytest.raises(FlowFailed, match=r"flows/fit.py:5: OSError: .* No space left on device"):
            run_notebook(source, config={}, execution_dir=small / "fit" / "a", export_html=False)
        with pytest.raises(DuctaflowError, match="No space left on device"):
            run_notebook(source, config={}, execution_dir=small / "fit" / "b", export_html=False)
        assert "success" == analyze_execution_logs(small / "good" / "a")
        assert json.loads((small / "good" / "a" / "result.json").read_text())["status"] == "success"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_read_only_runs_folder(project: TinyProject, tmp_path: Path) -> None:
    """A runs folder that cannot be written is one clear error before anything runs."""
    runs = tmp_path / "project" / "runs"
    runs.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(runs)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        source = project.flow("fit", "# %%\n1\n")
        with pytest.raises(RunFolderError, match="cannot be written: Read-only file system"):
            run_notebook(source, config={}, execution_dir=runs / "fit" / "a")
    finally:
        subprocess.run(["umount", str(runs)], check=True)


def supervisors_of(project: TinyProject) -> list[psutil.Process]:
    """The processes that look after the runs of a project, as the markers name them."""
    markers = (project.root / "runs" / ".ductaflow" / "running").glob("*.json")
    return [psutil.Process(json.loads(marker.read_text())["owner"]["pid"]) for marker in markers]


def is_asleep(project: TinyProject) -> bool:
    """Whether a `sleep` runs. Other processes may end while one looks at them."""
    for process in processes_of(str(project.root)):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == "sleep":
                return True
    return False


def session_code(source: Path, folder: Path) -> str:
    """A session of its own that runs one notebook."""
    call = f"run_notebook({str(source)!r}, config={{}}, execution_dir={str(folder)!r}, export_html=False)"
    return f"from ductaflow import run_notebook\n{call}\n"


def test_a_person_s_file_survives_a_killed_run(project: TinyProject) -> None:
    """After a kill of everything, what the run wrote is cleared, and what a person wrote later stays."""
    code = "# %%\nopen('half.csv', 'w').write('1,')\nimport subprocess\nsubprocess.run(['sleep', '600'])\n"
    source = project.flow("fit", code)
    folder = project.folder("fit", "a")
    session = subprocess.Popen(
        [sys.executable, "-c", session_code(source, folder)], stdout=subprocess.DEVNULL
    )
    wait_until(lambda: is_asleep(project))
    for process in [session, *supervisors_of(project), *processes_of(str(project.root))]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    session.wait()
    note = folder / "notes.md"
    note.write_text("mine")
    later = time.time() + 60
    os.utime(note, (later, later))
    project.run_code("# %%\nimport os\nprint(sorted(os.listdir()))\n")
    assert "mine" == note.read_text()
    assert not (folder / "half.csv").exists()


def test_a_run_folder_that_is_the_project(project: TinyProject) -> None:
    """A run folder in which the project or a repository lies is refused: its next run would clear it."""
    source = project.flow("fit", "# %%\n1\n")
    for folder in (project.root, project.root / "flows", project.root.parent):
        with pytest.raises(RunFolderError, match="cannot be a run folder"):
            run_notebook(source, config={}, execution_dir=folder)


SWALLOWS = """
# %%
import time
rows = []
while True:
    try:
        time.sleep(0.05)
        rows.append(1)
    except BaseException:
        break
# %%
print(len(rows), "rows")
"""


def test_a_flow_that_swallows_the_time_limit(project: TinyProject) -> None:
    """A calculation that the limit has cut is red, though the flow goes on to its end."""
    result = project.run_code(SWALLOWS, timeout=4)
    assert ("error", "timeout") == (result.status, result.cause)


TIDY = {
    "clears its folder": "import os\nfor name in os.listdir('.'):\n    os.remove(name)\n",
    "links its log away": "import os\nos.remove('fit_execution_output.txt')\n"
    "os.symlink(config['victim'], 'fit_execution_output.txt')\n",
    "makes a pipe of its log": "import os\nos.remove('fit_execution_output.txt')\n"
    "os.mkfifo('fit_execution_output.txt')\n",
    "makes a folder of its result": "import os\nos.mkdir('result.json')\n",
}


@pytest.mark.parametrize("deed", TIDY)
def test_a_flow_that_touches_what_is_ours(project: TinyProject, tmp_path: Path, deed: str) -> None:
    """Log, config and result are put back; what lies elsewhere is not touched; the verdict is the flow's."""
    victim = tmp_path / "victim.txt"
    victim.write_text("not yours")
    source = project.flow("fit", f"# %%\nprint('Warning: before')\n{TIDY[deed]}print('after')\n")
    folder = project.folder("fit", "a")
    for _ in range(2):
        run_notebook(source, config={"victim": str(victim)}, execution_dir=folder, export_html=False)
        result = read_result(folder)
        assert result is not None
        assert (Status.WARNING, 1) == (result.status, result.warning_count)
        log = (folder / "fit_execution_output.txt").read_text(encoding="utf-8")
        assert "Warning: before\nafter\n" in log
        assert (folder / "fit_config.json").is_file()
    assert "not yours" == victim.read_text()


def test_a_flow_that_removes_its_folder(project: TinyProject) -> None:
    """Its notebook cannot be written any more: red, with a result and a log that say so."""
    result = project.run_code("# %%\nimport os, shutil\nshutil.rmtree(os.getcwd())\n")
    assert ("error", "exception") == (result.status, result.cause)
    log = project.folder("fit", "a") / "fit_execution_output.txt"
    assert "No such file or directory" in log.read_text()


def test_a_flow_that_removes_what_it_told(project: TinyProject) -> None:
    """Without the record of how far it came a run is red, and says that it was removed."""
    code = "# %%\nimport json, os\nos.remove(json.loads(os.environ['DUCTAFLOW_RUN'])['events'])\n"
    result = project.run_code(code)
    assert Status.ERROR is result.status
    assert "what the run told of itself was removed or overwritten" in result.message


def test_a_log_that_is_cut_off(project: TinyProject) -> None:
    """Opening /dev/stdout anew empties the log: the warnings in it are lost, so the run is orange."""
    empties = "# %%\nimport subprocess\nsubprocess.run('echo x > /dev/stdout', shell=True)\n"
    result = project.run_code(f"# %%\nprint('Warning: gaps')\n{empties}")
    assert Status.WARNING is result.status
    assert "the log was cut off" in result.warnings[-1].text


def test_a_forked_copy_does_not_speak_for_the_run(project: TinyProject) -> None:
    """A copy that a flow forks and that comes back ends with its cell; the original is judged."""
    result = project.run_code("# %%\nimport os\npid = os.fork()\n# %%\nos.waitpid(pid, 0)\nprint('one')\n")
    assert (Status.SUCCESS, 3, 3) == (result.status, result.cells.run, result.cells.total)
    log = (project.folder("fit", "a") / "fit_execution_output.txt").read_text()
    assert 1 == log.count("one\n")
    exits = project.run_code(
        "# %%\nimport os, sys\npid = os.fork()\nif not pid:\n    sys.exit(0)\nos.waitpid(pid, 0)\n# %%\n1\n",
    )
    assert (Status.SUCCESS, "") == (exits.status, exits.message)
    lost = project.run_code(
        "# %%\nimport os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n    os._exit(0)\n# %%\n1\n",
    )
    assert ("error", "exit") == (lost.status, lost.cause)


def test_a_thread_that_does_not_end(project: TinyProject) -> None:
    """A thread that outlives the cells has its time, and where it is cut off the run says so."""
    code = """
    # %%
    import threading, time
    def save():
        time.sleep(2)
        open('saved', 'w')
    threading.Thread(target=save).start()
    threading.Thread(target=threading.Event().wait, name='endless').start()
    """
    result = project.run_code(code)
    assert Status.WARNING is result.status
    assert "while endless still worked" in result.warnings[0].text
    assert (project.folder("fit", "a") / "saved").exists()


def test_a_build_whose_flow_could_not_start(project: TinyProject) -> None:
    """A build is red when one of its flows could not start, also where it passes over that."""
    source = project.flow(
        "chain",
        """
        # %%
        from ductaflow import DuctaflowError, run_notebook
        try:
            run_notebook("flows/nowhere.py", config={}, execution_dir="runs/nowhere")
        except DuctaflowError:
            pass
        """,
        kind="builds",
    )
    with pytest.raises(FlowFailed, match=r"flow flows/nowhere\.py: no notebook flows/nowhere\.py"):
        run_notebook(source, config={}, execution_dir=project.folder("chain", "a"), export_html=False)


def test_nested_supervisors_are_killed(project: TinyProject) -> None:
    """When all supervisors of a build are killed, what its flows left is found and ended by the session."""
    project.flow("leave", "# %%\nimport subprocess\nsubprocess.run(['setsid', 'sleep', '600'])\n")
    source = project.flow(
        "chain",
        "# %%\nfrom ductaflow import run_notebook\n"
        "run_notebook('flows/leave.py', config={}, execution_dir='runs/leave')\n",
        kind="builds",
    )
    code = session_code(source, project.folder("chain", "a"))
    session = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: is_asleep(project))
    for process in supervisors_of(project):
        process.kill()
    assert 1 == session.wait(10)
    assert [] == processes_of(str(project.root))
