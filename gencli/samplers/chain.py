"""What samplers by Markov chains share: where they start, what they record, how they say that they diverged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from gencli.core.noise import Ahead, Noise
from gencli.core.spec import Given
from gencli.core.tensors import frozen
from gencli.kernels.base import Energy, require_finite
from gencli.kernels.diagnostics import effective_draws, split_r_hat
from gencli.models.base import Model, Unnormalized
from gencli.samplers.base import Sampler

STARTS = ("model", "normal")

Visit = Callable[[Tensor, Tensor], None]
"""Told x (n, *) and its energy (n,) at every recorded step of a chain."""


class Chain(Sampler[Unnormalized]):
    """n chains side by side, of which the last points are the samples.

    The energies of the recorded half give ``ess`` (effective draws of the energy over all chains and steps) and
    ``r_hat``: chains that have found each other's places have an R-hat below 1.01, which does not prove that they have
    found all places.

    Args:
        steps: recorded transitions.
        init: ``model``: where the model says that chains may start; ``normal``: standard normal times ``init_scale``.
        init_scale: of ``normal``.
        classes: labels of a conditional model, dealt in turn; None: all classes.

    Raises:
        ValueError: an option out of range.
    """

    requires = (Unnormalized,)
    continuous = True

    def __init__(
        self,
        *,
        steps: int,
        init: str = "model",
        init_scale: float = 1.0,
        classes: list[int] | None = None,
    ) -> None:
        super().__init__(classes)
        if steps < 1:
            raise ValueError(f"sampler.steps={steps}: at least 1")
        if init not in STARTS:
            raise ValueError(f"sampler.init={init}: {' or '.join(STARTS)}")
        if init_scale <= 0:
            raise ValueError(f"sampler.init_scale={init_scale}: a scale is positive")
        self.steps, self.init, self.init_scale = steps, init, init_scale

    @property
    @abstractmethod
    def named(self) -> str:
        """The options that a diverging chain should be told with."""

    @abstractmethod
    def walk(self, energy: Energy, x: Tensor, noise: Noise, visit: Visit) -> tuple[Tensor, dict[str, float]]:
        """From x (n, *) to the last points, and what is to be said of the chains.

        Rows do not depend on each other: chain i is the same whatever n is.
        """

    def run(self, model: Model, x: Tensor, y: Tensor | None, noise: Noise, visit: Visit) -> Tensor:
        """Chains from x (n, *), shown to ``visit`` on their way; sets ``diagnostics``.

        Raises:
            RunFailed: a chain went to infinity.
        """
        assert isinstance(model, Unnormalized)
        trace: list[Tensor] = []
        norms: list[Tensor] = []

        def record(at: Tensor, e: Tensor) -> None:
            trace.append(e)
            norms.append(torch.linalg.vector_norm(at.flatten(1), dim=1))
            visit(at, e)

        def energy(at: Tensor) -> Tensor:
            each = len(at) // len(x)  # replicas of a chain lie side by side
            return model.energy(at, y if y is None or each == 1 else y.repeat_interleave(each, 0))

        with frozen(model):
            ends, said = self.walk(energy, x, Ahead(noise), record)
        require_finite(ends, torch.stack(norms).amax(1), self.named)
        kept = torch.stack(trace[len(trace) // 2 :], 1)
        self.diagnostics = said | {"r_hat": split_r_hat(kept), "ess": effective_draws(kept)}
        return ends

    def first(self, model: Model, n: int, y: Tensor | None, noise: Noise) -> Tensor:
        """Where chains start: (n, *)."""
        assert isinstance(model, Unnormalized)
        parameter = next(model.parameters())
        if self.init == "normal":
            return self.init_scale * noise.randn(n, *model.spec.shape).to(parameter)
        with torch.no_grad():
            return model.start(n, y, noise=noise).to(parameter)

    def sample(self, model: Model, n: int, y: Tensor | None, noise: Noise, given: Given | None = None) -> Tensor:
        return self.run(model, self.first(model, n, y, noise), y, noise, lambda at, e: None)


class AdaptedChain(Chain):
    """Chains of Hamiltonian transitions, accepted or refused, whose step sizes adapt in a warm-up and then stay.

    Args:
        leaps: leapfrog steps a transition.
        step: first step size.
        warmup: transitions in which step sizes adapt, before the recorded ones; 0: they stay as they are.
        target: acceptance to reach.
        options: those of ``Chain``.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        *,
        leaps: int,
        step: float,
        steps: int,
        warmup: int,
        target: float,
        init: str = "model",
        init_scale: float = 1.0,
        classes: list[int] | None = None,
    ) -> None:
        super().__init__(steps=steps, init=init, init_scale=init_scale, classes=classes)
        if leaps < 1:
            raise ValueError(f"sampler.leaps={leaps}: at least 1")
        if step <= 0:
            raise ValueError(f"sampler.step={step}: positive")
        if warmup < 0:
            raise ValueError(f"sampler.warmup={warmup}: at least 0")
        if not 0 < target < 1:
            raise ValueError(f"sampler.target={target}: a probability")
        self.leaps, self.step, self.warmup, self.target = leaps, step, warmup, target

    @property
    def named(self) -> str:
        return f"sampler.step={self.step} (adapted)"
