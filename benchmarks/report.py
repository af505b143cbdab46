"""What the status page costs: its size, its first paint, a key in its search, and its share of a session.

Each instance has ten parameters and ten metrics, and the page has the history of 40 sessions before.

    python benchmarks/report.py              10,000 instances, for docs/performance.md: some minutes
    python benchmarks/report.py --quick      300 instances: shows that it works, too little to judge by

The instances are copies of real runs: one in 25 an error, one in 16 a warning, some with a figure. A live
report gets them at the pace of a session on two workers whose runs take 0.15 s. What the session pays is
measured, its pace is not waited for. The page is opened in Chromium, as a file.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from harness import Flow, copy_run, heading, parser_of, shown, table, write_project

from ductaflow import FlowFailed, run_instance
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON
from ductaflow.common.text import iso_moment
from ductaflow.project.settings import Settings
from ductaflow.report import Entry, LiveReport
from ductaflow.report.history import MAX_SESSIONS, append_history
from ductaflow.report.past import Touched, packed_touched
from ductaflow.report.schema import SessionLine
from ductaflow.store.result import Status, read_result

#: Seconds of wall time between two results: runs of 0.15 s on two workers.
PACE = 0.075
CELL = """
from pathlib import Path
import pandas

me, kind = config["me"], config["kind"]
for line in range(60):
    print(f"[{line:03d}] {me} reads block {line}: {line * 7919 % 9973} rows")
if kind == "figure":
    import matplotlib.pyplot as plt

    plt.plot(range(100))
    plt.show()
if kind == "warning":
    print("Warning: 3 gaps were filled")
for name in ("model.json", "summary.csv"):
    Path(name).write_text("1, 2, 3\\n" * 500)
if kind == "error":
    raise ValueError(f"{me}: row 4 is odd")
"""
#: Numbers in the configs of the real runs, which copies have otherwise.
FIRST_NUMBER = 73_911_000
FLOWS = ("data_prep", "fit_trend", "forecast", "valuation")
KINDS = ("success", "warning", "error", "figure")
REGIONS = ("EU", "US", "ASIA", "AFRICA", "OCEANIA")

# --- a session ---------------------------------------------------------------------------------------------


def entries(project: Path, count: int) -> Iterator[Entry]:
    """Run each flow in each way, and copy that under other names."""
    for flow in FLOWS:
        configs = {
            f"scenario_{kind}": {
                "kind": kind,
                "me": f"scenario_{kind}",
                "region": "REGION",
                "horizon": 2030,
                "database": {"host": "db.example", "port": 5432},
                **{f"parameter_{index}": FIRST_NUMBER + index for index in range(4)},
            }
            for kind in KINDS
        }
        write_project(project, Flow(flow, [CELL]), configs)
        for name in configs:
            with contextlib.suppress(FlowFailed), contextlib.chdir(project):
                run_instance(f"{flow}/{name}", settings=Settings(html=False))
    chance = random.Random(0)
    for number in range(count):
        flow, region = FLOWS[number % 4], REGIONS[number // 4 % 5]
        kind = "error" if number % 25 == 7 else "warning" if number % 16 == 3 else "success"
        name, runs = f"scenario_{number:05d}_{region}", project / "runs" / flow
        source = "figure" if number % 400 == 0 else kind
        values = {str(FIRST_NUMBER + index): f"{chance.random():.6g}" for index in range(4)}
        copy_run(runs / f"scenario_{source}", runs / name, REGION=region, **values)
        result = read_result(runs / name)
        if result is None or result.status.value != kind:
            raise SystemExit(f"{runs / name}: {result} instead of {kind}")
        times = (iso_moment(datetime.fromtimestamp(1.9e9 + PACE * number + add, UTC)) for add in (0, 0.15))
        yield Entry(
            replace(
                result,
                started=next(times),
                finished=next(times),
                seconds=0.15,
                session_id="benchmark",
                metrics=numbers(chance) if kind != "error" else {},
            ),
            f"config/flows/{flow}/{name}.json::{flow}[{name}]",
            tags=("slow",) if number % 10 == 0 else (),
            upstreams=(f"data_prep/{name}",) if flow != "data_prep" else (),
            worker=f"gw{number % 2}",
            is_stored=True,
        )


def numbers(chance: random.Random) -> dict[str, float]:
    """Ten metrics of a run: of another size each, as models have them."""
    return {f"metric_{index}": chance.gauss(10**index, 10**index) for index in range(-4, 6)}


def before(metrics: Mapping[str, object]) -> dict[str, float]:
    """What the session before found: three of the ten were otherwise."""
    known = {name: value for name, value in metrics.items() if isinstance(value, float)}
    return {**known, **{name: value / 2 for name, value in known.items() if name in list(known)[::4]}}


def write_history(runs: Path, given: list[Entry]) -> None:
    """Write what 40 sessions before made of all instances, and the numbers that the last one found."""
    chance = random.Random(1)
    statuses = [*Status]
    found = {entry.result.id: before(entry.result.metrics) for entry in given}
    for session in range(MAX_SESSIONS):
        touched = {
            entry.result.id: Touched(chance.choices(statuses, [20, 2, 1, 1, 1, 5])[0], chance.uniform(0.1, 9))
            for entry in given
        }
        summary = {status.value: 0 for status in Status}
        summary |= Counter(one.status.value for one in touched.values())
        line: SessionLine = {
            "session_id": f"s{session}",
            "started": f"2029-12-{1 + session % 28:02}T00:00:00Z",
            "finished": f"2029-12-{1 + session % 28:02}T01:00:00Z",
            "seconds": 3600.0,
            "summary": summary,
            "red": [],
            "touched": packed_touched(touched),
        }
        append_history(runs, line, found if session == MAX_SESSIONS - 1 else {})


class Watched(LiveReport):
    """A live report with the clock of the session: ahead of ours by the runs that nobody waits for."""

    ahead = 0.0
    writes = 0
    held_up = 600.0

    @staticmethod
    def clock() -> float:
        return time.perf_counter() + Watched.ahead

    def _write(self, *given: Any, **options: Any) -> Any:
        Watched.writes += 1
        return super()._write(*given, **options)


def session(runs: Path, given: list[Entry]) -> tuple[float, float]:
    """The seconds that a session pays for its report: of the processor, and on the clock."""
    live = Watched(runs, session_id="benchmark", project_root=runs.parent)
    worked, begin = time.process_time(), time.perf_counter()
    planned = [replace(one.result, status=Status.NOT_RUN, started=None) for one in given]
    live.expect([replace(entry, result=result) for entry, result in zip(given, planned, strict=True)])
    for entry in given:
        Watched.ahead += PACE
        live.update(entry)
    live.close()
    return time.process_time() - worked, time.perf_counter() - begin


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


Line = tuple[str, float, str, float | None]

#: Views that follow the search, and what is typed into it.
VIEWS = ("list", "table")
WORDS = ("status:warning", "horizon=2030 region=EU", "row 4 is odd")


def in_browser(page_file: Path, repeats: int) -> list[Line]:
    """What a person waits for."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium here: apt-get install chromium")
    lines: list[Line] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for slower in (1, 6):
            looked = [look(browser, page_file, slower) for _ in range(repeats)]
            of_cpu = "" if slower == 1 else f", processor {slower} times slower"
            most_paint, most_key = (0.5, 50) if slower == 1 else (2, 200)
            paints, ready, opened, heaps = ([one[part] for one in looked] for part in range(4))
            lines.append((f"first paint{of_cpu}", statistics.median(paints), "s", most_paint))
            lines.append((f"rows can be clicked{of_cpu}", statistics.median(ready), "s", None))
            for view in looked[0][4]:
                keys = sorted(key for one in looked for key in one[4][view])
                name = f"a key in the search, {view}{of_cpu}"
                lines.append((f"{name}: median", statistics.median(keys), "ms", most_key))
                lines.append((f"{name}: slowest of 20", keys[int(len(keys) * 0.95)], "ms", None))
            lines.append((f"open an instance{of_cpu}", statistics.median(opened), "s", None))
        lines.append(("memory of the scripts", max(heaps), "MB", None))
        browser.close()
    return lines


