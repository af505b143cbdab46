"""Which imports of a flow may be done ahead of it: those that it does first, in its own order.

A flow must not be able to tell that a package was imported already. So only its beginning counts, up to the
first statement that could tell, or that could matter to an import: a look into a package, a variable of the
environment, code of the project that runs. What stands under a condition may never be reached.

    import json                            goes on: everybody has the standard library
    import pandas as pd                    import pandas
    from helper import clean               what `helper`, a module of the project, imports first
    if not is_notebook_execution():        goes on; an import below it is left to the flow
        config = load_cli_config("...")
    pd.set_option("display.width", 100)    the end
    import seaborn                         left to the flow

Nothing is imported here, and `sys.modules` of this process does not count: it may be pytest's.
"""

from __future__ import annotations

import ast
import builtins
import functools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from ductaflow.common.files import Stamp, stamp_of
from ductaflow.common.own_code import is_own_code, is_own_package, source_trees
from ductaflow.store.fingerprint import cell_trees, module_tree
from ductaflow.store.spec import THREAD_VARIABLES

#: A source that is larger, in bytes, is not read ahead.
LARGEST_SOURCE = 1 << 20
#: So many characters of import statements are enough for one flow.
_MOST_TEXT = 1 << 14
#: Modules of the standard library that change nothing for others, whatever is called in them.
_HARMLESS_MODULES = frozenset(
    (
        *("__future__", "abc", "argparse", "collections", "contextlib", "copy", "csv", "dataclasses"),
        *("datetime", "ductaflow", "enum", "fractions", "functools", "itertools", "json", "math", "operator"),
        *("pathlib", "re", "statistics", "string", "textwrap", "time", "typing", "uuid"),
    )
)
#: Places in other modules that may be looked at or called.
_HARMLESS_PLACES = (
    *("os.path", "os.environ.get", "os.getenv", "os.getcwd", "os.cpu_count", "os.name", "os.sep"),
    *("sys.argv", "sys.version", "sys.version_info", "sys.platform", "sys.executable", "sys.maxsize"),
    *("logging.getLogger", "logging.DEBUG", "logging.INFO", "logging.WARNING", "logging.ERROR"),
)
_HARMLESS_BUILTINS = frozenset(
    (
        *("__doc__", "__file__", "__name__", "abs", "all", "any", "ascii", "bin", "chr", "divmod", "format"),
        *("hash", "hex", "id", "isinstance", "iter", "len", "max", "min", "next", "oct", "ord", "pow"),
        *("print", "repr", "round", "sorted", "sum"),
    )
)
_NAMES_THREADS = re.compile(rb"\b(?:%s)\b" % b"|".join(name.encode() for name in THREAD_VARIABLES))
#: Their import changes the shell, which has to happen in the flow.
_ACTS_ON_SHELL = frozenset({"matplotlib_inline", "pylab"})

#: What names stand for: nothing for a plain value, a dotted name for something of a known module. A name that
#: is missing stands for something that only running the code could tell.
Names = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Known:
    """What a walk has found, as long as the files and folders that it looked at are the same."""

    imports: tuple[str, ...]
    hides: tuple[str, ...]
    names_threads: bool
    stamps: dict[Path, Stamp | None]

    @property
    def is_current(self) -> bool:
        return all(_stamp(path) == stamp for path, stamp in self.stamps.items())


#: Of flows, by source and project: a session asks for each run.
_known: dict[tuple[Path, Path], _Known] = {}


def first_imports(source: Path, project_root: Path) -> tuple[str, ...]:
    """The imports of installed packages that a flow does first, as statements; in its order."""
    return _look(source, project_root).imports


def hidden_packages(source: Path, project_root: Path) -> tuple[str, ...]:
    """The installed packages that modules of the project hide from a flow, and from what it imports."""
    return _look(source, project_root).hides


def names_threads(source: Path, project_root: Path) -> bool:
    """Whether a flow, or what it imports first of the project, names a variable that limits threads."""
    return _look(source, project_root).names_threads


def _look(source: Path, project_root: Path) -> _Known:
    known = _known.get((source, project_root))
    if known is None or not known.is_current:
        walk = _Walk(source, project_root)
        try:
            walk.flow()
            hides = walk.hides()
        except OSError:
            # Nothing is done ahead. If the run cannot read it either, it says so.
            return _Known((), (), False, {})
        known = _known[source, project_root] = _Known(
            tuple(walk.found), hides, walk.names_threads, walk.stamps
        )
    return known


