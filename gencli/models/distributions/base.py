"""The contract of a head: the distribution of a coordinate as a function of the parameters that a network gives."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from gencli.core.noise import Noise


class Conditional(ABC):
    """The distribution of one coordinate for each of n rows, while the coordinates before it are fixed."""

    @abstractmethod
    def sample(self, noise: Noise, temperature: float = 1.0) -> Tensor:
        """One draw a row, (n,); temperature divides log-probabilities, or scales the standard deviation of reals."""


class Head(ABC):
    """A family of distributions p(x | params) of one coordinate x, normalised for any finite params.

    ``n_params``: P, the number of parameters of a coordinate, which lie in the last dimension. Integers have a mass,
    reals a density.
    """

    @property
    @abstractmethod
    def n_params(self) -> int:
        """P."""

    @abstractmethod
    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """log p(x | params) in nats: x, which broadcasts to (*), and params (*, P) -> (*)."""

    def total(self, x: Tensor, params: Tensor) -> Tensor:
        """Sum of log p over D coordinates that are independent: x (B, 1, D) and params (B, k, D, P) -> (B, k) nats."""
        return self.log_prob(x, params).sum(-1)

    @abstractmethod
    def conditional(self, params: Tensor) -> Conditional:
        """The distribution with parameters (n, *, P), to be drawn from, perhaps truncated before."""

    def column(self, d: int) -> Head:
        """The family of coordinate d, whose parameters come first among those here; of all but tables, this one."""
        return self

    def sample(self, params: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """One draw for each of the parameters (n, *, P): (n, *); temperature as in ``Conditional``."""
        return self.conditional(params).sample(noise, temperature)

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """E[x | params] as floats, (*, P) -> (*); of unordered values, which have no mean, the likeliest."""

    @abstractmethod
    def fit(self, x: Tensor) -> Tensor:
        """Parameters (D, P) of the marginal distribution of each column of examples x (N, D).

        Where a model starts its last bias: before training every coordinate has the data's marginal distribution.
        """