class Looked(NamedTuple):
    """What one visit took: seconds, MB, and milliseconds for each key by view."""

    paint: float
    ready: float
    opened: float
    heap: float
    keys: dict[str, list[float]]


def look(browser: Any, page_file: Path, slower: int) -> Looked:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    begin = time.perf_counter()
    page.goto(page_file.as_uri(), wait_until="commit")
    page.wait_for_selector("[role=treeitem]")
    ready = time.perf_counter() - begin
    page.wait_for_load_state("load")
    paint = page.evaluate(PAINT) / 1000
    keys: dict[str, list[float]] = {}
    for view in VIEWS:
        page.click(f"#tab-{view}")
        keys[view] = [taken for word in WORDS for taken in page.evaluate(KEYS, word)]
        page.fill("#search", "")
        # The suggestions of the search would lie above the rows.
        page.keyboard.press("Escape")
        page.evaluate("document.activeElement.blur()")
    page.click("#tab-list")
    begin = time.perf_counter()
    page.click("[role=treeitem] >> nth=0")
    page.wait_for_selector("#panel-name")
    opened = time.perf_counter() - begin
    heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
    page.close()
    return Looked(paint, ready, opened, heap, keys)


def measure(project: Path, count: int, repeats: int) -> list[Line]:
    runs = project / "runs"
    given = list(entries(project, count))
    write_history(runs, given)
    worked, paid = session(runs, given)
    wall = count * PACE + paid
    share = f"share of a session of {wall:,.0f} s, all results and {Watched.writes} writes"
    return [
        ("page", (runs / REPORT_HTML).stat().st_size / 1e6, "MB", 15),
        ("JSON twin", (runs / REPORT_JSON).stat().st_size / 1e6, "MB", None),
        (f"processor time: {share}", 100 * worked / wall, "%", 1),
        ("waited for, disk and neighbours included: share", 100 * paid / wall, "%", None),
        *in_browser(runs / REPORT_HTML, repeats),
    ]


def main() -> None:
    options = parser_of(__doc__).parse_args()
    count, repeats = (300, 1) if options.quick else (10_000, 5)
    with tempfile.TemporaryDirectory(prefix="report-", ignore_cleanup_errors=True) as folder:
        lines = measure(Path(folder), count, repeats)
    rows = []
    for what, value, unit, most in lines:
        limit = "" if most is None else f"{most:g} {unit}: {'held' if value <= most else '**missed**'}"
        rows.append([what, f"{shown([value])} {unit}", limit])
    print(
        heading(options.quick), table(f"{count:,} instances", ["what", "measured", "at most"], rows), sep="\n"
    )


if __name__ == "__main__":
    main()
