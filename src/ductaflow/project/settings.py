"""Where the folders of a project are, and how it wants to run.

    [tool.ductaflow]         in pyproject.toml; ductaflow.toml has the same keys without this line
    runs_dir = "out"
    timeout = 600

Everybody who runs something asks here: pytest, the commands, scripts, notebooks, `conduct`, and, by the spec
of their run, flows inside builds. Settings are those of the nearest file at or above the project root, so
several projects in one repository can share a file or have their own.
"""

from __future__ import annotations

import functools
import itertools
import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ductaflow.common.engines import FRESH, WARM, Engine, engine_named
from ductaflow.common.errors import ConfigError, of_system
from ductaflow.common.paths import (
    BASE_CONFIG,
    CONFIG_DIR,
    EXPECTED_DIR,
    KIND_DIRS,
    METRICS,
    RUNS_DIR,
    SOURCE_SUFFIXES,
    Kind,
    RunFolder,
    below,
)
from ductaflow.project import checks
from ductaflow.project.checks import checked, checked_values
from ductaflow.project.strict_json import json_kind
from ductaflow.project.vendored import refuse_another

FILE, SHARED_FILE = "ductaflow.toml", "pyproject.toml"
TABLE = "tool.ductaflow"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project says of its folders and its runs. All but `only_changed` are keys of the file.

    Attributes:
        config_dir, runs_dir: folders of the stored instances and of all runs, below the project root.
        engine: executes the cells of instances that name no engine: `warm`, `fresh` or `kernel`.
        timeout: seconds for runs whose config gives no limit; None for no limit.
        html: whether runs leave their notebook as HTML.
        report: whether sessions write the status report.
        preload: modules that the warm server imports besides those that flows import; `off`: no server.
        keep_previous: whether a new run keeps what the last good one wrote.
        rerun_on: what makes a run stale, of `config`, `code`, `inputs`, `environment`. A run that is missing,
            not good, or whose outputs have changed is always stale.
        hash: globs of paths relative to the project (absolute for files elsewhere; `*` matches `/` too) of
            files that are compared by size and time of modification instead of content.
        metrics: files of a run folder that say in numbers what a run found.
        expected_dir: folder of the expected results, below the project root.
        durations, baseline: files that pytest reads and updates; relative to the file with the settings.
        memory: how much the runs of a session may take together, such as `16 GB`; None for what there is.
        only_changed: whether the session leaves alone what has not changed; asked for, never in a file.
    """

    config_dir: str = checked(CONFIG_DIR, checks.folder)
    runs_dir: str = checked(RUNS_DIR, checks.folder)
    engine: str = checked(WARM.name, checks.engine)
    timeout: float | None = checked(None, checks.seconds)
    html: bool = checked(True, checks.flag)
    report: bool = checked(True, checks.flag)
    preload: tuple[str, ...] = checked((), checks.modules)
    keep_previous: bool = checked(True, checks.flag)
    rerun_on: tuple[str, ...] = checked(("config", "code", "inputs"), checks.changes)
    hash: tuple[str, ...] = checked((), checks.paths)
    metrics: tuple[str, ...] = checked((METRICS,), checks.names_inside)
    expected_dir: str = checked(EXPECTED_DIR, checks.folder)
    durations: str | None = checked(None, checks.file, is_file=True)
    baseline: str | None = checked(None, checks.file, is_file=True)
    memory: str | None = checked(None, checks.memory)
    only_changed: bool = checked(False, checks.flag)

    @classmethod
    def at(cls, folder: Path) -> Settings:
        """The settings of the nearest file at or above a folder; the defaults if there is none.

        Raises:
            ConfigError: a file cannot be read, or a key or a value in it is wrong.
        """
        for place in (folder, *folder.parents):
            own, shared = place / FILE, place / SHARED_FILE
            found = [(file, data) for file in (own, shared) if (data := _table(file)) is not None]
            if len(found) > 1:
                raise ConfigError(
                    f"{own} and {shared} both have settings of ductaflow",
                    hint=f"Keep one of them: the keys of [{TABLE}] can stand in {FILE}.",
                )
            for file, data in found:
                return _settings(file, data)
        return cls()

    def but(self, **values: object) -> Settings:
        """These settings with some others, each checked.

        None leaves a setting as it is, so a call cannot remove the project's time limit.

        Raises:
            ConfigError: a value is not what the setting takes.
        """
        settings = replace(self, **checked_values(Settings, values, where="", what="setting"))
        _check_folders(settings, "the settings")
        return settings

    def engine_for(self, asked: str | None) -> Engine:
        """What executes the cells of a run whose config asks for an engine, or for none."""
        engine = engine_named(asked or self.engine)
        return FRESH if engine.needs_server and checks.NO_SERVER in self.preload else engine


_ONLY_CHANGED_HINT = "Use pytest --ductaflow-changed, ductaflow run --changed, or conduct(only_changed=...)."
_FILES = {one.name for one in fields(Settings) if "is_file" in one.metadata}


def _table(file: Path) -> dict[str, object] | None:
    """What a file says to us; None if it is not there or says nothing."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        # ValueError: its folder has a name that no file can have.
        return None
    return _parsed(file, status.st_mtime_ns, status.st_size) if os.path.isfile(file) else None


