"""The end of a process of a run, in the order of an interpreter's: threads, exit handlers, objects.

A fork of the warm server cannot end as an interpreter does: clearing all that it shares with the server would
take longer than most runs. So it ends with `os._exit`, and before that it lets go of what the flow made and
collects it: files are closed, and `__del__`, `finally` of generators and the clean-up of C libraries run.
Everything has a limit: what hangs is named in the log, in a line that makes the run a warning.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any

from ductaflow.execution import python_hooks

#: How long threads that only wait for something, exit handlers, and the end of objects may take, in seconds.
EXIT_GRACE = 10.0
#: How long threads, and processes that somebody waits for, may work after the last cell, in seconds. Plain
#: Python waits without limit; here the time limit of the run may end it before.
WORK_GRACE = 300.0
_LOOK_SECONDS = 0.25
#: What files of Python's C code have in common with those of its Python code.
_FILE = io.IOBase.__base__
#: Files of Python whose functions wait for somebody else; in the one of pools it is an idle worker.
_WAITS = {
    str(Path(os.__file__).parent / name)
    for name in (
        *("threading.py", "queue.py", "selectors.py", "socket.py", "ssl.py"),
        *("concurrent/futures/thread.py", "multiprocessing/connection.py"),
    )
}


def run_to_end(code: int, let_go: Callable[[], None], conclude: Callable[[], None], *, is_fork: bool) -> None:
    """Do what an interpreter does at its end, up to its exit.

    Args:
        code: of the process, if this has to be cut off.
        let_go: drops what else than `__main__` holds objects of the flow.
        conclude: called at last, also if this has to be cut off.
        is_fork: the process shares most of its objects with another one and ends with `os._exit`.
    """
    limit = _Limit(code, conclude)
    limit.start()
    python_hooks.wait_for_threads()
    limit.begin("an exit handler")
    python_hooks.run_exit_handlers()
    flush()
    limit.begin("the end of an object")
    # As an interpreter does: it also sorts objects, those that hold others before what they hold.
    gc.collect()
    mark = _drop_namespace()
    let_go()
    gc.collect()
    if is_fork:
        _end_what_is_left(mark)
        gc.collect()
    flush()
    if os.name == "posix":
        # what C code has not flushed
        ctypes.CDLL(None).fflush(None)
    if limit.end():
        conclude()


class _Limit(threading.Thread):
    """Ends this process with a code if a part of its end takes too long."""

    def __init__(self, code: int, conclude: Callable[[], None]) -> None:
        super().__init__(name="limit", daemon=True)
        self._code = code
        self._conclude = conclude
        self._over = threading.Event()
        self._leaving = threading.Lock()
        self.begin("")

    def end(self) -> bool:
        """End this thread; return False while it ends the process."""
        self._over.set()
        return self._leaving.acquire()

    def begin(self, what: str) -> None:
        """Begin a part; without a name it is the wait for threads."""
        self._what = what
        self._begun = self._active = time.monotonic()

    def run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            now = time.monotonic()
            if self._is_at_work():
                self._active = now
            if now - self._active > EXIT_GRACE or now - self._begun > WORK_GRACE:
                self._leave(now - self._begun)

    def _is_at_work(self) -> bool:
        if python_hooks.has_working_processes():
            return True
        left = [] if self._what else map(python_hooks.frame_of, _threads_left())
        return any(frame is not None and frame.f_code.co_filename not in _WAITS for frame in left)

    def _leave(self, seconds: float) -> None:
        if not self._leaving.acquire(blocking=False):
            return
        working = self._what or ", ".join(thread.name for thread in _threads_left())
        with contextlib.suppress(Exception):
            print(f"⚠ ended {seconds:.0f} s after the last cell, while {working} still worked")
        flush()
        try:
            self._conclude()
        finally:
            os._exit(self._code)


def _threads_left() -> list[threading.Thread]:
    others = (thread for thread in threading.enumerate() if not thread.daemon)
    return [thread for thread in others if thread is not threading.main_thread()]


class _Mark:
    """Lives as long as the namespace that it is in."""


def _drop_namespace() -> weakref.ref[_Mark]:
    """Drop `__main__`, and what the interpreter itself keeps alive of it."""
    # Daemon threads stand still at the end of an interpreter; here they may find a closed file.
    threading.excepthook = lambda *_: None
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler:
            signal.signal(number, signal.SIG_DFL)
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    # The collector may close one of two files first that the other one writes to.
    for file in reversed(_left_of(_is_file)):
        if _is_open(file):
            with contextlib.suppress(Exception):
                file.flush()
    mark = _Mark()
    vars(sys.modules.pop("__main__", ModuleType("none")))["__mark__"] = mark
    return weakref.ref(mark)


def _end_what_is_left(mark: weakref.ref[_Mark]) -> None:
    """End objects that something older than the flow holds: a registry, a cache, a patched class.

    The collector does not see what is frozen, as all that the server has made is.
    """
    for thing in _left_of(_has_finalizer):
        python_hooks.finalize(thing)
    files = [file for file in _left_of(_is_file) if not _is_standard(file)]
    while files := list(filter(_is_open, files)):
        for file in _outermost(files):
            python_hooks.finalize(file)
            files.remove(file)
    if (marker := mark()) is not None:
        for namespace in gc.get_referrers(marker):
            if type(namespace) is dict:
                namespace.clear()


def _left_of(is_meant: Callable[[type], bool]) -> list[Any]:
    """Return the objects of some types that were made since the fork and still live, the oldest first."""
    objects = gc.get_objects()
    kinds = {kind for kind in set(map(type, objects)) if is_meant(kind)}
    return [thing for thing in objects if type(thing) in kinds] if kinds else []


def _outermost(files: list[Any]) -> list[Any]:
    """Return the files that no other one writes to, or all."""
    inner = set()
    for file in files:
        held = gc.get_referents(file)
        attributes = [thing for thing in held if type(thing) is dict]
        inner |= {id(thing) for thing in held + gc.get_referents(*attributes) if thing is not file}
    return [file for file in files if id(file) not in inner] or files


def _is_file(kind: type) -> bool:
    return _FILE in kind.__mro__


def _has_finalizer(kind: type) -> bool:
    # a file's is its `close`
    return not _is_file(kind) and (kind is GeneratorType or hasattr(kind, "__del__"))


def _is_open(file: Any) -> bool:
    try:
        return not file.closed
    except Exception:
        # what a flow makes of a file
        return False


def _is_standard(file: Any) -> bool:
    """Return whether a file is input, output or error of this process."""
    try:
        return file.fileno() in (0, 1, 2)
    except (OSError, ValueError, AttributeError):
        return False


def flush() -> None:
    # A flow may have closed or replaced the streams.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
