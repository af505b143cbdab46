"""Who makes the pages of a session: starts its page maker, finds it, and gives it the pages to make.

    session --starts, ends--> page maker
    supervisor --an order, the lock of the folder, the connection to the session--> page maker

The page maker holds the folder from then on, so that its next run waits for the page, and the supervisor can
end. The session waits for the end of its connection, as if the supervisor still had it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ductaflow.common.decode import decode
from ductaflow.common.paths import RunFolder
from ductaflow.execution import warm
from ductaflow.store.sessions import Part, session_of

#: Environment variable with the folder of the session's page maker; `off` to have none.
PAGES = "DUCTAFLOW_PAGES"
_MODULE = "ductaflow.execution.page_maker"
#: How long pages may still take when the session is gone, in seconds.
PAGE_GRACE = 3.0
#: The niceness of making a page: where processors are short it gets a third of what a run gets.
PAGE_NICENESS = 5


@dataclass(frozen=True, slots=True)
class PageOrder:
    """The page of a run that has ended.

    Attributes:
        folder, flow: its run folder, and the name of its files.
        lock: the file of the folder's lock, which is removed at the end.
        until: when the page is there or never will be, in seconds since 1970.
    """

    folder: str
    flow: str
    lock: str
    until: float

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(Path(self.folder), self.flow)

    def dump(self) -> bytes:
        """Return one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def load(cls, text: bytes) -> PageOrder:
        return decode(text, cls, where="the order of a page")


def place_order(order: PageOrder, address: str, descriptors: Sequence[int]) -> bool:
    """Give an order to a page maker, with descriptors that it holds until the page is there.

    Args:
        address: the folder of its socket.

    Returns:
        Whether somebody takes it.
    """
    connection = warm.connected(address)
    if connection is None:
        return False
    with connection:
        try:
            socket.send_fds(connection, [order.dump()], descriptors)
        except OSError:
            return False
    return True


class OwnPageMaker(Part):
    """The page maker that this process started for a session, if any."""

    def __init__(self) -> None:
        self._process: warm.ServerProcess | None = None

    def start(self, *, when_needed: bool) -> None:
        """Start it unless there is one. Where there can be none the process of each run makes its page."""
        with _LOCK:
            own = self._process
            if own is not None and own.lives and (when_needed or not own.waits):
                return
            # A connection starts one that waits.
            if _is_there():
                return
            if own is not None:
                own.end()
                self._process = None
            with contextlib.suppress(OSError):
                self._process = warm.ServerProcess(
                    _MODULE, when_needed=when_needed, end_seconds=PAGE_GRACE + warm.END_SECONDS
                )
                os.environ[PAGES] = str(self._process.folder)

    def end(self, *, orderly: bool) -> None:
        """End the page maker and remove it from the environment."""
        with _LOCK:
            if self._process is not None:
                if os.environ.get(PAGES) == str(self._process.folder):
                    del os.environ[PAGES]
                self._process.end()


#: Held while a page maker is started and its folder put into the environment.
_LOCK = threading.Lock()


def start(session: str | None = None, *, when_needed: bool = False) -> None:
    """Start the session's page maker, unless there is one.

    Args:
        when_needed: with the first page.
    """
    if is_possible():
        session_of(session).part(OwnPageMaker).start(when_needed=when_needed)


def address_of_maker(session: str) -> str:
    """Return where the page maker of a session takes orders; it is started if there is none."""
    start(session)
    return os.environ.get(PAGES, "") if is_possible() else ""


def is_possible() -> bool:
    """Return whether there can be a page maker: on Linux, unless it is switched off."""
    return sys.platform == "linux" and os.environ.get(PAGES) != warm.OFF


def _is_there() -> bool:
    with warm.connected(os.environ.get(PAGES)) or contextlib.nullcontext() as connection:
        return connection is not None
