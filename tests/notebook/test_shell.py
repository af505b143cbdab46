"""The shell looks like a kernel's to what asks, and shows errors as a kernel does."""

from __future__ import annotations

import json

import pytest
from support import TinyProject

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]


def test_the_shell_is_that_of_a_kernel(project: TinyProject) -> None:
    """By module and name, as libraries ask; so pandas knows that it is in a notebook."""
    result = project.run_code(
        """
        # %%
        shell = type(get_ipython())
        assert (shell.__module__, shell.__qualname__) == ("ipykernel.zmqshell", "ZMQInteractiveShell")
        leave = type(exit)
        assert (leave.__module__, leave.__qualname__) == ("IPython.core.autocall", "ZMQExitAutocall")
        from pandas.io.formats.console import in_ipython_frontend
        assert in_ipython_frontend()
        """
    )
    assert "success" == str(result.status), result.message


def test_dill_saves_the_state_of_a_flow(project: TinyProject) -> None:
    """It leaves out what is of the shell."""
    pytest.importorskip("dill")
    code = "# %%\nimport dill\nx = 1\ndill.dump_module('s.pkl')\n# %%\nimport os\n"
    result = project.run_code(code + "assert os.path.getsize('s.pkl') > 0\n")
    assert "success" == str(result.status), result.message


@pytest.mark.parametrize("engine", ["warm", "fresh"])
def test_figures_of_plotly(project: TinyProject, engine: str) -> None:
    """Notebook and page show them, and the notebook does not hold plotly itself."""
    pytest.importorskip("plotly")
    code = "# %%\nimport plotly.graph_objects as go\ngo.Figure(go.Scatter(y=[1, 2])).show()\n"
    result = project.run_code(code, engine=engine, export_html=True)
    folder = project.folder("fit", "a")
    outputs = json.loads((folder / "fit.ipynb").read_text())["cells"][-1]["outputs"]
    kinds = {kind for output in outputs for kind in output.get("data", {})}

    assert "success" == str(result.status)
    assert {"application/vnd.plotly.v1+json", "text/html"} <= kinds
    assert (folder / "fit.ipynb").stat().st_size < 200_000
    assert "plotly-graph-div" in (folder / "fit.html").read_text(encoding="utf-8")


def test_store(project: TinyProject) -> None:
    """`%store` keeps a variable."""
    result = project.run_code("# %%\nv = 5\n# %store v\n# %%\ndel v\n# %store -r v\nassert v == 5\n")
    assert "success" == str(result.status), result.message


@pytest.mark.parametrize("engine", ["warm", "fresh", "kernel"])
def test_pdb_on_hides_no_cause(project: TinyProject, engine: str) -> None:
    """The first exception of the cell is the cause, not that nobody is there to debug it."""
    result = project.run_code("# %%\n# %pdb on\n# %%\n1 / 0\n", engine=engine)

    assert "flows/fit.py:7: ZeroDivisionError: division by zero" == result.message
    assert result.failure is not None
    assert 7 == result.failure.line


SHOWN = {
    "a widget": "import ipywidgets\nwith ipywidgets.Output():\n    raise ValueError('x')",
    "the flow": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()",
    "%tb": "import sys\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n    sys.last_value = e\n"
    "    sys.last_type, sys.last_traceback = type(e), e.__traceback__\n# %tb",
    "traceback": "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()",
}


@pytest.mark.parametrize("name", SHOWN)
def test_an_error_that_a_flow_shows_itself_is_no_failure(project: TinyProject, name: str) -> None:
    """A widget swallows it in a kernel; the run goes on, and the notebook has no mark of an error."""
    result = project.run_code(f"# %%\n{SHOWN[name]}\nopen('on', 'w')\n# %%\nopen('later', 'w')\n")
    folder = project.folder("fit", "a")

    assert ("success", 3) == (str(result.status), result.cells.run)
    assert (folder / "later").exists()
    assert "papermill-error-cell" not in (folder / "fit.ipynb").read_text()


@pytest.mark.parametrize("engine", ["warm", "kernel"])
@pytest.mark.parametrize("code", ["# %%time\n1 / 0", "# %run bad.py"])
def test_an_error_that_ipython_only_shows_is_a_failure(project: TinyProject, engine: str, code: str) -> None:
    """`%run` and `%%time` raise nothing: IPython shows the error and goes on."""
    result = project.run_code(
        f"# %%\nwith open('bad.py', 'w') as file:\n    file.write('1 / 0')\n# %%\n{code}\n# %%\n"
        "open('later', 'w')\n",
        engine=engine,
    )

    assert ("error", "exception") == (str(result.status), result.cause)
    assert "ZeroDivisionError" in result.message
    assert not (project.folder("fit", "a") / "later").exists()


def test_the_first_error_of_a_cell_is_the_cause(project: TinyProject) -> None:
    """What is shown before, by the flow itself, is not the cause."""
    result = project.run_code(
        "# %%\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    get_ipython().showtraceback()\n{}['key']\n"
    )
    assert "flows/fit.py:9: KeyError: 'key'" == result.message
