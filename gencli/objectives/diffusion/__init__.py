"""Objectives of models that move along a path."""
