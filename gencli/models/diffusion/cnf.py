"""Continuous normalizing flows: a network moves data until they are normal, and nothing says along which path.

log p(x) = log N(z(1); 0, I) + integral from 0 to 1 of tr dv/dz dt, with dz/dt = v(z, t) and z(0) = x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.spec import Spec
from gencli.core.tensors import like, shared
from gencli.models.base import DataInitialized, VelocityField
from gencli.models.context import beside
from gencli.models.diffusion.field import moments, seen
from gencli.nn.base import NetworkFactory
from gencli.nn.fourier import Fourier


class CNF(VelocityField, DataInitialized):
    """A free-form velocity from data at t = 0 to N(0, I) at t = 1.

    The mean m and the standard deviation s of every coordinate are measured on training examples. The network F sees
    u = (x - (1 - t) m) / s^(1 - t), and moves u:

        velocity = -m - ln s (x - (1 - t) m) + s^(1 - t) F(u, t).

    With F = 0, as it starts, this is the flow of N(m, s^2) to N(0, I). All of it is within the flow, so its density
    counts the scales. A context that is an image of the size of x joins u as further channels, unless ``context`` makes
    features of it.

    Args:
        spec: what one example is.
        net: network of u, time and context; it has to be smooth.
        conditional: model p(x given y).
        context: network from y to features that all others see; None: they see y itself.

    References:
        Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential equations", 2018; Grathwohl et al.,
        "FFJORD: Free-form continuous dynamics for scalable reversible generative models", 2019.
    """

    initial_examples = 10_000
    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: Spec, *, net: NetworkFactory, conditional: bool = False, context: NetworkFactory | None = None
    ) -> None:
        super().__init__(spec, conditional=conditional, context=context)
        self.time = Fourier(3, highest=2.0)  # a velocity that changes fast in t costs steps
        self.net = net(seen(self), spec.shape, self.time.size + (0 if self.context_channels else self.context_dim))
        self.register_buffer("mean", torch.zeros(spec.shape))
        self.register_buffer("std", torch.ones(spec.shape))

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        mean, std = moments(x)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def velocity(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        t = shared(t)
        mean, rate, left = self.mean.to(x), self.std.to(x).log(), like(1 - t, x)
        away, scale = x - left * mean, (left * rate).exp()
        features = self.time(t[:, None].to(self.mean)).expand(len(x), -1)
        u = (away / scale).to(self.mean)
        if self.context_channels:
            u = beside(u, y, self.context_channels)
        elif (context := self.context(y)) is not None:
            features = torch.cat([features, context.to(features)], 1)
        return scale * self.net(u, features).to(x) - mean - rate * away
