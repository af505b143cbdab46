"""The executed notebook is what a kernel would have made, by a fork of a warm process as by a fresh one.

Each notebook runs once with each engine: `warm`, `fresh` and `kernel`. The tests compare cell by cell what
came of it. What the two of ours show is the same to the letter. A kernel's tracebacks and warnings name a
cell or a temporary file where ours name the flow's file and line; `in_common` leaves these names out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest

from ductaflow import FlowFailed, run_notebook
from ductaflow.common.paths import TEMP_PREFIX
from ductaflow.common.text import strip_ansi
from ductaflow.store.result import Result, read_result

pytestmark = pytest.mark.slow

ENGINES = ("warm", "fresh", "kernel")


@dataclass(frozen=True)
class Cell:
    """A cell; `ordered` where a kernel keeps the order of the streams, since each print is flushed."""

    source: str
    tags: list[str] = field(default_factory=list)
    ordered: bool = False


def raises(source: str) -> Cell:
    return Cell(source, ["raises-exception"])


#: What all engines shall treat alike, by topic.
SAME: dict[str, list[str | Cell]] = {
    "results": [
        "import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndf",
        "display(df, df.a)",
        "df.a;",
        "None",
        "_, Out[3] is df, In[5]",
        "class Mime:\n    def _repr_mimebundle_(self, **_): return {'text/plain': 'p', 'a/x': 'y'}\nMime()",
        "class Own:\n    def _ipython_display_(self): print('own')\nOwn()",
        "class All:\n"
        "    def _repr_html_(self): return '<b>h</b>', {'k': 1}\n"
        "    def _repr_markdown_(self): return '*m*'\n"
        "    def _repr_latex_(self): return '$l$'\n"
        "    def _repr_svg_(self): return '<svg></svg>'\n"
        "    def _repr_png_(self): return b'png'\n"
        "    def _repr_jpeg_(self): return b'jpeg'\n"
        "    def _repr_json_(self): return {'j': [1]}\n"
        "    def _repr_javascript_(self): return 'js()'\n"
        "    def _repr_pdf_(self): return b'pdf'\n"
        "    def _repr_pretty_(self, p, cycle): p.text('pretty')\n"
        "All()",
        "class Only:\n    def _repr_html_(self): return None\n    def __repr__(self): return 'a\\nb'\nOnly()",
        raises("class Bad:\n    def _repr_html_(self):\n        raise ValueError('no page')\nBad()"),
        raises("class Worse:\n    def __repr__(self):\n        raise ValueError('no repr')\nWorse()"),
        "list(range(2000))",
        "{'b': {1, 2}, 'a': 'x' * 100, 'c': ['y' * 60] * 3}",
        "pd.DataFrame([list(range(40))] * 3)",
        "print(pd.DataFrame([list(range(40))]))",
        "pd.DataFrame({'a': range(100)})",
        "pd.DataFrame({'a': [1]}).style.set_uuid('x').format('{:.2f}')",
        "import numpy as np\nnp.arange(3000), np.float64(1.5)",
        "get_ipython().ast_node_interactivity = 'all'",
        "1\n2",
        "get_ipython().ast_node_interactivity = 'last_expr'",
        "1\n",
        "_, __, ___, _i[:5], len(_oh) > 1",
        "# only a comment",
        "   \n\n1",
        "from __future__ import annotations\ndef g(x: Undefined): return 1",
    ],
    "display": [
        "handle = display('first', display_id='id')\nprint('between')",
        "handle.update('second')",
        "display('third', display_id='id')",
        "from IPython.display import clear_output\nprint('a'); display('b'); clear_output(); print('c')",
        "print('a'); clear_output(wait=True)",
        "print('a'); clear_output(wait=True); print('b')",
        "for i in range(3):\n    clear_output(wait=True); display(i)",
        "from IPython.display import DisplayHandle, update_display\n"
        "update_display('again', display_id='id'); update_display('nobody', display_id='unknown')",
        "d = DisplayHandle(); d.display(1); d.update(2); d.display(3)",
        "display(); display(None); display('a', 'b')",
        "display('kept', include=['text/plain']); display(df, exclude=['text/html'])",
        "from IPython.display import JSON, Latex, Markdown\n"
        "display(Markdown('x'), Latex('$x$'), JSON({'a': 1}))",
        "from IPython.display import HTML, SVG, Code, GeoJSON, IFrame, Javascript, Math, Pretty\n"
        "display(HTML('<i>'), SVG('<svg/>'), Math('x'), Javascript('1'), Code('x=1'), Pretty('p'))\n"
        "display(GeoJSON({'type': 'Point', 'coordinates': [1, 2]}))\n"
        "IFrame('http://x', 1, 2)",
        "display({'image/png': b'abc', 'text/plain': 'x'}, raw=True, metadata={'image/png': {'width': 1}})",
        raises("display({'application/json': object()}, raw=True)\n1"),
    ],
    "streams": [
        Cell(
            "import sys\n"
            "print('1'); sys.stdout.flush(); print('2', file=sys.stderr); sys.stderr.flush()\n"
            "print('3'); sys.stdout.flush(); display('4'); print('5')",
            ordered=True,
        ),
        # A kernel reads the descriptors in threads, which may come too late for the cell.
        "import os, time\ndef settle(): time.sleep(0.1); sys.stdout.flush(); sys.stderr.flush()",
        "os.system('echo os'); os.write(2, b'raw\\n'); settle()",
        "os.write(1, b'one\\n'); os.write(1, b'\\xff\\n'); settle()",
        "import subprocess\n"
        "subprocess.run(['sh', '-c', 'echo sub; echo err >&2']); settle()\n"
        "subprocess.check_output(['echo', 'kept'])",
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.puts(b'from C'); libc.fflush(None); settle()",
        "print('a\\rb'); print('\\x1b[31mred\\x1b[0m')",
        "for i in range(3): print(f'\\r{i}', end='')",
        "print('a\\x08b\\tc\\x00d\\u2028e\\U0001f600'); print('x' * 5000)",
        "from tqdm import tqdm\nfor _ in tqdm(range(2), ncols=30, bar_format='{bar}'): pass",
        "for _ in tqdm(range(3)): pass",
        "sys.stdout.isatty(), sys.stdin.isatty(), sys.stdin.readline(), sys.stdout.writable()",
    ],
    "figures": [
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "fig, ax = plt.subplots()\nplt.show()\nprint('after')",
        "fig",
        "plt.figure(); plt.plot([1]); plt.figure(); plt.plot([2]); None",
        "plt.isinteractive(), plt.get_backend(), plt.get_fignums()",
        "import matplotlib\n"
        "defaults = matplotlib.rcParamsDefault\n"
        "sorted((k, str(v)) for k, v in matplotlib.rcParams.items() if defaults[k] != v)",
        "fig, ax = plt.subplots(figsize=(2, 1)); ax.plot([1, 2]); display(fig); plt.close(fig)",
        "from matplotlib.figure import Figure\nFigure(figsize=(1, 1))",
        "plt.plot([1]); plt.savefig('x.png'); plt.close(); os.path.exists('x.png')",
        "import matplotlib_inline.backend_inline as b\nb.set_matplotlib_formats('svg')\nplt.plot([1]);",
        "%config InlineBackend.figure_formats = ['png', 'svg']\nplt.plot([1, 3]); plt.title('both');",
        "%config InlineBackend.close_figures = False\nopen_fig = plt.figure(figsize=(1, 1)); 1",
        "plt.close('all')\n%config InlineBackend.close_figures = True\n%matplotlib inline",
    ],
    "magics": [
        "%%bash\necho hi; echo err >&2",
        raises("%%bash\nexit 3"),
        "%%sh\necho sh",
        "%%script --out kept cat\nsome",
        "kept",
        "%%html\n<b>x</b>",
        "%%markdown\n*x*",
        "%%javascript\n1",
        "!echo sys",
        "lines = !echo a\nlines",
        "name = 'v'\n!echo {name} $name",
        "!exit 3\n_exit_code",
        "%load_ext autoreload",
        "%reload_ext autoreload\n%autoreload 2",
        raises("%load_ext no_such_extension"),
        "%%capture caught\nprint('hidden')",
        "caught.stdout",
        "%%writefile script.py\nprint('w', __name__); v = 3",
        "v = 0\n%run script.py\nv",
        "%run -i script.py\n",
        "%timeit -n1 -r1 pass",
        "%%timeit -n1 -r1 z = 1\nz + 1",
        "t = %timeit -o -q -n1 -r1 pass\ntype(t)",
        "%time 1 + 1",
        "%%time\n2 + 3",
        "%who str",
        "%cd -q ..\n%cd -q -\nos.listdir('..') == os.listdir('../../same')",
        "%precision 2\n3.14159",
        "%precision\n",
        "%alias hi echo hi %s\n%hi you",
        "%psearch zzz*",
        "%pinfo len",
        "%pinfo2 str.upper",
        raises("%no_such_magic"),
        raises("%%no_such_cell_magic\nx"),
    ],
    "await": [
        "import asyncio\nawait asyncio.sleep(0)\n5",
        "async def f():\n    return 7\nawait f()",
        "async def later():\n"
        "    await asyncio.sleep(0.01)\n"
        "    return 'later'\n"
        "task = asyncio.ensure_future(later())\n"
        "await asyncio.sleep(0)",
        "await task",
        "async with asyncio.timeout(1):\n    print('in')",
        "await asyncio.gather(later(), later())",
    ],
    "concurrency": [
        "from threading import Thread\nt = Thread(target=lambda: print('thread'))\nt.start(); t.join()",
        "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor\n"
        "def square(x):\n"
        "    print('square', x)\n"
        "    return x * x\n"
        "with ThreadPoolExecutor(1) as pool:\n"
        "    print(list(pool.map(square, range(3))))",
        "with ProcessPoolExecutor(1) as pool:\n    print(list(pool.map(square, range(2))))",
        "def fail(x):\n"
        "    raise KeyError(x)\n"
        "with ProcessPoolExecutor(1) as pool:\n"
        "    error = pool.submit(fail, 2).exception()\n"
        "type(error.__cause__).__name__, 'in fail' in str(error.__cause__)",
        "import multiprocessing\n"
        "with multiprocessing.Pool(2) as pool:\n"
        "    result = pool.map(abs, range(-3, 0))\n"
        "result, multiprocessing.get_start_method(), multiprocessing.current_process().name",
        "p = multiprocessing.Process(target=print, args=('from it',))\n"
        "p.start(); p.join(); print(p.exitcode)",
        "from joblib import Parallel, delayed\n"
        "Parallel(n_jobs=2)(delayed(lambda x: x * 2)(i) for i in range(4))",
        "Parallel(n_jobs=2, backend='threading')(delayed(square)(i) for i in range(1))",
    ],
    "logging and warnings": [
        "import logging\n"
        "log = logging.getLogger('flow.part'); log.info('hidden'); log.error('shown')\n"
        "logging.getLogger().handlers, logging.getLogger().level",
        "logging.basicConfig(level=logging.INFO, format='%(name)s %(levelname)s %(message)s')\n"
        "log.info('shown'); logging.info('root'); logging.getLogger().handlers[0].stream is sys.stderr",
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('caught')",
        "import warnings\nwarnings.warn('careful'); warnings.warn('careful')",
        "def old(): warnings.warn('old', DeprecationWarning, stacklevel=2)\n"
        "old(); old()\n"
        "warnings.warn('future', FutureWarning)",
        "warnings.warn('hidden', ResourceWarning); warnings.warn('p', PendingDeprecationWarning); None",
        "np.array([1.0]) / 0",
        "np.log(-1.0)",
    ],
    "errors": [
        raises("raise ValueError('expected')"),
        raises(
            "def g():\n"
            "    raise KeyError('k')\n"
            "try:\n"
            "    g()\n"
            "except KeyError as exc:\n"
            "    raise ValueError('v') from exc"
        ),
        raises("try:\n    int('x')\nexcept ValueError:\n    raise KeyError('during')"),
        raises("raise ValueError('alone') from None"),
        raises("e = ValueError('noted'); e.add_note('a note'); raise e"),
        raises("raise ExceptionGroup('g', [ValueError(1), TypeError(2)])"),
        raises("raise KeyboardInterrupt('k')"),
        raises("assert 1 == 2, 'unequal'"),
        raises("undefined_name"),
        raises("import no_such_module"),
        raises("df['b']"),
        raises("def deep(n):\n    return deep(n - 1) if n else 1 / 0\ndeep(3)"),
        raises("(1 +\n 2 +\n None)"),
        raises("eval('1 +')"),
        raises("input('question')"),
        raises("import getpass\ngetpass.getpass()"),
    ],
    "tags": [
        Cell("1 / 0", ["skip-execution"]),
        Cell("print('shown with' + 'out its source')", ["remove-input"]),
        Cell("print('not ' + 'shown')", ["remove-output"]),
    ],
    "widgets": [
        "import ipywidgets\nipywidgets.IntSlider(value=3)",
        "button = ipywidgets.Button(description='go'); display(button)",
        "ipywidgets.VBox([button])",
        "from tqdm.auto import tqdm as auto\nfor _ in auto(range(3)): pass",
    ],
    "process": [
        "__name__, __doc__, '__file__' in globals(), sys.modules['__main__'].__name__",
        "get_ipython().__class__.__name__, 'IPKernelApp' in get_ipython().config",
        "os.environ['TERM'], os.environ['MPLBACKEND'], os.environ.get('KMP_INIT_AT_FORK')",
        "pd.get_option('display.max_columns'), pd.get_option('display.width')",
        "sorted(np.get_printoptions().items(), key=str), np.geterr()",
        "import locale, time\nlocale.getlocale(), time.tzname, locale.getpreferredencoding()",
        "[str(s) for s in __import__('gc').get_threshold()], sys.getrecursionlimit()",
        "%env DUCTAFLOW_TEST=1\n!echo $DUCTAFLOW_TEST",
    ],
    "exit": [
        "import sys\nsys.exit(3)",
        "print('never')",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Different:
    """A cell that ours treat differently on purpose; what it shows as text."""

    why: str
    source: str
    kernel: str
    ours: str


DIFFERENT = [
    Different(
        "what is written straight to the descriptors keeps its order; a kernel knows more of its streams",
        "os.write(1, b'one\\n'); os.write(2, b'two\\n'); os.write(1, b'three\\n'); settle()",
        "one\nthree\ntwo\n",
        "one\ntwo\nthree\n",
    ),
    Different(
        "what C prints is there at once; in a kernel it waits for its own buffer to be full",
        "libc.puts(b'waits'); settle(); print('later')",
        "later\n",
        "waits\nlater\n",
    ),
    Different(
        "a flow is a script as well, where `asyncio.run` is the way; a kernel's own loop forbids it",
        "async def one(): return 1\n"
        "coroutine = one()\n"
        "try:\n"
        "    print(asyncio.run(coroutine))\n"
        "except RuntimeError as exc:\n"
        "    print(exc); coroutine.close()",
        "asyncio.run() cannot be called from a running event loop\n",
        "1\n",
    ),
    Different(
        "the flow is called as a script is: `argparse` in it finds no arguments of ours",
        "len(sys.argv), os.path.basename(sys.argv[0])",
        "(4, 'ipykernel_launcher.py')",
        "(1, 'same.py')",
    ),
    Different(
        "the folders of the flow and of the project come first, the run folder is not among them",
        "[os.path.basename(entry) for entry in sys.path[:1]], '' in sys.path",
        None,  # type: ignore[arg-type]  # the first entry of a kernel depends on how this Python was installed
        "(['flows'], False)",
    ),
    Different(
        "an exception whose text raises is told as itself",
        "class Broken(Exception):\n"
        "    def __str__(self):\n"
        "        raise RuntimeError('no text')\n"
        "raise Broken",
        "RuntimeError: no text" * 2,
        "Broken: <Broken whose text raises RuntimeError>",
    ),
]

#: Errors of syntax, in a flow of their own: its file as a whole is no Python.
SYNTAX: list[str | Cell] = [
    raises("x = (1,\n"),
    raises("def f():\nreturn 1"),
    raises("if True:\n    x = 1\n  y = 2"),
    raises("print('before')\nx = = 2"),
    raises("print 1"),
    raises("break"),
    "'still runs'",
    "def f(x):\n"
    "    raise KeyError(x)\n"
    "try:\n"
    "    f(1)\n"
    "except KeyError as exc:\n"
    "    raise ValueError('the end') from exc",
    "'never'",
]

#: What a run finds of its process: a warm one shall have nothing of what went on in it before.
STATE = {
    "sys": "sys.argv, sys.path, sys.warnoptions, sys._xoptions, sys.flags, sys.getrecursionlimit()",
    "hooks": "sys.displayhook, sys.excepthook, sys.unraisablehook, sys.breakpointhook, sys.gettrace()",
    "main": "sorted(globals()), sys.modules['__main__'].__dict__ is globals()",
    # A finder of ours has what pandas and matplotlib import at their first use, until it is imported.
    "import system": "[str(m) for m in (*sys.meta_path, *sys.path_hooks) if type(m).__name__ != 'Shelf']",
    "streams": "sys.stdin.name, sys.stdout, sys.stderr, sys.__stdout__.fileno(), sys.__stderr__.fileno()",
    "directory": "os.path.basename(os.getcwd()) in ('warm', 'fresh'), _dh[0] == os.getcwd()",
    "files": "sorted(os.listdir())",
    "environment": "sorted(item for item in os.environ.items() if item[0] not in own)",
    "signals": "[(s, signal.getsignal(s)) for s in sorted(signal.valid_signals()) if s not in (9, 19)]",
    "signal mask": "signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.set_wakeup_fd(-1)",
    "process": "os.getpgid(0) == os.getpid(), os.umask(0o22), os.nice(0)",
    "descriptors": "[name for name in os.listdir('/proc/self/fd') if int(name) < 3]",
    "limits": "resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)",
    "threads": "[thread.name for thread in threading.enumerate()], type(threading.current_thread())",
    "processes": "multiprocessing.active_children(), multiprocessing.current_process().name",
    "locale and time": "locale.setlocale(locale.LC_ALL), time.tzname, time.localtime(0)",
    "asyncio": "type(asyncio.get_event_loop_policy()), asyncio._get_running_loop()",
    "collector": "gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks",
    "logging": "logging.root.handlers, logging.root.level, logging.root.manager.disable",
    "loggers": "[(name, log.level, log.handlers) for name, log in loggers if name[:9] != 'ductaflow']",
    "warnings": "sorted(map(str, warnings.filters)), sorted(warnings.onceregistry)",
    "registries": "[name for name in sorted(sys.modules) if len(registry(name)) > 1]",
    "temporary files": "tempfile.tempdir, tempfile.gettempdir()",
    "pandas": "[(key, pd.get_option(key)) for key in ('display.max_columns', 'display.width')]",
    "numpy": "np.get_printoptions(), np.geterr()",
    "matplotlib": "sorted((k, str(v)) for k, v in matplotlib.rcParams.items())",
    "pyplot": "plt.isinteractive(), plt.get_backend(), plt.get_fignums(), matplotlib.get_cachedir()",
    "shell": "get_ipython().events.callbacks, get_ipython().colors, get_ipython().configurables",
    "formatters": "[(k, sorted(map(str, f.type_printers))) for k, f in formatters.items()]",
    "extensions": "get_ipython().extension_manager.loaded, get_ipython().input_transformers_post",
    "builtins": "sorted(vars(builtins)), input, builtins.open, builtins.print",
    "history": "len(In), len(Out), get_ipython().execution_count",
}
BEFORE_STATE = """
import asyncio, builtins, gc, locale, logging, multiprocessing, os, resource, signal, sys, tempfile, threading
import time, warnings
import matplotlib, matplotlib.pyplot as plt
import numpy as np
import pandas as pd
# what is of the run, and what a package set that another flow imports
own = ('DUCTAFLOW_RUN', 'DUCTAFLOW_SERVER', 'DUCTAFLOW_PAGES', 'KMP_INIT_AT_FORK')
loggers = sorted(logging.root.manager.loggerDict.items())
loggers = [(name, log) for name, log in loggers if getattr(log, 'handlers', ())]
formatters = get_ipython().display_formatter.formatters
def registry(name): return getattr(sys.modules[name], '__warningregistry__', ())
"""


# --- what runs once ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One notebook, executed with one engine."""

    notebook: nbformat.NotebookNode
    html: str
    result: Result

    @property
    def cells(self) -> list[nbformat.NotebookNode]:
        """The code cells without those of the parameters; papermill's banner of an error is none."""
        cells = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        return [c for c in cells if not {"parameters", "injected-parameters"} & set(c.metadata.tags)]


