"""`ductaflow results`: a table for people at 80 columns, or for other programs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import TinyProject, a_result, cli, stored

from ductaflow.cli.results import ResultDisplay, as_csv
from ductaflow.common.errors import ConfigError
from ductaflow.session.across import OWN_COLUMNS, ResultTable
from ductaflow.session.queries import matching, named, ordered


def table_of(
    metrics: dict[str, list[Any]], parameters: dict[str, list[Any]] | None = None, **more: Any
) -> ResultTable:
    """A table of results of runs that nobody made."""
    parameters = parameters or {}
    count = len(next(iter({**metrics, **parameters}.values())))
    own: dict[str, list[Any]] = {
        "instance": [f"s{number}" for number in range(count)],
        "status": ["success"] * count,
        "seconds": [0.5] * count,
        "note": [""] * count,
    }
    columns = {**own, **parameters, **metrics}
    flows = more.get("flows", ("fit",) * count)
    return ResultTable(columns, tuple(parameters), tuple(metrics), flows, {})


def names(table: ResultTable) -> list[str]:
    return list(table.columns["instance"])


@pytest.fixture
def project(tmp_path: Path) -> TinyProject:
    """Three runs of `demand`, of which one failed, and one of `prep`."""
    project = TinyProject(tmp_path)
    for number, status in enumerate(["success", "warning", "error"]):
        config = {"region": "EU", "fit": {"alpha": number}}
        project.config(f"flows/demand/s{number}.json", **config)
        metrics = {"rmse": 1 / (number + 3), "peak": number == 1, "zone": "n|s"}
        ran = a_result(status, "demand", f"s{number}", seconds=65.0, metrics=metrics)
        stored(tmp_path / "runs", ran, **config)
    project.config("flows/prep/p.json", x=3)
    stored(tmp_path / "runs", a_result("success", "prep", "p", metrics={"rows": 3}), x=3)
    for flow in ("demand", "prep"):
        project.flow(flow, "")
    return project


# --- the command -------------------------------------------------------------------------------------------


def test_a_table_shows_what_differs(project: TinyProject) -> None:
    """Status, parameters that differ, metrics, the worst first; on standard error, what has none."""
    done = project.cli("results", "demand")
    assert 0 == done.exit_code
    assert done.stdout == (
        "instance  status      seconds  fit.alpha      rmse  peak   zone\n"
        "s2        error    1 min 05 s          2         -  -      -\n"
        "s1        warning  1 min 05 s          1      0.25  true   n|s\n"
        "s0        success  1 min 05 s          0  0.333333  false  n|s\n"
    )
    assert "left out: 1 error (s2)\n" == done.stderr


def test_flows_have_tables_of_their_own(project: TinyProject) -> None:
    """Without an argument all are shown, by their ids, each flow without the columns of others."""
    first, second = project.output("results").split("\n\n")
    assert "demand/s1" in first
    assert "rows" not in first
    assert ["instance", "status", "seconds", "rows"] == second.split("\n")[0].split()
    assert "prep/p " in second


def test_rows_and_columns_are_chosen(project: TinyProject) -> None:
    """`--where` takes dotted names, `--sort -x` is downwards, `--columns` has globs; a name counts once."""
    chosen = (
        "--where",
        "fit.alpha < 2 and status != 'error'",
        "--sort",
        "-fit.alpha",
        "--columns",
        "rm*,instance",
    )
    done = project.cli("results", "demand", *chosen)
    assert "instance      rmse\ns1            0.25\ns0        0.333333\n" == done.stdout
    assert "2 of 3 rows\n" in done.stderr
    assert "region" in project.output("results", "demand", "--all")
    assert "s1" not in project.output("results", "demand/s0", "prep/p")


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (["--where", "fit.alhpa > 1"], "name 'fit' is not defined", "Did you mean fit.alpha?"),
        (["--where", "rmse"], "not true or false", "Columns: instance, status"),
        (["--sort", "rsme"], "--sort rsme: there is no such column", "Did you mean rmse?"),
        (["--columns", "nope*"], "--columns nope*: there is no such column", "Did you mean note?"),
        (["nope"], "has no flow or build nope", ""),
        (["demand/s7"], "s7", "There is s0, s1, s2."),
    ],
)
def test_what_is_wrong_is_said(project: TinyProject, options: list[str], message: str, hint: str) -> None:
    """The exit code is 2, and the message says what may be meant."""
    done = project.cli("results", *options)
    assert 2 == done.exit_code
    assert message in done.stderr
    assert hint in done.stderr
    assert "" == done.stdout


def test_json_and_csv_have_all_columns_and_digits(project: TinyProject) -> None:
    """They say the same, nulls included, and pandas reads them back."""
    records = json.loads(project.output("results", "demand", "--format", "json").partition("\nleft out")[0])
    assert [1 / 3, 0.25, None] == [record["rmse"] for record in records]
    assert {"instance": "s1", "status": "warning", "seconds": 65.0, "note": "", "region": "EU"} == {
        name: records[1][name] for name in ("instance", "status", "seconds", "note", "region")
    }
    text = project.cli("results", "demand", "--format", "csv").stdout
    found = pd.read_csv(io.StringIO(text))
    assert list(records[0]) == list(found.columns)
    assert "0.3333333333333333" in text
    assert [False, True] == list(found["peak"][:2])


def test_markdown_is_a_table(project: TinyProject) -> None:
    """Signs that would end a cell are escaped, and numbers are on the right."""
    text = project.cli("results", "demand", "--format", "markdown").stdout
    assert "| --- | --- | ---: | ---: | ---: | --- | --- |" == text.splitlines()[1]
    assert "| s0 | success | 1 min 05 s | 0 | 0.333333 | false | n\\|s |" == text.splitlines()[2]


def test_conducted_rows_are_shown_when_asked(project: TinyProject) -> None:
    """Run folders of nothing stored have rows with `--conducted`; the ids of others do not bring them."""
    stored(project.root / "runs", a_result("success", "demand", "row", metrics={"rmse": 9}), region="EU")
    assert "1 not stored (row)" in project.cli("results", "demand").stderr
    assert "row" not in project.cli("results", "demand/s0").output
    assert "not stored" in project.cli("results", "demand", "--conducted").stdout


def test_nothing_stored_is_said(tmp_path: Path) -> None:
    """On standard error, so that JSON is an empty list."""
    TinyProject(tmp_path)
    done = [cli("results", "--format", form, "--project", tmp_path) for form in ("table", "json", "markdown")]
    assert [(0, "nothing is stored\n")] * 3 == [(one.exit_code, one.stderr) for one in done]
    assert [] == json.loads(done[1].stdout)


# --- what fits ---------------------------------------------------------------------------------------------


def test_forty_parameters_and_ten_metrics_fit_into_80_columns() -> None:
    """Metrics and parameters come by turns, the key of the order in any case; the rest is named in a line."""
    parameters: dict[str, list[Any]] = {f"parameter{number}": [number, -number - 1] for number in range(40)}
    metrics: dict[str, list[Any]] = {f"metric{number}": [number / 7, 1 / 3] for number in range(10)}
    lines = [*ResultDisplay(keys=["-parameter39"], width=80).lines(table_of(metrics, parameters))]
    assert 80 >= max(map(len, lines[:-1]))
    assert ["parameter0", "parameter39", "metric0", "metric1"] == lines[0].split()[3:]
    assert "46 more columns (parameter1, parameter2," in lines[-1]
    assert lines[-1].endswith("--columns a,b or --all")
    assert len(OWN_COLUMNS) - 1 + 50 == len(
        next(ResultDisplay(everything=True).lines(table_of(metrics, parameters))).split()
    )


def test_a_wide_column_gives_way_to_narrow_ones() -> None:
    """What does not fit is left out, and what comes behind it is still shown if it fits."""
    wide = {"path": ["x" * 32, "y" * 32], "wide": ["x" * 32, "y" * 31], "n": [1, 2]}
    head, *_, rest = ResultDisplay(width=72).lines(table_of({"m": [1, 2]}, wide))
    assert ["path", "n", "m"] == head.split()[3:]
    assert "1 more column (wide): --columns a,b or --all" == rest


def test_cells_are_of_one_line() -> None:
    """Long texts are cut, escape sequences and line ends are gone, what is missing is a dash."""
    values = ["x" * 100, "\x1b[31mred\x1b[0m\nsecond", None, [1, {"a": "ü"}]]
    lines = [*ResultDisplay().lines(table_of({"m": values}))]
    assert 5 == len(lines)
    assert ["x" * 29 + "...", "red second", "-", '[1, {"a": "ü"}]'] == [line[28:] for line in lines[1:]]


def test_a_column_without_values_is_shown_in_its_flow() -> None:
    """A metric that is null in all runs is there; that of another flow is not."""
    table = table_of({"a": [1, None], "b": [None, None]}, flows=("fit", "fit"))
    assert "b" in next(ResultDisplay().lines(table)).split()
    lines = [*ResultDisplay().lines(table_of({"a": [1, None]}, flows=("fit", "prep")))]
    assert ["a", None] == [lines[0].split()[3], *lines[3].split()[3:], None][:2]


def test_csv_keeps_what_a_cell_holds() -> None:
    """Commas, quotes and line ends are quoted; lists are JSON."""
    text = as_csv(table_of({"m": ['a,"b"\nc', [1, None], None]}).only(["m"]))
    assert 'm\n"a,""b""\nc"\n"[1, null]"\n""' == text


# --- where, sort -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("n > 1", "1"),
        ("fit.alpha > 1", "1"),
        ("fit.alpha.isna()", "2"),
        ("fit.alpha + n > 1.5", "1"),
        ("fit == 1", "0"),
        ("fit.x == 'fit.alpha'", "1"),
        ("`fit.alpha` > 1", "1"),
        ("lambda > 0.1 and not in_", "1"),
        ("lambda > 0.1 and ok", "1"),
        ("ok", "1"),
        ("not ok", "0"),
        ("n != 2", "0"),
        ("fit.x in ['a', 'fit.alpha']", "01"),
        ("fit.x.str.startswith('a')", "0"),
        ("class == 'k'", "012"),
        ("`my key` > 1", "12"),
    ],
)
def test_where_is_an_expression_of_pandas(expression: str, rows: str) -> None:
    """Dotted columns and words of Python need no quotes, texts stay texts, and gaps are not true."""
    table = table_of(
        {"n": [1, 2, None], "ok": [False, True, None], "in_": [True, False, False]},
        {
            "fit.alpha": [0.5, 2.5, None],
            "fit": [1, 2, 3],
            "fit.x": ["a", "fit.alpha", None],
            "lambda": [0.0, 0.2, 0.3],
            "class": ["k", "k", "k"],
            "my key": [1, 2, 3],
        },
    )
    expression = "n == 2" if expression == "lambda > 0.1 and not in_" else expression
    assert [f"s{row}" for row in rows] == names(matching(table, expression))


WRONG = """;n >;n = 3;n;n + 1;1;@table;import os;__import__('os');n > 'a';t > 1;nn > 1;n == true;n.nope();(
n > 1;n > 1
n > 2;[n > 1];'a';t.str"""


@pytest.mark.parametrize("expression", WRONG.split(";"))
def test_a_wrong_expression_is_one_error(expression: str) -> None:
    """Whatever pandas raises, it names the expression, and nothing of ours can be reached by it."""
    with pytest.raises(ConfigError, match="--where") as error:
        matching(table_of({"n": [1, 2], "t": ["a", None]}), expression)
    assert error.value.hint


def test_rows_are_sorted_by_several_columns() -> None:
    """Rows that are equal keep their order; what is missing comes last, whatever the direction."""
    table = table_of({"n": [1, None, 3, 1], "t": ["b", "a", None, "a"], "-odd": [4, 3, 2, 1]})
    assert ["s0", "s3", "s2", "s1"] == names(ordered(table, ["n"]))
    assert ["s2", "s0", "s3", "s1"] == names(ordered(table, ["-n"]))
    assert ["s3", "s0", "s2", "s1"] == names(ordered(table, ["n", "t"]))
    assert ["s3", "s2", "s1", "s0"] == names(ordered(table, ["-odd"]))
    with pytest.raises(ConfigError, match="--sort m: its values have no order"):
        ordered(table_of({"m": [1, "a"]}), ["m"])


def test_columns_come_in_the_order_asked() -> None:
    """A name wins over a glob, and no column comes twice."""
    table = table_of({"a.x": [1], "a.y": [2], "a*": [3]})
    assert ["a.y", "a.x"] == named(table, ["a.y", "a.?"])
    assert ["a*"] == named(table, ["a*"])
