"""What waits for room: processors and memory, of fake machines and of this one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TinyProject, a_result, stored_at

from ductaflow.common.machine import Memory
from ductaflow.project.graph import collect
from ductaflow.project.instances import Instance
from ductaflow.project.settings import Project
from ductaflow.session import resources
from ductaflow.session.durations import likely
from ductaflow.session.resources import Demand, RoomHere, declared, waits_in_short
from ductaflow.session.scheduler import Estimate, Policy, ReadyQueue
from ductaflow.store.verdict import KILLED_FOR_MEMORY, OUT_OF_MEMORY

GB = 10**9


@dataclass
class FakeRoom:
    """So many processors, and memory in bytes, that nobody else uses."""

    demands: Sequence[Demand]
    total: Demand

    def demand(self, item: int) -> Demand:
        return self.demands[item]

    def free(self, running: Mapping[int, Demand], wanted: Demand) -> Demand:
        return self.total - sum(running.values(), Demand(0, 0))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_policy(
    demands: Sequence[tuple[float, int]],
    total: tuple[float, int],
    *,
    seconds: Sequence[float] = (),
    upstreams: Sequence[Sequence[int]] = (),
    workers: int = 4,
    clock: Clock | None = None,
    **kwargs: Any,
) -> Policy[int]:
    queue = ReadyQueue(upstreams or [[]] * len(demands), seconds or [1.0] * len(demands), **kwargs)
    room = FakeRoom([Demand(*one) for one in demands], Demand(*total))
    policy: Policy[int] = Policy(queue, room, clock or Clock())
    for worker in range(workers):
        policy.add_worker(worker)
    return policy


# --- the policy --------------------------------------------------------------------------------------------


def test_nothing_starts_that_has_no_room() -> None:
    """Three of 3 GB in 8 GB: two run, and the third waits and says for what; then it runs."""
    policy = a_policy([(1, 3 * GB)] * 3, (4, 8 * GB))

    assert [(0, [0]), (1, [1])] == policy.assign()
    assert {2: "3.0 GB of memory, of which 2.0 GB are free"} == policy.waits

    policy.complete(0, 0)
    assert [(0, [2])] == policy.assign()
    assert {} == policy.waits


def test_processors_are_counted() -> None:
    """A run that takes two of three processors leaves room for one more."""
    policy = a_policy([(2, 0), (2, 0), (1, 0)], (3, GB), seconds=[9.0, 8.0, 7.0])

    assert [(0, [0]), (1, [2])] == policy.assign()
    assert {1: "2 processors, of which none is free"} == policy.waits


def test_what_takes_more_than_there_is_runs_alone() -> None:
    """It starts when nothing else runs, and nothing starts beside it."""
    policy = a_policy([(1, 0), (64, 99 * GB), (1, 0)], (4, 8 * GB), seconds=[3.0, 2.0, 1.0], workers=2)

    assert [(0, [0]), (1, [2])] == policy.assign()
    policy.complete(1, 2)
    assert [] == policy.assign()
    policy.complete(0, 0)
    assert [(0, [1])] == policy.assign()
    policy.complete(0, 1)
    assert policy.finished


def test_small_ones_start_before_a_big_one_only_if_they_do_not_delay_it() -> None:
    """The big one could start when the first has ended, in 10 s: 5 s fit before that, 20 s do not."""
    clock = Clock()
    policy = a_policy([(3, 0), (4, 0), (1, 0), (1, 0)], (4, 0), seconds=[10.0, 50.0, 20.0, 5.0], clock=clock)
    policy.remove_worker(3)
    # The first has begun before the big one was there.
    policy = a_policy(
        [(3, 0), (4, 0), (1, 0), (1, 0), (1, 0)],
        (4, 0),
        seconds=[10.0, 50.0, 20.0, 5.0, 6.0],
        upstreams=[[], [4], [4], [4], []],
        clock=clock,
    )
    assert [(0, [4]), (1, [0])] == policy.assign()
    clock.now = 4.0
    policy.complete(0, 4)
    assert [(0, [3])] == policy.assign()
    clock.now = 9.0
    policy.complete(0, 3)
    assert [] == policy.assign()
    # It takes longer than it was likely to: nothing overtakes the big one any more.
    clock.now = 30.0
    assert [] == policy.assign()
    policy.complete(1, 0)
    assert [(0, [1])] == policy.assign()


def test_what_leaves_room_for_the_big_one_may_run_as_long_as_it_likes() -> None:
    """The big one takes memory, the small one a processor that is free then too."""
    policy = a_policy([(1, 6 * GB), (1, 6 * GB), (1, GB)], (4, 8 * GB), seconds=[10.0, 9.0, 8.0])
    assert [(0, [0]), (1, [2])] == policy.assign()


def test_a_dead_worker_gives_back_what_it_had() -> None:
    """What waited gets the room of an item that was lost."""
    policy = a_policy([(1, 5 * GB)] * 2, (4, 8 * GB), workers=2)
    assert [(0, [0])] == policy.assign()

    assert 0 == policy.remove_worker(0)
    assert [(1, [1])] == policy.assign()


def test_a_portion_takes_one_place() -> None:
    """Ordinary tests run one after another: a portion of them takes what one of them does."""
    policy = a_policy([(1, 0)] * 4, (2, GB), portions=[[0, 1, 2]])
    assert [(0, [0, 1, 2]), (1, [3])] == policy.assign()
    policy.complete(0, 0)
    policy.complete(0, 1)
    policy.complete(0, 2)
    policy.complete(1, 3)
    assert policy.finished


@st.composite
def sessions(draw: st.DrawFn) -> tuple[Policy[int], Clock, list[list[int]], list[Demand], int, st.DataObject]:
    count, workers = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    upstreams = [
        draw(st.lists(st.integers(0, item - 1), max_size=3)) if item else [] for item in range(count)
    ]
    demands = [(draw(st.sampled_from([0, 0.5, 1, 2, 9])), draw(st.integers(0, 12))) for _ in range(count)]
    seconds = [draw(st.sampled_from([0.0, 1.0, 5.0, 60.0])) for _ in range(count)]
    clock = Clock()
    policy = a_policy(demands, (3, 10), seconds=seconds, upstreams=upstreams, workers=workers, clock=clock)
    return policy, clock, upstreams, [Demand(*one) for one in demands], workers, draw(st.data())


@settings(max_examples=150, deadline=None)
@given(sessions())
def test_there_is_no_deadlock_and_never_too_much(session: Any) -> None:
    """For any graph, demands, times and deaths: all run, after their upstreams, and within what there is."""
    policy, clock, upstreams, demands, workers, data = session
    held: dict[int, int | None] = dict.fromkeys(range(workers))
    ended: set[int] = set()
    while not policy.finished:
        for worker, [item] in policy.assign():
            assert held[worker] is None
            assert set(upstreams[item]) <= ended
            held[worker] = item
        running = [demands[item] for item in held.values() if item is not None]
        assert running, "deadlock"
        taken = sum(running, Demand(0, 0))
        assert len(running) == 1 or not taken.lack(Demand(3, 10))
        busy = [worker for worker, item in held.items() if item is not None]
        worker = data.draw(st.sampled_from(busy))
        clock.now += data.draw(st.sampled_from([0.0, 1.0, 30.0]))
        item = held[worker]
        assert item is not None
        if data.draw(st.integers(0, 9)) == 0:
            assert item == policy.remove_worker(worker)
            del held[worker]
            held[worker + 100] = None
            policy.add_worker(worker + 100)
        else:
            policy.complete(worker, item)
            held[worker] = None
        ended.add(item)
    assert ended == set(range(len(demands)))


def test_the_estimate_counts_what_runs_take() -> None:
    """Four runs of 10 s that take half of the memory each need 20 s on four workers."""
    assert 20.0 == Estimate([[]] * 4, [10.0] * 4, 4, [0.5] * 4).left([])


# --- what instances take, and what there is -----------------------------------------------------------------


class FakeMachine:
    """A machine of which others use more or less memory."""

    def __init__(self, cpus: int = 4, total: int = 16 * GB, available: int = 12 * GB) -> None:
        self.cpus, self.total, self.available = cpus, total, available

    def processors(self) -> int:
        return self.cpus

    def memory(self) -> Memory:
        return Memory(self.total, self.available)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    found = FakeMachine()
    monkeypatch.setattr(resources, "this_machine", lambda: found)
    monkeypatch.setattr(resources, "_HOLDS", -1.0)
    return found


def instances(project: TinyProject, **runs: Any) -> list[Instance]:
    """Instances of `fit`, each with what `_run` of its config says."""
    project.flow("fit", "")
    for name, options in runs.items():
        project.config(f"flows/fit/{name}.json", _run=options)
    return [*collect(Project.at(project.root))]


def a_room(instances: Sequence[Instance | None], workers: int) -> RoomHere:
    known = likely(instances)
    return RoomHere(instances, known.peaks, workers, known.cut)


def has_run(
    project: TinyProject, name: str, peak: int | None, status: str = "success", message: str = ""
) -> None:
    stored_at(project.folder("fit", name), a_result(status, instance=name, peak_memory=peak, message=message))


def was_good_before(project: TinyProject, name: str, peak: int) -> None:
    kept = project.root / "runs" / ".ductaflow" / "previous" / "fit" / name
    stored_at(kept, a_result(instance=name, peak_memory=peak))


#: What the message of a run says that was killed for memory, that may have been, and of which a pool was.
KILLED = f"killed by SIGKILL in cell 1 of 1 (line 4) ({OUT_OF_MEMORY}: its peak was 1.0 GB)"
MAYBE = "killed by SIGKILL in cell 1 of 1 (line 4) (its peak was 1.0 GB, the machine has 8.0 GB)"
POOL = f"BrokenProcessPool: it is not usable anymore; the system killed 2 processes {KILLED_FOR_MEMORY}"


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        # One that ended well is known by its own peak, whatever others take.
        ({"a": (3.0, ""), "b": (1.0, "")}, (3.0, 1.0, 3.0)),
        # One that was killed for memory takes what its flow takes.
        ({"a": (3.0, ""), "b": (1.0, KILLED)}, (3.0, 3.0, 3.0)),
        ({"a": (3.0, ""), "b": (2.0, POOL)}, (3.0, 3.0, 3.0)),
        # It takes more than it had: the most that is known is no whole peak.
        ({"a": (3.0, ""), "b": (4.0, KILLED)}, (3.0, 6.0, 6.0)),
        ({"a": (3.0, ""), "b": (3.0, KILLED)}, (3.0, 4.5, 4.5)),
        ({"a": (1.0, KILLED), "b": (2.0, KILLED)}, (3.0, 3.0, 3.0)),
        ({"a": (1.0, KILLED), "b": (2.0, KILLED), "c": (0.1, "")}, (3.0, 3.0, 0.1)),
        # Who killed it is not known, or it failed by itself.
        ({"a": (3.0, ""), "b": (1.0, MAYBE)}, (3.0, 1.0, 3.0)),
        ({"a": (3.0, ""), "b": (1.0, "boom")}, (3.0, 1.0, 3.0)),
    ],
)
def test_what_a_run_takes_that_was_killed_for_memory(
    project: TinyProject,
    machine: FakeMachine,
    runs: dict[str, tuple[float, str]],
    expected: tuple[float, float, float],
) -> None:
    """More than it had, and as much as its flow takes; `c` has often no run yet."""
    found = instances(project, a={}, b={}, c={})
    for name, (peak, message) in runs.items():
        has_run(project, name, int(peak * GB), "error" if message else "success", message)
    room = a_room(found, workers=2)

    assert [int(peak * GB) for peak in expected] == [room.demand(item).memory for item in range(3)]


def test_a_run_that_was_killed_for_memory_and_was_good_before(
    project: TinyProject, machine: FakeMachine
) -> None:
    """It is known by the good run if that took more than it had when it was killed."""
    found = instances(project, a={}, b={}, c={})
    has_run(project, "a", 9 * GB)
    has_run(project, "b", 2 * GB, "error", KILLED)
    was_good_before(project, "b", 3 * GB)
    has_run(project, "c", 2 * GB, "error", KILLED)
    was_good_before(project, "c", GB)
    room = a_room(found, workers=2)

    assert [9 * GB, 3 * GB, 9 * GB] == [room.demand(item).memory for item in range(3)]


def test_what_is_learned_in_a_session_counts_for_what_was_killed_before(
    project: TinyProject, machine: FakeMachine
) -> None:
    """The first of a flow that ends well tells it; one that is killed again tells that it was not enough."""
    found = instances(project, a={}, b={})
    has_run(project, "a", 2 * GB, "error", KILLED)
    has_run(project, "b", GB, "error", KILLED)
    room = a_room(found, workers=2)
    room.learn(0, a_result("error", peak_memory=4 * GB, message=KILLED))
    assert 6 * GB == room.demand(1).memory

    room.learn(0, a_result(peak_memory=5 * GB))
    assert 5 * GB == room.demand(1).memory


def test_what_instances_take(project: TinyProject, machine: FakeMachine) -> None:
    """What `_run` says, else what the last run took, else the most of the flow, which grows with each run."""
    found = instances(project, a={"cpus": 2, "memory": "4 GB"}, b={}, c={}, d={"skip": "why"}, e={"cpus": 99})
    room = a_room([*found, None], workers=2)
    assert Demand(1, 0) == room.demand(1)
    room.learn(1, a_result(peak_memory=GB))
    assert Demand(1, GB) == room.demand(2)

    has_run(project, "a", 3 * GB)
    has_run(project, "b", 2 * GB)
    room = a_room([*found, None], workers=2)

    assert [
        Demand(2, 4 * GB),
        Demand(1, 2 * GB),
        Demand(1, 3 * GB),
        Demand(0, 0),
        Demand(99, 3 * GB),
        Demand(1, 0),
    ] == [room.demand(item) for item in range(6)]
    assert ["", "99 processors, and there are 4"] == [room.beyond(item) for item in (0, 4)]


def test_a_run_that_failed_early_counts_with_the_good_one_before_it(project: TinyProject) -> None:
    """What is kept of the last good run tells more; a record that is damaged tells nothing."""
    found = instances(project, a={}, b={}, c={})
    has_run(project, "a", 10, "error")
    was_good_before(project, "a", 3 * GB)
    has_run(project, "b", None)
    project.folder("fit", "c").mkdir(parents=True)
    (project.folder("fit", "c") / "result.json").write_bytes(b'\n "peak_memory": 1e9\xff')

    assert [3 * GB, None, None] == likely(found).peaks


def test_who_asks_for_more_workers_than_processors_has_them(
    project: TinyProject, machine: FakeMachine
) -> None:
    """Then runs share processors, but for those that say how many they take."""
    found = instances(project, a={}, b={"cpus": 1})
    room = a_room(found, workers=8)
    assert [0.5, 1] == [room.demand(item).cpus for item in (0, 1)]


def test_memory_that_others_use_is_not_there(
    project: TinyProject, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs have taken already is missing in what is available, and is not counted twice."""
    found = instances(project, a={"memory": "5 GB"}, b={"memory": "5 GB"}, c={"memory": "5 GB"})
    room = a_room(found, workers=4)
    has: dict[int, int] = {}
    monkeypatch.setattr(RoomHere, "_taken_by", lambda self, running: has)
    one = {0: room.demand(0)}
    two = {0: room.demand(0), 1: room.demand(1)}

    assert Demand(3, 7 * GB) == room.free(one, room.demand(1))
    # Both have begun, and the first has taken its part.
    has[0], machine.available = 5 * GB, 7 * GB
    assert Demand(2, 2 * GB) == room.free(two, room.demand(2))
    has[1], machine.available = 5 * GB, 6 * GB
    assert Demand(2, 6 * GB) == room.free(two, room.demand(2))
    machine.available = GB
    assert Demand(2, -9 * GB) == room.free(two, room.demand(2))


