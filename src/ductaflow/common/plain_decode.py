"""Decodes JSON as types in plain Python, where msgspec cannot be installed; it takes some 20 times as long.

It knows the types that our files are described by (`decode.py` lists them), and agrees with msgspec in what
it takes and returns. `tests/common/test_plain_decode.py` compares both.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

#: Takes a JSON value and where it stands, such as `$.name`; raises ValueError.
Reader = Callable[[Any, str], Any]
_NAMES = {NoneType: "null", dict: "object", list: "array"}
_LISTS = {
    "list": list,
    "Sequence": list,
    "Collection": list,
    "Iterable": list,
    "set": set,
    "frozenset": frozenset,
}


class PlainDecoder:
    """Decodes JSON as one type.

    Args:
        kind: the type.
        dec_hook: called with a type that JSON has nothing for, and the value; raises ValueError.
    """

    def __init__(self, kind: Any, dec_hook: Callable[[Any, object], object]) -> None:
        self._read = _reader(kind, dec_hook)

    def decode(self, data: bytes | str) -> Any:
        """Return the value of a JSON text.

        Raises:
            ValueError: it is no JSON, or not of the type; a RecursionError: it is nested too deeply.
        """
        return self.convert(parse(data))

    def convert(self, value: object) -> Any:
        """Return what JSON values stand for.

        Raises:
            ValueError: they are not of the type.
        """
        return self._read(value, "$")


def parse(data: bytes | str) -> object:
    """Return JSON values; also those with lone surrogates, which msgspec does not read.

    Raises:
        ValueError: it is no JSON, or has a number that is none; a RecursionError: it is nested too deeply.
    """
    # not left to `json`, which guesses the encoding
    text = data if isinstance(data, str) else data.decode()
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"Number out of range: {text}")
    return value


@functools.cache
def _reader(kind: Any, dec_hook: Callable[[Any, object], object]) -> Reader:
    """Return what reads values of a type. What it needs of other types is looked up when a value is there."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (NotRequired, Required, typing.Annotated, typing.Final, typing.ClassVar):
        return _reader(arguments[0], dec_hook)
    if kind is Any or isinstance(kind, TypeVar):
        return lambda value, _: value
    if kind in (int, float, str, bool, NoneType, None):
        return functools.partial(_scalar, NoneType if kind is None else kind)
    if origin in (Union, UnionType):
        return _of_union([(one, _reader(one, dec_hook)) for one in arguments])
    if origin is Literal:
        return functools.partial(_literal, arguments)
    made = _of_class(kind, dec_hook) or _of_container(kind, dec_hook)
    if made:
        return made

    def by_hook(value: Any, place: str) -> Any:
        try:
            return dec_hook(kind, value)
        except ValueError as exc:
            raise _at(str(exc), place) from exc

    return by_hook


def _of_class(kind: Any, dec_hook: Callable[[Any, object], object]) -> Reader | None:
    """Return what reads an enum, a dataclass, a TypedDict or a NamedTuple; None for another type."""
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Enum):
        return functools.partial(_enum, kind)
    defaults = getattr(kind, "_field_defaults", None)  # a NamedTuple has them
    if not (dataclasses.is_dataclass(kind) or is_typeddict(kind) or defaults is not None):
        return None
    readers: dict[str, Reader] = {}
    required: set[str] = set()

    def prepare() -> None:
        """Fill both, when a value is there: a type may have fields of its own type."""
        hints = get_type_hints(kind, include_extras=True)
        made = {name: _reader(hint, dec_hook) for name, hint in hints.items()}
        if dataclasses.is_dataclass(kind):
            fields = {one.name: one for one in dataclasses.fields(kind) if one.init}
            made = {name: made[name] for name in fields}
            required.update(name for name, one in fields.items() if _is_required(one))
        elif is_typeddict(kind):
            # `__required_keys__` knows nothing of `NotRequired` in annotations that are strings
            optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
            required.update(vars(kind)["__required_keys__"] - optional)
        # last, and at once: another thread may read a value of this type meanwhile
        readers.update(made)

    def of_object(value: Any, place: str) -> Any:
        if type(value) is not dict:
            raise _expected("object", value, place)
        if not readers:
            prepare()
        known = [name for name in value if name in readers]
        found = {name: readers[name](value[name], f"{place}.{name}") for name in known}
        if missing := [name for name in readers if name in required and name not in value]:
            raise _at(f"Object missing required field `{missing[0]}`", place)
        return found if is_typeddict(kind) else kind(**found)

    def of_array(value: Any, place: str) -> Any:
        if type(value) is not list:
            raise _expected("array", value, place)
        if not readers:
            prepare()
        most, least = len(readers), len(readers) - len(defaults or ())
        if not least <= len(value) <= most:
            wanted = f"length {most}" if least == most else f"length {least} to {most}"
            raise _at(f"Expected `array` of {wanted}, got {len(value)}", place)
        pairs = enumerate(zip(readers.values(), value, strict=False))
        return kind(*(read(one, f"{place}[{number}]") for number, (read, one) in pairs))

    return of_object if defaults is None else of_array


