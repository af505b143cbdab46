"""What a session keeps in this process, and the end of it.

    with Session() as session:              an id of its own, or the one of the enclosing run
        session.part(HashStores)            made on first use, ended with the session

What runs belongs to a session by its id (`RunSpec.session_id`). A session that is not open in this process,
as of a script that calls `run_notebook`, or in a worker of pytest, is kept by the process until it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from typing import TypeVar

from ductaflow.store.spec import current_run


class Part:
    """Something that a session keeps in this process. It is made without arguments."""

    def end(self, *, orderly: bool) -> None:
        """Release what it holds; not `orderly`: the session was interrupted, and the caller does not wait."""


P = TypeVar("P", bound=Part)


class Session:
    """One session in this process: its id, by default the one of the enclosing run, and its parts."""

    def __init__(self, id: str | None = None) -> None:
        run = current_run()
        self.id = id or (run.session_id if run else os.urandom(6).hex())
        self._pid = os.getpid()
        self._parts: dict[type[Part], Part] = {}
        self._lock = threading.RLock()

    def part(self, kind: type[P]) -> P:
        """Return the part of a kind, which is made when it is first asked for."""
        with self._lock:
            found = self._parts.get(kind)
            if not isinstance(found, kind):
                found = self._parts[kind] = kind()
            return found

    def end(self, *, orderly: bool = True) -> None:
        """End all parts, the newest first. A fork of the process leaves them to the original."""
        if not self.is_of_this_process:
            return
        with self._lock, contextlib.ExitStack() as stack:
            # An error, or a Ctrl-C, in the end of one part leaves none of the others behind.
            for part in self._parts.values():
                stack.callback(part.end, orderly=orderly)
            self._parts = {}

    def __enter__(self) -> Session:
        with _LOCK:
            _OPEN.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.end(orderly=kind is None)
        finally:
            with _LOCK:
                _OPEN.remove(self)

    @property
    def is_of_this_process(self) -> bool:
        """Whether it was not inherited by a fork."""
        return self._pid == os.getpid()


_LOCK = threading.Lock()
#: The sessions that are open in this process, the newest last.
_OPEN: list[Session] = []
#: The session of the process itself, made on first use.
_PROCESS: list[Session] = []


def session_of(id: str | None = None) -> Session:
    """Return the open session of an id; without one, and for an unknown id, the session of this process."""
    with _LOCK:
        for session in reversed(_OPEN):
            if session.id == id and session.is_of_this_process:
                return session
        if not (_PROCESS and _PROCESS[0].is_of_this_process):
            _PROCESS[:] = [Session()]
            atexit.register(_PROCESS[0].end, orderly=False)
        return _PROCESS[0]
