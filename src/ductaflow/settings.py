"""What counts as a change in a project, as the ini file of its pytest says, for those who are not pytest.

    [pytest]
    ductaflow_rerun_on = config code inputs environment
    ductaflow_hash = inputs/huge/**

`conduct`, `ductaflow plan` and `pytest --ductaflow` shall not disagree: a project has one place to say it.
"""

from __future__ import annotations

import configparser
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ductaflow.config import did_you_mean
from ductaflow.errors import ConfigError
from ductaflow.lineage import DEFAULT, Comparison

RERUN_ON = ("config", "code", "inputs", "environment")
RERUN_ON_KEY, HASH_KEY = "ductaflow_rerun_on", "ductaflow_hash"

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
    for folder in (project_root, *project_root.parents):
        for name, way in _TABLES.items():
            file = folder / name
            section = _section(file, way) if file.is_file() else None
            if section is not None:
                return comparison(
                    _words(section, RERUN_ON_KEY, file) if RERUN_ON_KEY in section else DEFAULT.rerun_on,
                    _words(section, HASH_KEY, file),
                    where=str(file),
                )
    return DEFAULT


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
