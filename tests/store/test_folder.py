"""The run folder: who holds it, what the last run wrote, what this one does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ductaflow.common.errors import RunFolderError
from ductaflow.common.paths import RunFolder
from ductaflow.store.folder import Claim, Owner, note_hand_work, previous_folder, snapshot, unfinished
from ductaflow.store.result import Result, Status, write_result


def owner(run_id: str = "r1") -> Owner:
    return Owner("fit", "a", run_id, "s1", os.uname().nodename, os.getpid(), "2026-01-01T00:00:00Z")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def folder(runs: Path) -> RunFolder:
    return RunFolder(runs / "fit" / "a", "fit")


def run_once(folder: RunFolder, runs: Path, files: dict[str, str], status: Status = Status.SUCCESS) -> Result:
    """What a run leaves: its files, and the result that lists them."""
    claim = Claim.take(folder, runs, owner())
    for name, text in files.items():
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    result = Result(flow="fit", instance="a", kind="flow", status=status, outputs=tuple(claim.outputs([])))
    write_result(result, folder.path)
    claim.release(finished=True)
    return result


def test_outputs_are_what_is_new(folder: RunFolder, runs: Path) -> None:
    """A person's file is no output, a file that the run wrote is, ours are not listed."""
    folder.path.mkdir(parents=True)
    (folder.path / "note.txt").write_text("mine")
    result = run_once(folder, runs, {"clean.csv": "1,2", "sub/deep.csv": "3", "fit.ipynb": "{}"})
    assert [{"path": "clean.csv", "size": 3}, {"path": "sub/deep.csv", "size": 1}] == list(result.outputs)


def test_next_run_moves_the_good_outputs_away(folder: RunFolder, runs: Path) -> None:
    """What a green run wrote is kept for one generation; a person's note and nothing else stays."""
    run_once(folder, runs, {"clean.csv": "old", "sub/deep.csv": "3"})
    (folder.path / "note.txt").write_text("mine")
    claim = Claim.take(folder, runs, owner("r2"))
    assert ["note.txt"] == sorted(snapshot(folder.path))
    assert not (folder.path / "sub").exists()
    kept = previous_folder(runs, folder.path)
    assert ["clean.csv", "result.json", "sub/deep.csv"] == sorted(snapshot(kept))
    claim.release(finished=True)


def test_one_generation_is_kept(folder: RunFolder, runs: Path) -> None:
    """The run before the last good one is gone, also where it wrote other files."""
    run_once(folder, runs, {"first.csv": "1"})
    run_once(folder, runs, {"second.csv": "2"})
    Claim.take(folder, runs, owner()).release(finished=True)
    assert ["result.json", "second.csv"] == sorted(snapshot(previous_folder(runs, folder.path)))


def test_red_outputs_are_removed_and_the_last_good_ones_stay_kept(folder: RunFolder, runs: Path) -> None:
    """A failed rerun never costs the last good result."""
    run_once(folder, runs, {"clean.csv": "good"})
    run_once(folder, runs, {"clean.csv": "bad"}, Status.ERROR)
    Claim.take(folder, runs, owner()).release(finished=True)
    assert {} == snapshot(folder.path)
    assert "good" == (previous_folder(runs, folder.path) / "clean.csv").read_text()


def test_previous_can_be_switched_off(folder: RunFolder, runs: Path) -> None:
    """Without keep_previous a good run's outputs are removed."""
    run_once(folder, runs, {"clean.csv": "good"})
    Claim.take(folder, runs, owner(), keep_previous=False).release(finished=True)
    assert {} == snapshot(folder.path)
    assert not previous_folder(runs, folder.path).exists()


