"""What pytest gives to the runs of a session: a warm server that imports while pytest collects."""

from __future__ import annotations

from collections.abc import Iterable

from ductaflow.execution import warm
from pytest_ductaflow.projects import Projects


class Warming:
    """Starts the server while pytest collects.

    Args:
        preload: modules to import in any case.
        is_wanted: whether some runs use an engine that has a server.
        when_needed: start it with the first run, since perhaps nothing has to run.
    """

    def __init__(
        self, projects: Projects, preload: Iterable[str], *, is_wanted: bool, when_needed: bool
    ) -> None:
        self._projects = projects
        self._wanted = is_wanted and warm.is_possible()
        if self._wanted:
            warm.start(warm.Wanted(tuple(dict.fromkeys(preload))), when_needed=when_needed)

    def expect(self, nodeids: Iterable[str]) -> None:
        """Let the server import what the flows of some instances import; the first call counts."""
        if not self._wanted:
            return
        self._wanted = False
        sources = {}
        for nodeid in nodeids:
            instance = self._projects.instance(nodeid)
            if not instance or not instance.source:
                continue
            if instance.project.settings.engine_for(instance.options.engine).needs_server:
                sources[instance.source] = instance.project.root
        for source, root in sources.items():
            warm.start(warm.Wanted.of(source, root))
