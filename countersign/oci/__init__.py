"""Images and registries: references, descriptors, and a bounded client of the OCI distribution API."""
