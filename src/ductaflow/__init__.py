"""ductaflow: plain `.py` notebooks, run for many scenarios.

Names are imported when they are first used: the supervisor of a run needs a tenth of what a conductor needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ductaflow.conductor import conduct as conduct
    from ductaflow.errors import ConfigError as ConfigError
    from ductaflow.errors import DuctaflowError as DuctaflowError
    from ductaflow.errors import FlowFailed as FlowFailed
    from ductaflow.errors import FlowWarning as FlowWarning
    from ductaflow.errors import InstanceError as InstanceError
    from ductaflow.errors import RunFolderError as RunFolderError
    from ductaflow.flow import display_config_summary as display_config_summary
    from ductaflow.flow import is_notebook_execution as is_notebook_execution
    from ductaflow.flow import load_instance as load_instance
    from ductaflow.flow import reads as reads
    from ductaflow.flow import unpack_config as unpack_config
    from ductaflow.instances import Instance as Instance
    from ductaflow.instances import find_instances as find_instances
    from ductaflow.instances import load_stored as load_stored
    from ductaflow.layout import Project as Project
    from ductaflow.notebook import convert_notebook_to_html as convert_notebook_to_html
    from ductaflow.report import generate_status_report as generate_status_report
    from ductaflow.result import Result as Result
    from ductaflow.result import Status as Status
    from ductaflow.result import analyze_execution_logs as analyze_execution_logs
    from ductaflow.result import read_result as read_result
    from ductaflow.runner import debug_flow as debug_flow
    from ductaflow.runner import run_instance as run_instance
    from ductaflow.runner import run_notebook as run_notebook
    from ductaflow.runner import run_step_flow as run_step_flow
    from ductaflow.script import load_cli_config as load_cli_config
    from ductaflow.table import scenarios as scenarios
    from ductaflow.table import store_instances as store_instances

_HOME = {
    "ConfigError": "errors",
    "DuctaflowError": "errors",
    "FlowFailed": "errors",
    "FlowWarning": "errors",
    "Instance": "instances",
    "InstanceError": "errors",
    "Project": "layout",
    "Result": "result",
    "RunFolderError": "errors",
    "Status": "result",
    "analyze_execution_logs": "result",
    "conduct": "conductor",
    "convert_notebook_to_html": "notebook",
    "debug_flow": "runner",
    "display_config_summary": "flow",
    "find_instances": "instances",
    "generate_status_report": "report",
    "is_notebook_execution": "flow",
    "load_cli_config": "script",
    "load_instance": "flow",
    "load_stored": "instances",
    "read_result": "result",
    "reads": "flow",
    "run_instance": "runner",
    "run_notebook": "runner",
    "run_step_flow": "runner",
    "scenarios": "table",
    "store_instances": "table",
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
