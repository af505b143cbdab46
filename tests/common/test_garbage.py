"""The collector of garbage rests where that was asked for, and nowhere else."""

from __future__ import annotations

import gc

import pytest

from ductaflow.common import garbage


def at_rest() -> None:
    assert not gc.isenabled()
    raise InterruptedError


def test_it_rests_and_goes_on_whatever_happens() -> None:
    with pytest.raises(InterruptedError), garbage.paused():
        at_rest()
    assert gc.isenabled()


def test_who_finds_it_at_rest_leaves_it_so() -> None:
    with garbage.paused():
        with garbage.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
