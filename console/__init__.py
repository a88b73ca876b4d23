"""The way in: configuration, errors, output, steps, and the task decorator."""
