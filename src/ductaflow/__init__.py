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
    from ductaflow.flow import generate_config_markdown as generate_config_markdown
    from ductaflow.flow import is_notebook_execution as is_notebook_execution
    from ductaflow.flow import load_instance as load_instance
    from ductaflow.flow import reads as reads
    from ductaflow.flow import record as record
    from ductaflow.flow import unpack_config as unpack_config
    from ductaflow.notebook.export import convert_notebook_to_html as convert_notebook_to_html
    from ductaflow.project.instances import Instance as Instance
    from ductaflow.project.instances import find_instances as find_instances
    from ductaflow.project.instances import load_stored as load_stored
    from ductaflow.project.settings import Project as Project
    from ductaflow.report.status_report import generate_status_report as generate_status_report
    from ductaflow.script import load_cli_config as load_cli_config
    from ductaflow.session.across import results as results
    from ductaflow.session.conductor import conduct as conduct
    from ductaflow.session.debug import debug_flow as debug_flow
    from ductaflow.session.output_files import outputs as outputs
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

#: The public names by the module that defines them.
_NAMES = {
    "common.errors": ("ConfigError", "DuctaflowError", "FlowWarning", "InstanceError", "RunFolderError"),
    "flow": (
        "display_config_summary",
        "generate_config_markdown",
        "is_notebook_execution",
        "load_instance",
        "reads",
        "record",
        "unpack_config",
    ),
    "notebook.export": ("convert_notebook_to_html",),
    "project.instances": ("Instance", "find_instances", "load_stored"),
    "project.settings": ("Project",),
    "report.status_report": ("generate_status_report",),
    "script": ("load_cli_config",),
    "session.across": ("results",),
    "session.conductor": ("conduct",),
    "session.debug": ("debug_flow",),
    "session.output_files": ("outputs",),
    "session.runner": ("run_instance", "run_notebook", "run_step_flow"),
    "session.tables": ("scenarios", "store_instances"),
    "store.logs": ("analyze_execution_logs",),
    "store.result": ("FlowFailed", "Result", "Status", "read_result"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


#: What there was before ductaflow was a package, and what to write instead.
_GONE = dict.fromkeys(
    ("setup_execution_logging", "setup_conductor_logging"),
    "what a flow prints is its log. For loggers write logging.basicConfig(level=logging.INFO, "
    'format="%(message)s") at its head, and logger = logging.getLogger(__name__)',
)


def __getattr__(name: str) -> Any:
    if name in _GONE:
        # an AttributeError would be told as another one, without the remedy
        raise ImportError(f"there is no {name} any more: {_GONE[name]}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
