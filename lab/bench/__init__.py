"""Measurements: what a verdict costs a container start, and what signing costs."""
