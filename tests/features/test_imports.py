"""What flows import: nobody can tell a warm run from a new interpreter, and no import costs another flow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from support import Session, TinyProject, command, is_alive, processes_of, wait_until

from ductaflow.execution import warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(not warm.is_possible(), reason="no warm server on this platform"),
]


class Installed:
    """A folder of packages that flows can import, and the environment of a session that has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def __call__(self, name: str, code: str = "") -> None:
        file = self._folder / Path(*name.split("."))
        for above in [*file.relative_to(self._folder).parents][:-1]:
            (self._folder / above).mkdir(exist_ok=True)
            (self._folder / above / "__init__.py").touch()
        file.with_suffix(".py").write_text(textwrap.dedent(code), encoding="utf-8")

    def entry_points(self, text: str) -> None:
        """Give the packages a distribution that has some entry points."""
        about = self._folder / "installed-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1\n")
        (about / "entry_points.txt").write_text(text)

    @property
    def env(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(self._folder), os.environ.get("PYTHONPATH", "")]))
        return {"PYTHONPATH": path, warm.SERVER: ""}


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path / "packages")


def flows(project: TinyProject, codes: Mapping[str, str], **run: object) -> None:
    """Flows with an instance each; `run` are the options of all."""
    for name, code in codes.items():
        project.flow(name, f"# %%\n{textwrap.dedent(code)}")
        project.config(f"flows/{name}/a.json", who="a", **({"_run": run} if run else {}))


def session(project: TinyProject, installed: Installed, *args: str, **env: str) -> Session:
    return project.pytest("--ductaflow-no-html", *args, env={**installed.env, **env}, timeout=100)


def log(project: TinyProject, flow: str) -> list[str]:
    text = (project.folder(flow, "a") / f"{flow}_execution_output.txt").read_text(encoding="utf-8")
    return text.splitlines()[1:-1]


def servers(installed: Installed) -> list[psutil.Process]:
    """The warm servers of sessions that have some packages, and their branches."""
    found = []
    for process in psutil.process_iter():
        try:
            is_server = "ductaflow.execution.server" in process.cmdline()
            if is_server and process.environ().get("PYTHONPATH") == installed.env["PYTHONPATH"]:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


# --- imports that do not come back -------------------------------------------------------------------------

STUCK = {
    "sleeps": "import time\ntime.sleep(3600)\n",
    "works": "while True:\n    pass\n",
    "locks": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n",
    "starts": "import subprocess\nsubprocess.run(['sleep', '3600'])\n",
    "ignores": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(3600)\n",
}
ENDS = {
    "leaves": ("import os\nos._exit(3)\n", "exit"),
    "exits": ("import sys\nsys.exit('no licence')\n", "exit"),
    "interrupts": ("raise KeyboardInterrupt\n", "interrupted"),
    "crashes": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "signal"),
    "asks": ("input('licence key? ')\n", "exception"),
    "fails": ("raise RuntimeError('no licence')\n", "exception"),
}


def test_an_import_that_never_ends(project: TinyProject, installed: Installed) -> None:
    """It costs the flow that reaches it, within its limit, and neither one that only names it nor others.

    The runs wait for their imports at the same time, each for more than ten seconds.
    """
    for kind, code in STUCK.items():
        installed(f"stuck_{kind}", code)
        flows(
            project,
            {
                f"early_{kind}": f"import stuck_{kind}\n",
                f"never_{kind}": f"if config['who'] == 'never':\n    import stuck_{kind}\nprint('not it')\n",
            },
            timeout=3,
        )
    flows(project, {"plain": "import json\nprint('plain')\n"}, timeout=3)
    done = session(project, installed, "-n", str(len(STUCK)))
    early, never = ({f"{name}_{kind}/a" for kind in STUCK} for name in ("early", "never"))
    expected = dict.fromkeys(early, "error") | dict.fromkeys({*never, "plain/a"}, "success")
    assert expected == done.statuses(), done.out
    for kind in STUCK:
        result = project.result(f"early_{kind}", "a")
        assert "timeout" == result.cause, kind
        why = f"stuck_{kind} is not kept warm: it was not imported before the run had to begin"
        assert why in result.message, kind
    wait_until(lambda: not processes_of(str(project.root)), seconds=5)


