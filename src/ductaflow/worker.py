"""What happens on a worker of a Dask cluster: it shows that it sees what the session sees, and takes turns.

A run is started as in any other session, by a process of its own below the worker's. Dask may start a run
again on another worker when one is lost; the run folder tells the second attempt what became of the first.
"""

from __future__ import annotations

import functools
import os
import platform
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ductaflow import warm
from ductaflow.errors import DuctaflowError
from ductaflow.folder import is_running
from ductaflow.instances import Instance
from ductaflow.launch import StopFlag
from ductaflow.layout import CACHE_DIR
from ductaflow.result import Result, read_result
from ductaflow.spec import current_run
from ductaflow.turns import Outcome, Turn

if TYPE_CHECKING:
    from distributed import Worker

DISTRIBUTION = "pytest-ductaflow"
#: How often a second attempt looks whether the first one has ended, in seconds.
LOOK_SECONDS = 0.2
#: Causes of a run that was ended from outside; it says nothing of the flow, and the next attempt runs it.
_ENDED_FROM_OUTSIDE = ("lost", "interrupted")


class UnfitWorker(DuctaflowError):
    """A worker was given a turn and does not see what the session sees."""


# --- what a worker has to show -----------------------------------------------------------------------------


def shown_here(token: str) -> dict[str, Any]:
    """What this process can show, as plain data that any version of ours could give.

    Args:
        token: path of the session's token.
    """
    folder = os.path.dirname(os.path.dirname(token))
    run = current_run()
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "package": _package_version(),
        "interpreter": sys.executable,
        "token": _text_of(token),
        "writable": os.access(folder, os.W_OK),
        "inside": run.title if run else None,
    }


@functools.cache
def _package_version() -> str | None:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        # it runs from a source tree
        return None


def _text_of(token: str) -> str | None:
    try:
        return Path(token).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


@dataclass(frozen=True, slots=True)
class Admission:
    """What a worker has to show before it runs anything for a session.

    Attributes:
        session_id: the session.
        token: path of a file with random content in the session's runs folder.
        content: of that file.
        python, package: the versions of the conductor.
    """

    session_id: str
    token: str
    content: str
    python: str
    package: str | None

    @classmethod
    def of(cls, runs_dir: Path, session_id: str) -> Admission:
        """What is to be shown to this process's session."""
        token = runs_dir / CACHE_DIR / f"session-{session_id}"
        return cls(session_id, str(token), secrets.token_hex(), platform.python_version(), _package_version())

    def issue(self) -> None:
        """Write the token.

        Raises:
            DuctaflowError: the runs folder cannot be written.
        """
        token = Path(self.token)
        try:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.write_text(self.content, encoding="utf-8")
        except OSError as exc:
            raise DuctaflowError(
                f"{token}: cannot be written: {exc.strerror or exc}",
                hint="Make the runs folder writable and see that the disk has room, then run again.",
            ) from exc

    def withdraw(self) -> None:
        """Remove the token; no worker is admitted any more."""
        Path(self.token).unlink(missing_ok=True)

    @property
    def runs_dir(self) -> str:
        return os.path.dirname(os.path.dirname(self.token))

    def fault_in(self, shown: Mapping[str, Any]) -> str | None:
        """What is wrong with a worker that has shown something; None if it may run.

        Args:
            shown: what `shown_here` gave there.
        """
        host = f"on {shown['host']}"
        if fault := self.version_fault_in(shown):
            return fault
        if shown["inside"]:
            return f"{host} was started inside of the run {shown['inside']}"
        if shown["token"] != self.content:
            return f"{host} does not see the conductor's folder {self.runs_dir}"
        if not shown["writable"]:
            return f"{host} cannot write to {self.runs_dir}"
        return None

    def version_fault_in(self, shown: Mapping[str, Any]) -> str | None:
        """The same of the versions alone."""
        host = f"on {shown['host']}"
        if shown["python"] != self.python:
            python = f"{host} runs Python {shown['python']} ({shown['interpreter']})"
            return f"{python}, the conductor {self.python}"
        if shown["package"] != self.package:
            package = shown["package"] or "not installed"
            return f"{host} has {DISTRIBUTION} {package}, the conductor {self.package or 'not installed'}"
        return None


# --- a turn ------------------------------------------------------------------------------------------------


def take(turn: Turn, admission: Admission, *upstreams: Outcome) -> Outcome:
    """Take a turn, as a task of Dask.

    Args:
        turn: whose turn it is.
        admission: what this worker has to show.
        upstreams: what came of the turns before it.

    Raises:
        UnfitWorker: it cannot show it; nothing has run.
    """
    from distributed import get_worker

    worker = get_worker()
    if fault := admission.fault_in(shown_here(admission.token)):
        raise UnfitWorker(f"{worker.address} {fault}")
    warm.disown()
    stop = TaskFlag(worker, worker.get_current_task())
    earlier = result_of_earlier_attempt(turn.instance, admission.session_id, stop)
    return Outcome.of(earlier) if earlier else turn.take(upstreams, stop, str(worker.name))


class TaskFlag:
    """Is set when nobody wants a task any more that runs here.

    That is when it was cancelled, when its session or the scheduler is lost, and when the worker ends. Dask
    does not end a running task in any of these cases, but its worker knows.
    """

    def __init__(self, worker: Worker, key: Any) -> None:
        self._worker = worker
        self._key = key

    def is_set(self) -> bool:
        task = self._worker.state.tasks.get(self._key)
        return (
            task is None
            or task.state in ("cancelled", "resumed")
            or self._worker.status.name in ("closing", "closed", "failed")
        )


def result_of_earlier_attempt(instance: Instance, session_id: str, stop: StopFlag) -> Result | None:
    """What an attempt on a worker that was lost has left, when it has ended; None if there was none.

    One that was ended with its worker counts as none.

    Args:
        instance: whose turn it is.
        session_id: the session; what other sessions left is nothing to it.
        stop: ends the wait.
    """
    folder, runs_dir = instance.run_folder.path, instance.project.runs_dir
    while is_running(runs_dir, folder, session_id) and not stop.is_set():
        time.sleep(LOOK_SECONDS)
    result = result_of_session(folder, session_id)
    return None if result is None or result.cause in _ENDED_FROM_OUTSIDE else result


def result_of_session(folder: Path, session_id: str) -> Result | None:
    """The result in a run folder, if it is one of a session."""
    try:
        result = read_result(folder)
    except DuctaflowError:
        # Nothing of this session: its runs write results that can be read, and the next one replaces it.
        return None
    return result if result is not None and result.session_id == session_id else None
