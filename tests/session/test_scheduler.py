"""The policy that gives items to workers, and how it speaks to xdist. No processes: workers are numbers."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ductaflow.session.scheduler import Policy, ReadyQueue, longest_paths, portions_of
from pytest_ductaflow.xdist_scheduler import GraphScheduling


def all_take(worker: object) -> bool:
    return False


def policy_of(upstreams: Sequence[Sequence[int]], workers: int, **kwargs: Any) -> Policy[int]:
    policy: Policy[int] = Policy(ReadyQueue(upstreams, [1.0] * len(upstreams), **kwargs))
    for worker in range(workers):
        policy.add_worker(worker)
    return policy


# --- the policy --------------------------------------------------------------------------------------------


def test_independent_items_go_to_all_workers_in_the_order_collected() -> None:
    """Without a graph, every free worker gets the next item."""
    policy = policy_of([[], [], []], workers=2)

    assert policy.assign(all_take) == [(0, [0]), (1, [1])]
    assert policy.assign(all_take) == []

    policy.complete(1, 1)
    assert policy.assign(all_take) == [(1, [2])]


def test_an_item_waits_for_its_upstream_while_its_worker_is_kept() -> None:
    """A worker with nothing to do yet stays free and gets the item when its upstream is finished."""
    policy = policy_of([[], [0]], workers=2)

    assert policy.assign(all_take) == [(0, [0])]
    assert policy.assign(all_take) == []
    assert not policy.finished

    policy.complete(0, 0)
    assert policy.assign(all_take) == [(0, [1])]
    policy.complete(0, 1)
    assert policy.finished


def test_the_longest_path_begins_first() -> None:
    """What has most items behind it starts before what was collected earlier."""
    policy = policy_of([[], [], [1], [2]], workers=1)

    assert policy.assign(all_take) == [(0, [1])]


def test_a_portion_weighs_as_all_its_tests() -> None:
    """A long portion begins before a shorter run, so that no worker is left with it at the end."""
    policy: Policy[int] = Policy(ReadyQueue([[]] * 4, [2.0, 1.0, 1.0, 1.0], portions=[[1, 2, 3]]))
    policy.add_worker(0)

    assert policy.assign(all_take) == [(0, [1, 2, 3])]


def test_what_a_dead_worker_ran_counts_as_finished_and_the_rest_goes_elsewhere() -> None:
    """The running item is lost with its worker, what was sent behind it is not."""
    policy = policy_of([[], [], []], workers=1, portions=[[0, 1, 2]])
    assert policy.assign(all_take) == [(0, [0, 1, 2])]

    assert policy.remove_worker(0) == 0
    policy.add_worker(1)

    assert policy.assign(all_take) == [(1, [1, 2])]


def test_a_worker_that_dies_while_free_costs_nothing() -> None:
    """No item is blamed for a worker that ran none."""
    policy = policy_of([[]], workers=2)
    policy.assign(all_take)

    assert policy.remove_worker(1) is None


def test_members_of_a_cycle_are_let_go() -> None:
    """A cycle does not stall: its members fail by themselves, when they are set up."""
    policy = policy_of([[1], [0], []], workers=1)
    ran = []
    for _ in range(3):
        [(worker, [item])] = policy.assign(all_take)
        ran.append(item)
        policy.complete(worker, item)

    assert ran == [2, 0, 1]
    assert policy.finished


def test_a_worker_that_ends_gets_nothing() -> None:
    """xdist shuts workers down for -x: they take no more."""
    policy = policy_of([[], []], workers=2)

    assert policy.assign(lambda worker: worker == 0) == [(1, [0])]


def test_an_item_may_run_again() -> None:
    """Another plugin may ask for a lost item to be run once more."""
    policy = policy_of([[]], workers=2)
    policy.assign(all_take)
    policy.remove_worker(0)
    assert policy.finished

    policy.run_again(0)

    assert not policy.finished
    assert policy.assign(all_take) == [(1, [0])]


def test_a_cycle_costs_only_its_members() -> None:
    """What lies above a cycle keeps its path, and a cycle is opened at a member, not at a reader of it."""
    #      0 -> 1 -> 4 -> 5 -> 6, and 1 -> 2 <-> 3
    upstreams = [[], [0], [1, 3], [2], [1], [4], [5]]
    assert [5.0, 4.0] == longest_paths(upstreams, [1.0] * 7)[:2]
    assert [1] == ReadyQueue([{1}, {2}, {1}], [1.0] * 3).take()


def test_paths_are_as_heavy_as_their_heaviest_branch() -> None:
    """A diamond weighs as its longer side; what nobody reads weighs itself."""
    #      0 -> 1 -> 3
    #      0 -> 2 -> 3
    assert longest_paths([[], [0], [0], [1, 2], []], [2.0, 10.0, 2.0, 1.0, 4.0]) == [
        13.0,
        11.0,
        3.0,
        1.0,
        4.0,
    ]


def test_ordinary_tests_of_a_file_stay_together() -> None:
    """Portions hold neighbours of one file and are small enough for every worker to get some."""
    ids = ["a.py::one", "a.py::two", "c.json::fit[A]", "a.py::three", "b.py::one"] + ["d.py::t"] * 12
    ordinary = [place for place in range(len(ids)) if place != 2]

    portions = portions_of(ids, ordinary, workers=2)

    assert portions[:3] == [[0, 1], [3], [4]]
    assert [len(portion) for portion in portions[3:]] == [4] * 3


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[list[int]], int, list[int], st.DataObject]:
    """A random graph (with items in any order), a number of workers and which items kill their worker."""
    count = draw(st.integers(1, 14))
    order = draw(st.permutations(range(count)))
    upstreams: list[list[int]] = [[] for _ in range(count)]
    for place, item in enumerate(order):
        if place:
            upstreams[item] = draw(st.lists(st.sampled_from(order[:place]), max_size=4, unique=True))
    deadly = draw(st.lists(st.sampled_from(range(count)), max_size=4, unique=True))
    return upstreams, draw(st.integers(1, 5)), deadly, draw(st.data())


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(sessions())
def test_every_item_runs_once_and_after_its_upstreams(
    session: tuple[list[list[int]], int, list[int], st.DataObject],
) -> None:
    """For any graph, number of workers, order of endings and deaths of workers: no deadlock."""
    upstreams, workers, deadly, data = session
    free_standing = [item for item, ups in enumerate(upstreams) if not ups and item % 3 == 0]
    policy = policy_of(upstreams, workers, portions=[free_standing] if free_standing else [])
    queues: dict[int, list[int]] = {worker: [] for worker in range(workers)}
    started: list[int] = []
    ended: set[int] = set()

    def send() -> None:
        for worker, items in policy.assign(all_take):
            assert not queues[worker]
            queues[worker].extend(items)

    send()
    while not policy.finished:
        busy = [worker for worker, queue in queues.items() if queue]
        assert busy, "deadlock"
        worker = data.draw(st.sampled_from(busy))
        item = queues[worker][0]
        assert set(upstreams[item]) <= ended
        started.append(item)
        if item in deadly:
            del queues[worker]
            assert item == policy.remove_worker(worker)
            newcomer = worker + 100
            queues[newcomer] = []
            policy.add_worker(newcomer)
        else:
            queues[worker].pop(0)
            policy.complete(worker, item)
        ended.add(item)
        send()

    assert sorted(started) == list(range(len(upstreams)))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(sessions(), st.lists(st.integers(0, 9), min_size=14, max_size=14))
def test_no_worker_is_idle_while_an_item_could_run(
    session: tuple[list[list[int]], int, list[int], st.DataObject], seconds: list[int]
) -> None:
    """For any graph and any durations, the session takes at most its work / workers + its longest path."""
    upstreams, workers, _, _ = session
    weights = [float(taken) for taken in seconds[: len(upstreams)]]
    policy: Policy[int] = Policy(ReadyQueue(upstreams, weights))
    for worker in range(workers):
        policy.add_worker(worker)
    now, running, ended = 0.0, [], set()

    while not policy.finished:
        for worker, [item] in policy.assign(all_take):
            heapq.heappush(running, (now + weights[item], worker, item))
        busy = {item for _, _, item in running}
        could_run = [
            item for item, ups in enumerate(upstreams) if item not in ended | busy and ended.issuperset(ups)
        ]
        assert len(running) == workers or not could_run
        now, worker, item = heapq.heappop(running)
        ended.add(item)
        policy.complete(worker, item)

    assert now <= sum(weights) / workers + max(longest_paths(upstreams, weights))


# --- xdist's protocol --------------------------------------------------------------------------------------


class Gateway:
    def __init__(self, name: str) -> None:
        self.id = name


class Node:
    """What xdist's WorkerController is to a scheduler."""

    def __init__(self, name: str) -> None:
        self.gateway = Gateway(name)
        self.sent: list[list[int]] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent.append(indices)

    def shutdown(self) -> None:
        self.shutting_down = True


