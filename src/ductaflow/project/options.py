"""The options in `_run` of a config: how to run an instance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ductaflow.common.errors import ConfigError
from ductaflow.common.json_tree import JsonValue, KeyPath, mapped
from ductaflow.common.paths import ROOT_KEY, RUN_KEY
from ductaflow.project import checks
from ductaflow.project.checks import checked, checked_values, shown_json
from ductaflow.project.expect import Expectations, expectations
from ductaflow.project.strict_json import json_kind, read_config


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
        engine: `warm`, `fresh` or `kernel`; None for the one of the settings.
        kernel: name of the Jupyter kernel; None for the one in the notebook's metadata.
        allow_exit: whether `sys.exit(0)` before the last cell is a success.
        expect: how close its results have to be to those expected, and their bounds; see `expect`.
        cpus: processors that it uses; None for one, and for threads as the session limits them.
        memory: how much it takes, such as `4 GB`; None for as much as its earlier runs took.
        allow_missing: whether it runs, with a warning, with those of its upstreams that have a valid run.
    """

    timeout: float | None = checked(None, checks.seconds, of_execution=True)
    tags: tuple[str, ...] = checked((), checks.tags)
    skip: str | None = checked(None, checks.reason)
    skip_without: tuple[str, ...] = checked((), checks.paths)
    xfail: str | None = checked(None, checks.reason)
    needs: tuple[str, ...] = checked((), checks.ids)
    engine: str | None = checked(None, checks.engine, of_execution=True)
    kernel: str | None = checked(None, checks.kernel, of_execution=True)
    allow_exit: bool = checked(False, checks.flag, of_execution=True)
    expect: Mapping[str, object] | None = field(
        default=None, hash=False, metadata={"check": expectations, "of_execution": True}
    )
    cpus: int | None = checked(None, checks.processors, of_execution=True)
    memory: str | None = checked(None, checks.memory, of_execution=True)
    allow_missing: bool = checked(False, checks.flag)

    @classmethod
    def parse(cls, raw: object, *, where: str) -> RunOptions:
        """Check the value of `_run`. An option that is null is not given, so an instance can undo its base.

        `tags` and `needs` are lists or a string of words, `skip_without` is a list or one path.

        Raises:
            ConfigError: it is not an object, an option is unknown, or a value is wrong.
        """
        if not isinstance(raw, dict):
            raise ConfigError(
                f"{where} is {json_kind(raw)}, not an object", hint='Write, for example, {"timeout": 600}.'
            )
        return cls(**checked_values(cls, raw, where=where, what="option"))

    @property
    def expectations(self) -> Expectations:
        """The rules that `expect` gives."""
        return Expectations(self.expect or {})

    @property
    def of_execution(self) -> dict[str, Any]:
        """The given options that affect how a run is executed; with its config, enough to run it again."""
        names = (one.name for one in fields(self) if "of_execution" in one.metadata)
        return {name: value for name in names if (value := getattr(self, name)) not in (None, False)}


def split_run(config: Mapping[str, JsonValue], *, where: str) -> tuple[dict[str, JsonValue], RunOptions]:
    """Split a config into the part for the flow and the options in `_run`.

    `_project_root` is dropped, since every run computes it. Every other top-level key that begins with
    `_run`, in any case, is refused, since `_runs` or `_run.tags` would be ignored otherwise.

    Raises:
        ConfigError: see `RunOptions.parse`.
    """
    rest: dict[str, JsonValue] = {}
    options = RunOptions()
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


def load_saved_config(path: str | Path, *, project_root: str | Path) -> dict[str, JsonValue]:
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


def saved_options(path: Path) -> RunOptions:
    """Load what `_run` of the config that a run left says; the defaults if it left none.

    Raises:
        ConfigError: see `read_config` and `split_run`.
    """
    return split_run(read_config(path), where=str(path))[1] if path.exists() else RunOptions()


def _moved(config: Mapping[str, object], old: str, new: str) -> dict[str, JsonValue]:
    """A copy in which every string that is a path, or lies below it, begins with another one."""

    def change(_path: KeyPath, value: object) -> object:
        if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
            return f"{new}{value[len(old) :]}"
        return value

    return mapped(config, change)
