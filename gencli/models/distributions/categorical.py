"""Bits and categories: a logit, or logits of K values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gencli.core.noise import Noise
from gencli.core.spec import Support
from gencli.models.distributions.base import Conditional, Head


class Categorical(Conditional):
    """A coordinate in 0..K-1.

    Args:
        logits: (n, *, K) unnormalised log-probabilities.
        dtype: of a draw; bits are floats to every model.
    """

    def __init__(self, logits: Tensor, dtype: torch.dtype = torch.long) -> None:
        self.logits, self.dtype = logits, dtype

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
        return Categorical(logits, self.dtype)

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        u = noise.rand(*self.logits.shape[:-1])  # also where it is not used: the stream goes on as at any temperature
        if temperature == 0:
            return self.logits.argmax(-1).to(self.dtype)
        exact = torch.float32 if self.logits.device.type == "mps" else torch.float64  # MPS has no fp64
        logits = self.logits if temperature == 1 else self.logits.to(exact) / temperature
        p = logits.softmax(-1, dtype=exact)  # inversion: u falls into exactly one value's interval
        return (p.cumsum(-1)[..., :-1] <= u.to(p)[..., None]).sum(-1).to(self.dtype)


class Fair(Conditional):
    """A choice that belongs to the model itself, such as which member of a mixture a row is drawn from.

    Neither truncation nor temperature applies to it.

    Args:
        logits: (n, K) unnormalised log-probabilities of 0..K-1.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        return Categorical(self.logits).sample(noise)


@dataclass(frozen=True)
class BernoulliHead(Head):
    """A bit: P(x = 1) = sigma(l), P = 1."""

    n_params = 1

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        logit = params[..., 0]
        return x * logit - F.softplus(logit)

    def total(self, x: Tensor, params: Tensor) -> Tensor:
        """As the contract says, with x . l as a matrix product; in the precision of params under autocast, too."""
        logit = params[..., 0]
        with torch.autocast(logit.device.type, enabled=False):
            return (logit @ x.to(logit).mT)[..., 0] - F.softplus(logit).sum(-1)

    def conditional(self, params: Tensor) -> Categorical:
        return Categorical(torch.cat([torch.zeros_like(params), params], -1), params.dtype)

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """As the contract says; x = 1 where u < p, which for whole images costs less than the inversion of K values."""
        logit = params[..., 0]
        p = (logit / temperature).sigmoid() if temperature else (logit > 0).to(logit)
        return (noise.rand(*p.shape) < p).to(p)

    def mean(self, params: Tensor) -> Tensor:
        return params[..., 0].sigmoid()

    def fit(self, x: Tensor) -> Tensor:
        """As the contract says, with one more example of each value, so that no logit is infinite."""
        return ((x.sum(0) + 1) / (len(x) + 2)).logit()[:, None]


@dataclass(frozen=True)
class CategoricalHead(Head):
    """A value in 0..K-1, of any distribution: P(x = k) = softmax(l)_k, P = K.

    Args:
        support: K, whether the values are ordered, and whether they are bits, which are floats.
        pseudocount: examples of each value that ``fit`` adds, so that no logit is infinite.
    """

    support: Support
    pseudocount: float = 1.0

    @property
    def n_params(self) -> int:
        return self.support.size

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        x = x.long().expand(params.shape[:-1])
        return params.log_softmax(-1).gather(-1, x[..., None])[..., 0]

    def conditional(self, params: Tensor) -> Categorical:
        return Categorical(params, params.dtype if self.support.kind == "binary" else torch.long)

    def mean(self, params: Tensor) -> Tensor:
        if self.support.kind == "categorical":
            return params.argmax(-1).to(params)
        return params.softmax(-1) @ torch.arange(self.n_params, device=params.device, dtype=params.dtype)

    def fit(self, x: Tensor) -> Tensor:
        counts = torch.stack([(x == k).sum(0) for k in range(self.n_params)], -1)
        return ((counts + self.pseudocount) / (len(x) + self.n_params * self.pseudocount)).log()
