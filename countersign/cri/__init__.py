"""A typed client of the Kubernetes Container Runtime Interface (CRI v1), for containerd and CRI-O alike."""
