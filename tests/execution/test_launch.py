"""How a session takes what supervisors answer."""

from __future__ import annotations

import os
import socket

import pytest
from support import TinyProject

from ductaflow.execution import warm
from ductaflow.execution.launch import launch
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.store.result import Status


@pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform")
@pytest.mark.parametrize("rest", [b'{"event": "result", "result": {"flow"', b'{"event": "result"\n', b"\n"])
def test_an_answer_that_breaks_off_is_the_end_of_its_supervisor(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """A supervisor that is killed while it writes: the run is lost, and the session goes on."""
    project.flow("f", "print(1)")
    project.config("flows/f/a.json")
    spec = spec_of_instance(load_stored(Project.at(project.root), "f/a"))
    ours, supervisor = socket.socketpair()
    monkeypatch.setattr(warm, "connect", lambda *args, **options: ours)
    supervisor.sendall(b'{"event": "started", "pid": %d}\n' % os.getpid() + rest)
    supervisor.close()
    result = launch(spec)
    assert (Status.ERROR, "lost") == (result.status, result.cause)
