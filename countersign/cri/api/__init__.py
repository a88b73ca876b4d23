"""Messages of CRI v1, made by ``python -m countersign.cri.generate`` from ``api.proto`` (k8s.io/cri-api)."""
