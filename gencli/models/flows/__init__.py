"""Flows: exact densities by change of variables."""
