"""Kept hashes: when they are believed, and that nothing that happens to the store is an error."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ductaflow.store import hashes
from ductaflow.store.hashes import Hashes, hash_file

SECOND = 1_000_000_000


class Tree:
    """A folder with one file of a set age, and stores of hashes that share a clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "runs").mkdir()
        self.file = root / "input.csv"
        self.now = time.time_ns() + 3600 * SECOND
        self.read: list[str] = []

    def write(self, text: str, *, times: os.stat_result | None = None) -> None:
        self.file.write_text(text, encoding="utf-8")
        if times:
            os.utime(self.file, ns=(times.st_atime_ns, times.st_mtime_ns))

    def store(self, now: Callable[[], int] | None = None) -> Hashes:
        return Hashes(self.root / "runs/.ductaflow/hashes", str(self.root), now or (lambda: self.now))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Notes which files are read."""
    tree = Tree(tmp_path)

    def noted(path: str, what: hashes.What, stopped: Callable[[], bool]) -> str:
        tree.read.append(Path(path).name)
        return hash_file(path, what, stopped)

    monkeypatch.setattr(hashes, "hash_file", noted)
    return tree


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_file_is_read_once(tree: Tree) -> None:
    """By one store, and by another process later."""
    tree.write("1")
    first = tree.store()
    assert [sha("1")] * 2 == [first.of(str(tree.file)) for _ in range(2)]
    first.flush()
    assert sha("1") == tree.store().of(str(tree.file))
    assert ["input.csv"] == tree.read


def test_a_changed_file_is_read_again(tree: Tree) -> None:
    """To the same size, and with its time of modification put back: its time of change tells."""
    tree.write("1")
    store = tree.store()
    before = tree.file.stat()
    assert sha("1") == store.of(str(tree.file))
    tree.write("2", times=before)
    assert sha("2") == store.of(str(tree.file))


def test_a_file_that_was_just_written_is_not_believed(tree: Tree) -> None:
    """Another edit in the same tick of the clock would leave the same size and times (git: racy)."""
    tree.write("1")
    written = max(tree.file.stat().st_mtime_ns, tree.file.stat().st_ctime_ns)
    young = tree.store(lambda: written + SECOND)
    young.of(str(tree.file))
    young.of(str(tree.file))
    young.flush()
    assert ["input.csv"] * 2 == tree.read
    old = tree.store(lambda: written + 3 * SECOND)
    old.of(str(tree.file))
    old.of(str(tree.file))
    assert ["input.csv"] * 3 == tree.read


def test_a_file_from_the_future_is_not_believed(tree: Tree) -> None:
    """The clock of a file server may be ahead."""
    tree.write("1")
    store = tree.store(lambda: tree.file.stat().st_mtime_ns - 60 * SECOND)
    store.of(str(tree.file))
    store.of(str(tree.file))
    assert ["input.csv"] * 2 == tree.read


def test_hashes_of_one_file_are_of_several_kinds(tree: Tree) -> None:
    """Content and code of a source are kept apart."""
    source = tree.root / "a.py"
    source.write_text("x = 1  # one\n", encoding="utf-8")
    store = tree.store()
    kinds: list[hashes.What] = ["content", "code", "module"]
    assert 3 == len({store.of(str(source), what) for what in kinds})
    assert 3 == len({store.of(str(source), what) for what in kinds})
    assert ["a.py"] * 3 == tree.read


def test_a_project_that_was_moved_finds_its_hashes(
    tree: Tree, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Files of the project are kept by their path from its root; a move changes no file."""
    (tree.root / "p/runs").mkdir(parents=True)
    (tree.root / "p/a.csv").write_text("1", encoding="utf-8")
    store = Hashes(tree.root / "p/runs/.ductaflow/hashes", str(tree.root / "p"), lambda: tree.now)
    store.of(str(tree.root / "p/a.csv"))
    store.flush()
    (tree.root / "p").rename(tree.root / "q")
    moved = Hashes(tree.root / "q/runs/.ductaflow/hashes", str(tree.root / "q"), lambda: tree.now)
    moved.of(str(tree.root / "q/a.csv"))
    assert ["a.csv"] == tree.read


