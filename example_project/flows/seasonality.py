# %% [markdown]
# # How large is the yearly cycle?
#
# Takes the filled record of `data_prep` (its scenario A, the whole record), removes a moving mean of one year
# and gives the distance from the highest to the lowest week of the mean year, decade by decade.
# It has one config and no scenarios: `config/flows/seasonality.json` alone is its instance `default`.

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
    config = load_cli_config("config/flows/seasonality.json", "How large is the yearly cycle?")

settings = unpack_config(config, "seasonality")
clean_file = settings["clean_file"]
unit = settings["unit"]

display_config_summary(config, "seasonality")

# %%
import pandas as pd

# %%
clean = pd.read_csv(clean_file, parse_dates=["date"])
clean["anomaly"] = clean["co2"] - clean["co2"].rolling(52, center=True).mean()
clean["decade"] = clean["date"].dt.year // 10 * 10
clean["week"] = (clean["date"].dt.day_of_year - 1) // 7

mean_year = clean.groupby(["decade", "week"])["anomaly"].mean().unstack("decade")
swing = (mean_year.max() - mean_year.min()).loc[1960:1990]
record({f"swing_{decade}": float(value) for decade, value in swing.items()})
swing = swing.round(2)
swing.rename("swing").to_csv("seasonality.csv")
print(f"Yearly swing: {swing.loc[1960]} {unit} in the 1960s, {swing.loc[1990]} {unit} in the 1990s")

# %%
swing.to_frame(f"swing ({unit})")
