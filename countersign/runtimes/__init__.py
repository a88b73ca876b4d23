"""The family of runtimes: what every runtime does the same way, from set-up to teardown, at every kind of place."""
