"""The warning ratchet: `--ductaflow-baseline FILE`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import TinyProject, run_pytest

from ductaflow.common.errors import ConfigError
from ductaflow.store.result import LogWarning, Result, Status
from pytest_ductaflow.baseline import MAX_KINDS, TOO_MANY, kinds_of, normalised, read_baseline, write_baseline

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Warning: 14 gaps, 2.5 % of 1,000", "Warning: <n> gaps, <n> % of <n>"),
        ("Warning: -1.5e-07 at 12.", "Warning: <n> at <n>"),
        ("Warning: [1. 2.5  3]", "Warning: [<n>, ...]"),
        ("Warning: since 2024-05-01 12:30:00.5+02:00", "Warning: since <date>"),
        ("Warning: since 2024-05-01", "Warning: since <date>"),
        ("Warning: since 2024-05-01T12:30:00Z, 12:30:01", "Warning: since <date>, <time>"),
        ("⚠ no /home/ann/runs/fit/a/clean.csv here", "⚠ no <path>/clean.csv here"),
        (r"⚠ no C:\work\runs\clean.csv", "⚠ no <path>/clean.csv"),
        ("⚠ no ~/data/clean.csv, ../x/y.csv", "⚠ no <path>/clean.csv, <path>/y.csv"),
        ("⚠ /tmp/tmpa8_x/tmp3k1 is full", "⚠ <path>/<name> is full"),
        ("⚠ runs/fit/clean.csv: EU/US", "⚠ runs/fit/clean.csv: EU/US"),
        ("Warning: object at 0x7F00ab", "Warning: object at <hex>"),
        ("Warning: 123e4567-e89b-12d3-a456-426614174000 and deadbeef1", "Warning: <hex> and <hex>"),
        ("Warning: decade facade", "Warning: decade facade"),
        ("\x1b[33mWarning:\x1b[0m  a\t b\x07", "Warning: a b?"),
    ],
)
def test_what_differs_from_run_to_run_does_not_count(text: str, same: str) -> None:
    """Numbers, dates, folders and hexadecimal numbers are replaced; words stay."""
    assert same == normalised(text)
    assert same == normalised(same)


def result(*texts: str, count: int | None = None, message: str = "") -> Result:
    warnings = tuple(LogWarning(number, text) for number, text in enumerate(texts, start=2))
    count = len(texts) if count is None else count
    return Result("fit", "a", "flow", Status.WARNING, message=message, warnings=warnings, warning_count=count)


def test_lines_that_the_result_does_not_hold_count_too(tmp_path: Path) -> None:
    """A result has a hundred; the others are in the log. What differs in words without end is cut."""
    log = tmp_path / "log.txt"
    log.write_text("x\n" + "Warning: known\n" * 150 + "Warning: new\n")
    found = kinds_of(result(*["Warning: known"] * 100, count=151), log)
    assert {"Warning: known": 2, "Warning: new": 152} == {kind: first.line for kind, first in found.items()}
    many = kinds_of(result(*[f"Warning: {'x' * number}" for number in range(1, 300)]), log)
    assert (MAX_KINDS + 1, True) == (len(many), TOO_MANY in many)
    early = result(message="stopped early at cell 1 of 3")
    assert ["stopped early at cell <n> of <n>"] == list(kinds_of(early, log))


def test_the_file_is_sorted_text(tmp_path: Path) -> None:
    """One entry a line, and what is written is what is read."""
    file = tmp_path / "new" / "warnings.txt"
    known = {"fit/b": {"Warning: z", "Warning: a"}, "fit/a": {"⚠ x: y"}, "fit/c": set()}
    write_baseline(file, known)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert ["fit/a: ⚠ x: y", "fit/b: Warning: a", "fit/b: Warning: z"] == lines[1:]
    assert {key: kinds for key, kinds in known.items() if kinds} == read_baseline(file)


@pytest.mark.parametrize(
    "line", ["<<<<<<< HEAD", "fit/a Warning: x", "fit/a:", "fit: Warning: x", "fit/a:   "]
)
def test_what_is_no_entry(tmp_path: Path, line: str) -> None:
    """File, line and remedy are named."""
    file = tmp_path / "warnings.txt"
    file.write_text(f"# known\nfit/a: Warning: x\n\n{line}\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}:4: not an entry such as")) as caught:
        read_baseline(file)
    assert "--ductaflow-baseline-update" in caught.value.hint


# --- sessions ------------------------------------------------------------------------------------------


@pytest.fixture
def noisy(project: TinyProject) -> TinyProject:
    """Prints what its config says; `red` fails after it."""
    project.flow(
        "fit",
        """
        # %%
        import random
        for text in config["texts"]:
            print(f"Warning: {text} {random.random()}")
        assert not config.get("fails")
        """,
    )
    project.config("flows/fit/a.json", texts=["gaps", "spikes"])
    project.config("flows/fit/b.json", texts=["gaps"])
    project.config("flows/fit/calm.json", texts=[])
    project.config("flows/fit/red.json", texts=["gaps"], fails=True)
    project.config("flows/fit/gone.json", texts=["gaps"])
    project.settings('baseline = "known.txt"')
    return project


def known(project: TinyProject) -> list[str]:
    return (project.root / "known.txt").read_text(encoding="utf-8").splitlines()[1:]


@pytest.mark.slow
def test_the_life_of_a_baseline(noisy: TinyProject) -> None:
    """Made, kept to, told of what is gone, and renewed; under workers as without."""
    without = run_pytest(noisy.root)
    assert (4, True) == (without.code, "there is no baseline known.txt" in without.out)

    made = run_pytest(noisy.root, "-n", "2", "--ductaflow-baseline-update")
    assert "known.txt: 4 warning lines added, 0 removed" in made.out, made.out
    entries = [
        "fit/a: Warning: gaps <n>",
        "fit/a: Warning: spikes <n>",
        "fit/b: Warning: gaps <n>",
        "fit/gone: Warning: gaps <n>",
    ]
    assert entries == known(noisy)

    same = run_pytest(noisy.root, "-k", "not red", "--ductaflow-baseline-strict")
    assert (0, True) == (same.code, "4 passed" in same.out), same.out

    (noisy.root / "config/flows/fit/gone.json").unlink()
    noisy.config("flows/fit/a.json", texts=["gaps"])
    noisy.config("flows/fit/b.json", texts=["gaps", "holes"])
    worse = run_pytest(noisy.root, "-n", "2", "-k", "not red")
    assert (1, True) == (worse.code, "1 failed, 2 passed" in worse.out), worse.out
    assert re.search(
        r"^E? *runs/fit/b/fit_execution_output.txt:\d+: new warning: Warning: holes 0", worse.out, re.M
    )
    assert (
        'pytest --ductaflow "config/flows/fit/b.json::fit[b]" --ductaflow-baseline known.txt'
        " --ductaflow-baseline-update" in worse.out
    )
    gone = ["fit/a: Warning: spikes <n>", "fit/gone: Warning: gaps <n>"]
    assert "\n  ".join(["no longer seen: 2 entries of known.txt", *gone]) in worse.out
    assert entries == known(noisy)

    part = run_pytest(noisy.root, "config/flows/fit/b.json", "--ductaflow-baseline-update")
    assert (0, True) == (part.code, "known.txt: 1 warning lines added, 1 removed" in part.out), part.out
    assert [*entries[:3], "fit/b: Warning: holes <n>"] == known(noisy)


@pytest.mark.slow
def test_what_is_gone_fails_a_strict_session(noisy: TinyProject) -> None:
    """And only that one; an instance that is red, or not selected, says nothing of its entries."""
    (noisy.root / "known.txt").write_text("fit/calm: Warning: x\nfit/red: Warning: x\nfit/a: Warning: x\n")
    calm = run_pytest(noisy.root, "-k", "calm")
    assert (0, True) == (calm.code, "no longer seen: 1 entry of known.txt" in calm.out), calm.out
    assert 1 == run_pytest(noisy.root, "-k", "calm", "--ductaflow-baseline-strict").code
    red = run_pytest(noisy.root, "-k", "red", "--ductaflow-baseline-update")
    assert (1, True) == (red.code, "0 warning lines added, 0 removed" in red.out), red.out
    assert ["fit/a: Warning: x", "fit/calm: Warning: x", "fit/red: Warning: x"] == known(noisy)


@pytest.mark.slow
def test_what_is_unchanged_keeps_its_warnings(noisy: TinyProject) -> None:
    """With `--ductaflow-changed` a new warning stays one, and a known one is not stale."""
    (noisy.root / "known.txt").write_text("fit/a: Warning: gaps <n>\n")
    args = ("-k", "a or b", "--ductaflow-changed")
    for _ in range(2):
        session = run_pytest(noisy.root, *args)
        assert (1, True) == (session.code, "new warning: Warning: spikes" in session.out), session.out
        assert "no longer seen" not in session.out
    assert "unchanged" in session.out


@pytest.mark.slow
def test_a_bad_baseline_ends_the_session_before_it_begins(noisy: TinyProject) -> None:
    """As a usage error, with the place; an option that needs a file says so."""
    (noisy.root / "known.txt").write_text("oops\n")
    session = run_pytest(noisy.root)
    assert (4, True) == (session.code, "known.txt:1: not an entry" in session.out)
    (noisy.root / "ductaflow.toml").unlink()
    session = run_pytest(noisy.root, "--ductaflow-baseline-update")
    assert (4, True) == (session.code, "--ductaflow-baseline-update needs a file" in session.out)


@pytest.mark.slow
def test_projects_in_folders_of_one_repository(noisy: TinyProject) -> None:
    """Entries name the project's folder from pytest's root directory; those of other projects stay."""
    top = noisy.root.parent
    (noisy.root / "ductaflow.toml").unlink()
    (top / "pytest.ini").write_text("[pytest]\n")
    (top / "ductaflow.toml").write_text('baseline = "known.txt"\n')
    (top / "known.txt").write_text("other/fit/a: Warning: x\nproject/fit/never: Warning: x\n")
    session = run_pytest(top, "project", "-k", "b", "--ductaflow-baseline-update")
    assert 0 == session.code, session.out
    lines = (top / "known.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert ["other/fit/a: Warning: x", "project/fit/b: Warning: gaps <n>"] == lines


@pytest.mark.slow
def test_a_file_that_cannot_be_written_fails_the_session(noisy: TinyProject) -> None:
    """With the reason, after everything has run."""
    (noisy.root / "file").write_text("")
    (noisy.root / "ductaflow.toml").unlink()
    for option in ("baseline", "durations"):
        args = (f"--ductaflow-{option}=file/below.txt", f"--ductaflow-{option}-update")
        session = run_pytest(noisy.root, "-k", "calm", *args)
        assert (1, True) == (session.code, "1 passed" in session.out), session.out
        assert "ductaflow could not write what it was asked to: " in session.out
