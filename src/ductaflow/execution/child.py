"""The process of one run: it executes the notebook or the script in the run folder.

Started by the supervisor as `python -P -m ductaflow.execution.child <pid of the supervisor>` with the spec on
standard input; standard output and error are the log. It reports its progress to the supervisor. Its exit
code is 0, 1 after an exception, or the code of a `sys.exit`.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import io
import locale
import logging
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from ductaflow.common import host
from ductaflow.common.engines import KERNEL, Engine, engine_named
from ductaflow.common.errors import Failure
from ductaflow.common.files import set_aside
from ductaflow.execution import process_end
from ductaflow.execution.audit import Watch
from ductaflow.execution.coverage import measured
from ductaflow.execution.python_hooks import modules_since, register_finalizers_anew, start_logging_anew
from ductaflow.notebook.capture import Capture
from ductaflow.notebook.failures import exit_code_of, failure_of, line_in_source
from ductaflow.notebook.new_interpreters import NewInterpreters
from ductaflow.notebook.source import (
    assigns_config,
    cell_line,
    cell_lines,
    code_cells,
    is_python,
    kernel_language,
    load_notebook,
    loads_instance,
    parameters_cell,
)
from ductaflow.store.result import Cause
from ductaflow.store.spec import RunSpec, tell

if TYPE_CHECKING:
    from nbformat import NotebookNode


@dataclass(slots=True)
class Teller:
    """The engine's observer: passes events on to the supervisor and keeps the exit code."""

    spec: RunSpec
    pid: int = field(default_factory=os.getpid)
    exit_code: int = 0
    failed_already: bool = field(default=False, init=False)
    exited_already: bool = field(default=False, init=False)

    def leave_if_forked(self, code: int = 0) -> None:
        """End a fork of this process that returned from the flow: only the original goes on."""
        if os.getpid() != self.pid:
            process_end.flush()
            os._exit(code)

    def cell_started(self, number: int, total: int, line: int | None) -> None:
        self.leave_if_forked()
        if number == 1:
            tell(self.spec, event="cells", total=total)
        tell(self.spec, event="cell_started", cell=number, line=line)

    def cell_finished(self, number: int) -> None:
        self.leave_if_forked()
        tell(self.spec, event="cell_finished", cell=number)

    def failed(
        self,
        number: int,
        exc: BaseException,
        failure: Failure,
        *,
        cause: Cause = "exception",
        signal: str | None = None,
        code: int = 1,
    ) -> None:
        self.leave_if_forked(1)
        self.failed_already, self.exit_code = True, max(code, 1)
        if isinstance(exc, KeyboardInterrupt):
            cause = "interrupted"
        tell(self.spec, event="failed", failure=asdict(failure), cause=cause, signal=signal)

    def exited(self, number: int, code: int, text: str, line: int | None) -> None:
        self.leave_if_forked(code)
        self.exit_code, self.exited_already = code, True
        tell(self.spec, event="exited", code=code, text=text, cell=number, line=line)


def execute(spec: RunSpec, *, is_fork: bool) -> int:
    """Execute what the spec says, in the run folder, up to the end of the process; return the exit code."""
    teller, watch = Teller(spec), Watch(spec)
    shell: ModuleType | None = None
    if spec.mode == "script":
        run_script(spec, teller, watch)
    else:
        with Capture(spec.log), measured(Path(spec.source)):
            run_notebook_cells(spec, teller, watch)
        if shell := sys.modules.get("ductaflow.notebook.shell"):
            shell.stay_main()

    def let_go() -> None:
        watch.take_out_modules()
        if shell is not None:
            shell.let_go()

    def conclude() -> None:
        watch.stop()
        if os.path.lexists(page := spec.run_folder.html):
            tell(spec, event="set_aside", name=page.name, aside=set_aside(page).name)
        tell(spec, event="executed")
        # Otherwise it is made when nobody waits for it: see the supervisor.
        if not (is_fork or spec.page_maker) and spec.mode == "notebook" and spec.settings.html:
            export_html_of(spec)
        tell(spec, event="finished", packages=loaded_packages(watch.modules))

    process_end.run_to_end(teller.exit_code, let_go, conclude, is_fork=is_fork)
    return teller.exit_code


