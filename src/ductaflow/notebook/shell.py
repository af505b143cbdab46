"""The IPython shell that a flow's cells run on, in this process.

It behaves like the shell of a Jupyter kernel, with two differences: it keeps what a cell shows for the output
notebook instead of sending it, and code runs under its true name, the flow's file and line.
It is separate from `engine` because `import papermill` imports every installed engine.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import contextlib
import difflib
import functools
import getpass
import json
import linecache
import os
import re
import shutil
import sys
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeAlias, TypeVar, cast

import nbformat
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.autocall import ZMQExitAutocall
from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.profiledir import ProfileDir
from jupyter_client.jsonutil import json_default
from nbformat import NotebookNode
from traitlets import Type, default
from traitlets.config import Config

from ductaflow.notebook import ipython_hooks as hooks
from ductaflow.notebook.asyncio_hooks import CellLoop
from ductaflow.notebook.capture import Ahead, Capture
from ductaflow.notebook.failures import is_shown_as_failure, text_of

#: Environment variables that IPython or matplotlib set for a shell.
_VARIABLES = (
    *("TERM", "PAGER", "GIT_PAGER", "CLICOLOR", "FORCE_COLOR", "CLICOLOR_FORCE"),
    *("MPLBACKEND", "PLOTLY_RENDERER"),
)
#: The figure for notebooks, and for pages a script that takes plotly.js from the network: with the library
#: in each notebook a figure has 5 MB, and the mime type alone shows nothing in a page of nbconvert.
PLOTLY_RENDERER = "plotly_mimetype+notebook_connected"
#: What IPython tells people at a prompt.
_ADVICE = "To exit: use"
INLINE_BACKEND = "module://matplotlib_inline.backend_inline"

#: A mime bundle, or its metadata.
Bundle: TypeAlias = dict[str, object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a cell's source: file name, number of its first line (from 1), and the source itself."""

    filename: str
    line: int
    source: str


class Outputs:
    """Outputs of the cells, in the form that a notebook stores.

    A rich result is a note in the captured log, which keeps its place among the prints. Its text/plain goes
    to the log for people, and not into the stream outputs.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._by_display_id: dict[str, list[NotebookNode]] = {}
        #: Called after each rich output, for papermill's autosave.
        self.on_output: Callable[[], None] = lambda: None

    def collect(self) -> list[NotebookNode]:
        """Return the outputs of the cell so far."""
        return [
            _output("stream", name=piece[0], text=piece[1])
            if isinstance(piece, tuple)
            else cast(NotebookNode, piece)
            for piece in self._capture.collect()
        ]

    def result(self, data: Bundle, metadata: Bundle | None, count: int) -> None:
        """Add the value of a cell's last expression."""
        self._rich("execute_result", data, metadata, execution_count=count)

    def display(self, data: Bundle, metadata: Bundle | None, display_id: str | None) -> None:
        output = self._rich("display_data", data, metadata)
        if display_id:
            shown_before = self._by_display_id.setdefault(display_id, [])
            _update(shown_before, output)
            shown_before.append(output)

    def update(self, data: Bundle, metadata: Bundle | None, display_id: str | None) -> None:
        """Replace everything displayed under an id, in any cell."""
        _update(self._by_display_id.get(display_id or "", []), _mime_bundle("display_data", data, metadata))
        self.on_output()

    def error(self, output: NotebookNode, text: str) -> None:
        """Add an error, with its text for the log."""
        self._capture.note(text, output)

    def clear(self, *, wait: bool) -> None:
        self._capture.clear(wait=wait)

    def _rich(self, kind: str, data: Bundle, metadata: Bundle | None, **more: object) -> NotebookNode:
        output = _mime_bundle(kind, data, metadata, **more)
        plain = output.data.get("text/plain", "")
        text = plain if isinstance(plain, str) else "".join(plain)
        self._capture.note(text + "\n" if text else "", output)
        self.on_output()
        return output