def test_an_import_that_ends_the_process(project: TinyProject, installed: Installed) -> None:
    """It ends the run that reaches it as it ends plain Python, and no other run."""
    for kind, (code, _) in ENDS.items():
        installed(f"it_{kind}", code)
        flows(
            project,
            {
                f"early_{kind}": f"import it_{kind}\n",
                f"never_{kind}": f"def plot():\n    import it_{kind}\nprint('not imported')\n",
            },
        )
    flows(project, {"plain": "print('plain')\n"})
    done = session(project, installed)
    early, never = ({f"{name}_{kind}/a" for kind in ENDS} for name in ("early", "never"))
    expected = dict.fromkeys(early, "error") | dict.fromkeys({*never, "plain/a"}, "success")
    assert expected == done.statuses(), done.out
    causes = {kind: project.result(f"early_{kind}", "a").cause for kind in ENDS}
    assert {kind: cause for kind, (_, cause) in ENDS.items()} == causes


CONDUCT = """
import pandas as pd
from ductaflow import conduct
conduct(pd.DataFrame({"x": [1, 2]}), "early", jobs=2)
"""
SESSIONS = {
    "pytest": command("--ductaflow"),
    "xdist": command("--ductaflow", "-n", "2"),
    "run": [sys.executable, "-m", "ductaflow", "run", "early/a"],
    "conduct": [sys.executable, "-c", CONDUCT],
}