def write_flow(root: Path, name: str, cells: list[str | Cell]) -> None:
    """A percent notebook, as jupytext writes one: with its magics as comments."""
    new = nbformat.v4.new_code_cell
    made = [new("config = {}", metadata={"tags": ["parameters"]})]
    for cell in (cell if isinstance(cell, Cell) else Cell(cell) for cell in cells):
        made.append(new(cell.source, metadata={"tags": cell.tags} if cell.tags else {}))
    text = jupytext.writes(nbformat.v4.new_notebook(cells=made), fmt="py:percent")
    (root / "flows" / f"{name}.py").write_text(text, encoding="utf-8")


def run(root: Path, flow: str, engine: str) -> Run:
    folder = root / "runs" / flow / engine
    with contextlib.suppress(FlowFailed):
        run_notebook(
            root / "flows" / f"{flow}.py",
            config={},
            execution_dir=folder,
            engine=None if engine == "warm" else engine,
            project_root=root,
            timeout=300,
        )
    result = read_result(folder)
    assert result is not None
    assert [] == list(folder.rglob(f"{TEMP_PREFIX}*"))
    html = (folder / f"{flow}.html").read_text(encoding="utf-8")
    return Run(nbformat.read(folder / f"{flow}.ipynb", as_version=4), html, result)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "flows").mkdir()
    *topics, exits = SAME.values()
    different = [raises(cell.source) for cell in DIFFERENT]
    write_flow(root, "same", [*itertools.chain(*topics), *different, *exits])
    write_flow(root, "syntax", SYNTAX)
    write_flow(root, "state", [BEFORE_STATE, *STATE.values()])
    return root


