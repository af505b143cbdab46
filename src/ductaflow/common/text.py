"""Text for people: made safe for a console, shortened, counted, spelled; durations, moments, paths.

GitHub Actions reads what a step prints. It obeys `::error::...` at the beginning of a line, after any blanks,
and the older `##[error]...` anywhere in a line. A flow that prints such a line must not annotate a pull
request, mask words or, by `::stop-commands::`, silence the rest of the job. So outside of a run, where text
of a flow meets the console, a space breaks the command:

    ::error::boom     ->  : :error::boom
    x ##[error]boom   ->  x ## [error]boom

The log, the result and the report keep the text as it was. Invisible characters do not count as text: the
runner may ignore them when it compares.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO, TypeVar

from ductaflow.common.paths import CONTEXT

#: What cannot be seen: all but printable ASCII, the ends of lines left out.
_INVISIBLE = r"[^ -~\r\n]*"
_COMMAND = re.compile(rf"(?:^|(?<=[\r\n]))((?:[^!-~\r\n])*:{_INVISIBLE}):")
_OLD_COMMAND = re.compile(rf"(#{_INVISIBLE}#{_INVISIBLE})\[")
#: The beginning of either at the end of a piece of text; all colons of a row: of `:::` any two may be it.
_BEGUN = re.compile(rf"(?:[:#]{_INVISIBLE})+\Z")
#: No more than this is held back from a console.
_MAX_BEGUN = 100


def are_watched() -> bool:
    """Return whether this process runs in a step of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def without_commands(text: str) -> str:
    """Break the commands in a text of a flow that the runner of GitHub Actions would obey."""
    if not are_watched() or ("#" not in text and ":" not in text):
        return text
    return _OLD_COMMAND.sub(r"\1 [", _COMMAND.sub(r"\1 :", text))


def begun_at_end(text: str) -> int:
    """Return how many characters at the end of a piece of text may begin a command.

    Keep them for the next piece when you show text in pieces, so that no command is cut in two and missed.
    """
    if not are_watched():
        return 0
    found = _BEGUN.search(text, max(0, len(text) - _MAX_BEGUN))
    return len(text) - found.start() if found else 0


# --- text of a flow, to be seen ----------------------------------------------------------------------------

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
#: What cannot be seen: controls but tab and newline, invisible marks that turn text around, lone surrogates,
#: noncharacters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
    + "]"
)


def strip_ansi(text: str) -> str:
    """Remove terminal escape sequences."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def visible(text: str, *, pictures: bool = False) -> str:
    """Make text of a flow visible on a terminal or a page.

    Escape sequences are removed. Invisible characters are spelled, `\\x00` or `\\u202e`: control characters
    but tab and newline, marks that reverse the direction, lone surrogates, noncharacters.

    Args:
        pictures: show control characters by their pictures; NUL is U+2400.
    """
    if text.isascii() and text.isprintable():
        # most is, and logs are long
        return text
    return _UNSEEN.sub(_picture if pictures else _spelled, strip_ansi(text).replace("\r\n", "\n"))


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else _spelled(found)


def clean(text: str) -> str:
    """Make text of a flow visible, and break what a runner of CI would obey."""
    return without_commands(visible(text))


def first_line(text: str, most: int | None = 200) -> str:
    """Return the first line of a text of a flow, clean, cut after `most` characters; empty for no text."""
    lines = clean(text).strip().splitlines()
    return lines[0][:most] if lines else ""


# --- short -------------------------------------------------------------------------------------------------


def shorten(text: str, most: int = 40) -> str:
    """Shorten a text to `most` characters; a longer one ends with `...`."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def cut(text: str, most: int, *, whole: str = "") -> str:
    """Cut a text after `most` characters, and say how many are left out; `whole` says where all are."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    return f"{text[:most]} ... ({left_out:,} characters left out{f'; {whole}' if whole else ''})"


def cut_middle(text: str, most: int) -> str:
    """Cut the middle out of a text longer than `most` characters, and say how many are left out."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end]}\n[... {len(text) - most:,} characters left out ...]\n{text[-end:]}"