def run_notebook_cells(spec: RunSpec, teller: Teller, watch: Watch) -> None:
    """Execute the notebook with papermill and the engine of the spec."""
    from ductaflow.notebook.papermill_hooks import load_papermill

    load_papermill()
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from ductaflow.notebook.export import atomic_output, remove_error_marks, settle_output

    # A missing parameters cell is reported below as a warning line.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    stand_in_project(spec)
    try:
        notebook = load_notebook(Path(spec.source))
        language = kernel_language(notebook, spec.options.kernel)
        engine = engine_of(spec, language)
        importlib.import_module(engine.module)
        warn_of_lost_config(notebook, language)
        watch.start()
        papermill.execute_notebook(
            notebook,
            atomic_output(spec.run_folder.notebook),
            parameters={"config": spec.config},
            engine_name=engine.papermill,
            kernel_name=spec.options.kernel,
            language=language,
            progress_bar=False,
            observer=teller,
            project_root=spec.project_root,
        )
    except PapermillExecutionError:
        if not (teller.failed_already or teller.exited_already):
            # Papermill raises for any error in the notebook, even if the tag `raises-exception` allows it;
            # the engine has seen no failure.
            remove_error_marks(spec.run_folder.notebook)
    except Exception as exc:
        if teller.failed_already:
            return
        # Not from a cell: the notebook could not be read, or the kernel not be started.
        failure = failure_of(exc, project_root=spec.project_root)
        print(failure.traceback, file=sys.stderr, end="")
        teller.failed(0, exc, failure)
    finally:
        for name in settle_output(spec.run_folder.notebook):
            tell(spec, event="set_aside", name=spec.run_folder.notebook.name, aside=name)


def engine_of(spec: RunSpec, language: str) -> Engine:
    """Return the engine of a run: a kernel of another language leaves one choice, unless one is asked for."""
    chosen = spec.options.engine is not None or is_python(language)
    return engine_named(spec.engine) if chosen else KERNEL


def warn_of_lost_config(notebook: NotebookNode, language: str) -> None:
    """Warn if the injected config would not reach the flow, which would succeed with its defaults.

    Papermill injects after the cell tagged `parameters`; without one, before all cells.
    """
    tagged = parameters_cell(notebook)
    if tagged is not None and assigns_config(tagged, language) is False and not loads_instance(tagged):
        line = cell_line(tagged)
        where = f" (line {line})" if line else ""
        print(f"Warning: the cell tagged `parameters`{where} does not assign `config`")
    if tagged is None:
        for cell in code_cells(notebook):
            if not assigns_config(cell, language):
                continue
            where = f"the cell in line {cell_line(cell)}" if cell_line(cell) else "a cell"
            print(f'Warning: {where} replaces the config: it lacks `tags=["parameters"]`')


def export_html_of(spec: RunSpec) -> None:
    from ductaflow.notebook.export import convert_notebook_to_html

    if not spec.run_folder.notebook.exists():
        return
    try:
        convert_notebook_to_html(spec.run_folder.notebook, spec.run_folder.html)
    except Exception as exc:
        text = f"the HTML of the notebook could not be made: {type(exc).__name__}: {exc}"
        tell(spec, event="note", text=text)


def run_script(spec: RunSpec, teller: Teller, watch: Watch) -> None:
    """Run the flow as plain Python. Cells are counted by the lines where they begin."""
    by_lines(sys.stdout, sys.stderr)
    source = Path(spec.source)
    starts = cell_lines(source)
    tell(spec, event="cells", total=len(starts))
    stand_in_project(spec)

    def cell_at(line: int | None) -> int:
        return sum(start <= line for start in starts) if line else 0

    def finished(count: int) -> None:
        for number in range(1, count + 1):
            tell(spec, event="cell_finished", cell=number)

    main = sys.modules["__main__"] = ModuleType("__main__")
    vars(main).update(__file__=spec.source, __cached__=None, __builtins__=builtins)
    watch.start()
    try:
        with NewInterpreters(source, with_config=False):
            exec(compile(source.read_bytes(), spec.source, "exec", dont_inherit=True), vars(main))
    except SystemExit as exc:
        teller.leave_if_forked(exit_code_of(exc)[0])
        cell = cell_at(line_in_source(exc, source))
        finished(cell - 1)
        code, text = exit_code_of(exc)
        if text:
            print(text, file=sys.stderr)
        tell(spec, event="cell_started", cell=cell, line=line_in_source(exc, source))
        teller.exited(cell, code, text, line_in_source(exc, source))
    except BaseException as exc:
        teller.leave_if_forked(1)
        failure = failure_of(exc, source=source, project_root=spec.project_root)
        cell = cell_at(line_in_source(exc, source))
        finished(max(cell - 1, 0))
        print(failure.traceback, file=sys.stderr, end="")
        tell(spec, event="cell_started", cell=cell, line=failure.line)
        teller.failed(cell, exc, failure)
    else:
        teller.leave_if_forked()
        finished(len(starts))


