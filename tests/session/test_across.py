"""The results of many runs side by side: parameters that ran, metrics, and files as one table."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import TinyProject, a_result, held_elsewhere, stored, table

from ductaflow import conduct, outputs, results
from ductaflow.common.errors import ConfigError, DuctaflowError, InstanceError
from ductaflow.session.across import column_names, differ, series
from ductaflow.store.result import FileEntry, Status


@dataclass
class Runs:
    """Runs of the flow `demand` that nothing has made, in a project of their own."""

    project: TinyProject

    def add(
        self,
        name: str,
        status: str = "success",
        files: dict[str, str | bytes] | None = None,
        metrics: dict[str, Any] | None = None,
        **config: Any,
    ) -> Path:
        """A stored instance and its run, with that config."""
        self.project.config(f"flows/demand/{name}.json", **config)
        return self.ran(name, status, files, metrics, **config)

    def ran(
        self,
        name: str,
        status: str = "success",
        files: dict[str, str | bytes] | None = None,
        metrics: dict[str, Any] | None = None,
        run_status: str | None = None,
        **config: Any,
    ) -> Path:
        """A run folder."""
        folder = self.project.folder("demand", name)
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for path, content in (files or {}).items():
            data = content.encode() if isinstance(content, str) else content
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(data)
            entries.append(FileEntry(path=path, size=len(data)))
        ran = a_result(
            status,
            "demand",
            name,
            seconds=1.5,
            message="went wrong" if status == "error" else "",
            run_status=Status(run_status or status),
            metrics=metrics or {},
            outputs=tuple(entries),
        )
        stored(self.project.root / "runs", ran, **{**config, "_project_root": str(self.project.root)})
        return folder

    def results(self, flow: str = "demand", **options: Any) -> pd.DataFrame:
        return results(flow, project_root=self.project.root, **options)

    def outputs(self, file: str, **options: Any) -> pd.DataFrame:
        return outputs("demand", file, project_root=self.project.root, **options)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    project = TinyProject(tmp_path)
    project.flow("demand", "")
    return Runs(project)


# --- results -----------------------------------------------------------------------------------------------


def test_a_row_has_status_parameters_and_metrics(runs: Runs) -> None:
    """One row for each stored instance, in their order; nothing is printed where nothing is left out."""
    runs.add("b", metrics={"rmse": 0.5, "peak.mw": 10}, x=2, site={"name": "north", "height": 10})
    runs.add("a", "warning", metrics={"rmse": 0.25, "peak.mw": 12}, x=1, site={"name": "south", "height": 10})
    found = runs.results()
    own = ["instance", "status", "seconds", "note"]
    assert [*own, "x", "site.name", "site.height", "rmse", "peak.mw"] == list(found.columns)
    assert ["a", "warning", 1.5, "", 1, "south", 10, 0.25, 12] == found.iloc[0].tolist()
    assert ["a", "b"] == list(found["instance"])
    assert ["x", "site.name", "site.height"] == found.attrs["parameters"]
    assert (["rmse", "peak.mw"], {}) == (found.attrs["metrics"], found.attrs["left_out"])


def test_nothing_is_said_where_nothing_is_left_out(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of complete runs prints nothing."""
    runs.add("a", x=1)
    runs.results()
    assert ("", "") == tuple(capsys.readouterr())


def test_parameters_are_those_that_ran(runs: Runs) -> None:
    """A config that was edited since is marked, and its row has the values of the run."""
    runs.add("a", x=1)
    runs.add("b", x=2)
    for edited in (7, True, 1.0, "1"):
        runs.project.config("flows/demand/a.json", x=edited)
        found = runs.results()
        assert [1, 2] == list(found["x"])
        assert ["config changed since", ""] == list(found["note"])


def test_a_project_that_was_moved_has_not_changed(runs: Runs) -> None:
    """Where the project lay when it ran is no part of a config."""
    runs.project.config("flows/demand/a.json", data="{project_root}/inputs/a.csv")
    runs.ran("a", data="/elsewhere/inputs/a.csv")
    config = runs.project.folder("demand", "a") / "demand_config.json"
    config.write_text(json.dumps({"data": "/elsewhere/inputs/a.csv", "_project_root": "/elsewhere"}))
    assert [""] == list(runs.results()["note"])