def _stamp(path: Path) -> Stamp | None:
    """The stamp of a file or folder; None if there is none."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return None


def _read(file: Path) -> bytes | None:
    """The text of a file; None of one that is too large, or that the run will complain about."""
    try:
        with file.open("rb") as source:
            raw = source.read(LARGEST_SOURCE + 1)
    except OSError:
        return None
    return raw if len(raw) <= LARGEST_SOURCE else None


class _Walk:
    """A walk through the statements of a flow and of the project's modules that it imports."""

    def __init__(self, source: Path, project_root: Path) -> None:
        self._source = source
        # An editable installation puts folders of the project on the path.
        own = (Path(entry) for entry in sys.path if is_own_code(entry, (str(project_root),)))
        self._roots = tuple(dict.fromkeys((source.parent, project_root, *own)))
        self._project_root = project_root
        #: Of the files that were read or looked for, and of folders in which a new one may hide a package.
        self.stamps = {path: _stamp(path) for path in (source, *self._roots)}
        #: The statements, each once.
        self.found: dict[str, None] = {}
        self.names_threads = False

    def hides(self) -> tuple[str, ...]:
        """Return the installed packages that have the name of a module of the project."""
        files = {path.stem for root in self._roots for path in root.glob("*.py")}
        own = {name for name in files if is_installed(name, self._project_root)}
        for folder in (path for root in self._roots for path in root.glob("[!.]*/")):
            if is_installed(folder.name, self._project_root):
                begins = folder / "__init__.py"
                # The folder is one like any while it has no such file.
                if self.stamps.setdefault(begins, _stamp(begins)):
                    own.add(folder.name)
        return tuple(sorted(own - {"__init__", self._source.stem}))

    def flow(self) -> None:
        """Walk through the flow."""
        raw = self._read(self._source)
        names: Names = {}
        trees = cell_trees(raw, self._source.suffix) if raw is not None else ()
        for tree in trees:
            if tree is None or not self.passes(tree.body, names, self._source):
                return

    def _read(self, file: Path) -> bytes | None:
        raw = _read(file)
        self.names_threads = self.names_threads or bool(raw and _NAMES_THREADS.search(raw))
        return raw

    def passes(self, body: Iterable[ast.stmt], names: Names, file: Path, *, maybe: bool = False) -> bool:
        """Whether the walk goes on behind some statements of a file; `maybe` if they may not be reached."""
        return all(self._passes(node, names, file, maybe) for node in body)

    def _passes(self, node: ast.stmt, names: Names, file: Path, maybe: bool) -> bool:
        match node:
            case ast.Import():
                return all(self._imports(alias, names, maybe) for alias in node.names)
            case ast.ImportFrom():
                return self._imports_from(node, names, file, maybe)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.pop(node.name, None)
                return True
            case ast.Pass() | ast.Global():
                return True
            case ast.Expr():
                return _is_plain(node.value, names)
            case ast.Assert():
                return _is_plain(node.test, names)
            case ast.Assign():
                return _is_plain(node.value, names) and all(_binds(target, names) for target in node.targets)
            case ast.AnnAssign():
                return (node.value is None or _is_plain(node.value, names)) and _binds(node.target, names)
            case ast.AugAssign():
                target = ast.unparse(node.target)
                is_plain = names.get(target) == "" or not target.isidentifier()
                return is_plain and _is_plain(node.value, names) and _is_plain(node.target, names)
            case ast.If():
                return _is_plain(node.test, names) and self._may_pass(node, names, file)
            case ast.For():
                is_plain = _is_plain(node.iter, names) and _binds(node.target, names)
                return is_plain and self._may_pass(node, names, file)
            case ast.With():
                return all(
                    _is_plain(item.context_expr, names)
                    and (item.optional_vars is None or _binds(item.optional_vars, names))
                    for item in node.items
                ) and self._may_pass(node, names, file)
            case ast.Try():
                return self._may_pass(node, names, file)
        return False

    def _may_pass(self, node: ast.stmt, names: Names, file: Path) -> bool:
        """Whether the walk goes on behind a statement of whose parts some may be reached."""
        bodies = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
        for handler in getattr(node, "handlers", ()):
            bodies.append(handler.body)
        return all(self.passes(body, names, file, maybe=True) for body in bodies)

    # --- imports --------------------------------------------------------------------------------------------

    def _imports(self, alias: ast.alias, names: Names, maybe: bool) -> bool:
        top = alias.name.partition(".")[0]
        bound = alias.asname or top
        names.pop(bound, None)
        if _is_known(top):
            names[bound] = alias.name if alias.asname else top
            return True
        return self._runs(f"import {alias.name}", alias.name, (), maybe)

    def _imports_from(self, node: ast.ImportFrom, names: Names, file: Path, maybe: bool) -> bool:
        taken = [alias.name for alias in node.names]
        for alias in node.names:
            names.pop(alias.asname or alias.name, None)
        if node.level:
            return self._runs_relative(node, taken, file, maybe)
        module = node.module or ""
        if _is_known(module.partition(".")[0]):
            names.update({alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names})
            return True
        return self._runs(f"from {module} import {', '.join(taken)}", module, taken, maybe)

    def _runs(self, statement: str, module: str, taken: Sequence[str], maybe: bool) -> bool:
        """Whether the walk goes on behind an import; one of an installed package is found by it."""
        top, *rest = module.split(".")
        if top == "__main__":
            return True
        for root in self._roots:
            files = (root / f"{top}.py", root / top / "__init__.py")
            if any(map(Path.is_file, files)):
                return self._runs_files(root, [top, *rest], taken, maybe)
            self.stamps.update(dict.fromkeys(files))
        if top in _ACTS_ON_SHELL or not is_installed(top, self._project_root):
            # Perhaps a folder of the project without an `__init__.py`; else the import fails.
            roots = [root for root in self._roots if (root / top).is_dir()]
            return bool(roots) and self._runs_files(roots[0], [top, *rest], taken, maybe)
        if not maybe:
            self.found[statement] = None
        return sum(map(len, self.found)) < _MOST_TEXT

    def _runs_relative(self, node: ast.ImportFrom, taken: Sequence[str], file: Path, maybe: bool) -> bool:
        # A flow is in no package.
        if file == self._source or node.level > len(file.parents):
            return False
        parts = node.module.split(".") if node.module else []
        return self._runs_files(file.parents[node.level - 1], parts, taken, maybe)

    def _runs_files(self, folder: Path, parts: Sequence[str], taken: Sequence[str], maybe: bool) -> bool:
        """Whether the walk goes on behind the import of a module of the project."""
        files = []
        for part in parts:
            files.append(folder / f"{part}.py")
            folder = folder / part
            files.append(folder / "__init__.py")
        files += [path for name in taken for path in (folder / f"{name}.py", folder / name / "__init__.py")]
        return all(self._runs_file(file, maybe) for file in files)

    def _runs_file(self, file: Path, maybe: bool) -> bool:
        if file in self.stamps:
            return True
        self.stamps[file] = _stamp(file)
        if not file.is_file():
            return True
        raw = self._read(file)
        tree = module_tree(raw) if raw is not None else None
        return tree is not None and self.passes(tree.body, {}, file, maybe=maybe)


