"""The toys of the plane as Gray codes, in which neighbouring cells differ in one bit.

With 16 bits there are 65,536 states, so that Z, the entropy and the Kullback-Leibler divergence are sums. With 32 bits
they are those of "ALOE: learning discrete energy-based models via auxiliary-variable local exploration" (Dai et al.,
2020) and of its successors, but for a fixed scale. There the code is that of sign and size, which is this one with one
bit of each word inverted.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.options import Count, Positive, Seed
from gencli.core.spec import Support
from gencli.data.quantised import Quantised, Shape


class GrayToys(Quantised):
    """Half of the bits for x, then half for y, the highest first: the reflected Gray code k xor floor(k / 2).

    Args:
        toy: which; ``spirals`` and ``eight_gaussians`` are the 2spirals and 8gaussians of the papers.
        bits: D.
        scale: cells a unit of the plane, on which every NLL depends; None: the published one, of 32 bits the
            ``int_scale`` of seed 1.
        train: number of training examples; many, because the published code draws fresh ones at each step.
        val: number of validation examples.
        test: number of test examples.
        seed: of the examples.

    Raises:
        ValueError: a scale whose square is too small for the toy.
    """

    support: ClassVar[str] = "binary"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        toy: Shape = "spirals",
        bits: Literal[16, 32] = 32,
        scale: Positive | None = None,
        train: Count = 1_000_000,
        val: Count = 10_000,
        test: Count = 20_000,
        seed: Seed = 0,
    ) -> None:
        super().__init__(toy, Support.parse(self.support), bits, scale, (train, val, test), seed)
        self.name = f"gray_toys_{toy}"

    def word(self, k: np.ndarray) -> np.ndarray:
        gray = k ^ (k >> 1)
        places = np.arange(self.spec.dim // 2, dtype=np.int32)[::-1]
        return (gray[:, None] >> places & 1).astype(np.uint8)

    def number(self, digits: Tensor) -> Tensor:
        plain = digits.long().cumsum(1) % 2  # each bit of k is the parity of those of the code down to it
        return (plain << torch.arange(digits.shape[1]).flip(0)).sum(1)
