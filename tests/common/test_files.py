"""What lies in a folder, and regular files as a whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ductaflow.common.files import SpecialFileError, folders_in, open_regular, read_regular


def test_the_folders_in_a_folder(tmp_path: Path) -> None:
    """Links to some count. What leads nowhere, or back to itself, is none and hides no other."""
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    for name, target in {"link": "a", "to_file": "file", "lost": "gone", "circle": "circle"}.items():
        (tmp_path / name).symlink_to(target)

    assert ["a", "b", "link"] == folders_in(tmp_path)
    assert [] == folders_in(tmp_path / "gone")
    assert [] == folders_in(tmp_path / "file")


def test_a_file_as_a_whole(tmp_path: Path) -> None:
    """Also an empty one, and one that is larger than what a system reads at a time."""
    for data in (b"", b"x", bytes(3_000_000)):
        (tmp_path / "file").write_bytes(data)
        assert data == read_regular(tmp_path / "file")
        assert data == read_regular(str(tmp_path / "file"), most=len(data))
    with pytest.raises(OSError, match="3,000,000 bytes") as found:
        read_regular(tmp_path / "file", most=2_999_999)
    assert errno.EFBIG == found.value.errno


@pytest.mark.parametrize("name", ["folder", "pipe", "/dev/null"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """Nobody waits for the writer of a pipe, and no descriptor stays open."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/dev/fd")
    with pytest.raises(IsADirectoryError if name == "folder" else SpecialFileError):
        read_regular(tmp_path / name)
    assert before == os.listdir("/dev/fd")


def test_a_link_is_followed_unless_it_must_not_be(tmp_path: Path) -> None:
    """A flow may have put one into the place of a file of ours."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert b"x" == read_regular(tmp_path / "link")
    with pytest.raises(OSError, match="symbolic"):
        open_regular(tmp_path / "link", follow=False)
