"""The layers of an instance's config, and the drafts that become instances."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ductaflow.common.errors import ConfigError, DuctaflowError
from ductaflow.common.json_tree import JsonValue
from ductaflow.common.paths import ROOT_KEY, Kind
from ductaflow.project.compose import fill_placeholders, merge
from ductaflow.project.names import spelled_name
from ductaflow.project.options import RunOptions, split_run
from ductaflow.project.strict_json import read_config


@dataclass(slots=True)
class StoredFlow:
    """Where the instances of one flow are stored: its folder, its base config, its table, if they exist."""

    kind: Kind
    flow: str
    folder: str | None = None
    base: str | None = None
    table: str | None = None


@dataclass(slots=True)
class Layer:
    """One of several configs to merge, and where it is written; or why it cannot be read."""

    where: str
    config: dict[str, JsonValue]
    problem: DuctaflowError | None = None

    @classmethod
    def read(cls, path: str) -> Layer:
        try:
            return cls(path, read_config(path))
        except ConfigError as exc:
            return cls(path, {}, exc.bare())


NO_LAYER = Layer("", {})


@dataclass(slots=True)
class Draft:
    """A future instance: its name, its file, its line in a table, and its own config.

    `layer` is None until the file is read.
    """

    name: str
    file: str
    line: int | None = None
    layer: Layer | None = None
    problem: DuctaflowError | None = None

    @property
    def place(self) -> str:
        """Its file, with the line of a table."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Bases:
    """The configs under all instances of one flow: the base of the project, then the base of the flow."""

    def __init__(self, root: str, *layers: Layer) -> None:
        self._root = root
        self._layers = layers
        self._merged = merge(*(layer.config for layer in layers))

    def config_of(
        self, flow: str, name: str, own: Layer, over: Mapping[str, JsonValue]
    ) -> tuple[dict[str, JsonValue], RunOptions]:
        """Make the config of an instance out of its own with others over it, and the options in its `_run`.

        Raises:
            ConfigError: one of the layers cannot be read, or what they make is not acceptable.
        """
        for layer in (*self._layers, own):
            if layer.problem:
                raise layer.problem
        merged = merge(self._merged, own.config, over)
        try:
            filled = fill_placeholders(merged, instance=name, flow=flow, project_root=self._root)
        except ConfigError as exc:
            raise ConfigError(f"{own.where}: {exc.message}", hint=exc.hint) from exc
        try:
            config, options = split_run(filled, where=own.where)
        except ConfigError:
            # The fault may be a base's, and then its own file is the one to name.
            for layer in (Layer(own.where, dict(over)), own, *reversed(self._layers)):
                split_run(layer.config, where=layer.where)
            raise
        config[ROOT_KEY] = self._root
        return config, options


def broken_draft(path: str, problem: DuctaflowError) -> Draft:
    """Make the one instance that stands for a file that cannot be read."""
    return Draft(spelled_name(os.path.basename(path)), path, layer=Layer(path, {}, problem))
