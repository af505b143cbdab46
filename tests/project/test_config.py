"""Configs: what is read, refused, merged, filled in, taken from Python and shown."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ductaflow.common.errors import ConfigError
from ductaflow.common.text import did_you_mean
from ductaflow.project.compose import fill_placeholders, merge
from ductaflow.project.options import RunOptions, load_saved_config, split_run
from ductaflow.project.secrets import masked
from ductaflow.project.strict_json import MAX_DEPTH, read_config
from ductaflow.project.values import dump_config, json_value, parse_cell, row_config

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(TEXT, VALUES, max_size=4)
quick = settings(max_examples=60, deadline=None)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- strict JSON -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    ['{"a": "ü"}', b'\xef\xbb\xbf{"a": "\xc3\xbc"}', '\r\n{"a":\t"\\u00fc"}\n', '{"a": "\u00fc"}  '],
    ids=["plain", "byte order mark", "escape", "blank at the end"],
)
def test_reads_an_object(tmp_path: Path, content: str | bytes) -> None:
    """UTF-8 with or without a byte order mark, and any JSON spelling of the same text."""
    assert {"a": "ü"} == read_config(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ('{"a": 1,\n "b": {"c": 2, "c": 3}}', "2:16", 'duplicate key "c" (first at 2:8)'),
        ('{"a": 1, "\\u0061": 2}', "1:10", 'duplicate key "a"'),
        ('{\n  "a": NaN}', "2:8", "NaN is not JSON"),
        ('{"a": -Infinity}', "1:7", "-Infinity is not JSON"),
        ('{"a": 1e400}', "1:7", "too large"),
        ('{"a": %s}' % ("1" * 5000), "1:7", "a number of 5000 digits"),
        ('{"a": "\\ud800"}', "1:7", "half of a surrogate pair"),
        ("[" * 100_000, f"1:{MAX_DEPTH + 1}", "nested deeper than 100"),
        ('{"a":' * 101 + "1" + "}" * 101, "1:501", "nested deeper than 100"),
        ("", "1:1", "the file is empty"),
        (" \n", "1:1", "the file is empty"),
        ('{"a": 1,\n "b": [1, 2', "2:12", "ends in the middle"),
        ('{"a": "half', "1:7", "ends in the middle"),
        ("[1]", "1:1", "this file holds a list"),
        ("null", "1:1", "this file holds null"),
        ('"a"', "1:1", "this file holds a string"),
        ('{"a": 1} {"b": 2}', "1:10", "more text behind the end"),
        ('{"a": 1,}', "1:9", "a comma too many"),
        ("{'a': 1}", "1:2", "double quotes"),
        ('{"a": 1 // one\n}', "1:9", "JSON has no comments"),
        ('{"a": True}', "1:7", "JSON writes true, false and null"),
        ('{"a": "x\ny"}', "1:9", "line break inside a string"),
        (b'{"a":\n "\xe9"}', "2:3", "not UTF-8: byte 0xe9"),
        (b'\xef\xbb\xbf{"a":\n "\xe9"}', "2:3", "not UTF-8: byte 0xe9"),
        ('{"a": 1}'.encode("utf-16"), "1:1", "UTF-16"),
        ('{"a": 1}'.encode("utf-16-le"), "1:1", "UTF-16"),
        ('{"a": 1}'.encode("utf-32"), "1:1", "UTF-16 or UTF-32"),
    ],
)
def test_refuses_with_file_line_and_column(
    tmp_path: Path, content: str | bytes, place: str, words: str
) -> None:
    """Whatever is not one strict JSON object is refused, and the message says where and what."""
    path = written(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_refuses_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    """A missing file or a folder is an error of ours that names it."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / name)


def test_a_surrogate_pair_is_one_character(tmp_path: Path) -> None:
    """Two escapes that make one character are fine."""
    assert {"a": "😀"} == read_config(written(tmp_path, '{"a": "\\ud83d\\ude00"}'))


