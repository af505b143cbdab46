"""What a forked child makes anew."""

from __future__ import annotations

import pytest

from ductaflow.execution import child


class OldGenerator:
    """A bit generator as numpy 1 has them: its state is a dict, and nothing else is one."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.state = {"state": type(self).made}

    def __getstate__(self) -> dict[str, int]:
        return self.state

    def __setstate__(self, state: dict[str, int]) -> None:
        assert isinstance(state, dict)
        self.state = state


def test_generators_of_numpy_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are seeded anew like those of numpy 2, whose state is another object."""
    generator = OldGenerator()
    monkeypatch.setattr(child, "generators", [generator])
    child.seed_anew()
    assert {"state": 2} == generator.state
