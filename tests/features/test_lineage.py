"""What counts as a change, through real runs: a table of edits, what has to run, and what ran.

One project is run once; each case edits a copy of it. A copy has other inodes and times of change, so that
nothing can be told by them: the hashes decide.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import NO_HTML, TinyProject

from ductaflow.project.graph import Graph, collect
from ductaflow.project.instances import Instance
from ductaflow.project.settings import Project
from ductaflow.session.request import spec_of_instance
from ductaflow.session.runner import run_instance
from ductaflow.store.changes import changes
from ductaflow.store.result import Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="flows of these tests call cat"),
]

PREP = '''
# %% [markdown]
# # Prepares

# %% Load
import helpers
from pathlib import Path

ROOT = Path(config["_project_root"])
text = (ROOT / config["raw"]).read_text()

# %%
def clean(text):
    """Without blanks."""
    return helpers.strip(text)
# %time clean("")

# %%
Path("clean.csv").write_text(clean(text))

# %%
# twice
Path("big.csv").write_text(
    text * 2
)
'''

FIT = """
# %%
from pathlib import Path
from model.linear import slope

ROOT = Path(config["_project_root"])
data = (ROOT / config["data"]).read_text()
Path("fit.csv").write_text(f"{slope(data)} {config['horizon']} {len(config.get('token', ''))}")
"""

#: Reads what its config does not name: by Python, by another program, and what is not there.
DIRECT = """
# %%
import subprocess
from pathlib import Path
from ductaflow import reads

ROOT = Path(config["_project_root"])
text = (ROOT / "inputs/const.txt").read_text()
text += subprocess.run(["cat", reads(ROOT / "inputs/native.bin")], capture_output=True, text=True).stdout
try:
    text += (ROOT / "inputs/extra.txt").read_text()
except FileNotFoundError:
    pass
text += (ROOT / ".settings/unit.txt").read_text() + (ROOT / ".cache/known.txt").read_text()
text += ",".join(sorted(path.name for path in (ROOT / "inputs/listed").iterdir()))
Path("out.txt").write_text(text)
"""

#: Its config names a folder, of which another program reads the files, and a file by its absolute path.
ZONES = """
# %%
import subprocess
from pathlib import Path

ROOT = Path(config["_project_root"])
files = sorted((ROOT / config["zones"]).rglob("*.csv"))
Path("zones.txt").write_text(subprocess.run(["cat", *files], capture_output=True, text=True).stdout)
Path("raw.txt").write_text(Path(config["absolute"]).read_text())
"""

STEP = """
# %%
from pathlib import Path

Path("step.csv").write_text(Path(config["_project_root"], config["raw"]).read_text() + str(config["factor"]))
"""

BUILD = """
# %%
from pathlib import Path
from ductaflow import run_notebook

factor = 3
run_notebook("flows/step.py", config={"raw": config["raw"], "factor": factor}, execution_dir="runs/step",
             export_html=False)
# %%
Path("total.csv").write_text(Path("runs/step/step.csv").read_text())
"""

#: Reads what it needs by another program, as the config does not say.
NEEDY = """
# %%
import subprocess

root = config["_project_root"]
subprocess.run(["cat", f"{root}/runs/prep/A/big.csv"])
"""

#: Writes outside of its run folder; adds to what others may write too.
ELSEWHERE = """
# %%
from pathlib import Path

ROOT = Path(config["_project_root"])
(ROOT / "results").mkdir(exist_ok=True)
(ROOT / "results/table.csv").write_text("1")
with open(ROOT / "results/ledger.txt", "a") as ledger:
    ledger.write("ran\\n")
"""

#: Looks for modules and folders that are not there, and opens one file of the folder that its config names.
OPTIONAL = """
# %%
import importlib
import os
import subprocess
from pathlib import Path

try:
    import overrides_ as o

    v = o.v
except ImportError:
    v = 1
try:
    names = os.listdir(Path(config["_project_root"]) / "inputs/later")
except FileNotFoundError:
    names = []
import solo

