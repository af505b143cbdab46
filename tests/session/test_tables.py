"""Tables of scenarios: made from dimensions, read row by row, stored as instances."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TinyProject

from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.project.instances import load_stored
from ductaflow.project.names import check_name
from ductaflow.project.settings import Project
from ductaflow.session.tables import read_rows, scenarios, store_instances

# --- scenarios ---------------------------------------------------------------------------------------------


def test_the_product_has_a_name_for_each_row_and_the_first_dimension_is_slowest() -> None:
    """Two dimensions of two values are four rows, named by dimension and value."""
    table = scenarios({"region": ["EU", "US"], "horizon": [2030, 2040]})
    assert ["instance", "region", "horizon"] == list(table.columns)
    assert ["EU", "EU", "US", "US"] == list(table["region"])
    assert [2030, 2040, 2030, 2040] == list(table["horizon"])
    assert "region-EU_horizon-2030" == table["instance"][0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("New York", "New-York"),
        ("inputs/a b.csv", "inputs-a-b.csv"),
        ("Inc.", "Inc"),
        ("Zu\u0308rich", "Z\u00fcrich"),
        (-0.5, "-0.5"),
        (1e-05, "1e-05"),
        (True, "true"),
        (None, "null"),
        (np.float64(0.1), "0.1"),
        (np.bool_(False), "false"),
        (date(2030, 1, 2), "2030-01-02"),
        (pd.Timestamp("2030-01-02"), "2030-01-02"),
        (pd.Timestamp("2030-01-02 06:30"), "2030-01-02T06-30-00"),
        (["EU", "US"], "EU+US"),
        ({"a": 1}, "a-1"),
        (float("nan"), "nan"),
    ],
)
def test_a_value_becomes_part_of_a_name(value: Any, text: str) -> None:
    """What cannot be in a name becomes a dash; the same value always gives the same name."""
    assert [f"x-{text}"] == list(scenarios({"x": [value]})["instance"])


@pytest.mark.parametrize(
    ("template", "name"),
    [("{region}_{horizon}", "EU_30"), ("h{horizon:04d}", "h0030"), ("{database.host}", "db.local")],
)
def test_a_template_names_the_rows(template: str, name: str) -> None:
    """`{column}` is its value, with a format if one is given; dots in a column name are no attributes."""
    table = scenarios({"region": ["EU"], "horizon": [30], "database.host": ["db.local"]}, name=template)
    assert [name] == list(table["instance"])


def test_values_stay_what_they_are() -> None:
    """An integer beside a null or a fraction stays an integer, and a null is no NaN."""
    table = scenarios({"horizon": [2030, None, 0.5], "flag": [True, "auto"]})
    configs = [row.config() for row in read_rows(table)]
    assert [2030, 2030, None, None, 0.5, 0.5] == [config["horizon"] for config in configs]
    assert all(type(config["horizon"]) is not float for config in configs[:4])
    assert [True, "auto"] == [config["flag"] for config in configs[:2]]


@pytest.mark.parametrize(
    ("dimensions", "message", "hint"),
    [
        ({}, "at least one dimension", "region"),
        ({"region": []}, "dimension 'region' has no values", "leave the dimension out"),
        ({"region": "EU"}, "dimension 'region': 'EU' is not a list", "Write ['EU']"),
        ({"horizon": 2030}, "dimension 'horizon': 2030 is not a list", "Write [2030]"),
        ({"region": {"EU"}}, "{'EU'} is not a list", "sorted"),
        ({"region": [{"EU"}]}, "dimensions.region[0]: a value of type builtins.set", "sorted"),
        ({"instance": ["a"]}, "this column holds the names", "template"),
        ({1: ["a"]}, "the name of a dimension is a string", ""),
    ],
)
def test_a_dimension_that_is_none_is_refused(dimensions: Any, message: str, hint: str) -> None:
    """The error names the dimension and what to write instead."""
    with pytest.raises(ConfigError) as error:
        scenarios(dimensions)
    assert message in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    "values", [["a b", "a/b"], ["EU", "eu"], ["\u00e9", "e\u0301"], [1, "1"], ["x", "x"]]
)
def test_two_rows_of_one_name_are_refused(values: list[Any]) -> None:
    """Names that are one folder on some system, by case or Unicode form, name both rows."""
    with pytest.raises(ConfigError, match=r"rows 0 \(x=.*\) and 1 \(x=.*\) are both called") as error:
        scenarios({"x": values})
    assert "template" in error.value.hint


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{regoin}", "there is no dimension 'regoin'"),
        ("{region:d}", "{region:d} does not fit 'EU'"),
        ("same", "rows 0 (region=EU, horizon=1) and 1 (region=EU, horizon=2) are both called same"),
        ("-{region}{horizon}", 'row 0 (region=EU, horizon=1): "-EU1" cannot be a name'),
        ("x" * 90 + "{horizon}", "it has 91 bytes, 80 are allowed"),
    ],
)
def test_a_template_that_names_nothing_is_refused(template: str, message: str) -> None:
    """The error says which part of the template, or which rows."""
    with pytest.raises(ConfigError) as error:
        scenarios({"region": ["EU"], "horizon": [1, 2]}, name=template)
    assert message in error.value.message


def test_a_secret_is_not_shown() -> None:
    """An error about rows masks values of columns that look like passwords."""
    with pytest.raises(ConfigError) as error:
        scenarios({"api_key": ["hush"], "x": [1, 1]}, name="{x}")
    assert "hush" not in str(error.value)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()), min_size=1, max_size=5
    )
)
def test_every_name_that_is_given_is_a_name(values: list[Any]) -> None:
    """Whatever the values are: valid names, all different, or an error of ours."""
    try:
        names = list(scenarios({"x": values})["instance"])
    except ConfigError:
        return
    for name in names:
        check_name(name)
    assert len(values) == len({name.casefold() for name in names})


# --- rows --------------------------------------------------------------------------------------------------


def test_whole_floats_in_a_column_with_gaps_are_integers_again() -> None:
    """Without gaps, or with a fraction, floats stay floats; a gap is not given."""
    table = pd.DataFrame(
        {
            "instance": ["a", "b"],
            "weeks": [52, None],
            "share": [0.5, None],
            "level": [1.0, 2.0],
            "big": [2.0**60, None],
            "count": pd.array([3, None], dtype="Int64"),
            "day": pd.to_datetime(["2030-01-02", None]),
        }
    )
    first, second = (row.config() for row in read_rows(table))
    assert {
        "weeks": 52,
        "share": 0.5,
        "level": 1.0,
        "big": 2.0**60,
        "count": 3,
        "day": "2030-01-02T00:00:00",
    } == first
    assert {"weeks": int, "share": float, "level": float, "big": float, "count": int, "day": str} == {
        key: type(value) for key, value in first.items()
    }
    assert {"level": 2.0} == second


def test_rows_keep_their_types_beside_other_columns() -> None:
    """An integer column beside a float column stays one, and None in a column of objects is null."""
    table = pd.DataFrame({"instance_name": ["a"], "n": [1], "x": [0.5], "path": [Path("a/b")]})
    table["nothing"] = pd.Series([None], dtype=object)
    (row,) = read_rows(table)
    assert ("a", {"n": 1, "x": 0.5, "path": "a/b", "nothing": None}) == (row.name, row.config())
    assert type(row.config()["n"]) is int


def test_rows_without_a_column_of_names_are_named_by_their_values() -> None:
    """As `scenarios` names them; a missing value is left out."""
    table = pd.DataFrame({"region": ["EU", "US"], "weeks": [52, None]})
    assert ["region-EU_weeks-52", "region-US"] == [row.name for row in read_rows(table)]


def test_numbers_are_names() -> None:
    """A column of integers names its rows."""
    assert ["1", "2"] == [row.name for row in read_rows(pd.DataFrame({"instance": [1, 2]}))]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([{"instance": "a"}], "a table of scenarios is a DataFrame, not list"),
        (pd.DataFrame({"instance": ["a"], "instance_name": ["b"]}), "the columns instance and instance_name"),
        (pd.DataFrame([["a", 1, 2]], columns=["instance", "x", "x"]), "two columns 'x'"),
        (pd.DataFrame({"instance": ["a"], 1: [2]}), "the column 1 is not named by a string"),
        (pd.DataFrame({"instance": ["a", math.nan]}), "row 1: instance is nan, not a name"),
        (pd.DataFrame({"instance": ["a", "b", "A"]}), "rows 0 and 2 are both called a and A"),
    ],
)
def test_a_table_that_is_none_is_refused(table: Any, message: str) -> None:
    """The error names column and row."""
    with pytest.raises(ConfigError) as error:
        read_rows(table)
    assert message in error.value.message


# --- stored instances --------------------------------------------------------------------------------------


def test_rows_become_stored_instances(project: TinyProject) -> None:
    """One file a row, with its own values only; dotted columns nest; what is missing is left to the bases."""
    project.flow("fit", "")
    project.config("base.json", weeks=1)
    table = pd.DataFrame(
        {
            "instance": ["b", "a"],
            "weeks": [52, None],
            # not None, which pandas 2 keeps: that is null, a value
            "database.host": ["db", math.nan],
            "_run.tags": ["slow", math.nan],
        }
    )
    files = store_instances(table, "fit", project_root=project.root)
    folder = project.root / "config" / "flows" / "fit"
    assert [folder / "b.json", folder / "a.json"] == files
    assert {"weeks": 52, "database": {"host": "db"}, "_run": {"tags": "slow"}} == json.loads(
        files[0].read_bytes()
    )
    assert {} == json.loads(files[1].read_bytes())
    assert 1 == load_stored(Project.at(project.root), "fit/a").config["weeks"]


def test_a_builds_rows_go_to_the_builds(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind is that of the source, the project the one around the working directory."""
    project.flow("all", "", kind="builds")
    monkeypatch.chdir(project.root / "flows")
    (file,) = store_instances(pd.DataFrame({"instance": ["a"], "x": [1]}), "all")
    assert project.root / "config" / "builds" / "all" / "a.json" == file


