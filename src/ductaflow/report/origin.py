"""Where a session comes from: commit, branch, command line, host, run of CI."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ductaflow.common.ci import checkout_of, ci_run
from ductaflow.common.text import cut, listed
from ductaflow.project.secrets import masked_arguments
from ductaflow.report.schema import Head, Origin

#: Characters of a command line; commands and hosts of a merged report that are named.
MAX_COMMAND, MAX_NAMED = 1000, 3


def shown_commit(commit: str | None, *, dirty: bool | None) -> str:
    """Return the beginning of a commit, and whether files differed from it; empty for none."""
    return f"{commit[:10]}{' with changes' if dirty else ''}" if commit else ""


def origin_here(root: Path | None) -> Origin:
    """Return where this process comes from.

    Args:
        root: of the project; without it, only CI may know a commit.
    """
    checkout, run = checkout_of(root) if root else None, ci_run()
    return {
        "commit": checkout.commit if checkout else run.commit if run else None,
        "dirty": checkout.dirty if checkout else None,
        "branch": checkout.branch if checkout else run.branch if run else None,
        "command": command_line(sys.orig_argv),
        "host": socket.gethostname(),
        "ci_run": run.url if run else None,
    }


def command_line(given: Sequence[str]) -> str | None:
    """Return a command as a person would type it again, secrets masked; None without one.

    Args:
        given: the interpreter and what follows it, as of `sys.orig_argv`.
    """
    if len(given) < 2:
        return None
    program, *rest = given[1:]
    path = Path(program)
    if path.name == "__main__.py":
        # how Windows starts an installed command
        path = path.parent
    is_installed = not program.startswith("-") and path.suffix in ("", ".exe")
    words = [path.stem, *rest] if is_installed else ["python", program, *rest]
    return cut(shlex.join(masked_arguments(words)), MAX_COMMAND)


def add_origin(head: Head, origin: Origin) -> None:
    """Say in a twin where its session comes from."""
    head["commit"] = origin.get("commit")
    head["dirty"] = origin.get("dirty")
    head["branch"] = origin.get("branch")
    head["command"] = origin.get("command")
    head["host"] = origin.get("host")
    head["ci_run"] = origin.get("ci_run")


def origin_of_all(sessions: Sequence[Origin]) -> Origin:
    """Return where the sessions of a merged report come from: what all say, else what the first ones say."""
    dirty = [found for one in sessions if (found := one.get("dirty")) is not None]
    return {
        "commit": _first(one.get("commit") for one in sessions),
        "dirty": any(dirty) if dirty else None,
        "branch": _first(one.get("branch") for one in sessions),
        "command": _all(one.get("command") for one in sessions),
        "host": _all(one.get("host") for one in sessions),
        "ci_run": _first(one.get("ci_run") for one in sessions),
    }


def _first(texts: Iterable[str | None]) -> str | None:
    return next(filter(None, texts), None)


def _all(texts: Iterable[str | None]) -> str | None:
    return listed([*dict.fromkeys(filter(None, texts))], MAX_NAMED) or None
