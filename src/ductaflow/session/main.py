"""The project of the script or notebook that this process is."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from ductaflow.common.errors import ConfigError
from ductaflow.common.host import is_notebook_execution
from ductaflow.common.paths import KIND_DIRS
from ductaflow.project.settings import Project
from ductaflow.store.spec import current_run


def use_project_of_main() -> None:
    """Put the project root on `sys.path` where this process is a flow that runs without us.

    In a script, Python itself has put the folder of the flow there; a notebook by hand has its own folder.
    """
    if current_run() is not None:
        return
    main_file = getattr(sys.modules.get("__main__"), "__file__", None)
    if main_file and not is_notebook_execution():
        folder = Path(main_file).absolute().parent
        if folder.name not in KIND_DIRS.values():
            return
    elif is_notebook_execution():
        folder = Path.cwd()
    else:
        return
    project = None
    with suppress(ConfigError):
        # whoever asks for a run is told what is wrong with the settings
        project = Project.around(folder)
    if project is not None and str(project.root) not in sys.path:
        sys.path.insert(1, str(project.root))
