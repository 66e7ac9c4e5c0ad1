"""The toys of the plane in digits of a base K, which are categories to a model: what is near is not said.

Those of "Energy-based modelling for discrete and mixed data via heat equations on structured spaces" (Schröder, Ou, Li
and Duncan, 2024), but for a fixed scale.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from gencli.core.options import Count, Positive, Seed
from gencli.core.spec import Support
from gencli.data.quantised import Quantised, Shape

DIGITS = {5: 16, 10: 12}
"""D of each base, as published."""


class CategoricalToys(Quantised):
    """Half of the digits for x, then half for y, the highest first; 16 digits of base 5 or 12 of base 10.

    Args:
        toy: which; ``spirals`` and ``eight_gaussians`` are the 2spirals and 8gaussians of the papers.
        states: K, the base.
        scale: cells a unit of the plane, on which every NLL depends; None: the published square of the toy.
        train: number of training examples; many, because the published code draws fresh ones at each step.
        val: number of validation examples.
        test: number of test examples.
        seed: of the examples.

    Raises:
        ValueError: a scale whose square is too small for the toy.
    """

    support: ClassVar[str] = "categorical:5"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        toy: Shape = "spirals",
        states: Literal[5, 10] = 5,
        scale: Positive | None = None,
        train: Count = 1_000_000,
        val: Count = 10_000,
        test: Count = 20_000,
        seed: Seed = 0,
    ) -> None:
        super().__init__(toy, Support("categorical", states), DIGITS[states], scale, (train, val, test), seed)
        self.name = f"categorical_toys_{toy}"
        self.places = states ** np.arange(DIGITS[states] // 2, dtype=np.int32)[::-1]

    def word(self, k: np.ndarray) -> np.ndarray:
        return (k[:, None] // self.places % self.spec.support.size).astype(np.uint8)

    def number(self, digits: Tensor) -> Tensor:
        return (digits.long() * torch.from_numpy(self.places.copy())).sum(1)
