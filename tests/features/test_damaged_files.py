"""Whatever a file that ductaflow wrote holds by now, no command ends in a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import TinyProject

from ductaflow import run_instance
from ductaflow.cli.app import main
from ductaflow.common.decode import UnreadableError
from ductaflow.common.paths import RunFolder
from ductaflow.project.instances import load_stored
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.store.changes import changes
from ductaflow.store.folder import Claim, Owner, note_hand_work, unfinished
from ductaflow.store.hashes import Hashes
from ductaflow.store.result import read_result

DEEP = 100_000

CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"schema": 1, "flow": "f',
    "a list": b"[1]",
    "null": b"null",
    "of another type": b'{"schema": "1", "owner": 3, "folder": null, "before": [], "status": 7}',
    "infinite": b'{"schema": 1, "flow": "f", "instance": "a", "kind": "flow", "status": "success", '
    b'"seconds": 1e999, "session_id": "s", "started": "", "finished": "", "summary": {}, "red": []}',
    "deep": b'{"schema": 1, "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "no UTF-8": b'{"schema": 1, "flow": "\xff\xfe"}',
    "surrogates": b'{"schema": 1, "flow": "\\ud800", "folder": "\\udfff"}',
    "bytes of zero": bytes(200),
}

COMMANDS = (
    ("status",),
    ("list",),
    ("plan",),
    ("why", "f/a"),
    ("show", "f/a"),
    ("logs", "f/a"),
    ("graph",),
    ("report",),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """A project in which an instance has run, as no test changes it."""
    project = TinyProject(tmp_path_factory.mktemp("ran") / "project")
    project.flow("f", "# %%\nopen('x.txt', 'w').write('1')")
    project.config("flows/f/a.json", x=1)
    run_instance(load_stored(Project.at(project.root), "f/a"))
    # The hash of a file that is younger than two seconds is not kept, so here it is 2033.
    kept = Hashes(project.root / "runs/.ductaflow/hashes", str(project.root), lambda: 2 * 10**18)
    kept.of(str(project.folder("f", "a") / "x.txt"))
    kept.flush()
    return project


@pytest.fixture
def project(ran: TinyProject, tmp_path: Path) -> TinyProject:
    """A copy of it."""
    shutil.copytree(ran.root, tmp_path / "project")
    copy = object.__new__(TinyProject)
    copy.root = tmp_path / "project"
    return copy


def owner() -> Owner:
    return Owner("f", "a", "run", "session", "host", 1, "2026-01-01T00:00:00Z")


def marker_of(project: TinyProject) -> Path:
    """The marker of a run that was killed."""
    folder = RunFolder(project.folder("f", "a"), "f")
    claim = Claim.take(folder, project.root / "runs", owner())
    claim.release(finished=False)
    (marker,) = (project.root / "runs" / ".ductaflow" / "running").glob("*.json")
    return marker


def hand_note_of(project: TinyProject) -> Path:
    """The note of a person's work in a run folder."""
    note_hand_work(project.folder("f", "a"), project.root / "runs")
    (note,) = (project.root / "runs" / ".ductaflow" / "running").glob("*.hand")
    return note


def hashes_of(project: TinyProject) -> Path:
    """One of the files of kept hashes."""
    return next((project.root / "runs" / ".ductaflow" / "hashes").iterdir())


FILES = {
    "result.json": lambda project: project.folder("f", "a") / "result.json",
    "saved config": lambda project: project.folder("f", "a") / "f_config.json",
    "notebook": lambda project: project.folder("f", "a") / "f.ipynb",
    "marker": marker_of,
    "hand note": hand_note_of,
    "hashes": hashes_of,
    "history": lambda project: project.root / "runs" / ".ductaflow" / "history.jsonl",
    "twin": lambda project: project.root / "runs" / "conductor_status_report.json",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("file", FILES)
def test_no_command_ends_in_a_traceback(file: str, content: str, project: TinyProject) -> None:
    """It says what is wrong, or goes on without that entry."""
    path = FILES[file](project)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(CONTENTS[content])
    for command in COMMANDS:
        done = CliRunner().invoke(main, [*command, "--project", str(project.root)])
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exc_info)
        assert "Traceback" not in done.output, command
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(CONTENTS[content])


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("file", FILES)
def test_the_instance_can_run_again(file: str, content: str, project: TinyProject) -> None:
    """Nothing that a file holds keeps a run from claiming its folder; the next session finds nothing odd."""
    path = FILES[file](project)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(CONTENTS[content])
    instance = load_stored(Project.at(project.root), "f/a")
    if file != "notebook":
        assert changes(spec_of_instance(instance)) or file in ("hashes", "hand note", "history", "twin")
    claim = Claim.take(instance.run_folder, instance.project.runs_dir, owner())
    assert (file == "marker") == any(str(path) in note for note in claim.notes)
    claim.release(finished=True)
    assert [] == unfinished(instance.project.runs_dir)


def test_a_result_that_cannot_be_read_is_named(project: TinyProject) -> None:
    """With its file, what is wrong, and what to do."""
    path = project.folder("f", "a") / "result.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, "outputs": [{"path": 3, "size": 1}]}))
    with pytest.raises(UnreadableError) as raised:
        read_result(path.parent)
    assert f"{path}: expected str, got int at outputs[0].path" == raised.value.message
    assert "run the instance again" in raised.value.hint
    path.write_text(json.dumps({**record, "schema": 2}))
    with pytest.raises(UnreadableError, match=r"not a result of schema 1: schema is 2"):
        read_result(path.parent)
    path.write_text(json.dumps({**record, "newer": {"x": [1]}}))
    assert read_result(path.parent) is not None


@pytest.mark.parametrize("text", ["{", "[]", '{"owner": {"flow": 1e999}}', '{"folder": null}', "[" * 100_000])
def test_status_names_a_marker_that_it_cannot_read(project: TinyProject, text: str) -> None:
    """The damaged marker costs what it alone knew, and everything else is shown."""
    before = project.output("status")
    (project.root / "runs" / ".ductaflow" / "running" / "damaged.json").write_text(text)
    said = project.output("status")
    assert before == said[: len(before)]
    assert "damaged.json" in said[len(before) :]
