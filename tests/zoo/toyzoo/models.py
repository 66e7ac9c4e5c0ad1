import torch
from torch import nn

from gencli import interfaces
from gencli.interfaces import DirectSampling, ExactLikelihood, Model, Network, Unnormalized


class Toy(ExactLikelihood, DirectSampling):
    supports = ("real",)
    shapes = ("vector", "image")

    def __init__(self, spec, net=None, scale=1.0, conditional=False):
        super().__init__(spec, conditional=conditional)
        if scale <= 0:
            raise ValueError(f"model.scale={scale}: a scale is positive")
        self.net = net(spec.shape, spec.shape, 0) if net else None
        self.scale = scale

    def log_prob(self, x, y=None):
        return -x.flatten(1).square().sum(1)

    def sample(self, n, y=None, *, noise, temperature=1.0):
        return torch.zeros(n, *self.spec.shape)


class Heir(Toy):
    """Inherits what Toy declares."""


class Energy(Unnormalized):
    supports = ("binary",)

    def energy(self, x, y=None):
        return x.flatten(1).sum(1)


class Chained(interfaces.Sampler):
    requires = (interfaces.Unnormalized,)

    def sample(self, model, n, y, noise):
        return torch.zeros(n, *model.spec.shape)


class Typed(interfaces.Sampler[interfaces.DirectSampling]):
    def __init__(self, scale: float = 1.0, **options):
        super().__init__(**options)
        self.scale = scale

    def sample(self, model, n, y, noise):
        return self.scale * model.sample(n, y, noise=noise)


class Told(Typed):
    requires = (ExactLikelihood, DirectSampling)


class Line(Network):
    def __init__(self, in_shape, out_shape, context, width=8):
        super().__init__()
        self.layer = nn.Linear(in_shape[0], out_shape[0])
        self.width = width

    def forward(self, x, context=None):
        return self.layer(x)


class NoComponent:
    def __init__(self, *args, **kwargs):
        raise AssertionError("this must never be built")


__all__ = ["Chained", "Energy", "Heir", "Line", "Model", "NoComponent", "Told", "Toy", "Typed"]
