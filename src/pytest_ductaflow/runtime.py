"""What pytest gives to the runs of a session: a server that imports while it collects, and a page maker."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ductaflow.execution import page_orders, warm
from ductaflow.session.resources import thread_limit
from ductaflow.store.spec import with_threads
from pytest_ductaflow.projects import Projects


class Warming:
    """Starts the server while pytest collects.

    Args:
        preload: modules that every run imports, besides those of its project's settings.
        is_wanted: whether some runs use an engine that has a server.
        when_needed: start it with the first run, since perhaps nothing has to run.
        with_pages: whether some runs leave HTML; then there is a page maker, which starts with the first run.
    """

    def __init__(
        self,
        projects: Projects,
        preload: Sequence[str],
        *,
        is_wanted: bool,
        when_needed: bool,
        with_pages: bool,
    ) -> None:
        self._projects = projects
        self._preload = preload
        self._wanted = is_wanted and warm.is_possible()
        if self._wanted:
            warm.start(when_needed=when_needed)
        if with_pages:
            # Here, so that all workers of the session find the same one.
            page_orders.start(when_needed=True)

    def expect(self, nodeids: Iterable[str], workers: int) -> None:
        """Let the server do the imports of the first instances, as many as there are processors.

        The first call counts.

        Args:
            workers: how many run at a time, which limits the threads of what is imported.
        """
        if not self._wanted:
            return
        self._wanted = False
        first: dict[tuple[str, ...], warm.Wanted] = {}
        seen: set[Path] = set()
        for nodeid in nodeids:
            instance = self._projects.instance(nodeid)
            if not instance or not instance.source or instance.source in seen:
                continue
            seen.add(instance.source)
            project = instance.project
            if not project.settings.engine_for(instance.options.engine).needs_server:
                continue
            for source in warm.with_flows(instance.source, project.root):
                threads = thread_limit(instance.options, source, project.root, workers)
                wanted = warm.Wanted.of(
                    source,
                    project.root,
                    environment=with_threads(os.environ, threads),
                    preload=(*self._preload, *project.settings.preload),
                )
                first.setdefault(wanted.imports, wanted)
            if len(first) >= (os.cpu_count() or 1):
                break
        for wanted in first.values():
            warm.start(wanted)
