"""Ways to measure the NLL."""
