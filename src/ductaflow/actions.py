"""Text that the runner of GitHub Actions would take for a command, made harmless.

The runner reads what a step prints. It obeys `::error::...` at the beginning of a line, after any blanks, and
the older `##[error]...` anywhere in a line. A flow that prints such a line must not annotate a pull request,
mask words or, by `::stop-commands::`, silence the rest of the job. So outside of a run, where text of a flow
meets the console, a space breaks the command:

    ::error::boom     ->  : :error::boom
    x ##[error]boom   ->  x ## [error]boom

The log, the result and the report keep the text as it was. Characters that cannot be seen do not count as
text: the runner may pass over them when it compares.
"""

from __future__ import annotations

import os
import re

#: What cannot be seen: all but printable ASCII, the ends of lines left out.
_UNSEEN = r"[^ -~\r\n]*"
_COMMAND = re.compile(rf"(?:^|(?<=[\r\n]))((?:[^!-~\r\n])*:{_UNSEEN}):")
_OLD_COMMAND = re.compile(rf"(#{_UNSEEN}#{_UNSEEN})\[")
#: The beginning of either at the end of a piece of text; all colons of a row: of `:::` any two may be it.
_BEGUN = re.compile(rf"(?:[:#]{_UNSEEN})+\Z")
#: No more than this is held back from a console.
_MAX_BEGUN = 100


def are_watched() -> bool:
    """Whether this process runs in a step of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def without_commands(text: str) -> str:
    """Text of a flow, for the console: under GitHub Actions without anything that its runner would obey."""
    if not are_watched() or ("#" not in text and ":" not in text):
        return text
    return _OLD_COMMAND.sub(r"\1 [", _COMMAND.sub(r"\1 :", text))


def begun_at_end(text: str) -> int:
    """How many characters at the end of a piece of text may be the beginning of a command.

    Who shows text in pieces keeps them for the next piece, so that no command is cut in two and missed.
    """
    if not are_watched():
        return 0
    found = _BEGUN.search(text, max(0, len(text) - _MAX_BEGUN))
    return len(text) - found.start() if found else 0
