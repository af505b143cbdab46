"""Tables compared: by key or by position, as pandas reads them."""

from __future__ import annotations

import builtins
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ductaflow.common.rules import Rule
from ductaflow.comparison.compare import compare_files
from ductaflow.comparison.difference import EXPECTED, FileDifference, file_lines

Compare = Callable[..., FileDifference | None]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Compares two texts, or two tables, as files of a name."""

    def run(
        old: str | bytes, new: str | bytes, rule: Rule | None = None, name: str = "t.csv"
    ) -> FileDifference | None:
        for side, text in (("old", old), ("new", new)):
            (tmp_path / side).mkdir(exist_ok=True)
            data = text.encode() if isinstance(text, str) else text
            (tmp_path / side / name).write_bytes(data)
        return compare_files(tmp_path / "old" / name, tmp_path / "new" / name, rule or Rule())

    return run


def told(found: FileDifference | None) -> list[str]:
    """The lines of a difference."""
    assert found is not None
    return list(file_lines(found))


def csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a,b\n1,2\n", "a,b\n1,2.0\n"),
        ("a,b\n1,2\n", "b,a\n2,1\n"),
        ("a,b\n1,2\n", "a,b\r\n1,2\r\n"),
        ("a,b\n1,2\n", "\ufeffa,b\n1,2"),
        ("a,b\n1,2.5\n", "a;b\n1;2,5\n"),
        ("a,b\n1,2.5\n", "a\tb\n1\t2.5\n"),
        ('a,b\n1,"x"\n', "a,b\n1,x\n"),
        ("a,b\n1,\n", "a,b\n1,nan\n"),
        ("a,b\n1,\n", "a,b\n1,NaN\n"),
        ("a\n0.30000000000000004\n", "a\n0.3\n"),
        ("0.5,1\n2,3\n", "0.50000001,1\n2,3\n"),
        ("a,b\n,x\n1.0,y\n", "a,b\n,x\n1.00000001,y\n"),
        ("a\nNA\n1.0\n", "a\nNA\n1.00000001\n"),
        ("a\ninf\n-inf\n", "a\nInf\n-Inf\n"),
        ("a,b\n", "a,b\n\n"),
        ("a\nTrue\nFalse\n", "a\nTrue\nFalse\n\n"),
        ("a\n2030-01-01\n", 'a\n"2030-01-01"\n'),
    ],
)
def test_the_same_tables(compare: Compare, old: str, new: str) -> None:
    """Dtypes, the order of columns, delimiters and what is within the tolerances make no difference."""
    assert compare(old, new) is None


@pytest.mark.parametrize(
    ("old", "new", "cells"),
    [
        ("a\n1\n", "a\n2\n", ["row 1: 1 -> 2"]),
        ("a\n1.0\n", "a\n1.1\n", ["row 1: 1.0 -> 1.1"]),
        ("a\nx\n", "a\ny\n", ["row 1: x -> y"]),
        ("a\n1\n2\n", "a\n1\nx\n", ["row 2: 2 -> x"]),
        ("a,b\n1,\n", "a,b\n1,2\n", ["a 1: None -> 2"]),
        ("a,b\n1,inf\n", "a,b\n1,-inf\n", ["a 1: inf -> -inf"]),
        ("a,b\n1,inf\n", "a,b\n1,1e300\n", ["a 1: inf -> 1e+300"]),
        ("country,x\nNA,1.5\n", "country,x\n,1.5\n", ["row 1: NA -> None"]),
        ("a\nTrue\nFalse\n", "a\n1\n0\n", ["row 1: True -> 1", "row 2: False -> 0"]),
        ("a\n10\n", "a\n1_0\n", ["row 1: 10 -> 1_0"]),
        ("a\n10\n", "a\n\uff11\uff10\n", ["row 1: 10 -> \uff11\uff10"]),
        ("version\n1.1\nx\n", "version\n1.10\nx\n", ["row 1: 1.1 -> 1.10"]),
        ("a\n9007199254740993\n", "a\n9007199254740992\n", ["row 1: 9007199254740993 -> 9007199254740992"]),
        ("a\n18446744073709551615\n", "a\n18446744073709551614\n", None),
        ("a\n99999999999999999999\n", "a\n99999999999999999998\n", None),
        ("a,b\n9007199254740993,1\n,2\n", "a,b\n9007199254740992,1\n,2\n", None),
        ("a,b\n9007199254740993,1\n,2\n", "a,b\n9007199254740992,1\n3,2\n", None),
        ("a,b\n9007199254740993,1\nNA,2\n", "a,b\n9007199254740992,1\nNA,2\n", None),
        ("a\n9007199254740993\n", "a\n9007199254740992.0\n", None),
    ],
)
def test_cells_that_differ(compare: Compare, old: str, new: str, cells: list[str] | None) -> None:
    """Strings, booleans and integers of any size are compared exactly."""
    found = compare(old, new, Rule(rtol=0.0, atol=0.0))
    assert found is not None
    assert found.differing
    assert not found.fault
    if cells is not None:
        shown = sorted(f"{one.name}: {one.old} -> {one.new}" for one in found.worst)
        assert sorted(cells) == shown


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("a,b\n1000000,1\n,2\n", "a,b\n1000001,1\n,2\n", False),
        ("a,b\n1000000,1\n3,2\n", "a,b\n1000001,1\n,2\n", False),
        ("a,b\n1000000,1\n,2\n", "a,b\n1000000.0,1\n,2\n", True),
        ("a,b\n1000000.0,1\n,2\n", "a,b\n1000000.5,1\n,2\n", True),
        ("a,b\n1000000.0,1\n,2\n", "a,b\n1000001.0,1\n,2\n", True),
    ],
)
def test_integers_beside_a_gap_stay_integers(compare: Compare, old: str, new: str, is_same: bool) -> None:
    """For pandas they are floats then; they are compared exactly all the same."""
    assert is_same is (compare(old, new) is None)


def test_the_worst_cells_and_sums(compare: Compare) -> None:
    """Thousands of cells are summed up by column; the worst are shown with both values."""
    hours = range(1, 8761)
    old = pd.DataFrame({"hour": hours, "load_mw": 71.2, "price": 30.0, "site": "DE"})
    new = old.copy()
    new.loc[100:230, "load_mw"] = 71.3
    new.loc[116, "load_mw"] = 79.88
    found = compare(csv(old), csv(new), Rule(rtol=1e-3), "hourly.csv")
    assert found is not None
    lines = list(file_lines(found, EXPECTED, most=2))
    assert "hourly.csv  131 of 35,040 cells, all in load_mw; worst:" == lines[0]
    assert "  hour 117  expected 71.2  found 79.88  +12.2 %  rtol 0.001" == lines[1]
    assert 3 == len(lines)
    assert 10 == len(found.worst)


def test_a_name_stays_on_its_line(compare: Compare) -> None:
    """Whatever the cells of a key have, a table of a flow begins no line of ours."""
    found = compare('k,"x\n"\n"a\n::b",1\nc,2\n', 'k,"x\n"\n"a\n::b",3\n')
    assert found is not None
    lines = ["1 of 2 cells, all in x\\n", "  1 row gone: k c", "  k a\\n::b  old 1  new 3  +200 %"]
    assert lines == [line.replace("t.csv  ", "") for line in file_lines(found)]


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("hour,x\n0,5\n1,6\n", "hour,x\n0,5\n1,7\n", ["  hour 1  old 6  new 7  +16.7 %"]),
        ("x,hour\n5,1\n", "x,hour\n5,1\n6,2\n7,3\n", ["  2 rows added: hour 2, hour 3"]),
        ("x,hour\n5,1\n6,2\n", "x,hour\n5,1\n", ["  1 row gone: hour 2"]),
        # The others were numbered again.
        (
            "hour,x\n0,5\n1,6\n2,7\n",
            "hour,x\n0,5\n1,7\n",
            ["  1 row gone: row 2", "  row 2  old 2  new 1  -50 %"],
        ),
        ("hour,x\n0,5\n", "hour,x\n1,5\n", ["  row 1  old 0  new 1"]),
        # The index of a DataFrame.
        (",x\n0,5\n1,6\n", ",x\n0,5\n1,7\n", ["  row 2  old 6  new 7  +16.7 %"]),
    ],
)
def test_a_column_that_numbers_the_rows_names_them(
    compare: Compare, old: str, new: str, lines: list[str]
) -> None:
    """Rows that have kept their places are called by it, as far as both tables number alike."""
    found = compare(old, new)
    assert found is not None
    assert lines == list(file_lines(found))[1:]


def test_several_columns_are_named_by_what_is_worst(compare: Compare) -> None:
    """The column with the worst cell comes first; a cell that is no number any more is the worst."""
    old = pd.DataFrame({"id": list("abcd"), "x": 1.0, "y": 2.0})
    new = old.assign(x=[1.0, 1.1, 1.2, 1.3], y=[2.0, 2.0, 2.0, np.nan])
    assert [
        "t.csv  4 of 12 cells: y 1, x 3 (+30 %)",
        "  id d, y  old 2  new NaN",
        "  id d, x  old 1  new 1.3  +30 %  rtol 1e-06",
        "  id c, x  old 1  new 1.2  +20 %  rtol 1e-06",
        "  id b, x  old 1  new 1.1  +10 %  rtol 1e-06",
    ] == told(compare(csv(old), csv(new)))


def test_noise_near_zero_is_not_the_worst(compare: Compare) -> None:
    """A value near zero has a large relative difference, which says little."""
    old = pd.DataFrame({"x": [1e-15, 100.0, 50.0]})
    new = pd.DataFrame({"x": [9e-15, 101.0, 50.0]})
    found = compare(csv(old), csv(new), Rule(rtol=0.0, atol=0.0))
    assert found is not None
    assert "row 2" == found.worst[0].name


# --- rows --------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"site": ["DE", "FR", "AT", "CH", "PL"], "mw": [1.5, 2.5, 3.5, 4.5, 5.5]})


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (TABLE.iloc[[1, 0, 2, 3, 4]], ["rows in another order (by site)"]),
        (TABLE.drop(index=1), ["1 row gone: site FR"]),
        (TABLE.iloc[:3], ["2 rows gone: site CH, site PL"]),
        (pd.concat([pd.DataFrame({"site": ["UK"], "mw": 9.5}), TABLE]), ["1 row added: site UK"]),
        (TABLE.replace("FR", "UK"), ["row"]),
        (TABLE.iloc[:0], ["5 rows gone: site DE, site FR, site AT, site CH, site PL"]),
    ],
    ids=["moved", "gone", "cut", "added", "renamed", "empty"],
)
def test_rows_by_an_obvious_key(compare: Compare, new: pd.DataFrame, lines: list[str]) -> None:
    """Rows that moved, came or went are told as such, not as cells that differ."""
    notes = told(compare(csv(TABLE), csv(new)))[1:]
    assert len(lines) == len(notes)
    for text, note in zip(lines, notes, strict=True):
        assert note.strip().startswith(text)


def test_a_row_that_came_and_a_cell_that_differs(compare: Compare) -> None:
    """The cells of the others are compared with their own."""
    new = pd.concat([pd.DataFrame({"site": ["UK"], "mw": [9.5]}), TABLE.replace(3.5, 4.0)])
    assert [
        "t.csv  1 of 10 cells, all in mw",
        "  1 row added: site UK",
        "  site AT  old 3.5  new 4  +14.3 %  rtol 1e-06",
    ] == told(compare(csv(TABLE), csv(new)))


def test_a_key_of_several_columns(compare: Compare) -> None:
    """The first columns that name each row together are the key, without those that are not needed."""
    old = pd.DataFrame(
        {"kind": "x", "site": ["DE", "DE", "FR", "FR"], "hour": [1, 2, 1, 2], "mw": [1.5, 2.5, 3.5, 4.5]}
    )
    found = compare(csv(old), csv(old.drop(index=1)))
    assert ["t.csv", "  1 row gone: site DE, hour 2"] == told(found)


@pytest.mark.parametrize("with_index", [False, True])
def test_rows_without_a_key(compare: Compare, with_index: bool) -> None:
    """Rows that came or went in one place are found by position; a column of row numbers is no key."""
    values = np.arange(1000) % 7 + 0.5
    old = pd.DataFrame({"a": values, "b": values[::-1]})
    new = pd.concat([old.iloc[:300], old.iloc[305:]], ignore_index=True)
    found = compare(old.to_csv(index=with_index), new.to_csv(index=with_index))
    assert "  5 rows gone: row 301, row 302, row 303, row 304, row 305" == told(found)[1]
    assert found is not None
    assert (695 if with_index else 0) == found.differing


def test_rows_without_a_key_in_another_order(compare: Compare) -> None:
    """All the same rows are no differing cells."""
    old = pd.DataFrame({"a": [1.5, 1.5, 2.5, 3.5]})
    assert ["t.csv", "  rows in another order (all are there)"] == told(compare(csv(old), csv(old[::-1])))


def test_values_that_happen_to_be_unique_are_no_key(compare: Compare) -> None:
    """If few of them are on both sides, rows are compared by position."""
    old = pd.DataFrame({"count": range(100, 200), "mw": 1.5})
    found = compare(csv(old), csv(old.assign(count=range(151, 251))))
    assert "t.csv  100 of 200 cells, all in count; worst:" == told(found)[0]
    found = compare(csv(old), csv(old.assign(count=[*range(100, 190), *range(300, 310)])))
    assert "t.csv  10 of 200 cells, all in count" == told(found)[0]


def test_a_named_key(compare: Compare) -> None:
    """It may have floats, and its rows may be in any order."""
    old = pd.DataFrame({"mw": [1.5, 2.5, 3.5], "x": [1.5, 1.5, 1.5], "y": [7, 7, 7]})
    rule = Rule(key=("mw",))
    assert compare(csv(old), csv(old[::-1]), rule) is None
    found = compare(csv(old), csv(old[::-1].assign(x=[1.5, 2.0, 1.5])), rule)
    assert "  mw 2.5  old 1.5  new 2  +33.3 %  rtol 1e-06" == told(found)[1]


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        ("site,mw\nDE,1\nDE,2\n", "the key is not unique: site DE is twice in"),
        ("place,mw\nDE,2\n", "has no column site, which is to be its key"),
    ],
)
def test_a_named_key_that_is_none(compare: Compare, new: str, fault: str) -> None:
    """The fault says why, and in which file."""
    found = compare("site,mw\nDE,1\n", new, Rule(key=("site",)))
    assert found is not None
    assert fault in found.fault
    assert str(Path("new", "t.csv")) in found.fault
    assert "cannot be read" not in found.fault


# --- columns -----------------------------------------------------------------------------------------------


def test_lists_in_cells_are_no_key(tmp_path: Path) -> None:
    """They have no hash; rows are compared by position then."""
    pytest.importorskip("pyarrow")
    old = pd.DataFrame({"parts": [[1.5], [2.5, 3.5]], "mw": [1.5, 2.5]})
    old.to_parquet(tmp_path / "old.parquet")
    old[::-1].reset_index(drop=True).to_parquet(tmp_path / "new.parquet")
    found = compare_files(tmp_path / "old.parquet", tmp_path / "new.parquet", Rule())
    assert "new.parquet  4 of 4 cells: parts 2, mw 2 (+66.7 %)" == told(found)[0]


def test_columns_that_came_and_went(compare: Compare) -> None:
    """The others are compared; an additional column alone is told apart."""
    found = compare("a,b\n1,2\n", "a,c\n1,3\n")
    assert ["t.csv", "  columns gone: b", "  columns added: c"] == told(found)
    assert found is not None
    assert not found.only_added
    found = compare("a\n1\n", "a,c\n1,3\n")
    assert found is not None
    assert found.only_added
    found = compare("a\n1\n", "a,c\n2,3\n")
    assert found is not None
    assert not found.only_added


def test_names_of_any_length(compare: Compare) -> None:
    """They are shortened where they are shown, and made visible."""
    found = told(compare(f"{'a' * 10_000},k\x07\n{'b' * 10_000},1\n", f"k\x07,{'c' * 10_000}\n2,3\n"))
    assert all(len(line) < 200 for line in found)
    assert "t.csv  1 of 1 cells, all in k\\x07" == found[0]


def test_columns_that_are_ignored(compare: Compare) -> None:
    """They are neither compared nor a key."""
    rule = Rule(ignore=("created", "run_*"))
    assert compare("created,a\n1,2\n", "created,a,run_id\n3,2,7\n", rule) is None
    assert compare("created,a\n1,2\n", "created,a\n1,3\n", rule) is not None


def test_no_column_in_common(compare: Compare) -> None:
    """There is nothing to compare, which is a difference."""
    found = compare("a\n1\n", "b\n1\n")
    assert ["t.csv", "  columns gone: a", "  columns added: b"] == told(found)


# --- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("t.csv", b"", "No columns to parse"),
        ("t.csv", b"a,b\n1,2\n1,2,3,4\n", "Expected 2 fields in line 3"),
        ("t.csv", b'a,b\n1,"2\n', "EOF inside string"),
        ("t.csv", b"a,b\n\xe9,2\n", "not UTF-8"),
        ("t.csv.gz", b"a,b\n1,3\n", "Not a gzipped file"),
        ("t.parquet", b"PAR1 nothing", "t.parquet: "),
        ("t.feather", b"", "t.feather: "),
    ],
)
def test_what_is_no_table_differs_with_the_reason(
    compare: Compare, name: str, text: bytes, fault: str
) -> None:
    """No reader's error comes through."""
    pytest.importorskip("pyarrow") if "csv" not in name else None
    found = compare(b"a,b\n1,2\n", text, None, name) if "csv" in name else compare(b"PAR1", text, None, name)
    assert found is not None
    assert fault in found.fault


