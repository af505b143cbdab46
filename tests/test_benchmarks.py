"""The benchmark works: its cheapest part is run for real, the rest by who wants to know the numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def overhead(folder: Path, *arguments: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """The benchmark in a process of its own, with a folder for temporary files; `first` is run before it."""
    program = str(BENCHMARKS / "overhead.py")
    code = f"import runpy, sys\n{first}\nsys.argv[0] = {program!r}\nsys.path[0] = {str(BENCHMARKS)!r}\n"
    return subprocess.run(
        [sys.executable, "-c", f"{code}runpy.run_path({program!r}, run_name='__main__')", *arguments],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the floor is a fork")
def test_the_floor_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    """One contender in one piece gives Markdown with its numbers, and the temporary folder is gone."""
    done = overhead(tmp_path, "--quick", "--markdown", "--only", "runs", "--only", "floor")
    assert 0 == done.returncode, done.stderr
    assert 3 == len(
        re.findall(r"^\| floor: fork and exec, no notebook \| [\d,]+ \|", done.stdout, re.MULTILINE)
    )
    assert "too little to judge" in done.stdout
    assert [] == list(tmp_path.iterdir())


def test_a_missing_peer_is_said_to_be_missing(tmp_path: Path) -> None:
    """A peer that is not installed has its row, which says what to install."""
    done = overhead(
        tmp_path, "--quick", "--only", "runs", "--only", "nbmake", first="sys.modules['nbmake'] = None"
    )
    assert 0 == done.returncode, done.stderr
    assert re.search(r"^pytest --nbmake +missing: pip install nbmake", done.stdout, re.MULTILINE)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    """A typing error does not measure something else."""
    done = overhead(tmp_path, "--only", "flor")
    assert 2 == done.returncode
    assert "flor" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(1.5, "aim met"), (3.5, "reached"), (4.5, "**missed**"), (None, "not measured")]
)
def test_the_verdict_is_of_the_ratio_of_medians(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, verdict: str
) -> None:
    """One outlier changes nothing; what was not measured has no verdict."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from figures import Figures, overhead_tables

    figures = Figures()
    for sample in (1.0, 1.0, 50.0):
        figures.add(("collect", "plain"), sample)
        if seconds:
            figures.add(("collect", "ours"), sample * seconds)
    rows = overhead_tables(figures, 24, 10_000)[0].rows
    assert verdict == next(row[-1] for row in rows if row[0].startswith("`--collect-only`"))
