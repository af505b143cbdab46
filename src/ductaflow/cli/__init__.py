"""The command `ductaflow`."""
