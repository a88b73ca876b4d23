"""What goes to all nodes of a place, whichever runtime they have."""
