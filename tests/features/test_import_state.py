"""What a package keeps from its import is as in a new process: a fork seeds it anew, or imports it itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import TinyProject, TinyPython

from ductaflow.execution import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform"),
]

SESSION = """
import os, sys
from ductaflow.session.runner import run_notebook
for instance in ("a", "b"):
    if len(sys.argv) > 1:
        os.environ["SETTING"] = instance
    run_notebook("flows/fit.py", config={}, execution_dir=f"runs/fit/{instance}", export_html=False)
"""


def two_runs(
    project: TinyProject, tmp_path: Path, packages: dict[str, str], code: str, *arguments: str
) -> tuple[list[str], list[str], str]:
    """The lines that two runs of a session print, and what their results say."""
    python = TinyPython(tmp_path / "venv")
    for name, text in packages.items():
        python.package(name, text)
    project.flow("fit", f"# %%\n{code}")
    (project.root / "go.py").write_text(SESSION)
    printed = python.run(project.root, "go.py", *arguments)
    assert (project.folder("fit", "b") / "result.json").exists(), printed
    notes = " ".join(project.result("fit", instance).message for instance in ("a", "b"))
    first, second = (
        (project.folder("fit", instance) / "fit_execution_output.txt").read_text().splitlines()[1:-1]
        for instance in ("a", "b")
    )
    return first, second, notes


@pytest.mark.parametrize(
    "state",
    [
        "import random; RNG = random.Random(); draw = RNG.random",
        "import random\nclass Mine(random.Random): pass\nRNG = {'a': Mine()}; draw = RNG['a'].random",
        "import numpy as np; RNG = np.random.default_rng(); draw = RNG.random",
        "import numpy as np; RNG = np.random.RandomState(); draw = RNG.random_sample",
        "import numpy as np; RNG = np.random.default_rng(); draw = lambda: RNG.spawn(1)[0].random()",
        "import numpy as np\ndef draw(rng=np.random.default_rng()): return rng.random()",
    ],
)
def test_generators_are_seeded_anew(project: TinyProject, tmp_path: Path, state: str) -> None:
    """A generator that a package makes at its import draws other numbers in each run, and stays warm."""
    first, second, notes = two_runs(
        project, tmp_path, {"lib": state + "\n"}, "import lib\nprint(lib.draw(), lib.draw())\n"
    )
    assert set() == set(first[0].split()) & set(second[0].split())
    assert "" == notes.strip()


@pytest.mark.parametrize(
    ("state", "why"),
    [
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
    ],
)
def test_what_cannot_be_made_as_new(project: TinyProject, tmp_path: Path, state: str, why: str) -> None:
    """A package with a value of its process is imported by each run, and a note says why."""
    first, second, notes = two_runs(
        project, tmp_path, {"lib": state + "\n"}, "import lib\nprint(lib.VALUE)\n"
    )
    assert first != second
    assert "lib" in notes
    assert why in notes
    if "directory" in why:
        assert [str(project.folder("fit", "a"))] == first


@pytest.mark.parametrize(
    "found",
    [
        "import __main__\ndef names(): return vars(__main__)",
        "import __main__\nNAMES = vars(__main__)\ndef names(): return NAMES",
        "import sys\ndef names(main=sys.modules['__main__']): return vars(main)",
        "import sys\nclass K:\n    main = [sys.modules['__main__']]\ndef names(): return vars(K.main[0])",
    ],
)
def test_a_package_that_keeps_main(project: TinyProject, tmp_path: Path, found: str) -> None:
    """It keeps the `__main__` of the flow, as dill does, which saves and restores it."""
    first, second, notes = two_runs(
        project, tmp_path, {"lib": found + "\n"}, "import lib\nx = 3\nprint(lib.names()['x'])\n"
    )
    assert ["3"] == first == second
    assert "lib is not kept warm: it keeps `__main__`" in notes


@pytest.mark.parametrize(
    "begin",
    [
        "PLACE = tempfile.mkdtemp(); atexit.register(shutil.rmtree, PLACE)",
        "KEPT = tempfile.TemporaryDirectory(); PLACE = KEPT.name",
        "PLACE = os.path.join(tempfile.gettempdir(), f'lib-{os.getpid()}'); os.mkdir(PLACE); "
        "atexit.register(shutil.rmtree, PLACE)",
        "PLACE = os.path.abspath('cache'); os.makedirs(PLACE); atexit.register(shutil.rmtree, PLACE)",
    ],
)
def test_a_folder_that_a_package_makes(project: TinyProject, tmp_path: Path, begin: str) -> None:
    """Each run has its own, which its own end removes."""
    first, second, notes = two_runs(
        project,
        tmp_path,
        {"lib": f"import atexit, os, shutil, tempfile\n{begin}\n"},
        "import lib\nopen(lib.PLACE + '/x', 'x').close()\nprint(lib.PLACE)\n",
    )
    assert first != second
    assert [] == [path for path in (*first, *second) if Path(path).exists()]
    assert "lib is not kept warm" in notes


def test_a_file_that_an_import_writes(project: TinyProject, tmp_path: Path) -> None:
    """It is in the run folder of each run, as with `python`."""
    first, second, notes = two_runs(
        project,
        tmp_path,
        {"lib": "open('lib.log', 'a').write('imported\\n')\n"},
        "import lib\nprint(open('lib.log').read().strip())\n",
    )
    assert ["imported"] == first == second
    assert "makes files" in notes


def test_a_seed_of_the_global_generator(project: TinyProject, tmp_path: Path) -> None:
    """A package that seeds it at import makes runs alike, as with `python`."""
    packages = {"lib": "import random; random.seed(1)\n"}
    first, second, notes = two_runs(
        project, tmp_path, packages, "import lib, random\nprint(random.random())\n"
    )
    assert ["0.13436424411240122"] == first == second
    assert "changes the global random numbers" in notes


def test_files_that_a_package_holds(project: TinyProject, tmp_path: Path) -> None:
    """They are never the flow's own: the package is imported by the run, and no descriptor is pulled away."""
    lib = """
    from pathlib import Path
    path = Path(__file__).with_name("t.txt")
    path.write_text("row-of-the-package\\n")
    files = [path.open() for _ in range(8)]
    def row(n):
        files[n].seek(0)
        return files[n].readline().strip()
    """
    code = "import lib\nout = [open(f'out{i}.csv', 'w+') for i in range(4)]\n"
    code += "for n in range(8):\n    out[n % 4].write('secret'); out[n % 4].flush(); print(lib.row(n))\n"
    first, second, notes = two_runs(project, tmp_path, {"lib": lib}, code)
    assert ["row-of-the-package"] * 8 == first == second
    assert "opens files or sockets" in notes


def test_variables_that_a_package_reads(project: TinyProject, tmp_path: Path) -> None:
    """A run whose variables differ from those that a package read at import has them all the same."""
    packages = {"lib": "import os; VALUE = os.environ.get('SETTING', 'none'); ALL = dict(os.environ)\n"}
    code = "import lib\nprint(lib.VALUE, lib.ALL.get('SETTING'))\n"
    first, second, _ = two_runs(project, tmp_path, packages, code, "set")
    assert (["a a"], ["b b"]) == (first, second)


def test_popular_packages_stay_warm(project: TinyProject, tmp_path: Path) -> None:
    """What seeds, reads and computes much at its import is no false alarm."""
    code = "import matplotlib.pyplot, numpy.random, pandas, PIL.Image, yaml\n"
    _, _, notes = two_runs(project, tmp_path, {}, code)
    assert "" == notes.strip()