def _is_required(one: dataclasses.Field[Any]) -> bool:
    return one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING


def _of_container(kind: Any, dec_hook: Callable[[Any, object], object]) -> Reader | None:
    """Return what reads an array or an object of whatever length; None for another type."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if not isinstance(origin, type):
        return None
    if origin is dict or issubclass(origin, Mapping):
        of_key, of_value = (_reader(one, dec_hook) for one in arguments or (Any, Any))
        return functools.partial(_object, of_key, of_value)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return functools.partial(_tuple, [_reader(one, dec_hook) for one in arguments])
    if origin is tuple or origin.__name__ in _LISTS:
        return functools.partial(
            _array, _LISTS.get(origin.__name__, tuple), _reader((arguments or (Any,))[0], dec_hook)
        )
    return None


def _scalar(kind: type, value: Any, place: str) -> Any:
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise _expected(_name(kind), value, place)


def _literal(allowed: tuple[object, ...], value: Any, place: str) -> Any:
    if any(type(one) is type(value) and one == value for one in allowed):
        return value
    raise _no_member([type(one) for one in allowed], value, place)


def _enum(kind: type[Enum], value: Any, place: str) -> Any:
    kinds = [str if isinstance(one.value, str) else type(one.value) for one in kind]
    if type(value) in kinds and any(value == one.value for one in kind):
        return kind(value)
    raise _no_member(kinds, value, place)


def _no_member(kinds: list[type], value: object, place: str) -> ValueError:
    if type(value) in kinds:
        return _at(f"Invalid enum value {value!r}", place)
    return _expected(" | ".join(dict.fromkeys(map(_name, kinds))), value, place)


def _of_union(alternatives: list[tuple[Any, Reader]]) -> Reader:
    # An integer is a float, too, if nothing else takes it.
    ordered = sorted(alternatives, key=lambda pair: pair[0] is float)
    wanted = re.compile(r"Expected `(.+?)`, got")

    def read(value: Any, place: str) -> Any:
        told: dict[Any, str] = {}
        for kind, of_kind in ordered:
            if type(value) is kind or (value is None and kind is NoneType):
                return value
            try:
                return of_kind(value, place)
            except ValueError as exc:
                told[kind] = str(exc)
        faults = [told[kind] for kind, _ in alternatives]
        found = [wanted.match(text) for text in faults]
        others = [
            text for text, match in zip(faults, found, strict=True) if not match or f"`{place}`" not in text
        ]
        # What is wrong inside of one alternative says more than that it is none of the others.
        if place != "$" and others:
            raise ValueError(others[0])
        raise _expected(" | ".join(match.group(1) for match in found if match), value, place)

    return read


def _object(of_key: Reader, of_value: Reader, value: Any, place: str) -> dict[Any, Any]:
    if type(value) is not dict:
        raise _expected("object", value, place)
    return {of_key(key, f"key in {place}"): of_value(one, f"{place}[...]") for key, one in value.items()}


def _array(made: Callable[[Any], Any], of_item: Reader, value: Any, place: str) -> Any:
    if type(value) is not list:
        raise _expected("array", value, place)
    return made([of_item(one, f"{place}[{number}]") for number, one in enumerate(value)])


def _tuple(readers: list[Reader], value: Any, place: str) -> tuple[Any, ...]:
    if type(value) is not list:
        raise _expected("array", value, place)
    if len(value) != len(readers):
        raise _at(f"Expected `array` of length {len(readers)}, got {len(value)}", place)
    return tuple(read(one, f"{place}[{n}]") for n, (read, one) in enumerate(zip(readers, value, strict=True)))


def _expected(wanted: str, value: object, place: str) -> ValueError:
    return _at(f"Expected `{wanted}`, got `{_name(type(value))}`", place)


def _name(kind: type) -> str:
    return _NAMES.get(kind, kind.__name__)


def _at(text: str, place: str) -> ValueError:
    return ValueError(text if place == "$" else f"{text} - at `{place}`")
