"""Own code, wherever it is imported from: each run has it as it is, and depends on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import TinyProject, TinyPython

from ductaflow.execution import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform"),
]

FINDER = """
import importlib.machinery, importlib.util, sys
MAPPING = {mapping!r}
NAMESPACES = {{}}
class Finder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname in MAPPING:
            return importlib.util.spec_from_file_location(fullname, MAPPING[fullname] + "/__init__.py")
def install():
    sys.meta_path.append(Finder)
"""

Layout = Callable[[TinyPython, Path, Path], Path]


def src_layout(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """A line of a `.pth` file with the folder `src` of the project."""
    (python.packages / "__editable__.mine-0.1.pth").write_text(f"{root / 'src'}\n")
    return root / "src" / "mine" / "__init__.py"


def beside(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """The same, of a folder beside the project."""
    (python.packages / "mine.pth").write_text(f"{tmp_path / 'lib'}\n")
    return tmp_path / "lib" / "mine" / "__init__.py"


def finder(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """A finder, as setuptools writes it for layouts of any kind."""
    folder = tmp_path / "lib" / "python" / "mine"
    (python.packages / "__editable___mine_0_1_finder.py").write_text(
        FINDER.format(mapping={"mine": str(folder)})
    )
    line = "import __editable___mine_0_1_finder; __editable___mine_0_1_finder.install()\n"
    (python.packages / "__editable__.mine-0.1.pth").write_text(line)
    return folder / "__init__.py"


def metadata(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """A finder of another build tool: only the metadata of the installation name the source tree."""
    folder = tmp_path / "lib" / "mine"
    (python.packages / "_mine_loader.py").write_text(FINDER.format(mapping={"mine": str(folder)}))
    (python.packages / "mine-editable.pth").write_text("import _mine_loader; _mine_loader.install()\n")
    info = python.packages / "mine-0.1.dist-info"
    info.mkdir()
    url = f'{{"url": "{(tmp_path / "lib").as_uri()}", "dir_info": {{"editable": true}}}}'
    (info / "direct_url.json").write_text(url)
    return folder / "__init__.py"


def link(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """A symlink in `site-packages`, as of `flit install --symlink`."""
    folder = tmp_path / "lib" / "mine"
    folder.mkdir(parents=True)
    (python.packages / "mine").symlink_to(folder)
    return folder / "__init__.py"


def namespace(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """A namespace package, one part of it installed, the other one own."""
    python.package("mine.installed", "VALUE = 0\n")
    src_layout(python, root, tmp_path)
    (root / "src" / "mine").mkdir(parents=True)
    return root / "src" / "mine" / "part.py"


def environment(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """A folder of the project on PYTHONPATH."""
    return root / "src" / "mine.py"


def plugin(python: TinyPython, root: Path, tmp_path: Path) -> Path:
    """An installed package that imports own code, as plugins are."""
    python.package("host", "import mine\nVALUE = mine.VALUE\n")
    return src_layout(python, root, tmp_path)


IMPORTS = {namespace: "from mine import part as mine, installed", plugin: "import host as mine"}
CONDUCT = """
import sys
from pathlib import Path
import pandas as pd
from ductaflow import conduct
if __name__ == "__main__":
    for value in ("10", "11"):
        Path(sys.argv[1]).write_text(f"VALUE = {value}\\n")
        conduct(pd.DataFrame({"instance": ["a"]}), "fit", only_changed=sys.argv[2] == "changed")
        print("VALUE", Path("runs/fit/a/out.txt").read_text())
"""


LAYOUTS = (src_layout, beside, finder, metadata, link, namespace, environment, plugin)


@pytest.mark.parametrize(
    ("layout", "is_once"),
    [
        (src_layout, False),
        *((layout, True) for layout in LAYOUTS[1:]),
        *(pytest.param(layout, False, marks=pytest.mark.campaign) for layout in LAYOUTS[1:]),
    ],
)
def test_own_code_is_never_old(project: TinyProject, tmp_path: Path, layout: Layout, is_once: bool) -> None:
    """An edit between two calls of one process, and between two sessions, is in the next run."""
    root = project.root
    python = TinyPython(tmp_path / "venv")
    module = layout(python, root, tmp_path)
    module.parent.mkdir(parents=True, exist_ok=True)
    code = f"# %%\nfrom pathlib import Path\n{IMPORTS.get(layout, 'import mine')}\n"
    project.flow("fit", code + "Path('out.txt').write_text(str(mine.VALUE))\n")
    project.config("flows/fit/a.json", who="a")
    (root / "go.py").write_text(CONDUCT)
    path = {"PYTHONPATH": str(root / "src")} if layout is environment else {}
    for how in ("changed",) if is_once else ("all", "changed"):
        printed = python.run(root, "go.py", str(module), how, **path)
        assert ["10", "11"] == [
            line.split()[1] for line in printed.splitlines() if line.startswith("VALUE")
        ], printed

    def session() -> str:
        return python.run(
            root, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ductaflow", "--ductaflow-changed", **path
        )

    for value in ("20",) if is_once else ("20", "21"):
        module.write_text(f"VALUE = {value}\n")
        printed = session()
        assert value == (root / "runs/fit/a/out.txt").read_text(), printed
        assert "1 unchanged" in session()
