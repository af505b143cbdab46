"""Tell the project's own code from installed packages.

Own is what lies in the project, and what is imported from a source tree: installed "editable", by a line of a
`.pth` file, a link, or a finder. Own code changes between runs, so each run imports it and records it.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec
from urllib.parse import urlsplit


def is_own_code(path: str, roots: Iterable[str]) -> bool:
    """Return whether a file, or a folder of a package, is own code.

    Args:
        path: absolute.
        roots: of projects, and `source_trees()`.
    """
    return any(
        _is_below(path, root) and not any(_is_below(path, folder) for folder in installed_in(root))
        for root in roots
    )


def is_own_package(spec: ModuleSpec, roots: Iterable[str]) -> bool:
    """Return whether a top level module has own code; a namespace package in any of its parts."""
    places = [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
    return any(is_own_code(name, roots) for place in places for name in (place, os.path.realpath(place)))


def source_trees() -> tuple[str, ...]:
    """Return the folders and files outside of `site-packages` that packages are imported from."""
    folders = _site_folders()
    return _source_trees(tuple((folder, os.stat(folder).st_mtime_ns) for folder in folders))


@functools.lru_cache(maxsize=4)
def _source_trees(folders: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Find them anew when something has been installed since."""
    found: dict[str, None] = {}
    for folder, _ in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError, ValueError, SyntaxError):
                    for tree in _trees_of(entry):
                        path = os.path.normpath(os.path.join(folder, tree))
                        found.update(dict.fromkeys((path, os.path.realpath(path))))
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = [os.path.realpath(folder) for folder, _ in folders]
    return tuple(
        tree
        for tree in found
        if os.path.exists(tree)
        and not _is_below(ours, tree)
        and not any(_is_below(os.path.realpath(tree), folder) for folder in installed)
    )


def _trees_of(entry: os.DirEntry[str]) -> Iterator[str]:
    """Yield what an entry of `site-packages` says of source trees."""
    if entry.name.endswith(".pth"):
        lines = (line.strip() for line in _text(entry.path).splitlines())
        yield from (line for line in lines if line and not line.startswith(("#", "import ", "import\t")))
    elif entry.name.endswith(".egg-link"):
        yield _text(entry.path).split("\n")[0].strip()
    elif entry.name.startswith("__editable__") and entry.name.endswith(".py"):
        yield from _mapped(_text(entry.path))
    elif entry.name.endswith(".dist-info"):
        with suppress(FileNotFoundError):
            about = json.loads(_text(os.path.join(entry.path, "direct_url.json")))
            if about.get("dir_info", {}).get("editable"):
                # Here, as it comes with a client of HTTP, which no other process of ours needs.
                from urllib.request import url2pathname

                yield url2pathname(urlsplit(about["url"]).path)
    elif entry.is_symlink() and entry.is_dir():
        yield entry.path
        yield os.path.realpath(entry.path)


def _mapped(finder: str) -> Iterator[str]:
    """Yield where a finder of setuptools finds packages: its tables name them."""
    for node in ast.parse(finder).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name) and target.id in ("MAPPING", "NAMESPACES"):
            for place in ast.literal_eval(node.value).values():
                yield from [place] if isinstance(place, str) else place


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _site_folders() -> list[str]:
    names = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    return [name for name in dict.fromkeys((*_of_installation(), *names)) if os.path.isdir(name)]


@functools.cache
def _of_installation() -> tuple[str, ...]:
    return sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


@functools.cache
def installed_in(root: str) -> tuple[str, ...]:
    """Return the folders of installations of Python that lie in a root, such as a virtual environment."""
    prefixes = (sys.prefix, sys.base_prefix, *_site_folders())
    names = {name for prefix in prefixes for name in (prefix, os.path.realpath(prefix))}
    return tuple(name for name in names if _is_below(name, root) and name != root)
