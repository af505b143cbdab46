"""Under GitHub Actions: annotations, the summary of a step, and flows whose prints look like commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import TinyProject, report

from ductaflow.common.text import begun_at_end, without_commands
from ductaflow.store.result import read_result
from pytest_ductaflow.github import escape_data, escape_property
from pytest_ductaflow.junit import JUnit
from pytest_ductaflow.projects import Projects

pytestmark = pytest.mark.usefixtures("no_process_left")

HOSTILE = [
    "::error file=a.py::a",
    "::stop-commands::b",
    "  ::add-mask::c",
    "##[error]d",
    "e ##[add-mask]f",
    "\u200b::notice::g",
]
PRINTS = f"""
# %%
lines = {HOSTILE!r}
print("\\n".join(lines))
print("\\rx\\r::error::h")
print("Warning: ##[error]i")
"""


def commands(text: str) -> list[str]:
    """The lines that the runner of GitHub Actions would take for a command, by its two rules."""
    lines = re.split(r"\r\n|\n|\r", text)
    return [
        line
        for line in lines
        if re.match(r"\s*[\u200b\ufeff]*\s*::[^:]+::", line) or re.search(r"##\[[^\]]+\]", line)
    ]


CLI = ("-c", "from ductaflow.cli.app import main; main()")


def in_actions(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a step does, with its summary in `summary.md`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(root.parent),
        "GITHUB_STEP_SUMMARY": str(root / "summary.md"),
        "PYTHONUTF8": "1",
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=root,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


# --- text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", ": :error::x"),
        ("a\n \t::error::x\n", "a\n \t: :error::x\n"),
        ("a\r::error::x", "a\r: :error::x"),
        ("\ufeff::error::x", "\ufeff: :error::x"),
        (":\u200b:error::x", ":\u200b :error::x"),
        ("a ##[error]x", "a ## [error]x"),
        ("a ##[a]##[b]", "a ## [a]## [b]"),
        ("std::vector and a[1] # [x] time 12::30", "std::vector and a[1] # [x] time 12::30"),
    ],
)
def test_commands_are_broken_by_a_space(monkeypatch: pytest.MonkeyPatch, text: str, shown: str) -> None:
    """In a step of GitHub Actions only; what the runner would not obey stays as it is."""
    assert text == without_commands(text)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert shown == without_commands(text)
    assert shown == without_commands(shown)


@given(
    st.lists(st.sampled_from([":", "::", "#", "##", "[", "error", "::error::", "]", " ", "\n", "\r", "x"]))
)
@example([":", "::", "::"])
@settings(max_examples=500)
def test_no_piece_makes_a_command(pieces: list[str]) -> None:
    """However a text is cut into pieces, what is shown of it holds no command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTIONS", "true")
        shown, kept = "", ""
        for piece in pieces:
            text = kept + piece
            end = len(text) - begun_at_end(text)
            kept = text[end:]
            shown += without_commands(text[:end])
        shown += without_commands(kept)
    assert [] == commands(shown)
    assert re.sub(r"\s", "", "".join(pieces)) == re.sub(r"\s", "", shown)


def test_values_are_escaped() -> None:
    """A message is one line; a property ends neither at a comma nor at a colon."""
    assert "100%25 a%0Ab%0D::c,d" == escape_data("100% a\nb\r::c,d")
    assert "a%3Ab%2Cc%25%0A" == escape_property("a:b,c%\n")


# --- sessions -----------------------------------------------------------------------------------------------


@pytest.fixture
def loud(project: TinyProject) -> TinyProject:
    """A flow that prints commands and is orange, and one that fails with them, called by a build too."""
    project.flow("orange", PRINTS)
    project.flow("red", PRINTS + 'raise ValueError("::error::j\\n::error::k ##[error]l, 100%")\n')
    project.flow(
        "outer",
        """
        # %%
        from ductaflow import run_notebook
        run_notebook("flows/red.py", config={}, execution_dir="runs/red")
        """,
        kind="builds",
    )
    project.config("flows/orange/one.json")
    project.config("flows/red/one.json")
    project.config("flows/red/two.json")
    project.config("builds/outer.json")
    return project


def line_of(project: TinyProject, flow: str, begin: str) -> int:
    """The line of a source that begins like this."""
    lines = (project.root / "flows" / f"{flow}.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.startswith(begin))


def own(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"::(error|warning|notice) ", line)]


@pytest.mark.slow
@pytest.mark.parametrize("options", [("-rA", "-v"), ("-s", "--tb=short"), ("-n", "2", "-q")])
def test_no_print_of_a_flow_is_a_command(loud: TinyProject, options: tuple[str, ...]) -> None:
    """Live, in a failure, in the summaries: the only commands are the annotations."""
    done = in_actions(loud.root, "-m", "pytest", "--ductaflow", *options)
    assert 1 == done.returncode, done.stdout
    assert own(done.stdout) == commands(done.stdout + done.stderr)
    log = loud.folder("orange", "one") / "orange_execution_output.txt"
    assert HOSTILE == log.read_text(encoding="utf-8").splitlines()[1 : 1 + len(HOSTILE)]


