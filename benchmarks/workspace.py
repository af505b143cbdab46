"""What the contenders run, and the folders in which they run it: one temporary workspace for everything.

<workspace>/home/                          instead of the user's: caches and settings of a first start
<workspace>/shadow/                        see `environment`
<workspace>/project/                       flows, configs and runs of ours, run after run
<workspace>/notebooks/<flow>.ipynb         the same flows for the others
<workspace>/runs/<contender>/<flow>/<n>/   where the others run, run after run
<workspace>/commands/<...>/                projects and folders of notebooks for whole commands
"""

from __future__ import annotations

import json
import os
import shutil
import site
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Flow:
    """A notebook that every contender runs.

    Attributes:
        cells: its code cells, after the one tagged `parameters`.
        config: the parameter; the others have it as the default in their notebook.
        makes: a file that it leaves where it runs, by which a run is seen to have happened; None for none.
    """

    name: str
    about: str
    cells: tuple[str, ...]
    config: Mapping[str, Any]
    makes: str | None = None

    @property
    def parameters(self) -> str:
        return f"config = {dict(self.config)!r}"

    @property
    def text(self) -> str:
        """The flow as a file with cell markers."""
        tagged = f'# %% tags=["parameters"]\n{self.parameters}\n'
        return "\n".join([tagged, *(f"# %%\n{cell}\n" for cell in self.cells)])


def light(rows: int = 100) -> Flow:
    return Flow(
        "light",
        "5 cells: import pandas, make a table, print, group, write a CSV",
        (
            "import pandas as pd",
            'frame = pd.DataFrame({"a": range(config["rows"]), "b": range(config["rows"])})',
            'print(frame["a"].sum())',
            'frame.groupby("b").sum().head()',
            'frame.to_csv("out.csv")',
        ),
        {"rows": rows},
        "out.csv",
    )


EMPTY = Flow("empty", "1 cell: pass", ("pass",), {})
FIGURE = Flow(
    "figure",
    "3 cells: import matplotlib, plot 100 points and save them as PNG, show the figure",
    (
        "import matplotlib.pyplot as plt",
        'figure, axes = plt.subplots()\naxes.plot(range(config["points"]))\nfigure.savefig("out.png")',
        "plt.show()",
    ),
    {"points": 100},
    "out.png",
)
FLOWS = {flow.name: flow for flow in (light(), EMPTY, FIGURE)}


def busy(seconds: float) -> Flow:
    """A flow that takes a given time of a CPU, however many others run."""
    return Flow(
        "busy",
        f"1 cell: {seconds:g} s of CPU time",
        ('import time\nwhile time.process_time() < config["seconds"]:\n    sum(range(1000))',),
        {"seconds": seconds},
    )


def write_project(root: Path, flow: Flow, count: int) -> Path:
    """A project with a flow, or one more flow in a project, and `count` stored instances of it."""
    instances = root / "config" / "flows" / flow.name
    instances.mkdir(parents=True, exist_ok=True)
    (root / "flows").mkdir(exist_ok=True)
    # Its own, so that no settings of a folder above are found.
    (root / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (root / "flows" / f"{flow.name}.py").write_text(flow.text, encoding="utf-8")
    for number in range(count):
        file = instances / f"{instance_name(number)}.json"
        file.write_text(json.dumps(dict(flow.config)), encoding="utf-8")
    return root


def instance_name(number: int) -> str:
    return f"n{number:05}"


def write_notebook(flow: Flow, file: Path) -> Path:
    """The flow as an `.ipynb` file for the kernel `python3`, and as a script beside it."""
    import jupytext
    import nbformat

    notebook = jupytext.reads(flow.text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, file)  # type: ignore[no-untyped-call]
    file.with_suffix(".py").write_text(flow.text, encoding="utf-8")
    return file


def copies_of(notebook: Path, folder: Path, count: int) -> Path:
    """A folder with copies of a notebook and its script, each in a folder of its own."""
    for number in range(count):
        place = folder / instance_name(number)
        place.mkdir(parents=True)
        for file in (notebook, notebook.with_suffix(".py")):
            shutil.copy(file, place / f"{file.stem}_{number}{file.suffix}")
    return folder


def check(flow: Flow, folder: Path, count: int = 1) -> None:
    """See that a flow ran as often as it should have.

    Raises:
        RuntimeError: it did not.
    """
    made = len(list(folder.rglob(flow.makes))) if flow.makes else count
    if made != count:
        raise RuntimeError(f"{made} of {count} runs left {flow.makes} in {folder}")


def environment(workspace: Path, *, with_ploomber: bool = False) -> dict[str, str]:
    """The variables of every process that is measured.

    papermill imports all engines that are installed when it is imported itself. With ploomber-engine beside
    it that takes three times as long, which is neither papermill's fault nor ours: its engines are hidden
    from all who do not use them, by an empty module in front of them.
    """
    dropped = ("PYTEST_", "DUCTAFLOW_", "COV_", "COVERAGE_", "XDG_", "JUPYTER_", "IPYTHON", "MPL")
    # it would have what is not installed by pip, ours in a checkout, compiled anew at each start
    dropped += ("PYTHONDONTWRITEBYTECODE",)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    if not with_ploomber:
        paths.insert(0, str(workspace / "shadow"))
    return {
        **kept,
        "HOME": str(workspace / "home"),
        "PYTHONUSERBASE": site.getuserbase(),
        "PYTHONPATH": os.pathsep.join(paths),
        # pytest with workers makes a folder there that nobody removes
        "PYTEST_DEBUG_TEMPROOT": str(workspace / "home"),
        "PYTHONUTF8": "1",
        "COLUMNS": "120",
        # it would report each run over the network
        "PLOOMBER_STATS_ENABLED": "false",
    }


def write_shadow(workspace: Path) -> None:
    engine = workspace / "shadow" / "ploomber_engine" / "engine.py"
    engine.parent.mkdir(parents=True)
    (engine.parent / "__init__.py").touch()
    engine.write_text("DebugEngine = DebugLaterEngine = ProfilingEngine = None\n", encoding="utf-8")


def prepare(workspace: Path, rounds: int) -> None:
    """Write what the contenders need for `rounds` runs of each flow and one to warm up."""
    (workspace / "home").mkdir()
    write_shadow(workspace)
    for flow in FLOWS.values():
        write_project(workspace / "project", flow, rounds + 1)
        write_notebook(flow, workspace / "notebooks" / f"{flow.name}.ipynb")
