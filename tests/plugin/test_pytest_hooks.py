"""The undocumented parts of pytest, xdist and pytest-cov: each is there."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib.metadata import version

import pytest

#: What the plugin uses, in the words of a session that has it all.
PROBES = {
    "Config.known_args_namespace": "config.known_args_namespace",
    "known_args_namespace.dist": "config.known_args_namespace.dist",
    "capturemanager.suspend": "config.pluginmanager.getplugin('capturemanager').suspend",
    "capturemanager.resume": "config.pluginmanager.getplugin('capturemanager').resume",
    "TerminalWriter.width_of_current_line": "config.get_terminal_writer().width_of_current_line",
    "TerminalWriter.write": "config.get_terminal_writer().write",
    "TerminalReporter.write_fspath_result": (
        "config.pluginmanager.getplugin('terminalreporter').write_fspath_result"
    ),
    "Config._getconftest_pathlist": "config._getconftest_pathlist",
    "HookCaller.get_hookimpls": "config.hook.pytest_ignore_collect.get_hookimpls()[0].plugin_name",
    "plugin main": "config.pluginmanager.get_plugin('main').pytest_ignore_collect",
    "plugin python": "config.pluginmanager.get_plugin('python').pytest_collect_file",
    "plugin doctest": "config.pluginmanager.get_plugin('doctest').pytest_collect_file",
    "option usepdb": "config.option.usepdb",
    "option usepdb_cls": "config.option.usepdb_cls",
    "option trace": "config.option.trace",
    "option cov_context": "config.option.cov_context",
    **{
        f"LogXML.{name}": "next((one for one in config.pluginmanager.get_plugins()"
        f" if type(one).__name__ == 'LogXML'), None).{name}"
        for name in ("node_reporter", "prefix", "family", "node_reporter('x').add_attribute")
    },
    **{
        f"cov_controller.{name}": f"config.pluginmanager.getplugin('_cov').cov_controller.{name}"
        for name in ("topdir", "cov_config", "cov_source", "cov_branch")
    },
}


@pytest.fixture(scope="module")
def missing(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("probe")
    (folder / "conftest.py").write_text(
        f"""
PROBES = {PROBES!r}

def pytest_runtestloop(session):
    for name, expression in PROBES.items():
        try:
            eval(expression, {{"config": session.config}})
        except AttributeError:
            print("missing:", name)
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "--cov", "--junitxml=junit.xml", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no tests ran" in done.stdout
    return {line.removeprefix("missing: ") for line in done.stdout.splitlines() if "missing: " in line}


@pytest.mark.parametrize("name", PROBES)
def test_each_hook_is_there(missing: set[str], name: str) -> None:
    """A version that has dropped a hook is named together with the hook."""
    packages = ("pytest", "pytest-xdist", "pytest-cov")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    assert name not in missing, f"{name} is gone ({versions})"


@pytest.mark.parametrize(
    "name",
    [
        "xdist.workermanage:WorkerController.send_runtest_some",
        "xdist.workermanage:WorkerController.shutdown",
        "xdist.workermanage:WorkerController.shutting_down",
        "xdist.remote:Producer",
        "xdist.report:report_collection_diff",
        "xdist.scheduler:Scheduling",
    ],
)
def test_each_part_of_xdist_is_there(name: str) -> None:
    """Whoever orders the items of xdist uses its workers, which no documentation describes."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        pytest.fail(f"{name} is gone (pytest-xdist {version('pytest-xdist')})")


@pytest.mark.slow
def test_a_worker_answers_before_xdist_starts_it(pytester: pytest.Pytester) -> None:
    """xdist's gateway executes what asks for the process id of a worker, and then xdist's own part."""
    pytester.makeconftest(
        """
def pytest_configure_node(node):
    channel = node.gateway.remote_exec("import os; channel.send(os.getpid())")
    print("worker is", channel.receive() > 0)
    channel.waitclose()
"""
    )
    pytester.makepyfile("def test_one(): pass")
    result = pytester.runpytest_subprocess("-n1", "-s")
    result.stdout.fnmatch_lines("worker is True")
    result.assert_outcomes(passed=1)