def cut_lines(lines: Sequence[str], most: int, *, whole: str = "") -> Sequence[str]:
    """Cut the middle out of more than `most` lines, and say how many are left out; `whole`: where all are."""
    left_out = len(lines) - most
    if left_out <= 0:
        return lines
    said = f"... {left_out} lines left out{f'; {whole}' if whole else ''} ..."
    return [*lines[: most // 2], said, *lines[-(most // 2) :]]


def listed(names: Sequence[str], most: int | None) -> str:
    """List the first names, and say how many more there are: `a, b and 3 more`; all for None."""
    more = f" and {len(names[most:])} more" if most and names[most:] else ""
    return f"{', '.join(names[:most])}{more}"


def markdown_row(cells: Iterable[str]) -> str:
    """Spell a row of a table of Markdown; whatever a cell holds, it stays one.

    >>> print(markdown_row(["rmse", "a|b\\nc"]))
    | rmse | a\\|b c |
    """
    return (
        f"| {' | '.join(' '.join(clean(cell).splitlines()).replace('|', chr(92) + '|') for cell in cells)} |"
    )


# --- numbers, times, places --------------------------------------------------------------------------------


def duration(seconds: float, *, rough: bool = False) -> str:
    """Spell a duration: `0.13 s`, `12.3 s`, `2 min 05 s`, `3 h 07 min`; `dom.js` does the same.

    Args:
        rough: it is an estimate: `40 s`, `4 min`, `2 h 10 min`.
    """
    if rough and seconds < 90:
        return f"{max(1, round(seconds)) if seconds else 0} s"
    if rough:
        seconds = 60 * round(seconds / 60)
        if seconds < 5400:
            return f"{seconds // 60} min"
    elif seconds < 59.95:  # from there it reads 60.0, as from 9.995 it reads 10.00
        # a half is rounded up, as browsers do
        return f"{seconds + 1e-9:.{2 if seconds < 9.995 else 1}f} s"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """Spell a number of bytes: `512 B`, `1.2 kB`, `340 MB`; `dom.js` does the same.

    >>> size(512), size(1234), size(340_000_000)
    ('512 B', '1.2 kB', '340 MB')
    """
    number, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"


#: Bytes of each unit, by its name in small letters; `GB` counts in thousands, `GiB` in 1,024.
_UNITS = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}
_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([a-z]{1,3})\s*", re.IGNORECASE | re.ASCII)


def bytes_of(text: str) -> int | None:
    """Read a number of bytes with its unit, as `size` spells it; None if it is none.

    >>> bytes_of("4 GB"), bytes_of("1.5GiB"), bytes_of("4 G")
    (4000000000, 1610612736, None)
    """
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[2].lower()) if match else None
    return round(float(match[1]) * unit) if match and unit else None


def number(value: object) -> str:
    """Spell a metric for people: six digits are enough to compare; text and truth as JSON has them.

    >>> number(0.31249999), number(812.4), number(1234567.891), number(1e-9), number(True), number(None)
    ('0.3125', '812.4', '1234567.9', '1e-09', 'true', 'NaN')
    """
    if value is None:
        return "NaN"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # not in the form of 1.23457e+06, which hides what has changed
        return f"{value:.1f}".removesuffix(".0") if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def iso_moment(utc: datetime) -> str:
    """Spell a time in UTC as results and twins have it: ISO 8601 with milliseconds and `Z`."""
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(iso: str | None) -> str:
    """Spell a moment of a record in UTC, as it was recorded; empty for None."""
    found = re.match(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)", iso or "")
    return f"{found[1]} {found[2]} UTC" if found else iso or ""


def shown_path(path: Path, start: Path | None = None) -> str:
    """Spell a path from a folder, by default the working directory, so that it can be clicked and pasted.

    A path far outside is absolute.
    """
    try:
        found = os.path.relpath(path, start)
    except ValueError:
        # another drive on Windows
        return str(path)
    return str(path) if found.startswith(os.path.join("..", "..")) else found


Counted = TypeVar("Counted")


def in_numbers(counts: Counter[Counted], order: Iterable[Counted]) -> str:
    """Spell counts by kind, in an order: `2 error, 5 success`; empty if there are none."""
    return ", ".join(f"{counts[kind]} {kind}" for kind in order if counts[kind])


def key_path(where: str, key: object) -> str:
    """Spell the key path of a key, or of a position in a list, below another key path.

    >>> key_path("config.database", "host"), key_path("config", "odd key"), key_path("files", 2)
    ('config.database.host', 'config["odd key"]', 'files[2]')
    """
    text = str(key)
    if isinstance(key, int) or not text.replace("-", "_").isidentifier():
        return f"{where}[{key if isinstance(key, int) else json.dumps(text)}]"
    return f"{where}.{text}" if where else text


def quoted(text: str) -> str:
    """Quote a text from outside in an error message, without control characters and not too long.

    >>> print(quoted("two\\nlines"))
    "two\\nlines"
    """
    text = ascii(text)[1:-1] if not text.isprintable() else text
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean x?` for the nearest known word, an empty string if none is near."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean {by_lower[near[0]]}?" if near else ""


def show_on_console(text: str, stream: TextIO | None = None) -> None:
    """Write to standard output, or another stream, whatever characters it can show.

    In a run, standard output is the log, which gets the text as it is; elsewhere a runner of CI may read it.
    """
    stream = stream or sys.stdout
    if CONTEXT not in os.environ:
        text = without_commands(text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        # The reader of the console (`| head`) has seen enough; the log has everything, and the run goes on.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
