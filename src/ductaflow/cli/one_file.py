"""ductaflow in one file: library, command line and pytest plugin, for projects that may install nothing.

It lies in the root of a project as `ductaflow.py`, beside `flows/` and `config/`:

    from ductaflow import run_notebook             in whatever is imported or started from there
    python ductaflow.py run fit/scenario_A         every command; `python ductaflow.py --help`
    python -m flows.fit --instance scenario_A      a flow as a script
    pytest --ductaflow                             with this line in `conftest.py` beside it:

        pytest_plugins = ["ductaflow"]

The code inside unpacks itself once into the cache folder of the user, by the hash of its content, or into a
folder for temporary files where that cannot be written. Nothing is written into the project. It needs Python
3.11 or newer, and what `REQUIRES` names.

`ductaflow vendor` makes this file anew; edits in it are lost.
"""

from __future__ import annotations

import base64
import importlib
import io
import os
import shutil
import stat
import sys
import tempfile
import time
import zipfile
from importlib import import_module, metadata, util
from pathlib import Path

# Filled in by `ductaflow vendor`.
VERSION = ""
#: The hash of the archive.
DIGEST = ""
#: The distributions that it needs, and what they are imported as.
REQUIRES: dict[str, str] = {}
#: The code: a ZIP file in base64.
ARCHIVE = ""

PACKAGE, DISTRIBUTION = "ductaflow", "pytest-ductaflow"
#: The folder of packages of others that few have, found only where they are not installed.
BUNDLED = "bundled"
#: Tells the processes of a run which copy they belong to. They need not look at its files again.
VARIABLE = "DUCTAFLOW_ONE_FILE"
#: What an unpacking that was killed left behind is swept when it is older, in seconds.
_LEFT_BEHIND = 24 * 3600.0


class OneFileError(ImportError):
    """This file cannot be used here; the message says why, and what to do."""


def load() -> None:
    """Put the package in the place of this module, here and in all processes that this one starts.

    Raises:
        OneFileError: another version is in use, a package is missing, or nothing can be unpacked.
    """
    folder = _folder()
    _refuse_another(folder)
    bundled = os.path.join(folder, BUNDLED)
    needed = [name for name in os.listdir(bundled) if "." not in name and not util.find_spec(name)]
    entries = [folder, *([bundled] if needed else [])]
    sys.path[:] = dict.fromkeys([*entries, *sys.path])
    _refuse_missing()
    # Processes of Python that are started from here look there too, whatever folder they are started in.
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*entries, *others]))
    os.environ[VARIABLE] = folder
    # The import system returns what stands in `sys.modules` when the import is over.
    sys.modules.pop(PACKAGE, None)
    importlib.invalidate_caches()
    module = import_module(PACKAGE)
    # A plugin of this name brings the real one. pytest would warn that it is imported already.
    module.__doc__ = f"{module.__doc__}\n\nPYTEST_DONT_REWRITE"
    vars(module)["pytest_plugins"] = ["pytest_ductaflow.plugin"]


def _folder() -> str:
    """Return the folder that holds the package, which is made if need be."""
    places = [*_places()]
    for place in places:
        if os.environ.get(VARIABLE) == str(place / DIGEST):
            return str(place / DIGEST)
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(ARCHIVE))) as archive:
        refused = []
        for place in places:
            try:
                return str(_unpacked(archive, place / DIGEST))
            except OSError as exc:
                refused.append(f"{place}: {exc.strerror or exc}")
    listed = "\n  ".join(refused)
    raise OneFileError(
        f"{_me()} cannot unpack itself anywhere:\n  {listed}\nSet XDG_CACHE_HOME or TMPDIR to a folder."
    )


def _places() -> list[Path]:
    from platformdirs import user_cache_path

    user = os.getuid() if hasattr(os, "getuid") else "user"
    return [
        user_cache_path(PACKAGE, appauthor=False) / "one_file",
        Path(tempfile.gettempdir(), f"{PACKAGE}-{user}"),
    ]


def _unpacked(archive: zipfile.ZipFile, folder: Path) -> Path:
    """Return a folder with all files of the archive. Several processes may ask at once."""
    _make_own(folder.parent)
    if _is_whole(archive, folder):
        return folder
    _sweep(folder.parent)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        archive.extractall(made)
        made.chmod(0o755)
        for _ in range(3):
            try:
                made.rename(folder)
            except OSError:
                # Another process was faster; or files of an older copy are gone, as a cache may be cleaned.
                if _is_whole(archive, folder):
                    break
                with_holes = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
                folder.rename(with_holes / "old")
                shutil.rmtree(with_holes, ignore_errors=True)
            else:
                break
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if not _is_whole(archive, folder):
        raise OSError(f"{folder} changes while it is made")
    return folder


def _make_own(place: Path) -> None:
    """Make a folder in which nobody else can put code."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError("it is no folder")
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise OSError("others may write there")


def _is_whole(archive: zipfile.ZipFile, folder: Path) -> bool:
    try:
        return all(os.stat(folder / one.filename).st_size == one.file_size for one in archive.infolist())
    except OSError:
        return False


def _sweep(place: Path) -> None:
    for left in place.glob(".making-*"):
        if time.time() - left.lstat().st_mtime > _LEFT_BEHIND:
            shutil.rmtree(left, ignore_errors=True)


def _refuse_another(folder: str) -> None:
    """Two versions in one process, or in a process and those it starts, are no version at all."""
    before = os.environ.get(VARIABLE)
    if before and os.path.isdir(before) and before != folder:
        raise OneFileError(
            f"{_me()} is not the file that this process was started with, whose code is in {before}. "
            "Keep one ductaflow.py, and start the command with that."
        )
    try:
        installed = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return
    if installed.version != VERSION:
        raise OneFileError(
            f"{_me()} is ductaflow {VERSION}, and {DISTRIBUTION} {installed.version} is installed in "
            f"{sys.prefix}. Make the file anew (`ductaflow vendor`), or remove one of them."
        )


def _refuse_missing() -> None:
    missing = [name for name, module in REQUIRES.items() if util.find_spec(module) is None]
    if missing:
        raise OneFileError(
            f"{_me()} needs {', '.join(missing)}, not found for {sys.executable}. "
            f"Install {'it' if len(missing) == 1 else 'them'}: pip install {' '.join(missing)}"
        )


def _me() -> str:
    return os.path.abspath(__file__)


if ARCHIVE and __name__ == "__main__":
    try:
        load()
    except OneFileError as error:
        sys.exit(f"ductaflow: {error}")
    import_module("ductaflow.cli.app").main(prog_name=f"python {os.path.basename(sys.argv[0])}")
elif ARCHIVE:
    load()
