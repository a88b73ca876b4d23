"""Admission: Kyverno refuses at the API server what the gate would refuse on the node."""
