"""Ways to draw from a model."""
