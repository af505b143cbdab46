"""ductaflow in one file: library, command line and pytest plugin, for projects that may install nothing.

It lies in the root of a project as `ductaflow.py`, beside `flows/` and `config/`:

    from ductaflow import run_notebook             in whatever is imported or started from there
    python ductaflow.py run fit/scenario_A         every command; `python ductaflow.py --help`
    python -m flows.fit --instance scenario_A      a flow as a script
    pytest --ductaflow                             with these two lines in `conftest.py` beside it:

        # the plugin of ductaflow.py
        pytest_plugins = ["ductaflow"]

The code inside unpacks itself once into the cache folder of the user, by the hash of its content, or into a
folder for temporary files where that cannot be written. Nothing is written into the project. It needs Python
3.11 or newer, and what `REQUIRES` names. Where the same version is installed, that one is used.

`ductaflow vendor` makes this file anew; edits in it are lost.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from importlib import import_module, metadata, util
from pathlib import Path
from types import ModuleType

# Filled in by `ductaflow vendor`.
VERSION = ""
#: The hash of the archive.
DIGEST = ""
#: The distributions that it needs, from which version on, and what they are imported as.
REQUIRES: dict[str, str] = {}
#: The code: a ZIP file in base64.
ARCHIVE = ""

PACKAGE, DISTRIBUTION = "ductaflow", "pytest-ductaflow"
PYTHON = (3, 11)
#: The folder of packages of others that few have, found only where they are not installed.
BUNDLED = "bundled"
#: Tells the processes of a run which copy they belong to. They need not look at its files again.
VARIABLE = "DUCTAFLOW_ONE_FILE"
_MAKING = ".making-"
#: What an unpacking that was killed left behind is swept when it is older, in seconds.
_LEFT_BEHIND = 24 * 3600.0


class OneFileError(ImportError):
    """This file cannot be used here; the message says why, and what to do."""


def load() -> None:
    """Put the package in the place of this module, here and in all processes that this one starts.

    Raises:
        OneFileError: another version is in use, a package is missing, or nothing can be unpacked.
    """
    if sys.version_info < PYTHON:
        this, needed = (".".join(map(str, version[:2])) for version in (sys.version_info, PYTHON))
        raise OneFileError(f"{_me()} needs Python {needed} or newer, and {sys.executable} is {this}")
    places, refused = _places()
    before = os.environ.get(VARIABLE)
    folder = next((str(place / DIGEST) for place in places if before == str(place / DIGEST)), None)
    is_child = folder is not None and os.path.isfile(os.path.join(folder, PACKAGE, "__init__.py"))
    package = _loaded_already()
    if not is_child:
        _refuse_another(before)
        _refuse_missing()
        package = package or _installed()
    if package is None:
        package = _from(folder if folder and is_child else _unpack(places, refused))
    # The import system returns what stands in `sys.modules` when the import is over.
    if __name__ != "__main__":
        sys.modules[__name__] = package
    # A plugin of this name brings the real one. pytest would warn that it is imported already.
    if "pytest_plugins" not in vars(package):
        package.__doc__ = f"{package.__doc__}\n\nPYTEST_DONT_REWRITE"
        vars(package)["pytest_plugins"] = ["pytest_ductaflow.plugin"]


def _loaded_already() -> ModuleType | None:
    """Return the package, if something else in this process has imported it."""
    found = sys.modules.get(PACKAGE)
    return found if found is not None and hasattr(found, "__path__") else None


def _installed() -> ModuleType | None:
    """Import the package where the environment has it, of this version."""
    if _installed_version() is None:
        return None
    kept, here = sys.path[:], os.path.dirname(_me())
    sys.path[:] = [entry for entry in kept if os.path.abspath(entry) != here]
    try:
        return _imported() if _is_package() else None
    finally:
        sys.path[:] = kept


def _is_package() -> bool:
    """Return whether what `import ductaflow` finds is no file like this one."""
    shadowed = sys.modules.pop(PACKAGE, None)
    try:
        spec = util.find_spec(PACKAGE)
    finally:
        if shadowed is not None:
            sys.modules[PACKAGE] = shadowed
    return spec is not None and spec.submodule_search_locations is not None


def _imported() -> ModuleType:
    sys.modules.pop(PACKAGE, None)
    importlib.invalidate_caches()
    return import_module(PACKAGE)


def _from(folder: str) -> ModuleType:
    """Import the package from a folder, as all processes of Python will that are started from here."""
    bundled = os.path.join(folder, BUNDLED)
    needed = [name for name in os.listdir(bundled) if "." not in name and not util.find_spec(name)]
    entries = [folder, *([bundled] if needed else [])]
    sys.path[:] = dict.fromkeys([*entries, *sys.path])
    # They look there too, whatever folder they are started in.
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*entries, *others]))
    os.environ[VARIABLE] = folder
    return _imported()


def _places() -> tuple[list[Path], list[str]]:
    """Return where the code may lie, the best place first, and why some place is none."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    elif sys.platform == "darwin":
        cache = home / "Library/Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    places, refused = [cache / PACKAGE / "one_file"], []
    try:
        places.append(Path(tempfile.gettempdir(), f"{PACKAGE}-{user}"))
    except OSError as exc:
        refused.append(f"temporary files: {exc.strerror}")
    return [place for place in places if place.is_absolute()], refused


