"""Tasks, timers and executors that live across the cells of a flow."""

from __future__ import annotations

import asyncio
from asyncio import events, runners

import pytest
from support import TinyProject

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_process_left")]

WORK = """
# %%
import asyncio, time
async def work(value=42):
    await asyncio.sleep(0.01)
    return value
"""
#: Cells, and what they print.
ACROSS_CELLS = {
    "a task": (
        "e = asyncio.Event()\nt = asyncio.create_task(e.wait())\n# %%\nprint(t.done())\ne.set()\n"
        "# %%\nprint(await t)",
        "False\nTrue",
    ),
    "ensure_future": ("t = asyncio.ensure_future(work())\n# %%\nprint(await t)", "42"),
    "gather": ("t = asyncio.gather(work(1), work(2))\n# %%\nprint(await t)", "[1, 2]"),
    "a timer": (
        "e = asyncio.Event()\n_ = asyncio.get_event_loop().call_later(0.02, e.set)\n# %%\n"
        "print(await e.wait())",
        "True",
    ),
    "call_soon": (
        "_ = asyncio.get_event_loop().call_soon(print, 'soon')\n# %%\nprint('then')\n# %%\nawait work()",
        "soon\nthen\n42",
    ),
    "an executor": (
        "f = asyncio.get_event_loop().run_in_executor(None, lambda: time.sleep(0.05) or 7)\n# %%\n"
        "print(await f)",
        "7",
    ),
    "to_thread": ("t = asyncio.create_task(asyncio.to_thread(abs, -3))\n# %%\nprint(await t)", "3"),
    "a queue": (
        "q = asyncio.Queue()\nt = asyncio.create_task(q.get())\n# %%\nawait q.put(5)\n# %%\nprint(await t)",
        "5",
    ),
    "a function with the name of a magic": (
        "def save(value):\n    print(value)\nt = asyncio.create_task(work())\n# %%\nsave(await t)",
        "42",
    ),
    "progress": (
        "t = asyncio.create_task(work())\n# %%\nawait asyncio.sleep(0.1)\n# %%\nprint(t.result())",
        "42",
    ),
    "one loop": (
        "a = asyncio.get_event_loop()\n# %%\nb = asyncio.get_running_loop()\nawait work()\n# %%\n"
        "print(a is b is asyncio.get_running_loop())",
        "42\nTrue",
    ),
    "asyncio.run beside": (
        "t = asyncio.create_task(work(1))\nprint(asyncio.run(work(2)), asyncio.run(work(3)))\n"
        "u = asyncio.create_task(work(4))\n# %%\nprint(await t, await u)",
        "2 3\n1 4",
    ),
    "loops of its own": (
        "own = asyncio.new_event_loop()\nasyncio.set_event_loop(own)\nf = asyncio.ensure_future(work(6))\n"
        "print(own.run_until_complete(f))\nown.close()\n# %%\nprint(await work(7))",
        "6\n7",
    ),
    "run_until_complete": (
        "print(asyncio.get_event_loop().run_until_complete(work(8)))\n# %%\nprint(await work(9))",
        "8\n9",
    ),
    "forks and threads": (
        "import multiprocessing, threading\ndef run(x): return asyncio.run(work(x))\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n    print(pool.map(run, [1]))\n"
        "th = threading.Thread(target=lambda: print(run(2)))\nth.start(); th.join()\n# %%\nawait work()",
        "[1]\n2\n42",
    ),
}


def printed(project: TinyProject) -> str:
    """What the cells of the run printed or showed."""
    log = (project.folder("fit", "a") / "fit_execution_output.txt").read_text(encoding="utf-8")
    return "\n".join(log.strip().split("\n")[1:-1])


@pytest.mark.parametrize("name", ACROSS_CELLS)
def test_across_cells(project: TinyProject, name: str) -> None:
    """What a cell leaves to the loop goes on while later cells await, as in a kernel."""
    code, expected = ACROSS_CELLS[name]
    result = project.run_code(f"{WORK}# %%\n{code}\n", timeout=60)

    assert ("success", expected) == (str(result.status), printed(project))


@pytest.mark.parametrize("name", ["a task", "a timer", "an executor", "progress"])
def test_across_cells_of_a_kernel(project: TinyProject, name: str) -> None:
    """A kernel prints the same."""
    code, expected = ACROSS_CELLS[name]
    result = project.run_code(f"{WORK}# %%\n{code}\n", timeout=110, engine="kernel")

    assert "success" == str(result.status)
    # What the kernel says of itself comes when it starts, and may come when it ends.
    of_flow = [line for line in printed(project).splitlines() if not line.startswith("[IPKernelApp]")]
    assert expected == "\n".join(of_flow)


def test_a_flow_without_await_is_as_a_script(project: TinyProject) -> None:
    """It may ask whether a loop runs, and start one: nothing of it is lost at the end."""
    code = (
        "# %%\ntry:\n    asyncio.get_running_loop()\nexcept RuntimeError:\n    print(asyncio.run(work()))\n"
    )
    result = project.run_code(f"{WORK}# %%\n{code}")

    assert ("success", "42") == (str(result.status), printed(project))


def test_tasks_that_are_left(project: TinyProject) -> None:
    """Pending tasks are cancelled at the end, and clean up; nothing is printed of them, and nothing hangs."""
    result = project.run_code(
        WORK
        + """
# %%
async def forever():
    try:
        await asyncio.sleep(3600)
    finally:
        open("cleaned", "w").close()
async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
async def fails():
    await asyncio.sleep(3600)
tasks = [asyncio.create_task(one()) for one in (forever, stubborn, fails)]
left = asyncio.get_event_loop().run_in_executor(None, time.sleep, 0.3)
# %%
await work()
print("end")
""",
        timeout=60,
    )

    assert ("success", "end") == (str(result.status), printed(project))
    assert (project.folder("fit", "a") / "cleaned").exists()


def test_hooks() -> None:
    """Python has the private parts that the loop depends on, and looks them up where it is told to."""
    assert {"_get_running_loop", "_set_running_loop"} <= set(vars(events))
    assert "_get_running_loop" in runners.Runner.run.__code__.co_names
    assert hasattr(asyncio.BaseEventLoop, "shutdown_asyncgens")
