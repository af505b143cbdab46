"""The registry of engines."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import ductaflow
from ductaflow.common.engines import ENGINES, engine_named
from ductaflow.common.errors import ConfigError


def test_an_engine_is_found_by_its_name() -> None:
    """The first is the default; an unknown name gets a suggestion."""
    assert "warm" == engine_named(None).name == engine_named("warm").name
    with pytest.raises(ConfigError, match=r"unknown engine 'frehs'\nDid you mean fresh\?"):
        engine_named("frehs")
    with pytest.raises(ConfigError, match=r"unknown engine 'x'\nUse one of: warm, fresh, kernel\."):
        engine_named("x")


@pytest.mark.parametrize("name", ENGINES)
def test_papermill_knows_an_engine_once_its_module_is_imported(name: str) -> None:
    """What the registry says of an engine is true."""
    from papermill.engines import papermill_engines

    import_module(ENGINES[name].module)
    assert papermill_engines.get_engine(ENGINES[name].papermill)


def test_names_of_engines_are_spelled_in_the_registry_alone() -> None:
    """A new engine touches the registry and its module."""
    source = Path(ductaflow.__file__).parents[1]
    spelled = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            # `kernel` is also the name of an option.
            is_compared = isinstance(node, ast.Compare) and "engine" in ast.unparse(node.left)
            values = [node, *node.comparators] if isinstance(node, ast.Compare) and is_compared else [node]
            for value in values:
                if isinstance(value, ast.Constant) and value.value in (
                    set(ENGINES) if is_compared else set(ENGINES) - {"kernel"}
                ):
                    spelled.add(path.relative_to(source).as_posix())
    assert {"ductaflow/common/engines.py"} == spelled
