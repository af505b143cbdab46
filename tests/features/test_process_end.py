"""The end of a run: what a flow has written, closed or not, is there as an interpreter would leave it.

Most tests run one flow in two ways, warm and as plain `python flow.py`, and compare files and prints.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import sqlite3
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.execution import warm
from ductaflow.store.result import Result, Status

pytestmark = [
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform"),
]


def of_zip(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def of_sqlite(path: Path) -> object:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


READERS: dict[str, Callable[[Path], object]] = {
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".bz2": lambda path: bz2.decompress(path.read_bytes()),
    ".xz": lambda path: lzma.decompress(path.read_bytes()),
    ".zip": of_zip,
    ".db": of_sqlite,
}


def content(path: Path) -> object:
    """What a file says: of an archive what is in it, or that it is broken."""
    try:
        return READERS.get(path.suffix, Path.read_bytes)(path)
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as broken:
        return f"broken: {type(broken).__name__}"


def files_of(folder: Path) -> dict[str, object]:
    ours = ("result.json", "fit.ipynb", "fit_config.json", "fit_execution_output.txt")
    return {path.name: content(path) for path in folder.iterdir() if path.is_file() and path.name not in ours}


def printed(project: TinyProject) -> list[str]:
    """The lines that the flow printed, without header and closing line, and without where a traceback is."""
    log = (project.folder("fit", "a") / "fit_execution_output.txt").read_text(encoding="utf-8")
    return plain(log)[1:-1]


def plain(text: str) -> list[str]:
    """Lines without addresses, and of tracebacks without places: Python at its end shows no source."""
    lines = [re.sub(r"0x[0-9a-f]+", "0x", line) for line in text.splitlines()]
    return [line for line in lines if not line.startswith("  ")]


def as_script(project: TinyProject, code: str) -> tuple[dict[str, object], list[str]]:
    """Run the code with Python alone; return its files and what it printed."""
    folder = project.root / "plain"
    folder.mkdir()
    script = project.root / "plain.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-u", str(script)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return files_of(folder), plain(done.stdout)


def ran(project: TinyProject, code: str, engine: str = "warm") -> Result:
    return project.run_code(code, engine=engine)


CODES = {
    "text": "f = open('f.txt', 'w'); f.write('x' * 10)\n",
    "csv": "import csv\nw = csv.writer(open('f.csv', 'w', newline=''))\nw.writerows([['x', 1]] * 3)\n",
    "in a function": "def f():\n    pass\nf.file = open('f.txt', 'w')\nf.file.write('abc')\n",
    "binary": "f = open('f.bin', 'wb'); f.write(b'x' * 10)\n",
    "both": "f = open('f.bin', 'w+b'); f.write(b'x' * 10)\n",
    "wrapper": "import io\nf = io.TextIOWrapper(open('f.txt', 'wb')); f.write('abc')\n",
    "wrapper over gzip": """
        import gzip, io
        def f(): pass
        w = io.TextIOWrapper(io.BufferedWriter(gzip.GzipFile('f.gz', 'wb'))); w.write('abc')
        """,
    "gzip": "import gzip\ng = gzip.open('f.gz', 'wt'); g.write('hello\\n')\n",
    "bz2": "import bz2\ng = bz2.open('f.bz2', 'wt'); g.write('hello\\n')\n",
    "lzma": "import lzma\ng = lzma.open('f.xz', 'wt'); g.write('hello\\n')\n",
    "zip": "import zipfile\nz = zipfile.ZipFile('f.zip', 'w'); z.writestr('a', 'b')\n",
    "tar": """
        import tarfile, io
        t = tarfile.open('f.tar', 'w')
        info = tarfile.TarInfo('a'); info.size = 1; t.addfile(info, io.BytesIO(b'b'))
        """,
    "sqlite": """
        import sqlite3
        c = sqlite3.connect('f.db'); c.execute('create table t (x)'); c.execute('insert into t values (1)')
        c.commit(); c.execute('insert into t values (2)')
        """,
    "shelve": "import shelve\ns = shelve.open('s', writeback=True); s['a'] = [1]; s['a'].append(2)\n",
    "mmap": """
        import mmap
        f = open('f.bin', 'w+b'); f.write(bytes(10)); f.flush()
        m = mmap.mmap(f.fileno(), 10); m[:3] = b'abc'
        """,
    "C stdio": """
        import ctypes
        c = ctypes.CDLL(None); c.fopen.restype = ctypes.c_void_p
        f = c.fopen(b'f.txt', b'w'); c.fputs(b'hello', ctypes.c_void_p(f))
        """,
    "replaced stdout": "import sys\nsys.stdout = open('out.txt', 'w')\nprint('into the file')\n",
    "logging": """
        import logging, logging.handlers
        target = logging.FileHandler('f.log')
        memory = logging.handlers.MemoryHandler(1000, target=target)
        logging.getLogger('x').addHandler(memory)
        logging.getLogger('x').warning('kept')
        """,
    "order": """
        import atexit, weakref
        class D:
            def __init__(self, name): self.name = name
            def __del__(self): print('del', self.name, str(log.closed), flush=True); log.write(self.name)
        first = D('first')
        log = open('log.txt', 'w')
        def generate():
            try: yield 1
            finally: print('finally', flush=True)
        running = generate(); next(running)
        atexit.register(print, 'registered first', flush=True)
        finalizer = weakref.finalize(first, print, 'finalizer', flush=True)
        atexit.register(print, 'registered last', flush=True)
        cycle = [D('cycle')]; cycle.append(cycle)
        print('last line', flush=True)
        """,
    "errors at the end": """
        import atexit
        class D:
            def __del__(self): raise ValueError('from del')
        d = D()
        f = open('f.txt', 'w'); f.write('abc')
        """,
    "names in del": """
        import os, json
        class D:
            def __del__(self): print(json.dumps([VALUE, os.path.basename('a/b')]), flush=True)
        d = D()
        VALUE = 3
        """,
    "temporary": """
        import tempfile, atexit, os
        folder = tempfile.TemporaryDirectory(dir='.', prefix='folder')
        file = tempfile.NamedTemporaryFile(dir='.', prefix='file')
        atexit.register(lambda: print(sorted(os.listdir('.'))[-1][:4]))
        """,
    "threads": """
        import threading, time, atexit
        f = open('f.txt', 'w')
        def late():
            time.sleep(0.3); f.write('late'); print('late', flush=True)
        atexit.register(print, 'at exit', flush=True)
        threading.Thread(target=late).start()
        """,
    "pool": """
        from concurrent.futures import ThreadPoolExecutor
        import time
        pool = ThreadPoolExecutor(1)
        def work(n):
            time.sleep(0.2); open(f'f{n}.txt', 'w').write(str(n))
        for n in range(3): pool.submit(work, n)
        """,
    "daemon thread": """
        import threading
        f = open('f.txt', 'w'); f.write('abc')
        stop = threading.Event()
        threading.Thread(target=stop.wait, daemon=True).start()
        """,
    "displayed": "f = open('f.txt', 'w')\nf.write('abc')\nf\n",
    "closed over": """
        def make():
            f = open('f.txt', 'w')
            def write(text): f.write(text)
            return write
        write = make(); write('abc')
        """,
    "signal handler": """
        import signal
        f = open('f.txt', 'w'); f.write('abc')
        signal.signal(signal.SIGTERM, lambda *_: f.close())
        """,
}


@pytest.mark.parametrize("kind", CODES)
def test_the_end_is_that_of_an_interpreter(project: TinyProject, kind: str) -> None:
    """Files that are not closed, objects, handlers, threads: the same files and prints as with `python`."""
    code = CODES[kind]
    shows_nothing = "" if kind == "displayed" else "pass\n"
    result = ran(project, f"# %%\n{textwrap.dedent(code)}{shows_nothing}")
    files, lines = as_script(project, code)
    assert files == files_of(project.folder("fit", "a"))
    if kind != "displayed":
        assert lines == printed(project)
    assert result.status in (Status.SUCCESS, Status.WARNING), result.message


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["fresh", "kernel"])
def test_other_engines_end_alike(project: TinyProject, engine: str) -> None:
    """Files that a flow leaves open are complete with each engine."""
    ran(project, "# %%\nimport csv, gzip\n" + CODES["csv"] + CODES["gzip"], engine)
    files = {"f.csv": b"x,1\r\n" * 3, "f.gz": b"hello\n"}
    assert files == files_of(project.folder("fit", "a"))


@pytest.mark.parametrize(
    "last", ["1 / 0", "import sys; sys.exit(3)", "import sys; sys.exit(0)", "raise KeyboardInterrupt"]
)
def test_files_are_complete_whatever_ends_the_flow(project: TinyProject, last: str) -> None:
    """After an exception and an exit too, also where the frames of the traceback hold the files."""
    code = f"""
    # %%
    import gzip
    def write():
        inner = open('inner.txt', 'w')
        inner.write('abc')
        g.write('hello')
        {last}
    g = gzip.open('f.gz', 'wt')
    write()
    """
    ran(project, code)
    assert {"inner.txt": b"abc", "f.gz": b"hello"} == files_of(project.folder("fit", "a"))


@pytest.mark.parametrize(
    "keep",
    [
        "os.kept = write",
        "import json; json.JSONEncoder.kept = write",
        "import numpy as np; np.kept = D()",
        "import builtins; builtins.kept = D()",
        "import sys; sys.excepthook = write",
        "import functools; functools.kept = generate(); next(functools.kept)",
    ],
)
def test_what_older_modules_hold_is_complete_too(project: TinyProject, keep: str) -> None:
    """A flow may give its objects to a module that the warm server has imported long before."""
    code = f"""
    # %%
    import gzip, os
    import numpy
    def write(*_):
        pass
    class D:
        def __init__(self):
            self.file = open('d.txt', 'w')
        def __del__(self):
            self.file.write('del')
    def generate():
        try:
            yield
        finally:
            open('finally.txt', 'w').write('x')
    d = D()
    g = gzip.open('f.gz', 'wt')
    g.write('hello')
    {keep}
    """
    assert Status.SUCCESS is ran(project, code).status
    files = files_of(project.folder("fit", "a"))
    assert (b"del", b"hello") == (files["d.txt"], files["f.gz"])
    assert ("generate()" in keep) == ("finally.txt" in files)


def test_a_module_of_the_project_ends_too(project: TinyProject) -> None:
    """What a module of the project holds is complete, as what the flow itself holds."""
    (project.root / "helper.py").write_text("import gzip\ng = gzip.open('f.gz', 'wt')\ng.write('hello')\n")
    ran(project, "# %%\nimport helper\n")
    assert {"f.gz": b"hello"} == files_of(project.folder("fit", "a"))


HANGS = {
    "an exit handler": "import atexit, threading\natexit.register(threading.Event().wait)\n",
    "the end of an object": "import time\nclass D:\n    def __del__(self): time.sleep(3600)\nd = D()\n",
}


@pytest.mark.slow
def test_an_end_that_hangs(project: TinyProject) -> None:
    """It costs ten seconds and the run is a warning that says what hung."""
    cases = [(what, engine) for what in HANGS for engine in ("warm", "fresh")]

    def run(number: int) -> Result:
        what, engine = cases[number]
        return project.run_code(f"# %%\n{HANGS[what]}", flow=f"fit{number}", engine=engine)

    # All wait at the same time.
    with ThreadPoolExecutor(len(cases)) as pool:
        results = list(pool.map(run, range(len(cases))))
    for (what, engine), result in zip(cases, results, strict=True):
        assert Status.WARNING is result.status, (what, engine)
        said = f"ended 10 s after the last cell, while {what} still worked"
        assert said in result.warnings[0].text, (what, engine)


@pytest.mark.slow
def test_threads_that_work_are_waited_for(project: TinyProject) -> None:
    """Python waits for the work of a pool, longer than for what only hangs: all files are there."""
    code = """
    # %%
    from concurrent.futures import ThreadPoolExecutor
    import time
    pool = ThreadPoolExecutor(1)
    def work(n):
        time.sleep(4)
        open(f'f{n}.txt', 'w').write(str(n))
    for n in range(3):
        pool.submit(work, n)
    """
    assert Status.SUCCESS is ran(project, code).status
    assert ["f0.txt", "f1.txt", "f2.txt"] == sorted(files_of(project.folder("fit", "a")))


@pytest.mark.slow
def test_a_time_limit_holds_for_threads(project: TinyProject) -> None:
    """A thread that works on after the last cell ends with the time limit of the run."""
    result = ran_with_limit(
        project, "# %%\nimport threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n"
    )
    assert ("error", "timeout") == (result.status, result.cause)


def ran_with_limit(project: TinyProject, code: str) -> Result:
    return project.run_code(code, engine="warm", config={"_run": {"timeout": 2}})


@pytest.mark.slow
def test_a_script_ends_as_one(project: TinyProject) -> None:
    """`python flows/fit.py` leaves its objects until its exit handlers have run."""
    code = CODES["order"]
    project.config("flows/fit/a.json", who="a")
    source = project.flow("fit", "")
    source.write_text(
        "from ductaflow import load_cli_config\nconfig = load_cli_config('config/flows/fit/a.json')\n"
        + textwrap.dedent(code)
    )
    done = subprocess.run(
        [sys.executable, str(source)],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    _, lines = as_script(project, code)
    assert lines == [line for line in plain(done.stdout) if line in lines], done.stdout


@pytest.mark.slow
def test_files_of_scientific_libraries(project: TinyProject) -> None:
    """HDF5, netCDF and Parquet files that stay open are complete: their libraries write at the end."""
    h5py, netcdf, pq = map(pytest.importorskip, ("h5py", "netCDF4", "pyarrow.parquet"))
    code = """
    # %%
    import h5py, netCDF4, numpy as np, pyarrow as pa, pyarrow.parquet as pq
    h = h5py.File("a.h5", "w"); h["x"] = np.arange(10)
    n = netCDF4.Dataset("a.nc", "w"); n.createDimension("t", 5)
    v = n.createVariable("v", "f8", ("t",)); v[:] = 3.0
    t = pa.table({"x": [1, 2]})
    w = pq.ParquetWriter("a.parquet", t.schema); w.write_table(t)
    """
    assert Status.SUCCESS is ran(project, code).status
    folder = project.folder("fit", "a")
    with h5py.File(folder / "a.h5") as file:
        assert list(range(10)) == file["x"][:].tolist()
    with netcdf.Dataset(folder / "a.nc") as data:
        assert [3.0] * 5 == data["v"][:].tolist()
    assert [1, 2] == pq.read_table(folder / "a.parquet")["x"].to_pylist()
