"""The last run of instances as it lies in run folders: its result, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ductaflow.common.errors import DuctaflowError
from ductaflow.project.instances import Instance
from ductaflow.project.orphans import Orphan
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.store.folder import begun
from ductaflow.store.record import Site
from ductaflow.store.result import Result, Status, read_result

NOT_JUDGED = "not judged since its expectation changed"
WILL_BE_JUDGED = "will be judged again, since its expectation changed"


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of one. `status` is a status, or `running`, `lost`, `never`, `unreadable`.

    Attributes:
        name: as a person names it on the command line.
        moment: when it finished, or began if it is running; UTC.
        result: what it says of itself, if it came to its end.
        is_judged: its results were judged by what is expected of them now; nothing is judged here.
    """

    name: str
    status: str
    moment: str | None = None
    message: str = ""
    result: Result | None = None
    is_judged: bool = True

    @property
    def seconds(self) -> float | None:
        return self.result.seconds if self.result else None

    @property
    def is_error(self) -> bool:
        return self.status in (Status.ERROR, "lost", "unreadable")


def last_runs(
    project: Project, seen: Sequence[Instance | Orphan], faults: list[str] | None = None
) -> list[LastRun]:
    """The last run of each, also one that goes on or never came to its end; `faults` as of `begun`."""
    at_work = {Path(marker.folder): (marker.owner, lost) for marker, lost in begun(project.runs_dir, faults)}
    found = []
    for one in seen:
        owner, is_lost = at_work.get(one.run_folder.path, (None, False)) if at_work else (None, False)
        if owner and is_lost:
            found.append(LastRun(one.shown, "lost", message=f"never came to its end; {owner}"))
        elif owner:
            found.append(LastRun(one.shown, "running", owner.started, f"process {owner.pid}"))
        else:
            found.append(_finished(one))
    return found


def _finished(one: Instance | Orphan) -> LastRun:
    try:
        result = read_result(one.run_folder.path)
    except DuctaflowError as exc:
        return LastRun(one.shown, "unreadable", message=f"{exc.message}. {exc.hint}")
    if result is None:
        problem = one.problem if isinstance(one, Instance) else None
        return LastRun(one.shown, "never", message=problem.message if problem else "")
    notes = [*(one.notes or ())] if isinstance(one, Instance) else []
    judged = not isinstance(one, Instance) or is_judged(one, result)
    message = "; ".join(filter(None, [result.message, *notes, "" if judged else NOT_JUDGED]))
    return LastRun(one.shown, result.status.value, result.finished, message, result, judged)


def is_judged(one: Instance, result: Result) -> bool:
    """Whether the last run of an instance was judged by what is expected of it now; judges nothing."""
    known = one.options.expect or result.judged or one.project.expected_dir.is_dir()
    if not known or not result.is_complete or one.problem:
        return True
    # most projects expect nothing
    from ductaflow.store import expected

    spec = spec_of_instance(one, with_git=False)
    rules, site = one.options.expectations, Site.of(spec)
    return not spec.expected or expected.is_judged(result, Path(spec.expected), rules, site)
