"""A repository → its release.yaml, the workflow that releases it, and policies for those who run its images."""
