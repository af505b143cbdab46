"""What a package keeps from its import is as in a new process: a fork seeds it anew, or imports it itself."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import TinyProject, TinyPython

from ductaflow.execution import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform"),
]

SESSION = """
import json, os, sys
from ductaflow.session.runner import run_notebook
flows, variables = json.loads(sys.argv[1])
for flow in flows:
    for instance in ("a", "b"):
        os.environ.update({name: instance for name in variables})
        folder = f"runs/{flow}/{instance}"
        run_notebook(f"flows/{flow}.py", config={}, execution_dir=folder, export_html=False)
"""


@dataclass(frozen=True)
class Two:
    """The lines that two runs of a flow print, and what their results say."""

    first: list[str]
    second: list[str]
    notes: str


def two_runs_each(
    project: TinyProject, tmp_path: Path, libraries: list[str], code: str, *variables: str
) -> list[Two]:
    """Run a flow twice for each library in one session; `LIB` in the code is the name of its library.

    The variables have another value in the second run.
    """
    python = TinyPython(tmp_path / "venv")
    flows = []
    for number, library in enumerate(libraries):
        python.package(f"lib{number}", f"{textwrap.dedent(library)}\n")
        flows.append(f"fit{number}")
        project.flow(flows[-1], f"# %%\n{code.replace('LIB', f'lib{number}')}")
    (project.root / "go.py").write_text(SESSION)
    printed = python.run(project.root, "go.py", json.dumps([flows, variables]))
    assert (project.folder(flows[-1], "b") / "result.json").exists(), printed
    return [_two(project, flow) for flow in flows]


def _two(project: TinyProject, flow: str) -> Two:
    folders = [project.folder(flow, instance) for instance in ("a", "b")]
    logs = [(folder / f"{flow}_execution_output.txt").read_text().splitlines()[1:-1] for folder in folders]
    notes = " ".join(project.result(flow, instance).message for instance in ("a", "b"))
    return Two(*logs, notes)


def two_runs(project: TinyProject, tmp_path: Path, library: str, code: str, *variables: str) -> Two:
    """Run a flow twice in one session."""
    [two] = two_runs_each(project, tmp_path, [library], code, *variables)
    return two


GENERATORS = [
    "import random; RNG = random.Random(); draw = RNG.random",
    "import random\nclass Mine(random.Random): pass\nRNG = {'a': Mine()}; draw = RNG['a'].random",
    "import numpy as np; RNG = np.random.default_rng(); draw = RNG.random",
    "import numpy as np; RNG = np.random.RandomState(); draw = RNG.random_sample",
    "import numpy as np; RNG = np.random.default_rng(); draw = lambda: RNG.spawn(1)[0].random()",
    "import numpy as np\ndef draw(rng=np.random.default_rng()): return rng.random()",
]


def test_generators_are_seeded_anew(project: TinyProject, tmp_path: Path) -> None:
    """A generator that a package makes at its import draws other numbers in each run, and stays warm."""
    runs = two_runs_each(project, tmp_path, GENERATORS, "import LIB\nprint(LIB.draw(), LIB.draw())\n")
    for library, two in zip(GENERATORS, runs, strict=True):
        assert set() == set(two.first[0].split()) & set(two.second[0].split()), library
        # What seeds the children of a generator of numpy 1 cannot be replaced.
        is_cold = np.__version__ < "2" and "numpy" in library
        assert is_cold == ("draws random numbers" in two.notes), library


#: What a package keeps, and what the note says of it.
KEPT = [
    ("import os; VALUE = os.getpid()", "keeps the process id"),
    ("import os; VALUE = os.getcwd()", "keeps the working directory"),
    ("from pathlib import Path; PLACES = {'here': Path.cwd()}; VALUE = PLACES['here']", "directory"),
    ("import datetime; VALUE = datetime.datetime.now()", "keeps the time"),
    ("import datetime; VALUE = datetime.datetime.now().isoformat()", "keeps the time"),
    ("import time; VALUE = time.time()", "keeps the time"),
    ("import os; VALUE = f'job-{os.getpid()}.lock'", "keeps the process id"),
    ("import tempfile; VALUE = tempfile.mkdtemp()", "makes files"),
    ("import tempfile; PLACE = tempfile.TemporaryDirectory(); VALUE = PLACE.name", "makes files"),
    ("import tempfile, os; f, VALUE = tempfile.mkstemp(); os.close(f)", "makes files"),
    ("import time\nclass C:\n    begun = time.monotonic()\nVALUE = C.begun", "keeps the time"),
    ("import uuid; VALUE = uuid.uuid4().hex", "draws random numbers"),
    ("import secrets; VALUE = secrets.token_hex()", "draws random numbers"),
    ("import random; VALUE = random.Random().random(); RNG = random.Random(); RNG.random()", "draws"),
    ("import random; VALUE = random.random()", "changes the global random numbers"),
]


def test_what_cannot_be_made_as_new(project: TinyProject, tmp_path: Path) -> None:
    """A package with a value of its process is imported by each run, and a note says why."""
    libraries = [library for library, _ in KEPT]
    runs = two_runs_each(project, tmp_path, libraries, "import LIB\nprint(LIB.VALUE)\n")
    for number, ((library, why), two) in enumerate(zip(KEPT, runs, strict=True)):
        assert two.first != two.second, library
        assert f"lib{number}" in two.notes, library
        assert why in two.notes, library
        if "directory" in why:
            assert [str(project.folder(f"fit{number}", "a"))] == two.first, library


FINDS_MAIN = [
    "import __main__\ndef names(): return vars(__main__)",
    "import __main__\nNAMES = vars(__main__)\ndef names(): return NAMES",
    "import sys\ndef names(main=sys.modules['__main__']): return vars(main)",
    "import sys\nclass K:\n    main = [sys.modules['__main__']]\ndef names(): return vars(K.main[0])",
]


def test_a_package_that_keeps_main(project: TinyProject, tmp_path: Path) -> None:
    """It keeps the `__main__` of the flow, as dill does, which saves and restores it."""
    runs = two_runs_each(project, tmp_path, FINDS_MAIN, "import LIB\nx = 3\nprint(LIB.names()['x'])\n")
    for number, (library, two) in enumerate(zip(FINDS_MAIN, runs, strict=True)):
        assert ["3"] == two.first == two.second, library
        assert f"lib{number} is not kept warm: it keeps `__main__`" in two.notes, library


MAKES_A_FOLDER = [
    "PLACE = tempfile.mkdtemp(); atexit.register(shutil.rmtree, PLACE)",
    "KEPT = tempfile.TemporaryDirectory(); PLACE = KEPT.name",
    "PLACE = os.path.join(tempfile.gettempdir(), f'lib-{os.getpid()}'); os.mkdir(PLACE); "
    "atexit.register(shutil.rmtree, PLACE)",
    "PLACE = os.path.abspath('cache'); os.makedirs(PLACE); atexit.register(shutil.rmtree, PLACE)",
]


def test_a_folder_that_a_package_makes(project: TinyProject, tmp_path: Path) -> None:
    """Each run has its own, which its own end removes."""
    libraries = [f"import atexit, os, shutil, tempfile\n{begin}" for begin in MAKES_A_FOLDER]
    code = "import LIB\nopen(LIB.PLACE + '/x', 'x').close()\nprint(LIB.PLACE)\n"
    runs = two_runs_each(project, tmp_path, libraries, code)
    for number, (library, two) in enumerate(zip(libraries, runs, strict=True)):
        assert two.first != two.second, library
        assert [] == [path for path in (*two.first, *two.second) if Path(path).exists()], library
        assert f"lib{number} is not kept warm" in two.notes, library


def test_a_file_that_an_import_writes(project: TinyProject, tmp_path: Path) -> None:
    """It is in the run folder of each run, as with `python`."""
    library = "open('lib.log', 'a').write('imported\\n')"
    two = two_runs(project, tmp_path, library, "import LIB\nprint(open('lib.log').read().strip())\n")
    assert ["imported"] == two.first == two.second
    assert "makes files" in two.notes


def test_a_seed_of_the_global_generator(project: TinyProject, tmp_path: Path) -> None:
    """A package that seeds it at import makes runs alike, as with `python`."""
    code = "import LIB, random\nprint(random.random())\n"
    two = two_runs(project, tmp_path, "import random; random.seed(1)", code)
    assert ["0.13436424411240122"] == two.first == two.second
    assert "changes the global random numbers" in two.notes


def test_files_that_a_package_holds(project: TinyProject, tmp_path: Path) -> None:
    """They are never the flow's own: the package is imported by the run, and no descriptor is pulled away."""
    library = """
    from pathlib import Path
    path = Path(__file__).with_name("t.txt")
    path.write_text("row-of-the-package\\n")
    files = [path.open() for _ in range(8)]
    def row(n):
        files[n].seek(0)
        return files[n].readline().strip()
    """
    code = "import LIB\nout = [open(f'out{i}.csv', 'w+') for i in range(4)]\n"
    code += "for n in range(8):\n    out[n % 4].write('secret'); out[n % 4].flush(); print(LIB.row(n))\n"
    two = two_runs(project, tmp_path, library, code)
    assert ["row-of-the-package"] * 8 == two.first == two.second
    assert "opens files or sockets" in two.notes


