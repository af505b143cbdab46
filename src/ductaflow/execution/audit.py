"""What a run reads, seen from inside: the files of the project that Python opens, lists and imports.

An audit hook sees every `open` of Python, whoever calls it, and what links and other programs are given, but
not what C++ opens itself: for that there is `ductaflow.reads`. It only takes notes; the supervisor makes the
record after the run. Forks of the process are watched too, and so are processes of Python that it starts.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import shutil
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from ductaflow.common.files import Stamp, is_hidden, shown_names, stamp_of_file
from ductaflow.common.own_code import installed_in, is_own_code, source_trees
from ductaflow.common.paths import is_of_kernel
from ductaflow.execution.python_hooks import IMPORTER, modules_since, start_with
from ductaflow.store.spec import Reads, RunSpec, tell, tell_reads

_PYCACHE = os.sep + "__pycache__" + os.sep
#: Where Python and what is installed lie, for the names of their files.
_OF_PYTHON = tuple(
    {os.path.dirname(os.__file__), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))}
)
#: Folders in which a run reads nothing of its project's, by way of its links or otherwise.
_OF_SYSTEM = ("/usr/", "/lib", "/etc/", "/bin/", "/run/", "/var/lib/")
#: Whoever lists a folder of `sys.path` looks for modules, as these do.
_SEARCHES = ("importlib", "pkgutil.py", "pkg_resources")
_WRITES = os.O_WRONLY | os.O_RDWR
#: The most entries of a project that are looked at for links that lead out of it.
_MOST_ENTRIES = 20_000
_MAPPED = re.compile(rb"^\S+ +\S+ +\S+ +\S+ +[1-9]\d* +(/.+)$", re.MULTILINE)
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
        self._installed = tuple({folder + os.sep for folder in _installed_in(self._prefixes)})
        #: Of own code outside of the project too: there only what is read counts.
        self._trees = source_trees()
        #: Files read before this run wrote them, with their stamp at the first open; None if not there.
        self.files: dict[str, Stamp | None] = {}
        self.written: set[str] = set()
        #: Written files that are new.
        self.made: set[str] = set()
        #: The names in each folder when it was listed first.
        self.listed: dict[str, list[str]] = {}
        self.modules: dict[str, Stamp | None] = {}
        #: Files that other programs were given.
        self.given: dict[str, Stamp] = {}
        self._links: dict[str, str] | None = None
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
            "os.symlink": self._linked,
            "os.link": self._linked,
            "ctypes.dlopen": self._loaded,
            "subprocess.Popen": self._started,
            "os.posix_spawn": self._started,
            "os.exec": self._started,
            "os.system": self._started,
            "pty.spawn": self._started,
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
        start_with(STARTUP)

    def stop(self) -> None:
        """Stop taking notes, and report to the supervisor."""
        if not self._active or self._at_once:
            return
        self._active = False
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        self._find_modules()
        self._find_mapped()
        for path in self.modules:
            self.files.pop(path, None)
        self._tell(Reads(self.files, self.written, self.made, self.listed, self.modules, given=self.given))

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
        path = self._watched(name, with_hidden=True, is_read=not flags & _WRITES)
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
        path = self._watched(name, with_hidden=True, is_read=True)
        if path is None or path in self.listed:
            return
        # Python looks for modules in folders too, and for the versions of packages.
        caller = sys._getframe(2)
        name = caller.f_code.co_filename
        if any(search in name for search in _SEARCHES) or _is_for_us(caller):
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
        name, is_read_only = os.fsdecode(arguments[0]), False
        if name.startswith("file:"):
            uri = urlsplit(name)
            name = unquote(uri.path)
            is_read_only = bool({"mode=ro", "immutable=1"}.intersection(uri.query.split("&")))
        if path := self._watched(name, with_hidden=True, is_read=True):
            self._note_read(path)
            # Otherwise it is not known yet whether it will read or write.
            if not is_read_only:
                self._note_written(path)

    def _linked(self, arguments: Arguments) -> None:
        """Note what a link leads to: whoever stages inputs by links reads them through these."""
        source, target, *_ = map(os.fsdecode, arguments[:2])
        if not os.path.isabs(source) and not os.path.isfile(source):
            source = os.path.join(os.path.dirname(os.path.abspath(target)), source)
        path = self._watched(source, with_hidden=True)
        if path is None:
            return
        if not os.path.isdir(path):
            self._note_read(path)
        elif not self._spec.folder.startswith(os.path.join(path, "")):
            from ductaflow.store.record import stamps_below

            folders = {path: stamps_below(path, own=self._spec.folder, root=self._spec.project_root)}
            self._tell(Reads(declared={path}, folders=folders))

    def _loaded(self, arguments: Arguments) -> None:
        name = arguments[0]
        if (
            name
            and os.sep in os.fsdecode(name)
            and (path := self._watched(name, with_hidden=True, is_read=True))
        ):
            self._note_read(path)

    def _started(self, arguments: Arguments) -> None:
        """Note the files of the project that another program is given, itself among them."""
        program, *rest = arguments
        words = rest[0] if rest and isinstance(rest[0], (list, tuple)) else []
        # Only `subprocess` says where the program starts; the third of others is its environment.
        place = rest[1] if len(rest) == 3 and rest[1] is not None else os.getcwd()
        for name in names_in_command([program, *words], os.fsdecode(place)):
            path = self._watched(name, with_hidden=True, is_read=True)
            if path is None or path in self.given or path in self.files or path in self.written:
                continue
            if stamp := stamp_of_file(path):
                self.given[path] = stamp
                if self._at_once:
                    self._tell(Reads(given={path: stamp}))

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
            if not isinstance(file, str) or not file.startswith((*self._prefixes, *self._trees)):
                continue
            path = self._watched(file, is_read=True)
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

    def _find_mapped(self) -> None:
        """Find the files of the project that are mapped into memory, such as libraries."""
        with suppress(OSError), open("/proc/self/maps", "rb") as file:
            maps = file.read()
            if any(os.fsencode(prefix) in maps for prefix in self._prefixes):
                for name in set(_MAPPED.findall(maps)):
                    path = self._watched(name, with_hidden=True)
                    if path and path not in self.modules:
                        self._note_read(path)

    def _watched(self, name: object, *, with_hidden: bool = False, is_read: bool = False) -> str | None:
        """Return the absolute path of a file of the project that a run may depend on, else None.

        Args:
            name: as it was given to Python.
            with_hidden: also in hidden folders, except those of programs.
            is_read: it is read, perhaps through a link.
        """
        if not isinstance(name, (str, bytes, os.PathLike)):
            # An open descriptor.
            return None
        path = os.fsdecode(name)
        if not os.path.isabs(path):
            path = os.path.join(os.getcwd(), path)
        path = os.path.normpath(path)
        if is_read and path.startswith(self._own):
            path = os.path.realpath(path)
        if not path.startswith(self._prefixes):
            if is_read and is_own_code(path, self._trees):
                return path
            linked = self._by_link(path) if is_read else None
            if linked is None:
                return None
            path = linked
        if self._spec.kind == "flow" and path.startswith(self._own):
            return None
        inside = next((path[len(prefix) :] for prefix in self._prefixes if path.startswith(prefix)), None)
        if not inside or is_hidden(inside, of_programs=with_hidden) or path.startswith(self._installed):
            return None
        path = self._root + inside
        return None if path == self._spec.source else path

    def _by_link(self, path: str) -> str | None:
        """Return a file outside of the project by its name in it, if a link of the project leads there."""
        if path.startswith((*_OF_SYSTEM, *_OF_PYTHON, *_both_names(sys.prefix))) or f"{os.sep}." in path:
            return None
        if is_of_kernel(path):
            return None
        if self._links is None:
            # So that the hook, which sees this walk too, does not begin another one.
            self._links = {}
            self._links = _links_out_of(self._root, self._spec.runs_root)
        for place, link in self._links.items():
            if path == place or path.startswith(place + os.sep):
                return link + path[len(place) :]
        return None


def look_ahead(project_root: str) -> None:
    """Find out what every watch of a project's runs asks for, in the process that is forked for them."""
    _installed_in(_both_names(project_root))