def test_a_project_may_take_less_than_there_is(project: TinyProject, machine: FakeMachine) -> None:
    """The setting `memory` is for all runs of a session together."""
    project.settings('memory = "6 GB"')
    found = instances(project, a={"memory": "5 GB"}, b={"memory": "5 GB"}, c={"memory": "64 GB"})
    room = a_room(found, workers=2)

    assert Demand(3, GB) == room.free({0: room.demand(0)}, room.demand(1))
    assert "64 GB of memory, and there are 6.0 GB" == room.beyond(2)


def test_what_asks_for_room(project: TinyProject) -> None:
    """In words, for sessions that do not count it: what runs, by what is written."""
    assert "" == declared([None, *instances(project, a={}, skipped={"cpus": 2, "skip": "why"})])
    found = instances(project, b={"cpus": 2}, c={"memory": "1 GB"}, wrong={"cpus": 0})
    assert "_run.cpus or _run.memory of fit/b, fit/c" == declared(found)

    project.settings('memory = "6 GB"')
    assert "the setting memory" == declared(instances(project)[:1])
    assert declared(instances(project)).startswith("the setting memory and _run.cpus or _run.memory of fit/b")


def test_what_waits_in_a_few_words() -> None:
    """The first one, with what it waits for, and how many more there are."""
    assert "" == waits_in_short({})
    assert "fit[a] waits for 2 processors; 1 more wait" == waits_in_short({"fit[a]": "2 processors", "b": ""})


