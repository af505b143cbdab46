"""The event loop of a flow that awaits in its cells, and the private parts of asyncio that it depends on.

In a kernel a loop runs all the time: a cell without `await` may make tasks and timers, which go on while
later cells await. Here it only runs where a cell awaits, so that `asyncio.run` works in the other cells as it
does in a script. These find the loop as the running one nevertheless:

    asyncio.create_task(work())        looks for the running loop, and finds it
    asyncio.run(main())                asks whether another loop runs, and none does

No other module touches these parts. `tests/notebook/test_asyncio_hooks.py` fails by the name of a hook that a
new version of Python has dropped. Since Python 3.7: `_get_running_loop` and `_set_running_loop`, which
`asyncio.run` and the loops look up in `asyncio.events`, while the rest of asyncio uses the functions in C.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from asyncio import events
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
#: How often the loop turns behind a cell that did not await, as a kernel's does until the next cell comes.
_TURNS = 10
#: Seconds that pending tasks have at the end of the run to clean up after themselves.
_GRACE = 1.0


class CellLoop:
    """The one event loop of a run; `running_in_cells` has cells without `await` find it too."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_shown = False

    def run(self, coroutine: Coroutine[object, object, T]) -> T:
        """Run a cell with a top-level `await`."""
        with self._hidden():
            return self._open_loop().run_until_complete(coroutine)

    @contextlib.contextmanager
    def running_in_cells(self) -> Iterator[None]:
        """Let a cell without `await` find the loop as the running one."""
        get, put, choose = events._get_running_loop, events._set_running_loop, events.set_event_loop
        here = os.getpid(), threading.get_ident()
        loop, is_chosen = self._open_loop(), False

        def is_here() -> bool:
            return self._is_shown and here == (os.getpid(), threading.get_ident())

        def may_start_another() -> asyncio.AbstractEventLoop | None:
            running = get()
            return None if running is loop and not loop.is_running() else running

        def put_back(running: asyncio.AbstractEventLoop | None) -> None:
            # another loop has ended in this cell
            put(loop if running is None and is_here() and not is_chosen else running)

        def use_another(chosen: asyncio.AbstractEventLoop | None) -> None:
            nonlocal is_chosen
            choose(chosen)
            if is_here() and not _runs(get()):
                is_chosen = chosen not in (None, loop)
                put(None if is_chosen else loop)

        hooks: dict[str, Any] = {
            "_get_running_loop": may_start_another,
            "_set_running_loop": put_back,
            "set_event_loop": use_another,
        }
        self._is_shown = True
        vars(events).update(hooks)
        vars(asyncio)["set_event_loop"] = use_another
        put(loop)
        try:
            yield
        finally:
            self._is_shown = False
            put(None)
            vars(events).update(_get_running_loop=get, _set_running_loop=put, set_event_loop=choose)
            vars(asyncio)["set_event_loop"] = choose

    @contextlib.contextmanager
    def _hidden(self) -> Iterator[None]:
        """Run the loop in truth, also from within a cell."""
        was_shown, self._is_shown = self._is_shown, False
        if was_shown:
            events._set_running_loop(None)
        try:
            yield
        finally:
            self._is_shown = was_shown
            if was_shown:
                events._set_running_loop(None)

    def turn(self) -> None:
        """Do what is ready, as a kernel does between two cells."""
        for _ in range(_TURNS):
            self._open_loop().run_until_complete(asyncio.sleep(0))

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        return self._loop

    def close(self) -> None:
        """End the loop: pending tasks are cancelled, as by `asyncio.run`, and have a moment to clean up."""
        if self._loop.is_closed():
            return
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
            # Since Python 3.4: says "Task was destroyed but it is pending!"
            vars_of_task: Any = task
            vars_of_task._log_destroy_pending = False
        if pending:
            done, _ = self._loop.run_until_complete(asyncio.wait(pending, timeout=_GRACE))
            for task in done:
                # asked for, so that nothing says that it never was
                if not task.cancelled():
                    task.exception()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        # Since Python 3.4: `_default_executor`. Its threads report to the loop when they end.
        if getattr(self._loop, "_default_executor", None) is None:
            self._loop.close()


def _runs(loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is not None and loop.is_running()
