"""The options in `_run` of a config: how to run an instance."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ductaflow.common.engines import ENGINES
from ductaflow.common.errors import ConfigError
from ductaflow.common.json_tree import KeyPath, mapped
from ductaflow.common.paths import ROOT_KEY, RUN_KEY
from ductaflow.common.text import did_you_mean, key_path, shorten
from ductaflow.project.strict_json import json_kind, read_config

# --- what `_run` says --------------------------------------------------------------------------------------

#: Seconds; a system call takes no more.
MAX_TIMEOUT = 1_000_000_000


#: Markers that pytest acts upon; as a tag each of them would change what a run does.
_PYTEST_MARKERS = frozenset(
    ("skip", "skipif", "xfail", "parametrize", "usefixtures", "filterwarnings", "tryfirst", "trylast")
)


_TAG = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options in `_run` of a config: how to run the instance.

    Attributes:
        timeout: seconds after which the run is stopped; None for no limit.
        tags: words to select by (`-m`).
        skip: why not to run the instance.
        skip_without: files, relative to the project, that it cannot run without.
        xfail: why it should fail.
        needs: ids of instances that run before it, besides those that its config refers to.
        engine: `warm`, `fresh` or `kernel`; None for the session's.
        kernel: name of the Jupyter kernel; None for the one in the notebook's metadata.
        allow_exit: whether `sys.exit(0)` before the last cell is a success.
    """

    timeout: float | None = None
    tags: tuple[str, ...] = ()
    skip: str | None = None
    skip_without: tuple[str, ...] = ()
    xfail: str | None = None
    needs: tuple[str, ...] = ()
    engine: str | None = None
    kernel: str | None = None
    allow_exit: bool = False

    @classmethod
    def parse(cls, raw: object, *, where: str) -> RunOptions:
        """Check the value of `_run`. An option that is null is not given, so an instance can undo its base.

        `tags` and `needs` are lists or a string of words, `skip_without` is a list or one path.

        Args:
            raw: the value.
            where: what it is called in an error message.

        Raises:
            ConfigError: it is not an object, an option is unknown, or a value is wrong.
        """
        if not isinstance(raw, dict):
            raise ConfigError(
                f"{where} is {json_kind(raw)}, not an object", hint='Write, for example, {"timeout": 600}.'
            )
        known = [f.name for f in fields(cls)]
        values: dict[str, Any] = {}
        for key, value in raw.items():
            if key not in known:
                hint = did_you_mean(key, known) or f"Known options: {', '.join(known)}."
                raise ConfigError(f"{where}: unknown option {shown_json(key)}", hint=hint)
            if value is not None:
                values[key] = _OPTION_CHECKS[key](value, key_path(where, key))
        return cls(**values)

    @property
    def of_execution(self) -> dict[str, Any]:
        """The given options that affect how a run is executed; with its config, enough to run it again."""
        names = ("timeout", "engine", "kernel", "allow_exit")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, False)}


def _seconds(value: object, where: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_TIMEOUT:
        return float(value)
    raise _option_error(where, f"takes a number of seconds above 0, at most {MAX_TIMEOUT}", value)


def _reason(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _option_error(where, "takes a string that says why", value)
    return value


def _paths(value: object, where: str) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) and item for item in items):
        raise _option_error(where, "takes a list of strings", value)
    return tuple(dict.fromkeys(items))


def _words(value: object, where: str) -> tuple[str, ...]:
    return _paths(value.split() if isinstance(value, str) else value, where)


def _tags(value: object, where: str) -> tuple[str, ...]:
    tags = _words(value, where)
    for tag in tags:
        if not _TAG.fullmatch(tag) or tag in ("and", "or", "not"):
            raise ConfigError(
                f"{where}: {shown_json(tag)} cannot be a tag",
                hint="A tag is a word of letters, digits, _ - . and +.",
            )
        if tag in _PYTEST_MARKERS:
            raise ConfigError(
                f"{where}: the tag {shown_json(tag)} is a marker of pytest that would change the run",
                hint='Use another word. To skip an instance, write "_run": {"skip": "why"}.',
            )
    return tags


def _needs(value: object, where: str) -> tuple[str, ...]:
    needs = _words(value, where)
    for need in needs:
        if need.count("/") != 1 or need.startswith("/") or need.endswith("/"):
            raise ConfigError(
                f"{where}: {shown_json(need)} is not the id of an instance", hint="Write flow/instance."
            )
    return needs


def _engine(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in ENGINES:
        suggestion = did_you_mean(value, ENGINES) if isinstance(value, str) else ""
        raise _option_error(where, f"takes one of {', '.join(ENGINES)}", value, suggestion)
    return value


def _kernel(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _option_error(where, "takes the name of a Jupyter kernel", value)
    return value


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise _option_error(where, "takes true or false", value)
    return value


def _option_error(where: str, takes: str, value: object, hint: str = "") -> ConfigError:
    return ConfigError(f"{where} {takes}, not {shown_json(value)}", hint=hint)


_OPTION_CHECKS: dict[str, Callable[[object, str], Any]] = {
    "timeout": _seconds,
    "tags": _tags,
    "skip": _reason,
    "skip_without": _paths,
    "xfail": _reason,
    "needs": _needs,
    "engine": _engine,
    "kernel": _kernel,
    "allow_exit": _flag,
}


_NO_OPTIONS = RunOptions()


def split_run(config: Mapping[str, Any], *, where: str) -> tuple[dict[str, Any], RunOptions]:
    """Split a config into the part for the flow and the options in `_run`.

    `_project_root` is dropped, since every run computes it. Every other top-level key that begins with
    `_run`, in any case, is refused, since `_runs` or `_run.tags` would be ignored otherwise.

    Args:
        config: a merged config, its placeholders filled.
        where: what it is called in an error message, usually its file.

    Raises:
        ConfigError: see `RunOptions.parse`.
    """
    rest: dict[str, Any] = {}
    options = _NO_OPTIONS
    for key, value in config.items():
        if key == RUN_KEY:
            if value is not None:
                options = RunOptions.parse(value, where=f"{where}: {RUN_KEY}")
        elif key[:4].lower() == RUN_KEY:
            hint = 'Write "_run": {"tags": ["slow"]}.' if "." in key else "Did you mean _run?"
            raise ConfigError(f"{where}: the key {shown_json(key)} is reserved", hint=hint)
        elif key != ROOT_KEY:
            rest[key] = value
    return rest, options


def shown_json(value: object) -> str:
    """Format a JSON value for an error message."""
    return shorten(json.dumps(value, ensure_ascii=False, default=repr))


def load_saved_config(path: str | Path, *, project_root: str | Path) -> dict[str, Any]:
    """Load the config that a run left (`<flow>_config.json`) to use it again, perhaps on another machine.

    The given project root replaces `_project_root`, also at the beginning of every string that is a path
    below it. `_run` is checked and dropped.

    Raises:
        ConfigError: see `read_config` and `split_run`.
    """
    saved = read_config(path)
    config, _ = split_run(saved, where=str(path))
    root = Path(os.path.abspath(project_root)).as_posix()
    old = saved.get(ROOT_KEY)
    if isinstance(old, str) and len(old) > 1 and old != root:
        config = _moved(config, old.rstrip("/"), root)
    return {**config, ROOT_KEY: root}


def _moved(config: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """A copy in which every string that is a path, or lies below it, begins with another one."""

    def change(_path: KeyPath, value: object) -> object:
        if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
            return f"{new}{value[len(old) :]}"
        return value

    return mapped(config, change)
