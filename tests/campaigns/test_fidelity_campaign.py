"""Flows that read, write, draw, fork, spawn and await, in each way of running: the same files and numbers.

Each flow runs warm, fresh, as a script and in a kernel, and leaves the same files with the same content.
Packages that are not installed are left out, and say so.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import TinyProject

from ductaflow.common.paths import RESULT
from ductaflow.store.result import FlowFailed

pytestmark = pytest.mark.usefixtures("no_process_left")

HEAD = """
# %%
from ductaflow import is_notebook_execution, load_cli_config
if not is_notebook_execution():
    config = load_cli_config("config/flows/fit.json")
def save(value):
    with open("x.txt", "w") as file:
        file.write(str(value))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """Some cells, the packages that they need, and the ways in which they can run."""

    code: str
    needs: tuple[str, ...] = ()
    ways: tuple[str, ...] = ("warm", "fresh", "script", "kernel")
    #: Files that differ from run to run by themselves; that they are there counts.
    varies: tuple[str, ...] = ()


IN_NOTEBOOKS = ("warm", "fresh", "kernel")

CASES: dict[str, Case] = {
    "csv": Case("import csv\nw = csv.writer(open('x.csv', 'w'))\nw.writerow([config['n'], 2])"),
    "gzip": Case("import gzip\nz = gzip.GzipFile('x.gz', 'wb', mtime=0)\nz.write(b'text' * config['n'])"),
    "zip": Case(
        "import zipfile\nz = zipfile.ZipFile('x.zip', 'w')\n"
        "z.writestr(zipfile.ZipInfo('a.txt', (2000, 1, 1, 0, 0, 0)), 'a' * config['n'])"
    ),
    "sqlite": Case(
        "import sqlite3\nc = sqlite3.connect('x.db')\nc.execute('create table t (x)')\n"
        "c.execute('insert into t values (?)', (config['n'],))\nc.commit()\n"
        "c.execute('insert into t values (9)')"
    ),
    "atexit": Case("import atexit\natexit.register(lambda: save('end'))"),
    "finalize": Case("import weakref\nclass A: pass\na = A()\n_ = weakref.finalize(a, lambda: save('end'))"),
    "pickle": Case(
        "import pickle\nclass P:\n    def __init__(self): self.x = config['n']\n"
        "open('x.pkl', 'wb').write(pickle.dumps(P()))\n"
        "assert pickle.load(open('x.pkl', 'rb')).x == config['n']"
    ),
    "file": Case(
        "from pathlib import Path\nimport inspect\nclass A:\n    y = 1\n"
        "_ = Path('x.txt').write_text(Path(__file__).name + inspect.getsource(A))"
    ),
    "module": Case("import helper\nsave(helper.double(config['n']))"),
    "random": Case("import random\nrandom.seed(1)\nsave(random.random())"),
    "subprocess": Case(
        "import subprocess, sys\ncode = 'import pathlib; pathlib.Path(\"x.txt\").touch()'\n"
        "_ = subprocess.run([sys.executable, '-c', code], check=True)"
    ),
    "os.fork": Case(
        "import os\npid = os.fork()\nif pid == 0:\n    save('child')\n    os._exit(0)\n_ = os.waitpid(pid, 0)"
    ),
    "threads": Case(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(2) as pool:\n    out = list(pool.map(abs, [-1, -2]))\nsave(out)"
    ),
    "fork pool": Case(
        "import multiprocessing as mp\ndef f(x): return x * config['n']\n"
        "with mp.get_context('fork').Pool(2) as pool:\n    out = pool.map(f, [1, 2])\nsave(out)"
    ),
    "spawn pool": Case(
        "import multiprocessing as mp\ndef f(x): return x * config['n']\n"
        "if __name__ == '__main__':\n    with mp.get_context('spawn').Pool(2) as pool:\n"
        "        save(pool.map(f, [1, 2]))"
    ),
    "forkserver executor": Case(
        "import multiprocessing as mp\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "def f(x): return x * config['n']\nif __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(2, mp_context=mp.get_context('forkserver')) as pool:\n"
        "        save(list(pool.map(f, [1, 2])))"
    ),
    "asyncio.run": Case(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    save('y')\nasyncio.run(f())",
        ways=("warm", "fresh", "script"),
    ),
    "await": Case(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return config['n']\n"
        "t = asyncio.create_task(f())\n# %%\nsave(await t)",
        ways=IN_NOTEBOOKS,
    ),
    "comments": Case("# rm x.txt\nsave('y')\n# %%\n# rm x.txt\n# %s of it\ny = 1"),
    "magic": Case("# !echo one > x.txt\n# %store config\ny = 1", ways=IN_NOTEBOOKS),
    "pandas": Case(
        "import pandas as pd\nd = pd.DataFrame({'a': [1, 2] * config['n'], 'b': 1.5})\n"
        "d.groupby('a').sum().to_csv('x.csv')\nd.to_json('x.json')\nd.describe()",
        ("pandas",),
    ),
    "numpy": Case(
        "import numpy as np\nr = np.random.default_rng(1).normal(size=10)\nnp.save('x.npy', r)\n"
        "np.random.seed(2)\nnp.savetxt('x.txt', np.random.rand(3))",
        ("numpy",),
    ),
    "matplotlib": Case(
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, config['n']])\n"
        "fig.savefig('x.png', metadata={'Software': None})\nplt.close(fig)",
        ("matplotlib",),
    ),
    "pillow": Case("from PIL import Image\nImage.new('RGB', (8, 8), 'red').save('x.png')", ("PIL",)),
    "yaml": Case("import yaml\nyaml.safe_dump(config['n'], open('x.yml', 'w'))", ("yaml",)),
    "jinja2": Case("import jinja2\nsave(jinja2.Template('{{n}}').render(n=1))", ("jinja2",)),
    "tqdm": Case("from tqdm import tqdm\nsave(sum(tqdm(range(5))))", ("tqdm",)),
    "joblib": Case(
        "from joblib import Parallel, delayed, dump\ndef f(x): return x * 2\n"
        "save(Parallel(n_jobs=2)(delayed(f)(i) for i in range(4)))\ndump([1], 'x.joblib')",
        ("joblib",),
    ),
    "cloudpickle": Case(
        "import cloudpickle\ndef f(x): return x + config['n']\n"
        "save(cloudpickle.loads(cloudpickle.dumps(f))(1))",
        ("cloudpickle",),
    ),
    "dill": Case("import dill\nx = 1\ndill.dump_module('x.pkl')", ("dill",), varies=("x.pkl",)),
    "dask": Case("import dask\nsave(dask.delayed(sum)([1, config['n']]).compute())", ("dask",)),
    "plotly": Case(
        "import plotly.graph_objects as go\nopen('x.json', 'w').write(go.Figure(go.Bar(y=[1, 2])).to_json())",
        ("plotly",),
    ),
    "h5py": Case(
        "import h5py\nf = h5py.File('x.h5', 'w', track_order=False)\nf['x'] = list(range(config['n']))",
        ("h5py",),
        varies=("x.h5",),
    ),
    "polars": Case(
        "import polars as pl\n"
        "pl.DataFrame({'a': [1, 2, 2]}).group_by('a').len().sort('a').write_csv('x.csv')",
        ("polars",),
    ),
    "pyarrow": Case(
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "pq.write_table(pa.table({'a': [1, config['n']]}), 'x.parquet')",
        ("pyarrow",),
    ),
    "sklearn": Case(
        "from sklearn.linear_model import LinearRegression\nimport numpy as np\n"
        "m = LinearRegression().fit(np.arange(6.0).reshape(3, 2), [1, 2, 4])\nsave(m.coef_.round(9))",
        ("sklearn",),
    ),
    "openpyxl": Case(
        "import openpyxl\nb = openpyxl.Workbook()\nb.active.append([1, config['n']])\nb.save('x.xlsx')",
        ("openpyxl",),
        varies=("x.xlsx",),
    ),
    "requests": Case("import requests\nsave(requests.Request('GET', 'http://a').url)", ("requests",)),
    "msgspec": Case(
        "import msgspec\nopen('x.json', 'wb').write(msgspec.json.encode({'n': config['n']}))", ("msgspec",)
    ),
    "psutil": Case("import psutil, os\nsave(psutil.Process().pid == os.getpid())", ("psutil",)),
    "click": Case("import click\nsave(click.style('a'))", ("click",)),
    "rich": Case("from rich.text import Text\nsave(Text('a').plain)", ("rich",)),
    "sqlalchemy": Case(
        "import sqlalchemy as sa\ne = sa.create_engine('sqlite:///x.db')\n"
        "with e.begin() as c:\n    c.execute(sa.text('create table t (x)'))",
        ("sqlalchemy",),
    ),
    "scipy": Case("import scipy.stats\nsave(scipy.stats.norm.cdf(0))", ("scipy",)),
    "xarray": Case(
        "import xarray as xr\nxr.DataArray([1, 2]).to_series().to_csv('x.csv')", ("xarray", "pandas")
    ),
    "networkx": Case("import networkx as nx\nsave(nx.path_graph(3).edges)", ("networkx",)),
}
#: Runs with all other tests, warm and as a script.
SHORT = ("csv", "fork pool", "file", "pandas", "comments")


