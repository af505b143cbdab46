"""Every block of code of every page runs, or the page says in its source why it does not.

A page is worked through from its top to its end in one folder. A block of a language in `RUN` runs there, one
with a `title` is the file of that name, and one of another language in `PARSED` is read at least. Comments,
which no reader sees, say the rest, each in a line of its own before the block:

    <!-- in: study -->              the page begins in the project `study` below, and not in an empty folder
    <!-- $ ductaflow run fit -->    a command that runs here
    <!-- in place of: rate = 3 -->  the block replaces the line with this in it, of the file of its title
    <!-- exit code 1 -->            that of some commands of the block; that of the others is 0
    <!-- not run: REASON -->        the block is looked at only for its syntax

What a `console` block shows below a command is what it prints. `...` stands for any lines, or any part of
a line. Seconds and sizes differ from run to run.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from support import TinyProject, cli, run_pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = {
    path.name: path
    for path in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
}
RUN = ("bash", "console", "pycon", "python")
PARSED: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "python": ast.parse,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}
#: Languages of what is shown alone, or is a file.
SHOWN = ("csv", "groovy", "mermaid", "text")
_FENCE = re.compile(r"^(?P<fence> *```+)(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?$")
_COMMENT = re.compile(
    r"<!-- (?:(in|in place of|not run): (.+)|(exit code) (\d+)|(\$) (.+)|what .+|end of .+) -->"
)
#: Times and sizes differ from run to run.
_VARYING = re.compile(r"\d+(?:\.\d+)? ?(?:ms|s|min|kB|MB|GB)\b")


@dataclass
class Block:
    """A block of a page, or what a comment does: a command, or the project `in` which the page begins."""

    place: str
    language: str
    title: str | None = None
    text: str = ""
    marks: dict[str, str] = field(default_factory=dict)


def blocks_of(name: str, text: str) -> Iterator[Block]:
    """The blocks of a page, and the commands of its comments, in their order."""
    marks: dict[str, str] = {}
    block: Block | None = None
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if block is not None:
            if line == fence:
                yield block
                block, marks = None, {}
            else:  # in a list they stand further to the right
                block.text += f"{line[fence.index('`') :]}\n"
        elif opened := _FENCE.match(line):
            fence = opened["fence"]
            block = Block(f"{name}:{number}", opened["language"], opened["title"], marks=marks)
        elif line.lstrip().startswith("<!--"):
            found = _COMMENT.fullmatch(line.lstrip())
            assert found, f"{name}:{number}: nothing is known of {line}"
            key, value = [part for part in found.groups() if part] or ("said", "")
            if key == "said":
                pass  # a comment for who writes the page
            elif key == "$":
                yield Block(f"{name}:{number}", "bash", text=value)
            elif key == "in":
                yield Block(f"{name}:{number}", "in", title=value)
            else:
                marks[key] = value
        elif line.strip():
            assert "```" not in line, f"{name}:{number}: nothing is known of {line}"
            assert not marks, f"{name}:{number}: {marks} belong to no block"
    assert block is None, f"{name}: a block has no end"


def study(root: Path) -> None:
    """The project of the reference: `fit` reads what `data_prep` makes, and `projection` is a build."""
    project = TinyProject(root)
    project.settings("html = false")
    project.flow(
        "data_prep",
        """
        # %%
        import shutil

        shutil.copy(f"{config['_project_root']}/{config['raw']}", "clean.csv")
        """,
    )
    project.flow(
        "fit",
        """
        # %%
        from ductaflow import is_notebook_execution, load_cli_config, record, unpack_config

        if not is_notebook_execution():
            config = load_cli_config("config/flows/fit.json", "Fit")

        # %%
        settings, alpha = unpack_config(config, "fit"), config["fit"]["alpha"]
        values = [float(value) for value in open(settings["clean_file"]).read().split()[1:]]
        with open("hourly.csv", "w") as file:
            file.write("hour,load_mw\\n")
            file.writelines(f"{hour},{value * alpha}\\n" for hour, value in enumerate(values))
        record(rmse=sum(values) / alpha)
        """,
    )
    project.flow(
        "projection",
        """
        # %%
        from ductaflow import run_notebook

        run_notebook("flows/assign.py", config={"zones": config["zones"]}, execution_dir="runs/assign")
        """,
        kind="builds",
    )
    project.flow("assign", "# %%\nprint(config['zones'], 'zones')\n")
    project.config("flows/data_prep.json", raw="inputs/raw.csv")
    project.config("flows/fit.json", clean_file="runs/data_prep/{instance}/clean.csv")
    for name, alpha, region in (("scenario_A", 4, "EU"), ("scenario_B", 2, "US")):
        project.config(f"flows/data_prep/{name}.json")
        project.config(f"flows/fit/{name}.json", fit={"alpha": alpha}, region=region)
    project.config("builds/projection/s37.json", zones=37)
    (root / "inputs").mkdir()
    (root / "inputs" / "raw.csv").write_text("value\n1\n2\n4\n", encoding="utf-8")


def first_project(root: Path) -> None:
    assert 0 == cli("init", root).exit_code


STARTS: dict[str, Callable[[Path], None]] = {"study": study, "a new project": first_project}


class Desk:
    """One who works through a page."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.work = folder

    def do(self, block: Block) -> None:
        if block.language == "in":
            assert block.title
            folder = self.work / "project"
            STARTS[block.title](folder)
            self.work = folder
        elif "not run" in block.marks:
            looked_at(block)
        elif block.title is not None:
            self.write(block, block.title)
        elif block.language in RUN:
            getattr(self, f"run_{block.language}")(block)
        else:
            looked_at(block)

    def write(self, block: Block, title: str) -> None:
        file = self.work / title
        text = block.text
        if line := block.marks.get("in place of"):
            old = file.read_text(encoding="utf-8").splitlines(keepends=True)
            (place,) = (number for number, one in enumerate(old) if line in one)
            text = "".join([*old[:place], text, *old[place + 1 :]])
        if file.suffix == ".py":
            ast.parse(text)
        elif file.suffix[1:] in PARSED:
            PARSED[file.suffix[1:]](text)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def run_bash(self, block: Block) -> None:
        lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
        self.run_all(block, [(line, None) for line in lines if line.strip()])

    def run_console(self, block: Block) -> None:
        first, *sessions = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not first, "a console block begins with `$ `; commands without what they print are bash"
        parts = [session.partition("\n") for session in sessions]
        self.run_all(block, [(command, shown) for command, _, shown in parts])

    def run_all(self, block: Block, commands: list[tuple[str, str | None]]) -> None:
        """Run commands, each with what it prints, or None where the page does not say that."""
        allowed = {0, int(block.marks.get("exit code", 0))}
        codes = set()
        for command, shown in commands:
            code, out = self.command(command)
            assert code in allowed, f"{command}\nexit code {code}\n{out}"
            assert shown is None or matches(plain(shown), plain(out)), f"{command}\n{out}"
            codes.add(code)
        assert max(allowed) in codes

    def run_python(self, block: Block) -> None:
        done = self.run(sys.executable, "-X", "utf8", "-c", block.text)
        assert 0 == done.returncode, done.stdout

    def run_pycon(self, block: Block) -> None:
        file = self.folder / ".session"
        file.write_text(block.text, encoding="utf-8")
        done = self.run(sys.executable, "-X", "utf8", "-m", "doctest", "-o", "ELLIPSIS", str(file))
        assert 0 == done.returncode, done.stdout

    def command(self, line: str) -> tuple[int, str]:
        """Run a command as bash does; the next one runs in the folder that it leaves."""
        words = shlex.split(line, comments=True)
        if words[:2] == ["pip", "install"]:
            can_be_installed(words[2:], self.work)
            return 0, ""
        if not set("&|;<>$`(*") & set(line.replace("'", '"').partition('"')[0]):
            if words[0] == "ductaflow":
                with pytest.MonkeyPatch.context() as patch:
                    patch.chdir(self.work)
                    patch.setenv("COLUMNS", "80")
                    done = cli(*words[1:])
                return done.exit_code, done.output
            if words[0] == "pytest":
                session = run_pytest(
                    self.work, *words[1:], flag="", env={"COLUMNS": "80"}, without=("PYTEST_", "CI")
                )
                return session.code, session.out
        left = self.folder / ".work"
        bash = self.run("bash", "-c", f"{line}\ncode=$?\npwd > {shlex.quote(str(left))}\nexit $code")
        self.work = Path(left.read_text(encoding="utf-8").strip())
        return bash.returncode, bash.stdout

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command, with our own before any others in `PATH`."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "CI"))}
        first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.work,
            env={**inherited, "PATH": first, "PYTHONUTF8": "1", "COLUMNS": "80"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
            check=False,
        )


