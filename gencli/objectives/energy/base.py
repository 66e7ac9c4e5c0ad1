"""What the objectives of energies share: one turn on the model's free parameters, losses a row, a score that is proper.

Nothing here knows Z: energies are compared with each other, or differentiated with respect to x.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import NonNegative
from gencli.core.spec import Batch, Spec
from gencli.kernels.base import Energy, Kernel
from gencli.methods.chains import require_kernel, usual
from gencli.models.base import Unnormalized
from gencli.models.structure import BlockGibbs, Classifier
from gencli.models.trained import Learned
from gencli.objectives.base import Loss, Objective, Turn
from gencli.objectives.energy.discrete_perturbations import local
from gencli.objectives.energy.perturbations import Gaussian


def class_nats(model: Classifier, batch: Batch) -> tuple[Tensor, Tensor]:
    """-log p(y | x) in nats, and whether y is the likeliest class, of each labelled row: (B,), (B,)."""
    assert batch.y is not None
    log_p = model.log_classes(batch.x)
    return -log_p.gather(1, batch.y[:, None]).squeeze(1), (log_p.detach().argmax(1) == batch.y).float()


class EnergyObjective(Objective[Unnormalized]):
    """An objective of any energy, which moves every parameter that is free.

    A model that has p(y | x) learns it from the labels at the same time: a E[-log p(y | x)] is added to the loss of x,
    and to its score. With a likelihood of x, a = 1 makes the loss that of p(x, y).

    Args:
        spec: of model space.
        regularization: alpha of alpha E[E(x)^2], which holds the level of the energies (Du and Mordatch, "Implicit
            generation and modeling with energy-based models", 2019).
        classification: a, of models of x and its class (Grathwohl et al., "Your classifier is secretly an energy based
            model and you should treat it like one", 2020).
    """

    score_name = "loss"
    static: ClassVar[bool] = False
    """Whether its turn is (``Turn.static``): each objective promises it for itself."""

    def __init__(self, spec: Spec, *, regularization: NonNegative = 0.0, classification: NonNegative = 1.0) -> None:
        super().__init__(spec)
        self.regularization, self.classification = regularization, classification

    def bind(self, model: Unnormalized) -> Learned:
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("the model has no parameter to train")
        if self.classification != 1 and not isinstance(model, Classifier):
            raise ValueError(
                f"objective.classification={self.classification:g}: this model has no p(y | x); leave it at 1, or take "
                "model=joint_ebm"
            )
        if self.classification and isinstance(model, Classifier):
            self.score_name = f"{type(self).score_name}+labels"
        return Learned()

    def turns(self, model: Unnormalized) -> list[Turn]:
        own = [p for p in self.parameters() if p.requires_grad]
        moved = [p for p in model.parameters() if p.requires_grad] + own

        def loss(batch: Batch, noise: Noise) -> Loss:
            return self._labelled(model, batch, self.loss(model, batch, noise))

        return [Turn("model", moved, loss, static=self.static)]

    def _labelled(self, model: Unnormalized, batch: Batch, loss: Loss) -> Loss:
        """The loss with that of the labels, where the model has them."""
        if not self.classification or batch.y is None or not isinstance(model, Classifier):
            return loss
        nats, right = (values.mean() for values in class_nats(model, batch))
        logs = {"nll_y": nats.detach(), "accuracy": right}
        return Loss(loss.value + self.classification * nats, loss.logs | logs)

    @abstractmethod
    def loss(self, model: Unnormalized, batch: Batch, noise: Noise) -> Loss:
        """Of x in a training batch."""

    def score(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        value = self.score_of_x(model, batch, noise)
        if not self.classification or batch.y is None or not isinstance(model, Classifier):
            return value
        return value + self.classification * class_nats(model, batch)[0]

    @abstractmethod
    def score_of_x(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        """The validation score of each row without its label: (B,)."""

    def held_level(self, *energies: Tensor) -> Tensor | float:
        """The regularization of some energies."""
        if not self.regularization:
            return 0.0
        return self.regularization * sum(e.square().mean() for e in energies)


class RowObjective(EnergyObjective):
    """An objective that is a mean over rows, which also serves as the validation score."""

    @abstractmethod
    def rows(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        """The loss of each row: (B,), differentiable."""

    def loss(self, model: Unnormalized, batch: Batch, noise: Noise) -> Loss:
        value = self.rows(model, batch, noise).mean()
        if self.regularization:
            value = value + self.held_level(model.energy(batch.x, batch.y))
        return Loss(value)

    def score_of_x(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        with torch.enable_grad():  # a score needs dE/dx even where no parameter is trained
            return self.rows(model, batch, noise).detach()


def score_of(model: Unnormalized, x: Tensor, y: Tensor | None = None) -> Tensor:
    """s(x) = -dE/dx, (B, *), differentiable; x must require a gradient."""
    (gradient,) = torch.autograd.grad(model.energy(x, y).sum(), x, create_graph=True)
    return -gradient


def energies(model: Unnormalized, batch: Batch, chains: Tensor) -> tuple[Tensor, Tensor]:
    """E of data (B,) and of chains (n, *) that were told the first n of its y, in one pass: it costs less than two."""
    n = len(chains)
    y = None if batch.y is None else torch.cat([batch.y, batch.y[:n]])
    of_data, of_chains = model.energy(torch.cat([batch.x, chains]), y).split([len(batch.x), n])
    return of_data, of_chains


def contrast(model: Unnormalized, batch: Batch, others: Tensor, w: float, ratio: Tensor | None = None) -> Tensor:
    """log(w / M + 1/M sum_j exp(E(x_i) - E(x'_ij) + rho_ij)), (B,).

    Args:
        model: E.
        batch: x.
        others: x' (B, M, *).
        w: of the stabilization; 0: none.
        ratio: rho (B, M), log r(x_i) - log r(x'_ij) where x' is drawn by a density r of its own; None: 0.
    """
    n, m = others.shape[:2]
    # one pass for x and x': a network costs less on one large batch
    y = None if batch.y is None else torch.cat([batch.y, batch.y.repeat_interleave(m, 0)])
    every = model.energy(torch.cat([batch.x, others.flatten(0, 1)]), y)
    gaps = every[:n, None] - every[n:].view(n, m)
    if ratio is not None:
        gaps = gaps + ratio
    if w:
        gaps = torch.cat([gaps, gaps.new_full((n, 1), math.log(w))], 1)
    return gaps.logsumexp(1) - math.log(m)


def walk(kernel: Kernel[Any], energy: Energy, x: Tensor, noise: Noise, steps: int) -> tuple[Tensor, Tensor | None]:
    """Chains of a kernel, which does not adapt, from x (n, *).

    Returns:
        their ends, and the share of accepted proposals; None where none is refused.
    """
    state, total = kernel.init(energy, x), None
    for _ in range(steps):
        state, info = kernel.step(energy, state, noise)
        if info.accept is not None:
            total = info.accept.mean() if total is None else total + info.accept.mean()
    return state.x.detach(), None if total is None else total / steps


def deviation_of(x: Tensor) -> Tensor:
    """The deviation of each coordinate of examples (n, *), and less in more than two, so that its length stays: (*)."""
    return x.std(0, unbiased=False) * min(1.0, 2 / math.prod(x.shape[1:])) ** 0.5


class ChainObjective(EnergyObjective):
    """An objective that learns from chains, and therefore has no loss that says how good the model is.

    Its score is the energy discrepancy with 32 contrastive samples and w = 1: a proper score that needs no chain and no
    Z (Schröder et al., 2023). The lowest is best. Of reals the noise is Gaussian, with half the deviation of the data
    in each of two coordinates and less in more, so that its length stays: as much in each of many coordinates would be
    told from data by any energy, and the score would say -log 32 of all of them. Of discrete x a tenth of the bits is
    flipped, or half of the values drawn anew, and about four coordinates where there are many, for the same reason.

    Args:
        spec: of model space.
        kernel: the transition of the chains; None: the usual one of the model (``methods/chains.py``) where x is
            discrete or is drawn through auxiliary variables.
        shared: options of ``EnergyObjective``.

    Raises:
        ValueError: in ``bind``: the kernel cannot move such x.
    """

    score_name = "energy_discrepancy"
    initial_examples = 2048
    gradients = False  # whether options of steps by gradients were given, which chains of reals take then
    scale: Tensor

    SAMPLES = 32

    def __init__(self, spec: Spec, *, kernel: Kernel[Any] | None, **shared: Any) -> None:
        super().__init__(spec, **shared)
        self.kernel = kernel
        self.register_buffer("scale", torch.ones(spec.shape))

    def bind(self, model: Unnormalized) -> Learned:
        if self.kernel is None:
            self.kernel = self.usual(model)
        if self.kernel is not None:
            require_kernel(self.kernel, model, f"objective.kernel: {type(self.kernel).__name__}")
        return super().bind(model)

    def usual(self, model: Unnormalized) -> Kernel[Any] | None:
        """The transition where none is named; None: steps of the objective's own, by gradients."""
        drawn = isinstance(model, BlockGibbs) and not self.gradients
        return usual(model) if drawn or self.spec.support.discrete else None

    def start(self, model: Unnormalized, examples: Batch | None) -> None:
        assert examples is not None
        if not self.spec.support.discrete:
            self.scale.copy_(0.5 * deviation_of(examples.x))

    def score_of_x(self, model: Unnormalized, batch: Batch, noise: Noise) -> Tensor:
        perturbation = local(self.spec) if self.spec.support.discrete else Gaussian(t=self.scale.square())
        others, rho = perturbation.draw(batch.x, self.SAMPLES, noise)
        return contrast(model, batch, others, 1.0, rho)


def vacant(spec: Spec, n: int) -> Tensor:
    """Room for n examples, (n, *), of the type that x has."""
    whole = spec.support.discrete and spec.support.kind != "binary"
    return torch.zeros(n, *spec.shape, dtype=torch.int64 if whole else torch.float32)


def refuse_steps(spec: Spec, **given: object) -> None:
    """Refuse options of gradient steps that were given on discrete x, whose chains take none by themselves.

    Args:
        spec: of model space.
        given: options by name, and whether they differ from their defaults.

    Raises:
        ValueError: names the first of them.
    """
    for key, value in given.items():
        if value and spec.support.discrete:
            raise ValueError(
                f"objective.{key}: chains on x that is {spec.support} take no gradient steps; leave it as it is, and "
                "choose their kernel with kernel@objective.kernel=NAME"
            )
