"""Accepting: which results of which runs become the expected ones, how they are written, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject, a_result, full_disk, held_elsewhere, stored_at

from ductaflow import DuctaflowError, Project, load_stored
from ductaflow.common.paths import Kind
from ductaflow.comparison.apart import Pair
from ductaflow.comparison.compare import compare_files
from ductaflow.comparison.difference import FileDifference
from ductaflow.project.instances import Instances
from ductaflow.session.accept import Accepted, accept, named_instances
from ductaflow.session.request import spec_of_instance
from ductaflow.store.record import Site, config_hash
from ductaflow.store.result import FileEntry, Result, Status, read_result


class Desk(TinyProject):
    """A project with runs that were not made."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.flow("fit", "pass")

    def ran(
        self,
        metrics: dict[str, Any] | None = None,
        *,
        id: str = "fit/a",
        inside: str = "",
        status: str = "success",
        expect: dict[str, Any] | None = None,
        kind: Kind = "flow",
        children: tuple[str, ...] = (),
        **files: str | bytes,
    ) -> Path:
        """Store an instance and a run of it, or of a flow inside; `_` is the dot in names of files."""
        flow, _, name = id.partition("/")
        run = {"_run": {"expect": expect}} if expect else {}
        if not inside:
            self.config(f"{kind}s/{flow}/{name}.json", **run)
        spec = spec_of_instance(load_stored(Project.at(self.root), id))
        folder = self.folder(flow, name) / inside
        folder.mkdir(parents=True, exist_ok=True)
        outputs = []
        if metrics is not None:
            files["metrics_json"] = json.dumps(metrics)
        for key, content in files.items():
            file = folder / key.replace("_", ".")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
            outputs.append(Site.of(spec).entry(str(file), file.relative_to(folder).as_posix()))
        result = a_result(
            status,
            inside.rpartition("/")[2] or flow,
            name,
            kind="flow" if inside else kind,
            run_status=Status(status),
            metrics=metrics or {},
            outputs=tuple(outputs),
            children=children,
            config_hash=config_hash(spec.config, spec.project_root),
            message="boom" if status == "error" else "",
        )
        stored_at(folder, result, **run)
        return folder

    def accept(self, id: str = "fit/a", *files: str, **options: Any) -> Accepted:
        return accept(load_stored(Project.at(self.root), id), files, **options)

    def expect(self, name: str, text: str = "") -> Path:
        """Write an expected file."""
        file = self.root / "expected" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def expected(self) -> dict[str, str]:
        """What is expected, by file."""
        root = self.root / "expected"
        return {
            path.relative_to(root).as_posix(): "".join(path.read_text().split())
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    def judged(self, id: str = "fit/a") -> Result:
        flow, _, name = id.partition("/")
        return self.result(flow, name)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    def compare_here(pairs: Sequence[Pair], _stopped: object = None) -> list[FileDifference | None]:
        return [compare_files(*pair) for pair in pairs]

    monkeypatch.chdir(tmp_path)
    # What comes of it is the same, and a process that imports pandas takes a second.
    monkeypatch.setattr("ductaflow.store.expected.compare_apart", compare_here)
    return Desk(tmp_path / "project")


def test_the_first_time(desk: Desk) -> None:
    """Metrics only, one a line and sorted; the run is judged at once, and its result is kept."""
    desk.ran({"rmse": 0.31, "n": 5, "peak.mw": 812.5}, hourly_csv="x\n1\n")
    done = desk.accept()

    path = desk.root / "expected/fit/a/metrics.json"
    assert '{\n "n": 5,\n "peak.mw": 812.5,\n "rmse": 0.31\n}\n' == path.read_text()
    assert ["fit/a: wrote project/expected/fit/a/metrics.json"] == list(done.lines)
    assert (3, 0) == ((judged := desk.judged().judged) and judged.metrics, judged and judged.files)
    assert [] == list(desk.accept().lines)


def test_later(desk: Desk) -> None:
    """Only what is expected already: other files and metrics are left; equal values keep their text."""
    desk.ran({"rmse": 0.3100000001, "n": 6, "new": 1}, a_csv="x\n1\n", b_csv="x\n2\n")
    desk.expect("fit/a/metrics.json", '{"rmse": 0.3100, "n": 5}')
    desk.expect("fit/a/b.csv", "x\n1\n")
    done = desk.accept()

    assert {"fit/a/b.csv": "x2", "fit/a/metrics.json": '{"n":6,"rmse":0.3100}'} == desk.expected()
    assert "fit/a: 1 more metric is not expected; to expect all: ductaflow accept fit/a metrics.json" in [
        *done.lines
    ]
    assert "success" == desk.judged().status

    desk.accept("fit/a", "metrics.json", "a.csv")
    assert ["fit/a/a.csv", "fit/a/b.csv", "fit/a/metrics.json"] == list(desk.expected())
    assert '{"n":6,"new":1,"rmse":0.3100}' == desk.expected()["fit/a/metrics.json"]


def test_named_files(desk: Desk) -> None:
    """A name or a glob takes those files alone; `_run.expect.files` names them for good."""
    desk.ran({"n": 1}, a_csv="x", b_csv="y", c_txt="z", id="fit/a")
    desk.accept("fit/a", "*.csv")
    assert ["fit/a/a.csv", "fit/a/b.csv"] == list(desk.expected())
    desk.ran({"n": 1}, a_csv="x", c_txt="z", id="fit/b", expect={"files": {"*.txt": {}}})
    desk.accept("fit/b")
    assert ["fit/b/c.txt", "fit/b/metrics.json"] == list(desk.expected())[2:]


def test_other_names_of_metrics(desk: Desk) -> None:
    """Whatever the file of a run is called, its metrics are expected in `metrics.json`."""
    desk.settings('metrics = ["scores.json"]')
    folder = desk.ran({"n": 1})
    (folder / "scores.json").write_text('{"n": 1}')
    result = desk.judged()
    entry = FileEntry(**{**result.outputs[0], "path": "scores.json"})
    (folder / "metrics.json").rename(folder / "scores.json")
    stored_at(folder, replace(result, outputs=(entry,)))
    desk.accept("fit/a", "scores.json")
    assert {"fit/a/metrics.json": '{"n":1}'} == desk.expected()


def test_a_bound_is_not_accepted(desk: Desk) -> None:
    """What is beyond it stays as it was, and is named; the rest is accepted."""
    desk.ran({"peak": 812, "n": 2}, expect={"metrics": {"peak": {"max": 800}}})
    desk.expect("fit/a/metrics.json", '{"peak": 790, "n": 1}')
    done = desk.accept()
    assert {"fit/a/metrics.json": '{"n":2,"peak":790}'} == desk.expected()
    assert "fit/a: peak stays: 812 > max 800, and a bound is not accepted: change it in the config" in str(
        [*done.lines]
    )
    assert "fit/a: still not as expected: " in str([*done.lines])
    assert "expectation" == desk.judged().cause


def test_what_vanished(desk: Desk) -> None:
    """It stays, and is named, until it is removed on purpose; an empty folder goes too."""
    desk.ran({"n": 1}, a_json='{"x": {"y": 1}}')
    desk.expect("fit/a/metrics.json", '{"n": 1, "old": 2}')
    desk.expect("fit/a/a.json", '{"x": {"y": 1, "z": 2}}')
    desk.expect("fit/a/sub/old.csv", "x")
    before = desk.expected()
    done = desk.accept()
    assert before == desk.expected()
    told = "\n".join(done.lines)
    assert 2 == told.count("--remove removes it")
    assert "still not as expected: 1 of 2 metrics, 2 of 2 files differ" in told

    desk.accept(remove=True)
    assert {"fit/a/a.json": '{"x":{"y":1}}', "fit/a/metrics.json": '{"n":1}'} == desk.expected()
    assert not (desk.root / "expected/fit/a/sub").exists()
    assert "success" == desk.judged().status


def test_the_rest_vanished(desk: Desk) -> None:
    """Without any metric there is no expected file of them."""
    desk.ran({})
    desk.expect("fit/a/metrics.json", '{"n": 1}')
    desk.accept(remove=True)
    assert not (desk.root / "expected").exists()
    assert desk.judged().judged is None


def test_small_diffs(desk: Desk) -> None:
    """Of a table and of JSON only what differs is another line."""
    desk.ran(a_csv="h,x\n1,0.1000000001\n2,5\n", b_json='{"b": [1.0000000001, 3], "a": 1}')
    desk.expect("fit/a/a.csv", "h,x\n1,0.10\n2,4\n")
    desk.expect("fit/a/b.json", '{"a": 1, "b": [1.00, 2]}')
    done = desk.accept()
    assert {"fit/a/a.csv": "h,x1,0.102,5", "fit/a/b.json": '{"a":1,"b":[1.00,3]}'} == desk.expected()
    assert [("a.csv", 4, 5, 0.25), ("b.json", 2, 3, 0.5)] == [
        (file, one.old, one.new, one.change) for file, one in done.values
    ]
    assert "success" == desk.judged().status


def test_a_build(desk: Desk) -> None:
    """Its flows belong to it: their expected folders lie as their run folders do, named files too."""
    desk.flow("plan", "pass", kind="builds")
    build = {"id": "plan/x", "kind": "build"}
    desk.ran({"total": 3}, **build, children=("runs/fit",), sum_txt="3")
    desk.ran({"rmse": 1}, id="plan/x", inside="runs/fit", hourly_csv="x\n1\n")
    desk.accept("plan/x")
    assert {
        "plan/x/metrics.json": '{"total":3}',
        "plan/x/runs/fit/metrics.json": '{"rmse":1}',
    } == desk.expected()
    desk.accept("plan/x", "runs/fit/*.csv")
    assert "plan/x/runs/fit/hourly.csv" in desk.expected()

    desk.ran({"rmse": 2}, id="plan/x", inside="runs/fit", hourly_csv="x\n1\n")
    desk.expect("plan/x/runs/fit/metrics.json", '{"rmse": 1, "old": 1}')
    assert "plan/x: runs/fit: old is expected, and the run does not have it; --remove removes it" in [
        *desk.accept("plan/x").lines
    ]
    desk.accept("plan/x", remove=True)
    assert '{"rmse":2}' == desk.expected()["plan/x/runs/fit/metrics.json"]
    flow = read_result(desk.folder("plan", "x") / "runs/fit")
    assert flow
    assert flow.judged
    assert (1, 1) == (flow.judged.metrics, flow.judged.files)

    desk.ran(id="plan/x", inside="runs/fit", status="error")
    with pytest.raises(DuctaflowError, match="fit/x is not accepted: boom"):
        desk.accept("plan/x")


def _incomplete(desk: Desk) -> None:
    desk.ran({"n": 1}, status="error")


def _never(desk: Desk) -> None:
    desk.config("flows/fit/a.json")


def _lost(desk: Desk) -> None:
    (desk.ran({"n": 1}) / "result.json").unlink()


def _changed(desk: Desk) -> None:
    (desk.ran(a_csv="1") / "a.csv").write_text("2")


def _changed_metrics(desk: Desk) -> None:
    (desk.ran({"n": 1}) / "metrics.json").write_text('{"n": 2}')


def _gone(desk: Desk) -> None:
    (desk.ran(a_csv="1") / "a.csv").unlink()


def _large(desk: Desk) -> None:
    desk.ran(a_csv="1" * 1_000_001)


def _ours(desk: Desk) -> None:
    desk.ran({"n": 1})


def _conflict(desk: Desk) -> None:
    desk.ran({"n": 1})
    desk.expect("fit/a/metrics.json", '{\n<<<<<<< HEAD\n"n": 1}')


def _expecting(text: str | bytes) -> Callable[[Desk], object]:
    def make(desk: Desk) -> None:
        desk.ran({"n": 1})
        desk.expect("fit/a/metrics.json").write_bytes(text.encode() if isinstance(text, str) else text)

    return make


def _link(desk: Desk) -> None:
    desk.ran({"n": 1})
    desk.expect("outside.json")
    desk.expect("fit/a/x.txt")
    (desk.root / "expected/fit/a/metrics.json").symlink_to(desk.root / "expected/outside.json")


def _link_to_a_folder(desk: Desk) -> None:
    desk.ran({"n": 1})
    (desk.root / "expected/fit").mkdir(parents=True)
    (desk.root / "elsewhere").mkdir()
    (desk.root / "expected/fit/a").symlink_to(desk.root / "elsewhere")


def _link_above(desk: Desk) -> None:
    desk.ran({"n": 1})
    (desk.root / "elsewhere").mkdir()
    (desk.root / "expected").symlink_to(desk.root / "elsewhere")


def _file_in_the_way(desk: Desk) -> None:
    desk.ran({"n": 1})
    (desk.root / "expected").write_text("")


def _hidden(desk: Desk) -> None:
    desk.ran(_x="1")


def _pipe(desk: Desk) -> None:
    desk.ran({"n": 1})
    desk.expect("fit/a/x.txt").unlink()
    os.mkfifo(desk.root / "expected/fit/a/x.txt")


#: What is there, the files that are named, and what is said.
REFUSED: dict[str, tuple[Callable[[Desk], object], list[str], str]] = {
    "a run that failed": (_incomplete, [], "fit/a is not accepted: its last run failed: boom\nRun it again"),
    "no run": (_never, [], "fit/a has not run"),
    "a lost run": (_lost, [], "it has no finished run"),
    "a changed file": (_changed, ["a.csv"], "a.csv has other content since the run wrote it"),
    "changed metrics": (_changed_metrics, [], "metrics.json has other content since the run wrote it"),
    "a file that is gone": (_gone, ["a.csv"], "its output a.csv is gone"),
    "a large file": (_large, ["a.csv"], "a.csv has 1.0 MB, and expected files are committed\nGive --large"),
    "a file of ours": (_ours, ["fit_execution_output.txt"], "is a file of ductaflow"),
    "our result": (_ours, ["result.json"], "is a file of ductaflow"),
    "an unknown file": (_ours, ["metric.json"], "fit/a has no file metric.json to accept\nDid you mean"),
    "a way out": (_ours, ["../b/metrics.json"], "has no file ../b/metrics.json"),
    "a hidden file": (_hidden, [".x"], "has no file .x"),
    "a conflict of git": (_conflict, [], "metrics.json:2:1: not JSON"),
    "an expected list": (_expecting("[1]"), [], "metrics.json:1:1: metrics are a JSON object, not a list"),
    "an infinite number": (_expecting('{"n": 1e999}'), [], '"n" is infinite'),
    "a number of many digits": (_expecting(f'{{"n": {"9" * 5000}}}'), [], "metrics.json cannot be read"),
    "a key that is twice": (_expecting('{"n": 1, "n": 2}'), [], '"n" is given twice'),
    "a deep one": (_expecting('{"n":' * 100_000), [], "metrics.json cannot be read: nested too deeply"),
    "a huge one": (_expecting(f'{{"n": "{"x" * 5_000_000}"}}'), [], "metrics.json has 5.0 MB"),
    "another encoding": (_expecting('{"n": 1}'.encode("utf-16")), [], "is UTF-16 or UTF-32, not UTF-8"),
    "an expected link": (_link, [], "metrics.json is a link"),
    "a folder that is a link": (_link_to_a_folder, [], "expected/fit/a is a link to"),
    "a link above": (_link_above, [], "expected is a link to"),
    "a file in the way": (_file_in_the_way, [], "is a file, where a folder is meant to be"),
    "an expected pipe": (_pipe, [], "x.txt is a pipe"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(desk: Desk, name: str) -> None:
    """What cannot be trusted, or is in the way, is said, and nothing is written, least of all elsewhere."""
    made, files, message = REFUSED[name]
    made(desk)
    before = _tree(desk.root)
    with pytest.raises(DuctaflowError) as refused:
        desk.accept("fit/a", *files)
    assert message in str(refused.value)
    assert before == _tree(desk.root)


def _tree(root: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if ".ductaflow" not in path.parts
    }


def test_a_renamed_instance(desk: Desk) -> None:
    """What was expected of it moves with it as a folder; without that it expects nothing, and is new."""
    desk.ran({"n": 1}, id="fit/old")
    desk.accept("fit/old")
    (desk.root / "config/flows/fit/old.json").unlink()
    desk.ran({"n": 2}, id="fit/new")
    with pytest.raises(DuctaflowError, match=r"fit has no stored instance .old.\nDid you mean|There is new"):
        named_instances(Instances(Project.at(desk.root)), ["fit/old"])
    assert desk.output("status", "fit/new").startswith("success")

    (desk.root / "expected/fit/old").rename(desk.root / "expected/fit/new")
    assert "not judged since" in desk.output("status", "fit/new")
    desk.accept("fit/new")
    assert {"fit/new/metrics.json": '{"n":2}'} == desk.expected()


def test_a_deleted_expectation(desk: Desk) -> None:
    """Nothing is expected any more, of a file or at all: the next accepting is the first one again. An empty
    folder expects nothing."""
    desk.ran({"n": 1}, a_csv="x")
    (desk.root / "expected/fit/a/sub").mkdir(parents=True)
    desk.accept("fit/a", "*")
    (desk.root / "expected/fit/a/a.csv").unlink()
    assert [] == list(desk.accept().writes)
    assert (1, 0) == ((judged := desk.judged().judged) and judged.metrics, judged and judged.files)

    (desk.root / "expected/fit/a/metrics.json").unlink()
    desk.accept()
    assert ["fit/a/metrics.json"] == list(desk.expected())


def test_a_large_file_on_purpose(desk: Desk) -> None:
    """With `large` it is accepted."""
    _large(desk)
    desk.accept("fit/a", "a.csv", large=True)
    assert ["fit/a/a.csv"] == list(desk.expected())


def test_a_held_folder(desk: Desk) -> None:
    """While something runs there nothing is accepted."""
    folder = desk.ran({"n": 1})
    desk.accept()
    with held_elsewhere(folder, desk.root / "runs"), pytest.raises(DuctaflowError):
        desk.accept()


def test_a_read_only_folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with what the system says and what to do."""
    desk.ran({"n": 1})

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # not by its mode: the tests may run as root
    monkeypatch.setattr("ductaflow.session.accept.write_atomic", refuse)
    with pytest.raises(DuctaflowError, match=r"expected/fit/a: cannot be used: Permission denied\nMake room"):
        desk.accept()


def test_a_full_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays whole, and no temporary file is left."""
    desk.ran({"n": 2})
    desk.expect("fit/a/metrics.json", '{"n": 1}')
    full_disk(monkeypatch)
    with pytest.raises(DuctaflowError, match=r"metrics.json: cannot be used: No space left on device"):
        desk.accept()
    assert {"fit/a/metrics.json": '{"n":1}'} == desk.expected()


def test_hostile_names(desk: Desk) -> None:
    """Names of files and metrics are only names: in the file, in the terminal, in the table."""
    metrics = {"a|b\nc": 1, "\x1b[31m": 2, '"\\': 3, "warning: ": 4, "é\ud800": 5}
    folder = desk.ran(metrics)
    result = desk.judged()
    site = Site.of(spec_of_instance(load_stored(Project.at(desk.root), "fit/a")))
    names = ["a|b\n.txt", "b\udcff.txt", "-f", "[x]*.txt"]
    for name in names:
        (folder / name).write_text("x")
    entries = [site.entry(str(folder / name), name) for name in names]
    stored_at(folder, replace(result, outputs=(*result.outputs, *entries)))
    table = desk.output("accept", "fit/a", "*", "--dry-run").splitlines()
    assert [] == list(desk.expected())
    rows = [line for line in table if line.startswith("|")]
    assert 2 + len(metrics) + len(names) == len(rows)
    assert {7} == {line.replace("\\|", "").count("|") for line in rows}
    assert "\x1b" not in desk.output("accept", "fit/a", "*")
    assert metrics == json.loads((desk.root / "expected/fit/a/metrics.json").read_text())
    assert {*names, "metrics.json"} == {path.name for path in (desk.root / "expected/fit/a").iterdir()}
    assert "success" == desk.judged().status


def test_an_edited_config(desk: Desk) -> None:
    """The numbers are not those of the config that is stored now: that is said."""
    desk.ran({"n": 1})
    desk.config("flows/fit/a.json", x=2)
    assert "fit/a: its config was edited since that run: ductaflow run fit/a" in desk.accept().lines


def test_a_run_without_metrics(desk: Desk) -> None:
    """What can be accepted of it is said: no word would look as if it had been."""
    desk.ran({}, h_csv="a\n1\n", x_csv="a\n2\n")
    assert ["fit/a: it has no metrics to accept; name files: h.csv, x.csv"] == list(desk.accept().lines)
    desk.accept("fit/a", "h.csv")
    assert not list(desk.accept().lines)
    desk.ran({}, id="fit/b")
    assert ["fit/b: it has no metrics to accept; name files: it wrote none"] == list(
        desk.accept(id="fit/b").lines
    )


# --- the command -------------------------------------------------------------------------------------------


def test_the_command(desk: Desk) -> None:
    """It takes instances, flows, then files; it goes on after one that is refused, and ends with 2."""
    desk.ran({"n": 1}, id="fit/a")
    desk.ran({"n": 2}, id="fit/b", status="error")
    desk.ran({"n": 3}, id="fit/c")
    done = desk.cli("accept", "fit")
    assert 2 == done.exit_code
    assert ["fit/a/metrics.json", "fit/c/metrics.json"] == list(desk.expected())
    assert "Error: fit/b is not accepted: its last run failed: boom" in done.output
    assert "Nothing to accept.\n" == desk.output("accept", "fit/a", "fit[c]")

    for arguments, message in (
        (["fit/x"], "fit has no stored instance"),
        (["fit/a", "fit/x"], "has no file fit/x to accept"),
        ([], "Missing argument"),
    ):
        done = desk.cli("accept", *arguments)
        assert (2, True) == (done.exit_code, message in done.output)
        assert "Nothing to accept" not in done.output


def test_a_dry_run(desk: Desk) -> None:
    """It writes nothing, and shows the largest relative change first, ready for a pull request."""
    table = "h,x\n1,2\n2,1\n3,1\n4,1\n"
    desk.ran({"small": 101, "large": 3.0, "word": "b", "new": 1, "from_0": 1e-9}, x_csv=table)
    desk.expect("fit/a/metrics.json", '{"small": 100, "large": 1.0, "word": "a", "from_0": 0.0}')
    desk.expect("fit/a/x.csv", "h,x\n1,1\n2,1.01\n3,1.02\n4,1.03\n")
    before = _tree(desk.root)
    assert [
        "|  | file | what | expected | found | change |",
        "|---|---|---|---:|---:|---:|",
        "| fit/a | metrics.json | from_0 | 0 | 1e-09 |  |",
        "| fit/a | metrics.json | large | 1 | 3 | +200 % |",
        "| fit/a | x.csv | h 1 (worst of 4), x | 1 | 2 | +100 % |",
        "| fit/a | x.csv | h 4, x | 1.03 | 1 | -2.91 % |",
        "| fit/a | x.csv | h 3, x | 1.02 | 1 | -1.96 % |",
        "| fit/a | metrics.json | small | 100 | 101 | +1 % |",
        '| fit/a | metrics.json | word | "a" | "b" |  |',
        "fit/a: 1 more metric is not expected; to expect all: ductaflow accept fit/a metrics.json",
    ] == desk.output("accept", "fit/a", "--dry-run").splitlines()
    assert before == _tree(desk.root)


def test_what_is_seen_of_it(desk: Desk) -> None:
    """`show` says how much was judged, or what differs; if that is stale, `status` and `results` too."""
    desk.ran({"rmse": 0.347, "n": 1}, a_csv="x\n1\n")
    desk.accept("fit/a", "*")
    assert "  judged: 2 metrics, 1 file\n" in desk.output("show", "fit/a")
    stale = "not judged since its expectation changed"
    assert stale not in desk.output("status") + desk.output("results")

    desk.expect("fit/a/metrics.json", '{"rmse": 0.312, "n": 1}')
    assert f"  {stale}: ductaflow run --changed fit/a\n" in desk.output("show", "fit/a")
    assert stale in desk.output("status")
    assert stale in desk.output("results", "--format", "csv")

    desk.accept("fit/a", "a.csv")
    shown = desk.output("show", "fit/a")
    assert stale not in shown
    assert "\nnot as expected\n  rmse  expected 0.312  found 0.347  +11.2 %  rtol 1e-06\n" in shown
    assert (1, True) == ((done := desk.cli("status")).exit_code, "1 of 2 metrics differ" in done.output)


def test_what_a_plan_says_of_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unchanged will be judged again if something else is expected of it; the plan judges nothing."""
    # A run that was not made left no record of what it read.
    monkeypatch.setattr("ductaflow.session.decide.changes", lambda _spec: ())
    told = "will be judged again, since its expectation changed"
    desk.ran({"rmse": 0.347})
    desk.ran({"rmse": 0.347}, id="fit/b", expect={"metrics": {"rmse": {"max": 0.3}}})
    desk.accept()

    def planned() -> dict[str, list[str]]:
        before = _tree(desk.root)
        found = json.loads(desk.output("plan", "--json"))["instances"]
        assert before == _tree(desk.root)
        assert {"unchanged"} == {one["would"] for one in found}
        return {one["id"]: one["why"] for one in found}

    assert {"fit/a": [], "fit/b": [told]} == planned()
    file = desk.expect("fit/a/metrics.json", '{"rmse": 0.312}')
    assert {"fit/a": [told], "fit/b": [told]} == planned()
    assert f"unchanged   fit/a  {told}\n" in desk.output("plan")
    file.unlink()
    assert [told] == planned()["fit/a"]
    desk.accept()
    assert [] == planned()["fit/a"]


def test_named_instances(desk: Desk) -> None:
    """What comes first are instances, the rest are files, also if one is called like a flow."""
    desk.ran({"n": 1}, id="fit/a")
    desk.ran({"n": 1}, id="fit/b")
    instances = Instances(Project.at(desk.root))
    for arguments, ids, files in (
        (["fit"], ["fit/a", "fit/b"], []),
        (["fit/b", "fit", "x.csv", "fit"], ["fit/b", "fit/a"], ["x.csv", "fit"]),
    ):
        found, named = named_instances(instances, arguments)
        assert (ids, files) == ([one.id for one in found], list(named))


def test_two_people(desk: Desk) -> None:
    """Who accept different instances, or different metrics of one far apart, have no conflict to merge."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=desk.root, check=True, capture_output=True)

    many = {f"m{number}": 0.1 * number for number in range(10)}
    desk.ran(many, id="fit/a")
    desk.ran(many, id="fit/b")
    desk.accept("fit/a")
    git("init", "-q", "-b", "main")
    git("add", "expected")
    git("commit", "-qm", "a")
    git("checkout", "-qb", "other")
    desk.ran({**many, "m1": 7}, id="fit/a")
    desk.accept("fit/a")
    git("commit", "-qam", "m1")
    git("checkout", "-q", "main")
    desk.ran({**many, "m8": 7}, id="fit/a")
    desk.accept("fit/a")
    desk.accept("fit/b")
    git("add", "expected")
    git("commit", "-qm", "m8, b")
    git("merge", "-q", "other")
    found = json.loads((desk.root / "expected/fit/a/metrics.json").read_text())
    assert {**many, "m1": 7, "m8": 7} == found
    assert "fit/b/metrics.json" in desk.expected()

    (desk.root / ".gitignore").write_text("c/\n")
    desk.ran({"n": 1}, id="fit/c")
    assert f"Warning: git ignores {desk.root}/expected/fit/c/metrics.json" in desk.output("accept", "fit/c")
