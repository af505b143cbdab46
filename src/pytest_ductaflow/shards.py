"""The share of a session that one of several machines runs: `--ductaflow-shard 2/5`.

    selection (paths, -k, -m, --ductaflow-upstream)    what runs on all machines together
    leaves: what nobody in it reads                    each on one machine
    what a leaf reads from, at any distance            on each machine that has such a leaf

The shares are a function of the configs, the command line and the file of durations alone: all machines make
the same ones without talking to each other, and no instance is lost. Earlier runs in `runs/`, which differ
from machine to machine, do not count.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import pytest

from ductaflow.common.errors import ConfigError
from ductaflow.common.files import write_atomic
from ductaflow.project.instances import Instance
from ductaflow.project.strict_json import parse_json, read_text
from ductaflow.report.schema import ShardTwin
from ductaflow.session.durations import filled_up
from ductaflow.session.scheduler import shares
from pytest_ductaflow.github import InstanceOutcome
from pytest_ductaflow.projects import Projects

# --- in a session ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shard:
    """The share that this session takes.

    Attributes:
        number: from 1 to `count`.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/5`.

        Raises:
            pytest.UsageError: it is no share.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip(), re.ASCII)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise pytest.UsageError(
                f"--ductaflow-shard {text}: give which of how many, from 1/5 to 5/5 for five machines"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


class Shares(TypedDict):
    """The selection that all shards have in common, and the shards that have instances of each project."""

    selection: str
    not_empty: dict[str, list[int]]


class Sharding:
    """Takes the share of this machine out of the selection.

    Args:
        shard: the share; None for everything.
        seconds: of instances, by their keys; see `read_durations`.

    Attributes:
        emptied: whether the selection is not empty, but the share is.
        told: the selection, and which shares have instances of which project, once that is known; the workers
            of a session send it to their controller.
    """

    def __init__(self, projects: Projects, shard: Shard | None, seconds: Mapping[str, float]) -> None:
        self._projects = projects
        self._shard = shard
        self._seconds = seconds
        self.emptied = False
        self.told: Shares | None = None

    def take(self, items: Sequence[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
        """Return the items of this machine and the items of the others, in the order given."""
        if self._shard is None:
            return list(items), []
        nodeids = [item.nodeid for item in items]
        instances = [self._projects.instance(nodeid) for nodeid in nodeids]
        known = [self._seconds.get(self._projects.key(each)) if each else None for each in instances]
        edges = self._projects.edges(nodeids)
        files: dict[str, list[int]] = {}
        for place, ups in enumerate(edges):
            if ups is None:
                # the fixtures of a file are made only once
                files.setdefault(nodeids[place].partition("::")[0], []).append(place)
        seconds = filled_up(instances, known)
        found = shares([ups or () for ups in edges], seconds, self._shard.count, together=files.values())
        own = found[self._shard.number - 1]
        self.emptied = bool(items) and not own
        self.told = self._about(instances, found)
        others = [item for place, item in enumerate(items) if place not in own]
        return [item for place, item in enumerate(items) if place in own], others

    def _about(self, instances: Sequence[Instance | None], found: Sequence[set[int]]) -> Shares:
        keys = sorted(self._projects.key(instance) for instance in instances if instance)
        digest = hashlib.sha256("\n".join(keys).encode("utf-8", "backslashreplace"))
        not_empty: dict[str, list[int]] = {}
        for number, share in enumerate(found, start=1):
            roots = {instance.project.root for place in share if (instance := instances[place])}
            for root in roots:
                not_empty.setdefault(self._projects.relative(root), []).append(number)
        return {"selection": digest.hexdigest()[:16], "not_empty": not_empty}

    def of_project(self, root: Path) -> ShardTwin | None:
        """Return the `shard` of the twin of a project."""
        if self._shard is None:
            return None
        return {
            "number": self._shard.number,
            "of": self._shard.count,
            "not_empty": self.told["not_empty"].get(self._projects.relative(root)) if self.told else None,
            "selection": self.told["selection"] if self.told else None,
        }

    def line(self) -> str | None:
        """Return a line that says that the share is empty."""
        return f"ductaflow: shard {self._shard} has nothing to run" if self.emptied else None


# --- the file of durations ---------------------------------------------------------------------------------


def read_durations(path: Path) -> dict[str, float]:
    """Read the seconds of instances, by their keys (`fit/scenario_A`), from the file of `write_durations`.

    Raises:
        ConfigError: it cannot be read; file, line and remedy are named.
    """
    text = read_text(path)
    found = parse_json(text, where=str(path))
    hint = "Remove it, and run with --ductaflow-durations-update to make a new one."
    if not isinstance(found, dict):
        raise ConfigError(f'{path}:1: not an object of seconds such as {{"fit/a": 1.5}}', hint=hint)
    durations: dict[str, float] = {}
    for key, seconds in found.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            line = 1 + text.count("\n", 0, max(0, text.find(json.dumps(key, ensure_ascii=False))))
            fault = f"{key} has {json.dumps(seconds)}, which is no number of seconds"
            raise ConfigError(f"{path}:{line}: {fault}", hint=hint)
        durations[key] = seconds
    return durations


def write_durations(path: Path, outcomes: Iterable[InstanceOutcome], projects: Projects) -> int:
    """Keep the durations of good runs; stored instances that did not run keep their old entry.

    Returns:
        How many were renewed.
    """
    known = {
        key: seconds
        for key, seconds in (read_durations(path) if path.exists() else {}).items()
        if not projects.is_gone(key)
    }
    new = {
        projects.key(one.instance): round(one.result.seconds, 2)
        for one in outcomes
        if one.result.status.is_good and one.result.run_id
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({**known, **new}, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    return len(new)
