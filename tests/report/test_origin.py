"""Where a session comes from: in the twin, in the head of the page, and in the history."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import a_result, stored

from ductaflow.common.paths import REPORT_HTML, REPORT_JSON
from ductaflow.project.secrets import masked_arguments
from ductaflow.project.settings import Project
from ductaflow.report import Entry, LiveReport, build_report, merge_reports, render_html
from ductaflow.report.earlier import rebuild_report
from ductaflow.report.history import history_file
from ductaflow.report.origin import command_line
from ductaflow.report.schema import Origin

FACTS: Origin = {
    "commit": "c0ffee0000111122223333444455556666777788",
    "dirty": True,
    "branch": "main",
    "command": "pytest --ductaflow -k 'a & b'",
    "host": "node-7",
    "ci_run": "https://github.com/me/models/actions/runs/77",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in a run of CI."""
    for variable in ("GITLAB_CI", "JENKINS_URL", "TF_BUILD"):
        monkeypatch.delenv(variable, raising=False)
    for name, value in {"ACTIONS": "true", "SERVER_URL": "https://github.com", "REPOSITORY": "me/m"}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    monkeypatch.setenv("GITHUB_RUN_ID", "77")
    root = tmp_path / "study"
    root.mkdir()
    (root / "a.txt").touch()
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "-q", "-b", "trunk"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", root, *arguments], check=True)
    return root


def twin(runs: Path) -> dict[str, Any]:
    return json.loads((runs / REPORT_JSON).read_text())  # type: ignore[no-any-return]


def test_a_session_says_where_it_comes_from(project: Path) -> None:
    """Its line of the history has the commit, and a report that is made anew keeps all of it."""
    runs = project / "runs"
    (project / "a.txt").write_text("changed")
    live = LiveReport(runs, session_id="s1", project_root=project)
    live.update(Entry(stored(runs, a_result(session_id="s1", run_id="r", started="a", finished="b"))))
    live.close()

    data = twin(runs)
    commit = subprocess.run(["git", "-C", project, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert (commit.stdout.strip(), True, "trunk") == (data["commit"], data["dirty"], data["branch"])
    assert "https://github.com/me/m/actions/runs/77" == data["ci_run"]
    assert data["host"]
    assert data["command"]
    assert data["commit"] == json.loads(history_file(runs).read_text())["commit"]
    page = (runs / REPORT_HTML).read_text()
    assert f"<code>{data['commit'][:10]} with changes</code> of <code>trunk</code>" in page
    anew = rebuild_report(Project.at(project))
    assert (data["commit"], data["command"], data["ci_run"]) == (
        anew.get("commit"),
        anew.get("command"),
        anew.get("ci_run"),
    )


def test_outside_of_a_repository_nothing_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is null."""
    for variable in ("GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TF_BUILD"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    LiveReport(tmp_path / "runs", session_id="s", project_root=tmp_path).close()

    data = twin(tmp_path / "runs")

    assert [None] * 4 == [data[key] for key in ("commit", "dirty", "branch", "ci_run")]


def a_page_of(runs: Path, **facts: Any) -> str:
    origin: Origin = {**FACTS, **facts}  # type: ignore[typeddict-item]
    data = build_report([], session_id="s", started="", finished="x", runs_dir=runs, origin=origin)
    return render_html(data)


def test_the_head_of_the_page_is_text(tmp_path: Path) -> None:
    """A command is escaped, and only an address of the web becomes a link."""
    page = a_page_of(tmp_path, command="pytest -k '<b>'")
    assert "pytest -k &#39;&lt;b&gt;&#39;" in page
    assert f'<a href="{FACTS["ci_run"]}">' in page
    assert (
        "<a href="
        not in a_page_of(tmp_path, ci_run="javascript:alert(1)").partition("<main")[0].partition("<header")[2]
    )


def test_a_merged_report_keeps_it(tmp_path: Path) -> None:
    """What all shards say is said once; sessions of different commits are named."""
    files = []
    for number, commit in enumerate((FACTS["commit"], FACTS["commit"], "beef" * 10)):
        data = build_report(
            [Entry(a_result(instance=f"i{number}"))],
            session_id=f"s{number}",
            started="a",
            finished="b",
            runs_dir=tmp_path,
            origin={**FACTS, "commit": commit, "host": f"node-{number}"},
        )
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(data))

    alike = merge_reports(files[:2], tmp_path).twin
    assert FACTS | {"host": "node-0, node-1"} == {key: alike.get(key) for key in FACTS}
    assert [] == alike["notes"]
    assert ["These are sessions of different commits: "] == [
        note[:41] for note in merge_reports(files, tmp_path).twin["notes"]
    ]


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (["/v/bin/python", "/v/bin/pytest", "--ductaflow", "-k", "a b"], "pytest --ductaflow -k 'a b'"),
        (["/v/bin/python3", "-m", "pytest", "-q"], "python -m pytest -q"),
        (["python", "conduct.py", "--token=abc"], "python conduct.py '--token=***'"),
        ([r"python.exe", "C:/v/Scripts/ductaflow.exe/__main__.py", "run"], "ductaflow run"),
        (["python"], None),
    ],
)
def test_the_command_is_what_a_person_would_type(given: list[str], command: str | None) -> None:
    """Without the interpreter of an installed command, and without secrets."""
    assert command == command_line(given)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--db-password", "x", "-k", "token"], ["--db-password", "***", "-k", "token"]),
        (["-o", "api_token=x", "https://me:x@h/p"], ["-o", "api_token=***", "https://me:***@h/p"]),
        (["--tokens", "--quiet"], ["--tokens", "--quiet"]),
        (['{"db": {"pwd": "x"}, "n": 1}'], ['{"db": {"pwd": "***"}, "n": 1}']),
        (["{x", "flow[a=1]"], ["{x", "flow[a=1]"]),
    ],
)
def test_secrets_of_a_command_line_are_masked(words: list[str], shown: list[str]) -> None:
    """By the names of options and keys, and in addresses."""
    assert shown == masked_arguments(words)
