"""Files compared in a process of its own: reading tables takes libraries, memory, and sometimes the process.

compare_apart([(Path("expected/a.csv"), Path("runs/a.csv"), Rule())])    [{"file": "a.csv", ...}]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from ductaflow.common import host
from ductaflow.common.decode import decode
from ductaflow.common.paths import CONTEXT
from ductaflow.common.rules import Rule
from ductaflow.comparison.compare import compare_files
from ductaflow.comparison.difference import FileDifference

#: Two files and how they are compared.
Pair: TypeAlias = tuple[Path, Path, Rule]
#: In seconds.
_LIMIT, _TICK = 600.0, 0.05


def compare_apart(
    pairs: Sequence[Pair], stopped: Callable[[], bool] = lambda: False
) -> list[FileDifference | None]:
    """Return for each pair of files how they differ; None if they do not.

    What could not be compared, since the process ended or took too long, differs; its fault is the reason.

    Args:
        pairs: the files before, or expected, and the others.
        stopped: asked meanwhile; True ends the process.
    """
    asked: str | None = json.dumps([(str(old), str(new), asdict(rule)) for old, new, rule in pairs])
    # The process belongs to no run: it is not watched, and it is not measured.
    environment = {name: value for name, value in os.environ.items() if name != CONTEXT and "COV" not in name}
    fault, limit = "", time.monotonic() + _LIMIT
    with subprocess.Popen(
        [sys.executable, "-X", "utf8", "-P", "-m", "ductaflow.comparison.apart", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            answers: str | None = None
            while answers is None:
                try:
                    answers, _ = process.communicate(asked, timeout=_TICK)
                except subprocess.TimeoutExpired:
                    asked = None  # it is on its way
                    if stopped() or time.monotonic() > limit:
                        fault = "the session ended" if stopped() else f"it took longer than {_LIMIT:g} s"
                        process.kill()
        except BaseException:
            # Ctrl-C in a notebook: its process lives on, and nobody waits for this one.
            process.kill()
            raise
    if process.returncode and not fault:
        code = process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        fault = f"the process that read them {how}"
    found = [decode(line, _Answer, where="a comparison").difference for line in answers.splitlines()]
    left = pairs[len(found) :]
    return found + [
        FileDifference(new.name, "content", f"not compared: {fault}", is_settled=False) for _, new, _ in left
    ]


@dataclass(frozen=True, slots=True)
class _Answer:
    difference: FileDifference | None


def main() -> None:
    """Compare what standard input asks for, and answer with a line of JSON for each."""
    host.when_gone(int(sys.argv[1]), lambda: os._exit(1))
    for old, new, rule in decode(sys.stdin.read(), list[Pair], where="a comparison"):
        print(json.dumps(asdict(_Answer(compare_files(old, new, rule)))), flush=True)


if __name__ == "__main__":
    main()
