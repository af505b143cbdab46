"""Parts of pytest and its plugins that the plugin depends on and that no documentation promises.

No other module touches them. `tests/plugin/test_pytest_hooks.py` fails by the name of a hook that a new
version has dropped. (pytest's own "hooks", `pytest_...`, are public.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ductaflow.execution.coverage import Measure


@contextmanager
def without_capture(config: pytest.Config) -> Iterator[None]:
    """Let the flow and the debugger write to the terminal, and read from it.

    Since pytest 3.7: `capturemanager.suspend` and `resume`.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
        return
    capture.suspend(in_=True)
    try:
        yield
    finally:
        capture.resume()


def with_folders(reporter: pytest.TerminalReporter, folder_of: Callable[[str], str | None]) -> None:
    """Let the dots of some node ids stand behind their folder, instead of one line for each file.

    Since pytest 5.3: `write_fspath_result`, which writes the file of a node id before its first dot.

    Args:
        folder_of: gives for a node id what to show, a path from the root; None leaves it to pytest.
    """
    write = getattr(reporter, "write_fspath_result", None)
    if write is None:
        # a reporter of another plugin
        return

    def write_folder(nodeid: str, res: str, **markup: bool) -> None:
        write(folder_of(nodeid) or nodeid, res, **markup)

    reporter.write_fspath_result = write_folder  # type: ignore[method-assign]


def given_dist(config: pytest.Config) -> str | None:
    """Return the `--dist` that the command line gives; None if it leaves the order to us.

    Since pytest 3.1: `known_args_namespace`, the command line before xdist sets its own default.
    """
    dist: str = getattr(config.known_args_namespace, "dist", "no")
    return None if dist == "no" else dist


def tell_allure(config: pytest.Config, instance: str) -> None:
    """Tell Allure which instance a test is: it takes tests of one file that differ in brackets for retries.

    Since allure-pytest 2.8: the name of its plugin, where there is a folder for its results.
    """
    if config.pluginmanager.hasplugin("allure_listener"):
        import allure

        allure.dynamic.parameter("instance", instance)


def is_covered(config: pytest.Config) -> bool:
    """Return whether pytest-cov measures. Since pytest-cov 2.0: the name of its plugin, and `no_cov`."""
    return bool(config.pluginmanager.hasplugin("_cov") and not config.getoption("no_cov"))


def coverage_of(item: pytest.Item) -> Measure:
    """Return how pytest-cov measures a test. Since pytest-cov 5.0: the attributes of its controller."""
    from ductaflow.execution.coverage import Measure

    controller = item.config.pluginmanager.getplugin("_cov").cov_controller
    return Measure(
        folder=controller.topdir,
        config_file=controller.cov_config,
        source=controller.cov_source,
        branch=controller.cov_branch,
        context=f"{item.nodeid}|run" if item.config.option.cov_context == "test" else None,
    )