def test_a_packed_csv(compare: Compare) -> None:
    """It is read as pandas reads it; another packing of the same table is no difference."""
    old, new = (gzip.compress(b"a,b\n1,2\n", level) for level in (0, 9))
    assert old != new
    assert compare(old, new, None, "t.csv.gz") is None
    found = compare(old, gzip.compress(b"a,b\n1,3\n"), None, "t.csv.gz")
    assert "t.csv.gz  1 of 2 cells, all in b" == told(found)[0]


def test_a_parquet_file_without_a_reader(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault says what to install."""
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] in ("pyarrow", "fastparquet"):
            raise ImportError(f"No module named {name}", name=name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(pd, "read_parquet", lambda *_, **__: __import__("pyarrow"))
    found = compare(b"PAR1a", b"PAR1b", None, "t.parquet")
    assert found is not None
    assert "other content; to compare it any closer: pip install pyarrow" == found.fault


def test_parquet(tmp_path: Path) -> None:
    """Large integers beside missing ones, moments, lists and an index are compared as they are."""
    pytest.importorskip("pyarrow")
    old = pd.DataFrame(
        {
            "id": pd.array([BIG, None, 3], dtype="Int64"),
            "at": pd.date_range("2030-01-01", periods=3, tz="Europe/Berlin"),
            "parts": [[1.5], [2.5, 3.5], None],
            "kind": pd.Categorical(["x", "y", "x"]),
            "is_on": [True, False, True],
        },
        index=pd.Index(["a", "b", "c"], name="site"),
    )
    new = old.copy()
    old.to_parquet(tmp_path / "old.parquet")
    new.assign(kind=new["kind"].astype(str)).to_parquet(tmp_path / "new.parquet")
    assert compare_files(tmp_path / "old.parquet", tmp_path / "new.parquet", Rule()) is None
    new.loc["a", "id"] = BIG + 1
    new.at["b", "parts"] = [2.5, 3.6]
    new.loc["c", "at"] += pd.Timedelta("1h")
    new.loc["c", "is_on"] = False
    new.to_parquet(tmp_path / "new.parquet")
    found = compare_files(tmp_path / "old.parquet", tmp_path / "new.parquet", Rule())
    assert found is not None
    assert {"site a id", "site b parts", "site c at", "site c is_on"} == {
        f"{one.name} {one.column}" for one in found.worst
    }
    old.to_feather(tmp_path / "old.feather")
    new.to_feather(tmp_path / "new.feather")
    assert 4 == getattr(
        compare_files(tmp_path / "old.feather", tmp_path / "new.feather", Rule()), "differing", 0
    )


BIG = 1 << 53
