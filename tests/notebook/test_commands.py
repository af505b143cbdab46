"""Which comments of a `.py` notebook are commands."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from support import TinyProject, files_below
from traitlets.config import Config

from ductaflow.notebook.commands import MAGICS
from ductaflow.notebook.source import load_notebook

#: Shown to people at a prompt only.
AT_A_PROMPT = {
    "!",
    "clear",
    "connect_info",
    "ed",
    "edit",
    "less",
    "man",
    "more",
    "page",
    "quickref",
    "qtconsole",
}

COMMENTS = [
    "# rm data.csv",
    "# cd x",
    "# mkdir y",
    "# cat",
    "# ls -l",
    "# echo it",
    "#rm data.csv",
    "# %s of the total",
    "# %d items, %.1f",
    "#%s",
    "# %of the people",
    "# %%Timing of the whole",
    "# !important",
    "# !nosuchprogram --help",
    "# n = !nosuchprogram",
    "# share = %of",
    "# why?",
    "# ?why",
    "# !",
    "# %",
]


def cells(folder: Path, *code: str) -> list[str]:
    """The code cells of a percent notebook."""
    source = folder / "fit.py"
    source.write_text("".join(f"# %%\n{text}\n\n" for text in code), encoding="utf-8")
    return [cell.source for cell in load_notebook(source).cells]


@pytest.mark.parametrize("place", ["{}", "x = 1\n{}\ny = 2", "if 1:\n    {}\n    pass"])
@pytest.mark.parametrize("comment", COMMENTS)
def test_comments_stay_comments(tmp_path: Path, comment: str, place: str) -> None:
    """Whatever jupytext takes for a command: alone in a cell, among other lines, and indented."""
    assert [place.format(comment)] == cells(tmp_path, place.format(comment))


@pytest.mark.parametrize(
    "command",
    [
        "%time 1",
        "%matplotlib inline",
        "!echo hi",
        "!./run.sh",
        "x = !echo hi",
        "x = %pwd",
        "!cd /",
        "!!echo hi",
    ],
)
def test_what_jupytext_writes_is_a_command(tmp_path: Path, command: str) -> None:
    """Magics that IPython has, and programs that the machine has."""
    written = jupytext.writes(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"{command}\n# a comment")]),
        fmt="py:percent",
    )
    (tmp_path / "fit.py").write_text(written)
    found = [cell.source for cell in load_notebook(tmp_path / "fit.py").cells]

    assert [f"{command}\n# a comment"] == found


def test_commands_in_their_places(tmp_path: Path) -> None:
    """A cell magic begins a cell; a command is no part of an expression; it may go on in the next line."""
    assert ["%%time\n# rm x"] == cells(tmp_path, "# %%time\n# rm x")
    assert ["x = 1\n# %%time"] == cells(tmp_path, "x = 1\n# %%time")
    assert ["x = [\n    # %time 1\n    1,\n]"] == cells(tmp_path, "x = [\n    # %time 1\n    1,\n]")
    assert ["!echo a \\\n  b\n# rm x"] == cells(tmp_path, "# !echo a \\\n#   b\n# rm x")
    assert ["%%writefile x\nrm y"] == cells(tmp_path, "# %%writefile x\n# rm y")
    assert ['x = """\n# %time 1\n"""'] == cells(tmp_path, 'x = """\n# %time 1\n"""')


def test_magics_of_extensions(tmp_path: Path) -> None:
    """Where a notebook loads an extension, nobody knows its magics by name; `%s` is none even there."""
    load = "%load_ext sql"
    assert [load, "%sql select 1"] == cells(tmp_path, f"# {load}", "# %sql select 1")
    assert [load, "# %s of it"] == cells(tmp_path, f"# {load}", "# %s of it")
    assert ["# %sql select 1"] == cells(tmp_path, "# %sql select 1")


def test_all_magics_of_this_ipython_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A magic that a new IPython brings has to be named here."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    # It would open a database, and nobody closes it.
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    for extension in ("storemagic", "autoreload"):
        shell.run_line_magic("load_ext", extension)
    magics = shell.magics_manager.magics

    assert set() == {*magics["line"], *magics["cell"]} - MAGICS - AT_A_PROMPT


@pytest.mark.slow
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("engine", ["warm", "fresh", "kernel"])
def test_a_comment_removes_no_file(project: TinyProject, engine: str) -> None:
    """`# rm data.csv` is a comment on every engine, as it is for `python flow.py`."""
    project.flow(
        "fit",
        """
        # %%
        open("data.csv", "w").write("precious")
        # %%
        # rm data.csv
        # %%
        # cd /
        x = 1
        # mkdir folder
        # %s of the total
        # !important
        # %%
        # !echo one > made.txt
        """,
    )
    project.config("flows/fit/a.json", _run={"engine": engine})

    assert "success" == str(project.run("fit/a").status)
    there = files_below(project.folder("fit", "a"))
    assert {"data.csv", "made.txt"} == there & {"data.csv", "made.txt", "folder"}
