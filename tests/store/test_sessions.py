"""What a session keeps in a process, and its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.store.sessions import Part, Session, session_of

ENDED: list[tuple[str, bool]] = []


class Noted(Part):
    def end(self, *, orderly: bool) -> None:
        ENDED.append((type(self).__name__, orderly))


class NotedLater(Noted):
    pass


@pytest.fixture(autouse=True)
def nothing_ended() -> None:
    ENDED.clear()


def test_a_part_is_made_once_and_ends_with_its_session() -> None:
    """The newest ends first."""
    with Session() as session:
        assert session.part(Noted) is session_of(session.id).part(Noted)
        session.part(NotedLater)
        assert [] == ENDED
    assert [("NotedLater", True), ("Noted", True)] == ENDED
    assert session_of(session.id) is not session


def test_an_interrupted_session_is_not_waited_for() -> None:
    """Its parts hear that nobody waits."""

    def interrupted() -> None:
        with Session() as session:
            session.part(Noted)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [("Noted", False)] == ENDED


def test_sessions_at_the_same_time_keep_apart() -> None:
    """Each is found by its id; an id that is not open is the process's."""
    with Session() as one, Session() as other, Session(one.id) as inner:
        assert one.id != other.id
        assert (inner, other) == (session_of(one.id), session_of(other.id))
        assert session_of("unknown") is session_of() not in (one, other, inner)
    assert [] == ENDED


def test_a_session_in_a_run_has_the_id_of_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a build and its flows are one session."""
    monkeypatch.setenv(
        "DUCTAFLOW_RUN",
        '{"kind": "build", "flow": "b", "instance": "i", "source": "/b.py", "folder": "/r/b/i", '
        '"runs_root": "/r", "project_root": "/", "session_id": "outer", "run_id": "1"}',
    )
    assert "outer" == Session().id


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_fork_leaves_parts_to_the_original() -> None:
    """It has a session of its own, and ends nothing that is not its own."""
    with Session() as session:
        session.part(Noted)
        pid = os.fork()
        if pid == 0:
            session.end()
            os._exit(0 if not ENDED and session_of(session.id) is not session else 1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


LONG_LIVED = """
import json, os
import pandas as pd, psutil
from pathlib import Path
from ductaflow import conduct
from ductaflow.store.sessions import _OPEN

table = pd.DataFrame({"instance": ["a", "b"]})
source = Path("flows/f.py")
for text in ("one", "two"):
    source.write_text(source.read_text().replace("one", text))
    statuses = set(conduct(table, "f", jobs=2, progress=False)["status"])
    result = json.loads(Path("runs/f/a/result.json").read_bytes())
    left = psutil.Process().children(recursive=True)
    threads = [t.name for t in __import__("threading").enumerate() if t.name == "warm-server"]
    print("DONE", *statuses, result["session_id"], Path("runs/f/a/x.txt").read_text(), len(left),
          os.environ.get("DUCTAFLOW_SERVER"), len(os.listdir("/proc/self/fd")), len(_OPEN), threads)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_conduct_in_a_process_that_lives_for_days(tmp_path: Path) -> None:
    """Two calls: each has its own session, sees an edit, and leaves no process and no open file."""
    project = TinyProject(tmp_path / "project")
    project.flow("f", "# %%\nopen('x.txt', 'w').write('one')")
    done = subprocess.run(
        [sys.executable, "-c", LONG_LIVED],
        cwd=project.root,
        env={name: value for name, value in os.environ.items() if name != "DUCTAFLOW_SERVER"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("DONE")]
    assert 2 == len(lines), done.stdout + done.stderr
    (_, status, id, text, *rest), (_, other_status, other_id, other_text, *other_rest) = lines
    assert ["success", "success", "one", "two"] == [status, other_status, text, other_text]
    assert id != other_id
    assert ["0", "None"] == rest[:2]
    assert rest == other_rest
