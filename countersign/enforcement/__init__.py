"""What puts the gate, its hook, its policy and its registry access on a node, and proves that they are in force."""
