"""Exact likelihoods by the chain rule."""