def test_what_is_not_complete_has_no_metrics(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """A failed, an unfinished, a damaged and a missing run have a row each, and are named with the reason."""
    runs.add("good", metrics={"rmse": 1}, x=1)
    runs.add("bad", "error", metrics={"rmse": 2}, x=2)
    (runs.add("torn", x=3) / "result.json").write_text("{")
    busy = runs.add("busy")
    runs.project.config("flows/demand/new.json", x=5)
    with held_elsewhere(busy, runs.project.root / "runs"):
        found = runs.results().set_index("instance")
    assert {
        "bad": "error",
        "busy": "running",
        "good": "success",
        "new": "never",
        "torn": "unreadable",
    } == found["status"].to_dict()
    assert ["good"] == list(found.index[found["rmse"].notna()])
    assert [2, 1, 5, 3] == found["x"].dropna().tolist()
    assert "error: went wrong" == found.attrs["left_out"]["bad"]
    out, err = capsys.readouterr()
    assert "" == out
    assert (
        "results of demand: left out 1 error (bad), 1 running (busy), 1 never (new), 1 unreadable (torn)\n"
        == err
    )


def test_a_run_that_is_only_not_as_expected_has_its_metrics(runs: Runs) -> None:
    """Complete is what ran to its end, whatever came of judging it."""
    runs.project.config("flows/demand/a.json", x=1)
    runs.ran("a", "error", metrics={"rmse": 9}, run_status="success", x=1)
    found = runs.results()
    assert ("error", 9) == (found["status"][0], found["rmse"][0])
    assert {} == found.attrs["left_out"]


def test_what_was_not_judged_since_is_noted(runs: Runs) -> None:
    """Another expectation, in a file or in the config, makes no difference to a row but its note."""
    runs.add("a", metrics={"rmse": 1}, x=1)
    runs.project.config("flows/demand/b.json", x=1, _run={"expect": {"metrics": {"rmse": {"max": 5}}}})
    runs.ran("b", metrics={"rmse": 1}, x=1)
    said = "not judged since its expectation changed"
    assert ["", said] == list(runs.results()["note"])
    expected = runs.project.root / "expected" / "demand" / "a" / "metrics.json"
    expected.parent.mkdir(parents=True)
    expected.write_text('{"rmse": 2}')
    assert [(said, "success")] * 2 == [
        *zip(*(runs.results()[name] for name in ("note", "status")), strict=True)
    ]
    assert 2 == runs.project.cli("status").output.count(said)


def test_a_name_that_is_taken_gets_a_prefix(runs: Runs) -> None:
    """A metric like a parameter is `metrics.<name>`, a parameter like one of our columns `config.<name>`."""
    runs.add("a", metrics={"x": 2, "status": "fine", "rmse": 3}, x=1, note="s", metrics_={"x": 0})
    found = runs.results()
    assert ["x", "config.note", "metrics_.x", "metrics.x", "metrics.status", "rmse"] == list(found.columns)[
        4:
    ]
    assert [1, "s", 0, 2, "fine", 3] == found.iloc[0].tolist()[4:]


@pytest.mark.parametrize(
    ("names", "taken", "columns"),
    [
        (["a", "b"], [], ["a", "b"]),
        (["a"], ["a"], ["m.a"]),
        (["a"], ["a", "m.a"], ["m.m.a"]),
        (["a", "m.a"], ["a"], ["m.m.a", "m.a"]),
        (["m.a", "a"], ["a"], ["m.a", "m.m.a"]),
        (["a", "a"], [], ["a"]),
    ],
)
def test_no_two_columns_have_one_name(names: list[str], taken: list[str], columns: list[str]) -> None:
    """A prefix is repeated until the name is free, and who has a name of its own keeps it."""
    assert columns == list(column_names(names, taken, "m").values())


def test_configs_of_any_shape_have_columns(runs: Runs) -> None:
    """Nested keys have dots, a key with a dot has quotes, lists and empty objects are values."""
    runs.add("a", zones=["n", "s"], opts={}, site={"a.b": 1, "a": {"b": 2}, "Höhe m": None}, token="t0p")
    found = runs.results().iloc[0].to_dict()
    assert {
        "zones": ["n", "s"],
        "opts": {},
        'site["a.b"]': 1,
        "site.a.b": 2,
        "site.Höhe m": None,
        "token": "***",
    } == {
        name: value for name, value in found.items() if name in ("zones", "opts", "token") or "site" in name
    }


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([2**53 + 1, None], "Int64"),
        ([2**63, 1], "object"),
        ([-(2**63), 1], "object"),
        ([1, 2.5], "float64"),
        ([1, 2.5, None], "float64"),
        ([2**53 + 1, 2.5], "object"),
        ([0.5, None], "float64"),
        ([True, False], "bool"),
        ([True, None], "boolean"),
        ([True, 1], "object"),
        ([True, 0.5], "object"),
        (["a", 1], "object"),
        (["\ud800", None], "object"),
        ([None, None], "object"),
        ([[1], [2]], "object"),
        ([{}, None], "object"),
        ([], "object"),
    ],
)
def test_a_column_has_the_type_that_is_expected(values: list[object], dtype: str) -> None:
    """Integers stay integers beside a gap, booleans booleans, and no value changes."""
    column = series(values)
    assert dtype == str(column.dtype)
    assert [value for value in values if value is not None] == column.dropna().tolist()


