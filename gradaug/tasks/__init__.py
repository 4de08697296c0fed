"""What is learned: the loss of the full network, what sub-networks learn from it, the figures that are reported."""
