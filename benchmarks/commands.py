"""What the benchmarks share: their command line, running a command for its time, and what is printed."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from figures import Figures, Table

COMMAND_SECONDS = 3600

Bench = TypeVar("Bench")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def end_of(text: str) -> str:
    """The last lines of an output, as one that fits into a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-300:].replace("|", "/")


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Wall time of a command in seconds.

    Raises:
        RuntimeError: it failed.
    """
    begin = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=COMMAND_SECONDS,
        check=False,
    )
    taken = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {end_of(done.stdout + done.stderr)}")
    return taken


def heading(packages: Sequence[str], *, quick: bool) -> str:
    """When, on what, with which versions."""
    import psutil

    versions = []
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    cores = f"{os.cpu_count()} CPUs, {psutil.virtual_memory().total / 2**30:.0f} GB"
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {cores}, "
        f"Python {platform.python_version()}, {', '.join(versions)}.",
        "",
    ]
    if quick:
        lines += ["Made with `--quick`: this shows that it works, and is too little to judge by.", ""]
    return "\n".join(lines)


def parser_of(document: str | None) -> argparse.ArgumentParser:
    """The command line that all benchmarks have; the module's text says what it is for."""
    about, _, more = (document or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="so little that it shows only that it works")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return parser


def add_choices(
    parser: argparse.ArgumentParser, pieces: Sequence[str], who: str, names: Sequence[str]
) -> None:
    """The options of a benchmark that consists of pieces and has rivals, who are called something."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples too, as measured")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[*pieces, *names],
        metavar="NAME",
        help=f"a piece ({', '.join(pieces)}) or a {who} ({', '.join(names)}); may be repeated",
    )


def measure_pieces(bench: Bench, figures: Figures, pieces: Mapping[str, Callable[[Bench], None]]) -> Figures:
    """Measure some pieces; what fails costs its own numbers only and is noted."""
    for name, measure in pieces.items():
        try:
            measure(bench)
        except (RuntimeError, subprocess.TimeoutExpired) as exc:
            say(f"{name}: {exc}")
            figures.notes.append(f"{name}: failed: {exc}")
    return figures


def print_figures(
    figures: Figures, tables: Sequence[Table], packages: Sequence[str], options: argparse.Namespace
) -> None:
    """Print tables and notes as the options ask for, and write the samples where they name a file."""
    if options.json:
        options.json.write_text(json.dumps({str(key): value for key, value in figures.samples.items()}))
    print(heading(packages, quick=options.quick))
    for table in tables:
        print(table.text(options.markdown))
    for note in [*(f"{name}: {why}." for name, why in figures.absent.items()), *figures.notes]:
        print(f"- {note}")


def empty_folder(workspace: Path, name: str) -> Path:
    """An empty folder for commands."""
    folder = workspace / "commands" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
