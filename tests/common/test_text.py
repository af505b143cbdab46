"""How text, durations and paths are shown, whoever shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import DURATIONS

from ductaflow.common.text import clean, cut, duration, first_line, moment, shorten, shown_path, visible


@pytest.mark.parametrize(("seconds", "expected"), DURATIONS)
def test_a_duration(seconds: float, expected: str) -> None:
    """Three digits or so, and a half is rounded up."""
    assert expected == duration(seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.2, "1 s"),
        (80, "80 s"),
        (240, "4 min"),
        (5370, "1 h 30 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_an_estimate(seconds: float, expected: str) -> None:
    """No more digits than anybody believes."""
    assert expected == duration(seconds, rough=True)


@pytest.mark.parametrize(
    ("iso", "expected"),
    [("2026-01-02T03:04:05.678Z", "2026-01-02 03:04:05 UTC"), ("soon", "soon"), ("", ""), (None, "")],
)
def test_a_moment(iso: str | None, expected: str) -> None:
    """In UTC, to the second; what is no moment stays as it is."""
    assert expected == moment(iso)


def test_what_cannot_be_seen_is_spelled() -> None:
    """As escapes, in a page control characters by their pictures; whatever can be seen stays."""
    seen = "\t\n\u00e9\u4e2d\U0001f680"
    assert seen == visible(seen) == visible(seen, pictures=True)
    assert "\t\n" == visible("\t\r\n")
    assert "\\x00\\x7f\\x85\\udcff\\U0001ffff" == visible("\x00\x7f\x85\udcff\U0001ffff")
    assert "\u2400\u2421\\x85\\udcff\\ufeff\\U0001ffff" == visible(
        "\x00\x7f\x85\udcff\ufeff\U0001ffff", pictures=True
    )


def test_a_runner_obeys_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of a flow on a console is no command, under GitHub Actions."""
    assert "::error::x" == clean("::error::x")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert ": :error::x" == clean("\x1b[31m::error::x") == first_line("\n::error::x\ny")


@pytest.mark.parametrize("text", ["", "x" * 10, "x" * 11, "\u00e9" * 1000])
def test_long_text_is_short(text: str) -> None:
    """As it is where it fits; else the end says that there is more, or how much."""
    assert text[:10] == shorten(text, 10) if len(text) <= 10 else shorten(text, 10) == f"{text[:7]}..."
    left_out = f" ... ({len(text) - 10:,} characters left out)" if len(text) > 10 else ""
    assert text[:10] + left_out == cut(text, 10)


def test_a_path_is_as_short_as_it_is_clear(tmp_path: Path) -> None:
    """From the folder where a person is; beyond the folder above it, absolute."""
    here = tmp_path / "a" / "b"
    assert "x.txt" == shown_path(here / "x.txt", here)
    assert str(Path("..", "x.txt")) == shown_path(here.parent / "x.txt", here)
    assert str(tmp_path / "x.txt") == shown_path(tmp_path / "x.txt", here)
