"""Who makes the pages of a session: starts its page maker, finds it, and gives it the pages to make.

    session --starts, ends--> page maker
    supervisor --an order, the lock of the folder, the connection to the session--> page maker

The page maker holds the folder from then on, so that its next run waits for the page, and the supervisor can
end. The session waits for the end of its connection, as if the supervisor still had it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ductaflow.common.decode import decode
from ductaflow.common.paths import RunFolder
from ductaflow.execution import warm
from ductaflow.notebook.export import announce_page, end_announcement, is_announced
from ductaflow.store.folder import AFTERWARDS_SECONDS, hand_over_again
from ductaflow.store.sessions import session_of
from ductaflow.store.spec import RunSpec

#: Environment variable with the folder of the session's page maker; `off` to have none.
PAGES = "DUCTAFLOW_PAGES"
#: The file in that folder that says why pages cost more than they should.
FAULT = "fault"
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


def order_again(spec: RunSpec) -> None:
    """Order the page of a run once more, if whoever was to make it has ended, and wait for it.

    Where another run holds the folder by now, that one has taken the placeholder away.
    """
    files = spec.run_folder
    if not is_announced(files):
        return
    ours, theirs = socket.socketpair()

    def order(held: int, lock: str) -> bool:
        with theirs:
            until = announce_page(files, within=AFTERWARDS_SECONDS)
            order = PageOrder(spec.folder, spec.flow, lock, until)
            return place_order(order, address_of_maker(spec.session_id), [held, theirs.fileno()])

    def give_up(*_: object) -> bool:
        end_announcement(files)
        return False

    with ours, theirs:
        if hand_over_again(files.path, Path(spec.runs_root), spec.run_id, order):
            ours.recv(1)
    if is_announced(files):
        hand_over_again(files.path, Path(spec.runs_root), spec.run_id, give_up)


def told_of_pages() -> str:
    """Return a line for people if the pages of this session cost more than they should; empty if not."""
    try:
        fault = Path(os.environ.get(PAGES, ""), FAULT).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return f"ductaflow: the HTML of notebooks takes several times as long as it could: {fault}"


class OwnPageMaker(warm.OwnProcess):
    """The page maker of a session. Where there can be none the process of each run makes its page."""

    variable = PAGES
    module = "ductaflow.execution.page_maker"
    end_seconds = PAGE_GRACE + warm.END_SECONDS
    lock = threading.Lock()


def start(session: str | None = None, *, when_needed: bool = False) -> None:
    """Start the session's page maker, unless there is one.

    Args:
        when_needed: with the first page.
    """
    if is_possible():
        session_of(session).part(OwnPageMaker).start(when_needed=when_needed, rouse=not when_needed)


def disown() -> None:
    """Forget a page maker that another process started and that ends with that process."""
    session_of().part(OwnPageMaker).disown()


def address_of_maker(session: str) -> str:
    """Return where the page maker of a session takes orders; it is started if there is none."""
    start(session)
    return os.environ.get(PAGES, "") if is_possible() else ""


def is_possible() -> bool:
    """Return whether there can be a page maker: on Linux, unless it is switched off."""
    return warm.is_possible(PAGES)
