"""What the status page costs: its size, its first paint, a key in its search, and its share of a session.

    python benchmarks/report.py                  10,000 instances: some minutes
    python benchmarks/report.py --markdown       the table of docs/performance.md
    python benchmarks/report.py --quick          300 instances: shows that it works, too little to judge by

The instances are run folders as runs leave them, one in 25 red, one in 16 orange, some with a figure; they
are given to a live report at the pace of a session on two workers whose runs take 0.15 s. What the session
pays is measured, its pace is not waited for. The page is opened in Chromium, as a file.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from commands import parser_of

from ductaflow.common.errors import Failure
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON, RunFolder
from ductaflow.report import Entry, LiveReport
from ductaflow.store.result import Cells, LogWarning, Result, Status

#: Seconds of wall time between two results: runs of 0.15 s on two workers.
PACE = 0.075
FLOWS = ("data_prep", "fit_trend", "forecast", "valuation")
REGIONS = ("EU", "US", "ASIA", "AFRICA", "OCEANIA")


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: what it is, what came out, and the most that it may be."""

    name: str
    value: float
    unit: str
    most: float | None = None

    def cells(self) -> tuple[str, str, str]:
        verdict = "" if self.most is None else "held" if self.value <= self.most else "**missed**"
        limit = "" if self.most is None else f"{self.most:g} {self.unit}: {verdict}"
        return (
            self.name,
            f"{self.value:,.3g} {self.unit}" if self.value < 1000 else f"{self.value:,.0f} {self.unit}",
            limit,
        )


# --- a session ---------------------------------------------------------------------------------------------


