"""The engine runs cells as a kernel would, under their true names, and tells its host what happens.

All flows of this module (`FLOWS`) run in one process of their own, one after the other; the tests look at
what came of each. `test_fidelity` compares with a Jupyter kernel, cell by cell.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pytest

from ductaflow.common.errors import DuctaflowError
from ductaflow.notebook.engine import DuctaflowEngine
from ductaflow.notebook.failures import failure_of, line_in_source

RUNNER = """
import dataclasses, json, sys
from pathlib import Path
import papermill
from ductaflow.notebook.capture import Capture
from ductaflow.notebook.export import atomic_output
from ductaflow.notebook.source import load_notebook

class Observer:
    def __init__(self):
        self.events = []
    def cell_started(self, number, total, line):
        self.events.append(["started", number, total, line])
    def cell_finished(self, number):
        self.events.append(["finished", number])
    def failed(self, number, exc, failure):
        self.events.append(["failed", number, dataclasses.asdict(failure)])
    def exited(self, number, code, text, line):
        self.events.append(["exited", number, code, text])

def run(source):
    out, log = source.with_suffix(".out.ipynb"), source.with_suffix(".txt")
    observer, raised = Observer(), None
    with Capture(log):
        try:
            papermill.execute_notebook(
                load_notebook(source), atomic_output(out), parameters={"config": {"a": 1}},
                engine_name="ductaflow", progress_bar=False, observer=observer, project_root=root,
            )
        except papermill.PapermillExecutionError as exc:
            raised = exc.ename
    printed = log.read_text(encoding="utf-8", errors="replace")
    notebook = json.loads(out.read_text(encoding="utf-8"))
    return {"events": observer.events, "raised": raised, "log": printed, "notebook": notebook}

