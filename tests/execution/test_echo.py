"""What the console shows of a log while a flow runs."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from ductaflow.execution.echo import shown_while_it_grows


def test_a_log_is_shown_to_its_end(tmp_path: Path) -> None:
    """Also one that comes late, and what is written last."""
    shown: list[str] = []
    log = tmp_path / "log.txt"
    with shown_while_it_grows(log, shown.append):
        log.write_text("one\ntwo")
    assert "one\ntwo" == "".join(shown)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")
@pytest.mark.parametrize("entry", ["pipe", "link", "folder"])
def test_what_a_flow_puts_in_place_of_its_log(tmp_path: Path, entry: str) -> None:
    """Nobody waits for a pipe that no one writes to, and nothing else is shown as a log."""
    log, victim = tmp_path / "log.txt", tmp_path / "victim.txt"
    victim.write_text("not yours")
    {
        "pipe": lambda: os.mkfifo(log),
        "link": lambda: log.symlink_to(victim),
        "folder": log.mkdir,
    }[entry]()
    shown: list[str] = []

    def follow() -> None:
        with shown_while_it_grows(log, shown.append):
            pass

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert [] == shown