class Log:
    def __getattr__(self, name: str) -> Log:
        return self

    def __call__(self, *args: object) -> None:
        pass


class Hooks:
    def __init__(self) -> None:
        self.reports: list[pytest.CollectReport] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.reports.append(report)


class Config:
    def __init__(self) -> None:
        self.hook = Hooks()


IDS = ["config/flows/fit.csv::fit[A]", "config/flows/fit.csv::fit[B]", "test_x.py::test_x"]
PAUSE = len(IDS)


def edges(ids: Sequence[str]) -> list[list[int] | None]:
    return [[], [0], None][: len(ids)]


def a_second_each(ids: Sequence[str]) -> list[float]:
    return [1.0] * len(ids)


def scheduling(
    workers: int, collections: Sequence[list[str]] | None = None
) -> tuple[Any, list[Node], Config]:
    config = Config()
    scheduler: Any = GraphScheduling(config, Log(), edges, a_second_each, workers)  # type: ignore[arg-type]
    nodes = [Node(f"gw{number}") for number in range(workers)]
    for node in nodes:
        scheduler.add_node(node)
    for node, ids in zip(nodes, collections or [IDS] * workers, strict=True):
        assert not scheduler.collection_is_completed
        scheduler.add_node_collection(node, ids)
    assert scheduler.collection_is_completed
    scheduler.schedule()
    return scheduler, nodes, config


