"""What energies that are a network share: E(x) = f(x) - log q(x), of which f tilts a fixed base density q."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gencli.core.noise import Noise
from gencli.core.options import Auto, Count, Positive
from gencli.core.spec import Spec
from gencli.models.base import DataInitialized, Model
from gencli.models.classical.gaussian import Covariance
from gencli.models.energy.reference import Reference
from gencli.models.structure import Tilting
from gencli.models.trained import TrainedRun
from gencli.nn.base import NetworkFactory

BOUND = 10.0
"""Nats that a network adds to the energy of a run at most, unless it is said: it is learned from some ten thousand
samples of the run, and what only one in e^10 of these shows adds log 2 to log Z at most, where f is 0 elsewhere."""


class Tilted(Tilting, DataInitialized):
    """E(x) = f(x) - log q(x); without a base E(x) = f(x).

    The energy is in fp32 under autocast too: losses and chains live on differences of energies. The base is fitted to
    the data and then fixed.

    Args:
        spec: what one example is.
        conditional: refused.

    Raises:
        ValueError: conditional.
    """

    shapes = ("vector", "image")
    base: Reference | None

    def __init__(self, spec: Spec, *, conditional: bool = False) -> None:
        super().__init__(spec, conditional=conditional)
        if conditional:
            raise ValueError("model.conditional=true: an energy has another Z for each y; train one model a class")

    def energy(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            e = self.tilt(x)
            return e if self.base is None else e + self.base.energy(x)

    def reference(self) -> Model | None:
        return self.base

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        if self.base is not None:
            self.base.initialize(x)

    @torch.no_grad()
    def health(self, x: Tensor, y: Tensor | None = None) -> dict[str, float]:
        """``energy_data``: the mean energy of data, whose drift says that nothing holds the level of E."""
        return {"energy_data": float(self.energy(x).mean())}


class TiltedReals(Tilted):
    """Of reals: a network on x, and a base that is a Gaussian, a mixture of them or the model of a run.

    Args:
        spec: what one example is.
        net: builds the network, event shape -> (``outputs``,).
        conditional: refused.
        base: ``none``, ``gaussian``, ``gmm`` or ``run``.
        components: of ``gmm``.
        covariance: of ``gaussian`` and ``gmm``: ``isotropic``, ``diagonal`` or ``full``.
        run: of ``run``: builds the model of a trained run on the same data and preprocessing, such as a flow.
        bound: b, the most nats that each output adds or takes: b tanh(f / b) stands for f; ``auto``: 10 of ``run``,
            None of the others. A flow may carry far noise so far that f, which grows like |x| there, outweighs log q:
            Z is e^b at most with a bound, K e^b of K outputs; without one it can be of places that no sample sees.

    Raises:
        ValueError: conditional, or a run without ``base=run`` or the other way round.
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
        bound: Auto[Positive] | None = None,
    ) -> None:
        super().__init__(spec, conditional=conditional)
        if (base == "run") != (run is not None):
            raise ValueError(f"model.base={base}: model.run=FOLDER is needed for model.base=run, and only there")
        self.net = net(spec.shape, (self.outputs,), 0)
        self.bound = (BOUND if base == "run" else None) if bound == "auto" else bound
        self.base = None
        if base != "none":
            self.base = Reference(spec, kind=base, covariance=covariance, components=components, run=run)
        self.initial_examples = 2048 if self.base is None else self.base.initial_examples
        self.register_buffer("mean", torch.zeros(spec.shape))
        self.register_buffer("std", torch.ones(spec.shape))

    @property
    def outputs(self) -> int:
        """Numbers that the network gives for one x."""
        return 1

    def bounded(self, x: Tensor) -> Tensor:
        """What the network gives, within its bound: (B, *) -> (B, ``outputs``)."""
        f: Tensor = self.net(x)
        return f if self.bound is None else self.bound * torch.tanh(f / self.bound)

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
