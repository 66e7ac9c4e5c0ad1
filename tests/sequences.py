"""Sequences and small models of them, for the tests of text."""

import torch


def text(n=200, V=5, seed=0):
    return torch.randint(0, V, (n,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
