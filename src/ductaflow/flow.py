"""What a flow calls about its config: in a notebook, in a script, by hand.

Importing this module in a process that is a flow by itself (`python flows/fit.py`, a notebook opened in
Jupyter or VS Code) puts the project root on `sys.path`, so that a project's own modules import as they do in
a run.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import html
import json
import math
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.common.files import stamp_of_file
from ductaflow.common.host import is_notebook_execution as is_notebook_execution
from ductaflow.common.json_tree import JsonValue, KeyPath, leaves, mapped, spelled, walk
from ductaflow.common.paths import ROOT_KEY, SAVED_CONFIG, RunFolder, flow_of, flows_in
from ductaflow.common.renamed import also_named
from ductaflow.common.text import cut
from ductaflow.project.instances import load_stored, stored_ids
from ductaflow.project.mentions import PATH_KEYS
from ductaflow.project.options import load_saved_config
from ductaflow.project.references import runs_tree
from ductaflow.project.secrets import masked
from ductaflow.project.settings import Project
from ductaflow.project.values import is_missing, json_value
from ductaflow.session.request import find_project, no_project, use_project_of_main
from ductaflow.store.folder import note_hand_work
from ductaflow.store.metrics import recorder
from ductaflow.store.spec import Reads, current_run, tell_reads

# --- the config in a flow ----------------------------------------------------------------------------------

#: What a summary is headed with where a flow gives no name.
_HEADING = "config"


@also_named(flow_name="name", caller_locals="namespace")
def unpack_config(
    config: Mapping[str, object] | None = None,
    name: str | None = "config",
    namespace: MutableMapping[str, object] | None = None,
) -> dict[str, Any]:
    """Turn a config into variables, and print what they are.

    The keys of nested objects are flattened: `database.host` is `host`, and `database` stays too. Where two
    nested keys clash, or one with a top-level key, neither is flattened, and the summary names them. Strings
    that are paths become `Path`: absolute ones where they contain a `/` and begin with the runs folder or an
    existing folder of the project; plain ones under keys that end in `_dir`, `_path`, `_file`, `_folder`.
    Patterns such as `inputs/*.csv` become absolute by the same rule and stay strings, as `glob.glob` takes
    them.

    Args:
        config: the config of the flow; it stays as it is. None prints a warning: the flow was given none.
        name: heading of the printed summary.
        namespace: `locals()` of a notebook or a script; the variables are set there.

    Returns:
        The variables by name.

    Raises:
        ConfigError: a key would replace a module, a function or a class of the flow.

    Example:
        >>> settings = unpack_config({"x": 1, "database": {"host": "db.org"}}, "fit")
        fit: 3 variables from 2 keys
          x = 1
          database = {"host": "db.org"}
          host = "db.org" (flattened)
        >>> settings["host"]
        'db.org'
    """
    if config is None:
        print(
            "Warning: there is no config: give the flow one with --config FILE, or run it with run_notebook"
        )
        return {}
    name = name or _HEADING
    project = _project_of(config)
    # Strings that are paths have become `Path`, so these are no JSON values any more.
    variables: dict[str, Any] = {**mapped(config, functools.partial(_with_path, project))}
    flat, clashing = _flattened(variables)
    variables.update(flat)
    if namespace is not None:
        _refuse_shadowing(variables, namespace)
        namespace.update(variables)
    _print_summary(config, name, variables, flat, clashing)
    return variables


@also_named(flow_name="name")
def display_config_summary(config: Mapping[str, object], name: str | None = "config") -> None:
    """Show a config as a table in a notebook, as text in a script; secrets are masked.

    Args:
        config: the config of the flow; it stays as it is.
        name: heading of the table.

    Example:
        >>> display_config_summary({"x": 1, "api_key": "abc"}, "fit")
        fit:
          x        1
          api_key  "***"
    """
    rows = _rows_of(config)
    width = max((len(key) for key, _ in rows), default=0)
    plain = "\n".join([f"{name or _HEADING}:", *(f"  {key:<{width}}  {value}" for key, value in rows)])
    if not is_notebook_execution():
        print(plain)
        return
    from IPython.display import display

    shown = {"text/markdown": _markdown(rows, name), "text/plain": plain}
    display(shown, raw=True)  # type: ignore[no-untyped-call]


@also_named(flow_name="name")
def generate_config_markdown(config: Mapping[str, object], name: str | None = "config") -> str:
    """Return a config as a table in Markdown; secrets are masked.

    Args:
        config: the config of the flow; it stays as it is.
        name: heading of the table.

    Example:
        >>> print(generate_config_markdown({"x": 1, "region": "EU"}, "fit"))
        **fit**
        <BLANKLINE>
        | parameter | value |
        |---|---|
        | `x` | 1 |
        | `region` | "EU" |
    """
    return _markdown(_rows_of(config), name)


def _markdown(rows: Sequence[tuple[str, str]], name: str | None) -> str:
    table = [f"**{name or _HEADING}**", "", "| parameter | value |", "|---|---|"]
    return "\n".join([*table, *(f"| `{key}` | {_escaped(value)} |" for key, value in rows)])


def _rows_of(config: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(spelled(path), _shown(value)) for path, value in leaves(masked(config), _is_list)]


def _project_of(config: Mapping[str, object]) -> Project | None:
    root = config.get(ROOT_KEY)
    is_known = isinstance(root, str) or current_run() is not None
    return find_project(root if isinstance(root, str) else None) if is_known else None


def _with_path(project: Project | None, path: KeyPath, text: object) -> object:
    if not isinstance(text, str):
        return text
    key = next(part for part in reversed(path) if isinstance(part, str))
    if key == ROOT_KEY:
        return Path(text)
    local = text.replace(os.sep, "/")
    if project is not None and "/" in local:
        first = local.removeprefix("./").partition("/")[0]
        if runs_tree(project).below(text) is not None or _is_folder(project.root, first):
            return _pattern_or_path(project.root, local)
    if not key.endswith(PATH_KEYS) or not text:
        return text
    return text if glob.has_magic(local) and not os.path.lexists(local) else Path(local)


def _is_folder(root: Path, first: str) -> bool:
    """Whether the first part of a path is a folder of the project."""
    is_name = first not in ("", ".", "..") and "\0" not in first and len(first) < 256
    return is_name and (root / first).is_dir()


def _pattern_or_path(root: Path, local: str) -> str | Path:
    """Absolute. A name with `*`, `?` or `[` that exists is not a pattern."""
    path = root / local
    if glob.has_magic(local) and not os.path.lexists(path):
        # the project may lie in a folder with such a name
        return os.path.join(glob.escape(str(root)), os.path.normpath(local))
    return path


def _flattened(variables: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """The keys of nested objects by their last name, and the full names of those that clash."""
    found: dict[str, list[tuple[str, object]]] = {}
    for path, value, _ in walk(variables, _is_list):
        if len(path) > 1:
            found.setdefault(str(path[-1]), []).append((spelled(path), value))
    flat, clashing = {}, []
    for key, places in found.items():
        if len(places) == 1 and key not in variables:
            flat[key] = places[0][1]
        else:
            clashing += [place for place, _ in places]
    return flat, clashing


def _is_list(_path: KeyPath, value: object) -> bool:
    return isinstance(value, list)


def _refuse_shadowing(variables: Mapping[str, object], namespace: Mapping[str, object]) -> None:
    for key in variables:
        present = namespace.get(key)
        if isinstance(present, ModuleType) or callable(present):
            raise ConfigError(
                f"config key {key!r} would replace the {type(present).__name__} {key!r} of the flow",
                hint="Rename the key, or call unpack_config before the import and without locals().",
            )


def _print_summary(
    config: Mapping[str, object],
    name: str,
    variables: Mapping[str, object],
    flat: Mapping[str, object],
    clashing: list[str],
) -> None:
    hidden = masked(
        {key: str(value) if isinstance(value, Path) else value for key, value in variables.items()}
    )
    print(f"{name}: {len(variables)} variables from {len(config)} keys")
    if not config and is_notebook_execution() and current_run() is None:
        print(
            f"  for those of an instance: config = load_instance({_likely_instance()!r}), then run all cells"
        )
    for key, value in variables.items():
        kind = "Path " if isinstance(value, Path) else ""
        print(f"  {key} = {kind}{_shown(hidden[key])}{' (flattened)' if key in flat else ''}")
    if clashing:
        print(f"  not flattened, since the names clash: {', '.join(clashing)}")


def _likely_instance() -> str:
    """An instance of the flow that is open in Jupyter, or what an id looks like where none can be told."""
    flow = Path(os.environ.get("JPY_SESSION_NAME", "")).stem
    # A project that cannot be read is an error as soon as something of it is asked for.
    with contextlib.suppress(DuctaflowError, OSError):
        project = Project.around(Path.cwd())
        for id in stored_ids(project) if project and flow else ():
            if id.partition("/")[0] == flow:
                return id
    return f"{flow or 'flow'}/instance"


def _shown(value: object) -> str:
    """A value as JSON on one line, cut for the eye where it is long; the saved config has it whole."""
    return cut(json.dumps(value, ensure_ascii=False, default=str), 200)


def _escaped(text: str) -> str:
    """Text for a cell of a Markdown table: nothing in it is markup."""
    signs = {ord(sign): f"&#{ord(sign)};" for sign in "|`*_[]$\\~"}
    return html.escape(text, quote=False).translate(signs)


# --- what a flow reads -------------------------------------------------------------------------------------


AnyPath = TypeVar("AnyPath", str, Path)


def reads(path: AnyPath) -> AnyPath:
    """Say that this run reads a file, or all files below a folder, so that it runs again when they change.

    What Python itself opens in the project, and what the config names, is known without it. It is for what a
    library opens in its own way (Parquet, HDF5, a database), and for what other programs read.

    Args:
        path: a file or a folder, also one that is not there yet; relative to the working directory.

    Returns:
        The path as it was given.

    Example:
        >>> zones = sqlite3.connect(reads("inputs/zones.db"))
    """
    run = current_run()
    if run is not None:
        full = os.path.abspath(path)
        stamp = stamp_of_file(full)
        folders = {}
        if os.path.isdir(full):
            from ductaflow.store.record import stamps_below

            folders[full] = stamps_below(full, own=run.folder, root=run.project_root)
        tell_reads(run, Reads({full: stamp} if stamp else {}, declared={full}, folders=folders))
    return path


# --- what a flow found -------------------------------------------------------------------------------------


_NOT_GIVEN = object()


def record(
    name: str | Mapping[str, object] | None = None, value: object = _NOT_GIVEN, /, **metrics: object
) -> None:
    """Keep numbers that say what a run found, in `metrics.json` of its run folder.

    Metrics are in the result of the run, at the end of its log, on the status page, and side by side in
    `ductaflow results`. What the run has put into the file already stays; one from before the run is set
    aside, and a line says so. It is written at most once a second and at the end, so write a file of your own
    where you want to read it again in the same run. Processes that the run starts may record too. Outside a
    run nothing is written, and a line says so.

    Args:
        name: of one metric, then its value; or several by name. Nested mappings get dotted names.
        value: a number, string or boolean, also of numpy; None, NaN and NA are null.
        metrics: more of them, by name.

    Raises:
        ConfigError: a value is no metric, such as a list or an array; a name has no value, or two.

    Example:
        In a run both lines write, and print nothing.

        >>> record("peak_mw", 812.4)
        record: peak_mw: this is no run, so nothing is written
        >>> record(rmse=0.31, hours=8760)
        record: rmse, hours: this is no run, so nothing is written
    """
    has_value = value is not _NOT_GIVEN
    if has_value != (name is not None and not isinstance(name, Mapping)):
        problem = "a value without its name" if has_value else f"{name!r} has no value"
        raise ConfigError(f"record: {problem}", hint='Write record("rmse", 0.31) or record(rmse=0.31).')
    values: dict[str, JsonValue] = {}
    for some in (name if isinstance(name, Mapping) else {name: value} if has_value else {}, metrics):
        for path, leaf in leaves(some, lambda _, item: isinstance(item, (list, tuple))):
            if not isinstance(leaf, Mapping) or leaf:
                metric = _metric(path, leaf)
                if (dotted := ".".join(map(str, path))) in values:
                    raise ConfigError(f"record: {spelled(path)} is given twice")
                values[dotted] = metric
    run = current_run()
    if run is None:
        names = ", ".join(values)
        print(f"record: {names}: this is no run, so nothing is written")
        return
    recorder().add(Path(run.folder), values)


def _metric(path: KeyPath, value: object) -> JsonValue:
    """A value as JSON; infinite ones stay as they are, for the warning that they cause."""
    where = f"record: {spelled(path)}"
    if not all(isinstance(key, str) for key in path):
        raise ConfigError(f"{where}: names of metrics are strings")
    if getattr(value, "ndim", None) == 0 and callable(item := getattr(value, "item", None)):
        value = item()
    if is_missing(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return value
    if isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} is a list, which is no metric", hint="Write tables to a file.")
    return json_value(value, where=where)


# --- interactive work --------------------------------------------------------------------------------------


def load_instance(instance: str | os.PathLike[str]) -> dict[str, Any]:
    """For interactive work: the config of an instance, with the run folder as the working directory.

    Both are printed. Files that are written by hand stay; a result is only written by a run. It may stay in
    the cell tagged `parameters`: a run gets its own config from it, and its own folder.

    Args:
        instance: `"fit/scenario_A"`, a run folder, or a saved `<flow>_config.json`; paths are looked up from
            the working directory, then from the project root.

    Returns:
        The config that a run would get.

    Raises:
        InstanceError: there is no such instance or folder.
        ConfigError: its config is not acceptable.

    Example:
        >>> config = load_instance("fit/scenario_A")
        working directory: ...
        >>> config["x"]
        1
        >>> Path.cwd().parts[-3:]
        ('runs', 'fit', 'scenario_A')
    """
    if run := current_run():
        own = f"{run.flow}/{run.instance}"
        if os.fspath(instance) not in (own, f"{run.flow}[{run.instance}]"):
            print(f"load_instance: this is the run of {own}, whose own config counts, not that of {instance}")
        return load_saved_config(run.run_folder.config, project_root=Path(run.project_root))
    folder, config, project = _find_config(Path(instance))
    folder, tree = project.placed(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note_hand_work(folder, tree)
    os.chdir(folder)
    if str(project.root) not in sys.path:
        sys.path.insert(1, str(project.root))
    print(f"working directory: {folder}")
    print(json.dumps(masked(config), ensure_ascii=False, indent=2))
    return config


def _find_config(target: Path) -> tuple[Path, dict[str, Any], Project]:
    if target.is_file():
        folder = target.absolute().parent
        project = Project.around(folder) or Project.at(folder)
        return folder, load_saved_config(target, project_root=project.root), project
    if target.is_dir():
        if flow := flow_of(target.absolute()):
            return _find_config(RunFolder(target, flow).config)
        found = ", ".join(RunFolder(target, flow).config.name for flow in flows_in(target)) or "none"
        raise InstanceError(
            f"{target}: one saved config ({SAVED_CONFIG}) is needed there, found {found}",
            hint="Name the file itself.",
        )
    found_project = Project.around(Path.cwd())
    if found_project is None:
        raise no_project(Path.cwd(), what=f"{target}: no such file or folder, and ")
    if not target.is_absolute() and (found_project.root / target).exists():
        return _find_config(found_project.root / target)
    stored = load_stored(found_project, target.as_posix())
    if stored.problem:
        raise stored.problem
    return stored.run_folder.path, stored.config, found_project


use_project_of_main()
