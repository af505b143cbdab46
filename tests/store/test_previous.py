"""The last good version: whole at each moment, in the run folder or among the previous ones."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ductaflow.common.errors import RunFolderError
from ductaflow.common.files import snapshot, sweep_temporary, temporary_prefix
from ductaflow.common.paths import RunFolder
from ductaflow.store import previous
from ductaflow.store.folder import Claim, Owner, unfinished
from ductaflow.store.previous import previous_folder
from ductaflow.store.result import Result, Status, readable_result, write_result

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and links of POSIX")

#: What a good run wrote: text of a file, target of a link, None for an empty folder.
FILES = {f"sub{number}/{name}": f"{name}{number}" for number in range(3) for name in ("a", "b")}
LINKS, FOLDERS = {"latest": "sub1/a", "sub2/dangling": "nowhere"}, ["plots", "sub0/empty"]


def owner(run_id: str) -> Owner:
    return Owner("fit", "a", run_id, "s", os.uname().nodename, os.getpid(), "2026-01-01T00:00:00Z")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def folder(runs: Path) -> RunFolder:
    return RunFolder(runs / "fit" / "a", "fit")


def run_once(folder: RunFolder, runs: Path, text: str, status: Status = Status.SUCCESS) -> None:
    """What a run leaves that writes everything above, and `text` into a file that tells which run it was."""
    claim = Claim.take(folder, runs, owner(text))
    for name, content in {**FILES, "which": text, "fit_config.json": "{}"}.items():
        path = folder.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    for name, target in LINKS.items():
        (folder.path / name).symlink_to(target)
    for name in FOLDERS:
        (folder.path / name).mkdir()
    outputs = tuple(claim.outputs([]))
    write_result(Result("fit", "a", "flow", status, run_id=text, outputs=outputs), folder.path)
    claim.release(finished=True)


def version_in(place: Path) -> str | None:
    """Which run's files lie in a folder as a whole, with its result; None if some are missing."""
    result = readable_result(place)
    if result is None:
        return None
    whole = all(
        (place / name).is_file() and (place / name).read_text() == text for name, text in FILES.items()
    )
    whole &= all(
        os.path.islink(place / name) and os.readlink(place / name) == to for name, to in LINKS.items()
    )
    whole &= all((place / name).is_dir() for name in FOLDERS)
    return result.run_id if whole and (place / "which").read_text() == result.run_id else None


#: What changes something on disk, by the names of audit events; `open` only for writing.
CALLS = ("os.link", "os.symlink", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime")
HELD, REFUSED, NO_FAULT = 3, 4, 5


def claim_with_fault(folder: RunFolder, runs: Path, at: int, fault: str, run_id: str = "next") -> int:
    """Take the folder in a process of its own, with a fault at its n-th call; return its exit code."""
    return in_a_fork(lambda: _claim(folder, runs, at, fault, run_id))


def in_a_fork(deed: Callable[[], int]) -> int:
    """Do something in a fork of this process; return the exit code, which is 1 if it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = deed()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _claim(folder: RunFolder, runs: Path, at: int, fault: str, run_id: str) -> int:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        is_named = arguments and isinstance(arguments[0], str | bytes | os.PathLike)
        if not (event in CALLS or writes) or not is_named or str(runs) not in os.fsdecode(arguments[0]):
            return
        seen += 1
        if seen == at and fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if seen == at:
            number = getattr(errno, fault)
            raise OSError(number, os.strerror(number), os.fsdecode(arguments[0]))

    sys.addaudithook(hook)
    try:
        Claim.take(folder, runs, owner(run_id))
    except RunFolderError as exc:
        return REFUSED if str(runs) in exc.message else 1
    return HELD if seen >= at else NO_FAULT


def alone(tmp_path: Path, deed: Callable[[Path, str], None], fault: str) -> None:
    """Do something in a process of its own: it forks hundreds of times, which is cheap in a small one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, __file__, deed.__name__, str(tmp_path), fault]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "ENOSPC", "EIO"])
def test_the_last_good_version_survives_a_fault_at_any_call(tmp_path: Path, fault: str) -> None:
    """It is whole in one of its two places after the fault, and after the claims that follow."""
    alone(tmp_path, survive_a_fault_at_any_call, fault)


