"""Keys: pairs, the files that they lie in, and the passwords of those; policy and signing share them."""