def test_storing_again_replaces_what_changed(project: TinyProject) -> None:
    """The file has the new row; instances that the table does not have stay."""
    project.flow("fit", "")
    store_instances(pd.DataFrame({"instance": ["a", "b"], "x": [1, 1]}), "fit", project_root=project.root)
    (file,) = store_instances(pd.DataFrame({"instance": ["a"], "x": [2]}), "fit", project_root=project.root)
    assert {"x": 2} == json.loads(file.read_bytes())
    assert ["a.json", "b.json"] == sorted(path.name for path in file.parent.iterdir())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instance": "c/d"}, "cannot be a name"),
        ({"instance": "c", "x": {1, 2}}, "row 1 (c).x: a value of type builtins.set"),
        ({"instance": "c", "_run.timout": 3}, 'unknown option "timout"'),
        ({"instance": "S"}, "fit[S] is stored in"),
        ({"instance": "Other"}, "fit[Other] is stored in"),
        ({"instance": "c", "x": "{y}", "y": "{x}"}, "placeholders refer to each other"),
    ],
)
def test_nothing_is_stored_when_a_row_is_wrong(
    project: TinyProject, row: dict[str, Any], message: str
) -> None:
    """A bad name, value or option, or a name that is stored elsewhere: the good row is not written either."""
    project.flow("fit", "")
    project.config("flows/fit/other.json")
    (project.root / "config" / "flows" / "fit.csv").write_text("instance,x\ns,1\n")
    with pytest.raises((ConfigError, InstanceError)) as error:
        store_instances(pd.DataFrame([{"instance": "good"}, row]), "fit", project_root=project.root)
    assert message in str(error.value)
    assert ["other.json"] == [path.name for path in (project.root / "config" / "flows" / "fit").iterdir()]


def test_the_default_of_a_base_config_gives_way(project: TinyProject) -> None:
    """An instance called `default` may be stored beside the flow's base."""
    project.flow("fit", "")
    project.config("flows/fit.json", x=1)
    (file,) = store_instances(pd.DataFrame({"instance": ["default"]}), "fit", project_root=project.root)
    assert load_stored(Project.at(project.root), "fit/default").file == file


def test_a_flow_that_does_not_exist_is_refused(project: TinyProject) -> None:
    """The error says which name may be meant."""
    project.flow("forecast", "")
    with pytest.raises(InstanceError, match="has no flow or build forcast") as error:
        store_instances(pd.DataFrame({"instance": ["a"]}), "forcast", project_root=project.root)
    assert "Did you mean forecast?" == error.value.hint


def test_a_folder_that_cannot_be_written_is_one_clear_error(project: TinyProject) -> None:
    """The error names the file."""
    project.flow("fit", "")
    (project.root / "config" / "flows" / "fit").write_text("a file in the way")
    with pytest.raises(DuctaflowError, match=r"a\.json: cannot be written"):
        store_instances(pd.DataFrame({"instance": ["a"]}), "fit", project_root=project.root)
