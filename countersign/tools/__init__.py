"""How an outside program is had: pinned versions, resolver."""