@pytest.mark.slow
def test_annotations_are_at_the_true_line(loud: TinyProject) -> None:
    """Errors first; one for all instances that fail alike, a build's at the line of its flow."""
    done = in_actions(loud.root, "-m", "pytest", "--ductaflow", "-n", "2")
    line = line_of(loud, "red", "raise ValueError")
    warned = line_of(loud, "orange", 'print("Warning')
    error, warning = own(done.stdout)
    title = "outer/default%2C red/one%2C red/two"
    assert error.startswith(f"::error file=project/flows/red.py,line={line},title={title}::ValueError: ")
    assert "100%25" in error
    assert warning.startswith(
        f"::warning file=project/flows/orange.py,line={warned},title=orange/one::Warning: ## [error]i%0A"
    )
    assert 'Run again: pytest --ductaflow "config/flows/orange/one.json::orange[one]"' in warning


@pytest.mark.slow
def test_ten_annotations_of_a_level_and_how_many_more(project: TinyProject) -> None:
    """Errors before warnings, those of most instances first; what is left out is counted."""
    project.flow("calm", '# %%\nprint("Warning: low")\n')
    project.config("flows/calm/one.json")
    project.flow("red99", "# %%\n1 / 0\n")
    project.config("flows/red99/one.json")
    project.config("flows/red99/two.json")
    for number in range(12):
        project.flow(f"red{number:02}", "# %%\n1 / 0\n")
        project.config(f"flows/red{number:02}/one.json")
    found = own(
        in_actions(project.root, "-m", "pytest", "--ductaflow", "-n", "2", "--ductaflow-no-html").stdout
    )
    assert ["error"] * 10 + ["warning", "notice"] == [re.split("[: ]", line)[2] for line in found]
    assert "title=red99/one%2C red99/two::" in found[0]
    assert "and 3 more errors: see the summary of the step and the report" in found[-1]


@pytest.mark.slow
def test_a_warning_that_the_session_makes_an_error(project: TinyProject) -> None:
    """It is an error at the line that printed it, not at a log that the repository does not have."""
    project.flow("calm", '# %%\nprint("Warning: low")\n')
    project.config("flows/calm/one.json")
    done = in_actions(project.root, "-m", "pytest", "--ductaflow", "-W", "error::ductaflow.FlowWarning")
    (error,) = own(done.stdout)
    place = f"file=project/flows/calm.py,line={line_of(project, 'calm', 'print')}"
    assert error.startswith(f"::error {place},title=calm/one::FlowWarning: Warning: low")


@pytest.mark.slow
def test_a_new_warning_is_told_everywhere(project: TinyProject) -> None:
    """In the annotation, at the flow; in the summary of the step and in the report; the status stays."""
    project.flow("calm", '# %%\nprint("Warning: low")\nprint("Warning: high")\n')
    project.config("flows/calm/one.json")
    (project.root / "known.txt").write_text("")
    done = in_actions(project.root, "-m", "pytest", "--ductaflow", "--ductaflow-baseline=known.txt")
    (error,) = own(done.stdout)
    new = "2 new warnings: Warning: low; Warning: high"
    assert error.startswith(f"::error file=project/flows/calm.py,line=1,title=calm/one::{new}")
    summary = (project.root / "summary.md").read_text(encoding="utf-8")
    assert "### ductaflow: 1 orange, 1 fails its test" in summary
    (block,) = [line for line in summary.splitlines() if "🔴" in line]
    assert f"<td><code>calm/one</code></td><td><code>{new}</code></td>" in block
    (entry,) = report(project)["instances"]
    assert ("warning", f"2 warning lines; fails its test: {new}") == (entry["status"], entry["message"])


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--ductaflow-no-report",)])
def test_the_summary_of_the_step(loud: TinyProject, options: tuple[str, ...]) -> None:
    """What is there stays; counts, causes and warnings, also of a session that writes no page."""
    (loud.root / "summary.md").write_text("before\n")
    in_actions(loud.root, "-m", "pytest", "--ductaflow", "-n", "2", *options)
    text = (loud.root / "summary.md").read_text(encoding="utf-8")
    before, head, *rest = text.splitlines()
    assert ("before", "### ductaflow: 3 red in 1 cause, 1 orange") == (before, head)
    (cause,) = [line for line in rest if "🔴" in line]
    assert "<b>3 ×</b> <code>ValueError: ::error::j</code>" in cause
    assert f"<code>flows/red.py:{line_of(loud, 'red', 'raise')}</code>" in cause
    assert "raise ValueError(" in cause
    warned = line_of(loud, "orange", 'print("Warning')
    assert f"<code>flows/orange.py:{warned}</code>" in text
    page = "project/runs/conductor_status_report.html"
    assert ("The page:" not in text) if options else (f"The page: <code>{page}</code>" in rest)