def test_many_brackets_side_by_side_are_not_deep(tmp_path: Path) -> None:
    """Only nesting counts as depth."""
    assert {"a": [[]] * 200} == read_config(written(tmp_path, json.dumps({"a": [[]] * 200})))


@quick
@given(CONFIGS)
def test_what_is_dumped_is_read_again(config: dict[str, Any]) -> None:
    """`dump_config` and `read_config` are inverse, and the text ends in a newline."""
    import tempfile

    text = dump_config(config)
    with tempfile.TemporaryDirectory() as folder:
        assert config == read_config(written(Path(folder), text))
    assert text.endswith("}\n")


# --- merge -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
    ],
)
def test_merge(below: dict[str, Any], above: dict[str, Any], expected: dict[str, Any]) -> None:
    """Deep for objects; lists and scalars replace; null is a value."""
    assert expected == merge(below, above)


@quick
@given(CONFIGS, CONFIGS, CONFIGS)
def test_merge_is_associative(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    """Bases may be merged first, which is what makes a common base cheap."""
    if not any(_kinds_clash(x, y) for x, y in ((a, b), (b, c), (a, c))):
        assert merge(a, b, c) == merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a) == merge(a, a) == merge({}, a) == a


def _kinds_clash(a: Any, b: Any) -> bool:
    """Whether an object meets something else, which is when the order of merging counts."""
    if isinstance(a, dict) and isinstance(b, dict):
        return any(_kinds_clash(a[key], b[key]) for key in a.keys() & b.keys())
    return isinstance(a, dict) != isinstance(b, dict)


def test_merge_shares_nothing() -> None:
    """Changing a merged config changes no base."""
    base = {"a": {"b": [1, {"c": 2}]}}
    merged = merge(base, {})
    merged["a"]["b"][1]["c"] = 3
    assert {"a": {"b": [1, {"c": 2}]}} == base


# --- placeholders ------------------------------------------------------------------------------------------


def filled(config: dict[str, Any]) -> dict[str, Any]:
    return fill_placeholders(config, instance="A", flow="fit", project_root="/p")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"x": "runs/prep/{instance}/a.csv"}, "runs/prep/A/a.csv"),
        ({"x": "{flow} {project_root}"}, "fit /p"),
        ({"x": ["{instance}", {"y": "{instance}"}]}, ["A", {"y": "A"}]),
        ({"x": "{a}-{b}-{c}-{d}", "a": 1, "b": True, "c": None, "d": 1e-5}, "1-true-null-1e-05"),
        ({"x": "{a}", "a": "{b}", "b": "{instance}"}, "A"),
        ({"x": "{unknown} {} { instance } {0}"}, "{unknown} {} { instance } {0}"),
        ({"x": "{{instance}}"}, "{A}"),
        ({"x": "{a} {b}", "a": [1], "b": {"c": 1}}, "{a} {b}"),
        ({"x": {"a": 1, "y": "{a}"}}, {"a": 1, "y": "{a}"}),
        ({"x": "{instance}", "instance": "mine"}, "mine"),
        ({"x": "{instance}", "instance": "{instance}-1"}, "A-1"),
        ({"x": "{a}", "a": "{", "b": "}"}, "{"),
        ({"x": "{a}b}", "a": "{", "b": "never"}, "{b}"),
    ],
)
def test_placeholders(config: dict[str, Any], expected: Any) -> None:
    """Top-level scalars and the three given names are filled in; every other brace stays."""
    assert expected == filled(config)["x"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"a": "{a}"}, "a -> a"),
        ({"x": "{a}", "a": "{b}", "b": "{c}", "c": "{a}"}, "a -> b -> c -> a"),
        ({"x": {"y": "{a}"}, "a": "{b}", "b": "{a}"}, "a -> b -> a"),
        ({f"k{i}": f"{{k{i + 1}}}{{k{i + 1}}}" for i in range(60)} | {"k60": "x"}, "more than 1000000"),
        ({f"k{i}": f"{{k{i + 1}}}" for i in range(300)}, "more than 100 keys"),
    ],
    ids=["itself", "circle", "nested", "doubling", "long"],
)
def test_placeholders_without_an_end(config: dict[str, Any], words: str) -> None:
    """Keys that refer to each other in a circle, or grow without bound, are an error that names them."""
    with pytest.raises(ConfigError, match=words):
        filled(config)


