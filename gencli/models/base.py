"""The contract of the group ``model``: small abstract classes, one a capability; a model inherits those it offers.

Shapes: B rows in a batch, ``*`` the event shape, C the context's dimension. Likelihoods and energies are in nats.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar, get_args

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Batch, Given, Spec
from gencli.kernels.energy import brute_force, turned_over
from gencli.models.context import Contextual
from gencli.models.distributions import Conditional
from gencli.paths.base import Path, Prediction

ModelFactory = Callable[["Spec"], "Model"]
"""What an objective or estimator gets for a density of its own, such as noise: a specification -> a new model."""


class Model(Contextual):
    """A generative model in model space; it inherits the capabilities that it offers.

    ``supports``: the kinds of x that it takes. ``shapes``: its event shapes. ``layouts``: what a coordinate may be the
    place of, ``vector``, ``image``, ``sequence``, ``network``; none named: of whatever its shapes allow. ``compiled``:
    methods, of it or its parts, that losses spend their time in, and that torch.compile takes whole.

    Args:
        spec: shape and support of what it models.
        conditional: model p(x given y) instead of p(x).
        context: network from y to features that all others see; None: they see y itself.

    Raises:
        ValueError: conditional on data without labels or context, or a network for classes, or for no context.
    """

    supports: ClassVar[tuple[str, ...]] = ("real",)
    shapes: ClassVar[tuple[str, ...]] = ("vector",)
    layouts: ClassVar[tuple[str, ...]] = ()
    compiled: ClassVar[tuple[str, ...]] = ("log_prob", "energy", "forward")

    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """Warning signs that are measured on a few validation examples and logged; a flow's round-trip error."""
        return {}


M = TypeVar("M", bound=Model)


class Partner(Generic[M]):
    """What works with models of a kind M: an objective, a sampler, an estimator.

    What it requires of a model stands in its type parameter: ``class HMC(Sampler[Unnormalized])``. A class that needs
    two capabilities, or whose base has no parameter, says ``requires = (A, B)`` itself.

    requires: the capabilities that the model must offer; heirs have their parent's. ``supports``, ``layouts``: the
    kinds of x that it is for, and how they are laid out, as a model's class has them; none: what its models have.
    """

    requires: ClassVar[tuple[type[Model], ...]] = ()
    supports: ClassVar[tuple[str, ...]] = ()
    layouts: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        named = [kind for base in vars(cls).get("__orig_bases__", ()) for kind in get_args(base)]
        kinds = tuple(kind for kind in named if isinstance(kind, type) and issubclass(kind, Model))
        if kinds and "requires" not in vars(cls):
            cls.requires = kinds


