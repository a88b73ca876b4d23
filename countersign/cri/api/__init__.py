"""Messages of CRI v1, of ``api.proto`` (k8s.io/cri-api)."""
