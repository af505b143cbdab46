"""The engine `kernel`: how a kernel ends, and kernels of other languages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import find_kernel_specs
from support import TinyProject, files_below

from ductaflow.store.result import FlowFailed, Result

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]
needs_r = pytest.mark.skipif(
    "ir" not in find_kernel_specs(),
    reason="needs the R kernel: apt-get install r-base-core r-cran-irkernel",
)
#: What the result says of an end, without what differs between engines.
End = tuple[str, str | None, int | None, int, str]


def run(project: TinyProject, id: str) -> Result:
    """Run a stored instance; return its result, failed or not."""
    try:
        return project.run(id)
    except FlowFailed as failed:
        return failed.result


def end(result: Result) -> End:
    message = re.sub(r" \(line \d+\)", "", result.message)
    return str(result.status), result.cause, result.exit_code, result.cells.run, message


ENDS = {
    "three": "exit(3)",
    "clean": "exit()",
    "zero": "quit(0)",
    "system": "import sys; sys.exit(4)",
    "false": "raise SystemExit(False)",
    "text": "quit('no input')",
    "deep": "def leave():\n    for _ in range(3):\n        exit(2)\nleave()",
    "caught": "try:\n    exit(3)\nexcept SystemExit:\n    print('goes on')",
}


@pytest.mark.parametrize("name", ENDS)
def test_an_exit_in_a_kernel_ends_the_run_as_on_the_warm_engine(project: TinyProject, name: str) -> None:
    """Status, cause, exit code and cells agree; the rest of the cell and later cells do not run."""
    project.flow("fit", f"# %%\n{ENDS[name]}\nopen('rest', 'w')\n# %%\nopen('after', 'w')\n")
    for engine in ("warm", "kernel"):
        project.config(f"flows/fit/{engine}.json", _run={"engine": engine})
    warm, kernel = (run(project, f"fit/{engine}") for engine in ("warm", "kernel"))

    assert end(warm) == end(kernel)
    written = {"rest", "after"} if name == "caught" else set()
    assert written == {"rest", "after"} & files_below(project.folder("fit", "kernel"))


def test_an_exit_in_the_last_cell_is_a_success(project: TinyProject) -> None:
    """A flow may end with `exit()`, in a kernel too."""
    project.flow("fit", "# %%\nexit()\n")
    project.config("flows/fit/a.json", _run={"engine": "kernel"})

    assert ("success", None, 0, 2, "") == end(run(project, "fit/a"))


def test_a_kernel_that_ends_its_process(project: TinyProject) -> None:
    """The exit code of a kernel's process is that of the run."""
    project.flow("fit", "# %%\nimport os\nos._exit(4)\n# %%\nopen('after', 'w')\n")
    project.config("flows/fit/a.json", _run={"engine": "kernel"})
    result = run(project, "fit/a")

    assert ("error", "exit", 4) == (str(result.status), result.cause, result.exit_code)
    assert "the kernel ended with exit code 4" in result.message


def test_a_cell_that_may_raise_may_exit(project: TinyProject) -> None:
    """The tag `raises-exception` allows an exit, on both engines."""
    project.flow("fit", "# %% tags=['raises-exception']\nimport sys\nsys.exit(3)\n# %%\nopen('x', 'w')\n")
    for engine in ("warm", "kernel"):
        project.config(f"flows/fit/{engine}.json", _run={"engine": engine})
        result = run(project, f"fit/{engine}")

        assert ("success", 3) == (str(result.status), result.cells.run), engine


# --- R -----------------------------------------------------------------------------------------------------


def r_flow(project: TinyProject, *cells: str, name: str = "fit", first: str = "config <- list()") -> Path:
    """An R notebook whose first cell is tagged `parameters`."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    notebook.cells = [nbformat.v4.new_code_cell(code) for code in (first, *cells)]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    source = project.root / "flows" / f"{name}.ipynb"
    source.write_text(nbformat.writes(notebook), encoding="utf-8")
    return source


R_ENDS: dict[str, End] = {
    "quit(status = 3)": ("error", "exit", 3, 1, "sys.exit(3) in cell 2 of 3"),
    "q('no', 2)": ("error", "exit", 2, 1, "sys.exit(2) in cell 2 of 3"),
    "base::quit(status = 5)": ("error", "exit", 5, 1, "sys.exit(5) in cell 2 of 3"),
    "if (config$n > 0) quit()": ("warning", None, 0, 1, "stopped early at cell 2 of 3"),
}


@needs_r
@pytest.mark.parametrize("code", R_ENDS)
def test_quit_in_r(project: TinyProject, code: str) -> None:
    """`quit(status=n)` ends an R flow with that status; nothing after it runs."""
    r_flow(project, f"{code}\nfile.create('rest')", "file.create('after')")
    project.config("flows/fit/a.json", n=1)

    assert R_ENDS[code] == end(run(project, "fit/a"))
    assert not {"rest", "after"} & files_below(project.folder("fit", "a"))


@needs_r
@pytest.mark.parametrize("first", ["config <- list()", "config = list()", "x <- 1\nconfig <<- NULL"])
def test_an_r_flow_is_a_success(project: TinyProject, first: str) -> None:
    """Its notebook names the kernel; that is enough to choose the engine, and the config arrives."""
    r_flow(project, "writeLines(as.character(config$n), 'n.txt')", first=first)
    project.config("flows/fit/a.json", n=7)

    assert ("success", None, 0, 2, "") == end(run(project, "fit/a"))
    assert "7\n" == (project.folder("fit", "a") / "n.txt").read_text()


@needs_r
def test_the_kernel_of_a_config_chooses_the_engine(project: TinyProject) -> None:
    """`_run.kernel: "ir"` alone runs a notebook that names no kernel."""
    source = r_flow(project, "cat(R.version$language)")
    notebook = json.loads(source.read_text())
    del notebook["metadata"]["kernelspec"]
    source.write_text(json.dumps(notebook))
    project.config("flows/fit/a.json", _run={"kernel": "ir"})

    assert ("success", None, 0, 2, "") == end(run(project, "fit/a"))


@needs_r
def test_an_r_flow_that_loses_its_config(project: TinyProject) -> None:
    """The parameters cell of an R flow is checked by the rules of R."""
    r_flow(project, "1", first="settings <- list()")
    project.config("flows/fit/a.json", n=7)
    result = run(project, "fit/a")

    assert "warning" == str(result.status)
    assert "does not assign `config`" in result.warnings[0].text
    assert "None" not in result.warnings[0].text


@needs_r
def test_an_engine_that_is_asked_for_stays(project: TinyProject) -> None:
    """An R kernel on the engine `warm` is an error with the way out."""
    r_flow(project, "1")
    project.config("flows/fit/a.json", _run={"engine": "warm"})
    result = run(project, "fit/a")

    assert ("error", "exception") == (str(result.status), result.cause)
    assert "the kernel 'ir' is for R" in result.message
