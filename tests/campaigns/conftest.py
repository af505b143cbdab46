"""Campaigns: many inputs of one family, each a whole session, for minutes or hours.

A campaign has the mark `campaign` and runs by `pytest -m campaign` alone. A module may have a short selection
without it, which runs with all other tests. Everything here starts whole sessions, so it is `slow` as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in here:
        item.add_marker(pytest.mark.slow)
    if "campaign" not in config.getoption("markexpr"):
        left_out = [item for item in here if item.get_closest_marker("campaign")]
        items[:] = [item for item in items if item not in set(left_out)]
        config.hook.pytest_deselected(items=left_out)