@pytest.fixture(scope="module")
def runs(root: Path) -> Iterator[dict[tuple[str, str], Run]]:
    wanted = [("same", "kernel"), ("same", "fresh"), ("same", "warm"), ("syntax", "kernel")]
    wanted += [("syntax", "fresh"), ("syntax", "warm"), ("state", "fresh"), ("state", "warm")]
    with ThreadPoolExecutor(2) as pool, pytest.MonkeyPatch.context() as patch:
        # it would have C print at once in a kernel as well
        patch.delenv("PYTHONUNBUFFERED", raising=False)
        found = pool.map(lambda key: run(root, *key), wanted)
        yield dict(zip(wanted, found, strict=True))


def numbered() -> Iterator[tuple[str, int, Cell]]:
    """The cells of `SAME` with their topics and their places in the notebook."""
    place = itertools.count()
    for topic, cells in SAME.items():
        if topic == "exit":
            for _ in DIFFERENT:
                next(place)
        for cell in cells:
            yield topic, next(place), cell if isinstance(cell, Cell) else Cell(cell)


CELLS = [
    pytest.param(place, cell, id=f"{topic}-{cell.source.strip().splitlines()[0][:30]}")
    for topic, place, cell in numbered()
]

# --- what is compared --------------------------------------------------------------------------------------


