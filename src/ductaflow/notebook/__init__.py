"""Notebooks: read from source, executed in this process, exported. Knows nothing of runs."""
