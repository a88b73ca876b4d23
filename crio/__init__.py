"""Enforcement on CRI-O: its own signature policy, the gate behind hooks.d and NRI, and the proof that both decide."""
