"""Whether the results of a run are those that its project expects.

    judge_run(result, spec, flows)              the result after judging what the run found
    judge_unchanged(last, spec)                 the same of a run that is not made again
    is_judged(last, folder, rules, site)        whether that would be something new

`metrics.json` there is judged by its keys, every other file against the run's file of that name. Bounds need
no file. JSON is compared here; tables and whatever else takes a library in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ductaflow.common.errors import DuctaflowError, RunFolderError
from ductaflow.common.files import Snapshot, snapshot
from ductaflow.common.paths import METRICS, RunFolder
from ductaflow.common.rules import glob_matches
from ductaflow.common.text import duration, listed, shown_path
from ductaflow.comparison.apart import compare_apart
from ductaflow.comparison.compare import compare_files, format_of
from ductaflow.comparison.difference import (
    EXPECTED,
    FileDifference,
    ValueDifference,
    file_lines,
    value_lines,
)
from ductaflow.comparison.scalars import compare_values
from ductaflow.project.expect import Expectations
from ductaflow.project.options import saved_options
from ductaflow.store.folder import held
from ductaflow.store.metrics import read_metrics
from ductaflow.store.record import Site
from ductaflow.store.result import (
    Difference,
    FileEntry,
    Judged,
    Result,
    recorded_result,
    write_result,
)
from ductaflow.store.spec import RunSpec
from ductaflow.store.verdict import as_judged

#: Raised when a judgement of the same files may come to another end.
_VERSION = 2
#: The key of a judgement that holds for nothing: what could not be compared is compared the next time.
UNSETTLED = "unsettled"
#: So many values of a file that differ are told; `ductaflow diff` tells more.
_CELLS = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of one run.

    Attributes:
        folder: the folder with the expected files; it need not be there.
        rules: what `_run.expect` says.
        files: the expected files by their paths in the run folder, `metrics.json` among them.
        faults: entries of the folder that are no files, each with why.
        site: gives hashes of files.
    """

    folder: Path
    rules: Expectations
    files: dict[str, Path]
    faults: dict[str, str]
    site: Site

    @classmethod
    def of(cls, folder: Path, rules: Expectations, site: Site, flows: Sequence[str] = ()) -> Expected | None:
        """Return what is expected of a run; None if nothing is. Arguments as of `at`."""
        found = cls.at(folder, rules, site, flows)
        return found if found.files or found.faults or any(rules.bounds) else None

    @classmethod
    def at(cls, folder: Path, rules: Expectations, site: Site, flows: Sequence[str] = ()) -> Expected:
        """Return what is expected of a run, perhaps nothing.

        Args:
            folder: where the expected files are.
            rules: what `_run.expect` of its config says.
            site: gives hashes of files.
            flows: run folders of a build's flows, relative to its own: these are judged by themselves.
        """
        files, faults = {}, {}
        for name, state in entries_expected(folder, flows).items():
            if state.kind == "file":
                files[name] = folder / name
            else:
                faults[name] = f"is a {state.kind} in {site.relative(str(folder))}, not a file"
        return cls(folder, rules, files, faults, site)

    @property
    def _place(self) -> str:
        return self.site.relative(str(self.folder))

    def key(self, outputs: Sequence[FileEntry]) -> str:
        """Return what stands for all that a judgement depends on."""
        files = {name: self._hash(name) for name in self.files}
        parts = [_VERSION, dict(self.rules.raw), files, self.faults, outputs]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("ascii")).hexdigest()

    def _hash(self, name: str) -> str:
        try:
            return self.site.hashes.of(str(self.files[name]))
        except OSError as exc:
            # Comparing it says so too.
            return f"unreadable: {exc.strerror}"

    def judge(self, result: Result, stopped: Callable[[], bool] = lambda: False) -> Judged:
        """Compare the results of a complete run with those expected.

        Args:
            result: the record of the run; its folder is read.
            stopped: asked while files are compared; True ends that.
        """
        # First: what changes while it is read is judged again.
        key = self.key(result.outputs)
        expected = read_metrics(self.folder, [METRICS] if METRICS in self.files else [])
        bounded = self._bounded([*expected.values, *result.metrics])
        values = compare_values(expected.values, result.metrics, self.rules.of_metric)
        values += (self._missing(glob) for glob, names in bounded.items() if not names)
        # What is wrong in an expected file would be judged less strictly than somebody meant.
        unclear = [*expected.warnings, *expected.notes]
        files = [FileDifference(METRICS, "json", f"{self._place}: {text}") for text in unclear]
        files += [FileDifference(name, "content", fault) for name, fault in self.faults.items()]
        count = len(files) + len(self.files.keys() - {METRICS})
        files += self._files(result, stopped)
        judged = {*expected.values, *(one for glob, names in bounded.items() for one in names or [glob])}
        return Judged(
            metrics=len(judged),
            files=count,
            additional=len(result.metrics.keys() - judged),
            differences=(
                *(Difference(metric=one) for one in values if one.kind != "added"),
                *(Difference(file=one) for one in files if not one.only_added),
            ),
            key=key if all(one.is_settled for one in files) else UNSETTLED,
        )

    def _bounded(self, metrics: Sequence[str]) -> dict[str, list[str]]:
        """Return the metrics under each bound."""
        return {glob: [one for one in metrics if glob_matches(glob, one)] for glob, _ in self.rules.bounds}

    def _missing(self, glob: str) -> ValueDifference:
        """Return the record of a bound that no metric is under."""
        rule = self.rules.of_metric(glob)
        bounds = {"min": rule.min, "max": rule.max}
        limits = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        return ValueDifference(glob, "bound", limit=f"for {' and '.join(limits)}")

    def _files(self, result: Result, stopped: Callable[[], bool]) -> Iterator[FileDifference]:
        """Yield the expected files that the run has not written, or otherwise."""
        assert result.folder is not None
        written = {output["path"]: output for output in result.outputs}
        apart: list[str] = []
        for name, path in self.files.items():
            output = written.get(name)
            if name == METRICS or (output and output.get("hash") == self._hash(name)):
                continue
            if output is None:
                yield FileDifference(name, "content", "the run has not written it")
            elif "kind" in output:
                yield FileDifference(name, "content", f"is a {output['kind']}, not a file")
            elif format_of(name, self.rules.of_file(name)) == "json":
                if found := compare_files(path, result.folder / name, self.rules.of_file(name)):
                    yield self._spelled(found, name, path, result.folder / name)
            else:
                apart.append(name)
        pairs = [(self.files[name], result.folder / name, self.rules.of_file(name)) for name in apart]
        differences = compare_apart(pairs, stopped) if pairs else []
        for name, (old, new, _), difference in zip(apart, pairs, differences, strict=True):
            if difference:
                yield self._spelled(difference, name, old, new)

    def _spelled(self, difference: FileDifference, name: str, *paths: Path) -> FileDifference:
        """Spell paths from the project: a result is read from anywhere."""
        names = {shown_path(path): self.site.relative(str(path)) for path in paths}
        anywhere = re.compile("|".join(sorted(map(re.escape, names), key=len, reverse=True)))
        fault = anywhere.sub(lambda found: names[found[0]], difference.fault)
        return replace(difference, file=name, fault=fault)