root = Path(sys.argv[1])
results = {path.stem: run(path) for path in sorted((root / "flows").glob("*.py"))}
(root / "results.json").write_text(json.dumps(results))
"""

PARAMETERS = '# %% tags=["parameters"]\nconfig = {}\n\n'

#: Each begins in line 4 of its file.
FLOWS = {
    "success": """
        # %%
        print(config["a"])
        len("abc")

        # %% tags=["skip-execution"]
        1 / 0

        # %%

        # %% [markdown]
        # text

        # %%
        "last"
        """,
    "failure": """
        # %% [markdown]
        # A title

        # %%
        def divide(a):
            # a comment
            return 1 / a

        # %%
        # %time x = 1
        files = !echo one \\
            two

        try:
            divide(0)
        except ZeroDivisionError as exc:
            raise ValueError("bad \\x1b[31mvalue") from exc

        # %%
        print("never")
        """,
    "elsewhere": """
        # %%
        import json
        json.loads("{")
        """,
    "timed": """
        # %%
        # %%time
        x = 1

        y = 1 / 0
        """,
    "captured": """
        # %%
        # %%capture
        x = 1
        y = 1 / 0
        """,
    "syntax": """
        # %%

        x = 1
        y = (2
        z = 3
        """,
    "outside": """
        # %%
        x = 1
        return x
        """,
    "injected": """
        # %%
        import traceback
        print(config.__class__, where())
        """,
    "exit0": """
        # %%
        print("a")

        # %%
        import sys
        sys.exit(0)

        # %%
        print("never")
        """,
    "exit3": "# %%\nraise SystemExit(3)\n",
    "exit_text": "# %%\nimport sys\nsys.exit('no input')\n",
    "exit_none": "# %%\nraise SystemExit\n",
    "exit_call": "# %%\nexit()\n",
    "interrupt": "# %%\nraise KeyboardInterrupt\n",
    "group": "# %%\nraise ExceptionGroup('several', [ValueError('one')])\n",
    "broken_text": """
        # %%
        class Broken(Exception):
            def __str__(self):
                raise RuntimeError("no text")
        raise Broken
        """,
    "broken_repr": """
        # %%
        class Broken:
            def _repr_html_(self):
                raise ValueError("no page")
        display(Broken())

        # %%
        print("never")
        """,
    "raises": """
        # %% tags=["raises-exception"]
        raise ValueError("expected")

        # %%
        print("goes on")
        """,
    "main": """
        # %%
        import multiprocessing, pickle, sys

        class Kept: ...

        def square(x):
            print("in the child")
            return x * x

        print(sys.modules["__main__"].Kept is Kept, type(pickle.loads(pickle.dumps(Kept()))) is Kept)
        if sys.platform == "linux":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                print(pool.map(square, [3]))
        else:
            print("in the child\\n[9]")
        """,
    "names": """
        # %%
        def function():
            return 1

        # %%
        import inspect
        print(function.__code__.co_filename, function.__code__.co_firstlineno)
        print(inspect.getsource(function))
        """,
    "edited": """
        # %%
        from pathlib import Path
        source = Path((lambda: 0).__code__.co_filename)
        source.write_text("\\n" * 20 + "something else")

        # %%
        1 / 0  # as it was at the start
        """,
    "order": """
        # %%
        import os, sys
        print("1"); os.system("echo 2"); display("3"); os.write(2, b"4\\n")
        print("5", file=sys.stderr); print("6")
        """,
    "nothing_left": """
        # %%
        import sys
        print("x" * 3_000_000)
        shell = get_ipython()
        # IPython keeps outputs since 9.1
        kept = getattr(shell.history_manager, "outputs", {})
        print(shell.history_manager.enabled, len(str(kept)) < 100_000)
        """,
    "line_magic": """
        # %%
        def divide(a):
            return 1 / a

        # %%
        # %time divide(1)
        # %timeit -n1 -r1 divide(1)
        x = 1

        # %time divide(0)
        """,
    "timed_def": """
        # %%
        # %%time

        def divide(a):
            b = 1
            return b / a

        # %%
        # %%timeit -n1 -r1
        divide(1)

        # %%

        divide(0)
        """,
    "multiline": """
        # %%
        x = [
            1,
            2,
        ]
        total = max(
            x,
            key=lambda n: (
                n
                / 0
            ),
        )
        """,
    "awaited": """
        # %%
        import asyncio
        async def divide(a):
            await asyncio.sleep(0)
            return 1 / a

        # %%
        x = 1
        await asyncio.gather(divide(1), divide(0))
        """,
    "decorated": """
        # %%
        import functools

        @functools.cache
        def divide(a):
            return 1 / a

        class Kept:
            value = [divide(n) for n in (1, 0)]
        """,
    "bash": """
        # %%
        x = 1

        # %% language="bash"
        # echo one
        # exit 3
        """,
    "usage": """
        # %%
        x = 1
        %no_such_magic
        """,
    "after_command": """
        # %%
        # !echo one \\
        #     two
        x = 1
        y = = 2
        """,
    "indented": """
        # %%
        def f():
            x = 1
              y = 2
        """,
    "evaluated": """
        # %%
        x = 1
        eval("1 +")
        """,
    "told": """
        # %%
        import logging, sys, threading, warnings
        from concurrent.futures import ProcessPoolExecutor

        def fail():
            raise KeyError("told")

        warnings.warn("old")
        logging.basicConfig(format="%(pathname)s:%(lineno)d: %(message)s")
        logging.warning("logged")
        thread = threading.Thread(target=fail); thread.start(); thread.join()
        with ProcessPoolExecutor(1) as pool:
            print(pool.submit(fail).exception().__cause__)

        def stop():
            frame = sys._getframe(1)
            print(f"stops at {frame.f_code.co_filename}:{frame.f_lineno}")
        sys.breakpointhook = stop

        # %%
        # %time x = 1
        for n in range(1):
            breakpoint()
        """,
    "breakpoint": """
        # %%
        x = 1
        breakpoint()
        y = 2
        """,
    "surrogates": """
        # %%
        display({"text/plain": "a\\udc80b"}, raw=True)
        raise ValueError("c\\udc81d")
        """,
    "own_stream": """
        # %%
        import io, sys
        sys.stdout = io.StringIO()

        # %%
        print("into it")
        print(repr(sys.stdout.getvalue()), file=sys.stderr)
        sys.stdout = sys.__stdout__
        """,
}

# --- what runs once ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "flows").mkdir()
    for name, code in FLOWS.items():
        text = PARAMETERS + textwrap.dedent(code).lstrip("\n")
        (folder / "flows" / f"{name}.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", RUNNER, str(folder)],
        capture_output=True,
        timeout=120,
        check=False,
        cwd=folder,
    )
    assert 0 == done.returncode, done.stderr.decode()
    return folder


@pytest.fixture(scope="module")
def results(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "results.json").read_text())
    return found


def cells_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The code cells of an executed flow, without the parameters and the injected ones."""
    cells = [cell for cell in result["notebook"]["cells"] if cell["cell_type"] == "code"]
    return [c for c in cells if not {"parameters", "injected-parameters"} & set(c["metadata"]["tags"])]


def failure(result: dict[str, Any]) -> dict[str, Any]:
    kind, _, found = result["events"][-1]
    assert "failed" == kind
    assert isinstance(found, dict)
    return found


def text_of(cell: dict[str, Any], name: str = "stdout") -> str:
    streams = [out for out in cell["outputs"] if out["output_type"] == "stream" and out["name"] == name]
    return "".join("".join(out["text"]) for out in streams)


# --- what the host learns ----------------------------------------------------------------------------------


def test_events_of_a_success(results: dict[str, Any]) -> None:
    """Each cell that would execute is told with its number, how many there are, and its line."""
    assert [
        ["started", 1, 3, 2],
        ["finished", 1],
        ["started", 2, 3, 5],
        ["finished", 2],
        ["started", 3, 3, 17],
        ["finished", 3],
    ] == results["success"]["events"]
    assert results["success"]["raised"] is None


def test_log(results: dict[str, Any]) -> None:
    """The log has the prints and the text of what is shown."""
    assert "1\n3\n'last'\n" == results["success"]["log"]


def test_failure(results: dict[str, Any]) -> None:
    """A failure says where in the flow's file, with the lines around, and a traceback of the flow alone."""
    found = failure(results["failure"])

    assert ("flows/failure.py", 20, 3) == (found["file"], found["line"], found["cell"])
    assert ("ValueError", "bad value") == (found["ename"], found["evalue"])
    assert [18, 19, 20, 21, 22] == [line["line"] for line in found["source"]]
    assert found["source"][2]["text"].startswith("    raise ValueError")
    assert "ZeroDivisionError" in found["traceback"]
    assert 'flows/failure.py", line 10, in divide\n    return 1 / a\n' in found["traceback"]
    assert not re.search("IPython|papermill|engine|\x1b", found["traceback"])
    assert "ValueError" == results["failure"]["raised"]


def test_nothing_runs_after_a_failure(results: dict[str, Any]) -> None:
    """The cell that failed is `failed`, the later ones stay `pending`."""
    statuses = [cell["metadata"]["papermill"]["status"] for cell in cells_of(results["failure"])]

    assert ["completed", "failed", "pending"] == statuses
    assert "never" not in results["failure"]["log"]


def test_traceback_in_the_log(results: dict[str, Any]) -> None:
    """The flow's traceback is in the log, once and without colours."""
    assert 1 == results["failure"]["log"].count("bad value")
    assert failure(results["failure"])["traceback"] in results["failure"]["log"]


def test_traceback_in_the_notebook(results: dict[str, Any], root: Path) -> None:
    """The notebook has the traceback as IPython makes it, with the true file and line."""
    [error] = [out for out in cells_of(results["failure"])[1]["outputs"] if out["output_type"] == "error"]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))

    assert "ValueError" == error["ename"]
    assert re.search(r"File \S*flows/failure.py:20\b", plain)
    assert "---> 20     raise ValueError" in plain


