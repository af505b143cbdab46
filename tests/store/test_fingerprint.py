"""The hash of code: what changes it and what does not, and that it sees the cells that jupytext sees."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import warnings
from pathlib import Path

import jupytext
import nbformat
import pytest

from ductaflow.store import fingerprint
from ductaflow.store.fingerprint import code_hash, imported_names, module_hash

BASE = '''# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Title

# %% tags=["parameters"]
config = {}

# %% Load
import os  # comment
table = [1,
         2]

def f(a, *, b=None):
    """Doc."""
    return "a"
# %time f(1)
if table:
    # !ls
    pass

# %%
y = f(
    1
)
'''

BASH = "# %%\n# %%bash\n# # a comment\n# echo one\n\n# %%\nx = 1\n"


def code(text: str, suffix: str = ".py") -> str:
    return code_hash(text.encode(), suffix)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# comment", "# another"),
        ("  # comment", ""),
        ("# # Title", "# # Another title\n#\n# x = 1"),
        ("# %% [markdown]\n# # Title\n\n", ""),
        ("Doc.", "Another."),
        ('    """Doc."""\n', ""),
        ('"a"', "'a'"),
        ("f(\n    1\n)", "f(1)"),
        ("[1,\n         2]", "[1, 2]"),
        ("\n\n", "\n\n\n"),
        ("\n", "\r\n"),
        ("# %% Load", "# %% Read"),
        ("# %%\ny", "y"),
        ("# %%\ny", '# %% tags=["remove-input"]\ny'),
        ("def f", "# %%\ndef f"),
        ("display_name: Python 3", "display_name: My Python"),
    ],
)
def test_what_changes_nothing(old: str, new: str) -> None:
    """Comments, markdown, docstrings, layout, titles, and where one plain cell ends."""
    assert old in BASE
    assert code(BASE) == code(BASE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2]", "3]"),
        ("y = f", "z = f"),
        ("b=None", "b=0"),
        ('"a"', '"b"'),
        ('"a"', 'b"a"'),
        ("# %time f(1)", "# %timeit f(1)"),
        ("# %time f(1)\n", ""),
        ("# %time f(1)", "# time f(1)"),
        ("# %time f(1)", "# # %time f(1)"),
        ("# !ls", "# !ls -l"),
        ("# !ls", "# ls the files"),
        (' tags=["parameters"]', ""),
        ("# %% Load", '# %% Load tags=["raises-exception"]'),
        ("# %% Load", '# %% {"tags": ["skip-execution"]}'),
        ("# %% Load", '# %% language="bash"'),
        ("# %%\ny", "# %% [markdown]\ny"),
        ("name: python3", "name: ir"),
    ],
)
def test_what_changes_it(old: str, new: str) -> None:
    """Statements, magics, tags and options that change what is executed, the kernel."""
    assert old in BASE
    assert code(BASE) != code(BASE.replace(old, new))


def test_a_string_that_a_cell_shows_counts() -> None:
    """At its end it is no docstring but an output; elsewhere it is none, nor at the beginning of a file."""
    text = '"""Doc."""\n\n# %%\n"between"\nx = 1\n\n# %%\n"threshold 1"\n'
    assert code(text) != code(text.replace("threshold 1", "threshold 2"))
    assert code(text) == code(text.replace("Doc.", "Another.").replace("between", "amid"))
    assert code("```python\n'one'\n```\n", ".md") != code("```python\n'two'\n```\n", ".md")


def test_a_cell_in_another_language_counts_as_text() -> None:
    """`# %%bash` is a comment for Python, and code for a notebook."""
    assert code(BASH) != code(BASH.replace("one", "two"))
    assert code(BASH) != code(BASH.replace("# # a comment", "# a comment"))
    assert code(BASH) == code(BASH.replace("x = 1", "x = 1  # one"))


def test_a_marker_inside_a_string_is_part_of_it() -> None:
    """What looks like a cell or like a magic inside of quotes is text."""
    text = 'x = """\n# %% [markdown]\n# one\n"""\n'
    assert code(text) != code(text.replace("one", "two"))
    quoted = "x = '# %%'  # it's\n# %%\n# a comment\n"
    assert code(quoted) == code(quoted.replace("a comment", "none"))


