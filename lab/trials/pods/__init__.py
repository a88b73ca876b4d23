"""What pods see: every way in which Kubernetes brings a container about, with a signed and with an unsigned image."""