mixed = Path(config["_project_root"], config["mixed"])
text = (mixed / "meta.json").read_text() + subprocess.check_output(["cat", mixed / "data.bin"], text=True)
"""

ALL = [
    "direct/default",
    "elsewhere/default",
    "needy/default",
    "optional/default",
    "fit/A",
    "fit/B",
    "prep/A",
    "prep/B",
    "projection/s",
    "zones/default",
]


def make_project(root: Path) -> TinyProject:
    project = TinyProject(root)
    for name, code in {"prep": PREP, "fit": FIT, "direct": DIRECT, "zones": ZONES, "step": STEP}.items():
        project.flow(name, code)
    project.flow("needy", NEEDY)
    project.flow("elsewhere", ELSEWHERE)
    project.flow("optional", OPTIONAL)
    project.flow("projection", BUILD, kind="builds")
    files = {
        "helpers.py": 'def strip(text):\n    """Strip."""\n    return text.replace(" ", "")  # blanks\n',
        "model/__init__.py": "",
        "model/linear.py": "def slope(data):\n    return len(data)\n",
        "inputs/a.csv": "1, 2",
        "inputs/b.csv": "3, 4",
        "inputs/c.csv": "5, 6",
        "inputs/const.txt": "7",
        "inputs/native.bin": "8",
        "inputs/listed/one.txt": "",
        "inputs/zones/north/1.csv": "9",
        "inputs/zones/south/2.csv": "10",
        "inputs/unread.csv": "11",
        "inputs/mixed/meta.json": "1",
        "inputs/mixed/data.bin": "2",
        "inputs/mixed/.more/hidden.bin": "3",
        "inputs/mixed/site-packages/4.bin": "4",
        ".settings/unit.txt": "t",
        ".cache/known.txt": "1",
        "shared/5.bin": "5",
        "shared/key.csv": "6",
        "solo.py": "x = 1\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "inputs/mixed/linked").symlink_to("../../shared")
    (root / "shared/round").symlink_to(".")
    project.config("flows/needy.json", _run={"needs": ["prep/A"]})
    project.config("flows/elsewhere.json")
    project.config("flows/optional.json", mixed="inputs/mixed", weights={"shared/key.csv": 1})
    project.config("flows/prep.json", base=1)
    for name in ("A", "B"):
        project.config(f"flows/prep/{name}.json", raw=f"inputs/{name.lower()}.csv")
        project.config(
            f"flows/fit/{name}.json",
            data=f"runs/prep/{name}/clean.csv",
            horizon=2030,
            token="geheim",
            gone=None,
        )
    project.config("flows/direct.json")
    project.config("flows/zones.json", zones="inputs/zones", absolute="{project_root}/inputs/c.csv")
    project.config("builds/projection/s.json", raw="inputs/c.csv")
    return project


def in_order(root: Path) -> list[Instance]:
    instances = collect(Project.at(root))
    return [instances.by_id[id] for id in Graph(instances.all).order(i.id for i in instances.all)]


def run_what_changed(root: Path) -> list[str]:
    """Run as a session does: each instance when its turn has come, if something has changed by then."""
    ran, red = [], False
    for instance in in_order(root):
        if not red and changes(spec_of_instance(instance)):
            result = run_instance(instance, settings=NO_HTML, check=False)
            ran.append(instance.id)
            red = result.status is Status.ERROR
    return sorted(ran)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lineage") / "original"
    make_project(root)
    assert sorted(ALL) == run_what_changed(root)
    assert [] == run_what_changed(root)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy of the project in another place, with all its runs."""
    return Path(shutil.copytree(original, tmp_path / "copy", symlinks=True))


def edit(root: Path, name: str, old: str, new: str, *, keep_times: bool = False) -> None:
    path = root / name
    before = path.stat()
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edited(name: str, old: str, new: str, *, keep_times: bool = False) -> Callable[[Path], None]:
    return lambda root: edit(root, name, old, new, keep_times=keep_times)