def joined(outputs: list[dict[str, Any]], ordered: bool) -> list[dict[str, Any]]:
    """Outputs with neighbouring streams of one name joined; unless they are `ordered`, as a kernel sorts what
    came through its two pipes within its flush interval."""
    found: list[dict[str, Any]] = []
    for output in outputs:
        same = [
            o for o in found[-1 if ordered else -2 :] if o["output_type"] == "stream" == output["output_type"]
        ]
        same = [o for o in same if o["name"] == output["name"]]
        if same:
            same[0]["text"] += output["text"]
        else:
            found.append(dict(output))
    for i, (first, second) in enumerate(itertools.pairwise(found)):
        if not ordered and [first.get("name"), second.get("name")] == ["stderr", "stdout"]:
            found[i : i + 2] = [second, first]
    return found


def in_common(output: dict[str, Any]) -> dict[str, Any]:
    """What of an output does not depend on where its code stands in a file."""
    found = settled(output)
    if output["output_type"] == "error":
        ename = "JSON" if "JSON" in output["evalue"] else output["ename"]
        lines = "" if ename == "JSON" else cause_in_cell(output["traceback"])
        return {
            "ename": ename,
            "evalue": "" if ename == "JSON" else without_place(found["evalue"]),
            "lines": lines,
        }
    if output["output_type"] == "stream":
        # IPython's advice to people at a prompt, which a kernel gives after an exit
        advice = r".*UserWarning: To exit: use.*\n.*\n"
        found["text"] = re.sub(advice, "", without_place(found["text"]))
    return found if found.get("text") != "" else {}


