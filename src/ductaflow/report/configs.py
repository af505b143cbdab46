"""The config of a run, its base, and the config of the last good run: flat, bounded, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import read_regular
from ductaflow.common.json_tree import JsonValue, KeyPath, as_typed, leaves
from ductaflow.common.paths import BASE_CONFIG, KIND_DIRS, ROOT_KEY, RUN_KEY, RunFolder
from ductaflow.common.text import cut
from ductaflow.project.compose import fill_placeholders, merge
from ductaflow.project.secrets import masked
from ductaflow.report.before import NO_RUN, Before
from ductaflow.report.schema import ConfigParts, Flat
from ductaflow.store.result import Result

MAX_KEYS = 120
MAX_VALUE = 300
#: What lies deeper is shown as the JSON of one value.
MAX_SHOWN_LEVELS = 8
#: A config longer than this, in bytes, is linked and not shown.
MAX_FILE = 256 * 1024


class Configs:
    """Reads the configs of runs; each base once.

    Args:
        config_dir: the folder of the stored instances; without it, no run has a base.
    """

    def __init__(self, config_dir: Path | None) -> None:
        self._config_dir = config_dir
        self._bases: dict[tuple[str, str], dict[str, JsonValue]] = {}

    def of(
        self,
        result: Result,
        folder: RunFolder | None,
        without_run: Mapping[str, object] | None = None,
        before: Before = NO_RUN,
        *,
        stored: bool,
    ) -> ConfigParts:
        """Return the configs of a run for the twin.

        Args:
            result: of the run; folder: its run folder, None for an instance that did not run.
            without_run: the config of an instance that did not run.
            before: the last good run before.
            stored: whether it is an instance of its own; a flow of a build has no base.
        """
        config = _read(folder.config) if folder else without_run
        shown, left_out = _flat(config)
        good = _read(before.folder.config) if before.folder else None
        return {
            "config": None if config is None else shown,
            "config_left_out": left_out,
            "base_config": self._base(result, config) if stored and config is not None else None,
            "good_config": None if good is None else _flat(good)[0],
            "good_finished": before.result.finished if good is not None and before.result else None,
        }

    def _base(self, result: Result, config: Mapping[str, object]) -> Flat | None:
        """Return the base under an instance, its placeholders filled as in the instance's config."""
        if self._config_dir is None:
            return None
        kind, flow = KIND_DIRS[result.kind], result.flow
        if (kind, flow) not in self._bases:
            files = (self._config_dir / BASE_CONFIG, self._config_dir / kind / f"{flow}.json")
            self._bases[kind, flow] = merge(*(_read(file) or {} for file in files))
        base = self._bases[kind, flow]
        filled = {key: _filled(key, value, result, config) for key, value in base.items()}
        return _flat(filled)[0] if base else None


def _filled(key: str, value: object, result: Result, config: Mapping[str, object]) -> object:
    # With the instance's other keys: so only what it sets itself differs from the base, not what follows.
    if "{" not in str(value):
        return value
    root = str(config.get(ROOT_KEY, ""))
    try:
        around = {**config, key: value}
        return fill_placeholders(around, instance=result.instance, flow=result.flow, project_root=root)[key]
    except DuctaflowError:
        return value  # as in the file; the run itself reports such a base


def _read(path: Path) -> dict[str, JsonValue] | None:
    """Read a config; None if there is none that can be shown."""
    try:
        value = json.loads(read_regular(path, most=MAX_FILE))
    except (OSError, ValueError, RecursionError):
        # Not strict JSON, perhaps half of it: `read_config` says why when somebody runs with it.
        return None
    return value if isinstance(value, dict) else None


def _flat(config: Mapping[str, object] | None) -> tuple[Flat, int]:
    """Key paths and values as text, and how many keys were left out."""
    if config is None:
        return {}, 0
    rest = {key: value for key, value in config.items() if key not in (ROOT_KEY, RUN_KEY)}
    flat: Flat = {}
    left_out = 0
    if not rest:
        return flat, left_out  # it would be a value by itself, without a key

    def is_leaf(path: KeyPath, value: object) -> bool:
        return isinstance(value, list) or len(path) >= MAX_SHOWN_LEVELS

    for path, value in leaves(masked(rest), is_leaf):
        if len(flat) < MAX_KEYS:
            flat[as_typed(path)[:MAX_VALUE]] = shown_value(value)
        else:
            left_out += 1
    return flat, left_out


def shown_value(value: object) -> str:
    """Spell a value as a person types it: as JSON, but a string without quotes unless it reads like JSON."""
    if isinstance(value, str) and not _reads_like_json(value):
        text = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = repr(value)  # as JSON has it, and four times as fast
    else:
        text = json.dumps(value, ensure_ascii=False)
    return cut(text, MAX_VALUE)


def _reads_like_json(text: str) -> bool:
    if text[:1] not in '0123456789-tfn[{"' and text:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text == ""
    return True
