"""CRI-O on a machine: its packages or a binary, its configuration, and the trials of what it refuses."""