def test_names_of_all_kinds_are_kept(tree: Tree) -> None:
    """Tabs, line ends and other letters in names do not mix up lines."""
    names = ["a\tb", "a\nb", "ä ü", "f", "a\\nb"]
    for name in names:
        (tree.root / name).write_text(name, encoding="utf-8")
    for store in (tree.store(), tree.store()):
        assert [sha(name) for name in names] == [store.of(str(tree.root / name)) for name in names]
        store.flush()
    assert sorted(names) == sorted(tree.read)


def bucket(tree: Tree) -> Path:
    (found,) = (tree.root / "runs/.ductaflow/hashes").iterdir()
    return found


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-20] + b"0" * 19 + b"\n",
        lambda raw: raw.replace(sha("1").encode(), sha("2").encode()),
        lambda raw: b"\0" * 4096,
        lambda raw: os.urandom(4096),
        lambda raw: b"",
        lambda raw: raw.replace(b"\t", b""),
    ],
)
def test_a_damaged_store_is_only_slower(tree: Tree, damage: Callable[[bytes], bytes]) -> None:
    """Whatever is in it, the hash is that of the file; and what is kept anew is found again."""
    tree.write("1")
    store = tree.store()
    store.of(str(tree.file))
    store.flush()
    bucket(tree).write_bytes(damage(bucket(tree).read_bytes()))
    again = tree.store()
    assert sha("1") == again.of(str(tree.file))
    again.flush()
    assert sha("1") == tree.store().of(str(tree.file))
    assert ["input.csv"] * 2 == tree.read


def test_a_store_that_cannot_be_used_says_so_and_is_only_slower(tree: Tree) -> None:
    """Here a file is in the place of its folder."""
    tree.write("1")
    (tree.root / "runs/.ductaflow").write_text("", encoding="utf-8")
    store = tree.store()
    assert sha("1") == store.of(str(tree.file))
    store.flush()
    assert store.fault is not None
    assert "runs/.ductaflow/hashes" in store.fault.replace(os.sep, "/")


def test_a_tree_that_was_removed_does_not_come_back(tree: Tree) -> None:
    """A process that ends after its project is gone writes nothing."""
    tree.write("1")
    store = tree.store()
    store.of(str(tree.file))
    (tree.root / "runs").rmdir()
    store.flush()
    assert not (tree.root / "runs").exists()
    assert store.fault is None


def test_a_bucket_with_much_that_is_superseded_is_written_anew(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not grow for ever."""
    monkeypatch.setattr(hashes, "_LARGE", 1000)
    for number in range(20):
        tree.write(str(number))
        store = tree.store()
        store.of(str(tree.file))
        store.flush()
    assert bucket(tree).stat().st_size < 1500
    read = len(tree.read)
    tree.store().of(str(tree.file))
    assert read == len(tree.read)


def test_processes_may_write_at_once(tmp_path: Path) -> None:
    """Lines of several processes do not mix."""
    (tmp_path / "runs").mkdir()
    for number in range(400):
        (tmp_path / f"{number}.csv").write_text(str(number), encoding="utf-8")
    code = f"""
        import sys
        from pathlib import Path
        from ductaflow.store.hashes import Hashes
        root = Path({str(tmp_path)!r})
        for number in range(400):
            store = Hashes(root / "runs/.ductaflow/hashes", str(root), lambda: 2 * 10**18)
            store.of(str(root / f"{{number}}.csv"))
            store.flush()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [0, 0] == [process.wait() for process in processes]
    store = Hashes(tmp_path / "runs/.ductaflow/hashes", str(tmp_path), lambda: 2 * 10**18)
    found = [store._lookup(store._key(str(tmp_path / f"{number}.csv"), "content")) for number in range(400)]
    assert [sha(str(number)).encode() for number in range(400)] == [entry and entry[1] for entry in found]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_no_file(tree: Tree) -> None:
    """It is not waited for."""
    os.mkfifo(tree.root / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        tree.store().of(str(tree.root / "pipe"))
