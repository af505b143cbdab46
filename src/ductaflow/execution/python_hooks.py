"""Private parts of the Python interpreter that runs depend on.

No other module touches them. `tests/execution/test_python_hooks.py` fails by the name of a hook that a new
version of Python has dropped.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from itertools import takewhile
from types import FrameType
from typing import Any

from ductaflow.common.paths import CONTEXT

#: File name of the frame that reads a module's source. Since Python 3.5: `importlib._bootstrap_external`.
IMPORTER = "<frozen importlib._bootstrap_external>"

#: What gives random bytes of the system to the standard library: `random` keeps a name of its own.
#: Since Python 2.4: `random._urandom`.
DRAWS = ((os, "urandom"), (random, "_urandom"))


def modules_since(last: str | None) -> list[str]:
    """Return the names of the modules that were imported after one, or of all modules; the newest first.

    Only the new ones are touched: in a fork, each memory page with an old one would have to be copied.
    """
    try:
        return list(takewhile(lambda name: name != last, reversed(sys.modules)))
    except RuntimeError:
        # A thread of the flow is importing.
        return list(sys.modules)


def wait_for_threads() -> None:
    """Wait for threads as the interpreter does at its end. Since Python 3.9: `threading._shutdown`."""
    threading._shutdown()  # type: ignore[attr-defined]


def run_exit_handlers() -> None:
    """Run the exit handlers as the interpreter does at its end. Since Python 3.0: `atexit._run_exitfuncs`."""
    atexit._run_exitfuncs()


def frame_of(thread: threading.Thread) -> FrameType | None:
    """Return the innermost frame of a thread that runs. Since Python 2.5: `sys._current_frames`."""
    return sys._current_frames().get(thread.ident or 0)


def register_finalizers_anew() -> None:
    """Have `weakref.finalize` register with `atexit` when it is first used, as in a new process.

    Exit handlers run in the reverse order of that. Since Python 3.4: `finalize._registered_with_atexit`.
    """
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def start_logging_anew() -> None:
    """Have `logging` count the time of its records from now.

    Since Python 2.3: `_startTime`, from 3.13 in ns.
    """
    is_in_ns = isinstance(logging._startTime, int)  # type: ignore[attr-defined]
    logging._startTime = time.time_ns() if is_in_ns else time.time()  # type: ignore[attr-defined]


def finalize(thing: object) -> None:
    """Have an object finalized as the collector does it: once, and its exception ends nothing.

    Since Python 3.4: `PyObject_CallFinalizer`, for types that have a finalizer.
    """
    ctypes.pythonapi.PyObject_CallFinalizer(ctypes.py_object(thing))


def has_working_processes() -> bool:
    """Return whether a process that Python waits for at its end goes on.

    Since Python 3.4: `multiprocessing.process._children`. The public `active_children` would collect them.
    """
    processes = getattr(sys.modules.get("multiprocessing.process"), "_children", ())
    return any(not process.daemon and process._popen.returncode is None for process in list(processes))


#: Programs that may start Python, besides Python itself and the scripts of the project.
_SHELLS = frozenset(
    ["sh", "bash", "dash", "ksh", "zsh", "env", "make", "ninja", "xargs", "nice", "time", "timeout"]
)


def start_with(folder: str) -> None:
    """Let processes of Python that this one starts import the module `sitecustomize` of a folder first.

    It comes to them by the environment of the new process alone; that of this one stays as it is. Since
    Python 3.8 `subprocess`, `multiprocessing` and loky start processes by `_posixsubprocess.fork_exec`, whose
    sixth argument is the environment.
    """
    try:
        import _posixsubprocess
    except ImportError:
        # Windows.
        return
    import subprocess

    # From Python 3.13 it starts many processes by `posix_spawn` otherwise. This is its documented switch.
    setattr(subprocess, "_USE_POSIX_SPAWN", False)  # noqa: B010
    original = _posixsubprocess.fork_exec
    if getattr(original, "starts_with", None) == folder:
        return

    def fork_exec(*arguments: Any) -> int:
        return original(*_with_startup(arguments, folder))

    fork_exec.starts_with = folder  # type: ignore[attr-defined]
    _posixsubprocess.fork_exec = fork_exec
    if hasattr(subprocess, "_fork_exec"):
        setattr(subprocess, "_fork_exec", fork_exec)  # noqa: B010


def _with_startup(arguments: Sequence[Any], folder: str) -> Sequence[Any]:
    if CONTEXT not in os.environ:
        # No run goes on here any more.
        return arguments
    words, programs, environment = arguments[0], arguments[1], arguments[5]
    names = {os.path.basename(os.fsdecode(program)) for program in programs}
    is_script = any(os.fsdecode(program).endswith((".py", ".sh")) for program in programs)
    if not (is_script or _SHELLS & names or any("python" in name for name in names)):
        return arguments
    if any(b"ductaflow.execution" in os.fsencode(word) for word in words):
        # One of ours, which knows what to watch.
        return arguments
    given = os.environb.items() if environment is None else (entry.split(b"=", 1) for entry in environment)
    variables = dict(given)
    path = variables.get(b"PYTHONPATH")
    variables[b"PYTHONPATH"] = os.fsencode(folder) + (b":" + path if path else b"")
    variables.setdefault(CONTEXT.encode(), os.environb[CONTEXT.encode()])
    return (*arguments[:5], [b"=".join(entry) for entry in variables.items()], *arguments[6:])
