"""Rendered data sets, and readers of the real ones."""
