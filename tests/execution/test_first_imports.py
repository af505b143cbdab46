"""Which imports of a flow may be done ahead of it."""

from __future__ import annotations

import pytest
from support import TinyProject

from ductaflow.execution.imports import first_imports, hidden_packages


def first(project: TinyProject, code: str) -> list[str]:
    source = project.flow("fit", f"# %%\n{code}\n")
    return list(first_imports(source, project.root))


def test_imports_of_installed_packages_in_order(project: TinyProject) -> None:
    """What the project has, the standard library and ductaflow itself are left to the flow."""
    (project.root / "own.py").touch()
    (project.root / "flows" / "beside.py").touch()
    code = """
import json, os.path
import numpy as np, pandas as pd
import matplotlib.pyplot as plt
import own
from beside import y
from psutil import Process, _common
"""
    expected = ["import numpy", "import pandas", "import matplotlib.pyplot"]
    assert [*expected, "from psutil import Process, _common"] == first(project, code)


def test_modules_of_the_project_are_followed(project: TinyProject) -> None:
    """What they import first comes in its place, of packages and relative imports too."""
    (project.root / "lib" / "sub").mkdir(parents=True)
    (project.root / "lib" / "__init__.py").write_text("import numpy\nfrom .sub import deep\n")
    (project.root / "lib" / "sub" / "__init__.py").write_text("from . import deep\nimport psutil\n")
    (project.root / "lib" / "sub" / "deep.py").write_text("from .. import sub\nimport pandas\n")
    expected = ["import numpy", "import pandas", "import psutil", "import click"]
    assert expected == first(project, "from lib.sub.deep import x\nimport click")


@pytest.mark.parametrize(
    "line",
    [
        "'''A text.'''",
        "x = 1; y, *z = [x, 2]",
        "config['x'] = config.get('y', 1) + len(config)",
        "from pathlib import Path; folder = Path('a') / 'b'",
        "import os; here = os.path.join(os.getcwd(), os.environ.get('X', ''))",
        "import sys; is_new = sys.version_info >= (3, 12)",
        "print('hello', [str(n) for n in range(3)])",
        "def f(x=1):\n    import pandas\n    return pandas",
        "class A:\n    x: int = 1",
        "if config:\n    import pandas",
        "try:\n    import pandas\nexcept ImportError:\n    pandas = None",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas",
        "from ductaflow import is_notebook_execution\nis_notebook_execution()",
        "for n in range(3):\n    print(n)",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import pandas",
        "f = lambda frame: frame.sum()",
        "import logging; log = logging.getLogger(__name__)",
    ],
)
def test_statements_that_an_import_cannot_tell(project: TinyProject, line: str) -> None:
    """The walk goes on behind them; an import that may not be reached is none."""
    assert ["import click"] == first(project, f"{line}\nimport click")


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.environ['A'] = '1'",
        "import os; os.environ.update(A='1')",
        "import os; os.environ |= {'A': '1'}",
        "from os import environ as e; e['A'] = '1'",
        "from os import environ as e; e |= {'A': '1'}",
        "import os; put = os.putenv; put('A', '1')",
        "from dotenv import load_dotenv; load_dotenv()",
        "%env A=1",
        "# %env A=1",
        "!pip install click",
        "%%bash\nexport A=1",
        "import sys; sys.path.insert(0, 'lib')",
        "import sys; print('click' in sys.modules)",
        "import warnings; warnings.simplefilter('error')",
        "import random; random.seed(1)",
        "import socket; socket.setdefaulttimeout(1)",
        "import psutil; psutil.cpu_count()",
        "import psutil; count = psutil.cpu_count",
        "import psutil; print(psutil)",
        "import psutil; f = getattr(psutil, 'x', None)",
        "def f():\n    import psutil\nf()",
        "import own",
        "import not_installed_anywhere",
        "from . import own",
        "exec('x = 1')",
        "raise SystemExit",
        "if config:\n    import psutil\n    psutil.cpu_count()",
        "if config:\n    import own",
        "while True:\n    break",
        "await x",
        "x = open('x')",
        "import matplotlib_inline",
        "globals()['x'] = 1",
        "def (:",
    ],
)
def test_statements_that_end_the_walk(project: TinyProject, line: str) -> None:
    """What could tell, or could matter to an import, is the end."""
    (project.root / "own.py").write_text("import os\nos.environ['A'] = '1'\n")
    assert "import click" not in first(project, f"{line}\nimport click")


def test_cells_that_do_not_run(project: TinyProject) -> None:
    """What a notebook does not execute is not followed."""
    code = '# %% tags=["skip-execution"]\nimport pandas\n# %% [markdown]\n# import numpy\n# %%\nimport click'
    assert ["import click"] == first(project, code)


def test_a_notebook_and_a_text(project: TinyProject) -> None:
    """Flows in other formats are read too; what cannot be read has no first imports."""
    flows = project.root / "flows"
    (flows / "a.md").write_text("# A\n\n```python\nimport click\n```\n")
    cell = '{"cell_type": "code", "source": ["import click"], "metadata": {}, "outputs": []}'
    (flows / "a.ipynb").write_text(f'{{"cells": [{cell}], "metadata": {{}}}}')
    (flows / "broken.ipynb").write_text("{")
    (flows / "latin.py").write_bytes(b"# %%\nimport click # \xff\n")
    found = {name: first_imports(flows / name, project.root) for name in ("a.md", "a.ipynb")}
    assert {"a.md": ("import click",), "a.ipynb": ("import click",)} == found
    for name in ("broken.ipynb", "latin.py", "missing.py"):
        assert () == first_imports(flows / name, project.root)


def test_a_folder_that_becomes_a_package_hides_one(project: TinyProject) -> None:
    """In a process that has asked before, too; and without the file it is a folder again."""
    source = project.flow("fit", "# %%\nimport psutil, click\n")
    begins = project.root / "psutil" / "__init__.py"
    begins.parent.mkdir()
    for is_package in (False, True, False):
        if is_package:
            begins.write_text("import pandas\n")
        else:
            begins.unlink(missing_ok=True)
        assert (("psutil",) if is_package else ()) == hidden_packages(source, project.root)
        expected = ("import pandas",) if is_package else ("import psutil",)
        assert (*expected, "import click") == first_imports(source, project.root)


def test_a_module_that_was_not_there_is_followed(project: TinyProject) -> None:
    """In a folder that a flow imports from, whatever else lies there."""
    lib = project.root / "lib"
    lib.mkdir()
    (lib / "__init__.py").touch()
    source = project.flow("fit", "# %%\nfrom lib import late\nfrom lib.sub import x\nimport click\n")
    assert ("import click",) == first_imports(source, project.root)
    (lib / "late.py").write_text("import pandas\n")
    assert ("import pandas", "import click") == first_imports(source, project.root)
    (lib / "sub").mkdir()
    (lib / "sub" / "__init__.py").write_text("import psutil\n")
    assert ("import pandas", "import psutil", "import click") == first_imports(source, project.root)


def test_a_folder_that_cannot_be_listed_raises_nothing(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done ahead then, and the next time it is asked again."""
    source = project.flow("fit", "# %%\nimport psutil\n")

    def refused(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.glob", refused)
        assert () == first_imports(source, project.root) == hidden_packages(source, project.root)
    assert ("import psutil",) == first_imports(source, project.root)
