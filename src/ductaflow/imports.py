"""What a flow imports, read from its source: for the warm server, which imports it before the flow does."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_IMPORT = re.compile(r"\s*(?:import\s+(?P<names>[\w., ]+)|from\s+(?P<module>\w[\w.]*)\s+import\s)")
_SETS_ENVIRONMENT = re.compile(
    r"\s*(?:(?:os\.)?environ\s*(?:\[[^]]*\]\s*=[^=]|\.(?:setdefault|update)\()|(?:os\.)?putenv\("
    # a magic is a comment in a percent notebook
    r"|(?:#\s*)?%(?:set_)?env\s)"
)
_RUNS_FLOW = re.compile(r"""["'](?:[^"'\n]*/)?flows/(\w[\w.+-]*?)\.(?:py|md|ipynb)["']""")
#: Variables that libraries read when they are imported; a value that differs needs an interpreter of its own.
_READ_AT_IMPORT = (
    *("OMP_", "OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "VECLIB_", "KMP_", "NUMEXPR_", "NUMBA_", "ARROW_"),
    *("POLARS_", "TORCH_", "CUDA_", "JAX_", "XLA_", "TF_", "PYTHONPATH", "PYTHONHASHSEED", "LD_"),
)


def third_party_imports(source: Path, project_root: Path) -> list[str]:
    """Modules of installed packages that a flow imports, of a build those of its flows too; in order.

    Modules of the project itself and of the standard library are left out, as is what is not installed.
    """
    found: dict[str, None] = {}
    for file in with_flows(source, project_root):
        for name in _imported(file):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "ductaflow" or _is_own(top, file, project_root):
                continue
            if _is_installed(top):
                found[name] = None
    return list(found)


def why_not_warm(source: Path, environment: Mapping[str, str], server: Mapping[str, str]) -> str | None:
    """Why a flow needs an interpreter of its own, None where a fork of a warm process does.

    Args:
        source: the flow.
        environment: the variables of the session that asks.
        server: the variables with which the warm process has imported its packages.
    """
    for name in sorted({*environment, *server}):
        if name.startswith(_READ_AT_IMPORT) and environment.get(name) != server.get(name):
            return f"{name} differs from what it was when packages were imported"
    lines = _lines(source)
    sets = next((n for n, line in enumerate(lines) if _SETS_ENVIRONMENT.match(line)), None)
    if sets is not None and any(_is_foreign(line) for line in lines[sets:]):
        return f"line {sets + 1} sets an environment variable before an import"
    return None


@functools.cache
def _is_installed(top: str) -> bool:
    return importlib.util.find_spec(top) is not None


def _lines(source: Path) -> list[str]:
    try:
        return source.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # that the flow cannot be read is told by its run
        return []


def with_flows(source: Path, project_root: Path) -> Iterator[Path]:
    """A notebook, and the flows that its text names."""
    yield source
    for name in dict.fromkeys(_RUNS_FLOW.findall("\n".join(_lines(source)))):
        flow = project_root / "flows" / f"{name}.py"
        if flow.is_file() and flow != source:
            yield flow


def _imported(source: Path) -> Iterator[str]:
    for line in _lines(source):
        match = _IMPORT.match(line)
        if match is None:
            continue
        if match["module"]:
            yield match["module"]
            continue
        for part in match["names"].split(","):
            name = part.split(" as ")[0].strip()
            if name:
                yield name


def _is_foreign(line: str) -> bool:
    match = _IMPORT.match(line)
    name = (match["module"] or match["names"]).strip() if match else ""
    top = re.split(r"\W", name)[0]
    return bool(top) and top not in sys.stdlib_module_names


def _is_own(top: str, source: Path, project_root: Path) -> bool:
    return any(
        (folder / top).is_dir() or (folder / f"{top}.py").is_file()
        for folder in (source.parent, project_root)
    )
