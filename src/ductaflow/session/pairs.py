"""Flows that have a notebook beside their `.py`, as jupytext pairs them: the `.py` runs, and that is said."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from ductaflow.common.paths import relative
from ductaflow.common.text import listed
from ductaflow.project.settings import Project
from ductaflow.store.fingerprint import code_hash

#: The formats of a pair, in the header of a `.py` or in the metadata of an `.ipynb`.
_FORMATS = re.compile(rb"formats\"?:\s*\"?[^\n]*(?:ipynb[^\n]*py|py[^\n]*ipynb)")
#: Flows that a line names.
_NAMED = 5


def pair_lines(project: Project, flows: Collection[str] | None = None) -> Iterator[str]:
    """What there is to say of flows and builds with an `.ipynb` beside the `.py`: which one runs.

    Args:
        flows: names of flows and builds; all if None.
    """
    same = []
    for kind in ("flow", "build"):
        for notebook in sorted(project.source_dir(kind).glob("*.ipynb")):
            script = notebook.with_suffix(".py")
            shown = relative(script, project.root)
            if (flows is not None and notebook.stem not in flows) or not script.is_file():
                continue
            try:
                raw, other = script.read_bytes(), notebook.read_bytes()
                is_newer = notebook.stat().st_mtime_ns > script.stat().st_mtime_ns
            except OSError as exc:
                yield f"{relative(notebook, project.root)}: {exc.strerror or exc}"
                continue
            if code_hash(raw, ".py") == code_hash(other, ".ipynb"):
                same.append(shown)
                continue
            is_pair = _FORMATS.search(raw) or _FORMATS.search(other)
            remedy = f"jupytext --sync {shown}" if is_pair else "remove one of them"
            newer = " and is newer" if is_newer else ""
            yield f"{shown} runs; {notebook.name} beside it has other code{newer}: {remedy}"
    if same:
        has = "runs; the .ipynb beside it has" if len(same) == 1 else "run; the .ipynb beside each has"
        yield f"{listed(same, _NAMED)} {has} the same code"
