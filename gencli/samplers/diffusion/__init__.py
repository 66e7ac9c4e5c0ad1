"""Samplers that walk along a path."""
