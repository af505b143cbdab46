"""The engines: what executes the cells of a notebook. A new one is an entry here and its module."""

from __future__ import annotations

from dataclasses import dataclass

from ductaflow.common.errors import ConfigError
from ductaflow.common.text import did_you_mean


@dataclass(frozen=True, slots=True)
class Engine:
    """What executes the cells of a notebook.

    Attributes:
        name: as people say it, in `_run.engine` and on the command line.
        papermill: the name under which papermill knows it.
        module: imported in the process of the run; it registers the engine with papermill.
        needs_server: its runs are forks of the warm server, where there can be one.
        has_kernel: a Jupyter kernel executes the cells, and not the process of the run.
    """

    name: str
    papermill: str
    module: str
    needs_server: bool = False
    has_kernel: bool = False


WARM = Engine("warm", "ductaflow", "ductaflow.notebook.engine", needs_server=True)
FRESH = Engine("fresh", "ductaflow", "ductaflow.notebook.engine")
KERNEL = Engine("kernel", "ductaflow-kernel", "ductaflow.notebook.kernel", has_kernel=True)
#: By name; the first is the default.
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (WARM, FRESH, KERNEL)}


def engine_named(name: str | None) -> Engine:
    """Return an engine by its name; None means the default.

    Raises:
        ConfigError: there is no engine of that name.
    """
    if name is None:
        return next(iter(ENGINES.values()))
    if name not in ENGINES:
        hint = did_you_mean(name, ENGINES) or f"Use one of: {', '.join(ENGINES)}."
        raise ConfigError(f"unknown engine {name!r}", hint=hint)
    return ENGINES[name]
