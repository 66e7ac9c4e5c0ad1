"""Generative models, by the way each takes around the normalising constant."""
