"""Coverage of flows, from the side of pytest: tells the runs of a test how pytest-cov measures.

Only imported where pytest-cov is at work. It combines what the runs leave beside its own data.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from ductaflow.measuring import MEASURE, Measure


@contextlib.contextmanager
def measured(item: pytest.Item) -> Iterator[None]:
    """Runs that a test starts are measured as the process of the test is."""
    controller = item.config.pluginmanager.getplugin("_cov").cov_controller
    measure = Measure(
        folder=controller.topdir,
        config_file=controller.cov_config,
        source=controller.cov_source,
        branch=controller.cov_branch,
        context=f"{item.nodeid}|run" if item.config.option.cov_context == "test" else None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, MEASURE, measure.dump())
        yield
