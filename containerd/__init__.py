"""Enforcement on containerd: a private instance on this host, its set-up and its end."""
