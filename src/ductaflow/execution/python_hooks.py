"""Private parts of the Python interpreter that runs depend on.

No other module touches them. `tests/execution/test_python_hooks.py` fails by the name of a hook that a new
version of Python has dropped.
"""

from __future__ import annotations

import atexit
import sys
import threading
from itertools import takewhile

#: File name of the frame that reads a module's source. Since Python 3.5: `importlib._bootstrap_external`.
IMPORTER = "<frozen importlib._bootstrap_external>"


def modules_since(last: str | None) -> list[str]:
    """Return the names of the modules that were imported after one, or of all modules; the newest first.

    Only the new ones are touched: in a fork, each memory page with an old one would have to be copied.
    """
    try:
        return list(takewhile(lambda name: name != last, reversed(sys.modules)))
    except RuntimeError:
        # A thread of the flow is importing.
        return list(sys.modules)


def run_exit_handlers() -> None:
    """Do what the interpreter does at its own end: wait for threads, then run the exit handlers.

    A fork of the warm server ends with `os._exit`, which does neither, and which spares it the clearing of
    all modules. Since Python 3.9: `threading._shutdown`; since 3.0: `atexit._run_exitfuncs`.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
