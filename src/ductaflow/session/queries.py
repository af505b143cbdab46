"""Rows and columns of a table of results, as a person asks for them on a command line.

matching(table, "fit.alpha > 3")        the rows for which an expression of pandas is true
ordered(table, ["-rmse", "region"])     the rows in another order
named(table, ["rmse", "fit.*"])         the columns of some names and globs
"""

from __future__ import annotations

import fnmatch
import keyword
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ductaflow.common.errors import ConfigError
from ductaflow.common.text import did_you_mean, first_line, listed
from ductaflow.project.values import is_missing
from ductaflow.session.across import ResultTable

_NOT_TRUE_OR_FALSE = "it is not true or false for each row, as `x == 3` is"
_SHOWN_COLUMNS = 20
#: Python's words that pandas reads as such; a column may be called like any other.
_OPERATORS = {"and", "or", "not", "in", "is", "True", "False", "None"}
_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`"""


def matching(table: ResultTable, expression: str) -> ResultTable:
    """The rows for which an expression of `DataFrame.query` is true; columns with dots need no quotes in it.

    Raises:
        ConfigError: it is no such expression, or it is not true or false for each row.
    """
    frame = table.frame()
    try:
        # numexpr, where it is installed, knows neither gaps in integers nor methods; names of ours are none
        # of an expression's
        found: Any = frame.eval(
            _with_quotes(expression, table.columns), engine="python", local_dict={}, global_dict={}
        )
        if getattr(found, "shape", None) != (len(frame),) or found.dtype.kind not in "bO":
            raise TypeError(_NOT_TRUE_OR_FALSE)
        truths = [None if is_missing(truth) else truth for truth in found.tolist()]
        if not {True, False, None}.issuperset(truths):
            raise TypeError(_NOT_TRUE_OR_FALSE)
    except Exception as exc:  # pandas raises whatever Python does
        said = first_line(str(exc)) or type(exc).__name__
        raise ConfigError(f"--where {expression}: {said}", hint=_remedy(said, expression, table)) from exc
    return table.rows(place for place, is_true in enumerate(truths) if is_true)


def _with_quotes(expression: str, columns: Iterable[str]) -> str:
    """Quote the columns in an expression whose names have dots or are words of Python."""
    odd = [
        name
        for name in columns
        if re.fullmatch(r"\w+(\.\w+)+", name) or (keyword.iskeyword(name) and name not in _OPERATORS)
    ]
    if not odd:
        return expression
    names = "|".join(map(re.escape, sorted(odd, key=len, reverse=True)))
    return re.sub(
        rf"{_QUOTED}|(?<![\w.])({names})(?!\w)",
        lambda found: f"`{found[1]}`" if found[1] else found[0],
        expression,
    )


def _remedy(said: str, expression: str, table: ResultTable) -> str:
    """What to do about an expression that pandas refuses."""
    unknown = re.search(r"name '(\w+)' is not defined", said)
    if unknown and unknown[1].lower() in ("true", "false", "null", "none", "nan"):
        return "Write True or False, and x.isna() for what is missing."
    # pandas knows of a.b that it does not know a
    word = unknown and re.search(rf"(?<![\w.]){unknown[1]}[\w.]*", expression)
    near = did_you_mean(word[0], table.columns) if word else ""
    return near or f"Texts are in quotes. {_there_are(table)}"


def _there_are(table: ResultTable) -> str:
    return f"Columns: {listed(list(table.columns), _SHOWN_COLUMNS)}."


def ordered(table: ResultTable, keys: Sequence[str]) -> ResultTable:
    """The rows by some columns, those that begin with `-` downwards; what is missing comes last.

    Raises:
        ConfigError: there is no such column, or its values have no order.
    """
    places = list(range(len(table.flows)))
    for key in reversed(keys):
        name = key if key in table.columns else key.removeprefix("-")
        values = _column(table, name, "--sort")
        try:
            given = sorted(
                (place for place in places if values[place] is not None),
                key=values.__getitem__,
                reverse=name != key,
            )
        except TypeError as exc:
            raise ConfigError(
                f"--sort {name}: its values have no order: {exc}",
                hint=f"Choose rows that have: --where '{name}.notna()'",
            ) from exc
        places = [*given, *(place for place in places if values[place] is None)]
    return table.rows(places)


def _column(table: ResultTable, name: str, option: str) -> list[Any]:
    if name not in table.columns:
        hint = did_you_mean(name, table.columns) or _there_are(table)
        raise ConfigError(f"{option} {name}: there is no such column", hint=hint)
    return table.columns[name]


def named(table: ResultTable, patterns: Sequence[str]) -> list[str]:
    """The columns of some names, in that order; a glob stands for all that it matches.

    Raises:
        ConfigError: there is no such column.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if pattern not in table.columns and (some := fnmatch.filter(table.columns, pattern)):
            found |= dict.fromkeys(some)
        else:
            _column(table, pattern, "--columns")
            found[pattern] = None
    return list(found)
