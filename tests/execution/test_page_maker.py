"""The page maker: what becomes of pages when it, its worker or the session ends, or something is short."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from support import TinyProject, page_makers, wait_until

from ductaflow.common.errors import RunFolderError
from ductaflow.common.files import temporary_prefix
from ductaflow.common.paths import RunFolder
from ductaflow.execution import page_orders
from ductaflow.execution.launch import await_pages
from ductaflow.execution.page_maker import LARGE, make_pages
from ductaflow.execution.page_orders import PAGE_GRACE, PageOrder, place_order
from ductaflow.execution.warm import ServerProcess
from ductaflow.notebook.export import announce_page, is_announced
from ductaflow.notebook.quick_pages import QuickPages
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.runner import run_instance
from ductaflow.store.folder import held

pytestmark = [
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not page_orders.is_possible(), reason="no page maker on this platform"),
]


class Ordered:
    """A page that is ordered, with its lock and the connection of its session."""

    def __init__(self, files: RunFolder, address: Path, seconds: float) -> None:
        self.files = files
        self._lock = files.path / "lock"
        self._session, theirs = socket.socketpair()
        self._session.settimeout(30)
        order = PageOrder(str(files.path), "fit", str(self._lock), announce_page(files, within=seconds))
        with theirs, self._lock.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert place_order(order, str(address), [lock.fileno(), theirs.fileno()])

    @property
    def is_held(self) -> bool:
        """Whether the next run of the folder would wait."""
        try:
            with self._lock.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def text(self) -> str:
        """What is there when the page maker has let go of the page, of the folder too."""
        with self._session:
            assert b"" == self._session.recv(1)
        assert not self.is_held
        return self.files.html.read_text(encoding="utf-8")


class Maker:
    """A page maker."""

    def __init__(self, folder: Path) -> None:
        self.server = ServerProcess("ductaflow.execution.page_maker", end_seconds=PAGE_GRACE + 2)
        assert self.server.process is not None
        self.process = psutil.Process(self.server.process.pid)
        self._folder = folder

    def worker(self, *others: psutil.Process) -> psutil.Process:
        """A worker besides others, once there is one."""

        def new() -> list[psutil.Process]:
            return [one for one in self.process.children() if one not in others]

        wait_until(new)
        return new()[0]

    def order(self, name: str, *, text: str = "shown", seconds: float = 60.0) -> Ordered:
        """Order the page of a notebook with some output."""
        files = RunFolder(self._folder / name, "fit")
        files.path.mkdir(parents=True)
        cell = nbformat.v4.new_code_cell("print()")
        cell.outputs = [nbformat.v4.new_output("stream", text=text)]
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), files.notebook)
        return Ordered(files, self.server.folder, seconds)


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Maker]:
    made = Maker(tmp_path / "runs")
    yield made
    if made.process.is_running():
        made.server.end()
    assert not made.server.folder.exists()
    assert not made.process.is_running()


def test_a_worker_that_is_killed(maker: Maker) -> None:
    """Its page is made by another one, behind those of others."""
    first = maker.worker()
    first.suspend()
    page, following = maker.order("a"), maker.order("b")
    assert page.is_held
    assert following.is_held
    half = page.files.path / temporary_prefix().replace(str(os.getpid()), str(first.pid))
    half.touch()
    first.kill()
    assert "shown" in page.text()
    assert "shown" in following.text()
    assert not half.exists()


def test_a_page_that_ends_each_process_that_makes_it(maker: Maker) -> None:
    """As one that needs more memory than there is: it is tried twice."""
    first = maker.worker()
    first.suspend()
    page = maker.order("a")
    first.kill()
    maker.worker(first).kill()
    text = page.text()
    assert "The HTML was not made: the process that made it ended with SIGKILL, twice." in text
    assert '<a href="fit.ipynb">' in text


def test_a_large_notebook_holds_up_no_other(maker: Maker) -> None:
    """It has a worker of its own. A page is given up when its time is over."""
    quick = maker.worker()
    assert "shown" in maker.order("first").text()
    large = maker.order("large", text="x" * (LARGE + 1), seconds=3.0)
    maker.worker(quick).suspend()
    assert "shown" in maker.order("small").text()
    assert large.is_held
    assert "The HTML was not made: it took too long. The run itself had ended." in large.text()


def test_a_page_maker_that_is_short_of_descriptors(maker: Maker) -> None:
    """It takes no order that it could not hold; who ordered sees it, and later orders are taken."""
    assert "shown" in maker.order("first").text()
    used = {int(entry.name) for entry in Path(f"/proc/{maker.process.pid}/fd").iterdir()}
    limits = resource.prlimit(maker.process.pid, resource.RLIMIT_NOFILE)
    # It can accept a connection, but nothing that comes with an order.
    most = min(set(range(100)) - used) + 1
    resource.prlimit(maker.process.pid, resource.RLIMIT_NOFILE, (most, limits[1]))
    page = maker.order("a")
    assert "The HTML is being made" in page.text()
    assert is_announced(page.files)
    resource.prlimit(maker.process.pid, resource.RLIMIT_NOFILE, limits)
    assert "shown" in maker.order("b").text()


def test_a_session_that_ends(maker: Maker) -> None:
    """Pages that can be made are made; others say that there was no time."""
    worker = maker.worker()
    made = maker.order("a").text()
    assert "shown" in made
    worker.suspend()
    page = maker.order("b")
    maker.server.end()
    assert "The HTML was not made: its session had ended." in page.text()
    assert not maker.process.is_running()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("fault", ["", "another nbconvert"])
def test_a_worker_makes_pages_from_known_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, large: bool
) -> None:
    """Where it cannot, a file in the folder of the page maker says why."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(QuickPages, "html_of", lambda pages, notebook, name: f"{name}, quickly")
    monkeypatch.setattr(QuickPages, "fault", fault, raising=False)
    monkeypatch.setattr(QuickPages, "__init__", lambda pages, first=4: None)
    files = RunFolder(tmp_path / "run", "fit")
    files.path.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), files.notebook)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, files.notebook.open("rb") as lock:
        order = PageOrder(str(files.path), "fit", "", announce_page(files, within=60))
        socket.send_fds(ours, [order.dump()], [lock.fileno()])
        ours.shutdown(socket.SHUT_WR)
        make_pages(theirs, large=large)
        assert b"made" == ours.recv(10)
    assert "fit, quickly" == files.html.read_text()
    monkeypatch.setenv(page_orders.PAGES, str(tmp_path))
    assert ("could: another nbconvert" if fault else "") in page_orders.told_of_pages()
    assert bool(fault) == bool(page_orders.told_of_pages())


