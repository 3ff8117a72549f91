"""Everybody: intake, workers, tables."""
