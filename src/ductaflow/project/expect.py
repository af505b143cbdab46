"""What `_run.expect` of a config says: how close results have to be to those expected, and their bounds.

"_run": {"expect": {
    "rtol": 1e-4,
    "metrics": {"rmse": {"max": 0.5}, "peak_*": {"rtol": 0.01}},
    "files": {"*.csv": {"rtol": 1e-3, "ignore": ["created"], "key": ["hour"]}}
}}
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ductaflow.common.errors import ConfigError
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.rules import Rule, glob_matches
from ductaflow.common.text import did_you_mean, key_path, quoted
from ductaflow.project import checks

_Check = Callable[[object, str], object]
_NOTHING: Mapping[str, object] = MappingProxyType({})
_LARGEST = sys.float_info.max


def _number(value: object, where: str) -> float:
    # An integer beyond the largest float could not be added to one. NaN is not below anything.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _LARGEST:
        checks.refuse(where, "takes a number", value)
    return value


def _tolerance(value: object, where: str) -> float:
    found = _number(value, where)
    return found if found >= 0 else checks.refuse(where, "takes a number that is not below 0", value)


_TOLERANCES: dict[str, _Check] = {"rtol": _tolerance, "atol": _tolerance}
_OF_METRICS: dict[str, _Check] = {**_TOLERANCES, "min": _number, "max": _number}
_OF_FILES: dict[str, _Check] = {**_TOLERANCES, "ignore": checks.paths, "key": checks.paths}


def expectations(value: object, where: str) -> Mapping[str, JsonValue]:
    """The value of `_run.expect`, checked, as it is saved with a config.

    Raises:
        ConfigError: a key is unknown, or a value is not what it takes.
    """
    rules = _by_glob(_OF_METRICS, _bounded), _by_glob(_OF_FILES)
    return _checked(value, where, {**_TOLERANCES, "metrics": rules[0], "files": rules[1]})


def _bounded(rule: dict[str, JsonValue], where: str) -> None:
    least, most = rule.get("min"), rule.get("max")
    if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
        raise ConfigError(
            f"{where}: no number is both at least {least} and at most {most}", hint="Swap them."
        )


def _by_glob(
    known: Mapping[str, _Check], agree: Callable[[dict[str, JsonValue], str], None] = lambda *_: None
) -> _Check:
    def check_one(value: object, where: str) -> object:
        found = _checked(value, where, known)
        agree(found, where)
        return found

    def check(value: object, where: str) -> object:
        return _checked(value, where, dict.fromkeys(value if isinstance(value, Mapping) else (), check_one))

    return check


def _checked(value: object, where: str, known: Mapping[str, _Check]) -> dict[str, JsonValue]:
    if not isinstance(value, Mapping):
        checks.refuse(where, "takes an object", value)
    for key in value:
        if key not in known:
            hint = did_you_mean(key, known) or f"It takes {', '.join(known)}."
            raise ConfigError(f"{where}: unknown key {checks.shown_json(key)}", hint=hint)
    given = ((key, known[key], one) for key, one in value.items() if one is not None)
    found: dict[str, Any] = {key: check(one, key_path(where, key)) for key, check, one in given}
    return {key: list(one) if isinstance(one, tuple) else one for key, one in found.items()}


@dataclass(frozen=True, slots=True)
class Expectations:
    """The rules of `_run.expect`; `raw` is its checked value."""

    raw: Mapping[str, object] = field(hash=False)

    def of_metric(self, name: str) -> Rule:
        """The rule for a metric: of all that match, the last one that says something, then its own name."""
        return self._rule("metrics", name)

    def of_file(self, name: str) -> Rule:
        """The rule for a file, as for a metric."""
        return self._rule("files", name)

    @property
    def bounds(self) -> Iterator[tuple[str, Rule]]:
        """Names and globs of metrics that have a bound."""
        for glob in self._rules("metrics"):
            rule = self._rule("metrics", glob)
            if rule.min is not None or rule.max is not None:
                yield glob, rule

    @property
    def files(self) -> tuple[str, ...]:
        """Names and globs of files that have a rule: they are expected."""
        return tuple(self._rules("files"))

    def without_match(self, metrics: Collection[str], files: Collection[str]) -> Iterator[str]:
        """Yield what to say of names that rules are for and that nothing has; a glob may match nothing.

        Args:
            metrics: the metrics of a run.
            files: the files that it wrote, and those that are expected.
        """
        bounded = {name for name, _ in self.bounds}
        for part, there in (("metrics", metrics), ("files", files)):
            for name in self._rules(part):
                # A bound without its metric is red.
                if (
                    name not in there
                    and not set("*?") & set(name)
                    and not (part == "metrics" and name in bounded)
                ):
                    hint = did_you_mean(name, there) or "Nothing is judged by it."
                    yield f"_run.expect.{part} has a rule for {quoted(name)}, which is not there. {hint}"

    def _rules(self, part: str) -> Mapping[str, Any]:
        rules = self.raw.get(part)
        return rules if isinstance(rules, Mapping) else _NOTHING

    def _rule(self, part: str, name: str) -> Rule:
        rules = self._rules(part)
        matching = [glob for glob in rules if glob != name and glob_matches(glob, name)]
        found: dict[str, Any] = {key: value for key, value in self.raw.items() if key in _TOLERANCES}
        for glob in [*matching, *([name] if name in rules else [])]:
            found.update(rules[glob])
        lists = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
        return Rule(**{**found, **lists})
