"""The layers of an instance's config, and the drafts that become instances."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ductaflow.common.errors import ConfigError, DuctaflowError
from ductaflow.common.paths import ROOT_KEY, Kind
from ductaflow.project.compose import fill_placeholders, merge
from ductaflow.project.names import printable_name
from ductaflow.project.options import RunOptions, split_run
from ductaflow.project.strict_json import read_config

# --- what is stored where ----------------------------------------------------------------------------------


@dataclass(slots=True)
class StoredFlow:
    """Where the instances of one flow are: its folder, its own config and its table, each if there is one."""

    kind: Kind
    flow: str
    folder: str | None = None
    base: str | None = None
    table: str | None = None


@dataclass(slots=True)
class Layer:
    """One config of several that are merged, and where it stands; or why it cannot be read."""

    where: str
    config: dict[str, Any]
    problem: DuctaflowError | None = None

    @classmethod
    def read(cls, path: str) -> Layer:
        try:
            return cls(path, read_config(path))
        except ConfigError as exc:
            return cls(path, {}, without_traceback(exc))


NO_LAYER = Layer("", {})


@dataclass(slots=True)
class Draft:
    """An instance to be: its name, its file, where it stands (a table's line included) and its own config.

    `layer` is None for a file that is still to be read.
    """

    name: str
    file: str
    place: str
    layer: Layer | None = None
    problem: DuctaflowError | None = None


def merged_config(
    flow: str, name: str, root: str, layers: Sequence[Layer], common: Mapping[str, Any]
) -> tuple[dict[str, Any], RunOptions]:
    """The config and the options of an instance; `common` is all layers but the last, merged."""
    for layer in layers:
        if layer.problem:
            raise layer.problem
    own = layers[-1]
    try:
        filled = fill_placeholders(merge(common, own.config), instance=name, flow=flow, project_root=root)
    except ConfigError as exc:
        raise ConfigError(f"{own.where}: {exc.message}", hint=exc.hint) from exc
    try:
        config, options = split_run(filled, where=own.where)
    except ConfigError:
        # The fault may be a base's, and then its own file is the one to name.
        for layer in reversed(layers):
            split_run(layer.config, where=layer.where)
        raise
    config[ROOT_KEY] = root
    return config, options


def without_traceback(problem: DuctaflowError) -> DuctaflowError:
    """The same error without a traceback, which would keep everything alive that was read."""
    return type(problem)(problem.message, hint=problem.hint)


def broken_draft(path: str, problem: DuctaflowError) -> Draft:
    """Stands for the instances of a file that cannot be read."""
    return Draft(printable_name(os.path.basename(path)), path, path, Layer(path, {}, problem))
