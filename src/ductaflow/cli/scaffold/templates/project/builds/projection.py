# %% [markdown]
# # From the parameters of a scenario to its result
#
# Runs flows in order. Each one has a folder of its own below this build's run folder.

# %% tags=["parameters"]
config = {}

# %%
from ductaflow import is_notebook_execution, load_cli_config, run_notebook, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/builds/projection.json", "From parameters to a result")

settings = unpack_config(config, "projection")

# %%
notebook = run_notebook(
    "flows/growth.py",
    config={key: settings[key] for key in ("start", "rate", "years")},
    execution_dir="runs/growth",
)

# %%
import csv
import json

with open(notebook.parent / "growth.csv", newline="", encoding="utf-8") as file:
    last = list(csv.DictReader(file))[-1]
with open("summary.json", "w", encoding="utf-8") as file:
    json.dump({"year": int(last["year"]), "value": float(last["value"])}, file, indent=2)
