"""Tiny models with a density."""

from __future__ import annotations

import torch
from torch import Tensor

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.base import Model
from gencli.models.classical.gaussian import Gaussian
from gencli.models.classical.gmm import GMM
from gencli.models.flows.autoregressive import AffineAutoregressive, SplineAutoregressive
from gencli.models.flows.coupling import NICE, AffineCoupling, SplineCoupling
from gencli.nn.auto import Auto

SMALL = {"vector": {"hidden": [16]}, "tiny": {"hidden": [16]}, "image": {"width": 8, "blocks": 1}}


MADE = {"transforms": 2, "hidden": [16, 16]}


def net(in_shape: tuple[int, ...], out_shape: tuple[int, ...], context: int) -> Auto:
    return Auto(in_shape, out_shape, context, **SMALL)


COUPLING = {"net": net, "couplings": 4, "steps": 2}


VECTOR = {
    "gaussian-isotropic": (Gaussian, {"covariance": "isotropic"}),
    "gaussian-diagonal": (Gaussian, {"covariance": "diagonal"}),
    "gaussian-full": (Gaussian, {"covariance": "full"}),
    "gmm-isotropic": (GMM, {"components": 3, "covariance": "isotropic"}),
    "gmm-diagonal": (GMM, {"components": 3, "covariance": "diagonal"}),
    "gmm-full": (GMM, {"components": 3, "covariance": "full"}),
    "nice": (NICE, {"net": net, "couplings": 3}),
    "realnvp": (AffineCoupling, {"mixing": "masks", **COUPLING}),
    "glow": (AffineCoupling, {"mixing": "linear", **COUPLING}),
    "random": (AffineCoupling, {"mixing": "random", "marginal": 5, **COUPLING}),
    "maf": (AffineAutoregressive, {"marginal": 5, **MADE}),
    "iaf": (AffineAutoregressive, {"inverse": True, **MADE}),
    "nsf_coupling": (SplineCoupling, {"mixing": "linear", "bins": 5, **COUPLING}),
    "nsf_ar": (SplineAutoregressive, {"bins": 5, **MADE}),
}


CLASSES = 3


def build(name: str, shape: tuple[int, ...], conditional: bool = False, scale: float = 0.1, **own: int) -> Model:
    """A model started from data, then moved off its start by seeded noise; in eval mode and fp64."""
    kind, options = VECTOR[name]
    torch.manual_seed(0)
    model = kind(Spec(shape, Support("real"), CLASSES), conditional=conditional, **{**options, **own})
    generator = torch.Generator().manual_seed(1)
    x = 1.5 * torch.randn(200, *shape, generator=generator) + 0.3
    model.initialize(x, labels(200))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval().double()


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


def rows(shape: tuple[int, ...], n: int, seed: int = 2) -> Tensor:
    return 1.5 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise(n: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, torch.arange(n))