@pytest.mark.parametrize(
    ("flow", "line", "ename"),
    [
        ("elsewhere", 6, "JSONDecodeError"),
        ("timed", 8, "ZeroDivisionError"),
        ("captured", 7, "ZeroDivisionError"),
        ("syntax", 7, "SyntaxError"),
        ("outside", 6, "SyntaxError"),
        ("group", 5, "ExceptionGroup"),
        ("interrupt", 5, "KeyboardInterrupt"),
        ("broken_text", 8, "Broken"),
        ("edited", 10, "ZeroDivisionError"),
        ("line_magic", 6, "ZeroDivisionError"),
        ("timed_def", 9, "ZeroDivisionError"),
        ("multiline", 12, "ZeroDivisionError"),
        ("awaited", 8, "ZeroDivisionError"),
        ("decorated", 9, "ZeroDivisionError"),
        ("bash", 7, "CalledProcessError"),
        ("usage", 6, "UsageError"),
        ("after_command", 8, "SyntaxError"),
        ("indented", 7, "IndentationError"),
        ("evaluated", 6, "SyntaxError"),
    ],
)
def test_lines(results: dict[str, Any], flow: str, line: int, ename: str) -> None:
    """The line is right in a library's error, in and behind magics, in functions of another cell, in
    statements of several lines, for syntax errors, and in a file that was edited while it ran."""
    found = failure(results[flow])

    assert (f"flows/{flow}.py", line, ename) == (found["file"], found["line"], found["ename"])
    assert results[flow]["raised"] is not None