def cause_in_cell(traceback: list[str]) -> str:
    """The line of the cell at which the last exception of a traceback came up, if it shows one."""
    plain = strip_ansi("\n".join(traceback)).rpartition("Traceback (most recent call last)")[2]
    found = re.search(r"^-+> *\d+ (.*)$", plain, re.MULTILINE)
    line = found[1].strip() if found else ""
    return "" if "get_ipython()" in line or line.startswith("# ") else line


def without_place(text: str) -> str:
    """A text without the names that a kernel and ours give to the code of a cell."""
    text = re.sub(r'/\S*(?:ipykernel_\d+/\d+|/flows/\w+)\.py(?::\d+|", line \d+)', "FILE", text)
    text = re.sub(r"\((?:\d+|same|syntax)\.py, line \d+\)", "(FILE)", text)
    return re.sub(r"on line \d+", "on LINE", text)


def settled(output: dict[str, Any]) -> dict[str, Any]:
    """An output without times, addresses and random names."""
    text = json.dumps(output, sort_keys=True, ensure_ascii=False)
    text = re.sub(r"\b0x[0-9a-f]+", "ADDRESS", text)
    text = re.sub(r"\b\d[\d.e+]* ?(?:ns|µs|μs|ms|s)\b|[\d.]+it/s", "TIME", text)
    text = re.sub(r'"model_id": "[0-9a-f]+"', '"model_id": "ID"', text)
    text = re.sub(r"<dc:date>[^<]*|(?<=[\"#])[mp][0-9a-f]{10}\b", "SVG", text)
    found: dict[str, Any] = json.loads(text)
    return found


