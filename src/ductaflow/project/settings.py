"""What counts as a change in a project and what runs leave, as the ini file of its pytest says, for those who
are not pytest.

    [pytest]
    ductaflow_rerun_on = config code inputs environment
    ductaflow_hash = inputs/huge/**
    ductaflow_html = false
    ductaflow_keep_previous = false

`conduct`, `ductaflow plan` and `pytest --ductaflow` shall not disagree: a project has one place to say it.
"""

from __future__ import annotations

import configparser
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ductaflow.common.errors import ConfigError
from ductaflow.common.text import did_you_mean

RERUN_ON = ("config", "code", "inputs", "environment")


RERUN_ON_KEY, HASH_KEY = "ductaflow_rerun_on", "ductaflow_hash"


HTML_KEY, PREVIOUS_KEY = "ductaflow_html", "ductaflow_keep_previous"


#: The files in which pytest looks, in its order, and the section of each that makes it pytest's.
_TABLES = {
    "pytest.toml": ("pytest",),
    ".pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    ".pytest.ini": ("pytest",),
    "pyproject.toml": ("tool", "pytest"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}


#: These are pytest's whatever they hold.
_ALWAYS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")


#: What pytest takes for a truth value, in any case.
_TRUTH = {
    **dict.fromkeys(("y", "yes", "t", "true", "on", "1"), True),
    **dict.fromkeys(("n", "no", "f", "false", "off", "0"), False),
}


@dataclass(frozen=True, slots=True)
class Leaves:
    """What runs leave besides what they write.

    Attributes:
        html: the notebook as HTML.
        previous: what the last good run wrote.
    """

    html: bool = True
    previous: bool = True


def comparison(rerun_on: Iterable[str], by_stat: Iterable[str], *, where: str) -> Comparison:
    """What counts as a change, checked.

    Args:
        where: the file or place that says so, for the message.

    Raises:
        ConfigError: a word of `rerun_on` is none of the known ones.
    """
    words = frozenset(rerun_on)
    if unknown := sorted(words - {*RERUN_ON}):
        raise ConfigError(
            f"{where}: {RERUN_ON_KEY} has {unknown[0]!r}",
            hint=f"{did_you_mean(unknown[0], RERUN_ON)} It can have: {', '.join(RERUN_ON)}.".lstrip(),
        )
    return Comparison(words, tuple(by_stat))


def comparison_in(project_root: Path) -> Comparison:
    """What counts as a change in a project.

    Raises:
        ConfigError: the ini file of pytest cannot be read, or a value in it is wrong.
    """
    file, section = _of_pytest(project_root)
    return comparison(
        _words(section, RERUN_ON_KEY, file) if RERUN_ON_KEY in section else DEFAULT.rerun_on,
        _words(section, HASH_KEY, file),
        where=str(file),
    )


def leaves_in(project_root: Path) -> Leaves:
    """What runs of a project leave.

    Raises:
        ConfigError: the ini file of pytest cannot be read, or a value in it is wrong.
    """
    file, section = _of_pytest(project_root)
    return Leaves(_truth(section, HTML_KEY, file), _truth(section, PREVIOUS_KEY, file))


def _of_pytest(project_root: Path) -> tuple[Path, Mapping[str, Any]]:
    """The file in which a project speaks to pytest, and what it says; without one it says nothing."""
    for folder in (project_root, *project_root.parents):
        for name, way in _TABLES.items():
            file = folder / name
            section = _section(file, way) if file.is_file() else None
            if section is not None:
                return file, section
    return project_root, {}


def _section(file: Path, way: tuple[str, ...]) -> Mapping[str, Any] | None:
    """What a file says to pytest; None if it is not for pytest."""
    found: Any
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".toml":
            found = tomllib.loads(text)
            for part in way:
                found = found.get(part, {})
            found = found.get("ini_options", found)
        else:
            parser = configparser.RawConfigParser(allow_no_value=True, strict=False)
            parser.read_string(text)
            found = dict(parser[way[0]]) if parser.has_section(way[0]) else {}
    except (OSError, ValueError, AttributeError, configparser.Error) as exc:
        raise ConfigError(f"{file} cannot be read: {exc}", hint="pytest reads it too: mend it.") from exc
    return found if found or file.name in _ALWAYS else None


def _words(section: Mapping[str, Any], key: str, file: Path) -> list[str]:
    """A value as pytest takes it: a list, or words as a shell splits them."""
    value = section.get(key)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    if not value or isinstance(value, str):
        return shlex.split(value or "")
    raise ConfigError(f"{file}: {key} is {value!r}", hint="Give words, or a list of strings.")


def _truth(section: Mapping[str, Any], key: str, file: Path) -> bool:
    """A truth value as pytest takes it; true where nothing is said."""
    value = section.get(key, True)
    if isinstance(value, bool):
        return value
    known = _TRUTH.get(str(value).strip().lower())
    if known is None:
        raise ConfigError(f"{file}: {key} is {value!r}", hint="Give true or false.")
    return known


@dataclass(frozen=True, slots=True)
class Comparison:
    """What counts as a change.

    Attributes:
        rerun_on: of `config`, `code`, `inputs`, `environment` those that make a run stale. That there is no
            valid run, or that its outputs are not as it left them, always does.
        by_stat: globs of paths relative to the project (absolute ones for what lies elsewhere; `*` matches
            `/` too); the files that match are compared by size and time of modification instead of by
            content, besides those that the spec names.
    """

    rerun_on: frozenset[str] = frozenset(("config", "code", "inputs"))
    by_stat: tuple[str, ...] = ()


DEFAULT = Comparison()
