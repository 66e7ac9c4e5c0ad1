"""Energy-based models of reals: a network gives every x an energy, p(x) = exp(-E(x)) / Z."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Count
from gencli.core.spec import Spec
from gencli.models.classical.gaussian import Covariance
from gencli.models.energy.reference import Reference
from gencli.models.energy.tilted import Tilted
from gencli.models.trained import TrainedRun
from gencli.nn.base import NetworkFactory


class EBM(Tilted):
    """E(x) = f(x) - log q(x): a network f, which tilts a base density q exponentially; without one E(x) = f(x).

    Under a Gaussian base Z is finite whatever the parameters are, because f grows no faster than |x|. Without a base
    nothing but training makes E grow away from the data, and an energy that does not has no Z and no NLL.

    Args:
        spec: what one example is.
        net: builds f, event shape -> (1,).
        conditional: refused.
        base: ``none``, ``gaussian``, ``gmm`` or ``run``.
        components: of ``gmm``.
        covariance: of ``gaussian`` and ``gmm``: ``isotropic``, ``diagonal`` or ``full``.
        run: of ``run``: builds the model of a trained run on the same data and preprocessing, such as a flow.

    Raises:
        ValueError: conditional, or a run without ``base=run`` or the other way round.

    References:
        LeCun, Chopra, Hadsell, Ranzato and Huang, "A tutorial on energy-based learning", 2006.
        Arbel, Zhou and Gretton, "Generalized energy based models", 2021 (tilting a base).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        net: NetworkFactory,
        conditional: bool = False,
        base: Literal["none", "gaussian", "gmm", "run"] = "gaussian",
        components: Count = 10,
        covariance: Covariance = "full",
        run: TrainedRun | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if (base == "run") != (run is not None):
            raise ValueError(f"model.base={base}: model.run=FOLDER is needed for model.base=run, and only there")
        self.net = net(spec.shape, (1,), 0)
        self.base = None
        if base != "none":
            self.base = Reference(spec, kind=base, covariance=covariance, components=components, run=run)
        self.initial_examples = 2048 if self.base is None else self.base.initial_examples
        self.register_buffer("mean", torch.zeros(spec.shape))
        self.register_buffer("std", torch.ones(spec.shape))

    def tilt(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1)

    def start(self, n: int, y: Tensor | None = None, *, noise: Noise) -> Tensor:
        """Samples of the base; without one, of a normal with the data's mean and deviation in each coordinate."""
        if self.base is not None:
            return super().start(n, y, noise=noise)
        return self.mean + self.std * noise.randn(n, *self.spec.shape).to(self.mean)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        self.mean.copy_(x.mean(0))
        self.std.copy_(x.std(0, unbiased=False))
        super().initialize(x)