def survive_a_fault_at_any_call(tmp_path: Path, fault: str) -> None:
    runs = tmp_path / "runs"
    folder = RunFolder(runs / "fit" / "a", "fit")
    kept = previous_folder(runs, folder.path)

    def check(at: int) -> None:
        assert "good" in (version_in(folder.path), version_in(kept)), at
        # The next one fails as well, in its midst and then as a run.
        claim_with_fault(folder, runs, at + 2, fault, "second")
        assert "good" in (version_in(folder.path), version_in(kept)), at
        run_once(folder, runs, "red", Status.ERROR)
        assert "good" == version_in(kept), at
        Claim.take(folder, runs, owner("last")).release(finished=True)
        assert "good" == version_in(kept), at
        assert [] == list(folder.path.iterdir()), at
        running = runs / ".ductaflow" / "running"
        assert [] == list(running.iterdir()), at

    for at in itertools.count(1):
        run_once(folder, runs, "older")
        run_once(folder, runs, "good")
        code = claim_with_fault(folder, runs, at, fault)
        if code == NO_FAULT:
            break
        assert code in ([-signal.SIGKILL] if fault == "kill" else [REFUSED, HELD]), at
        check(at)
    assert at > 30


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["ENOSPC", "EDQUOT"])
def test_a_claim_that_fails_leaves_no_run_that_was_lost(tmp_path: Path, fault: str) -> None:
    """The folder is as it was: its result is that of the last run, and nothing says that one never ended."""
    alone(tmp_path, lose_no_run, fault)


def lose_no_run(tmp_path: Path, fault: str) -> None:
    runs = tmp_path / "runs"
    folder = RunFolder(runs / "fit" / "a", "fit")
    refused = 0
    for at in itertools.count(1):
        run_once(folder, runs, "good")
        code = claim_with_fault(folder, runs, at, fault)
        if code == NO_FAULT:
            break
        assert code in (REFUSED, HELD), at
        if version_in(folder.path) == "good":
            assert [] == unfinished(runs), at
            refused += 1
    assert refused > 10