@functools.lru_cache(maxsize=256)
def _parsed(file: Path, _mtime: int, _size: int) -> dict[str, object] | None:
    is_shared = file.name == SHARED_FILE
    try:
        content = file.read_bytes()
        if is_shared and b"ductaflow" not in content:
            # of a file that is none of our business not even the faults are
            return None
        data = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as exc:
        raise of_system(exc, file, hint="See that you may read it.") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: byte {exc.start} is not UTF-8", hint="Save the file as UTF-8.") from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{file} is not TOML: {exc or 'too deeply nested'}", hint="Correct it.") from exc
    if not is_shared:
        return data
    tools = data.get("tool")
    table = tools.get("ductaflow") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"{file}: {TABLE} is {json_kind(table)}, not a table", hint=f"Write [{TABLE}].")
    return table


def _settings(file: Path, data: dict[str, object]) -> Settings:
    where = f"{file}: {TABLE}" if file.name == SHARED_FILE else str(file)
    if file.name == FILE and "tool" in data:
        raise ConfigError(f"{file} has a table [tool]", hint=f"Write its keys without [{TABLE}].")
    if "only_changed" in data:
        message = f"{where}: only_changed is asked for by a session, not set"
        raise ConfigError(message, hint=_ONLY_CHANGED_HINT)
    values = checked_values(Settings, data, where=where, what="setting")
    for name in _FILES & values.keys():
        values[name] = str(file.parent / values[name])
    settings = Settings(**values)
    _check_folders(settings, where)
    return settings


def _check_folders(settings: Settings, where: str) -> None:
    names = ("config_dir", "runs_dir", "expected_dir")
    for one, other in itertools.permutations(names, 2):
        first, second = getattr(settings, one), getattr(settings, other)
        if Path(first.casefold()).is_relative_to(second.casefold()):
            raise ConfigError(
                f"{where}: {one} is {first!r} and {other} is {second!r}",
                hint="Give folders of which none lies in another.",
            )


@dataclass(frozen=True, slots=True)
class Project:
    """A folder that holds stored instances, where its parts are, and how it wants to run.

    Attributes:
        root: absolute path of the project.
        config_dir: folder of the stored instances, usually `root / "config"`.
        runs_dir: folder of all runs, usually `root / "runs"`.
        settings: those of the project, with what the session overrides.
    """

    root: Path
    config_dir: Path
    runs_dir: Path
    settings: Settings = field(default=Settings(), hash=False)

    @classmethod
    def at(cls, root: Path, settings: Settings | None = None) -> Project:
        """The project of a folder, whether it stores anything or not; by default its settings are read.

        Raises:
            ConfigError: its settings are wrong, or it brings another version of ductaflow.
        """
        root = root.absolute()
        own = settings or Settings.at(root)
        found = cls(root, root / own.config_dir, root / own.runs_dir, own)
        if settings is None and found.is_there:
            refuse_another(root)
        return found

    @classmethod
    def around(cls, start: Path) -> Project | None:
        """The project that a folder or file lies in: the nearest folder upwards with stored instances."""
        start = start.absolute()
        return next((found for folder in (start, *start.parents) if (found := cls.at(folder)).is_there), None)

    @property
    def is_there(self) -> bool:
        """Whether its config folder has `flows`, `builds` or `base.json`."""
        return any((self.config_dir / name).exists() for name in (*KIND_DIRS.values(), BASE_CONFIG))

    def but(self, **values: object) -> Project:
        """The project with other settings: see `Settings.but`."""
        settings = self.settings.but(**values)
        moves = values.keys() & {"config_dir", "runs_dir"}
        return type(self).at(self.root, settings) if moves else replace(self, settings=settings)

    @property
    def expected_dir(self) -> Path:
        """The folder of the expected results, usually `root / "expected"`."""
        return self.root / self.settings.expected_dir

    def source_dir(self, kind: Kind) -> Path:
        return self.root / KIND_DIRS[kind]

    def config_of(self, kind: Kind) -> Path:
        return self.config_dir / KIND_DIRS[kind]

    def source(self, kind: Kind, flow: str) -> Path | None:
        """The notebook of a flow, or None if there is none under `flows/` or `builds/`."""
        for suffix in SOURCE_SUFFIXES:
            candidate = self.source_dir(kind) / f"{flow}{suffix}"
            if candidate.is_file():
                return candidate
        return None

    def run_folder(self, flow: str, instance: str) -> RunFolder:
        return RunFolder(self.runs_dir.joinpath(flow, instance), flow)

    def placed(self, folder: Path) -> tuple[Path, Path]:
        """A run folder as the project spells it, and the tree that keeps its marker and previous outputs.

        The tree is the runs folder of the project. A run folder outside of it is kept beside itself.
        """
        inside = below(folder, self.runs_dir)
        return (inside, self.runs_dir) if inside else (folder, folder.parent)