def by_lines(*streams: TextIO) -> None:
    """Have streams write each line at once, and whatever characters it has."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def stand_in_project(spec: RunSpec) -> None:
    """Set `sys.argv` and `sys.path` as for the flow: its folder and the project root, not the run folder.

    This comes after our own imports, so that no module of a project can shadow what they need.
    """
    sys.argv = [spec.source]
    # Python compares bytecode with its source by size and whole seconds: the next run would miss an edit
    # right after this one.
    sys.dont_write_bytecode = True
    first = [str(Path(spec.source).parent), spec.project_root]
    sys.path[:] = first + [entry for entry in sys.path if entry not in ("", *first)]


@dataclass(slots=True)
class Packages:
    """Version and file of the loaded third-party packages, and the last module that was looked at."""

    found: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    last: str | None = None

    def look(self) -> None:
        """Add what was imported since the last look."""
        names = modules_since(self.last)
        for name in names:
            if "." in name or name in sys.stdlib_module_names:
                continue
            module = sys.modules.get(name)
            version = vars(module).get("__version__") if module is not None else None
            if isinstance(version, str):
                self.found[name] = version, getattr(module, "__file__", None)
        self.last = names[0] if names else self.last


#: Of this process, which lives for one run, and of the warm server that it is a fork of.
packages = Packages()


def loaded_packages(own: Collection[str]) -> dict[str, str]:
    """Return the versions of what the run has imported, but for files of the project."""
    packages.look()
    return {name: version for name, (version, file) in sorted(packages.found.items()) if file not in own}


def main(parent: int) -> NoReturn:
    """Be the child as a new interpreter."""
    host.die_with_parent(parent)
    spec = RunSpec.load(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    code = execute(spec, is_fork=False)
    sys.exit(code)


# --- as a fork of a warm process ---------------------------------------------------------------------------


def be_forked(spec: RunSpec, environment: Mapping[str, str], parent: int) -> NoReturn:
    """Be the child in a process that was just forked from a warm one.

    It becomes like a new interpreter: own process group, descriptors, environment, directory, signal handlers
    and random numbers. Nothing leads back to the warm process.
    """
    code = 1
    try:
        host.die_with_parent(parent)
        _be_anew(spec, environment)
        code = execute(spec, is_fork=True)
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
        code = code or 1
    finally:
        process_end.flush()
        os._exit(code)


def _be_anew(spec: RunSpec, environment: Mapping[str, str]) -> None:
    os.setpgid(0, 0)
    by_lines(sys.stdout)
    log = os.open(spec.log, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    # Not those of packages, which would read the flow's own files instead.
    last = 2
    for descriptor in sorted(kept_descriptors):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.chdir(spec.folder)
    take_environment(environment)
    # Python read these from the environment of the warm process.
    time.tzset()
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "")
    tempfile.tempdir = None
    start_logging_anew()
    register_finalizers_anew()
    # What the supervisor has made is not of the flow either.
    gc.freeze()
    seed_anew()


def take_environment(environment: Mapping[str, str]) -> None:
    """Have these variables alone, in this order; those that are the same already are left as they are."""
    here = list(os.environ)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, environment, strict=False)))
    for name in here[same:]:
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


#: Generators of packages in the warm server that were seeded from the system.
generators: list[Any] = []
#: Descriptors of packages in the warm server that survive a fork.
kept_descriptors: set[int] = set()


def seed_anew() -> None:
    """Seed the random generators of loaded modules from the system; forks would draw the same numbers."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    of_numpy = numpy_random.get_bit_generator() if numpy_random else None
    for generator in generators:
        if isinstance(generator, random.Random):
            random.Random.seed(generator)
        elif generator is not of_numpy:
            # One of numpy: what its state is differs between versions.
            generator.__setstate__(type(generator)().__getstate__())
    for name, seed in _SEEDS.items():
        if (module := sys.modules.get(name)) is not None:
            seed(module)


#: Global generators of modules, and how each is seeded from the system.
_SEEDS: dict[str, Callable[[Any], object]] = {
    # Not a generator: a key that a process draws once.
    "multiprocessing.process": lambda module: setattr(module.current_process(), "authkey", os.urandom(32)),
    "numpy.random": lambda numpy_random: numpy_random.seed(),
    "torch": lambda torch: torch.seed(),
}


if __name__ == "__main__":
    main(int(sys.argv[1]))
