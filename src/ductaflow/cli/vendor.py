"""Writes `ductaflow.py`: the package in one file, for projects that may install nothing.

The same code gives the same bytes, whoever makes the file and when.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import sysconfig
import textwrap
import zipfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from pprint import pformat

from ductaflow.cli import one_file
from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import write_atomic
from ductaflow.project.vendored import FILE_NAME, version_of

_PACKAGES = ("ductaflow", "pytest_ductaflow")
CONFTEST_LINES = '# the plugin of ductaflow.py\npytest_plugins = ["ductaflow"]'
#: What a distribution is imported as, where that is not its own name with `_` for `-`.
_MODULES = {"beautifulsoup4": "bs4", "ipython": "IPython"}
#: Small packages in plain Python that few projects have. They are used where they are not installed.
_BUNDLED = ("filelock",)
#: What works without: `common/plain_decode.py` does what msgspec does, and only `-n` needs xdist.
_OPTIONAL = ("msgspec", "pytest-xdist")
#: The date of every file inside, so that the archive is the same whenever it is made.
_DATE = (1980, 1, 1, 0, 0, 0)
_FILLED = {
    name: re.compile(rf"^{name}\b[^=\n]*= .*$", re.MULTILINE)
    for name in ("VERSION", "DIGEST", "REQUIRES", "ARCHIVE")
}


def vendor(folder: Path) -> Path:
    """Write `ductaflow.py`.

    Args:
        folder: the root of a project, or the name of the file.

    Raises:
        DuctaflowError: there is another file of that name.
    """
    path = folder / FILE_NAME if folder.is_dir() else folder
    if path.name != FILE_NAME:
        raise DuctaflowError(
            f"{path} is no name that `import ductaflow` finds",
            hint=f"Give a folder, or a path that ends in {FILE_NAME}.",
        )
    if path.exists() and version_of(path) is None:
        raise DuctaflowError(
            f"{path} is there already, and `ductaflow vendor` did not write it", hint="Move it away."
        )
    write_atomic(path, one_file_text())
    return path


def bring_along(folder: Path) -> list[Path]:
    """Give a new project the file and its `conftest.py`, where nothing is installed; what is there stays.

    Returns:
        The files that were written.
    """
    written: list[Path] = []
    if one_file.VARIABLE in os.environ:
        if not (folder / FILE_NAME).exists():
            written.append(vendor(folder))
        if not os.path.lexists(lines := folder / "conftest.py"):
            write_atomic(lines, f"{CONFTEST_LINES}\n")
            written.append(lines)
    return written


def pytest_command() -> str:
    """Return what starts the pytest of this environment in the shell of the person, word for word."""
    found = shutil.which("pytest")
    is_first = found is not None and os.path.dirname(found) == sysconfig.get_path("scripts")
    # uv puts the environment on the path of what it starts, and not of the shell.
    if is_first and "UV" not in os.environ and one_file.VARIABLE not in os.environ:
        return "pytest"
    if "UV" in os.environ and Path(sys.prefix).parent.name.startswith("archive-v"):
        # `uvx`: an environment that it may take away; a wheel or a folder is where it came from
        about = json.loads(metadata.distribution(one_file.DISTRIBUTION).read_text("direct_url.json") or "{}")
        return f"uvx --with {shlex.quote(about.get('url', one_file.DISTRIBUTION))} pytest"
    return f"{shlex.quote(sys.executable)} -m pytest"


def one_file_text() -> str:
    """Return the file: `one_file.py` with the package in it."""
    source = Path(one_file.__file__).read_text(encoding="utf-8")
    installed = metadata.distribution(one_file.DISTRIBUTION)
    archive = _archive(installed)
    values = {
        "VERSION": f'VERSION = "{installed.version}"',
        "DIGEST": f'DIGEST = "{hashlib.sha256(archive).hexdigest()[:32]}"',
        "REQUIRES": f"REQUIRES = {pformat(_required(installed), sort_dicts=False, width=110)}",
        "ARCHIVE": 'ARCHIVE = """\n'
        + "\n".join(textwrap.wrap(base64.b64encode(archive).decode("ascii"), 110))
        + '\n"""',
    }
    for name, value in values.items():
        source = _FILLED[name].sub(value.replace("\\", r"\\"), source, count=1)
    return source


def _archive(installed: metadata.Distribution) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in sorted(_contents(installed)):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return written.getvalue()


def _contents(installed: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the packages, and what says which distribution they are: entry points, a version."""
    for package in _PACKAGES:
        spec = find_spec(package)
        [top] = map(Path, (spec and spec.submodule_search_locations) or ())
        for path in top.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield (top.name / path.relative_to(top)).as_posix(), path.read_bytes()
    for name in _BUNDLED:
        yield from _bundled(metadata.distribution(name), name)
    about = f"{one_file.DISTRIBUTION.replace('-', '_')}-{installed.version}.dist-info"
    head = ["Metadata-Version: 2.1", f"Name: {one_file.DISTRIBUTION}", f"Version: {installed.version}"]
    requires = [f"Requires-Dist: {line}" for line in _requirements(installed)]
    yield f"{about}/METADATA", "\n".join([*head, *requires, ""]).encode()
    groups: dict[str, list[str]] = {}
    for point in installed.entry_points:
        groups.setdefault(point.group, []).append(f"{point.name} = {point.value}")
    lines = [line for group in sorted(groups) for line in (f"[{group}]", *sorted(groups[group]))]
    yield f"{about}/entry_points.txt", "\n".join([*lines, ""]).encode()


def _bundled(distribution: metadata.Distribution, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the code of a package in plain Python, whose it is, and its licence."""
    place = Path(str(distribution.locate_file("")))
    for top in (place / name, place / f"{name}-{distribution.version}.dist-info"):
        is_about = top.name != name
        for path in top.rglob("*"):
            if path.suffix in (".py", ".typed") or (is_about and path.name in ("METADATA", "LICENSE")):
                yield f"{one_file.BUNDLED}/{path.relative_to(place).as_posix()}", path.read_bytes()


def _requirements(installed: metadata.Distribution) -> list[str]:
    """Return what the package needs in any case: what tests and benchmarks need too is of no use here."""
    return sorted(line.replace(" ", "") for line in installed.requires or () if "extra ==" not in line)


def _required(installed: metadata.Distribution) -> dict[str, str]:
    """Return what the package needs and does not bring: the least versions, and what they are imported as."""
    names = {line: line.partition(">=")[0] for line in _requirements(installed)}
    return {
        line: _MODULES.get(name, name.replace("-", "_"))
        for line, name in names.items()
        if name not in (*_BUNDLED, *_OPTIONAL)
    }