@pytest.mark.parametrize(
    ("how", "kind", "number"),
    [
        *((how, "sleeps", signal.SIGINT) for how in SESSIONS),
        ("pytest", "sleeps", signal.SIGTERM),
        *(
            pytest.param(how, "sleeps", signal.SIGTERM, marks=pytest.mark.campaign)
            for how in ("xdist", "run", "conduct")
        ),
        *(("pytest", kind, signal.SIGKILL) for kind in ("sleeps", "starts")),
        *(
            pytest.param("pytest", kind, signal.SIGKILL, marks=pytest.mark.campaign)
            for kind in ("works", "ignores")
        ),
        ("run", "sleeps", signal.SIGKILL),
        ("conduct", "sleeps", signal.SIGKILL),
    ],
)
def test_the_end_of_a_session_while_its_server_imports(
    project: TinyProject, installed: Installed, how: str, kind: str, number: signal.Signals
) -> None:
    """Whatever ends a session, nothing of it is left after five seconds."""
    installed("stuck", STUCK[kind])
    flows(project, {"early": "import stuck\n"})
    process = subprocess.Popen(
        SESSIONS[how],
        cwd=project.root,
        env={**os.environ, **installed.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # The server, and a branch that imports.
    wait_until(lambda: len(servers(installed)) >= 2, seconds=60)
    begun = servers(installed)
    left = [*begun, *(child for one in begun for child in one.children(recursive=True))]
    process.send_signal(number)
    sent = time.monotonic()
    process.wait(timeout=5)
    wait_until(lambda: not any(is_alive(one) for one in left), seconds=5 - (time.monotonic() - sent))


# --- what one flow's imports leave -------------------------------------------------------------------------


def test_imports_of_another_flow(project: TinyProject, installed: Installed) -> None:
    """Numbers, submodules, options and warnings depend on no other flow of the session."""
    installed("tool.core", "OPTIONS = {'size': 6.4}\nclass Frame:\n    pass\n")
    installed("tool.dates", "")
    installed(
        "styles",
        """
        import decimal, socket, warnings
        from tool import core
        core.OPTIONS["size"] = 8.0
        core.Frame.clean = lambda self: "cleaned"
        warnings.simplefilter("error")
        decimal.getcontext().prec = 5
        socket.setdefaulttimeout(3)
        """,
    )
    flows(
        project,
        {
            "astyle": "import styles\nfrom tool import core\nprint(core.OPTIONS, core.Frame().clean())\n",
            "maybe": (
                "if config['who'] == 'never':\n    import styles\nimport tool.core\n"
                "print(tool.core.OPTIONS)\n"
            ),
            "dates": "import tool.dates\nprint(tool.dates.__name__)\n",
            "leak": "import tool\nprint(hasattr(tool, 'dates'), hasattr(tool, 'core'))\n",
            "noimport": "from tool import core\nprint(hasattr(core.Frame, 'clean'))\n",
            "state": (
                "import decimal, socket, sys, tool\n"
                "print(decimal.getcontext().prec, socket.getdefaulttimeout(), 'styles' in sys.modules)\n"
            ),
        },
    )
    done = session(project, installed)
    assert {"success"} == set(done.statuses().values()), done.out
    assert "Exception in thread" not in done.out
    assert ["{'size': 8.0} cleaned"] == log(project, "astyle")
    assert ["{'size': 6.4}"] == log(project, "maybe")
    assert ["tool.dates"] == log(project, "dates")
    assert ["False False"] == log(project, "leak")
    assert ["False"] == log(project, "noimport")
    assert ["28 None False"] == log(project, "state")


def test_what_a_flow_does_before_an_import(project: TinyProject, installed: Installed) -> None:
    """An import finds what the flow has done before it, and what stands before it finds nothing of it."""
    installed(
        "reads", "import os, random, warnings\nLEVEL = os.environ.get('LEVEL')\nDRAWN = random.random()\n"
    )
    installed("tool.late", "")
    installed("warns", "import warnings\nwarnings.warn('old', FutureWarning)\nVALUE = 1\n")
    (project.root / "settings_of_env.py").write_text("import os\nos.environ['LEVEL'] = 'own'\n")
    (project.root / "lib").mkdir()
    (project.root / "lib" / "__init__.py").write_text("from . import env\n")
    (project.root / "lib" / "env.py").write_text("import os\nos.environ.update(LEVEL='package')\n")
    flows(
        project,
        {
            "oneline": "import os; os.environ['LEVEL'] = 'line'; import reads\nprint(reads.LEVEL)\n",
            "merged": "import os\nos.environ |= {'LEVEL': 'merged'}\nimport reads\nprint(reads.LEVEL)\n",
            "taken": "from os import environ as e\ne['LEVEL'] = 'taken'\nimport reads\nprint(reads.LEVEL)\n",
            "put": (
                "import os\ndef put():\n    os.environ['LEVEL'] = 'put'\nput()\n"
                "import reads\nprint(reads.LEVEL)\n"
            ),
            "own": "import settings_of_env\nimport reads\nprint(reads.LEVEL)\n",
            "package": "import lib\nimport reads\nprint(reads.LEVEL)\n",
            "seeded": "import random\nrandom.seed(1)\nimport reads\nprint(reads.DRAWN)\n",
            "late": (
                "import tool\nprint(hasattr(tool, 'late'))\nimport tool.late\nprint(hasattr(tool, 'late'))\n"
            ),
            "loaded": "import sys\nprint('reads' in sys.modules)\nimport reads\n",
            "silent": "import warnings\nwarnings.simplefilter('ignore')\nimport warns\nprint(warns.VALUE)\n",
            "strict": "import warnings\nwarnings.simplefilter('error')\nimport warns\n",
            "loud": "import warns\n",
        },
    )
    done = session(project, installed)
    assert "error" == done.statuses().pop("strict/a"), done.out
    for flow, level in (("oneline", "line"), ("merged", "merged"), ("taken", "taken"), ("put", "put")):
        assert [level] == log(project, flow)
    assert ["own"] == log(project, "own")
    assert ["package"] == log(project, "package")
    assert ["0.13436424411240122"] == log(project, "seeded")
    assert ["False", "True"] == log(project, "late")
    assert ["False"] == log(project, "loaded")
    assert ["1"] == log(project, "silent")
    assert log(project, "loud")[0].endswith("FutureWarning: old")


SHOWS = "import os, sys\n{}\n"
SAYS = {
    "prints": "print('hello')",
    "writes": "os.write(1, b'hello\\n')",
    "errs": "sys.stderr.write('hello\\n')",
    "calls": "os.system('echo hello')",
    "logs": "import logging\nlogging.error('hello')",
}


def test_what_an_import_says(project: TinyProject, installed: Installed) -> None:
    """It is in the log of each run, however it is written."""
    for name, line in SAYS.items():
        installed(f"says_{name}", SHOWS.format(line))
        flows(project, {name: f"import says_{name}\n"})
        project.config(f"flows/{name}/b.json")
    done = session(project, installed)
    assert {"success"} == set(done.statuses().values()), done.out
    for name in SAYS:
        assert "hello" in "".join(log(project, name))
        assert f"says_{name} is not kept warm: it prints something" in project.result(name, "b").message


def test_what_a_package_imports_when_it_is_used(project: TinyProject, installed: Installed) -> None:
    """Nobody sees it before."""
    code = """
    import pandas as pd, sys
    print(hasattr(pd.io.formats, "csvs"), "pandas.io.formats.csvs" in sys.modules)
    print(pd.DataFrame({"a": [1]}).to_csv(index=False).split())
    print(hasattr(pd.io.formats, "csvs"), "pandas.io.formats.csvs" in sys.modules)
    print(pd.io.formats.csvs.__spec__.origin == pd.io.formats.csvs.__file__)
    """
    flows(project, {"fit": code})
    done = session(project, installed)
    assert {"fit/a": "success"} == done.statuses(), done.out
    assert ["False False", "['a', '1']", "True True", "True"] == log(project, "fit")


def test_what_an_import_starts(project: TinyProject, installed: Installed) -> None:
    """Each run has the process that a package starts, and a fork in an import is one of the run."""
    installed("has_helper", "import subprocess\nhelper = subprocess.Popen(['sleep', '600'])\n")
    installed("forks_once", "import os\nif os.fork() == 0:\n    os._exit(0)\n")
    flows(
        project,
        {
            "helped": (
                "import has_helper, os\nimport psutil\n"
                "print(psutil.Process(has_helper.helper.pid).ppid() == os.getpid())\n"
            ),
            "forks": "import forks_once\nprint('once')\n",
        },
    )
    project.config("flows/helped/b.json")
    done = session(project, installed)
    assert {"success"} == set(done.statuses().values()), done.out
    assert ["True"] == log(project, "helped")
    assert "has_helper is not kept warm: it starts a process" in project.result("helped", "b").message
    assert ["once"] == log(project, "forks")


def test_a_module_of_the_project_that_hides_a_package(project: TinyProject, installed: Installed) -> None:
    """It does so for packages that import it too, as `sys.path` says."""
    installed("dep", "VALUE = 'installed'\n")
    installed("tool", "import dep\nVALUE = dep.VALUE\n")
    (project.root / "dep.py").write_text("VALUE = 'own'\n")
    flows(project, {"fit": "import tool\nprint(tool.VALUE)\n"})
    done = session(project, installed)
    assert {"fit/a": "success"} == done.statuses(), done.out
    assert ["own"] == log(project, "fit")
    assert (
        "tool is not kept warm: it imports dep, which the project has too"
        in project.result("fit", "a").message
    )


CHANGES = {
    "moves": ("os.chdir('/tmp')", "print(os.getcwd())", "/tmp"),
    "handles": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)",
        "True",
    ),
    "masks": ("os.umask(0o077)", "print(os.umask(0o077))", "63"),
    "limits": (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])",
        "0",
    ),
}


