"""ductaflow: plain `.py` notebooks, run for many scenarios.

Names are imported when they are first used: the supervisor of a run needs a tenth of what a conductor needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ductaflow.common.errors import ConfigError as ConfigError
    from ductaflow.common.errors import DuctaflowError as DuctaflowError
    from ductaflow.common.errors import FlowWarning as FlowWarning
    from ductaflow.common.errors import InstanceError as InstanceError
    from ductaflow.common.errors import RunFolderError as RunFolderError
    from ductaflow.flow import display_config_summary as display_config_summary
    from ductaflow.flow import is_notebook_execution as is_notebook_execution
    from ductaflow.flow import load_instance as load_instance
    from ductaflow.flow import reads as reads
    from ductaflow.flow import unpack_config as unpack_config
    from ductaflow.notebook.export import convert_notebook_to_html as convert_notebook_to_html
    from ductaflow.project.instances import Instance as Instance
    from ductaflow.project.instances import find_instances as find_instances
    from ductaflow.project.instances import load_stored as load_stored
    from ductaflow.project.settings import Project as Project
    from ductaflow.report.status_report import generate_status_report as generate_status_report
    from ductaflow.script import load_cli_config as load_cli_config
    from ductaflow.session.conductor import conduct as conduct
    from ductaflow.session.debug import debug_flow as debug_flow
    from ductaflow.session.runner import run_instance as run_instance
    from ductaflow.session.runner import run_notebook as run_notebook
    from ductaflow.session.runner import run_step_flow as run_step_flow
    from ductaflow.session.tables import scenarios as scenarios
    from ductaflow.session.tables import store_instances as store_instances
    from ductaflow.store.logs import analyze_execution_logs as analyze_execution_logs
    from ductaflow.store.result import FlowFailed as FlowFailed
    from ductaflow.store.result import Result as Result
    from ductaflow.store.result import Status as Status
    from ductaflow.store.result import read_result as read_result

_HOME = {
    "ConfigError": "common.errors",
    "DuctaflowError": "common.errors",
    "FlowFailed": "store.result",
    "FlowWarning": "common.errors",
    "Instance": "project.instances",
    "InstanceError": "common.errors",
    "Project": "project.settings",
    "Result": "store.result",
    "RunFolderError": "common.errors",
    "Status": "store.result",
    "analyze_execution_logs": "store.logs",
    "conduct": "session.conductor",
    "convert_notebook_to_html": "notebook.export",
    "debug_flow": "session.debug",
    "display_config_summary": "flow",
    "find_instances": "project.instances",
    "generate_status_report": "report.status_report",
    "is_notebook_execution": "flow",
    "load_cli_config": "script",
    "load_instance": "flow",
    "load_stored": "project.instances",
    "read_result": "store.result",
    "reads": "flow",
    "run_instance": "session.runner",
    "run_notebook": "session.runner",
    "run_step_flow": "session.runner",
    "scenarios": "session.tables",
    "store_instances": "session.tables",
    "unpack_config": "flow",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
