"""Prepare a run for a debugger, without running it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ductaflow.common.errors import ConfigError
from ductaflow.common.files import write_atomic
from ductaflow.common.paths import RunFolder
from ductaflow.common.renamed import also_named
from ductaflow.notebook.source import load_notebook, read_ipynb, read_source_text
from ductaflow.project.options import load_saved_config
from ductaflow.project.values import dump_config
from ductaflow.session.leftovers import move_run_away
from ductaflow.session.request import find_notebook, find_project, spec_of_call
from ductaflow.store.folder import note_hand_work
from ductaflow.store.spec import RunSpec

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(frozen=True, slots=True)
class DebugSetup:
    """What an IDE needs to step through a run.

    Attributes:
        folder: the prepared run folder; notebook: with the config injected; config: the saved config.
        launch: a configuration for VS Code's debugger, running the source itself: breakpoints bind. Its paths
            are absolute; what is printed for `launch.json` says `${workspaceFolder}`.
    """

    folder: Path
    notebook: Path
    config: Path
    launch: dict[str, Any]


@also_named(flow_path="flow")
def debug_flow(
    flow: str | os.PathLike[str],
    execution_dir: str | os.PathLike[str],
    config: Mapping[str, object] | None = None,
    force: bool = False,
) -> DebugSetup:
    """Prepare a run folder for debugging, without running, and print what an IDE needs.

    Args:
        flow: the notebook, as for `run_notebook`.
        execution_dir: the run folder; what the last run wrote there stays.
        config: by default the config that the last run left in the folder.
        force: begin anew: what runs wrote there is moved to `runs/.ductaflow/removed/`.

    Returns:
        Paths of the prepared files, and a launch configuration for VS Code.

    Raises:
        ConfigError: no config is given and the folder has none.
        InstanceError: there is no such notebook.

    Example:
        >>> setup = debug_flow("flows/fit.py", "runs/fit/scenario_A")
        prepared, not executed: ...
        >>> setup.launch["name"], setup.launch["type"]
        ('fit[scenario_A]', 'debugpy')
    """
    if config is None:
        source = find_notebook(flow)
        saved = RunFolder(Path(os.path.abspath(execution_dir)), source.stem).config
        if not saved.is_file():
            raise ConfigError(f"no config is given, and there is no {saved}", hint="Pass config={...}.")
        config = load_saved_config(saved, project_root=find_project(near=source.parent).root)
    spec = spec_of_call(flow, config, execution_dir)
    if force and os.path.lexists(spec.folder):
        print(f"moved away: {move_run_away(Path(spec.folder), Path(spec.runs_root))}")
    setup = prepare(spec)
    print(json.dumps(in_workspace(setup.launch, Path(spec.project_root)), indent=2))
    return setup


def prepare(spec: RunSpec, *, with_outputs: bool = False) -> DebugSetup:
    """Write the config and the notebook with the config injected; nothing is executed.

    With `with_outputs` the cells keep what they showed in the last run, up to the one that failed.
    """
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    files = spec.run_folder
    files.path.mkdir(parents=True, exist_ok=True)
    note_hand_work(files.path, Path(spec.runs_root))
    write_atomic(files.config, dump_config(spec.saved_config))
    # with the parameters injected as papermill does it, without executing
    node = load_notebook_node(load_notebook(Path(spec.source)))
    prepared = parameterize_notebook(node, {"config": spec.config}, engine_name="ductaflow")
    if with_outputs and files.notebook.is_file():
        _take_outputs(prepared, read_ipynb(files.notebook, read_source_text(files.notebook)))
    write_atomic(files.notebook, nbformat.writes(prepared) + "\n")  # type: ignore[no-untyped-call]
    print(f"prepared, not executed: {files.path}")
    print(f"  notebook  {files.notebook}")
    print(f"  config    {files.config}")
    return DebugSetup(files.path, files.notebook, files.config, _launch_configuration(spec))


def _take_outputs(prepared: NotebookNode, executed: NotebookNode) -> None:
    """Give cells the outputs that they had, up to the first that failed or has been edited since."""
    pairs = zip(
        (cell for cell in prepared.cells if cell.cell_type == "code"),
        (cell for cell in executed.cells if cell.cell_type == "code"),
        strict=False,
    )
    for cell, before in pairs:
        if cell.source != before.source:
            return
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
        if any(output.output_type == "error" for output in before.outputs):
            return


def _launch_configuration(spec: RunSpec) -> dict[str, Any]:
    """An entry of VS Code's `launch.json` that runs the source as a script, under the debugger."""
    return {
        "name": f"{spec.flow}[{spec.instance}]",
        "type": "debugpy",
        "request": "launch",
        "program": spec.source,
        "args": ["--config", str(spec.run_folder.config), "--output-dir", spec.folder],
        "cwd": spec.project_root,
        "console": "integratedTerminal",
        "justMyCode": True,
    }


def in_workspace(launch: Mapping[str, object], root: Path) -> dict[str, object]:
    """A launch configuration as it may be committed: paths in the project begin with `${workspaceFolder}`."""

    def shown(value: object) -> object:
        if isinstance(value, list):
            return [shown(one) for one in value]
        inside = isinstance(value, str) and Path(value).is_relative_to(root)
        return f"${{workspaceFolder}}/{Path(str(value)).relative_to(root).as_posix()}" if inside else value

    return {key: shown(value) for key, value in launch.items()} | {"cwd": "${workspaceFolder}"}
