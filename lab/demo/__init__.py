"""The demo that a place is given to try things with: two registries, a key pair, images without a signature."""