def test_symlinks_are_not_followed(folder: RunFolder, runs: Path, tmp_path: Path) -> None:
    """A symlink is an output by itself; what lies behind it is neither listed nor cleared."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big.csv").write_text("1")
    folder.path.mkdir(parents=True)
    claim = Claim.take(folder, runs, owner())
    (folder.path / "link").symlink_to(outside)
    [link] = claim.outputs([])
    assert ("link", "link", str(outside)) == (link["path"], link["kind"], link["target"])
    claim.release(finished=True)
    Claim.take(folder, runs, owner()).release(finished=True)
    assert (outside / "big.csv").exists()


def test_the_flows_of_a_build_keep_their_folders(folder: RunFolder, runs: Path) -> None:
    """A build's new run does not clear its flows' folders, and does not list their files."""
    claim = Claim.take(folder, runs, owner())
    child = folder.path / "runs" / "prep"
    child.mkdir(parents=True)
    (child / "clean.csv").write_text("1")
    (folder.path / "summary.json").write_text("{}")
    assert [{"path": "summary.json", "size": 2}] == claim.outputs(["runs/prep"])
    claim.release(finished=True)


def rewritten(folder: RunFolder, runs: Path, name: str = "history.csv", text: str = "new") -> Result:
    """A run that writes over a file that was there before."""
    path = folder.path / name
    claim = Claim.take(folder, runs, owner())
    os.utime(path, ns=(0, 0))
    path.write_text(text)
    outputs = tuple(claim.outputs([]))
    kept = claim.kept_files(outputs)
    result = Result("fit", "a", "flow", Status.SUCCESS, outputs=outputs, kept_files=kept)
    write_result(result, folder.path)
    claim.release(finished=True)
    return result


def test_a_file_that_a_run_writes_over_is_its_output_and_stays(folder: RunFolder, runs: Path) -> None:
    """Whoever made it, its content is this run's; the next run leaves it, and keeps a copy."""
    folder.path.mkdir(parents=True)
    path = folder.path / "history.csv"
    path.write_text("mine")
    for text in ("1", "12"):
        result = rewritten(folder, runs, text=text)
        assert ["history.csv"] == [output["path"] for output in result.outputs]
        assert ("history.csv",) == result.kept_files
    # By hand a person adds to it: it stays all the same.
    path.write_text("12 and more")
    rewritten(folder, runs, text="12 and more, 3")
    claim = Claim.take(folder, runs, owner())
    kept = previous_folder(runs, folder.path) / "history.csv"
    assert ["12 and more, 3"] * 2 == [kept.read_text(), path.read_text()]
    path.write_text("4")
    assert "12 and more, 3" == kept.read_text()
    claim.release(finished=True)
    # A run that leaves it alone has not written it.
    claim = Claim.take(folder, runs, owner())
    assert [] == claim.outputs([])
    claim.release(finished=True)


@pytest.mark.parametrize("left", [None, "", '{"schema": '])
def test_outputs_after_a_lost_result(folder: RunFolder, runs: Path, left: str | None) -> None:
    """What is written anew is an output, also with the same content; what is not written is none."""
    run_once(folder, runs, {"x.csv": "1", "y.csv": "2", "metrics.json": "{}"})
    for file in (folder.log, folder.config):
        file.write_text("{}")
    folder.result.unlink()
    if left is not None:
        folder.result.write_text(left)
    result = rewritten(folder, runs, "x.csv", "1")
    assert ["x.csv"] == [output["path"] for output in result.outputs]
    result = rewritten(folder, runs, "metrics.json", "{}")
    assert ["metrics.json"] == [output["path"] for output in result.outputs]
    # Metrics are always the run's own: the next run begins without them.
    assert () == result.kept_files
    Claim.take(folder, runs, owner()).release(finished=True)
    assert ["x.csv", "y.csv"] == sorted(snapshot(folder.path))


def test_a_held_folder_is_refused_with_the_holder(folder: RunFolder, runs: Path) -> None:
    """The second one is told who holds the folder; nothing is touched."""
    claim = Claim.take(folder, runs, owner())
    (folder.path / "clean.csv").write_text("1")
    with pytest.raises(RunFolderError, match=f"process {os.getpid()} on .* session s1"):
        Claim.take(folder, runs, owner("r2"))
    assert (folder.path / "clean.csv").exists()
    claim.release(finished=True)


def test_a_dead_holder_leaves_an_unfinished_run(folder: RunFolder, runs: Path) -> None:
    """After a kill the folder is free, the run is told as unfinished, and what it wrote is cleared."""
    folder.path.mkdir(parents=True)
    (folder.path / "note.txt").write_text("mine")
    script = f"""
import os, signal
from pathlib import Path
from ductaflow.store.folder import Claim, Owner
from ductaflow.common.paths import RunFolder
folder = RunFolder(Path({str(folder.path)!r}), "fit")
owner = Owner("fit", "a", "r1", "dead", os.uname().nodename, os.getpid(), "now")
Claim.take(folder, Path({str(runs)!r}), owner)
(folder.path / "half.csv").write_text("1,")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    left = unfinished(runs)
    assert [(folder.path, "dead")] == [(run.folder, run.owner.session_id) for run in left]
    claim = Claim.take(folder, runs, owner("r2"))
    assert ["note.txt"] == sorted(snapshot(folder.path))
    assert [] == unfinished(runs)
    claim.release(finished=True)
    assert [] == unfinished(runs)
    assert not any((runs / ".ductaflow" / "running").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells that a process is ending")
def test_a_lock_that_outlives_its_holder_for_a_moment_is_waited_for(folder: RunFolder, runs: Path) -> None:
    """A process that is killed ends its connections before its locks: who starts the next run is faster."""
    script = f"""
