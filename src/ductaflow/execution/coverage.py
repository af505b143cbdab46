"""Coverage of flows, from the side of the child: `pytest --ductaflow --cov=flows` measures them.

Who measures describes it in the environment (`MEASURE`). The child then starts a coverage of its own and
leaves its data beside those of the session, to be combined. Without the variable nothing is imported.

A cell is executed statement by statement, each as code of its own. The end of such code is a way out of the
file for coverage, where the file as a whole goes on with the next statement. These ways are added, or branch
coverage would call every `if` and every loop in a cell partly taken.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ductaflow.common.decode import decode

if TYPE_CHECKING:
    from coverage import Coverage, CoverageData


#: Environment variable that holds a `Measure`.
MEASURE = "DUCTAFLOW_COVERAGE"
#: Where the code of a statement begins and ends, as a line of coverage: its first line is that of the file.
_OUTSIDE = -1
#: What coverage warns of is not of the flow and does not belong in its log.
_SILENT = (
    *("no-data-collected", "module-not-imported", "module-not-measured", "already-imported"),
    *("couldnt-parse", "trace-changed", "no-ctracer", "no-sysmon"),
)
Arc = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Measure:
    """How to measure, as `coverage.Coverage` is told it.

    Attributes:
        folder: where relative paths begin, those of the config file too.
        config_file: of coverage.
        source: folders and packages; None for those of the config file.
        branch: whether to measure branches; None as the config file says.
        context: what the data are of, such as a test.
    """

    folder: str
    config_file: str | bool = True
    source: Sequence[str] | None = None
    branch: bool | None = None
    context: str | None = None

    def dump(self) -> str:
        return json.dumps(asdict(self))


@contextlib.contextmanager
def measured(flow: Path) -> Iterator[None]:
    """Measure what runs inside, the cells of a flow, if the environment asks for it."""
    asked = os.environ.get(MEASURE)
    if not asked:
        yield
        return
    from coverage import Coverage

    measure = decode(asked, Measure, where=MEASURE)
    # That of the warm server, which measures its forks too: one that starts in a fork forgets it, which
    # then complains at the end of the process.
    other = Coverage.current()
    if other:
        other.stop()
    coverage = _start(measure)
    try:
        yield
    finally:
        coverage.stop()
        _connect_statements(coverage.get_data(), flow, measure)
        coverage.save()
        if other:
            other.start()


def _start(measure: Measure) -> Coverage:
    from coverage import Coverage

    here = os.getcwd()
    # coverage takes relative paths, those of its config file too, from the working directory
    os.chdir(measure.folder)
    try:
        coverage = Coverage(
            config_file=measure.config_file,
            source=measure.source,
            branch=measure.branch,
            context=measure.context,
            data_suffix=True,
        )
        silent = coverage.get_option("run:disable_warnings")
        coverage.set_option("run:disable_warnings", [*(silent if isinstance(silent, list) else []), *_SILENT])
        coverage.start()
    finally:
        os.chdir(here)
    return coverage


def _connect_statements(data: CoverageData, flow: Path, measure: Measure) -> None:
    """Add the ways from each statement of a flow to the one that came next."""
    flow = flow.resolve()
    name = next(
        (name for name in data.measured_files() if Path(measure.folder, name).resolve() == flow), None
    )
    if name is None or not data.has_arcs():
        return
    try:
        tree = ast.parse(flow.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # coverage cannot report on it either
        return
    data.set_context(measure.context)
    data.add_arcs({name: list(ways_between(tree.body, data.arcs(name) or []))})


def ways_between(statements: Iterable[ast.stmt], arcs: Iterable[Arc]) -> Iterator[Arc]:
    """Yield the ways from statement to statement of a file that were taken.

    `arcs` were measured while each statement was executed as code of its own.
    """
    arcs = list(arcs)
    ranges = [(_first_line(statement), statement.end_lineno or statement.lineno) for statement in statements]
    # not those of magics, which are comments in the file
    begins = [line for begin, line in arcs if begin == _OUTSIDE and any(a <= line <= b for a, b in ranges)]
    for first, last in ranges:
        following = min((line for line in begins if line > last), default=None)
        if following is not None:
            ends = (line for line, end in arcs if end == _OUTSIDE and first <= line <= last)
            yield from ((line, following) for line in ends)


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])
