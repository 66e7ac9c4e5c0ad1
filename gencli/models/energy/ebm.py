"""Energy-based models: a network gives every x an energy, p(x) = exp(-E(x)) / Z."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, Model, Unnormalized
from gencli.models.classical.gaussian import Covariance
from gencli.models.energy.reference import KINDS, Reference
from gencli.models.trained import TrainedRun
from gencli.nn.base import NetworkFactory


class EBM(Unnormalized, DataInitialized):
    """E(x) = f(x) - log q(x): a network f, which tilts a base density q exponentially; without one E(x) = f(x).

    Under a Gaussian base Z is finite whatever the parameters are, because f grows no faster than |x|. Without a base
    nothing but training makes E grow away from the data, and an energy that does not has no Z and no NLL.

    The energy is in fp32 under autocast too: losses and chains live on differences of energies. The base is fitted to
    the data and then fixed.

    Args:
        spec: what one example is.
        net: builds f, event shape -> (1,).
        conditional: refused.
        base: ``none``, ``gaussian``, ``gmm`` or ``run``.
        components: of ``gmm``.
        covariance: of ``gaussian`` and ``gmm``: ``isotropic``, ``diagonal`` or ``full``.
        run: of ``run``: builds the model of a trained run on the same data and preprocessing, such as a flow.

    Raises:
        ValueError: conditional, or no such base.

    References:
        LeCun, Chopra, Hadsell, Ranzato and Huang, "A tutorial on energy-based learning", 2006.
        Arbel, Zhou and Gretton, "Generalized energy based models", 2021 (tilting a base).
    """

    shapes = ("vector", "image")
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = False,
        base: str = "gaussian",
        components: int = 10,
        covariance: Covariance = "full",
        run: TrainedRun | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: an energy has another Z for each y; train one model a class")
        if base not in ("none", *KINDS):
            raise ValueError(f"model.base={base}: none, {', '.join(KINDS[:-1])} or {KINDS[-1]}")
        if (base == "run") != (run is not None):
            raise ValueError(f"model.base={base}: model.run=FOLDER is needed for model.base=run, and only there")
        self.net = net(spec.shape, (1,), 0)
        self.base = None
        if base != "none":
            self.base = Reference(spec, kind=base, covariance=covariance, components=components, run=run)
        self.initial_examples = 2048 if self.base is None else self.base.initial_examples
        self.register_buffer("mean", torch.zeros(spec.shape))
        self.register_buffer("std", torch.ones(spec.shape))

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            e = self.net(x).squeeze(1)
            return e if self.base is None else e + self.base.energy(x)

    def reference(self) -> Model | None:
        return self.base

    def start(self, n: int, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        """Samples of the base; without one, of a normal with the data's mean and deviation in each coordinate."""
        if self.base is not None:
            return super().start(n, y, noise=noise)
        return self.mean + self.std * noise.randn(n, *self.spec.shape).to(self.mean)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.mean.copy_(x.mean(0))
        self.std.copy_(x.std(0, unbiased=False))
        if self.base is not None:
            self.base.initialize(x)

    @torch.no_grad()
    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """``energy_data``: the mean energy of data, whose drift says that nothing holds the level of E."""
        return {"energy_data": float(self.energy(x).mean())}
