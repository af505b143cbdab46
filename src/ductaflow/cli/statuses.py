"""Statuses on the command line: what `--status` asks for, in which order lists are, in which colour.

--status error,lost       these
--status red              what stands for a status, as on the page: error, and what counts as one
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.text import did_you_mean
from ductaflow.session.decide import Would
from ductaflow.store.result import Status, status_named

#: Of last runs, the worst first.
LAST_STATUSES = ("unreadable", "lost", "error", "warning", "running", "success", "never")
#: Of what a session would do, what needs a person first.
WOULD_STATUSES = (Would.ERROR, Would.BLOCKED, Would.RUN, Would.MAY_RUN, Would.NOT_RUN, Would.UNCHANGED)
#: What else a word asks for.
_WITH: Mapping[str, Sequence[str]] = {
    "error": ("lost", "unreadable"),
    "not_run": ("never",),
    "run": ("may run",),
}
_COLOURS = {"lost": "red", "unreadable": "red", "running": "cyan", "run": "yellow", "may run": "yellow"}


def colour_of(status: str) -> str:
    """The colour of a status; empty for none."""
    if status in _COLOURS:
        return _COLOURS[status]
    found = status_named(status)
    return found.colour if found else ""


def rank_of(status: str, order: Sequence[str]) -> int:
    """The place of a status in an order, for sorting."""
    return order.index(status) if status in order else len(order)


def statuses_asked(text: str | None, known: Sequence[str]) -> frozenset[str]:
    """The statuses that `--status` asks for, all of them for None.

    Raises:
        DuctaflowError: a word is none; the message names those that are.
    """
    if text is None:
        return frozenset(known)
    found: set[str] = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        name = _named(word, known)
        if name is None:
            raise DuctaflowError(
                f"--status {word} is no status here",
                hint=did_you_mean(word, _words(known))
                or f"There are {', '.join(known)}.{_elsewhere(word, known)}",
            )
        found |= {name, *_WITH.get(name, ())}
    if not found:
        raise DuctaflowError("--status names no status", hint=f"There are {', '.join(known)}.")
    return frozenset(found)


def _named(word: str, known: Sequence[str]) -> str | None:
    name = word.lower().replace("-", " ").replace("_", " ")
    own = next((status for status in known if status.replace("_", " ") == name), None)
    if own:
        return own
    status = status_named(word)
    if status is Status.NOT_RUN and "never" in known:
        return "never"
    return status.value if status and status.value in known else None


def _elsewhere(word: str, known: Sequence[str]) -> str:
    """Which command knows a status that this one does not: no last run is blocked."""
    other = LAST_STATUSES if Would.BLOCKED in known else WOULD_STATUSES
    command = "status" if other is LAST_STATUSES else "plan"
    return f" See also: ductaflow {command} --status {word}" if _named(word, other) else ""


def _words(known: Iterable[str]) -> list[str]:
    return [*known, *(word for status in Status if status.value in known for word in status.synonyms)]