def entries_expected(folder: Path, flows: Sequence[str] = ()) -> Snapshot:
    """Return what lies in a folder of expected files, without hidden entries and empty folders.

    An empty folder is what is left of files that were removed; git keeps none. See `Expected.at`.
    """
    theirs = tuple(f"{flow}/" for flow in flows)
    found = snapshot(folder) if folder.is_dir() else {}
    return {
        name: state
        for name, state in sorted(found.items())
        if is_shown(name) and not name.startswith(theirs) and state.kind != "folder"
    }


def is_shown(name: str) -> bool:
    """Return whether a file may be expected, by its path in the run folder: hidden ones are not judged."""
    return "/." not in f"/{name}"


def rules_without_match(
    spec: RunSpec, metrics: Collection[str], outputs: Sequence[FileEntry]
) -> Iterator[str]:
    """Yield what to say of rules of `_run.expect` that are for nothing; see `Expectations.without_match`."""
    files = {*entries_expected(Path(spec.expected)), *(output["path"] for output in outputs)}
    return spec.options.expectations.without_match(metrics, files)


def judge_run(
    result: Result, spec: RunSpec, flows: Sequence[Result], stopped: Callable[[], bool] = lambda: False
) -> Result:
    """Return the result of a run after judging what it found.

    Args:
        result: what running gave.
        spec: what was run.
        flows: the results of a build's flows, already judged.
        stopped: see `Expected.judge`.
    """
    judged = None
    if spec.expected and result.is_complete:
        rules = spec.options.expectations
        expected = Expected.of(Path(spec.expected), rules, Site.of(spec), result.children)
        judged = expected.judge(result, stopped) if expected else None
    return as_judged(result, judged, flows)


def judge_unchanged(last: Result, spec: RunSpec) -> Result:
    """Return the result of a run that is not made again, judged by what is expected now.

    If that is something else than before, the result in the run folder is replaced, and so are those of the
    flows of a build.

    Raises:
        RunFolderError: somebody else holds the run folder, or the result cannot be written.
    """
    rules = spec.options.expectations
    if not spec.expected or is_judged(last, Path(spec.expected), rules, Site.of(spec)):
        return last
    try:
        with held(Path(spec.folder), Path(spec.runs_root)):
            found = recorded_result(Path(spec.folder))
            return (
                judged_again(found, Path(spec.expected), rules, Site.of(spec)) if found.is_complete else found
            )
    except OSError as exc:
        raise RunFolderError(
            f"{spec.folder}: its results cannot be judged again: {exc.strerror or exc}",
            hint="Make the runs folder writable and see that the disk has room, then run again.",
        ) from exc