@quick
@given(st.dictionaries(TEXT.filter(lambda key: "{" not in key), VALUES, max_size=4))
def test_a_config_without_braces_stays(config: dict[str, Any]) -> None:
    """Filling changes nothing where there is nothing to fill."""
    if "{" not in json.dumps(list(config.values())).replace('{"', "").replace("{}", ""):
        assert config == filled(config)


# --- values from Python ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (np.datetime64("2020-01-02T03:04:05", "ns"), "2020-01-02T03:04:05"),
        (np.datetime64(1, "ns"), "1970-01-01T00:00:00.000000001"),
        (PurePosixPath("a/b'c"), "a/b'c"),
        (date(2020, 1, 2), "2020-01-02"),
        (datetime(2020, 1, 2, 3, tzinfo=UTC), "2020-01-02T03:00:00+00:00"),
        (pd.Timestamp("2020-01-02"), "2020-01-02T00:00:00"),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({"a": {"b": np.int8(1)}}, {"a": {"b": 1}}),
        (10**400, 10**400),
    ],
)
def test_python_values(value: object, expected: Any) -> None:
    """numpy's scalars, paths and times become JSON values of plain types."""
    result = json_value(value)
    assert expected == result
    assert type(expected) is type(result)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        np.float32("nan"),
        np.datetime64("NaT", "s"),
        pd.NaT,
        pd.NA,
        {1, 2},
        frozenset("a"),
        np.array([1]),
        np.array(1),
        np.timedelta64(1, "s"),
        pd.Series([1]),
        Decimal(1),
        b"x",
        1j,
        object(),
        "\ud800",
        10**5000,
        {1: 2},
        {None: 2},
        {"\ud800": 1},
        range(3),
    ],
    ids=repr if sys.flags.utf8_mode else lambda value: type(value).__name__,
)
def test_python_values_that_are_not_json(value: object) -> None:
    """Nothing becomes a string silently: it is an error that names the key path."""
    with pytest.raises(ConfigError, match=r"config\.a\[1\]\[\"b c\"\]"):
        json_value({"a": [0, {"b c": value}]})


def test_a_value_that_contains_itself() -> None:
    """It is an error, not a crash, and the message is short."""
    value: dict[str, Any] = {}
    value["x"] = value
    with pytest.raises(ConfigError, match="contains itself") as caught:
        json_value(value)
    assert len(str(caught.value)) < 200