def _installed_in(prefixes: tuple[str, ...]) -> list[str]:
    return [folder for prefix in prefixes for folder in installed_in(prefix.rstrip(os.sep))]


def _links_out_of(root: str, runs_root: str) -> dict[str, str]:
    """Return the links of a project that lead out of it, by where they lead."""
    found: dict[str, str] = {}
    pending, looked = [root], 0
    while pending and looked < _MOST_ENTRIES:
        folder = pending.pop()
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                looked += 1
                if entry.name.startswith(".") or entry.path == runs_root:
                    continue
                if entry.is_symlink():
                    place = os.path.realpath(entry.path)
                    if not place.startswith(root):
                        found[place] = entry.path
                elif entry.is_dir():
                    pending.append(entry.path)
    return found


def names_in_command(words: Sequence[object], place: str) -> set[str]:
    """Return what may be files in a command, as absolute paths.

    Args:
        words: program and arguments, or a line for the shell.
        place: the working directory of the program.
    """
    texts = [os.fsdecode(word) for word in words[:_MOST_WORDS] if isinstance(word, (str, bytes, os.PathLike))]
    found = {shutil.which(texts[0]) or texts[0]} if texts and os.sep not in texts[0] else set()
    for text in (text for text in texts if len(text) <= _LONGEST_LINE):
        with suppress(ValueError):
            # No closing quotation: it is no line for the shell.
            lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            found.update(lexer)
        found.add(text)
    # --input=FILE, if=FILE, -IFILE, @FILE
    parts = {word.partition("=")[2] for word in found} | {word[2:] for word in found if word.startswith("-")}
    names = found | parts | {word[1:] for word in found if word.startswith("@")}
    paths = {os.path.join(place, os.path.expanduser(name)) for name in names if name and "\0" not in name}
    return paths.union(*(glob.glob(path) for path in paths if "*" in path or "?" in path))


#: Longer texts are programs or data, and no lines for a shell.
_MOST_WORDS, _LONGEST_LINE = 10_000, 10_000


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


#: The folder of the module that Python imports first in a process that a run starts.
STARTUP = os.path.join(os.path.dirname(__file__), "startup")
_STARTED = threading.Lock()


def watch_this_process() -> None:
    """Watch a process of a run that is no fork of it, such as a Jupyter kernel; it reports at once."""
    from ductaflow.store.spec import current_run

    run = current_run()
    if run is not None and _STARTED.acquire(blocking=False):
        Watch(run, at_once=True).start()
