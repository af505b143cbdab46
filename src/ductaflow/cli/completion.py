"""What a shell completes on Tab: commands, options, ids of stored instances, statuses.

A shell calls the command anew for each Tab, so nothing here reads a config, and pandas is not imported.
Whatever is wrong with a project, nothing is printed and nothing is completed: the command itself says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from ductaflow.common.errors import DuctaflowError

SHELLS = ("bash", "zsh", "fish")
#: With more ids than these a flow is completed first.
MANY = 100
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def script_for(shell: str, command: click.Command) -> str:
    """The script that a shell reads once, after which it completes `ductaflow`."""
    found = get_completion_class(shell)
    assert found
    return found(command, {}, "ductaflow", "_DUCTAFLOW_COMPLETE").source()


def complete_targets(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Flows and ids; where none fits, folders."""
    ids = _ids(ctx)
    if ids is None:
        return []
    found = list(_fitting(ids, incomplete))
    # the shell lists folders better than we do
    return [*map(CompletionItem, found)] or ([CompletionItem(incomplete, type="dir")] if incomplete else [])


def complete_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Flows and ids."""
    return [*map(CompletionItem, _fitting(_ids(ctx) or (), incomplete))]


def complete_versions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Flows and ids, and behind an `@` which version of them."""
    name, sign, _ = incomplete.partition("@")
    if sign:
        return [*map(CompletionItem, _beginning([f"{name}@expected", f"{name}@previous"], incomplete))]
    return complete_targets(ctx, param, incomplete)


def completes_words(words: Callable[[], Sequence[str]]) -> Completer:
    """A completer of words between commas."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        given, comma, begun = incomplete.rpartition(",")
        return [CompletionItem(f"{given}{comma}{word}") for word in _beginning(words(), begun)]

    return complete


def _beginning(words: Iterable[str], begun: str) -> list[str]:
    return [word for word in words if word.startswith(begun)]


def _fitting(ids: Sequence[str], begun: str) -> Iterable[str]:
    """The flows and ids that begin so; of many a flow alone, with and without what is behind it."""
    found = _beginning(ids, begun)
    flows = dict.fromkeys(id.partition("/")[0] for id in found) if "/" not in begun else {}
    if len(found) > MANY and flows:
        # two of them, so that the shell waits for what comes behind the name
        return [text for flow in flows for text in (flow, f"{flow}/")]
    return [*flows, *found]


def _ids(ctx: click.Context) -> Sequence[str] | None:
    """The ids of all stored instances; None where the project cannot be read."""
    from ductaflow.project.instances import stored_ids
    from ductaflow.project.settings import Project

    folder = ctx.params.get("folder")
    try:
        project = Project.at(Path(folder)) if folder else Project.around(Path.cwd())
        return stored_ids(project) if project else ()
    except (DuctaflowError, OSError):
        # a line that is being typed is no place for messages
        return None