def test_texts_are_texts_of_pandas(runs: Runs) -> None:
    """Strings have the type that pandas gives them, and dates are strings until somebody asks."""
    assert pd.Series(["a", None]).dtype == series(["a", None]).dtype
    assert pd.Series(["2030-01-01"]).dtype == series(["2030-01-01"]).dtype


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], False), ([1], False), ([1, 1.0], False), ([1, 2], True), ([1, None], True), ([1, True], True)],
)
def test_parameters_differ_by_value(values: list[object], expected: bool) -> None:
    """True is not 1, and a gap is a value of its own."""
    assert expected == differ(values)


def test_rows_of_conductors_come_when_asked(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not stored has a row with `conducted`, and is named without it."""
    runs.add("a", metrics={"rmse": 1}, x=1)
    runs.ran("row", metrics={"rmse": 2}, x=2)
    assert ["a"] == list(runs.results()["instance"])
    assert "1 not stored (row)" in capsys.readouterr().err
    found = runs.results(conducted=True)
    assert [("a", 1, 1, ""), ("row", 2, 2, "not stored")] == [
        *zip(found["instance"], found["x"], found["rmse"], found["note"], strict=True)
    ]


def test_a_flow_without_instances_is_an_empty_table(runs: Runs) -> None:
    """Nothing stored, nothing run: the columns that every table has."""
    assert ["instance", "status", "seconds", "note"] == list(runs.results().columns)
    assert 0 == len(runs.results())


@pytest.mark.parametrize("flow", ["demnd", "../demand", ""])
def test_an_unknown_flow_is_an_error(runs: Runs, flow: str) -> None:
    """It says what may be meant, and looks nowhere else."""
    with pytest.raises(InstanceError) as error:
        runs.results(flow)
    assert flow != "demnd" or "demand" in error.value.hint


@pytest.mark.parametrize(
    ("text", "note"),
    [("{", "the saved config cannot be read"), ("[1]", "the saved config cannot be read"), (None, "is gone")],
)
def test_a_damaged_saved_config_is_noted(runs: Runs, text: str | None, note: str) -> None:
    """The row has no parameters, rather than those of another config."""
    config = runs.add("a", metrics={"rmse": 1}, x=1) / "demand_config.json"
    config.unlink() if text is None else config.write_text(text)
    found = runs.results()
    assert note in found["note"][0]
    assert "x" not in found.columns
    assert 1 == found["rmse"][0]


def test_a_broken_stored_config_says_so_beside_its_run(runs: Runs) -> None:
    """The run is there, and what is wrong with the instance is in the note."""
    runs.add("a", metrics={"rmse": 1}, x=1)
    (runs.project.root / "config/flows/demand/a.json").write_text("{")
    found = runs.results()
    assert "a.json" in found["note"][0]
    assert (1, 1) == (found["x"][0], found["rmse"][0])


# --- outputs -----------------------------------------------------------------------------------------------


def test_a_file_of_every_complete_run_is_one_table(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row has its instance and the parameters that differ; what is left out is named with the reason."""
    runs.add("a", files={"h.csv": "hour,mw\n0,1\n1,2\n"}, x=1, same=0)
    runs.add("b", files={"h.csv": "hour,mw\n0,3\n"}, x=2, same=0)
    runs.add("bad", "error", files={"h.csv": "hour,mw\n0,9\n"}, x=3, same=1)
    runs.add("without", files={"other.csv": ""}, x=4, same=0)
    changed = runs.add("edited", files={"h.csv": "hour,mw\n0,9\n"}, x=5, same=0)
    (changed / "h.csv").write_text("hour,mw\n0,10\n")
    found = runs.outputs("h.csv")
    assert ["instance", "x", "hour", "mw"] == list(found.columns)
    assert [("a", 1, 0, 1), ("a", 1, 1, 2), ("b", 2, 0, 3)] == [*found.itertuples(index=False, name=None)]
    assert {
        "bad": "error: went wrong",
        "without": "no h.csv",
        "edited": "h.csv was changed since",
    } == found.attrs["left_out"]
    assert capsys.readouterr().err == (
        "outputs of demand: h.csv of 2 runs; left out 1 error (bad), 1 h.csv was changed since (edited), "
        "1 no h.csv (without)\n"
    )


def test_types_stay_where_files_lack_a_column(runs: Runs) -> None:
    """Integers and booleans have gaps instead of becoming floats and objects; dates are dates when asked."""
    runs.add("a", files={"h.csv": "n,ok,day,t\n1,True,2030-01-01,x\n"})
    runs.add("b", files={"h.csv": "n,ok,day,t\n,,2030-01-02,\n"})
    runs.add("c", files={"h.csv": "other\n5\n"})
    runs.add("d", files={"h.csv": "n,ok,day,late\n"})
    found = runs.outputs("h.csv", parse_dates=False)
    assert {"n": "Int64", "ok": "boolean", "other": "Int64", "late": "float64"} == {
        name: str(found[name].dtype) for name in ("n", "ok", "other", "late")
    }
    assert [1, 5] == [found["n"][0], found["other"][2]]
    assert isinstance(found["day"][0], str)
    assert {"d": "h.csv has no rows"} == found.attrs["left_out"]
    assert ["n", "ok", "day", "t", "other", "late"] == list(found.columns)[1:]


def test_a_name_in_a_file_stays_its_own(runs: Runs) -> None:
    """A parameter like a column of the file is `config.<name>`; a column like ours is `file.<name>`."""
    for name, zone in (("a", "n"), ("b", "s")):
        runs.add(name, files={"h.csv": f"zone,instance\n{zone}1,i\n"}, zone=zone)
    found = runs.outputs("h.csv")
    assert ["instance", "config.zone", "zone", "file.instance"] == list(found.columns)
    assert ["a", "n", "n1", "i"] == found.iloc[0].tolist()


def test_many_formats_are_read(runs: Runs) -> None:
    """By the ending, compressed or not; options go to the reader, and any function can be one."""
    records = [{"code": "007", "at": "2030-01-01", "v": 0.1}]
    runs.add(
        "a",
        files={
            "t.tsv": "n\tm\n1\t2\n",
            "t.csv.gz": gzip.compress(b"n;m\n1;2\n"),
            "T.JSON": json.dumps(records),
            "deep/t.json": pd.DataFrame(records).to_json(),
            "lines.json": '{"n": 1}\n{"n": 2}\n',
            "t.txt": "1 2",
        },
    )
    assert [1, 2] == runs.outputs("t.tsv").iloc[0].tolist()[1:]
    assert [1, 2] == runs.outputs("t.csv.gz", sep=";").iloc[0].tolist()[1:]
    for name in ("T.JSON", "./deep/t.json"):
        found = runs.outputs(name)
        assert ["007", "2030-01-01", 0.1] == found.iloc[0].tolist()[1:]
        assert ["instance", "code", "at", "v"] == list(found.columns)
    assert [1, 2] == list(runs.outputs("lines.json", lines=True)["n"])
    found = runs.outputs(
        "t.txt", reader=lambda path, sep: pd.DataFrame({"t": path.read_text().split(sep)}), sep=" "
    )
    assert ["1", "2"] == list(found["t"])
    with pytest.raises(ConfigError, match=r"nothing is known to read t\.txt") as error:
        runs.outputs("t.txt")
    assert "reader=" in error.value.hint


def test_a_csv_is_read_as_it_is_separated(runs: Runs) -> None:
    """As `diff` reads it: with semicolons, and decimal commas then; options that say it are obeyed."""
    german = "h;v\n1;2,5\n"
    with_unit = "# in MW; hourly; v1\nh,v\n1,2.5\n"
    files = {
        "g.csv": german,
        "g.csv.gz": gzip.compress(german.encode()),
        "e.csv": "h,v\n1,2.5\n",
        "c.csv": with_unit,
    }
    runs.add("a", files={**files, "one.csv": "h\n1\n", "t.tsv": "1\t2;5\n"})
    for name, options in (("g.csv", {}), ("g.csv.gz", {}), ("e.csv", {}), ("c.csv", {"comment": "#"})):
        assert ["a", 1, 2.5] == runs.outputs(name, **options).iloc[0].tolist()
    assert "2,5" == runs.outputs("g.csv", sep=";")["v"][0]
    assert 25 == runs.outputs("g.csv", decimal=".", thousands=",")["v"][0]
    assert ["instance", "h;v"] == list(runs.outputs("g.csv", sep="\t"))
    assert ["a", 1] == runs.outputs("one.csv").iloc[0].tolist()
    assert ["a", 1, "2;5"] == runs.outputs("t.tsv", header=None).iloc[0].tolist()
    assert ["a", 1, "2;5"] == runs.outputs("t.tsv", header=None, delimiter="\t").iloc[0].tolist()


def test_an_index_is_a_column_unless_it_counts(runs: Runs) -> None:
    """Nothing of a file is lost; a mere count is no part of it."""
    frames = {
        "named": pd.DataFrame({"v": [1]}, index=pd.Index(["n"], name="zone")),
        "filtered": pd.DataFrame({"v": [1, 2]}).iloc[1:],
        "count": pd.DataFrame({"v": [1]}),
    }
    runs.add("a", files=dict.fromkeys(frames, "x"))
    for name, columns in (("named", ["zone", "v"]), ("filtered", ["index", "v"]), ("count", ["v"])):
        found = runs.outputs(name, reader=lambda path: frames[path.name])
        assert ["instance", *columns] == list(found.columns)
    assert "zone" == frames["named"].index.name


def test_columnar_files_are_read(runs: Runs) -> None:
    """Parquet and Feather, with their types."""
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"n": [1, 2], "at": pd.to_datetime(["2030-01-01", "2030-01-02"])})
    folder = runs.add("a", files={"t.parquet": "", "t.feather": ""})
    frame.to_parquet(folder / "t.parquet")
    frame.to_feather(folder / "t.feather")
    runs.ran("a", files={name: (folder / name).read_bytes() for name in ("t.parquet", "t.feather")})
    for name in ("t.parquet", "t.feather"):
        pd.testing.assert_frame_equal(frame, runs.outputs(name)[["n", "at"]])


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_no_link_is_followed_that_the_run_has_not_made(
    runs: Runs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file, or a folder above it, that was replaced by a link is left out; a recorded link is an output."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "h.csv").write_text("n\n1\n")
    good = runs.add("good", files={"data/h.csv": "n\n1\n"})
    (runs.add("file", files={"data/h.csv": "n\n1\n"}) / "data/h.csv").unlink()
    (runs.project.folder("demand", "file") / "data/h.csv").symlink_to(outside / "h.csv")
    folder = runs.add("folder", files={"data/h.csv": "n\n1\n"}) / "data"
    (folder / "h.csv").unlink()
    folder.rmdir()
    folder.symlink_to(outside)
    found = runs.outputs("data/h.csv")
    assert ["good"] == list(found["instance"])
    assert {"data/h.csv is behind a link, which the run has not made"} == set(
        found.attrs["left_out"].values()
    )
    (good / "last.csv").symlink_to("data/h.csv")
    link = FileEntry(path="last.csv", size=10, kind="link", target="data/h.csv")
    stored(runs.project.root / "runs", a_result("success", "demand", "good", outputs=(link,)), x=1)
    assert [1] == list(runs.outputs("last.csv")["n"])


def test_what_cannot_be_read_costs_its_own_run(runs: Runs) -> None:
    """An empty file and another encoding are left out with the reason; all files of the runs is an error."""
    runs.add("a", files={"h.csv": "n\n1\n"})
    runs.add("empty", files={"h.csv": ""})
    runs.add("latin", files={"h.csv": "n\nä\n".encode("latin-1")})
    found = runs.outputs("h.csv")
    assert ["a"] == list(found["instance"])
    assert "h.csv cannot be read: EmptyDataError: No columns" in found.attrs["left_out"]["empty"]
    assert "UnicodeDecodeError" in found.attrs["left_out"]["latin"]
    assert 2 == len(runs.outputs("h.csv", encoding="latin-1"))
    with pytest.raises(
        DuctaflowError, match=r"no complete run of demand has h\.csv to read; the first of 3: h\.csv"
    ):
        runs.outputs("h.csv", no_such_option=1)


def test_a_reader_has_to_make_frames(runs: Runs) -> None:
    """Anything else, columns in levels, and names given twice are no rows of a table."""
    runs.add("a", files={"h": "x"})
    levels = pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")]))
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    for made, said in (([1], "gives list, not a DataFrame"), (levels, "several levels"), (twice, "one name")):
        with pytest.raises(DuctaflowError) as error:
            runs.outputs("h", reader=lambda path, made=made: made)
        assert said in str(error.value.__cause__)


def test_no_such_output_says_what_there_is(runs: Runs) -> None:
    """A typing error is answered with what may be meant; without complete runs, with the command."""
    with pytest.raises(InstanceError, match="no run of demand is complete"):
        runs.outputs("h.csv")
    runs.add("a", files={"hourly.csv": "n\n1\n"})
    with pytest.raises(DuctaflowError, match=r"no hourlz\.csv") as error:
        runs.outputs("hourlz.csv")
    assert "Did you mean hourly.csv?" == error.value.hint
    with pytest.raises(DuctaflowError, match="no /etc/hosts"):
        runs.outputs("/etc/hosts", reader=pd.read_csv)


# --- beside the rows of a conductor, and in a run ----------------------------------------------------------


RECORD = """
# %%
from ductaflow import record
record(rmse=config["x"] / 4, x=config["x"] * 10, n=3)
if config["x"] == 2:
    raise ValueError
"""


def test_conduct_has_metrics_beside_parameters(tmp_path: Path) -> None:
    """They are no parameters when the table is given again; without attrs nobody knows, which is an error."""
    project = TinyProject(tmp_path)
    project.flow("demand", RECORD)
    options = {"project_root": tmp_path, "progress": False, "report": False, "export_html": False}
    done = conduct(table("a", "b", x=[1, 2]), "demand", **options)
    assert ["rmse", "metrics.x", "n"] == list(done.columns)[-3:] == done.attrs["metrics"]
    assert [0.25, 10, 3] == done.iloc[0].tolist()[-3:]
    assert ("Int64", True) == (str(done["n"].dtype), bool(done["n"].isna()[1]))
    again = conduct(done[done["status"] == "success"], "demand", **options)
    assert ["unchanged"] == list(again["status"])
    assert [0.25, 10, 3] == again.iloc[0].tolist()[-3:]
    lost = pd.DataFrame(done.to_dict("list"))
    with pytest.raises(
        ConfigError, match=r"results of an earlier call, and rmse, metrics\.x, n may be metrics"
    ):
        conduct(lost, "demand", **options)
    planned = conduct(done[["instance", "rmse"]], "demand", config={"x": 1}, dry_run=True, **options)
    assert 0.25 == conduct(planned, "demand", config={"x": 1}, dry_run=True, **options)["rmse"][0]
    conducted = results("demand", conducted=True, project_root=tmp_path)
    assert ["a", "b"] == list(conducted["instance"])


def test_a_run_that_reads_results_is_stale_when_they_change(tmp_path: Path) -> None:
    """What a flow is told of other runs is an input of its own, also of those that have not run yet."""
    project = TinyProject(tmp_path)
    project.flow("demand", "# %%\nimport json\njson.dump({'peak': config['x']}, open('metrics.json', 'w'))")
    project.flow("compare", "# %%\nfrom ductaflow import results\nprint(results('demand')['peak'].tolist())")
    project.config("flows/demand/a.json", x=1)
    project.config("flows/compare/all.json", _run={"needs": ["demand/a"]})
    project.run("demand/a")
    assert Status.SUCCESS is project.run("compare/all").status
    assert "compare/all is unchanged" in project.output("why", "compare/all")
    project.config("flows/demand/a.json", x=2)
    project.run("demand/a")
    assert "runs/demand/a/metrics.json" in project.output("why", "compare/all")
