"""How two values are compared, as plain data.

Rule()                                    numbers within 1e-6 of the expected one, everything else exactly
Rule(rtol=1e-3, ignore=("created",))      as `_run.expect` names it
Rule(rtol=0.0, atol=0.0)                  exactly
"""

from __future__ import annotations

import fnmatch
import functools
import re
from dataclasses import dataclass

#: `|found - expected| <= atol + rtol * |expected|` where nobody names others.
RTOL, ATOL = 1e-6, 1e-12


@dataclass(frozen=True, slots=True)
class Rule:
    """How two values, or two files, are compared.

    Attributes:
        rtol, atol: the tolerances, relative to the expected value and absolute; None for 1e-6 and 1e-12.
        ignore: globs of columns and of JSON key paths that are not compared. `*` and `?` stand for any
            characters; brackets stand for themselves: `rows[*].created`.
        key: the columns that name a row of a table.
        min, max: the bounds of a metric.
    """

    rtol: float | None = None
    atol: float | None = None
    ignore: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None

    @property
    def is_named(self) -> bool:
        """Whether a person allows a difference: then it goes for integers and pixels too."""
        return bool(self.rtol) or bool(self.atol)

    @property
    def tolerances(self) -> tuple[float, float]:
        """The tolerances in force, relative and absolute."""
        return (RTOL if self.rtol is None else self.rtol, ATOL if self.atol is None else self.atol)

    def ignores(self, name: str, *, below: bool = False) -> bool:
        """Return whether a column is left out, or, with `below`, a JSON key path or what it lies in.

        >>> Rule(ignore=("rows[*].created", "meta")).ignores("rows[3].created", below=True)
        True
        """
        return any(_pattern(glob, below).match(name) for glob in self.ignore)


def glob_matches(glob: str, name: str) -> bool:
    """Return whether a glob of `_run.expect` matches the name of a metric or a file.

    >>> glob_matches("peak_*", "peak_mw"), glob_matches("rows[*].load", "rows[12].load")
    (True, True)
    """
    return _pattern(glob, False).match(name) is not None


@functools.cache
def _pattern(glob: str, below: bool) -> re.Pattern[str]:
    # in key paths brackets are no classes of characters
    pattern = fnmatch.translate(glob.replace("[", "[[]"))
    return re.compile(
        pattern.removesuffix(r"\Z").removesuffix(r"\z") + (r"(?:[.\[].*)?\Z" if below else r"\Z")
    )