def test_where_there_are_no_hard_links_files_are_copied(
    folder: RunFolder, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version that is kept is as whole as with links."""

    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    run_once(folder, runs, "good")
    monkeypatch.setattr(previous.os, "link", no_link)
    Claim.take(folder, runs, owner("r")).release(finished=True)
    assert "good" == version_in(previous_folder(runs, folder.path))


def test_a_run_that_ended_just_before_its_supervisor_was_killed_is_a_good_one(
    folder: RunFolder, runs: Path
) -> None:
    """The marker of the run is still there, and its result is: nothing of it is lost."""
    run_once(folder, runs, "older")
    claim = Claim.take(folder, runs, owner("good"))
    marker = next((runs / ".ductaflow" / "running").glob("*.json")).read_bytes()
    claim.release(finished=True)
    run_once(folder, runs, "good")
    claim.events_file.with_suffix(".json").write_bytes(marker)
    Claim.take(folder, runs, owner("next")).release(finished=True)
    assert "good" == version_in(previous_folder(runs, folder.path))


@pytest.mark.parametrize("part", [".ductaflow", ".ductaflow/previous", ".ductaflow/previous/fit"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_symlink_on_the_way_to_the_previous_outputs_is_refused(
    folder: RunFolder, runs: Path, part: str, inside: bool, tmp_path: Path
) -> None:
    """Nothing is written outside of the tree, nor into another run's folder."""
    run_once(folder, runs, "good")
    target = (runs / "other" if inside else tmp_path / "outside") / "a"
    target.mkdir(parents=True)
    place = runs / part
    if place.exists():
        place.rename(tmp_path / "moved")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    if part == ".ductaflow" and inside:
        Claim.take(folder, runs, owner("next")).release(finished=True)
        return
    with pytest.raises(RunFolderError, match=r"\.ductaflow.* is a symlink to"):
        Claim.take(folder, runs, owner("next"))
    assert [] == [path for path in target.rglob("*") if path.is_file() and "running" not in path.parts]
    assert "good" == version_in(folder.path)


def test_the_runs_of_a_build_keep_their_own_previous_versions(runs: Path) -> None:
    """The next claim of the build replaces its own files, and leaves those of its flows."""
    build = RunFolder(runs / "b" / "x", "b")
    flow = RunFolder(build.path / "runs" / "fit" / "a", "fit")
    run_once(RunFolder(build.path, "fit"), runs, "build1")
    for text in ("flow1", "flow2"):
        run_once(flow, runs, text)
        (flow.path / "fit_execution_output.txt").write_text("log")
    claim = Claim.take(flow, runs, owner("flow3"))
    claim.release(finished=True)
    for text in ("build2", "build3"):
        run_once(RunFolder(build.path, "fit"), runs, text)
    assert "flow2" == version_in(previous_folder(runs, flow.path))
    assert "build2" == version_in(previous_folder(runs, build.path))


def test_temporary_files_of_dead_processes_are_swept(folder: RunFolder, runs: Path) -> None:
    """Those of a process that still writes stay."""
    script = (
        "import os, sys; from pathlib import Path; from ductaflow.common.files import write_atomic\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "write_atomic(Path(sys.argv[1]), 'x')"
    )
    places = [folder.path, runs, runs / ".ductaflow", runs / ".ductaflow" / "running"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([sys.executable, "-c", script, str(place / "f")], check=False)
        assert -signal.SIGKILL == done.returncode
    left = [path for place in places for path in place.glob(".ductaflow-tmp-*")]
    assert 4 == len(left)
    alive = left[-1].with_name(left[-1].name.replace(left[-1].name.split("-")[3], str(os.getpid())))
    alive.touch()
    Claim.take(folder, runs, owner("r")).release(finished=True)
    assert [alive] == [path for place in places for path in place.glob(".ductaflow-tmp-*")]


def test_temporary_folders_of_dead_sessions_are_swept(tmp_path: Path) -> None:
    """By their names, which say who made them: what has another name, or a maker that lives, stays."""
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    alive = temporary_prefix()
    left = alive.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
    for name in (f"{alive}a", f"{left}b", f"{left}c", "ductaflow-d"):
        (tmp_path / name).mkdir()
    (tmp_path / f"{left}b" / "socket").touch()
    sweep_temporary(tmp_path)
    assert [f"{alive}a", "ductaflow-d"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become somebody else")
def test_what_a_run_locked_is_moved_away_by_its_owner() -> None:
    """A user who is not root gets a folder of mode 0 and read-only files out of the way, and keeps them."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        # Once as root: what is imported on the way may lie where nobody else can read.
        own = Path(place) / "own"
        assert 0 == _lock_and_claim(RunFolder(own / "fit" / "a", "fit"), own)
        runs = Path(place) / "runs"

        def as_nobody() -> int:
            os.setgid(65534)
            os.setuid(65534)
            return _lock_and_claim(RunFolder(runs / "fit" / "a", "fit"), runs)

        assert 0 == in_a_fork(as_nobody)
        kept = previous_folder(runs, runs / "fit" / "a")
        assert {"locked/in/side", "locked/x", "secret/y", "result.json"} == set(snapshot(kept))


def _lock_and_claim(folder: RunFolder, runs: Path) -> int:
    for run_id in ("one", "two"):
        claim = Claim.take(folder, runs, owner(run_id))
        if list(folder.path.iterdir()):
            return 2
        for name in ("locked/x", "secret/y"):
            (folder.path / name).parent.mkdir()
            (folder.path / name).touch(0o400)
        (folder.path / "locked/in/side").mkdir(parents=True)
        for name, mode in {"locked/in": 0o555, "locked": 0o555, "secret": 0}.items():
            (folder.path / name).chmod(mode)
        outputs = tuple(claim.outputs([]))
        write_result(Result("fit", "a", "flow", Status.SUCCESS, run_id=run_id, outputs=outputs), folder.path)
        claim.release(finished=True)
    Claim.take(folder, runs, owner("three")).release(finished=True)
    return 3 if list(folder.path.iterdir()) else 0


if __name__ == "__main__":
    # Nobody pulls the plug here, and the disk would take most of the time.
    os.fsync = lambda _: None
    {one.__name__: one for one in (survive_a_fault_at_any_call, lose_no_run)}[sys.argv[1]](
        Path(sys.argv[2]), sys.argv[3]
    )
