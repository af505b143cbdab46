"""Room for runs on a worker of a cluster: one that its machine has no room for waits there, in its thread."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ductaflow.execution.launch import StopFlag
from ductaflow.project.instances import Instance
from ductaflow.session.resources import RoomHere

#: Seconds between two looks at the memory, which others take and give back too.
LOOK_SECONDS = 0.5


class WorkerRoom:
    """What the runs of this process take of its machine, by the rules of a session on one machine.

    They begin in the order in which they came. Where nothing runs the first one begins, whatever it takes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tickets = itertools.count()
        self._waiting: list[int] = []
        self._running: dict[int, tuple[Instance, int]] = {}

    @contextmanager
    def taken(self, instance: Instance, peak: int, workers: int, stop: StopFlag) -> Iterator[None]:
        """Wait for room for a run, and have it.

        Args:
            instance: what runs.
            peak: the memory in bytes that it is likely to take, if its config says nothing; 0 if unknown.
            workers: how many runs this process may have at a time.
            stop: ends the wait when it is set.
        """
        with self._changed:
            ticket = next(self._tickets)
            self._waiting.append(ticket)
            try:
                while not stop.is_set() and not self._may_begin(ticket, instance, peak, workers):
                    self._changed.wait(LOOK_SECONDS)
            finally:
                self._waiting.remove(ticket)
            self._running[ticket] = instance, peak
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                del self._running[ticket]
                self._changed.notify_all()

    def _may_begin(self, ticket: int, instance: Instance, peak: int, workers: int) -> bool:
        if self._waiting[0] != ticket:
            return False
        if not self._running:
            return True
        all_here = [*self._running.values(), (instance, peak)]
        room = RoomHere([one for one, _ in all_here], [memory for _, memory in all_here], workers)
        last = len(all_here) - 1
        wanted = room.demand(last)
        return not wanted.lack(room.free({item: room.demand(item) for item in range(last)}, wanted))
