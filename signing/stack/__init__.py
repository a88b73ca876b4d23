"""A private Sigstore on loopback: for air-gapped sites, and for interoperation tests (docs/sigstore.md)."""
