"""How a session takes what supervisors answer."""

from __future__ import annotations

import os
import socket

import pytest
from support import TinyProject, wait_until

from ductaflow.common import host
from ductaflow.execution import launch as launch_module
from ductaflow.execution import warm
from ductaflow.execution.launch import StopWithReason, launch
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.store.result import Result, Status, write_result
from ductaflow.store.spec import RunSpec


def asked(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> tuple[RunSpec, socket.socket]:
    """What a run is asked to do, and the end of its connection on which its supervisor would answer."""
    project.flow("f", "print(1)")
    project.config("flows/f/a.json")
    ours, supervisor = socket.socketpair()
    monkeypatch.setattr(warm, "connect", lambda *args, **options: ours)
    return spec_of_instance(load_stored(Project.at(project.root), "f/a")), supervisor


@pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform")
@pytest.mark.parametrize("rest", [b'{"event": "result", "result": {"flow"', b'{"event": "result"\n', b"\n"])
def test_an_answer_that_breaks_off_is_the_end_of_its_supervisor(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """A supervisor that is killed while it writes: the run is lost, and the session goes on."""
    spec, supervisor = asked(project, monkeypatch)
    supervisor.sendall(b'{"event": "started", "pid": %d}\n' % os.getpid() + rest)
    supervisor.close()
    result = launch(spec)
    assert (Status.ERROR, "lost") == (result.status, result.cause)


@pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform")
@pytest.mark.parametrize("has_ended", [True, False])
def test_a_run_may_be_faster_than_what_is_told_of_it(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, *, has_ended: bool
) -> None:
    """A session that has to stop then, on a busy machine, has the result that is there."""
    spec, supervisor = asked(project, monkeypatch)
    if has_ended:
        done = Result("f", "a", "flow", Status.SUCCESS, None, "", run_id=spec.run_id)
        project.folder("f", "a").mkdir(parents=True)
        write_result(done, project.folder("f", "a"))
    stop = StopWithReason("it took too long")
    stop.set()
    with supervisor:
        result = launch(spec, stop=stop, await_page=False)
    expected = (Status.SUCCESS, "") if has_ended else (Status.NOT_RUN, "it took too long")
    assert expected == (result.status, result.message)


@pytest.mark.slow
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform")
def test_what_ends_the_wait_before_the_begin_of_the_run_is_read_stops_the_run(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time limit of another plugin, say, may come at any moment; its reason is that of the result."""
    project.flow("f", "# %%\nimport time\nopen('begun', 'w').close()\ntime.sleep(600)\n")
    project.config("flows/f/a.json")
    spec = spec_of_instance(load_stored(Project.at(project.root), "f/a"))

    class OverTime(BaseException):
        pass

    def has_begun(*_: object) -> bool:
        wait_until((project.folder("f", "a") / "begun").exists)
        raise OverTime("it took too long")

    monkeypatch.setattr(launch_module, "_has_begun", has_begun)
    with pytest.raises(OverTime):
        launch(spec)

    assert "it took too long" in project.result("f", "a").message


def test_under_the_debugger_of_an_editor_a_run_is_no_fork_and_has_no_time_limit(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stop at no breakpoint in a fork, and a person who stands at one takes their time."""
    monkeypatch.setattr(host, "has_editor", lambda: True)
    monkeypatch.setattr(warm, "connect", lambda *_: pytest.fail("the warm server is asked"))
    project.flow("f", "print(1)")
    project.config("flows/f/a.json", _run={"timeout": 0.001})
    result = project.run("f/a")
    expected = "ran in a fresh interpreter: a debugger is attached" if warm.is_possible() else ""
    assert (Status.SUCCESS, expected) == (result.status, result.message)
