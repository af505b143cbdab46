"""The projection without ductaflow's library and without notebooks: every flow is a script of its own.

    python pure_conductor.py

A flow takes a config file and a folder, so anything that starts processes can run it: this script, a shell, a
cluster's queue. The runs are in `runs/<flow>/<scenario>/`, as those of pytest.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
RUNS = ROOT / "runs"

failed = []
for until, degree in [(1993, 1), (1995, 2)]:
    name = f"pure_until-{until}_degree-{degree}"
    clean_file = f"runs/data_prep/{name}/clean.csv"
    model_file = f"runs/fit_trend/{name}/model.json"
    configs = {
        "data_prep": {"raw_file": "inputs/co2_weekly.csv", "start": "1985-08-10", "end": "2001-12-29"},
        "fit_trend": {"clean_file": clean_file, "until": until, "degree": degree, "harmonics": 2},
        "forecast": {"clean_file": clean_file, "model_file": model_file, "horizon": 5, "level": 0.95},
    }
    for flow, config in configs.items():
        config_file = RUNS / "pure_conductor" / f"{flow}_{name}.json"
        config_file.parent.mkdir(parents=True, exist_ok=True)
        config_file.write_text(json.dumps({"unit": "ppmv", **config}), encoding="utf-8")
        folder = RUNS / flow / name
        script = ROOT / "flows" / f"{flow}.py"
        command = [sys.executable, script, "--config", config_file, "--output-dir", folder]
        if subprocess.run(command).returncode != 0:
            failed.append(f"{flow}/{name}")
            break  # the next flow reads what this one did not write

print(f"Failed: {', '.join(failed)}" if failed else f"All scenarios ran, see {RUNS}")
sys.exit(1 if failed else 0)