class FlowCompiler(CachingCompiler):
    """Compiles a cell under the file and lines of its source."""

    #: The running cell; None if it has no place in a file and keeps IPython's name for it.
    place: Place | None = None
    _raw = ""
    _timed_is_placed = False

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        self._raw = transformed_code if raw_code is None else raw_code
        if self.place is not None and self._lines_above(self._raw) is not None:
            return self.place.filename
        return super().cache(transformed_code, number, raw_code)

    def ast_parse(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> ast.AST:
        if self.place is not None and filename == self.place.filename:
            above = self._lines_above(self._raw)
            source = "\n" * (above or 0) + _realigned(self._raw, source)
        elif self.place is not None and filename == "<unknown>":
            # the body of a `%%time` cell: the magic parses it without a name and compiles it as <timed exec>
            above = self._lines_above(source)
            self._timed_is_placed = above is not None
            if above is not None:
                source, filename = "\n" * above + source, self.place.filename
        return super().ast_parse(source, filename, symbol)

    def __call__(
        self, source: str | ast.AST, filename: str, symbol: str, *args: object, **kwargs: object
    ) -> CodeType:
        if self.place is not None and self._timed_is_placed and filename.startswith("<timed "):
            filename = self.place.filename
        code: CodeType = super().__call__(cast(str, source), filename, symbol, *args, **kwargs)
        return code

    def _lines_above(self, raw: str) -> int | None:
        """Count the lines of the file above a piece of the cell; None if it is not part of the cell.

        Counts up to its first line that is not blank, since IPython strips leading blank lines.
        """
        body = raw.strip()
        if self.place is None or not body:
            return None
        index = self.place.source.find(body)
        return None if index < 0 else self.place.line - 1 + self.place.source.count("\n", 0, index)


class _FlowDisplayHook(DisplayHook):
    """Keeps the value of a last expression instead of printing it."""

    shell: FlowShell

    def write_output_prompt(self) -> None:
        """Print nothing: the notebook shows the count beside the output."""

    def write_format_data(self, format_dict: Bundle, md_dict: Bundle | None = None) -> None:
        self.shell.outputs.result(format_dict, md_dict, self.prompt_count)


class _FlowDisplayPublisher(DisplayPublisher):
    """Keeps displayed data instead of sending it."""

    shell: FlowShell

    def publish(  # type: ignore[override]
        self,
        data: Bundle,
        metadata: Bundle | None = None,
        *,
        transient: dict[str, str] | None = None,
        update: bool = False,
        **_: object,
    ) -> None:
        hooks.check_display(self, data, metadata)
        show = self.shell.outputs.update if update else self.shell.outputs.display
        show(data, metadata, (transient or {}).get("display_id"))

    def clear_output(self, wait: bool = False) -> None:
        self.shell.outputs.clear(wait=wait)


class _Exit(ZMQExitAutocall):
    """`exit()` and `quit()` end a flow as they end a script."""

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


class FlowShell(hooks.HookedShell):
    """The shell of a kernel, without a kernel.

    Attributes:
        outputs: receives what the cells show.
        backend: the matplotlib backend that a later import of matplotlib takes; empty if it came before.
        shown_error: the last exception that the running cell has an error output for.
        describe_error: returns the text of an exception for the log.
    """

    displayhook_class = Type(_FlowDisplayHook)  # type: ignore[assignment]
    display_pub_class = Type(_FlowDisplayPublisher)  # type: ignore[assignment]
    compiler_class = Type(FlowCompiler)
    outputs: Outputs
    compile: FlowCompiler

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs
        self.shown_error: BaseException | None = None
        self.describe_error: Callable[[BaseException], str] = str
        self._counts = True
        self._loop: CellLoop | None = None
        self._is_awaiting = False
        config = Config()
        # all runs of a user would share its SQLite file
        config.HistoryManager.enabled = False
        super().__init__(config=config, loop_runner=self._run_in_loop)
        # the applications of IPython load it at their start
        self.magics_manager.register_lazy("store", "IPython.extensions.storemagic")
        self.backend = "" if "matplotlib" in sys.modules else os.environ["MPLBACKEND"]

    def init_environment(self) -> None:
        super().init_environment()  # type: ignore[no-untyped-call]
        # matplotlib reads it on import: figures become outputs at the end of a cell
        os.environ["MPLBACKEND"] = os.environ.get("MPLBACKEND") or INLINE_BACKEND
        os.environ.setdefault("PLOTLY_RENDERER", PLOTLY_RENDERER)

    def init_ipython_dir(self, ipython_dir: str | None) -> None:
        """Create nothing in the user's home."""

    def init_profile_dir(self, profile_dir: ProfileDir | None) -> None:
        self.profile_dir = profile_dir or ProfileDir(parent=self)

    @default("exiter")
    def _make_exiter(self) -> ZMQExitAutocall:
        return _Exit(self)  # type: ignore[no-untyped-call]

    def begin(
        self, outputs: Outputs, describe_error: Callable[[BaseException], str], cells: Iterable[str]
    ) -> None:
        """Become the shell of a run of some cells, in the current directory and environment."""
        self.outputs, self.describe_error = outputs, describe_error
        self._renew_namespace()
        self._is_awaiting = any(self._awaits(source) for source in cells)
        self.init_environment()
        sys.modules["__main__"] = self.user_module
        self.starting_dir = os.getcwd()
        self.user_ns["_dh"][:] = [Path.cwd()]

    def _renew_namespace(self) -> None:
        """Take a namespace that was not made before a fork, so that it can be collected."""
        module = ModuleType(self.user_module.__name__, self.user_module.__doc__)
        vars(module).update(vars(self.user_module))
        self.user_module, self.user_ns = module, vars(module)
        self.ns_table["user_global"] = self.ns_table["user_local"] = self.user_ns
        self.Completer.namespace = self.Completer.global_namespace = self.user_ns

    def let_go(self) -> None:
        """Drop what the cells made, in a process that ends."""
        self.user_ns["_oh"].clear()
        # What ends by a method of its own, such as history and processes of `%%script`, needs what it has.
        parts = [part for part in self.configurables if not hasattr(type(part), "__del__")]
        parts = [part for part in parts if part is not self.history_manager]
        for part in (*parts, self.InteractiveTB, self.SyntaxTB, self.events):
            vars(part).clear()

    def run_flow_cell(self, source: str, place: Place | None) -> BaseException | None:
        """Run a cell and return the exception that ended it, if any."""
        self.compile.place = place
        self.shown_error = None
        with self._cell_loop().running_in_cells() if self._is_awaiting else contextlib.nullcontext():
            result = self.run_cell(source, store_history=True)  # type: ignore[no-untyped-call]
        if self.payload_manager is not None:
            self.payload_manager.clear_payload()
        if self._is_awaiting:
            try:
                self._cell_loop().turn()
            except (SystemExit, KeyboardInterrupt):
                # a task that ends the program
                self._counts = True
                super().showtraceback()
        error: BaseException | None = self.shown_error or result.error_in_exec or result.error_before_exec
        return error

    def _awaits(self, source: str) -> bool:
        """Whether a cell awaits at its top level. A flow with such a cell cannot be a script."""
        if "await" not in source and "async" not in source:
            return False
        try:
            # Not by the shell, for which `save(await x)` is its magic as long as the flow has no `save`.
            transformed = self.input_transformer_manager.transform_cell(source)
        except SyntaxError:
            return False
        return bool(self.should_run_async(source, transformed_cell=transformed))

    def showtraceback(self, *args: Any, **options: Any) -> None:
        """Show the exception that is handled. One that a flow or a library shows by itself is no failure."""
        self._counts = is_shown_as_failure(sys._getframe(1))
        try:
            super().showtraceback(*args, **options)
        finally:
            self._counts = True

    def text_of_error(self, error: BaseException) -> str:
        return _evalue(error)

    def enable_gui(self, gui: str | None = None) -> None:
        if gui not in (None, "inline"):
            raise UsageError(f"a flow has no event loop for {gui!r}; figures are inline")

    def show_error(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        if self._counts and self.shown_error is None:
            # the first of a cell is the cause: `%pdb on`, say, fails for want of a terminal afterwards
            self.shown_error = evalue
        output = _output(
            "error",
            ename=etype.__name__,
            evalue=_clean(_evalue(evalue)),
            traceback=[_clean(line) for line in stb],
        )
        self.outputs.error(output, self.describe_error(evalue))

    def _run_in_loop(self, coroutine: Coroutine[object, object, T]) -> T:
        """Run a cell with a top-level `await`. All cells share one event loop."""
        return self._cell_loop().run(coroutine)

    def _cell_loop(self) -> CellLoop:
        self._loop = self._loop or CellLoop()
        return self._loop

    def close(self) -> None:
        """End the run. IPython's own clean-up collects garbage, which takes 90 ms."""
        atexit.unregister(self.atexit_operations)
        for file in self.tempfiles:
            file.unlink(missing_ok=True)
        for folder in self.tempdirs:
            shutil.rmtree(folder, ignore_errors=True)
        if self._loop is not None:
            self._loop.close()


# Libraries recognise a notebook by the name and the module of the shell's class: rich and tqdm, pandas and
# plotly. dill leaves out the `exit` of a shell, by its module.
for _ours, _of_ipython in ((FlowShell, ZMQInteractiveShell), (_Exit, ZMQExitAutocall)):
    _ours.__name__, _ours.__qualname__ = _of_ipython.__name__, _of_ipython.__qualname__
    _ours.__module__ = _of_ipython.__module__


@contextlib.contextmanager
def flow_shell(
    outputs: Outputs, describe_error: Callable[[BaseException], str], cells: Iterable[str] = ()
) -> Iterator[FlowShell]:
    """Set this process up like a kernel (`get_ipython()`, `display`, `__main__`, inline figures) for a while.

    Args:
        outputs: receives what the cells show.
        describe_error: returns the text of an exception for the log.
        cells: the code that will run.
    """
    global _last
    before = hooks.remembered_shells(FlowShell)
    state: list[tuple[MutableMapping[str, Any], str]] = [
        (sys.modules, "__main__"),
        (vars(builtins), "display"),
        (vars(builtins), "__IPYTHON__"),
        (vars(builtins), "input"),
        (vars(getpass), "getpass"),
        *((os.environ, name) for name in _VARIABLES),
    ]
    saved = [(mapping, name, mapping.get(name)) for mapping, name in state]
    python_hooks = sys.displayhook, sys.excepthook, sys.breakpointhook
    ready = _take_ready()
    shell = ready or _new_shell(outputs)
    shell.begin(outputs, describe_error, cells)
    try:
        vars(builtins)["input"] = functools.partial(_no_input, "raw_input")
        getpass.getpass = functools.partial(_no_input, "getpass")
        if not os.environ.get("PYTHONBREAKPOINT"):
            # without a terminal a debugger fails inside itself, far from the flow's line
            sys.breakpointhook = functools.partial(_no_input, "breakpoint")
        warnings.filterwarnings("ignore", message=_ADVICE, category=UserWarning)
        if ready is None or shell.backend != os.environ["MPLBACKEND"]:
            _use_backend(shell)
        yield shell
    finally:
        _last = weakref.ref(shell)
        shell.close()
        hooks.remember_shells(before)
        sys.displayhook, sys.excepthook, sys.breakpointhook = python_hooks
        for mapping, name, value in saved:
            if value is None:
                mapping.pop(name, None)
            else:
                mapping[name] = value


def make_ready() -> None:
    """Make the shell of the next run in advance, in the process that is forked for runs.

    Modules imported inside `as_in_a_cell` then find a shell, as in a flow: pandas, matplotlib, plotly, tqdm
    and others decide on import how they show things.
    """
    global _ready
    ahead = Ahead()
    _ready = _new_shell(Outputs(ahead)), ahead
    # Both make regular expressions the first time.
    _ready[0].input_transformer_manager.transform_cell("1")
    re.compile(_ADVICE, re.IGNORECASE)


@contextlib.contextmanager
def as_in_a_cell() -> Iterator[Ahead]:
    """Import modules ahead of a run as a cell would. Yields a record of whether they printed anything."""
    assert _ready is not None
    shell, ahead = _ready
    with ahead.listening(), shell.builtin_trap:
        yield ahead


_ready: tuple[FlowShell, Ahead] | None = None
_last: Callable[[], FlowShell | None] = lambda: None  # noqa: E731


def stay_main() -> None:
    """Have the last run's namespace as `__main__` until the end of this process, as a script has its own."""
    if shell := _last():
        sys.modules["__main__"] = shell.user_module


def let_go() -> None:
    """Drop what the cells of the last run made, in a process that ends."""
    if shell := _last():
        shell.let_go()


def _take_ready() -> FlowShell | None:
    global _ready
    shell = _ready[0] if _ready else None
    _ready = None
    return shell


def _new_shell(outputs: Outputs) -> FlowShell:
    classes = [cls for cls, _ in hooks.remembered_shells(FlowShell)]
    hooks.remember_shells([(cls, None) for cls in classes])
    shell = FlowShell(outputs)
    hooks.remember_shells([(cls, shell) for cls in classes])
    return shell


def know_source(filename: str, text: str) -> None:
    """Make tracebacks show this text of a file, even if the file is edited during the run."""
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)


def _no_input(function: str, *_: object, **__: object) -> str:
    """Refuse to ask for input, in a kernel's words: nobody is there to answer."""
    raise StdinNotImplementedError(
        f"{function} was called, but this frontend does not support input requests."
    )


def _use_backend(shell: FlowShell) -> None:
    """Make matplotlib follow `MPLBACKEND` even if it was imported before the run."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None:
        return
    if os.environ["MPLBACKEND"] != INLINE_BACKEND:
        matplotlib.use(os.environ["MPLBACKEND"])
        return
    from matplotlib_inline.backend_inline import configure_inline_support
    from matplotlib_inline.config import InlineBackend

    matplotlib.use(INLINE_BACKEND)
    matplotlib.interactive(True)
    # both remember the shell of an earlier run in this process
    InlineBackend.clear_instance()
    hooks.forget_inline_backend(configure_inline_support)
    configure_inline_support(shell, INLINE_BACKEND)  # type: ignore[no-untyped-call]


def _mime_bundle(kind: str, data: Bundle, metadata: Bundle | None, **more: object) -> NotebookNode:
    return _output(
        kind,
        data={mime: _clean(value) for mime, value in data.items()},
        metadata=_clean(metadata or {}),
        **more,
    )


def _output(kind: str, **content: Any) -> NotebookNode:
    if not _is_plain(**content):
        return cast(NotebookNode, nbformat.v4.new_output(kind, **content))  # type: ignore[no-untyped-call]
    # The same without a check by the schema, which takes longer than most cells.
    output: NotebookNode = NotebookNode(output_type=kind)  # type: ignore[no-untyped-call]
    output.update(content)  # type: ignore[no-untyped-call]
    return output


def _is_plain(data: Bundle | None = None, metadata: object = None, **texts: Any) -> bool:
    """Return whether an output is sure to fit the schema: it has texts alone."""
    return (
        isinstance(metadata, dict | None)
        and all(isinstance(text, str) for pair in (data or {}).items() for text in pair)
        and isinstance(texts.pop("execution_count", 0), int)
        and all(isinstance(text, str) for text in texts.pop("traceback", ()))
        and all(isinstance(text, str) for text in texts.values())
    )


def _update(outputs: list[NotebookNode], new: NotebookNode) -> None:
    for output in outputs:
        output.data, output.metadata = new.data, new.metadata


def _clean(value: object) -> object:
    """Convert a value for a notebook: to JSON, with bytes as base64 and without lone surrogates.

    Raises:
        TypeError: it has no JSON form. The flow that displays it gets the error, as with a kernel.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if not value and isinstance(value, dict):
        return value
    text = json.dumps(value, default=json_default, ensure_ascii=False)
    return json.loads(text.encode("utf-8", "backslashreplace"))


def _evalue(exc: BaseException) -> str:
    """Return the text of an exception as papermill needs it: for a SystemExit, papermill takes "" and "0" as
    success, and Python has more spellings of success."""
    if isinstance(exc, SystemExit) and not isinstance(exc.code, str):
        return "" if exc.code is None else str(exc.code or 0)
    if isinstance(exc, SystemExit) and exc.code in ("", "0"):
        return repr(exc.code)
    return text_of(exc)


def _realigned(raw: str, transformed: str) -> str:
    """Restore the line count of code after IPython joined a continued `!command \\` into one line."""
    before, after = raw.strip().split("\n"), transformed.strip().split("\n")
    if len(before) <= len(after) or transformed.startswith("get_ipython().run_cell_magic("):
        return transformed
    lines: list[str] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for _, old, old_end, new, new_end in matcher.get_opcodes():
        lines += after[new:new_end]
        lines += [""] * ((old_end - old) - (new_end - new))
    return "\n".join(lines) + "\n"
