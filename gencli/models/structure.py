"""What a model may know of its own structure: capabilities that chains, estimators of Z and priors make use of.

Like those of ``base`` they are small abstract classes, one a capability; shapes and units are the same.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from gencli.core.noise import Noise
from gencli.kernels.energy import Pairs
from gencli.models.base import ExactLikelihood, LatentVariable, Model, Unnormalized


class Relaxed(Unnormalized):
    """An energy that is defined between the values of discrete x too, so that its gradient says what changes do."""

    @abstractmethod
    def relaxed(self, p: Tensor, y: Tensor | None = None) -> Tensor:
        """E of rows of weights p (B, D, K) on the K values of each coordinate; one-hot rows have the energy of x."""


class Tilting(Unnormalized):
    """An energy E(x) = f(x) - log q(x) that tilts its reference q; without one E(x) = f(x)."""

    @abstractmethod
    def tilt(self, x: Tensor) -> Tensor:
        """f(x) in nats, without the rounding that E and log q have where each is large: (B, *) -> (B,)."""


class Parametric(Unnormalized):
    """An energy of few parameters each of which means something, such as a coupling: their posterior can be shown."""


class Pairwise(Unnormalized):
    """An energy of single coordinates and of pairs: E(x) = sum_i unary[i, x_i] + sum_e tables[e, x_i, x_j]."""

    @abstractmethod
    def pairwise(self) -> Pairs:
        """unary (D, K), edges (E, 2), tables (E, K, K), differentiable in the parameters; E(x) has no other term.

        No two edges join the same two coordinates.
        """


class Torus(Pairwise):
    """Spins that may be those of the square lattice that is solved: one coupling, no field, periodic boundaries."""

    @abstractmethod
    def torus(self) -> tuple[Tensor, int, int] | None:
        """K () in nats, H and W, where E(x) = -K sum_<ij> s_i s_j over the bonds of a torus; else None."""


class BlockGibbs(Unnormalized):
    """An energy with auxiliary variables, given which all coordinates of x are drawn at once."""

    @abstractmethod
    def resample(self, x: Tensor, noise: Noise, y: Tensor | None = None) -> Tensor:
        """The auxiliary variables given x, then x given them: (n, *) -> (n, *); leaves exp(-E) invariant."""


class Enumerable(Unnormalized):
    """An energy whose Z is a sum of fewer terms than x has states, such as one over the hidden units of an RBM."""

    @property
    @abstractmethod
    def terms(self) -> int:
        """T, the number of terms."""

    @abstractmethod
    def log_terms(self, index: Tensor) -> Tensor:
        """Logarithms (m,) in nats of the terms that are numbered index (m,), 0..T-1; their exponentials add up to Z."""


class LinearFeatures(Model):
    """A model whose hidden units see x through linear filters, which can be looked at."""

    @abstractmethod
    def filters(self) -> Tensor:
        """The weights of each hidden unit, in the shape of x: (H, *)."""


class Classifier(Model):
    """A model that says which class an example is of: it has p(y | x) in closed form."""

    @abstractmethod
    def log_classes(self, x: Tensor) -> Tensor:
        """log p(y | x) in nats of every class y: (B, *) -> (B, K)."""


class JointEnergy(Unnormalized, Classifier):
    """An energy of x and its class together, p(x, y) = exp(-E(x, y)) / Z.

    So E(x) = -log sum_y exp(-E(x, y)) has the same Z, and p(y | x) = exp(E(x) - E(x, y)) needs none. ``energy`` is
    E(x), whatever y it is given.
    """

    @abstractmethod
    def joint(self, x: Tensor) -> Tensor:
        """E(x, y) in nats of every class y: (B, *) -> (B, K)."""


class HiddenUnits(Unnormalized):
    """An energy E(x, h) of x and H hidden bits, given each of which the coordinates of the other are independent."""

    @abstractmethod
    def hidden(self, x: Tensor) -> Tensor:
        """p(h_j = 1 | x): (B, *) -> (B, H)."""

    @abstractmethod
    def visible(self, h: Tensor) -> Tensor:
        """E[x | h] (B, *) of hidden bits h (B, H)."""

    @abstractmethod
    def draw_visible(self, h: Tensor, noise: Noise) -> Tensor:
        """x ~ p(x | h), (B, *), of hidden bits h (B, H)."""


class Sloped(Unnormalized):
    """An energy of reals that knows its gradient in x without a graph of what led to it."""

    @abstractmethod
    def slope(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """E(x) (B,) in nats and dE/dx (B, *), detached."""


class Annealable(Unnormalized):
    """An energy with a path of its own to a density with known Z, better than that by powers of two densities."""

    @abstractmethod
    def at(self, beta: float) -> Unnormalized:
        """The energy at 0 <= beta <= 1, on the parameters as they are.

        At 1 it is this model, with the same Z; at 0 an ``ExactLikelihood`` with ``DirectSampling``.
        """


class ExponentialFamily(Parametric):
    """p(x) = exp(theta . s(x)) / Z: a few statistics s(x), each with a parameter that has a name.

    ``names``: of the K parameters. The MLE solves E[s] = mean of s over the data, and the inverse of N Cov[s], the
    Fisher information of N examples, is the covariance of its error.
    """

    names: tuple[str, ...]

    @property
    @abstractmethod
    def theta(self) -> Tensor:
        """The parameters (K,)."""

    @property
    @abstractmethod
    def observed(self) -> tuple[Tensor, int]:
        """The mean of s over the examples that it was started from, (K,) in fp64, and how many they were."""

    @abstractmethod
    def statistics(self, x: Tensor) -> Tensor:
        """s(x): (B, *) -> (B, K)."""


class SequentialDensity(ExactLikelihood):
    """A density that takes ``density_passes`` passes of networks, one after the other."""

    density_passes: int


class PosteriorCodes(LatentVariable):
    """Codes z ~ q(z | x) can be drawn by themselves, as an energy of codes needs them to learn from."""

    @abstractmethod
    def posterior_codes(self, x: Tensor, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        """z ~ q(z | x), a draw a row: (B, *) -> (B, d)."""
