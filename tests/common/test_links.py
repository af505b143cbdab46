"""Colours and links: where there are some."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ductaflow.common.terminal import Line, link_to, shows_links, wants_colours


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm"}, True),
        ({}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
    ],
)
def test_a_terminal_has_colours_unless_somebody_objects(environ: dict[str, str], expected: bool) -> None:
    """A file has none, unless they are forced."""
    assert expected == wants_colours(_Terminal(), environ)
    assert ("FORCE_COLOR" in environ) == wants_colours(io.StringIO(), environ)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "xterm-256color", "VTE_VERSION": "6800"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "4500"}, False),
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "xterm", "TERM_PROGRAM": "vscode"}, True),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"}, False),
        ({"TERM": "xterm", "WT_SESSION": "x", "TMUX": "/tmp/x"}, False),
        ({"TERM": "xterm", "FORCE_HYPERLINK": "1"}, True),
        ({"TERM": "xterm-kitty", "FORCE_HYPERLINK": "0"}, False),
        ({}, False),
    ],
)
def test_links_are_shown_by_terminals_that_are_known_for_it(environ: dict[str, str], expected: bool) -> None:
    """Others might print what is not meant for people."""
    assert expected == shows_links(environ)


def test_a_link_leads_to_the_file(tmp_path: Path) -> None:
    """Whatever signs its path has; what is shown is the text."""
    link = link_to(tmp_path / "a b;c.html", "report")
    assert link.startswith("\x1b]8;;file://")
    assert link.endswith("/a%20b%3Bc.html\x1b\\report\x1b]8;;\x1b\\")


def test_a_line_is_a_text_with_a_word_in_colour() -> None:
    """All that it is made of is made safe, and only then painted."""
    line = Line("error", "red", "  fit/a", "> ")
    assert "> error  fit/a" == line
    assert "> \x1b[31mERROR\x1b[0m  FIT/A" == line.painted(str.upper)
    assert "plain" == Line("plain").painted(str)
