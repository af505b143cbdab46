"""The one walk through JSON values: order, copies, depth, and who relies on it."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ductaflow.common import json_tree, text
from ductaflow.common.json_tree import MAX_LEVELS, leaves, mapped, spelled, walk
from ductaflow.project import compose, secrets, values
from ductaflow.project.compose import merge
from ductaflow.project.mentions import strings_of
from ductaflow.project.options import load_saved_config
from ductaflow.project.secrets import masked, secrets_in

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
CONFIGS = st.dictionaries(st.text(max_size=5), TREES, max_size=4)


@pytest.mark.parametrize("module", [json_tree, text, secrets, compose, values])
def test_examples_in_docstrings(module: Any) -> None:
    """Every example in a docstring gives what it says."""
    done = doctest.testmod(module)
    assert (0, True) == (done.failed, done.attempted > 0)


@pytest.mark.slow
@given(CONFIGS)
def test_each_leaf_is_where_its_path_leads(config: dict[str, Any]) -> None:
    """A key path leads to its value, paths are unique, and they come in the order of the file."""
    found = list(leaves(config))
    for path, value in found:
        at: Any = config
        for key in path:
            at = at[key]
        assert value is at
    assert len(found) == len({path for path, _ in found})
    paths = [path for path, _, _ in walk(config)]
    assert all(path[:-1] in paths[:place] for place, path in enumerate(paths) if path)


@given(CONFIGS)
def test_a_copy_shares_nothing_with_the_original(config: dict[str, Any]) -> None:
    """`mapped` and `merge` make equal values with the same order of keys, sharing no object."""
    before = json.dumps(config)
    for copy in (mapped(config, lambda _, leaf: leaf), merge(config), merge({}, config)):
        assert before == json.dumps(copy)
        shared = {id(value) for _, value, _ in walk(config) if isinstance(value, dict | list)} & {
            id(value) for _, value, _ in walk(copy) if isinstance(value, dict | list)
        }
        assert set() == shared


@given(CONFIGS)
def test_different_leaves_have_different_names(config: dict[str, Any]) -> None:
    """Two key paths are never spelled alike, whatever the keys contain."""
    paths = [path for path, _ in leaves(config)]
    assert len(paths) == len({spelled(path) for path in paths})


def nested(levels: int, inside: Any) -> dict[str, Any]:
    value = inside
    for level in range(levels):
        value = {"k": value} if level % 2 else [value]
    return {"top": value}


@pytest.mark.parametrize("levels", [MAX_LEVELS - 2, MAX_LEVELS + 2, 100_000])
def test_no_depth_ends_in_a_recursion_error(levels: int) -> None:
    """A value of any depth is walked, copied and masked; what is too deep to be looked into is one leaf."""
    config = nested(levels, {"password": "secret"})
    assert 1 == len(list(leaves(config)))
    assert "secret" not in json.dumps(masked(config))
    assert list(secrets_in(config).values()) in (["secret"], [])
    assert {text for _, text in strings_of(config)} <= {"secret"}
    copy = merge(config)
    assert len(list(walk(config))) == len(list(walk(copy)))


def test_what_contains_itself_has_an_end() -> None:
    """A value that contains itself is shown down to a depth, and its secrets are masked."""
    config: dict[str, Any] = {"token": "secret"}
    config["self"] = config
    assert MAX_LEVELS + 1 == len(list(leaves(config)))
    assert "secret" not in json.dumps(masked(config))


def test_paths_below_the_project_move_at_any_depth(tmp_path: Path) -> None:
    """A saved config that is used elsewhere names the files of the project there, in lists of lists too."""
    saved = tmp_path / "fit_config.json"
    config = {"_project_root": "/old", "a": [["/old/x.csv", "/older/x.csv"]], "b": {"c": "/old"}}
    saved.write_text(json.dumps(config))
    root = tmp_path.as_posix()
    assert {
        "_project_root": root,
        "a": [[f"{root}/x.csv", "/older/x.csv"]],
        "b": {"c": root},
    } == load_saved_config(saved, project_root=tmp_path)
