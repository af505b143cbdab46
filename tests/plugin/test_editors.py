"""Debuggers of editors: "Debug Test" of VS Code, one that is attached, PyCharm's; they stop in flows."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest
from support import TinyProject, wait_until

from ductaflow.common.host import has_editor, is_debugged

FLOW = """
# %%
import pathlib

doubled = config["x"] * 2
pathlib.Path("out.txt").write_text(str(doubled))

# %%
if config["x"] == 2:
    raise ValueError("x is 2")
"""
#: Lines of `FLOW` in its file.
AT_WRITE, AT_RAISE = 8, 12


@pytest.fixture
def project(project: TinyProject) -> TinyProject:
    """A flow that is good for one of its instances, and fails for another."""
    project.flow("fit", FLOW)
    project.config("flows/fit/a.json", x=1)
    project.config("flows/fit/b.json", x=2)
    return project


class Editor:
    """One connection of an editor to debugpy; `out` is what the program printed through it."""

    def __init__(self, received: IO[bytes], sent: IO[bytes]) -> None:
        self._received, self._sent = received, sent
        self._number = 0
        self.out = ""

    def send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        request = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(request).encode()
        self._sent.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._sent.flush()
        return self._number

    def messages(self) -> Iterator[dict[str, Any]]:
        while header := self._received.readline():
            self._received.readline()
            message = json.loads(self._received.read(int(header.split(b":")[1])))
            if message.get("event") == "output":
                self.out += message["body"]["output"]
            yield message

    def event(self, name: str) -> dict[str, Any]:
        found = next((one for one in self.messages() if one.get("event") == name), None)
        assert found is not None, f"no {name}:\n{self.out}"
        body: dict[str, Any] = found.get("body", {})
        return body

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        number = self.send(command, **arguments)
        answer = next(one for one in self.messages() if one.get("request_seq") == number)
        assert answer["success"], answer
        body: dict[str, Any] = answer.get("body", {})
        return body

    def start(self, how: str, source: Path, lines: list[int], **arguments: Any) -> None:
        """Launch a program, or attach to one, with breakpoints."""
        self.ask("initialize", adapterID="debugpy", clientID="vscode", supportsStartDebuggingRequest=True)
        self.send(how, **arguments)
        self.event("initialized")
        breakpoints = [{"line": line} for line in lines]
        self.ask("setBreakpoints", source={"path": str(source)}, breakpoints=breakpoints)
        self.ask("configurationDone")

    def stopped_at(self) -> tuple[str, int, dict[str, str]]:
        """Wait for the next stop, and go on from there; the file, the line, and the variables."""
        thread = self.event("stopped")["threadId"]
        frame = self.ask("stackTrace", threadId=thread)["stackFrames"][0]
        scope = self.ask("scopes", frameId=frame["id"])["scopes"][0]
        variables = self.ask("variables", variablesReference=scope["variablesReference"])["variables"]
        self.ask("continue", threadId=thread)
        return (
            frame["source"]["path"],
            frame["line"],
            {one["name"]: one["value"] for one in variables},
        )


def environment_of_editor() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COVERAGE_"))}
    return {**own, "PYTHONUTF8": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


#: What VS Code starts, `run_pytest_script.py` of its Python extension, without what reports to the editor.
RUN_PYTEST = """
import os, pathlib, sys
import pytest

if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    ids = pathlib.Path(os.environ["RUN_TEST_IDS_PIPE"]).read_text(encoding="utf-8").splitlines()
    pytest.main(["-p", "no:hypothesispytest", *sys.argv[1:], *ids])
