"""What the benchmarks share: running a command for its time, and saying on what it ran."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

COMMAND_SECONDS = 3600


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