def test_numpy_and_pandas_are_not_imported() -> None:
    """The process that asks for a run stays quick: standard library only."""
    code = (
        "import sys, ductaflow.project.graph\n"
        "from ductaflow.project.values import json_value; json_value({'a': [1.5]})\n"
        "print(sorted({'numpy', 'pandas', 'IPython', 'papermill', 'difflib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- rows and cells ----------------------------------------------------------------------------------------


def test_a_row_of_a_data_frame() -> None:
    """NaN, NaT and NA are not given, None is null, dots set nested keys, numbers are plain."""
    row = {
        "horizon": np.int64(2030),
        "gap": float("nan"),
        "when": pd.NaT,
        "who": pd.NA,
        "cap": None,
        "database.host": "x",
        "database.port": 5432,
        "_run.tags": "ci slow",
    }
    expected = {
        "horizon": 2030,
        "cap": None,
        "database": {"host": "x", "port": 5432},
        "_run": {"tags": "ci slow"},
    }
    assert expected == row_config(row)
    assert expected == row_config(pd.Series(row, dtype=object))  # type: ignore[arg-type]


def test_the_order_of_columns_decides_nothing() -> None:
    """A column with dots adds to an object of another column, wherever it stands."""
    expected = {"a": {"b": 1, "c": 2}}
    assert expected == row_config({"a.b": 1, "a": {"c": 2}}) == row_config({"a": {"c": 2}, "a.b": 1})


@pytest.mark.parametrize(
    "row",
    [{"a.b": 1, "a": 2}, {"a.b": 1, "a": {"b": 2}}, {"a..b": 1}, {".a": 1}, {5: 1}, {"a": {1, 2}}],
)
def test_a_row_that_is_refused(row: dict[str, Any]) -> None:
    """Columns that clash, names with an empty part, names that are no strings, values that are not JSON."""
    with pytest.raises(ConfigError, match=r"^row"):
        row_config(row)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("true", True),
        ("FALSE", False),
        ("True", True),
        ("null", None),
        ("NULL", "NULL"),
        ("5", 5),
        ("-5", -5),
        ("-0.5", -0.5),
        ("1e-05", 1e-05),
        ("1.5E+3", 1500.0),
        (" 5 ", 5),
        ("12E5", "12E5"),
        ("1e5", "1e5"),
        ("007", "007"),
        ("+5", "+5"),
        (".5", ".5"),
        ("5.", "5."),
        ("1,5", "1,5"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("NaN", "NaN"),
        ("inf", "inf"),
        ("x ", "x "),
        ("[1, null]", [1, None]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("{}", {}),
        ("{region}/a.csv", "{region}/a.csv"),
        ("{region}", "{region}"),
        ("runs/{instance}", "runs/{instance}"),
        ('"quoted"', '"quoted"'),
        ("2020-01-01", "2020-01-01"),
    ],
)
def test_cells(cell: str, expected: Any) -> None:
    """Booleans in any case, numbers as in JSON with a signed exponent, null, [..], {..}; else a string."""
    result = parse_cell(cell)
    assert expected == result
    assert type(expected) is type(result)


@pytest.mark.parametrize(
    "cell", ["[1,", "[0, 1)", "{", "{'a': 1}", "{a: 1}", '{"a": 1, "a": 2}', "[NaN]", "1e+999"]
)
def test_cells_that_are_broken(cell: str) -> None:
    """What begins like a list or an object is one, or an error: not silently a string."""
    with pytest.raises(ConfigError, match="the cell"):
        parse_cell(cell)


@quick
@given(st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.lists(SCALARS))
def test_values_written_as_json_are_cells(value: Any) -> None:
    """A cell that holds the JSON of a value, Python's own floats included, is that value."""
    assert value == parse_cell(json.dumps(value))


# --- `_run` ------------------------------------------------------------------------------------------------


def test_every_option() -> None:
    """All options of a run, as lists or as words."""
    raw = {
        "timeout": 600,
        "tags": "ci slow ci",
        "skip": "later",
        "skip_without": "inputs/my data.parquet",
        "xfail": "known",
        "needs": ["prep/A", "prep/B"],
        "engine": "kernel",
        "kernel": "ir",
        "allow_exit": True,
    }
    expected = RunOptions(
        timeout=600.0,
        tags=("ci", "slow"),
        skip="later",
        skip_without=("inputs/my data.parquet",),
        xfail="known",
        needs=("prep/A", "prep/B"),
        engine="kernel",
        kernel="ir",
        allow_exit=True,
    )
    assert expected == RunOptions.parse(raw, where="_run")


def test_null_takes_an_option_back() -> None:
    """An instance undoes what its base says."""
    assert RunOptions() == RunOptions.parse(
        dict.fromkeys(["timeout", "tags", "skip", "engine"]), where="_run"
    )


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "_run is a list, not an object"),
        ({"timeuot": 5}, "Did you mean timeout?"),
        ({"zzz": 5}, "Known options: timeout, tags"),
        ({"timeout": True}, "_run.timeout takes a number"),
        ({"timeout": "600"}, 'not "600"'),
        ({"timeout": 0}, "above 0"),
        ({"timeout": -1}, "above 0"),
        ({"timeout": 10**400}, "above 0"),
        ({"tags": 5}, "_run.tags takes a list of strings"),
        ({"tags": ["a b"]}, "cannot be a tag"),
        ({"tags": "not"}, "cannot be a tag"),
        ({"tags": "skip"}, "marker of pytest"),
        ({"tags": [1]}, "list of strings"),
        ({"skip": True}, "_run.skip takes a string that says why"),
        ({"skip": " "}, "says why"),
        ({"xfail": 1}, "says why"),
        ({"skip_without": [""]}, "list of strings"),
        ({"needs": ["prep"]}, "is not the id of an instance"),
        ({"needs": {"a": 1}}, "list of strings"),
        ({"engine": "kernle"}, "Did you mean kernel?"),
        ({"engine": ["warm"]}, "takes one of warm, fresh, kernel"),
        ({"kernel": 1}, "Jupyter kernel"),
        ({"allow_exit": 1}, "takes true or false, not 1"),
    ],
)
def test_options_that_are_refused(raw: object, words: str) -> None:
    """Every value is checked, and an unknown option gets a suggestion."""
    with pytest.raises(ConfigError) as caught:
        RunOptions.parse(raw, where="_run")
    assert words in str(caught.value)


