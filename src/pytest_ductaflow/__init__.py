"""The pytest plugin of ductaflow: every stored instance is a test."""
