"""What a package keeps of the process that imports it, and what a fork therefore cannot have as new.

    with ImportWatch() as watch:
        importlib.import_module("package")
    watch.reasons()         why a fork would differ from a new process
    watch.generators        what each fork can seed anew

It looks at what a new process would make anew: generators seeded from the system, descriptors, files and
folders, and values at the top of modules that are the id, the time or the working directory of this process.
An id may be any number, and in a container it is a small one, as most constants are: it counts only if it was
asked for while the package was imported.
"""

from __future__ import annotations

import datetime
import functools
import gc
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any

from ductaflow.common.own_code import is_own_code, source_trees
from ductaflow.execution.python_hooks import DRAWS, modules_since

#: Packages whose descriptors survive a fork: PROJ notices it and opens its database again.
DESCRIPTORS_SURVIVE = frozenset({"pyproj"})
#: Packages that draw at import what names a lock, which no other process sees.
TOKENS_SURVIVE = frozenset({"xarray", "donfig"})
#: Packages that keep the name of something with the process id in it that is gone by then: a lock to try.
NAMES_SURVIVE = frozenset({"joblib"})
#: Descriptors that have no position and no partner.
_SHARED = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
#: Of a container at the top of a module so many values are looked at.
_MOST = 50
#: In bytes.
_SEED_OF_NUMPY = 16
#: A smaller process id may be any number in a text.
_SMALLEST_PID = 999
#: What gives the id of this process; that of its main thread is the same.
_IDS = ((os, "getpid"), (threading, "get_native_id"))
#: No clock of interest says less, in seconds: a smaller number is most likely a constant.
_EARLIEST = 1000.0


