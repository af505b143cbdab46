"""What a terminal can show besides text: colours and links, where somebody wants them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TextIO
from urllib.parse import quote

#: The numbers of the colours that statuses have.
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "purple": 35, "cyan": 36}
#: Variables that terminals set which show links; of others nobody knows.
_WITH_LINKS = (
    "WT_SESSION",
    "KITTY_WINDOW_ID",
    "KONSOLE_VERSION",
    "DOMTERM",
    "WEZTERM_PANE",
    "ITERM_SESSION_ID",
)
_PROGRAMS = frozenset(["iTerm.app", "WezTerm", "vscode", "Hyper", "ghostty", "Tabby", "rio"])
_NAMES = ("kitty", "alacritty", "foot", "ghostty", "wezterm", "contour")
#: The first version of VTE (GNOME and Xfce terminals) that shows links without a fault.
_VTE = 5001


class Line(str):
    """A line for people, in which one word has a colour where there are colours; a text like any other."""

    __slots__ = ("parts",)
    parts: tuple[str, str, str, str]

    def __new__(cls, word: str, colour: str = "", rest: str = "", before: str = "") -> Self:
        self = super().__new__(cls, f"{before}{word}{rest}")
        self.parts = before, word, rest, colour
        return self

    def painted(self, clean: Callable[[str], str]) -> str:
        """Return it with its colour; `clean` is called with what it is made of, before that."""
        before, word, rest, colour = self.parts
        return f"{clean(before)}{painted(clean(word), colour)}{clean(rest)}"


def wants_colours(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream gets colours, by the rules that pytest has too.

    `PY_COLORS=1` or `0` decides; then `NO_COLOR` says no and `FORCE_COLOR` yes, if not empty; else whether it
    is a terminal that is not `TERM=dumb`.
    """
    if environ.get("PY_COLORS") in ("0", "1"):
        return environ["PY_COLORS"] == "1"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    # Windows Terminal shows them, which an older console of Windows does not by itself.
    is_able = sys.platform != "win32" or bool(environ.get("WT_SESSION") or environ.get("TERM"))
    return stream.isatty() and is_able and environ.get("TERM") != "dumb"


def painted(text: str, colour: str) -> str:
    """Return a text in a colour; as it is where the colour has no name."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if colour in _COLOURS else text


def shows_links(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the terminal of this process is known to show links; `FORCE_HYPERLINK` decides."""
    if "FORCE_HYPERLINK" in environ:
        return environ["FORCE_HYPERLINK"] != "0"
    # tmux and screen drop them, or show what is meant for the terminal around them
    if environ.get("TMUX") or environ.get("TERM", "dumb").startswith(("dumb", "screen", "tmux")):
        return False
    vte = environ.get("VTE_VERSION", "")
    return bool(
        (vte.isdigit() and int(vte) >= _VTE)
        or environ.get("TERM_PROGRAM") in _PROGRAMS
        or any(environ.get(name) for name in _WITH_LINKS)
        or any(name in environ.get("TERM", "") for name in _NAMES)
    )


def link_to(path: Path, text: str) -> str:
    """Return a text that leads to a file (OSC 8), in a terminal that `shows_links`."""
    place = quote(Path(os.path.abspath(path)).as_posix())
    host = socket.gethostname()
    return f"\x1b]8;;file://{host}{'' if place.startswith('/') else '/'}{place}\x1b\\{text}\x1b]8;;\x1b\\"