def leave(project: TinyProject, way: str, case: Case) -> dict[str, bytes | None]:
    """Run a flow one way; return the files that it left, with their content.

    Of a compressed file it is what was compressed: a kernel flushes it once more before it ends.
    """
    source = project.root / "flows" / "fit.py"
    folder = project.folder("fit", way)
    if way == "script":
        project.config(f"flows/fit/{way}.json", n=3)
        done = subprocess.run(
            [sys.executable, source, "--instance", way],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "MPLBACKEND": "agg"},
        )
        assert 0 == done.returncode, f"{way}: {done.stdout}{done.stderr}"
    else:
        project.config(f"flows/fit/{way}.json", n=3, _run={"engine": way, "timeout": 300})
        try:
            project.run(f"fit/{way}")
        except FlowFailed as failed:
            pytest.fail(f"{way}: {failed.result.message}")
    assert "success" == str(project.result("fit", way).status), way
    own = {path.name for path in folder.iterdir() if path.name.startswith("fit")} | {RESULT}
    return {
        path.name: None if path.name in case.varies else content(path)
        for path in sorted(folder.iterdir())
        if path.name not in own
    }


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def agree(project: TinyProject, case: Case, ways: tuple[str, ...]) -> None:
    for package in case.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (project.root / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    project.flow("fit", f"{HEAD}# %%\n{case.code}\n")
    left: Mapping[str, dict[str, bytes | None]] = {way: leave(project, way, case) for way in ways}
    first = next(iter(left.values()))

    assert first, "it left no file"
    assert dict.fromkeys(left, first) == left


@pytest.mark.campaign
@pytest.mark.parametrize("name", CASES)
def test_all_ways_agree(project: TinyProject, name: str) -> None:
    """A flow leaves the same files in each way of running."""
    agree(project, CASES[name], CASES[name].ways)


@pytest.mark.parametrize("name", SHORT)
def test_ways_agree(project: TinyProject, name: str) -> None:
    """A short selection, which runs with all tests: warm, and as a script."""
    agree(project, CASES[name], ("warm", "script"))


def test_the_cases_are_many() -> None:
    """The campaign has at least 25 packages."""
    assert 25 <= len({package for case in CASES.values() for package in case.needs})
    assert set(SHORT) <= set(CASES)
