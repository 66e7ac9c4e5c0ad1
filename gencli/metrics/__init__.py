"""Distances between samples of a model and held-out examples: what is left where there is no likelihood, and more."""