def test_what_an_import_changes_of_the_process(project: TinyProject, installed: Installed) -> None:
    """The flow finds it, as behind an import of its own."""
    for name, (change, look, _) in CHANGES.items():
        installed(f"it_{name}", f"import os, signal\n{change}\n")
        flows(project, {name: f"import os, signal\nimport it_{name}\n{look}\n"})
    done = session(project, installed)
    assert {"success"} == set(done.statuses().values()), done.out
    assert {name: [expected] for name, (_, _, expected) in CHANGES.items()} == {
        name: log(project, name) for name in CHANGES
    }


# --- figures -----------------------------------------------------------------------------------------------

FIGURE = """
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot([1, 2])
plt.show()
# %%
import matplotlib
print(matplotlib.get_backend().lower(), matplotlib.is_interactive())
"""


#: Who imports it: what is installed, and the flow.
EARLY = {
    "nobody": ({}, FIGURE),
    "an engine": (
        {
            "foreign": "import matplotlib.pyplot\nclass Engine:\n    pass\n",
            "entry points": "[papermill.engine]\nother = foreign:Engine\n",
        },
        FIGURE,
    ),
    "sitecustomize": ({"sitecustomize": "import matplotlib.pyplot\n"}, FIGURE),
    "a package of the flow": ({"draws": "import matplotlib.pyplot\n"}, "import draws\n" + FIGURE),
}