@pytest.mark.slow
def test_without_actions_nothing_is_told(loud: TinyProject) -> None:
    """On a person's machine texts are shown as they are, and there is no annotation."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--ductaflow", "-k", "orange"],
        cwd=loud.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [] == own(done.stdout)
    assert "Warning: ##[error]i" in done.stdout


@pytest.mark.slow
def test_commands_of_ours_show_no_commands(loud: TinyProject) -> None:
    """`ductaflow run`, live and several at a time, and a conductor whose exception nobody catches."""
    for options in (("red/one", "orange/one"), ("-j", "2", "red/one", "outer/default")):
        done = in_actions(loud.root, *CLI, "run", *options)
        assert 1 == done.returncode, done.stderr
        assert "error::j" in done.stdout + done.stderr
        assert [] == commands(done.stdout + done.stderr)
    (loud.root / "conductor.py").write_text(
        "from ductaflow import run_notebook\n"
        'run_notebook("flows/red.py", config={}, execution_dir="runs/red/three")\n'
    )
    done = in_actions(loud.root, "conductor.py")
    assert 1 == done.returncode
    assert "FlowFailed" in done.stderr
    assert [] == commands(done.stdout + done.stderr)
    result = read_result(loud.folder("red", "three"))
    assert result is not None
    assert result.failure is not None
    assert result.failure.evalue.startswith("::error::j")


@pytest.mark.slow
def test_junit_xml(loud: TinyProject) -> None:
    """A class for each flow; run folder, status, hash of the config and warnings, from workers too."""
    in_actions(loud.root, "-m", "pytest", "--ductaflow", "-n", "2", "--junitxml=junit.xml", "-k", "orange")
    (case,) = ElementTree.parse(loud.root / "junit.xml").iter("testcase")
    seconds = case.attrib.pop("time")
    assert {"classname": "flows.orange", "name": "orange[one]"} == case.attrib, seconds
    found = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
    result = read_result(loud.folder("orange", "one"))
    assert result is not None
    expected = {
        "run_folder": "runs/orange/one",
        "status": "warning",
        "config_hash": result.config_hash,
        "warnings": "1",
        "warning": f"{result.warnings[0].line}: Warning: ## [error]i",
    }
    assert expected == {name: found.get(name) for name in expected}


#: As pytest-github-actions-annotate-failures registers itself.
OTHER = """
class Errors:
    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.failed:
            print("other error:", report.nodeid)

class Warnings:
    def pytest_warning_recorded(self, warning_message, when, nodeid, location):
        print("other warning:", warning_message.message)

def pytest_configure(config):
    config.pluginmanager.register(Errors(), "annotate_errors")
    config.pluginmanager.register(Warnings(), "annotate_warnings")
"""


@pytest.mark.slow
def test_another_plugin_annotates_ordinary_tests_alone(loud: TinyProject) -> None:
    """Instances have one annotation, ours; files of JUnit begin at the root of the repository."""
    (loud.root / "conftest.py").write_text(OTHER)
    (loud.root / "test_plain.py").write_text(
        "import warnings\n\ndef test_plain():\n    warnings.warn('mine')\n    assert 0\n"
    )
    options = ("-s", "-k", "one or plain", "--junitxml=junit.xml", "-o", "junit_family=xunit1")
    done = in_actions(loud.root, "-m", "pytest", "--ductaflow", ".", *options)
    found = [line for line in done.stdout.splitlines() if "other " in line]
    assert ["mine", "test_plain.py::test_plain"] == sorted(line.partition(": ")[2] for line in found)
    assert 2 == len(own(done.stdout))
    cases = {
        case.attrib["name"]: (case.attrib["file"], case.attrib["line"])
        for case in ElementTree.parse(loud.root / "junit.xml").iter("testcase")
    }
    red = str(line_of(loud, "red", "raise"))
    assert {
        "orange[one]": ("project/flows/orange.py", "1"),
        "red[one]": ("project/flows/red.py", red),
        "test_plain": ("test_plain.py", "2"),
    } == cases


def test_gitlab_gets_the_line_in_the_file(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes a link of what a test case has as its file; a project may be a part of the repository."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("CI_PROJECT_DIR", str(project.root.parent))
    project.flow("red", "# %%\n1 / 0\n")
    project.config("flows/red/one.json")
    given: dict[str, object] = {}

    class LogXML:
        prefix, family = "scenarios", "xunit1"

        def node_reporter(self, report: object) -> LogXML:
            return self

        def add_attribute(self, name: str, value: object) -> None:
            given[name] = value

    config = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugins=lambda: {LogXML()}))
    projects = Projects(project.root.parent, project.root)
    crash = SimpleNamespace(path="flows/red.py", lineno=5)
    report = SimpleNamespace(
        nodeid="project/config/flows/red/one.json::red[one]",
        when="call",
        failed=True,
        longrepr=SimpleNamespace(reprcrash=crash),
    )
    JUnit(cast(pytest.Config, config), projects).update(cast(pytest.TestReport, report))
    assert {
        "classname": "scenarios.project.flows.red",
        "file": "project/flows/red.py#L5",
        "line": 5,
    } == given
