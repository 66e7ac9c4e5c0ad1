"""Benchmarks: ``python -m benchmarks.NAME`` from the root of a checkout. None of them is part of the package."""

import gencli as gencli  # before torch, which reads once how its threads wait
