# %% [markdown]
# # How a quantity grows
#
# Compound growth, year by year. Write your own analysis here: what it prints is the log, a line that begins
# with `Warning:` makes the run orange, an exception makes it red.

# %% tags=["parameters"]
config = {}

# %%
from ductaflow import display_config_summary, is_notebook_execution, load_cli_config, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/growth.json", "How a quantity grows")

settings = unpack_config(config, "growth")
start, rate, years = settings["start"], settings["rate"], settings["years"]

display_config_summary(config, "growth")

# %%
import csv

values = [start * (1 + rate) ** year for year in range(years + 1)]
if values[-1] > 10 * start:
    print(f"Warning: more than ten times as much after {years} years")

# %% [markdown]
# The working directory is the run folder: what is written here belongs to this run alone.

# %%
with open("growth.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["year", "value"])
    table.writerows(enumerate(values))

print(f"after {years} years: {values[-1]:.1f}")