def _is_known(top: str) -> bool:
    return top in sys.stdlib_module_names or top == "ductaflow"


@functools.cache
def is_installed(top: str, project_root: Path) -> bool:
    """Whether a top level module is found on the path of this process and is not own code."""
    folders = [entry for entry in sys.path if entry and not is_own_code(entry, (str(project_root),))]
    try:
        spec = PathFinder.find_spec(top, folders)
    except Exception:
        # Finders of others may raise anything. The import in the flow shows what it is.
        return False
    return spec is not None and not is_own_package(spec, (str(project_root), *source_trees()))


# --- expressions -------------------------------------------------------------------------------------------


def _is_plain(node: ast.AST, names: Mapping[str, str]) -> bool:
    """Whether an expression neither looks into a package nor runs code that could matter to an import."""
    bound = {
        one.id: "" for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
    }
    return _looks_plain(node, {**names, **bound} if bound else names)


def _looks_plain(node: ast.AST, names: Mapping[str, str]) -> bool:
    if isinstance(node, ast.Lambda):
        return True
    if isinstance(node, ast.Await | ast.Yield | ast.YieldFrom):
        return False
    if isinstance(node, ast.Attribute | ast.Name):
        root, *rest = _chain(node)
        if isinstance(root, ast.Name):
            return _is_harmless(root.id, rest, names)
        return _looks_plain(root, names)
    return all(_looks_plain(child, names) for child in ast.iter_child_nodes(node))


def _chain(node: ast.expr) -> tuple[ast.expr, *tuple[str, ...]]:
    """What `a.b.c` begins with, and the names behind it."""
    rest: list[str] = []
    while isinstance(node, ast.Attribute):
        rest.insert(0, node.attr)
        node = node.value
    return node, *rest


def _is_harmless(name: str, rest: Sequence[str], names: Mapping[str, str]) -> bool:
    stands_for = names.get(name)
    if stands_for is None:
        return name in _HARMLESS_BUILTINS or isinstance(getattr(builtins, name, None), type)
    dotted = ".".join(filter(None, [stands_for, *rest]))
    return (
        not stands_for
        or dotted.partition(".")[0] in _HARMLESS_MODULES
        or any(f"{dotted}.".startswith(f"{place}.") for place in _HARMLESS_PLACES)
    )


def _binds(target: ast.expr, names: Names) -> bool:
    """Give a name a plain value; whether that can be done without running anything."""
    if isinstance(target, ast.Name):
        names[target.id] = ""
        return True
    if isinstance(target, ast.Tuple | ast.List):
        return all(_binds(one, names) for one in target.elts)
    if isinstance(target, ast.Starred):
        return _binds(target.value, names)
    root, *_ = _chain(target.value if isinstance(target, ast.Subscript) else target)
    return isinstance(root, ast.Name) and names.get(root.id) == "" and _is_plain(target, names)
