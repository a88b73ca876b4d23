"""The lab: it stands above what it tries, and nothing of the product imports it."""
