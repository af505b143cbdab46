"""The model that the flows share: a polynomial trend plus the harmonics of one year."""

import numpy as np
import pandas as pd


def decimal_year(dates: pd.Series) -> pd.Series:
    """Dates as years with a fraction: noon of 2 July 1995 is about 1995.5."""
    days = 365 + dates.dt.is_leap_year
    return dates.dt.year + (dates.dt.day_of_year - 0.5) / days


def design_matrix(dates: pd.Series, *, degree: int, harmonics: int, origin: float) -> np.ndarray:
    """One row a date: the powers of time in decades since `origin`, then sine and cosine of each harmonic."""
    year = decimal_year(dates).to_numpy()
    decades = (year - origin) / 10
    columns = [decades**power for power in range(degree + 1)]
    for harmonic in range(1, harmonics + 1):
        angle = 2 * np.pi * harmonic * year
        columns += [np.sin(angle), np.cos(angle)]
    return np.column_stack(columns)


def column_names(*, degree: int, harmonics: int) -> list[str]:
    """What the columns of `design_matrix` are called."""
    trend = [f"trend^{power}" for power in range(degree + 1)]
    season = [f"{name} {harmonic}" for harmonic in range(1, harmonics + 1) for name in ("sin", "cos")]
    return trend + season
