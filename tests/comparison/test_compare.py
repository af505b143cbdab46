"""Files compared by what their names say: arrays, pictures, text, content, and what is no file at all."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ductaflow.common.decode import decode
from ductaflow.common.rules import Rule
from ductaflow.comparison import cells, compare
from ductaflow.comparison.compare import compare_files, format_of
from ductaflow.comparison.difference import EXPECTED, FileDifference, file_lines, value_lines
from ductaflow.comparison.scalars import compare_values


def told(found: FileDifference | None) -> list[str]:
    """The lines of a difference."""
    assert found is not None
    return list(file_lines(found))


def saved(folder: Path, name: str, **arrays: np.ndarray) -> Path:
    """A `.npy` of the one array, or a `.npz`."""
    if name.endswith(".npy"):
        np.save(folder / name, arrays["a"])
    else:
        np.savez(folder / name, **arrays)
    return folder / name


@pytest.mark.parametrize(
    ("name", "rule", "expected"),
    [
        ("a.JSON", Rule(), "json"),
        ("hourly.csv.gz", Rule(), "table"),
        ("a.tar.gz", Rule(), "content"),
        ("a.json.gz", Rule(), "content"),
        ("a.parquet", Rule(), "table"),
        ("map.svg", Rule(), "text"),
        ("map.png", Rule(), "content"),
        ("map.png", Rule(atol=0.0), "content"),
        ("map.png", Rule(atol=2.0), "picture"),
        ("model.pkl", Rule(rtol=0.1), "content"),
        ("Makefile", Rule(), "content"),
        (".json", Rule(), "content"),
    ],
)
def test_the_name_says_how_a_file_is_compared(name: str, rule: Rule, expected: str) -> None:
    """Pictures only where a tolerance is named."""
    assert expected == format_of(name, rule)


# --- arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (np.array([1.0, np.nan, np.inf]), np.array([1.0000001, np.nan, np.inf])),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array([1, 2], np.int8), np.array([1, 2], np.uint64)),
        (np.array([1.0], np.float32), np.array([1.0])),
        (np.array([1 + 2j]), np.array([1 + 2.0000001j])),
        (np.array(3.0), np.array(3.00000001)),
        (np.zeros((0, 3)), np.zeros((0, 3), int)),
        (np.array(["a"], "<U1"), np.array(["a"], "<U5")),
        (np.array(["2030-01-01"], "M8[D]"), np.array(["2030-01-01"], "M8[ns]")),
        (np.array(["NaT"], "M8[D]"), np.array(["NaT"], "M8[ns]")),
        (np.array([(1, 2.0)], "i4,f8"), np.array([(1, 2.0000001)], "i4,f8")),
        (np.asfortranarray(np.eye(3)), np.eye(3)),
    ],
)
def test_the_same_arrays(tmp_path: Path, old: np.ndarray, new: np.ndarray) -> None:
    """Dtypes and the order in memory make no difference."""
    files = saved(tmp_path, "a.npy", a=old), saved(tmp_path, "b.npy", a=new)
    assert compare_files(*files, Rule()) is None


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            np.zeros((2, 3)),
            np.array([[0, 0, 0], [0, 0, 0.5]]),
            ["b.npy  1 of 6 cells", "  [1, 2]  old 0  new 0.5"],
        ),
        (np.zeros((2, 3)), np.zeros((3, 2)), ["b.npy", "  shape (2, 3) -> (3, 2)"]),
        (np.array(1.0), np.array(2.0), ["b.npy  1 of 1 cells", "  []  old 1  new 2  +100 %  rtol 1e-06"]),
        (np.array([True]), np.array([1]), ["b.npy  1 of 1 cells", "  [0]  old true  new 1"]),
        (
            np.array([2**53]),
            np.array([2**53 + 1]),
            ["b.npy  1 of 1 cells", "  [0]  old 9007199254740992  new 9007199254740993  +1.11e-14 %"],
        ),
        (
            np.array([2**63 - 1]),
            np.array([2**63], np.uint64),
            ["b.npy  1 of 1 cells", "  [0]  old 9223372036854775807  new 9223372036854775808  +1.08e-17 %"],
        ),
        (np.array([np.nan]), np.array([0.0]), ["b.npy  1 of 1 cells", "  [0]  old NaN  new 0"]),
        (
            np.array([7200], "m8[s]"),
            np.array([3 * 3600 * 10**9 + 1000], "m8[ns]"),
            ["b.npy  1 of 1 cells", '  [0]  old "2:00:00"  new "3:00:00.000001"'],
        ),
        (
            np.array(["2030-01-01T00:00"], "M8[ns]"),
            np.array(["2030-01-01T12:30"], "M8[ms]"),
            ["b.npy  1 of 1 cells", '  [0]  old "2030-01-01T00:00:00"  new "2030-01-01T12:30:00"'],
        ),
        (
            np.array(["2030-01-01"], "M8[D]"),
            np.array(["2030-01-02"], "M8[D]"),
            ["b.npy  1 of 1 cells", '  [0]  old "2030-01-01"  new "2030-01-02"'],
        ),
    ],
)
def test_arrays_that_differ(tmp_path: Path, old: np.ndarray, new: np.ndarray, lines: list[str]) -> None:
    """The place of a cell is its index."""
    files = saved(tmp_path, "a.npy", a=old), saved(tmp_path, "b.npy", a=new)
    assert lines == told(compare_files(*files, Rule()))


def test_arrays_of_an_archive(tmp_path: Path) -> None:
    """They are found by name; additional ones are told apart."""
    old = saved(tmp_path, "a.npz", x=np.zeros(2), y=np.zeros(2))
    more = saved(tmp_path, "b.npz", x=np.zeros(2), y=np.zeros(2), z=np.zeros(2))
    found = compare_files(old, more, Rule())
    assert ["b.npz", "  arrays added: z"] == told(found)
    assert found is not None
    assert found.only_added
    other = saved(tmp_path, "c.npz", x=np.ones(2), z=np.zeros(2))
    assert ["c.npz  2 of 2 cells, all in x", "  arrays gone: y", "  arrays added: z"] == told(
        compare_files(old, other, Rule())
    )[:3]
    assert compare_files(old, other, Rule(ignore=("x", "y", "z"))) is None


def test_pickles_are_never_read(tmp_path: Path) -> None:
    """An array of objects could run code."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    old = saved(tmp_path, "a.npy", a=np.array([1]))
    (tmp_path / "b.npy").write_bytes(old.read_bytes()[:6] + pickle.dumps(Trap()))
    np.save(tmp_path / "c.npy", np.array([Trap()], object), allow_pickle=True)
    for name in ("b.npy", "c.npy"):
        found = compare_files(old, tmp_path / name, Rule())
        assert found is not None
        assert f"{name}: cannot be read as npy: " in found.fault
    assert not (tmp_path / "sprung").exists()


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is known before anything is unpacked."""
    monkeypatch.setattr(cells, "_LARGEST", 1000)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1000))
    np.savez_compressed(tmp_path / "b.npz", x=np.ones(1000))
    found = compare_files(tmp_path / "a.npz", tmp_path / "b.npz", Rule())
    assert found is not None
    assert "it unpacks to 8.1 kB, more than 1.0 kB" in found.fault


# --- pictures ----------------------------------------------------------------------------------------------


def test_pictures_by_pixels_where_a_tolerance_is_named(tmp_path: Path) -> None:
    """A pixel is a row, a column and a channel of 0 to 255."""
    old = Image.new("RGB", (4, 3), (100, 100, 100))
    old.save(tmp_path / "a.png")
    new = old.copy()
    new.putpixel((3, 1), (100, 103, 100))
    new.save(tmp_path / "b.png")
    files = tmp_path / "a.png", tmp_path / "b.png"
    assert ["b.png  other content"] == told(compare_files(*files, Rule()))
    assert compare_files(*files, Rule(atol=3.0)) is None
    assert [
        "b.png  1 of 48 channels of pixels",
        "  [1, 3, 1]  old 100  new 103  +3 %  rtol 1e-06, atol 2",
    ] == told(compare_files(*files, Rule(atol=2.0)))
    old.resize((2, 2)).save(tmp_path / "b.png")
    assert "  shape (3, 4, 4) -> (2, 2, 4)" == told(compare_files(*files, Rule(atol=2.0)))[1]


def test_all_frames_of_a_picture(tmp_path: Path) -> None:
    """An animation is more than its first frame; more than eight bits stay."""
    grey, other = Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 90)
    grey.save(tmp_path / "a.gif", save_all=True, append_images=[other])
    grey.save(tmp_path / "b.gif", save_all=True, append_images=[Image.new("L", (2, 2), 200)])
    found = compare_files(tmp_path / "a.gif", tmp_path / "b.gif", Rule(atol=1.0))
    assert "b.gif  12 of 32 channels of pixels, all in frame 2; worst:" == told(found)[0]
    for name, value in (("a.tif", 40_000), ("b.tif", 40_100)):
        Image.fromarray(np.full((2, 2), value, np.uint16)).save(tmp_path / name)
    found = compare_files(tmp_path / "a.tif", tmp_path / "b.tif", Rule(atol=1.0))
    assert found is not None
    assert 4 == found.differing


def test_a_broken_picture(tmp_path: Path) -> None:
    """It differs, with the reason."""
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    found = compare_files(tmp_path / "a.png", tmp_path / "b.png", Rule(atol=1.0))
    assert found is not None
    assert "b.png: cannot be read as png: " in found.fault


# --- text --------------------------------------------------------------------------------------------------


def compared(folder: Path, old: str | bytes, new: str | bytes) -> FileDifference | None:
    """Compare two texts as files."""
    for name, text in (("a.txt", old), ("b.txt", new)):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return compare_files(folder / "a.txt", folder / "b.txt", Rule())


@pytest.mark.parametrize(
    ("old", "new"), [("a\nb\n", "a\r\nb\r\n"), ("a\nb\n", "a\nb"), ("a\rb", "a\nb"), ("\ufeffa", "a\n")]
)
def test_how_lines_end_makes_no_difference(tmp_path: Path, old: str, new: str) -> None:
    """Git and Windows change that."""
    assert compared(tmp_path, old, new) is None


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("a\nb\nc\n", "a\nx\nc\n", ["1 of 3 lines", "line 2  - b", "        + x"]),
        ("a\nb\nc\n", "a\nc\n", ["1 of 3 lines", "line 2  - b"]),
        ("a\nc\n", "a\nb\nc\n", ["1 of 3 lines", "line 2  + b"]),
        ("a\n\n", "a\n", ["1 of 2 lines", "line 2  - "]),
        ("", "a\n", ["1 of 1 lines", "line 1  + a"]),
        ("a\u2028b", "a b", ["1 of 1 lines", "line 1  - a\\u2028b", "        + a b"]),
        ("1\n2\n3\n4", "0\n2\n3\n5\n6", ["3 of 5 lines", "line 1  - 1", "        + 0", "line 4  - 4"]),
    ],
)
def test_lines_that_differ(tmp_path: Path, old: str, new: str, lines: list[str]) -> None:
    """Lines that came or went do not move the others."""
    first, *others = told(compared(tmp_path, old, new))
    assert f"b.txt  {lines[0]}" == first
    assert lines[1:] == [line[2:] for line in others][: len(lines) - 1]


def test_texts_that_have_little_in_common(tmp_path: Path) -> None:
    """Matching thousands of lines would take minutes; they are compared one by one, and cut."""
    old = "".join(f"{n} {'x' * 300}\n" for n in range(5000))
    found = compared(tmp_path, old, old.replace("x", "y"))
    assert found is not None
    assert (5000, 5000, 10) == (found.differing, found.compared, len(found.worst))
    assert len(told(found)[1]) < 300


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    """It is compared by content."""
    found = compared(tmp_path, "é", "é".encode("latin-1"))
    assert found is not None
    assert "b.txt: not UTF-8: unexpected end of data at byte 0" in found.fault


# --- files -------------------------------------------------------------------------------------------------


def test_files_of_the_same_bytes_are_not_parsed(tmp_path: Path) -> None:
    """Whatever they are, and however large."""
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{broken", encoding="utf-8")
    assert compare_files(tmp_path / "a.json", tmp_path / "b.json", Rule()) is None


def test_a_file_that_is_too_large_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is compared by content only is said, with the limit."""
    monkeypatch.setitem(compare.LARGEST, "json", 10)
    (tmp_path / "a.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "b.json").write_text("[1,   2, 3]", encoding="utf-8")
    found = compare_files(tmp_path / "a.json", tmp_path / "b.json", Rule())
    assert ["b.json  other content; 11 B are not compared any closer, 10 B would be"] == told(found)


def test_what_is_no_file(tmp_path: Path) -> None:
    """Folders, pipes, links to nothing and circles of links are named, and opened never."""
    (tmp_path / "a.csv").write_text("a\n1\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "a.csv.link").symlink_to("a.csv")
    expected = {
        "folder": "is a folder",
        "pipe": "is no regular file",
        "nowhere": "leads nowhere",
        "missing": "is not there",
        "circle": ": Too many levels of symbolic links",
    }
    for name, fault in expected.items():
        for pair in ((tmp_path / "a.csv", tmp_path / name), (tmp_path / name, tmp_path / "a.csv")):
            found = compare_files(*pair, Rule())
            assert found is not None
            assert found.fault.endswith(f"{name} {fault}".replace(" :", ":"))
    assert compare_files(tmp_path / "a.csv", tmp_path / "a.csv.link", Rule()) is None


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """It differs, with the reason."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a\n1\n", encoding="utf-8")
    (tmp_path / "b.csv").chmod(0)
    found = compare_files(tmp_path / "a.csv", tmp_path / "b.csv", Rule())
    assert found is not None
    assert "b.csv: Permission denied" in found.fault


def test_a_difference_is_plain_data(tmp_path: Path) -> None:
    """It goes through JSON, and comes back as it was."""
    old = saved(tmp_path, "a.npy", a=np.array([1, 2**53, np.inf, np.nan], object).astype(float))
    new = saved(tmp_path, "b.npy", a=np.array([2.0, 1.0, -np.inf, 1.0]))
    found = compare_files(old, new, Rule())
    text = json.dumps(asdict(found), allow_nan=False) if found else ""
    assert found == decode(text, FileDifference, where="a result")


# --- as people read it -------------------------------------------------------------------------------------


def test_lines_of_metrics_are_aligned() -> None:
    """The words are those of judging, or of a diff; text of flows cannot reach the terminal."""
    found = compare_values(
        {"rmse": 0.312, "name": "x\x1b[31m", "n": 1.00000001},
        {"rmse": 0.347, "name": None, "n": 1.00000002, "peak_mw": 812.4},
        lambda name: Rule(max=800.0) if name == "peak_mw" else Rule(rtol=0.0),
    )
    assert [
        "rmse     expected 0.312  found 0.347  +11.2 %",
        'name     expected "x\\u001b[31m"  found NaN',
        "n        expected 1.00000001  found 1.00000002  +1e-06 %",
        "peak_mw  found 812.4  added",
        "peak_mw  found 812.4 > max 800",
    ] == list(value_lines(found, EXPECTED))
