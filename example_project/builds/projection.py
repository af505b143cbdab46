# %% [markdown]
# # From the raw record to a judged forecast
#
# Runs three flows in order. Each one has a folder of its own below this build's run folder, and reads the
# others by `../<flow>/<file>`.

# %% tags=["parameters"]
config = {}

# %%
from ductaflow import (
    display_config_summary,
    is_notebook_execution,
    load_cli_config,
    record,
    run_notebook,
    unpack_config,
)

if not is_notebook_execution():
    config = load_cli_config("config/builds/projection.json", "From the raw record to a judged forecast")

settings = unpack_config(config, "projection")
until, degree, horizon = settings["until"], settings["degree"], settings["horizon"]
unit = settings["unit"]

display_config_summary(config, "projection")

# %%
import json
from pathlib import Path

import pandas as pd

# %% [markdown]
# ## Run the flows
#
# `run_notebook` returns the executed notebook; what the flow wrote lies beside it.

# %%
prepared = run_notebook(
    "flows/data_prep.py",
    config={key: config[key] for key in ("raw_file", "start", "end", "unit")},
    execution_dir="runs/data_prep",
)

# %%
fitted = run_notebook(
    "flows/fit_trend.py",
    config={
        "clean_file": "../data_prep/clean.csv",
        "until": until,
        "degree": degree,
        "harmonics": settings["harmonics"],
        "unit": unit,
    },
    execution_dir="runs/fit_trend",
)

# %%
judged = run_notebook(
    "flows/forecast.py",
    config={
        "clean_file": "../data_prep/clean.csv",
        "model_file": "../fit_trend/model.json",
        "horizon": horizon,
        "level": settings["level"],
        "unit": unit,
    },
    execution_dir="runs/forecast",
)

# %% [markdown]
# ## Summary

# %%
prepared_summary = json.loads(prepared.with_name("summary.json").read_text(encoding="utf-8"))
model = json.loads(fitted.with_name("model.json").read_text(encoding="utf-8"))
scores = json.loads(judged.with_name("scores.json").read_text(encoding="utf-8"))
summary = {
    "until": until,
    "degree": degree,
    "horizon": horizon,
    "missing_weeks": prepared_summary["missing"],
    "fitted_weeks": model["weeks"],
    "residual_std": round(model["residual_std"], 3),
    "rmse": scores["rmse"],
    "bias": scores["bias"],
    "coverage": scores["coverage"],
    "final_forecast": scores["final_forecast"],
}
Path("summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
record({name: summary[name] for name in ("fitted_weeks", "residual_std", "rmse", "bias", "coverage")})
print(
    f"Degree {degree}, fitted up to {until}: after {horizon} years {scores['final_forecast']} {unit}, "
    f"RMSE {scores['rmse']} {unit}, {scores['coverage']:.0%} of the weeks inside the band"
)

# %%
pd.Series(summary, name="value", dtype=object).to_frame()
