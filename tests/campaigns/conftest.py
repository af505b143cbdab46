"""Campaigns: many inputs of one family, each a whole session, for minutes or hours.

A campaign has the mark `campaign` and runs by `pytest -m campaign` alone. A module may have a short selection
without it, which runs with all other tests. Everything here starts whole sessions, so it is `slow` as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
