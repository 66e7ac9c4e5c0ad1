"""What a network sees of the coordinates before the one that it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Encoding:
    """Features of one coordinate.

    Args:
        kind: ``identity`` (x itself), ``value`` (2 x / (K - 1) - 1), ``onehot``, or ``thermometer`` (1 for every k
            below x, so that near levels look alike).
        levels: K; 0: x is a real.
    """

    kind: Literal["identity", "value", "onehot", "thermometer"]
    levels: int = 0

    @property
    def features(self) -> int:
        """I, their number."""
        return {"onehot": self.levels, "thermometer": self.levels - 1}.get(self.kind, 1)

    def __call__(self, x: Tensor) -> Tensor:
        """(*) -> (*, I), floats."""
        if self.kind == "identity":
            return x[..., None]
        if self.kind == "onehot":
            return F.one_hot(x, self.levels).float()
        if self.kind == "thermometer":
            return (x[..., None] > torch.arange(self.levels - 1, device=x.device)).float()
        return 2 * x[..., None].float() / (self.levels - 1) - 1
