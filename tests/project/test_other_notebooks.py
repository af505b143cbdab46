"""What stands where a flow belongs and is none is named, with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import TinyProject

from ductaflow import run_notebook
from ductaflow.common.errors import InstanceError
from ductaflow.project.other_notebooks import is_marimo

MARIMO = """
import marimo

__generated_with = "0.14.0"
app = marimo.App(width="medium")


@app.cell
def _():
    x = 1
    return (x,)


if __name__ == "__main__":
    app.run()
"""
CONVERT = "Convert it: jupytext --to ipynb flows/fit"
KINDS = {
    "fit.qmd": (
        "is a Quarto document",
        "Convert it: quarto convert flows/fit.qmd makes flows/fit.ipynb of it.",
    ),
    "fit.Rmd": ("is R Markdown", f"{CONVERT}.Rmd makes flows/fit.ipynb"),
    "fit.R": ("is a script in R", '"_run": {"kernel": "ir"}'),
    "fit.r": ("is a script in R", f"{CONVERT}.r makes flows/fit.ipynb"),
    "fit.jl": ("is a script in Julia", '"_run": {"kernel": "julia-'),
    "fit.m": ("is a script in MATLAB or Octave", f"{CONVERT}.m makes"),
    "fit.sh": ("is a script in bash", f"{CONVERT}.sh makes"),
    "fit.PY": ("ends in .PY, and a flow in .py", "Rename it to flows/fit.py."),
    "fit.Ipynb": ("ends in .Ipynb, and a flow in .ipynb", "Rename it to flows/fit.ipynb."),
    "fit.myst.md": ("has a name of two endings", "Rename it to flows/fit.md."),
    "fit.py": ("is a marimo notebook, whose cells see no config", "marimo export ipynb flows/fit.py"),
    # these may be anything
    "fit.sql": ("there is no flows/fit.py", "flows/fit.sql is not a notebook that can run. Convert it"),
    "fit.py~": ("there is no flows/fit.py", "flows/fit.py~ is not a notebook that can run."),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named(project: TinyProject, name: str) -> None:
    """One message for each instance, with file and remedy, before anything runs."""
    what, remedy = KINDS[name]
    (project.root / "flows" / name).write_text(MARIMO)
    project.config("flows/fit/a.json")
    done = project.cli("plan")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error")]
    assert ("" if "there is no" in what else f"flows/{name} ") + what in line
    assert remedy in line
    assert not (project.root / "runs").exists()


@pytest.mark.parametrize("name", ["fit.qmd", "fit.PY", "fit.py"])
def test_a_call_names_it_too(project: TinyProject, name: str) -> None:
    """`run_notebook` and a build that calls it."""
    file = project.root / "flows" / name
    file.write_text(MARIMO)
    with pytest.raises(InstanceError) as error:
        run_notebook(file, config={}, execution_dir=project.folder("fit", "a"))
    assert f"{file} {KINDS[name][0]}" in error.value.message
    assert error.value.hint


def test_what_lies_beside_a_flow_does_not_matter(project: TinyProject) -> None:
    """A document, a script, a copy by an editor, and a checkpoint of Jupyter, of a source or a config."""
    project.flow("fit", "print(1)\n")
    for name in KINDS.keys() - {"fit.py", "fit.PY"}:
        (project.root / "flows" / name).write_text(MARIMO)
    config = project.config("flows/fit/a.json")
    for folder, suffix in (
        (project.root / "flows", ".py"),
        (config.parent, ".json"),
        (config.parents[1], ".json"),
    ):
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints" / f"fit-checkpoint{suffix}").write_text("no JSON")
    assert "fit/a\n" == project.output("list")


@pytest.mark.parametrize(
    "text",
    [
        "import marimo\nprint(marimo.__version__)\n",
        f"# %%\ntext = '''{MARIMO}'''\n",
        MARIMO.replace("import marimo", "# import marimo"),
        "app = marimo.App()\n",
        "@app.cell\ndef f(): ...\n",
    ],
)
def test_a_flow_that_only_speaks_of_marimo_is_one(tmp_path: Path, text: str) -> None:
    """It imports it, holds the text of an app, or has an app of something else."""
    file = tmp_path / "fit.py"
    file.write_text(text)
    assert not is_marimo(file)