def test_what_is_sent_ends_with_the_pause() -> None:
    """So a worker starts its item at once, and holds nothing real behind it."""
    scheduler, (one, two), _ = scheduling(2)

    assert one.sent == [[0, PAUSE]]
    assert two.sent == [[2, PAUSE]]
    assert scheduler.has_pending
    assert not scheduler.tests_finished


def test_the_end_of_an_item_sends_what_waited_for_it() -> None:
    """Completed items free their downstreams; the pause's own completion means nothing."""
    scheduler, (one, two), _ = scheduling(2)
    scheduler.mark_test_complete(two, 2)
    assert two.sent == [[2, PAUSE]]

    scheduler.mark_test_complete(one, 0)
    scheduler.mark_test_complete(one, PAUSE)

    assert one.sent == [[0, PAUSE], [1, PAUSE]]
    scheduler.mark_test_complete(one, 1)
    assert scheduler.tests_finished
    assert not scheduler.has_pending


def test_a_dead_worker_names_its_item_and_its_replacement_goes_on() -> None:
    """The item that ran is reported as crashed; a new worker takes part when it has collected."""
    scheduler, (only,), _ = scheduling(1)

    assert IDS[0] == scheduler.remove_node(only)
    newcomer = Node("gw1")
    scheduler.add_node(newcomer)
    scheduler.add_node_collection(newcomer, IDS)
    scheduler.schedule()

    assert newcomer.sent == [[1, PAUSE]]
    assert [newcomer] == scheduler.nodes


