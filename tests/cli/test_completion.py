"""What a shell completes on Tab, asked in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import TinyProject, cli

#: What each shell needs to complete a line without a person: the line is in `words`, the answer is printed.
HARNESS = {
    "bash": """
        eval "$({command} completion bash)"
        COMP_WORDS=({words}) COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _ductaflow_completion ductaflow "${{COMP_WORDS[-1]}}" ""
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{ :; }}
        eval "$({command} completion zsh)"
        compadd() {{ print -rl -- $completions; }}
        words=({words}) CURRENT=${{#words}}
        _ductaflow_completion
    """,
    "fish": """
        {command} completion fish | source
        complete -C "{words}"
    """,
}


@pytest.fixture
def project(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    project.flow("fit", "")
    project.flow("prep", "")
    for name in ("EU_2030", "EU_2040", "US_2030"):
        project.config(f"flows/fit/{name}.json")
    (project.root / "config" / "flows" / "prep.csv").write_text("instance,x\na,1\nb,2\n")
    monkeypatch.chdir(project.root)
    return project


def completed(shell: str, words: str, folder: Path) -> list[str]:
    """What a shell offers for the last word of a line."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    # the command of this environment, by its name, as a person has it
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    command = bin_folder / "ductaflow"
    command.write_text(
        f"#!{sys.executable}\nfrom ductaflow.cli.app import main\nmain(prog_name='ductaflow')\n"
    )
    command.chmod(0o755)
    script = HARNESS[shell].format(command="ductaflow", words=words)
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [program, *flags, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert "" == done.stderr
    return [line.split("\t")[0] for line in done.stdout.split("\n") if line]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such shells")
@pytest.mark.parametrize("shell", HARNESS)
def test_a_shell_completes_ids(project: TinyProject, shell: str) -> None:
    """By the script that the command prints for it."""
    assert ["fit/EU_2030", "fit/EU_2040"] == completed(shell, "ductaflow status fit/E", project.root)


def offered(*words: str) -> list[str]:
    """What is offered for the last word, as the scripts ask for it."""
    from click.shell_completion import ShellComplete

    from ductaflow.cli.app import main

    completion = ShellComplete(main, {}, "ductaflow", "_DUCTAFLOW_COMPLETE")
    found = completion.get_completions(list(words[:-1]), words[-1])
    return [one.value if one.type == "plain" else f"<{one.type}>" for one in found]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("st",), ["status"]),
        (("run", "f"), ["fit", "fit/EU_2030", "fit/EU_2040", "fit/US_2030"]),
        (("plan", "prep/"), ["prep/a", "prep/b"]),
        (("show", "runs/fi"), ["<dir>"]),
        (("diff", "fit/EU_2030@"), ["fit/EU_2030@expected", "fit/EU_2030@previous"]),
        (("accept", "fit/U"), ["fit/US_2030"]),
        (("status", "--status", "error,l"), ["error,lost"]),
        (("plan", "--status", "b"), ["blocked"]),
        (("results", "--format", "m"), ["markdown"]),
        (("completion", "f"), ["fish"]),
        (("list", "zz"), []),
    ],
)
def test_each_argument_is_completed_by_what_it_takes(
    project: TinyProject, words: tuple[str, ...], expected: list[str]
) -> None:
    """Commands, flows, ids, folders, versions, statuses between commas, choices."""
    assert expected == offered(*words)


def test_of_many_ids_the_flow_comes_first(project: TinyProject) -> None:
    """With and without what is behind it, so that a shell waits for the rest."""
    rows = "".join(f"s{n}\n" for n in range(150))
    (project.root / "config" / "flows" / "prep.csv").write_text(f"instance\n{rows}")
    assert ["prep", "prep/"] == offered("status", "p")
    assert [f"prep/s14{n}" for n in range(10)] == offered("status", "prep/s14")[1:]


def test_the_project_may_be_given(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are then those of that one."""
    monkeypatch.chdir(project.root.parent)
    assert [] == offered("list", "prep/")
    assert ["prep/a", "prep/b"] == offered("list", "--project", str(project.root), "prep/")


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("pyproject.toml", "[tool.ductaflow\n", []),
        ("config/flows/prep.csv", "no such column\n", ["fit/EU_2030", "fit/EU_2040"]),
        ("config/base.json", "{", ["fit/EU_2030", "fit/EU_2040"]),
    ],
)
def test_what_is_broken_neither_raises_nor_prints(
    project: TinyProject, capfd: pytest.CaptureFixture[str], file: str, text: str, expected: list[str]
) -> None:
    """The rest of the project is completed as far as it is known."""
    (project.root / file).write_text(text)
    assert expected == offered("status", "fit/EU")
    assert ("", "") == tuple(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="times of children are known on POSIX")
def test_ids_of_thousands_come_at_once(project: TinyProject) -> None:
    """5,000 of them in less than 0.3 s of processor time, without pandas."""
    folder = project.root / "config" / "flows" / "fit"
    for number in range(2500):
        (folder / f"s_{number}.json").write_text("{}")
    rows = "".join(f"s_{number},1\n" for number in range(2500))
    (project.root / "config" / "flows" / "prep.csv").write_text(f"instance,x\n{rows}")
    code = (
        "import sys, resource\n"
        "from ductaflow.cli.app import main\n"
        "try: main(prog_name='ductaflow')\n"
        "except SystemExit: pass\n"
        "print('pandas' in sys.modules, sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"
    )
    asked = {
        "_DUCTAFLOW_COMPLETE": "bash_complete",
        "COMP_WORDS": "ductaflow show prep/s_24",
        "COMP_CWORD": "2",
    }
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, **asked},
            check=True,
        )
        *ids, last = done.stdout.splitlines()
        assert 111 == len(ids)
        has_pandas, taken = last.split()
        assert "False" == has_pandas
        seconds.append(float(taken))
    assert 0.3 > min(seconds)


def test_a_shell_that_is_unknown_is_named() -> None:
    """With those that are known."""
    done = cli("completion", "tcsh")
    assert (2, True) == (done.exit_code, "'bash', 'zsh', 'fish'" in done.output)
