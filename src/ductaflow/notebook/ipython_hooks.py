"""Private parts of IPython, traitlets and matplotlib-inline that the shell of a flow depends on.

No other module touches them. `tests/notebook/test_ipython_hooks.py` fails by the name of a hook that a new
version has dropped or no longer calls. "Since" is the first version that has the hook; an older one never
calls the override.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core import interactiveshell
from IPython.core.displaypub import DisplayPublisher

from ductaflow.common.files import temporary_prefix

if TYPE_CHECKING:
    from IPython.external.pickleshare import PickleShareDB

#: Whatever shell each class of shells remembers as that of this process.
Remembered = list[tuple[Any, ZMQInteractiveShell | None]]


class HookedShell(ZMQInteractiveShell):
    """A kernel's shell that reports its errors to `show_error` and keeps nothing in the user's home."""

    def show_error(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        """Show an exception of a cell, with IPython's lines of its traceback."""
        raise NotImplementedError

    def text_of_error(self, error: BaseException) -> str:
        """Return the text of an exception as a notebook stores it."""
        raise NotImplementedError

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        """Since IPython 0.12: receives each formatted traceback; ipykernel would send it to a client."""
        self.show_error(etype, evalue, stb)

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Since IPython 9.1: copies prints to the history, where 200 MB of them would stay in memory."""
        yield

    def _format_exception_for_storage(
        self, exception: BaseException, *_: object, **__: object
    ) -> dict[str, str | list[str]]:
        """Since IPython 9.1: formats a traceback a second time, for a history that nobody keeps here."""
        return {"ename": type(exception).__name__, "evalue": self.text_of_error(exception), "traceback": []}

    def _ipython_dir_changed(self, change: object) -> None:
        """Since IPython 0.11: creates the user's IPython folder."""

    def __init__(self, **options: object) -> None:
        with _no_database():
            super().__init__(**options)  # type: ignore[no-untyped-call]

    @property
    def db(self) -> PickleShareDB:
        """Where `%cd`, `%store` and `%bookmark` keep their values: a temporary folder, for this run only.

        Since IPython 9.17: a property that caches in `_db`.
        """
        if self._db is None:
            folder = Path(tempfile.mkdtemp(prefix=temporary_prefix()))
            self.tempdirs.append(folder)
            self._db = _database()(folder)
        return self._db

    @db.setter
    def db(self, value: object) -> None:
        """Refuse the database of the user's profile."""

    _db: PickleShareDB | None = None


def _database() -> type[PickleShareDB]:
    """Since IPython 9.0: a copy of pickleshare. Older ones import the package, which may be missing."""
    if not hasattr(interactiveshell, "PickleShareDB"):
        from IPython.external.pickleshare import PickleShareDB

        return PickleShareDB
    return cast("type[PickleShareDB]", interactiveshell.PickleShareDB)


@contextlib.contextmanager
def _no_database() -> Iterator[None]:
    """Before IPython 9.17: a new shell creates its database at once, as a folder `db` in the current one."""
    names = vars(interactiveshell)
    found = names.get("PickleShareDB")
    if found is not None:
        names["PickleShareDB"] = lambda folder: None
    try:
        yield
    finally:
        if found is not None:
            names["PickleShareDB"] = found


def check_display(publisher: DisplayPublisher, data: object, metadata: object) -> None:
    """Check the arguments of `publish` as IPython does. Since IPython 0.11: `_validate_data`.

    Raises:
        TypeError: one of them is not a dict.
    """
    publisher._validate_data(data, metadata)  # type: ignore[no-untyped-call]


def remembered_shells(shell: type[HookedShell]) -> Remembered:
    """Return the shell that `get_ipython()` finds by a class and by each of its base classes.

    Since traitlets 4.0: `_walk_mro`, `_instance`. The public `instance()` cannot put a former shell back.
    """
    return [(cls, cls._instance) for cls in shell._walk_mro()]


def remember_shells(shells: Remembered) -> None:
    """Make `get_ipython()` find these shells."""
    for cls, shell in shells:
        cls._instance = shell


def forget_inline_backend(configure: Any) -> None:
    """Have matplotlib-inline configure its backend for the next shell too.

    Since matplotlib-inline 0.1.2: `configure_inline_support.current_backend`, kept from an earlier run in
    this process.
    """
    configure.current_backend = "unset"
