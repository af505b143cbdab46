"""ductaflow: plain `.py` notebooks, run for many scenarios."""

from ductaflow.errors import FlowWarning as FlowWarning
