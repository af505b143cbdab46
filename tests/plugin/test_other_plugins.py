"""Plugins that run, fork, stop or report tests in ways of their own: each test has what matters of one."""

from __future__ import annotations

import json

import pytest
from support import TinyProject

pytestmark = pytest.mark.slow

#: Fails once, is good then.
ONCE = """
# %%
from pathlib import Path
mark = Path(config["_project_root"], "mark")
if not mark.exists():
    mark.touch()
    raise ValueError("the first time")
"""
RETRY = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and report.failed and not hasattr(item, "was_retried"):
        item.was_retried = True
        item.ihook.pytest_runtest_teardown(item=item, nextitem=item.session)
        report.outcome = "retried"
        item.ihook.pytest_runtest_logreport(report=report)
        item._initrequest()
        again = pytest.CallInfo.from_call(lambda: item.ihook.pytest_runtest_setup(item=item), "setup")
        again = pytest.CallInfo.from_call(lambda: item.ihook.pytest_runtest_call(item=item), "call")
        second = pytest.TestReport.from_item_and_call(item, again)
        report.outcome, report.longrepr = second.outcome, second.longrepr
    return report

def pytest_report_teststatus(report):
    return ("retried", "R", "RETRY") if report.outcome == "retried" else None
"""
FORKED = """
import marshal, os, pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    there, here = os.pipe()
    if not os.fork():
        reports = []
        for report in runtestprotocol(item, log=False):
            data = {name: value for name, value in vars(report).items() if name[0] != "_"}
            reports.append({**data, "nodeid": report.nodeid, "longrepr": report.longreprtext or None})
        os.write(here, marshal.dumps(reports))
        os._exit(0)
    os.close(here)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    with os.fdopen(there, "rb") as file:
        for data in marshal.load(file):
            item.ihook.pytest_runtest_logreport(report=pytest.TestReport(**data))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""
TIMEOUT = """
import pathlib, pytest, signal, threading, time

def stop(number, frame):
    pytest.fail("Timeout (>1.0s) from a plugin.")

signal.signal(signal.SIGALRM, stop)

def begin():
    while not pathlib.Path("begun").exists():
        time.sleep(0.02)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

threading.Thread(target=begin, daemon=True).start()
"""
#: The hooks of pytest-timeout; the time is over when the flow has begun.
TIMER = """
import pathlib, pytest, threading, time, types
from pytest_ductaflow import items

class Hooks:
    @pytest.hookspec(firstresult=True)
    def pytest_timeout_set_timer(item, settings): ...

    @pytest.hookspec(firstresult=True)
    def pytest_timeout_cancel_timer(item): ...

def pytest_addhooks(pluginmanager):
    pluginmanager.add_hookspecs(Hooks)

class Timer(threading.Thread):
    def __init__(self, seconds, end):
        super().__init__(daemon=True)
        self.end = end

    def run(self):
        while not pathlib.Path("begun").exists():
            time.sleep(0.02)
        self.end()

    def cancel(self): ...

items.threading = types.SimpleNamespace(Timer=Timer)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if "fit" not in item.name:
        return (yield)
    assert item.ihook.pytest_timeout_set_timer(item=item, settings=types.SimpleNamespace(timeout=1.0))
    result = yield
    assert item.ihook.pytest_timeout_cancel_timer(item=item)
    return result
"""
TOO_LATE = """
import pytest
from pytest_ductaflow.items import FlowSession

run = FlowSession.run

def run_and_stop(*args):
    run(*args)
    pytest.fail("Timeout (>1.0s) from a plugin.")

FlowSession.run = run_and_stop
"""
TOO_EARLY = """
from ductaflow.store.result import Result, Status
from pytest_ductaflow.items import FlowSession

def stop(session, item, explain):
    return Result("fit", "a", "flow", Status.NOT_RUN, None, "Timeout (>1.0s) from a plugin.")

FlowSession.run = stop
"""
ALLURE = """
import sys, types

class dynamic:
    @staticmethod
    def parameter(name, value):
        with open("told.txt", "a") as file:
            file.write(f"{name}={value}\\n")

sys.modules["allure"] = types.ModuleType("allure")
sys.modules["allure"].dynamic = dynamic

def pytest_configure(config):
    config.pluginmanager.register(dynamic, "allure_listener")
"""


def test_an_instance_that_is_run_again(project: TinyProject) -> None:
    """A plugin like pytest-retry runs a failed instance again: what came of it last counts everywhere."""
    project.flow("fit", ONCE)
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text(RETRY)
    session = project.pytest("-v")
    assert (0, {"fit/a": "success"}) == (session.code, session.statuses()), session.out
    assert "1 success" in session.out


def test_an_instance_in_a_fork_of_the_session(project: TinyProject) -> None:
    """A plugin like pytest-forked sends plain data: statuses and report are as ever."""
    project.flow("fit", "# %%\nassert config['x']\n")
    project.config("flows/fit/a.json", x=1)
    project.config("flows/fit/b.json", x=0)
    (project.root / "conftest.py").write_text(FORKED)
    session = project.pytest("-v")
    assert {"fit/a": "success", "fit/b": "error"} == session.statuses(), session.out
    assert "1 failed, 1 passed" in session.out