@pytest.mark.parametrize(("early", "backend"), [*((early, "") for early in EARLY), ("nobody", "agg")])
def test_figures_whoever_imports_matplotlib_first(
    project: TinyProject, installed: Installed, early: str, backend: str
) -> None:
    """They are in the notebook, as with a kernel, unless the environment says another backend."""
    packages, code = EARLY[early]
    for name, text in packages.items():
        if name == "entry points":
            installed.entry_points(text)
        else:
            installed(name, text)
    flows(project, {"warm": code, "first": "import draws\n" if "draws" in packages else "1\n"})
    flows(project, {"fresh": code}, engine="fresh")
    done = session(project, installed, MPLBACKEND=backend)
    assert {"success"} == set(done.statuses().values()), done.out
    expected = (False, "agg", "False") if backend else (True, "inline", "True")
    for flow in ("warm", "fresh"):
        has_figure = '"image/png"' in (project.folder(flow, "a") / f"{flow}.ipynb").read_text()
        drawn, interactive = log(project, flow)[-1].split()
        name = drawn.removeprefix("module://matplotlib_inline.backend_")
        assert expected == (has_figure, name, interactive), flow


# --- reading ahead -----------------------------------------------------------------------------------------


def test_reading_ahead_never_raises(project: TinyProject, installed: Installed) -> None:
    """Whatever a flow holds costs itself at most."""
    installed("finder", "")
    codes = {
        "docstring": (
            'def add(a, b):\n    """Time it with\n\n    from __main__ import add\n    """\n    return a + b\n'
            "print(add(2, 3))\n"
        ),
        "main": "import __main__\nx = 5\nprint(__main__.x)\n",
        "frommain": "x = 5\nfrom __main__ import x as y\nprint(y)\n",
        "stub": "try:\n    import gurobi_fake\nexcept ImportError:\n    print('no solver')\n",
        "stubtop": "import gurobi_fake\n",
        "dotted": "try:\n    import gurobi_fake.sub.x\nexcept ImportError:\n    print('no solver')\n",
        "relative": "from . import x\n",
        "nowhere": "from ... import x\n",
        "odd": "from os.nothing import x\n",
        "syntax": "def (:\n",
        "long": "x = [\n" + "    1,\n" * 2_000 + "]\nprint(len(x))\n",
        "deep": "x = " + "(" * 150 + "1" + ")" * 150 + "\nprint(x)\n",
        "star": "from finder import *\nprint('star')\n",
        "named": "import finder as os\nprint(os.__name__)\n",
        "circular": "import one\nprint(one.two.VALUE)\n",
        "nulls": "import of_nulls\n",
        "latin": "import of_latin\nprint(of_latin.NAME)\n",
    }
    flows(project, codes)
    (project.root / "one.py").write_text("import two\n")
    (project.root / "two.py").write_text("import one\nVALUE = 2\n")
    (project.root / "of_nulls.py").write_bytes(b"x = 1\0\n")
    (project.root / "of_latin.py").write_bytes("# -*- coding: latin-1 -*-\nNAME = 'ü'\n".encode("latin-1"))
    (project.root / "flows" / "zero.py").write_bytes(
        b"# %% tags=['parameters']\nconfig = {}\n\n# %%\nx = '\0'\n"
    )
    (project.root / "flows" / "bytes.py").write_bytes(b"# %%\nimport json # \xff\n")
    (project.root / "flows" / "huge.py").write_text("# %%\nimport json\n" + f"# {'x' * 2_000}\n" * 1_000)
    for name in ("zero", "bytes", "huge"):
        project.config(f"flows/{name}/a.json")
    (project.root / "conftest.py").write_text(
        "import sys, types\n"
        "sys.modules['gurobi_fake'] = types.ModuleType('gurobi_fake')\n"
        "class Raises:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'finder':\n"
        "            raise AttributeError('a broken finder')\n"
        "sys.meta_path.insert(0, Raises())\n"
    )
    done = session(project, installed)
    red = {id for id, status in done.statuses().items() if status == "error"}
    assert "INTERNALERROR" not in done.out
    expected = {"stubtop", "relative", "nowhere", "odd", "syntax", "nulls", "zero", "bytes"}
    assert {f"{name}/a" for name in expected} == red, done.out
    assert len(codes) + 3 == len(done.statuses())
    assert ["5"] == log(project, "docstring") == log(project, "main") == log(project, "frommain")
    assert ["no solver"] == log(project, "stub") == log(project, "dotted")
    assert ["2"] == log(project, "circular")
    assert ["ü"] == log(project, "latin")


