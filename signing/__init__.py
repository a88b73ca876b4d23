"""Signatures on images: keys, one module per format, and what pushes and checks them."""
