# %% [markdown]
# # Clean the weekly record
#
# Cuts the raw record to a span, counts the weeks without a measurement and fills them by linear
# interpolation. The column `measured` keeps the difference: filled weeks make the series regular, but they
# are never fitted and never scored.

# %% tags=["parameters"]
config = {}

# %%
from ductaflow import (
    display_config_summary,
    is_notebook_execution,
    load_cli_config,
    record,
    unpack_config,
)

if not is_notebook_execution():
    config = load_cli_config("config/flows/data_prep.json", "Clean the weekly record")

settings = unpack_config(config, "data_prep")
raw_file = settings["raw_file"]
start, end = settings["start"], settings["end"]
unit = settings["unit"]

display_config_summary(config, "data_prep")

# %%
import json
from pathlib import Path

import pandas as pd

# %% [markdown]
# ## Read and cut

# %%
raw = pd.read_csv(raw_file, parse_dates=["date"], date_format="%Y%m%d")
weeks = raw[raw["date"].between(start, end)].reset_index(drop=True)
if weeks.empty:
    raise ValueError(f"{raw_file.name} has no week between {start} and {end}")

missing = weeks["co2"].isna()
longest_gap = int(missing.groupby((~missing).cumsum()).sum().max())
if missing.any():
    print(
        f"Warning: {missing.sum()} of {len(weeks)} weeks have no measurement; "
        f"they are interpolated, at most {longest_gap} in a row"
    )

# %% [markdown]
# ## Fill and write

# %%
clean = pd.DataFrame(
    {
        "date": weeks["date"],
        "co2": weeks["co2"].interpolate(limit_direction="both").round(2),
        "measured": ~missing,
    }
)
clean.to_csv("clean.csv", index=False)

summary = {
    "first": str(clean["date"].iloc[0].date()),
    "last": str(clean["date"].iloc[-1].date()),
    "weeks": len(clean),
    "missing": int(missing.sum()),
    "longest_gap": longest_gap,
    "mean": round(float(clean["co2"].mean()), 2),
}
Path("summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
record(weeks=len(clean), missing=int(missing.sum()), mean=float(clean["co2"].mean()))
print(f"{len(clean)} weeks from {summary['first']} to {summary['last']}, mean {summary['mean']} {unit}")
