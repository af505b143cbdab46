"""The private parts of the interpreter: each is there and does what runs need of it."""

from __future__ import annotations

import atexit
import ctypes
import logging
import multiprocessing.process
import os
import platform
import random
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from ductaflow.execution.python_hooks import IMPORTER


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (threading, "_shutdown"),
        (atexit, "_run_exitfuncs"),
        (weakref.finalize, "_registered_with_atexit"),
        (sys, "_current_frames"),
        (random, "_urandom"),
        (logging, "_startTime"),
        (multiprocessing.process, "_children"),
        (multiprocessing.Process(), "_popen"),
        (ctypes.pythonapi, "PyObject_CallFinalizer"),
    ],
)
def test_each_hook_is_there(owner: object, name: str) -> None:
    """A Python that has dropped a hook is named together with the hook."""
    assert hasattr(owner, name), f"{owner}.{name} is gone from Python {platform.python_version()}"


def test_the_importer_has_its_name(tmp_path: Path) -> None:
    """An audit hook sees a module's source being read from a frame of importlib."""
    (tmp_path / "imported.py").touch()
    code = """
import sys
def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith("imported.py"):
        print(sys._getframe(1).f_code.co_filename)
sys.addaudithook(note)
import imported
"""
    done = subprocess.run(
        [sys.executable, "-Bc", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert IMPORTER == done.stdout.strip(), f"Python {platform.python_version()} has another importer"


def test_exit_handlers_run_after_threads() -> None:
    """Threads are waited for, then exit handlers run, the last one first."""
    code = """
import atexit, os, threading
from ductaflow.execution.python_hooks import run_exit_handlers, wait_for_threads
go = threading.Event()
atexit.register(print, "second")
atexit.register(print, "first")
threading._register_atexit(go.set)
threading.Thread(target=lambda: (go.wait(), print("thread"))).start()
wait_for_threads()
run_exit_handlers()
print("end", flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ["thread", "first", "second", "end"] == done.stdout.split()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows starts processes in its own way")
def test_processes_of_python_start_with_a_module_of_ours(tmp_path: Path) -> None:
    """Whoever starts them, with whatever environment; neither they nor the starter keep anything of it."""
    (tmp_path / "sitecustomize.py").write_text("import os; del os.environ['PYTHONPATH']; print('first')")
    code = """
import multiprocessing, os, subprocess, sys
from ductaflow.execution.python_hooks import start_with
start_with(sys.argv[1])
start_with(sys.argv[1])
before = dict(os.environ)
show = [sys.executable, "-c", "import os; print(os.environ.get('PYTHONPATH'))"]
for environment in (None, {}):
    subprocess.run(show, env=environment)
subprocess.run(["sh", "-c", "exec " + sys.executable + " -c 'print(1)'"])
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=print, args=("spawned",))
    process.start()
    process.join()
assert before == dict(os.environ)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "DUCTAFLOW_RUN": "{}"},
    )
    assert ["first", "None", "first", "None", "first", "1"] == done.stdout.split()[:6], done.stderr
    # that the tracker of resources starts at the same time may be on its line
    assert "spawned" in done.stdout
