"""A run as data and on disk: what was asked, what came of it, and whether that still holds."""