def test_source_of_an_edited_file(results: dict[str, Any]) -> None:
    """Tracebacks show the source that runs, not what was saved meanwhile."""
    assert "1 / 0  # as it was at the start" in failure(results["edited"])["traceback"]


def test_syntax_error_in_the_log(results: dict[str, Any]) -> None:
    """The log shows the wrong line of a syntax error."""
    assert "y = (2" in results["syntax"]["log"]
    assert "SyntaxError: '(' was never closed" in results["syntax"]["log"]


def test_true_names(results: dict[str, Any], root: Path) -> None:
    """Functions know file and line, so that debuggers, coverage and `inspect` do."""
    printed = text_of(cells_of(results["names"])[1])

    assert f"{root / 'flows' / 'names.py'} 5\ndef function():\n    return 1\n\n" == printed


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (11, ":{line}: UserWarning: old"),
        (13, ":{line}: logged"),
        (9, '", line {line}, in fail\n    raise KeyError("told")'),
        (26, ":{line}\n"),
    ],
)
def test_true_names_in_what_is_told(results: dict[str, Any], root: Path, line: int, text: str) -> None:
    """Warnings, logging, threads, other processes and breakpoints name the flow's file and line."""
    assert str(root / "flows" / "told.py") + text.format(line=line) in results["told"]["log"]


def test_a_breakpoint_without_anybody(results: dict[str, Any]) -> None:
    """A breakpoint that nobody can answer fails the flow in its line."""
    found = failure(results["breakpoint"])

    assert ("flows/breakpoint.py", 6) == (found["file"], found["line"])
    assert "breakpoint was called, but" in found["evalue"]


def test_injected_parameters(results: dict[str, Any]) -> None:
    """The config is there in the next cell, and the injected cell moves no line."""
    assert 6 == failure(results["injected"])["line"]
    assert "NameError" == failure(results["injected"])["ename"]


@pytest.mark.parametrize(
    ("flow", "event", "raised"),
    [
        ("exit0", ["exited", 3, 0, ""], None),
        ("exit3", ["exited", 2, 3, ""], "SystemExit"),
        ("exit_text", ["exited", 2, 1, "no input"], "SystemExit"),
        ("exit_none", ["exited", 2, 0, ""], None),
        ("exit_call", ["exited", 2, 0, ""], None),
    ],
)
def test_exits(results: dict[str, Any], flow: str, event: list[Any], raised: str | None) -> None:
    """An exit is told with its code, ends the run, and only a code other than 0 is an error of papermill."""
    assert event == results[flow]["events"][-1]
    assert raised == results[flow]["raised"]


def test_cells_after_an_exit(results: dict[str, Any]) -> None:
    """Cells after an exit stay pending; the log has no traceback of it."""
    statuses = [cell["metadata"]["papermill"]["status"] for cell in cells_of(results["exit0"])]

    assert ["completed", "failed", "pending"] == statuses
    assert "a\n" == results["exit0"]["log"]
    assert "SystemExit: no input\n" == results["exit_text"]["log"]


def test_expected_exception(results: dict[str, Any]) -> None:
    """A cell tagged `raises-exception` may raise: the run goes on, and its traceback is in the log."""
    assert ["finished", 3] == results["raises"]["events"][-1]
    assert "ValueError: expected\ngoes on\n" in results["raises"]["log"]


def test_broken_display(results: dict[str, Any]) -> None:
    """An error while something is displayed fails the cell: papermill would raise at the end anyway."""
    assert ("ValueError", "no page") == tuple(
        failure(results["broken_repr"])[key] for key in ("ename", "evalue")
    )
    assert "never" not in results["broken_repr"]["log"]


