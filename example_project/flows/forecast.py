# %% [markdown]
# # Forecast and judge
#
# Carries the fit on for `horizon` years with a prediction band, and compares it with the measured weeks that
# the fit has not seen.

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
    config = load_cli_config("config/flows/forecast.json", "Forecast and judge")

settings = unpack_config(config, "forecast")
clean_file, model_file = settings["clean_file"], settings["model_file"]
horizon, level = settings["horizon"], settings["level"]
unit = settings["unit"]

display_config_summary(config, "forecast")

# %%
import json
from pathlib import Path
from statistics import NormalDist

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from co2_model import design_matrix

# %% [markdown]
# ## Forecast

# %%
clean = pd.read_csv(clean_file, parse_dates=["date"])
model = json.loads(model_file.read_text(encoding="utf-8"))
until = model["until"]
end_year = until + horizon

last_fitted = clean.loc[clean["date"].dt.year <= until, "date"].max()
dates = pd.Series(pd.date_range(last_fitted, f"{end_year}-12-31", freq="7D")[1:])

matrix = design_matrix(dates, degree=model["degree"], harmonics=model["harmonics"], origin=model["origin"])
expected = matrix @ np.array(model["coefficients"])
# The uncertainty of the curve and the scatter of a week around it.
curve_variance = np.einsum("ij,jk,ik->i", matrix, np.array(model["covariance"]), matrix)
half_width = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(curve_variance + model["residual_std"] ** 2)

forecast = pd.DataFrame(
    {"date": dates, "forecast": expected, "lower": expected - half_width, "upper": expected + half_width}
)
held_out = clean.loc[clean["measured"], ["date", "co2"]].rename(columns={"co2": "observed"})
forecast = forecast.merge(held_out, on="date", how="left")
forecast.to_csv("forecast.csv", index=False, float_format="%.3f")

# %% [markdown]
# ## Judge
#
# A band at level 0.95 promises that one week in twenty lies outside. Twice as many break the promise.

# %%
judged = forecast.dropna(subset="observed")
if judged.empty:
    raise ValueError(f"no measured week between {until + 1} and {end_year}: the forecast cannot be judged")

error = judged["observed"] - judged["forecast"]
inside = judged["observed"].between(judged["lower"], judged["upper"])
scores = {
    "until": until,
    "end_year": end_year,
    "judged_weeks": len(judged),
    "rmse": round(float(np.sqrt((error**2).mean())), 3),
    "bias": round(float(error.mean()), 3),
    "coverage": round(float(inside.mean()), 3),
    "final_forecast": round(float(expected[-1]), 2),
    "final_half_width": round(float(half_width[-1]), 2),
}
Path("scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
record(
    judged_weeks=len(judged),
    rmse=float(np.sqrt((error**2).mean())),
    bias=float(error.mean()),
    coverage=float(inside.mean()),
    final_forecast=float(expected[-1]),
)

print(f"{until + 1} to {end_year}: RMSE {scores['rmse']} {unit}, bias {scores['bias']:+} {unit}")
print(f"{dates.iloc[-1].date()}: {scores['final_forecast']} ± {scores['final_half_width']} {unit}")
if 1 - inside.mean() > 2 * (1 - level):
    print(
        f"Warning: {1 - inside.mean():.0%} of {len(judged)} held-out weeks lie outside the {level:.0%} band; "
        "the record left the fitted trend"
    )

# %%
recent = clean[clean["measured"] & (clean["date"].dt.year > until - 10) & (clean["date"].dt.year <= end_year)]
figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
axes.fill_between("date", "lower", "upper", data=forecast, alpha=0.3, label=f"{level:.0%} band")
axes.plot("date", "forecast", data=forecast, linewidth=1, label="forecast")
axes.plot(recent["date"], recent["co2"], "k.", markersize=1.5, label="measured")
axes.axvline(last_fitted, color="grey", linestyle="--", linewidth=1)
axes.set_ylabel(f"CO2 ({unit})")
axes.set_title(f"Mauna Loa, fitted up to {until}: {inside.mean():.0%} of the later weeks inside the band")
axes.legend(loc="upper left")
figure.savefig("forecast.png", dpi=100)
if is_notebook_execution():
    plt.show()