def test_split_run() -> None:
    """The flow gets neither `_run` nor a `_project_root` of a file."""
    config = {"a": 1, "_run": {"tags": ["slow"]}, "_project_root": "/elsewhere", "_x": 2}
    assert ({"a": 1, "_x": 2}, RunOptions(tags=("slow",))) == split_run(config, where="a.json")
    assert ({}, RunOptions()) == split_run({"_run": None}, where="a.json")


@pytest.mark.parametrize("key", ["_runs", "_Run", "_run.tags", "_running"])
def test_keys_that_look_like_run(key: str) -> None:
    """A key that would be passed over although it was meant for us is refused."""
    with pytest.raises(ConfigError, match=r"a\.json: the key .* is reserved"):
        split_run({key: 1}, where="a.json")


def test_did_you_mean() -> None:
    """The nearest known word in its own spelling, whatever the case; nothing if none is near."""
    assert did_you_mean("SCENARIO_a", ["scenario_A", "other"]) == "Did you mean scenario_A?"
    assert did_you_mean("zzz", ["scenario_A"]) == ""


# --- stored and shown --------------------------------------------------------------------------------------


def test_dump_is_readable() -> None:
    """Indented, letters of any script as they are."""
    assert '{\n  "a": "ü😀\u2028"\n}\n' == dump_config({"a": "ü😀\u2028"})


def test_dump_refuses_what_is_not_json() -> None:
    """A file that could not be read again is never written."""
    with pytest.raises(ConfigError, match=r"config\.a"):
        dump_config({"a": "\udcff"})


def test_masked() -> None:
    """Values that look like secrets are hidden at any depth; the config itself stays."""
    config = {
        "password": "x",
        "db": [{"API_KEY": 1, "apiKey": {"a": "b"}, "host": "h"}],
        "authToken": "x",
        "tokenizer": "bpe",
        "use_token": True,
        "client_secret": None,
        "Credentials": ["u", "p"],
    }
    expected = {
        "password": "***",
        "db": [{"API_KEY": "***", "apiKey": "***", "host": "h"}],
        "authToken": "***",
        "tokenizer": "bpe",
        "use_token": True,
        "client_secret": None,
        "Credentials": "***",
    }
    before = json.dumps(config)
    assert expected == masked(config)
    assert before == json.dumps(config)


def test_a_saved_config_moves_between_machines(tmp_path: Path) -> None:
    """`_project_root` is computed anew, and with it the paths that begin with the old one."""
    path = written(
        tmp_path,
        json.dumps(
            {
                "_project_root": "/old/p",
                "a": ["/old/p/inputs/x.csv", "/old/project/x", "/old/p"],
                "_run": {"timeout": 5},
            }
        ),
    )
    root = tmp_path.as_posix()
    expected = {"a": [f"{root}/inputs/x.csv", "/old/project/x", root], "_project_root": root}
    assert expected == load_saved_config(path, project_root=tmp_path)
