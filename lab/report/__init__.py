"""One page that shows what every run found: by image, layer, runtime and node."""
