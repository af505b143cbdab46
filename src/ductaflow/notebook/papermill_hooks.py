"""How papermill finds the engines and file systems of other packages, and makes the text of a notebook.

`import papermill` imports every package that registers one, with all that these import and change: one that
imports matplotlib before the shell of a flow exists decides where its figures go. `tests/notebook/
test_papermill_hooks.py` fails if a new version looks for them in another way, or writes another text.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

#: The beginning of the groups of entry points that papermill looks up when it is imported.
_GROUPS = "papermill."


def load_papermill() -> None:
    """Import papermill with our engine alone; it finds others when somebody asks for one, as a flow may."""
    with _without_entry_points():
        engines = importlib.import_module("papermill.engines").papermill_engines
        iorw = importlib.import_module("papermill.iorw")
        execute: Any = importlib.import_module("papermill.execute")
        importlib.import_module("papermill")
    from ductaflow.notebook.engine import DuctaflowEngine
    from ductaflow.notebook.notebook_text import text_of

    handlers = iorw.papermill_io
    # The same text in less time: of a notebook that it is given, and at the end of a run.
    iorw.NotebookNodeHandler.read = lambda _, notebook: text_of(notebook, is_checked=False)
    execute.write_ipynb = lambda notebook, path: handlers.write(text_of(notebook), path)

    engines.register("ductaflow", DuctaflowEngine)
    if not hasattr(engines.get_engine, "__wrapped__"):
        engines.get_engine = _finding_others(
            engines.get_engine, engines, lambda name: name not in known(engines)
        )
        handlers.get_handler = _finding_others(
            handlers.get_handler, handlers, lambda path: "://" in str(path)
        )


def known(engines: Any) -> frozenset[str | None]:
    """The names of the engines that papermill has registered."""
    return frozenset(engines._engines)


def _finding_others(
    plain: Callable[..., Any], registry: Any, is_foreign: Callable[[Any], bool]
) -> Callable[..., Any]:
    """A lookup that first registers what other packages provide, where something of theirs is looked for."""
    left = [registry.register_entry_points]

    @functools.wraps(plain)
    def get(name: Any = None, *args: Any, **options: Any) -> Any:
        if left and is_foreign(name):
            left.pop()()
        return plain(name, *args, **options)

    return get


@contextlib.contextmanager
def _without_entry_points() -> Iterator[None]:
    """Let nobody find entry points for papermill; version 2.7 asks the package entrypoints for them."""
    places: list[tuple[Any, str]] = [(metadata, "entry_points")]
    with contextlib.suppress(ImportError):
        places.append((importlib.import_module("entrypoints"), "get_group_all"))
    plain = [getattr(module, name) for module, name in places]
    for (module, name), lookup in zip(places, plain, strict=True):
        setattr(module, name, _hiding(lookup))
    try:
        yield
    finally:
        for (module, name), lookup in zip(places, plain, strict=True):
            setattr(module, name, lookup)


def _hiding(plain: Callable[..., Any]) -> Callable[..., Any]:
    def found(*args: Any, **options: Any) -> Any:
        group = options.get("group", args[0] if args else "")
        return [] if str(group).startswith(_GROUPS) else plain(*args, **options)

    return found
