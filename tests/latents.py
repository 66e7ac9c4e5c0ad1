"""What tests of latent variable models share: tiny models, moved off their start, and a VAE whose p(x) is known."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.base import LatentVariable
from gencli.models.latent.hvae import HVAE
from gencli.models.latent.vae import VAE
from gencli.nn.mlp import MLP

REAL = Support("real")
CLASSES = 3
LINEAR = functools.partial(MLP, hidden=[])
SMALL = functools.partial(MLP, hidden=[16], activation="tanh")
FLOW = {"transforms": 2, "hidden": [12], "features": 5}
VAES = {
    "vae": {},
    "vae-iaf": {"posterior": "iaf", "flow": FLOW},
    "vae-realnvp": {"posterior": "realnvp", "flow": FLOW},
    "vae-mixture": {"prior": "mixture", "prior_components": 7},
    "vae-vamp": {"prior": "vamp", "prior_components": 7},
    "vae-flow": {"prior": "flow", "flow": FLOW},
    "vae-energy": {"prior": "energy", "energy": {"hidden": [8], "steps": 10}},
    "vae-iaf-flow": {"posterior": "iaf", "prior": "flow", "flow": FLOW},
}
NAMES = [*(name for name in VAES if name != "vae-energy"), "hvae", "hvae-3"]
"""Models whose log weights are of a normalised p(x, z)."""


def noise(n: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, torch.arange(n))


def rows(n: int, *shape: int, seed: int = 2) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jitter(model: nn.Module, scale: float = 0.3, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


def data(support: str, shape: tuple[int, ...], n: int = 200) -> tuple[Spec, Tensor]:
    """A specification, and examples as they come to a model."""
    spec = Spec(shape, Support.parse(support), CLASSES)
    if spec.support.kind == "real":
        return spec, rows(n, *shape).float()
    x = torch.randint(0, spec.support.levels, (n, *shape), generator=torch.Generator().manual_seed(4))
    return spec, x.float() if spec.support.kind == "binary" else x


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


def build(
    name: str, support: str = "binary", shape: tuple[int, ...] = (6,), conditional: bool = False, scale: float = 0.3
) -> tuple[LatentVariable, Tensor]:
    """A model started from data and moved off its start, in fp64, with those data."""
    spec, x = data(support, shape)
    torch.manual_seed(0)
    model: LatentVariable
    if name.startswith("hvae"):
        layers = {"hvae": ((4, 2), ((8,),)), "hvae-3": ((4, 3, 2), ((8,), (7,)))}[name]
        model = HVAE(spec, net=SMALL, latent=layers[0], hidden=layers[1], conditional=conditional)
    else:
        model = VAE(spec, net=SMALL, latent=3, conditional=conditional, **VAES[name])
    model.initialize(x, labels(len(x)))
    jitter(model, scale)
    return model.double().eval(), x.double() if support in ("real", "binary") else x


class LinearVAE:
    """A VAE whose networks are linear and whose decoder is Gaussian: p(x) is a known normal."""

    def __init__(self, D: int = 5, d: int = 2) -> None:
        torch.manual_seed(0)
        self.model = VAE(Spec((D,), REAL), net=LINEAR, latent=d).double()
        jitter(self.model, 0.4)
        self.W = self.model.decoder.net.layers[0].weight.detach()
        self.mean = (self.model.decoder.net.layers[0].bias + self.model.decoder.bias[0]).detach()
        self.noise = float(self.model.decoder.log_std.detach().exp()) ** 2
        covariance = self.W @ self.W.T + self.noise * torch.eye(D).double()
        self.exact = torch.distributions.MultivariateNormal(self.mean, covariance)

    def set_posterior(self, widen: float) -> None:
        """Give q the posterior's mean, and its marginal standard deviations times ``widen``."""
        d = self.W.shape[1]
        M = self.W.T @ self.W + self.noise * torch.eye(d).double()
        gain = torch.linalg.solve(M, self.W.T)
        layer = self.model.encoder.layers[0]
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[:d] = gain
            layer.bias[:d] = -gain @ self.mean
            layer.bias[d:] = 0.5 * (self.noise * torch.linalg.inv(M).diagonal()).log() + math.log(widen)
