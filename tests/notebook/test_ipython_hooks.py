"""The private parts of IPython and its relatives: each is there, and IPython still uses it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import IPython
import pytest
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from matplotlib_inline.backend_inline import configure_inline_support

_VERSION = IPython.version_info[:2]
SINCE_9_1, SINCE_9_17 = (
    pytest.mark.skipif(_VERSION < since, reason=f"IPython has it since {since[0]}.{since[1]}")
    for since in ((9, 1), (9, 17))
)


def test_the_inline_backend_remembers_whether_it_is_configured() -> None:
    """matplotlib-inline configures a new shell after `current_backend` was set to `unset`."""
    used = "current_backend" in configure_inline_support.__code__.co_consts
    assert used, f"current_backend is gone from matplotlib-inline {version('matplotlib-inline')}"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ZMQInteractiveShell, "_showtraceback"),
        pytest.param(InteractiveShell, "_tee", marks=SINCE_9_1),
        pytest.param(InteractiveShell, "_format_exception_for_storage", marks=SINCE_9_1),
        (InteractiveShell, "_ipython_dir_changed"),
        pytest.param(InteractiveShell, "_db", marks=SINCE_9_17),
        pytest.param(InteractiveShell, "db", marks=SINCE_9_17),
        (InteractiveShell, "_instance"),
        (InteractiveShell, "_walk_mro"),
        (DisplayPublisher, "_validate_data"),
    ],
)
def test_each_hook_is_there(owner: object, name: str) -> None:
    """A version that has dropped a hook is named together with the hook."""
    versions = ", ".join(f"{package} {version(package)}" for package in ("ipython", "ipykernel", "traitlets"))
    assert hasattr(owner, name), f"{owner}.{name} is gone ({versions})"


#: Prints the functions of the module that cells reach, in a process of its own.
RUN = """
import sys
from ductaflow.notebook import ipython_hooks
from ductaflow.notebook.capture import Capture
from ductaflow.notebook.shell import Outputs, flow_shell

reached = set()
def note(frame, event, argument):
    if event == "call" and frame.f_code.co_filename == ipython_hooks.__file__:
        reached.add(frame.f_code.co_name)

capture = Capture()
capture.open()
sys.setprofile(note)
with flow_shell(Outputs(capture), str) as shell:
    for source in ("print(1)", "1 / 0", "%cd .", "display(2)", "get_ipython().ipython_dir = 'nowhere'"):
        shell.run_flow_cell(source, None)
sys.setprofile(None)
print(*reached)
"""


def test_a_shell_leaves_the_current_folder_alone(tmp_path: Path) -> None:
    """No version of IPython creates its database there; cells use one that is removed with the shell."""
    subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, check=True)
    assert [] == list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def reached() -> set[str]:
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        "_showtraceback",
        pytest.param("_tee", marks=SINCE_9_1),
        pytest.param("_format_exception_for_storage", marks=SINCE_9_1),
        "_ipython_dir_changed",
        "db",
    ],
)
def test_ipython_calls_each_override(reached: set[str], name: str) -> None:
    """A hook that is there and never called would leave IPython's own behaviour in force, unseen."""
    assert name in reached, f"IPython {version('ipython')} no longer calls {name}"
