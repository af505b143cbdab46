"""Parts of pytest and its plugins that the plugin depends on and that no documentation promises.

No other module touches them. `tests/plugin/test_pytest_hooks.py` fails by the name of a hook that a new
version has dropped. (pytest's own "hooks", `pytest_...`, are public.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ductaflow.common.errors import FlowWarning

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


def nobody_else_collects(own: object, folder: pytest.Collector) -> bool:
    """Return whether no plugin, option or conftest has a say in the JSON files of a folder.

    Then pytest need not be asked about each of thousands. Since pytest 7.0: the plugins `main`, `python` and
    `doctest`, and `_getconftest_pathlist`.

    Args:
        own: our plugin, which has one.
    """
    config = folder.config
    of_conftest = getattr(config, "_getconftest_pathlist", None)
    if of_conftest is None or any(config.getoption(name, None) for name in _ABOUT_FILES):
        return False
    known = {"pytest_ignore_collect": {"main"}, "pytest_collect_file": {"python", "doctest"}}
    for hook, names in known.items():
        plugins = getattr(folder.ihook, hook).get_hookimpls()
        if any(one.plugin is not own and one.plugin_name not in names for one in plugins):
            return False
    return not any(of_conftest(name, path=folder.path) for name in ("collect_ignore", "collect_ignore_glob"))


#: Options by which a JSON file may be left out, or be something else than an instance.
_ABOUT_FILES = ("ignore", "ignore_glob", "doctestglob")


def not_as_a_test(config: pytest.Config, item: pytest.Item) -> None:
    """Hide an item from the plugins, since some would report it as a test.

    Since pytest 2.8: `config.hook` has an attribute for each hook, which xdist calls by its name.
    """
    relay: Any = config.hook
    relay.pytest_runtest_protocol = _ProtocolBut(relay.pytest_runtest_protocol, item)


class _ProtocolBut:
    """The hook `pytest_runtest_protocol` of all items but one."""

    def __init__(self, caller: Any, item: pytest.Item) -> None:
        self._caller, self._item = caller, item

    def __call__(self, *, item: pytest.Item, nextitem: pytest.Item | None) -> object:
        return None if item is self._item else self._caller(item=item, nextitem=nextitem)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._caller, name)


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


def junit_of(config: pytest.Config) -> Any:
    """Return the plugin of `--junitxml`; None without that option. Since pytest 5.1: its name, `LogXML`."""
    found = (one for one in config.pluginmanager.get_plugins() if type(one).__name__ == "LogXML")
    return next(found, None)


def tell_junit(xml: Any, report: pytest.TestReport, classname: str, file: str, line: int | None) -> None:
    """Tell `--junitxml` the class of a test, and where families with such attributes have its file.

    Since pytest 5.1: `LogXML.node_reporter`, `prefix`, `family`; `add_attribute`, whose values pytest keeps.

    Args:
        xml: of `junit_of`.
    """
    reporter = xml.node_reporter(report)
    reporter.add_attribute("classname", ".".join(filter(None, [xml.prefix, classname])))
    if xml.family != "xunit2":
        reporter.add_attribute("file", file)
        reporter.add_attribute("line", line or 1)


class OtherAnnotations:
    """Stands for pytest-github-actions-annotate-failures, which would say of instances what we say.

    Since its 0.4: the plugins `annotate_errors` and `annotate_warnings`, each with one hook.
    """

    def __init__(self, config: pytest.Config, is_ours: Callable[[str], bool]) -> None:
        manager = config.pluginmanager
        self._is_ours = is_ours
        self._errors: Any = manager.getplugin("annotate_errors")
        self._warnings: Any = manager.getplugin("annotate_warnings")
        found = [plugin for plugin in (self._errors, self._warnings) if plugin is not None]
        for plugin in found:
            manager.unregister(plugin)
        if found:
            manager.register(self, "ductaflow_annotations")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._errors is not None and not self._is_ours(report.nodeid):
            self._errors.pytest_runtest_logreport(report=report)

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        is_ours = issubclass(warning_message.category, FlowWarning)
        if self._warnings is not None and not is_ours:
            self._warnings.pytest_warning_recorded(
                warning_message=warning_message, when=when, nodeid=nodeid, location=location
            )


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