def can_be_installed(words: list[str], folder: Path) -> None:
    """Ours are among the extras that there are, and a file of requirements is there; nothing is installed."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    while words:
        word, *words = words
        if word == "-r":
            assert (folder / words.pop(0)).is_file()
        elif found := re.fullmatch(r"pytest-ductaflow(?:\[([\w,]+)\])?", word):
            assert set((found[1] or "").split(",")) <= {"", *extras}, word


def looked_at(block: Block) -> None:
    """The syntax of a block that does not run."""
    if block.language in PARSED:
        PARSED[block.language](block.text)
    elif block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, encoding="utf-8", check=True)


def plain(text: str) -> list[str]:
    """The lines without what differs from run to run, and how wide that is."""
    return [" ".join(_VARYING.sub("VARYING", line).split()) for line in text.splitlines()]


def matches(expected: list[str], found: list[str]) -> bool:
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in found)) is not None


def work_through(name: str, text: str, folder: Path) -> None:
    desk = Desk(folder)
    for block in blocks_of(name, text):
        known = block.language in ("in", *RUN, *PARSED, *SHOWN)
        assert known, f"{block.place}: no language that is known"
        try:
            desk.do(block)
        except Exception as fault:
            raise AssertionError(f"{block.place}: {fault}") from fault


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_of_a_page(name: str, tmp_path: Path) -> None:
    """Who types what is there has what is there."""
    work_through(name, PAGES[name].read_text(encoding="utf-8"), tmp_path)


def test_a_block_that_is_not_run_says_why() -> None:
    """What is shown and is code, and is no file, runs or has its reason; not many have one."""
    blocks = [
        one for name, path in PAGES.items() for one in blocks_of(name, path.read_text(encoding="utf-8"))
    ]
    code = [one for one in blocks if one.language in RUN]
    assert 40 < len(code)
    assert len([one for one in code if "not run" in one.marks]) < len(code) / 3


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```console\n$ echo one\ntwo\n```", "page:1: echo one"),
        ("```console\n$ (exit 3)\n```", "page:1: (exit 3)"),
        ("<!-- exit code 1 -->\n```bash\ntrue\n```", "page:2: "),
        ("text\n```bash\nfalse\n```", "page:2: false"),
        ("1. in a list\n\n    ```bash\n    false\n    ```", "page:3: false"),
        ("```python\nraise SystemExit(1)\n```", "page:1: "),
        ("```pycon\n>>> 1 + 1\n3\n```", "page:1: "),
        ('```json title="a.json"\n{]\n```', "page:1: "),
        ("<!-- not run: why -->\n```python\nif\n```", "page:2: "),
        ("<!-- not run: why -->\n```bash\nif\n```", "page:2: "),
        ('<!-- in place of: b -->\n```text title="a"\nc\n```', "page:2: "),
        ("```bash\npip install pytest-ductaflow[more]\n```", "page:1: pytest-ductaflow[more]"),
        ("```\nno language\n```", "page:1: no language"),
        ("```haskell\nmain\n```", "page:1: no language"),
        ("<!-- not rum: why -->", "page:1: nothing is known of <!-- not rum: why -->"),
        ("<!-- not run: why -->\n\ntext", "page:3: {'not run': 'why'} belong to no block"),
        ("```bash\ntrue\n", "page: a block has no end"),
    ],
)
def test_what_is_wrong_with_a_page_is_said(page: str, fault: str, tmp_path: Path) -> None:
    """With the line of the block."""
    with pytest.raises(AssertionError) as raised:
        work_through("page", page, tmp_path)
    assert str(raised.value).startswith(fault)