def text_of(outputs: list[dict[str, Any]]) -> str:
    """All text of some outputs, standard output before standard error."""
    found = ""
    for output in joined(outputs, ordered=False):
        if output["output_type"] == "error":
            found += f"{output['ename']}: {output['evalue']}"
        else:
            found += output.get("text") or output["data"]["text/plain"]
    return found


# --- the tests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "cell"), CELLS)
def test_as_a_kernel(runs: dict[tuple[str, str], Run], place: int, cell: Cell) -> None:
    """Outputs, MIME types, texts, order, execution count and papermill's status are those of a kernel."""
    kernel, ours = (runs["same", engine].cells[place] for engine in ("kernel", "fresh"))

    assert cell.source.strip() == kernel.source.strip() == ours.source.strip()
    expected, found = (
        list(filter(None, map(in_common, joined(one.outputs, cell.ordered)))) for one in (kernel, ours)
    )
    assert expected == found
    assert kernel.execution_count == ours.execution_count
    for key in ("status", "exception"):
        assert kernel.metadata.papermill[key] == ours.metadata.papermill[key]


@pytest.mark.parametrize("place", range(len(SYNTAX)))
def test_errors_of_syntax_as_a_kernel(runs: dict[tuple[str, str], Run], place: int) -> None:
    """Errors of syntax, and the chain of exceptions that ends a run, are those of a kernel."""
    kernel, ours = (runs["syntax", engine].cells[place] for engine in ("kernel", "fresh"))

    assert list(map(in_common, kernel.outputs)) == list(map(in_common, ours.outputs))
    assert kernel.execution_count == ours.execution_count
    assert kernel.metadata.papermill.status == ours.metadata.papermill.status