#: Says that it has begun, and does not end. One line: a flow that is killed says in which cell it was.
ENDLESS = """
# %%
import pathlib, time; pathlib.Path(config["_project_root"], "begun").touch(); time.sleep(600)
"""


def test_an_instance_that_a_plugin_ends(project: TinyProject) -> None:
    """A plugin like pytest-timeout ends a run: result, report and failure have one reason, with the place."""
    project.flow("fit", ENDLESS)
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text(TIMEOUT)
    session = project.pytest()
    message = "interrupted in cell 2 of 2 (line 5); Timeout (>1.0s) from a plugin."
    result = project.result("fit", "a")
    assert ("error", "interrupted", message) == (result.status, result.cause, result.message)
    assert message == session.report()["instances"][0]["message"]
    assert "flows/fit.py:5: interrupted" in session.out
    assert "run again:" in session.out
    assert "src/pytest_ductaflow" not in session.out


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_time_of_pytest_timeout_is_over(project: TinyProject, workers: str) -> None:
    """It stops the run alone, whatever its method, and the session goes on: one reason everywhere."""
    project.flow("fit", ENDLESS)
    project.flow("quick", "")
    project.config("flows/fit/a.json")
    project.config("flows/quick/a.json")
    (project.root / "conftest.py").write_text(TIMER)
    session = project.pytest("-n", workers)
    message = "interrupted in cell 2 of 2 (line 5); Timeout (>1.0s) from pytest-timeout."
    assert {"fit/a": "error", "quick/a": "success"} == session.statuses(), session.out
    assert message == project.result("fit", "a").message
    assert message in [entry["message"] for entry in session.report()["instances"]]
    assert "flows/fit.py:5: interrupted" in session.out
    assert "Timeout (>1.0s) from pytest-timeout." in session.out
    assert "run again:" in session.out


def test_a_plugin_ends_an_instance_that_has_just_run(project: TinyProject) -> None:
    """The test fails, as the plugin says; the status of the run stays, and the report has both."""
    project.flow("fit", "")
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text(TOO_LATE)
    session = project.pytest()
    (entry,) = session.report()["instances"]
    assert ("success", "success") == (project.result("fit", "a").status, entry["status"])
    assert "fails its test: Timeout (>1.0s) from a plugin." == entry["message"]
    assert (1, True) == (session.code, "1 failed" in session.out)


def test_the_time_is_over_before_a_run_has_begun(project: TinyProject) -> None:
    """There is one reason, and it is said once."""
    project.flow("fit", "")
    project.config("flows/fit/a.json")
    (project.root / "conftest.py").write_text(TOO_EARLY)
    session = project.pytest()
    (entry,) = session.report()["instances"]
    assert ("not_run", "Timeout (>1.0s) from a plugin.") == (entry["status"], entry["message"])
    assert (1, True) == (session.code, "1 failed" in session.out)


def test_instances_of_a_table_in_allure(project: TinyProject) -> None:
    """Allure is told the instance, since rows of one table are one test for it, run again and again."""
    project.flow("fit", "")
    (project.root / "config/flows/fit.csv").write_text("instance,x\na,1\nb,2\n")
    (project.root / "conftest.py").write_text(ALLURE)
    assert 0 == project.pytest().code
    assert "instance=a\ninstance=b\n" == (project.root / "told.txt").read_text()


def test_what_the_scheduler_puts_between_is_no_test(project: TinyProject) -> None:
    """A plugin that wraps the protocol of tests, as Allure does, sees those that there are, and no more."""
    project.flow("fit", "")
    for name in "abc":
        project.config(f"flows/fit/{name}.json")
    (project.root / "conftest.py").write_text(
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_runtest_protocol(item):\n"
        "    with open('seen.txt', 'a') as file:\n"
        "        print(item.name, file=file)\n"
        "    return (yield)\n"
    )
    assert 0 == project.pytest("-n", "2").code
    assert ["fit[a]", "fit[b]", "fit[c]"] == sorted((project.root / "seen.txt").read_text().splitlines())


def test_every_item_has_a_line(project: TinyProject) -> None:
    """Editors show results and buttons at the line of a test, none without one; of a table it is the row."""
    project.flow("fit", "")
    project.config("flows/fit/a.json")
    (project.root / "config/flows/fit.csv").write_text('instance,x\n\nb,"1\n2"\nc,1,2\n')
    (project.root / "conftest.py").write_text(
        "import json\n"
        "def pytest_collection_finish(session):\n"
        "    with open('places.json', 'w') as file:\n"
        "        json.dump([item.location for item in session.items], file)\n"
    )
    session = project.pytest("-k", "not a")
    places = [["config/flows/fit.csv", 2, "fit[b]"], ["config/flows/fit.csv", 4, "fit[c]"]]
    assert places == json.loads((project.root / "places.json").read_text())
    assert "config/flows/fit.csv:5: 3 cells, but 2 columns" in session.out
    project.pytest("--collect-only", "-k", "a")
    assert [["config/flows/fit/a.json", 0, "fit[a]"]] == json.loads(
        (project.root / "places.json").read_text()
    )