class Unnormalized(Model):
    """log p(x) = -E(x) - log Z, with Z unknown."""

    @abstractmethod
    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """E(x) in nats: (B, *) -> (B,)."""

    def reference(self) -> Model | None:
        """A normalised density near to this one, with samples of its own (an energy tilts it); None: there is none."""
        return None

    def start(self, n: int, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        """Points (n, *) in model space from which chains may start: samples of the reference.

        Without one they are standard normal, or uniform on the values of discrete x.
        """
        near = self.reference()
        if isinstance(near, DirectSampling):
            return near.sample(n, y, noise=noise)
        support = self.spec.support
        if not support.discrete:
            return noise.randn(n, *self.spec.shape)
        x = (noise.rand(n, *self.spec.shape) * support.size).floor()
        return x if support.kind == "binary" else x.long()

    def changes(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        """What one coordinate of discrete x does, E(x with coordinate w set to k) - E(x): (B, W, K), differentiable.

        Here the energy is asked for W (K - 1) points a row; a model that knows better says so.

        Args:
            x: (B, *).
            where: (W,) coordinates, as positions in the flattened event.
            y: the context.
        """

        def energy(near: Tensor) -> Tensor:
            each = len(near) // len(x)
            return self.energy(near, y if y is None or each == 1 else y.repeat_interleave(each, 0))

        return brute_force(energy, x, where, self.spec.support.size)

    def toggles(self, x: Tensor, where: Tensor, y: Tensor | None = None) -> Tensor:
        """What one bit of each row does when it is turned over, E(x') - E(x): (B,).

        Here the energy is asked for at x and x'; a model that knows better says so.

        Args:
            x: (B, *) bits.
            where: (B,) the bit, as a position in the flattened event.
            y: the context.
        """
        return turned_over(lambda at: self.energy(at, y), x, where)

    def blocks(self) -> tuple[Tensor, ...] | None:
        """Sets of coordinates of discrete x that do not interact within a set; together they are all coordinates.

        As positions in the flattened event, on the device of the model. Given the rest, the coordinates of a set are
        independent, so that a Gibbs sweep takes one step a set. None: nothing is known, each coordinate is alone.
        """
        return None


class ExactLikelihood(Unnormalized):
    """A normalised density or mass function: log Z = 0."""

    @abstractmethod
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x) in nats: (B, *) -> (B,)."""

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x, y)


class Ensemble(ExactLikelihood):
    """A mixture of M members of equal weight: log p(x) = logsumexp_m log p_m(x) - ln M.

    ``members``: M. ``log_prob`` is that of all of them; in training a model may take one member a batch.
    """

    members: int

    @abstractmethod
    def log_prob_of(self, members: int, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p(x) in nats of the mixture of the first ``members`` alone: (B, *) -> (B,)."""


class DirectSampling(Model):
    """Independent samples without a chain."""

    @property
    def passes(self) -> int:
        """Sequential network passes that a batch of samples costs."""
        return 1

    @abstractmethod
    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        """n samples (n, *) in model space; temperature scales the standard deviation of the base noise."""

    def draw(
        self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0
    ) -> tuple[Tensor, dict[str, float]]:
        """``sample``, and what is to be said of how it was drawn, such as the acceptance of a chain of codes."""
        return self.sample(n, y, noise=noise, temperature=temperature), {}


class Reparameterized(DirectSampling):
    """Samples are differentiable: x = g(eps; theta, y), with normal noise eps that does not depend on theta.

    Where gradients are enabled, they flow through ``sample`` to every parameter, so that a critic can train the model.
    """


class Autoregressive(ExactLikelihood, DirectSampling):
    """p(x | y) = prod_t p(x_o(t) | x_o(1..t-1), y): the chain rule in an order o of the D coordinates.

    ``decode`` walks the coordinates in that order; ``log_conditionals`` scores all of them in one pass. ``natural``:
    whether the order is that of x itself, as a row whose beginning is given needs it.
    """

    natural: bool = True
    any_length: ClassVar[bool] = False

    @property
    def passes(self) -> int:
        return self.spec.dim

    @abstractmethod
    def log_conditionals(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log p of each coordinate given those before it, in nats: (B, *) -> (B, *)."""

    def log_prob(self, x: Tensor, y: Tensor | None = None, given: Tensor | None = None) -> Tensor:
        """log p(x | y), or log p(x_given.. | x_..given, y) where the first ``given`` (B,) coordinates are context."""
        log_p = self.log_conditionals(x, y).flatten(1)
        if given is not None:
            log_p = log_p.masked_fill(torch.arange(log_p.shape[1], device=x.device) < given[:, None], 0.0)
        return log_p.sum(1)

    @abstractmethod
    def decode(
        self,
        n: int,
        y: Tensor | None = None,
        *,
        pick: Callable[[Conditional], Tensor],
        given: Given | None = None,
        cached: bool = True,
    ) -> Tensor:
        """Samples (n, *), coordinate after coordinate: x_o(t) = pick(its conditional), unless it is given.

        ``pick`` is called at every coordinate, given or not, so that noise does not depend on what is given; a mixture
        has its rows pick their members before.
        cached: compute at each step only what the newest coordinate changed; False: a full pass a coordinate, which
        gives the same samples and is there to be compared with.
        """

    def sample(self, n: int, y: Tensor | None = None, *, noise: Noise, temperature: float = 1.0) -> Tensor:
        return self.decode(n, y, pick=lambda conditional: conditional.sample(noise, temperature))


def log_likelihood(model: ExactLikelihood, batch: Batch) -> Tensor:
    """log p of the scored part of each row, (B,) nats; rows with a given part need an Autoregressive model."""
    if batch.given is None:
        return model.log_prob(batch.x, batch.y)
    assert isinstance(model, Autoregressive)
    return model.log_prob(batch.x, batch.y, batch.given)


class DataInitialized(Model):
    """A model that starts from the data: actnorm, EM, closed forms.

    ``initial_examples``: the most training examples that it wants to see.
    """

    initial_examples: int = 2048

    @abstractmethod
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set parameters from training examples x (N, *) in model space; called once, before the first step."""

    def initialize_from(self, batch: Batch) -> None:
        """``initialize`` from rows of the training split; for models that mind which part of a row is given."""
        self.initialize(batch.x, batch.y)


@dataclass
class Elbo:
    """What one sample z ~ q(z | x) says of ELBO = -distortion - sum of the rates, in nats.

    Args:
        distortion: (B,) -log p(x | z).
        rate: (B, U) KL(q || p) of each unit, or group of units, that can be told apart: in closed form where there is
            one, else log q - log p of the sample.
    """

    distortion: Tensor
    rate: Tensor


class LatentVariable(DirectSampling):
    """p(x) = integral of p(x | z) p(z), with an inference model q(z | x) that is reparameterised: z = g(eps, x).

    ``latent_dim``: d, the length of a code z that ``encode`` gives and ``decode`` takes.
    ``layers``: of latents, one above the other.
    ``stoppable``: whether ``log_weights`` knows ``through``.
    """

    latent_dim: int
    layers: int = 1
    stoppable: bool = True

    @property
    def latent_energy(self) -> Unnormalized | None:
        """The prior where it is known up to its log Z only: p(z) = exp(-energy(z)) / Z; None: it is normalised.

        ``log_weights`` and ``elbo`` then have -energy(z) in place of log p(z): their values are too high by log Z, and
        only with it an NLL.
        """
        return None

    @abstractmethod
    def infer(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        """All of q(z | x) that needs no sample, as tensors (B, ...): the inference network's one pass over x."""

    @abstractmethod
    def log_weights(
        self,
        x: Tensor,
        k: int,
        y: Tensor | None = None,
        *,
        noise: Noise,
        inferred: tuple[Tensor, ...] | None = None,
        through: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """log p(x | z_i) + log p(z_i) - log q(z_i | x) of k samples z_i ~ q(z | x), (B, k) nats, differentiable.

        The samples take one call of ``noise``, shaped (B, k, *), so that cutting an even k into even pieces changes no
        draw. Its mean is the ELBO, the mean of exp(.) has expectation p(x).

        Args:
            x: (B, *).
            k: samples a row.
            y: the context.
            noise: where they come from.
            inferred: what ``infer`` gave for these rows; None: it is called.
            through: a function applied to each z (B, k, *) before the densities; gradients then skip the parameters of
                log q (the doubly reparameterised estimator, DReG).
        """

    @abstractmethod
    def elbo(self, x: Tensor, y: Tensor | None = None, *, noise: Noise) -> Elbo:
        """The two terms of the ELBO from one sample a row, differentiable."""

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """A code of each row, without noise: the mean of q(z | x), or what stands for it; (B, *) -> (B, d)."""

    def codes(self, n: int, noise: Noise) -> Tensor:
        """z ~ p(z) (n, d), those of ``sample`` where the noise is the same; standard normal unless a model differs."""
        return noise.randn(n, self.latent_dim)

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The mean of p(x | z) in model space, (n, d) -> (n, *); of categories, which have no mean, the likeliest."""


class VelocityField(Model):
    """dx/dt = velocity(x, t) takes data at t_min to N(0, prior_std^2 I) at t_max, and back: a continuous flow.

    That flow is a density, log p(x) = log N(x_t_max) + integral of div velocity, and a sampler. Everything is in model
    space. Labels are dropped in training with probability ``label_dropout``, so that the model also knows p(x): a
    label of -1, or y=None, asks for it.

    timesteps: T where the model knows T discrete times only, else None.
    """

    shapes = ("vector", "image")

    timesteps: int | None = None
    t_min: float = 0.0
    t_max: float = 1.0
    prior_std: float = 1.0

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """dx/dt (B, *) at x (B, *) and the times t (B,)."""


class TimeField(VelocityField):
    """A model that moves mass along a path: diffusion, score-based models, flow matching."""

    compiled = ("predict",)
    path: Path

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.path.t_min

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.path.t_max

    @property
    def prior_std(self) -> float:  # type: ignore[override]
        return self.path.prior_std

    @abstractmethod
    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Prediction:
        """What the model says about x (B, *) at the times t (B,)."""

    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.predict(x, t, y).velocity

    def snap(self, t: Tensor) -> Tensor:
        """Times as this model knows them: those of a discrete model are t_min + (t_max - t_min) i/T, i = 1..T."""
        if self.timesteps is None:
            return t
        low, width = self.path.t_min, self.path.t_max - self.path.t_min
        step = ((t - low) / width * self.timesteps - 1e-3).ceil()  # a grid point, but for rounding, is itself
        step = step.clamp(1, self.timesteps)
        return low + width * step / self.timesteps
