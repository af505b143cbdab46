"""What commands give with `--json`: records for programs.

Keys are stable: a new version adds some, and changes none. What is not known is null, times are UTC in ISO
8601, durations are seconds. Texts are as the run said them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ductaflow.common.paths import ROOT_KEY
from ductaflow.common.text import iso_moment
from ductaflow.project.instances import Instance
from ductaflow.project.secrets import masked
from ductaflow.session.accept import Accepted
from ductaflow.session.decide import Decision
from ductaflow.session.forecast import Plan
from ductaflow.session.last_runs import LastRun
from ductaflow.session.leftovers import Leftover
from ductaflow.store.changes import Change

Record = dict[str, Any]


def as_text(found: Record | Sequence[Record]) -> str:
    """Records as JSON in ASCII, whatever a flow has written; a list has one a line."""
    if isinstance(found, dict):
        return json.dumps(found, indent=2, default=str)
    return "[\n" + ",\n".join(json.dumps(one, default=str) for one in found) + "\n]" if found else "[]"


def of_last_run(row: LastRun) -> Record:
    """`ductaflow status`: one of these for each."""
    return {
        "id": row.name,
        "status": row.status,
        "finished": None if row.status == "running" else row.moment,
        "started": row.moment if row.status == "running" else (row.result.started if row.result else None),
        "seconds": row.seconds,
        "cause": row.result.cause if row.result else None,
        "message": row.message,
        "warnings": row.result.warning_count if row.result else 0,
        "is_error": row.is_error,
    }


def of_instance(one: Instance) -> Record:
    """`ductaflow list`: one of these for each."""
    return {
        "id": one.id,
        "flow": one.flow,
        "instance": one.name,
        "kind": one.kind,
        "tags": list(one.options.tags),
        "file": _path(one.file),
        "source": _path(one.source),
        "run_folder": _path(one.run_folder.path),
        "problem": one.problem.message if one.problem else None,
    }


def of_plan(plan: Plan, decisions: Iterable[Decision], jobs: int) -> Record:
    """`ductaflow plan`."""
    at_least, at_most = plan.span
    return {
        "instances": [_decision(one, is_timed=plan.is_known) for one in decisions],
        "jobs": jobs,
        "seconds": {"at_least": at_least, "at_most": at_most} if plan.is_known else None,
        "waits": dict(plan.waits),
        "alone": dict(plan.alone),
    }


def _decision(one: Decision, *, is_timed: bool) -> Record:
    return {
        "id": one.instance.id,
        "would": str(one.would),
        "why": list(one.reasons),
        "remedy": one.remedy or None,
        "seconds": one.seconds if is_timed and one.would.takes_time else None,
        "memory": one.memory or None,
    }


def of_changes(
    id: str,
    changes: Iterable[Change],
    notes: Iterable[str],
    before: Iterable[Decision],
    versions: Iterable[Change],
) -> Record:
    """`ductaflow why`."""
    found = [_change(one) for one in changes]
    return {
        "id": id,
        "is_unchanged": not found,
        "changes": found,
        "notes": list(notes),
        "runs_before": [{"id": one.instance.id, "why": list(one.reasons)} for one in before],
        "other_versions": [_change(one) for one in versions],
    }


def _change(one: Change) -> Record:
    return {"kind": one.kind, "what": one.what, "text": one.text}


def of_run(one: Instance, row: LastRun, changed: Sequence[str]) -> Record:
    """`ductaflow show`: all of the last run, and the config as it is stored now."""
    result = row.result
    config = {key: value for key, value in one.config.items() if key != ROOT_KEY}
    return {
        **of_last_run(row),
        **of_instance(one),
        "id": one.shown,
        "config": None if one.problem else masked(config),
        "changed_since": list(changed),
        "is_judged": row.is_judged,
        "result": {**result.to_dict(), "lineage": None} if result else None,
    }


def of_accepted(one: Accepted) -> Record:
    """`ductaflow accept`: one of these for each instance."""
    return {
        "id": one.id,
        "values": [
            {"file": file, "name": value.name, "column": value.column, "kind": value.kind}
            | {"expected": value.old, "found": value.new, "change": value.change}
            for file, value in one.values
        ],
        "files": [_path(path) for path in one.writes],
        "notes": list(one.notes),
    }


def of_leftover(one: Leftover) -> Record:
    """`ductaflow clean --dry-run`: one of these for each."""
    used = iso_moment(datetime.fromtimestamp(one.used, UTC)) if one.used else None
    own = {"kind": one.kind, "name": one.name, "path": _path(one.path), "size": one.size, "used": used}
    return {**own, "kept": one.kept or None}


def _path(path: Path | None) -> str | None:
    return path.as_posix() if path else None
