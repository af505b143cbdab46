"""What a run reads, seen from inside: the files of the project that Python opens, lists and imports.

An audit hook sees every `open` of Python, whoever calls it, but not what C++ opens itself: for that there is
`ductaflow.reads`. It only takes notes; the supervisor makes the record after the run.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

from ductaflow.common.files import Stamp, is_hidden, shown_names, stamp_of_file
from ductaflow.execution.python_hooks import IMPORTER, modules_since
from ductaflow.store.spec import Reads, RunSpec, tell, tell_reads

_PYCACHE = os.sep + "__pycache__" + os.sep
#: Where Python and what is installed lie, for the names of their files.
_OF_PYTHON = tuple(
    {os.path.dirname(os.__file__), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))}
)
_WRITES = os.O_WRONLY | os.O_RDWR
#: What Python passes to audit hooks differs from event to event.
Arguments = tuple[Any, ...]


class _LastFinder:
    """The last finder of modules, which is asked for modules that no other finder found."""

    def __init__(self, missed: Callable[[str, Sequence[str] | None], None]) -> None:
        self._missed = missed

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        with suppress(Exception):
            self._missed(fullname, path)


class Watch:
    """Notes what this process does with the files of the project, from `start` to `stop`.

    It reports then, or everything `at_once`, as forks of the process do, since they may end in any way.
    """

    def __init__(self, spec: RunSpec, *, at_once: bool = False) -> None:
        self._spec = spec
        self._at_once = at_once
        self._tell = partial(tell_reads, spec)
        self._active = self._log_written = False
        self._last_before: str | None = None
        self._root = spec.project_root.rstrip(os.sep) + os.sep
        self._config = self._root + spec.settings.config_dir.replace("/", os.sep) + os.sep
        self._own = _both_names(spec.folder)
        self._prefixes = _both_names(spec.project_root)
        installed = _both_names(sys.prefix) + _both_names(sys.base_prefix)
        self._installed = tuple(path for path in installed if path.startswith(self._prefixes))
        #: Files read before this run wrote them, with their stamp at the first open; None if not there.
        self.files: dict[str, Stamp | None] = {}
        self.written: set[str] = set()
        #: Written files that are new.
        self.made: set[str] = set()
        #: The names in each folder when it was listed first.
        self.listed: dict[str, list[str]] = {}
        self.modules: dict[str, Stamp | None] = {}
        self._handlers: dict[str, Callable[[Arguments], None]] = {
            "open": self._opened,
            "os.listdir": self._listing,
            "os.scandir": self._listing,
            "os.rename": self._renamed,
            "os.remove": self._removed,
            "os.mkdir": self._made_folder,
            "os.rmdir": self._removed,
            "shutil.rmtree": self._removed_tree,
            "sqlite3.connect": self._connected,
        }

    def start(self, *, is_new: bool = True) -> None:
        """Begin to take notes; in a process that `is_new` nothing of the project has been imported yet."""
        self._active = True
        if is_new:
            self._last_before = next(reversed(sys.modules))
        # A hook cannot be removed; after `stop` it does nothing.
        sys.addaudithook(self._hook)
        self._finder = _LastFinder(self._missed)
        sys.meta_path.append(self._finder)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._be_copy)

    def stop(self) -> None:
        """Stop taking notes, and report to the supervisor."""
        if not self._active or self._at_once:
            return
        self._active = False
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._find_modules()
        for path in self.modules:
            self.files.pop(path, None)
        self._tell(Reads(self.files, self.written, self.made, self.listed, self.modules))

    def _be_copy(self) -> None:
        # The original reports what was noted so far.
        self._at_once = True

    # --- the hook ---

    def _hook(self, event: str, arguments: Arguments) -> None:
        if self._active and event in self._handlers:
            # An exception of the hook would come out of whatever library opened the file.
            with suppress(Exception):
                self._handlers[event](arguments)

    def _opened(self, arguments: Arguments) -> None:
        name, _, flags = arguments
        if flags & _WRITES and not self._log_written and self._is_log(name):
            self._log_written = True
            tell(self._spec, event="wrote_log")
        if isinstance(name, str) and name in self.files and not flags & _WRITES:
            return
        path = self._watched(name, with_hidden=True)
        if path is None:
            return
        if _PYCACHE in path:
            # A compiled module stands for its source.
            folder, _, name = path.rpartition(_PYCACHE)
            self._note_module(f"{folder}{os.sep}{name.partition('.')[0]}.py")
        elif path.endswith(".py") and sys._getframe(2).f_code.co_filename == IMPORTER:
            self._note_module(path)
        elif not flags & _WRITES:
            # Of what our own library reads for a flow, only stored instances count.
            if path.startswith(self._config) or not _is_for_us(sys._getframe(2)):
                self._note_read(path)
        else:
            if flags & os.O_RDWR and not flags & os.O_TRUNC:
                self._note_read(path)
            is_new = bool(flags & (os.O_TRUNC | os.O_EXCL)) and path not in self.files
            is_made = is_new and self._watched(path) is not None and not _is_for_us(sys._getframe(2))
            self._note_written(path, is_made=is_made)

    def _is_log(self, name: object) -> bool:
        """Return whether a flow opens the log of its run by name."""
        if not isinstance(name, str | bytes | os.PathLike):
            return False
        path, log = os.fsdecode(name), os.fspath(self._spec.log)
        is_log = path.endswith(os.path.basename(log)) and os.path.abspath(path) == log
        return is_log and not _is_for_us(sys._getframe(3))

    def _listing(self, arguments: Arguments) -> None:
        name = "." if arguments[0] is None else arguments[0]
        path = self._watched(name)
        if path is None or path in self.listed or path in sys.path:
            return
        # Python looks for modules in folders too, and for the versions of packages.
        caller = sys._getframe(2)
        name = caller.f_code.co_filename
        if "importlib" in name or name.endswith("pkgutil.py") or _is_for_us(caller):
            return
        if not os.path.isdir(path):
            # That it is not there counts.
            self._note_read(path)
            return
        self.listed[path] = []
        # The hook sees this listing too, and finds the folder noted.
        self.listed[path] = shown_names(path)
        if self._at_once:
            self._tell(Reads(listed={path: self.listed[path]}))

    def _renamed(self, arguments: Arguments) -> None:
        source, target, source_folder, target_folder = arguments
        for name, folder in ((source, source_folder), (target, target_folder)):
            path = self._watched(name) if folder == -1 else None
            if path and _PYCACHE not in path:
                is_made = name is target and not _is_for_us(sys._getframe(2))
                self._note_written(path, is_made=is_made and path not in self.files)

    def _removed(self, arguments: Arguments) -> None:
        name, folder = arguments
        # With an open folder, as in `shutil.rmtree`, the path is not known.
        if folder == -1 and (path := self._watched(name)):
            self._note_written(path)

    def _made_folder(self, arguments: Arguments) -> None:
        name, _, folder = arguments
        path = self._watched(name) if folder == -1 else None
        # An existing folder stays as it is.
        if path and not os.path.lexists(path):
            self._note_written(path)

    def _removed_tree(self, arguments: Arguments) -> None:
        # With an open folder the path is not known.
        if (len(arguments) < 2 or arguments[1] is None) and (path := self._watched(arguments[0])):
            self._note_written(path)

    def _connected(self, arguments: Arguments) -> None:
        # It is not known yet whether it will read or write.
        if path := self._watched(arguments[0]):
            self._note_read(path)
            self._note_written(path)

    # --- notes ---

    def _note_read(self, path: str) -> None:
        if path in self.files or path in self.written:
            return
        stamp = stamp_of_file(path)
        if stamp is not None or not os.path.lexists(path):
            self.files[path] = stamp
            if self._at_once:
                self._tell(Reads(files={path: stamp}))

    def _note_module(self, source: str) -> None:
        if source not in self.modules and (stamp := stamp_of_file(source)):
            self.modules[source] = stamp
            if self._at_once:
                self._tell(Reads(modules={source: stamp}))

    def _note_written(self, path: str, *, is_made: bool = False) -> None:
        new = (path not in self.written, is_made and path not in self.made)
        self.written.add(path)
        if is_made:
            self.made.add(path)
        if self._at_once and any(new):
            self._tell(Reads(written={path}, made={path} if is_made else set()))

    def _missed(self, name: str, path: Sequence[str] | None) -> None:
        """Note that the project does not have a module that it, not an installed package, looked for."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        if not self._active or frame is None or frame.f_code.co_filename.startswith(_OF_PYTHON):
            return
        for folder in sys.path if path is None else path:
            self._note_no_module(folder, name)

    def _note_no_module(self, folder: str, name: str) -> None:
        """Note that a folder has no module of a name, neither a file nor a package."""
        place = os.path.join(folder, name.rpartition(".")[2])
        for file in (f"{place}.py", os.path.join(place, "__init__.py")):
            path = self._watched(file)
            if path and not os.path.lexists(path):
                self._note_read(path)

    def _note_what_would_hide(self, name: str, file: str) -> None:
        """Note the absence of files that Python would import instead of a module."""
        if not file.endswith(f"{os.sep}__init__.py"):
            path = self._watched(os.path.join(os.path.splitext(file)[0], "__init__.py"))
            if path and not os.path.lexists(path):
                self._note_read(path)
        if "." in name:
            return
        for folder in sys.path:
            if file.startswith(os.path.join(os.path.abspath(folder), "")):
                return
            self._note_no_module(folder, name)

    def take_out_modules(self) -> None:
        """Remove the modules of the project from the imported ones, in a process that ends."""
        for name in self._find_modules():
            sys.modules.pop(name, None)

    def _find_modules(self) -> list[str]:
        """Find the modules of the project among the imported ones, however they were imported."""
        found = []
        # The thousands that a fork shares with the warm server would take 4 ms.
        for name in modules_since(self._last_before):
            file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
            if not isinstance(file, str) or not file.startswith(self._prefixes):
                continue
            path = self._watched(file)
            if not path or path == self._spec.source:
                continue
            if archive := _archive_of(path):
                self._note_read(archive)
                continue
            if path not in self.modules:
                self.modules[path] = self.files.get(path)
            self._note_what_would_hide(name, file)
            found.append(name)
        return found

    def _watched(self, name: object, *, with_hidden: bool = False) -> str | None:
        """Return the absolute path of a file of the project that a run may depend on, else None.

        `with_hidden` includes hidden folders, except those of programs.
        """
        if not isinstance(name, (str, bytes, os.PathLike)):
            # An open descriptor.
            return None
        path = os.fsdecode(name)
        if not os.path.isabs(path):
            path = os.path.join(os.getcwd(), path)
        if not path.startswith(self._prefixes):
            return None
        path = os.path.normpath(path)
        if self._spec.kind == "flow" and path.startswith(self._own):
            return None
        inside = next((path[len(prefix) :] for prefix in self._prefixes if path.startswith(prefix)), None)
        if not inside or path.startswith(self._installed) or is_hidden(inside, of_programs=with_hidden):
            return None
        path = self._root + inside
        return None if path == self._spec.source else path


def _archive_of(path: str) -> str | None:
    """Return the file that a module was imported from, such as a zip; None if the module is a file itself."""
    place = path
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    return place if place != path and os.path.isfile(place) else None


def _is_for_us(frame: FrameType | None) -> bool:
    """Return whether ductaflow is the caller, directly or through the standard library."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name not in sys.stdlib_module_names or name == "__main__":
            return name == "ductaflow"
        frame = frame.f_back
    return False


def _both_names(folder: str) -> tuple[str, ...]:
    """Return a folder as given and with symlinks resolved, as prefixes."""
    return tuple({name.rstrip(os.sep) + os.sep for name in (folder, os.path.realpath(folder))})


_STARTED = threading.Lock()


def watch_this_process() -> None:
    """Watch a process of a run that is not its child, such as a Jupyter kernel; it reports at once."""
    from ductaflow.store.spec import current_run

    run = current_run()
    if run is not None and _STARTED.acquire(blocking=False):
        Watch(run, at_once=True).start()
