"""Examples of a mixture of Gaussians: p(x) = sum_k w_k N(x; mu_k, I), of any dimension."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from gencli.core.noise import mix_seed
from gencli.core.options import Count, NonNegative, Seed
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.split import SPLITS, TensorSplit

_DRAWS = 100_000  # of the Monte Carlo entropy


class Mixture(Lazy):
    """A mixture with means mu_k ~ N(0, separation^2 I) and weights w ~ Dirichlet(10), drawn from the seed.

    ``entropy`` is the mean of -``log_prob`` over 100,000 own seeded examples; ``entropy_error`` is its standard error.

    Args:
        dim: D.
        components: K.
        separation: scale of the means, in standard deviations of a component.
        seed: of the parameters and of the examples.
        train: number of training examples.
        val: number of validation examples.
        test: number of test examples.
    """

    name = "gmm"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self,
        dim: Count = 2,
        components: Count = 5,
        separation: NonNegative = 3.0,
        seed: Seed = 0,
        train: Count = 50_000,
        val: Count = 5_000,
        test: Count = 10_000,
    ) -> None:
        super().__init__()
        self.spec = Spec((dim,), Support.parse(self.support))
        self.sizes, self.seed = dict(zip(SPLITS, (train, val, test), strict=True)), seed
        generator = torch.Generator().manual_seed(mix_seed(seed))
        self.means = separation * torch.randn(components, dim, generator=generator, dtype=torch.float64)
        gamma = -torch.rand(10, components, generator=generator, dtype=torch.float64).log().sum(0)
        self.weights = gamma / gamma.sum()

        surprise = -self.log_prob(self._draw(_DRAWS, 0))
        self.entropy = float(surprise.mean())
        self.entropy_error = float(surprise.std()) / math.sqrt(_DRAWS)

    def _draw(self, n: int, stream: int) -> Tensor:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, 1 + stream))
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.means[k] + torch.randn(n, self.spec.dim, generator=generator, dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats: (B, D) -> (B,), in fp64."""
        x = x.double()
        log_joint = [w.log() - 0.5 * (x - mu).square().sum(1) for w, mu in zip(self.weights, self.means, strict=True)]
        return torch.stack(log_joint).logsumexp(0) - 0.5 * self.spec.dim * math.log(2 * math.pi)

    def log_density(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.log_prob(x)

    def load(self, name: str) -> TensorSplit:
        return TensorSplit(self._draw(self.sizes[name], 1 + SPLITS.index(name)).float())
