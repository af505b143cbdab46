"""A flow with an `.ipynb` beside its `.py`: which one runs is said once, and whether they agree."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jupytext
from support import TinyProject

CODE = """
# %%
# %time print(1)
# !ls

# %% [markdown]
# # Text

# %% tags=["raises-exception"]
x = {'a': "b"}  # a comment
"""
HEADER = "# ---\n# jupyter:\n#   jupytext:\n#     formats: {formats}\n# ---\n\n"


def paired(project: TinyProject, name: str = "fit", header: str = "") -> tuple[Path, Path]:
    """A flow, and beside it the notebook that jupytext makes of it; the notebook is older."""
    script = project.flow(name, CODE)
    script.write_text(header + script.read_text())
    notebook = script.with_suffix(".ipynb")
    jupytext.write(jupytext.read(script, fmt="py:percent"), notebook)
    os.utime(notebook, ns=(1, 1))
    project.config(f"flows/{name}/a.json")
    return script, notebook


def said(project: TinyProject) -> list[str]:
    return [line for line in project.output("plan").splitlines() if ".ipynb" in line]


def test_a_pair_with_the_same_code_is_said_once(project: TinyProject) -> None:
    """One line for all; magics, tags and markdown are the same in both."""
    paired(project)
    assert ["flows/fit.py runs; the .ipynb beside it has the same code"] == said(project)
    paired(project, "prep")
    assert ["flows/fit.py, flows/prep.py run; the .ipynb beside each has the same code"] == said(project)


def edit(notebook: Path) -> None:
    """As a person does in Jupyter."""
    notebook.write_text(notebook.read_text().replace("print(1)", "print(2)"))


def test_a_pair_with_other_code_says_which_runs_and_what_to_do(project: TinyProject) -> None:
    """`jupytext --sync` brings together what is paired in the header, or in the notebook."""
    script, notebook = paired(project, header=HEADER.format(formats="ipynb,py:percent"))
    edit(notebook)
    line = "flows/fit.py runs; fit.ipynb beside it has other code and is newer: jupytext --sync flows/fit.py"
    assert [line] == said(project)
    os.utime(notebook, ns=(1, 1))
    assert [line.replace(" and is newer", "")] == said(project)
    script.write_text(script.read_text().replace("ipynb,py:percent", "py:percent"))
    # what the notebook has in its metadata tells it as well
    assert [line.replace(" and is newer", "")] == said(project)


def test_two_sources_that_are_no_pair_are_not_to_be_synchronized(project: TinyProject) -> None:
    """jupytext would refuse that: one of them has to go."""
    _, notebook = paired(project)
    edit(notebook)
    assert ["flows/fit.py runs; fit.ipynb beside it has other code and is newer: remove one of them"] == said(
        project
    )


def test_the_script_runs_whatever_the_notebook_has(project: TinyProject) -> None:
    """Also where that is no notebook, or cannot be read."""
    _, notebook = paired(project)
    notebook.write_text("{")
    assert "success" == project.run("fit/a").status.value
    (line,) = said(project)
    assert "has other code" in line
    notebook.unlink()
    notebook.mkdir()
    assert ["flows/fit.ipynb: Is a directory"] == said(project)


def test_a_session_of_pytest_says_it_in_its_header(project: TinyProject) -> None:
    """Once, above what is collected; not where the notebook stands alone."""
    script, _ = paired(project)
    session = project.pytest("--ductaflow-no-html")
    assert 0 == session.code, session.out
    line = "ductaflow: flows/fit.py runs; the .ipynb beside it has the same code"
    assert 1 == session.out.count(line)
    assert session.out.index(line) < session.out.index("collected")
    script.unlink()
    assert [] == said(project)
    assert json.loads(project.output("list", "--json"))[0]["source"].endswith("fit.ipynb")
