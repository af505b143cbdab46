"""One config out of several: bases merged under an instance, placeholders filled."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ductaflow.common.errors import ConfigError
from ductaflow.common.json_tree import SCALARS, JsonValue, KeyPath, mapped
from ductaflow.project.strict_json import MAX_DEPTH

#: A filled string longer than this is a mistake: placeholders that double each other.
MAX_FILLED = 1_000_000


def merge(*configs: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Merge configs, the later over the earlier.

    Objects merge at any depth; lists and scalars replace; null is a value. The result shares no object or
    list with the arguments.

    >>> merge({"site": {"name": "north", "height": 10}}, {"site": {"height": 20}})
    {'site': {'name': 'north', 'height': 20}}
    """
    merged: dict[str, JsonValue] = {}
    pending = [(merged, config) for config in reversed(configs)]
    while pending:
        target, config = pending.pop()
        for key, value in config.items():
            if type(value) in SCALARS:
                target[key] = value
            elif isinstance(value, Mapping):
                inner = target.get(key)
                if not isinstance(inner, dict):
                    inner = target[key] = {}
                pending.append((inner, value))
            elif isinstance(value, list):
                target[key] = mapped({key: value}, lambda _path, leaf: leaf)[key]
            else:
                target[key] = value
    return merged


def fill_placeholders(
    config: Mapping[str, object], *, instance: str, flow: str, project_root: str
) -> dict[str, JsonValue]:
    """Return a copy of a config with `{key}` in its strings replaced.

    `key` is a top-level key of the same config with a scalar value, or `instance`, `flow`, `project_root`. A
    key of the config takes precedence; only in its own value does `{instance}` mean the name of the instance.
    Scalars that are not strings are inserted as JSON (`true`, `null`, `2030`). Inserted text is not searched
    again, but the placeholders of another key are filled before its value is inserted. Keys are not filled.
    All other braces stay, also those around the name of an object or a list: the flow may format such a
    string later.

    Raises:
        ConfigError: placeholders refer to each other in a circle (the keys are named), or make a string of
            more than a million characters.

    >>> config = {"year": 2030, "data": "runs/prep/{instance}/{year}.csv"}
    >>> fill_placeholders(config, instance="A", flow="fit", project_root="/project")
    {'year': 2030, 'data': 'runs/prep/A/2030.csv'}
    """
    filler = _Filler(config, {"instance": instance, "flow": flow, "project_root": project_root})
    return mapped(config, filler.fill)


class _Filler:
    """Fills the strings of one config, each top-level string once."""

    def __init__(self, config: Mapping[str, object], given: Mapping[str, str]) -> None:
        self._config = config
        self._given = given
        self._filled: dict[str, str] = {}

    def fill(self, path: KeyPath, value: object) -> object:
        if not isinstance(value, str) or "{" not in value:
            return value
        return self._text(value, (str(path[0]),) if len(path) == 1 else ())

    def _text(self, text: str, chain: tuple[str, ...]) -> str:
        """`chain` is the keys whose values are being filled, the outermost first."""
        length = len(text)

        def replacement(match: re.Match[str]) -> str:
            nonlocal length
            inserted = self._value(match.group(1), chain)
            if inserted is None:
                return match.group()
            length += len(inserted)
            if length > MAX_FILLED:
                keys = " -> ".join(chain) or "a nested string"
                raise ConfigError(
                    f"the placeholders of {keys} make more than {MAX_FILLED} characters",
                    hint="Shorten the values that they insert.",
                )
            return inserted

        return _PLACEHOLDER.sub(replacement, text)

    def _value(self, key: str, chain: tuple[str, ...]) -> str | None:
        """The text to insert for a key; None if there is nothing to insert."""
        own = key in self._config and not (chain[-1:] == (key,) and key in self._given)
        if not own:
            return self._given.get(key)
        value = self._config[key]
        if isinstance(value, (dict, list)):
            return None
        if not isinstance(value, str):
            return json.dumps(value)
        if key not in self._filled:
            if key in chain:
                circle = " -> ".join((*chain[chain.index(key) :], key))
                raise ConfigError(
                    f"placeholders refer to each other: {circle}",
                    hint="Give one of these keys a plain value.",
                )
            if len(chain) > MAX_DEPTH:
                raise ConfigError(
                    f"more than {MAX_DEPTH} keys whose placeholders need the next: {chain[0]} ..."
                )
            self._filled[key] = self._text(value, (*chain, key))
        return self._filled[key]


_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
