"""docs/results.md: its files and commands, in their order, give what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support import cli, run_pytest

TEXT = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
#: Times differ from run to run.
_TIME = re.compile(r"\d+\.\d+ ?s\b")


def plain(text: str) -> list[str]:
    """The lines without what differs from run to run, and how wide that is."""
    return [" ".join(_TIME.sub("TIME", line).split()) for line in text.splitlines()]


def sessions(block: str) -> list[tuple[list[str], list[str]]]:
    """The commands of a block, each with the lines that it prints; `...` stands for any."""
    parts = block.split("$ ")[1:]
    return [(shlex.split(command), plain(shown)) for command, _, shown in (p.partition("\n") for p in parts)]


def matches(expected: list[str], found: list[str]) -> bool:
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in found)) is not None


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who types what is there sees what is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    flow, settings = tmp_path / "flows/demand.py", tmp_path / "config/flows/demand.json"
    for folder in (flow.parent, settings.parent):
        folder.mkdir(parents=True)
    done = 0
    for language, block in BLOCKS:
        match language:
            case "python" if not flow.exists():
                flow.write_text(block)
            case "python":
                text, count = re.subn(r"^    cars = .*\n", block, flow.read_text(), flags=re.MULTILINE)
                assert 1 == count
                flow.write_text(text)
            case "csv":
                settings.with_suffix(".csv").write_text(block)
            case "json":
                settings.write_text(block)
            case "console":
                for command, expected in sessions(block):
                    printed = run(*command)
                    assert matches(expected, plain(printed)), f"{command}\n{printed}"
                    done += 1
    assert 15 == done


def run(name: str, *arguments: str) -> str:
    """What a command prints."""
    match name:
        case "cat":
            return Path(*arguments).read_text()
        case "ductaflow":
            return cli(*arguments).output
        case _:
            assert "pytest" == name
            return run_pytest(
                Path(), *arguments, flag="", env={"COLUMNS": "80"}, without=("PYTEST_", "CI")
            ).out
