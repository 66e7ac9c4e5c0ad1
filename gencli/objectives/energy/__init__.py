"""Objectives of unnormalised densities."""