def test_order(results: dict[str, Any]) -> None:
    """Prints, a shell's prints, results and raw bytes stand in the order in which they came."""
    outputs = cells_of(results["order"])[0]["outputs"]
    found = [
        (out.get("name"), "".join(out.get("text", out.get("data", {}).get("text/plain")))) for out in outputs
    ]

    assert [("stdout", "1\n2\n"), (None, "'3'"), ("stderr", "4\n5\n"), ("stdout", "6\n")] == found
    assert "1\n2\n'3'\n4\n5\n6\n" == results["order"]["log"]


def test_main_module(results: dict[str, Any]) -> None:
    """Cells are `__main__`: their classes pickle, and forked children find their functions."""
    assert "True True\nin the child\n[9]\n" == text_of(cells_of(results["main"])[0])


def test_large_output(results: dict[str, Any]) -> None:
    """Output beyond a megabyte is in the log alone, and nowhere in memory."""
    text = text_of(cells_of(results["nothing_left"])[0])

    assert len(text) < 1_100_000
    assert "bytes of output are left out here; all of it is in nothing_left.txt" in text
    assert text.endswith("False True\n")
    assert 3_000_000 < len(results["nothing_left"]["log"])


def test_surrogates(results: dict[str, Any]) -> None:
    """Lone surrogates in results and errors do not cost the notebook."""
    display, error = cells_of(results["surrogates"])[0]["outputs"]

    assert "a\\udc80b" == "".join(display["data"]["text/plain"])
    assert "c\\udc81d" == error["evalue"]


def test_own_stream(results: dict[str, Any]) -> None:
    """What a flow puts in the place of `sys.stdout` stays there for its later cells."""
    assert "'into it\\n'\n" == text_of(cells_of(results["own_stream"])[1], "stderr")


def test_notebook_metadata(results: dict[str, Any], root: Path) -> None:
    """The notebook names its source, as papermill's input too, instead of a copy of itself."""
    metadata = results["success"]["notebook"]["metadata"]

    assert str(root / "flows" / "success.py") == metadata["ductaflow"]["source"]
    assert metadata["ductaflow"]["source"] == metadata["papermill"]["input_path"]
    assert str(root / "flows" / "success.out.ipynb") == metadata["papermill"]["output_path"]


# --- in this process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "info"),
    [
        ({"name": "ir", "language": "R"}, {}),
        ({"name": "julia-1.10"}, {"name": "julia"}),
    ],
)
def test_other_languages(spec: dict[str, str], info: dict[str, str]) -> None:
    """A notebook in another language is refused, and the message says how it runs."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.update(kernelspec=spec, language_info=info)

    with pytest.raises(DuctaflowError, match='"engine": "kernel"'):
        DuctaflowEngine.nb_kernel_name(notebook)


def test_unknown_kernel() -> None:
    """Without a kernelspec, or with one of an environment that is not here, a notebook is Python."""
    notebook = nbformat.v4.new_notebook()
    assert "python3" == DuctaflowEngine.nb_kernel_name(notebook)
    assert "python" == DuctaflowEngine.nb_language(notebook)

    notebook.metadata.update(kernelspec={"name": "an-environment-of-somebody"})
    assert "an-environment-of-somebody" == DuctaflowEngine.nb_kernel_name(notebook)


def test_failure_of_anything(tmp_path: Path) -> None:
    """An exception that is not of a cell is described as well; its text is without colours."""
    source = tmp_path / "fit.py"
    source.write_text("\n\nraise ValueError('\\x1b[31mred')\n")
    code = compile(source.read_text(), str(source), "exec")
    with pytest.raises(ValueError, match="red") as raised:
        exec(code)
    found = failure_of(raised.value, source=source, project_root=tmp_path, cell=2)

    assert ("fit.py", 3, 2, "red") == (found.file, found.line, found.cell, found.evalue)
    assert [1, 2, 3] == [line["line"] for line in found.source]
    assert 3 == line_in_source(raised.value, source)
    assert (None, None) == (failure_of(raised.value).file, failure_of(raised.value).line)


def test_light_import() -> None:
    """Papermill imports every engine that is installed: ours brings nothing heavy, and may come first."""
    code = (
        "import sys, ductaflow.notebook.engine\n"
        "heavy = {'papermill', 'IPython', 'ipykernel', 'nbformat'} & set(sys.modules)\n"
        "import papermill.engines as engines\n"
        "found = engines.papermill_engines.get_engine('ductaflow')\n"
        "print(heavy, found is ductaflow.notebook.engine.DuctaflowEngine)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert "set() True\n" == done.stdout


STANDALONE = """
import builtins, json, os, sys
import nbformat, papermill
sources = json.loads(sys.argv[1])
before = [sys.stdout, sys.displayhook, sys.modules["__main__"], builtins.input, dict(os.environ)]
cells = [nbformat.v4.new_code_cell(source) for source in sources]
options = dict(progress_bar=True, engine_name="ductaflow", log_output=True)
if len(sys.argv) > 2:
    options["stdout_file"] = open(sys.argv[2], "w")
