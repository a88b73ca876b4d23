"""Releases that prove themselves: made, signed, attested and verified."""