# --- in a session ------------------------------------------------------------------------------------------


@pytest.fixture
def run(project: TinyProject) -> Callable[[], RunFolder]:
    """Runs a flow once more; gives its folder, with a page that may be being made."""
    project.flow("fit", "# %%\nprint('shown' * 2)\n")
    project.config("flows/fit/a.json")
    stored = load_stored(Project.at(project.root), "fit/a")

    def once() -> RunFolder:
        run_instance(stored, await_page=False)
        return RunFolder(project.folder("fit", "a"), "fit")

    return once


def the_maker() -> psutil.Process:
    """The page maker of the session of this process."""
    (maker,) = page_makers(psutil.Process())
    return maker


def the_maker_with_an_order() -> psutil.Process:
    """The page maker, once it holds a folder."""
    maker = the_maker()
    wait_until(lambda: any(file.path.endswith(".lock") for file in maker.open_files()))
    return maker


def test_a_page_maker_that_is_killed(
    run: Callable[[], RunFolder], project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session has the page made by another one; if that is killed too, the page says so. No other run
    gets the folder before."""
    run()
    await_pages()
    for worker in the_maker().children():
        worker.suspend()
    files = run()
    assert is_announced(files)
    monkeypatch.setattr("ductaflow.store.folder.AFTERWARDS_SECONDS", 0.1)
    with pytest.raises(RunFolderError), held(files.path, project.root / "runs"):
        pass
    the_maker_with_an_order().kill()
    await_pages()
    assert "shownshown" in files.html.read_text()

    for worker in the_maker().children():
        worker.suspend()
    run()
    first = the_maker_with_an_order()
    first.kill()
    wait_until(lambda: [one for one in page_makers(psutil.Process()) if one != first])
    the_maker().kill()
    await_pages()
    assert "The HTML was not finished: the process that made it was ended." in files.html.read_text()
    assert [] == list((project.root / "runs/.ductaflow/running").iterdir())


def test_a_session_without_a_page_maker(
    run: Callable[[], RunFolder], project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that looked after the run makes the page when it has answered."""
    monkeypatch.setenv(page_orders.PAGES, "off")
    files = run()
    await_pages()
    assert "shownshown" in files.html.read_text()
    assert [] == list((project.root / "runs/.ductaflow/running").iterdir())


def test_a_session_that_is_killed(project: TinyProject, tmp_path: Path) -> None:
    """Its page maker ends within 5 s, and says so in the pages that are left."""
    project.flow("fit", "# %%\nprint('shown' * 2)\n")
    project.config("flows/fit/a.json")
    code = """
import sys, time, psutil
from pathlib import Path
from ductaflow import load_stored, run_instance, Project
instance = load_stored(Project.at(Path.cwd()), "fit/a")
run_instance(instance)
(maker,) = [one for one in psutil.Process().children() if "ductaflow.execution.page_maker" in one.cmdline()]
maker.children()[0].suspend()
run_instance(instance, await_page=False)
while not any(file.path.endswith(".lock") for file in maker.open_files()):
    time.sleep(0.02)
print("ready", maker.pid, flush=True)
sys.stdin.read()
"""
    temporary = tmp_path / "t"
    temporary.mkdir()
    session = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project.root,
        env={**os.environ, "TMPDIR": str(temporary), page_orders.PAGES: ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert session.stdout is not None
    with session:
        last = next(line for line in session.stdout if line.startswith("ready"))
        maker = psutil.Process(int(last.split()[1]))
        session.send_signal(signal.SIGKILL)
    assert [] == psutil.wait_procs([maker], timeout=5)[1]
    page = (project.folder("fit", "a") / "fit.html").read_text()
    assert "The HTML was not made: its session had ended." in page
    assert [] == list(temporary.iterdir())
