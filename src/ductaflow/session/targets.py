"""What a command can run besides stored instances: a run folder, and a variant under another name.

runs/fit/scenario_A                   a run folder: its saved config, its flow
runs/projection/s37/runs/assign       the same of a flow inside a build
fit/scenario_A  horizon=2040  high    the instance with another value, as fit/high
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ductaflow.common import paths
from ductaflow.common.errors import ConfigError, InstanceError
from ductaflow.common.json_tree import KeyPath, mapped
from ductaflow.common.paths import KIND_DIRS, ROOT_KEY, RUN_KEY, Kind, RunFolder
from ductaflow.common.text import did_you_mean
from ductaflow.project.compose import merge
from ductaflow.project.graph import check
from ductaflow.project.instances import Instance, Instances, load_stored
from ductaflow.project.names import check_name, spelling
from ductaflow.project.options import RunOptions, load_saved_config, saved_options, split_run
from ductaflow.project.references import runs_tree
from ductaflow.project.settings import Project
from ductaflow.project.values import parse_cell, row_config
from ductaflow.store.result import readable_result

_SHOWN_KEYS = 15


def saved_run(project: Project, folder: Path) -> Instance:
    """Read a run folder of a project, as an instance with the config that is saved there.

    Raises:
        InstanceError: nothing has run there, or there is no source for what has.
        ConfigError: the saved config is not acceptable.
    """
    flow = _flow_of(project, folder)
    kind, source = _source_of(project, folder, flow)
    file = RunFolder(folder, flow).config
    config = load_saved_config(file, project_root=project.root)
    return Instance(kind, flow, folder.name, project, config, saved_options(file), source, file, saved=folder)


def _is_own(run: Instance) -> bool:
    """Whether a run folder is one of an instance, not of a flow inside a build."""
    return run.saved == run.project.run_folder(run.flow, run.name).path


def _flow_of(project: Project, folder: Path) -> str:
    """Name of the flow that ran in a folder."""
    flows = paths.flows_in(folder)
    last = readable_result(folder)
    if last and last.flow in flows:
        return last.flow
    if found := paths.flow_of(folder):
        return found
    known = [flow for flow in flows if any(project.source(kind, flow) for kind in KIND_DIRS)]
    if len(known) == 1:
        return known[0]
    if flows:
        raise InstanceError(
            f"{folder}: which flow ran there is unclear, found {', '.join(flows)} as saved configs",
            hint="Remove those that are not, or run a stored instance by its id.",
        )
    raise InstanceError(
        f"{folder} holds no saved config ({paths.SAVED_CONFIG}): nothing has run there",
        hint="Give a run folder, runs/<flow>/<instance>, or the id of a stored instance.",
    )


def _source_of(project: Project, folder: Path, flow: str) -> tuple[Kind, Path]:
    last = readable_result(folder)
    kinds: list[Kind] = [*([last.kind] if last else []), *KIND_DIRS]
    for kind in kinds:
        if source := project.source(kind, flow):
            return kind, source
    raise InstanceError(
        f"{folder} is a run of {flow}, and there is no flows/{flow}.py or builds/{flow}.py",
        hint="Was it renamed? A notebook that lies elsewhere runs again from where it is called.",
    )


# --- variants ----------------------------------------------------------------------------------------------


def _parsed(assignments: Iterable[str]) -> dict[str, object]:
    """The values that `key=value` give, by their dotted keys, read as the cells of a scenario table."""
    values: dict[str, object] = {}
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        key = key.strip()
        if not sign or not key:
            raise ConfigError(f"--set {assignment} is not an assignment", hint="Write --set key=value.")
        if key in values:
            raise ConfigError(f"--set gives {key} twice", hint="Give it once.")
        try:
            values[key] = parse_cell(text)
        except ConfigError as exc:
            raise ConfigError(f"--set {key}: {exc.message}", hint=exc.hint) from exc
    return values


def variant(instances: Instances, of: Instance, values: Mapping[str, object], name: str) -> Instance:
    """An instance, stored or saved, with other values, under another name. It is not stored.

    What it reads is what the original reads: `{instance}` in its strings is the original's name. Only a
    path in the original's own run folder becomes one in its own.

    Args:
        values: by dotted keys that its config has, or `_run.<option>`.
        name: the new name.

    Raises:
        InstanceError: the name is not allowed, or stored already; the original is a flow inside a build.
        ConfigError: the config has no such key, or an option of `_run` is not acceptable.
        DuctaflowError: what is wrong with the original.
    """
    project = instances.project
    if of.saved and not _is_own(of):
        raise InstanceError(
            f"--as makes an instance of the project, and {of.saved} is not an instance's own run folder",
            hint="Give runs/<flow>/<instance>, or the id of a stored instance.",
        )
    if of.problem:
        raise of.problem
    check_name(name)
    for other in instances.of_flow(of.flow):
        if spelling(other.name) == spelling(name):
            raise InstanceError(
                f"{other.id} is stored already, in {other.file}",
                hint=f"Give another name to --as, or run that one: ductaflow run {other.id}",
            )
    for key in values:
        _check_known(of, key)
    over = row_config(values, where="--set")
    if of.saved:
        config, options = split_run(
            merge({**of.config, RUN_KEY: of.options.of_execution}, over), where="--set"
        )
        config[ROOT_KEY] = of.config[ROOT_KEY]
        changed = replace(of, config=config, options=options, saved=None)
    else:
        changed = load_stored(project, of.id, over=over)
        if changed.problem:
            raise changed.problem
    tree = runs_tree(project)

    def redirected(_path: KeyPath, value: object) -> object:
        return tree.renamed(value, changed.id, name) if isinstance(value, str) else value

    return replace(changed, name=name, is_stored=False, config=mapped(changed.config, redirected))


def _check_known(original: Instance, key: str) -> None:
    """Refuse a key that the config does not have: it is more likely a slip than a new key."""
    parts = key.split(".")
    if parts[0] == RUN_KEY:
        # its options are checked by themselves
        return
    level: object = {name: value for name, value in original.config.items() if name != ROOT_KEY}
    for depth, part in enumerate(parts):
        above = ".".join(parts[:depth])
        if not isinstance(level, dict):
            raise ConfigError(f"--set {key}: {above} of {original.id} is not an object", hint=f"Set {above}.")
        if part not in level:
            where = f"{above} of {original.id}" if above else original.id
            names = ", ".join(list(level)[:_SHOWN_KEYS]) + (" ..." if len(level) > _SHOWN_KEYS else "")
            raise ConfigError(
                f"--set {key}: {where} has no key {part}",
                hint=did_you_mean(part, level)
                or f"It has {names or 'none'}. Store a new key first, perhaps as null, in {original.file}",
            )
        level = level[part]


# --- what a command names ----------------------------------------------------------------------------------


def find_stored(instances: Instances, target: str) -> tuple[Instance, ...]:
    """The stored instances that an argument names: one by its id or title, all of a flow by the flow's name.

    Raises:
        InstanceError: it names no instance; the message suggests some.
    """
    if one := instances.by_id.get(target):
        return (one,)
    return instances.of_flow(target) or (instances.by_id[load_stored(instances.project, target).id],)


def find_targets(instances: Instances, targets: Iterable[str]) -> list[Instance]:
    """The instances and run folders that the arguments of a command name, each once.

    See `find_stored` for instances. A folder is looked up from the working directory, then from the project.
    A name that fits both means the instance; `./fit` is the folder.

    Raises:
        InstanceError: one is neither; the message says what may be meant.
        ConfigError: the saved config of a folder is not acceptable.
    """
    found: dict[str, Instance] = {}
    for target in targets:
        try:
            found |= {one.id: one for one in find_stored(instances, target)}
        except InstanceError:
            folder = _folder_of(instances.project, target)
            if folder is None:
                raise
            found[str(folder)] = saved_run(instances.project, folder)
    return list(found.values())


def _folder_of(project: Project, target: str) -> Path | None:
    """The folder that an argument names; None if it is more likely meant as an id."""
    for base in (Path.cwd(), project.root):
        folder = Path(os.path.abspath(base / target))
        if folder.is_dir():
            if not folder.is_relative_to(project.root):
                real, runs = folder.resolve(), project.runs_dir.resolve()
                if real.is_relative_to(runs):
                    # runs/ is a link to where there is room
                    return project.runs_dir / real.relative_to(runs)
                raise InstanceError(
                    f"{folder} does not belong to the project {project.root}",
                    hint="Give its own project with --project.",
                )
            return folder
    if target.replace(os.sep, "/").count("/") > 1:
        raise InstanceError(
            f"there is no folder {target}", hint="Give a run folder, or an instance as flow/instance."
        )
    return None


def as_variant(
    instances: Instances, found: Sequence[Instance], assignments: Iterable[str], name: str | None
) -> Instance:
    """The variant that `--set` and `--as` of a command make of what it names."""
    if name is None:
        raise ConfigError(
            "--set needs --as NAME", hint="What runs with other values is another instance: --as <new name>."
        )
    if len(found) != 1:
        raise ConfigError(f"--as {name} takes one instance, not {len(found)}", hint="Run them one by one.")
    return variant(instances, found[0], _parsed(assignments), name)


def with_saved(
    instances: Instances, found: Iterable[Instance]
) -> tuple[list[str], list[Instance], Instances]:
    """Split targets into ids and run folders of no instance; and the instances with all that is given.

    A run folder of an instance stands for that instance, with its saved config in place of the stored one.
    """
    known = {instance.id: instance for instance in instances.all}
    ids: dict[str, None] = {}
    loose: list[Instance] = []
    for one in found:
        if one.saved and not _is_own(one):
            loose.append(replace(one, options=RunOptions(**one.options.of_execution)))
        elif one.id in ids:
            raise InstanceError(
                f"{one.id} is given by its id and by its run folder",
                hint="The id runs it with the stored config, the folder with the saved one: give one.",
            )
        else:
            known[one.id] = one
            ids[one.id] = None
    checked = check(list(known.values()), stored=instances.by_id)
    return list(ids), loose, Instances(instances.project, checked)
