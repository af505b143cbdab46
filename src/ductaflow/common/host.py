"""What the operating system is asked for: to know and to end all that a run started.

Linux gives orphans to the nearest subreaper, so that what daemonised itself or called `setsid` still is a
descendant of the run's supervisor. Elsewhere such a grandchild is found by the run id in its environment,
which is best effort.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
IS_LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind (Linux)."""
    if IS_LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent ends (Linux).

    Args:
        parent: pid of the parent; if it is gone already, this process ends at once.
    """
    if IS_LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def descendants() -> list[psutil.Process]:
    """All processes below this one."""
    import psutil

    try:
        return psutil.Process().children(recursive=True)
    except psutil.NoSuchProcess:
        # a process that ended while the table was read
        return descendants()


def child_pids() -> set[int]:
    """Pids of the processes whose parent this one is (Linux); cheap, where psutil reads the whole table."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except FileNotFoundError:
        # a kernel that was built without it
        import psutil

        return {process.pid for process in psutil.Process().children()}
    return {int(pid) for pid in text.split()}


def has_children() -> bool:
    """Whether there may be a process to end or to reap; cheap where the system can tell."""
    if sys.platform == "win32":
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def is_ending(pid: int) -> bool:
    """Return whether a process has ended, or does now: it executes nothing any more."""
    if sys.platform != "linux":
        import psutil

        return not psutil.pid_exists(pid)
    try:
        # The flag PF_EXITING of proc(5), behind the name, which may have any characters.
        flags = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[6]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return bool(int(flags) & 0x4)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL each that is still there."""
    import psutil

    for process in processes:
        # It may end by itself, or give itself to another user, whose processes are not ours to end.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()


def reap() -> None:
    """Collect the children that have ended, so that none is left as a zombie."""
    if sys.platform == "win32":
        return
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def sweep(variable: str, belongs: Callable[[str], bool]) -> None:
    """Kill every other process whose environment says that it belongs to a run that is gone.

    For what is left when a supervisor was killed itself.

    Args:
        variable: the environment variable that names the run of a process.
        belongs: whether its value is meant.
    """
    import psutil

    for process in psutil.process_iter():
        try:
            value = process.environ().get(variable)
        except (psutil.Error, OSError):
            # not ours to look into, or gone
            continue
        if value and process.pid != os.getpid() and belongs(value):
            kill([process])


def memory_of_tree() -> int:
    """Bytes of memory resident in all processes below this one, now; shared pages count in each."""
    return sum(map(_resident, descendants()))


def memory_below(pids: Collection[int]) -> dict[int, int]:
    """Bytes of memory resident below some processes, now; shared pages count in each process."""
    import psutil

    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]) if pids else ():
        children.setdefault(process.info["ppid"], []).append(process)
    found = dict.fromkeys(pids, 0)
    for pid in found:
        left = list(children.get(pid, ()))
        while left:
            process = left.pop()
            left += children.get(process.pid, ())
            found[pid] += _resident(process)
    return found


def _resident(process: psutil.Process) -> int:
    """Bytes of memory of a process; 0 if it has ended."""
    import psutil

    try:
        resident: int = process.memory_info().rss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return resident


def when_gone(pid: int, then: Callable[[], None]) -> Callable[[], None]:
    """Call `then`, in a thread, when a process of any kinship has ended.

    Returns:
        What ends the watch. Where the system cannot tell of one process, it goes on.
    """
    try:
        process = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return _when_found_gone(pid, then)
    over, done = os.pipe()

    def watch() -> None:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        poll.register(over, 0)
        if any(descriptor == process for descriptor, _ in poll.poll()):
            then()

    thread = threading.Thread(target=watch, name=f"watch-{pid}", daemon=True)
    thread.start()

    def end() -> None:
        os.close(done)
        thread.join()
        os.close(over)
        os.close(process)

    return end


def _when_found_gone(pid: int, then: Callable[[], None]) -> Callable[[], None]:
    def watch() -> None:
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
        then()

    threading.Thread(target=watch, name=f"watch-{pid}", daemon=True).start()
    return lambda: None


def is_notebook_execution() -> bool:
    """Whether this code runs as a notebook: through papermill, a Jupyter kernel, or cell by cell by hand.

    False in a script, under a plain Python, and in IPython's terminal.

    Example:
        >>> is_notebook_execution()  # in a script
        False
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ != "TerminalInteractiveShell"


# --- debuggers ----------------------------------------------------------------------------------------------

#: Modules that run a program for a debugger; pdb stops tracing where it has no breakpoint.
_DEBUGGERS = {"bdb", "pdb", "pydevd", "debugpy"}


def is_debugged() -> bool:
    """Return whether a debugger runs the program of this process, or is connected to it."""
    if callers() & _DEBUGGERS or has_editor():
        return True
    if "pydevd" in sys.modules:
        # what it leaves behind when its editor has gone looks like a debugger
        return False
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID):
        return True
    tracer = sys.gettrace()
    return tracer is not None and not _is_coverage(tracer)


def has_editor() -> bool:
    """Return whether the debugger of an editor is connected to this process.

    It follows into the interpreters that the process starts, and not into forks of the warm server.
    """
    pydevd = sys.modules.get("pydevd")
    if pydevd is None:
        return False
    debugpy = sys.modules.get("debugpy")
    if debugpy is None or not _lies_in_package(pydevd, debugpy):
        # PyCharm's own, which runs the program and has no other use
        return True
    # ipykernel imports debugpy too, to which nobody may be connected
    return bool(debugpy.is_client_connected())


def _lies_in_package(module: ModuleType, package: ModuleType) -> bool:
    folder = os.path.dirname(package.__file__ or "")
    return (module.__file__ or "").startswith(os.path.join(folder, ""))


def callers() -> set[str]:
    """Return the top-level modules of the frames below this one."""
    frame: FrameType | None = sys._getframe()
    found = set()
    while frame is not None:
        found.add(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        frame = frame.f_back
    return found


def _is_coverage(tracer: object) -> bool:
    return type(tracer).__module__.partition(".")[0] == "coverage" or "coverage" in getattr(
        getattr(tracer, "__self__", None), "__module__", ""
    )
