"""What tests of MADE share: small models of each kind of data, moved off their start."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gencli.core.noise import RowNoise
from gencli.core.spec import Spec, Support
from gencli.models.autoregressive.made import MADE

CLASSES = 3
RANDOM = {"masks": 4, "orderings": "random"}
DISCRETE = {
    "bits": ("binary", 8, {}),
    "bits-deep": ("binary", 7, {"hidden": [20, 9], "direct": False, "activation": "tanh"}),
    "bits-masks": ("binary", 8, {"masks": 5}),
    "bits-random": ("binary", 12, {"hidden": [20, 9], **RANDOM}),
    "bits-y": ("binary", 5, {"conditional": True, **RANDOM}),
    "one-bit": ("binary", 1, {}),
    "categories": ("categorical:3", 5, {}),
    "categories-random": ("categorical:3", 4, RANDOM),
    "levels": ("levels:17", 2, {"conditionals": "softmax"}),
    "levels-onehot": ("levels:17", 2, {"conditionals": "softmax", "encoding": "onehot", "direct": False}),
    "levels-logistic": ("levels:17", 2, {"masks": 2}),
    "levels-value": ("levels:300", 1, {"components": 2}),
    "levels-random-y": ("levels:4", 4, {"conditionals": "softmax", "conditional": True, **RANDOM}),
}
REAL = {
    "normal": {},
    "mixture": {"components": 3},
    "mixture-random": {"components": 2, **RANDOM},
    "mixture-y": {"components": 2, "conditional": True, "activation": "silu"},
}


def moved(model: MADE, scale: float = 0.5) -> MADE:
    """The model with every parameter moved by seeded noise, in eval mode and fp64."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval().double()


def discrete(name: str, scale: float = 0.5) -> MADE:
    support, dim, options = DISCRETE[name]
    torch.manual_seed(0)
    return moved(MADE(Spec((dim,), Support.parse(support), CLASSES), **{"hidden": [16], **options}), scale)


def real(name: str, dim: int = 2) -> MADE:
    torch.manual_seed(0)
    return moved(MADE(Spec((dim,), Support("real"), CLASSES), **{"hidden": [16], **REAL[name]}), 0.2)


def states(model: MADE) -> Tensor:
    """All values of x, (K^D, D), as preprocessing gives them."""
    x = torch.tensor(list(itertools.product(range(model.spec.support.levels), repeat=model.spec.dim)))
    return x.double() if model.spec.support.kind == "binary" else x


def labels(n: int) -> Tensor:
    return torch.arange(n) % CLASSES


def noise(n: int, seed: int = 3) -> RowNoise:
    return RowNoise(seed, torch.arange(n))
