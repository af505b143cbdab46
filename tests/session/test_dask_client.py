"""What `ductaflow run --dask` takes for an address, and what it says where no scheduler answers."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.common.errors import ConfigError
from ductaflow.session import dask_client
from ductaflow.session.dask_client import connected, contact_of

pytest.importorskip("distributed")
pytestmark = pytest.mark.dask


def test_an_address_is_one_or_a_file_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a scheme, without one, or by the file that a scheduler wrote, wherever that lies."""
    monkeypatch.chdir(tmp_path)
    content = json.dumps({"type": "Scheduler", "address": "tcp://10.0.0.1:4321", "workers": {}})
    for name in ("scheduler.json", "sub/scheduler", "plain"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
        assert "tcp://10.0.0.1:4321" == contact_of(name)
        assert "tcp://10.0.0.1:4321" == contact_of(os.path.abspath(name))
    for address in ("tcp://login-node:8786", "tls://[::1]:8786", "login-node:8786"):
        assert address == contact_of(address)


FILES = {
    "cut.json": '{"address": "tcp',
    "list.json": "[1]",
    "none.json": "{}",
    "number.json": '{"address": 1}',
    "bytes.json": "\udcff",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    """A clear error names the file."""
    file = tmp_path / name
    file.write_text(FILES[name], encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ConfigError) as error:
        contact_of(str(file))
    assert f"--dask: {file} is no scheduler file: " in error.value.message
    assert "--scheduler-file" in error.value.hint


def test_a_file_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    """Dask's own client would wait for ever; so it would for a flow that stands where the address belongs."""
    with pytest.raises(ConfigError, match=r"--dask: there is no file .*scheduler\.json"):
        contact_of(str(tmp_path / "scheduler.json"))
    with pytest.raises(ConfigError, match="--dask: there is no file fit/a"):
        contact_of("fit/a")
    with pytest.raises(ConfigError, match=f"--dask: {tmp_path}: Is a directory"):
        contact_of(str(tmp_path))


def test_an_empty_address_names_the_variable() -> None:
    """As `--dask "$DASK_SCHEDULER_ADDRESS"` gives it where that is not set."""
    with pytest.raises(ConfigError) as error:
        contact_of("")
    assert "--dask: the address is empty" == error.value.message
    assert "DASK_SCHEDULER_ADDRESS" in error.value.hint


def refused(address: str) -> str:
    with pytest.raises(ConfigError) as error, connected(address):
        pass
    assert "tcp://login-node:8786" in error.value.hint
    return error.value.message


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_dead_address_is_an_error_at_once(tmp_path: Path) -> None:
    """Nobody listens; a file that a killed scheduler left behind says so too."""
    address = f"tcp://127.0.0.1:{free_port()}"
    assert f"--dask: {address} cannot be reached: Connection refused" == refused(address)
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": address}))
    with pytest.raises(ConfigError) as error, connected(str(file)):
        pass
    assert f"--dask: {address}, which {file} names, cannot be reached" in error.value.message
    assert "A scheduler that was killed leaves its file behind." in error.value.hint


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("login-node", "missing port number in address 'login-node'"),
        ("tcp://", "missing port number"),
        ("tcp://[::1:8786", "invalid address"),
        ("tcp://127.0.0.1:999999", ""),
        ("http://127.0.0.1:8787", "unknown address scheme 'http'"),
        ("tls://127.0.0.1:{port}", "TLS"),
        ("no-such-host.invalid:8786", ""),
    ],
)
def test_what_is_no_address_is_refused(address: str, fault: str) -> None:
    """Each with what is wrong with it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        message = refused(address.format(port=listener.getsockname()[1]))
    assert message.startswith("--dask: ")
    assert fault in message


class _Silent(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def web_port() -> Iterator[int]:
    """A web server, such as Dask's dashboard is one."""
    with HTTPServer(("127.0.0.1", 0), _Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_what_accepts_and_is_no_scheduler_is_not_waited_for(
    web_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that says nothing, and a web server: Dask's own client would wait for ever."""
    monkeypatch.setattr(dask_client, "ANSWER_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert f"--dask: {address} does not answer within 0.5 seconds" == refused(address)
    assert f"--dask: tcp://127.0.0.1:{web_port} " in refused(f"tcp://127.0.0.1:{web_port}")


def test_without_dask_the_command_says_what_to_install(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing has run."""
    project.flow("fit", "pass")
    project.config("flows/fit/a.json")
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = project.cli("run", "--dask", "tcp://127.0.0.1:8786", "fit")
    assert 2 == done.exit_code
    assert "--dask needs the package distributed" in done.stderr
    assert 'pip install "pytest-ductaflow[dask]"' in done.stderr
    assert not (project.root / "runs").exists()


def test_jobs_are_for_this_machine(project: TinyProject) -> None:
    """`-j` beside `--dask` is an error that says who decides there."""
    done = project.cli("run", "--dask", "tcp://127.0.0.1:8786", "-j", "2", "fit")
    assert 2 == done.exit_code
    assert (
        "-j is for this machine; with --dask a worker runs as many at a time as it has threads" in done.stderr
    )
