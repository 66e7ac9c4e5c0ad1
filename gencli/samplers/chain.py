"""Samplers by Markov chains: where chains start, what they record, how they say that they diverged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from gencli.core.noise import Ahead, Noise
from gencli.core.options import Count, Natural, Positive
from gencli.core.progress import counted
from gencli.core.spec import Given
from gencli.core.tensors import frozen, place
from gencli.kernels.base import Kernel, require_finite
from gencli.kernels.diagnostics import effective_draws, split_r_hat
from gencli.methods.chains import energy_of, require_kernel, usual
from gencli.models.base import Unnormalized
from gencli.models.trained import Learned
from gencli.samplers.base import Sampler, Samples

Visit = Callable[[Tensor, Tensor], None]
"""Told x (n, *) and its energy (n,) at every recorded step of a chain."""


@dataclass(frozen=True, kw_only=True)
class MarkovChain(Sampler[Unnormalized]):
    """n chains of a kernel side by side, of which the last points are the samples.

    ``warmup`` steps in which the kernel adapts come first, then ``steps`` that are recorded. The energies of the
    recorded half give ``ess`` (effective draws of the energy over all chains and steps) and ``r_hat``: chains that have
    found each other's places have an R-hat below 1.01, which does not prove that they have found all places.

    Args:
        steps: recorded steps.
        init: ``model``: where the model says that chains may start; ``normal``: standard normal times ``init_scale``.
        init_scale: of ``normal``.
    """

    warmup = 0  # no annotation: a field of samplers whose kernel adapts

    steps: Count
    init: Literal["model", "normal"] = "model"
    init_scale: Positive = 1.0

    @abstractmethod
    def transition(self, model: Unnormalized) -> Kernel[Any]:
        """The kernel, of chains in the energy of a model."""

    @property
    @abstractmethod
    def named(self) -> str:
        """The options that a diverging chain should be told with."""

    @property
    def mover(self) -> str:
        """The key that says the kernel, and its name."""
        return f"sampler: {type(self).__name__}"

    def check(self, model: Unnormalized, learned: Learned) -> None:
        kernel = self.transition(model)
        require_kernel(kernel, model, self.mover)
        if self.init == "normal" and model.spec.support.discrete:
            raise ValueError(f"sampler.init=normal: this model's x is {model.spec.support}; sampler.init=model")

    def sample(
        self, model: Unnormalized, n: int, y: Tensor | None, noise: Noise, given: Given | None = None
    ) -> Samples:
        return self.run(model, self.first(model, n, y, noise), y, noise)

    def first(self, model: Unnormalized, n: int, y: Tensor | None, noise: Noise) -> Tensor:
        """Where chains start: (n, *)."""
        at = place(model)
        if self.init == "normal":
            return self.init_scale * noise.randn(n, *model.spec.shape).to(at)
        with torch.no_grad():
            x = model.start(n, y, noise=noise)
        return x.to(at) if x.is_floating_point() else x.to(at.device)

    def run(
        self,
        model: Unnormalized,
        x: Tensor,
        y: Tensor | None,
        noise: Noise,
        visit: Visit | None = None,
    ) -> Samples:
        """Chains from x (n, *), shown to ``visit`` on their way.

        Raises:
            RunFailed: a chain went to infinity.
        """
        kernel, ahead = self.transition(model), Ahead(noise)
        energy, moving = energy_of(model, y, len(x)), not model.spec.support.discrete
        # one place for what is kept of a step: small tensors that live on would lie between the large ones of a network
        skipped = self.steps // 2
        trace = torch.empty(self.steps - skipped, len(x), dtype=torch.float64, device=x.device)
        norms = torch.empty(self.steps, device=x.device)
        totals: dict[str, Tensor] = {}
        with frozen(model):
            state = kernel.warmed(energy, x, self.warmup, ahead)
            for k in counted("steps of chains", range(self.steps)):
                state, info = kernel.step(energy, state, ahead)
                if k >= skipped:  # some kernels work energies out only where they are read
                    trace[k - skipped] = info.energy
                if moving:  # values of a finite set go nowhere
                    norms[k] = torch.linalg.vector_norm(info.x.flatten(1), dim=1).amax()
                for name, rate in info.rates.items():
                    totals[name] = totals[name] + rate if name in totals else rate
                if visit is not None:
                    visit(info.x, info.energy)
        if moving:
            require_finite(state.x, norms, self.named)
        kept = trace.T.contiguous()
        said = {name: float(total.mean()) / self.steps for name, total in totals.items()}
        said |= kernel.summary(state) | {"r_hat": split_r_hat(kept), "ess": effective_draws(kept)}
        return Samples(state.x, said)


@dataclass(frozen=True, kw_only=True)
class Chain(MarkovChain):
    """Chains of any kernel.

    Args:
        kernel: their transition; None: the usual one of the model (``methods/chains.py``).
        steps: recorded steps.
        warmup: steps before those, in which the kernel adapts.
    """

    kernel: Kernel[Any] | None = None
    steps: Count = 100
    warmup: Natural = 100

    def transition(self, model: Unnormalized) -> Kernel[Any]:
        return self.kernel or usual(model)

    @property
    def mover(self) -> str:
        return f"sampler.kernel: {type(self.kernel).__name__}"

    @property
    def named(self) -> str:
        return f"sampler.kernel={self.kernel}"