# --- where the server cannot be ----------------------------------------------------------------------------

NO_SOCKETS = """
import socket
class Refused(socket.socket):
    def __init__(self, family=-1, *args, **options):
        if family == socket.AF_UNIX:
            raise OSError(97, 'Address family not supported by protocol')
        super().__init__(family, *args, **options)
socket.socket = Refused
"""


@pytest.mark.parametrize("place", ["long", "missing", "a file"])
def test_a_folder_for_temporary_files_that_does_not_do(
    project: TinyProject, installed: Installed, tmp_path: Path, place: str
) -> None:
    """Runs go on, warm, and nothing is left behind."""
    folder = tmp_path / {"long": "x" * 120, "missing": "missing", "a file": "file"}[place]
    if place == "long":
        folder.mkdir()
    elif place == "a file":
        folder.touch()
    flows(project, {"fit": "import os\nprint(os.environ['DUCTAFLOW_SERVER'])\n"})
    done = session(project, installed, TMPDIR=str(folder))
    assert {"fit/a": "success"} == done.statuses(), done.out
    assert "" == project.result("fit", "a").message
    [server] = log(project, "fit")
    assert not Path(server).exists()
    assert not folder.is_dir() or [] == list(folder.iterdir())


def test_a_system_without_sockets(project: TinyProject, installed: Installed) -> None:
    """Runs are fresh, and say why."""
    (project.root / "conftest.py").write_text(NO_SOCKETS)
    flows(project, {"fit": "print(1)\n"})
    done = session(project, installed)
    assert {"fit/a": "success"} == done.statuses(), done.out
    message = project.result("fit", "a").message
    assert message.startswith("ran in a fresh interpreter: the warm server cannot start: [Errno 97]")


def test_a_server_that_cannot_fork(project: TinyProject, installed: Installed) -> None:
    """Runs are fresh, and say why."""
    installed(
        "sitecustomize",
        """
        import os, sys
        if "ductaflow.execution.server" in " ".join(sys.orig_argv):
            def refused():
                raise BlockingIOError(11, "Resource temporarily unavailable")
            os.fork = refused
        """,
    )
    flows(project, {"fit": "print(1)\n", "other": "print(2)\n"})
    done = session(project, installed)
    assert {"fit/a": "success", "other/a": "success"} == done.statuses(), done.out
    message = project.result("fit", "a").message
    assert (
        "ran in a fresh interpreter: the warm server cannot fork: Resource temporarily unavailable" == message
    )


def test_a_server_that_dies_again_and_again(project: TinyProject, installed: Installed) -> None:
    """Its runs go on, and the session has no zombies meanwhile."""
    code = """
import os, signal, psutil
from ductaflow.execution import warm
from ductaflow.session.runner import run_notebook
for number in range(4):
    run_notebook("flows/fit.py", config={}, execution_dir=f"runs/fit/n{number}", export_html=False)
    os.kill(warm.own_server().process.pid, signal.SIGKILL)
run_notebook("flows/fit.py", config={}, execution_dir="runs/fit/last", export_html=False)
dead = [one.pid for one in psutil.Process().children() if one.status() == psutil.STATUS_ZOMBIE]
print("DEAD", dead)
"""
    flows(project, {"fit": "print(1)\n"})
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.root,
        env={**os.environ, **installed.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "DEAD []" in done.stdout
