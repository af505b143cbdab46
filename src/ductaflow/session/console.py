"""The console output of a session, and its status page."""

from __future__ import annotations

import io
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, Protocol

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.files import regular_file
from ductaflow.common.host import is_notebook_execution
from ductaflow.common.paths import REPORT_HTML
from ductaflow.common.text import duration, in_numbers, iso_moment, show_on_console, shown_path
from ductaflow.execution.echo import IndentedLines
from ductaflow.project.graph import Graph
from ductaflow.project.instances import Instance
from ductaflow.project.secrets import masked
from ductaflow.project.settings import Project
from ductaflow.report import NOT_YET, Entry, LiveReport, Stored
from ductaflow.session.decide import NOT_STARTED, Outcome, unrun
from ductaflow.session.request import spec_of_instance
from ductaflow.session.resources import waits_in_short
from ductaflow.session.runner import unchanged_lines
from ductaflow.store.result import Result, Status
from ductaflow.store.spec import current_run

if TYPE_CHECKING:
    from tqdm import tqdm


#: Characters of a log that are held at once.
_PIECE = 1 << 16


class Display(Protocol):
    """Shows a session to a person."""

    def show(self, instance: Instance, result: Result) -> None: ...

    def tick(self, waits: Mapping[str, str]) -> None: ...

    def close(self, page: Path | None, hints: Iterable[str]) -> None: ...


class SessionPage:
    """The status page of one call.

    Args:
        project: whose runs folder it is.
        session_id: of the call.
        graph: who reads from whom among what runs.
        parameters: values of the rows of a table, by the ids of their instances.
        waits_for_run: whether the page begins with the first run, since perhaps nothing has to run. If
            nothing has, and nothing has run since the last page was written, that one stays.
    """

    def __init__(
        self,
        project: Project,
        session_id: str,
        graph: Graph,
        parameters: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
        *,
        waits_for_run: bool = False,
    ) -> None:
        self._live = LiveReport(
            project.runs_dir,
            session_id=session_id,
            project_root=project.root,
            stored=lambda: Stored.of(project),
            waits_for_run=waits_for_run,
        )
        self._parameters = {id: masked(values) for id, values in parameters.items()}
        self._graph = graph
        self._planned: list[Instance] = []
        self._held: list[tuple[Instance, Outcome]] = []
        page = project.runs_dir / REPORT_HTML
        self._holds = waits_for_run and page.is_file()
        self._written = iso_moment(datetime.fromtimestamp(page.stat().st_mtime, UTC)) if self._holds else ""

    def expect(self, instances: Iterable[Instance]) -> None:
        if self._holds:
            self._planned = list(instances)
            return
        self._live.expect(
            [self._entry(one, Outcome(unrun(one, Status.NOT_RUN, NOT_YET))) for one in instances]
        )

    def update(self, instance: Instance, outcome: Outcome) -> None:
        result = outcome.result
        if self._holds and result.status is Status.UNCHANGED and (result.finished or "") < self._written:
            self._held.append((instance, outcome))
            return
        if self._holds:
            self._holds = False
            self.expect(self._planned)
            for held in self._held:
                self.update(*held)
        self._live.update(self._entry(instance, outcome))

    def show(self, result: Result) -> None:
        """Show a result as it lies in its run folder."""
        self._holds = False
        self._live.update(Entry(result))

    def close(self) -> Path | None:
        """Write the page, and return where; None if it could not be written, or has nothing new."""
        if self._holds:
            return None
        try:
            return self._live.close()
        except DuctaflowError as exc:
            # A page can be made again; the results of hours must not be lost for it.
            warnings.warn(str(exc), RuntimeWarning, stacklevel=2)
            return None

    def _entry(self, instance: Instance, outcome: Outcome) -> Entry:
        return Entry(
            outcome.result,
            parameters=self._parameters.get(instance.id),
            tags=instance.options.tags,
            upstreams=self._graph.upstreams(instance.id),
            worker=outcome.worker,
            config=instance.config,
        )


