"""Engines and file systems that other packages provide for papermill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENGINE = """
import sys
assert "papermill.iorw" in sys.modules
class Engine:
    pass
class Handler:
    @classmethod
    def read(cls, path):
        return "read " + path
"""
LOOKS = """
import sys
from ductaflow.notebook.papermill_hooks import known, load_papermill
load_papermill()
load_papermill()
import papermill
from papermill.engines import papermill_engines
from papermill.iorw import papermill_io
print(sorted(map(str, known(papermill_engines))), "foreign" in sys.modules)
print(papermill_engines.get_engine("ductaflow").__name__, "foreign" in sys.modules)
print({})
print("foreign" in sys.modules)
"""


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("papermill_engines.get_engine('other').__name__", "Engine"),
        ("papermill_io.read('other://x.ipynb')", "read other://x.ipynb"),
    ],
)
def test_they_are_imported_when_somebody_asks(tmp_path: Path, asked: str, found: str) -> None:
    """Importing papermill imports none of them; a flow that uses one finds it."""
    (tmp_path / "foreign.py").write_text(ENGINE)
    (tmp_path / "foreign-1.dist-info").mkdir()
    (tmp_path / "foreign-1.dist-info" / "METADATA").write_text("Name: foreign\nVersion: 1\n")
    (tmp_path / "foreign-1.dist-info" / "entry_points.txt").write_text(
        "[papermill.engine]\nother = foreign:Engine\n[papermill.io]\nother://=foreign:Handler\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{LOOKS.format(asked)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert ["['None', 'ductaflow', 'nbclient'] False", "DuctaflowEngine False", found, "True"] == lines, done
