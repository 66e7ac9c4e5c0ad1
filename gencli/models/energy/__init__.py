"""Unnormalised densities."""
