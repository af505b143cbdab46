"""ductaflow: plain `.py` notebooks, run for many scenarios."""
