"""Which worker runs what next, when a session runs on several (pytest-xdist).

Two parts: `Policy` decides and knows neither pytest nor processes; `GraphScheduling` speaks xdist's protocol.

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

import heapq
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

#: What reads from whom: for each item, by its index, the items that must be finished before it starts.
Upstreams = Sequence[Collection[int]]
#: Larger comes first among the items that may start.
Priority = Callable[[int], float]

Worker = TypeVar("Worker", bound=Hashable)

#: Consecutive ordinary tests of one file go to a worker together, so that its fixtures are made once; each
#: worker gets about this many portions of a large file, so that none is left with a long one at the end.
PORTIONS_PER_WORKER = 2


class Policy(Generic[Worker]):
    """Gives each free worker the item of highest priority among those whose upstreams are finished.

    Args:
        upstreams: what each item waits for. A cycle does not stall: its members are let go as collected.
        priority: see `longest_paths`; among equals the one that was collected first is first.
        portions: groups of items that go to one worker together, and count as one that takes as long as all
            of them; none may wait for anything, and nothing for them.
    """

    def __init__(
        self, upstreams: Upstreams, *, priority: Priority, portions: Iterable[Sequence[int]] = ()
    ) -> None:
        self._waits_for = [set(ups) - {item} for item, ups in enumerate(upstreams)]
        self._downstreams: list[list[int]] = [[] for _ in upstreams]
        for item, ups in enumerate(self._waits_for):
            for upstream in ups:
                self._downstreams[upstream].append(item)
        self._priority = priority
        self._unfinished = set(range(len(upstreams)))
        self._unsent = set(self._unfinished)
        self._held: dict[Worker, list[int]] = {}
        self._ready: list[tuple[float, int, list[int]]] = []

        grouped: set[int] = set()
        for portion in portions:
            grouped.update(portion)
            self._push(list(portion))
        for item, waits in enumerate(self._waits_for):
            if not waits and item not in grouped:
                self._push([item])

    @property
    def finished(self) -> bool:
        """Whether every item ran or was lost with its worker."""
        return not self._unfinished

    def add_worker(self, worker: Worker) -> None:
        self._held[worker] = []

    def remove_worker(self, worker: Worker) -> int | None:
        """Take out a worker that died or ended, and give the item that was running there.

        That item counts as finished, what was sent behind it will be sent again.
        """
        held = self._held.pop(worker)
        if not held:
            return None
        running, *rest = held
        if rest:
            self._unsent.update(rest)
            self._push(rest)
        self._finish(running)
        return running

    def complete(self, worker: Worker, item: int) -> None:
        """An item of a worker is done, whatever came of it."""
        self._held[worker].remove(item)
        self._finish(item)

    def run_again(self, item: int) -> None:
        """An item that counted as finished shall run once more."""
        self._unfinished.add(item)
        self._unsent.add(item)
        self._push([item])

    def assign(self, is_ending: Callable[[Worker], bool]) -> list[tuple[Worker, list[int]]]:
        """What to send to the workers that are free now, those aside that take nothing any more."""
        sent: list[tuple[Worker, list[int]]] = []
        for worker, held in self._held.items():
            if held or is_ending(worker):
                continue
            if not self._ready:
                self._let_go_of_a_cycle()
            if not self._ready:
                break
            _, _, items = heapq.heappop(self._ready)
            held.extend(items)
            self._unsent.difference_update(items)
            sent.append((worker, items))
        return sent

    def _push(self, items: list[int]) -> None:
        heapq.heappush(self._ready, (-sum(map(self._priority, items)), items[0], items))

    def _finish(self, item: int) -> None:
        self._unfinished.discard(item)
        for downstream in self._downstreams[item]:
            waits = self._waits_for[downstream]
            if item in waits:
                waits.remove(item)
                if not waits and downstream in self._unsent:
                    self._push([downstream])

    def _let_go_of_a_cycle(self) -> None:
        if self._unsent and not any(self._held.values()):
            item = min(self._unsent)
            self._waits_for[item].clear()
            self._push([item])


def longest_paths(upstreams: Upstreams, weights: Sequence[float]) -> list[float]:
    """For each item, the weight of the heaviest path of items that starts with it and goes downstream.

    As priorities these start the longest path first: what keeps the session waiting begins early.

    Args:
        upstreams: what each item waits for.
        weights: how long each item takes, in any unit. Members of a cycle keep their own weight.
    """
    paths = list(weights)
    open_downstreams = [0] * len(upstreams)
    for ups in upstreams:
        for upstream in ups:
            open_downstreams[upstream] += 1
    done = [item for item, count in enumerate(open_downstreams) if not count]
    while done:
        item = done.pop()
        for upstream in upstreams[item]:
            paths[upstream] = max(paths[upstream], weights[upstream] + paths[item])
            open_downstreams[upstream] -= 1
            if not open_downstreams[upstream]:
                done.append(upstream)
    return paths


def portions_of(ids: Sequence[str], ordinary: Collection[int], workers: int) -> list[list[int]]:
    """Consecutive ordinary tests of the same file, in portions of a size that all workers get some of."""
    size = -(-len(ordinary) // (PORTIONS_PER_WORKER * max(1, workers)))
    portions: list[list[int]] = []
    last_file = None
    for item in sorted(ordinary):
        file = ids[item].partition("::")[0]
        if portions and file == last_file and portions[-1][-1] == item - 1 and len(portions[-1]) < size:
            portions[-1].append(item)
        else:
            portions.append([item])
        last_file = file
    return portions


class GraphScheduling:
    """xdist's scheduler for sessions with instances (`xdist.scheduler.Scheduling`).

    Args:
        config: of the controller.
        log: xdist's.
        edges: gives for the collected node ids what each waits for, and which are instances: None for the
            ordinary tests.
        seconds: gives for the collected node ids how long each is likely to take.
        workers: how many are started; nothing is sent before all have collected.
    """

    def __init__(
        self,
        config: pytest.Config,
        log: Producer,
        edges: Callable[[Sequence[str]], Sequence[Collection[int] | None]],
        seconds: Callable[[Sequence[str]], Sequence[float]],
        workers: int,
    ) -> None:
        self.config = config
        self.log = log.graphsched
        self._edges = edges
        self._seconds = seconds
        self._expected_nodes = workers
        self._collections: dict[WorkerController, list[str] | None] = {}
        self._policy: Policy[WorkerController] | None = None
        self._ids: list[str] = []
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
        return self._policy.finished or self._none_can_go_on()

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

    # --- inside ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        first = next(iter(self._collections))
        ids = self._collections[first] or []
        differing = [node for node in self._collections if not self._same_collection(ids, node)]
        if differing:
            self._collections_differ = True
            return
        self._ids = ids
        edges = self._edges(ids)
        upstreams = [ups or () for ups in edges]
        paths = longest_paths(upstreams, self._seconds(ids))
        ordinary = [item for item, ups in enumerate(edges) if ups is None]
        self._policy = Policy(
            upstreams,
            priority=paths.__getitem__,
            portions=portions_of(ids, ordinary, len(self._collections)),
        )
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

    def _none_can_go_on(self) -> bool:
        """Whether all that is left are workers that collected something else, which ends the session."""
        return bool(self._strangers) and self._strangers.issuperset(self._collections)

    def _same_collection(self, ids: list[str], node: WorkerController) -> bool:
        from xdist.report import report_collection_diff

        collected = self._collections[node] or []
        difference = report_collection_diff(ids, collected, "the first worker", node.gateway.id)
        if difference is None:
            return True
        import pytest

        self.config.hook.pytest_collectreport(
            report=pytest.CollectReport(
                nodeid=node.gateway.id, outcome="failed", longrepr=difference, result=[]
            )
        )
        return False
