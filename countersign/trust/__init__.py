"""Trusted roots of a Sigstore: what they list, how two of them differ, and where a newer one comes from."""
