"""How two values are compared, as plain data."""

from __future__ import annotations

import pytest

from ductaflow.common.rules import Rule, glob_matches


def test_tolerances_are_the_named_ones_or_the_defaults() -> None:
    """Each tolerance that nobody names has its own default."""
    assert (1e-6, 1e-12) == Rule().tolerances
    assert (0.01, 1e-12) == Rule(rtol=0.01).tolerances
    assert (1e-6, 0.5) == Rule(atol=0.5).tolerances
    assert (0.0, 0.0) == Rule(rtol=0.0, atol=0.0).tolerances


def test_a_tolerance_of_zero_allows_nothing() -> None:
    """A person who writes 0 asks for an exact comparison, of integers and pictures too."""
    assert not Rule().is_named
    assert not Rule(rtol=0.0, atol=0.0).is_named
    assert Rule(rtol=0.01).is_named
    assert Rule(rtol=0.0, atol=0.5).is_named


@pytest.mark.parametrize(
    ("glob", "path", "is_ignored"),
    [
        ("created", "created", True),
        ("created", "created_by", False),
        ("meta", "meta.run.id", True),
        ("meta", "meta[0]", True),
        ("rows[*].created", "rows[3].created", True),
        ("rows[3].created", "rows[3].created", True),
        ("rows[3].created", "rows[4].created", False),
        ("*.created", "a.b.created", True),
        ("*.created", "created", False),
        ("creat?d", "created", True),
        ("Created", "created", False),
        ("a\nb", "a\nb", True),
        ("*", "", True),
    ],
)
def test_globs_of_key_paths(glob: str, path: str, is_ignored: bool) -> None:
    """A glob names key paths and all below them; brackets in it are those of the path."""
    assert is_ignored == Rule(ignore=(glob,)).ignores(path, below=True)


def test_globs_of_columns_match_whole_names() -> None:
    """A column called `site.load` does not lie below a column `site`."""
    assert not Rule(ignore=("site",)).ignores("site.load")
    assert Rule(ignore=("site*",)).ignores("site.load")
    assert glob_matches("site.*", "site.load")
    assert not glob_matches("site", "site.load")