def _unpack(places: list[Path], refused: list[str]) -> str:
    """Return the folder that holds the package, which is made if need be."""
    reasons = []
    with zipfile.ZipFile(io.BytesIO(_archive())) as archive:
        for place in places:
            try:
                return str(_unpacked(archive, place / DIGEST))
            except OSError as exc:
                reasons.append(f"{place}: {exc.strerror or exc}")
    listed = "\n  ".join([*reasons, *refused])
    raise OneFileError(
        f"{_me()} cannot unpack itself anywhere:\n  {listed}\nSet XDG_CACHE_HOME or TMPDIR to a folder."
    )


def _archive() -> bytes:
    """Return the ZIP file, if it is the one that was put in."""
    try:
        content = base64.b64decode(ARCHIVE)
    except ValueError:
        content = b""
    if hashlib.sha256(content).hexdigest()[: len(DIGEST)] != DIGEST:
        raise OneFileError(f"{_me()} is damaged: it does not hold what was put into it. Get the file anew.")
    return content


def _unpacked(archive: zipfile.ZipFile, folder: Path) -> Path:
    """Return a folder with all files of the archive. Several processes may ask at once."""
    _make_own(folder.parent)
    if _is_whole(archive, folder):
        return folder
    with _alone_in(folder.parent):
        if not _is_whole(archive, folder):
            _sweep(folder.parent)
            _put(archive, folder)
    return folder


def _put(archive: zipfile.ZipFile, folder: Path) -> None:
    """Make a folder of the archive, in place of one that is not whole: a cache may be cleaned."""
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_MAKING))
    try:
        archive.extractall(made)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(made / "before")
        made.rename(folder)
    except OSError:
        # where nobody can be alone, another process may have been faster
        if not _is_whole(archive, folder):
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(folder / "before", ignore_errors=True)


@contextlib.contextmanager
def _alone_in(place: Path) -> Iterator[None]:
    """Let one process at a time unpack, where the system can: not on Windows, nor on every network."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    held = os.open(place, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _make_own(place: Path) -> None:
    """Make a folder in which nobody else can put code."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError("it is no folder")
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise OSError("others may write there")


def _is_whole(archive: zipfile.ZipFile, folder: Path) -> bool:
    """Return whether all files are there with the bytes of the archive: a power cut leaves zeros, too."""
    try:
        return all(zlib.crc32((folder / one.filename).read_bytes()) == one.CRC for one in archive.infolist())
    except OSError:
        return False


def _sweep(place: Path) -> None:
    for left in place.glob(f"{_MAKING}*"):
        # another process may sweep too
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.lstat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(left, ignore_errors=True)


def _refuse_another(before: str | None) -> None:
    """Two versions in one process, or in a process and those it starts, are no version at all.

    Args:
        before: the copy that the process was started with, if it is another one, or gone.
    """
    if before and os.path.basename(before) != DIGEST and os.path.isdir(before):
        raise OneFileError(
            f"{_me()} is not the file that this process was started with, whose code is in {before}. "
            "Keep one ductaflow.py, and start the command with that."
        )
    installed = _installed_version()
    if installed not in (None, VERSION):
        raise OneFileError(
            f"{_me()} is ductaflow {VERSION}, and {DISTRIBUTION} {installed} is installed in "
            f"{sys.prefix}. Make the file anew (`ductaflow vendor`), or remove one of them."
        )


def _installed_version() -> str | None:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


def _refuse_missing() -> None:
    wanted = [wanted for wanted, module in REQUIRES.items() if not _is_there(wanted, module)]
    if wanted:
        raise OneFileError(
            f"{_me()} needs {', '.join(map(_with_found, wanted))}. "
            f"Install: {sys.executable} -m pip install {' '.join(map(_quoted, wanted))}"
        )


def _is_there(wanted: str, module: str) -> bool:
    if util.find_spec(module) is None:
        return False
    name, _, least = wanted.partition(">=")
    try:
        return _numbers(metadata.version(name)) >= _numbers(least)
    except metadata.PackageNotFoundError:
        return True  # somebody put it there without saying what it is


def _numbers(version: str) -> tuple[int, ...]:
    """Return `(8, 1)` for 8.1.0rc1: it orders versions well enough for a lower bound."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    parts = [*map(int, found[0].split("."))] if found else []
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def _quoted(wanted: str) -> str:
    return f'"{wanted}"'


def _with_found(wanted: str) -> str:
    try:
        return f"{wanted} (there is {metadata.version(wanted.partition('>=')[0])})"
    except metadata.PackageNotFoundError:
        return f"{wanted} (not installed)"


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
