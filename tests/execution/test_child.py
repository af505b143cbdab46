"""What a forked child makes anew."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy
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


def test_the_global_numbers_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are seeded once, with those of other modules, and not by the state of another generator too."""
    monkeypatch.setattr(child, "generators", [numpy.random.get_bit_generator()])
    numpy.random.seed(1)
    before = numpy.random.random()
    numpy.random.seed(1)
    child.seed_anew()
    assert before != numpy.random.random()


@pytest.mark.skipif(sys.platform == "win32", reason="names of variables have no case there")
@pytest.mark.parametrize(
    "wanted",
    [
        {"A": "1", "B": "2", "C": "3"},
        {"A": "1", "B": "other", "C": "3", "D": "4"},
        {"A": "1", "C": "3"},
        {"C": "3", "B": "2", "A": "1"},
        {"NEW": "0", "A": "1", "B": "2", "C": "3"},
        {},
    ],
)
def test_a_fork_has_the_variables_of_its_run_in_their_order(wanted: dict[str, str]) -> None:
    """As a new process: for Python, and for programs that it starts."""
    before = dict(os.environ)
    try:
        for start in ({"A": "1", "B": "2", "C": "3"}, {}):
            os.environ.clear()
            os.environ.update(start)
            child.take_environment(wanted)
            assert list(wanted.items()) == list(os.environ.items())
            shown = subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True).stdout
            # Set by the library readline, which Python does not know of.
            lines = [line for line in shown.splitlines() if not line.startswith(("LINES=", "COLUMNS="))]
            assert [f"{name}={value}" for name, value in wanted.items()] == lines
    finally:
        os.environ.clear()
        os.environ.update(before)