def test_a_worker_that_dies_before_it_collected_is_no_crash() -> None:
    """Nothing ran there."""
    scheduler, _, _ = scheduling(1)
    newcomer = Node("gw1")
    scheduler.add_node(newcomer)

    assert scheduler.remove_node(newcomer) is None


def test_workers_that_collect_differently_end_the_session_with_the_difference() -> None:
    """No item is sent; the difference is a collection error."""
    scheduler, nodes, config = scheduling(2, [IDS, IDS[:2]])

    assert [node.sent for node in nodes] == [[], []]
    assert scheduler.tests_finished
    assert [report.nodeid for report in config.hook.reports] == ["gw1"]


def test_a_late_worker_that_collects_differently_gets_nothing() -> None:
    """The others go on without it."""
    scheduler, (one,), config = scheduling(1)
    newcomer = Node("gw1")
    scheduler.add_node(newcomer)
    scheduler.add_node_collection(newcomer, IDS[:1])
    scheduler.schedule()
    scheduler.mark_test_complete(one, 0)

    assert newcomer.shutting_down
    assert newcomer.sent == []
    assert one.sent == [[0, PAUSE], [1, PAUSE]]
    assert [report.nodeid for report in config.hook.reports] == ["gw1"]


def test_when_only_a_stranger_is_left_the_session_ends() -> None:
    """The difference is its error; xdist without workers would be an internal one."""
    scheduler, (one,), config = scheduling(1)
    scheduler.remove_node(one)
    newcomer = Node("gw1")
    scheduler.add_node(newcomer)
    assert not scheduler.tests_finished

    scheduler.add_node_collection(newcomer, IDS[:1])

    assert scheduler.tests_finished
    assert ["gw1"] == [report.nodeid for report in config.hook.reports]


def test_no_collected_item_is_a_finished_session() -> None:
    """Workers that collect nothing are not kept waiting."""
    scheduler, _, _ = scheduling(2, [[], []])

    assert scheduler.tests_finished


def test_a_lost_item_is_sent_again_when_another_plugin_asks() -> None:
    """As pytest-rerunfailures does for crashed items."""
    scheduler, (one, two), _ = scheduling(2)
    scheduler.mark_test_complete(two, 2)
    scheduler.remove_node(one)

    scheduler.mark_test_pending(IDS[0])
    scheduler.mark_test_complete(two, 1)

    assert two.sent == [[2, PAUSE], [1, PAUSE], [0, PAUSE]]


