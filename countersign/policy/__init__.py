"""What may run: ``policy.yaml``, its model, and one renderer per engine."""
