"""Latent variables: p(x) is an integral, and the likelihood is bounded."""