def test_where_a_tagged_cell_ends_counts() -> None:
    """What stands in the cell that may fail is not executed after the failure."""
    text = '# %% tags=["raises-exception"]\na()\nb()\n# %%\nc()\n'
    assert code(text) != code(text.replace("b()\n# %%\n", "# %%\nb()\n"))


@pytest.mark.parametrize("text", ["x = (\n", "x = !ls\ny = \x00", "%time x\nfor\n", "# %%\nreturn\n  y"])
def test_what_is_no_python_counts_as_text(text: str) -> None:
    """Each change counts, and nothing is raised."""
    assert code(text) == code(text)
    assert code(text) != code(text + "z = 1\n")


def test_what_is_no_text_counts_as_bytes() -> None:
    """A source that is not UTF-8, and a notebook that is none."""
    assert code_hash(b"\xff\xfe1", ".py") != code_hash(b"\xff\xfe2", ".py")
    assert code_hash(b'{"cells": 1', ".ipynb") != code_hash(b'{"cells": 2', ".ipynb")
    assert code_hash(b"[]", ".ipynb") == code_hash(b"[]", ".ipynb")


def test_modules_count_by_their_syntax_tree() -> None:
    """Also with an encoding of their own; what is no Python, as text."""
    text = "# -*- coding: latin-1 -*-\nx = 'ä'  # one\n".encode("latin-1")
    assert module_hash(text) == module_hash(text.replace(b"one", b"two"))
    assert module_hash(text) != module_hash(text.replace(b"x =", b"y ="))
    assert module_hash(b"x = (  # one") != module_hash(b"x = (  # two")
    deep = b"x = " + b"-" * 5000 + b"1"
    assert module_hash(deep) != module_hash(deep + b"0")


def test_long_numbers_are_no_fault() -> None:
    """Python refuses to print an integer of more than 4,300 digits."""
    text = f"x = 0x{'f' * 6000}\n".encode()
    assert module_hash(text) != module_hash(text + b"y = 1")


def test_nothing_warns() -> None:
    """Where warnings are errors the hash is the same, and none gets out."""
    text = b"x = '\\d'  # one\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strict = module_hash(text)
    assert strict == module_hash(text.replace(b"one", b"two"))


@pytest.mark.parametrize(
    "text", [BASE, BASH, *(f"# %%\n{line}\n" for line in ("# x = %who", "# x = !ls", "# !ls"))]
)
def test_the_same_notebook_in_other_formats_is_the_same(text: str) -> None:
    """jupytext makes an `.ipynb` and a `.md` of a flow; their code is what ours is taken to be."""
    notebook = jupytext.reads(text, fmt="py:percent", as_version=4)
    as_notebook = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    assert code(text) == code(as_notebook, ".ipynb")
    if text != BASH:
        assert code(text) == code(jupytext.writes(notebook, fmt="md"), ".md")


@pytest.mark.parametrize("line", ["# rm data.csv", "# %s of the total", "# %%Timing", "# f?", "# ?f"])
def test_a_comment_that_looks_like_a_command_is_a_comment(line: str) -> None:
    """What is no command when the flow runs is none here."""
    assert code(f"# %%\nx = 1\n{line}\n") == code("# %%\nx = 1\n")


def test_text_of_a_markdown_flow_is_no_code() -> None:
    """Of a `.md` flow the fenced blocks with a language count."""
    text = "# Title\n\nsome text\n\n```python\nx = 1\n```\n\n```\nshown only\n```\n\n```bash\nls\n```\n"
    assert code(text, ".md") == code(text.replace("some", "more").replace("shown", "just"), ".md")
    assert code(text, ".md") != code(text.replace("x = 1", "x = 2"), ".md")
    assert code(text, ".md") != code(text.replace("\nls\n", "\nls -l\n"), ".md")


