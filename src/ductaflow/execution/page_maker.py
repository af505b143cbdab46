"""The page maker: one process for a session, which has the HTML of its runs made.

    supervisor --an order, the lock of the folder, the connection to the session--> page maker
    page maker --an order, the lock--> its worker, which makes one page after the other

The page maker itself imports little and makes nothing: it holds the folders, keeps time, and says in the
place of a page why it never will be there. Its worker keeps what pages have in common, so that one costs a
fifth of what it costs alone. Where the worker ends while it makes a page, another one makes that page again,
once. The page maker ends with the pipe from its session, when it has made the pages that it has, or at the
latest after `PAGE_GRACE`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ductaflow.common import host
from ductaflow.common.decode import UnreadableError
from ductaflow.execution.page_orders import PAGE_GRACE, PAGE_NICENESS, PageOrder
from ductaflow.notebook.export import end_announcement

#: Bytes of an order.
_MESSAGE = 1 << 16
#: How often a page is begun.
_ATTEMPTS = 2
#: Descriptors of an order: the lock and the connection to the session.
_DESCRIPTORS = 2


@dataclass(eq=False)
class _Page:
    """A page to make, and what is held until it is there."""

    order: PageOrder
    descriptors: list[int]
    #: How often a worker has ended while it made it.
    attempts: int = 0

    def let_go(self) -> None:
        """Give the folder free, and let the session know that the page is there."""
        with contextlib.suppress(OSError):
            Path(self.order.lock).unlink(missing_ok=True)
        for descriptor in self.descriptors:
            os.close(descriptor)


@dataclass(eq=False)
class _Worker:
    """A process that makes pages; `page` is the one that it makes now."""

    pid: int
    control: socket.socket
    page: _Page | None = None


class PageMaker:
    """Takes orders on a listening socket.

    Args:
        lifeline: the pipe from the session; its end is that of the session.
        folder: the folder of the socket, removed at the end.
    """

    def __init__(self, listener: socket.socket, lifeline: int, folder: Path) -> None:
        self._listener = listener
        self._lifeline = lifeline
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[_Page] = deque()
        self._worker: _Worker | None = None
        #: When the pages that are left are given up, once the session has ended.
        self._limit: float | None = None

    def serve(self) -> None:
        """Run until the session ends and its pages are made."""
        try:
            os.chdir(self._folder)
            self._when(self._lifeline, self._end_of_session)
            self._when(self._listener, self._accept)
            self._worker = self._forked()
            while self._limit is None or self._has_pages:
                for key, _ in self._selector.select(self._seconds_left()):
                    # An earlier one of these may have ended it.
                    if self._selector.get_map().get(key.fd) is key:
                        key.data()
                self._give_up_late()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _has_pages(self) -> bool:
        return bool(self._waiting) or (self._worker is not None and self._worker.page is not None)

    def _when(self, what: socket.socket | int, then: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)

    def _end_of_session(self) -> None:
        # What it writes is for the warm server alone.
        if not os.read(self._lifeline, _MESSAGE):
            self._selector.unregister(self._lifeline)
            self._limit = time.time() + PAGE_GRACE

    # --- orders ---------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            # Too many descriptors: pages that end give some back.
            time.sleep(0.05)
            return
        connection.setblocking(True)
        with connection:
            try:
                text, descriptors, flags, _ = socket.recv_fds(connection, _MESSAGE, _DESCRIPTORS)
            except OSError:
                return
        try:
            if flags & socket.MSG_CTRUNC or not text.endswith(b"\n"):
                # Somebody who only looked, or too many descriptors: their end tells the session.
                raise UnreadableError("half an order")
            page = _Page(PageOrder.load(text), list(descriptors))
        except UnreadableError:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        self._waiting.append(page)
        self._go_on()

    def _go_on(self) -> None:
        """Give the next page to the worker."""
        if self._worker is None:
            self._worker = self._forked()
        if self._worker.page is None and self._waiting:
            self._worker.page = page = self._waiting.popleft()
            # If it is gone, the end of its control is seen.
            with contextlib.suppress(OSError):
                socket.send_fds(self._worker.control, [page.order.dump()], page.descriptors[:1])

    # --- the worker -----------------------------------------------------------------------------------------

    def _forked(self) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        maker = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_worker(theirs, maker)
        theirs.close()
        worker = _Worker(pid, ours)
        self._when(ours, self._hear)
        return worker

    def _hear(self) -> None:
        """The worker has made its page, or has ended."""
        worker = self._worker
        assert worker is not None
        try:
            answer = worker.control.recv(_MESSAGE)
        except OSError:
            answer = b""
        if answer:
            assert worker.page is not None
            worker.page.let_go()
            worker.page = None
        else:
            self._bury(worker)
        if self._waiting:
            self._go_on()

    def _bury(self, worker: _Worker) -> None:
        self._selector.unregister(worker.control)
        worker.control.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        _, status = os.waitpid(worker.pid, 0)
        self._worker = None
        if (page := worker.page) is None:
            return
        page.attempts += 1
        if page.attempts < _ATTEMPTS and self._until(page) > time.time():
            self._waiting.append(page)
            return
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        end_announcement(
            page.order.run_folder, f"The HTML was not made: the process that made it ended with {how}."
        )
        page.let_go()

    # --- time -----------------------------------------------------------------------------------------------

    def _until(self, page: _Page) -> float:
        return page.order.until if self._limit is None else min(self._limit, page.order.until)

    def _seconds_left(self) -> float | None:
        pages = [*self._waiting, *([self._worker.page] if self._worker and self._worker.page else [])]
        return max(0.0, min(map(self._until, pages)) - time.time()) if pages else None

    def _give_up_late(self) -> None:
        now = time.time()
        for page in [page for page in self._waiting if self._until(page) <= now]:
            self._waiting.remove(page)
            self._give_up(page)
        worker = self._worker
        made = worker.page if worker else None
        if worker and made and self._until(made) <= now:
            # It may be anywhere in code of C, so it ends first: it must not write behind us.
            worker.page = None
            self._bury(worker)
            self._give_up(made)
            if self._waiting:
                self._go_on()

    def _give_up(self, page: _Page) -> None:
        """Say that there was not enough time for a page."""
        why = "its session had ended" if page.order.until > time.time() else "it took too long"
        end_announcement(page.order.run_folder, f"The HTML was not made: {why}.")
        page.let_go()


def _become_worker(control: socket.socket, maker: int) -> NoReturn:
    try:
        host.die_with_parent(maker)
        # The folders and connections of other pages among them.
        os.closerange(3, control.fileno())
        os.closerange(control.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        # Runs that somebody waits for go first.
        os.nice(PAGE_NICENESS)
        make_pages(control)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def make_pages(control: socket.socket) -> None:
    """Make the pages that are ordered on a connection until its end."""
    from ductaflow.notebook.export import make_page
    from ductaflow.notebook.quick_pages import QuickPages

    pages = QuickPages()
    while True:
        text, descriptors, _, _ = socket.recv_fds(control, _MESSAGE, 1)
        if not text:
            return
        make_page(PageOrder.load(text).run_folder, pages.html_of)
        # Only now: as long as this process may write into the folder it is held.
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(b"made")


def main(arguments: list[str]) -> None:
    """Serve, with what `warm.command` has on the command line."""
    listener, lifeline, folder = arguments
    listening = socket.socket(fileno=int(listener))
    listening.setblocking(True)
    PageMaker(listening, int(lifeline), Path(folder)).serve()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