def make_run(runs: Path, number: int) -> Entry:
    """A run folder as a run of some cells leaves it, and its result."""
    flow = FLOWS[number % len(FLOWS)]
    region = REGIONS[number // 4 % len(REGIONS)]
    name = f"scenario_{number:05d}_{region}"
    folder = RunFolder(runs / flow / name, flow)
    folder.path.mkdir(parents=True)
    status = Status.ERROR if number % 25 == 7 else Status.WARNING if number % 16 == 3 else Status.SUCCESS
    log = [
        f"[{line:03d}] {flow} reads block {line} of {number}: {line * number % 9973} rows"
        for line in range(60)
    ]
    warnings = (LogWarning(31, "Warning: 3 gaps were filled"),) if status is Status.WARNING else ()
    if warnings:
        log[30] = warnings[0].text
    failure = a_failure(flow, number) if status is Status.ERROR else None
    folder.log.write_text("\n".join(log))
    folder.config.write_text(json.dumps(a_config(number, region, runs)))
    folder.notebook.write_text(json.dumps(a_notebook(log, with_figure=number % 400 == 0)))
    result = Result(
        flow,
        name,
        "flow",
        status,
        cause="exception" if failure else None,
        message=f"{failure.file}:{failure.line}: ValueError: {failure.evalue}" if failure else "",
        session_id="benchmark",
        run_id=f"{number:032x}",
        started=datetime.fromtimestamp(1.9e9 + PACE * number, UTC).isoformat(),
        finished=datetime.fromtimestamp(1.9e9 + PACE * number + 0.15, UTC).isoformat(),
        seconds=0.15,
        warnings=warnings,
        warning_count=len(warnings),
        failure=failure,
        exit_code=0,
        cells=Cells(3 if failure else 5, 5),
        config_hash=f"{number:064x}",
        inputs=({"path": f"runs/data_prep/{name}/clean.csv", "size": 5000 + number},),
        outputs=({"path": "model.json", "size": 1900}, {"path": "summary.csv", "size": 7000 + number}),
        peak_memory=140_000_000 + number,
        environment={
            "python": "3.11.7",
            "platform": "Linux-6.1-x86_64",
            "host": "host",
            "git": {"commit": "0" * 40, "dirty": False},
            "packages": {f"package{index}": f"{index}.2.3" for index in range(45)},
        },
        folder=folder.path,
    )
    # as `write_result` does, but without waiting for the disk ten thousand times
    folder.result.write_text(json.dumps(result.to_dict()))
    return Entry(
        result,
        f"config/flows/{flow}/{name}.json::{flow}[{name}]",
        tags=("slow",) if number % 10 == 0 else (),
        upstreams=(f"data_prep/{name}",) if flow != "data_prep" else (),
        worker=f"gw{number % 2}",
    )


def a_failure(flow: str, number: int) -> Failure:
    lines = [f"    line {index} of the flow, as long as lines are in most of them" for index in range(8)]
    traceback = "\n".join(["Traceback (most recent call last):", *lines, f"ValueError: row {number} is odd"])
    source = tuple({"line": 30 + index, "text": line} for index, line in enumerate(lines))
    return Failure(f"flows/{flow}.py", 34, 3, "ValueError", f"row {number} is odd", traceback, source)


def a_config(number: int, region: str, runs: Path) -> dict[str, Any]:
    return {
        "region": region,
        "horizon": 2030 + number % 4 * 10,
        "degree": number % 3,
        "clean_file": f"runs/data_prep/scenario_{number:05d}_{region}/clean.csv",
        "database": {"host": "db.example", "port": 5432, "schema": "scenarios"},
        **{f"parameter_{index}": index / 8 for index in range(12)},
        "_project_root": str(runs.parent),
    }


def a_notebook(log: Sequence[str], *, with_figure: bool) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = [{"output_type": "stream", "name": "stdout", "text": "\n".join(log)}]
    if with_figure:
        picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(40_000)).decode()
        outputs.append({"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}})
    cells = [{"cell_type": "code", "source": "pass", "outputs": outputs, "metadata": {}} for _ in range(2)]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


class Watched(LiveReport):
    """A live report with the clock of the session: ahead of ours by the runs that nobody waits for."""

    ahead = 0.0

    @staticmethod
    def clock() -> float:
        return time.perf_counter() + Watched.ahead


def session(runs: Path, entries: Sequence[Entry]) -> tuple[float, float, int]:
    """The seconds that a session pays for its report, processor and wall, and the number of writes."""
    live = Watched(runs, session_id="benchmark", project_root=runs.parent)
    written: list[int] = []
    write = live._write
    live._write = lambda head: (written.append(1), write(head))[1]  # type: ignore[method-assign]
    paid, worked = 0.0, time.process_time()

    def pay(work: Any, *given: Any) -> None:
        nonlocal paid
        begin = time.perf_counter()
        work(*given)
        paid += time.perf_counter() - begin

    planned = [
        replace(entry, result=replace(entry.result, status=Status.NOT_RUN, started=None)) for entry in entries
    ]
    pay(live.expect, planned)
    for entry in entries:
        Watched.ahead += PACE
        pay(live.update, entry)
    pay(live.close)
    return time.process_time() - worked, paid, len(written)


# --- the browser -------------------------------------------------------------------------------------------

KEYS = """async (word) => {
  const box = document.getElementById("search"), taken = [];
  for (let end = 1; end <= word.length; end += 1) {
    const begin = performance.now();
    box.value = word.slice(0, end);
    box.dispatchEvent(new Event("input"));
    document.getElementById("list").getBoundingClientRect();
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    taken.push(performance.now() - begin);
  }
  return taken;
}"""
#: The moment of the first paint, which on a busy machine may come after the page has loaded.
PAINT = """
() => new Promise(done => new PerformanceObserver(list => {
    const first = list.getEntriesByName("first-contentful-paint")[0];
    if (first) done(first.startTime);
}).observe({type: "paint", buffered: true}))
"""


def in_browser(page_file: Path, repeats: int) -> list[Line]:
    """What a person waits for."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium here: apt-get install chromium")
    paints, ready, keys, opened = [], [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(repeats):
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            begin = time.perf_counter()
            page.goto(page_file.as_uri(), wait_until="commit")
            page.wait_for_selector("[role=treeitem]")
            ready.append(time.perf_counter() - begin)
            page.wait_for_load_state("load")
            paints.append(page.evaluate(PAINT) / 1000)
            for word in ("status:warning", "horizon=2030 region=EU", "row 4 is odd"):
                keys += page.evaluate(KEYS, word)
            page.fill("#search", "")
            begin = time.perf_counter()
            page.click("[role=treeitem] >> nth=0")
            page.wait_for_selector("#panel-name")
            opened.append(time.perf_counter() - begin)
            heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
            page.close()
        browser.close()
    return [
        Line("first paint", statistics.median(paints), "s", 2),
        Line("rows can be clicked", statistics.median(ready), "s"),
        Line("a key in the search, median", statistics.median(keys), "ms", 100),
        Line("a key in the search, slowest of 20", sorted(keys)[int(len(keys) * 0.95)], "ms", 100),
        Line("open an instance", statistics.median(opened), "s"),
        Line("memory of the scripts", heap, "MB"),
    ]


# --- the program -------------------------------------------------------------------------------------------


def measure(folder: Path, count: int, repeats: int) -> list[Line]:
    runs = folder / "project" / "runs"
    entries = [make_run(runs, number) for number in range(count)]
    worked, paid, writes = session(runs, entries)
    wall = count * PACE + paid
    of_session = f"of a session of {wall:,.0f} s, all results and {writes} writes"
    return [
        Line("page", (runs / REPORT_HTML).stat().st_size / 1e6, "MB", 15),
        Line("JSON twin", (runs / REPORT_JSON).stat().st_size / 1e6, "MB"),
        Line(f"processor time: share {of_session}", 100 * worked / wall, "%", 2),
        Line("waited for, disk and neighbours included: share", 100 * paid / wall, "%"),
        *in_browser(runs / REPORT_HTML, repeats),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser_of(__doc__).parse_args(arguments)
    count, repeats = (300, 1) if options.quick else (10_000, 5)
    with tempfile.TemporaryDirectory(prefix="report-", ignore_cleanup_errors=True) as folder:
        lines = [line.cells() for line in measure(Path(folder), count, repeats)]
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {count:,} instances, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs, Python {platform.python_version()}."
    )
    print(
        "Made with `--quick`: this shows that it works, and is too little to judge by.\n"
        if options.quick
        else ""
    )
    rows = [("what", "measured", "at most"), *lines]
    if options.markdown:
        rows.insert(1, ("---", "---", "---"))
    for row in rows:
        print(
            "| " + " | ".join(row) + " |" if options.markdown else "{:70} {:>14}   {}".format(*row).rstrip()
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