class Console:
    """Shows one call: logs or a progress bar, never both, and one line at the end.

    Inside a run it shows the lines of the flows, because the log of the run has to repeat them.

    Args:
        flow: the flow that runs; total: how many times.
        live: whether one run at a time can show its log.
        progress: as `conduct` takes it.

    Attributes:
        echo: whether each run shows its log while it runs.
    """

    def __init__(self, flow: str, total: int, live: bool, progress: bool | None) -> None:
        nested = current_run() is not None
        self.echo = live and (nested or progress is None)
        self._repeats = nested and not live
        self._nested = nested
        self._closes = not nested and progress is not False
        self._flow = flow
        self._counts: Counter[Status] = Counter()
        self._waits = ""
        self._bar: tqdm[NoReturn] | None = None
        is_watched = sys.stderr.isatty() or is_notebook_execution()
        if not nested and (progress or (progress is None and not live and is_watched)):
            from tqdm import tqdm

            # `miniters` keeps tqdm from starting a thread of its own.
            self._bar = tqdm(
                total=total, desc=flow, unit="run", miniters=1, dynamic_ncols=True, file=sys.stderr
            )
        self._ticked = time.monotonic()

    def show(self, instance: Instance, result: Result) -> None:
        self._counts[result.status] += 1
        ran = bool(result.run_id)
        if self._repeats and result.status is Status.UNCHANGED:
            show_on_console(unchanged_lines(result))
        elif self._repeats and ran:
            _repeat(instance)
        elif not ran and result.message != NOT_STARTED and (self.echo or self._repeats):
            # In the log of a build it is a warning: something that the build asked for did not run.
            sign = "⚠️ " if self._nested else ""
            show_on_console(f"{sign}{result.flow}[{result.instance}] {result.status}: {result.message}\n")
        if self._bar is not None and result.message != NOT_STARTED:
            self._describe()
            self._bar.update()

    def tick(self, waits: Mapping[str, str]) -> None:
        """Set the clock of the bar, once a second, and say what waits for room."""
        if self._bar is not None and time.monotonic() - self._ticked >= 1:
            self._ticked = time.monotonic()
            self._waits = waits_in_short(waits)
            self._describe()
            self._bar.refresh()

    def _describe(self) -> None:
        assert self._bar is not None
        bad = [f"{count} {status}" for status, count in self._counts.items() if status is not Status.SUCCESS]
        self._bar.set_postfix_str(", ".join(filter(None, [*bad, self._waits])), refresh=False)

    def close(self, page: Path | None, hints: Iterable[str]) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._closes:
            for hint in hints:
                show_on_console(f"{hint}\n")
            counts = in_numbers(self._counts, Status)
            where = f" | Report: {page}" if page else ""
            show_on_console(f"{self._flow}: {counts or 'nothing to run'}{where}\n")


def show_line(title: str, result: Result, *, live: bool) -> None:
    """Show a result in a line. Where logs are live, only what did not run needs one."""
    if not result.run_id and result.message != NOT_STARTED:
        begin = f"Error: {title}" if result.status.is_error else f"{title} {result.status}"
        show_on_console(f"{begin}: {result.message}\n", sys.stderr)
    elif result.run_id and not live:
        why = f": {result.message}" if result.message else ""
        show_on_console(f"{title} {result.status} in {duration(result.seconds)}{why}\n")


class Lines:
    """Shows stored instances that run, a line for each.

    Args:
        live: whether the log of each is shown while it runs.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._is_short = False
        self.has_news = False

    def show(self, instance: Instance, result: Result) -> None:
        self.has_news = self.has_news or result.status is not Status.UNCHANGED
        show_line(instance.title, result, live=self._live)

    def tick(self, waits: Mapping[str, str]) -> None:
        """Say what waits for room, when something begins to."""
        if waits and not self._is_short:
            show_on_console(f"{waits_in_short(waits)}\n", sys.stderr)
        self._is_short = bool(waits)

    def close(self, page: Path | None, hints: Iterable[str]) -> None:
        for hint in hints:
            show_on_console(f"{hint}\n", sys.stderr)
        if page and self.has_news and sys.exception() is None:
            show_on_console(f"Report: {shown_path(page)}\n")


def _repeat(instance: Instance) -> None:
    """Print the log of a flow in one piece, as the log of its build shows it."""
    lines = IndentedLines(spec_of_instance(instance))
    opened = regular_file(instance.run_folder.log)
    with io.TextIOWrapper(opened, encoding="utf-8", errors="replace", newline="") as log:
        while text := log.read(_PIECE):
            lines(text)
    lines.close()