def test_variables_that_a_package_reads(project: TinyProject, tmp_path: Path) -> None:
    """A run whose variables differ from those that a package read at import has them all the same."""
    library = "import os; VALUE = os.environ.get('SETTING', 'none'); ALL = dict(os.environ)"
    code = "import LIB\nprint(LIB.VALUE, LIB.ALL.get('SETTING'))\n"
    two = two_runs(project, tmp_path, library, code, "SETTING")
    assert (["a a"], ["b b"]) == (two.first, two.second)


def test_popular_packages_stay_warm(project: TinyProject, tmp_path: Path) -> None:
    """What seeds, reads and computes much at its import is no false alarm."""
    code = "import matplotlib.pyplot, numpy.random, pandas, PIL.Image, yaml\n"
    assert "" == two_runs(project, tmp_path, "", code).notes.strip()


#: What packages have at the top; `PID` is the number of the process that imports them.
CONSTANTS = [
    ("SIZE = PID", []),
    ("SIZES = {'row': PID}; TEXT = 'port PID'", []),
    ("class Codec:\n    bits = PID", []),
    ("import os\nif os.getpid() < 0: raise OSError\nSIZE = PID", ["keeps the process id of its import"]),
    ("from os import getpid; OWN = getpid()", ["keeps the process id of its import"]),
    ("import threading; OWN = threading.get_native_id()", ["keeps the process id of its import"]),
    (
        "import multiprocessing; OWN = multiprocessing.current_process().pid",
        ["keeps the process id of its import"],
    ),
    ("from os import getpid, urandom\nfrom threading import get_native_id", []),
]
WATCH = """
import importlib, json, os, pathlib, sys, threading
from ductaflow.execution.import_state import ImportWatch
sys.path.insert(0, os.getcwd())
found = []
for number, code in enumerate(json.loads(sys.argv[1])):
    name = f"lib{number}"
    pathlib.Path(name + ".py").write_text(code.replace("PID", str(os.getpid())))
    with ImportWatch() as watch:
        module = importlib.import_module(name)
    found.append([why for why in watch.reasons() if "process" in why])
own = [module.getpid is os.getpid, module.urandom is os.urandom]
own.append(module.get_native_id is threading.get_native_id)
print(json.dumps([found, own]))
"""


def test_a_constant_is_not_the_process_id(tmp_path: Path) -> None:
    """In a container that is a small number, such as packages have many; it counts if it was asked for.

    Nor does a package that has the function by its name keep ours instead.
    """
    codes = json.dumps([code for code, _ in CONSTANTS])
    command = [sys.executable, "-c", WATCH, codes]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [[why for _, why in CONSTANTS], [True, True, True]] == json.loads(done.stdout)
