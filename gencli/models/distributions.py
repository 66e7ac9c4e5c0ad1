"""The distribution of one coordinate while those before it are fixed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

from gencli.core.noise import Noise


class Conditional(ABC):
    """The distribution of one coordinate for each of n rows, while the coordinates before it are fixed."""

    @abstractmethod
    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """One draw a row, (n,); temperature divides log-probabilities, or scales the standard deviation of reals."""


class Categorical(Conditional):
    """A coordinate in 0..K-1.

    Args:
        logits: (n, K) unnormalised log-probabilities.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def truncated(self, top_k: int | None = None, top_p: float | None = None) -> Categorical:
        """Only the k likeliest values, or the fewest whose probability reaches p (the likeliest one always stays)."""
        logits = self.logits
        if top_k is not None and top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(top_k, -1).values[..., -1:], -math.inf)
        if top_p is not None and top_p < 1:
            ordered, index = logits.sort(-1, descending=True)
            p = ordered.softmax(-1)
            out = p.cumsum(-1) - p >= top_p  # what comes before already reaches p
            out[..., 0] = False
            logits = logits.masked_fill(out.scatter(-1, index, out), -math.inf)
        return Categorical(logits)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            noise.rand(len(self.logits))  # the stream goes on as at any other temperature
            return self.logits.argmax(-1)
        exact = self.logits if self.logits.device.type == "mps" else self.logits.double()  # MPS has no fp64
        p = (exact / temperature).softmax(-1)  # inversion: u falls into exactly one value's interval
        u = noise.rand(len(p)).to(p)[:, None]
        return (p.cumsum(-1)[:, :-1] <= u).sum(-1)


class Fair(Categorical):
    """A choice that belongs to the model itself, such as which member of a mixture a row is drawn from.

    Neither truncation nor temperature applies to it.
    """

    def truncated(self, top_k: int | None = None, top_p: float | None = None) -> Fair:
        return self

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return super().sample(noise)