try:
    papermill.execute_notebook(nbformat.v4.new_notebook(cells=cells), "out.ipynb", **options)
finally:
    after = [sys.stdout, sys.displayhook, sys.modules["__main__"], builtins.input, dict(os.environ)]
    print([x == y for x, y in zip(before, after)])
"""


def standalone(folder: Path, *sources: str) -> tuple[subprocess.CompletedProcess[str], nbformat.NotebookNode]:
    command = [sys.executable, "-c", STANDALONE, json.dumps(sources), str(folder / "stdout.txt")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done, nbformat.read(folder / "out.ipynb", as_version=4)


@pytest.mark.slow
def test_without_a_host(tmp_path: Path) -> None:
    """Called by papermill alone, the output of cells is in the notebook, the progress bar on the terminal,
    papermill's options work, and the process is as it was before."""
    done, notebook = standalone(
        tmp_path, "print('in the notebook')", "import sys; print('e', file=sys.stderr)"
    )

    assert 0 == done.returncode, done.stderr
    assert "[True, True, True, True, True]\n" == done.stdout
    assert "100%" in done.stderr
    assert ["in the notebook\n", "e\n"] == [cell.outputs[0].text for cell in notebook.cells]
    assert "in the notebook\n" == (tmp_path / "stdout.txt").read_text()


def test_autosave(tmp_path: Path) -> None:
    """Papermill's autosave has what a long cell has displayed so far."""
    code = """
import nbformat, papermill
source = "display('seen'); display('seen too'); import os; os._exit(0)"
cells = [nbformat.v4.new_code_cell(source)]
papermill.execute_notebook(nbformat.v4.new_notebook(cells=cells), "out.ipynb", engine_name="ductaflow",
    progress_bar=False, autosave_cell_every=1e-9)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=True)
    [cell] = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells

    # papermill also warns that it saves too often
    shown = [output.data["text/plain"] for output in cell.outputs if "data" in output]
    assert ["'seen'", "'seen too'"] == shown


def test_cell_of_an_ipynb(tmp_path: Path) -> None:
    """A cell that has no place in a file is called as IPython calls it."""
    done, notebook = standalone(tmp_path, "x = 1", "1 / 0", "print('never')")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "".join(notebook.cells[-2].outputs[0].traceback))

    assert "PapermillExecutionError" in done.stderr
    assert "Cell In[2], line 1" in plain


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_cell_that_kills_the_process(tmp_path: Path) -> None:
    """The notebook that a killed process leaves is whole, and calls the cell in which it died running."""
    done, notebook = standalone(tmp_path, "x = 1", "import os; os._exit(0)", "y = 1")

    assert 0 == done.returncode
    assert ["completed", "running", "pending"] == [c.metadata.papermill.status for c in notebook.cells]


@pytest.mark.slow
def test_moved_source(tmp_path: Path) -> None:
    """An executed notebook whose source was edited since runs without true names instead of wrong ones."""
    from ductaflow.notebook.source import load_notebook

    source = tmp_path / "fit.py"
    source.write_text("# %%\nx = 1\n\n# %%\n1 / 0\n")
    nbformat.write(load_notebook(source), tmp_path / "in.ipynb")
    source.write_text("# %%\n# edited\nx = 1\n\n# %%\n1 / 0\n")
    command = [sys.executable, "-m", "papermill", "--engine", "ductaflow", "in.ipynb", "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert 1 == done.returncode
    assert "Cell In[2], line 1" in re.sub(r"\x1b\[[0-9;]*m", "", done.stderr)
