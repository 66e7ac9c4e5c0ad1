"""Benchmarks: ``python -m benchmarks.NAME`` from the root of a checkout. None of them is part of the package."""
