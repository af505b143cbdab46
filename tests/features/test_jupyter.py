"""A flow that is opened in JupyterLab through jupytext and run from top to bottom, by the API of Lab."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject, processes_of, wait_until

jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("jupyter_server")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

FLOW = """
# %%
import os
from ductaflow import is_notebook_execution, load_cli_config, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/fit.json", "Fit")

print("from", os.path.basename(os.getcwd()))
settings = unpack_config(config, "fit")

# %%
import tables

with open("out.txt", "w") as file:
    file.write(str(tables.double(settings["x"])))
"""
LOADS = 'from ductaflow import load_instance\n\nconfig = load_instance("fit/b")'


class Server:
    """A Jupyter server of a folder, with the contents manager that jupytext gives it."""

    def __init__(self, root: Path, own: Path) -> None:
        self._runtime = own / "runtime"
        self._runtime.mkdir(parents=True)
        folders = {f"JUPYTER_{name}_DIR": str(own / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        self.log = own / "log.txt"
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": "0",
            "ServerApp.root_dir": str(root),
            "ServerApp.allow_root": "True",
            "ServerApp.open_browser": "False",
            "ServerApp.disable_check_xsrf": "True",
            "IdentityProvider.token": "secret",
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "jupyter_server",
                    *(f"--{key}={value}" for key, value in options.items()),
                ],
                env={**os.environ, **folders, "IPYTHONDIR": str(own / "ipython")},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: "http://127.0.0.1" in self.log.read_text(), seconds=60)
        (info,) = self._runtime.glob("jpserver-*.json")
        self._url = json.loads(info.read_text())["url"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self._url}api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "token secret"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def open(self, path: str) -> Any:
        """The cells of a script, as Lab shows them."""
        return self.ask("GET", f"contents/{path}?type=notebook&content=1")["content"]

    def save(self, path: str, content: Any) -> None:
        self.ask("PUT", f"contents/{path}", {"type": "notebook", "format": "json", "content": content})

    def run_all(self, path: str, content: Any) -> list[str]:
        """Run the cells in a new kernel, as "Run All Cells" does; give what each shows, up to a failure."""
        asked = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
        session = self.ask("POST", "sessions", asked)
        file = self._runtime / f"kernel-{session['kernel']['id']}.json"
        wait_until(file.exists)
        client = jupyter_client.BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels(hb=False)
        shown: list[str] = []

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            shown[-1] += content.get("text", "") + "\n".join(content.get("traceback", ()))

        try:
            client.wait_for_ready(timeout=60)
            for cell in content["cells"]:
                if cell["cell_type"] == "code":
                    shown.append("")
                    reply = client.execute_interactive("".join(cell["source"]), output_hook=show, timeout=60)
                    if reply["content"]["status"] != "ok":
                        break
        finally:
            client.stop_channels()
            self.ask("DELETE", f"sessions/{session['id']}")
        return shown

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TinyProject, Server]]:
    """A project, and a server of its folder; both outlive a test."""
    folder = tmp_path_factory.mktemp("jupyter")
    project = TinyProject(folder / "project")
    project.flow("fit", FLOW)
    project.config("flows/fit/b.json", x=3)
    project.config("flows/fit/a.json", x=4)
    (project.root / "tables.py").write_text("def double(x):\n    return 2 * x\n")
    server = Server(project.root, folder / "own")
    try:
        yield project, server
    finally:
        server.close()
    wait_until(lambda: not processes_of(str(folder)))


def test_all_cells_run_from_a_fresh_start(place: tuple[TinyProject, Server]) -> None:
    """`load_instance` in the parameters cell: outputs in the run folder, and modules of the project import.

    Stored so, the flow is a flow: each run has its own config and folder, and no warning.
    """
    project, server = place
    content = server.open("flows/fit.py")
    (cell,) = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    cell["source"] = LOADS
    shown = server.run_all("flows/fit.py", content)
    assert 3 == len(shown), shown
    assert f"working directory: {project.folder('fit', 'b')}" in shown[0]
    assert '"x": 3' in shown[0]
    assert "from b\nfit: 2 variables" in shown[1]
    assert "6" == (project.folder("fit", "b") / "out.txt").read_text()
    assert {"fit.py"} == {path.name for path in (project.root / "flows").iterdir() if path.name[0] != "."}

    server.save("flows/fit.py", content)
    # what a person made by hand is no output of a run, and stays
    result = project.run("fit/a")
    assert ("success", ()) == (result.status.value, tuple(result.warnings))
    assert "8" == (project.folder("fit", "a") / "out.txt").read_text()
    log = (project.folder("fit", "a") / "fit_execution_output.txt").read_text()
    assert "load_instance: this is the run of fit/a, whose own config counts, not that of fit/b" in log
    assert "from a" in log
    assert "load_instance:" not in project.cli("run", "fit/b").stdout
    assert "6" == (project.folder("fit", "b") / "out.txt").read_text()


def test_an_empty_config_says_how_to_have_one(place: tuple[TinyProject, Server]) -> None:
    """The flow as it is stored, opened and run: the line above the error names an instance of it."""
    project, server = place
    project.flow("fit", FLOW)
    shown = server.run_all("flows/fit.py", server.open("flows/fit.py"))
    assert "from flows\nfit: 0 variables" in shown[1]
    assert "config = load_instance('fit/a'), then run all cells" in shown[1]
    assert "KeyError" in shown[2]


def test_to_save_in_jupyter_makes_nothing_run_again(place: tuple[TinyProject, Server]) -> None:
    """What jupytext writes besides the cells, a header and a checkpoint, is no change of the flow."""
    project, server = place
    project.flow("fit", FLOW)
    project.run("fit/a")
    content = server.open("flows/fit.py")
    content["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content["metadata"]["jupytext"].pop("notebook_metadata_filter", None)
    server.ask("POST", "contents/flows/fit.py/checkpoints")
    server.save("flows/fit.py", content)
    assert (project.root / "flows/.ipynb_checkpoints").is_dir()
    assert re.search("^# *kernelspec:", (project.root / "flows/fit.py").read_text(), re.MULTILINE)
    assert "fit/a is unchanged." in project.output("why", "fit/a")
    assert "fit/a\nfit/b\n" == project.output("list")
