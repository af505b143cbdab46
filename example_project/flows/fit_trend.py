# %% [markdown]
# # Fit trend and season
#
# Least squares on the measured weeks up to the end of the year `until`: a polynomial of `degree` in time plus
# `harmonics` of the yearly cycle. What comes later is held out; `forecast` is judged by it.

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
    config = load_cli_config("config/flows/fit_trend.json", "Fit trend and season")

settings = unpack_config(config, "fit_trend")
clean_file = settings["clean_file"]
until = settings["until"]
degree, harmonics = settings["degree"], settings["harmonics"]
unit = settings["unit"]

display_config_summary(config, "fit_trend")

# %%
import json
from pathlib import Path

import numpy as np
import pandas as pd
from co2_model import column_names, decimal_year, design_matrix

# %% [markdown]
# ## Weeks to fit

# %%
clean = pd.read_csv(clean_file, parse_dates=["date"])
weeks = clean[clean["measured"] & (clean["date"].dt.year <= until)]
if len(weeks) < 104:
    raise ValueError(f"{len(weeks)} measured weeks up to {until}: a yearly cycle needs two years at least")

# %% [markdown]
# ## Fit

# %%
origin = float(decimal_year(weeks["date"]).mean())
matrix = design_matrix(weeks["date"], degree=degree, harmonics=harmonics, origin=origin)
observed = weeks["co2"].to_numpy()

coefficients, *_ = np.linalg.lstsq(matrix, observed, rcond=None)
residuals = observed - matrix @ coefficients
residual_std = float(np.sqrt(residuals @ residuals / (len(weeks) - matrix.shape[1])))
covariance = residual_std**2 * np.linalg.inv(matrix.T @ matrix)

model = {
    "until": until,
    "degree": degree,
    "harmonics": harmonics,
    "origin": origin,
    "weeks": len(weeks),
    "residual_std": residual_std,
    "coefficients": coefficients.tolist(),
    "covariance": covariance.tolist(),
}
Path("model.json").write_text(json.dumps(model, indent=2) + "\n", encoding="utf-8")
record(weeks=len(weeks), residual_std=residual_std, growth_per_decade=float(coefficients[1]))
print(f"Fitted {len(weeks)} weeks up to {until}, residual standard deviation {residual_std:.2f} {unit}")

# %% [markdown]
# The trend's unit is one per decade to the power; the standard errors assume independent errors.

# %%
pd.DataFrame(
    {"coefficient": coefficients, "standard error": np.sqrt(np.diag(covariance))},
    index=column_names(degree=degree, harmonics=harmonics),
).round(3)