def is_judged(result: Result, folder: Path, rules: Expectations, site: Site) -> bool:
    """Return whether the judgement in a result still holds, and those of a build's flows.

    Args:
        result: the result of a run.
        folder: where its expected files are.
        rules: what `_run.expect` of its config says.
        site: gives hashes of files.
    """
    expected = Expected.of(folder, rules, site, result.children)
    key = result.judged.key if result.judged else ""
    if key != (expected.key(result.outputs) if expected else ""):
        return False
    try:
        return all(is_judged(flow, folder / name, _saved_rules(flow), site) for name, flow in _flows(result))
    except DuctaflowError:
        # A saved config that is none: judging it again says so, of this instance alone.
        return False


def parts_of(
    result: Result, folder: Path, rules: Expectations, site: Site
) -> Iterator[tuple[Result, Expected]]:
    """Yield a run with what is expected of it, then the flows of a build. Arguments as of `is_judged`."""
    yield result, Expected.at(folder, rules, site, result.children)
    for name, flow in _flows(result):
        yield from parts_of(flow, folder / name, _saved_rules(flow), site)


def judged_again(result: Result, folder: Path, rules: Expectations, site: Site) -> Result:
    """Judge a complete run whose folder is held here, and write what is new. Arguments as of `is_judged`."""
    assert result.folder is not None
    flows = [
        judged_again(flow, folder / name, _saved_rules(flow), site) if flow.is_complete else flow
        for name, flow in _flows(result)
    ]
    expected = Expected.of(folder, rules, site, result.children)
    known = result if result.run_status else _with_metrics(result)
    found = as_judged(known, expected.judge(known) if expected else None, flows)
    if found != result:
        write_result(found, result.folder)
    return found


def _with_metrics(result: Result) -> Result:
    """Read the metrics of a run that an earlier version recorded without them."""
    assert result.folder is not None
    written = [METRICS for output in result.outputs if output["path"] == METRICS]
    return replace(result, run_status=result.ran, metrics=read_metrics(result.folder, written).values)


def _flows(build: Result) -> Iterator[tuple[str, Result]]:
    assert build.folder is not None
    return ((name, recorded_result(build.folder / name)) for name in build.children)


def _saved_rules(flow: Result) -> Expectations:
    """What `_run.expect` of the saved config of a flow inside a build says."""
    assert flow.folder is not None
    return saved_options(RunFolder(flow.folder, flow.flow).config).expectations


# --- as people read it -------------------------------------------------------------------------------------


def difference_lines(judged: Judged, *, bounds: str = "") -> Iterator[str]:
    """Yield what is not as expected, line by line: metrics, then files.

    Args:
        judged: what came of the comparison.
        bounds: where bounds are set; said behind each that a metric is beyond.
    """
    metrics = [one.metric for one in judged.differences if one.metric]
    for one, line in zip(metrics, value_lines(metrics, EXPECTED), strict=True):
        yield f"{line}  ({bounds})" if bounds and one.kind == "bound" else line
    for difference in judged.differences:
        if difference.file:
            yield from file_lines(difference.file, EXPECTED, most=_CELLS)


def look_command(shown: str) -> str:
    """Return the command that shows a run beside what is expected of it."""
    return f"ductaflow diff {shown}@expected {shown}"


def note_of_threads(result: Result) -> str:
    """Say that threads were limited in a run whose results differ: sums depend on how they are divided."""
    threads = result.environment.get("threads")
    if not threads:
        return ""
    return (
        f"threads of BLAS and OpenMP were limited ({threads}), which can change last digits; _run.cpus gives"
        " their number, alike in every session"
    )


def unexpected_lines(result: Result, id: str, shown: str, *, bounds: str, name: str = "") -> Iterator[str]:
    """Yield what a person needs who finds that results are not as expected.

    Args:
        result: a complete run that was judged, or a build with such a flow.
        id: of the instance.
        shown: of the run that differs: its id, or its folder where it is that of a flow inside a build.
        bounds: where bounds are set.
        name: of the run in the first line, where it is not the id.
    """
    judged = result.judged
    assert judged
    yield f"{name or id}: {judged.message} (the run ended well, {duration(result.seconds)})"
    yield from (f"  {line}" for line in difference_lines(judged, bounds=bounds))
    if note := note_of_threads(result):
        yield f"  {note}"
    if result.reasons:
        yield f"  since the last good run: {listed([*result.reasons], 3)}"
    held = judged.beyond
    if judged.is_acceptable:
        yield f"  look:   {look_command(shown)}"
        note = f"   (not {listed(held, 3)}: {'bounds' if held[1:] else 'a bound'})" if held else ""
        yield f"  accept: ductaflow accept {id}{note}"
    else:
        yield f"  a bound is not accepted: change it in {bounds}"