class Machine:
    """What xdist and its workers do with a scheduler, event by event, in an order that hypothesis draws.

    A worker starts an item only when it holds the next one or is told to shut down; the first failure of a
    session with `-x` and too many dead workers shut down all; other dead workers are replaced.
    """

    def __init__(self, upstreams: list[list[int]], ordinary: set[int], workers: int, draw: Any) -> None:
        self.ids = [f"file{item // 4}::{item}" for item in range(len(upstreams))]
        self.draw = draw
        edges = [None if item in ordinary else ups for item, ups in enumerate(upstreams)]
        self.scheduler: Any = GraphScheduling(
            Config(),  # type: ignore[arg-type]
            Log(),  # type: ignore[arg-type]
            lambda ids: edges,
            a_second_each,
            workers,
        )
        self.upstreams = upstreams
        self.booting = [self.node() for _ in range(workers)]
        self.alive: list[Node] = []
        self.started: list[int] = []
        self.ended: set[int] = set()
        self.running: dict[Node, int] = {}
        self.stopped = False

    def node(self) -> Node:
        return Node("gw")

    def queue(self, node: Node) -> list[int]:
        return [item for items in node.sent for item in items]

    def may_start(self, node: Node) -> bool:
        held = len(self.queue(node))
        return node not in self.running and (held > 1 or (held == 1 and node.shutting_down))

    def events(self) -> list[tuple[str, Node]]:
        return [
            *(("boot", node) for node in self.booting),
            *(("start", node) for node in self.alive if self.may_start(node)),
            *(("end", node) for node in self.running),
            *(
                ("leave", node)
                for node in self.alive
                if node.shutting_down and node not in self.running and not self.queue(node)
            ),
        ]

    def step(self, what: str, node: Node, deaths: int) -> int:
        """One event, or the death of its worker; gives how many deaths are still to come."""
        if what != "boot" and deaths and self.draw(st.integers(0, 5)) == 0:
            self.die(node, replaced=self.draw(st.booleans()))
            return deaths - 1
        getattr(self, what)(node)
        return deaths

    def boot(self, node: Node) -> None:
        self.booting.remove(node)
        self.alive.append(node)
        if self.stopped or self.scheduler.tests_finished:
            node.shutdown()
            return
        self.scheduler.add_node(node)
        self.scheduler.add_node_collection(node, self.ids)
        if self.scheduler.collection_is_completed:
            self.scheduler.schedule()

    def start(self, node: Node) -> None:
        item, *rest = self.queue(node)
        node.sent[:] = [rest]
        self.running[node] = item
        if item < len(self.ids):
            assert self.ended.issuperset(self.upstreams[item])
            self.started.append(item)

    def end(self, node: Node) -> None:
        item = self.running.pop(node)
        self.ended.add(item)
        self.scheduler.mark_test_complete(node, item)

    def leave(self, node: Node) -> None:
        self.alive.remove(node)
        if node in self.scheduler.nodes:
            assert self.scheduler.remove_node(node) is None

    def die(self, node: Node, *, replaced: bool) -> None:
        self.alive.remove(node)
        item = self.running.pop(node, None)
        held = [item for item in self.queue(node) if item < len(self.ids)]
        if node in self.scheduler.nodes:
            crashed = self.scheduler.remove_node(node)
            lost = item if item is not None and item < len(self.ids) else next(iter(held), None)
            assert crashed == (None if lost is None else self.ids[lost])
            if lost is not None:
                self.ended.add(lost)
                self.started += [lost] if lost not in self.started else []
        if replaced:
            self.booting.append(self.node())
        else:
            self.stop()

    def stop(self) -> None:
        self.stopped = True

    def after(self) -> None:
        """As the session does after each event."""
        if self.stopped or self.scheduler.tests_finished:
            for node in self.alive:
                node.shutdown()


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(sessions(), st.integers(0, 9), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 30)))
def test_the_session_ends_whatever_happens(
    session: tuple[list[list[int]], int, list[int], st.DataObject],
    tests: int,
    deaths: int,
    stop_at: int | None,
) -> None:
    """Any graph with ordinary tests in it, any order of events, deaths at any moment, `-x` at any moment.

    No deadlock, no item twice, none before its upstreams; without `-x` and with replacements all run.
    After `-x` nothing more is sent.
    """
    upstreams, workers, marked, data = session
    read = {up for ups in upstreams for up in ups}
    ordinary = {item for item in marked if not upstreams[item] and item not in read}
    ordinary.update(range(len(upstreams), len(upstreams) + tests))
    upstreams += [[] for _ in range(tests)]
    machine = Machine(upstreams, ordinary, workers, data.draw)

    moment = 0
    while machine.booting or machine.alive:
        events = machine.events()
        assert events, "deadlock"
        if moment == stop_at:
            machine.stop()
            machine.after()
        before = len(machine.started) + sum(len(machine.queue(node)) for node in machine.alive)
        was_stopped = machine.stopped
        what, node = data.draw(st.sampled_from(machine.events()))
        deaths = machine.step(what, node, deaths)
        machine.after()
        after = len(machine.started) + sum(len(machine.queue(node)) for node in machine.alive)
        assert not was_stopped or after <= before
        moment += 1

    assert len(machine.started) == len(set(machine.started))
    if not machine.stopped:
        assert sorted(machine.started) == list(range(len(upstreams)))
