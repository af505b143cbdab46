"""A `ductaflow.py` in the root of a project: it has to be of the version that runs there.

Two versions would write into one run folder, each with a format and a verdict of its own.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from ductaflow.common.errors import ConfigError

FILE_NAME = "ductaflow.py"
DISTRIBUTION = "pytest-ductaflow"
_FIRST = b'"""ductaflow in one file'
#: Where the version is written, at the latest.
_HEAD = 10_000
_VERSION = re.compile(rb'^VERSION = "(.*)"$', re.MULTILINE)


def version_of(path: Path) -> str | None:
    """Return the version of a file that `ductaflow vendor` wrote; None for any other file."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    found = _VERSION.search(head.replace(b"\r", b""))
    return found[1].decode("ascii", "replace") if head.startswith(_FIRST) and found else None


def refuse_another(root: Path) -> None:
    """Refuse a project that brings another version than the one at work.

    Raises:
        ConfigError: the message names both.
    """
    path = root / FILE_NAME
    try:
        status = path.stat()
    except OSError:
        return
    _check(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _check(path: Path, _mtime: int, _size: int) -> None:
    from importlib import metadata

    try:
        brought = version_of(path) if os.path.isfile(path) else None
        at_work = metadata.version(DISTRIBUTION)
    except (OSError, metadata.PackageNotFoundError):
        # a file that nobody can read brings nothing, and a source tree on the path has no version
        return
    if brought not in (None, at_work):
        raise ConfigError(
            f"{path} is ductaflow {brought}, and {DISTRIBUTION} {at_work} is at work "
            f"from {Path(__file__).parents[2]}",
            hint=f"Make the file anew: ductaflow vendor {path.parent}; or remove one of them.",
        )
