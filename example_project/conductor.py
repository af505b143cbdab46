"""Run the projection for every combination of three dimensions, and keep the status page up to date.

    python conductor.py

It is a plain script: a loop over the rows of a table, without a main guard. Every build has its own process.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd

from ductaflow import DuctaflowError, analyze_execution_logs, generate_status_report, run_notebook, scenarios

ROOT = Path(__file__).resolve().parent
RUNS = ROOT / "runs"
REPORT = RUNS / "conductor_status_report.html"

# What all scenarios have in common is what the stored instances of the build have in common.
common = {
    **json.loads((ROOT / "config/base.json").read_text(encoding="utf-8")),
    **json.loads((ROOT / "config/builds/projection.json").read_text(encoding="utf-8")),
}
table = scenarios({"until": [1993, 1995], "degree": [1, 2], "horizon": [5]})

results = []
for row in table.to_dict("records"):
    name = row.pop("instance")
    folder = RUNS / "projection" / name
    result = {"scenario": name, "status": "error", "error": "", "duration_minutes": 0.0}
    started = time.monotonic()
    try:
        run_notebook(
            ROOT / "builds/projection.py",
            config={**common, **row},
            execution_dir=folder,
            project_root=ROOT,
        )
        result["status"] = analyze_execution_logs(folder)
        result["coverage"] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["coverage"]
    except DuctaflowError as error:
        # A failed scenario costs only itself: it is kept in the table, and the next one runs.
        result["error"] = str(error)
    result["duration_minutes"] = (time.monotonic() - started) / 60
    results.append(result)
    REPORT.write_text(generate_status_report(results, RUNS), encoding="utf-8")

print(pd.DataFrame(results).round(2).to_string(index=False))
print(f"Report: {REPORT}")
sys.exit(1 if any(result["status"] == "error" for result in results) else 0)
