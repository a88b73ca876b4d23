"""The matrix: each image, how it comes to be, how it reaches the node, and the verdict that must come out."""
