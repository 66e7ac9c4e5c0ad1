"""Examples of a Gaussian of any dimension: x ~ N(mu, Sigma), whose entropy is known exactly."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from gencli.core.noise import mix_seed
from gencli.core.options import Count, Seed
from gencli.core.spec import Spec, Support
from gencli.data.lazy import Lazy
from gencli.data.split import SPLITS, TensorSplit


class Gaussian(Lazy):
    """A correlated Gaussian, with a mean and covariance drawn from the seed.

    Sigma = A A^T / D + I / 4 for a standard normal A (D, D) and mu ~ N(0, I); H = ln det(2 pi e Sigma) / 2.

    Args:
        dim: D.
        seed: of the parameters and of the examples.
        train: number of training examples.
        val: number of validation examples.
        test: number of test examples.
    """

    name = "gaussian"
    support: ClassVar[str] = "real"
    shape_kind: ClassVar[str] = "vector"

    def __init__(
        self, dim: Count = 2, seed: Seed = 0, train: Count = 50_000, val: Count = 5_000, test: Count = 10_000
    ) -> None:
        super().__init__()
        self.spec = Spec((dim,), Support.parse(self.support))
        self.sizes, self.seed = dict(zip(SPLITS, (train, val, test), strict=True)), seed
        generator = torch.Generator().manual_seed(mix_seed(seed))
        self.mean = torch.randn(dim, generator=generator, dtype=torch.float64)
        a = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
        self.covariance = a @ a.T / dim + torch.eye(dim, dtype=torch.float64) / 4
        self.entropy = 0.5 * (dim * math.log(2 * math.pi * math.e) + float(torch.logdet(self.covariance)))

    def log_density(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.distributions.MultivariateNormal(self.mean, self.covariance).log_prob(x.double())

    def load(self, name: str) -> TensorSplit:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, 1 + SPLITS.index(name)))
        e = torch.randn(self.sizes[name], len(self.mean), generator=generator, dtype=torch.float64)
        return TensorSplit((self.mean + e @ torch.linalg.cholesky(self.covariance).T).float())
