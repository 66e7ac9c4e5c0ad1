"""Latent: push a simple base through a network that is not invertible; a bound on the likelihood, or none."""
