"""How a session ends early: Ctrl-C and SIGTERM, in any of its processes.

Every process of a session turns the first of these signals into KeyboardInterrupt, as pytest expects, and
ignores further ones while it cleans up; all those that come after its last test, where pytest expects none.
A controller interrupts its workers at once, since xdist alone would wait until they notice. A worker whose
controller is gone stops as if it had been interrupted.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ductaflow.common.host import when_gone

#: Seconds that a worker has to end its run before it is killed.
WORKER_SECONDS = 3.5
#: Seconds after the first signal, or the last test, in which further ones are ignored.
DEAF_SECONDS = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Handles SIGINT and SIGTERM during a session, unless someone else already does."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self._first: float | None = None
        self._is_held = False
        self._held_back: int | None = None

    def install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def rest(self) -> None:
        """The last test has ended, and the session ends by itself: ignore signals meanwhile."""
        self._first = time.monotonic()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal wait until something is done as a whole, which takes milliseconds."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            number, self._held_back = self._held_back, None
            if number is not None:
                self._handle(number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_held:
            self._held_back = number
            return
        now = time.monotonic()
        if self._first is None or now - self._first > DEAF_SECONDS:
            self._first = now
            raise KeyboardInterrupt(signal.Signals(number).name)


class Workers:
    """The local workers of a controller, by process id."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._timer: threading.Timer | None = None

    def add(self, name: str, pid: int) -> None:
        self._pids[name] = pid

    def remove(self, name: str) -> None:
        self._pids.pop(name, None)

    def stop(self) -> None:
        """Interrupt the workers, and kill those that have not ended in time."""
        pids = list(self._pids.values())
        for pid in pids:
            _send(pid, signal.SIGTERM)
        if pids and self._timer is None:
            self._timer = threading.Timer(WORKER_SECONDS, self._kill, (pids,))
            self._timer.daemon = True
            self._timer.start()

    def ended(self) -> None:
        """All workers have ended: cancel the kill."""
        if self._timer is not None:
            self._timer.cancel()

    @staticmethod
    def _kill(pids: list[int]) -> None:
        for pid in pids:
            _send(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def stop_without(pid: int) -> None:
    """Interrupt this process when its controller, the process `pid`, is gone."""
    when_gone(pid, _interrupt_main)


def _interrupt_main() -> None:
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        # to the main thread itself, to interrupt whatever it waits for
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        # It has ended, and another process may have its number by now.
        return
