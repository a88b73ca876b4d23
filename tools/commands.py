"""Tasks about outside tools."""
