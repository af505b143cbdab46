"""The page maker: one process for a session, which has the HTML of its runs made.

    supervisor --an order, the lock of the folder, the connection to the session--> page maker
    page maker --an order, the lock--> a worker, which makes one page after the other

The page maker itself imports little and makes nothing: it holds the folders, keeps time, and says in the
place of a page why it never will be there. Its worker keeps what pages have in common, so that one costs a
fifth of what it costs alone. Large notebooks have a worker of their own, so that others do not wait for them.
Where a worker ends while it makes a page, another one makes that page again, once. The page maker ends with
the pipe from its session, when it has made the pages that it has, or at the latest after `PAGE_GRACE`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ductaflow.common import host
from ductaflow.common.decode import UnreadableError
from ductaflow.common.files import sweep_temporary
from ductaflow.execution.page_orders import FAULT, PAGE_GRACE, PAGE_NICENESS, PageOrder
from ductaflow.execution.warm import inherited
from ductaflow.notebook.export import end_announcement, make_page

if TYPE_CHECKING:
    from ductaflow.notebook.quick_pages import QuickPages

#: Bytes of an order.
_MESSAGE = 1 << 16
#: The size of a notebook, in bytes, from which on it is a large one.
LARGE = 2_000_000
#: A worker that had more memory than this, in bytes, makes no further page.
_MOST_MEMORY = 1 << 30
#: What a worker answers: the page is there; it is, and was its last one.
_MADE, _LAST = b"made", b"last"
#: How often a page is begun.
_ATTEMPTS = 2
#: Seconds to wait where no further descriptor can be opened.
_SHORT_OF_DESCRIPTORS = 0.05
#: Descriptors of an order: the lock and the connection to the session.
_DESCRIPTORS = 2


@dataclass(eq=False)
class _Page:
    """A page to make, and what is held until it is there.

    Attributes:
        attempts: how often a worker has ended while it made it.
    """

    order: PageOrder
    descriptors: list[int]
    attempts: int = 0

    def give_up(self, why: str) -> None:
        """Say in the place of the page why it will not be there."""
        end_announcement(self.order.run_folder, f"The HTML was not made: {why}. The run itself had ended.")
        self.let_go()

    def let_go(self) -> None:
        """Give the folder free, and let the session know that nothing more will come."""
        with contextlib.suppress(OSError):
            Path(self.order.lock).unlink(missing_ok=True)
        for descriptor in self.descriptors:
            os.close(descriptor)


@dataclass(eq=False)
class _Lane:
    """Pages that are made one after the other, by a worker that starts with the first one.

    Attributes:
        is_large: whether it is that of large notebooks.
        page: the one that the worker makes now.
    """

    selector: selectors.BaseSelector
    is_large: bool
    waiting: deque[_Page] = field(default_factory=deque)
    page: _Page | None = None
    pid: int = 0
    control: socket.socket | None = None

    @property
    def pages(self) -> list[_Page]:
        return [*self.waiting, *([self.page] if self.page else [])]

    def add(self, page: _Page) -> None:
        self.waiting.append(page)
        self.go_on()

    def go_on(self) -> None:
        """Give the next page to the worker."""
        if self.page or not self.waiting:
            return
        self.page = page = self.waiting.popleft()
        try:
            control = self.control or self.start()
        except OSError as exc:
            self.page = None
            page.give_up(f"there can be no process for it ({exc.strerror})")
            self.go_on()
            return
        # If the worker is gone, the end of its control is seen.
        with contextlib.suppress(OSError):
            socket.send_fds(control, [page.order.dump()], page.descriptors[:1])

    def start(self) -> socket.socket:
        """Start the worker."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        maker = os.getpid()
        with theirs:
            try:
                self.pid = os.fork()
            except OSError:
                ours.close()
                raise
            if self.pid == 0:
                _become_worker(theirs, maker, large=self.is_large)
        self.control = ours
        self.selector.register(ours, selectors.EVENT_READ, self.hear)
        return ours

    def hear(self) -> None:
        """The worker has made its page, or has ended."""
        assert self.control is not None
        try:
            answer = self.control.recv(_MESSAGE)
        except OSError:
            answer = b""
        page, self.page = self.page, None
        if answer:
            assert page is not None
            page.let_go()
            if answer == _LAST:
                self.end()
        else:
            how = self.end()
            if page:
                # Half a page.
                sweep_temporary(page.order.folder)
                page.attempts += 1
                if page.attempts < _ATTEMPTS:
                    self.waiting.append(page)
                else:
                    page.give_up(f"the process that made it ended with {how}, twice")
        self.go_on()

    def give_up_late(self, until: Callable[[_Page], float]) -> None:
        """Give up the pages whose time is over."""
        now = time.time()
        late = [page for page in self.pages if until(page) <= now]
        if self.page in late:
            # It may be anywhere in code of C. It must not write behind us, so it ends first.
            self.page = None
            self.end()
        for page in late:
            sweep_temporary(page.order.folder)
            if page in self.waiting:
                self.waiting.remove(page)
            page.give_up("its session had ended" if page.order.until > now else "it took too long")
        self.go_on()

    def end(self) -> str:
        """End the worker; return how it has ended."""
        assert self.control is not None
        self.selector.unregister(self.control)
        self.control.close()
        self.control = None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


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
        self._quick, self._large = _Lane(self._selector, False), _Lane(self._selector, True)
        #: When the pages that are left are given up, once the session has ended.
        self._limit = float("inf")

    def serve(self) -> None:
        """Run until the session ends and its pages are made."""
        try:
            # It must not be in the way of anybody, and workers leave a file there.
            os.chdir(self._folder)
            self._when(self._lifeline, self._end_of_session)
            self._when(self._listener, self._accept)
            # What follows is needed by the first page, which comes with the end of the first run.
            with contextlib.suppress(OSError):
                self._quick.start()
            while self._limit == float("inf") or self._pages:
                for key, _ in self._selector.select(self._seconds_left()):
                    # An earlier one of these may have ended it.
                    if self._selector.get_map().get(key.fd) is key:
                        key.data()
                for lane in (self._quick, self._large):
                    lane.give_up_late(self._until)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _pages(self) -> list[_Page]:
        return [*self._quick.pages, *self._large.pages]

    def _when(self, what: socket.socket | int, then: Callable[[], None]) -> None:
        self._selector.register(what, selectors.EVENT_READ, then)

    def _end_of_session(self) -> None:
        # What it writes is for the warm server alone.
        if not os.read(self._lifeline, _MESSAGE):
            self._selector.unregister(self._lifeline)
            self._limit = time.time() + PAGE_GRACE

    def _until(self, page: _Page) -> float:
        return min(self._limit, page.order.until)

    def _seconds_left(self) -> float | None:
        soonest = min(map(self._until, self._pages), default=None)
        return None if soonest is None else max(0.0, soonest - time.time())

    def _accept(self) -> None:
        """Take an order, unless somebody only looked whether there is a page maker."""
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.setblocking(True)
                text, descriptors, flags, _ = socket.recv_fds(connection, _MESSAGE, _DESCRIPTORS)
        except OSError:
            # Too many descriptors: pages that end give some back.
            time.sleep(_SHORT_OF_DESCRIPTORS)
            return
        page: _Page | None = None
        with contextlib.suppress(UnreadableError):
            if text.endswith(b"\n") and not flags & socket.MSG_CTRUNC:
                page = _Page(PageOrder.load(text), list(descriptors))
        if page is None:
            # What came with half an order is closed, by which the session knows.
            for descriptor in descriptors:
                os.close(descriptor)
            return
        lane = self._large if _size(page.order.run_folder.notebook) > LARGE else self._quick
        lane.add(page)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _become_worker(control: socket.socket, maker: int, *, large: bool) -> NoReturn:
    try:
        host.die_with_parent(maker)
        # The folders and connections of pages are among them, whose end somebody waits for.
        os.closerange(3, control.fileno())
        os.closerange(control.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        # Runs that somebody waits for go first.
        os.nice(PAGE_NICENESS)
        make_pages(control, large=large)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    finally:
        os._exit(0)


def make_pages(control: socket.socket, *, large: bool) -> None:
    """Make the pages that are ordered on a connection, until its end or until this process is too large."""
    pages, fault = _quick_pages(large=large)
    if pages and not large:
        pages.prepare()
    to_html = None if pages is None else pages.html_of
    answer = _MADE
    while answer == _MADE:
        text, descriptors, _, _ = socket.recv_fds(control, _MESSAGE, 1)
        if not text:
            return
        # Where nothing can be written, the placeholder says until when there may be a page.
        with contextlib.suppress(OSError):
            make_page(PageOrder.load(text).run_folder, to_html)
        # Only now: as long as this process may write into the folder it is held.
        for descriptor in descriptors:
            os.close(descriptor)
        if fault := (fault if pages is None else pages.fault):
            Path(FAULT).write_text(fault, encoding="utf-8", errors="backslashreplace")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = _MADE if memory < _MOST_MEMORY else _LAST
        control.send(answer)


def _quick_pages(*, large: bool) -> tuple[QuickPages | None, str]:
    """Return what makes pages quickly, or why there is nothing; nbconvert as it is makes them then."""
    try:
        from ductaflow.notebook.quick_pages import QuickPages
    except Exception as exc:
        return None, f"what is needed of nbconvert cannot be imported: {type(exc).__name__}: {exc}"
    return (QuickPages(first=0) if large else QuickPages()), ""


def main(arguments: list[str]) -> None:
    """Serve, with what `warm.command` has on the command line."""
    PageMaker(*inherited(arguments)).serve()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