@pytest.mark.parametrize("flow", ["same", "syntax"])
def test_a_warm_run_is_as_a_fresh_one(runs: dict[tuple[str, str], Run], flow: str) -> None:
    """To the letter: outputs, their order, tracebacks, counts and status of each cell."""
    fresh, warm = (runs[flow, engine].cells for engine in ("fresh", "warm"))

    assert len(fresh) == len(warm)
    for one, other in zip(fresh, warm, strict=True):
        assert list(map(settled, one.outputs)) == list(map(settled, other.outputs)), one.source
        assert one.execution_count == other.execution_count
        assert one.metadata.papermill.status == other.metadata.papermill.status


@pytest.mark.skipif(sys.platform != "linux", reason="warm runs are for Linux")
@pytest.mark.parametrize("flow", ["same", "syntax", "state"])
def test_a_warm_run_was_warm(runs: dict[tuple[str, str], Run], flow: str) -> None:
    """None of them fell back to a fresh interpreter."""
    assert "interpreter" not in runs[flow, "warm"].result.message


@pytest.mark.skipif(sys.platform != "linux", reason="warm runs are for Linux")
@pytest.mark.parametrize("what", STATE)
def test_a_warm_run_finds_a_process_of_its_own(runs: dict[tuple[str, str], Run], what: str) -> None:
    """What a flow finds of its process is what it finds in a fresh one."""
    place = 1 + list(STATE).index(what)
    fresh, warm = (runs["state", engine].cells[place] for engine in ("fresh", "warm"))

    [expected], [found] = (list(map(settled, cell.outputs)) for cell in (fresh, warm))
    assert "execute_result" == expected["output_type"]
    assert expected["data"]["text/plain"] == found["data"]["text/plain"]


