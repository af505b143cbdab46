"""Writes `ductaflow.py`: the package in one file, for projects that may install nothing.

The same code gives the same bytes, whoever makes the file and when.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
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

_PACKAGES = ("ductaflow", "pytest_ductaflow")
FILE_NAME = "ductaflow.py"
CONFTEST_LINE = 'pytest_plugins = ["ductaflow"]'
#: What a distribution is imported as, where that is not its own name with `_` for `-`.
_MODULES = {"ipython": "IPython"}
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
    if path.exists() and not is_one_file(path):
        raise DuctaflowError(
            f"{path} is there already, and `ductaflow vendor` did not write it", hint="Move it away."
        )
    write_atomic(path, one_file_text())
    return path


def is_one_file(path: Path) -> bool:
    """Return whether `ductaflow vendor` wrote a file, of whatever version."""
    with path.open("rb") as file:
        return file.read(len(_FIRST_LINE)) == _FIRST_LINE


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
        source = _FILLED[name].sub(lambda _, value=value: value, source, count=1)  # type: ignore[misc]
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
        for file in metadata.files(name) or ():
            is_about = ".dist-info" in file.parts[0]
            if file.suffix in (".py", ".typed") or (is_about and file.name in ("METADATA", "LICENSE")):
                yield f"{one_file.BUNDLED}/{file.as_posix()}", file.read_binary()
    about = f"{one_file.DISTRIBUTION.replace('-', '_')}-{installed.version}.dist-info"
    head = ["Metadata-Version: 2.1", f"Name: {one_file.DISTRIBUTION}", f"Version: {installed.version}"]
    requires = [f"Requires-Dist: {name}" for name in sorted(installed.requires or ())]
    yield f"{about}/METADATA", "\n".join([*head, *requires, ""]).encode()
    groups: dict[str, list[str]] = {}
    for point in installed.entry_points:
        groups.setdefault(point.group, []).append(f"{point.name} = {point.value}")
    lines = [line for group in sorted(groups) for line in (f"[{group}]", *sorted(groups[group]))]
    yield f"{about}/entry_points.txt", "\n".join([*lines, ""]).encode()


def _required(installed: metadata.Distribution) -> dict[str, str]:
    """Return what the package needs and does not bring: distributions, and what they are imported as."""
    names = [re.split(r"[^\w.-]", line)[0] for line in installed.requires or () if "extra ==" not in line]
    needed = sorted({*names}.difference(_BUNDLED, _OPTIONAL))
    return {name: _MODULES.get(name, name.replace("-", "_")) for name in needed}


_FIRST_LINE = Path(one_file.__file__).read_bytes().split(b":")[0]
