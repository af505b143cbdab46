"""Which worker runs what next, when a session runs on several (pytest-xdist).

`scheduler.Policy` decides and knows neither pytest nor processes; `GraphScheduling` speaks xdist's protocol.

A worker of xdist starts an item only when it holds the next one, and what it holds cannot be taken back. An
item that waits behind a long run would wait there while other workers are idle. So nothing real is ever put
behind a run: each worker has one more item than it reported, the *pause* (`items.Pause`), which does nothing
and may be sent any number of times:

    sent      scenario_A pause | scenario_B pause | shutdown
    runs      scenario_A ....... pause scenario_B ....... pause

A worker that has only its pause is free, and stays so without being shut down as long as work may still come.
Each decision is made when a worker is free, with all that is known then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from ductaflow.session.resources import RoomHere
from ductaflow.session.scheduler import Policy, ReadyQueue, portions_of
from ductaflow.store.result import Result

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController


class GraphScheduling:
    """xdist's scheduler for sessions with instances (`xdist.scheduler.Scheduling`).

    Args:
        edges: gives for node ids what each waits for; None for the ordinary tests.
        seconds: gives for node ids how long each is likely to take.
        workers: how many are started; nothing is sent before all have collected.
        room: gives for node ids what they take and what there is; None where nothing is limited.
        show_waits: called with what waits for room, by node ids.
    """

    def __init__(
        self,
        config: pytest.Config,
        log: Producer,
        edges: Callable[[Sequence[str]], Sequence[Collection[int] | None]],
        seconds: Callable[[Sequence[str]], Sequence[float]],
        workers: int,
        room: Callable[[Sequence[str]], RoomHere] | None = None,
        show_waits: Callable[[Mapping[str, str]], None] = lambda waits: None,
    ) -> None:
        self.config = config
        self.log = log.graphsched
        self._edges = edges
        self._seconds = seconds
        self._expected_nodes = workers
        self._room_of = room
        self._room: RoomHere | None = None
        self._show_waits = show_waits
        self._collections: dict[WorkerController, list[str] | None] = {}
        self._policy: Policy[WorkerController] | None = None
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._collections_differ = False
        self._strangers: set[WorkerController] = set()

    # --- what xdist asks ---------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[WorkerController]:
        return list(self._collections)

    @property
    def collection_is_completed(self) -> bool:
        collected = [ids for ids in self._collections.values() if ids is not None]
        return self._policy is not None or len(collected) >= self._expected_nodes

    @property
    def tests_finished(self) -> bool:
        if self._policy is None:
            return self._collections_differ
        # Or only workers are left that collected something else.
        strangers_only = bool(self._strangers) and self._strangers >= self._collections.keys()
        return self._policy.finished or strangers_only

    @property
    def has_pending(self) -> bool:
        return self._policy is not None and not self._policy.finished

    # --- what xdist tells --------------------------------------------------------------------------------

    def add_node(self, node: WorkerController) -> None:
        self._collections[node] = None

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self._collections[node] = list(collection)
        if self._policy is not None:
            # it replaces one that died
            if self._same_collection(self._ids, node):
                self._policy.add_worker(node)
            else:
                self._strangers.add(node)
                node.shutdown()

    def schedule(self) -> None:
        if self._policy is None and not self._collections_differ:
            self._begin()
        self._send()

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        if self._policy is not None and item_index < len(self._ids):
            self._policy.complete(node, item_index)
            self._send()

    def mark_test_pending(self, item: str) -> None:
        if self._policy is not None:
            self._policy.run_again(self._ids.index(item))
            self._send()

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        raise NotImplementedError("nothing is taken back from a worker")

    def remove_node(self, node: WorkerController) -> str | None:
        collected = self._collections.pop(node)
        self._strangers.discard(node)
        if self._policy is None or collected != self._ids:
            return None
        crashed = self._policy.remove_worker(node)
        self._send()
        return None if crashed is None else self._ids[crashed]

    def _begin(self) -> None:
        ids = next(iter(self._collections.values())) or []
        # Each that differs is reported.
        self._collections_differ = sum(not self._same_collection(ids, node) for node in self._collections) > 0
        if self._collections_differ:
            return
        self._ids = ids
        edges = self._edges(ids)
        upstreams = [ups or () for ups in edges]
        ordinary = [item for item, ups in enumerate(edges) if ups is None]
        portions = portions_of(ids, ordinary, len(self._collections))
        self._room = self._room_of(ids) if self._room_of else None
        self._places = {id: place for place, id in enumerate(ids)}
        self._policy = Policy(ReadyQueue(upstreams, self._seconds(ids), portions), self._room)
        for node in self._collections:
            self._policy.add_worker(node)

    def _send(self) -> None:
        if self._policy is None:
            return
        pause = len(self._ids)
        # a node is ending that died, or all are: -x, --maxfail, too many dead workers
        for node, items in self._policy.assign(lambda node: node.shutting_down):
            self.log("sending", node, items)
            node.send_runtest_some([*items, pause])
        self._show_waits({self._ids[item]: lack for item, lack in self._policy.waits.items()})

    def learn(self, nodeid: str, result: Result) -> None:
        """The result of an item tells how much memory it took."""
        if self._room and nodeid in self._places:
            self._room.learn(self._places[nodeid], result)

    def _same_collection(self, ids: list[str], node: WorkerController) -> bool:
        from xdist.report import report_collection_diff

        collected = self._collections[node] or []
        difference = report_collection_diff(ids, collected, "the first worker", node.gateway.id)
        if difference is None:
            return True
        report = pytest.CollectReport(node.gateway.id, "failed", difference, [])
        self.config.hook.pytest_collectreport(report=report)
        return False