def test_our_own_sources_have_one_hash_each() -> None:
    """No two of some real files are the same, and each can be read."""
    files = (Path(__file__).parents[2] / "src").rglob("*.py")
    # Docstrings do not count, and the `__init__.py` of a package has nothing else.
    sources = {file.read_bytes() for file in files if len(ast.parse(file.read_bytes()).body) > 1}
    assert len({module_hash(source) for source in sources}) == len(sources)


# --- the same on every version of Python -------------------------------------------------------------------

#: What versions of Python parse or divide in their own ways.
PECULIAR = [
    'f"{x:<{w}}"',
    'f"{x:{w}.{p}}" "a" f"{y!r}b" "c"',
    'f"{x=}"',
    "x = " + " + ".join(["a"] * 1500),
    "x = " + " + ".join(["a"] * 5000),
    "x = a" + ".f()" * 2000,
    "class A:\n    'text'\n    def f(self, /, a, *, b): return -1",
    "match x:\n    case {'a': [1, *r]}: pass",
    "try:\n    pass\nexcept* E:\n    pass",
]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_hashes_are_alike_in_versions_of_python(version: str, tmp_path: Path) -> None:
    """A change of machine makes nothing run."""
    python = next(iter(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")), None)
    found = python or shutil.which(f"python{version}")
    if not found:
        pytest.skip(f"there is no Python {version} here")
    code = (
        "import json, sys; from ductaflow.store.fingerprint import module_hash\n"
        "print(json.dumps([module_hash(text.encode()) for text in json.load(sys.stdin)]))\n"
    )
    done = subprocess.run(
        [found, "-c", code],
        env={"PYTHONPATH": str(Path(fingerprint.__file__).parents[2])},
        input=json.dumps(PECULIAR),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [module_hash(source.encode()) for source in PECULIAR] == json.loads(done.stdout)


def test_code_that_is_too_deep_to_read_counts_as_text() -> None:
    """A comment in it counts then; it has a hash."""
    deep = "x = " + " + ".join(["a"] * 5000)
    assert module_hash(deep.encode()) != module_hash(f"{deep}  # why".encode())


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ('# %% tags=["active-ipynb"]\n# v = 2\n', '# %% tags=["active-ipynb"]\n# v = 3\n', False),
        ('# %% tags=["active-ipynb"]\n# v = 2\n', '# %% tags=["active-ipynb"]\n# v  =  2\n', True),
        ('# %% tags=["active-ipynb"]\n# v = 2\n', '# %% tags=["active-ipynb"]\n# # why\n# v = 2\n', True),
        ('# %% active="ipynb"\n# v = 2\n', '# %% active="ipynb"\n# v = 3\n', False),
        ("# %%\nv = 2\n", '# %% tags=["active-py"]\nv = 2\n', False),
        ("# %%\nv = 2\n", '# %% tags=["active-ipynb-py"]\nv = 2\n', False),
        ('# %% tags=["active-py-ipynb"]\nv = 2\n', '# %% tags=["active-ipynb-py"]\nv = 2\n', True),
        ('# %% tags=["active-ipynb-py"]\nv = 2\n', '# %% tags=["active-ipynb-py"]\nv = 3\n', False),
        ('# %% tags=["eye"]\n# v = 2\n', '# %% tags=["eye"]\n# v = 3\n', True),
    ],
)
def test_cells_that_jupytext_makes_active(before: str, after: str, is_same: bool) -> None:
    """A cell that is a comment in the `.py` is code in the notebook, which is what runs."""
    assert is_same == (code_hash(before.encode(), ".py") == code_hash(after.encode(), ".py"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a", {"a"}),
        ("import a.b as c, d", {"a", "d"}),
        ("    from a.b import (c)", {"a"}),
        ("x = 1; import a", {"a"}),
        ("# import a", {"a"}),
        ("from . import a", set()),
        ("from .a import b", set()),
        ("important = 1", set()),
    ],
)
def test_names_that_a_source_imports(text: str, names: set[str]) -> None:
    """In whatever form, of top-level modules."""
    assert names == imported_names(text.encode())
