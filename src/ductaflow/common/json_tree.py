"""JSON values: their type, and the one walk through them.

    config = {"site": "north", "database": {"host": "db", "ports": [1, 2]}}

    leaves(config)    (("site",), "north"), (("database", "host"), "db"), (("database", "ports", 0), 1), ...
    mapped(config, change)               a copy with every leaf changed
    spelled(("database", "ports", 0))    the key path as text: database.ports[0]
    as_typed(("database", "my host"))    as a person types it: database.my host

No depth ends in a RecursionError: what lies deeper than `MAX_LEVELS` is one leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import reduce
from typing import Any, TypeAlias

from ductaflow.common.text import key_path

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
#: The keys and positions that lead to a value.
KeyPath: TypeAlias = tuple[str | int, ...]
#: Configs have at most half as many.
MAX_LEVELS = 200
#: Most values are one of these, and asking whether something is a `Mapping` takes long.
SCALARS = frozenset((str, int, float, bool, type(None)))
_Change = Callable[[KeyPath, object], object]
_Test = Callable[[KeyPath, object], bool]


def spelled(path: KeyPath) -> str:
    """A key path as text.

    >>> spelled(("database", "my host", 2))
    'database["my host"][2]'
    """
    return reduce(key_path, path, "")


def as_typed(path: KeyPath) -> str:
    """A key path as a person types it: quotes are only around an empty key, or one with a dot.

    >>> as_typed(("database", "my host")), as_typed(("database", "a.b"))
    ('database.my host', 'database["a.b"]')
    """
    text = ""
    for key in map(str, path):
        text += f'["{key}"]' if not key or "." in key else f".{key}" if text else key
    return text


def walk(value: object, is_leaf: _Test | None = None) -> Iterator[tuple[KeyPath, object, bool]]:
    """Every value in a JSON value, itself included, in the order of the file.

    Mappings and tuples of Python are objects and lists.

    Args:
        value: where to begin; its own path is `()`.
        is_leaf: objects and lists for which it is true are not looked into.

    Yields:
        Key path, value, and whether the walk looks into it.
    """
    pending: list[tuple[KeyPath, Iterator[tuple[str | int, object]]]] = []
    top = _entries((), value, is_leaf)
    yield (), value, top is not None
    if top:
        pending.append(((), iter(top)))
    while pending:
        path, entries = pending[-1]
        for key, item in entries:
            here = (*path, key)
            below = None if type(item) in SCALARS else _entries(here, item, is_leaf)
            yield here, item, below is not None
            if below:
                pending.append((here, iter(below)))
                break
        else:
            pending.pop()


def _entries(
    path: KeyPath, item: object, is_leaf: _Test | None
) -> Collection[tuple[str | int, object]] | None:
    """What an object or a list holds; None for a leaf."""
    if len(path) >= MAX_LEVELS or (is_leaf and is_leaf(path, item)):
        return None
    if isinstance(item, (list, tuple)):
        return [*enumerate(item)]
    return item.items() if isinstance(item, (dict, Mapping)) else None


def leaves(value: object, is_leaf: _Test | None = None) -> Iterator[tuple[KeyPath, object]]:
    """The values in a JSON value that hold no others, empty objects and lists among them; see `walk`.

    >>> [(spelled(path), value) for path, value in leaves({"a": {"b": [1, 2]}, "c": {}})]
    [('a.b[0]', 1), ('a.b[1]', 2), ('c', {})]
    """
    return ((path, item) for path, item, is_open in walk(value, is_leaf) if not is_open or not item)


def mapped(
    config: Mapping[str, object], change: _Change, is_leaf: _Test | None = None
) -> dict[str, JsonValue]:
    """A copy of a JSON object with every leaf changed; it shares no object or list with the original.

    Args:
        config: the original; it stays as it is.
        change: takes the key path and the value of a leaf, and returns the new value.
        is_leaf: see `walk`.

    >>> mapped({"a": [1, 2], "b": "x"}, lambda path, leaf: leaf * 2)
    {'a': [2, 4], 'b': 'xx'}
    """
    made: dict[str, JsonValue] = {}
    pending: list[tuple[KeyPath, Any, Any]] = [((), config.items(), made)]
    while pending:
        path, entries, copy = pending.pop()
        is_list = isinstance(copy, list)
        for key, item in entries:
            here = (*path, key)
            below = None if type(item) in SCALARS else _entries(here, item, is_leaf)
            if below is None:
                new = change(here, item)
            else:
                new = {} if isinstance(item, (dict, Mapping)) else []
                pending.append((here, below, new))
            if is_list:
                copy.append(new)
            else:
                copy[key] = new
    return made