"""


@pytest.mark.slow
def test_debug_test_of_vs_code_stops_in_a_flow(project: TinyProject, tmp_path: Path) -> None:
    """Launched as the extension does it: each breakpoint stops, with variables, and the session ends well."""
    script, ids = tmp_path / "python_files" / "run_pytest_script.py", tmp_path / "ids.txt"
    script.parent.mkdir()
    script.write_text(RUN_PYTEST)
    stored = project.root / "config" / "flows" / "fit"
    ids.write_text("\n".join(f"{stored / name}.json::fit[{name}]" for name in "ab"))
    found = importlib.util.find_spec("debugpy")
    assert found is not None
    assert found.origin is not None
    adapter = subprocess.Popen(
        [sys.executable, Path(found.origin).parent / "adapter"],
        env=environment_of_editor(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert adapter.stdin is not None
    assert adapter.stdout is not None
    source = project.root / "flows" / "fit.py"
    try:
        editor = Editor(adapter.stdout, adapter.stdin)
        editor.start(
            "launch",
            source,
            [AT_WRITE, AT_RAISE],
            name="Debug Tests",
            type="debugpy",
            request="launch",
            program=str(script),
            args=["--ductaflow", "--rootdir", str(project.root), "--capture", "no"],
            python=[sys.executable],
            cwd=str(project.root),
            env={"RUN_TEST_IDS_PIPE": str(ids)},
            console="internalConsole",
            subProcess=True,
            redirectOutput=True,
            showReturnValue=True,
            justMyCode=True,
            stopOnEntry=False,
            rules=[{"path": str(script.parent), "include": False}],
        )
        stops = [editor.stopped_at() for _ in range(3)]
        code = editor.event("exited")["exitCode"]
        editor.event("terminated")
        editor.ask("disconnect")
    finally:
        # how the adapter itself ends is its own business: it fails where nobody listens any more
        adapter.kill()
        adapter.wait()
        adapter.stdin.close()
        adapter.stdout.close()
    places = [(str(source), AT_WRITE), (str(source), AT_WRITE), (str(source), AT_RAISE)]
    assert places == [(path, line) for path, line, _ in stops], editor.out
    assert ["2", "4", "4"] == [variables["doubled"] for _, _, variables in stops]
    assert 1 == editor.out.count("ductaflow: a debugger is attached")
    assert (0, True) == (code, "1 failed, 1 passed" in editor.out), editor.out
    results = [project.result("fit", name) for name in "ab"]
    assert ["success", "error"] == [result.status for result in results]
    assert "best effort: it ran in the process of a debugger" in results[0].message
    assert "flows/fit.py:12: ValueError: x is 2" in results[1].message


@contextmanager
def debugged(project: TinyProject, *args: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A session of pytest that waits for an editor; the process, and the port where it waits."""
    (project.root / "conftest.py").write_text(
        "import debugpy, os, pathlib\n"
        "port = debugpy.listen(('127.0.0.1', 0))[1]\n"
        "pathlib.Path('port.tmp').write_text(str(port))\n"
        "os.replace('port.tmp', 'port')\n"
        "debugpy.wait_for_client()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--ductaflow", "-p", "no:hypothesispytest", *args],
        cwd=project.root,
        env=environment_of_editor(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until((project.root / "port").exists, seconds=60)
        yield process, int((project.root / "port").read_text())
    finally:
        process.kill()
        process.communicate()


def test_a_debugger_that_is_attached_stops_in_the_flow(project: TinyProject) -> None:
    """A breakpoint that an editor sets stops in the flow, with its variables; the run is a run like any."""
    source = project.root / "flows" / "fit.py"
    with debugged(project, "--capture=no", "-k", "a") as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            file = connection.makefile("rwb")
            with file:
                editor = Editor(file, file)
                editor.start("attach", source, [AT_WRITE], justMyCode=False)
                path, line, variables = editor.stopped_at()
                editor.event("terminated")
        out, _ = process.communicate(timeout=60)
        assert 0 == process.returncode, out
    assert (str(source), AT_WRITE, "2") == (path, line, variables["doubled"])
    assert "ductaflow: a debugger is attached" in out
    result = project.result("fit", "a")
    assert ("success", "2") == (result.status, (project.folder("fit", "a") / "out.txt").read_text())
    assert "best effort: it ran in the process of a debugger" in result.message


def test_debugpy_alone_is_no_debugger(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has imported debugpy, as ipykernel does, is not debugged while nobody is connected."""
    # ipykernel sets it too: debugpy has something to say of interpreters
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    (project.root / "conftest.py").write_text("from debugpy.server import api\n")
    session = project.pytest("-rA", "-k", "a")
    assert "debugger" not in session.out
    assert (0, "") == (session.code, project.result("fit", "a").message)


def module(name: str, file: str, **contents: object) -> ModuleType:
    made = ModuleType(name)
    made.__file__ = file
    vars(made).update(contents)
    return made


@pytest.mark.parametrize("is_connected", [True, False])
def test_who_is_connected_to_debugpy(monkeypatch: pytest.MonkeyPatch, is_connected: bool) -> None:
    """Its pydevd says nothing by being there: ipykernel imports it."""
    debugpy = module("debugpy", "/lib/debugpy/__init__.py", is_client_connected=lambda: is_connected)
    monkeypatch.setitem(sys.modules, "debugpy", debugpy)
    monkeypatch.setitem(sys.modules, "pydevd", module("pydevd", "/lib/debugpy/_vendored/pydevd/pydevd.py"))
    assert (is_connected, is_connected) == (has_editor(), is_debugged())


@pytest.mark.parametrize("imports_debugpy", [True, False])
def test_pydevd_of_pycharm_is_a_debugger(monkeypatch: pytest.MonkeyPatch, imports_debugpy: bool) -> None:
    """It runs the program. A debugpy that a kernel has imported beside it cannot be asked: that fails."""
    debugpy = module("debugpy", "/lib/debugpy/__init__.py", is_client_connected=lambda: 1 / 0)
    monkeypatch.setitem(sys.modules, "pydevd", module("pydevd", "/pycharm/plugins/helpers/pydev/pydevd.py"))
    if imports_debugpy:
        monkeypatch.setitem(sys.modules, "debugpy", debugpy)
    else:
        monkeypatch.delitem(sys.modules, "debugpy", raising=False)
    assert has_editor()
    assert is_debugged()
