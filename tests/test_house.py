"""The house of the design: modules import downwards, and the asking process stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

#: Ground floor first; a module imports only from those before it.
HOUSE = [
    "actions",
    "errors",
    "layout",
    "result",
    "causes",
    "config",
    "spec",
    "instances",
    "durations",
    "graph",
    "diagram",
    "readiness",
    "processes",
    "folder",
    "verdict",
    "fingerprint",
    "hashes",
    "watch",
    "record",
    "lineage",
    "settings",
    "notebook",
    "capture",
    "shell",
    "manager",
    "engine",
    "kernel",
    "measuring",
    "child",
    "supervise",
    "imports",
    "warm",
    "server",
    "flow",
    "launch",
    "runner",
    "forecast",
    "inplace",
    "script",
    "saved",
    "again",
    "report",
    "turns",
    "worker",
    "cluster",
    "table",
    "conductor",
    "looking",
    "scaffold",
    "cli",
    "__main__",
]
#: The plugin stands on the core, and the core does not know it.
ANNEX = [
    "failure",
    "projects",
    "debugging",
    "github",
    "sharding",
    "baseline",
    "items",
    "scheduling",
    "warming",
    "stopping",
    "measuring",
    "summary",
    "artifact",
    "progress",
    "plugin",
]


def modules(package: str) -> dict[str, list[Path]]:
    """The files of each module or sub-package, `__init__.py` of the package left out."""
    found: dict[str, list[Path]] = {}
    for path in sorted((SOURCE / package).rglob("*.py")):
        name = path.relative_to(SOURCE / package).parts[0].removesuffix(".py")
        if name != "__init__":
            found.setdefault(name, []).append(path)
    return found


def executed_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from executed_nodes(node)


def imported(path: Path, package: str) -> set[str]:
    """Modules of a package that a file imports, inside of functions too."""
    names: set[str] = set()
    for node in executed_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == package:
                names |= {alias.name for alias in node.names}
            elif node.module.startswith(f"{package}."):
                names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.split(".")[1] for alias in node.names if alias.name.startswith(f"{package}.")
            }
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
    return names


@pytest.mark.parametrize(("package", "order"), [("ductaflow", HOUSE), ("pytest_ductaflow", ANNEX)])
def test_modules_import_only_downwards(package: str, order: list[str]) -> None:
    """Each module is in the list, and imports only from modules before it."""
    assert sorted(order) == sorted(modules(package))
    wrong = [
        f"{module} imports {other}"
        for module, paths in modules(package).items()
        for path in paths
        for other in imported(path, package)
        if other in order and order.index(other) > order.index(module)
    ]
    assert [] == wrong


def test_the_core_does_not_know_the_plugin_or_pytest() -> None:
    """The core runs without pytest."""
    for paths in modules("ductaflow").values():
        for path in paths:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {
                name.split(".")[0]
                for node in ast.walk(tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                )
            }
            assert not names & {"pytest", "_pytest", "xdist", "pytest_ductaflow"}, path


HEAVY = ["papermill", "IPython", "jupytext", "pandas", "nbconvert", "nbformat", "jinja2", "psutil", "asyncio"]


@pytest.mark.parametrize(
    "module", ["ductaflow", "ductaflow.runner", "ductaflow.script", "pytest_ductaflow.items"]
)
def test_the_asking_process_stays_light(module: str) -> None:
    """Who asks for a run imports nothing that only the child needs."""
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    assert loaded == "[]" or (module == "pytest_ductaflow.items" and loaded == "['asyncio']")


def test_the_plugin_is_free_without_its_flag() -> None:
    """Loading the plugin imports neither the core nor anything besides pytest and the standard library."""
    code = """
import sys, pytest, pytest_ductaflow.plugin
print([name for name in sys.modules if name.startswith('ductaflow')])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