class ImportWatch:
    """Notices what one import leaves behind; what it patches for that, it puts back.

    Attributes:
        generators: instances of `random.Random` and of numpy's bit generators, seeded from the system.
        descriptors: that it has opened and that survive a fork.
    """

    def __init__(self, known: Sequence[Any] = ()) -> None:
        self._known = {id(generator) for generator in known}
        self.generators: list[Any] = []
        self.descriptors: set[int] = set()
        self._seeded: dict[int, tuple[random.Random, object]] = {}
        self._draws: set[str] = set()
        self._is_pid_asked = False
        self._patched: dict[int, tuple[object, object]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> ImportWatch:
        self._last = next(reversed(sys.modules))
        self._packages = packages()
        self._open = _descriptors()
        self._random = _states()
        self._times = _clocks()
        self._main = _holders_of_main()
        self._files = _files_made().begin()
        self._patch()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        _files_made().end()
        self._ended = _clocks()
        self.modules = modules_since(self._last)
        self._put_back()
        self.packages = packages() - self._packages

    def _patch(self) -> None:
        """Notice seeds, draws from the system, and who asks for the id of this process."""
        watch, set_seed, draw = self, random.Random.seed, os.urandom

        def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
            set_seed(self, a, version)
            watch._seeded.pop(id(self), None)
            # The names of temporary files: that generator looks at the process id itself.
            is_of_tempfile = sys._getframe(2).f_code.co_filename == tempfile.__file__
            if a is None and not is_of_tempfile:
                watch._seeded[id(self)] = self, self.getstate()

        def urandom(size: int, /) -> bytes:
            # From C code, numpy seeds a generator in this way.
            is_of_numpy = size == _SEED_OF_NUMPY and sys._getframe(1).f_code.co_name == "getrandbits"
            watch._draws.add("numpy" if is_of_numpy else "other")
            return draw(size)

        def asking(give: Callable[[], int]) -> Callable[[], int]:
            def id_of_process() -> int:
                watch._is_pid_asked = True
                return give()

            return id_of_process

        patches = [
            (random.Random, "seed", seed),
            *((owner, name, urandom) for owner, name in DRAWS),
            *((owner, name, asking(getattr(owner, name))) for owner, name in _IDS),
        ]
        for owner, name, new in patches:
            old = getattr(owner, name)
            self._stack.callback(setattr, owner, name, old)
            self._patched[id(new)] = new, old
            setattr(owner, name, new)

    def _put_back(self) -> None:
        """Give modules the functions that they have imported by name, instead of ours."""
        for module in filter(None, map(sys.modules.get, self.modules)):
            for name, value in list(vars(module).items()):
                new, old = self._patched.get(id(value), (None, None))
                if value is new is not None:
                    setattr(module, name, old)

    # --- what was noticed ----------------------------------------------------------------------------------

    def reasons(self) -> Iterator[str]:
        """Yield why a fork of this process would differ from a new one, as ends of a sentence."""
        ours = [sys.modules[name] for name in self.modules if name in sys.modules and not _is_stdlib(name)]
        trees = source_trees()
        if any(is_own_code(file, trees) for module in ours if isinstance(file := _file_of(module), str)):
            yield "imports code of the project"
        opened = _descriptors() - self._open
        if opened and not DESCRIPTORS_SURVIVE & self.packages:
            yield "opens files or sockets"
        self.descriptors = opened
        if any(map(os.path.lexists, self._files)):
            # Another process would make its own, and may remove them at its end: folders of `tempfile`.
            yield "makes files"
        yield from self._of_generators()
        if _holders_of_main() > self._main:
            # A run has a `__main__` of its own: dill saves this module, pickling looks into it.
            yield "keeps `__main__`"
        yield from (f"keeps {kind} of its import" for kind in sorted(self._kinds(ours)))

    def _of_generators(self) -> Iterator[str]:
        states = _states()
        if any(states[name] != state for name, state in self._random.items()):
            yield "changes the global random numbers"
        found = _bit_generators() if self._draws else []
        bits = [one for one in found if id(one) not in self._known]
        self.generators = [generator for generator, _ in self._seeded.values()] + bits
        has_token = "other" in self._draws and not TOKENS_SURVIVE & self.packages
        # What seeds the children of a generator of numpy 1 cannot be replaced.
        has_children = any(
            one is not sys.modules["numpy.random"].get_bit_generator()
            and not isinstance(one.__getstate__(), tuple)
            for one in bits
        )
        if has_token or has_children or any(one.getstate() != state for one, state in self._seeded.values()):
            yield "draws random numbers"

    def _kinds(self, modules: Iterable[ModuleType]) -> set[str]:
        """Return what values of modules are of this process."""
        folder, days, pid = os.getcwd(), _days(), os.getpid()
        has_pid = re.compile(rf"(?<!\d){pid}(?!\d)").search
        may_name_pid = self._is_pid_asked and pid > _SMALLEST_PID
        windows = list(zip(self._times, self._ended, strict=True))
        kinds = set()
        for package, value in ((_package(module), value) for module in modules for value in _values(module)):
            if isinstance(value, int | float):
                if type(value) is int and value == pid and self._is_pid_asked:
                    kinds.add("the process id")
                elif value > _EARLIEST and any(begin <= value <= end for begin, end in windows):
                    kinds.add("the time")
            elif isinstance(value, str | os.PathLike):
                text = os.fsdecode(value)
                if len(folder) > 1 and folder in text:
                    kinds.add("the working directory")
                elif may_name_pid and has_pid(text) and package not in NAMES_SURVIVE:
                    kinds.add("the process id")
                elif any(day in text for day in days):
                    kinds.add("the time")
            elif isinstance(value, datetime.date | time.struct_time) and _day_of(value) in days:
                kinds.add("the time")
        return kinds


class _FilesMade:
    """Notes files and folders that Python makes or writes. There is one: an audit hook cannot be removed."""

    def __init__(self) -> None:
        self._noted: set[str] | None = None
        sys.addaudithook(self._hook)

    def begin(self) -> set[str]:
        """Begin to take notes; return them, to be looked at after the end."""
        self._noted = set()
        return self._noted

    def end(self) -> None:
        """Take no notes any more."""
        self._noted = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._noted is None or event not in ("open", "os.mkdir", "os.rename", "os.link", "os.symlink"):
            return
        name = arguments[0] if event in ("open", "os.mkdir") else arguments[1]
        is_made = arguments[2] & (os.O_WRONLY | os.O_RDWR) if event == "open" else True
        if is_made and isinstance(name, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(name))
            # Packages see to it that folders of theirs are there; bytecode is the same for all.
            is_known = event == "os.mkdir" and os.path.lexists(path)
            if not is_known and "__pycache__" not in path and not path.startswith("/dev/"):
                self._noted.add(path)


@functools.cache
def _files_made() -> _FilesMade:
    return _FilesMade()


def _day_of(value: datetime.date | time.struct_time) -> str:
    try:
        return time.strftime("%Y%m%d", value) if isinstance(value, tuple) else f"{value:%Y%m%d}"
    except ValueError:
        # a time that is not there, such as pandas has one
        return ""


def packages() -> set[str]:
    """Return the names of the packages that are loaded."""
    return {name.partition(".")[0] for name in list(sys.modules)}


def _package(module: ModuleType) -> str:
    return module.__name__.partition(".")[0]


def _file_of(module: ModuleType) -> object:
    return vars(module).get("__file__")


def _descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") not in _SHARED:
                found.add(int(name))
        except FileNotFoundError:
            # the one that lists them
            continue
    return found


def _holders_of_main() -> int:
    """Return how many references there are to `__main__` and to its namespace."""
    main = sys.modules["__main__"]
    return sys.getrefcount(main) + sys.getrefcount(vars(main))


def _clocks() -> tuple[float, ...]:
    """Return what clocks say, each in all the forms in which packages keep it."""
    now, running = time.time(), time.monotonic()
    return now, now * 1e3, now * 1e9, running, running * 1e9


def _days() -> set[str]:
    today = (datetime.datetime.now(), datetime.datetime.now(datetime.UTC))
    return {f"{day:{form}}" for day in today for form in ("%Y-%m-%d", "%Y%m%d")}


def _states() -> dict[str, object]:
    """Return the states of the global generators."""
    numpy_random = sys.modules.get("numpy.random")
    state: dict[str, object] = {"random": random.getstate()}
    if numpy_random is not None:
        state["numpy"] = str(numpy_random.get_state())
    return state


def _bit_generators() -> list[Any]:
    """Return the bit generators of numpy that are not frozen."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return []
    kinds = tuple(numpy_random.BitGenerator.__subclasses__())
    return [thing for thing in gc.get_objects() if type(thing) in kinds]


def _is_stdlib(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def _values(module: ModuleType) -> Iterator[object]:
    """Yield the values at the top of a module, and one level below: in containers, classes and instances."""
    package = _package(module)
    for name, value in list(vars(module).items()):
        if name.startswith("__"):
            continue
        yield value
        if type(value) is dict:
            yield from list(value.values())[:_MOST]
        elif type(value) in (list, tuple, set, frozenset):
            yield from list(value)[:_MOST]
        else:
            kind = value if isinstance(value, type) else type(value)
            if str(kind.__module__).partition(".")[0] == package:
                yield from list(_attributes(value).values())[:_MOST]


def _attributes(value: object) -> dict[str, object]:
    """Return what an object keeps, without asking it."""
    try:
        return dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        return {}
