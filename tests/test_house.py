"""The house of the design: packages on floors, imports only downwards, and a light asking process.

`python tests/test_house.py` prints the figures of the house.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

#: Ground floor first. A package imports only from lower floors. `ductaflow` is the modules in its own folder.
FLOORS = (
    ("ductaflow.common",),
    ("ductaflow.comparison", "ductaflow.notebook", "ductaflow.project"),
    ("ductaflow.store",),
    ("ductaflow.execution", "ductaflow.report"),
    ("ductaflow.session",),
    ("ductaflow", "ductaflow.cli", "pytest_ductaflow"),
)
FLOOR_OF = {package: number for number, floor in enumerate(FLOORS) for package in floor}
#: Arrows on the highest floor: `python -m ductaflow` starts the command line.
ON_ONE_FLOOR = {("ductaflow", "ductaflow.cli")}


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the source by its dotted name; not the templates, which are no code of ours."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if "templates" not in parts:
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax of a file, which many tests look at."""
    return ast.parse(path.read_text(encoding="utf-8"))


def package_of(module: str) -> str:
    """The package that a module belongs to."""
    parts = module.split(".")
    if parts[0] == "pytest_ductaflow":
        return parts[0]
    name = ".".join(parts[:2])
    return name if name in FLOOR_OF and (SOURCE / Path(*parts[:2])).is_dir() else parts[0]


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of ours that a file imports, inside functions and for type checkers too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known or node.module in known:
                    yield whole if whole in known else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


@functools.cache
def edges() -> set[tuple[str, str]]:
    """Who imports whom, module by module."""
    known = modules()
    return {
        (module, other)
        for module, path in known.items()
        for other in imported(path, known)
        if other != module
    }


def arrows() -> Counter[tuple[str, str]]:
    """Who imports whom, package by package, with the number of imports of modules."""
    between = Counter((package_of(module), package_of(other)) for module, other in edges())
    return Counter({arrow: count for arrow, count in between.items() if arrow[0] != arrow[1]})


def circle() -> list[str]:
    """A circle of module imports, typing included; empty if there is none."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for module, other in edges():
        # The face re-exports all of them lazily, for type checkers.
        if module != "ductaflow":
            sorter.add(module, other)
    try:
        sorter.prepare()
    except CycleError as exc:
        return list(exc.args[1])
    return []


def test_packages_import_only_from_lower_floors() -> None:
    """Every package has its floor, and no import, lazy or typing ones included, goes up or stays on it."""
    assert set(FLOOR_OF) == {package_of(module) for module in modules()}
    wrong = [
        f"{package} imports {other}"
        for package, other in arrows()
        if FLOOR_OF[other] >= FLOOR_OF[package] and (package, other) not in ON_ONE_FLOOR
    ]
    assert [] == wrong


def test_modules_import_in_no_circle() -> None:
    """No two modules need each other, not even for type checkers."""
    assert [] == circle()


def test_the_root_folder_stays_small() -> None:
    """What lies in the root of the package is what people call; everything else has a package."""
    assert ["__init__.py", "__main__.py", "flow.py", "script.py"] == sorted(
        path.name for path in (SOURCE / "ductaflow").glob("*.py")
    )


def test_names_are_given_once() -> None:
    """No two modules and no two public classes share a name."""
    names = Counter(module.rpartition(".")[2] for module in modules())
    classes = Counter(
        node.name
        for path in modules().values()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [] == [name for name, count in [*names.items(), *classes.items()] if count > 1]


def test_the_core_does_not_know_the_plugin_or_pytest() -> None:
    """The core runs without pytest."""
    for module, path in modules().items():
        if package_of(module) == "pytest_ductaflow":
            continue
        names = {
            name.split(".")[0]
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
        }
        assert not names & {"pytest", "_pytest", "xdist", "pytest_ductaflow"}, path


#: Names that begin with an underscore and are documented all the same.
DOCUMENTED = {"_exit", "_getframe", "_fields", "_replace"}


def private_of_others(path: Path) -> set[str]:
    """Private attributes that a module uses and does not define itself."""
    tree = tree_of(path)
    used, own = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            (used if isinstance(node.ctx, ast.Load) else own).add(node.attr)
            if isinstance(node.ctx, ast.Store) and not isinstance(node.value, ast.Name):
                used.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    return {name for name in used - own - DOCUMENTED if re.match(r"_[a-z]", name)}


def overridden(module: str, path: Path) -> set[str]:
    """Private methods of other packages' classes that a module's classes override."""
    found = set()
    for node in tree_of(path).body:
        if not isinstance(node, ast.ClassDef) or not node.bases:
            continue
        bases = getattr(importlib.import_module(module), node.name).__mro__[1:]
        foreign = [
            base for base in bases if not base.__module__.startswith(("ductaflow", "pytest_ductaflow"))
        ]
        names = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
        found |= {
            name for name in names if re.match(r"_[a-z]", name) and any(name in vars(b) for b in foreign)
        }
    return found


def test_private_parts_of_other_packages_have_one_module_each() -> None:
    """What other packages call private is used in modules named `..._hooks`, whose tests name each part."""
    wrong = {
        module: sorted(names)
        for module, path in modules().items()
        if not module.endswith("_hooks")
        and (
            names := private_of_others(path) | (overridden(module, path) if module != "ductaflow" else set())
        )
    }
    assert {} == wrong


#: What only `common/paths.py` spells: it is asked for everything else.
NAMES_OF_OURS = re.compile(
    r"_config\.json|execution_output\.txt|result\.json|status_report\.(html|json)|^\.ductaflow|^runs$"
)


def literals(tree: ast.AST) -> Iterator[str]:
    """The strings of a module, documentation left out."""
    alone = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    documentation = {id(value) for value in alone if isinstance(value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def test_one_module_spells_folder_and_file_names() -> None:
    """A name of ours stands in `common/paths.py` alone, so that it can be changed, and asked by place."""
    found = [
        f"{module}: {text}"
        for module, path in modules().items()
        for text in literals(tree_of(path))
        if NAMES_OF_OURS.search(text) and module != "ductaflow.common.paths"
    ]
    assert [] == found


HEAVY = ["papermill", "IPython", "jupytext", "pandas", "nbconvert", "nbformat", "jinja2", "psutil", "asyncio"]


ASKING = ["ductaflow", "ductaflow.session.runner", "ductaflow.script", "pytest_ductaflow.items"]


@pytest.mark.parametrize("module", [*ASKING, "ductaflow.execution.server"])
def test_the_asking_process_stays_light(module: str) -> None:
    """Who asks for a run imports nothing that only the child needs, nor the server before it looks at it."""
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


def figures() -> Iterator[str]:
    """The figures of the house, one a line."""
    paths = list(modules().values())
    core = [path for path in paths if "pytest_ductaflow" not in path.parts]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    told = sum(len(re.findall(r"\bAny\b", path.read_text(encoding="utf-8"))) for path in core)
    yield f"Python files directly in src/ductaflow: {len(list((SOURCE / 'ductaflow').glob('*.py')))}"
    yield f"modules: {len(paths)}; imports between modules: {len(edges())}"
    yield f"arrows between packages: {len(arrows())}; imports along them: {sum(arrows().values())}"
    yield f"circles: {circle() or 'none'}; floors: {len(FLOORS)}"
    yield f"lines of src: {sum(lines.values())}"
    yield f"Any per 1,000 lines of the core: {1000 * told / sum(lines[path] for path in core):.1f}"


if __name__ == "__main__":
    print(*figures(), sep="\n")
    for (package, other), count in sorted(arrows().items()):
        print(f"  {package} -> {other}: {count}")