import os, signal, time
from pathlib import Path
from ductaflow.store.folder import Claim, Owner
from ductaflow.common.paths import RunFolder
owner = Owner("fit", "a", "r1", "dead", os.uname().nodename, os.getpid(), "now")
claim = Claim.take(RunFolder(Path({str(folder.path)!r}), "fit"), Path({str(runs)!r}), owner)
for name in os.listdir("/proc/self/fd"):
    if os.path.realpath(f"/proc/self/fd/{{name}}").endswith(".lock"):
        held = os.dup(int(name))
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.3)
os.close(held)
"""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-c", script], check=False, **quiet)

    Claim.take(folder, runs, owner("r2")).release(finished=True)


def test_an_unfinished_run_whose_marker_is_unreadable_is_named(runs: Path, folder: RunFolder) -> None:
    """It is no unfinished run that we know of, and the file is not passed over in silence."""
    Claim.take(folder, runs, owner("r1")).release(finished=False)
    (marker,) = (runs / ".ductaflow" / "running").glob("*.json")
    marker.write_text("[")
    faults: list[str] = []
    assert [] == unfinished(runs, faults)
    (fault,) = faults
    assert str(marker) in fault


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("name", ["result.json", ".json", ".hand"])
def test_what_the_system_does_not_let_us_read_is_no_damage(
    folder: RunFolder, runs: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    """The run is refused with the name of the file, and nothing has been moved; the next one keeps all."""
    run_once(folder, runs, {"clean.csv": "old", "sub/deep.csv": "3"})
    files = snapshot(folder.path)
    opened = os.open

    def refuse(path: str | Path, flags: int, *args: int) -> int:
        if os.fspath(path).endswith(name):
            raise OSError(error, os.strerror(error), os.fspath(path))
        return opened(path, flags, *args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(RunFolderError, match=os.strerror(error)):
            Claim.take(folder, runs, owner("r2"))
    assert files == snapshot(folder.path)
    assert not list((runs / ".ductaflow" / "running").glob("*.json"))
    Claim.take(folder, runs, owner("r3")).release(finished=True)
    kept = previous_folder(runs, folder.path)
    assert {"old", "3"} == {(kept / "clean.csv").read_text(), (kept / "sub" / "deep.csv").read_text()}


def test_a_symlink_out_of_the_tree_is_refused(folder: RunFolder, runs: Path, tmp_path: Path) -> None:
    """Nothing is written where a symlink leads out of the runs folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    runs.mkdir()
    (runs / "fit").symlink_to(outside)
    with pytest.raises(RunFolderError, match="leads out of"):
        Claim.take(folder, runs, owner())
    assert [] == list(outside.iterdir())


def test_an_unwritable_tree_is_one_clear_error(tmp_path: Path) -> None:
    """A runs folder that cannot be made is named, with the reason of the system."""
    (tmp_path / "runs").write_text("a file where a folder should be")
    folder = RunFolder(tmp_path / "runs" / "fit" / "a", "fit")
    with pytest.raises(RunFolderError, match="cannot be written"):
        Claim.take(folder, tmp_path / "runs", owner())


def test_work_by_hand_is_told_by_the_next_run(folder: RunFolder, runs: Path) -> None:
    """Files that cells wrote by hand are named, and are the run's once it wrote them again."""
    run_once(folder, runs, {"clean.csv": "1"})
    note_hand_work(folder.path, runs)
    (folder.path / "extra.csv").write_text("by hand")
    claim = Claim.take(folder, runs, owner())
    assert ("extra.csv",) == claim.edited
    (folder.path / "extra.csv").write_text("by the run")
    assert [{"path": "extra.csv", "size": 10}] == claim.outputs([])
    claim.release(finished=True)


def test_leftover_temporary_files_of_ours_are_removed(folder: RunFolder, runs: Path) -> None:
    """A kill in the midst of an atomic write leaves a temporary file; the end of the run takes it away."""
    claim = Claim.take(folder, runs, owner())
    (folder.path / ".ductaflow-tmp-x1").write_text("half")
    assert [] == claim.outputs([])
    assert {} == snapshot(folder.path)
    claim.release(finished=True)


def test_a_persons_file_with_a_name_of_ours_is_kept(folder: RunFolder, runs: Path) -> None:
    """Where nothing has run, such a file is nobody's but theirs; what a prepared run has is ours."""
    folder.path.mkdir(parents=True)
    for name in ("result.json", "fit.html", "fit.ipynb"):
        (folder.path / name).write_text("mine")
    claim = Claim.take(folder, runs, owner())
    assert 3 == len(claim.notes)
    assert "result.json was there before anything had run: it is kept as result.flow.json" in claim.notes
    assert {"result.flow.json", "fit.flow.html", "fit.flow.ipynb"} == set(snapshot(folder.path))
    claim.withdraw()
    claim.release(finished=True)
    for name in ("fit_config.json", "fit.ipynb"):
        (folder.path / name).write_text("{}")
    claim = Claim.take(folder, runs, owner())
    assert [] == claim.notes
    assert {"result.flow.json", "fit.flow.html", "fit.flow.ipynb"} == set(snapshot(folder.path))
    claim.release(finished=True)


def test_a_folder_in_the_place_of_our_file_is_kept_with_what_it_holds(folder: RunFolder, runs: Path) -> None:
    """An empty one is removed, as a pipe or a link is."""
    (folder.path / "fit.html").mkdir(parents=True)
    (folder.path / "fit.html" / "note.txt").write_text("mine")
    (folder.path / "fit.ipynb").mkdir()
    os.mkfifo(folder.path / "result.json")
    Claim.take(folder, runs, owner()).release(finished=True)
    assert {"fit.flow.html/note.txt"} == set(snapshot(folder.path))