def written(name: str, text: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")

    return write


def removed(name: str) -> Callable[[Path], None]:
    def remove(root: Path) -> None:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return remove


def touched(*names: str) -> Callable[[Path], None]:
    def touch(root: Path) -> None:
        for name in names:
            os.utime(root / name)

    return touch


def replaced_by_equal(root: Path) -> None:
    path = root / "inputs/a.csv"
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)


def configured(name: str, **values: Any) -> Callable[[Path], None]:
    def configure(root: Path) -> None:
        path = root / "config" / name
        config = {**json.loads(path.read_text(encoding="utf-8")), **values}
        kept = {key: value for key, value in config.items() if value != "(gone)"}
        # in another order and layout, which is no change
        path.write_text(json.dumps(dict(reversed(kept.items())), indent=3), encoding="utf-8")

    return configure


def result_edited(name: str, **values: Any) -> Callable[[Path], None]:
    def set_values(root: Path) -> None:
        path = root / "runs" / name / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}), encoding="utf-8")

    return set_values


NOTHING: list[str] = []
PREPS = ["prep/A", "prep/B"]
A = ["fit/A", "needy/default", "prep/A"]
SPLIT = 'return helpers.strip(text)\n# %time clean("")'

EDITS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    # nothing that a run depends on
    "only the place of the project": (lambda root: None, NOTHING),
    "times of inputs": (touched("inputs/a.csv", "inputs/const.txt", "inputs/zones/north/1.csv"), NOTHING),
    "times of sources": (touched("flows/prep.py", "helpers.py", "builds/projection.py"), NOTHING),
    "times of outputs": (touched("runs/prep/A/clean.csv", "runs/projection/s/runs/step/step.csv"), NOTHING),
    "an input replaced by an equal one": (replaced_by_equal, NOTHING),
    "a comment in a flow": (edited("flows/fit.py", "\nROOT", "  # why\n# a comment\nROOT"), NOTHING),
    "blank lines in a flow": (
        edited("flows/prep.py", "import helpers\n", "\n\nimport helpers\n\n\n"),
        NOTHING,
    ),
    "a markdown cell": (
        edited("flows/prep.py", "# # Prepares", "# # Prepares more\n# with `x = 1`"),
        NOTHING,
    ),
    "a new markdown cell": (
        edited("flows/prep.py", "# %%\ndef", "# %% [markdown]\n# So:\n\n# %%\ndef"),
        NOTHING,
    ),
    "the title of a cell": (edited("flows/prep.py", "# %% Load", "# %% Read"), NOTHING),
    "a docstring in a flow": (edited("flows/prep.py", "Without blanks.", "Without any."), NOTHING),
    "line wraps in a flow": (edited("flows/prep.py", "(\n    text * 2\n)", "(text * 2)"), NOTHING),
    "quotes in a flow": (edited("flows/fit.py", '"fit.csv"', "'fit.csv'"), NOTHING),
    "a plain cell split": (edited("flows/prep.py", "\nROOT", "\n# %%\nROOT"), NOTHING),
    "line ends of a flow": (
        lambda root: (root / "flows/fit.py").write_bytes(
            (root / "flows/fit.py").read_bytes().replace(b"\n", b"\r\n")
        ),
        NOTHING,
    ),
    "a comment in a module": (edited("helpers.py", "# blanks", "# all blanks"), NOTHING),
    "a docstring in a module": (edited("helpers.py", "Strip.", "Strip it."), NOTHING),
    "a comment in a build": (edited("builds/projection.py", "factor = 3", "factor = 3  # by law"), NOTHING),
    "a comment in a flow of a build": (edited("flows/step.py", "\nPath", "\n# so\nPath"), NOTHING),
    "the layout of a config": (configured("flows/fit/A.json"), NOTHING),
    "how an instance is run": (
        configured("flows/fit/A.json", _run={"timeout": 99, "tags": ["slow"]}),
        NOTHING,
    ),
    "a file that nobody reads": (written("inputs/unread.csv", "12"), NOTHING),
    "a new file that nobody reads": (written("inputs/d.csv", "12"), NOTHING),
    "a module that nobody imports": (written("other.py", "1"), NOTHING),
    "a note by hand in a run folder": (written("runs/prep/A/note.txt", "good"), NOTHING),
    "a log by hand": (written("runs/prep/A/prep_execution_output.txt", "cut"), NOTHING),
    "the executed notebook gone": (removed("runs/prep/A/prep.ipynb"), NOTHING),
    "compiled modules": (written("model/__pycache__/linear.cpython-311.pyc", ""), NOTHING),
    "kept hashes gone": (removed("runs/.ductaflow"), NOTHING),
    # inputs
    "an input": (edited("inputs/a.csv", "2", "3"), A),
    "an input to the same size, within the same time": (edited("inputs/a.csv", "2", "3", keep_times=True), A),
    "an input, to what makes the same output": (edited("inputs/b.csv", "3, 4", "3,4 "), ["prep/B"]),
    "an input gone": (removed("inputs/a.csv"), ["prep/A"]),
    "an input of a build and of others": (
        edited("inputs/c.csv", "6", "7"),
        ["projection/s", "zones/default"],
    ),
    "a file that no config names": (edited("inputs/const.txt", "7", "6"), ["direct/default"]),
    "a file in a hidden folder": (edited(".settings/unit.txt", "t", "kg"), ["direct/default"]),
    "a file in a folder of caches": (edited(".cache/known.txt", "1", "2"), NOTHING),
    "a file that is declared": (edited("inputs/native.bin", "8", "9"), ["direct/default"]),
    "a file that was looked for": (written("inputs/extra.txt", "!"), ["direct/default"]),
    "a listed folder has a new file": (written("inputs/listed/two.txt", ""), ["direct/default"]),
    "a listed folder has lost a file": (removed("inputs/listed/one.txt"), ["direct/default"]),
    "a named folder has a new file": (written("inputs/zones/north/3.csv", "0"), ["zones/default"]),
    "a file in a named folder": (
        edited("inputs/zones/north/1.csv", "9", "8", keep_times=True),
        ["zones/default"],
    ),
    "another file of a folder of which one was opened": (
        edited("inputs/mixed/data.bin", "2", "3"),
        ["optional/default"],
    ),
    "a hidden file in a named folder": (
        edited("inputs/mixed/.more/hidden.bin", "3", "4"),
        ["optional/default"],
    ),
    "a file in a folder called site-packages": (
        edited("inputs/mixed/site-packages/4.bin", "4", "5"),
        ["optional/default"],
    ),
    "a file behind a symlink in a named folder": (edited("shared/5.bin", "5", "6"), ["optional/default"]),
    "a file that a key names": (edited("shared/key.csv", "6", "7"), ["optional/default"]),
    "what file managers leave": (written("inputs/mixed/.DS_Store", ""), NOTHING),
    "a listed folder comes to be": (written("inputs/later/x", ""), ["optional/default"]),
    "a journal of a named database": (written("inputs/mixed/d.db-wal", "x"), ["optional/default"]),
    # modules
    "a module that was looked for": (written("overrides_.py", "v = 2\n"), ["optional/default"]),
    "a package that was looked for": (written("overrides_/__init__.py", "v = 2\n"), ["optional/default"]),
    "a package beside a module": (written("solo/__init__.py", ""), ["optional/default"]),
    "a module before another": (written("flows/solo.py", ""), ["optional/default"]),
    # needs
    "what it needs": (
        configured("flows/needy.json", _run={"needs": ["prep/A", "prep/B"]}),
        ["needy/default"],
    ),
    # configs
    "a value": (configured("flows/fit/A.json", horizon=2040), ["fit/A"]),
    "the type of a value": (configured("flows/fit/A.json", horizon=2030.0), ["fit/A"]),
    "a new key": (configured("flows/fit/A.json", extra=None), ["fit/A"]),
    "a key gone": (configured("flows/fit/A.json", gone="(gone)"), ["fit/A"]),
    "a secret": (configured("flows/fit/A.json", token="Geheim"), ["fit/A"]),
    "the base of a flow": (configured("flows/prep.json", base=2), PREPS),
    "the base of the project": (written("config/base.json", '{"all": 1}'), sorted(ALL)),
    "another input": (configured("flows/prep/A.json", raw="inputs/b.csv"), A),
    "whether an early exit is green": (configured("flows/fit/A.json", _run={"allow_exit": True}), ["fit/A"]),
    # code
    "code of a flow, to the same output": (edited("flows/prep.py", "text * 2", "text + text"), PREPS),
    "code of a flow": (
        edited("flows/prep.py", "clean(text))", "clean(text) + '.')"),
        ["fit/A", "fit/B", "needy/default", *PREPS],
    ),
    "a magic in a flow": (edited("flows/prep.py", "# %time clean", "# %time len"), PREPS),
    "a magic gone": (edited("flows/prep.py", '# %time clean("")\n', ""), PREPS),
    "a tag that changes what is executed": (
        edited("flows/fit.py", "# %%\nfrom", '# %% tags=["raises-exception"]\nfrom'),
        ["fit/A", "fit/B"],
    ),
    "a code cell made markdown": (
        edited("flows/prep.py", "# %%\n# twice", "# %% [markdown]\n# twice"),
        ["needy/default", *PREPS],
    ),
    "code of a module, to the same output": (edited("helpers.py", "return text", "return '' + text"), PREPS),
    "code of a module in a package": (edited("model/linear.py", "len(data)", "0"), ["fit/A", "fit/B"]),
    "code of a package": (written("model/__init__.py", "X = 1\n"), ["fit/A", "fit/B"]),
    "code of a build": (edited("builds/projection.py", "factor = 3", "factor = 4"), ["projection/s"]),
    "code of a flow of a build": (edited("flows/step.py", "+ str", "+ repr"), ["projection/s"]),
    # outputs
    "an output gone": (removed("runs/prep/B/big.csv"), ["prep/B"]),
    "an output edited to the same size": (
        edited("runs/prep/A/big.csv", "1", "2", keep_times=True),
        ["prep/A"],
    ),
    "an output that others read gone": (removed("runs/prep/A/clean.csv"), ["prep/A"]),
    "an output that others read edited": (edited("runs/prep/A/clean.csv", "1", "9"), ["prep/A"]),
    "an output of a flow of a build gone": (
        removed("runs/projection/s/runs/step/step.csv"),
        ["projection/s"],
    ),
    "a run folder gone": (removed("runs/fit/B"), ["fit/B"]),
    "an output elsewhere gone": (removed("results/table.csv"), ["elsewhere/default"]),
    "an output elsewhere edited": (edited("results/table.csv", "1", "2"), ["elsewhere/default"]),
    "what others add to a common file": (edited("results/ledger.txt", "ran", "ran too"), NOTHING),
    "the saved config edited": (edited("runs/fit/B/fit_config.json", "2030", "2031"), ["fit/B"]),
    "the saved config gone": (removed("runs/fit/B/fit_config.json"), ["fit/B"]),
    # results
    "a result gone": (removed("runs/fit/B/result.json"), ["fit/B"]),
    "half a result": (written("runs/fit/B/result.json", '{"schema": 1, "status": "succ'), ["fit/B"]),
    "a red result": (result_edited("fit/B", status="error", run_status="error", message="no"), ["fit/B"]),
    "a result of an older version": (result_edited("fit/B", lineage={}), ["fit/B"]),
    "a red result of a flow of a build": (
        result_edited("projection/s/runs/step", status="error", run_status="error"),
        ["projection/s"],
    ),
    "a record that was edited": (result_edited("fit/B", inputs=[{"file": "x"}]), ["fit/B"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_what_it_concerns_and_nothing_else(name: str, root: Path) -> None:
    """What must run is what ran, and after that nothing is left to run."""
    act, must_run = EDITS[name]
    act(root)
    assert sorted(must_run) == run_what_changed(root)
    left = {i.id: changes(spec_of_instance(i)) for i in in_order(root)}
    red = name in ("an input gone",)
    assert red or not any(left.values()), left


def test_the_table_is_as_long_as_it_should_be() -> None:
    """At least 40 kinds of edits."""
    assert len(EDITS) >= 40
