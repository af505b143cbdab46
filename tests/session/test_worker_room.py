"""Runs on one worker of a cluster share its machine by the rules of a session on one machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import TinyProject, wait_until

from ductaflow.common.machine import Machine
from ductaflow.project.instances import Instance, load_stored
from ductaflow.project.settings import Project
from ductaflow.session import worker_room
from ductaflow.session.worker_room import WorkerRoom

#: More than any machine of tests has.
ALL = "900 TB"


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "processors", lambda self: 4)
    monkeypatch.setattr(worker_room, "LOOK_SECONDS", 0.02)


def instance(project: TinyProject, name: str, **run: object) -> Instance:
    project.flow("fit", "pass")
    project.config(f"flows/fit/{name}.json", _run=run)
    return load_stored(Project.at(project.root), f"fit/{name}")


class SeenRoom(WorkerRoom):
    """A room that tells who had to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def _may_begin(self, ticket: int, instance: Instance, peak: int, workers: int) -> bool:
        may = super()._may_begin(ticket, instance, peak, workers)
        if not may:
            self.refused.append(instance.name)
        return may


class Runs:
    """Runs in threads, as a worker has them."""

    def __init__(self, room: SeenRoom) -> None:
        self.room = room
        self.began: list[str] = []
        self.stop = threading.Event()
        self._ends: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def start(self, one: Instance, peak: int = 0) -> None:
        end = self._ends[one.name] = threading.Event()

        def run() -> None:
            with self.room.taken(one, peak, 4, self.stop):
                self.began.append(one.name)
                end.wait(20)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        wait_until(lambda: one.name in [*self.began, *self.room.refused])

    def end(self, name: str) -> None:
        self._ends[name].set()

    def close(self) -> None:
        self.stop.set()
        for end in self._ends.values():
            end.set()
        for thread in self._threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self._threads)


@contextmanager
def runs() -> Iterator[Runs]:
    found = Runs(SeenRoom())
    try:
        yield found
    finally:
        found.close()
    assert not found.room._running


def test_processors_are_shared(project: TinyProject) -> None:
    """Four that take one each run together; one that takes four waits until all of them have ended."""
    with runs() as here:
        for name in "abc":
            here.start(instance(project, name))
        assert ["a", "b", "c"] == here.began
        here.start(instance(project, "wide", cpus=4))
        here.start(instance(project, "small"))
        for name in "ab":
            here.end(name)
        assert ["a", "b", "c"] == here.began, "the small one does not overtake"
        here.end("c")
        wait_until(lambda: "wide" in here.began)
        assert "small" not in here.began
        here.end("wide")
        wait_until(lambda: "small" in here.began)


@pytest.mark.parametrize("told", ["config", "earlier runs"])
def test_what_takes_more_memory_than_there_is_runs_alone(project: TinyProject, told: str) -> None:
    """By its config or by its earlier runs: it waits for the others, and then runs, whatever it takes."""
    options, peak = ({"memory": ALL}, 0) if told == "config" else ({}, 9 * 10**14)
    with runs() as here:
        here.start(instance(project, "a"))
        here.start(instance(project, "large", **options), peak)
        assert ["a"] == here.began
        here.end("a")
        wait_until(lambda: "large" in here.began)
        here.start(instance(project, "b"))
        assert "b" not in here.began, "nothing starts beside it"
        here.end("large")
        wait_until(lambda: "b" in here.began)


def test_a_session_that_ends_ends_the_wait(project: TinyProject) -> None:
    """The run behind it is not made then: its flag is set."""
    with runs() as here:
        here.start(instance(project, "a"))
        here.start(instance(project, "large", memory=ALL))
        here.stop.set()
        wait_until(lambda: "large" in here.began)
