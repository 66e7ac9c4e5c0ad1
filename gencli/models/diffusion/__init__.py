"""Diffusion, flow matching and continuous flows."""
