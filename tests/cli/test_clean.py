"""`ductaflow clean`: lists run folders of nothing stored, and moves away what runs wrote, nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import TinyProject, files_below, held_elsewhere

from ductaflow.store.result import Status

pytestmark = pytest.mark.slow

PREP = """
# %%
from pathlib import Path
Path("sub").mkdir()
Path("sub/clean.csv").write_text("x" * 2000)
"""


@pytest.fixture
def left(project: TinyProject) -> TinyProject:
    """`prep/b` has run and is not stored any more; `prep/a` is."""
    project.settings("html = false")
    project.flow("prep", PREP)
    project.config("flows/prep/a.json")
    stored = project.config("flows/prep/b.json")
    project.output("run", "prep")
    stored.unlink()
    return project


def removed(project: TinyProject) -> list[Path]:
    return sorted((project.root / "runs" / ".ductaflow" / "removed").glob("*/*/*"))


def test_orphans_are_shown_apart(left: TinyProject) -> None:
    """`status`, `plan` and `graph` name them, and count them by themselves."""
    left.config("flows/read.json", file="runs/prep/b/sub/clean.csv")
    left.flow("read", "print(1)")
    for command in ("status", "plan"):
        counted, _, apart = left.output(command).partition("\n\n")
        assert "prep/b" not in counted.replace("runs/prep/b", "")
        assert "orphan      success     prep/b" in apart
    nodes = json.loads(left.output("graph", "--format", "json"))
    assert {"prep/b": "orphan"} == {
        node["id"]: node["kind"] for node in nodes["nodes"] if node["kind"] == "orphan"
    }
    assert [{"from": "prep/b", "to": "read/default", "key": "file"}] == nodes["edges"]
    assert "prep/b (not stored)" in left.output("graph", "--format", "dot")
    assert "-.->" in left.output("graph", "--flows")
    assert "orphan" not in left.output("status", "prep/a")


def test_a_dry_run_lists_with_sizes_and_touches_nothing(left: TinyProject) -> None:
    """Kind, name, size, when, folder; then the sum; or records for programs."""
    before = files_below(left.root)
    (record,) = json.loads(left.output("clean", "--dry-run", "--json"))
    assert ["kind", "name", "path", "size", "used", "kept"] == list(record)
    assert ("orphan", "prep/b", None) == (record["kind"], record["name"], record["kept"])
    out = left.output("clean", "--dry-run")
    assert "orphan    prep/b" in out
    assert "kB" in out
    assert "prep/a" not in out
    assert before == files_below(left.root)


def test_an_orphan_is_moved_away_as_it_was(left: TinyProject) -> None:
    """Where it is now is said; what is stored is not touched; a second call finds nothing."""
    folder = left.folder("prep", "b")
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = left.output("clean", "--yes")
    (place,) = removed(left)
    assert place.parts[-2:] == ("prep", "b")
    assert str(place.parents[1].relative_to(left.root)) in out
    assert before == {path: (place / path).read_bytes() for path in before}
    assert not left.folder("prep", "b").exists()
    assert Status.SUCCESS is left.result("prep", "a").status
    assert "Nothing to take away." in left.output("clean", "--yes")
    assert "prep/b" not in left.output("status") + left.output("plan")


def test_files_of_a_person_stay(left: TinyProject) -> None:
    """What the run did not write is not moved; the folder is no orphan any more."""
    note, inside = left.folder("prep", "b") / "note.txt", left.folder("prep", "b") / "sub" / "mine.csv"
    note.write_text("mine")
    inside.write_text("mine too")
    left.output("clean", "--yes")
    assert {"note.txt", "sub", "sub/mine.csv"} == files_below(left.folder("prep", "b"))
    assert "Nothing to take away." in left.output("clean", "--dry-run")


def test_it_asks_and_without_a_terminal_it_refuses(left: TinyProject) -> None:
    """Nobody can answer in a script: an error that names the way out, and nothing happens."""
    done = left.cli("clean", "--orphans")
    assert 2 == done.exit_code
    assert "--yes" in done.output
    assert left.folder("prep", "b").is_dir()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a terminal of its own")
@pytest.mark.parametrize(("answer", "stays"), [("n", True), ("y", False)])
def test_on_a_terminal_it_asks(left: TinyProject, answer: str, stays: bool) -> None:
    """Only `y` takes anything away."""
    import pty

    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ductaflow", "clean"], cwd=left.root, stdin=other, stdout=other, stderr=other
    )
    os.close(other)
    said = b""
    while b"Take that away?" not in said:
        said += os.read(main, 1024)
    os.write(main, f"{answer}\n".encode())
    assert 0 == process.wait(60)
    os.close(main)
    assert stays is left.folder("prep", "b").is_dir()


def test_a_held_folder_is_not_touched(left: TinyProject) -> None:
    """Something runs there: it stays, the reason is said, and the exit code is 1."""
    folder = left.folder("prep", "b")
    with held_elsewhere(folder, left.root / "runs"):
        for name in ("prep_config.json", "prep_execution_output.txt"):
            (folder / name).write_text("{}")
        done = left.cli("clean", "--yes")
    assert 1 == done.exit_code, done.output
    assert "is held by" in done.output
    assert {"prep_config.json", "prep_execution_output.txt"} <= files_below(folder)


@pytest.mark.parametrize("where", ["instance", "flow"])
def test_links_are_not_followed(left: TinyProject, tmp_path: Path, where: str) -> None:
    """A run folder that is a link, or lies behind one, stays as it is, and so does what it leads to."""
    place = left.folder("prep", "b") if where == "instance" else left.root / "runs" / "prep"
    elsewhere = tmp_path / "elsewhere"
    shutil.move(place, elsewhere)
    place.symlink_to(elsewhere)
    before = files_below(elsewhere)
    done = left.cli("clean", "--yes")
    assert "is a link" in done.output
    assert before == files_below(elsewhere)


def test_a_link_in_a_run_folder_is_not_followed(left: TinyProject, tmp_path: Path) -> None:
    """What it leads to stays."""
    target = tmp_path / "precious"
    target.mkdir()
    (target / "data.csv").write_text("1")
    (left.folder("prep", "b") / "link").symlink_to(target)
    left.output("clean", "--yes")
    left.output("clean", "--yes", "--previous")
    assert "1" == (target / "data.csv").read_text()


def test_the_flows_of_a_build_go_with_it(project: TinyProject) -> None:
    """An orphan of a build is moved with the run folders inside it."""
    project.settings("html = false")
    project.flow("prep", PREP)
    code = "from ductaflow import run_step_flow\nrun_step_flow('flows/prep.py', 'prep', 'x', {})\n"
    project.flow("study", code, kind="builds")
    stored = project.config("builds/study/one.json")
    project.config("builds/study/two.json")
    project.output("run", "study/one")
    stored.unlink()
    project.output("clean", "--yes")
    assert not project.folder("study", "one").exists()
    (place,) = removed(project)
    assert (place / "runs" / "prep" / "x" / "sub" / "clean.csv").is_file()


def test_a_run_that_was_lost_is_an_orphan_too(left: TinyProject) -> None:
    """Without a result the saved config and the log tell that something ran there."""
    (left.folder("prep", "b") / "result.json").unlink()
    assert "orphan    prep/b" in left.output("clean", "--dry-run")


def test_only_what_is_old_enough(left: TinyProject) -> None:
    """`--older-than` leaves out what was written lately; what is no age is an error with an example."""
    assert "Nothing to take away." in left.output("clean", "--older-than", "1d", "--yes")
    for path in left.folder("prep", "b").rglob("*"):
        os.utime(path, (1, 1))
    assert "orphan    prep/b" in left.output("clean", "--older-than", "2w", "--dry-run")
    wrong = left.cli("clean", "--older-than", "soon")
    assert 2 == wrong.exit_code
    assert "30d" in wrong.output


def test_previous_outputs_are_deleted(left: TinyProject) -> None:
    """`--previous` deletes kept outputs of earlier runs, and what was moved away before; orphans stay."""
    left.output("run", "prep/a")
    kept = left.root / "runs" / ".ductaflow" / "previous" / "prep" / "a"
    assert kept.is_dir()
    out = left.output("clean", "--previous", "--dry-run")
    assert "previous  prep/a" in out
    assert "orphan" not in out
    left.output("clean", "--orphans", "--yes")
    left.output("clean", "--previous", "--yes")
    assert not kept.exists()
    assert [] == removed(left)
    assert Status.SUCCESS is left.result("prep", "a").status


def test_a_folder_of_kept_outputs_that_is_a_link_is_refused(left: TinyProject, tmp_path: Path) -> None:
    """Nothing behind it is deleted."""
    left.output("run", "prep/a")
    kept = left.root / "runs" / ".ductaflow" / "previous"
    shutil.move(kept, tmp_path / "kept")
    kept.symlink_to(tmp_path / "kept")
    done = left.cli("clean", "--previous", "--yes")
    assert 2 == done.exit_code
    assert (tmp_path / "kept" / "prep" / "a" / "sub" / "clean.csv").is_file()