def test_memory_of_runs_on_this_machine(project: TinyProject) -> None:
    """A run has what its processes have; its supervisor is found by the marker of its folder."""
    from ductaflow.common.host import memory_below
    from ductaflow.store.folder import supervisor_of

    project.flow(
        "fit",
        """
        # %%
        from ductaflow.common.host import memory_below
        from ductaflow.store.folder import supervisor_of
        from ductaflow.store.spec import current_run
        from pathlib import Path
        import json
        spec = current_run()
        pid = supervisor_of(Path(spec.runs_root), Path(spec.folder))
        Path("has.json").write_text(json.dumps(memory_below([pid])[pid]))
        """,
    )
    project.config("flows/fit.json")
    result = project.run("fit/default")

    has = json.loads((project.folder("fit", "default") / "has.json").read_text())
    assert 10**7 < has <= (result.peak_memory or 0) * 1.5
    assert supervisor_of(project.root / "runs", project.folder("fit", "default")) is None
    assert {} == memory_below([])


# --- what people write --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cpus": 0}, "_run.cpus takes a whole number of processors, at least 1, not 0\nSuch as 2."),
        ({"cpus": 1.5}, "_run.cpus takes a whole number of processors, at least 1, not 1.5"),
        ({"cpus": True}, "_run.cpus takes a whole number of processors, at least 1, not true"),
        ({"cpus": "2"}, '_run.cpus takes a whole number of processors, at least 1, not "2"'),
        ({"cpu": 2}, 'unknown option "cpu"\nDid you mean cpus?'),
        ({"memory": 4000}, 'takes an amount of memory with its unit, not 4000\nWrite "4000 MB" or "4000 GB"'),
        ({"memory": "4G"}, 'with its unit, not "4G"\nWrite "4GB" or "4GiB"; units are kB, MB, GB, TB and'),
        ({"memory": "16"}, 'with its unit, not "16"\nWrite "16 MB" or "16 GB"; units are'),
        ({"memory": "17179869184"}, 'Write "17179869184 B"; units are'),
        ({"memory": 17179869184}, 'Write "17179869184 B"; units are'),
        ({"memory": "16 Gi"}, 'with its unit, not "16 Gi"\nWrite "16 GiB"; units are'),
        ({"memory": "512Mi"}, 'with its unit, not "512Mi"\nWrite "512MiB"; units are'),
        ({"memory": "64 ki"}, 'with its unit, not "64 ki"\nWrite "64 KiB"; units are'),
        ({"memory": "4 g"}, 'with its unit, not "4 g"\nWrite "4 GB" or "4 GiB"; units are'),
        ({"memory": "900K"}, 'with its unit, not "900K"\nWrite "900kB" or "900KiB"; units are'),
        ({"memory": "16 gigabytes"}, 'Write "16 GB"; units are'),
        ({"memory": "1.5 Megabyte"}, 'Write "1.5 MB"; units are'),
        ({"memory": "2 mebibytes"}, 'Write "2 MiB"; units are'),
        ({"memory": "1.5"}, 'Write "1.5 MB" or "1.5 GB"; units are'),
        ({"memory": "9" * 5000}, 'Write "4 GB" or "500 MB"; units are'),
        ({"memory": "500 bytes"}, 'Write "500 B"; units are'),
        ({"memory": "3 PB"}, 'not "3 PB"\nWrite "4 GB" or "500 MB"; units are'),
        ({"memory": "1.2.3 G"}, 'not "1.2.3 G"\nWrite "4 GB" or "500 MB"; units are'),
        ({"memory": "0 Gi"}, 'not "0 Gi"\nWrite "4 GB" or "500 MB"; units are'),
        ({"memory": "0 GB"}, 'with its unit, not "0 GB"\nWrite "4 GB" or "500 MB"; units are'),
        ({"memory": "-1 GB"}, 'with its unit, not "-1 GB"'),
        ({"memory": "4 GB/s"}, 'with its unit, not "4 GB/s"'),
        ({"memory": True}, "with its unit, not true"),
        ({"mem": "1 GB"}, 'unknown option "mem"\nDid you mean memory?'),
    ],
)
def test_values_that_are_wrong(project: TinyProject, options: dict[str, Any], said: str) -> None:
    """The instance fails with file, place and remedy; the others are fine."""
    [found] = instances(project, a=options)
    assert found.problem is not None
    assert "config/flows/fit/a.json: _run" in str(found.problem)
    assert said in str(found.problem)


@pytest.mark.parametrize("written", ["16GB", "16 gb", "16000 MB", "16 Gb", "16000000 kb"])
def test_units_in_any_case(project: TinyProject, written: str) -> None:
    """What has one meaning is taken as it is."""
    [found] = instances(project, a={"memory": written})
    assert found.problem is None
    assert 16 * GB == RoomHere([found], [None], 1).demand(0).memory


def test_a_table_gives_them_too(project: TinyProject) -> None:
    """As columns `_run.cpus` and `_run.memory`; an empty cell leaves it to the bases."""
    project.flow("fit", "")
    project.config("flows/fit.json", _run={"memory": "1 GB"})
    (project.root / "config" / "flows" / "fit.csv").write_text(
        "instance,_run.cpus,_run.memory\na,2,500 MB\nb,,\n"
    )
    found = [(one.options.cpus, one.options.memory) for one in collect(Project.at(project.root))]
    assert [(2, "500 MB"), (None, "1 GB")] == found
