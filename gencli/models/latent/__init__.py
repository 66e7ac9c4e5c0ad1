"""Latent: push a simple base through a network that is not invertible; the likelihood is bounded."""
