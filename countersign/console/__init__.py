"""The command line: configuration, output, tasks and steps; every other room stands on it."""

__version__ = "0.1.0"
