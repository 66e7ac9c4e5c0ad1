"""Weldon's Naples crabs: forehead breadth over body length of 1,000 females, in 29 intervals.

The first data that a mixture was fitted to: "Contributions to the mathematical theory of evolution" (Pearson, 1894).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.split import TensorSplit, shares

# Upper boundary of each interval of the ratio, and the number of crabs in it.
COUNTS = (
    (0.5835, 1), (0.5875, 3), (0.5915, 5), (0.5955, 2), (0.5995, 7), (0.6035, 10), (0.6075, 13), (0.6115, 19),
    (0.6155, 20), (0.6195, 25), (0.6235, 40), (0.6275, 31), (0.6315, 60), (0.6355, 62), (0.6395, 54), (0.6435, 74),
    (0.6475, 84), (0.6515, 86), (0.6555, 96), (0.6595, 85), (0.6635, 75), (0.6675, 47), (0.6715, 43), (0.6755, 24),
    (0.6795, 19), (0.6835, 9), (0.6875, 5), (0.6915, 0), (float("inf"), 1),
)  # fmt: skip


class Crabs(Lazy):
    """1,000 ratios as the index k of their interval, k = 0..28.

    The first and the last interval are open; here they get the width of the others, 0.004. In model space a crab is
    its ratio, 0.5795 + 0.004 (k + u), so that fitted means and widths compare with Pearson's; data space stays
    discrete.

    Args:
        in_sample: all crabs are training data and there is no other split, which was Pearson's question; false: a fixed
            seeded split of 800, 100 and 100.
    """

    name = "crabs"
    support: ClassVar[str] = "levels:29"
    shape_kind: ClassVar[str] = "vector"
    unit = (0.5795, 0.004)

    def __init__(self, in_sample: bool = True) -> None:
        super().__init__()
        self.spec = Spec((1,), Support.parse(self.support))
        self.in_sample = in_sample
        self.train_on = "all" if in_sample else "train"

    def load(self, name: str) -> TensorSplit | None:
        counts = np.array([count for _, count in COUNTS])
        x = torch.from_numpy(np.repeat(np.arange(len(counts), dtype=np.uint8), counts)).unsqueeze(1)
        if self.in_sample:
            return TensorSplit(x) if name == "train" else None
        return TensorSplit(x[torch.from_numpy(shares(len(x), (0.1, 0.1), seed=0)[name])])
