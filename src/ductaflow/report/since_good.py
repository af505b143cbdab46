"""What has changed since the last good run, from the records of both: no file is read, nothing is hashed.

`ductaflow diff ID` compares everything: code cells, metrics, and every value in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ductaflow.common.rules import Rule
from ductaflow.common.text import duration, listed, shorten, size
from ductaflow.comparison.difference import other_value, spelled_change, spelled_value
from ductaflow.report.before import Before
from ductaflow.report.origin import shown_commit
from ductaflow.report.schema import Flat, SinceGood
from ductaflow.store.result import Environment, FileEntry, Metric, Result

#: Changes of one kind that are named one by one.
MAX_NAMED = 8
_MAX_VALUE = 60
#: A run that takes so many times as long, and so many seconds more, has changed in that too.
SLOWER, SLOWER_BY = 1.5, 1.0
_EXACTLY = Rule(rtol=0.0, atol=0.0)
_NOTHING = "nothing"


def since_good(
    result: Result, before: Before, config: Flat | None, good_config: Flat | None
) -> SinceGood | None:
    """Return what has changed since the last good run; None if its record is not kept.

    Args:
        result: of the run.
        before: the last good run before it.
        config, good_config: of both, flat; None if it cannot be shown.
    """
    good = before.result
    if good is None:
        return None
    changes = [
        *_named(_of_config(config or {}, good_config or {}) if config and good_config else ()),
        *_of_environment(result.environment, good.environment),
        *_of_code(result, good),
        *_named(_of_inputs(result, good)),
        *_named(_of_metrics(result.metrics, good.metrics) if result.metrics else ()),
        *_of_duration(result, good),
    ]
    return {"finished": good.finished, "changes": changes, "unknown": _unknown(result, config, good_config)}


def _unknown(result: Result, config: Flat | None, good_config: Flat | None) -> list[str]:
    """Return what the records do not say."""
    found = []
    if config is None or good_config is None:
        found.append("the config, which is missing or too large")
    if result.lineage is None:
        found.append("the code and the contents of files that it read, which only a good run records")
    return found


def _named(changes: Iterator[str] | tuple[()]) -> Iterator[str]:
    """Yield the first changes of a kind, and how many more there are."""
    all_of_them = [*changes]
    yield from all_of_them[:MAX_NAMED]
    if all_of_them[MAX_NAMED:]:
        yield f"and {len(all_of_them) - MAX_NAMED} more of {all_of_them[0].partition(' ')[0]}"


def _of_config(now: Flat, then: Flat) -> Iterator[str]:
    for key in dict.fromkeys([*now, *then]):
        if now.get(key) != then.get(key):
            old, new = (shorten(values.get(key, _NOTHING), _MAX_VALUE) for values in (then, now))
            yield f"config {key}: {old} -> {new}"


def _of_environment(now: Environment, then: Environment) -> Iterator[str]:
    git, old_git = now.get("git"), then.get("git")
    if git and old_git:
        marks = [shown_commit(one["commit"], dirty=one["dirty"]) for one in (old_git, git)]
        if marks[0] != marks[1]:
            yield f"commit {marks[0]} -> {marks[1]}"
        elif git["dirty"]:
            yield f"commit {marks[0]} as before, but both runs had changes that are not committed"
    for name in ("python", "platform", "host"):
        old, new = str(then.get(name, "")), str(now.get(name, ""))
        if old and new and old != new:
            yield f"{name} {old} -> {new}"
    old, new = then.get("threads", ""), now.get("threads", "")
    if old != new:
        yield f"threads of BLAS and OpenMP: {old or 'not limited'} -> {new or 'not limited'}"
    yield from _named(_of_packages(now.get("packages", {}), then.get("packages", {})))


def _of_packages(now: Mapping[str, str], then: Mapping[str, str]) -> Iterator[str]:
    # Which ones are loaded depends on how far a run came.
    for name in now.keys() & then.keys():
        if now[name] != then[name]:
            yield f"package {name}: {then[name]} -> {now[name]}"


def _of_code(result: Result, good: Result) -> Iterator[str]:
    now, then = result.lineage, good.lineage
    if now is None or then is None:
        return
    if now["code"] != then["code"]:
        yield "code of the flow"
    other = [
        name
        for name in dict.fromkeys([*now["modules"], *then["modules"]])
        if now["modules"].get(name) != then["modules"].get(name)
    ]
    if other:
        yield f"code of {listed(other, MAX_NAMED)}"


def _of_inputs(result: Result, good: Result) -> Iterator[str]:
    old, new = ({one["path"]: one for one in run.inputs} for run in (good, result))
    for path, now in new.items():
        if path not in old:
            yield f"input {path}: was not read"
        elif change := _of_file(now, old[path]):
            yield f"input {path}: {change}"
    # A run that failed may not have come so far.
    if result.is_complete:
        yield from (f"input {path}: is not read any more" for path in old if path not in new)


def _of_file(now: FileEntry, then: FileEntry) -> str:
    if now["size"] != then["size"]:
        old, new = size(then["size"]), size(now["size"])
        return f"{old} -> {new}" if old != new else f"{then['size']:,} -> {now['size']:,} bytes"
    hashes = now.get("hash"), then.get("hash")
    return "other content" if all(hashes) and hashes[0] != hashes[1] else ""


def _of_metrics(now: Mapping[str, Metric], then: Mapping[str, Metric]) -> Iterator[str]:
    for name in dict.fromkeys([*now, *then]):
        if name not in now or name not in then:
            yield f"metric {name}: {'is new' if name in now else 'is gone'}"
        elif now[name] != then[name]:
            one = other_value(name, then[name], now[name], _EXACTLY)
            change = f" ({spelled_change(one.change)})" if one.change else ""
            old, new = spelled_value(one.old, one.new), spelled_value(one.new, one.old)
            yield f"metric {name}: {old} -> {new}{change}"


def _of_duration(result: Result, good: Result) -> Iterator[str]:
    now, then = result.seconds, good.seconds
    if result.is_complete and now > SLOWER * then and now - then > SLOWER_BY:
        yield f"it took {duration(now)}, before {duration(then)}"