@pytest.mark.parametrize("place", range(len(DIFFERENT)), ids=[cell.why[:40] for cell in DIFFERENT])
def test_what_differs_on_purpose(runs: dict[tuple[str, str], Run], place: int) -> None:
    """Each of them says why."""
    cell = DIFFERENT[place]
    first = sum(len(cells) for topic, cells in SAME.items() if topic != "exit")
    kernel, *ours = (runs["same", e].cells[first + place] for e in ("kernel", "fresh", "warm"))

    assert cell.kernel in (None, text_of(kernel.outputs))
    assert [cell.ours] * 2 == [text_of(one.outputs) for one in ours]


@pytest.mark.parametrize("engine", ENGINES)
def test_tags_for_the_page(runs: dict[tuple[str, str], Run], engine: str) -> None:
    """`remove-input` and `remove-output` are for the page; the notebook has both parts."""
    run = runs["same", engine]
    sources = "\n".join(cell.source for cell in run.cells)

    assert "out its source&#39;" not in run.html
    assert "shown without its source" in run.html
    assert "not shown" not in run.html
    assert "'shown with' + 'out its source'" in sources
    assert any("not shown\n" == text_of(cell.outputs) for cell in run.cells)


@pytest.mark.parametrize("engine", ["warm", "fresh"])
def test_same_metadata(runs: dict[tuple[str, str], Run], engine: str) -> None:
    """The notebook's metadata are those of a kernel, and papermill's keys are there.

    The state of widgets is a kernel's alone: ours shows them by their text.
    """
    kernel, ours = runs["same", "kernel"].notebook.metadata, runs["same", engine].notebook.metadata

    assert kernel.language_info == ours.language_info
    assert kernel.kernelspec == ours.kernelspec
    assert set(kernel.papermill) == set(ours.papermill)
    assert set(kernel) - {"widgets"} == set(ours)


@pytest.mark.parametrize("engine", ENGINES)
def test_how_they_ended(runs: dict[tuple[str, str], Run], engine: str) -> None:
    """All engines judge alike: an exit with a code, and an exception."""
    same, syntax = (runs[flow, engine].result for flow in ("same", "syntax"))

    assert ("exit", 3) == (same.cause, same.exit_code)
    assert "exception" == syntax.cause
    assert syntax.failure is not None
    assert ("ValueError", "the end") == (syntax.failure.ename, syntax.failure.evalue)
    assert syntax.failure.source[2]["text"].strip() == "raise ValueError('the end') from exc"
