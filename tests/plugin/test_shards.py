"""`--ductaflow-shard 2/5`: the shares of several machines, and the file of durations that balances them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import READ, TinyProject, run_pytest

from ductaflow.common.errors import ConfigError
from ductaflow.session.scheduler import SLACK, shares
from pytest_ductaflow.shards import Shard, read_durations

pytestmark = pytest.mark.usefixtures("no_process_left")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[set[int]], list[float], int]:
    """Items that read earlier ones (or, seldom, a later one: a cycle), weights, a number of machines."""
    size = draw(st.integers(0, 30))
    upstreams = [draw(st.sets(st.integers(0, size - 1), max_size=3)) for item in range(size)]
    if draw(st.booleans()):
        upstreams = [{up for up in ups if up < item} for item, ups in enumerate(upstreams)]
    weights = [draw(st.sampled_from([0.0, 0.1, 1.0, 7.0, 100.0])) for _ in range(size)]
    return upstreams, weights, draw(st.integers(1, 7))


def above(item: int, upstreams: list[set[int]]) -> set[int]:
    found, left = {item}, [item]
    while left:
        left += upstreams[left.pop()] - found
        found.update(left)
    return found


@given(graphs())
def test_nothing_is_lost_and_nothing_lacks(graph: tuple[list[set[int]], list[float], int]) -> None:
    """Each item is on a machine; with all that it reads from; what nobody reads is on one only."""
    upstreams, weights, count = graph
    found = shares(upstreams, weights, count)
    assert count == len(found)
    assert set(range(len(upstreams))) == set().union(*found)
    for share in found:
        assert [] == [item for item in share if not above(item, upstreams) <= share]
    read = set().union(*[ups - {item} for item, ups in enumerate(upstreams)])
    for item in set(range(len(upstreams))) - read:
        assert 1 == sum(item in share for share in found)
    assert found == shares(upstreams, weights, count)


@given(graphs())
def test_shares_are_balanced(graph: tuple[list[set[int]], list[float], int]) -> None:
    """No machine takes much longer than the ideal, or than what the greedy rule promises."""
    upstreams, weights, count = graph
    costs = [sum(weights[each] for each in above(item, upstreams)) for item in range(len(upstreams))]
    ideal = max(sum(weights) / count, max(costs, default=0))
    bound = max(SLACK * ideal, sum(costs) / count + max(costs, default=0))
    assert max(sum(weights[item] for item in share) for share in shares(upstreams, weights, count)) <= (
        bound + 1e-6
    )


def test_equal_items_are_divided_evenly() -> None:
    """300 of one weight on five machines are 60 each; a light upstream runs on each of them."""
    assert [60] * 5 == [len(share) for share in shares([()] * 300, [1.0] * 300, 5)]
    found = shares([(), *[(0,)] * 300], [1.0, *[10.0] * 300], 5)
    assert [61] * 5 == [len(share) for share in found]


def test_a_heavy_upstream_is_not_run_in_vain() -> None:
    """Where it takes most of the time anyway, its readers stay with it."""
    found = shares([(), *[(0,)] * 10, (), ()], [1000.0, *[1.0] * 10, 5.0, 5.0], 3)
    assert 1 == sum(0 in share for share in found)
    assert [{11}, {12}] == sorted(share for share in found if 0 not in share)


def test_tests_of_a_file_stay_together() -> None:
    """Their fixtures are made on one machine."""
    found = shares([()] * 6, [1.0] * 6, 3, together=[[0, 1, 2], [3, 4]])
    assert [[0, 1, 2], [3, 4], [5]] == sorted(sorted(share) for share in found)


@pytest.mark.parametrize("text", ["0/5", "6/5", "2", "2/", "a/b", "1/0", "-1/5", "²/5"])
def test_what_is_no_share(text: str) -> None:
    """The error says what would be one."""
    with pytest.raises(
        pytest.UsageError, match=re.escape(f"--ductaflow-shard {text}: give which of how many")
    ):
        Shard.parse(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{\n "a/b": 1.0,\n "a/c": "x"\n}', ':3: a/c has "x", which is no number of seconds'),
        ('{\n "a/b": -1\n}', ":2: a/b has -1, which"),
        ('{"a/b": true}', ":1: a/b has true, which"),
        ("[]", ":1: not an object of seconds"),
        ('{"a/b": 1,}', ":1:"),
    ],
)
def test_what_is_no_file_of_durations(tmp_path: Path, text: str, place: str) -> None:
    """File, line and remedy are named."""
    file = tmp_path / "durations.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{file}{place}")) as caught:
        read_durations(file)
    assert caught.value.hint


# --- sessions ------------------------------------------------------------------------------------------


@pytest.fixture
def fan(project: TinyProject) -> TinyProject:
    """One upstream and six readers."""
    project.flow("raw", READ)
    project.flow("fit", READ)
    project.config("flows/raw/all.json")
    rows = [f"s{number},runs/raw/all/x.csv" for number in range(6)]
    (project.root / "config/flows/fit.csv").write_text("\n".join(["instance,data", *rows]))
    return project


@pytest.mark.slow
def test_the_shards_of_a_session(fan: TinyProject) -> None:
    """Together they are the selection; the upstream is in each; what others run counts as deselected."""
    args = ("--collect-only", "-q", "-k", "raw or s1 or s2 or s3 or s4")
    whole = run_pytest(fan.root, *args).ran
    parts = [run_pytest(fan.root, *args, f"--ductaflow-shard={number}/2") for number in (1, 2)]
    assert [["raw[all]"] * 2, sorted(whole)] == [
        [part.ran[0] for part in parts],
        sorted({title for part in parts for title in part.ran}),
    ]
    assert [3, 3] == [len(part.ran) for part in parts]
    for part in parts:
        assert "3/7 tests collected (4 deselected)" in part.out, part.out


@pytest.mark.slow
def test_upstreams_come_in_before_the_shares_are_made(fan: TinyProject) -> None:
    """What `--ductaflow-upstream` adds is in the shares that read from it."""
    args = ("--collect-only", "-q", "-k", "fit", "--ductaflow-upstream")
    for number in (1, 2, 3):
        assert ["raw[all]", 3] == [
            (ran := run_pytest(fan.root, *args, f"--ductaflow-shard={number}/3").ran)[0],
            len(ran),
        ]


@pytest.mark.slow
def test_durations_are_kept_and_balance(fan: TinyProject) -> None:
    """Of what ran, also on workers; what is not stored any more goes; the next shares follow the file."""
    file = fan.root / "durations.json"
    file.write_text('{"fit/s5": 99.0, "fit/gone": 5, "other/fit/s1": 7}')
    fan.settings('durations = "durations.json"')
    session = run_pytest(fan.root, "-n", "2", "-k", "raw or s1", "--ductaflow-durations-update")
    assert 0 == session.code, session.out
    kept = json.loads(file.read_text())
    assert ["fit/s1", "fit/s5", "other/fit/s1", "raw/all"] == list(kept)
    assert (99.0, True) == (kept["fit/s5"], 0 < kept["fit/s1"] < 60)
    kept = {"raw/all": 1, "fit/s0": 50, **{f"fit/s{number}": 10 for number in range(1, 6)}}
    file.write_text(json.dumps(kept))
    first, second = (
        run_pytest(fan.root, "--collect-only", "-q", f"--ductaflow-shard={number}/2").ran for number in (1, 2)
    )
    assert [["fit[s0]"], [f"fit[s{number}]" for number in range(1, 6)]] == [first[1:], second[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_an_empty_share_is_no_failure(fan: TinyProject, workers: tuple[str, ...]) -> None:
    """More machines than instances: those without work say so and are green."""
    session = run_pytest(fan.root, "-k", "raw", "--ductaflow-shard=3/3", *workers)
    assert (0, True) == (session.code, "ductaflow: shard 3/3 has nothing to run" in session.out), session.out
    nothing = run_pytest(fan.root, "-k", "nothing", "--ductaflow-shard=1/3")
    assert 5 == nothing.code


@pytest.mark.slow
def test_a_bad_file_ends_the_session_before_it_begins(fan: TinyProject) -> None:
    """As a usage error, with the place."""
    (fan.root / "durations.json").write_text("{")
    session = run_pytest(fan.root, "--ductaflow-durations=durations.json")
    assert (4, True) == (session.code, "durations.json:1:" in session.out)
    session = run_pytest(fan.root, "--ductaflow-durations=none.json")
    assert (4, True) == (session.code, "there is no file of durations" in session.out)
    assert "Make it: add --ductaflow-durations-update." in session.out
    (fan.root / "durations.json").write_bytes(b"\0")
    session = run_pytest(fan.root, "--ductaflow-durations=durations.json")
    assert (4, True) == (session.code, "save it as utf-8" in session.out.lower()), session.out
    (fan.root / "durations.json").unlink()
    (fan.root / "durations.json").mkdir()
    session = run_pytest(fan.root, "--ductaflow-durations=durations.json")
    assert (4, True) == (session.code, "durations.json: cannot be read" in session.out), session.out
    assert (
        "--ductaflow-durations-update needs a file"
        in run_pytest(fan.root, "--ductaflow-durations-update").out
    )
